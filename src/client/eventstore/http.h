/*
 * client/eventstore/http.h: one HTTP/1.1 request and its answer, for the few things that the TCP
 * protocol has no command for: who is in a cluster, what groups do, replaying what is parked.
 *
 * 1. http_call_start connects (a link of its own), sends, and collects the answer;
 * 2. the connection is closed; then `done` is called, once, on the loop: the memory may be freed.
 * Failures: those of a link; TIMEOUT for all of it; PROTOCOL: no HTTP, or an answer over
 * HTTP_ANSWER_SIZE_MAX. An answer with another status than 200 is no failure here.
 */
#ifndef CLIENT_EVENTSTORE_HTTP_H
#define CLIENT_EVENTSTORE_HTTP_H

#include "client/link.h"

#define HTTP_ANSWER_SIZE_MAX (16u * 1024 * 1024)

struct http_call {
    /* set before the start; texts are borrowed until then */
    struct loop *loop;
    kvs_thread_pool *pool;
    struct tls_context *tls; /* NULL: none */
    const char *host;
    uint16_t port;
    const char *method;
    const char *path;
    const char *login; /* NULL: none */
    const char *password;
    uint32_t timeout_ms;
    void (*done)(struct http_call *call);
    void *arg;

    /* the result */
    int error;
    char why[LINK_NAME_SIZE + 128];
    int status;
    kvs_slice body;

    struct link link;
    uv_timer_t timer;
    struct buf request;
    struct buf answer; /* as it came; `body` points into it */
    bool finished;
    unsigned parts; /* not yet closed */
};

/* On the loop; `done` is not called inside. */
void http_call_start(struct http_call *call);
/* It ends soon, with CANCELLED. */
void http_call_cancel(struct http_call *call);
/* In or after `done`. */
void http_call_deinit(struct http_call *call);

/* What is in `answer` so far: 1 whole, 0 not yet, PROTOCOL. `ended`: no more comes. The body may be
 * moved together. For tests, too. */
int http_parse(struct buf *answer, bool ended, int *ret_status, kvs_slice *ret_body);

#endif

/* server/kvs_parts.h: what the files of the kvs service share. */
#ifndef SERVER_KVS_PARTS_H
#define SERVER_KVS_PARTS_H

#include "server/kvs_service.h"

struct kv_connection {
    struct connection base;
    struct server_session session;
    struct kv_service_loop *at;
    struct kv_request *requests; /* under way */
    size_t unwritten_before;     /* at the last tick */
    struct kv_scan *scans;
    bool gets_are_large; /* the last ones had large values: answer each at once */
};

/* One request that was not answered on the spot. */
struct kv_request {
    kvs_op op; /* first: the loop's array of gathered ops points here */
    struct kv_connection *connection;
    struct kv_request *next, **link;             /* of the connection; next also of the spares */
    struct kv_request *timed_next, **timed_link; /* of those with a deadline; link NULL: none */
    struct chunk *pinned;                        /* the bytes the op points into */
    void *copy;                                  /* or a copy of them */
    struct wire_scratch scratch;
    size_t bytes;
    uint64_t deadline_ms;
    uint32_t id;
    bool answered; /* cancelled, or past its deadline: the outcome is dropped */
};

/* kvs_request.c: requests that go to the store */

/* Takes the frame, in `chunk`; answers it, at the latest when its op is done. */
void kv_request_start(struct kv_connection *connection, const struct wire_frame *frame,
                      struct chunk *chunk);
void kv_request_cancel(struct kv_connection *connection, uint32_t id);
void kv_requests_submit(struct kv_service_loop *at);
void kv_requests_check_deadlines(struct kv_service_loop *at);
void kv_requests_free_spares(struct kv_service_loop *at);
/* Has the loop look at deadlines. */
void kv_service_watch_deadlines(struct kv_service_loop *at);

/* kvs_scan.c */

void kv_scan_start(struct kv_connection *connection, const struct wire_frame *frame);
/* False: no such scan. */
bool kv_scan_credit(struct kv_connection *connection, uint32_t id, uint32_t bytes);
bool kv_scan_cancel(struct kv_connection *connection, uint32_t id);
/* The connection has closed, or (with an answer) takes no more: ends its scans. */
void kv_scans_end(struct kv_connection *connection, int error);
/* Replies of the connection were taken by the socket. */
void kv_scans_resume(struct kv_connection *connection);
/* Deadlines, and scans whose client gives no credit. */
void kv_scans_check_time(struct kv_service_loop *at);

/* kvs_service.c */

/* An error reply; no memory for it closes the connection. */
void kv_answer_error(struct kv_connection *connection, uint8_t opcode, uint32_t id, int error,
                     const char *message);
/* To be called when a reply may have been the last thing the session waited for. */
void kv_connection_close_when_done(struct kv_connection *connection);

/* Statistics of the server, as the begin of a JSON object: `{"server":{...}`. */
int kv_stats_begin(struct kv_service *service, struct buf *out);

static inline void kv_count(_Atomic uint64_t *counter, uint64_t more)
{
    /* relaxed: one writer; readers want a recent number, ordered with nothing. */
    uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, now + more, memory_order_relaxed);
}

#endif

/*
 * client/tikv/pd_client.h: questions to PD, answered by whoever leads it now.
 *
 *   SEARCHING   asks one address after the other who the leader is (pd_members.h)
 *   CONNECTING  connects to the leader
 *   READY       requests go to it
 *   WAITING     a whole round has failed: waits, longer each time, then SEARCHING again
 *
 * A request waits until there is a leader. One that fails because the leader has moved or cannot be
 * reached waits again: all are questions. It ends with an answer, with an error that another
 * attempt would not change, or by pd_request_cancel: time limits are its owner's.
 *
 * Thread: the loop's. pd_client_run has to be called at the end of each turn.
 */
#ifndef CLIENT_TIKV_PD_CLIENT_H
#define CLIENT_TIKV_PD_CLIENT_H

#include "client/tikv/channel.h"
#include "client/tikv/pd_members.h"

#define PD_ATTEMPT_TIMEOUT_MS 3000u
#define PD_WAIT_MIN_MS 100u
#define PD_WAIT_MAX_MS 3000u

enum pd_state { PD_IDLE, PD_SEARCHING, PD_CONNECTING, PD_READY, PD_WAITING, PD_CLOSED };

struct pd_client;

struct pd_events {
    /* The first search has ended: 0 when the leader's connection stands, else why not. Once. */
    void (*on_first)(struct pd_client *pd, int error, const char *why);
    void (*on_closed)(struct pd_client *pd);
};

struct pd_channel {
    struct channel channel;
    struct pd_client *pd;
};

struct pd_client {
    struct pd_members members;
    enum pd_state state;
    const struct pd_events *events;
    struct loop *loop;
    kvs_thread_pool *pool;
    struct tls_context *tls_context;
    uint32_t connect_timeout_ms;
    struct pd_channel *channel; /* to whom is asked, or to the leader; NULL: none */
    int channel_index;          /* its address */
    struct unary ask;           /* GetMembers */
    bool asking;
    struct list waiting; /* struct pd_request */
    struct list sent;
    unsigned channels; /* not yet closed */
    unsigned failures; /* searches without a request answered since */
    uint64_t wait_until_ms;
    struct rand rand;
    bool first_told;
    bool refused; /* the leader's connection has to be given up */
    char refused_why[128];
    bool noting; /* trouble is of this search */
    int trouble_error;
    char trouble[320]; /* of the last search; "" when READY */
};

struct pd_request {
    struct list node;
    struct unary unary;
    struct pd_client *pd;
    kvs_slice path; /* static */
    struct buf body;
    /* error 0 and the message, or an error and a line for a person. The request is the owner's
     * again. */
    void (*done)(struct pd_request *request, int error, kvs_slice reply, const char *why);
};

/* members is set. */
void pd_client_init(struct pd_client *pd, struct loop *loop, kvs_thread_pool *pool,
                    struct tls_context *tls_context, uint32_t connect_timeout_ms,
                    const struct pd_events *events);
void pd_client_start(struct pd_client *pd);

/* Somebody who used the leader's connection himself was refused: the leader is looked for anew. Not
 * inside: in a later turn, and only if the connection is still the leader's. */
void pd_client_on_refused(struct pd_client *pd, const char *why);

/* Requests must have been cancelled; on_closed comes in a later turn. */
void pd_client_close(struct pd_client *pd);

void pd_client_run(struct pd_client *pd, uint64_t now_ms);
uint64_t pd_client_timer(const struct pd_client *pd);

/* path, body (a packed message; taken) and done are set. `done` is never called inside. */
void pd_request_send(struct pd_client *pd, struct pd_request *request);
/* done will not be called; frees what it holds. Fine for one that is not under way. */
void pd_request_cancel(struct pd_request *request);
/* Frees what it holds, in done. */
void pd_request_deinit(struct pd_request *request);

#endif

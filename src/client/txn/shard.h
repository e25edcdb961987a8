/*
 * client/txn/shard.h: the transactions of a client that live on one loop: their transport, their
 * timers, what is known of other transactions.
 *
 * Thread: the loop's; shard_enter from any.
 */
#ifndef CLIENT_TXN_SHARD_H
#define CLIENT_TXN_SHARD_H

#include "base/heap.h"
#include "base/rand.h"
#include "client/backoff.h"
#include "client/txn/transport.h"

#include <kvs/txn.h>
#include <stdatomic.h>

#define STATUS_CACHE_SIZE 1024u
#define SPARE_COMMITTERS_MAX 128u

struct committer;

struct txn_timer {
    struct heap_node node;
    void (*fire)(struct txn_timer *timer);
};

struct txn_shard {
    kvs_txn_client *client;
    struct loop *loop;
    struct txn_transport *transport; /* NULL once it is closed */
    bool is_local;                   /* the node is in this process */
    struct rand rand;
    uint32_t timeout_ms;       /* of a call that sets none */
    uint32_t timeout_given_ms; /* as it was given: 0: not at all */
    struct heap timers;
    uv_timer_t uv_timer;
    uint64_t timer_armed_ms; /* UINT64_MAX: it is not */
    struct loop_hook turn_end;
    struct task start_task;
    struct task close_task;
    struct task wake_task;
    atomic_bool woken;
    bool closing;
    bool closed;
    atomic_uint busy;                   /* what has to end before the shard closes */
    struct list starting;               /* transactions that ask for their start */
    struct committer *spare_committers; /* with the memory of their last commit */
    unsigned spare_committers_count;
    /* Outcomes of other transactions, which never change: by their start. */
    struct txn_status statuses[STATUS_CACHE_SIZE];
};

/* Something that has to end before the shard closes begins (any thread), ends (the loop's). */
void shard_enter(struct txn_shard *shard);
void shard_leave(struct txn_shard *shard);

/* Calls timer->fire once, after `wait_ms`. Returns 0 or NO_MEMORY. */
int shard_timer_start(struct txn_shard *shard, struct txn_timer *timer, uint64_t wait_ms);
void shard_timer_stop(struct txn_shard *shard, struct txn_timer *timer);

/* A timestamp that a caller names and nobody can have been given: commits have to stand above every
 * read, so a read there would take them along into the future. Any thread. */
bool shard_ts_is_ahead(const struct txn_shard *shard, uint64_t ts);
#define SHARD_TS_AHEAD "the timestamp is still to come: there are none but those that were given"

static inline uint64_t shard_now_ms(const struct txn_shard *shard)
{
    return loop_now_ms(shard->loop);
}

/* NULL: not known. */
const struct txn_status *shard_status(const struct txn_shard *shard, uint64_t start_ts);
void shard_learn_status(struct txn_shard *shard, uint64_t start_ts, uint64_t commit_ts);

/* Asks for the time: request->done is called later, on the loop. */
void shard_ask_time(struct txn_shard *shard, struct txn_timestamp *request, uint64_t deadline_ms,
                    void (*done)(struct txn_timestamp *request, int error, const char *why));
/* One that may be asked, or zeroed: if it waits, it need not; request->done is still called later.
 */
void shard_give_up_time(struct txn_timestamp *request);

#endif

/*
 * client/tikv/shard.h: the operations of a TiKV store on one loop: those under way, their time
 * limits, and the cluster as this loop sees it.
 *
 * The life of an operation:
 *   1. tikv_shard_submit puts it into the loop's mailbox (on the loop: straight into 2);
 *   2. it begins: its calls wait for the end of the turn;
 *   3. at the end of the turn the on_done of all that have ended are called, and what they
 *      submitted leaves together with the rest;
 *   4. answers end calls, calls end the operation; or its deadline does, or a cancel.
 *
 * Order: a cluster carries out what it gets in any order. So a set, remove or compare-and-set waits
 * until all earlier ones of the same key have ended. Batches and ranges do not wait, nor are they
 * waited for.
 *
 * Threads: submit and cancel from any; all else on the loop.
 */
#ifndef CLIENT_TIKV_SHARD_H
#define CLIENT_TIKV_SHARD_H

#include "client/tikv/raw_op.h"

#define SHARD_COUNT_MAX (256u * 1024)
#define SHARD_SIZE_MAX (256u * 1024 * 1024)
#define SHARD_CHAINS 4096u

struct tikv_shard;

struct tikv_shard_owner {
    /* The first attempt has ended: 0 when the cluster can be used, else why not. On the loop. */
    void (*on_first)(struct tikv_shard *shard, int error, const char *why);
    /* It is closed and may be freed. On the loop. */
    void (*on_closed)(struct tikv_shard *shard);
};

struct tikv_shard {
    struct tikv_cluster cluster;
    struct operations operations;
    const struct tikv_shard_owner *owner;
    void *owner_arg;
    const struct tikv_shard *all; /* of the store, this one too */
    unsigned all_count;
    struct loop *loop;
    kvs_thread_pool *pool;
    struct tls_context *tls_context;
    uint32_t connect_timeout_ms;
    uint32_t timeout_ms;
    bool plain_writes; /* without TiKV's latches: see kvs_store_options */
    bool closing;
    bool closed;
    bool woken;        /* wake_task is in the mailbox */
    bool in_callbacks; /* of the turn end: requests made there are sent behind them */
    unsigned parked;   /* done, but a cancel is in the mailbox: on_done waits for it */
    struct loop_hook turn_end;
    uv_timer_t timer;
    uint64_t timer_armed_ms; /* UINT64_MAX: it is not */
    struct task_list done;   /* wait for the end of the turn */
    struct list ready;       /* struct tikv_op: their key is free, the cluster was not */
    struct tikv_op *chains[SHARD_CHAINS]; /* writes of one key that are under way */
    struct task wake_task;
    struct task start_task;
    struct task close_task;
    struct raw_call *spare_calls; /* chained by op */
    unsigned spare_calls_count;
};

/* cluster.pd.members and keyspace, owner, loop, pool, times are set; from any thread. */
void tikv_shard_start(struct tikv_shard *shard);
/* No further submits: lets what is under way end, then closes; from any thread. */
void tikv_shard_close(struct tikv_shard *shard);

/* Prepares an op, refused when error is not 0. */
void tikv_shard_prepare(struct tikv_shard *shard, kvs_op *op, struct loop *loop, int error);
void tikv_shard_submit(struct tikv_shard *shard, struct task_list *list);
void tikv_shard_cancel(kvs_op *op);

/* The JSON of statistics: counters of all shards, regions and stores as this one knows them; NULL:
 * no memory. Freed with mem_free. */
char *tikv_shard_stats(const struct tikv_shard *shard);

#endif

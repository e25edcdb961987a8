/*
 * client/txn/resolver.h: what to do about locks of other transactions that are in the way.
 *
 * For each transaction whose locks were met:
 *   1. its outcome is known already: on to 5;
 *   2. its primary lock is asked for (CheckTxnStatus), with the time of now;
 *   3. it is alive: for a read its commit was pushed behind the read, so its locks do not count; or
 *      there is nothing to do but wait, at most until the lock ends by itself;
 *   4. it committed asynchronously, and its client is gone: all its locks are asked for: all are
 *      there: it is committed; one is not: it never will be;
 *   5. its locks in the way are committed or rolled back. A read does not wait for that: it passes
 *      by (rolled back, or committed later) or through (committed before).
 *
 * Failures: those of the transport; then what was resolved stays resolved. Thread: the shard's
 * loop; `done` is called exactly once, never inside resolver_run.
 */
#ifndef CLIENT_TXN_RESOLVER_H
#define CLIENT_TXN_RESOLVER_H

#include "client/txn/shard.h"

/* Beyond it all locks of the transaction in the region are resolved at once. */
#define RESOLVE_LITE_MAX 512u

enum resolve_purpose {
    RESOLVE_FOR_READ,
    RESOLVE_FOR_WRITE,
    RESOLVE_BY_FORCE, /* gc: whoever is that old is dead */
};

struct ts_list {
    uint64_t *items;
    uint32_t count;
    uint32_t capacity;
};

/* Returns 0 or NO_MEMORY. */
int ts_list_add(struct ts_list *list, uint64_t ts);
void ts_list_deinit(struct ts_list *list);

struct resolver {
    struct txn_shard *shard;
    enum resolve_purpose purpose;
    uint64_t caller_ts; /* of the reader; 0: of nobody who reads */
    uint64_t deadline_ms;
    void (*done)(struct resolver *resolver, int error);
    struct list jobs;
    unsigned pending;
    bool running;
    bool cancelled;
    int error;
    struct task done_task;
    /* results */
    uint64_t wait_ms;         /* 0: nothing is in the way any more; else try again after that */
    uint64_t ended;           /* locks */
    struct ts_list resolved;  /* for a read: transactions whose locks do not count */
    struct ts_list committed; /* likewise, whose locks are read through */
    char why[TXN_WHY_SIZE];
};

/* Zeroed memory. */
void resolver_init(struct resolver *resolver, struct txn_shard *shard, enum resolve_purpose purpose,
                   uint64_t caller_ts, void (*done)(struct resolver *resolver, int error));
/* A lock that is in the way; copied. Returns 0 or NO_MEMORY. */
int resolver_add(struct resolver *resolver, const struct txn_lock_info *lock);
void resolver_run(struct resolver *resolver, uint64_t deadline_ms);
/* Asks for an early end; fine when it does not run. */
void resolver_cancel(struct resolver *resolver);
/* It does not run. */
void resolver_deinit(struct resolver *resolver);

/* How much longer a lock lives at `now_ts`, in ms; 0: its time has ended. Any ttl_ms may come. */
static inline uint64_t lock_life_left_ms(const struct txn_lock_info *lock, uint64_t now_ts)
{
    uint64_t start_ms = txn_ts_physical_ms(lock->start_ts);
    uint64_t now_ms = txn_ts_physical_ms(now_ts);
    uint64_t age_ms = now_ms > start_ms ? now_ms - start_ms : 0;
    if (age_ms > lock->ttl_ms)
        return 0;
    return lock->ttl_ms - age_ms < UINT64_MAX ? lock->ttl_ms - age_ms + 1 : UINT64_MAX;
}

static inline bool lock_is_expired(const struct txn_lock_info *lock, uint64_t now_ts)
{
    return lock_life_left_ms(lock, now_ts) == 0;
}

#endif

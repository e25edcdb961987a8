/*
 * txn/pending.h: the highest timestamp that was promised to a reader, and the locks of prewrites
 * that choose their commit timestamp themselves (async and one-phase commit) while the engine does
 * not show them yet.
 *
 * Such a prewrite commits at a timestamp of its own choice: above every timestamp at which somebody
 * has read, or may be reading, without seeing it. So choosing it and showing the lock must be one
 * step for a reader:
 *
 *   writer                                     reader at ts
 *   W1 counts itself in, then, inside the      R1 raises max_ts to ts
 *      mutex of the key's shard:               R2 counts departures
 *   W2   puts its lock there                   R3 looks into the table, inside the mutex of the
 *   W3   reads max_ts, commits above it           key's shard; not at all when the count is 0
 *   W4 gives the engine its batch              R4 begins its view and reads
 *   W5 when views show it: counts a
 *      departure, takes its lock away,
 *      counts itself out
 *
 * Why a reader at ts misses nothing that commits at or below ts:
 *   - R3 finds the lock: the reader compares min_commit_ts with ts itself.
 *   - R3 finds none because W2 comes later: R1 is before R3, which is before W2 in the mutex (or,
 *     by the count: R3's load reads 0, so in the order of all seq_cst operations it is before W1,
 *     and R1 before that). W3 sees ts and commits above it.
 *   - R3 finds none because W5 was before: the engine shows it to views begun by then, and R4 is
 *     later.
 * A reader whose view began before R1 (txn_answer_in) has to rule out the third case: it counts
 * departures before its view begins, and again after R3. A W5 that R3 can have missed has counted
 * its departure before; if the figures are equal, that count was before the view began, and so W4's
 * batch is in the view. Else the reader takes a view of its own.
 *
 * The reader of a lock that lies in a view needs no more than the view: the lock says its
 * min_commit_ts.
 *
 * When the storage fails under W4, nobody knows whether the batch will be there when it is opened
 * again. Then the lock's timestamp is noted as a doubt before W5, and who reads at or above it,
 * which a reader asks after R3, gets no answer from this node any more.
 */
#ifndef TXN_PENDING_H
#define TXN_PENDING_H

#include "txn/record.h"

#include <pthread.h>
#include <stdatomic.h>

#define PENDING_SHARDS 256u

struct pending_lock {
    struct pending_lock *next;
    kvs_slice key; /* the user's; this and the lock are borrowed until it is withdrawn */
    struct lock_record lock;
    uint32_t shard;
};

struct pending_shard {
    pthread_mutex_t mutex;
    struct pending_lock *first;
};

struct pending_table {
    _Alignas(64) _Atomic uint64_t max_ts;
    _Atomic uint64_t doubt_ts; /* TXN_TS_MAX: none; see pending_doubt */
    _Alignas(64) _Atomic uint64_t count;
    _Alignas(64) _Atomic uint64_t departures;
    _Alignas(64) struct pending_shard shards[PENDING_SHARDS];
};

void pending_init(struct pending_table *table, uint64_t max_ts);
void pending_deinit(struct pending_table *table);

/* R1. TXN_TS_MAX is no promise and changes nothing. */
void pending_raise_max_ts(struct pending_table *table, uint64_t ts);
uint64_t pending_max_ts(const struct pending_table *table);

/* R2, and again after R3. */
uint64_t pending_departures(const struct pending_table *table);

/* Is there anything to look for? Else R3 is done. */
static inline bool pending_is_empty(const struct pending_table *table)
{
    return atomic_load_explicit(&table->count, memory_order_seq_cst) == 0; /* see above */
}

/* W1 to W3: each lock is shown with the least timestamp at which it may commit, which is not below
 * lock.min_commit_ts. */
void pending_publish(struct pending_table *table, struct pending_lock *locks, uint32_t count);
/* W5, or instead of W4: those that were published together. */
void pending_withdraw(struct pending_table *table, struct pending_lock *locks, uint32_t count);

/* Before pending_withdraw: their batch may or may not be there when the engine is opened again. */
void pending_doubt(struct pending_table *table, const struct pending_lock *pending);
/* May something have happened at or below ts that nobody can see? After R3. TXN_TS_MAX: at all. */
bool pending_is_doubtful(const struct pending_table *table, uint64_t ts);

/* Called inside the shard's mutex: the lock may not be used afterwards. */
typedef int pending_each_fn(void *arg, const struct pending_lock *pending);
/* R3: `each` for the lock of a key, if there is one; returns what it does, else 0. */
int pending_find(struct pending_table *table, kvs_slice key, pending_each_fn *each, void *arg);
/* R3: for all locks, in no order; ends when `each` does not return 0. */
int pending_walk(struct pending_table *table, pending_each_fn *each, void *arg);

#endif

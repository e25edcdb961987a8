/* txn/pending.c: see the header. */
#include "txn/pending.h"

#include "base/checksum.h"

void pending_init(struct pending_table *table, uint64_t max_ts)
{
    atomic_init(&table->max_ts, max_ts);
    atomic_init(&table->doubt_ts, TXN_TS_MAX);
    atomic_init(&table->count, 0);
    atomic_init(&table->departures, 0);
    for (uint32_t i = 0; i < PENDING_SHARDS; i++) {
        pthread_mutex_init(&table->shards[i].mutex, NULL);
        table->shards[i].first = NULL;
    }
}

void pending_deinit(struct pending_table *table)
{
    for (uint32_t i = 0; i < PENDING_SHARDS; i++)
        pthread_mutex_destroy(&table->shards[i].mutex);
}

void pending_raise_max_ts(struct pending_table *table, uint64_t ts)
{
    /* seq_cst throughout: orders this before the reader's load of the count, see the header. */
    uint64_t now = atomic_load_explicit(&table->max_ts, memory_order_seq_cst);
    while (now < ts && ts != TXN_TS_MAX &&
           !atomic_compare_exchange_weak_explicit(&table->max_ts, &now, ts, memory_order_seq_cst,
                                                  memory_order_seq_cst)) {
    }
}

uint64_t pending_max_ts(const struct pending_table *table)
{
    return atomic_load_explicit(&table->max_ts, memory_order_seq_cst); /* pairs with the raise */
}

uint64_t pending_departures(const struct pending_table *table)
{
    /* seq_cst: pairs with the addition in pending_withdraw. */
    return atomic_load_explicit(&table->departures, memory_order_seq_cst);
}

static void publish_one(struct pending_table *table, struct pending_lock *pending)
{
    pending->shard = checksum(pending->key.data, pending->key.size) % PENDING_SHARDS;
    struct pending_shard *shard = &table->shards[pending->shard];
    pthread_mutex_lock(&shard->mutex);
    pending->next = shard->first;
    shard->first = pending;
    uint64_t above = pending_max_ts(table);
    if (pending->lock.min_commit_ts <= above)
        pending->lock.min_commit_ts = above + 1;
    pthread_mutex_unlock(&shard->mutex);
}

void pending_publish(struct pending_table *table, struct pending_lock *locks, uint32_t count)
{
    atomic_fetch_add_explicit(&table->count, count, memory_order_seq_cst); /* W1, see the header */
    for (uint32_t i = 0; i < count; i++)
        publish_one(table, &locks[i]);
}

static void withdraw_one(struct pending_table *table, struct pending_lock *pending)
{
    struct pending_shard *shard = &table->shards[pending->shard];
    pthread_mutex_lock(&shard->mutex);
    struct pending_lock **link = &shard->first;
    while (*link != pending)
        link = &(*link)->next;
    *link = pending->next;
    pthread_mutex_unlock(&shard->mutex);
}

void pending_withdraw(struct pending_table *table, struct pending_lock *locks, uint32_t count)
{
    if (count == 0)
        return;
    /* seq_cst: before the removals, so that whoever does not find a lock sees the count. */
    atomic_fetch_add_explicit(&table->departures, 1, memory_order_seq_cst);
    for (uint32_t i = count; i-- > 0;) /* backwards: the last one stands first in its shard */
        withdraw_one(table, &locks[i]);
    atomic_fetch_sub_explicit(&table->count, count, memory_order_seq_cst); /* W5, see the header */
}

void pending_doubt(struct pending_table *table, const struct pending_lock *pending)
{
    /* seq_cst: before the withdrawal, so that whoever does not find the lock sees the doubt. */
    uint64_t ts = pending->lock.min_commit_ts;
    uint64_t now = atomic_load_explicit(&table->doubt_ts, memory_order_seq_cst);
    while (ts < now &&
           !atomic_compare_exchange_weak_explicit(&table->doubt_ts, &now, ts, memory_order_seq_cst,
                                                  memory_order_seq_cst)) {
    }
}

bool pending_is_doubtful(const struct pending_table *table, uint64_t ts)
{
    /* seq_cst: pairs with the exchange in pending_doubt. */
    uint64_t doubt_ts = atomic_load_explicit(&table->doubt_ts, memory_order_seq_cst);
    return doubt_ts != TXN_TS_MAX && ts >= doubt_ts;
}

int pending_find(struct pending_table *table, kvs_slice key, pending_each_fn *each, void *arg)
{
    if (pending_is_empty(table))
        return 0;
    struct pending_shard *shard = &table->shards[checksum(key.data, key.size) % PENDING_SHARDS];
    pthread_mutex_lock(&shard->mutex);
    const struct pending_lock *pending = shard->first;
    while (pending != NULL && !slice_equal(pending->key, key))
        pending = pending->next;
    int result = pending != NULL ? each(arg, pending) : 0;
    pthread_mutex_unlock(&shard->mutex);
    return result;
}

int pending_walk(struct pending_table *table, pending_each_fn *each, void *arg)
{
    int result = 0;
    for (uint32_t i = 0; i < PENDING_SHARDS && result == 0 && !pending_is_empty(table); i++) {
        struct pending_shard *shard = &table->shards[i];
        pthread_mutex_lock(&shard->mutex);
        for (const struct pending_lock *pending = shard->first; pending != NULL && result == 0;
             pending = pending->next)
            result = each(arg, pending);
        pthread_mutex_unlock(&shard->mutex);
    }
    return result;
}

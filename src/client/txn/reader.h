/*
 * client/txn/reader.h: reads as of a timestamp: one key, some keys, one page of a range; whatever
 * locks are in the way.
 *
 *   1. the keys or the range are cut where the data is cut, and asked for side by side (ranges: one
 *      part after the other);
 *   2. locked keys: the resolver says that they do not count, or when to try again;
 *   3. what was locked is asked for again, the rest is there.
 *
 * Results lie in the calls that brought them, which are kept until reader_deinit. Thread: the
 * shard's loop; reader_answer and reader_deinit: any. `done` is called exactly once, never inside
 * reader_start.
 */
#ifndef CLIENT_TXN_READER_H
#define CLIENT_TXN_READER_H

#include "base/buf.h"
#include "client/txn/resolver.h"

#include <pthread.h>

/* Locks that the reads of one timestamp have been told not to count. Shared by reads side by side.
 */
struct read_view {
    uint64_t ts;
    uint8_t priority;
    struct ts_list resolved;
    struct ts_list committed;
};

/* One key of a batch. */
struct read_key {
    kvs_slice key;
    kvs_slice value;
    uint32_t index; /* the caller's */
    bool found;
    bool locked; /* asked for again */
};

struct reader {
    struct txn_shard *shard;
    struct read_view *view;
    pthread_mutex_t *mutex; /* guards the view */
    uint64_t deadline_ms;
    void (*done)(struct reader *reader, int error);
    /* keys: ascending, none twice */
    struct read_key *keys;
    uint32_t keys_count;
    bool is_batch;
    /* a range: what of it is left to read */
    bool is_scan;
    bool reverse;
    bool keys_only;
    uint32_t limit; /* of the next request */
    kvs_slice start;
    kvs_slice end;
    kvs_slice part_end; /* scan: the bound, in its direction, of what was asked */
    /* results of a scan: one answer; go on by reader_next until `over` */
    const struct txn_pair *pairs;
    uint32_t pairs_count;
    bool over;

    struct list calls; /* under way */
    struct list kept;  /* with results */
    unsigned pending;
    bool cancelled;
    bool failed;
    int error;
    struct resolver resolver;
    bool has_resolver;
    struct backoff backoff;
    struct txn_timer timer;
    bool timer_runs;
    struct buf cursor; /* memory of start or end, when it moves */
    struct buf part;   /* memory of part_end */
    char why[TXN_WHY_SIZE];
};

/* Zeroed memory; then keys, or the range, are set. */
void reader_init(struct reader *reader, struct txn_shard *shard, struct read_view *view,
                 pthread_mutex_t *mutex, uint64_t deadline_ms,
                 void (*done)(struct reader *reader, int error));
/* Carries it out inside the call, if that needs no waiting; the view's mutex is held. */
bool reader_answer(struct reader *reader, int *ret_error);
void reader_start(struct reader *reader);
/* The next part of a scan. */
static inline void reader_next(struct reader *reader)
{
    reader_start(reader);
}
void reader_cancel(struct reader *reader);
/* It is not under way. */
void reader_deinit(struct reader *reader);

#endif

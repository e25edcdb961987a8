/*
 * stream/streams.h: the parts of the event streams and how they hang together.
 *
 *   open.c         opening, closing, statistics
 *   heads.c        what the sequencer knows of each stream: a bounded cache
 *   recent.c       ids of the last events written: a window
 *   batch.c        what goes to the engine at once: blocks, runs, stream records
 *   sequencer.c    who runs when: the queue, batches on their way, failures
 *   expected.c     the rules of expected versions
 *   write.c        a write: appending, deletion, metadata, derived streams
 *   transaction.c  explicit transactions
 *   lookup.c       streams, events and links in a view
 *   read.c, read_all.c   reads
 *   watch.c, subscription.c   being told
 *   scavenge.c     space is given back, small blocks are joined
 *
 * Heads, window, batches and transactions belong to the sequencer: one thread at a time, see
 * sequencer.c. Readers use views of the engine and what is atomic here, no more.
 */
#ifndef STREAM_STREAMS_H
#define STREAM_STREAMS_H

#include "stream/lookup.h"
#include "stream/sequencer.h"
#include "stream/subscription.h"

#include <pthread.h>
#include <stdatomic.h>

struct groups;
struct users;

/* --- watches ---------------------------------------------------------------------------------- */

#define WATCH_BUCKETS 1024u

struct watches {
    pthread_mutex_t lock;
    struct list of_log;
    struct list of_streams[WATCH_BUCKETS];
};

/* --- scavenge.c ------------------------------------------------------------------------------- */

struct scavenger;
struct streams;

/* Who is at the blocks: one at a time. Under the lock, but what is atomic. */
struct stream_tidy {
    pthread_mutex_t lock;
    struct scavenger *running;       /* a scavenge, or a join; or NULL */
    struct stream_scavenge *waiting; /* for the join to end; or NULL */
    bool joining;                    /* what runs is a join */
    bool closing;                    /* no more joins */
    _Atomic bool stop_join;
    atomic_uint joins; /* running, until they touch nothing any more: close waits for it */
    uint32_t join_blocks;
    uint32_t small_blocks; /* since `span_from`, ... */
    uint64_t span_bytes;   /* ... and bytes of all blocks */
    int64_t span_from;     /* position where the next join begins */
};

void tidy_init(struct stream_tidy *tidy, uint32_t join_blocks);
void tidy_deinit(struct stream_tidy *tidy);
/* A batch is safe: perhaps small blocks are to be joined. */
void tidy_note_batch(struct streams *streams, const struct batch *batch);
/* No join begins any more, one that runs ends soon; true: none runs. */
bool tidy_stop(struct streams *streams);

/* --- all of it -------------------------------------------------------------------------------- */

struct streams {
    struct engine *engine;
    struct loop *loop;
    enum stream_projections projections;
    bool insecure;
    uint64_t (*wall_ms)(void);
    struct sequencer sequencer;
    struct watches watches;
    _Atomic int64_t last_position; /* that is safe */
    pthread_rwlock_t acls_lock;
    struct default_acls acls;
    struct stream_tidy tidy;
    struct groups *groups;
    struct users *users;
    _Atomic uint64_t users_version;

    void (*closed)(void *arg);
    void *closed_arg;
    struct task close_task;

    /* statistics: relaxed */
    _Atomic uint64_t stat_appends;
    _Atomic uint64_t stat_events;
    _Atomic uint64_t stat_batches;
    _Atomic uint64_t stat_reads;
    _Atomic uint64_t stat_events_read;
    _Atomic uint64_t stat_retries;
    _Atomic uint64_t stat_joins;
    _Atomic uint64_t stat_subscriptions;
    _Atomic uint64_t stat_heads;
    _Atomic uint64_t stat_groups;
};

static inline void stream_stat_add(_Atomic uint64_t *stat, uint64_t more)
{
    atomic_fetch_add_explicit(stat, more, memory_order_relaxed);
}

static inline int64_t streams_now_100ns(const struct streams *streams)
{
    return (int64_t)(streams->wall_ms() * 10000u);
}

/* --- watch.c ---------------------------------------------------------------------------------- */

void watches_init(struct watches *watches);
void watches_deinit(struct watches *watches);
/* A batch is safe: whoever waits for its streams is told. */
void watches_fire(struct streams *streams, const struct batch *batch);

/* --- users.c ---------------------------------------------------------------------------------- */

int users_new(struct users **ret_users);
void users_free(struct users *users);
int users_make_defaults_blocking(struct streams *streams);

#endif

/*
 * engine/log/log_engine.h: the parts of the log engine and how they hang together.
 *
 *   log_engine.c   open, close, snapshots, statistics: any thread
 *   reading.c      views and reads of keys, range.c scans: any thread
 *   writer.c       the writer: its queue, groups, syncs; a thread, and who submits in its place
 *   apply.c        a batch or a move into the newest segment and the working trees
 *   version.c      publishing, and when memory that readers could see is freed
 *   segments.c     the list of files: rolling, caching, preparing space, removing
 *   recovery.c     reading the log when opening
 *   loading.c      making the index of what was read, after the open; merge.c does it
 *   compaction.c   emptying segments in the background; pace.c keeps it out of the way
 *   upkeep.c       what else there is to do for sealed segments: hints, and filling the cache
 *
 * A version is what readers see: a root per family. The writer alone changes anything; readers take
 * engine->version inside an epoch, or hold a snapshot's copy of it.
 */
#ifndef ENGINE_LOG_LOG_ENGINE_H
#define ENGINE_LOG_LOG_ENGINE_H

#include "base/rand.h"
#include "engine/engine.h"
#include "engine/log/compaction.h"
#include "engine/log/epoch.h"
#include "engine/log/gather.h"
#include "engine/log/segments.h"
#include "engine/log/spares.h"
#include "engine/log/tree.h"
#include "runtime/mailbox.h"

#include <pthread.h>

#define LOG_ENGINE_NAME "kvs"
#define URGENT_THREADS 3u /* syncs of directory entries, memory ahead, writing out */

struct tree_root {
    struct node *root;
    uint64_t keys;
    uint64_t expiring_keys; /* of them, with an end of life */
};

/* Immutable once published. */
struct version {
    uint64_t sequence; /* of its last record */
    struct tree_root families[ENGINE_FAMILY_COUNT];
};

struct engine_snapshot {
    struct version version;
    struct engine_snapshot *older; /* the list of all, newest first; under snapshots_mutex */
    struct engine_snapshot *newer;
    struct pointer_vector deferred; /* retired since, but seen by it; the writer's */
    struct task release;            /* its way to the writer when released */
    struct log_engine *log;
};

/* Things that no version reaches any more, waiting for the readers that entered before. */
struct limbo {
    struct limbo *next;
    uint64_t epoch;
    struct pointer_vector objects;
    struct segment *segment; /* emptied, to be closed; or NULL */
    uint8_t *memory;         /* of a segment, to be given back; or NULL */
    struct loading *loading; /* over; or NULL */
};

/* A sync in the background, of all that was written when it began. */
struct background_sync {
    struct task job;  /* on the background thread */
    struct task done; /* back on the writer's thread */
    bool running;
    int error;
    int *fds;
    unsigned fds_count;
    unsigned fds_capacity;
    bool sync_directory;
    uint32_t to_segment;
    uint32_t to_offset;
    struct task_list covered; /* ops of struct engine_control: waiting for it */
    struct task_list waiting; /* ... for the next one */
};

/* Zeros ahead of the log's end, so that a sync has no file size to update. */
struct preparation {
    struct task job;
    uint32_t step;         /* the writer's: the size of the last one */
    pthread_mutex_t mutex; /* guards the rest */
    pthread_cond_t changed;
    bool is_running;
    bool is_writing;  /* from `from` to `next`; else it syncs, or has not begun */
    uint32_t segment; /* which is not the newest any more when the job is late */
    uint64_t from;
    uint64_t next; /* where zeros go next, */
    uint64_t to;   /* and up to where */
};

struct loading;

struct log_engine {
    struct engine engine;
    kvs_thread_pool *pool;   /* for reads */
    struct ring_reads *ring; /* for reads that can run again; NULL: they go to the pool, too */
    /* One thread, for syncs and preparations; jobs of the pool of all may wait for these. */
    kvs_thread_pool *background_pool;
    kvs_thread_pool *urgent_pool; /* one thread each for what must not wait for a sync of data */
    char *directory;
    int lock_fd;
    enum kvs_sync sync;
    uint32_t sync_interval_ms;
    uint32_t segment_size;
    uint64_t cache_size_max;

    /* readers */
    struct epoch epoch;
    _Atomic(struct version *) version; /* NULL: the index is not there yet */
    _Atomic(struct segment *) *slots;  /* SEGMENT_SLOTS of them */

    /* the list of snapshots, and the change of the current version */
    pthread_mutex_t snapshots_mutex;
    struct engine_snapshot *snapshots; /* newest first */

    /* until the index is there: see loading.h */
    _Atomic(struct loading *) loading; /* NULL from then on */
    _Atomic uint32_t loaded;           /* 0, then 1; slept on */
    struct version first;              /* what was loaded, ... */
    int load_error;                    /* ... or why not; both valid when `loaded` */
    struct task_list parked;           /* struct engine_read; under snapshots_mutex */
    _Atomic bool closing;              /* it need not be loaded any more */

    /* to the writer */
    struct mailbox writes;       /* struct engine_write */
    struct mailbox requests;     /* anything else: run is called */
    _Atomic uint32_t submitting; /* threads inside writer_submit and writer_request */
    _Atomic uint32_t wake;       /* slept on; see writer_wake */
    pthread_t writer_thread;
    bool writer_started;
    pthread_mutex_t writing;     /* who holds it is the writer: its thread, or one that submits */
    _Atomic bool writing_wanted; /* by the thread: nobody else takes it then */
    _Atomic bool thread_wrote;   /* the thread had it last: it may sleep now; see callers_write */
    _Atomic uint32_t meetings;   /* see callers_meet */
    bool callers_write;

    /* the writer's own, from here to `compaction` */
    struct slab slab;
    struct tree_writer tree;
    struct version working; /* what the next publish will show */
    struct segment *oldest; /* the log's order, by segment.next */
    struct segment *newest;
    uint32_t next_number;
    struct rand rand; /* for the identities of segments */
    uint32_t next_slot;
    uint32_t synced_segment; /* everything before this place is on the disk */
    uint32_t synced_offset;
    uint32_t directory_synced; /* entries of segments up to this number are on the disk */
    uint32_t marked_segment;   /* ... and this is what the last mark said */
    uint32_t marked_offset;
    uint64_t sync_due_ms; /* 0: nothing to sync by time */
    uint64_t cached_bytes;
    struct spares spares;
    uint64_t group_wall_ms;           /* the time that batches of this group see */
    uint32_t group_offset;            /* where the group begins in the newest segment, ... */
    uint32_t group_body_offset;       /* ... behind its mark, ... */
    struct accounts group_accounts;   /* ... and what that segment held then */
    struct task_list group;           /* its ops, in order */
    struct version *group_version;    /* room for the version that it will publish */
    uint32_t group_size_mean;         /* in bytes, of the last few groups */
    struct task_list pending;         /* taken from the queue, not yet in a group */
    struct pointer_vector moved;      /* entries whose location changed in this group, ... */
    struct pointer_vector moved_from; /* ... and where they were, to undo it */
    struct pointer_vector unlinked;   /* no version has them; for the next limbo */
    struct limbo *limbo_first;
    struct limbo *limbo_last;
    struct background_sync background;
    struct preparation preparation;
    struct faulting faulting;
    struct held held;
    struct room room;
    struct entry_sync entry_sync;
    struct write_out write_out;
    struct gather gather;
    struct compact_requests compacts;
    struct task stop_request;
    bool stopping;
    uint64_t rests_until_ms;          /* the thread, unless it is woken; 0: for any time */
    unsigned groups_until_compaction; /* the next look for a segment to empty */
    bool compaction_missed;           /* the last look found the thread at work */
    bool upkeep_due;                  /* look for a segment that needs a hint, or warming */

    struct compaction compaction;

    _Atomic bool failed;             /* a write or sync failed: no more writes */
    _Atomic uint64_t damage_told_ms; /* when a reader last logged a damaged place */

    /* Statistics: written by the writer, read by anyone, relaxed. */
    _Atomic uint64_t stat_writes;
    _Atomic uint64_t stat_groups;
    _Atomic uint64_t stat_syncs;
    _Atomic uint64_t stat_compactions;
    _Atomic uint64_t stat_compacted_bytes;
    _Atomic uint64_t stat_compacting; /* 1 or 0 */
    _Atomic uint64_t stat_disk_bytes; /* of segments that are listed, and hints, ... */
    _Atomic uint64_t stat_held_bytes; /* ... and of emptied ones whose files are not closed yet */
    _Atomic uint32_t checkpoints;     /* under way: they read files by descriptors of their own */
    _Atomic uint64_t stat_live_bytes;
    _Atomic uint64_t stat_cache_bytes;
    _Atomic uint64_t stat_index_bytes;
    _Atomic uint64_t stat_segments;
    _Atomic uint64_t stat_snapshots;
};

static inline struct segment *segment_at(struct log_engine *log, uint64_t location)
{
    /* acquire: pairs with the release in segments_add. */
    return atomic_load_explicit(&log->slots[location_slot(location)], memory_order_acquire);
}

static inline void stat_add(_Atomic uint64_t *stat, uint64_t more)
{
    atomic_fetch_add_explicit(stat, more, memory_order_relaxed);
}

static inline void stat_set(_Atomic uint64_t *stat, uint64_t value)
{
    atomic_store_explicit(stat, value, memory_order_relaxed);
}

static inline uint64_t stat_get(_Atomic uint64_t *stat)
{
    return atomic_load_explicit(stat, memory_order_relaxed);
}

static inline bool entry_is_expired(const struct entry *entry, uint64_t wall_ms)
{
    return entry->expires && entry_expires_at(entry) <= wall_ms;
}

/* --- log_engine.c ----------------------------------------------------------------------------- */

/* The engine without its files and threads. Frees also what was opened only in part. */
int log_engine_new(const struct engine_options *options, struct log_engine **ret_log);
void log_engine_free(struct log_engine *log);

/* --- writer.c --------------------------------------------------------------------------------- */

int writer_start(struct log_engine *log);
/* Takes what is queued, syncs, stops the thread. Returns the error of the last sync. */
int writer_stop(struct log_engine *log);
/* Hands a chain of struct engine_write over (by op.task). Any thread. */
void writer_submit(struct log_engine *log, struct task_list *writes);
/* Has request->run called on the writer's thread, between batches. Any thread. */
void writer_request(struct log_engine *log, struct task *request);
/* On the writer's thread: makes a move part of the current group; it completes with the group. */
void writer_add_move(struct log_engine *log, struct move *move);
/* On the writer's thread: writes what the group has, syncs, publishes, completes its ops. */
void writer_commit(struct log_engine *log);
/* On the writer's thread: has all that is written now synced; `control` (or NULL) completes
 * then. */
void writer_sync(struct log_engine *log, struct engine_control *control);

/* --- apply.c ---------------------------------------------------------------------------------- */

/* Bytes that a batch or a move can take in a segment at most. */
uint64_t apply_write_size(const struct engine_write *write);
/* Checks the conditions, appends the records to the newest segment's memory and changes the working
 * trees. Returns 0 or the failed condition; NO_MEMORY: the group must be undone. */
int apply_write(struct log_engine *log, struct engine_write *write);
int apply_move(struct log_engine *log, struct move *move);

/* --- version.c -------------------------------------------------------------------------------- */

/* Makes `working` what readers see. Cannot fail: group_version has been allocated. */
void version_publish(struct log_engine *log);
/* Back to what is published. */
void version_undo(struct log_engine *log);
/* A snapshot's deferred objects go to older snapshots or to limbo; frees it. */
void version_release(struct log_engine *log, struct engine_snapshot *snapshot);
/* Puts what was unlinked into limbo, and frees some of what no reader can see; LATER: one may. */
enum reclaim { RECLAIM_DONE, RECLAIM_LATER, RECLAIM_MORE };
enum reclaim version_reclaim(struct log_engine *log, bool idle);
/* For who has the engine alone, and nobody that waits. */
void version_reclaim_all(struct log_engine *log);
/* Waits until the readers that are inside now have left. */
void version_wait_readers(struct log_engine *log);
/* Later, when no reader can see it: closes the segment, gives the memory's reference back. */
void version_defer_segment(struct log_engine *log, struct segment *segment);
void version_defer_memory(struct log_engine *log, uint8_t *memory);
void version_defer_loading(struct log_engine *log, struct loading *loading);

/* --- recovery.c ------------------------------------------------------------------------------- */

/* Reads the log of the directory, as far as that is needed to know where it ends; the rest is left
 * to log->loading. Blocking; before the threads start. */
int recovery_run(struct log_engine *log, struct engine_message *message);

/* --- checkpoint.c ----------------------------------------------------------------------------- */

/* On the writer's thread: `control` completes when the copy is made. */
void writer_checkpoint(struct log_engine *log, struct engine_control *control);

#endif

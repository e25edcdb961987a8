/*
 * engine/engine.h: the one interface of everything that stores keys and values on this machine.
 *
 * An engine keeps ordered maps from keys to values, one per column family, and changes them in
 * atomic batches. The contract below is tested by tests/contract/ on every engine.
 *
 * Reads go through a view: a consistent picture of all families, cheap to begin and short-lived.
 *   - A loop begins a view with may_block false, reads what is in memory, and ends the view before
 *     it waits again. A read that would have to wait for a disk answers ENGINE_WOULD_BLOCK.
 *   - The caller then submits a struct engine_read: its run function is called on the blocking pool
 *     with a view in which reads may block. The same code can serve both.
 *   A view sees every batch that was acknowledged before it began, each batch wholly or not at all.
 *   A snapshot is a picture that may be kept for hours; views can be begun on it.
 *
 * Writes are submitted as chains of struct engine_write, and are applied in the order of submission
 * of each thread. Each completes on its loop when it is as safe as the sync policy says; a view
 * begun after that sees it. A batch whose precondition does not hold changes nothing and fails with
 * NOT_FOUND, ALREADY_EXISTS or CONDITION_FAILED. Mutations of a batch take effect one after the
 * other: a later one of the same key wins, and removals count what earlier ones of the batch set.
 *
 * A key whose time to live has ended is not there any more: for views begun after that (also on
 * older snapshots), for conditions and for counts. Setting a key anew sets its end anew.
 *
 * An engine may be open while it still loads: then reads answer ENGINE_WOULD_BLOCK, or take as long
 * as that does, as all else. If it fails, all reads end in its error, all writes in STORAGE_FAILED.
 *
 * After a write to the file or a sync failed, the engine refuses all writes with STORAGE_FAILED
 * until it is opened again; reads go on. NO_SPACE refuses a batch; later ones may find space again.
 *
 * Threads: every function may be called from any thread except those that end in _blocking, which
 * must not run on a loop. Ownership: inputs are borrowed until the op completes.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "base/buf.h"
#include "engine/control.h"
#include "engine/family.h"
#include "engine/fetch.h"
#include "engine/pins.h"
#include "engine/stats.h"
#include "runtime/op.h"

#include <kvs/store.h>

/* A read of a view that may not block would have to. Positive: never leaves the process. */
#define ENGINE_WOULD_BLOCK 1

/* What an engine can do beyond the contract's core: bits of struct engine.capabilities. */
#define ENGINE_CAP_DURABLE 1u    /* keeps its data when the process ends */
#define ENGINE_CAP_IN_MEMORY 2u  /* reads never block */
#define ENGINE_CAP_CHECKPOINT 4u /* online backup */
#define ENGINE_CAP_ESTIMATES 8u  /* statistics of keys and live bytes are estimates */
#define ENGINE_CAP_BRIEF 16u     /* a write takes microseconds, on processors of their own */

struct engine;
struct engine_snapshot;

struct engine_view {
    struct engine *engine;
    bool may_block;
    struct engine_fetch fetch;
    void *state[6]; /* the engine's */
};

enum engine_condition_kind {
    ENGINE_CONDITION_EXISTS = 1, /* else NOT_FOUND */
    ENGINE_CONDITION_ABSENT = 2, /* else ALREADY_EXISTS */
    ENGINE_CONDITION_EQUALS = 3, /* the value is `value`, else CONDITION_FAILED */
};

struct engine_condition {
    uint8_t kind;
    uint8_t family;
    kvs_slice key;
    kvs_slice value;
};

/* Give the value before of the key of mutations[0]; when a condition fails, of conditions[0]. */
#define ENGINE_WRITE_WANT_PREVIOUS 1u
/* With op.loop NULL: op.task.run may be called on any thread, also inside the call that submits. */
#define ENGINE_WRITE_ANYWHERE 2u
#define ENGINE_WRITE_HAND_OVER 4u /* a wish: the thread that submits has other work meanwhile */
/* On a nearly full disk: is taken as one that only removes; or always, for readers need it. */
#define ENGINE_WRITE_GIVES_BACK 8u
#define ENGINE_WRITE_FOR_READERS 16u

struct engine_write {
    struct op op;                  /* op.task.next links a chain before the submit */
    const kvs_mutation *mutations; /* kinds, sizes and families are checked by the caller */
    uint32_t mutations_count;
    uint32_t conditions_count;
    const struct engine_condition *conditions;
    unsigned flags;

    /* results, valid when op completes */
    bool previous_found;
    struct buf previous;    /* the receiver frees it */
    uint64_t removed_count; /* keys that existed and are gone by REMOVE and REMOVE_RANGE */
};

/* A read that may block, for the pool. */
struct engine_read {
    struct op op;
    const struct engine_snapshot *snapshot; /* or NULL: as of when it runs */
    /* Called on a pool thread; its return value becomes op.error. */
    int (*run)(struct engine_read *read, struct engine_view *view);
    bool again;     /* run may be called again, from the begin, after ENGINE_WOULD_BLOCK */
    void *state[4]; /* the engine's */
};

struct engine_range {
    uint8_t family;
    bool reverse;             /* from the last key downwards */
    bool keys_only;           /* values are given empty and never read */
    bool sizes_only;          /* values are never read, and given as their size: data is NULL */
    kvs_slice start, end;     /* first key of the range, and behind it; empty: no bound */
    uint32_t expected;        /* a hint: so many keys are wanted; 0: unknown */
    struct engine_pins *pins; /* where to keep what is given; or NULL. An engine may never do */
};

/* Each key of a scan; slices live as long as the call, or by range.pins. 0: go on, else it ends. */
typedef int engine_scan_fn(void *arg, kvs_slice key, kvs_slice value);

struct engine_methods {
    const char *name; /* as on the command line */
    int (*view_begin)(struct engine *engine, const struct engine_snapshot *snapshot,
                      struct engine_view *view);
    void (*view_end)(struct engine_view *view);
    /* Pins, or NULL, come in empty. An engine may never fill them, and does only with a value. */
    int (*get)(struct engine_view *view, unsigned family, kvs_slice key, kvs_slice *ret_value,
               struct engine_pin *ret_pin);
    void (*get_many)(struct engine_view *view, unsigned family, const kvs_slice *keys,
                     unsigned count, kvs_slice *ret_values, int *ret_errors,
                     struct engine_pin *ret_pins);
    int (*expiry)(struct engine_view *view, unsigned family, kvs_slice key,
                  uint64_t *ret_expires_at_ms);
    int (*scan)(struct engine_view *view, const struct engine_range *range, engine_scan_fn *each,
                void *arg);
    int (*count)(struct engine_view *view, const struct engine_range *range, uint64_t *ret_count);
    int (*snapshot_take)(struct engine *engine, struct engine_snapshot **ret_snapshot);
    void (*snapshot_release)(struct engine *engine, struct engine_snapshot *snapshot);
    void (*read)(struct engine *engine, struct engine_read *read);
    void (*write)(struct engine *engine, struct task_list *writes);
    void (*control)(struct engine *engine, struct engine_control *control);
    void (*compact_no_more)(struct engine *engine); /* NULL: compaction takes no time */
    void (*stats)(struct engine *engine, struct engine_stats *ret_stats);
    int (*close_blocking)(struct engine *engine);
};

struct engine {
    const struct engine_methods *methods;
    unsigned capabilities;
};

struct engine_options {
    kvs_thread_pool *pool; /* for reads that block; the engine takes its own reference */
    const char *directory;
    enum kvs_sync sync;
    uint32_t sync_interval_ms;   /* 0: 1000 */
    uint64_t segment_size_bytes; /* 0: 64 MiB, or a sixteenth of a smaller disk than 1 GiB */
    uint64_t cache_size_bytes;   /* 0: a quarter of the machine's memory */
    bool must_exist;
    bool marks_last;    /* the directory is new, and gets its file KVS from whoever opens it */
    bool callers_write; /* threads that submit may write to files where that needs no sync */
    enum kvs_file_io file_io;
    bool cache_prefault; /* log: the open makes the memory for all of the cache */
};

/* What an open has to say to a person: why it failed, or what recovery did; "" for nothing. */
struct engine_message {
    char text[256];
};

/* Open (blocking). NO_DIRECTORY, PERMISSION, READ_ONLY, LOCKED, WRONG_ENGINE, CORRUPTION, IO,
 * NO_SPACE, NO_MEMORY, TOO_MANY_FILES, UNSUPPORTED (of a newer version), told in ret_message. */
typedef int engine_open_fn(const struct engine_options *options, struct engine **ret_engine,
                           struct engine_message *ret_message);
engine_open_fn log_engine_open_blocking;
engine_open_fn memory_engine_open_blocking;
engine_open_fn rocksdb_engine_open_blocking; /* UNSUPPORTED in a build without librocksdb */

/* Name of the engine that wrote the directory, "" for none. UNSUPPORTED: newer; CORRUPTION. */
int engine_directory_probe_blocking(const char *directory, char name[32]);

/* Begins a view; snapshot NULL: of now. It must be ended on the thread that began it. NO_MEMORY. */
static inline int engine_view_begin(struct engine *engine, const struct engine_snapshot *snapshot,
                                    bool may_block, struct engine_view *view)
{
    view->engine = engine;
    view->may_block = may_block;
    view->fetch = (struct engine_fetch){0};
    return engine->methods->view_begin(engine, snapshot, view);
}

static inline void engine_view_end(struct engine_view *view)
{
    view->engine->methods->view_end(view);
}

/* The value lives as long as the view. NOT_FOUND, ENGINE_WOULD_BLOCK, IO, CORRUPTION, NO_MEMORY. */
static inline int engine_get(struct engine_view *view, unsigned family, kvs_slice key,
                             kvs_slice *ret_value)
{
    return view->engine->methods->get(view, family, key, ret_value, NULL);
}

/* The same; but when *ret_pin has something to unpin, the value lives until engine_pin_release. */
static inline int engine_get_pinned(struct engine_view *view, unsigned family, kvs_slice key,
                                    kvs_slice *ret_value, struct engine_pin *ret_pin)
{
    *ret_pin = (struct engine_pin){0};
    return view->engine->methods->get(view, family, key, ret_value, ret_pin);
}

/* As `count` times engine_get_pinned, an error each, but faster. Pins (or NULL) must be empty. */
static inline void engine_get_many(struct engine_view *view, unsigned family, const kvs_slice *keys,
                                   unsigned count, kvs_slice *ret_values, int *ret_errors,
                                   struct engine_pin *ret_pins)
{
    view->engine->methods->get_many(view, family, keys, count, ret_values, ret_errors, ret_pins);
}

/* When a key ends: milliseconds since 1970, 0 for never. NOT_FOUND, ENGINE_WOULD_BLOCK, IO. What
 * has expired when the view first looks at the clock is not found by any of its reads. */
static inline int engine_expiry(struct engine_view *view, unsigned family, kvs_slice key,
                                uint64_t *ret_expires_at_ms)
{
    return view->engine->methods->expiry(view, family, key, ret_expires_at_ms);
}

/* Calls `each` for every live key of the range in its order. Returns 0 at the end of the range,
 * what `each` returned when that ended it, or an error; ENGINE_WOULD_BLOCK may come after some keys
 * were given: go on behind the last one. */
static inline int engine_scan(struct engine_view *view, const struct engine_range *range,
                              engine_scan_fn *each, void *arg)
{
    return view->engine->methods->scan(view, range, each, arg);
}

static inline int engine_count(struct engine_view *view, const struct engine_range *range,
                               uint64_t *ret_count)
{
    return view->engine->methods->count(view, range, ret_count);
}

static inline int engine_snapshot_take(struct engine *engine, struct engine_snapshot **ret_snapshot)
{
    return engine->methods->snapshot_take(engine, ret_snapshot);
}

static inline void engine_snapshot_release(struct engine *engine, struct engine_snapshot *snapshot)
{
    engine->methods->snapshot_release(engine, snapshot);
}

/* Runs read->run on the blocking pool. */
static inline void engine_read(struct engine *engine, struct engine_read *read)
{
    engine->methods->read(engine, read);
}

/* Takes the chain of struct engine_write (by op.task); one crossing of threads for all. */
static inline void engine_write_list(struct engine *engine, struct task_list *writes)
{
    engine->methods->write(engine, writes);
}

static inline void engine_write(struct engine *engine, struct engine_write *write)
{
    struct task_list list = {0};
    task_list_push(&list, &write->op.task);
    engine->methods->write(engine, &list);
}

static inline void engine_control(struct engine *engine, struct engine_control *control)
{
    engine->methods->control(engine, control);
}

/* Before a close, which waits for what is under way: requested compactions end with CANCELLED
 * from now on, also those that have begun; what they have done stays. Any thread, repeatedly. */
static inline void engine_compact_no_more(struct engine *engine)
{
    if (engine->methods->compact_no_more != NULL)
        engine->methods->compact_no_more(engine);
}

static inline void engine_stats(struct engine *engine, struct engine_stats *ret_stats)
{
    engine->methods->stats(engine, ret_stats);
}

/* All ops have completed, all views ended, all snapshots are released. Syncs; returns its error. */
static inline int engine_close_blocking(struct engine *engine)
{
    return engine->methods->close_blocking(engine);
}

#endif

/*
 * engine/rocksdb/rocksdb_engine.h: the engine on RocksDB: for data that does not fit in memory.
 *
 * One database with one column family; the engine's families are prefixes of one byte
 * (docs/format/rocksdb.md). Its parts:
 *   rocksdb_engine.c   opening, closing, control, statistics
 *   reading.c          snapshots, views, gets and scans; keys and values as they are stored
 *   group.c            the worker: batches, their preconditions, one write for all that wait
 *
 * Memory: RocksDB's own allocations cannot fail in a way that could be answered: it ends the
 * process then. What is on the disk is safe. Our own fail as everywhere.
 */
#ifndef ENGINE_ROCKSDB_ROCKSDB_ENGINE_H
#define ENGINE_ROCKSDB_ROCKSDB_ENGINE_H

#include "engine/rocksdb/library.h"
#include "engine/worker.h"

#include <stdatomic.h>

/* As of the end of a group of writes: shared by all views that begin before the next one ends. */
struct engine_snapshot {
    _Atomic uint64_t refs;
    rocksdb_t *db;
    const rocksdb_snapshot_t *at;
    rocksdb_readoptions_t *may_block; /* read as of `at` */
    rocksdb_readoptions_t *in_memory; /* the same, from block cache and memory tables only */
};

struct rocks_engine {
    struct engine engine;
    struct engine_worker worker;
    kvs_thread_pool *pool;
    kvs_thread_pool *sync_pool;        /* a thread for syncs: they wait for no compaction */
    kvs_thread_pool *maintenance_pool; /* a thread for compaction and checkpoints */
    char *directory;
    char *db_path;
    int lock_fd;
    enum kvs_sync sync;
    uint32_t sync_interval_ms;

    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    rocksdb_compactionfilter_t *filter;
    rocksdb_writeoptions_t *write_options;
    rocksdb_readoptions_t *newest; /* as of now: for the worker, who alone writes */

    pthread_mutex_t lock; /* guards current */
    struct engine_snapshot *current;

    /* of the worker */
    uint64_t sync_due_ms; /* 0: nothing to sync */
    struct task sync_job; /* for sync_pool */
    _Atomic bool sync_running;

    _Atomic bool compact_ended; /* those who ask are refused */
    _Atomic bool failed;
    /* figures: relaxed */
    _Atomic uint64_t snapshots_taken;
    _Atomic uint64_t writes;
    _Atomic uint64_t groups;
    _Atomic uint64_t syncs;
    _Atomic uint64_t compactions;
};

static inline struct rocks_engine *rocks_of(struct engine *engine)
{
    return CONTAINER_OF(engine, struct rocks_engine, engine);
}

/* --- reading.c -------------------------------------------------------------------------------- */

/* The error that RocksDB's text means; frees it. 0 for NULL. */
int rocks_error(char *text);
/* The same, and what RocksDB said in the log, with the directory before it. */
int rocks_error_logged(const struct rocks_engine *rocks, const char *what, char *text);

#define STORED_KEY_ROOM 320

/* A key as RocksDB has it: with its family's byte in front. */
struct stored_key {
    char *data;
    size_t size;
    char room[STORED_KEY_ROOM];
};

int stored_key_init(struct stored_key *stored, unsigned family, kvs_slice key); /* NO_MEMORY */
void stored_key_deinit(struct stored_key *stored);

#define STORED_HEADER_MAX 9u

/* Writes what stands before a value; its size. expires_ms 0: never. */
size_t stored_header_encode(uint8_t header[STORED_HEADER_MAX], uint64_t expires_ms);
/* CORRUPTION when it is none. */
int stored_value_decode(kvs_slice stored, uint64_t *ret_expires_ms, kvs_slice *ret_value);

static inline bool is_over(uint64_t expires_ms, uint64_t now_ms)
{
    return expires_ms != 0 && expires_ms <= now_ms;
}

/* Calls `each` for all keys of a range that are stored, expired ones, too, with RocksDB's read
 * options `base`: a snapshot (or NULL) and whether it may block. */
typedef int stored_scan_fn(void *arg, kvs_slice key, uint64_t expires_ms, kvs_slice value);
int stored_scan(rocksdb_t *db, const rocksdb_snapshot_t *at, bool may_block,
                const struct engine_range *range, stored_scan_fn *each, void *arg);

/* Two steps, so that what can fail is behind us before a group is written. NULL: no memory. */
struct engine_snapshot *snapshot_new(struct rocks_engine *rocks);
void snapshot_fix(struct engine_snapshot *snapshot); /* as of now */
void snapshot_unref(struct engine_snapshot *snapshot);
/* Takes a fixed one, and makes it what views begin on. */
void snapshot_publish(struct rocks_engine *rocks, struct engine_snapshot *snapshot);

int rocks_view_begin(struct engine *engine, const struct engine_snapshot *snapshot,
                     struct engine_view *view);
void rocks_view_end(struct engine_view *view);
int rocks_get(struct engine_view *view, unsigned family, kvs_slice key, kvs_slice *ret_value,
              struct engine_pin *ret_pin);
void rocks_get_many(struct engine_view *view, unsigned family, const kvs_slice *keys,
                    unsigned count, kvs_slice *ret_values, int *ret_errors,
                    struct engine_pin *ret_pins);
int rocks_expiry(struct engine_view *view, unsigned family, kvs_slice key,
                 uint64_t *ret_expires_at_ms);
int rocks_scan(struct engine_view *view, const struct engine_range *range, engine_scan_fn *each,
               void *arg);
int rocks_count(struct engine_view *view, const struct engine_range *range, uint64_t *ret_count);
int rocks_snapshot_take(struct engine *engine, struct engine_snapshot **ret_snapshot);
void rocks_snapshot_release(struct engine *engine, struct engine_snapshot *snapshot);

/* --- group.c ---------------------------------------------------------------------------------- */

/* Applies the chain of struct engine_write, in groups, and completes each. On the worker. */
void groups_write(struct rocks_engine *rocks, struct task_list *writes);

/* --- rocksdb_engine.c ------------------------------------------------------------------------- */

/* No more writes until the store is opened again. */
void rocks_fail(struct rocks_engine *rocks, const char *what, int error);

static inline bool rocks_has_failed(const struct rocks_engine *rocks)
{
    return atomic_load_explicit(&rocks->failed, memory_order_relaxed);
}

static inline void rocks_count_up(_Atomic uint64_t *figure, uint64_t more)
{
    atomic_fetch_add_explicit(figure, more, memory_order_relaxed);
}

#endif

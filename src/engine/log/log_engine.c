/*
 * engine/log/log_engine.c: opening and closing the log engine; see log_engine.h for its parts.
 *
 * Open: 1. the directory is made if need be, locked, and checked to be ours; 2. the log is read
 * (recovery.c); 3. the writer and the compaction threads start. The index may come later
 * (loading.h).
 * Close: 1. compaction and writer stop, what was written is synced; 2. everything is freed.
 *
 * Failure: an open that fails leaves nothing behind but the directory and its lock file.
 */
#include "engine/log/log_engine.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/mem.h"
#include "engine/directory.h"
#include "engine/file.h"
#include "engine/log/loading.h"
#include "engine/log/reading.h"
#include "engine/pool_read.h"
#include "engine/ring_read.h"
#include "runtime/thread_pool.h"

#include <assert.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEGMENT_SIZE_DEFAULT (64u * 1024 * 1024)
#define DISK_SEGMENTS 16u /* of the default size, at least, ... */
#define DISK_KEPT 8u      /* ... and the part of a disk that is kept at most: see pace_find_room */
#define SYNC_INTERVAL_MS_DEFAULT 1000u
#define SLOTS_SIZE (SEGMENT_SLOTS * sizeof(_Atomic(struct segment *)))

static void log_read(struct engine *engine, struct engine_read *read)
{
    struct log_engine *log = log_of(engine);
    if (!read->again && loading_park(log, read))
        return;
    if (log->ring != NULL && read->again)
        ring_read_submit(log->ring, read);
    else
        pool_read_submit(log->pool, engine, read);
}

/* --- snapshots -------------------------------------------------------------------------------- */

static int log_snapshot_take(struct engine *engine, struct engine_snapshot **ret_snapshot)
{
    struct log_engine *log = log_of(engine);
    struct engine_snapshot *snapshot = mem_zalloc(sizeof *snapshot);
    if (snapshot == NULL)
        return KVS_ERR_NO_MEMORY;
    snapshot->log = log;
    pthread_mutex_lock(&log->snapshots_mutex);
    const struct version *version = atomic_load_explicit(&log->version, memory_order_seq_cst);
    if (version != NULL) /* else it gets the first one when that is there */
        snapshot->version = *version;
    snapshot->older = log->snapshots;
    if (snapshot->older != NULL)
        snapshot->older->newer = snapshot;
    log->snapshots = snapshot;
    pthread_mutex_unlock(&log->snapshots_mutex);
    stat_add(&log->stat_snapshots, 1);
    *ret_snapshot = snapshot;
    return 0;
}

static void snapshot_on_release(struct task *task)
{
    struct engine_snapshot *snapshot = CONTAINER_OF(task, struct engine_snapshot, release);
    version_release(snapshot->log, snapshot);
}

static void log_snapshot_release(struct engine *engine, struct engine_snapshot *snapshot)
{
    struct log_engine *log = log_of(engine);
    atomic_fetch_sub_explicit(&log->stat_snapshots, 1, memory_order_relaxed);
    snapshot->release.run = snapshot_on_release;
    writer_request(log, &snapshot->release);
}

/* --- writes and control ----------------------------------------------------------------------- */

static void log_write(struct engine *engine, struct task_list *writes)
{
    writer_submit(log_of(engine), writes);
}

struct control_request {
    struct task task;
    struct log_engine *log;
};

static void control_run(struct task *task)
{
    struct control_request *request = CONTAINER_OF(task, struct control_request, task);
    struct engine_control *control =
        (struct engine_control *)(void *)((char *)request - offsetof(struct engine_control, state));
    struct log_engine *log = request->log;
    if (control->kind == ENGINE_CONTROL_SYNC) {
        writer_sync(log, control);
    } else if (control->kind == ENGINE_CONTROL_COMPACT) {
        writer_compact(log, control);
    } else {
        writer_checkpoint(log, control);
    }
}

static void log_control(struct engine *engine, struct engine_control *control)
{
    struct control_request *request = (struct control_request *)(void *)control->state;
    _Static_assert(sizeof(struct control_request) <= sizeof control->state,
                   "state is large enough");
    request->log = log_of(engine);
    request->task.run = control_run;
    writer_request(request->log, &request->task);
}

static void log_compact_no_more(struct engine *engine)
{
    compaction_end_requests(log_of(engine));
}

static void log_stats(struct engine *engine, struct engine_stats *ret_stats)
{
    struct log_engine *log = log_of(engine);
    struct engine_view view;
    log_view_begin(engine, NULL, &view);
    const struct version *version = view_of(&view)->version;
    uint64_t keys = 0;
    for (unsigned i = 0; version != NULL && i < ENGINE_FAMILY_COUNT; i++)
        keys += version->families[i].keys;
    uint64_t own_keys = version != NULL ? version->families[ENGINE_FAMILY_DEFAULT].keys : 0;
    view.engine = engine;
    log_view_end(&view);
    *ret_stats = (struct engine_stats){
        .keys = keys,
        .own_keys = own_keys,
        .live_bytes = stat_get(&log->stat_live_bytes),
        .disk_bytes = stat_get(&log->stat_disk_bytes) + stat_get(&log->stat_held_bytes),
        .cache_bytes = stat_get(&log->stat_cache_bytes),
        .index_bytes = stat_get(&log->stat_index_bytes),
        .segments = stat_get(&log->stat_segments),
        .snapshots = stat_get(&log->stat_snapshots),
        .writes = stat_get(&log->stat_writes),
        .groups = stat_get(&log->stat_groups),
        .syncs = stat_get(&log->stat_syncs),
        .compactions = stat_get(&log->stat_compactions),
        .compacted_bytes = stat_get(&log->stat_compacted_bytes),
        .compacting = stat_get(&log->stat_compacting) != 0,
        /* relaxed: a figure. */
        .loading = atomic_load_explicit(&log->loaded, memory_order_relaxed) == 0,
        .failed = atomic_load_explicit(&log->failed, memory_order_relaxed),
    };
}

/* --- closing ---------------------------------------------------------------------------------- */

static void segments_free_all(struct log_engine *log)
{
    if (log->slots == NULL)
        return;
    for (uint32_t i = 0; i < SEGMENT_SLOTS; i++) {
        struct segment *segment = atomic_load_explicit(&log->slots[i], memory_order_relaxed);
        if (segment != NULL)
            segment_destroy(log, segment);
    }
    struct segment *emptied = atomic_load_explicit(&log->compaction.emptied, memory_order_acquire);
    while (emptied != NULL) {
        struct segment *next = emptied->next;
        close(emptied->fd);
        segment_free(emptied);
        emptied = next;
    }
}

/* Also of an engine that was opened only in part. All threads are gone. */
void log_engine_free(struct log_engine *log)
{
    for (struct limbo *limbo = log->limbo_first; limbo != NULL;) {
        struct limbo *next = limbo->next;
        pointer_vector_deinit(&limbo->objects);
        segment_memory_unref(limbo->memory);
        loading_free(limbo->loading);
        mem_free(limbo); /* its segment is still in its slot */
        limbo = next;
    }
    loading_free(atomic_load_explicit(&log->loading, memory_order_relaxed));
    segments_free_all(log);
    spares_free(log);
    segment_memory_unref(log->compaction.memory);
    mem_free(log->compaction.span);
    if (log->compaction.is_trimming) /* nobody did it */
        slab_trim_end(&log->slab, &log->compaction.trim);
    slab_deinit(&log->slab);
    pointer_vector_deinit(&log->tree.born);
    pointer_vector_deinit(&log->tree.retired);
    pointer_vector_deinit(&log->moved);
    pointer_vector_deinit(&log->moved_from);
    pointer_vector_deinit(&log->unlinked);
    pthread_mutex_destroy(&log->snapshots_mutex);
    pthread_mutex_destroy(&log->writing);
    pthread_mutex_destroy(&log->preparation.mutex);
    pthread_cond_destroy(&log->preparation.changed);
    if (log->lock_fd >= 0)
        close(log->lock_fd); /* which unlocks */
    kvs_thread_pool_unref(log->background_pool);
    kvs_thread_pool_unref(log->urgent_pool);
    kvs_thread_pool_unref(log->pool);
    if (log->slots != NULL)
        munmap((void *)log->slots, SLOTS_SIZE);
    mem_free(log->directory);
    mem_free(log);
}

static int log_close_blocking(struct engine *engine)
{
    struct log_engine *log = log_of(engine);
    atomic_store_explicit(&log->closing, true, memory_order_relaxed);
    ring_reads_free(log->ring);
    compaction_stop(log);
    int error = writer_stop(log);
    assert(log->snapshots == NULL && "a snapshot outlived its engine");
    log_engine_free(log);
    return error;
}

/* --- opening ---------------------------------------------------------------------------------- */

static const struct engine_methods log_methods = {
    .name = LOG_ENGINE_NAME,
    .view_begin = log_view_begin,
    .view_end = log_view_end,
    .get = log_get,
    .get_many = log_get_many,
    .expiry = log_expiry,
    .scan = log_scan,
    .count = log_count,
    .snapshot_take = log_snapshot_take,
    .snapshot_release = log_snapshot_release,
    .read = log_read,
    .write = log_write,
    .control = log_control,
    .compact_no_more = log_compact_no_more,
    .stats = log_stats,
    .close_blocking = log_close_blocking,
};

static void condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

int log_engine_new(const struct engine_options *options, struct log_engine **ret_log)
{
    struct log_engine *log = mem_aligned_alloc(64, sizeof *log);
    if (log == NULL)
        return KVS_ERR_NO_MEMORY;
    memset(log, 0, sizeof *log);
    log->engine.methods = &log_methods;
    log->engine.capabilities = ENGINE_CAP_DURABLE | ENGINE_CAP_CHECKPOINT;
    log->lock_fd = -1;
    log->sync = options->sync;
    log->sync_interval_ms =
        options->sync_interval_ms != 0 ? options->sync_interval_ms : SYNC_INTERVAL_MS_DEFAULT;
    uint64_t segment_size =
        options->segment_size_bytes != 0 ? options->segment_size_bytes : SEGMENT_SIZE_DEFAULT;
    if (segment_size < SEGMENT_SIZE_MIN)
        segment_size = SEGMENT_SIZE_MIN;
    segment_size -= segment_size % FILE_BLOCK_SIZE;
    log->segment_size = segment_size < SEGMENT_SIZE_MAX ? (uint32_t)segment_size : SEGMENT_SIZE_MAX;
    uint64_t memory_bytes = machine_memory_bytes();
    log->cache_size_max =
        options->cache_size_bytes != 0 ? options->cache_size_bytes : memory_bytes / 4;
    log->write_out.cache_is_large = log->cache_size_max >= memory_bytes / 3;
    log->rand = rand_seed(clock_wall_ms() ^ clock_now_ns() ^ (uintptr_t)log);
    epoch_init(&log->epoch);
    mailbox_init(&log->writes);
    mailbox_init(&log->requests);
    slab_init(&log->slab);
    log->tree.slab = &log->slab;
    pthread_mutex_init(&log->snapshots_mutex, NULL);
    pthread_mutex_init(&log->writing, NULL);
    log->callers_write = options->callers_write && options->sync != KVS_SYNC_ALWAYS;
    if (log->callers_write && machine_processors() > 1)
        log->engine.capabilities |= ENGINE_CAP_BRIEF;
    pthread_mutex_init(&log->preparation.mutex, NULL);
    condition_init(&log->preparation.changed);
    log->pool = kvs_thread_pool_ref(options->pool);
    log->directory = mem_strdup(options->directory);
    /* Mapped, so that slots which are never used take no memory. */
    void *slots =
        mmap(NULL, SLOTS_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    log->slots = slots != MAP_FAILED ? slots : NULL;
    if (log->directory == NULL || log->slots == NULL) {
        log_engine_free(log);
        return KVS_ERR_NO_MEMORY;
    }
    *ret_log = log;
    return 0;
}

/* Of a small disk. */
static void disk_measure(struct log_engine *log, const struct engine_options *options)
{
    struct file_space space;
    if (file_space(log->directory, &space) != 0 || space.all < DISK_SEGMENTS * SEGMENT_SIZE_MIN)
        return;
    uint64_t part = space.all / DISK_SEGMENTS / FILE_BLOCK_SIZE * FILE_BLOCK_SIZE;
    if (options->segment_size_bytes == 0 && part < log->segment_size)
        log->segment_size = (uint32_t)part;
    log->room.left = UINT64_MAX; /* nobody has looked */
    log->room.kept = 2 * (uint64_t)log->segment_size;
    if (log->room.kept > space.all / DISK_KEPT)
        log->room.kept = space.all / DISK_KEPT;
}

/* The index, if that is little work; else the writer's thread begins with it. */
static int index_first(struct log_engine *log)
{
    for (struct segment *at = log->oldest; at != NULL; at = at->next)
        segment_fix(at);
    segments_count(log);
    if (!loading_is_small(atomic_load_explicit(&log->loading, memory_order_relaxed)))
        return 0;
    int error = loading_run(log);
    version_reclaim_all(log);
    return error;
}

/* auto: the pool, which was measured to be as fast with enough threads; docs/architecture.md. */
static int ring_start(struct log_engine *log, enum kvs_file_io file_io,
                      struct engine_message *message)
{
    if (file_io != KVS_FILE_IO_URING)
        return 0;
    int error = ring_reads_new(&log->engine, log->pool, &log->ring);
    if (error == 0)
        log_info("%s: gets that wait for a file go by io_uring", log->directory);
    if (error == KVS_ERR_UNSUPPORTED)
        return engine_directory_fail(message, error, log->directory,
                                     "io_uring is not to be had here; use another file I/O");
    return error;
}

int log_engine_open_blocking(const struct engine_options *options, struct engine **ret_engine,
                             struct engine_message *ret_message)
{
    const char *directory = options->directory;
    ret_message->text[0] = '\0';
    if (strlen(directory) + 1 + SEGMENT_NAME_SIZE > SEGMENT_PATH_SIZE)
        return engine_directory_fail(ret_message, KVS_ERR_INVALID_ARGUMENT, directory,
                                     "has too long a name");
    struct log_engine *log;
    int error = log_engine_new(options, &log);
    if (error != 0)
        return engine_directory_fail(ret_message, error, directory, "cannot be opened");
    error = engine_directory_open_blocking(options, LOG_ENGINE_NAME, &log->lock_fd, ret_message);
    if (error == 0) {
        disk_measure(log, options);
        error = recovery_run(log, ret_message);
    }
    if (error == 0) {
        log->write_out.forgotten = log->newest->number - 1; /* the cache is filled from those */
        error = index_first(log);
    }
    if (error == 0 && options->cache_prefault)
        error = spares_prefault(log, ret_message);
    if (error == 0)
        error = kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, 1, &log->background_pool);
    if (error == 0)
        error =
            kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, URGENT_THREADS, &log->urgent_pool);
    if (error == 0)
        error = writer_start(log);
    if (error == 0)
        error = ring_start(log, options->file_io, ret_message);
    if (error == 0)
        error = compaction_start(log);
    if (error != 0) {
        if (ret_message->text[0] == '\0')
            engine_directory_fail(ret_message, error, directory, "cannot be opened");
        atomic_store_explicit(&log->closing, true, memory_order_relaxed);
        ring_reads_free(log->ring);
        (void)writer_stop(log);
        log_engine_free(log);
        return error;
    }
    *ret_engine = &log->engine;
    return 0;
}

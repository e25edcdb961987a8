/*
 * engine/rocksdb/rocksdb_engine.c: opening, closing, control and statistics of the engine on
 * RocksDB; see rocksdb_engine.h for its parts.
 *
 * Open: 1. the directory is made if need be, locked, and checked to be ours; 2. RocksDB opens its
 * database in `rocksdb/` below it, and replays its write-ahead log; 3. the worker starts.
 * Control: a sync runs on one thread, compaction and checkpoints on another, so that writes and
 * syncs go on beside them.
 * Close: 1. the worker and these threads end; 2. what was written is synced and brought to table
 * files, which have checksums everywhere, unless the policy is "never"; 3. RocksDB closes.
 *
 * Failure: an open that fails leaves nothing behind but the directory, its lock file, and what
 * RocksDB had made by then.
 */
#include "engine/rocksdb/rocksdb_engine.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/mem.h"
#include "engine/directory.h"
#include "engine/pool_read.h"
#include "runtime/thread_pool.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENGINE_NAME "rocksdb"
#define DATABASE_NAME "rocksdb"
#define SYNC_INTERVAL_MS_DEFAULT 1000u
#define MEMTABLE_SIZE_MIN (4u * 1024 * 1024)
#define MEMTABLE_SIZE_MAX (64u * 1024 * 1024)
#define BLOOM_BITS_PER_KEY 10
#define INFO_LOG_WARN 2
#define INFO_LOG_SIZE_MAX (1024u * 1024)
#define INFO_LOG_FILES 2
#define OPEN_FILES_MIN 64
#define EXPIRED_KEPT_MS (10u * 60 * 1000) /* longer than any view lives */

void rocks_fail(struct rocks_engine *rocks, const char *what, int error)
{
    if (atomic_exchange_explicit(&rocks->failed, true, memory_order_relaxed))
        return;
    log_error("%s: %s failed (%s); no more writes until the store is opened again",
              rocks->directory, what, kvs_error_text(error));
}

/* --- control ---------------------------------------------------------------------------------- */

static void control_complete(struct engine_control *control, int error)
{
    struct completions completions = COMPLETIONS_INIT;
    completions_add(&completions, &control->op, error);
    completions_flush(&completions);
}

/* Stands in engine_control.state. */
struct control_job {
    struct task task;
    struct rocks_engine *rocks;
};

static struct engine_control *control_of(struct task *task)
{
    struct control_job *job = CONTAINER_OF(task, struct control_job, task);
    return (struct engine_control *)(void *)((char *)job - offsetof(struct engine_control, state));
}

static int log_sync(struct rocks_engine *rocks)
{
    if (rocks_has_failed(rocks))
        return KVS_ERR_STORAGE_FAILED;
    int error = fault_hit(FAULT_FILE_SYNC) ? KVS_ERR_IO : 0; /* stands for RocksDB's call */
    if (error == 0) {
        char *text = NULL;
        rocksdb_flush_wal(rocks->db, 1, &text);
        error = rocks_error_logged(rocks, "syncing", text);
    }
    if (error != 0)
        rocks_fail(rocks, "syncing", error);
    else
        rocks_count_up(&rocks->syncs, 1);
    return error;
}

static void control_sync(struct task *task)
{
    struct rocks_engine *rocks = CONTAINER_OF(task, struct control_job, task)->rocks;
    control_complete(control_of(task), log_sync(rocks));
}

/* What is in memory tables goes to table files, and the write-ahead log is empty. */
static int database_flush(struct rocks_engine *rocks)
{
    rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create(); /* waits, by default */
    char *text = NULL;
    rocksdb_flush(rocks->db, flush, &text);
    rocksdb_flushoptions_destroy(flush);
    return rocks_error_logged(rocks, "flushing", text);
}

static int database_compact(struct rocks_engine *rocks)
{
    int error = database_flush(rocks);
    if (error != 0)
        return error;
    uint64_t errors_before = 0;
    uint64_t errors = 0;
    rocksdb_property_int(rocks->db, "rocksdb.background-errors", &errors_before);
    rocksdb_compact_range(rocks->db, NULL, 0, NULL, 0); /* tells nothing of how it went */
    rocksdb_property_int(rocks->db, "rocksdb.background-errors", &errors);
    rocks_count_up(&rocks->compactions, 1);
    if (atomic_load_explicit(&rocks->compact_ended, memory_order_relaxed))
        return KVS_ERR_CANCELLED;
    return errors == errors_before ? 0 : KVS_ERR_IO;
}

static void control_compact(struct task *task)
{
    struct rocks_engine *rocks = CONTAINER_OF(task, struct control_job, task)->rocks;
    control_complete(control_of(task), database_compact(rocks));
}

static int database_copy(struct rocks_engine *rocks, const char *path)
{
    char *db_path = mem_printf("%s/" DATABASE_NAME, path);
    if (db_path == NULL)
        return KVS_ERR_NO_MEMORY;
    char *text = NULL;
    rocksdb_checkpoint_t *checkpoint = rocksdb_checkpoint_object_create(rocks->db, &text);
    if (text == NULL) {
        rocksdb_checkpoint_create(checkpoint, db_path, 0, &text);
        rocksdb_checkpoint_object_destroy(checkpoint);
    }
    mem_free(db_path);
    return rocks_error_logged(rocks, "making a checkpoint", text);
}

static void control_checkpoint(struct task *task)
{
    struct rocks_engine *rocks = CONTAINER_OF(task, struct control_job, task)->rocks;
    struct engine_control *control = control_of(task);
    int error = engine_directory_make_blocking(control->path);
    if (error == 0)
        error = database_copy(rocks, control->path);
    if (error == 0)
        error = engine_directory_mark_blocking(control->path, ENGINE_NAME);
    control_complete(control, error);
}

static void control_start(struct rocks_engine *rocks, struct engine_control *control)
{
    struct control_job *job = (struct control_job *)(void *)control->state;
    _Static_assert(sizeof *job <= sizeof control->state, "state is large enough");
    job->rocks = rocks;
    switch (control->kind) {
    case ENGINE_CONTROL_SYNC:
        if (rocks->sync == KVS_SYNC_ALWAYS) { /* what was acknowledged is synced */
            control_complete(control, rocks_has_failed(rocks) ? KVS_ERR_STORAGE_FAILED : 0);
            return;
        }
        job->task.run = control_sync;
        pool_submit_task(rocks->sync_pool, &job->task);
        return;
    case ENGINE_CONTROL_COMPACT:
        job->task.run = control_compact;
        break;
    default:
        job->task.run = control_checkpoint;
    }
    pool_submit_task(rocks->maintenance_pool, &job->task);
}

/* --- the worker ------------------------------------------------------------------------------- */

static void interval_sync(struct task *task)
{
    struct rocks_engine *rocks = CONTAINER_OF(task, struct rocks_engine, sync_job);
    (void)log_sync(rocks); /* a failure stops all writes */
    /* release: pairs with the acquire in interval_sync_start, which reuses the task. */
    atomic_store_explicit(&rocks->sync_running, false, memory_order_release);
}

static void interval_sync_start(struct rocks_engine *rocks)
{
    uint64_t now = clock_now_ms();
    if (rocks->sync_due_ms == 0 || now < rocks->sync_due_ms)
        return;
    rocks->sync_due_ms = 0;
    if (atomic_load_explicit(&rocks->sync_running, memory_order_acquire)) {
        rocks->sync_due_ms = now + rocks->sync_interval_ms; /* a slow disk: it takes longer */
        return;
    }
    atomic_store_explicit(&rocks->sync_running, true, memory_order_relaxed);
    rocks->sync_job.run = interval_sync;
    pool_submit_task(rocks->sync_pool, &rocks->sync_job);
}

static uint64_t rocks_run(struct engine_worker *worker, struct task_list *writes,
                          struct task_list *controls)
{
    struct rocks_engine *rocks = CONTAINER_OF(worker, struct rocks_engine, worker);
    groups_write(rocks, writes);
    struct task *task;
    while ((task = task_list_pop(controls)) != NULL)
        control_start(rocks, CONTAINER_OF(task, struct engine_control, op.task));
    interval_sync_start(rocks);
    return rocks->sync_due_ms;
}

static void rocks_write(struct engine *engine, struct task_list *writes)
{
    engine_worker_write(&rocks_of(engine)->worker, writes);
}

static void rocks_control(struct engine *engine, struct engine_control *control)
{
    engine_worker_control(&rocks_of(engine)->worker, control);
}

static void rocks_compact_no_more(struct engine *engine)
{
    struct rocks_engine *rocks = rocks_of(engine);
    /* relaxed: a compaction that RocksDB leaves because of the next line sees it by that. */
    atomic_store_explicit(&rocks->compact_ended, true, memory_order_relaxed);
    rocksdb_disable_manual_compaction(rocks->db);
}

static void rocks_read(struct engine *engine, struct engine_read *read)
{
    pool_read_submit(rocks_of(engine)->pool, engine, read);
}

/* --- statistics ------------------------------------------------------------------------------- */

/* What is in the directory now; files may go while we look. */
static void files_sum(const char *path, uint64_t *ret_bytes, uint64_t *ret_data_files)
{
    DIR *directory = opendir(path);
    if (directory == NULL)
        return;
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        struct stat status;
        if (fstatat(dirfd(directory), entry->d_name, &status, 0) != 0 || !S_ISREG(status.st_mode))
            continue;
        *ret_bytes += (uint64_t)status.st_size;
        const char *dot = strrchr(entry->d_name, '.');
        *ret_data_files += dot != NULL && (strcmp(dot, ".sst") == 0 || strcmp(dot, ".log") == 0);
    }
    closedir(directory);
}

static uint64_t property(const struct rocks_engine *rocks, const char *name)
{
    uint64_t value = 0;
    return rocksdb_property_int(rocks->db, name, &value) == 0 ? value : 0;
}

static void rocks_stats(struct engine *engine, struct engine_stats *ret_stats)
{
    const struct rocks_engine *rocks = rocks_of(engine);
    uint64_t disk_bytes = 0;
    uint64_t data_files = 0;
    files_sum(rocks->db_path, &disk_bytes, &data_files);
    uint64_t memtables = property(rocks, "rocksdb.cur-size-all-mem-tables");
    *ret_stats = (struct engine_stats){
        .keys = property(rocks, "rocksdb.estimate-num-keys"),
        .live_bytes = property(rocks, "rocksdb.estimate-live-data-size") + memtables,
        .disk_bytes = disk_bytes,
        .cache_bytes = rocksdb_cache_get_usage(rocks->cache),
        .index_bytes = property(rocks, "rocksdb.estimate-table-readers-mem") + memtables,
        .segments = data_files,
        .snapshots = atomic_load_explicit(&rocks->snapshots_taken, memory_order_relaxed),
        .writes = atomic_load_explicit(&rocks->writes, memory_order_relaxed),
        .groups = atomic_load_explicit(&rocks->groups, memory_order_relaxed),
        .syncs = atomic_load_explicit(&rocks->syncs, memory_order_relaxed),
        .compactions = atomic_load_explicit(&rocks->compactions, memory_order_relaxed),
        .failed = rocks_has_failed(rocks),
    };
}

/* --- closing ---------------------------------------------------------------------------------- */

/* Also of an engine that was opened only in part. All threads but those of the pools are gone. */
static void rocks_free(struct rocks_engine *rocks)
{
    kvs_thread_pool_unref(rocks->sync_pool); /* ends when its work is done */
    kvs_thread_pool_unref(rocks->maintenance_pool);
    if (rocks->current != NULL)
        snapshot_unref(rocks->current);
    if (rocks->db != NULL)
        rocksdb_close(rocks->db);
    if (rocks->write_options != NULL)
        rocksdb_writeoptions_destroy(rocks->write_options);
    if (rocks->newest != NULL)
        rocksdb_readoptions_destroy(rocks->newest);
    if (rocks->options != NULL)
        rocksdb_options_destroy(rocks->options);
    if (rocks->filter != NULL)
        rocksdb_compactionfilter_destroy(rocks->filter);
    if (rocks->cache != NULL)
        rocksdb_cache_destroy(rocks->cache);
    if (rocks->lock_fd >= 0)
        close(rocks->lock_fd); /* which unlocks */
    pthread_mutex_destroy(&rocks->lock);
    kvs_thread_pool_unref(rocks->pool);
    mem_free(rocks->directory);
    mem_free(rocks->db_path);
    mem_free(rocks);
}

static int rocks_close_blocking(struct engine *engine)
{
    struct rocks_engine *rocks = rocks_of(engine);
    engine_worker_stop(&rocks->worker);
    kvs_thread_pool_unref(rocks->sync_pool);
    rocks->sync_pool = NULL;
    int error = rocks_has_failed(rocks) ? KVS_ERR_STORAGE_FAILED : 0;
    if (error == 0 && rocks->sync != KVS_SYNC_NEVER)
        error = log_sync(rocks);
    if (error == 0 && rocks->sync != KVS_SYNC_NEVER)
        error = database_flush(rocks);
    rocks_free(rocks);
    return error;
}

/* --- opening ---------------------------------------------------------------------------------- */

static const struct engine_methods rocks_methods = {
    .name = ENGINE_NAME,
    .view_begin = rocks_view_begin,
    .view_end = rocks_view_end,
    .get = rocks_get,
    .get_many = rocks_get_many,
    .expiry = rocks_expiry,
    .scan = rocks_scan,
    .count = rocks_count,
    .snapshot_take = rocks_snapshot_take,
    .snapshot_release = rocks_snapshot_release,
    .read = rocks_read,
    .write = rocks_write,
    .control = rocks_control,
    .compact_no_more = rocks_compact_no_more,
    .stats = rocks_stats,
    .close_blocking = rocks_close_blocking,
};

static void filter_destroy(void *state)
{
}

static const char *filter_name(void *state)
{
    return "kvs.expired";
}

/* Called by compaction for each key: 1 has it dropped. What is damaged is kept, for whoever reads
 * it to see. */
static unsigned char filter_drops(void *state, int level, const char *key, size_t key_size,
                                  const char *data, size_t size, char **ret_value,
                                  size_t *ret_value_size, unsigned char *ret_changed)
{
    uint64_t expires_ms;
    kvs_slice value;
    *ret_changed = 0;
    if (stored_value_decode(slice_make(data, size), &expires_ms, &value) != 0)
        return 0;
    return expires_ms != 0 && is_over(expires_ms + EXPIRED_KEPT_MS, clock_wall_ms());
}

static int open_files_max(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
        limit.rlim_cur > 1u << 20)
        return -1;
    int half = (int)(limit.rlim_cur / 2); /* the rest is for connections */
    return half > OPEN_FILES_MIN ? half : OPEN_FILES_MIN;
}

/* Blocks, and what finds them, in one budget: `--cache` is what is used, beside memory tables. */
static void table_options_set(struct rocks_engine *rocks)
{
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, rocks->cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
    /* The options take the policy over. */
    rocksdb_block_based_options_set_filter_policy(
        table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS_PER_KEY));
    rocksdb_block_based_options_set_format_version(table, 5);
    rocksdb_options_set_block_based_table_factory(rocks->options, table);
    rocksdb_block_based_options_destroy(table);
}

static void options_make(struct rocks_engine *rocks, uint64_t cache_size)
{
    uint64_t memtable = cache_size / 8;
    if (memtable < MEMTABLE_SIZE_MIN)
        memtable = MEMTABLE_SIZE_MIN;
    if (memtable > MEMTABLE_SIZE_MAX)
        memtable = MEMTABLE_SIZE_MAX;
    rocksdb_options_t *options = rocksdb_options_create();
    rocks->options = options;
    rocks->cache = rocksdb_cache_create_lru(cache_size);
    rocks->filter =
        rocksdb_compactionfilter_create(NULL, filter_destroy, filter_drops, filter_name);
    table_options_set(rocks);
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_paranoid_checks(options, 1);
    rocksdb_options_set_wal_recovery_mode(options,
                                          rocksdb_tolerate_corrupted_tail_records_recovery);
    rocksdb_options_set_write_buffer_size(options, memtable);
    rocksdb_options_set_max_background_jobs(options, 2);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 1);
    rocksdb_options_set_compression(options, rocksdb_lz4_compression);
    rocksdb_options_set_compaction_filter(options, rocks->filter);
    rocksdb_options_set_max_open_files(options, open_files_max());
    rocksdb_options_set_info_log_level(options, INFO_LOG_WARN);
    rocksdb_options_set_max_log_file_size(options, INFO_LOG_SIZE_MAX);
    rocksdb_options_set_keep_log_file_num(options, INFO_LOG_FILES);
    rocksdb_options_set_stats_dump_period_sec(options, 0);
    rocks->write_options = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(rocks->write_options, rocks->sync == KVS_SYNC_ALWAYS);
    rocks->newest = rocksdb_readoptions_create();
}

/* Without its file CURRENT RocksDB would make a new database, and remove the files of this one. */
static bool database_is_beheaded(const struct rocks_engine *rocks)
{
    char path[PATH_MAX];
    uint64_t bytes = 0;
    uint64_t data_files = 0;
    snprintf(path, sizeof path, "%s/CURRENT", rocks->db_path);
    files_sum(rocks->db_path, &bytes, &data_files);
    return data_files > 0 && access(path, F_OK) != 0;
}

static int database_open(struct rocks_engine *rocks, struct engine_message *message)
{
    if (database_is_beheaded(rocks))
        return engine_directory_fail(message, KVS_ERR_CORRUPTION, rocks->db_path,
                                     "there are data files, but the file CURRENT is missing");
    char *text = NULL;
    rocks->db = rocksdb_open(rocks->options, rocks->db_path, &text);
    if (text == NULL)
        return 0;
    rocks->db = NULL;
    snprintf(message->text, sizeof message->text, "%s: RocksDB says: %s", rocks->directory, text);
    bool no_files = strstr(text, "Too many open files") != NULL; /* later that is IO, and stays */
    int error = rocks_error(text);
    return no_files ? KVS_ERR_TOO_MANY_FILES : error;
}

static int rocks_new(const struct engine_options *options, struct rocks_engine **ret_rocks)
{
    struct rocks_engine *rocks = mem_zalloc(sizeof *rocks);
    if (rocks == NULL)
        return KVS_ERR_NO_MEMORY;
    rocks->engine.methods = &rocks_methods;
    rocks->engine.capabilities = ENGINE_CAP_DURABLE | ENGINE_CAP_CHECKPOINT | ENGINE_CAP_ESTIMATES;
    rocks->lock_fd = -1;
    rocks->sync = options->sync;
    rocks->sync_interval_ms =
        options->sync_interval_ms != 0 ? options->sync_interval_ms : SYNC_INTERVAL_MS_DEFAULT;
    pthread_mutex_init(&rocks->lock, NULL); /* cannot fail on Linux */
    rocks->pool = kvs_thread_pool_ref(options->pool);
    rocks->directory = mem_strdup(options->directory);
    rocks->db_path = mem_printf("%s/" DATABASE_NAME, options->directory);
    int error = rocks->directory == NULL || rocks->db_path == NULL ? KVS_ERR_NO_MEMORY : 0;
    if (error == 0)
        error = kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, 1, &rocks->sync_pool);
    if (error == 0)
        error = kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, 1, &rocks->maintenance_pool);
    if (error != 0) {
        rocks_free(rocks);
        return error;
    }
    options_make(rocks, options->cache_size_bytes != 0 ? options->cache_size_bytes
                                                       : machine_memory_bytes() / 4);
    *ret_rocks = rocks;
    return 0;
}

static int first_snapshot(struct rocks_engine *rocks)
{
    struct engine_snapshot *snapshot = snapshot_new(rocks);
    if (snapshot == NULL)
        return KVS_ERR_NO_MEMORY;
    snapshot_fix(snapshot);
    snapshot_publish(rocks, snapshot);
    return 0;
}

int rocksdb_engine_open_blocking(const struct engine_options *options, struct engine **ret_engine,
                                 struct engine_message *ret_message)
{
    ret_message->text[0] = '\0';
    struct rocks_engine *rocks;
    const char *why;
    int error = rocksdb_library_load(&why);
    if (error != 0)
        return engine_directory_fail(ret_message, error, options->directory, why);
    error = rocks_new(options, &rocks);
    if (error != 0)
        return engine_directory_fail(ret_message, error, options->directory, "cannot be opened");
    error = engine_directory_open_blocking(options, ENGINE_NAME, &rocks->lock_fd, ret_message);
    if (error == 0)
        error = database_open(rocks, ret_message);
    if (error == 0)
        error = first_snapshot(rocks);
    if (error == 0) {
        rocks->worker.run = rocks_run;
        error = engine_worker_start(&rocks->worker, "kvs-rocksdb");
    }
    if (error != 0) {
        if (ret_message->text[0] == '\0')
            engine_directory_fail(ret_message, error, options->directory, "cannot be opened");
        rocks_free(rocks);
        return error;
    }
    *ret_engine = &rocks->engine;
    return 0;
}

/*
 * engine/log/segments.c: the list of segment files.
 *
 * Rolling: 1. a seal ends the newest; 2. a new file with a header is begun under the next number,
 * its bytes built in memory; 3. memory of old segments beyond the cache budget is dropped.
 *
 * Preparing (--sync=always): the background thread writes zeros ahead of the log's end and syncs
 * them, so that the sync of a group has only data to write and no file size or extent (measured: a
 * sync of 8 KiB takes half to two thirds of the time). A step follows when half of the one before
 * is used, and is twice as long, so small stores stay small. The writer waits for no step, only for
 * a part of one that is being written where it wants to write itself; when it is ahead of the
 * zeros, they go on behind it. Zeros are bytes for the disk, too, and a sync that meets them waits
 * for them: so they go there a MiB at a time, and where groups are large, they are left out
 * (measured: writes of 4 to 16 KiB gain a quarter to a third by them, of 32 KiB nothing).
 *
 * Entries and writing out (not --sync=always): where one segment follows another fast, empty files
 * for those to come are made and their directory entries synced in the background, so that a roll
 * waits for no sync; and what was written goes to the disk 4 MiB at a time, before the system has
 * gigabytes of it, and out of the system's memory, where the cache has it anyway (measured, sets of
 * 4 KiB: both together up to twice as many). A page that was not forgotten costs the next write a
 * new one, which a virtual machine's host has to find: half of the writer's time, once.
 *
 * Failure: of a roll, the batch that needed it is refused and the old segment stays the newest.
 * Thread: the writer, but for the jobs.
 */
#include "engine/log/log_engine.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/file.h"
#include "engine/log/hint_file.h"
#include "runtime/thread.h"
#include "runtime/thread_pool.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define PREPARE_STEP_FIRST (256u * 1024)
#define PREPARE_STEP_MAX (4u * 1024 * 1024)
#define PREPARE_WRITE (128u * 1024)
#define PREPARE_SYNC (1024u * 1024)
#define PREPARE_GROUP_MAX (32u * 1024)

#define RESERVE_FREE 8u /* of free space, a segment's blocks may be this part */

#define ENTRIES_AHEAD 8u
#define ENTRIES_FAST_MS 1000u /* from one segment to the next */

#define OUT_FAST (6u * 1024 * 1024)        /* written in RATE_MS */
#define OUT_STEP (4u * 1024 * 1024)        /* written out at a time, ... */
#define OUT_MAX (16u * 1024 * 1024)        /* ... and by one job */
#define OUT_BEHIND (128u * 1024)           /* of the newest, whose last blocks are still changed */
#define OUT_SEGMENTS_MAX 32u               /* those before are left to the system */
#define FORGET_BEHIND (512u * 1024 * 1024) /* of the log: what the system has not written by then */

/* --- jobs in the background ------------------------------------------------------------------- */

bool background_runs(struct log_engine *log, const bool *is_running)
{
    pthread_mutex_lock(&log->preparation.mutex);
    bool runs = *is_running;
    pthread_mutex_unlock(&log->preparation.mutex);
    return runs;
}

void background_is_over(struct log_engine *log, bool *is_running)
{
    pthread_mutex_lock(&log->preparation.mutex);
    *is_running = false;
    pthread_cond_broadcast(&log->preparation.changed);
    pthread_mutex_unlock(&log->preparation.mutex);
}

bool rate_take(struct write_rate *rate, uint64_t written, uint64_t *ret_written)
{
    uint64_t now_ms = clock_coarse_ms();
    uint64_t elapsed_ms = now_ms - rate->since_ms;
    rate->written += written;
    if (elapsed_ms < RATE_MS)
        return false;
    *ret_written = rate->written * RATE_MS / elapsed_ms;
    *rate = (struct write_rate){.since_ms = now_ms};
    return true;
}

void segment_path(const struct log_engine *log, uint32_t number, char *out, size_t size)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name_format(number, name);
    snprintf(out, size, "%s/%s", log->directory, name);
}

int segment_open_anew(const struct log_engine *log, uint32_t number, int *ret_fd)
{
    char path[SEGMENT_PATH_SIZE];
    segment_path(log, number, path, sizeof path);
    return file_open(path, O_WRONLY, ret_fd);
}

static int slot_find(struct log_engine *log, uint32_t *ret_slot)
{
    for (uint32_t i = 0; i < SEGMENT_SLOTS; i++) {
        uint32_t slot = (log->next_slot + i) % SEGMENT_SLOTS;
        if (atomic_load_explicit(&log->slots[slot], memory_order_relaxed) == NULL) {
            log->next_slot = slot + 1;
            *ret_slot = slot;
            return 0;
        }
    }
    return KVS_ERR_NO_SPACE;
}

int segments_add(struct log_engine *log, uint32_t number, struct segment **ret_segment)
{
    uint32_t slot;
    int error = slot_find(log, &slot);
    if (error != 0)
        return error;
    struct segment *segment = mem_zalloc(sizeof *segment);
    if (segment == NULL)
        return KVS_ERR_NO_MEMORY;
    segment->number = number;
    segment->begun_ms = clock_wall_ms();
    segment->slot = slot;
    segment->fd = -1;
    segment->direct_fd = -1;
    segment->accounts.set_sequence_min = UINT64_MAX;
    if (log->newest != NULL)
        log->newest->next = segment;
    else
        log->oldest = segment;
    log->newest = segment;
    /* release: pairs with the acquire in segment_at. */
    atomic_store_explicit(&log->slots[slot], segment, memory_order_release);
    *ret_segment = segment;
    return 0;
}

static void list_unlink(struct log_engine *log, struct segment *segment)
{
    struct segment *before = NULL;
    for (struct segment *at = log->oldest; at != segment; at = at->next)
        before = at;
    if (before != NULL)
        before->next = segment->next;
    else
        log->oldest = segment->next;
    if (log->newest == segment)
        log->newest = before;
    segment->next = NULL;
}

static uint8_t *memory_detach(struct log_engine *log, struct segment *segment)
{
    /* release: a reader that still finds it is inside an epoch that keeps it mapped. */
    uint8_t *memory = atomic_exchange_explicit(&segment->memory, NULL, memory_order_acq_rel);
    if (memory != NULL)
        log->cached_bytes -= segment->capacity;
    return memory;
}

void segment_forget_memory(struct log_engine *log, struct segment *segment)
{
    uint8_t *memory = memory_detach(log, segment);
    if (memory != NULL)
        version_defer_memory(log, memory);
}

void segments_unlink(struct log_engine *log, struct segment *segment)
{
    list_unlink(log, segment);
    segment->state = SEGMENT_EMPTIED;
    stat_add(&log->stat_held_bytes, segment->size);
    segment_forget_memory(log, segment);
    if (segment->entries == 0)
        version_defer_segment(log, segment);
}

void segments_drop(struct log_engine *log, struct segment *segment)
{
    assert(segment->entries == 0);
    list_unlink(log, segment);
    segment_destroy(log, segment);
}

static void segment_close_direct(struct segment *segment)
{
    if (segment->direct_fd >= 0)
        close(segment->direct_fd); /* its writes have reported all there is */
    segment->direct_fd = -1;
}

void segment_destroy(struct log_engine *log, struct segment *segment)
{
    segment_memory_unref(memory_detach(log, segment));
    segment_close_direct(segment);
    if (segment->fd >= 0)
        close(segment->fd); /* nothing unsynced is left in it: no error to answer */
    atomic_store_explicit(&log->slots[segment->slot], NULL, memory_order_relaxed);
    segment_free(segment);
}

void segment_bury(struct log_engine *log, struct segment *segment)
{
    assert(segment->state == SEGMENT_EMPTIED && segment->direct_fd < 0);
    segment_memory_unref(memory_detach(log, segment));
    atomic_store_explicit(&log->slots[segment->slot], NULL, memory_order_relaxed);
    compaction_bury(log, segment);
}

void segment_entry_added(struct log_engine *log, uint64_t location)
{
    segment_at(log, location)->entries++;
}

void segment_entry_gone(struct log_engine *log, uint64_t location)
{
    struct segment *segment = segment_at(log, location);
    assert(segment->entries > 0);
    if (--segment->entries == 0 && segment->state == SEGMENT_EMPTIED)
        version_defer_segment(log, segment);
}

/* For --sync=always. Tried with the block that holds the header, or the end of what was recovered:
 * a file system may open so and then refuse to write. Measured on ext4: 56 us a write of 8 KiB,
 * where write and fdatasync take 76 us. */
void segment_open_direct(struct log_engine *log, struct segment *segment)
{
    char path[SEGMENT_PATH_SIZE];
    segment_path(log, segment->number, path, sizeof path);
    if (log->sync != KVS_SYNC_ALWAYS || file_open_direct(path, &segment->direct_fd) != 0)
        return;
    if (segment_write_direct(segment, segment->size - 1) != 0)
        segment_close_direct(segment);
}

int segment_write_direct(const struct segment *segment, uint32_t from)
{
    uint8_t *memory = atomic_load_explicit(&segment->memory, memory_order_relaxed);
    uint32_t begin = from / FILE_BLOCK_SIZE * FILE_BLOCK_SIZE;
    uint32_t end = (uint32_t)file_block_end(segment->size);
    /* What was there before, of an undone group or of another segment, must not come back. */
    memset(memory + segment->size, 0, end - segment->size);
    return file_write_direct(segment->direct_fd, memory + begin, end - begin, begin);
}

/* A write behind the end of a file has to find blocks, and for that the file system locks what it
 * knows of the file's blocks; it does so, too, for each part that has come to the disk (measured
 * on ext4, discard: up to 4 ms, where the disk is told of a block that is not needed any more). So
 * a set would wait for what is written out in the background. Not for --sync=always, which writes
 * zeros ahead, and not while the store is small, or the disk nearly full. */
static void segment_reserve(struct log_engine *log, struct segment *segment)
{
    struct file_space space;
    segment->is_reserved =
        log->sync != KVS_SYNC_ALWAYS && stat_get(&log->stat_disk_bytes) >= segment->capacity &&
        file_space(log->directory, &space) == 0 && space.free / RESERVE_FREE >= segment->capacity;
    if (segment->is_reserved)
        file_reserve(segment->fd, segment->capacity);
}

void segments_unreserve(struct log_engine *log)
{
    struct segment *newest = log->newest;
    if (newest->is_reserved && file_truncate(newest->fd, newest->size) == 0)
        newest->is_reserved = false; /* else it stays as it is */
}

/* Not begun after all: it would be cut off anyway. One that was made ahead stays, empty: its entry
 * counts as synced. */
static void segment_unmake_file(struct log_engine *log, const struct segment *segment)
{
    char path[SEGMENT_PATH_SIZE];
    segment_path(log, segment->number, path, sizeof path);
    if (segment->number > log->entry_sync.made_to)
        (void)file_unlink(path);
    else if (segment->fd >= 0)
        (void)file_truncate(segment->fd, 0);
}

static int segment_create_file(struct log_engine *log, struct segment *segment)
{
    char path[SEGMENT_PATH_SIZE];
    segment_path(log, segment->number, path, sizeof path);
    int error = file_open(path, O_RDWR | O_CREAT | O_TRUNC, &segment->fd);
    if (error != 0)
        return error;
    uint8_t *memory = atomic_load_explicit(&segment->memory, memory_order_relaxed);
    segment_header_encode(memory, segment->number, log->working.sequence + 1,
                          (uint32_t)rand_u64(&log->rand));
    segment->size = SEGMENT_HEADER_SIZE;
    segment->prepared = SEGMENT_HEADER_SIZE;
    segment_reserve(log, segment);
    error = file_write(segment->fd, memory, SEGMENT_HEADER_SIZE, 0);
    if (error == 0 && log->sync == KVS_SYNC_ALWAYS) {
        error = file_sync_directory(log->directory);
        if (error == 0)
            log->directory_synced = segment->number;
    }
    if (error == 0)
        segment_open_direct(log, segment);
    if (error != 0)
        segment_unmake_file(log, segment);
    return error;
}

/* One that is not begun after all: the next one may have its memory. */
static void segment_unbegin(struct log_engine *log, struct segment *segment)
{
    spares_give(log, memory_detach(log, segment));
    log->faulting.segment = 0; /* its number comes again */
    segments_drop(log, segment);
}

int segments_begin(struct log_engine *log, uint64_t size)
{
    uint64_t capacity = SEGMENT_HEADER_SIZE + size + RECORD_MARK_SIZE + RECORD_SEAL_SIZE;
    if (capacity < log->segment_size)
        capacity = log->segment_size;
    capacity = file_block_end(capacity);
    if (capacity > UINT32_MAX)
        return KVS_ERR_TOO_LARGE;
    if (log->next_number == 0) /* after 2^32 - 1 segments */
        return KVS_ERR_NO_SPACE;
    uint8_t *memory = spares_take(log, (uint32_t)capacity);
    if (memory == NULL)
        return KVS_ERR_NO_MEMORY;
    struct segment *segment;
    int error = segments_add(log, log->next_number, &segment);
    if (error != 0) {
        segment_memory_unref(memory);
        return error;
    }
    segment->capacity = (uint32_t)capacity;
    atomic_store_explicit(&segment->memory, memory, memory_order_release);
    log->cached_bytes += capacity;
    error = segment_create_file(log, segment);
    if (error != 0) {
        segment_unbegin(log, segment);
        return error;
    }
    log->next_number++;
    return 0;
}

/* No more is written; waits for what is on its way, but for no sync. */
static void preparation_stop(struct preparation *preparation)
{
    pthread_mutex_lock(&preparation->mutex);
    preparation->to = 0;
    while (preparation->is_writing)
        pthread_cond_wait(&preparation->changed, &preparation->mutex);
    pthread_mutex_unlock(&preparation->mutex);
}

int segment_seal(struct log_engine *log, struct segment *segment)
{
    uint8_t *memory = atomic_load_explicit(&segment->memory, memory_order_relaxed);
    record_seal_encode(memory + segment->size, segment->number, log->working.sequence);
    int error = file_write(segment->fd, memory + segment->size, RECORD_SEAL_SIZE, segment->size);
    if (error == 0 && !segment->is_reserved) /* else the compaction's thread does it */
        error = file_truncate(segment->fd, (uint64_t)segment->size + RECORD_SEAL_SIZE);
    if (error == 0 && log->sync == KVS_SYNC_ALWAYS)
        error = file_sync(segment->fd);
    return error;
}

/* --- directory entries ------------------------------------------------------------------------ */

/* Empty files, in the log's order. One that cannot be made is made when it is needed. */
static void entries_make(struct log_engine *log)
{
    struct entry_sync *entry_sync = &log->entry_sync;
    char path[SEGMENT_PATH_SIZE];
    while (entry_sync->segment < entry_sync->make_to) {
        int fd;
        segment_path(log, entry_sync->segment + 1, path, sizeof path);
        if (file_open(path, O_WRONLY | O_CREAT, &fd) != 0)
            break;
        close(fd);
        entry_sync->segment++;
    }
    background_is_over(log, &entry_sync->is_making);
}

static void directory_job(struct task *task)
{
    struct log_engine *log = CONTAINER_OF(task, struct log_engine, entry_sync.job);
    struct entry_sync *entry_sync = &log->entry_sync;
    entries_make(log);
    int error = file_sync_directory(log->directory);
    pthread_mutex_lock(&log->preparation.mutex);
    entry_sync->is_running = false;
    entry_sync->error = error;
    pthread_cond_broadcast(&log->preparation.changed);
    pthread_mutex_unlock(&log->preparation.mutex);
}

/* Takes over what the job has done, if it is over; `waits` until it is. A new segment must not be
 * begun while files are made: one that has come and gone meanwhile would be made again. */
static bool entry_sync_look(struct log_engine *log, bool waits)
{
    struct entry_sync *entry_sync = &log->entry_sync;
    pthread_mutex_lock(&log->preparation.mutex);
    while (entry_sync->is_making || (waits && entry_sync->is_running))
        pthread_cond_wait(&log->preparation.changed, &log->preparation.mutex);
    bool is_over = !entry_sync->is_running;
    bool is_done = is_over && entry_sync->error == 0;
    pthread_mutex_unlock(&log->preparation.mutex);
    if (is_done && entry_sync->segment > log->directory_synced)
        log->directory_synced = entry_sync->segment;
    return is_over;
}

/* In the background: the newest one's entry, and where one segment follows another fast, entries of
 * those to come. For a sync of the directory waits behind all that is on its way to the disk, and
 * that may take longer than a segment. */
static void entry_sync_start(struct log_engine *log)
{
    struct entry_sync *entry_sync = &log->entry_sync;
    uint32_t newest = log->newest->number;
    uint64_t now_ms = clock_coarse_ms();
    bool is_fast = now_ms - entry_sync->rolled_ms < ENTRIES_FAST_MS;
    bool may_make = is_fast && log->sync != KVS_SYNC_ALWAYS && newest < UINT32_MAX - ENTRIES_AHEAD;
    entry_sync->rolled_ms = now_ms;
    uint32_t wanted = may_make ? newest + ENTRIES_AHEAD / 2 : newest;
    if (!entry_sync_look(log, false) || wanted <= log->directory_synced)
        return;
    entry_sync->segment = newest;
    entry_sync->make_to = may_make ? newest + ENTRIES_AHEAD : newest;
    if (entry_sync->make_to > entry_sync->made_to)
        entry_sync->made_to = entry_sync->make_to;
    entry_sync->is_running = true; /* no one else looks until the job is there */
    entry_sync->is_making = true;
    entry_sync->job.run = directory_job;
    pool_submit_task(log->urgent_pool, &entry_sync->job);
}

/* Were the next one's directory entry to survive a power cut and this one's not, this one would
 * pass for compacted. So the next one gets no header before. */
static int entry_ensure(struct log_engine *log, uint32_t segment)
{
    (void)entry_sync_look(log, false);
    if (segment > log->directory_synced)
        (void)entry_sync_look(log, true);
    if (segment <= log->directory_synced)
        return 0;
    /* What failed in the background has done nothing. */
    int error = file_sync_directory(log->directory);
    if (error == 0)
        log->directory_synced = segment;
    return error;
}

void segments_remove_made(struct log_engine *log)
{
    char path[SEGMENT_PATH_SIZE];
    if (log->entry_sync.made_to <= log->newest->number)
        return;
    /* What is not done here, the next start does. */
    for (uint32_t number = log->entry_sync.made_to; number > log->newest->number; number--) {
        segment_path(log, number, path, sizeof path);
        (void)file_unlink(path);
    }
    (void)file_sync_directory(log->directory);
}

/* There was room for the next segment's header, but not for this one's seal. The number comes
 * again; a file that is left behind is what a crash in a roll leaves. */
static int roll_undo(struct log_engine *log, struct segment *full)
{
    struct segment *next = log->newest;
    int error = file_truncate(full->fd, full->size);
    if (error == 0 && log->sync == KVS_SYNC_ALWAYS)
        error = file_sync(full->fd);
    if (error != 0)
        return error;
    full->prepared = full->size;
    segment_unmake_file(log, next);
    segment_unbegin(log, next);
    log->next_number--;
    return 0;
}

/* The next segment is begun before this one is sealed: if there is no room for it, this one goes
 * on. A crash between the two leaves a newest segment with only a header and one before without
 * seal: see recovery.c. */
int segments_roll(struct log_engine *log, uint64_t size)
{
    struct segment *full = log->newest;
    preparation_stop(&log->preparation);
    int error = entry_ensure(log, full->number);
    if (error == 0)
        error = segments_begin(log, size);
    if (error != 0)
        return error;
    error = segment_seal(log, full);
    if (error == KVS_ERR_NO_SPACE && roll_undo(log, full) == 0)
        return error;
    if (error != 0) {
        /* Half a seal may be on the disk: nothing can be appended behind it. */
        atomic_store_explicit(&log->failed, true, memory_order_relaxed);
        log_error("%s: sealing segment %u failed (%s); no more writes until it is opened again",
                  log->directory, full->number, kvs_error_text(error));
        return KVS_ERR_STORAGE_FAILED;
    }
    segment_close_direct(full);
    full->size += RECORD_SEAL_SIZE;
    full->state = SEGMENT_SEALED;
    if (log->sync == KVS_SYNC_ALWAYS) {
        log->synced_segment = log->newest->number;
        log->synced_offset = 0;
    }
    entry_sync_start(log);
    segments_evict(log);
    segments_count(log);
    log->upkeep_due = true; /* the full one needs a hint */
    return 0;
}

/* The one that is full now is about to get its hint, which would be made from the file else. */
static bool is_kept_for_hint(const struct log_engine *log, const struct segment *segment)
{
    return segment->next == log->newest && segment->state == SEGMENT_SEALED &&
           segment->hint == SEGMENT_HINT_NONE && !segment->stuck;
}

void segments_evict(struct log_engine *log)
{
    spares_trim(log);
    struct segment *segment = log->oldest;
    while (log->cached_bytes > log->cache_size_max && segment != log->newest) {
        if (!segment->is_victim && !is_kept_for_hint(log, segment))
            segment_forget_memory(log, segment);
        segment = segment->next;
    }
}

void segments_count(struct log_engine *log)
{
    uint64_t disk = 0;
    uint64_t live = 0;
    uint64_t segments = 0;
    for (struct segment *segment = log->oldest; segment != NULL; segment = segment->next) {
        disk += segment->size + segment->hint_size;
        live += segment->accounts.live_bytes;
        segments++;
    }
    if (log->group_version != NULL) /* what the open group has is counted when it is written */
        disk -= log->newest->size - log->group_offset;
    stat_set(&log->stat_disk_bytes, disk);
    stat_set(&log->stat_live_bytes, live);
    stat_set(&log->stat_segments, segments);
    stat_set(&log->stat_cache_bytes, log->cached_bytes);
    stat_set(&log->stat_index_bytes, log->slab.used_bytes);
}

int segments_unlink_file(struct log_engine *log, struct segment *segment)
{
    char path[SEGMENT_PATH_SIZE];
    segment_path(log, segment->number, path, sizeof path);
    if (segment->hint == SEGMENT_HINT_THERE || segment->hint == SEGMENT_HINT_BAD)
        (void)hint_file_remove(log, segment->number, false); /* else the next start removes it */
    int error = file_unlink(path);
    return error == KVS_ERR_NO_DIRECTORY ? 0 : error; /* only the sync after it has failed before */
}

int segments_remove_file(struct log_engine *log, struct segment *segment)
{
    int error = segments_unlink_file(log, segment);
    return error != 0 ? error : file_sync_directory(log->directory);
}

/* --- preparing -------------------------------------------------------------------------------- */

/* The next part to be written; false when that was all. */
static bool zeros_next(struct preparation *preparation, uint64_t *ret_from, size_t *ret_size)
{
    pthread_mutex_lock(&preparation->mutex);
    preparation->is_writing = preparation->next < preparation->to;
    if (preparation->is_writing) {
        uint64_t left = preparation->to - preparation->next;
        *ret_size = left < PREPARE_WRITE ? (size_t)left : PREPARE_WRITE;
        *ret_from = preparation->from = preparation->next;
        preparation->next += *ret_size;
    }
    bool is_writing = preparation->is_writing;
    pthread_mutex_unlock(&preparation->mutex);
    return is_writing;
}

static void zeros_written(struct preparation *preparation, int error)
{
    pthread_mutex_lock(&preparation->mutex);
    preparation->is_writing = false;
    if (error != 0)
        preparation->to = 0;
    pthread_cond_broadcast(&preparation->changed);
    pthread_mutex_unlock(&preparation->mutex);
}

static void zeros_write(struct preparation *preparation, int fd)
{
    uint8_t *zeros = mem_zalloc(PREPARE_WRITE);
    if (zeros == NULL)
        return;
    uint64_t from;
    size_t size;
    uint64_t unsynced = 0;
    while (zeros_next(preparation, &from, &size)) {
        zeros_written(preparation, file_write(fd, zeros, size, from));
        unsynced += size;
        if (unsynced >= PREPARE_SYNC) {
            (void)file_sync(fd);
            unsynced = 0;
        }
    }
    mem_free(zeros);
    if (unsynced > 0)
        (void)file_sync(fd);
}

static void prepare_job(struct task *task)
{
    struct log_engine *log = CONTAINER_OF(task, struct log_engine, preparation.job);
    struct preparation *preparation = &log->preparation;
    int fd;
    if (segment_open_anew(log, preparation->segment, &fd) == 0) { /* an error costs only time */
        zeros_write(preparation, fd);
        close(fd);
    }
    background_is_over(log, &preparation->is_running);
}

void segments_prepare(struct log_engine *log)
{
    struct segment *segment = log->newest;
    struct preparation *preparation = &log->preparation;
    if (log->sync != KVS_SYNC_ALWAYS || pace_room_is_near_end(&log->room) ||
        background_runs(log, &preparation->is_running))
        return;
    uint64_t ahead = segment->prepared > segment->size ? segment->prepared - segment->size : 0;
    uint32_t last_step = preparation->step > 0 ? preparation->step : PREPARE_STEP_FIRST;
    if (ahead > last_step / 2 || segment->prepared >= segment->capacity ||
        log->group_size_mean > PREPARE_GROUP_MAX)
        return;
    if (preparation->step < PREPARE_STEP_MAX)
        preparation->step = preparation->step == 0 ? PREPARE_STEP_FIRST : 2 * preparation->step;
    preparation->segment = segment->number;
    preparation->next =
        file_block_end(segment->prepared); /* no one else looks until the job is there */
    preparation->to = preparation->next + preparation->step;
    if (preparation->to > segment->capacity)
        preparation->to = segment->capacity;
    preparation->is_running = true;
    preparation->job.run = prepare_job;
    segment->prepared = preparation->to;
    pool_submit_task(log->background_pool, &preparation->job);
}

void segments_wait_prepared(struct log_engine *log)
{
    struct preparation *preparation = &log->preparation;
    pthread_mutex_lock(&preparation->mutex);
    preparation->to = 0;
    while (preparation->is_running || log->faulting.is_running || log->entry_sync.is_running ||
           log->write_out.is_running)
        pthread_cond_wait(&preparation->changed, &preparation->mutex);
    pthread_mutex_unlock(&preparation->mutex);
}

/* Whole blocks are claimed, for a block that is half the writer's and half a preparation's would be
 * in the system's cache and on the disk in two states. What a preparation has written and not
 * synced may be written again: the system keeps the order, and only the sync takes longer. */
void segments_claim(struct log_engine *log, uint64_t end)
{
    struct segment *segment = log->newest;
    struct preparation *preparation = &log->preparation;
    end = file_block_end(end);
    if (end > segment->prepared)
        segment->prepared = end;
    pthread_mutex_lock(&preparation->mutex);
    while (preparation->is_writing && end > preparation->from)
        pthread_cond_wait(&preparation->changed, &preparation->mutex);
    if (end > preparation->next)
        preparation->next = end; /* the rest goes behind it */
    pthread_mutex_unlock(&preparation->mutex);
}

/* --- writing out ------------------------------------------------------------------------------ */

static void write_out_parts(struct write_out *out, int fd)
{
    uint32_t size;
    for (uint32_t at = out->from; at < out->to; at += size) {
        uint32_t left = out->to - at;
        size = left < OUT_STEP ? left : OUT_STEP;
        if (file_write_out(fd, at, at + size) != 0)
            return;
        if (out->drops)
            file_forget(fd, at, at + size);
    }
}

/* What was dirty still, and what a compaction has written, when it was come by. */
static void forget_segment(const struct log_engine *log, uint32_t number)
{
    int fd;
    if (segment_open_anew(log, number, &fd) != 0)
        return;
    file_forget(fd, 0, UINT32_MAX);
    close(fd);
}

static void write_out_job(struct task *task)
{
    struct log_engine *log = CONTAINER_OF(task, struct log_engine, write_out.job);
    struct write_out *out = &log->write_out;
    thread_step_back();
    int fd;
    if (segment_open_anew(log, out->segment, &fd) == 0) {
        write_out_parts(out, fd);
        close(fd);
    }
    if (out->forget != 0)
        forget_segment(log, out->forget);
    background_is_over(log, &out->is_running);
}

/* The next part: of the newest segment, or of one before it; false when it is not worth a step
 * yet. What is larger than a segment should be is left to the system behind that. */
static bool write_out_next(struct log_engine *log)
{
    struct write_out *out = &log->write_out;
    const struct segment *newest = log->newest;
    if (out->segment == 0 || newest->number - out->segment > OUT_SEGMENTS_MAX) {
        out->segment = newest->number;
        out->offset = 0;
    } else if (out->segment < newest->number && out->offset >= log->segment_size) {
        out->segment++;
        out->offset = 0;
    }
    uint32_t end = log->segment_size;
    if (out->segment == newest->number) {
        end = newest->size > OUT_BEHIND ? newest->size - OUT_BEHIND : 0;
        end -= end % FILE_BLOCK_SIZE;
        if (end < out->offset + OUT_STEP)
            return false;
    }
    out->from = out->offset;
    out->to = end - out->from < OUT_MAX ? end : out->from + OUT_MAX;
    out->offset = out->to;
    return true;
}

/* One for each job, for a job is a part of a segment; 0: none yet. */
static uint32_t forget_next(struct log_engine *log)
{
    struct write_out *out = &log->write_out;
    uint32_t behind = FORGET_BEHIND / log->segment_size + 1;
    if (log->newest->number - out->forgotten > behind + OUT_SEGMENTS_MAX)
        out->forgotten = log->newest->number - behind;
    return log->newest->number - out->forgotten > behind ? ++out->forgotten : 0;
}

bool segments_are_written_out(const struct log_engine *log)
{
    /* relaxed: it tells of nothing else. */
    return atomic_load_explicit(&log->write_out.is_fast, memory_order_relaxed);
}

/* What a compaction moves is not counted: its own thread writes that out where batches are slow. */
void segments_write_out(struct log_engine *log, uint64_t written)
{
    struct write_out *out = &log->write_out;
    if (log->sync == KVS_SYNC_ALWAYS)
        return;
    uint64_t of_late;
    if (rate_take(&out->rate, written, &of_late))
        atomic_store_explicit(&out->is_fast, of_late >= OUT_FAST, memory_order_relaxed);
    if (!segments_are_written_out(log) || background_runs(log, &out->is_running) ||
        !write_out_next(log))
        return;
    /* The newest bytes stay in a large cache for long, and would take the room of others twice. */
    out->drops =
        out->cache_is_large || log->cached_bytes + log->segment_size <= log->cache_size_max;
    out->forget = out->drops ? forget_next(log) : 0;
    out->is_running = true; /* no one else looks until the job is there */
    out->job.run = write_out_job;
    pool_submit_task(log->urgent_pool, &out->job);
}

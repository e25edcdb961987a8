/*
 * engine/log/upkeep.c: what is done for sealed segments in the background, beside emptying them.
 *
 * Hints: 1. the writer picks a sealed segment that is on the disk and has none; 2. the compaction
 * thread lists its keys and writes the file.
 * Warming: after a start from hints no value is in memory. 1. the writer picks the newest segment
 * that is not, as long as the cache has room for it and for one to come; 2. the compaction thread
 * reads and checks it; 3. the writer shows the bytes to readers. Once for each segment.
 *
 * Closing: hints that are still missing are made.
 *
 * Failure: without its hint, a segment is read at the next start. Bytes that are damaged do not get
 * into the cache: it is told in the log, and whoever reads the record is told, too.
 */
#include "engine/log/upkeep.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/file.h"
#include "engine/log/hint_file.h"
#include "engine/log/overlap.h"

/* What may stay behind a segment's end: less than this part of it, and some blocks, of which the
 * file system may need a few itself. */
#define UNUSED_PART 64u
#define UNUSED_MIN (4 * FILE_BLOCK_SIZE)

/* --- picking: the writer ---------------------------------------------------------------------- */

struct segment *upkeep_pick_hint(struct log_engine *log)
{
    bool waits_for_sync = false;
    if (atomic_load_explicit(&log->failed, memory_order_relaxed))
        return NULL;
    for (struct segment *at = log->oldest; at != NULL; at = at->next) {
        if (at->state != SEGMENT_SEALED || at->stuck ||
            (at->hint != SEGMENT_HINT_NONE && at->hint != SEGMENT_HINT_BAD))
            continue;
        if (at->number < log->synced_segment)
            return at;
        waits_for_sync = true;
    }
    if (waits_for_sync && log->sync_due_ms == 0 && !log->background.running)
        log->sync_due_ms = clock_now_ms();
    return NULL;
}

static uint32_t warm_capacity(const struct segment *segment)
{
    return (uint32_t)file_block_end(segment->size);
}

struct segment *upkeep_pick_warm(struct log_engine *log)
{
    struct segment *newest = NULL;
    for (struct segment *at = log->oldest; at != NULL; at = at->next) {
        if (at->state == SEGMENT_SEALED && !at->is_warmed && !at->stuck &&
            atomic_load_explicit(&at->memory, memory_order_relaxed) == NULL &&
            log->cached_bytes + warm_capacity(at) + log->segment_size <= log->cache_size_max)
            newest = at;
    }
    return newest;
}

/* --- the compaction thread -------------------------------------------------------------------- */

/* Every record from one place to another; `bytes` are those in between. */
static int records_check(const struct log_engine *log, const struct segment *segment,
                         const uint8_t *bytes, uint32_t from, uint32_t to)
{
    for (uint32_t at = from; at < to;) {
        struct record record;
        kvs_slice rest = slice_make(bytes + (at - from), to - at);
        size_t size = record_decode(rest, segment->number, &record);
        if (size == 0) {
            log_error("%s: segment %u is damaged at offset %u: what is there cannot be read; "
                      "restore it from a backup, or save the rest with --repair",
                      log->directory, segment->number, at);
            return KVS_ERR_CORRUPTION;
        }
        at += (uint32_t)size;
    }
    return 0;
}

int upkeep_read_checked(const struct log_engine *log, const struct segment *segment, uint8_t *bytes)
{
    int error = file_read(segment->fd, bytes, segment->size, 0);
    return error != 0 ? error
                      : records_check(log, segment, bytes + SEGMENT_HEADER_SIZE,
                                      SEGMENT_HEADER_SIZE, segment->size);
}

int upkeep_read_part_checked(const struct log_engine *log, const struct segment *segment,
                             uint8_t *bytes, uint32_t from, uint32_t to)
{
    int error = file_read(segment->fd, bytes, to - from, from);
    return error != 0 ? error : records_check(log, segment, bytes, from, to);
}

int upkeep_list(const struct log_engine *log, const struct segment *segment, struct hint *ret_hint)
{
    /* The writer keeps the memory of a segment that is here: no epoch is needed. */
    const uint8_t *bytes = atomic_load_explicit(&segment->memory, memory_order_acquire);
    uint8_t *copy = NULL;
    int error = 0;
    if (bytes == NULL) {
        copy = segment_memory_new(segment->size);
        error = copy != NULL ? upkeep_read_checked(log, segment, copy) : KVS_ERR_NO_MEMORY;
        bytes = copy;
    }
    if (error == 0)
        error = hint_build(slice_make(bytes, segment->size), segment->number, ret_hint);
    segment_memory_unref(copy);
    return error;
}

/* Behind the seal may be blocks that were set aside and not used; that of a crashed store also has
 * zeros there that were prepared for more. */
static int file_end_cut(const struct segment *segment)
{
    uint64_t size;
    uint64_t blocks_size;
    int error = file_size(segment->fd, &size);
    if (error == 0)
        error = file_blocks_size(segment->fd, &blocks_size);
    if (error == 0 && (size > segment->size ||
                       blocks_size > segment->size + segment->size / UNUSED_PART + UNUSED_MIN))
        error = file_truncate(segment->fd, segment->size);
    return error;
}

int upkeep_hint(struct log_engine *log, struct segment *segment)
{
    struct hint hint = {0};
    int error = upkeep_list(log, segment, &hint);
    if (error == 0)
        error = file_end_cut(segment);
    if (error == 0)
        error = hint_file_write(log, &hint);
    log->compaction.hint_size = error == 0 ? hint.bytes.size : 0;
    log->compaction.is_scattered = error == 0 && hint_is_scattered(&hint);
    mem_free(log->compaction.span);
    log->compaction.span = error == 0 ? key_span_of(&hint) : NULL;
    hint_deinit(&hint);
    return error;
}

/* Of a full segment, each takes about 0.1 s. More are missing only where it was loaded faster than
 * the thread could follow. */
#define CLOSING_HINTS_MAX 8u

void upkeep_close(struct log_engine *log)
{
    unsigned count = 0;
    for (struct segment *at = log->oldest; at != NULL && count < CLOSING_HINTS_MAX; at = at->next) {
        if (at->state != SEGMENT_SEALED || at->stuck || at->hint != SEGMENT_HINT_NONE ||
            at->number >= log->synced_segment)
            continue;
        (void)upkeep_hint(log, at); /* the next start reads the segment instead */
        count++;
    }
}

int upkeep_warm(struct log_engine *log, struct segment *segment)
{
    uint8_t *memory = log->compaction.memory;
    return memory != NULL ? upkeep_read_checked(log, segment, memory) : KVS_ERR_NO_MEMORY;
}

/* --- the writer ------------------------------------------------------------------------------- */

void upkeep_finished(struct log_engine *log, struct segment *segment, enum compaction_job job,
                     int error)
{
    if (job == COMPACTION_HINT) {
        segment->hint = error == 0 ? SEGMENT_HINT_THERE : SEGMENT_HINT_FAILED;
        segment->hint_size = log->compaction.hint_size;
        segment->is_scattered = log->compaction.is_scattered;
        mem_free(segment->span);
        segment->span = log->compaction.span;
        log->compaction.span = NULL;
        segments_evict(log); /* what was kept for it */
        segments_count(log);
        if (error != 0)
            log_warn("%s: the hint of segment %u could not be written (%s); the next start reads "
                     "the segment instead",
                     log->directory, segment->number, kvs_error_text(error));
        return;
    }
    segment->is_warmed = true;
    uint8_t *memory = log->compaction.memory;
    log->compaction.memory = NULL;
    if (error != 0) {
        spares_give(log, memory);
        return;
    }
    segment->capacity = log->compaction.memory_size;
    log->cached_bytes += segment->capacity;
    /* release: pairs with the acquire of readers, so that they find the bytes. */
    atomic_store_explicit(&segment->memory, memory, memory_order_release);
    segment_fix(segment);
    segments_count(log);
}

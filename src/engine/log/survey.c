/*
 * engine/log/survey.c: see survey.h; docs/format/log.md, "Checking and saving".
 *
 *   1. all marks are read; 2. each segment is read and replayed, record after record, into the
 *   working trees, without its hint; 3. its hint is made anew from the records, and compared.
 *
 * Failure: what cannot be read is told, and reading goes on behind it; no memory ends it.
 */
#include "engine/log/survey.h"

#include "base/mem.h"
#include "engine/file.h"
#include "engine/log/hint_file.h"
#include "engine/log/recovery.h"

#include <fcntl.h>
#include <stdio.h>

struct survey {
    struct log_engine *log;
    struct log_survey *told;
    struct engine_message *message;
    struct log_files files;
    struct place durable; /* the furthest that a mark says was on the disk */
    bool marks_only;      /* the first way through */
    bool stopped;         /* behind the end of the log */
    bool sealed;          /* the segment read last */
    bool lost;            /* a part of it was */
};

static int fail(struct survey *survey, int error, uint32_t segment, const char *what)
{
    return recovery_fail(survey->log, survey->message, error, segment, what);
}

static void tell_lost(struct survey *survey, uint32_t segment, uint32_t from, uint32_t to,
                      const char *what)
{
    survey->lost = true;
    survey->told->lost(survey->told, segment, from, to, what);
}

/* --- replaying -------------------------------------------------------------------------------- */

static int unlink_entry(struct log_engine *log, unsigned family, struct entry *entry)
{
    struct tree_root *tree = &log->working.families[family];
    uint64_t location = atomic_load_explicit(&entry->location, memory_order_relaxed);
    struct segment *segment = segment_at(log, location);
    tree->keys--;
    tree->expiring_keys -= entry->expires;
    segment->accounts.live_bytes -= entry_record_size(entry);
    segment->entries--;
    return tree_entry_retire(&log->tree, entry);
}

static int replay_set(struct log_engine *log, struct segment *segment, uint32_t offset,
                      const struct record *record, uint32_t size)
{
    struct accounts *accounts = &segment->accounts;
    struct entry *entry =
        tree_entry_new(&log->tree, record->key, record->expires_at_ms, (uint32_t)record->value.size,
                       record->sequence, location_make(segment->slot, offset));
    if (entry == NULL)
        return KVS_ERR_NO_MEMORY;
    struct tree_root *tree = &log->working.families[record->family];
    struct entry *replaced;
    int error = tree_insert(&log->tree, &tree->root, entry, &replaced);
    if (error != 0)
        return error;
    segment->entries++;
    tree->keys++;
    tree->expiring_keys += entry->expires;
    accounts->live_bytes += size;
    if (record->sequence < accounts->set_sequence_min)
        accounts->set_sequence_min = record->sequence;
    return replaced != NULL ? unlink_entry(log, record->family, replaced) : 0;
}

static int replay_remove(struct log_engine *log, const struct record *record)
{
    struct entry *entry;
    struct tree_root *tree = &log->working.families[record->family];
    int error = tree_remove(&log->tree, &tree->root, record->key, &entry);
    if (error != 0 || entry == NULL)
        return error;
    return unlink_entry(log, record->family, entry);
}

/* Only what is older than the removal: compaction may have moved it behind younger sets. */
static int replay_remove_range(struct log_engine *log, const struct record *record)
{
    struct tree_root *tree = &log->working.families[record->family];
    struct pointer_vector found = {0};
    struct tree_cursor cursor;
    int error = 0;
    tree_seek(&cursor, tree->root, record->key);
    for (struct entry *entry; error == 0 && (entry = tree_cursor_entry(&cursor)) != NULL;
         tree_next(&cursor)) {
        if (record->value.size > 0 && slice_compare(entry_key(entry), record->value) >= 0)
            break;
        if (entry->birth < record->sequence)
            error = pointer_vector_push(&found, (uintptr_t)entry);
    }
    for (size_t i = 0; error == 0 && i < found.count; i++) {
        struct entry *entry = (struct entry *)found.items[i];
        error = tree_remove(&log->tree, &tree->root, entry_key(entry), &entry);
        if (error == 0)
            error = unlink_entry(log, record->family, entry);
    }
    pointer_vector_deinit(&found);
    return error;
}

static int replay_record(struct log_engine *log, struct segment *segment, uint32_t offset,
                         const struct record *record, uint32_t size)
{
    if (record->kind <= RECORD_REMOVE_RANGE && record->sequence > log->working.sequence)
        log->working.sequence = record->sequence;
    switch (record->kind) {
    case RECORD_SET:
        return replay_set(log, segment, offset, record, size);
    case RECORD_REMOVE:
        segment->accounts.tombstone_bytes += size;
        return replay_remove(log, record);
    case RECORD_REMOVE_RANGE:
        segment->accounts.tombstone_bytes += size;
        return replay_remove_range(log, record);
    default:
        return 0;
    }
}

/* The size of the whole batch at `offset`; 0 when it is not there. */
static uint32_t batch_size(kvs_slice bytes, uint32_t segment, uint32_t offset)
{
    uint32_t at = offset;
    struct record record;
    do {
        kvs_slice rest = slice_make(bytes.data + at, bytes.size - at);
        size_t size = record_decode(rest, segment, &record);
        if (size == 0)
            return 0;
        at += (uint32_t)size;
    } while (record.more);
    return at - offset;
}

/* Replays from segment->size up to the seal or to the first place that is no batch: segment->size
 * then. */
static int segment_replay(struct survey *survey, struct segment *segment, kvs_slice bytes)
{
    struct log_engine *log = survey->log;
    uint32_t offset = segment->size;
    uint32_t size;
    survey->sealed = false;
    while (!survey->sealed && (size = batch_size(bytes, segment->number, offset)) > 0) {
        for (uint32_t end = offset + size; offset < end;) {
            struct record record;
            kvs_slice rest = slice_make(bytes.data + offset, bytes.size - offset);
            size = (uint32_t)record_decode(rest, segment->number, &record);
            int error = replay_record(log, segment, offset, &record, size);
            if (error != 0)
                return fail(survey, error, segment->number, "cannot be indexed");
            survey->sealed = record.kind == RECORD_SEAL;
            offset += size;
            survey->told->records++;
        }
    }
    segment->size = offset;
    return 0;
}

/* --- reading on ------------------------------------------------------------------------------- */

static bool is_durable(const struct survey *survey, uint32_t segment, uint32_t offset)
{
    return place_is_durable(&survey->durable, segment, offset);
}

/* The next place at or behind `offset` with a valid record; the end when there is none. */
static uint32_t record_find(kvs_slice bytes, uint32_t segment, uint32_t offset)
{
    struct record record;
    for (; offset < bytes.size; offset += RECORD_ALIGNMENT)
        if (record_decode(slice_make(bytes.data + offset, bytes.size - offset), segment, &record))
            return offset;
    return (uint32_t)bytes.size;
}

/* One record that is left of a batch, or a damaged place to the next record. */
static int read_on_step(struct survey *survey, struct segment *segment, kvs_slice bytes)
{
    uint32_t offset = segment->size;
    struct record record;
    kvs_slice rest = slice_make(bytes.data + offset, bytes.size - offset);
    uint32_t size = (uint32_t)record_decode(rest, segment->number, &record);
    if (size == 0) {
        segment->size = record_find(bytes, segment->number, offset + RECORD_ALIGNMENT);
        tell_lost(survey, segment->number, offset, segment->size, "records that cannot be read");
        return 0;
    }
    segment->size += size;
    survey->told->records++;
    int error = replay_record(survey->log, segment, offset, &record, size);
    return error != 0 ? fail(survey, error, segment->number, "cannot be indexed") : 0;
}

/* From the first place on that is no whole batch, as far as marks say that what is lost there was
 * on the disk. */
static int segment_read_on(struct survey *survey, struct segment *segment, kvs_slice bytes)
{
    int error = 0;
    while (error == 0 && !survey->sealed && segment->size < bytes.size &&
           is_durable(survey, segment->number, segment->size) &&
           !recovery_is_zero(bytes.data + segment->size, bytes.size - segment->size)) {
        error = read_on_step(survey, segment, bytes);
        if (error == 0)
            error = segment_replay(survey, segment, bytes);
    }
    return error;
}

/* As file_read, but what cannot be read is told, and zero. */
static void survey_read(struct survey *survey, const struct segment *segment, uint8_t *memory,
                        uint64_t size)
{
    if (size == 0 || file_read(segment->fd, memory, size, 0) == 0)
        return;
    for (uint64_t at = 0; at < size; at += FILE_BLOCK_SIZE) {
        uint64_t block = size - at < FILE_BLOCK_SIZE ? size - at : FILE_BLOCK_SIZE;
        if (file_read(segment->fd, memory + at, block, at) == 0)
            continue;
        memset(memory + at, 0, block);
        if (!survey->marks_only)
            tell_lost(survey, segment->number, (uint32_t)at, (uint32_t)(at + block),
                      "the disk does not give these bytes");
    }
}

/* --- one file --------------------------------------------------------------------------------- */

static int segment_load(struct survey *survey, uint32_t number, struct segment **ret_segment,
                        kvs_slice *ret_bytes)
{
    struct log_engine *log = survey->log;
    struct segment *segment;
    uint64_t size;
    const char *what;
    int error = recovery_segment_open(log, number, O_RDONLY, &segment, &size, &what);
    if (error != 0)
        return fail(survey, error, number, what);
    uint8_t *memory = segment_memory_new(segment->capacity);
    if (memory == NULL)
        return fail(survey, KVS_ERR_NO_MEMORY, number, "cannot be read");
    atomic_store_explicit(&segment->memory, memory, memory_order_relaxed);
    log->cached_bytes += segment->capacity;
    survey_read(survey, segment, memory, size);
    *ret_segment = segment;
    *ret_bytes = slice_make(memory, size);
    return 0;
}

static int segment_survey_marks(struct survey *survey, uint32_t number)
{
    struct segment *segment;
    kvs_slice bytes;
    int error = segment_load(survey, number, &segment, &bytes);
    if (error != 0)
        return error;
    recovery_marks_scan(&survey->durable, number, bytes, SEGMENT_HEADER_SIZE);
    segments_drop(survey->log, segment);
    return 0;
}

/* Tells of what cannot be at the end of a segment. */
static void segment_survey_end(struct survey *survey, struct segment *segment, kvs_slice bytes,
                               bool last)
{
    uint32_t end = segment->size;
    bool clean = recovery_is_zero(bytes.data + end, bytes.size - end);
    struct log_survey *told = survey->told;
    if (survey->sealed && !clean)
        tell_lost(survey, segment->number, end, (uint32_t)bytes.size, "bytes behind the end");
    if (survey->sealed || (clean && last))
        return;
    if (is_durable(survey, segment->number, end)) {
        tell_lost(survey, segment->number, end, end, "the end of the file is missing");
        return;
    }
    survey->stopped = true;
    told->end_segment = segment->number;
    told->end_offset = end;
    told->unfinished_bytes += clean ? 0 : bytes.size - end;
}

static int hint_survey(struct survey *survey, const struct segment *segment, kvs_slice bytes)
{
    struct log_survey *told = survey->told;
    struct hint hint;
    struct hint made;
    if (!numbers_have(&survey->files.hints, segment->number))
        return 0;
    int error = hint_file_read(survey->log, segment, bytes.size, &hint);
    if (error == KVS_ERR_NO_MEMORY)
        return fail(survey, error, segment->number, "its hint cannot be read");
    if (error != 0) {
        told->hint(told, segment->number, false);
        return 0;
    }
    told->hints++;
    if (survey->lost) { /* there is nothing to compare it with */
        hint_deinit(&hint);
        return 0;
    }
    error = hint_build(slice_make(bytes.data, segment->size), segment->number, &made);
    if (error == 0) {
        if (!hint_is_same(&made, &hint))
            told->hint(told, segment->number, true);
        hint_deinit(&made);
    }
    hint_deinit(&hint);
    return error != KVS_ERR_NO_MEMORY
               ? 0
               : fail(survey, error, segment->number, "its hint cannot be checked");
}

static int segment_survey_records(struct survey *survey, struct segment *segment, kvs_slice bytes)
{
    uint32_t number = segment->number;
    uint64_t sequence;
    int error = 0;
    survey->sealed = false;
    survey->lost = false;
    segment->state = SEGMENT_SEALED;
    segment->size = SEGMENT_HEADER_SIZE;
    if (bytes.size < SEGMENT_HEADER_SIZE)
        segment->size = (uint32_t)bytes.size;
    else if (segment_header_decode(bytes, number, &sequence))
        error = segment_replay(survey, segment, bytes);
    else if (is_durable(survey, number, 0))
        tell_lost(survey, number, 0, SEGMENT_HEADER_SIZE, "the header of the file");
    else
        segment->size = 0;
    if (error == 0 && segment->size > 0)
        error = segment_read_on(survey, segment, bytes);
    return error;
}

static int segment_survey(struct survey *survey, size_t i)
{
    struct log_survey *told = survey->told;
    const struct numbers *numbers = &survey->files.segments;
    struct segment *segment = NULL;
    kvs_slice bytes = {0};
    int error = segment_load(survey, numbers->items[i], &segment, &bytes);
    if (error != 0)
        return error;
    told->segments++;
    told->bytes += bytes.size;
    if (survey->stopped) { /* behind the end of the log */
        told->unfinished_bytes += bytes.size;
        segments_drop(survey->log, segment);
        return 0;
    }
    error = segment_survey_records(survey, segment, bytes);
    if (error == 0)
        segment_survey_end(survey, segment, bytes, i + 1 == numbers->count);
    if (error == 0 && survey->sealed)
        error = hint_survey(survey, segment, bytes);
    return error;
}

static int survey_run(struct survey *survey)
{
    const struct numbers *numbers = &survey->files.segments;
    int error = log_files_list(survey->log, &survey->files);
    survey->marks_only = true;
    for (size_t i = 0; i < numbers->count && error == 0; i++)
        error = segment_survey_marks(survey, numbers->items[i]);
    survey->marks_only = false;
    for (size_t i = 0; i < numbers->count && error == 0; i++) {
        error = segment_survey(survey, i);
        if (error == 0)
            segments_evict(survey->log);
        version_reclaim_all(survey->log);
    }
    return error;
}

int log_survey_run(struct log_engine *log, struct log_survey *told, struct engine_message *message)
{
    struct survey survey = {.log = log, .message = message, .told = told};
    log->tree.birth = 1;
    log->tree.undoable = false;
    int error = survey_run(&survey);
    log_files_deinit(&survey.files);
    return error;
}

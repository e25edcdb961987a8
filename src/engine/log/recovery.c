/*
 * engine/log/recovery.c: reading the log when a directory is opened; docs/format/log.md is the
 * contract.
 *
 *   1. list the segments; 2. replay each batch of each in order into the working trees;
 *   3. at the first place that cannot be read, look behind it for a mark that says it was durable:
 *   then
 *      the data is damaged and opening fails; else cut the log there;
 *   4. go on with the newest segment if it has no seal, else begin one.
 *
 * A survey (survey.h) reads the marks first, and then goes on behind damaged places and tells of
 * them, where opening would fail; it changes nothing.
 *
 * Failure: every error ends the opening, with the file named; nothing was changed unless the cut
 * began. Thread: the one that opens; no other knows the engine yet.
 */
#include "engine/log/log_engine.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/mem.h"
#include "engine/file.h"
#include "engine/log/survey.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

struct place {
    uint32_t segment;
    uint32_t offset;
};

struct recovery {
    struct log_engine *log;
    struct engine_message *message;
    uint32_t *numbers; /* of the segments, ascending */
    size_t numbers_count;
    bool stopped;         /* at `bad` */
    struct place bad;     /* the first place that cannot be read */
    struct place durable; /* the furthest that a mark behind it says was on the disk */
    uint64_t cut_bytes;
    bool sealed;               /* the segment read last */
    struct log_survey *survey; /* NULL: to open the engine, not only to look */
    bool marks_only;           /* the survey's first way through */
};

static int fail(struct recovery *recovery, int error, uint32_t segment, const char *what)
{
    snprintf(recovery->message->text, sizeof recovery->message->text, "%s: segment %u: %s (%s)",
             recovery->log->directory, segment, what, kvs_error_text(error));
    return error;
}

/* --- listing ---------------------------------------------------------------------------------- */

static int number_compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int numbers_list(struct recovery *recovery)
{
    DIR *directory = opendir(recovery->log->directory);
    if (directory == NULL)
        return error_from_errno(errno);
    size_t capacity = 0;
    int error = 0;
    while (error == 0) {
        uint32_t number;
        errno = 0;
        struct dirent *file = readdir(directory);
        if (file == NULL) {
            /* Half a list would pass for a log whose other segments were compacted. */
            error = errno != 0 ? error_from_errno(errno) : 0;
            break;
        }
        if (!segment_name_parse(file->d_name, &number))
            continue;
        if (recovery->numbers_count == capacity) {
            capacity = capacity > 0 ? capacity * 2 : 64;
            uint32_t *numbers = mem_realloc(recovery->numbers, capacity * sizeof *numbers);
            if (numbers == NULL) {
                error = KVS_ERR_NO_MEMORY;
                break;
            }
            recovery->numbers = numbers;
        }
        recovery->numbers[recovery->numbers_count++] = number;
    }
    closedir(directory);
    if (recovery->numbers_count > 0)
        qsort(recovery->numbers, recovery->numbers_count, sizeof *recovery->numbers,
              number_compare);
    return error;
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
    if (entry->expires)
        segment->accounts.expiring_bytes -= entry_record_size(entry);
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
    if (entry->expires) {
        accounts->expiring_bytes += size;
        if (record->expires_at_ms > accounts->expires_last_ms)
            accounts->expires_last_ms = record->expires_at_ms;
    }
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
static int segment_replay(struct recovery *recovery, struct segment *segment, kvs_slice bytes)
{
    struct log_engine *log = recovery->log;
    uint32_t offset = segment->size;
    uint32_t size;
    recovery->sealed = false;
    while (!recovery->sealed && (size = batch_size(bytes, segment->number, offset)) > 0) {
        for (uint32_t end = offset + size; offset < end;) {
            struct record record;
            kvs_slice rest = slice_make(bytes.data + offset, bytes.size - offset);
            size = (uint32_t)record_decode(rest, segment->number, &record);
            int error = replay_record(log, segment, offset, &record, size);
            if (error != 0)
                return fail(recovery, error, segment->number, "cannot be indexed");
            recovery->sealed = record.kind == RECORD_SEAL;
            offset += size;
            if (recovery->survey != NULL)
                recovery->survey->records++;
        }
    }
    segment->size = offset;
    return 0;
}

static bool is_zero(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (data[i] != 0)
            return false;
    }
    return true;
}

static void stop_at(struct recovery *recovery, uint32_t segment, uint32_t offset)
{
    recovery->stopped = true;
    recovery->bad = (struct place){segment, offset};
}

/* Looks for marks at every place a record may begin. */
static void marks_scan(struct recovery *recovery, uint32_t segment, kvs_slice bytes, size_t from)
{
    for (size_t at = from; at + RECORD_MARK_SIZE <= bytes.size; at += RECORD_ALIGNMENT) {
        const uint8_t *p = bytes.data + at;
        struct record record;
        struct place place;
        if (p[10] != RECORD_MARK || get_u32(p + 4) != 8 ||
            record_decode(slice_make(p, bytes.size - at), segment, &record) == 0 ||
            !record_mark_decode(&record, &place.segment, &place.offset))
            continue;
        if (place.segment > recovery->durable.segment ||
            (place.segment == recovery->durable.segment && place.offset > recovery->durable.offset))
            recovery->durable = place;
    }
}

/* --- reading on ------------------------------------------------------------------------------- */

static bool is_durable(const struct recovery *recovery, uint32_t segment, uint32_t offset)
{
    return recovery->durable.segment > segment ||
           (recovery->durable.segment == segment && recovery->durable.offset > offset);
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
static int read_on_step(struct recovery *recovery, struct segment *segment, kvs_slice bytes)
{
    uint32_t offset = segment->size;
    struct record record;
    kvs_slice rest = slice_make(bytes.data + offset, bytes.size - offset);
    uint32_t size = (uint32_t)record_decode(rest, segment->number, &record);
    if (size == 0) {
        segment->size = record_find(bytes, segment->number, offset + RECORD_ALIGNMENT);
        recovery->survey->lost(recovery->survey, segment->number, offset, segment->size,
                               "records that cannot be read");
        return 0;
    }
    segment->size += size;
    recovery->survey->records++;
    int error = replay_record(recovery->log, segment, offset, &record, size);
    return error != 0 ? fail(recovery, error, segment->number, "cannot be indexed") : 0;
}

/* From the first place on that is no whole batch, as far as marks say that what is lost there was
 * on the disk. */
static int segment_read_on(struct recovery *recovery, struct segment *segment, kvs_slice bytes)
{
    int error = 0;
    while (error == 0 && !recovery->sealed && segment->size < bytes.size &&
           is_durable(recovery, segment->number, segment->size) &&
           !is_zero(bytes.data + segment->size, bytes.size - segment->size)) {
        error = read_on_step(recovery, segment, bytes);
        if (error == 0)
            error = segment_replay(recovery, segment, bytes);
    }
    return error;
}

/* As file_read, but what cannot be read is told, and zero. */
static int survey_read(struct recovery *recovery, const struct segment *segment, uint8_t *memory,
                       uint64_t size)
{
    int error = size > 0 ? file_read(segment->fd, memory, size, 0) : 0;
    if (error == 0 || recovery->survey == NULL)
        return error;
    for (uint64_t at = 0; at < size; at += FILE_BLOCK_SIZE) {
        uint64_t block = size - at < FILE_BLOCK_SIZE ? size - at : FILE_BLOCK_SIZE;
        if (file_read(segment->fd, memory + at, block, at) == 0)
            continue;
        memset(memory + at, 0, block);
        if (!recovery->marks_only)
            recovery->survey->lost(recovery->survey, segment->number, (uint32_t)at,
                                   (uint32_t)(at + block), "the disk does not give these bytes");
    }
    return 0;
}

/* --- one file --------------------------------------------------------------------------------- */

static int segment_load(struct recovery *recovery, uint32_t number, struct segment **ret_segment,
                        kvs_slice *ret_bytes)
{
    struct log_engine *log = recovery->log;
    char path[SEGMENT_PATH_SIZE];
    segment_path(log, number, path, sizeof path);
    struct segment *segment;
    int error = segments_add(log, number, &segment);
    if (error != 0)
        return fail(recovery, error, number, "cannot be added");
    uint64_t size = 0;
    error = file_open(path, recovery->survey != NULL ? O_RDONLY : O_RDWR, &segment->fd);
    if (error == 0)
        error = file_size(segment->fd, &size);
    if (error != 0)
        return fail(recovery, error, number, "cannot be opened");
    segment->prepared = size;
    /* There may be no seal yet: it needs room. */
    uint64_t blocks = (size + RECORD_SEAL_SIZE + FILE_BLOCK_SIZE - 1) / FILE_BLOCK_SIZE *
                      (uint64_t)FILE_BLOCK_SIZE;
    if (blocks > UINT32_MAX)
        return fail(recovery, KVS_ERR_CORRUPTION, number, "is larger than any segment can be");
    bool may_grow = recovery->survey == NULL;
    segment->capacity =
        may_grow && blocks < log->segment_size ? log->segment_size : (uint32_t)blocks;
    uint8_t *memory = segment_memory_new(segment->capacity);
    if (memory == NULL)
        return fail(recovery, KVS_ERR_NO_MEMORY, number, "cannot be read");
    atomic_store_explicit(&segment->memory, memory, memory_order_relaxed);
    log->cached_bytes += segment->capacity;
    error = survey_read(recovery, segment, memory, size);
    if (error != 0)
        return fail(recovery, error, number, "cannot be read");
    *ret_segment = segment;
    *ret_bytes = slice_make(memory, size);
    return 0;
}

static int segment_recover(struct recovery *recovery, size_t i)
{
    uint32_t number = recovery->numbers[i];
    struct segment *segment;
    kvs_slice bytes;
    int error = segment_load(recovery, number, &segment, &bytes);
    if (error != 0)
        return error;
    if (recovery->stopped) {
        marks_scan(recovery, number, bytes, SEGMENT_HEADER_SIZE);
        segment->size = 0;
        segment_forget_memory(recovery->log, segment);
        recovery->cut_bytes += bytes.size;
        return 0;
    }
    uint64_t sequence;
    if (!segment_header_decode(bytes, number, &sequence)) {
        stop_at(recovery, number, 0);
        marks_scan(recovery, number, bytes, SEGMENT_HEADER_SIZE);
        recovery->cut_bytes += bytes.size;
        return 0;
    }
    if (sequence > recovery->log->working.sequence + 1)
        recovery->log->working.sequence = sequence - 1;
    segment->size = SEGMENT_HEADER_SIZE;
    error = segment_replay(recovery, segment, bytes);
    if (error != 0)
        return error;
    segment->state = recovery->sealed ? SEGMENT_SEALED : SEGMENT_ACTIVE;
    size_t rest = bytes.size - segment->size;
    bool clean = is_zero(bytes.data + segment->size, rest);
    bool last = i + 1 == recovery->numbers_count;
    if (recovery->sealed ? clean : (clean && last))
        return 0;
    stop_at(recovery, number, segment->size);
    marks_scan(recovery, number, bytes, segment->size);
    recovery->cut_bytes += clean ? 0 : rest;
    return 0;
}

/* --- the end ---------------------------------------------------------------------------------- */

/* Removes the segments behind the bad place and cuts the one it is in. The newest goes first: were
 * the first one gone and the next still there after a crash, it would pass for compacted. */
static int log_cut(struct recovery *recovery)
{
    struct log_engine *log = recovery->log;
    struct segment *keep = NULL;
    for (struct segment *at = log->oldest; at != NULL && at->size > 0; at = at->next)
        keep = at;
    while (log->newest != keep) {
        struct segment *segment = log->newest;
        int error = segments_remove_file(log, segment);
        if (error != 0)
            return fail(recovery, error, segment->number, "cannot be removed");
        segments_drop(log, segment);
    }
    if (keep == NULL || keep->number != recovery->bad.segment)
        return 0;
    keep->prepared = keep->size;
    int error = file_truncate(keep->fd, keep->size);
    if (error == 0)
        error = file_sync(keep->fd);
    if (error != 0)
        return fail(recovery, error, keep->number, "cannot be cut");
    /* The zeros behind the end must be zeros in memory, too. */
    uint8_t *memory = atomic_load_explicit(&keep->memory, memory_order_relaxed);
    memset(memory + keep->size, 0, keep->capacity - keep->size);
    return 0;
}

static int log_end(struct recovery *recovery)
{
    struct log_engine *log = recovery->log;
    struct place bad = recovery->bad;
    struct place durable = recovery->durable;
    char *text = recovery->message->text;
    size_t text_size = sizeof recovery->message->text;
    if (!recovery->stopped)
        return 0;
    if (durable.segment > bad.segment ||
        (durable.segment == bad.segment && durable.offset > bad.offset)) {
        snprintf(text, text_size,
                 "%s: segment %u is damaged at offset %u, in data that was safely written; restore "
                 "it from a backup, or move it aside to start empty",
                 log->directory, bad.segment, bad.offset);
        return KVS_ERR_CORRUPTION;
    }
    int error = log_cut(recovery);
    if (error == 0 && recovery->cut_bytes > SEGMENT_HEADER_SIZE)
        snprintf(text, text_size, "%s: cut %llu bytes of unfinished writes at segment %u offset %u",
                 log->directory, (unsigned long long)recovery->cut_bytes, bad.segment, bad.offset);
    return error;
}

/* With --sync=always the first sync of the newest segment will vouch for all before it. */
static int log_sync(struct log_engine *log)
{
    int error = 0;
    for (struct segment *at = log->oldest; at != NULL && error == 0; at = at->next)
        error = file_sync(at->fd);
    if (error == 0)
        error = file_sync_directory(log->directory);
    log->synced_segment = log->newest->number;
    log->synced_offset = log->newest->size;
    return error;
}

/* --- a survey --------------------------------------------------------------------------------- */

static int segment_survey_marks(struct recovery *recovery, uint32_t number)
{
    struct segment *segment;
    kvs_slice bytes;
    int error = segment_load(recovery, number, &segment, &bytes);
    if (error != 0)
        return error;
    marks_scan(recovery, number, bytes, SEGMENT_HEADER_SIZE);
    segments_drop(recovery->log, segment);
    return 0;
}

/* Tells of what cannot be at the end of a segment. */
static void segment_survey_end(struct recovery *recovery, struct segment *segment, kvs_slice bytes,
                               bool last)
{
    uint32_t end = segment->size;
    bool clean = is_zero(bytes.data + end, bytes.size - end);
    struct log_survey *survey = recovery->survey;
    if (recovery->sealed && !clean)
        survey->lost(survey, segment->number, end, (uint32_t)bytes.size, "bytes behind the end");
    if (recovery->sealed || (clean && last))
        return;
    if (is_durable(recovery, segment->number, end)) {
        survey->lost(survey, segment->number, end, end, "the end of the file is missing");
        return;
    }
    recovery->stopped = true;
    survey->end_segment = segment->number;
    survey->end_offset = end;
    survey->unfinished_bytes += clean ? 0 : bytes.size - end;
}

static int segment_survey(struct recovery *recovery, size_t i)
{
    struct log_survey *survey = recovery->survey;
    uint32_t number = recovery->numbers[i];
    struct segment *segment;
    kvs_slice bytes;
    int error = segment_load(recovery, number, &segment, &bytes);
    if (error != 0)
        return error;
    survey->segments++;
    survey->bytes += bytes.size;
    if (recovery->stopped) { /* behind the end of the log */
        survey->unfinished_bytes += bytes.size;
        segments_drop(recovery->log, segment);
        return 0;
    }
    segment->state = SEGMENT_SEALED;
    uint64_t sequence;
    recovery->sealed = false;
    segment->size = SEGMENT_HEADER_SIZE;
    if (bytes.size < SEGMENT_HEADER_SIZE)
        segment->size = (uint32_t)bytes.size;
    else if (segment_header_decode(bytes, number, &sequence))
        error = segment_replay(recovery, segment, bytes);
    else if (is_durable(recovery, number, 0))
        survey->lost(survey, number, 0, SEGMENT_HEADER_SIZE, "the header of the file");
    else
        segment->size = 0;
    if (error == 0 && segment->size > 0)
        error = segment_read_on(recovery, segment, bytes);
    if (error == 0)
        segment_survey_end(recovery, segment, bytes, i + 1 == recovery->numbers_count);
    return error;
}

int recovery_survey(struct log_engine *log, struct log_survey *survey,
                    struct engine_message *message)
{
    struct recovery recovery = {
        .log = log, .message = message, .survey = survey, .marks_only = true};
    log->tree.birth = 1;
    log->tree.undoable = false;
    int error = numbers_list(&recovery);
    for (size_t i = 0; i < recovery.numbers_count && error == 0; i++)
        error = segment_survey_marks(&recovery, recovery.numbers[i]);
    recovery.marks_only = false;
    for (size_t i = 0; i < recovery.numbers_count && error == 0; i++) {
        error = segment_survey(&recovery, i);
        if (error == 0)
            segments_evict(log);
        (void)version_reclaim(log, true);
    }
    mem_free(recovery.numbers);
    return error;
}

/* --- opening ---------------------------------------------------------------------------------- */

int recovery_run(struct log_engine *log, struct engine_message *message)
{
    struct recovery recovery = {.log = log, .message = message};
    log->tree.birth = 1;
    log->tree.undoable = false;
    int error = numbers_list(&recovery);
    for (size_t i = 0; i < recovery.numbers_count && error == 0; i++) {
        error = segment_recover(&recovery, i);
        if (!recovery.stopped) /* the bad segment's memory may be needed */
            segments_evict(log);
        (void)version_reclaim(log, true);
    }
    if (error == 0)
        error = log_end(&recovery);
    if (error == 0) {
        uint32_t last =
            recovery.numbers_count > 0 ? recovery.numbers[recovery.numbers_count - 1] : 0;
        log->next_number = last + 1;
        if (log->newest == NULL || log->newest->state == SEGMENT_SEALED)
            error = segments_begin(log, 0);
    }
    if (error == 0 && log->sync == KVS_SYNC_ALWAYS)
        error = log_sync(log);
    if (error == 0 && log->newest->direct_fd < 0)
        segment_open_direct(log, log->newest);
    log->tree.undoable = true;
    mem_free(recovery.numbers);
    return error;
}

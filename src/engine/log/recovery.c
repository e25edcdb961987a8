/*
 * engine/log/recovery.c: reading the log when a directory is opened; docs/format/log.md is the
 * contract.
 *
 *   1. list the files; 2. load each segment, some at a time: its hint, but for its items, then,
 *      where there is none that counts, its records up to the first place that cannot be read,
 *      listed as a hint lists them;
 *   3. in the log's order: at the first place that cannot be read, look behind it for a mark that
 *      says it was durable: then the data is damaged and opening fails; else cut the log there,
 *      and write once more what no mark vouches for;
 *   4. go on with the newest segment if it has no seal, else begin one;
 *   5. leave the lists of keys to loading.c, which makes the index of them.
 *
 * Failure: every error ends the opening, with the file named; nothing was changed unless the cut
 * began. A hint that cannot be read is no error, but if that is for lack of memory. Thread: the one
 * that opens and some helpers (step 2); no other knows the engine yet.
 */
#include "engine/log/recovery.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/mem.h"
#include "engine/file.h"
#include "engine/log/hint_file.h"
#include "engine/log/loading.h"
#include "engine/log/team.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HINTS_PER_HAND 16u
#define BYTES_PER_HAND (8u * 1024 * 1024)

/* A segment, as it is read by one of the team. */
struct load {
    struct segment *segment;
    uint64_t file_size;
    bool keep_memory; /* the cache has room for it, or it may be appended to */

    /* results */
    bool is_read; /* its records are; else its hint */
    bool header_is_valid;
    bool sealed;
    bool rest_is_clean; /* behind segment->size there are only zeros */
    uint64_t header_sequence;
    struct place durable; /* the furthest that a mark in its records says was on the disk */
    struct hint hint;
    int hint_fd; /* its items have not been read; or -1 */
    int error;
    const char *what;
};

struct recovery {
    struct log_engine *log;
    struct engine_message *message;
    struct log_files files;
    struct load *loads;
    size_t count;
    /* relaxed: the threads are joined before any result is used */
    _Atomic size_t next_load;
    _Atomic uint64_t items_read; /* of hints, by now */
    size_t merged;               /* loads before this one count */
    bool stopped;                /* at `bad` */
    struct place bad;            /* the first place that cannot be read */
    struct place durable;        /* the furthest that a mark says was on the disk */
    uint64_t cut_bytes;
};

int recovery_fail(const struct log_engine *log, struct engine_message *message, int error,
                  uint32_t segment, const char *what)
{
    snprintf(message->text, sizeof message->text, "%s: segment %u: %s (%s)", log->directory,
             segment, what, kvs_error_text(error));
    return error;
}

static int fail(struct recovery *recovery, int error, uint32_t segment, const char *what)
{
    return recovery_fail(recovery->log, recovery->message, error, segment, what);
}

/* --- listing ---------------------------------------------------------------------------------- */

static int number_compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int numbers_add(struct numbers *numbers, uint32_t number)
{
    if (numbers->count == numbers->capacity) {
        size_t capacity = numbers->capacity > 0 ? numbers->capacity * 2 : 64;
        uint32_t *items = mem_realloc(numbers->items, capacity * sizeof *items);
        if (items == NULL)
            return KVS_ERR_NO_MEMORY;
        numbers->items = items;
        numbers->capacity = capacity;
    }
    numbers->items[numbers->count++] = number;
    return 0;
}

static void numbers_sort(struct numbers *numbers)
{
    if (numbers->count > 0)
        qsort(numbers->items, numbers->count, sizeof *numbers->items, number_compare);
}

bool numbers_have(const struct numbers *numbers, uint32_t number)
{
    return numbers->count > 0 && bsearch(&number, numbers->items, numbers->count,
                                         sizeof *numbers->items, number_compare) != NULL;
}

static int file_note(struct log_files *files, const char *name)
{
    uint32_t number;
    bool is_new;
    if (segment_name_parse(name, &number))
        return numbers_add(&files->segments, number);
    if (hint_name_parse(name, &is_new, &number))
        return numbers_add(is_new ? &files->new_hints : &files->hints, number);
    return 0;
}

int log_files_list(const struct log_engine *log, struct log_files *files)
{
    DIR *directory = opendir(log->directory);
    if (directory == NULL)
        return error_from_errno(errno);
    int error = 0;
    while (error == 0) {
        errno = 0;
        struct dirent *file = readdir(directory);
        if (file == NULL) {
            /* Half a list would pass for a log whose other segments were compacted. */
            error = errno != 0 ? error_from_errno(errno) : 0;
            break;
        }
        error = file_note(files, file->d_name);
    }
    closedir(directory);
    numbers_sort(&files->segments);
    numbers_sort(&files->hints);
    numbers_sort(&files->new_hints);
    return error;
}

void log_files_deinit(struct log_files *files)
{
    mem_free(files->segments.items);
    mem_free(files->hints.items);
    mem_free(files->new_hints.items);
}

/* --- what a survey does, too ------------------------------------------------------------------ */

int recovery_segment_open(struct log_engine *log, uint32_t number, int flags,
                          struct segment **ret_segment, uint64_t *ret_size, const char **what)
{
    char path[SEGMENT_PATH_SIZE];
    segment_path(log, number, path, sizeof path);
    *what = "cannot be added";
    struct segment *segment;
    int error = segments_add(log, number, &segment);
    if (error != 0)
        return error;
    uint64_t size = 0;
    *what = "cannot be opened";
    error = file_open(path, flags, &segment->fd);
    if (error == 0)
        error = file_size(segment->fd, &size);
    if (error != 0)
        return error;
    /* There may be no seal yet: it needs room. */
    uint64_t blocks = file_block_end(size + RECORD_SEAL_SIZE);
    *what = "is larger than any segment can be";
    if (blocks > UINT32_MAX)
        return KVS_ERR_CORRUPTION;
    segment->prepared = size;
    bool may_grow = flags != O_RDONLY;
    segment->capacity =
        may_grow && blocks < log->segment_size ? log->segment_size : (uint32_t)blocks;
    *ret_segment = segment;
    *ret_size = size;
    return 0;
}

bool recovery_is_zero(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (data[i] != 0)
            return false;
    }
    return true;
}

static void mark_note(const struct record *record, struct place *durable)
{
    struct place place;
    if (record_mark_decode(record, &place.segment, &place.offset) &&
        place_is_durable(&place, durable->segment, durable->offset))
        *durable = place;
}

void recovery_marks_scan(struct place *durable, uint32_t segment, kvs_slice bytes, size_t from)
{
    for (size_t at = from; at + RECORD_MARK_SIZE <= bytes.size; at += RECORD_ALIGNMENT) {
        const uint8_t *p = bytes.data + at;
        struct record record;
        if (p[10] == RECORD_MARK && get_u32(p + 4) == 8 &&
            record_decode(slice_make(p, bytes.size - at), segment, &record) > 0)
            mark_note(&record, durable);
    }
}

/* --- loading ---------------------------------------------------------------------------------- */

/* From the newest back, as far as the cache goes; the last one may be appended to. */
static void loads_choose_cached(struct recovery *recovery)
{
    uint64_t sum = 0;
    for (size_t i = recovery->count; i-- > 0;) {
        struct load *load = &recovery->loads[i];
        sum += load->segment->capacity;
        load->keep_memory = i + 1 == recovery->count || sum <= recovery->log->cache_size_max;
    }
}

static int loads_begin(struct recovery *recovery)
{
    const struct numbers *numbers = &recovery->files.segments;
    if (numbers->count == 0)
        return 0;
    recovery->loads = mem_zalloc(numbers->count * sizeof *recovery->loads);
    if (recovery->loads == NULL)
        return KVS_ERR_NO_MEMORY;
    for (size_t i = 0; i < numbers->count; i++) {
        struct load *load = &recovery->loads[i];
        uint32_t number = numbers->items[i];
        const char *what;
        load->hint_fd = -1;
        int error = recovery_segment_open(recovery->log, number, O_RDWR, &load->segment,
                                          &load->file_size, &what);
        if (error != 0)
            return fail(recovery, error, number, what);
        if (numbers_have(&recovery->files.hints, number))
            load->segment->hint = SEGMENT_HINT_BAD; /* until it is read */
        recovery->count++;
    }
    loads_choose_cached(recovery);
    return 0;
}

/* All batches up to the seal, or to the first place where there is none: segment->size then. */
static void load_scan(struct load *load, kvs_slice bytes)
{
    struct segment *segment = load->segment;
    uint32_t at = SEGMENT_HEADER_SIZE;
    segment->size = at;
    struct record record;
    size_t size;
    while (!load->sealed && (size = record_decode(slice_make(bytes.data + at, bytes.size - at),
                                                  segment->number, &record)) > 0) {
        at += (uint32_t)size;
        mark_note(&record, &load->durable);
        if (!record.more)
            segment->size = at;
        load->sealed = record.kind == RECORD_SEAL;
    }
    load->rest_is_clean = recovery_is_zero(bytes.data + segment->size, bytes.size - segment->size);
}

static void load_fail(struct load *load, int error, const char *what)
{
    load->error = error;
    load->what = what;
}

static int memory_fill(struct segment *segment, uint64_t size)
{
    uint8_t *memory = segment_memory_new(segment->capacity);
    if (memory == NULL)
        return KVS_ERR_NO_MEMORY;
    atomic_store_explicit(&segment->memory, memory, memory_order_relaxed);
    return size > 0 ? file_read(segment->fd, memory, size, 0) : 0;
}

static void memory_free(struct segment *segment)
{
    uint8_t *memory = atomic_load_explicit(&segment->memory, memory_order_relaxed);
    segment_memory_unref(memory);
    atomic_store_explicit(&segment->memory, NULL, memory_order_relaxed);
}

static void load_records(struct load *load)
{
    struct segment *segment = load->segment;
    int error = memory_fill(segment, load->file_size);
    if (error != 0) {
        load_fail(load, error, "cannot be read");
        return;
    }
    uint8_t *memory = atomic_load_explicit(&segment->memory, memory_order_relaxed);
    kvs_slice bytes = slice_make(memory, load->file_size);
    load->header_is_valid = segment_header_decode(bytes, segment->number, &load->header_sequence);
    if (load->header_is_valid) {
        load_scan(load, bytes);
        error = hint_build(slice_make(memory, segment->size), segment->number, &load->hint);
        if (error != 0)
            load_fail(load, error, "cannot be indexed");
    }
    if (!load->keep_memory)
        memory_free(segment);
}

static void load_hint_forget(struct load *load)
{
    if (load->hint_fd >= 0)
        close(load->hint_fd);
    load->hint_fd = -1;
    hint_deinit(&load->hint);
}

/* Others need descriptors, too. */
static bool is_high(int fd)
{
    return fd > sysconf(_SC_OPEN_MAX) / 2;
}

/* Few items are read at once: what is wrong with them is then told by the open. */
static int load_items(struct recovery *recovery, struct load *load)
{
    uint64_t items =
        atomic_fetch_add_explicit(&recovery->items_read, load->hint.count, memory_order_relaxed);
    bool are_few = items + load->hint.count <= LOADING_SMALL_ITEMS && !fault_gate_is_there();
    if (load->hint_fd < 0 || (!are_few && !is_high(load->hint_fd)))
        return 0;
    int error = hint_file_read_items(load->hint_fd, &load->hint);
    close(load->hint_fd);
    load->hint_fd = -1;
    return error;
}

static int load_hint(struct recovery *recovery, struct load *load)
{
    int error =
        hint_file_open(recovery->log, load->segment, load->file_size, &load->hint, &load->hint_fd);
    if (error != 0)
        return error;
    error = load_items(recovery, load);
    if (error != 0)
        load_hint_forget(load);
    return error;
}

/* Or leaves it to load_records. */
static void load_from_hint(struct recovery *recovery, struct load *load)
{
    struct segment *segment = load->segment;
    int error = segment->hint == SEGMENT_HINT_BAD ? load_hint(recovery, load) : KVS_ERR_NOT_FOUND;
    if (error == KVS_ERR_NO_MEMORY) { /* it may be right, and the records would take more */
        load_fail(load, error, "its hint cannot be read");
        return;
    }
    load->is_read = error != 0;
    if (load->is_read)
        return;
    if (!hint_is_old(&load->hint))
        segment->hint = SEGMENT_HINT_THERE;
    segment->hint_size = load->hint.bytes.size;
    segment->size = (uint32_t)load->file_size;
    load->header_is_valid = true;
    load->sealed = true;
    load->rest_is_clean = true;
}

static struct load *load_next(struct recovery *recovery)
{
    size_t next = atomic_fetch_add_explicit(&recovery->next_load, 1, memory_order_relaxed);
    return next < recovery->count ? &recovery->loads[next] : NULL;
}

static void hints_work(void *arg, unsigned i)
{
    struct load *load;
    (void)i;
    while ((load = load_next(arg)) != NULL)
        load_from_hint(arg, load);
}

static void records_work(void *arg, unsigned i)
{
    struct load *load;
    (void)i;
    while ((load = load_next(arg)) != NULL) {
        if (load->is_read)
            load_records(load);
    }
}

/* The hints first: of each little is read, so most of the time is waiting for the disk, and more
 * threads than processors are of use. */
static void loads_run(struct recovery *recovery)
{
    uint64_t bytes = 0;
    size_t hands = recovery->count / HINTS_PER_HAND + 1;
    team_run(hands < TEAM_MAX ? (unsigned)hands : TEAM_MAX, hints_work, recovery);
    for (size_t i = 0; i < recovery->count; i++)
        bytes += recovery->loads[i].is_read ? recovery->loads[i].file_size : 0;
    atomic_store_explicit(&recovery->next_load, 0, memory_order_relaxed);
    team_run(team_count(bytes, BYTES_PER_HAND), records_work, recovery);
    for (size_t i = 0; i < recovery->count; i++) {
        struct segment *segment = recovery->loads[i].segment;
        if (atomic_load_explicit(&segment->memory, memory_order_relaxed) != NULL)
            recovery->log->cached_bytes += segment->capacity;
    }
}

/* --- where the log ends ----------------------------------------------------------------------- */

static void stop_at(struct recovery *recovery, const struct load *load, uint32_t offset)
{
    recovery->stopped = true;
    recovery->bad = (struct place){load->segment->number, offset};
}

/* The first `size` bytes of the file: in memory, or read into *ret_copy, which the caller frees. */
static int load_bytes(struct recovery *recovery, const struct load *load, uint64_t size,
                      kvs_slice *ret_bytes, uint8_t **ret_copy)
{
    const struct segment *segment = load->segment;
    uint8_t *memory = atomic_load_explicit(&segment->memory, memory_order_relaxed);
    *ret_copy = NULL;
    if (memory == NULL && size > 0) {
        memory = mem_alloc(size);
        int error = memory != NULL ? file_read(segment->fd, memory, size, 0) : KVS_ERR_NO_MEMORY;
        if (error != 0) {
            mem_free(memory);
            return fail(recovery, error, segment->number, "cannot be read");
        }
        *ret_copy = memory;
    }
    *ret_bytes = slice_make(memory, size);
    return 0;
}

/* Looks for marks from `from` on. */
static int load_marks_scan(struct recovery *recovery, const struct load *load, size_t from)
{
    kvs_slice bytes;
    uint8_t *copy;
    int error = load_bytes(recovery, load, load->file_size, &bytes, &copy);
    if (error != 0)
        return error;
    recovery_marks_scan(&recovery->durable, load->segment->number, bytes, from);
    mem_free(copy);
    return 0;
}

/* Behind the bad place: it counts for its marks only. */
static int load_pass(struct recovery *recovery, struct load *load)
{
    struct segment *segment = load->segment;
    int error = load_marks_scan(recovery, load, SEGMENT_HEADER_SIZE);
    segment->size = 0;
    segment_forget_memory(recovery->log, segment);
    recovery->cut_bytes += load->file_size;
    return error;
}

static int load_consider(struct recovery *recovery, struct load *load, bool last)
{
    struct log_engine *log = recovery->log;
    struct segment *segment = load->segment;
    if (load->error != 0)
        return fail(recovery, load->error, segment->number, load->what);
    if (recovery->stopped)
        return load_pass(recovery, load);
    if (!load->header_is_valid) {
        segment->size = 0;
        stop_at(recovery, load, 0);
        recovery->cut_bytes += load->file_size;
        return load_marks_scan(recovery, load, SEGMENT_HEADER_SIZE);
    }
    recovery->merged++;
    if (place_is_durable(&load->durable, recovery->durable.segment, recovery->durable.offset))
        recovery->durable = load->durable;
    segment->state = load->sealed ? SEGMENT_SEALED : SEGMENT_ACTIVE;
    segment->accounts.tombstone_bytes = load->hint.tombstone_bytes;
    segment->accounts.set_sequence_min = load->hint.set_sequence_min;
    if (load->header_sequence > log->working.sequence + 1)
        log->working.sequence = load->header_sequence - 1;
    if (load->hint.sequence_last > log->working.sequence)
        log->working.sequence = load->hint.sequence_last;
    if (load->rest_is_clean && (load->sealed || last))
        return 0;
    stop_at(recovery, load, segment->size);
    recovery->cut_bytes += load->rest_is_clean ? 0 : load->file_size - segment->size;
    return load_marks_scan(recovery, load, segment->size);
}

/* The segment that is appended to, and the one that is cut, must be in memory, with room. */
static int active_memory_ensure(struct recovery *recovery, struct segment *segment)
{
    struct log_engine *log = recovery->log;
    if (atomic_load_explicit(&segment->memory, memory_order_relaxed) != NULL)
        return 0;
    int error = memory_fill(segment, segment->size);
    if (error != 0)
        return fail(recovery, error, segment->number, "cannot be read");
    log->cached_bytes += segment->capacity;
    return 0;
}

/* Of a file that was made ahead and never begun. Whichever of them are left after a crash, they are
 * cut off again, so one sync for all is enough: before a segment follows that has a number behind
 * them. */
static int file_remove(struct log_engine *log, const struct segment *segment)
{
    char path[SEGMENT_PATH_SIZE];
    segment_path(log, segment->number, path, sizeof path);
    return file_unlink(path);
}

/* Removes the segments behind the bad place and cuts the one it is in. The newest goes first: were
 * the first one gone and the next still there after a crash, it would pass for compacted. */
static int log_cut(struct recovery *recovery)
{
    struct log_engine *log = recovery->log;
    struct segment *keep = NULL;
    for (struct segment *at = log->oldest; at != NULL && at->size > 0; at = at->next)
        keep = at;
    bool any_empty = false;
    while (log->newest != keep) {
        struct segment *segment = log->newest;
        bool is_empty = segment->prepared == 0;
        int error = is_empty ? file_remove(log, segment) : segments_remove_file(log, segment);
        if (error != 0)
            return fail(recovery, error, segment->number, "cannot be removed");
        any_empty |= is_empty;
        segments_drop(log, segment);
    }
    int error = any_empty ? file_sync_directory(log->directory) : 0;
    if (error != 0)
        return fail(recovery, error, recovery->bad.segment, "cannot be cut");
    if (keep == NULL || keep->number != recovery->bad.segment)
        return 0;
    /* It will be appended to: what a hint says of it would be of another time. */
    error = keep->hint != SEGMENT_HINT_NONE ? hint_file_remove(log, keep->number, false) : 0;
    keep->hint = SEGMENT_HINT_NONE;
    keep->prepared = keep->size;
    if (error == 0)
        error = file_truncate(keep->fd, keep->size);
    if (error == 0)
        error = file_sync(keep->fd);
    if (error != 0)
        return fail(recovery, error, keep->number, "cannot be cut");
    return active_memory_ensure(recovery, keep);
}

static int log_end(struct recovery *recovery)
{
    struct log_engine *log = recovery->log;
    struct place bad = recovery->bad;
    char *text = recovery->message->text;
    size_t text_size = sizeof recovery->message->text;
    if (!recovery->stopped)
        return 0;
    if (place_is_durable(&recovery->durable, bad.segment, bad.offset)) {
        snprintf(text, text_size,
                 "%s: segment %u is damaged at offset %u, in data that was safely written; restore "
                 "a backup, save what can be read (kvs-server --dir DIR --repair NEWDIR), or move "
                 "it aside to start empty",
                 log->directory, bad.segment, bad.offset);
        return KVS_ERR_CORRUPTION;
    }
    int error = log_cut(recovery);
    if (error == 0 && recovery->cut_bytes > SEGMENT_HEADER_SIZE)
        snprintf(text, text_size, "%s: cut %llu bytes of unfinished writes at segment %u offset %u",
                 log->directory, (unsigned long long)recovery->cut_bytes, bad.segment, bad.offset);
    return error;
}

/* --- what no mark vouches for ----------------------------------------------------------------- */

static int load_write_again(struct recovery *recovery, const struct load *load, uint32_t from)
{
    const struct segment *segment = load->segment;
    kvs_slice bytes;
    uint8_t *copy;
    int error = load_bytes(recovery, load, segment->size, &bytes, &copy);
    if (error != 0)
        return error;
    error = file_write(segment->fd, bytes.data + from, bytes.size - from, from);
    mem_free(copy);
    return error != 0 ? fail(recovery, error, segment->number, "cannot be written again") : 0;
}

/* After a failed sync the system counts the pages as written, and gives them to whoever reads; the
 * next sync, of a new process too, passes them by and succeeds. So before a sync may vouch for what
 * was read behind the last mark, it is written once more, in its place. */
static int tail_write_again(struct recovery *recovery)
{
    const struct place *durable = &recovery->durable;
    int error = 0;
    for (size_t i = 0; i < recovery->merged && error == 0; i++) {
        const struct load *load = &recovery->loads[i];
        const struct segment *segment = load->segment;
        uint32_t from = segment->number == durable->segment ? durable->offset : 0;
        /* One with a hint was synced before that was written. */
        if (load->is_read && segment->number >= durable->segment && from < segment->size)
            error = load_write_again(recovery, load, from);
    }
    return error;
}

/* --- opening ---------------------------------------------------------------------------------- */

/* Those behind `merged` do not count. */
static int index_leave(struct recovery *recovery)
{
    struct loading *loading = loading_new(recovery->merged);
    if (loading == NULL)
        return KVS_ERR_NO_MEMORY;
    for (size_t i = 0; i < recovery->merged; i++) {
        struct load *load = &recovery->loads[i];
        loading_add(loading, load->segment, &load->hint, load->hint_fd);
        load->hint_fd = -1;
    }
    return loading_begin(loading, recovery->log);
}

/* Files that are of no use: an error costs nobody anything, and the next start tries again. */
static void hints_clean(const struct recovery *recovery)
{
    const struct log_files *files = &recovery->files;
    for (size_t i = 0; i < files->hints.count; i++) {
        if (!numbers_have(&files->segments, files->hints.items[i]))
            (void)hint_file_remove(recovery->log, files->hints.items[i], false);
    }
    for (size_t i = 0; i < files->new_hints.count; i++)
        (void)hint_file_remove(recovery->log, files->new_hints.items[i], true);
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

static int log_read(struct recovery *recovery)
{
    int error = log_files_list(recovery->log, &recovery->files);
    if (error == 0)
        error = loads_begin(recovery);
    if (error != 0)
        return error;
    loads_run(recovery);
    for (size_t i = 0; i < recovery->count && error == 0; i++)
        error = load_consider(recovery, &recovery->loads[i], i + 1 == recovery->count);
    if (error == 0)
        error = log_end(recovery);
    if (error == 0)
        error = tail_write_again(recovery);
    return error;
}

static int log_continue(struct recovery *recovery)
{
    struct log_engine *log = recovery->log;
    const struct numbers *numbers = &recovery->files.segments;
    hints_clean(recovery);
    log->next_number = (numbers->count > 0 ? numbers->items[numbers->count - 1] : 0) + 1;
    int error = 0;
    if (log->newest == NULL || log->newest->state == SEGMENT_SEALED)
        error = segments_begin(log, 0);
    if (error == 0 && log->sync == KVS_SYNC_ALWAYS)
        error = log_sync(log);
    if (error == 0 && log->newest->direct_fd < 0)
        segment_open_direct(log, log->newest);
    return error;
}

int recovery_run(struct log_engine *log, struct engine_message *message)
{
    struct recovery recovery = {.log = log, .message = message};
    int error = log_read(&recovery);
    if (error == 0)
        error = log_continue(&recovery);
    if (error == 0)
        error = index_leave(&recovery);
    segments_evict(log);
    version_reclaim_all(log);
    for (size_t i = 0; i < recovery.count; i++)
        load_hint_forget(&recovery.loads[i]);
    mem_free(recovery.loads);
    log_files_deinit(&recovery.files);
    return error;
}

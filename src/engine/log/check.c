/* engine/log/check.c: see check.h. */
#include "engine/log/check.h"

#include "base/clock.h"
#include "base/mem.h"
#include "engine/directory.h"
#include "engine/file.h"
#include "engine/log/hint.h"
#include "engine/log/log_engine.h"
#include "engine/log/survey.h"
#include "engine/write_blocking.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define LINE_SIZE 512
#define BATCH_COUNT 500u
#define BATCH_SIZE_MAX (1024u * 1024)

struct checking {
    struct log_survey survey;
    struct log_check *check;
    struct log_engine *log;
    uint8_t *buffer; /* for the record being compared */
    size_t buffer_size;
};

static void say(struct log_check *check, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void say(struct log_check *check, const char *format, ...)
{
    char line[LINE_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    check->say(check, line);
}

static void on_lost(struct log_survey *survey, uint32_t segment, uint32_t from, uint32_t to,
                    const char *what)
{
    struct checking *checking = CONTAINER_OF(survey, struct checking, survey);
    char name[SEGMENT_NAME_SIZE];
    segment_name_format(segment, name);
    checking->check->damages++;
    checking->check->lost_bytes += to - from;
    say(checking->check, "damage: %s, offset %u to %u (%u bytes): %s", name, from, to, to - from,
        what);
}

static void on_hint(struct log_survey *survey, uint32_t segment, bool is_wrong)
{
    struct checking *checking = CONTAINER_OF(survey, struct checking, survey);
    char name[HINT_NAME_SIZE];
    hint_name_format(segment, false, name);
    checking->check->damages += is_wrong;
    if (is_wrong)
        say(checking->check,
            "damage: %s: tells other keys than its segment; remove it: without it, a start reads "
            "the segment",
            name);
    else
        say(checking->check, "note: %s is damaged, or of another segment; a start does not use it",
            name);
}

/* --- the index against the files -------------------------------------------------------------- */

/* Reads the record of an entry from its file, into the buffer. */
static int entry_read(struct checking *checking, const struct entry *entry,
                      struct record *ret_record)
{
    uint64_t location = atomic_load_explicit(&entry->location, memory_order_relaxed);
    uint32_t size = entry_record_size(entry);
    if (size > checking->buffer_size) {
        mem_free(checking->buffer);
        checking->buffer_size = 0;
        checking->buffer = mem_alloc(size);
        if (checking->buffer == NULL)
            return KVS_ERR_NO_MEMORY;
        checking->buffer_size = size;
    }
    return segment_read_record(segment_at(checking->log, location), location_offset(location), size,
                               true, checking->buffer, ret_record);
}

static bool entry_is(const struct entry *entry, unsigned family, const struct record *record)
{
    return record->kind == RECORD_SET && record->family == family &&
           slice_equal(record->key, entry_key(entry)) && record->sequence == entry->birth &&
           record->value.size == entry->value_size &&
           record->expires_at_ms == entry_expires_at(entry);
}

static int entry_check(struct checking *checking, unsigned family, const struct entry *entry)
{
    struct record record;
    int error = entry_read(checking, entry, &record);
    if (error == KVS_ERR_NO_MEMORY || (error == 0 && entry_is(entry, family, &record)))
        return error;
    uint64_t location = atomic_load_explicit(&entry->location, memory_order_relaxed);
    char name[SEGMENT_NAME_SIZE];
    segment_name_format(segment_at(checking->log, location)->number, name);
    checking->check->damages++;
    say(checking->check, "damage: %s, offset %u: the index says another record than the file%s%s",
        name, location_offset(location), error != 0 ? ": " : "",
        error != 0 ? kvs_error_text(error) : "");
    return 0;
}

static int index_check(struct checking *checking)
{
    int error = 0;
    for (unsigned family = 0; family < ENGINE_FAMILY_COUNT && error == 0; family++) {
        const struct tree_root *tree = &checking->log->working.families[family];
        struct tree_cursor cursor;
        tree_seek(&cursor, tree->root, (kvs_slice){0});
        uint64_t keys = 0;
        for (const struct entry *entry; error == 0 && (entry = tree_cursor_entry(&cursor)) != NULL;
             tree_next(&cursor)) {
            error = entry_check(checking, family, entry);
            keys++;
        }
        if (error == 0 && keys != tree->keys) {
            checking->check->damages++;
            say(checking->check, "damage: the index counts %llu keys of family %u, and has %llu",
                (unsigned long long)tree->keys, family, (unsigned long long)keys);
        }
        checking->check->keys += keys;
    }
    return error;
}

/* --- saving ----------------------------------------------------------------------------------- */

/* One batch on its way to the new directory. */
struct saving {
    struct checking *checking;
    struct engine *engine;
    uint64_t now_ms;
    struct buf bytes; /* keys and values of the batch */
    kvs_mutation mutations[BATCH_COUNT];
    size_t offsets[BATCH_COUNT]; /* of the keys in bytes, which moves while it grows */
    uint32_t count;
};

static int saving_flush(struct saving *saving)
{
    if (saving->count == 0)
        return 0;
    for (uint32_t i = 0; i < saving->count; i++) {
        kvs_mutation *mutation = &saving->mutations[i];
        mutation->key.data = saving->bytes.data + saving->offsets[i];
        mutation->value.data = mutation->key.data + mutation->key.size;
    }
    int error = engine_write_blocking(saving->engine, saving->mutations, saving->count);
    if (error == 0)
        saving->checking->check->saved += saving->count;
    saving->count = 0;
    buf_clear(&saving->bytes);
    return error;
}

static int saving_add(struct saving *saving, unsigned family, const struct entry *entry)
{
    uint64_t ends = entry_expires_at(entry);
    if (entry->expires && ends <= saving->now_ms)
        return 0;
    struct record record;
    int error = entry_read(saving->checking, entry, &record);
    if (error == KVS_ERR_NO_MEMORY)
        return error;
    if (error != 0 || !entry_is(entry, family, &record))
        return 0; /* reported when the index was checked */
    saving->offsets[saving->count] = saving->bytes.size;
    saving->mutations[saving->count++] =
        (kvs_mutation){.kind = KVS_MUTATION_SET,
                       .family = (uint8_t)family,
                       .key = record.key,
                       .value = record.value,
                       .ttl_ms = entry->expires ? ends - saving->now_ms : 0};
    error = buf_append_slice(&saving->bytes, record.key);
    if (error == 0)
        error = buf_append_slice(&saving->bytes, record.value);
    if (error == 0 && (saving->count == BATCH_COUNT || saving->bytes.size > BATCH_SIZE_MAX))
        error = saving_flush(saving);
    return error;
}

static int index_save(struct checking *checking, struct engine *engine)
{
    struct saving *saving = mem_zalloc(sizeof *saving);
    if (saving == NULL)
        return KVS_ERR_NO_MEMORY;
    saving->checking = checking;
    saving->engine = engine;
    saving->now_ms = clock_wall_ms();
    int error = 0;
    for (unsigned family = 0; family < ENGINE_FAMILY_COUNT && error == 0; family++) {
        struct tree_cursor cursor;
        tree_seek(&cursor, checking->log->working.families[family].root, (kvs_slice){0});
        for (const struct entry *entry; error == 0 && (entry = tree_cursor_entry(&cursor)) != NULL;
             tree_next(&cursor))
            error = saving_add(saving, family, entry);
        if (error == 0)
            error = saving_flush(saving);
    }
    buf_deinit(&saving->bytes);
    mem_free(saving);
    return error;
}

static int save_begin(const char *save_to, struct engine_message *message)
{
    int error = engine_directory_make_blocking(save_to);
    if (error == KVS_ERR_ALREADY_EXISTS)
        snprintf(message->text, sizeof message->text,
                 "%s: is there already; what is saved goes to a new directory", save_to);
    else if (error != 0)
        engine_directory_fail(message, error, save_to, "cannot be made");
    return error;
}

/* Unless something was saved. */
static void save_forget(const char *save_to)
{
    char lock[PATH_MAX];
    bool has_mark;
    bool has_segments;
    int error = engine_directory_look_blocking(save_to, &has_mark, &has_segments);
    if (error != 0 || has_mark || has_segments)
        return;
    int length = snprintf(lock, sizeof lock, "%s/LOCK", save_to);
    if (length > 0 && (size_t)length < sizeof lock)
        (void)unlink(lock);
    (void)rmdir(save_to);
}

static int save(struct checking *checking, const char *save_to, kvs_thread_pool *pool,
                struct engine_message *message)
{
    const struct engine_options options = {
        .pool = pool,
        .directory = save_to,
        .sync = KVS_SYNC_INTERVAL, /* close syncs */
        .marks_last = true,        /* half of it must not pass for a store */
    };
    struct engine *engine;
    int error = log_engine_open_blocking(&options, &engine, message);
    if (error != 0)
        return error;
    error = index_save(checking, engine);
    int closed = engine_close_blocking(engine);
    error = error != 0 ? error : closed;
    if (error == 0) /* or the mark might outlive a power cut, and segments not */
        error = file_sync_directory(save_to);
    if (error == 0)
        error = engine_directory_mark_blocking(save_to, LOG_ENGINE_NAME);
    return error == 0
               ? 0
               : engine_directory_fail(message, error, save_to,
                                       "cannot be written; what is there is not all and is opened "
                                       "by no server: remove it, and repair to another directory");
}

/* --- all of it -------------------------------------------------------------------------------- */

static int marker_check(struct log_check *check, const char *directory,
                        struct engine_message *message)
{
    char name[32] = "";
    int error = engine_directory_probe_blocking(directory, name);
    if (error == 0 && strcmp(name, LOG_ENGINE_NAME) == 0)
        return 0;
    if (error == 0 && name[0] != '\0') {
        snprintf(message->text, sizeof message->text,
                 "%s: was written by the engine \"%s\"; only directories of the engine \"kvs\" can "
                 "be checked",
                 directory, name);
        return KVS_ERR_WRONG_ENGINE;
    }
    check->damages++;
    const char *what = error != 0 ? kvs_error_text(error) : "is missing";
    if (error == KVS_ERR_UNSUPPORTED)
        what = "names a format of a newer version of kvs";
    say(check, "damage: KVS, the file that names the engine: %s", what);
    return 0;
}

static int check_run(struct checking *checking, const char *directory, const char *save_to,
                     kvs_thread_pool *pool, struct engine_message *message)
{
    struct log_check *check = checking->check;
    int error = marker_check(check, directory, message);
    if (error != 0)
        return error;
    const struct engine_options options = {.pool = pool, .directory = directory};
    error = log_engine_new(&options, &checking->log);
    if (error != 0)
        return engine_directory_fail(message, error, directory, "cannot be checked");
    checking->survey.lost = on_lost;
    checking->survey.hint = on_hint;
    error = log_survey_run(checking->log, &checking->survey, message);
    check->segments = checking->survey.segments;
    check->records = checking->survey.records;
    check->bytes = checking->survey.bytes;
    check->unfinished_bytes = checking->survey.unfinished_bytes;
    if (error == 0 && check->unfinished_bytes > 0) {
        char name[SEGMENT_NAME_SIZE];
        segment_name_format(checking->survey.end_segment, name);
        say(check,
            "note: %s, offset %u: %llu bytes of unfinished writes follow; they were never "
            "acknowledged as durable",
            name, checking->survey.end_offset, (unsigned long long)check->unfinished_bytes);
    }
    if (error == 0) {
        error = index_check(checking);
        if (error == 0 && save_to != NULL)
            error = save(checking, save_to, pool, message);
    }
    mem_free(checking->buffer);
    log_engine_free(checking->log);
    if (error != 0 && message->text[0] == '\0')
        engine_directory_fail(message, error, directory, "cannot be checked");
    return error;
}

/* One that cannot be written, as a backup on a medium or of another user, is checked, too, with the
 * lock file that is there, or none: -1. */
static int directory_lock(struct log_check *check, const char *directory, int *ret_lock_fd,
                          struct engine_message *message)
{
    *ret_lock_fd = -1;
    int error = engine_directory_lock_blocking(directory, ret_lock_fd, message);
    if (error != KVS_ERR_PERMISSION && error != KVS_ERR_READ_ONLY)
        return error;
    error = engine_directory_lock_unwritten_blocking(directory, ret_lock_fd, message);
    if (error == 0 || error == KVS_ERR_LOCKED)
        return error;
    message->text[0] = '\0';
    say(check,
        "note: the directory cannot be written, and its file LOCK is missing or cannot be locked; "
        "see to it that nobody opens it meanwhile");
    return 0;
}

/* Is there anything of a store? Else not even a lock file is to be left. */
static int store_look(const char *directory, struct engine_message *message)
{
    bool has_mark = false;
    bool has_segments = false;
    int error = engine_directory_look_blocking(directory, &has_mark, &has_segments);
    if (error != 0)
        return engine_directory_fail(message, error, directory, "cannot be checked");
    if (has_mark || has_segments)
        return 0;
    snprintf(
        message->text, sizeof message->text,
        "%s: is no directory of a store: neither the file KVS is there nor one of the log; name "
        "another (--dir)",
        directory);
    return KVS_ERR_NO_DIRECTORY;
}

int log_check_blocking(struct log_check *check, const char *directory, const char *save_to,
                       kvs_thread_pool *pool, struct engine_message *ret_message)
{
    struct checking checking = {.check = check};
    ret_message->text[0] = '\0';
    int lock_fd;
    int error = store_look(directory, ret_message);
    if (error == 0)
        error = directory_lock(check, directory, &lock_fd, ret_message);
    if (error != 0)
        return error;
    if (save_to != NULL) /* before all is read, which may take hours */
        error = save_begin(save_to, ret_message);
    if (error == 0) {
        error = check_run(&checking, directory, save_to, pool, ret_message);
        if (error != 0 && save_to != NULL)
            save_forget(save_to);
    }
    if (lock_fd >= 0)
        close(lock_fd);
    return error;
}

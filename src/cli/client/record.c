/*
 * cli/client/record.c: see cli/client/record.h.
 *
 * Happy path of reading: the first bytes tell the format; then record by record. Failures: a read
 * error, a line that is no record, a size over the limits, a raw file that stops early; each sets
 * the message and nothing more is read. Main thread.
 */
#include "cli/client/record.h"

#include "base/bytes.h"
#include "cli/client/encoding.h"

#include <kvs/store.h>

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <string.h>

#define VALUE_SIZE_MAX (64u * 1024 * 1024)                 /* no store takes more */
#define LINE_SIZE_MAX (6u * (VALUE_SIZE_MAX + 8192) + 256) /* all of it as \u0000 */

static const char raw_magic[] = "kvs-export 2\n";
static const char raw_magic_old[] = "kvs-export 1\n"; /* as long */

#define EXPIRES_MAX ((uint64_t)1 << 53) /* what numbers of JSON carry exactly */

int record_writer_init(struct record_writer *writer, FILE *file, bool raw)
{
    *writer = (struct record_writer){.file = file, .raw = raw};
    if (raw && fwrite(raw_magic, 1, sizeof raw_magic - 1, file) != sizeof raw_magic - 1)
        return KVS_ERR_IO;
    return 0;
}

static int format_raw(struct buf *line, const struct record *record)
{
    int error = buf_append_u32(line, (uint32_t)record->key.size);
    error = error != 0 ? error : buf_append_u32(line, (uint32_t)record->value.size);
    error = error != 0 ? error : buf_append_u32(line, record->family);
    error = error != 0 ? error : buf_append_u64(line, record->expires_at_ms);
    error = error != 0 ? error : buf_append_slice(line, record->key);
    return error != 0 ? error : buf_append_slice(line, record->value);
}

static int format_json(struct buf *line, const struct record *record)
{
    char rest[80] = "";
    int size = 0;
    if (record->family != 0)
        size = snprintf(rest, sizeof rest, ",\"family\":%u", record->family);
    if (record->expires_at_ms != 0)
        size += snprintf(rest + size, sizeof rest - (size_t)size, ",\"expires\":%llu",
                         (unsigned long long)record->expires_at_ms);
    size += snprintf(rest + size, sizeof rest - (size_t)size, "}\n");
    int error = buf_append_u8(line, '{');
    error = error != 0 ? error : json_field_append(line, "key", record->key);
    error = error != 0 ? error : buf_append_u8(line, ',');
    error = error != 0 ? error : json_field_append(line, "value", record->value);
    return error != 0 ? error : buf_append(line, rest, (size_t)size);
}

static int write_line(struct record_writer *writer)
{
    const struct buf *line = &writer->line;
    return fwrite(line->data, 1, line->size, writer->file) == line->size ? 0 : KVS_ERR_IO;
}

int record_write(struct record_writer *writer, const struct record *record)
{
    buf_clear(&writer->line);
    int error =
        writer->raw ? format_raw(&writer->line, record) : format_json(&writer->line, record);
    if (error == 0)
        error = write_line(writer);
    writer->count += error == 0;
    return error;
}

int record_writer_finish(struct record_writer *writer)
{
    int error = 0;
    buf_clear(&writer->line);
    if (writer->raw) {
        error = buf_append_u64(&writer->line, 0);
        if (error == 0)
            error = buf_append_u64(&writer->line, writer->count);
        if (error == 0)
            error = write_line(writer);
    }
    return error == 0 && fflush(writer->file) != 0 ? KVS_ERR_IO : error;
}

void record_writer_deinit(struct record_writer *writer)
{
    buf_deinit(&writer->line);
}

/* --- reading ---------------------------------------------------------------------------------- */

void record_reader_init(struct record_reader *reader, FILE *file)
{
    *reader = (struct record_reader){.file = file};
}

void record_reader_deinit(struct record_reader *reader)
{
    buf_deinit(&reader->line);
    buf_deinit(&reader->key);
    buf_deinit(&reader->value);
}

const char *record_reader_noun(const struct record_reader *reader)
{
    return reader->raw ? "record" : "line";
}

static int bad(struct record_reader *reader, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int bad(struct record_reader *reader, int error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(reader->message, sizeof reader->message, format, args);
    va_end(args);
    return error;
}

static int bad_memory(struct record_reader *reader)
{
    return bad(reader, KVS_ERR_NO_MEMORY, "out of memory");
}

/* Exactly `size` bytes, appended to the buf. */
static int read_bytes(struct record_reader *reader, struct buf *buf, size_t size)
{
    if (buf_reserve(buf, size) != 0)
        return bad_memory(reader);
    if (size == 0)
        return 0;
    errno = 0;
    size_t got = fread(buf->data + buf->size, 1, size, reader->file);
    reader->bytes_read += got;
    if (got < size && ferror(reader->file))
        return bad(reader, KVS_ERR_IO, "cannot read on: %s", strerror(errno));
    if (got < size)
        return bad(reader, KVS_ERR_CORRUPTION, "the input ends in the middle of a record");
    buf->size += size;
    return 0;
}

static int read_raw_end(struct record_reader *reader)
{
    buf_clear(&reader->line);
    int error = read_bytes(reader, &reader->line, 8);
    if (error != 0)
        return error;
    uint64_t count = get_u64(reader->line.data);
    if (count != reader->count)
        return bad(reader, KVS_ERR_CORRUPTION, "the input lost records: it should have %llu",
                   (unsigned long long)count);
    if (getc(reader->file) != EOF)
        return bad(reader, KVS_ERR_CORRUPTION, "there are bytes behind the end of the records");
    return 0;
}

/* Family and end of life, which follow the sizes. */
static int read_raw_rest(struct record_reader *reader, struct record *ret_record)
{
    buf_clear(&reader->line);
    int error = read_bytes(reader, &reader->line, 12);
    if (error != 0)
        return error;
    uint32_t family = get_u32(reader->line.data);
    uint64_t expires = get_u64(reader->line.data + 4);
    if (family >= RECORD_FAMILIES || expires > EXPIRES_MAX)
        return bad(reader, KVS_ERR_CORRUPTION, "%u and %llu cannot be a family and an end of life",
                   family, (unsigned long long)expires);
    ret_record->family = (uint8_t)family;
    ret_record->expires_at_ms = expires;
    return 0;
}

static int read_raw(struct record_reader *reader, struct record *ret_record)
{
    buf_clear(&reader->line);
    reader->number++; /* the end counts too: it is what may be missing */
    int error = read_bytes(reader, &reader->line, 8);
    if (error != 0)
        return error;
    uint32_t key_size = get_u32(reader->line.data), value_size = get_u32(reader->line.data + 4);
    if (key_size == 0 && value_size == 0)
        return read_raw_end(reader);
    if (key_size == 0 || key_size > KVS_KEY_SIZE_MAX || value_size > VALUE_SIZE_MAX)
        return bad(reader, KVS_ERR_CORRUPTION, "sizes %u and %u cannot be a key's and a value's",
                   key_size, value_size);
    struct record record = {0};
    error = reader->short_records ? 0 : read_raw_rest(reader, &record);
    buf_clear(&reader->key);
    buf_clear(&reader->value);
    if (error == 0)
        error = read_bytes(reader, &reader->key, key_size);
    if (error == 0)
        error = read_bytes(reader, &reader->value, value_size);
    if (error != 0)
        return error;
    reader->count++;
    record.key = buf_slice(&reader->key);
    record.value = buf_slice(&reader->value);
    *ret_record = record;
    return 1;
}

/* The next line without its newline; 1, or 0 at the end. */
static int read_line(struct record_reader *reader)
{
    struct buf *line = &reader->line;
    buf_clear(line);
    errno = 0;
    for (;;) {
        int byte = getc_unlocked(reader->file);
        if (byte == EOF && ferror(reader->file))
            return bad(reader, KVS_ERR_IO, "cannot read on: %s", strerror(errno));
        if (byte == EOF)
            return line->size > 0;
        reader->bytes_read++;
        if (byte == '\n')
            return 1;
        if (line->size == LINE_SIZE_MAX)
            return bad(reader, KVS_ERR_TOO_LARGE, "the line is longer than any record");
        if (buf_append_u8(line, (uint8_t)byte) != 0)
            return bad_memory(reader);
    }
}

/* A member of the object: its string, or base64 in the member with 64 at its name's end. Takes the
 * members it used out of *left. */
static int take_field(struct record_reader *reader, json_t *object, const char *name,
                      struct buf *ret_bytes, size_t *left)
{
    char name64[16];
    snprintf(name64, sizeof name64, "%s64", name);
    const json_t *plain = json_object_get(object, name);
    const json_t *coded = json_object_get(object, name64);
    const json_t *given = plain != NULL ? plain : coded;
    buf_clear(ret_bytes);
    if (given == NULL)
        return bad(reader, KVS_ERR_INVALID_ARGUMENT, "there is no \"%s\"", name);
    if (plain != NULL && coded != NULL)
        return bad(reader, KVS_ERR_INVALID_ARGUMENT, "\"%s\" and \"%s\" exclude each other", name,
                   name64);
    if (!json_is_string(given))
        return bad(reader, KVS_ERR_INVALID_ARGUMENT, "\"%s\" is not a string", name);
    (*left)--;
    kvs_slice text = slice_make(json_string_value(given), json_string_length(given));
    int error =
        plain != NULL ? buf_append_slice(ret_bytes, text) : base64_decode_append(ret_bytes, text);
    if (error == KVS_ERR_NO_MEMORY)
        return bad_memory(reader);
    if (error != 0)
        return bad(reader, KVS_ERR_INVALID_ARGUMENT, "\"%s\" is not base64", name64);
    return 0;
}

static int take_ttl(struct record_reader *reader, json_t *object, uint64_t *ret_ttl_ms,
                    size_t *left)
{
    const json_t *ttl = json_object_get(object, "ttl");
    if (ttl == NULL)
        return 0;
    double seconds = json_is_number(ttl) ? json_number_value(ttl) : 0;
    if (!(seconds >= 0.001 && seconds <= (double)(KVS_TTL_MS_MAX / 1000)))
        return bad(reader, KVS_ERR_INVALID_ARGUMENT, "\"ttl\" is not a number of seconds");
    *ret_ttl_ms = (uint64_t)(seconds * 1000);
    (*left)--;
    return 0;
}

/* A member that is a number from `least` to `most`; nothing when it is not there. */
static int take_number(struct record_reader *reader, json_t *object, const char *name,
                       uint64_t least, uint64_t most, uint64_t *ret_number, size_t *left)
{
    const json_t *member = json_object_get(object, name);
    if (member == NULL)
        return 0;
    json_int_t number = json_is_integer(member) ? json_integer_value(member) : -1;
    if (number < 0 || (uint64_t)number < least || (uint64_t)number > most)
        return bad(reader, KVS_ERR_INVALID_ARGUMENT, "\"%s\" is not a number from %llu to %llu",
                   name, (unsigned long long)least, (unsigned long long)most);
    *ret_number = (uint64_t)number;
    (*left)--;
    return 0;
}

static int take_numbers(struct record_reader *reader, json_t *object, struct record *record,
                        size_t *left)
{
    uint64_t family = 0;
    int error = take_ttl(reader, object, &record->ttl_ms, left);
    if (error == 0)
        error =
            take_number(reader, object, "expires", 1, EXPIRES_MAX, &record->expires_at_ms, left);
    if (error == 0)
        error = take_number(reader, object, "family", 0, RECORD_FAMILIES - 1, &family, left);
    if (error == 0 && record->ttl_ms != 0 && record->expires_at_ms != 0)
        error = bad(reader, KVS_ERR_INVALID_ARGUMENT, "\"ttl\" and \"expires\" exclude each other");
    record->family = (uint8_t)family;
    return error;
}

static int parse_line(struct record_reader *reader, struct record *ret_record)
{
    json_error_t json_error;
    struct record record = {0};
    json_t *object = json_loadb((const char *)reader->line.data, reader->line.size,
                                JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &json_error);
    int error = 0;
    if (object == NULL)
        return bad(reader, KVS_ERR_INVALID_ARGUMENT, "no JSON (column %d: %.100s)",
                   json_error.column, json_error.text);
    size_t left = json_object_size(object);
    if (!json_is_object(object))
        error = bad(reader, KVS_ERR_INVALID_ARGUMENT, "no JSON object");
    if (error == 0)
        error = take_field(reader, object, "key", &reader->key, &left);
    if (error == 0)
        error = take_field(reader, object, "value", &reader->value, &left);
    if (error == 0)
        error = take_numbers(reader, object, &record, &left);
    if (error == 0 && left > 0)
        error = bad(reader, KVS_ERR_INVALID_ARGUMENT,
                    "only key, key64, value, value64, family, ttl and expires are known here");
    if (error == 0 && (reader->key.size == 0 || reader->key.size > KVS_KEY_SIZE_MAX))
        error = bad(reader, KVS_ERR_TOO_LARGE, "keys take 1 to %u bytes", KVS_KEY_SIZE_MAX);
    json_decref(object);
    if (error != 0)
        return error;
    record.key = buf_slice(&reader->key);
    record.value = buf_slice(&reader->value);
    *ret_record = record;
    return 1;
}

static bool is_blank(kvs_slice line)
{
    for (size_t i = 0; i < line.size; i++)
        if (strchr(" \t\r", line.data[i]) == NULL || line.data[i] == 0)
            return false;
    return true;
}

static bool is_magic(struct record_reader *reader)
{
    const struct buf *line = &reader->line;
    if (line->size != sizeof raw_magic - 2)
        return false;
    reader->short_records = memcmp(line->data, raw_magic_old, line->size) == 0;
    return reader->short_records || memcmp(line->data, raw_magic, line->size) == 0;
}

int record_read(struct record_reader *reader, struct record *ret_record)
{
    if (reader->raw)
        return read_raw(reader, ret_record);
    int got;
    while ((got = read_line(reader)) == 1) {
        reader->number++;
        if (!reader->begun && is_magic(reader)) {
            reader->begun = reader->raw = true;
            reader->number = 0;
            return read_raw(reader, ret_record);
        }
        reader->begun = true;
        if (is_blank(buf_slice(&reader->line)))
            continue;
        got = parse_line(reader, ret_record);
        reader->count += got == 1;
        return got;
    }
    return got;
}

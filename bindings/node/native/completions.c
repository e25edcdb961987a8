/*
 * native/completions.c: results on their way to JavaScript: many at once, in two arrays.
 *
 * Of a store's call, the runtime's thread writes them: they are in its cache, and JavaScript's
 * thread has enough to do. What else there is, JavaScript's thread writes itself.
 *
 * `words` are 32-bit numbers that say what there is, `bytes` are keys and values, one behind the
 * other, in the order in which words speak of them. A result in words:
 *
 *   id, error, then
 *   after an error: size of its message; 0, or 1 and what a transaction met: sizes of key and
 *                   primary, then start_ts, conflict_ts, conflict_commit_ts, lock_ttl_ms; or 2 and
 *                   the last number (low, high) of a stream of which a write expected another one
 *   SHAPE_NOTHING
 *   SHAPE_BOOLEAN   0 or 1
 *   SHAPE_NUMBER    low, high (signed)
 *   SHAPE_U64       low, high
 *   SHAPE_BYTES     size
 *   SHAPE_JSON      size
 *   SHAPE_PAIRS     count, then for each: size of the key, size of the value + 1, or 0: none
 *   SHAPE_KEYS      count, then the size of each
 *   SHAPE_VALUES    count, then for each its size + 1, or 0: none
 *   SHAPE_RESOURCE  index into the third argument
 *   SHAPE_EVENTS    count, how many events and links there are of them; the bytes are first the
 *                   ids of these as text. Then for each: EVENT_* flags of what follows, after
 *                   EVENT_POSITION commit and prepare (low, high each), after EVENT_RETRIED how
 *                   often, then for the event and the link that there is: RECORD_* flags, number
 *                   and created_ms (low, high each), sizes of stream and type, unless those of the
 *                   record before hold, of data, and of metadata, if any; its bytes are these
 *
 * src/calls.ts reads it. One call into JavaScript settles at most about DELIVER_BYTES_MAX of
 * bytes, because a value that a program keeps keeps its whole array alive, and because what the
 * program asks for then is under way while the next ones are read.
 */
#include "addon.h"

#include <kvs/txn.h>
#include <stdlib.h>
#include <string.h>

#define DELIVER_BYTES_MAX (32u * 1024)
#define DELIVER_WORDS_MAX 16384u
#define DELIVER_RESOURCES_MAX 64u
#define WORDS_KEPT 4096u /* in the array that deliveries share */
#define SPARES_MAX 4u
#define SPARE_SIZE_MAX (256u * 1024)

enum shape {
    SHAPE_NOTHING = 0,
    SHAPE_BOOLEAN,
    SHAPE_NUMBER,
    SHAPE_U64,
    SHAPE_BYTES,
    SHAPE_JSON,
    SHAPE_PAIRS,
    SHAPE_KEYS,
    SHAPE_VALUES,
    SHAPE_RESOURCE,
    SHAPE_EVENTS,
};

/* Results of calls. */
struct writer {
    struct addon *addon;
    struct writer *next; /* of those that wait for JavaScript's thread, or of the spares */
    struct call *calls;  /* whose results they are, the last one first */
    uint32_t *words;
    size_t words_count;
    size_t words_size;
    uint8_t *bytes;
    size_t bytes_count;
    size_t bytes_size;
    napi_value resources;
    uint32_t resources_count;
    bool failed; /* no memory for the result that is being written */
};

static bool grow(void **memory, size_t *size, size_t needed, size_t unit)
{
    if (needed <= *size)
        return true;
    size_t larger = *size > 0 ? *size : 1024;
    while (larger < needed)
        larger *= 2;
    void *grown = realloc(*memory, larger * unit);
    if (grown == NULL)
        return false;
    *memory = grown;
    *size = larger;
    return true;
}

static uint32_t *add_words(struct writer *writer, size_t count)
{
    void *words = writer->words;
    if (writer->failed ||
        !grow(&words, &writer->words_size, writer->words_count + count, sizeof(uint32_t))) {
        writer->failed = true;
        return NULL;
    }
    writer->words = words;
    uint32_t *added = writer->words + writer->words_count;
    writer->words_count += count;
    return added;
}

static void add_bytes(struct writer *writer, kvs_slice bytes)
{
    void *memory = writer->bytes;
    if (writer->failed ||
        !grow(&memory, &writer->bytes_size, writer->bytes_count + bytes.size, 1)) {
        writer->failed = true;
        return;
    }
    writer->bytes = memory;
    if (bytes.size > 0)
        memcpy(writer->bytes + writer->bytes_count, bytes.data, bytes.size);
    writer->bytes_count += bytes.size;
}

static void add_shape(struct writer *writer, enum shape shape)
{
    uint32_t *words = add_words(writer, 1);
    if (words != NULL)
        words[0] = shape;
}

static void add_sized(struct writer *writer, enum shape shape, kvs_slice bytes)
{
    uint32_t *words = add_words(writer, 2);
    if (words == NULL)
        return;
    words[0] = shape;
    words[1] = (uint32_t)bytes.size;
    add_bytes(writer, bytes);
}

static void add_long(struct writer *writer, enum shape shape, uint64_t value)
{
    uint32_t *words = add_words(writer, 3);
    if (words == NULL)
        return;
    words[0] = shape;
    words[1] = (uint32_t)value;
    words[2] = (uint32_t)(value >> 32);
}

void write_nothing(struct writer *writer)
{
    add_shape(writer, SHAPE_NOTHING);
}

void write_boolean(struct writer *writer, bool value)
{
    uint32_t *words = add_words(writer, 2);
    if (words == NULL)
        return;
    words[0] = SHAPE_BOOLEAN;
    words[1] = value;
}

void write_number(struct writer *writer, int64_t value)
{
    add_long(writer, SHAPE_NUMBER, (uint64_t)value);
}

void write_u64(struct writer *writer, uint64_t value)
{
    add_long(writer, SHAPE_U64, value);
}

void write_bytes(struct writer *writer, kvs_slice bytes)
{
    add_sized(writer, SHAPE_BYTES, bytes);
}

void write_json(struct writer *writer, kvs_slice text)
{
    add_sized(writer, SHAPE_JSON, text);
}

void write_pairs(struct writer *writer, const kvs_pair *pairs, size_t count)
{
    uint32_t *words = add_words(writer, 2 + 2 * count);
    if (words == NULL)
        return;
    *words++ = SHAPE_PAIRS;
    *words++ = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        words[2 * i] = (uint32_t)pairs[i].key.size;
        words[2 * i + 1] = pairs[i].found ? (uint32_t)pairs[i].value.size + 1 : 0;
        add_bytes(writer, pairs[i].key);
        if (pairs[i].found)
            add_bytes(writer, pairs[i].value);
    }
}

void write_keys(struct writer *writer, const kvs_pair *pairs, size_t count)
{
    uint32_t *words = add_words(writer, 2 + count);
    if (words == NULL)
        return;
    *words++ = SHAPE_KEYS;
    *words++ = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        words[i] = (uint32_t)pairs[i].key.size;
        add_bytes(writer, pairs[i].key);
    }
}

void write_values(struct writer *writer, const kvs_pair *pairs, size_t count)
{
    uint32_t *words = add_words(writer, 2 + count);
    if (words == NULL)
        return;
    *words++ = SHAPE_VALUES;
    *words++ = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        words[i] = pairs[i].found ? (uint32_t)pairs[i].value.size + 1 : 0;
        if (pairs[i].found)
            add_bytes(writer, pairs[i].value);
    }
}

static void put_long(uint32_t *words, int64_t value)
{
    words[0] = (uint32_t)value;
    words[1] = (uint32_t)((uint64_t)value >> 32);
}

void write_position(struct writer *writer, kvs_position position)
{
    write_number(writer, position.commit);
    write_number(writer, position.prepare);
}

enum { EVENT_HAS_EVENT = 1, EVENT_HAS_LINK = 2, EVENT_POSITION = 4, EVENT_RETRIED = 8 };
enum { RECORD_IS_JSON = 1, RECORD_SAME_STREAM = 2, RECORD_SAME_TYPE = 4, RECORD_METADATA = 8 };

#define RECORD_WORDS_MAX 9u
#define EVENT_WORDS_MAX (6u + 2u * RECORD_WORDS_MAX)

static bool same(kvs_slice a, kvs_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Where its words begin; where they end. `last` is the record before, NULL at the first. */
static uint32_t *add_record(struct writer *writer, uint32_t *words, const kvs_event *event,
                            const kvs_event **last)
{
    uint32_t *flags = words;
    *flags = event->is_json ? RECORD_IS_JSON : 0;
    put_long(words + 1, event->number);
    put_long(words + 3, event->created_ms);
    words += 5;
    if (*last != NULL && same(event->stream, (*last)->stream)) {
        *flags |= RECORD_SAME_STREAM;
    } else {
        *words++ = (uint32_t)event->stream.size;
        add_bytes(writer, event->stream);
    }
    if (*last != NULL && same(event->type, (*last)->type)) {
        *flags |= RECORD_SAME_TYPE;
    } else {
        *words++ = (uint32_t)event->type.size;
        add_bytes(writer, event->type);
    }
    *words++ = (uint32_t)event->data.size;
    add_bytes(writer, event->data);
    if (event->metadata.size > 0) {
        *flags |= RECORD_METADATA;
        *words++ = (uint32_t)event->metadata.size;
        add_bytes(writer, event->metadata);
    }
    *last = event;
    return words;
}

static uint32_t *add_event(struct writer *writer, uint32_t *words, const kvs_resolved_event *event,
                           const kvs_event **last)
{
    uint32_t *flags = words++;
    *flags = 0;
    if (event->position.commit >= 0) {
        *flags |= EVENT_POSITION;
        put_long(words, event->position.commit);
        put_long(words + 2, event->position.prepare);
        words += 4;
    }
    if (event->retry_count != 0) {
        *flags |= EVENT_RETRIED;
        *words++ = (uint32_t)event->retry_count;
    }
    if (event->event != NULL) {
        *flags |= EVENT_HAS_EVENT;
        words = add_record(writer, words, event->event, last);
    }
    if (event->link != NULL) {
        *flags |= EVENT_HAS_LINK;
        words = add_record(writer, words, event->link, last);
    }
    return words;
}

static void add_id(struct writer *writer, const kvs_event *event)
{
    char id[KVS_EVENT_ID_TEXT_SIZE];
    if (event == NULL)
        return;
    kvs_event_id_format(&event->id, id);
    add_bytes(writer, (kvs_slice){(const uint8_t *)id, sizeof id - 1});
}

void write_events(struct writer *writer, const kvs_resolved_event *events, size_t count)
{
    const kvs_event *last = NULL;
    uint32_t records = 0;
    uint32_t *words = add_words(writer, 3 + EVENT_WORDS_MAX * count);
    if (words == NULL)
        return;
    for (size_t i = 0; i < count; i++) {
        records += (events[i].event != NULL ? 1u : 0u) + (events[i].link != NULL ? 1u : 0u);
        add_id(writer, events[i].event);
        add_id(writer, events[i].link);
    }
    *words++ = SHAPE_EVENTS;
    *words++ = (uint32_t)count;
    *words++ = records;
    for (size_t i = 0; i < count; i++)
        words = add_event(writer, words, &events[i], &last);
    writer->words_count = (size_t)(words - writer->words); /* what was too many is given back */
}

bool write_went_well(const struct writer *writer)
{
    return !writer->failed;
}

void write_failed(struct writer *writer)
{
    writer->failed = true;
}

void write_resource(struct writer *writer, struct resource *resource)
{
    napi_env env = writer->addon->env;
    uint32_t *words = add_words(writer, 2);
    if (words == NULL) {
        resource_release(resource);
        return;
    }
    words[0] = SHAPE_RESOURCE;
    words[1] = writer->resources_count;
    if (writer->resources == NULL)
        napi_create_array(env, &writer->resources);
    napi_value external = resource_external(env, resource);
    if (external == NULL)
        writer->failed = true;
    else
        napi_set_element(env, writer->resources, writer->resources_count++, external);
}

void write_new_resource(struct call *call, struct writer *writer, const struct resource_kind *kind,
                        void *pointer)
{
    struct resource *resource = resource_new(call->addon, kind, pointer, NULL);
    if (resource != NULL) {
        write_resource(writer, resource);
        return;
    }
    kvs_future *closed = kind->close(pointer);
    kvs_future_wait(closed, -1);
    kvs_future_free(closed);
    writer->failed = true;
}

static void write_conflict(struct writer *writer, const kvs_txn_conflict *conflict)
{
    const uint64_t numbers[] = {conflict->start_ts, conflict->conflict_ts,
                                conflict->conflict_commit_ts, conflict->lock_ttl_ms};
    uint32_t *words = add_words(writer, 2 + 2 * 4);
    if (words == NULL)
        return;
    words[0] = (uint32_t)conflict->key.size;
    words[1] = (uint32_t)conflict->primary.size;
    for (unsigned i = 0; i < 4; i++) {
        words[2 + 2 * i] = (uint32_t)numbers[i];
        words[3 + 2 * i] = (uint32_t)(numbers[i] >> 32);
    }
    add_bytes(writer, conflict->key);
    add_bytes(writer, conflict->primary);
}

/* Of the stream, where the other side has told it. */
static void write_last_number(struct writer *writer, kvs_future *future)
{
    size_t told = writer->words_count - 1;
    int64_t number = INT64_MIN;
    kvs_future_get_number(future, &number);
    uint32_t *words = number != INT64_MIN ? add_words(writer, 2) : NULL;
    if (words == NULL)
        return;
    writer->words[told] = 2;
    put_long(words, number);
}

static void write_error(struct writer *writer, struct call *call, int error)
{
    const char *text =
        call->future != NULL ? kvs_future_error_message(call->future) : call->op.message;
    if (error == KVS_ERR_TIMEOUT && call->future != NULL && call->op.timeout_ms > 0)
        text = "not done within the timeoutMs of the call";
    else if (text[0] == 0)
        text = kvs_error_text(error);
    kvs_slice message = kvs_slice_of(text);
    uint32_t *words = add_words(writer, 4);
    if (words == NULL)
        return;
    words[0] = call->id;
    words[1] = (uint32_t)error;
    words[2] = (uint32_t)message.size;
    words[3] = 0;
    add_bytes(writer, message);
    kvs_txn_conflict conflict;
    if (call->future != NULL && kvs_future_get_txn_conflict(call->future, &conflict) == 0) {
        words[3] = 1;
        write_conflict(writer, &conflict);
    } else if (error == KVS_ERR_WRONG_EXPECTED_VERSION && call->future != NULL) {
        write_last_number(writer, call->future);
    }
}

/* One result; whatever was written of it is taken back when memory runs out. False: there is not
 * even memory to say so. */
static bool write_call(struct writer *writer, struct call *call)
{
    size_t words_count = writer->words_count;
    size_t bytes_count = writer->bytes_count;
    int error = call->future != NULL ? kvs_future_error(call->future) : call->op.error;
    if (error == call->accepted_error)
        error = 0;
    if (error != 0) {
        write_error(writer, call, error);
    } else {
        uint32_t *words = add_words(writer, 2);
        if (words != NULL) {
            words[0] = call->id;
            words[1] = 0;
            call->write(call, writer);
        }
    }
    if (writer->failed) {
        writer->failed = false;
        writer->words_count = words_count;
        writer->bytes_count = bytes_count;
        uint32_t *words = add_words(writer, 4);
        writer->failed = false;
        if (words == NULL)
            return false;
        words[0] = call->id;
        words[1] = (uint32_t)KVS_ERR_NO_MEMORY;
        words[2] = words[3] = 0;
    }
    call->next = writer->calls;
    writer->calls = call;
    return true;
}

static bool has_room(const struct writer *writer)
{
    return writer->bytes_count < DELIVER_BYTES_MAX && writer->words_count < DELIVER_WORDS_MAX &&
           writer->resources_count < DELIVER_RESOURCES_MAX;
}

/* --- writers: all under the addon's lock --- */

/* An empty one; NULL: no memory. */
static struct writer *take_spare(struct addon *addon)
{
    struct writer *writer = addon->spare_writers;
    if (writer == NULL) {
        writer = calloc(1, sizeof *writer);
        if (writer != NULL)
            writer->addon = addon;
        return writer;
    }
    addon->spare_writers = writer->next;
    addon->spare_writers_count--;
    writer->next = NULL;
    return writer;
}

static void writer_free(struct writer *writer)
{
    free(writer->words);
    free(writer->bytes);
    free(writer);
}

/* Growing from nothing each time would copy what is written several times over. */
static void give_back(struct writer *writer)
{
    if (writer == NULL)
        return;
    struct addon *addon = writer->addon;
    if (addon->stopping || addon->spare_writers_count >= SPARES_MAX ||
        writer->words_size * sizeof(uint32_t) > SPARE_SIZE_MAX ||
        writer->bytes_size > SPARE_SIZE_MAX) {
        writer_free(writer);
        return;
    }
    writer->words_count = writer->bytes_count = 0;
    writer->resources = NULL;
    writer->resources_count = 0;
    writer->next = addon->spare_writers;
    addon->spare_writers = writer;
    addon->spare_writers_count++;
}

bool completions_write(struct call *call)
{
    struct addon *addon = call->addon;
    struct writer *writer = addon->written_last;
    if (writer == NULL || !has_room(writer)) {
        writer = take_spare(addon);
        if (writer == NULL)
            return false;
        if (addon->written_last != NULL)
            addon->written_last->next = writer;
        else
            addon->written = writer;
        addon->written_last = writer;
    }
    if (!write_call(writer, call))
        return false;
    kvs_op_release(&call->op);
    return true;
}

/* The first of those that the runtime's thread has written; NULL: none. */
static struct writer *take_written(struct addon *addon)
{
    struct writer *writer = addon->written;
    if (writer == NULL)
        return NULL;
    addon->written = writer->next;
    if (addon->written == NULL)
        addon->written_last = NULL;
    writer->next = NULL;
    return writer;
}

/* False: it is being ended, by worker.terminate() or process.exit(), at any point of our work. */
static bool javascript_runs(napi_env env)
{
    napi_value script, result;
    return napi_create_string_utf8(env, "0", 1, &script) == napi_ok &&
           napi_run_script(env, script, &result) == napi_ok;
}

/* An array for words: one for all deliveries, if they are not too many. */
static bool words_array(struct addon *addon, size_t count, napi_value *ret_array, void **ret_words)
{
    napi_env env = addon->env;
    napi_value memory;
    if (count <= WORDS_KEPT && addon->words_array != NULL) {
        *ret_words = addon->words;
        return napi_get_reference_value(env, addon->words_array, ret_array) == napi_ok;
    }
    size_t size = count <= WORDS_KEPT ? WORDS_KEPT : count;
    if (napi_create_arraybuffer(env, size * sizeof(uint32_t), ret_words, &memory) != napi_ok ||
        napi_create_typedarray(env, napi_uint32_array, size, memory, 0, ret_array) != napi_ok)
        return false;
    if (count > WORDS_KEPT)
        return true;
    addon->words = *ret_words;
    return napi_create_reference(env, *ret_array, 1, &addon->words_array) == napi_ok;
}

/* False: JavaScript does not run any more. */
static bool call_javascript(struct writer *writer)
{
    struct addon *addon = writer->addon;
    napi_env env = addon->env;
    napi_value arguments[4], deliver, undefined;
    void *words = NULL;
    napi_get_undefined(env, &undefined);
    arguments[2] = undefined;
    arguments[3] = writer->resources != NULL ? writer->resources : undefined;
    if (!words_array(addon, writer->words_count, &arguments[0], &words) ||
        napi_create_uint32(env, (uint32_t)writer->words_count, &arguments[1]) != napi_ok ||
        (writer->bytes_count > 0 && napi_create_buffer_copy(env, writer->bytes_count, writer->bytes,
                                                            NULL, &arguments[2]) != napi_ok) ||
        napi_get_reference_value(env, addon->deliver, &deliver) != napi_ok) {
        if (!javascript_runs(env))
            return false;
        napi_fatal_error("kvs", NAPI_AUTO_LENGTH, "no memory for results", NAPI_AUTO_LENGTH);
    }
    memcpy(words, writer->words, writer->words_count * sizeof(uint32_t));
    return napi_call_function(env, undefined, deliver, 4, arguments, NULL) == napi_ok;
}

static void end_calls(struct writer *writer)
{
    struct call *next;
    for (struct call *call = writer->calls; call != NULL; call = next) {
        next = call->next;
        call_end(call);
    }
    writer->calls = NULL;
}

/* As many of the chain as fit into one call; the rest stays. */
static void write_some(struct writer *writer, struct call **rest)
{
    struct call *calls = *rest;
    while (calls != NULL && has_room(writer)) {
        struct call *call = calls;
        calls = call->next;
        if (!write_call(writer, call))
            napi_fatal_error("kvs", NAPI_AUTO_LENGTH, "out of memory", NAPI_AUTO_LENGTH);
    }
    *rest = calls;
}

/* Back to those that are done, before those that came meanwhile. */
static void put_back(struct addon *addon, struct call *calls)
{
    struct call *last = calls;
    if (calls == NULL)
        return;
    while (last->next != NULL)
        last = last->next;
    last->next = addon->done;
    addon->done = calls;
    if (addon->done_last == NULL)
        addon->done_last = last;
}

/* False: JavaScript does not run any more. */
static bool settle(struct writer *writer)
{
    end_calls(writer);
    return writer->words_count == 0 || call_javascript(writer);
}

/* What the runtime's thread has written, then what it has left to us. What is left of `calls` comes
 * later. */
static void settle_both(struct writer *written, struct writer *own, struct call **calls)
{
    napi_env env = (written != NULL ? written : own)->addon->env;
    napi_handle_scope scope;
    if (napi_open_handle_scope(env, &scope) != napi_ok)
        napi_fatal_error("kvs", NAPI_AUTO_LENGTH, "no memory for results", NAPI_AUTO_LENGTH);
    bool runs = written == NULL || settle(written);
    if (own != NULL && runs && !own->addon->stopping) {
        write_some(own, calls);
        settle(own);
    }
    napi_close_handle_scope(env, scope);
}

void completions_deliver(struct addon *addon)
{
    pthread_mutex_lock(&addon->lock);
    struct writer *written = take_written(addon);
    struct call *calls = addon->done;
    struct writer *own = calls != NULL ? take_spare(addon) : NULL;
    addon->done = addon->done_last = NULL;
    pthread_mutex_unlock(&addon->lock);

    if (calls != NULL && own == NULL)
        napi_fatal_error("kvs", NAPI_AUTO_LENGTH, "out of memory", NAPI_AUTO_LENGTH);
    if (written != NULL || own != NULL)
        settle_both(written, own, &calls);

    pthread_mutex_lock(&addon->lock);
    put_back(addon, calls);
    give_back(written);
    give_back(own);
    bool more = addon->written != NULL || addon->done != NULL;
    addon->woken = more;
    pthread_mutex_unlock(&addon->lock);
    if (more)
        addon_wake(addon);
}

void completions_end(struct addon *addon)
{
    struct writer *writer;
    struct call *call;
    while ((call = addon->done) != NULL) {
        addon->done = call->next;
        call_end(call);
    }
    addon->done_last = NULL;
    while ((writer = take_written(addon)) != NULL) {
        end_calls(writer);
        writer_free(writer);
    }
    while (addon->spare_writers != NULL)
        writer_free(take_spare(addon));
}

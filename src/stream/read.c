/*
 * stream/read.c: reads: who may, where they run, what they give.
 *
 *   1. streams_read_answer tries it in a view that may not block: what is in memory, and not more
 *      than a loop should do at a time;
 *   2. else, and for streams_read, it is done on the blocking pool, from the begin.
 * Reads take no lock of the sequencer's: a view shows all that was acknowledged before it began.
 */
#include "stream/reader.h"

#include "base/mem.h"

#define ON_SPOT_SIZE_MAX (512u * 1024)
#define ON_SPOT_WORK_MAX (64u * 1024)

/* --- the page --------------------------------------------------------------------------------- */

int reader_event(struct reader *reader, size_t size, struct stream_event **ret_event)
{
    struct stream_read *read = reader->read;
    if (read->events_count > 0 && reader->size + size > reader->size_max)
        return READER_FULL;
    if (!reader->view->may_block && reader->size + size > ON_SPOT_SIZE_MAX)
        return ENGINE_WOULD_BLOCK;
    if (read->events_count == reader->capacity) {
        uint32_t capacity = reader->capacity > 0 ? reader->capacity * 2 : 16;
        if (capacity > read->count && read->count > reader->capacity)
            capacity = read->count;
        void *grown = mem_realloc(read->events, capacity * sizeof *read->events);
        if (grown == NULL)
            return KVS_ERR_NO_MEMORY;
        read->events = grown;
        reader->capacity = capacity;
    }
    reader->size += size;
    *ret_event = &read->events[read->events_count++];
    **ret_event = (struct stream_event){0};
    return 0;
}

int reader_work(struct reader *reader, uint64_t steps)
{
    reader->read->work += steps;
    return !reader->view->may_block && reader->read->work > ON_SPOT_WORK_MAX ? ENGINE_WOULD_BLOCK
                                                                             : 0;
}

int reader_copy(struct reader *reader, const struct stream_record *record,
                struct stream_record *ret_record)
{
    struct arena *arena = &reader->read->arena;
    if (!slice_equal(reader->name, record->stream)) {
        void *name = arena_copy(arena, record->stream);
        if (name == NULL)
            return KVS_ERR_NO_MEMORY;
        reader->name = slice_make(name, record->stream.size);
    }
    size_t size = record->type.size + record->data.size + record->metadata.size;
    uint8_t *bytes = arena_alloc(arena, size);
    if (bytes == NULL)
        return KVS_ERR_NO_MEMORY;
    *ret_record = *record;
    ret_record->stream = reader->name;
    ret_record->type.data = bytes;
    ret_record->data.data = bytes + record->type.size;
    ret_record->metadata.data = bytes + record->type.size + record->data.size;
    /* They lie side by side in a block; a link that was made has only the first two. */
    if (record->data.data == record->type.data + record->type.size &&
        record->metadata.data == record->data.data + record->data.size) {
        memcpy(bytes, record->type.data, size);
        return 0;
    }
    memcpy(bytes, record->type.data, record->type.size);
    if (record->data.size > 0)
        memcpy(bytes + record->type.size, record->data.data, record->data.size);
    if (record->metadata.size > 0)
        memcpy(bytes + record->type.size + record->data.size, record->metadata.data,
               record->metadata.size);
    return 0;
}

/* --- what may be seen ------------------------------------------------------------------------- */

static void visible_bounds(struct reader *reader, bool is_meta, struct visible *visible)
{
    const struct stream_settings *settings = &visible->settings;
    int64_t max_count = is_meta ? 1 : settings->max_count;
    visible->min = settings->truncate_before;
    if (max_count > 0 && visible->last - max_count + 1 > visible->min)
        visible->min = visible->last - max_count + 1;
    visible->created_min = INT64_MIN;
    if (settings->max_age_s > 0 && settings->max_age_s < INT64_MAX / 10000000)
        visible->created_min = reader->now_100ns - settings->max_age_s * 10000000;
}

int visible_find(struct reader *reader, kvs_slice name, struct visible *ret_visible)
{
    struct visible *visible = ret_visible;
    bool may;
    bool is_meta = name_is_metastream(name);
    int error = lookup_stream(reader->view, name, &visible->settings, &visible->last);
    if (error == 0)
        error = lookup_may_read(reader->streams, reader->view, reader->read->user, name,
                                &visible->settings, &may);
    if (error != 0)
        return error;
    visible->state = STREAM_OK;
    visible_bounds(reader, is_meta, visible);
    if (!may)
        visible->state = STREAM_ACCESS_DENIED;
    else if (visible->last == STREAM_NUMBER_DELETED)
        visible->state = STREAM_DELETED;
    else if (visible->last == -1 || settings_soft_deleted(&visible->settings))
        visible->state = STREAM_NOT_FOUND;
    if (!is_meta || !may)
        return 0;
    /* The metadata of a stream with a tombstone is gone as well. */
    struct stream_settings of_base;
    int64_t base_last;
    error = lookup_stream(reader->view, name_of_metastream(name), &of_base, &base_last);
    if (error == 0 && base_last == STREAM_NUMBER_DELETED) {
        visible->state = STREAM_DELETED;
        visible->last = STREAM_NUMBER_DELETED;
    }
    return error;
}

/* --- one read --------------------------------------------------------------------------------- */

static bool is_all(const struct stream_read *read)
{
    return read->kind == STREAM_READ_ALL_FORWARD || read->kind == STREAM_READ_ALL_BACKWARD;
}

/* What is wrong with the request, or NULL. */
static const char *request_problem(const struct stream_read *read)
{
    if (read->kind > STREAM_READ_INFO)
        return "no such kind of read";
    if (!is_all(read) && (read->stream.size == 0 || read->stream.size > STREAM_NAME_SIZE_MAX + 16))
        return "the stream's name is empty or too long";
    if (read->from < -1)
        return "numbers and positions below -1 mean nothing";
    if (read->kind == STREAM_READ_EVENT || read->kind == STREAM_READ_INFO)
        return NULL;
    if (read->count == 0)
        return "the number of events to read must be positive";
    if (read->count > STREAM_READ_COUNT_MAX)
        return "read size too big, should be less than 4096 items";
    if (read->kind == STREAM_READ_FORWARD && read->from < 0)
        return "a stream is read forward from number 0 or later";
    return NULL;
}

static int read_info(struct reader *reader)
{
    struct visible visible;
    int error = visible_find(reader, reader->read->stream, &visible);
    if (error != 0)
        return error;
    reader->read->outcome = visible.state;
    if (visible.state != STREAM_ACCESS_DENIED)
        reader->read->last_number = visible.last;
    return 0;
}

static int read_dispatch(struct reader *reader)
{
    switch (reader->read->kind) {
    case STREAM_READ_EVENT:
        return read_event(reader);
    case STREAM_READ_FORWARD:
        return read_stream_forward(reader);
    case STREAM_READ_BACKWARD:
        return read_stream_backward(reader);
    case STREAM_READ_ALL_FORWARD:
        return read_all(reader, false);
    case STREAM_READ_ALL_BACKWARD:
        return read_all(reader, true);
    default:
        return read_info(reader);
    }
}

static void result_clear(struct stream_read *read)
{
    mem_free(read->events);
    arena_reset(&read->arena);
    read->outcome = STREAM_OK;
    read->message = NULL;
    read->events = NULL;
    read->events_count = 0;
    read->next = -1;
    read->end = true;
    read->last_number = -1;
    read->considered = 0;
    read->work = 0;
    read->cache_control = 0;
}

/* Before the view is begun: it has all up to the position that the result will tell, so that who
 * waits for more misses nothing. */
static void read_prepare(struct streams *streams, struct stream_read *read)
{
    read->streams = streams;
    read->last_position = streams_last_position(streams);
}

static int read_run(struct streams *streams, struct stream_read *read, struct engine_view *view)
{
    read->events = NULL; /* of the last use: stream_read_release was called */
    result_clear(read);
    read->message = request_problem(read);
    if (read->message != NULL) {
        read->outcome = STREAM_BAD_REQUEST;
        return 0;
    }
    struct reader reader = {
        .streams = streams,
        .read = read,
        .view = view,
        .size_max = read->size_max != 0 ? read->size_max : STREAM_READ_SIZE_DEFAULT,
        .now_100ns = streams_now_100ns(streams),
    };
    int error = read_dispatch(&reader);
    if (error != 0) {
        result_clear(read);
        return error;
    }
    stream_stat_add(&streams->stat_reads, 1);
    stream_stat_add(&streams->stat_events_read, read->events_count);
    return 0;
}

bool streams_read_answer(struct streams *streams, struct stream_read *read)
{
    struct engine_view view;
    read_prepare(streams, read);
    int error = engine_view_begin(streams->engine, NULL, false, &view);
    if (error == 0) {
        error = read_run(streams, read, &view);
        engine_view_end(&view);
    }
    read->op.error = error;
    return error != ENGINE_WOULD_BLOCK;
}

/* --- on the pool ------------------------------------------------------------------------------ */

static int pool_read_run(struct engine_read *engine_read, struct engine_view *view)
{
    struct stream_read *read = CONTAINER_OF(engine_read, struct stream_read, engine_read);
    return read_run(read->streams, read, view);
}

/* In place of the engine's op, the read's own completes. */
static void pool_read_on_done(struct task *task)
{
    struct stream_read *read = CONTAINER_OF(task, struct stream_read, engine_read.op.task);
    read->op.error = read->engine_read.op.error;
    read->op.task.run(&read->op.task);
}

void streams_read(struct streams *streams, struct stream_read *read)
{
    read_prepare(streams, read);
    read->engine_read = (struct engine_read){
        .op = {.task.run = pool_read_on_done, .loop = read->op.loop}, .run = pool_read_run};
    engine_read(streams->engine, &read->engine_read);
}

void stream_read_release(struct stream_read *read)
{
    mem_free(read->events);
    arena_deinit(&read->arena);
    read->events = NULL;
    read->events_count = 0;
}

int64_t streams_last_position(struct streams *streams)
{
    /* acquire: pairs with the release in sequencer.c: a view begun now has that event. */
    return atomic_load_explicit(&streams->last_position, memory_order_acquire);
}

/* client/events/batch.c: see the header. */
#include "client/events/batch.h"

#include "base/mem.h"

#define CAPACITY_MIN 16u

void batch_deinit(struct batch *batch)
{
    arena_deinit(&batch->arena);
    mem_free(batch->events);
    *batch = (struct batch){0};
}

int batch_reserve(struct batch *batch, uint32_t count)
{
    if (count <= batch->capacity)
        return 0;
    uint32_t capacity = batch->capacity > CAPACITY_MIN / 2 ? batch->capacity * 2 : CAPACITY_MIN;
    if (capacity < count)
        capacity = count;
    kvs_resolved_event *events = mem_realloc(batch->events, capacity * sizeof *events);
    if (events == NULL)
        return KVS_ERR_NO_MEMORY;
    batch->events = events;
    batch->capacity = capacity;
    return 0;
}

kvs_slice batch_copy(struct batch *batch, kvs_slice bytes)
{
    const void *copy = arena_copy(&batch->arena, bytes);
    return slice_make(copy, copy != NULL ? bytes.size : 0);
}

static size_t texts_size(const kvs_event *event)
{
    return event->stream.size + event->type.size + event->data.size + event->metadata.size;
}

static kvs_slice put_text(uint8_t **at, kvs_slice text)
{
    kvs_slice copy = slice_make(*at, text.size);
    if (text.size > 0)
        memcpy(*at, text.data, text.size);
    *at += text.size;
    return copy;
}

/* The record, and `deep` its texts, in one piece. */
static const kvs_event *record_copy(struct batch *batch, const kvs_event *event, bool deep)
{
    size_t size = sizeof *event + (deep ? texts_size(event) : 0);
    kvs_event *copy = arena_alloc(&batch->arena, size);
    if (copy == NULL)
        return NULL;
    *copy = *event;
    if (!deep)
        return copy;
    uint8_t *at = (uint8_t *)(copy + 1);
    copy->stream = put_text(&at, event->stream);
    copy->type = put_text(&at, event->type);
    copy->data = put_text(&at, event->data);
    copy->metadata = put_text(&at, event->metadata);
    batch->size_bytes += size;
    return copy;
}

int batch_add(struct batch *batch, const kvs_event *event, const kvs_event *link,
              kvs_position position, int32_t retry_count, bool deep)
{
    if (batch_reserve(batch, batch->count + 1) != 0)
        return KVS_ERR_NO_MEMORY;
    kvs_resolved_event added = {.position = position, .retry_count = retry_count};
    if (event != NULL && (added.event = record_copy(batch, event, deep)) == NULL)
        return KVS_ERR_NO_MEMORY;
    if (link != NULL && (added.link = record_copy(batch, link, deep)) == NULL)
        return KVS_ERR_NO_MEMORY;
    batch->events[batch->count++] = added;
    return 0;
}

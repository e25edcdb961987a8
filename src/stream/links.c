/*
 * stream/links.c: links: events of type `$>` whose data is "NUMBER@STREAM", and the elements of
 * derived streams, which are made to look like that.
 *
 * What a link leads to is given if it is there and could be read directly: not if its stream is
 * deleted or truncated, or the user may not read it.
 */
#include "stream/reader.h"

#include <inttypes.h>
#include <stdio.h>

#define REFERENCE_TYPE "$@"
#define FOLLOW_STEPS 400u /* a stream, its run and its block are looked up */

/* --- "NUMBER@STREAM" -------------------------------------------------------------------------- */

static bool is_link(const struct stream_record *record)
{
    return name_is(record->type, LINK_TYPE);
}

static bool target_parse(kvs_slice data, int64_t *ret_number, kvs_slice *ret_name)
{
    uint64_t number = 0;
    size_t i = 0;
    for (; i < data.size && data.data[i] >= '0' && data.data[i] <= '9'; i++) {
        if (i >= 18)
            return false;
        number = number * 10 + (uint64_t)(data.data[i] - '0');
    }
    if (i == 0 || i + 1 >= data.size || data.data[i] != '@' ||
        data.size - i - 1 > STREAM_NAME_SIZE_MAX)
        return false;
    *ret_number = (int64_t)number;
    *ret_name = slice_make(data.data + i + 1, data.size - i - 1);
    return true;
}

/* --- making links ----------------------------------------------------------------------------- */

/* Of what tells that a stream was deleted, the link names that stream, as in EventStoreDB, also
 * where it is an event of the metastream; then it leads to something else, or nothing. */
static bool names_other(kvs_slice derived_name, const struct stream_record *target)
{
    return name_is(derived_name, TYPE_PREFIX DELETED_TYPE) && name_is_metastream(target->stream);
}

/* What is a link itself is linked to by what it leads to. One whose data says nothing of the kind
 * is an event like others: its data is only for who may read it. */
static int link_data(struct reader *reader, kvs_slice derived_name,
                     const struct stream_record *target, kvs_slice *ret_data)
{
    kvs_slice stream = target->stream;
    int64_t number;
    kvs_slice name;
    if (is_link(target) && target_parse(target->data, &number, &name)) {
        *ret_data = target->data;
        return 0;
    }
    if (names_other(derived_name, target))
        stream = name_of_metastream(stream);
    size_t room = 24 + stream.size;
    char *text = arena_alloc(&reader->read->arena, room);
    if (text == NULL)
        return KVS_ERR_NO_MEMORY;
    int size = snprintf(text, room, "%" PRId64 "@", target->number);
    memcpy(text + size, stream.data, stream.size);
    *ret_data = slice_make(text, (size_t)size + stream.size);
    return 0;
}

int link_make(struct reader *reader, struct stream_event *event, kvs_slice derived_name,
              uint64_t derived_id, int64_t number)
{
    const struct stream_record *target = &event->event;
    bool is_reference = name_begins_with(derived_name, REFERENCES_PREFIX);
    struct stream_record link = {
        .stream = derived_name,
        .number = number,
        .position = target->position,
        .created_100ns = target->created_100ns,
        .type = slice_of_string(is_reference ? REFERENCE_TYPE : LINK_TYPE),
    };
    put_u64_be(link.id, derived_id);
    put_u64_be(link.id + 8, (uint64_t)number);
    if (is_reference) { /* nothing follows it */
        link.data = target->stream;
        event->event = link;
        return 0;
    }
    int error = link_data(reader, derived_name, target, &link.data);
    if (error != 0)
        return error;
    event->has_link = true;
    event->link = link;
    return 0;
}

/* --- following links -------------------------------------------------------------------------- */

/* What is known of the stream that the last link led to. */
struct target_cache {
    kvs_slice name;
    struct visible visible;
};

struct link_target {
    struct reader *reader;
    struct stream_event *event;
    const struct visible *visible;
    kvs_slice name;
    int64_t number;
};

static bool target_is_visible(const struct visible *visible, int64_t number)
{
    return visible->state == STREAM_OK && number >= visible->min && number <= visible->last;
}

static int target_found(void *arg, const struct stream_record *record, uint64_t stream_id)
{
    (void)stream_id;
    struct link_target *target = arg;
    struct reader *reader = target->reader;
    if (record->created_100ns < target->visible->created_min)
        return KVS_ERR_NOT_FOUND;
    struct stream_event element = {.event = *record};
    if (target->visible->settings.derived) { /* what it leads to is a link itself, or a reference */
        int error =
            link_make(reader, &element, target->name, target->visible->settings.id, target->number);
        if (error != 0)
            return error;
        record = element.has_link ? &element.link : &element.event;
    }
    size_t size = record_bytes(record);
    bool first = target->event == reader->read->events;
    if (!first && reader->size + size > reader->size_max)
        return READER_FULL;
    reader->size += size;
    int error = reader_copy(reader, record, &target->event->event);
    target->event->has_event = error == 0;
    return error;
}

static int cache_find(struct reader *reader, struct target_cache *cache, kvs_slice name)
{
    if (slice_equal(cache->name, name))
        return 0;
    cache->name = (kvs_slice){0};
    int error = visible_find(reader, name, &cache->visible);
    if (error == 0)
        cache->name = name; /* in the arena, as long as the page */
    return error;
}

/* Gives an event with a link its target, which may stay missing. */
static int link_follow(struct reader *reader, struct target_cache *cache,
                       struct stream_event *event)
{
    int64_t number;
    kvs_slice name;
    int64_t position;
    if (!target_parse(event->link.data, &number, &name))
        return 0;
    int error = reader_work(reader, FOLLOW_STEPS);
    if (error == 0)
        error = cache_find(reader, cache, name);
    if (error != 0 || !target_is_visible(&cache->visible, number))
        return error;
    struct link_target target = {.reader = reader,
                                 .event = event,
                                 .visible = &cache->visible,
                                 .name = name,
                                 .number = number};
    error = lookup_position(reader->view, cache->visible.settings.id, number, &position);
    if (error == 0)
        error = lookup_event_at(reader->view, position, target_found, &target);
    return error == KVS_ERR_NOT_FOUND ? 0 : error;
}

/* An element of a derived stream has its target already; may it be seen? */
static int made_link_check(struct reader *reader, struct target_cache *cache,
                           struct stream_event *event)
{
    if (is_link(&event->event) || names_other(event->link.stream, &event->event)) {
        event->has_event = false;
        return link_follow(reader, cache, event);
    }
    int error = cache_find(reader, cache, event->event.stream);
    if (error != 0)
        return error;
    event->has_event = target_is_visible(&cache->visible, event->event.number) &&
                       event->event.created_100ns >= cache->visible.created_min;
    return 0;
}

static int event_resolve(struct reader *reader, struct target_cache *cache,
                         struct stream_event *event)
{
    bool resolve = (reader->read->flags & STREAM_READ_RESOLVE_LINKS) != 0;
    if (event->has_link && resolve)
        return made_link_check(reader, cache, event);
    if (event->has_link) { /* the link itself is what was asked for */
        event->event = event->link;
        event->has_event = true;
        event->has_link = false;
        return 0;
    }
    if (!resolve || !is_link(&event->event))
        return 0;
    event->link = event->event;
    event->has_link = true;
    event->has_event = false;
    return link_follow(reader, cache, event);
}

int links_resolve(struct reader *reader)
{
    struct stream_read *read = reader->read;
    struct target_cache cache = {0};
    for (uint32_t i = 0; i < read->events_count; i++) {
        int error = event_resolve(reader, &cache, &read->events[i]);
        if (error == READER_FULL)
            read->events_count = i;
        if (error != 0)
            return error;
    }
    return 0;
}

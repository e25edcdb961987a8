/*
 * client/events/compose.c: metadata. A stream's metadata is the last event of the stream $$NAME.
 *
 *   get: read that event, then make metadata of it, or of the fact that there is none
 *   set: append an event to it
 */
#include "client/events/compose.h"

#include "base/mem.h"

#include <stdio.h>

static kvs_slice meta_stream(kvs_slice stream, char name[KVS_STREAM_NAME_SIZE_MAX + 2])
{
    name[0] = name[1] = '$';
    memcpy(name + 2, stream.data, stream.size);
    return slice_make(name, stream.size + 2);
}

/* The metadata and its text in one piece. */
static kvs_future *metadata_ready(kvs_runtime *runtime, int64_t version, kvs_slice json,
                                  bool is_deleted)
{
    kvs_stream_metadata *metadata = mem_alloc(sizeof *metadata + json.size);
    if (metadata == NULL)
        return kvs_future_ready(runtime, KVS_ERR_NO_MEMORY, NULL, NULL);
    if (json.size > 0)
        memcpy(metadata + 1, json.data, json.size);
    *metadata = (kvs_stream_metadata){
        .version = version,
        .json = slice_make(metadata + 1, json.size),
        .is_deleted = is_deleted,
    };
    return kvs_future_ready(runtime, 0, metadata, mem_free);
}

static kvs_future *get_metadata_on_read(kvs_future *read, void *arg)
{
    kvs_runtime *runtime = arg;
    void *pointer = NULL;
    int error = kvs_future_get_pointer(read, &pointer);
    if (error == KVS_ERR_NO_STREAM || error == KVS_ERR_NOT_FOUND)
        return metadata_ready(runtime, -1, slice_make(NULL, 0), false);
    if (error == KVS_ERR_STREAM_DELETED)
        return metadata_ready(runtime, KVS_EVENT_DELETED, slice_make(NULL, 0), true);
    if (error != 0)
        return read;
    const kvs_event *event = kvs_original_event(pointer);
    return metadata_ready(runtime, event->number, event->data, false);
}

kvs_future *compose_get_metadata(kvs_events *events, kvs_slice stream,
                                 const kvs_call_options *options)
{
    char name[KVS_STREAM_NAME_SIZE_MAX + 2];
    struct events_request request = {
        .kind = EVENTS_READ_EVENT,
        .stream = meta_stream(stream, name),
        .number = KVS_EVENT_LAST,
        .count = 1,
        .options = *options,
    };
    return kvs_future_then(events_start(events, &request), get_metadata_on_read, events->runtime);
}

kvs_future *compose_set_metadata(kvs_events *events, kvs_slice stream, int64_t expected_version,
                                 kvs_slice json, const kvs_call_options *options)
{
    char name[KVS_STREAM_NAME_SIZE_MAX + 2];
    const kvs_new_event event = {
        .type = slice_of_string("$metadata"), .data = json, .is_json = true};
    struct events_request request = {
        .kind = EVENTS_APPEND,
        .stream = meta_stream(stream, name),
        .number = expected_version,
        .new_events = &event,
        .count = 1,
        .options = *options,
    };
    return events_start(events, &request);
}

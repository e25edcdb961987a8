/*
 * client/events/local_subscription.c: subscriptions over the streams of this process.
 *
 * A stream_subscription is a cursor that gives a page and waits: just what a handler that keeps its
 * batch wants. The streams close in their own time: memory is given back when they have said so
 * (on_closed), which holds the subscription until then. Thread: the loop.
 */
#include "client/events/local_parts.h"
#include "client/events/subscription.h"

#include "base/mem.h"
#include "stream/subscription.h"

#include <stdio.h>

/* --- a stream, or $all -------------------------------------------------------------------------
 */

struct local_cursor {
    kvs_subscription base;
    struct local_listener listener;
    struct local_events *local;
    struct task start_task;
    struct stream_subscription cursor;
    struct stream_filter *filter;
    kvs_slice name; /* copied */
    struct batch given;
    bool started;
    bool closing;
    int end_error; /* of a close that we asked for */
};

static struct local_cursor *cursor_of(kvs_subscription *subscription)
{
    return CONTAINER_OF(subscription, struct local_cursor, base);
}

static void cursor_free(kvs_subscription *subscription)
{
    struct local_cursor *cursor = cursor_of(subscription);
    batch_deinit(&cursor->given);
    stream_filter_free(cursor->filter);
    mem_free((void *)(uintptr_t)cursor->name.data);
    mem_free(cursor);
}

static void cursor_close(struct local_cursor *cursor, int error)
{
    if (cursor->closing)
        return;
    cursor->closing = true;
    cursor->end_error = error;
    stream_subscription_close(&cursor->cursor);
}

static void cursor_on_client_closing(struct local_listener *listener)
{
    cursor_close(CONTAINER_OF(listener, struct local_cursor, listener), KVS_ERR_CLOSED);
}

static void cursor_on_closed(struct stream_subscription *stream)
{
    struct local_cursor *cursor = CONTAINER_OF(stream, struct local_cursor, cursor);
    struct local_events *local = cursor->local;
    int error = cursor->end_error;
    if (!cursor->closing)
        error = stream->error != 0 ? stream->error : local_error_of(stream->outcome);
    list_remove(&cursor->listener.node);
    subscription_drop(&cursor->base, error, error != 0 ? kvs_error_text(error) : "");
    subscription_release(&cursor->base);
    local_release(local);
}

static void cursor_go_on(struct local_cursor *cursor)
{
    bool deleted = cursor->given.count > 0 && cursor->name.size > 0 &&
                   kvs_original_event(&cursor->given.events[cursor->given.count - 1])->number ==
                       KVS_EVENT_DELETED;
    batch_deinit(&cursor->given);
    if (cursor->closing)
        return;
    if (deleted)
        cursor_close(cursor, KVS_ERR_STREAM_DELETED);
    else
        stream_subscription_next(&cursor->cursor);
}

static void cursor_on_events(struct stream_subscription *stream, const struct stream_event *events,
                             uint32_t count)
{
    struct local_cursor *cursor = CONTAINER_OF(stream, struct local_cursor, cursor);
    int error = batch_reserve(&cursor->given, count);
    for (uint32_t i = 0; i < count && error == 0; i++)
        error = local_add_event(&cursor->given, &events[i], 0, true);
    if (error != 0)
        cursor_close(cursor, error);
    else if (!subscription_is_stopping(&cursor->base) &&
             (count == 0 || subscription_give(&cursor->base, cursor->given.events, count)))
        cursor_go_on(cursor);
}

static void cursor_resumed(kvs_subscription *subscription)
{
    cursor_go_on(cursor_of(subscription));
}

static void cursor_on_confirmed(struct stream_subscription *stream)
{
    struct local_cursor *cursor = CONTAINER_OF(stream, struct local_cursor, cursor);
    if (stream->from != STREAM_END)
        subscription_tell(&cursor->base, KVS_SUBSCRIPTION_CATCHING_UP);
    else if (stream->last_number == STREAM_NUMBER_DELETED && cursor->name.size > 0)
        cursor_close(cursor, KVS_ERR_STREAM_DELETED);
}

static void cursor_on_caught_up(struct stream_subscription *stream)
{
    struct local_cursor *cursor = CONTAINER_OF(stream, struct local_cursor, cursor);
    subscription_tell(&cursor->base, KVS_SUBSCRIPTION_LIVE);
}

static void cursor_on_checkpoint(struct stream_subscription *stream, int64_t position)
{
    struct local_cursor *cursor = CONTAINER_OF(stream, struct local_cursor, cursor);
    if (cursor->base.handlers.on_checkpoint != NULL && !cursor->closing)
        cursor->base.handlers.on_checkpoint(&cursor->base, (kvs_position){position, position},
                                            cursor->base.arg);
}

static void cursor_on_start(struct task *task)
{
    struct local_cursor *cursor = CONTAINER_OF(task, struct local_cursor, start_task);
    struct local_events *local = cursor->local;
    if (subscription_has_ended(&cursor->base)) { /* stopped before it began */
        subscription_release(&cursor->base);
        local_release(local);
        return;
    }
    cursor->started = true;
    list_append(&local->subscriptions, &cursor->listener.node);
    streams_subscribe(local->streams, &cursor->cursor);
    if (local->closing)
        cursor_close(cursor, KVS_ERR_CLOSED);
}

static void cursor_stop(kvs_subscription *subscription)
{
    struct local_cursor *cursor = cursor_of(subscription);
    if (cursor->started)
        cursor_close(cursor, 0);
    else
        subscription_drop(&cursor->base, 0, "");
}

static const struct subscription_methods cursor_methods = {
    .resumed = cursor_resumed,
    .stop = cursor_stop,
    .free = cursor_free,
};

static void cursor_set_request(struct local_cursor *cursor,
                               const struct kvs_subscribe_options *options)
{
    bool is_all = options->stream.size == 0;
    kvs_position position = options->after_position; /* of an event, or right before one */
    int64_t after_position = position.commit - (position.prepare < position.commit);
    int64_t after = is_all ? after_position : options->after_number;
    cursor->cursor = (struct stream_subscription){
        .loop = cursor->local->base.loop,
        .stream = cursor->name,
        .from = options->from == KVS_SUBSCRIBE_FROM_END ? STREAM_END
                : options->from == KVS_SUBSCRIBE_AFTER  ? after + 1
                                                        : 0,
        .resolve_links = options->resolve_links,
        .page_count = options->page_count,
        .checkpoint_interval = cursor->filter != NULL ? options->checkpoint_interval : 0,
        .filter = cursor->filter,
        .on_confirmed = cursor_on_confirmed,
        .on_events = cursor_on_events,
        .on_caught_up = cursor_on_caught_up,
        .on_checkpoint = cursor_on_checkpoint,
        .on_closed = cursor_on_closed,
    };
}

int local_subscribe(kvs_events *events, const struct kvs_subscribe_options *options,
                    const struct kvs_subscription_handlers *handlers, void *arg,
                    kvs_subscription **ret_subscription)
{
    struct local_events *local = local_of(events);
    struct local_cursor *cursor = mem_zalloc(sizeof *cursor);
    if (cursor == NULL)
        return KVS_ERR_NO_MEMORY;
    subscription_init(&cursor->base, &cursor_methods, events->loop, handlers, arg);
    cursor->local = local;
    cursor->listener.close = cursor_on_client_closing;
    list_init(&cursor->listener.node);
    cursor->name =
        slice_make(mem_copy(options->stream.data, options->stream.size), options->stream.size);
    const kvs_event_filter *filter = options->filter;
    int error = cursor->name.data != NULL ? 0 : KVS_ERR_NO_MEMORY;
    if (error == 0 && filter != NULL)
        error = stream_filter_new((enum stream_filter_subject)filter->on,
                                  filter->kind == KVS_FILTER_REGEX, filter->patterns,
                                  (uint32_t)filter->patterns_count, &cursor->filter);
    if (error != 0) {
        cursor_free(&cursor->base);
        return error;
    }
    cursor_set_request(cursor, options);
    atomic_fetch_add(&local->calls, 1);
    subscription_hold(&cursor->base); /* the streams', until on_closed */
    *ret_subscription = &cursor->base;
    cursor->start_task.run = cursor_on_start;
    loop_post(events->loop, &cursor->start_task);
    return 0;
}

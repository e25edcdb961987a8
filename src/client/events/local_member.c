/*
 * client/events/local_member.c: members of persistent subscription groups of this process.
 *
 * Events come one by one; what comes in a turn is one batch for the handler. Done, its events are
 * acknowledged. The group bounds what is on its way. Memory is given back when the group has said
 * that it let go (on_dropped). Thread: the loop.
 */
#include "client/events/local_parts.h"
#include "client/events/subscription.h"

#include "base/mem.h"
#include "stream/group.h"

struct local_member {
    kvs_subscription base;
    struct local_listener listener;
    struct local_events *local;
    struct task start_task;
    struct task work_task;
    bool work_posted;
    struct stream_consumer consumer;
    kvs_slice names; /* stream and group, copied */
    kvs_slice stream;
    kvs_slice group;
    uint32_t in_flight;
    bool manual_ack;
    bool no_rejoin;
    struct batch waiting;
    struct batch given;
    bool started;
    bool joined;
    bool closing;
    int end_error;
};

static struct local_member *member_of(kvs_subscription *subscription)
{
    return CONTAINER_OF(subscription, struct local_member, base);
}

static void member_free(kvs_subscription *subscription)
{
    struct local_member *member = member_of(subscription);
    batch_deinit(&member->given);
    batch_deinit(&member->waiting);
    mem_free((void *)(uintptr_t)member->names.data);
    mem_free(member);
}

static void member_close(struct local_member *member, int error)
{
    if (member->closing)
        return;
    member->closing = true;
    member->end_error = error;
    stream_consumer_close(&member->consumer, false);
}

static void member_on_client_closing(struct local_listener *listener)
{
    member_close(CONTAINER_OF(listener, struct local_member, listener), KVS_ERR_CLOSED);
}

static int member_error(const struct local_member *member, enum stream_drop drop)
{
    switch (drop) {
    case STREAM_DROP_CLOSED:
        return member->end_error;
    case STREAM_DROP_NOT_FOUND:
        return KVS_ERR_NOT_FOUND;
    case STREAM_DROP_ACCESS_DENIED:
        return KVS_ERR_ACCESS_DENIED;
    case STREAM_DROP_TOO_MANY:
        return KVS_ERR_BUSY;
    case STREAM_DROP_UNSUBSCRIBED:
        return KVS_ERR_CONNECTION_LOST;
    case STREAM_DROP_FAILED:
        break;
    }
    return member->consumer.error != 0 ? member->consumer.error : KVS_ERR_IO;
}

static void member_join(struct local_member *member);

static void member_on_dropped(struct stream_consumer *consumer, enum stream_drop drop)
{
    struct local_member *member = CONTAINER_OF(consumer, struct local_member, consumer);
    struct local_events *local = member->local;
    member->joined = false;
    batch_deinit(&member->waiting);
    /* The group was changed: joining again tells whether it still is there. */
    if (drop == STREAM_DROP_UNSUBSCRIBED && !member->no_rejoin && !member->closing) {
        member_join(member);
        return;
    }
    int error = member->closing ? member->end_error : member_error(member, drop);
    list_remove(&member->listener.node);
    const char *why = error == KVS_ERR_NOT_FOUND ? "no such group"
                      : error == KVS_ERR_BUSY    ? "the group has all the members it may have"
                                                 : kvs_error_text(error);
    subscription_drop(&member->base, error, error != 0 ? why : "");
    subscription_release(&member->base);
    local_release(local);
}

static void member_on_given(struct local_member *member)
{
    uint32_t count = member->given.count;
    for (uint32_t i = 0; i < count && !member->manual_ack && member->joined && !member->closing;
         i++) {
        const kvs_event *event = kvs_original_event(&member->given.events[i]);
        if (stream_consumer_ack(&member->consumer, event->id.bytes, 1) != 0)
            break; /* no memory: the rest comes again */
    }
    batch_deinit(&member->given);
}

static void member_on_work(struct task *task)
{
    struct local_member *member = CONTAINER_OF(task, struct local_member, work_task);
    member->work_posted = false;
    while (!subscription_is_giving(&member->base) && !subscription_is_stopping(&member->base) &&
           !member->closing && member->waiting.count > 0) {
        member->given = member->waiting;
        member->waiting = (struct batch){0};
        if (subscription_give(&member->base, member->given.events, member->given.count))
            member_on_given(member);
    }
    subscription_release(&member->base);
}

static void member_want_work(struct local_member *member)
{
    if (member->work_posted)
        return;
    member->work_posted = true;
    subscription_hold(&member->base);
    member->work_task.run = member_on_work;
    loop_post(member->local->base.loop, &member->work_task);
}

static void member_on_event(struct stream_consumer *consumer, const struct stream_event *event,
                            int32_t retry_count)
{
    struct local_member *member = CONTAINER_OF(consumer, struct local_member, consumer);
    if (member->closing)
        return;
    int error = local_add_event(&member->waiting, event, retry_count, true);
    if (error != 0)
        member_close(member, error);
    else
        member_want_work(member);
}

static void member_on_confirmed(struct stream_consumer *consumer)
{
    struct local_member *member = CONTAINER_OF(consumer, struct local_member, consumer);
    member->joined = true;
    subscription_tell(&member->base, KVS_SUBSCRIPTION_LIVE);
}

static void member_join(struct local_member *member)
{
    member->consumer = (struct stream_consumer){
        .loop = member->local->base.loop,
        .stream = member->stream,
        .group = member->group,
        .slots = (int32_t)member->in_flight,
        .on_confirmed = member_on_confirmed,
        .on_event = member_on_event,
        .on_dropped = member_on_dropped,
    };
    streams_consume(member->local->streams, &member->consumer);
}

static void member_on_start(struct task *task)
{
    struct local_member *member = CONTAINER_OF(task, struct local_member, start_task);
    struct local_events *local = member->local;
    if (subscription_has_ended(&member->base)) { /* stopped before it began */
        subscription_release(&member->base);
        local_release(local);
        return;
    }
    member->started = true;
    list_append(&local->subscriptions, &member->listener.node);
    member_join(member);
    if (local->closing)
        member_close(member, KVS_ERR_CLOSED);
}

static void member_resumed(kvs_subscription *subscription)
{
    struct local_member *member = member_of(subscription);
    member_on_given(member);
    member_want_work(member);
}

static void member_stop(kvs_subscription *subscription)
{
    struct local_member *member = member_of(subscription);
    if (member->started)
        member_close(member, 0);
    else
        subscription_drop(&member->base, 0, "");
}

static void member_ack(kvs_subscription *subscription, const struct subscription_ack *ack)
{
    struct local_member *member = member_of(subscription);
    if (!member->joined || member->closing)
        return;
    uint32_t count = (uint32_t)ack->count;
    /* Without memory for it nothing is done, and the events come again. */
    if (ack->is_nak)
        (void)stream_consumer_nak(&member->consumer, ack->ids[0].bytes, count,
                                  (enum stream_nak)ack->action, ack->reason);
    else
        (void)stream_consumer_ack(&member->consumer, ack->ids[0].bytes, count);
}

static const struct subscription_methods member_methods = {
    .is_group = true,
    .resumed = member_resumed,
    .stop = member_stop,
    .ack = member_ack,
    .free = member_free,
};

int local_subscribe_group(kvs_events *events, const struct kvs_group_subscribe_options *options,
                          const struct kvs_subscription_handlers *handlers, void *arg,
                          kvs_subscription **ret_subscription)
{
    struct local_events *local = local_of(events);
    struct local_member *member = mem_zalloc(sizeof *member);
    uint8_t *names = mem_alloc(options->stream.size + options->group.size);
    if (member == NULL || names == NULL) {
        mem_free(member);
        mem_free(names);
        return KVS_ERR_NO_MEMORY;
    }
    memcpy(names, options->stream.data, options->stream.size);
    memcpy(names + options->stream.size, options->group.data, options->group.size);
    subscription_init(&member->base, &member_methods, events->loop, handlers, arg);
    member->local = local;
    member->listener.close = member_on_client_closing;
    list_init(&member->listener.node);
    member->names = slice_make(names, options->stream.size + options->group.size);
    member->stream = slice_make(names, options->stream.size);
    member->group = slice_make(names + options->stream.size, options->group.size);
    member->in_flight = options->in_flight;
    member->manual_ack = options->manual_ack;
    member->no_rejoin = options->no_rejoin;
    atomic_fetch_add(&local->calls, 1);
    subscription_hold(&member->base); /* the streams', until on_dropped */
    *ret_subscription = &member->base;
    member->start_task.run = member_on_start;
    loop_post(events->loop, &member->start_task);
    return 0;
}

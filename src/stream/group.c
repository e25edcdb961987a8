/*
 * stream/group.c: one group: where it was, reading its stream, how far it is done.
 *
 *   1. start: the last checkpoint is read, and what is parked;
 *   2. a subscription reads from behind the checkpoint on; a page is taken when the buffer has room
 *      for it: events become messages, in `fresh`;
 *   3. messages are dealt out (group_dispatch.c), and are done, or parked (group_park.c);
 *   4. the checkpoint is the number below the lowest that is not done. It is written when enough is
 *      done, or after some time; never beyond a message that waits to be parked.
 *
 * Failure: without memory a page waits for the next tick; a checkpoint that cannot be written is
 * tried again; the group goes on. A restart gives again what was done since the checkpoint.
 */
#include "stream/groups.h"

#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECKPOINT_TYPE "SubscriptionCheckpoint"

/* --- messages --------------------------------------------------------------------------------- */

static uint8_t *place(uint8_t *at, kvs_slice *slice)
{
    if (slice->size > 0)
        memcpy(at, slice->data, slice->size);
    slice->data = at;
    return at + slice->size;
}

static size_t record_size_whole(const struct stream_record *record)
{
    return record->stream.size + record->type.size + record->data.size + record->metadata.size;
}

static uint8_t *record_place(uint8_t *at, struct stream_record *record)
{
    at = place(at, &record->stream);
    at = place(at, &record->type);
    at = place(at, &record->data);
    return place(at, &record->metadata);
}

int message_new(const struct stream_event *event, struct message **ret_message)
{
    size_t size = (event->has_event ? record_size_whole(&event->event) : 0) +
                  (event->has_link ? record_size_whole(&event->link) : 0);
    struct message *message = mem_zalloc(sizeof *message + size);
    if (message == NULL)
        return KVS_ERR_NO_MEMORY;
    atomic_init(&message->refs, 1);
    message->event = *event;
    message->number = stream_event_original(event)->number;
    message->size = sizeof *message + size;
    uint8_t *at = message->bytes;
    if (event->has_event)
        at = record_place(at, &message->event.event);
    if (event->has_link)
        record_place(at, &message->event.link);
    list_init(&message->node);
    *ret_message = message;
    return 0;
}

void message_unref(struct message *message)
{
    /* acq_rel: what readers of other loops read is read before it is freed. */
    if (atomic_fetch_sub_explicit(&message->refs, 1, memory_order_acq_rel) == 1)
        mem_free(message);
}

/* --- life ------------------------------------------------------------------------------------- */

int group_new(struct groups *groups, kvs_slice stream, kvs_slice name, struct group **ret_group)
{
    struct group *group = mem_zalloc(sizeof *group);
    if (group == NULL)
        return KVS_ERR_NO_MEMORY;
    int stream_size = (int)stream.size;
    int name_size = (int)name.size;
    group->names =
        mem_printf("$$$persistentsubscription-%.*s::%.*s-parked"
                   "$persistentsubscription-%.*s::%.*s-checkpoint",
                   stream_size, (const char *)stream.data, name_size, (const char *)name.data,
                   stream_size, (const char *)stream.data, name_size, (const char *)name.data);
    if (group->names == NULL) {
        mem_free(group);
        return KVS_ERR_NO_MEMORY;
    }
    size_t whole = strlen("$persistentsubscription-") + stream.size + 2 + name.size;
    uint8_t *names = (uint8_t *)group->names;
    group->parked_metastream = slice_make(names, 2 + whole + strlen("-parked"));
    group->parked_stream = slice_make(names + 2, whole + strlen("-parked"));
    group->checkpoint_stream =
        slice_make(names + group->parked_metastream.size, whole + strlen("-checkpoint"));
    size_t stream_at = 2 + strlen("$persistentsubscription-");
    group->stream = slice_make(names + stream_at, stream.size);
    group->name = slice_make(names + stream_at + stream.size + 2, name.size);
    group->groups = groups;
    group->streams = groups->streams;
    list_init(&group->fresh);
    list_init(&group->retry);
    list_init(&group->parking);
    list_init(&group->members);
    list_append(&groups->all, &group->node);
    groups->count++;
    stream_stat_add(&group->streams->stat_groups, 1);
    *ret_group = group;
    return 0;
}

void group_free(struct group *group)
{
    list_remove(&group->node);
    group->groups->count--;
    atomic_fetch_sub_explicit(&group->streams->stat_groups, 1, memory_order_relaxed);
    stream_read_release(&group->load);
    stream_read_release(&group->replay_read);
    mem_free(group->names);
    mem_free(group);
}

static void messages_forget(struct list *list)
{
    struct list *node;
    while ((node = list_pop(list)) != NULL)
        message_unref(list_entry(node, struct message, node));
}

/* --- loading ---------------------------------------------------------------------------------- */

static void group_begin(struct group *group);
static void group_subscribe(struct group *group);

static void load_read(struct group *group, enum stream_read_kind kind, kvs_slice stream,
                      int64_t from, task_fn *then)
{
    stream_read_release(&group->load);
    group->load = (struct stream_read){.op = {.task.run = then, .loop = group->streams->loop},
                                       .kind = kind,
                                       .stream = stream,
                                       .from = from,
                                       .count = 1};
    streams_read(group->streams, &group->load);
}

/* A group that cannot find out where it was must not begin anywhere: it tries again. */
static bool load_failed(struct group *group)
{
    if (group->load.op.error == 0)
        return false;
    log_warn("persistent subscription %.*s::%.*s cannot be loaded yet: %s", (int)group->stream.size,
             (const char *)group->stream.data, (int)group->name.size,
             (const char *)group->name.data, kvs_error_text(group->load.op.error));
    return true;
}

static struct group *group_of_load(struct task *task)
{
    return CONTAINER_OF(task, struct group, load.op.task);
}

/* The read is over, and so is loading, if the group stops or the read failed. */
static bool load_ends(struct group *group)
{
    if (group->phase != GROUP_STOPPING && !load_failed(group))
        return false;
    stream_read_release(&group->load);
    group->load.op.task.run = NULL;
    groups_on_loaded(group->groups);
    group_stop_continue(group);
    return true;
}

static void on_parked_first(struct task *task)
{
    struct group *group = group_of_load(task);
    const struct stream_read *read = &group->load;
    if (load_ends(group))
        return;
    if (read->outcome == STREAM_OK)
        group->parked_first = read->events_count > 0 ? read->events[0].event.number : read->next;
    else
        group->parked_first = group->parked_last + 1;
    stream_read_release(&group->load);
    group->load.op.task.run = NULL;
    group_begin(group);
}

static void on_parked_last(struct task *task)
{
    struct group *group = group_of_load(task);
    if (load_ends(group))
        return;
    group->parked_last = group->load.last_number;
    load_read(group, STREAM_READ_FORWARD, group->parked_stream, 0, on_parked_first);
}

static void load_parked_last(struct group *group)
{
    load_read(group, STREAM_READ_INFO, group->parked_stream, 0, on_parked_last);
}

/* The number in a checkpoint: a JSON string, or a number; -1: none. */
static int64_t checkpoint_parse(kvs_slice data)
{
    char text[32] = {0};
    memcpy(text, data.data, data.size < sizeof text - 1 ? data.size : sizeof text - 1);
    char *begin = text + strspn(text, " \t\r\n\"");
    char *end;
    long long number = strtoll(begin, &end, 10);
    return end > begin && number >= 0 ? number : -1;
}

static void on_checkpoint_read(struct task *task)
{
    struct group *group = group_of_load(task);
    if (load_ends(group))
        return;
    if (group->load.events_count > 0)
        group->checkpoint = checkpoint_parse(group->load.events[0].event.data);
    load_parked_last(group);
}

void group_start(struct group *group)
{
    groups_tick_begin(group->groups);
    group->phase = GROUP_LOADING;
    group->checkpoint = -1;
    group->parked_first = 0;
    group->parked_last = -1;
    load_read(group, STREAM_READ_EVENT, group->checkpoint_stream, STREAM_END, on_checkpoint_read);
}

/* --- reading ---------------------------------------------------------------------------------- */

static struct group *group_of_subscription(struct stream_subscription *subscription)
{
    return CONTAINER_OF(subscription, struct group, subscription);
}

static bool buffer_has_room(const struct group *group)
{
    return group->fresh_count < (uint32_t)group->settings.buffer_size &&
           group->bytes < GROUP_BUFFER_BYTES_MAX;
}

/* An event becomes a message; false: there is no memory now. */
static bool event_take(struct group *group, const struct stream_event *event)
{
    int64_t number = stream_event_original(event)->number;
    struct message *message = NULL;
    if (number != STREAM_NUMBER_DELETED && event->has_event) {
        if (message_new(event, &message) != 0)
            return false;
        message->pin = message_pin(group->settings.strategy, event);
        list_append(&group->fresh, &message->node);
        group->fresh_count++;
        group->bytes += message->size;
    }
    if (number != STREAM_NUMBER_DELETED) {
        group->next_number = number + 1;
        group->last_known = number;
    }
    return true;
}

void group_read_on(struct group *group)
{
    if (group->phase != GROUP_RUNNING || group->page_count == 0)
        return;
    while (group->page_count > 0 && buffer_has_room(group) && event_take(group, group->page)) {
        group->page++;
        group->page_count--;
    }
    if (group->page_count == 0)
        stream_subscription_next(&group->subscription);
}

static void on_events(struct stream_subscription *subscription, const struct stream_event *events,
                      uint32_t count)
{
    struct group *group = group_of_subscription(subscription);
    group->page = events;
    group->page_count = count;
    group_read_on(group);
    group_dispatch(group);
}

static void on_confirmed(struct stream_subscription *subscription)
{
    struct group *group = group_of_subscription(subscription);
    if (subscription->last_number != STREAM_NUMBER_DELETED &&
        subscription->last_number > group->last_known)
        group->last_known = subscription->last_number;
    group_dispatch(group);
}

/* By itself: the stream has a tombstone, or cannot be read: the group stays, with nothing to give;
 * it is begun again by a tick. */
static void on_closed(struct stream_subscription *subscription)
{
    struct group *group = group_of_subscription(subscription);
    group->subscribed = false;
    group->page_count = 0;
    group_stop_continue(group);
}

/* All below is known to be done. */
static int64_t group_done_before(const struct group *group)
{
    return group->checkpoint >= 0 ? group->checkpoint + 1 : group->start_at;
}

static void group_begin(struct group *group)
{
    group->phase = GROUP_RUNNING;
    group->next_number = group_done_before(group);
    group->last_known = group->next_number - 1;
    group->checkpoint_ms = loop_now_ms(group->streams->loop);
    group_subscribe(group);
    group_replay_asked(group);
    groups_on_loaded(group->groups);
}

static void group_subscribe(struct group *group)
{
    group->subscription = (struct stream_subscription){
        .loop = group->streams->loop,
        .stream = group->stream,
        .from = group->next_number,
        .resolve_links = group->settings.resolve_links,
        .page_count = (uint32_t)group->settings.read_batch_size,
        .on_confirmed = on_confirmed,
        .on_events = on_events,
        .on_closed = on_closed,
    };
    group->subscribed = true;
    streams_subscribe(group->streams, &group->subscription);
}

/* --- checkpoints ------------------------------------------------------------------------------ */

static int64_t lowest_of(struct list *list, int64_t lowest)
{
    for (struct list *at = list->next; at != list; at = at->next) {
        const struct message *message = list_entry(at, struct message, node);
        if (!message->replayed && message->number < lowest)
            lowest = message->number;
    }
    return lowest;
}

/* The lowest number that is not done. */
static int64_t group_lowest(struct group *group)
{
    int64_t lowest = lowest_of(&group->retry, group->next_number);
    lowest = lowest_of(&group->parking, lowest);
    if (!list_empty(&group->fresh)) { /* ascending */
        int64_t first = list_entry(group->fresh.next, struct message, node)->number;
        lowest = first < lowest ? first : lowest;
    }
    for (struct list *at = group->members.next; at != &group->members; at = at->next)
        lowest = lowest_of(&list_entry(at, struct member, node)->sent, lowest);
    return lowest;
}

static void on_checkpoint_written(struct task *task)
{
    struct group *group = CONTAINER_OF(task, struct group, checkpoint_write.op.task);
    group->checkpoint_writing = false;
    if (group->checkpoint_write.op.error == 0 && group->checkpoint_write.outcome == STREAM_OK)
        group->checkpoint = group->checkpoint_next;
    else
        group->done_since += group->done_at_write; /* so that it is tried again */
    group_stop_continue(group);
}

static void checkpoint_write(struct group *group, int64_t number)
{
    group->checkpoint_next = number;
    int size =
        snprintf(group->checkpoint_text, sizeof group->checkpoint_text, "\"%" PRId64 "\"", number);
    group->checkpoint_event = (struct stream_new_event){
        .type = slice_of_string(CHECKPOINT_TYPE),
        .is_json = true,
        .data = slice_make(group->checkpoint_text, (size_t)size),
    };
    put_u64(group->checkpoint_event.id, (uint64_t)number);
    put_u64(group->checkpoint_event.id + 8, uv_hrtime());
    group->checkpoint_write = (struct stream_write){
        .op = {.task.run = on_checkpoint_written, .loop = group->streams->loop},
        .stream = group->checkpoint_stream,
        .expected_version = STREAM_ANY,
        .events = &group->checkpoint_event,
        .count = 1,
    };
    group->checkpoint_writing = true;
    streams_write(group->streams, &group->checkpoint_write);
}

/* What was done above an event that is not counts when that is: by how far the checkpoint would
 * move, not by what is done since. */
void group_checkpoint_consider(struct group *group, uint64_t now_ms, bool now)
{
    const struct stream_group_settings *settings = &group->settings;
    int64_t before = group_done_before(group);
    if (group->checkpoint_writing || group->phase < GROUP_RUNNING || group->next_number <= before)
        return;
    bool by_count = group->done_since >= (uint64_t)settings->checkpoint_max_count;
    bool by_time = now_ms - group->checkpoint_ms >= (uint64_t)settings->checkpoint_after_ms;
    if (!now && !by_count && !by_time)
        return;
    int64_t lowest = group_lowest(group);
    int64_t more = lowest - before;
    group->checkpoint_ms = now_ms;
    group->done_at_write = group->done_since;
    group->done_since = 0;
    if (more > 0 && (now || by_count || more >= settings->checkpoint_min_count))
        checkpoint_write(group, lowest - 1);
}

/* --- the end, and time ------------------------------------------------------------------------ */

void group_stop_continue(struct group *group)
{
    if (group->phase != GROUP_STOPPING || group->subscribed || group_is_loading(group) ||
        group->checkpoint_writing || !group_park_is_idle(group))
        return;
    if (!group->stop_checkpointed) {
        group->stop_checkpointed = true;
        group_checkpoint_consider(group, loop_now_ms(group->streams->loop), true);
        if (group->checkpoint_writing)
            return;
    }
    messages_forget(&group->fresh);
    messages_forget(&group->retry);
    group_park_forget(group);
    messages_forget(&group->parking);
    group->fresh_count = group->retry_count = group->parking_count = 0;
    group->bytes = 0;
    group->done_since = 0;
    group->replaying = group->replay_again = false;
    group->replayed_count = 0;
    group->stop_checkpointed = false;
    group->stopped(group, group->stopped_arg);
}

void group_stop(struct group *group, enum stream_drop drop,
                void (*stopped)(struct group *group, void *arg), void *arg)
{
    bool loaded = group->phase == GROUP_RUNNING;
    group->phase = GROUP_STOPPING;
    group->stopped = stopped;
    group->stopped_arg = arg;
    group->stop_checkpointed = !loaded; /* it knows no better than what is written */
    group->page_count = 0;
    group_drop_members(group, drop);
    if (group->subscribed)
        stream_subscription_close(&group->subscription);
    group_stop_continue(group);
}

/* Rates, over the time since they were measured last. */
static void group_measure(struct group *group, uint64_t now_ms)
{
    uint64_t passed_ms = now_ms - group->rate_since_ms;
    if (passed_ms < 1000)
        return;
    group->per_second = (group->total - group->total_at_tick) * 1000 / passed_ms;
    group->total_at_tick = group->total;
    group->rate_since_ms = now_ms;
    for (struct list *at = group->members.next; at != &group->members; at = at->next) {
        struct member *member = list_entry(at, struct member, node);
        member->per_second = (member->total - member->total_at_tick) * 1000 / passed_ms;
        member->total_at_tick = member->total;
    }
}

void group_tick(struct group *group, uint64_t now_ms)
{
    if (group->phase == GROUP_LOADING && !group_is_loading(group))
        group_start(group);
    if (group->phase != GROUP_RUNNING)
        return;
    if (!group->subscribed && group->subscription.outcome != STREAM_DELETED)
        group_subscribe(group); /* it could not be read for a while */
    group_measure(group, now_ms);
    group_expire(group, now_ms);
    group_park_tick(group);
    group_replay_continue(group);
    group_checkpoint_consider(group, now_ms, false);
    group_read_on(group);
    group_dispatch(group);
}

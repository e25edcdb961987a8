/*
 * stream/group_park.c: events that could not be handled: kept as links in the group's parked
 * stream, and given again when somebody asks for it.
 *
 * Park: 1. the message waits in `parking` while a link is appended, to the event itself also where
 * it came by a link; its number holds the checkpoint back; 2. it is done. Each time an event is
 * parked its link has a new id, and the same one when that write is tried again.
 *
 * Replay: 1. the parked stream is read with its links resolved, from the first visible one to the
 * last of now; 2. each becomes a message that is given before all others: the event, by its link in
 * the parked stream, which tells consumers that it was parked; 3. when all of these are done (or
 * parked again, behind them), the links are truncated. A crash before that gives them again. A
 * request that comes while a replay is under way begins another one after it.
 */
#include "stream/groups.h"
#include "stream/json_text.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>

#define REPLAY_UNDER_WAY_MAX 512u

/* --- parking ---------------------------------------------------------------------------------- */

/* A message's way into the parked stream. */
struct parking {
    struct stream_write write;
    struct stream_new_event link;
    struct group *group;
    struct message *message;
    bool writing;
    struct buf data;
    struct buf metadata;
};

static void parking_free(struct parking *parking)
{
    buf_deinit(&parking->data);
    buf_deinit(&parking->metadata);
    mem_free(parking);
}

static void parking_on_written(struct task *task)
{
    struct parking *parking = CONTAINER_OF(task, struct parking, write.op.task);
    struct group *group = parking->group;
    struct message *message = parking->message;
    parking->writing = false;
    if (parking->write.op.error == 0 && parking->write.outcome == STREAM_OK) {
        group->parked_last = parking->write.last_number;
        group->parking_count--;
        message->parking = NULL;
        group_message_done(group, message);
        parking_free(parking);
    } /* else by the next tick, with the same id */
    group_stop_continue(group);
    if (group->phase != GROUP_RUNNING)
        return;
    group_checkpoint_consider(group, loop_now_ms(group->streams->loop), false);
    group_replay_continue(group);
    group_dispatch(group);
}

static void parking_write(struct parking *parking)
{
    struct group *group = parking->group;
    parking->write = (struct stream_write){
        .op = {.task.run = parking_on_written, .loop = group->streams->loop},
        .stream = group->parked_stream,
        .expected_version = STREAM_ANY,
        .events = &parking->link,
        .count = 1,
    };
    parking->writing = true;
    streams_write(group->streams, &parking->write);
}

static int parking_fill(struct parking *parking, kvs_slice reason)
{
    struct group *group = parking->group;
    json_t *json = json_object();
    int error = json_object_set_new(json, "added", json_time((int64_t)group->streams->wall_ms()));
    if (error == 0)
        error = json_object_set_new(json, "reason", json_text(reason));
    if (error == 0)
        error = json_object_set_new(json, "subscriptionEventNumber",
                                    json_integer(parking->message->number));
    if (error != 0) {
        json_decref(json);
        return KVS_ERR_NO_MEMORY;
    }
    error = json_append(json, &parking->metadata);
    const struct stream_record *event = &parking->message->event.event;
    if (error == 0)
        error = buf_printf(&parking->data, "%" PRId64 "@", event->number);
    if (error == 0)
        error = buf_append_slice(&parking->data, event->stream);
    parking->link = (struct stream_new_event){.type = slice_of_string(LINK_TYPE),
                                              .data = buf_slice(&parking->data),
                                              .metadata = buf_slice(&parking->metadata)};
    put_u64(parking->link.id, ++group->parked_ids);
    put_u64(parking->link.id + 8, uv_hrtime());
    return error;
}

/* Without memory it stays in the list, and is begun by a tick. */
static void parking_begin(struct group *group, struct message *message, kvs_slice reason)
{
    struct parking *parking = mem_zalloc(sizeof *parking);
    if (parking == NULL)
        return;
    parking->group = group;
    parking->message = message;
    if (parking_fill(parking, reason) != 0) {
        parking_free(parking);
        return;
    }
    message->parking = parking;
    parking_write(parking);
}

void group_park(struct group *group, struct message *message, kvs_slice reason)
{
    list_append(&group->parking, &message->node);
    group->parking_count++;
    parking_begin(group, message, reason);
}

void group_park_tick(struct group *group)
{
    for (struct list *at = group->parking.next; at != &group->parking; at = at->next) {
        struct message *message = list_entry(at, struct message, node);
        if (message->parking == NULL)
            parking_begin(group, message, slice_of_string("parked"));
        else if (!message->parking->writing)
            parking_write(message->parking);
    }
}

bool group_park_is_idle(struct group *group)
{
    if (group->replay_busy)
        return false;
    for (struct list *at = group->parking.next; at != &group->parking; at = at->next) {
        const struct message *message = list_entry(at, struct message, node);
        if (message->parking != NULL && message->parking->writing)
            return false;
    }
    return true;
}

void group_park_forget(struct group *group)
{
    for (struct list *at = group->parking.next; at != &group->parking; at = at->next) {
        struct message *message = list_entry(at, struct message, node);
        if (message->parking != NULL)
            parking_free(message->parking);
        message->parking = NULL;
    }
}

/* --- replaying: reading ----------------------------------------------------------------------- */

static void replay_on_read(struct task *task);

/* Reads the next link with its event; true: at once. */
static bool replay_read(struct group *group)
{
    stream_read_release(&group->replay_read);
    group->replay_read = (struct stream_read){
        .op = {.task.run = replay_on_read, .loop = group->streams->loop},
        .flags = STREAM_READ_RESOLVE_LINKS,
        .stream = group->parked_stream,
        .from = group->replay_cursor,
    };
    if (streams_read_answer(group->streams, &group->replay_read))
        return true;
    group->replay_busy = true;
    streams_read(group->streams, &group->replay_read);
    return false;
}

/* The event becomes a message; false: again, later. What is not there any more is passed over. */
static bool replay_take(struct group *group)
{
    const struct stream_read *read = &group->replay_read;
    struct message *message;
    if (read->op.error != 0)
        return false;
    if (read->events_count > 0 && read->events[0].has_event) {
        if (message_new(&read->events[0], &message) != 0)
            return false;
        message->replayed = true;
        message->pin = message_pin(group->settings.strategy, &message->event);
        group->bytes += message->size;
        group->replayed_count++;
        group_retry_add(group, message);
    }
    group->replay_cursor++;
    return true;
}

static bool replay_has_more(const struct group *group)
{
    return group->phase == GROUP_RUNNING && group->replay_cursor <= group->replay_to &&
           group->replayed_count < REPLAY_UNDER_WAY_MAX && group->bytes < GROUP_BUFFER_BYTES_MAX;
}

static void replay_links(struct group *group)
{
    while (replay_has_more(group) && replay_read(group) && replay_take(group))
        ;
}

static void replay_on_read(struct task *task)
{
    struct group *group = CONTAINER_OF(task, struct group, replay_read.op.task);
    group->replay_busy = false;
    bool taken = group->phase == GROUP_RUNNING && replay_take(group);
    group_stop_continue(group);
    if (!taken || group->phase != GROUP_RUNNING)
        return;
    group_replay_continue(group);
    group_dispatch(group);
}

/* --- replaying: the end ----------------------------------------------------------------------- */

static void replay_on_truncated(struct task *task)
{
    struct group *group = CONTAINER_OF(task, struct group, replay_write.op.task);
    group->replay_busy = false;
    if (group->replay_write.op.error == 0) { /* else by the next tick */
        group->parked_first = group->replay_to + 1;
        group->replaying = false;
    }
    group_stop_continue(group);
    if (group->phase == GROUP_RUNNING && !group->replaying)
        group_replay_asked(group);
}

static void replay_truncate(struct group *group)
{
    int size = snprintf(group->replay_text, sizeof group->replay_text,
                        "{\"$tb\":%" PRId64 ",\"$acl\":{\"$r\":\"$admins\",\"$w\":\"$admins\","
                        "\"$d\":\"$admins\",\"$mr\":\"$admins\",\"$mw\":\"$admins\"}}",
                        group->replay_to + 1);
    group->replay_metadata = (struct stream_new_event){
        .type = slice_of_string(METADATA_TYPE),
        .is_json = true,
        .data = slice_make(group->replay_text, (size_t)size),
    };
    put_u64(group->replay_metadata.id, (uint64_t)group->replay_to);
    put_u64(group->replay_metadata.id + 8, uv_hrtime());
    group->replay_write = (struct stream_write){
        .op = {.task.run = replay_on_truncated, .loop = group->streams->loop},
        .stream = group->parked_metastream,
        .expected_version = STREAM_ANY,
        .events = &group->replay_metadata,
        .count = 1,
    };
    group->replay_busy = true;
    streams_write(group->streams, &group->replay_write);
}

void group_replay_continue(struct group *group)
{
    if (!group->replaying || group->replay_busy || group->phase != GROUP_RUNNING)
        return;
    replay_links(group);
    if (!group->replay_busy && group->replay_cursor > group->replay_to &&
        group->replayed_count == 0)
        replay_truncate(group);
}

void group_replay_asked(struct group *group)
{
    if (!group->replay_again)
        return;
    group->replay_again = false;
    group_replay(group, group->replay_again_limit);
}

void group_replay(struct group *group, int64_t limit)
{
    if (group->replaying || group->phase < GROUP_RUNNING) {
        group->replay_again = true;
        group->replay_again_limit = limit;
        return;
    }
    if (group->phase != GROUP_RUNNING || group->parked_last < group->parked_first)
        return;
    group->replaying = true;
    group->replay_cursor = group->parked_first;
    group->replay_to = group->parked_last;
    if (limit > 0 && limit <= group->parked_last - group->parked_first)
        group->replay_to = group->parked_first + limit - 1;
    group_replay_continue(group);
    group_dispatch(group);
}

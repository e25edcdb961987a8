/*
 * client/eventstore/: whatever a server answers or pushes, over TCP or HTTP, must end in an
 * outcome, and what it gives must lie in memory that is there. The input: the kind of call, the
 * command of the frame (0: the right one), the body.
 */
#include "client/eventstore/gossip.h"
#include "client/eventstore/groups.h"
#include "client/eventstore/http.h"
#include "client/eventstore/reply.h"
#include "client/eventstore/request.h"
#include "fuzz/target.h"

#include <stdlib.h>

static volatile unsigned touched;

static void touch(kvs_slice text)
{
    unsigned sum = 0;
    for (size_t i = 0; i < text.size; i++)
        sum += text.data[i];
    touched = sum;
}

static void touch_event(const kvs_event *event)
{
    if (event == NULL)
        return;
    touch(event->stream);
    touch(event->type);
    touch(event->data);
    touch(event->metadata);
}

static void touch_batch(const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        touch_event(batch->events[i].event);
        touch_event(batch->events[i].link);
        if (kvs_original_event(&batch->events[i]) == NULL)
            abort();
    }
}

static void take_reply(enum events_kind kind, unsigned flags, uint8_t command, kvs_slice body)
{
    const kvs_slice prefix = slice_of_string("p");
    const kvs_event_filter filter = {.patterns = &prefix, .patterns_count = 1};
    const struct events_request request = {
        .kind = kind, .flags = flags & KVS_READ_BACKWARD, .filter = flags & 1 ? &filter : NULL};
    const struct request_wire *wire = request_wire_of(&request);
    if (wire == NULL)
        return;
    struct events_call call = {.kind = kind};
    struct reply_node node;
    const struct reply_question question = {.command = wire->reply, .count_max = 4096};
    const struct es_frame frame = {.command = command != 0 ? command : wire->reply, .body = body};
    if (reply_take(&call, &question, &frame, &node) == REPLY_DONE && call.error == 0) {
        touch_batch(&call.batch);
        if (kind == EVENTS_READ_EVENT && call.batch.count != 1)
            abort();
    }
    events_call_deinit(&call);
}

static void take_pushes(kvs_slice body)
{
    struct batch batch = {0};
    reply_take_event(&batch, body);
    reply_take_group_event(&batch, body);
    touch_batch(&batch);
    batch_deinit(&batch);
}

static void take_http(kvs_slice bytes)
{
    for (int ended = 0; ended < 2; ended++) {
        struct buf answer = BUF_INIT;
        int status;
        kvs_slice body;
        if (buf_append_slice(&answer, bytes) == 0 &&
            http_parse(&answer, ended != 0, &status, &body) == 1)
            touch(body);
        buf_deinit(&answer);
    }
}

static void take_gossip(kvs_slice json)
{
    static struct gossip gossip;
    struct rand rand = rand_seed(1);
    if (gossip_parse(json, false, &gossip) != 0)
        return;
    for (int i = 0; i <= KVS_NODE_RANDOM; i++)
        gossip_choose(&gossip, (enum kvs_node_preference)i, NULL, &rand);
}

static void take_groups(kvs_slice json)
{
    struct arena arena = {0};
    kvs_group_list *list;
    kvs_group_info *info;
    if (groups_parse_list(json, &arena, &list) == 0) {
        for (size_t i = 0; i < list->count; i++)
            touch(list->groups[i].stream);
    }
    if (groups_parse_info(json, &arena, &info) == 0) {
        for (size_t i = 0; i < info->summary.connections_count; i++)
            touch(slice_of_string(info->connections[i].name));
    }
    arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    kvs_slice body = slice_make(data + 2, size - 2);
    unsigned kind = data[0] & 31;
    if (kind >= EVENTS_APPEND && kind <= EVENTS_PING)
        take_reply((enum events_kind)kind, data[0] >> 5, data[1], body);
    else if (kind == 28)
        take_groups(body);
    else if (kind == 29)
        take_pushes(body);
    else if (kind == 30)
        take_http(body);
    else if (kind == 31)
        take_gossip(body);
    return 0;
}

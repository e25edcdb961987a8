/* stream/groups_info.c: what groups are doing, copied for whoever asks. */
#include "stream/groups.h"

static int copy(struct arena *arena, kvs_slice from, kvs_slice *to)
{
    void *bytes = arena_copy(arena, from);
    if (bytes == NULL)
        return KVS_ERR_NO_MEMORY;
    *to = slice_make(bytes, from.size);
    return 0;
}

static int consumers_info(struct group *group, struct arena *arena, struct stream_group_info *info)
{
    struct stream_consumer_info *consumers =
        arena_zalloc(arena, group->members_count * sizeof *consumers);
    if (consumers == NULL)
        return KVS_ERR_NO_MEMORY;
    info->consumers = consumers;
    int error = 0;
    for (struct list *at = group->members.next; at != &group->members && error == 0;
         at = at->next) {
        const struct member *member = list_entry(at, struct member, node);
        struct stream_consumer_info *consumer = &consumers[info->consumers_count++];
        error = copy(arena, member->from, &consumer->from);
        if (error == 0)
            error = copy(arena, member->user, &consumer->user);
        if (error == 0)
            error = copy(arena, member->name, &consumer->name);
        consumer->total = member->total;
        consumer->per_second = member->per_second;
        consumer->since_measured = member->total - member->total_at_tick;
        consumer->in_flight = member->sent_count;
        consumer->available_slots = member->slots - member->sent_count;
        info->in_flight += (uint32_t)member->sent_count;
    }
    return error;
}

static const char *status_of(const struct group *group)
{
    if (group->phase != GROUP_RUNNING)
        return "NotReady";
    if (group->replaying)
        return "ReplayingParkedMessages";
    return group->subscription.watching ? "Live" : "Behind";
}

/* The group has seen less than there is while its buffer is full; and begins, where it was told to,
 * also behind the end. */
static int64_t last_known_of(const struct group *group)
{
    struct stream_read read = {.kind = STREAM_READ_INFO, .stream = group->stream};
    bool known = streams_read_answer(group->streams, &read) && read.op.error == 0 &&
                 read.last_number != STREAM_NUMBER_DELETED;
    int64_t last = known ? read.last_number : group->last_known;
    stream_read_release(&read);
    return last;
}

static int group_info(struct group *group, struct arena *arena, struct stream_group_info *info)
{
    *info = (struct stream_group_info){
        .settings = group->settings,
        .status = status_of(group),
        .last_checkpoint = group->checkpoint,
        .last_known = last_known_of(group),
        .total = group->total,
        .per_second = group->per_second,
        .since_measured = group->total - group->total_at_tick,
        .read_buffer = group->fresh_count,
        .retry_buffer = group->retry_count,
        .parked = group->parked_last - group->parked_first + 1,
    };
    int error = copy(arena, group->stream, &info->stream);
    if (error == 0)
        error = copy(arena, group->name, &info->group);
    if (error == 0)
        error = consumers_info(group, arena, info);
    info->outstanding = info->in_flight + group->retry_count + group->parking_count;
    return error;
}

static bool is_wanted(const struct group *group, const struct stream_group_call *call)
{
    return (call->stream.size == 0 || slice_equal(call->stream, group->stream)) &&
           (call->group.size == 0 || slice_equal(call->group, group->name));
}

bool groups_info_must_wait(struct groups *groups, const struct stream_group_call *call)
{
    for (struct list *at = groups->all.next; at != &groups->all; at = at->next) {
        const struct group *group = list_entry(at, struct group, node);
        if (is_wanted(group, call) && group_is_loading(group))
            return true;
    }
    return false;
}

int groups_info(struct groups *groups, struct stream_group_call *call)
{
    call->infos = arena_zalloc(&call->arena, groups->count * sizeof *call->infos);
    if (call->infos == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = 0;
    for (struct list *at = groups->all.next; at != &groups->all && error == 0; at = at->next) {
        struct group *group = list_entry(at, struct group, node);
        if (is_wanted(group, call))
            error = group_info(group, &call->arena, &call->infos[call->infos_count++]);
    }
    if (error == 0 && call->infos_count == 0 && call->group.size > 0)
        call->outcome = STREAM_GROUP_NOT_FOUND;
    return error;
}

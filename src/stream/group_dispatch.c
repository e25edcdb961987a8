/*
 * stream/group_dispatch.c: who gets which event, and what becomes of it.
 *
 *   1. streams_consume posts the consumer to the group's loop, where it becomes a member if the
 *      user may read and there is room;
 *   2. dispatch takes the messages that are to be given again, then fresh ones, and picks a member
 *      for each by the strategy; it is posted to the consumer's loop, and stays in the member's
 *      list
 *      until it is acknowledged, refused, or its time is over;
 *   3. refused, late, or its consumer lost: it is to be given again, in the stream's order, or,
 *      when that was often enough, parked. A consumer that leaves by itself gives back what it had:
 *      that is given again, however often.
 *
 * Failure: without memory for a delivery the message stays where it was until the next tick.
 */
#include "stream/groups.h"

#include "base/checksum.h"
#include "base/mem.h"

#include <stdio.h>

#define PINNED_LOOK_MAX 64u /* messages behind one whose member is full */
#define REASON_SIZE_MAX 1024u
#define REFUSED "Client explicitly NAK'ed message.\n" /* as EventStoreDB writes it */

/* On its way to a consumer. */
struct delivery {
    struct task task;
    struct member *member;
    struct message *message;
    int32_t retries;
};

/* --- strategies ------------------------------------------------------------------------------- */

static const char *const strategy_names[] = {
    [STREAM_STRATEGY_ROUND_ROBIN] = "RoundRobin",
    [STREAM_STRATEGY_DISPATCH_TO_SINGLE] = "DispatchToSingle",
    [STREAM_STRATEGY_PINNED] = "Pinned",
    [STREAM_STRATEGY_PINNED_BY_CORRELATION] = "PinnedByCorrelation",
};
#define STRATEGIES (sizeof strategy_names / sizeof strategy_names[0])

const char *stream_strategy_name(enum stream_strategy strategy)
{
    return (size_t)strategy < STRATEGIES ? strategy_names[strategy] : NULL;
}

int stream_strategy_of_name(kvs_slice name)
{
    for (size_t i = 0; i < STRATEGIES; i++) {
        if (name_is(name, strategy_names[i]))
            return (int)i;
    }
    return -1;
}

static bool is_pinned(const struct group *group)
{
    return group->settings.strategy >= STREAM_STRATEGY_PINNED;
}

static uint64_t pin_of(kvs_slice text)
{
    return checksum(text.data, text.size);
}

/* False: the metadata names none. */
static bool correlation_pin(kvs_slice metadata, uint64_t *ret_pin)
{
    struct buf id = BUF_INIT;
    bool found = metadata_correlation_id(metadata, &id) == 0 && id.size > 0;
    if (found)
        *ret_pin = pin_of(buf_slice(&id));
    buf_deinit(&id);
    return found;
}

uint64_t message_pin(enum stream_strategy strategy, const struct stream_event *event)
{
    uint64_t pin;
    if (strategy == STREAM_STRATEGY_PINNED_BY_CORRELATION &&
        correlation_pin(event->event.metadata, &pin))
        return pin;
    if (strategy < STREAM_STRATEGY_PINNED)
        return 0;
    const struct stream_record *record = &event->event;
    const uint8_t *at = name_is(record->type, LINK_TYPE) && record->data.size > 0
                            ? memchr(record->data.data, '@', record->data.size)
                            : NULL;
    if (at == NULL)
        return pin_of(record->stream);
    return pin_of(slice_make(at + 1, record->data.size - (size_t)(at + 1 - record->data.data)));
}

static bool has_slot(const struct member *member)
{
    return member->sent_count < member->slots;
}

/* The one with the highest rank for this pin: most stay where they are when others come or go. */
static struct member *pick_pinned(struct group *group, uint64_t pin)
{
    struct member *best = NULL;
    uint32_t best_rank = 0;
    for (struct list *at = group->members.next; at != &group->members; at = at->next) {
        struct member *member = list_entry(at, struct member, node);
        uint64_t both[2] = {pin % 1024, member->id};
        uint32_t rank = checksum(both, sizeof both);
        if (best == NULL || rank > best_rank) {
            best = member;
            best_rank = rank;
        }
    }
    return best != NULL && has_slot(best) ? best : NULL;
}

static struct member *pick_member(struct group *group, const struct message *message)
{
    if (is_pinned(group))
        return pick_pinned(group, message->pin);
    for (struct list *at = group->members.next; at != &group->members; at = at->next) {
        struct member *member = list_entry(at, struct member, node);
        if (!has_slot(member))
            continue;
        if (group->settings.strategy == STREAM_STRATEGY_ROUND_ROBIN) {
            list_remove(&member->node);
            list_append(&group->members, &member->node);
        }
        return member;
    }
    return NULL;
}

/* --- what was sent ---------------------------------------------------------------------------- */

/* The seed is one that nobody outside knows, so nobody can make the chains long. */
static struct message **sent_chain(struct member *member, const uint8_t id[16])
{
    uint32_t hash = checksum_seeded(id, 16, member->groups->sent_seed);
    return &member->sent_chains[hash & member->sent_mask];
}

static const uint8_t *message_id(const struct message *message)
{
    return stream_event_original(&message->event)->id;
}

/* Behind those with the same id: the one that was sent first is acknowledged first. */
static void sent_add(struct member *member, struct message *message)
{
    struct message **link = sent_chain(member, message_id(message));
    while (*link != NULL)
        link = &(*link)->next_sent;
    *link = message;
    message->next_sent = NULL;
    list_append(&member->sent, &message->node);
    member->sent_count++;
}

static void sent_remove(struct member *member, struct message *message)
{
    struct message **link = sent_chain(member, message_id(message));
    while (*link != message)
        link = &(*link)->next_sent;
    *link = message->next_sent;
    list_remove(&message->node);
    member->sent_count--;
}

static struct message *sent_find(struct member *member, const uint8_t id[16])
{
    struct message *message = *sent_chain(member, id);
    while (message != NULL && memcmp(message_id(message), id, 16) != 0)
        message = message->next_sent;
    return message;
}

/* --- sending ---------------------------------------------------------------------------------- */

static void delivery_run(struct task *task)
{
    struct delivery *delivery = CONTAINER_OF(task, struct delivery, task);
    struct member *member = delivery->member;
    if (!member->closed)
        member->consumer->on_event(member->consumer, &delivery->message->event, delivery->retries);
    message_unref(delivery->message);
    mem_free(delivery);
}

/* Out of the list it waits in; false: there is no memory. */
static bool message_send(struct group *group, struct member *member, struct message *message)
{
    struct delivery *delivery = mem_alloc(sizeof *delivery);
    if (delivery == NULL)
        return false;
    *delivery = (struct delivery){.task.run = delivery_run,
                                  .member = member,
                                  .message = message,
                                  .retries = message->retries};
    atomic_fetch_add_explicit(&message->refs, 1, memory_order_relaxed);
    list_remove(&message->node);
    sent_add(member, message);
    member->total++;
    group->total++;
    message->sent_ms = loop_now_ms(group->streams->loop);
    loop_post(member->loop, &delivery->task);
    return true;
}

/* Sends from the front of a list; how many. A pinned message may be passed by those behind it. */
static uint32_t list_dispatch(struct group *group, struct list *list)
{
    uint32_t sent = 0;
    uint32_t passed = 0;
    struct list *next;
    for (struct list *at = list->next; at != list; at = next) {
        next = at->next;
        struct message *message = list_entry(at, struct message, node);
        struct member *member = pick_member(group, message);
        if (member == NULL && (!is_pinned(group) || ++passed > PINNED_LOOK_MAX))
            break;
        if (member == NULL)
            continue;
        if (!message_send(group, member, message))
            break;
        sent++;
    }
    return sent;
}

void group_dispatch(struct group *group)
{
    if (group->phase != GROUP_RUNNING || list_empty(&group->members))
        return;
    group->retry_count -= list_dispatch(group, &group->retry);
    if (!list_empty(&group->retry) && !is_pinned(group))
        return;
    group->fresh_count -= list_dispatch(group, &group->fresh);
    group_read_on(group);
}

/* --- done, or again --------------------------------------------------------------------------- */

void group_message_done(struct group *group, struct message *message)
{
    list_remove(&message->node);
    group->bytes -= message->size;
    if (message->replayed)
        group->replayed_count--;
    else
        group->done_since++;
    message_unref(message);
}

void group_retry_add(struct group *group, struct message *message)
{
    struct list *before = group->retry.prev;
    while (before != &group->retry &&
           list_entry(before, struct message, node)->number > message->number)
        before = before->prev;
    list_remove(&message->node);
    struct list *after = before->next; /* between the two */
    message->node.prev = before;
    message->node.next = after;
    before->next = &message->node;
    after->prev = &message->node;
    group->retry_count++;
}

static void message_again(struct group *group, struct message *message)
{
    message->retries++;
    group_retry_add(group, message);
}

/* It failed once more. */
static void message_failed(struct group *group, struct message *message)
{
    char reason[80];
    if (message->retries < group->settings.max_retry_count) {
        message_again(group, message);
        return;
    }
    snprintf(reason, sizeof reason, "Reached retry count of %d",
             (int)group->settings.max_retry_count);
    group_park(group, message, slice_of_string(reason));
}

void group_expire(struct group *group, uint64_t now_ms)
{
    int32_t timeout_ms = group->settings.message_timeout_ms;
    for (struct list *at = group->members.next; timeout_ms > 0 && at != &group->members;
         at = at->next) {
        struct member *member = list_entry(at, struct member, node);
        while (!list_empty(&member->sent)) { /* oldest first */
            struct message *message = list_entry(member->sent.next, struct message, node);
            if (now_ms - message->sent_ms < (uint64_t)timeout_ms)
                break;
            sent_remove(member, message);
            message_failed(group, message);
        }
    }
}

/* --- acknowledgements ------------------------------------------------------------------------- */

struct ack {
    struct task task;
    struct member *member;
    bool is_nak;
    enum stream_nak action;
    uint32_t count;
    kvs_slice reason;
    uint8_t bytes[]; /* ids, then the reason */
};

static void message_refused(struct group *group, struct message *message, kvs_slice reason)
{
    uint8_t text[sizeof REFUSED - 1 + REASON_SIZE_MAX] = REFUSED;
    size_t size = sizeof REFUSED - 1;
    if (reason.size > 0)
        memcpy(text + size, reason.data, reason.size);
    group_park(group, message, slice_make(text, size + reason.size));
}

static void ack_one(struct group *group, const struct ack *ack, const uint8_t id[16])
{
    struct message *message = sent_find(ack->member, id);
    if (message == NULL)
        return;
    sent_remove(ack->member, message);
    if (!ack->is_nak || ack->action >= STREAM_NAK_SKIP)
        group_message_done(group, message);
    else if (ack->action == STREAM_NAK_PARK)
        message_refused(group, message, ack->reason);
    else
        message_failed(group, message);
}

static uint64_t ack_size(const struct ack *ack)
{
    return sizeof *ack + (uint64_t)ack->count * 16 + ack->reason.size;
}

static void ack_run(struct task *task)
{
    struct ack *ack = CONTAINER_OF(task, struct ack, task);
    struct group *group = ack->member->group;
    for (uint32_t i = 0; group != NULL && i < ack->count; i++)
        ack_one(group, ack, ack->bytes + (size_t)i * 16);
    if (group != NULL) {
        group_checkpoint_consider(group, loop_now_ms(group->streams->loop), false);
        group_replay_continue(group);
        group_dispatch(group);
    }
    /* relaxed: a count. */
    atomic_fetch_sub_explicit(&ack->member->acks_waiting, ack_size(ack), memory_order_relaxed);
    mem_free(ack);
}

static int ack_send(struct stream_consumer *consumer, const uint8_t *ids, uint32_t count,
                    const struct ack *what)
{
    size_t size = (size_t)count * 16;
    struct member *member = consumer->member;
    struct ack *ack = mem_alloc(sizeof *ack + size + what->reason.size);
    if (ack == NULL)
        return KVS_ERR_NO_MEMORY;
    *ack = *what;
    ack->task.run = ack_run;
    ack->member = member;
    ack->count = count;
    memcpy(ack->bytes, ids, size);
    if (what->reason.size > 0)
        memcpy(ack->bytes + size, what->reason.data, what->reason.size);
    ack->reason.data = ack->bytes + size;
    /* relaxed: a count. */
    atomic_fetch_add_explicit(&member->acks_waiting, ack_size(ack), memory_order_relaxed);
    loop_post(member->groups->streams->loop, &ack->task);
    return 0;
}

int stream_consumer_ack(struct stream_consumer *consumer, const uint8_t *ids, uint32_t count)
{
    struct ack what = {.count = 0};
    return ack_send(consumer, ids, count, &what);
}

int stream_consumer_nak(struct stream_consumer *consumer, const uint8_t *ids, uint32_t count,
                        enum stream_nak action, kvs_slice reason)
{
    struct ack what = {.is_nak = true, .action = action, .reason = reason};
    if (what.reason.size > REASON_SIZE_MAX)
        what.reason.size = REASON_SIZE_MAX;
    return ack_send(consumer, ids, count, &what);
}

uint64_t stream_consumer_acks_waiting(const struct stream_consumer *consumer)
{
    struct member *member = consumer->member;
    return member != NULL ? atomic_load_explicit(&member->acks_waiting, memory_order_relaxed) : 0;
}

/* --- members: coming and going ---------------------------------------------------------------- */

/* The last task of a member: on the group's loop, behind all that its consumer sent. */
static void member_free(struct task *task)
{
    struct member *member = CONTAINER_OF(task, struct member, drop_task);
    struct groups *groups = member->groups;
    mem_free(member->texts);
    mem_free(member);
    /* release: pairs with the acquire of the close. */
    atomic_fetch_sub_explicit(&groups->members, 1, memory_order_release);
}

/* On the consumer's loop, behind all that was sent to it. */
static void member_tell_dropped(struct task *task)
{
    struct member *member = CONTAINER_OF(task, struct member, drop_task);
    struct stream_consumer *consumer = member->consumer;
    enum stream_drop drop = member->closed ? STREAM_DROP_CLOSED : member->drop;
    consumer->error = member->drop_error;
    consumer->member = NULL;
    member->drop_task.run = member_free;
    loop_post(member->groups->streams->loop, &member->drop_task);
    consumer->on_dropped(consumer, drop);
}

/* What it had goes to others; it is told. */
static void member_drop(struct member *member, enum stream_drop drop, int error)
{
    struct group *group = member->group;
    bool was_in = member->state == MEMBER_IN;
    member->group = NULL;
    member->state = MEMBER_DROPPED;
    member->drop = drop;
    member->drop_error = error;
    if (was_in) {
        list_remove(&member->node);
        group->members_count--;
        while (!list_empty(&member->sent)) {
            struct message *message = list_entry(member->sent.next, struct message, node);
            sent_remove(member, message);
            if (member->lost)
                message_failed(group, message);
            else
                message_again(group, message);
        }
    }
    member->drop_task.run = member_tell_dropped;
    loop_post(member->loop, &member->drop_task);
}

void group_drop_members(struct group *group, enum stream_drop drop)
{
    while (!list_empty(&group->members))
        member_drop(list_entry(group->members.next, struct member, node), drop, 0);
}

static void member_leave(struct task *task)
{
    struct member *member = CONTAINER_OF(task, struct member, leave_task);
    struct group *group = member->group;
    member->leaves = true; /* read when it has connected */
    if (member->state != MEMBER_IN)
        return;
    member_drop(member, STREAM_DROP_CLOSED, 0);
    group_dispatch(group);
}

void stream_consumer_close(struct stream_consumer *consumer, bool lost)
{
    struct member *member = consumer->member;
    if (member == NULL || member->closed) /* the drop is on its way */
        return;
    member->closed = true;
    member->lost = lost;
    member->leave_task.run = member_leave;
    loop_post(member->groups->streams->loop, &member->leave_task);
}

static void member_tell_confirmed(struct task *task)
{
    struct member *member = CONTAINER_OF(task, struct member, confirm_task);
    struct stream_consumer *consumer = member->consumer;
    if (!member->closed)
        consumer->on_confirmed(consumer);
}

/* The group as it is now: it may have gone while the rights were read. One that is being changed or
 * deleted drops whoever comes as it dropped all others: joining again tells which it was. */
static struct group *member_group(struct member *member, enum stream_drop *ret_drop)
{
    struct stream_consumer *consumer = member->consumer;
    struct group *group = groups_find(member->groups, consumer->stream, consumer->group);
    bool stopping = group != NULL && group->phase == GROUP_STOPPING;
    *ret_drop = stopping ? STREAM_DROP_UNSUBSCRIBED : STREAM_DROP_NOT_FOUND;
    return stopping ? NULL : group;
}

static void member_join(struct member *member, struct group *group)
{
    struct stream_consumer *consumer = member->consumer;
    member->group = group;
    member->state = MEMBER_IN;
    member->id = ++group->next_member;
    list_append(&group->members, &member->node);
    group->members_count++;
    consumer->last_number = member->read.last_number;
    consumer->last_position = member->read.last_position;
    member->confirm_task.run = member_tell_confirmed;
    loop_post(member->loop, &member->confirm_task);
    group_dispatch(group);
}

static void member_on_read(struct task *task)
{
    struct member *member = CONTAINER_OF(task, struct member, read.op.task);
    enum stream_drop drop;
    struct group *group = member_group(member, &drop);
    int32_t limit = group != NULL ? group->settings.subscriber_max_count : 0;
    if (member->read.op.error != 0)
        member_drop(member, STREAM_DROP_FAILED, member->read.op.error);
    else if (member->leaves)
        member_drop(member, STREAM_DROP_CLOSED, 0);
    else if (group == NULL)
        member_drop(member, drop, 0);
    else if (member->read.outcome == STREAM_ACCESS_DENIED)
        member_drop(member, STREAM_DROP_ACCESS_DENIED, 0);
    else if (limit > 0 && group->members_count >= (uint32_t)limit)
        member_drop(member, STREAM_DROP_TOO_MANY, 0);
    else
        member_join(member, group);
}

static int member_copy_texts(struct member *member)
{
    const struct stream_consumer *consumer = member->consumer;
    kvs_slice user = consumer->user != NULL ? consumer->user->login : (kvs_slice){0};
    member->texts = mem_alloc(consumer->from.size + user.size + consumer->name.size);
    if (member->texts == NULL)
        return KVS_ERR_NO_MEMORY;
    struct buf texts = {.data = (uint8_t *)member->texts,
                        .capacity = consumer->from.size + user.size + consumer->name.size};
    member->from = slice_make(texts.data, consumer->from.size);
    member->user = slice_make(member->from.data + member->from.size, user.size);
    member->name = slice_make(member->user.data + user.size, consumer->name.size);
    (void)buf_append_slice(&texts, consumer->from); /* there is room for all */
    (void)buf_append_slice(&texts, user);
    return buf_append_slice(&texts, consumer->name);
}

static void member_connect(struct task *task)
{
    struct member *member = CONTAINER_OF(task, struct member, connect_task);
    struct streams *streams = member->groups->streams;
    const struct stream_consumer *consumer = member->consumer;
    bool anonymous =
        consumer->user != NULL && consumer->user->login.size == 0 && !streams->insecure;
    enum stream_drop drop;
    if (member_group(member, &drop) == NULL) {
        member_drop(member, drop, 0);
        return;
    }
    if (anonymous) {
        member_drop(member, STREAM_DROP_ACCESS_DENIED, 0);
        return;
    }
    member->read = (struct stream_read){.op = {.task.run = member_on_read, .loop = streams->loop},
                                        .kind = STREAM_READ_INFO,
                                        .stream = consumer->stream,
                                        .user = consumer->user};
    if (streams_read_answer(streams, &member->read))
        member_on_read(&member->read.op.task);
    else
        streams_read(streams, &member->read);
}

static void consumer_refused(struct task *task)
{
    struct stream_consumer *consumer = CONTAINER_OF(task, struct stream_consumer, task);
    consumer->error = KVS_ERR_NO_MEMORY;
    consumer->on_dropped(consumer, STREAM_DROP_FAILED);
}

static struct member *member_new(struct streams *streams, struct stream_consumer *consumer)
{
    int32_t slots = consumer->slots < 1                          ? 1
                    : consumer->slots > GROUP_CONSUMER_SLOTS_MAX ? GROUP_CONSUMER_SLOTS_MAX
                                                                 : consumer->slots;
    uint32_t chains = 1;
    while (chains < (uint32_t)slots)
        chains *= 2;
    struct member *member = mem_zalloc(sizeof *member + chains * sizeof member->sent_chains[0]);
    if (member == NULL)
        return NULL;
    member->groups = streams->groups;
    member->consumer = consumer;
    member->loop = consumer->loop;
    member->slots = slots;
    member->sent_mask = chains - 1;
    list_init(&member->node);
    list_init(&member->sent);
    return member;
}

void streams_consume(struct streams *streams, struct stream_consumer *consumer)
{
    consumer->streams = streams;
    consumer->error = 0;
    struct member *member = member_new(streams, consumer);
    consumer->member = member;
    if (member == NULL || member_copy_texts(member) != 0) {
        mem_free(member);
        consumer->member = NULL;
        consumer->task.run = consumer_refused;
        loop_post(consumer->loop, &consumer->task);
        return;
    }
    atomic_fetch_add_explicit(&streams->groups->members, 1, memory_order_relaxed);
    member->connect_task.run = member_connect;
    loop_post(streams->loop, &member->connect_task);
}

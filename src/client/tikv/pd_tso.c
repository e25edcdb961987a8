/* client/tikv/pd_tso.c: see client/tikv/pd_tso.h. */
#include "client/tikv/pd_tso.h"

#include "client/tikv/cluster_parts.h"

#include <assert.h>
#include <kvs/error.h>
#include <string.h>

#define COUNT_MAX 65536u
#define GIVEN_UP 0u /* a deadline */

/* In txn_timestamp.reserved. */
struct tso_place {
    struct heap_node due;
    uint64_t message; /* its number; one that is not under way (any more): it waits */
};

static_assert(sizeof(struct tso_place) <= sizeof((struct txn_timestamp *)0)->reserved,
              "no allocation for a timestamp");

static struct tso_place *place_of(struct txn_timestamp *request)
{
    return (struct tso_place *)(void *)request->reserved;
}

static struct txn_timestamp *request_of(struct heap_node *due)
{
    return CONTAINER_OF((void *)CONTAINER_OF(due, struct tso_place, due), struct txn_timestamp,
                        reserved);
}

static struct txn_timestamp *first_of(const struct list *list)
{
    return list_empty(list) ? NULL : list_entry(list->next, struct txn_timestamp, node);
}

/* --- answers ------------------------------------------------------------------------------------
 */

/* Those who were not answered ask again, before all others. */
static void tso_ask_again(struct pd_tso *tso)
{
    struct list again;
    list_init(&again);
    list_move(&again, &tso->sent);
    list_move(&again, &tso->waiting);
    list_move(&tso->waiting, &again);
    tso->first_number += tso->messages_count;
    tso->messages_count = 0;
}

static void tso_on_end(struct channel_stream *stream, const struct unary_result *result)
{
    struct pd_tso *tso = CONTAINER_OF(stream, struct pd_tso, stream);
    tso_ask_again(tso);
    /* A stream that ends on a connection that stands: whom we asked does not lead (any more). */
    pd_client_on_refused(tso->pd, result->message);
}

static void tso_end(struct pd_tso *tso, struct txn_timestamp *request, int error, const char *why)
{
    heap_remove(&tso->due, &place_of(request)->due);
    list_remove(&request->node);
    request->done(request, error, why);
}

/* Hands out what `message` asked for; `last` is the last one. */
static void tso_give(struct pd_tso *tso, struct tso_message message, uint64_t last)
{
    for (uint32_t left = message.count - message.given_up; left > 0; left--) {
        struct txn_timestamp *request = first_of(&tso->sent);
        request->ts = last - (left - 1);
        tso_end(tso, request, 0, "");
    }
}

static bool tso_take(struct pd_tso *tso, kvs_slice message)
{
    Pdpb__TsoResponse *response = pdpb__tso_response__unpack(NULL, message.size, message.data);
    if (response == NULL)
        return false;
    bool has_error = response->header != NULL && response->header->error != NULL;
    bool good = !has_error && response->timestamp != NULL && tso->messages_count > 0 &&
                response->count == tso->messages[0].count && response->timestamp->physical > 0 &&
                response->timestamp->logical >= 0;
    uint64_t last = 0;
    if (good) {
        last = txn_ts_make((uint64_t)response->timestamp->physical,
                           (uint32_t)response->timestamp->logical);
        good = (uint64_t)response->timestamp->logical < 1u << TXN_TS_LOGICAL_BITS &&
               last >= response->count;
    }
    pdpb__tso_response__free_unpacked(response, NULL);
    if (!good)
        return false;
    struct tso_message answered = tso->messages[0];
    tso->silent_since_ms = loop_now_ms(tso->pd->loop);
    tso->first_number++;
    tso->messages_count--;
    memmove(tso->messages, tso->messages + 1, tso->messages_count * sizeof answered);
    tso_give(tso, answered, last);
    return true;
}

static void tso_on_message(struct channel_stream *stream, kvs_slice message)
{
    struct pd_tso *tso = CONTAINER_OF(stream, struct pd_tso, stream);
    if (!tso_take(tso, message))
        pd_client_on_refused(tso->pd, "PD sent a timestamp that cannot be used");
}

static void tso_on_writable(struct channel_stream *stream)
{
    (void)stream; /* the end of the turn sends */
}

/* --- asking -------------------------------------------------------------------------------------
 */

static int tso_start_stream(struct pd_tso *tso)
{
    if (tso->stream.call != NULL)
        return 0;
    tso->stream.on_message = tso_on_message;
    tso->stream.on_writable = tso_on_writable;
    tso->stream.on_end = tso_on_end;
    return channel_stream_start(&tso->pd->channel->channel, &tso->stream,
                                slice_of_string("/pdpb.PD/Tso"));
}

static int tso_pack(struct pd_tso *tso, uint32_t count)
{
    Pdpb__RequestHeader header = PDPB__REQUEST_HEADER__INIT;
    Pdpb__TsoRequest message = PDPB__TSO_REQUEST__INIT;
    header.cluster_id = tso->pd->members.cluster_id;
    message.header = &header;
    message.count = count;
    buf_clear(&tso->message);
    return pack_message(&tso->message, &message.base);
}

static void tso_send(struct pd_tso *tso, uint64_t now_ms)
{
    uint32_t count = 0;
    for (struct list *at = tso->waiting.next; at != &tso->waiting && count < COUNT_MAX;
         at = at->next)
        count++;
    if (tso_start_stream(tso) != 0 || tso_pack(tso, count) != 0 ||
        grpc_call_send(tso->stream.call, buf_slice(&tso->message)) != 0)
        return; /* no memory, or the peer is going: they wait */
    if (tso->messages_count == 0)
        tso->silent_since_ms = now_ms;
    uint64_t number = tso->first_number + tso->messages_count;
    tso->messages[tso->messages_count++] = (struct tso_message){.count = count};
    for (uint32_t i = 0; i < count; i++) {
        struct txn_timestamp *request = first_of(&tso->waiting);
        place_of(request)->message = number;
        list_remove(&request->node);
        list_append(&tso->sent, &request->node);
    }
}

static void tso_expire(struct pd_tso *tso, uint64_t now_ms)
{
    struct heap_node *first;
    while ((first = heap_first(&tso->due)) != NULL && first->key <= now_ms) {
        struct txn_timestamp *request = request_of(first);
        const char *trouble = tso->pd->trouble;
        uint64_t index = place_of(request)->message - tso->first_number;
        if (index < tso->messages_count)
            tso->messages[index].given_up++;
        if (request->deadline_ms == GIVEN_UP)
            tso_end(tso, request, KVS_ERR_CANCELLED, "cancelled");
        else
            tso_end(tso, request, KVS_ERR_TIMEOUT,
                    trouble[0] != '\0' ? trouble : "PD does not answer");
    }
}

/* Its connection lives, but it says nothing: maybe another one leads. */
static void tso_give_up_stream(struct pd_tso *tso)
{
    grpc_call_cancel(tso->stream.call);
    tso->stream.call = NULL;
    tso_ask_again(tso);
    pd_client_on_refused(tso->pd, "PD does not answer questions for the time");
}

void pd_tso_run(struct pd_tso *tso, uint64_t now_ms)
{
    tso_expire(tso, now_ms);
    if (tso->messages_count > 0 && now_ms >= tso->silent_since_ms + PD_TSO_SILENCE_MS) {
        tso_give_up_stream(tso);
        return; /* the search for the leader begins in this turn */
    }
    if (tso->pd->state == PD_READY && !list_empty(&tso->waiting) &&
        tso->messages_count < PD_TSO_MESSAGES_MAX)
        tso_send(tso, now_ms);
}

uint64_t pd_tso_timer(const struct pd_tso *tso)
{
    const struct heap_node *first = heap_first(&tso->due);
    uint64_t due_ms =
        tso->messages_count > 0 ? tso->silent_since_ms + PD_TSO_SILENCE_MS : UINT64_MAX;
    return first != NULL && first->key < due_ms ? first->key : due_ms;
}

/* --- life ---------------------------------------------------------------------------------------
 */

void pd_tso_init(struct pd_tso *tso, struct pd_client *pd)
{
    tso->pd = pd;
    tso->first_number = 1;
    list_init(&tso->waiting);
    list_init(&tso->sent);
}

static void ask_without_memory(struct task *task)
{
    struct txn_timestamp *request = CONTAINER_OF(task, struct txn_timestamp, task);
    request->done(request, KVS_ERR_NO_MEMORY, "no memory to ask for the time");
}

void pd_tso_ask(struct pd_tso *tso, struct txn_timestamp *request)
{
    *place_of(request) = (struct tso_place){0};
    if (heap_push(&tso->due, &place_of(request)->due, request->deadline_ms) == 0) {
        list_append(&tso->waiting, &request->node);
        return;
    }
    request->task.run = ask_without_memory;
    loop_post(tso->pd->loop, &request->task);
}

void pd_tso_give_up(struct pd_tso *tso, struct txn_timestamp *request)
{
    struct heap_node *due = &place_of(request)->due;
    if (due->place == 0) /* it has ended, or is about to */
        return;
    request->deadline_ms = GIVEN_UP;
    heap_remove(&tso->due, due);
    (void)heap_push(&tso->due, due, GIVEN_UP); /* has room: it was inside */
}

void pd_tso_deinit(struct pd_tso *tso)
{
    assert(list_empty(&tso->waiting) && list_empty(&tso->sent));
    heap_deinit(&tso->due);
    buf_deinit(&tso->message);
}

/* client/tikv/pd_tso.c: see client/tikv/pd_tso.h. */
#include "client/tikv/pd_tso.h"

#include "client/tikv/cluster_parts.h"

#include <assert.h>
#include <kvs/error.h>

#define COUNT_MAX 65536u

static uint64_t *deadline_of(struct txn_timestamp *request)
{
    return (uint64_t *)(void *)&request->reserved[0];
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
    tso->messages = 0;
    tso->given_up = 0;
}

static void tso_on_end(struct channel_stream *stream, const struct unary_result *result)
{
    struct pd_tso *tso = CONTAINER_OF(stream, struct pd_tso, stream);
    tso_ask_again(tso);
    /* A stream that ends on a connection that stands: whom we asked does not lead (any more). */
    pd_client_on_refused(tso->pd, result->message);
}

/* Hands out `count` timestamps, of which `last` is the last. */
static void tso_give(struct pd_tso *tso, uint32_t count, uint64_t last)
{
    uint32_t given_up = tso->given_up < count ? tso->given_up : count;
    tso->given_up -= given_up;
    for (uint32_t i = given_up; i < count; i++) {
        struct txn_timestamp *request = first_of(&tso->sent);
        list_remove(&request->node);
        request->ts = last - (count - 1) + i;
        request->done(request, 0, "");
    }
}

static bool tso_take(struct pd_tso *tso, kvs_slice message)
{
    Pdpb__TsoResponse *response = pdpb__tso_response__unpack(NULL, message.size, message.data);
    if (response == NULL)
        return false;
    bool has_error = response->header != NULL && response->header->error != NULL;
    bool good = !has_error && response->timestamp != NULL && tso->messages > 0 &&
                response->count == tso->counts[0] && response->timestamp->physical > 0 &&
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
    uint32_t count = tso->counts[0];
    tso->silent_since_ms = loop_now_ms(tso->pd->loop);
    tso->messages--;
    for (unsigned i = 0; i < tso->messages; i++)
        tso->counts[i] = tso->counts[i + 1];
    tso_give(tso, count, last);
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
    if (tso->messages == 0)
        tso->silent_since_ms = now_ms;
    tso->counts[tso->messages++] = count;
    for (uint32_t i = 0; i < count; i++) {
        struct txn_timestamp *request = first_of(&tso->waiting);
        list_remove(&request->node);
        request->sent = true;
        list_append(&tso->sent, &request->node);
    }
}

/* The number of those whose time is over. */
static uint32_t tso_expire(struct pd_tso *tso, struct list *list, uint64_t now_ms)
{
    struct txn_timestamp *request;
    uint32_t count = 0;
    for (; (request = first_of(list)) != NULL && *deadline_of(request) <= now_ms; count++) {
        const char *trouble = tso->pd->trouble;
        list_remove(&request->node);
        request->done(request, KVS_ERR_TIMEOUT,
                      trouble[0] != '\0' ? trouble : "PD does not answer");
    }
    return count;
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
    tso->given_up += tso_expire(tso, &tso->sent, now_ms);
    tso_expire(tso, &tso->waiting, now_ms);
    if (tso->messages > 0 && now_ms >= tso->silent_since_ms + PD_TSO_SILENCE_MS) {
        tso_give_up_stream(tso);
        return; /* the search for the leader begins in this turn */
    }
    if (tso->pd->state == PD_READY && !list_empty(&tso->waiting) &&
        tso->messages < PD_TSO_MESSAGES_MAX)
        tso_send(tso, now_ms);
}

uint64_t pd_tso_timer(const struct pd_tso *tso)
{
    const struct list *lists[] = {&tso->sent, &tso->waiting};
    uint64_t due_ms = tso->messages > 0 ? tso->silent_since_ms + PD_TSO_SILENCE_MS : UINT64_MAX;
    for (unsigned i = 0; i < 2; i++) {
        struct txn_timestamp *request = first_of(lists[i]);
        if (request != NULL && *deadline_of(request) < due_ms)
            due_ms = *deadline_of(request);
    }
    return due_ms;
}

/* --- life ---------------------------------------------------------------------------------------
 */

void pd_tso_init(struct pd_tso *tso, struct pd_client *pd, uint32_t timeout_ms)
{
    tso->pd = pd;
    tso->timeout_ms = timeout_ms;
    list_init(&tso->waiting);
    list_init(&tso->sent);
}

void pd_tso_ask(struct pd_tso *tso, struct txn_timestamp *request)
{
    *deadline_of(request) = loop_now_ms(tso->pd->loop) + tso->timeout_ms;
    list_append(&tso->waiting, &request->node);
}

void pd_tso_deinit(struct pd_tso *tso)
{
    assert(list_empty(&tso->waiting) && list_empty(&tso->sent));
    buf_deinit(&tso->message);
}

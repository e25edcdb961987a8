/* client/tikv/pd_client.c: see client/tikv/pd_client.h for the states. */
#include "client/tikv/pd_client.h"

#include "base/mem.h"

#include <assert.h>
#include <kvs/error.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void pd_search_next(struct pd_client *pd);
static void pd_wait(struct pd_client *pd);

void pd_client_init(struct pd_client *pd, struct loop *loop, kvs_thread_pool *pool,
                    struct tls_context *tls_context, uint32_t connect_timeout_ms,
                    const struct pd_events *events)
{
    pd->events = events;
    pd->loop = loop;
    pd->pool = pool;
    pd->tls_context = tls_context;
    pd->connect_timeout_ms = connect_timeout_ms;
    pd->rand = rand_seed(uv_hrtime() ^ (uintptr_t)pd);
    list_init(&pd->waiting);
    list_init(&pd->sent);
}

static void pd_tell_first(struct pd_client *pd, int error, const char *why)
{
    if (pd->first_told)
        return;
    pd->first_told = true;
    pd->events->on_first(pd, error, why);
}

/* What this search has met, one address after the other. */
__attribute__((format(printf, 3, 4))) static void pd_note(struct pd_client *pd, int error,
                                                          const char *format, ...)
{
    size_t used = pd->noting ? strlen(pd->trouble) : 0;
    va_list args;
    pd->noting = true;
    va_start(args, format);
    if (used > 0 && used + 3 < sizeof pd->trouble)
        used += (size_t)snprintf(pd->trouble + used, sizeof pd->trouble - used, "; ");
    if (used < sizeof pd->trouble)
        vsnprintf(pd->trouble + used, sizeof pd->trouble - used, format, args);
    va_end(args);
    pd->trouble_error = error;
}

/* --- requests -----------------------------------------------------------------------------------
 */

void pd_request_deinit(struct pd_request *request)
{
    buf_deinit(&request->body);
    unary_deinit(&request->unary);
}

void pd_request_cancel(struct pd_request *request)
{
    if (request->pd == NULL)
        return;
    if (request->unary.channel != NULL)
        unary_cancel(&request->unary);
    list_remove(&request->node);
    request->pd = NULL;
    pd_request_deinit(request);
}

static void request_end(struct pd_request *request, int error, kvs_slice reply, const char *why)
{
    list_remove(&request->node);
    request->pd = NULL;
    request->done(request, error, reply, why);
}

/* PD answers "not leader" as UNAVAILABLE; everything else that is not the request's own fault is
 * cured by looking for the leader anew, too. */
static bool is_final(int code)
{
    return code == GRPC_UNIMPLEMENTED || code == GRPC_INVALID_ARGUMENT ||
           code == GRPC_FAILED_PRECONDITION || code == GRPC_PERMISSION_DENIED ||
           code == GRPC_UNAUTHENTICATED;
}

static int error_of_code(int code)
{
    return code == GRPC_UNIMPLEMENTED ? KVS_ERR_UNSUPPORTED
           : code == GRPC_PERMISSION_DENIED || code == GRPC_UNAUTHENTICATED
               ? KVS_ERR_PERMISSION
               : KVS_ERR_INVALID_ARGUMENT;
}

static void pd_lose_leader(struct pd_client *pd, int error, const char *why)
{
    if (pd->state != PD_READY && pd->state != PD_CONNECTING)
        return;
    pd->noting = false;
    pd_note(pd, error, "%s", why);
    pd_members_forget_leader(&pd->members);
    pd_wait(pd);
}

static void request_on_done(struct unary *unary, const struct unary_result *result)
{
    struct pd_request *request = CONTAINER_OF(unary, struct pd_request, unary);
    struct pd_client *pd = request->pd;
    unary->channel = NULL;
    if (result->code == GRPC_OK) {
        pd->failures = 0;
        request_end(request, 0, result->reply, "");
    } else if (is_final(result->code)) {
        request_end(request, error_of_code(result->code), slice_make(NULL, 0), result->message);
    } else {
        list_remove(&request->node);
        list_append(&pd->waiting, &request->node);
        pd_lose_leader(pd, KVS_ERR_CONNECT, result->message);
    }
}

static int request_start(struct pd_client *pd, struct pd_request *request)
{
    struct unary *unary = &request->unary;
    buf_clear(&unary->request);
    buf_clear(&unary->reply);
    int error = buf_append_slice(&unary->request, buf_slice(&request->body));
    if (error != 0)
        return error;
    unary->path = request->path;
    unary->deadline_ms = loop_now_ms(pd->loop) + PD_ATTEMPT_TIMEOUT_MS;
    unary->done = request_on_done;
    list_remove(&request->node);
    list_append(&pd->sent, &request->node);
    channel_unary(&pd->channel->channel, unary);
    return 0;
}

void pd_request_send(struct pd_client *pd, struct pd_request *request)
{
    request->pd = pd;
    list_init(&request->node);
    list_append(&pd->waiting, &request->node); /* the end of the turn sends it */
}

static void pd_send_waiting(struct pd_client *pd)
{
    struct list waiting;
    list_init(&waiting);
    list_move(&waiting, &pd->waiting);
    struct list *node;
    while ((node = list_pop(&waiting)) != NULL) {
        struct pd_request *request = list_entry(node, struct pd_request, node);
        if (request_start(pd, request) != 0)
            request_end(request, KVS_ERR_NO_MEMORY, slice_make(NULL, 0), "no memory for a call");
    }
}

/* --- channels -----------------------------------------------------------------------------------
 */

static struct pd_client *pd_of_channel(struct channel *channel)
{
    return ((struct pd_channel *)channel->owner)->pd;
}

static bool is_current(const struct pd_client *pd, const struct channel *channel)
{
    return pd->channel != NULL && &pd->channel->channel == channel;
}

static void pd_drop_channel(struct pd_client *pd)
{
    struct pd_channel *channel = pd->channel;
    pd->channel = NULL;
    if (pd->asking) {
        unary_cancel(&pd->ask);
        pd->asking = false;
    }
    if (channel != NULL)
        channel_close(&channel->channel); /* requests in it wait again */
}

static void pd_on_ready(struct channel *channel)
{
    struct pd_client *pd = pd_of_channel(channel);
    if (!is_current(pd, channel) || pd->state != PD_CONNECTING)
        return;
    pd->state = PD_READY;
    pd->trouble[0] = '\0';
    pd_tell_first(pd, 0, "");
}

static void pd_on_going(struct channel *channel)
{
    struct pd_client *pd = pd_of_channel(channel);
    if (!is_current(pd, channel))
        return;
    if (pd->state == PD_SEARCHING) {
        pd_note(pd, KVS_ERR_CONNECT, "%s: is going down", channel->link.name);
        pd_search_next(pd);
    } else {
        pd_lose_leader(pd, KVS_ERR_CONNECT, "PD's leader is going down");
    }
}

static void pd_on_lost(struct channel *channel, int error, const char *why)
{
    struct pd_client *pd = pd_of_channel(channel);
    if (!is_current(pd, channel))
        return;
    const char *hint = error == KVS_ERR_PROTOCOL ? "; is this the address of PD?" : "";
    if (pd->state == PD_SEARCHING) {
        pd_note(pd, error, "%s%s", why, hint);
        pd_search_next(pd);
    } else {
        pd_lose_leader(pd, error, why);
    }
}

static void pd_on_channel_closed(struct channel *channel)
{
    struct pd_channel *pd_channel = channel->owner;
    struct pd_client *pd = pd_channel->pd;
    mem_free(pd_channel);
    pd->channels--;
    if (pd->state == PD_CLOSED && pd->channels == 0)
        pd->events->on_closed(pd);
}

static const struct channel_events pd_channel_events = {
    .on_ready = pd_on_ready,
    .on_going = pd_on_going,
    .on_lost = pd_on_lost,
    .on_closed = pd_on_channel_closed,
};

static int pd_open_channel(struct pd_client *pd, int index)
{
    struct pd_channel *channel = mem_zalloc(sizeof *channel);
    if (channel == NULL)
        return KVS_ERR_NO_MEMORY;
    const struct pd_address *address = &pd->members.addresses[index];
    channel->pd = pd;
    pd->channel = channel;
    pd->channel_index = index;
    pd->channels++;
    channel_open(&channel->channel, pd->loop, pd->pool, address->host, address->port,
                 pd->tls_context, pd->connect_timeout_ms, &pd_channel_events, channel);
    return 0;
}

/* --- the search ---------------------------------------------------------------------------------
 */

static void pd_wait(struct pd_client *pd)
{
    pd->state = PD_WAITING; /* first: requests that end with the channel ask for the state */
    pd_drop_channel(pd);
    uint64_t wait_ms = 0;
    if (pd->failures > 0) {
        wait_ms = pd->failures < 8 ? (uint64_t)PD_WAIT_MIN_MS << (pd->failures - 1) : UINT64_MAX;
        if (wait_ms > PD_WAIT_MAX_MS)
            wait_ms = PD_WAIT_MAX_MS;
        wait_ms = wait_ms / 2 + rand_below(&pd->rand, wait_ms / 2 + 1);
    }
    pd->failures++;
    pd->wait_until_ms = loop_now_ms(pd->loop) + wait_ms;
}

static void pd_connect_leader(struct pd_client *pd)
{
    int leader = pd->members.leader;
    pd->state = PD_CONNECTING;
    if (pd->channel != NULL && pd->channel_index == leader) {
        pd_on_ready(&pd->channel->channel); /* whom we asked is the leader */
        return;
    }
    pd_drop_channel(pd);
    if (pd_open_channel(pd, leader) != 0)
        pd_lose_leader(pd, KVS_ERR_NO_MEMORY, "no memory for a connection");
}

static int pd_take_members(struct pd_client *pd, const struct unary_result *result,
                           char why[LINK_NAME_SIZE + 256])
{
    const char *name = pd->channel->channel.link.name;
    if (result->code != GRPC_OK) {
        bool is_other = result->code == GRPC_UNIMPLEMENTED;
        snprintf(why, LINK_NAME_SIZE + 256, "%s%s", result->message,
                 is_other ? "; this is not PD, maybe a store of TiKV" : "");
        return is_other ? KVS_ERR_PROTOCOL : KVS_ERR_CONNECT;
    }
    Pdpb__GetMembersResponse *response =
        pdpb__get_members_response__unpack(NULL, result->reply.size, result->reply.data);
    int used = snprintf(why, LINK_NAME_SIZE + 256, "%s: ", name);
    if (response == NULL) {
        snprintf(why + used, 256, "an answer that cannot be read");
        return KVS_ERR_PROTOCOL;
    }
    int error = pd_members_take(&pd->members, response, why + used, 256);
    pdpb__get_members_response__free_unpacked(response, NULL);
    return error;
}

static void pd_on_members(struct unary *unary, const struct unary_result *result)
{
    struct pd_client *pd = CONTAINER_OF(unary, struct pd_client, ask);
    pd->asking = false;
    if (pd->channel == NULL || pd->channel->channel.dead)
        return; /* on_lost tells more */
    char why[LINK_NAME_SIZE + 256];
    int error = pd_take_members(pd, result, why);
    if (error == 0) {
        pd_connect_leader(pd);
    } else {
        pd_note(pd, error, "%s", why);
        pd_search_next(pd);
    }
}

/* Asks the next address; after the last one the search has failed. */
static void pd_search_next(struct pd_client *pd)
{
    pd_drop_channel(pd);
    int index = pd_members_next(&pd->members);
    if (index >= 0 && pd_open_channel(pd, index) != 0) {
        pd_note(pd, KVS_ERR_NO_MEMORY, "no memory for a connection");
        index = -1;
    }
    if (index < 0) {
        pd_wait(pd);
        pd_tell_first(pd, pd->trouble_error, pd->trouble);
        return;
    }
    pd->ask.path = slice_of_string("/pdpb.PD/GetMembers");
    pd->ask.deadline_ms = loop_now_ms(pd->loop) + pd->connect_timeout_ms + PD_ATTEMPT_TIMEOUT_MS;
    pd->ask.done = pd_on_members;
    buf_clear(&pd->ask.request); /* an empty message asks without a cluster id */
    buf_clear(&pd->ask.reply);
    pd->asking = true;
    channel_unary(&pd->channel->channel, &pd->ask);
}

static void pd_search(struct pd_client *pd)
{
    pd->state = PD_SEARCHING;
    pd->noting = false; /* what the last search met stands until there is something new */
    pd_members_round(&pd->members);
    pd_search_next(pd);
}

void pd_client_start(struct pd_client *pd)
{
    pd->failures = 1;
    pd_search(pd);
}

/* --- turns --------------------------------------------------------------------------------------
 */

void pd_client_on_refused(struct pd_client *pd, const char *why)
{
    if (pd->state != PD_READY)
        return;
    pd->refused = true;
    snprintf(pd->refused_why, sizeof pd->refused_why, "%s", why);
}

void pd_client_run(struct pd_client *pd, uint64_t now_ms)
{
    if (pd->refused) {
        pd->refused = false;
        pd_lose_leader(pd, KVS_ERR_CONNECT, pd->refused_why);
    }
    if (pd->state == PD_WAITING && now_ms >= pd->wait_until_ms)
        pd_search(pd);
    if (pd->state == PD_READY)
        pd_send_waiting(pd);
    if (pd->channel != NULL)
        channel_run(&pd->channel->channel, now_ms);
}

uint64_t pd_client_timer(const struct pd_client *pd)
{
    if (pd->state == PD_WAITING)
        return pd->wait_until_ms;
    if (pd->state == PD_READY && pd->waiting.next != &pd->waiting)
        return 0;
    return pd->channel != NULL ? channel_timer(&pd->channel->channel) : UINT64_MAX;
}

void pd_client_close(struct pd_client *pd)
{
    assert(list_empty(&pd->waiting) && list_empty(&pd->sent));
    pd->state = PD_CLOSED;
    pd->channels++; /* on_closed not inside this call alone: the count is given back below */
    pd_drop_channel(pd);
    unary_deinit(&pd->ask);
    if (--pd->channels == 0)
        pd->events->on_closed(pd);
}

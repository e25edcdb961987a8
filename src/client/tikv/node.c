/*
 * client/tikv/node.c: one store of TiKV: its address, its connection, and requests on it.
 *
 *   1. calls gather in node->calls during the turn;
 *   2. node_run: no address: PD is asked; no connection: one is opened; else all that can go into
 *      BatchCommands is written into messages of one stream, the rest leaves as calls of its own;
 *   3. answers on the stream are matched by the number of their slot.
 *
 * The number of a slot changes each time it is used, so an answer to a call that was given up finds
 * nobody. When the stream or the connection ends, each call sent on it is told; those still queued
 * wait for the next connection, but not for one that cannot be made.
 */
#include "client/tikv/cluster_parts.h"

#include "base/mem.h"
#include "proto/tikv/raw_request.h"

#include <assert.h>
#include <kvs/error.h>
#include <stdio.h>

#define SLOT_BITS 20u
#define SLOTS_MAX (1u << SLOT_BITS)
#define SLOT_NONE UINT32_MAX

struct slot {
    struct cluster_call *call; /* NULL: free */
    uint32_t use;              /* how often it was taken */
    uint32_t next_free;
};

struct node_channel {
    struct channel channel;
    struct list at; /* of all of the cluster's */
    struct tikv_node *node;
    struct channel_stream stream;
    struct slot *slots;
    uint32_t slots_count;
    uint32_t slots_free; /* the first; SLOT_NONE: none */
    uint32_t slots_used;
};

struct node_unary {
    struct unary unary;
    struct cluster_call *call;
};

/* --- slots --------------------------------------------------------------------------------------
 */

static int slots_grow(struct node_channel *channel)
{
    uint32_t count = channel->slots_count > 0 ? channel->slots_count * 2 : 64;
    if (count > SLOTS_MAX)
        return KVS_ERR_BUSY;
    struct slot *slots = mem_realloc(channel->slots, count * sizeof slots[0]);
    if (slots == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = channel->slots_count; i < count; i++)
        slots[i] = (struct slot){.next_free = i + 1 < count ? i + 1 : SLOT_NONE};
    channel->slots_free = channel->slots_count;
    channel->slots = slots;
    channel->slots_count = count;
    return 0;
}

static int slot_take(struct node_channel *channel, struct cluster_call *call, uint64_t *ret_id)
{
    int error = channel->slots_free == SLOT_NONE ? slots_grow(channel) : 0;
    if (error != 0)
        return error;
    uint32_t index = channel->slots_free;
    struct slot *slot = &channel->slots[index];
    channel->slots_free = slot->next_free;
    channel->slots_used++;
    slot->call = call;
    slot->use++;
    call->channel = channel;
    call->slot = index;
    *ret_id = (uint64_t)slot->use << SLOT_BITS | index;
    return 0;
}

static void slot_give(struct node_channel *channel, uint32_t index)
{
    struct slot *slot = &channel->slots[index];
    slot->call->channel = NULL;
    slot->call = NULL;
    slot->next_free = channel->slots_free;
    channel->slots_free = index;
    channel->slots_used--;
}

static struct cluster_call *slot_find(const struct node_channel *channel, uint64_t id)
{
    uint64_t index = id & (SLOTS_MAX - 1);
    if (index >= channel->slots_count || channel->slots[index].use != id >> SLOT_BITS)
        return NULL;
    return channel->slots[index].call;
}

/* --- the end of a connection --------------------------------------------------------------------
 */

/* It takes no more calls; it ends when those under way have ended. */
static void node_detach(struct tikv_node *node, struct node_channel *channel)
{
    if (node->channel == channel)
        node->channel = NULL;
}

static void channel_close_when_idle(struct node_channel *channel)
{
    if (channel->channel.going && channel->slots_used == 0 && list_empty(&channel->channel.calls))
        channel_close(&channel->channel);
}

/* Every call on the stream has ended without an answer. */
static void stream_fail_calls(struct node_channel *channel, const struct unary_result *result)
{
    for (uint32_t i = 0; i < channel->slots_count && channel->slots_used > 0; i++) {
        struct cluster_call *call = channel->slots[i].call;
        if (call == NULL)
            continue;
        slot_give(channel, i);
        cluster_call_on_status(call, result);
    }
}

static void stream_on_end(struct channel_stream *stream, const struct unary_result *result)
{
    struct node_channel *channel = CONTAINER_OF(stream, struct node_channel, stream);
    struct unary_result meant = *result;
    if (result->code == GRPC_UNIMPLEMENTED) {
        channel->node->no_batch = true;
        meant.code = GRPC_UNAVAILABLE; /* for the calls: they go the other way */
        meant.not_processed = true;
    } else if (result->code == GRPC_OK) {
        meant.code = GRPC_UNAVAILABLE; /* the server has ended the stream, not the calls */
        meant.message = "the store ended the stream of commands";
    }
    stream_fail_calls(channel, &meant);
    channel_close_when_idle(channel);
}

static void node_on_lost(struct channel *base, int error, const char *why)
{
    struct node_channel *channel = base->owner;
    struct tikv_node *node = channel->node;
    bool was_current = node->channel == channel;
    node_detach(node, channel);
    tikv_cluster_count(node->cluster, COUNT_LOSSES, 1);
    if (!was_current)
        return;
    /* Nobody waits for a store that cannot be reached: there may be another one by now. */
    node_drop_address(node);
    struct list calls;
    list_init(&calls);
    list_move(&calls, &node->calls);
    struct list *at;
    while ((at = list_pop(&calls)) != NULL) {
        struct cluster_call *call = list_entry(at, struct cluster_call, node);
        cluster_call_on_no_store(call, BACKOFF_TIKV_RPC, error, why);
    }
}

static void node_on_ready(struct channel *base)
{
    (void)base; /* the end of the turn sends */
}

static void node_on_going(struct channel *base)
{
    struct node_channel *channel = base->owner;
    node_detach(channel->node, channel);
    channel_close_when_idle(channel);
}

static void node_on_channel_closed(struct channel *base)
{
    struct node_channel *channel = base->owner;
    struct tikv_cluster *cluster = channel->node->cluster;
    assert(channel->slots_used == 0);
    list_remove(&channel->at);
    mem_free(channel->slots);
    mem_free(channel);
    cluster_channel_gone(cluster);
}

/* --- answers ------------------------------------------------------------------------------------
 */

static void stream_on_message(struct channel_stream *stream, kvs_slice message)
{
    struct node_channel *channel = CONTAINER_OF(stream, struct node_channel, stream);
    struct raw_batch_reply batch;
    raw_batch_reply_begin(&batch, message);
    uint64_t id;
    kvs_slice body;
    uint32_t command;
    int more;
    while ((more = raw_batch_reply_next(&batch, &id, &body, &command)) > 0) {
        struct cluster_call *call = slot_find(channel, id);
        if (call == NULL)
            continue; /* given up */
        if (command != call->command) {
            more = KVS_ERR_PROTOCOL;
            break;
        }
        slot_give(channel, call->slot);
        call->methods->on_answer(call, body);
    }
    if (more < 0) {
        /* What follows cannot be trusted: the calls are told, the connection ends. */
        const struct unary_result result = {.code = GRPC_INTERNAL,
                                            .message = "the store sent what cannot be read"};
        node_detach(channel->node, channel);
        stream_fail_calls(channel, &result);
        channel_close(&channel->channel);
        return;
    }
    channel_close_when_idle(channel);
}

static void stream_on_writable(struct channel_stream *stream)
{
    (void)stream; /* the end of the turn sends */
}

static void unary_on_done(struct unary *unary, const struct unary_result *result)
{
    struct node_unary *node_unary = CONTAINER_OF(unary, struct node_unary, unary);
    struct cluster_call *call = node_unary->call;
    struct node_channel *channel = unary->channel->owner;
    call->unary = NULL;
    if (result->code == GRPC_OK)
        call->methods->on_answer(call, result->reply);
    else
        cluster_call_on_status(call, result);
    unary_deinit(unary);
    mem_free(node_unary);
    channel_close_when_idle(channel);
}

void node_forget_call(struct cluster_call *call)
{
    if (call->channel != NULL)
        slot_give(call->channel, call->slot);
    if (call->unary != NULL) {
        unary_cancel(&call->unary->unary);
        unary_deinit(&call->unary->unary);
        mem_free(call->unary);
        call->unary = NULL;
    }
}

/* --- sending ------------------------------------------------------------------------------------
 */

static struct cluster_call *node_next_call(struct tikv_node *node)
{
    struct list *at = list_pop(&node->calls);
    return at != NULL ? list_entry(at, struct cluster_call, node) : NULL;
}

static void node_send_unary(struct tikv_node *node, struct cluster_call *call, uint64_t now_ms)
{
    struct node_unary *unary = mem_zalloc(sizeof *unary);
    if (unary == NULL) {
        cluster_call_fail(call, KVS_ERR_NO_MEMORY, "no memory for a request");
        return;
    }
    if (cluster_call_write(call, &unary->unary.request, false, now_ms) != 0) {
        buf_deinit(&unary->unary.request);
        mem_free(unary);
        return;
    }
    unary->unary.path = call->path;
    unary->unary.deadline_ms = call->deadline_ms;
    unary->unary.done = unary_on_done;
    unary->call = call;
    call->unary = unary;
    call->state = CALL_SENT;
    tikv_cluster_count(node->cluster, COUNT_REQUESTS, 1);
    channel_unary(&node->channel->channel, &unary->unary);
}

/* What one message holds. */
struct outgoing {
    uint64_t ids[BATCH_MAX];
    unsigned count;
};

static void batch_add(struct tikv_node *node, struct outgoing *out, struct cluster_call *call,
                      uint64_t now_ms)
{
    struct tikv_cluster *cluster = node->cluster;
    size_t size_before = cluster->message.size;
    if (cluster_call_write(call, &cluster->message, true, now_ms) != 0)
        return;
    int error = slot_take(node->channel, call, &out->ids[out->count]);
    if (error != 0) {
        cluster->message.size = size_before;
        cluster_call_fail(call, error, "no memory for a request");
        return;
    }
    call->state = CALL_SENT;
    out->count++;
}

/* One message. Returns false when no further one should be sent now. */
static bool node_send_batch(struct tikv_node *node, uint64_t now_ms)
{
    struct node_channel *channel = node->channel;
    struct tikv_cluster *cluster = node->cluster;
    struct outgoing out = {.count = 0};
    struct cluster_call *call;
    buf_clear(&cluster->message);
    while (out.count < BATCH_MAX && cluster->message.size < BATCH_BYTES_MAX &&
           (call = node_next_call(node)) != NULL) {
        if (call->command != 0 && !call->alone)
            batch_add(node, &out, call, now_ms);
        else
            node_send_unary(node, call, now_ms);
    }
    if (out.count == 0)
        return !list_empty(&node->calls);
    int error = raw_batch_end(&cluster->message, out.ids, out.count);
    if (error == 0)
        error = grpc_call_send(channel->stream.call, buf_slice(&cluster->message));
    if (error != 0) { /* there was room: it is memory that is missing; the calls are told */
        node_detach(node, channel);
        channel_close(&channel->channel);
        return false;
    }
    tikv_cluster_count(cluster, COUNT_MESSAGES, 1);
    tikv_cluster_count(cluster, COUNT_REQUESTS, out.count);
    return !list_empty(&node->calls);
}

static bool stream_has_room(const struct node_channel *channel)
{
    return grpc_call_send_queued(channel->stream.call) < BATCH_BYTES_MAX;
}

static int node_start_stream(struct tikv_node *node)
{
    struct channel_stream *stream = &node->channel->stream;
    if (stream->call != NULL)
        return 0;
    stream->on_message = stream_on_message;
    stream->on_writable = stream_on_writable;
    stream->on_end = stream_on_end;
    return channel_stream_start(&node->channel->channel, stream,
                                slice_of_string("/tikvpb.Tikv/BatchCommands"));
}

static void node_send(struct tikv_node *node, uint64_t now_ms)
{
    struct cluster_call *call;
    if (node->no_batch) {
        while ((call = node_next_call(node)) != NULL)
            node_send_unary(node, call, now_ms);
        return;
    }
    if (node_start_stream(node) != 0)
        return; /* no memory, or the peer is going: the calls wait */
    while (stream_has_room(node->channel) && node_send_batch(node, now_ms))
        ;
}

/* --- the address --------------------------------------------------------------------------------
 */

void node_drop_address(struct tikv_node *node)
{
    node->has_address = false;
}

/* Takes the answer; a line for a person when it is of no use. */
static const char *node_take_store(struct tikv_node *node, kvs_slice reply)
{
    const char *why = NULL;
    Pdpb__GetStoreResponse *response =
        pdpb__get_store_response__unpack(NULL, reply.size, reply.data);
    const Metapb__Store *store = response != NULL ? response->store : NULL;
    if (store == NULL)
        why = "PD does not know the region's store";
    else if (store->state == METAPB__STORE_STATE__Tombstone)
        why = "the region's store is gone for good";
    else if (!pd_address_parse(store->address, strlen(store->address), &node->address))
        why = "PD's address of the region's store cannot be used";
    if (response != NULL)
        pdpb__get_store_response__free_unpacked(response, NULL);
    return why;
}

static void node_on_store(struct pd_request *request, int error, kvs_slice reply, const char *why)
{
    struct tikv_node *node = CONTAINER_OF(request, struct tikv_node, ask);
    node->asking = false;
    const char *useless = error == 0 ? node_take_store(node, reply) : why;
    pd_request_deinit(request);
    if (useless == NULL) {
        node->has_address = true;
        return;
    }
    struct list calls;
    list_init(&calls);
    list_move(&calls, &node->calls);
    struct list *at;
    while ((at = list_pop(&calls)) != NULL)
        cluster_call_on_no_store(list_entry(at, struct cluster_call, node), BACKOFF_REGION_MISS,
                                 error != 0 ? error : KVS_ERR_CONNECT, useless);
}

static void node_ask_address(struct tikv_node *node)
{
    Pdpb__RequestHeader header = PDPB__REQUEST_HEADER__INIT;
    Pdpb__GetStoreRequest message = PDPB__GET_STORE_REQUEST__INIT;
    header.cluster_id = node->cluster->pd.members.cluster_id;
    message.header = &header;
    message.store_id = node->id;
    node->ask = (struct pd_request){
        .path = slice_of_string("/pdpb.PD/GetStore"),
        .done = node_on_store,
    };
    if (pack_message(&node->ask.body, &message.base) != 0)
        return; /* tried again next turn */
    node->asking = true;
    pd_request_send(&node->cluster->pd, &node->ask);
}

static const struct channel_events node_channel_events = {
    .on_ready = node_on_ready,
    .on_going = node_on_going,
    .on_lost = node_on_lost,
    .on_closed = node_on_channel_closed,
};

static void node_connect(struct tikv_node *node)
{
    struct tikv_cluster *cluster = node->cluster;
    struct node_channel *channel = mem_zalloc(sizeof *channel);
    if (channel == NULL)
        return; /* tried again next turn */
    channel->node = node;
    channel->slots_free = SLOT_NONE;
    node->channel = channel;
    list_init(&channel->at);
    list_append(&cluster->channels, &channel->at);
    channel_open(&channel->channel, cluster->loop, cluster->pool, node->address.host,
                 node->address.port, cluster->tls_context, cluster->connect_timeout_ms,
                 &node_channel_events, channel);
}

void node_run(struct tikv_node *node, uint64_t now_ms)
{
    if (list_empty(&node->calls))
        return;
    if (node->channel != NULL && node->channel->channel.ready)
        node_send(node, now_ms);
    else if (node->channel == NULL && node->has_address)
        node_connect(node);
    else if (node->channel == NULL && !node->asking)
        node_ask_address(node);
}

/* --- all connections ----------------------------------------------------------------------------
 */

/* A channel that ends stays in the list until a later turn. */
void channels_run(struct tikv_cluster *cluster, uint64_t now_ms)
{
    for (struct list *at = cluster->channels.next; at != &cluster->channels; at = at->next)
        channel_run(&list_entry(at, struct node_channel, at)->channel, now_ms);
}

uint64_t channels_timer(const struct tikv_cluster *cluster)
{
    uint64_t due_ms = UINT64_MAX;
    for (struct list *at = cluster->channels.next; at != &cluster->channels; at = at->next) {
        uint64_t timer_ms = channel_timer(&list_entry(at, struct node_channel, at)->channel);
        if (timer_ms < due_ms)
            due_ms = timer_ms;
    }
    return due_ms;
}

void channels_close(struct tikv_cluster *cluster)
{
    for (struct list *at = cluster->channels.next; at != &cluster->channels; at = at->next)
        channel_close(&list_entry(at, struct node_channel, at)->channel);
}

/* --- life ---------------------------------------------------------------------------------------
 */

struct tikv_node *node_get(struct tikv_cluster *cluster, uint64_t id)
{
    for (struct tikv_node *node = cluster->nodes; node != NULL; node = node->next) {
        if (node->id == id)
            return node;
    }
    struct tikv_node *node = mem_zalloc(sizeof *node);
    if (node == NULL)
        return NULL;
    node->cluster = cluster;
    node->id = id;
    list_init(&node->calls);
    node->next = cluster->nodes;
    cluster->nodes = node;
    return node;
}

void node_close(struct tikv_node *node)
{
    if (node->asking)
        pd_request_cancel(&node->ask);
    node->asking = false;
    node->channel = NULL;
}

void tikv_cluster_each_node(const struct tikv_cluster *cluster,
                            void (*each)(void *arg, uint64_t id, const char *address,
                                         bool connected),
                            void *arg)
{
    for (const struct tikv_node *node = cluster->nodes; node != NULL; node = node->next) {
        char address[LINK_NAME_SIZE] = "";
        if (node->has_address)
            snprintf(address, sizeof address, "%s:%u", node->address.host, node->address.port);
        each(arg, node->id, address, node->channel != NULL && node->channel->channel.ready);
    }
}

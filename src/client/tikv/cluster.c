/* client/tikv/cluster.c: where requests go, and what becomes of those that fail; see
 * client/tikv/cluster.h. Connections are node.c's. */
#include "client/tikv/cluster_parts.h"

#include "base/mem.h"
#include "keyspacepb.pb-c.h"
#include "proto/tikv/key.h"

#include <assert.h>
#include <kvs/error.h>
#include <stdio.h>

/* Questions in a row for one request that did not find its region. */
#define LOOKUPS_IN_VAIN_MAX 3u
/* Times in a turn that requests are routed. */
#define ROUNDS_MAX 16u

struct region_lookup {
    struct list node;
    struct pd_request request;
    struct tikv_cluster *cluster;
    struct cluster_call *call; /* NULL: given up meanwhile; the answer is of use all the same */
};

/* --- keys ---------------------------------------------------------------------------------------
 */

/* The call's key as it stands in requests. Borrowed until the next call of this; data NULL: no
 * memory. */
static kvs_slice route_key(struct cluster_call *call)
{
    struct tikv_cluster *cluster = call->cluster;
    if (call->key_is_full || !cluster->is_v2)
        return call->key;
    buf_clear(&cluster->scratch);
    if (buf_append_slice(&cluster->scratch, tikv_cluster_prefix(cluster)) != 0 ||
        buf_append_slice(&cluster->scratch, call->key) != 0)
        return slice_make(NULL, 0);
    return buf_slice(&cluster->scratch);
}

/* The region cache knows regions by a key inside. */
static kvs_slice region_key(struct cluster_call *call, const struct region *region)
{
    return call->below && region != NULL ? region->start : route_key(call);
}

static struct region *find_region(struct cluster_call *call)
{
    struct tikv_cluster *cluster = call->cluster;
    uint64_t now_ms = loop_now_ms(cluster->loop);
    kvs_slice key = route_key(call);
    return call->below ? region_cache_find_below(&cluster->regions, key, now_ms)
                       : region_cache_find(&cluster->regions, key, now_ms);
}

/* --- the end of calls ---------------------------------------------------------------------------
 */

static void call_forget(struct cluster_call *call)
{
    struct tikv_cluster *cluster = call->cluster;
    if (call->lookup != NULL)
        call->lookup->call = NULL;
    call->lookup = NULL;
    node_forget_call(call);
    heap_remove(&cluster->timers, &call->timer);
    list_remove(&call->node);
    call->state = CALL_IDLE;
}

void cluster_call_fail(struct cluster_call *call, int error, const char *why)
{
    call_forget(call);
    call->methods->on_failed(call, error, why);
}

bool cluster_call_cancel(struct cluster_call *call)
{
    bool maybe_done = call->maybe_done || call->state == CALL_SENT;
    if (call->state != CALL_IDLE)
        call_forget(call);
    return maybe_done;
}

/* --- routing ------------------------------------------------------------------------------------
 */

static void call_arrive(struct cluster_call *call)
{
    list_append(&call->cluster->arrivals, &call->node);
    call->state = CALL_UNLOCATED;
}

void cluster_call_start(struct cluster_call *call)
{
    list_init(&call->node);
    call_arrive(call);
}

static void call_backoff(struct cluster_call *call, enum backoff_kind kind, uint64_t at_least_ms,
                         int error, const char *why)
{
    struct tikv_cluster *cluster = call->cluster;
    snprintf(call->message, MESSAGE_SIZE, "%s", why);
    tikv_cluster_count(cluster, COUNT_RETRIES, 1);
    int64_t wait_ms =
        cluster->closing ? -1 : backoff_next(&call->backoff, kind, &cluster->rand, at_least_ms);
    call_forget(call);
    if (wait_ms < 0) {
        cluster_call_fail(call, error, why);
        return;
    }
    if (heap_push(&cluster->timers, &call->timer, loop_now_ms(cluster->loop) + (uint64_t)wait_ms) !=
        0) {
        cluster_call_fail(call, KVS_ERR_NO_MEMORY, "no memory for a request");
        return;
    }
    call->state = CALL_BACKOFF;
}

static void call_go_to_store(struct cluster_call *call, uint64_t store_id)
{
    struct tikv_node *node = node_get(call->cluster, store_id);
    if (node == NULL) {
        cluster_call_fail(call, KVS_ERR_NO_MEMORY, "no memory for a store");
        return;
    }
    call->node_of_region = node;
    call->store_id = store_id;
    call->state = CALL_QUEUED;
    list_append(&node->calls, &call->node);
}

static void call_go_to(struct cluster_call *call, const struct region *region)
{
    const struct region_peer *peer = region_leader(region);
    call->region_id = region->id;
    call->conf_ver = region->conf_ver;
    call->version = region->version;
    call->peer_id = peer->id;
    call_go_to_store(call, peer->store_id);
}

static int lookup_start(struct cluster_call *call);

/* The call is in no list. False: it waits for a lookup of somebody else to end. */
static bool call_route(struct cluster_call *call)
{
    struct tikv_cluster *cluster = call->cluster;
    if (call->to_store != 0) {
        call_go_to_store(call, call->to_store);
        return true;
    }
    const struct region *region = find_region(call);
    if (region != NULL) {
        call_go_to(call, region);
        return true;
    }
    if (cluster->lookups_count >= LOOKUPS_MAX)
        return false;
    if (call->lookups >= LOOKUPS_IN_VAIN_MAX) {
        call->lookups = 0;
        call_backoff(call, BACKOFF_REGION_MISS, 0, KVS_ERR_BUSY,
                     "PD names no region that holds the key");
        return true;
    }
    if (lookup_start(call) != 0)
        cluster_call_fail(call, KVS_ERR_NO_MEMORY, "no memory for a question to PD");
    return true;
}

static void route_list(struct tikv_cluster *cluster, struct list *from)
{
    struct list calls;
    list_init(&calls);
    list_move(&calls, from);
    struct list *at;
    while ((at = list_pop(&calls)) != NULL) {
        struct cluster_call *call = list_entry(at, struct cluster_call, node);
        if (!call_route(call))
            list_append(&cluster->unlocated, &call->node);
    }
}

/* --- asking PD for regions ----------------------------------------------------------------------
 */

int pack_message(struct buf *body, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    int error = buf_reserve(body, size);
    if (error != 0)
        return error;
    body->size += protobuf_c_message_pack(message, body->data + body->size);
    return 0;
}

/* A bound as PD names it, for requests. `to` has room for bound.len bytes.
 */
static int bound_decode(const struct tikv_cluster *cluster, ProtobufCBinaryData bound, uint8_t *to,
                        kvs_slice *ret_key)
{
    *ret_key = slice_make(bound.data, bound.len);
    if (!cluster->bounds_are_encoded || bound.len == 0)
        return 0;
    size_t size;
    int error = key_decode(*ret_key, to, &size);
    if (error == 0)
        *ret_key = slice_make(to, size);
    return error;
}

static int insert_region(struct tikv_cluster *cluster, const Metapb__Region *from,
                         uint64_t leader_id)
{
    struct region_peer peers[REGION_PEERS_MAX];
    struct region_info info = {
        .id = from->id,
        .conf_ver = from->region_epoch != NULL ? from->region_epoch->conf_ver : 0,
        .version = from->region_epoch != NULL ? from->region_epoch->version : 0,
        .peers = peers,
        .leader_id = leader_id,
    };
    for (size_t i = 0; i < from->n_peers && info.peers_count < REGION_PEERS_MAX; i++) {
        const Metapb__Peer *peer = from->peers[i];
        bool votes = peer->role != METAPB__PEER_ROLE__Learner && !peer->is_witness;
        if (votes || peer->id == leader_id)
            peers[info.peers_count++] =
                (struct region_peer){.id = peer->id, .store_id = peer->store_id};
    }
    uint8_t *keys = mem_alloc(from->start_key.len + from->end_key.len + 1);
    if (keys == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = bound_decode(cluster, from->start_key, keys, &info.start);
    if (error == 0)
        error = bound_decode(cluster, from->end_key, keys + from->start_key.len, &info.end);
    if (error == 0)
        error = region_cache_insert(&cluster->regions, &info, loop_now_ms(cluster->loop));
    mem_free(keys);
    return error;
}

/* A line for a person when the answer is of no use. */
static const char *take_region(struct tikv_cluster *cluster, kvs_slice reply)
{
    Pdpb__GetRegionResponse *response =
        pdpb__get_region_response__unpack(NULL, reply.size, reply.data);
    if (response == NULL)
        return "PD sent what cannot be read";
    const char *why = NULL;
    if (response->region == NULL)
        why = "PD knows no region for the key";
    else if (insert_region(cluster, response->region,
                           response->leader != NULL ? response->leader->id : 0) != 0)
        why = "PD described a region that makes no sense";
    pdpb__get_region_response__free_unpacked(response, NULL);
    return why;
}

static void lookup_on_done(struct pd_request *request, int error, kvs_slice reply, const char *why)
{
    struct region_lookup *lookup = CONTAINER_OF(request, struct region_lookup, request);
    struct tikv_cluster *cluster = lookup->cluster;
    struct cluster_call *call = lookup->call;
    const char *useless = error == 0 ? take_region(cluster, reply) : why;
    cluster->lookups_count--;
    cluster->regions_changed = true;
    list_remove(&lookup->node);
    if (call != NULL) {
        call->lookup = NULL;
        call->lookups++;
        if (error != 0)
            cluster_call_fail(call, error, why);
        else if (useless != NULL)
            call_backoff(call, BACKOFF_REGION_MISS, 0, KVS_ERR_BUSY, useless);
        else
            call_arrive(call);
    }
    pd_request_deinit(&lookup->request);
    mem_free(lookup);
}

/* The upper end of everything, without a keyspace: no key of a store lies above it. */
static kvs_slice highest_key(void)
{
    static uint8_t key[KEY_SIZE_MAX];
    if (key[0] == 0)
        memset(key, 0xff, sizeof key);
    return slice_make(key, sizeof key);
}

/*
 * For the keys just below a bound PD is asked for the region of the bound itself. When that begins
 * exactly there, the one before is meant.
 */
static bool wants_previous(struct cluster_call *call, kvs_slice key)
{
    if (!call->below || key.size == 0)
        return false;
    struct tikv_cluster *cluster = call->cluster;
    const struct region *region =
        region_cache_find(&cluster->regions, key, loop_now_ms(cluster->loop));
    return region != NULL && slice_equal(region->start, key);
}

static int lookup_pack(struct cluster_call *call, struct pd_request *request)
{
    struct tikv_cluster *cluster = call->cluster;
    kvs_slice key = route_key(call);
    bool previous = wants_previous(call, key);
    if (call->below && key.size == 0)
        key = highest_key();
    struct buf encoded = BUF_INIT;
    Pdpb__RequestHeader header = PDPB__REQUEST_HEADER__INIT;
    Pdpb__GetRegionRequest message = PDPB__GET_REGION_REQUEST__INIT;
    header.cluster_id = cluster->pd.members.cluster_id;
    message.header = &header;
    if (cluster->bounds_are_encoded) {
        int error = buf_reserve(&encoded, key_encoded_size(key.size));
        if (error != 0)
            return error;
        key_encode(key, encoded.data);
        key = slice_make(encoded.data, key_encoded_size(key.size));
    }
    message.region_key = (ProtobufCBinaryData){.len = key.size, .data = (uint8_t *)key.data};
    request->path = slice_of_string(previous ? "/pdpb.PD/GetPrevRegion" : "/pdpb.PD/GetRegion");
    int error = pack_message(&request->body, &message.base);
    buf_deinit(&encoded);
    return error;
}

static int lookup_start(struct cluster_call *call)
{
    struct tikv_cluster *cluster = call->cluster;
    struct region_lookup *lookup = mem_zalloc(sizeof *lookup);
    if (lookup == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = lookup_pack(call, &lookup->request);
    if (error != 0) {
        mem_free(lookup);
        return error;
    }
    lookup->cluster = cluster;
    lookup->call = call;
    lookup->request.done = lookup_on_done;
    list_init(&lookup->node);
    list_append(&cluster->lookups, &lookup->node);
    cluster->lookups_count++;
    tikv_cluster_count(cluster, COUNT_LOOKUPS, 1);
    call->lookup = lookup;
    call->state = CALL_LOOKUP;
    pd_request_send(&cluster->pd, &lookup->request);
    return 0;
}

/* --- sending ------------------------------------------------------------------------------------
 */

/* The call is in no list: node.c sends it, or it has ended. */
int cluster_call_write(struct cluster_call *call, struct buf *message, bool as_command,
                       uint64_t now_ms)
{
    const struct region *region = call->to_store == 0 ? find_region(call) : NULL;
    if (call->to_store == 0 &&
        (region == NULL || region->id != call->region_id || region->version != call->version)) {
        call_arrive(call); /* the cache has learnt something since */
        return KVS_ERR_BUSY;
    }
    const struct call_place place = {
        .region = region,
        .max_execution_ms = call->deadline_ms > now_ms ? call->deadline_ms - now_ms : 1,
    };
    int error = call->methods->write(call, &place, message, as_command);
    if (error != 0) {
        char why[MESSAGE_SIZE] = "no memory for a request";
        if (error != KVS_ERR_NO_MEMORY) /* of who writes it, or why it is tried again */
            snprintf(why, sizeof why, "%s",
                     call->message[0] != '\0' ? call->message : kvs_error_text(error));
        cluster_call_fail(call, error, why); /* the call may be gone now */
        return error;
    }
    call->lookups = 0;
    return 0;
}

/* --- answers and failures -----------------------------------------------------------------------
 */

static void take_current_regions(struct tikv_cluster *cluster, const Errorpb__EpochNotMatch *error,
                                 uint64_t store_id)
{
    for (size_t i = 0; i < error->n_current_regions; i++) {
        const Metapb__Region *region = error->current_regions[i];
        uint64_t leader_id = 0; /* most likely the store that said so leads them all */
        for (size_t k = 0; k < region->n_peers; k++) {
            if (region->peers[k]->store_id == store_id)
                leader_id = region->peers[k]->id;
        }
        insert_region(cluster, region, leader_id); /* of no use: PD is asked */
    }
}

/* The call's own view of the region, not what the cache has learnt since. */
static void forget_region(struct cluster_call *call)
{
    const struct region *region = find_region(call);
    kvs_slice key = region_key(call, region);
    region_cache_drop(&call->cluster->regions, key, call->region_id, call->version);
}

static void call_learn(struct cluster_call *call, const struct retry_decision *decision,
                       const Errorpb__Error *error)
{
    struct tikv_cluster *cluster = call->cluster;
    if (call->to_store != 0) {
        if (decision->drop_store)
            node_drop_address(call->node_of_region);
        return;
    }
    kvs_slice key = region_key(call, find_region(call));
    bool drop = decision->drop_region;
    if (decision->take_leader) {
        const Metapb__Peer *leader = error->not_leader->leader;
        drop = !region_cache_set_leader(&cluster->regions, key, call->region_id, leader->id,
                                        leader->store_id);
    }
    if (decision->switch_peer)
        drop = !region_cache_switch_peer(&cluster->regions, key, call->region_id, call->store_id);
    if (decision->drop_store && call->node_of_region != NULL)
        node_drop_address(call->node_of_region);
    if (drop)
        forget_region(call);
    if (decision->take_regions)
        take_current_regions(cluster, error->epoch_not_match, call->store_id);
}

static void call_retry(struct cluster_call *call, const struct retry_decision *decision,
                       const char *why)
{
    if (decision->what == RETRY_NEVER) {
        cluster_call_fail(call, decision->error, why);
    } else if (decision->what == RETRY_AT_ONCE && call->backoff.at_once < RETRY_AT_ONCE_MAX) {
        call->backoff.at_once++;
        tikv_cluster_count(call->cluster, COUNT_RETRIES, 1);
        snprintf(call->message, MESSAGE_SIZE, "%.*s", (int)MESSAGE_SIZE - 1, why);
        call_forget(call);
        call_arrive(call);
    } else {
        call_backoff(call, decision->backoff, decision->at_least_ms, decision->error, why);
    }
}

const char *cluster_call_peer(const struct cluster_call *call, char name[LINK_NAME_SIZE])
{
    const struct pd_address *address = &call->node_of_region->address;
    snprintf(name, LINK_NAME_SIZE, "%s:%u", address->host, address->port);
    return name;
}

void cluster_call_on_region_error(struct cluster_call *call, kvs_slice bytes)
{
    char name[LINK_NAME_SIZE];
    char why[LINK_NAME_SIZE + 200];
    Errorpb__Error *error = errorpb__error__unpack(NULL, bytes.size, bytes.data);
    if (error == NULL) {
        snprintf(why, sizeof why, "%s: an error that cannot be read",
                 cluster_call_peer(call, name));
        cluster_call_fail(call, KVS_ERR_PROTOCOL, why);
        return;
    }
    struct retry_decision decision = retry_on_region_error(error);
    bool tells = error->message != NULL && error->message[0] != '\0';
    snprintf(why, sizeof why, "%s: %s%s%.100s", cluster_call_peer(call, name), decision.reason,
             tells ? ": " : "", tells ? error->message : "");
    tikv_cluster_count(call->cluster, COUNT_REGION_ERRORS, 1);
    if (decision.maybe_done && call->is_write)
        call->maybe_done = true;
    call_learn(call, &decision, error);
    errorpb__error__free_unpacked(error, NULL);
    call_retry(call, &decision, why);
}

void cluster_call_end(struct cluster_call *call)
{
    call_forget(call);
    call->message[0] = '\0';
}

/* An answer was too large for one message: first it gets a message of its own, then it is asked for
 * in smaller parts. */
static bool call_make_smaller(struct cluster_call *call)
{
    if (!call->alone) {
        call->alone = true;
        return true;
    }
    return call->methods->make_smaller != NULL && call->methods->make_smaller(call);
}

void cluster_call_on_status(struct cluster_call *call, const struct unary_result *result)
{
    struct retry_decision decision =
        retry_on_status(result->code, result->from_peer, result->not_processed);
    if (decision.maybe_done && call->is_write)
        call->maybe_done = true;
    /* Once done, a compare-and-set, say, finds its own value: doing it again would tell nothing. */
    if (call->once && call->maybe_done) {
        cluster_call_fail(call, KVS_ERR_OUTCOME_UNKNOWN, result->message);
        return;
    }
    if (result->code == GRPC_RESOURCE_EXHAUSTED && call_make_smaller(call)) {
        call_forget(call);
        call_arrive(call);
        return;
    }
    call_learn(call, &decision, NULL);
    call_retry(call, &decision, result->message);
}

void cluster_call_on_no_store(struct cluster_call *call, enum backoff_kind kind, int error,
                              const char *why)
{
    struct tikv_cluster *cluster = call->cluster;
    if (call->to_store == 0) {
        kvs_slice key = region_key(call, find_region(call));
        if (kind != BACKOFF_TIKV_RPC ||
            !region_cache_switch_peer(&cluster->regions, key, call->region_id, call->store_id))
            forget_region(call);
    }
    call_backoff(call, kind, 0, error, why);
}

/* --- turns --------------------------------------------------------------------------------------
 */

static void run_timers(struct tikv_cluster *cluster, uint64_t now_ms)
{
    struct heap_node *first;
    while ((first = heap_first(&cluster->timers)) != NULL &&
           (first->key <= now_ms || cluster->closing)) {
        struct cluster_call *call = CONTAINER_OF(first, struct cluster_call, timer);
        heap_remove(&cluster->timers, first);
        if (cluster->closing) {
            char why[MESSAGE_SIZE];
            snprintf(why, sizeof why, "%s", call->message);
            cluster_call_fail(call, KVS_ERR_CLOSED, why);
        } else {
            call_arrive(call);
        }
    }
}

void tikv_cluster_run(struct tikv_cluster *cluster, uint64_t now_ms)
{
    run_timers(cluster, now_ms);
    if (cluster->regions_changed) {
        cluster->regions_changed = false;
        route_list(cluster, &cluster->unlocated);
    }
    /* Requests over many regions leave a rest each time that they are cut. */
    unsigned rounds = 0;
    do {
        route_list(cluster, &cluster->arrivals);
        for (struct tikv_node *node = cluster->nodes; node != NULL; node = node->next)
            node_run(node, now_ms);
    } while (!list_empty(&cluster->arrivals) && ++rounds < ROUNDS_MAX);
    pd_client_run(&cluster->pd, now_ms);
    channels_run(cluster, now_ms);
}

uint64_t tikv_cluster_timer(const struct tikv_cluster *cluster)
{
    if (!list_empty(&cluster->arrivals) || cluster->regions_changed)
        return 0;
    uint64_t due_ms = pd_client_timer(&cluster->pd);
    uint64_t channels_ms = channels_timer(cluster);
    const struct heap_node *first = heap_first(&cluster->timers);
    if (channels_ms < due_ms)
        due_ms = channels_ms;
    return first != NULL && first->key < due_ms ? first->key : due_ms;
}

/* --- opening: PD, then the keyspace -------------------------------------------------------------
 */

static void cluster_tell_first(struct tikv_cluster *cluster, int error, const char *why)
{
    if (error == 0)
        cluster->usable = true;
    if (cluster->first_told)
        return;
    cluster->first_told = true;
    cluster->events->on_first(cluster, error, why);
}

static int take_keyspace(struct tikv_cluster *cluster, kvs_slice reply, char why[256])
{
    Keyspacepb__LoadKeyspaceResponse *response =
        keyspacepb__load_keyspace_response__unpack(NULL, reply.size, reply.data);
    int error = 0;
    if (response == NULL) {
        snprintf(why, 256, "PD sent what cannot be read");
        error = KVS_ERR_PROTOCOL;
    } else if (response->keyspace == NULL ||
               (response->header != NULL && response->header->error != NULL)) {
        snprintf(why, 256, "PD knows no keyspace \"%s\"", cluster->keyspace);
        error = KVS_ERR_INVALID_ARGUMENT;
    } else if (response->keyspace->id > KEYSPACE_ID_MAX) {
        snprintf(why, 256, "PD gave the keyspace \"%s\" a number that no key can bear",
                 cluster->keyspace);
        error = KVS_ERR_PROTOCOL;
    } else if (response->keyspace->state != KEYSPACEPB__KEYSPACE_STATE__ENABLED) {
        snprintf(why, 256, "the keyspace \"%s\" is not enabled", cluster->keyspace);
        error = KVS_ERR_INVALID_ARGUMENT;
    } else {
        cluster->keyspace_id = response->keyspace->id;
    }
    if (response != NULL)
        keyspacepb__load_keyspace_response__free_unpacked(response, NULL);
    return error;
}

static void cluster_on_keyspace(struct pd_request *request, int error, kvs_slice reply,
                                const char *why)
{
    struct tikv_cluster *cluster = CONTAINER_OF(request, struct tikv_cluster, keyspace_request);
    char text[256];
    snprintf(text, sizeof text, "%s", why);
    if (error == 0)
        error = take_keyspace(cluster, reply, text);
    if (error == 0) {
        cluster->is_v2 = true;
        cluster->bounds_are_encoded = true;
        key_prefix(cluster->key_mode, cluster->keyspace_id, cluster->prefix);
        /* What follows the keyspace's last key: the number of the next one, or the next mode. */
        uint32_t next = ((uint32_t)cluster->key_mode << 24 | cluster->keyspace_id) + 1;
        for (unsigned i = 0; i < 4; i++)
            cluster->prefix_end[i] = (uint8_t)(next >> (24 - 8 * i));
    }
    pd_request_deinit(request);
    cluster_tell_first(cluster, error, text);
}

static int cluster_ask_keyspace(struct tikv_cluster *cluster)
{
    Pdpb__RequestHeader header = PDPB__REQUEST_HEADER__INIT;
    Keyspacepb__LoadKeyspaceRequest message = KEYSPACEPB__LOAD_KEYSPACE_REQUEST__INIT;
    header.cluster_id = cluster->pd.members.cluster_id;
    message.header = &header;
    message.name = cluster->keyspace;
    cluster->keyspace_request.path = slice_of_string("/keyspacepb.Keyspace/LoadKeyspace");
    cluster->keyspace_request.done = cluster_on_keyspace;
    int error = pack_message(&cluster->keyspace_request.body, &message.base);
    if (error == 0)
        pd_request_send(&cluster->pd, &cluster->keyspace_request);
    return error;
}

static void cluster_on_pd_first(struct pd_client *pd, int error, const char *why)
{
    struct tikv_cluster *cluster = CONTAINER_OF(pd, struct tikv_cluster, pd);
    if (error == 0 && cluster->keyspace[0] != '\0') {
        error = cluster_ask_keyspace(cluster);
        why = "no memory for a question to PD";
        if (error == 0)
            return;
    }
    cluster_tell_first(cluster, error, why);
}

/* --- life ---------------------------------------------------------------------------------------
 */

static void cluster_check_closed(struct tikv_cluster *cluster)
{
    if (cluster->closing && cluster->pd_closed && list_empty(&cluster->channels))
        cluster->events->on_closed(cluster);
}

void cluster_channel_gone(struct tikv_cluster *cluster)
{
    cluster_check_closed(cluster);
}

static void cluster_on_pd_closed(struct pd_client *pd)
{
    struct tikv_cluster *cluster = CONTAINER_OF(pd, struct tikv_cluster, pd);
    cluster->pd_closed = true;
    cluster_check_closed(cluster);
}

static const struct pd_events cluster_pd_events = {
    .on_first = cluster_on_pd_first,
    .on_closed = cluster_on_pd_closed,
};

void tikv_cluster_init(struct tikv_cluster *cluster, struct loop *loop, kvs_thread_pool *pool,
                       struct tls_context *tls_context, uint32_t connect_timeout_ms,
                       const struct cluster_events *events)
{
    cluster->loop = loop;
    cluster->pool = pool;
    cluster->tls_context = tls_context;
    cluster->connect_timeout_ms = connect_timeout_ms;
    cluster->events = events;
    cluster->bounds_are_encoded = cluster->key_mode == KEY_MODE_TXN;
    cluster->rand = rand_seed(uv_hrtime() ^ (uintptr_t)cluster);
    list_init(&cluster->arrivals);
    list_init(&cluster->unlocated);
    list_init(&cluster->lookups);
    list_init(&cluster->channels);
    region_cache_init(&cluster->regions, rand_u64(&cluster->rand));
    pd_client_init(&cluster->pd, loop, pool, tls_context, connect_timeout_ms, &cluster_pd_events);
}

void tikv_cluster_start(struct tikv_cluster *cluster)
{
    pd_client_start(&cluster->pd);
}

void tikv_cluster_close(struct tikv_cluster *cluster)
{
    assert(list_empty(&cluster->arrivals) && list_empty(&cluster->unlocated));
    cluster->closing = true;
    struct list *at;
    while ((at = list_pop(&cluster->lookups)) != NULL) {
        struct region_lookup *lookup = list_entry(at, struct region_lookup, node);
        assert(lookup->call == NULL);
        pd_request_cancel(&lookup->request);
        mem_free(lookup);
    }
    cluster->lookups_count = 0;
    pd_request_cancel(&cluster->keyspace_request);
    for (struct tikv_node *node = cluster->nodes; node != NULL; node = node->next)
        node_close(node);
    channels_close(cluster);
    pd_client_close(&cluster->pd);
}

void tikv_cluster_deinit(struct tikv_cluster *cluster)
{
    while (cluster->nodes != NULL) {
        struct tikv_node *node = cluster->nodes;
        cluster->nodes = node->next;
        assert(list_empty(&node->calls));
        mem_free(node);
    }
    region_cache_deinit(&cluster->regions);
    heap_deinit(&cluster->timers);
    buf_deinit(&cluster->scratch);
    buf_deinit(&cluster->message);
}

/* server/pd_regions.c: where keys are, and splitting; see pd_service.h. */
#include "server/pd_parts.h"

#include "pd/region_message.h"

#include <stdlib.h>

#define PERCENT_ALL 100u

/* --- one region --- */

static void answer_region(struct rpc *rpc, const struct region *region)
{
    Pdpb__ResponseHeader header;
    struct region_message message;
    Pdpb__GetRegionResponse response = PDPB__GET_REGION_RESPONSE__INIT;
    response.header = pd_header(rpc, &header);
    if (region != NULL) {
        region_message_fill(&message, region);
        response.region = &message.region;
        response.leader = &message.peer;
    }
    rpc_reply_message(rpc, &response.base);
}

void pd_get_region(struct rpc *rpc, kvs_slice message)
{
    Pdpb__GetRegionRequest *request =
        rpc_unpack(rpc, &pdpb__get_region_request__descriptor, message);
    if (request != NULL && pd_check_header(rpc, request->header))
        answer_region(rpc, region_find(pd_regions(rpc), pd_slice(request->region_key)));
}

void pd_get_prev_region(struct rpc *rpc, kvs_slice message)
{
    Pdpb__GetRegionRequest *request =
        rpc_unpack(rpc, &pdpb__get_region_request__descriptor, message);
    if (request != NULL && pd_check_header(rpc, request->header))
        answer_region(rpc, region_find_before(pd_regions(rpc), pd_slice(request->region_key)));
}

void pd_get_region_by_id(struct rpc *rpc, kvs_slice message)
{
    Pdpb__GetRegionByIDRequest *request =
        rpc_unpack(rpc, &pdpb__get_region_by_idrequest__descriptor, message);
    if (request != NULL && pd_check_header(rpc, request->header))
        answer_region(rpc, region_by_id(pd_regions(rpc), request->region_id));
}

/* --- many by key and id: QueryRegion --- */

static int order_by_id(const void *a, const void *b)
{
    const struct region *const *left = a;
    const struct region *const *right = b;
    return ((*left)->id > (*right)->id) - ((*left)->id < (*right)->id);
}

struct query_region {
    Pdpb__QueryRegionResponse__RegionById entry;
    Pdpb__RegionResponse value;
    struct region_message message;
};

/* Each of `found` once. False: no memory. */
static bool fill_by_id(struct rpc *rpc, Pdpb__QueryRegionResponse *response,
                       const struct region **found, size_t count)
{
    qsort(found, count, sizeof *found, order_by_id);
    size_t distinct = 0;
    for (size_t i = 0; i < count; i++) {
        if (distinct == 0 || found[distinct - 1] != found[i])
            found[distinct++] = found[i];
    }
    struct query_region *all = rpc_alloc(rpc, distinct * sizeof *all);
    response->regions_by_id = rpc_alloc(rpc, distinct * sizeof *response->regions_by_id);
    if (all == NULL || response->regions_by_id == NULL)
        return false;
    for (size_t i = 0; i < distinct; i++) {
        struct query_region *one = &all[i];
        region_message_fill(&one->message, found[i]);
        pdpb__region_response__init(&one->value);
        one->value.region = &one->message.region;
        one->value.leader = &one->message.peer;
        pdpb__query_region_response__region_by_id__init(&one->entry);
        one->entry.key = found[i]->id;
        one->entry.value = &one->value;
        response->regions_by_id[i] = &one->entry;
    }
    response->n_regions_by_id = distinct;
    return true;
}

/* False: no memory. */
static bool fill_query(struct rpc *rpc, const Pdpb__QueryRegionRequest *request,
                       Pdpb__QueryRegionResponse *response)
{
    const struct region_list *list = pd_regions(rpc);
    size_t asked = request->n_ids + request->n_keys + request->n_prev_keys;
    const struct region **found = rpc_alloc(rpc, asked * sizeof *found);
    response->key_id_map = rpc_alloc(rpc, request->n_keys * sizeof(uint64_t));
    response->prev_key_id_map = rpc_alloc(rpc, request->n_prev_keys * sizeof(uint64_t));
    if (found == NULL || response->key_id_map == NULL || response->prev_key_id_map == NULL)
        return false;
    size_t count = 0;
    for (size_t i = 0; i < request->n_keys; i++) {
        const struct region *region = region_find(list, pd_slice(request->keys[i]));
        response->key_id_map[response->n_key_id_map++] = region->id;
        found[count++] = region;
    }
    for (size_t i = 0; i < request->n_prev_keys; i++) {
        const struct region *region = region_find_before(list, pd_slice(request->prev_keys[i]));
        response->prev_key_id_map[response->n_prev_key_id_map++] = region != NULL ? region->id : 0;
        if (region != NULL)
            found[count++] = region;
    }
    for (size_t i = 0; i < request->n_ids; i++) {
        const struct region *region = region_by_id(list, request->ids[i]);
        if (region != NULL)
            found[count++] = region;
    }
    return fill_by_id(rpc, response, found, count);
}

void pd_query_region(struct rpc *rpc, kvs_slice message)
{
    Pdpb__QueryRegionRequest *request =
        rpc_unpack(rpc, &pdpb__query_region_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    Pdpb__ResponseHeader header;
    Pdpb__QueryRegionResponse response = PDPB__QUERY_REGION_RESPONSE__INIT;
    response.header = pd_header(rpc, &header);
    if (fill_query(rpc, request, &response))
        rpc_send_message(rpc, &response.base);
    else
        pd_fail(rpc, KVS_ERR_NO_MEMORY);
}

/* --- ranges --- */

struct listed_region {
    Pdpb__Region region;
    struct region_message message;
};

/* A growing list of regions for an answer. */
struct listing {
    struct rpc *rpc;
    Pdpb__Region **regions;
    size_t count, capacity;
    size_t limit;
    const struct region *last;
    bool no_memory;
};

static bool listing_grow(struct listing *listing)
{
    size_t capacity = listing->capacity == 0 ? 64 : listing->capacity * 2;
    Pdpb__Region **grown = rpc_alloc(listing->rpc, capacity * sizeof *grown);
    if (grown == NULL)
        return false;
    if (listing->count > 0)
        memcpy(grown, listing->regions, listing->count * sizeof *grown);
    listing->regions = grown;
    listing->capacity = capacity;
    return true;
}

static void listing_add(struct listing *listing, const struct region *region)
{
    struct listed_region *one = rpc_alloc(listing->rpc, sizeof *one);
    if (one == NULL || (listing->count == listing->capacity && !listing_grow(listing))) {
        listing->no_memory = true;
        return;
    }
    region_message_fill(&one->message, region);
    pdpb__region__init(&one->region);
    one->region.region = &one->message.region;
    one->region.leader = &one->message.peer;
    listing->regions[listing->count++] = &one->region;
    listing->last = region;
}

/* Those that have a key of the range; one that the range before had, too, is not told again. */
static void listing_add_range(struct listing *listing, kvs_slice start, kvs_slice end)
{
    const struct region_list *list = pd_regions(listing->rpc);
    size_t i = region_list_index(list, start);
    for (; i < list->count && listing->count < listing->limit && !listing->no_memory; i++) {
        const struct region *region = list->by_key[i];
        if (end.size > 0 && slice_compare(region->start, end) >= 0)
            return;
        if (region != listing->last)
            listing_add(listing, region);
    }
}

static size_t limit_of(int32_t limit)
{
    return limit > 0 ? (size_t)limit : SIZE_MAX;
}

void pd_scan_regions(struct rpc *rpc, kvs_slice message)
{
    Pdpb__ScanRegionsRequest *request =
        rpc_unpack(rpc, &pdpb__scan_regions_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    struct listing listing = {.rpc = rpc, .limit = limit_of(request->limit)};
    listing_add_range(&listing, pd_slice(request->start_key), pd_slice(request->end_key));
    Metapb__Region **metas = rpc_alloc(rpc, listing.count * sizeof *metas);
    Metapb__Peer **leaders = rpc_alloc(rpc, listing.count * sizeof *leaders);
    if (listing.no_memory || metas == NULL || leaders == NULL) {
        pd_fail(rpc, KVS_ERR_NO_MEMORY);
        return;
    }
    for (size_t i = 0; i < listing.count; i++) {
        metas[i] = listing.regions[i]->region;
        leaders[i] = listing.regions[i]->leader;
    }
    Pdpb__ResponseHeader header;
    Pdpb__ScanRegionsResponse response = PDPB__SCAN_REGIONS_RESPONSE__INIT;
    response.header = pd_header(rpc, &header);
    response.n_region_metas = response.n_leaders = response.n_regions = listing.count;
    response.region_metas = metas;
    response.leaders = leaders;
    response.regions = listing.regions;
    rpc_reply_message(rpc, &response.base);
}

/* Ascending, each before the next begins. */
static bool ranges_are_sorted(const Pdpb__BatchScanRegionsRequest *request)
{
    for (size_t i = 0; i < request->n_ranges; i++) {
        kvs_slice start = pd_slice(request->ranges[i]->start_key);
        kvs_slice end = pd_slice(request->ranges[i]->end_key);
        if (end.size > 0 && slice_compare(start, end) > 0)
            return false;
        if (i + 1 < request->n_ranges &&
            (end.size == 0 || slice_compare(end, pd_slice(request->ranges[i + 1]->start_key)) > 0))
            return false;
    }
    return true;
}

void pd_batch_scan_regions(struct rpc *rpc, kvs_slice message)
{
    Pdpb__BatchScanRegionsRequest *request =
        rpc_unpack(rpc, &pdpb__batch_scan_regions_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    if (!ranges_are_sorted(request)) {
        rpc_fail(rpc, GRPC_INVALID_ARGUMENT, "the ranges are not sorted, or overlap");
        return;
    }
    struct listing listing = {.rpc = rpc, .limit = limit_of(request->limit)};
    for (size_t i = 0; i < request->n_ranges && listing.count < listing.limit; i++)
        listing_add_range(&listing, pd_slice(request->ranges[i]->start_key),
                          pd_slice(request->ranges[i]->end_key));
    if (listing.no_memory) {
        pd_fail(rpc, KVS_ERR_NO_MEMORY);
        return;
    }
    Pdpb__ResponseHeader header;
    Pdpb__BatchScanRegionsResponse response = PDPB__BATCH_SCAN_REGIONS_RESPONSE__INIT;
    response.header = pd_header(rpc, &header);
    response.n_regions = listing.count;
    response.regions = listing.regions;
    rpc_reply_message(rpc, &response.base);
}

/* --- splitting --- */

struct split_call {
    struct region_split split;
    struct rpc *rpc;
    struct rpc_arena *arena;
    uint64_t *ids;
    kvs_slice keys[];
};

static void on_split(struct region_split *split, int error)
{
    struct split_call *call = CONTAINER_OF(split, struct split_call, split);
    struct rpc *rpc = call->rpc;
    Pdpb__ResponseHeader header;
    Pdpb__SplitRegionsResponse response = PDPB__SPLIT_REGIONS_RESPONSE__INIT;
    if (error == KVS_ERR_INVALID_ARGUMENT) {
        rpc_fail(rpc, GRPC_INVALID_ARGUMENT, "keys to split at have 1 to %u bytes",
                 REGION_KEY_SIZE_MAX);
    } else if (error != 0) {
        pd_fail(rpc, error);
    } else {
        const struct region_list *list = pd_regions(rpc);
        for (size_t i = 0; i < split->count; i++)
            call->ids[i] = region_find_before(list, split->keys[i])->id; /* it ends at the key */
        response.header = pd_header(rpc, &header);
        response.finished_percentage = PERCENT_ALL;
        response.n_regions_id = split->count;
        response.regions_id = call->ids;
        rpc_reply_message(rpc, &response.base);
    }
    rpc_arena_give(rpc->at, call->arena);
    rpc_release(rpc);
}

void pd_split_regions(struct rpc *rpc, kvs_slice message)
{
    Pdpb__SplitRegionsRequest *request =
        rpc_unpack(rpc, &pdpb__split_regions_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    size_t count = request->n_split_keys;
    if (count > REGION_SPLIT_KEYS_MAX) {
        rpc_fail(rpc, GRPC_INVALID_ARGUMENT, "at most %u keys to split at", REGION_SPLIT_KEYS_MAX);
        return;
    }
    struct split_call *call = rpc_alloc(rpc, sizeof *call + count * sizeof(kvs_slice));
    uint64_t *ids = rpc_alloc(rpc, count * sizeof *ids);
    if (call == NULL || ids == NULL) {
        pd_fail(rpc, KVS_ERR_NO_MEMORY);
        return;
    }
    *call = (struct split_call){
        .split = {.keys = call->keys, .count = count, .done = on_split}, .rpc = rpc, .ids = ids};
    for (size_t i = 0; i < count; i++)
        call->keys[i] = pd_slice(request->split_keys[i]);
    call->arena = rpc_take_arena(rpc);
    rpc_hold(rpc);
    region_map_split(pd_cluster(rpc)->regions, rpc->at->loop, &call->split);
}

/* There is one store: every region is where it may be. */
void pd_scatter_region(struct rpc *rpc, kvs_slice message)
{
    Pdpb__ScatterRegionRequest *request =
        rpc_unpack(rpc, &pdpb__scatter_region_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    Pdpb__ResponseHeader header;
    Pdpb__ScatterRegionResponse response = PDPB__SCATTER_REGION_RESPONSE__INIT;
    response.header = pd_header(rpc, &header);
    response.finished_percentage = PERCENT_ALL;
    rpc_reply_message(rpc, &response.base);
}

void pd_get_operator(struct rpc *rpc, kvs_slice message)
{
    Pdpb__GetOperatorRequest *request =
        rpc_unpack(rpc, &pdpb__get_operator_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    static uint8_t scatter[] = "scatter-region";
    Pdpb__ResponseHeader header;
    Pdpb__GetOperatorResponse response = PDPB__GET_OPERATOR_RESPONSE__INIT;
    response.header = pd_header(rpc, &header);
    response.region_id = request->region_id;
    response.desc = (ProtobufCBinaryData){.len = sizeof scatter - 1, .data = scatter};
    response.status = PDPB__OPERATOR_STATUS__SUCCESS;
    rpc_reply_message(rpc, &response.base);
}

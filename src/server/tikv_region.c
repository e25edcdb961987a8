/*
 * server/tikv_region.c: is a command at the right place? And what TiKV says when it is not.
 *
 * The order of the checks is TiKV's: cluster, API version and column family, keys; then store,
 * region, leader, peer, term, epoch; then the keys again, now against the region. Clients read from
 * the first error what they have to look up anew.
 * Thread: the connection's loop, while the message is being read.
 */
#include "server/tikv_parts.h"

#include "pd/region_message.h"
#include "server/tikv_faults.h"

#include <stdio.h>

#define TEXT_SIZE 96u
#define EPOCH_REGIONS_MAX 16u

/* --- region errors ------------------------------------------------------------------------------
 */

/* Field 1 of every answer. */
static void tikv_answer_region_error(struct tikv_command *command, Errorpb__Error *error)
{
    Kvrpcpb__RawPutResponse answer = KVRPCPB__RAW_PUT_RESPONSE__INIT;
    answer.region_error = error;
    tikv_answer_message(command, &answer.base);
}

static Errorpb__Error error_of_text(char *text)
{
    Errorpb__Error error = ERRORPB__ERROR__INIT;
    error.message = text;
    return error;
}

void tikv_answer_busy(struct tikv_command *command, const char *reason)
{
    Errorpb__Error error = error_of_text((char *)"server is busy");
    Errorpb__ServerIsBusy busy = ERRORPB__SERVER_IS_BUSY__INIT;
    busy.reason = (char *)reason;
    error.server_is_busy = &busy;
    tikv_answer_region_error(command, &error);
}

void tikv_answer_disk_full(struct tikv_command *command)
{
    Errorpb__Error error = error_of_text((char *)"disk full");
    Errorpb__DiskFull full = ERRORPB__DISK_FULL__INIT;
    uint64_t store = STORE_ID;
    full.n_store_id = 1;
    full.store_id = &store;
    full.reason = (char *)"no space left on the device";
    error.disk_full = &full;
    tikv_answer_region_error(command, &error);
}

void tikv_answer_undetermined(struct tikv_command *command, const char *reason)
{
    Errorpb__Error error = error_of_text((char *)"the outcome of the write is not known");
    Errorpb__UndeterminedResult unknown = ERRORPB__UNDETERMINED_RESULT__INIT;
    unknown.message = (char *)reason;
    error.undetermined_result = &unknown;
    tikv_answer_region_error(command, &error);
}

void tikv_answer_region_text(struct tikv_command *command, const char *text)
{
    Errorpb__Error error = error_of_text((char *)text);
    tikv_answer_region_error(command, &error);
}

void tikv_answer_entry_too_large(struct tikv_command *command, uint64_t region_id, uint64_t size)
{
    char text[TEXT_SIZE];
    snprintf(text, sizeof text, "entry too large: region %llu, %llu bytes",
             (unsigned long long)region_id, (unsigned long long)size);
    Errorpb__Error error = error_of_text(text);
    Errorpb__RaftEntryTooLarge large = ERRORPB__RAFT_ENTRY_TOO_LARGE__INIT;
    large.region_id = region_id;
    large.entry_size = size;
    error.raft_entry_too_large = &large;
    tikv_answer_region_error(command, &error);
}

static void answer_store(struct tikv_command *command, uint64_t store)
{
    char text[TEXT_SIZE];
    snprintf(text, sizeof text, "the request is for store %llu, this is %u",
             (unsigned long long)store, STORE_ID);
    Errorpb__Error error = error_of_text(text);
    Errorpb__StoreNotMatch mismatch = ERRORPB__STORE_NOT_MATCH__INIT;
    mismatch.request_store_id = store;
    mismatch.actual_store_id = STORE_ID;
    error.store_not_match = &mismatch;
    tikv_answer_region_error(command, &error);
}

static void answer_no_region(struct tikv_command *command, uint64_t region_id)
{
    char text[TEXT_SIZE];
    snprintf(text, sizeof text, "region %llu not found", (unsigned long long)region_id);
    Errorpb__Error error = error_of_text(text);
    Errorpb__RegionNotFound missing = ERRORPB__REGION_NOT_FOUND__INIT;
    missing.region_id = region_id;
    error.region_not_found = &missing;
    tikv_answer_region_error(command, &error);
}

static void answer_peer(struct tikv_command *command, uint64_t asked, uint64_t there)
{
    char text[TEXT_SIZE];
    snprintf(text, sizeof text, "the request is for peer %llu, this is %llu",
             (unsigned long long)asked, (unsigned long long)there);
    Errorpb__Error error = error_of_text(text);
    Errorpb__MismatchPeerId mismatch = ERRORPB__MISMATCH_PEER_ID__INIT;
    mismatch.request_peer_id = asked;
    mismatch.store_peer_id = there;
    error.mismatch_peer_id = &mismatch;
    tikv_answer_region_error(command, &error);
}

static void answer_stale(struct tikv_command *command)
{
    Errorpb__Error error = error_of_text((char *)"stale command");
    Errorpb__StaleCommand stale = ERRORPB__STALE_COMMAND__INIT;
    error.stale_command = &stale;
    tikv_answer_region_error(command, &error);
}

/* `stored` is the key as region bounds are. */
static void answer_not_in_region(struct tikv_command *command, const struct region *region,
                                 kvs_slice stored)
{
    char text[TEXT_SIZE];
    snprintf(text, sizeof text, "the key is not in region %llu", (unsigned long long)region->id);
    Errorpb__Error error = error_of_text(text);
    Errorpb__KeyNotInRegion outside = ERRORPB__KEY_NOT_IN_REGION__INIT;
    outside.key = slice_bytes(stored);
    outside.region_id = region->id;
    outside.start_key = slice_bytes(region->start);
    outside.end_key = slice_bytes(region->end);
    error.key_not_in_region = &outside;
    tikv_answer_region_error(command, &error);
}

Metapb__Region *tikv_region_message(struct arena *arena, const struct region *region)
{
    struct region_message *message = arena_alloc(arena, sizeof *message);
    if (message == NULL)
        return NULL;
    region_message_fill(message, region);
    return &message->region;
}

/* The region that the request named, and in front of it those that were split off since. */
void tikv_answer_epoch(struct tikv_command *command, const Kvrpcpb__Context *context,
                       const struct region *region)
{
    const struct region_list *list = command->message->regions;
    uint64_t version = context->region_epoch->version;
    Metapb__Region *regions[EPOCH_REGIONS_MAX];
    Errorpb__EpochNotMatch mismatch = ERRORPB__EPOCH_NOT_MATCH__INIT;
    mismatch.current_regions = regions;
    for (size_t i = region_list_index(list, region->start) + 1;
         i > 0 && mismatch.n_current_regions < EPOCH_REGIONS_MAX; i--) {
        const struct region *other = list->by_key[i - 1];
        if (other != region && other->version <= version)
            break;
        Metapb__Region *made = tikv_region_message(command_arena(command), other);
        if (made == NULL) {
            tikv_fail_no_memory(command);
            return;
        }
        regions[mismatch.n_current_regions++] = made;
    }
    char text[TEXT_SIZE];
    snprintf(text, sizeof text, "epoch not match: region %llu has version %llu, not %llu",
             (unsigned long long)region->id, (unsigned long long)region->version,
             (unsigned long long)version);
    Errorpb__Error error = error_of_text(text);
    error.epoch_not_match = &mismatch;
    tikv_answer_region_error(command, &error);
}

/* --- checks -------------------------------------------------------------------------------------
 */

bool tikv_place_begin(struct tikv_place *place, struct tikv_command *command,
                      const Kvrpcpb__Context *context, const char *family)
{
    static const Kvrpcpb__Context none = KVRPCPB__CONTEXT__INIT;
    if (context == NULL)
        context = &none;
    uint64_t cluster = command_at(command)->service->cluster->id;
    if (context->cluster_id != 0 && context->cluster_id != cluster) {
        tikv_fail(command, GRPC_INVALID_ARGUMENT,
                  "the cluster id of the request does not match the TiKV cluster");
        return false;
    }
    if (context->api_version > KVRPCPB__APIVERSION__V2) {
        tikv_answer_error(command, "API version %d is not served: V1, V1TTL and V2 are",
                          (int)context->api_version);
        return false;
    }
    bool is_v2 = context->api_version == KVRPCPB__APIVERSION__V2;
    int number = key_family(family, is_v2);
    if (number < 0) {
        tikv_answer_error(command, "invalid cf name: %.64s", family != NULL ? family : "");
        return false;
    }
    *place = (struct tikv_place){
        .command = command,
        .context = context,
        .family = (uint8_t)number,
        .mode = KEY_MODE_RAW,
        .is_v2 = is_v2,
        .is_encoded = is_v2,
    };
    return true;
}

bool tikv_place_begin_txn(struct tikv_place *place, struct tikv_command *command,
                          const Kvrpcpb__Context *context)
{
    if (!tikv_place_begin(place, command, context, NULL))
        return false;
    place->mode = KEY_MODE_TXN;
    place->is_encoded = true;
    return true;
}

static const char *mode_name(const struct tikv_place *place)
{
    return place->mode == KEY_MODE_RAW ? "raw" : "transactional";
}

bool tikv_place_key(struct tikv_place *place, kvs_slice key)
{
    if (!place->is_v2 || key_has_mode(key, place->mode))
        return true;
    tikv_answer_error(place->command, "invalid key mode: a %s key of API V2 begins with '%c'",
                      mode_name(place), place->mode);
    return false;
}

bool tikv_place_key_size(struct tikv_place *place, kvs_slice key)
{
    if (key.size <= KEY_SIZE_MAX)
        return true;
    tikv_answer_error(place->command, "max key size exceeded, size: %zu, limit: %u", key.size,
                      KEY_SIZE_MAX);
    return false;
}

bool tikv_place_write_key(struct tikv_place *place, kvs_slice key)
{
    if (!tikv_place_key(place, key) || !tikv_place_key_size(place, key))
        return false;
    if (key.size > 0)
        return true;
    tikv_answer_error(place->command, "the key is empty");
    return false;
}

bool tikv_place_range(struct tikv_place *place, kvs_slice start, kvs_slice end)
{
    if (!place->is_v2 || key_range_has_mode(start, end, place->mode))
        return true;
    tikv_answer_error(place->command,
                      "invalid key mode: a %s range of API V2 is of keys that begin with '%c'",
                      mode_name(place), place->mode);
    return false;
}

static void answer_leader(struct tikv_command *command, const struct region *region, bool known)
{
    Errorpb__Error error = error_of_text((char *)"not leader");
    Errorpb__NotLeader not_leader = ERRORPB__NOT_LEADER__INIT;
    Metapb__Peer leader = METAPB__PEER__INIT;
    leader.id = region->peer_id;
    leader.store_id = STORE_ID;
    not_leader.region_id = region->id;
    not_leader.leader = known ? &leader : NULL;
    error.not_leader = &not_leader;
    tikv_answer_region_error(command, &error);
}

static void answer_no_epoch(struct tikv_command *command)
{
    Errorpb__Error error = error_of_text((char *)"epoch not match");
    Errorpb__EpochNotMatch mismatch = ERRORPB__EPOCH_NOT_MATCH__INIT;
    error.epoch_not_match = &mismatch;
    tikv_answer_region_error(command, &error);
}

/* For tests of clients; false: nothing is to fail. */
static bool answer_fault(struct tikv_place *place, enum tikv_fault_error fault)
{
    struct tikv_command *command = place->command;
    switch (fault) {
    case TIKV_FAULT_BUSY:
        tikv_answer_busy(command, "a test wants it");
        return true;
    case TIKV_FAULT_NO_LEADER:
    case TIKV_FAULT_OTHER_LEADER:
        answer_leader(command, place->region, fault == TIKV_FAULT_OTHER_LEADER);
        return true;
    case TIKV_FAULT_EPOCH:
        tikv_answer_epoch(command, place->context, place->region);
        return true;
    case TIKV_FAULT_EPOCH_EMPTY:
        answer_no_epoch(command);
        return true;
    case TIKV_FAULT_REGION:
        answer_no_region(command, place->region->id);
        return true;
    case TIKV_FAULT_STORE:
        answer_store(command, STORE_ID + 1);
        return true;
    case TIKV_FAULT_STALE:
        answer_stale(command);
        return true;
    default:
        return false;
    }
}

bool tikv_place_region(struct tikv_place *place)
{
    struct tikv_command *command = place->command;
    const Kvrpcpb__Context *context = place->context;
    uint64_t store = context->peer != NULL ? context->peer->store_id : 0;
    if (store != STORE_ID) {
        answer_store(command, store);
        return false;
    }
    const struct region *region = region_by_id(command->message->regions, context->region_id);
    if (region == NULL) {
        answer_no_region(command, context->region_id);
        return false;
    }
    if (context->peer->id != region->peer_id) {
        answer_peer(command, context->peer->id, region->peer_id);
        return false;
    }
    if (context->term != 0 && context->term + 1 < TIKV_TERM) {
        answer_stale(command);
        return false;
    }
    if (context->region_epoch == NULL) {
        tikv_answer_region_text(command, "the request has no region epoch");
        return false;
    }
    if (context->region_epoch->version != region->version) {
        tikv_answer_epoch(command, context, region);
        return false;
    }
    place->region = region;
    return !answer_fault(place, tikv_fault_next());
}

/* The order of a key and a region's bound. */
static int compare(const struct tikv_place *place, kvs_slice key, kvs_slice bound)
{
    return place->is_encoded ? key_encoded_compare(key, bound) : slice_compare(key, bound);
}

static bool refuse_key(struct tikv_place *place, kvs_slice key)
{
    kvs_slice stored = key;
    if (place->is_encoded) {
        uint8_t *bytes = arena_alloc(command_arena(place->command), key_encoded_size(key.size));
        if (bytes == NULL) {
            tikv_fail_no_memory(place->command);
            return false;
        }
        key_encode(key, bytes);
        stored = slice_make(bytes, key_encoded_size(key.size));
    }
    answer_not_in_region(place->command, place->region, stored);
    return false;
}

bool tikv_place_has(struct tikv_place *place, kvs_slice key)
{
    const struct region *region = place->region;
    if ((region->start.size == 0 || compare(place, key, region->start) >= 0) &&
        (region->end.size == 0 || compare(place, key, region->end) < 0))
        return true;
    return refuse_key(place, key);
}

bool tikv_place_has_end(struct tikv_place *place, kvs_slice end)
{
    const struct region *region = place->region;
    if ((region->start.size == 0 || compare(place, end, region->start) >= 0) &&
        (region->end.size == 0 || compare(place, end, region->end) <= 0))
        return true;
    return refuse_key(place, end);
}

/* A region's bound as a key, in the command's arena: regions may change before it is used. */
static bool bound_key(struct tikv_place *place, kvs_slice bound, kvs_slice *ret_key)
{
    uint8_t *bytes = arena_alloc(command_arena(place->command), bound.size + 8);
    if (bytes == NULL) {
        tikv_fail_no_memory(place->command);
        return false;
    }
    size_t size = bound.size;
    if (place->is_encoded)
        size = key_at_or_above(bound, bytes);
    else if (size > 0)
        memcpy(bytes, bound.data, size);
    *ret_key = slice_make(bytes, size);
    return true;
}

bool tikv_place_clip(struct tikv_place *place, kvs_slice start, kvs_slice end, kvs_slice *ret_start,
                     kvs_slice *ret_end)
{
    const struct region *region = place->region;
    if (region->start.size > 0 && compare(place, start, region->start) < 0 &&
        !bound_key(place, region->start, &start))
        return false;
    if (region->end.size > 0 && (end.size == 0 || compare(place, end, region->end) > 0) &&
        !bound_key(place, region->end, &end))
        return false;
    *ret_start = start;
    *ret_end = end;
    return true;
}

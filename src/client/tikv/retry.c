/* client/tikv/retry.c: the tables behind client/tikv/retry.h. */
#include "client/tikv/retry.h"

#include "proto/grpc/status.h"

#include <kvs/error.h>

static struct retry_decision after(enum backoff_kind kind, int error, const char *reason)
{
    return (struct retry_decision){
        .what = RETRY_AFTER, .backoff = kind, .error = error, .reason = reason};
}

static struct retry_decision never(int error, const char *reason)
{
    return (struct retry_decision){.what = RETRY_NEVER, .error = error, .reason = reason};
}

static struct retry_decision reload_after(enum backoff_kind kind, const char *reason)
{
    struct retry_decision decision = after(kind, KVS_ERR_BUSY, reason);
    decision.drop_region = true;
    return decision;
}

static struct retry_decision on_not_leader(const Errorpb__NotLeader *error)
{
    struct retry_decision decision =
        after(BACKOFF_REGION_SCHEDULING, KVS_ERR_BUSY, "the region has another leader");
    if (error->leader != NULL && error->leader->id != 0) {
        decision.what = RETRY_AT_ONCE;
        decision.take_leader = true;
    } else {
        decision.reason = "the region has no leader now";
        decision.drop_region = true;
    }
    return decision;
}

static struct retry_decision on_epoch(const Errorpb__EpochNotMatch *error)
{
    struct retry_decision decision =
        reload_after(BACKOFF_REGION_MISS, "the region was split or merged");
    if (error->n_current_regions > 0) {
        decision.what = RETRY_AT_ONCE;
        decision.take_regions = true;
    }
    return decision;
}

static struct retry_decision at_once(struct retry_decision decision)
{
    decision.what = RETRY_AT_ONCE;
    return decision;
}

struct retry_decision retry_on_region_error(const Errorpb__Error *error)
{
    struct retry_decision decision;
    if (error->undetermined_result != NULL) {
        decision = never(KVS_ERR_OUTCOME_UNKNOWN, "the server does not know the write's outcome");
        decision.maybe_done = true;
        return decision;
    }
    if (error->not_leader != NULL)
        return on_not_leader(error->not_leader);
    if (error->epoch_not_match != NULL)
        return on_epoch(error->epoch_not_match);
    if (error->region_not_found != NULL)
        return at_once(reload_after(BACKOFF_REGION_MISS, "the store does not have the region"));
    if (error->key_not_in_region != NULL)
        return at_once(reload_after(BACKOFF_REGION_MISS, "the region does not have the key"));
    if (error->store_not_match != NULL) {
        decision = at_once(
            reload_after(BACKOFF_REGION_MISS, "another store answers at the store's address"));
        decision.drop_store = true;
        return decision;
    }
    if (error->server_is_busy != NULL) {
        decision = after(BACKOFF_SERVER_BUSY, KVS_ERR_BUSY, "the store is busy");
        decision.at_least_ms = error->server_is_busy->backoff_ms;
        return decision;
    }
    if (error->raft_entry_too_large != NULL)
        return never(KVS_ERR_TOO_LARGE, "the write is larger than the store takes at once");
    if (error->stale_command != NULL)
        return after(BACKOFF_STALE_COMMAND, KVS_ERR_BUSY, "the region changed its leader");
    if (error->max_timestamp_not_synced != NULL)
        return after(BACKOFF_MAX_TS, KVS_ERR_BUSY, "the region's new leader is not ready");
    if (error->disk_full != NULL)
        return after(BACKOFF_DISK_FULL, KVS_ERR_NO_SPACE, "the store's disk is full");
    if (error->recovery_in_progress != NULL)
        return after(BACKOFF_RECOVERY, KVS_ERR_BUSY, "the store is in recovery");
    if (error->is_witness != NULL)
        return reload_after(BACKOFF_WITNESS, "the region's peer holds no data");
    if (error->flashback_in_progress != NULL || error->flashback_not_prepared != NULL)
        return never(KVS_ERR_BUSY, "the region is being set back to an older time");
    if (error->read_index_not_ready != NULL)
        return after(BACKOFF_REGION_SCHEDULING, KVS_ERR_BUSY, "the region is not ready to be read");
    if (error->region_not_initialized != NULL)
        return after(BACKOFF_NOT_INITIALIZED, KVS_ERR_BUSY, "the region is not ready");
    if (error->proposal_in_merging_mode != NULL)
        return reload_after(BACKOFF_REGION_SCHEDULING, "the region is being merged");
    if (error->data_is_not_ready != NULL || error->mismatch_peer_id != NULL ||
        error->bucket_version_not_match != NULL)
        return reload_after(BACKOFF_REGION_MISS, "the region's peer is not the one asked");
    /* Only a text ("TiKV is Closing"), or a kind that came after us. */
    return reload_after(BACKOFF_REGION_SCHEDULING, "the store refused the request");
}

struct retry_decision retry_on_status(int code, bool from_peer, bool not_processed)
{
    struct retry_decision decision;
    switch (code) {
    case GRPC_DEADLINE_EXCEEDED:
        decision = never(KVS_ERR_TIMEOUT, "no answer in time");
        break;
    case GRPC_UNIMPLEMENTED:
        return never(KVS_ERR_UNSUPPORTED, "the server does not know this call");
    case GRPC_INVALID_ARGUMENT:
    case GRPC_FAILED_PRECONDITION:
        return never(KVS_ERR_INVALID_ARGUMENT, "the server refused the call");
    case GRPC_UNAUTHENTICATED:
    case GRPC_PERMISSION_DENIED:
        return never(KVS_ERR_PERMISSION, "the server does not let this client in");
    case GRPC_RESOURCE_EXHAUSTED:
        decision = from_peer ? after(BACKOFF_SERVER_BUSY, KVS_ERR_BUSY, "the store is busy")
                             : never(KVS_ERR_TOO_LARGE, "the answer is too large");
        break;
    default:
        decision = after(BACKOFF_TIKV_RPC, KVS_ERR_CONNECTION_LOST, "the call failed");
        decision.switch_peer = true;
        decision.drop_store = true;
    }
    decision.maybe_done = !not_processed;
    return decision;
}

static bool contains(const char *text, size_t size, const char *what)
{
    return memmem(text, size, what, strlen(what)) != NULL;
}

int retry_error_of_text(const char *text, size_t size)
{
    if (contains(text, size, "exceeded") || contains(text, size, "too large") ||
        contains(text, size, "over the limit"))
        return KVS_ERR_TOO_LARGE;
    if (contains(text, size, "ttl is not enabled") || contains(text, size, "not supported"))
        return KVS_ERR_UNSUPPORTED;
    if (contains(text, size, "invalid") || contains(text, size, "Invalid"))
        return KVS_ERR_INVALID_ARGUMENT;
    return KVS_ERR_IO;
}

/* server/pd_gc.c: safe points and barriers; see pd_service.h, and pd/gc_state.h for the rules. */
#include "server/pd_parts.h"

#include "base/clock.h"
#include "base/mem.h"
#include "pd/gc_state.h"
#include "proto/tikv/key.h"

#include <stdio.h>

/* A change under way; in its own arena, together with the request it points into. */
struct gc_call {
    struct gc_change change;
    struct rpc *rpc;
    struct rpc_arena *arena;
    uint32_t keyspace; /* as asked */
    void (*answer)(struct gc_call *call, struct pd_error_header *header);
};

static uint32_t keyspace_of(const Pdpb__KeyspaceScope *scope)
{
    bool told = scope != NULL && scope->keyspace_case == PDPB__KEYSPACE_SCOPE__KEYSPACE_KEYSPACE_ID;
    return told ? scope->keyspace_id : KEYSPACE_NONE;
}

static void fill_scope(Pdpb__KeyspaceScope *scope, uint32_t id)
{
    pdpb__keyspace_scope__init(scope);
    scope->keyspace_case = PDPB__KEYSPACE_SCOPE__KEYSPACE_KEYSPACE_ID;
    scope->keyspace_id = id;
}

static bool fill_barrier(struct rpc_arena *arena, Pdpb__GCBarrierInfo *info,
                         const struct gc_barrier *barrier, uint64_t now_ms)
{
    char *id = arena_alloc(&arena->arena, (size_t)barrier->id_size + 1);
    if (id == NULL)
        return false;
    memcpy(id, barrier->id, barrier->id_size);
    id[barrier->id_size] = '\0';
    pdpb__gcbarrier_info__init(info);
    info->barrier_id = id;
    info->barrier_ts = barrier->ts;
    info->ttl_seconds = gc_barrier_ttl_s(barrier, now_ms);
    return true;
}

/* --- changes --- */

static void on_changed(struct gc_change *change, int error)
{
    struct gc_call *call = CONTAINER_OF(change, struct gc_call, change);
    struct rpc *rpc = call->rpc;
    struct pd_error_header header;
    if (error != 0) {
        pd_fail(rpc, error);
    } else {
        if (change->refused != NULL)
            pd_error_header(rpc, &header, PDPB__ERROR_TYPE__UNKNOWN, change->refused);
        else
            pd_header(rpc, &header.header);
        call->answer(call, &header);
    }
    rpc_arena_give(rpc->at, call->arena);
    rpc_release(rpc);
}

static void change_state(struct rpc *rpc, const struct gc_change *change, uint32_t keyspace,
                         void (*answer)(struct gc_call *call, struct pd_error_header *header))
{
    struct gc_call *call = rpc_alloc(rpc, sizeof *call);
    if (call == NULL) {
        pd_fail(rpc, KVS_ERR_NO_MEMORY);
        return;
    }
    *call = (struct gc_call){.change = *change, .rpc = rpc, .keyspace = keyspace, .answer = answer};
    call->change.done = on_changed;
    call->arena = rpc_take_arena(rpc);
    rpc_hold(rpc);
    gc_state_change(pd_cluster(rpc)->gc, rpc->at->loop, &call->change);
}

static void answer_update(struct gc_call *call, struct pd_error_header *header)
{
    Pdpb__UpdateGCSafePointResponse response = PDPB__UPDATE_GCSAFE_POINT_RESPONSE__INIT;
    response.header = &header->header;
    response.new_safe_point = call->change.after;
    rpc_reply_message(call->rpc, &response.base);
}

void pd_update_gc_safe_point(struct rpc *rpc, kvs_slice message)
{
    Pdpb__UpdateGCSafePointRequest *request =
        rpc_unpack(rpc, &pdpb__update_gcsafe_point_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    const struct gc_change change = {.action = GC_UPDATE, .ts = request->safe_point};
    change_state(rpc, &change, KEYSPACE_NONE, answer_update);
}

static void answer_service(struct gc_call *call, struct pd_error_header *header)
{
    Pdpb__UpdateServiceGCSafePointResponse response =
        PDPB__UPDATE_SERVICE_GCSAFE_POINT_RESPONSE__INIT;
    struct gc_barrier *low = &call->change.barrier;
    response.header = &header->header;
    if (call->change.found) {
        response.service_id =
            (ProtobufCBinaryData){.len = low->id_size, .data = (uint8_t *)low->id};
        response.ttl = gc_barrier_ttl_s(low, call->change.now_ms);
        response.min_safe_point = low->ts;
    }
    rpc_reply_message(call->rpc, &response.base);
}

void pd_update_service_gc_safe_point(struct rpc *rpc, kvs_slice message)
{
    Pdpb__UpdateServiceGCSafePointRequest *request =
        rpc_unpack(rpc, &pdpb__update_service_gcsafe_point_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    const struct gc_change change = {.action = GC_UPDATE_SERVICE,
                                     .id = pd_slice(request->service_id),
                                     .ts = request->safe_point,
                                     .ttl_s = request->ttl};
    change_state(rpc, &change, KEYSPACE_NONE, answer_service);
}

static void answer_advance_txn(struct gc_call *call, struct pd_error_header *header)
{
    Pdpb__AdvanceTxnSafePointResponse response = PDPB__ADVANCE_TXN_SAFE_POINT_RESPONSE__INIT;
    char blocker[GC_BARRIER_ID_SIZE_MAX + 64];
    response.header = &header->header;
    response.old_txn_safe_point = call->change.before;
    response.new_txn_safe_point = call->change.after;
    if (call->change.found) {
        const struct gc_barrier *barrier = &call->change.barrier;
        snprintf(blocker, sizeof blocker, "%s \"%.*s\" at %llu",
                 barrier->service ? "service" : "barrier", (int)barrier->id_size, barrier->id,
                 (unsigned long long)barrier->ts);
        response.blocker_description = blocker;
    }
    rpc_reply_message(call->rpc, &response.base);
}

void pd_advance_txn_safe_point(struct rpc *rpc, kvs_slice message)
{
    Pdpb__AdvanceTxnSafePointRequest *request =
        rpc_unpack(rpc, &pdpb__advance_txn_safe_point_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    const struct gc_change change = {.action = GC_ADVANCE_TXN, .ts = request->target};
    change_state(rpc, &change, keyspace_of(request->keyspace_scope), answer_advance_txn);
}

static void answer_advance_gc(struct gc_call *call, struct pd_error_header *header)
{
    Pdpb__AdvanceGCSafePointResponse response = PDPB__ADVANCE_GCSAFE_POINT_RESPONSE__INIT;
    response.header = &header->header;
    response.old_gc_safe_point = call->change.before;
    response.new_gc_safe_point = call->change.after;
    rpc_reply_message(call->rpc, &response.base);
}

void pd_advance_gc_safe_point(struct rpc *rpc, kvs_slice message)
{
    Pdpb__AdvanceGCSafePointRequest *request =
        rpc_unpack(rpc, &pdpb__advance_gcsafe_point_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    const struct gc_change change = {.action = GC_ADVANCE_GC, .ts = request->target};
    change_state(rpc, &change, keyspace_of(request->keyspace_scope), answer_advance_gc);
}

/* The barrier of the change, or NULL. */
static Pdpb__GCBarrierInfo *changed_barrier(struct gc_call *call, Pdpb__GCBarrierInfo *info)
{
    if (!call->change.found ||
        !fill_barrier(call->arena, info, &call->change.barrier, call->change.now_ms))
        return NULL;
    return info;
}

static void answer_set_barrier(struct gc_call *call, struct pd_error_header *header)
{
    Pdpb__SetGCBarrierResponse response = PDPB__SET_GCBARRIER_RESPONSE__INIT;
    Pdpb__GCBarrierInfo info;
    response.header = &header->header;
    response.new_barrier_info = changed_barrier(call, &info);
    rpc_reply_message(call->rpc, &response.base);
}

void pd_set_gc_barrier(struct rpc *rpc, kvs_slice message)
{
    Pdpb__SetGCBarrierRequest *request =
        rpc_unpack(rpc, &pdpb__set_gcbarrier_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    const struct gc_change change = {.action = GC_SET_BARRIER,
                                     .id = slice_of_string(request->barrier_id),
                                     .ts = request->barrier_ts,
                                     .ttl_s = request->ttl_seconds};
    change_state(rpc, &change, keyspace_of(request->keyspace_scope), answer_set_barrier);
}

static void answer_delete_barrier(struct gc_call *call, struct pd_error_header *header)
{
    Pdpb__DeleteGCBarrierResponse response = PDPB__DELETE_GCBARRIER_RESPONSE__INIT;
    Pdpb__GCBarrierInfo info;
    response.header = &header->header;
    response.deleted_barrier_info = changed_barrier(call, &info);
    rpc_reply_message(call->rpc, &response.base);
}

void pd_delete_gc_barrier(struct rpc *rpc, kvs_slice message)
{
    Pdpb__DeleteGCBarrierRequest *request =
        rpc_unpack(rpc, &pdpb__delete_gcbarrier_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    const struct gc_change change = {.action = GC_DELETE_BARRIER,
                                     .id = slice_of_string(request->barrier_id)};
    change_state(rpc, &change, keyspace_of(request->keyspace_scope), answer_delete_barrier);
}

/* --- reads --- */

void pd_get_gc_safe_point(struct rpc *rpc, kvs_slice message)
{
    Pdpb__GetGCSafePointRequest *request =
        rpc_unpack(rpc, &pdpb__get_gcsafe_point_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    struct gc_values values;
    gc_state_read(pd_cluster(rpc)->gc, &values);
    Pdpb__ResponseHeader header;
    Pdpb__GetGCSafePointResponse response = PDPB__GET_GCSAFE_POINT_RESPONSE__INIT;
    response.header = pd_header(rpc, &header);
    response.safe_point = values.gc_safe_point;
    rpc_reply_message(rpc, &response.base);
}

/* The barriers, without the services' safe points. False: no memory. */
static bool fill_barriers(struct rpc *rpc, Pdpb__GCState *state, const struct gc_values *values)
{
    struct rpc_arena *arena = rpc->at->arena; /* there is one: the request lies in it */
    Pdpb__GCBarrierInfo *infos = rpc_alloc(rpc, values->count * sizeof *infos);
    state->gc_barriers = rpc_alloc(rpc, values->count * sizeof *state->gc_barriers);
    if (infos == NULL || state->gc_barriers == NULL)
        return false;
    uint64_t now_ms = clock_wall_ms();
    for (uint32_t i = 0; i < values->count; i++) {
        if (values->barriers[i].service)
            continue;
        if (!fill_barrier(arena, &infos[i], &values->barriers[i], now_ms))
            return false;
        state->gc_barriers[state->n_gc_barriers++] = &infos[i];
    }
    return true;
}

void pd_get_gc_state(struct rpc *rpc, kvs_slice message)
{
    Pdpb__GetGCStateRequest *request =
        rpc_unpack(rpc, &pdpb__get_gcstate_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    struct gc_values values;
    gc_state_read(pd_cluster(rpc)->gc, &values);
    Pdpb__ResponseHeader header;
    Pdpb__KeyspaceScope scope;
    Pdpb__GCState state = PDPB__GCSTATE__INIT;
    Pdpb__GetGCStateResponse response = PDPB__GET_GCSTATE_RESPONSE__INIT;
    fill_scope(&scope, keyspace_of(request->keyspace_scope));
    state.keyspace_scope = &scope;
    state.txn_safe_point = values.txn_safe_point;
    state.gc_safe_point = values.gc_safe_point;
    response.header = pd_header(rpc, &header);
    response.gc_state = &state;
    if (!request->exclude_gc_barriers && !fill_barriers(rpc, &state, &values))
        pd_fail(rpc, KVS_ERR_NO_MEMORY);
    else
        rpc_reply_message(rpc, &response.base);
}

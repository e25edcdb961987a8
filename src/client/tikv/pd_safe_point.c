/* client/tikv/pd_safe_point.c: see client/tikv/pd_safe_point.h. */
#include "client/tikv/pd_safe_point.h"

#include "client/tikv/cluster_parts.h"
#include "pdpb.pb-c.h"

#include <kvs/error.h>

#include <stdio.h>

void pd_safe_point_raise(struct pd_safe_point *safe_point, uint64_t ts)
{
    /* relaxed: a number by itself */
    uint64_t before = atomic_load_explicit(safe_point->value, memory_order_relaxed);
    while (before < ts &&
           !atomic_compare_exchange_weak_explicit(safe_point->value, &before, ts,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}

/* --- answers ------------------------------------------------------------------------------------
 */

static bool is_good(const Pdpb__ResponseHeader *header)
{
    return header == NULL || header->error == NULL;
}

static bool take_state(kvs_slice reply, uint64_t *ret_ts)
{
    Pdpb__GetGCStateResponse *response =
        pdpb__get_gcstate_response__unpack(NULL, reply.size, reply.data);
    bool good = response != NULL && is_good(response->header) && response->gc_state != NULL;
    if (good)
        *ret_ts = response->gc_state->txn_safe_point;
    if (response != NULL)
        pdpb__get_gcstate_response__free_unpacked(response, NULL);
    return good;
}

static bool take_point(kvs_slice reply, uint64_t *ret_ts)
{
    Pdpb__GetGCSafePointResponse *response =
        pdpb__get_gcsafe_point_response__unpack(NULL, reply.size, reply.data);
    bool good = response != NULL && is_good(response->header);
    if (good)
        *ret_ts = response->safe_point;
    if (response != NULL)
        pdpb__get_gcsafe_point_response__free_unpacked(response, NULL);
    return good;
}

static void on_done(struct pd_request *request, int error, kvs_slice reply, const char *why)
{
    struct pd_safe_point *safe_point = CONTAINER_OF(request, struct pd_safe_point, request);
    uint64_t now_ms = loop_now_ms(safe_point->pd->loop);
    uint64_t ts = 0;
    safe_point->asks = false;
    if (error == KVS_ERR_UNSUPPORTED && safe_point->is_old) {
        safe_point->is_none = true;
        safe_point->due_ms = safe_point->old_until_ms;
    } else if (error == KVS_ERR_UNSUPPORTED) {
        safe_point->is_old = true;
        safe_point->old_until_ms = now_ms + SAFE_POINT_OLD_MS;
        safe_point->due_ms = now_ms;
    } else if (error == 0 &&
               (safe_point->is_old ? take_point(reply, &ts) : take_state(reply, &ts))) {
        pd_safe_point_raise(safe_point, ts);
        safe_point->is_none = false;
        safe_point->known_until_ms = now_ms + SAFE_POINT_KNOWN_MS;
        safe_point->due_ms = now_ms + SAFE_POINT_EVERY_MS;
    } else {
        safe_point->due_ms = now_ms + SAFE_POINT_AGAIN_MS;
        snprintf(safe_point->why, sizeof safe_point->why, "%.150s",
                 error != 0 && why != NULL ? why : "an answer that says nothing");
    }
    pd_request_deinit(request);
    if (pd_safe_point_is_known(safe_point, now_ms))
        safe_point->told(safe_point);
}

/* --- questions ----------------------------------------------------------------------------------
 */

static int pack_state(struct pd_safe_point *safe_point, Pdpb__RequestHeader *header)
{
    Pdpb__KeyspaceScope scope = PDPB__KEYSPACE_SCOPE__INIT;
    Pdpb__GetGCStateRequest message = PDPB__GET_GCSTATE_REQUEST__INIT;
    scope.keyspace_case = PDPB__KEYSPACE_SCOPE__KEYSPACE_KEYSPACE_ID;
    scope.keyspace_id = safe_point->keyspace_id;
    message.header = header;
    message.keyspace_scope = &scope;
    message.exclude_gc_barriers = true;
    safe_point->request.path = slice_of_string("/pdpb.PD/GetGCState");
    return pack_message(&safe_point->request.body, &message.base);
}

static int pack_point(struct pd_safe_point *safe_point, Pdpb__RequestHeader *header)
{
    Pdpb__GetGCSafePointRequest message = PDPB__GET_GCSAFE_POINT_REQUEST__INIT;
    message.header = header;
    safe_point->request.path = slice_of_string("/pdpb.PD/GetGCSafePoint");
    return pack_message(&safe_point->request.body, &message.base);
}

void pd_safe_point_run(struct pd_safe_point *safe_point, uint64_t now_ms)
{
    if (safe_point->asks || now_ms < safe_point->due_ms)
        return;
    if (now_ms >= safe_point->old_until_ms)
        safe_point->is_old = false;
    Pdpb__RequestHeader header = PDPB__REQUEST_HEADER__INIT;
    header.cluster_id = safe_point->pd->members.cluster_id;
    safe_point->request = (struct pd_request){.done = on_done};
    int error =
        safe_point->is_old ? pack_point(safe_point, &header) : pack_state(safe_point, &header);
    if (error != 0) {
        pd_request_deinit(&safe_point->request);
        safe_point->due_ms = now_ms + SAFE_POINT_AGAIN_MS;
        return;
    }
    safe_point->asks = true;
    pd_request_send(safe_point->pd, &safe_point->request);
}

uint64_t pd_safe_point_timer(const struct pd_safe_point *safe_point)
{
    return safe_point->asks ? UINT64_MAX : safe_point->due_ms;
}

/* --- life ---------------------------------------------------------------------------------------
 */

void pd_safe_point_start(struct pd_safe_point *safe_point, uint32_t keyspace_id)
{
    safe_point->keyspace_id = keyspace_id;
    safe_point->due_ms = 0;
    snprintf(safe_point->why, sizeof safe_point->why, "no answer");
}

void pd_safe_point_stop(struct pd_safe_point *safe_point)
{
    if (safe_point->asks)
        pd_request_cancel(&safe_point->request);
    safe_point->asks = false;
    safe_point->due_ms = UINT64_MAX;
}

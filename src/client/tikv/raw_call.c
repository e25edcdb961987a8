/* client/tikv/raw_call.c: see client/tikv/raw_call.h. */
#include "client/tikv/raw_call.h"

#include <stdio.h>

static struct raw_call *raw_call_of(struct cluster_call *base)
{
    return CONTAINER_OF(base, struct raw_call, base);
}

static int raw_write(struct cluster_call *base, const struct call_place *place, struct buf *message,
                     bool as_command)
{
    struct raw_call *call = raw_call_of(base);
    const struct tikv_cluster *cluster = base->cluster;
    struct raw_request request = {
        .kind = call->kind,
        .region_id = base->region_id,
        .conf_ver = base->conf_ver,
        .version = base->version,
        .peer_id = base->peer_id,
        .store_id = base->store_id,
        .cluster_id = cluster->pd.members.cluster_id,
        .max_execution_ms = place->max_execution_ms,
        .is_v2 = cluster->is_v2,
        .keyspace_id = cluster->keyspace_id,
        .prefix = tikv_cluster_prefix(cluster),
        .family = "",
        .key = base->key,
    };
    int error = call->methods->fit(call, place->region, &request);
    if (error != 0)
        return error;
    if (as_command)
        return raw_batch_add(message, &request);
    size_t size = raw_request_size(&request);
    error = buf_reserve(message, size);
    if (error != 0)
        return error;
    raw_request_write(&request, message->data + message->size);
    message->size += size;
    return 0;
}

static void raw_on_answer(struct cluster_call *base, kvs_slice body)
{
    struct raw_call *call = raw_call_of(base);
    struct raw_reply reply;
    char name[LINK_NAME_SIZE];
    char why[LINK_NAME_SIZE + 200];
    int error = raw_reply_read(call->kind, body, &reply);
    if (error != 0) {
        base->maybe_done = true;
        snprintf(why, sizeof why, "%s: an answer that cannot be read",
                 cluster_call_peer(base, name));
        cluster_call_fail(base, error, why);
    } else if (reply.has_region_error) {
        cluster_call_on_region_error(base, reply.region_error);
    } else if (reply.error.size > 0) {
        const char *text = (const char *)reply.error.data;
        snprintf(why, sizeof why, "%s: %.*s", cluster_call_peer(base, name),
                 (int)(reply.error.size < 150 ? reply.error.size : 150), text);
        cluster_call_fail(base, retry_error_of_text(text, reply.error.size), why);
    } else {
        cluster_call_end(base);
        call->methods->on_reply(call, &reply);
    }
}

static void raw_on_failed(struct cluster_call *base, int error, const char *why)
{
    struct raw_call *call = raw_call_of(base);
    call->methods->on_failed(call, error, why);
}

static bool raw_make_smaller(struct cluster_call *base)
{
    struct raw_call *call = raw_call_of(base);
    if ((call->kind != RAW_SCAN && call->kind != RAW_BATCH_GET) || call->limit <= 1)
        return false;
    call->limit = call->limit / 4 + 1;
    return true;
}

static const struct cluster_call_methods raw_methods = {
    .write = raw_write,
    .on_answer = raw_on_answer,
    .on_failed = raw_on_failed,
    .make_smaller = raw_make_smaller,
};

void raw_call_start(struct raw_call *call)
{
    call->base.methods = &raw_methods;
    call->base.path = raw_method_path(call->kind);
    call->base.command = raw_kind_is_batchable(call->kind) ? raw_command_number(call->kind) : 0;
    call->base.is_write = raw_kind_is_write(call->kind);
    call->base.once = call->kind == RAW_CAS;
    cluster_call_start(&call->base);
}

bool raw_call_cancel(struct raw_call *call)
{
    return cluster_call_cancel(&call->base) && call->base.is_write;
}

/* client/tikv/raw_op.c: the phases of an operation, and those of one key; see client/tikv/raw_op.h.
 */
#include "client/tikv/raw_op.h"

#include "base/mem.h"
#include "client/tikv/shard.h"
#include "store/store.h"

#include <assert.h>
#include <stdio.h>

#define SPARE_CALLS_MAX 1024u

static_assert(sizeof(struct tikv_op) <= sizeof((kvs_op *)0)->reserved, "no allocation per op");
static_assert(MESSAGE_SIZE == sizeof((kvs_op *)0)->message, "calls write into it");

static void op_next_phase(struct tikv_op *op);

/* --- calls --------------------------------------------------------------------------------------
 */

static struct raw_call *call_new(struct tikv_shard *shard)
{
    struct raw_call *call = shard->spare_calls;
    if (call == NULL)
        return mem_zalloc(sizeof *call);
    shard->spare_calls = call->op;
    shard->spare_calls_count--;
    *call = (struct raw_call){0};
    return call;
}

static void call_give_back(struct tikv_shard *shard, struct raw_call *call)
{
    buf_deinit(&call->bounds);
    buf_deinit(&call->region_bound);
    if (shard->spare_calls_count >= SPARE_CALLS_MAX || shard->closed) {
        mem_free(call);
        return;
    }
    call->op = shard->spare_calls;
    shard->spare_calls = call;
    shard->spare_calls_count++;
}

struct raw_call *op_add_call(struct tikv_op *op, enum raw_kind kind,
                             const struct raw_call_methods *methods)
{
    struct raw_call *call = call_new(op->shard);
    if (call == NULL)
        return NULL;
    call->base.cluster = &op->shard->cluster;
    call->methods = methods;
    call->base.message = kvs_op_of_tikv(op)->message;
    call->base.deadline_ms = op->operation.deadline_ms;
    call->kind = kind;
    call->op = op;
    list_init(&call->base.node);
    list_init(&call->op_node);
    return call;
}

void op_start_call(struct raw_call *call)
{
    struct tikv_op *op = op_of_call(call);
    if (op->active >= OP_CALLS_MAX) {
        list_append(&op->parked, &call->op_node);
        return;
    }
    op->active++;
    list_append(&op->calls, &call->op_node);
    raw_call_start(call);
}

void op_free_call(struct raw_call *call)
{
    list_remove(&call->op_node);
    call_give_back(op_of_call(call)->shard, call);
}

void op_end_call(struct raw_call *call)
{
    struct tikv_op *op = op_of_call(call);
    op_free_call(call);
    op->active--;
    struct list *next = list_pop(&op->parked);
    if (next != NULL)
        op_start_call(list_entry(next, struct raw_call, op_node));
    else if (op->active == 0)
        op_next_phase(op);
}

/* True when one of them may have written something. */
static bool op_drop_calls(struct tikv_op *op)
{
    bool maybe_written = false;
    struct list *at;
    while ((at = list_pop(&op->parked)) != NULL)
        op_free_call(list_entry(at, struct raw_call, op_node));
    while ((at = list_pop(&op->calls)) != NULL) {
        struct raw_call *call = list_entry(at, struct raw_call, op_node);
        maybe_written |= raw_call_cancel(call);
        op_free_call(call);
    }
    op->active = 0;
    return maybe_written;
}

/* --- the end ------------------------------------------------------------------------------------
 */

void op_end(struct tikv_op *op, int error)
{
    assert(op->active == 0);
    mem_free(op->order);
    op->order = NULL;
    page_deinit(&op->page);
    tikv_op_on_end(op, error);
}

static void op_fail(struct tikv_op *op, bool maybe_written, int error, const char *why)
{
    kvs_op *base = kvs_op_of_tikv(op);
    if (op->ping != NULL) {
        pd_request_cancel(op->ping);
        mem_free(op->ping);
        op->ping = NULL;
    }
    char text[MESSAGE_SIZE]; /* `why` may lie in the message */
    snprintf(text, sizeof text, "%s", why);
    maybe_written |= op_drop_calls(op);
    if (op->written)
        snprintf(base->message, sizeof base->message,
                 "a part was written, the rest was not: %.110s", text);
    else
        snprintf(base->message, sizeof base->message, "%s", text);
    op_end(op, maybe_written || op->written ? KVS_ERR_OUTCOME_UNKNOWN : error);
}

void op_fail_call(struct raw_call *call, int error, const char *why)
{
    op_fail(op_of_call(call), call->base.maybe_done && raw_kind_is_write(call->kind), error, why);
}

void tikv_op_give_up(struct tikv_op *op, int error, const char *why)
{
    const char *last = kvs_op_of_tikv(op)->message; /* what an attempt has met */
    op_fail(op, false, error, last[0] != '\0' ? last : why);
}

/* --- one key ------------------------------------------------------------------------------------
 */

static int point_fit(struct raw_call *call, const struct region *region,
                     struct raw_request *request)
{
    (void)region;
    struct tikv_op *op = op_of_call(call);
    const kvs_op *base = kvs_op_of_tikv(op);
    request->family = raw_family_name(base->family);
    if (call->kind == RAW_GET || call->kind == RAW_TTL)
        return 0;
    request->for_cas = !op->shard->plain_writes;
    if (call->kind == RAW_DELETE)
        return 0;
    request->value = base->value;
    request->ttl_seconds = raw_ttl_seconds(base->ttl_ms);
    request->absent = (base->flags & KVS_OP_FLAG_EXPECT_ABSENT) != 0;
    request->expected = request->absent ? slice_make(NULL, 0) : base->expected;
    return 0;
}

static int op_copy_result(kvs_op *op, kvs_slice value)
{
    void *copy = mem_copy(value.data, value.size);
    if (copy == NULL)
        return KVS_ERR_NO_MEMORY;
    op->result = slice_make(copy, value.size);
    return 0;
}

static int take_cas(kvs_op *op, const struct raw_reply *reply)
{
    if (reply->succeeded)
        return 0;
    op->number = !reply->not_found;
    int error = reply->not_found ? 0 : op_copy_result(op, reply->value);
    return error != 0 ? error : KVS_ERR_CONDITION_FAILED;
}

static int take_ttl(kvs_op *op, const struct raw_reply *reply)
{
    if (reply->not_found)
        return KVS_ERR_NOT_FOUND;
    uint64_t seconds =
        reply->ttl_seconds < KVS_TTL_MS_MAX / 1000 ? reply->ttl_seconds : KVS_TTL_MS_MAX / 1000;
    op->number = (int64_t)(seconds * 1000);
    return 0;
}

static void point_on_reply(struct raw_call *call, struct raw_reply *reply)
{
    struct tikv_op *op = op_of_call(call);
    kvs_op *base = kvs_op_of_tikv(op);
    int error = 0;
    if (call->kind == RAW_GET)
        error = reply->not_found ? KVS_ERR_NOT_FOUND : op_copy_result(base, reply->value);
    else if (call->kind == RAW_CAS)
        error = take_cas(base, reply);
    else if (call->kind == RAW_TTL)
        error = take_ttl(base, reply);
    op_free_call(call);
    op->active--;
    op_end(op, error);
}

static const struct raw_call_methods point_methods = {
    .fit = point_fit,
    .on_reply = point_on_reply,
    .on_failed = op_fail_call,
};

static int point_begin(struct tikv_op *op, enum raw_kind kind)
{
    struct raw_call *call = op_add_call(op, kind, &point_methods);
    if (call == NULL)
        return KVS_ERR_NO_MEMORY;
    call->base.key = kvs_op_of_tikv(op)->key;
    op_start_call(call);
    return 0;
}

/* --- the others ---------------------------------------------------------------------------------
 */

static void ping_on_done(struct pd_request *request, int error, kvs_slice reply, const char *why)
{
    (void)reply;
    struct tikv_op *op = *(struct tikv_op **)(request + 1);
    kvs_op *base = kvs_op_of_tikv(op);
    op->ping = NULL;
    if (error != 0)
        snprintf(base->message, sizeof base->message, "%s", why);
    pd_request_deinit(request);
    mem_free(request);
    op_end(op, error);
}

/* PD's leader has to answer. */
static int ping_begin(struct tikv_op *op)
{
    struct pd_request *request = mem_zalloc(sizeof *request + sizeof op);
    if (request == NULL)
        return KVS_ERR_NO_MEMORY;
    memcpy(request + 1, &op, sizeof op);
    request->path = slice_of_string("/pdpb.PD/GetMembers");
    request->done = ping_on_done;
    op->ping = request;
    pd_request_send(&op->shard->cluster.pd, request);
    return 0;
}

static int stats_run(struct tikv_op *op)
{
    kvs_op *base = kvs_op_of_tikv(op);
    char *json = tikv_shard_stats(op->shard);
    if (json == NULL)
        return KVS_ERR_NO_MEMORY;
    base->result = slice_of_string(json);
    return 0;
}

static int op_refuse(struct tikv_op *op, const char *why)
{
    kvs_op *base = kvs_op_of_tikv(op);
    snprintf(base->message, sizeof base->message, "%s", why);
    return KVS_ERR_UNSUPPORTED;
}

static int check_families(struct tikv_op *op)
{
    const kvs_op *base = kvs_op_of_tikv(op);
    unsigned highest = base->family;
    for (uint32_t i = 0; base->kind == KVS_OP_BATCH_WRITE && i < base->count; i++) {
        if (base->mutations[i].family > highest)
            highest = base->mutations[i].family;
    }
    if (highest >= RAW_FAMILIES)
        return op_refuse(op, "TiKV has the column families 0 (default), 1 (write) and 2 (lock)");
    if (highest > 0 && op->shard->cluster.is_v2)
        return op_refuse(op, "a keyspace of TiKV has one column family, 0");
    return 0;
}

/* Returns an error that ends the op; *ret_ended: it has ended well, there is nothing to wait for.
 */
static int op_begin_kind(struct tikv_op *op, bool *ret_ended)
{
    kvs_op *base = kvs_op_of_tikv(op);
    switch (base->kind) {
    case KVS_OP_GET:
        return point_begin(op, RAW_GET);
    case KVS_OP_SET:
        return point_begin(op, RAW_PUT);
    case KVS_OP_CAS:
        return point_begin(op, RAW_CAS);
    case KVS_OP_EXISTS:
    case KVS_OP_REMOVE:
        return raw_exists_begin(op);
    case KVS_OP_SCAN:
        return raw_scan_begin(op);
    case KVS_OP_COUNT:
    case KVS_OP_REMOVE_RANGE:
        return raw_count_begin(op);
    case KVS_OP_TTL:
        return point_begin(op, RAW_TTL);
    case KVS_OP_CHECKSUM:
        return raw_checksum_begin(op);
    case KVS_OP_BATCH_GET:
        *ret_ended = base->count == 0;
        return *ret_ended ? 0 : raw_batch_get_begin(op);
    case KVS_OP_BATCH_WRITE:
        return raw_batch_write_next(op, ret_ended);
    case KVS_OP_PING:
        return ping_begin(op);
    case KVS_OP_STATS:
        *ret_ended = true;
        return stats_run(op);
    case KVS_OP_SYNC: /* TiKV acknowledges what its raft log has on disk */
        *ret_ended = true;
        return 0;
    case KVS_OP_CHECKPOINT:
        return op_refuse(op, "a TiKV cluster has backup tools of its own");
    default:
        return op_refuse(op, "a TiKV cluster compacts by itself");
    }
}

void tikv_op_begin(struct tikv_op *op)
{
    bool ended = false;
    int error = check_families(op);
    if (error == 0)
        error = op_begin_kind(op, &ended);
    if (error != 0) {
        op_drop_calls(op);
        op_end(op, error);
    } else if (ended) {
        op_end(op, 0);
    }
}

/* All calls of a phase have ended well. */
static void op_next_phase(struct tikv_op *op)
{
    kvs_op *base = kvs_op_of_tikv(op);
    int error = 0;
    bool ended = true;
    if (base->kind == KVS_OP_BATCH_GET) {
        error = raw_batch_get_end(op);
    } else if (base->kind == KVS_OP_CHECKSUM) {
        error = store_op_set_checksum(base, &op->checksum);
    } else if (base->kind == KVS_OP_BATCH_WRITE) {
        op->written = true;
        error = raw_batch_write_next(op, &ended);
    } else if (base->kind == KVS_OP_REMOVE && op->phase++ == 0) {
        error = base->number == 0 ? KVS_ERR_NOT_FOUND : point_begin(op, RAW_DELETE);
        base->number = 0;
        ended = false;
    } else if (base->kind == KVS_OP_REMOVE_RANGE && op->phase++ == 0) {
        ended = base->number == 0;
        if (!ended)
            error = raw_delete_range_begin(op, base->family, base->key, base->end_key);
    }
    if (error != 0) {
        bool maybe_written = op_drop_calls(op) || op->written;
        op_end(op, maybe_written ? KVS_ERR_OUTCOME_UNKNOWN : error);
    } else if (ended) {
        op_end(op, 0);
    }
}

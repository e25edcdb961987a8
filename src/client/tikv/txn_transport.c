/*
 * client/tikv/txn_transport.c: see client/tikv/txn_transport.h.
 *
 * The cluster knows nothing of time limits, and forgets a call that is cancelled: here each call
 * has a place in a heap of deadlines, and one that ends early is told at the end of the turn.
 *
 * What GC has passed is refused: a read when its answer has come, so that nothing is removed
 * between the look at the safe point and the read; what writes before it is sent. The answer of a
 * read waits while nothing is known of the safe point.
 */
#include "client/tikv/txn_transport.h"

#include "base/mem.h"
#include "client/tikv/cluster_parts.h"
#include "client/tikv/pd_safe_point.h"
#include "client/tikv/pd_tso.h"
#include "client/tikv/txn_chores.h"
#include "client/tikv/txn_wire.h"
#include "proto/tikv/key.h"

#include <assert.h>
#include <kvs/error.h>
#include <stdio.h>

/* One request: what a store takes at once is 8 MiB. */
#define BATCH_COUNT_MAX 8192u
#define BATCH_SIZE_MAX (1024u * 1024)
/* A batch get of more keys has a message of its own for its answer. */
#define STREAM_GETS_MAX 64u

static_assert(MESSAGE_SIZE == TXN_WHY_SIZE, "the cluster writes into the call");

struct tikv_transport {
    struct txn_transport base;
    struct tikv_cluster cluster;
    struct pd_tso tso;
    struct pd_safe_point safe_point;
    struct tikv_chores chores;
    struct heap deadlines;
    struct list ended; /* struct tikv_call: done is due */
    struct list held;  /* struct tikv_call: a read that waits for the safe point */
    struct tls_context *tls_context;
    kvs_thread_pool *pool;
    uint32_t connect_timeout_ms;
    uint32_t timeout_ms;
};

/* In txn_call.extra. */
struct tikv_call {
    struct cluster_call base;
    struct heap_node deadline;
    struct list node; /* of ended or held */
    bool is_held;
    int error;
    uint32_t scan_limit_max;
};

static struct tikv_transport *transport_of(struct txn_transport *base)
{
    return CONTAINER_OF(base, struct tikv_transport, base);
}

static struct tikv_call *tikv_call_of(struct txn_call *call)
{
    return (struct tikv_call *)(void *)call->extra;
}

static struct txn_call *txn_call_of(struct tikv_call *call)
{
    return CONTAINER_OF((void *)call, struct txn_call, extra);
}

static struct tikv_call *tikv_call_of_base(struct cluster_call *base)
{
    return CONTAINER_OF(base, struct tikv_call, base);
}

/* --- where a call goes --------------------------------------------------------------------------
 */

/* The region's bounds as user's keys. */
static struct txn_bounds bounds_of(const struct tikv_cluster *cluster, const struct region *region)
{
    kvs_slice prefix = tikv_cluster_prefix(cluster);
    struct txn_bounds bounds = {.start = region->start, .end = region->end};
    if (prefix.size == 0)
        return bounds;
    bool start_inside = region->start.size >= prefix.size &&
                        memcmp(region->start.data, prefix.data, prefix.size) == 0;
    bool end_inside =
        region->end.size > prefix.size && memcmp(region->end.data, prefix.data, prefix.size) == 0;
    bounds.start = start_inside ? slice_make(region->start.data + prefix.size,
                                             region->start.size - prefix.size)
                                : slice_make(NULL, 0);
    bounds.end = end_inside
                     ? slice_make(region->end.data + prefix.size, region->end.size - prefix.size)
                     : slice_make(NULL, 0);
    return bounds;
}

static struct txn_wire_place place_of(const struct tikv_call *call)
{
    const struct cluster_call *base = &call->base;
    return (struct txn_wire_place){
        .cluster_id = base->cluster->pd.members.cluster_id,
        .region_id = base->region_id,
        .conf_ver = base->conf_ver,
        .version = base->version,
        .peer_id = base->peer_id,
        .store_id = base->store_id,
        .is_v2 = base->cluster->is_v2,
        .keyspace_id = base->cluster->keyspace_id,
        .prefix = tikv_cluster_prefix(base->cluster),
        .scan_limit_max = call->scan_limit_max,
    };
}

#define BELOW_SAFE_POINT "the transaction is older than what garbage collection has left"

/* Who writes below may miss a conflict. One that may have been carried out goes on. */
static int check_write(struct tikv_call *tikv_call, struct txn_call *call)
{
    const struct pd_safe_point *safe_point = &transport_of(call->transport)->safe_point;
    enum txn_command_kind kind = (enum txn_command_kind)call->command.base.kind;
    uint64_t start_ts = TXN_TS_MAX;
    if (kind == TXN_PREWRITE)
        start_ts = call->command.prewrite.start_ts;
    else if (kind == TXN_PESSIMISTIC_LOCK)
        start_ts = call->command.lock.start_ts;
    if (tikv_call->base.maybe_done || !pd_safe_point_is_past(safe_point, start_ts))
        return 0;
    snprintf(call->why, sizeof call->why, BELOW_SAFE_POINT);
    return KVS_ERR_TXN_TOO_OLD;
}

static int call_write(struct cluster_call *base, const struct call_place *place,
                      struct buf *message, bool as_command)
{
    struct tikv_call *tikv_call = tikv_call_of_base(base);
    struct txn_call *call = txn_call_of(tikv_call);
    const struct txn_bounds bounds = bounds_of(base->cluster, place->region);
    call->maybe_done = base->maybe_done;
    int error = call->methods->fit(call, &bounds);
    if (error == 0)
        error = check_write(tikv_call, call);
    if (error != 0)
        return error;
    struct txn_wire_place wire = place_of(tikv_call);
    wire.max_execution_ms = place->max_execution_ms;
    return txn_wire_write(call, &wire, message, as_command);
}

/* --- the end of a call --------------------------------------------------------------------------
 */

static void call_end(struct tikv_call *tikv_call, int error)
{
    struct txn_call *call = txn_call_of(tikv_call);
    struct tikv_transport *transport = transport_of(call->transport);
    heap_remove(&transport->deadlines, &tikv_call->deadline);
    call->maybe_done = tikv_call->base.maybe_done;
    call->methods->done(call, error);
}

static void call_on_failed(struct cluster_call *base, int error, const char *why)
{
    struct tikv_call *tikv_call = tikv_call_of_base(base);
    struct txn_call *call = txn_call_of(tikv_call);
    if (why != call->why)
        snprintf(call->why, sizeof call->why, "%s", why);
    call_end(tikv_call, error);
}

static const struct txn_read *read_of(const struct txn_call *call)
{
    switch (call->command.base.kind) {
    case TXN_GET:
        return &call->command.get.read;
    case TXN_BATCH_GET:
        return &call->command.batch_get.read;
    case TXN_SCAN:
        return &call->command.scan.read;
    default:
        return NULL;
    }
}

/* The answer is there, and the safe point known. */
static void call_end_read(struct tikv_call *tikv_call)
{
    struct txn_call *call = txn_call_of(tikv_call);
    bool is_past =
        pd_safe_point_is_past(&transport_of(call->transport)->safe_point, read_of(call)->ts);
    if (is_past)
        snprintf(call->why, sizeof call->why, BELOW_SAFE_POINT);
    call_end(tikv_call, is_past ? KVS_ERR_TXN_TOO_OLD : 0);
}

static void call_take(struct tikv_call *tikv_call)
{
    struct txn_call *call = txn_call_of(tikv_call);
    struct tikv_transport *transport = transport_of(call->transport);
    if (read_of(call) == NULL) {
        call_end(tikv_call, 0);
    } else if (pd_safe_point_is_known(&transport->safe_point, loop_now_ms(transport->base.loop))) {
        call_end_read(tikv_call);
    } else {
        tikv_call->is_held = true;
        list_append(&transport->held, &tikv_call->node);
    }
}

static void on_safe_point(struct pd_safe_point *safe_point)
{
    struct tikv_transport *transport = CONTAINER_OF(safe_point, struct tikv_transport, safe_point);
    struct list *at;
    while ((at = list_pop(&transport->held)) != NULL) {
        struct tikv_call *tikv_call = list_entry(at, struct tikv_call, node);
        tikv_call->is_held = false;
        call_end_read(tikv_call);
    }
}

static void call_on_answer(struct cluster_call *base, kvs_slice body)
{
    struct tikv_call *tikv_call = tikv_call_of_base(base);
    struct txn_call *call = txn_call_of(tikv_call);
    const struct txn_wire_place place = place_of(tikv_call);
    char name[LINK_NAME_SIZE];
    char why[LINK_NAME_SIZE + 64];
    kvs_slice region_error;
    int error = txn_wire_read(call, &place, body, &region_error);
    if (error != 0) {
        base->maybe_done = true;
        snprintf(why, sizeof why, "%s: an answer that cannot be read",
                 cluster_call_peer(base, name));
        cluster_call_fail(base, error, why);
    } else if (region_error.data != NULL) {
        cluster_call_on_region_error(base, region_error);
    } else {
        cluster_call_end(base);
        call_take(tikv_call);
    }
}

static bool call_make_smaller(struct cluster_call *base)
{
    struct tikv_call *tikv_call = tikv_call_of_base(base);
    struct txn_call *call = txn_call_of(tikv_call);
    uint32_t keys = call->to - call->from;
    if (call->command.base.kind == TXN_SCAN && call->command.scan.limit > 1)
        tikv_call->scan_limit_max = call->command.scan.limit / 4 + 1;
    else if (call->command.base.kind == TXN_BATCH_GET && keys > 1)
        call->keys_max = keys / 4 + 1;
    else
        return false;
    return true;
}

static const struct cluster_call_methods call_methods = {
    .write = call_write,
    .on_answer = call_on_answer,
    .on_failed = call_on_failed,
    .make_smaller = call_make_smaller,
};

/* --- starting and giving up ---------------------------------------------------------------------
 */

/* done is called at the end of the turn. */
static void end_later(struct tikv_call *tikv_call, int error)
{
    struct tikv_transport *transport = transport_of(txn_call_of(tikv_call)->transport);
    tikv_call->error = error;
    heap_remove(&transport->deadlines, &tikv_call->deadline);
    list_append(&transport->ended, &tikv_call->node);
}

static bool is_write(enum txn_command_kind kind)
{
    return kind == TXN_PREWRITE || kind == TXN_COMMIT;
}

static bool is_large(const struct txn_call *call)
{
    if (call->command.base.kind == TXN_SCAN)
        return !call->command.scan.keys_only;
    return call->command.base.kind == TXN_BATCH_GET && call->to - call->from > STREAM_GETS_MAX;
}

static void tikv_start(struct txn_call *call)
{
    struct tikv_transport *transport = transport_of(call->transport);
    struct tikv_call *tikv_call = tikv_call_of(call);
    enum txn_command_kind kind = (enum txn_command_kind)call->command.base.kind;
    *tikv_call = (struct tikv_call){0};
    list_init(&tikv_call->node);
    tikv_call->base = (struct cluster_call){
        .cluster = &transport->cluster,
        .methods = &call_methods,
        .message = call->why,
        .path = txn_wire_path(kind),
        .command = txn_wire_number(kind),
        .deadline_ms = call->deadline_ms,
        .key = call->key,
        .below = call->below,
        .is_write = is_write(kind),
        .alone = is_large(call),
        .backoff.budget_ms = call->budget_ms,
    };
    if (call->below && call->key.size == 0 && transport->cluster.is_v2) {
        tikv_call->base.key =
            slice_make(transport->cluster.prefix_end, sizeof transport->cluster.prefix_end);
        tikv_call->base.key_is_full = true;
    }
    if (heap_push(&transport->deadlines, &tikv_call->deadline, call->deadline_ms) != 0) {
        list_init(&tikv_call->base.node);
        snprintf(call->why, sizeof call->why, "no memory for a request");
        end_later(tikv_call, KVS_ERR_NO_MEMORY);
        return;
    }
    cluster_call_start(&tikv_call->base);
}

static void give_up(struct tikv_call *tikv_call, int error)
{
    struct txn_call *call = txn_call_of(tikv_call);
    if (!list_empty(&tikv_call->node) && !tikv_call->is_held)
        return; /* it has ended */
    list_remove(&tikv_call->node);
    if (error == KVS_ERR_TIMEOUT && tikv_call->is_held)
        snprintf(call->why, sizeof call->why,
                 "PD does not tell the safe point of garbage collection: %.95s",
                 transport_of(call->transport)->safe_point.why);
    tikv_call->is_held = false;
    if (cluster_call_cancel(&tikv_call->base))
        tikv_call->base.maybe_done = true;
    if (error == KVS_ERR_TIMEOUT && call->why[0] == '\0') {
        const char *trouble = tikv_call->base.cluster->pd.trouble;
        snprintf(call->why, sizeof call->why, "%.140s",
                 trouble[0] != '\0' ? trouble : "no answer in time");
    }
    end_later(tikv_call, error);
}

static void tikv_cancel(struct txn_call *call)
{
    give_up(tikv_call_of(call), KVS_ERR_CANCELLED);
}

/* --- the time -----------------------------------------------------------------------------------
 */

static void tikv_timestamp(struct txn_timestamp *request)
{
    pd_tso_ask(&transport_of(request->transport)->tso, request);
}

static void tikv_give_up_timestamp(struct txn_timestamp *request)
{
    pd_tso_give_up(&transport_of(request->transport)->tso, request);
}

/* --- chores -------------------------------------------------------------------------------------
 */

static void tikv_gc_begin(struct txn_chore *chore)
{
    tikv_chores_gc_begin(&transport_of(chore->transport)->chores, chore);
}

static void tikv_gc(struct txn_chore *chore)
{
    tikv_chores_gc_end(&transport_of(chore->transport)->chores, chore);
}

static void tikv_destroy_range(struct txn_chore *chore)
{
    tikv_chores_destroy_range(&transport_of(chore->transport)->chores, chore);
}

/* --- turns --------------------------------------------------------------------------------------
 */

static void run_ended(struct tikv_transport *transport)
{
    struct list ended;
    struct list *at;
    list_init(&ended);
    list_move(&ended, &transport->ended);
    while ((at = list_pop(&ended)) != NULL) {
        struct tikv_call *tikv_call = list_entry(at, struct tikv_call, node);
        call_end(tikv_call, tikv_call->error);
    }
}

static void tikv_run(struct txn_transport *base, uint64_t now_ms)
{
    struct tikv_transport *transport = transport_of(base);
    struct heap_node *first;
    if (transport->cluster.closing && transport->cluster.pd_closed)
        return;
    while ((first = heap_first(&transport->deadlines)) != NULL && first->key <= now_ms)
        give_up(CONTAINER_OF(first, struct tikv_call, deadline), KVS_ERR_TIMEOUT);
    run_ended(transport);
    tikv_chores_run(&transport->chores, now_ms);
    pd_safe_point_run(&transport->safe_point, now_ms);
    pd_tso_run(&transport->tso, now_ms);
    tikv_cluster_run(&transport->cluster, now_ms);
}

static uint64_t tikv_timer(const struct txn_transport *base)
{
    const struct tikv_transport *transport = CONTAINER_OF(base, struct tikv_transport, base);
    uint64_t due_ms = tikv_cluster_timer(&transport->cluster);
    uint64_t tso_ms = pd_tso_timer(&transport->tso);
    uint64_t safe_point_ms = pd_safe_point_timer(&transport->safe_point);
    uint64_t chores_ms = tikv_chores_timer(&transport->chores);
    const struct heap_node *first = heap_first(&transport->deadlines);
    if (!list_empty(&transport->ended))
        return 0;
    if (tso_ms < due_ms)
        due_ms = tso_ms;
    if (safe_point_ms < due_ms)
        due_ms = safe_point_ms;
    if (chores_ms < due_ms)
        due_ms = chores_ms;
    return first != NULL && first->key < due_ms ? first->key : due_ms;
}

/* --- life ---------------------------------------------------------------------------------------
 */

static void tikv_on_first(struct tikv_cluster *cluster, int error, const char *why)
{
    struct tikv_transport *transport = CONTAINER_OF(cluster, struct tikv_transport, cluster);
    if (error == 0)
        pd_safe_point_start(&transport->safe_point,
                            cluster->is_v2 ? cluster->keyspace_id : KEYSPACE_NONE);
    transport->base.opened(&transport->base, error, why);
}

static void tikv_on_closed(struct tikv_cluster *cluster)
{
    struct tikv_transport *transport = CONTAINER_OF(cluster, struct tikv_transport, cluster);
    transport->base.closed(&transport->base);
}

static const struct cluster_events tikv_events = {
    .on_first = tikv_on_first,
    .on_closed = tikv_on_closed,
};

static void tikv_open(struct txn_transport *base)
{
    struct tikv_transport *transport = transport_of(base);
    tikv_cluster_init(&transport->cluster, base->loop, transport->pool, transport->tls_context,
                      transport->connect_timeout_ms, &tikv_events);
    pd_tso_init(&transport->tso, &transport->cluster.pd);
    tikv_chores_init(&transport->chores, &transport->cluster, &transport->safe_point,
                     transport->timeout_ms);
    list_init(&transport->ended);
    list_init(&transport->held);
    transport->safe_point.pd = &transport->cluster.pd;
    transport->safe_point.told = on_safe_point;
    transport->safe_point.due_ms = UINT64_MAX; /* until PD is there */
    transport->cluster.first_told = false;
    tikv_cluster_start(&transport->cluster);
}

static void tikv_close(struct txn_transport *base)
{
    pd_safe_point_stop(&transport_of(base)->safe_point);
    tikv_cluster_close(&transport_of(base)->cluster);
}

static void tikv_free(struct txn_transport *base)
{
    struct tikv_transport *transport = transport_of(base);
    if (transport->cluster.loop != NULL) { /* it was opened */
        tikv_cluster_deinit(&transport->cluster);
        pd_tso_deinit(&transport->tso);
        heap_deinit(&transport->deadlines);
    }
    mem_free(transport);
}

static const struct txn_transport_methods tikv_methods = {
    .call_extra = sizeof(struct tikv_call),
    .start = tikv_start,
    .cancel = tikv_cancel,
    .timestamp = tikv_timestamp,
    .give_up_timestamp = tikv_give_up_timestamp,
    .gc_begin = tikv_gc_begin,
    .gc = tikv_gc,
    .destroy_range = tikv_destroy_range,
    .open = tikv_open,
    .run = tikv_run,
    .timer = tikv_timer,
    .close = tikv_close,
    .free = tikv_free,
};

int tikv_transport_new(const struct tikv_transport_options *options, struct loop *loop,
                       struct txn_transport **ret_transport, char ret_why[320])
{
    const char *keyspace = options->keyspace != NULL ? options->keyspace : "";
    struct tikv_transport *transport = mem_zalloc(sizeof *transport);
    if (transport == NULL) {
        snprintf(ret_why, 320, "no memory for a client");
        return KVS_ERR_NO_MEMORY;
    }
    int error = pd_members_init(&transport->cluster.pd.members, options->pd, ret_why, 320);
    if (error == 0 && strlen(keyspace) >= sizeof transport->cluster.keyspace) {
        snprintf(ret_why, 320, "the name of the keyspace is too long");
        error = KVS_ERR_INVALID_ARGUMENT;
    }
    if (error != 0) {
        mem_free(transport);
        return error;
    }
    memcpy(transport->cluster.keyspace, keyspace, strlen(keyspace) + 1); /* fits: checked above */
    transport->cluster.key_mode = KEY_MODE_TXN;
    transport->base.methods = &tikv_methods;
    transport->base.loop = loop;
    transport->base.batch_count_max = BATCH_COUNT_MAX;
    transport->base.batch_bytes_max = BATCH_SIZE_MAX;
    transport->tls_context = options->tls_context;
    transport->pool = options->pool;
    transport->connect_timeout_ms = options->connect_timeout_ms;
    transport->timeout_ms = options->timeout_ms;
    transport->safe_point.value = options->safe_point;
    *ret_transport = &transport->base;
    return 0;
}

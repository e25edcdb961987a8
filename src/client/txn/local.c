/*
 * client/txn/local.c: see client/txn/local.h.
 *
 * Everything lies together: all of a transaction is one batch, unless it is larger than the node
 * takes at once. A read whose data is in memory is carried out when it is started and told in the
 * same turn of the loop; others and writes go to the node, which completes them on the loop.
 *
 * They go there in lists: what the tasks of one round start is submitted by a task behind them. So
 * the node begins one view, and the engine's writer is given one chain and woken once, for many.
 * A list does not grow beyond GATHERED_MAX: then the writer works while the loop makes the next,
 * and what has come by the time it is done, of many lists, is its next group.
 */
#include "client/txn/local.h"

#include "base/mem.h"
#include "base/memcomparable.h"
#include "runtime/waiting.h"

#include <assert.h>
#include <stdio.h>

/* What it makes the node stage, with less than 320 bytes for each key that are not counted, is not
 * more than that takes: twice KVS_BATCH_SIZE_MAX. Not counted is who else shares a lock in share
 * mode; when these are many, and the keys, too, the node refuses it (TOO_LARGE). */
#define LOCAL_BATCH_BYTES_MAX (40u * 1024 * 1024)
#define GATHERED_MAX 8u

struct local_transport {
    struct txn_transport base;
    struct local_engine *local;
    struct task_list gathered; /* commands that the node does not have yet */
    unsigned gathered_count;
    bool submit_posted;
    struct task submit_task;
    struct task open_task;
    struct task close_task;
};

struct local_call {
    struct task task;
};

static struct local_transport *transport_of(struct txn_transport *base)
{
    return CONTAINER_OF(base, struct local_transport, base);
}

/* --- the engine ---------------------------------------------------------------------------------
 */

struct local_engine *local_engine_new(struct engine *engine, uint32_t value_size_max)
{
    struct local_engine *local = mem_zalloc(sizeof *local);
    if (local == NULL)
        return NULL;
    local->engine = engine;
    local->value_size_max = value_size_max;
    local->refs = 1;
    pthread_mutex_init(&local->mutex, NULL);
    return local;
}

void local_engine_ref(struct local_engine *local)
{
    pthread_mutex_lock(&local->mutex);
    local->refs++;
    pthread_mutex_unlock(&local->mutex);
}

int local_engine_close_blocking(struct local_engine *local)
{
    if (local->node != NULL) {
        txn_node_free(local->node);
        tso_free(local->tso);
        gc_state_free(local->gc);
        meta_store_deinit(&local->meta);
    }
    int error = engine_close_blocking(local->engine);
    pthread_mutex_destroy(&local->mutex);
    mem_free(local);
    return error;
}

static void close_on_closed(struct task *task)
{
    struct local_engine_close *close = CONTAINER_OF(task, struct local_engine_close, task);
    close->done(close->arg, close->error);
}

static void close_run_blocking(struct task *task)
{
    struct local_engine_close *close = CONTAINER_OF(task, struct local_engine_close, task);
    close->error = local_engine_close_blocking(close->local);
    close->task.run = close_on_closed;
    loop_post(close->loop, &close->task);
}

static int settle_prepare(struct meta_change *change, struct meta_batch *batch)
{
    const struct local_engine *local =
        CONTAINER_OF(change, struct local_engine_close, settle)->local;
    struct txn_node_stats stats;
    txn_node_stats(local->node, &stats);
    tso_put_end(local->tso, stats.max_ts, batch);
    return 0;
}

static void settle_publish(struct meta_change *change)
{
    (void)change;
}

static void close_on_settled(void *arg)
{
    struct local_engine_close *close = arg;
    close->task.run = close_run_blocking;
    pool_submit_task(close->pool, &close->task);
}

/* If the bound was not written, the time goes on ahead. */
static void settle_done(struct meta_change *change, int error)
{
    struct local_engine_close *close = CONTAINER_OF(change, struct local_engine_close, settle);
    (void)error;
    tso_settle(close->local->tso, close_on_settled, close);
}

void local_engine_release(struct local_engine *local, kvs_thread_pool *pool, struct loop *loop,
                          struct local_engine_close *close, void (*done)(void *arg, int error),
                          void *arg)
{
    pthread_mutex_lock(&local->mutex);
    bool last = --local->refs == 0;
    pthread_mutex_unlock(&local->mutex);
    if (!last) {
        done(arg, 0);
        return;
    }
    *close = (struct local_engine_close){
        .local = local, .pool = pool, .loop = loop, .done = done, .arg = arg};
    if (local->node == NULL) {
        close->task.run = close_run_blocking;
        pool_submit_task(pool, &close->task);
        return;
    }
    close->settle = (struct meta_change){
        .prepare = settle_prepare, .publish = settle_publish, .done = settle_done};
    meta_store_change(&local->meta, loop, &close->settle);
}

/* The first timestamp: the clock's bound has to be moved before there is one. */
struct first_time {
    struct tso_request request;
    struct waiting waiting;
};

static void first_time_done(struct tso_request *request)
{
    struct first_time *first = CONTAINER_OF(request, struct first_time, request);
    waiting_end(&first->waiting);
}

static int first_time_blocking(struct tso *tso, struct loop *loop, uint64_t *ret_ts)
{
    struct first_time first = {
        .request = {.count = 1, .loop = loop, .done = first_time_done},
        .waiting = WAITING_INIT,
    };
    tso_wait(tso, &first.request);
    waiting_for_end(&first.waiting);
    *ret_ts = txn_ts_make(first.request.last.physical, first.request.last.logical);
    return first.request.error;
}

static int start_txn(struct local_engine *local, struct loop *loop)
{
    uint64_t now_ts = 0;
    meta_store_init(&local->meta, local->engine);
    int error = tso_open_blocking(&local->meta, NULL, &local->tso);
    bool opened = error == 0;
    if (error == 0)
        error = first_time_blocking(local->tso, loop, &now_ts);
    local->gc = NULL;
    if (error == 0)
        error = gc_state_open_blocking(&local->meta, &local->gc);
    if (error == 0) {
        const struct txn_node_options options = {
            .max_ts = now_ts,
            .value_size_max = local->value_size_max,
            .dead_before_ts = now_ts,
            .refuses_old = true,
            .safe_point = gc_state_safe_point(local->gc),
        };
        local->opened_ts = now_ts;
        error = txn_node_new(local->engine, &options, &local->node);
    }
    if (error != 0 && opened)
        tso_free(local->tso);
    if (error != 0)
        gc_state_free(local->gc);
    if (error != 0)
        meta_store_deinit(&local->meta);
    return error;
}

int local_engine_start_txn_blocking(struct local_engine *local, struct loop *loop)
{
    pthread_mutex_lock(&local->mutex);
    int error = local->node == NULL ? start_txn(local, loop) : 0;
    pthread_mutex_unlock(&local->mutex);
    return error;
}

/* --- calls --------------------------------------------------------------------------------------
 */

static int encode_bound(struct arena *arena, kvs_slice key, kvs_slice *ret_encoded)
{
    *ret_encoded = slice_make(NULL, 0);
    if (key.size == 0)
        return 0;
    size_t size = memcomparable_size(key.size);
    uint8_t *encoded = arena_alloc(arena, size);
    if (encoded == NULL)
        return KVS_ERR_NO_MEMORY;
    memcomparable_encode(key, encoded);
    *ret_encoded = slice_make(encoded, size);
    return 0;
}

static struct txn_range *range_of(struct txn_call *call)
{
    switch (call->command.base.kind) {
    case TXN_SCAN:
        return &call->command.scan.range;
    case TXN_SCAN_LOCK:
        return &call->command.scan_lock.range;
    case TXN_PESSIMISTIC_ROLLBACK:
        return &call->command.pessimistic_rollback.range;
    case TXN_RESOLVE_LOCK:
        return &call->command.resolve_lock.range;
    case TXN_DELETE_RANGE:
        return &call->command.delete_range.range;
    case TXN_GC:
        return &call->command.gc.range;
    default:
        return NULL;
    }
}

static int encode_range(struct txn_call *call)
{
    struct txn_range *range = range_of(call);
    if (range == NULL)
        return 0;
    struct arena *arena = &call->command.base.arena;
    int error = encode_bound(arena, call->start, &range->start);
    return error != 0 ? error : encode_bound(arena, call->end, &range->end);
}

static void call_on_done(struct task *task)
{
    struct txn_command *command = CONTAINER_OF(task, struct txn_command, op.task);
    struct txn_call *call = command->user;
    int error = command->op.error;
    if (error != 0) {
        snprintf(call->why, sizeof call->why, "%s", kvs_error_text(error));
        call->maybe_done = error == KVS_ERR_IO || error == KVS_ERR_STORAGE_FAILED;
    }
    call->methods->done(call, error);
}

static void submit_gathered(struct local_transport *transport)
{
    struct task_list gathered = transport->gathered;
    transport->gathered = (struct task_list){0};
    transport->gathered_count = 0;
    if (gathered.first != NULL)
        txn_submit_list(transport->local->node, &gathered);
}

static void on_submit(struct task *task)
{
    struct local_transport *transport = CONTAINER_OF(task, struct local_transport, submit_task);
    transport->submit_posted = false;
    submit_gathered(transport);
}

static void gather(struct local_transport *transport, struct txn_command *command)
{
    task_list_push(&transport->gathered, &command->op.task);
    if (++transport->gathered_count >= GATHERED_MAX) {
        submit_gathered(transport);
    } else if (!transport->submit_posted) {
        transport->submit_posted = true;
        loop_post(transport->base.loop, &transport->submit_task);
    }
}

static void local_start(struct txn_call *call)
{
    struct local_transport *transport = transport_of(call->transport);
    struct txn_command *command = &call->command.base;
    const struct txn_bounds all = {0};
    int error = call->methods->fit(call, &all);
    if (error == 0)
        error = encode_range(call);
    command->user = call;
    command->op.task.run = call_on_done;
    command->op.loop = transport->base.loop;
    command->op.error = error;
    bool is_read = command->kind <= TXN_SCAN_LOCK;
    if (error != 0 || (is_read && txn_answer(transport->local->node, command)))
        loop_post(transport->base.loop, &command->op.task);
    else
        gather(transport, command);
}

static void local_cancel(struct txn_call *call)
{
    struct local_transport *transport = transport_of(call->transport);
    if (call->command.base.kind != TXN_PESSIMISTIC_LOCK)
        return;
    submit_gathered(transport); /* it cannot be cancelled before */
    txn_cancel_wait(transport->local->node, &call->command.base);
}

static bool local_answer(struct txn_transport *base, struct txn_call *call)
{
    struct txn_command *command = &call->command.base;
    return txn_answer(transport_of(base)->local->node, command) && command->op.error == 0;
}

/* --- the time -----------------------------------------------------------------------------------
 */

static bool local_now(struct txn_transport *base, uint64_t *ret_ts)
{
    struct timestamp last;
    if (!tso_take(transport_of(base)->local->tso, 1, base->loop, &last))
        return false;
    *ret_ts = txn_ts_make(last.physical, last.logical);
    return true;
}

static uint64_t local_given(struct txn_transport *base)
{
    return tso_given(transport_of(base)->local->tso);
}

struct local_time {
    struct tso_request request;
    struct txn_timestamp *asked;
};

static void time_on_done(struct tso_request *request)
{
    struct local_time *time = CONTAINER_OF(request, struct local_time, request);
    struct txn_timestamp *asked = time->asked;
    int error = request->error;
    asked->ts = txn_ts_make(request->last.physical, request->last.logical);
    mem_free(time);
    asked->done(asked, error, error != 0 ? "the clock's bound cannot be written" : "");
}

static void time_no_memory(struct task *task)
{
    struct txn_timestamp *asked = CONTAINER_OF(task, struct txn_timestamp, task);
    asked->done(asked, KVS_ERR_NO_MEMORY, "no memory to ask for the time");
}

static void local_timestamp(struct txn_timestamp *asked)
{
    struct local_transport *transport = transport_of(asked->transport);
    struct local_time *time = mem_zalloc(sizeof *time);
    if (time == NULL) {
        asked->task.run = time_no_memory;
        loop_post(transport->base.loop, &asked->task);
        return;
    }
    time->asked = asked;
    time->request.count = 1;
    time->request.loop = transport->base.loop;
    time->request.done = time_on_done;
    tso_wait(transport->local->tso, &time->request);
}

/* --- chores -------------------------------------------------------------------------------------
 */

static int chore_fit(struct txn_call *call, const struct txn_bounds *bounds)
{
    (void)bounds;
    const struct txn_chore *chore = call->owner;
    call->start = chore->start;
    call->end = chore->end;
    if (call->command.base.kind == TXN_GC)
        call->command.gc.safe_point = chore->safe_point;
    return 0;
}

static void chore_on_done(struct txn_call *call, int error)
{
    struct txn_chore *chore = call->owner;
    snprintf(chore->why, sizeof chore->why, "%s", call->why);
    txn_call_free(call);
    chore->done(chore, error, chore->why);
}

static const struct txn_call_methods chore_methods = {
    .fit = chore_fit,
    .done = chore_on_done,
};

static void chore_start(struct txn_chore *chore, enum txn_command_kind kind)
{
    struct txn_call *call = txn_call_new(chore->transport, kind, &chore_methods, chore);
    if (call == NULL)
        chore->done(chore, KVS_ERR_NO_MEMORY, "no memory for a request");
    else
        txn_call_start(call);
}

/* What it passes is on the disk before anything is removed, so that also who opens the directory
 * later is told. */
struct local_safe_point {
    struct gc_change change;
    struct txn_chore *chore;
};

static_assert(sizeof(struct local_safe_point) <= sizeof((struct txn_chore *)0)->extra,
              "no allocation for a safe point");

static void safe_point_on_done(struct gc_change *change, int error)
{
    struct txn_chore *chore = CONTAINER_OF(change, struct local_safe_point, change)->chore;
    if (error == 0 && chore->cancelled)
        error = KVS_ERR_CANCELLED;
    if (error != 0) {
        chore->done(chore, error, "the safe point cannot be written");
        return;
    }
    chore->safe_point = change->after; /* another one's may be higher */
    chore_start(chore, TXN_GC);
}

static void local_gc(struct txn_chore *chore)
{
    struct local_transport *transport = transport_of(chore->transport);
    struct local_safe_point *safe_point = (void *)chore->extra;
    *safe_point = (struct local_safe_point){
        .change = {.action = GC_UPDATE, .ts = chore->safe_point, .done = safe_point_on_done},
        .chore = chore,
    };
    gc_state_change(transport->local->gc, transport->base.loop, &safe_point->change);
}

static void local_destroy_range(struct txn_chore *chore)
{
    chore_start(chore, TXN_DELETE_RANGE);
}

/* --- life ---------------------------------------------------------------------------------------
 */

static void on_open(struct task *task)
{
    struct local_transport *transport = CONTAINER_OF(task, struct local_transport, open_task);
    transport->base.opened(&transport->base, 0, "");
}

static void local_open(struct txn_transport *base)
{
    struct local_transport *transport = transport_of(base);
    transport->open_task.run = on_open;
    loop_post(base->loop, &transport->open_task);
}

static void on_close(struct task *task)
{
    struct local_transport *transport = CONTAINER_OF(task, struct local_transport, close_task);
    transport->base.closed(&transport->base);
}

static void local_close(struct txn_transport *base)
{
    struct local_transport *transport = transport_of(base);
    transport->close_task.run = on_close;
    loop_post(base->loop, &transport->close_task);
}

static void local_run(struct txn_transport *base, uint64_t now_ms)
{
    (void)base;
    (void)now_ms;
}

static uint64_t local_timer(const struct txn_transport *base)
{
    (void)base;
    return UINT64_MAX;
}

static void local_free(struct txn_transport *base)
{
    mem_free(transport_of(base));
}

static const struct txn_transport_methods local_methods = {
    .call_extra = sizeof(struct local_call),
    .start = local_start,
    .cancel = local_cancel,
    .answer = local_answer,
    .now = local_now,
    .given = local_given,
    .timestamp = local_timestamp,
    .gc = local_gc,
    .destroy_range = local_destroy_range,
    .open = local_open,
    .run = local_run,
    .timer = local_timer,
    .close = local_close,
    .free = local_free,
};

int local_transport_new(struct local_engine *local, struct loop *loop,
                        struct txn_transport **ret_transport)
{
    struct local_transport *transport = mem_zalloc(sizeof *transport);
    if (transport == NULL)
        return KVS_ERR_NO_MEMORY;
    transport->base.methods = &local_methods;
    transport->base.loop = loop;
    transport->base.batch_count_max = KVS_BATCH_COUNT_MAX;
    transport->base.batch_bytes_max = LOCAL_BATCH_BYTES_MAX;
    transport->base.dead_before_ts = local->opened_ts;
    transport->local = local;
    transport->submit_task.run = on_submit;
    *ret_transport = &transport->base;
    return 0;
}

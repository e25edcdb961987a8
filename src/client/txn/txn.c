/* client/txn/txn.c: the life of a transaction, and the queue of its operations; see
 * client/txn/txn_parts.h. */
#include "client/txn/txn_parts.h"

#include "base/clock.h"
#include "base/mem.h"
#include "runtime/runtime.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static void txn_on_task(struct task *task);

/* --- life ---------------------------------------------------------------------------------------
 */

static void check_options(kvs_txn *txn, const struct kvs_txn_options *given)
{
    struct kvs_txn_options *options = &txn->options;
    if (given != NULL && given->size < sizeof given->size) {
        txn->refused = "options: size is not set";
    } else if (given != NULL) {
        memcpy(options, given, given->size < sizeof *options ? given->size : sizeof *options);
    }
    if (options->priority > KVS_TXN_PRIORITY_HIGH || options->on_drop > KVS_TXN_DROP_LEAVE ||
        options->lock_wait_ms < KVS_TXN_LOCK_NO_WAIT)
        txn->refused = "options: priority, on_drop or lock_wait_ms is none of those there are";
    if (options->lock_wait_ms == 0)
        options->lock_wait_ms = TXN_LOCK_WAIT_DEFAULT_MS;
    if (txn->shard->is_local)
        txn->given_up_ms =
            options->timeout_ms != 0 ? options->timeout_ms : txn->shard->timeout_given_ms;
    if (options->timeout_ms == 0)
        options->timeout_ms = txn->shard->timeout_ms;
    if (options->size_bytes_max == 0)
        options->size_bytes_max = TXN_SIZE_DEFAULT_MAX;
    if (options->count_max == 0)
        options->count_max = TXN_COUNT_DEFAULT_MAX;
}

/* Has the queue looked at on the loop. The mutex is held, or nobody else knows the transaction. */
static void txn_post(kvs_txn *txn)
{
    if (txn->posted)
        return;
    txn->posted = true;
    txn_ref(txn);
    shard_enter(txn->shard);
    runtime_hold(txn->client->runtime);
    loop_post(txn->shard->loop, &txn->task);
}

kvs_txn *txn_new(kvs_txn_client *client, const struct kvs_txn_options *options, uint64_t start_ts)
{
    kvs_txn *txn = mem_zalloc(sizeof *txn);
    if (txn == NULL)
        return NULL;
    txn_client_ref(client);
    txn->client = client;
    txn->shard = txn_client_shard(client);
    atomic_init(&txn->refs, 1);
    txn->began_ms = clock_coarse_ms();
    txn->task.run = txn_on_task;
    pthread_mutex_init(&txn->mutex, NULL);
    list_init(&txn->queue);
    list_init(&txn->running);
    write_buffer_init(&txn->writes, (uintptr_t)txn);
    check_options(txn, options);
    txn->view.priority = txn->options.priority;
    txn->view.ts = start_ts;
    txn->has_start = start_ts != 0;
    if (txn->has_start && shard_ts_is_ahead(txn->shard, start_ts))
        txn->refused = SHARD_TS_AHEAD;
    if (txn->refused != NULL || txn->has_start || txn_client_is_closing(client))
        return txn;
    struct txn_transport *transport = txn->shard->transport;
    if (transport->methods->now != NULL && transport->methods->now(transport, &txn->view.ts))
        txn->has_start = true;
    else
        txn_post(txn);
    return txn;
}

uint64_t txn_elapsed_ms(const kvs_txn *txn)
{
    return clock_coarse_ms() - txn->began_ms;
}

static void txn_free(kvs_txn *txn)
{
    assert(list_empty(&txn->queue) && list_empty(&txn->running) && !txn->heartbeat.runs);
    pthread_mutex_destroy(&txn->mutex);
    write_buffer_deinit(&txn->writes);
    ts_list_deinit(&txn->view.resolved);
    ts_list_deinit(&txn->view.committed);
    txn_client_unref(txn->client);
    mem_free(txn);
}

void txn_ref(kvs_txn *txn)
{
    /* relaxed: who takes one has one. */
    atomic_fetch_add_explicit(&txn->refs, 1, memory_order_relaxed);
}

void txn_unref(kvs_txn *txn)
{
    /* acq_rel: all uses come before the free. */
    if (atomic_fetch_sub_explicit(&txn->refs, 1, memory_order_acq_rel) == 1)
        txn_free(txn);
}

void txn_drop(kvs_txn *txn)
{
    pthread_mutex_lock(&txn->mutex);
    txn->freed = true;
    bool has_more = !list_empty(&txn->queue) || !list_empty(&txn->running) || txn->primary.size > 0;
    /* What asks for its start keeps the shard open. */
    if (txn->asks_start || (has_more && !txn_client_is_closing(txn->client)))
        txn_post(txn);
    pthread_mutex_unlock(&txn->mutex);
    txn_unref(txn);
}

/* --- the end of operations ----------------------------------------------------------------------
 */

static bool request_is_exclusive(const struct txn_request *op)
{
    return op->kind >= OP_COMMIT || (op->txn->options.pessimistic && op->kind >= OP_GET_FOR_UPDATE);
}

static bool request_is_lock(const struct txn_request *op)
{
    return request_is_exclusive(op) && op->kind <= OP_LOCK;
}

static void request_leave(struct txn_request *op, int error)
{
    kvs_txn *txn = op->txn;
    struct txn_shard *shard = txn->shard;
    pthread_mutex_lock(&txn->mutex);
    list_remove(&op->node);
    if (op->runs && request_is_exclusive(op))
        txn->exclusive = false;
    if ((error == KVS_ERR_CANCELLED || op->given_up) && request_is_lock(op))
        txn->spoiled = KVS_ERR_CANCELLED;
    if (op->kind == OP_COMMIT || op->kind == OP_ROLLBACK) {
        txn->state = TXN_ENDED;
        txn->left_locks = !op->runs;
    }
    if (!list_empty(&txn->queue) || txn->freed || txn->left_locks)
        txn_post(txn);
    pthread_mutex_unlock(&txn->mutex);
    request_complete(op, error);
    shard_leave(shard);
    txn_unref(txn);
}

void request_end(struct txn_request *op, int error)
{
    request_leave(op, error);
}

void request_fail(struct txn_request *op, int error, const char *why)
{
    if (op->message != why)
        snprintf(op->message, sizeof op->message, "%s", why);
    request_end(op, error);
}

/* --- the queue ----------------------------------------------------------------------------------
 */

void txn_enqueue(struct txn_request *op)
{
    kvs_txn *txn = op->txn;
    op->before_start = !txn->has_start && !txn->asks_start;
    op->came_ms = txn->has_start ? 0 : clock_coarse_ms();
    list_append(&txn->queue, &op->node);
    txn_ref(txn);
    shard_enter(txn->shard);
    if (txn->has_start || txn->start_error != 0 || !txn->asks_start)
        txn_post(txn);
}

/* The next operation whose turn it is; the mutex is held. */
static struct txn_request *txn_next_op(kvs_txn *txn)
{
    if (list_empty(&txn->queue) || txn->exclusive)
        return NULL;
    struct txn_request *op = list_entry(txn->queue.next, struct txn_request, node);
    if (!txn->has_start && txn->start_error == 0)
        return NULL;
    if (request_is_exclusive(op) && !list_empty(&txn->running))
        return NULL;
    list_remove(&op->node);
    list_append(&txn->running, &op->node);
    op->runs = true;
    txn->exclusive = request_is_exclusive(op);
    return op;
}

/* The mutex is held, and given back. */
static void txn_run_queue(kvs_txn *txn)
{
    struct txn_request *op;
    while ((op = txn_next_op(txn)) != NULL) {
        int error = txn->start_error;
        bool is_alone = request_is_exclusive(op);
        pthread_mutex_unlock(&txn->mutex);
        op->deadline_ms = shard_now_ms(txn->shard) + txn->options.timeout_ms;
        if (op->came_ms != 0) /* what it waited for the start is of its time */
            op->deadline_ms -= txn->start_ms - op->came_ms;
        if (txn->shard->closed) /* it was called while the client was being closed */
            request_fail(op, KVS_ERR_CLOSED, "the client was closed");
        else if (error != 0)
            request_fail(op, error, txn->start_why);
        else
            request_begin(op);
        if (is_alone) /* its end has the queue looked at again */
            return;
        pthread_mutex_lock(&txn->mutex);
    }
    pthread_mutex_unlock(&txn->mutex);
}

static void txn_on_start(struct txn_timestamp *request, int error, const char *why)
{
    kvs_txn *txn = CONTAINER_OF(request, struct kvs_txn, start_request);
    struct txn_shard *shard = txn->shard;
    list_remove(&txn->starting);
    pthread_mutex_lock(&txn->mutex);
    txn->asks_start = false;
    txn->view.ts = request->ts;
    txn->has_start = error == 0;
    txn->start_ms = clock_coarse_ms();
    txn->start_error = error;
    snprintf(txn->start_why, sizeof txn->start_why, "%s", why);
    txn_run_queue(txn);
    shard_leave(shard);
    txn_unref(txn); /* the last: it may hold the client */
}

static void txn_ask_start(kvs_txn *txn)
{
    pthread_mutex_lock(&txn->mutex);
    if (txn->shard->closed && !txn->has_start)
        txn->start_error = KVS_ERR_CLOSED;
    bool is_wanted = !txn->freed || !list_empty(&txn->queue);
    bool asks = !txn->has_start && txn->start_error == 0 && !txn->asks_start && is_wanted;
    if (asks) {
        txn->asks_start = true;
        txn_ref(txn);
    }
    pthread_mutex_unlock(&txn->mutex);
    if (!asks)
        return;
    shard_enter(txn->shard);
    list_append(&txn->shard->starting, &txn->starting);
    shard_ask_time(txn->shard, &txn->start_request,
                   shard_now_ms(txn->shard) + txn->options.timeout_ms, txn_on_start);
}

/* Does nobody wait for its start any more? Then nobody will. */
static void txn_give_up_start(kvs_txn *txn)
{
    pthread_mutex_lock(&txn->mutex);
    bool is_wanted = !list_empty(&txn->queue);
    pthread_mutex_unlock(&txn->mutex);
    if (!is_wanted)
        shard_give_up_time(&txn->start_request);
}

void shard_give_up_starts(struct txn_shard *shard)
{
    for (struct list *at = shard->starting.next; at != &shard->starting; at = at->next)
        txn_give_up_start(list_entry(at, struct kvs_txn, starting));
}

static void request_cancel_running(struct txn_request *op)
{
    op->cancelled = true;
    if (op->locker != NULL)
        lock_cancel(op);
    else if (op->scanner != NULL)
        scan_cancel(op);
    else if (op->kind == OP_COMMIT || op->kind == OP_ROLLBACK)
        commit_cancel(op);
    else if (op->reader != NULL && op->reader->shard != NULL)
        reader_cancel(op->reader);
}

/* It may wait for a disk of this process, which nobody can hurry: the transaction does, the future
 * does not. */
static void request_give_up(struct txn_request *op)
{
    if (op->kind < OP_COMMIT)
        op->given_up = future_give_up(future_of_payload(op), KVS_ERR_CANCELLED, "");
    request_cancel_running(op);
}

/* The user has freed it: what is in the queue is given up, but a commit is left to end. */
static void txn_give_up(kvs_txn *txn)
{
    struct list waiting;
    list_init(&waiting);
    pthread_mutex_lock(&txn->mutex);
    bool ends = txn->state != TXN_ACTIVE;
    if (!ends) {
        list_move(&waiting, &txn->queue);
        for (struct list *at = txn->running.next; at != &txn->running;) {
            struct txn_request *op = list_entry(at, struct txn_request, node);
            at = at->next;
            if (!op->cancelled)
                request_give_up(op);
        }
    }
    bool releases = !ends && list_empty(&txn->running);
    if (releases)
        txn->state = TXN_ENDED;
    pthread_mutex_unlock(&txn->mutex);
    while (!list_empty(&waiting))
        request_end(list_entry(waiting.next, struct txn_request, node), KVS_ERR_CANCELLED);
    txn_give_up_start(txn);
    if (!releases || txn->primary.size == 0 || txn->shard->closed)
        return;
    heartbeat_stop(txn);
    if (txn->options.on_drop == KVS_TXN_DROP_ROLLBACK)
        txn_release_locks(txn, NULL, 0, 0);
}

/* The mutex is held. */
static bool txn_takes_left_locks(kvs_txn *txn)
{
    bool takes = txn->left_locks && list_empty(&txn->queue) && list_empty(&txn->running);
    txn->left_locks = txn->left_locks && !takes;
    return takes;
}

static void txn_give_back_locks(kvs_txn *txn)
{
    heartbeat_stop(txn);
    if (txn->primary.size > 0 && !txn->shard->closed)
        txn_release_locks(txn, NULL, 0, 0);
}

static void txn_on_task(struct task *task)
{
    kvs_txn *txn = CONTAINER_OF(task, struct kvs_txn, task);
    struct txn_shard *shard = txn->shard;
    kvs_runtime *runtime = txn->client->runtime;
    pthread_mutex_lock(&txn->mutex);
    txn->posted = false;
    if (txn->freed || !txn->has_start) {
        bool freed = txn->freed;
        pthread_mutex_unlock(&txn->mutex);
        txn_ask_start(txn);
        if (freed)
            txn_give_up(txn);
        pthread_mutex_lock(&txn->mutex);
    }
    bool takes_locks = txn_takes_left_locks(txn);
    txn_run_queue(txn);
    if (takes_locks)
        txn_give_back_locks(txn);
    shard_leave(shard);
    txn_unref(txn);
    runtime_release(runtime);
}

void request_on_cancel(kvs_future *future)
{
    struct txn_request *op = future_payload(future);
    kvs_txn *txn = op->txn;
    pthread_mutex_lock(&txn->mutex);
    bool runs = op->runs;
    pthread_mutex_unlock(&txn->mutex);
    if (runs)
        request_give_up(op);
    else
        request_end(op, KVS_ERR_CANCELLED);
}

/*
 * client/txn/committer.c: two-phase commit, and its shorter forms.
 *
 *   1. the writes become mutations, ascending by key; one of them is the primary, on whose record
 *      the outcome of all hangs;
 *   2. prewrite (prewriter.c);
 *   3. one phase, or asynchronous: the outcome is there, the future is ready. Else a timestamp is
 *      taken and the primary is committed: the future is ready;
 *   4. in the background (background.c) the other locks become records. A client that dies here
 *      leaves them to whoever meets them.
 * Failures: a definite one before the outcome: the future tells it; what may have been prewritten
 * is rolled back in the background. The deciding request (commit of the primary, or any prewrite in
 * the shorter forms) was sent and never answered: OUTCOME_UNKNOWN, and nothing is rolled back.
 *
 * Thread: the shard's loop.
 */
#include "client/txn/committer.h"

#include "base/mem.h"

#include <assert.h>
#include <stdio.h>

#define COMMIT_BUDGET_MS 40000u
#define BACKGROUND_BUDGET_MS 41000u
/* A lock that was pushed further than this ahead of the time is damaged, or somebody's clock is. */
#define PUSHED_MAX_MS (3600u * 1000)
#define PUSHED_TOO_LONG "others keep pushing the time of the commit"

static void commit_primary(struct committer *committer);

static void ask_time(struct committer *committer,
                     void (*done)(struct txn_timestamp *time, int error, const char *why))
{
    committer->asks_time = true;
    shard_ask_time(committer_shard(committer), &committer->time, committer->deadline_ms, done);
}

/* --- the end ------------------------------------------------------------------------------------
 */

void committer_tell(struct committer *committer, int error)
{
    struct txn_request *op = committer->op;
    if (op == NULL)
        return;
    committer->op = NULL;
    op->committer = NULL;
    heartbeat_stop(committer->txn);
    op->number = committer->commit_ts;
    if (error != 0)
        request_fail(op, error, committer->why);
    else
        request_end(op, 0);
}

static void committer_free_memory(struct committer *committer)
{
    txn_call_free(committer->spare_call);
    arena_deinit(&committer->arena);
    mem_free(committer);
}

void shard_free_spare_committers(struct txn_shard *shard)
{
    struct committer *committer;
    while ((committer = shard->spare_committers) != NULL) {
        shard->spare_committers = committer->next_spare;
        committer_free_memory(committer);
    }
    shard->spare_committers_count = 0;
}

/* Zeroed but for the memory it brings along; NULL: no memory. */
static struct committer *committer_alloc(struct txn_shard *shard)
{
    struct committer *committer = shard->spare_committers;
    if (committer == NULL)
        return mem_zalloc(sizeof *committer);
    shard->spare_committers = committer->next_spare;
    shard->spare_committers_count--;
    *committer = (struct committer){.arena = committer->arena, .spare_call = committer->spare_call};
    return committer;
}

void committer_free(struct committer *committer)
{
    kvs_txn *txn = committer->txn;
    struct txn_shard *shard = txn->shard;
    assert(committer->op == NULL && list_empty(&committer->calls));
    if (shard->spare_committers_count < SPARE_COMMITTERS_MAX && !shard->closed) {
        arena_reset(&committer->arena);
        committer->next_spare = shard->spare_committers;
        shard->spare_committers = committer;
        shard->spare_committers_count++;
    } else {
        committer_free_memory(committer);
    }
    shard_leave(shard);
    txn_unref(txn);
}

struct committer *committer_new(kvs_txn *txn, struct txn_request *op)
{
    struct committer *committer = committer_alloc(txn->shard);
    if (committer == NULL)
        return NULL;
    committer->txn = txn;
    committer->op = op;
    list_init(&committer->calls);
    list_init(&committer->parked);
    txn_ref(txn);
    shard_enter(txn->shard);
    return committer;
}

struct txn_call *committer_add_call(struct committer *committer, enum txn_command_kind kind,
                                    const struct txn_call_methods *methods, kvs_slice key,
                                    uint32_t from, uint32_t to, uint32_t budget_ms)
{
    struct txn_call *call = committer->spare_call;
    if (call != NULL)
        txn_call_renew(call, kind, methods, committer);
    else
        call = txn_call_new(committer_shard(committer)->transport, kind, methods, committer);
    if (call == NULL)
        return NULL;
    committer->spare_call = NULL;
    call->key = key;
    call->from = from;
    call->to = to;
    call->budget_ms = budget_ms;
    call->deadline_ms = committer->op != NULL
                            ? committer->deadline_ms
                            : shard_now_ms(committer_shard(committer)) + budget_ms;
    call->priority = committer->txn->options.priority;
    list_append(&committer->calls, &call->node);
    committer->pending++;
    return call;
}

void committer_end_call(struct committer *committer, struct txn_call *call)
{
    list_remove(&call->node);
    if (committer->spare_call == NULL)
        committer->spare_call = call;
    else
        txn_call_free(call);
    committer->pending--;
}

/* --- outcomes -----------------------------------------------------------------------------------
 */

void committer_note_error(struct committer *committer, int error, const char *why)
{
    if (committer->error != 0)
        return;
    committer->error = error;
    snprintf(committer->why, sizeof committer->why, "%s", why);
}

void committer_note_key_error(struct committer *committer, const struct txn_key_error *error)
{
    struct txn_request *op = committer->op;
    if (committer->error != 0)
        return;
    if (op == NULL) { /* nobody asks any more */
        committer->error = KVS_ERR_LOCK_LOST;
        return;
    }
    committer->error = txn_error_take(error, &op->arena, &op->conflict, committer->why);
    op->conflict.start_ts = committer->txn->view.ts;
    op->has_conflict = true;
}

/* Nothing of it is committed, nor will be. */
static void fail(struct committer *committer)
{
    committer_tell(committer, committer->error);
    if (committer->may_have_locks || committer->txn->options.pessimistic)
        background_run(committer, TXN_BATCH_ROLLBACK, ROLLBACK_BUDGET_MS);
    else
        committer_free(committer);
}

static void fail_undetermined(struct committer *committer)
{
    committer->phase = PHASE_BACKGROUND;
    committer_tell(committer, KVS_ERR_OUTCOME_UNKNOWN);
    committer_free(committer);
}

/* --- the outcome --------------------------------------------------------------------------------
 */

static void on_committed(struct committer *committer)
{
    bool has_locks = committer->phase != PHASE_BACKGROUND && !committer->one_pc;
    shard_learn_status(committer_shard(committer), committer->txn->view.ts, committer->commit_ts);
    committer_tell(committer, 0);
    if (has_locks) {
        background_run(committer, TXN_COMMIT, BACKGROUND_BUDGET_MS);
        return;
    }
    committer_free(committer);
}

static void on_commit_time(struct txn_timestamp *time, int error, const char *why)
{
    struct committer *committer = CONTAINER_OF(time, struct committer, time);
    committer->asks_time = false;
    if (error == 0 &&
        (committer->error != 0 || (committer->op != NULL && committer->op->cancelled))) {
        error = KVS_ERR_CANCELLED;
        why = "cancelled";
    }
    if (error != 0) {
        committer_note_error(committer, error, why);
        fail(committer);
        return;
    }
    committer->commit_ts = time->ts;
    commit_primary(committer);
}

/* Everything is locked. */
static void on_prewritten(struct committer *committer)
{
    if (committer->commit_ts != 0) { /* one phase */
        on_committed(committer);
    } else if (committer->keys_count == 0) { /* it only looked that keys are not there */
        committer_tell(committer, 0);
        committer_free(committer);
    } else if (committer->async) {
        committer->one_pc = false;
        committer->commit_ts = committer->min_commit_ts;
        on_committed(committer);
    } else {
        committer->one_pc = false;
        ask_time(committer, on_commit_time);
    }
}

static void free_parked(struct committer *committer)
{
    struct list *at;
    while ((at = list_pop(&committer->parked)) != NULL)
        txn_call_free(list_entry(at, struct txn_call, node));
}

/* All parts that were under way have ended. */
void committer_round_end(struct committer *committer)
{
    if (committer->error != 0 || committer->undetermined) {
        if (committer->has_resolver)
            resolver_deinit(&committer->resolver);
        committer->has_resolver = false;
        free_parked(committer);
        if (committer->error != 0)
            fail(committer);
        else
            fail_undetermined(committer);
    } else if (committer->has_resolver) {
        resolver_run(&committer->resolver, committer->deadline_ms);
    } else if (committer->rest_waits) {
        committer->rest_waits = false;
        if (prewrite_is_long(committer))
            heartbeat_start(committer->txn, committer->keys[committer->primary_key]);
        int error = prewrite_add(committer, committer->rest_from, committer->count);
        if (error != 0) {
            committer_note_error(committer, error, "no memory for a request");
            fail(committer);
        }
    } else {
        on_prewritten(committer);
    }
}

/* --- the commit of the primary ------------------------------------------------------------------
 */

/* The commit is tried again with the time of then: not for ever. */
static void note_bounds_of_time(struct committer *committer, const struct txn_key_error *error)
{
    if (error->min_commit_ts > committer->commit_ts &&
        error->min_commit_ts - committer->commit_ts > txn_ts_make(PUSHED_MAX_MS, 0))
        committer_note_error(
            committer, KVS_ERR_LOCK_LOST,
            "the primary lock asks for a commit more than an hour ahead of the time");
    else if (committer->op == NULL ||
             shard_now_ms(committer_shard(committer)) >= committer->deadline_ms)
        committer_note_error(committer, KVS_ERR_TIMEOUT, PUSHED_TOO_LONG);
}

static void on_later(struct txn_timer *timer)
{
    struct committer *committer = CONTAINER_OF(timer, struct committer, timer);
    if (shard_now_ms(committer_shard(committer)) < committer->deadline_ms) {
        ask_time(committer, on_commit_time);
        return;
    }
    committer->asks_time = false;
    committer_note_error(committer, KVS_ERR_TIMEOUT, PUSHED_TOO_LONG);
    fail(committer);
}

/* A reader has pushed the primary: a later time is asked for, at once the first time. */
static void commit_later(struct committer *committer)
{
    struct txn_shard *shard = committer_shard(committer);
    int64_t wait_ms = 0;
    if (committer->pushed)
        wait_ms = backoff_next(&committer->backoff, BACKOFF_COMMIT_TS, &shard->rand, 0);
    committer->pushed = true;
    uint64_t left_ms = committer->deadline_ms - shard_now_ms(shard); /* above 0, or it had failed */
    if (wait_ms < 0 || (uint64_t)wait_ms > left_ms)
        wait_ms = (int64_t)left_ms;
    committer->asks_time = true;
    committer->timer.fire = on_later;
    if (wait_ms == 0 || shard_timer_start(shard, &committer->timer, (uint64_t)wait_ms) != 0)
        ask_time(committer, on_commit_time);
}

static void primary_done(struct txn_call *call, int error)
{
    struct committer *committer = call->owner;
    struct txn_key_error key_error = call->command.commit.error;
    bool maybe_done = call->maybe_done;
    if (error != 0 && maybe_done) {
        memcpy(committer->why, call->why, sizeof committer->why);
        committer_end_call(committer, call);
        fail_undetermined(committer);
        return;
    }
    if (error != 0)
        committer_note_error(committer, error, call->why);
    else if (key_error.kind != TXN_ERROR_NONE && key_error.kind != TXN_ERROR_COMMIT_TS_EXPIRED)
        committer_note_key_error(committer, &key_error);
    bool expired = error == 0 && key_error.kind == TXN_ERROR_COMMIT_TS_EXPIRED;
    if (expired)
        note_bounds_of_time(committer, &key_error);
    committer_end_call(committer, call);
    if (committer->error != 0)
        fail(committer);
    else if (expired)
        commit_later(committer);
    else
        on_committed(committer);
}

/* The primary, and what lies together with it. */
static int primary_fit(struct txn_call *call, const struct txn_bounds *bounds)
{
    struct committer *committer = call->owner;
    const struct txn_transport *transport = call->transport;
    const kvs_slice *keys = committer->keys;
    uint32_t from = committer->primary_key;
    uint32_t to = from + 1;
    struct txn_load load = {0};
    txn_load_add(&load, transport, keys[from], 0);
    while (from > 0 && txn_bounds_above_start(bounds, keys[from - 1]) &&
           txn_load_add(&load, transport, keys[from - 1], 0))
        from--;
    while (to < committer->keys_count && txn_bounds_below_end(bounds, keys[to]) &&
           txn_load_add(&load, transport, keys[to], 0))
        to++;
    committer->done_from = from;
    committer->done_to = to;
    struct txn_commit *command = &call->command.commit;
    command->keys = keys + from;
    command->keys_count = to - from;
    command->start_ts = committer->txn->view.ts;
    command->commit_ts = committer->commit_ts;
    return 0;
}

static const struct txn_call_methods primary_methods = {
    .fit = primary_fit,
    .done = primary_done,
};

static void commit_primary(struct committer *committer)
{
    committer->phase = PHASE_COMMIT;
    struct txn_call *call =
        committer_add_call(committer, TXN_COMMIT, &primary_methods,
                           committer->keys[committer->primary_key], 0, 1, COMMIT_BUDGET_MS);
    if (call == NULL) {
        committer_note_error(committer, KVS_ERR_NO_MEMORY, "no memory for a request");
        fail(committer);
        return;
    }
    txn_call_start(call);
}

/* --- the begin ----------------------------------------------------------------------------------
 */

static void prewrite_begin(struct committer *committer)
{
    int error = prewrite_add(committer, 0, committer->count);
    if (error != 0) { /* nothing was sent; but it may have pessimistic locks */
        committer_note_error(committer, error, "no memory for a request");
        fail(committer);
    }
}

static void on_min_commit_time(struct txn_timestamp *time, int error, const char *why)
{
    struct committer *committer = CONTAINER_OF(time, struct committer, time);
    committer->asks_time = false;
    if (error == 0 && (committer->error != 0 || committer->op->cancelled)) {
        error = KVS_ERR_CANCELLED;
        why = "cancelled";
    }
    if (error != 0) {
        committer_note_error(committer, error, why);
        fail(committer);
        return;
    }
    committer->min_commit_ts = time->ts + 1;
    prewrite_begin(committer);
}

static void end_without_writes(struct txn_request *op, int error, const char *why)
{
    kvs_txn *txn = op->txn;
    heartbeat_stop(txn);
    if (txn->primary.size > 0)
        txn_release_locks(txn, NULL, 0, 0);
    if (error != 0)
        request_fail(op, error, why);
    else
        request_end(op, 0);
}

void commit_begin(struct txn_request *op)
{
    kvs_txn *txn = op->txn;
    if (txn->spoiled != 0) {
        end_without_writes(op, txn->spoiled, "a write of the transaction was given up");
        return;
    }
    if (write_buffer_first(&txn->writes) == NULL) {
        request_end(op, 0);
        return;
    }
    struct committer *committer = committer_new(txn, op);
    if (committer == NULL || prewrite_make_mutations(committer) != 0) {
        if (committer != NULL) {
            committer->op = NULL;
            committer_free(committer);
        }
        end_without_writes(op, KVS_ERR_NO_MEMORY, "no memory for a commit");
        return;
    }
    op->committer = committer;
    committer->deadline_ms = op->deadline_ms;
    committer->backoff.budget_ms = PREWRITE_BUDGET_MS;
    committer->min_commit_ts = (txn->options.pessimistic ? txn->for_update_ts : txn->view.ts) + 1;
    if (committer->count == 0) {
        committer_tell(committer, 0);
        committer_free(committer);
        return;
    }
    bool is_fresh = op->before_start; /* the start was given after the commit was called */
    bool asks = (committer->async || committer->one_pc) && !txn->options.causal_only && !is_fresh;
    struct txn_transport *transport = txn->shard->transport;
    if (asks && transport->methods->given != NULL) {
        committer->min_commit_ts = transport->methods->given(transport) + 1;
        asks = false;
    }
    if (asks)
        ask_time(committer, on_min_commit_time);
    else
        prewrite_begin(committer);
}

void commit_cancel(struct txn_request *op)
{
    struct committer *committer = op->committer;
    if (committer == NULL)
        return;
    if (op->kind == OP_ROLLBACK) { /* what it gives back it gives back */
        committer_tell(committer, KVS_ERR_CANCELLED);
        return;
    }
    bool may_decide = committer->phase == PHASE_COMMIT || committer->async || committer->one_pc;
    if (committer->pending > 0 && may_decide) {
        /* What was sent may still commit; it goes on without its future. */
        snprintf(committer->why, sizeof committer->why, "cancelled when it was under way");
        committer_tell(committer, KVS_ERR_OUTCOME_UNKNOWN);
    } else if (committer->asks_time || committer->has_resolver || committer->timer_runs ||
               committer->pending > 0) {
        /* When what it waits for comes, what was written is taken back. */
        committer_note_error(committer, KVS_ERR_CANCELLED, "cancelled");
        committer_tell(committer, committer->error);
        shard_give_up_time(&committer->time);
    }
}

void rollback_begin(struct txn_request *op)
{
    kvs_txn *txn = op->txn;
    heartbeat_stop(txn);
    if (txn->primary.size == 0 || !background_rollback(op))
        request_end(op, 0);
}

/*
 * client/txn/committer.c: two-phase commit, and its shorter forms.
 *
 *   1. the writes become mutations, ascending by key; one of them is the primary, on whose record
 *      the outcome of all hangs;
 *   2. prewrite, cut where the data is cut. One part holds all: the store may commit at once (one
 *      phase). Few keys: all parts go out together and the primary's names the others, so that
 *      anybody can find the outcome when all are there (asynchronous commit). Else the primary's
 *      part goes first;
 *   3. one phase, or asynchronous: the outcome is there, the future is ready. Else a timestamp is
 *      taken and the primary is committed: the future is ready;
 *   4. in the background the other locks become records. A client that dies here leaves them to
 *      whoever meets them.
 * Failures: a definite one before the outcome: the future tells it; what may have been prewritten
 * is rolled back in the background. The deciding request (commit of the primary, or any prewrite in
 * the shorter forms) was sent and never answered: OUTCOME_UNKNOWN, and nothing is rolled back.
 *
 * A committer holds its transaction, and lives until the background is done. Thread: the shard's
 * loop.
 */
#include "client/txn/txn_parts.h"

#include "base/mem.h"

#include <assert.h>
#include <stdio.h>

#define ASYNC_KEYS_MAX 256u
#define ASYNC_BYTES_MAX 4096u
#define PREWRITE_BUDGET_MS 40000u
#define COMMIT_BUDGET_MS 40000u
#define BACKGROUND_BUDGET_MS 41000u
#define ROLLBACK_BUDGET_MS 20000u
#define TTL_MIN_MS 3000u
#define TTL_PER_ROOT_MIB 6000u
#define TTL_STEP_MS 100u
#define TTL_SMALL_BYTES (16u * 1024)
/* What is larger may take longer than its locks live. */
#define HEARTBEAT_BYTES (4u * 1024 * 1024)
#define HEARTBEAT_KEYS 10000u
/* A lock that was pushed further than this ahead of the time is damaged, or somebody's clock is. */
#define PUSHED_MAX_MS (3600u * 1000)

enum commit_phase {
    PHASE_PREWRITE,
    PHASE_COMMIT,     /* of the primary */
    PHASE_BACKGROUND, /* the outcome is known, or never will be to us */
};

struct committer {
    kvs_txn *txn;
    struct txn_request *op; /* NULL: its future is ready */
    struct arena arena;
    struct txn_mutation *mutations;
    uint32_t count;
    uint32_t primary; /* index */
    kvs_slice *keys;  /* that will have a lock */
    uint32_t keys_count;
    uint32_t primary_key;        /* index in keys */
    uint32_t done_from, done_to; /* keys that were committed together with the primary */
    uint64_t bytes;
    kvs_slice *secondaries;
    uint32_t secondaries_count;
    enum commit_phase phase;
    bool async;
    bool one_pc;
    bool rest_waits; /* for the primary's part */
    uint32_t rest_from;
    bool undetermined;
    bool may_have_locks;    /* something of it may have been prewritten */
    uint64_t min_commit_ts; /* to ask for */
    uint64_t commit_ts;
    uint64_t deadline_ms;
    struct list calls;
    unsigned pending;
    int error; /* the first definite one */
    char why[TXN_WHY_SIZE];
    struct txn_timestamp time;
    bool asks_time; /* waits for it: nothing is under way that could decide */
    struct resolver resolver;
    bool has_resolver;
    uint64_t wait_ms;
    struct backoff backoff;
    struct txn_timer timer;
    bool timer_runs;
    struct list parked; /* parts that met locks */
    struct txn_call *spare_call;
    struct committer *next_spare;
};

static int add_prewrite(struct committer *committer, uint32_t from, uint32_t to);
static void commit_primary(struct committer *committer);
static void round_end(struct committer *committer);

static struct txn_shard *shard_of(const struct committer *committer)
{
    return committer->txn->shard;
}

static void ask_time(struct committer *committer,
                     void (*done)(struct txn_timestamp *time, int error, const char *why))
{
    committer->asks_time = true;
    shard_ask_time(shard_of(committer), &committer->time, done);
}

/* --- the end ------------------------------------------------------------------------------------
 */

/* The future is ready; the committer may go on. */
static void tell(struct committer *committer, int error)
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

static void committer_free(struct committer *committer)
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

static struct committer *committer_new(kvs_txn *txn, struct txn_request *op)
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

static struct txn_call *add_call(struct committer *committer, enum txn_command_kind kind,
                                 const struct txn_call_methods *methods, kvs_slice key,
                                 uint32_t from, uint32_t to, uint32_t budget_ms)
{
    struct txn_call *call = committer->spare_call;
    if (call != NULL)
        txn_call_renew(call, kind, methods, committer);
    else
        call = txn_call_new(shard_of(committer)->transport, kind, methods, committer);
    if (call == NULL)
        return NULL;
    committer->spare_call = NULL;
    call->key = key;
    call->from = from;
    call->to = to;
    call->budget_ms = budget_ms;
    call->deadline_ms = committer->op != NULL ? committer->deadline_ms
                                              : shard_now_ms(shard_of(committer)) + budget_ms;
    call->priority = committer->txn->options.priority;
    list_append(&committer->calls, &call->node);
    committer->pending++;
    return call;
}

static void end_call(struct committer *committer, struct txn_call *call)
{
    list_remove(&call->node);
    if (committer->spare_call == NULL)
        committer->spare_call = call;
    else
        txn_call_free(call);
    committer->pending--;
}

/* --- in the background: the same command for all keys -------------------------------------------
 */

static uint32_t keys_end(const struct committer *committer, const struct txn_call *call,
                         const struct txn_bounds *bounds)
{
    uint32_t end = call->from + 1;
    while (end < call->to && end - call->from < shard_of(committer)->transport->batch_count_max &&
           txn_bounds_below_end(bounds, committer->keys[end]))
        end++;
    return end;
}

static void background_done(struct txn_call *call, int error)
{
    struct committer *committer = call->owner;
    (void)error; /* whoever meets what is left resolves it */
    end_call(committer, call);
    if (committer->pending == 0)
        committer_free(committer);
}

static int background_fit(struct txn_call *call, const struct txn_bounds *bounds)
{
    struct committer *committer = call->owner;
    enum txn_command_kind kind = (enum txn_command_kind)call->command.base.kind;
    uint32_t end = keys_end(committer, call, bounds);
    if (end < call->to) {
        struct txn_call *rest = add_call(committer, kind, call->methods, committer->keys[end], end,
                                         call->to, call->budget_ms);
        if (rest == NULL)
            return KVS_ERR_NO_MEMORY;
        call->to = end;
        txn_call_start(rest);
    }
    const kvs_slice *keys = committer->keys + call->from;
    uint32_t count = call->to - call->from;
    uint64_t start_ts = committer->txn->view.ts;
    if (kind == TXN_COMMIT) {
        call->command.commit.keys = keys;
        call->command.commit.keys_count = count;
        call->command.commit.start_ts = start_ts;
        call->command.commit.commit_ts = committer->commit_ts;
    } else if (kind == TXN_BATCH_ROLLBACK) {
        call->command.rollback.keys = keys;
        call->command.rollback.keys_count = count;
        call->command.rollback.start_ts = start_ts;
    } else {
        call->command.pessimistic_rollback.keys = keys;
        call->command.pessimistic_rollback.keys_count = count;
        call->command.pessimistic_rollback.start_ts = start_ts;
        call->command.pessimistic_rollback.for_update_ts = committer->commit_ts;
    }
    return 0;
}

static const struct txn_call_methods background_methods = {
    .fit = background_fit,
    .done = background_done,
};

static void background_part(struct committer *committer, enum txn_command_kind kind, uint32_t from,
                            uint32_t to, uint32_t budget_ms)
{
    if (from >= to)
        return;
    struct txn_call *call =
        add_call(committer, kind, &background_methods, committer->keys[from], from, to, budget_ms);
    if (call != NULL) /* else whoever meets the locks resolves them */
        txn_call_start(call);
}

static void background_run(struct committer *committer, enum txn_command_kind kind,
                           uint32_t budget_ms)
{
    uint32_t done_from = kind == TXN_COMMIT ? committer->done_from : 0;
    uint32_t done_to = kind == TXN_COMMIT ? committer->done_to : 0;
    committer->phase = PHASE_BACKGROUND;
    background_part(committer, kind, 0, done_from, budget_ms);
    background_part(committer, kind, done_to, committer->keys_count, budget_ms);
    if (committer->pending == 0)
        committer_free(committer);
}

/* --- outcomes -----------------------------------------------------------------------------------
 */

static void note_error(struct committer *committer, int error, const char *why)
{
    if (committer->error != 0)
        return;
    committer->error = error;
    snprintf(committer->why, sizeof committer->why, "%s", why);
}

static void note_key_error(struct committer *committer, const struct txn_key_error *error)
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
    tell(committer, committer->error);
    if (committer->may_have_locks || committer->txn->options.pessimistic)
        background_run(committer, TXN_BATCH_ROLLBACK, ROLLBACK_BUDGET_MS);
    else
        committer_free(committer);
}

static void fail_undetermined(struct committer *committer)
{
    committer->phase = PHASE_BACKGROUND;
    tell(committer, KVS_ERR_OUTCOME_UNKNOWN);
    committer_free(committer);
}

/* --- prewrite -----------------------------------------------------------------------------------
 */

/* 6000 ms times the square root of the MiB written, between the bounds. */
static uint64_t ttl_of_size(uint64_t bytes)
{
    uint64_t square = bytes * TTL_PER_ROOT_MIB / (1024 * 1024) * TTL_PER_ROOT_MIB;
    uint64_t ttl_ms = TTL_MIN_MS;
    while (ttl_ms < TXN_LOCK_TTL_MS && ttl_ms * ttl_ms < square)
        ttl_ms += TTL_STEP_MS;
    return ttl_ms;
}

static bool is_long(const struct committer *committer)
{
    return committer->bytes > HEARTBEAT_BYTES || committer->keys_count > HEARTBEAT_KEYS;
}

/* Where there will be heartbeats, until the first. */
static uint64_t lock_ttl_ms(const struct committer *committer)
{
    const kvs_txn *txn = committer->txn;
    uint64_t elapsed_ms = txn_elapsed_ms(txn);
    if (txn->heartbeat.runs || is_long(committer))
        return elapsed_ms + TXN_LOCK_TTL_MS;
    return elapsed_ms +
           (committer->bytes > TTL_SMALL_BYTES ? ttl_of_size(committer->bytes) : TTL_MIN_MS);
}

static uint32_t prewrite_end(const struct committer *committer, const struct txn_call *call,
                             const struct txn_bounds *bounds)
{
    const struct txn_transport *transport = shard_of(committer)->transport;
    size_t size = 0;
    uint32_t end = call->from;
    while (end < call->to && end - call->from < transport->batch_count_max) {
        const struct txn_mutation *mutation = &committer->mutations[end];
        size += mutation->key.size + mutation->value.size;
        bool fits = end == call->from || size <= transport->batch_bytes_max;
        if (!fits || (end > call->from && !txn_bounds_below_end(bounds, mutation->key)))
            break;
        end++;
    }
    return end;
}

/* The rest becomes a call of its own, now or when the primary's part is done. */
static int prewrite_cut(struct committer *committer, struct txn_call *call, uint32_t end)
{
    bool has_primary = call->from <= committer->primary && committer->primary < end;
    bool waits = !committer->async && !committer->txn->options.pessimistic && has_primary;
    if (waits) {
        committer->rest_waits = true;
        committer->rest_from = end;
    } else {
        int error = add_prewrite(committer, end, call->to);
        if (error != 0)
            return error;
    }
    call->to = end;
    return 0;
}

static int prewrite_fit(struct txn_call *call, const struct txn_bounds *bounds)
{
    struct committer *committer = call->owner;
    const kvs_txn *txn = committer->txn;
    uint32_t end = prewrite_end(committer, call, bounds);
    bool is_all = call->from == 0 && end == committer->count;
    if (call->command.prewrite.try_one_pc && !is_all && call->maybe_done)
        return KVS_ERR_OUTCOME_UNKNOWN; /* it may have committed as one, and is now in two */
    if (end < call->to) {
        int error = prewrite_cut(committer, call, end);
        if (error != 0)
            return error;
    }
    bool has_primary = call->from <= committer->primary && committer->primary < call->to;
    struct txn_prewrite *command = &call->command.prewrite;
    command->mutations = committer->mutations + call->from;
    command->mutations_count = call->to - call->from;
    command->primary = committer->mutations[committer->primary].key;
    command->start_ts = txn->view.ts;
    command->lock_ttl_ms = lock_ttl_ms(committer);
    command->txn_size = command->mutations_count;
    command->for_update_ts = txn->options.pessimistic ? txn->for_update_ts : 0;
    command->min_commit_ts = committer->min_commit_ts;
    command->use_async_commit = committer->async;
    command->secondaries = committer->async && has_primary ? committer->secondaries : NULL;
    command->secondaries_count = committer->async && has_primary ? committer->secondaries_count : 0;
    command->try_one_pc = is_all && committer->one_pc;
    command->is_retry = call->maybe_done;
    return 0;
}

static void on_resolved(struct resolver *resolver, int error);

static void met_lock(struct committer *committer, const struct txn_lock_info *lock)
{
    const kvs_txn *txn = committer->txn;
    if (!txn->options.pessimistic && lock->start_ts > txn->view.ts) {
        /* When that one commits this one cannot; when it does not, little is lost. */
        const struct txn_key_error conflict = {
            .kind = TXN_ERROR_WRITE_CONFLICT,
            .reason = TXN_CONFLICT_OPTIMISTIC,
            .key = lock->key,
            .primary = lock->primary,
            .conflict_ts = lock->start_ts,
        };
        note_key_error(committer, &conflict);
        return;
    }
    if (!committer->has_resolver) {
        memset(&committer->resolver, 0, sizeof committer->resolver);
        resolver_init(&committer->resolver, shard_of(committer), RESOLVE_FOR_WRITE, txn->view.ts,
                      on_resolved);
        committer->has_resolver = true;
    }
    if (resolver_add(&committer->resolver, lock) != 0)
        note_error(committer, KVS_ERR_NO_MEMORY, "no memory to resolve a lock");
}

/* True when the part has to be prewritten again. */
static bool prewrite_take_errors(struct committer *committer, const struct txn_prewrite *command)
{
    bool again = false;
    for (uint32_t i = 0; i < command->errors_count; i++) {
        if (command->errors[i].kind == TXN_ERROR_LOCKED) {
            met_lock(committer, &command->errors[i].lock);
            again = true;
        } else {
            note_key_error(committer, &command->errors[i]);
        }
    }
    return again;
}

static void prewrite_take(struct committer *committer, const struct txn_prewrite *command)
{
    if (command->try_one_pc) {
        if (command->one_pc_commit_ts != 0)
            committer->commit_ts = command->one_pc_commit_ts;
        else
            committer->one_pc = false;
    }
    if (!committer->async)
        return;
    if (command->min_commit_ts_found == 0)
        committer->async = false;
    else if (command->min_commit_ts_found > committer->min_commit_ts)
        committer->min_commit_ts = command->min_commit_ts_found;
}

static void prewrite_done(struct txn_call *call, int error)
{
    struct committer *committer = call->owner;
    const struct txn_prewrite *command = &call->command.prewrite;
    bool decides = command->try_one_pc || command->use_async_commit;
    bool again = false;
    /* A prewrite that is refused has changed nothing. */
    if (error != 0 || command->errors_count == 0 || call->maybe_done)
        committer->may_have_locks = true;
    if (error != 0 && decides && (call->maybe_done || error == KVS_ERR_OUTCOME_UNKNOWN)) {
        committer->undetermined = true;
        if (committer->error == 0)
            snprintf(committer->why, sizeof committer->why, "%s", call->why);
    } else if (error != 0) {
        note_error(committer, error == KVS_ERR_OUTCOME_UNKNOWN ? KVS_ERR_TIMEOUT : error,
                   call->why);
    } else if (command->errors_count > 0) {
        again = prewrite_take_errors(committer, command);
    } else {
        prewrite_take(committer, command);
    }
    if (again) {
        list_remove(&call->node);
        list_append(&committer->parked, &call->node);
        committer->pending--;
    } else {
        end_call(committer, call);
    }
    if (committer->pending == 0)
        round_end(committer);
}

static const struct txn_call_methods prewrite_methods = {
    .fit = prewrite_fit,
    .done = prewrite_done,
};

static int add_prewrite(struct committer *committer, uint32_t from, uint32_t to)
{
    struct txn_call *call = add_call(committer, TXN_PREWRITE, &prewrite_methods,
                                     committer->mutations[from].key, from, to, PREWRITE_BUDGET_MS);
    if (call == NULL)
        return KVS_ERR_NO_MEMORY;
    txn_call_start(call);
    return 0;
}

/* Prewrites again what met locks. */
static void prewrite_parked(struct committer *committer)
{
    struct list parked;
    struct list *at;
    int error = 0;
    list_init(&parked);
    list_move(&parked, &committer->parked);
    committer->pending++; /* a part that ends at once does not end the round */
    while ((at = list_pop(&parked)) != NULL) {
        struct txn_call *call = list_entry(at, struct txn_call, node);
        if (error == 0)
            error = add_prewrite(committer, call->from, call->to);
        txn_call_free(call);
    }
    committer->pending--;
    if (error != 0)
        note_error(committer, error, "no memory for a request");
    if (committer->pending == 0)
        round_end(committer);
}

static void on_timer(struct txn_timer *timer)
{
    struct committer *committer = CONTAINER_OF(timer, struct committer, timer);
    committer->timer_runs = false;
    prewrite_parked(committer);
}

static void on_resolved(struct resolver *resolver, int error)
{
    struct committer *committer = CONTAINER_OF(resolver, struct committer, resolver);
    uint64_t wait_ms = resolver->wait_ms;
    if (error != 0)
        note_error(committer, error, resolver->why);
    resolver_deinit(resolver);
    committer->has_resolver = false;
    if (committer->op != NULL && committer->op->cancelled)
        note_error(committer, KVS_ERR_CANCELLED, "cancelled");
    int64_t sleep_ms = 0;
    if (wait_ms > 0) {
        sleep_ms =
            backoff_next(&committer->backoff, BACKOFF_TXN_LOCK, &shard_of(committer)->rand, 0);
        if (sleep_ms > 0 && (uint64_t)sleep_ms > wait_ms)
            sleep_ms = (int64_t)wait_ms;
        if (sleep_ms < 0 || shard_now_ms(shard_of(committer)) >= committer->deadline_ms)
            note_error(committer, KVS_ERR_LOCK_TIMEOUT,
                       "a key stays locked by another transaction");
    }
    if (committer->error != 0) {
        round_end(committer);
        return;
    }
    committer->timer.fire = on_timer;
    committer->timer_runs =
        sleep_ms > 0 &&
        shard_timer_start(shard_of(committer), &committer->timer, (uint64_t)sleep_ms) == 0;
    if (!committer->timer_runs)
        prewrite_parked(committer);
}

/* --- the outcome --------------------------------------------------------------------------------
 */

static void on_committed(struct committer *committer)
{
    bool has_locks = committer->phase != PHASE_BACKGROUND && !committer->one_pc;
    shard_learn_status(shard_of(committer), committer->txn->view.ts, committer->commit_ts);
    tell(committer, 0);
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
        note_error(committer, error, why);
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
        tell(committer, 0);
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
static void round_end(struct committer *committer)
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
        if (is_long(committer))
            heartbeat_start(committer->txn, committer->keys[committer->primary_key]);
        int error = add_prewrite(committer, committer->rest_from, committer->count);
        if (error != 0) {
            note_error(committer, error, "no memory for a request");
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
        note_error(committer, KVS_ERR_LOCK_LOST,
                   "the primary lock asks for a commit more than an hour ahead of the time");
    else if (committer->op == NULL || shard_now_ms(shard_of(committer)) >= committer->deadline_ms)
        note_error(committer, KVS_ERR_TIMEOUT, "others keep pushing the time of the commit");
}

static void primary_done(struct txn_call *call, int error)
{
    struct committer *committer = call->owner;
    struct txn_key_error key_error = call->command.commit.error;
    bool maybe_done = call->maybe_done;
    if (error != 0 && maybe_done) {
        memcpy(committer->why, call->why, sizeof committer->why);
        end_call(committer, call);
        fail_undetermined(committer);
        return;
    }
    if (error != 0)
        note_error(committer, error, call->why);
    else if (key_error.kind != TXN_ERROR_NONE && key_error.kind != TXN_ERROR_COMMIT_TS_EXPIRED)
        note_key_error(committer, &key_error);
    bool expired = error == 0 && key_error.kind == TXN_ERROR_COMMIT_TS_EXPIRED;
    if (expired)
        note_bounds_of_time(committer, &key_error);
    end_call(committer, call);
    if (committer->error != 0)
        fail(committer);
    else if (expired) /* a reader has pushed it: a later time */
        ask_time(committer, on_commit_time);
    else
        on_committed(committer);
}

/* The primary, and what lies together with it. */
static int primary_fit(struct txn_call *call, const struct txn_bounds *bounds)
{
    struct committer *committer = call->owner;
    uint32_t count_max = shard_of(committer)->transport->batch_count_max;
    uint32_t from = committer->primary_key;
    uint32_t to = from + 1;
    while (from > 0 && to - from < count_max &&
           txn_bounds_above_start(bounds, committer->keys[from - 1]))
        from--;
    while (to < committer->keys_count && to - from < count_max &&
           txn_bounds_below_end(bounds, committer->keys[to]))
        to++;
    committer->done_from = from;
    committer->done_to = to;
    struct txn_commit *command = &call->command.commit;
    command->keys = committer->keys + from;
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
        add_call(committer, TXN_COMMIT, &primary_methods, committer->keys[committer->primary_key],
                 0, 1, COMMIT_BUDGET_MS);
    if (call == NULL) {
        note_error(committer, KVS_ERR_NO_MEMORY, "no memory for a request");
        fail(committer);
        return;
    }
    txn_call_start(call);
}

/* --- the begin ----------------------------------------------------------------------------------
 */

static uint8_t op_of_entry(const kvs_txn *txn, const struct write_entry *entry)
{
    bool checks = entry->must_be_absent && !txn->options.pessimistic;
    switch (entry->kind) {
    case WRITE_PUT:
        return checks ? TXN_OP_INSERT : TXN_OP_PUT;
    case WRITE_DELETE:
        return checks ? TXN_OP_CHECK_NOT_EXISTS : TXN_OP_DELETE;
    default:
        return TXN_OP_LOCK;
    }
}

static void add_mutation(struct committer *committer, const struct write_entry *entry)
{
    kvs_txn *txn = committer->txn;
    uint8_t op = op_of_entry(txn, entry);
    bool is_pessimistic = txn->options.pessimistic;
    committer->mutations[committer->count] = (struct txn_mutation){
        .op = op,
        .key = entry->key,
        .value = entry->value,
        .pessimistic_action =
            is_pessimistic && entry->locked ? TXN_DO_PESSIMISTIC_CHECK : TXN_SKIP_PESSIMISTIC_CHECK,
    };
    committer->bytes += entry->key.size + entry->value.size;
    if (op != TXN_OP_CHECK_NOT_EXISTS) {
        bool is_primary = txn->primary.size > 0 ? slice_equal(txn->primary, entry->key)
                                                : committer->keys_count == 0;
        if (is_primary) {
            committer->primary = committer->count;
            committer->primary_key = committer->keys_count;
        }
        committer->keys[committer->keys_count++] = entry->key;
    }
    committer->count++;
}

static int make_mutations(struct committer *committer)
{
    const struct write_buffer *writes = &committer->txn->writes;
    size_t room = writes->count + 1;
    committer->mutations = arena_zalloc(&committer->arena, room * sizeof(struct txn_mutation));
    committer->keys = arena_alloc(&committer->arena, room * sizeof(kvs_slice));
    committer->secondaries = arena_alloc(&committer->arena, room * sizeof(kvs_slice));
    if (committer->mutations == NULL || committer->keys == NULL || committer->secondaries == NULL)
        return KVS_ERR_NO_MEMORY;
    const struct write_entry *entry = write_buffer_first(writes);
    for (; entry != NULL; entry = entry->next[0]) {
        if (entry->kind != WRITE_NONE)
            add_mutation(committer, entry);
    }
    size_t key_bytes = 0;
    for (uint32_t i = 0; i < committer->keys_count; i++) {
        key_bytes += committer->keys[i].size;
        if (i != committer->primary_key)
            committer->secondaries[committer->secondaries_count++] = committer->keys[i];
    }
    const struct kvs_txn_options *options = &committer->txn->options;
    committer->one_pc = !options->no_one_pc;
    committer->async = !options->no_async_commit && committer->keys_count > 0 &&
                       committer->keys_count <= ASYNC_KEYS_MAX && key_bytes <= ASYNC_BYTES_MAX;
    return 0;
}

static void prewrite_begin(struct committer *committer)
{
    int error = add_prewrite(committer, 0, committer->count);
    if (error != 0) { /* nothing was sent; but it may have pessimistic locks */
        note_error(committer, error, "no memory for a request");
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
        note_error(committer, error, why);
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
        txn_release_locks(txn, NULL, 0);
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
    if (committer == NULL || make_mutations(committer) != 0) {
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
        tell(committer, 0);
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
    bool may_decide = committer->phase == PHASE_COMMIT || committer->async || committer->one_pc;
    if (committer->pending > 0 && may_decide) {
        /* What was sent may still commit; it goes on without its future. */
        snprintf(committer->why, sizeof committer->why, "cancelled when it was under way");
        tell(committer, KVS_ERR_OUTCOME_UNKNOWN);
    } else if (committer->asks_time) { /* when it comes, what was written is taken back */
        note_error(committer, KVS_ERR_CANCELLED, "cancelled");
        tell(committer, committer->error);
    }
}

/* --- giving back --------------------------------------------------------------------------------
 */

/* keys NULL: all that are locked. */
static int take_locked_keys(struct committer *committer, const struct read_key *keys,
                            uint32_t count)
{
    const struct write_buffer *writes = &committer->txn->writes;
    size_t room = (keys != NULL ? count : writes->count) + 1;
    committer->keys = arena_alloc(&committer->arena, room * sizeof(kvs_slice));
    if (committer->keys == NULL)
        return KVS_ERR_NO_MEMORY;
    const struct write_entry *entry = keys == NULL ? write_buffer_first(writes) : NULL;
    for (; entry != NULL; entry = entry->next[0]) {
        if (entry->locked)
            committer->keys[committer->keys_count++] = entry->key;
    }
    for (uint32_t i = 0; keys != NULL && i < count; i++) {
        entry = write_buffer_find(writes, keys[i].key);
        if (entry != NULL && !entry->locked) /* those locked before stay locked */
            committer->keys[committer->keys_count++] = entry->key;
    }
    return 0;
}

void txn_release_locks(kvs_txn *txn, const struct read_key *keys, uint32_t count)
{
    struct committer *committer = committer_new(txn, NULL);
    if (committer == NULL)
        return; /* the locks end by themselves */
    committer->commit_ts = txn->for_update_ts;
    take_locked_keys(committer, keys, count); /* without memory: none */
    background_run(committer, TXN_PESSIMISTIC_ROLLBACK, ROLLBACK_BUDGET_MS);
}

void rollback_begin(struct txn_request *op)
{
    end_without_writes(op, 0, NULL);
}

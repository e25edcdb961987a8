/*
 * client/txn/prewriter.c: the first phase of a commit; see committer.c for the whole.
 *
 *   1. all mutations are one part. Where it does not fit into one request (the data is cut there,
 *      or it is too large) the rest becomes a part of its own;
 *   2. one part holds all: the store may commit at once (one phase). Few keys: all parts go out
 *      together and the primary's names the others, so that anybody can find the outcome when all
 *      are there (asynchronous commit). Else the primary's part goes first;
 *   3. parts that meet locks of others are parked; when all parts have ended, the resolver looks
 *      after the locks, and they go out again, after a while if somebody lives.
 * A round ends when no part is under way: committer_round_end. Thread: the shard's loop.
 */
#include "client/txn/committer.h"

#include <stdio.h>

#define ASYNC_KEYS_MAX 256u
#define ASYNC_BYTES_MAX 4096u
#define COMMIT_AHEAD_MAX_MS 2000u /* of the time, by a commit that chooses its timestamp itself */
#define TTL_MIN_MS 3000u
#define TTL_PER_ROOT_MIB 6000u
#define TTL_STEP_MS 100u
#define TTL_SMALL_BYTES (16u * 1024)
/* What is larger may take longer than its locks live. */
#define HEARTBEAT_BYTES (4u * 1024 * 1024)
#define HEARTBEAT_KEYS 10000u

/* --- mutations ----------------------------------------------------------------------------------
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
        return entry->shared ? TXN_OP_SHARED_LOCK : TXN_OP_LOCK;
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
    if (op == TXN_OP_SHARED_LOCK)
        committer->shares = true;
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

int prewrite_make_mutations(struct committer *committer)
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
    committer->one_pc = !options->no_one_pc && !committer->shares;
    committer->async = !options->no_async_commit && !committer->shares &&
                       committer->keys_count > 0 && committer->keys_count <= ASYNC_KEYS_MAX &&
                       key_bytes <= ASYNC_BYTES_MAX;
    return 0;
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

bool prewrite_is_long(const struct committer *committer)
{
    return committer->bytes > HEARTBEAT_BYTES || committer->keys_count > HEARTBEAT_KEYS;
}

/* Where there will be heartbeats, until the first. */
static uint64_t lock_ttl_ms(const struct committer *committer)
{
    const kvs_txn *txn = committer->txn;
    uint64_t elapsed_ms = txn_elapsed_ms(txn);
    if (txn->heartbeat.runs || prewrite_is_long(committer))
        return elapsed_ms + TXN_LOCK_TTL_MS;
    return elapsed_ms +
           (committer->bytes > TTL_SMALL_BYTES ? ttl_of_size(committer->bytes) : TTL_MIN_MS);
}

/* Somebody may have read as of a time that is still to come: above that, a commit that chooses its
 * own timestamp would be invisible until then. Two phases ask for the time instead. */
static uint64_t max_commit_ts(const struct committer *committer)
{
    const kvs_txn *txn = committer->txn;
    return txn->view.ts + txn_ts_make(txn_elapsed_ms(txn) + COMMIT_AHEAD_MAX_MS, 0);
}

static uint32_t prewrite_end(const struct committer *committer, const struct txn_call *call,
                             const struct txn_bounds *bounds)
{
    size_t primary_size = committer->mutations[committer->primary].key.size; /* in each lock */
    struct txn_load load = {0};
    uint32_t end = call->from;
    while (end < call->to) {
        const struct txn_mutation *mutation = &committer->mutations[end];
        bool is_here = end == call->from || txn_bounds_below_end(bounds, mutation->key);
        if (!is_here || !txn_load_add(&load, call->transport, mutation->key,
                                      mutation->value.size + primary_size))
            break;
        end++;
    }
    return end;
}

/* The rest becomes a call of its own, now or when the primary's part is done. */
static int prewrite_cut(struct committer *committer, struct txn_call *call, uint32_t end)
{
    bool has_primary = call->from <= committer->primary && committer->primary < end;
    bool waits = committer->keys_count > 0 && !committer->async &&
                 !committer->txn->options.pessimistic && has_primary;
    if (waits) {
        committer->rest_waits = true;
        committer->rest_from = end;
    } else {
        int error = prewrite_add(committer, end, call->to);
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
    command->max_commit_ts = max_commit_ts(committer);
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
        committer_note_key_error(committer, &conflict);
        return;
    }
    if (!committer->has_resolver) {
        memset(&committer->resolver, 0, sizeof committer->resolver);
        resolver_init(&committer->resolver, committer_shard(committer), RESOLVE_FOR_WRITE,
                      txn->view.ts, on_resolved);
        committer->has_resolver = true;
    }
    if (resolver_add(&committer->resolver, lock) != 0)
        committer_note_error(committer, KVS_ERR_NO_MEMORY, "no memory to resolve a lock");
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
            committer_note_key_error(committer, &command->errors[i]);
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
        committer_note_error(committer, error == KVS_ERR_OUTCOME_UNKNOWN ? KVS_ERR_TIMEOUT : error,
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
        committer_end_call(committer, call);
    }
    if (committer->pending == 0)
        committer_round_end(committer);
}

static const struct txn_call_methods prewrite_methods = {
    .fit = prewrite_fit,
    .done = prewrite_done,
};

int prewrite_add(struct committer *committer, uint32_t from, uint32_t to)
{
    struct txn_call *call =
        committer_add_call(committer, TXN_PREWRITE, &prewrite_methods,
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
            error = prewrite_add(committer, call->from, call->to);
        txn_call_free(call);
    }
    committer->pending--;
    if (error != 0)
        committer_note_error(committer, error, "no memory for a request");
    if (committer->pending == 0)
        committer_round_end(committer);
}

static void on_timer(struct txn_timer *timer)
{
    struct committer *committer = CONTAINER_OF(timer, struct committer, timer);
    committer->timer_runs = false;
    if (committer->error != 0) /* given up meanwhile */
        committer_round_end(committer);
    else
        prewrite_parked(committer);
}

static void on_resolved(struct resolver *resolver, int error)
{
    struct committer *committer = CONTAINER_OF(resolver, struct committer, resolver);
    uint64_t wait_ms = resolver->wait_ms;
    if (error != 0)
        committer_note_error(committer, error, resolver->why);
    resolver_deinit(resolver);
    committer->has_resolver = false;
    if (committer->op != NULL && committer->op->cancelled)
        committer_note_error(committer, KVS_ERR_CANCELLED, "cancelled");
    int64_t sleep_ms = 0;
    if (wait_ms > 0) {
        sleep_ms = backoff_next(&committer->backoff, BACKOFF_TXN_LOCK,
                                &committer_shard(committer)->rand, 0);
        if (sleep_ms > 0 && (uint64_t)sleep_ms > wait_ms)
            sleep_ms = (int64_t)wait_ms;
        if (sleep_ms < 0 || shard_now_ms(committer_shard(committer)) >= committer->deadline_ms)
            committer_note_error(committer, KVS_ERR_LOCK_TIMEOUT,
                                 "a key stays locked by another transaction");
    }
    if (committer->error != 0) {
        committer_round_end(committer);
        return;
    }
    committer->timer.fire = on_timer;
    committer->timer_runs =
        sleep_ms > 0 &&
        shard_timer_start(committer_shard(committer), &committer->timer, (uint64_t)sleep_ms) == 0;
    if (!committer->timer_runs)
        prewrite_parked(committer);
}

/*
 * client/txn/locker.c: pessimistic locks.
 *
 *   1. a timestamp of now: values are read as of it, and nothing newer may be there;
 *   2. the first key that a transaction locks is its primary: its part is locked first; then the
 *      others side by side;
 *   3. a lock of another transaction: the store waits for it, a second at a time; after that the
 *      resolver looks whether its owner lives; until the time is over;
 *   4. a version newer than the timestamp (somebody committed meanwhile): from 1 for that part.
 * Failures: DEADLOCK, LOCK_TIMEOUT, ALREADY_EXISTS, and those of the transport: what this operation
 * has locked is given back in the background; what was locked before stays. That may come to a
 * store after the next lock of the same key, and goes by the timestamps of locks: so that one gets
 * a later timestamp. A request that was given up may wait in a store still, and lock the key a
 * moment later: TiKV lets it wait after what gives the lock back. So that is sent once more when
 * the wait is over.
 *
 * Thread: the shard's loop; lock_free: any.
 */
#include "client/txn/txn_parts.h"

#include "base/mem.h"

#include <assert.h>
#include <stdio.h>

#define LOCK_BUDGET_MS 20000u
#define STORE_WAITS_MS 1000u                      /* at a time, for others */
#define GIVE_BACK_AGAIN_MS (STORE_WAITS_MS + 100) /* and it has answered */

struct locker {
    struct txn_request *op;
    void (*done)(struct txn_request *op, int error);
    bool want_values;
    bool chose_primary;
    bool primary_first;            /* the rest waits for the part of the primary */
    uint32_t rest;                 /* where it begins */
    uint32_t again_from, again_to; /* parts that have to be tried again lie within */
    bool has_again;
    bool needs_time;
    bool may_come; /* a request was sent whose answer nobody will read */
    uint64_t began_ms;
    uint64_t until_ms; /* locks of others are waited for */
    uint64_t for_update_ts;
    struct list calls;
    struct list kept;    /* have the values */
    struct arena before; /* the op's, before the first attempt */
    unsigned pending;
    int error;
    struct txn_timestamp time;
    struct resolver resolver;
    bool has_resolver;
    struct txn_timer timer;
    bool timer_runs;
};

static void lock_ask_time(struct locker *locker);
static void lock_parts(struct locker *locker);
static int add_part(struct locker *locker, uint32_t from, uint32_t to);

static struct txn_shard *shard_of(const struct locker *locker)
{
    return locker->op->txn->shard;
}

/* When it has to end, come what may: waiting for others does not count. */
static uint64_t last_call_ms(const struct locker *locker)
{
    uint64_t wait_ms =
        locker->until_ms > locker->began_ms ? locker->until_ms - locker->began_ms : 0;
    return locker->op->deadline_ms + wait_ms;
}

/* What the store or PD is asked meanwhile has the time of a call, each time. */
static uint64_t question_end_ms(const struct locker *locker)
{
    const struct txn_request *op = locker->op;
    uint64_t end_ms = shard_now_ms(shard_of(locker)) + op->txn->options.timeout_ms;
    uint64_t last_ms = locker->for_update_ts == 0 ? op->deadline_ms : last_call_ms(locker);
    return end_ms < last_ms ? end_ms : last_ms;
}

/* --- the end ------------------------------------------------------------------------------------
 */

/* The first key of a transaction is locked: the others hang on it. */
static void lock_take_primary(struct locker *locker)
{
    kvs_txn *txn = locker->op->txn;
    if (txn->primary.size > 0)
        return;
    const struct write_entry *entry = write_buffer_find(&txn->writes, locker->op->locks[0].key);
    heartbeat_start(txn, entry->key);
    locker->chose_primary = true;
}

static void lock_end(struct locker *locker)
{
    struct txn_request *op = locker->op;
    if (locker->error == 0) {
        lock_take_primary(locker);
    } else {
        if (locker->for_update_ts != 0) { /* else nothing was sent */
            txn_release_locks(op->txn, op->locks, op->locks_count,
                              locker->may_come ? GIVE_BACK_AGAIN_MS : 0);
            op->txn->gives_back = true;
        }
        if (locker->chose_primary) { /* it is given back, too: the next one will be another */
            heartbeat_stop(op->txn);
            op->txn->primary = slice_make(NULL, 0);
        }
    }
    locker->done(op, locker->error);
}

static void lock_set_error(struct locker *locker, int error, const char *why)
{
    if (locker->error != 0)
        return;
    locker->error = error;
    if (why != NULL)
        snprintf(locker->op->message, sizeof locker->op->message, "%s", why);
}

static void lock_set_key_error(struct locker *locker, const struct txn_key_error *error)
{
    struct txn_request *op = locker->op;
    if (locker->error != 0)
        return;
    locker->error = txn_error_take(error, &op->arena, &op->conflict, op->message);
    op->conflict.start_ts = op->txn->view.ts;
    op->has_conflict = true;
}

/* --- one part -----------------------------------------------------------------------------------
 */

static int part_mutations(struct locker *locker, struct txn_call *call)
{
    struct txn_request *op = locker->op;
    uint32_t count = call->to - call->from;
    struct txn_mutation *mutations =
        arena_zalloc(&call->command.base.arena, count * sizeof mutations[0]);
    if (mutations == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        mutations[i].op = op->shares ? TXN_OP_SHARED_PESSIMISTIC_LOCK : TXN_OP_PESSIMISTIC_LOCK;
        mutations[i].key = op->locks[call->from + i].key;
        mutations[i].assertion = op->insert ? TXN_ASSERT_NOT_EXIST : TXN_ASSERT_NONE;
    }
    call->command.lock.mutations = mutations;
    call->command.lock.mutations_count = count;
    return 0;
}

static kvs_slice lock_primary(const struct locker *locker)
{
    const kvs_txn *txn = locker->op->txn;
    return txn->primary.size > 0 ? txn->primary : locker->op->locks[0].key;
}

static uint32_t part_end(const struct locker *locker, const struct txn_call *call,
                         const struct txn_bounds *bounds)
{
    const struct txn_request *op = locker->op;
    size_t primary_size = lock_primary(locker).size; /* in each lock */
    struct txn_load load = {0};
    uint32_t end = call->from;
    while (end < call->to &&
           (end == call->from || txn_bounds_below_end(bounds, op->locks[end].key)) &&
           txn_load_add(&load, call->transport, op->locks[end].key, primary_size))
        end++;
    return end;
}

/* How long the store may wait; -1: not at all. */
static int64_t wait_left(const struct locker *locker)
{
    uint64_t now_ms = shard_now_ms(shard_of(locker));
    if (locker->until_ms <= now_ms)
        return -1;
    uint64_t left_ms = locker->until_ms - now_ms;
    return (int64_t)(left_ms < STORE_WAITS_MS ? left_ms : STORE_WAITS_MS);
}

static uint64_t part_end_ms(const struct locker *locker)
{
    int64_t wait_ms = wait_left(locker);
    uint64_t end_ms = question_end_ms(locker) + (wait_ms > 0 ? (uint64_t)wait_ms : 0);
    uint64_t last_ms = last_call_ms(locker);
    return end_ms < last_ms ? end_ms : last_ms;
}

static int lock_fit(struct txn_call *call, const struct txn_bounds *bounds)
{
    struct locker *locker = call->owner;
    kvs_txn *txn = locker->op->txn;
    uint32_t end = part_end(locker, call, bounds);
    if (end < call->to) {
        if (locker->primary_first) {
            locker->rest = end;
        } else {
            int error = add_part(locker, end, call->to);
            if (error != 0)
                return error;
        }
        call->to = end;
    }
    struct txn_pessimistic_lock *command = &call->command.lock;
    command->primary = lock_primary(locker);
    command->start_ts = txn->view.ts;
    command->lock_ttl_ms = txn_elapsed_ms(txn) + TXN_LOCK_TTL_MS;
    command->for_update_ts = locker->for_update_ts;
    command->min_commit_ts = locker->for_update_ts + 1;
    command->wait_timeout_ms = wait_left(locker);
    command->is_first_lock = txn->primary.size == 0 && locker->op->locks_count == 1;
    command->return_values = locker->want_values;
    command->check_existence = locker->op->insert;
    return part_mutations(locker, call);
}

/* The part has to be tried again. */
static void lock_again(struct locker *locker, const struct txn_call *call)
{
    if (!locker->has_again || call->from < locker->again_from)
        locker->again_from = call->from;
    if (!locker->has_again || call->to > locker->again_to)
        locker->again_to = call->to;
    locker->has_again = true;
}

static void on_resolved(struct resolver *resolver, int error);

static void lock_met(struct locker *locker, const struct txn_call *call,
                     const struct txn_key_error *error)
{
    struct txn_request *op = locker->op;
    kvs_txn_conflict *conflict = &op->conflict;
    if (locker->error != 0)
        return;
    arena_rewind(&op->arena, &locker->before); /* what the attempt before told */
    int code = txn_error_take(error, &op->arena, conflict, op->message); /* if it stays so */
    if (code == KVS_ERR_NO_MEMORY) {
        lock_set_error(locker, code, NULL);
        return;
    }
    conflict->start_ts = op->txn->view.ts;
    if (!locker->has_resolver) {
        memset(&locker->resolver, 0, sizeof locker->resolver);
        resolver_init(&locker->resolver, shard_of(locker), RESOLVE_FOR_WRITE, 0, on_resolved);
        locker->has_resolver = true;
    }
    int failed = resolver_add(&locker->resolver, &error->lock);
    if (failed != 0)
        lock_set_error(locker, failed, NULL);
    lock_again(locker, call);
}

static void take_errors(struct locker *locker, const struct txn_call *call)
{
    const struct txn_pessimistic_lock *command = &call->command.lock;
    for (uint32_t i = 0; i < command->errors_count; i++) {
        const struct txn_key_error *error = &command->errors[i];
        if (error->kind == TXN_ERROR_LOCKED) {
            lock_met(locker, call, error);
        } else if (error->kind == TXN_ERROR_WRITE_CONFLICT &&
                   error->reason != TXN_CONFLICT_SELF_ROLLED_BACK) {
            locker->needs_time = true;
            lock_again(locker, call);
        } else {
            lock_set_key_error(locker, error);
        }
    }
}

static void take_values(struct locker *locker, const struct txn_call *call)
{
    const struct txn_pessimistic_lock *command = &call->command.lock;
    for (uint32_t i = call->from; i < call->to; i++) {
        struct read_key *key = &locker->op->locks[i];
        key->locked = false;
        if (command->not_founds != NULL)
            key->found = !command->not_founds[i - call->from];
        if (command->values != NULL && key->found)
            key->value = command->values[i - call->from];
        /* Some stores look for it only when they lock a key for the first time. */
        if (locker->op->insert && key->found)
            lock_set_key_error(
                locker, &(struct txn_key_error){.kind = TXN_ERROR_ALREADY_EXISTS, .key = key->key});
    }
}

static void round_end(struct locker *locker);

static void lock_done(struct txn_call *call, int error)
{
    struct locker *locker = call->owner;
    bool is_locked = error == 0 && call->command.lock.errors_count == 0;
    list_remove(&call->node);
    locker->may_come = locker->may_come || call->maybe_done;
    if (is_locked)
        take_values(locker, call);
    else if (error == 0)
        take_errors(locker, call);
    else
        lock_set_error(locker, error, call->why);
    if (is_locked)
        list_append(&locker->kept, &call->node);
    else
        txn_call_free(call);
    if (--locker->pending == 0)
        round_end(locker);
}

static const struct txn_call_methods lock_methods = {
    .fit = lock_fit,
    .done = lock_done,
};

/* --- rounds -------------------------------------------------------------------------------------
 */

static int add_part(struct locker *locker, uint32_t from, uint32_t to)
{
    struct txn_request *op = locker->op;
    while (from < to && !op->locks[from].locked)
        from++; /* done already */
    if (from == to)
        return 0;
    struct txn_call *call =
        txn_call_new(shard_of(locker)->transport, TXN_PESSIMISTIC_LOCK, &lock_methods, locker);
    if (call == NULL)
        return KVS_ERR_NO_MEMORY;
    call->from = from;
    call->to = to;
    call->key = op->locks[from].key;
    call->deadline_ms = part_end_ms(locker);
    call->budget_ms = LOCK_BUDGET_MS;
    call->priority = op->txn->options.priority;
    list_append(&locker->calls, &call->node);
    locker->pending++;
    txn_call_start(call);
    return 0;
}

static void on_timer(struct txn_timer *timer)
{
    struct locker *locker = CONTAINER_OF(timer, struct locker, timer);
    locker->timer_runs = false;
    if (locker->op->cancelled)
        lock_set_error(locker, KVS_ERR_CANCELLED, NULL);
    if (locker->error != 0)
        lock_end(locker);
    else
        lock_parts(locker);
}

static void on_resolved(struct resolver *resolver, int error)
{
    struct locker *locker = CONTAINER_OF(resolver, struct locker, resolver);
    uint64_t wait_ms = resolver->wait_ms;
    int64_t left_ms = wait_left(locker);
    if (error != 0)
        lock_set_error(locker, error, resolver->why);
    else if (locker->op->cancelled)
        lock_set_error(locker, KVS_ERR_CANCELLED, NULL);
    else if (wait_ms > 0 && left_ms < 0)
        locker->error = KVS_ERR_LOCK_TIMEOUT; /* the message is there */
    locker->op->has_conflict = locker->error == KVS_ERR_LOCK_TIMEOUT;
    resolver_deinit(resolver);
    locker->has_resolver = false;
    if (locker->error != 0) {
        lock_end(locker);
        return;
    }
    /* The store itself waits, so there is no need to be slow here. */
    locker->timer.fire = on_timer;
    error = wait_ms > 0 ? shard_timer_start(shard_of(locker), &locker->timer, 1) : 0;
    locker->timer_runs = wait_ms > 0 && error == 0;
    if (error != 0) {
        lock_set_error(locker, error, NULL);
        lock_end(locker);
    } else if (wait_ms == 0) {
        lock_parts(locker);
    }
}

/* All of a round's parts have ended. */
static void round_end(struct locker *locker)
{
    struct txn_request *op = locker->op;
    if (locker->error == 0 && op->cancelled)
        lock_set_error(locker, KVS_ERR_CANCELLED, NULL);
    if (locker->has_again && shard_now_ms(shard_of(locker)) >= last_call_ms(locker))
        lock_set_error(locker, KVS_ERR_TIMEOUT, "others keep writing the key first");
    if (locker->error != 0) {
        if (locker->has_resolver)
            resolver_deinit(&locker->resolver);
        locker->has_resolver = false;
        lock_end(locker);
    } else if (locker->has_resolver) {
        resolver_run(&locker->resolver, question_end_ms(locker));
    } else if (locker->has_again) {
        lock_parts(locker);
    } else if (locker->primary_first && locker->rest > 0) {
        locker->has_again = true;
        locker->again_from = locker->rest;
        locker->again_to = op->locks_count;
        locker->rest = 0;
        lock_parts(locker);
    } else {
        lock_end(locker);
    }
}

/* Tries what is to be tried (again). */
static void lock_parts(struct locker *locker)
{
    kvs_txn *txn = locker->op->txn;
    if (locker->op->cancelled) {
        lock_set_error(locker, KVS_ERR_CANCELLED, NULL);
        lock_end(locker);
        return;
    }
    if (locker->needs_time) {
        lock_ask_time(locker);
        return;
    }
    uint32_t from = locker->again_from;
    uint32_t to = locker->again_to;
    if (from > 0)
        lock_take_primary(locker);
    locker->has_again = false;
    locker->primary_first = txn->primary.size == 0 && from == 0;
    int error = add_part(locker, from, to);
    if (error != 0) {
        lock_set_error(locker, error, NULL);
        lock_end(locker);
    }
}

static void on_time(struct txn_timestamp *time, int error, const char *why)
{
    struct locker *locker = CONTAINER_OF(time, struct locker, time);
    kvs_txn *txn = locker->op->txn;
    if (error != 0) {
        lock_set_error(locker, error, why);
        lock_end(locker);
        return;
    }
    locker->needs_time = false;
    locker->for_update_ts = time->ts;
    if (time->ts > txn->for_update_ts)
        txn->for_update_ts = time->ts;
    lock_parts(locker);
}

static void lock_ask_time(struct locker *locker)
{
    shard_ask_time(shard_of(locker), &locker->time, question_end_ms(locker), on_time);
}

/* The keys get entries now: the primary's memory is there, whatever follows. */
static int make_entries(struct txn_request *op)
{
    int error = 0;
    pthread_mutex_lock(&op->txn->mutex);
    for (uint32_t i = 0; error == 0 && i < op->locks_count; i++) {
        if (write_buffer_get(&op->txn->writes, op->locks[i].key) == NULL)
            error = KVS_ERR_NO_MEMORY;
    }
    pthread_mutex_unlock(&op->txn->mutex);
    return error;
}

void lock_begin(struct txn_request *op, bool want_values,
                void (*done)(struct txn_request *op, int error))
{
    kvs_txn *txn = op->txn;
    struct locker *locker = mem_zalloc(sizeof *locker);
    if (locker == NULL || make_entries(op) != 0) {
        mem_free(locker);
        done(op, KVS_ERR_NO_MEMORY);
        return;
    }
    int32_t wait_ms = op->wait_ms != 0 ? op->wait_ms : txn->options.lock_wait_ms;
    op->locker = locker;
    locker->op = op;
    locker->done = done;
    locker->want_values = want_values;
    locker->began_ms = shard_now_ms(txn->shard);
    locker->until_ms = wait_ms > 0 ? shard_now_ms(txn->shard) + (uint64_t)wait_ms : 0;
    locker->again_to = op->locks_count;
    locker->has_again = true;
    locker->before = op->arena;
    list_init(&locker->calls);
    list_init(&locker->kept);
    for (uint32_t i = 0; i < op->locks_count; i++)
        op->locks[i].locked = true;             /* to be done */
    if (op->before_start && !txn->gives_back) { /* its start was given after it was called */
        locker->for_update_ts = txn->view.ts;
        if (txn->for_update_ts < txn->view.ts)
            txn->for_update_ts = txn->view.ts;
        lock_parts(locker);
    } else {
        lock_ask_time(locker);
    }
}

void lock_cancel(struct txn_request *op)
{
    struct locker *locker = op->locker;
    for (struct list *at = locker->calls.next; at != &locker->calls; at = at->next)
        txn_call_cancel(list_entry(at, struct txn_call, node));
    shard_give_up_time(&locker->time);
    if (locker->has_resolver)
        resolver_cancel(&locker->resolver);
    if (locker->timer_runs)
        shard_timer_start(shard_of(locker), &locker->timer, 0);
}

void lock_free(struct txn_request *op)
{
    struct locker *locker = op->locker;
    if (locker == NULL)
        return;
    assert(list_empty(&locker->calls) && !locker->has_resolver);
    struct list *at;
    while ((at = list_pop(&locker->kept)) != NULL)
        txn_call_free(list_entry(at, struct txn_call, node));
    mem_free(locker);
}

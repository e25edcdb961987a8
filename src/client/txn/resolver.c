/* client/txn/resolver.c: see client/txn/resolver.h for the steps. */
#include "client/txn/resolver.h"

#include "base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define RESOLVE_BUDGET_MS 40000u
/* The primary lock is not there yet, and may never be. */
#define NOT_FOUND_WAIT_MS 10u

/* One transaction and those of its locks that are in the way. */
struct resolve_job {
    struct list node;
    struct resolver *resolver; /* NULL: nobody waits for it any more */
    struct txn_shard *shard;
    struct arena arena;
    struct txn_lock_info lock; /* the first one met */
    kvs_slice *keys;           /* of its locks */
    uint32_t keys_count;
    uint32_t keys_capacity;
    uint64_t now_ts;
    uint64_t commit_ts; /* 0: rolled back */
    uint64_t deadline_ms;
    bool is_dead; /* no client has it any more: its time does not matter */
    bool forced_sync;
    bool may_roll_back; /* when its primary is not there */
    bool whole_region;
    bool asks_time;
    struct txn_timestamp time;
    struct txn_call *call; /* of the status */
    struct list calls;     /* under way: of secondaries, of resolving */
    unsigned pending;
    /* asynchronous commit */
    kvs_slice *secondaries;
    uint32_t secondaries_count;
    uint32_t locks_found;
    bool is_plain; /* one of them was not written for an asynchronous commit */
    uint64_t max_min_commit_ts;
    uint64_t found_commit_ts;
    int error;
    char why[TXN_WHY_SIZE];
};

static void job_check_status(struct resolve_job *job);
static void job_resolve(struct resolve_job *job);

/* --- lists of timestamps ------------------------------------------------------------------------
 */

int ts_list_add(struct ts_list *list, uint64_t ts)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->items[i] == ts)
            return 0;
    }
    if (list->count == list->capacity) {
        uint32_t capacity = list->capacity > 0 ? list->capacity * 2 : 8;
        uint64_t *items = mem_realloc(list->items, capacity * sizeof items[0]);
        if (items == NULL)
            return KVS_ERR_NO_MEMORY;
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = ts;
    return 0;
}

void ts_list_deinit(struct ts_list *list)
{
    mem_free(list->items);
    *list = (struct ts_list){0};
}

/* --- the end ------------------------------------------------------------------------------------
 */

static void resolver_tell(struct task *task)
{
    struct resolver *resolver = CONTAINER_OF(task, struct resolver, done_task);
    resolver->running = false;
    resolver->done(resolver, resolver->error);
}

static void resolver_check_end(struct resolver *resolver)
{
    if (resolver->pending > 0)
        return;
    resolver->done_task.run = resolver_tell;
    loop_post(resolver->shard->loop, &resolver->done_task);
}

static void job_free(struct resolve_job *job)
{
    struct list *at;
    while ((at = list_pop(&job->calls)) != NULL)
        txn_call_free(list_entry(at, struct txn_call, node));
    txn_call_free(job->call);
    list_remove(&job->node);
    mem_free(job->keys);
    arena_deinit(&job->arena);
    mem_free(job);
}

/* Nobody waits for the job any more; it may go on. */
static void job_detach(struct resolve_job *job, int error)
{
    struct resolver *resolver = job->resolver;
    if (resolver == NULL)
        return;
    job->resolver = NULL;
    list_remove(&job->node);
    if (error != 0 && resolver->error == 0) {
        resolver->error = error;
        snprintf(resolver->why, sizeof resolver->why, "%s", job->why);
    }
    resolver->pending--;
    resolver_check_end(resolver);
}

static void job_end(struct resolve_job *job, int error)
{
    struct txn_shard *shard = job->shard;
    if (error == 0 && job->resolver != NULL)
        job->resolver->ended += job->keys_count;
    job_detach(job, error);
    job_free(job);
    shard_leave(shard);
}

static void job_fail(struct resolve_job *job, int error, const char *why)
{
    snprintf(job->why, sizeof job->why, "%s", why);
    job_end(job, error);
}

/* It lives: try again in a while. */
static void job_end_alive(struct resolve_job *job, uint64_t wait_ms)
{
    struct resolver *resolver = job->resolver;
    if (resolver != NULL && (resolver->wait_ms == 0 || wait_ms < resolver->wait_ms))
        resolver->wait_ms = wait_ms;
    job->keys_count = 0;
    job_end(job, 0);
}

/* A read need not wait for what is done about the locks. */
static int job_let_read_pass(struct resolve_job *job)
{
    struct resolver *resolver = job->resolver;
    if (resolver == NULL || resolver->purpose != RESOLVE_FOR_READ)
        return 0;
    bool through = job->commit_ts != 0 && job->commit_ts <= resolver->caller_ts;
    int error =
        ts_list_add(through ? &resolver->committed : &resolver->resolved, job->lock.start_ts);
    if (error == 0)
        job_detach(job, 0);
    return error;
}

/* --- resolving: the outcome is known ------------------------------------------------------------
 */

static void job_call_done(struct resolve_job *job, struct txn_call *call, int error,
                          const struct txn_key_error *key_error)
{
    if (error == 0 && key_error->kind != TXN_ERROR_NONE) {
        error = KVS_ERR_IO;
        snprintf(call->why, sizeof call->why, "a lock cannot be resolved: %s",
                 key_error->text != NULL ? key_error->text : "refused");
    }
    if (error != 0 && job->error == 0) {
        job->error = error;
        snprintf(job->why, sizeof job->why, "%s", call->why);
    }
    list_remove(&call->node);
    txn_call_free(call);
    job->pending--;
}

static void resolve_done(struct txn_call *call, int error)
{
    struct resolve_job *job = call->owner;
    const struct txn_key_error *key_error = call->command.base.kind == TXN_RESOLVE_LOCK
                                                ? &call->command.resolve_lock.error
                                                : &call->command.pessimistic_rollback.error;
    job_call_done(job, call, error, key_error);
    if (job->pending == 0)
        job_end(job, job->error);
}

static int job_add_call(struct resolve_job *job, enum txn_command_kind kind,
                        const struct txn_call_methods *methods, kvs_slice key, uint32_t from,
                        uint32_t to)
{
    struct txn_call *call = txn_call_new(job->shard->transport, kind, methods, job);
    if (call == NULL)
        return KVS_ERR_NO_MEMORY;
    call->key = key;
    call->from = from;
    call->to = to;
    call->deadline_ms = job->deadline_ms;
    call->budget_ms = RESOLVE_BUDGET_MS;
    list_append(&job->calls, &call->node);
    job->pending++;
    txn_call_start(call);
    return 0;
}

static const struct txn_call_methods resolve_methods;

/* Points the command to the keys that are here; the others become a call of their own. */
static int fit_keys(struct txn_call *call, const struct txn_bounds *bounds, const kvs_slice *keys)
{
    struct resolve_job *job = call->owner;
    uint32_t end = txn_call_keys_end(call, bounds, keys);
    if (end == call->to)
        return 0;
    int error = job_add_call(job, (enum txn_command_kind)call->command.base.kind, call->methods,
                             keys[end], end, call->to);
    if (error == 0)
        call->to = end;
    return error;
}

static int resolve_fit(struct txn_call *call, const struct txn_bounds *bounds)
{
    struct resolve_job *job = call->owner;
    int error = fit_keys(call, bounds, job->keys);
    if (error != 0)
        return error;
    call->start = bounds->start;
    call->end = bounds->end;
    const kvs_slice *keys = job->whole_region ? NULL : job->keys + call->from;
    uint32_t count = job->whole_region ? 0 : call->to - call->from;
    if (call->command.base.kind == TXN_PESSIMISTIC_ROLLBACK) {
        struct txn_pessimistic_rollback *command = &call->command.pessimistic_rollback;
        command->keys = keys;
        command->keys_count = count;
        command->start_ts = job->lock.start_ts;
        command->for_update_ts =
            job->lock.for_update_ts != 0 ? job->lock.for_update_ts : TXN_TS_MAX;
        return 0;
    }
    struct txn_resolve_lock *command = &call->command.resolve_lock;
    struct txn_status *status = arena_alloc(&call->command.base.arena, sizeof *status);
    if (status == NULL)
        return KVS_ERR_NO_MEMORY;
    *status = (struct txn_status){.start_ts = job->lock.start_ts, .commit_ts = job->commit_ts};
    command->txns = status;
    command->txns_count = 1;
    command->keys = keys;
    command->keys_count = count;
    return 0;
}

static const struct txn_call_methods resolve_methods = {
    .fit = resolve_fit,
    .done = resolve_done,
};

static int compare_slices(const void *a, const void *b)
{
    return slice_compare(*(const kvs_slice *)a, *(const kvs_slice *)b);
}

/* Ascending, none twice. */
static void job_sort_keys(struct resolve_job *job)
{
    uint32_t count = 0;
    qsort(job->keys, job->keys_count, sizeof job->keys[0], compare_slices);
    for (uint32_t i = 0; i < job->keys_count; i++) {
        if (count == 0 || !slice_equal(job->keys[count - 1], job->keys[i]))
            job->keys[count++] = job->keys[i];
    }
    job->keys_count = count;
}

static void job_resolve(struct resolve_job *job)
{
    bool is_pessimistic = job->lock.type == TXN_OP_PESSIMISTIC_LOCK;
    int error = job_let_read_pass(job);
    if (error == 0) {
        job_sort_keys(job);
        job->whole_region = !is_pessimistic && job->lock.txn_size >= RESOLVE_LITE_MAX &&
                            job->secondaries_count == 0;
        error = job_add_call(job, is_pessimistic ? TXN_PESSIMISTIC_ROLLBACK : TXN_RESOLVE_LOCK,
                             &resolve_methods, job->keys[0], 0, job->keys_count);
    }
    if (error != 0)
        job_fail(job, error, "no memory to resolve a lock");
}

static void job_on_outcome(struct resolve_job *job, uint64_t commit_ts, bool is_final)
{
    job->commit_ts = commit_ts;
    if (is_final)
        shard_learn_status(job->shard, job->lock.start_ts, commit_ts);
    job_resolve(job);
}

/* --- asynchronous commit: what the other locks say ----------------------------------------------
 */

static void job_on_secondaries(struct resolve_job *job)
{
    if (job->error != 0) {
        job_end(job, job->error);
    } else if (job->found_commit_ts != 0) {
        job_on_outcome(job, job->found_commit_ts, true);
    } else if (job->is_plain) {
        job->forced_sync = true;
        job_check_status(job);
    } else if (job->locks_found < job->secondaries_count) {
        job_on_outcome(job, 0, true);
    } else {
        job_on_outcome(job, job->max_min_commit_ts, true);
    }
}

static void secondaries_done(struct txn_call *call, int error)
{
    struct resolve_job *job = call->owner;
    const struct txn_check_secondaries *command = &call->command.check_secondaries;
    if (error == 0 && command->error.kind == TXN_ERROR_NONE) {
        if (command->commit_ts != 0)
            job->found_commit_ts = command->commit_ts;
        job->locks_found += command->locks_count;
        for (uint32_t i = 0; i < command->locks_count; i++) {
            const struct txn_lock_info *lock = &command->locks[i];
            if (!lock->use_async_commit)
                job->is_plain = true;
            if (lock->min_commit_ts > job->max_min_commit_ts)
                job->max_min_commit_ts = lock->min_commit_ts;
        }
    }
    job_call_done(job, call, error, &command->error);
    if (job->pending == 0)
        job_on_secondaries(job);
}

static int secondaries_fit(struct txn_call *call, const struct txn_bounds *bounds)
{
    struct resolve_job *job = call->owner;
    int error = fit_keys(call, bounds, job->secondaries);
    struct txn_check_secondaries *command = &call->command.check_secondaries;
    command->keys = job->secondaries + call->from;
    command->keys_count = call->to - call->from;
    command->start_ts = job->lock.start_ts;
    return error;
}

static const struct txn_call_methods secondaries_methods = {
    .fit = secondaries_fit,
    .done = secondaries_done,
};

static int job_add_key(struct resolve_job *job, kvs_slice key)
{
    if (job->keys_count == job->keys_capacity) {
        uint32_t capacity = job->keys_capacity > 0 ? job->keys_capacity * 2 : 8;
        kvs_slice *keys = mem_realloc(job->keys, capacity * sizeof keys[0]);
        if (keys == NULL)
            return KVS_ERR_NO_MEMORY;
        job->keys = keys;
        job->keys_capacity = capacity;
    }
    void *copy = arena_copy(&job->arena, key);
    if (copy == NULL)
        return KVS_ERR_NO_MEMORY;
    job->keys[job->keys_count++] = slice_make(copy, key.size);
    return 0;
}

/* `primary` is the lock of the primary key. All of the transaction's locks are resolved then. */
static int job_take_secondaries(struct resolve_job *job, const struct txn_lock_info *primary)
{
    job->secondaries =
        arena_alloc(&job->arena, (primary->secondaries_count + 1) * sizeof(kvs_slice));
    if (job->secondaries == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = job_add_key(job, job->lock.primary);
    for (uint32_t i = 0; error == 0 && i < primary->secondaries_count; i++) {
        kvs_slice key = primary->secondaries[i];
        void *copy = arena_copy(&job->arena, key);
        if (copy == NULL)
            return KVS_ERR_NO_MEMORY;
        job->secondaries[i] = slice_make(copy, key.size);
        error = job_add_key(job, key);
    }
    job->secondaries_count = primary->secondaries_count;
    job->max_min_commit_ts = primary->min_commit_ts;
    qsort(job->secondaries, job->secondaries_count, sizeof(kvs_slice), compare_slices);
    return error;
}

static void job_check_secondaries(struct resolve_job *job, const struct txn_lock_info *primary)
{
    int error = job_take_secondaries(job, primary);
    if (error == 0 && job->secondaries_count > 0)
        error = job_add_call(job, TXN_CHECK_SECONDARIES, &secondaries_methods, job->secondaries[0],
                             0, job->secondaries_count);
    if (error != 0)
        job_fail(job, error, "no memory to resolve a lock");
    else if (job->secondaries_count == 0)
        job_on_outcome(job, job->max_min_commit_ts, true);
}

/* --- the status of the transaction --------------------------------------------------------------
 */

/* Who asks does not care whether the transaction lives. */
static bool job_ends_living(const struct resolve_job *job)
{
    return job->resolver != NULL && job->resolver->purpose == RESOLVE_BY_FORCE;
}

static void job_on_alive(struct resolve_job *job, const struct txn_check_status *status)
{
    struct resolver *resolver = job->resolver;
    const struct txn_lock_info *primary = &status->lock;
    bool is_expired = job->is_dead || job_ends_living(job) || lock_is_expired(primary, job->now_ts);
    if (primary->use_async_commit && is_expired && !job->forced_sync) {
        job_check_secondaries(job, primary);
        return;
    }
    if (status->action == TXN_ACTION_MIN_COMMIT_TS_PUSHED && resolver != NULL &&
        resolver->purpose == RESOLVE_FOR_READ) {
        int error = ts_list_add(&resolver->resolved, job->lock.start_ts);
        job->keys_count = 0;
        job_end(job, error);
        return;
    }
    uint64_t left_ms = lock_life_left_ms(primary, job->now_ts);
    job_end_alive(job, left_ms > 0 ? left_ms : 1);
}

static void job_on_no_txn(struct resolve_job *job)
{
    bool is_expired = job->is_dead || job_ends_living(job) || job->lock.ttl_ms == 0 ||
                      lock_is_expired(&job->lock, job->now_ts);
    if (!is_expired) {
        job_end_alive(job, NOT_FOUND_WAIT_MS);
    } else if (job->lock.type == TXN_OP_PESSIMISTIC_LOCK) {
        job_on_outcome(job, 0, false);
    } else if (!job->may_roll_back) {
        job->may_roll_back = true;
        job_check_status(job);
    } else {
        job_fail(job, KVS_ERR_PROTOCOL, "a store does not say what became of a transaction");
    }
}

static void job_on_status(struct resolve_job *job, const struct txn_check_status *status)
{
    if (status->error.kind == TXN_ERROR_TXN_NOT_FOUND) {
        job_on_no_txn(job);
    } else if (status->error.kind == TXN_ERROR_PRIMARY_MISMATCH &&
               job->lock.type == TXN_OP_PESSIMISTIC_LOCK) {
        job_on_outcome(job, 0, false);
    } else if (status->error.kind != TXN_ERROR_NONE) {
        job_fail(job, KVS_ERR_IO,
                 status->error.text != NULL ? status->error.text
                                            : "a lock names a primary that is none");
    } else if (status->lock_ttl_ms > 0) {
        job_on_alive(job, status);
    } else {
        bool is_final = status->commit_ts != 0 ||
                        (status->action != TXN_ACTION_LOCK_NOT_EXIST_DO_NOTHING &&
                         status->action != TXN_ACTION_TTL_EXPIRE_PESSIMISTIC_ROLLBACK);
        job_on_outcome(job, status->commit_ts, is_final);
    }
}

static void status_done(struct txn_call *call, int error)
{
    struct resolve_job *job = call->owner;
    job->call = NULL;
    if (error != 0)
        job_fail(job, error, call->why);
    else
        job_on_status(job, &call->command.check_status);
    txn_call_free(call);
}

static int status_fit(struct txn_call *call, const struct txn_bounds *bounds)
{
    (void)bounds;
    const struct resolve_job *job = call->owner;
    struct txn_check_status *command = &call->command.check_status;
    bool by_force = job->is_dead || job->lock.ttl_ms == 0 || job_ends_living(job);
    command->primary = job->lock.primary;
    command->start_ts = job->lock.start_ts;
    command->caller_start_ts = job->resolver != NULL ? job->resolver->caller_ts : 0;
    command->current_ts = by_force ? TXN_TS_MAX : job->now_ts;
    command->rollback_if_not_exist = job->may_roll_back;
    command->force_sync_commit = job->forced_sync;
    command->resolving_pessimistic_lock = job->lock.type == TXN_OP_PESSIMISTIC_LOCK;
    command->verify_is_primary = true;
    return 0;
}

static const struct txn_call_methods status_methods = {
    .fit = status_fit,
    .done = status_done,
};

static void job_check_status(struct resolve_job *job)
{
    job->call = txn_call_new(job->shard->transport, TXN_CHECK_STATUS, &status_methods, job);
    if (job->call == NULL) {
        job_fail(job, KVS_ERR_NO_MEMORY, "no memory to resolve a lock");
        return;
    }
    job->call->key = job->lock.primary;
    job->call->deadline_ms = job->deadline_ms;
    job->call->budget_ms = RESOLVE_BUDGET_MS;
    txn_call_start(job->call);
}

static void job_on_time(struct txn_timestamp *time, int error, const char *why)
{
    struct resolve_job *job = CONTAINER_OF(time, struct resolve_job, time);
    job->asks_time = false;
    if (error == 0 && job->resolver == NULL) { /* meanwhile */
        error = KVS_ERR_CANCELLED;
        why = "cancelled";
    }
    if (error != 0) {
        job_fail(job, error, why);
        return;
    }
    job->now_ts = time->ts;
    const struct txn_status *known = shard_status(job->shard, job->lock.start_ts);
    if (known != NULL)
        job_on_outcome(job, known->commit_ts, false);
    else if (job->resolver != NULL && job->resolver->cancelled)
        job_fail(job, KVS_ERR_CANCELLED, "cancelled");
    else
        job_check_status(job);
}

/* --- from outside -------------------------------------------------------------------------------
 */

void resolver_init(struct resolver *resolver, struct txn_shard *shard, enum resolve_purpose purpose,
                   uint64_t caller_ts, void (*done)(struct resolver *resolver, int error))
{
    resolver->shard = shard;
    resolver->purpose = purpose;
    resolver->caller_ts = caller_ts;
    resolver->done = done;
    list_init(&resolver->jobs);
}

static struct resolve_job *find_job(const struct resolver *resolver,
                                    const struct txn_lock_info *lock)
{
    for (struct list *at = resolver->jobs.next; at != &resolver->jobs; at = at->next) {
        struct resolve_job *job = list_entry(at, struct resolve_job, node);
        bool same_type =
            (job->lock.type == TXN_OP_PESSIMISTIC_LOCK) == (lock->type == TXN_OP_PESSIMISTIC_LOCK);
        if (job->lock.start_ts == lock->start_ts && same_type)
            return job;
    }
    return NULL;
}

static struct resolve_job *job_new(struct resolver *resolver, const struct txn_lock_info *lock)
{
    struct resolve_job *job = mem_zalloc(sizeof *job);
    if (job == NULL)
        return NULL;
    void *primary = arena_copy(&job->arena, lock->primary);
    if (primary == NULL) {
        mem_free(job);
        return NULL;
    }
    job->resolver = resolver;
    job->shard = resolver->shard;
    job->lock = *lock;
    job->lock.primary = slice_make(primary, lock->primary.size);
    job->lock.secondaries = NULL;
    job->lock.secondaries_count = 0;
    job->is_dead = lock->start_ts < job->shard->transport->dead_before_ts;
    list_init(&job->calls);
    list_init(&job->node);
    list_append(&resolver->jobs, &job->node);
    return job;
}

static int add_holder(struct resolver *resolver, const struct txn_lock_info *lock)
{
    struct resolve_job *job = find_job(resolver, lock);
    if (job == NULL)
        job = job_new(resolver, lock);
    if (job == NULL)
        return KVS_ERR_NO_MEMORY;
    if (lock->for_update_ts > job->lock.for_update_ts)
        job->lock.for_update_ts = lock->for_update_ts;
    return job_add_key(job, lock->key);
}

int resolver_add(struct resolver *resolver, const struct txn_lock_info *lock)
{
    assert(!resolver->running);
    if (lock->holders_count == 0)
        return add_holder(resolver, lock);
    int error = 0;
    for (uint32_t i = 0; i < lock->holders_count && error == 0; i++)
        error = add_holder(resolver, &lock->holders[i]);
    return error;
}

void resolver_run(struct resolver *resolver, uint64_t deadline_ms)
{
    assert(!resolver->running);
    resolver->running = true;
    resolver->error = 0;
    resolver->wait_ms = 0;
    resolver->deadline_ms = deadline_ms;
    resolver->pending = 1;
    uint64_t time_ms = shard_now_ms(resolver->shard) + resolver->shard->timeout_ms;
    for (struct list *at = resolver->jobs.next; at != &resolver->jobs; at = at->next) {
        struct resolve_job *job = list_entry(at, struct resolve_job, node);
        job->deadline_ms = deadline_ms;
        resolver->pending++;
        shard_enter(job->shard);
        job->asks_time = true;
        shard_ask_time(job->shard, &job->time, time_ms < deadline_ms ? time_ms : deadline_ms,
                       job_on_time);
    }
    resolver->pending--;
    resolver_check_end(resolver);
}

void resolver_cancel(struct resolver *resolver)
{
    resolver->cancelled = true;
    if (!resolver->running)
        return;
    for (struct list *at = resolver->jobs.next; at != &resolver->jobs;) {
        struct resolve_job *job = list_entry(at, struct resolve_job, node);
        at = at->next;
        if (job->call != NULL) {
            txn_call_cancel(job->call);
        } else if (job->asks_time) {
            shard_give_up_time(&job->time);
            job_detach(job, KVS_ERR_CANCELLED);
        }
    }
}

void resolver_deinit(struct resolver *resolver)
{
    assert(!resolver->running);
    struct list *at;
    while ((at = list_pop(&resolver->jobs)) != NULL)
        job_free(list_entry(at, struct resolve_job, node));
    ts_list_deinit(&resolver->resolved);
    ts_list_deinit(&resolver->committed);
}

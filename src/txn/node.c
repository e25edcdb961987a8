/*
 * txn/node.c: the life of a command in the node.
 *
 * A read: txn_answer reads on the caller's thread what is in memory; what is not, and what is
 * long, is read on the blocking pool. Its order of steps is that of txn/pending.h.
 *
 * A command that writes:
 *   1. it claims the latches of its keys; if one is taken it waits in a queue, and goes on on its
 *      loop when it is its turn;
 *   2. its rule runs in a view begun after that, on whatever thread it is; if it would block, again
 *      on the pool, the latches still held;
 *   3. what it staged goes to the engine as one batch; all that one call submits as one chain;
 *   4. on the command's loop: the batch is visible; its pending locks are taken away, waiters of
 *      removed locks are woken, the latches given back, the command completes.
 * Nothing staged: step 4 at once, by a post. A lock in the way of a pessimistic lock: txn/wait.h;
 * resumed, it begins again with step 1.
 *
 * A command over a range repeats: find the keys of a step on the pool, then 1 to 4 for them.
 *
 * Failure: a batch that the engine refuses has changed nothing; step 4 is the same, with that
 * error.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "runtime/loop.h"
#include "txn/job.h"

#include <assert.h>
#include <kvs/error.h>

/* As in TiKV: a woken transaction that commits soon spares the others a vain try. */
#define WAKE_OTHERS_MS 20u
#define WAIT_DEFAULT_MS 1000u

static void jobs_run(struct task_list *jobs);
static void job_on_turn(struct task *task);
static void job_step(struct txn_job *job);

/* --- ends ------------------------------------------------------------------------------------- */

static void latches_release(struct txn_node *node, struct latch_claim *claim)
{
    struct task_list granted = {0};
    latch_release(&node->latches, claim, &granted);
    struct task *task;
    while ((task = task_list_pop(&granted)) != NULL) {
        struct latch_claim *next = CONTAINER_OF(task, struct latch_claim, task);
        loop_post(next->loop, task);
    }
}

static void latches_give_back(struct txn_job *job)
{
    latches_release(job->node, &job->claim);
}

static void job_deinit(struct txn_job *job)
{
    arena_deinit(&job->own);
}

/* The latches are back. The command is its owner's from here on. */
static void job_complete(struct txn_job *job, int error, bool is_on_loop)
{
    struct op *op = &job->command->op;
    op->error = error;
    job_deinit(job);
    if (is_on_loop)
        op->task.run(&op->task);
    else
        loop_post(op->loop, &op->task);
}

/* A command that was resumed and did not lock the key after all: the next one's turn. */
static void pass_on_wake(struct txn_job *job)
{
    if (job->was_woken && !job->has_key && !wait_room_is_empty(&job->node->room))
        wait_wake(&job->node->room, job->waiter.key);
    job->was_woken = false;
}

static void pending_take_away(struct txn_job *job)
{
    pending_withdraw(&job->node->pending, job->pending, job->pending_count);
    job->pending_count = 0;
}

/* A command over a range goes on with another step. */
static bool job_goes_on(struct txn_job *job)
{
    if (job->rule->find == NULL || job->is_last_step)
        return false;
    struct txn_gc *gc = (struct txn_gc *)(void *)job->command;
    if (job->command->kind != TXN_GC || gc->steps_max == 0 || ++job->steps < gc->steps_max)
        return true;
    gc->next = record_key_slice(job->next);
    return false;
}

/* The attempt is over, with nothing for the engine. */
static void job_end_attempt(struct txn_job *job, int error)
{
    pending_take_away(job);
    pass_on_wake(job);
    latches_give_back(job);
    if (error == 0 && job_goes_on(job))
        job_step(job);
    else
        job_complete(job, error, false);
}

/* A batch that was not refused cleanly may be there when the engine is opened again. */
static void pending_doubt_all(struct txn_job *job, int error)
{
    if (kvs_error_retryable(error))
        return;
    for (uint32_t i = 0; i < job->pending_count; i++)
        pending_doubt(&job->node->pending, &job->pending[i]);
}

static void job_on_written(struct task *task)
{
    struct txn_job *job = CONTAINER_OF(task, struct txn_job, write.op.task);
    struct txn_node *node = job->node;
    int error = job->write.op.error;
    if (error != 0) {
        pending_doubt_all(job, error);
        job->has_key = false;
    }
    pending_take_away(job);
    pass_on_wake(job);
    if (error == 0 && !wait_room_is_empty(&node->room)) {
        if (job->unlocks_all)
            wait_wake_all(&node->room);
        for (uint32_t i = 0; i < job->unlocked_count; i++)
            wait_wake(&node->room, job->unlocked[i]);
    }
    latches_give_back(job);
    if (error == 0 && job->command->kind == TXN_GC)
        ((struct txn_gc *)(void *)job->command)->removed_versions += job->removed_versions;
    if (error == 0 && job_goes_on(job))
        job_step(job);
    else
        job_complete(job, error, true);
}

/* --- waiting for a lock ----------------------------------------------------------------------- */

static void job_on_resume(struct waiter *waiter)
{
    struct txn_job *job = CONTAINER_OF(waiter, struct txn_job, waiter);
    loop_post(job->command->op.loop, &job->task);
}

/* The locked key's error is staged; it gets the time since the lock was first met. */
static void job_set_waited(struct txn_job *job)
{
    struct txn_pessimistic_lock *command = (struct txn_pessimistic_lock *)(void *)job->command;
    if (command->errors_count != 1 || command->errors[0].kind != TXN_ERROR_LOCKED)
        return;
    struct txn_lock_info *lock = &command->errors[0].lock;
    uint64_t waited_ms = (clock_now_ns() - job->wait_begun_ns) / 1000000;
    lock->duration_to_last_update_ms = waited_ms;
    for (uint32_t i = 0; i < lock->holders_count; i++)
        lock->holders[i].duration_to_last_update_ms = waited_ms;
}

/* As TiKV tells who asks for a lock after a rollback, in case that its client still listens. */
static void job_set_rolled_back(struct txn_job *job)
{
    struct txn_pessimistic_lock *command = (struct txn_pessimistic_lock *)(void *)job->command;
    txn_error_abort(&command->errors[0], job->waiter.key,
                    "the transaction gave the lock back while it waited for it");
}

static void job_wait(struct txn_job *job)
{
    struct txn_node *node = job->node;
    struct txn_pessimistic_lock *command = (struct txn_pessimistic_lock *)(void *)job->command;
    struct txn_key_error deadlock;
    job->waiter.resume = job_on_resume;
    job->task.run = job_on_turn;
    bool was_woken = job->was_woken;
    int error = wait_enter(&node->room, &job->waiter, &job->command->arena, &deadlock);
    if (error == 0) {
        /* The lock that is in the way will wake the key when it goes. */
        job->was_woken = false;
        atomic_fetch_add_explicit(&node->stat_lock_waits, !was_woken, memory_order_relaxed);
        latches_give_back(job);
        if (!wait_settle(&node->room, &job->waiter))
            job_on_resume(&job->waiter);
        return;
    }
    if (error == WAIT_DEADLOCK) {
        atomic_fetch_add_explicit(&node->stat_deadlocks, 1, memory_order_relaxed);
        command->errors[0] = deadlock;
        error = 0;
    } else if (error == KVS_ERR_TIMEOUT) {
        job_set_waited(job);
        error = 0;
    }
    job_end_attempt(job, error);
}

/* --- an attempt ------------------------------------------------------------------------------- */

static void job_reset(struct txn_job *job)
{
    pending_take_away(job);
    job->mutations_count = 0;
    job->mutations_bytes = 0;
    job->left_at = UINT32_MAX;
    job->unlocked_count = 0;
    job->unlocks_all = false;
    job->wants_wait = false;
    job->has_key = false;
}

/* Does it end transactions? Then it takes locks away, which keep readers out. */
static bool kind_ends(uint8_t kind)
{
    return kind == TXN_COMMIT || kind == TXN_BATCH_ROLLBACK || kind == TXN_CLEANUP ||
           kind == TXN_PESSIMISTIC_ROLLBACK || kind == TXN_CHECK_STATUS ||
           kind == TXN_CHECK_SECONDARIES || kind == TXN_RESOLVE_LOCK;
}

static unsigned write_flags(const struct txn_job *job, const struct task_list *writes)
{
    unsigned flags = kind_ends(job->command->kind) ? ENGINE_WRITE_GIVES_BACK : 0;
    /* Of several, the engine's thread writes while this one goes on with the next. */
    return writes->first != NULL ? flags | ENGINE_WRITE_HAND_OVER : flags;
}

/* The rule has run; all but the chain of writes is done here. */
static void job_ran(struct txn_job *job, int error, struct task_list *writes)
{
    /* What a rule has seen is no answer then, also if it writes nothing. */
    if (error == 0 && pending_is_doubtful(&job->node->pending, TXN_TS_MAX))
        error = KVS_ERR_STORAGE_FAILED;
    if (error != 0) {
        job_end_attempt(job, error);
    } else if (job->wants_wait) {
        job_wait(job);
    } else if (job->mutations_count == 0) {
        job_end_attempt(job, 0);
    } else {
        job->write = (struct engine_write){
            .op = {.task.run = job_on_written, .loop = job->command->op.loop},
            .mutations = job->mutations,
            .mutations_count = job->mutations_count,
            .flags = write_flags(job, writes),
        };
        task_list_push(writes, &job->write.op.task);
    }
}

static int job_run_on_pool(struct engine_read *read, struct engine_view *view)
{
    struct txn_job *job = CONTAINER_OF(read, struct txn_job, read);
    return job->rule->run(job, view);
}

/* On the pool's thread, when the view has ended. */
static void job_on_run_on_pool(struct task *task)
{
    struct txn_job *job = CONTAINER_OF(task, struct txn_job, read.op.task);
    struct txn_node *node = job->node;
    struct task_list writes = {0};
    job_ran(job, job->read.op.error, &writes);
    if (writes.first != NULL)
        engine_write_list(node->engine, &writes);
}

static void job_run_again_on_pool(struct txn_job *job)
{
    job_reset(job);
    job->read = (struct engine_read){.op.task.run = job_on_run_on_pool, .run = job_run_on_pool};
    engine_read(job->node->engine, &job->read);
}

/* The rules of all jobs; *ran gets them, in order. One view for all, since they hold all their
 * latches; it ends before any of them completes, and with the last perhaps the engine. */
static void rules_run(struct task_list *jobs, struct task_list *ran)
{
    struct engine_view view;
    bool has_view = false;
    struct task *task;
    while ((task = task_list_pop(jobs)) != NULL) {
        struct txn_job *job = CONTAINER_OF(task, struct txn_job, claim.task);
        job->run_error = 0;
        if (!has_view)
            job->run_error = engine_view_begin(job->node->engine, NULL, false, &view);
        has_view = job->run_error == 0;
        job_reset(job);
        if (has_view)
            job->run_error = job->rule->run(job, &view);
        task_list_push(ran, task);
    }
    if (has_view)
        engine_view_end(&view);
}

/* Jobs that hold all their latches. */
static void jobs_run(struct task_list *jobs)
{
    struct task_list ran = {0};
    struct task_list writes = {0};
    struct engine *engine = NULL;
    rules_run(jobs, &ran);
    struct task *task;
    while ((task = task_list_pop(&ran)) != NULL) {
        struct txn_job *job = CONTAINER_OF(task, struct txn_job, claim.task);
        engine = job->node->engine;
        if (job->run_error == ENGINE_WOULD_BLOCK)
            job_run_again_on_pool(job);
        else
            job_ran(job, job->run_error, &writes);
    }
    if (writes.first != NULL)
        engine_write_list(engine, &writes);
}

/* Waiting may take hours and many attempts: each begins with the memory that the first had. */
static void job_begin_anew(struct txn_job *job)
{
    arena_rewind(&job->command->arena, &job->before);
    job->mutations = NULL;
    job->mutations_room = 0;
    job->unlocked = NULL;
    job->unlocked_room = 0;
}

static void job_on_latched(struct task *task)
{
    struct txn_job *job = CONTAINER_OF(task, struct txn_job, claim.task);
    struct task_list jobs = {0};
    if (job->was_woken && !wait_arrive(&job->node->room, &job->waiter)) {
        job_set_rolled_back(job);
        job_end_attempt(job, 0);
        return;
    }
    if (job->was_woken)
        job_begin_anew(job);
    task_list_push(&jobs, task);
    jobs_run(&jobs);
}

/* True: it holds its latches now. Else job_on_latched will be called, perhaps already. */
static bool job_latch(struct txn_job *job)
{
    job->claim.task.run = job_on_latched;
    job->claim.loop = job->command->op.loop;
    return latch_acquire(&job->node->latches, &job->claim);
}

/* Resumed from waiting, on the loop. */
static void job_on_turn(struct task *task)
{
    struct txn_job *job = CONTAINER_OF(task, struct txn_job, task);
    switch (job->waiter.outcome) {
    case WAIT_WOKEN:
        job->was_woken = true;
        if (job_latch(job))
            job_on_latched(&job->claim.task);
        break;
    case WAIT_TIMED_OUT:
        job_set_waited(job);
        job_complete(job, 0, true);
        break;
    case WAIT_ROLLED_BACK:
        job_set_rolled_back(job);
        job_complete(job, 0, true);
        break;
    default:
        job_complete(job, KVS_ERR_CANCELLED, true);
    }
}

/* --- ranges: step by step --------------------------------------------------------------------- */

static int job_find_on_pool(struct engine_read *read, struct engine_view *view)
{
    struct txn_job *job = CONTAINER_OF(read, struct txn_job, read);
    return job->rule->find(job, view);
}

/* On the pool's thread. */
static void job_on_found(struct task *task)
{
    struct txn_job *job = CONTAINER_OF(task, struct txn_job, read.op.task);
    int error = job->read.op.error;
    if (error == 0)
        error = latch_claim_set(&job->claim, job->scratch, job->keys, job->keys_count);
    if (error == 0 && job->keys_count > 0) {
        if (job_latch(job))
            job_on_latched(&job->claim.task);
    } else if (error == 0 && job_goes_on(job)) {
        job_step(job);
    } else {
        job_complete(job, error, false);
    }
}

static void job_step(struct txn_job *job)
{
    arena_reset(&job->own);
    job->mutations = NULL;
    job->mutations_room = 0;
    job->unlocked = NULL;
    job->unlocked_room = 0;
    job->keys = NULL;
    job->keys_count = 0;
    job->is_last_step = true;
    job->removed_versions = 0;
    job->read = (struct engine_read){.op.task.run = job_on_found, .run = job_find_on_pool};
    engine_read(job->node->engine, &job->read);
}

/* --- submitting: writes ----------------------------------------------------------------------- */

static const struct txn_rule *rule_of(const struct txn_command *command)
{
    switch (command->kind) {
    case TXN_PREWRITE:
        return &rule_prewrite;
    case TXN_COMMIT:
        return &rule_commit;
    case TXN_BATCH_ROLLBACK:
        return &rule_batch_rollback;
    case TXN_CLEANUP:
        return &rule_cleanup;
    case TXN_PESSIMISTIC_LOCK:
        return &rule_pessimistic_lock;
    case TXN_PESSIMISTIC_ROLLBACK:
        return ((const struct txn_pessimistic_rollback *)(const void *)command)->keys_count > 0
                   ? &rule_pessimistic_rollback
                   : &rule_pessimistic_rollback_range;
    case TXN_HEARTBEAT:
        return &rule_heartbeat;
    case TXN_CHECK_STATUS:
        return &rule_check_status;
    case TXN_CHECK_SECONDARIES:
        return &rule_check_secondaries;
    case TXN_RESOLVE_LOCK:
        return ((const struct txn_resolve_lock *)(const void *)command)->keys_count > 0
                   ? &rule_resolve_lock
                   : &rule_resolve_lock_range;
    case TXN_DELETE_RANGE:
        return &rule_delete_range;
    case TXN_GC:
        return &rule_gc;
    default:
        return NULL;
    }
}

static void command_fail(struct txn_command *command, int error)
{
    command->op.error = error;
    loop_post(command->op.loop, &command->op.task);
}

/* True: the job holds its latches. */
static bool job_submit(struct txn_node *node, struct txn_command *command,
                       const struct txn_rule *rule)
{
    struct txn_job *job = arena_zalloc(&command->arena, sizeof *job);
    if (job == NULL) {
        command_fail(command, KVS_ERR_NO_MEMORY);
        return false;
    }
    job->node = node;
    job->command = command;
    job->rule = rule;
    job->scratch = rule->find != NULL ? &job->own : &command->arena;
    command->reserved[0] = job;
    int error = rule->check(job);
    if (error == 0 && rule->find == NULL)
        error = job->latches_all
                    ? latch_claim_set_all(&job->claim, job->scratch)
                    : latch_claim_set(&job->claim, job->scratch, job->keys, job->keys_count);
    if (error != 0) {
        job_complete(job, error, false);
        return false;
    }
    job->before = command->arena;
    if (rule->find == NULL)
        return job_latch(job);
    job_step(job);
    return false;
}

/* --- submitting: reads ------------------------------------------------------------------------ */

struct pool_read {
    struct engine_read read;
    struct txn_node *node;
    struct txn_command *command;
};

static int read_on_pool(struct engine_read *read, struct engine_view *view)
{
    struct pool_read *mine = CONTAINER_OF(read, struct pool_read, read);
    return txn_read_run(mine->node, mine->command, view);
}

static void read_on_done(struct task *task)
{
    struct pool_read *mine = CONTAINER_OF(task, struct pool_read, read.op.task);
    struct op *op = &mine->command->op;
    op->error = mine->read.op.error;
    op->task.run(&op->task);
}

/* A read that met the lock of a prewrite under way waits until that is through, which takes one
 * batch of the engine, instead of sending its client to ask. It does so once: then the lock is
 * its answer. */
struct latch_read {
    struct latch_claim claim;
    struct txn_node *node;
    struct txn_command *command;
};

static void read_submit(struct txn_node *node, struct txn_command *command);

/* On the command's loop. The latches are not for keeping: who had them is through. */
static void read_on_latched(struct task *task)
{
    struct latch_read *mine = CONTAINER_OF(task, struct latch_read, claim.task);
    struct txn_node *node = mine->node;
    struct txn_command *command = mine->command;
    latches_release(node, &mine->claim);
    read_submit(node, command);
}

/* True: it waits, or fails. */
static bool read_wait(struct txn_node *node, struct txn_command *command)
{
    kvs_slice *keys;
    uint32_t count;
    int error = txn_read_hidden_keys(command, &keys, &count);
    if (error == 0 && count == 0)
        return false;
    struct latch_read *mine = arena_zalloc(&command->arena, sizeof *mine);
    if (error == 0 && mine == NULL)
        error = KVS_ERR_NO_MEMORY;
    if (error == 0)
        error = latch_claim_set(&mine->claim, &command->arena, keys, count);
    if (error != 0) {
        command_fail(command, error);
        return true;
    }
    mine->node = node;
    mine->command = command;
    mine->claim.task.run = read_on_latched;
    mine->claim.loop = command->op.loop;
    txn_read_set_waited(command);
    if (latch_acquire(&node->latches, &mine->claim))
        loop_post(command->op.loop, &mine->claim.task);
    return true;
}

static void read_submit(struct txn_node *node, struct txn_command *command)
{
    if (txn_answer(node, command)) {
        loop_post(command->op.loop, &command->op.task);
        return;
    }
    if (read_wait(node, command))
        return;
    struct pool_read *mine = arena_zalloc(&command->arena, sizeof *mine);
    int error = mine != NULL ? txn_read_prepare(node, command) : KVS_ERR_NO_MEMORY;
    if (error != 0) {
        command_fail(command, error);
        return;
    }
    mine->node = node;
    mine->command = command;
    mine->read.op = (struct op){.task.run = read_on_done, .loop = command->op.loop};
    mine->read.run = read_on_pool;
    engine_read(node->engine, &mine->read);
}

bool txn_answer(struct txn_node *node, struct txn_command *command)
{
    if (!txn_kind_is_read(command->kind))
        return false;
    int error = txn_read_check(command);
    if (error == 0)
        error = txn_read_prepare(node, command);
    if (error == 0 && txn_read_should_wait(command))
        return false;
    struct engine_view view;
    if (error == 0)
        error = engine_view_begin(node->engine, NULL, false, &view);
    if (error == 0) {
        error = txn_read_run(node, command, &view);
        engine_view_end(&view);
    }
    if (error == ENGINE_WOULD_BLOCK)
        return false;
    command->op.error = error;
    return true;
}

bool txn_answer_in(struct txn_node *node, struct txn_view *view, struct txn_command *command)
{
    if (!txn_kind_is_read(command->kind))
        return false;
    int error = txn_read_check(command);
    if (error == 0)
        error = txn_read_prepare(node, command);
    /* See txn/pending.h: a lock has gone since the view began, perhaps to where it cannot see. */
    if (error == 0 && pending_departures(&node->pending) != view->departures)
        return txn_answer(node, command);
    if (error == 0 && txn_read_should_wait(command))
        return false;
    if (error == 0)
        error = txn_read_run(node, command, &view->view);
    if (error == ENGINE_WOULD_BLOCK)
        return false;
    command->op.error = error;
    return true;
}

int txn_view_begin(struct txn_node *node, struct txn_view *view)
{
    view->departures = pending_departures(&node->pending);
    return engine_view_begin(node->engine, NULL, false, &view->view);
}

void txn_view_end(struct txn_view *view)
{
    engine_view_end(&view->view);
}

/* --- the interface ---------------------------------------------------------------------------- */

void txn_submit_list(struct txn_node *node, struct task_list *commands)
{
    struct task_list latched = {0};
    struct task *task;
    while ((task = task_list_pop(commands)) != NULL) {
        struct txn_command *command = CONTAINER_OF(task, struct txn_command, op.task);
        const struct txn_rule *rule = rule_of(command);
        atomic_fetch_add_explicit(&node->stat_commands, 1, memory_order_relaxed);
        if (txn_kind_is_read(command->kind))
            read_submit(node, command);
        else if (rule == NULL)
            command_fail(command, KVS_ERR_INVALID_ARGUMENT);
        else if (job_submit(node, command, rule))
            task_list_push(&latched, &((struct txn_job *)command->reserved[0])->claim.task);
    }
    jobs_run(&latched);
}

void txn_submit(struct txn_node *node, struct txn_command *command)
{
    struct task_list list = {0};
    task_list_push(&list, &command->op.task);
    txn_submit_list(node, &list);
}

void txn_cancel_wait(struct txn_node *node, struct txn_command *command)
{
    struct txn_job *job = command->reserved[0];
    if (job != NULL && command->kind == TXN_PESSIMISTIC_LOCK)
        wait_cancel(&node->room, &job->waiter);
}

void txn_node_cancel_waits(struct txn_node *node)
{
    wait_cancel_all(&node->room);
}

int txn_node_waits(struct txn_node *node, uint32_t count_max, struct arena *arena,
                   struct txn_wait_entry **ret_entries, uint32_t *ret_count)
{
    return wait_list(&node->room, count_max, arena, ret_entries, ret_count);
}

void txn_node_stats(struct txn_node *node, struct txn_node_stats *ret_stats)
{
    /* relaxed: figures */
    *ret_stats = (struct txn_node_stats){
        .commands = atomic_load_explicit(&node->stat_commands, memory_order_relaxed),
        .conflicts = atomic_load_explicit(&node->stat_conflicts, memory_order_relaxed),
        .lock_waits = atomic_load_explicit(&node->stat_lock_waits, memory_order_relaxed),
        .deadlocks = atomic_load_explicit(&node->stat_deadlocks, memory_order_relaxed),
        .waiting = atomic_load_explicit(&node->room.count, memory_order_relaxed),
        .max_ts = pending_max_ts(&node->pending),
    };
}

int txn_node_new(struct engine *engine, const struct txn_node_options *options,
                 struct txn_node **ret_node)
{
    struct txn_node *node = mem_aligned_alloc(_Alignof(struct txn_node), sizeof *node);
    if (node == NULL)
        return KVS_ERR_NO_MEMORY;
    memset(node, 0, sizeof *node);
    if (newest_init(&node->newest) != 0) {
        mem_free(node);
        return KVS_ERR_NO_MEMORY;
    }
    if (latches_init(&node->latches) != 0) {
        newest_deinit(&node->newest);
        mem_free(node);
        return KVS_ERR_NO_MEMORY;
    }
    node->engine = engine;
    node->wait_default_ms =
        options->wait_default_ms > 0 ? options->wait_default_ms : WAIT_DEFAULT_MS;
    node->wait_max_ms = options->wait_max_ms > 0 ? options->wait_max_ms : WAIT_DEFAULT_MS;
    node->value_size_max =
        options->value_size_max > 0 ? options->value_size_max : KVS_VALUE_SIZE_MAX;
    node->dead_before_ts = options->dead_before_ts;
    node->refuses_old = options->refuses_old;
    atomic_init(&node->safe_point, options->safe_point);
    pending_init(&node->pending, options->max_ts);
    wait_room_init(&node->room,
                   options->wake_others_ms > 0 ? options->wake_others_ms : WAKE_OTHERS_MS);
    *ret_node = node;
    return 0;
}

void txn_node_free(struct txn_node *node)
{
    if (node == NULL)
        return;
    wait_room_deinit(&node->room);
    latches_deinit(&node->latches);
    pending_deinit(&node->pending);
    newest_deinit(&node->newest);
    mem_free(node);
}

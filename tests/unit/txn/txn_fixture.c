/* tests/unit/txn/txn_fixture.c: see the header. */
#include "unit/txn/txn_fixture.h"

#include <kvs/error.h>
#include <stdio.h>

const struct engine_kind txn_engine_log = {.name = "log", .open = log_engine_open_blocking};
const struct engine_kind txn_engine_log_small = {.name = "log-small",
                                                 .open = log_engine_open_blocking,
                                                 .segment_size_bytes = 1,
                                                 .cache_size_bytes = 1};
const struct engine_kind txn_engine_rocksdb = {
    .name = "rocksdb", .open = rocksdb_engine_open_blocking, .cache_size_bytes = 8 * 1024 * 1024};
const struct engine_kind txn_engine_memory = {.name = "memory",
                                              .open = memory_engine_open_blocking};

int txn_fixture_init(struct txn_fixture *fixture, const struct engine_kind *kind)
{
    *fixture = (struct txn_fixture){0};
    int error = fixture_init(&fixture->base, kind);
    if (error == 0)
        error = fixture_open(&fixture->base);
    if (error == 0)
        error = txn_node_new(fixture->base.engine, &fixture->options, &fixture->node);
    return error;
}

int txn_fixture_reopen(struct txn_fixture *fixture)
{
    struct txn_node_stats stats;
    txn_node_stats(fixture->node, &stats);
    fixture->options.max_ts = stats.max_ts;
    txn_node_free(fixture->node);
    fixture->node = NULL;
    int error = fixture_close(&fixture->base);
    if (error == 0)
        error = fixture_open(&fixture->base);
    if (error == 0)
        error = txn_node_new(fixture->base.engine, &fixture->options, &fixture->node);
    return error;
}

void txn_fixture_deinit(struct txn_fixture *fixture)
{
    txn_node_free(fixture->node);
    fixture_deinit(&fixture->base);
}

static void run_on_done(struct task *task)
{
    struct txn_command *command = CONTAINER_OF(task, struct txn_command, op.task);
    latch_down(&((struct txn_pending_run *)command->user)->latch);
}

static void run_prepare(struct txn_fixture *fixture, struct txn_pending_run *run,
                        struct txn_command *command)
{
    run->command = command;
    latch_init(&run->latch, 1);
    command->op.loop = &fixture->base.loop;
    command->op.task.run = run_on_done;
    command->user = run;
}

void txn_start(struct txn_fixture *fixture, struct txn_pending_run *run,
               struct txn_command *command)
{
    run_prepare(fixture, run, command);
    txn_submit(fixture->node, command);
}

int txn_finish(struct txn_pending_run *run)
{
    latch_wait(&run->latch);
    latch_deinit(&run->latch);
    return run->command->op.error;
}

int txn_run(struct txn_fixture *fixture, struct txn_command *command)
{
    struct txn_pending_run run;
    txn_start(fixture, &run, command);
    return txn_finish(&run);
}

/* --- commands --------------------------------------------------------------------------------- */

void txn_make_get(struct txn_get *get, kvs_slice key, uint64_t ts)
{
    txn_command_init(&get->base, TXN_GET);
    get->key = key;
    get->read.ts = ts;
}

void txn_make_prewrite(struct txn_prewrite *prewrite, const struct txn_mutation *mutations,
                       uint32_t count, kvs_slice primary, uint64_t start_ts)
{
    txn_command_init(&prewrite->base, TXN_PREWRITE);
    prewrite->mutations = mutations;
    prewrite->mutations_count = count;
    prewrite->primary = primary;
    prewrite->start_ts = start_ts;
    prewrite->lock_ttl_ms = 3000;
    prewrite->txn_size = count;
    prewrite->min_commit_ts = start_ts + 1;
}

void txn_make_commit(struct txn_commit *commit, const kvs_slice *keys, uint32_t count,
                     uint64_t start_ts, uint64_t commit_ts)
{
    txn_command_init(&commit->base, TXN_COMMIT);
    commit->keys = keys;
    commit->keys_count = count;
    commit->start_ts = start_ts;
    commit->commit_ts = commit_ts;
}

void txn_make_rollback(struct txn_batch_rollback *rollback, const kvs_slice *keys, uint32_t count,
                       uint64_t start_ts)
{
    txn_command_init(&rollback->base, TXN_BATCH_ROLLBACK);
    rollback->keys = keys;
    rollback->keys_count = count;
    rollback->start_ts = start_ts;
}

void txn_make_check(struct txn_check_status *check, kvs_slice primary, uint64_t start_ts,
                    uint64_t caller_ts, uint64_t current_ts)
{
    txn_command_init(&check->base, TXN_CHECK_STATUS);
    check->primary = primary;
    check->start_ts = start_ts;
    check->caller_start_ts = caller_ts;
    check->current_ts = current_ts;
}

void txn_make_resolve(struct txn_resolve_lock *resolve, const struct txn_status *txns,
                      uint32_t count)
{
    txn_command_init(&resolve->base, TXN_RESOLVE_LOCK);
    resolve->txns = txns;
    resolve->txns_count = count;
}

void txn_make_lock(struct txn_pessimistic_lock *lock, const struct txn_mutation *mutations,
                   uint32_t count, kvs_slice primary, uint64_t start_ts, uint64_t for_update_ts)
{
    txn_command_init(&lock->base, TXN_PESSIMISTIC_LOCK);
    lock->mutations = mutations;
    lock->mutations_count = count;
    lock->primary = primary;
    lock->start_ts = start_ts;
    lock->for_update_ts = for_update_ts;
    lock->lock_ttl_ms = 20000;
    lock->min_commit_ts = for_update_ts + 1;
    lock->wait_timeout_ms = -1;
}

/* --- whole steps ------------------------------------------------------------------------------ */

int txn_prewrite_one(struct txn_fixture *fixture, const struct txn_mutation *mutation,
                     uint64_t start_ts)
{
    struct txn_prewrite prewrite;
    txn_make_prewrite(&prewrite, mutation, 1, mutation->key, start_ts);
    int result = txn_run(fixture, &prewrite.base);
    if (result == 0 && prewrite.errors_count > 0)
        result = prewrite.errors[0].kind;
    txn_command_deinit(&prewrite.base);
    return result;
}

int txn_commit_one(struct txn_fixture *fixture, kvs_slice key, uint64_t start_ts,
                   uint64_t commit_ts)
{
    struct txn_commit commit;
    txn_make_commit(&commit, &key, 1, start_ts, commit_ts);
    int result = txn_run(fixture, &commit.base);
    if (result == 0)
        result = commit.error.kind;
    txn_command_deinit(&commit.base);
    return result;
}

int txn_rollback_one(struct txn_fixture *fixture, kvs_slice key, uint64_t start_ts)
{
    struct txn_batch_rollback rollback;
    txn_make_rollback(&rollback, &key, 1, start_ts);
    int result = txn_run(fixture, &rollback.base);
    if (result == 0)
        result = rollback.error.kind;
    txn_command_deinit(&rollback.base);
    return result;
}

int txn_put(struct txn_fixture *fixture, kvs_slice key, kvs_slice value, uint64_t start_ts,
            uint64_t commit_ts)
{
    struct txn_mutation mutation = txn_put_of(key, value);
    int result = txn_prewrite_one(fixture, &mutation, start_ts);
    return result == 0 ? txn_commit_one(fixture, key, start_ts, commit_ts) : result;
}

int txn_delete(struct txn_fixture *fixture, kvs_slice key, uint64_t start_ts, uint64_t commit_ts)
{
    struct txn_mutation mutation = {.op = TXN_OP_DELETE, .key = key};
    int result = txn_prewrite_one(fixture, &mutation, start_ts);
    return result == 0 ? txn_commit_one(fixture, key, start_ts, commit_ts) : result;
}

int txn_lock_one(struct txn_fixture *fixture, kvs_slice key, uint64_t start_ts,
                 uint64_t for_update_ts)
{
    struct txn_mutation mutation = {.op = TXN_OP_PESSIMISTIC_LOCK, .key = key};
    struct txn_pessimistic_lock lock;
    txn_make_lock(&lock, &mutation, 1, key, start_ts, for_update_ts);
    int result = txn_run(fixture, &lock.base);
    if (result == 0 && lock.errors_count > 0)
        result = lock.errors[0].kind;
    txn_command_deinit(&lock.base);
    return result;
}

const char *txn_see(struct txn_fixture *fixture, kvs_slice key, uint64_t ts)
{
    static _Thread_local char text[512];
    struct txn_get get;
    txn_make_get(&get, key, ts);
    int error = txn_run(fixture, &get.base);
    if (error != 0)
        snprintf(text, sizeof text, "?%d", error);
    else if (get.error.kind != TXN_ERROR_NONE)
        snprintf(text, sizeof text, "!%d", get.error.kind);
    else if (!get.found)
        snprintf(text, sizeof text, "-");
    else
        snprintf(text, sizeof text, "%.*s", (int)(get.value.size < 400 ? get.value.size : 400),
                 (const char *)get.value.data);
    txn_command_deinit(&get.base);
    return text;
}

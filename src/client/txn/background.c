/*
 * client/txn/background.c: what is sent to all keys of a transaction when nobody waits for it: the
 * commit behind the primary's, the rollback of what was given up, pessimistic locks given back. A
 * rollback that was asked for is waited for.
 *
 * Failures: none is told. Whoever meets what is left resolves it. Thread: the shard's loop.
 */
#include "client/txn/committer.h"

/* --- in the background: the same command for all keys -------------------------------------------
 */

static void on_again(struct txn_timer *timer)
{
    struct committer *committer = CONTAINER_OF(timer, struct committer, timer);
    background_run(committer, TXN_PESSIMISTIC_ROLLBACK, ROLLBACK_BUDGET_MS);
}

/* False: it need not, or there is no memory. */
static bool background_waits(struct committer *committer)
{
    struct txn_shard *shard = committer_shard(committer);
    uint64_t now_ms = shard_now_ms(shard);
    uint64_t at_ms = committer->again_at_ms;
    if (at_ms == 0)
        return false;
    committer->again_at_ms = 0;
    committer->timer.fire = on_again;
    return shard_timer_start(shard, &committer->timer, at_ms > now_ms ? at_ms - now_ms : 0) == 0;
}

static void background_end(struct committer *committer)
{
    if (background_waits(committer))
        return;
    committer_tell(committer, 0); /* of a rollback */
    committer_free(committer);
}

static void background_done(struct txn_call *call, int error)
{
    struct committer *committer = call->owner;
    if (error != 0) /* whoever meets what is left resolves it */
        committer->again_at_ms = 0;
    committer_end_call(committer, call);
    if (committer->pending == 0)
        background_end(committer);
}

static int background_fit(struct txn_call *call, const struct txn_bounds *bounds)
{
    struct committer *committer = call->owner;
    enum txn_command_kind kind = (enum txn_command_kind)call->command.base.kind;
    uint32_t end = txn_call_keys_end(call, bounds, committer->keys);
    if (end < call->to) {
        struct txn_call *rest = committer_add_call(
            committer, kind, call->methods, committer->keys[end], end, call->to, call->budget_ms);
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
    struct txn_call *call = committer_add_call(committer, kind, &background_methods,
                                               committer->keys[from], from, to, budget_ms);
    if (call != NULL) /* else whoever meets the locks resolves them */
        txn_call_start(call);
}

void background_run(struct committer *committer, enum txn_command_kind kind, uint32_t budget_ms)
{
    uint32_t done_from = kind == TXN_COMMIT ? committer->done_from : 0;
    uint32_t done_to = kind == TXN_COMMIT ? committer->done_to : 0;
    committer->phase = PHASE_BACKGROUND;
    background_part(committer, kind, 0, done_from, budget_ms);
    background_part(committer, kind, done_to, committer->keys_count, budget_ms);
    if (committer->pending == 0)
        background_end(committer);
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

static bool release(kvs_txn *txn, struct txn_request *op, const struct read_key *keys,
                    uint32_t count, uint32_t again_ms)
{
    struct committer *committer = committer_new(txn, op);
    if (committer == NULL)
        return false;
    if (op != NULL) {
        op->committer = committer;
        committer->deadline_ms = op->deadline_ms;
    }
    committer->commit_ts = txn->for_update_ts;
    take_locked_keys(committer, keys, count); /* without memory: none */
    if (again_ms != 0 && committer->keys_count > 0)
        committer->again_at_ms = shard_now_ms(txn->shard) + again_ms;
    background_run(committer, TXN_PESSIMISTIC_ROLLBACK, ROLLBACK_BUDGET_MS);
    return true;
}

void txn_release_locks(kvs_txn *txn, const struct read_key *keys, uint32_t count, uint32_t again_ms)
{
    release(txn, NULL, keys, count, again_ms); /* without memory: the locks end by themselves */
}

bool background_rollback(struct txn_request *op)
{
    return release(op->txn, op, NULL, 0, 0);
}

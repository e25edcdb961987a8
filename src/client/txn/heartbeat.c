/*
 * client/txn/heartbeat.c: keeps the primary lock of a transaction alive: every half of its life its
 * end is moved. When the lock is gone, or PD's and the stores' silence lasts too long, it is not.
 *
 * A heartbeat holds the transaction. Thread: the shard's loop.
 */
#include "client/txn/txn_parts.h"

#define HEARTBEAT_INTERVAL_MS (TXN_LOCK_TTL_MS / 2)
#define HEARTBEAT_TXN_LIFE_MAX_MS (3600u * 1000)

static void heartbeat_wait(kvs_txn *txn);

static void heartbeat_end(kvs_txn *txn)
{
    struct heartbeat *heartbeat = &txn->heartbeat;
    if (!heartbeat->runs)
        return;
    heartbeat->runs = false;
    txn_unref(txn);
}

static int heartbeat_fit(struct txn_call *call, const struct txn_bounds *bounds)
{
    (void)bounds;
    const kvs_txn *txn = call->owner;
    struct txn_heartbeat *command = &call->command.heartbeat;
    command->primary = call->key;
    command->start_ts = txn->view.ts;
    command->advise_ttl_ms = txn_elapsed_ms(txn) + TXN_LOCK_TTL_MS;
    return 0;
}

static void heartbeat_done(struct txn_call *call, int error)
{
    kvs_txn *txn = call->owner;
    struct txn_shard *shard = txn->shard;
    bool is_gone = error == 0 && call->command.heartbeat.error.kind != TXN_ERROR_NONE;
    bool stopped = txn->heartbeat.call != call;
    txn_call_free(call);
    if (!stopped) {
        txn->heartbeat.call = NULL;
        if (is_gone)
            heartbeat_end(txn);
        else
            heartbeat_wait(txn);
    }
    shard_leave(shard);
    txn_unref(txn);
}

static const struct txn_call_methods heartbeat_methods = {
    .fit = heartbeat_fit,
    .done = heartbeat_done,
};

static void heartbeat_on_timer(struct txn_timer *timer)
{
    kvs_txn *txn = CONTAINER_OF(timer, struct kvs_txn, heartbeat.timer);
    if (txn_client_is_closing(txn->client) || txn_elapsed_ms(txn) > HEARTBEAT_TXN_LIFE_MAX_MS) {
        heartbeat_end(txn);
        return;
    }
    struct txn_call *call =
        txn_call_new(txn->shard->transport, TXN_HEARTBEAT, &heartbeat_methods, txn);
    if (call == NULL) {
        heartbeat_wait(txn);
        return;
    }
    call->key = txn->primary;
    call->deadline_ms = shard_now_ms(txn->shard) + HEARTBEAT_INTERVAL_MS;
    call->budget_ms = HEARTBEAT_INTERVAL_MS;
    txn->heartbeat.call = call;
    txn_ref(txn);
    shard_enter(txn->shard);
    txn_call_start(call);
}

static void heartbeat_wait(kvs_txn *txn)
{
    txn->heartbeat.timer.fire = heartbeat_on_timer;
    if (shard_timer_start(txn->shard, &txn->heartbeat.timer, HEARTBEAT_INTERVAL_MS) != 0)
        heartbeat_end(txn);
}

void heartbeat_start(kvs_txn *txn, kvs_slice primary)
{
    if (txn->heartbeat.runs)
        return;
    txn->primary = primary;
    txn->heartbeat.runs = true;
    txn_ref(txn);
    heartbeat_wait(txn);
}

void heartbeat_stop(kvs_txn *txn)
{
    if (!txn->heartbeat.runs)
        return;
    txn->heartbeat.call = NULL; /* one that is under way ends by itself */
    shard_timer_stop(txn->shard, &txn->heartbeat.timer);
    heartbeat_end(txn);
}

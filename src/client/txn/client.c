/* client/txn/client.c: shards and their turns; see client/txn/client.h. */
#include "client/txn/client.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>

#define AHEAD_MAX_MS 60000u /* of a cluster's clock before ours */

/* --- what keeps a shard busy --------------------------------------------------------------------
 */

void shard_enter(struct txn_shard *shard)
{
    /* relaxed: who enters holds the shard open; the end is ordered by the loop's mailbox. */
    atomic_fetch_add_explicit(&shard->busy, 1, memory_order_relaxed);
}

static void shard_on_wake(struct task *task)
{
    struct txn_shard *shard = CONTAINER_OF(task, struct txn_shard, wake_task);
    atomic_store_explicit(&shard->woken, false, memory_order_relaxed);
}

/* Has the end of a turn come. */
static void shard_wake(struct txn_shard *shard)
{
    if (atomic_exchange_explicit(&shard->woken, true, memory_order_relaxed))
        return;
    loop_post(shard->loop, &shard->wake_task);
}

void shard_leave(struct txn_shard *shard)
{
    /* acq_rel: all that was done before is seen by the turn that closes. */
    if (atomic_fetch_sub_explicit(&shard->busy, 1, memory_order_acq_rel) == 1 &&
        txn_client_is_closing(shard->client) && !shard->closed)
        shard_wake(shard);
}

/* --- timers -------------------------------------------------------------------------------------
 */

int shard_timer_start(struct txn_shard *shard, struct txn_timer *timer, uint64_t wait_ms)
{
    heap_remove(&shard->timers, &timer->node);
    int error = heap_push(&shard->timers, &timer->node, shard_now_ms(shard) + wait_ms);
    if (error == 0 && wait_ms == 0)
        shard_wake(shard);
    return error;
}

void shard_timer_stop(struct txn_shard *shard, struct txn_timer *timer)
{
    heap_remove(&shard->timers, &timer->node);
}

static void shard_run_timers(struct txn_shard *shard, uint64_t now_ms)
{
    struct heap_node *first;
    while ((first = heap_first(&shard->timers)) != NULL && first->key <= now_ms) {
        struct txn_timer *timer = CONTAINER_OF(first, struct txn_timer, node);
        heap_remove(&shard->timers, first);
        timer->fire(timer);
    }
}

static void shard_on_uv_timer(uv_timer_t *uv_timer)
{
    struct txn_shard *shard = uv_timer->data;
    shard->timer_armed_ms = UINT64_MAX; /* the end of the turn does the work */
}

static void shard_arm_timer(struct txn_shard *shard, uint64_t now_ms)
{
    const struct heap_node *first = heap_first(&shard->timers);
    uint64_t due_ms = first != NULL ? first->key : UINT64_MAX;
    uint64_t transport_ms = shard->transport->methods->timer(shard->transport);
    if (transport_ms < due_ms)
        due_ms = transport_ms;
    if (due_ms >= shard->timer_armed_ms)
        return; /* armed for earlier, when more will be known */
    shard->timer_armed_ms = due_ms;
    uv_timer_start(&shard->uv_timer, shard_on_uv_timer, due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

/* --- what is known ------------------------------------------------------------------------------
 */

bool shard_ts_is_ahead(const struct txn_shard *shard, uint64_t ts)
{
    uint64_t ms = txn_ts_physical_ms(ts);
    if (ts == KVS_TXN_TS_LATEST || ms <= clock_wall_ms() + (shard->is_local ? 1 : AHEAD_MAX_MS) ||
        txn_client_is_closing(shard->client))
        return false;
    /* A commit may stand a little above what was given, and our clock may have been put back. */
    struct txn_transport *transport = shard->transport;
    return transport->methods->given == NULL ||
           ms > txn_ts_physical_ms(transport->methods->given(transport)) + 1;
}

static struct txn_status *status_slot(const struct txn_shard *shard, uint64_t start_ts)
{
    uint64_t hash = start_ts * 0x9e3779b97f4a7c15u;
    return (struct txn_status *)&shard->statuses[(hash >> 32) % STATUS_CACHE_SIZE];
}

const struct txn_status *shard_status(const struct txn_shard *shard, uint64_t start_ts)
{
    const struct txn_status *status = status_slot(shard, start_ts);
    return status->start_ts == start_ts ? status : NULL;
}

void shard_learn_status(struct txn_shard *shard, uint64_t start_ts, uint64_t commit_ts)
{
    *status_slot(shard, start_ts) =
        (struct txn_status){.start_ts = start_ts, .commit_ts = commit_ts};
}

/* --- the time -----------------------------------------------------------------------------------
 */

static void time_on_task(struct task *task)
{
    struct txn_timestamp *request = CONTAINER_OF(task, struct txn_timestamp, task);
    request->done(request, 0, "");
}

void shard_ask_time(struct txn_shard *shard, struct txn_timestamp *request, uint64_t deadline_ms,
                    void (*done)(struct txn_timestamp *request, int error, const char *why))
{
    const struct txn_transport_methods *methods = shard->transport->methods;
    *request = (struct txn_timestamp){
        .transport = shard->transport, .deadline_ms = deadline_ms, .done = done};
    list_init(&request->node);
    if (methods->now != NULL && methods->now(shard->transport, &request->ts)) {
        request->task.run = time_on_task;
        loop_post(shard->loop, &request->task);
    } else {
        methods->timestamp(request);
    }
}

void shard_give_up_time(struct txn_timestamp *request)
{
    if (request->transport != NULL && request->transport->methods->give_up_timestamp != NULL)
        request->transport->methods->give_up_timestamp(request);
}

/* --- life ---------------------------------------------------------------------------------------
 */

static void shard_on_timer_closed(uv_handle_t *handle)
{
    struct txn_shard *shard = handle->data;
    struct kvs_txn_client *client = shard->client;
    struct heap_node *first;
    loop_remove_hook(shard->loop, &shard->turn_end);
    while ((first = heap_first(&shard->timers)) != NULL) { /* heartbeats: they see that it ends */
        heap_remove(&shard->timers, first);
        struct txn_timer *timer = CONTAINER_OF(first, struct txn_timer, node);
        timer->fire(timer);
    }
    heap_deinit(&shard->timers);
    shard_free_spare_committers(shard);
    shard->transport->methods->free(shard->transport);
    shard->transport = NULL;
    if (atomic_fetch_sub(&client->shards_open, 1) == 1)
        client->closed(client->closed_arg);
}

static void shard_on_transport_closed(struct txn_transport *transport)
{
    struct txn_shard *shard = transport->owner;
    uv_close((uv_handle_t *)&shard->uv_timer, shard_on_timer_closed);
}

static void shard_close_when_idle(struct txn_shard *shard)
{
    /* acquire: pairs with the release in shard_leave. */
    if (!shard->closing || shard->closed ||
        atomic_load_explicit(&shard->busy, memory_order_acquire) > 0 ||
        atomic_load_explicit(&shard->woken, memory_order_relaxed))
        return; /* each of these brings another turn */
    shard->closed = true;
    shard->transport->methods->close(shard->transport);
}

static void shard_on_turn_end(struct loop_hook *hook)
{
    struct txn_shard *shard = CONTAINER_OF(hook, struct txn_shard, turn_end);
    uint64_t now_ms = shard_now_ms(shard);
    if (shard->transport == NULL)
        return;
    shard_run_timers(shard, now_ms);
    shard->transport->methods->run(shard->transport, now_ms);
    if (!shard->closed)
        shard_arm_timer(shard, now_ms);
    shard_close_when_idle(shard);
}

static void shard_on_opened(struct txn_transport *transport, int error, const char *why)
{
    struct kvs_txn_client *client = ((struct txn_shard *)transport->owner)->client;
    bool last = error == 0 && atomic_fetch_sub(&client->shards_opening, 1) == 1;
    if ((error != 0 || last) && !atomic_exchange(&client->opened_told, true))
        client->opened(client->opened_arg, error, why);
}

static void shard_on_start(struct task *task)
{
    struct txn_shard *shard = CONTAINER_OF(task, struct txn_shard, start_task);
    shard->timer_armed_ms = UINT64_MAX;
    uv_timer_init(shard->loop->uv, &shard->uv_timer); /* cannot fail */
    shard->uv_timer.data = shard;
    shard->turn_end.run = shard_on_turn_end;
    loop_add_hook(shard->loop, &shard->turn_end);
    shard->transport->methods->open(shard->transport);
}

static void shard_on_close(struct task *task)
{
    struct txn_shard *shard = CONTAINER_OF(task, struct txn_shard, close_task);
    shard->closing = true;
    shard_give_up_starts(shard);
}

struct kvs_txn_client *txn_client_new(kvs_runtime *runtime, unsigned shards)
{
    struct kvs_txn_client *client = mem_zalloc(sizeof *client + shards * sizeof client->shards[0]);
    if (client == NULL)
        return NULL;
    client->runtime = runtime;
    client->shards_count = shards;
    atomic_init(&client->refs, 1);
    return client;
}

void txn_client_ref(struct kvs_txn_client *client)
{
    /* relaxed: who takes one has one. */
    atomic_fetch_add_explicit(&client->refs, 1, memory_order_relaxed);
}

void txn_client_unref(struct kvs_txn_client *client)
{
    /* acq_rel: all uses come before the free. */
    if (atomic_fetch_sub_explicit(&client->refs, 1, memory_order_acq_rel) > 1)
        return;
    mem_free(client->backing);
    mem_free(client);
}

void txn_client_start(struct kvs_txn_client *client,
                      void (*opened)(void *arg, int error, const char *why), void *arg)
{
    unsigned count = client->shards_count;
    client->opened = opened;
    client->opened_arg = arg;
    atomic_init(&client->shards_opening, count);
    atomic_init(&client->shards_open, count);
    for (unsigned i = 0; i < count; i++) {
        struct txn_shard *shard = &client->shards[i];
        shard->client = client;
        list_init(&shard->starting);
        shard->rand = rand_seed(uv_hrtime() ^ (uintptr_t)shard);
        shard->wake_task.run = shard_on_wake;
        shard->transport->owner = shard;
        shard->transport->opened = shard_on_opened;
        shard->transport->closed = shard_on_transport_closed;
        shard->start_task.run = shard_on_start;
        loop_post(shard->loop, &shard->start_task);
    }
}

void txn_client_stop(struct kvs_txn_client *client, void (*closed)(void *arg), void *arg)
{
    unsigned count = client->shards_count;
    client->closed = closed;
    client->closed_arg = arg;
    atomic_store_explicit(&client->closing, true, memory_order_release);
    for (unsigned i = 0; i < count; i++) {
        struct txn_shard *shard = &client->shards[i];
        shard->close_task.run = shard_on_close;
        loop_post(shard->loop, &shard->close_task);
    }
}

struct txn_shard *txn_client_shard(struct kvs_txn_client *client)
{
    for (unsigned i = 0; i < client->shards_count; i++) {
        if (loop_is_current(client->shards[i].loop))
            return &client->shards[i];
    }
    /* relaxed: only the spread matters. */
    unsigned turn = atomic_fetch_add_explicit(&client->turn, 1, memory_order_relaxed);
    return &client->shards[turn % client->shards_count];
}

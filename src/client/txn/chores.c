/*
 * client/txn/chores.c: calls of kvs/txn.h that belong to no transaction: the time, cleaning up
 * locks, gc, destroying a range.
 *
 * Cleaning up: the range is walked, part by part; each page of locks goes to the resolver; those
 * that stay are looked at again after a while. Gc: the transport sees to it that nobody begins
 * below the safe point any more; that for everything, by force; then the transport has old versions
 * removed. One that is given up is ready at once; what it waits for, such as a disk, goes on
 * without it, and nothing more begins. Thread: the shard's loop.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "client/txn/client.h"
#include "client/txn/resolver.h"
#include "runtime/future.h"

#include <stdio.h>
#include <string.h>

#define SCAN_LOCK_LIMIT 1024u
#define CHORE_TIMEOUT_MS (600u * 1000)
#define RESOLVE_TIMEOUT_MS (100u * 1000)

struct chore {
    struct task task;
    struct txn_shard *shard;
    void (*begin)(struct chore *chore);
    struct txn_timestamp time;
    struct txn_chore at_transport;
    struct arena arena; /* of the bounds */
    uint64_t timestamp;
    bool is_gc;
    bool over;
    bool cancelled; /* the future is ready already */
    kvs_slice start;
    kvs_slice end;
    kvs_slice part_end;
    struct buf cursor;
    struct buf part;
    struct txn_call *call;
    struct resolver resolver;
    bool has_resolver;
    struct txn_timer timer;
    uint64_t ended;
    uint64_t until_ms;
    char why[TXN_WHY_SIZE];
};

static void chore_free(void *payload)
{
    struct chore *chore = payload;
    arena_deinit(&chore->arena);
    buf_deinit(&chore->cursor);
    buf_deinit(&chore->part);
}

static void chore_cancel(kvs_future *future)
{
    struct chore *chore = future_payload(future);
    chore->cancelled = true;
    chore->at_transport.cancelled = true;
    future_give_up(future, KVS_ERR_CANCELLED, "");
    shard_give_up_time(&chore->time);
    if (chore->call != NULL)
        txn_call_cancel(chore->call);
    else if (chore->has_resolver)
        resolver_cancel(&chore->resolver);
}

static const struct future_methods chore_methods = {
    .payload_size = sizeof(struct chore),
    .cancel = chore_cancel,
    .free = chore_free,
};

static void chore_end(struct chore *chore, int error, const char *why)
{
    kvs_future *future = future_of_payload(chore);
    struct txn_shard *shard = chore->shard;
    bool is_wanted = future_decide(future); /* else it was given up, and may be gone now */
    if (is_wanted && error != 0) {
        snprintf(chore->why, sizeof chore->why, "%s", why);
        future_set_message(future, chore->why);
    }
    if (is_wanted)
        future_complete(future, error);
    shard_leave(shard);
}

static void chore_succeed(struct chore *chore, uint64_t number)
{
    if (!chore->cancelled)
        future_set_number(future_of_payload(chore), (int64_t)number);
    chore_end(chore, 0, "");
}

static void chore_run(struct task *task)
{
    struct chore *chore = CONTAINER_OF(task, struct chore, task);
    if (chore->cancelled)
        chore_end(chore, KVS_ERR_CANCELLED, "cancelled");
    else
        chore->begin(chore);
}

static struct chore *chore_new(kvs_txn_client *client, void (*begin)(struct chore *chore))
{
    struct txn_shard *shard = txn_client_shard(client);
    kvs_future *future = future_new(client->runtime, shard->loop, &chore_methods);
    if (future == NULL)
        return NULL;
    struct chore *chore = future_payload(future);
    chore->shard = shard;
    chore->begin = begin;
    chore->task.run = chore_run;
    return chore;
}

/* From now on the loop's. */
static kvs_future *chore_start(struct chore *chore)
{
    kvs_future *future = future_of_payload(chore);
    if (txn_client_is_closing(chore->shard->client)) {
        future_complete(future, KVS_ERR_CLOSED);
        return future;
    }
    shard_enter(chore->shard);
    loop_post(chore->shard->loop, &chore->task);
    return future;
}

static kvs_future *chore_refuse(struct chore *chore, int error, const char *why)
{
    kvs_future *future = future_of_payload(chore);
    snprintf(chore->why, sizeof chore->why, "%s", why);
    future_set_message(future, chore->why);
    future_complete(future, error);
    return future;
}

/* --- the time -----------------------------------------------------------------------------------
 */

static void on_time(struct txn_timestamp *time, int error, const char *why)
{
    struct chore *chore = CONTAINER_OF(time, struct chore, time);
    if (error != 0)
        chore_end(chore, error, why);
    else
        chore_succeed(chore, time->ts);
}

static void chore_ask_time(struct chore *chore,
                           void (*done)(struct txn_timestamp *time, int error, const char *why))
{
    struct txn_shard *shard = chore->shard;
    shard_ask_time(shard, &chore->time, shard_now_ms(shard) + shard->timeout_ms, done);
}

static void time_begin(struct chore *chore)
{
    chore_ask_time(chore, on_time);
}

kvs_future *kvs_txn_current_timestamp(kvs_txn_client *client)
{
    struct chore *chore = chore_new(client, time_begin);
    return chore != NULL ? chore_start(chore) : NULL;
}

/* --- cleaning up locks --------------------------------------------------------------------------
 */

static void scan_locks(struct chore *chore);

static void on_transport_done(struct txn_chore *at_transport, int error, const char *why)
{
    struct chore *chore = at_transport->owner;
    if (error != 0)
        chore_end(chore, error, why);
    else
        chore_succeed(chore, at_transport->safe_point);
}

static void set_transport(struct chore *chore,
                          void (*done)(struct txn_chore *chore, int error, const char *why))
{
    chore->at_transport = (struct txn_chore){
        .transport = chore->shard->transport,
        .done = done,
        .deadline_ms = shard_now_ms(chore->shard) + CHORE_TIMEOUT_MS,
        .owner = chore,
    };
}

static void cleanup_over(struct chore *chore)
{
    if (!chore->is_gc) {
        chore_succeed(chore, chore->ended);
        return;
    }
    chore->at_transport.done = on_transport_done;
    chore->shard->transport->methods->gc(&chore->at_transport);
}

static void on_timer(struct txn_timer *timer)
{
    scan_locks(CONTAINER_OF(timer, struct chore, timer));
}

/* Locks that stay are met again when the same part is read again. */
static void on_resolved(struct resolver *resolver, int error)
{
    struct chore *chore = CONTAINER_OF(resolver, struct chore, resolver);
    uint64_t wait_ms = resolver->wait_ms;
    char why[TXN_WHY_SIZE];
    snprintf(why, sizeof why, "%s", resolver->why);
    chore->ended += resolver->ended;
    resolver_deinit(resolver);
    chore->has_resolver = false;
    if (error == 0 && chore->cancelled)
        error = KVS_ERR_CANCELLED;
    if (error == 0 && wait_ms > 0) {
        chore->timer.fire = on_timer;
        uint64_t sleep_ms = wait_ms < 1000 ? wait_ms : 1000;
        error = shard_timer_start(chore->shard, &chore->timer, sleep_ms);
        if (shard_now_ms(chore->shard) >= chore->until_ms)
            error = KVS_ERR_TIMEOUT;
    } else if (error == 0) {
        scan_locks(chore);
    }
    if (error != 0) {
        shard_timer_stop(chore->shard, &chore->timer);
        chore_end(chore, error, why);
    }
}

static int next_part(struct chore *chore)
{
    struct buf cursor = BUF_INIT;
    if (chore->part_end.size == 0 || slice_equal(chore->part_end, chore->end)) {
        chore->over = true;
        return 0;
    }
    int error = buf_append_slice(&cursor, chore->part_end);
    if (error != 0)
        return error;
    buf_deinit(&chore->cursor);
    chore->cursor = cursor;
    chore->start = buf_slice(&chore->cursor);
    return 0;
}

static int resolve_page(struct chore *chore, const struct txn_scan_lock *command)
{
    memset(&chore->resolver, 0, sizeof chore->resolver);
    resolver_init(&chore->resolver, chore->shard,
                  chore->is_gc ? RESOLVE_BY_FORCE : RESOLVE_FOR_WRITE, 0, on_resolved);
    chore->has_resolver = true;
    int error = 0;
    for (uint32_t i = 0; error == 0 && i < command->locks_count; i++)
        error = resolver_add(&chore->resolver, &command->locks[i]);
    if (error == 0) {
        resolver_run(&chore->resolver, shard_now_ms(chore->shard) + RESOLVE_TIMEOUT_MS);
        return 0;
    }
    resolver_deinit(&chore->resolver);
    chore->has_resolver = false;
    return error;
}

static void scan_done(struct txn_call *call, int error)
{
    struct chore *chore = call->owner;
    const struct txn_scan_lock *command = &call->command.scan_lock;
    if (error == 0 && chore->cancelled)
        error = KVS_ERR_CANCELLED;
    bool has_locks = error == 0 && command->locks_count > 0;
    if (has_locks)
        error = resolve_page(chore, command);
    else if (error == 0)
        error = next_part(chore);
    chore->call = NULL;
    if (error != 0)
        chore_end(chore, error, call->why);
    else if (!has_locks && chore->over)
        cleanup_over(chore);
    else if (!has_locks)
        scan_locks(chore);
    txn_call_free(call);
}

static int scan_fit(struct txn_call *call, const struct txn_bounds *bounds)
{
    struct chore *chore = call->owner;
    bool cut = bounds->end.size > 0 &&
               (chore->end.size == 0 || slice_compare(bounds->end, chore->end) < 0);
    call->start = chore->start;
    call->end = cut ? bounds->end : chore->end;
    call->command.scan_lock.max_ts = chore->timestamp;
    call->command.scan_lock.limit = SCAN_LOCK_LIMIT;
    buf_clear(&chore->part);
    int error = buf_append_slice(&chore->part, call->end);
    chore->part_end = buf_slice(&chore->part);
    return error;
}

static const struct txn_call_methods scan_methods = {
    .fit = scan_fit,
    .done = scan_done,
};

static void scan_locks(struct chore *chore)
{
    struct txn_call *call =
        txn_call_new(chore->shard->transport, TXN_SCAN_LOCK, &scan_methods, chore);
    if (call == NULL || chore->cancelled) {
        txn_call_free(call);
        chore_end(chore, chore->cancelled ? KVS_ERR_CANCELLED : KVS_ERR_NO_MEMORY, "");
        return;
    }
    call->key = chore->start;
    call->deadline_ms = shard_now_ms(chore->shard) + RESOLVE_TIMEOUT_MS;
    chore->call = call;
    txn_call_start(call);
}

static void cleanup_begin(struct chore *chore)
{
    chore->until_ms = shard_now_ms(chore->shard) + CHORE_TIMEOUT_MS;
    scan_locks(chore);
}

static int copy_bounds(struct chore *chore, kvs_slice start, kvs_slice end)
{
    if (start.size > KVS_KEY_SIZE_MAX || end.size > KVS_KEY_SIZE_MAX)
        return KVS_ERR_TOO_LARGE;
    void *start_copy = arena_copy(&chore->arena, start);
    void *end_copy = arena_copy(&chore->arena, end);
    if (start_copy == NULL || end_copy == NULL)
        return KVS_ERR_NO_MEMORY;
    chore->start = slice_make(start_copy, start.size);
    chore->end = slice_make(end_copy, end.size);
    return 0;
}

kvs_future *kvs_txn_cleanup_locks(kvs_txn_client *client, kvs_slice start, kvs_slice end,
                                  uint64_t timestamp)
{
    struct chore *chore = chore_new(client, cleanup_begin);
    if (chore == NULL)
        return NULL;
    if (shard_ts_is_ahead(chore->shard, timestamp))
        return chore_refuse(chore, KVS_ERR_INVALID_ARGUMENT, SHARD_TS_AHEAD);
    int error = copy_bounds(chore, start, end);
    if (error != 0)
        return chore_refuse(chore, error, "the range cannot be cleaned up");
    chore->timestamp = timestamp;
    return chore_start(chore);
}

#define NOT_PAST "a safe point is a past timestamp"

static void on_gc_begun(struct txn_chore *at_transport, int error, const char *why)
{
    struct chore *chore = at_transport->owner;
    chore->timestamp = at_transport->safe_point;
    if (error == 0 && chore->cancelled)
        error = KVS_ERR_CANCELLED;
    if (error != 0)
        chore_end(chore, error, why);
    else
        cleanup_begin(chore);
}

static void gc_at_transport(struct chore *chore)
{
    struct txn_transport *transport = chore->shard->transport;
    set_transport(chore, on_gc_begun);
    chore->at_transport.safe_point = chore->timestamp;
    if (transport->methods->gc_begin == NULL) {
        cleanup_begin(chore);
        return;
    }
    transport->methods->gc_begin(&chore->at_transport);
}

static void gc_on_time(struct txn_timestamp *time, int error, const char *why)
{
    struct chore *chore = CONTAINER_OF(time, struct chore, time);
    if (error == 0 && chore->cancelled)
        error = KVS_ERR_CANCELLED;
    if (error != 0)
        chore_end(chore, error, why);
    else if (chore->timestamp > time->ts)
        chore_end(chore, KVS_ERR_INVALID_ARGUMENT, NOT_PAST);
    else
        gc_at_transport(chore);
}

/* What is to come has to see the versions that are newest then. */
static void gc_begin(struct chore *chore)
{
    chore_ask_time(chore, gc_on_time);
}

kvs_future *kvs_txn_gc(kvs_txn_client *client, uint64_t safe_point)
{
    struct chore *chore = chore_new(client, gc_begin);
    if (chore == NULL)
        return NULL;
    if (safe_point == 0 || safe_point == KVS_TXN_TS_LATEST)
        return chore_refuse(chore, KVS_ERR_INVALID_ARGUMENT, NOT_PAST);
    chore->timestamp = safe_point;
    chore->is_gc = true;
    return chore_start(chore);
}

/* --- destroying a range -------------------------------------------------------------------------
 */

static void destroy_begin(struct chore *chore)
{
    set_transport(chore, on_transport_done);
    chore->at_transport.start = chore->start;
    chore->at_transport.end = chore->end;
    chore->shard->transport->methods->destroy_range(&chore->at_transport);
}

kvs_future *kvs_txn_unsafe_destroy_range(kvs_txn_client *client, kvs_slice start, kvs_slice end)
{
    struct chore *chore = chore_new(client, destroy_begin);
    if (chore == NULL)
        return NULL;
    if (start.size == 0 || end.size == 0 || slice_compare(start, end) >= 0)
        return chore_refuse(chore, KVS_ERR_INVALID_ARGUMENT,
                            "a range to destroy has both bounds, the first below the second");
    int error = copy_bounds(chore, start, end);
    if (error != 0)
        return chore_refuse(chore, error, "the range cannot be destroyed");
    return chore_start(chore);
}

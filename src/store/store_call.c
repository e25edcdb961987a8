/*
 * store/store_call.c: the calls of kvs/store.h that return futures, over kvs_op.
 *
 * 1. A future is made; a kvs_op lies behind it.
 * 2. What the store can answer at once makes the future ready before the call returns: no copy of
 *    the inputs, no other thread.
 * 3. Otherwise the inputs are copied into one allocation, and the op is submitted.
 * 4. on_done makes the future ready; the results stay in the op until the future is freed. For
 *    writes and reads in this process that is on the thread that did them, which may be the
 *    caller's: no loop is woken only to wake the one who waits. Callbacks of the future run on its
 *    loop anyway. A thread that waits without a limit, for a read that no thread of the pool has
 *    begun, reads itself. One that waits for a write which another thread is at does not sleep at
 *    once: to sleep and be woken takes several times as long (measured: two threads that wait for
 *    each set, 190,000 sets/s, 350,000 so).
 * Given up, by its user or by its time, a call of a store in this process is ready at once: the
 * engine cannot be made to let go of what it has, so that the op and its inputs stay until it has
 * ended; nobody looks at its results then. Time is kept by kvs_future_timeout.
 * Failures: no memory for the future gives NULL; all others are in the future. Any thread.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "runtime/future.h"
#include "runtime/runtime.h"
#include "runtime/thread.h"
#include "store/store.h"

#include <stdio.h>
#include <string.h>

/* Stores check their own limit; this one bounds what is copied. */
#define VALUE_SIZE_MAX (64u * 1024 * 1024)

#define BRIEF_NS 5000u /* by then most such writes are done, and a sleep costs as much */

/* The part of a kvs_op that the caller fills. */
#define REQUEST_SIZE offsetof(kvs_op, error)

struct store_call {
    kvs_op op;
    kvs_store *store;
    void *inputs;   /* NULL: they were not copied, and are gone */
    bool is_result; /* the op's outcome became the future's: it was not given up */
    bool may_help;  /* a read of this process */
    bool is_brief;  /* a write of this process, which waits for no disk */
};

static bool is_in_process(const kvs_store *store)
{
    return store->engine != NULL;
}

static void store_call_cancel(kvs_future *future)
{
    struct store_call *call = future_payload(future);
    uint8_t kind = call->op.kind;
    if (!is_in_process(call->store)) {
        store_cancel(call->store, &call->op);
    } else if (store_kind_is_write(kind)) {
        future_give_up(future, KVS_ERR_OUTCOME_UNKNOWN,
                       "given up while it was being written: it may be done or not");
    } else {
        if (store_kind_is_read(kind))
            store_cancel(call->store, &call->op); /* so that the pool does not go on for nobody */
        future_give_up(future, KVS_ERR_CANCELLED, "");
    }
}

static void await_briefly(const kvs_future *future)
{
    uint64_t until_ns = clock_now_ns() + BRIEF_NS;
    while (!kvs_future_is_ready(future) && clock_now_ns() < until_ns)
        thread_pause();
}

/* The store may be closed by now: only the runtime and the call are looked at. */
static void store_call_help(kvs_future *future, bool limited)
{
    struct store_call *call = future_payload(future);
    if (call->is_brief)
        await_briefly(future);
    else if (call->may_help && !limited)
        local_store_help(kvs_runtime_pool(future_runtime(future)), &call->op);
}

static void store_call_free(void *payload)
{
    struct store_call *call = payload;
    kvs_op_release(&call->op);
    mem_free(call->inputs);
}

static const struct future_methods store_call_methods = {
    .payload_size = sizeof(struct store_call),
    .cancel = store_call_cancel,
    .free = store_call_free,
    .help = store_call_help,
};

/* --- the way back ------------------------------------------------------------------------------
 */

static void store_call_set_result(kvs_future *future, const kvs_op *op)
{
    bool is_found = op->kind == KVS_OP_CAS && op->error == KVS_ERR_CONDITION_FAILED;
    if (op->error != 0 && !is_found)
        return;
    switch (op->kind) {
    case KVS_OP_GET:
    case KVS_OP_STATS:
    case KVS_OP_CHECKSUM:
        future_set_value(future, op->result);
        break;
    case KVS_OP_EXISTS:
    case KVS_OP_COUNT:
    case KVS_OP_TTL:
    case KVS_OP_REMOVE_RANGE:
        future_set_number(future, op->number);
        break;
    case KVS_OP_SCAN:
        future_set_number(future, op->more);
        future_set_pairs(future, op->pairs, op->pairs_count);
        break;
    case KVS_OP_BATCH_GET:
        future_set_pairs(future, op->pairs, op->pairs_count);
        break;
    case KVS_OP_CAS:
        if (is_found) {
            future_set_number(future, op->number);
            future_set_value(future, op->result);
        }
        break;
    default:
        break;
    }
}

static void store_call_set_outcome(kvs_future *future, const kvs_op *op)
{
    store_call_set_result(future, op);
    if (op->message[0] != '\0')
        future_set_message(future, op->message);
}

static void store_call_complete(struct store_call *call)
{
    kvs_future *future = future_of_payload(call);
    if (!future_decide(future))
        return;
    call->is_result = true;
    store_call_set_outcome(future, &call->op);
    future_complete(future, call->op.error);
}

static void store_call_on_done(kvs_op *op)
{
    store_call_complete(CONTAINER_OF(op, struct store_call, op));
}

/* --- copies of the inputs ----------------------------------------------------------------------
 */

static kvs_slice take_copy(uint8_t **at, kvs_slice from)
{
    kvs_slice copy = {.data = *at, .size = from.size};
    if (from.size > 0)
        memcpy(*at, from.data, from.size);
    *at += from.size;
    return copy;
}

static size_t inputs_size(const kvs_op *op)
{
    /* The op is checked: every number here is bounded, and so is the sum. */
    size_t size = op->key.size + op->value.size + op->end_key.size + op->expected.size;
    for (uint32_t i = 0; op->keys != NULL && i < op->count; i++)
        size += sizeof(kvs_slice) + op->keys[i].size;
    for (uint32_t i = 0; op->mutations != NULL && i < op->count; i++)
        size += sizeof(kvs_mutation) + op->mutations[i].key.size + op->mutations[i].value.size;
    return size;
}

/* Only the inputs of the op's kind are looked at: others were not checked. */
static void drop_strange_inputs(kvs_op *op)
{
    bool has_end = op->kind == KVS_OP_SCAN || op->kind == KVS_OP_COUNT ||
                   op->kind == KVS_OP_CHECKSUM || op->kind == KVS_OP_REMOVE_RANGE;
    bool has_value = op->kind == KVS_OP_SET || op->kind == KVS_OP_CAS;
    bool has_key = has_end || has_value || op->kind == KVS_OP_GET || op->kind == KVS_OP_EXISTS ||
                   op->kind == KVS_OP_REMOVE || op->kind == KVS_OP_TTL ||
                   op->kind == KVS_OP_CHECKPOINT;
    if (!has_key)
        op->key = (kvs_slice){0};
    if (!has_value)
        op->value = (kvs_slice){0};
    if (!has_end)
        op->end_key = (kvs_slice){0};
    if (op->kind != KVS_OP_CAS || (op->flags & KVS_OP_FLAG_EXPECT_ABSENT) != 0)
        op->expected = (kvs_slice){0};
    if (op->kind != KVS_OP_BATCH_GET)
        op->keys = NULL;
    if (op->kind != KVS_OP_BATCH_WRITE)
        op->mutations = NULL;
    if (op->keys == NULL && op->mutations == NULL)
        op->count = 0;
}

static int store_call_copy_inputs(struct store_call *call)
{
    kvs_op *op = &call->op;
    uint8_t *at = mem_alloc(inputs_size(op));
    if (at == NULL)
        return KVS_ERR_NO_MEMORY;
    call->inputs = at;
    /* Arrays first: they need the alignment. */
    if (op->keys != NULL) {
        kvs_slice *keys = (kvs_slice *)(void *)at;
        at += op->count * sizeof *keys;
        for (uint32_t i = 0; i < op->count; i++)
            keys[i] = take_copy(&at, op->keys[i]);
        op->keys = keys;
    }
    if (op->mutations != NULL) {
        kvs_mutation *mutations = (kvs_mutation *)(void *)at;
        at += op->count * sizeof *mutations;
        for (uint32_t i = 0; i < op->count; i++) {
            mutations[i] = op->mutations[i];
            mutations[i].key = take_copy(&at, op->mutations[i].key);
            mutations[i].value = take_copy(&at, op->mutations[i].value);
        }
        op->mutations = mutations;
    }
    op->key = take_copy(&at, op->key);
    op->value = take_copy(&at, op->value);
    op->end_key = take_copy(&at, op->end_key);
    op->expected = take_copy(&at, op->expected);
    return 0;
}

/* --- the calls ---------------------------------------------------------------------------------
 */

/* May on_done be called on any thread? Not where somebody polls, who waits for his loop. */
static bool completes_anywhere(const kvs_store *store, const kvs_op *op)
{
    return (store_kind_is_write(op->kind) || store_kind_is_read(op->kind)) &&
           is_in_process(store) && runtime_has_threads(store->runtime);
}

static void store_call_submit(struct store_call *call)
{
    kvs_store *store = call->store;
    kvs_op *op = &call->op;
    store_op_begin(op);
    op->error = store_op_check(op, VALUE_SIZE_MAX);
    if (op->error == 0) {
        drop_strange_inputs(op);
        op->error = store_call_copy_inputs(call);
    }
    bool anywhere = completes_anywhere(store, op);
    call->may_help = anywhere && store_kind_is_read(op->kind);
    call->is_brief = anywhere && store_kind_is_write(op->kind) &&
                     (store->engine->capabilities & ENGINE_CAP_BRIEF) != 0;
    if (op->error != 0)
        store_call_complete(call);
    else
        store_submit(store, &op, 1, anywhere ? NULL : store->loop);
}

/*
 * With a time of the future's own. A write gets it first: when there is no memory for it, nothing
 * was written. All else is submitted first, so that a cancel finds it submitted.
 */
static kvs_future *store_call_submit_timed(struct store_call *call, uint32_t timeout_ms)
{
    kvs_future *future = future_of_payload(call);
    if (!store_kind_is_write(call->op.kind)) {
        store_call_submit(call);
        return kvs_future_timeout(future, timeout_ms);
    }
    kvs_future *timed = kvs_future_timeout(future, timeout_ms);
    if (timed != NULL)
        store_call_submit(call);
    else if (future_decide(future))
        future_complete(future, KVS_ERR_NO_MEMORY);
    return timed;
}

kvs_future *store_call_start(kvs_store *store, const kvs_op *request, struct store_call **ret_call)
{
    kvs_future *future = future_new_idle(store->runtime, store->loop, &store_call_methods);
    if (future == NULL)
        return NULL;
    struct store_call *call = future_payload(future);
    call->store = store;
    kvs_op *op = &call->op;
    memcpy(op, request, REQUEST_SIZE); /* the rest is zero */
    op->on_done = store_call_on_done;
    *ret_call = call;
    if (store_answer(store, op)) {
        call->is_result = true;
        store_call_set_outcome(future, op);
        future_complete_idle(future, op->error);
        return future;
    }
    future_start(future);
    uint32_t timeout_ms = is_in_process(store) ? store_timeout_of(store, op) : 0;
    if (timeout_ms != 0)
        return store_call_submit_timed(call, timeout_ms);
    store_call_submit(call);
    return future;
}

kvs_future *kvs_store_call(kvs_store *store, const kvs_op *request)
{
    struct store_call *call;
    return store_call_start(store, request, &call);
}

void store_call_take(kvs_future *future, struct store_call *call, kvs_op *op)
{
    kvs_op *from = &call->op;
    op->error = kvs_future_error(future);
    if (!call->is_result || from->error != op->error) {
        snprintf(op->message, sizeof op->message, "%s", kvs_future_error_message(future));
        return;
    }
    op->more = from->more;
    op->number = from->number;
    op->result = from->result;
    op->pairs = from->pairs;
    op->pairs_count = from->pairs_count;
    op->borrowed = from->borrowed;
    if (op->borrowed)
        *store_op_pin(op) = *store_op_pin(from);
    memcpy(op->message, from->message, sizeof op->message);
    from->result = (kvs_slice){0};
    from->pairs = NULL;
    from->borrowed = false;
}

static kvs_op op_of_kind(enum kvs_op_kind kind)
{
    kvs_op op = KVS_OP_INIT;
    op.kind = (uint8_t)kind;
    return op;
}

static kvs_future *call_key(kvs_store *store, enum kvs_op_kind kind, kvs_slice key)
{
    /* Of the struct only the request is looked at; clearing the rest would cost gets dearly. */
    kvs_op op;
    memset(&op, 0, REQUEST_SIZE);
    op.size = sizeof op;
    op.kind = (uint8_t)kind;
    op.key = key;
    return kvs_store_call(store, &op);
}

static kvs_future *call_range(kvs_store *store, enum kvs_op_kind kind, kvs_slice start,
                              kvs_slice end, uint32_t limit, unsigned flags)
{
    kvs_op op = op_of_kind(kind);
    op.key = start;
    op.end_key = end;
    op.limit = limit;
    op.flags = (uint16_t)flags;
    return kvs_store_call(store, &op);
}

static kvs_future *call_kind(kvs_store *store, enum kvs_op_kind kind)
{
    kvs_op op = op_of_kind(kind);
    return kvs_store_call(store, &op);
}

kvs_future *kvs_store_get(kvs_store *store, kvs_slice key)
{
    return call_key(store, KVS_OP_GET, key);
}

kvs_future *kvs_store_exists(kvs_store *store, kvs_slice key)
{
    return call_key(store, KVS_OP_EXISTS, key);
}

kvs_future *kvs_store_remove(kvs_store *store, kvs_slice key)
{
    return call_key(store, KVS_OP_REMOVE, key);
}

kvs_future *kvs_store_set(kvs_store *store, kvs_slice key, kvs_slice value)
{
    return kvs_store_set_ttl(store, key, value, 0);
}

kvs_future *kvs_store_set_ttl(kvs_store *store, kvs_slice key, kvs_slice value, uint64_t ttl_ms)
{
    kvs_op op = op_of_kind(KVS_OP_SET);
    op.key = key;
    op.value = value;
    op.ttl_ms = ttl_ms;
    return kvs_store_call(store, &op);
}

kvs_future *kvs_store_compare_and_set(kvs_store *store, kvs_slice key, const kvs_slice *expected,
                                      kvs_slice value)
{
    kvs_op op = op_of_kind(KVS_OP_CAS);
    op.key = key;
    op.value = value;
    if (expected != NULL)
        op.expected = *expected;
    else
        op.flags = KVS_OP_FLAG_EXPECT_ABSENT;
    return kvs_store_call(store, &op);
}

/* A count that does not fit is told as the largest, which is over the limit. */
static uint32_t count_of(size_t count)
{
    return count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
}

kvs_future *kvs_store_batch_get(kvs_store *store, const kvs_slice *keys, size_t count)
{
    kvs_op op = op_of_kind(KVS_OP_BATCH_GET);
    op.keys = keys;
    op.count = count_of(count);
    return kvs_store_call(store, &op);
}

kvs_future *kvs_store_batch_write(kvs_store *store, const kvs_mutation *mutations, size_t count)
{
    kvs_op op = op_of_kind(KVS_OP_BATCH_WRITE);
    op.mutations = mutations;
    op.count = count_of(count);
    return kvs_store_call(store, &op);
}

kvs_future *kvs_store_scan(kvs_store *store, kvs_slice start, kvs_slice end, uint32_t limit,
                           unsigned flags)
{
    return call_range(store, KVS_OP_SCAN, start, end, limit, flags);
}

kvs_future *kvs_store_count(kvs_store *store, kvs_slice start, kvs_slice end)
{
    return call_range(store, KVS_OP_COUNT, start, end, 0, 0);
}

kvs_future *kvs_store_checksum(kvs_store *store, kvs_slice start, kvs_slice end)
{
    return call_range(store, KVS_OP_CHECKSUM, start, end, 0, 0);
}

kvs_future *kvs_store_ttl(kvs_store *store, kvs_slice key)
{
    return call_key(store, KVS_OP_TTL, key);
}

kvs_future *kvs_store_remove_range(kvs_store *store, kvs_slice start, kvs_slice end)
{
    return call_range(store, KVS_OP_REMOVE_RANGE, start, end, 0, 0);
}

kvs_future *kvs_store_ping(kvs_store *store)
{
    return call_kind(store, KVS_OP_PING);
}

kvs_future *kvs_store_stats(kvs_store *store)
{
    return call_kind(store, KVS_OP_STATS);
}

kvs_future *kvs_store_sync(kvs_store *store)
{
    return call_kind(store, KVS_OP_SYNC);
}

kvs_future *kvs_store_checkpoint(kvs_store *store, kvs_slice directory)
{
    return call_key(store, KVS_OP_CHECKPOINT, directory);
}

kvs_future *kvs_store_compact(kvs_store *store)
{
    return call_kind(store, KVS_OP_COMPACT);
}

/* --- caller-owned operations -------------------------------------------------------------------
 */

void kvs_store_submit(kvs_store *store, kvs_op *op)
{
    kvs_store_submit_many(store, &op, 1);
}

static void submit_on(kvs_store *store, kvs_op **ops, size_t count, struct loop *loop)
{
    if (count == 0)
        return;
    if (store->methods->submit_timed != NULL)
        store->methods->submit_timed(store, ops, count, loop);
    else
        store_submit(store, ops, count, loop);
}

void kvs_store_submit_many(kvs_store *store, kvs_op **ops, size_t count)
{
    submit_on(store, ops, count, store->loop);
}

void kvs_store_submit_here(kvs_store *store, kvs_op **ops, size_t count)
{
    submit_on(store, ops, count, store->engine != NULL ? NULL : store->loop);
}

void kvs_store_cancel(kvs_store *store, kvs_op *op)
{
    store_cancel(store, op);
}

/*
 * client/txn/txn_calls.c: the calls of kvs/txn.h in a transaction: checked, answered at once where
 * that is possible (request.c), else copied and queued. See client/txn/txn_parts.h.
 */
#include "client/txn/txn_parts.h"

#include <stdio.h>

static void request_free(void *payload);

static const struct future_methods request_methods = {
    .payload_size = sizeof(struct txn_request),
    .cancel = request_on_cancel,
    .free = request_free,
};

static const struct future_methods read_request_methods = {
    .payload_size = sizeof(struct read_request),
    .cancel = request_on_cancel,
    .free = request_free,
};

static bool kind_reads_keys(unsigned kind)
{
    return kind >= OP_GET && kind <= OP_BATCH_GET_FOR_UPDATE && kind != OP_SCAN;
}

static void request_free(void *payload)
{
    struct txn_request *op = payload;
    scan_free(op);
    lock_free(op);
    if (op->reader != NULL)
        reader_deinit(op->reader);
    arena_deinit(&op->arena);
}

/* --- checks and copies --------------------------------------------------------------------------
 */

static int check_key(struct txn_request *op, kvs_slice key)
{
    if (key.size >= 1 && key.size <= KVS_KEY_SIZE_MAX && key.data != NULL)
        return 0;
    snprintf(op->message, sizeof op->message, "a key has 1 to %u bytes", KVS_KEY_SIZE_MAX);
    return key.size > KVS_KEY_SIZE_MAX ? KVS_ERR_TOO_LARGE : KVS_ERR_INVALID_ARGUMENT;
}

static int check_mutation(struct txn_request *op, const kvs_mutation *mutation)
{
    bool is_set = mutation->kind == KVS_MUTATION_SET;
    if ((!is_set && mutation->kind != KVS_MUTATION_REMOVE) || mutation->family != 0 ||
        mutation->ttl_ms != 0)
        return request_refuse(
            op, KVS_ERR_UNSUPPORTED,
            "a transaction sets and removes keys, without families and ends of life");
    if (is_set && mutation->value.size > KVS_VALUE_SIZE_MAX)
        return request_refuse(op, KVS_ERR_TOO_LARGE, "a value is larger than 16 MiB");
    if (is_set && mutation->value.size > 0 && mutation->value.data == NULL)
        return request_refuse(op, KVS_ERR_INVALID_ARGUMENT, "a value is NULL");
    return check_key(op, mutation->key);
}

static int check_op(struct txn_request *op)
{
    kvs_txn *txn = op->txn;
    int error = 0;
    bool changes = op->kind >= OP_GET_FOR_UPDATE && op->kind <= OP_LOCK;
    if (txn->refused != NULL)
        return request_refuse(op, KVS_ERR_INVALID_ARGUMENT, txn->refused);
    if (changes && txn->options.read_only)
        return request_refuse(op, KVS_ERR_INVALID_ARGUMENT, "the transaction is read-only");
    if ((op->keys_count > 0 && op->keys == NULL) ||
        (op->mutations_count > 0 && op->mutations == NULL))
        return request_refuse(op, KVS_ERR_INVALID_ARGUMENT, "the keys are NULL");
    if (op->keys_count > KVS_BATCH_COUNT_MAX || op->mutations_count > KVS_BATCH_COUNT_MAX)
        return request_refuse(op, KVS_ERR_TOO_LARGE, "more keys than one call takes");
    if (op->kind == OP_SCAN &&
        (op->start.size > KVS_KEY_SIZE_MAX || op->end.size > KVS_KEY_SIZE_MAX))
        return request_refuse(op, KVS_ERR_TOO_LARGE, "a bound is longer than a key");
    for (uint32_t i = 0; error == 0 && i < op->keys_count; i++)
        error = check_key(op, op->keys[i]);
    for (uint32_t i = 0; error == 0 && i < op->mutations_count; i++)
        error = check_mutation(op, &op->mutations[i]);
    return error;
}

static int copy_slice(struct arena *arena, kvs_slice *slice)
{
    if (slice->size == 0)
        return 0;
    void *copy = arena_copy(arena, *slice);
    if (copy == NULL)
        return KVS_ERR_NO_MEMORY;
    slice->data = copy;
    return 0;
}

/* Keys that a write locks are those it writes. */
static int take_written_keys(struct txn_request *op)
{
    kvs_slice *keys = arena_alloc(&op->arena, (op->mutations_count + 1) * sizeof keys[0]);
    if (keys == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < op->mutations_count; i++)
        keys[i] = op->mutations[i].key;
    op->keys = keys;
    op->keys_count = op->mutations_count;
    return 0;
}

/* Copies the inputs and what points to them. */
static int copy_inputs(struct txn_request *op)
{
    struct arena *arena = &op->arena;
    int error = copy_slice(arena, &op->start);
    if (error == 0)
        error = copy_slice(arena, &op->end);
    if (op->keys_count > 0) {
        kvs_slice *keys =
            arena_copy(arena, slice_make(op->keys, op->keys_count * sizeof op->keys[0]));
        if (keys == NULL)
            return KVS_ERR_NO_MEMORY;
        for (uint32_t i = 0; error == 0 && i < op->keys_count; i++)
            error = copy_slice(arena, &keys[i]);
        op->keys = keys;
    }
    if (op->mutations_count > 0) {
        kvs_mutation *mutations = arena_copy(
            arena, slice_make(op->mutations, op->mutations_count * sizeof op->mutations[0]));
        if (mutations == NULL)
            return KVS_ERR_NO_MEMORY;
        for (uint32_t i = 0; error == 0 && i < op->mutations_count; i++) {
            error = copy_slice(arena, &mutations[i].key);
            if (error == 0)
                error = copy_slice(arena, &mutations[i].value);
        }
        op->mutations = mutations;
        if (error == 0)
            error = take_written_keys(op);
    }
    /* The asks point to the keys as they were. */
    for (uint32_t i = 0; error == 0 && i < op->keys_count && op->places != NULL; i++)
        op->asks[op->places[i]].key = op->keys[i];
    if (error == 0 && op->places == NULL && op->keys_count > 0)
        error = request_make_asks(op);
    return error;
}

/* Everything until the op is queued (false) or has its outcome. */
static bool request_submit(struct txn_request *op, int *ret_error)
{
    kvs_txn *txn = op->txn;
    bool is_read = op->kind >= OP_GET && op->kind <= OP_BATCH_GET_FOR_UPDATE;
    bool done = true;
    *ret_error = check_op(op);
    if (*ret_error == 0 && (is_read || op->kind == OP_LOCK) && op->kind != OP_SCAN)
        *ret_error = request_make_asks(op);
    if (*ret_error != 0)
        return true;
    pthread_mutex_lock(&txn->mutex);
    if (txn_client_is_closing(txn->client))
        *ret_error = request_refuse(op, KVS_ERR_CLOSED, "the client was closed");
    else if (txn->state != TXN_ACTIVE && op->kind != OP_TIMESTAMP)
        *ret_error = request_refuse(op, KVS_ERR_INVALID_ARGUMENT, "the transaction has ended");
    else
        done = request_try_at_once(op, ret_error);
    if (*ret_error == 0 && !done) {
        *ret_error = copy_inputs(op);
        done = *ret_error != 0;
        if (!done) {
            future_start(future_of_payload(op));
            txn_enqueue(op);
        }
    }
    pthread_mutex_unlock(&txn->mutex);
    return done || *ret_error != 0;
}

/* A write of keys that need no lock, or have theirs: nothing of a request is left when it is done.
 * NULL: it has to be a request, which finds out why; what was buffered is buffered again then. */
static kvs_future *write_at_once(kvs_txn *txn, const kvs_mutation *mutations, uint32_t count)
{
    struct txn_request op = {
        .kind = OP_WRITE, .txn = txn, .mutations = mutations, .mutations_count = count};
    if (check_op(&op) != 0)
        return NULL;
    kvs_future *future = future_new_ready(txn->client->runtime, txn->shard->loop);
    if (future == NULL)
        return NULL;
    pthread_mutex_lock(&txn->mutex);
    bool is_done = !txn_client_is_closing(txn->client) && txn->state == TXN_ACTIVE &&
                   (!txn->options.pessimistic || request_holds_locks(&op)) &&
                   request_check_size(&op) == 0 && request_write_all(&op) == 0;
    pthread_mutex_unlock(&txn->mutex);
    if (is_done)
        return future;
    kvs_future_free(future);
    return NULL;
}

static kvs_future *request_start(kvs_txn *txn, const struct txn_request *request)
{
    bool reads = kind_reads_keys(request->kind);
    kvs_future *future = future_new_idle(txn->client->runtime, txn->shard->loop,
                                         reads ? &read_request_methods : &request_methods);
    if (future == NULL)
        return NULL;
    struct txn_request *op = future_payload(future);
    int error = 0;
    *op = *request;
    op->reader = reads ? &((struct read_request *)future_payload(future))->reader : NULL;
    op->txn = txn;
    list_init(&op->node);
    if (request_submit(op, &error)) {
        future_complete_idle(request_set_outcome(op, error), error);
        return future;
    }
    /* A cluster's calls keep their time; a disk of this process cannot be hurried. */
    return txn->given_up_ms != 0 ? future_try_timeout(future, txn->given_up_ms) : future;
}

static kvs_future *request_start_key(kvs_txn *txn, enum txn_op_kind kind, kvs_slice key)
{
    return request_start(
        txn, &(struct txn_request){.kind = (uint8_t)kind, .keys = &key, .keys_count = 1});
}

static uint32_t bounded(size_t count)
{
    return count > UINT32_MAX ? UINT32_MAX : (uint32_t)count; /* refused later */
}

static kvs_future *request_start_keys(kvs_txn *txn, enum txn_op_kind kind, const kvs_slice *keys,
                                      size_t count)
{
    return request_start(
        txn,
        &(struct txn_request){.kind = (uint8_t)kind, .keys = keys, .keys_count = bounded(count)});
}

static kvs_future *request_start_write(kvs_txn *txn, const kvs_mutation *mutations, size_t count,
                                       bool insert)
{
    kvs_future *done = insert ? NULL : write_at_once(txn, mutations, bounded(count));
    if (done != NULL)
        return done;
    return request_start(txn, &(struct txn_request){.kind = OP_WRITE,
                                                    .mutations = mutations,
                                                    .mutations_count = bounded(count),
                                                    .insert = insert});
}

/* --- the calls ----------------------------------------------------------------------------------
 */

kvs_txn *kvs_txn_begin(kvs_txn_client *client, const struct kvs_txn_options *options)
{
    return txn_new(client, options, 0);
}

void kvs_txn_free(kvs_txn *txn)
{
    if (txn != NULL)
        txn_drop(txn);
}

kvs_future *kvs_txn_start_timestamp(kvs_txn *txn)
{
    return request_start(txn, &(struct txn_request){.kind = OP_TIMESTAMP});
}

kvs_future *kvs_txn_get(kvs_txn *txn, kvs_slice key)
{
    return request_start_key(txn, OP_GET, key);
}

kvs_future *kvs_txn_exists(kvs_txn *txn, kvs_slice key)
{
    return request_start_key(txn, OP_EXISTS, key);
}

kvs_future *kvs_txn_batch_get(kvs_txn *txn, const kvs_slice *keys, size_t count)
{
    return request_start_keys(txn, OP_BATCH_GET, keys, count);
}

kvs_future *kvs_txn_get_for_update(kvs_txn *txn, kvs_slice key)
{
    return request_start_key(txn, OP_GET_FOR_UPDATE, key);
}

kvs_future *kvs_txn_batch_get_for_update(kvs_txn *txn, const kvs_slice *keys, size_t count)
{
    return request_start_keys(txn, OP_BATCH_GET_FOR_UPDATE, keys, count);
}

kvs_future *kvs_txn_lock(kvs_txn *txn, const kvs_slice *keys, size_t count, int32_t wait_ms)
{
    return request_start(
        txn, &(struct txn_request){
                 .kind = OP_LOCK, .keys = keys, .keys_count = bounded(count), .wait_ms = wait_ms});
}

kvs_future *kvs_txn_lock_shared(kvs_txn *txn, const kvs_slice *keys, size_t count, int32_t wait_ms)
{
    return request_start(txn, &(struct txn_request){.kind = OP_LOCK,
                                                    .keys = keys,
                                                    .keys_count = bounded(count),
                                                    .shares = true,
                                                    .wait_ms = wait_ms});
}

kvs_future *kvs_txn_scan(kvs_txn *txn, kvs_slice start, kvs_slice end, uint32_t limit,
                         unsigned flags)
{
    return request_start(
        txn, &(struct txn_request){.kind = OP_SCAN,
                                   .start = start,
                                   .end = end,
                                   .limit = limit,
                                   .reverse = (flags & KVS_OP_FLAG_REVERSE) != 0,
                                   .keys_only = (flags & KVS_OP_FLAG_KEYS_ONLY) != 0,
                                   .paged = limit == 0 || (flags & KVS_OP_FLAG_PAGE) != 0});
}

kvs_future *kvs_txn_put(kvs_txn *txn, kvs_slice key, kvs_slice value)
{
    const kvs_mutation mutation = {.kind = KVS_MUTATION_SET, .key = key, .value = value};
    return request_start_write(txn, &mutation, 1, false);
}

kvs_future *kvs_txn_insert(kvs_txn *txn, kvs_slice key, kvs_slice value)
{
    const kvs_mutation mutation = {.kind = KVS_MUTATION_SET, .key = key, .value = value};
    return request_start_write(txn, &mutation, 1, true);
}

kvs_future *kvs_txn_delete(kvs_txn *txn, kvs_slice key)
{
    const kvs_mutation mutation = {.kind = KVS_MUTATION_REMOVE, .key = key};
    return request_start_write(txn, &mutation, 1, false);
}

kvs_future *kvs_txn_mutate(kvs_txn *txn, const kvs_mutation *mutations, size_t count)
{
    return request_start_write(txn, mutations, count, false);
}

kvs_future *kvs_txn_commit(kvs_txn *txn)
{
    return request_start(txn, &(struct txn_request){.kind = OP_COMMIT});
}

kvs_future *kvs_txn_rollback(kvs_txn *txn)
{
    return request_start(txn, &(struct txn_request){.kind = OP_ROLLBACK});
}

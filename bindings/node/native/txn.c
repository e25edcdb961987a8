/*
 * native/txn.c: transactions and snapshots for JavaScript; see addon.h. Functions begin with (id,
 * handle, timeout, ...), and the result arrives under the id; txnBegin and snapshotNew return a
 * handle at once. src/native.ts has their signatures.
 */
#include "addon.h"

#include <kvs/txn.h>

static kvs_future *close_client(void *pointer)
{
    return kvs_txn_client_close(pointer);
}

/* One that was neither committed nor rolled back is rolled back in the background. */
static kvs_future *close_txn(void *pointer)
{
    kvs_txn_free(pointer);
    return NULL;
}

static kvs_future *close_snapshot(void *pointer)
{
    kvs_snapshot_free(pointer);
    return NULL;
}

static const struct resource_kind client_kind = {.closed = "the client is closed",
                                                 .close = close_client};
static const struct resource_kind txn_kind = {.closed = "the transaction is closed",
                                              .close = close_txn};
static const struct resource_kind snapshot_kind = {.closed = "the snapshot is closed",
                                                   .close = close_snapshot};

/* --- results --- */

static void write_none(struct call *call, struct writer *writer)
{
    (void)call;
    write_nothing(writer);
}

static void write_value(struct call *call, struct writer *writer)
{
    kvs_slice value;
    if (kvs_future_get_value(call->future, &value) == 0)
        write_bytes(writer, value);
    else
        write_nothing(writer); /* NOT_FOUND */
}

static int64_t number_of(struct call *call)
{
    int64_t number = 0;
    kvs_future_get_number(call->future, &number);
    return number;
}

static void write_truth(struct call *call, struct writer *writer)
{
    write_boolean(writer, number_of(call) != 0);
}

static void write_future_number(struct call *call, struct writer *writer)
{
    write_number(writer, number_of(call));
}

static void write_timestamp(struct call *call, struct writer *writer)
{
    write_u64(writer, (uint64_t)number_of(call));
}

static void write_found(struct call *call, struct writer *writer)
{
    const kvs_pair *pairs = NULL;
    size_t count = 0;
    kvs_future_get_pairs(call->future, &pairs, &count);
    write_values(writer, pairs, count);
}

/* As store.c's: pairs or keys, the last key, and whether there are more. */
static void write_page(struct call *call, struct writer *writer)
{
    const kvs_pair *pairs = NULL;
    size_t count = 0;
    kvs_future_get_pairs(call->future, &pairs, &count);
    if ((call->flags & KVS_OP_FLAG_KEYS_ONLY) != 0)
        write_keys(writer, pairs, count);
    else
        write_pairs(writer, pairs, count);
    if (count > 0)
        write_bytes(writer, pairs[count - 1].key);
    else
        write_nothing(writer);
    write_boolean(writer, number_of(call) != 0);
}

/* --- arguments --- */

/* (id, of, timeout_ms, ...) */
static struct call *begin(struct arguments *arguments, napi_env env, napi_callback_info info,
                          const struct resource_kind *kind, call_write_fn *write)
{
    uint32_t id, timeout_ms;
    struct resource *resource;
    if (!arguments_begin(arguments, env, info) || !argument_u32(arguments, 0, "the id", &id) ||
        (resource = resource_get(env, arguments->values[1], kind)) == NULL ||
        !argument_u32(arguments, 2, "timeoutMs", &timeout_ms))
        return NULL;
    struct call *call = call_new(arguments->addon, id, resource, write);
    if (call != NULL)
        call->op.timeout_ms = timeout_ms;
    return call;
}

/* The future of a call whose arguments were right; NULL: no memory. */
static napi_value submit(struct call *call, kvs_future *future)
{
    uint32_t timeout_ms = call->op.timeout_ms; /* 0: the transaction's own */
    call_submit_future(call, timeout_ms > 0 ? kvs_future_timeout(future, timeout_ms) : future);
    return NULL;
}

static napi_value drop(struct call *call)
{
    call_drop(call);
    return NULL;
}

/* --- reads: of a transaction or a snapshot --- */

/* What a read calls, for either. */
struct reads {
    const struct resource_kind *kind;
    kvs_future *(*get)(void *of, kvs_slice key);
    kvs_future *(*exists)(void *of, kvs_slice key);
    kvs_future *(*batch_get)(void *of, const kvs_slice *keys, size_t count);
    kvs_future *(*scan)(void *of, kvs_slice start, kvs_slice end, uint32_t limit, unsigned flags);
};

static kvs_future *txn_get(void *of, kvs_slice key)
{
    return kvs_txn_get(of, key);
}

static kvs_future *txn_exists(void *of, kvs_slice key)
{
    return kvs_txn_exists(of, key);
}

static kvs_future *txn_batch_get(void *of, const kvs_slice *keys, size_t count)
{
    return kvs_txn_batch_get(of, keys, count);
}

static kvs_future *txn_scan(void *of, kvs_slice start, kvs_slice end, uint32_t limit,
                            unsigned flags)
{
    return kvs_txn_scan(of, start, end, limit, flags);
}

static kvs_future *txn_get_for_update(void *of, kvs_slice key)
{
    return kvs_txn_get_for_update(of, key);
}

static kvs_future *txn_batch_get_for_update(void *of, const kvs_slice *keys, size_t count)
{
    return kvs_txn_batch_get_for_update(of, keys, count);
}

static kvs_future *snapshot_get(void *of, kvs_slice key)
{
    return kvs_snapshot_get(of, key);
}

static kvs_future *snapshot_exists(void *of, kvs_slice key)
{
    return kvs_snapshot_exists(of, key);
}

static kvs_future *snapshot_batch_get(void *of, const kvs_slice *keys, size_t count)
{
    return kvs_snapshot_batch_get(of, keys, count);
}

static kvs_future *snapshot_scan(void *of, kvs_slice start, kvs_slice end, uint32_t limit,
                                 unsigned flags)
{
    return kvs_snapshot_scan(of, start, end, limit, flags);
}

static const struct reads txn_reads = {&txn_kind, txn_get, txn_exists, txn_batch_get, txn_scan};
static const struct reads for_update = {&txn_kind, txn_get_for_update, NULL,
                                        txn_batch_get_for_update, NULL};
static const struct reads snapshot_reads = {&snapshot_kind, snapshot_get, snapshot_exists,
                                            snapshot_batch_get, snapshot_scan};

/* (id, of, timeout, key) */
static napi_value get(napi_env env, napi_callback_info info, const struct reads *reads)
{
    struct arguments arguments;
    kvs_slice key, *slices[] = {&key};
    struct call *call = begin(&arguments, env, info, reads->kind, write_value);
    if (call == NULL)
        return NULL;
    call->accepted_error = KVS_ERR_NOT_FOUND;
    if (!call_take_bytes(call, &arguments, 3, 1, slices))
        return drop(call);
    return submit(call, reads->get(call->resource->pointer, key));
}

/* (id, of, timeout, key) */
static napi_value exists(napi_env env, napi_callback_info info, const struct reads *reads)
{
    struct arguments arguments;
    kvs_slice key, *slices[] = {&key};
    struct call *call = begin(&arguments, env, info, reads->kind, write_truth);
    if (call == NULL)
        return NULL;
    if (!call_take_bytes(call, &arguments, 3, 1, slices))
        return drop(call);
    return submit(call, reads->exists(call->resource->pointer, key));
}

/* (id, of, timeout, bytes, sizes, count) */
static napi_value batch_get(napi_env env, napi_callback_info info, const struct reads *reads)
{
    struct arguments arguments;
    kvs_slice *keys;
    uint32_t count;
    struct call *call = begin(&arguments, env, info, reads->kind, write_found);
    if (call == NULL)
        return NULL;
    if ((keys = call_take_keys(call, &arguments, 3, &count)) == NULL)
        return drop(call);
    return submit(call, reads->batch_get(call->resource->pointer, keys, count));
}

/* (id, of, timeout, start, end, limit, flags) */
static napi_value scan(napi_env env, napi_callback_info info, const struct reads *reads)
{
    struct arguments arguments;
    kvs_slice start, end, *slices[] = {&start, &end};
    uint32_t limit, flags;
    struct call *call = begin(&arguments, env, info, reads->kind, write_page);
    if (call == NULL)
        return NULL;
    if (!call_take_bytes(call, &arguments, 3, 2, slices) ||
        !argument_u32(&arguments, 5, "limit or pageSize", &limit) ||
        !argument_u32(&arguments, 6, "the flags", &flags))
        return drop(call);
    call->flags = flags;
    return submit(call, reads->scan(call->resource->pointer, start, end, limit, flags));
}

static napi_value txn_get_js(napi_env env, napi_callback_info info)
{
    return get(env, info, &txn_reads);
}

static napi_value txn_exists_js(napi_env env, napi_callback_info info)
{
    return exists(env, info, &txn_reads);
}

static napi_value txn_batch_get_js(napi_env env, napi_callback_info info)
{
    return batch_get(env, info, &txn_reads);
}

static napi_value txn_scan_js(napi_env env, napi_callback_info info)
{
    return scan(env, info, &txn_reads);
}

static napi_value txn_get_for_update_js(napi_env env, napi_callback_info info)
{
    return get(env, info, &for_update);
}

static napi_value txn_batch_get_for_update_js(napi_env env, napi_callback_info info)
{
    return batch_get(env, info, &for_update);
}

static napi_value snapshot_get_js(napi_env env, napi_callback_info info)
{
    return get(env, info, &snapshot_reads);
}

static napi_value snapshot_exists_js(napi_env env, napi_callback_info info)
{
    return exists(env, info, &snapshot_reads);
}

static napi_value snapshot_batch_get_js(napi_env env, napi_callback_info info)
{
    return batch_get(env, info, &snapshot_reads);
}

static napi_value snapshot_scan_js(napi_env env, napi_callback_info info)
{
    return scan(env, info, &snapshot_reads);
}

/* --- writes --- */

typedef kvs_future *put_fn(kvs_txn *txn, kvs_slice key, kvs_slice value);

/* (id, txn, timeout, key, value) */
static napi_value put(napi_env env, napi_callback_info info, put_fn *fn)
{
    struct arguments arguments;
    kvs_slice key, value, *slices[] = {&key, &value};
    struct call *call = begin(&arguments, env, info, &txn_kind, write_none);
    if (call == NULL)
        return NULL;
    if (!call_take_bytes(call, &arguments, 3, 2, slices))
        return drop(call);
    return submit(call, fn(call->resource->pointer, key, value));
}

static napi_value txn_put_js(napi_env env, napi_callback_info info)
{
    return put(env, info, kvs_txn_put);
}

static napi_value txn_insert_js(napi_env env, napi_callback_info info)
{
    return put(env, info, kvs_txn_insert);
}

/* (id, txn, timeout, key) */
static napi_value txn_delete_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    kvs_slice key, *slices[] = {&key};
    struct call *call = begin(&arguments, env, info, &txn_kind, write_none);
    if (call == NULL)
        return NULL;
    if (!call_take_bytes(call, &arguments, 3, 1, slices))
        return drop(call);
    return submit(call, kvs_txn_delete(call->resource->pointer, key));
}

/* (id, txn, timeout, kinds, bytes, sizes, count) */
static napi_value txn_mutate_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    kvs_mutation *mutations;
    uint32_t count;
    struct call *call = begin(&arguments, env, info, &txn_kind, write_none);
    if (call == NULL)
        return NULL;
    if ((mutations = call_take_mutations(call, &arguments, 3, &count)) == NULL)
        return drop(call);
    return submit(call, kvs_txn_mutate(call->resource->pointer, mutations, count));
}

/* (id, txn, timeout, bytes, sizes, count, wait_ms, shared) */
static napi_value txn_lock_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    kvs_slice *keys;
    uint32_t count;
    double wait_ms;
    struct call *call = begin(&arguments, env, info, &txn_kind, write_none);
    if (call == NULL)
        return NULL;
    if ((keys = call_take_keys(call, &arguments, 3, &count)) == NULL ||
        !argument_double(&arguments, 6, "waitMs", &wait_ms))
        return drop(call);
    int32_t wait = wait_ms > INT32_MAX ? INT32_MAX
                   : wait_ms < 0       ? KVS_TXN_LOCK_NO_WAIT
                                       : (int32_t)wait_ms;
    kvs_txn *txn = call->resource->pointer;
    return submit(call, argument_boolean(&arguments, 7)
                            ? kvs_txn_lock_shared(txn, keys, count, wait)
                            : kvs_txn_lock(txn, keys, count, wait));
}

/* (id, of, timeout) */
static napi_value without_arguments(napi_env env, napi_callback_info info,
                                    const struct resource_kind *kind, call_write_fn *write,
                                    kvs_future *(*fn)(void *of))
{
    struct arguments arguments;
    struct call *call = begin(&arguments, env, info, kind, write);
    return call != NULL ? submit(call, fn(call->resource->pointer)) : NULL;
}

static kvs_future *commit(void *txn)
{
    return kvs_txn_commit(txn);
}

static kvs_future *rollback(void *txn)
{
    return kvs_txn_rollback(txn);
}

static kvs_future *txn_timestamp(void *txn)
{
    return kvs_txn_start_timestamp(txn);
}

static kvs_future *snapshot_timestamp(void *snapshot)
{
    return kvs_snapshot_timestamp(snapshot);
}

static kvs_future *client_timestamp(void *client)
{
    return kvs_txn_current_timestamp(client);
}

static napi_value txn_commit_js(napi_env env, napi_callback_info info)
{
    return without_arguments(env, info, &txn_kind, write_timestamp, commit);
}

static napi_value txn_rollback_js(napi_env env, napi_callback_info info)
{
    return without_arguments(env, info, &txn_kind, write_none, rollback);
}

static napi_value txn_timestamp_js(napi_env env, napi_callback_info info)
{
    return without_arguments(env, info, &txn_kind, write_timestamp, txn_timestamp);
}

static napi_value snapshot_timestamp_js(napi_env env, napi_callback_info info)
{
    return without_arguments(env, info, &snapshot_kind, write_timestamp, snapshot_timestamp);
}

static napi_value client_timestamp_js(napi_env env, napi_callback_info info)
{
    return without_arguments(env, info, &client_kind, write_timestamp, client_timestamp);
}

/* --- housekeeping --- */

/* (id, client, timeout, safe_point) */
static napi_value client_gc_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    uint64_t safe_point;
    struct call *call = begin(&arguments, env, info, &client_kind, write_timestamp);
    if (call == NULL)
        return NULL;
    if (!argument_u64(&arguments, 3, "the safe point", &safe_point))
        return drop(call);
    return submit(call, kvs_txn_gc(call->resource->pointer, safe_point));
}

/* (id, client, timeout, start, end, timestamp) */
static napi_value client_cleanup_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    kvs_slice start, end, *slices[] = {&start, &end};
    uint64_t timestamp;
    struct call *call = begin(&arguments, env, info, &client_kind, write_future_number);
    if (call == NULL)
        return NULL;
    if (!call_take_bytes(call, &arguments, 3, 2, slices) ||
        !argument_u64(&arguments, 5, "the timestamp", &timestamp))
        return drop(call);
    return submit(call, kvs_txn_cleanup_locks(call->resource->pointer, start, end, timestamp));
}

/* (id, client, timeout, start, end) */
static napi_value client_destroy_range_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    kvs_slice start, end, *slices[] = {&start, &end};
    struct call *call = begin(&arguments, env, info, &client_kind, write_none);
    if (call == NULL)
        return NULL;
    if (!call_take_bytes(call, &arguments, 3, 2, slices))
        return drop(call);
    return submit(call, kvs_txn_unsafe_destroy_range(call->resource->pointer, start, end));
}

/* --- open, begin, close --- */

static void write_opened(struct call *call, struct writer *writer)
{
    void *client = NULL;
    kvs_future_get_pointer(call->future, &client);
    write_new_resource(call, writer, &client_kind, client);
}

/* (id, url, options) */
static napi_value client_open_js(napi_env env, napi_callback_info info)
{
    return open_by_url(env, info, kvs_txn_client_open, write_opened);
}

static napi_value client_close_js(napi_env env, napi_callback_info info)
{
    return resource_close_js(env, info, &client_kind);
}

static napi_value txn_close_js(napi_env env, napi_callback_info info)
{
    return resource_close_js(env, info, &txn_kind);
}

/* The handle of what was made at once from a client; NULL: an exception is pending. */
static napi_value handle_of(napi_env env, const struct resource_kind *kind, void *pointer,
                            struct resource *client)
{
    struct resource *resource =
        pointer != NULL ? resource_new(client->addon, kind, pointer, client) : NULL;
    if (resource != NULL)
        return resource_external(env, resource);
    if (pointer != NULL)
        kind->close(pointer);
    napi_throw_error(env, "NO_MEMORY", "out of memory");
    return NULL;
}

static bool take_txn_options(napi_env env, napi_value object, struct kvs_txn_options *options)
{
    uint32_t priority = 0;
    bool ok = take_flag_option(env, object, "pessimistic", &options->pessimistic) &&
              take_flag_option(env, object, "readOnly", &options->read_only) &&
              take_flag_option(env, object, "noAsyncCommit", &options->no_async_commit) &&
              take_flag_option(env, object, "noOnePc", &options->no_one_pc) &&
              take_flag_option(env, object, "causalOnly", &options->causal_only) &&
              take_u32_option(env, object, "priority", &priority) &&
              take_i32_option(env, object, "lockWaitMs", &options->lock_wait_ms) &&
              take_u32_option(env, object, "timeoutMs", &options->timeout_ms) &&
              take_u64_option(env, object, "sizeBytesMax", &options->size_bytes_max) &&
              take_u32_option(env, object, "countMax", &options->count_max);
    options->priority = (uint8_t)priority;
    return ok;
}

/* txnBegin(client, options) */
static napi_value txn_begin_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    struct kvs_txn_options options = {.size = sizeof options};
    struct resource *client;
    if (!arguments_begin(&arguments, env, info) ||
        (client = resource_get(env, arguments.values[0], &client_kind)) == NULL ||
        !take_txn_options(env, arguments.values[1], &options))
        return NULL;
    return handle_of(env, &txn_kind, kvs_txn_begin(client->pointer, &options), client);
}

/* snapshotNew(client, timestamp) */
static napi_value snapshot_new_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    struct resource *client;
    uint64_t timestamp;
    if (!arguments_begin(&arguments, env, info) ||
        (client = resource_get(env, arguments.values[0], &client_kind)) == NULL ||
        !argument_u64(&arguments, 1, "the timestamp", &timestamp))
        return NULL;
    return handle_of(env, &snapshot_kind, kvs_snapshot_new(client->pointer, timestamp), client);
}

bool txn_define(napi_env env, napi_value exports)
{
    static const napi_property_descriptor functions[] = {
        FUNCTION("txnClientOpen", client_open_js),
        FUNCTION("txnClientClose", client_close_js),
        FUNCTION("txnClientTimestamp", client_timestamp_js),
        FUNCTION("txnClientGc", client_gc_js),
        FUNCTION("txnClientCleanupLocks", client_cleanup_js),
        FUNCTION("txnClientUnsafeDestroyRange", client_destroy_range_js),
        FUNCTION("txnBegin", txn_begin_js),
        FUNCTION("txnClose", txn_close_js),
        FUNCTION("txnGet", txn_get_js),
        FUNCTION("txnExists", txn_exists_js),
        FUNCTION("txnBatchGet", txn_batch_get_js),
        FUNCTION("txnScan", txn_scan_js),
        FUNCTION("txnGetForUpdate", txn_get_for_update_js),
        FUNCTION("txnBatchGetForUpdate", txn_batch_get_for_update_js),
        FUNCTION("txnPut", txn_put_js),
        FUNCTION("txnInsert", txn_insert_js),
        FUNCTION("txnDelete", txn_delete_js),
        FUNCTION("txnMutate", txn_mutate_js),
        FUNCTION("txnLock", txn_lock_js),
        FUNCTION("txnCommit", txn_commit_js),
        FUNCTION("txnRollback", txn_rollback_js),
        FUNCTION("txnTimestamp", txn_timestamp_js),
        FUNCTION("snapshotNew", snapshot_new_js),
        FUNCTION("snapshotGet", snapshot_get_js),
        FUNCTION("snapshotExists", snapshot_exists_js),
        FUNCTION("snapshotBatchGet", snapshot_batch_get_js),
        FUNCTION("snapshotScan", snapshot_scan_js),
        FUNCTION("snapshotTimestamp", snapshot_timestamp_js),
    };
    return define_functions(env, exports, functions, sizeof functions / sizeof functions[0]);
}

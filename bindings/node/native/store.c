/*
 * native/store.c: kvs_store for JavaScript: every function begins with (id, store, ...), and the
 * result arrives under the id; see addon.h. src/native.ts has their signatures.
 */
#include "addon.h"

#include <stdlib.h>
#include <string.h>

static kvs_future *close_store(void *pointer)
{
    return kvs_store_close(pointer);
}

static const struct resource_kind store_kind = {.closed = "the client is closed",
                                                .close = close_store};

/* --- results --- */

static void write_none(struct call *call, struct writer *writer)
{
    (void)call;
    write_nothing(writer);
}

/* Of one key: nothing when it is not there. */
static void write_value(struct call *call, struct writer *writer)
{
    if (call->op.error == 0)
        write_bytes(writer, call->op.result);
    else
        write_nothing(writer);
}

static void write_was_there(struct call *call, struct writer *writer)
{
    write_boolean(writer, call->op.error == 0);
}

static void write_op_json(struct call *call, struct writer *writer)
{
    write_json(writer, call->op.result);
}

static void write_op_boolean(struct call *call, struct writer *writer)
{
    write_boolean(writer, call->op.number != 0);
}

static void write_op_number(struct call *call, struct writer *writer)
{
    write_number(writer, call->op.number);
}

static void write_op_pairs(struct call *call, struct writer *writer)
{
    if ((call->op.flags & KVS_OP_FLAG_KEYS_ONLY) != 0)
        write_keys(writer, call->op.pairs, call->op.pairs_count);
    else
        write_pairs(writer, call->op.pairs, call->op.pairs_count);
    if (call->op.pairs_count > 0) /* where to go on, also when keys are given as text */
        write_bytes(writer, call->op.pairs[call->op.pairs_count - 1].key);
    else
        write_nothing(writer);
    write_boolean(writer, call->op.more);
}

static void write_op_values(struct call *call, struct writer *writer)
{
    write_values(writer, call->op.pairs, call->op.pairs_count);
}

/* --- arguments --- */

/* (id, store, ...): the call, its arguments to be filled; NULL: an exception is pending. */
static struct call *begin(struct arguments *arguments, napi_env env, napi_callback_info info,
                          call_write_fn *write)
{
    uint32_t id;
    struct resource *store;
    if (!arguments_begin(arguments, env, info) || !argument_u32(arguments, 0, "the id", &id) ||
        (store = resource_get(env, arguments->values[1], &store_kind)) == NULL)
        return NULL;
    return call_new(arguments->addon, id, store, write);
}

/* ..., family, timeout_ms */
static bool take_routing(struct call *call, struct arguments *arguments, unsigned first)
{
    uint32_t family;
    if (!argument_u32(arguments, first, "the family", &family) ||
        !argument_u32(arguments, first + 1, "timeoutMs", &call->op.timeout_ms))
        return false;
    call->op.family = (uint8_t)family;
    return true;
}

static napi_value finish(struct call *call, bool ok, enum kvs_op_kind kind)
{
    if (ok)
        call_submit_op(call, kind);
    else
        call_drop(call);
    return NULL;
}

/* (id, store, key, family, timeout) */
static napi_value one_key(napi_env env, napi_callback_info info, enum kvs_op_kind kind,
                          call_write_fn *write)
{
    struct arguments arguments;
    struct call *call = begin(&arguments, env, info, write);
    if (call == NULL)
        return NULL;
    kvs_slice *slices[] = {&call->op.key};
    call->accepted_error = KVS_ERR_NOT_FOUND;
    return finish(
        call, call_take_bytes(call, &arguments, 2, 1, slices) && take_routing(call, &arguments, 3),
        kind);
}

static napi_value store_get_js(napi_env env, napi_callback_info info)
{
    return one_key(env, info, KVS_OP_GET, write_value);
}

static napi_value store_exists_js(napi_env env, napi_callback_info info)
{
    return one_key(env, info, KVS_OP_EXISTS, write_op_boolean);
}

static napi_value store_remove_js(napi_env env, napi_callback_info info)
{
    return one_key(env, info, KVS_OP_REMOVE, write_was_there);
}

/* (id, store, key, value, family, timeout, ttl_ms) */
static napi_value store_set_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    struct call *call = begin(&arguments, env, info, write_none);
    if (call == NULL)
        return NULL;
    kvs_slice *slices[] = {&call->op.key, &call->op.value};
    return finish(call,
                  call_take_bytes(call, &arguments, 2, 2, slices) &&
                      take_routing(call, &arguments, 4) &&
                      argument_u64(&arguments, 6, "ttlMs", &call->op.ttl_ms),
                  KVS_OP_SET);
}

/* (id, store, key, expected or null, value, family, timeout, ttl_ms): true when it was written,
 * and what was there. */
static void write_cas(struct call *call, struct writer *writer)
{
    bool swapped = call->op.error == 0;
    write_boolean(writer, swapped);
    if (!swapped && call->op.number != 0)
        write_bytes(writer, call->op.result);
    else
        write_nothing(writer);
}

static napi_value store_cas_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    struct call *call = begin(&arguments, env, info, write_cas);
    if (call == NULL)
        return NULL;
    kvs_slice *slices[] = {&call->op.key, &call->op.expected, &call->op.value};
    if (argument_is_nullish(&arguments, 3))
        call->op.flags = KVS_OP_FLAG_EXPECT_ABSENT;
    call->accepted_error = KVS_ERR_CONDITION_FAILED;
    return finish(call,
                  call_take_bytes(call, &arguments, 2, 3, slices) &&
                      take_routing(call, &arguments, 5) &&
                      argument_u64(&arguments, 7, "ttlMs", &call->op.ttl_ms),
                  KVS_OP_CAS);
}

/* (id, store, start, end, limit, flags, family, timeout): pairs or keys, the last key, and whether
 * there are more */
static napi_value store_scan_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    uint32_t flags = 0;
    struct call *call = begin(&arguments, env, info, write_op_pairs);
    if (call == NULL)
        return NULL;
    kvs_slice *slices[] = {&call->op.key, &call->op.end_key};
    bool ok = call_take_bytes(call, &arguments, 2, 2, slices) &&
              argument_u32(&arguments, 4, "limit or pageSize", &call->op.limit) &&
              argument_u32(&arguments, 5, "the flags", &flags) && take_routing(call, &arguments, 6);
    call->op.flags = (uint16_t)flags;
    return finish(call, ok, KVS_OP_SCAN);
}

/* (id, store, start, end, family, timeout) */
static napi_value one_range(napi_env env, napi_callback_info info, enum kvs_op_kind kind,
                            call_write_fn *write)
{
    struct arguments arguments;
    struct call *call = begin(&arguments, env, info, write);
    if (call == NULL)
        return NULL;
    kvs_slice *slices[] = {&call->op.key, &call->op.end_key};
    return finish(
        call, call_take_bytes(call, &arguments, 2, 2, slices) && take_routing(call, &arguments, 4),
        kind);
}

static napi_value store_count_js(napi_env env, napi_callback_info info)
{
    return one_range(env, info, KVS_OP_COUNT, write_op_number);
}

static napi_value store_remove_range_js(napi_env env, napi_callback_info info)
{
    return one_range(env, info, KVS_OP_REMOVE_RANGE, write_op_number);
}

/* (id, store, timeout) */
static napi_value without_key(napi_env env, napi_callback_info info, enum kvs_op_kind kind,
                              call_write_fn *write)
{
    struct arguments arguments;
    struct call *call = begin(&arguments, env, info, write);
    if (call == NULL)
        return NULL;
    return finish(call, argument_u32(&arguments, 2, "timeoutMs", &call->op.timeout_ms), kind);
}

static napi_value store_ping_js(napi_env env, napi_callback_info info)
{
    return without_key(env, info, KVS_OP_PING, write_none);
}

static napi_value store_stats_js(napi_env env, napi_callback_info info)
{
    return without_key(env, info, KVS_OP_STATS, write_op_json);
}

static napi_value store_sync_js(napi_env env, napi_callback_info info)
{
    return without_key(env, info, KVS_OP_SYNC, write_none);
}

static napi_value store_compact_js(napi_env env, napi_callback_info info)
{
    return without_key(env, info, KVS_OP_COMPACT, write_none);
}

/* Milliseconds left, 0: it does not end; nothing when there is no such key. */
static void write_ttl(struct call *call, struct writer *writer)
{
    if (call->op.error == 0)
        write_number(writer, call->op.number);
    else
        write_number(writer, -1);
}

static napi_value store_ttl_js(napi_env env, napi_callback_info info)
{
    return one_key(env, info, KVS_OP_TTL, write_ttl);
}

/* CRC, keys and bytes, as kvs_checksum_read reads them. */
static void write_checksum(struct call *call, struct writer *writer)
{
    struct kvs_checksum checksum = {0};
    kvs_checksum_read(call->op.result, &checksum);
    write_u64(writer, checksum.crc64_xor);
    write_number(writer, (int64_t)checksum.keys);
    write_number(writer, (int64_t)checksum.bytes);
}

static napi_value store_checksum_js(napi_env env, napi_callback_info info)
{
    return one_range(env, info, KVS_OP_CHECKSUM, write_checksum);
}

/* (id, store, directory, family, timeout) */
static napi_value store_checkpoint_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    struct call *call = begin(&arguments, env, info, write_none);
    if (call == NULL)
        return NULL;
    kvs_slice *slices[] = {&call->op.key};
    return finish(
        call, call_take_bytes(call, &arguments, 2, 1, slices) && take_routing(call, &arguments, 3),
        KVS_OP_CHECKPOINT);
}

/* --- batches --- */

/* (id, store, bytes, sizes, count, family, timeout) */
static napi_value store_batch_get_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    struct call *call = begin(&arguments, env, info, write_op_values);
    if (call == NULL)
        return NULL;
    call->op.keys = call_take_keys(call, &arguments, 2, &call->op.count);
    return finish(call, call->op.keys != NULL && take_routing(call, &arguments, 5),
                  KVS_OP_BATCH_GET);
}

/* Times to live: one number for all, or a Float64Array with one for each. */
static bool take_ttls(struct arguments *arguments, unsigned i, uint32_t length,
                      kvs_mutation *mutations)
{
    napi_typedarray_type type;
    size_t count;
    void *data;
    uint64_t ttl_ms;
    if (napi_get_typedarray_info(arguments->env, arguments->values[i], &type, &count, &data, NULL,
                                 NULL) != napi_ok) {
        if (!argument_u64(arguments, i, "ttlMs", &ttl_ms))
            return false;
        for (uint32_t index = 0; index < length; index++)
            mutations[index].ttl_ms = ttl_ms;
        return true;
    }
    if (type != napi_float64_array || count != length) {
        napi_throw_type_error(arguments->env, "ERR_INVALID_ARG_TYPE",
                              "there must be one time to live for each key");
        return false;
    }
    for (uint32_t index = 0; index < length; index++) {
        double ttl = ((const double *)data)[index];
        mutations[index].ttl_ms =
            ttl >= 0 && ttl <= (double)KVS_TTL_MS_MAX ? (uint64_t)ttl : KVS_TTL_MS_MAX + 1;
    }
    return true;
}

/* (id, store, kinds, bytes, sizes, count, ttls, family, timeout) */
static napi_value store_batch_write_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    struct call *call = begin(&arguments, env, info, write_none);
    if (call == NULL)
        return NULL;
    kvs_mutation *mutations = call_take_mutations(call, &arguments, 2, &call->op.count);
    bool ok = mutations != NULL && take_ttls(&arguments, 6, call->op.count, mutations) &&
              take_routing(call, &arguments, 7);
    for (uint32_t i = 0; ok && i < call->op.count; i++)
        mutations[i].family = call->op.family;
    call->op.family = 0;
    call->op.mutations = mutations;
    return finish(call, ok, KVS_OP_BATCH_WRITE);
}

/* --- open, close --- */

static void write_opened(struct call *call, struct writer *writer)
{
    void *store = NULL;
    kvs_future_get_pointer(call->future, &store);
    write_new_resource(call, writer, &store_kind, store);
}

/* Strings are freed after the open, which copies them. */
static bool store_options_take(napi_env env, napi_value object, struct kvs_store_options *options)
{
    uint32_t sync = 0;
    bool ok = take_u32_option(env, object, "sync", &sync) &&
              take_u32_option(env, object, "syncIntervalMs", &options->sync_interval_ms) &&
              take_u32_option(env, object, "valueSizeMax", &options->value_size_max) &&
              take_u64_option(env, object, "segmentSizeBytes", &options->segment_size_bytes) &&
              take_u64_option(env, object, "cacheSizeBytes", &options->cache_size_bytes) &&
              take_flag_option(env, object, "cachePrefault", &options->cache_prefault) &&
              take_flag_option(env, object, "mustExist", &options->must_exist) &&
              take_u32_option(env, object, "connections", &options->connections) &&
              take_u32_option(env, object, "connectTimeoutMs", &options->connect_timeout_ms) &&
              take_u32_option(env, object, "timeoutMs", &options->timeout_ms) &&
              take_flag_option(env, object, "plainWrites", &options->plain_writes) &&
              take_text_option(env, object, "keyspace", (char **)&options->keyspace) &&
              take_text_option(env, object, "tlsCa", (char **)&options->tls_ca) &&
              take_text_option(env, object, "tlsCertificate", (char **)&options->tls_certificate) &&
              take_text_option(env, object, "tlsKey", (char **)&options->tls_key);
    options->sync = (enum kvs_sync)sync;
    return ok;
}

static void store_options_free(struct kvs_store_options *options)
{
    free((void *)options->keyspace);
    free((void *)options->tls_ca);
    free((void *)options->tls_certificate);
    free((void *)options->tls_key);
}

napi_value open_by_url(napi_env env, napi_callback_info info, open_fn *open, call_write_fn *write)
{
    struct arguments arguments;
    struct kvs_store_options options = {.size = sizeof options};
    uint32_t id;
    char *url = NULL;
    struct call *call = NULL;
    if (arguments_begin(&arguments, env, info) && argument_u32(&arguments, 0, "the id", &id) &&
        argument_string(&arguments, 1, "the URL", &url) &&
        store_options_take(env, arguments.values[2], &options) &&
        addon_runtime(arguments.addon) != NULL)
        call = call_new(arguments.addon, id, NULL, write);
    if (call != NULL)
        call_submit_open(call, open(arguments.addon->runtime, url, &options));
    store_options_free(&options);
    free(url);
    return NULL;
}

/* (id, url, options) */
static napi_value store_open_js(napi_env env, napi_callback_info info)
{
    return open_by_url(env, info, kvs_store_open, write_opened);
}

/* (id, store): closes once; a second time is done at once. */
static napi_value store_close_js(napi_env env, napi_callback_info info)
{
    return resource_close_js(env, info, &store_kind);
}

bool store_define(napi_env env, napi_value exports)
{
    static const napi_property_descriptor functions[] = {
        FUNCTION("storeOpen", store_open_js),
        FUNCTION("storeClose", store_close_js),
        FUNCTION("storeGet", store_get_js),
        FUNCTION("storeExists", store_exists_js),
        FUNCTION("storeSet", store_set_js),
        FUNCTION("storeRemove", store_remove_js),
        FUNCTION("storeCompareAndSet", store_cas_js),
        FUNCTION("storeBatchGet", store_batch_get_js),
        FUNCTION("storeBatchWrite", store_batch_write_js),
        FUNCTION("storeScan", store_scan_js),
        FUNCTION("storeCount", store_count_js),
        FUNCTION("storeRemoveRange", store_remove_range_js),
        FUNCTION("storeTtl", store_ttl_js),
        FUNCTION("storeChecksum", store_checksum_js),
        FUNCTION("storeCheckpoint", store_checkpoint_js),
        FUNCTION("storePing", store_ping_js),
        FUNCTION("storeStats", store_stats_js),
        FUNCTION("storeSync", store_sync_js),
        FUNCTION("storeCompact", store_compact_js),
    };
    return define_functions(env, exports, functions, sizeof functions / sizeof functions[0]);
}

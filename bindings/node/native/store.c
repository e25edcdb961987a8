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

static const struct resource_kind store_kind = {.name = "store", .close = close_store};

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
    if (!arguments_begin(arguments, env, info) || !argument_u32(arguments, 0, &id) ||
        (store = resource_get(env, arguments->values[1], &store_kind)) == NULL)
        return NULL;
    return call_new(arguments->addon, id, store, write);
}

/* Copies the arguments first, first + 1, ... into the call's memory. */
static bool take_bytes(struct call *call, struct arguments *arguments, unsigned first,
                       unsigned count, kvs_slice *slices[])
{
    size_t sizes[4];
    size_t total = 0;
    for (unsigned i = 0; i < count; i++) {
        sizes[i] = 0;
        if (!argument_is_nullish(arguments, first + i) &&
            !bytes_size(arguments->env, arguments->values[first + i], "a key or value", &sizes[i]))
            return false;
        total += sizes[i] + 1; /* a copied string ends with a NUL */
    }
    if (!call_reserve(call, total))
        return false;
    uint8_t *to = call->memory;
    for (unsigned i = 0; i < count; i++) {
        *slices[i] = (kvs_slice){to, sizes[i]};
        if (!argument_is_nullish(arguments, first + i))
            bytes_copy(arguments->env, arguments->values[first + i], to, sizes[i]);
        to += sizes[i] + 1;
    }
    return true;
}

/* ..., family, timeout_ms */
static bool take_routing(struct call *call, struct arguments *arguments, unsigned first)
{
    uint32_t family;
    if (!argument_u32(arguments, first, &family) ||
        !argument_u32(arguments, first + 1, &call->op.timeout_ms))
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
    return finish(call,
                  take_bytes(call, &arguments, 2, 1, slices) && take_routing(call, &arguments, 3),
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
                  take_bytes(call, &arguments, 2, 2, slices) && take_routing(call, &arguments, 4) &&
                      argument_u64(&arguments, 6, &call->op.ttl_ms),
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
                  take_bytes(call, &arguments, 2, 3, slices) && take_routing(call, &arguments, 5) &&
                      argument_u64(&arguments, 7, &call->op.ttl_ms),
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
    bool ok = take_bytes(call, &arguments, 2, 2, slices) &&
              argument_u32(&arguments, 4, &call->op.limit) && argument_u32(&arguments, 5, &flags) &&
              take_routing(call, &arguments, 6);
    call->op.flags = (uint16_t)flags;
    return finish(call, ok, KVS_OP_SCAN);
}

/* (id, store, start, end, family, timeout) */
static napi_value one_range(napi_env env, napi_callback_info info, enum kvs_op_kind kind)
{
    struct arguments arguments;
    struct call *call = begin(&arguments, env, info, write_op_number);
    if (call == NULL)
        return NULL;
    kvs_slice *slices[] = {&call->op.key, &call->op.end_key};
    return finish(call,
                  take_bytes(call, &arguments, 2, 2, slices) && take_routing(call, &arguments, 4),
                  kind);
}

static napi_value store_count_js(napi_env env, napi_callback_info info)
{
    return one_range(env, info, KVS_OP_COUNT);
}

static napi_value store_remove_range_js(napi_env env, napi_callback_info info)
{
    return one_range(env, info, KVS_OP_REMOVE_RANGE);
}

/* (id, store, timeout) */
static napi_value without_key(napi_env env, napi_callback_info info, enum kvs_op_kind kind,
                              call_write_fn *write)
{
    struct arguments arguments;
    struct call *call = begin(&arguments, env, info, write);
    if (call == NULL)
        return NULL;
    return finish(call, argument_u32(&arguments, 2, &call->op.timeout_ms), kind);
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

/* --- batches --- */

static bool array_length(struct arguments *arguments, unsigned i, uint32_t *ret_length)
{
    if (napi_get_array_length(arguments->env, arguments->values[i], ret_length) != napi_ok) {
        napi_throw_type_error(arguments->env, "ERR_INVALID_ARG_TYPE",
                              "the argument must be an array");
        return false;
    }
    if (*ret_length <= KVS_BATCH_COUNT_MAX)
        return true;
    napi_throw_range_error(arguments->env, "TOO_LARGE", "a batch has at most 65536 keys");
    return false;
}

/* The bytes of each element of an array, behind each other in the call's memory; null is empty. The
 * slices are offsets until place_slices: the memory may move while it grows. */
static bool gather(struct call *call, struct arguments *arguments, unsigned i, uint32_t length,
                   size_t *used, kvs_slice *slices)
{
    for (uint32_t index = 0; index < length; index++) {
        napi_value value;
        if (napi_get_element(arguments->env, arguments->values[i], index, &value) != napi_ok ||
            !call_append(call, value, used, &slices[index]))
            return false;
    }
    return true;
}

static void place_slices(struct call *call, uint32_t length, kvs_slice *slices)
{
    for (uint32_t index = 0; index < length; index++)
        slices[index].data = call->memory + (size_t)slices[index].data;
}

/* (id, store, keys, family, timeout) */
static napi_value store_batch_get_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    uint32_t length;
    size_t used = 0;
    struct call *call = begin(&arguments, env, info, write_op_values);
    if (call == NULL)
        return NULL;
    kvs_slice *keys = NULL;
    bool ok = array_length(&arguments, 2, &length) &&
              (keys = call_table(call, length * sizeof *keys)) != NULL &&
              gather(call, &arguments, 2, length, &used, keys) && take_routing(call, &arguments, 3);
    if (ok)
        place_slices(call, length, keys);
    call->op.keys = keys;
    call->op.count = length;
    return finish(call, ok, KVS_OP_BATCH_GET);
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
        if (!argument_u64(arguments, i, &ttl_ms))
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

/* Kinds of mutations: a Uint8Array of enum kvs_mutation_kind, or a number for all. */
static bool take_kinds(struct arguments *arguments, unsigned i, uint32_t length,
                       kvs_mutation *mutations)
{
    napi_typedarray_type type;
    size_t count;
    void *data;
    uint32_t kind = 0;
    bool is_array = napi_get_typedarray_info(arguments->env, arguments->values[i], &type, &count,
                                             &data, NULL, NULL) == napi_ok;
    if (is_array ? type != napi_uint8_array || count != length
                 : !argument_u32(arguments, i, &kind)) {
        napi_throw_type_error(arguments->env, "ERR_INVALID_ARG_TYPE",
                              "there must be one kind for each key");
        return false;
    }
    for (uint32_t index = 0; index < length; index++)
        mutations[index].kind = is_array ? ((const uint8_t *)data)[index] : (uint8_t)kind;
    return true;
}

/* (id, store, kinds, keys, values, ttls, family, timeout) */
static napi_value store_batch_write_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    uint32_t length, values_length = 0;
    size_t used = 0;
    struct call *call = begin(&arguments, env, info, write_none);
    if (call == NULL)
        return NULL;
    kvs_mutation *mutations = NULL;
    kvs_slice *slices = NULL;
    bool ok =
        array_length(&arguments, 3, &length) && array_length(&arguments, 4, &values_length) &&
        (mutations = call_table(call, length * (sizeof *mutations + 2 * sizeof *slices))) != NULL;
    if (ok && values_length < length)
        length = values_length;
    slices = (kvs_slice *)(mutations + length);
    ok = ok && gather(call, &arguments, 3, length, &used, slices) &&
         gather(call, &arguments, 4, length, &used, slices + length) &&
         take_routing(call, &arguments, 6) && take_kinds(&arguments, 2, length, mutations) &&
         take_ttls(&arguments, 5, length, mutations);
    for (uint32_t i = 0; ok && i < length; i++) {
        mutations[i].family = call->op.family;
        mutations[i].key = slices[i];
        mutations[i].value = slices[length + i];
        place_slices(call, 1, &mutations[i].key);
        place_slices(call, 1, &mutations[i].value);
    }
    call->op.family = 0;
    call->op.mutations = mutations;
    call->op.count = length;
    return finish(call, ok, KVS_OP_BATCH_WRITE);
}

/* --- open, close --- */

static void write_opened(struct call *call, struct writer *writer)
{
    void *store = NULL;
    kvs_future_get_pointer(call->future, &store);
    struct resource *resource = resource_new(call->addon, &store_kind, store, NULL);
    if (resource != NULL) {
        write_resource(writer, resource);
        return;
    }
    kvs_future *closed = kvs_store_close(store);
    kvs_future_wait(closed, -1);
    kvs_future_free(closed);
    write_nothing(writer);
}

/* Text options of struct kvs_store_options; freed after the open, which copies them. */
static bool take_text_option(napi_env env, napi_value object, const char *name, char **ret_text)
{
    struct arguments one = {.env = env};
    return !option_get(env, object, name, &one.values[0]) ||
           argument_string(&one, 0, name, ret_text);
}

static bool take_u64_option(napi_env env, napi_value object, const char *name, uint64_t *ret_value)
{
    struct arguments one = {.env = env};
    return !option_get(env, object, name, &one.values[0]) || argument_u64(&one, 0, ret_value);
}

static bool take_u32_option(napi_env env, napi_value object, const char *name, uint32_t *ret_value)
{
    struct arguments one = {.env = env};
    return !option_get(env, object, name, &one.values[0]) || argument_u32(&one, 0, ret_value);
}

static bool take_flag_option(napi_env env, napi_value object, const char *name, bool *ret_value)
{
    napi_value value;
    return !option_get(env, object, name, &value) ||
           napi_get_value_bool(env, value, ret_value) == napi_ok;
}

bool store_options_take(napi_env env, napi_value object, struct kvs_store_options *options)
{
    uint32_t sync = 0;
    bool ok = take_u32_option(env, object, "sync", &sync) &&
              take_u32_option(env, object, "syncIntervalMs", &options->sync_interval_ms) &&
              take_u32_option(env, object, "valueSizeMax", &options->value_size_max) &&
              take_u64_option(env, object, "segmentSizeBytes", &options->segment_size_bytes) &&
              take_u64_option(env, object, "cacheSizeBytes", &options->cache_size_bytes) &&
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

void store_options_free(struct kvs_store_options *options)
{
    free((void *)options->keyspace);
    free((void *)options->tls_ca);
    free((void *)options->tls_certificate);
    free((void *)options->tls_key);
}

/* (id, url, options) */
static napi_value store_open_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    struct kvs_store_options options = {.size = sizeof options};
    uint32_t id;
    char *url = NULL;
    struct call *call = NULL;
    if (arguments_begin(&arguments, env, info) && argument_u32(&arguments, 0, &id) &&
        argument_string(&arguments, 1, "the URL", &url) &&
        store_options_take(env, arguments.values[2], &options) &&
        addon_runtime(arguments.addon) != NULL)
        call = call_new(arguments.addon, id, NULL, write_opened);
    if (call != NULL)
        call_submit_future(call, kvs_store_open(arguments.addon->runtime, url, &options));
    store_options_free(&options);
    free(url);
    return NULL;
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
        FUNCTION("storePing", store_ping_js),
        FUNCTION("storeStats", store_stats_js),
        FUNCTION("storeSync", store_sync_js),
        FUNCTION("storeCompact", store_compact_js),
    };
    return define_functions(env, exports, functions, sizeof functions / sizeof functions[0]);
}

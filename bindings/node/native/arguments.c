/* native/arguments.c: from JavaScript's values to C's, with clear TypeErrors; see addon.h. */
#include "addon.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAFE_INTEGER_MAX 9007199254740991.0
#define TABLE_ALIGNMENT _Alignof(max_align_t)

static bool type_error(napi_env env, const char *what, const char *wanted)
{
    char text[160];
    bool pending = false;
    snprintf(text, sizeof text, "%s must be %s", what, wanted);
    napi_is_exception_pending(env, &pending);
    if (!pending)
        napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", text);
    return false;
}

bool arguments_begin(struct arguments *arguments, napi_env env, napi_callback_info info)
{
    arguments->env = env;
    arguments->count = ARGUMENTS_MAX;
    void *addon = NULL;
    if (napi_get_cb_info(env, info, &arguments->count, arguments->values, NULL, NULL) != napi_ok ||
        napi_get_instance_data(env, &addon) != napi_ok)
        return false;
    arguments->addon = addon;
    return true;
}

bool argument_u32(struct arguments *arguments, unsigned i, const char *what, uint32_t *ret_value)
{
    double number;
    if (!argument_double(arguments, i, what, &number))
        return false;
    if (!(number >= 0 && number <= UINT32_MAX))
        return type_error(arguments->env, what, "a whole number below 2^32");
    *ret_value = (uint32_t)number;
    if (*ret_value < number) /* a time of less than a millisecond is not none */
        ++*ret_value;
    return true;
}

bool argument_double(struct arguments *arguments, unsigned i, const char *what, double *ret_value)
{
    return napi_get_value_double(arguments->env, arguments->values[i], ret_value) == napi_ok ||
           type_error(arguments->env, what, "a number");
}

bool argument_u64(struct arguments *arguments, unsigned i, const char *what, uint64_t *ret_value)
{
    static const char wanted[] = "a BigInt of 64 bits or a safe integer, and not negative";
    double number;
    bool lossless = false;
    if (napi_get_value_double(arguments->env, arguments->values[i], &number) == napi_ok) {
        if (!(number >= 0 && number <= SAFE_INTEGER_MAX) || number != (double)(uint64_t)number)
            return type_error(arguments->env, what, wanted);
        *ret_value = (uint64_t)number;
        return true;
    }
    return (napi_get_value_bigint_uint64(arguments->env, arguments->values[i], ret_value,
                                         &lossless) == napi_ok &&
            lossless) ||
           type_error(arguments->env, what, wanted);
}

bool argument_i64(struct arguments *arguments, unsigned i, const char *what, int64_t *ret_value)
{
    static const char wanted[] = "a BigInt of 64 bits or a safe integer";
    double number;
    bool lossless = false;
    if (napi_get_value_double(arguments->env, arguments->values[i], &number) == napi_ok) {
        if (!(number >= -SAFE_INTEGER_MAX && number <= SAFE_INTEGER_MAX) ||
            number != (double)(int64_t)number)
            return type_error(arguments->env, what, wanted);
        *ret_value = (int64_t)number;
        return true;
    }
    return (napi_get_value_bigint_int64(arguments->env, arguments->values[i], ret_value,
                                        &lossless) == napi_ok &&
            lossless) ||
           type_error(arguments->env, what, wanted);
}

bool argument_boolean(struct arguments *arguments, unsigned i)
{
    bool value = false;
    return napi_get_value_bool(arguments->env, arguments->values[i], &value) == napi_ok && value;
}

bool argument_is_nullish(struct arguments *arguments, unsigned i)
{
    napi_valuetype type;
    return napi_typeof(arguments->env, arguments->values[i], &type) != napi_ok ||
           type == napi_undefined || type == napi_null;
}

bool bytes_size(napi_env env, napi_value value, const char *what, size_t *ret_size)
{
    napi_typedarray_type type;
    if (napi_get_typedarray_info(env, value, &type, ret_size, NULL, NULL, NULL) == napi_ok &&
        type == napi_uint8_array)
        return true;
    return napi_get_value_string_utf8(env, value, NULL, 0, ret_size) == napi_ok ||
           type_error(env, what, "a Buffer, a Uint8Array or a string");
}

void bytes_copy(napi_env env, napi_value value, uint8_t *to, size_t size)
{
    void *data = NULL;
    size_t length = 0;
    if (napi_get_typedarray_info(env, value, NULL, &length, &data, NULL, NULL) == napi_ok) {
        if (size > 0)
            memcpy(to, data, size);
        return;
    }
    napi_get_value_string_utf8(env, value, (char *)to, size + 1, &length);
}

bool argument_string(struct arguments *arguments, unsigned i, const char *what, char **ret_text)
{
    size_t size;
    if (napi_get_value_string_utf8(arguments->env, arguments->values[i], NULL, 0, &size) != napi_ok)
        return type_error(arguments->env, what, "a string");
    char *text = malloc(size + 1);
    if (text == NULL) {
        napi_throw_error(arguments->env, "NO_MEMORY", "out of memory");
        return false;
    }
    napi_get_value_string_utf8(arguments->env, arguments->values[i], text, size + 1, &size);
    if (strlen(text) != size) { /* C would end there: at another directory, say */
        free(text);
        return type_error(arguments->env, what, "a string without the character U+0000");
    }
    *ret_text = text;
    return true;
}

bool option_get(napi_env env, napi_value object, const char *name, napi_value *ret_value)
{
    napi_valuetype type;
    *ret_value = NULL;
    napi_value value;
    if (napi_get_named_property(env, object, name, &value) != napi_ok ||
        napi_typeof(env, value, &type) != napi_ok)
        return type_error(env, "what has the options", "an object"); /* or a getter has thrown */
    if (type != napi_undefined && type != napi_null)
        *ret_value = value;
    return true;
}

/* --- options: false with an exception pending when one is of another type --- */

/* As if it were the only argument. */
static bool option_begin(struct arguments *one, napi_env env, napi_value object, const char *name)
{
    one->env = env;
    return option_get(env, object, name, &one->values[0]);
}

bool take_text_option(napi_env env, napi_value object, const char *name, char **ret_text)
{
    struct arguments one;
    return option_begin(&one, env, object, name) &&
           (one.values[0] == NULL || argument_string(&one, 0, name, ret_text));
}

bool take_u64_option(napi_env env, napi_value object, const char *name, uint64_t *ret_value)
{
    struct arguments one;
    return option_begin(&one, env, object, name) &&
           (one.values[0] == NULL || argument_u64(&one, 0, name, ret_value));
}

bool take_i64_option(napi_env env, napi_value object, const char *name, int64_t *ret_value)
{
    struct arguments one;
    return option_begin(&one, env, object, name) &&
           (one.values[0] == NULL || argument_i64(&one, 0, name, ret_value));
}

bool take_u32_option(napi_env env, napi_value object, const char *name, uint32_t *ret_value)
{
    struct arguments one;
    return option_begin(&one, env, object, name) &&
           (one.values[0] == NULL || argument_u32(&one, 0, name, ret_value));
}

bool take_flag_option(napi_env env, napi_value object, const char *name, bool *ret_value)
{
    napi_value value;
    return option_get(env, object, name, &value) &&
           (value == NULL || napi_get_value_bool(env, value, ret_value) == napi_ok ||
            type_error(env, name, "true or false"));
}

bool take_i32_option(napi_env env, napi_value object, const char *name, int32_t *ret_value)
{
    struct arguments one;
    double number;
    if (!option_begin(&one, env, object, name))
        return false;
    if (one.values[0] == NULL)
        return true;
    if (!argument_double(&one, 0, name, &number))
        return false;
    if (!(number >= INT32_MIN) || !(number <= INT32_MAX))
        return type_error(env, name, "a whole number of 32 bits");
    *ret_value = (int32_t)number;
    return true;
}

/* --- arguments into a call's memory --- */

bool call_take_bytes(struct call *call, struct arguments *arguments, unsigned first, unsigned count,
                     kvs_slice *slices[])
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

/* Of a typed array of the type; false: an exception is pending. */
static bool typed_array(struct arguments *arguments, unsigned i, napi_typedarray_type wanted,
                        const void **ret_data, size_t *ret_count)
{
    napi_typedarray_type type;
    void *data = NULL;
    if (napi_get_typedarray_info(arguments->env, arguments->values[i], &type, ret_count, &data,
                                 NULL, NULL) != napi_ok ||
        type != wanted)
        return type_error(arguments->env, "the argument", "a typed array of another type");
    *ret_data = data;
    return true;
}

bool call_take_packed(struct call *call, struct arguments *arguments, unsigned i, uint32_t max,
                      struct packed *ret_packed)
{
    const void *bytes, *sizes;
    size_t bytes_count, sizes_count;
    uint64_t total = 0;
    uint32_t count;
    if (!typed_array(arguments, i, napi_uint8_array, &bytes, &bytes_count) ||
        !typed_array(arguments, i + 1, napi_uint32_array, &sizes, &sizes_count) ||
        !argument_u32(arguments, i + 2, "the count", &count))
        return false;
    if (count > max) {
        napi_throw_range_error(arguments->env, "TOO_LARGE",
                               "a batch has at most 65536 keys or events");
        return false;
    }
    for (uint32_t k = 0; k < count && k < sizes_count; k++)
        total += ((const uint32_t *)sizes)[k];
    if (count > sizes_count || total > bytes_count)
        return type_error(arguments->env, "the sizes", "those of the bytes");
    if (!call_reserve(call, (size_t)total))
        return false;
    if (total > 0)
        memcpy(call->memory, bytes, (size_t)total);
    *ret_packed = (struct packed){call->memory, sizes, count, (size_t)total};
    return true;
}

/* Behind the bytes. */
void *packed_table(struct call *call, struct packed *packed, size_t size)
{
    size_t begin = (packed->bytes + TABLE_ALIGNMENT - 1) / TABLE_ALIGNMENT * TABLE_ALIGNMENT;
    if (!call_reserve(call, begin + (size > 0 ? size : 1)))
        return NULL;
    packed->at = call->memory;
    return memset(call->memory + begin, 0, size);
}

kvs_slice packed_next(struct packed *packed)
{
    kvs_slice slice = {packed->at, *packed->sizes++};
    packed->at += slice.size;
    return slice;
}

kvs_slice *call_take_keys(struct call *call, struct arguments *arguments, unsigned i,
                          uint32_t *ret_count)
{
    struct packed packed;
    kvs_slice *keys;
    if (!call_take_packed(call, arguments, i, KVS_BATCH_COUNT_MAX, &packed) ||
        (keys = packed_table(call, &packed, packed.count * sizeof *keys)) == NULL)
        return NULL;
    for (uint32_t k = 0; k < packed.count; k++)
        keys[k] = packed_next(&packed);
    *ret_count = packed.count;
    return keys;
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
                 : !argument_u32(arguments, i, "the kind", &kind)) {
        napi_throw_type_error(arguments->env, "ERR_INVALID_ARG_TYPE",
                              "there must be one kind for each key");
        return false;
    }
    for (uint32_t index = 0; index < length; index++)
        mutations[index].kind = is_array ? ((const uint8_t *)data)[index] : (uint8_t)kind;
    return true;
}

kvs_mutation *call_take_mutations(struct call *call, struct arguments *arguments, unsigned i,
                                  uint32_t *ret_count)
{
    struct packed packed;
    kvs_mutation *mutations;
    if (!call_take_packed(call, arguments, i + 1, 2 * KVS_BATCH_COUNT_MAX, &packed) ||
        (mutations = packed_table(call, &packed, packed.count / 2 * sizeof *mutations)) == NULL ||
        !take_kinds(arguments, i, packed.count / 2, mutations))
        return NULL;
    for (uint32_t k = 0; k < packed.count / 2; k++)
        mutations[k].key = packed_next(&packed);
    for (uint32_t k = 0; k < packed.count / 2; k++)
        mutations[k].value = packed_next(&packed);
    *ret_count = packed.count / 2;
    return mutations;
}

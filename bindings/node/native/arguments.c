/* native/arguments.c: from JavaScript's values to C's, with clear TypeErrors; see addon.h. */
#include "addon.h"

#include <stdio.h>
#include <stdlib.h>

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

bool argument_u32(struct arguments *arguments, unsigned i, uint32_t *ret_value)
{
    double number;
    if (!argument_double(arguments, i, &number))
        return false;
    if (!(number >= 0 && number <= UINT32_MAX))
        return type_error(arguments->env, "the number", "a whole number below 2^32");
    *ret_value = (uint32_t)number;
    return true;
}

bool argument_double(struct arguments *arguments, unsigned i, double *ret_value)
{
    return napi_get_value_double(arguments->env, arguments->values[i], ret_value) == napi_ok ||
           type_error(arguments->env, "the argument", "a number");
}

bool argument_u64(struct arguments *arguments, unsigned i, uint64_t *ret_value)
{
    double number;
    bool lossless = false;
    if (napi_get_value_double(arguments->env, arguments->values[i], &number) == napi_ok) {
        if (!(number >= 0 && number <= 9007199254740991.0))
            return type_error(arguments->env, "the number", "a safe integer that is not negative");
        *ret_value = (uint64_t)number;
        return true;
    }
    if (napi_get_value_bigint_uint64(arguments->env, arguments->values[i], ret_value, &lossless) !=
            napi_ok ||
        !lossless)
        return type_error(arguments->env, "the argument", "a number or a BigInt of 64 bits");
    return true;
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
    *ret_text = text;
    return true;
}

bool option_get(napi_env env, napi_value object, const char *name, napi_value *ret_value)
{
    napi_valuetype type;
    return napi_get_named_property(env, object, name, ret_value) == napi_ok &&
           napi_typeof(env, *ret_value, &type) == napi_ok && type != napi_undefined &&
           type != napi_null;
}

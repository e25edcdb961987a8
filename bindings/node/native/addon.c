/*
 * native/addon.c: begins and ends with an environment of Node.js; see addon.h.
 *
 * The end may come at any moment, with calls under way (process.exit, worker.terminate). The
 * environment's clean-up hook then gives up all calls, closes what is open and waits for it, and
 * frees the runtime: from then on no other thread touches the addon. What JavaScript still holds is
 * finalized later, so the struct addon goes with the last resource.
 */
#include "addon.h"

#include <stdlib.h>
#include <string.h>

/* What functions of libraries that nobody calls here would read and print to; see meson.build. */
void *addon_no_stdin, *addon_no_stderr;

struct addon *addon_of(napi_env env)
{
    void *addon = NULL;
    napi_get_instance_data(env, &addon);
    return addon;
}

kvs_runtime *addon_runtime(struct addon *addon)
{
    if (addon->stopping) {
        napi_throw_error(addon->env, "CLOSED", "the environment is ending");
        return NULL;
    }
    if (addon->runtime == NULL) {
        int error = kvs_runtime_new(NULL, &addon->runtime);
        if (error != 0)
            napi_throw_error(addon->env, kvs_error_name(error), kvs_error_text(error));
    }
    return addon->runtime;
}

void addon_flush(struct addon *addon)
{
    kvs_op *ops[CALLS_FLUSH_MAX];
    unsigned from = 0;
    while (from < addon->gathered_count) { /* runs of calls of one store */
        struct resource *resource = addon->gathered[from]->resource;
        unsigned count = 0;
        while (from < addon->gathered_count && addon->gathered[from]->resource == resource)
            ops[count++] = &addon->gathered[from++]->op;
        kvs_store_submit_many(resource->pointer, ops, count);
    }
    addon->gathered_count = 0;
}

void addon_hold_process(struct addon *addon)
{
    if (addon->process_holds++ == 0 && !addon->stopping)
        napi_ref_threadsafe_function(addon->env, addon->wake);
}

void addon_release_process(struct addon *addon)
{
    if (--addon->process_holds == 0 && !addon->stopping)
        napi_unref_threadsafe_function(addon->env, addon->wake);
}

void addon_wake(struct addon *addon)
{
    napi_call_threadsafe_function(addon->wake, NULL, napi_tsfn_nonblocking);
}

static napi_value hold_js(napi_env env, napi_callback_info info)
{
    (void)info;
    addon_hold_process(addon_of(env));
    return NULL;
}

static napi_value unhold_js(napi_env env, napi_callback_info info)
{
    (void)info;
    addon_release_process(addon_of(env));
    return NULL;
}

static napi_value flush_js(napi_env env, napi_callback_info info)
{
    (void)info;
    addon_flush(addon_of(env));
    return NULL;
}

/* On the environment's thread: something is done. */
static void on_wake(napi_env env, napi_value function, void *context, void *data)
{
    (void)function;
    (void)data;
    if (env != NULL)
        completions_deliver(context);
}

/* start(deliver): tells which function settles promises; before any other call. */
static napi_value start_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    if (!arguments_begin(&arguments, env, info))
        return NULL;
    struct addon *addon = arguments.addon;
    if (addon->deliver == NULL)
        napi_create_reference(env, arguments.values[0], 1, &addon->deliver);
    return NULL;
}

static napi_value version_js(napi_env env, napi_callback_info info)
{
    (void)info;
    napi_value version;
    napi_create_string_utf8(env, kvs_version(), NAPI_AUTO_LENGTH, &version);
    return version;
}

static void free_gathered(struct addon *addon)
{
    for (unsigned i = 0; i < addon->gathered_count; i++)
        call_end(addon->gathered[i]);
    addon->gathered_count = 0;
}

/* The environment's clean-up hook. */
static void stop(void *arg)
{
    struct addon *addon = arg;
    addon->stopping = true;
    free_gathered(addon);
    calls_cancel_all(addon);
    resources_close_all_blocking(addon);
    kvs_runtime_free(addon->runtime);
    addon->runtime = NULL;
    completions_end(addon);
    calls_free_spares(addon);
    free(addon->calls);
    addon->calls = NULL;
}

static void finalize(napi_env env, void *data, void *hint)
{
    (void)env;
    (void)hint;
    struct addon *addon = data;
    addon_release(addon);
}

void addon_release(struct addon *addon)
{
    if (--addon->holds > 0)
        return;
    pthread_mutex_destroy(&addon->lock);
    free(addon);
}

static bool make_wake(napi_env env, struct addon *addon)
{
    napi_value name;
    return napi_create_string_utf8(env, "kvs", NAPI_AUTO_LENGTH, &name) == napi_ok &&
           napi_create_threadsafe_function(env, NULL, NULL, name, 0, 1, NULL, NULL, addon, on_wake,
                                           &addon->wake) == napi_ok &&
           napi_unref_threadsafe_function(env, addon->wake) == napi_ok;
}

bool define_functions(napi_env env, napi_value exports, const napi_property_descriptor *functions,
                      size_t count)
{
    return napi_define_properties(env, exports, count, functions) == napi_ok;
}

NAPI_MODULE_INIT()
{
    static const napi_property_descriptor functions[] = {
        FUNCTION("start", start_js),        FUNCTION("flush", flush_js),
        FUNCTION("hold", hold_js),          FUNCTION("unhold", unhold_js),
        FUNCTION("cancel", call_cancel_js), FUNCTION("version", version_js),
    };
    struct addon *addon = calloc(1, sizeof *addon);
    if (addon == NULL || pthread_mutex_init(&addon->lock, NULL) != 0) {
        free(addon);
        napi_throw_error(env, "NO_MEMORY", "out of memory");
        return NULL;
    }
    addon->env = env;
    addon->holds = 1;
    /* Hooks run in reverse order: ours before that of the thread-safe function. */
    if (!make_wake(env, addon) || napi_set_instance_data(env, addon, finalize, NULL) != napi_ok ||
        napi_add_env_cleanup_hook(env, stop, addon) != napi_ok ||
        !define_functions(env, exports, functions, sizeof functions / sizeof functions[0]) ||
        !store_define(env, exports) || !txn_define(env, exports) || !events_define(env, exports) ||
        !subscription_define(env, exports)) {
        napi_throw_error(env, "NO_MEMORY", "cannot set up the addon");
        return NULL;
    }
    return exports;
}

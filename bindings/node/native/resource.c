/* native/resource.c: what is opened and closed, and who holds it; see addon.h. */
#include "addon.h"

#include <stdlib.h>

struct resource *resource_new(struct addon *addon, const struct resource_kind *kind, void *pointer,
                              struct resource *parent)
{
    struct resource *resource = calloc(1, sizeof *resource);
    if (resource == NULL)
        return NULL;
    *resource = (struct resource){
        .addon = addon,
        .kind = kind,
        .pointer = pointer,
        .parent = parent,
        .holds = 1,
        .next = addon->resources,
        .link = &addon->resources,
    };
    if (addon->resources != NULL)
        addon->resources->link = &resource->next;
    addon->resources = resource;
    addon->holds++;
    if (parent != NULL)
        resource_hold(parent);
    return resource;
}

void resource_hold(struct resource *resource)
{
    resource->holds++;
}

kvs_future *resource_close(struct resource *resource)
{
    void *pointer = resource->pointer;
    if (pointer == NULL)
        return NULL;
    addon_flush(resource->addon); /* what was asked before still happens */
    resource->pointer = NULL;
    return resource->kind->close(pointer);
}

static void on_closed(kvs_future *future, void *arg)
{
    (void)arg;
    kvs_future_free(future);
}

void resource_release(struct resource *resource)
{
    while (resource != NULL && --resource->holds == 0) {
        struct resource *parent = resource->parent;
        struct addon *addon = resource->addon;
        /* Forgotten without a close: it is closed, and nobody waits. */
        kvs_future *closed = resource_close(resource);
        if (closed != NULL)
            kvs_future_on_ready(closed, on_closed, NULL);
        *resource->link = resource->next;
        if (resource->next != NULL)
            resource->next->link = resource->link;
        free(resource);
        addon_release(addon);
        resource = parent;
    }
}

static void finalize(napi_env env, void *data, void *hint)
{
    (void)env;
    (void)hint;
    resource_release(data);
}

napi_value resource_external(napi_env env, struct resource *resource)
{
    napi_value external;
    if (napi_create_external(env, resource, finalize, NULL, &external) == napi_ok)
        return external;
    resource_release(resource);
    return NULL;
}

struct resource *resource_get(napi_env env, napi_value value, const struct resource_kind *kind)
{
    napi_valuetype type;
    void *data = NULL;
    if (napi_typeof(env, value, &type) != napi_ok || type != napi_external ||
        napi_get_value_external(env, value, &data) != napi_ok ||
        ((struct resource *)data)->kind != kind) {
        napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "this is no such handle");
        return NULL;
    }
    struct resource *resource = data;
    if (resource->pointer == NULL) {
        napi_throw_error(env, "CLOSED", kind->closed);
        return NULL;
    }
    return resource;
}

static void write_closed(struct call *call, struct writer *writer)
{
    (void)call;
    write_nothing(writer);
}

napi_value resource_close_js(napi_env env, napi_callback_info info,
                             const struct resource_kind *kind)
{
    struct arguments arguments;
    uint32_t id;
    void *data = NULL;
    if (!arguments_begin(&arguments, env, info) || !argument_u32(&arguments, 0, "the id", &id))
        return NULL;
    if (napi_get_value_external(env, arguments.values[1], &data) != napi_ok ||
        ((struct resource *)data)->kind != kind) {
        napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "this is no such handle");
        return NULL;
    }
    struct call *call = call_new(arguments.addon, id, data, write_closed);
    if (call == NULL)
        return NULL;
    kvs_future *closed = resource_close(data);
    if (closed != NULL)
        call_submit_future(call, closed);
    else
        call_done(call);
    return NULL;
}

void resources_close_all_blocking(struct addon *addon)
{
    /* The newest first: what was made from another one is closed before it. */
    for (struct resource *resource = addon->resources; resource != NULL;
         resource = resource->next) {
        kvs_future *closed = resource_close(resource);
        if (closed != NULL)
            kvs_future_wait(closed, -1);
        kvs_future_free(closed);
    }
}

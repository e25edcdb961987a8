/* native/call.c: the life of a call; see addon.h. */
#include "addon.h"

#include <stdlib.h>
#include <string.h>

#define CALLS_MAX (1u << 22)
#define SPARE_CALLS_MAX 1024u
#define SPARE_MEMORY_MAX (4u * 1024 * 1024) /* of all of them */

static bool make_room(struct addon *addon, uint32_t id)
{
    if (id < addon->calls_size)
        return true;
    uint32_t size = addon->calls_size > 0 ? addon->calls_size : 64;
    while (size <= id)
        size *= 2;
    struct call **calls = size <= CALLS_MAX ? realloc(addon->calls, size * sizeof *calls) : NULL;
    if (calls == NULL)
        return false;
    memset(calls + addon->calls_size, 0, (size - addon->calls_size) * sizeof *calls);
    addon->calls = calls;
    addon->calls_size = size;
    return true;
}

static struct call *take_spare(struct addon *addon)
{
    struct call *call = addon->spares;
    if (call == NULL)
        return calloc(1, sizeof *call);
    addon->spares = call->next;
    addon->spares_count--;
    addon->spares_memory -= call->memory_size;
    return call;
}

struct call *call_new(struct addon *addon, uint32_t id, struct resource *resource,
                      call_write_fn *write)
{
    if (addon->stopping) {
        napi_throw_error(addon->env, "CLOSED", "the environment is ending");
        return NULL;
    }
    struct call *call = make_room(addon, id) && addon->calls[id] == NULL ? take_spare(addon) : NULL;
    if (call == NULL) {
        napi_throw_error(addon->env, "BUSY", "too many calls under way");
        return NULL;
    }
    uint8_t *memory = call->memory;
    size_t memory_size = call->memory_size;
    *call = (struct call){.op = KVS_OP_INIT,
                          .addon = addon,
                          .resource = resource,
                          .write = write,
                          .id = id,
                          .memory = memory,
                          .memory_size = memory_size};
    if (resource != NULL)
        resource_hold(resource);
    addon->calls[id] = call;
    addon_hold_process(addon);
    return call;
}

bool call_reserve(struct call *call, size_t size)
{
    if (size <= call->memory_size)
        return true;
    uint8_t *memory = realloc(call->memory, size);
    if (memory == NULL) {
        napi_throw_error(call->addon->env, "NO_MEMORY", "out of memory");
        return false;
    }
    call->memory = memory;
    call->memory_size = size;
    return true;
}

void call_let_process_end(struct call *call)
{
    call->lets_process_end = true;
    addon_release_process(call->addon);
}

void call_end(struct call *call)
{
    struct addon *addon = call->addon;
    kvs_op_release(&call->op);
    kvs_future_free(call->future);
    watch_release(call->watch);
    if (addon->calls != NULL)
        addon->calls[call->id] = NULL;
    if (!call->lets_process_end)
        addon_release_process(addon);
    if (call->resource != NULL)
        resource_release(call->resource);
    if (addon->stopping || addon->spares_count >= SPARE_CALLS_MAX ||
        addon->spares_memory + call->memory_size > SPARE_MEMORY_MAX) {
        free(call->memory);
        free(call);
        return;
    }
    call->next = addon->spares;
    addon->spares = call;
    addon->spares_count++;
    addon->spares_memory += call->memory_size;
}

void call_drop(struct call *call)
{
    call_end(call);
}

void calls_free_spares(struct addon *addon)
{
    struct call *next;
    for (struct call *call = addon->spares; call != NULL; call = next) {
        next = call->next;
        free(call->memory);
        free(call);
    }
    addon->spares = NULL;
    addon->spares_count = 0;
    addon->spares_memory = 0;
}

/* --- done: on the runtime's thread --- */

static void done(struct call *call, bool of_store)
{
    struct addon *addon = call->addon;
    pthread_mutex_lock(&addon->lock);
    call->is_done = true;
    if (!of_store || !completions_write(call)) {
        call->next = NULL;
        if (addon->done_last != NULL)
            addon->done_last->next = call;
        else
            addon->done = call;
        addon->done_last = call;
    }
    bool wake = !addon->woken;
    addon->woken = true;
    pthread_mutex_unlock(&addon->lock);
    if (wake)
        addon_wake(addon);
}

void call_done(struct call *call)
{
    done(call, false);
}

static void on_op_done(kvs_op *op)
{
    done((struct call *)op, true);
}

static void on_future_ready(kvs_future *future, void *arg)
{
    (void)future;
    call_done(arg);
}

/* --- submitting --- */

void call_submit_op(struct call *call, enum kvs_op_kind kind)
{
    struct addon *addon = call->addon;
    call->op.kind = (uint8_t)kind;
    call->op.on_done = on_op_done;
    call->store = call->resource->pointer;
    addon->gathered[addon->gathered_count++] = call;
    if (addon->gathered_count == CALLS_FLUSH_MAX)
        addon_flush(addon);
}

void call_submit_future(struct call *call, kvs_future *future)
{
    call->future = future;
    if (future == NULL) {
        call->op.error = KVS_ERR_NO_MEMORY;
        call_done(call);
        return;
    }
    kvs_future_on_ready(future, on_future_ready, call);
}

static kvs_future *as_it_is(kvs_future *future, void *arg)
{
    (void)arg;
    return future;
}

void call_submit_open(struct call *call, kvs_future *opening)
{
    call_submit_future(call, kvs_future_then(opening, as_it_is, NULL));
}

/* --- giving up --- */

static bool is_gathered(const struct call *call)
{
    for (unsigned i = 0; i < call->addon->gathered_count; i++) {
        if (call->addon->gathered[i] == call)
            return true;
    }
    return false;
}

/* Also while its store is being closed: that waits for it. The lock keeps an op from getting done
 * meanwhile: afterwards it must not be cancelled, and the store may be gone. */
static void cancel(struct call *call)
{
    struct addon *addon = call->addon;
    if (is_gathered(call))
        addon_flush(addon);
    if (call->future != NULL) {
        kvs_future_cancel(call->future);
    } else if (call->store != NULL) {
        pthread_mutex_lock(&addon->lock);
        if (!call->is_done)
            kvs_store_cancel(call->store, &call->op);
        pthread_mutex_unlock(&addon->lock);
    }
}

/* cancel(id) */
napi_value call_cancel_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    uint32_t id;
    if (!arguments_begin(&arguments, env, info) || !argument_u32(&arguments, 0, "the id", &id))
        return NULL;
    struct addon *addon = arguments.addon;
    if (id < addon->calls_size && addon->calls[id] != NULL)
        cancel(addon->calls[id]);
    return NULL;
}

void calls_cancel_all(struct addon *addon)
{
    for (uint32_t id = 0; id < addon->calls_size; id++) {
        if (addon->calls[id] != NULL)
            cancel(addon->calls[id]);
    }
}

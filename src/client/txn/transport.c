/* client/txn/transport.c: the life of a call; see client/txn/transport.h. */
#include "client/txn/transport.h"

#include "base/mem.h"

static void call_init(struct txn_call *call, struct txn_transport *transport,
                      enum txn_command_kind kind, const struct txn_call_methods *methods,
                      void *owner)
{
    call->transport = transport;
    call->methods = methods;
    call->owner = owner;
    list_init(&call->node);
    txn_command_init(&call->command.base, kind);
}

struct txn_call *txn_call_new(struct txn_transport *transport, enum txn_command_kind kind,
                              const struct txn_call_methods *methods, void *owner)
{
    struct txn_call *call = mem_zalloc(sizeof *call + transport->methods->call_extra);
    if (call == NULL)
        return NULL;
    call_init(call, transport, kind, methods, owner);
    return call;
}

void txn_call_renew(struct txn_call *call, enum txn_command_kind kind,
                    const struct txn_call_methods *methods, void *owner)
{
    struct txn_transport *transport = call->transport;
    struct arena arena = call->command.base.arena;
    arena_reset(&arena);
    memset(call, 0, sizeof *call + transport->methods->call_extra);
    call_init(call, transport, kind, methods, owner);
    call->command.base.arena = arena;
}

void txn_call_free(struct txn_call *call)
{
    if (call == NULL)
        return;
    txn_command_deinit(&call->command.base);
    mem_free(call);
}

void txn_call_cancel(struct txn_call *call)
{
    if (call->cancelled)
        return;
    call->cancelled = true;
    call->transport->methods->cancel(call);
}

uint32_t txn_call_keys_end(const struct txn_call *call, const struct txn_bounds *bounds,
                           const kvs_slice *keys)
{
    struct txn_load load = {0};
    uint32_t end = call->from;
    while (end < call->to && (end == call->from || txn_bounds_below_end(bounds, keys[end])) &&
           txn_load_add(&load, call->transport, keys[end], 0))
        end++;
    return end;
}

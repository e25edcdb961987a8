/* client/txn/transport.c: the life of a call; see client/txn/transport.h. */
#include "client/txn/transport.h"

#include "base/mem.h"

struct txn_call *txn_call_new(struct txn_transport *transport, enum txn_command_kind kind,
                              const struct txn_call_methods *methods, void *owner)
{
    struct txn_call *call = mem_zalloc(sizeof *call + transport->methods->call_extra);
    if (call == NULL)
        return NULL;
    call->transport = transport;
    call->methods = methods;
    call->owner = owner;
    list_init(&call->node);
    txn_command_init(&call->command.base, kind);
    return call;
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

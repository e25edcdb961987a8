/* cli/client/call.c: calls of the store that the main thread waits for; see cli/client/client.h. */
#include "cli/client/client.h"

#include <time.h>

#define INTERRUPT_CHECK_S 1

static void call_on_done(kvs_op *op)
{
    struct call *call = op->user;
    sem_post(&call->done); /* the waiter owns the call from here on */
}

void call_init(struct call *call, enum kvs_op_kind kind)
{
    call->op = KVS_OP_INIT;
    call->op.kind = (uint8_t)kind;
    call->op.on_done = call_on_done;
    call->op.user = call;
    sem_init(&call->done, 0, 0);
}

void call_start(struct client *client, struct call *call)
{
    if (call->op.timeout_ms == 0)
        call->op.timeout_ms = (uint32_t)client->options.timeout_ms;
    kvs_store_submit(client->store, &call->op);
}

int call_wait(struct client *client, struct call *call)
{
    bool cancelled = false;
    for (;;) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += INTERRUPT_CHECK_S;
        if (client_interrupted() && !cancelled) {
            kvs_store_cancel(client->store, &call->op);
            cancelled = true;
        }
        /* A signal ends the wait, unless it comes between the check and here: then the clock. */
        if (sem_clockwait(&call->done, CLOCK_MONOTONIC, &until) == 0)
            return call->op.error;
    }
}

void call_release(struct call *call)
{
    kvs_op_release(&call->op);
}

int call_run(struct client *client, struct call *call)
{
    call_start(client, call);
    return call_wait(client, call);
}

int call_fail(const struct client *client, const struct call *call)
{
    return client_fail_operation(client, call->op.error, call->op.message);
}

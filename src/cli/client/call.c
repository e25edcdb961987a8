/* cli/client/call.c: calls of the store that the main thread waits for; see cli/client/client.h. */
#include "cli/client/client.h"

#include <time.h>

#define INTERRUPT_CHECK_S 1
#define INTERRUPT_CHECK_MS 100

static void call_on_done(kvs_op *op)
{
    struct call *call = op->user;
    pthread_mutex_lock(&call->lock);
    call->in_flight = false;
    pthread_mutex_unlock(&call->lock);
    sem_post(&call->done); /* the waiter owns the call from here on */
}

void call_init(struct call *call, enum kvs_op_kind kind)
{
    call->op = KVS_OP_INIT;
    call->op.kind = (uint8_t)kind;
    call->op.on_done = call_on_done;
    call->op.user = call;
    call->in_flight = false;
    pthread_mutex_init(&call->lock, NULL);
    sem_init(&call->done, 0, 0);
}

void call_start(struct client *client, struct call *call)
{
    if (call->op.timeout_ms == 0)
        call->op.timeout_ms = (uint32_t)client->options.timeout_ms;
    call->in_flight = true;
    kvs_store_submit(client->store, &call->op);
}

void call_cancel(struct client *client, struct call *call)
{
    /* The store knows the op until on_done returns, and on_done waits for the lock. */
    pthread_mutex_lock(&call->lock);
    if (call->in_flight)
        kvs_store_cancel(client->store, &call->op);
    pthread_mutex_unlock(&call->lock);
}

int call_wait(struct client *client, struct call *call)
{
    bool cancelled = false;
    for (;;) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until); /* a set clock only moves the next check */
        until.tv_sec += INTERRUPT_CHECK_S;
        if (client_interrupted() && !cancelled) {
            call_cancel(client, call);
            cancelled = true;
        }
        /* A signal ends the wait, unless it comes between the check and here: then the clock. */
        if (sem_timedwait(&call->done, &until) == 0)
            return call->op.error;
    }
}

int call_wait_to_end(struct call *call)
{
    while (sem_wait(&call->done) != 0)
        continue; /* a signal */
    return call->op.error;
}

void call_release_result(struct call *call)
{
    kvs_op_release(&call->op);
}

void call_deinit(struct call *call)
{
    kvs_op_release(&call->op);
    pthread_mutex_destroy(&call->lock);
    sem_destroy(&call->done);
}

int call_run(struct client *client, struct call *call)
{
    call_start(client, call);
    return call_wait(client, call);
}

int call_wait_future(kvs_future *future)
{
    bool cancelled = false;
    while (!kvs_future_is_ready(future)) {
        if (client_interrupted() && !cancelled) {
            kvs_future_cancel(future);
            cancelled = true;
        }
        kvs_future_wait(future, INTERRUPT_CHECK_MS); /* which no signal ends */
    }
    return kvs_future_error(future);
}

int call_tell_failure(const struct client *client, const struct call *call)
{
    return client_fail_operation(client, call->op.error, call->op.message);
}

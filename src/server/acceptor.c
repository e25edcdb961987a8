/* server/acceptor.c: see the header. */
#include "server/acceptor.h"

#include "base/mem.h"

#include <stdio.h>
#include <unistd.h>

/* A connection on its way to its loop. */
struct arrival {
    struct task task;
    struct acceptor *acceptor;
    void *arg;
    int descriptor;
    char peer[ADDRESS_TEXT_SIZE];
};

static void on_arrival(struct task *task)
{
    struct arrival *arrival = CONTAINER_OF(task, struct arrival, task);
    arrival->acceptor->connect(arrival->arg, arrival->descriptor, arrival->peer);
    mem_free(arrival);
}

static void on_accept(void *arg, int descriptor, const char *peer)
{
    struct acceptor *acceptor = arg;
    struct arrival *arrival = mem_alloc(sizeof *arrival);
    if (arrival == NULL) {
        close(descriptor);
        return;
    }
    const struct acceptor_target *target = &acceptor->targets[acceptor->next];
    acceptor->next = (acceptor->next + 1) % acceptor->count;
    arrival->task.run = on_arrival;
    arrival->acceptor = acceptor;
    arrival->arg = target->arg;
    arrival->descriptor = descriptor;
    snprintf(arrival->peer, sizeof arrival->peer, "%s", peer);
    loop_post(target->loop, &arrival->task);
}

int acceptor_start(struct acceptor *acceptor, const struct acceptor_target *targets, unsigned count,
                   void (*connect)(void *arg, int descriptor, const char *peer))
{
    acceptor->targets = targets;
    acceptor->count = count;
    acceptor->connect = connect;
    return listener_start(&acceptor->listener, targets[0].loop, on_accept, acceptor);
}

static void on_closed(void *arg)
{
    struct acceptor *acceptor = arg;
    acceptor->on_closed(acceptor->on_closed_arg);
}

bool acceptor_close(struct acceptor *acceptor, void (*on_closed_fn)(void *arg), void *arg)
{
    if (acceptor->listener.handles == 0)
        return false;
    acceptor->on_closed = on_closed_fn;
    acceptor->on_closed_arg = arg;
    listener_close(&acceptor->listener, on_closed);
    return true;
}

void acceptor_deinit(struct acceptor *acceptor)
{
    listener_unbind(&acceptor->listener);
}

/*
 * native/connection.c: what happens to the connection of event streams, for JavaScript.
 *
 * JavaScript asks for what is new by a call that nobody has to wait for (eventsWatch): it does not
 * keep the process alive, and holds no client. Until it asks, changes are kept here, the last
 * WATCH_MAX of them.
 *
 * Threads: watch_on_connection and what ends a watch run on the runtime's thread, all else on the
 * environment's. The struct goes when both have let go of it: the client when it is closed, or
 * could not be opened, JavaScript when it has been told the end.
 */
#include "events.h"

#include <stdio.h>
#include <stdlib.h>

#define WATCH_MAX 32u

struct change {
    int state;
    int error;
    uint32_t failures;
    char node[80];
    char why[160];
};

struct watch {
    pthread_mutex_t lock; /* of all that follows */
    unsigned holds;
    struct call *waiting; /* JavaScript wants what is new */
    bool ended;           /* nothing more will come */
    unsigned first;
    unsigned count;
    struct change changes[WATCH_MAX]; /* a ring */
};

struct watch *watch_new(void)
{
    struct watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL || pthread_mutex_init(&watch->lock, NULL) != 0) {
        free(watch);
        return NULL;
    }
    watch->holds = 1;
    return watch;
}

static void release(struct watch *watch)
{
    pthread_mutex_lock(&watch->lock);
    bool last = --watch->holds == 0;
    pthread_mutex_unlock(&watch->lock);
    if (!last)
        return;
    pthread_mutex_destroy(&watch->lock);
    free(watch);
}

void watch_hold(struct watch *watch)
{
    pthread_mutex_lock(&watch->lock);
    watch->holds++;
    pthread_mutex_unlock(&watch->lock);
}

void watch_release(struct watch *watch)
{
    if (watch != NULL)
        release(watch);
}

static void complete(struct watch *watch)
{
    struct call *call = watch->waiting;
    watch->waiting = NULL;
    pthread_mutex_unlock(&watch->lock);
    if (call != NULL)
        call_done(call);
}

void watch_end(struct watch *watch)
{
    pthread_mutex_lock(&watch->lock);
    watch->ended = true;
    complete(watch);
    release(watch);
}

void watch_on_connection(kvs_events *events, const struct kvs_connection_event *event, void *arg)
{
    struct watch *watch = arg;
    (void)events;
    pthread_mutex_lock(&watch->lock);
    if (watch->count == WATCH_MAX) { /* the oldest is forgotten */
        watch->first = (watch->first + 1) % WATCH_MAX;
        watch->count--;
    }
    struct change *change = &watch->changes[(watch->first + watch->count++) % WATCH_MAX];
    change->state = (int)event->state;
    change->error = event->error;
    change->failures = event->failures;
    snprintf(change->node, sizeof change->node, "%s", event->node);
    snprintf(change->why, sizeof change->why, "%s", event->why);
    complete(watch);
}

/* Whether this is the end, how many changes, these. */
static void write_changes(struct call *call, struct writer *writer)
{
    struct watch *watch = call->watch;
    pthread_mutex_lock(&watch->lock);
    write_boolean(writer, watch->ended);
    write_number(writer, watch->count);
    for (unsigned i = 0; i < watch->count; i++) {
        const struct change *change = &watch->changes[(watch->first + i) % WATCH_MAX];
        write_number(writer, change->state);
        write_number(writer, change->error);
        write_number(writer, change->failures);
        write_bytes(writer, kvs_slice_of(change->node));
        write_bytes(writer, kvs_slice_of(change->why));
    }
    if (write_went_well(writer))
        watch->count = 0;
    pthread_mutex_unlock(&watch->lock);
}

/* (id, client) */
napi_value watch_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    uint32_t id;
    struct resource *resource;
    if (!arguments_begin(&arguments, env, info) || !argument_u32(&arguments, 0, "the id", &id) ||
        (resource = resource_get(env, arguments.values[1], &events_kind)) == NULL)
        return NULL;
    struct watch *watch = ((struct events_client *)resource->pointer)->watch;
    struct call *call = call_new(arguments.addon, id, NULL, write_changes);
    if (call == NULL)
        return NULL;
    watch_hold(watch);
    call->watch = watch;
    call_let_process_end(call);
    pthread_mutex_lock(&watch->lock);
    bool busy = watch->waiting != NULL;
    bool ready = watch->count > 0 || watch->ended || busy;
    if (!ready)
        watch->waiting = call;
    pthread_mutex_unlock(&watch->lock);
    if (ready)
        call_done(call);
    return NULL;
}

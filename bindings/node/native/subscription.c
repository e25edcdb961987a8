/*
 * native/subscription.c: subscriptions for JavaScript; see addon.h. src/native.ts has the
 * signatures.
 *
 * JavaScript asks for what comes next, one call at a time (subscriptionNext). Until it does, a
 * batch stays where it is: on_events keeps it, and libkvs gives no other. What crosses at once is
 * bounded; when the last of a batch has crossed, libkvs may give the next one, which then waits
 * here while JavaScript is at work on the one before.
 *
 * Threads: on_* run on the runtime's thread, all else on the environment's. The struct goes when
 * both have let go of it: JavaScript by closing it (or forgetting it), libkvs with on_dropped.
 */
#include "events.h"

#include <stdio.h>
#include <stdlib.h>

#define PART_BYTES_MAX (128u * 1024) /* that cross at once, but at least one event */
#define PART_EVENTS_MAX 512u
#define EVENT_BYTES 100u /* of an event, beside what the user gave */
#define ACK_MAX 65536u

/* What happened between two batches; only the last of each kind counts. */
struct notes {
    int state; /* enum kvs_subscription_state; 0: no change */
    bool has_checkpoint;
    kvs_position checkpoint;
};

struct subscription {
    kvs_subscription *handle; /* the environment's thread's */
    size_t at;            /* events of the batch that have crossed; the environment's thread's */
    pthread_mutex_t lock; /* of what follows */
    unsigned holds;
    struct call *waiting; /* JavaScript wants what comes next */
    const kvs_resolved_event *events;
    size_t count; /* of the batch that is kept; 0: none */
    struct notes before;
    struct notes after; /* came while a batch was kept */
    bool dropped;
    int error;
    char why[sizeof((kvs_op *)0)->message];
};

static void release(struct subscription *subscription)
{
    pthread_mutex_lock(&subscription->lock);
    bool last = --subscription->holds == 0;
    pthread_mutex_unlock(&subscription->lock);
    if (!last)
        return;
    pthread_mutex_destroy(&subscription->lock);
    free(subscription);
}

/* The waiting call, which is to be completed outside of the lock; NULL: none. Locked. */
static struct call *take_waiting(struct subscription *subscription)
{
    struct call *call = subscription->waiting;
    subscription->waiting = NULL;
    return call;
}

static void unlock_and_complete(struct subscription *subscription, struct call *call)
{
    pthread_mutex_unlock(&subscription->lock);
    if (call != NULL)
        call_done(call);
}

/* --- on the runtime's thread --- */

static bool on_events(kvs_subscription *handle, const kvs_resolved_event *events, size_t count,
                      void *arg)
{
    struct subscription *subscription = arg;
    (void)handle;
    pthread_mutex_lock(&subscription->lock);
    subscription->events = events;
    subscription->count = count;
    unlock_and_complete(subscription, take_waiting(subscription));
    return false;
}

static struct notes *notes_of(struct subscription *subscription)
{
    return subscription->count > 0 ? &subscription->after : &subscription->before;
}

static void on_state(kvs_subscription *handle, enum kvs_subscription_state state, void *arg)
{
    struct subscription *subscription = arg;
    (void)handle;
    pthread_mutex_lock(&subscription->lock);
    notes_of(subscription)->state = (int)state;
    unlock_and_complete(subscription, take_waiting(subscription));
}

static void on_checkpoint(kvs_subscription *handle, kvs_position position, void *arg)
{
    struct subscription *subscription = arg;
    (void)handle;
    pthread_mutex_lock(&subscription->lock);
    struct notes *notes = notes_of(subscription);
    notes->has_checkpoint = true;
    notes->checkpoint = position;
    unlock_and_complete(subscription, take_waiting(subscription));
}

/* The end is what the call ends with. Locked. */
static void tell_end(const struct subscription *subscription, struct call *call)
{
    call->op.error = subscription->error;
    memcpy(call->op.message, subscription->why, sizeof subscription->why);
}

static void on_dropped(kvs_subscription *handle, int error, const char *why, void *arg)
{
    struct subscription *subscription = arg;
    (void)handle;
    pthread_mutex_lock(&subscription->lock);
    subscription->dropped = true;
    subscription->error = error;
    snprintf(subscription->why, sizeof subscription->why, "%s", why);
    struct call *call = take_waiting(subscription);
    if (call != NULL)
        tell_end(subscription, call);
    unlock_and_complete(subscription, call);
    release(subscription);
}

static const struct kvs_subscription_handlers handlers = {
    .on_events = on_events,
    .on_state = on_state,
    .on_checkpoint = on_checkpoint,
    .on_dropped = on_dropped,
};

/* --- what comes next --- */

/* How many events from `at` on cross at once. */
static size_t part_of(const kvs_resolved_event *events, size_t count)
{
    size_t bytes = 0, i = 0;
    while (i < count && i < PART_EVENTS_MAX && (i == 0 || bytes < PART_BYTES_MAX)) {
        const kvs_event *of[] = {events[i].event, events[i].link};
        for (unsigned k = 0; k < 2; k++) {
            if (of[k] != NULL)
                bytes += of[k]->data.size + of[k]->metadata.size + EVENT_BYTES;
        }
        i++;
    }
    return i;
}

static void write_notes(struct writer *writer, const struct notes *notes)
{
    write_number(writer, notes->state);
    write_boolean(writer, notes->has_checkpoint);
    write_position(writer, notes->checkpoint);
}

/* Everything up to here has crossed. Locked. */
static void forget_crossed(struct subscription *subscription, size_t part, bool is_last)
{
    subscription->at += part;
    subscription->before = (struct notes){0};
    if (!is_last)
        return;
    subscription->after = (struct notes){0};
    subscription->events = NULL;
    subscription->count = subscription->at = 0;
}

/* Is this the end? What happened, events, what happened after them. */
static void write_next(struct call *call, struct writer *writer)
{
    struct subscription *subscription = call->resource->pointer;
    if (subscription == NULL) { /* closed meanwhile */
        write_boolean(writer, true);
        return;
    }
    pthread_mutex_lock(&subscription->lock);
    size_t left = subscription->count - subscription->at;
    const kvs_resolved_event *events = left > 0 ? subscription->events + subscription->at : NULL;
    size_t part = part_of(events, left);
    bool is_last = part == left;
    bool is_end = subscription->dropped && left == 0 && subscription->before.state == 0 &&
                  !subscription->before.has_checkpoint;
    write_boolean(writer, is_end);
    if (!is_end) {
        write_notes(writer, &subscription->before);
        write_events(writer, events, part);
        write_notes(writer, is_last ? &subscription->after : &(struct notes){0});
    }
    bool crossed = write_went_well(writer);
    if (crossed)
        forget_crossed(subscription, part, is_last);
    pthread_mutex_unlock(&subscription->lock);
    if (crossed && is_last && left > 0)
        kvs_subscription_resume(subscription->handle);
}

/* --- functions --- */

static kvs_future *close_subscription(void *pointer)
{
    struct subscription *subscription = pointer;
    kvs_subscription_free(subscription->handle);
    release(subscription);
    return NULL;
}

static const struct resource_kind subscription_kind = {.closed = "the subscription is closed",
                                                       .close = close_subscription};

/* (id, subscription) */
static napi_value next_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    uint32_t id;
    struct resource *resource;
    if (!arguments_begin(&arguments, env, info) || !argument_u32(&arguments, 0, "the id", &id) ||
        (resource = resource_get(env, arguments.values[1], &subscription_kind)) == NULL)
        return NULL;
    struct subscription *subscription = resource->pointer;
    struct call *call = call_new(arguments.addon, id, resource, write_next);
    if (call == NULL)
        return NULL;
    pthread_mutex_lock(&subscription->lock);
    bool ready = subscription->count > 0 || subscription->before.state != 0 ||
                 subscription->before.has_checkpoint;
    bool busy = subscription->waiting != NULL;
    if (!ready && subscription->dropped)
        tell_end(subscription, call);
    else if (!ready && !busy)
        subscription->waiting = call;
    bool waits = subscription->waiting == call;
    pthread_mutex_unlock(&subscription->lock);
    if (busy) {
        call_drop(call);
        napi_throw_error(env, "BUSY", "the subscription is being asked already");
    } else if (!waits) {
        call_done(call);
    }
    return NULL;
}

/* (id, subscription) */
static napi_value close_js(napi_env env, napi_callback_info info)
{
    return resource_close_js(env, info, &subscription_kind);
}

static struct subscription *subscription_new(napi_env env)
{
    struct subscription *subscription = calloc(1, sizeof *subscription);
    if (subscription == NULL || pthread_mutex_init(&subscription->lock, NULL) != 0) {
        free(subscription);
        napi_throw_error(env, "NO_MEMORY", "out of memory");
        return NULL;
    }
    subscription->holds = 2;
    return subscription;
}

/* The handle of one that has begun, or what `error` says. */
static napi_value begun(napi_env env, struct resource *client, struct subscription *subscription,
                        int error)
{
    if (error != 0) {
        pthread_mutex_destroy(&subscription->lock);
        free(subscription);
        napi_throw_error(env, kvs_error_name(error), kvs_error_text(error));
        return NULL;
    }
    struct resource *resource =
        resource_new(client->addon, &subscription_kind, subscription, client);
    if (resource != NULL)
        return resource_external(env, resource);
    close_subscription(subscription);
    napi_throw_error(env, "NO_MEMORY", "out of memory");
    return NULL;
}

static bool take_subscribe_options(napi_env env, napi_value object, struct texts *texts,
                                   struct filter_option *filter,
                                   struct kvs_subscribe_options *options)
{
    napi_value filter_value;
    uint32_t from = 0;
    bool ok =
        take_slice(env, object, "stream", texts, &options->stream) &&
        take_u32_option(env, object, "from", &from) &&
        take_i64_option(env, object, "afterNumber", &options->after_number) &&
        take_i64_option(env, object, "afterCommit", &options->after_position.commit) &&
        take_i64_option(env, object, "afterPrepare", &options->after_position.prepare) &&
        take_flag_option(env, object, "resolveLinks", &options->resolve_links) &&
        take_flag_option(env, object, "volatile", &options->is_volatile) &&
        take_u32_option(env, object, "checkpointInterval", &options->checkpoint_interval) &&
        take_u32_option(env, object, "pageCount", &options->page_count) &&
        take_u32_option(env, object, "bufferCount", &options->buffer_count) &&
        take_u32_option(env, object, "bufferSizeBytes", &options->buffer_size_bytes) &&
        take_text(env, object, "login", texts, &options->login) &&
        take_text(env, object, "password", texts, &options->password) &&
        option_get(env, object, "filter", &filter_value) &&
        (filter_value == NULL || take_filter(env, filter_value, texts, filter, &options->filter));
    options->from = (enum kvs_subscribe_from)from;
    return ok;
}

static kvs_events *events_of(const struct resource *client)
{
    return ((const struct events_client *)client->pointer)->events;
}

/* eventsSubscribe(client, options) */
static napi_value subscribe_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    struct texts texts = {.count = 0};
    struct filter_option filter;
    struct kvs_subscribe_options options = {.size = sizeof options};
    struct resource *client;
    struct subscription *subscription = NULL;
    napi_value handle = NULL;
    if (arguments_begin(&arguments, env, info) &&
        (client = resource_get(env, arguments.values[0], &events_kind)) != NULL &&
        take_subscribe_options(env, arguments.values[1], &texts, &filter, &options) &&
        (subscription = subscription_new(env)) != NULL)
        handle = begun(env, client, subscription,
                       kvs_events_subscribe(events_of(client), &options, &handlers, subscription,
                                            &subscription->handle));
    texts_free(&texts);
    return handle;
}

static bool take_group_options(napi_env env, napi_value object, struct texts *texts,
                               struct kvs_group_subscribe_options *options)
{
    options->manual_ack = true; /* src/subscription.ts acknowledges what the loop has left behind */
    return take_slice(env, object, "stream", texts, &options->stream) &&
           take_slice(env, object, "group", texts, &options->group) &&
           take_u32_option(env, object, "inFlight", &options->in_flight) &&
           take_flag_option(env, object, "noRejoin", &options->no_rejoin) &&
           take_text(env, object, "login", texts, &options->login) &&
           take_text(env, object, "password", texts, &options->password);
}

/* eventsSubscribeGroup(client, options) */
static napi_value subscribe_group_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    struct texts texts = {.count = 0};
    struct kvs_group_subscribe_options options = {.size = sizeof options};
    struct resource *client;
    struct subscription *subscription = NULL;
    napi_value handle = NULL;
    if (arguments_begin(&arguments, env, info) &&
        (client = resource_get(env, arguments.values[0], &events_kind)) != NULL &&
        take_group_options(env, arguments.values[1], &texts, &options) &&
        (subscription = subscription_new(env)) != NULL)
        handle = begun(env, client, subscription,
                       kvs_events_subscribe_group(events_of(client), &options, &handlers,
                                                  subscription, &subscription->handle));
    texts_free(&texts);
    return handle;
}

/* --- acknowledging --- */

/* An array of ids as text; to be freed by free(). */
static kvs_event_id *take_ids(napi_env env, napi_value array, uint32_t *ret_count)
{
    bool ok = napi_get_array_length(env, array, ret_count) == napi_ok && *ret_count <= ACK_MAX;
    kvs_event_id *ids = ok ? calloc(*ret_count + 1, sizeof *ids) : NULL;
    for (uint32_t i = 0; ids != NULL && ok && i < *ret_count; i++) {
        char text[KVS_EVENT_ID_TEXT_SIZE + 1] = "";
        size_t size = 0;
        napi_value value;
        ok = napi_get_element(env, array, i, &value) == napi_ok &&
             napi_get_value_string_utf8(env, value, text, sizeof text, &size) == napi_ok &&
             kvs_event_id_parse(text, &ids[i]) == 0;
    }
    if (ok && ids != NULL)
        return ids;
    free(ids);
    if (ok)
        napi_throw_error(env, "NO_MEMORY", "out of memory");
    else
        napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE",
                              "events are acknowledged by an array of their ids");
    return NULL;
}

/* subscriptionAck(subscription, ids), subscriptionNak(subscription, ids, action, reason) */
static napi_value acknowledge(napi_env env, napi_callback_info info, bool is_nak)
{
    struct arguments arguments;
    struct resource *resource;
    uint32_t count, action = 0;
    char *reason = NULL;
    kvs_event_id *ids;
    if (!arguments_begin(&arguments, env, info) ||
        (resource = resource_get(env, arguments.values[0], &subscription_kind)) == NULL ||
        (ids = take_ids(env, arguments.values[1], &count)) == NULL)
        return NULL;
    struct subscription *subscription = resource->pointer;
    int error = 0;
    if (!is_nak)
        error = kvs_subscription_ack(subscription->handle, ids, count);
    else if (argument_u32(&arguments, 2, "the action", &action) &&
             argument_string(&arguments, 3, "the reason", &reason))
        error = kvs_subscription_nak(subscription->handle, ids, count, (enum kvs_nak_action)action,
                                     reason);
    free(reason);
    free(ids);
    if (error != 0)
        napi_throw_error(env, kvs_error_name(error), kvs_error_text(error));
    return NULL;
}

static napi_value ack_js(napi_env env, napi_callback_info info)
{
    return acknowledge(env, info, false);
}

static napi_value nak_js(napi_env env, napi_callback_info info)
{
    return acknowledge(env, info, true);
}

bool subscription_define(napi_env env, napi_value exports)
{
    static const napi_property_descriptor functions[] = {
        FUNCTION("eventsSubscribe", subscribe_js),
        FUNCTION("eventsSubscribeGroup", subscribe_group_js),
        FUNCTION("subscriptionNext", next_js),
        FUNCTION("subscriptionClose", close_js),
        FUNCTION("subscriptionAck", ack_js),
        FUNCTION("subscriptionNak", nak_js),
    };
    return define_functions(env, exports, functions, sizeof functions / sizeof functions[0]);
}

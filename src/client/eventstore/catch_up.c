/* client/eventstore/catch_up.c: see the header. */
#include "client/eventstore/catch_up.h"

#include "base/mem.h"
#include "client/events/subscription.h"

#include <assert.h>
#include <stdio.h>

enum phase {
    PHASE_WAIT, /* for a connection */
    PHASE_READ,
    PHASE_CONFIRM,
    PHASE_GAP,
    PHASE_LIVE,
};

struct catch_up {
    kvs_subscription base;
    struct es_listener listener;
    struct es_connection *connection;
    struct kvs_subscribe_options options;
    struct es_login login;
    kvs_event_filter filter; /* copied */
    struct task start_task;

    enum phase phase;
    bool has_last; /* it is known behind which event to go on */
    int64_t last_number;
    kvs_position last_position;
    int64_t read_number; /* where the next page begins */
    kvs_position read_position;
    kvs_position looked_at; /* up to here, by the last checkpoint of a filter */

    struct es_call read;
    bool reading;    /* it is under way */
    bool page_ready; /* it has ended and waits to be given */
    struct batch live;
    bool live_has_checkpoint; /* behind all events of `live` */
    kvs_position live_checkpoint;
    struct batch given;
    bool given_has_checkpoint;
    kvs_position given_checkpoint;
    bool is_deleted; /* the event that deletes the stream is in `given` or before */
    int failed;      /* drop with this as soon as the handler has nothing */
    char why[200];
};

static struct catch_up *catch_up_of(kvs_subscription *subscription)
{
    return CONTAINER_OF(subscription, struct catch_up, base);
}

static struct catch_up *catch_up_of_listener(struct es_listener *listener)
{
    return CONTAINER_OF(listener, struct catch_up, listener);
}

static bool is_all(const struct catch_up *up)
{
    return up->options.stream.size == 0;
}

static void catch_up_want_work(struct catch_up *up)
{
    es_connection_want_work(up->connection, &up->listener);
}

static void catch_up_fail(struct catch_up *up, int error, const char *why)
{
    if (up->failed == 0) {
        up->failed = error;
        snprintf(up->why, sizeof up->why, "%s", why);
    }
    catch_up_want_work(up);
}

/* What the server has pushed is let go of. */
static void drop_live(struct catch_up *up)
{
    batch_deinit(&up->live);
    up->live_has_checkpoint = false;
}

/* --- the end -----------------------------------------------------------------------------------
 */

static void catch_up_end(struct catch_up *up, int error, const char *why)
{
    if (up->reading)
        es_call_abandon(&up->read);
    else if (up->page_ready)
        es_call_deinit(&up->read);
    up->reading = up->page_ready = false;
    batch_deinit(&up->live);
    es_connection_remove(up->connection, &up->listener);
    subscription_drop(&up->base, error, why);
}

static void catch_up_stop(kvs_subscription *subscription)
{
    struct catch_up *up = catch_up_of(subscription);
    if (up->phase >= PHASE_CONFIRM)
        es_connection_tell(up->connection, &up->listener, ES_UNSUBSCRIBE_FROM_STREAM, &up->login,
                           NULL);
    catch_up_end(up, 0, "");
}

static void catch_up_on_closed(struct es_listener *listener, int error, const char *why)
{
    struct catch_up *up = catch_up_of_listener(listener);
    /* The connection has let go of its calls or will; ours must not come back to freed memory. */
    catch_up_end(up, error, why);
}

static void catch_up_free(kvs_subscription *subscription)
{
    struct catch_up *up = catch_up_of(subscription);
    batch_deinit(&up->given);
    batch_deinit(&up->live);
    es_login_deinit(&up->login);
    mem_free((void *)(uintptr_t)up->filter.patterns);
    mem_free((void *)(uintptr_t)up->options.stream.data);
    mem_free(up);
}

/* --- reading pages -----------------------------------------------------------------------------
 */

static void catch_up_on_page(struct events_call *call)
{
    struct catch_up *up = CONTAINER_OF(call, struct catch_up, read.base);
    up->reading = false;
    up->page_ready = true;
    catch_up_want_work(up);
}

static void catch_up_read(struct catch_up *up)
{
    if (up->reading || up->page_ready)
        return;
    const struct events_request request = {
        .kind = is_all(up) ? EVENTS_READ_ALL : EVENTS_READ_STREAM,
        .stream = up->options.stream,
        .number = up->read_number,
        .position = up->read_position,
        .count = up->options.page_count,
        .flags = up->options.resolve_links ? KVS_READ_RESOLVE_LINKS : 0,
        .filter = up->options.filter,
        .options = {.timeout_ms = UINT32_MAX, .any_node = true},
    };
    up->read = (struct es_call){.base.done = catch_up_on_page};
    es_call_prepare(&up->read, up->connection, &request);
    up->read.shared_login = &up->login;
    up->reading = true;
    es_connection_submit_here(&up->read);
}

static void move_on(kvs_position *position, kvs_position to)
{
    if (kvs_position_compare(to, *position) > 0)
        *position = to;
}

/* Begins, or begins again, behind what was given last. */
static void catch_up_begin(struct catch_up *up)
{
    up->phase = PHASE_READ;
    if (up->reading || up->page_ready)
        return; /* it goes on with that */
    if (!is_all(up) && up->has_last && up->last_number == KVS_EVENT_DELETED)
        return; /* nothing is behind that; it ends as soon as the handler is done */
    if (up->has_last) {
        if (!is_all(up))
            up->read_number = up->last_number + 1;
        move_on(&up->read_position, up->last_position);
    }
    move_on(&up->read_position, up->looked_at);
    catch_up_read(up);
}

static void catch_up_subscribe(struct catch_up *up)
{
    bool asked;
    if (up->options.filter != NULL) {
        struct es_filtered_subscribe_to_stream wire = {
            .resolve_link_tos = up->options.resolve_links,
            .checkpoint_interval = up->options.checkpoint_interval,
        };
        request_set_filter(up->options.filter, &wire.filter);
        asked = es_connection_ask(up->connection, &up->listener, ES_FILTERED_SUBSCRIBE, &up->login,
                                  &wire);
    } else {
        const struct es_subscribe_to_stream wire = {
            .event_stream_id = up->options.stream,
            .resolve_link_tos = up->options.resolve_links,
        };
        asked = es_connection_ask(up->connection, &up->listener, ES_SUBSCRIBE_TO_STREAM, &up->login,
                                  &wire);
    }
    up->phase = asked ? PHASE_CONFIRM : PHASE_WAIT;
}

/* --- what was given ----------------------------------------------------------------------------
 */

static bool is_new(const struct catch_up *up, const kvs_resolved_event *event)
{
    if (!up->has_last)
        return true;
    if (is_all(up))
        return kvs_position_compare(event->position, up->last_position) > 0;
    return kvs_original_event(event)->number > up->last_number;
}

/* Leaves out what was given before, and notes what now is. */
static void catch_up_note(struct catch_up *up, struct batch *batch)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        const kvs_resolved_event *event = &batch->events[i];
        if (!is_new(up, event))
            continue;
        up->has_last = true;
        up->last_number = kvs_original_event(event)->number;
        up->last_position = event->position;
        if (!is_all(up) && up->last_number == KVS_EVENT_DELETED)
            up->is_deleted = true;
        batch->events[kept++] = *event;
    }
    batch->count = kept;
}

/* A live one may have waited for a page that led further. */
static bool checkpoint_is_new(const struct catch_up *up)
{
    return up->given_has_checkpoint &&
           kvs_position_compare(up->given_checkpoint, up->looked_at) > 0 &&
           (!up->has_last || kvs_position_compare(up->given_checkpoint, up->last_position) >= 0);
}

/* The batch is done with. */
static void catch_up_on_given(struct catch_up *up)
{
    batch_deinit(&up->given);
    bool has_checkpoint = checkpoint_is_new(up);
    up->given_has_checkpoint = false;
    if (has_checkpoint) {
        up->looked_at = up->given_checkpoint;
        if (up->base.handlers.on_checkpoint != NULL && !subscription_is_stopping(&up->base))
            up->base.handlers.on_checkpoint(&up->base, up->given_checkpoint, up->base.arg);
    }
}

static void catch_up_resumed(kvs_subscription *subscription)
{
    struct catch_up *up = catch_up_of(subscription);
    catch_up_on_given(up);
    catch_up_want_work(up);
}

/* Gives `batch`, which is taken; true when the handler is done with it. */
static bool catch_up_give(struct catch_up *up, struct batch *batch)
{
    up->given = *batch;
    *batch = (struct batch){0};
    if (up->given.count > 0 && !subscription_give(&up->base, up->given.events, up->given.count))
        return false;
    catch_up_on_given(up);
    return true;
}

/* --- pages -------------------------------------------------------------------------------------
 */

/* All up to before `next` was looked at: an earlier server says the last one looked at instead. So
 * what is certain is the position right before it, with the same commit position: EventStoreDB
 * reads only from where a record begins. Where it leads behind a record its prepare position is 0,
 * before which there is none. */
static void note_page_checkpoint(struct catch_up *up, kvs_position next)
{
    if (up->options.filter == NULL || next.commit < 1 || next.prepare < 0)
        return;
    kvs_position position = {next.commit, next.prepare > 0 ? next.prepare - 1 : 0};
    if (up->has_last && kvs_position_compare(position, up->last_position) < 0)
        position = up->last_position;
    up->given_has_checkpoint = true;
    up->given_checkpoint = position;
}

/* Returns false when the server leads us in a circle. */
static bool catch_up_advance(struct catch_up *up, const kvs_event_page *page)
{
    bool on = is_all(up) ? kvs_position_compare(page->next_position, up->read_position) > 0
                         : page->next_number > up->read_number;
    if (on) {
        up->read_number = page->next_number;
        up->read_position = page->next_position;
    }
    return on || page->is_end;
}

static void catch_up_on_page_error(struct catch_up *up, int error)
{
    switch (error) {
    case KVS_ERR_CONNECTION_LOST:
    case KVS_ERR_CONNECT:
    case KVS_ERR_TIMEOUT:
    case KVS_ERR_BUSY:
        if (up->phase >= PHASE_CONFIRM)
            es_connection_tell(up->connection, &up->listener, ES_UNSUBSCRIBE_FROM_STREAM,
                               &up->login, NULL);
        es_connection_forget(up->connection, &up->listener);
        drop_live(up);
        up->phase = PHASE_WAIT; /* tried often enough; again a little later */
        up->listener.wants_retry = true;
        break;
    default:
        catch_up_fail(up, error,
                      up->read.base.message[0] != '\0' ? up->read.base.message
                                                       : kvs_error_text(error));
    }
}

/* A page is there and the handler has nothing. Returns false when the handler keeps it. */
static bool catch_up_take_page(struct catch_up *up)
{
    struct events_call *call = &up->read.base;
    int error = call->error;
    kvs_event_page page = call->page;
    struct batch batch = {0};
    bool going = true;
    up->page_ready = false;
    if (error == KVS_ERR_NO_STREAM) { /* it may come to be */
        page = (kvs_event_page){.is_end = true, .next_number = up->read_number};
        error = 0;
    } else if (error == 0) {
        batch = call->batch;
        call->batch = (struct batch){0};
        going = catch_up_advance(up, &page);
    }
    if (error != 0)
        catch_up_on_page_error(up, error);
    es_call_deinit(&up->read);
    if (error == 0 && !going)
        catch_up_fail(up, KVS_ERR_PROTOCOL, "the server's pages do not go on");
    if (error != 0 || !going) {
        batch_deinit(&batch);
        return true;
    }
    catch_up_note(up, &batch);
    note_page_checkpoint(up, page.next_position);
    if (!page.is_end)
        catch_up_read(up); /* the next one comes while the handler is at work */
    else if (up->phase == PHASE_GAP)
        up->phase = PHASE_LIVE;
    else
        catch_up_subscribe(up);
    return catch_up_give(up, &batch);
}

static bool catch_up_take_live(struct catch_up *up)
{
    up->given_has_checkpoint = up->live_has_checkpoint;
    up->given_checkpoint = up->live_checkpoint;
    up->live_has_checkpoint = false;
    catch_up_note(up, &up->live);
    return catch_up_give(up, &up->live);
}

/* --- the end of a turn -------------------------------------------------------------------------
 */

static void catch_up_tell_state(struct catch_up *up)
{
    if (!up->connection->ready && up->base.told != 0)
        subscription_tell(&up->base, KVS_SUBSCRIPTION_WAITING);
    else if (up->phase == PHASE_READ && up->connection->ready)
        subscription_tell(&up->base, KVS_SUBSCRIPTION_CATCHING_UP);
}

static void catch_up_on_work(struct es_listener *listener)
{
    struct catch_up *up = catch_up_of_listener(listener);
    subscription_hold(&up->base); /* a handler may free it */
    catch_up_tell_state(up);
    while (!subscription_is_giving(&up->base) && !subscription_is_stopping(&up->base) &&
           up->failed == 0 && !up->is_deleted) {
        if (up->page_ready)
            catch_up_take_page(up);
        else if (up->phase == PHASE_LIVE && up->base.told != KVS_SUBSCRIPTION_LIVE)
            subscription_tell(&up->base, KVS_SUBSCRIPTION_LIVE);
        else if (up->phase == PHASE_LIVE && (up->live.count > 0 || up->live_has_checkpoint))
            catch_up_take_live(up);
        else
            break;
    }
    if (!subscription_is_giving(&up->base) && !subscription_is_stopping(&up->base)) {
        if (up->is_deleted)
            catch_up_end(up, KVS_ERR_STREAM_DELETED, kvs_error_text(KVS_ERR_STREAM_DELETED));
        else if (up->failed != 0)
            catch_up_end(up, up->failed, up->why);
    }
    subscription_release(&up->base);
}

/* --- what the server pushes --------------------------------------------------------------------
 */

static void catch_up_on_confirmation(struct catch_up *up, kvs_slice body)
{
    struct es_subscription_confirmation wire;
    if (up->phase != PHASE_CONFIRM ||
        es_message_decode(body, &es_subscription_confirmation_type, &wire) != 0) {
        catch_up_fail(up, KVS_ERR_PROTOCOL, "the server confirmed what was not asked");
        return;
    }
    if (!up->has_last && up->options.from == KVS_SUBSCRIBE_FROM_END) {
        up->has_last = true;
        up->last_number = wire.has_last_event_number ? wire.last_event_number : -1;
        up->last_position = (kvs_position){wire.last_commit_position, wire.last_commit_position};
        up->phase = PHASE_LIVE;
        if (!is_all(up) && up->last_number == KVS_EVENT_DELETED)
            catch_up_fail(up, KVS_ERR_STREAM_DELETED, kvs_error_text(KVS_ERR_STREAM_DELETED));
        catch_up_want_work(up);
        return;
    }
    up->phase = PHASE_GAP;
    catch_up_read(up);
}

/* The handler is slower than the events come. */
static void catch_up_fall_back(struct catch_up *up)
{
    es_connection_tell(up->connection, &up->listener, ES_UNSUBSCRIBE_FROM_STREAM, &up->login, NULL);
    es_connection_forget(up->connection, &up->listener);
    drop_live(up);
    if (up->options.is_volatile) {
        catch_up_fail(up, KVS_ERR_BUSY, "the handler is slower than the events come");
        return;
    }
    catch_up_begin(up);
    catch_up_want_work(up);
}

static void catch_up_on_event(struct catch_up *up, kvs_slice body)
{
    if (up->phase < PHASE_GAP)
        return;
    int error = reply_take_event(&up->live, body);
    if (error != 0) {
        catch_up_fail(up, error, "an event that the server pushed cannot be kept");
        return;
    }
    up->live_has_checkpoint = false; /* the event itself is the better one */
    if (up->live.count > up->options.buffer_count ||
        up->live.size_bytes > up->options.buffer_size_bytes)
        catch_up_fall_back(up);
    else if (up->phase == PHASE_LIVE)
        catch_up_want_work(up);
}

static void catch_up_on_checkpoint(struct catch_up *up, kvs_slice body)
{
    struct es_checkpoint_reached wire;
    if (up->phase < PHASE_GAP)
        return;
    if (es_message_decode(body, &es_checkpoint_reached_type, &wire) != 0) {
        catch_up_fail(up, KVS_ERR_PROTOCOL, "a checkpoint of the server cannot be read");
        return;
    }
    up->live_has_checkpoint = true;
    up->live_checkpoint = (kvs_position){wire.commit_position, wire.prepare_position};
    catch_up_want_work(up);
}

static void catch_up_on_server_drop(struct catch_up *up, kvs_slice body)
{
    struct es_subscription_dropped wire;
    if (es_message_decode(body, &es_subscription_dropped_type, &wire) != 0)
        wire.reason = ES_DROP_UNSUBSCRIBED;
    es_connection_forget(up->connection, &up->listener);
    if (wire.reason == ES_DROP_ACCESS_DENIED) {
        catch_up_fail(up, KVS_ERR_ACCESS_DENIED, kvs_error_text(KVS_ERR_ACCESS_DENIED));
    } else if (wire.reason == ES_DROP_NOT_FOUND) {
        catch_up_fail(up, KVS_ERR_NOT_FOUND, "the server does not know the subscription");
    } else if (up->options.is_volatile) {
        catch_up_fail(up, KVS_ERR_CONNECTION_LOST, "the server ended the subscription");
    } else {
        drop_live(up);
        up->phase = PHASE_WAIT;
        up->listener.wants_retry = true;
    }
}

static void catch_up_on_frame(struct slot_owner *owner, const struct es_frame *frame)
{
    struct catch_up *up = CONTAINER_OF(owner, struct catch_up, listener.owner);
    switch (frame->command) {
    case ES_SUBSCRIPTION_CONFIRMATION:
        catch_up_on_confirmation(up, frame->body);
        break;
    case ES_STREAM_EVENT_APPEARED:
        catch_up_on_event(up, frame->body);
        break;
    case ES_CHECKPOINT_REACHED:
        catch_up_on_checkpoint(up, frame->body);
        break;
    case ES_SUBSCRIPTION_DROPPED:
        catch_up_on_server_drop(up, frame->body);
        break;
    case ES_NOT_HANDLED:
        up->phase = PHASE_WAIT;
        es_connection_not_handled(up->connection, &up->listener, frame->body);
        break;
    case ES_NOT_AUTHENTICATED:
        catch_up_fail(up, KVS_ERR_NOT_AUTHENTICATED, kvs_error_text(KVS_ERR_NOT_AUTHENTICATED));
        break;
    case ES_BAD_REQUEST:
        catch_up_fail(up, KVS_ERR_INVALID_ARGUMENT, "the server refused the subscription");
        break;
    default:
        catch_up_fail(up, KVS_ERR_PROTOCOL, "the server sent what belongs to no subscription");
    }
}

/* --- the connection ----------------------------------------------------------------------------
 */

static void catch_up_on_ready(struct es_listener *listener)
{
    struct catch_up *up = catch_up_of_listener(listener);
    listener->wants_retry = false;
    if (up->phase == PHASE_WAIT && !up->has_last && up->options.from == KVS_SUBSCRIBE_FROM_END)
        catch_up_subscribe(up);
    else if (up->phase == PHASE_WAIT)
        catch_up_begin(up);
    catch_up_want_work(up);
}

static void catch_up_on_lost(struct es_listener *listener, int error, const char *why)
{
    struct catch_up *up = catch_up_of_listener(listener);
    drop_live(up);
    up->listener.wants_retry = false;
    if (up->options.is_volatile && up->has_last)
        catch_up_fail(up, error == KVS_ERR_TIMEOUT ? error : KVS_ERR_CONNECTION_LOST, why);
    /* A page that is under way is asked for again by the operation manager. */
    up->phase = up->reading || up->page_ready ? PHASE_READ : PHASE_WAIT;
    catch_up_want_work(up);
}

static void catch_up_on_start(struct task *task)
{
    struct catch_up *up = CONTAINER_OF(task, struct catch_up, start_task);
    if (!subscription_has_ended(&up->base)) /* stopped before it began */
        es_connection_add(up->connection, &up->listener);
    subscription_release(&up->base);
}

/* --- starting ----------------------------------------------------------------------------------
 */

static int catch_up_copy_filter(struct catch_up *up, const kvs_event_filter *filter)
{
    size_t size = filter->patterns_count * sizeof(kvs_slice);
    size_t texts = 0;
    for (size_t i = 0; i < filter->patterns_count; i++)
        texts += filter->patterns[i].size;
    kvs_slice *patterns = mem_alloc(size + texts);
    if (patterns == NULL)
        return KVS_ERR_NO_MEMORY;
    uint8_t *at = (uint8_t *)patterns + size;
    for (size_t i = 0; i < filter->patterns_count; i++) {
        memcpy(at, filter->patterns[i].data, filter->patterns[i].size);
        patterns[i] = slice_make(at, filter->patterns[i].size);
        at += filter->patterns[i].size;
    }
    up->filter = *filter;
    up->filter.patterns = patterns;
    up->options.filter = &up->filter;
    return 0;
}

static int catch_up_copy_options(struct catch_up *up, const struct kvs_subscribe_options *options)
{
    up->options = *options;
    up->options.login = up->options.password = NULL;
    up->options.filter = NULL;
    up->options.stream.data = mem_copy(options->stream.data, options->stream.size);
    if (up->options.stream.data == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = es_login_copy(&up->login, options->login, options->password);
    if (error == 0 && options->filter != NULL)
        error = catch_up_copy_filter(up, options->filter);
    return error;
}

static const struct subscription_methods catch_up_methods = {
    .resumed = catch_up_resumed,
    .stop = catch_up_stop,
    .free = catch_up_free,
};

int catch_up_start(struct es_connection *connection, const struct kvs_subscribe_options *options,
                   const struct kvs_subscription_handlers *handlers, void *arg,
                   kvs_subscription **ret_subscription)
{
    struct catch_up *up = mem_zalloc(sizeof *up);
    if (up == NULL)
        return KVS_ERR_NO_MEMORY;
    subscription_init(&up->base, &catch_up_methods, connection->config.loop, handlers, arg);
    up->connection = connection;
    up->listener = (struct es_listener){
        .owner.on_frame = catch_up_on_frame,
        .on_ready = catch_up_on_ready,
        .on_lost = catch_up_on_lost,
        .on_work = catch_up_on_work,
        .on_closed = catch_up_on_closed,
    };
    es_listener_init(&up->listener);
    if (catch_up_copy_options(up, options) != 0) {
        catch_up_free(&up->base);
        return KVS_ERR_NO_MEMORY;
    }
    if (options->from == KVS_SUBSCRIBE_AFTER) {
        up->has_last = true;
        up->last_number = options->after_number;
        up->last_position = options->after_position;
    }
    *ret_subscription = &up->base;
    subscription_hold(&up->base); /* the task's */
    up->start_task.run = catch_up_on_start;
    loop_post(connection->config.loop, &up->start_task);
    return 0;
}

/* client/eventstore/connection.c: see the header for the life of a call. */
#include "client/eventstore/connection.h"

#include "base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Requests stop being framed when so much is waiting for the socket. */
#define UNWRITTEN_MAX (1024u * 1024)
/* A node that is not ready or too busy is left alone for so long. */
#define PAUSE_MS 100u
#define CLIENT_VERSION 1
/* What a node did not take of a subscription is asked for again in that time, or earlier. */
#define TICK_MS_MAX 1000u
#define TICK_MS_MIN 10u
/* Nothing for so long is worth a word when a call has got no answer. */
#define SILENCE_MS 500u

static void connection_close_on(struct es_connection *connection);

static struct es_connection *connection_of(struct link *link)
{
    return CONTAINER_OF(link, struct es_connection, link);
}

/* Has the turn end come (again), also when nothing else happens on the loop. */
static void connection_wake(struct es_connection *connection)
{
    if (connection->woken)
        return;
    connection->woken = true;
    loop_post(connection->config.loop, &connection->wake_task);
}

static void connection_on_wake(struct task *task)
{
    CONTAINER_OF(task, struct es_connection, wake_task)->woken = false;
}

static void connection_tell_user(struct es_connection *connection, enum kvs_connection_state state,
                                 int error, const char *why)
{
    const struct kvs_connection_event event = {
        .state = state,
        .error = error,
        .why = why,
        .node = connection->link.name,
        .failures = connection->link.failures,
    };
    connection->config.on_event(connection, &event);
}

/* --- the end of a call -------------------------------------------------------------------------
 */

static struct es_call *call_of(struct operation *operation)
{
    return CONTAINER_OF(operation, struct es_call, operation);
}

/* The manager and the slots know it no more. */
static void call_finish(struct es_call *call, int error, const char *why)
{
    if (why != NULL && why[0] != '\0')
        snprintf(call->base.message, sizeof call->base.message, "%.*s",
                 (int)sizeof call->base.message - 1, why);
    buf_deinit(&call->body);
    es_login_deinit(&call->login);
    events_call_finish(&call->base, error);
}

/* It ends without a reply to its last attempt. */
static void call_give_up(struct es_call *call, int error, const char *why)
{
    if (call->may_have_happened && events_kind_is_write(call->base.kind))
        error = KVS_ERR_OUTCOME_UNKNOWN;
    call_finish(call, error, why);
}

/* A read that nobody answered is asked again: an answer that comes late finds nobody. */
static bool call_goes_on(struct operations *operations, struct es_call *call, uint64_t now_ms)
{
    if (call->deadline_ms <= now_ms || call->cancelled || !call->wire->repeatable)
        return false;
    call->operation.deadline_ms = call->deadline_ms;
    if (operations_add(operations, &call->operation) != 0)
        return false;
    return true;
}

static void connection_on_give_up(struct operations *operations, struct operation *operation,
                                  bool was_sent, int error, const char *why)
{
    struct es_connection *connection = CONTAINER_OF(operations, struct es_connection, operations);
    struct es_call *call = call_of(operation);
    if (!was_sent && error == KVS_ERR_TIMEOUT && connection->ready)
        why = "not sent in time: calls before it wait for their answers, or the server takes none";
    if (was_sent) {
        slots_give(&connection->slots, &call->owner);
        call->may_have_happened = true;
        if (error == KVS_ERR_TIMEOUT && !connection->closing &&
            call_goes_on(operations, call, loop_now_ms(connection->config.loop)))
            return;
    }
    call_give_up(call, error, why);
}

/* --- calls -------------------------------------------------------------------------------------
 */

int es_login_copy(struct es_login *login, const char *name, const char *password)
{
    *login = (struct es_login){0};
    if (name == NULL)
        return 0;
    if (password == NULL)
        password = "";
    size_t name_size = strlen(name);
    size_t password_size = strlen(password);
    login->memory = mem_alloc(name_size + password_size + 1);
    if (login->memory == NULL)
        return KVS_ERR_NO_MEMORY;
    memcpy(login->memory, name, name_size);
    memcpy(login->memory + name_size, password, password_size);
    login->credentials.login = slice_make(login->memory, name_size);
    login->credentials.password = slice_make(login->memory + name_size, password_size);
    return 0;
}

void es_login_deinit(struct es_login *login)
{
    mem_free(login->memory);
    *login = (struct es_login){0};
}

static void call_on_frame(struct slot_owner *owner, const struct es_frame *frame);

void es_call_prepare(struct es_call *call, struct es_connection *connection,
                     const struct events_request *request)
{
    call->base.kind = request->kind;
    call->connection = connection;
    call->owner = (struct slot_owner){.on_frame = call_on_frame, .slot = SLOT_NONE};
    call->wire = request_wire_of(request);
    call->count_max = request->count;
    call->expects_number = request->kind == EVENTS_APPEND && request->number >= 0;
    call->timeout_ms = request->options.timeout_ms != 0 ? request->options.timeout_ms
                                                        : connection->config.timeout_ms;
    call->refused = call->wire == NULL ? KVS_ERR_UNSUPPORTED : 0;
    if (call->refused == 0)
        call->refused =
            es_login_copy(&call->login, request->options.login, request->options.password);
    if (call->refused == 0)
        call->refused = request_encode(request, &call->body);
    if (call->body.size + ES_FRAME_HEAD_SIZE > ES_FRAME_LENGTH_MAX - 1024)
        call->refused = KVS_ERR_TOO_LARGE;
}

static void call_on_submit(struct task *task)
{
    struct es_call *call = CONTAINER_OF(task, struct es_call, task);
    struct es_connection *connection = call->connection;
    uint64_t now_ms = loop_now_ms(connection->config.loop);
    call->arrived = true;
    int error = call->cancelled ? KVS_ERR_CANCELLED : call->refused;
    if (connection->closing || connection->given_up != 0)
        error = KVS_ERR_CLOSED;
    if (error != 0) {
        call_finish(call, error, error == KVS_ERR_CLOSED ? connection->trouble : NULL);
        return;
    }
    call->deadline_ms = call->timeout_ms != UINT32_MAX ? now_ms + call->timeout_ms : UINT64_MAX;
    call->operation.deadline_ms = call->deadline_ms;
    call->operation.size_bytes = call->body.size + sizeof *call;
    call->operation.repeatable = call->wire->repeatable;
    error = operations_add(&connection->operations, &call->operation);
    if (error != 0)
        call_finish(call, error, "too many calls wait for this connection");
}

void es_connection_submit(struct es_call *call)
{
    call->task.run = call_on_submit;
    loop_post(call->connection->config.loop, &call->task);
}

void es_connection_submit_here(struct es_call *call)
{
    call_on_submit(&call->task);
    connection_wake(call->connection);
}

void es_call_cancel(struct es_call *call)
{
    struct es_connection *connection = call->connection;
    call->cancelled = true;
    if (!call->arrived || call->operation.state == OPERATION_IDLE)
        return;
    if (call->operation.state == OPERATION_SENT) {
        call->may_have_happened = true;
        slots_give(&connection->slots, &call->owner);
    }
    operations_take(&connection->operations, &call->operation);
    call_give_up(call, KVS_ERR_CANCELLED, NULL);
}

void es_call_abandon(struct es_call *call)
{
    struct es_connection *connection = call->connection;
    assert(call->arrived && call->operation.state != OPERATION_IDLE);
    slots_give(&connection->slots, &call->owner);
    operations_take(&connection->operations, &call->operation);
    es_call_deinit(call);
}

void es_call_deinit(struct es_call *call)
{
    buf_deinit(&call->body);
    es_login_deinit(&call->login);
    events_call_deinit(&call->base);
}

/* --- sending -----------------------------------------------------------------------------------
 */

static int connection_send_call(struct es_connection *connection, struct es_call *call)
{
    struct es_id id;
    const struct es_login *login = call->shared_login != NULL ? call->shared_login : &call->login;
    int error = slots_take(&connection->slots, &call->owner, &id);
    if (error == 0)
        error = es_frame_append(&connection->link.out, call->wire->command, &id,
                                es_login_credentials(login), buf_slice(&call->body));
    if (error != 0)
        slots_give(&connection->slots, &call->owner);
    return error;
}

static void connection_send_waiting(struct es_connection *connection)
{
    uint64_t now_ms = loop_now_ms(connection->config.loop);
    struct operation *operation;
    while (connection->ready && now_ms >= connection->paused_until_ms &&
           connection->slots.taken < connection->config.in_flight_max &&
           link_unwritten(&connection->link) < UNWRITTEN_MAX &&
           (operation = operations_first_waiting(&connection->operations)) != NULL) {
        struct es_call *call = call_of(operation);
        int error = connection_send_call(connection, call);
        if (error != 0) {
            operations_take(&connection->operations, operation);
            call_give_up(call, error, NULL);
            continue;
        }
        operations_sent(&connection->operations, operation);
        uint64_t retry_ms = now_ms + connection->config.attempt_timeout_ms;
        if (call->wire->repeatable && !events_kind_is_write(call->base.kind) &&
            retry_ms < call->deadline_ms)
            operations_set_deadline(&connection->operations, operation, retry_ms);
    }
}

/* --- replies -----------------------------------------------------------------------------------
 */

/* Back to the front of what waits, for another attempt. */
static void call_again(struct es_call *call)
{
    struct es_connection *connection = call->connection;
    batch_deinit(&call->base.batch);
    operations_put_back(&connection->operations, &call->operation);
    operations_set_deadline(&connection->operations, &call->operation, call->deadline_ms);
}

/* REPLY_AGAIN: the node took it and did not see it through in its time. */
static void call_on_indecision(struct es_call *call)
{
    call->may_have_happened = true;
    if (call->wire->repeatable && call->operation.attempts < ES_ATTEMPTS_MAX) {
        call_again(call);
        return;
    }
    operations_take(&call->connection->operations, &call->operation);
    call_give_up(call, KVS_ERR_TIMEOUT, "the server gave up waiting for its own disk or cluster");
}

/* Another node takes what this one did not. False: there is none: it may become the leader. */
static bool connection_go_elsewhere(struct es_connection *connection, const struct reply_node *node)
{
    if (node->host[0] == '\0') {
        if (!discover_skip(&connection->discover))
            return false;
    } else {
        discover_prefer(&connection->discover, node->host, node->port);
    }
    char why[300];
    snprintf(why, sizeof why, "it is not the leader%s%s",
             node->host[0] != '\0' ? ", which is " : "", node->host);
    link_fail(&connection->link, KVS_ERR_CONNECTION_LOST, why);
    return true;
}

static void call_on_redirect(struct es_call *call, const struct reply_node *node)
{
    struct es_connection *connection = call->connection;
    call_again(call);
    if (!connection_go_elsewhere(connection, node))
        connection->paused_until_ms = loop_now_ms(connection->config.loop) + PAUSE_MS;
}

/*
 * May what is refused now have been done by an earlier attempt? A server that finds another event
 * behind the expected number has compared ids: no. Any other refusal tells of the stream as it is
 * now: deleted since, recreated by that very attempt, or with other rights.
 */
static bool refusal_is_doubtful(const struct es_call *call)
{
    bool refused = call->base.error != 0 && events_kind_is_write(call->base.kind);
    bool compared = call->base.error == KVS_ERR_WRONG_EXPECTED_VERSION && call->expects_number;
    return refused && call->may_have_happened && !compared;
}

static void call_on_answer(struct es_call *call)
{
    int error = call->base.error;
    operations_take(&call->connection->operations, &call->operation);
    if (error == KVS_ERR_PROTOCOL || error == KVS_ERR_NO_MEMORY) {
        call->may_have_happened = true; /* it said something, but what? */
        call_give_up(call, error, NULL);
    } else if (refusal_is_doubtful(call)) {
        call_give_up(call, error, "refused when sent again: the first attempt may have done it");
    } else {
        call_finish(call, error, NULL);
    }
}

static void call_on_frame(struct slot_owner *owner, const struct es_frame *frame)
{
    struct es_call *call = CONTAINER_OF(owner, struct es_call, owner);
    struct es_connection *connection = call->connection;
    const struct reply_question question = {
        .command = call->wire->reply,
        .count_max = call->count_max,
        .is_tls = connection->config.tls != NULL,
    };
    struct reply_node node;
    slots_give(&connection->slots, owner);
    switch (reply_take(&call->base, &question, frame, &node)) {
    case REPLY_DONE:
        call_on_answer(call);
        break;
    case REPLY_LATER:
        connection->paused_until_ms = loop_now_ms(connection->config.loop) + PAUSE_MS;
        call_again(call);
        break;
    case REPLY_AGAIN:
        call_on_indecision(call);
        break;
    case REPLY_ELSEWHERE:
        call_on_redirect(call, &node);
        break;
    }
}

/* --- the greeting ------------------------------------------------------------------------------
 */

static void connection_on_connected(struct link *link)
{
    struct es_connection *connection = connection_of(link);
    const struct es_credentials *credentials = es_login_credentials(connection->config.login);
    slots_reset(&connection->slots);
    connection->received_ms = loop_now_ms(connection->config.loop);
    connection->greeting_id = (struct es_id){0};
    kvs_event_id random = kvs_event_id_random();
    memcpy(connection->greeting_id.bytes, random.bytes, sizeof random.bytes);
    connection->authenticated = credentials == NULL;
    connection->identified = false;
    es_heartbeat_init(&connection->heartbeat, connection->config.heartbeat_interval_ms,
                      connection->config.heartbeat_timeout_ms,
                      loop_now_ms(connection->config.loop));
    const struct es_identify_client identify = {
        .version = CLIENT_VERSION, .connection_name = slice_of_string(connection->config.name)};
    int error = 0;
    if (credentials != NULL)
        error = es_frame_append(&link->out, ES_AUTHENTICATE, &connection->greeting_id, credentials,
                                slice_make(NULL, 0));
    if (error == 0)
        error = es_send(&link->out, ES_IDENTIFY_CLIENT, &connection->greeting_id, NULL, &identify);
    if (error != 0)
        link_fail(link, error, "no memory for a connection");
    else
        connection_wake(connection); /* the turn end writes it */
}

static void connection_on_greeted(struct es_connection *connection)
{
    if (!connection->authenticated || !connection->identified || connection->ready)
        return;
    connection->ready = true;
    connection->trouble[0] = '\0';
    connection->paused_until_ms = 0;
    link_established(&connection->link);
    discover_on_established(&connection->discover);
    connection_tell_user(connection, KVS_CONNECTION_READY, 0, "");
    struct list *node = connection->listeners.next;
    while (node != &connection->listeners) {
        struct es_listener *listener = list_entry(node, struct es_listener, node);
        node = node->next;
        listener->on_ready(listener);
    }
}

static void connection_fail_with_text(struct es_connection *connection, int error, const char *what,
                                      kvs_slice text)
{
    char why[200];
    size_t size = text.size < 100 ? text.size : 100;
    snprintf(why, sizeof why, "%s%s%.*s", what, size > 0 ? ": " : "", (int)size,
             size > 0 ? (const char *)text.data : "");
    for (char *at = why; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = '?';
    }
    link_fail(&connection->link, error, why);
}

static void connection_on_own_frame(struct es_connection *connection, const struct es_frame *frame)
{
    switch (frame->command) {
    case ES_AUTHENTICATED:
        connection->authenticated = true;
        connection_on_greeted(connection);
        break;
    case ES_CLIENT_IDENTIFIED:
        connection->identified = true;
        connection_on_greeted(connection);
        break;
    case ES_NOT_AUTHENTICATED:
        connection_fail_with_text(connection, KVS_ERR_NOT_AUTHENTICATED,
                                  kvs_error_text(KVS_ERR_NOT_AUTHENTICATED), frame->body);
        break;
    case ES_NOT_HANDLED:
        connection_fail_with_text(connection, KVS_ERR_CONNECTION_LOST, "the node is not ready",
                                  slice_make(NULL, 0));
        break;
    default:
        connection_fail_with_text(connection, KVS_ERR_PROTOCOL, "it refused the greeting",
                                  frame->command == ES_BAD_REQUEST ? frame->body
                                                                   : slice_make(NULL, 0));
    }
}

/* --- frames ------------------------------------------------------------------------------------
 */

static void connection_on_frame(struct es_connection *connection, const struct es_frame *frame)
{
    struct link *link = &connection->link;
    if (frame->command == ES_HEARTBEAT_REQUEST) {
        if (es_frame_append(&link->out, ES_HEARTBEAT_RESPONSE, &frame->correlation, NULL,
                            slice_make(NULL, 0)) != 0)
            link_fail(link, KVS_ERR_NO_MEMORY, "no memory to answer a heartbeat");
        return;
    }
    if (frame->command == ES_HEARTBEAT_RESPONSE)
        return; /* that something came is what it says */
    if (frame->command == ES_BAD_REQUEST && es_id_is_zero(&frame->correlation)) {
        /* It closes after that; what it says is the better reason. */
        connection_fail_with_text(connection,
                                  connection->ready ? KVS_ERR_CONNECTION_LOST : KVS_ERR_PROTOCOL,
                                  "the server ends the connection", frame->body);
        return;
    }
    if (es_id_equal(&frame->correlation, &connection->greeting_id)) {
        connection_on_own_frame(connection, frame);
        return;
    }
    struct slot_owner *owner = slots_find(&connection->slots, &frame->correlation);
    if (owner != NULL)
        owner->on_frame(owner, frame); /* else: late */
}

static size_t connection_on_bytes(struct link *link, kvs_slice in)
{
    struct es_connection *connection = connection_of(link);
    size_t taken = 0;
    connection->received_ms = loop_now_ms(connection->config.loop);
    for (;;) {
        struct es_frame frame;
        size_t size = 0;
        const char *why = "";
        kvs_slice rest = slice_make(in.data + taken, in.size - taken);
        int got = es_frame_decode(rest, ES_FRAME_LENGTH_MAX, &frame, &size, &why);
        if (got == ES_MORE)
            return taken;
        if (got != 0) {
            link_fail(link, KVS_ERR_PROTOCOL,
                      connection->ready
                          ? "it broke the protocol"
                          : "it does not speak the EventStoreDB TCP protocol; is this its TCP "
                            "port, and does it want TLS?");
            return 0;
        }
        connection_on_frame(connection, &frame);
        if (!link_is_connected(link))
            return 0;
        taken += size;
    }
}

/* --- loss --------------------------------------------------------------------------------------
 */

/* What was sent and waits again: the next attempt may find it done. */
static void connection_mark_sent(struct es_connection *connection)
{
    for (struct operation *at = connection->operations.sent.first; at != NULL; at = at->next)
        call_of(at)->may_have_happened = true;
}

static void connection_restore_deadlines(struct es_connection *connection)
{
    for (struct operation *at = connection->operations.waiting.first;
         at != NULL && at->attempts > 0; at = at->next)
        operations_set_deadline(&connection->operations, at, call_of(at)->deadline_ms);
}

static void connection_tell_lost(struct es_connection *connection, int error, const char *why)
{
    struct list *node = connection->listeners.next;
    while (node != &connection->listeners) {
        struct es_listener *listener = list_entry(node, struct es_listener, node);
        node = node->next;
        listener->on_lost(listener, error, why);
    }
}

static void connection_end_listeners(struct es_connection *connection, int error, const char *why)
{
    struct list *node;
    while ((node = list_pop(&connection->listeners)) != NULL) {
        struct es_listener *listener = list_entry(node, struct es_listener, node);
        list_remove(&listener->work_node);
        listener->on_closed(listener, error, why);
    }
}

/* No further attempts: everything ends with the reason. */
static void connection_give_up(struct es_connection *connection, int error, const char *why)
{
    connection->given_up = error;
    operations_fail_waiting(&connection->operations, error, why);
    connection_end_listeners(connection, error, why);
    link_close(&connection->link);
    connection_tell_user(connection, KVS_CONNECTION_CLOSED, error, why);
}

/* Another attempt will end as this one did, until somebody does something: nobody should wait. */
static bool is_lasting(int error)
{
    return error == KVS_ERR_PROTOCOL || error == KVS_ERR_NOT_AUTHENTICATED ||
           error == KVS_ERR_PERMISSION;
}

static void connection_on_lost(struct link *link, int error, const char *why)
{
    struct es_connection *connection = connection_of(link);
    bool was_ready = connection->ready;
    char trouble[sizeof connection->trouble];
    snprintf(trouble, sizeof trouble, "%s", why);
    memcpy(connection->trouble, trouble, sizeof trouble);
    connection->ready = false;
    discover_on_lost(&connection->discover, was_ready);
    connection_mark_sent(connection);
    operations_on_lost(&connection->operations, false, error, trouble);
    slots_reset(&connection->slots);
    connection_restore_deadlines(connection);
    if (was_ready)
        connection_tell_lost(connection, error, trouble);
    if (!was_ready && is_lasting(error))
        operations_fail_waiting(&connection->operations, error, trouble);
    connection_tell_user(connection, KVS_CONNECTION_LOST, error, trouble);
    uint32_t failures_max = connection->config.reconnects_max;
    if (failures_max > 0 && link->failures > failures_max && !connection->closing)
        connection_give_up(connection, error, trouble);
    connection_wake(connection);
}

static bool connection_on_attempt(struct link *link)
{
    struct es_connection *connection = connection_of(link);
    connection_tell_user(connection, KVS_CONNECTION_CONNECTING, 0, "");
    return discover_next(&connection->discover, link);
}

/* --- timers, the end of a turn -----------------------------------------------------------------
 */

/* Is it the call that takes long, or is nobody there? */
static void connection_describe_silence(const struct es_connection *connection, uint64_t now_ms,
                                        char *why, size_t size)
{
    uint64_t silent_ms = now_ms - connection->received_ms;
    if (silent_ms >= SILENCE_MS)
        snprintf(why, size, "%s: no answer in time; nothing has come from it for %llu ms",
                 connection->link.name, (unsigned long long)silent_ms);
    else
        snprintf(why, size, "%s: no answer in time, though the connection is alive",
                 connection->link.name);
}

static void connection_on_deadline(uv_timer_t *timer)
{
    struct es_connection *connection = timer->data;
    uint64_t now_ms = loop_now_ms(connection->config.loop);
    char why[sizeof connection->trouble + 32];
    connection->deadline_armed_ms = UINT64_MAX;
    if (connection->trouble[0] != '\0')
        snprintf(why, sizeof why, "no connection in time: %s", connection->trouble);
    else if (!connection->ready)
        snprintf(why, sizeof why, "no connection in time");
    else
        connection_describe_silence(connection, now_ms, why, sizeof why);
    operations_expire(&connection->operations, now_ms, why);
}

static void connection_arm_deadline(struct es_connection *connection)
{
    uint64_t due_ms = operations_due_ms(&connection->operations);
    uint64_t now_ms = loop_now_ms(connection->config.loop);
    if (connection->paused_until_ms > now_ms && connection->paused_until_ms < due_ms)
        due_ms = connection->paused_until_ms; /* then there is something to send */
    if (due_ms >= connection->deadline_armed_ms)
        return; /* armed for earlier, when more will be known */
    connection->deadline_armed_ms = due_ms;
    uv_timer_start(&connection->deadline_timer, connection_on_deadline,
                   due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

static uint64_t heartbeat_period_ms(const struct es_connection *connection)
{
    uint32_t shorter = connection->config.heartbeat_interval_ms;
    if (connection->config.heartbeat_timeout_ms < shorter)
        shorter = connection->config.heartbeat_timeout_ms;
    uint32_t period = shorter / 4;
    return period > TICK_MS_MAX ? TICK_MS_MAX : period < TICK_MS_MIN ? TICK_MS_MIN : period;
}

/* Subscriptions that the node did not take. */
static void connection_retry_listeners(struct es_connection *connection)
{
    struct list *node = connection->listeners.next;
    while (node != &connection->listeners && connection->ready) {
        struct es_listener *listener = list_entry(node, struct es_listener, node);
        node = node->next;
        if (listener->wants_retry) {
            listener->wants_retry = false;
            listener->on_ready(listener);
        }
    }
}

static void connection_on_heartbeat(uv_timer_t *timer)
{
    struct es_connection *connection = timer->data;
    struct link *link = &connection->link;
    connection_retry_listeners(connection);
    uint64_t now_ms = loop_now_ms(connection->config.loop);
    bool late = now_ms - connection->heartbeat_checked_ms > 2 * heartbeat_period_ms(connection);
    connection->heartbeat_checked_ms = now_ms;
    /* We were stopped, not the peer: what it sent meanwhile is read first. */
    if (!connection->ready || late)
        return;
    const struct es_heartbeat_traffic traffic = {
        .received = link->received_bytes,
        .queued = link->sent_bytes + link_unwritten(link),
        .written = link->sent_bytes,
        .reading = true,
    };
    char why[96];
    switch (es_heartbeat_check(&connection->heartbeat, &traffic, now_ms)) {
    case ES_HEARTBEAT_ASK:
        if (es_frame_append(&link->out, ES_HEARTBEAT_REQUEST, &connection->greeting_id, NULL,
                            slice_make(NULL, 0)) == 0)
            link_flush(link);
        break;
    case ES_HEARTBEAT_DEAD:
        snprintf(why, sizeof why, "heartbeat timeout: nothing came within %u ms",
                 connection->config.heartbeat_timeout_ms);
        link_fail(link, KVS_ERR_TIMEOUT, why);
        break;
    case ES_HEARTBEAT_NOTHING:
        break;
    }
}

static void connection_run_work(struct es_connection *connection)
{
    struct list work;
    struct list *node;
    list_init(&work);
    list_move(&work, &connection->work);
    while ((node = list_pop(&work)) != NULL) {
        struct es_listener *listener = list_entry(node, struct es_listener, work_node);
        listener->on_work(listener);
    }
    if (!list_empty(&connection->work))
        connection_wake(connection);
}

static void connection_on_turn_end(struct loop_hook *hook)
{
    struct es_connection *connection = CONTAINER_OF(hook, struct es_connection, turn_end);
    connection_run_work(connection);
    if (connection->closing && !connection->timers_closing)
        connection_close_on(connection);
    if (connection->closing)
        return;
    connection_send_waiting(connection);
    link_flush(&connection->link);
    connection_arm_deadline(connection);
}

/* --- subscriptions -----------------------------------------------------------------------------
 */

void es_listener_init(struct es_listener *listener)
{
    listener->owner.slot = SLOT_NONE;
    list_init(&listener->node);
    list_init(&listener->work_node);
}

void es_connection_add(struct es_connection *connection, struct es_listener *listener)
{
    if (connection->closing || connection->given_up != 0) {
        int error = connection->given_up != 0 ? connection->given_up : KVS_ERR_CLOSED;
        listener->on_closed(listener, error, connection->trouble);
        return;
    }
    list_append(&connection->listeners, &listener->node);
    if (connection->ready)
        listener->on_ready(listener);
}

void es_connection_remove(struct es_connection *connection, struct es_listener *listener)
{
    slots_give(&connection->slots, &listener->owner);
    list_remove(&listener->node);
    list_remove(&listener->work_node);
}

void es_connection_want_work(struct es_connection *connection, struct es_listener *listener)
{
    if (listener->work_node.next != &listener->work_node)
        return;
    list_append(&connection->work, &listener->work_node);
    connection_wake(connection);
}

static bool connection_send(struct es_connection *connection, const struct es_id *id,
                            uint8_t command, const struct es_login *login, const void *message)
{
    struct link *link = &connection->link;
    int error = message != NULL
                    ? es_send(&link->out, command, id, es_login_credentials(login), message)
                    : es_frame_append(&link->out, command, id, es_login_credentials(login),
                                      slice_make(NULL, 0));
    if (error != 0)
        link_fail(link, error, "no memory to send what a subscription has to say");
    else
        connection_wake(connection);
    return error == 0;
}

bool es_connection_ask(struct es_connection *connection, struct es_listener *listener,
                       uint8_t command, const struct es_login *login, const void *message)
{
    struct es_id id;
    if (!connection->ready)
        return false;
    slots_give(&connection->slots, &listener->owner);
    if (slots_take(&connection->slots, &listener->owner, &id) != 0) {
        link_fail(&connection->link, KVS_ERR_NO_MEMORY, "no memory for a subscription");
        return false;
    }
    return connection_send(connection, &id, command, login, message);
}

bool es_connection_tell(struct es_connection *connection, struct es_listener *listener,
                        uint8_t command, const struct es_login *login, const void *message)
{
    if (!connection->ready || listener->owner.slot == SLOT_NONE)
        return false;
    struct es_id id = slots_id(&connection->slots, listener->owner.slot);
    return connection_send(connection, &id, command, login, message);
}

void es_connection_forget(struct es_connection *connection, struct es_listener *listener)
{
    slots_give(&connection->slots, &listener->owner);
}

void es_connection_not_handled(struct es_connection *connection, struct es_listener *listener,
                               kvs_slice body)
{
    struct reply_node node;
    bool is_tls = connection->config.tls != NULL;
    es_connection_forget(connection, listener);
    listener->wants_retry = true;
    if (reply_take_not_handled(body, is_tls, &node) == REPLY_ELSEWHERE)
        (void)connection_go_elsewhere(connection, &node);
}

/* --- starting and closing ----------------------------------------------------------------------
 */

static void connection_on_all_closed(struct es_connection *connection)
{
    if (connection->timers > 0 || connection->woken)
        return;
    loop_remove_hook(connection->config.loop, &connection->turn_end);
    slots_deinit(&connection->slots);
    connection->config.on_closed(connection);
}

static void connection_on_wake_closing(struct task *task)
{
    struct es_connection *connection = CONTAINER_OF(task, struct es_connection, wake_task);
    connection->woken = false;
    connection_on_all_closed(connection);
}

static void connection_on_timer_closed(uv_handle_t *handle)
{
    struct es_connection *connection = handle->data;
    connection->timers--;
    connection_on_all_closed(connection);
}

/* Closing goes on at each turn end until all parts are gone. */
static void connection_close_on(struct es_connection *connection)
{
    if (!connection->link_closed || !connection->discover_closed)
        return;
    connection->timers_closing = true;
    connection->wake_task.run = connection_on_wake_closing;
    uv_close((uv_handle_t *)&connection->deadline_timer, connection_on_timer_closed);
    uv_close((uv_handle_t *)&connection->heartbeat_timer, connection_on_timer_closed);
}

static void connection_on_discover_closed(struct discover *discover)
{
    struct es_connection *connection = CONTAINER_OF(discover, struct es_connection, discover);
    connection->discover_closed = true;
    connection_wake(connection);
}

static void connection_on_link_closed(struct link *link)
{
    struct es_connection *connection = connection_of(link);
    connection->link_closed = true;
    connection_wake(connection);
}

static void connection_on_close(struct task *task)
{
    struct es_connection *connection = CONTAINER_OF(task, struct es_connection, close_task);
    const char *why = connection->trouble[0] != '\0' ? connection->trouble : "closed";
    connection->closing = true;
    connection_mark_sent(connection);
    operations_on_lost(&connection->operations, false, KVS_ERR_CLOSED, why);
    operations_fail_waiting(&connection->operations, KVS_ERR_CLOSED, why);
    connection_end_listeners(connection, KVS_ERR_CLOSED, "closed");
    connection->ready = false;
    if (connection->given_up == 0)
        connection_tell_user(connection, KVS_CONNECTION_CLOSED, 0, "");
    discover_close(&connection->discover, connection_on_discover_closed);
    link_close(&connection->link);
    connection_wake(connection);
}

void es_connection_close(struct es_connection *connection)
{
    connection->close_task.run = connection_on_close;
    loop_post(connection->config.loop, &connection->close_task);
}

static const struct link_events connection_link_events = {
    .on_attempt = connection_on_attempt,
    .on_connected = connection_on_connected,
    .on_bytes = connection_on_bytes,
    .on_lost = connection_on_lost,
    .on_closed = connection_on_link_closed,
};

static void connection_timer_init(struct es_connection *connection, uv_timer_t *timer)
{
    uv_timer_init(connection->config.loop->uv, timer); /* cannot fail */
    timer->data = connection;
    connection->timers++;
}

static void connection_on_start(struct task *task)
{
    struct es_connection *connection = CONTAINER_OF(task, struct es_connection, start_task);
    const struct es_connection_config *config = &connection->config;
    uint64_t now_ms = loop_now_ms(config->loop);
    link_init(&connection->link, config->loop, config->pool, "", 0, config->connect_timeout_ms,
              &connection_link_events);
    connection->link.name[0] = '\0'; /* none is known */
    if (config->tls != NULL)
        link_use_tls(&connection->link, config->tls);
    operations_init(&connection->operations, ES_CALLS_MAX, ES_CALLS_SIZE_MAX, connection_on_give_up,
                    now_ms);
    connection->operations.attempts_max = ES_ATTEMPTS_MAX;
    connection->deadline_armed_ms = UINT64_MAX;
    connection_timer_init(connection, &connection->deadline_timer);
    connection_timer_init(connection, &connection->heartbeat_timer);
    connection->heartbeat_checked_ms = now_ms;
    uint64_t period_ms = heartbeat_period_ms(connection);
    uv_timer_start(&connection->heartbeat_timer, connection_on_heartbeat, period_ms, period_ms);
    connection->turn_end.run = connection_on_turn_end;
    loop_add_hook(config->loop, &connection->turn_end);
    discover_init(&connection->discover, config->loop, config->pool, &connection->config.discover);
    link_start(&connection->link);
}

void es_connection_start(struct es_connection *connection,
                         const struct es_connection_config *config)
{
    connection->config = *config;
    connection->wake_task.run = connection_on_wake;
    list_init(&connection->listeners);
    list_init(&connection->work);
    slots_init(&connection->slots);
    connection->start_task.run = connection_on_start;
    loop_post(config->loop, &connection->start_task);
}

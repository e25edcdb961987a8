/* client/remote_connection.c: see client/remote_connection.h for the life of an operation. */
#include "client/remote_connection.h"

#include "base/mem.h"
#include "store/store.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Requests stop being encoded when so much is waiting for the socket. */
#define UNWRITTEN_MAX (1024u * 1024)

/* A scan without a limit is kept up to the page that the server announces, and at most this. */
#define PAGE_SIZE_SANE (64u * 1024 * 1024)

/*
 * client_op.cancel_state. A cancel comes from any thread while the op may be ending on the loop;
 * whoever changes NONE wins. After ASKED the op's memory stays until the loop has seen the task.
 */
enum { CANCEL_NONE, CANCEL_ASKED, CANCEL_TOO_LATE };

static_assert(sizeof(struct client_op) <= sizeof((kvs_op *)0)->reserved, "no allocation per op");

static kvs_op *kvs_op_of(struct client_op *client)
{
    return CONTAINER_OF((void *)client, kvs_op, reserved);
}

static kvs_op *op_of_operation(struct operation *operation)
{
    return kvs_op_of(CONTAINER_OF(operation, struct client_op, operation));
}

static void connection_close_when_idle(struct remote_connection *connection);

/* --- the end of an operation -------------------------------------------------------------------
 */

/* Has the turn end come (again), also when nothing else happens on the loop. */
static void connection_wake(struct remote_connection *connection)
{
    if (connection->woken)
        return;
    connection->woken = true;
    loop_post(connection->loop, &connection->wake_task);
}

static void connection_on_wake(struct task *task)
{
    CONTAINER_OF(task, struct remote_connection, wake_task)->woken = false;
}

static void op_call_done(struct task *task)
{
    kvs_op *op = kvs_op_of(CONTAINER_OF(task, struct client_op, task));
    op->on_done(op);
}

/* on_done is due, at the end of the turn. */
static void op_push_done(kvs_op *op)
{
    struct client_op *client = client_op_of(op);
    client->task.run = op_call_done;
    task_list_push(&client->connection->done, &client->task);
}

/* The op has ended; the manager and the session know it no more. */
static void op_finish(kvs_op *op, int error, const char *why)
{
    struct client_op *client = client_op_of(op);
    op->error = error;
    if (error != 0)
        page_deinit(&client->page);
    if (why != NULL)
        snprintf(op->message, sizeof op->message, "%s", why);
    int expected = CANCEL_NONE;
    /* acquire: pairs with the release of a cancel; its task is still to come then. */
    if (atomic_compare_exchange_strong_explicit(&client->cancel_state, &expected, CANCEL_TOO_LATE,
                                                memory_order_acquire, memory_order_acquire))
        op_push_done(op);
    else if (expected == CANCEL_TOO_LATE)
        op_push_done(op); /* the cancel's own task ends it */
    else {
        client->done = true;
        client->connection->parked++;
    }
}

static void connection_on_give_up(struct operations *operations, struct operation *operation,
                                  bool was_sent, int error, const char *why)
{
    struct remote_connection *connection =
        CONTAINER_OF(operations, struct remote_connection, operations);
    kvs_op *op = op_of_operation(operation);
    if (was_sent && connection->session_open) /* no memory: the server goes on for nothing */
        client_session_cancel(&connection->session, client_op_of(op)->id, &connection->link.out);
    op_finish(op, error, why);
}

static void connection_run_done(struct remote_connection *connection)
{
    struct task_list done = connection->done;
    connection->done = (struct task_list){0};
    connection->in_callbacks = true;
    struct task *task;
    while ((task = task_list_pop(&done)) != NULL) {
        struct client_op *client = CONTAINER_OF(task, struct client_op, task);
        if (client->loop == connection->loop)
            task->run(task);
        else
            loop_post(client->loop, task);
    }
    connection->in_callbacks = false;
}

/* --- replies -----------------------------------------------------------------------------------
 */

/* May a scan that has so much already be given more? A peer decides how much it sends, not how much
 * we keep. */
static bool scan_may_go_on(const struct client_op *client, const kvs_op *op)
{
    if (op->kind != KVS_OP_SCAN)
        return true;
    if (op->limit > 0)
        return client->page.count + op->pairs_count <= op->limit;
    uint32_t page_size = client->connection->session.limits.page_size;
    return page_bytes(&client->page) < (page_size < PAGE_SIZE_SANE ? page_size : PAGE_SIZE_SANE);
}

static int op_take_pairs(kvs_op *op)
{
    struct client_op *client = client_op_of(op);
    bool may_go_on = scan_may_go_on(client, op);
    const kvs_pair *pairs = op->pairs;
    size_t count = op->pairs_count;
    op->pairs = NULL;
    op->pairs_count = 0;
    int error = may_go_on ? 0 : KVS_ERR_PROTOCOL;
    for (size_t i = 0; i < count && error == 0; i++)
        error = page_append(&client->page, pairs[i].key, pairs[i].value, pairs[i].found);
    return error;
}

static int op_take_result(kvs_op *op)
{
    kvs_slice result = op->result;
    if (result.data == NULL)
        return 0;
    op->result = (kvs_slice){0};
    void *copy = mem_copy(result.data, result.size);
    if (copy == NULL)
        return KVS_ERR_NO_MEMORY;
    op->result = slice_make(copy, result.size);
    return 0;
}

/* What was decoded lies in the input buffer: now the op gets its own copy. */
static int op_take(kvs_op *op)
{
    if (op->kind == KVS_OP_SCAN || op->kind == KVS_OP_BATCH_GET)
        return op->error == 0 ? op_take_pairs(op) : 0;
    return op_take_result(op);
}

static bool op_page_is_full(const kvs_op *op)
{
    const struct page *page = &client_op_of((kvs_op *)op)->page;
    return op->kind == KVS_OP_SCAN && (op->flags & KVS_OP_FLAG_PAGE) != 0 &&
           page_bytes(page) + page->count * STORE_PAIR_OVERHEAD >= STORE_PAGE_SIZE_MAX;
}

/* Returns false when the connection is no more. */
static bool connection_on_reply(struct remote_connection *connection,
                                const struct client_session_input *input)
{
    kvs_op *op = input->op;
    struct client_op *client = client_op_of(op);
    int error = wire_reply_decode(&input->frame, op, &connection->scratch);
    if (error == 0)
        error = op_take(op);
    if (error == KVS_ERR_PROTOCOL) {
        /* The manager still knows the op: the loss ends it, or it is sent again. */
        link_fail(&connection->link, error, "a reply does not fit its request");
        return false;
    }
    bool full = error == 0 && op->error == 0 && !input->last && op_page_is_full(op);
    if (error == 0 && !input->last && !full)
        return true; /* of a scan: more frames follow */
    if (!input->last)
        client_session_cancel(&connection->session, client->id, &connection->link.out);
    operations_take(&connection->operations, &client->operation);
    if (error == 0)
        error = op->error;
    if (error == 0 && (op->kind == KVS_OP_SCAN || op->kind == KVS_OP_BATCH_GET))
        page_detach(&client->page, op);
    op->more = op->more || full;
    op_finish(op, error, NULL);
    return true;
}

static void connection_on_opened(struct remote_connection *connection)
{
    connection->session_open = true;
    connection->trouble[0] = '\0';
    link_established(&connection->link);
    if (!connection->first_told) {
        connection->first_told = true;
        connection->owner->on_first(connection, 0, "");
    }
}

static const char *session_failure(int error)
{
    switch (error) {
    case KVS_ERR_VERSION:
        return "the server speaks no protocol version that this client knows";
    case KVS_ERR_BUSY:
        return "the server has too many connections";
    case KVS_ERR_PROTOCOL:
        return "the peer does not speak the kvs protocol, or wants TLS; is this the address of a "
               "kvs-server?";
    default:
        return kvs_error_text(error);
    }
}

static size_t connection_on_bytes(struct link *link, kvs_slice in)
{
    struct remote_connection *connection = CONTAINER_OF(link, struct remote_connection, link);
    size_t taken = 0;
    for (;;) {
        struct client_session_input input;
        kvs_slice rest = slice_make(in.data + taken, in.size - taken);
        switch (client_session_next(&connection->session, rest, &link->out, &input)) {
        case CLIENT_SESSION_NEEDS_BYTES:
            return taken;
        case CLIENT_SESSION_OPENED:
            connection_on_opened(connection);
            break;
        case CLIENT_SESSION_REPLY:
            if (!connection_on_reply(connection, &input))
                return 0;
            break;
        case CLIENT_SESSION_IGNORED:
            break;
        case CLIENT_SESSION_GOING:
            connection->goaways++;
            break;
        case CLIENT_SESSION_ENDED:
            link_fail(link, connection->session.error, session_failure(connection->session.error));
            return 0;
        }
        taken += input.taken;
    }
}

/* --- the link's other events -------------------------------------------------------------------
 */

static void connection_on_connected(struct link *link)
{
    struct remote_connection *connection = CONTAINER_OF(link, struct remote_connection, link);
    if (client_session_init(&connection->session, &link->out) != 0)
        link_fail(link, KVS_ERR_NO_MEMORY, "no memory for a connection");
}

/* Scans begin anew on the next connection. */
static void connection_forget_pages(struct remote_connection *connection)
{
    for (struct operation *at = connection->operations.waiting.first;
         at != NULL && at->attempts > 0; at = at->next)
        page_deinit(&client_op_of(op_of_operation(at))->page);
}

static void connection_on_lost(struct link *link, int error, const char *why)
{
    struct remote_connection *connection = CONTAINER_OF(link, struct remote_connection, link);
    bool all_answered = connection->goaways > 1;
    bool was_open = connection->session_open;
    connection->session_open = false;
    connection->goaways = 0;
    client_session_deinit(&connection->session);
    connection->session = (struct client_session){0};
    snprintf(connection->trouble, sizeof connection->trouble, "%s", why);
    operations_on_lost(&connection->operations, all_answered, error, why);
    connection_forget_pages(connection);
    /* A peer that is no kvs-server will not be one soon: nobody should wait for that. */
    if (!was_open && (error == KVS_ERR_PROTOCOL || error == KVS_ERR_VERSION))
        operations_fail_waiting(&connection->operations, error, why);
    connection_wake(connection);
    if (!connection->first_told) {
        connection->first_told = true;
        connection->owner->on_first(connection, error, why);
    }
    connection_close_when_idle(connection);
}

/* --- closing -----------------------------------------------------------------------------------
 */

static void connection_on_timer_closed(uv_handle_t *handle)
{
    struct remote_connection *connection = handle->data;
    loop_remove_hook(connection->loop, &connection->turn_end);
    wire_scratch_deinit(&connection->scratch);
    client_session_deinit(&connection->session);
    connection->owner->on_closed(connection);
}

static void connection_on_link_closed(struct link *link)
{
    struct remote_connection *connection = CONTAINER_OF(link, struct remote_connection, link);
    uv_close((uv_handle_t *)&connection->deadline_timer, connection_on_timer_closed);
}

/* While closing: what a dead connection leaves waiting is not waited for; one that is on its way up
 * has its chance. */
static void connection_close_when_idle(struct remote_connection *connection)
{
    if (!connection->closing)
        return;
    bool is_down = connection->link.state == LINK_BACKOFF && connection->trouble[0] != '\0';
    if (is_down && connection->operations.count > 0) {
        char why[sizeof connection->trouble + 32];
        snprintf(why, sizeof why, "closed while not connected: %s", connection->trouble);
        operations_fail_waiting(&connection->operations, KVS_ERR_CLOSED, why);
    }
    /* Whatever is not yet so brings another turn end. */
    if (connection->operations.count == 0 && connection->done.first == NULL &&
        connection->parked == 0 && !connection->woken)
        link_close(&connection->link);
}

static void connection_on_close(struct task *task)
{
    struct remote_connection *connection = CONTAINER_OF(task, struct remote_connection, close_task);
    connection->closing = true;
    connection->first_told = true;
}

void remote_connection_close(struct remote_connection *connection)
{
    connection->close_task.run = connection_on_close;
    loop_post(connection->loop, &connection->close_task);
}

/* --- the end of a turn: callbacks, requests, one write -----------------------------------------
 */

/* The deadline goes over as what is left of it. */
static int connection_send(struct remote_connection *connection, kvs_op *op, uint64_t now_ms)
{
    struct client_op *client = client_op_of(op);
    uint64_t deadline_ms = client->operation.deadline_ms;
    uint32_t timeout_ms = op->timeout_ms;
    op->timeout_ms = deadline_ms > now_ms ? (uint32_t)(deadline_ms - now_ms) : 1;
    int error = client_session_send(&connection->session, op, &client->id, &connection->link.out);
    op->timeout_ms = timeout_ms;
    return error;
}

static void fail_unsent(struct remote_connection *connection, kvs_op *op, int error)
{
    const struct wire_limits *limits = &connection->session.limits;
    char why[sizeof op->message];
    snprintf(
        why, sizeof why,
        "over the server's limits: keys of %u bytes, values of %u, requests of %u, batches of %u",
        limits->key_size_max, limits->value_size_max, limits->body_size_max,
        limits->batch_count_max);
    op_finish(op, error, error == KVS_ERR_TOO_LARGE ? why : NULL);
}

static void connection_send_waiting(struct remote_connection *connection)
{
    if (!connection->session_open)
        return;
    uint64_t now_ms = loop_now_ms(connection->loop);
    struct operation *operation;
    while ((operation = operations_first_waiting(&connection->operations)) != NULL &&
           link_unwritten(&connection->link) < UNWRITTEN_MAX) {
        kvs_op *op = op_of_operation(operation);
        int error = connection_send(connection, op, now_ms);
        if (error == KVS_ERR_BUSY || error == KVS_ERR_CLOSED)
            return; /* no room in the window, or the server is going: it waits */
        if (error == 0) {
            operations_sent(&connection->operations, operation);
        } else {
            operations_take(&connection->operations, operation);
            fail_unsent(connection, op, error);
        }
    }
}

static void connection_on_deadline(uv_timer_t *timer)
{
    struct remote_connection *connection = timer->data;
    connection->deadline_armed_ms = UINT64_MAX;
    char why[sizeof connection->trouble];
    if (connection->trouble[0] != '\0')
        snprintf(why, sizeof why, "%s", connection->trouble);
    else
        snprintf(why, sizeof why, "%s: no answer in time", connection->link.name);
    operations_expire(&connection->operations, loop_now_ms(connection->loop), why);
}

static void connection_arm_deadline(struct remote_connection *connection)
{
    uint64_t due_ms = operations_due_ms(&connection->operations);
    if (due_ms >= connection->deadline_armed_ms)
        return; /* armed for earlier, when more will be known */
    uint64_t now_ms = loop_now_ms(connection->loop);
    connection->deadline_armed_ms = due_ms;
    uv_timer_start(&connection->deadline_timer, connection_on_deadline,
                   due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

static void connection_on_turn_end(struct loop_hook *hook)
{
    struct remote_connection *connection = CONTAINER_OF(hook, struct remote_connection, turn_end);
    connection_run_done(connection);
    connection_send_waiting(connection);
    link_flush(&connection->link);
    connection_arm_deadline(connection);
    if (connection->done.first != NULL)
        connection_wake(connection);
    connection_close_when_idle(connection);
}

/* --- submitting and cancelling -----------------------------------------------------------------
 */

static bool op_is_repeatable(const kvs_op *op)
{
    switch (op->kind) {
    case KVS_OP_SET:
    case KVS_OP_REMOVE:
    case KVS_OP_CAS:
    case KVS_OP_BATCH_WRITE:
    case KVS_OP_REMOVE_RANGE:
        return false; /* also set: done late it would undo what another client did since */
    default:
        return true;
    }
}

static void connection_add(struct remote_connection *connection, struct client_op *client)
{
    kvs_op *op = kvs_op_of(client);
    if (client->refused) {
        op_finish(op, op->error, NULL);
        return;
    }
    uint32_t timeout_ms = op->timeout_ms != 0 ? op->timeout_ms : connection->timeout_ms;
    client->operation.deadline_ms = loop_now_ms(connection->loop) + timeout_ms;
    client->operation.size_bytes = wire_request_size(op);
    client->operation.repeatable = op_is_repeatable(op);
    int error = operations_add(&connection->operations, &client->operation);
    if (error != 0)
        op_finish(op, error, "too many operations wait for this connection");
}

static void op_on_submit(struct task *task)
{
    struct client_op *client = CONTAINER_OF(task, struct client_op, task);
    connection_add(client->connection, client);
}

void remote_connection_prepare(struct remote_connection *connection, kvs_op *op, struct loop *loop,
                               int error)
{
    struct client_op *client = client_op_of(op);
    *client = (struct client_op){
        .connection = connection,
        .loop = loop,
        .task.run = op_on_submit,
        .refused = error != 0,
    };
    atomic_init(&client->cancel_state, CANCEL_NONE);
    op->error = error;
}

void remote_connection_submit(struct remote_connection *connection, struct task_list *list)
{
    if (!loop_is_current(connection->loop)) {
        loop_post_list(connection->loop, list);
        return;
    }
    struct task *task;
    while ((task = task_list_pop(list)) != NULL)
        task->run(task);
    if (!connection->in_callbacks)
        connection_wake(connection); /* this turn's end may be over for this connection */
}

static void op_on_cancel(struct task *task)
{
    struct client_op *client = CONTAINER_OF(task, struct client_op, cancel_task);
    struct remote_connection *connection = client->connection;
    kvs_op *op = kvs_op_of(client);
    atomic_store_explicit(&client->cancel_state, CANCEL_TOO_LATE, memory_order_relaxed);
    if (client->done) {
        connection->parked--;
        op_push_done(op);
        return;
    }
    bool was_sent = client->operation.state == OPERATION_SENT;
    operations_take(&connection->operations, &client->operation);
    int error = operation_outcome(&client->operation, was_sent, KVS_ERR_CANCELLED);
    connection_on_give_up(&connection->operations, &client->operation, was_sent, error, NULL);
}

void remote_connection_cancel(kvs_op *op)
{
    struct client_op *client = client_op_of(op);
    int expected = CANCEL_NONE;
    /* release: pairs with the acquire in op_finish. */
    if (!atomic_compare_exchange_strong_explicit(&client->cancel_state, &expected, CANCEL_ASKED,
                                                 memory_order_release, memory_order_relaxed))
        return; /* asked already, or done */
    client->cancel_task.run = op_on_cancel;
    loop_post(client->connection->loop, &client->cancel_task);
}

/* --- starting ----------------------------------------------------------------------------------
 */

static const struct link_events connection_link_events = {
    .on_connected = connection_on_connected,
    .on_bytes = connection_on_bytes,
    .on_lost = connection_on_lost,
    .on_closed = connection_on_link_closed,
};

static void connection_on_start(struct task *task)
{
    struct remote_connection *connection = CONTAINER_OF(task, struct remote_connection, start_task);
    link_init(&connection->link, connection->loop, connection->pool, connection->host,
              connection->port, connection->connect_timeout_ms, &connection_link_events);
    operations_init(&connection->operations, REMOTE_CONNECTION_COUNT_MAX,
                    REMOTE_CONNECTION_SIZE_MAX, connection_on_give_up,
                    loop_now_ms(connection->loop));
    connection->wake_task.run = connection_on_wake;
    connection->deadline_armed_ms = UINT64_MAX;
    uv_timer_init(connection->loop->uv, &connection->deadline_timer); /* cannot fail */
    connection->deadline_timer.data = connection;
    connection->turn_end.run = connection_on_turn_end;
    loop_add_hook(connection->loop, &connection->turn_end);
    if (connection->tls_context != NULL)
        link_use_tls(&connection->link, connection->tls_context);
    link_start(&connection->link);
}

void remote_connection_start(struct remote_connection *connection)
{
    connection->start_task.run = connection_on_start;
    loop_post(connection->loop, &connection->start_task);
}

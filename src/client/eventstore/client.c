/* client/eventstore/client.c: see the header. */
#include "client/eventstore/client.h"

#include "base/mem.h"
#include "client/eventstore/catch_up.h"
#include "client/eventstore/groups.h"
#include "client/eventstore/member.h"
#include "net/tls.h"

#include <stdio.h>

#define ASK_WHY_SIZE 600u
#define HTTP_PATH_SIZE (2u * 3 * KVS_STREAM_NAME_SIZE_MAX + 64)

struct es_client {
    kvs_events base;
    struct es_connection connection;
    struct events_url url; /* nodes, texts */
    struct es_login login;
    char name[256];
    struct tls_context *tls;
    kvs_connection_fn *on_connection;
    void *on_connection_arg;
    uint16_t http_port;
    uint32_t timeout_ms;
    struct list asks; /* what goes by HTTP */
    bool closing;
    bool connection_closed;

    unsigned first_failures;
    char first_why[DISCOVER_WHY_SIZE]; /* of each of them */
    bool opened_told;
    void (*opened)(void *arg, int error, const char *why);
    void *opened_arg;
    void (*closed)(void *arg);
    void *closed_arg;
    struct task close_task;
};

static struct es_client *client_of(kvs_events *events)
{
    return CONTAINER_OF(events, struct es_client, base);
}

/* --- the connection's news ---------------------------------------------------------------------
 */

static void client_tell_opened(struct es_client *client, int error, const char *why)
{
    if (client->opened_told)
        return;
    client->opened_told = true;
    client->opened(client->opened_arg, error, why);
}

static void client_on_event(struct es_connection *connection,
                            const struct kvs_connection_event *event)
{
    struct es_client *client = CONTAINER_OF(connection, struct es_client, connection);
    if (client->on_connection != NULL)
        client->on_connection(&client->base, event, client->on_connection_arg);
    bool by_gossip = client->url.scheme == EVENTS_URL_DISCOVER;
    bool is_final = event->error == KVS_ERR_NOT_AUTHENTICATED || by_gossip;
    switch (event->state) {
    case KVS_CONNECTION_READY:
        client_tell_opened(client, 0, "");
        break;
    case KVS_CONNECTION_LOST:
        client->first_failures++;
        if (!client->opened_told)
            discover_add_why(client->first_why, event->why);
        if (is_final || client->first_failures >= client->url.nodes_count)
            client_tell_opened(client, event->error, client->first_why);
        break;
    case KVS_CONNECTION_CLOSED:
        client_tell_opened(client, event->error != 0 ? event->error : KVS_ERR_CLOSED, event->why);
        break;
    case KVS_CONNECTION_CONNECTING:
        break;
    }
}

/* --- closing -----------------------------------------------------------------------------------
 */

static void client_free(struct es_client *client)
{
    es_login_deinit(&client->login);
    tls_context_free(client->tls);
    mem_free(client);
}

static void client_finish_closing(struct es_client *client)
{
    if (!client->connection_closed || !list_empty(&client->asks))
        return;
    void (*closed)(void *) = client->closed;
    void *arg = client->closed_arg;
    client_free(client);
    closed(arg);
}

static void client_on_connection_closed(struct es_connection *connection)
{
    struct es_client *client = CONTAINER_OF(connection, struct es_client, connection);
    client->connection_closed = true;
    client_finish_closing(client);
}

/* --- what goes by HTTP -------------------------------------------------------------------------
 */

struct ask {
    struct list node;
    struct es_client *client;
    struct es_call *call;
    struct task task;
    struct http_call http;
    struct es_login login;
    char *credentials; /* login and password as strings */
    bool started;
    char host[256];
    char path[HTTP_PATH_SIZE];
};

/* The call that is the payload of a future, with what HTTP needs. */
struct client_call {
    struct es_call es;
    struct ask *ask;
};

static void ask_end(struct ask *ask, int error, const char *why)
{
    struct es_client *client = ask->client;
    struct es_call *call = ask->call;
    ((struct client_call *)call)->ask = NULL;
    list_remove(&ask->node);
    mem_free(ask->credentials);
    http_call_deinit(&ask->http);
    mem_free(ask);
    events_call_fail(&call->base, error, "%s", why);
    if (client->closing)
        client_finish_closing(client);
}

/* There is no answer. */
static int ask_failure(const struct ask *ask, char why[ASK_WHY_SIZE])
{
    const struct http_call *http = &ask->http;
    int error = http->error;
    bool is_write = events_kind_is_write(ask->call->base.kind);
    if (error == KVS_ERR_CONNECT || error == KVS_ERR_PROTOCOL)
        snprintf(why, ASK_WHY_SIZE,
                 "%s; this goes by HTTP: is it served (kvs-server --http), and at this port "
                 "(httpPort in the URL)?",
                 http->why);
    else
        snprintf(why, ASK_WHY_SIZE, "%s", http->why);
    bool is_unknown = error == KVS_ERR_TIMEOUT || error == KVS_ERR_CONNECTION_LOST;
    return is_unknown && is_write ? KVS_ERR_OUTCOME_UNKNOWN : error;
}

static int ask_refusal(const struct ask *ask, char why[ASK_WHY_SIZE])
{
    const struct http_call *http = &ask->http;
    const char *what = "";
    int error = KVS_ERR_IO;
    if (http->status == 401) { /* says both: who it is, and what he may */
        error = KVS_ERR_ACCESS_DENIED;
        what = http->login == NULL ? "this needs a login: "
                                   : "login or password are wrong, or the user may not do this: ";
    } else if (http->status == 404) {
        error = KVS_ERR_NOT_FOUND;
        what = ask->call->base.kind == EVENTS_LIST_GROUPS ? "it does not list groups: "
                                                          : "no such group: ";
    }
    snprintf(why, ASK_WHY_SIZE, "%s%s answered with HTTP status %d", what, http->link.name,
             http->status);
    return error;
}

/* What it told of groups. */
static int ask_result(struct ask *ask, char why[ASK_WHY_SIZE])
{
    struct events_call *call = &ask->call->base;
    struct arena *arena = &call->batch.arena;
    int error = 0;
    if (call->kind == EVENTS_LIST_GROUPS)
        error = groups_parse_list(ask->http.body, arena, &call->groups);
    else if (call->kind == EVENTS_GET_GROUP)
        error = groups_parse_info(ask->http.body, arena, &call->group);
    if (error == KVS_ERR_PROTOCOL)
        snprintf(why, ASK_WHY_SIZE, "%s: what it answered tells nothing of groups",
                 ask->http.link.name);
    return error;
}

static void ask_on_answer(struct http_call *http)
{
    struct ask *ask = http->arg;
    char why[ASK_WHY_SIZE] = "";
    int error;
    bool answers = http->status / 100 == 2;
    bool lists = ask->call->base.kind == EVENTS_LIST_GROUPS;
    if (http->error != 0)
        error = ask_failure(ask, why);
    else if (answers || (lists && http->status == 404)) /* that is an empty list, of a stream */
        error = ask_result(ask, why);
    else
        error = ask_refusal(ask, why);
    if (error == KVS_ERR_PROTOCOL && http->error == 0 && !answers)
        error = ask_refusal(ask, why);
    ask_end(ask, error, why);
}

/* The HTTP port of the node that the connection goes to. */
static uint16_t client_http_port(const struct es_client *client)
{
    const struct discover *discover = &client->connection.discover;
    for (unsigned i = 0; i < discover->heard.count; i++) {
        const struct gossip_member *member = &discover->heard.members[i];
        bool is_it = strcmp(member->tcp.host, client->connection.link.host) == 0 &&
                     member->tcp.port == client->connection.link.port;
        if (is_it && member->http.port != 0)
            return member->http.port;
    }
    return client->http_port;
}

static void ask_on_start(struct task *task)
{
    struct ask *ask = CONTAINER_OF(task, struct ask, task);
    struct es_client *client = ask->client;
    struct es_call *call = ask->call;
    list_append(&client->asks, &ask->node);
    call->arrived = true;
    if (call->cancelled || client->closing) {
        ask_end(ask, call->cancelled ? KVS_ERR_CANCELLED : KVS_ERR_CLOSED, "");
        return;
    }
    memcpy(ask->host, client->connection.link.host, sizeof ask->host);
    ask->http.port = client_http_port(client);
    ask->http.tls = client->tls;
    ask->started = true;
    http_call_start(&ask->http);
}

static char *put_encoded(char *at, kvs_slice text)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_' || c == '.' || c == '~';
        if (plain) {
            *at++ = (char)c;
        } else {
            *at++ = '%';
            *at++ = digits[c >> 4];
            *at++ = digits[c & 15];
        }
    }
    return at;
}

/* STREAM and GROUP may be empty. */
static void put_path(char *at, const struct events_request *request)
{
    at = stpcpy(at, "/subscriptions");
    if (request->stream.size > 0) {
        *at++ = '/';
        at = put_encoded(at, request->stream);
    }
    if (request->group.size > 0) {
        *at++ = '/';
        at = put_encoded(at, request->group);
    }
    const char *what = request->kind == EVENTS_REPLAY_PARKED ? "/replayParked"
                       : request->kind == EVENTS_GET_GROUP   ? "/info"
                                                             : "";
    stpcpy(at, what);
}

static char *login_as_strings(const struct es_login *login)
{
    size_t login_size = login->credentials.login.size;
    size_t password_size = login->credentials.password.size;
    char *strings = mem_zalloc(login_size + password_size + 2);
    if (strings != NULL && login->memory != NULL) {
        memcpy(strings, login->credentials.login.data, login_size);
        memcpy(strings + login_size + 1, login->credentials.password.data, password_size);
    }
    return strings;
}

static void client_start_ask(struct es_client *client, struct client_call *call,
                             const struct events_request *request)
{
    struct ask *ask = mem_zalloc(sizeof *ask);
    struct es_login login = {0};
    int error = es_login_copy(&login, request->options.login, request->options.password);
    const struct es_login *by = login.memory != NULL ? &login : &client->login;
    char *strings = error == 0 ? login_as_strings(by) : NULL;
    bool has_login = by->memory != NULL;
    size_t login_size = by->credentials.login.size;
    es_login_deinit(&login);
    if (ask == NULL || strings == NULL) {
        mem_free(ask);
        mem_free(strings);
        call->es.refused = KVS_ERR_NO_MEMORY;
        es_connection_submit(&call->es);
        return;
    }
    put_path(ask->path, request);
    ask->client = client;
    ask->call = &call->es;
    ask->credentials = strings;
    call->ask = ask;
    ask->http = (struct http_call){
        .loop = client->base.loop,
        .pool = kvs_runtime_pool(client->base.runtime),
        .host = ask->host,
        .method = request->kind == EVENTS_REPLAY_PARKED ? "POST" : "GET",
        .path = ask->path,
        .login = has_login ? strings : NULL,
        .password = strings + login_size + 1,
        .timeout_ms =
            request->options.timeout_ms != 0 ? request->options.timeout_ms : client->timeout_ms,
        .done = ask_on_answer,
        .arg = ask,
    };
    ask->task.run = ask_on_start;
    loop_post(client->base.loop, &ask->task);
}

/* --- methods -----------------------------------------------------------------------------------
 */

static void client_start(kvs_events *events, struct events_call *base,
                         const struct events_request *request)
{
    struct es_client *client = client_of(events);
    struct client_call *call = CONTAINER_OF(base, struct client_call, es.base);
    es_call_prepare(&call->es, &client->connection, request);
    if (request->kind == EVENTS_REPLAY_PARKED || request->kind == EVENTS_LIST_GROUPS ||
        request->kind == EVENTS_GET_GROUP)
        client_start_ask(client, call, request);
    else
        es_connection_submit(&call->es);
}

static void client_call_cancel(kvs_future *future)
{
    struct client_call *call = future_payload(future);
    if (call->ask != NULL && call->ask->started)
        http_call_cancel(&call->ask->http);
    else
        es_call_cancel(&call->es);
}

static void client_call_free(void *payload)
{
    struct client_call *call = payload;
    es_call_deinit(&call->es);
}

static const struct future_methods client_call_methods = {
    .payload_size = sizeof(struct client_call),
    .cancel = client_call_cancel,
    .free = client_call_free,
};

static int client_subscribe(kvs_events *events, const struct kvs_subscribe_options *options,
                            const struct kvs_subscription_handlers *handlers, void *arg,
                            kvs_subscription **ret_subscription)
{
    return catch_up_start(&client_of(events)->connection, options, handlers, arg, ret_subscription);
}

static int client_subscribe_group(kvs_events *events,
                                  const struct kvs_group_subscribe_options *options,
                                  const struct kvs_subscription_handlers *handlers, void *arg,
                                  kvs_subscription **ret_subscription)
{
    return member_start(&client_of(events)->connection, options, handlers, arg, ret_subscription);
}

static void client_on_close(struct task *task)
{
    struct es_client *client = CONTAINER_OF(task, struct es_client, close_task);
    client->closing = true;
    client->opened_told = true;
    struct list *node = client->asks.next;
    while (node != &client->asks) {
        struct ask *ask = list_entry(node, struct ask, node);
        node = node->next;
        if (ask->started)
            http_call_cancel(&ask->http);
    }
    es_connection_close(&client->connection);
}

static void client_close(kvs_events *events, void (*closed)(void *arg), void *arg)
{
    struct es_client *client = client_of(events);
    client->closed = closed;
    client->closed_arg = arg;
    client->close_task.run = client_on_close;
    loop_post(events->loop, &client->close_task);
}

static const struct events_methods client_methods = {
    .call_methods = &client_call_methods,
    .start = client_start,
    .subscribe = client_subscribe,
    .subscribe_group = client_subscribe_group,
    .close = client_close,
};

/* --- opening -----------------------------------------------------------------------------------
 */

static int client_make_tls(struct es_client *client, const struct kvs_events_options *options,
                           char why[256])
{
    if (!options->tls)
        return 0;
    int error = tls_context_new_client(TLS_PLAIN, options->tls_ca, options->tls_certificate,
                                       options->tls_key, &client->tls, why);
    if (error != 0)
        return error;
    if (options->tls_insecure)
        tls_context_set_insecure(client->tls);
    return 0;
}

static void client_configure(struct es_client *client, const struct kvs_events_options *options)
{
    struct es_connection_config config = {
        .loop = client->base.loop,
        .pool = kvs_runtime_pool(client->base.runtime),
        .connect_timeout_ms = options->connect_timeout_ms,
        .attempt_timeout_ms = options->attempt_timeout_ms,
        .timeout_ms = options->timeout_ms,
        .heartbeat_interval_ms = options->heartbeat_interval_ms,
        .heartbeat_timeout_ms = options->heartbeat_timeout_ms,
        .reconnects_max = options->reconnects_max,
        .in_flight_max = options->in_flight_max,
        .name = client->name,
        .login = &client->login,
        .tls = client->tls,
        .on_event = client_on_event,
        .on_closed = client_on_connection_closed,
        .discover =
            {
                .nodes = client->url.nodes,
                .nodes_count = client->url.nodes_count,
                .by_gossip = client->url.scheme == EVENTS_URL_DISCOVER,
                .is_tls = client->tls != NULL,
                .tls = client->tls,
                .preference = options->node_preference,
                .timeout_ms = options->gossip_timeout_ms,
                .interval_ms = options->discover_interval_ms,
                .attempts_max = options->discover_attempts_max,
            },
    };
    es_connection_start(&client->connection, &config);
}

int es_client_new(kvs_runtime *runtime, struct loop *loop, const struct events_url *url,
                  const struct kvs_events_options *options,
                  void (*opened)(void *arg, int error, const char *why), void *arg,
                  kvs_events **ret_events, char ret_why[256])
{
    struct es_client *client = mem_zalloc(sizeof *client);
    if (client == NULL)
        return KVS_ERR_NO_MEMORY;
    client->base = (kvs_events){.methods = &client_methods, .runtime = runtime, .loop = loop};
    client->url = *url;
    client->on_connection = options->on_connection;
    client->on_connection_arg = options->on_connection_arg;
    client->http_port = options->http_port;
    client->timeout_ms = options->timeout_ms;
    client->opened = opened;
    client->opened_arg = arg;
    list_init(&client->asks);
    snprintf(client->name, sizeof client->name, "%s", options->connection_name);
    int error = es_login_copy(&client->login, options->login, options->password);
    if (error == 0)
        error = client_make_tls(client, options, ret_why);
    if (error != 0) {
        client_free(client);
        return error;
    }
    *ret_events = &client->base;
    client_configure(client, options);
    return 0;
}

/* server/eventstore_server.c: see the header. */
#include "server/eventstore_server.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/acceptor.h"
#include "server/eventstore_http.h"
#include "server/eventstore_stats.h"
#include "stream/users.h"

#include <assert.h>
#include <kvs/error.h>
#include <stdio.h>
#include <sys/random.h>

enum { PORT_TCP, PORT_HTTP, PORTS };

static_assert((int)KVS_PROJECTIONS_COMMON == (int)STREAM_PROJECTIONS_COMMON &&
                  (int)KVS_PROJECTIONS_NONE == (int)STREAM_PROJECTIONS_NONE &&
                  (int)KVS_PROJECTIONS_ALL == (int)STREAM_PROJECTIONS_ALL,
              "they are cast");

struct eventstore_loop {
    struct es_service_loop events;
    struct grpc_port_loop http;
    struct eventstore_server *server;
    unsigned waited_for; /* before on_done: parts, and listeners of the first loop */
    void (*on_done)(void *arg);
    void *arg;
};

struct eventstore_server {
    struct eventstore_server_options options; /* strings are not kept beyond the opening */
    struct acceptor acceptors[PORTS];
    struct acceptor_target *targets[PORTS];
    struct es_service service;
    struct es_stats stats; /* of the first loop */
    struct grpc_port http;
    struct eventstore_loop *loops;
    unsigned loops_made;
};

/* --- opening ---------------------------------------------------------------------------------- */

static int allocate(struct eventstore_server *server)
{
    unsigned count = server->options.loops;
    server->loops =
        mem_aligned_alloc(_Alignof(struct eventstore_loop), count * sizeof *server->loops);
    for (unsigned i = 0; i < PORTS; i++)
        server->targets[i] = mem_zalloc(count * sizeof *server->targets[i]);
    return server->loops == NULL || server->targets[PORT_TCP] == NULL ||
                   server->targets[PORT_HTTP] == NULL
               ? KVS_ERR_NO_MEMORY
               : 0;
}

static void fill_service(struct eventstore_server *server);
static int make_tls(struct eventstore_server *server, char message[256]);

int eventstore_server_bind(const struct eventstore_server_options *options,
                           struct eventstore_server **ret_server, char message[256])
{
    struct eventstore_server *server = mem_zalloc(sizeof *server);
    if (server == NULL)
        return KVS_ERR_NO_MEMORY;
    server->options = *options;
    int error = allocate(server);
    const struct place tcp = {"eventstore", options->tcp, EVENTSTORE_DEFAULT,
                              "--eventstore=HOST:PORT"};
    const struct place http = {"http", options->http, EVENTSTORE_HTTP_DEFAULT, "--http=HOST:PORT"};
    if (error == 0 && options->tcp != NULL)
        error = place_listen_blocking(&tcp, options->passed, &server->acceptors[PORT_TCP].listener,
                                      message);
    if (error == 0 && options->http != NULL)
        error = place_listen_blocking(&http, options->passed,
                                      &server->acceptors[PORT_HTTP].listener, message);
    if (error == 0) {
        fill_service(server);
        error = make_tls(server, message);
    }
    if (error != 0) {
        eventstore_server_free(server);
        return error;
    }
    *ret_server = server;
    return 0;
}

static void fill_service(struct eventstore_server *server)
{
    const struct eventstore_server_options *options = &server->options;
    struct es_service *service = &server->service;
    service->options = (struct es_service_options){
        .insecure = options->insecure,
        .gossip_master = options->gossip_master,
        .heartbeat_interval_ms = options->heartbeat_interval_ms != 0
                                     ? options->heartbeat_interval_ms
                                     : ES_HEARTBEAT_INTERVAL_MS_DEFAULT,
        .heartbeat_timeout_ms = options->heartbeat_timeout_ms != 0
                                    ? options->heartbeat_timeout_ms
                                    : ES_HEARTBEAT_TIMEOUT_MS_DEFAULT,
        .slow_timeout_ms = options->slow_timeout_ms,
        .connections_max = options->connections_max,
        .in_flight_bytes_max = options->in_flight_bytes_max,
        .handshake_ms_max = options->handshake_ms_max,
        .memory = options->memory,
    };
    service->loops_count = options->loops;
    service->started_wall_ms = clock_wall_ms();
    memcpy(service->tcp_address, server->acceptors[PORT_TCP].listener.address, ADDRESS_TEXT_SIZE);
    memcpy(service->http_address, server->acceptors[PORT_HTTP].listener.address, ADDRESS_TEXT_SIZE);
    snprintf(service->advertise, sizeof service->advertise, "%s",
             options->advertise != NULL ? options->advertise : "");
    if (getrandom(&service->instance, sizeof service->instance, 0) !=
        (ssize_t)sizeof service->instance)
        memset(&service->instance, 1, sizeof service->instance);
    server->http = (struct grpc_port){
        .name = "HTTP",
        .routes = eventstore_routes,
        .routes_count = eventstore_routes_count,
        .grpc_off = true,
        .connections_max = options->connections_max,
        .handshake_ms_max = options->handshake_ms_max,
        .memory = options->memory,
    };
}

static int make_tls(struct eventstore_server *server, char message[256])
{
    const struct eventstore_server_options *options = &server->options;
    if (options->tls_certificate == NULL)
        return 0;
    int error = tls_context_new_server(TLS_PLAIN, options->tls_ca, options->tls_certificate,
                                       options->tls_key, &server->service.tls, message);
    if (error != 0)
        return error;
    return tls_context_new_server(TLS_HTTP1, options->tls_ca, options->tls_certificate,
                                  options->tls_key, &server->http.tls, message);
}

int eventstore_server_open_blocking(struct eventstore_server *server, struct engine *engine,
                                    struct loop *loop, char message[256])
{
    const struct streams_options options = {
        .engine = engine,
        .loop = loop,
        .make_users = true,
        .insecure = server->options.insecure,
        .projections = (enum stream_projections)server->options.projections, /* the same numbers */
    };
    struct engine_message said = {{0}};
    int error = streams_open_blocking(&options, &server->service.streams, &said);
    if (error != 0) {
        snprintf(message, 256, "cannot open the event streams: %s",
                 said.text[0] != '\0' ? said.text : kvs_error_text(error));
        return error;
    }
    const char *known = NULL;
    if (server->options.insecure)
        log_warn("event streams: --insecure: everybody may do everything, nobody is asked who he "
                 "is");
    else
        known = streams_default_password_blocking(server->service.streams);
    if (known != NULL)
        log_warn("event streams: %s still with the password that everybody knows "
                 "(" STREAM_DEFAULT_PASSWORD "): change it",
                 known);
    es_stats_start(&server->stats, &server->service, loop, server->options.stats_interval_ms);
    return 0;
}

void eventstore_server_add_loop(struct eventstore_server *server, struct loop *loop)
{
    unsigned index = server->loops_made++;
    struct eventstore_loop *at = &server->loops[index];
    *at = (struct eventstore_loop){.server = server};
    es_service_loop_init(&at->events, &server->service, loop);
    grpc_port_loop_init(&at->http, &server->http, loop, &at->events);
    server->targets[PORT_TCP][index] = (struct acceptor_target){loop, &at->events};
    server->targets[PORT_HTTP][index] = (struct acceptor_target){loop, &at->http};
}

static void connect_http(void *arg, int descriptor, const char *peer)
{
    grpc_port_connect(arg, descriptor, peer);
}

int eventstore_server_start(struct eventstore_server *server)
{
    int error = 0;
    for (unsigned i = 0; i < PORTS && error == 0; i++) {
        struct acceptor *acceptor = &server->acceptors[i];
        if (acceptor->listener.count > 0)
            error = acceptor_start(acceptor, server->targets[i], server->loops_made,
                                   i == PORT_TCP ? es_service_connect : connect_http);
    }
    return error;
}

/* --- closing ---------------------------------------------------------------------------------- */

static void one_done(struct eventstore_loop *at)
{
    assert(at->waited_for > 0);
    if (--at->waited_for == 0)
        at->on_done(at->arg);
}

static void on_part_done(void *arg)
{
    one_done(arg);
}

static void on_http_empty(struct grpc_port_loop *port, void *arg)
{
    (void)port;
    one_done(arg);
}

void eventstore_server_drain_loop(struct eventstore_server *server, unsigned index,
                                  void (*on_done)(void *arg), void *arg)
{
    struct eventstore_loop *at = &server->loops[index];
    at->on_done = on_done;
    at->arg = arg;
    at->waited_for = 3; /* both parts, and this function, so that it cannot be over within */
    if (index == 0) {
        at->waited_for++;
        es_stats_close(&server->stats, on_part_done, at);
    }
    for (unsigned i = 0; i < PORTS && index == 0; i++)
        at->waited_for += acceptor_close(&server->acceptors[i], on_part_done, at);
    es_service_loop_drain(&at->events);
    es_service_loop_close(&at->events, on_part_done, at);
    grpc_port_loop_drain(&at->http);
    grpc_port_loop_close(&at->http, on_http_empty, at);
    one_done(at);
}

void eventstore_server_cut_loop(struct eventstore_server *server, unsigned index)
{
    es_service_loop_cut(&server->loops[index].events);
    grpc_port_loop_cut(&server->loops[index].http);
}

void eventstore_server_settle(struct eventstore_server *server, void (*on_done)(void *arg),
                              void *arg)
{
    struct streams *streams = server->service.streams;
    server->service.streams = NULL;
    if (streams != NULL)
        streams_close(streams, on_done, arg);
    else
        on_done(arg);
}

void eventstore_server_free(struct eventstore_server *server)
{
    if (server == NULL)
        return;
    for (unsigned i = 0; i < server->loops_made; i++) {
        grpc_port_loop_deinit(&server->loops[i].http);
        es_service_loop_deinit(&server->loops[i].events);
    }
    for (unsigned i = 0; i < PORTS; i++) {
        acceptor_deinit(&server->acceptors[i]);
        mem_free(server->targets[i]);
    }
    tls_context_free(server->service.tls);
    tls_context_free(server->http.tls);
    mem_free(server->loops);
    mem_free(server);
}

const char *eventstore_server_tcp_address(const struct eventstore_server *server)
{
    return server->acceptors[PORT_TCP].listener.address;
}

const char *eventstore_server_http_address(const struct eventstore_server *server)
{
    return server->acceptors[PORT_HTTP].listener.address;
}

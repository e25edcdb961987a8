/* server/tikv_server.c: see the header. */
#include "server/tikv_server.h"

#include "base/log.h"
#include "base/mem.h"
#include "pd/tso.h"
#include "server/acceptor.h"
#include "server/advertise.h"
#include "server/pd_service.h"
#include "server/tikv_gc.h"
#include "server/tikv_service.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define PD_MESSAGE_MAX (16u * 1024 * 1024)

enum { PORT_PD, PORT_STORE, PORT_STATUS, PORTS };

struct tikv_loop {
    struct tikv_server *server;
    struct loop *loop;
    struct pd_service_loop pd;
    struct tikv_service_loop tikv;
    struct grpc_port_loop ports[PORTS];
    unsigned waited_for; /* before on_done: ports; the first loop: listeners, splitter, GC */
    void (*on_done)(void *arg);
    void *arg;
};

struct tikv_server {
    struct tikv_server_options options;  /* strings are not kept beyond the opening */
    char advertise[ADVERTISE_HOST_SIZE]; /* "": none */
    struct acceptor acceptors[PORTS];
    struct acceptor_target *targets[PORTS];
    struct grpc_port ports[PORTS];
    struct cluster *cluster;
    struct txn_node *txn;
    struct tikv_gc gc; /* on the first loop */
    struct tikv_service service;
    struct region_splitter *splitter; /* of the first loop; NULL: nobody wants it */
    struct tikv_loop *loops;
    unsigned loops_made;
    struct meta_change settling;
    void (*on_settled)(void *arg);
    void *settled_arg;
};

/* --- opening --- */

/* Without an address of its own the status port lies beside the store's: its default port, or any
 * free one if the store was to have that. */
static void status_address(const char *store, bool any, char text[ADDRESS_TEXT_SIZE])
{
    const char *colon = strrchr(store, ':');
    int host = colon != NULL ? (int)(colon - store) : 0;
    snprintf(text, ADDRESS_TEXT_SIZE, "%.*s:%u", host, store, any ? 0 : TIKV_STATUS_PORT);
}

static bool has_port_0(const char *address)
{
    size_t size = strlen(address);
    return size > 2 && strcmp(address + size - 2, ":0") == 0;
}

/* False: more than three parts, or too long. */
static bool split_addresses(const char *text, char addresses[PORTS][ADDRESS_NAME_SIZE])
{
    for (unsigned i = 0; i < PORTS; i++)
        addresses[i][0] = '\0';
    for (unsigned i = 0; text[0] != '\0'; i++) {
        size_t size = strcspn(text, ",");
        if (i == PORTS || size >= ADDRESS_NAME_SIZE)
            return false;
        snprintf(addresses[i], ADDRESS_NAME_SIZE, "%.*s", (int)size, text);
        text += size + (text[size] == ',');
    }
    return true;
}

static void fill_ports(struct tikv_server *server)
{
    uint32_t connections_max = server->options.connections_max;
    server->ports[PORT_PD] = (struct grpc_port){
        .name = "PD",
        .methods = pd_methods,
        .methods_count = pd_methods_count,
        .routes = pd_routes,
        .routes_count = pd_routes_count,
        .message_bytes_max = PD_MESSAGE_MAX,
        .connections_max = connections_max,
    };
    server->ports[PORT_STORE] = (struct grpc_port){
        .name = "TiKV",
        .methods = tikv_methods,
        .methods_count = tikv_methods_count,
        .answers_bytes_max = server->options.in_flight_bytes_max,
        .connections_max = connections_max,
    };
    server->ports[PORT_STATUS] = (struct grpc_port){
        .name = "TiKV status",
        .routes = status_routes,
        .routes_count = status_routes_count,
        .grpc_off = true,
        .connections_max = connections_max,
    };
    for (unsigned i = 0; i < PORTS; i++) {
        server->ports[i].handshake_ms_max = server->options.handshake_ms_max;
        server->ports[i].memory = server->options.memory;
    }
}

static int make_tls(struct tikv_server *server, char message[256])
{
    static const enum tls_protocol protocols[PORTS] = {
        [PORT_PD] = TLS_HTTP, [PORT_STORE] = TLS_H2, [PORT_STATUS] = TLS_HTTP1};
    const struct tikv_server_options *options = &server->options;
    int error = 0;
    for (unsigned i = 0; i < PORTS && error == 0 && options->tls_certificate != NULL; i++) {
        error = tls_context_new_server(protocols[i], options->tls_ca, options->tls_certificate,
                                       options->tls_key, &server->ports[i].tls, message);
    }
    return error;
}

static int listen_all(struct tikv_server *server, char addresses[PORTS][ADDRESS_NAME_SIZE],
                      char message[256])
{
    static const char option[] = "--tikv=PD,STORE[,STATUS]";
    char status[ADDRESS_TEXT_SIZE];
    const struct place places[PORTS] = {
        [PORT_PD] = {"pd", addresses[PORT_PD], TIKV_PD_DEFAULT, option},
        [PORT_STORE] = {"tikv", addresses[PORT_STORE], TIKV_STORE_DEFAULT, option},
        [PORT_STATUS] = {"status", addresses[PORT_STATUS], status, option},
    };
    int error = 0;
    for (unsigned i = 0; i < PORTS && error == 0; i++) {
        if (i == PORT_STATUS)
            status_address(server->acceptors[PORT_STORE].listener.address,
                           has_port_0(addresses[PORT_STORE]), status);
        error = place_listen_blocking(&places[i], server->options.passed,
                                      &server->acceptors[i].listener, message);
    }
    return error;
}

int tikv_server_bind(const struct tikv_server_options *options, struct tikv_server **ret_server,
                     char message[256])
{
    char addresses[PORTS][ADDRESS_NAME_SIZE];
    if (!split_addresses(options->addresses, addresses)) {
        snprintf(message, 256, "--tikv takes PD_ADDR,STORE_ADDR,STATUS_ADDR, not \"%.80s\"",
                 options->addresses);
        return KVS_ERR_ADDRESS;
    }
    struct tikv_server *server = mem_zalloc(sizeof *server);
    if (server == NULL)
        return KVS_ERR_NO_MEMORY;
    server->options = *options;
    if (options->advertise != NULL)
        snprintf(server->advertise, sizeof server->advertise, "%s", options->advertise);
    fill_ports(server);
    int error = make_tls(server, message);
    if (error == 0)
        error = listen_all(server, addresses, message);
    if (error != 0)
        tikv_server_free(server);
    else
        *ret_server = server;
    return error;
}

int tikv_server_open_blocking(struct tikv_server *server, struct engine *engine, char message[256])
{
    const struct cluster_options options = {.keyspaces = server->options.keyspaces};
    struct engine_message said = {{0}};
    server->loops = mem_aligned_alloc(_Alignof(struct tikv_loop),
                                      server->options.loops * sizeof *server->loops);
    if (region_splitter_is_wanted(&server->options.split))
        server->splitter = mem_zalloc(sizeof *server->splitter);
    for (unsigned i = 0; i < PORTS; i++) {
        server->targets[i] = mem_zalloc(server->options.loops * sizeof *server->targets[i]);
        if (server->targets[i] == NULL)
            return KVS_ERR_NO_MEMORY;
    }
    if (server->loops == NULL ||
        (server->splitter == NULL && region_splitter_is_wanted(&server->options.split)))
        return KVS_ERR_NO_MEMORY;
    int error = cluster_open_blocking(engine, &options, &server->cluster, &said);
    if (error != 0) {
        snprintf(message, 256, "%s", said.text);
        return error;
    }
    struct cluster *cluster = server->cluster;
    cluster->speaks_tls = server->ports[PORT_PD].tls != NULL;
    cluster->advertise = server->advertise;
    /* All earlier timestamps are below, and the first later one is the next: what commits by a
     * timestamp of its own choice is seen by who begins after it. */
    uint64_t next = txn_ts_make(tso_given_ms(cluster->tso), 0);
    const struct txn_node_options txn_options = {
        .max_ts = next > 0 ? next - 1 : 0,
        .value_size_max = server->options.value_size_max,
    };
    error = txn_node_new(engine, &txn_options, &server->txn);
    if (error != 0)
        return error;
    char *const texts[PORTS] = {cluster->pd_address, cluster->store_address,
                                cluster->status_address};
    for (unsigned i = 0; i < PORTS; i++)
        memcpy(texts[i], server->acceptors[i].listener.address, ADDRESS_TEXT_SIZE);
    server->service = (struct tikv_service){
        .cluster = cluster,
        .engine = engine,
        .txn = server->txn,
        .value_size_max = server->options.value_size_max,
    };
    tikv_service_bound_answers(&server->service, server->options.memory->max);
    return 0;
}

void tikv_server_add_loop(struct tikv_server *server, struct loop *loop)
{
    unsigned index = server->loops_made++;
    struct tikv_loop *at = &server->loops[index];
    *at = (struct tikv_loop){.server = server, .loop = loop};
    pd_service_loop_init(&at->pd, server->cluster, loop);
    at->pd.txn = server->txn;
    at->pd.gc = &server->gc;
    tikv_service_loop_init(&at->tikv, &server->service, loop);
    for (unsigned i = 0; i < PORTS; i++) {
        grpc_port_loop_init(&at->ports[i], &server->ports[i], loop,
                            i == PORT_STORE ? (void *)&at->tikv : (void *)&at->pd);
        server->targets[i][index] = (struct acceptor_target){loop, &at->ports[i]};
    }
    at->tikv.port = &at->ports[PORT_STORE];
    if (server->splitter != NULL && server->loops_made == 1)
        region_splitter_start(server->splitter, server->cluster, loop, &server->options.split);
    const struct tikv_gc_options gc_options = {0};
    if (server->loops_made == 1)
        tikv_gc_open(&server->gc, server->cluster, server->txn, loop, &gc_options);
}

static void connect_port(void *arg, int descriptor, const char *peer)
{
    grpc_port_connect(arg, descriptor, peer);
}

int tikv_server_start(struct tikv_server *server)
{
    int error = 0;
    for (unsigned i = 0; i < PORTS && error == 0; i++)
        error = acceptor_start(&server->acceptors[i], server->targets[i], server->loops_made,
                               connect_port);
    return error;
}

/* --- closing --- */

static void one_done(struct tikv_loop *at)
{
    assert(at->waited_for > 0);
    if (--at->waited_for == 0)
        at->on_done(at->arg);
}

static void on_port_empty(struct grpc_port_loop *port, void *arg)
{
    struct tikv_loop *at = arg;
    if (port == &at->ports[PORT_STORE])
        tikv_service_loop_close(&at->tikv);
    one_done(at);
}

static void on_gc_closed(void *arg)
{
    one_done(arg);
}

static void on_acceptor_closed(void *arg)
{
    one_done(arg);
}

static void on_splitter_closed(void *arg)
{
    one_done(arg);
}

void tikv_server_drain_loop(struct tikv_server *server, unsigned index, void (*on_done)(void *arg),
                            void *arg)
{
    struct tikv_loop *at = &server->loops[index];
    at->on_done = on_done;
    at->arg = arg;
    at->waited_for = PORTS + 1; /* and this function, so that it cannot be over within */
    if (index == 0) {
        at->waited_for++;
        tikv_gc_close(&server->gc, on_gc_closed, at);
    }
    for (unsigned i = 0; i < PORTS && index == 0; i++)
        at->waited_for += acceptor_close(&server->acceptors[i], on_acceptor_closed, at);
    if (index == 0 && server->splitter != NULL) {
        at->waited_for++;
        region_splitter_close(server->splitter, on_splitter_closed, at);
    }
    tikv_service_loop_drain(&at->tikv);
    for (unsigned i = 0; i < PORTS; i++) {
        grpc_port_loop_drain(&at->ports[i]);
        grpc_port_loop_close(&at->ports[i], on_port_empty, at);
    }
    one_done(at);
}

void tikv_server_cut_loop(struct tikv_server *server, unsigned index)
{
    for (unsigned i = 0; i < PORTS; i++)
        grpc_port_loop_cut(&server->loops[index].ports[i]);
}

static int settle_prepare(struct meta_change *change, struct meta_batch *batch)
{
    (void)change;
    (void)batch;
    return 0;
}

static void settle_publish(struct meta_change *change)
{
    (void)change;
}

static void settle_done(struct meta_change *change, int error)
{
    struct tikv_server *server = CONTAINER_OF(change, struct tikv_server, settling);
    (void)error;
    server->on_settled(server->settled_arg);
}

/* A change that changes nothing is behind all others: when it is done, so are they. */
void tikv_server_settle(struct tikv_server *server, void (*on_done)(void *arg), void *arg)
{
    server->on_settled = on_done;
    server->settled_arg = arg;
    server->settling = (struct meta_change){
        .prepare = settle_prepare, .publish = settle_publish, .done = settle_done};
    meta_store_change(&server->cluster->meta, server->loops[0].loop, &server->settling);
}

void tikv_server_free(struct tikv_server *server)
{
    if (server == NULL)
        return;
    for (unsigned i = 0; i < server->loops_made; i++) {
        struct tikv_loop *at = &server->loops[i];
        for (unsigned k = 0; k < PORTS; k++)
            grpc_port_loop_deinit(&at->ports[k]);
        tikv_service_loop_deinit(&at->tikv);
        pd_service_loop_deinit(&at->pd);
    }
    if (server->splitter != NULL && server->loops_made > 0)
        region_splitter_deinit(server->splitter);
    mem_free(server->splitter);
    for (unsigned i = 0; i < PORTS; i++) {
        acceptor_deinit(&server->acceptors[i]);
        mem_free(server->targets[i]);
        tls_context_free(server->ports[i].tls);
    }
    if (server->txn != NULL)
        txn_node_free(server->txn);
    cluster_free(server->cluster);
    mem_free(server->loops);
    mem_free(server);
}

const struct cluster *tikv_server_cluster(const struct tikv_server *server)
{
    return server->cluster;
}

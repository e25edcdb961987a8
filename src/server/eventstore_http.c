/*
 * server/eventstore_http.c: the pages; see the header.
 *
 * They have the names and members that clients look for. A cluster of one: this server is its
 * leader. Gossip gives members by their names of both generations, since clients differ in which
 * they read; but a state has one name, and which one is an option.
 */
#include "server/eventstore_http.h"

#include "base/clock.h"
#include "proto/eventstore/frame.h"
#include "server/eventstore_stats.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* What clients may take us for: the last version that spoke this protocol by itself. */
#define ES_VERSION "21.10.11"

static struct es_service *service_of(const struct grpc_port_loop *at)
{
    const struct es_service_loop *loop = at->state;
    return loop->service;
}

static int status_of(int error)
{
    return error == 0 ? 200 : 500;
}

static int ping_page(struct grpc_port_loop *at, struct buf *body)
{
    (void)at;
    return status_of(buf_printf(body, "{\"text\":\"kvs-server is here\"}\n"));
}

static int health_page(struct grpc_port_loop *at, struct buf *body)
{
    (void)at;
    (void)body;
    return 204;
}

static int info_page(struct grpc_port_loop *at, struct buf *body)
{
    const struct es_service *service = service_of(at);
    return status_of(buf_printf(
        body,
        "{\"esVersion\":\"" ES_VERSION "\",\"kvsVersion\":\"" KVS_VERSION "\",\"state\":\"%s\","
        "\"features\":{\"projections\":false,\"userManagement\":false,\"atomPub\":false},"
        "\"authentication\":{\"type\":\"%s\",\"properties\":null}}\n",
        service->options.gossip_master ? "master" : "leader",
        service->options.insecure ? "insecure" : "internal"));
}

/* --- gossip ----------------------------------------------------------------------------------- */

struct endpoint {
    char host[ES_HOST_SIZE]; /* without the brackets of IPv6 */
    unsigned port;           /* 0: not served */
};

static void split_address(const char *address, struct endpoint *ret)
{
    const char *colon = strrchr(address, ':');
    size_t size = colon != NULL ? (size_t)(colon - address) : 0;
    *ret = (struct endpoint){{0}, 0};
    if (colon == NULL || sscanf(colon + 1, "%u", &ret->port) != 1)
        return;
    bool brackets = size >= 2 && address[0] == '[' && address[size - 1] == ']';
    snprintf(ret->host, sizeof ret->host, "%.*s", (int)(brackets ? size - 2 : size),
             address + brackets);
}

/* The host that the connection came to, which is one of this machine's. */
static void reached_host(const struct connection *connection, struct endpoint *endpoint)
{
    struct sockaddr_storage address;
    int size = sizeof address;
    char text[ADDRESS_TEXT_SIZE];
    struct endpoint reached;
    if (uv_tcp_getsockname(&connection->tcp, (struct sockaddr *)&address, &size) != 0)
        return;
    address_format(&address, text);
    split_address(text, &reached);
    bool mapped = strncmp(reached.host, "::ffff:", 7) == 0 && strchr(reached.host, '.') != NULL;
    snprintf(endpoint->host, sizeof endpoint->host, "%s", reached.host + (mapped ? 7 : 0));
}

/* Where clients are told to go. */
static void endpoint_of(const struct es_service *service, const struct connection *asking,
                        const char *address, struct endpoint *ret_endpoint)
{
    split_address(address, ret_endpoint);
    if (ret_endpoint->port == 0)
        return;
    if (service->advertise[0] != '\0')
        memcpy(ret_endpoint->host, service->advertise, sizeof service->advertise);
    else if (strcmp(ret_endpoint->host, "0.0.0.0") == 0 || strcmp(ret_endpoint->host, "::") == 0)
        reached_host(asking, ret_endpoint);
}

void eventstore_http_base(const struct es_service *service, const struct connection *asking,
                          char ret_base[EVENTSTORE_HTTP_BASE_SIZE])
{
    struct endpoint http;
    endpoint_of(service, asking, service->http_address, &http);
    bool is_v6 = strchr(http.host, ':') != NULL;
    snprintf(ret_base, EVENTSTORE_HTTP_BASE_SIZE, "%s://%s%s%s:%u",
             service->tls != NULL ? "https" : "http", is_v6 ? "[" : "", http.host, is_v6 ? "]" : "",
             http.port);
}

static int gossip_page(struct grpc_port_loop *at, struct buf *body)
{
    const struct es_service *service = service_of(at);
    struct endpoint tcp, http;
    char now[32], id[ES_ID_TEXT_SIZE];
    endpoint_of(service, at->asking, service->tcp_address, &tcp);
    endpoint_of(service, at->asking, service->http_address, &http);
    es_time_format(clock_wall_ms(), now);
    es_id_format(&service->instance, id);
    const char *tcp_host = tcp.port != 0 ? tcp.host : http.host;
    bool secure = service->tls != NULL;
    int64_t position = streams_last_position(service->streams);
    return status_of(buf_printf(
        body,
        "{\"members\":[{\"instanceId\":\"%s\",\"timeStamp\":\"%s\",\"state\":\"%s\","
        "\"isAlive\":true,"
        "\"internalTcpIp\":\"%s\",\"internalTcpPort\":0,\"internalSecureTcpPort\":0,"
        "\"externalTcpIp\":\"%s\",\"externalTcpPort\":%u,\"externalSecureTcpPort\":%u,"
        "\"httpEndPointIp\":\"%s\",\"httpEndPointPort\":%u,"
        "\"internalHttpIp\":\"%s\",\"internalHttpPort\":%u,"
        "\"externalHttpIp\":\"%s\",\"externalHttpPort\":%u,"
        "\"lastCommitPosition\":%" PRId64 ",\"writerCheckpoint\":%" PRId64
        ",\"chaserCheckpoint\":%" PRId64 ",\"epochPosition\":0,\"epochNumber\":0,"
        "\"epochId\":\"%s\",\"nodePriority\":0,\"isReadOnlyReplica\":false}],"
        "\"serverIp\":\"%s\",\"serverPort\":%u}\n",
        id, now, service->options.gossip_master ? "Master" : "Leader", tcp_host, tcp_host,
        secure ? 0 : tcp.port, secure ? tcp.port : 0, http.host, http.port, http.host, http.port,
        http.host, http.port, position, position, position, id, http.host, http.port));
}

static int stats_page(struct grpc_port_loop *at, struct buf *body)
{
    int error = es_stats_append(service_of(at), body);
    return status_of(error != 0 ? error : buf_printf(body, "\n"));
}

#define JSON "application/json; charset=utf-8"

const struct http_route eventstore_routes[] = {
    {.path = "/ping", .type = JSON, .answer = ping_page},
    {.path = "/health/live", .type = JSON, .answer = health_page},
    {.path = "/info", .type = JSON, .answer = info_page},
    {.path = "/gossip", .type = JSON, .answer = gossip_page},
    {.path = "/stats", .type = JSON, .answer = stats_page},
    {.path = "/subscriptions", .methods = "GET, HEAD, POST", .take = eventstore_take_subscriptions},
};
const size_t eventstore_routes_count = sizeof eventstore_routes / sizeof eventstore_routes[0];

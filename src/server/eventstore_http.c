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

void eventstore_http_base(const struct es_service *service, const struct connection *asking,
                          char ret_base[EVENTSTORE_HTTP_BASE_SIZE])
{
    struct advertised http;
    char place[ADVERTISE_TEXT_SIZE];
    advertise(service->advertise, service->http_address, asking, &http);
    advertise_format(&http, place);
    snprintf(ret_base, EVENTSTORE_HTTP_BASE_SIZE, "%s://%s",
             service->tls != NULL ? "https" : "http", place);
}

static int gossip_page(struct grpc_port_loop *at, struct buf *body)
{
    const struct es_service *service = service_of(at);
    struct advertised tcp, http;
    char now[32], id[ES_ID_TEXT_SIZE];
    advertise(service->advertise, service->tcp_address, at->asking, &tcp);
    advertise(service->advertise, service->http_address, at->asking, &http);
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

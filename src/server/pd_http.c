/*
 * server/pd_http.c: the HTTP pages of the PD port and of the status port; see pd_service.h.
 *
 * They have the names and the members that tools and clients' own tests look for; a page that
 * cannot be made for want of memory is status 500.
 */
#include "server/pd_parts.h"

#include "base/clock.h"
#include "server/tikv_gc.h"

#include <inttypes.h>

static const struct pd_service_loop *state_of(const struct grpc_port_loop *at)
{
    return at->state;
}

static int status_of(int error)
{
    return error == 0 ? 200 : 500;
}

/* --- PD --- */

static int append_hex(struct buf *out, kvs_slice bytes)
{
    static const char digits[] = "0123456789ABCDEF";
    int error = buf_reserve(out, bytes.size * 2);
    for (size_t i = 0; i < bytes.size && error == 0; i++) {
        out->data[out->size++] = (uint8_t)digits[bytes.data[i] >> 4];
        out->data[out->size++] = (uint8_t)digits[bytes.data[i] & 15];
    }
    return error;
}

static int append_region(struct buf *out, const struct region *region)
{
    int error = buf_printf(out, "{\"id\":%" PRIu64 ",\"start_key\":\"", region->id);
    if (error == 0)
        error = append_hex(out, region->start);
    if (error == 0)
        error = buf_printf(out, "\",\"end_key\":\"");
    if (error == 0)
        error = append_hex(out, region->end);
    if (error == 0)
        error = buf_printf(out,
                           "\",\"epoch\":{\"conf_ver\":%" PRIu64 ",\"version\":%" PRIu64
                           "},\"peers\":[{\"id\":%" PRIu64
                           ",\"store_id\":%u,\"role_name\":\"Voter\"}],\"leader\":{\"id\":%" PRIu64
                           ",\"store_id\":%u,\"role_name\":\"Voter\"}}",
                           region->conf_version, region->version, region->peer_id, STORE_ID,
                           region->peer_id, STORE_ID);
    return error;
}

static int regions_page(struct grpc_port_loop *at, struct buf *body)
{
    struct pd_service_loop *state = at->state;
    const struct region_list *list = region_reader_list(&state->regions);
    int error = buf_printf(body, "{\"count\":%zu,\"regions\":[", list->count);
    for (size_t i = 0; i < list->count && error == 0; i++) {
        if (i > 0)
            error = buf_append_u8(body, ',');
        if (error == 0)
            error = append_region(body, list->by_key[i]);
    }
    if (error == 0)
        error = buf_printf(body, "]}\n");
    return status_of(error);
}

static int stores_page(struct grpc_port_loop *at, struct buf *body)
{
    const struct cluster *cluster = state_of(at)->cluster;
    const struct region_list *list =
        region_reader_list(&((struct pd_service_loop *)at->state)->regions);
    struct pd_places places;
    pd_tell_places(cluster, at->asking, &places);
    return status_of(buf_printf(
        body,
        "{\"count\":1,\"stores\":[{\"store\":{\"id\":%u,\"address\":\"%s\",\"version\":\"%s\","
        "\"peer_address\":\"%s\",\"status_address\":\"%s\",\"start_timestamp\":%" PRIu64
        ",\"state_name\":\"Up\"},\"status\":{\"leader_count\":%zu,\"region_count\":%zu}}]}\n",
        STORE_ID, places.store, CLUSTER_TIKV_VERSION, places.store, places.status,
        cluster->started_ms / 1000, list->count, list->count));
}

static int version_page(struct grpc_port_loop *at, struct buf *body)
{
    (void)at;
    return status_of(buf_printf(body, "{\"version\":\"v%s\"}\n", CLUSTER_TIKV_VERSION));
}

static int health_page(struct grpc_port_loop *at, struct buf *body)
{
    struct pd_places places;
    pd_tell_places(state_of(at)->cluster, at->asking, &places);
    return status_of(buf_printf(
        body, "[{\"name\":\"%s\",\"member_id\":%u,\"client_urls\":[\"%s\"],\"health\":true}]\n",
        PD_MEMBER_NAME, PD_MEMBER_ID, places.pd_url));
}

static int members_page(struct grpc_port_loop *at, struct buf *body)
{
    const struct cluster *cluster = state_of(at)->cluster;
    struct pd_places places;
    char member[2 * PD_URL_SIZE + 160];
    pd_tell_places(cluster, at->asking, &places);
    snprintf(member, sizeof member,
             "{\"name\":\"%s\",\"member_id\":%u,\"peer_urls\":[\"%s\"],\"client_urls\":[\"%s\"],"
             "\"binary_version\":\"v%s\"}",
             PD_MEMBER_NAME, PD_MEMBER_ID, places.pd_url, places.pd_url, CLUSTER_TIKV_VERSION);
    return status_of(buf_printf(body,
                                "{\"header\":{\"cluster_id\":%" PRIu64
                                "},\"members\":[%s],\"leader\":%s,\"etcd_leader\":%s}\n",
                                cluster->id, member, member, member));
}

static int min_resolved_ts_page(struct grpc_port_loop *at, struct buf *body)
{
    (void)at;
    return status_of(buf_printf(
        body, "{\"min_resolved_ts\":0,\"is_real_time\":false,\"persist_interval\":\"0s\"}\n"));
}

#define JSON "application/json; charset=utf-8"
#define TEXT "text/plain; version=0.0.4; charset=utf-8"
#define API "/pd/api/v1/"

const struct http_route pd_routes[] = {
    {API "regions", JSON, regions_page, NULL, NULL},
    {API "stores", JSON, stores_page, NULL, NULL},
    {API "version", JSON, version_page, NULL, NULL},
    {API "health", JSON, health_page, NULL, NULL},
    {API "members", JSON, members_page, NULL, NULL},
    {API "min-resolved-ts", JSON, min_resolved_ts_page, NULL, NULL},
};
const size_t pd_routes_count = sizeof pd_routes / sizeof pd_routes[0];

/* --- the store's status --- */

static int config_page(struct grpc_port_loop *at, struct buf *body)
{
    const struct cluster *cluster = state_of(at)->cluster;
    struct pd_places places;
    pd_tell_places(cluster, at->asking, &places);
    return status_of(buf_printf(
        body,
        "{\"server\":{\"addr\":\"%s\",\"advertise-addr\":\"%s\",\"status-addr\":\"%s\"},"
        "\"storage\":{\"api-version\":2,\"enable-ttl\":true},\"pd\":{\"endpoints\":[\"%s\"]}}\n",
        cluster->store_address, places.store, places.status, places.pd));
}

static int status_page(struct grpc_port_loop *at, struct buf *body)
{
    return status_of(buf_printf(body, "{\"version\":\"%s\",\"start_time\":%" PRIu64 "}\n",
                                CLUSTER_TIKV_VERSION, state_of(at)->cluster->started_ms / 1000));
}

static int metric(struct buf *body, const char *name, const char *type, const char *help,
                  uint64_t value)
{
    return buf_printf(body, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", name, help, name, type,
                      name, value);
}

static int txn_metrics(struct buf *body, const struct pd_service_loop *state)
{
    struct txn_node_stats stats;
    const struct tikv_gc *gc = state->gc;
    if (state->txn == NULL)
        return 0;
    txn_node_stats(state->txn, &stats);
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } rows[] = {
        {"kvs_txn_commands_total", "counter", "Commands of transactions.", stats.commands},
        {"kvs_txn_conflicts_total", "counter", "Write conflicts.", stats.conflicts},
        {"kvs_txn_deadlocks_total", "counter", "Deadlocks found.", stats.deadlocks},
        {"kvs_txn_lock_waits_total", "counter", "Waits for a lock.", stats.lock_waits},
        {"kvs_txn_waiting", "gauge", "Commands that wait for a lock.", stats.waiting},
        {"kvs_gc_safe_point", "gauge", "Timestamp below which old versions are removed.",
         atomic_load_explicit(&gc->done_safe_point, memory_order_relaxed)},
        {"kvs_gc_rounds_total", "counter", "Rounds of garbage collection.",
         atomic_load_explicit(&gc->rounds, memory_order_relaxed)},
        {"kvs_gc_removed_versions_total", "counter", "Old versions removed.",
         atomic_load_explicit(&gc->removed_versions, memory_order_relaxed)},
    };
    int error = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && error == 0; i++)
        error = metric(body, rows[i].name, rows[i].type, rows[i].help, rows[i].value);
    return error;
}

static int metrics_page(struct grpc_port_loop *at, struct buf *body)
{
    struct pd_service_loop *state = at->state;
    struct engine_stats stats;
    engine_stats(state->cluster->engine, &stats);
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } rows[] = {
        {"kvs_uptime_seconds", "gauge", "Since the start.",
         (clock_wall_ms() - state->cluster->started_ms) / 1000},
        {"kvs_regions", "gauge", "Regions of the store.",
         region_reader_list(&state->regions)->count},
        {"kvs_keys", "gauge",
         "Keys stored raw, in the default family; 0 where the engine cannot tell.", stats.own_keys},
        {"kvs_all_keys", "gauge", "Keys of all families, those of transactions and events, too.",
         stats.keys},
        {"kvs_live_bytes", "gauge", "Bytes of records that count.", stats.live_bytes},
        {"kvs_disk_bytes", "gauge", "Bytes of all files.", stats.disk_bytes},
        {"kvs_cache_bytes", "gauge", "Bytes of values in memory.", stats.cache_bytes},
        {"kvs_writes_total", "counter", "Batches written since the start.", stats.writes},
        {"kvs_syncs_total", "counter", "Syncs since the start.", stats.syncs},
        {"kvs_storage_failed", "gauge", "1 when writes are refused.", stats.failed},
    };
    int error = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && error == 0; i++)
        error = metric(body, rows[i].name, rows[i].type, rows[i].help, rows[i].value);
    if (error == 0)
        error = txn_metrics(body, state);
    return status_of(error);
}

const struct http_route status_routes[] = {
    {"/config", JSON, config_page, NULL, NULL},
    {"/status", JSON, status_page, NULL, NULL},
    {"/metrics", TEXT, metrics_page, NULL, NULL},
};
const size_t status_routes_count = sizeof status_routes / sizeof status_routes[0];

/*
 * Requests of any bytes to the real TiKV and PD services, over an engine in memory and sockets.
 *
 * The input is a list of calls: u8 method (0x80: of PD's list below, else of the store's), u16 size
 * (little-endian), so many bytes as the one message. A stream's call is half-closed behind it.
 * New methods go to the end of the lists: the corpus has their numbers.
 * Every input has a cluster of its own, whose regions are always the same.
 *
 * Whatever the calls bring, each ends with a status of gRPC or is still waited for when the time is
 * up (a command may ask for a delay); the port goes on to serve, and the services end with nothing
 * under way, which their own asserts see.
 */
#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "fuzz/target.h"
#include "server/pd_service.h"
#include "server/tikv_service.h"
#include "txn/node.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define CALLS_MAX 32u
#define WAIT_MS 20u /* for answers that were delayed on request */

enum { STORE, PD, PORTS };

#define T "/tikvpb.Tikv/"
#define P "/pdpb.PD/"
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const char *const store_paths[] = {
    T "RawGet",
    T "RawBatchGet",
    T "RawPut",
    T "RawBatchPut",
    T "RawDelete",
    T "RawBatchDelete",
    T "RawScan",
    T "RawDeleteRange",
    T "RawBatchScan",
    T "RawGetKeyTTL",
    T "RawCompareAndSwap",
    T "RawChecksum",
    T "RawCoprocessor",
    T "Coprocessor",
    T "SplitRegion",
    T "GetStoreSafeTS",
    T "GetHealthFeedback",
    T "BatchCommands",
    T "KvGet",
    T "KvBatchGet",
    T "KvScan",
    T "KvScanLock",
    T "KvPrewrite",
    T "KvCommit",
    T "KvBatchRollback",
    T "KvCleanup",
    T "KvPessimisticLock",
    T "KVPessimisticRollback",
    T "KvTxnHeartBeat",
    T "KvCheckTxnStatus",
    T "KvCheckSecondaryLocks",
    T "KvResolveLock",
    T "KvDeleteRange",
    T "UnsafeDestroyRange",
    T "KvGC",
    T "PhysicalScanLock",
    T "RegisterLockObserver",
    T "CheckLockObserver",
    T "RemoveLockObserver",
    T "GetLockWaitInfo",
    T "BroadcastTxnStatus",
    T "MvccGetByKey",
    T "MvccGetByStartTs",
    T "KvFlush",
    T "KvBufferBatchGet",
};

static const char *const pd_paths[] = {
    P "Tso",
    P "QueryRegion",
    P "GetRegion",
    P "GetPrevRegion",
    P "GetRegionByID",
    P "ScanRegions",
    P "BatchScanRegions",
    P "GetMembers",
    P "GetClusterInfo",
    P "IsBootstrapped",
    P "GetStore",
    P "GetAllStores",
    P "GetMinTS",
    P "SplitRegions",
    P "ScatterRegion",
    P "GetOperator",
    P "GetGCSafePoint",
    P "UpdateGCSafePoint",
    P "UpdateServiceGCSafePoint",
    P "GetGCState",
    P "AdvanceTxnSafePoint",
    P "AdvanceGCSafePoint",
    P "SetGCBarrier",
    P "DeleteGCBarrier",
    "/keyspacepb.Keyspace/LoadKeyspace",
    "/keyspacepb.Keyspace/LoadKeyspaceByID",
    "/meta_storagepb.MetaStorage/Get",
    "/etcdserverpb.Cluster/MemberList",
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Put",
};

struct world {
    struct engine *engine;
    struct cluster *cluster;
    struct txn_node *txn;
    struct loop loop;
    struct tikv_service service;
    struct tikv_service_loop tikv;
    struct pd_service_loop pd;
    struct grpc_port ports[PORTS];
    struct grpc_port_loop port_loops[PORTS];
    unsigned open; /* ports that are not empty yet */
    bool settled;
    /* the client */
    int sockets[PORTS];
    struct grpc_conn *conns[PORTS];
    struct buf out[PORTS];
    unsigned calls; /* under way */
    int last_code;
};

static kvs_thread_pool *pool;

/* --- the client --- */

static void on_message(struct grpc_call *call, kvs_slice message)
{
    (void)call;
    (void)message;
}

static void on_end(struct grpc_call *call, const struct grpc_status *status)
{
    struct world *world = grpc_call_user(call);
    require(status->code >= 0 && status->code <= 16);
    world->last_code = status->code;
    world->calls--;
}

static const struct grpc_events client_events = {.on_message = on_message, .on_end = on_end};

static void call_start(struct world *world, unsigned port, const char *path, kvs_slice message)
{
    struct grpc_call *call;
    const struct grpc_call_options options = {.path = slice_of_string(path), .user = world};
    if (grpc_call_start(world->conns[port], &options, &call) != 0)
        return;
    world->calls++;
    require(grpc_call_send(call, message) == 0);
    grpc_call_half_close(call);
}

/* Bytes both ways, once. */
static void exchange(struct world *world, unsigned port)
{
    uint8_t bytes[65536];
    struct buf *out = &world->out[port];
    grpc_conn_run(world->conns[port], clock_now_ms());
    grpc_conn_send(world->conns[port], out, sizeof bytes);
    ssize_t moved =
        out->size > 0 ? send(world->sockets[port], out->data, out->size, MSG_NOSIGNAL) : 0;
    if (moved > 0)
        buf_consume(out, (size_t)moved);
    loop_turn(&world->loop, false);
    moved = recv(world->sockets[port], bytes, sizeof bytes, 0);
    if (moved > 0)
        grpc_conn_receive(world->conns[port], clock_now_ms(), slice_make(bytes, (size_t)moved));
    require(moved != 0); /* the service never closes a connection for what a request says */
}

/* Until all calls have ended, or nothing has come for a while. */
static void wait_for_calls(struct world *world)
{
    while (world->calls > 0) {
        for (unsigned port = 0; port < PORTS; port++)
            exchange(world, port);
        struct pollfd polls[] = {
            {.fd = world->sockets[STORE], .events = POLLIN},
            {.fd = world->sockets[PD], .events = POLLIN},
            {.fd = uv_backend_fd(world->loop.uv), .events = POLLIN},
        };
        if (world->calls > 0 && !loop_is_ready(&world->loop) && poll(polls, 3, WAIT_MS) == 0)
            return;
    }
}

/* --- the services --- */

static void cleanup(void)
{
    kvs_thread_pool_unref(pool);
}

static void open_cluster(struct world *world)
{
    struct engine_message message = {.text = ""};
    const struct cluster_options options = {.keyspaces = NULL};
    if (pool == NULL) {
        log_set_level(LOG_SILENT);
        require(kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, 1, &pool) == 0);
        atexit(cleanup);
    }
    const struct engine_options engine_options = {.pool = pool};
    require(memory_engine_open_blocking(&engine_options, &world->engine, &message) == 0);
    require(cluster_open_blocking(world->engine, &options, &world->cluster, &message) == 0);
    const struct txn_node_options txn_options = {.value_size_max = 1u << 20};
    require(txn_node_new(world->engine, &txn_options, &world->txn) == 0);
    world->service = (struct tikv_service){.cluster = world->cluster,
                                           .engine = world->engine,
                                           .txn = world->txn,
                                           .value_size_max = 1u << 20};
    world->ports[STORE] = (struct grpc_port){.name = "TiKV",
                                             .methods = tikv_methods,
                                             .methods_count = tikv_methods_count,
                                             .connections_max = 1};
    world->ports[PD] = (struct grpc_port){.name = "PD",
                                          .methods = pd_methods,
                                          .methods_count = pd_methods_count,
                                          .routes = pd_routes,
                                          .routes_count = pd_routes_count,
                                          .connections_max = 1};
}

static void connect_port(struct world *world, unsigned port)
{
    const struct grpc_config config = {.events = &client_events};
    int ends[2];
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    world->sockets[port] = ends[0];
    grpc_port_connect(&world->port_loops[port], ends[1], "fuzz");
    require(grpc_conn_new_client(&config, clock_now_ms(), &world->conns[port]) == 0);
}

static void world_open(struct world *world)
{
    *world = (struct world){0};
    open_cluster(world);
    require(loop_init(&world->loop, 0) == 0);
    pd_service_loop_init(&world->pd, world->cluster, &world->loop);
    tikv_service_loop_init(&world->tikv, &world->service, &world->loop);
    for (unsigned port = 0; port < PORTS; port++) {
        grpc_port_loop_init(&world->port_loops[port], &world->ports[port], &world->loop,
                            port == STORE ? (void *)&world->tikv : (void *)&world->pd);
        connect_port(world, port);
    }
    world->tikv.port = &world->port_loops[STORE];
}

static void on_empty(struct grpc_port_loop *at, void *arg)
{
    struct world *world = arg;
    if (at == &world->port_loops[STORE])
        tikv_service_loop_close(&world->tikv);
    world->open--;
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

static struct world *settling;

static void settle_done(struct meta_change *change, int error)
{
    (void)change;
    (void)error;
    settling->settled = true;
}

/* Changes of the cluster that nobody waits for any more end before it does. */
static void settle(struct world *world)
{
    struct meta_change change = {
        .prepare = settle_prepare, .publish = settle_publish, .done = settle_done};
    settling = world;
    meta_store_change(&world->cluster->meta, &world->loop, &change);
    while (!world->settled)
        loop_turn(&world->loop, true);
}

static void world_close(struct world *world)
{
    world->open = PORTS;
    tikv_service_loop_drain(&world->tikv);
    for (unsigned port = 0; port < PORTS; port++) {
        grpc_conn_lost(world->conns[port], "end of input");
        grpc_port_loop_drain(&world->port_loops[port]);
        grpc_port_loop_cut(&world->port_loops[port]);
        grpc_port_loop_close(&world->port_loops[port], on_empty, world);
    }
    while (world->open > 0)
        loop_turn(&world->loop, true);
    settle(world);
    loop_stop(&world->loop);
    for (unsigned port = 0; port < PORTS; port++) {
        grpc_port_loop_deinit(&world->port_loops[port]);
        grpc_conn_free(world->conns[port]);
        buf_deinit(&world->out[port]);
        close(world->sockets[port]);
    }
    tikv_service_loop_deinit(&world->tikv);
    pd_service_loop_deinit(&world->pd);
    loop_deinit(&world->loop);
    txn_node_free(world->txn);
    cluster_free(world->cluster);
    require(engine_close_blocking(world->engine) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world *world = mem_alloc(sizeof *world);
    require(world != NULL);
    world_open(world);
    for (unsigned count = 0; size >= 3 && count < CALLS_MAX; count++) {
        bool is_pd = (data[0] & 0x80) != 0;
        const char *path = is_pd ? pd_paths[(data[0] & 0x7fu) % COUNT(pd_paths)]
                                 : store_paths[data[0] % COUNT(store_paths)];
        size_t length = get_u16(data + 1);
        length = length < size - 3 ? length : size - 3;
        call_start(world, is_pd ? PD : STORE, path, slice_make(data + 3, length));
        wait_for_calls(world);
        data += 3 + length;
        size -= 3 + length;
    }
    for (unsigned port = 0; port < PORTS; port++) {
        world->last_code = -1;
        call_start(world, port, "/grpc.health.v1.Health/Check", slice_make(NULL, 0));
        wait_for_calls(world);
        require(world->last_code == GRPC_OK);
    }
    world_close(world);
    mem_free(world);
    return 0;
}

/* See tikv_node.h. */
#include "unit/server/tikv_node.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/mem.h"
#include "pd/gc_state.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <kvs/error.h>
#include <kvs/thread_pool.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"
#include "times.h"

/* --- the loop's thread, from outside --- */

struct errand {
    struct task task;
    struct tikv_node *node;
    void (*run)(struct errand *errand);
    int descriptor;
    struct region_split split;
    struct gc_change safe_point;
    kvs_slice key;
    pthread_mutex_t mutex;
    pthread_cond_t done_cond;
    bool done;
};

static void errand_done(struct errand *errand)
{
    pthread_mutex_lock(&errand->mutex);
    errand->done = true;
    pthread_cond_signal(&errand->done_cond);
    pthread_mutex_unlock(&errand->mutex);
}

static void on_errand(struct task *task)
{
    struct errand *errand = CONTAINER_OF(task, struct errand, task);
    errand->run(errand);
}

static void errand_run(struct errand *errand)
{
    pthread_mutex_init(&errand->mutex, NULL);
    pthread_cond_init(&errand->done_cond, NULL);
    errand->task.run = on_errand;
    loop_post(&errand->node->loop, &errand->task);
    pthread_mutex_lock(&errand->mutex);
    while (!errand->done)
        pthread_cond_wait(&errand->done_cond, &errand->mutex);
    pthread_mutex_unlock(&errand->mutex);
    pthread_mutex_destroy(&errand->mutex);
    pthread_cond_destroy(&errand->done_cond);
}

static void do_connect(struct errand *errand)
{
    grpc_port_connect(&errand->node->port_loop, errand->descriptor, "test");
    errand_done(errand);
}

static void on_split(struct region_split *split, int error)
{
    struct errand *errand = CONTAINER_OF(split, struct errand, split);
    if (error != 0)
        abort();
    errand_done(errand);
}

static void do_split(struct errand *errand)
{
    errand->split = (struct region_split){.keys = &errand->key, .count = 1, .done = on_split};
    region_map_split(errand->node->cluster->regions, &errand->node->loop, &errand->split);
}

static void on_safe_point(struct gc_change *change, int error)
{
    struct errand *errand = CONTAINER_OF(change, struct errand, safe_point);
    if (error != 0)
        abort();
    errand_done(errand);
}

static void do_set_safe_point(struct errand *errand)
{
    errand->safe_point.action = GC_UPDATE;
    errand->safe_point.done = on_safe_point;
    gc_state_change(errand->node->cluster->gc, &errand->node->loop, &errand->safe_point);
}

static void on_gc_closed(void *arg)
{
    errand_done(arg);
}

static void on_empty(struct grpc_port_loop *at, void *arg)
{
    struct errand *errand = arg;
    (void)at;
    tikv_service_loop_close(&errand->node->at);
    tikv_gc_close(&errand->node->gc, on_gc_closed, errand);
}

static void do_stop(struct errand *errand)
{
    struct tikv_node *node = errand->node;
    tikv_service_loop_drain(&node->at);
    grpc_port_loop_drain(&node->port_loop);
    grpc_port_loop_cut(&node->port_loop);
    grpc_port_loop_close(&node->port_loop, on_empty, errand);
}

/* --- the node --- */

static void listen_anywhere(struct tikv_node *node)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    node->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(node->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(node->listener, 16), 0);
    assert_int_equal(getsockname(node->listener, (struct sockaddr *)&address, &size), 0);
    node->listener_port = address.sin_port;
}

struct tikv_node *node_start(void)
{
    struct tikv_node *node = mem_zalloc(sizeof *node);
    struct engine_message message = {.text = ""};
    const struct cluster_options options = {.keyspaces = NULL};
    assert_int_equal(kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, 2, &node->pool), 0);
    const struct engine_options engine_options = {.pool = node->pool};
    assert_int_equal(memory_engine_open_blocking(&engine_options, &node->engine, &message), 0);
    assert_int_equal(cluster_open_blocking(node->engine, &options, &node->cluster, &message), 0);
    const struct txn_node_options txn_options = {.wait_max_ms = PATIENT_MS};
    assert_int_equal(txn_node_new(node->engine, &txn_options, &node->txn), 0);
    node->service = (struct tikv_service){.cluster = node->cluster,
                                          .engine = node->engine,
                                          .txn = node->txn,
                                          .value_size_max = KVS_VALUE_SIZE_MAX};
    tikv_service_bound_answers(&node->service, NODE_ANSWERS_MEMORY);
    node->port = (struct grpc_port){.name = "TiKV",
                                    .methods = tikv_methods,
                                    .methods_count = tikv_methods_count,
                                    .connections_max = 64};
    assert_int_equal(loop_init(&node->loop, 0), 0);
    tikv_service_loop_init(&node->at, &node->service, &node->loop);
    grpc_port_loop_init(&node->port_loop, &node->port, &node->loop, &node->at);
    node->at.port = &node->port_loop;
    const struct tikv_gc_options gc_options = {.poll_ms = 1, .pause_ms = 1};
    tikv_gc_open(&node->gc, node->cluster, node->txn, &node->loop, &gc_options);
    listen_anywhere(node);
    assert_int_equal(loop_start(&node->loop, "tikv"), 0);
    return node;
}

void node_stop(struct tikv_node *node)
{
    struct errand errand = {.node = node, .run = do_stop};
    errand_run(&errand);
    loop_stop(&node->loop);
    grpc_port_loop_deinit(&node->port_loop);
    tikv_service_loop_deinit(&node->at);
    loop_deinit(&node->loop);
    txn_node_free(node->txn);
    cluster_free(node->cluster);
    assert_int_equal(engine_close_blocking(node->engine), 0);
    kvs_thread_pool_unref(node->pool);
    close(node->listener);
    mem_free(node);
}

void node_split(struct tikv_node *node, kvs_slice stored_key)
{
    struct errand errand = {.node = node, .run = do_split, .key = stored_key};
    errand_run(&errand);
}

void node_set_safe_point(struct tikv_node *node, uint64_t ts)
{
    struct errand errand = {.node = node, .run = do_set_safe_point, .safe_point.ts = ts};
    errand_run(&errand);
}

const struct region *node_region(struct tikv_node *node, kvs_slice stored_key)
{
    struct region_reader reader; /* regions live on in the map's list */
    region_reader_init(&reader, node->cluster->regions);
    const struct region *region = region_find(region_reader_list(&reader), stored_key);
    region_reader_deinit(&reader);
    return region;
}

void context_fill(struct context *context, struct tikv_node *node, kvs_slice stored_key)
{
    const struct region *region = node_region(node, stored_key);
    kvrpcpb__context__init(&context->context);
    metapb__region_epoch__init(&context->epoch);
    metapb__peer__init(&context->peer);
    context->epoch.conf_ver = region->conf_version;
    context->epoch.version = region->version;
    context->peer.id = region->peer_id;
    context->peer.store_id = STORE_ID;
    context->context.region_id = region->id;
    context->context.region_epoch = &context->epoch;
    context->context.peer = &context->peer;
    context->context.cluster_id = node->cluster->id;
}

/* --- the client --- */

static void on_message(struct grpc_call *call, kvs_slice message)
{
    struct tikv_peer *peer = grpc_call_user(call);
    buf_append_u32(&peer->messages, (uint32_t)message.size);
    buf_append_slice(&peer->messages, message);
}

static void on_end(struct grpc_call *call, const struct grpc_status *status)
{
    struct tikv_peer *peer = grpc_call_user(call);
    peer->call = NULL;
    peer->over = true;
    peer->code = status->code;
    snprintf(peer->text, sizeof peer->text, "%.*s", (int)status->message.size,
             (const char *)status->message.data);
}

static const struct grpc_events peer_events = {.on_message = on_message, .on_end = on_end};

struct tikv_peer *peer_connect(struct tikv_node *node)
{
    struct tikv_peer *peer = mem_zalloc(sizeof *peer);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = node->listener_port};
    peer->node = node;
    peer->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(peer->descriptor, (struct sockaddr *)&address, sizeof address), 0);
    struct errand errand = {.node = node, .run = do_connect};
    errand.descriptor = accept4(node->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(errand.descriptor >= 0);
    errand_run(&errand);
    const struct grpc_config config = {.events = &peer_events,
                                       .message_bytes_max = NODE_ANSWERS_MEMORY};
    assert_int_equal(grpc_conn_new_client(&config, clock_now_ms(), &peer->conn), 0);
    fcntl(peer->descriptor, F_SETFL, O_NONBLOCK);
    peer_write(peer); /* how it begins: the port waits for that for seconds only */
    return peer;
}

void peer_close(struct tikv_peer *peer)
{
    grpc_conn_free(peer->conn);
    close(peer->descriptor);
    buf_deinit(&peer->out);
    buf_deinit(&peer->messages);
    mem_free(peer);
}

void peer_write(struct tikv_peer *peer)
{
    grpc_conn_send(peer->conn, &peer->out, 1024 * 1024);
    if (peer->out.size == 0)
        return;
    ssize_t sent = send(peer->descriptor, peer->out.data, peer->out.size, MSG_NOSIGNAL);
    if (sent > 0)
        buf_consume(&peer->out, (size_t)sent);
}

static bool read_some(struct tikv_peer *peer)
{
    static _Thread_local uint8_t bytes[256 * 1024];
    struct pollfd poll_fd = {
        .fd = peer->descriptor,
        .events = (short)(POLLIN | (peer->out.size > 0 ? POLLOUT : 0)),
    };
    assert_int_equal(poll(&poll_fd, 1, -1), 1); /* the runner bounds the time */
    ssize_t size = recv(peer->descriptor, bytes, sizeof bytes, 0);
    if (size > 0)
        grpc_conn_receive(peer->conn, clock_now_ms(), slice_make(bytes, (size_t)size));
    return size != 0;
}

void peer_run(struct tikv_peer *peer, const bool *until)
{
    while (!*until) {
        grpc_conn_run(peer->conn, clock_now_ms());
        peer_write(peer);
        if (*until)
            break;
        if (!read_some(peer)) {
            grpc_conn_lost(peer->conn, "the node closed the connection");
            break;
        }
    }
}

static void start_call(struct tikv_peer *peer, const char *path)
{
    const struct grpc_call_options options = {.path = slice_of_string(path), .user = peer};
    assert_null(peer->call);
    buf_clear(&peer->messages);
    peer->over = false;
    assert_int_equal(grpc_call_start(peer->conn, &options, &peer->call), 0);
}

int peer_call_bytes(struct tikv_peer *peer, const char *method, kvs_slice request)
{
    char path[128];
    snprintf(path, sizeof path, "/tikvpb.Tikv/%s", method);
    start_call(peer, path);
    assert_int_equal(grpc_call_send(peer->call, request), 0);
    grpc_call_half_close(peer->call);
    peer_run(peer, &peer->over);
    return peer->code;
}

int peer_call(struct tikv_peer *peer, const char *method, const void *request,
              const ProtobufCMessageDescriptor *type, void *ret_answer)
{
    size_t size = protobuf_c_message_get_packed_size(request);
    uint8_t *bytes = mem_alloc(size + 1);
    protobuf_c_message_pack(request, bytes);
    int code = peer_call_bytes(peer, method, slice_make(bytes, size));
    mem_free(bytes);
    void *answer = NULL;
    if (code == GRPC_OK) {
        assert_true(peer->messages.size >= 4);
        answer =
            protobuf_c_message_unpack(type, NULL, peer->messages.size - 4, peer->messages.data + 4);
        assert_non_null(answer);
    }
    memcpy(ret_answer, &answer, sizeof answer);
    return code;
}

void peer_stream(struct tikv_peer *peer)
{
    start_call(peer, "/tikvpb.Tikv/BatchCommands");
}

void peer_send_bytes(struct tikv_peer *peer, kvs_slice message)
{
    assert_int_equal(grpc_call_send(peer->call, message), 0);
}

void peer_send(struct tikv_peer *peer, const Tikvpb__BatchCommandsRequest *batch)
{
    size_t size = tikvpb__batch_commands_request__get_packed_size(batch);
    uint8_t *bytes = mem_alloc(size + 1);
    tikvpb__batch_commands_request__pack(batch, bytes);
    peer_send_bytes(peer, slice_make(bytes, size));
    mem_free(bytes);
}

void peer_half_close(struct tikv_peer *peer)
{
    grpc_call_half_close(peer->call);
}

Tikvpb__BatchCommandsResponse *peer_receive(struct tikv_peer *peer)
{
    while (peer->messages.size == 0 && !peer->over) {
        grpc_conn_run(peer->conn, clock_now_ms());
        peer_write(peer);
        if (!read_some(peer))
            grpc_conn_lost(peer->conn, "the node closed the connection");
    }
    if (peer->messages.size == 0)
        return NULL;
    size_t size = get_u32(peer->messages.data);
    Tikvpb__BatchCommandsResponse *response =
        tikvpb__batch_commands_response__unpack(NULL, size, peer->messages.data + 4);
    assert_non_null(response);
    buf_consume(&peer->messages, 4 + size);
    return response;
}

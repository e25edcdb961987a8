/*
 * The clients of a TiKV cluster against a PD and stores that lie: regions that overlap, have no
 * peers, or hold another key; stores without an address; times that do not fit; answers of the
 * right form and no sense, to another request, or none; connections that end. Whatever comes, each
 * call ends, and the clients can be closed.
 */
#include "base/clock.h"
#include "base/rand.h"
#include "client/tikv/txn_wire.h"
#include "kvrpcpb.pb-c.h"
#include "pdpb.pb-c.h"
#include "proto/grpc/grpc.h"
#include "proto/protobuf.h"
#include "tikvpb.pb-c.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <kvs/kvs.h>
#include <kvs/txn.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "seed.h"
#include "test.h"
#include "times.h"

#define ROUNDS TIMES(8, 6, 4)
#define CALLS 60
#define TXNS 12
#define CONNECTIONS 32
#define END_MS 120000
#define DEPTH_MAX 4

static struct {
    int listener;
    uint16_t port;
    char address[32];
    pthread_t thread;
    atomic_bool stopping;
    atomic_bool kind; /* it has stopped lying */
    struct rand rand;
    int64_t time_ms;
    struct connection {
        int descriptor; /* -1: free */
        struct grpc_conn *grpc;
        struct buf out;
    } connections[CONNECTIONS];
} cluster;

static uint64_t seed;

static bool lies(uint64_t one_in)
{
    return !atomic_load(&cluster.kind) && rand_below(&cluster.rand, one_in) == 0;
}

/* --- any message of a type ----------------------------------------------------------------------
 */

static void put_varint(struct buf *out, uint64_t value)
{
    uint8_t bytes[10];
    buf_append(out, bytes, (size_t)(protobuf_put_varint(bytes, value) - bytes));
}

static void put_bytes(struct buf *out, unsigned number, kvs_slice bytes)
{
    put_varint(out, (uint64_t)number << 3 | 2);
    put_varint(out, bytes.size);
    buf_append_slice(out, bytes);
}

static uint64_t any_number(void)
{
    static const uint64_t edges[] = {0, 1, 2, 7, UINT32_MAX, INT64_MAX, UINT64_MAX};
    uint64_t choice = rand_below(&cluster.rand, 12);
    if (choice < 7)
        return edges[choice];
    return choice < 11 ? (uint64_t)cluster.time_ms << 18 : rand_u64(&cluster.rand);
}

static void put_message(struct buf *out, const ProtobufCMessageDescriptor *type, unsigned depth);

static void put_field(struct buf *out, const ProtobufCFieldDescriptor *field, unsigned depth)
{
    static const char *const texts[] = {"", "a", "b", "c", "b\0", "txn not found", "z"};
    struct buf inner = BUF_INIT;
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
        put_bytes(out, field->id, slice_of_string(texts[rand_below(&cluster.rand, 7)]));
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        put_message(&inner, field->descriptor, depth + 1);
        put_bytes(out, field->id, buf_slice(&inner));
        buf_deinit(&inner);
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_SFIXED64:
        break;
    default:
        put_varint(out, (uint64_t)field->id << 3);
        put_varint(out, field->type == PROTOBUF_C_TYPE_BOOL || field->type == PROTOBUF_C_TYPE_ENUM
                            ? rand_below(&cluster.rand, 4)
                            : any_number());
    }
}

static void put_message(struct buf *out, const ProtobufCMessageDescriptor *type, unsigned depth)
{
    for (unsigned i = 0; i < type->n_fields && depth < DEPTH_MAX; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        bool is_message = field->type == PROTOBUF_C_TYPE_MESSAGE;
        uint64_t times = rand_below(&cluster.rand, is_message ? 6 : 2) == 0;
        if (field->label == PROTOBUF_C_LABEL_REPEATED && times > 0)
            times = rand_below(&cluster.rand, 4);
        for (; times > 0; times--)
            put_field(out, field, depth);
    }
}

/* --- what PD says -------------------------------------------------------------------------------
 */

static void put_packed(struct buf *out, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    assert_int_equal(buf_reserve(out, size), 0);
    out->size += protobuf_c_message_pack(message, out->data + out->size);
}

static void put_members(struct buf *out)
{
    Pdpb__GetMembersResponse message = PDPB__GET_MEMBERS_RESPONSE__INIT;
    Pdpb__ResponseHeader header = PDPB__RESPONSE_HEADER__INIT;
    Pdpb__Member leader = PDPB__MEMBER__INIT;
    char url[64];
    char *urls[] = {url};
    snprintf(url, sizeof url, "http://%s", lies(20) ? "127.0.0.1:1" : cluster.address);
    header.cluster_id = lies(20) ? 8 : 7;
    leader.n_client_urls = 1;
    leader.client_urls = urls;
    message.header = &header;
    message.leader = lies(20) ? NULL : &leader;
    put_packed(out, &message.base);
}

static void put_region(struct buf *out)
{
    static const char *const bounds[] = {"", "a", "b", "c"};
    Pdpb__GetRegionResponse message = PDPB__GET_REGION_RESPONSE__INIT;
    Metapb__Region region = METAPB__REGION__INIT;
    Metapb__RegionEpoch epoch = METAPB__REGION_EPOCH__INIT;
    Metapb__Peer peers[3] = {METAPB__PEER__INIT, METAPB__PEER__INIT, METAPB__PEER__INIT};
    Metapb__Peer *pointers[3] = {&peers[0], &peers[1], &peers[2]};
    bool honest = !lies(3);
    for (unsigned i = 0; i < 3; i++) {
        peers[i].id = i + 1;
        peers[i].store_id = honest ? 1 : rand_below(&cluster.rand, 4);
    }
    region.id = honest ? 1 : rand_below(&cluster.rand, 4);
    epoch.version = honest ? 5 : any_number();
    epoch.conf_ver = 1;
    region.region_epoch = lies(10) ? NULL : &epoch;
    region.peers = pointers;
    region.n_peers = lies(10) ? 0 : 3;
    if (!honest) {
        const char *start = bounds[rand_below(&cluster.rand, 4)];
        const char *end = bounds[rand_below(&cluster.rand, 4)];
        region.start_key = (ProtobufCBinaryData){strlen(start), (uint8_t *)(uintptr_t)start};
        region.end_key = (ProtobufCBinaryData){strlen(end), (uint8_t *)(uintptr_t)end};
    }
    message.region = lies(10) ? NULL : &region;
    message.leader = honest ? &peers[0] : lies(2) ? &peers[2] : NULL;
    put_packed(out, &message.base);
}

static void put_store(struct buf *out)
{
    static char *const addresses[] = {"", "127.0.0.1:1", "nowhere.invalid:20160", "[::1]:1", ":::"};
    Pdpb__GetStoreResponse message = PDPB__GET_STORE_RESPONSE__INIT;
    Metapb__Store store = METAPB__STORE__INIT;
    store.id = 1;
    store.address = lies(4) ? addresses[rand_below(&cluster.rand, 5)] : cluster.address;
    message.store = lies(10) ? NULL : &store;
    put_packed(out, &message.base);
}

static void put_time(struct buf *out, kvs_slice asked)
{
    Pdpb__TsoRequest *request = pdpb__tso_request__unpack(NULL, asked.size, asked.data);
    Pdpb__TsoResponse message = PDPB__TSO_RESPONSE__INIT;
    Pdpb__Timestamp timestamp = PDPB__TIMESTAMP__INIT;
    message.count = request != NULL ? request->count : 0;
    cluster.time_ms = lies(10) ? cluster.time_ms - 1000 : cluster.time_ms + 1;
    timestamp.physical = cluster.time_ms;
    timestamp.logical = message.count + (int64_t)rand_below(&cluster.rand, 100);
    message.count += lies(30);
    message.timestamp = lies(30) ? NULL : &timestamp;
    put_packed(out, &message.base);
    if (request != NULL)
        pdpb__tso_request__free_unpacked(request, NULL);
}

/* --- what a store says --------------------------------------------------------------------------
 */

static const ProtobufCMessageDescriptor *answer_of_command(unsigned number)
{
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(
        &tikvpb__batch_commands_response__response__descriptor, number);
    return field != NULL ? field->descriptor : NULL;
}

static void put_answer(struct buf *out, const ProtobufCMessageDescriptor *type)
{
    if (type != NULL && !atomic_load(&cluster.kind))
        put_message(out, type, 0);
    for (uint64_t flips = out->size > 0 && lies(10) ? 2 : 0; flips > 0; flips--)
        out->data[rand_below(&cluster.rand, out->size)] = (uint8_t)rand_u64(&cluster.rand);
}

static void put_commands(struct buf *out, kvs_slice asked)
{
    Tikvpb__BatchCommandsRequest *request =
        tikvpb__batch_commands_request__unpack(NULL, asked.size, asked.data);
    for (size_t i = 0; request != NULL && i < request->n_requests; i++) {
        struct buf answer = BUF_INIT;
        struct buf response = BUF_INIT;
        unsigned number = (unsigned)request->requests[i]->cmd_case;
        if (lies(20))
            continue;
        put_answer(&answer, answer_of_command(number));
        put_bytes(&response, lies(100) ? 13 : number, buf_slice(&answer));
        put_bytes(out, 1, buf_slice(&response));
        put_varint(out, 2 << 3);
        put_varint(out, request->request_ids[lies(40) ? 0 : i]);
        buf_deinit(&answer);
        buf_deinit(&response);
    }
    if (request != NULL)
        tikvpb__batch_commands_request__free_unpacked(request, NULL);
}

/* --- the server ---------------------------------------------------------------------------------
 */

static bool path_is(const struct grpc_call *call, const char *path)
{
    return slice_equal(grpc_call_path(call), slice_of_string(path));
}

/* Of "/package.Service/Method". */
static const ProtobufCMessageDescriptor *answer_of_path(const struct grpc_call *call)
{
    char method[64];
    kvs_slice path = grpc_call_path(call);
    const uint8_t *slash = memrchr(path.data, '/', path.size);
    size_t size = (size_t)(path.data + path.size - slash) - 1;
    snprintf(method, sizeof method, "%.*s", (int)size, (const char *)slash + 1);
    const ProtobufCServiceDescriptor *service = memmem(path.data, path.size, "pdpb", 4) != NULL
                                                    ? &pdpb__pd__descriptor
                                                    : &tikvpb__tikv__descriptor;
    const ProtobufCMethodDescriptor *found =
        protobuf_c_service_descriptor_get_method_by_name(service, method);
    return found != NULL ? found->output : NULL;
}

static void on_message(struct grpc_call *call, kvs_slice message)
{
    struct buf out = BUF_INIT;
    bool is_stream = path_is(call, "/pdpb.PD/Tso") || path_is(call, "/tikvpb.Tikv/BatchCommands");
    if (lies(40))
        return; /* no answer */
    if (lies(40)) {
        grpc_call_finish(call, (int)rand_below(&cluster.rand, 17), slice_of_string("no"));
        return;
    }
    if (path_is(call, "/pdpb.PD/GetMembers"))
        put_members(&out);
    else if (path_is(call, "/pdpb.PD/GetRegion") || path_is(call, "/pdpb.PD/GetPrevRegion"))
        put_region(&out);
    else if (path_is(call, "/pdpb.PD/GetStore"))
        put_store(&out);
    else if (path_is(call, "/pdpb.PD/Tso"))
        put_time(&out, message);
    else if (path_is(call, "/tikvpb.Tikv/BatchCommands"))
        put_commands(&out, message);
    else
        put_answer(&out, answer_of_path(call));
    grpc_call_send(call, buf_slice(&out));
    if (is_stream && lies(20))
        grpc_call_send(call, buf_slice(&out)); /* once more */
    buf_deinit(&out);
    if (!is_stream || lies(40))
        grpc_call_finish(call, 0, slice_of_string(""));
}

static void on_call(struct grpc_conn *conn, struct grpc_call *call)
{
    (void)conn;
    (void)call; /* its message says more */
}

static const struct grpc_events events = {.on_call = on_call, .on_message = on_message};

static void connection_end(struct connection *connection)
{
    grpc_conn_free(connection->grpc);
    buf_deinit(&connection->out);
    close(connection->descriptor);
    *connection = (struct connection){.descriptor = -1};
}

static void connection_begin(int descriptor)
{
    const struct grpc_config config = {.events = &events};
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        struct connection *connection = &cluster.connections[i];
        if (connection->descriptor >= 0)
            continue;
        connection->descriptor = descriptor;
        fcntl(descriptor, F_SETFL, O_NONBLOCK);
        assert_int_equal(grpc_conn_new_server(&config, clock_now_ms(), &connection->grpc), 0);
        return;
    }
    close(descriptor);
}

static void connection_turn(struct connection *connection, bool readable)
{
    uint8_t bytes[16384];
    ssize_t size = readable ? recv(connection->descriptor, bytes, sizeof bytes, 0) : -1;
    bool over = readable && (size == 0 || (size < 0 && errno != EAGAIN));
    if (size > 0)
        over = grpc_conn_receive(connection->grpc, clock_now_ms(),
                                 slice_make(bytes, (size_t)size)) != 0;
    grpc_conn_run(connection->grpc, clock_now_ms());
    if (readable && lies(400))
        grpc_conn_shutdown(connection->grpc);
    grpc_conn_send(connection->grpc, &connection->out, 1 << 20);
    if (readable && lies(300)) {
        connection->out.size /= 2;
        over = true;
    }
    size = send(connection->descriptor, connection->out.data, connection->out.size, MSG_NOSIGNAL);
    if (size > 0)
        buf_consume(&connection->out, (size_t)size);
    if (over || grpc_conn_done(connection->grpc))
        connection_end(connection);
}

static void *cluster_thread(void *arg)
{
    (void)arg;
    bool was_kind = false;
    while (!atomic_load(&cluster.stopping)) {
        bool begins_anew = atomic_load(&cluster.kind) && !was_kind;
        was_kind = was_kind || begins_anew; /* what had no answer is asked again */
        struct pollfd polls[CONNECTIONS + 1];
        for (unsigned i = 0; i < CONNECTIONS; i++)
            polls[i] = (struct pollfd){cluster.connections[i].descriptor, POLLIN, 0};
        polls[CONNECTIONS] = (struct pollfd){cluster.listener, POLLIN, 0};
        poll(polls, CONNECTIONS + 1, 5);
        for (unsigned i = 0; i < CONNECTIONS; i++) {
            if (polls[i].fd >= 0 && begins_anew)
                connection_end(&cluster.connections[i]);
            else if (polls[i].fd >= 0)
                connection_turn(&cluster.connections[i], polls[i].revents != 0);
        }
        if (polls[CONNECTIONS].revents != 0)
            connection_begin(accept(cluster.listener, NULL, NULL));
    }
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        if (cluster.connections[i].descriptor >= 0)
            connection_end(&cluster.connections[i]);
    }
    return NULL;
}

static void cluster_start(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    memset(&cluster, 0, sizeof cluster);
    for (unsigned i = 0; i < CONNECTIONS; i++)
        cluster.connections[i].descriptor = -1;
    cluster.rand = rand_seed(seed);
    cluster.time_ms = (int64_t)clock_wall_ms();
    cluster.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(cluster.listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(cluster.listener, 64), 0);
    getsockname(cluster.listener, (struct sockaddr *)&address, &size);
    snprintf(cluster.address, sizeof cluster.address, "127.0.0.1:%u", ntohs(address.sin_port));
    assert_int_equal(pthread_create(&cluster.thread, NULL, cluster_thread, NULL), 0);
}

static void cluster_stop(void)
{
    atomic_store(&cluster.stopping, true);
    pthread_join(cluster.thread, NULL);
    close(cluster.listener);
}

/* --- the clients --------------------------------------------------------------------------------
 */

static int finish(kvs_future *future, const char *what)
{
    assert_non_null(future);
    kvs_future_wait(future, END_MS);
    if (!kvs_future_is_ready(future))
        fail_msg("seed %llu: a %s does not end", (unsigned long long)seed, what);
    int error = kvs_future_error(future);
    assert_non_null(kvs_future_error_message(future));
    kvs_future_free(future);
    return error;
}

static kvs_slice any_key(struct rand *rand)
{
    static const char *const keys[] = {"a", "b", "c", "d"};
    return kvs_slice_of(keys[rand_below(rand, 4)]);
}

static kvs_future *any_call(kvs_store *store, struct rand *rand)
{
    const kvs_slice keys[3] = {kvs_slice_of("a"), kvs_slice_of("b"), kvs_slice_of("a")};
    const kvs_mutation mutations[3] = {
        {.kind = KVS_MUTATION_SET, .key = kvs_slice_of("a"), .value = kvs_slice_of("v")},
        {.kind = KVS_MUTATION_REMOVE_RANGE, .key = kvs_slice_of("b"), .value = kvs_slice_of("c")},
        {.kind = KVS_MUTATION_REMOVE, .key = kvs_slice_of("c")}};
    kvs_op op = KVS_OP_INIT;
    op.kind = (uint8_t)(1 + rand_below(rand, KVS_OP_CHECKPOINT));
    op.timeout_ms = 1 + (uint32_t)rand_below(rand, 400);
    op.key = any_key(rand);
    if (op.kind == KVS_OP_SET || op.kind == KVS_OP_CAS)
        op.value = kvs_slice_of("v");
    if (op.kind == KVS_OP_SCAN) {
        op.limit = (uint32_t)rand_below(rand, 4);
        op.flags = (uint16_t)(rand_below(rand, 4) | (rand_below(rand, 2) * KVS_OP_FLAG_PAGE));
    }
    op.keys = keys;
    op.mutations = mutations;
    op.count = op.kind == KVS_OP_BATCH_GET || op.kind == KVS_OP_BATCH_WRITE ? 3 : 0;
    return kvs_store_call(store, &op);
}

static void use_store(kvs_store *store, struct rand *rand)
{
    kvs_future *calls[CALLS];
    for (unsigned i = 0; i < CALLS; i++) {
        calls[i] = any_call(store, rand);
        if (rand_below(rand, 10) == 0)
            kvs_future_cancel(calls[i]);
        if (rand_below(rand, 5) == 0)
            kvs_future_wait(calls[i], 20);
    }
    for (unsigned i = 0; i < CALLS / 2; i++)
        finish(calls[i], "call");
    finish(kvs_store_close(store), "close");
    for (unsigned i = CALLS / 2; i < CALLS; i++)
        finish(calls[i], "call of one that is closed");
}

static kvs_txn *any_txn(kvs_txn_client *client, struct rand *rand, kvs_future *calls[8])
{
    const kvs_slice keys[2] = {kvs_slice_of("a"), kvs_slice_of("c")};
    const struct kvs_txn_options options = {
        .size = sizeof options,
        .pessimistic = rand_below(rand, 2) == 0,
        .no_async_commit = rand_below(rand, 2) == 0,
        .no_one_pc = rand_below(rand, 2) == 0,
        .lock_wait_ms = (int32_t)rand_below(rand, 200),
        .timeout_ms = 1 + (uint32_t)rand_below(rand, 500),
    };
    kvs_txn *txn = kvs_txn_begin(client, &options);
    calls[0] = kvs_txn_get(txn, any_key(rand));
    calls[1] = kvs_txn_put(txn, any_key(rand), kvs_slice_of("v"));
    calls[2] = kvs_txn_insert(txn, any_key(rand), kvs_slice_of("v"));
    calls[3] = kvs_txn_batch_get_for_update(txn, keys, 2);
    calls[4] = kvs_txn_scan(txn, any_key(rand), (kvs_slice){0}, 3,
                            rand_below(rand, 2) == 0 ? KVS_OP_FLAG_REVERSE : 0);
    calls[5] = kvs_txn_lock(txn, keys, 2, 0);
    calls[6] = kvs_txn_delete(txn, any_key(rand));
    calls[7] = rand_below(rand, 4) > 0 ? kvs_txn_commit(txn) : kvs_txn_rollback(txn);
    return txn;
}

static void use_client(kvs_txn_client *client, struct rand *rand)
{
    kvs_future *calls[TXNS][8];
    kvs_txn *txns[TXNS];
    kvs_future *chore = kvs_future_timeout(
        kvs_txn_cleanup_locks(client, (kvs_slice){0}, (kvs_slice){0}, 1ull << 40), 300);
    for (unsigned i = 0; i < TXNS; i++) {
        txns[i] = any_txn(client, rand, calls[i]);
        kvs_future *one = calls[i][rand_below(rand, 8)];
        if (rand_below(rand, 3) == 0)
            kvs_future_cancel(one);
        if (rand_below(rand, 3) == 0)
            kvs_future_wait(one, 50);
        if (rand_below(rand, 4) == 0) {
            kvs_txn_free(txns[i]);
            txns[i] = NULL;
        }
    }
    for (unsigned i = 0; i < TXNS; i++) {
        for (unsigned k = 0; k < 8; k++)
            finish(calls[i][k], "call of a transaction");
        kvs_txn_free(txns[i]);
    }
    finish(chore, "chore");
    atomic_store(&cluster.kind, true); /* what goes on in the background is waited for */
    finish(kvs_txn_client_close(client), "close of a client of transactions");
}

static void *open_result(kvs_future *open)
{
    void *opened = NULL;
    kvs_future_wait(open, END_MS);
    if (kvs_future_is_ready(open) && kvs_future_error(open) == 0)
        kvs_future_get_pointer(open, &opened);
    finish(open, "opening");
    return opened;
}

static void test_a_cluster_that_lies(void **state)
{
    (void)state;
    uint64_t first = test_seed();
    for (seed = first; seed < first + ROUNDS; seed++) {
        struct rand rand = rand_seed(seed);
        const struct kvs_store_options options = {
            .size = sizeof options, .timeout_ms = 500, .connect_timeout_ms = 500};
        kvs_runtime *runtime;
        char url[64];
        assert_int_equal(kvs_runtime_new(NULL, &runtime), 0);
        cluster_start();
        snprintf(url, sizeof url, "tikv://%s", cluster.address);
        kvs_store *store = open_result(kvs_store_open(runtime, url, &options));
        if (store != NULL)
            use_store(store, &rand);
        kvs_txn_client *client = open_result(kvs_txn_client_open(runtime, url, &options));
        if (client != NULL)
            use_client(client, &rand);
        cluster_stop();
        kvs_runtime_free(runtime);
    }
}

/* --- one answer ---------------------------------------------------------------------------------
 */

/* Before what is there, which ends with the room: its head, as of a field that has it in. */
static uint8_t *put_head_before(uint8_t *at, const uint8_t *end, unsigned number)
{
    uint8_t head[1 + PROTOBUF_VARINT_MAX];
    size_t size = (size_t)(protobuf_put_head(head, number, (size_t)(end - at)) - head);
    memcpy(at - size, head, size);
    return at - size;
}

/* A lock whose holder shares it with one that shares it, and so on. */
static void test_holders_in_holders(void **state)
{
    (void)state;
    enum { DEPTH = 100000, ROOM = 5 * (DEPTH + 3), SHARED_LOCK_INFOS = 12, LOCKED = 1, ERROR = 2 };
    static const struct txn_transport_methods methods = {.call_extra = 0};
    static struct txn_transport transport = {.methods = &methods};
    uint8_t *bytes = malloc(ROOM);
    assert_non_null(bytes);
    const uint8_t *end = bytes + ROOM;
    uint8_t *at = bytes + ROOM;
    for (unsigned i = 0; i < DEPTH; i++)
        at = put_head_before(at, end, SHARED_LOCK_INFOS);
    at = put_head_before(at, end, LOCKED);
    at = put_head_before(at, end, ERROR);
    struct txn_call *call = txn_call_new(&transport, TXN_GET, NULL, NULL);
    const struct txn_wire_place place = {0};
    kvs_slice region_error;
    assert_non_null(call);
    assert_int_equal(txn_wire_read(call, &place, slice_make(at, (size_t)(end - at)), &region_error),
                     0);
    const struct txn_key_error *error = &call->command.get.error;
    assert_int_equal(error->kind, TXN_ERROR_LOCKED);
    assert_int_equal(error->lock.holders_count, 1);
    assert_int_equal(error->lock.holders[0].holders_count, 0);
    txn_call_free(call);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holders_in_holders),
        cmocka_unit_test(test_a_cluster_that_lies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The server against peers that misbehave, its limits, its start and its end. */
#include "base/mem.h"
#include "base/rand.h"
#include "engine/engine.h"
#include "engine/file.h"
#include "unit/server/server_fixture.h"

#include <kvs/kvs.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

#define SEED 20260202u
#define S(text) slice_of_string(text)

static void still_serves(kvs_server *server)
{
    struct raw_peer peer;
    raw_peer_open(&peer, kvs_server_address(server));
    assert_int_equal(raw_peer_ping(&peer), 0);
    raw_peer_close(&peer);
}

/* --- bad input ---- */

static int refusal_of(kvs_server *server, const char *hello, size_t size)
{
    struct raw_peer peer;
    raw_peer_connect(&peer, kvs_server_address(server));
    raw_peer_send(&peer, hello, size);
    raw_peer_read_hello(&peer);
    assert_true(raw_peer_read_end(&peer)); /* an end, not a reset: the reason must arrive */
    raw_peer_close(&peer);
    return peer.hello.status;
}

static void strangers_are_told_and_closed(void **state)
{
    (void)state;
    kvs_server *server = server_start(NULL);
    assert_int_equal(refusal_of(server, "KVSP\2\0\3\0\0\0\0\0\0\0\0\0", 16), KVS_ERR_VERSION);
    assert_int_equal(refusal_of(server, "SSH-2.0-OpenSSH_9\r\n", 19), KVS_ERR_PROTOCOL);
    static char flood[300000];
    assert_int_equal(refusal_of(server, flood, sizeof flood), KVS_ERR_PROTOCOL);
    still_serves(server);
    server_stop(server);
}

static void wrong_frames_are_answered_and_the_stream_goes_on(void **state)
{
    (void)state;
    kvs_server *server = server_start(NULL);
    struct raw_peer peer;
    struct wire_frame frame;
    raw_peer_open(&peer, kvs_server_address(server));
    /* an unknown opcode, a body that does not add up, and one that is too large */
    static const uint8_t unknown[] = {3, 0, 0, 0, 1, 0, 0,   0,   99, 0,
                                      0, 0, 0, 0, 0, 0, 'a', 'b', 'c'};
    static const uint8_t crooked[] = {4, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0};
    static const uint8_t large[] = {0, 0, 0, 3, 3, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0};
    raw_peer_send(&peer, unknown, sizeof unknown);
    assert_true(raw_peer_frame(&peer, &frame));
    assert_int_equal(frame.status, KVS_ERR_UNSUPPORTED);
    assert_int_equal(frame.id, 1);
    raw_peer_send(&peer, crooked, sizeof crooked);
    assert_true(raw_peer_frame(&peer, &frame));
    assert_int_equal(frame.status, KVS_ERR_INVALID_ARGUMENT);
    raw_peer_send(&peer, large, sizeof large);
    assert_true(raw_peer_frame(&peer, &frame));
    assert_int_equal(frame.status, KVS_ERR_TOO_LARGE);
    uint8_t *body = mem_zalloc(0x3000000);
    raw_peer_send(&peer, body, 0x3000000);
    mem_free(body);
    assert_int_equal(raw_peer_ping(&peer), 0);
    raw_peer_close(&peer);
    server_stop(server);
}

static void garbage_ends_the_connection(void **state)
{
    (void)state;
    kvs_server *server = server_start(NULL);
    struct raw_peer peer;
    struct wire_frame frame;
    uint8_t garbage[1000];
    memset(garbage, 0xaa, sizeof garbage);
    raw_peer_open(&peer, kvs_server_address(server));
    raw_peer_send(&peer, garbage, sizeof garbage);
    assert_true(raw_peer_frame(&peer, &frame));
    assert_int_equal(frame.opcode, WIRE_GOAWAY);
    assert_int_equal(frame.status, KVS_ERR_PROTOCOL);
    assert_true(raw_peer_read_end(&peer));
    raw_peer_close(&peer);
    still_serves(server);
    server_stop(server);
}

/* Every cut of a hello with a request behind it, then the end; or a reset. */
static void cut_connections_are_cleaned_up(void **state)
{
    (void)state;
    kvs_server *server = server_start(NULL);
    struct buf bytes = BUF_INIT;
    const struct wire_client_hello hello = {.version_min = 1, .version_max = 1};
    const kvs_op set = {.kind = KVS_OP_SET, .key = S("cut"), .value = S("value")};
    assert_int_equal(wire_client_hello_encode(&hello, &bytes), 0);
    assert_int_equal(wire_request_encode(&set, 1, 0, &bytes), 0);
    for (size_t size = 0; size <= bytes.size; size++) {
        struct raw_peer peer;
        raw_peer_connect(&peer, kvs_server_address(server));
        raw_peer_send(&peer, bytes.data, size);
        if (size % 2 == 0) {
            shutdown(peer.descriptor, SHUT_WR);
            assert_true(raw_peer_read_end(&peer));
        } else {
            const struct linger reset = {.l_onoff = 1};
            setsockopt(peer.descriptor, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        }
        raw_peer_close(&peer);
    }
    buf_deinit(&bytes);
    still_serves(server);
    server_stop(server);
}

/* Valid streams with damage: whatever the server answers, it stays. */
static void damaged_streams_do_no_harm(void **state)
{
    (void)state;
    kvs_server *server = server_start(NULL);
    struct rand rand = rand_seed(SEED);
    for (int round = 0; round < 200; round++) {
        struct raw_peer peer;
        raw_peer_open(&peer, kvs_server_address(server));
        for (unsigned kind = KVS_OP_GET; kind <= KVS_OP_CHECKPOINT; kind++) {
            const kvs_slice key = S("key");
            const kvs_mutation mutation = {.kind = KVS_MUTATION_SET, .key = key, .value = key};
            kvs_op op = {.kind = (uint8_t)kind,
                         .key = key,
                         .end_key = S("kez"),
                         .value = key,
                         .keys = &key,
                         .mutations = &mutation,
                         .count = 1};
            raw_peer_ask(&peer, &op, 0);
        }
        for (uint64_t damage = 1 + rand_below(&rand, 8); damage > 0; damage--)
            peer.out.data[rand_below(&rand, peer.out.size)] = (uint8_t)rand_u64(&rand);
        raw_peer_flush(&peer);
        shutdown(peer.descriptor, SHUT_WR);
        raw_peer_read_end(&peer);
        raw_peer_close(&peer);
    }
    still_serves(server);
    server_stop(server);
}

static void a_half_closed_client_gets_its_replies(void **state)
{
    (void)state;
    kvs_server *server = server_start(NULL);
    struct raw_peer peer;
    struct wire_frame frame;
    raw_peer_open(&peer, kvs_server_address(server));
    for (unsigned i = 0; i < 500; i++) {
        raw_peer_ask(&peer, &(kvs_op){.kind = KVS_OP_SET, .key = S("k"), .value = S("v")}, 0);
        raw_peer_ask(&peer, &(kvs_op){.kind = KVS_OP_GET, .key = S("k")}, 0);
    }
    raw_peer_flush(&peer);
    shutdown(peer.descriptor, SHUT_WR);
    for (unsigned i = 0; i < 1000; i++)
        assert_true(raw_peer_frame(&peer, &frame));
    assert_true(raw_peer_read_end(&peer));
    raw_peer_close(&peer);
    server_stop(server);
}

/* --- limits ---- */

static void a_client_that_never_reads_is_closed(void **state)
{
    (void)state;
    kvs_server *server = server_start(
        &(struct kvs_server_options){.slow_timeout_ms = 300, .in_flight_bytes_max = 256 * 1024});
    struct raw_peer peer, other;
    uint8_t *value = mem_zalloc(1024 * 1024);
    raw_peer_open(&other, kvs_server_address(server));
    assert_int_equal(raw_peer_set(&other, "big", slice_make(value, 1024 * 1024)), 0);
    raw_peer_open(&peer, kvs_server_address(server));
    /* 1000 MiB of replies; the server must hold back instead of gathering them. */
    for (unsigned i = 0; i < 1000; i++)
        raw_peer_ask(&peer, &(kvs_op){.kind = KVS_OP_GET, .key = S("big")}, 0);
    raw_peer_flush(&peer);
    /* Others are served meanwhile, and the server closes what does not read: that is seen as a
     * connection less. */
    for (;;) {
        struct wire_frame frame;
        char text[512];
        assert_int_equal(raw_peer_call(&other, &(kvs_op){.kind = KVS_OP_STATS}, &frame), 0);
        snprintf(text, sizeof text, "%.*s", (int)frame.body.size, (const char *)frame.body.data);
        if (strstr(text, "\"connections\":1,") != NULL)
            break;
        usleep(10000);
    }
    raw_peer_close(&peer);
    raw_peer_close(&other);
    mem_free(value);
    server_stop(server);
}

/* One who asks much before he reads gets everything, however little may wait for him. */
static void a_late_reader_gets_everything(void **state)
{
    (void)state;
    kvs_server *server =
        server_start(&(struct kvs_server_options){.in_flight_bytes_max = 64 * 1024});
    struct raw_peer peer;
    struct wire_frame frame;
    uint8_t *value = mem_zalloc(100000);
    memset(value, 'v', 100000);
    raw_peer_open(&peer, kvs_server_address(server));
    assert_int_equal(raw_peer_set(&peer, "big", slice_make(value, 100000)), 0);
    for (unsigned i = 0; i < 300; i++) {
        raw_peer_ask(&peer, &(kvs_op){.kind = KVS_OP_GET, .key = S("big")}, 0);
        raw_peer_ask(&peer, &(kvs_op){.kind = KVS_OP_COUNT}, 0);
    }
    kvs_op scan = {.kind = KVS_OP_SCAN, .limit = WIRE_SCAN_LIMIT_NONE};
    raw_peer_ask(&peer, &scan, 0);
    raw_peer_flush(&peer);
    unsigned counts[KVS_OP_PING + 1] = {0};
    for (unsigned i = 0; i < 601; i++) { /* in any order */
        assert_true(raw_peer_frame(&peer, &frame));
        assert_int_equal(frame.status, 0);
        assert_in_range(frame.opcode, 0, KVS_OP_PING);
        counts[frame.opcode]++;
        if (frame.opcode == KVS_OP_GET) {
            assert_int_equal(frame.body.size, 100000);
            assert_memory_equal(frame.body.data, value, 100000);
        }
    }
    assert_int_equal(counts[KVS_OP_GET], 300);
    assert_int_equal(counts[KVS_OP_COUNT], 300);
    assert_int_equal(counts[KVS_OP_SCAN], 1);
    raw_peer_close(&peer);
    mem_free(value);
    server_stop(server);
}

/* --- values on the disk ---- */

static atomic_uint cold_reads;

int __wrap_file_read_now(int fd, void *data, size_t size, uint64_t offset);

/* The system has nothing in its memory. */
int __wrap_file_read_now(int fd, void *data, size_t size, uint64_t offset)
{
    atomic_fetch_add(&cold_reads, 1);
    return ENGINE_WOULD_BLOCK;
}

#define COLD_KEYS 600u
#define COLD_SIZE 4000u

static void cold_value(uint8_t value[COLD_SIZE], unsigned i)
{
    struct rand rand = rand_seed(i);
    for (unsigned at = 0; at < COLD_SIZE; at++)
        value[at] = (uint8_t)rand_u64(&rand);
}

static void check_cold(kvs_store *store, unsigned flags)
{
    kvs_future *future = kvs_store_scan(store, S(""), S(""), 2 * COLD_KEYS, flags);
    const kvs_pair *pairs;
    size_t count = 0;
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_pairs(future, &pairs, &count), 0);
    assert_int_equal(count, COLD_KEYS);
    for (unsigned i = 0; i < COLD_KEYS; i++) {
        unsigned at = (flags & KVS_OP_FLAG_REVERSE) != 0 ? COLD_KEYS - 1 - i : i;
        char key[16];
        uint8_t value[COLD_SIZE];
        snprintf(key, sizeof key, "key%04u", at);
        cold_value(value, at);
        assert_true(slice_equal(pairs[i].key, S(key)));
        assert_true(slice_equal(pairs[i].value, slice_make(value, COLD_SIZE)));
    }
    kvs_future_free(future);
}

/* Scans in several frames, whose pairs are read by the pool. */
static void a_scan_of_what_is_on_the_disk(void **state)
{
    (void)state;
    char directory[64];
    directory_make(directory);
    const struct kvs_server_options options = {.engine = "kvs",
                                               .directory = directory,
                                               .sync = KVS_SYNC_NEVER,
                                               .segment_size_bytes = 64 * 1024,
                                               .cache_size_bytes = 1};
    kvs_server *server = server_start(&options);
    struct raw_peer peer;
    raw_peer_open(&peer, kvs_server_address(server));
    for (unsigned i = 0; i < COLD_KEYS; i++) {
        char key[16];
        uint8_t value[COLD_SIZE];
        snprintf(key, sizeof key, "key%04u", i);
        cold_value(value, i);
        assert_int_equal(raw_peer_set(&peer, key, slice_make(value, COLD_SIZE)), 0);
    }
    raw_peer_close(&peer);
    server_stop(server);
    server = server_start(&options);
    char url[64];
    kvs_runtime *runtime;
    snprintf(url, sizeof url, "kvs://%s", kvs_server_address(server));
    assert_int_equal(kvs_runtime_new(NULL, &runtime), 0);
    kvs_store *store = opened_by(kvs_store_open(runtime, url, NULL));
    atomic_store(&cold_reads, 0);
    check_cold(store, 0);
    check_cold(store, KVS_OP_FLAG_REVERSE);
    assert_true(atomic_load(&cold_reads) > 0);
    assert_int_equal(wait_and_free(kvs_store_close(store)), 0);
    kvs_runtime_free(runtime);
    server_stop(server);
    directory_remove(directory);
}

static unsigned connections_of(struct raw_peer *peer)
{
    struct wire_frame frame;
    char text[1024];
    assert_int_equal(raw_peer_call(peer, &(kvs_op){.kind = KVS_OP_STATS}, &frame), 0);
    snprintf(text, sizeof text, "%.*s", (int)frame.body.size, (const char *)frame.body.data);
    const char *field = strstr(text, "\"connections\":");
    assert_non_null(field);
    return (unsigned)strtoul(field + strlen("\"connections\":"), NULL, 10);
}

/* As far as the server takes it: it may close the connection meanwhile. */
static void send_what_is_taken(struct raw_peer *peer)
{
    size_t sent = 0;
    while (sent < peer->out.size) {
        ssize_t wrote =
            send(peer->descriptor, peer->out.data + sent, peer->out.size - sent, MSG_NOSIGNAL);
        if (wrote <= 0)
            break;
        sent += (size_t)wrote;
    }
    buf_clear(&peer->out);
}

/* Each is within its own bounds; together they are not. The small one stays. */
static void halves_of_large_requests_cannot_take_all_memory(void **state)
{
    (void)state;
    enum { PEERS = 6, SIZE = 4 * 1024 * 1024 };
    kvs_server *server = server_start(&(struct kvs_server_options){
        .slow_timeout_ms = 400, .connections_bytes_max = 3 * SIZE}); /* a look each 100 ms */
    struct raw_peer small, peers[PEERS];
    uint8_t *value = mem_zalloc(SIZE);
    raw_peer_open(&small, kvs_server_address(server));
    for (int i = 0; i < PEERS; i++) {
        raw_peer_open(&peers[i], kvs_server_address(server));
        kvs_op set = {.kind = KVS_OP_SET, .key = S("k"), .value = slice_make(value, SIZE)};
        raw_peer_ask(&peers[i], &set, 0);
        peers[i].out.size -= 1000; /* the end never comes */
        send_what_is_taken(&peers[i]);
    }
    while (connections_of(&small) > 1 + 3)
        usleep(10000);
    assert_int_equal(raw_peer_set(&small, "small", S("served")), 0);
    for (int i = 0; i < PEERS; i++)
        raw_peer_close(&peers[i]);
    while (connections_of(&small) > 1)
        usleep(10000);
    raw_peer_close(&small);
    mem_free(value);
    server_stop(server);
}

static void too_many_connections_are_told_busy(void **state)
{
    (void)state;
    kvs_server *server = server_start(&(struct kvs_server_options){.connections_max = 3});
    struct raw_peer peers[3], late;
    for (int i = 0; i < 3; i++)
        raw_peer_open(&peers[i], kvs_server_address(server));
    assert_int_equal(refusal_of(server, "KVSP\1\0\1\0\0\0\0\0\0\0\0\0", 16), KVS_ERR_BUSY);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(raw_peer_ping(&peers[i]), 0);
        raw_peer_close(&peers[i]);
    }
    do { /* until the server has seen that they went */
        raw_peer_connect(&late, kvs_server_address(server));
        raw_peer_send(&late, "KVSP\1\0\1\0\0\0\0\0\0\0\0\0", 16);
        raw_peer_read_hello(&late);
        raw_peer_close(&late);
    } while (late.hello.status == KVS_ERR_BUSY);
    assert_int_equal(late.hello.status, 0);
    server_stop(server);
}

static void idle_connections_are_closed(void **state)
{
    (void)state;
    kvs_server *server = server_start(&(struct kvs_server_options){.idle_timeout_ms = 100});
    const struct wire_client_hello hello = {.version_min = 1, .version_max = 1};
    for (unsigned i = 0; i < 2; i++) { /* without a hello, too */
        struct raw_peer peer;
        raw_peer_connect(&peer, kvs_server_address(server));
        if (i == 0)
            assert_int_equal(wire_client_hello_encode(&hello, &peer.out), 0);
        send_what_is_taken(&peer);
        raw_peer_read_end(&peer);
        raw_peer_close(&peer);
    }
    server_stop(server);
}

static void hundreds_of_connections(void **state)
{
    (void)state;
    enum { COUNT = 400 };
    kvs_server *server = server_start(NULL);
    struct raw_peer *peers = mem_zalloc(COUNT * sizeof *peers);
    for (int i = 0; i < COUNT; i++)
        raw_peer_open(&peers[i], kvs_server_address(server));
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(raw_peer_set(&peers[i], "k", S("v")), 0);
    for (int i = 0; i < COUNT; i++)
        raw_peer_close(&peers[i]);
    mem_free(peers);
    server_stop(server);
}

/* --- the end ---- */

struct closing {
    pthread_t thread;
    kvs_server *server;
    int error;
};

static void *close_in_thread(void *arg)
{
    struct closing *closing = arg;
    closing->error = kvs_server_close(closing->server, 30000);
    return NULL;
}

/* What was answered is there after the restart, what was not is not, after GOAWAY. */
static void a_stop_finishes_what_was_accepted(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    char directory[64];
    static bool answered[COUNT];
    directory_make(directory);
    const struct kvs_server_options options = {.engine = "kvs", .directory = directory};
    struct closing closing = {.server = server_start(&options)};
    struct raw_peer peer;
    struct wire_frame frame;
    bool goaway = false;
    char key[16];
    raw_peer_open(&peer, kvs_server_address(closing.server));
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(key, sizeof key, "k%u", i);
        kvs_op op = {.kind = KVS_OP_SET, .key = S(key), .value = S("v")};
        assert_int_equal(wire_request_encode(&op, i, 0, &peer.out), 0);
    }
    raw_peer_flush(&peer);
    assert_true(raw_peer_frame(&peer, &frame)); /* they are under way */
    answered[frame.id] = true;
    pthread_create(&closing.thread, NULL, close_in_thread, &closing);
    while (raw_peer_frame(&peer, &frame)) {
        goaway = goaway || frame.opcode == WIRE_GOAWAY;
        if (frame.opcode == KVS_OP_SET && frame.status == 0)
            answered[frame.id] = true;
    }
    raw_peer_close(&peer);
    pthread_join(closing.thread, NULL);
    assert_int_equal(closing.error, 0);
    assert_true(goaway);

    kvs_server *server = server_start(&options);
    raw_peer_open(&peer, kvs_server_address(server));
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(key, sizeof key, "k%u", i);
        kvs_op op = {.kind = KVS_OP_GET, .key = S(key)};
        int status = raw_peer_call(&peer, &op, &frame);
        assert_int_equal(status, answered[i] ? 0 : KVS_ERR_NOT_FOUND);
    }
    raw_peer_close(&peer);
    server_stop(server);
    directory_remove(directory);
}

static void a_stop_ends_scans_and_waits_for_no_idler(void **state)
{
    (void)state;
    kvs_server *server = server_start(NULL);
    struct raw_peer idle, scanning, silent;
    struct wire_frame frame;
    raw_peer_open(&idle, kvs_server_address(server));
    raw_peer_connect(&silent, kvs_server_address(server));
    raw_peer_open(&scanning, kvs_server_address(server));
    for (unsigned i = 0; i < 100; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%u", i);
        assert_int_equal(raw_peer_set(&scanning, key, S("value")), 0);
    }
    kvs_op scan = {.kind = KVS_OP_SCAN, .limit = WIRE_SCAN_LIMIT_NONE};
    raw_peer_ask(&scanning, &scan, 10);
    raw_peer_flush(&scanning);
    assert_true(raw_peer_frame(&scanning, &frame)); /* now it waits for credit */
    struct closing closing = {.server = server};
    pthread_create(&closing.thread, NULL, close_in_thread, &closing);
    assert_true(raw_peer_frame(&scanning, &frame));
    assert_int_equal(frame.opcode, KVS_OP_SCAN);
    assert_int_equal(frame.status, KVS_ERR_CLOSED);
    assert_true(raw_peer_frame(&idle, &frame));
    assert_int_equal(frame.opcode, WIRE_GOAWAY);
    assert_true(raw_peer_read_end(&idle));
    assert_true(raw_peer_read_end(&scanning));
    raw_peer_close(&idle);
    raw_peer_close(&scanning);
    raw_peer_close(&silent);
    pthread_join(closing.thread, NULL);
    assert_int_equal(closing.error, 0);
}

/* --- the start ---- */

static void refuses(const struct kvs_server_options *options, int expected, const char *says)
{
    struct kvs_server_options filled = *options;
    filled.size = sizeof filled;
    kvs_server *server = NULL;
    char *message = NULL;
    assert_int_equal(kvs_server_open(&filled, &server, &message), expected);
    assert_null(server);
    assert_non_null(message);
    if (strstr(message, says) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", message, says);
    assert_null(strchr(message, '\n'));
    free(message);
}

static void a_start_that_cannot_be_says_why(void **state)
{
    (void)state;
    char directory[64];
    directory_make(directory);
    kvs_server *server =
        server_start(&(struct kvs_server_options){.engine = "kvs", .directory = directory});
    const char *any = "127.0.0.1:0";
    refuses(&(struct kvs_server_options){.address = kvs_server_address(server), .engine = "memory"},
            KVS_ERR_LOCKED, "--addr");
    refuses(&(struct kvs_server_options){.address = "localhost"}, KVS_ERR_ADDRESS, "HOST:PORT");
    refuses(&(struct kvs_server_options){.address = "127.0.0.1:70000"}, KVS_ERR_ADDRESS, "70000");
    refuses(&(struct kvs_server_options){.address = "192.0.2.1:0"}, KVS_ERR_ADDRESS, "192.0.2.1");
    refuses(&(struct kvs_server_options){.address = any, .engine = "none"},
            KVS_ERR_INVALID_ARGUMENT, "none");
    refuses(&(struct kvs_server_options){.address = any, .directory = directory}, KVS_ERR_LOCKED,
            directory);
    refuses(
        &(struct kvs_server_options){.address = any, .directory = directory, .engine = "memory"},
        KVS_ERR_WRONG_ENGINE, "another engine");
    refuses(&(struct kvs_server_options){.address = any, .threads = 33}, KVS_ERR_INVALID_ARGUMENT,
            "--threads");
    refuses(&(struct kvs_server_options){.address = any, .value_size_max = 65u << 20},
            KVS_ERR_INVALID_ARGUMENT, "--value-max");
    server_stop(server);
    directory_remove(directory);
}

static void it_listens_on_ipv6_too(void **state)
{
    (void)state;
    int descriptor = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool there =
        descriptor >= 0 && bind(descriptor, (struct sockaddr *)&loopback, sizeof loopback) == 0;
    if (descriptor >= 0)
        close(descriptor);
    if (!there)
        skip();
    kvs_server *server = server_start(&(struct kvs_server_options){.address = "[::1]:0"});
    assert_int_equal(strncmp(kvs_server_address(server), "[::1]:", 6), 0);
    still_serves(server);
    server_stop(server);
}

static int print_seed(void **state)
{
    (void)state;
    print_message("# seed %u\n", SEED);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strangers_are_told_and_closed),
        cmocka_unit_test(wrong_frames_are_answered_and_the_stream_goes_on),
        cmocka_unit_test(garbage_ends_the_connection),
        cmocka_unit_test(cut_connections_are_cleaned_up),
        cmocka_unit_test(damaged_streams_do_no_harm),
        cmocka_unit_test(a_half_closed_client_gets_its_replies),
        cmocka_unit_test(a_client_that_never_reads_is_closed),
        cmocka_unit_test(a_late_reader_gets_everything),
        cmocka_unit_test(a_scan_of_what_is_on_the_disk),
        cmocka_unit_test(halves_of_large_requests_cannot_take_all_memory),
        cmocka_unit_test(too_many_connections_are_told_busy),
        cmocka_unit_test(idle_connections_are_closed),
        cmocka_unit_test(hundreds_of_connections),
        cmocka_unit_test(a_stop_finishes_what_was_accepted),
        cmocka_unit_test(a_stop_ends_scans_and_waits_for_no_idler),
        cmocka_unit_test(a_start_that_cannot_be_says_why),
        cmocka_unit_test(it_listens_on_ipv6_too),
    };
    return cmocka_run_group_tests_name("server", tests, print_seed, NULL);
}

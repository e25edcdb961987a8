/*
 * tests/crash/test_torture.c: what a hostile or careless world does to a real kvs-server. It may
 * refuse, close, and say so; it may not die, grow without bound, or keep others waiting.
 */
#include "base/bytes.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"
#include "contract/engine_fixture.h"
#include "crash/raw_client.h"
#include "crash/server_process.h"
#include "test.h"
#include "times.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MANY_CONNECTIONS 10000
#define MEMORY_KIB_MAX (100 * 1024)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1 /* memory figures say nothing then */
#else
#define SANITIZED 0
#endif

static char directory[] = "/tmp/kvs-torture-XXXXXX";
static struct server_process server;

static void start_server(void)
{
    const char *arguments[] = {"--dir", directory, "--sync", "never", NULL};
    if (!server_process_start(&server, arguments))
        fail_msg("the server does not start: %s", server.log);
}

static int setup(void **state)
{
    start_server();
    return 0;
}

/* Whatever a test did: the server lives, serves, and stops when it is told to. */
static int teardown(void **state)
{
    bool alive = server_process_is_alive(&server);
    struct raw_client client;
    bool serves = alive && raw_client_open(&client, &server.address);
    kvs_op ping = KVS_OP_INIT;
    ping.kind = KVS_OP_PING;
    struct wire_frame reply;
    serves = serves && raw_client_call(&client, &ping, &reply) && reply.status == 0;
    if (alive && serves)
        raw_client_close(&client);
    int status = server_process_end(&server, SIGTERM);
    if (!alive || !serves || status != 0)
        print_error("alive %d, serves %d, wait status %x\n", alive, serves, (unsigned)status);
    return !alive || !serves || status != 0;
}

static int connect_raw(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    struct timeval wait = {.tv_sec = PATIENT_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    assert_int_equal(connect(fd, (const struct sockaddr *)&server.address, sizeof server.address),
                     0);
    return fd;
}

/* The peer's end of the stream, or a reset, comes. */
static void expect_end(int fd)
{
    char bytes[65536];
    ssize_t got;
    do
        got = recv(fd, bytes, sizeof bytes, 0);
    while (got > 0);
    assert_true(got == 0 || errno == ECONNRESET);
}

static void open_client(struct raw_client *client)
{
    assert_true(raw_client_open(client, &server.address));
}

static int call(struct raw_client *client, const kvs_op *op, struct wire_frame *ret_reply)
{
    assert_true(raw_client_call(client, op, ret_reply));
    return ret_reply->status;
}

static int set(struct raw_client *client, kvs_slice key, kvs_slice value)
{
    kvs_op op = KVS_OP_INIT;
    op.kind = KVS_OP_SET;
    op.key = key;
    op.value = value;
    struct wire_frame reply;
    return call(client, &op, &reply);
}

static int ping(struct raw_client *client)
{
    kvs_op op = KVS_OP_INIT;
    op.kind = KVS_OP_PING;
    struct wire_frame reply;
    return call(client, &op, &reply);
}

/* A frame's header as it would never be encoded. */
static void add_header(struct raw_client *client, uint32_t body_size, uint32_t id, uint8_t opcode,
                       uint8_t flags)
{
    assert_int_equal(buf_append_u32(&client->out, body_size), 0);
    assert_int_equal(buf_append_u32(&client->out, id), 0);
    assert_int_equal(buf_append_u8(&client->out, opcode), 0);
    assert_int_equal(buf_append_u8(&client->out, flags), 0);
    assert_int_equal(buf_append(&client->out, "\0\0\0\0\0\0", 6), 0);
}

/* --- bad bytes --------------------------------------------------------------------------------*/

static void test_garbage(void **state)
{
    struct rand rand = rand_seed(test_seed());
    for (unsigned i = 0; i < 150; i++) {
        int fd = connect_raw();
        uint8_t bytes[4096];
        size_t size = 1 + rand_below(&rand, sizeof bytes);
        for (size_t k = 0; k < size; k++)
            bytes[k] = (uint8_t)rand_u64(&rand);
        struct buf out = BUF_INIT;
        struct wire_client_hello hello = {.version_min = 1, .version_max = 1};
        if (i % 3 != 0)
            assert_int_equal(wire_client_hello_encode(&hello, &out), 0);
        /* Headers that are likely to be taken for some: small bodies, known opcodes. */
        for (size_t k = 0; i % 3 == 2 && k + WIRE_HEADER_SIZE < size; k += 40) {
            put_u32(bytes + k, (uint32_t)rand_below(&rand, 100));
            bytes[k + 8] = (uint8_t)rand_below(&rand, 36);
            bytes[k + 9] = 0;
        }
        assert_int_equal(buf_append(&out, bytes, size), 0);
        send(fd, out.data, out.size, MSG_NOSIGNAL);
        buf_deinit(&out);
        if (i % 2 == 0)
            shutdown(fd, SHUT_WR);
        if (i % 4 == 0)
            expect_end(fd);
        close(fd);
    }
}

static void test_version(void **state)
{
    int fd = connect_raw();
    struct buf out = BUF_INIT;
    struct wire_client_hello hello = {.version_min = 700, .version_max = 800};
    assert_int_equal(wire_client_hello_encode(&hello, &out), 0);
    assert_int_equal(send(fd, out.data, out.size, MSG_NOSIGNAL), out.size);
    buf_deinit(&out);
    uint8_t bytes[256];
    ssize_t got = recv(fd, bytes, sizeof bytes, MSG_WAITALL); /* until the server closes */
    struct wire_server_hello answer;
    size_t size;
    assert_true(got > 0);
    assert_int_equal(wire_server_hello_decode(slice_make(bytes, (size_t)got), &answer, &size), 0);
    assert_int_equal(answer.status, KVS_ERR_VERSION);
    close(fd);
}

static void test_unknown_requests(void **state)
{
    struct raw_client client;
    open_client(&client);
    struct wire_frame reply;
    static const struct {
        uint8_t opcode;
        uint8_t flags;
    } unknown[] = {{99, 0}, {31, 0}, {35, 0}, {200, 0}, {KVS_OP_GET, 0x80}, {KVS_OP_PING, 0xff}};
    for (uint32_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        add_header(&client, 3, i, unknown[i].opcode, unknown[i].flags);
        assert_int_equal(buf_append(&client.out, "key", 3), 0);
        assert_true(raw_client_flush(&client));
        assert_true(raw_client_reply(&client, &reply));
        assert_int_equal(reply.id, i);
        assert_int_equal(reply.status, KVS_ERR_UNSUPPORTED);
    }
    assert_int_equal(ping(&client), 0);
    raw_client_close(&client);
}

static void test_over_the_limits(void **state)
{
    struct raw_client client;
    open_client(&client);
    uint32_t limit = client.limits.body_size_max;
    uint8_t *bytes = mem_zalloc(limit + 1);
    assert_non_null(bytes);
    memset(bytes, 'x', limit + 1);
    assert_int_equal(set(&client, slice_make(bytes, KVS_KEY_SIZE_MAX), S("v")), 0);
    assert_int_equal(set(&client, slice_make(bytes, KVS_KEY_SIZE_MAX + 1), S("v")),
                     KVS_ERR_TOO_LARGE);
    assert_int_equal(set(&client, S("k"), slice_make(bytes, client.limits.value_size_max)), 0);
    assert_int_equal(set(&client, S("k"), slice_make(bytes, client.limits.value_size_max + 1)),
                     KVS_ERR_TOO_LARGE);
    assert_int_equal(set(&client, S(""), S("v")), KVS_ERR_INVALID_ARGUMENT);
    /* A body over the limit is skipped. */
    struct wire_frame reply;
    add_header(&client, limit + 1, 77, KVS_OP_SET, 0);
    assert_int_equal(buf_append(&client.out, bytes, limit + 1), 0);
    assert_true(raw_client_flush(&client));
    assert_true(raw_client_reply(&client, &reply));
    assert_int_equal(reply.id, 77);
    assert_int_equal(reply.status, KVS_ERR_TOO_LARGE);
    assert_int_equal(ping(&client), 0);
    /* One that no kvs frame has ends the connection. */
    add_header(&client, 0x7fffffff, 78, KVS_OP_SET, 0);
    assert_true(raw_client_flush(&client));
    expect_end(client.fd);
    raw_client_close(&client);
    mem_free(bytes);
}

static void test_sizes_inside_a_body(void **state)
{
    struct raw_client client;
    open_client(&client);
    struct rand rand = rand_seed(test_seed());
    static const uint8_t opcodes[] = {KVS_OP_SET,         KVS_OP_CAS,  KVS_OP_BATCH_GET,
                                      KVS_OP_BATCH_WRITE, KVS_OP_SCAN, KVS_OP_COUNT};
    for (uint32_t i = 0; i < 500; i++) {
        uint8_t opcode = opcodes[rand_below(&rand, sizeof opcodes)];
        uint8_t body[24];
        size_t size = rand_below(&rand, sizeof body);
        for (size_t k = 0; k < size; k++)
            body[k] = (uint8_t)(rand_below(&rand, 3) == 0 ? rand_u64(&rand) : 0xff);
        add_header(&client, (uint32_t)size, i, opcode, 0);
        assert_int_equal(buf_append(&client.out, body, size), 0);
        assert_true(raw_client_flush(&client));
        struct wire_frame reply;
        assert_true(raw_client_reply(&client, &reply));
        assert_int_equal(reply.id, i);
    }
    assert_int_equal(ping(&client), 0);
    raw_client_close(&client);
}

/* --- odd peers --------------------------------------------------------------------------------*/

static void test_half_closed(void **state)
{
    struct raw_client client;
    open_client(&client);
    for (uint32_t i = 0; i < 200; i++) {
        kvs_op op = KVS_OP_INIT;
        op.kind = KVS_OP_SET;
        op.key = S("half");
        op.value = S("closed");
        assert_true(raw_client_add(&client, &op, i));
    }
    assert_true(raw_client_flush(&client));
    shutdown(client.fd, SHUT_WR);
    for (uint32_t i = 0; i < 200; i++) {
        struct wire_frame reply;
        assert_true(raw_client_reply(&client, &reply));
        assert_int_equal(reply.status, 0);
    }
    expect_end(client.fd);
    raw_client_close(&client);
}

/* Asks for far more than fits into the sockets and reads nothing. */
static void test_never_reads(void **state)
{
    struct raw_client other;
    open_client(&other);
    size_t size = 1 << 20;
    uint8_t *bytes = mem_zalloc(size);
    assert_non_null(bytes);
    assert_int_equal(set(&other, S("large"), slice_make(bytes, size)), 0);
    mem_free(bytes);
    struct raw_client greedy[4];
    for (unsigned i = 0; i < 4; i++) {
        open_client(&greedy[i]);
        struct timeval wait = {.tv_usec = 200000};
        setsockopt(greedy[i].fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
        kvs_op op = KVS_OP_INIT;
        op.kind = KVS_OP_GET;
        op.key = S("large");
        for (uint32_t k = 0; k < 4000; k++)
            assert_true(raw_client_add(&greedy[i], &op, k));
        raw_client_flush(&greedy[i]); /* as far as it goes */
    }
    for (unsigned i = 0; i < 500; i++)
        assert_int_equal(set(&other, S("k"), S("v")), 0);
    long resident = server_process_resident_kib(&server);
    print_message("# 16 GiB asked for and not read: %ld MiB resident\n", resident / 1024);
    if (!SANITIZED)
        assert_in_range(resident, 1, 4 * 64 * 1024 + MEMORY_KIB_MAX);
    for (unsigned i = 0; i < 4; i++)
        raw_client_close(&greedy[i]);
    raw_client_close(&other);
}

static void test_disconnects_anywhere(void **state)
{
    struct rand rand = rand_seed(test_seed());
    for (unsigned i = 0; i < 200; i++) {
        struct raw_client client;
        open_client(&client);
        uint8_t value[3000] = {0};
        for (uint32_t k = 0; k < 20; k++) {
            kvs_op op = KVS_OP_INIT;
            op.kind = k % 3 == 2 ? KVS_OP_SCAN : KVS_OP_SET;
            if (op.kind == KVS_OP_SET) {
                op.key = S("anywhere");
                op.value = slice_make(value, rand_below(&rand, sizeof value));
            }
            assert_true(raw_client_add(&client, &op, k));
        }
        client.out.size = 1 + rand_below(&rand, client.out.size);
        raw_client_flush(&client);
        struct linger reset = {.l_onoff = 1};
        if (i % 2 == 0) /* close sends a reset */
            setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        raw_client_close(&client);
    }
}

/* --- ten thousand connections -----------------------------------------------------------------*/

struct busy {
    pthread_t thread;
    bool failed;
};

static void *busy_run(void *arg)
{
    struct busy *busy = arg;
    struct raw_client client;
    busy->failed = !raw_client_open(&client, &server.address);
    for (unsigned i = 0; i < 200 && !busy->failed; i++) {
        kvs_op op = KVS_OP_INIT;
        op.kind = i % 2 == 0 ? KVS_OP_SET : KVS_OP_GET;
        op.key = S("busy");
        op.value = i % 2 == 0 ? S("value") : (kvs_slice){0};
        struct wire_frame reply;
        busy->failed = !raw_client_call(&client, &op, &reply) || reply.status != 0;
    }
    if (!busy->failed)
        raw_client_close(&client);
    return NULL;
}

static void test_ten_thousand_connections(void **state)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < MANY_CONNECTIONS + 200) {
        print_message("# skipped: only %lu descriptors are allowed here\n",
                      (unsigned long)limit.rlim_cur);
        skip();
    }
    int *fds = mem_zalloc(MANY_CONNECTIONS * sizeof *fds);
    assert_non_null(fds);
    struct buf hello = BUF_INIT;
    assert_int_equal(wire_client_hello_encode(
                         &(struct wire_client_hello){.version_min = 1, .version_max = 1}, &hello),
                     0);
    for (unsigned i = 0; i < MANY_CONNECTIONS; i++) {
        fds[i] = connect_raw();
        assert_int_equal(send(fds[i], hello.data, hello.size, MSG_NOSIGNAL), hello.size);
    }
    buf_deinit(&hello);
    for (unsigned i = 0; i < MANY_CONNECTIONS; i++) {
        uint8_t bytes[WIRE_SERVER_HELLO_SIZE];
        struct wire_server_hello answer;
        size_t size;
        assert_int_equal(recv(fds[i], bytes, sizeof bytes, MSG_WAITALL), sizeof bytes);
        assert_int_equal(wire_server_hello_decode(slice_make(bytes, sizeof bytes), &answer, &size),
                         0);
        assert_int_equal(answer.status, 0);
    }
    long resident = server_process_resident_kib(&server);
    print_message("# %u connections: %ld MiB resident\n", MANY_CONNECTIONS, resident / 1024);
    if (!SANITIZED)
        assert_in_range(resident, 1, MEMORY_KIB_MAX);
    struct busy busy[50] = {{0}};
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(pthread_create(&busy[i].thread, NULL, busy_run, &busy[i]), 0);
    for (unsigned i = 0; i < 50; i++) {
        pthread_join(busy[i].thread, NULL);
        assert_false(busy[i].failed);
    }
    for (unsigned i = 0; i < MANY_CONNECTIONS; i++)
        close(fds[i]);
    mem_free(fds);
}

/* --- the end ----------------------------------------------------------------------------------*/

#define STOPPED_WRITES 5000

/* SIGTERM under load: what was read is answered, what was acknowledged is there. */
static void test_stopped_under_load(void **state)
{
    struct raw_client client;
    open_client(&client);
    char text[32];
    for (uint32_t i = 0; i < STOPPED_WRITES; i++) {
        kvs_op op = KVS_OP_INIT;
        op.kind = KVS_OP_SET;
        snprintf(text, sizeof text, "stopped/%u", i);
        op.key = slice_of_string(text);
        op.value = op.key;
        assert_true(raw_client_add(&client, &op, i));
    }
    assert_true(raw_client_flush(&client));
    kill(server.pid, SIGTERM);
    static bool acknowledged[STOPPED_WRITES];
    memset(acknowledged, 0, sizeof acknowledged);
    struct wire_frame reply;
    unsigned count = 0;
    while (raw_client_reply(&client, &reply)) {
        if (reply.opcode == KVS_OP_SET && reply.status == 0 && reply.id < STOPPED_WRITES) {
            acknowledged[reply.id] = true;
            count++;
        }
    }
    raw_client_close(&client);
    assert_int_equal(server_process_end(&server, 0), 0);
    start_server();
    open_client(&client);
    for (uint32_t i = 0; i < STOPPED_WRITES; i++) {
        kvs_op op = KVS_OP_INIT;
        op.kind = KVS_OP_EXISTS;
        snprintf(text, sizeof text, "stopped/%u", i);
        op.key = slice_of_string(text);
        assert_int_equal(call(&client, &op, &reply), 0);
        if (acknowledged[i])
            assert_int_equal(reply.aux, 1);
    }
    print_message("# %u of %u writes were acknowledged before the end\n", count, STOPPED_WRITES);
    raw_client_close(&client);
}

static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(void)
{
    raise_descriptors();
    if (mkdtemp(directory) == NULL)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_version, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unknown_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(test_over_the_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sizes_inside_a_body, setup, teardown),
        cmocka_unit_test_setup_teardown(test_half_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_never_reads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_disconnects_anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ten_thousand_connections, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stopped_under_load, setup, teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    directory_remove(directory);
    return failed;
}

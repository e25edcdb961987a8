/*
 * tests/fault/test_fault_server.c: the server when memory or threads fail: every k-th allocation
 * and thread of its start, and of serving all kinds of requests.
 *
 * A start either succeeds or is taken down whole. While it serves, a request may be answered with
 * an error or its connection closed; other connections go on, and the server stops as ever.
 */
#include "base/fault.h"
#include "unit/server/peer_socket.h"
#include "unit/server/server_fixture.h"

#include <kvs/error.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "test.h"

#define RUNS_MAX 400
#define S(text) slice_of_string(text)

/* Opens with the k-th hit failing; whether one failed. */
static bool open_failing(enum fault_kind kind, uint64_t k, bool from_then_on, const char *engine)
{
    char directory[64];
    directory_make(directory);
    const struct kvs_server_options options = {
        .size = sizeof options,
        .address = "127.0.0.1:0",
        .engine = engine,
        .directory = directory,
        .threads = 3,
        .pool_threads = 2,
        .cache_size_bytes = 1 << 20,
    };
    kvs_server *server = NULL;
    char *message = NULL;
    fault_reset();
    fault_arm(kind, k, from_then_on);
    int error = kvs_server_open(&options, &server, &message);
    bool fired = fault_fired() > 0;
    fault_reset();
    if (error != 0) {
        if (!fired)
            fail_msg("k %llu: %s", (unsigned long long)k, message);
        assert_null(server);
        free(message);
    } else {
        server_stop(server);
    }
    directory_remove(directory);
    return fired;
}

static void every_start_succeeds_or_is_undone(void **state)
{
    (void)state;
    static const enum fault_kind kinds[] = {FAULT_ALLOC, FAULT_THREAD_START};
    static const char *const engines[] = {"memory", "kvs"};
    for (size_t e = 0; e < 2; e++) {
        for (size_t i = 0; i < 2; i++) {
            uint64_t k = 1;
            while (k < RUNS_MAX && open_failing(kinds[i], k, k % 2 == 0, engines[e]))
                k++;
            assert_in_range(k, 2, RUNS_MAX - 1);
            print_message("# engine %s, kind %d: %u\n", engines[e], (int)kinds[i], (unsigned)k);
        }
    }
}

/* One request of each kind, with batches and a scan; made before anything fails. */
static void all_requests(struct buf *out)
{
    static const kvs_slice keys[] = {{(const uint8_t *)"a", 1}, {(const uint8_t *)"b", 1}};
    static const kvs_mutation mutation = {.kind = KVS_MUTATION_SET,
                                          .key = {(const uint8_t *)"b", 1}};
    const struct wire_client_hello hello = {.version_min = 1, .version_max = 1};
    assert_int_equal(wire_client_hello_encode(&hello, out), 0);
    for (unsigned kind = KVS_OP_GET; kind <= KVS_OP_CHECKPOINT; kind++) {
        kvs_op op = {.kind = (uint8_t)kind,
                     .key = keys[0],
                     .end_key = S("c"),
                     .value = S("value"),
                     .timeout_ms = 20000,
                     .keys = keys,
                     .mutations = &mutation,
                     .count = kind == KVS_OP_BATCH_GET ? 2 : 1};
        assert_int_equal(wire_request_encode(&op, kind, 0, out), 0);
    }
}

static void it_serves_on_without_memory(void **state)
{
    (void)state;
    struct buf requests = BUF_INIT;
    all_requests(&requests);
    for (uint64_t k = 1; k < RUNS_MAX; k++) {
        kvs_server *server = server_start(NULL);
        fault_reset();
        fault_arm(FAULT_ALLOC, k, k % 2 == 0);
        peer_socket_converse(kvs_server_address(server), slice_make(requests.data, requests.size));
        bool fired = fault_fired() > 0;
        fault_reset();
        struct raw_peer peer;
        raw_peer_open(&peer, kvs_server_address(server));
        assert_int_equal(raw_peer_ping(&peer), 0);
        raw_peer_close(&peer);
        server_stop(server);
        if (!fired)
            break;
        assert_in_range(k, 1, RUNS_MAX - 2);
    }
    buf_deinit(&requests);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_start_succeeds_or_is_undone),
        cmocka_unit_test(it_serves_on_without_memory),
    };
    return cmocka_run_group_tests_name("fault-server", tests, NULL, NULL);
}

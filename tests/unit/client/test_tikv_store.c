/*
 * A kvs_store on a TiKV cluster (our server) with many regions, which split while it works, against
 * a model; restarts of the server; addresses that are not PD's; TLS files. In builds with faults
 * the same with regions that fail, a store that goes away and a PD that does not lead for a while.
 */
#include "base/rand.h"
#include "pdpb.pb-c.h"
#include "proto/tikv/key.h"
#include "server/tikv_faults.h"
#include "unit/server/grpc_peer.h"
#include "unit/server/server_fixture.h"

#include <arpa/inet.h>
#include <kvs/kvs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "held_port.h"
#include "seed.h"
#include "test.h"
#include "times.h"

#define KEYS 300u
#define TEXT 16u

struct world {
    kvs_runtime *runtime;
    kvs_server *server;
    kvs_store *store;
    struct rand rand;
    bool is_v2;
    char values[KEYS][TEXT]; /* "": no such key */
};

static struct world world;
static char key_text[KEYS][TEXT];

static kvs_slice key_at(unsigned index)
{
    return kvs_slice_of(key_text[index]);
}

/* "key0007": what is below is outside of the keys. */
static void make_keys(void)
{
    for (unsigned i = 0; i < KEYS; i++)
        snprintf(key_text[i], TEXT, "key%04u", i);
}

static kvs_store *open_store_on(unsigned connections, const char *url, int expected,
                                const char *said)
{
    const struct kvs_store_options options = {
        .size = sizeof options,
        .connections = connections,
        .connect_timeout_ms = expected == 0 ? PATIENT_MS : 3000,
        .timeout_ms = PATIENT_MS,
    };
    kvs_future *future = kvs_store_open(world.runtime, url, &options);
    void *store = NULL;
    int error = kvs_future_wait(future, -1);
    const char *message = kvs_future_error_message(future);
    if (error != expected || (said != NULL && strstr(message, said) == NULL))
        fail_msg("%s: %d %s", url, error, message);
    if (error == 0)
        kvs_future_get_pointer(future, &store);
    kvs_future_free(future);
    return store;
}

static kvs_store *open_store(const char *url, int expected, const char *said)
{
    return open_store_on(1, url, expected, said);
}

static void start(bool is_v2)
{
    const struct kvs_server_options options = {.size = sizeof options,
                                               .tikv = "127.0.0.1:0,127.0.0.1:0,127.0.0.1:0"};
    char url[128];
    uint64_t seed = test_seed();
    memset(&world, 0, sizeof world);
    make_keys();
    world.rand = rand_seed(seed);
    world.is_v2 = is_v2;
    assert_int_equal(kvs_runtime_new(NULL, &world.runtime), 0);
    world.server = server_start(&options);
    snprintf(url, sizeof url, "tikv://%s%s", kvs_server_pd_address(world.server),
             is_v2 ? "/DEFAULT" : "");
    world.store = open_store(url, 0, NULL);
}

static void stop(void)
{
    assert_int_equal(wait_and_free(kvs_store_close(world.store)), 0);
    kvs_runtime_free(world.runtime);
    server_stop(world.server);
}

static void split_at(unsigned index)
{
    uint8_t full[TEXT + 4];
    uint8_t encoded[64];
    struct grpc_peer peer;
    Pdpb__SplitRegionsRequest request = PDPB__SPLIT_REGIONS_REQUEST__INIT;
    Pdpb__SplitRegionsResponse *reply;
    kvs_slice key = key_at(index);
    ProtobufCBinaryData split = {.len = key.size, .data = (uint8_t *)(uintptr_t)key.data};
    if (world.is_v2) {
        key_prefix(KEY_MODE_RAW, 0, full);
        memcpy(full + 4, key.data, key.size);
        key_encode(slice_make(full, key.size + 4), encoded);
        split = (ProtobufCBinaryData){.len = key_encoded_size(key.size + 4), .data = encoded};
    }
    request.n_split_keys = 1;
    request.split_keys = &split;
    grpc_peer_open(&peer, kvs_server_pd_address(world.server));
    int code = grpc_peer_ask(&peer, "/pdpb.PD/SplitRegions", &request.base,
                             &pdpb__split_regions_response__descriptor, &reply, NULL);
    if (code == GRPC_OK) /* a PD that does not lead refuses */
        protobuf_c_message_free_unpacked(&reply->base, NULL);
    grpc_peer_close(&peer);
}

/* --- one step of the model ----------------------------------------------------------------------
 */

static unsigned draw(unsigned bound)
{
    return (unsigned)rand_below(&world.rand, bound);
}

static void new_value(char *value)
{
    snprintf(value, TEXT, "v%08x", (unsigned)rand_u64(&world.rand));
}

static void step_point(void)
{
    unsigned at = draw(KEYS);
    char value[TEXT];
    char *known = world.values[at];
    new_value(value);
    switch (draw(4)) {
    case 0:
        assert_int_equal(wait_and_free(kvs_store_set(world.store, key_at(at), kvs_slice_of(value))),
                         0);
        memcpy(known, value, TEXT);
        break;
    case 1: {
        int error = wait_and_free(kvs_store_remove(world.store, key_at(at)));
        assert_int_equal(error, known[0] != '\0' ? 0 : KVS_ERR_NOT_FOUND);
        known[0] = '\0';
        break;
    }
    case 2: {
        kvs_future *future = kvs_store_get(world.store, key_at(at));
        kvs_slice found = {0};
        int error = kvs_future_wait(future, -1);
        assert_int_equal(error, known[0] != '\0' ? 0 : KVS_ERR_NOT_FOUND);
        if (error == 0) {
            kvs_future_get_value(future, &found);
            assert_true(slice_equal(found, kvs_slice_of(known)));
        }
        kvs_future_free(future);
        break;
    }
    default: {
        kvs_future *future = kvs_store_exists(world.store, key_at(at));
        int64_t number = -1;
        assert_int_equal(kvs_future_wait(future, -1), 0);
        kvs_future_get_number(future, &number);
        assert_int_equal(number, known[0] != '\0');
        kvs_future_free(future);
    }
    }
}

static void step_batch_get(void)
{
    kvs_slice keys[64];
    unsigned index[64];
    unsigned count = 1 + draw(64);
    for (unsigned i = 0; i < count; i++) {
        index[i] = draw(KEYS);
        keys[i] = key_at(index[i]);
    }
    kvs_future *future = kvs_store_batch_get(world.store, keys, count);
    const kvs_pair *pairs;
    size_t found;
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_pairs(future, &pairs, &found), 0);
    assert_int_equal(found, count);
    for (unsigned i = 0; i < count; i++) {
        const char *known = world.values[index[i]];
        assert_true(slice_equal(pairs[i].key, keys[i]));
        assert_int_equal(pairs[i].found, known[0] != '\0');
        assert_true(slice_equal(pairs[i].value, kvs_slice_of(known)));
    }
    kvs_future_free(future);
}

static void step_batch_write(void)
{
    static kvs_mutation mutations[100];
    static char values[100][TEXT];
    unsigned count = 1 + draw(100);
    for (unsigned i = 0; i < count; i++) {
        unsigned at = draw(KEYS);
        mutations[i] = (kvs_mutation){.kind = KVS_MUTATION_REMOVE, .key = key_at(at)};
        new_value(values[i]);
        unsigned kind = draw(20);
        if (kind == 0) {
            unsigned end = at + draw(10);
            end = end < KEYS ? end : KEYS - 1;
            mutations[i].kind = KVS_MUTATION_REMOVE_RANGE;
            mutations[i].value = key_at(end);
            for (unsigned k = at; k < end; k++)
                world.values[k][0] = '\0';
        } else if (kind < 14) {
            mutations[i].kind = KVS_MUTATION_SET;
            mutations[i].value = kvs_slice_of(values[i]);
            memcpy(world.values[at], values[i], TEXT);
        } else {
            world.values[at][0] = '\0';
        }
    }
    assert_int_equal(wait_and_free(kvs_store_batch_write(world.store, mutations, count)), 0);
}

/* A range of indices; NULL bounds now and then. */
static void draw_range(unsigned *ret_from, unsigned *ret_to, kvs_slice *ret_start,
                       kvs_slice *ret_end)
{
    unsigned from = draw(KEYS);
    unsigned to = from + draw(KEYS - from) + 1;
    *ret_start = key_at(from);
    *ret_end = to < KEYS ? key_at(to) : (kvs_slice){0};
    if (draw(4) == 0) {
        from = 0;
        *ret_start = (kvs_slice){0};
    }
    *ret_from = from;
    *ret_to = to;
}

static void step_scan(void)
{
    unsigned from, to;
    kvs_slice start, end;
    bool reverse = draw(2) == 0;
    bool keys_only = draw(2) == 0;
    uint32_t limit = draw(3) == 0 ? UINT32_MAX : 1 + draw(40);
    draw_range(&from, &to, &start, &end);
    kvs_future *future = kvs_store_scan(world.store, start, end, limit,
                                        (reverse ? KVS_OP_FLAG_REVERSE : 0) |
                                            (keys_only ? KVS_OP_FLAG_KEYS_ONLY : 0));
    const kvs_pair *pairs;
    size_t count;
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_pairs(future, &pairs, &count), 0);
    size_t seen = 0;
    for (unsigned i = 0; i < to - from && seen < limit; i++) {
        unsigned at = reverse ? to - 1 - i : from + i;
        if (world.values[at][0] == '\0')
            continue;
        assert_true(seen < count);
        assert_true(slice_equal(pairs[seen].key, key_at(at)));
        assert_true(keys_only || slice_equal(pairs[seen].value, kvs_slice_of(world.values[at])));
        seen++;
    }
    assert_int_equal(seen, count);
    kvs_future_free(future);
}

static void step_range(void)
{
    unsigned from, to;
    kvs_slice start, end;
    bool remove = draw(8) == 0;
    draw_range(&from, &to, &start, &end);
    if (remove && to - from > 40) {
        to = from + 40;
        end = to < KEYS ? key_at(to) : (kvs_slice){0};
    }
    kvs_future *future = remove ? kvs_store_remove_range(world.store, start, end)
                                : kvs_store_count(world.store, start, end);
    int64_t expected = 0, number = -1;
    for (unsigned i = from; i < to; i++) {
        expected += world.values[i][0] != '\0';
        if (remove)
            world.values[i][0] = '\0';
    }
    assert_int_equal(kvs_future_wait(future, -1), 0);
    kvs_future_get_number(future, &number);
    assert_int_equal(number, expected);
    kvs_future_free(future);
}

static void run_model(unsigned steps)
{
    for (unsigned i = 0; i < steps; i++) {
        unsigned kind = draw(20);
        if (kind < 10)
            step_point();
        else if (kind < 12)
            step_batch_get();
        else if (kind < 14)
            step_batch_write();
        else if (kind < 17)
            step_scan();
        else if (kind < 19)
            step_range();
        else
            split_at(draw(KEYS));
    }
}

static void test_model_v1(void **state)
{
    (void)state;
    start(false);
    run_model(1500);
    stop();
}

static void test_model_v2(void **state)
{
    (void)state;
    start(true);
    run_model(1500);
    stop();
}

/* Many at a time, over regions that split under them. */
static void set_all(void)
{
    enum { ROUNDS = 4 };
    kvs_future *futures[ROUNDS][KEYS];
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < KEYS; i++) {
            new_value(world.values[i]);
            futures[round][i] =
                kvs_store_set(world.store, key_at(i), kvs_slice_of(world.values[i]));
        }
        split_at(draw(KEYS));
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < KEYS; i++)
            assert_int_equal(wait_and_free(futures[round][i]), 0);
    }
    for (unsigned i = 0; i < 20; i++)
        step_scan();
}

static void test_many_in_flight(void **state)
{
    (void)state;
    start(false);
    set_all();
    run_model(50);
    stop();
}

static unsigned long requests_of(kvs_store *store)
{
    kvs_future *future = kvs_store_stats(store);
    kvs_slice json;
    assert_int_equal(kvs_future_wait(future, -1), 0);
    kvs_future_get_value(future, &json);
    char *text = strndup((const char *)json.data, json.size);
    const char *at = strstr(text, "\"requests\":");
    assert_non_null(at);
    unsigned long requests = strtoul(at + strlen("\"requests\":"), NULL, 10);
    free(text);
    kvs_future_free(future);
    return requests;
}

/* Whichever loop is asked for statistics: it tells of all. */
static void test_statistics_of_all_loops(void **state)
{
    (void)state;
    char url[128];
    start(false);
    snprintf(url, sizeof url, "tikv://%s", kvs_server_pd_address(world.server));
    kvs_store *store = open_store_on(4, url, 0, NULL);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(wait_and_free(kvs_store_get(store, key_at(i))), KVS_ERR_NOT_FOUND);
    for (unsigned i = 0; i < 5; i++)
        assert_in_range(requests_of(store), 100, 1000);
    assert_int_equal(wait_and_free(kvs_store_close(store)), 0);
    stop();
}

static void test_compare_and_set(void **state)
{
    (void)state;
    start(true);
    kvs_slice a = kvs_slice_of("a"), b = kvs_slice_of("b"), key = key_at(1);
    assert_int_equal(wait_and_free(kvs_store_compare_and_set(world.store, key, NULL, a)), 0);
    assert_int_equal(wait_and_free(kvs_store_compare_and_set(world.store, key, NULL, b)),
                     KVS_ERR_CONDITION_FAILED);
    assert_int_equal(wait_and_free(kvs_store_compare_and_set(world.store, key, &a, b)), 0);
    kvs_future *future = kvs_store_compare_and_set(world.store, key, &a, b);
    int64_t number;
    kvs_slice value;
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_CONDITION_FAILED);
    kvs_future_get_number(future, &number);
    kvs_future_get_value(future, &value);
    assert_int_equal(number, 1);
    assert_true(slice_equal(value, b));
    kvs_future_free(future);
    stop();
}

static void test_families(void **state)
{
    (void)state;
    start(false);
    for (unsigned family = 0; family < 4; family++) {
        kvs_op op = KVS_OP_INIT;
        op.kind = KVS_OP_SET;
        op.family = (uint8_t)family;
        op.key = key_at(1);
        op.value = slice_make("0123" + family, 1);
        assert_int_equal(wait_and_free(kvs_store_call(world.store, &op)),
                         family < 3 ? 0 : KVS_ERR_UNSUPPORTED);
    }
    for (unsigned family = 0; family < 3; family++) {
        kvs_op op = KVS_OP_INIT;
        op.kind = KVS_OP_GET;
        op.family = (uint8_t)family;
        op.key = key_at(1);
        kvs_future *future = kvs_store_call(world.store, &op);
        kvs_slice value;
        assert_int_equal(kvs_future_wait(future, -1), 0);
        kvs_future_get_value(future, &value);
        assert_int_equal(value.data[0], '0' + family);
        kvs_future_free(future);
    }
    stop();
}

/* --- what goes wrong ----------------------------------------------------------------------------
 */

/* Somebody listens there, and says nothing: that ends, too, and the address is named. */
static void check_silent_address(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    char url[80], said[64];
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(listener, 16), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &size), 0);
    snprintf(said, sizeof said, "127.0.0.1:%u", ntohs(at.sin_port));
    snprintf(url, sizeof url, "tikv://%s", said);
    open_store(url, KVS_ERR_CONNECT, said);
    close(listener);
}

static void test_wrong_addresses(void **state)
{
    (void)state;
    char url[300], said[200];
    start(false);
    check_silent_address();
    open_store("tikv://127.0.0.1:1", KVS_ERR_CONNECT, "127.0.0.1:1: cannot connect");
    open_store("tikv://a b", KVS_ERR_INVALID_ARGUMENT, "no address of PD");
    snprintf(url, sizeof url, "tikv://%s", kvs_server_tikv_address(world.server));
    snprintf(said, sizeof said, "%s: UNIMPLEMENTED", kvs_server_tikv_address(world.server));
    open_store(url, KVS_ERR_PROTOCOL, said);
    snprintf(url, sizeof url, "tikv://%s", kvs_server_address(world.server));
    open_store(url, KVS_ERR_PROTOCOL, "is this the address of PD?");
    snprintf(url, sizeof url, "tikv://%s/nowhere", kvs_server_pd_address(world.server));
    open_store(url, KVS_ERR_INVALID_ARGUMENT, "no keyspace \"nowhere\"");
    /* One good one is enough. */
    snprintf(url, sizeof url, "tikv://127.0.0.1:1,%s", kvs_server_pd_address(world.server));
    kvs_store *store = open_store(url, 0, NULL);
    assert_int_equal(wait_and_free(kvs_store_ping(store)), 0);
    assert_int_equal(wait_and_free(kvs_store_close(store)), 0);
    stop();
}

static void test_deadline(void **state)
{
    (void)state;
    start(false);
    server_stop(world.server);
    kvs_op op = KVS_OP_INIT;
    op.kind = KVS_OP_GET;
    op.key = key_at(1);
    op.timeout_ms = 300;
    assert_int_equal(wait_and_free(kvs_store_call(world.store, &op)), KVS_ERR_TIMEOUT);
    kvs_future *future = kvs_store_get(world.store, key_at(2));
    kvs_future_cancel(future);
    assert_int_equal(wait_and_free(future), KVS_ERR_CANCELLED);
    assert_int_equal(wait_and_free(kvs_store_close(world.store)), 0);
    kvs_runtime_free(world.runtime);
}

static void test_server_restarts(void **state)
{
    (void)state;
    char directory[64], addresses[200];
    struct held_port pd, tikv;
    directory_make(directory);
    held_port_take(&pd);
    held_port_take(&tikv);
    start(false);
    stop();
    struct kvs_server_options options = {.size = sizeof options,
                                         .engine = "kvs",
                                         .directory = directory,
                                         .sync = KVS_SYNC_NEVER,
                                         .tikv = addresses};
    char url[128];
    assert_int_equal(kvs_runtime_new(NULL, &world.runtime), 0);
    snprintf(addresses, sizeof addresses, "%s,%s,127.0.0.1:0", pd.address, tikv.address);
    snprintf(url, sizeof url, "tikv://%s", pd.address);
    world.server = server_start(&options);
    world.store = open_store(url, 0, NULL);
    kvs_future *futures[3][KEYS];
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < KEYS; i++) {
            new_value(world.values[i]);
            futures[round][i] =
                kvs_store_set(world.store, key_at(i), kvs_slice_of(world.values[i]));
        }
        server_stop(world.server);
        world.server = server_start(&options);
    }
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < KEYS; i++)
            assert_int_equal(wait_and_free(futures[round][i]), 0);
    }
    run_model(100);
    stop();
    held_port_give_back(&pd);
    held_port_give_back(&tikv);
    directory_remove(directory);
}

#ifdef KVS_FAULTS
static void run_with_faults(const char *faults, unsigned steps)
{
    char message[256];
    start(false);
    assert_int_equal(tikv_faults_set(faults, message), 0);
    set_all();
    run_model(steps);
    assert_int_equal(tikv_faults_set("", message), 0);
    stop();
}

static void test_region_errors(void **state)
{
    (void)state;
    run_with_faults("region-errors=20", 200);
}

static void test_pd_that_moves(void **state)
{
    (void)state;
    run_with_faults("region-errors=20,pd-away=60:60", 100);
}

static void test_store_that_goes_away(void **state)
{
    (void)state;
    run_with_faults("store-away=300:100", 100);
}
#endif

/* --- time to live, checksums --- */

static int64_t ttl_of(kvs_store *store, const char *key, int expected)
{
    kvs_future *future = kvs_store_ttl(store, kvs_slice_of(key));
    int64_t number = -1;
    assert_int_equal(kvs_future_wait(future, -1), expected);
    if (expected == 0)
        assert_int_equal(kvs_future_get_number(future, &number), 0);
    kvs_future_free(future);
    return number;
}

static struct kvs_checksum checksum_of(kvs_store *store, const char *start, const char *end)
{
    kvs_future *future = kvs_store_checksum(store, kvs_slice_of(start), kvs_slice_of(end));
    struct kvs_checksum checksum;
    kvs_slice value;
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_value(future, &value), 0);
    assert_int_equal(kvs_checksum_read(value, &checksum), 0);
    kvs_future_free(future);
    return checksum;
}

static void check_ttl(kvs_store *store)
{
    assert_int_equal(
        wait_and_free(kvs_store_set_ttl(store, kvs_slice_of("mortal"), kvs_slice_of("v"), 3600000)),
        0);
    int64_t left_ms = ttl_of(store, "mortal", 0);
    assert_true(left_ms > 0 && left_ms <= 3600000);
    assert_int_equal(ttl_of(store, "key0000", 0), 0); /* for ever */
    ttl_of(store, "nobody", KVS_ERR_NOT_FOUND);
    assert_int_equal(wait_and_free(kvs_store_remove(store, kvs_slice_of("mortal"))), 0);
}

static void fill(kvs_store *store)
{
    for (unsigned i = 0; i < KEYS; i++) {
        char value[TEXT];
        snprintf(value, sizeof value, "v%u", i * 7);
        assert_int_equal(wait_and_free(kvs_store_set(store, key_at(i), kvs_slice_of(value))), 0);
    }
}

/* In this process, from kvs-server, and from the cluster with its many regions: the same. */
static void test_ttl_and_checksum(void **state)
{
    (void)state;
    start(false);
    char url[128];
    snprintf(url, sizeof url, "kvs://%s", kvs_server_address(world.server));
    kvs_store *stores[] = {world.store, open_store(url, 0, NULL), open_store("memory:", 0, NULL)};
    fill(stores[0]); /* what the second one has, too */
    fill(stores[2]);
    for (unsigned i = 10; i < KEYS; i += 50)
        split_at(i);
    static const char *const ranges[][2] = {
        {"", ""}, {"key0010", "key0011"}, {"key0009", "key0200"}, {"z", ""}, {"b", "a"}};
    for (unsigned k = 0; k < sizeof ranges / sizeof ranges[0]; k++) {
        struct kvs_checksum expected = checksum_of(stores[2], ranges[k][0], ranges[k][1]);
        for (unsigned i = 0; i < 2; i++) {
            struct kvs_checksum found = checksum_of(stores[i], ranges[k][0], ranges[k][1]);
            assert_memory_equal(&found, &expected, sizeof found);
        }
        assert_int_equal(expected.keys, k == 0 ? KEYS : k == 1 ? 1 : k == 2 ? 191 : 0);
    }
    for (unsigned i = 0; i < 3; i++)
        check_ttl(stores[i]);
    for (unsigned i = 1; i < 3; i++)
        assert_int_equal(wait_and_free(kvs_store_close(stores[i])), 0);
    stop();
}

/* With a keyspace the checksum is of the keys as the cluster has them. */
static void test_ttl_and_checksum_of_a_keyspace(void **state)
{
    (void)state;
    start(true);
    fill(world.store);
    struct kvs_checksum whole = checksum_of(world.store, "", "");
    for (unsigned i = 10; i < KEYS; i += 50)
        split_at(i);
    struct kvs_checksum cut = checksum_of(world.store, "", "");
    assert_memory_equal(&whole, &cut, sizeof cut);
    assert_int_equal(cut.keys, KEYS);
    check_ttl(world.store);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ttl_and_checksum),
        cmocka_unit_test(test_ttl_and_checksum_of_a_keyspace),
        cmocka_unit_test(test_model_v1),
        cmocka_unit_test(test_model_v2),
        cmocka_unit_test(test_many_in_flight),
        cmocka_unit_test(test_statistics_of_all_loops),
        cmocka_unit_test(test_compare_and_set),
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_wrong_addresses),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_server_restarts),
#ifdef KVS_FAULTS
        cmocka_unit_test(test_region_errors),
        cmocka_unit_test(test_pd_that_moves),
        cmocka_unit_test(test_store_that_goes_away),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

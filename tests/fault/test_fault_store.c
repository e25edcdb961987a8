/*
 * tests/fault/test_fault_store.c: the store API with the k-th allocation failing, for every k: on
 * memory:, and on kvs:// and tikv:// with the server in this process, which runs out of memory with
 * its client. Under a sanitizer for every n-th k; KVS_TEST_EVERY=1: all.
 *
 * Whatever fails must say so: nothing hangs, crashes or leaks (the sanitizers look), and when
 * memory is there again the store works.
 */
#include "base/fault.h"
#include "contract/engine_fixture.h"
#include "fault/outcome.h"
#include "fault/stride.h"

#include <kvs/kvs.h>
#include <kvs/server.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "test.h"
#include "times.h"

static kvs_server *server;
static char url[64];

static kvs_slice a, b, none;

static kvs_store *try_open(kvs_runtime *runtime)
{
    void *store = NULL;
    struct kvs_store_options options = {.size = sizeof options, .timeout_ms = PATIENT_MS};
    kvs_future *future = kvs_store_open(runtime, url, &options);
    if (future != NULL && kvs_future_wait(future, -1) == 0)
        kvs_future_get_pointer(future, &store);
    kvs_future_free(future);
    return store;
}

static void use(kvs_store *store)
{
    kvs_mutation mutations[] = {{.kind = KVS_MUTATION_SET, .key = a, .value = b},
                                {.kind = KVS_MUTATION_SET, .key = b, .value = a}};
    kvs_slice keys[] = {a, b};
    outcome(kvs_store_set(store, a, b));
    outcome(kvs_store_get(store, a));
    outcome(kvs_store_compare_and_set(store, a, &a, b));
    outcome(kvs_store_batch_write(store, mutations, 2));
    outcome(kvs_store_batch_get(store, keys, 2));
    outcome(kvs_store_scan(store, none, none, 0, 0));
    outcome(kvs_store_scan(store, none, none, 10, 0));
    outcome(kvs_store_ttl(store, a));
    outcome(kvs_store_count(store, none, none));
    outcome(kvs_store_checksum(store, none, none));
    outcome(kvs_store_remove(store, b));
    outcome(kvs_store_stats(store));
    outcome(kvs_store_remove_range(store, none, none));
}

/* One life of a store. Returns false when no fault was hit: all k have been tried. */
static bool live(uint64_t k)
{
    kvs_runtime *runtime = NULL;
    fault_reset();
    fault_arm(FAULT_ALLOC, k, false);
    kvs_store *store = NULL;
    if (kvs_runtime_new(NULL, &runtime) == 0)
        store = try_open(runtime);
    if (store != NULL)
        use(store);
    bool fired = fault_fired() > 0;
    fault_reset();
    if (runtime == NULL)
        return fired;
    if (store == NULL)
        store = try_open(runtime);
    assert_non_null(store);
    assert_int_equal(outcome(kvs_store_set(store, a, b)), 0);
    assert_int_equal(outcome(kvs_store_get(store, a)), 0);
    assert_int_equal(outcome(kvs_store_close(store)), 0);
    kvs_runtime_free(runtime);
    return fired;
}

static void live_with_every_fault(void)
{
    uint64_t step = fault_step(TIMES(1, 2, 4));
    uint64_t k = 1 + test_seed() % step;
    uint64_t lives = 0;
    for (; live(k); k += step, lives++)
        assert_true(k < 5000);
    print_message("# %llu of %llu allocations failed in turn\n", (unsigned long long)lives,
                  (unsigned long long)k - 1);
    assert_true(lives > 10);
}

static void test_memory(void **state)
{
    (void)state;
    snprintf(url, sizeof url, "memory:");
    live_with_every_fault();
}

static void with_server(bool is_tikv)
{
    char directory[] = "/tmp/kvs-test-XXXXXX";
    assert_non_null(mkdtemp(directory));
    struct kvs_server_options options = {.size = sizeof options,
                                         .address = "127.0.0.1:0",
                                         .engine = "memory",
                                         .directory = directory,
                                         .threads = 1};
    options.tikv = is_tikv ? "127.0.0.1:0,127.0.0.1:0,127.0.0.1:0" : NULL;
    assert_int_equal(kvs_server_open(&options, &server, NULL), 0);
    if (is_tikv)
        snprintf(url, sizeof url, "tikv://%s", kvs_server_pd_address(server));
    else
        snprintf(url, sizeof url, "kvs://%s", kvs_server_address(server));
    live_with_every_fault();
    assert_int_equal(kvs_server_close(server, PATIENT_MS), 0);
    rmdir(directory);
}

static void test_server(void **state)
{
    (void)state;
    with_server(false);
}

static void test_tikv(void **state)
{
    (void)state;
    with_server(true);
}

int main(void)
{
    a = kvs_slice_of("a");
    b = kvs_slice_of("b");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_server),
        cmocka_unit_test(test_tikv),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

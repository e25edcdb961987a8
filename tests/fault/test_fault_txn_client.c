/*
 * tests/fault/test_fault_txn_client.c: kvs/txn.h with the k-th allocation failing: for every k on
 * memory:, for every fourth on tikv:// with the server in this process, which runs out of memory
 * with its client; for fewer under a sanitizer (KVS_TEST_EVERY=1: all).
 *
 * Whatever fails must say so: nothing hangs, crashes or leaks (the sanitizers look); the two
 * accounts keep their sum whatever became of a transfer; and when memory is there again all works.
 */
#include "base/fault.h"
#include "contract/engine_fixture.h"
#include "fault/outcome.h"
#include "fault/stride.h"

#include <kvs/kvs.h>
#include <kvs/server.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test.h"
#include "times.h"

#define ALLOCATIONS_MAX 5000u

static char url[64];
static kvs_slice a, b, c, none;
static uint64_t safe_point; /* goes up, and stays below all that is there */

static kvs_txn_client *try_open(kvs_runtime *runtime)
{
    void *client = NULL;
    struct kvs_store_options options = {.size = sizeof options, .timeout_ms = PATIENT_MS};
    kvs_future *future = kvs_txn_client_open(runtime, url, &options);
    if (future != NULL && kvs_future_wait(future, -1) == 0)
        kvs_future_get_pointer(future, &client);
    kvs_future_free(future);
    return client;
}

static int put_both(kvs_txn *txn, const char *first, const char *second)
{
    int error = outcome(kvs_txn_put(txn, a, kvs_slice_of(first)));
    if (error == 0)
        error = outcome(kvs_txn_put(txn, b, kvs_slice_of(second)));
    return error;
}

static kvs_future *run_put(kvs_txn *txn, void *arg)
{
    (void)arg;
    return kvs_txn_put(txn, c, a);
}

static void use_txn(kvs_txn_client *client, bool pessimistic, bool classic)
{
    const struct kvs_txn_options options = {.size = sizeof options,
                                            .pessimistic = pessimistic,
                                            .no_one_pc = classic,
                                            .no_async_commit = classic};
    const kvs_slice keys[] = {b, a, c};
    kvs_txn *txn = kvs_txn_begin(client, &options);
    if (txn == NULL)
        return;
    outcome(kvs_txn_get(txn, a));
    outcome(kvs_txn_batch_get(txn, keys, 3));
    outcome(kvs_txn_get_for_update(txn, b));
    if (classic) /* which a lock in share mode needs */
        outcome(kvs_txn_lock_shared(txn, &c, 1, 0));
    int error = put_both(txn, classic ? "3" : "6", classic ? "7" : "4");
    outcome(kvs_txn_scan(txn, none, none, 10, 0));
    if (error == 0)
        outcome(kvs_txn_commit(txn));
    kvs_txn_free(txn);
}

static void use(kvs_txn_client *client)
{
    use_txn(client, false, false);
    use_txn(client, true, false);
    use_txn(client, false, true);
    use_txn(client, true, true);
    outcome(kvs_txn_run(client, run_put, NULL, NULL));
    kvs_snapshot *snapshot = kvs_snapshot_new(client, 0);
    if (snapshot != NULL) {
        outcome(kvs_snapshot_scan(snapshot, none, none, 0, 0));
        outcome(kvs_snapshot_exists(snapshot, a));
    }
    kvs_snapshot_free(snapshot);
    outcome(kvs_txn_current_timestamp(client));
    outcome(kvs_txn_cleanup_locks(client, none, none, 1));
    outcome(kvs_txn_gc(client, ++safe_point));
    outcome(kvs_txn_unsafe_destroy_range(client, kvs_slice_of("x"), kvs_slice_of("y")));
}

static int number_at(const kvs_pair *pair)
{
    char text[16];
    snprintf(text, sizeof text, "%.*s", (int)pair->value.size, (const char *)pair->value.data);
    return pair->found ? atoi(text) : 0;
}

/* 3 + 7, 6 + 4, or the first 10 + 0. */
static void check_sum(kvs_txn_client *client)
{
    const kvs_slice keys[] = {a, b};
    const kvs_pair *pairs;
    size_t count;
    kvs_snapshot *snapshot = kvs_snapshot_new(client, 0);
    kvs_future *get = kvs_snapshot_batch_get(snapshot, keys, 2);
    assert_int_equal(kvs_future_wait(get, -1), 0);
    assert_int_equal(kvs_future_get_pairs(get, &pairs, &count), 0);
    assert_int_equal(count, 2);
    int sum = number_at(&pairs[0]) + number_at(&pairs[1]);
    if (pairs[0].found || pairs[1].found)
        assert_int_equal(sum, 10);
    kvs_future_free(get);
    kvs_snapshot_free(snapshot);
}

/* One life of a client. Returns false when no fault was hit: all k have been tried. */
static bool live(uint64_t k)
{
    kvs_runtime *runtime = NULL;
    kvs_txn_client *client = NULL;
    fault_reset();
    fault_arm(FAULT_ALLOC, k, false);
    if (kvs_runtime_new(NULL, &runtime) == 0)
        client = try_open(runtime);
    if (client != NULL)
        use(client);
    bool fired = fault_fired() > 0;
    fault_reset();
    if (runtime == NULL)
        return fired;
    if (client == NULL)
        client = try_open(runtime);
    assert_non_null(client);
    check_sum(client);
    kvs_txn *txn = kvs_txn_begin(client, NULL);
    assert_int_equal(put_both(txn, "10", "0"), 0);
    int error = outcome(kvs_txn_commit(txn));
    kvs_txn_free(txn);
    /* A lock that could not be given back, for want of memory, lives on for a while. */
    if (error != KVS_ERR_LOCK_TIMEOUT)
        assert_int_equal(error, 0);
    check_sum(client);
    assert_int_equal(outcome(kvs_txn_client_close(client)), 0);
    kvs_runtime_free(runtime);
    return fired;
}

static void live_with_faults(uint64_t step)
{
    uint64_t k = 1 + test_seed() % step;
    uint64_t lives = 0;
    while (live(k)) {
        k += step;
        lives++;
        assert_true(k < ALLOCATIONS_MAX);
    }
    print_message("# %llu of %llu allocations failed in turn\n", (unsigned long long)lives,
                  (unsigned long long)k - 1);
    assert_true(lives > 10);
}

static void test_memory(void **state)
{
    (void)state;
    snprintf(url, sizeof url, "memory:");
    live_with_faults(fault_step(TIMES(1, 3, 7)));
}

static void test_tikv(void **state)
{
    (void)state;
    char directory[] = "/tmp/kvs-test-XXXXXX";
    kvs_server *server;
    assert_non_null(mkdtemp(directory));
    const struct kvs_server_options options = {.size = sizeof options,
                                               .address = "127.0.0.1:0",
                                               .engine = "memory",
                                               .directory = directory,
                                               .tikv = "127.0.0.1:0,127.0.0.1:0,127.0.0.1:0",
                                               .threads = 1};
    assert_int_equal(kvs_server_open(&options, &server, NULL), 0);
    snprintf(url, sizeof url, "tikv://%s", kvs_server_pd_address(server));
    live_with_faults(fault_step(TIMES(4, 7, 15))); /* what connects is swept by fault-store */
    assert_int_equal(kvs_server_close(server, PATIENT_MS), 0);
    rmdir(directory);
}

int main(void)
{
    a = kvs_slice_of("a");
    b = kvs_slice_of("b");
    c = kvs_slice_of("c");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_tikv),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

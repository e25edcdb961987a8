/*
 * What a client's transactions do when the server that holds PD and the data stops in its tracks,
 * or is gone: each call ends by its own time, whatever the client's is; and they go on with it.
 * What is given up is in nobody's way.
 */
#include "crash/server_process.h"

#include "base/clock.h"

#include <kvs/kvs.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test.h"

#define BRIEF_MS 300u           /* a transaction's time */
#define CLIENT_TIMEOUT_MS 30000 /* the client's */

static struct server_process server;
static kvs_runtime *runtime;
static char url[80];
static kvs_txn_client *client;

/* --- the world --- */

static kvs_slice text(const char *string)
{
    return kvs_slice_of(string);
}

static kvs_txn_client *open_client(void)
{
    const struct kvs_store_options options = {
        .size = sizeof options, .connections = 1, .timeout_ms = CLIENT_TIMEOUT_MS};
    return opened_by(kvs_txn_client_open(runtime, url, &options));
}

static int set_up(void **state)
{
    (void)state;
    const char *const arguments[] = {"--engine=memory",
                                     "--tikv=127.0.0.1:0,127.0.0.1:0,127.0.0.1:0", NULL};
    char pd[64], store[64];
    if (!server_process_start(&server, arguments))
        fail_msg("the server does not start: %s", server.log);
    assert_true(server_process_tikv(&server, pd, store));
    snprintf(url, sizeof url, "tikv://%s", pd);
    assert_int_equal(kvs_runtime_new(NULL, &runtime), 0);
    client = open_client();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    assert_int_equal(wait_and_free(kvs_txn_client_close(client)), 0);
    kvs_runtime_free(runtime);
    server_process_end(&server, SIGKILL);
    return 0;
}

/* --- a call --- */

static kvs_txn *begin(bool is_pessimistic)
{
    const struct kvs_txn_options options = {
        .size = sizeof options, .pessimistic = is_pessimistic, .timeout_ms = BRIEF_MS};
    return kvs_txn_begin(client, &options);
}

/* One that has its start. */
static kvs_txn *begun(bool is_pessimistic)
{
    kvs_txn *txn = begin(is_pessimistic);
    assert_int_equal(wait_and_free(kvs_txn_start_timestamp(txn)), 0);
    return txn;
}

static void expect_timeout(kvs_future *future, uint64_t began_ms)
{
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_TIMEOUT);
    uint64_t took_ms = clock_now_ms() - began_ms;
    assert_true(kvs_future_error_message(future)[0] != '\0');
    kvs_future_free(future);
    assert_in_range(took_ms, BRIEF_MS / 2, CLIENT_TIMEOUT_MS / 2);
}

static void put_and_get(void)
{
    kvs_txn *txn = kvs_txn_begin(client, NULL);
    assert_int_equal(wait_and_free(kvs_txn_put(txn, text("k"), text("v"))), 0);
    assert_int_equal(wait_and_free(kvs_txn_commit(txn)), 0);
    kvs_txn_free(txn);
    txn = kvs_txn_begin(client, NULL);
    assert_int_equal(wait_and_free(kvs_txn_get(txn, text("k"))), 0);
    kvs_txn_free(txn);
}

/* All its threads, when it returns. */
static void stop_server(void)
{
    int status = 0;
    assert_int_equal(kill(server.pid, SIGSTOP), 0);
    assert_int_equal(waitpid(server.pid, &status, WUNTRACED), server.pid);
    assert_true(WIFSTOPPED(status));
}

/* Of each kind of question for the time: the start, a lock's, a commit's. */
static void test_each_call_has_its_time(void **state)
{
    (void)state;
    const int signals[] = {SIGSTOP, SIGKILL};
    put_and_get();
    for (unsigned i = 0; i < 2; i++) {
        const kvs_slice key = text("k");
        kvs_txn *locks = begun(true);
        kvs_txn *commits = begun(false);
        if (signals[i] == SIGKILL)
            server_process_end(&server, SIGKILL);
        else
            stop_server();
        uint64_t began_ms = clock_now_ms();
        kvs_txn *starts = begin(false);
        kvs_future *get = kvs_txn_get(starts, key);
        kvs_future *lock = kvs_txn_lock(locks, &key, 1, 0);
        assert_int_equal(wait_and_free(kvs_txn_put(commits, key, text("new"))), 0);
        kvs_future *commit = kvs_txn_commit(commits);
        expect_timeout(get, began_ms);
        expect_timeout(lock, began_ms);
        expect_timeout(commit, began_ms);
        assert_int_equal(wait_and_free(kvs_txn_get(starts, key)), KVS_ERR_TIMEOUT);
        kvs_txn_free(starts);
        kvs_txn_free(locks);
        kvs_txn_free(commits);
        if (signals[i] == SIGSTOP) {
            kill(server.pid, SIGCONT);
            put_and_get();
        }
    }
}

/* Calls that wait for PD are given up at once: cancelled, or with their transaction. */
static void test_given_up(void **state)
{
    (void)state;
    const kvs_slice key = text("k");
    put_and_get();
    kvs_txn *txns[2];
    kvs_future *locks[2];
    for (unsigned i = 0; i < 2; i++) {
        const struct kvs_txn_options options = {.size = sizeof options, .pessimistic = true};
        txns[i] = kvs_txn_begin(client, &options);
        assert_int_equal(wait_and_free(kvs_txn_start_timestamp(txns[i])), 0);
    }
    stop_server();
    for (unsigned i = 0; i < 2; i++)
        locks[i] = kvs_txn_lock(txns[i], &key, 1, 0);
    assert_int_equal(kvs_future_wait(locks[0], 50), KVS_ERR_TIMEOUT);
    uint64_t began_ms = clock_now_ms();
    kvs_future_cancel(locks[0]);
    kvs_txn_free(txns[1]);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(wait_and_free(locks[i]), KVS_ERR_CANCELLED);
    assert_in_range(clock_now_ms() - began_ms, 0, CLIENT_TIMEOUT_MS / 2);
    kill(server.pid, SIGCONT);
    assert_int_equal(wait_and_free(kvs_txn_commit(txns[0])), KVS_ERR_CANCELLED); /* spoiled */
    kvs_txn_free(txns[0]);
    put_and_get();
}

enum asks { STARTS, FREED_LATER, FREED_LAST, LOCKS, COMMITS, ASKS };

/* What nobody waits for keeps no client open, however much time its transaction has. */
static void test_close(void **state)
{
    (void)state;
    const kvs_slice key = text("k");
    kvs_txn_client *clients[ASKS];
    kvs_txn *txns[ASKS];
    kvs_future *asked[ASKS] = {NULL};
    kvs_future *closes[ASKS];
    struct kvs_txn_options options = {.size = sizeof options, .timeout_ms = 2 * CLIENT_TIMEOUT_MS};
    for (unsigned i = 0; i < ASKS; i++)
        clients[i] = open_client();
    for (unsigned i = LOCKS; i < ASKS; i++) {
        options.pessimistic = i == LOCKS;
        txns[i] = kvs_txn_begin(clients[i], &options);
        assert_int_equal(wait_and_free(kvs_txn_start_timestamp(txns[i])), 0);
    }
    assert_int_equal(wait_and_free(kvs_txn_put(txns[COMMITS], key, text("v"))), 0);
    stop_server();
    for (unsigned i = 0; i < LOCKS; i++)
        txns[i] = kvs_txn_begin(clients[i], &options);
    asked[LOCKS] = kvs_txn_lock(txns[LOCKS], &key, 1, 0);
    asked[COMMITS] = kvs_txn_commit(txns[COMMITS]);
    assert_int_equal(kvs_future_wait(asked[COMMITS], 50), KVS_ERR_TIMEOUT);
    for (unsigned i = 0; i < ASKS; i++) {
        kvs_future_cancel(asked[i]);
        if (asked[i] != NULL)
            assert_int_equal(wait_and_free(asked[i]), KVS_ERR_CANCELLED);
        if (i != FREED_LATER && i != FREED_LAST)
            kvs_txn_free(txns[i]);
        closes[i] = kvs_txn_client_close(clients[i]);
    }
    kvs_txn_free(txns[FREED_LATER]);
    for (unsigned i = 0; i < ASKS; i++) {
        int error = kvs_future_wait(closes[i], CLIENT_TIMEOUT_MS / 2);
        if (error != 0)
            fail_msg("client %u: %s", i, kvs_error_text(error));
        kvs_future_free(closes[i]);
    }
    kvs_txn_free(txns[FREED_LAST]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_call_has_its_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_close, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("txn-silent", tests, NULL, NULL);
}

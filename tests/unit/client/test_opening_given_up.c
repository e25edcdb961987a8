/*
 * An opening that is composed, and given up at any moment, also when it has just been done and
 * nobody has been told: what it opened is closed again, so that the directory can be opened anew.
 */
#include <kvs/events.h>
#include <kvs/kvs.h>
#include <kvs/txn.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "contract/engine_fixture.h"
#include "test.h"

#define MOMENTS 8
#define REOPEN_MS 20000

struct kind {
    kvs_future *(*open)(kvs_runtime *runtime, const char *url);
    kvs_future *(*close)(void *opened);
};

static kvs_runtime *runtime;
static char directory[64];

static void turn(int timeout_ms)
{
    int wait_ms = kvs_runtime_poll_timeout_ms(runtime);
    struct pollfd at = {.fd = kvs_runtime_fd(runtime), .events = POLLIN};
    poll(&at, 1, wait_ms >= 0 && (timeout_ms < 0 || wait_ms < timeout_ms) ? wait_ms : timeout_ms);
    kvs_runtime_poll(runtime);
}

static int finish(kvs_future *future)
{
    while (!kvs_future_is_ready(future))
        turn(-1);
    return kvs_future_error(future);
}

static kvs_future *as_it_is(kvs_future *future, void *arg)
{
    (void)arg;
    return future;
}

static int pass_on(kvs_future *future, void *arg, void **ret_pointer)
{
    (void)arg;
    return kvs_future_get_pointer(future, ret_pointer);
}

static void close_opened(const struct kind *kind, kvs_future *opening)
{
    void *opened = NULL;
    assert_int_equal(kvs_future_get_pointer(opening, &opened), 0);
    kvs_future_free(opening);
    kvs_future *closing = kind->close(opened);
    assert_int_equal(finish(closing), 0);
    kvs_future_free(closing);
}

/* What was opened before is being closed. */
static void assert_opens_again(const struct kind *kind, const char *url)
{
    for (int waited_ms = 0;; waited_ms += 5) {
        kvs_future *opening = kind->open(runtime, url);
        int error = finish(opening);
        if (error == 0) {
            close_opened(kind, opening);
            return;
        }
        kvs_future_free(opening);
        if (error != KVS_ERR_LOCKED || waited_ms >= REOPEN_MS)
            fail_msg("%s", kvs_error_name(error));
        turn(5);
    }
}

/* Gives up when the loop has had so many turns. */
static void give_up(const struct kind *kind, int moment, bool maps, bool frees)
{
    char url[80];
    snprintf(directory, sizeof directory, "/tmp/kvs-test-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(url, sizeof url, "log:%s", directory);
    assert_int_equal(kvs_runtime_new_polled(NULL, &runtime), 0);
    kvs_future *opening = kind->open(runtime, url);
    opening = maps ? kvs_future_map(opening, pass_on, NULL, NULL)
                   : kvs_future_then(opening, as_it_is, NULL);
    struct pollfd at = {.fd = kvs_runtime_fd(runtime), .events = POLLIN};
    poll(&at, 1, -1); /* there is something to tell the loop */
    for (int i = 0; i < moment && !kvs_future_is_ready(opening); i++)
        turn(1);
    if (kvs_future_is_ready(opening)) {
        close_opened(kind, opening);
    } else if (frees) {
        kvs_future_free(opening);
    } else {
        kvs_future_cancel(opening);
        if (finish(opening) == 0) {
            close_opened(kind, opening);
        } else {
            assert_int_equal(kvs_future_error(opening), KVS_ERR_CANCELLED);
            kvs_future_free(opening);
        }
    }
    assert_opens_again(kind, url);
    kvs_runtime_free(runtime);
    directory_remove(directory);
}

static kvs_future *open_store(kvs_runtime *on, const char *url)
{
    return kvs_store_open(on, url, NULL);
}

static kvs_future *close_store(void *store)
{
    return kvs_store_close(store);
}

static kvs_future *open_events(kvs_runtime *on, const char *url)
{
    return kvs_events_open(on, url, NULL);
}

static kvs_future *close_events(void *events)
{
    return kvs_events_close(events);
}

static kvs_future *open_client(kvs_runtime *on, const char *url)
{
    return kvs_txn_client_open(on, url, NULL);
}

static kvs_future *close_client(void *client)
{
    return kvs_txn_client_close(client);
}

static void at_any_moment(const struct kind *kind)
{
    for (int moment = 0; moment < MOMENTS; moment++) {
        for (unsigned way = 0; way < 4; way++)
            give_up(kind, moment, (way & 1) != 0, (way & 2) != 0);
    }
}

static void test_a_store(void **state)
{
    (void)state;
    at_any_moment(&(struct kind){open_store, close_store});
}

static void test_event_streams(void **state)
{
    (void)state;
    at_any_moment(&(struct kind){open_events, close_events});
}

static void test_a_client_of_transactions(void **state)
{
    (void)state;
    at_any_moment(&(struct kind){open_client, close_client});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_store),
        cmocka_unit_test(test_event_streams),
        cmocka_unit_test(test_a_client_of_transactions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

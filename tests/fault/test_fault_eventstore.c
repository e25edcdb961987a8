/*
 * tests/fault/test_fault_eventstore.c: the server of event streams when memory fails: every k-th
 * allocation of its start.
 *
 * A start either succeeds or is taken down whole. While it serves, a request may be answered with
 * an error or its connection closed; other connections go on, and the server stops as ever.
 */
#include "base/fault.h"
#include "net/address.h"
#include "unit/server/es_peer.h"
#include "unit/server/server_fixture.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

#define RUNS_MAX 3000
#define STEP_AFTER 300 /* beyond so many every seventh is tried */
#define S(text) slice_of_string(text)

static uint64_t next_k(uint64_t k)
{
    return k < STEP_AFTER ? k + 1 : k + 7;
}

static bool open_failing(uint64_t k, bool from_then_on)
{
    const struct kvs_server_options options = {
        .size = sizeof options,
        .address = "127.0.0.1:0",
        .eventstore = "127.0.0.1:0",
        .http = "127.0.0.1:0",
        .engine = "memory",
        .threads = 2,
        .pool_threads = 2,
    };
    kvs_server *server = NULL;
    char *message = NULL;
    fault_reset();
    fault_arm(FAULT_ALLOC, k, from_then_on);
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
    return fired;
}

static void every_start_succeeds_or_is_undone(void **state)
{
    (void)state;
    uint64_t k = 1;
    while (k < RUNS_MAX && open_failing(k, k % 2 == 0))
        k = next_k(k);
    assert_in_range(k, 2, RUNS_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_start_succeeds_or_is_undone),
    };
    return cmocka_run_group_tests_name("fault-eventstore", tests, NULL, NULL);
}

/*
 * client/link.c: a connection to a port that nobody listens on, where the system gives it that very
 * port for its own end, is none: TCP would connect it to itself. It happens to clients of a server
 * that is restarted on a port of the system's own range. Here that range has one port alone, in a
 * network of this process's own; where the system does not allow one, the tests are skipped.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <kvs/error.h>
#include <kvs/events.h>
#include <kvs/future.h>
#include <kvs/runtime.h>
#include <kvs/store.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

#define PORT 40000

static bool write_file(const char *path, const char *text)
{
    int descriptor = open(path, O_WRONLY | O_CLOEXEC);
    bool done = descriptor >= 0 && write(descriptor, text, strlen(text)) == (ssize_t)strlen(text);
    if (descriptor >= 0)
        close(descriptor);
    return done;
}

static bool raise_loopback(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool done = descriptor >= 0 && ioctl(descriptor, SIOCSIFFLAGS, &request) == 0;
    if (descriptor >= 0)
        close(descriptor);
    return done;
}

/* While there is one thread alone: a network is a thread's. */
static bool make_network(void)
{
    return (unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0) &&
           raise_loopback() && write_file("/proc/sys/net/ipv4/ip_local_port_range", "40000 40000");
}

/* Is it as this file says, where nobody looks? */
static void test_the_system_connects_a_socket_to_itself(void **state)
{
    (void)state;
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct linger at_once = {.l_onoff = 1};
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(descriptor, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    close(descriptor);
}

static void assert_refused(kvs_future *future)
{
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_CONNECT);
    const char *message = kvs_future_error_message(future);
    if (strstr(message, "is the server running?") == NULL)
        fail_msg("%s", message);
    kvs_future_free(future);
}

static void test_a_client_does_not_take_itself_for_a_server(void **state)
{
    (void)state;
    kvs_runtime *runtime;
    char url[64];
    assert_int_equal(kvs_runtime_new(NULL, &runtime), 0);
    const struct kvs_events_options options = {
        .size = sizeof options, .timeout_ms = 60000, .reconnects_max = 2};
    snprintf(url, sizeof url, "esdb://127.0.0.1:%d", PORT);
    assert_refused(kvs_events_open(runtime, url, &options));
    snprintf(url, sizeof url, "kvs://127.0.0.1:%d", PORT);
    assert_refused(kvs_store_open(runtime, url, NULL));
    kvs_runtime_free(runtime);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_system_connects_a_socket_to_itself),
        cmocka_unit_test(test_a_client_does_not_take_itself_for_a_server),
    };
    if (!make_network()) {
        printf("1..0 # SKIP no network of its own\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

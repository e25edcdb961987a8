/*
 * client/link.c: a name with several addresses, of which the first one swallows what is sent to it,
 * as an address behind a broken route does. The next one has to get its turn within the attempt.
 */
#include "client/link.h"
#include "scripted_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <kvs/kvs.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

#define HOLE "127.0.0.2"
#define FILLERS 8

static struct scripted_server server;
static int hole = -1;
static int fillers[FILLERS];

int __real_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret_list);
int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret_list);

/* The name "two.test" has two addresses. */
int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret_list)
{
    if (strcmp(host, "two.test") != 0)
        return __real_getaddrinfo(host, service, hints, ret_list);
    int status = __real_getaddrinfo(HOLE, service, hints, ret_list);
    if (status == 0)
        status = __real_getaddrinfo("127.0.0.1", service, hints, &(*ret_list)->ai_next);
    return status;
}

static int connect_nonblocking(const struct sockaddr_in *address)
{
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)connect(descriptor, (const struct sockaddr *)address, sizeof *address);
    return descriptor;
}

/* A listener whose queue is full takes no further connection, and says nothing. */
static void dig_hole(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, HOLE, &address.sin_addr);
    hole = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(hole, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(hole, 0), 0);
    for (int i = 0; i < FILLERS; i++)
        fillers[i] = connect_nonblocking(&address);
}

static void fill_hole(void)
{
    for (int i = 0; i < FILLERS; i++)
        close(fillers[i]);
    close(hole);
}

static void script_greets(struct scripted_server *self, unsigned number)
{
    (void)number;
    if (script_hello(self))
        script_read_to_end(self);
}

static void test_the_next_address_has_its_turn(void **state)
{
    (void)state;
    kvs_runtime *runtime;
    char url[64];
    const struct kvs_store_options options = {.size = sizeof options, .connect_timeout_ms = 6000};
    assert_int_equal(kvs_runtime_new(NULL, &runtime), 0);
    scripted_server_start(&server, script_greets);
    dig_hole(server.port);
    snprintf(url, sizeof url, "kvs://two.test:%u", server.port);
    kvs_store *store = opened_by(kvs_store_open(runtime, url, &options));
    assert_int_equal(wait_and_free(kvs_store_close(store)), 0);
    fill_hole();
    scripted_server_stop(&server);
    kvs_runtime_free(runtime);
}

/* Of this process's end of the connection to the server. */
static unsigned silence_of_connection(void)
{
    for (int descriptor = 0; descriptor < 1024; descriptor++) {
        struct sockaddr_in peer = {0};
        socklen_t size = sizeof peer;
        unsigned silence_ms = 0;
        if (getpeername(descriptor, (struct sockaddr *)&peer, &size) != 0 ||
            peer.sin_family != AF_INET || peer.sin_port != htons(server.port))
            continue;
        size = sizeof silence_ms;
        getsockopt(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence_ms, &size);
        return silence_ms;
    }
    return UINT32_MAX;
}

/* The machine of a server that is switched off sends no word: TCP alone would wait for it for a
 * quarter of an hour, and every call with it. */
static void test_silence_is_bounded(void **state)
{
    (void)state;
    kvs_runtime *runtime;
    assert_int_equal(kvs_runtime_new(NULL, &runtime), 0);
    scripted_server_start(&server, script_greets);
    kvs_store *store = opened_by(kvs_store_open(runtime, server.url, NULL));
    assert_int_equal(silence_of_connection(), LINK_SILENCE_MAX_MS);
    assert_int_equal(wait_and_free(kvs_store_close(store)), 0);
    scripted_server_stop(&server);
    kvs_runtime_free(runtime);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_next_address_has_its_turn),
        cmocka_unit_test(test_silence_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

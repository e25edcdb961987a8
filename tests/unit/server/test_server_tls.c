/*
 * TLS on the ports of a server: the clients of libkvs over it, HTTP/1.1 over it, who is refused and
 * told what, and peers that mean no good.
 */
#include "base/rand.h"
#include "net/tls.h"
#include "unit/net/certificates.h"
#include "unit/server/server_fixture.h"

#include <arpa/inet.h>
#include <kvs/kvs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "seed.h"
#include "test.h"
#include "times.h"

#define ANY_PORTS "127.0.0.1:0,127.0.0.1:0,127.0.0.1:0"
#define LARGE (3u << 20)

static kvs_runtime *runtime;

/* handshake_ms: 0: the default */
static kvs_server *start_with(bool mutual, const char *name, uint32_t handshake_ms)
{
    char certificate[32];
    char key[32];
    snprintf(certificate, sizeof certificate, "%s.pem", name);
    snprintf(key, sizeof key, "%s.key", name);
    const struct kvs_server_options options = {
        .tikv = ANY_PORTS,
        .tls_certificate = certificate_path(certificate),
        .tls_key = certificate_path(key),
        .tls_ca = mutual ? certificate_path("ca.pem") : NULL,
        .slow_timeout_ms = handshake_ms,
    };
    return server_start(&options);
}

static kvs_server *start(bool mutual, const char *name)
{
    return start_with(mutual, name, 0);
}

/* Who the client trusts and is; NULL, both: no TLS. */
struct identity {
    const char *ca, *name;
};

static int open_store(const char *scheme, const char *address, const struct identity *who,
                      kvs_store **ret_store, char message[512])
{
    char url[128];
    char certificate[32];
    char key[32];
    struct kvs_store_options options = {
        .size = sizeof options, .connect_timeout_ms = PATIENT_MS, .timeout_ms = PATIENT_MS};
    snprintf(url, sizeof url, "%s://%s", scheme, address);
    if (who->ca != NULL)
        options.tls_ca = certificate_path(who->ca);
    if (who->name != NULL) {
        snprintf(certificate, sizeof certificate, "%s.pem", who->name);
        snprintf(key, sizeof key, "%s.key", who->name);
        options.tls_certificate = certificate_path(certificate);
        options.tls_key = certificate_path(key);
    }
    void *store = NULL;
    kvs_future *future = kvs_store_open(runtime, url, &options);
    int error = kvs_future_wait(future, -1);
    snprintf(message, 512, "%s", kvs_future_error_message(future));
    if (error == 0)
        kvs_future_get_pointer(future, &store);
    kvs_future_free(future);
    *ret_store = store;
    return error;
}

static void close_store(kvs_store *store)
{
    assert_int_equal(wait_and_free(kvs_store_close(store)), 0);
}

static const char *address_of(const kvs_server *server, const char *scheme)
{
    return strcmp(scheme, "kvs") == 0 ? kvs_server_address(server) : kvs_server_pd_address(server);
}

/* Small and large values, many at once, and a scan that gives all of them back. */
static void use_store(kvs_store *store)
{
    static uint8_t large[LARGE];
    static kvs_future *sets[500];
    for (size_t i = 0; i < LARGE; i++)
        large[i] = (uint8_t)(i * 31 + i / 251);
    for (unsigned i = 0; i < 500; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%03u", i);
        sets[i] = kvs_store_set(store, kvs_slice_of(key), slice_make(large + i, i));
    }
    for (unsigned i = 0; i < 500; i++)
        assert_int_equal(wait_and_free(sets[i]), 0);
    assert_int_equal(
        wait_and_free(kvs_store_set(store, kvs_slice_of("z"), slice_make(large, LARGE))), 0);
    kvs_future *get = kvs_store_get(store, kvs_slice_of("z"));
    kvs_slice value;
    assert_int_equal(kvs_future_wait(get, -1), 0);
    assert_int_equal(kvs_future_get_value(get, &value), 0);
    assert_int_equal(value.size, LARGE);
    assert_memory_equal(value.data, large, LARGE);
    kvs_future_free(get);
    kvs_future *scan = kvs_store_scan(store, kvs_slice_of("key"), kvs_slice_of("l"), 1000, 0);
    const kvs_pair *pairs;
    size_t count;
    assert_int_equal(kvs_future_wait(scan, -1), 0);
    assert_int_equal(kvs_future_get_pairs(scan, &pairs, &count), 0);
    assert_int_equal(count, 500);
    for (unsigned i = 0; i < 500; i++) {
        assert_int_equal(pairs[i].value.size, i);
        assert_true(i == 0 || memcmp(pairs[i].value.data, large + i, i) == 0);
    }
    kvs_future_free(scan);
}

static void use_server(bool mutual, const struct identity *who)
{
    static const char *const schemes[] = {"kvs", "tikv"};
    kvs_server *server = start(mutual, "server");
    for (unsigned i = 0; i < 2; i++) {
        kvs_store *store;
        char message[512];
        int error = open_store(schemes[i], address_of(server, schemes[i]), who, &store, message);
        if (error != 0)
            fail_msg("%s: %s", schemes[i], message);
        use_store(store);
        close_store(store);
    }
    server_stop(server);
}

static void test_clients_over_tls(void **state)
{
    (void)state;
    use_server(false, &(struct identity){"ca.pem", NULL});
}

static void test_clients_with_certificates(void **state)
{
    (void)state;
    use_server(true, &(struct identity){"ca.pem", "client"});
}

/* --- who is refused --- */

/* The error names the address. */
static void refuse(const kvs_server *server, const struct identity *who, const char *said)
{
    static const char *const schemes[] = {"kvs", "tikv"};
    for (unsigned i = 0; i < 2; i++) {
        kvs_store *store;
        char message[512];
        const char *address = address_of(server, schemes[i]);
        int error = open_store(schemes[i], address, who, &store, message);
        if (error == 0 || strstr(message, address) == NULL ||
            (said != NULL && strstr(message, said) == NULL))
            fail_msg("%s %s: %d \"%s\", not \"%s\"", schemes[i], address, error, message,
                     said != NULL ? said : "");
    }
}

static void test_who_is_refused(void **state)
{
    (void)state;
    kvs_server *server = start(true, "server");
    refuse(server, &(struct identity){"stranger.pem", "client"}, "not to be trusted");
    refuse(server, &(struct identity){"ca.pem", NULL}, "certificate");
    refuse(server, &(struct identity){"ca.pem", "stranger"}, NULL);
    refuse(server, &(struct identity){"ca.pem", "expired"}, NULL);
    refuse(server, &(struct identity){NULL, NULL}, NULL); /* clear text */
    server_stop(server);
    server = start(false, "expired");
    refuse(server, &(struct identity){"ca.pem", NULL}, "expired");
    server_stop(server);
    const struct kvs_server_options plain = {.tikv = ANY_PORTS};
    server = server_start(&plain);
    refuse(server, &(struct identity){"ca.pem", NULL}, NULL);
    server_stop(server);
}

static void refuse_options(const struct kvs_server_options *options, const char *said)
{
    struct kvs_server_options all = *options;
    kvs_server *server;
    char *message = NULL;
    all.size = sizeof all;
    all.address = "127.0.0.1:0";
    all.engine = "memory";
    int error = kvs_server_open(&all, &server, &message);
    assert_int_equal(error, KVS_ERR_INVALID_ARGUMENT);
    if (strstr(message, said) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", message, said);
    free(message);
}

static void test_files_that_do_not_fit(void **state)
{
    (void)state;
    const char *certificate = certificate_path("server.pem");
    const char *key = certificate_path("server.key");
    refuse_options(&(struct kvs_server_options){.tls_certificate = certificate}, "--tls-key");
    refuse_options(&(struct kvs_server_options){.tls_key = key}, "--tls-cert");
    refuse_options(&(struct kvs_server_options){.tls_ca = certificate}, "--tls-cert");
    refuse_options(&(struct kvs_server_options){.tls_certificate = "/no/where.pem", .tls_key = key},
                   "/no/where.pem: No such file");
    refuse_options(&(struct kvs_server_options){.tls_certificate = certificate,
                                                .tls_key = certificate_path("client.key")},
                   "client.key");
    refuse_options(
        &(struct kvs_server_options){.tls_certificate = key, .tls_key = key, .tikv = ANY_PORTS},
        "server.key");
    refuse_options(
        &(struct kvs_server_options){.tls_certificate = certificate, .tls_key = key, .tls_ca = key},
        "server.key");
}

/* --- sockets --- */

static int connect_to(const char *address)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    to.sin_port = htons((uint16_t)strtoul(strrchr(address, ':') + 1, NULL, 10));
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(descriptor, (struct sockaddr *)&to, sizeof to), 0);
    return descriptor;
}

static void send_all(int descriptor, struct buf *bytes)
{
    while (bytes->size > 0) {
        ssize_t sent = send(descriptor, bytes->data, bytes->size, MSG_NOSIGNAL);
        assert_true(sent > 0);
        buf_consume(bytes, (size_t)sent);
    }
}

/* Asks over HTTP/1.1, and reads until the server ends the session as TLS wants it. */
static void get_page(const char *address, const char *path, const char *said)
{
    struct tls_context *context;
    struct tls *tls;
    struct buf plain = BUF_INIT, sealed = BUF_INIT;
    char request[128];
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
    assert_int_equal(
        tls_context_new_client(TLS_HTTP1, certificate_path("ca.pem"), NULL, NULL, &context, NULL),
        0);
    assert_int_equal(tls_new(context, "localhost", &tls), 0);
    int descriptor = connect_to(address);
    assert_int_equal(tls_receive(tls, slice_make(NULL, 0), &plain, &sealed), 0);
    bool asked = false;
    int error = 0;
    while (error == 0) {
        uint8_t bytes[1000];
        if (tls_is_ready(tls) && !asked) {
            assert_int_equal(tls_send(tls, slice_make(request, (size_t)size), &sealed), 0);
            asked = true;
        }
        send_all(descriptor, &sealed);
        ssize_t got = recv(descriptor, bytes, sizeof bytes, 0);
        assert_true(got > 0);
        error = tls_receive(tls, slice_make(bytes, (size_t)got), &plain, &sealed);
    }
    assert_int_equal(error, KVS_ERR_CONNECTION_LOST); /* told, not cut */
    assert_int_equal(buf_append_u8(&plain, 0), 0);
    assert_non_null(strstr((char *)plain.data, "200 OK"));
    assert_non_null(strstr((char *)plain.data, said));
    close(descriptor);
    tls_free(tls);
    tls_context_free(context);
    buf_deinit(&plain);
    buf_deinit(&sealed);
}

static void test_http_over_tls(void **state)
{
    (void)state;
    kvs_server *server = start(false, "server");
    char url[80];
    snprintf(url, sizeof url, "https://%s", kvs_server_pd_address(server));
    get_page(kvs_server_pd_address(server), "/pd/api/v1/members", url);
    get_page(kvs_server_tikv_status_address(server), "/config", "api-version");
    server_stop(server);
}

/* Waits for the server to close; gives how many bytes it said before. */
static size_t read_end(int descriptor)
{
    uint8_t bytes[4096];
    size_t size = 0;
    for (;;) {
        ssize_t got = recv(descriptor, bytes, sizeof bytes, 0);
        if (got <= 0)
            break;
        size += (size_t)got;
    }
    close(descriptor);
    return size;
}

/* The first flight of an honest client. */
static struct buf client_hello(enum tls_protocol protocol)
{
    struct tls_context *context;
    struct tls *tls;
    struct buf plain = BUF_INIT, sealed = BUF_INIT;
    assert_int_equal(
        tls_context_new_client(protocol, certificate_path("ca.pem"), NULL, NULL, &context, NULL),
        0);
    assert_int_equal(tls_new(context, "localhost", &tls), 0);
    assert_int_equal(tls_receive(tls, slice_make(NULL, 0), &plain, &sealed), 0);
    tls_free(tls);
    tls_context_free(context);
    buf_deinit(&plain);
    return sealed;
}

/* A peer that begins and then says nothing is let go, on every port, whatever it has begun. */
static void test_slow_handshakes_end(void **state)
{
    (void)state;
    kvs_server *server = start_with(true, "server", 1000);
    const char *addresses[] = {kvs_server_address(server), kvs_server_pd_address(server),
                               kvs_server_tikv_address(server),
                               kvs_server_tikv_status_address(server)};
    const enum tls_protocol protocols[] = {TLS_KVS, TLS_H2, TLS_H2, TLS_HTTP1};
    int waiting[12];
    for (unsigned i = 0; i < 12; i++) {
        struct buf hello = client_hello(protocols[i % 4]);
        waiting[i] = connect_to(addresses[i % 4]);
        hello.size = i < 4 ? 0 : i < 8 ? 7 : hello.size;
        send_all(waiting[i], &hello);
        buf_deinit(&hello);
    }
    for (unsigned i = 0; i < 12; i++)
        read_end(waiting[i]);
    server_stop(server);
}

/* Any bytes, also behind an honest beginning: the connection ends, the server lives. */
static void test_hostile_bytes(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct rand rand = rand_seed(seed);
    kvs_server *server = start(false, "server");
    for (unsigned i = 0; i < 200; i++) {
        bool is_kvs = i % 2 == 0;
        int descriptor =
            connect_to(is_kvs ? kvs_server_address(server) : kvs_server_pd_address(server));
        struct buf bytes = client_hello(is_kvs ? TLS_KVS : TLS_H2);
        if (i % 4 < 2)
            bytes.size = (size_t)rand_below(&rand, bytes.size);
        for (unsigned k = 0; k < 300; k++)
            buf_append_u8(&bytes, (uint8_t)rand_below(&rand, 256));
        if (i % 3 == 0)
            bytes.data[rand_below(&rand, bytes.size)] ^= (uint8_t)(1u << rand_below(&rand, 8));
        while (bytes.size > 0) {
            ssize_t sent = send(descriptor, bytes.data, bytes.size, MSG_NOSIGNAL);
            if (sent <= 0)
                break; /* it has heard enough */
            buf_consume(&bytes, (size_t)sent);
        }
        shutdown(descriptor, SHUT_WR);
        read_end(descriptor);
        buf_deinit(&bytes);
    }
    kvs_store *store;
    char message[512];
    const struct identity who = {"ca.pem", NULL};
    assert_int_equal(open_store("kvs", kvs_server_address(server), &who, &store, message), 0);
    use_store(store);
    close_store(store);
    server_stop(server);
}

/* A protocol that is not the port's is refused within the handshake. */
static void test_other_protocols(void **state)
{
    (void)state;
    kvs_server *server = start(false, "server");
    const char *addresses[] = {kvs_server_address(server), kvs_server_tikv_address(server)};
    const enum tls_protocol protocols[] = {TLS_H2, TLS_KVS};
    for (unsigned i = 0; i < 2; i++) {
        struct buf hello = client_hello(protocols[i]);
        int descriptor = connect_to(addresses[i]);
        send_all(descriptor, &hello);
        assert_int_equal(read_end(descriptor), 7); /* an alert, and nothing else */
        buf_deinit(&hello);
    }
    server_stop(server);
}

static int set_up(void **state)
{
    (void)state;
    certificates_make();
    return kvs_runtime_new(NULL, &runtime);
}

static int tear_down(void **state)
{
    (void)state;
    kvs_runtime_free(runtime);
    certificates_remove();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clients_over_tls), cmocka_unit_test(test_clients_with_certificates),
        cmocka_unit_test(test_who_is_refused),   cmocka_unit_test(test_files_that_do_not_fit),
        cmocka_unit_test(test_http_over_tls),    cmocka_unit_test(test_slow_handshakes_end),
        cmocka_unit_test(test_hostile_bytes),    cmocka_unit_test(test_other_protocols),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

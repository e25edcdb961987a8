/* Addresses as people write them, the memory that sockets are read into, and when a loop of
 * connections sleeps. */
#include "net/address.h"
#include "net/chunk.h"
#include "net/connection.h"
#include "net/listener.h"

#include <kvs/error.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

static void addresses_come_back(void **state)
{
    (void)state;
    static const char *const texts[] = {"127.0.0.1:4000", "0.0.0.0:0", "[::1]:65535",
                                        "[2001:db8::7]:1"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct sockaddr_storage address;
        socklen_t size = 0;
        char text[ADDRESS_TEXT_SIZE];
        assert_int_equal(address_parse(texts[i], &address, &size), 0);
        assert_int_equal(size, texts[i][0] == '[' ? sizeof(struct sockaddr_in6)
                                                  : sizeof(struct sockaddr_in));
        address_format(&address, text);
        assert_string_equal(text, texts[i]);
    }
}

static void what_is_no_address_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        ":",
        "127.0.0.1",
        "127.0.0.1:",
        ":4000",
        "1.2.3:4",
        "localhost:4000",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:4 ",
        "::1:4000",
        "[::1]",
        "[::1]4000",
        "[::1:4000",
        "[]:1",
        "127.0.0.1:+1",
        "127.0.0.1:000001",
        "[111111111111111111111111111111111111111111111111111111111111111111111111]:1",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct sockaddr_storage address;
        socklen_t size = 77;
        assert_int_equal(address_parse(texts[i], &address, &size), KVS_ERR_ADDRESS);
        assert_int_equal(size, 77);
    }
}

static void a_name_may_stand_for_an_address(void **state)
{
    (void)state;
    static const char *const good[] = {"localhost:4000", "a-b.example_1.:0", "127.0.0.1:1",
                                       "[::]:65535", "7a:1"};
    static const char *const bad[] = {
        "",           "localhost", "localhost:",  ":4000",          "1.2.3:4000", "::1:4000",
        "[::1:4000",  "[name]:1",  "1.2.3.4.5:1", "localhost:4x",   "-a:1",       "a b:1",
        "name:65536", "name:-1",   "name:000001", "[1.2.3.4]:4000", "a:b:1",      "*:1",
    };
    struct address_list list;
    const char *why = NULL;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(address_is_written(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(address_is_written(bad[i]));
        assert_int_equal(address_resolve_blocking(bad[i], &list, &why), KVS_ERR_ADDRESS);
        assert_non_null(why);
    }
    char long_name[300];
    memset(long_name, 'a', sizeof long_name);
    memcpy(long_name + sizeof long_name - 3, ":1", 3);
    assert_false(address_is_written(long_name));
}

static void a_name_has_each_of_its_addresses_once(void **state)
{
    (void)state;
    struct address_list list;
    const char *why = NULL;
    bool has_v4 = false;
    assert_int_equal(address_resolve_blocking("localhost:4000", &list, &why), 0);
    for (unsigned i = 0; i < list.count; i++) {
        char text[ADDRESS_TEXT_SIZE], other[ADDRESS_TEXT_SIZE];
        address_format(&list.addresses[i], text);
        has_v4 |= strcmp(text, "127.0.0.1:4000") == 0;
        for (unsigned k = 0; k < i; k++) {
            address_format(&list.addresses[k], other);
            assert_string_not_equal(text, other);
        }
    }
    assert_true(has_v4);
    assert_int_equal(address_resolve_blocking("[::1]:7", &list, &why), 0);
    assert_int_equal(list.count, 1);
    assert_int_equal(address_port(&list.addresses[0]), htons(7));
}

static struct sockaddr_storage parsed(const char *text)
{
    struct sockaddr_storage address;
    socklen_t size;
    assert_int_equal(address_parse(text, &address, &size), 0);
    return address;
}

static void a_name_is_listened_on_at_its_addresses_and_one_port(void **state)
{
    (void)state;
    struct address_list list = {.count = 3};
    char message[256] = "";
    struct listener listener = {0}, second = {0};
    list.addresses[0] = parsed("192.0.2.1:0"); /* not of this machine */
    list.addresses[1] = parsed("127.0.0.1:0");
    list.addresses[2] = parsed("127.0.0.2:0");
    assert_int_equal(listener_bind_list(&listener, &list, "name:0", "--addr", message), 0);
    assert_int_equal(listener.count, 2);
    struct sockaddr_storage at = parsed(listener.address);
    in_port_t port = address_port(&at);
    assert_int_not_equal(port, 0);
    for (unsigned i = 0; i < 3; i++) {
        int peer = socket(AF_INET, SOCK_STREAM, 0);
        address_set_port(&list.addresses[i], port);
        if (i > 0)
            assert_int_equal(connect(peer, (void *)&list.addresses[i], sizeof(struct sockaddr_in)),
                             0);
        close(peer);
    }
    list.addresses[1] = parsed("127.0.0.3:0"); /* free, but the next one is not */
    address_set_port(&list.addresses[1], port);
    assert_int_equal(listener_bind_list(&second, &list, "name:1", "--addr HOST:PORT", message),
                     KVS_ERR_LOCKED);
    assert_int_equal(second.count, 0);
    assert_non_null(strstr(message, "name:1 (127.0.0.2:"));
    assert_non_null(strstr(message, "--addr HOST:PORT"));
    list.count = 1;
    assert_int_equal(listener_bind_list(&second, &list, "name:1", "--addr HOST:PORT", message),
                     KVS_ERR_ADDRESS);
    assert_non_null(strstr(message, "name:1 (192.0.2.1:"));
    listener_unbind(&listener);
    assert_int_equal(listener_bind_blocking(&listener, "localhost:0", "--addr", message), 0);
    listener_unbind(&listener);
}

static void take_connection(void *arg, int descriptor, const char *peer)
{
    (void)peer;
    ++*(unsigned *)arg;
    close(descriptor);
}

static void note_closed(void *arg)
{
    *(unsigned *)arg = UINT32_MAX;
}

/* It stays when ours is closed; and when it is shut down elsewhere, nothing turns over it. */
static void a_socket_is_shared(void **state)
{
    (void)state;
    struct sockaddr_storage at = parsed("127.0.0.1:0");
    socklen_t size = sizeof(struct sockaddr_in);
    int theirs = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(theirs, (void *)&at, size), 0);
    struct listener listener = {0};
    assert_int_equal(listener_take(&listener, theirs), KVS_ERR_ADDRESS);
    assert_int_equal(listener_take(&listener, -1), KVS_ERR_ADDRESS);
    assert_int_equal(listen(theirs, 8), 0);
    assert_int_equal(getsockname(theirs, (void *)&at, &size), 0);
    for (unsigned i = 0; i < 2; i++) {
        struct loop loop;
        unsigned seen = 0;
        listener = (struct listener){0};
        assert_int_equal(loop_init(&loop, 0), 0);
        assert_int_equal(listener_take(&listener, theirs), 0);
        assert_int_equal(listener_start(&listener, &loop, take_connection, &seen), 0);
        int peer = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(peer, (void *)&at, size), 0);
        while (seen == 0)
            loop_turn(&loop, true);
        close(peer);
        if (i == 1) {
            assert_int_equal(shutdown(theirs, SHUT_RD), 0);
            while (uv_is_active((uv_handle_t *)&listener.sockets[0].poll))
                loop_turn(&loop, true); /* it would be readable for ever */
        }
        listener_close(&listener, note_closed);
        while (seen != UINT32_MAX)
            loop_turn(&loop, true);
        loop_deinit(&loop);
    }
    close(theirs);
}

static void a_chunk_is_used_again_when_nobody_points_into_it(void **state)
{
    (void)state;
    struct chunk_pool pool = {0};
    kvs_slice first = chunk_pool_region(&pool);
    assert_true(first.size >= 32 * 1024);
    chunk_pool_advance(&pool, 100);
    assert_ptr_equal(chunk_pool_region(&pool).data, first.data);

    chunk_pool_advance(&pool, 100);
    struct chunk *pinned = chunk_ref(pool.current);
    kvs_slice second = chunk_pool_region(&pool);
    assert_true(second.data >= first.data + 100); /* behind what is pinned */
    chunk_pool_advance(&pool, second.size);
    kvs_slice third = chunk_pool_region(&pool); /* full: another chunk */
    assert_ptr_not_equal(pool.current, pinned);
    assert_true(third.size >= 32 * 1024);
    chunk_unref(pinned);
    assert_int_equal(pool.spares, 1);
    chunk_pool_deinit(&pool);
}

static const char *stays_open(struct connection *connection, uint64_t now_ms)
{
    (void)connection;
    (void)now_ms;
    return NULL;
}

static void do_nothing(struct connection *connection)
{
    (void)connection;
}

static void note_empty(struct connections *connections, void *arg)
{
    (void)connections;
    *(bool *)arg = true;
}

static void a_loop_without_connections_sleeps(void **state)
{
    (void)state;
    static const struct connection_methods methods = {
        .check_time = stays_open, .on_closed = do_nothing, .free = do_nothing};
    struct loop loop;
    struct connections connections;
    bool empty = false;
    assert_int_equal(loop_init(&loop, 0), 0);
    connections_init(&connections, &loop, 1);
    assert_false(uv_is_active((uv_handle_t *)&connections.tick));
    for (unsigned i = 0; i < 2; i++) {
        struct connection connection = {0};
        int ends[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        connection_open(&connections, &connection, &methods, ends[0], "a test");
        for (unsigned turns = 0; turns < 3; turns++) {
            assert_true(uv_is_active((uv_handle_t *)&connections.tick));
            loop_turn(&loop, true);
        }
        connection_close(&connection);
        while (uv_is_active((uv_handle_t *)&connections.tick) || connections.alive > 0)
            loop_turn(&loop, true);
        close(ends[1]);
    }
    connections_close(&connections, note_empty, &empty);
    while (!empty)
        loop_turn(&loop, true);
    connections_deinit(&connections);
    loop_deinit(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_come_back),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(a_name_may_stand_for_an_address),
        cmocka_unit_test(a_name_has_each_of_its_addresses_once),
        cmocka_unit_test(a_name_is_listened_on_at_its_addresses_and_one_port),
        cmocka_unit_test(a_socket_is_shared),
        cmocka_unit_test(a_chunk_is_used_again_when_nobody_points_into_it),
        cmocka_unit_test(a_loop_without_connections_sleeps),
    };
    return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}

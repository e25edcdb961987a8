/* Addresses as people write them, the memory that sockets are read into, and when a loop of
 * connections sleeps. */
#include "net/address.h"
#include "net/chunk.h"
#include "net/connection.h"

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
        cmocka_unit_test(a_chunk_is_used_again_when_nobody_points_into_it),
        cmocka_unit_test(a_loop_without_connections_sleeps),
    };
    return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}

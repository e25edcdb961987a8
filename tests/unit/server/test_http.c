/* HTTP/1.1: the parser on its own, and the pages of a server over sockets. */
#include "server/http_request.h"

#include "unit/server/server_fixture.h"

#include <jansson.h>
#include <stdio.h>
#include <sys/socket.h>

#include "test.h"

#define B(text) slice_make((text), sizeof(text) - 1)

static enum http_parsed parse(kvs_slice bytes, struct http_request *request, size_t *size)
{
    *size = 0;
    return http_request_parse(bytes, request, size);
}

static void test_parses_requests(void **state)
{
    (void)state;
    struct http_request request;
    size_t size;
    kvs_slice one = B("GET /a/b?c=d HTTP/1.1\r\nHost: x:1\r\nAccept: */*\r\n\r\n");
    kvs_slice two = B("GET /a/b?c=d HTTP/1.1\r\nHost: x:1\r\nAccept: */*\r\n\r\nGET ");
    for (size_t i = 0; i < one.size; i++)
        assert_int_equal(parse(slice_make(one.data, i), &request, &size), HTTP_NEEDS_BYTES);
    assert_int_equal(parse(two, &request, &size), HTTP_REQUEST);
    assert_int_equal(size, one.size);
    assert_slice_equal(request.method, "GET");
    assert_slice_equal(request.path, "/a/b");
    assert_slice_equal(request.query, "c=d");
    assert_int_equal(request.authorization.size, 0);
    assert_true(request.keep_alive);
    assert_int_equal(parse(B("HEAD / HTTP/1.1\r\nConnection: CLOSE\r\n\r\n"), &request, &size),
                     HTTP_REQUEST);
    assert_false(request.keep_alive);
    assert_int_equal(
        parse(B("GET / HTTP/1.0\r\nauthorization: Basic eA== \r\n\r\n"), &request, &size),
        HTTP_REQUEST);
    assert_slice_equal(request.authorization, "Basic eA==");
    assert_false(request.keep_alive);
    assert_int_equal(parse(B("GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), &request, &size),
                     HTTP_REQUEST);
}

static void test_decodes_parts_of_paths(void **state)
{
    (void)state;
    uint8_t memory[64], *at = memory;
    kvs_slice path = B("a%20%2F%c3%A4/x//"), one, two, none;
    assert_true(http_take_part(&path, &at, &one));
    assert_true(http_take_part(&path, &at, &two));
    assert_slice_equal(one, "a /\xc3\xa4");
    assert_slice_equal(two, "x");
    assert_false(http_take_part(&path, &at, &none)); /* empty */
    path = B("a/b%21");
    assert_true(http_take_part(&path, &at, &one));
    assert_true(http_take_part(&path, &at, &two)); /* up to the end */
    assert_slice_equal(two, "b!");
    assert_int_equal(path.size, 0);
    const kvs_slice bad[] = {B(""), B("/"), B("%/"), B("%2/"), B("%2g/"), B("%2/0")};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        path = bad[i];
        at = memory;
        assert_false(http_take_part(&path, &at, &none));
    }
}

static void test_reads_numbers_of_queries(void **state)
{
    (void)state;
    int64_t number = 7;
    assert_true(http_query_number(B(""), "n", &number));
    assert_true(http_query_number(B("x=1&nn=2&n"), "n", &number));
    assert_int_equal(number, 7);
    assert_true(http_query_number(B("&x&n=012&"), "n", &number));
    assert_int_equal(number, 12);
    assert_true(http_query_number(B("n=999999999999999999"), "n", &number));
    assert_int_equal(number, 999999999999999999);
    assert_false(http_query_number(B("n=1999999999999999999"), "n", &number));
    assert_false(http_query_number(B("n="), "n", &number));
    assert_false(http_query_number(B("n=-1"), "n", &number));
}

static void test_reads_credentials(void **state)
{
    (void)state;
    uint8_t memory[64];
    kvs_slice login, password;
    assert_true(http_basic_credentials(B("bAsic  YTpiOmM= "), memory, &login, &password));
    assert_slice_equal(login, "a");
    assert_slice_equal(password, "b:c");
    assert_true(http_basic_credentials(B("Basic Og=="), memory, &login, &password));
    assert_true(login.size == 0 && password.size == 0);
    const kvs_slice bad[] = {
        B(""),           B("Basic"),          B("Basic "), B("Basic YTpiOmM"), B("Basic !TpiOmM="),
        B("Basic ===="), B("Digest YTpiOmM=")};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(http_basic_credentials(bad[i], memory, &login, &password));
}

static void test_refuses_what_is_not_http(void **state)
{
    (void)state;
    const kvs_slice bad[] = {
        B("\r\n\r\n"),
        B("GET\r\n\r\n"),
        B("GET /\r\n\r\n"),
        B("GET / HTTP/2.0\r\n\r\n"),
        B("GET / HTTP/1.1 \r\n\r\n"),
        B("GET x HTTP/1.1\r\n\r\n"),
        B("GET /\x01 HTTP/1.1\r\n\r\n"),
        B("G\0T / HTTP/1.1\r\n\r\n"),
        B(" GET / HTTP/1.1\r\n\r\n"),
        B("GET / HTTP/1.1\nHost: x\r\n\r\n"),
        B("GET / HTTP/1.1\nHost: x\n\n"),
        B("GET / HTTP/1.1\r\nHost\r\n\r\n"),
        B("GET / HTTP/1.1\r\n: x\r\n\r\n"),
        B("GET / HTTP/1.1\r\nHost : x\r\n\r\n"),
        B("GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n"),
        B("GET / HTTP/1.1\r\nHost: x\0y\r\n\r\n"),
        B("GET / HTTP/1.1\r\nHost: x\ry\r\n\r\n"),
        B("GET / HTTP/1.1\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n"),
        B("POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx"),
        B("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    };
    struct http_request request;
    size_t size;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(parse(bad[i], &request, &size), HTTP_BAD);
    static uint8_t large[HTTP_HEAD_SIZE_MAX + 100];
    memset(large, 'a', sizeof large);
    assert_int_equal(parse(slice_make(large, HTTP_HEAD_SIZE_MAX - 1), &request, &size),
                     HTTP_NEEDS_BYTES);
    assert_int_equal(parse(slice_make(large, sizeof large), &request, &size), HTTP_BAD);
}

/* --- over sockets --- */

static kvs_server *start(void)
{
    const struct kvs_server_options options = {.tikv = "127.0.0.1:0,127.0.0.1:0"};
    return server_start(&options);
}

/* Sends, and gathers what comes until the server closes. */
static void talk(const char *address, kvs_slice bytes, struct buf *ret_all)
{
    struct raw_peer peer;
    raw_peer_connect(&peer, address);
    raw_peer_send(&peer, bytes.data, bytes.size);
    *ret_all = BUF_INIT;
    char some[512];
    ssize_t got;
    while ((got = recv(peer.descriptor, some, sizeof some, 0)) > 0)
        assert_int_equal(buf_append(ret_all, some, (size_t)got), 0);
    assert_int_equal(got, 0);
    assert_int_equal(buf_append_u8(ret_all, 0), 0);
    raw_peer_close(&peer);
}

static json_t *get_json(const char *address, const char *path)
{
    char request[160];
    struct buf all;
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
    talk(address, slice_make(request, (size_t)size), &all);
    const char *text = (const char *)all.data;
    assert_memory_equal(text, "HTTP/1.1 200 OK\r\n", 17);
    json_error_t error;
    json_t *json = json_loads(strstr(text, "\r\n\r\n") + 4, 0, &error);
    if (json == NULL)
        fail_msg("%s: %s", path, error.text);
    buf_deinit(&all);
    return json;
}

static void test_pages_are_json(void **state)
{
    (void)state;
    kvs_server *server = start();
    const char *pd = kvs_server_pd_address(server);
    const char *status = kvs_server_tikv_status_address(server);
    json_t *json = get_json(pd, "/pd/api/v1/regions");
    assert_int_equal(json_integer_value(json_object_get(json, "count")), 5);
    assert_int_equal(json_array_size(json_object_get(json, "regions")), 5);
    json_decref(json);
    json = get_json(status, "/config");
    json_t *storage = json_object_get(json, "storage");
    assert_true(json_is_true(json_object_get(storage, "enable-ttl")));
    assert_int_equal(json_integer_value(json_object_get(storage, "api-version")), 2);
    json_decref(json);
    static const char *const others[] = {"stores", "version", "health", "members",
                                         "min-resolved-ts?x=y"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        char path[64];
        snprintf(path, sizeof path, "/pd/api/v1/%s", others[i]);
        json_decref(get_json(pd, path));
    }
    json_decref(get_json(status, "/status"));
    server_stop(server);
}

static void assert_answer(const char *address, kvs_slice request, const char *begin,
                          const char *within)
{
    struct buf all;
    talk(address, request, &all);
    const char *text = (const char *)all.data;
    if (strncmp(text, begin, strlen(begin)) != 0 || strstr(text, within) == NULL)
        fail_msg("%s", text);
    buf_deinit(&all);
}

static void test_says_what_is_wrong(void **state)
{
    (void)state;
    kvs_server *server = start();
    const char *pd = kvs_server_pd_address(server);
    const char *status = kvs_server_tikv_status_address(server);
    assert_answer(pd, B("PUT /pd/api/v1/regions HTTP/1.0\r\n\r\n"), "HTTP/1.1 405 ",
                  "Allow: GET, HEAD\r\n");
    assert_answer(pd, B("GET /nothing HTTP/1.0\r\n\r\n"), "HTTP/1.1 404 ", "");
    assert_answer(pd, B("nonsense\r\n\r\n"), "HTTP/1.1 400 ", "Connection: close");
    assert_answer(pd, B("POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx"), "HTTP/1.1 400 ",
                  "without a body");
    assert_answer(pd, B("PRX \r\n\r\n"), "HTTP/1.1 400 ", "");
    assert_answer(status, B("PRI * HTTP/1.1\r\n\r\n"), "HTTP/1.1 400 ", "");
    assert_answer(status, B("GET /metrics HTTP/1.0\r\n\r\n"), "HTTP/1.1 200 ", "kvs_regions 5\n");
    /* two on one connection; the second ends it */
    assert_answer(
        status, B("GET /status HTTP/1.1\r\n\r\nGET /status HTTP/1.1\r\nConnection: close\r\n\r\n"),
        "HTTP/1.1 200 ", "}\nHTTP/1.1 200 ");
    server_stop(server);
}

/* As GET, but for the body; two on one connection, so that a body too many would be seen. */
static void test_answers_head(void **state)
{
    (void)state;
    kvs_server *server = start();
    const char *status = kvs_server_tikv_status_address(server);
    struct buf all;
    talk(status, B("HEAD /status HTTP/1.1\r\n\r\nHEAD /none HTTP/1.0\r\n\r\n"), &all);
    const char *text = (const char *)all.data;
    assert_memory_equal(text, "HTTP/1.1 200 ", 13);
    const char *end = strstr(text, "\r\n\r\n");
    assert_non_null(end);
    assert_memory_equal(end + 4, "HTTP/1.1 404 ", 13);
    assert_string_equal(text + strlen(text) - 4, "\r\n\r\n");
    const char *length = strstr(text, "Content-Length: ");
    assert_true(length != NULL && length < end && length[16] >= '1');
    buf_deinit(&all);
    server_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parses_requests),
        cmocka_unit_test(test_decodes_parts_of_paths),
        cmocka_unit_test(test_reads_numbers_of_queries),
        cmocka_unit_test(test_reads_credentials),
        cmocka_unit_test(test_refuses_what_is_not_http),
        cmocka_unit_test(test_pages_are_json),
        cmocka_unit_test(test_says_what_is_wrong),
        cmocka_unit_test(test_answers_head),
    };
    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}

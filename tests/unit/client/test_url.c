/* client/url.c: what is a URL of a store, and what is said of what is not. */
#include "client/url.h"

#include <kvs/error.h>
#include <string.h>

#include "test.h"

static void test_forms(void **state)
{
    (void)state;
    struct url url;
    char why[320];
    assert_int_equal(url_parse("log:/var/data", &url, why, sizeof why), 0);
    assert_int_equal(url.scheme, URL_LOG);
    assert_string_equal(url.path, "/var/data");
    assert_int_equal(url_parse("rocksdb:data", &url, why, sizeof why), 0);
    assert_int_equal(url.scheme, URL_ROCKSDB);
    assert_string_equal(url.path, "data");
    assert_int_equal(url_parse("memory:", &url, why, sizeof why), 0);
    assert_int_equal(url.scheme, URL_MEMORY);

    static const struct {
        const char *text;
        const char *host;
        uint16_t port;
    } rows[] = {
        {"kvs://localhost", "localhost", 4000},
        {"kvs://localhost/", "localhost", 4000},
        {"kvs://10.0.0.1:4001", "10.0.0.1", 4001},
        {"kvs://[::1]", "::1", 4000},
        {"kvs://[fe80::1%eth0]:65535/", "fe80::1%eth0", 65535},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(url_parse(rows[i].text, &url, why, sizeof why), 0);
        assert_int_equal(url.scheme, URL_KVS);
        assert_string_equal(url.host, rows[i].host);
        assert_int_equal(url.port, rows[i].port);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *said;
    } rows[] = {
        {NULL, "no URL"},
        {"", "is no URL"},
        {"data", "\"data\" is no URL of a store; known are log:DIR, rocksdb:DIR, memory:"},
        {"redis://x", "\"redis:\" is no known kind of store"},
        {"log:", "needs a directory"},
        {"rocksdb:", "needs a directory, as in rocksdb:data"},
        {"memory:x", "takes nothing"},
        {"kvs://", "needs a host"},
        {"kvs:///", "needs a host"},
        {"kvs://:4000", "host is missing"},
        {"kvs://a:0", "\"0\" is no port"},
        {"kvs://a:65536", "\"65536\" is no port"},
        {"kvs://a:", "\"\" is no port"},
        {"kvs://a:4000x", "\"4000x\" is no port"},
        {"kvs://a:99999999999999999999", "is no port"},
        {"kvs://::1:4000", "in brackets"},
        {"kvs://[::1", "in brackets"},
        {"kvs://[::1]x", "in brackets"},
        {"kvs://[]:1", "host is missing"},
        {"kvs://user@host", "'@' cannot be part"},
        {"kvs://a/b", "'/' cannot be part"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct url url;
        char why[320] = "";
        assert_int_equal(url_parse(rows[i].text, &url, why, sizeof why), KVS_ERR_INVALID_ARGUMENT);
        if (strstr(why, rows[i].said) == NULL)
            fail_msg("%s: %s", rows[i].text, why);
    }
    char large[5000];
    struct url url;
    char why[320];
    memset(large, 'x', sizeof large);
    large[sizeof large - 1] = '\0';
    memcpy(large, "log:", 4);
    assert_int_equal(url_parse(large, &url, why, sizeof why), KVS_ERR_INVALID_ARGUMENT);
    memcpy(large, "kvs://", 6);
    assert_int_equal(url_parse(large, &url, why, sizeof why), KVS_ERR_INVALID_ARGUMENT);
    large[0] = 'q';
    large[4000] = ':';
    assert_int_equal(url_parse(large, &url, why, sizeof why), KVS_ERR_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

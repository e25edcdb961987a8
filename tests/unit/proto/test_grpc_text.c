/* src/proto/grpc: the small text fields: timeouts, codes, escapes; and the message prefix. */
#include "base/rand.h"
#include "proto/grpc/message.h"
#include "proto/grpc/status.h"
#include "proto/grpc/timeout.h"

#include <kvs/error.h>

#include "test.h"

static void test_timeout_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"1H", 3600000},
                {"2M", 120000},
                {"3S", 3000},
                {"4m", 4},
                {"5u", 1},
                {"5000u", 5},
                {"1n", 1},
                {"0S", 0},
                {"1000001n", 2},
                {"99999999n", 100},
                {"2000000u", 2000},
                {"00000001S", 1000},
                {"99999999m", 99999999},
                {"99999999H", 99999999ull * 3600000}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t ms = 77;
        assert_int_equal(grpc_timeout_parse(slice_of_string(good[i].text), &ms), 0);
        assert_int_equal(ms, good[i].ms);
    }
    static const char *const bad[] = {"",    "S",    "1",          "1s",   "-1S", "+1S",      " 1S",
                                      "1 S", "1.5S", "123456789S", "0x1S", "1SS", "1\xc2\xb5"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t ms = 77;
        assert_int_equal(grpc_timeout_parse(slice_of_string(bad[i]), &ms), KVS_ERR_PROTOCOL);
        assert_int_equal(ms, 77);
    }
}

/* What is written can be read, is not earlier, and hardly later. */
static void test_timeout_format(void **state)
{
    (void)state;
    struct rand rand = rand_seed(1);
    for (int i = 0; i < 100000; i++) {
        uint64_t ms = rand_u64(&rand) >> (rand_below(&rand, 64));
        char text[GRPC_TIMEOUT_TEXT_MAX];
        size_t size = grpc_timeout_format(text, ms);
        assert_int_equal(size, strlen(text));
        uint64_t read;
        assert_int_equal(grpc_timeout_parse(slice_make(text, size), &read), 0);
        if (ms > 99999999ull * 3600000)
            continue; /* over the largest value there is */
        assert_true(read >= ms);
        if (ms < 90000000000)
            assert_true(read - ms <= ms / 10);
    }
    char text[GRPC_TIMEOUT_TEXT_MAX];
    grpc_timeout_format(text, 2000);
    assert_string_equal(text, "2S");
    grpc_timeout_format(text, 1987);
    assert_string_equal(text, "2S");
    grpc_timeout_format(text, 99);
    assert_string_equal(text, "99m");
    grpc_timeout_format(text, 101);
    assert_string_equal(text, "110m");
    grpc_timeout_format(text, 0);
    assert_string_equal(text, "0m");
}

static void test_codes(void **state)
{
    (void)state;
    assert_int_equal(grpc_code_parse(slice_of_string("0")), GRPC_OK);
    assert_int_equal(grpc_code_parse(slice_of_string("16")), GRPC_UNAUTHENTICATED);
    static const char *const unknown[] = {"", "17", "99", "-1", "100", "0x1", "1 ", "a"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        assert_int_equal(grpc_code_parse(slice_of_string(unknown[i])), GRPC_UNKNOWN);
    assert_string_equal(grpc_code_name(GRPC_UNAVAILABLE), "UNAVAILABLE");
    assert_string_equal(grpc_code_name(-1), "UNKNOWN");
    assert_string_equal(grpc_code_name(17), "UNKNOWN");
}

static void test_message_escapes(void **state)
{
    (void)state;
    struct rand rand = rand_seed(2);
    struct buf encoded = BUF_INIT;
    struct buf decoded = BUF_INIT;
    for (int i = 0; i < 10000; i++) {
        uint8_t text[40];
        size_t size = rand_below(&rand, sizeof text);
        for (size_t k = 0; k < size; k++)
            text[k] = (uint8_t)rand_u64(&rand);
        buf_clear(&encoded);
        buf_clear(&decoded);
        assert_int_equal(grpc_message_encode(&encoded, slice_make(text, size)), 0);
        for (size_t k = 0; k < encoded.size; k++)
            assert_true(encoded.data[k] >= 0x20 && encoded.data[k] <= 0x7e);
        assert_int_equal(grpc_message_decode(&decoded, buf_slice(&encoded)), 0);
        assert_true(slice_equal(buf_slice(&decoded), slice_make(text, size)));
    }
    buf_clear(&decoded);
    assert_int_equal(grpc_message_decode(&decoded, slice_of_string("%4a%4A%%%zz%2%41%")), 0);
    assert_slice_equal(buf_slice(&decoded), "JJ%%%zz%2A%");
    buf_deinit(&encoded);
    buf_deinit(&decoded);
}

static void test_message_prefix(void **state)
{
    (void)state;
    uint8_t bytes[10] = {0};
    kvs_slice message;
    size_t used = 0;
    message_write_prefix(bytes, 3);
    for (size_t size = 0; size < 8; size++)
        assert_int_equal(message_parse(slice_make(bytes, size), 3, &message, &used), MESSAGE_MORE);
    assert_int_equal(message_parse(slice_make(bytes, 9), 3, &message, &used), MESSAGE_WHOLE);
    assert_int_equal(used, 8);
    assert_int_equal(message.size, 3);
    assert_int_equal(message_parse(slice_make(bytes, 5), 2, &message, &used), MESSAGE_TOO_LARGE);
    message_write_prefix(bytes, UINT32_MAX);
    assert_int_equal(message_parse(slice_make(bytes, 9), UINT32_MAX, &message, &used),
                     MESSAGE_MORE);
    bytes[0] = 1;
    assert_int_equal(message_parse(slice_make(bytes, 1), 3, &message, &used), MESSAGE_COMPRESSED);
    bytes[0] = 255;
    assert_int_equal(message_parse(slice_make(bytes, 1), 3, &message, &used), MESSAGE_BAD_FLAG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timeout_parse),  cmocka_unit_test(test_timeout_format),
        cmocka_unit_test(test_codes),          cmocka_unit_test(test_message_escapes),
        cmocka_unit_test(test_message_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

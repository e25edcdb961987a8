/* cli/client/encoding.c: every byte string survives each form, and only those forms are read. */
#include "cli/client/encoding.h"

#include "base/rand.h"
#include "seed.h"

#include <kvs/error.h>

#include <stdio.h>
#include <stdlib.h>

#include "test.h"

static struct buf out;

static void assert_escaped(const char *bytes, size_t size, const char *text)
{
    buf_clear(&out);
    assert_int_equal(escape_append(&out, slice_make(bytes, size)), 0);
    assert_int_equal(out.size, strlen(text));
    assert_memory_equal(out.data, text, out.size);
}

static void test_escapes(void **state)
{
    (void)state;
    assert_escaped("plain text", 10, "plain text");
    assert_escaped("a\tb\nc\rd\\", 8, "a\\tb\\nc\\rd\\\\");
    assert_escaped("\0\x1b\x7f", 3, "\\x00\\x1b\\x7f");
    assert_escaped("\xc3\xbc", 2, "\xc3\xbc");
    assert_escaped("\xc3", 1, "\\xc3");
    assert_escaped("\xc2\x9b", 2, "\\xc2\\x9b"); /* CSI: a control character though valid UTF-8 */
    assert_escaped("\xff\xfe", 2, "\\xff\\xfe");
}

static void test_unescape_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {"\\",   "a\\",   "\\q",   "\\x",
                                      "\\x1", "\\xg0", "\\x0g", "\\u00e9"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        buf_clear(&out);
        assert_int_equal(unescape_append(&out, slice_of_string(bad[i])), KVS_ERR_INVALID_ARGUMENT);
        assert_int_equal(out.size, 0);
    }
    assert_int_equal(unescape_append(&out, slice_of_string("\\0\\\"\\'\\xfF")), 0);
    assert_int_equal(out.size, 4);
    assert_memory_equal(out.data, "\0\"'\xff", 4);
}

static void test_utf8(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "a",
                                       "\xc2\x80",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xe2\x82",
                                      "a\xff"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(utf8_valid(slice_of_string(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(utf8_valid(slice_of_string(bad[i])));
}

static void assert_base64(const char *bytes, const char *text)
{
    buf_clear(&out);
    assert_int_equal(base64_append(&out, slice_of_string(bytes)), 0);
    assert_int_equal(out.size, strlen(text));
    assert_memory_equal(out.data, text, out.size);
}

static void test_base64(void **state)
{
    (void)state;
    assert_base64("", "");
    assert_base64("f", "Zg==");
    assert_base64("fo", "Zm8=");
    assert_base64("foo", "Zm9v");
    assert_base64("foob", "Zm9vYg==");
    static const char *const bad[] = {
        "Z", "Zg", "Zg=", "Zh==", "Zm9=", "Z===", "====", "Zg==Zg==", "Zm 9v", "Zm9-", "=m9v"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(base64_decode_append(&out, slice_of_string(bad[i])),
                         KVS_ERR_INVALID_ARGUMENT);
}

static void test_json_fields(void **state)
{
    (void)state;
    buf_clear(&out);
    assert_int_equal(json_field_append(&out, "key", slice_make("a\"\\\n\0\xc3\xbc", 7)), 0);
    assert_slice_equal(buf_slice(&out), "\"key\":\"a\\\"\\\\\\u000a\\u0000\xc3\xbc\"");
    buf_clear(&out);
    assert_int_equal(json_field_append(&out, "value", slice_make("\xff", 1)), 0);
    assert_slice_equal(buf_slice(&out), "\"value64\":\"/w==\"");
}

static void test_random_bytes_survive(void **state)
{
    (void)state;
    struct rand rand = rand_seed(test_seed());
    struct buf back = BUF_INIT;
    for (int i = 0; i < 2000; i++) {
        uint8_t bytes[64];
        size_t size = rand_below(&rand, sizeof bytes);
        for (size_t j = 0; j < size; j++)
            bytes[j] = (uint8_t)(rand_u64(&rand) >> (i % 2 == 0 ? 56 : 57));
        buf_clear(&out);
        buf_clear(&back);
        assert_int_equal(escape_append(&out, slice_make(bytes, size)), 0);
        assert_true(utf8_valid(buf_slice(&out)));
        assert_int_equal(unescape_append(&back, buf_slice(&out)), 0);
        assert_int_equal(back.size, size);
        assert_memory_equal(back.data, bytes, size);
        buf_clear(&out);
        buf_clear(&back);
        assert_int_equal(base64_append(&out, slice_make(bytes, size)), 0);
        assert_int_equal(base64_decode_append(&back, buf_slice(&out)), 0);
        assert_int_equal(back.size, size);
        assert_memory_equal(back.data, bytes, size);
    }
    buf_deinit(&back);
}

static int free_out(void **state)
{
    (void)state;
    buf_deinit(&out);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_escapes),     cmocka_unit_test(test_unescape_refuses),
        cmocka_unit_test(test_utf8),        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_json_fields), cmocka_unit_test(test_random_bytes_survive),
    };
    return cmocka_run_group_tests(tests, NULL, free_out);
}

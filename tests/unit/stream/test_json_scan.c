/* tests/unit/stream/test_json_scan.c: JSON looked at where it lies, beside what jansson says. */
#include "base/rand.h"
#include "base/slice.h"
#include "stream/json_scan.h"
#include "stream/settings.h"
#include "test.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define S(text) slice_make((text), sizeof(text) - 1)

static const char *const keys[] = {"a", "$tb"};

static bool scan(kvs_slice text, kvs_slice values[2])
{
    return json_scan_object(text, keys, 2, values);
}

static void assert_slice(kvs_slice slice, const char *text)
{
    if (!slice_equal(slice, slice_of_string(text)))
        fail_msg("\"%.*s\" in place of \"%s\"", (int)slice.size, (const char *)slice.data, text);
}

static void test_members(void **state)
{
    (void)state;
    static const struct {
        const char *text, *a, *tb;
    } cases[] = {
        {"{}", "", ""},
        {" \t\r\n{ } ", "", ""},
        {"{\"a\":1}", "1", ""},
        {"{\"a\" : [ 1 , {\"a\":2} ] , \"$tb\":-1.5e+3}", "[ 1 , {\"a\":2} ]", "-1.5e+3"},
        {"{\"a\":1,\"a\":2}", "2", ""},
        {"{\"b\":{\"a\":1},\"A\":2,\"aa\":3,\"\":4}", "", ""},
        {"{\"\\u0061\":1,\"\\u0024t\\u0062\":2}", "1", "2"},
        {"{\"a\":\"x\\\"}\\\\\",\"$tb\":null}", "\"x\\\"}\\\\\"", "null"},
        {"{\"a\":true,\"$tb\":false}", "true", "false"},
        {"{\"a\":[],\"$tb\":{}}", "[]", "{}"},
        {"{\"a\":[[],[[]],{\"x\":[]},{}]}", "[[],[[]],{\"x\":[]},{}]", ""},
    };
    kvs_slice values[2];
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (!scan(slice_of_string(cases[i].text), values))
            fail_msg("%s is refused", cases[i].text);
        assert_slice(values[0], cases[i].a);
        assert_slice(values[1], cases[i].tb);
    }
}

static void test_broken(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      " ",
                                      "1",
                                      "[]",
                                      "\"a\"",
                                      "{",
                                      "}",
                                      "{\"a\"",
                                      "{\"a\":",
                                      "{\"a\":1",
                                      "{\"a\":1,",
                                      "{\"a\":1,}",
                                      "{,}",
                                      "{a:1}",
                                      "{\"a\":01}",
                                      "{\"a\":1.}",
                                      "{\"a\":.1}",
                                      "{\"a\":-}",
                                      "{\"a\":1e}",
                                      "{\"a\":+1}",
                                      "{\"a\":[1,]}",
                                      "{\"a\":[,]}",
                                      "{\"a\":[1}",
                                      "{\"a\":{]}",
                                      "{\"a\":tru}",
                                      "{\"a\":\"\\x\"}",
                                      "{\"a\":\"\\",
                                      "{\"a\":\"\\u12g4\"}",
                                      "{\"a\":\"\\u12",
                                      "{\"a\":\"\n\"}",
                                      "{\"a\":1}x",
                                      "{\"a\":1}{}",
                                      "{\"a\" 1}",
                                      "{\"a\":1 \"b\":2}",
                                      "{1:2}"};
    kvs_slice values[2];
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (scan(slice_of_string(bad[i]), values))
            fail_msg("%s is taken", bad[i]);
        assert_true(values[0].size == 0 && values[1].size == 0);
    }
}

static void test_depth(void **state)
{
    (void)state;
    static char text[3 * 2048 + 10];
    kvs_slice values[2];
    for (size_t depth = 2047; depth <= 2049; depth++) {
        memcpy(text, "{\"a\":", 5);
        memset(text + 5, '[', depth);
        memset(text + 5 + depth, ']', depth);
        text[5 + 2 * depth] = '}';
        assert_int_equal(scan(slice_make(text, 6 + 2 * depth), values), depth <= 2048);
    }
}

static void test_arrays(void **state)
{
    (void)state;
    kvs_slice values[2], element;
    assert_true(scan(S("{\"a\": [ 1 ,\"]\" ,[2, 3],{} ],\"$tb\":[]}"), values));
    size_t at = 0;
    static const char *const elements[] = {"1", "\"]\"", "[2, 3]", "{}"};
    for (unsigned i = 0; i < 4; i++) {
        assert_true(json_scan_array(values[0], &at, &element));
        assert_slice(element, elements[i]);
    }
    assert_false(json_scan_array(values[0], &at, &element));
    at = 0;
    assert_false(json_scan_array(values[1], &at, &element));
    assert_false(json_scan_array(S("{}"), &at, &element));
    assert_false(json_scan_array((kvs_slice){0}, &at, &element));
}

static void test_numbers(void **state)
{
    (void)state;
    assert_int_equal(json_scan_positive(S("17")), 17);
    assert_int_equal(json_scan_positive(S("9223372036854775807")), INT64_MAX);
    assert_int_equal(json_scan_positive(S("9223372036854775808")), 0);
    assert_int_equal(json_scan_positive(S("99999999999999999999999")), 0);
    static const char *const none[] = {"", "0", "-1", "1.0", "1e3", "\"1\"", "null", "[1]"};
    for (unsigned i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_int_equal(json_scan_positive(slice_of_string(none[i])), 0);
}

/* Random documents, whole and broken: the same as a tree says. jansson also refuses numbers
 * that are too large for it, and what is no UTF-8; the pieces have none of these. */
static void test_beside_jansson(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        "{",      "}",        "[",    "]",    ",", ":",  "\"a\"", "\"$tb\"", "1",
        "-2.5e3", "\"x\\n\"", "null", "true", " ", "{}", "[]",    "\"a\":",  ",\"$tb\":7"};
    const char *seed_text = getenv("KVS_TEST_SEED");
    uint64_t seed = seed_text != NULL ? strtoull(seed_text, NULL, 10) : 1;
    struct rand rand = rand_seed(seed);
    print_message("# KVS_TEST_SEED=%llu\n", (unsigned long long)seed);
    unsigned whole = 0;
    for (unsigned i = 0; i < 200000; i++) {
        struct buf text = BUF_INIT;
        uint64_t count = rand_below(&rand, 10);
        assert_int_equal(buf_append_u8(&text, '{'), 0);
        for (unsigned k = 0; k < count; k++) {
            const char *piece = pieces[rand_below(&rand, sizeof pieces / sizeof pieces[0])];
            assert_int_equal(buf_append(&text, piece, strlen(piece)), 0);
        }
        assert_int_equal(buf_append(&text, "}", 2), 0); /* and the end of a string */
        text.size--;
        kvs_slice values[2];
        bool taken = scan(buf_slice(&text), values);
        const char *string = (const char *)text.data;
        json_t *tree = json_loads(string, 0, NULL);
        if (taken != (tree != NULL))
            fail_msg("%s: %d", string, taken);
        for (unsigned k = 0; k < 2 && taken; k++) {
            json_t *value =
                json_loadb((const char *)values[k].data, values[k].size, JSON_DECODE_ANY, NULL);
            const json_t *same = json_object_get(tree, keys[k]);
            if ((same != NULL) != (values[k].size > 0) ||
                (same != NULL && !json_equal(same, value)))
                fail_msg("%s: %s", string, keys[k]);
            json_decref(value);
        }
        whole += taken;
        json_decref(tree);
        buf_deinit(&text);
    }
    assert_true(whole > 1000);
}

static void test_moved_metadata(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", "{\"$tb\":5}"},
        {"nothing", "{\"$tb\":5}"},
        {"[1]", "{\"$tb\":5}"},
        {"{}", "{\"$tb\":5}"},
        {" { } ", " { \"$tb\":5} "},
        {"{\"x\":[{}]}", "{\"x\":[{}],\"$tb\":5}"},
        {"{\"x\":\"}\"\n}\n", "{\"x\":\"}\"\n,\"$tb\":5}\n"},
        {"{\"$tb\":1,\"x\":2}", "{\"$tb\":5,\"x\":2}"},
        {"{\"$tb\":\"1\",\"x\":2, \"$tb\" : [] }", "{\"$tb\":\"1\",\"x\":2, \"$tb\" : 5 }"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf moved = BUF_INIT;
        assert_int_equal(metadata_with_truncate_before(slice_of_string(cases[i][0]), 5, &moved), 0);
        assert_slice(buf_slice(&moved), cases[i][1]);
        buf_deinit(&moved);
    }
}

/* What is said of rights is taken as far as it is usable, and no tree is made of the rest. */
static void test_rights(void **state)
{
    (void)state;
    struct stream_user joe = {.login = S("joe\xc3\xa9")};
    struct default_acls none = {0};
    struct stream_settings settings = {0};
    struct buf acl = BUF_INIT;
    assert_int_equal(
        settings_of_json(S("{\"$acl\":{\"$r\":\"jo\\u0065\\u00e9\",\"$w\":[\"x\"],\"$d\":[],"
                           "\"$mr\":[\"x\",1],\"$mw\":{}},\"$maxCount\":3}"),
                         &settings, &acl),
        0);
    assert_int_equal(settings.max_count, 3);
    static const bool granted[STREAM_RIGHTS] = {[STREAM_RIGHT_READ] = true,
                                                [STREAM_RIGHT_META_READ] = true,
                                                [STREAM_RIGHT_META_WRITE] = true};
    for (unsigned right = 0; right < STREAM_RIGHTS; right++)
        assert_int_equal(
            access_is_granted(&joe, S("s"), settings.acl, &none, (enum stream_right)right),
            granted[right]);
    buf_deinit(&acl);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members),        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_depth),          cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_numbers),        cmocka_unit_test(test_beside_jansson),
        cmocka_unit_test(test_moved_metadata), cmocka_unit_test(test_rights),
    };
    return cmocka_run_group_tests_name("json-scan", tests, NULL, NULL);
}

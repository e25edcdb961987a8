/* proto/tikv/key.c and base/crc64.c: known encodings, and seeded keys against the rules. */
#include "proto/tikv/key.h"

#include "base/crc64.h"
#include "base/rand.h"

#include <kvs/error.h>
#include <stdio.h>

#include "test.h"

#define KEY_MAX 40u
#define ENCODED_MAX (KEY_MAX / 8 * 9 + 18)

/* Few different bytes, those at the borders among them: near misses are frequent. */
static kvs_slice random_bytes(struct rand *rand, uint8_t *to, size_t size_max)
{
    static const uint8_t bytes[] = {0, 0, 0, 1, 'r', 0xf7, 0xf8, 0xfe, 0xff, 0xff};
    size_t size = rand_below(rand, size_max + 1);
    for (size_t i = 0; i < size; i++)
        to[i] = bytes[rand_below(rand, sizeof bytes)];
    return slice_make(to, size);
}

static kvs_slice encoded(kvs_slice key, uint8_t *to)
{
    key_encode(key, to);
    return slice_make(to, key_encoded_size(key.size));
}

static void test_known_encodings(void **state)
{
    (void)state;
    uint8_t bytes[ENCODED_MAX];
    assert_slice_equal(encoded(slice_of_string(""), bytes), "\0\0\0\0\0\0\0\0\xf7");
    assert_slice_equal(encoded(slice_of_string("a"), bytes), "a\0\0\0\0\0\0\0\xf8");
    assert_slice_equal(encoded(slice_of_string("\1\2\3\4\5\6\7\10"), bytes),
                       "\1\2\3\4\5\6\7\10\xff\0\0\0\0\0\0\0\0\xf7");
    uint8_t prefix[KEYSPACE_PREFIX_SIZE];
    key_prefix(KEY_MODE_RAW, 0x010203, prefix);
    assert_memory_equal(prefix, "r\1\2\3", 4);
}

static void test_encodings_keep_keys_and_their_order(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20000; seed++) {
        struct rand rand = rand_seed(seed);
        uint8_t a_bytes[KEY_MAX], b_bytes[KEY_MAX], a_out[ENCODED_MAX], b_out[ENCODED_MAX];
        uint8_t back[ENCODED_MAX];
        size_t size;
        kvs_slice a = random_bytes(&rand, a_bytes, KEY_MAX);
        kvs_slice b = random_bytes(&rand, b_bytes, KEY_MAX);
        if (rand_below(&rand, 3) == 0 && a.size > 0) /* the one begins with the other */
            b = slice_make(a.data, rand_below(&rand, a.size));
        kvs_slice encoded_a = encoded(a, a_out);
        kvs_slice encoded_b = encoded(b, b_out);
        int order = slice_compare(a, b);
        if ((slice_compare(encoded_a, encoded_b) < 0) != (order < 0) ||
            (key_encoded_compare(a, encoded_b) < 0) != (order < 0) ||
            (key_encoded_compare(a, encoded_b) > 0) != (order > 0))
            fail_msg("seed %llu: order", (unsigned long long)seed);
        if (key_decode(encoded_a, back, &size) != 0 || !slice_equal(slice_make(back, size), a))
            fail_msg("seed %llu: decode", (unsigned long long)seed);
        assert_int_equal(key_at_or_above(encoded_a, back), a.size);
        assert_memory_equal(back, a_bytes, a.size);
    }
}

static void test_what_is_no_encoding(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } cases[] = {
        {"", 0},
        {"a", 1},
        {"a\0\0\0\0\0\0\0", 8},
        {"a\0\0\0\0\0\0\0\xf9\xff", 10},
        {"a\0\0\0\0\0\0\0\xf6", 9},
        {"a\0\0\0\0\0\0\1\xf8", 9},                      /* padding that is not zero */
        {"abcdefgh\xff", 9},                             /* the last group is missing */
        {"a\0\0\0\0\0\0\0\xf8\0\0\0\0\0\0\0\0\xf7", 18}, /* goes on after the last one */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t back[32];
        size_t size = 77;
        assert_int_equal(key_decode(slice_make(cases[i].bytes, cases[i].size), back, &size),
                         KVS_ERR_PROTOCOL);
        assert_int_equal(size, 77);
    }
}

/* Whatever bytes a region ends at: a key is in front of them as its encoding is. */
static void test_the_key_at_any_bound(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20000; seed++) {
        struct rand rand = rand_seed(seed);
        uint8_t bound_bytes[ENCODED_MAX], key_bytes[KEY_MAX], out[ENCODED_MAX + 8];
        kvs_slice bound = random_bytes(&rand, bound_bytes, 22);
        if (rand_below(&rand, 2) == 0) { /* nearly an encoding */
            kvs_slice key = random_bytes(&rand, key_bytes, 18);
            bound = encoded(key, bound_bytes);
            bound.size -= rand_below(&rand, 3);
            bound_bytes[rand_below(&rand, bound.size)] += (uint8_t)rand_below(&rand, 3);
        }
        kvs_slice at = slice_make(out, key_at_or_above(bound, out));
        assert_true(key_encoded_compare(at, bound) >= 0);
        for (int i = 0; i < 50; i++) {
            kvs_slice key = random_bytes(&rand, key_bytes, 20);
            if (i % 2 == 0 && at.size > 0 && at.size < KEY_MAX) { /* near it */
                memcpy(key_bytes, at.data, at.size);
                key = slice_make(key_bytes, at.size);
                key_bytes[rand_below(&rand, at.size)] -= (uint8_t)rand_below(&rand, 2);
                key.size -= rand_below(&rand, 2);
            }
            if ((key_encoded_compare(key, bound) < 0) != (slice_compare(key, at) < 0))
                fail_msg("seed %llu", (unsigned long long)seed);
        }
    }
}

static void test_modes_and_families(void **state)
{
    (void)state;
    kvs_slice none = {NULL, 0};
    assert_true(key_has_mode(slice_of_string("r"), KEY_MODE_RAW));
    assert_false(key_has_mode(slice_of_string("x"), KEY_MODE_RAW));
    assert_false(key_has_mode(none, KEY_MODE_RAW));
    assert_true(key_range_has_mode(slice_of_string("ra"), slice_of_string("s"), KEY_MODE_RAW));
    assert_true(key_range_has_mode(slice_of_string("ra"), slice_of_string("rb"), KEY_MODE_RAW));
    assert_false(key_range_has_mode(slice_of_string("ra"), slice_of_string("sa"), KEY_MODE_RAW));
    assert_false(key_range_has_mode(slice_of_string("ra"), none, KEY_MODE_RAW));
    assert_false(key_range_has_mode(none, slice_of_string("s"), KEY_MODE_RAW));
    assert_int_equal(key_family("", false), 0);
    assert_int_equal(key_family(NULL, true), 0);
    assert_int_equal(key_family("default", false), 0);
    assert_int_equal(key_family("write", false), 1);
    assert_int_equal(key_family("lock", false), 2);
    assert_int_equal(key_family("raft", false), -1);
    assert_int_equal(key_family("default", true), -1);
}

static void test_crc64(void **state)
{
    (void)state;
    assert_true(crc64(0, slice_of_string("")) == 0);
    assert_true(crc64(0, slice_of_string("123456789")) == 0x995dc9bbdf1939fau);
    assert_true(crc64(0, slice_of_string("This is a test of the emergency broadcast system.")) ==
                0x27db187fc15bbc72u);
    /* in two pieces it is the same */
    const char *text = "1000000000200000000030000";
    for (size_t i = 0; i <= 25; i++) {
        uint64_t crc = crc64(crc64(0, slice_make(text, i)), slice_make(text + i, 25 - i));
        assert_true(crc == crc64(0, slice_make(text, 25)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_encodings),
        cmocka_unit_test(test_encodings_keep_keys_and_their_order),
        cmocka_unit_test(test_what_is_no_encoding),
        cmocka_unit_test(test_the_key_at_any_bound),
        cmocka_unit_test(test_modes_and_families),
        cmocka_unit_test(test_crc64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

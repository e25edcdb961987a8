/* tests/unit/stream/test_stream_parts.c: patterns, blocks, runs, records, the window of ids. */
#include "base/rand.h"
#include "base/slice.h"
#include "stream/block.h"
#include "stream/heads.h"
#include "stream/pattern.h"
#include "stream/settings.h"
#include "test.h"

#include <string.h>

#define S(text) slice_make((text), sizeof(text) - 1)

static void assert_pattern(const char *text, const char *matching, const char *other)
{
    struct pattern *pattern;
    assert_int_equal(pattern_new(slice_of_string(text), &pattern), 0);
    uint64_t steps = 0;
    if (matching != NULL && !pattern_matches(pattern, slice_of_string(matching), &steps))
        fail_msg("/%s/ does not match \"%s\"", text, matching);
    if (other != NULL && pattern_matches(pattern, slice_of_string(other), &steps))
        fail_msg("/%s/ matches \"%s\"", text, other);
    pattern_free(pattern);
}

static void test_patterns(void **state)
{
    (void)state;
    assert_pattern("", "anything", NULL);
    assert_pattern("b", "abc", "acd");
    assert_pattern("^a", "abc", "ba");
    assert_pattern("c$", "abc", "ca");
    assert_pattern("^$", "", "a");
    assert_pattern("^[^$]", "order-1", "$system");
    assert_pattern("^[^\\$].*", "order-1", "$system");
    assert_pattern("^\\$ce-", "$ce-x", "ce-x");
    assert_pattern("a.c", "abc", "ac");
    assert_pattern("a.c", "a.c", "a\nc");
    assert_pattern("ab*c", "ac", "adc");
    assert_pattern("ab*c", "abbbc", "ab");
    assert_pattern("ab+c", "abbbc", "ac");
    assert_pattern("^ab?c$", "ac", "abbc");
    assert_pattern("^(ab|cd|)e$", "cde", "abcde");
    assert_pattern("^(ab|cd|)e$", "e", "ae");
    assert_pattern("^(a|b)*c$", "ababc", "abdc");
    assert_pattern("^(?:ab){2}$", "abab", "ab");
    assert_pattern("^a{2,3}$", "aaa", "aaaa");
    assert_pattern("^a{2,}$", "aaaaaa", "a");
    assert_pattern("^a{0}b$", "b", "ab");
    assert_pattern("^(a{1,2}){2}$", "aaa", "aaaaa");
    assert_pattern("^[a-c0-9_-]+$", "b-7_", "d");
    assert_pattern("^[]a]$", "]", "b");
    assert_pattern("^\\d{3}-\\w+\\s$", "123-ab_9 ", "12-ab ");
    assert_pattern("^[\\d\\s]+$", "1 2", "1a");
    assert_pattern("^\\D\\W\\S$", "a-b", "1-b");
    assert_pattern("\\x41\\.", "A.", "AB");
    assert_pattern("\\Aab\\z", "ab", "cab");
    assert_pattern("(a*)*$", "b", NULL);
    assert_pattern("a*?b", "aab", "c");
    assert_pattern("x|y|z", "ay", "ab");
    assert_pattern("^((a|b)|(c|d))$", "c", "ac");
    assert_pattern("^(?!\\$)", "order-1", "$system");
    assert_pattern("^(?!\\$)", "", "$");
    assert_pattern("^(?!\\$)(?!Stored$).+", "Stored-1", "Stored");
    assert_pattern("^(?!\\$)(?!Stored$).+", "x$", "$x");
    assert_pattern("^(?!\\$|a|b)c", "cab", "ab");
    assert_pattern("^(?!(a|b)[^])]\\))", "a))", "ax)");
    assert_pattern("^(?![]a])", "b", "]");
    assert_pattern("^(?!a)(b|c)$", "c", "a");
    assert_pattern("^(?!)a", NULL, "a");
    assert_pattern("^(?!a)", "ba", "ab");
}

/* Characters, not the bytes of which they are made. */
static void test_patterns_of_characters(void **state)
{
    (void)state;
    assert_pattern("m[\u00fcu]ller", "m\u00fcller", "moller");
    assert_pattern("m[\u00fcu]ller", "muller", "m\u00f6ller");
    assert_pattern("[\u00e4]", "\u00e4", "\u00f6");
    assert_pattern("^[\u00e4-\u00fc]+$", "\u00f6\u00fc", "\u00fd");
    assert_pattern("^[^\u20ac]$", "\u20ad", "\u20ac");
    assert_pattern("^[\u20a0-\u20ff]$", "\u20ac", "\u2100");
    assert_pattern("^[\u0430-\u044f\u0410-\u042f\u0451\u0401]+$", "\u0415\u0436\u0451", "\u0450");
    assert_pattern("^[\u0400-\u0402\u0408\u0404-\u0409\u0403]+$", "\u0400\u0403\u0409", "\u040a");
    assert_pattern("^[^\u0400\u0404\u0402]+$", "\u0401\u0403\u0405", "\u0402");
    assert_pattern("^[a\u20ac-]+$", "-\u20aca", "\u20ad");
    assert_pattern("^\u00e4+$", "\u00e4\u00e4", "\u00e4\u00f6");
    assert_pattern("^x\u00e4?$", "x", "x\u00f6");
    assert_pattern("^\u00e4{2}$", "\u00e4\u00e4", "\u00e4");
    assert_pattern("^.{3}$", "a\u20ac\U0001f600", "\u00e4");
    assert_pattern("^\\W$", "\u20ac", "\u20ac\u20ac");
    assert_pattern("^[\\W]$", "\u20ac", "a");
    assert_pattern("^[^\\W]$", "a", "\u20ac");
    assert_pattern("^[\\d\u20ac]$", "\u20ac", "\u20ad");
    assert_pattern("^\\\u20ac$", "\u20ac", "\u20ad");
    assert_pattern("^\\xe4$", "\u00e4", "\xe4");
    assert_pattern("^(?!\u00e4)", "\u00f6", "\u00e4");
    /* What is no UTF-8 is taken byte by byte. */
    assert_pattern("^\xff.$", "\xff\xfe", "\xfe\xfe");
    assert_pattern("^..$", "\xc3x", "\xc3\xa4");
    assert_pattern("^.{3}$", "\xed\xa0\x80", "\xf4\x8f\xbf\xbf");
    assert_pattern("^.{2}$", "\xc0\x80", "\xc2\x80");
}

static void test_bad_patterns(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "(",      ")",          "a)",    "(a",     "*",     "a**b", "+a",    "[",
        "[a",     "[b-a]",      "\\",    "\\q",    "\\1",   "a{",   "a{1",   "a{2,1}",
        "a{x}",   "(?=a)",      "(?i)a", "\\x4",   "|*",    "(*)",  "^(?!a", "^(?!a)b|c",
        "^(?!*)", "^(?!(?!a))", "(?!a)", "a(?!b)", "^(?![)"};
    struct pattern *pattern;
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (pattern_new(slice_of_string(bad[i]), &pattern) != KVS_ERR_INVALID_ARGUMENT)
            fail_msg("/%s/ is taken", bad[i]);
    }
    assert_int_equal(pattern_new(S("a{1001}"), &pattern), KVS_ERR_TOO_LARGE);
    assert_int_equal(pattern_new(S("((a{100}){100}){100}"), &pattern), KVS_ERR_TOO_LARGE);
    assert_int_equal(pattern_new(S("^(?!a)(?!b)(?!c)(?!d)(?!e)(?!f)(?!g)(?!h)(?!i)"), &pattern),
                     KVS_ERR_TOO_LARGE);
    assert_int_equal(pattern_new(S("^(?!a{500})b{500}"), &pattern), 0);
    pattern_free(pattern);
    assert_int_equal(pattern_new(S("^(?!a{500})(?!b{500})c{500}"), &pattern), KVS_ERR_TOO_LARGE);
    char deep[100];
    memset(deep, '(', sizeof deep);
    assert_int_equal(pattern_new(slice_make(deep, sizeof deep), &pattern), KVS_ERR_TOO_LARGE);
}

/* What takes others for ever. */
static void test_hostile_pattern(void **state)
{
    (void)state;
    char text[4001];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_pattern("^(a+)+$", text, NULL);
    assert_pattern("^(a|a)*b$", NULL, text);
    assert_pattern("(x+x+)+y", NULL, text);
    struct pattern *pattern;
    uint64_t steps = 0;
    assert_int_equal(pattern_new(S("(.*){50}x"), &pattern), 0);
    assert_false(pattern_matches(pattern, slice_of_string(text), &steps));
    assert_in_range(steps, 150 * sizeof text, 3 * 160 * sizeof text); /* it has some 150 steps */
    pattern_free(pattern);
}

static struct block_builder block_of_two(void)
{
    struct block_builder builder = {0};
    struct stream_new_event event = {.id = {1, 2, 3},
                                     .is_json = true,
                                     .type = S("type"),
                                     .data = S("data"),
                                     .metadata = S("metadata")};
    uint32_t a;
    uint32_t b;
    assert_int_equal(block_add_stream(&builder, 7, S("first"), &a), 0);
    assert_int_equal(block_add(&builder, a, 3, 100, 5000, &event), 0);
    assert_int_equal(block_add_stream(&builder, 8, S("second"), &b), 0);
    event.is_json = false;
    assert_int_equal(block_add(&builder, b, INT64_MAX, 102, 6000, &event), 0);
    return builder;
}

static void test_block(void **state)
{
    (void)state;
    struct block_builder builder = block_of_two();
    struct stream_record record;
    assert_int_equal(block_builder_event(&builder, 101, &record), KVS_ERR_NOT_FOUND);
    assert_int_equal(block_builder_event(&builder, 102, &record), 0);
    assert_slice_equal(record.stream, "second");
    assert_int_equal(block_finish(&builder), 0);
    struct block block;
    uint64_t id;
    struct log_key key = log_key_make(100);
    assert_int_equal(block_parse(slice_make(key.bytes, 8), buf_slice(&builder.bytes), &block), 0);
    assert_int_equal(block.count, 2);
    assert_int_equal(block_seek(&block, 1), 0);
    assert_int_equal(block_seek(&block, 101), 1);
    assert_int_equal(block_seek(&block, 103), 2);
    assert_int_equal(block_last_position(&block), 102);
    assert_int_equal(block_event(&block, 0, &record, &id), 0);
    assert_int_equal(id, 7);
    assert_slice_equal(record.stream, "first");
    assert_int_equal(record.number, 3);
    assert_int_equal(record.position, 100);
    assert_int_equal(record.created_100ns, 5000);
    assert_true(record.is_json);
    assert_slice_equal(record.type, "type");
    assert_slice_equal(record.data, "data");
    assert_slice_equal(record.metadata, "metadata");
    assert_int_equal(block_event(&block, 1, &record, &id), 0);
    assert_true(record.number == INT64_MAX && !record.is_json && id == 8);
    block_builder_deinit(&builder);
}

/* Any byte may be wrong: it is told, or gives other values, and nothing else happens. */
static void test_damaged_blocks(void **state)
{
    (void)state;
    struct block_builder builder = block_of_two();
    assert_int_equal(block_finish(&builder), 0);
    struct log_key key = log_key_make(100);
    for (size_t size = 0; size < builder.bytes.size; size++) {
        struct block block;
        assert_int_equal(
            block_parse(slice_make(key.bytes, 8), slice_make(builder.bytes.data, size), &block),
            KVS_ERR_CORRUPTION);
    }
    for (size_t i = 0; i < builder.bytes.size; i++) {
        struct block block;
        builder.bytes.data[i] ^= 0xff;
        if (block_parse(slice_make(key.bytes, 8), buf_slice(&builder.bytes), &block) == 0) {
            for (uint32_t k = 0; k < block.count; k++) {
                struct stream_record record;
                uint64_t id;
                (void)block_event(&block, k, &record, &id);
            }
        }
        builder.bytes.data[i] ^= 0xff;
    }
    block_builder_deinit(&builder);
}

static void test_runs(void **state)
{
    (void)state;
    static const int64_t positions[] = {5, 6, 7, 300, 301, 100000};
    struct run_builder builder = {.first_number = 9};
    struct buf value = BUF_INIT;
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(run_add(&builder, positions[i]), 0);
    assert_true(builder.listed);
    assert_int_equal(run_encode(&builder, &value), 0);
    struct index_key key = index_key_make(4, 9);
    struct run run;
    assert_int_equal(run_parse(slice_make(key.bytes, 16), buf_slice(&value), &run), 0);
    assert_int_equal(run.stream_id, 4);
    assert_int_equal(run_last_number(&run), 14);
    struct run_walk walk;
    run_walk_begin(&walk, &run);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(walk.position, positions[i]);
        assert_true(run_walk_next(&walk));
    }
    for (size_t size = 0; size < value.size; size++) {
        kvs_slice part = slice_make(value.data, size);
        if (run_parse(slice_make(key.bytes, 16), part, &run) != 0)
            continue;
        run_walk_begin(&walk, &run);
        bool whole = true;
        while (whole && walk.at < run.count)
            whole = run_walk_next(&walk);
        assert_false(whole);
    }
    buf_deinit(&builder.deltas);
    buf_deinit(&value);
}

static void test_run_bounds(void **state)
{
    (void)state;
    struct run_builder consecutive = {.first_number = 0};
    struct run_builder listed = {.first_number = 0};
    for (int64_t i = 0; i < 5000; i++)
        assert_int_equal(run_add(&consecutive, 10 + i), 0);
    assert_int_equal(run_add(&consecutive, 100000), 1);
    assert_false(consecutive.listed);
    for (int64_t i = 0; i < RUN_LISTED_COUNT_MAX; i++)
        assert_int_equal(run_add(&listed, 10 + 2 * i), 0);
    assert_int_equal(run_add(&listed, 100000), 1);
    buf_deinit(&listed.deltas);
}

/* A run that is taken up again at random places is the run that was built at once. */
static void test_run_is_resumed(void **state)
{
    (void)state;
    struct rand rand = rand_seed(20261126);
    for (unsigned round = 0; round < 200; round++) {
        struct run_builder whole = {.first_number = 7}, part = {.first_number = 7};
        struct run_tail tail;
        int64_t position = 100;
        unsigned gaps = (unsigned)(round % 4) * 20; /* per cent */
        for (unsigned i = 0; i < 60; i++) {
            position += rand_below(&rand, 100) < gaps ? 1 + (int64_t)rand_below(&rand, 100) : 1;
            assert_int_equal(run_add(&whole, position), 0);
            if (i > 0 && rand_below(&rand, 3) == 0) {
                if (rand_below(&rand, 2) == 0) {
                    run_tail_keep(&tail, &part);
                } else {
                    struct buf value = BUF_INIT;
                    struct index_key key = index_key_make(3, 7);
                    struct run run;
                    assert_int_equal(run_encode(&part, &value), 0);
                    assert_int_equal(run_parse(slice_make(key.bytes, 16), buf_slice(&value), &run),
                                     0);
                    assert_int_equal(run_tail_load(&tail, &run), 0);
                    buf_deinit(&value);
                }
                if (run_tail_fits(&tail, 7 + (int64_t)i, position)) {
                    buf_deinit(&part.deltas);
                    part = (struct run_builder){.first_number = 7};
                    assert_int_equal(run_tail_resume(&tail, &part), 0);
                } else {
                    assert_true(part.deltas.size >= RUN_TAIL_DELTAS_MAX);
                }
                assert_false(run_tail_fits(&tail, 8 + (int64_t)i, position));
            }
            assert_int_equal(run_add(&part, position), 0);
        }
        assert_int_equal(part.count, whole.count);
        assert_int_equal(part.listed, whole.listed);
        assert_int_equal(part.last_position, whole.last_position);
        assert_true(slice_equal(buf_slice(&part.deltas), buf_slice(&whole.deltas)));
        buf_deinit(&part.deltas);
        buf_deinit(&whole.deltas);
    }
}

/* What has grown enough is left alone; so is what is damaged. */
static void test_run_tail_bounds(void **state)
{
    (void)state;
    struct run_tail tail;
    struct run_builder row = {.first_number = 0};
    for (int64_t i = 0; i < RUN_TAIL_COUNT_MAX; i++)
        assert_int_equal(run_add(&row, 10 + i), 0);
    run_tail_keep(&tail, &row);
    assert_false(run_tail_fits(&tail, RUN_TAIL_COUNT_MAX, 10 + RUN_TAIL_COUNT_MAX));
    row.count--;
    row.last_position--;
    run_tail_keep(&tail, &row);
    assert_true(run_tail_fits(&tail, RUN_TAIL_COUNT_MAX - 1, 9 + RUN_TAIL_COUNT_MAX));
    assert_false(run_tail_fits(&tail, RUN_TAIL_COUNT_MAX - 1, 10 + RUN_TAIL_COUNT_MAX));
    struct run_builder tombstone = {.first_number = STREAM_NUMBER_DELETED};
    assert_int_equal(run_add(&tombstone, 10), 0);
    run_tail_keep(&tail, &tombstone);
    assert_int_equal(tail.count, 0);
    struct run run = {.stream_id = 1,
                      .count = 3,
                      .listed = true,
                      .first_position = 5,
                      .deltas = slice_of_string("\1\1\1")};
    assert_int_equal(run_tail_load(&tail, &run), KVS_ERR_CORRUPTION); /* one too many */
    run.count = 5;
    assert_int_equal(run_tail_load(&tail, &run), KVS_ERR_CORRUPTION); /* one too few */
    run.count = 4;
    assert_int_equal(run_tail_load(&tail, &run), 0);
    assert_int_equal(tail.last_position, 8);
}

static void test_settings(void **state)
{
    (void)state;
    struct stream_settings settings;
    struct stream_settings parsed;
    struct buf acl = BUF_INIT;
    struct buf record = BUF_INIT;
    settings_init(&settings);
    settings.id = 5;
    settings.metadata_last = 3;
    assert_int_equal(
        settings_of_json(S("{\"$maxCount\":7,\"$maxAge\":8,\"$tb\":9,\"$cacheControl\":10,"
                           "\"$acl\":{\"$r\":[\"a\",\"bb\"],\"$w\":\"c\",\"$d\":[]}}"),
                         &settings, &acl),
        0);
    assert_int_equal(settings_encode(&settings, &record), 0);
    assert_int_equal(settings_parse(buf_slice(&record), &parsed), 0);
    assert_int_equal(parsed.id, 5);
    assert_int_equal(parsed.metadata_last, 3);
    assert_int_equal(parsed.max_count, 7);
    assert_int_equal(parsed.max_age_s, 8);
    assert_int_equal(parsed.truncate_before, 9);
    assert_int_equal(parsed.cache_control_s, 10);
    struct default_acls none = {0};
    struct stream_user bb = {.login = S("bb")};
    struct stream_user c = {.login = S("c")};
    assert_true(access_is_granted(&bb, S("x"), parsed.acl, &none, STREAM_RIGHT_READ));
    assert_false(access_is_granted(&c, S("x"), parsed.acl, &none, STREAM_RIGHT_READ));
    assert_true(access_is_granted(&c, S("x"), parsed.acl, &none, STREAM_RIGHT_WRITE));
    assert_false(access_is_granted(&c, S("x"), parsed.acl, &none, STREAM_RIGHT_DELETE));
    assert_true(access_is_granted(&c, S("x"), parsed.acl, &none, STREAM_RIGHT_META_READ));
    assert_false(access_is_granted(&c, S("$x"), parsed.acl, &none, STREAM_RIGHT_META_READ));
    for (size_t size = 0; size < record.size; size++) {
        if (size != 56) /* a record without rights */
            assert_int_equal(settings_parse(slice_make(record.data, size), &parsed),
                             KVS_ERR_CORRUPTION);
    }
    static const char *const odd[] = {
        "", "7", "[]", "{", "{\"$acl\":7}", "{\"$acl\":{\"$r\":7,\"$w\":[7]},\"$tb\":1.5}"};
    for (unsigned i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        assert_int_equal(settings_of_json(slice_of_string(odd[i]), &settings, &acl), 0);
        assert_int_equal(settings.truncate_before, 0);
        assert_true(access_is_granted(&c, S("x"), settings.acl, &none, STREAM_RIGHT_READ));
    }
    buf_deinit(&acl);
    buf_deinit(&record);
}

static void test_recent(void **state)
{
    (void)state;
    struct recent recent;
    uint8_t id[16] = {0};
    assert_int_equal(recent_init(&recent, 1), 0);
    for (uint32_t i = 0; i < RECENT_COUNT + 1000; i++) {
        put_u32(id, i);
        recent_add(&recent, 1 + i % 3, id, i, i + 1);
    }
    put_u32(id, 999);
    assert_null(recent_find(&recent, 1, id));
    put_u32(id, 1002);
    assert_non_null(recent_find(&recent, 1, id));
    assert_null(recent_find(&recent, 2, id));
    put_u32(id, RECENT_COUNT + 999);
    assert_int_equal(recent_find(&recent, 1 + (RECENT_COUNT + 999) % 3, id)->position,
                     RECENT_COUNT + 1000);
    /* The same id and stream, often: the newest is found, and adding stays quick. */
    for (uint32_t i = 0; i < 2 * RECENT_COUNT; i++)
        recent_add(&recent, 9, id, i, i + 1);
    assert_int_equal(recent_find(&recent, 9, id)->number, 2 * RECENT_COUNT - 1);
    recent_clear(&recent);
    assert_null(recent_find(&recent, 9, id));
    recent_deinit(&recent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),       cmocka_unit_test(test_patterns_of_characters),
        cmocka_unit_test(test_bad_patterns),   cmocka_unit_test(test_hostile_pattern),
        cmocka_unit_test(test_block),          cmocka_unit_test(test_damaged_blocks),
        cmocka_unit_test(test_runs),           cmocka_unit_test(test_run_bounds),
        cmocka_unit_test(test_run_is_resumed), cmocka_unit_test(test_run_tail_bounds),
        cmocka_unit_test(test_settings),       cmocka_unit_test(test_recent),
    };
    return cmocka_run_group_tests_name("stream-parts", tests, NULL, NULL);
}

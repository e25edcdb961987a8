/* cli/client/shell_words.c: quoting rules, open quotes, and the way back from any bytes. */
#include "cli/client/shell_words.h"

#include "base/rand.h"
#include "cli/client/encoding.h"
#include "seed.h"

#include <stdio.h>

#include "test.h"

/* The words of a line joined by '|'. */
static void assert_split(const char *line, const char *joined)
{
    struct shell_words words;
    struct buf text = BUF_INIT;
    assert_int_equal(shell_words_split(&words, slice_of_string(line)), SHELL_SPLIT_OK);
    for (size_t i = 0; i < words.count; i++) {
        if (i > 0)
            buf_append_u8(&text, '|');
        buf_append_slice(&text, words.words[i]);
        assert_int_equal(words.words[i].data[words.words[i].size], 0);
    }
    buf_append_u8(&text, 0);
    assert_string_equal((const char *)text.data, joined);
    buf_deinit(&text);
    shell_words_deinit(&words);
}

static void assert_outcome(const char *line, enum shell_split outcome)
{
    struct shell_words words;
    assert_int_equal(shell_words_split(&words, slice_of_string(line)), outcome);
    shell_words_deinit(&words);
}

static void test_quoting(void **state)
{
    (void)state;
    assert_split("", "");
    assert_split("  \t ", "");
    assert_split("set key value", "set|key|value");
    assert_split("  set   key\tvalue \n", "set|key|value");
    assert_split("set k \"two words\"", "set|k|two words");
    assert_split("set k 'it''s \\n'", "set|k|its \\n");
    assert_split("a\\ b c\\\"d", "a b|c\"d");
    assert_split("x\"y z\"'w v'u", "xy zw vu");
    assert_split("\"\" ''", "|");
    assert_split("\"\\x41\\t\\\"\\\\\"", "A\t\"\\");
    assert_split("get k # the rest", "get|k");
    assert_split("get k#1", "get|k#1");
    assert_split("# all", "");
    assert_split("\"a\nb\"", "a\nb");
}

static void test_open_lines_and_bad_escapes(void **state)
{
    (void)state;
    assert_outcome("set k \"open", SHELL_SPLIT_OPEN);
    assert_outcome("set k 'open", SHELL_SPLIT_OPEN);
    assert_outcome("set k open\\", SHELL_SPLIT_OPEN);
    assert_outcome("set k \"open\\", SHELL_SPLIT_OPEN);
    assert_outcome("set k \"open\\x4", SHELL_SPLIT_OPEN);
    assert_outcome("set k \"\\q\"", SHELL_SPLIT_ESCAPE);
    assert_outcome("set k \"\\xzz\"", SHELL_SPLIT_ESCAPE);
}

static void test_the_word_at_the_cursor(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        size_t count, last_begin;
    } rows[] = {{"", 0, 0},       {"ge", 1, 0},          {"get ", 1, 4},
                {"get us", 2, 4}, {"get \"us er", 2, 4}, {"get a  ", 2, 7}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct shell_words words;
        shell_words_split(&words, slice_of_string(rows[i].line));
        assert_int_equal(words.count, rows[i].count);
        assert_int_equal(words.last_begin, rows[i].last_begin);
        shell_words_deinit(&words);
    }
}

static void test_any_bytes_can_be_written_as_one_word(void **state)
{
    (void)state;
    struct rand rand = rand_seed(test_seed());
    for (int i = 0; i < 2000; i++) {
        uint8_t bytes[48];
        size_t size = rand_below(&rand, sizeof bytes);
        for (size_t j = 0; j < size; j++)
            bytes[j] = (uint8_t)(rand_u64(&rand) >> (i % 2 == 0 ? 56 : 58));
        struct buf line = BUF_INIT;
        struct shell_words words;
        assert_int_equal(shell_word_append(&line, slice_make(bytes, size)), 0);
        assert_null(memchr(line.data, ' ', line.size));
        assert_int_equal(shell_words_split(&words, buf_slice(&line)), SHELL_SPLIT_OK);
        assert_int_equal(words.count, 1);
        assert_int_equal(words.words[0].size, size);
        assert_memory_equal(words.words[0].data, bytes, size);
        shell_words_deinit(&words);
        /* And any garbage is split without harm. */
        shell_words_split(&words, slice_make(bytes, size));
        shell_words_deinit(&words);
        buf_deinit(&line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quoting),
        cmocka_unit_test(test_open_lines_and_bad_escapes),
        cmocka_unit_test(test_the_word_at_the_cursor),
        cmocka_unit_test(test_any_bytes_can_be_written_as_one_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

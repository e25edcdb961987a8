/* tests/unit/base/test_log_lines.c: what lines of the log show of the bytes of others, and where
 * they go. */
#include "base/log.h"
#include "test.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What the line of a message says behind its level; it lives until the next call. */
static const char *logged(const char *message)
{
    static char text[2000];
    int pipe_ends[2];
    assert_int_equal(pipe(pipe_ends), 0);
    int before = dup(STDERR_FILENO);
    assert_true(before >= 0 && dup2(pipe_ends[1], STDERR_FILENO) >= 0);
    log_warn("%s", message);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    ssize_t size = read(pipe_ends[0], text, sizeof text - 1);
    close(before);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    assert_true(size > 0 && text[size - 1] == '\n');
    text[size - 1] = '\0';
    const char *level = strstr(text, " warn ");
    assert_non_null(level);
    return level + 6;
}

static void test_texts_of_others(void **state)
{
    (void)state;
    assert_string_equal(logged("all is well: 5% ~"), "all is well: 5% ~");
    assert_string_equal(logged("gr\xc3\xb6\xc3\x9f er \xe2\x82\xac \xf0\x9f\x98\x80"),
                        "gr\xc3\xb6\xc3\x9f er \xe2\x82\xac \xf0\x9f\x98\x80");
    assert_string_equal(logged("a\nb\rc\td"), "a?b?c?d");
    assert_string_equal(logged("\x1b[2J\x7f\x01"), "?[2J??");
    assert_string_equal(logged("\xc2\x9b"
                               "31m \xc2\xa0"),
                        "??31m \xc2\xa0");
    assert_string_equal(logged("\xff\xc3z\x80\xe2\x82"), "??z???");
}

static void test_long_messages(void **state)
{
    (void)state;
    char message[3001];
    for (unsigned i = 0; i < 3; i++) { /* cut in the middle of a character, or behind it */
        memset(message, 'x', i);
        for (size_t at = i; at + 3 < sizeof message; at += 3)
            memcpy(message + at, "\xe2\x82\xac", 4);
        const char *line = logged(message);
        size_t size = strlen(line);
        assert_in_range(size, 900, 1023);
        size_t whole = (size - i) / 3 * 3 + i;
        assert_memory_equal(line, message, whole);
        assert_memory_equal(line + whole, "??", size - whole);
    }
}

struct taken {
    enum kvs_log_level level;
    unsigned count;
    char text[2000];
};

static void take(enum kvs_log_level level, const char *text, void *arg)
{
    struct taken *taken = arg;
    taken->level = level;
    taken->count++;
    snprintf(taken->text, sizeof taken->text, "%s", text);
}

static void test_lines_for_a_function(void **state)
{
    (void)state;
    struct taken taken = {.count = 0};
    kvs_log_set(KVS_LOG_INFO, take, &taken);
    log_debug("below the level");
    assert_int_equal(taken.count, 0);
    log_info("%d keys\n", 7);
    assert_int_equal(taken.level, KVS_LOG_INFO);
    assert_string_equal(taken.text, "7 keys?");
    char message[3000];
    memset(message, 'x', sizeof message);
    message[sizeof message - 1] = '\0';
    log_error("%s", message);
    assert_int_equal(taken.level, KVS_LOG_ERROR);
    assert_in_range(strlen(taken.text), 900, 1023);
    assert_int_equal(strspn(taken.text, "x"), strlen(taken.text));
    kvs_log_set(KVS_LOG_SILENT, take, &taken);
    log_error("to nobody");
    assert_int_equal(taken.count, 2);
    kvs_log_set(KVS_LOG_WARN, NULL, NULL);
    assert_string_equal(logged("to standard error"), "to standard error");
    assert_int_equal(taken.count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_of_others),
        cmocka_unit_test(test_long_messages),
        cmocka_unit_test(test_lines_for_a_function),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}

/* cli/arguments.c: words into values, what is refused and how, help from the same rows. */
#include "cli/arguments.h"

#include <kvs/error.h>

#include <stdlib.h>

#include "test.h"

struct values {
    bool flag, other;
    const char *text, *address;
    kvs_slice bytes;
    uint64_t number, size, ms;
    double real;
    unsigned choice;
};

#define ROW(n, l, k, f) .name = n, .letter = l, .kind = k, .offset = offsetof(struct values, f)

static const char *const colours[] = {"red", "green", NULL};
static const struct arguments_option options[] = {
    {ROW("flag", 'f', ARGUMENTS_FLAG, flag), .text = "a flag"},
    {ROW("text", 't', ARGUMENTS_STRING, text), .operand = "TEXT", .text = "a text"},
    {ROW("bytes", 'b', ARGUMENTS_BYTES, bytes), .operand = "KEY", .text = "bytes"},
    {ROW("number", 'n', ARGUMENTS_NUMBER, number), .operand = "N", .min = 1, .max = 10,
     .text = "a number"},
    {ROW("size", 0, ARGUMENTS_SIZE, size), .operand = "SIZE", .text = "a size"},
    {ROW("ttl", 0, ARGUMENTS_SECONDS, ms), .operand = "S", .min = 1, .max = 100000, .text = "time"},
    {ROW("real", 0, ARGUMENTS_REAL, real), .operand = "X", .text = "a real"},
    {ROW("colour", 'c', ARGUMENTS_CHOICE, choice), .choices = colours, .text = "a colour"},
    {.name = NULL},
};
static const struct arguments_option common[] = {
    {ROW("other", 'o', ARGUMENTS_FLAG, other), .text = "of every command"},
    {ROW("addr", 'a', ARGUMENTS_ADDRESS, address), .operand = "HOST:PORT", .text = "where"},
    {.name = NULL},
};
static const struct arguments_command commands[] = {
    {.name = "scan",
     .operands = "A [B]",
     .operands_min = 1,
     .operands_max = 2,
     .summary = "scans",
     .description = "Scans it.",
     .examples = "  demo scan x",
     .options = options},
    {.name = "count", .operands = "", .summary = "counts", .description = "Counts it."},
    {.name = NULL},
};
static const struct arguments_program program = {
    .name = "demo", .summary = "Shows.", .commands = commands, .common = common};

static char message[ARGUMENTS_MESSAGE_SIZE];
static kvs_slice words[16];
static size_t operands;

/* Parses the words of a literal, blank-separated line for "scan". */
static int parse(const char *line, struct values *values)
{
    static char copy[512];
    size_t count = 0;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
        words[count++] = slice_of_string(word);
    message[0] = '\0';
    return arguments_parse(&program, commands, words, count, values, &operands, message);
}

static void assert_refused(const char *line, const char *why)
{
    struct values values = {0};
    assert_int_equal(parse(line, &values), KVS_ERR_INVALID_ARGUMENT);
    assert_string_equal(message, why);
}

static void test_every_kind_of_value(void **state)
{
    (void)state;
    struct values v = {0};
    assert_int_equal(parse("one --flag -t hello --bytes= -n7 --size=64k --ttl 1.5 --real 2.5e3 "
                           "--colour green two --addr [::1]:4000",
                           &v),
                     0);
    assert_int_equal(operands, 2);
    assert_slice_equal(words[0], "one");
    assert_slice_equal(words[1], "two");
    assert_true(v.flag);
    assert_false(v.other);
    assert_string_equal(v.text, "hello");
    assert_non_null(v.bytes.data);
    assert_int_equal(v.bytes.size, 0);
    assert_int_equal(v.number, 7);
    assert_int_equal(v.size, 65536);
    assert_int_equal(v.ms, 1500);
    assert_true(v.real > 2499 && v.real < 2501);
    assert_int_equal(v.choice, 1);
    assert_string_equal(v.address, "[::1]:4000");
}

static void test_dashes(void **state)
{
    (void)state;
    struct values v = {0};
    assert_int_equal(parse("-fo - -- --flag", &v), 0);
    assert_true(v.flag && v.other);
    assert_int_equal(operands, 2);
    assert_slice_equal(words[0], "-");
    assert_slice_equal(words[1], "--flag");
    assert_int_equal(parse("-n 3 -n 4", &v), 0);
    assert_int_equal(v.number, 4);
}

static void test_refusals(void **state)
{
    (void)state;
    assert_refused("--flog", "unknown option --flog, did you mean --flag?");
    assert_refused("--weather", "unknown option --weather");
    assert_refused("-x", "unknown option -x, write -- before an argument that begins with a dash");
    assert_refused("--flag=yes", "option --flag takes no value");
    assert_refused("--number", "option --number needs a value");
    assert_refused("-n", "option -n needs a value");
    assert_refused("-n 11", "option --number: '11' is not a number from 1 to 10");
    assert_refused("-n 0", "option --number: '0' is not a number from 1 to 10");
    assert_refused("-n -1", "option --number: '-1' is not a number from 1 to 10");
    assert_refused("-n 1x", "option --number: '1x' is not a number from 1 to 10");
    assert_refused("-n 99999999999999999999999",
                   "option --number: '99999999999999999999999' is not a number from 1 to 10");
    assert_refused("--size 99999999999g",
                   "option --size: '99999999999g' is not a size in bytes of at least 0");
    assert_refused("--ttl 1.", "option --ttl: '1.' is not a number of seconds from 0.001 to 100");
    assert_refused("--ttl 0.0004",
                   "option --ttl: '0.0004' is not a number of seconds from 0.001 to 100");
    assert_refused("--real nan", "option --real: 'nan' is not a number of at least 0");
    assert_refused("--real -1", "option --real: '-1' is not a number of at least 0");
    assert_refused("--colour blue", "option --colour: 'blue' is not one of red, green");
    assert_refused("--text \x1b[2J\x1b --flog", "unknown option --flog, did you mean --flag?");
    assert_refused("--\x1b[2J", "unknown option --?[2J");
}

static void test_zero_bytes_only_where_bytes_are_meant(void **state)
{
    (void)state;
    struct values v = {0};
    kvs_slice line[] = {slice_of_string("--bytes"), slice_make("a\0b", 3)};
    assert_int_equal(arguments_parse(&program, commands, line, 2, &v, &operands, message), 0);
    assert_int_equal(v.bytes.size, 3);
    kvs_slice bad[] = {slice_of_string("--text"), slice_make("a\0b", 3)};
    assert_int_equal(arguments_parse(&program, commands, bad, 2, &v, &operands, message),
                     KVS_ERR_INVALID_ARGUMENT);
}

static void test_common_options_before_the_command(void **state)
{
    (void)state;
    struct values v = {0};
    kvs_slice line[] = {slice_of_string("--addr"), slice_of_string("1.2.3.4:5"),
                        slice_of_string("scan"), slice_of_string("--flag")};
    assert_int_equal(arguments_parse(&program, NULL, line, 4, &v, &operands, message), 0);
    assert_int_equal(operands, 2);
    assert_slice_equal(line[0], "scan");
    assert_slice_equal(line[1], "--flag");
    assert_string_equal(v.address, "1.2.3.4:5");
}

static void test_operand_counts(void **state)
{
    (void)state;
    kvs_slice three[] = {slice_of_string("a"), slice_of_string("b"), slice_of_string("c")};
    assert_int_equal(arguments_check_operands(commands, three, 2, message), 0);
    assert_int_equal(arguments_check_operands(commands, three, 0, message),
                     KVS_ERR_INVALID_ARGUMENT);
    assert_string_equal(message, "an argument is missing, it takes: A [B]");
    assert_int_equal(arguments_check_operands(commands, three, 3, message),
                     KVS_ERR_INVALID_ARGUMENT);
    assert_string_equal(message, "unexpected argument 'c', it takes: A [B]");
    assert_int_equal(arguments_check_operands(commands + 1, three, 1, message),
                     KVS_ERR_INVALID_ARGUMENT);
    assert_string_equal(message, "unexpected argument 'a', it takes: no arguments");
}

static void test_commands_and_near_names(void **state)
{
    (void)state;
    const char *near = "untouched";
    assert_ptr_equal(arguments_find_command(&program, slice_of_string("count"), &near),
                     &commands[1]);
    assert_null(arguments_find_command(&program, slice_of_string("scna"), &near));
    assert_string_equal(near, "scan");
    assert_null(arguments_find_command(&program, slice_of_string("COUNT"), &near));
    assert_string_equal(near, "count");
    assert_null(arguments_find_command(&program, slice_of_string("weather"), &near));
    assert_null(near);
}

static void test_help_shows_the_rows(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    arguments_print_program(&program, file);
    arguments_print_command(&program, commands, file);
    fclose(file);
    assert_non_null(strstr(text, "  scan A [B]"));
    assert_non_null(strstr(text, "usage: demo scan A [B] [options]\n\nScans it.\n"));
    for (const struct arguments_option *row = options; row->name != NULL; row++)
        assert_non_null(strstr(text, row->name));
    assert_non_null(strstr(text, "-c, --colour red|green"));
    assert_non_null(strstr(text, "-a, --addr HOST:PORT"));
    assert_non_null(strstr(text, "Examples:\n  demo scan x\n"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_of_value),
        cmocka_unit_test(test_dashes),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_zero_bytes_only_where_bytes_are_meant),
        cmocka_unit_test(test_common_options_before_the_command),
        cmocka_unit_test(test_operand_counts),
        cmocka_unit_test(test_commands_and_near_names),
        cmocka_unit_test(test_help_shows_the_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

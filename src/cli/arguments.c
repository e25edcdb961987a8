/* cli/arguments.c: see cli/arguments.h. Straight code on the caller's thread; nothing is allocated.
 */
#include "cli/arguments.h"

#include "net/address.h"

#include <ctype.h>
#include <kvs/error.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define HELP_COLUMN 26
#define HELP_WIDTH 80
#define NEAR_NAME_SIZE_MAX 32
#define NEAR_DISTANCE_MAX 2
#define QUOTED_SIZE_MAX 40 /* of a word shown in a message */

struct parse {
    const struct arguments_program *program;
    const struct arguments_command *command;
    kvs_slice *words;
    size_t count;
    size_t next;
    const struct arguments_option *last; /* of this word, when its value was left out */
    void *values;
    char *message;
};

static int parse_long(struct parse *parse, kvs_slice word);
static int parse_letters(struct parse *parse, kvs_slice word);
static int option_take(struct parse *parse, const struct arguments_option *option, kvs_slice value);
static int option_set(struct parse *parse, const struct arguments_option *option, kvs_slice value);
static int fail_behind(char *message, const struct arguments_option *option, kvs_slice word);
static int fail(char *message, const char *format, ...) __attribute__((format(printf, 2, 3)));

int arguments_parse(const struct arguments_program *program,
                    const struct arguments_command *command, kvs_slice *words, size_t count,
                    void *values, size_t *ret_operands, char message[ARGUMENTS_MESSAGE_SIZE])
{
    struct parse parse = {program, command, words, count, 0, NULL, values, message};
    size_t operands = 0;
    bool options_ended = false;
    const struct arguments_option *before = NULL; /* stands before the word, without a value */
    while (parse.next < count) {
        kvs_slice word = words[parse.next++];
        int error = 0;
        parse.last = NULL;
        if (!options_ended && word.size == 2 && memcmp(word.data, "--", 2) == 0) {
            options_ended = true;
        } else if (!options_ended && word.size > 2 && memcmp(word.data, "--", 2) == 0) {
            error = parse_long(&parse, word);
        } else if (!options_ended && word.size > 1 && word.data[0] == '-') {
            error = parse_letters(&parse, word);
        } else if (command == NULL) {
            size_t left = count - parse.next + 1;
            memmove(words, words + parse.next - 1, left * sizeof *words);
            *ret_operands = left;
            return 0;
        } else if (before != NULL && operands >= command->operands_max) {
            return fail_behind(message, before, word);
        } else {
            words[operands++] = word;
        }
        if (error != 0)
            return error;
        before = parse.last;
    }
    *ret_operands = operands;
    return 0;
}

/* A word as a message shows it: short, and nothing that could steer a terminal. */
static const char *shown(kvs_slice word, char text[QUOTED_SIZE_MAX + 4])
{
    size_t size = word.size < QUOTED_SIZE_MAX ? word.size : QUOTED_SIZE_MAX;
    for (size_t i = 0; i < size; i++)
        text[i] = word.data[i] < 0x20 || word.data[i] == 0x7f ? '?' : (char)word.data[i];
    memcpy(text + size, size < word.size ? "..." : "", size < word.size ? 4 : 1);
    return text;
}

/* A value that may be left out: what stands behind the option is not taken for it. */
static int fail_behind(char *message, const struct arguments_option *option, kvs_slice word)
{
    char text[QUOTED_SIZE_MAX + 4];
    return fail(message, "unexpected argument '%s': a value of --%s is written --%s=%s",
                shown(word, text), option->name, option->name, option->operand);
}

int arguments_check_operands(const struct arguments_command *command, const kvs_slice *operands,
                             size_t count, char message[ARGUMENTS_MESSAGE_SIZE])
{
    char text[QUOTED_SIZE_MAX + 4];
    if (count < command->operands_min)
        return fail(message, "an argument is missing, it takes: %s", command->operands);
    if (count > command->operands_max)
        return fail(message, "unexpected argument '%s', it takes: %s",
                    shown(operands[command->operands_max], text),
                    command->operands[0] != '\0' ? command->operands : "no arguments");
    return 0;
}

/* --- options -------------------------------------------------------------------------------- */

static const struct arguments_option *option_by_name(const struct arguments_option *list,
                                                     kvs_slice name)
{
    for (; list != NULL && list->name != NULL; list++)
        if (slice_equal(slice_of_string(list->name), name))
            return list;
    return NULL;
}

static const struct arguments_option *option_by_letter(const struct arguments_option *list,
                                                       uint8_t letter)
{
    for (; list != NULL && list->name != NULL; list++)
        if (list->letter != 0 && (uint8_t)list->letter == letter)
            return list;
    return NULL;
}

/* Edits (insert, drop, change a letter, swap two neighbours) between two short names. */
static unsigned name_distance(kvs_slice a, const char *b)
{
    size_t b_size = strlen(b);
    if (a.size > NEAR_NAME_SIZE_MAX || b_size > NEAR_NAME_SIZE_MAX)
        return NEAR_NAME_SIZE_MAX;
    unsigned rows[NEAR_NAME_SIZE_MAX + 1][NEAR_NAME_SIZE_MAX + 1]; /* [i][j]: of i and j letters */
    for (size_t j = 0; j <= b_size; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= a.size; i++) {
        rows[i][0] = (unsigned)i;
        for (size_t j = 1; j <= b_size; j++) {
            unsigned change = rows[i - 1][j - 1] + (a.data[i - 1] != (uint8_t)b[j - 1]);
            unsigned drop = rows[i - 1][j] + 1, insert = rows[i][j - 1] + 1;
            unsigned least = change < drop ? change : drop;
            least = insert < least ? insert : least;
            if (i > 1 && j > 1 && a.data[i - 1] == (uint8_t)b[j - 2] &&
                a.data[i - 2] == (uint8_t)b[j - 1] && rows[i - 2][j - 2] + 1 < least)
                least = rows[i - 2][j - 2] + 1;
            rows[i][j] = least;
        }
    }
    return rows[a.size][b_size];
}

/* A short name is near to nearly everything: the shorter, the fewer edits. */
static bool name_is_near(kvs_slice typed, const char *name, unsigned *best)
{
    unsigned distance = name_distance(typed, name);
    if (distance >= *best || distance > NEAR_DISTANCE_MAX || distance * 2 > strlen(name))
        return false;
    *best = distance;
    return true;
}

static const char *option_near(const struct parse *parse, kvs_slice name)
{
    const struct arguments_option *lists[] = {
        parse->command != NULL ? parse->command->options : NULL, parse->program->common};
    const char *near = NULL;
    unsigned best = NEAR_DISTANCE_MAX + 1;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        for (const struct arguments_option *row = lists[i]; row != NULL && row->name != NULL; row++)
            if (name_is_near(name, row->name, &best))
                near = row->name;
    return near;
}

static int parse_long(struct parse *parse, kvs_slice word)
{
    char text[QUOTED_SIZE_MAX + 4];
    const uint8_t *equals = memchr(word.data, '=', word.size);
    kvs_slice name =
        slice_make(word.data + 2, (equals != NULL ? (size_t)(equals - word.data) : word.size) - 2);
    const struct arguments_option *option =
        option_by_name(parse->command != NULL ? parse->command->options : NULL, name);
    if (option == NULL)
        option = option_by_name(parse->program->common, name);
    if (option == NULL) {
        const char *near = option_near(parse, name);
        if (near != NULL)
            return fail(parse->message, "unknown option --%s, did you mean --%s?",
                        shown(name, text), near);
        return fail(parse->message, "unknown option --%s", shown(name, text));
    }
    if (option->kind == ARGUMENTS_FLAG) {
        if (equals != NULL)
            return fail(parse->message, "option --%s takes no value", option->name);
        return option_take(parse, option, slice_make(NULL, 0));
    }
    if (equals != NULL)
        return option_take(parse, option,
                           slice_make(equals + 1, word.size - (size_t)(equals + 1 - word.data)));
    if (option->kind == ARGUMENTS_OPTIONAL) {
        parse->last = option;
        return option_take(parse, option, slice_of_string(""));
    }
    if (parse->next == parse->count)
        return fail(parse->message, "option --%s needs a value", option->name);
    return option_take(parse, option, parse->words[parse->next++]);
}

static int parse_letters(struct parse *parse, kvs_slice word)
{
    for (size_t i = 1; i < word.size; i++) {
        const struct arguments_option *option =
            option_by_letter(parse->command != NULL ? parse->command->options : NULL, word.data[i]);
        if (option == NULL)
            option = option_by_letter(parse->program->common, word.data[i]);
        if (option == NULL) {
            char text[QUOTED_SIZE_MAX + 4];
            return fail(parse->message,
                        "unknown option %s, write -- before an argument that begins with a dash",
                        shown(word, text));
        }
        if (option->kind == ARGUMENTS_FLAG) {
            int error = option_take(parse, option, slice_make(NULL, 0));
            if (error != 0)
                return error;
            continue;
        }
        if (i + 1 < word.size)
            return option_take(parse, option, slice_make(word.data + i + 1, word.size - i - 1));
        if (parse->next == parse->count)
            return fail(parse->message, "option -%c needs a value", option->letter);
        return option_take(parse, option, parse->words[parse->next++]);
    }
    return 0;
}

/* --- values --------------------------------------------------------------------------------- */

static bool number_parse(const char **text, uint64_t *ret_number)
{
    const char *at = *text;
    uint64_t number = 0;
    if (*at < '0' || *at > '9')
        return false;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number))
            return false;
    *text = at;
    *ret_number = number;
    return true;
}

static bool size_parse(const char *text, uint64_t *ret_size)
{
    static const char units[] = "kmgt";
    uint64_t size;
    if (!number_parse(&text, &size))
        return false;
    const char *unit = *text != '\0' ? strchr(units, *text | 0x20) : NULL;
    if (unit != NULL) {
        unsigned shift = 10 * (unsigned)(unit - units + 1);
        if (size > UINT64_MAX >> shift)
            return false;
        size <<= shift;
        text++;
    }
    *ret_size = size;
    return *text == '\0';
}

/* "90", "0.25": seconds into milliseconds; digits beyond the third must be 0. */
static bool seconds_parse(const char *text, uint64_t *ret_ms)
{
    uint64_t seconds, ms;
    if (!number_parse(&text, &seconds) || __builtin_mul_overflow(seconds, 1000u, &ms))
        return false;
    if (*text == '.') {
        text++;
        if (*text == '\0')
            return false;
        for (uint64_t weight = 100; *text >= '0' && *text <= '9'; text++, weight /= 10) {
            if (weight == 0 && *text != '0')
                return false;
            if (__builtin_add_overflow(ms, weight * (uint64_t)(*text - '0'), &ms))
                return false;
        }
    }
    *ret_ms = ms;
    return *text == '\0';
}

static int number_take(const struct parse *parse, const struct arguments_option *option,
                       const char *text)
{
    uint64_t number = 0;
    uint64_t max = option->max != 0 ? option->max : UINT64_MAX;
    bool seconds = option->kind == ARGUMENTS_SECONDS;
    const char *at = text;
    bool ok;
    if (seconds)
        ok = seconds_parse(text, &number);
    else if (option->kind == ARGUMENTS_SIZE)
        ok = size_parse(text, &number);
    else
        ok = number_parse(&at, &number) && *at == '\0';
    if (!ok || number < option->min || number > max) {
        char shown_text[QUOTED_SIZE_MAX + 4];
        kvs_slice word = slice_of_string(text);
        if (seconds)
            return fail(parse->message,
                        "option --%s: '%s' is not a number of seconds from %.10g to %.10g",
                        option->name, shown(word, shown_text), (double)option->min / 1000,
                        (double)max / 1000);
        const char *noun = option->kind == ARGUMENTS_SIZE ? "size in bytes" : "number";
        if (option->max == 0)
            return fail(parse->message, "option --%s: '%s' is not a %s of at least %" PRIu64,
                        option->name, shown(word, shown_text), noun, option->min);
        return fail(parse->message, "option --%s: '%s' is not a %s from %" PRIu64 " to %" PRIu64,
                    option->name, shown(word, shown_text), noun, option->min, option->max);
    }
    memcpy((char *)parse->values + option->offset, &number, sizeof number);
    return 0;
}

static int real_take(const struct parse *parse, const struct arguments_option *option,
                     const char *text)
{
    char shown_text[QUOTED_SIZE_MAX + 4];
    char *end;
    double number = strtod(text, &end);
    bool plain = strspn(text, "0123456789.eE+-") == strlen(text); /* neither nan nor 0x10 */
    if (end == text || *end != '\0' || !plain || !(number >= 0) || number > 1e300)
        return fail(parse->message, "option --%s: '%s' is not a number of at least 0", option->name,
                    shown(slice_of_string(text), shown_text));
    memcpy((char *)parse->values + option->offset, &number, sizeof number);
    return 0;
}

static int choice_take(const struct parse *parse, const struct arguments_option *option,
                       const char *text)
{
    char list[160] = "";
    size_t size = 0;
    for (unsigned i = 0; option->choices[i] != NULL; i++) {
        if (strcmp(option->choices[i], text) == 0) {
            memcpy((char *)parse->values + option->offset, &i, sizeof i);
            return 0;
        }
        int wrote = snprintf(list + size, sizeof list - size, "%s%s", i > 0 ? ", " : "",
                             option->choices[i]);
        if (wrote > 0 && size + (size_t)wrote < sizeof list)
            size += (size_t)wrote;
    }
    char shown_text[QUOTED_SIZE_MAX + 4];
    return fail(parse->message, "option --%s: '%s' is not one of %s", option->name,
                shown(slice_of_string(text), shown_text), list);
}

static int option_take(struct parse *parse, const struct arguments_option *option, kvs_slice value)
{
    int error = option_set(parse, option, value);
    if (error == 0 && parse->program->taken != NULL)
        parse->program->taken(parse->values, option);
    return error;
}

static int option_set(struct parse *parse, const struct arguments_option *option, kvs_slice value)
{
    char shown_text[QUOTED_SIZE_MAX + 4];
    char *field = (char *)parse->values + option->offset;
    if (option->kind == ARGUMENTS_FLAG) {
        memcpy(field, &(bool){true}, sizeof(bool));
        return 0;
    }
    if (option->kind == ARGUMENTS_BYTES) {
        memcpy(field, &value, sizeof value);
        return 0;
    }
    const char *text = (const char *)value.data;
    if (strlen(text) != value.size)
        return fail(parse->message, "option --%s: zero bytes cannot be used here", option->name);
    switch (option->kind) {
    case ARGUMENTS_NUMBER:
    case ARGUMENTS_SIZE:
    case ARGUMENTS_SECONDS:
        return number_take(parse, option, text);
    case ARGUMENTS_REAL:
        return real_take(parse, option, text);
    case ARGUMENTS_CHOICE:
        return choice_take(parse, option, text);
    case ARGUMENTS_ADDRESS:
        if (!address_is_written(text))
            return fail(parse->message,
                        "option --%s: '%s' is not HOST:PORT, such as localhost:4000, "
                        "127.0.0.1:4000 or [::1]:4000",
                        option->name, shown(value, shown_text));
        break;
    default:
        break;
    }
    memcpy(field, &text, sizeof text);
    return 0;
}

/* --- commands and help ------------------------------------------------------------------------ */

static bool words_have(const char *words, kvs_slice word)
{
    for (const char *at = words; at != NULL && *at != '\0'; at += strspn(at, " ")) {
        size_t size = strcspn(at, " ");
        if (slice_equal(slice_make(at, size), word))
            return true;
        at += size;
    }
    return false;
}

/* As commands are written; what is too long for one is cut. */
static kvs_slice lowered(kvs_slice name, char text[NEAR_NAME_SIZE_MAX])
{
    size_t size = name.size < NEAR_NAME_SIZE_MAX ? name.size : NEAR_NAME_SIZE_MAX;
    for (size_t i = 0; i < size; i++)
        text[i] = (char)tolower(name.data[i]);
    return slice_make(text, size);
}

const struct arguments_command *arguments_find_command(const struct arguments_program *program,
                                                       kvs_slice name, const char **ret_near)
{
    char text[NEAR_NAME_SIZE_MAX];
    kvs_slice meant = lowered(name, text); /* GET, as people of redis write it */
    const char *near = NULL;
    unsigned best = NEAR_DISTANCE_MAX + 1;
    for (const struct arguments_command *row = program->commands; row->name != NULL; row++) {
        if (slice_equal(slice_of_string(row->name), name))
            return row;
        if (words_have(row->sought, meant)) {
            near = row->name;
            best = 0;
        }
        if (name_is_near(meant, row->name, &best))
            near = row->name;
    }
    if (ret_near != NULL)
        *ret_near = near;
    return NULL;
}

static void arguments_usage(const struct arguments_program *program,
                            const struct arguments_command *command, char *text, size_t size)
{
    snprintf(text, size, "usage: %s%s%s%s%s [options]", program->name,
             command->name[0] != '\0' ? " " : "", command->name,
             command->operands[0] != '\0' ? " " : "", command->operands);
}

/* Folds a text at blanks, `indent` columns from the left but for the first line; its own newlines
 * stay. */
static void print_folded(FILE *file, int indent, const char *text)
{
    for (bool first = true; *text != '\0'; first = false) {
        size_t room = HELP_WIDTH - (size_t)indent;
        size_t size = strcspn(text, "\n");
        if (size > room) {
            size = room;
            while (size > 0 && text[size] != ' ')
                size--;
            if (size == 0) /* a word longer than a line */
                size = strcspn(text, " \n");
        }
        fprintf(file, "%*s%.*s\n", first ? 0 : indent, "", (int)size, text);
        text += size;
        text += *text == ' ' || *text == '\n';
    }
}

static void print_row(FILE *file, const char *head, const char *text)
{
    int width = (int)strlen(head);
    if (width + 2 > HELP_COLUMN)
        fprintf(file, "  %s\n  %*s", head, HELP_COLUMN, "");
    else
        fprintf(file, "  %-*s", HELP_COLUMN, head);
    print_folded(file, HELP_COLUMN + 2, text);
}

static void print_options(FILE *file, const char *title, const struct arguments_option *row)
{
    if (row == NULL || row->name == NULL)
        return;
    fprintf(file, "\n%s:\n", title);
    for (; row->name != NULL; row++) {
        char head[128];
        size_t size = 4;
        if (row->letter != 0)
            snprintf(head, sizeof head, "-%c, ", row->letter);
        else
            memcpy(head, "    ", size);
        size += (size_t)snprintf(head + size, sizeof head - size, "--%s%s", row->name,
                                 row->kind == ARGUMENTS_FLAG       ? ""
                                 : row->kind == ARGUMENTS_OPTIONAL ? "[="
                                                                   : " ");
        if (row->kind != ARGUMENTS_CHOICE && row->operand != NULL)
            snprintf(head + size, sizeof head - size, "%s%s", row->operand,
                     row->kind == ARGUMENTS_OPTIONAL ? "]" : "");
        for (unsigned i = 0; row->kind == ARGUMENTS_CHOICE && row->choices[i] != NULL; i++) {
            int wrote = snprintf(head + size, sizeof head - size, "%s%s", i > 0 ? "|" : "",
                                 row->choices[i]);
            if (wrote < 0 || size + (size_t)wrote >= sizeof head)
                break;
            size += (size_t)wrote;
        }
        print_row(file, head, row->text);
    }
}

void arguments_print_command(const struct arguments_program *program,
                             const struct arguments_command *command, FILE *file)
{
    char usage[160];
    arguments_usage(program, command, usage, sizeof usage);
    fprintf(file, "%s\n\n", usage);
    print_folded(file, 0, command->description);
    print_options(file, "Options", command->options);
    print_options(file, command->name[0] != '\0' ? "Options of every command" : "Other options",
                  program->common);
    if (command->examples != NULL)
        fprintf(file, "\nExamples:\n%s\n", command->examples);
}

void arguments_print_program(const struct arguments_program *program, FILE *file)
{
    fprintf(file, "usage: %s COMMAND [arguments] [options]\n\n", program->name);
    print_folded(file, 0, program->summary);
    fprintf(file, "\nCommands:\n");
    for (const struct arguments_command *row = program->commands; row->name != NULL; row++) {
        char head[128];
        snprintf(head, sizeof head, "%s%s%s", row->name, row->operands[0] != '\0' ? " " : "",
                 row->operands);
        print_row(file, head, row->summary);
    }
    print_options(file, "Options of every command", program->common);
    if (program->description != NULL) {
        fputc('\n', file);
        print_folded(file, 0, program->description);
    }
}

static int fail(char *message, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(message, ARGUMENTS_MESSAGE_SIZE, format, args);
    va_end(args);
    return KVS_ERR_INVALID_ARGUMENT;
}

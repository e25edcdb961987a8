/*
 * cli/client/complete.c: completion in the shell; see cli/client/complete.h.
 *
 * Happy path: (1) the line up to the cursor is split; (2) the place of the last word says whether a
 * command, an option or a key is meant; (3) candidates are collected in order, keys by a scan of
 * the word's range with a short deadline; (4) what all have in common replaces the word, in the
 * shell's quoting; (5) when that adds nothing, the candidates are listed.
 * Failures: an unreachable or slow store gives no candidates, the terminal beeps. Main thread,
 * inside el_gets.
 */
#include "cli/client/complete.h"

#include "cli/client/encoding.h"
#include "cli/client/shell_words.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SHOWN_MAX 100
#define SCAN_TIMEOUT_MS 1000
#define COLUMNS_DEFAULT 80
#define COLUMN_GAP 2

/* Candidates in order; first and last are enough to know what all have in common. */
struct candidates {
    kvs_slice list[SHOWN_MAX];
    size_t count;
    bool more; /* there are others behind those listed; the last of all is `last` */
    kvs_slice last;
    struct call scan, scan_last; /* hold the keys */
    struct buf names;            /* holds the options, with their dashes */
};

static void add(struct candidates *found, kvs_slice word, kvs_slice prefix)
{
    if (word.size >= prefix.size && slice_equal(slice_make(word.data, prefix.size), prefix) &&
        found->count < SHOWN_MAX)
        found->list[found->count++] = word;
}

static int compare_words(const void *a, const void *b)
{
    return slice_compare(*(const kvs_slice *)a, *(const kvs_slice *)b);
}

static void find_commands(struct candidates *found, kvs_slice prefix, bool with_exit)
{
    for (const struct arguments_command *row = client_program.commands; row->name != NULL; row++)
        if (strcmp(row->name, "shell") != 0)
            add(found, slice_of_string(row->name), prefix);
    if (with_exit)
        add(found, slice_of_string("exit"), prefix);
}

static void find_options(struct candidates *found, const struct arguments_command *command,
                         kvs_slice prefix)
{
    const struct arguments_option *row = command->options;
    for (; row != NULL && row->name != NULL; row++)
        buf_printf(&found->names, "--%s%c", row->name, 0);
    buf_printf(&found->names, "--help%c", 0);
    for (size_t at = 0; at < found->names.size;) {
        kvs_slice name = slice_of_string((const char *)found->names.data + at);
        add(found, name, prefix);
        at += name.size + 1;
    }
}

static void find_keys(struct candidates *found, struct client *client, kvs_slice prefix)
{
    struct range range;
    client->options = client_options_default();
    client->options.prefix = prefix;
    if (range_from_options(client, &range) != 0)
        return;
    kvs_op *op = &found->scan.op;
    op->key = buf_slice(&range.start);
    op->end_key = buf_slice(&range.end);
    op->limit = SHOWN_MAX;
    op->flags = KVS_OP_FLAG_KEYS_ONLY;
    op->timeout_ms = SCAN_TIMEOUT_MS;
    if (call_run(client, &found->scan) == 0) {
        for (size_t i = 0; i < op->pairs_count; i++)
            add(found, op->pairs[i].key, slice_make(NULL, 0));
        found->more = op->more;
    }
    kvs_op *last = &found->scan_last.op;
    last->key = op->key;
    last->end_key = op->end_key;
    last->limit = 1;
    last->flags = KVS_OP_FLAG_KEYS_ONLY | KVS_OP_FLAG_REVERSE;
    last->timeout_ms = SCAN_TIMEOUT_MS;
    if (found->more && call_run(client, &found->scan_last) == 0 && last->pairs_count > 0)
        found->last = last->pairs[0].key;
    range_deinit(&range);
}

/* Is a key meant by the word behind `words`? The usage text of the command tells. */
static bool wants_key(const struct arguments_command *command, const kvs_slice *words, size_t count)
{
    kvs_slice before = words[count - 1];
    static const char *const key_options[] = {"--prefix", "--start", "--end", "-p", "-s", "-E"};
    for (size_t i = 0; i < sizeof key_options / sizeof *key_options; i++)
        if (slice_equal(before, slice_of_string(key_options[i])))
            return true;
    if (strcmp(command->operands, "KEY...") == 0)
        return true;
    return strncmp(command->operands, "KEY", 3) == 0 && count == 1;
}

/* Collects what the last word, or an empty one behind a blank, may become. */
static void find(struct candidates *found, struct client *client, const struct shell_words *words,
                 size_t place, kvs_slice prefix)
{
    if (place == 0) {
        find_commands(found, prefix, true);
        qsort(found->list, found->count, sizeof *found->list, compare_words);
        return;
    }
    const struct arguments_command *command =
        arguments_find_command(&client_program, words->words[0], NULL);
    if (command == NULL)
        return;
    if (prefix.size > 0 && prefix.data[0] == '-')
        find_options(found, command, prefix);
    else if (strcmp(command->name, "help") == 0)
        find_commands(found, prefix, false);
    else if (wants_key(command, words->words, place))
        find_keys(found, client, prefix);
    if (found->count > 0 && found->list[0].size > 0 && found->scan.op.pairs == NULL)
        qsort(found->list, found->count, sizeof *found->list, compare_words);
}

/* How many bytes all candidates share, whole characters. */
static size_t common_size(const struct candidates *found)
{
    kvs_slice first = found->list[0];
    kvs_slice last = found->more ? found->last : found->list[found->count - 1];
    size_t size = 0;
    while (size < first.size && size < last.size && first.data[size] == last.data[size])
        size++;
    while (size > 0 && size < first.size && (first.data[size] & 0xc0) == 0x80)
        size--;
    return size;
}

static void list(const struct candidates *found)
{
    struct winsize window;
    size_t columns = COLUMNS_DEFAULT, width = 1;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0)
        columns = window.ws_col;
    for (size_t i = 0; i < found->count; i++)
        width = found->list[i].size > width ? found->list[i].size : width;
    width += COLUMN_GAP;
    size_t per_line = width < columns ? columns / width : 1;
    putchar('\n');
    for (size_t i = 0; i < found->count; i++) {
        struct buf text = BUF_INIT;
        if (shell_word_append(&text, found->list[i]) == 0)
            printf("%-*.*s", (int)width, (int)text.size, (const char *)text.data);
        buf_deinit(&text);
        if ((i + 1) % per_line == 0 || i + 1 == found->count)
            putchar('\n');
    }
    if (found->more)
        puts("...");
}

/* Puts `word` in the place of the `typed_size` bytes before the cursor. */
static unsigned char replace(EditLine *edit, size_t typed_size, kvs_slice word, bool whole)
{
    struct buf text = BUF_INIT;
    int error = shell_word_append(&text, word);
    if (error == 0 && !whole && text.size > 0 && text.data[text.size - 1] == '"')
        text.size--; /* the quote stays open */
    if (error == 0 && whole)
        error = buf_append_u8(&text, ' ');
    if (error == 0)
        error = buf_append_u8(&text, 0);
    if (error == 0) {
        el_deletestr(edit, (int)typed_size);
        error = el_insertstr(edit, (const char *)text.data);
    }
    buf_deinit(&text);
    return error == 0 ? CC_REFRESH : CC_ERROR;
}

/* el_deletestr counts characters, not bytes. */
static size_t characters(kvs_slice text)
{
    size_t count = 0;
    for (size_t i = 0; i < text.size; i++)
        count += (text.data[i] & 0xc0) != 0x80;
    return count;
}

unsigned char complete(struct client *client, EditLine *edit)
{
    const LineInfo *info = el_line(edit);
    kvs_slice line = slice_make(info->buffer, (size_t)(info->cursor - info->buffer));
    struct shell_words words;
    struct candidates found = {.count = 0};
    unsigned char outcome = CC_ERROR;
    call_init(&found.scan, KVS_OP_SCAN);
    call_init(&found.scan_last, KVS_OP_SCAN);
    enum shell_split split = shell_words_split(&words, line);
    if (split == SHELL_SPLIT_OK || split == SHELL_SPLIT_OPEN) {
        bool empty = words.last_begin == line.size;
        size_t place = empty ? words.count : words.count - 1;
        kvs_slice prefix = empty ? slice_make("", 0) : words.words[place];
        kvs_slice typed = slice_make(line.data + words.last_begin, line.size - words.last_begin);
        find(&found, client, &words, place, prefix);
        size_t common = found.count > 0 ? common_size(&found) : 0;
        bool whole = found.count == 1 && !found.more;
        if (whole || common > prefix.size) {
            outcome =
                replace(edit, characters(typed), slice_make(found.list[0].data, common), whole);
        } else if (found.count > 0) {
            list(&found);
            outcome = CC_REDISPLAY;
        }
    }
    shell_words_deinit(&words);
    call_deinit(&found.scan);
    call_deinit(&found.scan_last);
    buf_deinit(&found.names);
    return outcome;
}

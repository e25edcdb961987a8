/*
 * cli/client/commands.c: the commands on keys and ranges: check the input, open the store, call,
 * print. Results go to standard output, everything else to standard error. Main thread.
 */
#include "base/mem.h"
#include "cli/client/client.h"
#include "cli/client/encoding.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VALUE_SIZE_MAX (64u * 1024 * 1024) /* no store takes more */
#define READ_SIZE (64u * 1024)

int client_bytes(const struct client *client, kvs_slice word, struct buf *ret_bytes)
{
    struct buf bytes = BUF_INIT;
    int error =
        client->options.escaped ? unescape_append(&bytes, word) : buf_append_slice(&bytes, word);
    if (error == 0) {
        *ret_bytes = bytes;
        return 0;
    }
    buf_deinit(&bytes);
    if (error == KVS_ERR_NO_MEMORY)
        return client_fail(client, "out of memory");
    return client_misuse(client, "'%.40s' has a broken escape: write \\\\ for a backslash",
                         (const char *)word.data);
}

int client_path(const struct client *client, kvs_slice word, const char **ret_path)
{
    const char *path = (const char *)word.data;
    if (word.size == 0 || strlen(path) != word.size)
        return client_misuse(client, "'%.40s' is not the name of a file", path);
    *ret_path = path;
    return 0;
}

/* A whole file, or standard input. */
static int read_value(const struct client *client, FILE *file, const char *name,
                      struct buf *ret_value)
{
    struct buf value = BUF_INIT;
    int status = 0;
    while (status == 0) {
        if (buf_reserve(&value, READ_SIZE) != 0) {
            status = client_fail(client, "out of memory");
            break;
        }
        errno = 0;
        size_t got = fread(value.data + value.size, 1, READ_SIZE, file);
        value.size += got;
        if (value.size > VALUE_SIZE_MAX)
            status = client_fail(client, "%s is larger than %u MiB, which no store takes", name,
                                 VALUE_SIZE_MAX >> 20);
        else if (ferror(file))
            status = client_fail(client, "cannot read %s: %s", name, strerror(errno));
        else if (got == 0)
            break;
    }
    if (status == 0)
        *ret_value = value;
    else
        buf_deinit(&value);
    return status;
}

/* The value of set: from the line, from --file, or from standard input. */
static int set_value(const struct client *client, struct buf *ret_value)
{
    const struct client_options *options = &client->options;
    bool given = client->operands_count > 1;
    if (given == (options->file != NULL))
        return client_misuse(client, given ? "VALUE and --file both give a value: leave one out"
                                           : "an argument is missing, it takes: KEY VALUE");
    if (options->file != NULL) {
        FILE *file = fopen(options->file, "rbe");
        if (file == NULL)
            return client_fail(client, "cannot open %s: %s", options->file, strerror(errno));
        int status = read_value(client, file, options->file, ret_value);
        fclose(file);
        return status;
    }
    kvs_slice word = client->operands[1];
    if (!client->in_shell && slice_equal(word, slice_of_string("-")))
        return read_value(client, stdin, "standard input", ret_value);
    return client_bytes(client, word, ret_value);
}

int command_set(void *context)
{
    struct client *client = context;
    struct buf key = BUF_INIT, value = BUF_INIT;
    struct call call;
    call_init(&call, KVS_OP_SET);
    int status = client_bytes(client, client->operands[0], &key);
    if (status == 0)
        status = set_value(client, &value);
    if (status == 0)
        status = client_connect(client, false);
    if (status == 0) {
        call.op.key = buf_slice(&key);
        call.op.value = buf_slice(&value);
        call.op.ttl_ms = client->options.ttl_ms;
        if (call_run(client, &call) != 0)
            status = call_tell_failure(client, &call);
    }
    call_deinit(&call);
    buf_deinit(&key);
    buf_deinit(&value);
    return status;
}

/* The frame of commands on one key: runs `kind`, then `print` looks at the outcome. */
static int run_on_key(struct client *client, enum kvs_op_kind kind,
                      int (*print)(struct client *client, struct call *call))
{
    struct buf key = BUF_INIT;
    struct call call;
    call_init(&call, kind);
    int status = client_bytes(client, client->operands[0], &key);
    if (status == 0)
        status = client_connect(client, true);
    if (status == 0) {
        call.op.key = buf_slice(&key);
        call_run(client, &call);
        status = print(client, &call);
    }
    call_deinit(&call);
    buf_deinit(&key);
    return status;
}

/* A line of JSON; `found` false: "value":null. */
static int print_json(struct client *client, const kvs_pair *pair, bool keys_only)
{
    struct buf line = BUF_INIT;
    int error = buf_append_u8(&line, '{');
    if (error == 0)
        error = json_field_append(&line, "key", pair->key);
    if (error == 0 && !keys_only)
        error = buf_append_u8(&line, ',');
    if (error == 0 && !keys_only)
        error = pair->found ? json_field_append(&line, "value", pair->value)
                            : buf_printf(&line, "\"value\":null");
    if (error == 0)
        error = buf_append(&line, "}\n", 2);
    if (error == 0)
        fwrite(line.data, 1, line.size, stdout);
    buf_deinit(&line);
    return error != 0 ? client_fail(client, "out of memory") : 0;
}

static int print_get(struct client *client, struct call *call)
{
    const struct client_options *options = &client->options;
    if (call->op.error == KVS_ERR_NOT_FOUND && (options->raw || options->json))
        return client_fail(client, "Key not found");
    if (call->op.error == KVS_ERR_NOT_FOUND) {
        puts("Key not found");
        return CLIENT_OK;
    }
    if (call->op.error != 0)
        return call_tell_failure(client, call);
    if (options->json)
        return print_json(client,
                          &(kvs_pair){.key = call->op.key, .value = call->op.result, .found = true},
                          false);
    fwrite(call->op.result.data, 1, call->op.result.size, stdout);
    if (!options->raw)
        putchar('\n');
    return CLIENT_OK;
}

int command_get(void *context)
{
    return run_on_key(context, KVS_OP_GET, print_get);
}

static int print_rm(struct client *client, struct call *call)
{
    if (call->op.error == KVS_ERR_NOT_FOUND) {
        fprintf(stderr, "Key not found\n");
        return CLIENT_FAILED;
    }
    return call->op.error != 0 ? call_tell_failure(client, call) : CLIENT_OK;
}

int command_rm(void *context)
{
    return run_on_key(context, KVS_OP_REMOVE, print_rm);
}

static int print_exists(struct client *client, struct call *call)
{
    if (call->op.error != 0)
        return call_tell_failure(client, call);
    puts(call->op.number != 0 ? "true" : "false");
    return call->op.number != 0 ? CLIENT_OK : CLIENT_FAILED;
}

int command_exists(void *context)
{
    return run_on_key(context, KVS_OP_EXISTS, print_exists);
}

/* --- compare and set, several keys ------------------------------------------------------------ */

static int report_cas(struct client *client, struct call *call)
{
    if (call->op.error != KVS_ERR_CONDITION_FAILED)
        return call->op.error != 0 ? call_tell_failure(client, call) : CLIENT_OK;
    if (call->op.number == 0)
        return client_fail(client, "not set: there is no such key");
    struct buf there = BUF_INIT;
    if (escape_append(&there, call->op.result) != 0)
        return client_fail(client, "not set: another value is there");
    int status = client_fail(client, "not set: the value that is there is %.*s%s",
                             (int)(there.size < 200 ? there.size : 200), (const char *)there.data,
                             there.size < 200 ? "" : "...");
    buf_deinit(&there);
    return status;
}

int command_cas(void *context)
{
    struct client *client = context;
    bool absent = client->options.absent;
    if (client->operands_count != (absent ? 2 : 3))
        return client_misuse(client, absent
                                         ? "with --absent it takes: KEY VALUE"
                                         : "it takes: KEY EXPECTED VALUE, or --absent KEY VALUE");
    struct buf words[3] = {BUF_INIT, BUF_INIT, BUF_INIT};
    struct call call;
    call_init(&call, KVS_OP_CAS);
    int status = 0;
    for (size_t i = 0; i < client->operands_count && status == 0; i++)
        status = client_bytes(client, client->operands[i], &words[i]);
    if (status == 0)
        status = client_connect(client, false);
    if (status == 0) {
        call.op.key = buf_slice(&words[0]);
        if (!absent)
            call.op.expected = buf_slice(&words[1]);
        call.op.value = buf_slice(&words[absent ? 1 : 2]);
        call.op.flags = absent ? KVS_OP_FLAG_EXPECT_ABSENT : 0;
        call.op.ttl_ms = client->options.ttl_ms;
        call_run(client, &call);
        status = report_cas(client, &call);
    }
    call_deinit(&call);
    for (size_t i = 0; i < 3; i++)
        buf_deinit(&words[i]);
    return status;
}

/* KEY<tab>VALUE, with escapes. */
static int print_text(struct client *client, const kvs_pair *pair, bool keys_only)
{
    struct buf line = BUF_INIT;
    int error = escape_append(&line, pair->key);
    if (error == 0 && !keys_only)
        error = buf_append_u8(&line, '\t');
    if (error == 0 && !keys_only)
        error = escape_append(&line, pair->value);
    if (error == 0)
        error = buf_append_u8(&line, '\n');
    if (error == 0)
        fwrite(line.data, 1, line.size, stdout);
    buf_deinit(&line);
    return error != 0 ? client_fail(client, "out of memory") : 0;
}

static int print_mget(struct client *client, const struct call *call)
{
    int status = CLIENT_OK;
    for (size_t i = 0; i < call->op.pairs_count; i++) {
        const kvs_pair *pair = &call->op.pairs[i];
        if (!pair->found) {
            struct buf key = BUF_INIT;
            if (shell_word_append(&key, pair->key) == 0)
                client_fail(client, "Key not found: %.*s", (int)key.size, (const char *)key.data);
            buf_deinit(&key);
            status = CLIENT_FAILED;
        }
        int error = 0;
        if (client->options.json)
            error = print_json(client, pair, false);
        else if (pair->found)
            error = print_text(client, pair, false);
        if (error != 0)
            return error;
    }
    return status;
}

int command_mget(void *context)
{
    struct client *client = context;
    size_t count = client->operands_count;
    struct buf *words = mem_zalloc(count * sizeof *words);
    kvs_slice *keys = mem_zalloc(count * sizeof *keys);
    struct call call;
    call_init(&call, KVS_OP_BATCH_GET);
    int status = words == NULL || keys == NULL ? client_fail(client, "out of memory") : 0;
    for (size_t i = 0; i < count && status == 0; i++) {
        status = client_bytes(client, client->operands[i], &words[i]);
        keys[i] = buf_slice(&words[i]);
    }
    if (status == 0)
        status = client_connect(client, true);
    if (status == 0) {
        call.op.keys = keys;
        call.op.count = (uint32_t)count;
        status = call_run(client, &call) != 0 ? call_tell_failure(client, &call)
                                              : print_mget(client, &call);
    }
    call_deinit(&call);
    for (size_t i = 0; words != NULL && i < count; i++)
        buf_deinit(&words[i]);
    mem_free(words);
    mem_free(keys);
    return status;
}

/* --- ranges ----------------------------------------------------------------------------------- */

static void print_raw(const kvs_pair *pair, bool keys_only, bool null)
{
    fwrite(pair->key.data, 1, pair->key.size, stdout);
    if (!keys_only) {
        putchar(null ? '\0' : '\t');
        fwrite(pair->value.data, 1, pair->value.size, stdout);
    }
    putchar(null ? '\0' : '\n');
}

static int print_page(struct client *client, const kvs_pair *pairs, size_t count)
{
    const struct client_options *options = &client->options;
    int status = 0;
    for (size_t i = 0; i < count && status == 0; i++) {
        if (options->json)
            status = print_json(client, &pairs[i], options->keys_only);
        else if (options->raw || options->null)
            print_raw(&pairs[i], options->keys_only, options->null);
        else
            status = print_text(client, &pairs[i], options->keys_only);
    }
    /* A reader that went away shall not cost us the rest of the range. */
    return status == 0 ? client_flush_output(client, status) : status;
}

int command_scan(void *context)
{
    struct client *client = context;
    const struct client_options *options = &client->options;
    if (options->json && (options->raw || options->null))
        return client_misuse(client, "--json and --raw are two forms of output: choose one");
    struct range range;
    int status = range_from_options(client, &range);
    if (status != 0)
        return status;
    status = client_connect(client, true);
    if (status == 0) {
        struct cursor cursor;
        const kvs_pair *pairs;
        size_t count;
        cursor_init(&cursor, client, &range, 0,
                    (options->reverse ? KVS_OP_FLAG_REVERSE : 0) |
                        (options->keys_only ? KVS_OP_FLAG_KEYS_ONLY : 0),
                    options->limit);
        while ((status = cursor_next(&cursor, &pairs, &count)) == 0 && count > 0)
            if ((status = print_page(client, pairs, count)) != 0)
                break;
        cursor_deinit(&cursor);
    }
    range_deinit(&range);
    return status;
}

/* Runs COUNT or REMOVE_RANGE over the range. Returns 0 or an exit status after a message. */
static int run_on_range(struct client *client, enum kvs_op_kind kind, const struct range *range,
                        int64_t *ret_number)
{
    struct call call;
    call_init(&call, kind);
    call.op.key = buf_slice(&range->start);
    call.op.end_key = buf_slice(&range->end);
    int status = 0;
    if (call_run(client, &call) != 0)
        status = call_tell_failure(client, &call);
    else
        *ret_number = call.op.number;
    call_deinit(&call);
    return status;
}

int command_count(void *context)
{
    struct client *client = context;
    struct range range;
    int64_t number;
    int status = range_from_options(client, &range);
    if (status != 0)
        return status;
    status = client_connect(client, true);
    if (status == 0)
        status = run_on_range(client, KVS_OP_COUNT, &range, &number);
    if (status == 0)
        printf("%" PRId64 "\n", number);
    range_deinit(&range);
    return status;
}

static int print_checksum(struct client *client, struct call *call)
{
    struct kvs_checksum checksum;
    if (call->op.error != 0 || kvs_checksum_read(call->op.result, &checksum) != 0)
        return call_tell_failure(client, call);
    printf("checksum  %016" PRIx64 "\nkeys      %" PRIu64 "\nbytes     %" PRIu64 "\n",
           checksum.crc64_xor, checksum.keys, checksum.bytes);
    return CLIENT_OK;
}

int command_checksum(void *context)
{
    struct client *client = context;
    struct range range;
    int status = range_from_options(client, &range);
    if (status != 0)
        return status;
    struct call call;
    call_init(&call, KVS_OP_CHECKSUM);
    status = client_connect(client, true);
    if (status == 0) {
        call.op.key = buf_slice(&range.start);
        call.op.end_key = buf_slice(&range.end);
        call_run(client, &call);
        status = print_checksum(client, &call);
    }
    call_deinit(&call);
    range_deinit(&range);
    return status;
}

static int print_ttl(struct client *client, struct call *call)
{
    if (call->op.error == KVS_ERR_NOT_FOUND)
        return client_fail(client, "Key not found");
    if (call->op.error != 0)
        return call_tell_failure(client, call);
    int64_t left_ms = call->op.number;
    if (left_ms == 0)
        puts("never");
    else
        printf("%" PRId64 ".%03d\n", left_ms / 1000, (int)(left_ms % 1000));
    return CLIENT_OK;
}

int command_ttl(void *context)
{
    return run_on_key(context, KVS_OP_TTL, print_ttl);
}

/* Asks the person; returns 0 for yes, or an exit status after a message. */
static int confirm_removal(struct client *client, const struct range *range)
{
    int64_t number;
    int status = run_on_range(client, KVS_OP_COUNT, range, &number);
    if (status != 0)
        return status;
    fprintf(stderr, "Remove %" PRId64 " keys at %s? [y/N] ", number, client->url);
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size = getline(&line, &capacity, stdin);
    bool yes = size > 0 && (line[0] == 'y' || line[0] == 'Y');
    free(line);
    return yes ? 0 : client_fail(client, "nothing was removed");
}

int command_rm_range(void *context)
{
    struct client *client = context;
    const struct client_options *options = &client->options;
    struct range range;
    int64_t number;
    int status = range_from_options(client, &range);
    if (status != 0)
        return status;
    bool everything = range_is_everything(&range);
    if (everything != options->all)
        status = client_misuse(client, everything ? "no range given: --prefix, --start, --end, or "
                                                    "--all for all keys of the store"
                                                  : "--all is all keys: leave the range out");
    bool ask = !options->yes;
    if (status == 0 && ask && !(isatty(STDIN_FILENO) && isatty(STDERR_FILENO)))
        status =
            client_misuse(client, "nobody is there to be asked: add --yes to remove the range");
    if (status == 0)
        status = client_connect(client, true);
    if (status == 0 && ask)
        status = confirm_removal(client, &range);
    if (status == 0)
        status = run_on_range(client, KVS_OP_REMOVE_RANGE, &range, &number);
    if (status == 0)
        printf("%" PRId64 "\n", number);
    range_deinit(&range);
    return status;
}

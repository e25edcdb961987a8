/*
 * cli/client/txn.c: `txn`: statements of one transaction, from the command line or standard input.
 *
 * Statements run one after the other, each waited for; the first one that fails ends the
 * transaction, which is rolled back. So does Ctrl-C; one that meets the commit tells what came of
 * it. Main thread.
 */
#include "base/slice.h"
#include "cli/client/client.h"
#include "cli/client/shell_words.h"

#include <errno.h>
#include <stdlib.h>

#define LIMIT_MAX 1000000000ull

struct script {
    struct client *client;
    kvs_txn *txn;
    uint64_t number; /* of the statement, for messages */
    bool ended;      /* by commit or rollback */
};

struct statement {
    const char *name;
    size_t operands_min;
    size_t operands_max;
    const char *operands;
    int (*run)(struct script *script, const kvs_slice *words, size_t count);
};

/* --- statements ---------------------------------------------------------------------------------
 */

static int fail_future(struct script *script, kvs_future *future)
{
    int status = client_fail_operation(script->client, kvs_future_error(future),
                                       kvs_future_error_message(future));
    kvs_future_free(future);
    return status;
}

/* Returns 0 or an exit status after a message. */
static int check_interrupt(const struct script *script)
{
    return client_interrupted() ? client_fail_operation(script->client, KVS_ERR_CANCELLED, "") : 0;
}

/* Waits; the future is freed unless *ret_future takes it. */
static int wait_for(struct script *script, kvs_future *future, kvs_future **ret_future)
{
    int error = call_wait_future(future);
    bool is_miss = error == KVS_ERR_NOT_FOUND && ret_future != NULL;
    if (error != 0 && !is_miss)
        return fail_future(script, future);
    if (ret_future != NULL)
        *ret_future = future;
    else
        kvs_future_free(future);
    return 0;
}

static void print_bytes(kvs_slice bytes)
{
    if (bytes.size > 0)
        fwrite(bytes.data, 1, bytes.size, stdout);
}

static int print_get(struct script *script, kvs_future *future)
{
    kvs_future *get = NULL;
    kvs_slice value = slice_of_string("Key not found");
    int status = wait_for(script, future, &get);
    if (status != 0)
        return status;
    kvs_future_get_value(get, &value);
    print_bytes(value);
    putchar('\n');
    kvs_future_free(get);
    return 0;
}

static int run_get(struct script *script, const kvs_slice *words, size_t count)
{
    (void)count;
    return print_get(script, kvs_txn_get(script->txn, words[0]));
}

static int run_get_for_update(struct script *script, const kvs_slice *words, size_t count)
{
    (void)count;
    return print_get(script, kvs_txn_get_for_update(script->txn, words[0]));
}

static int run_exists(struct script *script, const kvs_slice *words, size_t count)
{
    (void)count;
    kvs_future *exists = NULL;
    int64_t number = 0;
    int status = wait_for(script, kvs_txn_exists(script->txn, words[0]), &exists);
    if (status != 0)
        return status;
    kvs_future_get_number(exists, &number);
    puts(number != 0 ? "true" : "false");
    kvs_future_free(exists);
    return 0;
}

static int run_put(struct script *script, const kvs_slice *words, size_t count)
{
    (void)count;
    return wait_for(script, kvs_txn_put(script->txn, words[0], words[1]), NULL);
}

static int run_insert(struct script *script, const kvs_slice *words, size_t count)
{
    (void)count;
    return wait_for(script, kvs_txn_insert(script->txn, words[0], words[1]), NULL);
}

static int run_delete(struct script *script, const kvs_slice *words, size_t count)
{
    (void)count;
    return wait_for(script, kvs_txn_delete(script->txn, words[0]), NULL);
}

static int run_lock(struct script *script, const kvs_slice *words, size_t count)
{
    return wait_for(script, kvs_txn_lock(script->txn, words, count, 0), NULL);
}

static int run_lock_shared(struct script *script, const kvs_slice *words, size_t count)
{
    return wait_for(script, kvs_txn_lock_shared(script->txn, words, count, 0), NULL);
}

/* One page; 1 when there is more, with where to go on. */
static int print_page(struct script *script, struct buf *start, kvs_slice end, uint64_t *left)
{
    const kvs_pair *pairs;
    size_t count;
    int64_t more = 0;
    kvs_future *scan = NULL;
    uint32_t limit = *left < UINT32_MAX ? (uint32_t)*left : UINT32_MAX;
    int status = wait_for(
        script, kvs_txn_scan(script->txn, buf_slice(start), end, limit, KVS_OP_FLAG_PAGE), &scan);
    if (status != 0)
        return status;
    kvs_future_get_pairs(scan, &pairs, &count);
    kvs_future_get_number(scan, &more);
    for (size_t i = 0; i < count; i++) {
        print_bytes(pairs[i].key);
        putchar('\t');
        print_bytes(pairs[i].value);
        putchar('\n');
    }
    *left -= count;
    if (more == 0 || count == 0)
        *left = 0;
    buf_clear(start);
    if (*left > 0 &&
        (buf_append_slice(start, pairs[count - 1].key) != 0 || buf_append_u8(start, 0) != 0))
        status = client_fail(script->client, "out of memory");
    kvs_future_free(scan);
    return status;
}

static int run_scan(struct script *script, const kvs_slice *words, size_t count)
{
    uint64_t left = UINT64_MAX;
    struct buf start = BUF_INIT;
    kvs_slice end = count > 1 ? words[1] : slice_make(NULL, 0);
    if (count > 2) {
        char *rest;
        errno = 0;
        left = strtoull((const char *)words[2].data, &rest, 10);
        if (*rest != '\0' || words[2].size == 0 || errno != 0 || left == 0 || left > LIMIT_MAX)
            return client_misuse(script->client, "statement %llu: scan takes at most N keys",
                                 (unsigned long long)script->number);
    }
    int status = count > 0 && buf_append_slice(&start, words[0]) != 0
                     ? client_fail(script->client, "out of memory")
                     : 0;
    while (status == 0 && left > 0) {
        status = print_page(script, &start, end, &left);
        if (status == 0)
            status = check_interrupt(script);
    }
    buf_deinit(&start);
    return status;
}

static int run_commit(struct script *script, const kvs_slice *words, size_t count)
{
    (void)words;
    (void)count;
    script->ended = true;
    return wait_for(script, kvs_txn_commit(script->txn), NULL);
}

static int run_rollback(struct script *script, const kvs_slice *words, size_t count)
{
    (void)words;
    (void)count;
    script->ended = true;
    return wait_for(script, kvs_txn_rollback(script->txn), NULL);
}

static const struct statement statements[] = {
    {"get", 1, 1, "KEY", run_get},
    {"get-for-update", 1, 1, "KEY", run_get_for_update},
    {"exists", 1, 1, "KEY", run_exists},
    {"scan", 0, 3, "[START [END [N]]]", run_scan},
    {"put", 2, 2, "KEY VALUE", run_put},
    {"insert", 2, 2, "KEY VALUE", run_insert},
    {"delete", 1, 1, "KEY", run_delete},
    {"lock", 1, SIZE_MAX, "KEY...", run_lock},
    {"lock-shared", 1, SIZE_MAX, "KEY...", run_lock_shared},
    {"commit", 0, 0, "nothing", run_commit},
    {"rollback", 0, 0, "nothing", run_rollback},
};

static const struct statement *statement_find(kvs_slice name)
{
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++)
        if (slice_equal(name, slice_of_string(statements[i].name)))
            return &statements[i];
    return NULL;
}

/* --- a script -----------------------------------------------------------------------------------
 */

/* May it write what was not there? For that a directory is made, too. */
static bool script_creates(const struct client *client)
{
    bool creates = client->operands_count == 0; /* of standard input nobody knows yet */
    for (size_t i = 0; i < client->operands_count && !creates; i++) {
        struct shell_words words;
        bool is_whole = shell_words_split(&words, client->operands[i]) == SHELL_SPLIT_OK;
        const struct statement *statement =
            is_whole && words.count > 0 ? statement_find(words.words[0]) : NULL;
        creates = statement != NULL && (statement->run == run_put || statement->run == run_insert);
        shell_words_deinit(&words);
    }
    return creates;
}

static int run_words(struct script *script, const kvs_slice *words, size_t count)
{
    unsigned long long number = ++script->number;
    if (script->ended)
        return client_misuse(script->client, "statement %llu: nothing may follow the end", number);
    const struct statement *statement = statement_find(words[0]);
    if (statement == NULL)
        return client_misuse(script->client, "statement %llu: there is no '%.40s'", number,
                             (const char *)words[0].data);
    if (count - 1 < statement->operands_min || count - 1 > statement->operands_max)
        return client_misuse(script->client, "statement %llu: %s takes %s", number, statement->name,
                             statement->operands);
    return statement->run(script, words + 1, count - 1);
}

static int run_line(struct script *script, kvs_slice line)
{
    struct shell_words words;
    int status = check_interrupt(script);
    if (status != 0)
        return status;
    switch (shell_words_split(&words, line)) {
    case SHELL_SPLIT_OK:
        if (words.count > 0)
            status = run_words(script, words.words, words.count);
        break;
    case SHELL_SPLIT_NO_MEMORY:
        status = client_fail(script->client, "out of memory");
        break;
    default:
        status = client_misuse(script->client, "statement %llu: quotes or escapes are not whole",
                               (unsigned long long)script->number + 1);
    }
    shell_words_deinit(&words);
    return status;
}

static int run_input(struct script *script)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    int status = 0;
    errno = 0;
    while (status == 0 && (size = getline(&line, &capacity, stdin)) >= 0) {
        while (size > 0 && (line[size - 1] == '\n' || line[size - 1] == '\r'))
            size--;
        status = run_line(script, slice_make(line, (size_t)size));
    }
    if (status == 0)
        status = check_interrupt(script); /* it ends a read, too */
    if (status == 0 && ferror(stdin))
        status = client_fail(script->client, "cannot read standard input");
    free(line); /* getline's */
    return status;
}

static int run_script(struct script *script)
{
    const struct client *client = script->client;
    int status = 0;
    if (client->operands_count == 0)
        status = run_input(script);
    for (size_t i = 0; status == 0 && i < client->operands_count; i++)
        status = run_line(script, client->operands[i]);
    if (status == 0 && !script->ended)
        status = check_interrupt(script);
    if (status == 0 && !script->ended)
        status = run_commit(script, NULL, 0);
    return status;
}

int command_txn(void *arg)
{
    struct client *client = arg;
    struct script script = {.client = client};
    kvs_txn_client *txn_client = NULL;
    const struct kvs_txn_options options = {.size = sizeof options,
                                            .pessimistic = client->options.pessimistic,
                                            .timeout_ms = (uint32_t)client->options.timeout_ms};
    int status = client_connect_txn(client, !script_creates(client), &txn_client);
    if (status != 0)
        return status;
    script.txn = kvs_txn_begin(txn_client, &options);
    status = script.txn != NULL ? run_script(&script) : client_fail(client, "out of memory");
    kvs_txn_free(script.txn);
    kvs_future *closed = kvs_txn_client_close(txn_client);
    kvs_future_wait(closed, -1);
    kvs_future_free(closed);
    return status;
}

/* cli/bench/options.c: the command line of kvs-bench as a table, and what must hold across rows. */
#include "cli/bench/options.h"

#include "base/machine.h"
#include "cli/completion.h"

#include <kvs/error.h>
#include <kvs/events.h>
#include <kvs/store.h>

#include <math.h>
#include <stddef.h>
#include <string.h>

enum { WORDS_MAX = 128, CONNECTIONS_MAX = 1000000, PIPELINE_MAX = 65536, THREADS_MAX = 256 };

static const char *const distributions[] = {"uniform", "zipfian", NULL};
static const char *const workloads[] = {"set",    "get",  "mixed",     "txn",  "rmw", "bank",
                                        "append", "read", "subscribe", "live", NULL};

static const char *const sync_names[] = {"always", "interval", "never", NULL}; /* enum kvs_sync */

#define AT(field) offsetof(struct bench_options, field)

static const struct arguments_option rows[] = {
    {"connections", 'c', ARGUMENTS_NUMBER, AT(connections), "N",
     "connections that carry requests (50)", 1, CONNECTIONS_MAX, NULL},
    {"pipeline", 'P', ARGUMENTS_NUMBER, AT(pipeline), "N",
     "requests in flight on each connection, at most (1)", 1, PIPELINE_MAX, NULL},
    {"threads", 't', ARGUMENTS_NUMBER, AT(threads), "N",
     "threads of the generator (half the processors)", 1, THREADS_MAX, NULL},
    {"workload", 'w', ARGUMENTS_CHOICE, AT(workload), NULL,
     "what is sent (mixed); of event streams the last four (append)", 0, 0, workloads},
    {"batch", 'b', ARGUMENTS_NUMBER, AT(batch), "N", "events of an append (1)", 1,
     KVS_APPEND_COUNT_MAX, NULL},
    {"page", 0, ARGUMENTS_NUMBER, AT(page), "N", "events of a read (512)", 1, KVS_EVENTS_PAGE_MAX,
     NULL},
    {"stream", 0, ARGUMENTS_STRING, AT(stream), "NAME", "the stream of events (kvs-bench)", 0, 0,
     NULL},
    {"read-ratio", 0, ARGUMENTS_REAL, AT(read_ratio), "R", "share of gets in mixed, 0 to 1 (0.5)",
     0, 0, NULL},
    {"txn-keys", 0, ARGUMENTS_NUMBER, AT(txn_keys), "N", "keys of a txn or rmw (1)", 1, 1000, NULL},
    {"pessimistic", 0, ARGUMENTS_FLAG, AT(pessimistic), NULL,
     "transactions lock what they read (rmw, bank)", 0, 0, NULL},
    {"keys", 'k', ARGUMENTS_NUMBER, AT(keys), "N", "different keys (100000)", 1, KEY_COUNT_MAX,
     NULL},
    {"distribution", 0, ARGUMENTS_CHOICE, AT(distribution), NULL, "how keys are drawn (uniform)", 0,
     0, distributions},
    {"key-size", 0, ARGUMENTS_SIZE, AT(key_size), "BYTES", "bytes of a key (16)", 1, KEY_SIZE_MAX,
     NULL},
    {"value-size", 'd', ARGUMENTS_SIZE, AT(value_size), "BYTES", "bytes of a value (100)", 0,
     256 << 20, NULL},
    {"load", 'l', ARGUMENTS_FLAG, AT(load), NULL, "set every key once before", 0, 0, NULL},
    {"load-only", 0, ARGUMENTS_FLAG, AT(only_load), NULL, "set every key once, and end", 0, 0,
     NULL},
    {"rate", 'r', ARGUMENTS_REAL, AT(rate), "N",
     "requests per second, sent when due (0: as answers come)", 0, 0, NULL},
    {"warm-up", 0, ARGUMENTS_SECONDS, AT(warm_up_ms), "SECONDS", "run so long before measuring (1)",
     0, 3600000, NULL},
    {"duration", 'D', ARGUMENTS_SECONDS, AT(duration_ms), "SECONDS", "measure so long (10)", 1,
     7 * 86400000ull, NULL},
    {"requests", 'n', ARGUMENTS_NUMBER, AT(requests), "N",
     "measure so many requests, instead of a duration", 1, 0, NULL},
    {"idle-connections", 0, ARGUMENTS_NUMBER, AT(idle_connections), "N",
     "open N more that send nothing (0)", 0, CONNECTIONS_MAX, NULL},
    {"timeout", 0, ARGUMENTS_SECONDS, AT(timeout_ms), "SECONDS",
     "give up after so long without any reply (10)", 1, 3600000, NULL},
    {"sync", 0, ARGUMENTS_CHOICE, AT(sync), NULL, "log:DIR: when a write is acknowledged (always)",
     0, 0, sync_names},
    {"tls-ca", 0, ARGUMENTS_STRING, AT(tls.ca), "FILE",
     "tikv:// and esdb:// over TLS: authorities to trust (PEM)", 0, 0, NULL},
    {"tls-cert", 0, ARGUMENTS_STRING, AT(tls.certificate), "FILE",
     "likewise: a certificate for servers that ask (PEM)", 0, 0, NULL},
    {"tls-key", 0, ARGUMENTS_STRING, AT(tls.key), "FILE", "its key (PEM)", 0, 0, NULL},
    {"seed", 0, ARGUMENTS_NUMBER, AT(seed), "N", "the same seed draws the same keys (1)", 0, 0,
     NULL},
    {"json", 'j', ARGUMENTS_FLAG, AT(json), NULL, "print the result as JSON", 0, 0, NULL},
    {"help", 'h', ARGUMENTS_FLAG, AT(help), NULL, "print this text", 0, 0, NULL},
    {"version", 'V', ARGUMENTS_FLAG, AT(version), NULL, "print the version", 0, 0, NULL},
    {"completion", 0, ARGUMENTS_CHOICE, AT(completion), NULL, COMPLETION_TEXT, 0, 0,
     completion_shells},
    {0},
};

static const struct arguments_command commands[] = {
    {
        .name = "",
        .operands = "[URL]",
        .operands_max = 1,
        .summary = "load a server and measure it",
        .description =
            "Sends sets and gets to URL (default kvs://127.0.0.1:4000), and prints throughput "
            "and latencies. By the URL's protocol:\n"
            "  kvs redis  sets and gets, both driven by the same generator\n"
            "  tikv       the same through libkvs, without --rate, and transactions: txn puts\n"
            "             --txn-keys keys, rmw adds one to the numbers in as many, bank moves\n"
            "             money between two accounts; what must hold of the sum is checked\n"
            "  log        as tikv, in this process, on a directory: log:DIR\n"
            "  memory     likewise, without one: memory:\n"
            "  esdb       events of one stream: append writes them, read reads page by page,\n"
            "             subscribe follows from its begin (--load: --keys of them); live\n"
            "             has --connections subscriptions at its end, appends --pipeline\n"
            "             events at a time, and measures from an append's acknowledgement to\n"
            "             its event's delivery\n"
            "What is written stays there: keys that begin with key:, and that stream.\n"
            "\n"
            "Without --rate the load is a closed loop: every connection keeps --pipeline requests "
            "in flight, and a slow server is sent less. Latency then runs from the moment a "
            "request was written. With --rate it is an open loop: requests are due at fixed "
            "times, and latency runs from the time a request was due, sent or not, so that a "
            "stall of the server shows in full.\n"
            "\n"
            "Exit status: 0; 1 when the server could not be reached, lost connections or answered "
            "with errors; 2 for a wrong command line.\n",
        .examples = "kvs-bench --load --workload get --pipeline 16\n"
                    "kvs-bench redis://127.0.0.1:6379 --rate 50000 --duration 30\n"
                    "kvs-bench tikv://127.0.0.1 --load --workload bank --connections 64\n"
                    "kvs-bench esdb://127.0.0.1:1113 --workload append --batch 100\n"
                    "kvs-bench --distribution zipfian --read-ratio 0.95 --json > result.json\n",
        .options = rows,
    },
    {0},
};

static const struct arguments_program program = {
    .name = "kvs-bench",
    .summary = "load generator for the kvs, redis, TiKV and EventStoreDB protocols",
    .description = "",
    .commands = commands,
};

static int fail(char message[ARGUMENTS_MESSAGE_SIZE], const char *text)
{
    snprintf(message, ARGUMENTS_MESSAGE_SIZE, "%s", text);
    return KVS_ERR_INVALID_ARGUMENT;
}

static bool is_directory(const char *url)
{
    return strncmp(url, "log:", 4) == 0;
}

static int url_check(const struct bench_options *options, char message[ARGUMENTS_MESSAGE_SIZE])
{
    struct target target;
    int error = target_parse(&target, options->url, &options->tls, message);
    if (error == 0 && workload_is_transactions(options->workload) &&
        !target_takes_transactions(&target))
        return fail(message, "transactions are for tikv://, log: and memory:");
    return error;
}

static int options_check(struct bench_options *options, char message[ARGUMENTS_MESSAGE_SIZE])
{
    struct keyspace keyspace;
    int error = url_check(options, message);
    if (error != 0)
        return error;
    bool of_events = workload_is_events(options->workload);
    if (options->workload != WORKLOAD_DEFAULT && of_events != target_is_events(options->url))
        return fail(message, of_events ? "append, read, subscribe and live are for esdb:// only"
                                       : "esdb:// takes append, read, subscribe and live");
    if (!isnan(options->read_ratio)) {
        if (options->workload != WORKLOAD_MIXED && options->workload != WORKLOAD_DEFAULT)
            return fail(message, "--read-ratio goes with --workload mixed only");
        if (!(options->read_ratio >= 0.0 && options->read_ratio <= 1.0))
            return fail(message, "--read-ratio is a number from 0 to 1");
    }
    if (options->pessimistic && options->workload != WORKLOAD_RMW &&
        options->workload != WORKLOAD_BANK)
        return fail(message, "--pessimistic goes with --workload rmw or bank");
    if (options->txn_keys != 1 && options->workload != WORKLOAD_TXN &&
        options->workload != WORKLOAD_RMW)
        return fail(message, "--txn-keys goes with --workload txn or rmw");
    if (options->sync != KVS_SYNC_ALWAYS && !is_directory(options->url))
        return fail(message, "--sync is for log:DIR; a server has an option of its own");
    if (workload_is_transactions(options->workload) && options->txn_keys > options->keys)
        return fail(message, "--txn-keys is more than --keys");
    if (options->workload == WORKLOAD_BANK && options->keys < 2)
        return fail(message, "--workload bank needs two --keys");
    if (options->rate > 0 && !target_takes_rate(options->url))
        return fail(message, "--rate is for kvs:// and redis:// only");
    if (!(options->rate <= 1e9))
        return fail(message, "--rate is at most 1000000000 requests per second");
    if (!keyspace_init(&keyspace, options->keys, (size_t)options->key_size, DISTRIBUTION_UNIFORM))
        return fail(message, "so many different --keys do not fit into --key-size bytes");
    return 0;
}

static void options_complete(struct bench_options *options)
{
    static const double ratios[] = {
        [WORKLOAD_SET] = 0.0,    [WORKLOAD_GET] = 1.0,  [WORKLOAD_MIXED] = 0.5,
        [WORKLOAD_TXN] = 0.0,    [WORKLOAD_RMW] = 0.0,  [WORKLOAD_BANK] = 0.0,
        [WORKLOAD_APPEND] = 0.0, [WORKLOAD_READ] = 1.0, [WORKLOAD_SUBSCRIBE] = 1.0,
        [WORKLOAD_LIVE] = 0.0};
    if (options->workload == WORKLOAD_DEFAULT)
        options->workload = target_is_events(options->url) ? WORKLOAD_APPEND : WORKLOAD_MIXED;
    if (isnan(options->read_ratio))
        options->read_ratio = ratios[options->workload];
    if (options->threads == 0) {
        unsigned processors = machine_processors();
        options->threads = processors >= 4 ? processors / 2 : 1;
    }
    if (target_is_in_process(options->url))
        options->threads = 1; /* it is for one client */
    if (options->threads > options->connections)
        options->threads = options->connections;
}

int bench_options_parse(struct bench_options *options, int argc, char **argv,
                        char message[ARGUMENTS_MESSAGE_SIZE])
{
    *options = (struct bench_options){
        .url = "kvs://127.0.0.1:4000",
        .connections = 50,
        .pipeline = 1,
        .workload = WORKLOAD_DEFAULT,
        .txn_keys = 1,
        .batch = 1,
        .page = 512,
        .stream = "kvs-bench",
        .read_ratio = NAN,
        .keys = 100000,
        .key_size = 16,
        .value_size = 100,
        .warm_up_ms = 1000,
        .duration_ms = 10000,
        .timeout_ms = 10000,
        .seed = 1,
        .completion = COMPLETION_NONE,
    };
    kvs_slice words[WORDS_MAX];
    size_t count = argc > 1 ? (size_t)argc - 1 : 0, operands = 0;
    if (count > WORDS_MAX)
        return fail(message, "too many arguments");
    for (size_t i = 0; i < count; i++)
        words[i] = slice_of_string(argv[i + 1]);
    int error = arguments_parse(&program, commands, words, count, options, &operands, message);
    if (error != 0 || options->help || options->version || options->completion != COMPLETION_NONE)
        return error;
    error = arguments_check_operands(commands, words, operands, message);
    if (error == 0 && operands == 1)
        options->url = (const char *)words[0].data;
    if (error == 0)
        error = options_check(options, message);
    if (error != 0)
        return error;
    options_complete(options);
    return 0;
}

void bench_options_help(FILE *file)
{
    arguments_print_command(&program, commands, file);
}

void bench_options_completion(const struct bench_options *options, FILE *file)
{
    completion_print(&program, options->completion, file);
}

const char *bench_distribution_name(unsigned distribution)
{
    return distributions[distribution];
}

/*
 * cli/server/options.c: the options as a table, which the command line and the file share.
 *
 * A line `name = value` of the file is parsed as the word `--name=value`, a line `name` as
 * `--name`, so both can say exactly the same. The file is read first and the command line over it.
 * An option that is of no use without another is refused without it: a person who gives it expects
 * something of it.
 */
#include "cli/server/options.h"

#include "base/log.h"
#include "base/mem.h"
#include "cli/completion.h"

#include <kvs/error.h>

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

enum { WORDS_MAX = 128, LINE_SIZE_MAX = 4096, CONNECTIONS_MAX = 1000000 };

#define SECONDS 1000ull
#define DAY (86400 * SECONDS) /* milliseconds in 32 bits are 49 of them */
#define MIB (1024ull * 1024)
#define AT(field) offsetof(struct server_settings, field)

static const char *const sync_names[] = {"always", "interval", "never", NULL};
static const char *const projection_names[] = {"common", "none", "all", NULL};
static const char *const file_io_names[] = {"auto", "pool", "uring", NULL};
static const char *const level_names[] = {"debug", "info", "warn", "error", "silent", NULL};

static const struct arguments_option rows[] = {
    {"addr", 'a', ARGUMENTS_ADDRESS, AT(address), "HOST:PORT",
     "listen here; port 0 takes any free one (127.0.0.1:4000)", 0, 0, NULL},
    {"dir", 'd', ARGUMENTS_STRING, AT(directory), "PATH",
     "where the data is kept (the current directory)", 0, 0, NULL},
    {"engine", 'e', ARGUMENTS_STRING, AT(engine), "kvs|rocksdb|memory|tikv",
     "where values are kept (what the directory was made with, else kvs)", 0, 0, NULL},
    {"sync", 's', ARGUMENTS_CHOICE, AT(sync), NULL, "when a write is acknowledged (always)", 0, 0,
     sync_names},
    {"sync-interval", 0, ARGUMENTS_SECONDS, AT(sync_interval_ms), "SECONDS",
     "with --sync interval: sync so often (1)", 1, 3600 * SECONDS, NULL},
    {"threads", 't', ARGUMENTS_NUMBER, AT(threads), "N", "threads for the network (one per core)",
     1, 32, NULL},
    {"pool-threads", 0, ARGUMENTS_NUMBER, AT(pool_threads), "N",
     "threads for work that waits for the disk (4)", 1, 1024, NULL},
    {"file-io", 0, ARGUMENTS_CHOICE, AT(file_io), NULL,
     "engine kvs: how gets wait for the disk (auto: what was measured to be faster)", 0, 0,
     file_io_names},
    {"segment-size", 0, ARGUMENTS_SIZE, AT(segment_size), "BYTES",
     "size of one file of the log (64m; with --eventstore and no --cache 8m)", MIB, 4096 * MIB,
     NULL},
    {"cache", 0, ARGUMENTS_SIZE, AT(cache_size), "BYTES",
     "memory for values; with rocksdb: for blocks of its files (a quarter of the machine's; with "
     "--eventstore 8m)",
     MIB, 0, NULL},
    {"cache-prefault", 0, ARGUMENTS_FLAG, AT(cache_prefault), NULL,
     "engine kvs: make the memory of --cache at the start, and keep it (as it is needed)", 0, 0,
     NULL},
    {"value-max", 0, ARGUMENTS_SIZE, AT(value_max), "BYTES", "largest value (16m)", 1, 64 * MIB,
     NULL},
    {"connections-max", 0, ARGUMENTS_NUMBER, AT(connections_max), "N",
     "more connections are told to try later (20000)", 1, CONNECTIONS_MAX, NULL},
    {"in-flight-max", 0, ARGUMENTS_SIZE, AT(in_flight_max), "BYTES",
     "requests and replies of one connection in memory (64m)", 64 * 1024, 0, NULL},
    {"connections-memory", 0, ARGUMENTS_SIZE, AT(connections_memory), "BYTES",
     "of all connections; beyond it the largest are closed (half of the machine's)", MIB, 0, NULL},
    {"idle-timeout", 0, ARGUMENTS_SECONDS, AT(idle_timeout_ms), "SECONDS",
     "close connections that ask nothing for so long (0: never)", 0, 49 * DAY, NULL},
    {"slow-timeout", 0, ARGUMENTS_SECONDS, AT(slow_timeout_ms), "SECONDS",
     "close connections that do not read for so long (60; of event streams 300)", 1, DAY, NULL},
    {"tls-cert", 0, ARGUMENTS_STRING, AT(tls_certificate), "FILE",
     "speak TLS on every port, with this certificate (PEM)", 0, 0, NULL},
    {"tls-key", 0, ARGUMENTS_STRING, AT(tls_key), "FILE", "with --tls-cert: its key (PEM)", 0, 0,
     NULL},
    {"tls-ca", 0, ARGUMENTS_STRING, AT(tls_ca), "FILE",
     "with --tls-cert: let in clients with a certificate of these authorities only", 0, 0, NULL},
    {"tikv", 0, ARGUMENTS_OPTIONAL, AT(tikv), "PD,STORE[,STATUS]",
     "serve TiKV's clients, too (127.0.0.1:2379,127.0.0.1:20160)", 0, 0, NULL},
    {"keyspaces", 0, ARGUMENTS_STRING, AT(keyspaces), "NAMES",
     "with --tikv: keyspaces beside DEFAULT, with commas between", 0, 0, NULL},
    {"split-keys", 0, ARGUMENTS_NUMBER, AT(split_keys), "N",
     "with --tikv: cut regions with more keys than this (never)", 2, 0, NULL},
    {"split-size", 0, ARGUMENTS_SIZE, AT(split_size), "BYTES",
     "with --tikv: cut regions that are larger than this (never)", 1024, 0, NULL},
    {"split-raw", 0, ARGUMENTS_FLAG, AT(split_raw), NULL,
     "with these: cut at any raw key; clients of transactions cannot read that", 0, 0, NULL},
    {"eventstore", 0, ARGUMENTS_OPTIONAL, AT(eventstore), "HOST:PORT",
     "serve event streams to EventStoreDB's TCP clients, too (127.0.0.1:1113)", 0, 0, NULL},
    {"http", 0, ARGUMENTS_OPTIONAL, AT(http), "HOST:PORT",
     "and gossip, health and statistics over HTTP (127.0.0.1:2113)", 0, 0, NULL},
    {"insecure", 0, ARGUMENTS_FLAG, AT(insecure), NULL,
     "with --eventstore: ask nobody who he is, allow everything; for tests", 0, 0, NULL},
    {"projections", 0, ARGUMENTS_CHOICE, AT(projections), NULL,
     "with --eventstore: streams of links that are kept: $streams, $ce-, $et-; $category- and "
     "$bc-, "
     "too; or none (common)",
     0, 0, projection_names},
    {"stats-interval", 0, ARGUMENTS_SECONDS, AT(stats_interval_ms), "SECONDS",
     "with --eventstore: while it is used, append statistics to $stats-IP:PORT so often; 0: never "
     "(30)",
     0, DAY, NULL},
    {"heartbeat-interval", 0, ARGUMENTS_SECONDS, AT(heartbeat_interval_ms), "SECONDS",
     "with --eventstore: ask clients that say nothing for so long whether they live (2)", 1, DAY,
     NULL},
    {"heartbeat-timeout", 0, ARGUMENTS_SECONDS, AT(heartbeat_timeout_ms), "SECONDS",
     "with --eventstore: ... and close their connections when nothing comes for so long (1)", 1,
     DAY, NULL},
    {"advertise", 0, ARGUMENTS_STRING, AT(advertise), "HOST",
     "with --http, --tikv: the host that gossip and PD send clients to (where we listen, or they "
     "came to)",
     0, 0, NULL},
    {"gossip-master", 0, ARGUMENTS_FLAG, AT(gossip_master), NULL,
     "with --http: say Master, not Leader, for clients from before 2020", 0, 0, NULL},
    {"pd", 0, ARGUMENTS_STRING, AT(pd), "PD[,PD...]",
     "with --engine tikv: addresses of the cluster's PD", 0, 0, NULL},
    {"pd-ca", 0, ARGUMENTS_STRING, AT(pd_ca), "FILE",
     "with --pd: speak TLS, and trust these authorities (PEM)", 0, 0, NULL},
    {"pd-cert", 0, ARGUMENTS_STRING, AT(pd_certificate), "FILE",
     "with --pd: the certificate of this server as a client (PEM)", 0, 0, NULL},
    {"pd-key", 0, ARGUMENTS_STRING, AT(pd_key), "FILE", "with --pd-cert: its key (PEM)", 0, 0,
     NULL},
#ifdef KVS_FAULTS
    {"test-faults", 0, ARGUMENTS_STRING, AT(test_faults), "FAULTS",
     "for tests: what goes wrong with --tikv, as server/tikv_faults.h says it", 0, 0, NULL},
#endif
    {"grace", 0, ARGUMENTS_SECONDS, AT(grace_ms), "SECONDS",
     "when stopping, wait so long for requests (30)", 0, DAY, NULL},
    {"log-level", 'l', ARGUMENTS_CHOICE, AT(log_level), NULL, "what is logged (info)", 0, 0,
     level_names},
    {"config", 'c', ARGUMENTS_STRING, AT(config), "FILE", "read options from a file, too", 0, 0,
     NULL},
    {"backup-dir", 0, ARGUMENTS_STRING, AT(backup_directory), "PATH",
     "let clients make backups below this directory (not allowed)", 0, 0, NULL},
    {"verify", 0, ARGUMENTS_FLAG, AT(verify), NULL,
     "check every record in --dir, print a report and exit (engine kvs)", 0, 0, NULL},
    {"repair", 0, ARGUMENTS_STRING, AT(repair), "NEWDIR",
     "as --verify, and save all that can be read in NEWDIR", 0, 0, NULL},
    {"version", 'V', ARGUMENTS_FLAG, AT(version), NULL, "print the version", 0, 0, NULL},
    {"completion", 0, ARGUMENTS_CHOICE, AT(completion), NULL, COMPLETION_TEXT, 0, 0,
     completion_shells},
    {"help", 'h', ARGUMENTS_FLAG, AT(help), NULL, "print this text", 0, 0, NULL},
    {0},
};

#define ROWS_COUNT (sizeof rows / sizeof rows[0] - 1)
_Static_assert(ROWS_COUNT <= 64, "a bit of `given` for each");

/* Options that are of no use without another one, or one of two. */
static const struct need {
    const char *option;
    const char *others[2];
    const char *value; /* the other one's; NULL: any */
} needs[] = {
    {"sync-interval", {"sync"}, "interval"},
    {"tls-cert", {"tls-key"}, NULL},
    {"tls-key", {"tls-cert"}, NULL},
    {"tls-ca", {"tls-cert"}, NULL},
    {"keyspaces", {"tikv"}, NULL},
    {"split-keys", {"tikv"}, NULL},
    {"split-size", {"tikv"}, NULL},
    {"split-raw", {"split-keys", "split-size"}, NULL},
    {"test-faults", {"tikv"}, NULL},
    {"insecure", {"eventstore", "http"}, NULL},
    {"projections", {"eventstore", "http"}, NULL},
    {"stats-interval", {"eventstore", "http"}, NULL},
    {"heartbeat-interval", {"eventstore", "http"}, NULL},
    {"heartbeat-timeout", {"eventstore", "http"}, NULL},
    {"advertise", {"http", "tikv"}, NULL},
    {"gossip-master", {"http"}, NULL},
    {"pd", {"engine"}, "tikv"},
    {"pd-ca", {"pd"}, NULL},
    {"pd-cert", {"pd"}, NULL},
    {"pd-cert", {"pd-key"}, NULL},
    {"pd-key", {"pd-cert"}, NULL},
};

#define NEEDS_COUNT (sizeof needs / sizeof needs[0])
_Static_assert(NEEDS_COUNT <= 64, "a bit for each");

static void option_taken(void *values, const struct arguments_option *option)
{
    struct server_settings *settings = values;
    settings->given |= 1ull << (option - rows);
}

static const struct arguments_command command[] = {
    {
        .name = "",
        .operands = "",
        .summary = "durable key-value server",
        .description =
            "Keeps keys and values in a directory, and serves them over the kvs protocol to "
            "kvs-client, libkvs and kvs-bench. Nothing listens beyond this machine unless --addr "
            "says so: who can connect may do all. --tls-cert hides what is said; --tls-ca lets in "
            "only clients with a certificate.\n"
            "\n"
            "A write is acknowledged, by --sync,\n"
            "  always    when it is on the disk: it survives a power cut (the default)\n"
            "  interval  when the system has it: it survives a killed server; the disk\n"
            "            has it after --sync-interval\n"
            "  never     as interval, but the system chooses when the disk gets it\n"
            "\n"
            "SIGTERM, SIGINT and SIGHUP stop the server: it finishes what it accepted, syncs and "
            "exits with 0. A second signal ends it at once; acknowledged writes are safe then, "
            "too.\n"
            "\n"
            "--verify and --repair start no server: they read a directory that no server has "
            "open, change nothing in it, and exit with 0 when all is well. The report names file "
            "and offset of what is damaged.\n"
            "\n"
            "A file for --config has one `name = value` a line, with the names of the options "
            "(`sync = interval`); those that need no value stand alone (`insecure`, `tikv`); # "
            "begins a comment. The command line wins over the file.\n",
        .examples = "kvs-server --dir /var/lib/kvs\n"
                    "kvs-server --addr 0.0.0.0:4000 --sync interval --cache 2g\n"
                    "kvs-server --engine rocksdb --dir /var/lib/kvs --cache 4g\n"
                    "kvs-server --engine memory --addr 127.0.0.1:0\n"
                    "kvs-server --dir /var/lib/kvs --verify\n"
                    "kvs-server --dir /var/lib/kvs --repair /var/lib/kvs-saved\n"
                    "kvs-server --tikv\n"
                    "kvs-server --eventstore --http --insecure\n"
                    "kvs-server --engine tikv --pd 10.0.0.1:2379,10.0.0.2:2379\n"
                    "kvs-server --tikv=127.0.0.1:2379,127.0.0.1:20160 --keyspaces app,test\n",
        .options = rows,
    },
    {0},
};

static const struct arguments_program program = {
    .name = "kvs-server",
    .summary = "durable key-value server",
    .description = "",
    .commands = command,
    .taken = option_taken,
};

void server_settings_help(FILE *file)
{
    arguments_print_command(&program, command, file);
}

void server_settings_completion(const struct server_settings *settings, FILE *file)
{
    completion_print(&program, settings->completion, file);
}

/* --- the file -----------------------------------------------------------------------------------
 */

static int fail_line(const char *path, unsigned number, const char *what,
                     char message[ARGUMENTS_MESSAGE_SIZE])
{
    snprintf(message, ARGUMENTS_MESSAGE_SIZE, "%s:%u: %s", path, number, what);
    return KVS_ERR_INVALID_ARGUMENT;
}

static char *trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    size_t size = strlen(text);
    while (size > 0 && isspace((unsigned char)text[size - 1]))
        size--;
    text[size] = '\0';
    return text;
}

/* A # within a word is a part of it: paths have some. */
static void cut_comment(char *line)
{
    for (char *at = strchr(line, '#'); at != NULL; at = strchr(at + 1, '#')) {
        if (at == line || isspace((unsigned char)at[-1])) {
            *at = '\0';
            return;
        }
    }
}

static bool is_for_files(const char *name)
{
    static const char *const not_for_files[] = {"config",     "help",   "version",
                                                "completion", "verify", "repair"};
    for (size_t i = 0; i < sizeof not_for_files / sizeof not_for_files[0]; i++) {
        if (strcmp(name, not_for_files[i]) == 0)
            return false;
    }
    return true;
}

/* A line of the file as a word of a command line; values of settings point into it. */
struct settings_word {
    struct settings_word *next;
    char text[];
};

static int parse_line(struct server_settings *settings, const char *path, unsigned number,
                      char *line, char message[ARGUMENTS_MESSAGE_SIZE])
{
    cut_comment(line);
    char *name = trim(line);
    if (*name == '\0')
        return 0;
    char *equals = strchr(name, '=');
    const char *value = "";
    if (equals != NULL) {
        *equals = '\0';
        value = trim(equals + 1);
        name = trim(name);
    }
    if (strpbrk(name, " \t") != NULL)
        return fail_line(path, number, "write name = value", message);
    if (!is_for_files(name) || *name == '-')
        return fail_line(path, number,
                         "only options of a server, without dashes, may stand in a file", message);
    size_t size = strlen(name) + strlen(value) + sizeof "--=";
    struct settings_word *word = mem_alloc(sizeof *word + size);
    if (word == NULL)
        return fail_line(path, number, kvs_error_text(KVS_ERR_NO_MEMORY), message);
    snprintf(word->text, size, "--%s%s%s", name, equals != NULL ? "=" : "", value);
    word->next = settings->words;
    settings->words = word;
    kvs_slice words[] = {slice_of_string(word->text)};
    size_t operands = 0;
    char why[ARGUMENTS_MESSAGE_SIZE] = "";
    int error = arguments_parse(&program, command, words, 1, settings, &operands, why);
    return error != 0 ? fail_line(path, number, why, message) : 0;
}

static int read_config(struct server_settings *settings, const char *path,
                       char message[ARGUMENTS_MESSAGE_SIZE])
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        snprintf(message, ARGUMENTS_MESSAGE_SIZE, "cannot read the file of --config, %s: %s", path,
                 strerror(errno));
        return KVS_ERR_INVALID_ARGUMENT;
    }
    char line[LINE_SIZE_MAX];
    int error = 0;
    for (unsigned number = 1; error == 0 && fgets(line, sizeof line, file) != NULL; number++) {
        if (strlen(line) == sizeof line - 1 && line[sizeof line - 2] != '\n')
            error = fail_line(path, number, "the line is too long", message);
        else
            error = parse_line(settings, path, number, line, message);
    }
    if (error == 0 && ferror(file))
        error = fail_line(path, 0, strerror(errno), message);
    fclose(file);
    return error;
}

/* --- options that need others ------------------------------------------------------------------
 */

static bool is_given(const struct server_settings *settings, const char *name, const char *value)
{
    size_t i = 0;
    while (i < ROWS_COUNT && strcmp(rows[i].name, name) != 0)
        i++;
    if (i == ROWS_COUNT || (settings->given & 1ull << i) == 0)
        return false;
    if (value == NULL)
        return true;
    const void *field = (const char *)settings + rows[i].offset;
    const char *text;
    if (rows[i].kind == ARGUMENTS_CHOICE)
        text = rows[i].choices[*(const unsigned *)field];
    else
        memcpy(&text, field, sizeof text);
    return strcmp(text, value) == 0;
}

/* A bit for each need of an option that is given: of those that are met, or that are not. */
static uint64_t needs_that_are(const struct server_settings *settings, bool met)
{
    uint64_t found = 0;
    for (size_t i = 0; i < NEEDS_COUNT; i++) {
        bool is_met = false;
        for (size_t j = 0; j < 2 && needs[i].others[j] != NULL; j++)
            is_met |= is_given(settings, needs[i].others[j], needs[i].value);
        if (is_given(settings, needs[i].option, NULL) && is_met == met)
            found |= 1ull << i;
    }
    return found;
}

/* `met_before`: by what stands in the file. The command line may take that back. */
static int needs_check(const struct server_settings *settings, uint64_t met_before,
                       char message[ARGUMENTS_MESSAGE_SIZE])
{
    uint64_t unmet = needs_that_are(settings, false) & ~met_before;
    if (unmet == 0)
        return 0;
    const struct need *need = &needs[__builtin_ctzll(unmet)];
    snprintf(message, ARGUMENTS_MESSAGE_SIZE,
             "option --%s is of no use without --%s%s%s%s%s: add that, or leave --%s out%s%s",
             need->option, need->others[0], need->others[1] != NULL ? " or --" : "",
             need->others[1] != NULL ? need->others[1] : "", need->value != NULL ? " " : "",
             need->value != NULL ? need->value : "", need->option,
             settings->config != NULL ? "; options stand in " : "",
             settings->config != NULL ? settings->config : "");
    return KVS_ERR_INVALID_ARGUMENT;
}

/* --- the command line ---------------------------------------------------------------------------
 */

/* Then nothing is served, and nothing else matters. */
static bool is_about_program(const struct server_settings *settings)
{
    return settings->help || settings->version || settings->completion != COMPLETION_NONE;
}

static int parse_words(struct server_settings *settings, int argc, char **argv,
                       char message[ARGUMENTS_MESSAGE_SIZE])
{
    kvs_slice words[WORDS_MAX];
    size_t count = argc > 1 ? (size_t)argc - 1 : 0;
    size_t operands = 0;
    if (count > WORDS_MAX) {
        snprintf(message, ARGUMENTS_MESSAGE_SIZE, "too many arguments");
        return KVS_ERR_INVALID_ARGUMENT;
    }
    for (size_t i = 0; i < count; i++)
        words[i] = slice_of_string(argv[i + 1]);
    int error = arguments_parse(&program, command, words, count, settings, &operands, message);
    if (error == 0 && !is_about_program(settings))
        error = arguments_check_operands(command, words, operands, message);
    return error;
}

int server_settings_parse(struct server_settings *settings, int argc, char **argv,
                          char message[ARGUMENTS_MESSAGE_SIZE])
{
    const struct server_settings defaults = {.log_level = LOG_INFO,
                                             .grace_ms = 30 * SECONDS,
                                             .stats_interval_ms = 30 * SECONDS,
                                             .completion = COMPLETION_NONE};
    *settings = defaults;
    uint64_t met = 0;
    int error = parse_words(settings, argc, argv, message);
    if (error != 0 || is_about_program(settings))
        return error;
    if (settings->config != NULL) {
        const char *config = settings->config;
        *settings = defaults;
        error = read_config(settings, config, message);
        met = needs_that_are(settings, true);
        if (error == 0)
            error = parse_words(settings, argc, argv, message);
    }
    return error != 0 ? error : needs_check(settings, met, message);
}

void server_settings_deinit(struct server_settings *settings)
{
    while (settings->words != NULL) {
        struct settings_word *word = settings->words;
        settings->words = word->next;
        mem_free(word);
    }
}

/*
 * cli/client/table.c: all commands and options of kvs-client: what is parsed is what help shows.
 * The manual page says the same in more words.
 */
#include "cli/client/events.h"
#include "cli/client/rows.h"
#include "cli/completion.h"

#define TTL_MS_MAX KVS_TTL_MS_MAX

static const char *const formats[] = {"json", "raw", NULL};

/* --- rows that several commands share --------------------------------------------------------- */

#define OPTION_ESCAPED \
    FLAG("escaped", 'e', escaped, "keys and values are written with escapes: \\n \\t \\\\ \\x00")
#define OPTION_TTL                                                        \
    NUMBER("ttl", 0, ARGUMENTS_SECONDS, ttl_ms, "SECONDS", 1, TTL_MS_MAX, \
           "forget the key after this time, such as 90 or 0.5")
#define OPTION_FILE \
    VALUE("file", 'f', ARGUMENTS_STRING, file, "FILE", "take the value from a file, whole")
#define OPTION_JSON FLAG("json", 'j', json, "print JSON, one object per line")
#define OPTIONS_RANGE                                                                  \
    VALUE("prefix", 'p', ARGUMENTS_BYTES, prefix, "KEY", "keys that begin with this"), \
        VALUE("start", 's', ARGUMENTS_BYTES, start, "KEY",                             \
              "from this key on (default: the first)"),                                \
        VALUE("end", 'E', ARGUMENTS_BYTES, end, "KEY",                                 \
              "up to this key, without it (default: all the rest)")
#define OPTION_LIMIT                                         \
    NUMBER("limit", 'n', ARGUMENTS_NUMBER, limit, "N", 1, 0, \
           "at most this many keys (default: all)")
#define OPTION_FORMAT \
    CHOICE("format", 0, format, formats, "JSON lines (default), or raw length-prefixed records")

static const struct arguments_option common_options[] = {
    VALUE("addr", 'a', ARGUMENTS_ADDRESS, address, "HOST:PORT",
          "address of the server (default 127.0.0.1:4000)"),
    OPTION_URL("any store: kvs://HOST[:PORT], tikv://PD[,PD], log:DIR, rocksdb:DIR, memory:"),
    OPTIONS_TLS,
    OPTION_TIMEOUT("deadline of each operation (default 30000)"),
    OPTION_HELP,
    FLAG("version", 'V', version, "print the version and exit"),
    CHOICE("completion", 0, completion, completion_shells, COMPLETION_TEXT),
    OPTIONS_END,
};

static const struct arguments_option set_options[] = {OPTION_TTL, OPTION_FILE, OPTION_ESCAPED,
                                                      OPTIONS_END};
static const struct arguments_option get_options[] = {
    FLAG("raw", 'r', raw, "the value's bytes and nothing else; a missing key is an error"),
    OPTION_JSON, OPTION_ESCAPED, OPTIONS_END};
static const struct arguments_option key_options[] = {OPTION_ESCAPED, OPTIONS_END};
static const struct arguments_option mget_options[] = {OPTION_JSON, OPTION_ESCAPED, OPTIONS_END};
static const struct arguments_option cas_options[] = {
    FLAG("absent", 0, absent, "expect that the key does not exist; leave EXPECTED out"), OPTION_TTL,
    OPTION_ESCAPED, OPTIONS_END};
static const struct arguments_option scan_options[] = {
    OPTIONS_RANGE,
    OPTION_LIMIT,
    FLAG("reverse", 'r', reverse, "from the last key downwards"),
    FLAG("keys-only", 'k', keys_only, "no values"),
    OPTION_JSON,
    FLAG("raw", 0, raw, "bytes as they are instead of escapes"),
    FLAG("null", '0', null, "as --raw, with a zero byte in place of tab and newline"),
    OPTION_ESCAPED,
    OPTIONS_END};
static const struct arguments_option count_options[] = {OPTIONS_RANGE, OPTION_ESCAPED, OPTIONS_END};
static const struct arguments_option rm_range_options[] = {
    OPTIONS_RANGE, FLAG("all", 0, all, "all keys of the store"),
    FLAG("yes", 'y', yes, "do it without asking"), OPTION_ESCAPED, OPTIONS_END};
static const struct arguments_option import_options[] = {
    CHOICE("format", 0, format, formats, "what export was told; the input says it by itself"),
    NUMBER("batch", 0, ARGUMENTS_NUMBER, batch, "N", 1, KVS_BATCH_COUNT_MAX,
           "keys per atomic write (default 1000)"),
    OPTION_TTL,
    FLAG("dry-run", 0, dry_run, "only check the input; nothing is written"),
    FLAG("merge", 0, merge, "also into a store that has data: keys that are there are replaced"),
    OPTIONS_END};
static const struct arguments_option export_options[] = {OPTIONS_RANGE, OPTION_LIMIT, OPTION_FORMAT,
                                                         OPTION_ESCAPED, OPTIONS_END};
static const struct arguments_option txn_options[] = {
    FLAG("pessimistic", 0, pessimistic,
         "lock each key when it is written, or read with get-for-update"),
    OPTIONS_END};
static const struct arguments_option stats_options[] = {OPTION_JSON, OPTIONS_END};
static const struct arguments_option ping_options[] = {
    NUMBER("count", 'c', ARGUMENTS_NUMBER, count, "N", 1, 1000000000, "so many times (default 1)"),
    NUMBER("interval", 'i', ARGUMENTS_SECONDS, interval_ms, "SECONDS", 0, 24 * 3600 * 1000,
           "pause between two (default 1)"),
    OPTIONS_END};

/* --- the commands ----------------------------------------------------------------------------- */

#define RANGE_TEXT                                                                               \
    "The range is --prefix, or --start and --end; without them it is all keys, in the order of " \
    "their bytes."

static const struct arguments_command commands[] = {
    {.name = "set",
     .sought = "put write",
     .operands = "KEY VALUE",
     .operands_min = 1,
     .operands_max = 2,
     .summary = "store a value",
     .description =
         "Stores VALUE under KEY; what was there before is replaced. Prints nothing. A VALUE "
         "of - is read from standard input, --file FILE takes the place of VALUE.",
     .examples = "  kvs-client set greeting 'hello world'\n"
                 "  kvs-client set session:17 open --ttl 1800\n"
                 "  date | kvs-client set now -\n"
                 "  kvs-client set logo --file logo.png",
     .options = set_options,
     .run = command_set},
    {.name = "get",
     .sought = "read show cat",
     .operands = "KEY",
     .operands_min = 1,
     .operands_max = 1,
     .summary = "print a value",
     .description =
         "Prints the value of KEY and a newline. A missing key prints \"Key not found\" and "
         "is no error, except with --raw and --json: there standard output stays empty and "
         "the status is 1.",
     .examples = "  kvs-client get greeting\n"
                 "  kvs-client get logo --raw > logo.png",
     .options = get_options,
     .run = command_get},
    {.name = "rm",
     .sought = "del delete remove unlink",
     .operands = "KEY",
     .operands_min = 1,
     .operands_max = 1,
     .summary = "remove a key",
     .description =
         "Removes KEY and its value. Prints nothing. A missing key is an error: \"Key not "
         "found\", status 1.",
     .examples = "  kvs-client rm greeting",
     .options = key_options,
     .run = command_rm},
    {.name = "exists",
     .operands = "KEY",
     .operands_min = 1,
     .operands_max = 1,
     .summary = "is there such a key?",
     .description = "Prints \"true\" with status 0, or \"false\" with status 1.",
     .examples = "  kvs-client exists lock >/dev/null && echo locked",
     .options = key_options,
     .run = command_exists},
    {.name = "cas",
     .sought = "setnx incr",
     .operands = "KEY [EXPECTED] VALUE",
     .operands_min = 2,
     .operands_max = 3,
     .summary = "compare and set",
     .description =
         "Stores VALUE under KEY only if its value is EXPECTED; with --absent only if there "
         "is no such key. Otherwise nothing changes, the value that is there is told on "
         "standard error, and the status is 1. Compare and set are one step that nobody comes "
         "between.",
     .examples = "  kvs-client cas lock free taken\n"
                 "  kvs-client cas lock taken --absent --ttl 30",
     .options = cas_options,
     .run = command_cas},
    {.name = "mget",
     .operands = "KEY...",
     .operands_min = 1,
     .operands_max = KVS_BATCH_COUNT_MAX,
     .summary = "print several values",
     .description =
         "Prints a line \"KEY<tab>VALUE\" for each key, in the order asked, with escapes for "
         "bytes that are not text. Missing keys are named on standard error, and the status "
         "is then 1.",
     .examples = "  kvs-client mget user:1 user:2\n"
                 "  kvs-client mget user:1 user:2 --json",
     .options = mget_options,
     .run = command_mget},
    {.name = "scan",
     .sought = "keys list ls range",
     .operands = "",
     .summary = "list keys and values in key order",
     .description =
         "Prints a line \"KEY<tab>VALUE\" for each key of the range, with escapes for bytes "
         "that are not text, so that the lines can be read back.\n" RANGE_TEXT,
     .examples = "  kvs-client scan --prefix user:\n"
                 "  kvs-client scan --start b --end d --limit 10 --reverse\n"
                 "  kvs-client scan --keys-only -0 | xargs -0 -n 1 echo",
     .options = scan_options,
     .run = command_scan},
    {.name = "count",
     .sought = "dbsize size",
     .operands = "",
     .summary = "count keys",
     .description = "Prints the number of keys in the range.\n" RANGE_TEXT,
     .examples = "  kvs-client count --prefix user:",
     .options = count_options,
     .run = command_count},
    {.name = "checksum",
     .operands = "",
     .summary = "checksum of a range, to compare two stores",
     .description =
         "Prints three lines: the checksum, the number of keys, and the bytes of keys and "
         "values. The checksum is the XOR of the CRC-64 (ECMA-182, reflected) of each key and "
         "value, as TiKV's RawChecksum has it; stores with the same keys and values have the "
         "same.\n" RANGE_TEXT,
     .examples = "  kvs-client checksum --prefix user:\n"
                 "  kvs-client --url tikv://127.0.0.1:2379 checksum",
     .options = count_options,
     .run = command_checksum},
    {.name = "txn",
     .operands = "[STATEMENT...]",
     .operands_max = KVS_BATCH_COUNT_MAX,
     .summary = "several statements in one transaction",
     .description =
         "Runs the statements, each an argument of its own, or the lines of standard input, in one "
         "transaction, and commits it; when one fails, Ctrl-C is typed before the commit, or the "
         "last one is rollback, nothing is written. For --url tikv://, log:, rocksdb: and "
         "memory:. Words are quoted as in the shell; # begins a comment.\n"
         "\n"
         "  get KEY                 prints the value, or \"Key not found\"\n"
         "  get-for-update KEY      the same, and no other transaction may change the key\n"
         "  exists KEY              prints true or false\n"
         "  scan [START [END [N]]]  prints keys and values with a tab between; N: at most so many\n"
         "  put KEY VALUE           writes\n"
         "  insert KEY VALUE        writes; fails when the key exists\n"
         "  delete KEY\n"
         "  lock KEY...             as get-for-update, without reading\n"
         "  lock-shared KEY...      as lock, but shared; a key of its own comes first\n"
         "  commit, rollback        end it; nothing may follow",
     .examples = "  kvs-client --url tikv://127.0.0.1 txn 'get a' 'put a 2' 'delete b'\n"
                 "  kvs-client --url log:./data txn --pessimistic < transfer.txt",
     .options = txn_options,
     .run = command_txn},
    {.name = "ttl",
     .sought = "pttl expire",
     .operands = "KEY",
     .operands_min = 1,
     .operands_max = 1,
     .summary = "how long a key lives",
     .description =
         "Prints the seconds that are left to KEY, such as 12.345, or \"never\" when it does not "
         "end. A missing key is an error: \"Key not found\", status 1.",
     .examples = "  kvs-client set lock taken --ttl 30 && kvs-client ttl lock",
     .options = key_options,
     .run = command_ttl},
    {.name = "rm-range",
     .sought = "flushall flushdb clear",
     .operands = "",
     .summary = "remove a range of keys",
     .description =
         "Removes the keys of a range in one step and prints how many there were. Asks before "
         "it does so on a terminal; elsewhere --yes is needed. The range is --prefix, or "
         "--start and --end; --all stands for all keys.",
     .examples = "  kvs-client rm-range --prefix session: --yes",
     .options = rm_range_options,
     .run = command_rm_range},
    {.name = "import",
     .sought = "load restore",
     .operands = "[FILE]",
     .operands_max = 1,
     .summary = "store what export wrote",
     .description =
         "Reads keys and values from FILE, or from standard input (also -), and stores them. Each "
         "batch is written whole or not at all; an error names the line, and what was read "
         "before it is stored.\nA store that has any data is refused before anything is written. "
         "With --merge it is taken, and a key that is there gets the value that is read; "
         "transactions and event streams cannot be merged, and end such an import.\nLines of JSON "
         "look like {\"key\":\"name\",\"value\":\"text\"}; "
         "\"key64\" and \"value64\" hold base64 for bytes that are not UTF-8; \"ttl\" may hold "
         "seconds from now, or \"expires\" milliseconds since 1970 (what is over by then is left "
         "out), and \"family\" the number of a column family. Raw records are described under "
         "export. A progress line is shown when "
         "standard error is a terminal.",
     .examples = "  kvs-client import backup.jsonl\n"
                 "  kvs-client export | kvs-client import --addr 127.0.0.1:4001\n"
                 "  kvs-client import --merge more-users.jsonl",
     .options = import_options,
     .run = command_import},
    {.name = "export",
     .sought = "dump",
     .operands = "[FILE]",
     .operands_max = 1,
     .summary = "write keys and values to a file",
     .description =
         "Writes keys and values, in key order, to FILE or to standard output (also -). FILE "
         "appears "
         "only when all of it is written. Writes that happen meanwhile may or may not be in "
         "it; for a store at rest it is exact, with the times when keys end. Without a range and "
         "a limit all column families are written: also the data of transactions and of event "
         "streams, to be imported into an empty store before anybody uses it. With one, such as "
         "--prefix '' for all keys, keys and values alone are written, which any store "
         "takes.\nRaw: the line "
         "\"kvs-export 2\", then per key its size, its value's and its family (32 bit, "
         "little-endian), its end in milliseconds since 1970 or 0 (64 bit), and their bytes; at "
         "the end two zero sizes and the number of keys (64 bit).\n" RANGE_TEXT,
     .examples = "  kvs-client export backup.jsonl\n"
                 "  kvs-client export --prefix user: --format raw users.raw\n"
                 "  kvs-client export --prefix '' | kvs-client import --url tikv://127.0.0.1",
     .options = export_options,
     .run = command_export},
    {.name = "stats",
     .sought = "info status",
     .operands = "",
     .summary = "show what the store tells about itself",
     .description =
         "Prints the statistics of the store as a table, or as JSON. \"keys\" are those that count "
         "counts (and some that have just ended); \"all_keys\" also those that transactions and "
         "event streams are kept in.",
     .examples = "  kvs-client stats\n"
                 "  kvs-client stats --json",
     .options = stats_options,
     .run = command_stats},
    {.name = "ping",
     .operands = "",
     .summary = "measure the way to the server and back",
     .description = "Asks the server for a sign of life and prints how long it took.",
     .examples = "  kvs-client ping\n"
                 "  kvs-client ping --count 10 --interval 0.2",
     .options = ping_options,
     .run = command_ping},
    {.name = "sync",
     .operands = "",
     .summary = "bring all writes to the disk",
     .description =
         "Returns when every write acknowledged before is on the disk. Useful for a server "
         "that does not sync each write (--sync=interval or never). Prints nothing.",
     .examples = "  kvs-client sync",
     .run = command_sync},
    {.name = "compact",
     .operands = "",
     .summary = "give back the space of dead records",
     .description =
         "Returns when the space of replaced and removed values has been given back; without "
         "--timeout it may take an hour. The server compacts on its own, too. Prints nothing.",
     .examples = "  kvs-client compact",
     .run = command_compact},
    {.name = "backup",
     .operands = "DIR",
     .operands_min = 1,
     .operands_max = 1,
     .summary = "copy all data to a new directory, while it is served",
     .description =
         "Makes a copy of the store as it is now, which kvs-server --dir and --url log:DIR open. "
         "On a server DIR is a name below the directory that it was given by --backup-dir; "
         "with --url log:DIR or rocksdb:DIR it is a path. It must not be there yet. Files that "
         "do not change any more are hard links on the same file system: copy the backup "
         "elsewhere to be safe from the disk. Prints nothing.",
     .examples = "  kvs-client backup monday",
     .run = command_backup},
    {.name = "shell",
     .operands = "",
     .summary = "type commands one after the other",
     .description =
         "Reads commands, without the leading kvs-client, and runs them over one connection.\n"
         "Words are separated by blanks. In \"double quotes\" blanks are kept and escapes are "
         "read (\\n \\t \\\" \\\\ \\x00), 'single quotes' keep everything as it is, outside "
         "quotes a backslash takes the next character as it is; an open quote goes on in the "
         "next line. # at the begin of a word starts a comment. Tab completes commands, "
         "options and keys. The history is kept in $XDG_STATE_HOME/kvs/history "
         "(~/.local/state). Leave with exit or Ctrl-D.\nWithout a terminal the lines of "
         "standard input are run; the status is 1 if any failed.",
     .examples = "  kvs-client shell\n"
                 "  printf 'set a \"two words\"\\nget a\\n' | kvs-client shell",
     .run = command_shell},
    {.name = "events",
     .operands = "COMMAND ...",
     .operands_min = 1,
     .operands_max = 4,
     .summary = "event streams: append, read, follow, ...",
     .description =
         "Event streams of a kvs-server or an EventStoreDB, with commands of their own: append, "
         "read, follow, subscribe, delete, metadata, groups, users, scavenge, ping. See "
         "'kvs-client events --help'.",
     .examples = "  kvs-client events read order-7\n"
                 "  kvs-client events follow '$all' --url esdb://admin:changeit@127.0.0.1",
     .program = &events_program},
    {.name = "help",
     .operands = "[COMMAND]",
     .operands_max = 1,
     .summary = "explain a command",
     .description = "Explains a command, or lists all.",
     .examples = "  kvs-client help scan",
     .run = command_help},
    OPTIONS_END,
};

const struct arguments_program client_program = {
    .name = "kvs-client",
    .summary = "Talks to a kvs-server, or to a store in a directory.",
    .description =
        "Exit status: 0 done; 1 the operation failed, or said no; 2 the command line makes "
        "no sense.\nSee 'kvs-client help COMMAND' for the options and examples of a command.",
    .commands = commands,
    .common = common_options,
};

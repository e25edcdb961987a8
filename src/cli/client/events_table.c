/*
 * cli/client/events_table.c: the commands and options of `kvs-client events`: what is parsed is
 * what help shows. The manual page says the same in more words.
 */
#include "cli/client/events.h"

#define FIELD(name) offsetof(struct client_options, name)

#define OPTION_EXPECT                                                                           \
    {                                                                                           \
        .name = "expect", .letter = 'e', .kind = ARGUMENTS_STRING, .offset = FIELD(expect),     \
        .operand = "V", .text = "the last number expected, or none, exists, any (default: any)" \
    }
#define OPTION_FROM(what)                                                               \
    {                                                                                   \
        .name = "from", .letter = 'f', .kind = ARGUMENTS_STRING, .offset = FIELD(from), \
        .operand = "FROM", .text = what                                                 \
    }
#define OPTION_LIMIT                                                                      \
    {                                                                                     \
        .name = "limit", .letter = 'n', .kind = ARGUMENTS_NUMBER, .offset = FIELD(limit), \
        .operand = "N", .min = 1, .text = "end after so many events"                      \
    }
#define OPTION_RESOLVE                                                                      \
    {                                                                                       \
        .name = "resolve", .letter = 'l', .kind = ARGUMENTS_FLAG, .offset = FIELD(resolve), \
        .text = "follow links to the events they stand for"                                 \
    }
#define OPTIONS_FILTER                                                               \
    {.name = "stream-prefix",                                                        \
     .kind = ARGUMENTS_STRING,                                                       \
     .offset = FIELD(stream_prefix),                                                 \
     .operand = "TEXT",                                                              \
     .text = "$all: streams whose name begins with this"},                           \
        {.name = "stream-regex",                                                     \
         .kind = ARGUMENTS_STRING,                                                   \
         .offset = FIELD(stream_regex),                                              \
         .operand = "REGEX",                                                         \
         .text = "$all: streams with this in their name"},                           \
        {.name = "type-prefix",                                                      \
         .kind = ARGUMENTS_STRING,                                                   \
         .offset = FIELD(type_prefix),                                               \
         .operand = "TEXT",                                                          \
         .text = "$all: events whose type begins with this"},                        \
    {                                                                                \
        .name = "type-regex", .kind = ARGUMENTS_STRING, .offset = FIELD(type_regex), \
        .operand = "REGEX", .text = "$all: events with this in their type"           \
    }
#define OPTIONS_END  \
    {                \
        .name = NULL \
    }

static const struct arguments_option common_options[] = {
    {.name = "url",
     .letter = 'u',
     .kind = ARGUMENTS_STRING,
     .offset = FIELD(url),
     .operand = "URL",
     .text = "where the streams are (default esdb://127.0.0.1:1113); see below"},
    {.name = "tls-ca",
     .kind = ARGUMENTS_STRING,
     .offset = FIELD(tls_ca),
     .operand = "FILE",
     .text = "speak TLS, and trust these authorities (PEM)"},
    {.name = "tls-cert",
     .kind = ARGUMENTS_STRING,
     .offset = FIELD(tls_certificate),
     .operand = "FILE",
     .text = "speak TLS, and show this certificate when asked (PEM)"},
    {.name = "tls-key",
     .kind = ARGUMENTS_STRING,
     .offset = FIELD(tls_key),
     .operand = "FILE",
     .text = "with --tls-cert: its key (PEM)"},
    {.name = "timeout",
     .letter = 't',
     .kind = ARGUMENTS_NUMBER,
     .offset = FIELD(timeout_ms),
     .operand = "MS",
     .min = 1,
     .max = 24 * 3600 * 1000,
     .text = "deadline of each call (default 30000)"},
    {.name = "help",
     .letter = 'h',
     .kind = ARGUMENTS_FLAG,
     .offset = FIELD(help),
     .text = "show help, here for the command, and exit"},
    OPTIONS_END,
};

static const struct arguments_option append_options[] = {
    OPTION_EXPECT,
    {.name = "batch",
     .letter = 'b',
     .kind = ARGUMENTS_NUMBER,
     .offset = FIELD(batch),
     .operand = "N",
     .min = 1,
     .max = 10000,
     .text = "events of one append, at most (default 1000)"},
    {.name = "type",
     .kind = ARGUMENTS_STRING,
     .offset = FIELD(type),
     .operand = "TYPE",
     .text = "append one event of this type, and read nothing"},
    {.name = "data",
     .kind = ARGUMENTS_BYTES,
     .offset = FIELD(data),
     .operand = "JSON",
     .text = "with --type: its data (default {})"},
    OPTIONS_END};
static const struct arguments_option read_options[] = {
    OPTION_FROM("start, end, a number, or for $all COMMIT/PREPARE (default: start)"),
    OPTION_LIMIT,
    {.name = "reverse",
     .letter = 'r',
     .kind = ARGUMENTS_FLAG,
     .offset = FIELD(reverse),
     .text = "backwards (default from the end)"},
    OPTION_RESOLVE,
    OPTIONS_FILTER,
    OPTIONS_END};
static const struct arguments_option follow_options[] = {
    OPTION_FROM("start, end, a number, or for $all behind COMMIT/PREPARE"),
    {.name = "last",
     .letter = 'N',
     .kind = ARGUMENTS_NUMBER,
     .offset = FIELD(last),
     .operand = "N",
     .max = 4096,
     .text = "without --from: the last N first (default 10)"},
    OPTION_LIMIT,
    OPTION_RESOLVE,
    OPTIONS_FILTER,
    OPTIONS_END};
static const struct arguments_option subscribe_options[] = {
    OPTION_LIMIT,
    {.name = "in-flight",
     .kind = ARGUMENTS_NUMBER,
     .offset = FIELD(in_flight),
     .operand = "N",
     .min = 1,
     .max = 10000,
     .text = "events without an acknowledgement (default 10)"},
    OPTIONS_END};
static const struct arguments_option delete_options[] = {
    {.name = "hard",
     .kind = ARGUMENTS_FLAG,
     .offset = FIELD(hard),
     .text = "for good: the name can never be used again"},
    OPTION_EXPECT,
    OPTIONS_END};
static const struct arguments_option metadata_options[] = {OPTION_EXPECT, OPTIONS_END};
static const struct arguments_option groups_options[] = {
    OPTION_FROM("first event to give: start, end or a number (default: end)"),
    OPTION_RESOLVE,
    {.name = "strategy",
     .kind = ARGUMENTS_STRING,
     .offset = FIELD(strategy),
     .operand = "NAME",
     .text = "RoundRobin (default), DispatchToSingle, Pinned, PinnedByCorrelation"},
    {.name = "message-timeout",
     .kind = ARGUMENTS_NUMBER,
     .offset = FIELD(message_timeout_ms),
     .operand = "MS",
     .min = 1,
     .max = INT32_MAX,
     .text = "then an event is given again (default 30000)"},
    {.name = "retries",
     .kind = ARGUMENTS_NUMBER,
     .offset = FIELD(retries),
     .operand = "N",
     .max = INT32_MAX,
     .text = "then it is parked (default 10)"},
    {.name = "members",
     .kind = ARGUMENTS_NUMBER,
     .offset = FIELD(subscribers),
     .operand = "N",
     .max = INT32_MAX,
     .text = "at most so many at once (default 0: no limit)"},
    OPTIONS_END};
static const struct arguments_option users_options[] = {
    {.name = "full-name",
     .kind = ARGUMENTS_STRING,
     .offset = FIELD(full_name),
     .operand = "NAME",
     .text = "create, update: the name for people"},
    {.name = "groups",
     .kind = ARGUMENTS_STRING,
     .offset = FIELD(groups),
     .operand = "G[,G...]",
     .text = "create, update: $admins, $ops, or any others"},
    {.name = "file",
     .letter = 'f',
     .kind = ARGUMENTS_STRING,
     .offset = FIELD(file),
     .operand = "FILE",
     .text = "create, password: the password is its first line; - standard "
             "input"},
    OPTIONS_END};

#define EVENT_TEXT                                                                             \
    "An event is a JSON object on a line: stream, number, type, id, created (ms since 1970), " \
    "data (or bytes, or bytes64 when it is not JSON), metadata, and the position in $all."

static const struct arguments_command commands[] = {
    {.name = "append",
     .operands = "STREAM [FILE]",
     .operands_min = 1,
     .operands_max = 2,
     .summary = "append events, one JSON object per line",
     .description =
         "Reads events from FILE or standard input and appends them as they come; each append is "
         "all or none, and prints the numbers and the position of its events. A line needs a "
         "type; data, metadata and id may be there. The same id twice is written once. With "
         "--expect, each further append expects what the one before it wrote.\n" EVENT_TEXT,
     .examples = "  echo '{\"type\":\"placed\",\"data\":{\"id\":7}}' | kvs-client events append "
                 "order-7\n"
                 "  kvs-client events append order-7 --type paid --expect 0",
     .options = append_options,
     .run = command_events_append},
    {.name = "read",
     .operands = "STREAM",
     .operands_min = 1,
     .operands_max = 1,
     .summary = "print the events of a stream, or of $all",
     .description = "Prints what is there, a line per event, and ends.\n" EVENT_TEXT,
     .examples = "  kvs-client events read order-7\n"
                 "  kvs-client events read '$all' --reverse --limit 20",
     .options = read_options,
     .run = command_events_read},
    {.name = "follow",
     .operands = "STREAM",
     .operands_min = 1,
     .operands_max = 1,
     .summary = "print events as they come, like tail -f",
     .description =
         "Prints the last events of the stream, or of $all, then every further one as it is "
         "appended, in order, none left out or twice, also over lost connections. Goes on until "
         "Ctrl-C, or --limit events.\n" EVENT_TEXT,
     .examples = "  kvs-client events follow order-7\n"
                 "  kvs-client events follow '$all' --type-prefix placed --from start",
     .options = follow_options,
     .run = command_events_follow},
    {.name = "subscribe",
     .operands = "STREAM GROUP",
     .operands_min = 2,
     .operands_max = 2,
     .summary = "print events as a member of a group",
     .description =
         "Joins the persistent subscription group of the stream. An event is acknowledged when "
         "it has been printed; what was not comes again, to this member or another.\n" EVENT_TEXT,
     .examples = "  kvs-client events subscribe order-7 mailers",
     .options = subscribe_options,
     .run = command_events_subscribe},
    {.name = "delete",
     .operands = "STREAM",
     .operands_min = 1,
     .operands_max = 1,
     .summary = "delete a stream",
     .description = "Its events cannot be read any more. Appending to it brings it back, with "
                    "further numbers, unless it was deleted with --hard. Prints nothing.",
     .examples = "  kvs-client events delete order-7",
     .options = delete_options,
     .run = command_events_delete},
    {.name = "metadata",
     .operands = "STREAM [JSON]",
     .operands_min = 1,
     .operands_max = 2,
     .summary = "print a stream's metadata, or set it",
     .description =
         "Metadata is a JSON object: $maxCount (events kept), $maxAge (seconds), $tb (first "
         "number kept), $cacheControl, $acl ($r $w $d $mr $mw: who may read, write, delete, read "
         "and write metadata), and what else one likes. Setting replaces all of it.",
     .examples = "  kvs-client events metadata order-7\n"
                 "  kvs-client events metadata order-7 '{\"$maxCount\":1000}'",
     .options = metadata_options,
     .run = command_events_metadata},
    {.name = "groups",
     .operands = "create|update|delete|replay STREAM GROUP",
     .operands_min = 3,
     .operands_max = 3,
     .summary = "manage persistent subscription groups",
     .description = "create and update set all settings; update keeps the group's place in the "
                    "stream. replay gives parked events again, by HTTP (port 2113, or "
                    "the URL's httpPort). Print nothing.",
     .examples = "  kvs-client events groups create order-7 mailers --from start\n"
                 "  kvs-client events groups replay order-7 mailers",
     .options = groups_options,
     .run = command_events_groups},
    {.name = "users",
     .operands = "list|create|update|password|enable|disable|delete [LOGIN]",
     .operands_min = 1,
     .operands_max = 2,
     .summary = "manage users",
     .description = "list prints a JSON object per user; the others print nothing.",
     .examples = "  kvs-client events users list\n"
                 "  kvs-client events users create joe --groups '$ops' --file password.txt",
     .options = users_options,
     .run = command_events_users},
    {.name = "scavenge",
     .operands = "",
     .summary = "give back the space of what is deleted",
     .description = "Starts a scavenge and prints its id.",
     .examples = "  kvs-client events scavenge",
     .run = command_events_scavenge},
    {.name = "ping",
     .operands = "",
     .summary = "measure the way to the server and back",
     .description = "Asks the server for a sign of life and prints how long it took.",
     .examples = "  kvs-client events ping",
     .run = command_events_ping},
    OPTIONS_END,
};

const struct arguments_program events_program = {
    .name = "kvs-client events",
    .summary = "Event streams of a kvs-server or an EventStoreDB.",
    .description =
        "URL: esdb://[USER:PASSWORD@]HOST[:PORT][,...][?tls=true&...] one node, or several in "
        "turn; esdb+discover://... a cluster, asked by HTTP who is in it.\nSee 'kvs-client "
        "events COMMAND --help' for the options and examples of a command.",
    .commands = commands,
    .common = common_options,
};

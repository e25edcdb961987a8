/*
 * cli/client/events_table.c: the commands and options of `kvs-client events`: what is parsed is
 * what help shows. The manual page says the same in more words.
 */
#include "cli/client/events.h"
#include "cli/client/rows.h"

#define OPTION_EXPECT                                                   \
    VALUE("expect", 'e', ARGUMENTS_STRING, expect, "N|none|exists|any", \
          "the last number expected; none: there is no such stream (default: any)")
#define OPTION_FROM(what) VALUE("from", 'f', ARGUMENTS_STRING, from, "N|start|end", what)
#define OPTION_LIMIT \
    NUMBER("limit", 'n', ARGUMENTS_NUMBER, limit, "N", 1, 0, "end after so many events")
#define OPTION_RESOLVE FLAG("resolve", 'l', resolve, "follow links to the events they stand for")
#define OPTIONS_FILTER                                                    \
    VALUE("stream-prefix", 0, ARGUMENTS_STRING, stream_prefix, "TEXT",    \
          "$all: streams whose name begins with this"),                   \
        VALUE("stream-regex", 0, ARGUMENTS_STRING, stream_regex, "REGEX", \
              "$all: streams with this in their name"),                   \
        VALUE("type-prefix", 0, ARGUMENTS_STRING, type_prefix, "TEXT",    \
              "$all: events whose type begins with this"),                \
        VALUE("type-regex", 0, ARGUMENTS_STRING, type_regex, "REGEX",     \
              "$all: events with this in their type")

static const struct arguments_option common_options[] = {
    OPTION_URL("where the streams are (default esdb://127.0.0.1:1113); see below"),
    OPTIONS_TLS,
    OPTION_TIMEOUT("deadline of each call (default 30000)"),
    OPTION_HELP,
    OPTIONS_END,
};

static const struct arguments_option append_options[] = {
    OPTION_EXPECT,
    NUMBER("batch", 'b', ARGUMENTS_NUMBER, batch, "N", 1, 10000,
           "events of one append, at most (default 1000)"),
    VALUE("type", 0, ARGUMENTS_STRING, type, "TYPE",
          "append one event of this type, and read nothing"),
    VALUE("data", 0, ARGUMENTS_BYTES, data, "JSON", "with --type: its data (default {})"),
    OPTIONS_END};
static const struct arguments_option read_options[] = {
    OPTION_FROM("start, end, a number, or for $all COMMIT/PREPARE (default: start)"),
    OPTION_LIMIT,
    FLAG("reverse", 'r', reverse, "backwards (default from the end)"),
    OPTION_RESOLVE,
    OPTIONS_FILTER,
    OPTIONS_END};
static const struct arguments_option follow_options[] = {
    OPTION_FROM("start, end, a number, or for $all behind COMMIT/PREPARE"),
    NUMBER("last", 'N', ARGUMENTS_NUMBER, last, "N", 0, 4096,
           "without --from: the last N first (default 10)"),
    OPTION_LIMIT,
    OPTION_RESOLVE,
    OPTIONS_FILTER,
    OPTIONS_END};
static const struct arguments_option subscribe_options[] = {
    OPTION_LIMIT,
    NUMBER("in-flight", 0, ARGUMENTS_NUMBER, in_flight, "N", 1, 10000,
           "events without an acknowledgement (default 10)"),
    OPTIONS_END};
static const struct arguments_option delete_options[] = {
    FLAG("hard", 0, hard, "for good: the name can never be used again"), OPTION_EXPECT,
    OPTIONS_END};
static const struct arguments_option metadata_options[] = {OPTION_EXPECT, OPTIONS_END};
static const struct arguments_option groups_options[] = {
    OPTION_FROM("first event to give: start, end or a number (default: end)"),
    OPTION_RESOLVE,
    VALUE("strategy", 0, ARGUMENTS_STRING, strategy,
          "RoundRobin|DispatchToSingle|Pinned|PinnedByCorrelation",
          "which member gets an event (default RoundRobin)"),
    NUMBER("message-timeout", 0, ARGUMENTS_NUMBER, message_timeout_ms, "MS", 1, INT32_MAX,
           "then an event is given again (default 30000)"),
    NUMBER("retries", 0, ARGUMENTS_NUMBER, retries, "N", 0, INT32_MAX,
           "then it is parked (default 10)"),
    NUMBER("members", 0, ARGUMENTS_NUMBER, subscribers, "N", 0, INT32_MAX,
           "at most so many at once (default 0: no limit)"),
    OPTIONS_END};
static const struct arguments_option users_options[] = {
    VALUE("full-name", 0, ARGUMENTS_STRING, full_name, "NAME",
          "create, update: the name for people"),
    VALUE("groups", 0, ARGUMENTS_STRING, groups, "G[,G...]",
          "create, update: $admins, $ops, or any others"),
    VALUE("file", 'f', ARGUMENTS_STRING, file, "FILE",
          "create, password: the password is its first line; - standard "
          "input"),
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
         "type; data, metadata and id may be there, and JSON is kept as it is written. A line that "
         "is no event ends it: what stands before it is appended, nothing behind it. The same id "
         "twice is written once. With "
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
     .operands = "list [STREAM] | info|create|update|delete|replay STREAM GROUP",
     .operands_min = 1,
     .operands_max = 3,
     .summary = "manage persistent subscription groups",
     .description =
         "list prints a JSON object per group, of all streams or one: status, lastKnown (the "
         "stream's last event), lastCheckpoint (all up to here is done), inFlight, members, total "
         "and perSecond (events given). info prints one group in full: also parked, what waits to "
         "be given, its settings and its connections. create and update set all settings; update "
         "keeps the group's place in the stream. replay gives parked events again. These, and "
         "delete, print nothing.\n"
         "A server is asked for list, info and replay by HTTP (port 2113, or the URL's httpPort), "
         "for want of a command in the TCP protocol.",
     .examples = "  kvs-client events groups create order-7 mailers --from start\n"
                 "  kvs-client events groups list\n"
                 "  kvs-client events groups info order-7 mailers\n"
                 "  kvs-client events groups replay order-7 mailers",
     .options = groups_options,
     .run = command_events_groups},
    {.name = "users",
     .operands = "list|create|update|password|enable|disable|delete [LOGIN]",
     .operands_min = 1,
     .operands_max = 2,
     .summary = "manage users",
     .description = "list prints a JSON object per user; the others print nothing. What an update "
                    "does not name stays as it is; --groups '' is none.",
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
        "turn; esdb+discover://... a cluster, asked by HTTP who is in it; log:DIR or rocksdb:DIR a "
        "directory that no server has open, where nobody is asked who he is; memory: gone with "
        "the program.\nSee 'kvs-client events COMMAND --help' for the options and examples of a "
        "command.",
    .commands = commands,
    .common = common_options,
};

/* cli/client/events_manage.c: `kvs-client events` for what is around the events: deleting,
 * metadata, groups, users, upkeep. Main thread. */
#include "base/clock.h"
#include "cli/client/encoding.h"
#include "cli/client/events.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

static bool is_word(kvs_slice word, const char *text)
{
    return slice_equal(word, slice_of_string(text));
}

int command_events_delete(void *context)
{
    struct client *client = context;
    int64_t expected;
    int status = events_expected(client, &expected);
    if (status == 0)
        status = events_connect(client, true);
    if (status != 0)
        return status;
    kvs_future *future = kvs_events_delete(client->events, client->operands[0], expected,
                                           client->options.hard, NULL);
    /* Nothing was expected of it: all that can be wrong is that it is not there. */
    if (call_wait_future(future) == KVS_ERR_WRONG_EXPECTED_VERSION && expected == KVS_EXPECT_ANY)
        status = client_fail_operation(client, KVS_ERR_NO_STREAM, NULL);
    else
        status = events_wait(client, future);
    kvs_future_free(future);
    return status;
}

/* --- metadata ----------------------------------------------------------------------------------
 */

static int print_metadata(const struct client *client, const kvs_stream_metadata *metadata)
{
    if (metadata->is_deleted)
        return client_fail(client, "the stream is deleted");
    if (metadata->json.size == 0) {
        printf("{}\n");
        return 0;
    }
    json_t *parsed = json_loadb((const char *)metadata->json.data, metadata->json.size, 0, NULL);
    char *text = json_dumps(parsed, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(parsed);
    if (text == NULL)
        return client_fail(client, "the stream's metadata is no JSON object");
    printf("%s\n", text);
    free(text);
    return 0;
}

int command_events_metadata(void *context)
{
    struct client *client = context;
    kvs_slice stream = client->operands[0];
    bool sets = client->operands_count > 1;
    int64_t expected;
    int status = events_expected(client, &expected);
    if (status == 0)
        status = events_connect(client, !sets);
    if (status != 0)
        return status;
    if (sets)
        return events_wait_and_free(
            client,
            kvs_events_set_metadata(client->events, stream, expected, client->operands[1], NULL));
    void *pointer = NULL;
    kvs_future *future = kvs_events_get_metadata(client->events, stream, NULL);
    status = events_wait(client, future);
    if (status == 0 && kvs_future_get_pointer(future, &pointer) == 0)
        status = print_metadata(client, pointer);
    kvs_future_free(future);
    return status;
}

/* --- groups ------------------------------------------------------------------------------------
 */

static int take_settings(const struct client *client, kvs_group_settings *ret_settings)
{
    const struct client_options *options = &client->options;
    kvs_group_settings settings = KVS_GROUP_SETTINGS_INIT;
    settings.resolve_links = options->resolve;
    settings.strategy = options->strategy;
    if (options->from != NULL && strcmp(options->from, "end") != 0) {
        settings.start_from =
            strcmp(options->from, "start") == 0 ? 0 : events_number(slice_of_string(options->from));
        if (settings.start_from < 0)
            return client_misuse(client, "--from takes start, end or a number");
    }
    settings.message_timeout_ms = (uint32_t)options->message_timeout_ms;
    settings.retries_max = (uint32_t)options->retries;
    settings.subscribers_max = (uint32_t)options->subscribers;
    *ret_settings = settings;
    return 0;
}

/* A name that is no UTF-8 cannot stand in JSON as it is. */
static json_t *json_name(kvs_slice name)
{
    json_t *text = json_stringn((const char *)name.data, name.size);
    return text != NULL ? text : json_string("?");
}

static json_t *json_number_or_null(int64_t number)
{
    return number < 0 ? json_null() : json_integer(number);
}

/* NULL: no memory. */
static json_t *group_summary_json(const kvs_group_summary *group)
{
    return json_pack("{s:o, s:o, s:s, s:o, s:o, s:i, s:i, s:I, s:I}", "stream",
                     json_name(group->stream), "group", json_name(group->group), "status",
                     group->status, "lastKnown", json_number_or_null(group->last_known),
                     "lastCheckpoint", json_number_or_null(group->last_checkpoint), "inFlight",
                     (int)group->in_flight, "members", (int)group->connections_count, "total",
                     (json_int_t)group->total, "perSecond", (json_int_t)group->per_second);
}

static json_t *group_settings_json(const kvs_group_settings *settings)
{
    return json_pack(
        "{s:b, s:I, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b}", "resolveLinks",
        (int)settings->resolve_links, "startFrom", (json_int_t)settings->start_from, "strategy",
        settings->strategy, "messageTimeoutMs", (int)settings->message_timeout_ms, "retries",
        (int)settings->retries_max, "members", (int)settings->subscribers_max, "liveBuffer",
        (int)settings->live_buffer_count, "historyBuffer", (int)settings->history_buffer_count,
        "readBatch", (int)settings->read_batch_count, "checkpointAfterMs",
        (int)settings->checkpoint_after_ms, "checkpointMin", (int)settings->checkpoint_count_min,
        "checkpointMax", (int)settings->checkpoint_count_max, "extraStatistics",
        (int)settings->extra_statistics);
}

static json_t *group_connection_json(const kvs_group_connection *connection)
{
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:I, s:I}", "from", connection->from, "login",
                     connection->login, "name", connection->name, "inFlight",
                     (int)connection->in_flight, "availableSlots", (int)connection->available_slots,
                     "total", (json_int_t)connection->total, "perSecond",
                     (json_int_t)connection->per_second);
}

static json_t *group_info_json(const kvs_group_info *info)
{
    json_t *connections = json_array();
    for (size_t i = 0; i < info->summary.connections_count; i++)
        json_array_append_new(connections, group_connection_json(&info->connections[i]));
    json_t *object = group_summary_json(&info->summary);
    json_t *more = json_pack("{s:I, s:i, s:i, s:i, s:o, s:o}", "parked", (json_int_t)info->parked,
                             "outstanding", (int)info->outstanding, "toRetry",
                             (int)info->retry_buffer, "toGive", (int)info->read_buffer, "settings",
                             group_settings_json(&info->settings), "connections", connections);
    if (more == NULL || json_object_update(object, more) != 0) {
        json_decref(object);
        object = NULL;
    }
    json_decref(more);
    return object;
}

static int print_json(const struct client *client, json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (text == NULL)
        return client_fail(client, "out of memory");
    printf("%s\n", text);
    free(text);
    return 0;
}

static int list_groups(struct client *client, kvs_slice stream)
{
    void *pointer = NULL;
    int status = events_connect(client, true);
    if (status != 0)
        return status;
    kvs_future *future = kvs_events_list_groups(client->events, stream, NULL);
    status = events_wait(client, future);
    if (status == 0 && kvs_future_get_pointer(future, &pointer) == 0) {
        const kvs_group_list *list = pointer;
        for (size_t i = 0; i < list->count && status == 0; i++)
            status = print_json(client, group_summary_json(&list->groups[i]));
    }
    kvs_future_free(future);
    return status;
}

static int tell_group(struct client *client, kvs_slice stream, kvs_slice group)
{
    void *pointer = NULL;
    int status = events_connect(client, true);
    if (status != 0)
        return status;
    kvs_future *future = kvs_events_get_group(client->events, stream, group, NULL);
    status = events_wait(client, future);
    if (status == 0 && kvs_future_get_pointer(future, &pointer) == 0)
        status = print_json(client, group_info_json(pointer));
    kvs_future_free(future);
    return status;
}

static int change_group(struct client *client, kvs_slice action, kvs_slice stream, kvs_slice group)
{
    kvs_group_settings settings;
    bool creates = is_word(action, "create");
    int status = take_settings(client, &settings);
    if (status == 0)
        status = events_connect(client, !creates);
    if (status != 0)
        return status;
    kvs_events *events = client->events;
    kvs_future *future = creates ? kvs_events_create_group(events, stream, group, &settings, NULL)
                         : is_word(action, "update")
                             ? kvs_events_update_group(events, stream, group, &settings, NULL)
                         : is_word(action, "delete")
                             ? kvs_events_delete_group(events, stream, group, NULL)
                             : kvs_events_replay_parked(events, stream, group, NULL);
    return events_wait_and_free(client, future);
}

int command_events_groups(void *context)
{
    static const char *const actions[] = {"info", "create", "update", "delete", "replay"};
    struct client *client = context;
    kvs_slice action = client->operands[0];
    size_t count = client->operands_count;
    if (is_word(action, "list")) {
        if (count > 2)
            return client_misuse(client, "groups list takes one STREAM at most");
        return list_groups(client, count > 1 ? client->operands[1] : (kvs_slice){0});
    }
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        if (!is_word(action, actions[i]))
            continue;
        if (count < 3)
            return client_misuse(client, "which? groups %s STREAM GROUP", actions[i]);
        kvs_slice stream = client->operands[1], group = client->operands[2];
        return i == 0 ? tell_group(client, stream, group)
                      : change_group(client, action, stream, group);
    }
    return client_misuse(client, "groups takes list, info, create, update, delete or replay");
}

/* --- users -------------------------------------------------------------------------------------
 */

#define GROUPS_MAX 64u
#define PASSWORD_SIZE_MAX 255u

struct user_words {
    char groups_text[1024];
    const char *groups[GROUPS_MAX];
    char password[PASSWORD_SIZE_MAX + 3]; /* and the two bytes that end a line */
    kvs_user user;
};

static int take_groups(const struct client *client, struct user_words *words)
{
    const char *text = client->options.groups;
    if (text == NULL)
        return 0;
    if (strlen(text) >= sizeof words->groups_text)
        return client_misuse(client, "--groups is too long");
    memcpy(words->groups_text, text, strlen(text) + 1);
    char *rest = words->groups_text;
    char *group;
    while ((group = strsep(&rest, ",")) != NULL) {
        if (group[0] == '\0')
            continue;
        if (words->user.groups_count == GROUPS_MAX)
            return client_misuse(client, "--groups has more than %u groups", GROUPS_MAX);
        words->groups[words->user.groups_count++] = group;
    }
    words->user.groups = words->groups;
    return 0;
}

/* A line without its end, which the end of the file may be. Its size; 0: it is empty, too long, has
 * a zero byte, or cannot be read. */
static size_t read_line(FILE *file, char *out, size_t size_max)
{
    size_t size = 0;
    int byte;
    while ((byte = getc(file)) != EOF && byte != '\n' && size < size_max + 2) {
        out[size++] = (char)byte;
        if (byte == '\0')
            return 0;
    }
    size -= size > 0 && out[size - 1] == '\r';
    out[size] = '\0';
    return size > size_max || ferror(file) ? 0 : size;
}

/* The first line of a file, so that no list of processes shows it. */
static int take_password(const struct client *client, struct user_words *words)
{
    const char *path = client->options.file;
    if (path == NULL)
        return client_misuse(client, "give the password as a file's first line: --file FILE, - for "
                                     "standard input");
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (file == NULL)
        return client_fail(client, "%s: %s", path, strerror(errno));
    size_t size = read_line(file, words->password, PASSWORD_SIZE_MAX);
    if (file != stdin)
        fclose(file);
    if (size == 0)
        return client_fail(client, "%s: its first line is no password of 1 to %u bytes", path,
                           PASSWORD_SIZE_MAX);
    words->user.password = words->password;
    return 0;
}

static int print_user(const struct client *client, const kvs_user *user)
{
    json_t *groups = json_array();
    for (size_t i = 0; i < user->groups_count; i++)
        json_array_append_new(groups, json_string(user->groups[i]));
    json_t *object =
        json_pack("{s:s, s:s, s:o, s:b}", "login", user->login, "fullName", user->full_name,
                  "groups", groups, "disabled", (int)user->is_disabled);
    return print_json(client, object);
}

static int list_users(struct client *client, const char *login)
{
    void *pointer = NULL;
    kvs_future *future = kvs_events_get_users(client->events, login, NULL);
    int status = events_wait(client, future);
    if (status == 0 && kvs_future_get_pointer(future, &pointer) == 0) {
        const kvs_user_list *list = pointer;
        for (size_t i = 0; i < list->count && status == 0; i++)
            status = print_user(client, &list->users[i]);
    }
    kvs_future_free(future);
    return status;
}

static const struct {
    const char *word;
    enum kvs_user_change change;
} user_changes[] = {
    {"create", KVS_USER_CREATE}, {"update", KVS_USER_UPDATE},   {"password", KVS_USER_PASSWORD},
    {"enable", KVS_USER_ENABLE}, {"disable", KVS_USER_DISABLE}, {"delete", KVS_USER_DELETE},
};

/* What an update does not name stays as it is: the server takes all of it anew. The future owns
 * what is kept. */
static int keep_rest(struct client *client, kvs_user *user, kvs_future **ret_future)
{
    void *pointer = NULL;
    *ret_future = kvs_events_get_users(client->events, user->login, NULL);
    int status = events_wait(client, *ret_future);
    if (status != 0 || kvs_future_get_pointer(*ret_future, &pointer) != 0)
        return status;
    const kvs_user_list *list = pointer;
    const struct client_options *options = &client->options;
    if (list->count > 0 && options->full_name == NULL)
        user->full_name = list->users[0].full_name;
    if (list->count > 0 && options->groups == NULL) {
        user->groups = list->users[0].groups;
        user->groups_count = list->users[0].groups_count;
    }
    return 0;
}

static int change_user(struct client *client, enum kvs_user_change change, const char *login)
{
    const struct client_options *options = &client->options;
    struct user_words words = {.user = {.login = login, .full_name = options->full_name}};
    kvs_future *kept = NULL;
    bool updates = change == KVS_USER_UPDATE;
    if (updates && options->full_name == NULL && options->groups == NULL)
        return client_misuse(client, "nothing to update: give --full-name, --groups or both");
    int status = take_groups(client, &words);
    if (status == 0 && (change == KVS_USER_CREATE || change == KVS_USER_PASSWORD))
        status = take_password(client, &words);
    if (status == 0)
        status = events_connect(client, change != KVS_USER_CREATE);
    if (status == 0 && updates && (options->full_name == NULL || options->groups == NULL))
        status = keep_rest(client, &words.user, &kept);
    if (status == 0)
        status = events_wait_and_free(
            client, kvs_events_change_user(client->events, change, &words.user, NULL));
    kvs_future_free(kept);
    explicit_bzero(words.password, sizeof words.password);
    return status;
}

int command_events_users(void *context)
{
    struct client *client = context;
    kvs_slice action = client->operands[0];
    const char *login = NULL;
    if (client->operands_count > 1) {
        int status = client_path(client, client->operands[1], &login); /* a word without zeros */
        if (status != 0)
            return status;
    }
    if (is_word(action, "list")) {
        int status = events_connect(client, true);
        return status != 0 ? status : list_users(client, login);
    }
    for (size_t i = 0; i < sizeof user_changes / sizeof user_changes[0]; i++) {
        if (!is_word(action, user_changes[i].word))
            continue;
        if (login == NULL)
            return client_misuse(client, "whose? users %s LOGIN", user_changes[i].word);
        return change_user(client, user_changes[i].change, login);
    }
    return client_misuse(client,
                         "users takes list, create, update, password, enable, disable or delete");
}

/* --- upkeep ------------------------------------------------------------------------------------
 */

int command_events_scavenge(void *context)
{
    struct client *client = context;
    kvs_slice id;
    int status = events_connect(client, true);
    if (status != 0)
        return status;
    kvs_future *future = kvs_events_scavenge(client->events, NULL);
    status = events_wait(client, future);
    if (status == 0 && kvs_future_get_value(future, &id) == 0)
        printf("%.*s\n", (int)id.size, (const char *)id.data);
    kvs_future_free(future);
    return status;
}

int command_events_ping(void *context)
{
    struct client *client = context;
    int status = events_connect(client, true);
    if (status != 0)
        return status;
    uint64_t begin_ns = clock_now_ns();
    status = events_wait_and_free(client, kvs_events_ping(client->events, NULL));
    if (status == 0)
        printf("%s: %.3f ms\n", client->events_url, (double)(clock_now_ns() - begin_ns) / 1e6);
    return status;
}

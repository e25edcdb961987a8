/* client/events/check.c: see the header. */
#include "client/events/check.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>

#define LOGIN_SIZE_MAX 255u
#define EVENT_OVERHEAD 64u /* of an event, against the size of an append */
#define PAGE_COUNT_DEFAULT 512u
#define BUFFER_COUNT_DEFAULT 4096u
#define BUFFER_COUNT_MAX (1024u * 1024)
#define BUFFER_SIZE_DEFAULT (8u * 1024 * 1024)
#define CHECKPOINT_INTERVAL_DEFAULT 1000u
#define IN_FLIGHT_DEFAULT 10u
#define IN_FLIGHT_MAX 65536u

__attribute__((format(printf, 2, 3))) static int refuse(char why[CHECK_WHY_SIZE],
                                                        const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, CHECK_WHY_SIZE, format, args);
    va_end(args);
    return KVS_ERR_INVALID_ARGUMENT;
}

/* --- options -----------------------------------------------------------------------------------
 */

static bool is_login(const char *login, const char *password)
{
    if (login == NULL)
        return password == NULL;
    return login[0] != '\0' && strlen(login) <= LOGIN_SIZE_MAX &&
           (password == NULL || strlen(password) <= LOGIN_SIZE_MAX);
}

/* A program built with an older or newer header has a shorter or longer struct. */
static bool take_options(void *ret_options, size_t size, const void *options, uint32_t told_size)
{
    memset(ret_options, 0, size);
    if (told_size < sizeof told_size)
        return false;
    memcpy(ret_options, options, told_size < size ? told_size : size);
    return true;
}

int check_call_options(const kvs_call_options *options, kvs_call_options *ret_options,
                       char why[CHECK_WHY_SIZE])
{
    *ret_options = (kvs_call_options){.size = sizeof *ret_options};
    if (options == NULL)
        return 0;
    if (!take_options(ret_options, sizeof *ret_options, options, options->size))
        return refuse(why, "the call's options: size is not set");
    if (!is_login(ret_options->login, ret_options->password))
        return refuse(why, "login and password are at most %u bytes each", LOGIN_SIZE_MAX);
    return 0;
}

/* --- requests ----------------------------------------------------------------------------------
 */

int check_stream(kvs_slice stream, char why[CHECK_WHY_SIZE])
{
    if (stream.size == 0 || stream.size > KVS_STREAM_NAME_SIZE_MAX)
        return refuse(why, "a stream's name has 1 to %u bytes", KVS_STREAM_NAME_SIZE_MAX);
    return 0;
}

static int check_expected(int64_t version, char why[CHECK_WHY_SIZE])
{
    if (version < KVS_EXPECT_EXISTS || version == -3 || version == KVS_EVENT_DELETED)
        return refuse(why, "%lld is no expected version", (long long)version);
    return 0;
}

static int check_new_events(const struct events_request *request, char why[CHECK_WHY_SIZE])
{
    size_t total = 0;
    if (request->count > 0 && request->new_events == NULL)
        return refuse(why, "no events");
    for (uint32_t i = 0; i < request->count; i++) {
        const kvs_new_event *event = &request->new_events[i];
        if (event->type.size == 0 || event->type.size > KVS_EVENT_TYPE_SIZE_MAX)
            return refuse(why, "event %u: a type has 1 to %u bytes", i, KVS_EVENT_TYPE_SIZE_MAX);
        size_t size = event->data.size + event->metadata.size;
        if (event->data.size > KVS_EVENT_SIZE_MAX || event->metadata.size > KVS_EVENT_SIZE_MAX ||
            size + event->type.size > KVS_EVENT_SIZE_MAX) {
            refuse(why, "event %u: data and metadata are over %u bytes", i, KVS_EVENT_SIZE_MAX);
            return KVS_ERR_TOO_LARGE;
        }
        total += size + event->type.size + EVENT_OVERHEAD;
        if (total > KVS_APPEND_SIZE_MAX) {
            refuse(why, "the events together are over %u bytes", KVS_APPEND_SIZE_MAX);
            return KVS_ERR_TOO_LARGE;
        }
    }
    return 0;
}

static int check_position(kvs_position position, char why[CHECK_WHY_SIZE])
{
    bool is_end = position.commit == -1 && position.prepare == -1;
    if (!is_end && (position.prepare < 0 || position.commit < position.prepare))
        return refuse(why, "%lld/%lld is no position", (long long)position.commit,
                      (long long)position.prepare);
    return 0;
}

static int check_filter(const kvs_event_filter *filter, char why[CHECK_WHY_SIZE])
{
    if ((unsigned)filter->on > KVS_FILTER_ON_TYPE || (unsigned)filter->kind > KVS_FILTER_PREFIX ||
        filter->patterns == NULL || filter->patterns_count == 0 ||
        filter->patterns_count > KVS_FILTER_PATTERNS_MAX || filter->window > INT32_MAX ||
        (filter->kind == KVS_FILTER_REGEX && filter->patterns_count != 1))
        return refuse(why, "a filter has one expression, or 1 to %u prefixes",
                      KVS_FILTER_PATTERNS_MAX);
    for (size_t i = 0; i < filter->patterns_count; i++) {
        size_t size = filter->patterns[i].size;
        if (size == 0 || size > KVS_FILTER_PATTERN_SIZE_MAX)
            return refuse(why, "what a filter looks for has 1 to %u bytes",
                          KVS_FILTER_PATTERN_SIZE_MAX);
    }
    return 0;
}

static int check_read(const struct events_request *request, char why[CHECK_WHY_SIZE])
{
    if (request->count == 0 || request->count > KVS_EVENTS_PAGE_MAX)
        return refuse(why, "a read gives 1 to %u events", KVS_EVENTS_PAGE_MAX);
    if ((request->flags & ~(KVS_READ_RESOLVE_LINKS | KVS_READ_BACKWARD)) != 0)
        return refuse(why, "unknown flags");
    if (request->kind == EVENTS_READ_ALL)
        return request->filter != NULL ? check_filter(request->filter, why) : 0;
    bool forward = request->kind == EVENTS_READ_STREAM && (request->flags & KVS_READ_BACKWARD) == 0;
    if (request->number < (forward ? 0 : KVS_EVENT_LAST))
        return refuse(why, "%lld is no number to read from", (long long)request->number);
    return 0;
}

static int check_group(const struct events_request *request, char why[CHECK_WHY_SIZE])
{
    if (request->group.size == 0 || request->group.size > KVS_STREAM_NAME_SIZE_MAX)
        return refuse(why, "a group's name has 1 to %u bytes", KVS_STREAM_NAME_SIZE_MAX);
    if (request->kind != EVENTS_CREATE_GROUP && request->kind != EVENTS_UPDATE_GROUP)
        return 0;
    const kvs_group_settings *settings = request->settings;
    if (settings == NULL || settings->size != sizeof *settings)
        return refuse(why, "settings: start from KVS_GROUP_SETTINGS_INIT");
    const uint32_t numbers[] = {settings->message_timeout_ms,   settings->retries_max,
                                settings->live_buffer_count,    settings->history_buffer_count,
                                settings->read_batch_count,     settings->checkpoint_after_ms,
                                settings->checkpoint_count_min, settings->checkpoint_count_max,
                                settings->subscribers_max};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (numbers[i] > INT32_MAX)
            return refuse(why, "settings: a number is over %d", INT32_MAX);
    }
    if (settings->start_from < -1 || settings->read_batch_count == 0 ||
        settings->read_batch_count >= settings->history_buffer_count)
        return refuse(why, "settings: start_from is at least -1, and a batch smaller than the "
                           "history buffer");
    return 0;
}

int check_request(const struct events_request *request, char why[CHECK_WHY_SIZE])
{
    int error = 0;
    bool has_stream =
        request->kind == EVENTS_APPEND || request->kind == EVENTS_DELETE ||
        request->kind == EVENTS_TRANSACTION_START || request->kind == EVENTS_READ_EVENT ||
        request->kind == EVENTS_READ_STREAM ||
        (request->kind >= EVENTS_CREATE_GROUP && request->kind <= EVENTS_REPLAY_PARKED) ||
        request->kind == EVENTS_GET_GROUP ||
        (request->kind == EVENTS_LIST_GROUPS && request->stream.size > 0);
    if (has_stream)
        error = check_stream(request->stream, why);
    if (error != 0)
        return error;
    switch (request->kind) {
    case EVENTS_APPEND:
        error = check_expected(request->number, why);
        return error != 0 ? error : check_new_events(request, why);
    case EVENTS_DELETE:
    case EVENTS_TRANSACTION_START:
        return check_expected(request->number, why);
    case EVENTS_TRANSACTION_WRITE:
        return check_new_events(request, why);
    case EVENTS_READ_ALL:
        error = check_position(request->position, why);
        return error != 0 ? error : check_read(request, why);
    case EVENTS_READ_EVENT:
    case EVENTS_READ_STREAM:
        return check_read(request, why);
    case EVENTS_CREATE_GROUP:
    case EVENTS_UPDATE_GROUP:
    case EVENTS_DELETE_GROUP:
    case EVENTS_REPLAY_PARKED:
    case EVENTS_GET_GROUP:
        return check_group(request, why);
    default:
        return 0;
    }
}

int check_json_object(kvs_slice json, char why[CHECK_WHY_SIZE])
{
    json_error_t wrong;
    if (json.size > KVS_EVENT_SIZE_MAX / 2)
        return refuse(why, "metadata is at most %u bytes", KVS_EVENT_SIZE_MAX / 2);
    json_t *parsed = json_loadb((const char *)json.data, json.size, 0, &wrong);
    if (parsed == NULL)
        return refuse(why, "metadata is no JSON object: %.80s", wrong.text);
    bool is_object = json_is_object(parsed);
    json_decref(parsed);
    return is_object ? 0 : refuse(why, "metadata is a JSON object, as in {\"$maxCount\": 10}");
}

/* --- users -------------------------------------------------------------------------------------
 */

int check_user(enum kvs_user_change change, const kvs_user *user, char why[CHECK_WHY_SIZE])
{
    if (change < KVS_USER_CREATE || change > KVS_USER_DELETE)
        return refuse(why, "no such change of a user");
    if (user == NULL || user->login == NULL || !is_login(user->login, user->password))
        return refuse(why, "a login has 1 to %u bytes", LOGIN_SIZE_MAX);
    bool needs_password = change == KVS_USER_CREATE || change == KVS_USER_PASSWORD;
    if (needs_password && (user->password == NULL || user->password[0] == '\0'))
        return refuse(why, "a password has 1 to %u bytes", LOGIN_SIZE_MAX);
    if (change > KVS_USER_UPDATE)
        return 0;
    if (user->groups_count > 256 || (user->groups_count > 0 && user->groups == NULL))
        return refuse(why, "a user is in at most 256 groups");
    for (size_t i = 0; i < user->groups_count; i++) {
        if (user->groups[i] == NULL || strlen(user->groups[i]) > LOGIN_SIZE_MAX)
            return refuse(why, "a group's name has at most %u bytes", LOGIN_SIZE_MAX);
    }
    if (user->full_name != NULL && strlen(user->full_name) > KVS_STREAM_NAME_SIZE_MAX)
        return refuse(why, "a full name has at most %u bytes", KVS_STREAM_NAME_SIZE_MAX);
    return 0;
}

/* --- subscriptions -----------------------------------------------------------------------------
 */

static bool handlers_are_there(const struct kvs_subscription_handlers *handlers)
{
    return handlers != NULL && handlers->on_events != NULL && handlers->on_dropped != NULL;
}

static void default_to(uint32_t *value, uint32_t fallback)
{
    if (*value == 0)
        *value = fallback;
}

int check_subscribe(const struct kvs_subscribe_options *options,
                    const struct kvs_subscription_handlers *handlers,
                    struct kvs_subscribe_options *ret_options)
{
    char why[CHECK_WHY_SIZE];
    if (options == NULL || !handlers_are_there(handlers) ||
        !take_options(ret_options, sizeof *ret_options, options, options->size))
        return KVS_ERR_INVALID_ARGUMENT;
    default_to(&ret_options->checkpoint_interval, CHECKPOINT_INTERVAL_DEFAULT);
    default_to(&ret_options->page_count, PAGE_COUNT_DEFAULT);
    default_to(&ret_options->buffer_count, BUFFER_COUNT_DEFAULT);
    default_to(&ret_options->buffer_size_bytes, BUFFER_SIZE_DEFAULT);
    bool is_all = ret_options->stream.size == 0;
    bool after = ret_options->from == KVS_SUBSCRIBE_AFTER;
    if ((unsigned)ret_options->from > KVS_SUBSCRIBE_AFTER ||
        ret_options->stream.size > KVS_STREAM_NAME_SIZE_MAX ||
        ret_options->page_count > KVS_EVENTS_PAGE_MAX ||
        ret_options->buffer_count > BUFFER_COUNT_MAX ||
        ret_options->checkpoint_interval > INT32_MAX ||
        (ret_options->is_volatile && ret_options->from != KVS_SUBSCRIBE_FROM_END) ||
        !is_login(ret_options->login, ret_options->password))
        return KVS_ERR_INVALID_ARGUMENT;
    if (after && is_all &&
        (ret_options->after_position.commit < 0 ||
         ret_options->after_position.commit == INT64_MAX || /* nothing is behind that */
         check_position(ret_options->after_position, why) != 0))
        return KVS_ERR_INVALID_ARGUMENT;
    if (after && !is_all &&
        (ret_options->after_number < 0 || ret_options->after_number == KVS_EVENT_DELETED))
        return KVS_ERR_INVALID_ARGUMENT;
    if (ret_options->filter == NULL)
        return 0;
    return is_all ? check_filter(ret_options->filter, why) : KVS_ERR_INVALID_ARGUMENT;
}

int check_subscribe_group(const struct kvs_group_subscribe_options *options,
                          const struct kvs_subscription_handlers *handlers,
                          struct kvs_group_subscribe_options *ret_options)
{
    if (options == NULL || !handlers_are_there(handlers) ||
        !take_options(ret_options, sizeof *ret_options, options, options->size))
        return KVS_ERR_INVALID_ARGUMENT;
    default_to(&ret_options->in_flight, IN_FLIGHT_DEFAULT);
    bool ok = ret_options->stream.size > 0 &&
              ret_options->stream.size <= KVS_STREAM_NAME_SIZE_MAX && ret_options->group.size > 0 &&
              ret_options->group.size <= KVS_STREAM_NAME_SIZE_MAX &&
              ret_options->in_flight <= IN_FLIGHT_MAX &&
              is_login(ret_options->login, ret_options->password);
    return ok ? 0 : KVS_ERR_INVALID_ARGUMENT;
}

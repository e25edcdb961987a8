/* cli/client/events.c: see the header. Main thread. */
#include "cli/client/events.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

#define URL_DEFAULT "esdb://127.0.0.1:1113"

static int run_command(struct client *client, kvs_slice *words, size_t count)
{
    char message[ARGUMENTS_MESSAGE_SIZE];
    struct client_options *options = &client->options;
    const struct arguments_command *command = client->command;
    client->operands = words;
    if (arguments_parse(&events_program, command, words, count, options, &client->operands_count,
                        message) != 0)
        return client_misuse(client, "%s", message);
    if (options->help) {
        arguments_print_command(&events_program, command, stdout);
        return CLIENT_OK;
    }
    if (arguments_check_operands(command, words, client->operands_count, message) != 0)
        return client_misuse(client, "%s", message);
    return command->run(client);
}

int events_run(struct client *client, kvs_slice *words, size_t count)
{
    char message[ARGUMENTS_MESSAGE_SIZE];
    const char *near = NULL;
    client->program = events_program.name;
    client->command = NULL;
    if (arguments_parse(&events_program, NULL, words, count, &client->options, &count, message))
        return client_misuse(client, "%s", message);
    bool is_help = count > 0 && slice_equal(words[0], slice_of_string("help"));
    if (client->options.help || is_help)
        return client_flush_output(
            client, client_help(client, &events_program, words + 1, is_help ? count - 1 : 0));
    if (client->options.address != NULL)
        return client_misuse(client, "--addr is for keys and values; of event streams --url says "
                                     "where they are, as in esdb://HOST:1113");
    if (count == 0)
        return client_misuse(client, "no command given, such as: append STREAM, read STREAM");
    client->command = arguments_find_command(&events_program, words[0], &near);
    if (client->command == NULL)
        return client_no_command(client, "unknown command", words[0], near);
    int status = run_command(client, words + 1, count - 1);
    return client_flush_output(client, status);
}

/* Of a URL, what may be shown: no login, no password. A directory has neither. */
static void write_url(struct client *client, const char *url)
{
    const char *at = url_is_local(url) ? NULL : strrchr(url, '@');
    const char *scheme_end = strstr(url, "//");
    if (at != NULL && scheme_end != NULL)
        snprintf(client->events_url, sizeof client->events_url, "%.*s%s",
                 (int)(scheme_end + 2 - url), url, at + 1);
    else
        snprintf(client->events_url, sizeof client->events_url, "%s", url);
}

static int open_events(struct client *client, const char *url, bool must_exist)
{
    const struct client_options *given = &client->options;
    const struct kvs_events_options options = {
        .size = sizeof options,
        .timeout_ms = (uint32_t)given->timeout_ms,
        .connect_timeout_ms = (uint32_t)given->timeout_ms,
        .connection_name = "kvs-client",
        .tls = given->tls_ca != NULL || given->tls_certificate != NULL,
        .tls_ca = given->tls_ca,
        .tls_certificate = given->tls_certificate,
        .tls_key = given->tls_key,
        .must_exist = must_exist,
    };
    kvs_future *open = kvs_events_open(client->runtime, url, &options);
    int status = events_wait(client, open);
    void *events = NULL;
    if (status == 0 && kvs_future_get_pointer(open, &events) == 0)
        client->events = events;
    if (kvs_future_error(open) == KVS_ERR_INVALID_ARGUMENT)
        status = CLIENT_USAGE;
    kvs_future_free(open);
    return status;
}

static const char *or_nothing(const char *text)
{
    return text != NULL ? text : "";
}

int events_connect(struct client *client, bool must_exist)
{
    const struct client_options *given = &client->options;
    const char *url = given->url != NULL ? given->url : URL_DEFAULT;
    if (strlen(url) >= sizeof client->events_url)
        return client_misuse(client, "the URL is longer than %zu bytes",
                             sizeof client->events_url - 1);
    char *as =
        mem_printf("%s\n%" PRIu64 "\n%s\n%s\n%s", url, given->timeout_ms, or_nothing(given->tls_ca),
                   or_nothing(given->tls_certificate), or_nothing(given->tls_key));
    if (as == NULL)
        return client_fail(client, "out of memory");
    if (client->events != NULL && strcmp(as, client->events_given) == 0) {
        mem_free(as);
        return 0;
    }
    events_disconnect(client);
    client->events_given = as;
    write_url(client, url);
    int error = client->runtime == NULL ? client_start_runtime(client) : 0;
    if (error != 0)
        return client_fail(client, "cannot start: %s", kvs_error_text(error));
    return open_events(client, url, must_exist);
}

void events_disconnect(struct client *client)
{
    if (client->events != NULL) {
        kvs_future *closed = kvs_events_close(client->events);
        kvs_future_wait(closed, -1);
        kvs_future_free(closed);
    }
    client->events = NULL;
    mem_free(client->events_given);
    client->events_given = NULL;
}

int events_wait(const struct client *client, kvs_future *future)
{
    int error = call_wait_future(future);
    int64_t last = INT64_MIN; /* not told */
    char why[128];
    if (error == 0)
        return 0;
    if (error == KVS_ERR_WRONG_EXPECTED_VERSION)
        kvs_future_get_number(future, &last);
    if (last != INT64_MIN) {
        const char *text = kvs_error_text(error);
        if (last >= 0)
            snprintf(why, sizeof why, "%s: its last event has the number %" PRId64, text, last);
        else
            snprintf(why, sizeof why, "%s: it has no events", text);
        return client_fail_operation(client, error, why);
    }
    return client_fail_operation(client, error, kvs_future_error_message(future));
}

int events_wait_and_free(const struct client *client, kvs_future *future)
{
    int status = events_wait(client, future);
    kvs_future_free(future);
    return status;
}

/* --- words -------------------------------------------------------------------------------------
 */

int64_t events_number(kvs_slice word)
{
    int64_t number = 0;
    if (word.size == 0 || word.size > 18)
        return -1;
    for (size_t i = 0; i < word.size; i++) {
        if (word.data[i] < '0' || word.data[i] > '9')
            return -1;
        number = number * 10 + (word.data[i] - '0');
    }
    return number;
}

int events_expected(const struct client *client, int64_t *ret_version)
{
    const char *text = client->options.expect;
    *ret_version = KVS_EXPECT_ANY;
    if (text == NULL || strcmp(text, "any") == 0)
        return 0;
    int64_t number = events_number(slice_of_string(text));
    if (strcmp(text, "none") == 0)
        *ret_version = KVS_EXPECT_NO_STREAM;
    else if (strcmp(text, "exists") == 0)
        *ret_version = KVS_EXPECT_EXISTS;
    else if (number >= 0)
        *ret_version = number;
    else
        return client_misuse(client, "--expect takes any, none, exists or a number, not '%.40s'",
                             text);
    return 0;
}

bool events_is_all(kvs_slice stream)
{
    return slice_equal(stream, slice_of_string("$all"));
}

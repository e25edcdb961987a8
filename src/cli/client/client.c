/* cli/client/client.c: running a command, its store, and its reports; see cli/client/client.h. */
#include "cli/client/client.h"

#include "cli/client/events.h"
#include "cli/completion.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#define ADDRESS_DEFAULT "127.0.0.1:4000"
#define LINE_SIZE_MAX 1024

static volatile sig_atomic_t interrupted;

struct client_options client_options_default(void)
{
    return (struct client_options){.count = 1,
                                   .interval_ms = 1000,
                                   .batch = 1000,
                                   .completion = COMPLETION_NONE,
                                   .last = CLIENT_LAST_UNSAID,
                                   .in_flight = 10,
                                   .message_timeout_ms = 30000,
                                   .retries = 10};
}

bool client_tells_itself(const struct client_options *options)
{
    if (options->version)
        printf("kvs-client %s\n", kvs_version());
    else if (options->completion != COMPLETION_NONE)
        completion_print(&client_program, options->completion, stdout);
    else
        return false;
    return true;
}

int client_run(struct client *client, const struct arguments_command *command, kvs_slice *words,
               size_t count)
{
    char message[ARGUMENTS_MESSAGE_SIZE];
    struct client_options *options = &client->options;
    client->program = NULL;
    client->command = command;
    client->operands = words;
    if (command->program != NULL)
        return events_run(client, words, count);
    if (arguments_parse(&client_program, command, words, count, options, &client->operands_count,
                        message) != 0)
        return client_misuse(client, "%s", message);
    if (options->help) {
        arguments_print_command(&client_program, command, stdout);
        return client_flush_output(client, CLIENT_OK);
    }
    if (client_tells_itself(options))
        return client_flush_output(client, CLIENT_OK);
    if (arguments_check_operands(command, words, client->operands_count, message) != 0)
        return client_misuse(client, "%s", message);
    if (options->address != NULL && options->url != NULL)
        return client_misuse(client, "--addr and --url both say where the store is: give one");
    if (client->in_shell && (options->address != NULL || options->url != NULL ||
                             options->tls_ca != NULL || options->tls_certificate != NULL))
        return client_misuse(client, "the shell stays with the store it was started on");
    int status = command->run(client);
    return client_flush_output(client, status);
}

/* --- the store -------------------------------------------------------------------------------- */

static void on_interrupt(int signal_number)
{
    interrupted = 1;
}

bool client_interrupted(void)
{
    return interrupted != 0;
}

/* From here on Ctrl-C cancels, a second one ends the program; before, while the connection is made,
 * the first one does. */
static void catch_interrupt(void)
{
    /* No SA_RESTART: what waits shall end. */
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

void client_interrupt_reset(void)
{
    if (interrupted == 0)
        return;
    interrupted = 0;
    catch_interrupt();
}

/* The runtime's threads leave SIGINT to the main thread, whose waits it must end. */
int client_start_runtime(struct client *client)
{
    struct kvs_runtime_options options = {.size = sizeof options, .loops = 1, .pool_threads = 1};
    sigset_t interrupts, before;
    sigemptyset(&interrupts);
    sigaddset(&interrupts, SIGINT);
    pthread_sigmask(SIG_BLOCK, &interrupts, &before);
    int error = kvs_runtime_new(&options, &client->runtime);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

/* The URL and the options to open it with; starts the runtime. Lines of the shell give neither:
 * they are those of the store that it was started on. */
static int prepare_open(struct client *client, bool must_exist, struct kvs_store_options *options)
{
    const struct client_options *given = &client->options;
    if (client->store != NULL) {
        *options = client->store_options;
        return 0;
    }
    int size = given->url != NULL
                   ? snprintf(client->url, sizeof client->url, "%s", given->url)
                   : snprintf(client->url, sizeof client->url, "kvs://%s",
                              given->address != NULL ? given->address : ADDRESS_DEFAULT);
    if (size < 0 || (size_t)size >= sizeof client->url)
        return client_misuse(client, "the URL is longer than %zu bytes", sizeof client->url - 1);
    int error = client->runtime == NULL ? client_start_runtime(client) : 0;
    if (error != 0)
        return client_fail(client, "cannot start: %s", kvs_error_text(error));
    *options = (struct kvs_store_options){.size = sizeof *options,
                                          .must_exist = must_exist,
                                          .timeout_ms = (uint32_t)given->timeout_ms,
                                          .connect_timeout_ms = (uint32_t)given->timeout_ms,
                                          .tls_ca = given->tls_ca,
                                          .tls_certificate = given->tls_certificate,
                                          .tls_key = given->tls_key};
    client->store_options = *options;
    return 0;
}

/* Waits for what opens, and frees the future. */
static int finish_open(struct client *client, kvs_future *open, void **ret_opened)
{
    if (open == NULL)
        return client_fail(client, "out of memory");
    int status = 0;
    int error = call_wait_future(open);
    if (error == 0)
        error = kvs_future_get_pointer(open, ret_opened);
    if (error != 0)
        status = client_fail_operation(client, error, kvs_future_error_message(open));
    kvs_future_free(open);
    if (error == KVS_ERR_INVALID_ARGUMENT)
        status = CLIENT_USAGE;
    if (status == 0)
        catch_interrupt();
    return status;
}

int client_connect(struct client *client, bool must_exist)
{
    if (client->store != NULL)
        return 0;
    struct kvs_store_options options;
    void *store = NULL;
    int status = prepare_open(client, must_exist, &options);
    if (status == 0)
        status =
            finish_open(client, kvs_store_open(client->runtime, client->url, &options), &store);
    client->store = store;
    return status;
}

bool url_is_local(const char *url)
{
    return strncmp(url, "log:", 4) == 0 || strncmp(url, "rocksdb:", 8) == 0 ||
           strncmp(url, "memory:", 7) == 0;
}

int client_connect_txn(struct client *client, bool must_exist, kvs_txn_client **ret_txn_client)
{
    struct kvs_store_options options;
    void *opened = NULL;
    int status;
    if (client->store != NULL && url_is_local(client->url)) {
        status = finish_open(client, kvs_txn_client_on_store(client->store), &opened);
    } else {
        status = prepare_open(client, must_exist, &options);
        if (status == 0 && strncmp(client->url, "kvs:", 4) == 0)
            status = client_misuse(
                client, "transactions are for log:, rocksdb:, memory: and tikv:// URLs, not for %s",
                client->url);
        if (status == 0)
            status = finish_open(
                client, kvs_txn_client_open(client->runtime, client->url, &options), &opened);
    }
    *ret_txn_client = opened;
    return status;
}

int client_disconnect(struct client *client, int status)
{
    if (client->store != NULL) {
        kvs_future *closed = kvs_store_close(client->store);
        int error = closed != NULL ? kvs_future_wait(closed, -1) : KVS_ERR_NO_MEMORY;
        /* What a local store could not write at the end is a failure of the command. */
        if (error != 0 && status == CLIENT_OK)
            status = client_fail_operation(client, error,
                                           closed != NULL ? kvs_future_error_message(closed) : "");
        kvs_future_free(closed);
    }
    events_disconnect(client);
    kvs_runtime_free(client->runtime);
    return status;
}

/* --- reports ---------------------------------------------------------------------------------- */

/* One line whatever the text: control bytes in it could be a key's or a peer's. */
static void print_line(const struct client *client, const char *text, const char *more)
{
    char line[LINE_SIZE_MAX];
    const char *program = client->program != NULL ? client->program : client_program.name;
    int size = client->in_shell
                   ? snprintf(line, sizeof line, "%s%s", text, more)
                   : snprintf(line, sizeof line, "%s%s%s: %s%s", program,
                              client->command != NULL ? " " : "",
                              client->command != NULL ? client->command->name : "", text, more);
    for (int i = 0; i < size && line[i] != '\0'; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    fflush(stdout);
    fprintf(stderr, "%s\n", line);
}

int client_fail(const struct client *client, const char *format, ...)
{
    char text[LINE_SIZE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    print_line(client, text, "");
    return CLIENT_FAILED;
}

int client_misuse(const struct client *client, const char *format, ...)
{
    char text[LINE_SIZE_MAX / 2], more[LINE_SIZE_MAX / 4];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *command = client->command != NULL ? client->command->name : "";
    if (client->program != NULL)
        snprintf(more, sizeof more, "; see: %s %s%s--help", client->program, command,
                 command[0] != '\0' ? " " : "");
    else if (client->command != NULL)
        snprintf(more, sizeof more, "; see: %shelp %s", client->in_shell ? "" : "kvs-client ",
                 command);
    else
        snprintf(more, sizeof more, "; see: %s", client->in_shell ? "help" : "kvs-client --help");
    print_line(client, text, more);
    return CLIENT_USAGE;
}

/* The same for `kvs-client events`, whose places are URLs and whose things are streams; NULL: as
 * for keys. */
static const char *hint_for_events(int error)
{
    switch (error) {
    case KVS_ERR_CONNECT:
        return "; is kvs-server running there, with --eventstore? --url names another place";
    case KVS_ERR_LOCKED:
        return "; ask the server that has it open, with --url esdb://HOST[:PORT]";
    case KVS_ERR_TOO_LARGE:
        return "; an event takes less than 16 MiB, its type and its stream's name 4 KiB each";
    default:
        return kvs_error_maybe_committed(error) ? "; read the stream to see" : NULL;
    }
}

/* What a person can do about an error; "" when the text says it all. */
static const char *hint_for(int error)
{
    switch (error) {
    case KVS_ERR_CONNECT:
        return "; is kvs-server running there? --addr HOST:PORT or --url names another place";
    case KVS_ERR_LOCKED:
        return "; ask the server that has it open, with --addr HOST:PORT";
    case KVS_ERR_NO_DIRECTORY:
        return "; check the path: writing makes the last directory of it, but no others";
    case KVS_ERR_ACCESS_DENIED:
        return "; name one who may, as in esdb://USER:PASSWORD@HOST";
    case KVS_ERR_TIMEOUT:
        return "; try again, or wait longer with --timeout MS";
    case KVS_ERR_NO_SPACE:
        return "; free some space and try again";
    case KVS_ERR_VERSION:
        return "; use a client and a server of matching versions";
    case KVS_ERR_CONNECTION_LOST:
    case KVS_ERR_BUSY:
        return "; try again";
    default:
        return kvs_error_maybe_committed(error) ? "; read the key to see" : "";
    }
}

int client_no_command(const struct client *client, const char *what, kvs_slice name,
                      const char *near)
{
    return client_misuse(client, "%s '%.40s'%s%s%s", what, (const char *)name.data,
                         near != NULL ? ", did you mean '" : "", near != NULL ? near : "",
                         near != NULL ? "'?" : "");
}

int client_help(struct client *client, const struct arguments_program *program,
                const kvs_slice *words, size_t count)
{
    const char *near;
    const struct arguments_command *command = NULL;
    if (count > 0) {
        command = arguments_find_command(program, words[0], &near);
        client->command = NULL; /* it is not `help` that is to be read about */
        if (command == NULL)
            return client_no_command(client, "there is no command", words[0], near);
    }
    if (command != NULL && command->program == NULL)
        arguments_print_command(program, command, stdout);
    else
        arguments_print_program(command != NULL ? command->program : program, stdout);
    return CLIENT_OK;
}

int client_fail_operation(const struct client *client, int error, const char *message)
{
    const char *text = kvs_error_text(error);
    const char *url = client->program != NULL ? client->events_url : client->url;
    if (error == KVS_ERR_CANCELLED && client_interrupted()) {
        print_line(client, "interrupted", "");
        return CLIENT_INTERRUPTED;
    }
    bool own_text = message == NULL || message[0] == '\0' || strcmp(message, text) == 0;
    /* Of streams in this process nobody is asked who he is. */
    bool is_for_nobody = error == KVS_ERR_ACCESS_DENIED && strncmp(url, "esdb", 4) != 0;
    if (is_for_nobody)
        text = "nobody may do this";
    char line[LINE_SIZE_MAX];
    /* The message may name the store already. */
    const char *where = strstr(url, "//") != NULL ? strstr(url, "//") + 2 : url;
    bool named = !own_text && strstr(message, where) != NULL;
    snprintf(line, sizeof line, "%s%s%s", own_text ? text : message, named ? "" : ", at ",
             named ? "" : url);
    const char *hint = client->program != NULL ? hint_for_events(error) : NULL;
    if (hint == NULL)
        hint = is_for_nobody ? "" : hint_for(error);
    /* One piece of advice is enough. */
    print_line(client, line, strchr(line, ';') == NULL ? hint : "");
    return CLIENT_FAILED;
}

int client_flush_output(const struct client *client, int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    if (errno == EPIPE) {
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    int number = errno;
    clearerr(stdout);
    if (client_interrupted())
        return client_fail_operation(client, KVS_ERR_CANCELLED, "");
    return client_fail(client, "cannot write to standard output: %s", strerror(number));
}

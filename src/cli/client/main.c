/*
 * cli/client/main.c: kvs-client from its first word to its exit status.
 *
 * Happy path: (1) the common options and the command's name are read; (2) the command's row parses
 * the rest (table.c); (3) the command checks its input, then opens the store; (4) it calls, waits
 * and prints; (5) the store is closed; (6) what was printed is flushed and checked.
 * Failures: a line that makes no sense ends with status 2 before anything is opened; an operation
 * that failed prints one line and ends with status 1. A reader of our output that went away
 * (`| head`) ends the program silently, as SIGPIPE would. Ctrl-C cancels what is in flight.
 * Everything runs on the main thread; the runtime has one loop thread of its own.
 */
#include "base/mem.h"
#include "cli/client/client.h"
#include "cli/standard_files.h"

#include <locale.h>
#include <signal.h>

static int run_line(struct client *client, kvs_slice *words, size_t count);

int main(int argc, char **argv)
{
    standard_files_open();
    setlocale(LC_CTYPE, "");
    signal(SIGXFSZ, SIG_IGN); /* a file that must not grow is an error of its write, */
    signal(SIGPIPE, SIG_IGN); /* and a lost peer of a call */
    size_t count = argc > 0 ? (size_t)argc - 1 : 0;
    kvs_slice *words = mem_zalloc((count + 1) * sizeof *words);
    struct client client = {.options = client_options_default()};
    if (words == NULL)
        return client_fail(&client, "out of memory");
    for (size_t i = 0; i < count; i++)
        words[i] = slice_of_string(argv[i + 1]);
    int status = run_line(&client, words, count);
    status = client_disconnect(&client, status);
    status = client_flush_output(&client, status);
    mem_free(words);
    return status;
}

static int run_line(struct client *client, kvs_slice *words, size_t count)
{
    char message[ARGUMENTS_MESSAGE_SIZE];
    if (count == 0)
        return client_misuse(client, "no command given, such as: set KEY VALUE, get KEY, rm KEY");
    if (arguments_parse(&client_program, NULL, words, count, &client->options, &count, message))
        return client_misuse(client, "%s", message);
    if (client_tells_itself(&client->options))
        return CLIENT_OK;
    if (client->options.help) {
        arguments_print_program(&client_program, stdout);
        return CLIENT_OK;
    }
    if (count == 0)
        return client_misuse(client, "no command given, such as: set KEY VALUE, get KEY, rm KEY");
    const char *near;
    const struct arguments_command *command =
        arguments_find_command(&client_program, words[0], &near);
    if (command != NULL)
        return client_run(client, command, words + 1, count - 1);
    return client_no_command(client, "unknown command", words[0], near);
}

/*
 * cli/client/shell.c: commands line by line over one connection.
 *
 * Happy path: (1) the store is opened; (2) a line is read, by libedit on a terminal, else from
 * standard input; (3) while a quote is open further lines are added; (4) its words run a command as
 * a command line would (client.c); (5) until exit or the end of input the next line follows.
 * Failures: a command that fails says so and the shell goes on; Ctrl-C cancels what runs, or drops
 * the line that is being typed. Completion is complete.c. Main thread.
 */
#include "base/mem.h"
#include "cli/client/client.h"
#include "cli/client/complete.h"
#include "cli/client/shell_words.h"

#include <errno.h>
#include <histedit.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HISTORY_LINES_MAX 1000
#define LINE_SIZE_MAX (256u * 1024 * 1024)

struct shell {
    struct client *client;
    uint64_t timeout_ms; /* of the command line that started the shell */
    struct buf line;     /* what was read and not run yet */
    bool dropped;        /* Ctrl-C was typed */
    bool ended;
    bool failed; /* a command failed */
    /* on a terminal only */
    EditLine *edit;
    History *history;
    char history_path[512]; /* empty: the history is not kept */
};

static void shell_loop(struct shell *shell);
static void editor_open(struct shell *shell);
static void editor_close(struct shell *shell);

int command_shell(void *context)
{
    struct client *client = context;
    if (client->in_shell)
        return client_misuse(client, "this is the shell already");
    struct shell shell = {.client = client, .timeout_ms = client->options.timeout_ms};
    int status = client_connect(client, false);
    if (status != 0)
        return status;
    bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    const struct arguments_command *command = client->command;
    client->in_shell = true;
    if (terminal)
        editor_open(&shell);
    shell_loop(&shell);
    editor_close(&shell);
    client->in_shell = false;
    client->command = command;
    buf_deinit(&shell.line);
    return shell.failed && !terminal ? CLIENT_FAILED : CLIENT_OK;
}

/* --- lines ------------------------------------------------------------------------------------ */

/* Runs the words of a whole line. */
static int shell_run(struct shell *shell, struct shell_words *words)
{
    struct client *client = shell->client;
    const char *near;
    client->command = NULL;
    client->options = client_options_default();
    client->options.timeout_ms = shell->timeout_ms;
    if (words->count == 0)
        return CLIENT_OK;
    kvs_slice name = words->words[0];
    if (slice_equal(name, kvs_slice_of("exit")) || slice_equal(name, kvs_slice_of("quit"))) {
        shell->ended = true;
        return CLIENT_OK;
    }
    const struct arguments_command *command = arguments_find_command(&client_program, name, &near);
    if (command != NULL)
        return client_run(client, command, words->words + 1, words->count - 1);
    return client_no_command(client, "unknown command", name, near);
}

/* Keeps a whole line, but not one that begins with a blank: for what must not be written down. */
static void remember(struct shell *shell)
{
    HistEvent event;
    const char *text = (const char *)shell->line.data;
    if (shell->edit == NULL || text[0] == ' ' || text[0] == '\n' ||
        buf_append_u8(&shell->line, 0) != 0)
        return;
    shell->line.size--;
    history(shell->history, &event, H_ENTER, (const char *)shell->line.data);
}

/* Runs what was read so far, unless a quote is open. */
static void shell_take(struct shell *shell)
{
    struct shell_words words;
    int status = CLIENT_OK;
    enum shell_split split = shell_words_split(&words, buf_slice(&shell->line));
    if (split == SHELL_SPLIT_OPEN) {
        shell_words_deinit(&words);
        return;
    }
    remember(shell);
    switch (split) {
    case SHELL_SPLIT_OPEN:
    case SHELL_SPLIT_OK:
        status = shell_run(shell, &words);
        break;
    case SHELL_SPLIT_ESCAPE:
        shell->client->command = NULL;
        status = client_misuse(shell->client,
                               "a broken escape in double quotes: write \\\\ for a backslash");
        break;
    case SHELL_SPLIT_NO_MEMORY:
        status = client_fail(shell->client, "out of memory");
        break;
    }
    shell_words_deinit(&words);
    if (status == CLIENT_INTERRUPTED && shell->edit == NULL)
        shell->ended = true;
    client_interrupt_reset();
    shell->failed = shell->failed || status != CLIENT_OK;
    buf_clear(&shell->line);
}

/* Adds a line of the editor. False at the end of input. */
static bool edit_line(struct shell *shell)
{
    int size = 0;
    /* Before the prompt is shown, or a quick Ctrl-C would still be a signal. */
    el_set(shell->edit, EL_PREP_TERM, 1);
    const char *text = el_gets(shell->edit, &size);
    if (shell->dropped) {
        shell->dropped = false;
        buf_clear(&shell->line);
        return true;
    }
    if (text == NULL || size <= 0)
        return false;
    if (buf_append(&shell->line, text, (size_t)size) != 0)
        buf_clear(&shell->line);
    return true;
}

/* Adds a line of standard input. False at its end. */
static bool read_line(struct shell *shell)
{
    char *text = NULL;
    size_t capacity = 0;
    ssize_t size = getline(&text, &capacity, stdin);
    bool ok = size > 0 && shell->line.size < LINE_SIZE_MAX &&
              buf_append(&shell->line, text, (size_t)size) == 0;
    free(text);
    return ok;
}

static void shell_loop(struct shell *shell)
{
    while (!shell->ended && (shell->edit != NULL ? edit_line(shell) : read_line(shell)))
        if (shell->line.size > 0)
            shell_take(shell);
    if (shell->line.size > 0 && !shell->ended) {
        shell->client->command = NULL;
        client_misuse(shell->client, "the input ends within quotes");
        shell->failed = true;
    }
    if (shell->edit != NULL && !shell->ended)
        putchar('\n'); /* behind the prompt that Ctrl-D left */
}

/* --- the editor ------------------------------------------------------------------------------- */

static struct shell *shell_of(EditLine *edit)
{
    void *shell = NULL;
    el_get(edit, EL_CLIENTDATA, &shell);
    return shell;
}

static const char *prompt(EditLine *edit)
{
    return shell_of(edit)->line.size > 0 ? "...> " : "kvs> ";
}

static unsigned char complete_key(EditLine *edit, int key)
{
    const struct shell *shell = shell_of(edit);
    /* A line that continues another holds no word whose place is known. */
    return shell->line.size > 0 ? CC_ERROR : complete(shell->client, edit);
}

/* Ctrl-C: the terminal sends it as a key while a line is typed. */
static unsigned char drop_line(EditLine *edit, int key)
{
    const LineInfo *info = el_line(edit);
    shell_of(edit)->dropped = true;
    el_cursor(edit, (int)(info->lastchar - info->cursor));
    puts("^C");
    return CC_NEWLINE;
}

/* $XDG_STATE_HOME/kvs/history or ~/.local/state/kvs/history; makes the folders. */
static void find_history(struct shell *shell)
{
    char *path = shell->history_path;
    size_t size = sizeof shell->history_path;
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int wrote = -1;
    if (state != NULL && state[0] == '/')
        wrote = snprintf(path, size, "%s/kvs/history", state);
    else if (home != NULL && home[0] == '/')
        wrote = snprintf(path, size, "%s/.local/state/kvs/history", home);
    if (wrote < 0 || (size_t)wrote >= size) {
        path[0] = '\0';
        return;
    }
    for (char *at = strchr(path + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
        *at = '\0';
        mkdir(path, 0700); /* most exist; what fails shows when the history is written */
        *at = '/';
    }
}

static void editor_open(struct shell *shell)
{
    HistEvent event;
    shell->edit = el_init("kvs-client", stdin, stdout, stderr);
    shell->history = history_init();
    if (shell->edit == NULL || shell->history == NULL) {
        editor_close(shell); /* plain lines will do */
        return;
    }
    history(shell->history, &event, H_SETSIZE, HISTORY_LINES_MAX);
    history(shell->history, &event, H_SETUNIQUE, 1);
    find_history(shell);
    if (shell->history_path[0] != '\0')
        history(shell->history, &event, H_LOAD, shell->history_path);
    el_set(shell->edit, EL_CLIENTDATA, shell);
    el_set(shell->edit, EL_PROMPT, prompt);
    el_set(shell->edit, EL_EDITOR, "emacs");
    el_set(shell->edit, EL_HIST, history, shell->history);
    /* Wide: the narrow form copies the names and never frees them. */
    el_wset(shell->edit, EL_ADDFN, L"kvs-complete", L"Complete commands and keys", complete_key);
    el_wset(shell->edit, EL_ADDFN, L"kvs-drop", L"Drop the line", drop_line);
    el_set(shell->edit, EL_SETTY, "-d", "-isig", NULL);
    el_set(shell->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(shell->edit, NULL);
    el_set(shell->edit, EL_BIND, "^I", "kvs-complete", NULL);
    el_set(shell->edit, EL_BIND, "^C", "kvs-drop", NULL);
    printf("kvs-client %s on %s; 'help' lists the commands, 'exit' leaves\n", kvs_version(),
           shell->client->url);
}

static void editor_close(struct shell *shell)
{
    HistEvent event;
    if (shell->history != NULL && shell->history_path[0] != '\0')
        history(shell->history, &event, H_SAVE, shell->history_path);
    if (shell->history != NULL)
        history_end(shell->history);
    if (shell->edit != NULL)
        el_end(shell->edit);
    shell->history = NULL;
    shell->edit = NULL;
}

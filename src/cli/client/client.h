/*
 * cli/client/client.h: what the files of kvs-client share: the options, the open store, and how a
 * command asks it and reports.
 *
 * A command is a function that gets the parsed command line in struct client, calls the store and
 * waits, prints, and returns the exit status. The same functions serve one command line and the
 * lines of the shell. All run on the main thread; replies arrive on the runtime's loop.
 */
#ifndef CLI_CLIENT_CLIENT_H
#define CLI_CLIENT_CLIENT_H

#include "base/buf.h"
#include "cli/arguments.h"

#include <kvs/kvs.h>

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>

enum client_exit {
    CLIENT_OK = 0,
    CLIENT_FAILED = 1, /* the operation failed, or said no */
    CLIENT_USAGE = 2,  /* the command line makes no sense; nothing was done */
    CLIENT_INTERRUPTED = 130,
};

enum client_format { CLIENT_FORMAT_JSON, CLIENT_FORMAT_RAW };

#define CLIENT_LAST_UNSAID UINT64_MAX

/* All options of all commands; each row of the tables names its field. */
struct client_options {
    bool help, version;
    const char *address, *url;
    const char *tls_ca, *tls_certificate, *tls_key;
    uint64_t timeout_ms;
    bool escaped, raw, json, null, keys_only, reverse, absent, all, yes, dry_run, merge;
    bool pessimistic;
    kvs_slice prefix, start, end;
    uint64_t limit, ttl_ms, count, interval_ms, batch;
    const char *file;
    unsigned format;
    unsigned completion; /* enum completion_shell */
    /* kvs-client events */
    const char *expect, *from, *type, *strategy, *full_name, *groups;
    const char *stream_prefix, *stream_regex, *type_prefix, *type_regex;
    kvs_slice data;
    bool hard, resolve;
    uint64_t last; /* or CLIENT_LAST_UNSAID */
    uint64_t in_flight, message_timeout_ms, retries, subscribers;
};

struct client {
    const char *program;                     /* for messages; NULL: kvs-client */
    const struct arguments_command *command; /* NULL before one was chosen */
    struct client_options options;
    kvs_slice *operands;
    size_t operands_count;
    bool in_shell;
    kvs_runtime *runtime;
    kvs_store *store;
    struct kvs_store_options store_options; /* it was opened with them */
    char url[512];                          /* of the open store */
    kvs_events *events;
    char events_url[512]; /* of the open event streams, for messages: without a password */
    char *events_given;   /* all that said how to open them */
};

extern const struct arguments_program client_program;

/* --- client.c ------------------------------------------------------------------------------ */

/* One line on standard error: "kvs-client COMMAND: ..."; returns CLIENT_FAILED. */
int client_fail(const struct client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The same for a command line that makes no sense, with where to read more; returns CLIENT_USAGE.
 */
int client_misuse(const struct client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The same for a name that no command has (a string); `near` may be what was meant, or NULL. */
int client_no_command(const struct client *client, const char *what, kvs_slice name,
                      const char *near);
/* Help of the program, or of the command that the first word names; returns the exit status. */
int client_help(struct client *client, const struct arguments_program *program,
                const kvs_slice *words, size_t count);
/* The line for a failed operation: what, where, what to do; returns the exit status. */
int client_fail_operation(const struct client *client, int error, const char *message);

/* All options as they are when none is given. */
struct client_options client_options_default(void);
/* The runtime, whose threads leave signals to the main thread. Returns 0 or an error. */
int client_start_runtime(struct client *client);
/* Opens the store of the options unless it is open; `must_exist`: does not make a directory. */
int client_connect(struct client *client, bool must_exist);
/* Is it a store in this process? */
bool url_is_local(const char *url);
/* The same for a client of transactions on the same data; the caller closes it. */
int client_connect_txn(struct client *client, bool must_exist, kvs_txn_client **ret_txn_client);
/* Closes it and ends the runtime. Returns the status, or CLIENT_FAILED after a message. */
int client_disconnect(struct client *client, int status);
/* Prints what the options ask of the program itself: its version, a script for a shell. */
bool client_tells_itself(const struct client_options *options);
/* Parses one line's words (after the command's name) and runs the command. */
int client_run(struct client *client, const struct arguments_command *command, kvs_slice *words,
               size_t count);

/* Makes sure that what was printed arrived. Returns the status, or CLIENT_FAILED after a message.
 */
int client_flush_output(const struct client *client, int status);
/* Has Ctrl-C been pressed since the last client_interrupt_reset? A second one ends the program. */
bool client_interrupted(void);
void client_interrupt_reset(void);

/* --- call.c: one operation at a time, or several in flight -------------------------------
 */

struct call {
    kvs_op op;
    sem_t done;
    pthread_mutex_t lock; /* between on_done, on the loop, and a cancel on the main thread */
    bool in_flight;
};

void call_init(struct call *call, enum kvs_op_kind kind);
/* Starts; the op's inputs stay the caller's until call_wait returned. */
void call_start(struct client *client, struct call *call);
/* Waits and returns op.error. Ctrl-C cancels the operation. */
int call_wait(struct client *client, struct call *call);
/* The same, but Ctrl-C does not cancel: for writes whose outcome should be known. */
int call_wait_to_end(struct call *call);
/* Asks for it to end soon; it must still be waited for. */
void call_cancel(struct client *client, struct call *call);
/* Frees the results; the call may be started again. */
void call_release_result(struct call *call);
/* Frees all. Not in flight. */
void call_deinit(struct call *call);
/* Start and wait. */
int call_run(struct client *client, struct call *call);
/* Waits for a future and returns its error. Ctrl-C cancels it. */
int call_wait_future(kvs_future *future);
/* Reports a failed call as client_fail_operation does. */
int call_tell_failure(const struct client *client, const struct call *call);

/* --- cursor.c: a range of keys, page by page ------------------------------------------- */

struct range {
    struct buf start, end; /* empty: no bound */
};

/* The range of --prefix, --start and --end. Returns 0 or an exit status after a message. */
int range_from_options(const struct client *client, struct range *ret_range);
bool range_is_everything(const struct range *range);
void range_deinit(struct range *range);

/* Reads ahead by one page while the caller works on the one before. */
struct cursor {
    struct client *client;
    struct range range; /* what is still to be asked for */
    uint8_t family;
    unsigned flags;
    uint64_t left; /* pairs still wanted */
    struct call calls[2];
    unsigned current; /* the call whose page the caller has, or whose reply is awaited */
    bool waiting;     /* a call is in flight */
    bool holding;     /* the caller has a page */
};

/* Takes the range. limit 0: no limit. */
void cursor_init(struct cursor *cursor, struct client *client, struct range *range, uint8_t family,
                 unsigned flags, uint64_t limit);
/* The next page, valid until the next call; *ret_count 0 at the end. Returns 0 or an exit status
 * after a message. */
int cursor_next(struct cursor *cursor, const kvs_pair **ret_pairs, size_t *ret_count);
void cursor_deinit(struct cursor *cursor);

/* A key or value from the command line, with escapes resolved when --escaped was given. Returns 0
 * or an exit status after a message; the buf is the caller's to free. */
int client_bytes(const struct client *client, kvs_slice word, struct buf *ret_bytes);

/* A word as the name of a file. Returns 0 or an exit status after a message. */
int client_path(const struct client *client, kvs_slice word, const char **ret_path);

/* --- the commands (rows of table.c) ---------------------------------------------------- */

int command_set(void *client);
int command_get(void *client);
int command_rm(void *client);
int command_cas(void *client);
int command_exists(void *client);
int command_mget(void *client);
int command_scan(void *client);
int command_count(void *client);
int command_checksum(void *client);
int command_ttl(void *client);
int command_rm_range(void *client);
int command_txn(void *client);
int command_import(void *client);
int command_export(void *client);
int command_stats(void *client);
int command_ping(void *client);
int command_sync(void *client);
int command_compact(void *client);
int command_backup(void *client);
int command_shell(void *client);
int command_help(void *client);

#endif

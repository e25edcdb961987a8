/*
 * cli/client/events.h: what the files of `kvs-client events` share. Its commands have a table of
 * their own (events_table.c), and run on the main thread as the others do; events that come by
 * themselves are handed over by the loop, one batch at a time.
 *
 * An event is a line of JSON, the same going in and coming out:
 *   {"stream":S,"number":N,"type":T,"id":I,"created":MS,"commit":C,"prepare":P,
 *    "data":JSON, or "bytes":TEXT, or "bytes64":BASE64, "metadata":JSON or ...}
 * Going in, only "type" is needed.
 */
#ifndef CLI_CLIENT_EVENTS_H
#define CLI_CLIENT_EVENTS_H

#include "cli/client/client.h"

#include <kvs/events.h>

extern const struct arguments_program events_program;

/* Finds the command in the words behind `events`, parses the rest, runs it. */
int events_run(struct client *client, kvs_slice *words, size_t count);
/* Opens client->events as the options say, unless it is open so: lines of a shell may name several
 * places, one after the other. `must_exist`: does not make a directory. Returns 0 or an exit status
 * after a message. */
int events_connect(struct client *client, bool must_exist);
/* Closes it, if it is open. */
void events_disconnect(struct client *client);
/* Waits for a future; tells a failure. Returns 0 or an exit status; the future is the caller's. */
int events_wait(const struct client *client, kvs_future *future);
/* The same, and frees it. */
int events_wait_and_free(const struct client *client, kvs_future *future);

/* What --expect says. Returns 0 or an exit status after a message. */
int events_expected(const struct client *client, int64_t *ret_version);
/* A number from a word, or -1. */
int64_t events_number(kvs_slice word);
bool events_is_all(kvs_slice stream);

/* Appends the line of one event, with its newline. Returns 0 or NO_MEMORY. */
int events_print(struct buf *line, const kvs_resolved_event *event);

/* An event read from a line; what it points to is its own. */
struct events_input {
    kvs_new_event event;
    struct buf type, data, metadata;
};
/* Returns 0, or INVALID_ARGUMENT with what is wrong. */
int events_parse(kvs_slice line, struct events_input *ret_input, char why[160]);
void events_input_deinit(struct events_input *input);
bool events_is_json(kvs_slice text);

int command_events_append(void *client);
int command_events_read(void *client);
int command_events_follow(void *client);
int command_events_subscribe(void *client);
int command_events_delete(void *client);
int command_events_metadata(void *client);
int command_events_groups(void *client);
int command_events_users(void *client);
int command_events_scavenge(void *client);
int command_events_ping(void *client);

#endif

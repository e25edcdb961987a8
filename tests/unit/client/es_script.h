/* es_script.h: what a scripted server says and hears in the EventStoreDB TCP protocol. All are
 * false, or 0, when the connection has ended. */
#ifndef TESTS_UNIT_CLIENT_ES_SCRIPT_H
#define TESTS_UNIT_CLIENT_ES_SCRIPT_H

#include "proto/eventstore/commands.h"
#include "scripted_server.h"

/* The next frame but heartbeats, which are answered; valid until the next call. */
bool es_script_read(struct scripted_server *server, struct es_frame *ret_frame);
extern atomic_uint es_script_heartbeats; /* that it answered */
/* The next one has this command; anything else is told on standard error. */
bool es_script_expect(struct scripted_server *server, uint8_t command, struct es_frame *ret_frame);

/* message NULL: no body. */
bool es_script_send(struct scripted_server *server, uint8_t command, const struct es_id *id,
                    const void *message);
bool es_script_send_text(struct scripted_server *server, uint8_t command, const struct es_id *id,
                         const char *text);

/* Takes the greeting and accepts it. */
bool es_script_greet(struct scripted_server *server);

/* "esdb://127.0.0.1:PORT" and what follows. */
const char *es_script_url(const struct scripted_server *server, const char *rest);

/* An event record number `number` of `stream` with the data "NUMBER"; texts live until the next
 * but 63. */
struct es_event_record es_script_record(const char *stream, int64_t number);

bool es_script_append_ok(struct scripted_server *server, const struct es_frame *frame,
                         int64_t number);
/* A page of events [from, from + count) of a stream whose last one is `last`. */
bool es_script_page(struct scripted_server *server, const struct es_frame *frame, int64_t last);
bool es_script_confirm(struct scripted_server *server, const struct es_id *id, int64_t last);
bool es_script_push(struct scripted_server *server, const struct es_id *id, int64_t number);

#endif

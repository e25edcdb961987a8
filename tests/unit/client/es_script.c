/* es_script.c: see the header. */
#include "es_script.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

atomic_uint es_script_heartbeats;

static bool read_any(struct scripted_server *server, struct es_frame *ret_frame)
{
    struct buf *in = &server->in;
    size_t size = ES_FRAME_PREFIX_SIZE;
    const char *why;
    in->size = 0;
    for (;;) {
        if (buf_reserve(in, size - in->size) != 0)
            return false;
        if (!script_read_exact(server, in->data + in->size, size - in->size))
            return false;
        in->size = size;
        int got = es_frame_decode(buf_slice(in), ES_FRAME_LENGTH_MAX, ret_frame, &size, &why);
        if (got != ES_MORE)
            return got == 0;
    }
}

bool es_script_read(struct scripted_server *server, struct es_frame *ret_frame)
{
    while (read_any(server, ret_frame)) {
        if (ret_frame->command == ES_HEARTBEAT_REQUEST) {
            es_script_send(server, ES_HEARTBEAT_RESPONSE, &ret_frame->correlation, NULL);
            atomic_fetch_add(&es_script_heartbeats, 1);
        } else if (ret_frame->command != ES_HEARTBEAT_RESPONSE) {
            return true;
        }
    }
    return false;
}

bool es_script_expect(struct scripted_server *server, uint8_t command, struct es_frame *ret_frame)
{
    if (!es_script_read(server, ret_frame))
        return false;
    if (ret_frame->command == command)
        return true;
    fprintf(stderr, "# the client sent command %02x instead of %02x\n", ret_frame->command,
            command);
    return false;
}

bool es_script_send(struct scripted_server *server, uint8_t command, const struct es_id *id,
                    const void *message)
{
    struct buf out = BUF_INIT;
    int error = message != NULL ? es_send(&out, command, id, NULL, message)
                                : es_frame_append(&out, command, id, NULL, slice_make(NULL, 0));
    if (error != 0)
        buf_deinit(&out);
    return error == 0 && script_send_buf(server, &out);
}

bool es_script_send_text(struct scripted_server *server, uint8_t command, const struct es_id *id,
                         const char *text)
{
    struct buf out = BUF_INIT;
    int error = es_frame_append(&out, command, id, NULL, slice_of_string(text));
    if (error != 0)
        buf_deinit(&out);
    return error == 0 && script_send_buf(server, &out);
}

bool es_script_greet(struct scripted_server *server)
{
    struct es_frame frame;
    for (;;) {
        if (!es_script_read(server, &frame))
            return false;
        if (frame.command == ES_AUTHENTICATE) {
            if (!es_script_send(server, ES_AUTHENTICATED, &frame.correlation, NULL))
                return false;
        } else {
            assert(frame.command == ES_IDENTIFY_CLIENT);
            return es_script_send(server, ES_CLIENT_IDENTIFIED, &frame.correlation, NULL);
        }
    }
}

const char *es_script_url(const struct scripted_server *server, const char *rest)
{
    static char url[300];
    snprintf(url, sizeof url, "esdb://127.0.0.1:%u%s", server->port, rest);
    return url;
}

struct es_event_record es_script_record(const char *stream, int64_t number)
{
    static char texts[64][24];
    static uint8_t ids[64][16];
    static unsigned turn;
    unsigned at = turn++ % 64;
    snprintf(texts[at], sizeof texts[at], "%lld", (long long)number);
    memset(ids[at], 0, sizeof ids[at]);
    memcpy(ids[at], &number, sizeof number);
    ids[at][15] = 1;
    return (struct es_event_record){
        .event_stream_id = slice_of_string(stream),
        .event_number = number,
        .event_id = slice_make(ids[at], sizeof ids[at]),
        .event_type = slice_of_string("happened"),
        .data_content_type = ES_CONTENT_JSON,
        .data = slice_of_string(texts[at]),
        .has_created_epoch = true,
        .created_epoch = 1700000000000 + number % 1000000,
    };
}

bool es_script_append_ok(struct scripted_server *server, const struct es_frame *frame,
                         int64_t number)
{
    const struct es_write_events_completed done = {
        .result = ES_SUCCESS,
        .first_event_number = number,
        .last_event_number = number,
        .has_commit_position = true,
        .commit_position = 100 * number + 100,
        .has_prepare_position = true,
        .prepare_position = 100 * number + 100,
    };
    return es_script_send(server, ES_WRITE_EVENTS_COMPLETED, &frame->correlation, &done);
}

bool es_script_page(struct scripted_server *server, const struct es_frame *frame, int64_t last)
{
    struct es_read_stream_events ask;
    struct es_resolved_indexed_event events[64];
    memset(events, 0, sizeof events);
    int error = es_message_decode(frame->body, &es_read_stream_events_type, &ask);
    assert(error == 0);
    uint32_t count = 0;
    int64_t number = ask.from_event_number;
    while (count < ask.max_count && count < 60 && number <= last) {
        events[count].has_event = true;
        events[count++].event = es_script_record("s", number++);
    }
    const struct es_read_stream_events_completed page = {
        .events = {.items = events, .count = count},
        .result = last < 0 ? ES_READ_STREAM_NO_STREAM : ES_READ_STREAM_SUCCESS,
        .next_event_number = last < 0 ? -1 : number,
        .last_event_number = last,
        .is_end_of_stream = number > last,
    };
    return es_script_send(server, ES_READ_STREAM_FORWARD_COMPLETED, &frame->correlation, &page);
}

/* Of an event of the log; that of the last number there can be is no further. */
static int64_t position_of(int64_t number)
{
    return number < INT64_MAX / 100 ? 100 * number + 100 : INT64_MAX;
}

bool es_script_confirm(struct scripted_server *server, const struct es_id *id, int64_t last)
{
    const struct es_subscription_confirmation wire = {
        .last_commit_position = position_of(last),
        .has_last_event_number = true,
        .last_event_number = last,
    };
    return es_script_send(server, ES_SUBSCRIPTION_CONFIRMATION, id, &wire);
}

bool es_script_push(struct scripted_server *server, const struct es_id *id, int64_t number)
{
    const struct es_stream_event_appeared wire = {
        .event = {.has_event = true,
                  .event = es_script_record("s", number),
                  .commit_position = position_of(number),
                  .prepare_position = position_of(number)},
    };
    return es_script_send(server, ES_STREAM_EVENT_APPEARED, id, &wire);
}

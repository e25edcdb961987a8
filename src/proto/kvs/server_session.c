/* proto/kvs/server_session.c: see the header for the happy path and the failures. */
#include "proto/kvs/server_session.h"

#include <assert.h>

void server_session_init(struct server_session *session,
                         const struct server_session_options *options, uint64_t now_ms)
{
    *session = (struct server_session){
        .options = options,
        .state = SERVER_SESSION_HELLO,
        .opened_ms = now_ms,
        .active_ms = now_ms,
    };
}

static enum server_session_item fail(struct server_session *session, int error)
{
    session->state = SERVER_SESSION_FAILED;
    session->error = error;
    return SERVER_SESSION_ENDED;
}

static enum server_session_item answer_hello(struct server_session *session, int status,
                                             struct buf *out)
{
    struct wire_server_hello hello = {
        .status = (int16_t)status,
        .version_min = WIRE_VERSION_MIN,
        .version_max = WIRE_VERSION_MAX,
    };
    if (status == 0) {
        hello.version = WIRE_VERSION_MAX;
        hello.limits = session->options->limits;
    }
    if (wire_server_hello_encode(&hello, out) != 0)
        return fail(session, KVS_ERR_NO_MEMORY);
    if (status != 0)
        return fail(session, status);
    session->state = SERVER_SESSION_OPEN;
    return SERVER_SESSION_ANSWERED;
}

/* It began with something else: perhaps it can be told so in its own words. */
static enum server_session_item answer_foreign(struct server_session *session, kvs_slice in,
                                               struct buf *out)
{
    enum foreign foreign = foreign_recognise(in);
    if (foreign == FOREIGN_UNKNOWN || foreign == FOREIGN_KVS)
        return answer_hello(session, KVS_ERR_PROTOCOL, out);
    session->foreign = foreign;
    int error = foreign_answer(foreign, foreign_name(FOREIGN_KVS), out);
    return fail(session, error == 0 ? KVS_ERR_PROTOCOL : error);
}

static enum server_session_item next_hello(struct server_session *session, kvs_slice in,
                                           struct buf *out, struct server_session_input *ret)
{
    struct wire_client_hello hello;
    int error = wire_client_hello_decode(in, &hello, &ret->taken);
    if (error == WIRE_MORE) {
        ret->wanted = in.size > 0 ? WIRE_CLIENT_HELLO_SIZE : 0;
        return SERVER_SESSION_NEEDS_BYTES;
    }
    if (error == 0 &&
        (hello.version_max < WIRE_VERSION_MIN || hello.version_min > WIRE_VERSION_MAX))
        error = KVS_ERR_VERSION;
    if (error == KVS_ERR_PROTOCOL)
        return answer_foreign(session, in, out);
    return answer_hello(session, error, out);
}

/* Drops bytes of a body that was refused. */
static void skip(struct server_session *session, size_t there, struct server_session_input *ret)
{
    size_t take = there < session->skip_bytes ? there : (size_t)session->skip_bytes;
    ret->taken += take;
    session->skip_bytes -= take;
}

static enum server_session_item refuse_large(struct server_session *session, kvs_slice in,
                                             struct buf *out, struct server_session_input *ret)
{
    const struct wire_frame *frame = &ret->frame;
    if (wire_reply_error(frame->opcode, frame->id, KVS_ERR_TOO_LARGE,
                         "request over the server's limit", out) != 0)
        return fail(session, KVS_ERR_NO_MEMORY);
    session->skip_bytes = frame->body.size;
    ret->taken = WIRE_HEADER_SIZE;
    skip(session, in.size - WIRE_HEADER_SIZE, ret);
    return SERVER_SESSION_ANSWERED;
}

static enum server_session_item next_frame(struct server_session *session, kvs_slice in,
                                           uint64_t now_ms, struct buf *out,
                                           struct server_session_input *ret)
{
    int error = wire_frame_decode(in, session->options->limits.body_size_max, &ret->frame);
    switch (error) {
    case 0:
        ret->taken = WIRE_HEADER_SIZE + ret->frame.body.size;
        session->active_ms = now_ms;
        return ret->frame.opcode == WIRE_CANCEL || ret->frame.opcode == WIRE_CREDIT
                   ? SERVER_SESSION_CONTROL
                   : SERVER_SESSION_REQUEST;
    case WIRE_MORE:
        if (in.size >= WIRE_HEADER_SIZE)
            ret->wanted = WIRE_HEADER_SIZE + ret->frame.body.size;
        else
            ret->wanted = in.size > 0 ? WIRE_HEADER_SIZE : 0;
        return SERVER_SESSION_NEEDS_BYTES;
    case KVS_ERR_TOO_LARGE:
        return refuse_large(session, in, out, ret);
    default:
        /* The answer names id 0: what the bytes say cannot be trusted. */
        if (wire_reply_error(WIRE_GOAWAY, 0, KVS_ERR_PROTOCOL, "this is no kvs frame", out) != 0)
            return fail(session, KVS_ERR_NO_MEMORY);
        return fail(session, KVS_ERR_PROTOCOL);
    }
}

enum server_session_item server_session_next(struct server_session *session, kvs_slice in,
                                             uint64_t now_ms, struct buf *out,
                                             struct server_session_input *ret)
{
    ret->taken = 0;
    ret->wanted = 0;
    if (session->state >= SERVER_SESSION_DRAINING)
        return SERVER_SESSION_ENDED;
    if (session->skip_bytes > 0) {
        skip(session, in.size, ret);
        return in.size > 0 ? SERVER_SESSION_ANSWERED : SERVER_SESSION_NEEDS_BYTES;
    }
    if (session->state == SERVER_SESSION_HELLO)
        return next_hello(session, in, out, ret);
    return next_frame(session, in, now_ms, out, ret);
}

void server_session_refuse(struct server_session *session, int status, struct buf *out)
{
    assert(session->state == SERVER_SESSION_HELLO && status < 0);
    answer_hello(session, status, out);
}

void server_session_drain(struct server_session *session, struct buf *out)
{
    if (session->state >= SERVER_SESSION_DRAINING)
        return;
    /* Before the hellos there is nobody to tell. No memory: the close says it as well. */
    session->going = session->state == SERVER_SESSION_OPEN;
    if (session->going && wire_goaway_encode(out) != 0)
        fail(session, KVS_ERR_NO_MEMORY);
    else
        session->state = SERVER_SESSION_DRAINING;
}

void server_session_finish(struct server_session *session, struct buf *out)
{
    if (!session->going || session->state != SERVER_SESSION_DRAINING)
        return;
    session->going = false;
    wire_goaway_encode(out); /* no memory: the client then takes its last writes for unknown */
}

void server_session_end_of_input(struct server_session *session)
{
    if (session->state < SERVER_SESSION_DRAINING)
        session->state = SERVER_SESSION_DRAINING;
}

void server_session_note_unwritten(struct server_session *session, uint64_t unwritten_bytes,
                                   bool progress, uint64_t now_ms)
{
    if (unwritten_bytes == 0)
        session->write_stuck_ms = 0;
    else if (progress || session->write_stuck_ms == 0)
        session->write_stuck_ms = now_ms;
}

const char *server_session_check_time(const struct server_session *session, uint64_t now_ms)
{
    const struct server_session_options *options = session->options;
    if (session->state == SERVER_SESSION_HELLO &&
        now_ms - session->opened_ms >= SERVER_SESSION_HELLO_TIMEOUT_MS)
        return "no hello";
    if (options->slow_timeout_ms != 0 && session->write_stuck_ms != 0 &&
        now_ms - session->write_stuck_ms >= options->slow_timeout_ms)
        return "does not read its replies";
    if (options->idle_timeout_ms != 0 && session->in_flight == 0 && session->scans == 0 &&
        session->write_stuck_ms == 0 && now_ms - session->active_ms >= options->idle_timeout_ms)
        return "idle";
    return NULL;
}

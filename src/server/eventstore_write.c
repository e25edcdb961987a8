/*
 * server/eventstore_write.c: appending, deleting, explicit transactions.
 *
 * 1. The frame becomes a stream_write whose texts point into the bytes read; many events are left
 * to the blocking pool, which such a write goes to anyway; 2. it joins the list of this turn's
 * writes, which is handed over at the end of the turn, in order; 3. when it is done the reply is
 * appended.
 */
#include "server/eventstore_parts.h"

#include "base/mem.h"

#include <kvs/error.h>

/* An event takes at least this much of a frame: its id, and the heads around it. */
#define EVENT_SIZE_MIN 20u
/* STREAM_EVENT_SIZE_MAX, STREAM_TYPE_SIZE_MAX and STREAM_WRITE_SIZE_MAX in words. */
#define TOO_LARGE_TEXT                                                                            \
    "too large: type, data and metadata of an event have less than 16 MiB together, its type at " \
    "most 4096 bytes, the events of a write or transaction at most 64 MiB"
#define BROKEN_TEXT "an event cannot be read; its id must have 16 bytes"

static const char *message_of(enum stream_outcome outcome)
{
    switch (outcome) {
    case STREAM_DELETED:
        return "The stream is deleted.";
    case STREAM_ACCESS_DENIED:
        return "Access Denied";
    case STREAM_INVALID_TRANSACTION:
        return "There is no such transaction under way.";
    default:
        return "Wrong expected version.";
    }
}

/* Optional: nothing when all went well. */
static kvs_slice message_slice(enum stream_outcome outcome)
{
    return outcome == STREAM_OK ? slice_make(NULL, 0) : slice_of_string(message_of(outcome));
}

/* --- replies ---------------------------------------------------------------------------------- */

static void reply_write(struct es_request *request)
{
    const struct stream_write *write = &request->as.write;
    bool done = write->outcome == STREAM_OK;
    const struct es_write_events_completed message = {
        .result = es_operation_result_of(write->outcome),
        .message = message_slice(write->outcome),
        .first_event_number = done ? write->first_number : -1,
        .last_event_number = done ? write->last_number : -1,
        .has_prepare_position = done,
        .prepare_position = write->position,
        .has_commit_position = done,
        .commit_position = write->position,
        .has_current_version = write->outcome == STREAM_WRONG_EXPECTED_VERSION,
        .current_version = es_number_for(request->connection, write->current_version),
    };
    es_answer(request->connection, ES_WRITE_EVENTS_COMPLETED, &request->correlation, &message);
}

static void reply_delete(struct es_request *request)
{
    const struct stream_write *write = &request->as.write;
    bool done = write->outcome == STREAM_OK;
    const struct es_delete_stream_completed message = {
        .result = es_operation_result_of(write->outcome),
        .message = message_slice(write->outcome),
        .has_prepare_position = done,
        .prepare_position = write->position,
        .has_commit_position = done,
        .commit_position = write->position,
        .has_current_version = write->outcome == STREAM_WRONG_EXPECTED_VERSION,
        .current_version = es_number_for(request->connection, write->current_version),
    };
    es_answer(request->connection, ES_DELETE_STREAM_COMPLETED, &request->correlation, &message);
}

static void reply_start(struct es_request *request)
{
    const struct stream_write *write = &request->as.write;
    const struct es_transaction_start_completed message = {
        .transaction_id = write->outcome == STREAM_OK ? (int64_t)write->transaction : -1,
        .result = es_operation_result_of(write->outcome),
        .message = message_slice(write->outcome),
    };
    es_answer(request->connection, ES_TRANSACTION_START_COMPLETED, &request->correlation, &message);
}

static void reply_transaction_write(struct es_request *request)
{
    const struct stream_write *write = &request->as.write;
    const struct es_transaction_write_completed message = {
        .transaction_id = request->asked,
        .result = es_operation_result_of(write->outcome),
        .message = message_slice(write->outcome),
    };
    es_answer(request->connection, ES_TRANSACTION_WRITE_COMPLETED, &request->correlation, &message);
}

static void reply_commit(struct es_request *request)
{
    const struct stream_write *write = &request->as.write;
    bool done = write->outcome == STREAM_OK;
    const struct es_transaction_commit_completed message = {
        .transaction_id = request->asked,
        .result = es_operation_result_of(write->outcome),
        .message = message_slice(write->outcome),
        .first_event_number = done ? write->first_number : -1,
        .last_event_number = done ? write->last_number : -1,
        .has_prepare_position = done,
        .prepare_position = write->position,
        .has_commit_position = done,
        .commit_position = write->position,
    };
    es_answer(request->connection, ES_TRANSACTION_COMMIT_COMPLETED, &request->correlation,
              &message);
}

static void on_done(struct task *task)
{
    struct es_request *request = CONTAINER_OF(task, struct es_request, as.op.task);
    const struct stream_write *write = &request->as.write;
    if (write->op.error == KVS_ERR_TOO_LARGE) { /* whose own text speaks of keys */
        es_answer_text(request->connection, ES_BAD_REQUEST, &request->correlation, TOO_LARGE_TEXT);
    } else if (write->op.error == KVS_ERR_PROTOCOL) {
        es_answer_text(request->connection, ES_BAD_REQUEST, &request->correlation, BROKEN_TEXT);
    } else if (write->op.error != 0) {
        es_answer_error(request->connection, &request->correlation, write->op.error);
    } else if (write->outcome == STREAM_BAD_REQUEST) {
        es_answer_text(request->connection, ES_BAD_REQUEST, &request->correlation,
                       "the stream or its events are not as they may be");
    } else {
        switch (write->kind) {
        case STREAM_WRITE_APPEND:
            reply_write(request);
            break;
        case STREAM_WRITE_DELETE:
        case STREAM_WRITE_TOMBSTONE:
            reply_delete(request);
            break;
        case STREAM_WRITE_TRANSACTION_START:
            reply_start(request);
            break;
        case STREAM_WRITE_TRANSACTION_APPEND:
            reply_transaction_write(request);
            break;
        case STREAM_WRITE_TRANSACTION_COMMIT:
            reply_commit(request);
            break;
        }
    }
    es_request_end(request);
}

/* --- requests --------------------------------------------------------------------------------- */

static struct es_request *begin(const struct es_call *call, enum stream_write_kind kind)
{
    struct es_request *request =
        es_request_new(call, on_done, ES_FRAME_HEAD_SIZE + call->frame->body.size);
    if (request != NULL) {
        request->as.write.kind = kind;
        request->as.write.user = es_call_user(call);
    }
    return request;
}

static void gather(struct es_request *request)
{
    task_list_push(&request->connection->at->writes, &request->as.op.task);
}

static bool take_event(const struct es_new_event *from, struct stream_new_event *to)
{
    if (from->event_id.size != sizeof to->id)
        return false;
    memcpy(to->id, from->event_id.data, sizeof to->id);
    to->is_json = from->data_content_type == ES_CONTENT_JSON;
    to->type = from->event_type;
    to->data = from->data;
    to->metadata = from->metadata;
    return true;
}

/* The request's events. Returns 0, PROTOCOL or NO_MEMORY. Any thread. */
static int take_events(struct stream_write *write)
{
    struct es_request *request = CONTAINER_OF(write, struct es_request, as.write);
    struct stream_new_event *events = &request->one_event;
    struct es_list list = request->list;
    uint32_t count = list.count;
    if (count > 1)
        events = request->events = mem_alloc(count * sizeof *events);
    if (events == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        struct es_new_event event;
        if (es_list_next(&list, &es_new_event_type, &event) != 1 || !take_event(&event, &events[i]))
            return KVS_ERR_PROTOCOL;
    }
    write->events = events;
    write->count = count;
    return 0;
}

static void gather_with_events(const struct es_call *call, struct es_request *request,
                               struct es_list list)
{
    int error = 0;
    request->list = list;
    if (list.count > call->frame->body.size / EVENT_SIZE_MIN)
        error = KVS_ERR_PROTOCOL; /* they cannot all have ids: so no memory is taken for them */
    else if (list.count > STREAM_WRITE_COUNT_QUICK)
        request->as.write.load_events = take_events;
    else
        error = take_events(&request->as.write);
    if (error == 0) {
        gather(request);
        return;
    }
    if (error == KVS_ERR_PROTOCOL)
        es_call_refuse(call, BROKEN_TEXT);
    else
        es_answer_error(call->connection, &call->frame->correlation, error);
    es_request_end(request);
}

/* A stream that can be written to, and a version that can be expected. */
static bool check(const struct es_call *call, kvs_slice stream, int64_t expected_version)
{
    const char *why = NULL;
    if (stream.size == 0 || stream.size > STREAM_NAME_SIZE_MAX)
        why = "the name of a stream has 1 to 4096 bytes";
    else if (expected_version < ES_VERSION_STREAM_EXISTS || expected_version == -3)
        why = "the expected version is none";
    if (why != NULL)
        es_call_refuse(call, why);
    return why == NULL;
}

void es_take_write_events(const struct es_call *call)
{
    struct es_write_events message;
    if (!es_call_decode(call, &message) ||
        !check(call, message.event_stream_id, message.expected_version))
        return;
    struct es_request *request = begin(call, STREAM_WRITE_APPEND);
    if (request == NULL)
        return;
    request->as.write.stream = message.event_stream_id;
    request->as.write.expected_version = message.expected_version;
    gather_with_events(call, request, message.events);
}

void es_take_delete_stream(const struct es_call *call)
{
    struct es_delete_stream message;
    if (!es_call_decode(call, &message) ||
        !check(call, message.event_stream_id, message.expected_version))
        return;
    struct es_request *request =
        begin(call, message.hard_delete ? STREAM_WRITE_TOMBSTONE : STREAM_WRITE_DELETE);
    if (request == NULL)
        return;
    request->as.write.stream = message.event_stream_id;
    request->as.write.expected_version = message.expected_version;
    gather(request);
}

void es_take_transaction_start(const struct es_call *call)
{
    struct es_transaction_start message;
    if (!es_call_decode(call, &message) ||
        !check(call, message.event_stream_id, message.expected_version))
        return;
    struct es_request *request = begin(call, STREAM_WRITE_TRANSACTION_START);
    if (request == NULL)
        return;
    request->as.write.stream = message.event_stream_id;
    request->as.write.expected_version = message.expected_version;
    gather(request);
}

void es_take_transaction_write(const struct es_call *call)
{
    struct es_transaction_write message;
    if (!es_call_decode(call, &message))
        return;
    struct es_request *request = begin(call, STREAM_WRITE_TRANSACTION_APPEND);
    if (request == NULL)
        return;
    request->asked = message.transaction_id;
    request->as.write.transaction = (uint64_t)message.transaction_id;
    gather_with_events(call, request, message.events);
}

void es_take_transaction_commit(const struct es_call *call)
{
    struct es_transaction_commit message;
    if (!es_call_decode(call, &message))
        return;
    struct es_request *request = begin(call, STREAM_WRITE_TRANSACTION_COMMIT);
    if (request == NULL)
        return;
    request->asked = message.transaction_id;
    request->as.write.transaction = (uint64_t)message.transaction_id;
    gather(request);
}

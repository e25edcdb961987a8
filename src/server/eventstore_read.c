/*
 * server/eventstore_read.c: reading an event, a stream, the log.
 *
 * 1. The frame becomes a stream_read; 2. what is in memory is answered at once, the rest when it
 * has come; 3. events are encoded one by one into the connection's output, without a list in
 * between.
 *
 * A page ends early at PAGE_SIZE_MAX bytes. Each read counts as a whole page in flight, so that
 * many of them at once cannot take more memory than a connection may have; those that wait for the
 * disk take turns (eventstore_queue.c).
 */
#include "server/eventstore_parts.h"

#include "base/mem.h"

#include <kvs/error.h>

#define PAGE_SIZE_MAX STREAM_READ_SIZE_DEFAULT
#define COUNT_ESTIMATE 1024u /* bytes of an event, to count a small page by */
#define PATTERNS_MAX 1024u

static void fill_record(const struct es_connection *connection, struct es_event_record *to,
                        const struct stream_record *from)
{
    *to = (struct es_event_record){
        .event_stream_id = from->stream,
        .event_number = es_number_for(connection, from->number),
        .event_id = slice_make(from->id, sizeof from->id),
        .event_type = from->type,
        .data_content_type = from->is_json,
        .metadata_content_type = from->is_json,
        .data = from->data,
        .metadata = slice_make(from->metadata.size > 0 ? (const void *)from->metadata.data : "",
                               from->metadata.size),
        .has_created = true,
        .created = es_created_from_unix(from->created_100ns),
        .has_created_epoch = true,
        .created_epoch = from->created_100ns / 10000,
    };
}

void es_resolved_indexed_fill(const struct es_connection *connection,
                              struct es_resolved_indexed_event *to,
                              const struct stream_event *event)
{
    to->has_event = event->has_event;
    to->has_link = event->has_link;
    if (event->has_event)
        fill_record(connection, &to->event, &event->event);
    if (event->has_link)
        fill_record(connection, &to->link, &event->link);
}

void es_resolved_fill(const struct es_connection *connection, struct es_resolved_event *to,
                      const struct stream_event *event)
{
    to->has_event = event->has_event;
    to->has_link = event->has_link;
    if (event->has_event)
        fill_record(connection, &to->event, &event->event);
    if (event->has_link)
        fill_record(connection, &to->link, &event->link);
    to->commit_position = to->prepare_position = stream_event_original(event)->position;
}

/* --- replies ---------------------------------------------------------------------------------- */

static kvs_slice text_of(const struct stream_read *read)
{
    if (read->outcome == STREAM_ACCESS_DENIED)
        return slice_of_string("Access Denied");
    if (read->outcome == STREAM_BAD_REQUEST)
        return slice_of_string(read->message != NULL ? read->message : "this cannot be read");
    return slice_make(NULL, 0);
}

static int reply_event(struct es_request *request, struct buf *out)
{
    static const int64_t results[] = {
        [STREAM_OK] = ES_READ_EVENT_SUCCESS,
        [STREAM_NOT_FOUND] = ES_READ_EVENT_NO_STREAM,
        [STREAM_EVENT_NOT_FOUND] = ES_READ_EVENT_NOT_FOUND,
        [STREAM_DELETED] = ES_READ_EVENT_STREAM_DELETED,
        [STREAM_ACCESS_DENIED] = ES_READ_EVENT_ACCESS_DENIED,
        [STREAM_BAD_REQUEST] = ES_READ_EVENT_ERROR,
    };
    const struct stream_read *read = &request->as.read;
    struct es_read_event_completed message = {
        .result = results[read->outcome],
        .error = text_of(read),
    };
    if (read->outcome == STREAM_OK && read->events_count > 0)
        es_resolved_indexed_fill(request->connection, &message.event, &read->events[0]);
    return es_send(out, ES_READ_EVENT_COMPLETED, &request->correlation, NULL, &message);
}

static int append_indexed(struct buf *out, const struct es_request *request)
{
    const struct stream_read *read = &request->as.read;
    int error = 0;
    for (uint32_t i = 0; i < read->events_count && error == 0; i++) {
        struct es_resolved_indexed_event event;
        es_resolved_indexed_fill(request->connection, &event, &read->events[i]);
        error = es_field_append(out, 1, &es_resolved_indexed_event_type, &event);
    }
    return error;
}

static int append_stream_page(struct buf *out, const struct es_request *request)
{
    static const int64_t results[] = {
        [STREAM_OK] = ES_READ_STREAM_SUCCESS,
        [STREAM_NOT_FOUND] = ES_READ_STREAM_NO_STREAM,
        [STREAM_DELETED] = ES_READ_STREAM_STREAM_DELETED,
        [STREAM_ACCESS_DENIED] = ES_READ_STREAM_ACCESS_DENIED,
        [STREAM_BAD_REQUEST] = ES_READ_STREAM_ERROR,
    };
    const struct es_connection *connection = request->connection;
    const struct stream_read *read = &request->as.read;
    bool done = read->outcome == STREAM_OK;
    bool knows_last = read->outcome != STREAM_ACCESS_DENIED && read->outcome != STREAM_BAD_REQUEST;
    struct es_read_stream_events_completed message = {
        .result = results[read->outcome],
        .next_event_number = done ? es_number_for(connection, read->next) : -1,
        .last_event_number = knows_last ? es_number_for(connection, read->last_number) : -1,
        .is_end_of_stream = !done || read->end,
        .last_commit_position = read->last_position,
        .error = text_of(read),
    };
    int error = done ? append_indexed(out, request) : 0;
    return error != 0 ? error
                      : es_message_append(out, &es_read_stream_events_completed_type, &message);
}

static int append_resolved(struct buf *out, const struct es_request *request)
{
    const struct stream_read *read = &request->as.read;
    int error = 0;
    for (uint32_t i = 0; i < read->events_count && error == 0; i++) {
        struct es_resolved_event event;
        es_resolved_fill(request->connection, &event, &read->events[i]);
        error = es_field_append(out, 3, &es_resolved_event_type, &event);
    }
    return error;
}

static int64_t all_result(enum stream_outcome outcome)
{
    if (outcome == STREAM_OK)
        return ES_READ_ALL_SUCCESS;
    return outcome == STREAM_ACCESS_DENIED ? ES_READ_ALL_ACCESS_DENIED : ES_READ_ALL_ERROR;
}

/* Where the next page begins. Never -1, which would be the end of the log again: backward, the
 * begin is 0, before which there is nothing. */
static int64_t next_position(const struct es_request *request)
{
    const struct stream_read *read = &request->as.read;
    if (read->outcome != STREAM_OK)
        return request->asked;
    return read->next < 0 ? 0 : read->next;
}

static int append_all_page(struct buf *out, const struct es_request *request)
{
    const struct stream_read *read = &request->as.read;
    int64_t next = next_position(request);
    const struct es_read_all_events_completed message = {
        .commit_position = request->asked,
        .prepare_position = request->asked,
        .next_commit_position = next,
        .next_prepare_position = next,
        .has_result = true,
        .result = all_result(read->outcome),
        .error = text_of(read),
    };
    int error = read->outcome == STREAM_OK ? append_resolved(out, request) : 0;
    return error != 0 ? error
                      : es_message_append(out, &es_read_all_events_completed_type, &message);
}

static int append_filtered_page(struct buf *out, const struct es_request *request)
{
    const struct stream_read *read = &request->as.read;
    int64_t next = next_position(request);
    const struct es_filtered_read_all_events_completed message = {
        .commit_position = request->asked,
        .prepare_position = request->asked,
        .next_commit_position = next,
        .next_prepare_position = next,
        .is_end_of_stream = read->outcome != STREAM_OK || read->end,
        .has_result = true,
        .result = all_result(read->outcome),
        .error = text_of(read),
    };
    int error = read->outcome == STREAM_OK ? append_resolved(out, request) : 0;
    return error != 0
               ? error
               : es_message_append(out, &es_filtered_read_all_events_completed_type, &message);
}

static uint8_t reply_command(uint8_t command)
{
    return command == ES_FILTERED_READ_ALL_BACKWARD ? ES_FILTERED_READ_ALL_BACKWARD_COMPLETED
                                                    : command + 1;
}

static int append_page(struct es_request *request, struct buf *out)
{
    switch (request->command) {
    case ES_READ_STREAM_FORWARD:
    case ES_READ_STREAM_BACKWARD:
        return append_stream_page(out, request);
    case ES_READ_ALL_FORWARD:
    case ES_READ_ALL_BACKWARD:
        return append_all_page(out, request);
    default:
        return append_filtered_page(out, request);
    }
}

static int reply_page(struct es_request *request, struct buf *out)
{
    size_t begin;
    int error =
        es_frame_begin(out, reply_command(request->command), &request->correlation, NULL, &begin);
    if (error == 0)
        error = append_page(request, out);
    if (error == 0 && !es_frame_finish(out, begin))
        error = KVS_ERR_TOO_LARGE;
    return error;
}

static void reply(struct es_request *request)
{
    struct es_connection *connection = request->connection;
    struct buf *out = es_request_out(request);
    if (out == NULL)
        return;
    if (request->as.op.error != 0) {
        es_answer_error(connection, &request->correlation, request->as.op.error);
        return;
    }
    if (request->asked == STREAM_END)
        request->asked = request->as.read.last_position + 1; /* what the end was */
    size_t begin = out->size;
    int error =
        request->command == ES_READ_EVENT ? reply_event(request, out) : reply_page(request, out);
    if (error != 0)
        es_answer_broken(connection, begin, error);
}

static void finish(struct es_request *request)
{
    reply(request);
    stream_read_release(&request->as.read);
    es_request_end(request);
}

static void on_done(struct task *task)
{
    struct es_request *request = CONTAINER_OF(task, struct es_request, as.op.task);
    struct es_connection *connection = request->connection;
    connection_ref(&connection->base);
    es_read_done(request);
    finish(request);
    es_reads_start(connection);
    connection_unref(&connection->base);
}

/* --- requests --------------------------------------------------------------------------------- */

static uint64_t page_estimate(int64_t count)
{
    if (count < 1 || count > (int64_t)(PAGE_SIZE_MAX / COUNT_ESTIMATE))
        return PAGE_SIZE_MAX;
    return (uint64_t)count * COUNT_ESTIMATE;
}

static struct es_request *begin(const struct es_call *call, enum stream_read_kind kind,
                                int64_t from, int64_t count, bool resolve_links)
{
    struct es_request *request = es_request_new(call, on_done, page_estimate(count));
    if (request == NULL)
        return NULL;
    struct stream_read *read = &request->as.read;
    request->asked = from;
    read->kind = kind;
    read->from = from;
    /* What is no count is one that stream/ refuses, with a text. */
    read->count = count > 0 && count <= UINT32_MAX ? (uint32_t)count : 0;
    read->size_max = PAGE_SIZE_MAX;
    read->flags = resolve_links ? STREAM_READ_RESOLVE_LINKS : 0;
    read->user = es_call_user(call);
    return request;
}

static void start(struct es_request *request)
{
    struct streams *streams = request->connection->at->service->streams;
    if (streams_read_answer(streams, &request->as.read))
        finish(request);
    else
        es_read_wait(request);
}

static bool check_stream(const struct es_call *call, kvs_slice stream, int64_t from)
{
    const char *why = NULL;
    if (stream.size == 0 || stream.size > STREAM_NAME_SIZE_MAX)
        why = "the name of a stream has 1 to 4096 bytes";
    else if (from < STREAM_END)
        why = "there is no event number below -1";
    if (why != NULL)
        es_call_refuse(call, why);
    return why == NULL;
}

void es_take_read_event(const struct es_call *call)
{
    struct es_read_event message;
    if (!es_call_decode(call, &message) ||
        !check_stream(call, message.event_stream_id, message.event_number))
        return;
    struct es_request *request =
        begin(call, STREAM_READ_EVENT, message.event_number, 1, message.resolve_link_tos);
    if (request == NULL)
        return;
    request->as.read.stream = message.event_stream_id;
    start(request);
}

void es_take_read_stream(const struct es_call *call)
{
    struct es_read_stream_events message;
    if (!es_call_decode(call, &message) ||
        !check_stream(call, message.event_stream_id, message.from_event_number))
        return;
    struct es_request *request = begin(
        call,
        call->frame->command == ES_READ_STREAM_FORWARD ? STREAM_READ_FORWARD : STREAM_READ_BACKWARD,
        message.from_event_number, message.max_count, message.resolve_link_tos);
    if (request == NULL)
        return;
    request->as.read.stream = message.event_stream_id;
    start(request);
}

/* Both are the same but in the middle of an old server's transactions, where the event lies before
 * what made it visible. */
static bool check_position(int64_t commit, int64_t prepare)
{
    return (commit == STREAM_END && prepare == STREAM_END) ||
           (commit >= 0 && prepare >= 0 && prepare <= commit);
}

void es_take_read_all(const struct es_call *call)
{
    struct es_read_all_events message;
    if (!es_call_decode(call, &message))
        return;
    bool forward = call->frame->command == ES_READ_ALL_FORWARD;
    if (!check_position(message.commit_position, message.prepare_position)) {
        const struct es_read_all_events_completed answer = {
            .commit_position = message.commit_position,
            .prepare_position = message.prepare_position,
            .next_commit_position = message.commit_position,
            .next_prepare_position = message.prepare_position,
            .has_result = true,
            .result = ES_READ_ALL_ERROR,
            .error = slice_of_string("there is no such position"),
        };
        es_answer(call->connection, reply_command(call->frame->command), &call->frame->correlation,
                  &answer);
        return;
    }
    struct es_request *request =
        begin(call, forward ? STREAM_READ_ALL_FORWARD : STREAM_READ_ALL_BACKWARD,
              message.commit_position, message.max_count, message.resolve_link_tos);
    if (request != NULL)
        start(request);
}

int es_filter_make(const struct es_filter *filter, struct stream_filter **ret_filter,
                   const char **ret_why)
{
    kvs_slice patterns[PATTERNS_MAX];
    struct es_list list = filter->data;
    uint32_t count = list.count;
    *ret_why = "the filter has too many patterns";
    if (count > PATTERNS_MAX)
        return KVS_ERR_INVALID_ARGUMENT;
    for (uint32_t i = 0; i < count; i++) {
        if (es_list_next_text(&list, &patterns[i]) != 1)
            return KVS_ERR_PROTOCOL;
    }
    bool is_regex = filter->type == ES_FILTER_REGEX && count > 0;
    if (count == 0) /* it lets all events pass */
        patterns[count++] = slice_of_string("");
    *ret_why = "the filter's pattern cannot be used";
    return stream_filter_new(filter->context == ES_FILTER_EVENT_TYPE ? STREAM_FILTER_TYPE
                                                                     : STREAM_FILTER_STREAM,
                             is_regex, patterns, count, ret_filter);
}

void es_take_filtered_read_all(const struct es_call *call)
{
    struct es_filtered_read_all_events message;
    struct stream_filter *filter = NULL;
    const char *why = "there is no such position";
    if (!es_call_decode(call, &message))
        return;
    bool forward = call->frame->command == ES_FILTERED_READ_ALL_FORWARD;
    int error = KVS_ERR_INVALID_ARGUMENT;
    if (check_position(message.commit_position, message.prepare_position))
        error = es_filter_make(&message.filter, &filter, &why);
    if (error == KVS_ERR_NO_MEMORY) {
        es_answer_error(call->connection, &call->frame->correlation, error);
        return;
    }
    if (error != 0) {
        es_call_refuse(call, why);
        return;
    }
    struct es_request *request =
        begin(call, forward ? STREAM_READ_ALL_FORWARD : STREAM_READ_ALL_BACKWARD,
              message.commit_position, message.max_count, message.resolve_link_tos);
    if (request == NULL) {
        stream_filter_free(filter);
        return;
    }
    request->filter = filter;
    request->as.read.filter = filter;
    if (message.max_search_window > 0)
        request->as.read.search_window = (uint32_t)message.max_search_window;
    start(request);
}

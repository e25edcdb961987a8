/* server/kvs_service.c: connections, and requests answered on the spot; see the header. */
#include "server/kvs_service.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/kvs_parts.h"

#include <assert.h>
#include <unistd.h>

#define FLUSH_SIZE (256u * 1024) /* replies that grow beyond this leave before the turn ends */
#define ON_SPOT_KEYS_MAX 1024u   /* longer batch gets go to the pool */
#define ON_SPOT_REPLY_MAX (1024u * 1024) /* and so do larger ones */
#define DEADLINE_TICK_MS 20u

static const struct connection_methods kv_connection_methods;

static struct kv_connection *kv_connection_of(const struct connection *connection)
{
    return CONTAINER_OF((void *)(uintptr_t)connection, struct kv_connection, base);
}

/* --- answers on the spot ------------------------------------------------------------------------
 */

#define GETS_MAX 16u                 /* looked up side by side, ... */
#define LARGE_VALUE_MIN (16u * 1024) /* ... unless their values are as large as this */

/* One read's worth of requests: the view is begun by the first that needs it. */
struct visit {
    struct kv_connection *connection;
    struct chunk *chunk;
    struct engine_view view;
    bool view_open;
    unsigned gets_count; /* plain GETs of one family in a row, not answered yet */
    struct wire_frame gets[GETS_MAX];
};

static int visit_view(struct visit *visit)
{
    if (visit->view_open)
        return 0;
    struct engine *engine = visit->connection->at->service->engine;
    int error = engine_view_begin(engine, NULL, false, &visit->view);
    visit->view_open = error == 0;
    return error;
}

static bool is_plain(const struct wire_frame *frame)
{
    return frame->flags == 0 && frame->reserved == 0 && frame->family < ENGINE_FAMILY_COUNT;
}

static bool key_fits(const struct visit *visit, kvs_slice key)
{
    const struct wire_limits *limits = &visit->connection->at->service->session.limits;
    return key.size > 0 && key.size <= limits->key_size_max;
}

static bool is_get_on_spot(const struct visit *visit, const struct wire_frame *frame)
{
    return frame->opcode == KVS_OP_GET && visit->connection->at->service->engine != NULL &&
           is_plain(frame) && key_fits(visit, frame->body);
}

/* The answer to a GET that was looked up; one that would block, or failed, takes the long way. */
static void answer_get(struct visit *visit, const struct wire_frame *frame, int error,
                       kvs_slice value)
{
    struct connection *base = &visit->connection->base;
    if (error != 0 && error != KVS_ERR_NOT_FOUND) {
        kv_request_start(visit->connection, frame, visit->chunk);
        return;
    }
    struct buf *out = connection_out(base);
    if (error == 0)
        error = wire_reply_value(KVS_OP_GET, frame->id, value, out);
    else
        error = wire_reply_begin(KVS_OP_GET, frame->id, error, 0, out, NULL);
    if (error != 0)
        connection_close(base);
}

/* Looks the waiting GETs up, side by side, and answers them. */
static void answer_gets(struct visit *visit)
{
    unsigned count = visit->gets_count;
    visit->gets_count = 0;
    if (count == 0)
        return;
    kvs_slice keys[GETS_MAX];
    kvs_slice values[GETS_MAX];
    int errors[GETS_MAX];
    int error = visit_view(visit);
    for (unsigned i = 0; i < count; i++) {
        keys[i] = visit->gets[i].body;
        errors[i] = error;
    }
    if (error == 0)
        engine_get_many(&visit->view, visit->gets[0].family, keys, count, values, errors, NULL);
    size_t size = 0;
    for (unsigned i = 0; i < count && !visit->connection->base.closed; i++) {
        size += errors[i] == 0 ? values[i].size : 0;
        answer_get(visit, &visit->gets[i], errors[i], values[i]);
    }
    /* Then the next wait for nobody, so that the limit on unwritten replies is looked at each
     * time. */
    visit->connection->gets_are_large = size > count * (size_t)LARGE_VALUE_MIN;
}

/* EXISTS. False: not for here; nothing was answered. */
static bool answer_exists(struct visit *visit, const struct wire_frame *frame, struct buf *out)
{
    kvs_slice value;
    if (!is_plain(frame) || !key_fits(visit, frame->body) || visit_view(visit) != 0)
        return false;
    int error = engine_get(&visit->view, frame->family, frame->body, &value);
    if (error != 0 && error != KVS_ERR_NOT_FOUND)
        return false; /* would block, or an error: the long way says which */
    error = wire_reply_begin(KVS_OP_EXISTS, frame->id, 0, error == 0, out, NULL);
    if (error != 0)
        connection_close(&visit->connection->base);
    return true;
}

static int append_value(int error, kvs_slice value, size_t begin, struct buf *out)
{
    bool missing = error == KVS_ERR_NOT_FOUND;
    if (error != 0 && !missing)
        return error;
    if (missing)
        return buf_append_u32(out, WIRE_MISSING);
    if (out->size - begin + value.size > ON_SPOT_REPLY_MAX)
        return ENGINE_WOULD_BLOCK;
    error = buf_append_u32(out, (uint32_t)value.size);
    return error != 0 ? error : buf_append_slice(out, value);
}

static int append_values(struct visit *visit, const kvs_op *op, struct buf *out)
{
    size_t begin = out->size;
    kvs_slice values[GETS_MAX];
    int errors[GETS_MAX];
    int error = 0;
    for (uint32_t done = 0; done < op->count && error == 0; done += GETS_MAX) {
        unsigned count = op->count - done < GETS_MAX ? op->count - done : GETS_MAX;
        engine_get_many(&visit->view, op->family, op->keys + done, count, values, errors, NULL);
        for (unsigned i = 0; i < count && error == 0; i++)
            error = append_value(errors[i], values[i], begin, out);
    }
    return error;
}

static bool answer_batch_get(struct visit *visit, const struct wire_frame *frame, struct buf *out)
{
    struct kv_service_loop *at = visit->connection->at;
    kvs_op op; /* only its request part is set and read */
    const char *why;
    int error =
        wire_request_decode(frame, &at->service->session.limits, &op, &at->scratch, NULL, &why);
    if (error != 0 || op.count > ON_SPOT_KEYS_MAX || visit_view(visit) != 0)
        return false;
    size_t header = out->size;
    error = wire_reply_begin(KVS_OP_BATCH_GET, frame->id, 0, 0, out, NULL);
    if (error == 0)
        error = append_values(visit, &op, out);
    if (error != 0) {
        out->size = header;
        return false;
    }
    wire_reply_finish(out, header, 0, op.count);
    return true;
}

static bool answer_on_spot(struct visit *visit, const struct wire_frame *frame)
{
    if (visit->connection->at->service->engine == NULL)
        return false;
    struct buf *out = connection_out(&visit->connection->base);
    switch (frame->opcode) {
    case KVS_OP_EXISTS:
        return answer_exists(visit, frame, out);
    case KVS_OP_BATCH_GET:
        return answer_batch_get(visit, frame, out);
    default:
        return false;
    }
}

void kv_answer_error(struct kv_connection *connection, uint8_t opcode, uint32_t id, int error,
                     const char *message)
{
    if (connection->base.closed)
        return;
    if (wire_reply_error(opcode, id, error, message, connection_out(&connection->base)) != 0)
        connection_close(&connection->base);
}

/* --- what a connection brings -------------------------------------------------------------------
 */

static void take_control(struct kv_connection *connection, const struct wire_frame *frame)
{
    uint32_t bytes;
    if (frame->opcode == WIRE_CANCEL) {
        if (!kv_scan_cancel(connection, frame->id))
            kv_request_cancel(connection, frame->id);
    } else if (wire_credit_decode(frame, &bytes) == 0) {
        kv_scan_credit(connection, frame->id, bytes);
    }
}

static void take_request(struct visit *visit, const struct wire_frame *frame)
{
    if (is_get_on_spot(visit, frame)) {
        if (visit->gets_count > 0 && visit->gets[0].family != frame->family)
            answer_gets(visit);
        visit->gets[visit->gets_count++] = *frame;
        if (visit->gets_count == GETS_MAX || visit->connection->gets_are_large)
            answer_gets(visit);
        return;
    }
    if (answer_on_spot(visit, frame))
        return;
    if (frame->opcode == KVS_OP_SCAN)
        kv_scan_start(visit->connection, frame);
    else
        kv_request_start(visit->connection, frame, visit->chunk);
}

/* Refusals are rare and worth a line: somebody runs the wrong program, or a broken one. */
static void on_session_ended(struct kv_connection *connection)
{
    const struct server_session *session = &connection->session;
    if (session->foreign != FOREIGN_UNKNOWN)
        log_info("connection %s closed: it speaks %s, and this port the kvs protocol",
                 connection->base.peer, foreign_name(session->foreign));
    else if (session->state == SERVER_SESSION_FAILED && session->error != KVS_ERR_BUSY)
        log_info("connection %s closed: %s", connection->base.peer, kvs_error_text(session->error));
    kv_connection_close_when_done(connection);
}

static size_t on_bytes(struct connection *base, struct chunk *chunk, kvs_slice bytes,
                       size_t *ret_wanted)
{
    struct kv_connection *connection = kv_connection_of(base);
    struct server_session *session = &connection->session;
    struct visit visit; /* most of it is written before it is read */
    visit.connection = connection;
    visit.chunk = chunk;
    visit.view_open = false;
    visit.gets_count = 0;
    struct server_session_input input;
    uint64_t now_ms = loop_now_ms(connection->at->loop);
    uint64_t requests = 0;
    size_t taken = 0;
    while (!base->closed && server_session_wants_bytes(session, connection_unwritten(base))) {
        kvs_slice rest = slice_make(bytes.data + taken, bytes.size - taken);
        enum server_session_item item =
            server_session_next(session, rest, now_ms, connection_out(base), &input);
        taken += input.taken;
        if (item == SERVER_SESSION_NEEDS_BYTES) {
            *ret_wanted = input.wanted;
            break;
        }
        if (item == SERVER_SESSION_REQUEST) {
            take_request(&visit, &input.frame);
            requests++;
        } else if (item == SERVER_SESSION_CONTROL) {
            take_control(connection, &input.frame);
        }
        if (base->out.size >= FLUSH_SIZE)
            connection_flush(base);
    }
    answer_gets(&visit);
    if (visit.view_open)
        engine_view_end(&visit.view);
    if (session->state >= SERVER_SESSION_DRAINING && !base->closed)
        on_session_ended(connection);
    kv_count(&connection->at->counters.requests, requests);
    return taken;
}

static bool wants_bytes(const struct connection *base)
{
    return server_session_wants_bytes(&kv_connection_of(base)->session, connection_unwritten(base));
}

static void on_end(struct connection *base)
{
    struct kv_connection *connection = kv_connection_of(base);
    server_session_end_of_input(&connection->session);
    kv_connection_close_when_done(connection);
}

void kv_connection_close_when_done(struct kv_connection *connection)
{
    if (!server_session_is_done(&connection->session) || connection->base.closed)
        return;
    server_session_finish(&connection->session, connection_out(&connection->base));
    connection_finish(&connection->base);
}

static void on_written(struct connection *base)
{
    kv_scans_resume(kv_connection_of(base));
}

static const char *check_time(struct connection *base, uint64_t now_ms)
{
    struct kv_connection *connection = kv_connection_of(base);
    size_t unwritten = connection_unwritten(base);
    bool progress = unwritten < connection->unwritten_before;
    connection->unwritten_before = unwritten;
    server_session_note_unwritten(&connection->session, unwritten, progress, now_ms);
    return server_session_check_time(&connection->session, now_ms);
}

static size_t held(const struct connection *base)
{
    return kv_connection_of(base)->session.in_flight_bytes;
}

/* --- life of a connection -----------------------------------------------------------------------
 */

static void on_closed(struct connection *base)
{
    struct kv_connection *connection = kv_connection_of(base);
    kv_scans_end(connection, 0);
    for (struct kv_request *request = connection->requests; request != NULL;
         request = request->next)
        request->answered = true; /* there is nobody to answer */
    atomic_fetch_sub_explicit(&connection->at->service->connections, 1, memory_order_relaxed);
}

static void free_connection(struct connection *base)
{
    mem_free(kv_connection_of(base));
}

static const struct connection_methods kv_connection_methods = {
    .on_bytes = on_bytes,
    .wants_bytes = wants_bytes,
    .on_end = on_end,
    .on_written = on_written,
    .check_time = check_time,
    .held = held,
    .on_closed = on_closed,
    .free = free_connection,
};

void kv_service_connect(struct kv_service_loop *at, int descriptor, const char *peer, int refusal)
{
    struct kv_connection *connection = at->draining ? NULL : mem_zalloc(sizeof *connection);
    if (connection == NULL) {
        close(descriptor);
        atomic_fetch_sub_explicit(&at->service->connections, 1, memory_order_relaxed);
        return;
    }
    connection->at = at;
    server_session_init(&connection->session, &at->service->session, loop_now_ms(at->loop));
    connection_open(at->connections, &connection->base, &kv_connection_methods, descriptor, peer);
    if (connection->base.closed)
        return;
    if (refusal != 0) {
        server_session_refuse(&connection->session, refusal, connection_out(&connection->base));
        connection_finish(&connection->base);
    } else {
        connection_start(&connection->base);
    }
}

void kv_service_loop_drain(struct kv_service_loop *at)
{
    at->draining = true;
    struct connection *next;
    for (struct connection *base = at->connections->first; base != NULL; base = next) {
        next = base->next;
        struct kv_connection *connection = kv_connection_of(base);
        kv_scans_end(connection, KVS_ERR_CLOSED);
        if (base->closed)
            continue;
        server_session_drain(&connection->session, connection_out(base));
        kv_connection_close_when_done(connection);
    }
}

void kv_service_loop_cut(struct kv_service_loop *at)
{
    struct connection *next;
    for (struct connection *base = at->connections->first; base != NULL; base = next) {
        next = base->next;
        connection_close(base);
    }
}

/* --- a loop's part of the service ---------------------------------------------------------------
 */

static void on_submit(struct loop_hook *hook)
{
    kv_requests_submit(CONTAINER_OF(hook, struct kv_service_loop, submit));
}

static void on_deadlines(uv_timer_t *timer)
{
    struct kv_service_loop *at = timer->data;
    kv_requests_check_deadlines(at);
    kv_scans_check_time(at);
    if (at->timed == NULL && at->scans == NULL) {
        uv_timer_stop(timer);
        at->deadlines_running = false;
    }
}

void kv_service_watch_deadlines(struct kv_service_loop *at)
{
    if (!at->deadlines_running)
        uv_timer_start(&at->deadlines, on_deadlines, DEADLINE_TICK_MS, DEADLINE_TICK_MS);
    at->deadlines_running = true;
}

void kv_service_loop_init(struct kv_service_loop *at, struct kv_service *service, struct loop *loop,
                          struct connections *connections)
{
    *at = (struct kv_service_loop){
        .service = service,
        .loop = loop,
        .connections = connections,
        .submit.run = on_submit,
    };
    uv_timer_init(loop->uv, &at->deadlines); /* these cannot fail */
    uv_idle_init(loop->uv, &at->scan_turns);
    at->deadlines.data = at;
    at->scan_turns.data = at;
    loop_add_hook(loop, &at->submit);
}

void kv_service_loop_close(struct kv_service_loop *at)
{
    assert(at->scans == NULL && at->timed == NULL);
    uv_close((uv_handle_t *)&at->deadlines, NULL);
    uv_close((uv_handle_t *)&at->scan_turns, NULL);
}

void kv_service_loop_deinit(struct kv_service_loop *at)
{
    assert(at->gathered_count == 0);
    loop_remove_hook(at->loop, &at->submit);
    kv_requests_free_spares(at);
    wire_scratch_deinit(&at->scratch);
}

int kv_stats_begin(struct kv_service *service, struct buf *out)
{
    uint64_t requests = 0;
    uint64_t scans = 0;
    for (unsigned i = 0; i < service->loops_count; i++) {
        struct kv_service_counters *counters = &service->loops[i].counters;
        requests += atomic_load_explicit(&counters->requests, memory_order_relaxed);
        scans += atomic_load_explicit(&counters->scans, memory_order_relaxed);
    }
    return buf_printf(
        out,
        "{\"server\":{\"version\":\"%s\",\"uptime_ms\":%llu,\"threads\":%u,\"connections\":%llu,"
        "\"connections_opened\":%llu,\"connections_refused\":%llu,\"requests\":%llu,"
        "\"scans\":%llu}",
        KVS_VERSION, (unsigned long long)(clock_now_ms() - service->started_ms),
        service->loops_count,
        (unsigned long long)atomic_load_explicit(&service->connections, memory_order_relaxed),
        (unsigned long long)atomic_load_explicit(&service->connections_opened,
                                                 memory_order_relaxed),
        (unsigned long long)atomic_load_explicit(&service->connections_refused,
                                                 memory_order_relaxed),
        (unsigned long long)requests, (unsigned long long)scans);
}

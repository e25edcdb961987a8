/*
 * server/kvs_scan.c: scans, as streams of frames from one snapshot.
 *
 * 1. kv_scan_start takes a snapshot and sends the first frame at once: most scans end there.
 * 2. While there is more, and credit, the scan is runnable: each turn of the loop sends one frame
 *    of each runnable scan, so that scans share the loop with everything else.
 * 3. What would have to wait for a disk is gathered by a thread of the pool, sent when it comes.
 *    A store without an engine (a cluster elsewhere) is asked for one page after the other; there
 *    is no snapshot then.
 * 4. Without credit the scan waits for kv_scan_credit; behind unwritten replies, for the socket.
 * 5. The last frame, an error, a cancel or the connection's end ends it.
 *
 * Failures: of the engine, or no memory: the last frame has the status. A client that gives no
 * credit for the slow timeout gets TIMEOUT, as a snapshot holds disk space.
 * Thread: the connection's loop, but for on_pool.
 */
#include "server/kvs_parts.h"

#include "base/mem.h"

#include <assert.h>

#define FRAME_SIZE (64u * 1024)
#define UNWRITTEN_MAX (1024u * 1024) /* of a connection, before its scans pause */

/* What gathering ends with, besides 0, errors and ENGINE_WOULD_BLOCK. */
#define GATHER_FRAME_FULL 2
#define GATHER_ENOUGH 3 /* the limit or the page: the range has more */

struct kv_scan {
    struct engine_read read;
    kvs_op op;      /* without an engine: fetches a page, and holds it */
    size_t op_next; /* the first of its pairs that is not sent */
    bool op_has_page;
    struct kv_connection *connection;
    struct kv_service_loop *at;
    struct kv_scan *next, **link;         /* of the connection */
    struct kv_scan *all_next, **all_link; /* of the loop */
    struct kv_scan *run_next, **run_link; /* runnable; link NULL: not */
    struct engine_snapshot *snapshot;
    struct buf start, end; /* what is left of the range */
    struct buf page;       /* the frame that a pool thread gathers */
    uint32_t id;
    uint8_t family;
    bool reverse, keys_only;
    bool flows_freely; /* no credit asked for */
    bool in_pool;
    bool ended; /* unlinked; freed when the pool gives it back */
    bool any;   /* a pair was given */
    int64_t credit;
    uint64_t pairs_left;
    uint64_t page_left; /* bytes until a page is full; UINT64_MAX: no page */
    uint64_t deadline_ms;
    uint64_t starved_ms; /* since when there has been no credit; 0: there is */
    int outcome;         /* of what the pool gathered */
    uint32_t frame_pairs;
    size_t frame_budget;
    uint32_t value_size_max; /* what a frame may hold */
};

static void on_turn(uv_idle_t *idle);
static void scan_step(struct kv_scan *scan);

/* --- lists --------------------------------------------------------------------------------------
 */

static void set_runnable(struct kv_scan *scan)
{
    struct kv_service_loop *at = scan->at;
    if (scan->run_link != NULL)
        return;
    scan->run_next = at->runnable;
    scan->run_link = &at->runnable;
    if (at->runnable != NULL)
        at->runnable->run_link = &scan->run_next;
    at->runnable = scan;
    if (!at->scan_turns_running)
        uv_idle_start(&at->scan_turns, on_turn);
    at->scan_turns_running = true;
}

static void set_not_runnable(struct kv_scan *scan)
{
    if (scan->run_link == NULL)
        return;
    *scan->run_link = scan->run_next;
    if (scan->run_next != NULL)
        scan->run_next->run_link = scan->run_link;
    scan->run_link = NULL;
}

static void link_scan(struct kv_scan *scan)
{
    struct kv_connection *connection = scan->connection;
    struct kv_service_loop *at = scan->at;
    scan->next = connection->scans;
    scan->link = &connection->scans;
    if (connection->scans != NULL)
        connection->scans->link = &scan->next;
    connection->scans = scan;
    scan->all_next = at->scans;
    scan->all_link = &at->scans;
    if (at->scans != NULL)
        at->scans->all_link = &scan->all_next;
    at->scans = scan;
    connection->session.scans++;
    connection_ref(&connection->base);
}

static void unlink_scan(struct kv_scan *scan)
{
    set_not_runnable(scan);
    *scan->link = scan->next;
    if (scan->next != NULL)
        scan->next->link = scan->link;
    *scan->all_link = scan->all_next;
    if (scan->all_next != NULL)
        scan->all_next->all_link = scan->all_link;
    scan->connection->session.scans--;
}

static void free_scan(struct kv_scan *scan)
{
    struct kv_connection *connection = scan->connection;
    if (scan->snapshot != NULL)
        engine_snapshot_release(scan->at->service->engine, scan->snapshot);
    kvs_op_release(&scan->op);
    buf_deinit(&scan->start);
    buf_deinit(&scan->end);
    buf_deinit(&scan->page);
    mem_free(scan);
    connection_unref(&connection->base);
}

/* error 0: it has said its last, or there is nobody to tell. */
static void end_scan(struct kv_scan *scan, int error, const char *message)
{
    struct kv_connection *connection = scan->connection;
    unlink_scan(scan); /* first: an answer may close the connection, which ends its scans */
    scan->ended = true;
    if (error != 0)
        kv_answer_error(connection, KVS_OP_SCAN, scan->id, error, message);
    if (!connection->base.closed)
        kv_connection_close_when_done(connection);
    if (!scan->in_pool)
        free_scan(scan);
    else if (scan->at->service->engine == NULL)
        store_cancel(scan->at->service->store, &scan->op);
}

static struct kv_scan *find_scan(struct kv_connection *connection, uint32_t id)
{
    struct kv_scan *scan = connection->scans;
    while (scan != NULL && scan->id != id)
        scan = scan->next;
    return scan;
}

/* --- gathering a frame: on the loop or in the pool ----------------------------------------------
 */

struct gathering {
    struct kv_scan *scan;
    struct buf *out;
    size_t begin; /* of the frame's body in out */
    size_t last;  /* of the last pair in out */
};

static int gather_pair(void *arg, kvs_slice key, kvs_slice value)
{
    struct gathering *gathering = arg;
    struct kv_scan *scan = gathering->scan;
    struct buf *out = gathering->out;
    size_t counted = key.size + value.size + STORE_PAIR_OVERHEAD;
    if (scan->pairs_left == 0 || (counted > scan->page_left && scan->any))
        return GATHER_ENOUGH;
    if (out->size - gathering->begin >= scan->frame_budget)
        return GATHER_FRAME_FULL;
    if (value.size > scan->value_size_max)
        return KVS_ERR_TOO_LARGE;
    size_t last = out->size;
    if (wire_pair_append(key, value, out) != 0)
        return KVS_ERR_NO_MEMORY;
    gathering->last = last;
    scan->any = true;
    scan->frame_pairs++;
    if (scan->pairs_left != UINT64_MAX)
        scan->pairs_left--;
    if (scan->page_left != UINT64_MAX)
        scan->page_left -= counted < scan->page_left ? counted : scan->page_left;
    return 0;
}

/* Moves the range behind a key. */
static int advance_to(struct kv_scan *scan, kvs_slice key)
{
    struct buf *bound = scan->reverse ? &scan->end : &scan->start;
    buf_clear(bound);
    int error = buf_append_slice(bound, key);
    if (error == 0 && !scan->reverse)
        error = buf_append_u8(bound, 0); /* the first key behind it */
    return error;
}

/* Moves the range behind the last pair in out. */
static int advance(struct kv_scan *scan, const struct buf *out, size_t last)
{
    const uint8_t *at = out->data + last;
    size_t size = (size_t)at[0] | (size_t)at[1] << 8 | (size_t)at[2] << 16 | (size_t)at[3] << 24;
    return advance_to(scan, slice_make(at + 8, size));
}

/* Appends a frame (header with pairs) to out; what it returns says how the frame ends. */
static int gather(struct kv_scan *scan, struct engine_view *view, struct buf *out)
{
    int error = wire_reply_begin(KVS_OP_SCAN, scan->id, 0, 0, out, NULL);
    if (error != 0)
        return error;
    struct gathering gathering = {.scan = scan, .out = out, .begin = out->size};
    struct engine_range range = {
        .family = scan->family,
        .reverse = scan->reverse,
        .keys_only = scan->keys_only,
        .start = buf_slice(&scan->start),
        .end = buf_slice(&scan->end),
    };
    scan->frame_pairs = 0;
    error = engine_scan(view, &range, gather_pair, &gathering);
    if (scan->frame_pairs > 0 && (error == GATHER_FRAME_FULL || error == ENGINE_WOULD_BLOCK)) {
        int failed = advance(scan, out, gathering.last);
        if (failed != 0)
            return failed;
    }
    return error;
}

static void set_budget(struct kv_scan *scan)
{
    scan->frame_budget = FRAME_SIZE;
    if (!scan->flows_freely && scan->credit < (int64_t)FRAME_SIZE)
        scan->frame_budget = (size_t)scan->credit;
}

/* The frame at `header` of out is whole, or is to be taken back; goes on with the scan. */
static void conclude(struct kv_scan *scan, int outcome, struct buf *out, size_t header)
{
    bool follows = outcome == GATHER_FRAME_FULL || outcome == ENGINE_WOULD_BLOCK;
    if (outcome < 0 || (follows && scan->frame_pairs == 0)) {
        out->size = header;
    } else {
        uint8_t flags = outcome == GATHER_ENOUGH ? WIRE_FLAG_MORE : 0;
        wire_reply_finish(out, header, follows ? WIRE_FLAG_FOLLOWS : flags, scan->frame_pairs);
        scan->credit -= (int64_t)(out->size - header - WIRE_HEADER_SIZE);
    }
    if (!follows)
        end_scan(scan, outcome < 0 ? outcome : 0, "");
}

/* --- the pool -----------------------------------------------------------------------------------
 */

static int on_pool(struct engine_read *read, struct engine_view *view)
{
    struct kv_scan *scan = CONTAINER_OF(read, struct kv_scan, read);
    int outcome = gather(scan, view, &scan->page);
    scan->outcome = outcome;
    return outcome < 0 ? outcome : 0;
}

static void on_pool_done(struct task *task)
{
    struct kv_scan *scan = CONTAINER_OF(task, struct kv_scan, read.op.task);
    struct kv_connection *connection = scan->connection;
    scan->in_pool = false;
    if (scan->ended) {
        free_scan(scan);
        return;
    }
    struct buf *out = connection_out(&connection->base);
    size_t header = out->size;
    int outcome = scan->read.op.error != 0 ? scan->read.op.error : scan->outcome;
    if (outcome >= 0 && buf_append_slice(out, buf_slice(&scan->page)) != 0)
        outcome = KVS_ERR_NO_MEMORY;
    buf_deinit(&scan->page);
    connection_ref(&connection->base);
    bool goes_on = outcome == GATHER_FRAME_FULL;
    conclude(scan, outcome, out, header);
    if (goes_on)
        set_runnable(scan);
    connection_unref(&connection->base);
}

static void go_to_pool(struct kv_scan *scan)
{
    set_not_runnable(scan);
    set_budget(scan);
    scan->in_pool = true;
    scan->read.op.task.run = on_pool_done;
    scan->read.op.loop = scan->at->loop;
    scan->read.op.error = 0;
    scan->read.snapshot = scan->snapshot;
    scan->read.run = on_pool;
    engine_read(scan->at->service->engine, &scan->read);
}

/* --- without an engine: pages of the store ------------------------------------------------------
 */

static void on_fetched(kvs_op *op)
{
    struct kv_scan *scan = CONTAINER_OF(op, struct kv_scan, op);
    scan->in_pool = false;
    if (scan->ended) {
        free_scan(scan);
        return;
    }
    if (op->error != 0) {
        end_scan(scan, op->error, op->message);
        return;
    }
    scan->op_has_page = true;
    scan->op_next = 0;
    set_runnable(scan);
}

static void fetch_page(struct kv_scan *scan)
{
    set_not_runnable(scan);
    scan->in_pool = true;
    scan->op_has_page = false;
    scan->op = KVS_OP_INIT;
    scan->op.kind = KVS_OP_SCAN;
    scan->op.family = scan->family;
    scan->op.flags = (uint16_t)(KVS_OP_FLAG_PAGE | (scan->reverse ? KVS_OP_FLAG_REVERSE : 0) |
                                (scan->keys_only ? KVS_OP_FLAG_KEYS_ONLY : 0));
    scan->op.limit = scan->pairs_left < UINT32_MAX ? (uint32_t)scan->pairs_left : UINT32_MAX;
    scan->op.key = buf_slice(&scan->start);
    scan->op.end_key = buf_slice(&scan->end);
    scan->op.on_done = on_fetched;
    kvs_op *op = &scan->op;
    store_submit(scan->at->service->store, &op, 1, scan->at->loop);
}

/* As gather, from the page. */
static int gather_page(struct kv_scan *scan, struct buf *out)
{
    kvs_op *op = &scan->op;
    int error = wire_reply_begin(KVS_OP_SCAN, scan->id, 0, 0, out, NULL);
    if (error != 0)
        return error;
    struct gathering gathering = {.scan = scan, .out = out, .begin = out->size};
    scan->frame_pairs = 0;
    for (; scan->op_next < op->pairs_count; scan->op_next++) {
        const kvs_pair *pair = &op->pairs[scan->op_next];
        int outcome = gather_pair(&gathering, pair->key, pair->value);
        if (outcome != 0)
            return outcome;
    }
    if (!op->more || op->pairs_count == 0)
        return 0;
    if (scan->pairs_left == 0)
        return GATHER_ENOUGH;
    error = advance_to(scan, op->pairs[op->pairs_count - 1].key);
    return error != 0 ? error : GATHER_FRAME_FULL;
}

static void step_without_engine(struct kv_scan *scan)
{
    if (!scan->op_has_page) {
        fetch_page(scan);
        return;
    }
    set_budget(scan);
    struct buf *out = connection_out(&scan->connection->base);
    size_t header = out->size;
    int outcome = gather_page(scan, out);
    bool is_read = scan->op_next == scan->op.pairs_count;
    conclude(scan, outcome, out, header);
    if (outcome != GATHER_FRAME_FULL)
        return;
    if (is_read) {
        kvs_op_release(&scan->op);
        fetch_page(scan);
    } else {
        set_runnable(scan);
    }
}

/* --- the stream ---------------------------------------------------------------------------------
 */

/* May it send now? Otherwise it is not runnable until credit comes or the socket takes more. */
static bool may_send(struct kv_scan *scan)
{
    struct connection *base = &scan->connection->base;
    if (!scan->flows_freely && scan->credit <= 0) {
        scan->starved_ms = loop_now_ms(scan->at->loop);
        set_not_runnable(scan);
        return false;
    }
    if (connection_unwritten(base) < UNWRITTEN_MAX)
        return true;
    if (base->sending.size > 0)
        set_not_runnable(scan); /* kv_scans_resume wakes it */
    return false;
}

/* Sends one frame, if it may. */
static void scan_step(struct kv_scan *scan)
{
    if (scan->in_pool || !may_send(scan))
        return;
    if (scan->at->service->engine == NULL) {
        step_without_engine(scan);
        return;
    }
    struct engine_view view;
    int error = engine_view_begin(scan->at->service->engine, scan->snapshot, false, &view);
    if (error != 0) {
        end_scan(scan, error, "");
        return;
    }
    set_budget(scan);
    struct buf *out = connection_out(&scan->connection->base);
    size_t header = out->size;
    int outcome = gather(scan, &view, out);
    engine_view_end(&view);
    bool blocks = outcome == ENGINE_WOULD_BLOCK;
    bool sent = scan->frame_pairs > 0;
    bool follows = blocks || outcome == GATHER_FRAME_FULL;
    conclude(scan, outcome, out, header);
    if (!follows)
        return;
    /* After a part that was in memory, the rest is asked for in the next turn, when the credit
     * has been looked at again. */
    if (blocks && !sent)
        go_to_pool(scan);
    else
        set_runnable(scan);
}

static void on_turn(uv_idle_t *idle)
{
    struct kv_service_loop *at = idle->data;
    /* A scan's end takes it off whichever list it is on, this one too. */
    struct kv_scan *batch = at->runnable;
    at->runnable = NULL;
    if (batch != NULL)
        batch->run_link = &batch;
    while (batch != NULL) {
        struct kv_scan *scan = batch;
        set_not_runnable(scan);
        set_runnable(scan); /* unless the step finds otherwise */
        scan_step(scan);
    }
    if (at->runnable == NULL) {
        uv_idle_stop(&at->scan_turns);
        at->scan_turns_running = false;
    }
}

void kv_scans_resume(struct kv_connection *connection)
{
    for (struct kv_scan *scan = connection->scans; scan != NULL; scan = scan->next) {
        if (!scan->in_pool && (scan->flows_freely || scan->credit > 0))
            set_runnable(scan);
    }
}

static bool fill_scan(struct kv_scan *scan, const kvs_op *op, uint32_t credit)
{
    const struct wire_limits *limits = &scan->at->service->session.limits;
    bool unlimited = op->limit == 0 || op->limit == WIRE_SCAN_LIMIT_NONE;
    bool paged = op->limit == 0 || (op->flags & KVS_OP_FLAG_PAGE) != 0;
    scan->family = op->family;
    scan->reverse = (op->flags & KVS_OP_FLAG_REVERSE) != 0;
    scan->keys_only = (op->flags & KVS_OP_FLAG_KEYS_ONLY) != 0;
    scan->pairs_left = unlimited ? UINT64_MAX : op->limit;
    scan->page_left = paged ? limits->page_size : UINT64_MAX;
    scan->flows_freely = credit == 0;
    scan->credit = credit;
    scan->value_size_max = limits->body_size_max - limits->key_size_max - 8;
    if (op->timeout_ms != 0)
        scan->deadline_ms = loop_now_ms(scan->at->loop) + op->timeout_ms;
    return buf_append_slice(&scan->start, op->key) == 0 &&
           buf_append_slice(&scan->end, op->end_key) == 0;
}

static int new_scan(struct kv_connection *connection, const struct wire_frame *frame,
                    const char **ret_why, struct kv_scan **ret_scan)
{
    struct kv_service *service = connection->at->service;
    const struct wire_limits *limits = &service->session.limits;
    kvs_op op; /* only its request part is set and read */
    uint32_t credit = 0;
    int error = wire_request_decode(frame, limits, &op, NULL, &credit, ret_why);
    if (error != 0)
        return error;
    if (connection->session.scans >= limits->scans_max) {
        *ret_why = "too many scans on this connection";
        return KVS_ERR_BUSY;
    }
    struct kv_scan *scan = mem_zalloc(sizeof *scan);
    if (scan == NULL)
        return KVS_ERR_NO_MEMORY;
    scan->connection = connection;
    scan->at = connection->at;
    scan->id = frame->id;
    error = fill_scan(scan, &op, credit) ? 0 : KVS_ERR_NO_MEMORY;
    if (error == 0 && service->engine != NULL)
        error = engine_snapshot_take(service->engine, &scan->snapshot);
    if (error != 0) {
        buf_deinit(&scan->start);
        buf_deinit(&scan->end);
        mem_free(scan);
        return error;
    }
    *ret_scan = scan;
    return 0;
}

void kv_scan_start(struct kv_connection *connection, const struct wire_frame *frame)
{
    const char *why = "";
    struct kv_scan *scan;
    int error = new_scan(connection, frame, &why, &scan);
    if (error != 0) {
        kv_answer_error(connection, KVS_OP_SCAN, frame->id, error, why);
        return;
    }
    kv_count(&connection->at->counters.scans, 1);
    link_scan(scan);
    kv_service_watch_deadlines(connection->at);
    scan_step(scan);
}

bool kv_scan_credit(struct kv_connection *connection, uint32_t id, uint32_t bytes)
{
    struct kv_scan *scan = find_scan(connection, id);
    if (scan == NULL)
        return false;
    if (scan->credit < INT64_MAX / 2)
        scan->credit += bytes;
    scan->starved_ms = 0;
    if (!scan->in_pool)
        set_runnable(scan);
    return true;
}

bool kv_scan_cancel(struct kv_connection *connection, uint32_t id)
{
    struct kv_scan *scan = find_scan(connection, id);
    if (scan == NULL)
        return false;
    end_scan(scan, KVS_ERR_CANCELLED, "");
    return true;
}

void kv_scans_end(struct kv_connection *connection, int error)
{
    connection_ref(&connection->base);
    while (connection->scans != NULL)
        end_scan(connection->scans, error, error != 0 ? "the server stops" : "");
    connection_unref(&connection->base);
}

void kv_scans_check_time(struct kv_service_loop *at)
{
    uint64_t now_ms = loop_now_ms(at->loop);
    uint32_t slow_ms = at->service->session.slow_timeout_ms;
    struct kv_scan *next;
    for (struct kv_scan *scan = at->scans; scan != NULL; scan = next) {
        next = scan->all_next;
        if (scan->deadline_ms != 0 && scan->deadline_ms <= now_ms)
            end_scan(scan, KVS_ERR_TIMEOUT, "");
        else if (slow_ms != 0 && scan->starved_ms != 0 && now_ms - scan->starved_ms >= slow_ms)
            end_scan(scan, KVS_ERR_TIMEOUT, "the scan got no credit for too long");
    }
}

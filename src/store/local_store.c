/*
 * store/local_store.c: kvs_op operations over an engine in this process.
 *
 * A read (get, exists, batch get, short scan):
 *   1. the submitting thread begins a view that may not block and reads what is in memory;
 *   2. the op is posted to its loop, all that were answered in one submit as one chain;
 *   3. if the engine would have to wait for a disk, or the answer is long, the op goes to the
 *      blocking pool instead (engine_read), and comes back to its loop from there.
 * A write: all writes of one submit go to the engine as one chain, in order; each comes back to
 * its loop when it is as safe as the sync policy says.
 *
 * An op with a deadline that is not answered at once is carried out as a copy (store_call_start):
 * the engine cannot be made to let go of an op, but the caller's can end before its copy. That is
 * so for users of libkvs; in a server deadlines are the client's.
 *
 * Failures: a malformed op, no memory for a result, or what the engine says; always by on_done.
 * All state of an op under way lies in op->reserved; only results are allocated.
 *
 * In-flight ops are counted so that close can wait for the last one. The count is split by loop,
 * or by the thread that submits without one: those that work at the same time touch different cache
 * lines.
 */
#include "store/store.h"

#include "base/clock.h"
#include "base/crc64.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "engine/pool_read.h"
#include "store/page.h"

#include <assert.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* More than this is not read on the submitting thread: of a server, whose loop has other work, and
 * of a program, which waits for the answer anyway. What is lent takes no time to speak of. */
#define ON_SPOT_COUNT_MAX 1024u
#define ON_SPOT_SIZE_MAX (64u * 1024)
#define ON_SPOT_SIZE_MAX_PROGRAM STORE_PAGE_SIZE_MAX

#define SHARDS 16u

/* What the scan callback returns to end a scan; above ENGINE_WOULD_BLOCK, never leaves this file.
 */
#define SCAN_PAGE_FULL 2

struct shard {
    _Alignas(64) _Atomic uint64_t refs; /* ops in flight, and 1 while the store is open */
};

struct local_store {
    struct kvs_store base;
    uint32_t value_size_max;
    char *backups; /* NULL: checkpoints are paths */
    _Atomic unsigned shards_open;
    struct task closed_task;
    struct loop *closed_loop;
    void (*closed)(void *arg, int error);
    void *closed_arg;
    struct shard shards[SHARDS];
};

/* An op whose copy is under way. */
struct carried {
    struct op op;
    kvs_future *future;
    struct store_call *call;
};

/* An op under way, in kvs_op.reserved. */
struct local_op {
    union {
        struct op op; /* the first member of the other four */
        struct {
            struct engine_write write;
            struct engine_condition condition;
            kvs_mutation mutation;
        };
        struct engine_read read;
        struct engine_control control;
        struct carried carried;
    };
    struct local_store *store;
    bool is_carried;
    uint8_t shard;          /* that counts it */
    _Atomic bool cancelled; /* relaxed: looked at now and then by a read on the pool */
};

static_assert(sizeof(struct local_op) <= STORE_OP_PIN_OFFSET, "no allocation per op");
static_assert(offsetof(struct engine_write, op) == 0 && offsetof(struct engine_read, op) == 0 &&
                  offsetof(struct engine_control, op) == 0 && offsetof(struct carried, op) == 0,
              "struct local_op.op stands for all four");

static struct local_op *local_op_of(kvs_op *op)
{
    return (struct local_op *)(void *)op->reserved;
}

static kvs_op *kvs_op_of(struct local_op *local)
{
    return CONTAINER_OF((void *)local, kvs_op, reserved);
}

static bool is_cancelled(const kvs_op *op)
{
    const struct local_op *local = (const struct local_op *)(const void *)op->reserved;
    return atomic_load_explicit(&local->cancelled, memory_order_relaxed);
}

/* --- reads: the same code on the submitting thread and on the pool ------------------------------
 */

struct scan_state {
    const kvs_op *op;
    struct page page;
    struct engine_pins pins; /* with KVS_OP_FLAG_BORROW */
    size_t size;
    size_t size_copied; /* of it, not lent */
    uint32_t limit;     /* pairs; 0: none */
    size_t size_limit;  /* 0: none */
    size_t on_spot_max; /* copied on the submitting thread; 0: on the pool, no limit */
    bool more;
};

static int scan_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct scan_state *scan = arg;
    size_t size = scan->size + key.size + value.size + STORE_PAIR_OVERHEAD;
    bool full = scan->limit > 0 && scan->page.count == scan->limit;
    if (scan->size_limit > 0 && size > scan->size_limit && scan->page.count > 0)
        full = true;
    if (full) {
        scan->more = true;
        return SCAN_PAGE_FULL;
    }
    if (scan->on_spot_max == 0 && is_cancelled(scan->op))
        return KVS_ERR_CANCELLED;
    if (scan->page.pins != NULL && scan->pins.lasting) {
        scan->size = size;
        return page_append_pinned(&scan->page, key, value);
    }
    scan->size_copied += size - scan->size;
    scan->size = size;
    if (scan->on_spot_max > 0 && scan->size_copied > scan->on_spot_max)
        return ENGINE_WOULD_BLOCK;
    return page_append(&scan->page, key, value, true);
}

static size_t on_spot_size_max(const kvs_store *store)
{
    return store->runtime != NULL ? ON_SPOT_SIZE_MAX_PROGRAM : ON_SPOT_SIZE_MAX;
}

static bool wants_loan(const kvs_op *op)
{
    return (op->flags & KVS_OP_FLAG_BORROW) != 0;
}

static int read_scan(const struct local_store *store, kvs_op *op, struct engine_view *view)
{
    if (!view->may_block && (op->limit == 0 || op->limit > ON_SPOT_COUNT_MAX))
        return ENGINE_WOULD_BLOCK;
    size_t on_spot_max = view->may_block ? 0 : on_spot_size_max(&store->base);
    bool paged = op->limit == 0 || (op->flags & KVS_OP_FLAG_PAGE) != 0;
    struct scan_state scan;
    scan.op = op;
    scan.page = (struct page){
        .expected = op->limit,
        .guess_max = on_spot_max > 0 ? (uint32_t)on_spot_max : STORE_PAGE_SIZE_MAX,
    };
    scan.size = 0;
    scan.size_copied = 0;
    scan.limit = op->limit;
    scan.size_limit = paged ? STORE_PAGE_SIZE_MAX : 0;
    scan.on_spot_max = on_spot_max;
    scan.more = false;
    if (wants_loan(op)) {
        engine_pins_init(&scan.pins);
        scan.page.pins = &scan.pins;
    }
    const struct engine_range range = {
        .family = op->family,
        .reverse = (op->flags & KVS_OP_FLAG_REVERSE) != 0,
        .keys_only = (op->flags & KVS_OP_FLAG_KEYS_ONLY) != 0,
        .start = op->key,
        .end = op->end_key,
        /* One more tells whether the range has more. */
        .expected = op->limit > 0 && op->limit < UINT32_MAX ? op->limit + 1 : op->limit,
        .pins = scan.page.pins,
    };
    int error = engine_scan(view, &range, scan_each, &scan);
    if (error == SCAN_PAGE_FULL)
        error = 0;
    if (error == 0) {
        op->more = scan.more;
        page_detach(&scan.page, op);
    }
    page_deinit(
        &scan.page); /* a part answered on the spot is read again on the pool, in one view */
    return error;
}

static int op_copy_result(kvs_op *op, kvs_slice value)
{
    void *copy = mem_copy(value.data, value.size);
    if (copy == NULL)
        return KVS_ERR_NO_MEMORY;
    op->result = slice_make(copy, value.size);
    return 0;
}

/* The value of a get: as it lies there, if it is pinned. */
static int op_take_value(kvs_op *op, kvs_slice value, const struct engine_pin *pin)
{
    if (pin->unpin == NULL)
        return op_copy_result(op, value);
    *store_op_pin(op) = *pin;
    op->borrowed = true;
    op->result = value;
    return 0;
}

static int read_get(kvs_op *op, struct engine_view *view)
{
    kvs_slice value;
    struct engine_pin pin = {0};
    int error = wants_loan(op) ? engine_get_pinned(view, op->family, op->key, &value, &pin)
                               : engine_get(view, op->family, op->key, &value);
    return error == 0 ? op_take_value(op, value, &pin) : error;
}

struct exists_state {
    kvs_slice key;
    bool found;
};

static int exists_each(void *arg, kvs_slice key, kvs_slice value)
{
    (void)value;
    struct exists_state *exists = arg;
    exists->found = slice_equal(key, exists->key);
    return SCAN_PAGE_FULL;
}

/* A get answers from memory; where that would wait for a value on disk, the key alone is asked. */
static int read_exists(kvs_op *op, struct engine_view *view)
{
    struct exists_state exists = {.key = op->key};
    kvs_slice value;
    int error =
        view->may_block ? ENGINE_WOULD_BLOCK : engine_get(view, op->family, op->key, &value);
    if (error == ENGINE_WOULD_BLOCK) {
        struct engine_range range = {
            .family = op->family, .keys_only = true, .start = op->key, .expected = 1};
        error = engine_scan(view, &range, exists_each, &exists);
        if (error == SCAN_PAGE_FULL)
            error = 0;
    } else {
        exists.found = error == 0;
        if (error == KVS_ERR_NOT_FOUND)
            error = 0;
    }
    if (error == 0)
        op->number = exists.found;
    return error;
}

/* So many at a time: an engine looks for them side by side, and asks the disk for all at once. */
#define BATCH_GET_TOGETHER 16u

struct batch_get {
    const struct local_store *store;
    struct page page;
    size_t size; /* of an answer to all so far */
};

static int batch_get_add(struct batch_get *batch, const kvs_op *op, bool may_block, kvs_slice key,
                         const kvs_slice *value)
{
    batch->size += key.size + (value != NULL ? value->size : 0) + STORE_PAIR_OVERHEAD;
    if (batch->size > KVS_BATCH_SIZE_MAX && op->count > 1)
        return KVS_ERR_TOO_LARGE;
    if (!may_block && batch->size > on_spot_size_max(&batch->store->base))
        return ENGINE_WOULD_BLOCK;
    return page_append(&batch->page, key, value != NULL ? *value : (kvs_slice){0}, value != NULL);
}

static int batch_get_some(struct batch_get *batch, const kvs_op *op, struct engine_view *view,
                          uint32_t begin, uint32_t count)
{
    kvs_slice values[BATCH_GET_TOGETHER];
    int errors[BATCH_GET_TOGETHER];
    engine_get_many(view, op->family, op->keys + begin, count, values, errors, NULL);
    int error = 0;
    for (uint32_t i = 0; error == 0 && i < count; i++) {
        error = errors[i] == KVS_ERR_NOT_FOUND ? 0 : errors[i];
        if (error == 0)
            error = batch_get_add(batch, op, view->may_block, op->keys[begin + i],
                                  errors[i] == 0 ? &values[i] : NULL);
    }
    return error;
}

static int read_batch_get(const struct local_store *store, kvs_op *op, struct engine_view *view)
{
    if (!view->may_block && op->count > ON_SPOT_COUNT_MAX)
        return ENGINE_WOULD_BLOCK;
    struct batch_get batch = {.store = store};
    uint32_t together = view->may_block ? BATCH_GET_TOGETHER : 1; /* else the first that would */
    int error = 0;
    for (uint32_t i = 0; error == 0 && i < op->count; i += together) {
        uint32_t left = op->count - i;
        error = view->may_block && is_cancelled(op)
                    ? KVS_ERR_CANCELLED
                    : batch_get_some(&batch, op, view, i, left < together ? left : together);
    }
    if (error == 0)
        page_detach(&batch.page, op);
    page_deinit(&batch.page);
    return error;
}

static int read_count(kvs_op *op, struct engine_view *view)
{
    if (!view->may_block)
        return ENGINE_WOULD_BLOCK; /* as long as the range is */
    struct engine_range range = {
        .family = op->family, .keys_only = true, .start = op->key, .end = op->end_key};
    uint64_t count;
    int error = engine_count(view, &range, &count);
    if (error == 0)
        op->number = (int64_t)count;
    return error;
}

static int read_ttl(kvs_op *op, struct engine_view *view)
{
    uint64_t ends_ms;
    int error = engine_expiry(view, op->family, op->key, &ends_ms);
    if (error != 0 || ends_ms == 0)
        return error;
    uint64_t now_ms = clock_wall_ms(); /* the view may be older: then it ends in this moment */
    op->number = ends_ms > now_ms ? (int64_t)(ends_ms - now_ms) : 1;
    return 0;
}

struct checksum_state {
    const kvs_op *op;
    struct kvs_checksum sum;
};

static int checksum_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct checksum_state *state = arg;
    struct kvs_checksum *checksum = &state->sum;
    if (is_cancelled(state->op))
        return KVS_ERR_CANCELLED;
    checksum->crc64_xor ^= crc64(crc64(0, key), value);
    checksum->keys++;
    checksum->bytes += key.size + value.size;
    return 0;
}

static int read_checksum(kvs_op *op, struct engine_view *view)
{
    if (!view->may_block)
        return ENGINE_WOULD_BLOCK; /* it looks at everything */
    const struct engine_range range = {.family = op->family, .start = op->key, .end = op->end_key};
    struct checksum_state state = {.op = op};
    int error = engine_scan(view, &range, checksum_each, &state);
    return error == 0 ? store_op_set_checksum(op, &state.sum) : error;
}

static int read_stats(kvs_op *op, struct engine *engine)
{
    struct engine_stats stats = {0};
    engine_stats(engine, &stats);
    /* The default family's are what the user of keys and values has stored. */
    bool can_count = (engine->capabilities & ENGINE_CAP_ESTIMATES) == 0;
    json_t *keys = can_count ? json_integer((json_int_t)stats.own_keys) : json_null();
    json_t *json = json_pack(
        "{s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b}",
        "engine", engine->methods->name, "keys", keys, "all_keys", (json_int_t)stats.keys,
        "live_bytes", (json_int_t)stats.live_bytes, "disk_bytes", (json_int_t)stats.disk_bytes,
        "cache_bytes", (json_int_t)stats.cache_bytes, "index_bytes", (json_int_t)stats.index_bytes,
        "segments", (json_int_t)stats.segments, "snapshots", (json_int_t)stats.snapshots, "writes",
        (json_int_t)stats.writes, "groups", (json_int_t)stats.groups, "syncs",
        (json_int_t)stats.syncs, "compactions", (json_int_t)stats.compactions, "compacted_bytes",
        (json_int_t)stats.compacted_bytes, "loading", stats.loading, "failed", stats.failed);
    if (json == NULL)
        return KVS_ERR_NO_MEMORY;
    size_t size = json_dumpb(json, NULL, 0, JSON_COMPACT);
    char *text = size > 0 ? mem_alloc(size) : NULL;
    if (text != NULL)
        json_dumpb(json, text, size, JSON_COMPACT);
    json_decref(json);
    if (text == NULL)
        return KVS_ERR_NO_MEMORY;
    op->result = slice_make(text, size);
    return 0;
}

/* Returns 0, an error, or ENGINE_WOULD_BLOCK; results are set only with 0. */
static int read_run(const struct local_store *store, kvs_op *op, struct engine_view *view)
{
    switch (op->kind) {
    case KVS_OP_GET:
        return read_get(op, view);
    case KVS_OP_EXISTS:
        return read_exists(op, view);
    case KVS_OP_BATCH_GET:
        return read_batch_get(store, op, view);
    case KVS_OP_SCAN:
        return read_scan(store, op, view);
    case KVS_OP_TTL:
        return read_ttl(op, view);
    case KVS_OP_CHECKSUM:
        return read_checksum(op, view);
    default:
        assert(op->kind == KVS_OP_COUNT);
        return read_count(op, view);
    }
}

static bool local_store_answer(kvs_store *base, kvs_op *op)
{
    struct local_store *store = CONTAINER_OF(base, struct local_store, base);
    if (op->kind == KVS_OP_COUNT || op->kind == KVS_OP_CHECKSUM ||
        (!store_kind_is_read(op->kind) && op->kind != KVS_OP_PING))
        return false;
    store_op_begin(op);
    op->error = store_op_check(op, store->value_size_max);
    if (op->error != 0 || op->kind == KVS_OP_PING)
        return true;
    struct engine_view view;
    op->error = engine_view_begin(base->engine, NULL, false, &view);
    if (op->error != 0)
        return true;
    op->error = read_run(store, op, &view);
    engine_view_end(&view);
    if (op->error != ENGINE_WOULD_BLOCK)
        return true;
    op->error = 0;
    return false;
}

/* --- the way back ------------------------------------------------------------------------------
 */

static void local_store_on_closed(struct task *task)
{
    struct local_store *store = CONTAINER_OF(task, struct local_store, closed_task);
    void (*closed)(void *, int) = store->closed;
    void *arg = store->closed_arg;
    mem_free(store->backups);
    mem_free(store);
    closed(arg, 0);
}

/* Whoever gives back the last reference of the last shard ends the store; nobody else may touch it
 * after giving back his own. */
static void shard_unref(struct local_store *store, struct shard *shard)
{
    /* acq_rel: what was done before each unref is seen by the one that ends the store. */
    if (atomic_fetch_sub_explicit(&shard->refs, 1, memory_order_acq_rel) > 1)
        return;
    if (atomic_fetch_sub_explicit(&store->shards_open, 1, memory_order_acq_rel) > 1)
        return;
    loop_post(store->closed_loop, &store->closed_task);
}

/* Of ops for a loop, or of those that this thread submits for none. */
static unsigned shard_choose(const struct loop *loop)
{
    if (loop != NULL)
        return loop->index % SHARDS;
    uint32_t thread = (uint32_t)((uintptr_t)pthread_self() >> 12); /* an address, mostly */
    return thread * 2654435769u >> 28; /* the upper bits of a product by the golden ratio */
}

static_assert(SHARDS == 16, "4 bits choose");

static void local_op_finish(struct local_op *local, int error)
{
    struct local_store *store = local->store;
    struct shard *shard = &store->shards[local->shard];
    kvs_op *op = kvs_op_of(local);
    op->error = error;
    op->on_done(op); /* the op is the caller's again */
    shard_unref(store, shard);
}

static void local_op_on_done(struct task *task)
{
    struct local_op *local = CONTAINER_OF(task, struct local_op, op.task);
    local_op_finish(local, local->op.error);
}

static void local_write_on_done(struct task *task)
{
    struct local_op *local = CONTAINER_OF(task, struct local_op, write.op.task);
    kvs_op *op = kvs_op_of(local);
    int error = local->op.error;
    if (op->kind == KVS_OP_CAS && (error == KVS_ERR_ALREADY_EXISTS || error == KVS_ERR_NOT_FOUND))
        error = KVS_ERR_CONDITION_FAILED;
    if (op->kind == KVS_OP_CAS && error == KVS_ERR_CONDITION_FAILED) {
        op->number = local->write.previous_found;
        size_t size;
        uint8_t *data = buf_detach(&local->write.previous, &size);
        op->result = slice_make(data, size);
    }
    if (op->kind == KVS_OP_REMOVE_RANGE && error == 0)
        op->number = (int64_t)local->write.removed_count;
    buf_deinit(&local->write.previous);
    local_op_finish(local, error);
}

/* --- submitting --------------------------------------------------------------------------------
 */

static int local_read_run(struct engine_read *read, struct engine_view *view)
{
    struct local_op *local = CONTAINER_OF(read, struct local_op, read);
    kvs_op *op = kvs_op_of(local);
    return is_cancelled(op) ? KVS_ERR_CANCELLED : read_run(local->store, op, view);
}

static void local_write_prepare(struct local_op *local, kvs_op *op)
{
    struct engine_write *write = &local->write;
    write->op.task.run = local_write_on_done;
    write->mutations = &local->mutation;
    write->mutations_count = 1;
    local->mutation = (kvs_mutation){.kind = KVS_MUTATION_SET,
                                     .family = op->family,
                                     .key = op->key,
                                     .value = op->value,
                                     .ttl_ms = op->ttl_ms};
    local->condition = (struct engine_condition){.family = op->family, .key = op->key};
    switch (op->kind) {
    case KVS_OP_REMOVE:
        local->mutation.kind = KVS_MUTATION_REMOVE;
        local->mutation.value = (kvs_slice){0};
        local->mutation.ttl_ms = 0;
        local->condition.kind = ENGINE_CONDITION_EXISTS;
        break;
    case KVS_OP_CAS:
        local->condition.kind = ENGINE_CONDITION_EQUALS;
        local->condition.value = op->expected;
        if ((op->flags & KVS_OP_FLAG_EXPECT_ABSENT) != 0)
            local->condition.kind = ENGINE_CONDITION_ABSENT;
        write->flags = ENGINE_WRITE_WANT_PREVIOUS;
        break;
    case KVS_OP_REMOVE_RANGE:
        local->mutation.kind = KVS_MUTATION_REMOVE_RANGE;
        local->mutation.value = op->end_key;
        local->mutation.ttl_ms = 0;
        break;
    case KVS_OP_BATCH_WRITE:
        write->mutations = op->mutations;
        write->mutations_count = op->count;
        break;
    default:
        assert(op->kind == KVS_OP_SET);
    }
    if (local->condition.kind != 0) {
        write->conditions = &local->condition;
        write->conditions_count = 1;
    }
}

#define GETS_MAX 16u

/* What one call of submit gathers. */
struct submission {
    struct local_store *store;
    struct loop *loop;
    bool timed; /* deadlines are kept */
    uint8_t shard;
    bool view_open;
    struct engine_view view;
    struct task_list writes;
    struct task_list done;
    struct task_list to_carry; /* reads, when the view has ended */
    unsigned gets_count;       /* of one family, all or none with a loan: looked up together */
    struct local_op *gets[GETS_MAX];
};

static void submit_done(struct submission *submission, struct local_op *local, int error)
{
    local->op.task.run = local_op_on_done;
    local->op.error = error;
    task_list_push(&submission->done, &local->op.task);
}

static int submission_view(struct submission *submission)
{
    int error = 0;
    if (!submission->view_open)
        error = engine_view_begin(submission->store->base.engine, NULL, false, &submission->view);
    submission->view_open = error == 0;
    return error;
}

static void submission_end_view(struct submission *submission)
{
    if (submission->view_open)
        engine_view_end(&submission->view);
    submission->view_open = false;
}

/* --- ops with a deadline --- */

static bool is_timed(const struct submission *submission, const kvs_op *op)
{
    return submission->timed && store_timeout_of(&submission->store->base, op) != 0;
}

static void carried_on_ready(kvs_future *future, void *arg)
{
    struct local_op *local = arg;
    kvs_op *op = kvs_op_of(local);
    store_call_take(future, local->carried.call, op);
    local_op_finish(local, op->error);
    kvs_future_free(future);
}

static void submit_carried(struct submission *submission, struct local_op *local)
{
    struct store_call *call;
    kvs_future *future = store_call_start(&submission->store->base, kvs_op_of(local), &call);
    if (future == NULL) {
        submit_done(submission, local, KVS_ERR_NO_MEMORY);
        return;
    }
    local->carried.future = future;
    local->carried.call = call;
    local->is_carried = true;
    kvs_future_on_ready(future, carried_on_ready, local); /* cannot fail: it is its first */
}

/* Behind the writes that came before it; the submit inside must not find our view open. */
static void submit_carried_write(struct submission *submission, struct local_op *local)
{
    submission_end_view(submission);
    if (submission->writes.first != NULL)
        engine_write_list(submission->store->base.engine, &submission->writes);
    submit_carried(submission, local);
}

/* --- reads --- */

/* Answered on the spot, or read on the pool. */
static void submit_answer(struct submission *submission, struct local_op *local, int error)
{
    if (error != ENGINE_WOULD_BLOCK) {
        submit_done(submission, local, error);
        return;
    }
    if (is_timed(submission, kvs_op_of(local))) {
        task_list_push(&submission->to_carry, &local->op.task);
        return;
    }
    local->read.op.task.run = local_op_on_done;
    local->read.run = local_read_run;
    uint8_t kind = kvs_op_of(local)->kind;
    local->read.again = kind == KVS_OP_GET || kind == KVS_OP_BATCH_GET;
    engine_read(submission->store->base.engine, &local->read);
}

static void submit_read(struct submission *submission, struct local_op *local, kvs_op *op)
{
    int error = submission_view(submission);
    if (error == 0)
        error = read_run(submission->store, op, &submission->view);
    submit_answer(submission, local, error);
}

static void submit_gets(struct submission *submission)
{
    kvs_slice keys[GETS_MAX];
    kvs_slice values[GETS_MAX];
    int errors[GETS_MAX];
    struct engine_pin pins[GETS_MAX];
    unsigned count = submission->gets_count;
    submission->gets_count = 0;
    if (count == 0)
        return;
    for (unsigned i = 0; i < count; i++) {
        keys[i] = kvs_op_of(submission->gets[i])->key;
        pins[i] = (struct engine_pin){0};
    }
    const kvs_op *first = kvs_op_of(submission->gets[0]);
    int error = submission_view(submission);
    if (error == 0)
        engine_get_many(&submission->view, first->family, keys, count, values, errors,
                        wants_loan(first) ? pins : NULL);
    for (unsigned i = 0; i < count; i++) {
        struct local_op *local = submission->gets[i];
        int own = error != 0 ? error : errors[i];
        if (own == 0)
            own = op_take_value(kvs_op_of(local), values[i], &pins[i]);
        submit_answer(submission, local, own);
    }
}

static void submit_get(struct submission *submission, struct local_op *local, kvs_op *op)
{
    if (submission->gets_count > 0) {
        const kvs_op *first = kvs_op_of(submission->gets[0]);
        if (first->family != op->family || wants_loan(first) != wants_loan(op))
            submit_gets(submission);
    }
    submission->gets[submission->gets_count++] = local;
    if (submission->gets_count == GETS_MAX)
        submit_gets(submission);
}

static void submit_control(struct submission *submission, struct local_op *local,
                           enum engine_control_kind kind)
{
    local->control.op.task.run = local_op_on_done;
    local->control.kind = kind;
    engine_control(submission->store->base.engine, &local->control);
}

#define BACKUP_NAME_SIZE_MAX 64u

/* A name cannot lead out of the directory, nor be taken for a flag by those who list it. */
static bool is_backup_name(kvs_slice name)
{
    if (name.size > BACKUP_NAME_SIZE_MAX || name.data[0] == '.' || name.data[0] == '-')
        return false;
    for (size_t i = 0; i < name.size; i++) {
        uint8_t byte = name.data[i];
        bool fine = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                    (byte >= '0' && byte <= '9') || byte == '.' || byte == '_' || byte == '-';
        if (!fine)
            return false;
    }
    return true;
}

/* Where a checkpoint goes; the caller frees it. */
static int checkpoint_path(const struct local_store *store, kvs_op *op, char **ret_path)
{
    const char *name = (const char *)op->key.data;
    int size = (int)op->key.size;
    if (store->backups != NULL && store->backups[0] == '\0') {
        snprintf(op->message, sizeof op->message,
                 "backups are not allowed: the server was not told --backup-dir");
        return KVS_ERR_UNSUPPORTED;
    }
    if (store->backups != NULL && !is_backup_name(op->key)) {
        snprintf(op->message, sizeof op->message,
                 "a backup's name is 1 to %u letters, digits, '.', '_' or '-'; the server makes it "
                 "below its --backup-dir",
                 BACKUP_NAME_SIZE_MAX);
        return KVS_ERR_INVALID_ARGUMENT;
    }
    if (memchr(name, '\0', op->key.size) != NULL) {
        snprintf(op->message, sizeof op->message, "a directory's name has no zero bytes");
        return KVS_ERR_INVALID_ARGUMENT;
    }
    char *path = store->backups != NULL ? mem_printf("%s/%.*s", store->backups, size, name)
                                        : mem_printf("%.*s", size, name);
    if (path == NULL)
        return KVS_ERR_NO_MEMORY;
    *ret_path = path;
    return 0;
}

static void local_checkpoint_on_done(struct task *task)
{
    struct local_op *local = CONTAINER_OF(task, struct local_op, op.task);
    kvs_op *op = kvs_op_of(local);
    if (local->op.error == KVS_ERR_ALREADY_EXISTS)
        snprintf(op->message, sizeof op->message, "there is a directory of that name already");
    mem_free((char *)local->control.path);
    local_op_finish(local, local->op.error);
}

static void submit_checkpoint(struct submission *submission, struct local_op *local, kvs_op *op)
{
    char *path;
    int error = checkpoint_path(submission->store, op, &path);
    if (error != 0) {
        submit_done(submission, local, error);
        return;
    }
    local->control.op.task.run = local_checkpoint_on_done;
    local->control.kind = ENGINE_CONTROL_CHECKPOINT;
    local->control.path = path;
    engine_control(submission->store->base.engine, &local->control);
}

static void submission_complete(struct submission *submission)
{
    if (submission->loop != NULL) {
        loop_post_list(submission->loop, &submission->done);
        return;
    }
    struct task *task;
    while ((task = task_list_pop(&submission->done)) != NULL)
        task->run(task);
}

static void submit_one(struct submission *submission, kvs_op *op)
{
    struct local_op *local = local_op_of(op);
    *local = (struct local_op){.store = submission->store, .shard = submission->shard};
    atomic_init(&local->cancelled, false);
    local->op.loop = submission->loop;
    store_op_begin(op);
    int error = store_op_check(op, submission->store->value_size_max);
    if (error != 0 || op->kind == KVS_OP_PING ||
        (op->kind == KVS_OP_BATCH_WRITE && op->count == 0)) {
        submit_done(submission, local, error);
    } else if (op->kind == KVS_OP_GET) {
        submit_get(submission, local, op);
    } else if (store_kind_is_read(op->kind)) {
        submit_read(submission, local, op);
    } else if (op->kind == KVS_OP_STATS) {
        submit_done(submission, local, read_stats(op, submission->store->base.engine));
    } else if (is_timed(submission, op)) {
        submit_carried_write(submission, local);
    } else if (op->kind == KVS_OP_SYNC) {
        submit_control(submission, local, ENGINE_CONTROL_SYNC);
    } else if (op->kind == KVS_OP_COMPACT) {
        submit_control(submission, local, ENGINE_CONTROL_COMPACT);
    } else if (op->kind == KVS_OP_CHECKPOINT) {
        submit_checkpoint(submission, local, op);
    } else {
        local_write_prepare(local, op);
        if (submission->loop == NULL)
            local->write.flags |= ENGINE_WRITE_ANYWHERE;
        task_list_push(&submission->writes, &local->op.task);
    }
}

static void submit_all(kvs_store *base, kvs_op **ops, size_t count, struct loop *loop, bool timed)
{
    struct local_store *store = CONTAINER_OF(base, struct local_store, base);
    struct submission submission;
    submission.store = store;
    submission.loop = loop;
    submission.timed = timed;
    submission.shard = (uint8_t)shard_choose(loop);
    submission.view_open = false;
    submission.writes = (struct task_list){0};
    submission.done = (struct task_list){0};
    submission.to_carry = (struct task_list){0};
    submission.gets_count = 0;
    /* relaxed: the submitter holds the store open; the way back is ordered by the mailbox. */
    atomic_fetch_add_explicit(&store->shards[submission.shard].refs, count, memory_order_relaxed);
    for (size_t i = 0; i < count; i++)
        submit_one(&submission, ops[i]);
    submit_gets(&submission);
    submission_end_view(&submission);
    if (submission.writes.first != NULL)
        engine_write_list(base->engine, &submission.writes);
    struct task *task;
    while ((task = task_list_pop(&submission.to_carry)) != NULL)
        submit_carried(&submission, CONTAINER_OF(task, struct local_op, op.task));
    if (submission.done.first != NULL)
        submission_complete(&submission);
}

static void local_store_submit(kvs_store *base, kvs_op **ops, size_t count, struct loop *loop)
{
    submit_all(base, ops, count, loop, false);
}

static void local_store_submit_timed(kvs_store *base, kvs_op **ops, size_t count, struct loop *loop)
{
    submit_all(base, ops, count, loop, true);
}

/* A read on the pool, waiting or under way, gives up; what else the engine has cannot be taken
 * back, unless it is a copy. */
static void local_store_cancel(kvs_store *base, kvs_op *op)
{
    (void)base;
    struct local_op *local = local_op_of(op);
    if (local->is_carried)
        kvs_future_cancel(local->carried.future);
    else
        atomic_store_explicit(&local->cancelled, true, memory_order_relaxed);
}

void local_store_help(kvs_thread_pool *pool, kvs_op *op)
{
    pool_read_help(pool, &local_op_of(op)->read);
}

static void local_store_close(kvs_store *base, struct loop *loop,
                              void (*closed)(void *arg, int error), void *arg)
{
    struct local_store *store = CONTAINER_OF(base, struct local_store, base);
    store->closed_task.run = local_store_on_closed;
    store->closed_loop = loop;
    store->closed = closed;
    store->closed_arg = arg;
    engine_compact_no_more(base->engine);
    for (unsigned i = 0; i < SHARDS; i++)
        shard_unref(store, &store->shards[i]);
}

static const struct store_methods local_store_methods = {
    .answer = local_store_answer,
    .submit = local_store_submit,
    .submit_timed = local_store_submit_timed,
    .cancel = local_store_cancel,
    .close = local_store_close,
};

int local_store_new(struct engine *engine, uint32_t value_size_max, kvs_store **ret_store)
{
    struct local_store *store = mem_aligned_alloc(_Alignof(struct local_store), sizeof *store);
    if (store == NULL)
        return KVS_ERR_NO_MEMORY;
    memset(store, 0, sizeof *store);
    store->base.methods = &local_store_methods;
    store->base.engine = engine;
    store->value_size_max = value_size_max > 0 ? value_size_max : KVS_VALUE_SIZE_MAX;
    atomic_init(&store->shards_open, SHARDS);
    for (unsigned i = 0; i < SHARDS; i++)
        atomic_init(&store->shards[i].refs, 1);
    *ret_store = &store->base;
    return 0;
}

int local_store_set_backups(kvs_store *base, const char *directory)
{
    struct local_store *store = CONTAINER_OF(base, struct local_store, base);
    store->backups = mem_strdup(directory);
    return store->backups != NULL ? 0 : KVS_ERR_NO_MEMORY;
}

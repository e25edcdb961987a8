/* client/txn/reader.c: see client/txn/reader.h for the steps. */
#include "client/txn/reader.h"

#include "base/mem.h"

#include <assert.h>
#include <stdio.h>

#define READ_BUDGET_MS 20000u
#define SCAN_PAGE_BYTES (1024u * 1024)

static void reader_ask(struct reader *reader);

void reader_init(struct reader *reader, struct txn_shard *shard, struct read_view *view,
                 pthread_mutex_t *mutex, uint64_t deadline_ms,
                 void (*done)(struct reader *reader, int error))
{
    reader->shard = shard;
    reader->view = view;
    reader->mutex = mutex;
    reader->deadline_ms = deadline_ms;
    reader->done = done;
    reader->backoff.budget_ms = READ_BUDGET_MS;
    list_init(&reader->calls);
    list_init(&reader->kept);
}

static void free_calls(struct list *calls)
{
    struct list *at;
    while ((at = list_pop(calls)) != NULL)
        txn_call_free(list_entry(at, struct txn_call, node));
}

void reader_deinit(struct reader *reader)
{
    if (reader->shard == NULL)
        return;
    assert(list_empty(&reader->calls) && !reader->timer_runs);
    free_calls(&reader->kept);
    if (reader->has_resolver)
        resolver_deinit(&reader->resolver);
    buf_deinit(&reader->cursor);
    buf_deinit(&reader->part);
}

/* --- the commands -------------------------------------------------------------------------------
 */

static int copy_list(struct arena *arena, const struct ts_list *list, const uint64_t **ret_items,
                     uint32_t *ret_count)
{
    if (list->count == 0)
        return 0;
    *ret_items = arena_copy(arena, slice_make(list->items, list->count * sizeof list->items[0]));
    *ret_count = list->count;
    return *ret_items != NULL ? 0 : KVS_ERR_NO_MEMORY;
}

/* The mutex is held. */
static int fill_read(const struct reader *reader, struct txn_call *call, struct txn_read *read)
{
    struct arena *arena = &call->command.base.arena;
    *read = (struct txn_read){.ts = reader->view->ts};
    call->priority = reader->view->priority;
    int error = copy_list(arena, &reader->view->resolved, &read->resolved_locks,
                          &read->resolved_locks_count);
    if (error == 0)
        error = copy_list(arena, &reader->view->committed, &read->committed_locks,
                          &read->committed_locks_count);
    return error;
}

static int get_fill(struct reader *reader, struct txn_call *call)
{
    struct txn_get *get = &call->command.get;
    get->key = reader->keys[call->from].key;
    return fill_read(reader, call, &get->read);
}

/* keys[from..to) that are asked for in this round, at most until the bound. */
static int batch_fill(struct reader *reader, struct txn_call *call)
{
    struct txn_batch_get *get = &call->command.batch_get;
    kvs_slice *keys =
        arena_alloc(&call->command.base.arena, (call->to - call->from) * sizeof keys[0]);
    if (keys == NULL)
        return KVS_ERR_NO_MEMORY;
    get->keys_count = 0;
    for (uint32_t i = call->from; i < call->to; i++) {
        if (reader->keys[i].locked)
            keys[get->keys_count++] = reader->keys[i].key;
    }
    get->keys = keys;
    return fill_read(reader, call, &get->read);
}

static int scan_fill(struct reader *reader, struct txn_call *call)
{
    struct txn_scan *scan = &call->command.scan;
    scan->limit = reader->limit;
    scan->size_bytes_max = SCAN_PAGE_BYTES;
    scan->reverse = reader->reverse;
    scan->keys_only = reader->keys_only;
    return fill_read(reader, call, &scan->read);
}

static struct txn_call *add_call(struct reader *reader, uint32_t from, uint32_t to);

static int keys_fit(struct reader *reader, struct txn_call *call, const struct txn_bounds *bounds)
{
    struct txn_load load = {0};
    uint32_t end = call->from;
    bool is_bounded = call->keys_max > 0 && call->keys_max < call->to - call->from;
    uint32_t last = is_bounded ? call->from + call->keys_max : call->to;
    while (end < last &&
           (end == call->from || txn_bounds_below_end(bounds, reader->keys[end].key)) &&
           txn_load_add(&load, call->transport, reader->keys[end].key, 0))
        end++;
    uint32_t rest = end;
    while (rest < call->to && !reader->keys[rest].locked)
        rest++;
    if (rest < call->to) {
        struct txn_call *more = add_call(reader, rest, call->to);
        if (more == NULL)
            return KVS_ERR_NO_MEMORY;
        more->keys_max = call->keys_max;
        txn_call_start(more);
    }
    call->to = end;
    return 0;
}

static kvs_slice smaller_end(kvs_slice a, kvs_slice b)
{
    if (a.size == 0 || b.size == 0)
        return a.size == 0 ? b : a;
    return slice_compare(a, b) <= 0 ? a : b;
}

/* The part of the range that is here; its bound outlives the region. */
static int scan_fit(struct reader *reader, struct txn_call *call, const struct txn_bounds *bounds)
{
    call->start = reader->start;
    call->end = smaller_end(reader->end, bounds->end);
    if (slice_compare(bounds->start, call->start) > 0)
        call->start = bounds->start;
    if (!reader->reverse)
        call->start = reader->start;
    buf_clear(&reader->part);
    int error = buf_append_slice(&reader->part, reader->reverse ? call->start : call->end);
    reader->part_end = buf_slice(&reader->part);
    return error;
}

static int reader_fit(struct txn_call *call, const struct txn_bounds *bounds)
{
    struct reader *reader = call->owner;
    int error = 0;
    if (reader->is_scan)
        error = scan_fit(reader, call, bounds);
    else if (reader->is_batch)
        error = keys_fit(reader, call, bounds);
    if (error != 0)
        return error;
    pthread_mutex_lock(reader->mutex);
    if (reader->is_scan)
        error = scan_fill(reader, call);
    else
        error = reader->is_batch ? batch_fill(reader, call) : get_fill(reader, call);
    pthread_mutex_unlock(reader->mutex);
    return error;
}

/* --- answers ------------------------------------------------------------------------------------
 */

static int add_lock(struct reader *reader, const struct txn_lock_info *lock);
static void reader_done(struct txn_call *call, int error);

static const struct txn_call_methods reader_methods = {
    .fit = reader_fit,
    .done = reader_done,
};

static struct txn_call *add_call(struct reader *reader, uint32_t from, uint32_t to)
{
    enum txn_command_kind kind = reader->is_scan    ? TXN_SCAN
                                 : reader->is_batch ? TXN_BATCH_GET
                                                    : TXN_GET;
    struct txn_call *call = txn_call_new(reader->shard->transport, kind, &reader_methods, reader);
    if (call == NULL)
        return NULL;
    call->from = from;
    call->to = to;
    call->deadline_ms = reader->deadline_ms;
    call->budget_ms = READ_BUDGET_MS;
    if (reader->is_scan) {
        call->below = reader->reverse;
        call->key = reader->reverse ? reader->end : reader->start;
    } else {
        call->key = reader->keys[from].key;
    }
    list_append(&reader->calls, &call->node);
    reader->pending++;
    return call;
}

static int no_key_error(struct reader *reader, const struct txn_key_error *error)
{
    if (error->kind == TXN_ERROR_NONE)
        return 0;
    snprintf(reader->why, sizeof reader->why, "a read was refused: %s",
             error->text != NULL ? error->text : "for no reason that is told");
    return KVS_ERR_IO;
}

static int take_get(struct reader *reader, struct txn_call *call)
{
    const struct txn_get *get = &call->command.get;
    struct read_key *key = &reader->keys[call->from];
    if (get->error.kind == TXN_ERROR_LOCKED)
        return add_lock(reader, &get->error.lock);
    key->locked = false;
    key->found = get->found;
    key->value = get->value;
    return no_key_error(reader, &get->error);
}

static struct read_key *find_key(struct reader *reader, const struct txn_call *call, kvs_slice key)
{
    uint32_t low = call->from;
    uint32_t high = call->to;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (slice_compare(reader->keys[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < call->to && slice_equal(reader->keys[low].key, key) ? &reader->keys[low] : NULL;
}

static int take_batch(struct reader *reader, struct txn_call *call)
{
    const struct txn_batch_get *get = &call->command.batch_get;
    int error = 0;
    if (get->error.kind == TXN_ERROR_LOCKED)
        return add_lock(reader, &get->error.lock);
    error = no_key_error(reader, &get->error);
    for (uint32_t i = call->from; error == 0 && i < call->to; i++)
        reader->keys[i].locked = false;
    for (uint32_t i = 0; error == 0 && i < get->pairs_count; i++) {
        const struct txn_pair *pair = &get->pairs[i];
        bool is_locked = pair->error.kind == TXN_ERROR_LOCKED;
        struct read_key *key = find_key(reader, call, is_locked ? pair->error.lock.key : pair->key);
        if (key == NULL) {
            snprintf(reader->why, sizeof reader->why, "a store answered with a key not asked for");
            return KVS_ERR_PROTOCOL;
        }
        key->locked = is_locked;
        if (is_locked) {
            error = add_lock(reader, &pair->error.lock);
        } else {
            error = no_key_error(reader, &pair->error);
            key->found = true;
            key->value = pair->value;
        }
    }
    return error;
}

/* Copies, since what it lies in may move. */
static int move_cursor(struct reader *reader, kvs_slice to, bool after)
{
    struct buf cursor = BUF_INIT;
    int error = buf_append_slice(&cursor, to);
    if (error == 0 && after)
        error = buf_append_u8(&cursor, 0);
    if (error != 0) {
        buf_deinit(&cursor);
        return error;
    }
    buf_deinit(&reader->cursor);
    reader->cursor = cursor;
    if (reader->reverse)
        reader->end = buf_slice(&reader->cursor);
    else
        reader->start = buf_slice(&reader->cursor);
    return 0;
}

static int scan_advance(struct reader *reader, const struct txn_scan *scan)
{
    bool more = scan->more || scan->pairs_count >= scan->limit;
    if (more && reader->pairs_count > 0)
        return move_cursor(reader, reader->pairs[reader->pairs_count - 1].key, !reader->reverse);
    kvs_slice bound = reader->reverse ? reader->start : reader->end;
    if (slice_equal(reader->part_end, bound) || reader->part_end.size == 0) {
        reader->over = true;
        return 0;
    }
    return move_cursor(reader, reader->part_end, false);
}

static int take_scan(struct reader *reader, struct txn_call *call)
{
    const struct txn_scan *scan = &call->command.scan;
    if (scan->error.kind == TXN_ERROR_LOCKED)
        return add_lock(reader, &scan->error.lock);
    int error = no_key_error(reader, &scan->error);
    reader->pairs = scan->pairs;
    reader->pairs_count = 0;
    for (uint32_t i = 0; error == 0 && i < scan->pairs_count; i++) {
        const struct txn_key_error *pair_error = &scan->pairs[i].error;
        if (pair_error->kind == TXN_ERROR_LOCKED)
            error = add_lock(reader, &pair_error->lock);
        else
            error = no_key_error(reader, pair_error);
        if (!reader->has_resolver) /* what stands before the first lock is good */
            reader->pairs_count++;
    }
    if (error == 0 && reader->has_resolver && reader->pairs_count > 0)
        error = move_cursor(reader, reader->pairs[reader->pairs_count - 1].key, !reader->reverse);
    else if (error == 0 && !reader->has_resolver)
        error = scan_advance(reader, scan);
    return error;
}

static int take_results(struct reader *reader, struct txn_call *call)
{
    if (reader->is_scan)
        return take_scan(reader, call);
    return reader->is_batch ? take_batch(reader, call) : take_get(reader, call);
}

/* --- locks in the way ---------------------------------------------------------------------------
 */

static void reader_end(struct reader *reader)
{
    reader->done(reader, reader->error);
}

static void on_timer(struct txn_timer *timer)
{
    struct reader *reader = CONTAINER_OF(timer, struct reader, timer);
    reader->timer_runs = false;
    reader_ask(reader);
}

static int wait_and_ask(struct reader *reader, uint64_t wait_ms)
{
    int64_t backoff_ms =
        backoff_next(&reader->backoff, BACKOFF_TXN_LOCK_FAST, &reader->shard->rand, 0);
    if (backoff_ms < 0 || shard_now_ms(reader->shard) >= reader->deadline_ms) {
        snprintf(reader->why, sizeof reader->why, "a key is locked by a transaction that goes on");
        return KVS_ERR_TIMEOUT;
    }
    if ((uint64_t)backoff_ms > wait_ms)
        backoff_ms = (int64_t)wait_ms;
    reader->timer.fire = on_timer;
    int error = shard_timer_start(reader->shard, &reader->timer, (uint64_t)backoff_ms);
    reader->timer_runs = error == 0;
    return error;
}

static int take_lists(struct reader *reader)
{
    int error = 0;
    pthread_mutex_lock(reader->mutex);
    for (uint32_t i = 0; error == 0 && i < reader->resolver.resolved.count; i++)
        error = ts_list_add(&reader->view->resolved, reader->resolver.resolved.items[i]);
    for (uint32_t i = 0; error == 0 && i < reader->resolver.committed.count; i++)
        error = ts_list_add(&reader->view->committed, reader->resolver.committed.items[i]);
    pthread_mutex_unlock(reader->mutex);
    return error;
}

static void on_resolved(struct resolver *resolver, int error)
{
    struct reader *reader = CONTAINER_OF(resolver, struct reader, resolver);
    uint64_t wait_ms = resolver->wait_ms;
    if (error != 0)
        snprintf(reader->why, sizeof reader->why, "%s", resolver->why);
    else
        error = take_lists(reader);
    resolver_deinit(resolver);
    reader->has_resolver = false;
    if (error == 0 && reader->cancelled)
        error = KVS_ERR_CANCELLED;
    if (error == 0 && reader->is_scan && reader->pairs_count > 0) {
        reader_end(reader); /* the next part begins with what was locked */
        return;
    }
    if (error == 0 && wait_ms > 0)
        error = wait_and_ask(reader, wait_ms);
    else if (error == 0)
        reader_ask(reader);
    if (error != 0) {
        reader->error = error;
        reader_end(reader);
    }
}

static int add_lock(struct reader *reader, const struct txn_lock_info *lock)
{
    if (!reader->has_resolver) {
        memset(&reader->resolver, 0, sizeof reader->resolver);
        resolver_init(&reader->resolver, reader->shard, RESOLVE_FOR_READ, reader->view->ts,
                      on_resolved);
        reader->has_resolver = true;
    }
    return resolver_add(&reader->resolver, lock);
}

/* --- rounds -------------------------------------------------------------------------------------
 */

static void round_end(struct reader *reader)
{
    if (reader->error == 0 && reader->cancelled)
        reader->error = KVS_ERR_CANCELLED;
    if (reader->error != 0 || !reader->has_resolver) {
        if (reader->has_resolver)
            resolver_deinit(&reader->resolver);
        reader->has_resolver = false;
        reader_end(reader);
        return;
    }
    resolver_run(&reader->resolver, reader->deadline_ms);
}

static void reader_done(struct txn_call *call, int error)
{
    struct reader *reader = call->owner;
    list_remove(&call->node);
    list_append(&reader->kept, &call->node);
    if (error == 0)
        error = take_results(reader, call);
    else
        snprintf(reader->why, sizeof reader->why, "%s", call->why);
    if (error != 0 && reader->error == 0) {
        reader->error = error;
        reader_cancel(reader);
    }
    if (--reader->pending == 0)
        round_end(reader);
}

/* Asks for what is still to be had. */
static void reader_ask(struct reader *reader)
{
    uint32_t first = 0;
    reader->pairs_count = 0;
    while (!reader->is_scan && !reader->keys[first].locked)
        first++; /* one is: that is why we are here */
    struct txn_call *call = add_call(reader, first, reader->is_scan ? 0 : reader->keys_count);
    if (call == NULL) {
        reader->error = KVS_ERR_NO_MEMORY;
        reader_end(reader);
        return;
    }
    txn_call_start(call);
}

void reader_start(struct reader *reader)
{
    for (uint32_t i = 0; i < reader->keys_count; i++)
        reader->keys[i].locked = true;
    reader_ask(reader);
}

static bool met_lock(const struct reader *reader, const struct txn_call *call)
{
    if (!reader->is_batch)
        return call->command.get.error.kind == TXN_ERROR_LOCKED;
    const struct txn_batch_get *get = &call->command.batch_get;
    bool met = get->error.kind == TXN_ERROR_LOCKED;
    for (uint32_t i = 0; !met && i < get->pairs_count; i++)
        met = get->pairs[i].error.kind == TXN_ERROR_LOCKED;
    return met;
}

bool reader_answer(struct reader *reader, int *ret_error)
{
    struct txn_transport *transport = reader->shard->transport;
    if (transport->methods->answer == NULL)
        return false;
    for (uint32_t i = 0; i < reader->keys_count; i++)
        reader->keys[i].locked = true;
    struct txn_call *call = add_call(reader, 0, reader->keys_count);
    if (call == NULL) {
        *ret_error = KVS_ERR_NO_MEMORY;
        return true;
    }
    reader->pending--;
    int error = reader->is_batch ? batch_fill(reader, call) : get_fill(reader, call);
    bool answered = error != 0 || transport->methods->answer(transport, call);
    list_remove(&call->node);
    if (!answered || (error == 0 && met_lock(reader, call))) { /* locks are the loop's business */
        txn_call_free(call);
        return false;
    }
    list_append(&reader->kept, &call->node);
    *ret_error = error != 0 ? error : take_results(reader, call);
    return true;
}

void reader_cancel(struct reader *reader)
{
    reader->cancelled = true;
    for (struct list *at = reader->calls.next; at != &reader->calls; at = at->next)
        txn_call_cancel(list_entry(at, struct txn_call, node));
    if (reader->has_resolver)
        resolver_cancel(&reader->resolver);
    if (reader->timer_runs)
        shard_timer_start(reader->shard, &reader->timer, 0);
}

/* server/tikv_gc.c: see the header. */
#include "server/tikv_gc.h"

#include "base/log.h"
#include "base/memcomparable.h"
#include "pd/gc_state.h"

#include <inttypes.h>
#include <kvs/error.h>

#define POLL_MS 10000u
#define PAUSE_MS 10u
#define LOCKS_PAGE 256u

static void on_timer(uv_timer_t *timer);

static void wait_ms(struct tikv_gc *gc, uint64_t ms)
{
    uv_timer_start(&gc->timer, on_timer, ms, 0);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct tikv_gc *gc = handle->data;
    buf_deinit(&gc->at);
    gc->on_closed(gc->arg);
}

static void close_timer(struct tikv_gc *gc)
{
    uv_close((uv_handle_t *)&gc->timer, on_timer_closed);
}

static void round_end(struct tikv_gc *gc, int error)
{
    gc->step = GC_IDLE;
    buf_clear(&gc->at);
    if (error == 0) {
        atomic_store_explicit(&gc->done_safe_point, gc->safe_point, memory_order_relaxed);
        atomic_fetch_add_explicit(&gc->rounds, 1, memory_order_relaxed);
    } else if (!gc->failed) {
        log_warn("removing versions below timestamp %" PRIu64 " failed, it is tried again: %s",
                 gc->safe_point, kvs_error_text(error));
    }
    gc->failed = error != 0;
    wait_ms(gc, gc->options.poll_ms);
}

/* --- locks --- */

/* All have been looked at. */
static void locks_end(struct tikv_gc *gc)
{
    uint64_t wanted = gc->safe_point;
    bool is_held = gc->lowest_lock_ts <= wanted;
    if (is_held)
        gc->safe_point = gc->lowest_lock_ts - 1;
    if (is_held && !gc->held)
        log_warn("versions below timestamp %" PRIu64 " are kept above %" PRIu64
                 ": a lock of a transaction that began there has not been resolved",
                 wanted, gc->safe_point);
    gc->held = is_held;
    buf_clear(&gc->at);
    bool has_some =
        gc->safe_point > atomic_load_explicit(&gc->done_safe_point, memory_order_relaxed);
    gc->step = has_some ? GC_REMOVING : GC_IDLE;
    wait_ms(gc, has_some ? gc->options.pause_ms : gc->options.poll_ms);
}

/* The next page begins behind the key. */
static int locks_set_next(struct tikv_gc *gc, kvs_slice key)
{
    size_t size = memcomparable_size(key.size);
    buf_clear(&gc->at);
    int error = buf_reserve(&gc->at, size + 1);
    if (error != 0)
        return error;
    memcomparable_encode(key, gc->at.data);
    gc->at.data[size] = 0;
    gc->at.size = size + 1;
    return 0;
}

static void lock_is_there(struct tikv_gc *gc, const struct txn_lock_info *lock)
{
    if (lock->type != TXN_OP_PESSIMISTIC_LOCK && lock->start_ts < gc->lowest_lock_ts)
        gc->lowest_lock_ts = lock->start_ts;
}

static void on_locks(struct task *task)
{
    struct tikv_gc *gc = CONTAINER_OF(task, struct tikv_gc, locks.base.op.task);
    struct txn_scan_lock *command = &gc->locks;
    int error = command->base.op.error;
    bool is_last = error == 0 && command->locks_count < LOCKS_PAGE;
    gc->busy = false;
    for (uint32_t i = 0; error == 0 && i < command->locks_count; i++) {
        const struct txn_lock_info *lock = &command->locks[i];
        if (lock->type != TXN_OP_SHARED_LOCK)
            lock_is_there(gc, lock);
        for (uint32_t j = 0; j < lock->holders_count; j++)
            lock_is_there(gc, &lock->holders[j]);
    }
    if (error == 0 && !is_last)
        error = locks_set_next(gc, command->locks[command->locks_count - 1].key);
    txn_command_deinit(&command->base);
    if (gc->on_closed != NULL)
        close_timer(gc);
    else if (error != 0)
        round_end(gc, error);
    else if (is_last)
        locks_end(gc);
    else
        wait_ms(gc, gc->options.pause_ms);
}

static void locks_start(struct tikv_gc *gc)
{
    txn_command_init(&gc->locks.base, TXN_SCAN_LOCK);
    gc->locks.range.start = buf_slice(&gc->at);
    gc->locks.max_ts = gc->safe_point;
    gc->locks.limit = LOCKS_PAGE;
    gc->locks.base.op.task.run = on_locks;
    gc->locks.base.op.loop = gc->loop;
    gc->busy = true;
    txn_submit(gc->node, &gc->locks.base);
}

/* --- versions --- */

static void on_slice(struct task *task)
{
    struct tikv_gc *gc = CONTAINER_OF(task, struct tikv_gc, command.base.op.task);
    struct txn_gc *command = &gc->command;
    int error = command->base.op.error;
    gc->busy = false;
    buf_clear(&gc->at);
    if (error == 0)
        error = buf_append_slice(&gc->at, command->next);
    atomic_fetch_add_explicit(&gc->removed_versions, error == 0 ? command->removed_versions : 0,
                              memory_order_relaxed);
    txn_command_deinit(&command->base);
    if (gc->on_closed != NULL)
        close_timer(gc);
    else if (error != 0 || gc->at.size == 0)
        round_end(gc, error);
    else
        wait_ms(gc, gc->options.pause_ms);
}

static void slice_start(struct tikv_gc *gc)
{
    txn_command_init(&gc->command.base, TXN_GC);
    gc->command.range.start = buf_slice(&gc->at);
    gc->command.safe_point = gc->safe_point;
    gc->command.steps_max = 1;
    gc->command.base.op.task.run = on_slice;
    gc->command.base.op.loop = gc->loop;
    gc->busy = true;
    txn_submit(gc->node, &gc->command.base);
}

static void on_timer(uv_timer_t *timer)
{
    struct tikv_gc *gc = timer->data;
    uint64_t done = atomic_load_explicit(&gc->done_safe_point, memory_order_relaxed);
    if (gc->step == GC_IDLE) {
        gc->safe_point = gc_state_safe_point(gc->cluster->gc);
        gc->lowest_lock_ts = UINT64_MAX;
        if (gc->safe_point > done)
            gc->step = GC_LOOKING;
    }
    if (gc->step == GC_LOOKING)
        locks_start(gc);
    else if (gc->step == GC_REMOVING)
        slice_start(gc);
    else
        wait_ms(gc, gc->options.poll_ms);
}

void tikv_gc_open(struct tikv_gc *gc, struct cluster *cluster, struct txn_node *node,
                  struct loop *loop, const struct tikv_gc_options *options)
{
    *gc = (struct tikv_gc){.cluster = cluster, .node = node, .loop = loop, .options = *options};
    if (options->poll_ms == 0)
        gc->options.poll_ms = POLL_MS;
    if (options->pause_ms == 0)
        gc->options.pause_ms = PAUSE_MS;
    uv_timer_init(loop->uv, &gc->timer); /* cannot fail */
    gc->timer.data = gc;
    wait_ms(gc, gc->options.poll_ms);
}

void tikv_gc_close(struct tikv_gc *gc, void (*on_closed)(void *arg), void *arg)
{
    gc->on_closed = on_closed;
    gc->arg = arg;
    uv_timer_stop(&gc->timer);
    if (!gc->busy)
        close_timer(gc); /* else when the slice is done */
}

/* server/tikv_gc.c: see the header. */
#include "server/tikv_gc.h"

#include "base/log.h"
#include "pd/gc_state.h"

#include <inttypes.h>
#include <kvs/error.h>

#define POLL_MS 10000u
#define PAUSE_MS 10u

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
    gc->running = false;
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
    if (!gc->running) {
        gc->safe_point = gc_state_safe_point(gc->cluster->gc);
        gc->running = gc->safe_point > done;
    }
    if (gc->running)
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

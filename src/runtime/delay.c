/*
 * runtime/delay.c: a future that becomes ready when time has passed.
 *
 *   1. kvs_future_delay notes when it is due, and posts a task to the future's loop;
 *   2. there the timer starts, and the delay joins the loop's chain;
 *   3. the timer fires; the handle is closed, and its close callback completes the future.
 * Cancelled, or its runtime stopping: the same from step 3, with that error. A request to cancel
 * may overtake the task of step 1: then it only leaves a note, which step 2 finds.
 *
 * All but step 1 runs on the loop's thread.
 */
#include "runtime/delay.h"

#include "base/clock.h"
#include "runtime/future.h"
#include "runtime/runtime.h"

#include <kvs/error.h>

#define DELAY_MS_MAX (1000ll * 3600 * 24 * 365 * 100) /* so that sums cannot overflow */

struct delay {
    uv_timer_t timer;
    struct task start;
    uint64_t due_ns;
    struct delay *next; /* chain of the loop, while the timer runs */
    struct delay **link;
    int error; /* the outcome, once it is decided */
    bool started;
    bool ended;
};

static void delay_cancel(kvs_future *future);
static void delay_on_time(uv_timer_t *timer);

static const struct future_methods delay_methods = {
    .payload_size = sizeof(struct delay),
    .cancel = delay_cancel,
};

static void delay_on_closed(uv_handle_t *handle)
{
    struct delay *delay = CONTAINER_OF(handle, struct delay, timer);
    future_complete(future_of_payload(delay), delay->error);
}

static void delay_end(struct delay *delay, int error)
{
    delay->error = error;
    delay->ended = true;
    *delay->link = delay->next;
    if (delay->next != NULL)
        delay->next->link = delay->link;
    uv_close((uv_handle_t *)&delay->timer, delay_on_closed);
}

static void delay_start_timer(struct delay *delay)
{
    uv_update_time(delay->timer.loop);
    uint64_t now_ns = clock_now_ns();
    uint64_t left_ns = delay->due_ns > now_ns ? delay->due_ns - now_ns : 0;
    uv_timer_start(&delay->timer, delay_on_time, (left_ns + 999999) / 1000000, 0);
}

static void delay_on_time(uv_timer_t *timer)
{
    struct delay *delay = CONTAINER_OF(timer, struct delay, timer);
    if (clock_now_ns() < delay->due_ns)
        delay_start_timer(delay); /* libuv's clock is coarser than ours */
    else
        delay_end(delay, 0);
}

static void delay_start(struct task *task)
{
    struct delay *delay = CONTAINER_OF(task, struct delay, start);
    kvs_future *future = future_of_payload(delay);
    if (delay->error == 0 && runtime_is_stopping(future_runtime(future)))
        delay->error = KVS_ERR_CLOSED;
    if (delay->error != 0) {
        delay->ended = true;
        future_complete(future, delay->error);
        return;
    }
    struct loop *loop = future_loop(future);
    uv_timer_init(loop->uv, &delay->timer); /* cannot fail */
    struct delay **first = runtime_delays(loop);
    delay->next = *first;
    delay->link = first;
    if (delay->next != NULL)
        delay->next->link = &delay->next;
    *first = delay;
    delay->started = true;
    delay_start_timer(delay);
}

kvs_future *kvs_future_delay(kvs_runtime *runtime, int64_t delay_ms)
{
    kvs_future *future = future_new(runtime, NULL, &delay_methods);
    if (future == NULL)
        return NULL;
    if (delay_ms < 0)
        delay_ms = 0;
    if (delay_ms > DELAY_MS_MAX)
        delay_ms = DELAY_MS_MAX;
    struct delay *delay = future_payload(future);
    delay->due_ns = clock_now_ns() + (uint64_t)delay_ms * 1000000u;
    delay->start.run = delay_start;
    loop_post(future_loop(future), &delay->start);
    return future;
}

static void delay_cancel(kvs_future *future)
{
    struct delay *delay = future_payload(future);
    if (!delay->started)
        delay->error = KVS_ERR_CANCELLED;
    else if (!delay->ended)
        delay_end(delay, KVS_ERR_CANCELLED);
}

void delays_close(struct delay **delays)
{
    while (*delays != NULL)
        delay_end(*delays, KVS_ERR_CLOSED);
}

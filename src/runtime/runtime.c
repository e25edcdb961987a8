/*
 * runtime/runtime.c: loops and a pool, and the order in which they end.
 *
 * Own threads, the end (kvs_runtime_free, on a thread that is none of its loops):
 *   1. the stopping flag is set, and each loop is told to end its delays;
 *   2. the user's hold is given up; all loops go on until the last hold is released, so every
 *      future becomes ready, and every callback is delivered;
 *   3. the pool's reference is given back; the loops end, are joined and freed.
 * Polled, the same, but the freeing thread turns the loop itself during step 2. On a host's loop,
 * free ends after step 1; the last release posts a task to the loop, which does step 3 there, and
 * the handles' last close callback frees the memory.
 *
 * The counter of holds is one for all loops: a callback on one loop may start something on another.
 *
 * Failure: a runtime is made whole or not at all.
 */
#include "runtime/runtime.h"

#include "base/log.h"
#include "base/mem.h"
#include "runtime/delay.h"

#include <assert.h>
#include <kvs/error.h>
#include <stddef.h>
#include <string.h>

#define POOL_THREADS_DEFAULT 4u

enum runtime_mode { RUNTIME_OWN_THREADS, RUNTIME_HOSTED, RUNTIME_POLLED };

struct runtime_loop {
    struct loop loop;
    kvs_runtime *runtime;
    struct task stop;
    struct delay *delays;
};

struct kvs_runtime {
    enum runtime_mode mode;
    kvs_thread_pool *pool;
    atomic_uint next_loop;
    atomic_bool stopping;
    atomic_size_t holds;
    struct task finish;            /* posted by the last release, if the mode needs it */
    _Atomic uintptr_t last_poller; /* polled: the thread; first the one that made the runtime */
    pthread_mutex_t lock;          /* guards idle */
    pthread_cond_t became_idle;
    bool idle; /* the last hold is released */
    unsigned loops_count;
    struct runtime_loop loops[];
};

static int runtime_new(const struct kvs_runtime_options *options, enum runtime_mode mode,
                       uv_loop_t *host, kvs_runtime **ret_runtime);
static void runtime_on_stop(struct task *task);
static void runtime_on_finish(struct task *task);
static void runtime_free_memory(kvs_runtime *runtime);

int kvs_runtime_new(const struct kvs_runtime_options *options, kvs_runtime **ret_runtime)
{
    return runtime_new(options, RUNTIME_OWN_THREADS, NULL, ret_runtime);
}

int kvs_runtime_new_on_uv(struct uv_loop_s *loop, const struct kvs_runtime_options *options,
                          kvs_runtime **ret_runtime)
{
    if (loop == NULL)
        return KVS_ERR_INVALID_ARGUMENT;
    return runtime_new(options, RUNTIME_HOSTED, loop, ret_runtime);
}

int kvs_runtime_new_polled(const struct kvs_runtime_options *options, kvs_runtime **ret_runtime)
{
    return runtime_new(options, RUNTIME_POLLED, NULL, ret_runtime);
}

/* The options with defaults filled in, whatever version of the header the caller was built with. */
static int options_read(const struct kvs_runtime_options *given, enum runtime_mode mode,
                        struct kvs_runtime_options *ret_options)
{
    struct kvs_runtime_options options = {0};
    if (given != NULL) {
        if (given->size < sizeof given->size || given->size > sizeof options)
            return KVS_ERR_INVALID_ARGUMENT;
        memcpy(&options, given, given->size);
    }
    if (options.loops == 0)
        options.loops = 1;
    if (options.pool_threads == 0)
        options.pool_threads = POOL_THREADS_DEFAULT;
    if (options.loops > (mode == RUNTIME_OWN_THREADS ? RUNTIME_LOOPS_MAX : 1))
        return KVS_ERR_INVALID_ARGUMENT;
    *ret_options = options;
    return 0;
}

static int loops_init(kvs_runtime *runtime, uv_loop_t *host)
{
    unsigned i = 0;
    int error = 0;
    for (; i < runtime->loops_count && error == 0; i++) {
        struct runtime_loop *at = &runtime->loops[i];
        *at = (struct runtime_loop){.runtime = runtime, .stop.run = runtime_on_stop};
        error = host != NULL ? loop_init_hosted(&at->loop, host) : loop_init(&at->loop, i);
    }
    if (error != 0) {
        for (i--; i > 0; i--)
            loop_deinit(&runtime->loops[i - 1].loop);
    }
    return error;
}

static void loops_deinit(kvs_runtime *runtime)
{
    for (unsigned i = 0; i < runtime->loops_count; i++)
        loop_stop(&runtime->loops[i].loop); /* does nothing to one that was not started */
    for (unsigned i = 0; i < runtime->loops_count; i++)
        loop_deinit(&runtime->loops[i].loop);
}

static int loops_start(kvs_runtime *runtime)
{
    int error = 0;
    if (runtime->mode == RUNTIME_OWN_THREADS) {
        for (unsigned i = 0; i < runtime->loops_count && error == 0; i++)
            error = loop_start(&runtime->loops[i].loop, "kvs-loop");
    } else if (runtime->mode == RUNTIME_POLLED) {
        loop_turn(&runtime->loops[0].loop, false); /* the descriptor learns of the mailbox */
    }
    return error;
}

static int pool_get(const struct kvs_runtime_options *options, kvs_thread_pool **ret_pool)
{
    if (options->pool == NULL)
        return kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, options->pool_threads, ret_pool);
    *ret_pool = kvs_thread_pool_ref(options->pool);
    return 0;
}

/* The pool comes before the loops: a hosted loop's handles cannot be taken back at once. */
static int runtime_init(kvs_runtime *runtime, const struct kvs_runtime_options *options,
                        uv_loop_t *host)
{
    pthread_mutex_init(&runtime->lock, NULL);
    pthread_cond_init(&runtime->became_idle, NULL);
    int error = pool_get(options, &runtime->pool);
    if (error != 0)
        return error;
    error = loops_init(runtime, host);
    if (error != 0)
        return error;
    error = loops_start(runtime);
    if (error != 0)
        loops_deinit(runtime);
    return error;
}

static int runtime_new(const struct kvs_runtime_options *given, enum runtime_mode mode,
                       uv_loop_t *host, kvs_runtime **ret_runtime)
{
    struct kvs_runtime_options options;
    int error = options_read(given, mode, &options);
    if (error != 0 || ret_runtime == NULL)
        return KVS_ERR_INVALID_ARGUMENT;
    kvs_runtime *runtime = mem_zalloc(sizeof *runtime + options.loops * sizeof runtime->loops[0]);
    if (runtime == NULL)
        return KVS_ERR_NO_MEMORY;
    runtime->mode = mode;
    runtime->loops_count = options.loops;
    runtime->finish.run = runtime_on_finish;
    atomic_init(&runtime->holds, 1);
    atomic_init(&runtime->last_poller, (uintptr_t)pthread_self());
    error = runtime_init(runtime, &options, host);
    if (error != 0) {
        kvs_thread_pool_unref(runtime->pool);
        runtime_free_memory(runtime);
        return error;
    }
    *ret_runtime = runtime;
    return 0;
}

static void runtime_free_memory(kvs_runtime *runtime)
{
    pthread_cond_destroy(&runtime->became_idle);
    pthread_mutex_destroy(&runtime->lock);
    mem_free(runtime);
}

static void runtime_on_stop(struct task *task)
{
    struct runtime_loop *at = CONTAINER_OF(task, struct runtime_loop, stop);
    delays_close(&at->delays);
    runtime_release(at->runtime);
}

static void runtime_wait_until_idle(kvs_runtime *runtime)
{
    if (runtime->mode == RUNTIME_POLLED) {
        while (!runtime->idle) /* set by runtime_on_finish on this very thread */
            loop_turn(&runtime->loops[0].loop, true);
        return;
    }
    pthread_mutex_lock(&runtime->lock);
    while (!runtime->idle)
        pthread_cond_wait(&runtime->became_idle, &runtime->lock);
    pthread_mutex_unlock(&runtime->lock);
}

void kvs_runtime_free(kvs_runtime *runtime)
{
    if (runtime == NULL)
        return;
    if (runtime->mode != RUNTIME_HOSTED && runtime_is_current(runtime)) {
        log_error("kvs_runtime_free was called in a callback of the runtime: nothing was freed");
        return;
    }
    /* release: pairs with the acquire in runtime_is_stopping. */
    atomic_store_explicit(&runtime->stopping, true, memory_order_release);
    for (unsigned i = 0; i < runtime->loops_count; i++) {
        runtime_hold(runtime);
        loop_post(&runtime->loops[i].loop, &runtime->loops[i].stop);
    }
    bool hosted = runtime->mode == RUNTIME_HOSTED;
    runtime_release(runtime);
    if (hosted)
        return; /* the last release frees it, or has */
    runtime_wait_until_idle(runtime);
    kvs_thread_pool_unref(runtime->pool);
    loops_deinit(runtime);
    runtime_free_memory(runtime);
}

void runtime_hold(kvs_runtime *runtime)
{
    /* relaxed: who holds it already, or knows one who does, adds a hold. */
    atomic_fetch_add_explicit(&runtime->holds, 1, memory_order_relaxed);
}

void runtime_release(kvs_runtime *runtime)
{
    /* acq_rel: all that was done under a hold happens before the end. */
    size_t before = atomic_fetch_sub_explicit(&runtime->holds, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before > 1)
        return;
    if (runtime->mode != RUNTIME_OWN_THREADS) {
        loop_post(&runtime->loops[0].loop, &runtime->finish);
        return;
    }
    pthread_mutex_lock(&runtime->lock);
    runtime->idle = true;
    pthread_cond_signal(&runtime->became_idle);
    pthread_mutex_unlock(&runtime->lock);
}

static void runtime_on_loop_closed(struct loop *loop)
{
    runtime_free_memory(CONTAINER_OF(loop, struct runtime_loop, loop)->runtime);
}

static void runtime_on_finish(struct task *task)
{
    kvs_runtime *runtime = CONTAINER_OF(task, kvs_runtime, finish);
    runtime->idle = true;
    if (runtime->mode != RUNTIME_HOSTED)
        return;
    kvs_thread_pool_unref(runtime->pool);
    loop_deinit_hosted(&runtime->loops[0].loop, runtime_on_loop_closed);
}

int kvs_runtime_fd(const kvs_runtime *runtime)
{
    return runtime->mode == RUNTIME_POLLED ? uv_backend_fd(runtime->loops[0].loop.uv) : -1;
}

int kvs_runtime_poll_timeout_ms(const kvs_runtime *runtime)
{
    const struct loop *loop = &runtime->loops[0].loop;
    if (runtime->mode != RUNTIME_POLLED)
        return -1;
    if (loop_is_ready(loop))
        return 0;
    uv_update_time(loop->uv); /* or timers would seem further away than they are */
    return uv_backend_timeout(loop->uv);
}

void kvs_runtime_poll(kvs_runtime *runtime)
{
    if (runtime->mode != RUNTIME_POLLED || runtime_is_current(runtime))
        return;
    /* relaxed: compared only with the reader's own thread. */
    atomic_store_explicit(&runtime->last_poller, (uintptr_t)pthread_self(), memory_order_relaxed);
    loop_turn(&runtime->loops[0].loop, false);
}

kvs_thread_pool *kvs_runtime_pool(kvs_runtime *runtime)
{
    return runtime->pool;
}

struct loop *runtime_pick_loop(kvs_runtime *runtime)
{
    if (runtime->loops_count == 1)
        return &runtime->loops[0].loop;
    unsigned turn = atomic_fetch_add_explicit(&runtime->next_loop, 1, memory_order_relaxed);
    return &runtime->loops[turn % runtime->loops_count].loop;
}

bool runtime_is_hosted(const kvs_runtime *runtime)
{
    return runtime->mode == RUNTIME_HOSTED;
}

bool runtime_has_threads(const kvs_runtime *runtime)
{
    return runtime->mode == RUNTIME_OWN_THREADS;
}

bool runtime_is_current(const kvs_runtime *runtime)
{
    for (unsigned i = 0; i < runtime->loops_count; i++) {
        if (loop_is_current(&runtime->loops[i].loop))
            return true;
    }
    return false;
}

bool runtime_waits_for(const kvs_runtime *runtime)
{
    if (runtime->mode == RUNTIME_POLLED &&
        atomic_load_explicit(&runtime->last_poller, memory_order_relaxed) ==
            (uintptr_t)pthread_self())
        return true;
    return runtime_is_current(runtime);
}

bool runtime_is_stopping(const kvs_runtime *runtime)
{
    return atomic_load_explicit(&runtime->stopping, memory_order_acquire);
}

struct delay **runtime_delays(struct loop *loop)
{
    return &CONTAINER_OF(loop, struct runtime_loop, loop)->delays;
}

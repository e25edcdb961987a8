/*
 * runtime/future.c: the life of a future. Its rules are in runtime/future_core.h, the producer's
 * side in runtime/future.h, the user's in kvs/future.h.
 *
 * Waiting is sleeping on the state word: no allocation, no lock, and nobody is woken by a system
 * call unless somebody sleeps. Any thread runs any function here, but callbacks and cancel methods:
 * those run on the future's loop.
 */
#include "runtime/future.h"

#include "base/clock.h"
#include "base/mem.h"
#include "runtime/futex.h"
#include "runtime/future_core.h"
#include "runtime/runtime.h"

#include <assert.h>
#include <kvs/error.h>
#include <pthread.h>

#define WAIT_MS_MAX (1000ll * 3600 * 24 * 365) /* a longer wait is a wait without limit */

static void future_on_cancel(struct task *task);
static void future_on_ready(struct task *task);
static void future_post_ready(kvs_future *future);
static void future_destroy(kvs_future *future);

/* --- the producer's side ------------------------------------------------------------------------
 */

kvs_future *future_new(kvs_runtime *runtime, struct loop *loop,
                       const struct future_methods *methods)
{
    return future_new_larger(runtime, loop, methods, 0);
}

kvs_future *future_new_larger(kvs_runtime *runtime, struct loop *loop,
                              const struct future_methods *methods, size_t more)
{
    kvs_future *future = mem_zalloc(sizeof *future + methods->payload_size + more);
    if (future == NULL)
        return NULL;
    future->methods = methods;
    future->runtime = runtime;
    future->loop = loop != NULL ? loop : runtime_pick_loop(runtime);
    future->cancel_task.run = future_on_cancel;
    atomic_init(&future->holds, FUTURE_HOLD_USER + 1); /* and the producer's */
    runtime_hold(runtime);
    return future;
}

kvs_future *future_new_idle(kvs_runtime *runtime, struct loop *loop,
                            const struct future_methods *methods)
{
    kvs_future *future = mem_zalloc(sizeof *future + methods->payload_size);
    if (future == NULL)
        return NULL;
    future->methods = methods;
    future->runtime = runtime;
    future->loop = loop;
    future->cancel_task.run = future_on_cancel;
    atomic_init(&future->holds, FUTURE_HOLD_USER);
    return future;
}

void future_start(kvs_future *future)
{
    future_hold(future);
}

void future_complete_idle(kvs_future *future, int error)
{
    future->error = error;
    /* relaxed: nobody else knows the future; whoever gives it away orders this, too. */
    atomic_store_explicit(&future->state, FUTURE_READY, memory_order_relaxed);
}

kvs_future *future_new_ready(kvs_runtime *runtime, struct loop *loop)
{
    static const struct future_methods nothing = {0};
    kvs_future *future = future_new_idle(runtime, loop, &nothing);
    if (future != NULL)
        future_complete_idle(future, 0);
    return future;
}

void *future_payload(kvs_future *future)
{
    return future->payload;
}

kvs_future *future_of_payload(void *payload)
{
    return CONTAINER_OF(payload, kvs_future, payload);
}

kvs_runtime *future_runtime(const kvs_future *future)
{
    return future->runtime;
}

struct loop *future_loop(const kvs_future *future)
{
    return future->loop;
}

bool future_is_cancelled(const kvs_future *future)
{
    return (future_state(future) & FUTURE_CANCELLED) != 0;
}

void future_set_value(kvs_future *future, kvs_slice value)
{
    future->value = value;
    future->results |= FUTURE_RESULT_VALUE;
}

void future_set_number(kvs_future *future, int64_t number)
{
    future->number = number;
    future->results |= FUTURE_RESULT_NUMBER;
}

void future_set_pairs(kvs_future *future, const kvs_pair *pairs, size_t count)
{
    future->pairs = pairs;
    future->pairs_count = count;
    future->results |= FUTURE_RESULT_PAIRS;
}

void future_set_pointer(kvs_future *future, void *pointer)
{
    future->pointer = pointer;
    future->results |= FUTURE_RESULT_POINTER;
}

void future_set_message(kvs_future *future, const char *message)
{
    future->message = message;
}

void future_set_details(kvs_future *future, const void *details)
{
    future->details = details;
}

const void *future_details(const kvs_future *future)
{
    if (future == NULL || !kvs_future_is_ready(future))
        return NULL;
    return future->source != NULL ? future->source->details : future->details;
}

void future_complete(kvs_future *future, int error)
{
    future->error = error;
    /* release: the results are visible to whoever sees READY; acquire: the consumer is to us. */
    uint32_t before = atomic_fetch_or_explicit(&future->state, FUTURE_READY, memory_order_acq_rel);
    assert((before & FUTURE_READY) == 0 && "a future is completed once");
    if ((before & FUTURE_WAITERS) != 0)
        futex_wake_all(&future->state);
    if ((before & FUTURE_ARMED) != 0)
        future_post_ready(future);
    future_release(future);
}

/* Whoever is the first decides the outcome; acq_rel as all changes of the word. */
static bool future_is_first(kvs_future *future)
{
    return (atomic_fetch_or_explicit(&future->state, FUTURE_DECIDED, memory_order_acq_rel) &
            FUTURE_DECIDED) == 0;
}

bool future_decide(kvs_future *future)
{
    if (future_is_first(future))
        return true;
    future_release(future);
    return false;
}

bool future_give_up(kvs_future *future, int error, const char *message)
{
    if (!future_is_first(future))
        return false;
    future_hold(future); /* the producer's from now on; the one it had ends with the completion */
    future_set_message(future, message);
    future_complete(future, error);
    return true;
}

/* --- holds --------------------------------------------------------------------------------------
 */

void future_hold(kvs_future *future)
{
    /* relaxed: see runtime_hold, and rule 2. */
    uint64_t before = atomic_fetch_add_explicit(&future->holds, 1, memory_order_relaxed);
    if ((before & FUTURE_HOLDS_INTERNAL) == 0)
        runtime_hold(future->runtime);
}

/* An internal hold for the owner, if there still is one; otherwise the future is ready, nothing of
 * it is under way, and its runtime may be gone. */
static bool future_try_hold(kvs_future *future)
{
    uint64_t holds = atomic_load_explicit(&future->holds, memory_order_acquire);
    while ((holds & FUTURE_HOLDS_INTERNAL) > 0) {
        /* acquire: what was done before the holds fell is seen when there is none. */
        if (atomic_compare_exchange_weak_explicit(&future->holds, &holds, holds + 1,
                                                  memory_order_acquire, memory_order_acquire))
            return true;
    }
    return false;
}

void future_release(kvs_future *future)
{
    kvs_runtime *runtime = future->runtime;
    uint64_t before = atomic_fetch_sub_explicit(&future->holds, 1, memory_order_acq_rel);
    assert((before & FUTURE_HOLDS_INTERNAL) > 0);
    if (before == 1)
        future_destroy(future);
    if ((before & FUTURE_HOLDS_INTERNAL) == 1)
        runtime_release(runtime); /* last: it may be what the end of the runtime waits for */
}

/* The user's hold; true when it was the last of all. */
static bool future_release_user(kvs_future *future)
{
    return atomic_fetch_sub_explicit(&future->holds, FUTURE_HOLD_USER, memory_order_acq_rel) ==
           FUTURE_HOLD_USER;
}

/* Frees it and those of its inputs that nobody holds; a loop, since chains may be long. */
static void future_destroy(kvs_future *future)
{
    future->next = NULL;
    while (future != NULL) {
        kvs_future *next = future->next;
        /* First the payload: what a map made may point into what the input owns. */
        if (future->methods->free != NULL)
            future->methods->free(future->payload);
        for (size_t i = 0; i < future->inputs_count; i++) {
            kvs_future *input = future->inputs[i];
            if (!future_release_user(input))
                continue;
            input->next = next;
            next = input;
        }
        mem_free(future);
        future = next;
    }
}

/* --- looking and waiting ------------------------------------------------------------------------
 */

bool kvs_future_is_ready(const kvs_future *future)
{
    return future == NULL || (future_state(future) & FUTURE_READY) != 0;
}

int kvs_future_error(const kvs_future *future)
{
    if (future == NULL)
        return KVS_ERR_NO_MEMORY;
    return kvs_future_is_ready(future) ? future->error : KVS_ERR_BUSY;
}

/* Sleeps until the bits of the word that are `set` now change, at most until the deadline. */
static void future_sleep(kvs_future *future, uint32_t seen, int64_t timeout_ns)
{
    /* acq_rel: as all changes of the word; who sets a bit after this one sees it, and wakes us. */
    if ((seen & FUTURE_WAITERS) == 0 &&
        !atomic_compare_exchange_strong_explicit(&future->state, &seen, seen | FUTURE_WAITERS,
                                                 memory_order_acq_rel, memory_order_relaxed))
        return;
    futex_wait(&future->state, seen | FUTURE_WAITERS, timeout_ns);
}

/* The work may be a point where threads can be cancelled; waiting is none. */
static void future_help(kvs_future *future, bool limited)
{
    if (future->methods->help == NULL || future_is_cancelled(future))
        return;
    int state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    future->methods->help(future, limited);
    pthread_setcancelstate(state, &state);
}

/* Before a thread sleeps. INVALID_ARGUMENT: it would wait for itself; 0: it may have done the work.
 */
static int future_wait_begin(kvs_future *future, bool limited)
{
    if (!future_try_hold(future))
        return 0; /* it is ready by now */
    bool itself = runtime_waits_for(future->runtime);
    if (!itself)
        future_help(future, limited);
    future_release(future);
    return itself ? KVS_ERR_INVALID_ARGUMENT : 0;
}

int kvs_future_wait(kvs_future *future, int64_t timeout_ms)
{
    if (kvs_future_is_ready(future))
        return kvs_future_error(future);
    if (timeout_ms == 0)
        return KVS_ERR_TIMEOUT;
    bool limited = timeout_ms > 0 && timeout_ms <= WAIT_MS_MAX;
    int error = future_wait_begin(future, limited);
    if (error != 0)
        return error;
    uint64_t until_ns = clock_now_ns() + (limited ? (uint64_t)timeout_ms * 1000000u : 0);
    for (;;) {
        uint32_t state = future_state(future);
        if ((state & FUTURE_READY) != 0)
            return future->error;
        uint64_t now_ns = limited ? clock_now_ns() : 0;
        if (limited && now_ns >= until_ns)
            return KVS_ERR_TIMEOUT;
        future_sleep(future, state, limited ? (int64_t)(until_ns - now_ns) : -1);
    }
}

const char *kvs_future_error_message(const kvs_future *future)
{
    if (future != NULL && kvs_future_is_ready(future)) {
        const kvs_future *from = future->source != NULL ? future->source : future;
        if (from->message != NULL && from->message[0] != '\0')
            return from->message;
    }
    return kvs_error_text(kvs_future_error(future));
}

/* The future that has results of this type for `future`; NULL with *ret_error when there is none to
 * read. With one, *ret_error is the future's own. */
static const kvs_future *future_with(const kvs_future *future, unsigned result, int *ret_error)
{
    *ret_error = kvs_future_error(future);
    if (future == NULL || !kvs_future_is_ready(future))
        return NULL;
    const kvs_future *from = future->source != NULL ? future->source : future;
    if ((from->results & result) != 0)
        return from;
    if (*ret_error == 0)
        *ret_error = KVS_ERR_INVALID_ARGUMENT;
    return NULL;
}

int kvs_future_get_value(const kvs_future *future, kvs_slice *ret_value)
{
    int error;
    const kvs_future *from = future_with(future, FUTURE_RESULT_VALUE, &error);
    if (from != NULL)
        *ret_value = from->value;
    return error;
}

int kvs_future_get_number(const kvs_future *future, int64_t *ret_number)
{
    int error;
    const kvs_future *from = future_with(future, FUTURE_RESULT_NUMBER, &error);
    if (from != NULL)
        *ret_number = from->number;
    return error;
}

int kvs_future_get_pairs(const kvs_future *future, const kvs_pair **ret_pairs, size_t *ret_count)
{
    int error;
    const kvs_future *from = future_with(future, FUTURE_RESULT_PAIRS, &error);
    if (from != NULL) {
        *ret_pairs = from->pairs;
        *ret_count = from->pairs_count;
    }
    return error;
}

int kvs_future_get_pointer(const kvs_future *future, void **ret_pointer)
{
    int error;
    const kvs_future *from = future_with(future, FUTURE_RESULT_POINTER, &error);
    if (from == NULL)
        return error;
    *ret_pointer = from->pointer;
    if (from->methods->abandon != NULL) /* acq_rel: as all changes of the word */
        atomic_fetch_or_explicit(&((kvs_future *)(uintptr_t)from)->state, FUTURE_READ,
                                 memory_order_acq_rel);
    return error;
}

/* --- the consumer -------------------------------------------------------------------------------
 */

static bool future_claim(kvs_future *future, uint32_t bits)
{
    uint32_t before =
        atomic_fetch_or_explicit(&future->state, FUTURE_CLAIMED, memory_order_acq_rel);
    if ((before & FUTURE_CLAIMED) != 0)
        return false;
    if (bits != 0)
        atomic_fetch_or_explicit(&future->state, bits, memory_order_acq_rel);
    return true;
}

bool future_take(kvs_future *future)
{
    return future_claim(future, FUTURE_TAKEN);
}

static void future_post_ready(kvs_future *future)
{
    struct loop *loop = future->loop;
    if ((future_state(future) & FUTURE_TAKEN) != 0)
        loop = future->taker->loop; /* the taker is held until the task has run */
    loop_post(loop, &future->ready_task);
}

void future_arm(kvs_future *future)
{
    future_hold(future);
    /* release: the consumer's fields; acquire: the results are visible to the task's loop. */
    uint32_t before = atomic_fetch_or_explicit(&future->state, FUTURE_ARMED, memory_order_acq_rel);
    if ((before & FUTURE_READY) != 0)
        future_post_ready(future);
}

int kvs_future_on_ready(kvs_future *future, kvs_future_fn *fn, void *arg)
{
    if (future == NULL)
        return KVS_ERR_NO_MEMORY;
    if (fn == NULL || !future_claim(future, 0))
        return KVS_ERR_INVALID_ARGUMENT;
    future->callback = fn;
    future->callback_arg = arg;
    future->ready_task.run = future_on_ready;
    future_arm(future);
    return 0;
}

static void future_on_ready(struct task *task)
{
    kvs_future *future = CONTAINER_OF(task, kvs_future, ready_task);
    if (future_run_begin(future)) {
        future->callback(future, future->callback_arg);
        future_run_end(future);
    }
    future_release(future);
}

bool future_run_begin(kvs_future *future)
{
    uint32_t state = future_state(future);
    do {
        if ((state & FUTURE_FREED) != 0)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&future->state, &state, state | FUTURE_RUNNING,
                                                    memory_order_acq_rel, memory_order_acquire));
    return true;
}

void future_run_end(kvs_future *future)
{
    uint32_t before =
        atomic_fetch_and_explicit(&future->state, ~FUTURE_RUNNING, memory_order_acq_rel);
    if ((before & FUTURE_WAITERS) != 0)
        futex_wake_all(&future->state);
}

/* --- giving up ----------------------------------------------------------------------------------
 */

void kvs_future_cancel(kvs_future *future)
{
    if (future == NULL || !future_try_hold(future))
        return;
    uint32_t before =
        atomic_fetch_or_explicit(&future->state, FUTURE_CANCELLED, memory_order_acq_rel);
    if ((before & (FUTURE_CANCELLED | FUTURE_READY)) != 0 || future->methods->cancel == NULL)
        future_release(future);
    else
        loop_post(future->loop, &future->cancel_task);
}

static void future_on_cancel(struct task *task)
{
    kvs_future *future = CONTAINER_OF(task, kvs_future, cancel_task);
    if (!kvs_future_is_ready(future))
        future->methods->cancel(future);
    future_release(future);
}

/* Rule 5: from here on no function of the user runs for this future. */
static void future_forbid(kvs_future *future)
{
    uint32_t state =
        atomic_fetch_or_explicit(&future->state, FUTURE_FREED, memory_order_acq_rel) | FUTURE_FREED;
    if (!future_try_hold(future))
        return;
    if (!loop_is_current(future->loop)) {
        while (((state = future_state(future)) & FUTURE_RUNNING) != 0)
            future_sleep(future, state, -1);
    }
    if ((state & FUTURE_READY) == 0)
        kvs_future_cancel(future);
    future_release(future);
}

void future_free_taken(kvs_future *future)
{
    future->next = NULL;
    for (kvs_future *at = future; at != NULL;) {
        future_forbid(at);
        kvs_future *rest = at->next;
        for (size_t i = 0; i < at->inputs_count; i++) {
            at->inputs[i]->next = rest;
            rest = at->inputs[i];
        }
        at = rest;
    }
    if (future_release_user(future))
        future_destroy(future);
}

/* Is it ready, with nothing under way? Then nobody but the user may touch it. */
static bool future_is_settled(kvs_future *future)
{
    /* acquire: pairs with the release of the last internal hold. */
    return future->inputs_count == 0 &&
           atomic_load_explicit(&future->holds, memory_order_acquire) == FUTURE_HOLD_USER;
}

void kvs_future_free(kvs_future *future)
{
    /* One that was taken is freed with its taker: here it is misuse, without effect. */
    if (future == NULL || (future_state(future) & FUTURE_TAKEN) != 0)
        return;
    if (future_is_settled(future))
        future_destroy(future);
    else
        future_free_taken(future);
}

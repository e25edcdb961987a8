/*
 * runtime/future_core.h: the inside of a future, for future.c and compose.c alone.
 *
 * Rules of life and threads:
 *   1. A future has holds. The user's is one; it ends with kvs_future_free. The internal ones are:
 *      the producer's until future_complete (of a future that was given up: until future_decide),
 *      one for each task on its way to a loop (a callback, a request to cancel), and, for a
 *      composed future, one for each input that has not reported yet. Without any hold the future
 *      is freed, by whoever let go last.
 *   2. As long as there is an internal hold, the runtime is held too: only then may the loop be
 *      touched. So whoever comes as the user first takes an internal hold, if there still is one.
 *   3. Results are written by the producer before READY is set, and never after.
 *   4. Each future has one consumer at most, the CLAIMED bit: a callback, or a composed future that
 *      took it. Setting READY and setting ARMED race; the second of the two posts the task.
 *   5. Functions of the user (callbacks, functions of then and map) run with RUNNING set, always on
 *      the future's loop. Freeing sets FREED, and waits while RUNNING is set by another thread: so
 *      they run wholly before, or not at all. The inputs of a composed future change only while it
 *      is RUNNING and not FREED: whoever set FREED, and waited, may walk down the inputs.
 *   6. A future has one owner: the user, or the composed future that took it.
 */
#ifndef RUNTIME_FUTURE_CORE_H
#define RUNTIME_FUTURE_CORE_H

#include "runtime/future.h"
#include "runtime/task.h"

#include <stdatomic.h>

/* Bits of kvs_future.state. */
#define FUTURE_READY 1u
#define FUTURE_WAITERS 2u /* somebody sleeps on the word */
#define FUTURE_CLAIMED 4u /* has its consumer */
#define FUTURE_ARMED 8u   /* the consumer's function is set */
#define FUTURE_TAKEN 16u  /* the consumer is a composed future, which owns it */
#define FUTURE_CANCELLED 32u
#define FUTURE_RUNNING 64u
#define FUTURE_FREED 128u
#define FUTURE_DECIDED 256u /* by future_decide or future_give_up */
#define FUTURE_READ 512u    /* somebody has the pointer; of kinds that can be abandoned */

/* kvs_future.holds: internal ones count in the low half. */
#define FUTURE_HOLD_USER (1ull << 32)
#define FUTURE_HOLDS_INTERNAL (FUTURE_HOLD_USER - 1)

/* Bits of kvs_future.results. */
#define FUTURE_RESULT_VALUE 1u
#define FUTURE_RESULT_NUMBER 2u
#define FUTURE_RESULT_PAIRS 4u
#define FUTURE_RESULT_POINTER 8u

struct kvs_future {
    const struct future_methods *methods;
    kvs_runtime *runtime;
    struct loop *loop;
    _Atomic uint32_t state; /* slept on */
    _Atomic uint64_t holds;

    /* the result */
    int error;
    unsigned results;
    const kvs_future *source; /* an input whose results stand for ours */
    const char *message;
    const void *details;
    int64_t number;
    void *pointer;
    kvs_slice value;
    const kvs_pair *pairs;
    size_t pairs_count;

    /* the consumer */
    struct task ready_task;
    kvs_future_fn *callback;
    void *callback_arg;
    kvs_future *taker;  /* instead of a callback */
    size_t taker_index; /* which of the taker's inputs this is */

    struct task cancel_task;

    /* of a composed future: what it took */
    kvs_future **inputs;
    size_t inputs_count;
    kvs_future *next; /* chain of those to walk or to free */

    _Alignas(max_align_t) unsigned char payload[];
};

/* future_new with `more` bytes behind the payload. */
kvs_future *future_new_larger(kvs_runtime *runtime, struct loop *loop,
                              const struct future_methods *methods, size_t more);

/* Internal holds; future_hold only by one who has one already, or knows that the runtime lives. */
void future_hold(kvs_future *future);
void future_release(kvs_future *future);

/* Becomes the owner of a future: false, and nothing changed, when it has a consumer already. */
bool future_take(kvs_future *future);

/* kvs_future_free by the owner of a taken one. */
void future_free_taken(kvs_future *future);

/* Has `ready_task` posted to `loop` when the future is ready; the fields of the consumer are set.
 * Holds the future until the task, which must release it. */
void future_arm(kvs_future *future);

/* Around a function of the user: false when the future is freed, then it must not be called. */
bool future_run_begin(kvs_future *future);
void future_run_end(kvs_future *future);

static inline uint32_t future_state(const kvs_future *future)
{
    /* acquire: pairs with the release of whoever set a bit. */
    return atomic_load_explicit(&((kvs_future *)(uintptr_t)future)->state, memory_order_acquire);
}

#endif

/*
 * tests/unit/runtime/manual.h: a producer that a test completes by hand, from any thread, and that
 * counts what becomes of its futures.
 */
#ifndef TESTS_MANUAL_H
#define TESTS_MANUAL_H

#include "base/mem.h"
#include "runtime/future.h"
#include "runtime/loop.h"

#include <kvs/error.h>
#include <sched.h>

struct manual {
    uint8_t *owned; /* freed with the payload: a leak or a second free shows */
    atomic_uint cancels;
    int cancel_error; /* what a request to cancel ends it with; 0: it is only counted */
    _Atomic bool completed;
};

static atomic_int manual_live;

/* Exactly one of those who try completes it. */
static inline bool manual_complete(kvs_future *future, int error)
{
    struct manual *manual = future_payload(future);
    if (atomic_exchange(&manual->completed, true))
        return false;
    if (error == 0) {
        manual->owned[0] = 42;
        future_set_value(future, (kvs_slice){manual->owned, 1});
    }
    future_complete(future, error);
    return true;
}

static inline void manual_cancel(kvs_future *future)
{
    struct manual *manual = future_payload(future);
    assert_true(loop_is_current(future_loop(future)));
    assert_int_equal(atomic_fetch_add(&manual->cancels, 1), 0);
    if (manual->cancel_error != 0)
        manual_complete(future, manual->cancel_error);
}

static inline void manual_free(void *payload)
{
    struct manual *manual = payload;
    mem_free(manual->owned);
    atomic_fetch_sub(&manual_live, 1);
}

static const struct future_methods manual_methods = {
    .payload_size = sizeof(struct manual),
    .cancel = manual_cancel,
    .free = manual_free,
};

static const struct future_methods stubborn_methods = {
    .payload_size = sizeof(struct manual),
    .free = manual_free,
};

static inline kvs_future *manual_new_of(kvs_runtime *runtime, const struct future_methods *methods)
{
    kvs_future *future = future_new(runtime, NULL, methods);
    assert_non_null(future);
    struct manual *manual = future_payload(future);
    manual->owned = mem_alloc(1);
    atomic_fetch_add(&manual_live, 1);
    return future;
}

/* Ends when it is cancelled. */
static inline kvs_future *manual_new(kvs_runtime *runtime)
{
    kvs_future *future = manual_new_of(runtime, &manual_methods);
    ((struct manual *)future_payload(future))->cancel_error = KVS_ERR_CANCELLED;
    return future;
}

/* Cannot be cancelled. */
static inline kvs_future *stubborn_new(kvs_runtime *runtime)
{
    return manual_new_of(runtime, &stubborn_methods);
}

static inline unsigned manual_cancels(kvs_future *future)
{
    return atomic_load(&((struct manual *)future_payload(future))->cancels);
}

/* Requests to cancel and last releases are worked off by the loops: the runtime's end awaits them.
 */
static inline void runtime_end(kvs_runtime *runtime)
{
    kvs_runtime_free(runtime);
    assert_int_equal(atomic_load(&manual_live), 0);
}

static inline kvs_runtime *runtime_of(unsigned loops)
{
    struct kvs_runtime_options options = {.size = sizeof options, .loops = loops};
    kvs_runtime *runtime = NULL;
    assert_int_equal(kvs_runtime_new(&options, &runtime), 0);
    return runtime;
}

#endif

/*
 * runtime/future.c and runtime/delay.c: results, waiting, callbacks, cancelling and freeing, each
 * also against the others on many threads at once.
 */
#include "runtime/future.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/rand.h"
#include "runtime/runtime.h"
#include "runtime/thread.h"
#include "seed.h"

#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "test.h"

#include "manual.h"

static void test_results(void **state)
{
    (void)state;
    kvs_runtime *runtime = runtime_of(1);
    kvs_future *future = manual_new(runtime);
    const kvs_pair pairs[2] = {{.found = true}, {.found = false}};
    kvs_slice value;
    int64_t number = 0;
    const kvs_pair *got_pairs = NULL;
    size_t count = 0;
    void *pointer = NULL;
    assert_int_equal(kvs_future_get_number(future, &number), KVS_ERR_BUSY);
    assert_int_equal(kvs_future_error(future), KVS_ERR_BUSY);
    assert_string_equal(kvs_future_error_message(future), kvs_error_text(KVS_ERR_BUSY));
    future_set_number(future, -7);
    future_set_pairs(future, pairs, 2);
    future_set_pointer(future, &count);
    manual_complete(future, 0);
    assert_true(kvs_future_is_ready(future));
    assert_int_equal(kvs_future_wait(future, 0), 0);
    assert_int_equal(kvs_future_get_value(future, &value), 0);
    assert_int_equal(value.data[0], 42);
    assert_int_equal(kvs_future_get_number(future, &number), 0);
    assert_int_equal(number, -7);
    assert_int_equal(kvs_future_get_pairs(future, &got_pairs, &count), 0);
    assert_true(got_pairs == pairs && count == 2);
    assert_int_equal(kvs_future_get_pointer(future, &pointer), 0);
    assert_ptr_equal(pointer, &count);
    assert_string_equal(kvs_future_error_message(future), "success");
    kvs_future_free(future);
    runtime_end(runtime);
}

static unsigned idle_freed;

static void idle_free(void *payload)
{
    (void)payload;
    idle_freed++;
}

/* Complete before anybody sees it, or started after all. */
static void test_idle(void **state)
{
    (void)state;
    static const struct future_methods methods = {.payload_size = 8, .free = idle_free};
    kvs_runtime *runtime = runtime_of(1);
    int64_t number = 0;
    idle_freed = 0;
    kvs_future *future = future_new_idle(runtime, runtime_pick_loop(runtime), &methods);
    assert_false(kvs_future_is_ready(future));
    future_set_number(future, 3);
    future_complete_idle(future, 0);
    assert_int_equal(kvs_future_wait(future, 0), 0);
    assert_int_equal(kvs_future_get_number(future, &number), 0);
    assert_int_equal(number, 3);
    kvs_future_cancel(future); /* without effect */
    kvs_future_free(future);
    assert_int_equal(idle_freed, 1);

    future = future_new_idle(runtime, runtime_pick_loop(runtime), &methods);
    future_start(future);
    kvs_future_free(future); /* under way: it lives until it is complete */
    assert_int_equal(idle_freed, 1);
    future_complete(future, KVS_ERR_IO);
    assert_int_equal(idle_freed, 2);

    future = future_new_idle(runtime, runtime_pick_loop(runtime), &methods);
    future_complete_idle(future, KVS_ERR_IO);
    runtime_end(runtime); /* it does not keep the runtime, and can be read afterwards */
    assert_int_equal(kvs_future_error(future), KVS_ERR_IO);
    kvs_future_free(future);
    assert_int_equal(idle_freed, 3);
}

static void test_errors(void **state)
{
    (void)state;
    kvs_runtime *runtime = runtime_of(1);
    kvs_slice value = {0};
    int64_t number = 5;
    /* Another type; an error with a message, and with a result beside it. */
    kvs_future *future = manual_new(runtime);
    manual_complete(future, 0);
    assert_int_equal(kvs_future_get_number(future, &number), KVS_ERR_INVALID_ARGUMENT);
    kvs_future_free(future);
    future = manual_new(runtime);
    future_set_message(future, "");
    future_set_number(future, 1);
    manual_complete(future, KVS_ERR_CONDITION_FAILED);
    assert_int_equal(kvs_future_get_value(future, &value), KVS_ERR_CONDITION_FAILED);
    assert_int_equal(kvs_future_get_number(future, &number), KVS_ERR_CONDITION_FAILED);
    assert_int_equal(number, 1);
    assert_string_equal(kvs_future_error_message(future), kvs_error_text(KVS_ERR_CONDITION_FAILED));
    kvs_future_free(future);
    future = manual_new(runtime);
    future_set_message(future, "disk sda1: on fire");
    manual_complete(future, KVS_ERR_IO);
    assert_string_equal(kvs_future_error_message(future), "disk sda1: on fire");
    kvs_future_free(future);
    runtime_end(runtime);
}

static void never_called(kvs_future *future, void *arg)
{
    (void)future;
    (void)arg;
    fail();
}

static void test_null_reads_as_no_memory(void **state)
{
    (void)state;
    kvs_slice value;
    assert_true(kvs_future_is_ready(NULL));
    assert_int_equal(kvs_future_wait(NULL, -1), KVS_ERR_NO_MEMORY);
    assert_int_equal(kvs_future_error(NULL), KVS_ERR_NO_MEMORY);
    assert_int_equal(kvs_future_get_value(NULL, &value), KVS_ERR_NO_MEMORY);
    assert_int_equal(kvs_future_on_ready(NULL, never_called, NULL), KVS_ERR_NO_MEMORY);
    assert_string_equal(kvs_future_error_message(NULL), kvs_error_text(KVS_ERR_NO_MEMORY));
    kvs_future_cancel(NULL);
    kvs_future_free(NULL);
    assert_null(kvs_future_input(NULL, 0));
}

#define WAITERS 30

static void *wait_main(void *arg)
{
    assert_int_equal(kvs_future_wait(arg, -1), KVS_ERR_IO);
    assert_int_equal(kvs_future_error(arg), KVS_ERR_IO);
    return NULL;
}

static void test_many_wait(void **state)
{
    (void)state;
    kvs_runtime *runtime = runtime_of(1);
    for (int round = 0; round < 10; round++) {
        kvs_future *future = manual_new(runtime);
        assert_int_equal(kvs_future_wait(future, 0), KVS_ERR_TIMEOUT);
        assert_int_equal(kvs_future_wait(future, 1), KVS_ERR_TIMEOUT);
        pthread_t threads[WAITERS];
        for (int i = 0; i < WAITERS; i++)
            assert_int_equal(thread_start(&threads[i], "waiter", wait_main, future), 0);
        manual_complete(future, KVS_ERR_IO);
        assert_int_equal(kvs_future_wait(future, INT64_MAX), KVS_ERR_IO);
        for (int i = 0; i < WAITERS; i++)
            pthread_join(threads[i], NULL);
        kvs_future_free(future);
    }
    runtime_end(runtime);
}

/* What a callback saw. */
struct seen {
    atomic_uint calls;
    sem_t called;
    bool on_loop;
    bool inside; /* the call that is under way while it must not be called */
    bool free;
};

static void see(kvs_future *future, void *arg)
{
    struct seen *seen = arg;
    assert_false(seen->inside);
    assert_true(kvs_future_is_ready(future));
    seen->on_loop = loop_is_current(future_loop(future));
    if (seen->free)
        kvs_future_free(future);
    atomic_fetch_add(&seen->calls, 1);
    sem_post(&seen->called);
}

static void seen_wait(struct seen *seen)
{
    while (sem_wait(&seen->called) != 0) {
    }
}

static void test_callbacks(void **state)
{
    (void)state;
    kvs_runtime *runtime = runtime_of(2);
    struct seen seen = {0};
    sem_init(&seen.called, 0, 0);
    for (int i = 0; i < 8; i++) { /* ready before or after; freed in the callback or later */
        kvs_future *future = manual_new(runtime);
        seen.free = i % 4 >= 2;
        if (i % 2 == 0)
            manual_complete(future, 0);
        assert_int_equal(kvs_future_on_ready(future, NULL, &seen), KVS_ERR_INVALID_ARGUMENT);
        assert_int_equal(kvs_future_on_ready(future, see, &seen), 0);
        if (i % 2 != 0) {
            assert_int_equal(kvs_future_on_ready(future, see, &seen), KVS_ERR_INVALID_ARGUMENT);
            manual_complete(future, 0);
        }
        seen_wait(&seen);
        assert_true(seen.on_loop);
        if (!seen.free)
            kvs_future_free(future);
    }
    assert_int_equal(seen.calls, 8);
    sem_destroy(&seen.called);
    runtime_end(runtime);
}

/* On the loop itself: a callback set there comes after the caller has returned. */
struct nested {
    kvs_runtime *runtime;
    struct seen seen;
    struct task task;
};

static void nested_run(struct task *task)
{
    struct nested *nested = CONTAINER_OF(task, struct nested, task);
    kvs_future *future = manual_new(nested->runtime);
    nested->seen.inside = true;
    assert_int_equal(kvs_future_on_ready(future, see, &nested->seen), 0);
    manual_complete(future, 0);
    nested->seen.inside = false;
}

static void test_callbacks_never_nest(void **state)
{
    (void)state;
    struct nested nested = {.runtime = runtime_of(1), .seen.free = true, .task.run = nested_run};
    sem_init(&nested.seen.called, 0, 0);
    loop_post(runtime_pick_loop(nested.runtime), &nested.task);
    seen_wait(&nested.seen);
    runtime_end(nested.runtime);
}

/* Keeps a loop busy until the test lets it go. */
struct blocker {
    struct task task;
    sem_t entered, leave;
};

static void blocker_run(struct task *task)
{
    struct blocker *blocker = CONTAINER_OF(task, struct blocker, task);
    sem_post(&blocker->entered);
    while (sem_wait(&blocker->leave) != 0) {
    }
}

static void blocker_enter(struct blocker *blocker, kvs_runtime *runtime)
{
    *blocker = (struct blocker){.task.run = blocker_run};
    sem_init(&blocker->entered, 0, 0);
    sem_init(&blocker->leave, 0, 0);
    loop_post(runtime_pick_loop(runtime), &blocker->task);
    while (sem_wait(&blocker->entered) != 0) {
    }
}

static void test_freed_before_the_callback_is_delivered(void **state)
{
    (void)state;
    kvs_runtime *runtime = runtime_of(1);
    struct blocker blocker;
    blocker_enter(&blocker, runtime);
    kvs_future *future = manual_new(runtime);
    assert_int_equal(kvs_future_on_ready(future, never_called, NULL), 0);
    manual_complete(future, 0);
    kvs_future_free(future);
    sem_post(&blocker.leave);
    runtime_end(runtime);
}

static void test_cancel(void **state)
{
    (void)state;
    kvs_runtime *runtime = runtime_of(1);
    /* Asked twice, told once. */
    struct blocker blocker;
    blocker_enter(&blocker, runtime);
    kvs_future *future = manual_new(runtime);
    kvs_future_cancel(future);
    kvs_future_cancel(future);
    assert_true(future_is_cancelled(future));
    sem_post(&blocker.leave);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_CANCELLED);
    assert_int_equal(manual_cancels(future), 1);
    kvs_future_cancel(future);
    kvs_future_free(future);
    /* Done before the request arrives: not told at all. */
    blocker_enter(&blocker, runtime);
    future = manual_new(runtime);
    kvs_future_cancel(future);
    manual_complete(future, 0);
    struct blocker behind;
    sem_post(&blocker.leave);
    blocker_enter(&behind, runtime); /* the request has been worked off */
    assert_int_equal(manual_cancels(future), 0);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    sem_post(&behind.leave);
    kvs_future_free(future);
    /* One that cannot be cancelled goes on. */
    future = stubborn_new(runtime);
    kvs_future_cancel(future);
    assert_true(future_is_cancelled(future));
    assert_int_equal(kvs_future_wait(future, 1), KVS_ERR_TIMEOUT);
    manual_complete(future, 0);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    kvs_future_free(future);
    runtime_end(runtime);
}

static void test_freed_while_under_way(void **state)
{
    (void)state;
    kvs_runtime *runtime = runtime_of(1);
    kvs_future *future = stubborn_new(runtime);
    kvs_future_free(future);
    assert_int_equal(atomic_load(&manual_live), 1); /* the producer's still */
    assert_true(manual_complete(future, 0));
    assert_int_equal(atomic_load(&manual_live), 0);
    kvs_future_free(manual_new(runtime)); /* cancelled, so it completes itself */
    runtime_end(runtime);
}

static atomic_uint given_up_freed;

static void give_up_on_cancel(kvs_future *future)
{
    future_give_up(future, KVS_ERR_CANCELLED, "given up");
}

static void given_up_free(void *payload)
{
    (void)payload;
    given_up_freed++;
}

/* Ready before its work has ended; the payload is there until it has. */
static void test_given_up(void **state)
{
    (void)state;
    static const struct future_methods methods = {
        .payload_size = 8, .cancel = give_up_on_cancel, .free = given_up_free};
    kvs_runtime *runtime = runtime_of(1);
    given_up_freed = 0;
    kvs_future *future = future_new(runtime, NULL, &methods);
    kvs_future_cancel(future);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_CANCELLED);
    assert_string_equal(kvs_future_error_message(future), "given up");
    kvs_future_free(future);
    assert_int_equal(given_up_freed, 0);
    assert_false(future_decide(future)); /* the last hold but for the loop's, if it still cancels */
    while (given_up_freed == 0)
        sched_yield();
    assert_int_equal(given_up_freed, 1);

    /* The work was faster; also when it has decided and not completed yet. */
    future = future_new(runtime, NULL, &methods);
    assert_true(future_decide(future));
    future_give_up(future, KVS_ERR_CANCELLED, "given up");
    assert_false(kvs_future_is_ready(future));
    future_complete(future, 0);
    kvs_future_cancel(future);
    assert_int_equal(kvs_future_error(future), 0);
    kvs_future_free(future);
    runtime_end(runtime);
    assert_int_equal(given_up_freed, 2);
}

static void test_delays(void **state)
{
    (void)state;
    kvs_runtime *runtime = runtime_of(2);
    uint64_t begin_ns = clock_now_ns();
    kvs_future *later = kvs_future_delay(runtime, 30);
    kvs_future *soon = kvs_future_delay(runtime, 5);
    kvs_future *at_once = kvs_future_delay(runtime, -1);
    kvs_future *never = kvs_future_delay(runtime, INT64_MAX);
    assert_int_equal(kvs_future_wait(at_once, -1), 0);
    assert_int_equal(kvs_future_wait(soon, -1), 0);
    assert_true(clock_now_ns() - begin_ns >= 5000000);
    assert_int_equal(kvs_future_wait(later, -1), 0);
    assert_true(clock_now_ns() - begin_ns >= 30000000);
    assert_int_equal(kvs_future_wait(never, 1), KVS_ERR_TIMEOUT);
    kvs_future_cancel(never);
    assert_int_equal(kvs_future_wait(never, -1), KVS_ERR_CANCELLED);
    kvs_future_free(later);
    kvs_future_free(soon);
    kvs_future_free(at_once);
    kvs_future_free(never);
    for (int i = 0; i < 1000; i++) /* freed before, while and after their timers start */
        kvs_future_free(kvs_future_delay(runtime, i % 3));
    runtime_end(runtime);
}

/* A request to cancel from the loop's own thread overtakes the start that another thread posted. */
struct overtaking {
    struct task task;
    _Atomic bool running;
    kvs_future *_Atomic future;
};

static void overtaking_run(struct task *task)
{
    struct overtaking *overtaking = CONTAINER_OF(task, struct overtaking, task);
    atomic_store(&overtaking->running, true);
    while (atomic_load(&overtaking->future) == NULL)
        sched_yield();
    kvs_future_cancel(overtaking->future);
}

static void test_delay_cancelled_before_it_starts(void **state)
{
    (void)state;
    kvs_runtime *runtime = runtime_of(1);
    struct overtaking overtaking = {.task.run = overtaking_run};
    loop_post(runtime_pick_loop(runtime), &overtaking.task);
    while (!atomic_load(&overtaking.running))
        sched_yield();
    kvs_future *future = kvs_future_delay(runtime, 3600 * 1000);
    atomic_store(&overtaking.future, future);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_CANCELLED);
    kvs_future_free(future);
    runtime_end(runtime);
}

/*
 * Everything at once: each future is worked on by a completer, a canceller and its user, who waits,
 * sets a callback, and frees it and the callback's argument at any moment.
 */
#define STRESS_THREADS 4
#define STRESS_FUTURES 400

struct stress {
    kvs_runtime *runtime;
    kvs_thread_pool *pool;
    _Atomic uint64_t seed; /* of the next thread */
};

struct stress_arg {
    atomic_uint calls;
    uint64_t *alive; /* freed by the user after kvs_future_free */
};

static void stress_callback(kvs_future *future, void *arg)
{
    struct stress_arg *of_mine = arg;
    assert_int_equal(*of_mine->alive, 77);
    assert_int_equal(atomic_fetch_add(&of_mine->calls, 1), 0);
    assert_true(kvs_future_is_ready(future));
    sched_yield();
    assert_int_equal(*of_mine->alive, 77);
}

static void stress_complete(void *arg)
{
    manual_complete(arg, 0);
}

static void stress_one(const struct stress *stress, struct rand *rand)
{
    struct stress_arg arg = {.alive = mem_alloc(sizeof *arg.alive)};
    *arg.alive = 77;
    kvs_future *future = manual_new(stress->runtime);
    struct manual *manual = future_payload(future);
    uint64_t dice = rand_u64(rand);
    /* Either the pool completes it, and a request to cancel is only counted, or that ends it. */
    bool completes = (dice & 4) != 0;
    if (completes)
        manual->cancel_error = 0;
    if (completes)
        assert_int_equal(kvs_thread_pool_submit(stress->pool, stress_complete, future), 0);
    if ((dice & 8) != 0)
        assert_int_equal(kvs_future_on_ready(future, stress_callback, &arg), 0);
    if ((dice & 16) != 0)
        kvs_future_cancel(future);
    if ((dice & 32) != 0 && (completes || (dice & 16) != 0))
        kvs_future_wait(future, (dice & 64) != 0 ? -1 : 0);
    for (uint64_t i = rand_below(rand, 3); i > 0; i--)
        sched_yield();
    kvs_future_free(future);
    *arg.alive = 0;
    mem_free(arg.alive);
}

static void *stress_main(void *arg)
{
    struct stress *stress = arg;
    struct rand rand = rand_seed(atomic_fetch_add(&stress->seed, 1));
    for (int i = 0; i < STRESS_FUTURES; i++)
        stress_one(stress, &rand);
    return NULL;
}

static void test_all_at_once(void **state)
{
    (void)state;
    struct stress stress = {.runtime = runtime_of(2), .seed = test_seed()};
    assert_int_equal(kvs_thread_pool_new(KVS_THREAD_POOL_WORK_STEALING, 3, &stress.pool), 0);
    pthread_t threads[STRESS_THREADS];
    for (int i = 0; i < STRESS_THREADS; i++)
        assert_int_equal(thread_start(&threads[i], "user", stress_main, &stress), 0);
    for (int i = 0; i < STRESS_THREADS; i++)
        pthread_join(threads[i], NULL);
    runtime_end(stress.runtime);
    kvs_thread_pool_unref(stress.pool);
}

/* The runtime ends while others still free futures that its end made ready. */
static void *free_main(void *arg)
{
    kvs_future **futures = arg;
    for (int i = 0; i < 200; i++) {
        if (i % 2 == 0)
            kvs_future_cancel(futures[i]);
        kvs_future_wait(futures[i], i % 3 == 0 ? -1 : 0);
        kvs_future_free(futures[i]);
    }
    return NULL;
}

static void test_runtime_ends_under_its_users(void **state)
{
    (void)state;
    for (int round = 0; round < 10; round++) {
        kvs_runtime *runtime = runtime_of(2);
        kvs_future *futures[200];
        for (int i = 0; i < 200; i++)
            futures[i] = kvs_future_delay(runtime, i % 5 == 0 ? 3600 * 1000 : i % 5 - 1);
        pthread_t thread;
        assert_int_equal(thread_start(&thread, "freer", free_main, futures), 0);
        for (int i = 0; i < round; i++)
            sched_yield();
        kvs_runtime_free(runtime);
        pthread_join(thread, NULL);
    }
}

#ifdef KVS_FAULTS

static void test_no_memory(void **state)
{
    (void)state;
    kvs_runtime *runtime = runtime_of(1);
    fault_arm(FAULT_ALLOC, 1, true);
    assert_null(future_new(runtime, NULL, &manual_methods));
    assert_null(kvs_future_delay(runtime, 0));
    assert_null(kvs_future_ready(runtime, 0, malloc(1), free)); /* given away: freed */
    fault_reset();
    runtime_end(runtime);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_null_reads_as_no_memory),
        cmocka_unit_test(test_many_wait),
        cmocka_unit_test(test_callbacks),
        cmocka_unit_test(test_callbacks_never_nest),
        cmocka_unit_test(test_freed_before_the_callback_is_delivered),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_freed_while_under_way),
        cmocka_unit_test(test_given_up),
        cmocka_unit_test(test_delays),
        cmocka_unit_test(test_delay_cancelled_before_it_starts),
        cmocka_unit_test(test_all_at_once),
        cmocka_unit_test(test_runtime_ends_under_its_users),
#ifdef KVS_FAULTS
        cmocka_unit_test(test_no_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

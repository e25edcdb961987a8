/*
 * runtime/compose.c: what each way of composing does with results, errors, cancelling and freeing,
 * with long chains, and with random trees that are cancelled and freed at any moment.
 */
#include "base/fault.h"
#include "base/rand.h"
#include "runtime/runtime.h"
#include "runtime/thread.h"
#include "seed.h"

#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "test.h"

#include "manual.h"

static kvs_runtime *runtime;

static int runtime_setup(void **state)
{
    (void)state;
    runtime = runtime_of(2);
    return 0;
}

static int runtime_teardown(void **state)
{
    (void)state;
    runtime_end(runtime);
    return 0;
}

static kvs_future *ready(int error)
{
    return kvs_future_ready(runtime, error, NULL, NULL);
}

static kvs_future *done(int error)
{
    kvs_future *future = manual_new(runtime);
    manual_complete(future, error);
    return future;
}

/* --- then --- */

static kvs_future *then_give(kvs_future *future, void *arg)
{
    assert_true(kvs_future_is_ready(future));
    assert_true(runtime_is_current(runtime));
    return arg;
}

static kvs_future *then_itself(kvs_future *future, void *arg)
{
    (void)arg;
    return future;
}

static kvs_future *then_never(kvs_future *future, void *arg)
{
    (void)arg;
    fail();
    return future;
}

static void test_then(void **state)
{
    (void)state;
    kvs_slice value = {0};
    kvs_future *future = kvs_future_then(ready(0), then_give, done(0));
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_value(future, &value), 0);
    assert_int_equal(value.data[0], 42); /* the second one's, which the composed one owns */
    assert_null(kvs_future_input(future, 0));
    kvs_future_free(future);
    /* It is called with errors too; it may pass the outcome on, or turn it. */
    assert_int_equal(wait_and_free(kvs_future_then(done(KVS_ERR_IO), then_itself, NULL)),
                     KVS_ERR_IO);
    assert_int_equal(wait_and_free(kvs_future_then(done(KVS_ERR_IO), then_give, done(0))), 0);
    future = kvs_future_then(done(0), then_itself, NULL);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_value(future, &value), 0);
    kvs_future_free(future);
    /* A call that found no memory must not look like success. */
    assert_int_equal(wait_and_free(kvs_future_then(done(0), then_give, NULL)), KVS_ERR_NO_MEMORY);
    assert_null(kvs_future_then(NULL, then_never, NULL));
}

static void test_then_cancelled(void **state)
{
    (void)state;
    kvs_future *first = manual_new(runtime);
    kvs_future *future = kvs_future_then(first, then_never, NULL);
    kvs_future_cancel(future);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_CANCELLED);
    assert_int_equal(manual_cancels(first), 1);
    kvs_future_free(future);
    /* In its second half; the outcome is that of the second. */
    kvs_future *second = manual_new(runtime);
    ((struct manual *)future_payload(second))->cancel_error = KVS_ERR_OUTCOME_UNKNOWN;
    future = kvs_future_then(ready(0), then_give, second);
    while (kvs_future_wait(future, 1) == KVS_ERR_TIMEOUT)
        kvs_future_cancel(future);
    assert_true(kvs_future_error(future) == KVS_ERR_OUTCOME_UNKNOWN ||
                kvs_future_error(future) == KVS_ERR_CANCELLED);
    if (kvs_future_error(future) == KVS_ERR_CANCELLED) /* the request came before the function */
        kvs_future_free(second);
    kvs_future_free(future);
    /* What cannot be cancelled is not awaited. */
    first = stubborn_new(runtime);
    future = kvs_future_then(first, then_never, NULL);
    kvs_future_cancel(future);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_CANCELLED);
    kvs_future_free(future);
    manual_complete(first, 0);
}

static void test_wrong_inputs(void **state)
{
    (void)state;
    /* Taken already: left as it is. */
    kvs_future *first = manual_new(runtime);
    kvs_future *future = kvs_future_then(first, then_itself, NULL);
    assert_int_equal(wait_and_free(kvs_future_then(first, then_never, NULL)),
                     KVS_ERR_INVALID_ARGUMENT);
    kvs_future_free(first); /* misuse without effect */
    assert_int_equal(kvs_future_on_ready(first, NULL, NULL), KVS_ERR_INVALID_ARGUMENT);
    manual_complete(first, 0);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    kvs_future_free(future);
    /* The same one twice; the function returns one that is taken. */
    first = manual_new(runtime);
    kvs_future *twice[] = {first, first};
    assert_int_equal(wait_and_free(kvs_future_all(runtime, twice, 2)), KVS_ERR_INVALID_ARGUMENT);
    kvs_future *taken = kvs_future_timeout(ready(0), 1000);
    kvs_future *taker = kvs_future_then(taken, then_itself, NULL);
    assert_int_equal(wait_and_free(kvs_future_then(ready(0), then_give, taken)),
                     KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(kvs_future_wait(taker, -1), 0);
    kvs_future_free(taker);
    assert_int_equal(wait_and_free(kvs_future_any(runtime, NULL, 0)), KVS_ERR_INVALID_ARGUMENT);
}

/* A retry loop: each turn is the then of the one before, so the chain gets long. */
struct countdown {
    atomic_int left;
};

static kvs_future *then_count_down(kvs_future *future, void *arg)
{
    struct countdown *countdown = arg;
    if (atomic_fetch_sub(&countdown->left, 1) <= 0)
        return future;
    return kvs_future_then(ready(0), then_count_down, arg);
}

static void test_long_chains(void **state)
{
    (void)state;
    struct countdown countdown = {.left = 30000};
    kvs_future *future = kvs_future_then(ready(0), then_count_down, &countdown);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    kvs_future_free(future);
    future = done(0);
    for (int i = 0; i < 30000; i++)
        future = kvs_future_then(future, then_itself, NULL);
    kvs_slice value;
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_value(future, &value), 0);
    assert_int_equal(value.data[0], 42);
    kvs_future_free(future);
    future = manual_new(runtime); /* freed before it is ready */
    for (int i = 0; i < 30000; i++)
        future = kvs_future_then(future, then_itself, NULL);
    kvs_future_free(future);
}

/* --- map --- */

static int map_copy(kvs_future *future, void *arg, void **ret_pointer)
{
    kvs_slice value;
    assert_int_equal(kvs_future_get_value(future, &value), 0);
    *ret_pointer = malloc(1);
    *(uint8_t *)*ret_pointer = (uint8_t)(value.data[0] + 1);
    return arg != NULL ? KVS_ERR_PROTOCOL : 0;
}

static void test_map(void **state)
{
    (void)state;
    void *pointer = NULL;
    kvs_future *future = kvs_future_map(done(0), map_copy, NULL, free);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_pointer(future, &pointer), 0);
    assert_int_equal(*(uint8_t *)pointer, 43);
    kvs_future_free(future);
    pointer = NULL;
    future = kvs_future_map(done(0), map_copy, &pointer, free); /* fails, and frees what it made */
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_PROTOCOL);
    assert_int_equal(kvs_future_get_pointer(future, &pointer), KVS_ERR_PROTOCOL);
    assert_null(pointer);
    kvs_future_free(future);
    kvs_future *failed = manual_new(runtime);
    future_set_message(failed, "no such shelf");
    future = kvs_future_map(failed, map_copy, NULL, free);
    manual_complete(failed, KVS_ERR_NOT_FOUND);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_NOT_FOUND);
    assert_string_equal(kvs_future_error_message(future), "no such shelf");
    kvs_future_free(future);
}

/* --- all and any --- */

static void test_all(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    static kvs_future *inputs[COUNT];
    kvs_future *future = kvs_future_all(runtime, NULL, 0);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    kvs_future_free(future);
    for (int i = 0; i < COUNT; i++)
        inputs[i] = manual_new(runtime);
    future = kvs_future_all(runtime, inputs, COUNT);
    for (int i = COUNT - 1; i >= 0; i--) {
        assert_false(kvs_future_is_ready(future));
        manual_complete(inputs[i], 0);
    }
    assert_int_equal(kvs_future_wait(future, -1), 0);
    kvs_slice value;
    for (size_t i = 0; i < COUNT; i++) {
        assert_ptr_equal(kvs_future_input(future, i), inputs[i]);
        assert_int_equal(kvs_future_get_value(kvs_future_input(future, i), &value), 0);
    }
    assert_null(kvs_future_input(future, COUNT));
    kvs_future_free(future);
}

static void test_all_fails_with_the_first_error(void **state)
{
    (void)state;
    kvs_future *inputs[] = {manual_new(runtime), manual_new(runtime), stubborn_new(runtime)};
    kvs_future *future = kvs_future_all(runtime, inputs, 3);
    future_set_message(inputs[1], "shelf 1 broke");
    manual_complete(inputs[1], KVS_ERR_IO);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_IO);
    assert_string_equal(kvs_future_error_message(future), "shelf 1 broke");
    assert_int_equal(kvs_future_wait(inputs[0], -1), KVS_ERR_CANCELLED);
    assert_false(kvs_future_is_ready(inputs[2])); /* not awaited */
    kvs_future_free(future);
    manual_complete(inputs[2], 0);
    /* One call found no memory: the others are freed. */
    kvs_future *some[] = {manual_new(runtime), NULL, done(0)};
    assert_null(kvs_future_all(runtime, some, 3));
}

static void test_all_cancelled(void **state)
{
    (void)state;
    /* One ends well although it is asked to give up, so only the stubborn one is awaited: not. */
    kvs_future *inputs[] = {manual_new(runtime), stubborn_new(runtime)};
    ((struct manual *)future_payload(inputs[0]))->cancel_error = 0;
    kvs_future *future = kvs_future_all(runtime, inputs, 2);
    kvs_future_cancel(future);
    while (manual_cancels(inputs[0]) == 0)
        sched_yield();
    assert_false(kvs_future_is_ready(future));
    manual_complete(inputs[0], 0);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_CANCELLED);
    kvs_future_free(future);
    manual_complete(inputs[1], 0);
}

/* Many inputs that are asked to give up and end well all the same, one after the other: no look at
 * all of them for each. */
static void test_many_that_do_not_give_up(void **state)
{
    (void)state;
    enum { COUNT = TIMES(40000, 10000, 5000) };
    kvs_future **inputs = malloc(COUNT * sizeof *inputs);
    kvs_future **futures = malloc(COUNT * sizeof *futures);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = inputs[i] = manual_new(runtime);
        ((struct manual *)future_payload(inputs[i]))->cancel_error = 0;
    }
    kvs_future *all = kvs_future_all(runtime, inputs, COUNT);
    kvs_future_cancel(all);
    while (manual_cancels(futures[COUNT - 1]) == 0)
        usleep(1000);
    clock_t began = clock(); /* of the processor: other programs may slow this one down */
    for (int i = 0; i < COUNT; i++)
        manual_complete(futures[COUNT - 1 - i], 0);
    assert_int_equal(kvs_future_wait(all, -1), 0);
    clock_t took = clock() - began;
    kvs_future_free(all);
    free(inputs);
    free(futures);
    if (took > 3 * CLOCKS_PER_SEC)
        fail_msg("%lld s", (long long)(took / CLOCKS_PER_SEC));
}

static void test_any(void **state)
{
    (void)state;
    int64_t index = -1;
    kvs_future *inputs[] = {manual_new(runtime), manual_new(runtime), manual_new(runtime)};
    kvs_future *future = kvs_future_any(runtime, inputs, 3);
    manual_complete(inputs[2], KVS_ERR_NOT_FOUND);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_NOT_FOUND);
    assert_int_equal(kvs_future_get_number(future, &index), KVS_ERR_NOT_FOUND);
    assert_int_equal(index, 2);
    assert_int_equal(kvs_future_error(kvs_future_input(future, 2)), KVS_ERR_NOT_FOUND);
    assert_int_equal(kvs_future_wait(kvs_future_input(future, 0), -1), KVS_ERR_CANCELLED);
    kvs_future_free(future);
    kvs_future *delays[] = {kvs_future_delay(runtime, 3600 * 1000), kvs_future_delay(runtime, 2)};
    future = kvs_future_any(runtime, delays, 2);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_number(future, &index), 0);
    assert_int_equal(index, 1);
    kvs_future_free(future);
}

/* --- timeout --- */

static void test_timeout(void **state)
{
    (void)state;
    kvs_slice value;
    kvs_future *future = kvs_future_timeout(done(0), 3600 * 1000);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_value(future, &value), 0);
    kvs_future_free(future);
    future = kvs_future_timeout(manual_new(runtime), 2);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_TIMEOUT);
    assert_non_null(strstr(kvs_future_error_message(future), "timeout_ms"));
    kvs_future_free(future);
    kvs_future *stubborn = stubborn_new(runtime);
    assert_int_equal(wait_and_free(kvs_future_timeout(stubborn, 2)), KVS_ERR_TIMEOUT);
    manual_complete(stubborn, 0);
    /* A write that may have happened is no timeout, and neither is one that was done in time. */
    for (int i = 0; i < 2; i++) {
        kvs_future *write = manual_new(runtime);
        struct manual *manual = future_payload(write);
        manual->cancel_error = i == 0 ? KVS_ERR_OUTCOME_UNKNOWN : 0;
        future = kvs_future_timeout(write, 2);
        while (i == 1 && atomic_load(&manual->cancels) == 0)
            sched_yield();
        if (i == 1)
            manual_complete(write, 0);
        assert_int_equal(kvs_future_wait(future, -1), i == 0 ? KVS_ERR_OUTCOME_UNKNOWN : 0);
        kvs_future_free(future);
    }
    future = kvs_future_timeout(manual_new(runtime), 3600 * 1000);
    kvs_future_cancel(future);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_CANCELLED);
    kvs_future_free(future);
    /* Through a composed future that cannot be cancelled inside. */
    stubborn = stubborn_new(runtime);
    assert_int_equal(
        wait_and_free(kvs_future_timeout(kvs_future_then(stubborn, then_never, NULL), 2)),
        KVS_ERR_TIMEOUT);
    manual_complete(stubborn, 0);
}

/* --- freeing --- */

/* A function that is inside while the test frees what it works for. */
struct inside {
    sem_t entered, leave;
    uint64_t *alive;
    kvs_future *next;
};

static kvs_future *then_stay_inside(kvs_future *future, void *arg)
{
    (void)future;
    struct inside *inside = arg;
    sem_post(&inside->entered);
    while (sem_wait(&inside->leave) != 0) {
    }
    sched_yield();
    assert_int_equal(*inside->alive, 77);
    return inside->next;
}

static void *free_main(void *arg)
{
    kvs_future_free(arg);
    return NULL;
}

static void test_free_waits_for_a_running_function(void **state)
{
    (void)state;
    struct inside inside = {.alive = malloc(sizeof *inside.alive), .next = manual_new(runtime)};
    *inside.alive = 77;
    sem_init(&inside.entered, 0, 0);
    sem_init(&inside.leave, 0, 0);
    kvs_future *future = kvs_future_then(ready(0), then_stay_inside, &inside);
    future = kvs_future_timeout(kvs_future_then(future, then_never, NULL), 3600 * 1000);
    while (sem_wait(&inside.entered) != 0) {
    }
    pthread_t thread;
    assert_int_equal(thread_start(&thread, "freer", free_main, future), 0);
    sem_post(&inside.leave);
    pthread_join(thread, NULL);
    *inside.alive = 0; /* the function, three levels down, has left */
    free(inside.alive);
    sem_destroy(&inside.entered);
    sem_destroy(&inside.leave);
}

/* Frees, inside the function, what it works for. */
struct self {
    kvs_future *_Atomic future;
    sem_t done;
};

static kvs_future *then_free_self(kvs_future *future, void *arg)
{
    (void)future;
    struct self *self = arg;
    while (atomic_load(&self->future) == NULL)
        sched_yield();
    kvs_future_free(atomic_load(&self->future));
    sem_post(&self->done);
    return manual_new(runtime);
}

static void test_free_inside_the_function(void **state)
{
    (void)state;
    struct self self = {0};
    sem_init(&self.done, 0, 0);
    kvs_future *future = kvs_future_then(ready(0), then_free_self, &self);
    atomic_store(&self.future, kvs_future_then(future, then_never, NULL));
    while (sem_wait(&self.done) != 0) {
    }
}

static kvs_future *then_more(kvs_future *future, void *arg)
{
    (void)future;
    (void)arg;
    return kvs_future_delay(runtime, 3600 * 1000);
}

static void test_end_of_the_runtime(void **state)
{
    (void)state;
    kvs_future *futures[30];
    kvs_runtime *before = runtime;
    runtime = runtime_of(2);
    for (int i = 0; i < 30; i += 3) {
        futures[i] = kvs_future_then(kvs_future_delay(runtime, 3600 * 1000), then_never, NULL);
        futures[i + 1] = kvs_future_then(ready(0), then_more, NULL);
        futures[i + 2] = kvs_future_timeout(manual_new(runtime), 3600 * 1000);
    }
    kvs_runtime_free(runtime);
    runtime = before;
    for (int i = 0; i < 30; i++) {
        assert_int_equal(kvs_future_wait(futures[i], 0), KVS_ERR_CLOSED);
        kvs_future_free(futures[i]);
    }
}

/* --- random trees --- */

struct tree_arg {
    uint64_t *alive;
    uint64_t dice;
};

static kvs_future *leaf(uint64_t dice)
{
    switch (dice % 5) {
    case 0:
        return ready(0);
    case 1:
        return ready(KVS_ERR_IO);
    case 2:
        return manual_new(runtime); /* ends only by being cancelled */
    default:
        return kvs_future_delay(runtime, (int64_t)(dice / 8 % 3));
    }
}

static kvs_future *tree_then(kvs_future *future, void *arg)
{
    const struct tree_arg *tree = arg;
    assert_int_equal(*tree->alive, 77);
    kvs_future *next = tree->dice % 3 == 0 ? future : leaf(tree->dice);
    sched_yield();
    assert_int_equal(*tree->alive, 77);
    return next;
}

static int tree_map(kvs_future *future, void *arg, void **ret_pointer)
{
    (void)future;
    const struct tree_arg *tree = arg;
    assert_int_equal(*tree->alive, 77);
    *ret_pointer = malloc(1);
    return tree->dice % 4 == 0 ? KVS_ERR_PROTOCOL : 0;
}

/* A tree made from below: a few leaves, each wrapped, put together, and wrapped again. */
static kvs_future *wrapped(kvs_future *future, struct rand *rand, struct tree_arg *arg)
{
    for (uint64_t i = rand_below(rand, 4); i > 0; i--) {
        switch (rand_below(rand, 3)) {
        case 0:
            future = kvs_future_then(future, tree_then, arg);
            break;
        case 1:
            future = kvs_future_map(future, tree_map, arg, free);
            break;
        default:
            future = kvs_future_timeout(future, (int64_t)rand_below(rand, 4));
        }
    }
    return future;
}

static kvs_future *tree_new(struct rand *rand, struct tree_arg *arg)
{
    kvs_future *branches[4];
    size_t count = 1 + rand_below(rand, 4);
    for (size_t i = 0; i < count; i++)
        branches[i] = wrapped(leaf(rand_u64(rand)), rand, arg);
    kvs_future *tree = rand_below(rand, 2) == 0 ? kvs_future_all(runtime, branches, count)
                                                : kvs_future_any(runtime, branches, count);
    return wrapped(tree, rand, arg);
}

static void tree_callback(kvs_future *future, void *arg)
{
    const struct tree_arg *tree = arg;
    assert_int_equal(*tree->alive, 77);
    assert_true(kvs_future_is_ready(future));
}

static void *trees_main(void *arg)
{
    struct rand rand = rand_seed(atomic_fetch_add((_Atomic uint64_t *)arg, 1));
    for (int i = 0; i < 250; i++) {
        struct tree_arg tree = {.alive = malloc(sizeof *tree.alive), .dice = rand_u64(&rand)};
        *tree.alive = 77;
        kvs_future *future = tree_new(&rand, &tree);
        if (rand_below(&rand, 3) == 0)
            kvs_future_on_ready(future, tree_callback, &tree);
        uint64_t dice = rand_below(&rand, 4);
        if (dice == 0)
            kvs_future_cancel(future);
        if (dice <= 1)
            kvs_future_wait(future, dice == 0 ? -1 : 1);
        if (dice == 2)
            sched_yield();
        kvs_future_free(future);
        *tree.alive = 0;
        free(tree.alive);
    }
    return NULL;
}

static void test_random_trees(void **state)
{
    (void)state;
    _Atomic uint64_t seed = test_seed(); /* of the next thread */
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(thread_start(&threads[i], "trees", trees_main, &seed), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

#ifdef KVS_FAULTS

static kvs_future *compose_of(int kind)
{
    kvs_future *inputs[] = {manual_new(runtime), manual_new(runtime)};
    if (kind >= 2) {
        fault_arm(FAULT_ALLOC, 1, false);
        return kind == 2 ? kvs_future_all(runtime, inputs, 2) : kvs_future_any(runtime, inputs, 2);
    }
    kvs_future_free(inputs[1]);
    fault_arm(FAULT_ALLOC, 1, false);
    return kind == 0 ? kvs_future_then(inputs[0], then_never, NULL)
                     : kvs_future_map(inputs[0], map_copy, NULL, free);
}

static void test_no_memory(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        assert_null(compose_of(kind));
        fault_reset();
    }
    for (uint64_t at = 1; at <= 2; at++) { /* the delay, then the composed future */
        kvs_future *input = manual_new(runtime);
        fault_arm(FAULT_ALLOC, at, false);
        assert_null(kvs_future_timeout(input, 1000));
        fault_reset();
    }
    /* All inputs were freed: the end of the runtime counts them. */
}

#endif

#define with_runtime(test) cmocka_unit_test_setup_teardown(test, runtime_setup, runtime_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_runtime(test_then),
        with_runtime(test_then_cancelled),
        with_runtime(test_wrong_inputs),
        with_runtime(test_long_chains),
        with_runtime(test_map),
        with_runtime(test_all),
        with_runtime(test_all_fails_with_the_first_error),
        with_runtime(test_all_cancelled),
        with_runtime(test_many_that_do_not_give_up),
        with_runtime(test_any),
        with_runtime(test_timeout),
        with_runtime(test_free_waits_for_a_running_function),
        with_runtime(test_free_inside_the_function),
        with_runtime(test_end_of_the_runtime),
        with_runtime(test_random_trees),
#ifdef KVS_FAULTS
        with_runtime(test_no_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * runtime/runtime.c: the three ways to run loops, driven as a program would; what free waits for;
 * wrong options; with faults compiled in, constructors without memory or threads.
 */
#include "runtime/runtime.h"

#include "base/fault.h"

#include <kvs/error.h>
#include <kvs/future.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/resource.h>
#include <unistd.h>

#include "test.h"

static void test_options(void **state)
{
    (void)state;
    kvs_runtime *runtime = NULL;
    struct kvs_runtime_options options = {.size = 3};
    assert_int_equal(kvs_runtime_new(&options, &runtime), KVS_ERR_INVALID_ARGUMENT);
    options.size = sizeof options + 8;
    assert_int_equal(kvs_runtime_new(&options, &runtime), KVS_ERR_INVALID_ARGUMENT);
    options = (struct kvs_runtime_options){.size = sizeof options, .loops = 257};
    assert_int_equal(kvs_runtime_new(&options, &runtime), KVS_ERR_INVALID_ARGUMENT);
    options = (struct kvs_runtime_options){.size = sizeof options, .pool_threads = 5000};
    assert_int_equal(kvs_runtime_new(&options, &runtime), KVS_ERR_INVALID_ARGUMENT);
    options = (struct kvs_runtime_options){.size = sizeof options, .loops = 2};
    assert_int_equal(kvs_runtime_new_polled(&options, &runtime), KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(kvs_runtime_new_on_uv(NULL, NULL, &runtime), KVS_ERR_INVALID_ARGUMENT);
    assert_null(runtime);
    kvs_runtime_free(NULL);
    /* A caller built with a shorter structure: what it does not know is the default. */
    options = (struct kvs_runtime_options){.size = 8, .loops = 3, .pool_threads = 5000};
    assert_int_equal(kvs_runtime_new(&options, &runtime), 0);
    assert_int_equal(kvs_thread_pool_threads(kvs_runtime_pool(runtime)), 4);
    assert_int_equal(kvs_runtime_fd(runtime), -1);
    assert_int_equal(kvs_runtime_poll_timeout_ms(runtime), -1);
    kvs_runtime_poll(runtime); /* of no use here, and harmless */
    kvs_runtime_free(runtime);
}

static void test_loops_in_turn_and_shared_pool(void **state)
{
    (void)state;
    kvs_thread_pool *pool;
    assert_int_equal(kvs_thread_pool_new(KVS_THREAD_POOL_WORK_STEALING, 2, &pool), 0);
    struct kvs_runtime_options options = {.size = sizeof options, .loops = 3, .pool = pool};
    kvs_runtime *runtime, *other;
    assert_int_equal(kvs_runtime_new(&options, &runtime), 0);
    assert_int_equal(kvs_runtime_new(&options, &other), 0);
    kvs_thread_pool_unref(pool);
    assert_ptr_equal(kvs_runtime_pool(runtime), pool);
    struct loop *first = runtime_pick_loop(runtime);
    struct loop *second = runtime_pick_loop(runtime);
    struct loop *third = runtime_pick_loop(runtime);
    assert_true(first != second && second != third && first != third);
    assert_ptr_equal(runtime_pick_loop(runtime), first);
    assert_false(runtime_is_hosted(runtime));
    assert_false(runtime_is_current(runtime));
    kvs_runtime_free(runtime);
    assert_ptr_equal(kvs_runtime_pool(other), pool);
    kvs_runtime_free(other);
}

/* What a callback found. */
struct found {
    kvs_runtime *runtime;
    unsigned calls;
    bool on_loop;
    int wait_error;
    sem_t called;
};

static void note(kvs_future *future, void *arg)
{
    struct found *found = arg;
    found->calls++;
    found->on_loop = runtime_is_current(found->runtime);
    kvs_future *never = kvs_future_delay(found->runtime, 3600 * 1000);
    found->wait_error = kvs_future_wait(never, -1);
    kvs_future_free(never);
    kvs_runtime_free(NULL);
    kvs_future_free(future);
    sem_post(&found->called);
}

static void test_own_threads(void **state)
{
    (void)state;
    struct found found = {0};
    sem_init(&found.called, 0, 0);
    assert_int_equal(kvs_runtime_new(NULL, &found.runtime), 0);
    assert_int_equal(kvs_future_on_ready(kvs_future_delay(found.runtime, 1), note, &found), 0);
    while (sem_wait(&found.called) != 0) {
    }
    kvs_runtime_free(found.runtime);
    assert_int_equal(found.calls, 1);
    assert_true(found.on_loop);
    assert_int_equal(found.wait_error, KVS_ERR_INVALID_ARGUMENT);
}

static void test_free_waits_for_what_is_under_way(void **state)
{
    (void)state;
    struct found found = {0};
    sem_init(&found.called, 0, 0);
    struct kvs_runtime_options options = {.size = sizeof options, .loops = 3};
    assert_int_equal(kvs_runtime_new(&options, &found.runtime), 0);
    enum { COUNT = 100 };
    kvs_future *kept[COUNT];
    for (int i = 0; i < COUNT; i++)
        kept[i] = kvs_future_delay(found.runtime, 3600 * 1000);
    kvs_runtime_free(found.runtime); /* ends all delays */
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(kvs_future_wait(kept[i], 0), KVS_ERR_CLOSED);
        kvs_future_free(kept[i]);
    }
}

static void test_free_delivers_callbacks(void **state)
{
    (void)state;
    struct found found = {0};
    sem_init(&found.called, 0, 0);
    assert_int_equal(kvs_runtime_new(NULL, &found.runtime), 0);
    assert_int_equal(
        kvs_future_on_ready(kvs_future_delay(found.runtime, 3600 * 1000), note, &found), 0);
    assert_int_equal(
        kvs_future_on_ready(kvs_future_ready(found.runtime, 0, NULL, NULL), note, &found), 0);
    kvs_runtime_free(found.runtime);
    assert_int_equal(found.calls, 2);
}

static void free_own_runtime(kvs_future *future, void *arg)
{
    struct found *found = arg;
    kvs_runtime_free(found->runtime); /* misuse: says so, does nothing */
    kvs_future_free(future);
    sem_post(&found->called);
}

static void test_free_in_a_callback_is_refused(void **state)
{
    (void)state;
    struct found found = {0};
    sem_init(&found.called, 0, 0);
    assert_int_equal(kvs_runtime_new(NULL, &found.runtime), 0);
    kvs_future *future = kvs_future_ready(found.runtime, 0, NULL, NULL);
    assert_int_equal(kvs_future_on_ready(future, free_own_runtime, &found), 0);
    while (sem_wait(&found.called) != 0) {
    }
    kvs_runtime_free(found.runtime);
}

/* Drives a polled runtime as a program with a poll(2) loop would. */
static void poll_until(kvs_runtime *runtime, const unsigned *count, unsigned wanted)
{
    while (*count < wanted) {
        struct pollfd fd = {.fd = kvs_runtime_fd(runtime), .events = POLLIN};
        assert_true(poll(&fd, 1, kvs_runtime_poll_timeout_ms(runtime)) >= 0);
        kvs_runtime_poll(runtime);
    }
}

static void *complete_elsewhere(void *arg)
{
    struct found *found = arg;
    kvs_future *future = kvs_future_ready(found->runtime, 0, NULL, NULL);
    kvs_future_on_ready(future, note, found);
    return NULL;
}

/* A socket pair, to see that handles made in a callback of one poll are told to the descriptor. */
static struct {
    uv_pipe_t reader;
    int fds[2];
    unsigned reads, closes;
} wire;

static void wire_alloc(uv_handle_t *handle, size_t size, uv_buf_t *ret_buf)
{
    static char bytes[16];
    (void)handle;
    (void)size;
    *ret_buf = uv_buf_init(bytes, sizeof bytes);
}

static void wire_on_close(uv_handle_t *handle)
{
    (void)handle;
    wire.closes++;
}

static void wire_on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buf)
{
    (void)buf;
    if (size > 0) {
        wire.reads++;
        uv_close((uv_handle_t *)stream, wire_on_close);
    }
}

static void wire_open(struct task *task)
{
    (void)task;
    uv_pipe_open(&wire.reader, wire.fds[0]);
    uv_read_start((uv_stream_t *)&wire.reader, wire_alloc, wire_on_read);
}

static void test_polled(void **state)
{
    (void)state;
    struct found found = {0};
    sem_init(&found.called, 0, 0);
    assert_int_equal(kvs_runtime_new_polled(NULL, &found.runtime), 0);
    assert_true(kvs_runtime_fd(found.runtime) >= 0);
    /* Waiting on the thread that polls would wait for itself. */
    kvs_future *future = kvs_future_delay(found.runtime, 20);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(kvs_future_on_ready(future, note, &found), 0);
    kvs_runtime_poll(found.runtime);
    int timeout_ms = kvs_runtime_poll_timeout_ms(found.runtime);
    assert_true(timeout_ms >= 0 && timeout_ms <= 20);
    poll_until(found.runtime, &found.calls, 1);
    assert_true(found.on_loop);
    assert_false(runtime_is_current(found.runtime));
    for (unsigned i = 0; i < 50; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, complete_elsewhere, &found);
        poll_until(found.runtime, &found.calls, i + 2);
        pthread_join(thread, NULL);
    }
    while (kvs_runtime_poll_timeout_ms(found.runtime) >= 0) /* nothing is left over */
        kvs_runtime_poll(found.runtime);
    struct task open = {.run = wire_open};
    struct loop *loop = runtime_pick_loop(found.runtime);
    assert_int_equal(pipe(wire.fds), 0);
    uv_pipe_init(loop->uv, &wire.reader, 0);
    loop_post(loop, &open);
    kvs_runtime_poll(found.runtime); /* opens it */
    assert_int_equal(write(wire.fds[1], "x", 1), 1);
    poll_until(found.runtime, &wire.closes, 1);
    assert_int_equal(wire.reads, 1);
    close(wire.fds[1]);
    /* Free turns the loop until everything is over. */
    assert_int_equal(
        kvs_future_on_ready(kvs_future_delay(found.runtime, 3600 * 1000), note, &found), 0);
    kvs_runtime_free(found.runtime);
    assert_int_equal(found.calls, 52);
}

struct host {
    uv_loop_t uv;
    kvs_runtime *runtime;
    unsigned calls;
    bool same_thread;
    pthread_t thread;
};

static void host_free_runtime(kvs_future *future, void *arg)
{
    struct host *host = arg;
    host->calls++;
    host->same_thread = pthread_equal(pthread_self(), host->thread);
    kvs_runtime_free(host->runtime);
    kvs_future_free(future);
}

static void *host_call(void *arg)
{
    struct host *host = arg;
    kvs_future *future = kvs_future_delay(host->runtime, 2);
    assert_int_equal(kvs_future_wait(future, -1), 0); /* another thread may wait */
    kvs_future_on_ready(future, host_free_runtime, host);
    return NULL;
}

static void test_hosted(void **state)
{
    (void)state;
    struct host host = {.thread = pthread_self()};
    assert_int_equal(uv_loop_init(&host.uv), 0);
    assert_int_equal(kvs_runtime_new_on_uv(&host.uv, NULL, &host.runtime), 0);
    assert_true(runtime_is_hosted(host.runtime));
    assert_int_equal(kvs_runtime_fd(host.runtime), -1);
    kvs_future *future = kvs_future_delay(host.runtime, 3600 * 1000);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_INVALID_ARGUMENT);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, host_call, &host), 0);
    uv_run(&host.uv, UV_RUN_DEFAULT); /* ends when the runtime's handles are closed */
    pthread_join(thread, NULL);
    assert_int_equal(host.calls, 1);
    assert_true(host.same_thread);
    assert_int_equal(kvs_future_wait(future, 0), KVS_ERR_CLOSED);
    kvs_future_free(future);
    assert_int_equal(uv_loop_close(&host.uv), 0);
}

static void test_no_descriptors(void **state)
{
    (void)state;
    struct rlimit before, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct kvs_runtime_options options = {.size = sizeof options, .loops = 8};
    for (rlim_t more = 0; more < 30; more += 3) {
        int next = dup(0);
        close(next);
        few = before;
        few.rlim_cur = (rlim_t)next + more;
        kvs_runtime *runtime = NULL;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        int error = kvs_runtime_new(&options, &runtime);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_true(error == 0 || error == KVS_ERR_TOO_MANY_FILES);
        assert_true((error == 0) == (runtime != NULL));
        assert_true(more > 3 || error != 0);
        kvs_runtime_free(runtime);
    }
}

#ifdef KVS_FAULTS

static int runtime_new_of(int mode, uv_loop_t *host, kvs_runtime **ret_runtime)
{
    struct kvs_runtime_options options = {.size = sizeof options, .loops = mode == 0 ? 3 : 1};
    if (mode == 0)
        return kvs_runtime_new(&options, ret_runtime);
    if (mode == 1)
        return kvs_runtime_new_polled(&options, ret_runtime);
    return kvs_runtime_new_on_uv(host, &options, ret_runtime);
}

static void test_constructors_without_memory_or_threads(void **state)
{
    (void)state;
    const enum fault_kind faults[] = {FAULT_ALLOC, FAULT_THREAD_START};
    uv_loop_t host;
    uv_loop_init(&host);
    for (int mode = 0; mode < 3; mode++) {
        for (int fault = 0; fault < 2; fault++) {
            bool failed = true;
            for (uint64_t at = 1; failed; at++) {
                kvs_runtime *runtime = NULL;
                fault_reset();
                fault_arm(faults[fault], at, false);
                int error = runtime_new_of(mode, &host, &runtime);
                failed = fault_fired() > 0;
                fault_reset();
                assert_int_equal(error, failed ? KVS_ERR_NO_MEMORY : 0);
                assert_true((runtime == NULL) == failed);
                kvs_runtime_free(runtime);
            }
        }
    }
    uv_run(&host, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&host), 0);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_loops_in_turn_and_shared_pool),
        cmocka_unit_test(test_own_threads),
        cmocka_unit_test(test_free_waits_for_what_is_under_way),
        cmocka_unit_test(test_free_delivers_callbacks),
        cmocka_unit_test(test_free_in_a_callback_is_refused),
        cmocka_unit_test(test_polled),
        cmocka_unit_test(test_hosted),
        cmocka_unit_test(test_no_descriptors),
#ifdef KVS_FAULTS
        cmocka_unit_test(test_constructors_without_memory_or_threads),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

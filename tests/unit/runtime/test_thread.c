/*
 * runtime/thread.c: a thread that steps back is scheduled behind others, and keeps what it was
 * given before where that was less.
 */
#include "runtime/thread.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test.h"

/* sched_getattr(2), which the C library does not declare; what we ask for comes first. */
struct attributes {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns;
    uint64_t deadline_ns;
    uint64_t period_ns;
};

static struct attributes attributes_get(void)
{
    struct attributes attributes = {0};
    assert_int_equal(syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0), 0);
    return attributes;
}

static void run(void *(*main)(void *))
{
    pthread_t thread;
    assert_int_equal(thread_start(&thread, "steps-back", main, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void *steps_back(void *arg)
{
    int before = getpriority(PRIO_PROCESS, (id_t)gettid());
    thread_step_back();
    thread_step_back();
    struct attributes now = attributes_get();
    assert_int_equal(now.policy, SCHED_BATCH);
    assert_int_equal(now.nice, before > 5 ? before : 5);
    if (now.runtime_ns != 0) /* Linux 6.12 and later tell a slice */
        assert_int_equal(now.runtime_ns, 100000000);
    return arg;
}

static void test_step_back(void **state)
{
    (void)state;
    run(steps_back);
}

static void *gives_way(void *arg)
{
    struct attributes before = attributes_get();
    thread_give_way();
    struct attributes now = attributes_get();
    assert_int_equal(now.policy, before.policy == SCHED_BATCH ? SCHED_BATCH : SCHED_OTHER);
    assert_int_equal(now.nice, before.nice);
    if (now.runtime_ns != 0)
        assert_int_equal(now.runtime_ns, 100000000);
    return arg;
}

static void test_give_way(void **state)
{
    (void)state;
    run(gives_way);
}

static void *is_far_back(void *arg)
{
    assert_int_equal(setpriority(PRIO_PROCESS, (id_t)gettid(), 15), 0);
    thread_step_back();
    assert_int_equal(attributes_get().nice, 15);
    return arg;
}

static void *is_idle(void *arg)
{
    const struct sched_param none = {0};
    assert_int_equal(pthread_setschedparam(pthread_self(), SCHED_IDLE, &none), 0);
    thread_give_way();
    thread_step_back();
    assert_int_equal(attributes_get().policy, SCHED_IDLE);
    return arg;
}

static void test_nobody_is_put_forward(void **state)
{
    (void)state;
    run(is_far_back);
    run(is_idle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_give_way),
        cmocka_unit_test(test_step_back),
        cmocka_unit_test(test_nobody_is_put_forward),
    };
    return cmocka_run_group_tests_name("thread", tests, NULL, NULL);
}

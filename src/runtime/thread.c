/* runtime/thread.c: see runtime/thread.h. */
#include "runtime/thread.h"

#include "base/fault.h"

#include <kvs/error.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BACKGROUND_NICE 5
/* The longest there is. Linux lets who wakes up wait for the slice of who runs (2.8 ms and, where
 * there is no other clock, up to a tick of 4 ms), unless that one's is longer than his own. */
#define LONG_SLICE_NS (100u * 1000 * 1000)

/* As sched_setattr(2) takes it; the C library has no declaration yet. */
struct scheduling {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t slice_ns; /* since Linux 6.12; before it, nobody looks at it */
    uint64_t deadline_ns;
    uint64_t period_ns;
};

int thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *), void *arg)
{
    if (fault_hit(FAULT_THREAD_START))
        return KVS_ERR_NO_MEMORY;
    sigset_t blocked, before;
    sigfillset(&blocked);
    /* A fault of the thread itself reaches the program's handler; profilers sample by SIGPROF. */
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGILL);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGABRT);
    sigdelset(&blocked, SIGTRAP);
    sigdelset(&blocked, SIGPROF);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    int status = pthread_create(ret_thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (status != 0)
        return KVS_ERR_NO_MEMORY; /* EAGAIN: no room for a stack, or a limit on threads */
    if (name != NULL)
        pthread_setname_np(*ret_thread, name); /* for tools only: a failure changes nothing */
    return 0;
}

static bool schedule_as(uint32_t policy, int nice)
{
    const struct scheduling wish = {
        .size = sizeof wish,
        .policy = policy,
        .nice = nice,
        .slice_ns = LONG_SLICE_NS,
    };
    return syscall(SYS_sched_setattr, 0, &wish, 0) == 0;
}

static int nice_now(void)
{
    return getpriority(PRIO_PROCESS, (id_t)gettid());
}

void thread_give_way(void)
{
    int policy = sched_getscheduler(0);
    if (policy != SCHED_IDLE)
        (void)schedule_as(policy == SCHED_BATCH ? SCHED_BATCH : SCHED_OTHER, nice_now());
}

void thread_step_back(void)
{
    static _Thread_local bool is_back;
    if (is_back || sched_getscheduler(0) == SCHED_IDLE)
        return;
    is_back = true;
    int nice = nice_now();
    if (nice < BACKGROUND_NICE)
        nice = BACKGROUND_NICE;
    if (schedule_as(SCHED_BATCH, nice))
        return;
    /* Not there, or not allowed: as much of it as can be had. */
    const struct sched_param none = {0};
    (void)pthread_setschedparam(pthread_self(), SCHED_BATCH, &none);
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), nice);
}

/*
 * bench/engine/machine.c: how late the machine itself lets a thread be that has nothing to do but
 * to look at the clock at a fixed rate, alone and beside a busy thread in the background.
 *
 * Sets beside a compaction keep two processors busy, and so does the latter; what a host takes of
 * them, and whom else the system lets run, is no store's.
 */
#include "base/clock.h"
#include "bench/engine/bench.h"
#include "runtime/thread.h"

#include <pthread.h>
#include <time.h>

static void *busy_main(void *arg)
{
    const _Atomic bool *stop = arg;
    thread_step_back();
    while (!atomic_load_explicit(stop, memory_order_relaxed)) {
    }
    return NULL;
}

void machine_lateness(uint64_t interval_ns, double seconds, bool beside_busy,
                      struct histogram *ret_lateness)
{
    _Atomic bool stop = false;
    pthread_t busy;
    bool is_beside = beside_busy && pthread_create(&busy, NULL, busy_main, &stop) == 0;
    uint64_t due_ns = clock_now_ns() + interval_ns;
    uint64_t end_ns = due_ns + (uint64_t)(seconds * 1e9);
    while (due_ns < end_ns) {
        const struct timespec time = {.tv_sec = (time_t)(due_ns / 1000000000),
                                      .tv_nsec = (long)(due_ns % 1000000000)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
        uint64_t now_ns = clock_now_ns();
        for (; due_ns <= now_ns; due_ns += interval_ns)
            histogram_record(ret_lateness, now_ns - due_ns);
    }
    atomic_store_explicit(&stop, true, memory_order_relaxed);
    if (is_beside)
        pthread_join(busy, NULL);
}

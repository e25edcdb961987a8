/* base/fault.c: the counters behind the fault points; empty in builds without them. */
#include "base/fault.h"

#ifdef KVS_FAULTS

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Relaxed everywhere: a test arms before the work begins and reads after its threads are joined. */
static struct {
    _Atomic uint64_t hits;
    _Atomic uint64_t at; /* 0: not armed */
    _Atomic bool from_then_on;
} points[FAULT_KINDS];
static _Atomic uint64_t fired;

bool fault_hit(enum fault_kind kind)
{
    uint64_t hit = atomic_fetch_add_explicit(&points[kind].hits, 1, memory_order_relaxed) + 1;
    uint64_t at = atomic_load_explicit(&points[kind].at, memory_order_relaxed);
    if (at == 0 || hit < at)
        return false;
    if (hit > at && !atomic_load_explicit(&points[kind].from_then_on, memory_order_relaxed))
        return false;
    atomic_fetch_add_explicit(&fired, 1, memory_order_relaxed);
    return true;
}

void fault_arm(enum fault_kind kind, uint64_t at, bool from_then_on)
{
    atomic_store_explicit(&points[kind].from_then_on, from_then_on, memory_order_relaxed);
    atomic_store_explicit(&points[kind].hits, 0, memory_order_relaxed);
    atomic_store_explicit(&points[kind].at, at, memory_order_relaxed);
}

void fault_reset(void)
{
    for (int i = 0; i < FAULT_KINDS; i++)
        fault_arm((enum fault_kind)i, 0, false);
    atomic_store_explicit(&fired, 0, memory_order_relaxed);
}

uint64_t fault_hits(enum fault_kind kind)
{
    return atomic_load_explicit(&points[kind].hits, memory_order_relaxed);
}

uint64_t fault_fired(void)
{
    return atomic_load_explicit(&fired, memory_order_relaxed);
}

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_there;
    uint64_t steps;   /* left; UINT64_MAX: all */
    unsigned waiting; /* threads */
} gate = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void gate_change(bool is_there, uint64_t steps)
{
    pthread_mutex_lock(&gate.mutex);
    gate.is_there = is_there;
    gate.steps = steps;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.mutex);
}

void fault_gate_set(uint64_t steps)
{
    gate_change(true, steps);
}

void fault_gate_remove(void)
{
    gate_change(false, UINT64_MAX);
}

bool fault_gate_is_there(void)
{
    pthread_mutex_lock(&gate.mutex);
    bool is_there = gate.is_there;
    pthread_mutex_unlock(&gate.mutex);
    return is_there || getenv("KVS_TEST_GATE") != NULL;
}

bool fault_gate_holds(void)
{
    pthread_mutex_lock(&gate.mutex);
    bool holds = gate.is_there && gate.steps == 0 && gate.waiting > 0;
    pthread_mutex_unlock(&gate.mutex);
    return holds;
}

void fault_gate_pass(void)
{
    pthread_mutex_lock(&gate.mutex);
    gate.waiting++;
    while (gate.is_there && gate.steps == 0)
        pthread_cond_wait(&gate.changed, &gate.mutex);
    gate.waiting--;
    if (gate.is_there && gate.steps != UINT64_MAX)
        gate.steps--;
    pthread_mutex_unlock(&gate.mutex);
}

#endif

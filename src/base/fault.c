/* base/fault.c: the counters behind the fault points; empty in builds without them. */
#include "base/fault.h"

#ifdef KVS_FAULTS

#include <stdatomic.h>

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

#endif

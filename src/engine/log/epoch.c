/*
 * engine/log/epoch.c: see engine/log/epoch.h.
 *
 * Why it is right: a reader stores its epoch (sequentially consistent) and then loads the root. The
 * writer stores the root, advances the epoch, and then loads the slots (all sequentially
 * consistent). If the writer misses the reader's store, the reader's load of the root comes after
 * the writer's store of it, so the reader sees the new root and none of what was unlinked.
 */
#include "engine/log/epoch.h"

#include <sched.h>
#include <stdbool.h>

void epoch_init(struct epoch *epoch)
{
    for (unsigned i = 0; i < EPOCH_SLOTS; i++)
        atomic_init(&epoch->slots[i].entered, 0);
    atomic_init(&epoch->now, 1);
    atomic_init(&epoch->slots_used, 0);
}

static bool slot_claim(struct epoch *epoch, unsigned slot)
{
    uint64_t free = 0;
    if (atomic_load_explicit(&epoch->slots[slot].entered, memory_order_relaxed) != 0)
        return false;
    uint64_t now = atomic_load_explicit(&epoch->now, memory_order_seq_cst);
    return atomic_compare_exchange_strong_explicit(&epoch->slots[slot].entered, &free, now,
                                                   memory_order_seq_cst, memory_order_relaxed);
}

/* Slots below the mark are scanned by the writer: raise it before the slot is claimed. */
static void slots_used_raise(struct epoch *epoch, unsigned slot)
{
    uint32_t used = atomic_load_explicit(&epoch->slots_used, memory_order_seq_cst);
    while (used <= slot &&
           !atomic_compare_exchange_weak_explicit(&epoch->slots_used, &used, slot + 1,
                                                  memory_order_seq_cst, memory_order_seq_cst)) {
    }
}

unsigned epoch_enter(struct epoch *epoch)
{
    static _Thread_local unsigned hint; /* only where to look first; any value is right */
    for (;;) {
        for (unsigned i = 0; i < EPOCH_SLOTS; i++) {
            unsigned slot = (hint + i) % EPOCH_SLOTS;
            if (atomic_load_explicit(&epoch->slots_used, memory_order_seq_cst) <= slot)
                slots_used_raise(epoch, slot);
            if (slot_claim(epoch, slot)) {
                hint = slot;
                return slot;
            }
        }
        sched_yield();
    }
}

uint64_t epoch_oldest(struct epoch *epoch)
{
    uint64_t oldest = atomic_load_explicit(&epoch->now, memory_order_seq_cst);
    uint32_t used = atomic_load_explicit(&epoch->slots_used, memory_order_seq_cst);
    for (uint32_t i = 0; i < used; i++) {
        uint64_t entered = atomic_load_explicit(&epoch->slots[i].entered, memory_order_seq_cst);
        if (entered != 0 && entered < oldest)
            oldest = entered;
    }
    /* acquire: pairs with the release in epoch_leave of the readers that are gone. */
    atomic_thread_fence(memory_order_acquire);
    return oldest;
}

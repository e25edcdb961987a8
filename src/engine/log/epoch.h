/*
 * engine/log/epoch.h: when may memory that readers could still see be freed?
 *
 * A reader enters, takes the current root, reads, and leaves; it never waits. The writer publishes
 * a new root, then advances the epoch; what it unlinked with that root may be freed once every
 * reader that is inside entered later: epoch_oldest says which epoch the oldest reader is in.
 *
 * Slots are claimed by one compare-and-swap, usually the thread's own slot of last time. With more
 * than EPOCH_SLOTS readers inside at once a further one yields until a slot is free.
 */
#ifndef ENGINE_LOG_EPOCH_H
#define ENGINE_LOG_EPOCH_H

#include <stdatomic.h>
#include <stdint.h>

#define EPOCH_SLOTS 256u

struct epoch_slot {
    _Alignas(64) _Atomic uint64_t entered; /* 0: free */
};

struct epoch {
    struct epoch_slot slots[EPOCH_SLOTS];
    _Alignas(64) _Atomic uint64_t now; /* from 1 */
    _Atomic uint32_t slots_used;       /* slots at and above were never claimed */
};

void epoch_init(struct epoch *epoch);

/* Enters; the slot is for epoch_leave. Any thread; nests by taking another slot. */
unsigned epoch_enter(struct epoch *epoch);

static inline void epoch_leave(struct epoch *epoch, unsigned slot)
{
    /* release: what the reader read is read before the writer sees it gone (acquire in oldest). */
    atomic_store_explicit(&epoch->slots[slot].entered, 0, memory_order_release);
}

/* The writer, after publishing: the epoch to tag what was unlinked with; the next one begins. */
static inline uint64_t epoch_advance(struct epoch *epoch)
{
    return atomic_fetch_add_explicit(&epoch->now, 1, memory_order_seq_cst);
}

/* The writer: things tagged with less than this can be seen by no one. */
uint64_t epoch_oldest(struct epoch *epoch);

#endif

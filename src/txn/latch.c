/* txn/latch.c: see the header. */
#include "txn/latch.h"

#include "base/checksum.h"
#include "base/mem.h"

#include <kvs/error.h>
#include <stdlib.h>

#define SORT_BY_HAND_MAX 16u

int latches_init(struct latches *latches)
{
    latches->slots = mem_zalloc(LATCH_SLOTS * sizeof latches->slots[0]);
    if (latches->slots == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < LATCH_QUEUES; i++)
        pthread_mutex_init(&latches->queues[i], NULL);
    return 0;
}

void latches_deinit(struct latches *latches)
{
    for (uint32_t i = 0; i < LATCH_QUEUES; i++)
        pthread_mutex_destroy(&latches->queues[i]);
    mem_free((void *)latches->slots);
}

/* --- claims ----------------------------------------------------------------------------------- */

static int slot_compare(const void *a, const void *b)
{
    return (int)*(const uint16_t *)a - (int)*(const uint16_t *)b;
}

/* Of few: by insertion. */
static void slots_sort(uint16_t *slots, uint32_t count)
{
    if (count > SORT_BY_HAND_MAX) {
        qsort(slots, count, sizeof slots[0], slot_compare);
        return;
    }
    for (uint32_t i = 1; i < count; i++) {
        uint16_t slot = slots[i];
        uint32_t at = i;
        for (; at > 0 && slots[at - 1] > slot; at--)
            slots[at] = slots[at - 1];
        slots[at] = slot;
    }
}

/* Ascending, each once. */
static void claim_sort(struct latch_claim *claim)
{
    if (claim->count < 2)
        return;
    slots_sort(claim->slots, claim->count);
    uint32_t kept = 1;
    for (uint32_t i = 1; i < claim->count; i++) {
        if (claim->slots[i] != claim->slots[kept - 1])
            claim->slots[kept++] = claim->slots[i];
    }
    claim->count = kept;
}

static int claim_room(struct latch_claim *claim, struct arena *arena, uint32_t count)
{
    claim->slots = claim->own;
    if (count > LATCH_SLOTS_OWN)
        claim->slots = arena_alloc(arena, count * sizeof claim->slots[0]);
    claim->count = 0;
    claim->held = 0;
    return claim->slots != NULL ? 0 : KVS_ERR_NO_MEMORY;
}

int latch_claim_set(struct latch_claim *claim, struct arena *arena, const kvs_slice *keys,
                    uint32_t count)
{
    int error = claim_room(claim, arena, count);
    if (error != 0)
        return error;
    for (uint32_t i = 0; i < count; i++)
        claim->slots[i] = (uint16_t)(checksum(keys[i].data, keys[i].size) % LATCH_SLOTS);
    claim->count = count;
    claim_sort(claim);
    return 0;
}

int latch_claim_set_all(struct latch_claim *claim, struct arena *arena)
{
    int error = claim_room(claim, arena, LATCH_SLOTS);
    if (error != 0)
        return error;
    for (uint32_t i = 0; i < LATCH_SLOTS; i++)
        claim->slots[i] = (uint16_t)i;
    claim->count = LATCH_SLOTS;
    return 0;
}

/* --- taking and giving back ------------------------------------------------------------------- */

static bool slot_exchange(_Atomic uintptr_t *slot, uintptr_t from, uintptr_t to)
{
    /* acq_rel: who takes a slot sees what those did who had it before. */
    return atomic_compare_exchange_strong_explicit(slot, &from, to, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

static pthread_mutex_t *queue_of(struct latches *latches, uint16_t slot)
{
    return &latches->queues[slot % LATCH_QUEUES];
}

/* Takes the slot, or joins its queue: false. */
static bool slot_take_or_wait(struct latches *latches, uint16_t at, struct latch_claim *claim)
{
    _Atomic uintptr_t *slot = &latches->slots[at];
    bool is_got = false;
    bool is_in_queue = false;
    pthread_mutex_lock(queue_of(latches, at));
    while (!is_got && !is_in_queue) {
        /* relaxed: while there is a queue, the mutex guards the word. */
        uintptr_t now = atomic_load_explicit(slot, memory_order_relaxed);
        if (now == LATCH_FREE) {
            is_got = slot_exchange(slot, LATCH_FREE, LATCH_TAKEN);
            continue;
        }
        struct latch_claim *last = (struct latch_claim *)now;
        claim->next = now == LATCH_TAKEN ? claim : last->next;
        is_in_queue = slot_exchange(slot, now, (uintptr_t)claim);
        if (is_in_queue && now != LATCH_TAKEN)
            last->next = claim;
    }
    pthread_mutex_unlock(queue_of(latches, at));
    return is_got;
}

bool latch_acquire(struct latches *latches, struct latch_claim *claim)
{
    while (claim->held < claim->count) {
        uint16_t at = claim->slots[claim->held];
        if (slot_exchange(&latches->slots[at], LATCH_FREE, LATCH_TAKEN)) {
            claim->held++;
            continue;
        }
        if (!slot_take_or_wait(latches, at, claim))
            return false; /* the claim is the queue's: not to be touched any more */
        claim->held++;
    }
    return true;
}

/* The slot goes to the one who has waited longest, if there is one. */
static struct latch_claim *slot_pass_on(struct latches *latches, uint16_t at)
{
    _Atomic uintptr_t *slot = &latches->slots[at];
    if (slot_exchange(slot, LATCH_TAKEN, LATCH_FREE))
        return NULL;
    pthread_mutex_lock(queue_of(latches, at));
    /* relaxed: the mutex guards it. */
    struct latch_claim *last =
        (struct latch_claim *)atomic_load_explicit(slot, memory_order_relaxed);
    struct latch_claim *first = last->next;
    last->next = first->next;
    if (first == last)
        atomic_store_explicit(slot, LATCH_TAKEN, memory_order_release); /* by `first` */
    pthread_mutex_unlock(queue_of(latches, at));
    return first;
}

void latch_release(struct latches *latches, struct latch_claim *claim, struct task_list *granted)
{
    for (uint32_t i = 0; i < claim->held; i++) {
        struct latch_claim *next = slot_pass_on(latches, claim->slots[i]);
        if (next == NULL)
            continue;
        next->held++;
        if (latch_acquire(latches, next))
            task_list_push(granted, &next->task);
    }
    claim->held = 0;
}

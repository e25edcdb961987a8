/* txn/latch.c: see the header. */
#include "txn/latch.h"

#include "base/checksum.h"

#include <kvs/error.h>
#include <stdlib.h>

void latches_init(struct latches *latches)
{
    for (uint32_t i = 0; i < LATCH_SLOTS; i++) {
        latches->slots[i] = (struct latch_slot){0};
        pthread_mutex_init(&latches->slots[i].mutex, NULL);
    }
}

void latches_deinit(struct latches *latches)
{
    for (uint32_t i = 0; i < LATCH_SLOTS; i++)
        pthread_mutex_destroy(&latches->slots[i].mutex);
}

/* --- claims ----------------------------------------------------------------------------------- */

static int slot_compare(const void *a, const void *b)
{
    return (int)*(const uint16_t *)a - (int)*(const uint16_t *)b;
}

/* Ascending, each once. */
static void claim_sort(struct latch_claim *claim)
{
    if (claim->count < 2)
        return;
    qsort(claim->slots, claim->count, sizeof claim->slots[0], slot_compare);
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

bool latch_acquire(struct latches *latches, struct latch_claim *claim)
{
    while (claim->held < claim->count) {
        struct latch_slot *slot = &latches->slots[claim->slots[claim->held]];
        pthread_mutex_lock(&slot->mutex);
        bool is_free = !slot->is_taken;
        if (is_free) {
            slot->is_taken = true;
            claim->held++;
        } else {
            claim->next = NULL;
            if (slot->last != NULL)
                slot->last->next = claim;
            else
                slot->first = claim;
            slot->last = claim;
        }
        pthread_mutex_unlock(&slot->mutex);
        if (!is_free)
            return false; /* the claim is the queue's: not to be touched any more */
    }
    return true;
}

/* The slot goes to the one who has waited longest, if there is one. */
static struct latch_claim *slot_pass_on(struct latch_slot *slot)
{
    pthread_mutex_lock(&slot->mutex);
    struct latch_claim *claim = slot->first;
    if (claim != NULL) {
        slot->first = claim->next;
        if (slot->first == NULL)
            slot->last = NULL;
    }
    slot->is_taken = claim != NULL;
    pthread_mutex_unlock(&slot->mutex);
    return claim;
}

void latch_release(struct latches *latches, struct latch_claim *claim, struct task_list *granted)
{
    for (uint32_t i = 0; i < claim->held; i++) {
        struct latch_claim *next = slot_pass_on(&latches->slots[claim->slots[i]]);
        if (next == NULL)
            continue;
        next->held++;
        if (latch_acquire(latches, next))
            task_list_push(granted, &next->task);
    }
    claim->held = 0;
}

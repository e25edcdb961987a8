/*
 * txn/latch.h: one command at a time on a key, and no lock that all commands take.
 *
 * Keys fall into LATCH_SLOTS slots by their hash. A command claims the slots of all its keys before
 * it reads what its checks need, and gives them back when its batch is in the engine. Slots are
 * taken in ascending order, so claims cannot wait for each other in a circle; each slot is given in
 * the order of arrival, so nobody waits for ever. Waiting blocks no thread: the claim lies in the
 * slot's queue.
 *
 * A slot is one word: free, taken, or taken with a queue behind it. Taking and giving back is one
 * exchange when nobody waits; who waits, or has somebody waiting, takes the mutex of its queue.
 *
 * Any thread; a claim is touched by one thread at a time.
 */
#ifndef TXN_LATCH_H
#define TXN_LATCH_H

#include "base/arena.h"
#include "runtime/task.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LATCH_SLOTS 65536u
#define LATCH_SLOTS_OWN 8u
#define LATCH_QUEUES 64u /* mutexes, each for every so many-th slot */

struct loop;

struct latch_claim {
    struct latch_claim *next; /* in the slot's queue */
    struct task task;         /* the owner's: given out when the last slot was got */
    struct loop *loop;        /* the owner's */
    uint16_t *slots;          /* ascending, each once */
    uint32_t count;
    uint32_t held; /* the first so many */
    uint16_t own[LATCH_SLOTS_OWN];
};

/* What a slot's word says; else it is the last of the claims that wait, whose next is the first. */
#define LATCH_FREE ((uintptr_t)0)
#define LATCH_TAKEN ((uintptr_t)1)

struct latches {
    _Atomic uintptr_t *slots;
    pthread_mutex_t queues[LATCH_QUEUES];
};

/* 0 or NO_MEMORY. */
int latches_init(struct latches *latches);
void latches_deinit(struct latches *latches);

/* What a claim is for; nothing is taken yet. 0 or NO_MEMORY. */
int latch_claim_set(struct latch_claim *claim, struct arena *arena, const kvs_slice *keys,
                    uint32_t count);
/* All slots. */
int latch_claim_set_all(struct latch_claim *claim, struct arena *arena);

/* True: all slots are held. Else the claim waits, and its task comes out of somebody's
 * latch_release; it may have run already when this returns. */
bool latch_acquire(struct latches *latches, struct latch_claim *claim);
/* Gives all back. `granted` gets the tasks of claims that hold all of theirs now. */
void latch_release(struct latches *latches, struct latch_claim *claim, struct task_list *granted);

#endif

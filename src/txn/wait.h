/*
 * txn/wait.h: commands that wait for a lock, and who waits for whom.
 *
 * 1. A command that holds the latch of a key and finds it locked enters the room; unless the wait
 *    would close a circle of transactions.
 * 2. It gives its latches back, and settles: only then may it be resumed.
 * 3. Whatever removes the lock, under the same latch, wakes the key once its batch is in the
 *    engine: the oldest transaction is resumed at once, the others of the key a little later.
 * 4. A resumed command tries again, and enters again if it has to; its deadline stays. If it gets
 *    by without locking the key, it wakes the key for the next.
 * 5. A pessimistic rollback ends the waits of its transaction for its keys, under their latches:
 *    nobody would give back what they got later. Who is woken is told when it has its latches.
 *
 * So no wake-up is lost: who registers under the latch is seen by who removes the lock after it.
 * Ends of waiting: WOKEN, TIMED_OUT, ROLLED_BACK, CANCELLED. Time is kept by a thread that starts
 * with the first wait. One mutex guards all; only commands that meet locks touch it.
 */
#ifndef TXN_WAIT_H
#define TXN_WAIT_H

#include "base/heap.h"
#include "base/list.h"
#include "txn/command.h"

#include <pthread.h>
#include <stdatomic.h>

#define WAIT_BUCKETS 256u
#define WAIT_TAG_SIZE_MAX 512u
#define WAIT_DEADLOCK (-1000) /* of wait_enter: never leaves src/txn */

enum wait_outcome {
    WAIT_NONE = 0,
    WAIT_WOKEN,
    WAIT_TIMED_OUT,
    WAIT_ROLLED_BACK,
    WAIT_CANCELLED,
};

struct waiter {
    /* set by the owner before it enters */
    kvs_slice key; /* the user's; borrowed while it waits */
    kvs_slice tag; /* likewise; for people */
    uint64_t start_ts;
    uint64_t for_update_ts;
    uint64_t lock_ts;        /* the transaction that has the lock; 0 when it is gone */
    const uint64_t *more_ts; /* others that share it; borrowed like the key */
    uint32_t more_count;
    uint64_t deadline_ns;
    bool holds_nothing;                    /* cannot be waited for */
    void (*resume)(struct waiter *waiter); /* any thread; posts only. The waiter is the owner's */
    /* the room's */
    enum wait_outcome outcome; /* valid when resumed, or when wait_settle says so */
    bool is_cancelled;
    bool is_inside;
    bool is_settled;
    bool is_rolled_back; /* since it was woken */
    uint32_t hash;
    struct list in_key; /* by key, oldest transaction first */
    struct list in_ts;  /* by start_ts, for the search of circles and rollbacks: until it arrives */
    struct heap_node timer;
    uint64_t search; /* the last one that met it */
    struct waiter *from;
    struct waiter *search_next;
};

struct wait_room {
    pthread_mutex_t mutex;
    pthread_cond_t wake; /* of the thread of time */
    pthread_t thread;
    bool has_thread;
    bool is_closing;
    bool is_closed_for_waits;
    struct list by_key[WAIT_BUCKETS];
    struct list by_ts[WAIT_BUCKETS];
    struct heap timers;
    uint64_t wake_others_ns;
    uint64_t searches;
    _Atomic uint64_t count; /* with those that were woken and have not arrived */
};

/* The others of a key are woken so much later than the first. */
void wait_room_init(struct wait_room *room, uint32_t wake_others_ms);
void wait_room_deinit(struct wait_room *room); /* nobody is inside */

/* 0: it is inside. WAIT_DEADLOCK, with the circle in `ret_error`; TIMEOUT: the deadline is over;
 * CANCELLED, NO_MEMORY. */
int wait_enter(struct wait_room *room, struct waiter *waiter, struct arena *arena,
               struct txn_key_error *ret_error);
/* True: `resume` will be called. False: the outcome is there already. */
bool wait_settle(struct wait_room *room, struct waiter *waiter);

static inline bool wait_room_is_empty(const struct wait_room *room)
{
    /* relaxed: who registered before under a latch of the caller's is seen by way of the latch. */
    return atomic_load_explicit(&room->count, memory_order_relaxed) == 0;
}

void wait_wake(struct wait_room *room, kvs_slice key);
void wait_wake_all(struct wait_room *room);
/* Ends the transaction's waits for the key, those of later requests than for_update_ts apart. The
 * key's latch is held. */
void wait_roll_back(struct wait_room *room, kvs_slice key, uint64_t start_ts,
                    uint64_t for_update_ts);
/* Each that was woken, once it holds its latches again. False: it was rolled back meanwhile. */
bool wait_arrive(struct wait_room *room, struct waiter *waiter);
/* Ends its wait, the one it is in or the next. */
void wait_cancel(struct wait_room *room, struct waiter *waiter);
/* Ends all waits, and those to come. */
void wait_cancel_all(struct wait_room *room);

/* Who waits now: at most count_max of them, in the arena. 0 or NO_MEMORY. */
int wait_list(struct wait_room *room, uint32_t count_max, struct arena *arena,
              struct txn_wait_entry **ret_entries, uint32_t *ret_count);

#endif

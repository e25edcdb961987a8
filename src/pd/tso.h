/*
 * pd/tso.h: the timestamp oracle: timestamps that never repeat and never go back.
 *
 * A timestamp is (physical << 18 | logical): milliseconds since 1970, and a number within the
 * millisecond. All that are given lie below a bound that is on the disk:
 *
 *   1. a request takes the next `count` numbers of the clock's millisecond, or of the last one
 *      given when the clock stands still or has gone back, or of the one after when 2^18 are used;
 *   2. while that lies below the bound it is answered on the spot;
 *   3. the bound is moved 3 s ahead when less than half of that is left; who meets it waits until
 *      the new one is on the disk;
 *   4. after a start the first timestamp lies at the old bound or later. An orderly end leaves a
 *      bound that is near (tso_put_end).
 *
 * Failures: the bound cannot be written: those that wait get the error; the next request tries
 * again. Threads: any; done is called on the request's loop.
 */
#ifndef PD_TSO_H
#define PD_TSO_H

#include "pd/meta_store.h"

#define TSO_LOGICAL_BITS 18u
#define TSO_COUNT_MAX (1u << TSO_LOGICAL_BITS)

struct timestamp {
    uint64_t physical; /* milliseconds */
    uint32_t logical;
};

struct tso;

struct tso_request {
    uint32_t count; /* 1 to TSO_COUNT_MAX */
    struct loop *loop;
    void (*done)(struct tso_request *request);

    struct timestamp last; /* of `count` */
    int error;
    struct task task;
    struct tso_request *next;
};

/* wall_ms: the clock; NULL: the machine's. */
int tso_open_blocking(struct meta_store *store, uint64_t (*wall_ms)(void), struct tso **ret_tso);
/* No request and no change is under way. */
void tso_free(struct tso *tso);

/* True: the last of `count` is in *ret_last. False: not now: ask with tso_wait. The loop is for the
 * bound's change, and outlives it. */
bool tso_take(struct tso *tso, uint32_t count, struct loop *loop, struct timestamp *ret_last);
/* Calls done, never inside this call; after those that wait already. */
void tso_wait(struct tso *tso, struct tso_request *request);

/* No timestamp that was given by now is higher; packed. */
uint64_t tso_given(const struct tso *tso);

/* All timestamps ever given have a physical part of less than this. */
uint64_t tso_given_ms(struct tso *tso);

/* When nobody takes one any more, in the prepare of a change: the bound comes back to the last one,
 * and to `used_ts`, so that what is opened next goes on there. Each opening would take the time up
 * to 3 s ahead of the clock, and it stands still until the clock has caught up. */
void tso_put_end(struct tso *tso, uint64_t used_ts, struct meta_batch *batch);

/* After the last request: calls done when the bound is not being moved any more, inside this call
 * or on the loop of that change, whose own call may come later than the changes behind it. Then the
 * tso may be freed. */
void tso_settle(struct tso *tso, void (*done)(void *arg), void *arg);

#endif

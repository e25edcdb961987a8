/*
 * txn/newest.h: has a key a version at or above a timestamp? Mostly it has none, and that is known
 * here, without a search in the engine's index, whatever the number of keys.
 *
 * Keys fall into slots by their hash; a slot has the highest timestamp of all versions of its keys,
 * or a higher one: who stages a version raises it first, and it is never lowered. So what is not
 * above a slot's timestamp has to be looked up, and nothing else.
 *
 * Why that is sound: versions come from commands of this node only, which hold the key's latch from
 * the raise until the batch is visible, or refused; who asks holds it, too. What was there before
 * the node was made is walked over once: each question goes on a little, and the answer is
 * "perhaps" until the end is reached. Where that would mean to read a disk it is given up.
 */
#ifndef TXN_NEWEST_H
#define TXN_NEWEST_H

#include "engine/engine.h"
#include "txn/record.h"

#include <pthread.h>
#include <stdatomic.h>

#define NEWEST_SLOTS 65536u

enum newest_state {
    NEWEST_WALKING = 0,
    NEWEST_KNOWN,
    NEWEST_GIVEN_UP,
};

struct newest {
    _Atomic uint64_t *slots;
    _Atomic unsigned state; /* enum newest_state */
    pthread_mutex_t mutex;  /* of the walk */
    struct record_key *at;  /* the version that it has reached */
};

/* 0 or NO_MEMORY. */
int newest_init(struct newest *newest);
void newest_deinit(struct newest *newest);

/* Before a version is staged. Any thread. */
void newest_raise(struct newest *newest, kvs_slice encoded, uint64_t commit_ts);

/* True: the key has no version at or above ts. False: look. The caller holds its latch, and the
 * view began after that. */
bool newest_is_below(struct newest *newest, struct engine_view *view, kvs_slice encoded,
                     uint64_t ts);

#endif

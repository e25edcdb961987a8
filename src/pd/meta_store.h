/*
 * pd/meta_store.h: the server's own metadata, in a family of the engine that is kept for it.
 *
 * Regions, the timestamp bound, safe points and keyspaces change one after the other, and each
 * change is on the disk before anybody sees it:
 *
 *   1. meta_store_change queues a change, from any thread;
 *   2. when all before it are done, prepare looks at the state and says what to write;
 *   3. the engine writes it as one batch;
 *   4. publish makes it the state; then the next change is prepared;
 *   5. done is called, on the change's loop.
 *
 * Failures: prepare's error, NO_MEMORY, or the engine's: nothing is published, done gets it.
 * Threads: prepare and publish run one at a time, on the loop of some change or on the caller's
 * thread; done on change->loop.
 */
#ifndef PD_META_STORE_H
#define PD_META_STORE_H

#include "base/arena.h"
#include "engine/engine.h"

#include <pthread.h>

#define META_FAMILY 15u

struct meta_change;

/* What a change writes. */
struct meta_batch {
    struct arena arena; /* of keys and values; prepare may use it, too */
    kvs_mutation *mutations;
    uint32_t count, capacity;
    int error;
};

struct meta_change {
    struct engine_write write; /* the store's, as all below but the functions */
    struct meta_batch batch;
    struct loop *loop;
    struct meta_store *store;
    struct meta_change *next;
    struct task done_task;
    int error;

    /* Nothing put into the batch: nothing is written, and publish is called all the same. */
    int (*prepare)(struct meta_change *change, struct meta_batch *batch);
    void (*publish)(struct meta_change *change);
    void (*done)(struct meta_change *change, int error);
};

struct meta_store {
    struct engine *engine;
    pthread_mutex_t mutex;
    struct meta_change *first, *last; /* the first is under way */
};

void meta_store_init(struct meta_store *store, struct engine *engine);
/* No change is under way. */
void meta_store_deinit(struct meta_store *store);

/* The change is the store's until done is called, never inside this call. */
void meta_store_change(struct meta_store *store, struct loop *loop, struct meta_change *change);

/* Copies both; a failure is kept in the batch. */
void meta_put(struct meta_batch *batch, kvs_slice key, kvs_slice value);

/* For the opening: a value, copied into the batch's arena; NOT_FOUND. */
int meta_get_blocking(struct meta_store *store, kvs_slice key, struct meta_batch *batch,
                      kvs_slice *ret_value);
/* For the opening: writes the batch, waits for it, and empties it. */
int meta_write_blocking(struct meta_store *store, struct meta_batch *batch);
void meta_batch_deinit(struct meta_batch *batch);

#endif

/*
 * client/txn/local.h: transactions on an engine of this process: its node, its clock, and how a
 * client's commands get to them.
 *
 * struct local_engine is what a kvs_store and the transaction clients on it share: whoever lets go
 * of it last has to close the engine. Node and clock are made when the first client comes; there is
 * one of each for an engine, whatever the number of clients.
 */
#ifndef CLIENT_TXN_LOCAL_H
#define CLIENT_TXN_LOCAL_H

#include "client/txn/transport.h"
#include "engine/engine.h"
#include "pd/gc_state.h"
#include "pd/tso.h"
#include "runtime/thread_pool.h"
#include "txn/node.h"

#include <pthread.h>

struct local_engine {
    struct engine *engine;
    uint32_t value_size_max;
    pthread_mutex_t mutex;
    unsigned refs;
    struct txn_node *node; /* NULL: no client has come yet */
    uint64_t opened_ts;    /* the first timestamp given: who began before it is gone */
    struct meta_store meta;
    struct tso *tso;
    struct gc_state *gc; /* what GC has passed */
};

/* Takes the engine; one reference. NULL: no memory, the engine is the caller's still. */
struct local_engine *local_engine_new(struct engine *engine, uint32_t value_size_max);
void local_engine_ref(struct local_engine *local);

struct local_engine_close {
    struct local_engine *local;
    kvs_thread_pool *pool;
    struct loop *loop;
    struct meta_change settle;
    struct task task;
    int error;
    void (*done)(void *arg, int error);
    void *arg;
};

/* Gives a reference back, on the loop; the last one closes the engine, on the pool. `done` is
 * called on the loop, then or in a later turn. */
void local_engine_release(struct local_engine *local, kvs_thread_pool *pool, struct loop *loop,
                          struct local_engine_close *close, void (*done)(void *arg, int error),
                          void *arg);
/* The only reference, and no transactions: frees it and closes the engine. */
int local_engine_close_blocking(struct local_engine *local);
/* Makes node and clock when there are none. The loop is of the runtime. Returns 0 or an error. */
int local_engine_start_txn_blocking(struct local_engine *local, struct loop *loop);

/* A transport that borrows the engine, on the loop. Returns 0 or NO_MEMORY. */
int local_transport_new(struct local_engine *local, struct loop *loop,
                        struct txn_transport **ret_transport);

#endif

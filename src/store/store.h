/*
 * store/store.h: what stands behind a kvs_store: kvs_op operations over an engine in this process,
 * or over a client of a server elsewhere. The server's services submit the same kvs_op.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "runtime/loop.h"

#include <kvs/store.h>

struct engine;
struct local_engine;

struct store_methods {
    /* May be NULL: answers a read at once, when nothing has to be waited for; see store_answer. */
    bool (*answer)(kvs_store *store, kvs_op *op);
    /* Starts ops (an array). Each completes on the loop given, by op->on_done, never inside the
     * call. The inputs stay the caller's until then. Local stores: without a loop (NULL) writes
     * complete on any thread, also inside the call. */
    void (*submit)(kvs_store *store, kvs_op **ops, size_t count, struct loop *loop);
    void (*cancel)(kvs_store *store, kvs_op *op);
    /* Begins to close; calls `closed` on `loop` when nothing is left; then frees the store. */
    void (*close)(kvs_store *store, struct loop *loop, void (*closed)(void *arg, int error),
                  void *arg);
};

struct kvs_store {
    const struct store_methods *methods;
    kvs_runtime *runtime;  /* NULL in the server */
    struct loop *loop;     /* where callbacks of this store run, in libkvs */
    struct engine *engine; /* local stores: for reads that are answered on the spot; else NULL */
    struct local_engine *local; /* of log: and memory: URLs: who else uses the engine; else NULL */
};

/*
 * A store over an engine, for the server and for log: and memory: URLs. Does not take the engine:
 * the caller closes it after the store. Returns 0 or NO_MEMORY.
 */
int local_store_new(struct engine *engine, uint32_t value_size_max, kvs_store **ret_store);

/* For a server: checkpoints are names, made below this directory ("": refused), which is copied.
 * Without this call they are paths. Before the first op. 0 or NO_MEMORY. */
int local_store_set_backups(kvs_store *store, const char *directory);

/*
 * Answers a read from memory inside the call: true when op holds its outcome (on_done is not
 * called), false when it has to be submitted. Any thread.
 */
static inline bool store_answer(kvs_store *store, kvs_op *op)
{
    return store->methods->answer != NULL && store->methods->answer(store, op);
}

static inline void store_submit(kvs_store *store, kvs_op **ops, size_t count, struct loop *loop)
{
    store->methods->submit(store, ops, count, loop);
}

static inline void store_cancel(kvs_store *store, kvs_op *op)
{
    store->methods->cancel(store, op);
}

/* Closes and frees; no call may begin after this one. */
static inline void store_close(kvs_store *store, struct loop *loop,
                               void (*closed)(void *arg, int error), void *arg)
{
    store->methods->close(store, loop, closed, arg);
}

/* A page of a scan: bytes of keys and values, with STORE_PAIR_OVERHEAD for each pair. */
#define STORE_PAGE_SIZE_MAX (1024u * 1024)
#define STORE_PAIR_OVERHEAD 32u

/* Sets op->result to what kvs_checksum_read reads. 0 or NO_MEMORY. */
#define STORE_CHECKSUM_SIZE 24u
int store_op_set_checksum(kvs_op *op, const struct kvs_checksum *checksum);

/* Clears the results: what every store does first with a submitted op. */
void store_op_begin(kvs_op *op);

/* Checks what every store checks: kind, sizes, flags, counts. 0, or an error with op->message set.
 */
int store_op_check(kvs_op *op, uint32_t value_size_max);

#endif

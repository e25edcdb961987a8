/*
 * store/store.h: what stands behind a kvs_store: kvs_op operations over an engine in this process,
 * or over a client of a server elsewhere. The server's services submit the same kvs_op.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "engine/pins.h"
#include "runtime/loop.h"

#include <kvs/store.h>

struct engine;
struct local_engine;

struct store_methods {
    /* May be NULL: answers a read at once, when nothing has to be waited for; see store_answer. */
    bool (*answer)(kvs_store *store, kvs_op *op);
    /* Starts ops (an array). Each completes on the loop given, by op->on_done, never inside the
     * call. The inputs stay the caller's until then. Local stores: without a loop (NULL) they
     * complete on any thread, also inside the call. */
    void (*submit)(kvs_store *store, kvs_op **ops, size_t count, struct loop *loop);
    /* Local stores: the same for ops whose deadlines somebody has to keep. In
     * clients (NULL here) submit does. */
    void (*submit_timed)(kvs_store *store, kvs_op **ops, size_t count, struct loop *loop);
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
    uint32_t timeout_ms;        /* local stores: of an op that sets none; 0: none */
};

/*
 * A store over an engine, for the server and for log: and memory: URLs. Does not take the engine:
 * the caller closes it after the store. Returns 0 or NO_MEMORY.
 */
int local_store_new(struct engine *engine, uint32_t value_size_max, kvs_store **ret_store);

/* For a server: checkpoints are names, made below this directory ("": refused), which is copied.
 * Without this call they are paths. Before the first op. 0 or NO_MEMORY. */
int local_store_set_backups(kvs_store *store, const char *directory);

/* Of a read that a store of this process has got, or had: if it waits for a thread of the pool, the
 * calling thread does it. The store need not live any more. */
void local_store_help(kvs_thread_pool *pool, kvs_op *op);

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

static inline uint32_t store_timeout_of(const kvs_store *store, const kvs_op *op)
{
    return op->timeout_ms != 0 ? op->timeout_ms : store->timeout_ms;
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

/* Changes what is stored: given up when it is under way, it may be done or not. */
static inline bool store_kind_is_write(uint8_t kind)
{
    return kind == KVS_OP_SET || kind == KVS_OP_REMOVE || kind == KVS_OP_CAS ||
           kind == KVS_OP_BATCH_WRITE || kind == KVS_OP_REMOVE_RANGE;
}

static inline bool store_kind_is_read(uint8_t kind)
{
    return kind == KVS_OP_GET || kind == KVS_OP_EXISTS || kind == KVS_OP_BATCH_GET ||
           kind == KVS_OP_SCAN || kind == KVS_OP_COUNT || kind == KVS_OP_TTL ||
           kind == KVS_OP_CHECKSUM;
}

/*
 * kvs_store_call, also for an operation that a caller owns and that must be able to end before its
 * work does: a copy of it is carried out. *ret_call lives as long as the future. NULL: no memory.
 */
struct store_call;
kvs_future *store_call_start(kvs_store *store, const kvs_op *request, struct store_call **ret_call);

/* Moves the outcome of such a future, which is ready, into the caller's operation. */
void store_call_take(kvs_future *future, struct store_call *call, kvs_op *op);

/* A page of a scan: bytes of keys and values, with STORE_PAIR_OVERHEAD for each pair. */
#define STORE_PAGE_SIZE_MAX (1024u * 1024)
#define STORE_PAIR_OVERHEAD 32u

/* Sets op->result to what kvs_checksum_read reads. 0 or NO_MEMORY. */
#define STORE_CHECKSUM_SIZE 24u
int store_op_set_checksum(kvs_op *op, const struct kvs_checksum *checksum);

/*
 * What keeps the value of a get that was lent (op->borrowed, and no pairs): the end of
 * op->reserved, which no local store uses for an op under way.
 */
#define STORE_OP_PIN_OFFSET (sizeof((kvs_op *)0)->reserved - sizeof(struct engine_pin))

static inline struct engine_pin *store_op_pin(kvs_op *op)
{
    return (struct engine_pin *)(void *)((char *)op->reserved + STORE_OP_PIN_OFFSET);
}

/* Clears the results: what every store does first with a submitted op. */
void store_op_begin(kvs_op *op);

/* Checks what every store checks: kind, sizes, flags, counts. 0, or an error with op->message set.
 */
int store_op_check(kvs_op *op, uint32_t value_size_max);

#endif

/*
 * client/tikv/raw_op.h: operations of a kvs_store as requests of TiKV's raw API.
 *
 * An operation is one or several raw calls, each in one region. It goes through phases; a phase is
 * over when all its calls have ended:
 *
 *   get, set, cas     one call
 *   exists            a scan of one key, without its value
 *   remove            exists; then a delete, if there was something
 *   batch get         the keys in order, cut by regions and size, in parallel
 *   batch write       runs of sets and removes: for each family, and for sets and removes, as batch
 *                     get; ranges in between, each by itself
 *   scan              one call after the other, region by region, in the scan's direction
 *   count             regions in parallel, pages of keys in each
 *   ttl               one call
 *   checksum          regions in parallel
 *   remove range      count; then a delete in each region, in parallel
 *
 * Cutting: a call that is about to be sent is cut at the end of its region, and leaves a call for
 * the rest behind. At most OP_CALLS_MAX calls of an operation are under way; others are parked.
 *
 * Failures: the first call that fails ends the operation, the others are given up. When something
 * of a write has been done, or may have been, the error is OUTCOME_UNKNOWN.
 *
 * struct tikv_op lies in kvs_op.reserved. Thread: the loop of its shard.
 */
#ifndef CLIENT_TIKV_RAW_OP_H
#define CLIENT_TIKV_RAW_OP_H

#include "client/operations.h"
#include "client/tikv/raw_call.h"
#include "store/page.h"

#include <stdatomic.h>

#define OP_CALLS_MAX 16u
/* A batch in one request: all of it is done, or nothing. */
#define OP_BATCH_COUNT_MAX 1024u
#define OP_BATCH_BYTES_MAX (1024u * 1024)
#define OP_SCAN_LIMIT_MAX 10240u
#define OP_SCAN_LIMIT_FIRST 256u

struct tikv_shard;

struct tikv_op {
    struct task task;
    struct task cancel_task;
    struct operation operation;
    struct tikv_shard *shard;
    struct loop *loop; /* where on_done is called */
    _Atomic int cancel_state;
    bool done;    /* but a cancel is in the mailbox: on_done waits for it */
    bool refused; /* op->error says why */
    uint8_t phase;
    bool written; /* a part of a write was done */
    uint32_t active;
    uint32_t order_count;
    uint32_t next;      /* batch write: the first mutation of the next phase */
    struct list calls;  /* struct raw_call */
    struct list parked; /* likewise */
    struct page page;
    struct kvs_checksum checksum; /* so far */
    uint32_t *order;              /* batches: indices by key; owned */
    uint32_t *place;              /* batch get: where the page has each; behind order */
    struct pd_request *ping;
    /* Writes of one key, one after the other: shard.c's. */
    struct tikv_op *chain_next; /* of the first ones, by hash */
    struct tikv_op *behind;     /* what waits for this one */
    struct tikv_op *behind_last;
    struct list ready_node; /* its turn has come */
    uint32_t chain;
    bool is_first;
    bool is_behind;
};

static inline struct tikv_op *tikv_op_of(kvs_op *op)
{
    return (struct tikv_op *)(void *)op->reserved;
}

static inline kvs_op *kvs_op_of_tikv(struct tikv_op *op)
{
    return CONTAINER_OF((void *)op, kvs_op, reserved);
}

/* Begins a checked operation: shard is set, all else of struct tikv_op from before is kept. Ends it
 * in a later turn, or in this call by tikv_op_on_end. */
void tikv_op_begin(struct tikv_op *op);

/* Gives it up with `error`, or OUTCOME_UNKNOWN; calls tikv_op_on_end. */
void tikv_op_give_up(struct tikv_op *op, int error, const char *why);

/* The shard's: the operation has ended, its results are in place. */
void tikv_op_on_end(struct tikv_op *op, int error);

/* --- between raw_op.c, raw_batch.c and raw_range.c --- */

struct raw_call *op_add_call(struct tikv_op *op, enum raw_kind kind,
                             const struct raw_call_methods *methods);
/* It begins now, or when there is room. */
void op_start_call(struct raw_call *call);
void op_free_call(struct raw_call *call);
/* A call of the op has ended well; the phase may be over. Frees it. */
void op_end_call(struct raw_call *call);
void op_end(struct tikv_op *op, int error);
void op_fail_call(struct raw_call *call, int error, const char *why);

int raw_batch_get_begin(struct tikv_op *op);
int raw_batch_get_end(struct tikv_op *op);
/* The next phase; *ret_done: there is none. */
int raw_batch_write_next(struct tikv_op *op, bool *ret_done);

int raw_scan_begin(struct tikv_op *op);
int raw_count_begin(struct tikv_op *op);
int raw_checksum_begin(struct tikv_op *op);
int raw_delete_range_begin(struct tikv_op *op, unsigned family, kvs_slice start, kvs_slice end);
int raw_exists_begin(struct tikv_op *op);

static inline struct tikv_op *op_of_call(const struct raw_call *call)
{
    return call->op;
}

#endif

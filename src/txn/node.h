/*
 * txn/node.h: what a TiKV node does for transactions, over any engine of this process.
 *
 * The rules of Percolator as TiKV has them: snapshot isolation, optimistic and pessimistic locks,
 * asynchronous and one-phase commit. docs/txn.md says how records lie in the engine and
 * what is atomic with what.
 *
 * 1. A caller fills a command (txn/command.h). A read is first offered to txn_answer, which carries
 *    it out in the call when nothing has to be waited for.
 * 2. Else txn_submit: a read goes to the blocking pool. A write takes the latches of its keys, in
 *    one order for all, reads what its checks need, and gives the engine one atomic batch; it
 *    completes when that is as safe as the engine's sync policy says, and gives the latches back.
 * 3. A pessimistic lock that meets another one waits in the key's queue, bounded in time, unless
 *    that would close a circle of waiting transactions.
 *
 * Commands on different keys run side by side: there is no lock that all take. Any thread may call;
 * a command completes on its op.loop, and is touched by one thread at a time.
 */
#ifndef TXN_NODE_H
#define TXN_NODE_H

#include "engine/engine.h"
#include "txn/command.h"

struct txn_node;

struct txn_node_options {
    uint64_t max_ts;          /* a timestamp of now: no read before this start was later */
    uint32_t wait_default_ms; /* of a lock; 0: 1000 */
    uint32_t wait_max_ms;     /* 0: 1000; in process waits may be longer */
    uint32_t wake_others_ms; /* after the first who waits for a lock that went; 0: 20, as in TiKV */
    uint32_t value_size_max; /* 0: KVS_VALUE_SIZE_MAX */
    /* Transactions that began before it are over, whatever their locks say: nobody waits for those.
     * 0: nothing is known. */
    uint64_t dead_before_ts;
    /* Reads, prewrites and locks of transactions below the safe point of garbage collection end in
     * TXN_TOO_OLD. Without it, as in TiKV, they may miss what was removed. */
    bool refuses_old;
    uint64_t safe_point; /* of all GC before this start */
};

struct txn_node_stats {
    uint64_t commands;
    uint64_t conflicts;
    uint64_t lock_waits;
    uint64_t deadlocks;
    uint64_t waiting; /* now */
    uint64_t max_ts;
};

/* Over an engine that outlives it. Returns 0, NO_MEMORY or what the engine says. */
int txn_node_new(struct engine *engine, const struct txn_node_options *options,
                 struct txn_node **ret_node);
/* Every command has completed (see txn_node_cancel_waits). */
void txn_node_free(struct txn_node *node);

/*
 * A view that many reads of one turn share: begun after the last thing that their askers can have
 * learned from others (after the bytes of the turn were read), ended before the loop waits. It
 * reads memory only, and is begun and ended on one thread.
 */
struct txn_view {
    struct engine_view view;
    uint64_t departures; /* see src/txn/pending.h */
};

int txn_view_begin(struct txn_node *node, struct txn_view *view);
void txn_view_end(struct txn_view *view);

/* True when the command holds its outcome (op does not complete then); false when it has to be
 * submitted. Reads only; false for what is none. Any thread. */
bool txn_answer(struct txn_node *node, struct txn_command *command);
/* The same in a view that is already there. */
bool txn_answer_in(struct txn_node *node, struct txn_view *view, struct txn_command *command);

void txn_submit(struct txn_node *node, struct txn_command *command);
/* Several: their engine batches go out together when they can. */
void txn_submit_list(struct txn_node *node, struct task_list *commands);

/* Lock waits end now, with CANCELLED: of one command (any thread, before it completes), or all, and
 * later ones at once (the server stops). */
void txn_cancel_wait(struct txn_node *node, struct txn_command *command);
void txn_node_cancel_waits(struct txn_node *node);

/* Who waits for a lock now: at most count_max of them, in the arena. 0 or NO_MEMORY. */
int txn_node_waits(struct txn_node *node, uint32_t count_max, struct arena *arena,
                   struct txn_wait_entry **ret_entries, uint32_t *ret_count);
void txn_node_stats(struct txn_node *node, struct txn_node_stats *ret_stats);

#endif

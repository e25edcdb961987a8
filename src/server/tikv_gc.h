/*
 * server/tikv_gc.h: garbage collection of old versions, in the background.
 *
 * 1. A timer looks at PD's GC safe point; when it is above the last one that was done,
 * 2. the node goes through all keys step by step, with a pause after each step, so that it
 *    takes little of the disk and of the pool from others;
 * 3. at the end the safe point is done. A safe point that moved meanwhile is the next round's.
 *
 * Before PD moves it, whoever does so has resolved the locks below it. What is done is not
 * remembered across restarts: the first round after one finds little to do. Failures: the round is
 * given up and begun anew by the timer. Thread: the loop it was opened on; statistics from any.
 */
#ifndef SERVER_TIKV_GC_H
#define SERVER_TIKV_GC_H

#include "pd/cluster.h"
#include "runtime/loop.h"
#include "txn/node.h"

struct tikv_gc_options {
    uint64_t poll_ms;  /* 0: 10000 */
    uint64_t pause_ms; /* between steps; 0: 10 */
};

struct tikv_gc {
    struct cluster *cluster;
    struct txn_node *node;
    struct loop *loop;
    struct tikv_gc_options options;
    uv_timer_t timer;
    struct txn_gc command;
    struct buf at;       /* where the round is; encoded */
    uint64_t safe_point; /* of the round, or of the last one */
    bool running;        /* a round */
    bool busy;           /* the command is the node's */
    bool failed;         /* the last round, for the log */
    void (*on_closed)(void *arg);
    void *arg;
    /* statistics */
    _Atomic uint64_t done_safe_point;
    _Atomic uint64_t rounds;
    _Atomic uint64_t removed_versions;
};

/* On a loop that is not started, or on its thread. */
void tikv_gc_open(struct tikv_gc *gc, struct cluster *cluster, struct txn_node *node,
                  struct loop *loop, const struct tikv_gc_options *options);
/* On the loop's thread; on_closed is called when nothing is under way any more. */
void tikv_gc_close(struct tikv_gc *gc, void (*on_closed)(void *arg), void *arg);

#endif

/*
 * server/tikv_gc.h: garbage collection of old versions, in the background.
 *
 * 1. A timer looks at PD's GC safe point; when it is above the last one that was done,
 * 2. locks are looked for that are older: the round goes only as far as the oldest of them;
 * 3. the node goes through all keys step by step, with a pause after each step, so that it
 *    takes little of the disk and of the pool from others;
 * 4. at the end the safe point is done. A safe point that moved meanwhile is the next round's.
 *
 * Before PD moves it, whoever does so has resolved the locks below it, but only those it knows of:
 * keyspaces share the safe point, and a client resolves those of its own. A lock that is left may
 * be a committed transaction's, and the record that says so, at its primary key, must stay. One
 * that comes later is no matter: its transaction commits above the safe point. Pessimistic locks
 * commit nothing. What is done is not remembered across restarts: the first round after one finds
 * little to do. Failures: the round is given up and begun anew by the timer. Thread: the loop it
 * was opened on; statistics from any.
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

enum tikv_gc_step { GC_IDLE, GC_LOOKING, GC_REMOVING };

struct tikv_gc {
    struct cluster *cluster;
    struct txn_node *node;
    struct loop *loop;
    struct tikv_gc_options options;
    uv_timer_t timer;
    struct txn_scan_lock locks;
    struct txn_gc command;
    enum tikv_gc_step step;
    struct buf at;           /* where the step is; encoded */
    uint64_t safe_point;     /* of the round, or of the last one */
    uint64_t lowest_lock_ts; /* start of the oldest transaction that has a lock; UINT64_MAX: none */
    bool busy;               /* the command is the node's */
    bool failed;             /* the last round, for the log */
    bool held;               /* likewise, by a lock */
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

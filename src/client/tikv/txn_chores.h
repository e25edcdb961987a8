/*
 * client/tikv/txn_chores.h: what a cluster is asked for that concerns no region: garbage
 * collection, and the destruction of a range on every store.
 *
 * Garbage collection, as a GC worker has to do it:
 *   1. tikv_chores_gc_begin: PD's transaction safe point goes up: from then on every client that
 *      asks PD for it begins nothing below; a barrier of somebody else may stop it on its way;
 *   2. the caller ends all locks below it;
 *   3. tikv_chores_gc_end: PD's GC safe point follows, and the stores remove what is below.
 * A PD before 9.0 has no transaction safe point: there 1 is the service safe point of "gc_worker",
 * which is held back by the others', and clients are told by 3 only.
 *
 * Failures: PD refuses, or does not answer in time. Then nothing is removed. Thread: the loop's;
 * tikv_chores_run has to be called at the end of each turn.
 */
#ifndef CLIENT_TIKV_TXN_CHORES_H
#define CLIENT_TIKV_TXN_CHORES_H

#include "client/tikv/cluster.h"
#include "client/tikv/pd_safe_point.h"
#include "client/txn/transport.h"

struct tikv_chores {
    struct tikv_cluster *cluster;
    struct pd_safe_point *safe_point;
    uint32_t timeout_ms;   /* of a question to PD */
    struct list questions; /* struct chore_question */
};

void tikv_chores_init(struct tikv_chores *chores, struct tikv_cluster *cluster,
                      struct pd_safe_point *safe_point, uint32_t timeout_ms);

/* Each calls chore->done once. */
void tikv_chores_gc_begin(struct tikv_chores *chores, struct txn_chore *chore);
void tikv_chores_gc_end(struct tikv_chores *chores, struct txn_chore *chore);
void tikv_chores_destroy_range(struct tikv_chores *chores, struct txn_chore *chore);

void tikv_chores_run(struct tikv_chores *chores, uint64_t now_ms);
uint64_t tikv_chores_timer(const struct tikv_chores *chores);

#endif

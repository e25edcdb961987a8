/*
 * pd/gc_state.h: safe points of garbage collection, and what holds them back.
 *
 *   - the transaction safe point: no transaction below it may begin to read;
 *   - the GC safe point, never above it: old versions below it may be gone;
 *   - barriers and service safe points: named timestamps that the transaction safe point does not
 *     pass, until they end.
 *
 * Neither safe point ever goes back. All keyspaces share one state. Each change is on the disk
 * before it is seen. Threads: any; done is called on the change's loop.
 */
#ifndef PD_GC_STATE_H
#define PD_GC_STATE_H

#include "pd/meta_store.h"

#include <stdatomic.h>

#define GC_BARRIERS_MAX 256u
#define GC_BARRIER_ID_SIZE_MAX 128u
#define GC_NEVER_ENDS UINT64_MAX
/* The service that is always there: at the transaction safe point when it said nothing. */
#define GC_WORKER_ID "gc_worker"

struct gc_barrier {
    uint64_t ts;
    uint64_t ends_ms; /* wall clock; GC_NEVER_ENDS */
    bool service;     /* a service safe point */
    uint8_t id_size;
    char id[GC_BARRIER_ID_SIZE_MAX];
};

/* A picture of the state. */
struct gc_values {
    uint64_t txn_safe_point;
    uint64_t gc_safe_point;
    uint32_t count;
    struct gc_barrier barriers[GC_BARRIERS_MAX];
};

enum gc_action {
    GC_UPDATE,         /* ts: the GC safe point becomes at least this, if nothing holds it back; the
                          transaction safe point goes before it */
    GC_UPDATE_SERVICE, /* id, ts, ttl_s; 0 or less removes it. GC_WORKER_ID: moves the transaction
                          safe point, too; any other: not below that */
    GC_ADVANCE_TXN,    /* ts */
    GC_ADVANCE_GC,     /* ts */
    GC_SET_BARRIER,    /* id, ts, ttl_s */
    GC_DELETE_BARRIER, /* id */
};

struct gc_state;

struct gc_change {
    /* the caller's */
    enum gc_action action;
    kvs_slice id;
    uint64_t ts;
    int64_t ttl_s;
    void (*done)(struct gc_change *change, int error);

    /* Results. refused NULL, or why nothing changed. */
    const char *refused;
    uint64_t before, after; /* of the safe point concerned */
    bool found;             /* barrier: the one that was set, deleted or is in the way;
                               GC_UPDATE_SERVICE: the lowest */
    struct gc_barrier barrier;
    uint64_t now_ms; /* wall clock, of the decision */

    struct meta_change change;
    struct gc_state *gc;
    struct gc_values *next; /* the state after it */
};

int gc_state_open_blocking(struct meta_store *store, struct gc_state **ret_gc);
void gc_state_free(struct gc_state *gc);

/* Those barriers that have ended are not in it. */
void gc_state_read(struct gc_state *gc, struct gc_values *ret_values);
uint64_t gc_state_safe_point(struct gc_state *gc);
void gc_state_change(struct gc_state *gc, struct loop *loop, struct gc_change *change);

/* Seconds left, rounded up; INT64_MAX: never ends. */
int64_t gc_barrier_ttl_s(const struct gc_barrier *barrier, uint64_t now_ms);

#endif

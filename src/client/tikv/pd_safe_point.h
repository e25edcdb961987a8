/*
 * client/tikv/pd_safe_point.h: how far garbage collection has come, as PD tells it. What reads
 * below may be gone without a trace.
 *
 *   1. asked as soon as PD is there, then every ten seconds; after a failure once a second;
 *   2. the question is for the state of GC, which has the point below which no transaction may be;
 *      a PD that does not know it (before 9.0) is asked for the point below which stores remove.
 *      While one knows neither, nothing is below;
 *   3. what PD does not know is asked again after a minute: it may have been upgraded.
 * An answer that is older than SAFE_POINT_KNOWN_MS says nothing any more: `told` is called with the
 * next one. The point is one of all loops of a client, and never goes back. The questions and the
 * times are client-go's.
 *
 * Thread: the loop's. pd_safe_point_run has to be called at the end of each turn.
 */
#ifndef CLIENT_TIKV_PD_SAFE_POINT_H
#define CLIENT_TIKV_PD_SAFE_POINT_H

#include "client/tikv/pd_client.h"

#include <stdatomic.h>

#define SAFE_POINT_EVERY_MS 10000u
#define SAFE_POINT_AGAIN_MS 1000u
#define SAFE_POINT_KNOWN_MS 90000u
#define SAFE_POINT_OLD_MS 60000u

struct pd_safe_point {
    struct pd_client *pd;
    _Atomic uint64_t *value; /* the client's */
    uint32_t keyspace_id;
    void (*told)(struct pd_safe_point *safe_point);
    struct pd_request request;
    bool asks;               /* it is under way */
    bool is_old;             /* PD does not know the state of GC */
    bool is_none;            /* nor a safe point */
    uint64_t old_until_ms;   /* then is_old is forgotten */
    uint64_t due_ms;         /* of the next question */
    uint64_t known_until_ms; /* 0: nothing is known */
    char why[160];           /* the last question failed; "no answer": none has been answered yet */
};

/* Zeroed, with pd, value and told set. Asks from the next turn on. */
void pd_safe_point_start(struct pd_safe_point *safe_point, uint32_t keyspace_id);
/* Nothing is asked any more. Also of one that was not started. */
void pd_safe_point_stop(struct pd_safe_point *safe_point);

void pd_safe_point_run(struct pd_safe_point *safe_point, uint64_t now_ms);
uint64_t pd_safe_point_timer(const struct pd_safe_point *safe_point);

/* Is what is known new enough? */
static inline bool pd_safe_point_is_known(const struct pd_safe_point *safe_point, uint64_t now_ms)
{
    return safe_point->is_none || now_ms < safe_point->known_until_ms;
}

/* Has GC passed the timestamp? */
static inline bool pd_safe_point_is_past(const struct pd_safe_point *safe_point, uint64_t ts)
{
    /* relaxed: a number by itself */
    return ts < atomic_load_explicit(safe_point->value, memory_order_relaxed);
}

/* It is at least this. */
void pd_safe_point_raise(struct pd_safe_point *safe_point, uint64_t ts);

#endif

/*
 * server/tikv_faults.h: a cluster that misbehaves, for tests of clients: `--test-faults`.
 *
 * In a build without -Dfaults=true nothing of it exists. What fails is shared by the process, as in
 * base/fault.h, and set before servers are opened. A text like
 *
 *   region-errors=10,store-away=2000:300
 *
 * with any of:
 *   region-errors=PERCENT   of the raw commands get a region error after which a client tries
 *                           again: NotLeader, EpochNotMatch, RegionNotFound, StaleCommand ...
 *   busy=PERCENT            likewise, ServerIsBusy
 *   store-away=UP:DOWN      after each UP milliseconds the store breaks its connections, and is
 *                           away for DOWN milliseconds
 *   pd-away=UP:DOWN         likewise PD says that it does not lead
 *   seed=N                  of the choices (1)
 * Any thread.
 */
#ifndef SERVER_TIKV_FAULTS_H
#define SERVER_TIKV_FAULTS_H

#include <stdbool.h>

enum tikv_fault_error {
    TIKV_FAULT_NONE,
    TIKV_FAULT_BUSY,
    TIKV_FAULT_NO_LEADER,    /* and nobody knows one */
    TIKV_FAULT_OTHER_LEADER, /* which is the same peer */
    TIKV_FAULT_EPOCH,        /* with the region as it is */
    TIKV_FAULT_EPOCH_EMPTY,
    TIKV_FAULT_REGION,
    TIKV_FAULT_STORE,
    TIKV_FAULT_STALE,
    TIKV_FAULT_ERRORS,
};

#ifdef KVS_FAULTS

/* "": nothing fails. Returns 0 or INVALID_ARGUMENT with what is wrong with the text. */
int tikv_faults_set(const char *text, char message[256]);

enum tikv_fault_error tikv_fault_next(void);
bool tikv_fault_store_away(void);
bool tikv_fault_pd_away(void);
/* May the store go away at all? */
bool tikv_fault_store_goes(void);

#else

static inline enum tikv_fault_error tikv_fault_next(void)
{
    return TIKV_FAULT_NONE;
}

static inline bool tikv_fault_store_away(void)
{
    return false;
}

static inline bool tikv_fault_pd_away(void)
{
    return false;
}

static inline bool tikv_fault_store_goes(void)
{
    return false;
}

#endif
#endif

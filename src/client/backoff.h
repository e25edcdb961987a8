/*
 * client/backoff.h: how long to wait before the next attempt. Pure.
 *
 * Waits of a kind grow from its base to its cap, independent of other kinds; together they may not
 * pass the budget of the operation. The numbers are client-go's.
 */
#ifndef CLIENT_BACKOFF_H
#define CLIENT_BACKOFF_H

#include "base/rand.h"

enum backoff_kind {
    BACKOFF_TIKV_RPC,
    BACKOFF_PD_RPC,
    BACKOFF_REGION_MISS,
    BACKOFF_REGION_SCHEDULING,
    BACKOFF_SERVER_BUSY,
    BACKOFF_DISK_FULL,
    BACKOFF_RECOVERY,
    BACKOFF_STALE_COMMAND,
    BACKOFF_MAX_TS,
    BACKOFF_NOT_INITIALIZED,
    BACKOFF_WITNESS,
    BACKOFF_TXN_LOCK,      /* a write met the lock of a transaction that lives */
    BACKOFF_TXN_LOCK_FAST, /* a read did */
    BACKOFF_COMMIT_TS,     /* a commit came too early for its primary lock, again */
    BACKOFF_KINDS,
};

#define RETRY_BUDGET_MS 20000u /* all waits of one request, unless it says otherwise */

struct backoff {
    uint32_t budget_ms; /* 0: RETRY_BUDGET_MS */
    uint32_t slept_ms;
    uint8_t attempts[BACKOFF_KINDS];
    uint8_t at_once; /* attempts without a wait since the last wait */
};

/* The next wait, at least at_least_ms; -1 when the budget is used up. */
int64_t backoff_next(struct backoff *backoff, enum backoff_kind kind, struct rand *rand,
                     uint64_t at_least_ms);

#endif

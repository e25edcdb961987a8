/* client/backoff.c: the waits of client/backoff.h. */
#include "client/backoff.h"

#include <assert.h>
#include <stdbool.h>

/* jitter: half of the wait is random, so that the waiters of one failure spread. */
static const struct {
    uint32_t base_ms;
    uint32_t cap_ms;
    bool jitter;
} waits[BACKOFF_KINDS] = {
    [BACKOFF_TIKV_RPC] = {100, 2000, true},      [BACKOFF_PD_RPC] = {500, 3000, true},
    [BACKOFF_REGION_MISS] = {2, 500, false},     [BACKOFF_REGION_SCHEDULING] = {2, 500, false},
    [BACKOFF_SERVER_BUSY] = {2000, 10000, true}, [BACKOFF_DISK_FULL] = {500, 5000, false},
    [BACKOFF_RECOVERY] = {100, 10000, true},     [BACKOFF_STALE_COMMAND] = {2, 1000, false},
    [BACKOFF_MAX_TS] = {2, 500, false},          [BACKOFF_NOT_INITIALIZED] = {2, 1000, false},
    [BACKOFF_WITNESS] = {1000, 10000, true},     [BACKOFF_TXN_LOCK] = {100, 3000, true},
    [BACKOFF_TXN_LOCK_FAST] = {10, 3000, true},  [BACKOFF_COMMIT_TS] = {2, 500, false},
};

int64_t backoff_next(struct backoff *backoff, enum backoff_kind kind, struct rand *rand,
                     uint64_t at_least_ms)
{
    assert(kind < BACKOFF_KINDS);
    uint32_t budget_ms = backoff->budget_ms != 0 ? backoff->budget_ms : RETRY_BUDGET_MS;
    if (backoff->slept_ms >= budget_ms)
        return -1;
    uint64_t wait = waits[kind].cap_ms;
    if (backoff->attempts[kind] < 20)
        wait = (uint64_t)waits[kind].base_ms << backoff->attempts[kind]++;
    if (wait > waits[kind].cap_ms)
        wait = waits[kind].cap_ms;
    if (waits[kind].jitter)
        wait = wait / 2 + rand_below(rand, wait / 2 + 1);
    if (wait < at_least_ms)
        wait = at_least_ms;
    uint64_t left = budget_ms - backoff->slept_ms;
    if (wait > left)
        wait = left; /* one last attempt when the budget ends */
    backoff->slept_ms += (uint32_t)wait;
    backoff->at_once = 0;
    return (int64_t)wait;
}

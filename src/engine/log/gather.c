/* engine/log/gather.c: see gather.h. */
#include "engine/log/gather.h"

#include "base/clock.h"
#include "engine/log/log_engine.h"

#include <sched.h>

#define WAIT_NS_MAX 100000u
#define PAUSE_MAX 256u

/* Takes what has come; how many threads wait for that. */
static uint32_t pending_fetch(struct log_engine *log)
{
    struct task_list writes = mailbox_take(&log->writes);
    uint32_t count = 0;
    for (const struct task *task = writes.first; task != NULL; task = task->next)
        count += gather_counts(CONTAINER_OF(task, struct engine_write, op.task));
    task_list_splice(&log->pending, &writes);
    return count;
}

static void gather_wait(struct log_engine *log)
{
    struct gather *gather = &log->gather;
    uint32_t expected = gather->expected;
    if (expected < 2)
        return;
    if (gather->pauses > 0) {
        gather->pauses--;
        return;
    }
    uint64_t wait_ns = gather->sync_ns / 3 < WAIT_NS_MAX ? gather->sync_ns / 3 : WAIT_NS_MAX;
    uint64_t until_ns = clock_now_ns() + wait_ns;
    uint32_t count = gather->waiting + pending_fetch(log);
    while (count < expected && clock_now_ns() < until_ns) {
        sched_yield(); /* they need a processor */
        count += pending_fetch(log);
    }
    if (count >= expected - expected / 4) {
        gather->pause = 0;
    } else {
        gather->pause = gather->pause < PAUSE_MAX ? gather->pause * 2 + 1 : PAUSE_MAX;
        gather->pauses = gather->pause;
    }
}

void gather_begin(struct log_engine *log)
{
    if (log->sync != KVS_SYNC_ALWAYS)
        return;
    gather_wait(log);
    log->gather.waiting = 0;
    log->gather.taken = 0;
    log->gather.begun_ns = clock_now_ns();
}

void gather_end(struct log_engine *log)
{
    if (log->sync != KVS_SYNC_ALWAYS)
        return;
    struct gather *gather = &log->gather;
    gather->sync_ns = clock_now_ns() - gather->begun_ns;
    gather->waiting = pending_fetch(log);
    gather->expected = gather->taken + gather->waiting;
}

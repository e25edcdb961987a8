/*
 * engine/log/gather.h: the writer waits a moment for those who will write again.
 *
 * Threads that each wait for their own synced write come back a few microseconds after they were
 * answered. A writer that syncs at once what has come meanwhile leaves them for the next sync: half
 * of them are always under way, half wait, and each sync serves half. So the writer waits until as
 * many have come as were answered last, and those that waited then; for a third of a sync at most.
 * When they do not come, as where each write has another writer, it asks more and more seldom.
 * Only writes that are answered on no loop count: what loops submit comes in batches anyway.
 */
#ifndef ENGINE_LOG_GATHER_H
#define ENGINE_LOG_GATHER_H

#include "engine/engine.h"

struct log_engine;

struct gather {
    uint64_t begun_ns; /* the group */
    uint64_t sync_ns;  /* what the last group took */
    uint32_t taken;    /* writes of threads that wait, in the group */
    uint32_t waiting;  /* those that came meanwhile */
    uint32_t expected; /* all of these */
    uint32_t pauses;   /* groups to come for which nobody is waited for */
    uint32_t pause;    /* how many that were the last time */
};

/* Does a thread sleep until it is answered, as far as can be seen? */
static inline bool gather_counts(const struct engine_write *write)
{
    return write->op.loop == NULL;
}

/* The writer's thread, around what it takes and writes; without sync always they do nothing. The
 * first waits: what has come is in log->pending then. */
void gather_begin(struct log_engine *log);
void gather_end(struct log_engine *log);

#endif

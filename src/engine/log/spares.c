/*
 * engine/log/spares.c: see engine/log/spares.h.
 *
 * The system finds and clears a page when it is first touched, which was a third of what sets of
 * 4 KiB took, and more on a virtual machine whose host has to find it. So
 *   1. memory that segments have left is used again,
 *   2. what is needed next is touched in the background, so far ahead as writes are fast,
 *   3. a store that is asked to has the memory for its whole cache touched when it is opened.
 *
 * Thread: the writer, but for the job, and the team that touches.
 */
#include "engine/log/spares.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/machine.h"
#include "engine/file.h"
#include "engine/log/log_engine.h"
#include "engine/log/team.h"
#include "runtime/thread.h"
#include "runtime/thread_pool.h"

#include <sched.h>
#include <stdio.h>

#define SPARES_MAX 4u

#define FAULT_STEP (2u * 1024 * 1024) /* then it looks whether anybody waits */
#define FAULT_AHEAD_MIN (1024u * 1024)
#define FAULT_AHEAD_SLOW FAULT_STEP
#define FAULT_AHEAD_MAX (16u * 1024 * 1024) /* else what was written in the last RATE_MS */
#define NEXT_PART 16u /* of a segment is used when memory for the next one is made */

#define MIB (1024u * 1024)

static struct memory_head *spare_head(const struct spares *spares)
{
    return segment_head(spares->first);
}

/* When the cache is full, each new segment has one dropped: then spares have a sixteenth more, and
 * those that are kept have room for that one. */
static bool spares_fit(const struct log_engine *log, unsigned count)
{
    uint64_t more = log->cache_size_max / 16;
    if (log->spares.keeps_all && more < log->segment_size)
        more = log->segment_size;
    return log->cached_bytes + (uint64_t)count * log->segment_size <= log->cache_size_max + more;
}

static void spares_push(struct spares *spares, uint8_t *memory, uint32_t made)
{
    struct memory_head *head = segment_head(memory);
    head->next = spares->first;
    head->made = made;
    spares->first = memory;
    spares->count++;
}

static uint8_t *spares_pop(struct spares *spares)
{
    uint8_t *memory = spares->first;
    spares->first = segment_head(memory)->next;
    spares->count--;
    segment_memory_renew(memory);
    return memory;
}

void spares_give(struct log_engine *log, uint8_t *memory)
{
    struct spares *spares = &log->spares;
    if (memory != NULL && (spares->count < SPARES_MAX || spares->keeps_all) &&
        spares_fit(log, spares->count + 1) && segment_memory_is_alone(memory, log->segment_size))
        spares_push(spares, memory,
                    spares->keeps_all ? log->segment_size : segment_memory_fixed(memory));
    else
        segment_memory_unref(memory);
}

uint8_t *spares_take(struct log_engine *log, uint32_t capacity)
{
    struct spares *spares = &log->spares;
    if (spares->count == 0 || capacity != log->segment_size)
        return segment_memory_new(capacity);
    if (fault_hit(FAULT_ALLOC)) /* as often as without spares */
        return NULL;
    log->faulting.segment = log->next_number;
    log->faulting.to = spare_head(spares)->made;
    return spares_pop(spares);
}

uint8_t *spares_take_for_reading(struct log_engine *log, uint32_t size, uint32_t *ret_capacity)
{
    struct spares *spares = &log->spares;
    if (!spares->keeps_all || spares->count == 0 || size > log->segment_size) {
        *ret_capacity = (uint32_t)file_block_end(size);
        return segment_memory_new(*ret_capacity);
    }
    *ret_capacity = log->segment_size;
    return spares_pop(spares);
}

void spares_trim(struct log_engine *log)
{
    while (log->spares.count > 0 && !spares_fit(log, log->spares.count))
        segment_memory_unref(spares_pop(&log->spares));
}

void spares_free(struct log_engine *log)
{
    while (log->spares.count > 0)
        segment_memory_unref(spares_pop(&log->spares));
}

/* --- all at the open -------------------------------------------------------------------------- */

struct touching {
    _Atomic(uint8_t *) next;
    uint32_t size;
};

/* A hand takes one memory after the other. */
static void touch_work(void *arg, unsigned i)
{
    struct touching *touching = arg;
    (void)i;
    /* acquire: the list was made before the hands, and does not change. */
    uint8_t *memory = atomic_load_explicit(&touching->next, memory_order_acquire);
    while (memory != NULL) {
        if (atomic_compare_exchange_weak_explicit(&touching->next, &memory,
                                                  segment_head(memory)->next, memory_order_acq_rel,
                                                  memory_order_acquire)) {
            segment_memory_fault(memory, touching->size);
            memory = atomic_load_explicit(&touching->next, memory_order_acquire);
        }
    }
}

static void spares_touch(struct log_engine *log)
{
    struct touching touching = {.size = log->segment_size};
    atomic_init(&touching.next, log->spares.first);
    team_run(team_count(log->spares.count, 1), touch_work, &touching);
}

int spares_prefault(struct log_engine *log, struct engine_message *message)
{
    uint64_t memory_bytes = machine_memory_bytes();
    unsigned long long mib = log->cache_size_max / MIB;
    if (log->cache_size_max > memory_bytes) {
        snprintf(message->text, sizeof message->text,
                 "%s: there is no memory for a cache of %llu MiB, of which all is to be made now: "
                 "this machine (or container) has %llu",
                 log->directory, mib, (unsigned long long)(memory_bytes / MIB));
        return KVS_ERR_NO_MEMORY;
    }
    log->spares.keeps_all = true;
    while (log->cached_bytes + (uint64_t)(log->spares.count + 1) * log->segment_size <=
           log->cache_size_max) {
        uint8_t *memory = segment_memory_new(log->segment_size);
        if (memory == NULL)
            return KVS_ERR_NO_MEMORY; /* what there is goes with the engine */
        spares_push(&log->spares, memory, log->segment_size);
    }
    log_info("%s: making memory for values, %llu MiB", log->directory, mib);
    uint64_t begin_ms = clock_now_ms();
    spares_touch(log);
    log_info("%s: made it in %.1f s", log->directory, (double)(clock_now_ms() - begin_ms) / 1000);
    return 0;
}

/* --- ahead of the writer ---------------------------------------------------------------------- */

static void fault_job(struct task *task)
{
    struct log_engine *log = CONTAINER_OF(task, struct log_engine, faulting.job);
    const struct faulting *faulting = &log->faulting;
    thread_step_back();
    for (size_t at = 0; at < faulting->size; at += FAULT_STEP) {
        size_t left = faulting->size - at;
        segment_memory_fault(faulting->from + at, left < FAULT_STEP ? left : FAULT_STEP);
        sched_yield(); /* who waits for this processor is before us */
    }
    segment_memory_unref(faulting->reference);
    background_is_over(log, &log->faulting.is_running);
}

/* How far ahead: young segments and slow stores stay small. */
static void ahead_measure(struct log_engine *log, uint32_t written)
{
    struct faulting *faulting = &log->faulting;
    uint64_t ahead;
    if (!rate_take(&faulting->rate, written, &ahead))
        return;
    faulting->ahead = ahead > FAULT_AHEAD_MAX    ? FAULT_AHEAD_MAX
                      : ahead < FAULT_AHEAD_SLOW ? FAULT_AHEAD_SLOW
                                                 : (uint32_t)ahead;
}

static void fault_part(struct faulting *faulting, uint8_t *memory, uint32_t from, uint32_t to)
{
    segment_memory_ref(memory);
    faulting->reference = memory;
    faulting->from = memory + from;
    faulting->size = to - from;
}

/* The next part of the newest segment's memory, as much as has been used at most. */
static bool fault_segment(struct log_engine *log)
{
    struct faulting *faulting = &log->faulting;
    struct segment *segment = log->newest;
    uint32_t ahead = segment->size < faulting->ahead ? segment->size : faulting->ahead;
    uint32_t done = faulting->segment == segment->number ? faulting->to : 0;
    uint32_t from = done > segment->size ? done : segment->size;
    if (ahead < FAULT_AHEAD_MIN || from - segment->size > ahead / 2 || from >= segment->capacity)
        return false;
    uint32_t size = ahead < segment->capacity - from ? ahead : segment->capacity - from;
    faulting->segment = segment->number;
    faulting->to = from + size;
    fault_part(faulting, atomic_load_explicit(&segment->memory, memory_order_relaxed), from,
               faulting->to);
    return true;
}

/* Memory for the segment to come, and the first pages of it: when a request for a compaction or a
 * full segment needs them, sets wait (measured: 0.3 to 3 ms for a huge page). More of them when
 * this one's end is near. */
static bool fault_next(struct log_engine *log)
{
    struct faulting *faulting = &log->faulting;
    const struct segment *newest = log->newest;
    if (newest->size < FAULT_AHEAD_MIN || newest->size < log->segment_size / NEXT_PART)
        return false;
    if (log->spares.count == 0) {
        uint8_t *memory = spares_fit(log, 1) ? segment_memory_new(log->segment_size) : NULL;
        if (memory == NULL)
            return false;
        spares_push(&log->spares, memory, 0);
    }
    struct memory_head *spare = spare_head(&log->spares);
    uint32_t left = newest->capacity - newest->size;
    uint32_t to = left < faulting->ahead ? faulting->ahead - left : 0;
    to = to < FAULT_STEP ? FAULT_STEP : to;
    to = to < log->segment_size ? to : log->segment_size;
    if (spare->made >= to - to / 4)
        return false;
    fault_part(faulting, log->spares.first, spare->made, to);
    spare->made = to;
    return true;
}

/* The index grows by a huge page at a time, seldom. */
static bool fault_index(struct log_engine *log)
{
    struct faulting *faulting = &log->faulting;
    size_t size;
    uint8_t *memory = slab_reserve(&log->slab, &size);
    if (memory == NULL)
        return false;
    faulting->reference = NULL;
    faulting->from = memory;
    faulting->size = size;
    return true;
}

void spares_fault_ahead(struct log_engine *log, uint32_t written)
{
    struct faulting *faulting = &log->faulting;
    ahead_measure(log, written);
    if (background_runs(log, &faulting->is_running))
        return;
    if (!fault_index(log) && !fault_segment(log) && !fault_next(log))
        return;
    faulting->is_running = true; /* no one else looks until the job is there */
    faulting->job.run = fault_job;
    pool_submit_task(log->urgent_pool, &faulting->job);
}

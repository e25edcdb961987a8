/*
 * engine/log/compaction.c: giving back the space of dead records, and bringing those together whose
 * keys are neighbours.
 *
 *   1. the writer picks the sealed segment with most garbage, or, when it was asked for, several of
 *      those that have garbage or lie in no order, and then of those that do, but over the same
 *      keys (overlap.h), and hands them to the compaction thread;
 *   2. that reads their records in the order of keys, skips those that are dead by now, and asks
 *      the writer to append the others to the newest segment (emptying.c), a small move at a time:
 *      writers wait for one move at most, and between two of them it rests (pace.c);
 *   3. when all moves are on the disk and nothing is left in the victims, it removes their files,
 *      the oldest first, and syncs the directory after each, or once;
 *   4. the writer takes the segments off the list; a segment's memory goes when no snapshot's entry
 *      points to it, and then it comes back to the thread, which gives the space of the file back.
 * Readers never wait: an entry's location changes by one store, and old bytes stay until no reader
 * is inside an epoch that could see them.
 *
 * A merge of what lies over the same keys goes up to some key: segments that have more stay, and
 * are emptied by the next one.
 *
 * Files go in the log's order, because a removal is left out when all that is older than its
 * segment goes, too: were the younger file gone and the older one still there, what was removed
 * would be back. (A merge that ends at some key leaves out no removal but of ranges, where no
 * older set stays.) What is over is dropped without a removal, too, then; where such a compaction
 * fails, the next one makes up for it (victim_owes). Where more than half of the log is garbage no
 * removal is left out, and several segments go together (in_any_order).
 *
 * Failure: the segments are left as they were (moved records are dead in them). For lack of memory
 * or space they are tried again later, else never.
 */
#include "engine/log/emptying.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/file.h"
#include "engine/log/overlap.h"
#include "engine/log/upkeep.h"
#include "engine/log/wanted.h"
#include "runtime/futex.h"
#include "runtime/thread.h"

/* What a requested compaction puts in order at once: so many segments, ... */
#define SORTED_SEGMENTS_MAX 32u
/* ... and copies before it gives anything back: so many segments, ... */
#define COPIED_SEGMENTS 8u
#define COPIED_PART 4u /* ... or this part of the log, ... */
#define COPIED_FREE 2u /* ... but not more than this part of the disk's free space; ... */
#define READ_PART 4u   /* ... and have in memory beside the cache, as part of that. One always. */
#define GARBAGE_LITTLE 52u /* 1/1024 of a segment: it is left where it is */
/* The newest is sealed for its order when batches wrote an eighth of it, and it has this part of a
 * segment: else each compaction that is asked for would leave a small one behind. */
#define SEAL_PART 16u

/* --- choosing: the writer --------------------------------------------------------------------- */

static uint64_t segment_garbage(const struct log_engine *log, const struct segment *segment,
                                uint64_t wall_ms)
{
    const struct accounts *accounts = &segment->accounts;
    uint64_t used = SEGMENT_HEADER_SIZE + RECORD_SEAL_SIZE + accounts->live_bytes;
    if (segment != log->oldest)
        used += accounts->tombstone_bytes;
    for (unsigned i = 0; i < LIFE_CLASSES; i++)
        if (accounts->lives[i].last_ms <= wall_ms)
            used -= accounts->lives[i].bytes;
    return segment->size > used ? segment->size - used : 0;
}

static bool segment_is_candidate(const struct segment *segment, uint32_t below)
{
    return segment->state == SEGMENT_SEALED && !segment->stuck && segment->number < below;
}

/* What a requested compaction may still take. */
struct allowance {
    uint64_t copied_bytes;
    uint64_t read_bytes;
};

static struct allowance allowance_of(struct log_engine *log)
{
    uint64_t copied = (uint64_t)COPIED_SEGMENTS * log->segment_size;
    uint64_t part = stat_get(&log->stat_disk_bytes) / COPIED_PART;
    struct file_space space;
    if (file_space(log->directory, &space) != 0)
        space.free = 0; /* one by one, then */
    copied = copied > part ? copied : part;
    return (struct allowance){copied < space.free / COPIED_FREE ? copied : space.free / COPIED_FREE,
                              log->cache_size_max / READ_PART};
}

/* False: it was not enough for this segment. */
static bool allowance_take(struct allowance *allowance, const struct segment *segment)
{
    uint64_t copied = segment->accounts.live_bytes + segment->accounts.tombstone_bytes;
    uint64_t read = wanted_bytes(segment);
    if (copied > allowance->copied_bytes || read > allowance->read_bytes)
        return false;
    allowance->copied_bytes -= copied;
    allowance->read_bytes -= read;
    return true;
}

/* Of the segments before one of them, those that have so much garbage, in 1/1024, or lie in no
 * order: as many as go at once, or that with most garbage alone. They share a sync of the log, and
 * one of the directory where they may go in any order; each takes a second where writes come fast.
 * Returns how many. */
static unsigned pick_several(struct log_engine *log, uint64_t wall_ms, uint32_t below,
                             uint64_t garbage_min, bool with_scattered,
                             struct segment *victims[SORTED_SEGMENTS_MAX])
{
    struct allowance allowance = {0};
    struct segment *best = NULL;
    uint64_t most = 0;
    unsigned count = 0;
    for (struct segment *at = log->oldest;
         at != NULL && at->number < below && count < SORTED_SEGMENTS_MAX; at = at->next) {
        if (!segment_is_candidate(at, log->synced_segment))
            continue;
        uint64_t share = segment_garbage(log, at, wall_ms) * 1024 / at->size;
        if (share < garbage_min && !(with_scattered && at->is_scattered))
            continue;
        if (best == NULL)
            allowance = allowance_of(log);
        if (best == NULL || share > most) {
            best = at;
            most = share;
        }
        if (allowance_take(&allowance, at))
            victims[count++] = at;
    }
    if (count == 0 && best != NULL) /* together they might fill the disk before any of them goes */
        victims[count++] = best;
    return count;
}

/* Of the segments that could be emptied. */
struct garbage {
    uint64_t log_total; /* with those that are being emptied, ... */
    uint64_t log_garbage;
    uint64_t total; /* ... and without */
    uint64_t garbage;
    uint64_t tombstones;
    uint64_t most;        /* the largest part that is garbage, in 1/1024, ... */
    struct segment *best; /* ... and where */
};

static struct garbage garbage_count(const struct log_engine *log, uint64_t wall_ms, uint32_t below)
{
    struct garbage sum = {0};
    for (struct segment *at = log->oldest; at != NULL; at = at->next) {
        if (!segment_is_candidate(at, below))
            continue;
        uint64_t of_segment = segment_garbage(log, at, wall_ms);
        sum.log_total += at->size;
        sum.log_garbage += of_segment;
        if (at->is_victim)
            continue;
        sum.total += at->size;
        sum.garbage += of_segment;
        sum.tombstones += at->accounts.tombstone_bytes;
        uint64_t share = of_segment * 1024 / at->size;
        if (share > sum.most) {
            sum.most = share;
            sum.best = at;
        }
    }
    return sum;
}

/* In the background: when more than a third of the log is garbage, the segment with most of it;
 * when tombstones pile up, the oldest, for only there they can go. NULL: nothing is worth it. */
static struct segment *first_of(const struct log_engine *log, const struct garbage *sum,
                                uint32_t below)
{
    if (sum->best != NULL && (sum->garbage > sum->total / 3 || sum->most > 1024 * 3 / 4))
        return sum->best;
    if (sum->tombstones > sum->total / 4 && sum->tombstones > log->segment_size &&
        segment_is_candidate(log->oldest, below))
        return log->oldest;
    return NULL;
}

/* That one, or, when more than half of the log is garbage, all that have almost as much of it.
 * Returns how many. */
static unsigned pick_background(struct log_engine *log, uint64_t wall_ms,
                                struct segment *victims[SORTED_SEGMENTS_MAX])
{
    uint32_t below = log->synced_segment;
    struct garbage sum = garbage_count(log, wall_ms, below);
    struct segment *first = first_of(log, &sum, below);
    if (first == NULL)
        return 0;
    if (sum.garbage > sum.total / 2 && sum.tombstones <= sum.total / 4)
        return pick_several(log, wall_ms, below, sum.most * 3 / 4, false, victims);
    victims[0] = first;
    return 1;
}

/* With --sync=never nobody else brings what could be compacted to the disk. */
static bool waits_for_sync(const struct log_engine *log, uint64_t wall_ms)
{
    uint32_t below = log->newest->number;
    if (log->sync != KVS_SYNC_NEVER)
        return false;
    struct garbage sum = garbage_count(log, wall_ms, below);
    return first_of(log, &sum, below) != NULL;
}

static void compact_waiting_complete(struct log_engine *log, int error)
{
    struct completions completions = COMPLETIONS_INIT;
    struct task *task;
    while ((task = task_list_pop(&log->compacts.waiting)) != NULL)
        completions_add(&completions, CONTAINER_OF(task, struct op, task), error);
    completions_flush(&completions);
}

/* After what the thread might wait for has been stored. */
static void compaction_signal(struct compaction *compaction)
{
    /* release: whoever sees the count sees what was stored before. */
    atomic_fetch_add_explicit(&compaction->signals, 1, memory_order_release);
    futex_wake_all(&compaction->signals);
}

static void rest_set(struct log_engine *log)
{
    struct garbage sum = garbage_count(log, clock_wall_ms(), log->newest->number);
    log->held.per_ms = pace_writes_of(log, sum.log_garbage, sum.log_total);
    /* relaxed: it tells of nothing else. */
    atomic_store_explicit(&log->compaction.rest, pace_rest_of(sum.garbage, sum.total),
                          memory_order_relaxed);
}

/* The victims are in the log's order. */
static void hand_over_all(struct log_engine *log, const struct overlap *victims,
                          enum compaction_job job)
{
    struct compaction *compaction = &log->compaction;
    const struct key_span *end = victims->end;
    stat_set(&log->stat_compacting, job == COMPACTION_EMPTY);
    compaction->victims_count = victims->count;
    compaction->end = end;
    compaction->in_any_order = victims->in_any_order;
    compaction->is_moved = false;
    compaction->job = job;
    const struct segment *older = log->oldest; /* the first one that is no victim up to here */
    for (unsigned i = 0; i < victims->count; i++) {
        struct segment *segment = victims->segments[i];
        segment->is_victim = true;
        while (older->is_victim && older != segment)
            older = older->next;
        bool stays = end != NULL && key_span_ends_behind(segment->span, end);
        bool keep_removes = older != segment || end != NULL || victims->in_any_order;
        compaction->victims[i] =
            (struct victim){.segment = segment,
                            .keep_removes = keep_removes,
                            .stays = stays,
                            .is_sparse = wanted_is_sparse(segment),
                            .is_dead = segment->accounts.live_bytes == 0 &&
                                       (!keep_removes || (segment->accounts.tombstone_bytes == 0 &&
                                                          !segment->owes_removals))};
    }
    atomic_store_explicit(&compaction->handed_over, true, memory_order_release);
    compaction_signal(compaction);
}

static void hand_over(struct log_engine *log, struct segment *victim, enum compaction_job job)
{
    const struct overlap one = {.segments = {victim}, .count = 1};
    hand_over_all(log, &one, job);
}

/* Hints first: a start without them costs more than some garbage. Warming last. */
void upkeep_consider(struct log_engine *log)
{
    struct segment *segment;
    if (log->compaction.victims_count > 0)
        return;
    log->upkeep_due = false;
    if ((segment = upkeep_pick_hint(log)) != NULL)
        hand_over(log, segment, COMPACTION_HINT);
    else if ((segment = upkeep_pick_warm(log)) != NULL) {
        log->compaction.memory =
            spares_take_for_reading(log, segment->size, &log->compaction.memory_size);
        hand_over(log, segment, COMPACTION_WARM);
    }
}

static bool overlap_take(void *arg, const struct segment *segment)
{
    return allowance_take(arg, segment);
}

/* Is all before that segment on the disk? Else it soon will be. */
static bool is_on_disk(struct log_engine *log, uint32_t below)
{
    if (log->synced_segment >= below)
        return true;
    if (!log->background.running)
        log->sync_due_ms = clock_now_ms();
    return false;
}

/* First what has garbage or no order, then, when that lies in order on the disk, what lies over the
 * same keys. False: not yet. */
static bool pick_for_request(struct log_engine *log, uint64_t wall_ms, struct overlap *ret_victims)
{
    if (!is_on_disk(log, log->compacts.below))
        return false;
    if (log->compacts.merge_below == 0) {
        ret_victims->count = pick_several(log, wall_ms, log->compacts.below, GARBAGE_LITTLE, true,
                                          ret_victims->segments);
        if (ret_victims->count > 0)
            return true;
        log->compacts.merge_below = log->newest->number;
    }
    if (!is_on_disk(log, log->compacts.merge_below))
        return false;
    struct allowance allowance = allowance_of(log);
    overlap_pick(log, log->compacts.merge_below, overlap_take, &allowance, ret_victims);
    return true;
}

/* Segments to be emptied, or merged. Ends the requests for which there is none left. */
static void pick(struct log_engine *log, struct overlap *ret_victims)
{
    uint64_t wall_ms = clock_wall_ms();
    *ret_victims = (struct overlap){.count = 0};
    if (log->compacts.waiting.first != NULL) {
        if (!pick_for_request(log, wall_ms, ret_victims) || ret_victims->count > 0)
            return;
        if (stat_get(&log->stat_writes) == log->compacts.writes) /* who asks wants it small */
            segments_unreserve(log);
        compact_waiting_complete(log, 0);
    }
    ret_victims->count = pick_background(log, wall_ms, ret_victims->segments);
    ret_victims->in_any_order = ret_victims->count > 1;
    if (ret_victims->count == 0 && waits_for_sync(log, wall_ms))
        log->sync_due_ms = clock_now_ms();
}

/* When the next records will be over, and so garbage: nobody writes or removes them. 0: none. */
static uint64_t look_by_ends(const struct log_engine *log)
{
    uint64_t wall_ms = clock_wall_ms();
    uint64_t next_ms = wall_ms + COMPACTION_LOOK_MAX_MS;
    bool any = false;
    for (const struct segment *at = log->oldest; at != NULL; at = at->next) {
        for (unsigned i = 0; i < LIFE_CLASSES; i++) {
            const struct life *life = &at->accounts.lives[i];
            any |= life->bytes > 0 && life->last_ms > wall_ms;
            if (life->bytes > 0 && life->last_ms > wall_ms && life->last_ms < next_ms)
                next_ms = life->last_ms;
        }
    }
    return any ? clock_now_ms() + (next_ms - wall_ms) + COMPACTION_LOOK_MS : 0;
}

void compaction_consider(struct log_engine *log)
{
    log->groups_until_compaction = COMPACTION_CONSIDER_EVERY;
    log->compacts.look_ms = look_by_ends(log);
    log->compaction_missed = log->compaction.victims_count > 0;
    rest_set(log); /* garbage has come, or gone, since then */
    if (log->compaction_missed)
        return;
    if (atomic_load_explicit(&log->failed, memory_order_relaxed)) {
        compact_waiting_complete(log, KVS_ERR_STORAGE_FAILED);
        return;
    }
    struct segment *hintless = upkeep_pick_hint(log);
    if (hintless != NULL) {
        log->compaction_missed = true; /* again when that is done */
        hand_over(log, hintless, COMPACTION_HINT);
        return;
    }
    struct overlap victims;
    pick(log, &victims);
    if (victims.count > 0)
        hand_over_all(log, &victims, COMPACTION_EMPTY);
    else
        upkeep_consider(log);
}

static bool newest_is_worth_it(const struct log_engine *log)
{
    const struct segment *newest = log->newest;
    uint64_t used = SEGMENT_HEADER_SIZE + newest->accounts.live_bytes;
    return newest->size > used + (newest->size / 20) ||
           (newest->accounts.batch_bytes > newest->size / 8 &&
            newest->accounts.batch_bytes > log->segment_size / SEAL_PART);
}

/* What is in the newest segment can only go after that is sealed, and only what is on the disk may
 * be compacted: so a roll and a sync come first. */
void writer_compact(struct log_engine *log, struct engine_control *control)
{
    writer_commit(log);
    int error = 0;
    if (log->compacts.ended)
        error = KVS_ERR_CANCELLED;
    else if (atomic_load_explicit(&log->failed, memory_order_relaxed))
        error = KVS_ERR_STORAGE_FAILED;
    else if (newest_is_worth_it(log))
        error = segments_roll(log, 0);
    if (error != 0) {
        struct completions completions = COMPLETIONS_INIT;
        completions_add(&completions, &control->op, error);
        completions_flush(&completions);
        return;
    }
    log->compacts.below = log->newest->number;
    log->compacts.merge_below = 0;
    log->compacts.writes = stat_get(&log->stat_writes);
    task_list_push(&log->compacts.waiting, &control->op.task);
    if (log->synced_segment < log->compacts.below)
        writer_sync(log, NULL);
    log->groups_until_compaction = 0;
}

static void compact_end_run(struct task *task)
{
    struct log_engine *log = CONTAINER_OF(task, struct log_engine, compacts.end);
    log->compacts.ended = true;
    compact_waiting_complete(log, KVS_ERR_CANCELLED);
}

void compaction_end_requests(struct log_engine *log)
{
    /* relaxed: whoever is the first writes and sends the request, which orders all else. */
    if (atomic_exchange_explicit(&log->compacts.end_asked, true, memory_order_relaxed))
        return;
    log->compacts.end.run = compact_end_run;
    writer_request(log, &log->compacts.end);
}

/* What could not be read, or removed, is left alone from now on; so is all of it when nobody knows
 * which. A file that is gone from a directory that could not be synced is removed once more. */
static void victims_failed(struct log_engine *log)
{
    struct compaction *compaction = &log->compaction;
    bool is_known = false;
    bool is_lasting = false;
    for (unsigned i = 0; i < compaction->victims_count; i++) {
        struct victim *victim = &compaction->victims[i];
        is_known |= victim->error != 0;
        if (victim->error == KVS_ERR_IO || victim->error == KVS_ERR_CORRUPTION)
            victim->segment->stuck = is_lasting = true;
        victim->segment->owes_removals |= !victim->keep_removes;
    }
    if (!is_known && !compaction->is_moved &&
        (compaction->error == KVS_ERR_IO || compaction->error == KVS_ERR_CORRUPTION)) {
        for (unsigned i = 0; i < compaction->victims_count; i++)
            compaction->victims[i].segment->stuck = true;
        is_lasting = true;
    }
    if (!is_lasting)
        log->groups_until_compaction = COMPACTION_CONSIDER_EVERY; /* not at once */
    compact_waiting_complete(log, compaction->error);
}

/* Those that stay first: where the merge ended, one of the others knows. Returns how many went. */
static unsigned victims_leave(struct log_engine *log)
{
    struct compaction *compaction = &log->compaction;
    unsigned left = 0;
    for (unsigned i = 0; i < compaction->victims_count; i++) {
        if (compaction->victims[i].stays && compaction->error == 0)
            overlap_cut(compaction->victims[i].segment, compaction->end);
    }
    for (unsigned i = 0; i < compaction->victims_count; i++) {
        struct segment *segment = compaction->victims[i].segment;
        if (!compaction->victims[i].is_removed)
            continue;
        left++;
        stat_add(&log->stat_compactions, 1);
        stat_add(&log->stat_compacted_bytes, segment->size);
        segments_unlink(log, segment);
    }
    compaction->victims_count = 0;
    return left;
}

static void compaction_finished(struct task *task)
{
    struct log_engine *log = CONTAINER_OF(task, struct log_engine, compaction.finished);
    struct compaction *compaction = &log->compaction;
    stat_set(&log->stat_compacting, 0);
    for (unsigned i = 0; i < compaction->victims_count; i++)
        compaction->victims[i].segment->is_victim = false;
    log->upkeep_due = true;
    if (compaction->job != COMPACTION_EMPTY) {
        upkeep_finished(log, compaction->victims[0].segment, compaction->job, compaction->error);
        compaction->victims_count = 0;
        if (log->compaction_missed || log->compacts.waiting.first != NULL)
            log->groups_until_compaction = 0;
        return;
    }
    log->groups_until_compaction = 0;
    if (compaction->error != 0)
        victims_failed(log);
    if (victims_leave(log) > 0) {
        segments_evict(log); /* what was kept for the thread */
        segments_count(log);
    }
}

/* --- the compaction thread -------------------------------------------------------------------- */

static void compaction_answer(struct log_engine *log, int error)
{
    struct compaction *compaction = &log->compaction;
    compaction->answer = error;
    atomic_store_explicit(&compaction->answered, true, memory_order_release);
    compaction_signal(compaction);
}

/* To be read before what is looked for: then no signal is missed. */
static uint32_t compaction_signals(struct log_engine *log)
{
    return atomic_load_explicit(&log->compaction.signals, memory_order_acquire);
}

static int compaction_wait_answer(struct log_engine *log)
{
    struct compaction *compaction = &log->compaction;
    for (;;) {
        uint32_t signals = compaction_signals(log);
        if (atomic_exchange_explicit(&compaction->answered, false, memory_order_acquire))
            return compaction->answer;
        futex_wait(&compaction->signals, signals, -1);
    }
}

/* On the writer's thread. */
static void move_on_done(struct task *task)
{
    struct move *move = CONTAINER_OF(task, struct move, op.task);
    move->end_segment = move->log->newest->number;
    move->end_offset = move->log->newest->size;
    compaction_answer(move->log, move->op.error);
}

static void move_request(struct task *task)
{
    struct move *move = CONTAINER_OF(task, struct move, request);
    writer_add_move(move->log, move);
}

int compaction_move(struct move *move)
{
    move->op = (struct op){.task.run = move_on_done};
    move->request.run = move_request;
    uint64_t begun_ns = clock_now_ns();
    writer_request(move->log, &move->request);
    int error = compaction_wait_answer(move->log);
    if (error == 0)
        pace_after_move(move->log, clock_now_ns() - begun_ns, move->end_segment, move->end_offset);
    return error;
}

struct sync_request {
    struct engine_control control;
    struct task request;
    struct log_engine *log;
};

static void sync_on_done(struct task *task)
{
    struct sync_request *sync = CONTAINER_OF(task, struct sync_request, control.op.task);
    compaction_answer(sync->log, sync->control.op.error);
}

/* All moves are published, so nothing can live in a victim any more. Were it otherwise, its file
 * must not go. On the writer's thread. */
static int victims_check(struct log_engine *log)
{
    struct compaction *compaction = &log->compaction;
    int error = 0;
    for (unsigned i = 0; i < compaction->victims_count; i++) {
        struct victim *victim = &compaction->victims[i];
        const struct segment *segment = victim->segment;
        if (segment->accounts.live_bytes == 0 || victim->stays)
            continue;
        log_error(
            "%s: segment %u still has %llu bytes after all of it was moved; it is left as it is",
            log->directory, segment->number, (unsigned long long)segment->accounts.live_bytes);
        victim->error = error = KVS_ERR_CORRUPTION;
    }
    return error;
}

static void sync_request_run(struct task *task)
{
    struct sync_request *sync = CONTAINER_OF(task, struct sync_request, request);
    int error = victims_check(sync->log);
    if (error != 0)
        compaction_answer(sync->log, error);
    else
        writer_sync(sync->log, &sync->control);
}

static int sync_run(struct log_engine *log)
{
    struct sync_request sync = {
        .control.op.task.run = sync_on_done, .request.run = sync_request_run, .log = log};
    writer_request(log, &sync.request);
    return compaction_wait_answer(log);
}

bool compaction_is_stopping(struct log_engine *log)
{
    /* relaxed: it tells of nothing else. */
    return atomic_load_explicit(&log->compaction.stop, memory_order_relaxed);
}

/* Those that were taken from the directory have left it for good. */
static int removed_sync(struct log_engine *log)
{
    struct compaction *compaction = &log->compaction;
    int error = file_sync_directory(log->directory);
    for (unsigned i = 0; i < compaction->victims_count && error != 0; i++)
        compaction->victims[i].is_removed = false;
    return error;
}

/* Before a file goes, what replaces its records must be on the disk: moved copies and younger
 * writes alike. */
static int victims_empty(struct log_engine *log)
{
    struct compaction *compaction = &log->compaction;
    bool once = compaction->in_any_order;
    int error = emptying_run(log);
    if (error == 0)
        error = sync_run(log);
    if (error != 0)
        return error;
    compaction->is_moved = true;
    for (unsigned i = 0; i < compaction->victims_count && error == 0; i++) {
        struct victim *victim = &compaction->victims[i];
        if (victim->stays)
            continue;
        error = victim->error = segments_unlink_file(log, victim->segment);
        if (error == 0 && !once)
            error = file_sync_directory(log->directory);
        victim->is_removed = error == 0;
    }
    int error_of_sync = once ? removed_sync(log) : 0;
    return error != 0 ? error : error_of_sync;
}

static void victims_work(struct log_engine *log)
{
    struct compaction *compaction = &log->compaction;
    struct segment *first = compaction->victims[0].segment;
    if (compaction->job == COMPACTION_HINT)
        compaction->error = upkeep_hint(log, first);
    else if (compaction->job == COMPACTION_WARM)
        compaction->error = upkeep_warm(log, first);
    else
        compaction->error = victims_empty(log);
    writer_request(log, &compaction->finished);
}

/* Those that have been emptied up to now. False: there was none. */
static bool emptied_bury(struct log_engine *log)
{
    struct segment *segment =
        atomic_exchange_explicit(&log->compaction.emptied, NULL, memory_order_acquire);
    bool any = segment != NULL;
    while (segment != NULL) {
        struct segment *next = segment->next;
        pace_bury(log, segment);
        segment = next;
    }
    return any;
}

/* False: there was none. */
static bool trim_run(struct log_engine *log)
{
    struct compaction *compaction = &log->compaction;
    if (!atomic_exchange_explicit(&compaction->trims, false, memory_order_acquire))
        return false;
    while (!compaction_is_stopping(log) && slab_trim_step(&compaction->trim)) {
    }
    writer_request(log, &compaction->trimmed);
    return true;
}

static void *compaction_thread(void *arg)
{
    struct log_engine *log = arg;
    struct compaction *compaction = &log->compaction;
    thread_step_back();
    for (;;) {
        uint32_t signals = compaction_signals(log); /* before all that is looked at */
        if (compaction_is_stopping(log))
            return NULL;
        bool any = emptied_bury(log);
        any |= trim_run(log);
        if (atomic_exchange_explicit(&compaction->handed_over, false, memory_order_acquire))
            victims_work(log);
        else if (!any)
            futex_wait(&compaction->signals, signals, -1);
    }
}

void compaction_bury(struct log_engine *log, struct segment *segment)
{
    struct compaction *compaction = &log->compaction;
    /* Only the writer adds, so what it finds can only have been taken meanwhile. */
    struct segment *first = atomic_load_explicit(&compaction->emptied, memory_order_relaxed);
    do
        segment->next = first;
    while (!atomic_compare_exchange_weak_explicit(&compaction->emptied, &first, segment,
                                                  memory_order_release, memory_order_relaxed));
    compaction_signal(compaction);
}

static void trim_finished(struct task *task)
{
    struct log_engine *log = CONTAINER_OF(task, struct log_engine, compaction.trimmed);
    slab_trim_end(&log->slab, &log->compaction.trim);
    log->compaction.is_trimming = false;
}

void compaction_trim_index(struct log_engine *log)
{
    struct compaction *compaction = &log->compaction;
    /* The memory of the index whose pages are being made must not go meanwhile. */
    if (compaction->is_trimming || compaction->victims_count > 0 || !slab_trim_is_due(&log->slab) ||
        background_runs(log, &log->faulting.is_running))
        return;
    slab_trim_begin(&log->slab, &compaction->trim);
    compaction->is_trimming = true;
    atomic_store_explicit(&compaction->trims, true, memory_order_release);
    compaction_signal(compaction);
}

int compaction_start(struct log_engine *log)
{
    log->compaction.finished.run = compaction_finished;
    log->compaction.trimmed.run = trim_finished;
    int status = pthread_create(&log->compaction.thread, NULL, compaction_thread, log);
    if (status != 0)
        return error_from_errno(status);
    pthread_setname_np(log->compaction.thread, "kvs-compaction");
    log->compaction.started = true;
    return 0;
}

void compaction_stop(struct log_engine *log)
{
    if (!log->compaction.started)
        return;
    atomic_store_explicit(&log->compaction.stop, true, memory_order_relaxed);
    compaction_signal(&log->compaction);
    pthread_join(log->compaction.thread, NULL);
    log->compaction.started = false;
}

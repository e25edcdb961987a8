/*
 * engine/log/compaction.c: giving back the space of dead records.
 *
 *   1. the writer picks a sealed segment with much garbage and hands it to the compaction thread;
 *   2. that reads its records, skips those that are dead by now, and asks the writer to append the
 *      others to the newest segment, a small move at a time: writers wait for one move at most, and
 *      between two of them it rests (pace.c);
 *   3. when all moves are on the disk, it removes the file and syncs the directory;
 *   4. the writer takes the segment off the list; its memory goes when no snapshot's entry points
 *      to it, and then it comes back to the thread, which gives the space of the file back.
 * Readers never wait: an entry's location changes by one store, and old bytes stay until no reader
 * is inside an epoch that could see them.
 *
 * Failure: the segment is left as it was (its moved records are dead in it). For lack of memory or
 * space it is tried again later, else never.
 */
#include "engine/log/log_engine.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/file.h"
#include "engine/log/upkeep.h"
#include "runtime/futex.h"

#define MOVE_SIZE_MAX (64u * 1024)
#define MOVE_COUNT_MAX 4096u
/* Records looked at inside one epoch, which holds up reclaiming; and one round of look-ups. */
#define SCAN_COUNT_MAX (2048u - TREE_FIND_MANY_MAX)

/* --- choosing: the writer --------------------------------------------------------------------- */

static uint64_t segment_garbage(const struct log_engine *log, const struct segment *segment,
                                uint64_t wall_ms)
{
    const struct accounts *accounts = &segment->accounts;
    uint64_t used = SEGMENT_HEADER_SIZE + RECORD_SEAL_SIZE + accounts->live_bytes;
    if (segment != log->oldest)
        used += accounts->tombstone_bytes;
    if (accounts->expires_last_ms <= wall_ms)
        used -= accounts->expiring_bytes;
    return segment->size > used ? segment->size - used : 0;
}

static bool segment_is_candidate(const struct segment *segment, uint32_t below)
{
    return segment->state == SEGMENT_SEALED && !segment->stuck && segment->number < below;
}

/* For a requested compaction: the first segment in its range with more than a little garbage. */
static struct segment *pick_requested(const struct log_engine *log, uint64_t wall_ms)
{
    for (struct segment *at = log->oldest; at != NULL && at->number < log->compact_below;
         at = at->next) {
        if (segment_is_candidate(at, log->synced_segment) &&
            segment_garbage(log, at, wall_ms) > at->size / 20)
            return at;
    }
    return NULL;
}

/* Of the segments that could be emptied. */
struct garbage {
    uint64_t total;
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
 * when tombstones pile up, the oldest, for only there they can go. */
static struct segment *pick_background(const struct log_engine *log, uint64_t wall_ms,
                                       uint32_t below)
{
    struct garbage sum = garbage_count(log, wall_ms, below);
    if (sum.best != NULL && (sum.garbage > sum.total / 3 || sum.most > 1024 * 3 / 4))
        return sum.best;
    if (sum.tombstones > sum.total / 4 && sum.tombstones > log->segment_size &&
        segment_is_candidate(log->oldest, below))
        return log->oldest;
    return NULL;
}

static void compact_waiting_complete(struct log_engine *log, int error)
{
    struct completions completions = COMPLETIONS_INIT;
    struct task *task;
    while ((task = task_list_pop(&log->compact_waiting)) != NULL)
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

static void hand_over(struct log_engine *log, struct segment *victim, enum compaction_job job)
{
    struct compaction *compaction = &log->compaction;
    struct garbage sum = garbage_count(log, clock_wall_ms(), log->newest->number);
    stat_set(&log->stat_compacting, job == COMPACTION_EMPTY);
    compaction->victim = victim;
    compaction->job = job;
    compaction->rest = pace_rest_of(sum.garbage, sum.total);
    compaction->keep_removes = victim != log->oldest;
    compaction->victim_is_dead = victim->accounts.live_bytes == 0 &&
                                 (victim == log->oldest || victim->accounts.tombstone_bytes == 0);
    atomic_store_explicit(&compaction->handed_over, true, memory_order_release);
    compaction_signal(compaction);
}

/* Hints first: a start without them costs more than some garbage. Warming last. */
void upkeep_consider(struct log_engine *log)
{
    struct segment *segment;
    if (log->compaction.victim != NULL)
        return;
    log->upkeep_due = false;
    if ((segment = upkeep_pick_hint(log)) != NULL)
        hand_over(log, segment, COMPACTION_HINT);
    else if ((segment = upkeep_pick_warm(log)) != NULL)
        hand_over(log, segment, COMPACTION_WARM);
}

/* A segment to be emptied, or NULL; ends the requests for which there is none left. */
static struct segment *pick(struct log_engine *log)
{
    uint64_t wall_ms = clock_wall_ms();
    if (log->compact_waiting.first != NULL) {
        struct segment *victim = pick_requested(log, wall_ms);
        if (victim != NULL)
            return victim;
        if (log->synced_segment < log->compact_below) { /* they are not all on the disk yet */
            if (!log->background.running)
                log->sync_due_ms = clock_now_ms();
            return NULL;
        }
        compact_waiting_complete(log, 0);
    }
    struct segment *victim = pick_background(log, wall_ms, log->synced_segment);
    /* With --sync=never nobody else brings what could be compacted to the disk. */
    if (victim == NULL && log->sync == KVS_SYNC_NEVER &&
        pick_background(log, wall_ms, log->newest->number) != NULL)
        log->sync_due_ms = clock_now_ms();
    return victim;
}

void compaction_consider(struct log_engine *log)
{
    log->groups_until_compaction = COMPACTION_CONSIDER_EVERY;
    log->compaction_missed = log->compaction.victim != NULL;
    if (log->compaction_missed)
        return;
    if (atomic_load_explicit(&log->failed, memory_order_relaxed)) {
        compact_waiting_complete(log, KVS_ERR_STORAGE_FAILED);
        return;
    }
    struct segment *victim = upkeep_pick_hint(log);
    if (victim != NULL) {
        log->compaction_missed = true; /* again when that is done */
        hand_over(log, victim, COMPACTION_HINT);
        return;
    }
    victim = pick(log);
    if (victim != NULL)
        hand_over(log, victim, COMPACTION_EMPTY);
    else
        upkeep_consider(log);
}

static bool newest_has_garbage(const struct log_engine *log)
{
    const struct segment *newest = log->newest;
    uint64_t used = SEGMENT_HEADER_SIZE + newest->accounts.live_bytes;
    return newest->size > used + (newest->size / 20);
}

/* What is in the newest segment can only go after that is sealed, and only what is on the disk may
 * be compacted: so a roll and a sync come first. */
void writer_compact(struct log_engine *log, struct engine_control *control)
{
    writer_commit(log);
    int error = 0;
    if (atomic_load_explicit(&log->failed, memory_order_relaxed))
        error = KVS_ERR_STORAGE_FAILED;
    else if (newest_has_garbage(log))
        error = segments_roll(log, 0);
    if (error != 0) {
        struct completions completions = COMPLETIONS_INIT;
        completions_add(&completions, &control->op, error);
        completions_flush(&completions);
        return;
    }
    log->compact_below = log->newest->number;
    task_list_push(&log->compact_waiting, &control->op.task);
    if (log->synced_segment < log->compact_below)
        writer_sync(log, NULL);
    log->groups_until_compaction = 0;
}

static void compaction_finished(struct task *task)
{
    struct log_engine *log = CONTAINER_OF(task, struct log_engine, compaction.finished);
    struct compaction *compaction = &log->compaction;
    struct segment *victim = compaction->victim;
    stat_set(&log->stat_compacting, 0);
    compaction->victim = NULL;
    log->upkeep_due = true;
    if (compaction->job != COMPACTION_EMPTY) {
        upkeep_finished(log, victim, compaction->job, compaction->error);
        if (log->compaction_missed || log->compact_waiting.first != NULL)
            log->groups_until_compaction = 0;
        return;
    }
    log->groups_until_compaction = 0;
    if (compaction->error != 0) {
        victim->stuck = compaction->error == KVS_ERR_IO || compaction->error == KVS_ERR_CORRUPTION;
        if (!victim->stuck)
            log->groups_until_compaction = COMPACTION_CONSIDER_EVERY; /* not at once */
        compact_waiting_complete(log, compaction->error);
    } else {
        stat_add(&log->stat_compactions, 1);
        stat_add(&log->stat_compacted_bytes, victim->size);
        segments_unlink(log, victim);
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

static int move_run(struct move *move)
{
    if (move->count == 0)
        return 0;
    move->op = (struct op){.task.run = move_on_done};
    move->request.run = move_request;
    uint64_t begun_ns = clock_now_ns();
    writer_request(move->log, &move->request);
    int error = compaction_wait_answer(move->log);
    if (error == 0)
        pace_after_move(move->log, clock_now_ns() - begun_ns, move->end_segment, move->end_offset);
    move->count = 0;
    move->size_bytes = 0;
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

static void sync_request_run(struct task *task)
{
    struct sync_request *sync = CONTAINER_OF(task, struct sync_request, request);
    writer_sync(sync->log, &sync->control);
}

static int sync_run(struct log_engine *log)
{
    struct sync_request sync = {
        .control.op.task.run = sync_on_done, .request.run = sync_request_run, .log = log};
    writer_request(log, &sync.request);
    return compaction_wait_answer(log);
}

/* A record of the victim, and what the index has for its key. */
struct candidate {
    struct record record;
    uint32_t offset;
    uint32_t size;
    struct entry *entry; /* of sets and removes; or NULL */
};

static bool record_has_key(const struct record *record)
{
    return record->kind == RECORD_SET || record->kind == RECORD_REMOVE;
}

/* Looks candidates up side by side, as far as they are of one family: keys come in no order, so
 * each look-up alone would wait for memory at every level. Returns how many. */
static unsigned candidates_find(const struct version *version, struct candidate *candidates,
                                unsigned count)
{
    kvs_slice keys[TREE_FIND_MANY_MAX];
    struct entry *entries[TREE_FIND_MANY_MAX];
    unsigned n = 0;
    unsigned family = candidates[0].record.family;
    while (n < count && n < TREE_FIND_MANY_MAX && candidates[n].record.family == family) {
        bool has_key = record_has_key(&candidates[n].record);
        keys[n] = has_key ? candidates[n].record.key : candidates[0].record.key;
        n++;
    }
    tree_find_many(version->families[family].root, keys, n, entries);
    for (unsigned i = 0; i < n; i++)
        candidates[i].entry = entries[i];
    return n;
}

/* Might the record still count? The writer decides; here the many that surely do not are left
 * out. */
static bool candidate_may_live(const struct move *move, const struct candidate *candidate)
{
    const struct record *record = &candidate->record;
    if (record->kind == RECORD_REMOVE_RANGE)
        return true;
    if (!record_has_key(record))
        return false;
    const struct entry *entry = candidate->entry;
    if (record->kind == RECORD_REMOVE)
        return move->keep_removes && entry == NULL;
    return entry != NULL && atomic_load_explicit(&entry->location, memory_order_acquire) ==
                                location_make(move->from->slot, candidate->offset);
}

/* Reads the next records from *offset on; how many, or CORRUPTION. */
static int candidates_read(const struct move *move, uint32_t *offset, struct candidate *candidates,
                           unsigned max, unsigned *ret_count)
{
    const struct segment *from = move->from;
    unsigned count = 0;
    for (; count < max && *offset < from->size; count++) {
        struct candidate *candidate = &candidates[count];
        kvs_slice bytes = slice_make(move->segment_bytes + *offset, from->size - *offset);
        size_t size = move->from_is_checked
                          ? record_parse(bytes, &candidate->record)
                          : record_decode(bytes, from->number, &candidate->record);
        if (size == 0) {
            log_error("%s: segment %u is damaged at offset %u; it is left as it is",
                      move->log->directory, from->number, *offset);
            return KVS_ERR_CORRUPTION;
        }
        candidate->offset = *offset;
        candidate->size = (uint32_t)size;
        *offset += (uint32_t)size;
    }
    *ret_count = count;
    return 0;
}

/* Fills the move with the next records from *offset on that may live. */
static int move_fill(struct move *move, uint32_t *offset)
{
    struct log_engine *log = move->log;
    struct candidate candidates[TREE_FIND_MANY_MAX];
    int error = 0;
    unsigned slot = epoch_enter(&log->epoch);
    const struct version *version = atomic_load_explicit(&log->version, memory_order_seq_cst);
    unsigned count = 1;
    for (unsigned n = 0; n < SCAN_COUNT_MAX && count > 0 && move->size_bytes < MOVE_SIZE_MAX;
         n += count) {
        error = candidates_read(move, offset, candidates, TREE_FIND_MANY_MAX, &count);
        if (error != 0)
            break;
        for (unsigned found = 0; found < count;)
            found += candidates_find(version, candidates + found, count - found);
        for (unsigned i = 0; i < count; i++) {
            if (!candidate_may_live(move, &candidates[i]))
                continue;
            move->offsets[move->count++] = candidates[i].offset;
            move->size_bytes += candidates[i].size;
        }
    }
    epoch_leave(&log->epoch, slot);
    return error;
}

bool compaction_is_stopping(struct log_engine *log)
{
    /* relaxed: it tells of nothing else. */
    return atomic_load_explicit(&log->compaction.stop, memory_order_relaxed);
}

static int segment_move(struct move *move)
{
    uint32_t offset = SEGMENT_HEADER_SIZE;
    while (offset < move->from->size) {
        if (compaction_is_stopping(move->log))
            return KVS_ERR_CANCELLED;
        int error = move_fill(move, &offset);
        bool full = move->count >= MOVE_COUNT_MAX - SCAN_COUNT_MAX ||
                    move->size_bytes >= MOVE_SIZE_MAX || offset >= move->from->size;
        if (error == 0 && full)
            error = move_run(move);
        if (error != 0)
            return error;
    }
    return 0;
}

static int segment_move_all(struct log_engine *log, struct segment *victim, bool keep_removes)
{
    struct move move = {.log = log, .from = victim, .keep_removes = keep_removes};
    uint8_t *copy = NULL;
    int error = KVS_ERR_NO_MEMORY;
    /* The writer keeps the memory of a victim: no epoch is needed. */
    const uint8_t *memory = atomic_load_explicit(&victim->memory, memory_order_acquire);
    move.from_is_checked = memory != NULL;
    move.offsets = mem_alloc(MOVE_COUNT_MAX * sizeof *move.offsets);
    if (move.offsets == NULL)
        goto out;
    if (memory == NULL) {
        copy = segment_memory_new(victim->size); /* all of it goes back to the system */
        if (copy == NULL)
            goto out;
        error = file_read(victim->fd, copy, victim->size, 0);
        if (error != 0)
            goto out;
        memory = copy;
    }
    move.segment_bytes = memory;
    error = segment_move(&move);
out:
    segment_memory_unref(copy);
    mem_free(move.offsets);
    return error;
}

/* Before the file goes, what replaces its records must be on the disk: moved copies and younger
 * writes alike. */
static int segment_compact(struct log_engine *log, struct segment *victim, bool keep_removes,
                           bool victim_is_dead)
{
    int error = victim_is_dead ? 0 : segment_move_all(log, victim, keep_removes);
    if (error == 0)
        error = sync_run(log);
    return error != 0 ? error : segments_remove_file(log, victim);
}

static void victim_work(struct log_engine *log)
{
    struct compaction *compaction = &log->compaction;
    struct segment *victim = compaction->victim;
    if (compaction->job == COMPACTION_HINT)
        compaction->error = upkeep_hint(log, victim);
    else if (compaction->job == COMPACTION_WARM)
        compaction->error = upkeep_warm(log, victim);
    else
        compaction->error =
            segment_compact(log, victim, compaction->keep_removes, compaction->victim_is_dead);
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

static void *compaction_thread(void *arg)
{
    struct log_engine *log = arg;
    struct compaction *compaction = &log->compaction;
    pace_thread();
    for (;;) {
        uint32_t signals = compaction_signals(log); /* before all that is looked at */
        if (compaction_is_stopping(log))
            return NULL;
        bool any = emptied_bury(log);
        if (atomic_exchange_explicit(&compaction->handed_over, false, memory_order_acquire))
            victim_work(log);
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

int compaction_start(struct log_engine *log)
{
    log->compaction.finished.run = compaction_finished;
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

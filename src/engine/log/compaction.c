/*
 * engine/log/compaction.c: giving back the space of dead records.
 *
 *   1. the writer picks a sealed segment with much garbage and hands it to the compaction thread;
 *   2. that reads its records, skips those that are dead by now, and asks the writer to append the
 *      others to the newest segment, a bounded move at a time: writers wait for one move at most;
 *   3. when all moves are on the disk, it removes the file and syncs the directory;
 *   4. the writer takes the segment off the list; its memory goes when no snapshot's entry points
 *   to it.
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

#include <assert.h>

#define MOVE_SIZE_MAX (256u * 1024)
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
    for (struct segment *at = log->oldest; at != NULL && at->number <= log->compact_up_to;
         at = at->next) {
        if (segment_is_candidate(at, log->synced_segment) &&
            segment_garbage(log, at, wall_ms) > at->size / 20)
            return at;
    }
    return NULL;
}

/* In the background: when more than a third of the log is garbage, the segment with most of it;
 * when tombstones pile up, the oldest, for only there they can go. */
static struct segment *pick_background(const struct log_engine *log, uint64_t wall_ms,
                                       uint32_t below)
{
    uint64_t total = 0;
    uint64_t garbage = 0;
    uint64_t tombstones = 0;
    uint64_t most = 0;
    struct segment *best = NULL;
    for (struct segment *at = log->oldest; at != NULL; at = at->next) {
        if (!segment_is_candidate(at, below))
            continue;
        uint64_t of_segment = segment_garbage(log, at, wall_ms);
        total += at->size;
        garbage += of_segment;
        tombstones += at->accounts.tombstone_bytes;
        uint64_t share = of_segment * 1024 / at->size;
        if (share > most) {
            most = share;
            best = at;
        }
    }
    if (best != NULL && (garbage > total / 3 || most > 1024 * 3 / 4))
        return best;
    if (tombstones > total / 4 && tombstones > log->segment_size &&
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

static void hand_over(struct log_engine *log, struct segment *victim, enum compaction_job job)
{
    struct compaction *compaction = &log->compaction;
    stat_set(&log->stat_compacting, job == COMPACTION_EMPTY);
    pthread_mutex_lock(&compaction->mutex);
    compaction->victim = victim;
    compaction->job = job;
    compaction->handed_over = true;
    compaction->keep_removes = victim != log->oldest;
    compaction->victim_is_dead = victim->accounts.live_bytes == 0 &&
                                 (victim == log->oldest || victim->accounts.tombstone_bytes == 0);
    pthread_cond_broadcast(&compaction->wake);
    pthread_mutex_unlock(&compaction->mutex);
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
        if (victim != NULL || log->background.running) /* it may make more segments ready: ... */
            return victim;                             /* ... look again then */
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
    log->compact_up_to = log->newest->number;
    task_list_push(&log->compact_waiting, &control->op.task);
    writer_sync(log, NULL);
    log->groups_until_compaction = 0;
}

static void compaction_finished(struct task *task)
{
    struct log_engine *log = CONTAINER_OF(task, struct log_engine, compaction.finished);
    struct compaction *compaction = &log->compaction;
    struct segment *victim = compaction->victim;
    stat_set(&log->stat_compacting, 0);
    pthread_mutex_lock(&compaction->mutex);
    compaction->victim = NULL;
    pthread_mutex_unlock(&compaction->mutex);
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
    pthread_mutex_lock(&compaction->mutex);
    compaction->answer = error;
    compaction->answered = true;
    pthread_cond_broadcast(&compaction->wake);
    pthread_mutex_unlock(&compaction->mutex);
}

static int compaction_wait_answer(struct log_engine *log)
{
    struct compaction *compaction = &log->compaction;
    pthread_mutex_lock(&compaction->mutex);
    while (!compaction->answered)
        pthread_cond_wait(&compaction->wake, &compaction->mutex);
    compaction->answered = false;
    int error = compaction->answer;
    pthread_mutex_unlock(&compaction->mutex);
    return error;
}

static void move_on_done(struct task *task)
{
    struct move *move = CONTAINER_OF(task, struct move, op.task);
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
    writer_request(move->log, &move->request);
    int error = compaction_wait_answer(move->log);
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
    pthread_mutex_lock(&log->compaction.mutex);
    bool stop = log->compaction.stop;
    pthread_mutex_unlock(&log->compaction.mutex);
    return stop;
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
    segment_memory_free(copy, victim->size);
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

static void *compaction_thread(void *arg)
{
    struct log_engine *log = arg;
    struct compaction *compaction = &log->compaction;
    for (;;) {
        pthread_mutex_lock(&compaction->mutex);
        while (!compaction->stop && !compaction->handed_over)
            pthread_cond_wait(&compaction->wake, &compaction->mutex);
        compaction->handed_over = false;
        struct segment *victim = compaction->victim;
        bool keep_removes = compaction->keep_removes;
        bool victim_is_dead = compaction->victim_is_dead;
        enum compaction_job job = compaction->job;
        bool stop = compaction->stop;
        pthread_mutex_unlock(&compaction->mutex);
        if (stop)
            return NULL;
        if (job == COMPACTION_HINT)
            compaction->error = upkeep_hint(log, victim);
        else if (job == COMPACTION_WARM)
            compaction->error = upkeep_warm(log, victim);
        else
            compaction->error = segment_compact(log, victim, keep_removes, victim_is_dead);
        writer_request(log, &compaction->finished);
    }
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
    pthread_mutex_lock(&log->compaction.mutex);
    log->compaction.stop = true;
    pthread_cond_broadcast(&log->compaction.wake);
    pthread_mutex_unlock(&log->compaction.mutex);
    pthread_join(log->compaction.thread, NULL);
    log->compaction.started = false;
}

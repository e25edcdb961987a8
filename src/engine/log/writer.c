/*
 * engine/log/writer.c: the one thread that changes anything.
 *
 * Life of a batch:
 *   1. any thread pushes a chain of writes into the mailbox; if it was empty, it wakes the writer;
 *   2. the writer takes all that is there and applies batch after batch (apply.c) to the newest
 *      segment's memory and the working trees: a group;
 *   3. commit: the group's bytes go to the file in one write; with --sync=always one sync follows;
 *   4. the new version is published, and all ops of the group go back to their loops, one wake-up
 *   each.
 * While the writer writes and syncs, the next group gathers in the mailbox: the cost of a sync is
 * shared by all that wait for it. With interval and never, syncs run on a thread of their own and
 * hold up no one.
 *
 * Where nothing is synced and the engine was opened so (callers_write), a thread that submits small
 * batches does steps 2 to 4 itself when the writer is idle: handing over to another thread and back
 * costs several times what the work does. It takes the role by `writing`, does what others submit
 * meanwhile, too, and never what may take long: a new segment, requests, and what has gathered
 * beyond its bound are left to the thread.
 *
 * Failure: of memory or space, the group is undone and its ops are refused; nothing happened. Of
 * the file or of a sync, the group is undone and the engine takes no more writes (STORAGE_FAILED):
 * what the file holds is not known until it is read again.
 */
#include "engine/log/log_engine.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/file.h"
#include "engine/log/loading.h"
#include "engine/log/upkeep.h"
#include "runtime/futex.h"
#include "runtime/thread_pool.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>

#define GROUP_SIZE_MAX (2u * 1024 * 1024) /* then it is committed: its first op has waited enough */
#define RECLAIM_RETRY_MS 50
#define CALLER_SIZE_MAX (64u * 1024) /* of records that a submitting thread writes in one turn */
#define CALLER_TURNS_MAX 16u         /* then the thread goes on: the caller has its own work */

/* --- waking ----------------------------------------------------------------------------------- */

/* The word is exchanged, never only stored: whoever finds the writer asleep wakes it, and one who
 * comes before it sleeps is found by it. Nobody makes a system call while it is at work. */
#define WAKE_NONE 0u
#define WAKE_SET 1u
#define WAKE_ASLEEP 2u

static void writer_wake(struct log_engine *log)
{
    /* release: what was pushed is seen by the writer, which acquires. */
    if (atomic_exchange_explicit(&log->wake, WAKE_SET, memory_order_acq_rel) == WAKE_ASLEEP)
        futex_wake_all(&log->wake);
}

/* What is pushed may complete, and its owner close the engine, before the wake-up is over: so close
 * waits for whoever is between these two. */
static void writer_enter(struct log_engine *log)
{
    /* relaxed: the push that follows releases it to whoever takes what was pushed. */
    atomic_fetch_add_explicit(&log->submitting, 1, memory_order_relaxed);
}

static void writer_leave(struct log_engine *log)
{
    /* release: pairs with the acquire in writer_stop; the last touch of the engine. */
    atomic_fetch_sub_explicit(&log->submitting, 1, memory_order_release);
}

/* Is it little, and may its ops complete on the way? */
static bool caller_may_write(const struct log_engine *log, const struct task_list *writes)
{
    /* acquire: pairs with the release in loading_end: the index is there. */
    if (!log->callers_write || atomic_load_explicit(&log->loaded, memory_order_acquire) == 0)
        return false;
    uint64_t size = 0;
    for (const struct task *task = writes->first; task != NULL; task = task->next) {
        const struct engine_write *write = CONTAINER_OF(task, struct engine_write, op.task);
        size += apply_write_size(write);
        if (size > CALLER_SIZE_MAX || (write->flags & ENGINE_WRITE_HAND_OVER) != 0 ||
            (write->op.loop == NULL && (write->flags & ENGINE_WRITE_ANYWHERE) == 0))
            return false;
    }
    return true;
}

static void callers_write(struct log_engine *log);

void writer_submit(struct log_engine *log, struct task_list *writes)
{
    writer_enter(log);
    bool may_write = caller_may_write(log, writes);
    bool was_empty = mailbox_push_list(&log->writes, writes);
    if (may_write)
        callers_write(log);
    else if (was_empty)
        writer_wake(log);
    writer_leave(log);
}

void writer_request(struct log_engine *log, struct task *request)
{
    writer_enter(log);
    if (mailbox_push(&log->requests, request))
        writer_wake(log);
    writer_leave(log);
}

/* Sleeps until woken or `until_ms` (monotonic; 0: no limit). */
static void writer_wait(struct log_engine *log, uint64_t until_ms)
{
    uint32_t none = WAKE_NONE;
    bool sleeps = atomic_compare_exchange_strong_explicit(
        &log->wake, &none, WAKE_ASLEEP, memory_order_acq_rel, memory_order_acquire);
    while (sleeps && atomic_load_explicit(&log->wake, memory_order_acquire) == WAKE_ASLEEP) {
        uint64_t now_ms = until_ms != 0 ? clock_now_ms() : 0;
        if (until_ms != 0 && now_ms >= until_ms)
            break;
        futex_wait(&log->wake, WAKE_ASLEEP,
                   until_ms != 0 ? (int64_t)(until_ms - now_ms) * 1000000 : -1);
    }
    /* acquire: a wake-up that is taken back here has been seen with what it was for. */
    atomic_exchange_explicit(&log->wake, WAKE_NONE, memory_order_acq_rel);
}

/* --- failing ---------------------------------------------------------------------------------- */

static bool has_failed(struct log_engine *log)
{
    return atomic_load_explicit(&log->failed, memory_order_relaxed);
}

static void engine_fail(struct log_engine *log, const char *what, int error)
{
    if (atomic_exchange_explicit(&log->failed, true, memory_order_relaxed))
        return;
    log_error("%s: %s segment %u failed (%s); no more writes until the store is opened again",
              log->directory, what, log->newest->number, kvs_error_text(error));
}

/* --- groups ----------------------------------------------------------------------------------- */

/* Completes the group's ops: each with its own error, or all with `error` if that is not 0. */
static void group_complete(struct log_engine *log, int error)
{
    struct completions completions = COMPLETIONS_INIT;
    struct task *task;
    while ((task = task_list_pop(&log->group)) != NULL) {
        struct op *op = CONTAINER_OF(task, struct op, task);
        completions_add(&completions, op, error != 0 ? error : op->error);
    }
    completions_flush(&completions);
}

/* What is safe since the last sync is told in the log, once, before the next record. */
static void group_mark(struct log_engine *log)
{
    struct segment *segment = log->newest;
    if (log->synced_segment == log->marked_segment && log->synced_offset == log->marked_offset)
        return;
    uint8_t *memory = atomic_load_explicit(&segment->memory, memory_order_relaxed);
    record_mark_encode(memory + segment->size, segment->number, log->working.sequence,
                       log->synced_segment, log->synced_offset);
    segment->size += RECORD_MARK_SIZE;
    log->marked_segment = log->synced_segment;
    log->marked_offset = log->synced_offset;
    log->group_body_offset = segment->size;
}

static int group_begin(struct log_engine *log)
{
    if (log->group_version != NULL)
        return 0;
    log->group_version = slab_alloc(&log->slab, sizeof *log->group_version);
    if (log->group_version == NULL)
        return KVS_ERR_NO_MEMORY;
    log->group_offset = log->newest->size;
    log->group_body_offset = log->group_offset;
    log->group_wall_ms = clock_wall_ms();
    log->group_accounts = log->newest->accounts;
    log->tree.birth = log->working.sequence + 1;
    return 0;
}

static void group_undo(struct log_engine *log)
{
    version_undo(log);
    struct segment *newest = log->newest;
    newest->size = log->group_offset;
    log->newest->accounts = log->group_accounts;
    log->marked_segment = 0; /* the mark is gone, too: the next group says it */
    if (log->group_version != NULL) {
        slab_free(&log->slab, log->group_version, sizeof *log->group_version);
        log->group_version = NULL;
    }
}

/* Undoes the group and refuses its ops. */
static void group_refuse(struct log_engine *log, int error)
{
    group_undo(log);
    segments_count(log);
    group_complete(log, error);
}

static int group_write(struct log_engine *log)
{
    struct segment *segment = log->newest;
    uint32_t from = log->group_offset;
    uint32_t size = segment->size - from;
    if (size == 0) /* compaction dropped what has expired, no more */
        return 0;
    uint8_t *memory = atomic_load_explicit(&segment->memory, memory_order_relaxed);
    segments_claim(log, segment->size);
    bool direct = segment->direct_fd >= 0;
    int error = direct ? segment_write_direct(segment, from)
                       : file_write(segment->fd, memory + from, size, from);
    if (error != 0 && error != KVS_ERR_NO_SPACE) {
        engine_fail(log, "writing to", error);
        return error;
    }
    if (error == KVS_ERR_NO_SPACE) {
        /* What did get written must go: later groups may be shorter, and these records would follow
         * them. */
        int failed = file_truncate(segment->fd, from);
        if (failed == 0 && log->sync == KVS_SYNC_ALWAYS) /* after a power cut, too */
            failed = file_sync(segment->fd);
        if (failed != 0)
            engine_fail(log, "cutting", failed);
        segment->prepared = from;
        return error;
    }
    if (log->sync != KVS_SYNC_ALWAYS)
        return 0;
    error = direct ? 0 : file_sync(segment->fd);
    if (error != 0) {
        engine_fail(log, "syncing", error);
        return error;
    }
    stat_add(&log->stat_syncs, 1);
    log->synced_segment = segment->number;
    log->synced_offset = segment->size;
    return 0;
}

void writer_commit(struct log_engine *log)
{
    if (log->group_version == NULL) {
        group_complete(log, 0);
        return;
    }
    if (log->newest->size == log->group_body_offset && log->tree.retired.count == 0) {
        /* answers only */
        group_undo(log);
        group_complete(log, 0);
        return;
    }
    int error = group_write(log);
    if (error != 0) {
        group_refuse(log, error);
        return;
    }
    if (log->sync == KVS_SYNC_INTERVAL && log->sync_due_ms == 0)
        log->sync_due_ms = clock_now_ms() + log->sync_interval_ms;
    version_publish(log);
    segment_fix(log->newest);
    stat_add(&log->stat_groups, 1);
    uint32_t size = log->newest->size - log->group_offset;
    stat_add(&log->stat_disk_bytes, size);
    uint64_t batch_bytes = log->newest->accounts.batch_bytes - log->group_accounts.batch_bytes;
    log->group_size_mean = log->group_size_mean / 8 * 7 + size / 8;
    stat_set(&log->stat_index_bytes, log->slab.used_bytes);
    group_complete(log, 0);
    segments_prepare(log);
    spares_fault_ahead(log, size);
    segments_write_out(log, batch_bytes);
    pace_hold(log, batch_bytes);
}

/* Makes room for `size` bytes of records in the newest segment and has a group begun. */
static int group_reserve(struct log_engine *log, uint64_t size)
{
    uint64_t need = size + RECORD_MARK_SIZE + RECORD_SEAL_SIZE;
    struct segment *segment = log->newest;
    if (segment->size - log->group_offset > GROUP_SIZE_MAX && log->group_version != NULL)
        writer_commit(log);
    if (segment->size + need > segment->capacity) {
        writer_commit(log);
        if (has_failed(log))
            return KVS_ERR_STORAGE_FAILED;
        int error = segments_roll(log, size);
        if (error != 0)
            return error;
    }
    if (has_failed(log))
        return KVS_ERR_STORAGE_FAILED;
    int error = group_begin(log);
    if (error == 0)
        group_mark(log);
    return error;
}

/* Is it an answer to the one who asked, with nothing changed? Else the whole group must be
 * undone. */
static bool is_answer(int error)
{
    return error == 0 || error == KVS_ERR_NOT_FOUND || error == KVS_ERR_ALREADY_EXISTS ||
           error == KVS_ERR_CONDITION_FAILED;
}

static void group_add(struct log_engine *log, struct op *op, int error, uint32_t size_before)
{
    op->error = error;
    task_list_push(&log->group, &op->task);
    if (is_answer(error) || (error != KVS_ERR_NO_MEMORY && log->newest->size == size_before))
        return;
    group_refuse(log, error);
}

static bool write_only_removes(const struct engine_write *write)
{
    for (uint32_t i = 0; i < write->mutations_count; i++) {
        if (write->mutations[i].kind == KVS_MUTATION_SET)
            return false;
    }
    return true;
}

static int write_room(struct log_engine *log, const struct engine_write *write, uint64_t size)
{
    if ((write->flags & ENGINE_WRITE_FOR_READERS) != 0 || pace_has_room(log, size))
        return 0;
    bool gives_back = (write->flags & ENGINE_WRITE_GIVES_BACK) != 0 || write_only_removes(write);
    return pace_find_room(log, size, gives_back);
}

static void writer_add_write(struct log_engine *log, struct engine_write *write)
{
    uint64_t size = apply_write_size(write);
    int error = write_room(log, write, size);
    if (error == 0)
        error = group_reserve(log, size);
    if (error != 0) {
        write->op.error = error;
        task_list_push(&log->group, &write->op.task);
        return;
    }
    uint32_t size_before = log->newest->size;
    stat_add(&log->stat_writes, 1);
    log->gather.taken += gather_counts(write);
    group_add(log, &write->op, apply_write(log, write), size_before);
}

void writer_add_move(struct log_engine *log, struct move *move)
{
    int error = group_reserve(log, move->size_bytes);
    if (error != 0) {
        move->op.error = error;
        task_list_push(&log->group, &move->op.task);
        return;
    }
    uint32_t size_before = log->newest->size;
    group_add(log, &move->op, apply_move(log, move), size_before);
}

/* --- syncing in the background ---------------------------------------------------------------- */

static void controls_complete(struct task_list *list, int error)
{
    struct completions completions = COMPLETIONS_INIT;
    struct task *task;
    while ((task = task_list_pop(list)) != NULL)
        completions_add(&completions, CONTAINER_OF(task, struct op, task), error);
    completions_flush(&completions);
}

static void background_sync_job(struct task *task)
{
    struct log_engine *log = CONTAINER_OF(task, struct log_engine, background.job);
    struct background_sync *sync = &log->background;
    sync->error = sync->sync_directory ? file_sync_directory(log->directory) : 0;
    for (unsigned i = 0; i < sync->fds_count && sync->error == 0; i++)
        sync->error = file_sync(sync->fds[i]);
    writer_request(log, &sync->done);
}

static int background_sync_gather(struct log_engine *log)
{
    struct background_sync *sync = &log->background;
    sync->fds_count = 0;
    sync->sync_directory = log->newest->number != log->synced_segment;
    for (struct segment *at = log->oldest; at != NULL; at = at->next) {
        if (at->number < log->synced_segment)
            continue;
        if (sync->fds_count == sync->fds_capacity) {
            unsigned capacity = sync->fds_capacity > 0 ? sync->fds_capacity * 2 : 8;
            int *fds = mem_realloc(sync->fds, capacity * sizeof *fds);
            if (fds == NULL)
                return KVS_ERR_NO_MEMORY;
            sync->fds = fds;
            sync->fds_capacity = capacity;
        }
        sync->fds[sync->fds_count++] = at->fd;
    }
    sync->to_segment = log->newest->number;
    sync->to_offset = log->newest->size;
    return 0;
}

static bool is_synced(const struct log_engine *log)
{
    return log->synced_segment == log->newest->number && log->synced_offset == log->newest->size;
}

static void background_sync_start(struct log_engine *log)
{
    struct background_sync *sync = &log->background;
    if (sync->running)
        return;
    assert(log->group_version == NULL && "all there is has been written");
    log->sync_due_ms = 0;
    if (has_failed(log) || is_synced(log)) {
        controls_complete(&sync->waiting, has_failed(log) ? KVS_ERR_STORAGE_FAILED : 0);
        return;
    }
    int error = background_sync_gather(log);
    if (error != 0) {
        controls_complete(&sync->waiting, error);
        log->sync_due_ms = clock_now_ms() + log->sync_interval_ms;
        return;
    }
    task_list_splice(&sync->covered, &sync->waiting);
    sync->running = true;
    pool_submit_task(log->background_pool, &sync->job);
}

static void background_sync_done(struct task *task)
{
    struct log_engine *log = CONTAINER_OF(task, struct log_engine, background.done);
    struct background_sync *sync = &log->background;
    sync->running = false;
    if (sync->error == KVS_ERR_TOO_MANY_FILES) { /* no sync was begun: another can follow */
        log->sync_due_ms = clock_now_ms() + log->sync_interval_ms;
    } else if (sync->error != 0) {
        engine_fail(log, "syncing", sync->error);
    } else {
        stat_add(&log->stat_syncs, 1);
        if (sync->to_segment > log->directory_synced)
            log->directory_synced = sync->to_segment;
        log->synced_segment = sync->to_segment;
        log->synced_offset = sync->to_offset;
    }
    controls_complete(&sync->covered, sync->error);
    if (sync->error != KVS_ERR_TOO_MANY_FILES) /* else a look would ask for the next one at once */
        log->groups_until_compaction = 0;
    if (sync->waiting.first != NULL)
        writer_sync(log, NULL);
}

void writer_sync(struct log_engine *log, struct engine_control *control)
{
    writer_commit(log);
    if (control != NULL)
        task_list_push(&log->background.waiting, &control->op.task);
    if (log->sync == KVS_SYNC_ALWAYS) /* what was acknowledged is synced */
        controls_complete(&log->background.waiting, has_failed(log) ? KVS_ERR_STORAGE_FAILED : 0);
    else
        background_sync_start(log);
}

/* --- the thread ------------------------------------------------------------------------------- */

static void requests_run(struct log_engine *log)
{
    struct task_list requests = mailbox_take(&log->requests);
    struct task *task;
    while ((task = task_list_pop(&requests)) != NULL)
        task->run(task);
}

/* Has the index nodes and entries that the next writes will touch brought near, all at once: one
 * change after the other would wait for each. Returns the write behind those. */
static struct task *writes_prefetch(struct log_engine *log, struct task *first)
{
    const struct node *roots[TREE_FIND_MANY_MAX];
    kvs_slice keys[TREE_FIND_MANY_MAX];
    unsigned count = 0;
    struct task *task = first;
    for (; task != NULL; task = task->next) {
        const struct engine_write *write = CONTAINER_OF(task, struct engine_write, op.task);
        if (write->mutations_count > TREE_FIND_MANY_MAX)
            continue; /* it sees to itself */
        if (count + write->mutations_count > TREE_FIND_MANY_MAX)
            break;
        for (uint32_t i = 0; i < write->mutations_count; i++) {
            roots[count] = log->working.families[write->mutations[i].family].root;
            keys[count++] = write->mutations[i].key;
        }
    }
    if (count > 1)
        tree_prefetch_change(&log->tree, roots, keys, count);
    return task;
}

static void writes_run(struct log_engine *log, struct task_list *writes, uint64_t size_max)
{
    struct task *prefetched = writes->first;
    struct task *task;
    while ((task = writes->first) != NULL) {
        struct engine_write *write = CONTAINER_OF(task, struct engine_write, op.task);
        uint64_t size = size_max < UINT64_MAX ? apply_write_size(write) : 0;
        if (size > size_max)
            return;
        size_max -= size_max < UINT64_MAX ? size : 0;
        if (task == prefetched)
            prefetched = writes_prefetch(log, task);
        task_list_pop(writes);
        writer_add_write(log, write);
    }
}

/* All that waits, for the thread. */
static void writes_run_all(struct log_engine *log)
{
    struct task_list writes = log->pending;
    log->pending = (struct task_list){0};
    writes_run(log, &writes, UINT64_MAX);
    writes = mailbox_take(&log->writes);
    writes_run(log, &writes, UINT64_MAX);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a + b;
    return a < b ? a : b;
}

/* Do batches wait until compaction has come nearer? Its moves do not. */
static bool writes_are_held(struct log_engine *log)
{
    if (log->held.until_ms != 0 && clock_now_ms() >= log->held.until_ms)
        log->held.until_ms = 0;
    return log->held.until_ms != 0;
}

static bool thread_is_idle(struct log_engine *log)
{
    bool any_writes = log->pending.first != NULL || !mailbox_is_empty(&log->writes);
    return (!any_writes || writes_are_held(log)) && mailbox_is_empty(&log->requests);
}

/* When compaction is considered although no more groups come. */
static void look_plan(struct log_engine *log)
{
    uint64_t *look_ms = &log->compacts.look_ms;
    if (log->groups_until_compaction < COMPACTION_CONSIDER_EVERY && log->load_error == 0)
        *look_ms = earlier(*look_ms, clock_now_ms() + COMPACTION_LOOK_MS);
}

/* Does what there is time for when nothing waits; until when to sleep (0: no limit). */
static uint64_t writer_rest_until(struct log_engine *log)
{
    enum reclaim reclaim;
    do
        reclaim = version_reclaim(log, true);
    while (reclaim == RECLAIM_MORE && thread_is_idle(log));
    if (reclaim == RECLAIM_DONE)
        compaction_trim_index(log);
    uint64_t until = log->background.running ? 0 : log->sync_due_ms;
    if (reclaim != RECLAIM_DONE)
        until = earlier(until, clock_now_ms() + RECLAIM_RETRY_MS);
    look_plan(log);
    return earlier(earlier(until, log->held.until_ms), log->compacts.look_ms);
}

static void compaction_look(struct log_engine *log)
{
    if (log->load_error != 0)
        return;
    if (log->compacts.look_ms != 0 && clock_now_ms() >= log->compacts.look_ms)
        log->groups_until_compaction = 0;
    if (log->groups_until_compaction == 0 || --log->groups_until_compaction == 0)
        compaction_consider(log);
    else if (log->upkeep_due)
        upkeep_consider(log);
}

/* acq_rel, on one word: of two threads the second one has all that the first did before. */
static void callers_meet(struct log_engine *log)
{
    atomic_fetch_add_explicit(&log->meetings, 1, memory_order_acq_rel);
}

static void writing_lock(struct log_engine *log)
{
    /* relaxed: a wish; the mutex orders what matters. */
    atomic_store_explicit(&log->writing_wanted, true, memory_order_relaxed);
    pthread_mutex_lock(&log->writing);
    atomic_store_explicit(&log->writing_wanted, false, memory_order_relaxed);
    atomic_store_explicit(&log->thread_wrote, true, memory_order_relaxed);
    callers_meet(log);
}

/* Bytes that fit in the newest segment without a new one. */
static uint64_t room_left(const struct log_engine *log)
{
    uint64_t used = (uint64_t)log->newest->size + 2 * RECORD_MARK_SIZE + RECORD_SEAL_SIZE;
    return log->newest->capacity > used ? log->newest->capacity - used : 0;
}

/* Is something due before the thread would rise by itself? Each look moves the next one, mostly to
 * later: to wake the thread for that took as long as the 64 groups since then. */
static bool thread_oversleeps(const struct log_engine *log)
{
    uint64_t sync_due_ms = log->background.running ? 0 : log->sync_due_ms; /* its end wakes, too */
    uint64_t due_ms = earlier(sync_due_ms, log->compacts.look_ms);
    return due_ms != 0 && (log->rests_until_ms == 0 || due_ms < log->rests_until_ms);
}

static bool caller_takes_role(struct log_engine *log)
{
    /* relaxed: a wish. */
    if (atomic_load_explicit(&log->writing_wanted, memory_order_relaxed) ||
        pthread_mutex_trylock(&log->writing) != 0)
        return false;
    atomic_store_explicit(&log->thread_wrote, false, memory_order_relaxed);
    return true;
}

/* A submitting thread's turn, after which it gives the role back. Is there work for the thread? */
static bool caller_turn(struct log_engine *log)
{
    bool thread_has_work = log->stopping || log->pending.first != NULL || writes_are_held(log);
    if (!thread_has_work) {
        uint64_t room = room_left(log);
        log->pending = mailbox_take(&log->writes);
        writes_run(log, &log->pending, room < CALLER_SIZE_MAX ? room : CALLER_SIZE_MAX);
        writer_commit(log);
        compaction_look(log);
        if (log->groups_until_compaction == COMPACTION_CONSIDER_EVERY - 1) /* the first one since */
            look_plan(log);
        thread_has_work = log->pending.first != NULL || thread_oversleeps(log);
    }
    pthread_mutex_unlock(&log->writing);
    return thread_has_work;
}

/*
 * Of callers that come at the same time one writes what all of them have pushed: it looks again
 * after it gave the role back, so that who did not get the role may rely on it. The thread looks,
 * too, but it may have done so already and be about to sleep: it is told.
 *
 * Between a push and the look at the role they meet, and between giving the role back (or, for the
 * thread, taking it) and the look at the mailbox: who comes second sees what the first did.
 */
static void callers_write(struct log_engine *log)
{
    callers_meet(log);
    for (unsigned turns = 0; turns < CALLER_TURNS_MAX; turns++) {
        if (!caller_takes_role(log)) {
            if (atomic_load_explicit(&log->thread_wrote, memory_order_relaxed))
                writer_wake(log);
            return;
        }
        bool thread_has_work = caller_turn(log);
        callers_meet(log);
        if (thread_has_work || !mailbox_is_empty(&log->requests))
            break;
        if (mailbox_is_empty(&log->writes))
            return;
    }
    writer_wake(log);
}

static void *writer_thread(void *arg)
{
    struct log_engine *log = arg;
    writing_lock(log); /* nobody writes before the index is there */
    int error = loading_run(log);
    if (error != 0 && error != KVS_ERR_CANCELLED) {
        atomic_store_explicit(&log->failed, true, memory_order_relaxed);
        log_error("%s: the index cannot be made (%s); nothing can be read or written until the "
                  "store is opened again",
                  log->directory, kvs_error_text(error));
    }
    log->groups_until_compaction = COMPACTION_CONSIDER_EVERY - 1; /* a look when nobody writes */
    if (error == 0)
        upkeep_consider(log); /* what the last run has left to do */
    pthread_mutex_unlock(&log->writing);
    while (!log->stopping) {
        writing_lock(log);
        if (thread_is_idle(log)) {
            uint64_t until_ms = log->rests_until_ms = writer_rest_until(log);
            pthread_mutex_unlock(&log->writing);
            writer_wait(log, until_ms);
            writing_lock(log);
        }
        gather_begin(log);
        if (!writes_are_held(log))
            writes_run_all(log);
        requests_run(log);
        if (log->stopping)
            writes_run_all(log); /* those that were held */
        writer_commit(log);
        gather_end(log);
        if (log->sync_due_ms != 0 && clock_now_ms() >= log->sync_due_ms)
            background_sync_start(log);
        compaction_look(log);
        pthread_mutex_unlock(&log->writing);
    }
    return NULL;
}

int writer_start(struct log_engine *log)
{
    log->background.job.run = background_sync_job;
    log->background.done.run = background_sync_done;
    int status = pthread_create(&log->writer_thread, NULL, writer_thread, log);
    if (status != 0)
        return error_from_errno(status);
    pthread_setname_np(log->writer_thread, "kvs-writer");
    log->writer_started = true;
    return 0;
}

static void request_stop(struct task *task)
{
    struct log_engine *log = CONTAINER_OF(task, struct log_engine, stop_request);
    log->stopping = true;
}

static int unsynced_sync(struct log_engine *log)
{
    struct background_sync *sync = &log->background;
    if (is_synced(log))
        return 0;
    int error = background_sync_gather(log);
    if (error == 0 && sync->sync_directory)
        error = file_sync_directory(log->directory);
    for (unsigned i = 0; i < sync->fds_count && error == 0; i++)
        error = file_sync(sync->fds[i]);
    if (error == 0) {
        log->synced_segment = sync->to_segment;
        log->synced_offset = sync->to_offset;
    }
    return error;
}

/* The last mark, that all of the log is on the disk: so damage to its last batches is told from
 * writes that were not finished. Left out when it would take the room of the seal. */
static int closing_mark_write(struct log_engine *log)
{
    struct segment *newest = log->newest;
    if (newest->size == SEGMENT_HEADER_SIZE ||
        newest->size + RECORD_MARK_SIZE + RECORD_SEAL_SIZE > newest->capacity)
        return 0;
    uint8_t *mark = atomic_load_explicit(&newest->memory, memory_order_relaxed) + newest->size;
    record_mark_encode(mark, newest->number, log->working.sequence, log->synced_segment,
                       log->synced_offset);
    int error = file_write(newest->fd, mark, RECORD_MARK_SIZE, newest->size);
    newest->size += RECORD_MARK_SIZE;
    return error != 0 ? error : file_sync(newest->fd);
}

/* A start reads the newest segment, unless it is sealed and has a hint. */
#define CLOSING_SEAL_PART 16u /* of a segment's size, which is read in 8 ms */

static bool closing_seals(const struct log_engine *log)
{
    return log->load_error == 0 && log->newest->size > log->segment_size / CLOSING_SEAL_PART;
}

/* The next one is begun before, as in a roll: so a start needs no space, and where there is none
 * this one stays as it is. */
static int closing_seal(struct log_engine *log)
{
    struct segment *full = log->newest;
    if (segments_begin(log, 0) != 0)
        return 0;
    segments_unreserve(log);
    int error = segment_seal(log, full);
    if (error == 0)
        error = file_sync(full->fd);
    if (error == 0)
        error = file_sync_directory(log->directory);
    if (error != 0)
        return error;
    full->size += RECORD_SEAL_SIZE;
    full->state = SEGMENT_SEALED;
    log->synced_segment = log->newest->number;
    return 0;
}

/* All of the log is on the disk. For lack of space it stays as it is. */
static int closing_write(struct log_engine *log, bool seals)
{
    struct segment *newest = log->newest;
    uint32_t size = newest->size;
    int error = closing_mark_write(log);
    if (error == 0 && seals)
        error = closing_seal(log);
    if (error != KVS_ERR_NO_SPACE)
        return error;
    newest->size = size;
    error = file_truncate(newest->fd, size);
    return error != 0 ? error : file_sync(newest->fd);
}

/* The thread is gone: finish its work here. */
static int writer_final_sync(struct log_engine *log)
{
    segments_wait_prepared(log);
    segments_remove_made(log);
    if (has_failed(log))
        return KVS_ERR_STORAGE_FAILED;
    bool seals = closing_seals(log);
    int error = file_truncate(log->newest->fd, log->newest->size);
    if (error == 0 && (seals || log->sync != KVS_SYNC_NEVER)) {
        error = unsynced_sync(log);
        if (error == 0)
            error = closing_write(log, seals);
    }
    if (error != 0)
        engine_fail(log, "closing", error);
    else
        upkeep_close(log);
    return error;
}

int writer_stop(struct log_engine *log)
{
    if (!log->writer_started)
        return 0;
    /* A background sync posts back to the thread: let it come home first. */
    log->stop_request.run = request_stop;
    writer_request(log, &log->stop_request);
    pthread_join(log->writer_thread, NULL);
    log->writer_started = false;
    while (log->background.running) {
        struct task_list requests = mailbox_take(&log->requests);
        struct task *task = task_list_pop(&requests);
        if (task != NULL)
            task->run(task);
        else
            writer_wait(log, clock_now_ms() + 10);
    }
    int error = writer_final_sync(log);
    mem_free(log->background.fds);
    while (atomic_load_explicit(&log->submitting, memory_order_acquire) != 0)
        sched_yield(); /* a few instructions of threads whose work is done already */
    return error;
}

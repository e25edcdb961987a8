/*
 * engine/log/version.c: publishing versions, and giving memory back when no one can see it.
 *
 * What a group retired was part of the published version. It goes, in this order, through:
 *   1. the deferred list of the newest snapshot, if that sees it (it was born before the snapshot);
 *      when that snapshot is released, to the next older snapshot that sees it, and so on;
 *   2. `unlinked`: no version has it, but readers that are inside an epoch may;
 *   3. a limbo, tagged with the epoch; freed when every reader inside has entered later.
 * What was born and retired in the same group was never seen and is freed at once.
 *
 * Failure: the lists need memory. Nothing can be undone at that point, so an object for which there
 * is no room in a list is left to slab_deinit: memory that comes back when the engine is closed.
 *
 * Thread: the writer; snapshots are taken by any thread under snapshots_mutex.
 */
#include "engine/log/log_engine.h"

#include "base/mem.h"
#include "engine/log/loading.h"

#include <assert.h>
#include <sched.h>

#define UNLINKED_MAX 512u /* objects gathered before the readers are looked at */
/* Objects freed in one go, while sets wait: more than what is gathered, so that none pile up. */
#define RECLAIM_MAX 2048u

/* Beside the kinds of tree.h. */
#define OBJECT_VERSION 4u

static uint64_t object_birth(uintptr_t tagged)
{
    enum tree_object kind;
    const uint64_t *birth = tree_untag(tagged, &kind); /* the first member of each kind */
    return *birth;
}

static void object_free(struct log_engine *log, uintptr_t tagged)
{
    enum tree_object kind;
    void *object = tree_untag(tagged, &kind);
    if ((unsigned)kind == OBJECT_VERSION) {
        slab_free(&log->slab, object, sizeof(struct version));
        return;
    }
    if (kind == TREE_ENTRY) {
        struct entry *entry = object;
        segment_entry_gone(log, atomic_load_explicit(&entry->location, memory_order_relaxed));
    }
    tree_object_free(&log->slab, tagged);
}

static void retired_route(struct log_engine *log, uintptr_t tagged, struct engine_snapshot *newest,
                          uint64_t published)
{
    uint64_t birth = object_birth(tagged);
    if (birth > published) /* of this group: never seen */
        object_free(log, tagged);
    else if (newest != NULL && newest->version.sequence >= birth)
        (void)pointer_vector_push(&newest->deferred, tagged);
    else
        (void)pointer_vector_push(&log->unlinked, tagged);
}

void version_publish(struct log_engine *log)
{
    struct version *next = log->group_version;
    log->group_version = NULL;
    *next = log->working;
    pthread_mutex_lock(&log->snapshots_mutex);
    struct version *previous = atomic_load_explicit(&log->version, memory_order_relaxed);
    /* Else the next group would take this one's nodes for its own. */
    assert(next->sequence > previous->sequence || log->tree.born.count == 0);
    /* seq_cst: see epoch.c; and release, so that readers see what the roots lead to. */
    atomic_store_explicit(&log->version, next, memory_order_seq_cst);
    struct engine_snapshot *newest = log->snapshots;
    pthread_mutex_unlock(&log->snapshots_mutex);
    for (size_t i = 0; i < log->tree.retired.count; i++)
        retired_route(log, log->tree.retired.items[i], newest, previous->sequence);
    log->tree.retired.count = 0;
    log->tree.born.count = 0;
    log->moved.count = 0;
    log->moved_from.count = 0;
    (void)pointer_vector_push(&log->unlinked, (uintptr_t)previous | OBJECT_VERSION);
    version_reclaim(log, false);
}

static void record_alive_again(struct log_engine *log, const struct entry *entry)
{
    uint64_t location = atomic_load_explicit(&entry->location, memory_order_relaxed);
    struct segment *segment = segment_at(log, location);
    if (segment == log->newest)
        return;
    segment->accounts.live_bytes += entry_record_size(entry);
    if (entry->expires)
        life_of(segment, segment->accounts.lives, entry_expires_at(entry))->bytes +=
            entry_record_size(entry);
}

/* What the group took out of published segments counts again; the newest one's accounts are put
 * back as a whole by the writer. Before locations are undone: a record that was moved and then
 * replaced had left its old segment by the move. */
static void accounts_undo(struct log_engine *log)
{
    uint64_t published = atomic_load_explicit(&log->version, memory_order_relaxed)->sequence;
    for (size_t i = 0; i < log->tree.retired.count; i++) {
        enum tree_object kind;
        struct entry *entry = tree_untag(log->tree.retired.items[i], &kind);
        if (kind == TREE_ENTRY && entry->birth <= published)
            record_alive_again(log, entry);
    }
}

void version_undo(struct log_engine *log)
{
    accounts_undo(log);
    bool readers_saw = log->moved.count > 0;
    for (size_t i = log->moved.count; i-- > 0;) {
        struct entry *entry = (struct entry *)log->moved.items[i];
        uint64_t to = atomic_load_explicit(&entry->location, memory_order_relaxed);
        segment_entry_added(log, log->moved_from.items[i]);
        /* release: pairs with the readers' acquire; the old bytes were never gone. */
        atomic_store_explicit(&entry->location, log->moved_from.items[i], memory_order_release);
        record_alive_again(log, entry);
        segment_entry_gone(log, to);
    }
    log->moved.count = 0;
    log->moved_from.count = 0;
    for (size_t i = 0; i < log->tree.born.count; i++)
        object_free(log, log->tree.born.items[i]);
    log->tree.born.count = 0;
    log->tree.retired.count = 0;
    log->working = *atomic_load_explicit(&log->version, memory_order_relaxed);
    if (readers_saw) /* ... the copies, whose place is used anew */
        version_wait_readers(log);
}

void version_release(struct log_engine *log, struct engine_snapshot *snapshot)
{
    pthread_mutex_lock(&log->snapshots_mutex);
    struct engine_snapshot *older = snapshot->older;
    if (snapshot->newer != NULL)
        snapshot->newer->older = older;
    else
        log->snapshots = older;
    if (older != NULL)
        older->newer = snapshot->newer;
    pthread_mutex_unlock(&log->snapshots_mutex);
    for (size_t i = 0; i < snapshot->deferred.count; i++) {
        uintptr_t tagged = snapshot->deferred.items[i];
        if (older != NULL && older->version.sequence >= object_birth(tagged))
            (void)pointer_vector_push(&older->deferred, tagged);
        else
            (void)pointer_vector_push(&log->unlinked, tagged);
    }
    pointer_vector_deinit(&snapshot->deferred);
    mem_free(snapshot);
}

static struct limbo *limbo_append(struct log_engine *log)
{
    struct limbo *limbo = mem_zalloc(sizeof *limbo);
    if (limbo == NULL)
        return NULL;
    limbo->epoch = epoch_advance(&log->epoch);
    if (log->limbo_last != NULL)
        log->limbo_last->next = limbo;
    else
        log->limbo_first = limbo;
    log->limbo_last = limbo;
    return limbo;
}

/* Frees so many of its objects at most; returns how many. */
static size_t limbo_free_objects(struct log_engine *log, struct limbo *limbo, size_t count_max)
{
    size_t count = limbo->objects.count < count_max ? limbo->objects.count : count_max;
    for (size_t i = 0; i < count; i++)
        object_free(log, limbo->objects.items[--limbo->objects.count]);
    return count;
}

static void limbo_free(struct log_engine *log, struct limbo *limbo)
{
    pointer_vector_deinit(&limbo->objects);
    if (limbo->segment != NULL)
        segment_bury(log, limbo->segment);
    loading_free(limbo->loading);
    spares_give(log, limbo->memory);
    mem_free(limbo);
}

enum reclaim version_reclaim(struct log_engine *log, bool idle)
{
    if (log->unlinked.count >= (idle ? 1 : UNLINKED_MAX)) {
        struct limbo *limbo = limbo_append(log);
        if (limbo != NULL) { /* else they wait for the next time */
            limbo->objects = log->unlinked;
            log->unlinked = (struct pointer_vector){0};
        }
    } else if (!idle) {
        return RECLAIM_LATER;
    }
    uint64_t oldest = epoch_oldest(&log->epoch);
    size_t left = RECLAIM_MAX;
    while (log->limbo_first != NULL && log->limbo_first->epoch < oldest) {
        struct limbo *limbo = log->limbo_first;
        left -= limbo_free_objects(log, limbo, left);
        if (limbo->objects.count > 0)
            return RECLAIM_MORE;
        log->limbo_first = limbo->next;
        if (log->limbo_first == NULL)
            log->limbo_last = NULL;
        limbo_free(log, limbo);
    }
    return log->limbo_first != NULL ? RECLAIM_LATER : RECLAIM_DONE;
}

void version_reclaim_all(struct log_engine *log)
{
    while (version_reclaim(log, true) == RECLAIM_MORE) {
    }
}

void version_defer_segment(struct log_engine *log, struct segment *segment)
{
    struct limbo *limbo = limbo_append(log);
    if (limbo != NULL) /* else it stays in its slot until the engine is closed */
        limbo->segment = segment;
}

void version_defer_loading(struct log_engine *log, struct loading *loading)
{
    struct limbo *limbo = limbo_append(log);
    if (limbo == NULL) {
        version_wait_readers(log); /* likewise rare */
        loading_free(loading);
        return;
    }
    limbo->loading = loading;
}

void version_wait_readers(struct log_engine *log)
{
    uint64_t tag = epoch_advance(&log->epoch);
    while (epoch_oldest(&log->epoch) <= tag)
        sched_yield();
}

void version_defer_memory(struct log_engine *log, uint8_t *memory)
{
    struct limbo *limbo = limbo_append(log);
    if (limbo == NULL) {
        version_wait_readers(log); /* rare, and better than keeping it */
        segment_memory_unref(memory);
        return;
    }
    limbo->memory = memory;
}

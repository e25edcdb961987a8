/*
 * txn/wait.c: see the header.
 *
 * The mutex is held while `resume` is called, which only posts; from then on the waiter is its
 * owner's again, who may free it at once: so it is taken out of everything before.
 */
#include "txn/wait.h"

#include "base/checksum.h"
#include "base/clock.h"
#include "base/fingerprint.h"
#include "runtime/thread.h"

#include <kvs/error.h>
#include <time.h>

void wait_room_init(struct wait_room *room, uint32_t wake_others_ms)
{
    *room = (struct wait_room){.timers = HEAP_INIT,
                               .wake_others_ns = wake_others_ms * UINT64_C(1000000)};
    pthread_mutex_init(&room->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&room->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    for (uint32_t i = 0; i < WAIT_BUCKETS; i++) {
        list_init(&room->by_key[i]);
        list_init(&room->by_ts[i]);
    }
}

void wait_room_deinit(struct wait_room *room)
{
    pthread_mutex_lock(&room->mutex);
    room->is_closing = true;
    pthread_cond_signal(&room->wake);
    pthread_mutex_unlock(&room->mutex);
    if (room->has_thread)
        pthread_join(room->thread, NULL);
    heap_deinit(&room->timers);
    pthread_cond_destroy(&room->wake);
    pthread_mutex_destroy(&room->mutex);
}

/* --- leaving ---------------------------------------------------------------------------------- */

static void forget(struct wait_room *room, struct waiter *waiter)
{
    list_remove(&waiter->in_ts);
    /* relaxed: see wait_room_is_empty. */
    atomic_fetch_sub_explicit(&room->count, 1, memory_order_relaxed);
}

/* Who is woken is still found by its rollback: until it arrives. */
static void leave(struct wait_room *room, struct waiter *waiter, enum wait_outcome outcome)
{
    list_remove(&waiter->in_key);
    heap_remove(&room->timers, &waiter->timer);
    waiter->is_inside = false;
    waiter->outcome = outcome;
    if (outcome != WAIT_WOKEN)
        forget(room, waiter);
    if (waiter->is_settled)
        waiter->resume(waiter);
}

void wait_wake(struct wait_room *room, kvs_slice key)
{
    uint32_t hash = checksum(key.data, key.size);
    struct list *bucket = &room->by_key[hash % WAIT_BUCKETS];
    uint64_t soon_ns = clock_now_ns() + room->wake_others_ns;
    bool is_first = true;
    bool is_sooner = false;
    pthread_mutex_lock(&room->mutex);
    struct list *next;
    for (struct list *node = bucket->next; node != bucket; node = next) {
        next = node->next;
        struct waiter *waiter = list_entry(node, struct waiter, in_key);
        if (waiter->hash != hash || !slice_equal(waiter->key, key))
            continue;
        if (is_first) {
            is_first = false;
            leave(room, waiter, WAIT_WOKEN);
            continue;
        }
        /* For nobody, until it has tried: else it may close a false circle. */
        waiter->lock_ts = 0;
        waiter->more_count = 0;
        if (waiter->timer.key > soon_ns) {
            heap_remove(&room->timers, &waiter->timer);
            (void)heap_push(&room->timers, &waiter->timer, soon_ns); /* has room: it was inside */
            is_sooner = true;
        }
    }
    if (is_sooner)
        pthread_cond_signal(&room->wake);
    pthread_mutex_unlock(&room->mutex);
}

static void leave_all(struct wait_room *room, enum wait_outcome outcome)
{
    for (uint32_t i = 0; i < WAIT_BUCKETS; i++) {
        while (!list_empty(&room->by_key[i]))
            leave(room, list_entry(room->by_key[i].next, struct waiter, in_key), outcome);
    }
}

void wait_wake_all(struct wait_room *room)
{
    pthread_mutex_lock(&room->mutex);
    leave_all(room, WAIT_WOKEN);
    pthread_mutex_unlock(&room->mutex);
}

void wait_roll_back(struct wait_room *room, kvs_slice key, uint64_t start_ts,
                    uint64_t for_update_ts)
{
    struct list *bucket = &room->by_ts[start_ts % WAIT_BUCKETS];
    struct list *next;
    pthread_mutex_lock(&room->mutex);
    for (struct list *node = bucket->next; node != bucket; node = next) {
        next = node->next;
        struct waiter *waiter = list_entry(node, struct waiter, in_ts);
        if (waiter->start_ts != start_ts || waiter->for_update_ts > for_update_ts ||
            !slice_equal(waiter->key, key))
            continue;
        if (waiter->is_inside)
            leave(room, waiter, WAIT_ROLLED_BACK);
        else
            waiter->is_rolled_back = true;
    }
    pthread_mutex_unlock(&room->mutex);
}

bool wait_arrive(struct wait_room *room, struct waiter *waiter)
{
    pthread_mutex_lock(&room->mutex);
    forget(room, waiter);
    pthread_mutex_unlock(&room->mutex);
    return !waiter->is_rolled_back;
}

void wait_cancel(struct wait_room *room, struct waiter *waiter)
{
    pthread_mutex_lock(&room->mutex);
    waiter->is_cancelled = true;
    if (waiter->is_inside)
        leave(room, waiter, WAIT_CANCELLED);
    pthread_mutex_unlock(&room->mutex);
}

void wait_cancel_all(struct wait_room *room)
{
    pthread_mutex_lock(&room->mutex);
    room->is_closed_for_waits = true;
    leave_all(room, WAIT_CANCELLED);
    pthread_mutex_unlock(&room->mutex);
}

/* --- the thread of time ----------------------------------------------------------------------- */

static struct timespec time_of_ns(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u),
                             .tv_nsec = (long)(ns % 1000000000u)};
}

static void *keep_time(void *arg)
{
    struct wait_room *room = arg;
    pthread_mutex_lock(&room->mutex);
    while (!room->is_closing) {
        struct heap_node *first = heap_first(&room->timers);
        if (first == NULL) {
            pthread_cond_wait(&room->wake, &room->mutex);
            continue;
        }
        uint64_t now_ns = clock_now_ns();
        if (first->key > now_ns) {
            struct timespec until = time_of_ns(first->key);
            pthread_cond_timedwait(&room->wake, &room->mutex, &until);
            continue;
        }
        struct waiter *waiter = list_entry(first, struct waiter, timer);
        leave(room, waiter, now_ns >= waiter->deadline_ns ? WAIT_TIMED_OUT : WAIT_WOKEN);
    }
    pthread_mutex_unlock(&room->mutex);
    return NULL;
}

/* --- circles ---------------------------------------------------------------------------------- */

/* Whom it waits for, one after the other: i from 0 to more_count. */
static uint64_t waits_for(const struct waiter *waiter, uint32_t i)
{
    return i == 0 ? waiter->lock_ts : waiter->more_ts[i - 1];
}

static bool waits_for_any(const struct waiter *waiter, uint64_t ts)
{
    for (uint32_t i = 0; i <= waiter->more_count; i++) {
        if (waits_for(waiter, i) == ts)
            return true;
    }
    return false;
}

/* As those that come to the same key do. */
static bool wait_for_the_same(const struct waiter *a, const struct waiter *b)
{
    return a->lock_ts == b->lock_ts && a->more_count == b->more_count &&
           (a->more_count == 0 ||
            memcmp(a->more_ts, b->more_ts, a->more_count * sizeof *a->more_ts) == 0);
}

struct circle_search {
    struct wait_room *room;
    uint64_t number;
    uint64_t start_ts; /* of the one that would close it */
    struct waiter *first;
    struct waiter **last;
};

/* The waits of transaction `ts`, which `from` waits for. Not NULL: this one closes the circle. */
static struct waiter *search_add(struct circle_search *search, uint64_t ts, struct waiter *from)
{
    struct list *bucket = &search->room->by_ts[ts % WAIT_BUCKETS];
    for (struct list *node = bucket->next; node != bucket; node = node->next) {
        struct waiter *waiter = list_entry(node, struct waiter, in_ts);
        if (waiter->start_ts != ts || !waiter->is_inside || waiter->search == search->number)
            continue;
        waiter->search = search->number;
        waiter->from = from;
        if (waits_for_any(waiter, search->start_ts))
            return waiter;
        waiter->search_next = NULL;
        *search->last = waiter;
        search->last = &waiter->search_next;
    }
    return NULL;
}

/* From the transactions that have the lock, along those that they wait for, breadth first: the
 * waiter that waits for `entering`; NULL: there is no circle. */
static struct waiter *circle_find(struct wait_room *room, const struct waiter *entering)
{
    struct circle_search search = {
        .room = room, .number = ++room->searches, .start_ts = entering->start_ts};
    search.last = &search.first;
    const struct waiter *at = entering;
    const struct waiter *before = NULL;
    struct waiter *from = NULL;
    for (;;) {
        bool is_done = before != NULL && wait_for_the_same(at, before);
        for (uint32_t i = 0; i <= at->more_count && !is_done; i++) {
            struct waiter *closing = search_add(&search, waits_for(at, i), from);
            if (closing != NULL)
                return closing;
        }
        from = search.first;
        if (from == NULL)
            return NULL;
        search.first = from->search_next;
        if (search.first == NULL)
            search.last = &search.first;
        before = at;
        at = from;
    }
}

static bool entry_set(struct txn_wait_entry *entry, struct arena *arena,
                      const struct waiter *waiter)
{
    const void *key = arena_copy(arena, waiter->key);
    const void *tag = arena_copy(arena, waiter->tag);
    *entry = (struct txn_wait_entry){.start_ts = waiter->start_ts,
                                     .wait_for_ts = waiter->lock_ts,
                                     .key_hash = fingerprint64(waiter->key),
                                     .key = slice_make(key, waiter->key.size),
                                     .tag = slice_make(tag, waiter->tag.size)};
    return key != NULL && tag != NULL;
}

/* The circle in its order: from the holder of the lock on; `waiter` closes it. */
static int deadlock_set(const struct waiter *closing, const struct waiter *waiter,
                        struct arena *arena, struct txn_key_error *ret_error)
{
    uint32_t count = 1;
    for (const struct waiter *at = closing; at != NULL; at = at->from)
        count++;
    struct txn_wait_entry *chain = arena_alloc(arena, count * sizeof *chain);
    if (chain == NULL)
        return KVS_ERR_NO_MEMORY;
    uint32_t i = count - 1;
    bool is_whole = entry_set(&chain[i], arena, waiter);
    for (const struct waiter *at = closing; at != NULL && is_whole; at = at->from)
        is_whole = entry_set(&chain[--i], arena, at);
    if (!is_whole)
        return KVS_ERR_NO_MEMORY;
    for (i = 0; i < count; i++) /* of those that share a lock, the next of the circle */
        chain[i].wait_for_ts = chain[(i + 1) % count].start_ts;
    *ret_error = (struct txn_key_error){
        .kind = TXN_ERROR_DEADLOCK,
        .lock_ts = chain[0].start_ts,
        .lock_key = chain[count - 1].key,
        .deadlock_key = chain[count - 2].key,
        .deadlock_key_hash = chain[count - 2].key_hash,
        .wait_chain = chain,
        .wait_chain_count = count,
    };
    return WAIT_DEADLOCK;
}

/* --- entering --------------------------------------------------------------------------------- */

static void queue_insert(struct wait_room *room, struct waiter *waiter)
{
    struct list *bucket = &room->by_key[waiter->hash % WAIT_BUCKETS];
    struct list *before = bucket->next;
    while (before != bucket &&
           list_entry(before, struct waiter, in_key)->start_ts <= waiter->start_ts)
        before = before->next;
    list_append(before, &waiter->in_key);
    list_append(&room->by_ts[waiter->start_ts % WAIT_BUCKETS], &waiter->in_ts);
}

static int enter_locked(struct wait_room *room, struct waiter *waiter, struct arena *arena,
                        struct txn_key_error *ret_error)
{
    if (waiter->is_cancelled || room->is_closed_for_waits)
        return KVS_ERR_CANCELLED;
    if (clock_now_ns() >= waiter->deadline_ns)
        return KVS_ERR_TIMEOUT;
    const struct waiter *closing = waiter->holds_nothing ? NULL : circle_find(room, waiter);
    if (closing != NULL)
        return deadlock_set(closing, waiter, arena, ret_error);
    if (!room->has_thread) {
        int error = thread_start(&room->thread, "kvs-lock-waits", keep_time, room);
        if (error != 0)
            return error;
        room->has_thread = true;
    }
    int error = heap_push(&room->timers, &waiter->timer, waiter->deadline_ns);
    if (error != 0)
        return error;
    if (heap_first(&room->timers) == &waiter->timer)
        pthread_cond_signal(&room->wake);
    queue_insert(room, waiter);
    waiter->is_inside = true;
    waiter->is_settled = false;
    waiter->outcome = WAIT_NONE;
    /* relaxed: see wait_room_is_empty. */
    atomic_fetch_add_explicit(&room->count, 1, memory_order_relaxed);
    return 0;
}

int wait_enter(struct wait_room *room, struct waiter *waiter, struct arena *arena,
               struct txn_key_error *ret_error)
{
    waiter->hash = checksum(waiter->key.data, waiter->key.size);
    pthread_mutex_lock(&room->mutex);
    int error = enter_locked(room, waiter, arena, ret_error);
    pthread_mutex_unlock(&room->mutex);
    return error;
}

bool wait_settle(struct wait_room *room, struct waiter *waiter)
{
    pthread_mutex_lock(&room->mutex);
    bool is_inside = waiter->is_inside;
    waiter->is_settled = is_inside;
    pthread_mutex_unlock(&room->mutex);
    return is_inside;
}

/* --- for people ------------------------------------------------------------------------------- */

int wait_list(struct wait_room *room, uint32_t count_max, struct arena *arena,
              struct txn_wait_entry **ret_entries, uint32_t *ret_count)
{
    struct txn_wait_entry *entries = arena_alloc(arena, count_max * sizeof *entries);
    if (entries == NULL)
        return KVS_ERR_NO_MEMORY;
    uint32_t count = 0;
    int error = 0;
    pthread_mutex_lock(&room->mutex);
    for (uint32_t i = 0; i < WAIT_BUCKETS; i++) {
        const struct list *bucket = &room->by_ts[i];
        for (struct list *node = bucket->next; node != bucket && count < count_max && error == 0;
             node = node->next) {
            const struct waiter *waiter = list_entry(node, struct waiter, in_ts);
            if (!waiter->is_inside)
                continue;
            if (entry_set(&entries[count], arena, waiter))
                count++;
            else
                error = KVS_ERR_NO_MEMORY;
        }
    }
    pthread_mutex_unlock(&room->mutex);
    *ret_entries = entries;
    *ret_count = count;
    return error;
}

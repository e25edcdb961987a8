/*
 * txn/scan.c: reads over ranges.
 *
 * A scan goes window by window: a part of the range in which a bounded number of visible versions
 * was found. The locks of the same window, those in the engine and those of prewrites under way,
 * are laid over them; what is left goes to the page. A window ends where one of its lists was cut.
 */
#include "txn/read.h"

#include <kvs/error.h>
#include <stdlib.h>

#define WINDOW_KEYS_MAX 128u
#define WALK_CUT 2           /* above ENGINE_WOULD_BLOCK: never leaves this file */
#define WALK_SEEK 3          /* go on from walk->seek */
#define VERSIONS_IN_A_ROW 16 /* of one key: then it is cheaper to look for the next */
#define PAIR_OVERHEAD 32u

enum item_kind {
    ITEM_VERSION = 0,
    ITEM_LOCK,   /* an error */
    ITEM_SHOWN,  /* the value of a lock */
    ITEM_HIDDEN, /* deleted by a lock */
};

/* A key of a window. */
struct item {
    kvs_slice encoded;
    enum item_kind kind;
    bool has_value;
    uint64_t start_ts;
    uint64_t commit_ts;
    kvs_slice value;
    struct txn_lock_info lock;
};

struct items {
    struct item *list;
    uint32_t count;
    uint32_t room;
};

struct scan_state {
    struct txn_scan *scan;
    struct engine_view *view;
    struct arena scratch; /* of a window */
    /* what is left of the range: below `end` in reverse, from `start` on else */
    struct record_key *start;
    struct record_key *end;
    uint32_t pairs_room;
    size_t size;
    uint32_t walked;
    uint32_t to_pass; /* before the next of the sample */
    bool is_full;
};

/* A walk over versions in the direction of the scan. */
struct version_walk {
    struct scan_state *state;
    struct items items;
    uint32_t items_max;
    struct record_key key; /* the one that the walk is at; size 0: none */
    unsigned in_a_row;     /* versions of it so far */
    bool is_decided;       /* forward: its visible version was met */
    bool has_candidate;    /* reverse: the newest visible so far */
    struct item candidate;
    uint8_t candidate_value[RECORD_VALUE_INLINE_MAX];
    bool candidate_is_put;
};

/* --- items ------------------------------------------------------------------------------------ */

static struct item *items_add(struct items *items, struct arena *arena)
{
    if (items->count == items->room) {
        uint32_t room = items->room > 0 ? items->room * 2 : 16;
        struct item *list = arena_alloc(arena, room * sizeof *list);
        if (list == NULL)
            return NULL;
        if (items->count > 0)
            memcpy(list, items->list, items->count * sizeof *list);
        items->list = list;
        items->room = room;
    }
    struct item *item = &items->list[items->count++];
    *item = (struct item){0};
    return item;
}

static int item_compare_up(const void *a, const void *b)
{
    const struct item *first = a;
    const struct item *second = b;
    int order = slice_compare(first->encoded, second->encoded);
    /* The lock of a key before its version. */
    return order != 0 ? order : (int)(first->kind == ITEM_VERSION) - (second->kind == ITEM_VERSION);
}

static int item_compare_down(const void *a, const void *b)
{
    const struct item *first = a;
    const struct item *second = b;
    int order = slice_compare(second->encoded, first->encoded);
    return order != 0 ? order : (int)(first->kind == ITEM_VERSION) - (second->kind == ITEM_VERSION);
}

/* --- versions --------------------------------------------------------------------------------- */

static int walk_add(struct version_walk *walk, const struct item *found)
{
    struct arena *arena = &walk->state->scratch;
    struct item *item = items_add(&walk->items, arena);
    if (item == NULL)
        return KVS_ERR_NO_MEMORY;
    *item = *found;
    int error = txn_slice_copy(arena, record_key_slice(&walk->key), &item->encoded);
    if (error == 0 && item->has_value && !walk->state->scan->keys_only)
        error = txn_slice_copy(arena, found->value, &item->value);
    return error;
}

/* The walk leaves a key, in reverse: what it found there. WALK_CUT: enough. */
static int walk_settle(struct version_walk *walk)
{
    int error = 0;
    if (walk->has_candidate && walk->candidate_is_put)
        error = walk_add(walk, &walk->candidate);
    walk->has_candidate = false;
    if (error == 0 && walk->items.count == walk->items_max)
        error = WALK_CUT;
    return error;
}

static struct item item_of(uint64_t commit_ts, const struct write_record *write)
{
    return (struct item){.kind = ITEM_VERSION,
                         .has_value = write->has_value,
                         .start_ts = write->start_ts,
                         .commit_ts = commit_ts,
                         .value = write->value};
}

/* The reader wants to be told of what is newer. */
static int walk_conflict(struct version_walk *walk, uint64_t commit_ts,
                         const struct write_record *write)
{
    struct txn_scan *scan = walk->state->scan;
    uint8_t *key = arena_alloc(&scan->base.arena, walk->key.size);
    size_t size;
    if (key == NULL)
        return KVS_ERR_NO_MEMORY;
    if (memcomparable_decode(record_key_slice(&walk->key), key, &size) != 0)
        return KVS_ERR_CORRUPTION;
    read_conflict_set(&scan->error, &scan->read, slice_make(key, size), (kvs_slice){0},
                      write->start_ts, commit_ts);
    return WALK_CUT;
}

static int walk_forward(struct version_walk *walk, uint64_t commit_ts,
                        const struct write_record *write)
{
    bool is_newer = commit_ts > walk->state->scan->read.ts;
    bool is_data = write->type == TXN_OP_PUT || write->type == TXN_OP_DELETE;
    if (!walk->is_decided && !is_newer && is_data) {
        walk->is_decided = true;
        struct item item = item_of(commit_ts, write);
        int error = write->type == TXN_OP_PUT ? walk_add(walk, &item) : 0;
        if (error == 0 && walk->items.count == walk->items_max)
            error = WALK_CUT;
        if (error != 0)
            return error;
    }
    bool is_idle = walk->is_decided || is_newer; /* else a seek would lead here again */
    return ++walk->in_a_row >= VERSIONS_IN_A_ROW && is_idle ? WALK_SEEK : 0;
}

static int walk_backward(struct version_walk *walk, uint64_t commit_ts,
                         const struct write_record *write)
{
    if (commit_ts > walk->state->scan->read.ts) {
        /* All that follow of this key are newer still. */
        return ++walk->in_a_row >= VERSIONS_IN_A_ROW ? WALK_SEEK : 0;
    }
    if (write->type == TXN_OP_PUT || write->type == TXN_OP_DELETE) {
        walk->has_candidate = true;
        walk->candidate = item_of(commit_ts, write);
        walk->candidate_is_put = write->type == TXN_OP_PUT;
        if (write->value.size > 0)
            memcpy(walk->candidate_value, write->value.data, write->value.size);
        walk->candidate.value = slice_make(walk->candidate_value, write->value.size);
    }
    return ++walk->in_a_row >= VERSIONS_IN_A_ROW ? WALK_SEEK : 0;
}

static int walk_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct version_walk *walk = arg;
    kvs_slice encoded;
    uint64_t commit_ts;
    struct write_record write;
    if (!record_key_split(key, &encoded, &commit_ts) || write_record_decode(value, &write) != 0)
        return KVS_ERR_CORRUPTION;
    if (++walk->state->walked > 4 * READ_ON_SPOT_COUNT_MAX && !walk->state->view->may_block)
        return ENGINE_WOULD_BLOCK;
    if (walk->key.size == 0 || !slice_equal(encoded, record_key_slice(&walk->key))) {
        int error = walk_settle(walk);
        if (error != 0)
            return error;
        record_key_set_encoded(&walk->key, encoded);
        walk->in_a_row = 0;
        walk->is_decided = false;
    }
    const struct txn_read *read = &walk->state->scan->read;
    if (read->isolation == TXN_ISOLATION_RC_CHECK_TS && commit_ts > read->ts)
        return walk_conflict(walk, commit_ts, &write);
    return walk->state->scan->reverse ? walk_backward(walk, commit_ts, &write)
                                      : walk_forward(walk, commit_ts, &write);
}

/* A first key that is behind all versions of this one. */
static void key_behind(struct record_key *to, const struct record_key *key)
{
    memcpy(to->bytes, key->bytes, key->size);
    memset(to->bytes + key->size, 0xff, RECORD_TS_SIZE);
    to->size = key->size + RECORD_TS_SIZE;
}

/* Reverse, a key with many versions: looks for the right one instead of passing all. */
static int walk_look(struct version_walk *walk)
{
    struct mvcc_version version;
    int error = mvcc_visible(walk->state->view, &walk->key, walk->state->scan->read.ts, &version);
    walk->has_candidate = false;
    if (error == KVS_ERR_NOT_FOUND)
        return walk_settle(walk);
    if (error != 0)
        return error;
    if (version.write.type == TXN_OP_PUT) {
        struct item item = item_of(version.commit_ts, &version.write);
        error = walk_add(walk, &item);
    }
    return error == 0 ? walk_settle(walk) : error;
}

/* All visible versions of the rest of the range, or WALK_CUT behind the last that has room. */
static int walk_run(struct version_walk *walk)
{
    struct scan_state *state = walk->state;
    bool reverse = state->scan->reverse;
    struct engine_range range = {.family = ENGINE_FAMILY_TXN_WRITE,
                                 .reverse = reverse,
                                 .start = record_key_slice(state->start),
                                 .end = record_key_slice(state->end)};
    struct record_key from;
    for (;;) {
        int error = engine_scan(state->view, &range, walk_each, walk);
        if (error == 0)
            return reverse ? walk_settle(walk) : 0;
        if (error != WALK_SEEK)
            return error;
        if (reverse) {
            error = walk_look(walk);
            if (error != 0)
                return error;
            from = walk->key;
            range.end = record_key_slice(&from);
            walk->key.size = 0;
        } else if (walk->is_decided) {
            key_behind(&from, &walk->key);
            range.start = slice_make(from.bytes, from.size);
        } else {
            from = walk->key;
            range.start = record_key_at(&from, state->scan->read.ts);
            walk->in_a_row = 0;
        }
    }
}

/* --- locks ------------------------------------------------------------------------------------ */

struct lock_walk {
    struct scan_state *state;
    struct items *items;
    uint32_t count;
    uint32_t count_max;
    kvs_slice last; /* of the one that filled it */
};

static int lock_walk_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct lock_walk *walk = arg;
    struct txn_scan *scan = walk->state->scan;
    struct lock_record lock;
    if (++walk->state->walked > 4 * READ_ON_SPOT_COUNT_MAX && !walk->state->view->may_block)
        return ENGINE_WOULD_BLOCK;
    if (lock_record_is_shared(value)) /* in nobody's way */
        return 0;
    if (key.size > RECORD_KEY_ENCODED_MAX || lock_record_decode(value, &lock) != 0)
        return KVS_ERR_CORRUPTION;
    uint8_t user_key[RECORD_KEY_ENCODED_MAX];
    size_t user_key_size;
    if (memcomparable_decode(key, user_key, &user_key_size) != 0)
        return KVS_ERR_CORRUPTION;
    kvs_slice user = slice_make(user_key, user_key_size);
    enum read_lock_effect effect = read_lock_effect(&scan->read, &lock, user);
    if (effect == READ_LOCK_NONE)
        return 0;
    struct arena *arena = &walk->state->scratch;
    struct item *item = items_add(walk->items, arena);
    if (item == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = txn_slice_copy(arena, key, &item->encoded);
    if (error == 0 && effect == READ_LOCK_SHOWS) {
        item->kind = lock.type == TXN_OP_PUT ? ITEM_SHOWN : ITEM_HIDDEN;
        item->has_value = lock.has_value;
        item->start_ts = lock.start_ts;
        error = txn_slice_copy(arena, lock.value, &item->value);
    } else if (error == 0) {
        item->kind = ITEM_LOCK;
        error = txn_lock_info_set(&item->lock, &scan->base.arena, user, &lock);
    }
    if (error == 0 && effect == READ_LOCK_CONFLICT) {
        read_conflict_set(&scan->error, &scan->read, item->lock.key, item->lock.primary,
                          lock.start_ts, 0);
        return WALK_CUT;
    }
    if (error == 0 && ++walk->count == walk->count_max) {
        walk->last = item->encoded;
        error = WALK_CUT;
    }
    return error;
}

/* The first of them whose key is not below an encoded one. */
static uint32_t hidden_at_or_above(const struct read_hidden *hidden, uint32_t count,
                                   kvs_slice encoded)
{
    uint32_t low = 0;
    uint32_t high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (memcomparable_compare(hidden->locks[middle]->key, encoded) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Those of prewrites under way that lie in the window. */
static int hidden_add(struct scan_state *state, struct items *items, kvs_slice start, kvs_slice end)
{
    const struct read_hidden *hidden = state->scan->base.reserved[0];
    uint32_t count = hidden != NULL ? hidden->count : 0;
    for (uint32_t i = hidden_at_or_above(hidden, count, start); i < count; i++) {
        const struct read_hidden_lock *lock = hidden->locks[i];
        struct record_key key;
        if (end.size > 0 && memcomparable_compare(lock->key, end) >= 0)
            break;
        if (state->scan->read.isolation == TXN_ISOLATION_RC_CHECK_TS) {
            read_conflict_set(&state->scan->error, &state->scan->read, lock->key,
                              lock->lock.primary, lock->lock.start_ts, 0);
            return 0;
        }
        record_key_set(&key, lock->key);
        struct item *item = items_add(items, &state->scratch);
        if (item == NULL)
            return KVS_ERR_NO_MEMORY;
        item->kind = ITEM_LOCK;
        item->lock = lock->lock;
        int error = txn_slice_copy(&state->scratch, record_key_slice(&key), &item->encoded);
        if (error != 0)
            return error;
    }
    return 0;
}

/* --- pages ------------------------------------------------------------------------------------ */

static int page_add(struct scan_state *state, const struct item *item)
{
    struct txn_scan *scan = state->scan;
    struct arena *arena = scan->sink != NULL ? &state->scratch : &scan->base.arena;
    kvs_slice value = item->value;
    if (item->kind != ITEM_LOCK && !item->has_value && !scan->keys_only) {
        const struct write_record write = {.start_ts = item->start_ts};
        struct record_key key;
        record_key_set_encoded(&key, item->encoded);
        int error = mvcc_value(state->view, &key, &write, &value);
        if (error != 0)
            return error;
    }
    size_t size = state->size + item->encoded.size + value.size + PAIR_OVERHEAD;
    if (scan->size_bytes_max > 0 && size > scan->size_bytes_max && scan->pairs_count > 0) {
        state->is_full = true;
        return 0;
    }
    if (size > READ_ON_SPOT_SIZE_MAX && !state->view->may_block)
        return ENGINE_WOULD_BLOCK;
    state->size = size;
    struct txn_sink *sink = scan->sink;
    struct txn_pair given;
    struct txn_pair *pair = sink != NULL ? &given : &scan->pairs[scan->pairs_count];
    *pair = (struct txn_pair){0};
    if (item->kind == ITEM_LOCK) {
        pair->key = item->lock.key;
        pair->error.kind = TXN_ERROR_LOCKED;
        pair->error.key = item->lock.key;
        pair->error.lock = item->lock;
    } else {
        uint8_t *key = arena_alloc(arena, item->encoded.size);
        size_t key_size;
        if (key == NULL)
            return KVS_ERR_NO_MEMORY;
        if (memcomparable_decode(item->encoded, key, &key_size) != 0)
            return KVS_ERR_CORRUPTION;
        pair->key = slice_make(key, key_size);
        pair->commit_ts = scan->read.want_commit_ts ? item->commit_ts : 0;
        int error = 0;
        if (sink != NULL && !scan->keys_only)
            pair->value = value;
        else if (!scan->keys_only)
            error = txn_slice_copy(arena, value, &pair->value);
        if (error != 0)
            return error;
    }
    int error = sink != NULL ? sink->put(sink, pair) : 0;
    if (error != 0)
        return error;
    scan->pairs_count++;
    state->is_full = scan->pairs_count == scan->limit;
    return 0;
}

static int page_reserve(struct scan_state *state, uint32_t more)
{
    struct txn_scan *scan = state->scan;
    if (scan->sink != NULL || state->pairs_room - scan->pairs_count >= more)
        return 0;
    uint32_t room = scan->pairs_count + more;
    if (room < state->pairs_room * 2)
        room = state->pairs_room * 2;
    struct txn_pair *pairs = arena_alloc(&scan->base.arena, room * sizeof *pairs);
    if (pairs == NULL)
        return KVS_ERR_NO_MEMORY;
    if (scan->pairs_count > 0)
        memcpy(pairs, scan->pairs, scan->pairs_count * sizeof *pairs);
    scan->pairs = pairs;
    state->pairs_room = room;
    return 0;
}

static bool is_passed(struct scan_state *state, const struct item *item)
{
    if (item->kind == ITEM_HIDDEN)
        return true;
    if (item->kind == ITEM_LOCK || state->scan->sample_step == 0)
        return false;
    bool is_first = state->to_pass == 0;
    state->to_pass = is_first ? state->scan->sample_step - 1 : state->to_pass - 1;
    return !is_first;
}

/* The items of a window in their order, one for each key, up to where the locks were cut. */
static int page_add_window(struct scan_state *state, struct items *items, kvs_slice cut)
{
    struct txn_scan *scan = state->scan;
    if (items->count > 0)
        qsort(items->list, items->count, sizeof *items->list,
              scan->reverse ? item_compare_down : item_compare_up);
    int error = page_reserve(state, items->count);
    for (uint32_t i = 0; i < items->count && error == 0 && !state->is_full; i++) {
        const struct item *item = &items->list[i];
        if (i > 0 && slice_equal(item->encoded, items->list[i - 1].encoded))
            continue;
        int order = cut.size > 0 ? slice_compare(item->encoded, cut) : 0;
        if (scan->reverse ? order < 0 : order > 0)
            break;
        if (!is_passed(state, item))
            error = page_add(state, item);
    }
    return error;
}

/* What is left of the range behind `last`. */
static void rest_set(struct scan_state *state, kvs_slice last)
{
    struct record_key key;
    record_key_set_encoded(&key, last);
    if (state->scan->reverse)
        *state->end = key;
    else
        key_behind(state->start, &key);
}

/* One window; *ret_is_last: the range ends with it. */
static int scan_window(struct scan_state *state, struct version_walk *walk, bool *ret_is_last)
{
    struct txn_scan *scan = state->scan;
    uint32_t wanted = scan->limit - scan->pairs_count;
    walk->state = state;
    walk->items = (struct items){0};
    walk->key.size = 0;
    walk->in_a_row = 0;
    walk->is_decided = false;
    walk->has_candidate = false;
    walk->items_max = wanted < WINDOW_KEYS_MAX ? wanted : WINDOW_KEYS_MAX;
    int error = walk_run(walk);
    if ((error != 0 && error != WALK_CUT) || scan->error.kind != TXN_ERROR_NONE)
        return error == WALK_CUT ? 0 : error;
    bool versions_cut = error == WALK_CUT;
    /* The window: up to the last key that the walk has decided about. */
    kvs_slice cut = versions_cut ? walk->items.list[walk->items.count - 1].encoded : (kvs_slice){0};
    struct engine_range range = {.family = ENGINE_FAMILY_TXN_LOCK,
                                 .reverse = scan->reverse,
                                 .start = record_key_slice(state->start),
                                 .end = record_key_slice(state->end)};
    struct record_key bound;
    if (versions_cut && scan->reverse) {
        range.start = cut;
    } else if (versions_cut) {
        record_key_set_encoded(&bound, cut);
        range.end = record_key_at(&bound, TXN_TS_MAX); /* the first behind the lock's key */
    }
    struct lock_walk locks = {.state = state, .items = &walk->items, .count_max = walk->items_max};
    if (scan->read.isolation != TXN_ISOLATION_READ_COMMITTED)
        error = engine_scan(state->view, &range, lock_walk_each, &locks);
    else
        error = 0;
    if (error == 0 || error == WALK_CUT)
        error = hidden_add(state, &walk->items, range.start, range.end);
    if (error != 0 || scan->error.kind != TXN_ERROR_NONE)
        return error;
    if (locks.last.size > 0)
        cut = locks.last;
    error = page_add_window(state, &walk->items, cut);
    *ret_is_last = cut.size == 0;
    if (error == 0 && cut.size > 0)
        rest_set(state, cut);
    return error;
}

static void bound_set(struct record_key *to, kvs_slice bound)
{
    /* A longer bound than any key has: no key lies between it and its beginning. */
    size_t size = bound.size < sizeof to->bytes ? bound.size : sizeof to->bytes;
    if (size > 0)
        memcpy(to->bytes, bound.data, size);
    to->size = size;
}

int read_scan(struct txn_scan *scan, struct engine_view *view)
{
    scan->pairs = NULL;
    scan->pairs_count = 0;
    scan->more = false;
    scan->error = (struct txn_key_error){0};
    if (scan->sink != NULL)
        scan->sink->begin(scan->sink);
    if (!view->may_block && scan->limit > READ_ON_SPOT_COUNT_MAX)
        return ENGINE_WOULD_BLOCK;
    struct record_key start;
    struct record_key end;
    struct scan_state state = {.scan = scan, .view = view, .start = &start, .end = &end};
    struct version_walk walk;
    bound_set(&start, scan->range.start);
    bound_set(&end, scan->range.end);
    bool is_last = scan->limit == 0;
    int error = 0;
    while (error == 0 && !is_last && !state.is_full && scan->error.kind == TXN_ERROR_NONE) {
        error = scan_window(&state, &walk, &is_last);
        arena_reset(&state.scratch);
    }
    arena_deinit(&state.scratch);
    scan->more = state.is_full;
    return error;
}

/* --- locks as such ---------------------------------------------------------------------------- */

struct lock_page {
    struct txn_scan_lock *scan;
    struct engine_view *view;
    uint32_t room;
    uint32_t walked;
    size_t size;
};

static int lock_page_add(struct lock_page *page, struct txn_lock_info **ret_info)
{
    struct txn_scan_lock *scan = page->scan;
    if (scan->locks_count == page->room) {
        uint32_t room = page->room > 0 ? page->room * 2 : 16;
        struct txn_lock_info *locks = arena_alloc(&scan->base.arena, room * sizeof *locks);
        if (locks == NULL)
            return KVS_ERR_NO_MEMORY;
        if (scan->locks_count > 0)
            memcpy(locks, scan->locks, scan->locks_count * sizeof *locks);
        scan->locks = locks;
        page->room = room;
    }
    *ret_info = &scan->locks[scan->locks_count++];
    return 0;
}

static bool lock_page_is_full(const struct txn_scan_lock *scan)
{
    return scan->limit > 0 && scan->locks_count >= scan->limit;
}

static int lock_page_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct lock_page *page = arg;
    struct txn_scan_lock *scan = page->scan;
    struct lock_record lock;
    if (key.size > RECORD_KEY_ENCODED_MAX || lock_record_decode(value, &lock) != 0)
        return KVS_ERR_CORRUPTION;
    if (++page->walked > READ_ON_SPOT_COUNT_MAX && !page->view->may_block)
        return ENGINE_WOULD_BLOCK;
    struct lock_record oldest;
    size_t at = 0;
    if (lock_record_next(&lock, &at, &oldest) && oldest.start_ts > scan->max_ts)
        return 0;
    uint8_t user_key[RECORD_KEY_ENCODED_MAX];
    size_t size;
    if (memcomparable_decode(key, user_key, &size) != 0)
        return KVS_ERR_CORRUPTION;
    struct txn_lock_info *info;
    int error = lock_page_add(page, &info);
    if (error == 0)
        error = txn_lock_info_up_to(info, &scan->base.arena, slice_make(user_key, size), &lock,
                                    scan->max_ts);
    if (error == 0 && lock_page_is_full(scan))
        error = WALK_CUT;
    return error;
}

static int lock_info_compare(const void *a, const void *b)
{
    const struct txn_lock_info *first = a;
    const struct txn_lock_info *second = b;
    return slice_compare(first->key, second->key);
}

/* Locks of prewrites under way take their places among the others. */
static int lock_page_add_hidden(struct lock_page *page, bool is_cut)
{
    struct txn_scan_lock *scan = page->scan;
    const struct read_hidden *hidden = scan->base.reserved[0];
    if (hidden == NULL)
        return 0;
    uint32_t found = scan->locks_count;
    kvs_slice last = is_cut && found > 0 ? scan->locks[found - 1].key : (kvs_slice){0};
    uint32_t at = 0; /* both are sorted */
    for (uint32_t i = 0; i < hidden->count; i++) {
        kvs_slice key = hidden->locks[i]->key;
        if (is_cut && slice_compare(key, last) > 0)
            break;
        while (at < found && slice_compare(scan->locks[at].key, key) < 0)
            at++;
        if (at < found && slice_equal(scan->locks[at].key, key))
            continue;
        struct txn_lock_info *info;
        int error = lock_page_add(page, &info);
        if (error != 0)
            return error;
        *info = hidden->locks[i]->lock;
    }
    if (scan->locks_count > 0)
        qsort(scan->locks, scan->locks_count, sizeof *scan->locks, lock_info_compare);
    if (scan->limit > 0 && scan->locks_count > scan->limit)
        scan->locks_count = scan->limit;
    return 0;
}

int read_scan_lock(struct txn_scan_lock *scan, struct engine_view *view)
{
    scan->locks = NULL;
    scan->locks_count = 0;
    struct lock_page page = {.scan = scan, .view = view};
    struct engine_range range = {
        .family = ENGINE_FAMILY_TXN_LOCK, .start = scan->range.start, .end = scan->range.end};
    int error = engine_scan(view, &range, lock_page_each, &page);
    if (error == 0 || error == WALK_CUT)
        error = lock_page_add_hidden(&page, error == WALK_CUT);
    return error;
}

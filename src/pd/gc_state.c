/* pd/gc_state.c: see the header. */
#include "pd/gc_state.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/mem.h"
#include "runtime/task.h"

#include <stdio.h>

#define STATE_KEY "pd/gc"
#define STATE_FORMAT 1u
#define STATE_FIXED_SIZE 21u   /* format, two safe points, count */
#define BARRIER_FIXED_SIZE 18u /* ts, ends_ms, service, size of id */

struct gc_state {
    struct meta_store *store;
    pthread_mutex_t mutex;
    struct gc_values *values;
};

/* --- barriers --- */

static void drop_ended(struct gc_values *values, uint64_t now_ms)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < values->count; i++) {
        if (values->barriers[i].ends_ms > now_ms)
            values->barriers[kept++] = values->barriers[i];
    }
    values->count = kept;
}

static struct gc_barrier *find(struct gc_values *values, kvs_slice id, bool service)
{
    for (uint32_t i = 0; i < values->count; i++) {
        struct gc_barrier *barrier = &values->barriers[i];
        if (barrier->service == service &&
            slice_equal(id, slice_make(barrier->id, barrier->id_size)))
            return barrier;
    }
    return NULL;
}

/* The lowest; gc_worker does not hold the others back. NULL: there is none. */
static const struct gc_barrier *lowest(struct gc_values *values, bool services_only)
{
    const struct gc_barrier *low = NULL;
    for (uint32_t i = 0; i < values->count; i++) {
        const struct gc_barrier *barrier = &values->barriers[i];
        bool worker =
            slice_equal(slice_make(barrier->id, barrier->id_size), slice_of_string(GC_WORKER_ID));
        if (services_only ? !barrier->service : worker)
            continue;
        if (low == NULL || barrier->ts < low->ts)
            low = barrier;
    }
    return low;
}

static uint64_t end_of(int64_t ttl_s, uint64_t now_ms)
{
    uint64_t ttl = (uint64_t)ttl_s;
    return ttl > (GC_NEVER_ENDS - now_ms) / 1000 ? GC_NEVER_ENDS : now_ms + ttl * 1000;
}

int64_t gc_barrier_ttl_s(const struct gc_barrier *barrier, uint64_t now_ms)
{
    if (barrier->ends_ms == GC_NEVER_ENDS)
        return INT64_MAX;
    return barrier->ends_ms > now_ms ? (int64_t)((barrier->ends_ms - now_ms + 999) / 1000) : 0;
}

static struct gc_barrier *put(struct gc_change *change, struct gc_values *values, bool service)
{
    struct gc_barrier *barrier = find(values, change->id, service);
    if (barrier == NULL && values->count == GC_BARRIERS_MAX) {
        change->refused = "there are too many barriers and services";
        return NULL;
    }
    if (barrier == NULL)
        barrier = &values->barriers[values->count++];
    *barrier = (struct gc_barrier){
        .ts = change->ts,
        .ends_ms = end_of(change->ttl_s, change->now_ms),
        .service = service,
        .id_size = (uint8_t)change->id.size,
    };
    memcpy(barrier->id, change->id.data, change->id.size);
    return barrier;
}

static void remove_barrier(struct gc_values *values, struct gc_barrier *barrier)
{
    *barrier = values->barriers[--values->count];
}

/* --- the actions --- */

/* How far the transaction safe point may go. */
static uint64_t held_at(struct gc_values *values, uint64_t target)
{
    const struct gc_barrier *low = lowest(values, false);
    uint64_t held = low != NULL && low->ts < target ? low->ts : target;
    return held > values->txn_safe_point ? held : values->txn_safe_point;
}

/* From whom knows nothing of the transaction safe point: that one goes first. */
static void update(struct gc_change *change, struct gc_values *values)
{
    change->before = values->gc_safe_point;
    if (change->ts > values->txn_safe_point)
        values->txn_safe_point = held_at(values, change->ts);
    uint64_t target = change->ts < values->txn_safe_point ? change->ts : values->txn_safe_point;
    if (target > values->gc_safe_point)
        values->gc_safe_point = target;
    change->after = values->gc_safe_point;
}

/* The collector's service, which is always there and never behind the transaction safe point. */
static struct gc_barrier worker_of(struct gc_values *values)
{
    const struct gc_barrier *stored = find(values, slice_of_string(GC_WORKER_ID), true);
    struct gc_barrier worker = {.ends_ms = GC_NEVER_ENDS,
                                .service = true,
                                .id_size = sizeof(GC_WORKER_ID) - 1,
                                .id = GC_WORKER_ID};
    if (stored != NULL)
        worker = *stored;
    if (worker.ts < values->txn_safe_point)
        worker.ts = values->txn_safe_point;
    return worker;
}

static void update_service(struct gc_change *change, struct gc_values *values)
{
    bool is_worker = slice_equal(change->id, slice_of_string(GC_WORKER_ID));
    struct gc_barrier worker = worker_of(values);
    struct gc_barrier *mine = find(values, change->id, true);
    /* What a service is to keep may be gone below the transaction safe point. */
    uint64_t least = is_worker ? worker.ts : values->txn_safe_point;
    if (change->ttl_s <= 0 && mine != NULL && !is_worker)
        remove_barrier(values, mine);
    else if (change->ttl_s > 0 && change->ts >= least && put(change, values, true) != NULL &&
             is_worker)
        values->txn_safe_point = held_at(values, change->ts);
    change->found = true;
    change->barrier = worker_of(values);
    const struct gc_barrier *low = lowest(values, true);
    if (low != NULL && low->ts < change->barrier.ts &&
        !slice_equal(slice_make(low->id, low->id_size), slice_of_string(GC_WORKER_ID)))
        change->barrier = *low;
}

static void advance_txn(struct gc_change *change, struct gc_values *values)
{
    change->before = change->after = values->txn_safe_point;
    if (change->ts < values->txn_safe_point) {
        change->refused = "the transaction safe point does not go back";
        return;
    }
    const struct gc_barrier *low = lowest(values, false);
    if (low != NULL && low->ts < change->ts) {
        change->found = true;
        change->barrier = *low;
    }
    change->after = values->txn_safe_point = held_at(values, change->ts);
}

static void advance_gc(struct gc_change *change, struct gc_values *values)
{
    change->before = change->after = values->gc_safe_point;
    if (change->ts < values->gc_safe_point)
        change->refused = "the GC safe point does not go back";
    else if (change->ts > values->txn_safe_point)
        change->refused = "the GC safe point does not pass the transaction safe point";
    else
        change->after = values->gc_safe_point = change->ts;
}

static void set_barrier(struct gc_change *change, struct gc_values *values)
{
    if (change->ttl_s <= 0)
        change->refused = "a barrier needs a time to live";
    else if (change->ts < values->txn_safe_point)
        change->refused = "the barrier lies below the transaction safe point";
    if (change->refused != NULL)
        return;
    const struct gc_barrier *barrier = put(change, values, false);
    change->found = barrier != NULL;
    if (barrier != NULL)
        change->barrier = *barrier;
}

static void delete_barrier(struct gc_change *change, struct gc_values *values)
{
    struct gc_barrier *barrier = find(values, change->id, false);
    change->found = barrier != NULL;
    if (barrier == NULL)
        return;
    change->barrier = *barrier;
    remove_barrier(values, barrier);
}

static void act(struct gc_change *change, struct gc_values *values)
{
    static void (*const actions[])(struct gc_change *, struct gc_values *) = {
        [GC_UPDATE] = update,           [GC_UPDATE_SERVICE] = update_service,
        [GC_ADVANCE_TXN] = advance_txn, [GC_ADVANCE_GC] = advance_gc,
        [GC_SET_BARRIER] = set_barrier, [GC_DELETE_BARRIER] = delete_barrier,
    };
    bool named = change->action == GC_UPDATE_SERVICE || change->action == GC_SET_BARRIER;
    if (change->id.size > GC_BARRIER_ID_SIZE_MAX || (named && change->id.size == 0))
        change->refused = "a name has 1 to 128 bytes";
    else
        actions[change->action](change, values);
}

/* --- on the disk --- */

static void write_state(const struct gc_values *values, struct meta_batch *batch)
{
    size_t size = STATE_FIXED_SIZE + values->count * (BARRIER_FIXED_SIZE + GC_BARRIER_ID_SIZE_MAX);
    uint8_t *bytes = arena_alloc(&batch->arena, size);
    if (bytes == NULL) {
        batch->error = KVS_ERR_NO_MEMORY;
        return;
    }
    bytes[0] = STATE_FORMAT;
    put_u64(bytes + 1, values->txn_safe_point);
    put_u64(bytes + 9, values->gc_safe_point);
    put_u32(bytes + 17, values->count);
    uint8_t *at = bytes + STATE_FIXED_SIZE;
    for (uint32_t i = 0; i < values->count; i++) {
        const struct gc_barrier *barrier = &values->barriers[i];
        put_u64(at, barrier->ts);
        put_u64(at + 8, barrier->ends_ms);
        at[16] = barrier->service;
        at[17] = barrier->id_size;
        memcpy(at + BARRIER_FIXED_SIZE, barrier->id, barrier->id_size);
        at += BARRIER_FIXED_SIZE + barrier->id_size;
    }
    meta_put(batch, slice_of_string(STATE_KEY), slice_make(bytes, (size_t)(at - bytes)));
}

static int read_state(struct gc_values *values, kvs_slice bytes)
{
    if (bytes.size < STATE_FIXED_SIZE || bytes.data[0] != STATE_FORMAT ||
        get_u32(bytes.data + 17) > GC_BARRIERS_MAX)
        return KVS_ERR_CORRUPTION;
    values->txn_safe_point = get_u64(bytes.data + 1);
    values->gc_safe_point = get_u64(bytes.data + 9);
    values->count = get_u32(bytes.data + 17);
    size_t at = STATE_FIXED_SIZE;
    for (uint32_t i = 0; i < values->count; i++) {
        struct gc_barrier *barrier = &values->barriers[i];
        const uint8_t *from = bytes.data + at;
        if (bytes.size - at < BARRIER_FIXED_SIZE || from[17] > GC_BARRIER_ID_SIZE_MAX ||
            bytes.size - at - BARRIER_FIXED_SIZE < from[17])
            return KVS_ERR_CORRUPTION;
        *barrier = (struct gc_barrier){.ts = get_u64(from),
                                       .ends_ms = get_u64(from + 8),
                                       .service = from[16] != 0,
                                       .id_size = from[17]};
        memcpy(barrier->id, from + BARRIER_FIXED_SIZE, barrier->id_size);
        at += BARRIER_FIXED_SIZE + barrier->id_size;
    }
    return at == bytes.size ? 0 : KVS_ERR_CORRUPTION;
}

/* --- changes --- */

static int gc_prepare(struct meta_change *meta, struct meta_batch *batch)
{
    struct gc_change *change = CONTAINER_OF(meta, struct gc_change, change);
    change->next = mem_alloc(sizeof *change->next);
    if (change->next == NULL)
        return KVS_ERR_NO_MEMORY;
    *change->next = *change->gc->values;
    change->now_ms = clock_wall_ms();
    drop_ended(change->next, change->now_ms);
    act(change, change->next);
    if (change->refused == NULL)
        write_state(change->next, batch);
    return 0;
}

static void gc_publish(struct meta_change *meta)
{
    struct gc_change *change = CONTAINER_OF(meta, struct gc_change, change);
    struct gc_state *gc = change->gc;
    if (change->refused != NULL)
        return;
    pthread_mutex_lock(&gc->mutex);
    struct gc_values *old = gc->values;
    gc->values = change->next;
    change->next = old;
    pthread_mutex_unlock(&gc->mutex);
}

static void gc_done(struct meta_change *meta, int error)
{
    struct gc_change *change = CONTAINER_OF(meta, struct gc_change, change);
    mem_free(change->next);
    change->next = NULL;
    change->done(change, error);
}

void gc_state_change(struct gc_state *gc, struct loop *loop, struct gc_change *change)
{
    change->gc = gc;
    change->next = NULL;
    change->refused = NULL;
    change->found = false;
    change->change =
        (struct meta_change){.prepare = gc_prepare, .publish = gc_publish, .done = gc_done};
    meta_store_change(gc->store, loop, &change->change);
}

void gc_state_read(struct gc_state *gc, struct gc_values *ret_values)
{
    pthread_mutex_lock(&gc->mutex);
    *ret_values = *gc->values;
    pthread_mutex_unlock(&gc->mutex);
    drop_ended(ret_values, clock_wall_ms());
}

uint64_t gc_state_safe_point(struct gc_state *gc)
{
    pthread_mutex_lock(&gc->mutex);
    uint64_t safe_point = gc->values->gc_safe_point;
    pthread_mutex_unlock(&gc->mutex);
    return safe_point;
}

/* --- life --- */

int gc_state_open_blocking(struct meta_store *store, struct gc_state **ret_gc)
{
    struct gc_state *gc = mem_zalloc(sizeof *gc);
    struct gc_values *values = mem_zalloc(sizeof *values);
    if (gc == NULL || values == NULL) {
        mem_free(gc);
        mem_free(values);
        return KVS_ERR_NO_MEMORY;
    }
    gc->store = store;
    gc->values = values;
    pthread_mutex_init(&gc->mutex, NULL);
    struct meta_batch batch = {.count = 0};
    kvs_slice bytes;
    int error = meta_get_blocking(store, slice_of_string(STATE_KEY), &batch, &bytes);
    if (error == 0)
        error = read_state(values, bytes);
    else if (error == KVS_ERR_NOT_FOUND)
        error = 0;
    meta_batch_deinit(&batch);
    if (error != 0)
        gc_state_free(gc);
    else
        *ret_gc = gc;
    return error;
}

void gc_state_free(struct gc_state *gc)
{
    if (gc == NULL)
        return;
    pthread_mutex_destroy(&gc->mutex);
    mem_free(gc->values);
    mem_free(gc);
}

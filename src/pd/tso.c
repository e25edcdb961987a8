/* pd/tso.c: see the header. */
#include "pd/tso.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/mem.h"
#include "runtime/loop.h"

#include <assert.h>
#include <stdatomic.h>

#define BOUND_KEY "pd/tso"
#define AHEAD_MS 3000u
#define AHEAD_MIN_MS 1500u
/* Commits choose timestamps a little above all that were given or read. */
#define END_AHEAD_MS 2u

struct tso {
    struct meta_store *store;
    uint64_t (*wall_ms)(void);
    _Atomic uint64_t next;  /* physical << 18 | logical, unless the clock is ahead */
    _Atomic uint64_t bound; /* on the disk: physical parts given are less */
    atomic_bool has_waiting;
    pthread_mutex_t mutex; /* of what follows */
    bool extending;
    struct tso_request *first, *last; /* waiting */
    struct meta_change change;        /* of the bound */
    uint64_t new_bound;
    void (*on_settled)(void *arg); /* NULL: nobody waits for the end of the change */
    void *settled_arg;
};

/* Any number at once: nobody gets what another one got. */
static bool take(struct tso *tso, uint32_t count, struct timestamp *ret_last)
{
    uint64_t now = tso->wall_ms() << TSO_LOGICAL_BITS;
    /* acquire: pairs with the release of the bound. */
    uint64_t bound = atomic_load_explicit(&tso->bound, memory_order_acquire);
    uint64_t next = atomic_load_explicit(&tso->next, memory_order_relaxed);
    uint64_t first;
    do {
        first = now > next ? now : next;
        uint64_t logical = first % TSO_COUNT_MAX;
        if (count > TSO_COUNT_MAX - logical)
            first += TSO_COUNT_MAX - logical;
        if (first >> TSO_LOGICAL_BITS >= bound)
            return false;
        /* acq_rel: what was done before one timestamp was asked for, comes before what is done with
         * a later one. */
    } while (!atomic_compare_exchange_weak_explicit(&tso->next, &next, first + count,
                                                    memory_order_acq_rel, memory_order_relaxed));
    uint64_t last = first + count - 1;
    *ret_last = (struct timestamp){.physical = last >> TSO_LOGICAL_BITS,
                                   .logical = (uint32_t)(last % TSO_COUNT_MAX)};
    return true;
}

uint64_t tso_given(const struct tso *tso)
{
    /* acquire: pairs with the exchange in take. */
    uint64_t next = atomic_load_explicit(&tso->next, memory_order_acquire);
    return next > 0 ? next - 1 : 0;
}

static uint64_t next_ms(const struct tso *tso)
{
    return atomic_load_explicit(&tso->next, memory_order_relaxed) >> TSO_LOGICAL_BITS;
}

static void put_bound(struct meta_batch *batch, uint64_t bound)
{
    uint8_t value[8];
    put_u64(value, bound);
    meta_put(batch, slice_of_string(BOUND_KEY), slice_make(value, sizeof value));
}

static int bound_prepare(struct meta_change *change, struct meta_batch *batch)
{
    struct tso *tso = CONTAINER_OF(change, struct tso, change);
    uint64_t now = tso->wall_ms();
    uint64_t next = next_ms(tso);
    tso->new_bound = (now > next ? now : next) + AHEAD_MS;
    put_bound(batch, tso->new_bound);
    return 0;
}

static void bound_publish(struct meta_change *change)
{
    struct tso *tso = CONTAINER_OF(change, struct tso, change);
    /* release: it is on the disk. */
    atomic_store_explicit(&tso->bound, tso->new_bound, memory_order_release);
}

static void on_answer(struct task *task)
{
    struct tso_request *request = CONTAINER_OF(task, struct tso_request, task);
    request->done(request);
}

/* The mutex is held; relaxed: who does not see it yet came at the same time. */
static void set_first(struct tso *tso, struct tso_request *first)
{
    tso->first = first;
    if (first == NULL)
        tso->last = NULL;
    atomic_store_explicit(&tso->has_waiting, first != NULL, memory_order_relaxed);
}

/* Answers the first ones waiting, all of them with an error if there is one. Under the mutex. */
static void answer_waiting(struct tso *tso, int error)
{
    struct tso_request *request;
    while ((request = tso->first) != NULL) {
        if (error == 0 && !take(tso, request->count, &request->last))
            return;
        set_first(tso, request->next);
        request->error = error;
        request->task.run = on_answer;
        loop_post(request->loop, &request->task);
    }
}

static void extend(struct tso *tso, struct loop *loop);

static void bound_done(struct meta_change *change, int error)
{
    struct tso *tso = CONTAINER_OF(change, struct tso, change);
    pthread_mutex_lock(&tso->mutex);
    tso->extending = false;
    answer_waiting(tso, error);
    bool again = tso->first != NULL;
    tso->extending = again;
    void (*on_settled)(void *arg) = again ? NULL : tso->on_settled;
    void *settled_arg = tso->settled_arg;
    pthread_mutex_unlock(&tso->mutex);
    if (again)
        extend(tso, change->loop);
    else if (on_settled != NULL)
        on_settled(settled_arg);
}

/* The caller has set `extending`. */
static void extend(struct tso *tso, struct loop *loop)
{
    tso->change = (struct meta_change){
        .prepare = bound_prepare, .publish = bound_publish, .done = bound_done};
    meta_store_change(tso->store, loop, &tso->change);
}

bool tso_take(struct tso *tso, uint32_t count, struct loop *loop, struct timestamp *ret_last)
{
    assert(count > 0 && count <= TSO_COUNT_MAX);
    if (atomic_load_explicit(&tso->has_waiting, memory_order_relaxed) ||
        !take(tso, count, ret_last))
        return false;
    uint64_t bound = atomic_load_explicit(&tso->bound, memory_order_relaxed);
    if (ret_last->physical + AHEAD_MIN_MS < bound)
        return true;
    pthread_mutex_lock(&tso->mutex);
    bool extends = !tso->extending;
    tso->extending = true;
    pthread_mutex_unlock(&tso->mutex);
    if (extends)
        extend(tso, loop);
    return true;
}

void tso_wait(struct tso *tso, struct tso_request *request)
{
    assert(request->count > 0 && request->count <= TSO_COUNT_MAX);
    struct loop *loop = request->loop;
    pthread_mutex_lock(&tso->mutex);
    request->next = NULL;
    if (tso->last != NULL)
        tso->last->next = request;
    else
        set_first(tso, request);
    tso->last = request;
    if (!tso->extending)
        answer_waiting(tso, 0);
    bool extends = !tso->extending && tso->first != NULL;
    tso->extending = tso->extending || extends;
    pthread_mutex_unlock(&tso->mutex);
    if (extends)
        extend(tso, loop);
}

uint64_t tso_given_ms(struct tso *tso)
{
    return atomic_load_explicit(&tso->bound, memory_order_acquire); /* pairs with its publication */
}

void tso_put_end(struct tso *tso, uint64_t used_ts, struct meta_batch *batch)
{
    uint64_t next = next_ms(tso);
    uint64_t used = used_ts >> TSO_LOGICAL_BITS;
    uint64_t end = (next > used ? next : used) + END_AHEAD_MS;
    if (end < atomic_load_explicit(&tso->bound, memory_order_relaxed)) {
        atomic_store_explicit(&tso->bound, end, memory_order_relaxed);
        put_bound(batch, end);
    }
}

void tso_settle(struct tso *tso, void (*done)(void *arg), void *arg)
{
    pthread_mutex_lock(&tso->mutex);
    bool waits = tso->extending;
    tso->on_settled = done;
    tso->settled_arg = arg;
    pthread_mutex_unlock(&tso->mutex);
    if (!waits)
        done(arg);
}

int tso_open_blocking(struct meta_store *store, uint64_t (*wall_ms)(void), struct tso **ret_tso)
{
    struct tso *tso = mem_zalloc(sizeof *tso);
    if (tso == NULL)
        return KVS_ERR_NO_MEMORY;
    tso->store = store;
    tso->wall_ms = wall_ms != NULL ? wall_ms : clock_wall_coarse_ms;
    pthread_mutex_init(&tso->mutex, NULL);
    kvs_slice value;
    uint64_t bound = 0;
    int error = meta_get_blocking(store, slice_of_string(BOUND_KEY), &tso->change.batch, &value);
    if (error == 0 && value.size == 8)
        bound = get_u64(value.data);
    else if (error == 0)
        error = KVS_ERR_CORRUPTION;
    meta_batch_deinit(&tso->change.batch);
    if (error == KVS_ERR_NOT_FOUND)
        error = 0;
    atomic_init(&tso->next, bound << TSO_LOGICAL_BITS);
    atomic_init(&tso->bound, bound);
    if (error != 0)
        tso_free(tso);
    else
        *ret_tso = tso;
    return error;
}

void tso_free(struct tso *tso)
{
    if (tso == NULL)
        return;
    assert(tso->first == NULL && !tso->extending);
    pthread_mutex_destroy(&tso->mutex);
    mem_free(tso);
}

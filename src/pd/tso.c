/* pd/tso.c: see the header. */
#include "pd/tso.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/mem.h"
#include "runtime/loop.h"

#include <assert.h>

#define BOUND_KEY "pd/tso"
#define AHEAD_MS 3000u
#define AHEAD_MIN_MS 1500u

struct tso {
    struct meta_store *store;
    uint64_t (*wall_ms)(void);
    pthread_mutex_t mutex;
    uint64_t physical; /* of the next timestamp, unless the clock is ahead */
    uint32_t logical;  /* of the next timestamp */
    uint64_t bound;    /* on the disk: physical parts given are less */
    bool extending;
    struct tso_request *first, *last; /* waiting */
    struct meta_change change;        /* of the bound */
    uint64_t new_bound;
};

/* Under the mutex. */
static bool take(struct tso *tso, uint32_t count, struct timestamp *ret_last)
{
    uint64_t now = tso->wall_ms();
    if (now > tso->physical) {
        tso->physical = now;
        tso->logical = 0;
    }
    if (count > TSO_COUNT_MAX - tso->logical) {
        tso->physical++;
        tso->logical = 0;
    }
    if (tso->physical >= tso->bound)
        return false;
    tso->logical += count;
    *ret_last = (struct timestamp){.physical = tso->physical, .logical = tso->logical - 1};
    return true;
}

static int bound_prepare(struct meta_change *change, struct meta_batch *batch)
{
    struct tso *tso = CONTAINER_OF(change, struct tso, change);
    uint64_t now = tso->wall_ms();
    pthread_mutex_lock(&tso->mutex);
    tso->new_bound = (now > tso->physical ? now : tso->physical) + AHEAD_MS;
    pthread_mutex_unlock(&tso->mutex);
    uint8_t value[8];
    put_u64(value, tso->new_bound);
    meta_put(batch, slice_of_string(BOUND_KEY), slice_make(value, sizeof value));
    return 0;
}

static void bound_publish(struct meta_change *change)
{
    struct tso *tso = CONTAINER_OF(change, struct tso, change);
    pthread_mutex_lock(&tso->mutex);
    tso->bound = tso->new_bound;
    pthread_mutex_unlock(&tso->mutex);
}

static void on_answer(struct task *task)
{
    struct tso_request *request = CONTAINER_OF(task, struct tso_request, task);
    request->done(request);
}

/* Answers the first ones waiting, all of them with an error if there is one. Under the mutex. */
static void answer_waiting(struct tso *tso, int error)
{
    struct tso_request *request;
    while ((request = tso->first) != NULL) {
        if (error == 0 && !take(tso, request->count, &request->last))
            return;
        tso->first = request->next;
        request->error = error;
        request->task.run = on_answer;
        loop_post(request->loop, &request->task);
    }
    tso->last = NULL;
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
    pthread_mutex_unlock(&tso->mutex);
    if (again)
        extend(tso, change->loop);
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
    pthread_mutex_lock(&tso->mutex);
    bool taken = tso->first == NULL && take(tso, count, ret_last);
    bool extends = taken && !tso->extending && tso->bound - tso->physical < AHEAD_MIN_MS;
    tso->extending = tso->extending || extends;
    pthread_mutex_unlock(&tso->mutex);
    if (extends)
        extend(tso, loop);
    return taken;
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
        tso->first = request;
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
    pthread_mutex_lock(&tso->mutex);
    uint64_t bound = tso->bound;
    pthread_mutex_unlock(&tso->mutex);
    return bound;
}

int tso_open_blocking(struct meta_store *store, uint64_t (*wall_ms)(void), struct tso **ret_tso)
{
    struct tso *tso = mem_zalloc(sizeof *tso);
    if (tso == NULL)
        return KVS_ERR_NO_MEMORY;
    tso->store = store;
    tso->wall_ms = wall_ms != NULL ? wall_ms : clock_wall_ms;
    pthread_mutex_init(&tso->mutex, NULL);
    kvs_slice value;
    int error = meta_get_blocking(store, slice_of_string(BOUND_KEY), &tso->change.batch, &value);
    if (error == 0 && value.size == 8)
        tso->physical = tso->bound = get_u64(value.data);
    else if (error == 0)
        error = KVS_ERR_CORRUPTION;
    meta_batch_deinit(&tso->change.batch);
    if (error == KVS_ERR_NOT_FOUND)
        error = 0;
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

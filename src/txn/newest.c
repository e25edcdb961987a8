/* txn/newest.c: see the header. */
#include "txn/newest.h"

#include "base/checksum.h"
#include "base/mem.h"

#include <kvs/error.h>

#define WALK_STEP 256u
#define WALK_ENOUGH 2 /* above ENGINE_WOULD_BLOCK: never leaves this file */

int newest_init(struct newest *newest)
{
    *newest = (struct newest){0};
    newest->slots = mem_zalloc(NEWEST_SLOTS * sizeof newest->slots[0]);
    newest->at = mem_zalloc(sizeof *newest->at);
    if (newest->slots == NULL || newest->at == NULL) {
        mem_free((void *)newest->slots);
        mem_free(newest->at);
        return KVS_ERR_NO_MEMORY;
    }
    pthread_mutex_init(&newest->mutex, NULL);
    return 0;
}

void newest_deinit(struct newest *newest)
{
    pthread_mutex_destroy(&newest->mutex);
    mem_free((void *)newest->slots);
    mem_free(newest->at);
}

static _Atomic uint64_t *slot_of(struct newest *newest, kvs_slice encoded)
{
    return &newest->slots[checksum(encoded.data, encoded.size) % NEWEST_SLOTS];
}

void newest_raise(struct newest *newest, kvs_slice encoded, uint64_t commit_ts)
{
    /* relaxed: who asks about this key has got its latch from us, or knows that the walk is done */
    _Atomic uint64_t *slot = slot_of(newest, encoded);
    uint64_t now = atomic_load_explicit(slot, memory_order_relaxed);
    while (now < commit_ts &&
           !atomic_compare_exchange_weak_explicit(slot, &now, commit_ts, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
}

/* --- what was there before -------------------------------------------------------------------- */

struct step {
    struct newest *newest;
    unsigned walked;
};

static int step_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct step *step = arg;
    struct newest *newest = step->newest;
    kvs_slice encoded;
    uint64_t commit_ts;
    (void)value;
    if (!record_key_split(key, &encoded, &commit_ts))
        return KVS_ERR_CORRUPTION;
    newest_raise(newest, encoded, commit_ts);
    if (++step->walked < WALK_STEP)
        return 0;
    (void)record_key_set_encoded(newest->at, encoded);
    newest->at->size = record_key_at(newest->at, commit_ts).size;
    return WALK_ENOUGH;
}

static void walk_on(struct newest *newest, struct engine_view *view)
{
    if (view->may_block || pthread_mutex_trylock(&newest->mutex) != 0)
        return;
    struct step step = {.newest = newest};
    struct engine_range range = {.family = ENGINE_FAMILY_TXN_WRITE,
                                 .keys_only = true,
                                 .start = record_key_slice(newest->at)};
    int error = engine_scan(view, &range, step_each, &step);
    /* release: the slots as all the walk has left them; pairs with newest_is_below. */
    if (error != WALK_ENOUGH)
        atomic_store_explicit(&newest->state, error == 0 ? NEWEST_KNOWN : NEWEST_GIVEN_UP,
                              memory_order_release);
    pthread_mutex_unlock(&newest->mutex);
}

bool newest_is_below(struct newest *newest, struct engine_view *view, kvs_slice encoded,
                     uint64_t ts)
{
    /* acquire: pairs with the end of the walk. */
    unsigned state = atomic_load_explicit(&newest->state, memory_order_acquire);
    if (state == NEWEST_WALKING)
        walk_on(newest, view);
    return state == NEWEST_KNOWN &&
           atomic_load_explicit(slot_of(newest, encoded), memory_order_relaxed) < ts;
}

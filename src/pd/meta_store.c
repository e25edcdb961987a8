/* pd/meta_store.c: see the header. */
#include "pd/meta_store.h"

#include "base/mem.h"
#include "engine/write_blocking.h"
#include "runtime/loop.h"

#include <assert.h>

static void on_written(struct task *task);

void meta_store_init(struct meta_store *store, struct engine *engine)
{
    *store = (struct meta_store){.engine = engine};
    pthread_mutex_init(&store->mutex, NULL);
}

void meta_store_deinit(struct meta_store *store)
{
    assert(store->first == NULL);
    pthread_mutex_destroy(&store->mutex);
}

/* --- the queue --- */

static void on_done(struct task *task)
{
    struct meta_change *change = CONTAINER_OF(task, struct meta_change, done_task);
    change->done(change, change->error);
}

/* Takes the first change, which is over, off the queue; returns the one behind it. */
static struct meta_change *finish(struct meta_store *store, struct meta_change *change)
{
    if (change->error == 0)
        change->publish(change);
    meta_batch_deinit(&change->batch);
    pthread_mutex_lock(&store->mutex);
    assert(store->first == change);
    struct meta_change *next = change->next;
    store->first = next;
    if (next == NULL)
        store->last = NULL;
    pthread_mutex_unlock(&store->mutex);
    change->done_task.run = on_done;
    loop_post(change->loop, &change->done_task);
    return next;
}

static void write_batch(struct meta_store *store, struct meta_change *change)
{
    change->write = (struct engine_write){
        .op = {.task.run = on_written, .loop = change->loop},
        .mutations = change->batch.mutations,
        .mutations_count = change->batch.count,
        .flags = ENGINE_WRITE_FOR_READERS, /* they begin with a timestamp */
    };
    engine_write(store->engine, &change->write);
}

/* From `change`, the first of the queue, on: until one is being written. */
static void run_changes(struct meta_store *store, struct meta_change *change)
{
    while (change != NULL) {
        change->error = change->prepare(change, &change->batch);
        if (change->error == 0)
            change->error = change->batch.error;
        if (change->error == 0 && change->batch.count > 0) {
            write_batch(store, change);
            return;
        }
        change = finish(store, change);
    }
}

static void on_written(struct task *task)
{
    struct meta_change *change = CONTAINER_OF(task, struct meta_change, write.op.task);
    struct meta_store *store = change->store;
    change->error = change->write.op.error;
    run_changes(store, finish(store, change));
}

void meta_store_change(struct meta_store *store, struct loop *loop, struct meta_change *change)
{
    change->store = store;
    change->loop = loop;
    change->next = NULL;
    change->batch = (struct meta_batch){.count = 0};
    pthread_mutex_lock(&store->mutex);
    bool alone = store->first == NULL;
    if (alone)
        store->first = change;
    else
        store->last->next = change;
    store->last = change;
    pthread_mutex_unlock(&store->mutex);
    if (alone)
        run_changes(store, change);
}

/* --- batches --- */

static kvs_mutation *mutation_add(struct meta_batch *batch, uint8_t kind, kvs_slice key)
{
    if (batch->count == batch->capacity) {
        uint32_t capacity = batch->capacity == 0 ? 8 : batch->capacity * 2;
        void *grown = mem_realloc(batch->mutations, capacity * sizeof *batch->mutations);
        if (grown == NULL) {
            batch->error = KVS_ERR_NO_MEMORY;
            return NULL;
        }
        batch->mutations = grown;
        batch->capacity = capacity;
    }
    void *copy = arena_copy(&batch->arena, key);
    if (copy == NULL) {
        batch->error = KVS_ERR_NO_MEMORY;
        return NULL;
    }
    kvs_mutation *mutation = &batch->mutations[batch->count++];
    *mutation =
        (kvs_mutation){.kind = kind, .family = META_FAMILY, .key = slice_make(copy, key.size)};
    return mutation;
}

void meta_put(struct meta_batch *batch, kvs_slice key, kvs_slice value)
{
    kvs_mutation *mutation = mutation_add(batch, KVS_MUTATION_SET, key);
    void *copy = mutation != NULL ? arena_copy(&batch->arena, value) : NULL;
    if (mutation != NULL && copy == NULL)
        batch->error = KVS_ERR_NO_MEMORY;
    else if (mutation != NULL)
        mutation->value = slice_make(copy, value.size);
}

void meta_batch_deinit(struct meta_batch *batch)
{
    arena_deinit(&batch->arena);
    mem_free(batch->mutations);
    *batch = (struct meta_batch){.count = 0};
}

/* --- for the opening --- */

int meta_write_blocking(struct meta_store *store, struct meta_batch *batch)
{
    int error = batch->error;
    if (error == 0 && batch->count > 0)
        error = engine_write_blocking(store->engine, batch->mutations, batch->count);
    meta_batch_deinit(batch);
    return error;
}

int meta_get_blocking(struct meta_store *store, kvs_slice key, struct meta_batch *batch,
                      kvs_slice *ret_value)
{
    struct engine_view view;
    kvs_slice value;
    int error = engine_view_begin(store->engine, NULL, true, &view);
    if (error != 0)
        return error;
    error = engine_get(&view, META_FAMILY, key, &value);
    void *copy = error == 0 ? arena_copy(&batch->arena, value) : NULL;
    if (error == 0 && copy == NULL)
        error = KVS_ERR_NO_MEMORY;
    else if (error == 0)
        *ret_value = slice_make(copy, value.size);
    engine_view_end(&view);
    return error;
}

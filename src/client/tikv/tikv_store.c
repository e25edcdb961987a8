/*
 * client/tikv/tikv_store.c: chooses the shard of each op; opens and closes all of them.
 *
 * Open: all shards start; when each has found the cluster, or one could not, `opened` is called.
 * Close: each shard ends what it has under way; the last one frees the store.
 */
#include "client/tikv/tikv_store.h"

#include "base/mem.h"
#include "client/tikv/shard.h"
#include "proto/tikv/key.h"
#include "runtime/runtime.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

struct tikv_store {
    kvs_store base;
    struct tls_context *tls_context;
    void (*opened)(void *arg, int error, const char *why);
    void *opened_arg;
    atomic_bool opened_told;
    atomic_uint shards_ready;
    atomic_uint shards_open; /* not yet closed */
    atomic_uint read_turn;
    void (*closed)(void *arg, int error);
    void *closed_arg;
    struct loop *closed_loop;
    struct task closed_task;
    unsigned shards_count;
    struct tikv_shard shards[];
};

static struct tikv_store *tikv_store_of(kvs_store *base)
{
    return CONTAINER_OF(base, struct tikv_store, base);
}

/* --- submitting ---------------------------------------------------------------------------------
 */

static bool op_is_read(const kvs_op *op)
{
    return op->kind == KVS_OP_GET || op->kind == KVS_OP_EXISTS || op->kind == KVS_OP_BATCH_GET ||
           op->kind == KVS_OP_SCAN || op->kind == KVS_OP_COUNT || op->kind == KVS_OP_STATS ||
           op->kind == KVS_OP_TTL || op->kind == KVS_OP_CHECKSUM;
}

/* On a shard's own loop that one: nothing crosses threads. */
static struct tikv_shard *store_current_shard(struct tikv_store *store)
{
    for (unsigned i = 0; i < store->shards_count; i++) {
        if (loop_is_current(store->shards[i].loop))
            return &store->shards[i];
    }
    return NULL;
}

static struct tikv_shard *store_write_shard(struct tikv_store *store)
{
    uint64_t hash = ((uint64_t)pthread_self() >> 6) * 0x9e3779b97f4a7c15u;
    return &store->shards[(hash >> 32) % store->shards_count];
}

static struct tikv_shard *store_read_shard(struct tikv_store *store)
{
    /* relaxed: only the spread matters. */
    unsigned turn = atomic_fetch_add_explicit(&store->read_turn, 1, memory_order_relaxed);
    return &store->shards[turn % store->shards_count];
}

static void tikv_store_submit(kvs_store *base, kvs_op **ops, size_t count, struct loop *loop)
{
    struct tikv_store *store = tikv_store_of(base);
    struct tikv_shard *current = store_current_shard(store);
    struct tikv_shard *for_writes = current != NULL ? current : store_write_shard(store);
    struct tikv_shard *for_reads = current != NULL ? current : store_read_shard(store);
    struct task_list reads = {0};
    struct task_list writes = {0};
    for (size_t i = 0; i < count; i++) {
        kvs_op *op = ops[i];
        bool is_read = op_is_read(op);
        store_op_begin(op);
        int error = store_op_check(op, KVS_VALUE_SIZE_MAX);
        struct tikv_shard *shard = is_read ? for_reads : for_writes;
        /* For libkvs any loop of the runtime is right: on_done then crosses no threads. */
        struct loop *done_loop = loop == base->loop ? shard->loop : loop;
        tikv_shard_prepare(shard, op, done_loop, error);
        task_list_push(is_read && for_reads != for_writes ? &reads : &writes,
                       &tikv_op_of(op)->task);
    }
    if (writes.first != NULL)
        tikv_shard_submit(for_writes, &writes);
    if (reads.first != NULL)
        tikv_shard_submit(for_reads, &reads);
}

static void tikv_store_cancel(kvs_store *base, kvs_op *op)
{
    (void)base;
    tikv_shard_cancel(op);
}

/* --- opening and closing ------------------------------------------------------------------------
 */

static void store_on_first(struct tikv_shard *shard, int error, const char *why)
{
    struct tikv_store *store = shard->owner_arg;
    bool all = error == 0 && atomic_fetch_add(&store->shards_ready, 1) + 1 == store->shards_count;
    if ((error != 0 || all) && !atomic_exchange(&store->opened_told, true))
        store->opened(store->opened_arg, error, why);
}

static void store_free(struct tikv_store *store)
{
    tls_context_free(store->tls_context);
    mem_free(store);
}

static void store_on_closed_task(struct task *task)
{
    struct tikv_store *store = CONTAINER_OF(task, struct tikv_store, closed_task);
    void (*closed)(void *, int) = store->closed;
    void *arg = store->closed_arg;
    store_free(store);
    closed(arg, 0);
}

static void store_on_shard_closed(struct tikv_shard *shard)
{
    struct tikv_store *store = shard->owner_arg;
    if (atomic_fetch_sub(&store->shards_open, 1) > 1)
        return;
    store->closed_task.run = store_on_closed_task;
    loop_post(store->closed_loop, &store->closed_task);
}

static void tikv_store_close(kvs_store *base, struct loop *loop,
                             void (*closed)(void *arg, int error), void *arg)
{
    struct tikv_store *store = tikv_store_of(base);
    store->closed = closed;
    store->closed_arg = arg;
    store->closed_loop = loop;
    unsigned count = store->shards_count;
    for (unsigned i = 0; i < count; i++) /* the last one may free the store */
        tikv_shard_close(&store->shards[i]);
}

static const struct store_methods tikv_store_methods = {
    .submit = tikv_store_submit,
    .cancel = tikv_store_cancel,
    .close = tikv_store_close,
};

static const struct tikv_shard_owner tikv_store_owner = {
    .on_first = store_on_first,
    .on_closed = store_on_shard_closed,
};

static int store_prepare(struct tikv_store *store, const struct tikv_store_options *options,
                         char why[320])
{
    struct pd_members *members = &store->shards[0].cluster.pd.members;
    int error = pd_members_init(members, options->pd, why, 320);
    if (error != 0)
        return error;
    const char *keyspace = options->keyspace != NULL ? options->keyspace : "";
    if (strlen(keyspace) >= sizeof store->shards[0].cluster.keyspace) {
        snprintf(why, 320, "the name of the keyspace is too long");
        return KVS_ERR_INVALID_ARGUMENT;
    }
    for (unsigned i = 0; i < store->shards_count; i++) {
        struct tikv_cluster *cluster = &store->shards[i].cluster;
        if (i > 0)
            cluster->pd.members = *members;
        memcpy(cluster->keyspace, keyspace, strlen(keyspace) + 1); /* fits: checked above */
        cluster->key_mode = KEY_MODE_RAW;
    }
    if (options->tls_ca == NULL && options->tls_certificate == NULL && options->tls_key == NULL)
        return 0;
    return tls_context_new_client(TLS_H2, options->tls_ca, options->tls_certificate,
                                  options->tls_key, &store->tls_context, why);
}

int tikv_store_new(kvs_runtime *runtime, kvs_thread_pool *pool,
                   const struct tikv_store_options *options, kvs_store **ret_store,
                   char ret_why[320])
{
    unsigned count = options->shards;
    assert(count >= 1 && count <= TIKV_STORE_SHARDS_MAX);
    struct tikv_store *store = mem_zalloc(sizeof *store + count * sizeof(struct tikv_shard));
    if (store == NULL) {
        snprintf(ret_why, 320, "no memory for a store");
        return KVS_ERR_NO_MEMORY;
    }
    store->shards_count = count;
    int error = store_prepare(store, options, ret_why);
    if (error != 0) {
        store_free(store);
        return error;
    }
    store->base.methods = &tikv_store_methods;
    store->base.runtime = runtime;
    store->opened = options->opened;
    store->opened_arg = options->arg;
    atomic_init(&store->shards_open, count);
    for (unsigned i = 0; i < count; i++) {
        struct tikv_shard *shard = &store->shards[i];
        shard->owner = &tikv_store_owner;
        shard->owner_arg = store;
        shard->all = store->shards;
        shard->all_count = count;
        shard->loop = options->loops != NULL ? options->loops[i] : runtime_pick_loop(runtime);
        shard->pool = pool;
        shard->tls_context = store->tls_context;
        shard->plain_writes = options->plain_writes;
        shard->connect_timeout_ms = options->connect_timeout_ms;
        shard->timeout_ms = options->timeout_ms;
    }
    store->base.loop = store->shards[0].loop;
    *ret_store = &store->base;
    for (unsigned i = 0; i < count; i++)
        tikv_shard_start(&store->shards[i]);
    return 0;
}

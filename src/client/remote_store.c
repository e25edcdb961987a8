/*
 * client/remote_store.c: chooses the connection of each op; opens and closes all of them.
 *
 * Open: all connections start; the first that stands, or the last that fails, answers `opened`.
 * Close: each connection ends what it has under way; the last one frees the store.
 */
#include "client/remote_store.h"

#include "base/mem.h"
#include "client/remote_connection.h"
#include "runtime/runtime.h"

#include <assert.h>
#include <string.h>

/* The server's own limit is told in its hello; more than this no server takes. */
#define VALUE_SIZE_MAX (64u * 1024 * 1024)

struct remote_store {
    kvs_store base;
    char *host;
    struct tls_context *tls_context; /* NULL: clear text */
    void (*opened)(void *arg, int error, const char *why);
    void *opened_arg;
    atomic_bool opened_told;
    atomic_uint connections_failed; /* at their first attempt */
    atomic_uint connections_open;   /* not yet closed */
    atomic_uint read_turn;
    void (*closed)(void *arg, int error);
    void *closed_arg;
    struct loop *closed_loop;
    struct task closed_task;
    unsigned connections_count;
    struct remote_connection connections[];
};

static struct remote_store *remote_store_of(kvs_store *base)
{
    return CONTAINER_OF(base, struct remote_store, base);
}

static struct remote_store *store_of_connection(struct remote_connection *connection)
{
    return connection->owner_arg;
}

/* --- submitting --------------------------------------------------------------------------------
 */

static bool op_is_read(const kvs_op *op)
{
    return op->kind == KVS_OP_GET || op->kind == KVS_OP_EXISTS || op->kind == KVS_OP_BATCH_GET ||
           op->kind == KVS_OP_SCAN || op->kind == KVS_OP_COUNT || op->kind == KVS_OP_STATS ||
           op->kind == KVS_OP_TTL || op->kind == KVS_OP_CHECKSUM;
}

/* The same thread, the same connection: the order of its writes is kept. */
static struct remote_connection *store_write_connection(struct remote_store *store)
{
    uint64_t hash = ((uint64_t)pthread_self() >> 6) * 0x9e3779b97f4a7c15u;
    return &store->connections[(hash >> 32) % store->connections_count];
}

static struct remote_connection *store_read_connection(struct remote_store *store)
{
    /* relaxed: only the spread matters. */
    unsigned turn = atomic_fetch_add_explicit(&store->read_turn, 1, memory_order_relaxed);
    return &store->connections[turn % store->connections_count];
}

static void remote_store_submit(kvs_store *base, kvs_op **ops, size_t count, struct loop *loop)
{
    struct remote_store *store = remote_store_of(base);
    struct remote_connection *for_writes = store_write_connection(store);
    struct remote_connection *for_reads =
        store->connections_count > 1 ? store_read_connection(store) : for_writes;
    struct task_list reads = {0};
    struct task_list writes = {0};
    for (size_t i = 0; i < count; i++) {
        kvs_op *op = ops[i];
        bool is_read = op_is_read(op);
        store_op_begin(op);
        int error = store_op_check(op, VALUE_SIZE_MAX);
        struct remote_connection *connection = is_read ? for_reads : for_writes;
        /* For libkvs any loop of the runtime is right: on_done then crosses no threads. */
        struct loop *done_loop = loop == base->loop ? connection->loop : loop;
        remote_connection_prepare(connection, op, done_loop, error);
        task_list_push(is_read && for_reads != for_writes ? &reads : &writes,
                       &client_op_of(op)->task);
    }
    if (writes.first != NULL)
        remote_connection_submit(for_writes, &writes);
    if (reads.first != NULL)
        remote_connection_submit(for_reads, &reads);
}

static void remote_store_cancel(kvs_store *base, kvs_op *op)
{
    (void)base;
    remote_connection_cancel(op);
}

/* --- opening and closing -----------------------------------------------------------------------
 */

static void store_on_first(struct remote_connection *connection, int error, const char *why)
{
    struct remote_store *store = store_of_connection(connection);
    if (error != 0 &&
        atomic_fetch_add(&store->connections_failed, 1) + 1 < store->connections_count)
        return; /* another one may still stand */
    if (!atomic_exchange(&store->opened_told, true))
        store->opened(store->opened_arg, error, why);
}

static void remote_store_free(struct remote_store *store)
{
    if (store == NULL)
        return;
    tls_context_free(store->tls_context);
    mem_free(store->host);
    mem_free(store);
}

static void store_on_closed_task(struct task *task)
{
    struct remote_store *store = CONTAINER_OF(task, struct remote_store, closed_task);
    void (*closed)(void *, int) = store->closed;
    void *arg = store->closed_arg;
    remote_store_free(store);
    closed(arg, 0);
}

static void store_on_connection_closed(struct remote_connection *connection)
{
    struct remote_store *store = store_of_connection(connection);
    if (atomic_fetch_sub(&store->connections_open, 1) > 1)
        return;
    store->closed_task.run = store_on_closed_task;
    loop_post(store->closed_loop, &store->closed_task);
}

static void remote_store_close(kvs_store *base, struct loop *loop,
                               void (*closed)(void *arg, int error), void *arg)
{
    struct remote_store *store = remote_store_of(base);
    store->closed = closed;
    store->closed_arg = arg;
    store->closed_loop = loop;
    unsigned count = store->connections_count;
    for (unsigned i = 0; i < count; i++) /* the last one may free the store */
        remote_connection_close(&store->connections[i]);
}

static const struct store_methods remote_store_methods = {
    .submit = remote_store_submit,
    .cancel = remote_store_cancel,
    .close = remote_store_close,
};

static const struct remote_connection_owner remote_store_owner = {
    .on_first = store_on_first,
    .on_closed = store_on_connection_closed,
};

static int make_tls(struct remote_store *store, const struct remote_store_options *options,
                    char why[256])
{
    if (options->tls_ca == NULL && options->tls_certificate == NULL && options->tls_key == NULL)
        return 0;
    return tls_context_new_client(TLS_KVS, options->tls_ca, options->tls_certificate,
                                  options->tls_key, &store->tls_context, why);
}

int remote_store_new(kvs_runtime *runtime, const struct remote_store_options *options,
                     kvs_store **ret_store, char why[256])
{
    unsigned count = options->connections;
    assert(count >= 1 && count <= REMOTE_STORE_CONNECTIONS_MAX);
    struct remote_store *store =
        mem_zalloc(sizeof *store + count * sizeof(struct remote_connection));
    char *host = mem_strdup(options->host);
    if (store == NULL || host == NULL) {
        mem_free(store);
        mem_free(host);
        return KVS_ERR_NO_MEMORY;
    }
    store->host = host;
    int error = make_tls(store, options, why);
    if (error != 0) {
        remote_store_free(store);
        return error;
    }
    store->base.methods = &remote_store_methods;
    store->base.runtime = runtime;
    store->base.loop = runtime_pick_loop(runtime);
    store->opened = options->opened;
    store->opened_arg = options->arg;
    store->connections_count = count;
    atomic_init(&store->connections_open, count);
    *ret_store = &store->base;
    for (unsigned i = 0; i < count; i++) {
        struct remote_connection *connection = &store->connections[i];
        connection->owner = &remote_store_owner;
        connection->owner_arg = store;
        connection->loop = i == 0 ? store->base.loop : runtime_pick_loop(runtime);
        connection->pool = kvs_runtime_pool(runtime);
        connection->host = host;
        connection->port = options->port;
        connection->connect_timeout_ms = options->connect_timeout_ms;
        connection->timeout_ms = options->timeout_ms;
        connection->tls_context = store->tls_context;
    }
    for (unsigned i = 0; i < count; i++)
        remote_connection_start(&store->connections[i]);
    return 0;
}

/*
 * client/txn/open.c: kvs_txn_client_open and kvs_txn_client_close.
 *
 * log: and memory:, and on a store that is open:
 *   1. a pool thread opens the engine, and makes node and clock, where they are not there yet;
 *   2. each loop of the runtime gets a shard.
 * tikv://: each connection is a shard; all have to find PD.
 * Close: the shards close; then whatever stands behind them.
 *
 * A future that was freed or cancelled before it was ready leaves no client behind, nor does one
 * whose result was given up with what is composed over it.
 */
#include "client/open.h"
#include "client/tikv/txn_transport.h"
#include "client/txn/client.h"

#include "base/mem.h"
#include "runtime/future.h"
#include "runtime/runtime.h"
#include "store/store.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* What a client has behind its shards. */
struct txn_backing {
    struct local_engine *local;
    struct tls_context *tls_context;
    _Atomic uint64_t safe_point; /* of a cluster's GC */
};

struct txn_open {
    struct task task;
    kvs_runtime *runtime;
    struct url url;
    struct kvs_store_options options;
    uint32_t timeout_given_ms; /* the options have the default in its place */
    kvs_txn_client *client;
    struct txn_backing backing;
    int error;
    char message[OPEN_MESSAGE_SIZE];
    struct local_engine_close engine_close;
};

static void txn_open_abandon(kvs_future *future)
{
    struct txn_open *open = future_payload(future);
    kvs_future_free(kvs_txn_client_close(open->client));
}

static const struct future_methods txn_open_methods = {
    .payload_size = sizeof(struct txn_open),
    .abandon = txn_open_abandon,
};

/* --- the end of opening -------------------------------------------------------------------------
 */

static void open_fail(struct txn_open *open)
{
    kvs_future *future = future_of_payload(open);
    if (open->message[0] != '\0')
        future_set_message(future, open->message);
    future_complete(future, open->error);
}

static void open_on_engine_closed(void *arg, int error)
{
    (void)error;
    open_fail(arg);
}

/* Frees what was made so far. */
static void open_undo(struct txn_open *open)
{
    kvs_future *future = future_of_payload(open);
    if (open->client != NULL)
        txn_client_unref(open->client);
    tls_context_free(open->backing.tls_context);
    if (open->backing.local == NULL)
        open_fail(open);
    else
        local_engine_release(open->backing.local, kvs_runtime_pool(open->runtime),
                             future_loop(future), &open->engine_close, open_on_engine_closed, open);
}

static void open_on_stopped(void *arg)
{
    open_undo(arg);
}

static void open_on_opened(void *arg, int error, const char *why)
{
    struct txn_open *open = arg;
    kvs_future *future = future_of_payload(open);
    if (error == 0 && !future_is_cancelled(future)) {
        future_set_pointer(future, open->client);
        future_complete(future, 0);
        return;
    }
    open->error = error != 0 ? error : KVS_ERR_CANCELLED;
    snprintf(open->message, sizeof open->message, "%s", why);
    txn_client_stop(open->client, open_on_stopped, open);
}

/* --- shards -------------------------------------------------------------------------------------
 */

static void free_transports(kvs_txn_client *client)
{
    for (unsigned i = 0; i < client->shards_count; i++) {
        struct txn_transport *transport = client->shards[i].transport;
        if (transport != NULL)
            transport->methods->free(transport);
    }
}

static int make_transport(struct txn_open *open, struct txn_shard *shard)
{
    if (open->backing.local != NULL)
        return local_transport_new(open->backing.local, shard->loop, &shard->transport);
    const struct tikv_transport_options options = {
        .pd = open->url.path,
        .keyspace = open->url.keyspace[0] != '\0' ? open->url.keyspace : open->options.keyspace,
        .tls_context = open->backing.tls_context,
        .pool = kvs_runtime_pool(open->runtime),
        .connect_timeout_ms = open->options.connect_timeout_ms,
        .timeout_ms = open->options.timeout_ms,
        .safe_point = &((struct txn_backing *)open->client->backing)->safe_point,
    };
    return tikv_transport_new(&options, shard->loop, &shard->transport, open->message);
}

/* Different loops, as many as there are, or as many as wanted. */
static unsigned pick_loops(struct txn_open *open, struct loop *loops[TXN_SHARDS_MAX])
{
    bool is_local = open->backing.local != NULL;
    unsigned wanted = is_local ? TXN_SHARDS_MAX : open->options.connections;
    unsigned count = 0;
    while (count < wanted && count < TXN_SHARDS_MAX) {
        struct loop *loop = runtime_pick_loop(open->runtime);
        if (is_local && count > 0 && loop == loops[0])
            break;
        loops[count++] = loop;
    }
    return count;
}

static int make_client(struct txn_open *open)
{
    struct loop *loops[TXN_SHARDS_MAX];
    unsigned count = pick_loops(open, loops);
    open->client = txn_client_new(open->runtime, count);
    if (open->client == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = 0;
    open->client->backing = mem_copy(&open->backing, sizeof open->backing);
    if (open->client->backing == NULL)
        error = KVS_ERR_NO_MEMORY;
    for (unsigned i = 0; error == 0 && i < count; i++) {
        open->client->shards[i].loop = loops[i];
        open->client->shards[i].is_local = open->backing.local != NULL;
        open->client->shards[i].timeout_ms = open->options.timeout_ms;
        open->client->shards[i].timeout_given_ms = open->timeout_given_ms;
        error = make_transport(open, &open->client->shards[i]);
    }
    if (error != 0)
        free_transports(open->client);
    return error;
}

/* On the future's loop, or in the call that opens. */
static void open_client(struct txn_open *open)
{
    if (open->error == 0)
        open->error = make_client(open);
    if (open->error != 0)
        open_undo(open);
    else
        txn_client_start(open->client, open_on_opened, open);
}

/* --- in this process ----------------------------------------------------------------------------
 */

static void open_on_engine(struct task *task)
{
    open_client(CONTAINER_OF(task, struct txn_open, task));
}

static void open_run_blocking(struct task *task)
{
    struct txn_open *open = CONTAINER_OF(task, struct txn_open, task);
    struct loop *loop = future_loop(future_of_payload(open));
    if (open->backing.local == NULL)
        open->error = open_local_blocking(open->runtime, &open->url, &open->options,
                                          &open->backing.local, open->message);
    if (open->error == 0)
        open->error = local_engine_start_txn_blocking(open->backing.local, loop);
    open->task.run = open_on_engine;
    loop_post(loop, &open->task);
}

static void open_on_pool(struct txn_open *open)
{
    open->task.run = open_run_blocking;
    pool_submit_task(kvs_runtime_pool(open->runtime), &open->task);
}

/* --- the calls ----------------------------------------------------------------------------------
 */

static int open_tls(struct txn_open *open)
{
    const struct kvs_store_options *options = &open->options;
    if (options->tls_ca == NULL && options->tls_certificate == NULL && options->tls_key == NULL)
        return 0;
    return tls_context_new_client(TLS_H2, options->tls_ca, options->tls_certificate,
                                  options->tls_key, &open->backing.tls_context, open->message);
}

kvs_future *kvs_txn_client_open(kvs_runtime *runtime, const char *url,
                                const struct kvs_store_options *options)
{
    kvs_future *future = future_new(runtime, NULL, &txn_open_methods);
    if (future == NULL)
        return NULL;
    struct txn_open *open = future_payload(future);
    open->runtime = runtime;
    open->error = open_check(url, options, &open->url, &open->options, open->message);
    open->timeout_given_ms = open->error == 0 && options != NULL ? options->timeout_ms : 0;
    if (open->error == 0 && open->url.scheme == URL_TIKV) {
        open->error = open_tls(open);
        open_client(open);
    } else if (open->error == 0 && url_is_local(&open->url)) {
        open_on_pool(open);
    } else {
        if (open->error == 0) {
            open->error = KVS_ERR_UNSUPPORTED;
            snprintf(open->message, sizeof open->message,
                     "transactions are for log:, rocksdb:, memory: and tikv:// URLs");
        }
        open_fail(open);
    }
    return future;
}

kvs_future *kvs_txn_client_on_store(kvs_store *store)
{
    kvs_future *future = future_new(store->runtime, NULL, &txn_open_methods);
    if (future == NULL)
        return NULL;
    struct txn_open *open = future_payload(future);
    open->runtime = store->runtime;
    open->error = open_check("memory:", NULL, &open->url, &open->options, open->message);
    if (store->local == NULL) {
        open->error = KVS_ERR_UNSUPPORTED;
        snprintf(open->message, sizeof open->message,
                 "only a log: or memory: store is shared with transactions");
        open_fail(open);
        return future;
    }
    local_engine_ref(store->local);
    open->backing.local = store->local;
    open->timeout_given_ms = store->timeout_ms;
    open_on_pool(open);
    return future;
}

/* --- closing ------------------------------------------------------------------------------------
 */

struct txn_close {
    kvs_txn_client *client;
    struct task task;
    struct local_engine_close engine_close;
};

static const struct future_methods txn_close_methods = {
    .payload_size = sizeof(struct txn_close),
};

static void close_on_engine(void *arg, int error)
{
    future_complete(future_of_payload(arg), error);
}

static void close_on_loop(struct task *task)
{
    struct txn_close *close = CONTAINER_OF(task, struct txn_close, task);
    kvs_future *future = future_of_payload(close);
    kvs_txn_client *client = close->client;
    struct txn_backing backing = *(struct txn_backing *)client->backing;
    kvs_thread_pool *pool = kvs_runtime_pool(client->runtime);
    mem_free(client->backing);
    client->backing = NULL;
    txn_client_unref(client);
    tls_context_free(backing.tls_context);
    if (backing.local == NULL)
        future_complete(future, 0);
    else
        local_engine_release(backing.local, pool, future_loop(future), &close->engine_close,
                             close_on_engine, close);
}

static void close_on_stopped(void *arg)
{
    struct txn_close *close = arg;
    close->task.run = close_on_loop;
    loop_post(future_loop(future_of_payload(close)), &close->task);
}

kvs_future *kvs_txn_client_close(kvs_txn_client *client)
{
    kvs_future *future = future_new(client->runtime, client->shards[0].loop, &txn_close_methods);
    if (future == NULL)
        return NULL;
    struct txn_close *close = future_payload(future);
    close->client = client;
    txn_client_stop(client, close_on_stopped, close);
    return future;
}

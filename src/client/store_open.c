/*
 * client/store_open.c: kvs_store_open and kvs_store_close: from a URL to a kvs_store and back.
 *
 * log:, rocksdb: and memory:
 *   1. a pool thread opens the engine, which reads files, and makes the store over it;
 *   2. close lets what is in flight end (on the loop), then a pool thread closes the engine, unless
 *      transactions still use it (client/txn/local.h).
 * kvs:// and tikv://
 *   1. the client starts its connections; the future is ready when one stands, or all have failed;
 *   2. a client that could not connect is closed before the future says so.
 *
 * Futures become ready on a loop also when a pool thread did the work: a program that polls its
 * runtime is woken by that. A future that was freed or cancelled before it was ready leaves no
 * store behind, nor does one whose result was given up with what is composed over it.
 */
#include "client/open.h"
#include "client/remote_store.h"
#include "client/tikv/tikv_store.h"
#include "runtime/future.h"
#include "runtime/runtime.h"
#include "runtime/thread_pool.h"

#include <stdio.h>
#include <string.h>

/* --- opening -----------------------------------------------------------------------------------
 */

struct store_open {
    struct task task;
    struct url url;
    struct kvs_store_options options;
    kvs_runtime *runtime;
    kvs_store *store;
    uint32_t timeout_ms; /* as it was given: in process there is no default */
    int error;
    char message[OPEN_MESSAGE_SIZE];
};

static void store_open_abandon(kvs_future *future)
{
    struct store_open *open = future_payload(future);
    kvs_future_free(kvs_store_close(open->store));
}

static const struct future_methods store_open_methods = {
    .payload_size = sizeof(struct store_open),
    .abandon = store_open_abandon,
};

static void store_open_fail(struct store_open *open, int error)
{
    kvs_future *future = future_of_payload(open);
    if (open->message[0] != '\0')
        future_set_message(future, open->message);
    future_complete(future, error);
}

static void store_open_succeed(struct store_open *open)
{
    kvs_future *future = future_of_payload(open);
    if (future_is_cancelled(future)) { /* nobody would close it */
        kvs_future_free(kvs_store_close(open->store));
        future_complete(future, KVS_ERR_CANCELLED);
        return;
    }
    future_set_pointer(future, open->store);
    future_complete(future, 0);
}

static void store_open_on_engine(struct task *task)
{
    struct store_open *open = CONTAINER_OF(task, struct store_open, task);
    if (open->error == 0)
        store_open_succeed(open);
    else
        store_open_fail(open, open->error);
}

static void store_open_run_blocking(struct task *task)
{
    struct store_open *open = CONTAINER_OF(task, struct store_open, task);
    struct local_engine *local;
    int error =
        open_local_blocking(open->runtime, &open->url, &open->options, &local, open->message);
    if (error == 0) {
        error = local_store_new(local->engine, open->options.value_size_max, &open->store);
        if (error != 0)
            local_engine_close_blocking(local);
    }
    struct loop *loop = future_loop(future_of_payload(open));
    if (error == 0) {
        open->store->runtime = open->runtime;
        open->store->loop = loop;
        open->store->local = local;
        open->store->timeout_ms = open->timeout_ms;
    }
    open->error = error;
    open->task.run = store_open_on_engine;
    loop_post(loop, &open->task);
}

static void store_open_on_client_closed(void *arg, int error)
{
    (void)error;
    struct store_open *open = arg;
    store_open_fail(open, open->error);
}

static void store_open_on_client(void *arg, int error, const char *why)
{
    struct store_open *open = arg;
    if (error == 0) {
        store_open_succeed(open);
        return;
    }
    open->error = error;
    snprintf(open->message, sizeof open->message, "%s", why);
    store_close(open->store, open->store->loop, store_open_on_client_closed, open);
}

static int store_open_client(struct store_open *open)
{
    const struct kvs_store_options *options = &open->options;
    const struct remote_store_options client_options = {
        .host = open->url.host,
        .port = open->url.port,
        .connections = options->connections,
        .connect_timeout_ms = options->connect_timeout_ms,
        .timeout_ms = options->timeout_ms,
        .tls_ca = options->tls_ca,
        .tls_certificate = options->tls_certificate,
        .tls_key = options->tls_key,
        .opened = store_open_on_client,
        .arg = open,
    };
    return remote_store_new(open->runtime, &client_options, &open->store, open->message);
}

static int store_open_tikv(struct store_open *open)
{
    const struct kvs_store_options *options = &open->options;
    const struct tikv_store_options client_options = {
        .pd = open->url.path,
        .keyspace = open->url.keyspace[0] != '\0' ? open->url.keyspace : options->keyspace,
        .tls_ca = options->tls_ca,
        .tls_certificate = options->tls_certificate,
        .tls_key = options->tls_key,
        .plain_writes = options->plain_writes,
        .shards = options->connections,
        .connect_timeout_ms = options->connect_timeout_ms,
        .timeout_ms = options->timeout_ms,
        .opened = store_open_on_client,
        .arg = open,
    };
    return tikv_store_new(open->runtime, kvs_runtime_pool(open->runtime), &client_options,
                          &open->store, open->message);
}

kvs_future *kvs_store_open(kvs_runtime *runtime, const char *url,
                           const struct kvs_store_options *options)
{
    kvs_future *future = future_new(runtime, NULL, &store_open_methods);
    if (future == NULL)
        return NULL;
    struct store_open *open = future_payload(future);
    open->runtime = runtime;
    int error = open_check(url, options, &open->url, &open->options, open->message);
    open->timeout_ms = error == 0 && options != NULL ? options->timeout_ms : 0;
    if (error == 0 && open->url.scheme == URL_KVS)
        error = store_open_client(open);
    else if (error == 0 && open->url.scheme == URL_TIKV)
        error = store_open_tikv(open);
    if (error != 0) {
        store_open_fail(open, error);
    } else if (url_is_local(&open->url)) {
        open->task.run = store_open_run_blocking;
        pool_submit_task(kvs_runtime_pool(runtime), &open->task);
    }
    return future;
}

/* --- closing -----------------------------------------------------------------------------------
 */

struct store_close {
    kvs_thread_pool *pool;
    struct local_engine *local; /* NULL: of a client */
    struct local_engine_close engine_close;
};

static const struct future_methods store_close_methods = {
    .payload_size = sizeof(struct store_close),
};

static void store_close_on_engine(void *arg, int error)
{
    future_complete(future_of_payload(arg), error);
}

static void store_close_on_closed(void *arg, int error)
{
    struct store_close *close = arg;
    kvs_future *future = future_of_payload(close);
    if (close->local == NULL)
        future_complete(future, error);
    else
        local_engine_release(close->local, close->pool, future_loop(future), &close->engine_close,
                             store_close_on_engine, close);
}

kvs_future *kvs_store_close(kvs_store *store)
{
    kvs_future *future = future_new(store->runtime, store->loop, &store_close_methods);
    if (future == NULL)
        return NULL;
    struct store_close *close = future_payload(future);
    close->pool = kvs_runtime_pool(store->runtime);
    close->local = store->local;
    store_close(store, store->loop, store_close_on_closed, close);
    return future;
}

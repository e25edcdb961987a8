/*
 * client/store_open.c: kvs_store_open and kvs_store_close: from a URL to a kvs_store and back.
 *
 * log: and memory:
 *   1. a pool thread opens the engine, which reads files, and makes the store over it;
 *   2. close lets what is in flight end (on the loop), then a pool thread closes the engine.
 * kvs:// and tikv://
 *   1. the client starts its connections; the future is ready when one stands, or all have failed;
 *   2. a client that could not connect is closed before the future says so.
 *
 * Futures become ready on a loop also when a pool thread did the work: a program that polls its
 * runtime is woken by that. A future that was freed or cancelled before it was ready leaves no
 * store behind.
 */
#include "base/mem.h"
#include "client/remote_store.h"
#include "client/tikv/tikv_store.h"
#include "client/url.h"
#include "engine/engine.h"
#include "runtime/future.h"
#include "runtime/runtime.h"
#include "runtime/thread_pool.h"

#include <stdio.h>
#include <string.h>

#define VALUE_SIZE_MAX (64u * 1024 * 1024)
#define CONNECT_TIMEOUT_DEFAULT_MS 5000u
#define TIMEOUT_DEFAULT_MS 30000u

/* --- opening -----------------------------------------------------------------------------------
 */

struct store_open {
    struct task task;
    struct url url;
    struct kvs_store_options options;
    kvs_runtime *runtime;
    kvs_store *store;
    int error;
    char message[320];
};

static const struct future_methods store_open_methods = {
    .payload_size = sizeof(struct store_open),
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

static int open_engine_blocking(struct store_open *open, struct engine **ret_engine)
{
    const struct kvs_store_options *options = &open->options;
    struct engine_options engine_options = {
        .pool = kvs_runtime_pool(open->runtime),
        .directory = open->url.path,
        .sync = options->sync,
        .sync_interval_ms = options->sync_interval_ms,
        .segment_size_bytes = options->segment_size_bytes,
        .cache_size_bytes = options->cache_size_bytes,
        .must_exist = options->must_exist,
    };
    struct engine_message message = {0};
    int error = open->url.scheme == URL_LOG
                    ? log_engine_open_blocking(&engine_options, ret_engine, &message)
                    : memory_engine_open_blocking(&engine_options, ret_engine, &message);
    snprintf(open->message, sizeof open->message, "%s", message.text);
    return error;
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
    struct engine *engine = NULL;
    int error = open_engine_blocking(open, &engine);
    if (error == 0) {
        error = local_store_new(engine, open->options.value_size_max, &open->store);
        if (error != 0)
            engine_close_blocking(engine);
    }
    struct loop *loop = future_loop(future_of_payload(open));
    if (error == 0) {
        open->store->runtime = open->runtime;
        open->store->loop = loop;
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
        .connections = options->connections != 0 ? options->connections : 1,
        .connect_timeout_ms = options->connect_timeout_ms != 0 ? options->connect_timeout_ms
                                                               : CONNECT_TIMEOUT_DEFAULT_MS,
        .timeout_ms = options->timeout_ms != 0 ? options->timeout_ms : TIMEOUT_DEFAULT_MS,
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
        .shards = options->connections != 0 ? options->connections : 1,
        .connect_timeout_ms = options->connect_timeout_ms != 0 ? options->connect_timeout_ms
                                                               : CONNECT_TIMEOUT_DEFAULT_MS,
        .timeout_ms = options->timeout_ms != 0 ? options->timeout_ms : TIMEOUT_DEFAULT_MS,
        .opened = store_open_on_client,
        .arg = open,
    };
    return tikv_store_new(open->runtime, kvs_runtime_pool(open->runtime), &client_options,
                          &open->store, open->message);
}

static int store_open_check(struct store_open *open, const char *url,
                            const struct kvs_store_options *options)
{
    if (options != NULL) {
        if (options->size < sizeof options->size) {
            snprintf(open->message, sizeof open->message, "options: size is not set");
            return KVS_ERR_INVALID_ARGUMENT;
        }
        /* A program built with an older or newer header has a shorter or longer struct. */
        size_t size = options->size < sizeof *options ? options->size : sizeof *options;
        memcpy(&open->options, options, size);
    }
    if (open->options.value_size_max > VALUE_SIZE_MAX ||
        open->options.connections > REMOTE_STORE_CONNECTIONS_MAX ||
        (unsigned)open->options.sync > KVS_SYNC_NEVER) {
        snprintf(open->message, sizeof open->message,
                 "options: value_size_max is at most %u, connections at most %u, sync one of three",
                 VALUE_SIZE_MAX, REMOTE_STORE_CONNECTIONS_MAX);
        return KVS_ERR_INVALID_ARGUMENT;
    }
    return url_parse(url, &open->url, open->message, sizeof open->message);
}

kvs_future *kvs_store_open(kvs_runtime *runtime, const char *url,
                           const struct kvs_store_options *options)
{
    kvs_future *future = future_new(runtime, NULL, &store_open_methods);
    if (future == NULL)
        return NULL;
    struct store_open *open = future_payload(future);
    open->runtime = runtime;
    int error = store_open_check(open, url, options);
    if (error == 0 && open->url.scheme == URL_KVS)
        error = store_open_client(open);
    else if (error == 0 && open->url.scheme == URL_TIKV)
        error = store_open_tikv(open);
    if (error != 0) {
        store_open_fail(open, error);
    } else if (open->url.scheme == URL_LOG || open->url.scheme == URL_MEMORY) {
        open->task.run = store_open_run_blocking;
        pool_submit_task(kvs_runtime_pool(runtime), &open->task);
    }
    return future;
}

/* --- closing -----------------------------------------------------------------------------------
 */

struct store_close {
    struct task task;
    kvs_thread_pool *pool;
    struct engine *engine; /* NULL: of a client */
    int error;
};

static const struct future_methods store_close_methods = {
    .payload_size = sizeof(struct store_close),
};

static void store_close_on_engine(struct task *task)
{
    struct store_close *close = CONTAINER_OF(task, struct store_close, task);
    future_complete(future_of_payload(close), close->error);
}

static void store_close_run_blocking(struct task *task)
{
    struct store_close *close = CONTAINER_OF(task, struct store_close, task);
    close->error = engine_close_blocking(close->engine);
    close->task.run = store_close_on_engine;
    loop_post(future_loop(future_of_payload(close)), &close->task);
}

static void store_close_on_closed(void *arg, int error)
{
    struct store_close *close = arg;
    if (close->engine == NULL) {
        future_complete(future_of_payload(close), error);
        return;
    }
    close->task.run = store_close_run_blocking;
    pool_submit_task(close->pool, &close->task);
}

kvs_future *kvs_store_close(kvs_store *store)
{
    kvs_future *future = future_new(store->runtime, store->loop, &store_close_methods);
    if (future == NULL)
        return NULL;
    struct store_close *close = future_payload(future);
    close->pool = kvs_runtime_pool(store->runtime);
    close->engine = store->engine;
    store_close(store, store->loop, store_close_on_closed, close);
    return future;
}

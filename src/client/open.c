/* client/open.c: see client/open.h. */
#include "client/open.h"

#include "client/remote_store.h"
#include "runtime/runtime.h"

#include <stdio.h>
#include <string.h>

#define VALUE_SIZE_MAX (64u * 1024 * 1024)
#define CONNECT_TIMEOUT_DEFAULT_MS 5000u
#define TIMEOUT_DEFAULT_MS 30000u

int open_check(const char *text, const struct kvs_store_options *given, struct url *ret_url,
               struct kvs_store_options *ret_options, char message[OPEN_MESSAGE_SIZE])
{
    struct kvs_store_options *options = ret_options;
    if (given != NULL) {
        if (given->size < sizeof given->size) {
            snprintf(message, OPEN_MESSAGE_SIZE, "options: size is not set");
            return KVS_ERR_INVALID_ARGUMENT;
        }
        /* A program built with an older or newer header has a shorter or longer struct. */
        memcpy(options, given, given->size < sizeof *options ? given->size : sizeof *options);
    }
    if (options->value_size_max > VALUE_SIZE_MAX ||
        options->connections > REMOTE_STORE_CONNECTIONS_MAX ||
        (unsigned)options->sync > KVS_SYNC_NEVER ||
        (unsigned)options->file_io > KVS_FILE_IO_URING) {
        snprintf(message, OPEN_MESSAGE_SIZE,
                 "options: value_size_max is at most %u, connections at most %u, sync and file_io "
                 "one of three",
                 VALUE_SIZE_MAX, REMOTE_STORE_CONNECTIONS_MAX);
        return KVS_ERR_INVALID_ARGUMENT;
    }
    if (options->connections == 0)
        options->connections = 1;
    if (options->connect_timeout_ms == 0)
        options->connect_timeout_ms = CONNECT_TIMEOUT_DEFAULT_MS;
    if (options->timeout_ms == 0)
        options->timeout_ms = TIMEOUT_DEFAULT_MS;
    return url_parse(text, ret_url, message, (int)OPEN_MESSAGE_SIZE);
}

/* The URL is of an engine in this process. */
static engine_open_fn *engine_opener(enum url_scheme scheme)
{
    switch (scheme) {
    case URL_ROCKSDB:
        return rocksdb_engine_open_blocking;
    case URL_MEMORY:
        return memory_engine_open_blocking;
    default:
        return log_engine_open_blocking;
    }
}

int open_local_blocking(kvs_runtime *runtime, const struct url *url,
                        const struct kvs_store_options *options, struct local_engine **ret_local,
                        char message[OPEN_MESSAGE_SIZE])
{
    const struct engine_options engine_options = {
        .pool = kvs_runtime_pool(runtime),
        .directory = url->path,
        .sync = options->sync,
        .sync_interval_ms = options->sync_interval_ms,
        .segment_size_bytes = options->segment_size_bytes,
        .cache_size_bytes = options->cache_size_bytes,
        .must_exist = options->must_exist,
        .callers_write = !runtime_is_hosted(runtime), /* a host's loop must never wait */
        .file_io = options->file_io,
        .cache_prefault = options->cache_prefault,
    };
    struct engine_message why = {0};
    struct engine *engine;
    int error = engine_opener(url->scheme)(&engine_options, &engine, &why);
    snprintf(message, OPEN_MESSAGE_SIZE, "%s", why.text);
    if (error != 0)
        return error;
    *ret_local = local_engine_new(engine, options->value_size_max);
    if (*ret_local == NULL) {
        engine_close_blocking(engine);
        return KVS_ERR_NO_MEMORY;
    }
    return 0;
}

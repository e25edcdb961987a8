/*
 * client/events/open.c: kvs_events_open and kvs_events_close: from a URL to a kvs_events and back.
 *
 * log:, rocksdb: and memory: a pool thread opens the engine and the streams over it, and closes the
 * engine. esdb://: the client starts; the future is ready when the greeting is done, or the first
 * attempt has failed; then the client is closed before the future says so. A future that was freed
 * or cancelled before it was ready leaves nothing behind, nor does one whose result was given up
 * with what is composed over it.
 */
#include "client/events/events.h"
#include "client/events/local.h"
#include "client/events/url.h"
#include "client/eventstore/client.h"
#include "runtime/thread_pool.h"

#include <kvs/store.h>
#include <stdio.h>

#define LOGIN_SIZE_MAX 255u

/* --- options -----------------------------------------------------------------------------------
 */

static void default_to(uint32_t *value, uint32_t fallback)
{
    if (*value == 0)
        *value = fallback;
}

static void set_defaults(struct kvs_events_options *options)
{
    default_to(&options->timeout_ms, 30000);
    default_to(&options->connect_timeout_ms, 5000);
    default_to(&options->attempt_timeout_ms, 7000);
    default_to(&options->heartbeat_interval_ms, 5000);
    default_to(&options->heartbeat_timeout_ms, 10000);
    default_to(&options->in_flight_max, 2048);
    default_to(&options->gossip_timeout_ms, 3000);
    default_to(&options->discover_interval_ms, 500);
    default_to(&options->discover_attempts_max, 10);
    if (options->http_port == 0)
        options->http_port = 2113;
    if (options->connection_name == NULL)
        options->connection_name = "kvs";
}

static int check_options(const struct kvs_events_options *options, char *why, size_t size)
{
    bool login_fits =
        options->login == NULL
            ? options->password == NULL
            : options->login[0] != '\0' && strlen(options->login) <= LOGIN_SIZE_MAX &&
                  (options->password == NULL || strlen(options->password) <= LOGIN_SIZE_MAX);
    if (!login_fits) {
        snprintf(why, size, "options: login and password have at most %u bytes", LOGIN_SIZE_MAX);
        return KVS_ERR_INVALID_ARGUMENT;
    }
    if (strlen(options->connection_name) > LOGIN_SIZE_MAX ||
        (unsigned)options->sync > KVS_SYNC_NEVER ||
        (unsigned)options->node_preference > KVS_NODE_RANDOM || options->in_flight_max > 65536) {
        snprintf(why, size,
                 "options: connection_name has at most %u bytes, in_flight_max is at "
                 "most 65536, node_preference one of four",
                 LOGIN_SIZE_MAX);
        return KVS_ERR_INVALID_ARGUMENT;
    }
    return 0;
}

/* --- opening -----------------------------------------------------------------------------------
 */

struct events_open {
    struct task task;
    struct local_options local;
    char path[4096];
    kvs_events *events;
    uint32_t timeout_ms; /* as it was given: in process there is no default */
    bool is_client;      /* of a server: can be given up */
    bool told;           /* how it went; all on the future's loop */
    int error;
    char message[1200];
};

static void events_open_fail(struct events_open *open, int error)
{
    kvs_future *future = future_of_payload(open);
    if (open->message[0] != '\0')
        future_set_message(future, open->message);
    future_complete(future, error);
}

static void events_open_on_closed(void *arg)
{
    struct events_open *open = arg;
    events_open_fail(open, open->error);
}

static void events_open_on_opened(void *arg, int error, const char *why)
{
    struct events_open *open = arg;
    kvs_future *future = future_of_payload(open);
    if (open->told)
        return;
    open->told = true;
    if (error == 0 && future_is_cancelled(future))
        error = KVS_ERR_CANCELLED; /* nobody would close it */
    if (error != 0) {
        open->error = error;
        snprintf(open->message, sizeof open->message, "%s", why);
        open->events->methods->close(open->events, events_open_on_closed, open);
        return;
    }
    future_set_pointer(future, open->events);
    future_complete(future, 0);
}

/* Without it, a cluster that is not there would be looked for to the end. */
static void events_open_cancel(kvs_future *future)
{
    struct events_open *open = future_payload(future);
    if (open->is_client)
        events_open_on_opened(open, KVS_ERR_CANCELLED, "");
}

static void events_open_abandon(kvs_future *future)
{
    struct events_open *open = future_payload(future);
    kvs_future_free(kvs_events_close(open->events));
}

static const struct future_methods events_open_methods = {
    .payload_size = sizeof(struct events_open),
    .cancel = events_open_cancel,
    .abandon = events_open_abandon,
};

static void events_open_on_local(struct task *task)
{
    struct events_open *open = CONTAINER_OF(task, struct events_open, task);
    if (open->error != 0)
        events_open_fail(open, open->error);
    else
        events_open_on_opened(open, 0, "");
}

static void events_open_run_blocking(struct task *task)
{
    struct events_open *open = CONTAINER_OF(task, struct events_open, task);
    struct engine_message message = {0};
    open->error = local_open_blocking(&open->local, &open->events, &message);
    if (open->error != 0)
        snprintf(open->message, sizeof open->message, "%s", message.text);
    open->task.run = events_open_on_local;
    loop_post(open->local.loop, &open->task);
}

static engine_open_fn *engine_opener(enum events_url_scheme scheme)
{
    return scheme == EVENTS_URL_ROCKSDB  ? rocksdb_engine_open_blocking
           : scheme == EVENTS_URL_MEMORY ? memory_engine_open_blocking
                                         : log_engine_open_blocking;
}

static void events_open_start_local(kvs_runtime *runtime, const struct events_url *url,
                                    const struct kvs_events_options *options,
                                    struct events_open *open)
{
    memcpy(open->path, url->path, sizeof open->path);
    open->local = (struct local_options){
        .runtime = runtime,
        .loop = future_loop(future_of_payload(open)),
        .open_engine = engine_opener(url->scheme),
        .directory = open->path,
        .sync = (enum kvs_sync)options->sync,
        .must_exist = options->must_exist,
        .timeout_ms = open->timeout_ms,
    };
    open->task.run = events_open_run_blocking;
    pool_submit_task(kvs_runtime_pool(runtime), &open->task);
}

static int events_open_start(kvs_runtime *runtime, const char *text,
                             const struct kvs_events_options *given, struct events_open *open)
{
    struct events_url url;
    struct kvs_events_options options = {0};
    if (given != NULL && given->size < sizeof given->size) {
        snprintf(open->message, sizeof open->message, "options: size is not set");
        return KVS_ERR_INVALID_ARGUMENT;
    }
    /* A program built with an older or newer header has a shorter or longer struct. */
    if (given != NULL)
        memcpy(&options, given, given->size < sizeof options ? given->size : sizeof options);
    int error = events_url_parse(text, &url, &options, open->message, sizeof open->message);
    if (error != 0)
        return error;
    open->timeout_ms = options.timeout_ms;
    set_defaults(&options);
    error = check_options(&options, open->message, sizeof open->message);
    if (error != 0)
        return error;
    if (url.scheme != EVENTS_URL_ESDB && url.scheme != EVENTS_URL_DISCOVER) {
        events_open_start_local(runtime, &url, &options, open);
        return 0;
    }
    open->is_client = true;
    error = es_client_new(runtime, future_loop(future_of_payload(open)), &url, &options,
                          events_open_on_opened, open, &open->events, open->message);
    open->is_client = error == 0;
    return error;
}

kvs_future *kvs_events_open(kvs_runtime *runtime, const char *url,
                            const struct kvs_events_options *options)
{
    kvs_future *future = future_new(runtime, NULL, &events_open_methods);
    if (future == NULL)
        return NULL;
    struct events_open *open = future_payload(future);
    int error = events_open_start(runtime, url, options, open);
    if (error != 0)
        events_open_fail(open, error);
    return future;
}

/* --- closing -----------------------------------------------------------------------------------
 */

static const struct future_methods events_close_methods = {.payload_size = sizeof(int)};

static void events_close_on_closed(void *arg)
{
    future_complete(arg, 0);
}

kvs_future *kvs_events_close(kvs_events *events)
{
    kvs_future *future = future_new(events->runtime, events->loop, &events_close_methods);
    if (future == NULL)
        return NULL;
    events->methods->close(events, events_close_on_closed, future);
    return future;
}

/*
 * server/server.c: kvs_server: loops, engine, listener and service put together.
 *
 * Open: 1. the address is bound; 2. the pool starts and the engine opens the directory; 3. loops,
 * connections and services are made; 4. the loops' threads start; 5. the first loop accepts, and
 * hands each connection to the next loop in turn.
 *
 * Close: 1. every loop is told to drain: the listener closes, connections say GOAWAY, answer what
 * they had read, and close; 2. after the grace time those that are left are cut; 3. when the
 * last is gone the loops' handles close; 4. the store closes, the loops end, the engine syncs and
 * closes.
 *
 * Failure: of open, everything made so far is taken down in reverse, and a line says what, where
 * and what to do. Thread: open and close on the caller's, which must not be a loop.
 */
#include <kvs/server.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/mem.h"
#include "server/advertise.h"
#include "server/eventstore_server.h"
#include "server/kvs_service.h"
#include "server/place.h"
#include "server/remote_engine.h"
#include "server/tikv_server.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ADDRESS_DEFAULT "127.0.0.1:4000"
#define CONNECTIONS_MAX_DEFAULT 20000u
#define SLOW_TIMEOUT_MS_DEFAULT 60000u
#define EVENTS_SLOW_TIMEOUT_MS_DEFAULT 300000u /* subscribers may think long */
#define IN_FLIGHT_BYTES_DEFAULT (64ull * 1024 * 1024)
#define EVENTS_CACHE_DEFAULT (8u * 1024 * 1024)
#define EVENTS_SEGMENT_DEFAULT (8u * 1024 * 1024)
#define IN_FLIGHT_MAX 4096u
#define LARGE_REPLIES_FACTOR 16u /* of in_flight_bytes_max: 64 values of 16 MiB */
#define LARGE_REPLIES_MIN 16u
#define SCANS_MAX 64u
#define VALUE_SIZE_MAX_MAX (64u * 1024 * 1024)
#define THREADS_MAX COMPLETIONS_LOOPS_MAX
#define TICK_MS_MAX 1000u
#define TICK_MS_MIN 10u
#define REFUSED_LOG_MS 60000u
#define HANDSHAKE_MS_MAX 10000u /* of TLS; a shorter slow_timeout_ms holds for it, too */

struct server_loop {
    struct loop loop;
    struct connections connections;
    kvs_server *server;
    struct task drain_task, cut_task, close_task;
};

struct kvs_server {
    struct kvs_server_options options; /* no zeroes left; strings are not kept */
    struct listener listener;
    struct tls_context *tls; /* of the kvs protocol; NULL: clear text */
    kvs_thread_pool *pool;
    struct engine *engine; /* NULL: the store is elsewhere */
    struct remote_engine remote;
    struct kv_service service;
    struct tikv_server *tikv;         /* NULL: without --tikv */
    struct eventstore_server *events; /* NULL: without --eventstore and --http */
    struct server_loop *loops;
    unsigned loops_made;
    unsigned next_loop;  /* for the next connection; of the first loop */
    uint64_t refused_ms; /* when that was last logged; likewise */
    uint32_t events_slow_timeout_ms;
    struct connections_memory memory; /* of the connections of all services */
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* of the monotonic clock */
    unsigned waited_for;    /* under mutex: what close waits for */
};

/* A connection on its way to its loop. */
struct arrival {
    struct task task;
    struct kv_service_loop *at;
    int descriptor;
    int refusal;
    char peer[ADDRESS_TEXT_SIZE];
};

/* --- waiting for the loops ----------------------------------------------------------------------
 */

static void wait_begin(kvs_server *server, unsigned count)
{
    pthread_mutex_lock(&server->mutex);
    server->waited_for = count;
    pthread_mutex_unlock(&server->mutex);
}

static void wait_one_done(kvs_server *server)
{
    pthread_mutex_lock(&server->mutex);
    assert(server->waited_for > 0);
    server->waited_for--;
    pthread_cond_signal(&server->changed);
    pthread_mutex_unlock(&server->mutex);
}

/* True: all came; false: deadline_ms (of the monotonic clock; UINT64_MAX: none) came first. */
static bool wait_end(kvs_server *server, uint64_t deadline_ms)
{
    const struct timespec until = {
        .tv_sec = (time_t)(deadline_ms / 1000),
        .tv_nsec = (long)(deadline_ms % 1000) * 1000000,
    };
    int status = 0;
    pthread_mutex_lock(&server->mutex);
    while (server->waited_for > 0 && status == 0) {
        if (deadline_ms == UINT64_MAX)
            pthread_cond_wait(&server->changed, &server->mutex);
        else
            status = pthread_cond_timedwait(&server->changed, &server->mutex, &until);
    }
    bool all = server->waited_for == 0;
    pthread_mutex_unlock(&server->mutex);
    return all;
}

/* --- accepting ----------------------------------------------------------------------------------
 */

static void on_arrival(struct task *task)
{
    struct arrival *arrival = CONTAINER_OF(task, struct arrival, task);
    kv_service_connect(arrival->at, arrival->descriptor, arrival->peer, arrival->refusal);
    mem_free(arrival);
}

static int check_room(kvs_server *server)
{
    struct kv_service *service = &server->service;
    /* relaxed: a count for people; only this loop adds to it. */
    uint64_t now = atomic_fetch_add_explicit(&service->connections, 1, memory_order_relaxed) + 1;
    atomic_fetch_add_explicit(&service->connections_opened, 1, memory_order_relaxed);
    if (now <= server->options.connections_max)
        return 0;
    atomic_fetch_add_explicit(&service->connections_refused, 1, memory_order_relaxed);
    uint64_t now_ms = clock_now_ms();
    if (server->refused_ms == 0 || now_ms - server->refused_ms >= REFUSED_LOG_MS) {
        log_warn("connections are refused: %u are open, as many as --connections-max allows",
                 server->options.connections_max);
        server->refused_ms = now_ms;
    }
    return KVS_ERR_BUSY;
}

static void on_accept(void *arg, int descriptor, const char *peer)
{
    kvs_server *server = arg;
    struct arrival *arrival = mem_alloc(sizeof *arrival);
    if (arrival == NULL) {
        close(descriptor);
        return;
    }
    unsigned index = server->next_loop;
    server->next_loop = (index + 1) % server->options.threads;
    arrival->task.run = on_arrival;
    arrival->at = &server->service.loops[index];
    arrival->descriptor = descriptor;
    arrival->refusal = check_room(server);
    snprintf(arrival->peer, sizeof arrival->peer, "%s", peer);
    loop_post(&server->loops[index].loop, &arrival->task);
}

/* --- options ------------------------------------------------------------------------------------
 */

/* Those that this process may run on: a container, or taskset, may have given it a few only. */
static uint32_t cores(void)
{
    unsigned count = machine_processors();
    return count < THREADS_MAX ? count : THREADS_MAX;
}

static void fill_options(struct kvs_server_options *to, const struct kvs_server_options *from)
{
    *to = (struct kvs_server_options){0};
    if (from != NULL)
        memcpy(to, from, from->size < sizeof *to ? from->size : sizeof *to);
    to->directory = to->directory != NULL ? to->directory : ".";
    to->threads = to->threads != 0 ? to->threads : cores();
    to->pool_threads = to->pool_threads != 0 ? to->pool_threads : 4;
    to->value_size_max = to->value_size_max != 0 ? to->value_size_max : KVS_VALUE_SIZE_MAX;
    to->connections_max = to->connections_max != 0 ? to->connections_max : CONNECTIONS_MAX_DEFAULT;
    to->slow_timeout_ms = to->slow_timeout_ms != 0 ? to->slow_timeout_ms : SLOW_TIMEOUT_MS_DEFAULT;
    to->in_flight_bytes_max =
        to->in_flight_bytes_max != 0 ? to->in_flight_bytes_max : IN_FLIGHT_BYTES_DEFAULT;
    if (to->connections_bytes_max == 0)
        to->connections_bytes_max = machine_memory_bytes() / 2;
}

static bool serves_events(const struct kvs_server_options *options)
{
    return options->eventstore != NULL || options->http != NULL;
}

static int check_options(const struct kvs_server_options *options, char message[256])
{
    bool is_remote = remote_engine_is_meant(options);
    bool has_events = serves_events(options);
    bool splits = options->split_keys > 0 || options->split_bytes > 0;
    const struct {
        bool is_so;
        const char *what;
    } mistakes[] = {
        {options->threads > THREADS_MAX, "at most 32 threads for the network (--threads)"},
        {options->pool_threads > 1024, "at most 1024 threads in the pool (--pool-threads)"},
        {options->value_size_max > VALUE_SIZE_MAX_MAX, "values of at most 64 MiB (--value-max)"},
        {options->sync > KVS_SYNC_NEVER, "sync is always, interval or never (--sync)"},
        {(unsigned)options->projections > KVS_PROJECTIONS_ALL,
         "projections are common, none or all (--projections)"},
        {is_remote && options->pd == NULL,
         "engine tikv needs the addresses of PD (--pd 127.0.0.1:2379)"},
        {is_remote && options->tikv != NULL,
         "--tikv serves an engine of this machine, not engine tikv"},
        {is_remote && has_events,
         "--eventstore and --http serve an engine of this machine, not engine tikv"},
        {!is_remote && options->pd != NULL, "--pd is for --engine tikv"},
        {options->pd == NULL && (options->pd_ca != NULL || options->pd_certificate != NULL),
         "--pd-ca and --pd-cert are for the cluster of --pd"},
        {options->tikv == NULL && options->keyspaces != NULL,
         "--keyspaces are those of TiKV's clients (--tikv)"},
        {options->tikv == NULL && splits, "--split-keys and --split-size are for regions (--tikv)"},
        {options->split_raw && !splits,
         "--split-raw says where to cut; --split-keys or --split-size, when"},
        {!has_events && options->insecure,
         "--insecure is for event streams (--eventstore); keys and values ask nobody anyway"},
        {options->http == NULL && options->gossip_master, "--gossip-master is for gossip (--http)"},
        {options->http == NULL && options->tikv == NULL && options->advertise != NULL,
         "--advertise is what gossip (--http) and PD (--tikv) say"},
        {options->advertise != NULL && !advertise_is_host(options->advertise),
         "--advertise is the name or the IP address of a host, without a port"},
        {(options->tls_certificate == NULL) != (options->tls_key == NULL),
         "TLS needs both a certificate (--tls-cert) and its key (--tls-key)"},
        {options->tls_ca != NULL && options->tls_certificate == NULL,
         "--tls-ca asks clients for certificates; give this server's with --tls-cert"},
    };
    const char *wrong = NULL;
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0] && wrong == NULL; i++)
        wrong = mistakes[i].is_so ? mistakes[i].what : NULL;
    if (wrong == NULL)
        return 0;
    snprintf(message, 256, "cannot start: %s", wrong);
    return KVS_ERR_INVALID_ARGUMENT;
}

static bool has_no_cache(const struct kvs_server_options *options)
{
    return remote_engine_is_meant(options) ||
           (options->engine != NULL && strcmp(options->engine, "memory") == 0);
}

/* Not refused: what is never filled needs no memory. */
static void warn_of_sizes(const struct kvs_server_options *options)
{
    const uint64_t memory = machine_memory_bytes();
    const struct {
        const char *option;
        uint64_t bytes;
    } sizes[] = {
        {"--cache", has_no_cache(options) ? 0 : options->cache_size_bytes},
        {"--connections-memory", options->connections_bytes_max},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i].bytes > memory)
            log_warn("%s is %llu MiB, and the machine (or the container) has %llu MiB of memory: "
                     "the system may end the server when that is used up; give it less",
                     sizes[i].option, (unsigned long long)sizes[i].bytes >> 20,
                     (unsigned long long)memory >> 20);
    }
}

/* How large a reply is shows when it is there: so few of those that hold values are under way that
 * all of them as large as can be come to a bounded multiple of what a connection may have. */
static uint32_t large_max(const struct kvs_server_options *options)
{
    uint64_t count = LARGE_REPLIES_FACTOR * options->in_flight_bytes_max / options->value_size_max;
    if (count > IN_FLIGHT_MAX)
        return IN_FLIGHT_MAX;
    return count < LARGE_REPLIES_MIN ? LARGE_REPLIES_MIN : (uint32_t)count;
}

static void fill_service(kvs_server *server)
{
    const struct kvs_server_options *options = &server->options;
    struct kv_service *service = &server->service;
    service->engine = server->engine;
    service->loops_count = options->threads;
    service->started_ms = clock_now_ms();
    service->session = (struct server_session_options){
        .limits =
            {
                .key_size_max = KVS_KEY_SIZE_MAX,
                .value_size_max = options->value_size_max,
                .body_size_max = wire_body_size_max(KVS_KEY_SIZE_MAX, options->value_size_max),
                .batch_count_max = KVS_BATCH_COUNT_MAX,
                .in_flight_max = IN_FLIGHT_MAX,
                .scans_max = SCANS_MAX,
                .page_size = STORE_PAGE_SIZE_MAX,
                .in_flight_bytes_max = options->in_flight_bytes_max,
            },
        .idle_timeout_ms = options->idle_timeout_ms,
        .slow_timeout_ms = options->slow_timeout_ms,
        .unwritten_bytes_max = options->in_flight_bytes_max,
        .large_max = large_max(options),
    };
}

static uint64_t tick_ms(const struct kvs_server_options *options)
{
    uint64_t tick = options->slow_timeout_ms / 4;
    if (options->idle_timeout_ms != 0 && options->idle_timeout_ms / 4 < tick)
        tick = options->idle_timeout_ms / 4;
    return tick > TICK_MS_MAX ? TICK_MS_MAX : tick < TICK_MS_MIN ? TICK_MS_MIN : tick;
}

static uint64_t handshake_ms(const struct kvs_server_options *options)
{
    return options->slow_timeout_ms < HANDSHAKE_MS_MAX ? options->slow_timeout_ms
                                                       : HANDSHAKE_MS_MAX;
}

/* --- opening ------------------------------------------------------------------------------------
 */

static const struct {
    const char *name;
    engine_open_fn *open_blocking;
} engines[] = {
    {"kvs", log_engine_open_blocking},
    {"memory", memory_engine_open_blocking},
    {"rocksdb", rocksdb_engine_open_blocking},
};

/* The engine asked for, else the one that wrote the directory, else the first. */
static int choose_engine(const struct kvs_server_options *options, engine_open_fn **ret_open,
                         char message[256])
{
    char written_by[32] = "";
    int error = engine_directory_probe_blocking(options->directory, written_by);
    if (error == KVS_ERR_UNSUPPORTED) {
        snprintf(message, 256, "%s was written by a newer version of kvs: use that one",
                 options->directory);
        return error;
    }
    if (error != 0) {
        snprintf(message, 256, "cannot use directory %s: %s", options->directory,
                 error == KVS_ERR_NO_DIRECTORY ? "it is none" : kvs_error_text(error));
        return error;
    }
    const char *name = options->engine;
    if (name == NULL)
        name = written_by[0] != '\0' ? written_by : engines[0].name;
    if (written_by[0] != '\0' && strcmp(name, written_by) != 0) {
        snprintf(message, 256,
                 "%s was written by another engine, %s: leave --engine out or choose another --dir",
                 options->directory, written_by);
        return KVS_ERR_WRONG_ENGINE;
    }
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        if (strcmp(engines[i].name, name) == 0) {
            *ret_open = engines[i].open_blocking;
            return 0;
        }
    }
    snprintf(message, 256, "there is no engine \"%s\": choose kvs, rocksdb, memory or tikv%s", name,
             options->engine == NULL ? ", with another --dir than the one it wrote" : "");
    return options->engine == NULL ? KVS_ERR_WRONG_ENGINE : KVS_ERR_INVALID_ARGUMENT;
}

/* Events are read in pages of many, and the system has the files in its own cache: a second one
 * gains a third when reading, for all the memory there is (bench/README.md, event streams). The
 * newest segment is in memory as a whole, so that it is smaller, too. */
static void fill_for_events(struct engine_options *options)
{
    if (options->segment_size_bytes == 0 && options->cache_size_bytes == 0)
        options->segment_size_bytes = EVENTS_SEGMENT_DEFAULT;
    if (options->cache_size_bytes == 0)
        options->cache_size_bytes = EVENTS_CACHE_DEFAULT;
}

static int open_engine(kvs_server *server, char message[256])
{
    const struct kvs_server_options *options = &server->options;
    engine_open_fn *open_blocking = NULL;
    bool is_remote = remote_engine_is_meant(options);
    int error = is_remote ? 0 : choose_engine(options, &open_blocking, message);
    if (error == 0)
        error =
            kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, options->pool_threads, &server->pool);
    if (error == 0 && options->cache_prefault && open_blocking != engines[0].open_blocking) {
        snprintf(message, 256,
                 "only the engine kvs makes the memory of its cache at the start "
                 "(--cache-prefault): leave that out");
        return KVS_ERR_INVALID_ARGUMENT;
    }
    if (error != 0 || is_remote)
        return error;
    struct engine_options engine_options = {
        .pool = server->pool,
        .directory = options->directory,
        .sync = options->sync,
        .sync_interval_ms = options->sync_interval_ms,
        .segment_size_bytes = options->segment_size_bytes,
        .cache_size_bytes = options->cache_size_bytes,
        .file_io = options->file_io,
        .cache_prefault = options->cache_prefault,
    };
    if (serves_events(options) && options->tikv == NULL &&
        open_blocking == engines[0].open_blocking)
        fill_for_events(&engine_options);
    struct engine_message said = {{0}};
    error = open_blocking(&engine_options, &server->engine, &said);
    if (error != 0)
        snprintf(message, 256, "%s", said.text);
    else if (said.text[0] != '\0')
        log_info("%s", said.text);
    return error;
}

static int make_loops(kvs_server *server)
{
    const struct kvs_server_options *options = &server->options;
    struct kv_service *service = &server->service;
    server->loops = mem_zalloc(options->threads * sizeof *server->loops);
    service->loops = mem_aligned_alloc(_Alignof(struct kv_service_loop),
                                       options->threads * sizeof *service->loops);
    if (server->loops == NULL || service->loops == NULL)
        return KVS_ERR_NO_MEMORY;
    for (unsigned i = 0; i < options->threads; i++) {
        struct server_loop *at = &server->loops[i];
        int error = loop_init(&at->loop, i);
        if (error != 0)
            return error;
        at->server = server;
        /* The service's end-of-turn hook comes first: writes are under way while replies leave. */
        kv_service_loop_init(&service->loops[i], service, &at->loop, &at->connections);
        connections_init(&at->connections, &at->loop, tick_ms(options));
        connections_share(&at->connections, &server->memory);
        if (server->tls != NULL)
            connections_use_tls(&at->connections, server->tls, handshake_ms(options));
        if (server->tikv != NULL)
            tikv_server_add_loop(server->tikv, &at->loop);
        if (server->events != NULL)
            eventstore_server_add_loop(server->events, &at->loop);
        server->loops_made++;
    }
    return 0;
}

/* Better to hear of it now than when a backup is due. */
static int check_backups(const char *directory, char message[256])
{
    if (directory == NULL || access(directory, W_OK | X_OK) == 0)
        return 0;
    int error = error_from_errno(errno);
    snprintf(message, 256, "no backups can be made in %s (--backup-dir): %s", directory,
             kvs_error_text(error));
    return error;
}

static int open_local_store(kvs_server *server, char message[256])
{
    const struct kvs_server_options *options = &server->options;
    const char *backups = options->backup_directory;
    int error = check_backups(backups, message);
    if (error == 0)
        error = local_store_new(server->engine, options->value_size_max, &server->service.store);
    if (error == 0)
        error = local_store_set_backups(server->service.store, backups != NULL ? backups : "");
    return error;
}

static int open_store(kvs_server *server, char message[256])
{
    const struct kvs_server_options *options = &server->options;
    struct loop *loops[THREADS_MAX];
    if (!remote_engine_is_meant(options))
        return open_local_store(server, message);
    for (unsigned i = 0; i < options->threads; i++)
        loops[i] = &server->loops[i].loop;
    return remote_engine_open(&server->remote, options, server->pool, loops, options->threads,
                              &server->service.store, message);
}

static int start_loops(kvs_server *server)
{
    int error = listener_start(&server->listener, &server->loops[0].loop, on_accept, server);
    if (error == 0 && server->tikv != NULL)
        error = tikv_server_start(server->tikv);
    if (error == 0 && server->events != NULL)
        error = eventstore_server_start(server->events);
    for (unsigned i = 0; i < server->options.threads && error == 0; i++) {
        char name[16];
        snprintf(name, sizeof name, "kvs-net-%u", (uint8_t)i);
        error = loop_start(&server->loops[i].loop, name);
    }
    return error;
}

static int take_down(kvs_server *server, uint32_t grace_ms);

static int server_new(const struct kvs_server_options *options, kvs_server **ret_server)
{
    kvs_server *server = mem_zalloc(sizeof *server);
    if (server == NULL)
        return KVS_ERR_NO_MEMORY;
    fill_options(&server->options, options);
    server->memory.max = server->options.connections_bytes_max;
    server->events_slow_timeout_ms = options != NULL && options->slow_timeout_ms != 0
                                         ? options->slow_timeout_ms
                                         : EVENTS_SLOW_TIMEOUT_MS_DEFAULT;
    remote_engine_init(&server->remote);
    pthread_mutex_init(&server->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    *ret_server = server;
    return 0;
}

static struct passed_sockets passed_to(const kvs_server *server)
{
    return (struct passed_sockets){server->options.sockets, server->options.sockets_count};
}

static int bind_events(kvs_server *server, char message[256])
{
    const struct kvs_server_options *options = &server->options;
    const struct eventstore_server_options events = {
        .tcp = options->eventstore,
        .http = options->http,
        .passed = passed_to(server),
        .insecure = options->insecure,
        .advertise = options->advertise,
        .gossip_master = options->gossip_master,
        .heartbeat_interval_ms = options->heartbeat_interval_ms,
        .heartbeat_timeout_ms = options->heartbeat_timeout_ms,
        .projections = options->projections,
        .stats_interval_ms = options->stats_interval_ms,
        .loops = options->threads,
        .connections_max = options->connections_max,
        .slow_timeout_ms = server->events_slow_timeout_ms,
        .in_flight_bytes_max = options->in_flight_bytes_max,
        .tls_certificate = options->tls_certificate,
        .tls_key = options->tls_key,
        .tls_ca = options->tls_ca,
        .handshake_ms_max = handshake_ms(options),
        .memory = &server->memory,
    };
    return eventstore_server_bind(&events, &server->events, message);
}

static int bind_listeners(kvs_server *server, char message[256])
{
    const struct kvs_server_options *options = &server->options;
    const struct place place = {"kvs", options->address, ADDRESS_DEFAULT, "--addr HOST:PORT"};
    int error = passed_sockets_check(passed_to(server), options, message);
    if (error == 0 && options->tls_certificate != NULL)
        error = tls_context_new_server(TLS_KVS, options->tls_ca, options->tls_certificate,
                                       options->tls_key, &server->tls, message);
    if (error == 0)
        error = place_listen_blocking(&place, passed_to(server), &server->listener, message);
    if (error == 0 && serves_events(options))
        error = bind_events(server, message);
    if (error != 0 || options->tikv == NULL)
        return error;
    const struct tikv_server_options tikv = {
        .addresses = options->tikv,
        .passed = passed_to(server),
        .keyspaces = options->keyspaces,
        .loops = options->threads,
        .value_size_max = options->value_size_max,
        .connections_max = options->connections_max,
        .in_flight_bytes_max = options->in_flight_bytes_max,
        .split = {.keys_max = options->split_keys,
                  .bytes_max = options->split_bytes,
                  .raw_bounds = options->split_raw},
        .tls_certificate = options->tls_certificate,
        .tls_key = options->tls_key,
        .tls_ca = options->tls_ca,
        .advertise = options->advertise,
        .handshake_ms_max = handshake_ms(options),
        .memory = &server->memory,
    };
    return tikv_server_bind(&tikv, &server->tikv, message);
}

static void log_ready(const kvs_server *server)
{
    if (server->engine == NULL)
        log_info("kvs-server %s with engine " REMOTE_ENGINE_NAME " on the cluster of %s, listening "
                 "on %s",
                 KVS_VERSION, server->options.pd, server->listener.address);
    else
        log_info("kvs-server %s with engine %s in %s, listening on %s", KVS_VERSION,
                 server->engine->methods->name, server->options.directory,
                 server->listener.address);
    if (server->tls != NULL)
        log_info("every port speaks TLS");
    if (server->tikv != NULL)
        log_info("serving TiKV's clients: PD on %s, store on %s, status on %s",
                 kvs_server_pd_address(server), kvs_server_tikv_address(server),
                 kvs_server_tikv_status_address(server));
    if (kvs_server_eventstore_address(server)[0] != '\0')
        log_info("serving EventStoreDB's clients on %s", kvs_server_eventstore_address(server));
    if (kvs_server_http_address(server)[0] != '\0')
        log_info("serving HTTP on %s", kvs_server_http_address(server));
}

int kvs_server_open(const struct kvs_server_options *options, kvs_server **ret_server,
                    char **ret_message)
{
    char message[256] = "";
    kvs_server *server = NULL;
    int error = server_new(options, &server);
    if (error == 0)
        error = check_options(&server->options, message);
    if (error == 0)
        warn_of_sizes(&server->options);
    if (error == 0)
        error = bind_listeners(server, message);
    if (error == 0)
        error = open_engine(server, message);
    if (error == 0 && server->tikv != NULL)
        error = tikv_server_open_blocking(server->tikv, server->engine, message);
    if (error == 0) {
        fill_service(server);
        error = make_loops(server);
    }
    if (error == 0 && server->events != NULL)
        error = eventstore_server_open_blocking(server->events, server->engine,
                                                &server->loops[0].loop, message);
    if (error == 0)
        error = open_store(server, message);
    if (error == 0)
        error = start_loops(server);
    if (error == 0 && server->engine == NULL)
        error = remote_engine_wait_blocking(&server->remote, message);
    if (error == 0) {
        log_ready(server);
        server->options.address = server->options.directory = server->options.engine = NULL;
        server->options.tikv = server->options.keyspaces = server->options.pd = NULL;
        server->options.eventstore = server->options.http = NULL;
        server->options.backup_directory = NULL;
        server->options.sockets = NULL;
        server->options.sockets_count = 0;
        server->options.pd_ca = server->options.pd_certificate = server->options.pd_key = NULL;
        server->options.tls_ca = server->options.tls_certificate = server->options.tls_key = NULL;
        *ret_server = server;
        return 0;
    }
    if (message[0] == '\0')
        snprintf(message, sizeof message, "cannot start: %s", kvs_error_text(error));
    if (ret_message != NULL)
        *ret_message = mem_strdup(message);
    if (server != NULL)
        take_down(server, 0);
    return error;
}

const char *kvs_server_address(const kvs_server *server)
{
    return server->listener.address;
}

static const struct cluster *cluster_of(const kvs_server *server)
{
    return server->tikv != NULL ? tikv_server_cluster(server->tikv) : NULL;
}

const char *kvs_server_pd_address(const kvs_server *server)
{
    const struct cluster *cluster = cluster_of(server);
    return cluster != NULL ? cluster->pd_address : "";
}

const char *kvs_server_tikv_address(const kvs_server *server)
{
    const struct cluster *cluster = cluster_of(server);
    return cluster != NULL ? cluster->store_address : "";
}

const char *kvs_server_tikv_status_address(const kvs_server *server)
{
    const struct cluster *cluster = cluster_of(server);
    return cluster != NULL ? cluster->status_address : "";
}

const char *kvs_server_eventstore_address(const kvs_server *server)
{
    return server->events != NULL ? eventstore_server_tcp_address(server->events) : "";
}

const char *kvs_server_http_address(const kvs_server *server)
{
    return server->events != NULL ? eventstore_server_http_address(server->events) : "";
}

/* --- closing ------------------------------------------------------------------------------------
 */

static void on_connections_empty(struct connections *connections, void *arg)
{
    (void)connections;
    struct server_loop *at = arg;
    kv_service_loop_close(&at->server->service.loops[at->loop.index]);
    wait_one_done(at->server);
}

static void on_listener_closed(void *arg)
{
    wait_one_done(arg);
}

static void on_part_done(void *arg)
{
    wait_one_done(arg);
}

static void on_drain(struct task *task)
{
    struct server_loop *at = CONTAINER_OF(task, struct server_loop, drain_task);
    kv_service_loop_drain(&at->server->service.loops[at->loop.index]);
    connections_close(&at->connections, on_connections_empty, at);
    if (at->server->tikv != NULL)
        tikv_server_drain_loop(at->server->tikv, at->loop.index, on_part_done, at->server);
    if (at->server->events != NULL)
        eventstore_server_drain_loop(at->server->events, at->loop.index, on_part_done, at->server);
    if (at->loop.index == 0 && at->server->listener.handles > 0)
        listener_close(&at->server->listener, on_listener_closed);
    else if (at->loop.index == 0)
        wait_one_done(at->server);
}

static void on_cut(struct task *task)
{
    struct server_loop *at = CONTAINER_OF(task, struct server_loop, cut_task);
    kv_service_loop_cut(&at->server->service.loops[at->loop.index]);
    if (at->server->tikv != NULL)
        tikv_server_cut_loop(at->server->tikv, at->loop.index);
    if (at->server->events != NULL)
        eventstore_server_cut_loop(at->server->events, at->loop.index);
}

static void on_settle_tikv(struct task *task)
{
    struct server_loop *at = CONTAINER_OF(task, struct server_loop, close_task);
    tikv_server_settle(at->server->tikv, on_part_done, at->server);
}

static void on_settle_events(struct task *task)
{
    struct server_loop *at = CONTAINER_OF(task, struct server_loop, close_task);
    eventstore_server_settle(at->server->events, on_part_done, at->server);
}

static void on_store_closed(void *arg, int error)
{
    (void)error;
    wait_one_done(arg);
}

static void on_close_store(struct task *task)
{
    struct server_loop *at = CONTAINER_OF(task, struct server_loop, close_task);
    store_close(at->server->service.store, &at->loop, on_store_closed, at->server);
}

/* Runs `task` on the loop's thread; here, when it has none yet or never got one. */
static void run_on(struct server_loop *at, struct task *task, task_fn *run)
{
    task->run = run;
    if (at->loop.started)
        loop_post(&at->loop, task);
    else
        run(task);
}

/* Of a server that could not be opened: its loops have no threads, so they turn here. */
static void wait_for_all(kvs_server *server)
{
    bool all_started = true;
    for (unsigned i = 0; i < server->loops_made; i++)
        all_started = all_started && server->loops[i].loop.started;
    if (all_started)
        wait_end(server, UINT64_MAX);
    while (!all_started && !wait_end(server, clock_now_ms() + 1)) {
        for (unsigned i = 0; i < server->loops_made; i++) {
            if (!server->loops[i].loop.started)
                uv_run(server->loops[i].loop.uv, UV_RUN_NOWAIT);
        }
    }
}

static void drain_loops(kvs_server *server, uint32_t grace_ms)
{
    unsigned parts = 1u + (server->tikv != NULL) + (server->events != NULL); /* of each loop */
    wait_begin(server, server->loops_made * parts + 1);                      /* and the listener */
    for (unsigned i = 0; i < server->loops_made; i++)
        run_on(&server->loops[i], &server->loops[i].drain_task, on_drain);
    if (grace_ms > 0 && !wait_end(server, clock_now_ms() + grace_ms))
        log_warn("connections are cut: what they wait for took longer than %u ms", grace_ms);
    for (unsigned i = 0; i < server->loops_made; i++)
        run_on(&server->loops[i], &server->loops[i].cut_task, on_cut);
    wait_for_all(server);
}

/* What closes on the first loop when no connection is left. */
static void close_on_first_loop(kvs_server *server, task_fn *close)
{
    wait_begin(server, 1);
    run_on(&server->loops[0], &server->loops[0].close_task, close);
    wait_for_all(server);
}

static void free_loops(kvs_server *server)
{
    for (unsigned i = 0; i < server->loops_made; i++) {
        struct server_loop *at = &server->loops[i];
        connections_deinit(&at->connections);
        kv_service_loop_deinit(&server->service.loops[i]);
        loop_deinit(&at->loop);
    }
}

static int free_server(kvs_server *server)
{
    int error = server->engine != NULL ? engine_close_blocking(server->engine) : 0;
    kvs_thread_pool_unref(server->pool);
    listener_unbind(&server->listener);
    tls_context_free(server->tls);
    remote_engine_deinit(&server->remote);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->mutex);
    mem_free(server->service.loops);
    mem_free(server->loops);
    mem_free(server);
    return error;
}

static int take_down(kvs_server *server, uint32_t grace_ms)
{
    if (server->engine != NULL)
        engine_compact_no_more(server->engine);
    if (server->loops_made > 0)
        drain_loops(server, grace_ms);
    if (server->loops_made > 0 && server->tikv != NULL)
        close_on_first_loop(server, on_settle_tikv);
    if (server->loops_made > 0 && server->events != NULL)
        close_on_first_loop(server, on_settle_events);
    if (server->service.store != NULL)
        close_on_first_loop(server, on_close_store);
    for (unsigned i = 0; i < server->loops_made; i++)
        loop_stop(&server->loops[i].loop);
    tikv_server_free(server->tikv);
    eventstore_server_free(server->events);
    free_loops(server);
    return free_server(server);
}

int kvs_server_close(kvs_server *server, uint32_t grace_ms)
{
    return take_down(server, grace_ms);
}

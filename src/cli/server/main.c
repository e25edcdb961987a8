/*
 * cli/server/main.c: kvs-server, the program around kvs_server_open.
 *
 *   1. read the command line and the file; raise the limit of open files
 *   2. block the signals that stop it (SIGHUP too, unless nohup or the like has it ignored), so
 *      that no thread but this one takes them
 *   3. take the sockets that the starter passes; open the server; say that it is ready
 *   4. wait for a signal; close the server; exit 0
 *
 * Failure: one line on standard error, exit 1; 2 for a wrong command line. A second signal while
 * the server closes ends the process at once: what was acknowledged is as safe as --sync says. But
 * one that comes with the first is the same, told twice: timeout(1) signals the program and then
 * its group, and so do a terminal and npm together.
 */
#include "base/clock.h"
#include "base/log.h"
#include "cli/completion.h"
#include "cli/server/check.h"
#include "cli/server/notify.h"
#include "cli/server/options.h"
#include "cli/server/sockets.h"
#include "cli/standard_files.h"
#include "server/tikv_faults.h"

#include <kvs/kvs.h>
#include <kvs/server.h>

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { EXIT_USAGE = 2, DESCRIPTORS_BESIDES = 256, CONNECTIONS_DEFAULT = 20000, TRIM_SECONDS = 5 };

/* With --eventstore: heaps of the C library, which as a rule gives each thread one of its own. */
enum { EVENTS_HEAPS = 3 };

#define SAME_SIGNAL_NS 500000000u

static const int stop_signals[] = {SIGTERM, SIGINT, SIGHUP};
#define STOP_SIGNALS_COUNT (sizeof stop_signals / sizeof stop_signals[0])

static int complain(const char *text, int status)
{
    fprintf(stderr, "kvs-server: %s\n", text);
    return status;
}

static int flush_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return EXIT_SUCCESS;
    return complain("cannot write to standard output", EXIT_FAILURE);
}

/* Each connection is an open file; most systems allow a process 1024 unless it asks for more. */
static void raise_open_files(struct server_settings *settings)
{
    bool asked_for = settings->connections_max != 0;
    uint64_t connections = asked_for ? settings->connections_max : CONNECTIONS_DEFAULT;
    rlim_t wanted = (rlim_t)connections + DESCRIPTORS_BESIDES;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    /* A privileged process may raise the upper limit, too; others go as far as it allows. */
    struct rlimit more = {.rlim_cur = wanted,
                          .rlim_max = limit.rlim_max > wanted ? limit.rlim_max : wanted};
    if (setrlimit(RLIMIT_NOFILE, &more) == 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    bool is_tight = limit.rlim_cur <= 2 * DESCRIPTORS_BESIDES; /* half and half, then */
    settings->connections_max =
        is_tight ? (limit.rlim_cur + 1) / 2 : limit.rlim_cur - DESCRIPTORS_BESIDES;
    if (is_tight)
        log_warn("the system allows %llu open files, which may not be enough for connections and "
                 "data: raise the limit (ulimit -n)",
                 (unsigned long long)limit.rlim_cur);
    if (asked_for)
        log_warn("--connections-max is lowered from %llu to %llu: the system allows %llu open "
                 "files; raise the limit (ulimit -n)",
                 (unsigned long long)connections, (unsigned long long)settings->connections_max,
                 (unsigned long long)limit.rlim_cur);
}

static void block_signals(sigset_t *ret_signals)
{
    struct sigaction hangup;
    sigemptyset(ret_signals);
    for (size_t i = 0; i < STOP_SIGNALS_COUNT; i++)
        sigaddset(ret_signals, stop_signals[i]);
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler == SIG_IGN)
        sigdelset(ret_signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, ret_signals, NULL);
    signal(SIGPIPE, SIG_IGN); /* a lost connection is an error of its write, */
    signal(SIGXFSZ, SIG_IGN); /* and so is a file that must not grow */
}

static uint64_t stopping_ns; /* since when */

static void on_second_signal(int number)
{
    if (clock_now_ns() - stopping_ns < SAME_SIGNAL_NS)
        return;
    static const char text[] = "kvs-server: second signal: exit now\n";
    ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    _exit(128 + number);
}

static void end_on_second_signal(const sigset_t *signals)
{
    const struct sigaction action = {.sa_handler = on_second_signal, .sa_flags = SA_RESTART};
    stopping_ns = clock_now_ns();
    for (size_t i = 0; i < STOP_SIGNALS_COUNT; i++) {
        if (sigismember(signals, stop_signals[i]) == 1)
            sigaction(stop_signals[i], &action, NULL);
    }
    pthread_sigmask(SIG_UNBLOCK, signals, NULL);
}

static int open_server(const struct server_settings *settings,
                       const struct passed_by_starter *passed, kvs_server **ret_server)
{
    const struct kvs_server_options options = {
        .size = sizeof options,
        .address = settings->address,
        .engine = settings->engine,
        .directory = settings->directory,
        .threads = (uint32_t)settings->threads,
        .pool_threads = (uint32_t)settings->pool_threads,
        .sync = (enum kvs_sync)settings->sync,
        .file_io = (enum kvs_file_io)settings->file_io,
        .sync_interval_ms = (uint32_t)settings->sync_interval_ms,
        .value_size_max = (uint32_t)settings->value_max,
        .connections_max = (uint32_t)settings->connections_max,
        .idle_timeout_ms = (uint32_t)settings->idle_timeout_ms,
        .slow_timeout_ms = (uint32_t)settings->slow_timeout_ms,
        .in_flight_bytes_max = settings->in_flight_max,
        .segment_size_bytes = settings->segment_size,
        .connections_bytes_max = settings->connections_memory,
        .cache_size_bytes = settings->cache_size,
        .cache_prefault = settings->cache_prefault,
        .tikv = settings->tikv,
        .keyspaces = settings->keyspaces,
        .pd = settings->pd,
        .pd_ca = settings->pd_ca,
        .pd_certificate = settings->pd_certificate,
        .pd_key = settings->pd_key,
        .tls_certificate = settings->tls_certificate,
        .tls_key = settings->tls_key,
        .tls_ca = settings->tls_ca,
        .split_keys = settings->split_keys,
        .split_bytes = settings->split_size,
        .split_raw = settings->split_raw,
        .eventstore = settings->eventstore,
        .http = settings->http,
        .insecure = settings->insecure,
        .advertise = settings->advertise,
        .gossip_master = settings->gossip_master,
        .backup_directory = settings->backup_directory,
        .stats_interval_ms = (uint32_t)settings->stats_interval_ms,
        .projections = (enum kvs_projections)settings->projections,
        .heartbeat_interval_ms = (uint32_t)settings->heartbeat_interval_ms,
        .heartbeat_timeout_ms = (uint32_t)settings->heartbeat_timeout_ms,
        .sockets = passed->sockets,
        .sockets_count = passed->count,
    };
    char *message = NULL;
    int error = kvs_server_open(&options, ret_server, &message);
    if (error != 0)
        complain(message != NULL ? message : kvs_error_text(error), 0);
    free(message);
    return error;
}

/* The server has copies of the sockets: ours would take clients in that nobody serves any more. */
static int open_with_sockets(const struct server_settings *settings, kvs_server **ret_server)
{
    struct passed_by_starter passed;
    char message[ARGUMENTS_MESSAGE_SIZE];
    int error = passed_by_starter_read(&passed, message);
    if (error != 0)
        complain(message, 0);
    else
        error = open_server(settings, &passed, ret_server);
    passed_by_starter_close(&passed);
    return error;
}

#ifdef KVS_FAULTS
static bool set_faults(const struct server_settings *settings)
{
    char message[256];
    if (settings->test_faults == NULL || tikv_faults_set(settings->test_faults, message) == 0)
        return true;
    complain(message, 0);
    return false;
}
#else
static bool set_faults(const struct server_settings *settings)
{
    (void)settings;
    return true;
}
#endif

/* Each heap keeps up to a MiB that nobody uses; with few of them appends and reads are as fast. */
static void share_heaps(const struct server_settings *settings)
{
#ifdef __GLIBC__
    if (settings->eventstore != NULL && getenv("MALLOC_ARENA_MAX") == NULL)
        mallopt(M_ARENA_MAX, EVENTS_HEAPS);
#endif
}

/* Meanwhile this thread gives back what others have freed: each of their arenas would keep the most
 * that it ever needed. It costs a page fault for each page that is wanted again. */
static int wait_for_signal(const sigset_t *signals)
{
    const struct timespec pause = {.tv_sec = TRIM_SECONDS};
    int number;
    while ((number = sigtimedwait(signals, NULL, &pause)) < 0) {
#ifdef __GLIBC__
        if (errno == EAGAIN)
            malloc_trim(0);
#endif
    }
    return number;
}

static int serve(struct server_settings *settings)
{
    sigset_t signals;
    kvs_server *server;
    int number;
    block_signals(&signals);
    raise_open_files(settings);
    share_heaps(settings);
    if (!set_faults(settings) || open_with_sockets(settings, &server) != 0)
        return EXIT_FAILURE;
    notify_service_manager("READY=1");
    number = wait_for_signal(&signals);
    log_info("stopping on %s: finishing what was accepted", number == SIGINT   ? "SIGINT"
                                                            : number == SIGHUP ? "SIGHUP"
                                                                               : "SIGTERM");
    notify_service_manager("STOPPING=1");
    end_on_second_signal(&signals);
    int error = kvs_server_close(server, (uint32_t)settings->grace_ms);
    if (error != 0) {
        log_error("the last sync failed: %s; writes of --sync interval or never may be lost",
                  kvs_error_text(error));
        return EXIT_FAILURE;
    }
    log_info("stopped");
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct server_settings settings;
    char message[ARGUMENTS_MESSAGE_SIZE] = "";
    int status = EXIT_SUCCESS;
    standard_files_open();
    if (server_settings_parse(&settings, argc, argv, message) != 0) {
        fprintf(stderr, "kvs-server: %s; see: kvs-server --help\n", message);
        status = EXIT_USAGE;
    } else if (settings.help) {
        server_settings_help(stdout);
        status = flush_output();
    } else if (settings.version) {
        printf("kvs-server %s\n", kvs_version());
        status = flush_output();
    } else if (settings.completion != COMPLETION_NONE) {
        server_settings_completion(&settings, stdout);
        status = flush_output();
    } else if (settings.verify || settings.repair != NULL) {
        status = check_directory(&settings, message);
        if (message[0] != '\0')
            complain(message, 0);
    } else {
        log_set_level((enum log_level)settings.log_level);
        status = serve(&settings);
    }
    server_settings_deinit(&settings);
    return status;
}

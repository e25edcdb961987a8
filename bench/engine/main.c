/*
 * bench/engine/main.c: kvs, RocksDB, LMDB and LevelDB in one process, in turns; bench/run-engine
 * starts it, and makes tables of the lines that it prints.
 *
 * For each peer: 1. an empty store is filled in random order, in batches; 2. sets of keys that are
 * there; 3. compaction, and the size of the directory; 4. gets and scans; 5. closing, opening and
 * a first get. Then for each peer, on an empty store: 6. sets that are synced, by 16 threads. Last,
 * for kvs alone: 7. sets at a fixed rate, with nothing to compact, and with a compaction all the
 * time; and how late the machine lets a thread be that does nothing, at the same rate.
 *
 * Each figure is a line of JSON on standard output: keys, value (bytes), peer, row, distribution,
 * threads, number.
 */
#include "bench/engine/bench.h"

#include <dirent.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { THREADS_MAX = 16, SYNCED_THREADS = 16, DRAWERS = 2, ROUNDS = 5 };

#define LEAD_NS 10000000u /* before the first operation is due: all threads are there by then */

static const struct peer *const peers[] = {
    &peer_kvs,
#ifdef BENCH_ROCKSDB
    &peer_rocksdb,
#endif
#ifdef BENCH_LMDB
    &peer_lmdb,
#endif
#ifdef BENCH_LEVELDB
    &peer_leveldb,
#endif
};

enum { PEERS_COUNT = sizeof peers / sizeof peers[0] };

struct bench {
    const char *directory;
    const char *only_peers;  /* names, or NULL for all */
    const char *only_groups; /* likewise */
    double seconds;
    uint64_t keys;
    uint32_t value_size;
    unsigned depth;
    unsigned threads_max; /* of the loads in memory */
    uint64_t rate;        /* of the sets beside a compaction */
    uint64_t seed;
    uint32_t *order;             /* all keys, shuffled */
    uint32_t *draws[2][DRAWERS]; /* by distribution, and by thread */
    uint8_t *values;
};

/* One peer's turn. */
struct turn {
    struct bench *bench;
    const struct peer *peer;
    struct peer_options options;
    char path[PATH_MAX];
    void *store;
};

void bench_say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("bench-engine: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

void run_fail(struct run *run, const char *peer, const char *what)
{
    if (!run->failed)
        bench_say("%s: %s failed", peer, what);
    run->failed = true;
}

static bool is_listed(const char *list, const char *name)
{
    size_t size = strlen(name);
    for (const char *at = list; at != NULL; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        if (strncmp(at, name, size) == 0 && (at[size] == ',' || at[size] == '\0'))
            return true;
    }
    return list == NULL;
}

static void figure(const struct turn *turn, const char *row, enum distribution distribution,
                   unsigned threads, double number)
{
    printf("{\"keys\": %llu, \"value\": %u, \"peer\": \"%s\", \"row\": \"%s\", "
           "\"distribution\": \"%s\", \"threads\": %u, \"number\": %.9g}\n",
           (unsigned long long)turn->bench->keys, turn->bench->value_size, turn->peer->name, row,
           distribution == DISTRIBUTION_ZIPFIAN ? "zipfian" : "uniform", threads, number);
    fflush(stdout);
}

/* --- folders --- */

/* Bytes on disk of a folder's files, which are removed if asked. */
static uint64_t folder_walk(const char *path, bool remove_all)
{
    DIR *folder = opendir(path);
    uint64_t bytes = 0;
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        char name[PATH_MAX];
        struct stat status;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (lstat(name, &status) == 0)
            bytes += (uint64_t)status.st_blocks * 512;
        if (remove_all)
            unlink(name);
    }
    if (folder != NULL)
        closedir(folder);
    if (remove_all)
        rmdir(path);
    return bytes;
}

/* --- phases --- */

typedef void load_fn(void *session, struct run *run);

struct worker {
    struct run run;
    const struct peer *peer;
    void *session;
    load_fn *load;
    pthread_t thread;
};

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    worker->load(worker->session, &worker->run);
    return NULL;
}

/* How long the load took; 0 when it failed. The sum of all operations is in ret_operations. */
static double workers_run(struct worker *workers, unsigned threads, struct load *load,
                          double seconds, uint64_t *ret_operations)
{
    uint64_t begin = clock_now_ns();
    load->begin_ns = begin + LEAD_NS;
    load->deadline_ns = begin + (uint64_t)(seconds * 1e9);
    for (unsigned i = 0; i < threads; i++)
        pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]);
    bool failed = false;
    uint64_t misses = 0;
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        failed |= workers[i].run.failed;
        misses += workers[i].run.misses;
        *ret_operations += workers[i].run.begun;
    }
    if (misses > 0)
        bench_say("%s: %llu values are missing or have another size", workers[0].peer->name,
                  (unsigned long long)misses);
    return failed || misses > 0 ? 0 : (double)(clock_now_ns() - begin) / 1e9;
}

/* Operations a second, or a negative number. `latency` (or NULL) is for thread 0. */
static double phase_run(struct turn *turn, load_fn *fn, struct load *load, unsigned threads,
                        double seconds, struct histogram *latency)
{
    struct worker workers[THREADS_MAX] = {0};
    struct bench *bench = turn->bench;
    load->values = bench->values;
    load->value_size = bench->value_size;
    load->threads = threads;
    if (load->operations_max == 0)
        load->operations_max = UINT64_MAX;
    unsigned opened = 0;
    uint64_t operations = 0;
    double took = 0;
    for (; opened < threads; opened++) {
        struct worker *worker = &workers[opened];
        worker->peer = turn->peer;
        worker->load = fn;
        worker->run = (struct run){.load = load,
                                   .draws = bench->draws[load->distribution][opened % DRAWERS],
                                   .draws_begin = opened / DRAWERS * (DRAWS / THREADS_MAX),
                                   .thread = opened,
                                   .latency = latency};
        if (turn->peer->session_open(turn->store, &worker->session) != 0)
            break;
    }
    if (opened == threads)
        took = workers_run(workers, threads, load, seconds, &operations);
    for (unsigned i = 0; i < threads && workers[i].session != NULL; i++)
        turn->peer->session_close(workers[i].session);
    return took > 0 ? (double)operations / took : -1;
}

static void load_init(const struct bench *bench, struct load *load, enum distribution distribution)
{
    *load = (struct load){.depth = bench->depth, .distribution = distribution};
    /* It writes keys only, also new ones; draws were made before. */
    keyspace_init(&load->keyspace, bench->keys * 64, KEY_SIZE, DISTRIBUTION_UNIFORM);
}

/* One load, by both distributions and both numbers of threads. */
static void measure_as(struct turn *turn, const char *row, load_fn *fn, bool zipfian,
                       bool reads_values)
{
    if (fn == NULL)
        return;
    for (int i = 0; i < (zipfian ? 2 : 1); i++) {
        enum distribution distribution = i == 0 ? DISTRIBUTION_UNIFORM : DISTRIBUTION_ZIPFIAN;
        for (unsigned threads = 1; threads <= turn->bench->threads_max; threads *= 2) {
            struct load load;
            load_init(turn->bench, &load, distribution);
            load.reads_values = reads_values;
            double rate = phase_run(turn, fn, &load, threads, turn->bench->seconds, NULL);
            if (rate > 0)
                figure(turn, row, distribution, threads, rate);
        }
    }
}

static void measure(struct turn *turn, const char *row, load_fn *fn, bool zipfian)
{
    measure_as(turn, row, fn, zipfian, false);
}

static int turn_fill(struct turn *turn)
{
    struct bench *bench = turn->bench;
    struct load load;
    load_init(bench, &load, DISTRIBUTION_UNIFORM);
    load.values = bench->values;
    load.value_size = bench->value_size;
    void *session = NULL;
    if (turn->peer->session_open(turn->store, &session) != 0)
        return -1;
    uint64_t begin = clock_now_ns();
    int error = turn->peer->fill(session, &load, bench->order, bench->keys);
    double seconds = (double)(clock_now_ns() - begin) / 1e9;
    turn->peer->session_close(session);
    if (error == 0)
        figure(turn, "fill", DISTRIBUTION_UNIFORM, 1, (double)bench->keys / seconds);
    return error;
}

static int double_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median, and the largest. */
static void rounds_figures(struct turn *turn, const char *row, double rounds[ROUNDS])
{
    char worst[64];
    snprintf(worst, sizeof worst, "%s, worst", row);
    qsort(rounds, ROUNDS, sizeof rounds[0], double_compare);
    if (rounds[0] == 0)
        return;
    figure(turn, row, DISTRIBUTION_UNIFORM, 1, rounds[ROUNDS / 2]);
    figure(turn, worst, DISTRIBUTION_UNIFORM, 1, rounds[ROUNDS - 1]);
}

/* Seconds until one key is read of the store, which is closed and opened again; 0: it fails. */
static double restart(struct turn *turn)
{
    struct load load;
    load_init(turn->bench, &load, DISTRIBUTION_UNIFORM);
    load.operations_max = 1;
    turn->peer->close(turn->store);
    turn->store = NULL;
    uint64_t begin = clock_now_ns();
    if (turn->peer->open(&turn->options, &turn->store) != 0 ||
        phase_run(turn, turn->peer->get, &load, 1, 3600, NULL) < 0)
        return 0;
    return (double)(clock_now_ns() - begin) / 1e9;
}

static void restart_turn(struct turn *turn)
{
    double seconds[ROUNDS] = {0};
    turn->options.prefaults = false; /* who is in a hurry makes no memory first */
    for (unsigned i = 0; i < ROUNDS && turn->store != NULL; i++)
        seconds[i] = restart(turn);
    rounds_figures(turn, "restart", seconds);
}

/* Caches are made to hold all data and what is written anew; data that are larger than memory get
 * half of it, for the other half is the system's cache of the same files. */
static uint64_t cache_bytes(uint64_t data_bytes)
{
    uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t wanted = data_bytes * 3 + (256u << 20);
    return wanted < memory / 2 ? wanted : memory / 2;
}

static int turn_begin(struct turn *turn, struct bench *bench, const struct peer *peer, bool synced)
{
    *turn = (struct turn){.bench = bench, .peer = peer};
    snprintf(turn->path, sizeof turn->path, "%s/%s", bench->directory, peer->name);
    uint64_t data_bytes = bench->keys * (KEY_SIZE + bench->value_size);
    turn->options = (struct peer_options){
        .directory = turn->path,
        .data_bytes = data_bytes,
        .cache_bytes = cache_bytes(data_bytes),
        .threads = (unsigned)sysconf(_SC_NPROCESSORS_ONLN),
        .synced = synced,
        .prefaults = true,
    };
    folder_walk(turn->path, true);
    mkdir(turn->path, 0777);
    return peer->open(&turn->options, &turn->store);
}

static void turn_end(struct turn *turn)
{
    if (turn->store != NULL)
        turn->peer->close(turn->store);
    folder_walk(turn->path, true);
}

static void memory_turn(struct turn *turn)
{
    const struct peer *peer = turn->peer;
    const char *groups = turn->bench->only_groups;
    if (turn_fill(turn) != 0)
        return;
    if (is_listed(groups, "set")) {
        measure(turn, "set", peer->set, true);
        measure(turn, "set waiting", peer->set_waiting, false);
    }
    if (is_listed(groups, "compact") && (peer->compact == NULL || peer->compact(turn->store) == 0))
        figure(turn, "disk", DISTRIBUTION_UNIFORM, 1, (double)folder_walk(turn->path, false));
    if (is_listed(groups, "get")) {
        measure(turn, "get", peer->get, true);
        measure_as(turn, "get read", peer->get, true, true);
        measure_as(turn, "get copied", peer->get_copied, true, true);
        measure(turn, "get together", peer->get_together, true);
    }
    if (is_listed(groups, "scan")) {
        measure(turn, "scan", peer->scan, true);
        measure_as(turn, "scan read", peer->scan, true, true);
        measure_as(turn, "scan copied", peer->scan_copied, false, true);
    }
    if (is_listed(groups, "restart")) {
        restart_turn(turn);
    }
}

static void synced_turn(struct turn *turn)
{
    const struct peer *peer = turn->peer;
    struct load load;
    load_init(turn->bench, &load, DISTRIBUTION_UNIFORM);
    load_fn *fn = peer->set_waiting != NULL ? peer->set_waiting : peer->set;
    double rate = phase_run(turn, fn, &load, SYNCED_THREADS, turn->bench->seconds, NULL);
    if (rate > 0)
        figure(turn, "synced", DISTRIBUTION_UNIFORM, SYNCED_THREADS, rate);
    if (peer->set_waiting == NULL)
        return;
    load_init(turn->bench, &load, DISTRIBUTION_UNIFORM);
    load.depth = SYNCED_THREADS;
    rate = phase_run(turn, peer->set, &load, 1, turn->bench->seconds, NULL);
    if (rate > 0)
        figure(turn, "synced in flight", DISTRIBUTION_UNIFORM, 1, rate);
}

/* --- sets beside a compaction --- */

struct compactor {
    struct turn *turn;
    pthread_t thread;
    _Atomic bool stop;
    unsigned rounds;
};

static void *compactor_main(void *arg)
{
    struct compactor *compactor = arg;
    while (!atomic_load_explicit(&compactor->stop, memory_order_relaxed)) {
        if (compactor->turn->peer->compact(compactor->turn->store) != 0)
            break;
        compactor->rounds++;
    }
    return NULL;
}

/* 99.9% in nanoseconds; 0 for a failure. */
static double tail_phase(struct turn *turn, struct load *load, bool compacting)
{
    static struct histogram latency;
    histogram_clear(&latency);
    struct compactor compactor = {.turn = turn};
    load->interval_ns = 1000000000u / turn->bench->rate;
    load->depth = 4096;
    if (compacting)
        pthread_create(&compactor.thread, NULL, compactor_main, &compactor);
    double rate = phase_run(turn, turn->peer->set, load, 1, 2 * turn->bench->seconds, &latency);
    if (compacting) {
        atomic_store_explicit(&compactor.stop, true, memory_order_relaxed);
        pthread_join(compactor.thread, NULL);
        figure(turn, "tail rounds", DISTRIBUTION_UNIFORM, 1, compactor.rounds);
    }
    return rate > 0 ? (double)histogram_percentile(&latency, 99.9) : 0;
}

static double machine_phase(struct turn *turn, bool beside_busy)
{
    static struct histogram lateness;
    histogram_clear(&lateness);
    machine_lateness(1000000000u / turn->bench->rate, 2 * turn->bench->seconds, beside_busy,
                     &lateness);
    return (double)histogram_percentile(&lateness, 99.9);
}

/* Without: new keys, so that there is no garbage. With: keys that are there, so that there is, and
 * a compaction that begins again when it is done. In turns, for what else runs on the machine
 * decides about a tail, too. */
static void tail_turn(struct turn *turn)
{
    double without[ROUNDS], with[ROUNDS], machine[ROUNDS], busy[ROUNDS];
    if (turn_fill(turn) != 0)
        return;
    uint64_t keys_new = (uint64_t)(2 * turn->bench->seconds * (double)turn->bench->rate);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct load load;
        load_init(turn->bench, &load, DISTRIBUTION_UNIFORM);
        load.first_new = turn->bench->keys + i * keys_new;
        without[i] = tail_phase(turn, &load, false);
        load_init(turn->bench, &load, DISTRIBUTION_UNIFORM);
        with[i] = tail_phase(turn, &load, true);
        machine[i] = machine_phase(turn, false);
        busy[i] = machine_phase(turn, true);
    }
    rounds_figures(turn, "tail", without);
    rounds_figures(turn, "tail compacting", with);
    rounds_figures(turn, "tail machine", machine);
    rounds_figures(turn, "tail machine busy", busy);
}

/* --- the run --- */

static int draws_make(struct bench *bench)
{
    struct rand rand = rand_seed(bench->seed);
    bench->order = malloc(bench->keys * sizeof bench->order[0]);
    bench->values = malloc(VALUES_SPREAD + 8 + (size_t)bench->value_size);
    if (bench->order == NULL || bench->values == NULL)
        return -1;
    for (size_t i = 0; i < VALUES_SPREAD + 8 + (size_t)bench->value_size; i++)
        bench->values[i] = (uint8_t)rand_u64(&rand);
    for (uint64_t i = 0; i < bench->keys; i++)
        bench->order[i] = (uint32_t)i;
    for (uint64_t i = bench->keys - 1; i > 0; i--) {
        uint64_t other = rand_below(&rand, i + 1);
        uint32_t number = bench->order[i];
        bench->order[i] = bench->order[other];
        bench->order[other] = number;
    }
    for (unsigned kind = 0; kind < 2; kind++) {
        struct keyspace keyspace;
        if (!keyspace_init(&keyspace, bench->keys, KEY_SIZE, (enum distribution)kind))
            return -1;
        for (unsigned thread = 0; thread < DRAWERS; thread++) {
            uint32_t *draws = malloc(DRAWS * sizeof draws[0]);
            if (draws == NULL)
                return -1;
            for (unsigned i = 0; i < DRAWS; i++)
                draws[i] = (uint32_t)keyspace_draw(&keyspace, &rand);
            bench->draws[kind][thread] = draws;
        }
    }
    return 0;
}

static void bench_group(struct bench *bench, const char *name, bool synced, bool ours_only,
                        void (*run)(struct turn *turn))
{
    for (unsigned i = 0; i < PEERS_COUNT; i++) {
        if (!is_listed(bench->only_peers, peers[i]->name) || (ours_only && i > 0))
            continue;
        struct turn turn;
        bench_say("%s: %s", peers[i]->name, name);
        if (turn_begin(&turn, bench, peers[i], synced) == 0)
            run(&turn);
        turn_end(&turn);
    }
}

static int usage(void)
{
    fputs(
        "usage: bench-engine [--keys N] [--value-size N] [--seconds S] [--threads N] [--depth N]\n"
        "                    [--rate N] [--seed N] [--peers NAME,...] DIR\n"
        "                    [--groups set,compact,get,scan,restart,synced,tail]\n"
        "       bench-engine --settings\n",
        stderr);
    return 2;
}

static int settings_print(void)
{
    for (unsigned i = 0; i < PEERS_COUNT; i++)
        printf("%s\t%s\n", peers[i]->name, peers[i]->settings);
    return 0;
}

static bool needs_memory_turn(const char *groups)
{
    return is_listed(groups, "set") || is_listed(groups, "compact") || is_listed(groups, "get") ||
           is_listed(groups, "scan") || is_listed(groups, "restart");
}

static int bench_run(struct bench *bench)
{
    if (draws_make(bench) != 0) {
        bench_say("out of memory, or the number of keys cannot be");
        return 1;
    }
    if (needs_memory_turn(bench->only_groups))
        bench_group(bench, "in memory", false, false, memory_turn);
    if (is_listed(bench->only_groups, "synced"))
        bench_group(bench, "synced", true, false, synced_turn);
    if (is_listed(bench->only_groups, "tail"))
        bench_group(bench, "beside a compaction", false, true, tail_turn);
    return 0;
}

/* One option; false for one that is not known. */
static bool option_take(struct bench *bench, int option, const char *text)
{
    switch (option) {
    case 'k':
        bench->keys = strtoull(text, NULL, 10);
        return true;
    case 'v':
        bench->value_size = (uint32_t)strtoul(text, NULL, 10);
        return true;
    case 's':
        bench->seconds = strtod(text, NULL);
        return true;
    case 't':
        bench->threads_max = (unsigned)strtoul(text, NULL, 10);
        return true;
    case 'd':
        bench->depth = (unsigned)strtoul(text, NULL, 10);
        return true;
    case 'r':
        bench->rate = strtoull(text, NULL, 10);
        return true;
    case 'S':
        bench->seed = strtoull(text, NULL, 10);
        return true;
    case 'p':
        bench->only_peers = text;
        return true;
    case 'g':
        bench->only_groups = text;
        return true;
    default:
        return false;
    }
}

static bool bench_is_valid(const struct bench *bench)
{
    return bench->keys >= 1000 && bench->keys <= KEY_COUNT_MAX / 64 && bench->value_size >= 1 &&
           bench->value_size <= 1u << 24 && bench->seconds > 0 && bench->threads_max >= 1 &&
           bench->threads_max <= THREADS_MAX && bench->depth >= 1 && bench->depth <= 65536 &&
           bench->rate >= 1 && bench->rate <= 100000000;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"keys", required_argument, NULL, 'k'},
        {"value-size", required_argument, NULL, 'v'},
        {"seconds", required_argument, NULL, 's'},
        {"threads", required_argument, NULL, 't'},
        {"depth", required_argument, NULL, 'd'},
        {"rate", required_argument, NULL, 'r'},
        {"seed", required_argument, NULL, 'S'},
        {"peers", required_argument, NULL, 'p'},
        {"groups", required_argument, NULL, 'g'},
        {"settings", no_argument, NULL, 'i'},
        {0},
    };
    struct bench bench = {.seconds = 2,
                          .keys = 1000000,
                          .value_size = 100,
                          .depth = 256,
                          .threads_max = 2,
                          .rate = 50000,
                          .seed = 1};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'i')
            return settings_print();
        if (!option_take(&bench, c, optarg))
            return usage();
    }
    if (optind + 1 != argc || !bench_is_valid(&bench))
        return usage();
    bench.directory = argv[optind];
    return bench_run(&bench);
}

/*
 * cli/bench/generator.c: see the header. Everything here runs on the program's main thread; what a
 * phase does is in worker.c.
 */
#include "cli/bench/generator.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "cli/bench/worker_store.h"
#include "cli/bench/worker_txn.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    FILL_DEPTH_MIN = 64, /* in flight per connection while filling, whatever is measured later */
    DESCRIPTORS_OWN = 64,
    START_DELAY_NS = 1000000, /* so that all workers are there when the phase starts */
    THREAD_SEED_STEP = 1000003,
};

static unsigned fill_depth(const struct bench_options *options)
{
    return options->pipeline > FILL_DEPTH_MIN ? (unsigned)options->pipeline : FILL_DEPTH_MIN;
}

/* The i-th part when `total` is shared among `count` as evenly as it goes. */
static uint64_t part_of(uint64_t total, size_t count, size_t i)
{
    return total / count + (i < total % count);
}

static int descriptors_reserve(uint64_t count, char *text)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return error_from_errno(errno);
    if (limit.rlim_cur >= count)
        return 0;
    if (limit.rlim_max >= count) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
            return 0;
    }
    snprintf(text, TARGET_TEXT_MAX,
             "this takes %llu open files, the limit is %llu: raise it with ulimit -n",
             (unsigned long long)count, (unsigned long long)limit.rlim_max);
    return KVS_ERR_INVALID_ARGUMENT;
}

static int values_fill(struct generator *generator)
{
    size_t size = VALUES_SPREAD + (size_t)generator->options->value_size;
    struct rand rand = rand_seed(generator->options->seed ^ 0x76616c7565u);
    generator->values = mem_alloc(size + sizeof(uint64_t));
    if (generator->values == NULL)
        return KVS_ERR_NO_MEMORY;
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t bytes = rand_u64(&rand);
        memcpy(generator->values + at, &bytes, sizeof bytes);
    }
    return 0;
}

static int prepare(struct generator *generator, char *text)
{
    const struct bench_options *options = generator->options;
    int error = target_open(&generator->target, options->url, &options->tls, text);
    generator->target.sync = options->sync;
    if (error != 0)
        return error;
    generator->target.events = (struct target_events){
        .kind = (enum target_events_kind)(options->workload - WORKLOAD_APPEND),
        .batch = (uint32_t)options->batch,
        .page = (uint32_t)options->page,
        .stream = options->stream,
    };
    if (!target_prepare(&generator->target, (size_t)options->key_size,
                        (size_t)options->value_size)) {
        snprintf(text, TARGET_TEXT_MAX, "the value is too large for the protocol");
        return KVS_ERR_INVALID_ARGUMENT;
    }
    keyspace_init(&generator->keyspace, options->keys, (size_t)options->key_size,
                  (enum distribution)options->distribution); /* was checked with the options */
    error = descriptors_reserve(options->connections + options->idle_connections + DESCRIPTORS_OWN,
                                text);
    if (error != 0)
        return error;
    error = values_fill(generator);
    generator->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (error == 0 && generator->done_fd < 0)
        error = error_from_errno(errno);
    generator->load.target = &generator->target;
    generator->load.keyspace = &generator->keyspace;
    generator->load.values = generator->values;
    generator->load.timeout_ns = options->timeout_ms * 1000000u;
    generator->load.depth_max = fill_depth(options);
    if (!workload_is_transactions(options->workload))
        return error;
    generator->txn.kind = (enum txn_load_kind)(options->workload - WORKLOAD_TXN);
    generator->txn.keys = options->workload == WORKLOAD_BANK ? 2 : (uint32_t)options->txn_keys;
    generator->txn.pessimistic = options->pessimistic;
    generator->load.txn = &generator->txn;
    return error;
}

static int workers_init(struct generator *generator)
{
    const struct bench_options *options = generator->options;
    size_t count = (size_t)options->threads;
    generator->workers = mem_zalloc(count * sizeof *generator->workers);
    if (generator->workers == NULL)
        return KVS_ERR_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        generator->worker_count = i + 1;
        int error = worker_init(&generator->workers[i], &generator->load,
                                (size_t)part_of(options->connections, count, i),
                                (size_t)part_of(options->idle_connections, count, i),
                                options->seed * THREAD_SEED_STEP + i, generator->done_fd);
        if (error != 0)
            return error;
    }
    return 0;
}

/* One after the other: the server has answered each before the next comes, so that its queue of
 * new connections never overflows. */
static int connect_all(struct generator *generator, char *text)
{
    for (size_t i = 0; i < generator->worker_count; i++) {
        struct worker *worker = &generator->workers[i];
        for (size_t k = 0; k < worker->count; k++) {
            int fd;
            int error = target_connect(&generator->target, (unsigned)generator->options->timeout_ms,
                                       &fd, text);
            if (error == 0)
                error = worker_take(worker, k, fd);
            if (error != 0)
                return error;
        }
    }
    return 0;
}

int generator_open(struct generator *generator, const struct bench_options *options, char *text)
{
    *generator = (struct generator){.options = options, .done_fd = -1};
    text[0] = '\0';
    int error = prepare(generator, text);
    if (error == 0)
        error = workers_init(generator);
    if (error == 0)
        error = connect_all(generator, text);
    if (error != 0) {
        if (text[0] == '\0')
            snprintf(text, TARGET_TEXT_MAX, "%s", kvs_error_text(error));
        generator_close(generator);
    }
    return error;
}

void generator_close(struct generator *generator)
{
    for (size_t i = 0; i < generator->worker_count; i++)
        worker_deinit(&generator->workers[i]);
    if (generator->done_fd >= 0)
        close(generator->done_fd);
    mem_free(generator->workers);
    mem_free(generator->values);
}

void generator_stop(struct generator *generator)
{
    /* relaxed: only the flag itself matters. */
    atomic_store_explicit(&generator->load.stop, true, memory_order_relaxed);
}

/* --- phases ---- */

static struct phase phase_of_worker(const struct generator *generator, enum stage stage, size_t i,
                                    uint64_t start_ns)
{
    const struct bench_options *options = generator->options;
    size_t count = generator->worker_count;
    struct phase phase = {
        .read_ratio = options->read_ratio,
        .depth = (unsigned)options->pipeline,
        .start_ns = start_ns,
        .deadline_ns = WITHOUT_LIMIT,
        .requests_max = WITHOUT_LIMIT,
    };
    if (stage == STAGE_FILL) {
        phase.fill = true;
        phase.depth = fill_depth(options);
        phase.requests_max = part_of(options->keys, count, i);
        for (size_t before = 0; before < i; before++)
            phase.first_key += part_of(options->keys, count, before);
        return phase;
    }
    if (stage == STAGE_WARM_UP)
        phase.deadline_ns = start_ns + options->warm_up_ms * 1000000u;
    else if (options->requests > 0)
        phase.requests_max = part_of(options->requests, count, i);
    else
        phase.deadline_ns = start_ns + options->duration_ms * 1000000u;
    if (options->rate > 0) {
        /* The workers take turns: one request of all is due every 1/rate seconds. */
        phase.interval_ns = 1e9 * (double)count / options->rate;
        phase.first_due_ns = 1e9 * (double)i / options->rate;
    }
    return phase;
}

static void watch_call(struct generator *generator, enum stage stage, uint64_t start_ns,
                       generator_watch_fn watch, void *context)
{
    static struct histogram all; /* 38 KB: too much for a stack; there is one main thread */
    uint64_t errors = 0;
    histogram_clear(&all);
    for (size_t i = 0; i < generator->worker_count; i++) {
        const struct tally *tally = &generator->workers[i].tally;
        for (int k = 0; k < OPERATION_COUNT; k++)
            histogram_add(&all, &tally->latency[k]);
        errors += atomic_load_explicit(&tally->errors, memory_order_relaxed) +
                  atomic_load_explicit(&tally->lost, memory_order_relaxed);
    }
    uint64_t answered = atomic_load_explicit(&all.count, memory_order_relaxed);
    watch(context, stage, clock_now_ns() - start_ns, answered, errors, &all);
}

static void wait_for_workers(struct generator *generator, size_t started, enum stage stage,
                             uint64_t start_ns, generator_watch_fn watch, void *context)
{
    uint64_t done = 0, next_watch_ns = start_ns + 1000000000u;
    while (done < started) {
        struct pollfd wait = {.fd = generator->done_fd, .events = POLLIN};
        uint64_t now = clock_now_ns();
        if (now >= next_watch_ns) {
            if (watch != NULL)
                watch_call(generator, stage, start_ns, watch, context);
            next_watch_ns += 1000000000u;
            continue;
        }
        poll(&wait, 1, (int)((next_watch_ns - now) / 1000000u) + 1);
        uint64_t ended;
        if (read(generator->done_fd, &ended, sizeof ended) == sizeof ended)
            done += ended;
    }
    for (size_t i = 0; i < started; i++)
        pthread_join(generator->workers[i].thread, NULL);
}

static void counter_add(_Atomic uint64_t *into, const _Atomic uint64_t *from)
{
    histogram_bump(into, atomic_load_explicit(from, memory_order_relaxed));
}

static void tally_add(struct tally *into, const struct tally *from)
{
    for (int i = 0; i < OPERATION_COUNT; i++)
        histogram_add(&into->latency[i], &from->latency[i]);
    counter_add(&into->errors, &from->errors);
    counter_add(&into->misses, &from->misses);
    counter_add(&into->lost, &from->lost);
    into->lost_connections += from->lost_connections;
    into->timed_out += from->timed_out;
    into->unsent += from->unsent;
    into->events += from->events;
    into->bytes_in += from->bytes_in;
    into->bytes_out += from->bytes_out;
    into->reads += from->reads;
    into->writes += from->writes;
    into->polls += from->polls;
    into->user_ns += from->user_ns;
    into->system_ns += from->system_ns;
    if (from->end_ns > into->end_ns)
        into->end_ns = from->end_ns;
    if (into->first_error[0] == '\0')
        memcpy(into->first_error, from->first_error, sizeof into->first_error);
}

static void result_collect(struct generator *generator, uint64_t start_ns, struct result *result)
{
    memset(result, 0, sizeof *result);
    for (int i = 0; i < OPERATION_COUNT; i++)
        histogram_clear(&result->tally.latency[i]);
    for (size_t i = 0; i < generator->worker_count; i++) {
        const struct worker *worker = &generator->workers[i];
        tally_add(&result->tally, &worker->tally);
        result->alive += worker->busy_alive;
        result->idle_lost += worker->idle_lost;
    }
    result->elapsed_ns = result->tally.end_ns > start_ns ? result->tally.end_ns - start_ns : 0;
}

int generator_run(struct generator *generator, enum stage stage, struct result *ret_result,
                  generator_watch_fn watch, void *context)
{
    uint64_t start_ns = clock_now_ns() + START_DELAY_NS;
    size_t started = 0;
    int error = 0;
    while (error == 0 && started < generator->worker_count) {
        struct worker *worker = &generator->workers[started];
        worker->phase = phase_of_worker(generator, stage, started, start_ns);
        error = worker_start(worker);
        started += error == 0;
    }
    if (error != 0)
        generator_stop(generator);
    wait_for_workers(generator, started, stage, start_ns, watch, context);
    if (error == 0)
        result_collect(generator, start_ns, ret_result);
    return error;
}

/* --- what must hold of sums ---- */

static bool keeps_sums(const struct generator *generator)
{
    return generator->load.txn != NULL && generator->txn.kind != TXN_LOAD_PUT;
}

int generator_check_begin(struct generator *generator, char *text)
{
    atomic_store(&generator->txn.committed, 0);
    atomic_store(&generator->txn.unknown, 0);
    for (size_t i = 0; generator->load.txn != NULL && i < generator->worker_count; i++) {
        int error = worker_txn_open(&generator->workers[i], text);
        if (error != 0)
            return error;
    }
    if (!keeps_sums(generator))
        return 0;
    return worker_txn_sum(&generator->workers[0], &generator->sum_before, text);
}

int generator_check_end(struct generator *generator, char *text)
{
    int64_t sum = 0;
    if (!keeps_sums(generator))
        return 0;
    int error = worker_txn_sum(&generator->workers[0], &sum, text);
    if (error != 0)
        return error;
    bool is_bank = generator->txn.kind == TXN_LOAD_BANK;
    int64_t keys = is_bank ? 0 : (int64_t)generator->txn.keys;
    int64_t least = generator->sum_before + keys * (int64_t)atomic_load(&generator->txn.committed);
    int64_t most = least + keys * (int64_t)atomic_load(&generator->txn.unknown);
    if (sum >= least && sum <= most)
        return 0;
    snprintf(text, TARGET_TEXT_MAX,
             "the sum of all numbers is %lld, and should be %lld to %lld: transactions were lost "
             "or done twice",
             (long long)sum, (long long)least, (long long)most);
    return KVS_ERR_CORRUPTION;
}

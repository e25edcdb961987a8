/*
 * cli/bench/generator.h: the connections, the workers, and a run's phases one after the other.
 *
 *   1. generator_open connects and greets everything, so that no phase measures connecting
 *   2. generator_run, once per phase: fill, warm up, measure; all workers start at one moment
 *   3. generator_close
 */
#ifndef CLI_BENCH_GENERATOR_H
#define CLI_BENCH_GENERATOR_H

#include "cli/bench/options.h"
#include "cli/bench/worker.h"

struct generator {
    const struct bench_options *options;
    struct target target;
    struct keyspace keyspace;
    struct load load;
    struct txn_load txn;
    int64_t sum_before; /* of the numbers that transactions keep */
    struct worker *workers;
    size_t worker_count;
    uint8_t *values;
    int done_fd;
};

enum stage { STAGE_FILL, STAGE_WARM_UP, STAGE_MEASURE };

/* The sum over all workers. */
struct result {
    struct tally tally;
    uint64_t elapsed_ns; /* from the start to the last reply */
    uint64_t alive;      /* busy connections that were left */
    uint64_t idle_lost;
};

/* Called about once a second while a phase runs, on the thread that runs it; the tallies are read
 * with the atomic operations of histogram.h. */
typedef void (*generator_watch_fn)(void *context, enum stage stage, uint64_t elapsed_ns,
                                   uint64_t answered, uint64_t errors,
                                   const struct histogram *latency);

/* Returns 0 or a negative error with a message in text (TARGET_TEXT_MAX bytes); the generator then
 * needs no closing. The options must outlive it. Blocks. */
int generator_open(struct generator *generator, const struct bench_options *options, char *text);
void generator_close(struct generator *generator);

/* Blocks until the phase has ended: when its time or number is reached, or generator_stop was
 * called, or all connections are lost. Returns 0, or a negative error when it could not start. */
int generator_run(struct generator *generator, enum stage stage, struct result *ret_result,
                  generator_watch_fn watch, void *context);

/* For rmw and bank: takes the sum before the phases whose transactions are counted, and compares it
 * with that after them. Return 0, or an error with a message. Block. */
int generator_check_begin(struct generator *generator, char *text);
int generator_check_end(struct generator *generator, char *text);

/* Ends the phase that runs and all later ones soon. Async-signal-safe. */
void generator_stop(struct generator *generator);

#endif

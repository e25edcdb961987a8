/* cli/bench/report.h: a run's numbers, for a person or as JSON; and the live line. */
#ifndef CLI_BENCH_REPORT_H
#define CLI_BENCH_REPORT_H

#include "cli/bench/generator.h"

#include <stdio.h>

struct report {
    const struct bench_options *options;
    const struct result *fill;    /* NULL: nothing was filled */
    const struct result *measure; /* NULL: only filled */
};

/* Did everything get an answer that was no error? */
bool report_is_clean(const struct report *report);

void report_print_text(const struct report *report, FILE *file);

/* One JSON object, documented in bench/README.md. False when there is no memory. */
bool report_print_json(const struct report *report, FILE *file);

/* A generator_watch_fn: rewrites one line of standard error, for a terminal. */
void report_watch(void *context, enum stage stage, uint64_t elapsed_ns, uint64_t answered,
                  uint64_t errors, const struct histogram *latency);
void report_watch_clear(void);

#endif

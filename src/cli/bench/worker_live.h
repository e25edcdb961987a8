/* cli/bench/worker_live.h: a phase of live delivery: events are appended, subscribers get them. */
#ifndef CLI_BENCH_WORKER_LIVE_H
#define CLI_BENCH_WORKER_LIVE_H

#include "cli/bench/polled.h"
#include "cli/bench/worker.h"

enum { LIVE_STAMP_SIZE = 16 }; /* an event's data is as large at least */

/* The phase, on an open client. Returns 0 or an error with a message: it could not begin. */
int worker_live_run(struct worker *worker, struct polled *polled, kvs_events *events,
                    char text[TARGET_TEXT_MAX]);

#endif

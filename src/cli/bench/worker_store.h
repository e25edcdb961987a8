/* cli/bench/worker_store.h: a phase of load through libkvs instead of sockets of our own. */
#ifndef CLI_BENCH_WORKER_STORE_H
#define CLI_BENCH_WORKER_STORE_H

#include "cli/bench/worker.h"

/* Opens the store and closes it. Returns 0 or an error with a message. Blocks. */
int worker_store_check(const struct target *target, char text[TARGET_TEXT_MAX]);

/* The phase, from first to last request; what fails is in the tally. */
void worker_store_run(struct worker *worker);

#endif

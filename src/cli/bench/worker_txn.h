/* cli/bench/worker_txn.h: a phase of transactions through libkvs, and what must hold afterwards. */
#ifndef CLI_BENCH_WORKER_TXN_H
#define CLI_BENCH_WORKER_TXN_H

#include "cli/bench/worker.h"

/* The phase, from first to last transaction; what fails is in the tally. */
void worker_txn_run(struct worker *worker);

/* Opens the worker's client, unless it is open; it stays so. Blocks. */
int worker_txn_open(struct worker *worker, char text[TARGET_TEXT_MAX]);

/* The sum of all numbers that bank and rmw keep, through the worker's client; no phase runs.
 * Returns 0 or an error with a message. Blocks. */
int worker_txn_sum(struct worker *worker, int64_t *ret_sum, char text[TARGET_TEXT_MAX]);

#endif

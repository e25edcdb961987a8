/* cli/bench/polled.h: a runtime of libkvs that a worker's own thread turns. */
#ifndef CLI_BENCH_POLLED_H
#define CLI_BENCH_POLLED_H

#include "cli/bench/target.h"

#include <kvs/kvs.h>

struct polled {
    kvs_runtime *runtime;
    uint64_t turns;
};

/* Returns 0 or an error with a message. */
int polled_open(struct polled *polled, char text[TARGET_TEXT_MAX]);
void polled_close(struct polled *polled);

/* Waits until something is ready, so long at most (-1: for ever), and does it. */
void polled_turn(struct polled *polled, int timeout_max_ms);

/* Turns until the future is ready, frees it, and returns its error, with a message. ret_pointer and
 * ret_number may be NULL. */
int polled_finish(struct polled *polled, kvs_future *future, void **ret_pointer,
                  int64_t *ret_number, char text[TARGET_TEXT_MAX]);

/* The options of a store on the target. */
struct kvs_store_options polled_options(const struct target *target);

#endif

/* cli/bench/worker_events.h: a phase of load on event streams, through libkvs: esdb://. */
#ifndef CLI_BENCH_WORKER_EVENTS_H
#define CLI_BENCH_WORKER_EVENTS_H

#include "cli/bench/worker.h"

/* Connects and closes. Returns 0 or an error with a message. Blocks. */
int worker_events_check(const struct target *target, char text[TARGET_TEXT_MAX]);

/* The phase, from first to last request; what fails is in the tally. */
void worker_events_run(struct worker *worker);

/* For its parts: counts an error, and keeps the first one's text. */
void worker_events_note(struct worker *worker, const char *text);
bool worker_events_may_issue(const struct worker *worker, uint64_t now);

#endif

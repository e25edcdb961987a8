/* engine/log/crew.h: a few threads for one piece of work, while an engine is opened. */
#ifndef ENGINE_LOG_CREW_H
#define ENGINE_LOG_CREW_H

#include <stdint.h>

#define CREW_MAX 8u

/* How many hands are worth it: one for each `unit` of the size, as far as there are processors. */
unsigned crew_count(uint64_t size, uint64_t unit);

/* Calls work(arg, i) for every i below `count` (at most CREW_MAX), each on a thread of its own
 * where there is one to be had, and returns when all have. It may block. */
void crew_run(unsigned count, void (*work)(void *arg, unsigned i), void *arg);

#endif

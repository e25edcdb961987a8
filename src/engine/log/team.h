/* engine/log/team.h: a few threads for one piece of work, while an engine is opened. */
#ifndef ENGINE_LOG_TEAM_H
#define ENGINE_LOG_TEAM_H

#include <stdint.h>

#define TEAM_MAX 8u

/* How many hands are worth it: one for each `unit` of the size, as far as there are processors. */
unsigned team_count(uint64_t size, uint64_t unit);

/* Calls work(arg, i) for every i below `count` (at most TEAM_MAX) and returns when all have. It may
 * block. More than one: each on a thread of its own, where there is one to be had; these give way
 * to whoever wakes up, such as one who asks for a key while the index is made. */
void team_run(unsigned count, void (*work)(void *arg, unsigned i), void *arg);

#endif

/* base/rand.h: a small fast generator (xorshift64*) for jitter, load and seeded tests; no secrets.
 */
#ifndef BASE_RAND_H
#define BASE_RAND_H

#include <stdint.h>

struct rand {
    uint64_t state;
};

/* The same seed gives the same numbers everywhere. */
static inline struct rand rand_seed(uint64_t seed)
{
    seed += 0x9e3779b97f4a7c15u; /* splitmix64, so that near seeds differ and 0 is no trap */
    seed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9u;
    seed = (seed ^ (seed >> 27)) * 0x94d049bb133111ebu;
    seed ^= seed >> 31;
    return (struct rand){.state = seed != 0 ? seed : 1};
}

static inline uint64_t rand_u64(struct rand *rand)
{
    uint64_t x = rand->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    rand->state = x;
    return x * 0x2545f4914f6cdd1du;
}

/* 0 <= result < bound; bound must not be 0. */
static inline uint64_t rand_below(struct rand *rand, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)rand_u64(rand) * bound) >> 64);
}

static inline double rand_unit(struct rand *rand)
{
    return (double)(rand_u64(rand) >> 11) * 0x1.0p-53;
}

#endif

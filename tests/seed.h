/* tests/seed.h: where a random test begins. */
#ifndef TESTS_SEED_H
#define TESTS_SEED_H

#include "base/clock.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The environment's KVS_TEST_SEED, else the clock. Printed. */
static inline uint64_t test_seed(void)
{
    const char *text = getenv("KVS_TEST_SEED");
    uint64_t seed = clock_wall_ms() ^ (uint64_t)getpid();
    if (text != NULL)
        seed = strtoull(text, NULL, 0);
    printf("# KVS_TEST_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

#endif

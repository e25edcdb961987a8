/* tests/fault/stride.h: of many places that can fail, which ones does a run try? */
#ifndef TESTS_FAULT_STRIDE_H
#define TESTS_FAULT_STRIDE_H

#include <stdint.h>
#include <stdlib.h>

/* Every so many, so that there are about `runs_max`; all when KVS_TEST_EVERY is set. Odd strides
 * drift over the places that are hit regularly. */
static inline uint64_t fault_stride(uint64_t hits, uint64_t runs_max)
{
    if (hits <= runs_max || getenv("KVS_TEST_EVERY") != NULL)
        return 1;
    return hits / runs_max | 1;
}

/* The same where a run ends at the first place that is not reached: every how many. */
static inline uint64_t fault_step(uint64_t step)
{
    return getenv("KVS_TEST_EVERY") != NULL ? 1 : step;
}

#endif

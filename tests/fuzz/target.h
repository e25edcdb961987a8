/* tests/fuzz/target.h: what each target has, and how it says that something does not hold. */
#ifndef TESTS_FUZZ_TARGET_H
#define TESTS_FUZZ_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Also in builds without asserts. */
static inline void require(bool holds)
{
    if (!holds)
        abort();
}

#endif

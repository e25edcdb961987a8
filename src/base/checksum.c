/* base/checksum.c: see base/checksum.h. Inlined so that short records cost a few nanoseconds. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/checksum.h"

uint32_t checksum(const void *data, size_t size)
{
    return (uint32_t)XXH3_64bits(data, size);
}

uint32_t checksum_seeded(const void *data, size_t size, uint64_t seed)
{
    return (uint32_t)XXH3_64bits_withSeed(data, size, seed);
}

uint64_t checksum_long(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

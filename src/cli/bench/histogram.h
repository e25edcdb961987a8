/*
 * cli/bench/histogram.h: latencies in log-linear buckets: constant memory, constant time to record.
 *
 * Values below 256 have a bucket each; above that every power of two is cut into 128 equal
 * buckets, so a value read back is at most 1/128 (0.8 %) above the one recorded. Minimum, maximum
 * and sum are exact. The unit is the caller's; kvs-bench records nanoseconds.
 *
 * One thread records; another may read meanwhile (the live line) and sees counts of moments ago.
 */
#ifndef CLI_BENCH_HISTOGRAM_H
#define CLI_BENCH_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

enum {
    HISTOGRAM_SUB_BITS = 7,
    HISTOGRAM_VALUE_BITS = 44, /* nearly five hours in nanoseconds; longer ones count as that */
    HISTOGRAM_BUCKETS = (HISTOGRAM_VALUE_BITS - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS,
};

struct histogram {
    _Atomic uint64_t count;
    _Atomic uint64_t sum;
    _Atomic uint64_t min; /* UINT64_MAX while empty */
    _Atomic uint64_t max;
    _Atomic uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_clear(struct histogram *histogram);
void histogram_add(struct histogram *into, const struct histogram *from);

/* The smallest bucket limit that at least `percent` of the values do not exceed, and never more
 * than the maximum; 0 while empty. percent 100 gives the maximum exactly. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);
double histogram_mean(const struct histogram *histogram);

static inline uint32_t histogram_bucket(uint64_t value)
{
    if (value >> HISTOGRAM_VALUE_BITS != 0)
        return HISTOGRAM_BUCKETS - 1;
    uint32_t top = 63u - (uint32_t)__builtin_clzll(value | (1u << HISTOGRAM_SUB_BITS));
    uint32_t shift = top - HISTOGRAM_SUB_BITS;
    return (shift << HISTOGRAM_SUB_BITS) + (uint32_t)(value >> shift);
}

/* The largest value that falls into a bucket. */
static inline uint64_t histogram_bucket_limit(uint32_t bucket)
{
    if (bucket < 2u << HISTOGRAM_SUB_BITS)
        return bucket;
    uint32_t shift = (bucket >> HISTOGRAM_SUB_BITS) - 1;
    uint64_t step = bucket - (shift << HISTOGRAM_SUB_BITS);
    return ((step + 1) << shift) - 1;
}

/* relaxed everywhere: numbers, not messages; there is one writer, so load and store do for an
 * increment and cost no locked instruction. */
static inline void histogram_bump(_Atomic uint64_t *number, uint64_t by)
{
    uint64_t now = atomic_load_explicit(number, memory_order_relaxed);
    atomic_store_explicit(number, now + by, memory_order_relaxed);
}

static inline void histogram_record(struct histogram *histogram, uint64_t value)
{
    histogram_bump(&histogram->buckets[histogram_bucket(value)], 1);
    histogram_bump(&histogram->count, 1);
    histogram_bump(&histogram->sum, value);
    if (value < atomic_load_explicit(&histogram->min, memory_order_relaxed))
        atomic_store_explicit(&histogram->min, value, memory_order_relaxed);
    if (value > atomic_load_explicit(&histogram->max, memory_order_relaxed))
        atomic_store_explicit(&histogram->max, value, memory_order_relaxed);
}

#endif

/* cli/bench/histogram.c: adding up and reading back; recording is in the header, inline. */
#include "cli/bench/histogram.h"

static uint64_t load(const _Atomic uint64_t *number)
{
    return atomic_load_explicit(number, memory_order_relaxed);
}

static void store(_Atomic uint64_t *number, uint64_t value)
{
    atomic_store_explicit(number, value, memory_order_relaxed);
}

void histogram_clear(struct histogram *histogram)
{
    store(&histogram->count, 0);
    store(&histogram->sum, 0);
    store(&histogram->min, UINT64_MAX);
    store(&histogram->max, 0);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        store(&histogram->buckets[i], 0);
}

void histogram_add(struct histogram *into, const struct histogram *from)
{
    histogram_bump(&into->count, load(&from->count));
    histogram_bump(&into->sum, load(&from->sum));
    if (load(&from->min) < load(&into->min))
        store(&into->min, load(&from->min));
    if (load(&from->max) > load(&into->max))
        store(&into->max, load(&from->max));
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        histogram_bump(&into->buckets[i], load(&from->buckets[i]));
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent)
{
    uint64_t count = load(&histogram->count);
    uint64_t max = load(&histogram->max);
    if (count == 0)
        return 0;
    double exact = (double)count * percent / 100.0;
    uint64_t rank = exact < 1.0 ? 1 : (uint64_t)exact;
    if ((double)rank < exact)
        rank++;
    if (rank >= count)
        return max;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += load(&histogram->buckets[i]);
        if (seen >= rank)
            return histogram_bucket_limit(i) < max ? histogram_bucket_limit(i) : max;
    }
    return max; /* only for a reader beside the writer, who saw a count ahead of its bucket */
}

double histogram_mean(const struct histogram *histogram)
{
    uint64_t count = load(&histogram->count);
    return count > 0 ? (double)load(&histogram->sum) / (double)count : 0.0;
}

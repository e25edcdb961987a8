/*
 * cli/bench/keyspace.h: which key comes next, and how it is written.
 *
 * Keys are numbers 0..count-1, written as decimal digits at the end of key_size bytes, in front of
 * them zeros, and "key:" at the beginning when there are at least 12 bytes.
 *
 * uniform: every key equally often. zipfian: the k-th most popular key is drawn in proportion to
 * 1/k^0.99, by the rejection-free method of Gray et al., "Quickly Generating Billion-Record
 * Synthetic Databases" (1994), which YCSB made customary; the ranks are then scattered over the
 * keys by a fixed permutation, so that popular keys are no neighbours. A permutation, unlike a
 * hash, leaves no key out.
 */
#ifndef CLI_BENCH_KEYSPACE_H
#define CLI_BENCH_KEYSPACE_H

#include "base/rand.h"

#include <stdbool.h>
#include <stddef.h>

enum { KEY_SIZE_MAX = 8192, KEY_PREFIXED_SIZE_MIN = 12 };

#define KEY_COUNT_MAX ((uint64_t)1 << 32)

enum distribution { DISTRIBUTION_UNIFORM, DISTRIBUTION_ZIPFIAN };

struct keyspace {
    uint64_t count;
    size_t key_size;
    size_t digits; /* how many of the last bytes differ between keys */
    enum distribution distribution;
    uint64_t stride; /* the permutation: rank * stride mod count */
    double zeta, eta, alpha, second_limit;
};

/* False when `count` different keys do not fit into `key_size` bytes, or either is out of range. */
bool keyspace_init(struct keyspace *keyspace, uint64_t count, size_t key_size,
                   enum distribution distribution);

/* The number of the next key, below count. Any thread, each with its own rand. */
uint64_t keyspace_draw(const struct keyspace *keyspace, struct rand *rand);

/* The popularity rank (0 first) before it is scattered; for a uniform space the key itself. */
uint64_t keyspace_draw_rank(const struct keyspace *keyspace, struct rand *rand);

/* Writes the parts all keys share; keyspace_write then only needs to set the digits. */
void keyspace_write_template(const struct keyspace *keyspace, uint8_t *key);
void keyspace_write(const struct keyspace *keyspace, uint64_t number, uint8_t *key);

#endif

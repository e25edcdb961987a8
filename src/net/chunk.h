/*
 * net/chunk.h: memory that sockets are read into, counted by those who point into it.
 *
 * All connections of a loop read into one chunk, one behind the other, so an idle connection holds
 * no memory. Requests that outlive the turn hold the chunk with a reference instead of copying. A
 * chunk and its pool belong to one loop: the counts are plain numbers.
 */
#ifndef NET_CHUNK_H
#define NET_CHUNK_H

#include "base/slice.h"

struct chunk_pool;

struct chunk {
    struct chunk_pool *pool; /* NULL: freed with its last reference */
    struct chunk *next;      /* in the pool */
    uint32_t refs;
    size_t capacity;
    uint8_t data[];
};

struct chunk_pool {
    struct chunk *current; /* the pool's own reference */
    size_t used;           /* of current */
    struct chunk *spare;
    unsigned spares;
};

/* One reference, the caller's; NULL when there is no memory. */
struct chunk *chunk_new(size_t capacity);

static inline struct chunk *chunk_ref(struct chunk *chunk)
{
    chunk->refs++;
    return chunk;
}

void chunk_unref(struct chunk *chunk);

/* Every reference must have been given back. */
void chunk_pool_deinit(struct chunk_pool *pool);

/* A region to read into, of pool->current; empty when there is no memory. Valid until the next
 * call. */
kvs_slice chunk_pool_region(struct chunk_pool *pool);

/* The first `size` bytes of the region were filled, and may have been referenced. */
void chunk_pool_advance(struct chunk_pool *pool, size_t size);

#endif

/* net/chunk.c: see net/chunk.h. */
#include "net/chunk.h"

#include "base/mem.h"

#include <assert.h>

#define CHUNK_SIZE (128u * 1024)
#define REGION_SIZE_MIN (32u * 1024) /* what one read should be able to take */
#define SPARES_MAX 64u               /* 8 MiB a loop */

struct chunk *chunk_new(size_t capacity)
{
    struct chunk *chunk = mem_alloc(sizeof *chunk + capacity);
    if (chunk == NULL)
        return NULL;
    chunk->pool = NULL;
    chunk->next = NULL;
    chunk->refs = 1;
    chunk->capacity = capacity;
    return chunk;
}

void chunk_unref(struct chunk *chunk)
{
    assert(chunk->refs > 0);
    if (--chunk->refs > 0)
        return;
    struct chunk_pool *pool = chunk->pool;
    if (pool == NULL || pool->spares >= SPARES_MAX) {
        mem_free(chunk);
        return;
    }
    chunk->next = pool->spare;
    pool->spare = chunk;
    pool->spares++;
}

void chunk_pool_deinit(struct chunk_pool *pool)
{
    if (pool->current != NULL) {
        assert(pool->current->refs == 1 && "a request still points into what was read");
        mem_free(pool->current);
    }
    while (pool->spare != NULL) {
        struct chunk *chunk = pool->spare;
        pool->spare = chunk->next;
        mem_free(chunk);
    }
    *pool = (struct chunk_pool){0};
}

static struct chunk *take_spare(struct chunk_pool *pool)
{
    struct chunk *chunk = pool->spare;
    if (chunk == NULL) {
        chunk = chunk_new(CHUNK_SIZE);
        if (chunk != NULL)
            chunk->pool = pool;
        return chunk;
    }
    pool->spare = chunk->next;
    pool->spares--;
    chunk->refs = 1;
    return chunk;
}

kvs_slice chunk_pool_region(struct chunk_pool *pool)
{
    if (pool->current != NULL && pool->current->refs == 1)
        pool->used = 0; /* nobody points into it any more: the same warm bytes again */
    if (pool->current != NULL && pool->current->capacity - pool->used < REGION_SIZE_MIN) {
        chunk_unref(pool->current);
        pool->current = NULL;
    }
    if (pool->current == NULL) {
        pool->current = take_spare(pool);
        pool->used = 0;
        if (pool->current == NULL)
            return slice_make(NULL, 0);
    }
    return slice_make(pool->current->data + pool->used, pool->current->capacity - pool->used);
}

void chunk_pool_advance(struct chunk_pool *pool, size_t size)
{
    assert(size <= pool->current->capacity - pool->used);
    pool->used += (size + 15) & ~(size_t)15;
    if (pool->used > pool->current->capacity)
        pool->used = pool->current->capacity;
}

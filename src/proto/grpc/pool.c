/*
 * proto/grpc/pool.c: four sizes of blocks, each with a list of free ones.
 *
 * A block says its size in front of the bytes it lends, because free comes without a size. Blocks
 * over the largest class come from and go to base/mem.h. One thread, as the session.
 */
#include "proto/grpc/pool.h"

#include "base/mem.h"

#include <assert.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What one connection may keep; a stream takes about 1 KiB, so this is 256 calls at once. */
#ifdef __SANITIZE_ADDRESS__
#define FREE_BYTES_MAX 0 /* the sanitizer shall see every block */
#else
#define FREE_BYTES_MAX (256 * 1024)
#endif

static const size_t class_sizes[POOL_CLASSES] = {64, 160, 320, 640};

struct pool_block {
    union {
        size_t size; /* in use: how many bytes may be used; a class's size or more */
        struct pool_block *next;
    };
    alignas(max_align_t) uint8_t bytes[];
};

static unsigned class_of(size_t size)
{
    unsigned class = 0;
    while (class < POOL_CLASSES && class_sizes[class] < size)
        class ++;
    return class;
}

static void *pool_malloc(size_t size, void *arg)
{
    struct pool *pool = arg;
    unsigned class = class_of(size);
    struct pool_block *block;
    if (class < POOL_CLASSES) {
        size = class_sizes[class];
        block = pool->free[class];
        if (block != NULL) {
            pool->free[class] = block->next;
            pool->free_bytes -= size;
            block->size = size;
            return block->bytes;
        }
    }
    size_t whole;
    if (__builtin_add_overflow(size, sizeof *block, &whole))
        return NULL;
    block = mem_alloc(whole);
    if (block == NULL)
        return NULL;
    block->size = size;
    return block->bytes;
}

static struct pool_block *block_of(void *memory)
{
    return (struct pool_block *)((uint8_t *)memory - offsetof(struct pool_block, bytes));
}

static void pool_free(void *memory, void *arg)
{
    struct pool *pool = arg;
    if (memory == NULL)
        return;
    struct pool_block *block = block_of(memory);
    unsigned class = class_of(block->size);
    if (class == POOL_CLASSES || pool->free_bytes + block->size > FREE_BYTES_MAX) {
        mem_free(block);
        return;
    }
    pool->free_bytes += block->size;
    block->next = pool->free[class];
    pool->free[class] = block;
}

static void *pool_calloc(size_t count, size_t size, void *arg)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    void *memory = pool_malloc(bytes, arg);
    if (memory != NULL)
        memset(memory, 0, bytes);
    return memory;
}

static void *pool_realloc(void *memory, size_t size, void *arg)
{
    if (memory == NULL)
        return pool_malloc(size, arg);
    struct pool_block *block = block_of(memory);
    if (size <= block->size)
        return memory;
    void *larger = pool_malloc(size, arg);
    if (larger == NULL)
        return NULL;
    memcpy(larger, memory, block->size);
    pool_free(memory, arg);
    return larger;
}

nghttp2_mem pool_memory(struct pool *pool)
{
    return (nghttp2_mem){.mem_user_data = pool,
                         .malloc = pool_malloc,
                         .free = pool_free,
                         .calloc = pool_calloc,
                         .realloc = pool_realloc};
}

void pool_deinit(struct pool *pool)
{
    for (unsigned class = 0; class < POOL_CLASSES; class ++) {
        while (pool->free[class] != NULL) {
            struct pool_block *block = pool->free[class];
            pool->free[class] = block->next;
            mem_free(block);
        }
    }
    pool->free_bytes = 0;
}

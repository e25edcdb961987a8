/* base/arena.c: see the header. */
#include "base/arena.h"

#include "base/mem.h"

#include <stdint.h>

#define ARENA_BLOCK_SIZE (1024u - 64)
#define ARENA_BLOCK_SIZE_MAX (256u * 1024)
#define ARENA_BLOCK_SIZE_KEPT_MAX (16u * 1024)
#define ARENA_ALIGNMENT _Alignof(max_align_t)

struct arena_block {
    struct arena_block *next;
    size_t size; /* of bytes */
    _Alignas(max_align_t) uint8_t bytes[];
};

/* Blocks grow with what is there already: their number stays small. */
static struct arena_block *block_new(const struct arena *arena, size_t wanted)
{
    size_t size = arena->bytes < ARENA_BLOCK_SIZE ? ARENA_BLOCK_SIZE : arena->bytes;
    if (size > ARENA_BLOCK_SIZE_MAX)
        size = ARENA_BLOCK_SIZE_MAX;
    if (size < wanted)
        size = wanted;
    struct arena_block *block = mem_alloc(sizeof *block + size);
    if (block != NULL)
        block->size = size;
    return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    if (size > SIZE_MAX / 2)
        return NULL;
    size_t aligned = (size + ARENA_ALIGNMENT - 1) & ~(ARENA_ALIGNMENT - 1);
    if (arena->blocks == NULL || arena->blocks->size - arena->used < aligned) {
        struct arena_block *block = block_new(arena, aligned);
        if (block == NULL)
            return NULL;
        block->next = arena->blocks;
        arena->blocks = block;
        arena->used = 0;
        arena->bytes += block->size;
    }
    void *memory = arena->blocks->bytes + arena->used;
    arena->used += aligned;
    return memory;
}

void *arena_zalloc(struct arena *arena, size_t size)
{
    void *memory = arena_alloc(arena, size);
    if (memory != NULL)
        memset(memory, 0, size);
    return memory;
}

void *arena_copy(struct arena *arena, kvs_slice bytes)
{
    void *memory = arena_alloc(arena, bytes.size);
    if (memory != NULL && bytes.size > 0)
        memcpy(memory, bytes.data, bytes.size);
    return memory;
}

void arena_reset(struct arena *arena)
{
    struct arena_block *kept = arena->blocks;
    if (kept != NULL && kept->size > ARENA_BLOCK_SIZE_KEPT_MAX)
        kept = NULL;
    struct arena_block *next;
    for (struct arena_block *block = arena->blocks; block != NULL; block = next) {
        next = block->next;
        if (block != kept)
            mem_free(block);
    }
    if (kept != NULL)
        kept->next = NULL;
    *arena = (struct arena){.blocks = kept, .bytes = kept != NULL ? kept->size : 0};
}

void arena_rewind(struct arena *arena, const struct arena *mark)
{
    while (arena->blocks != mark->blocks) {
        struct arena_block *block = arena->blocks;
        arena->blocks = block->next;
        mem_free(block);
    }
    *arena = *mark;
}

void arena_deinit(struct arena *arena)
{
    arena_reset(arena);
    mem_free(arena->blocks);
    *arena = (struct arena){0};
}

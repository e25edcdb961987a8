/*
 * base/arena.h: memory that is given back all at once: everything one request needs.
 *
 * arena_alloc never frees a piece; arena_reset makes all of it free again and keeps one
 * block, so that the next small request allocates nothing.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/slice.h"

struct arena_block;

struct arena {
    struct arena_block *blocks; /* the current one first */
    size_t used;                /* of the current one */
    size_t bytes;               /* of all blocks */
};

/* Zeroed memory is an empty arena. Aligned for any type; not zeroed. NULL: no memory. */
void *arena_alloc(struct arena *arena, size_t size);
void *arena_zalloc(struct arena *arena, size_t size);
/* A copy; size 0 gives a non-NULL pointer too. */
void *arena_copy(struct arena *arena, kvs_slice bytes);
void arena_reset(struct arena *arena);
/* A copy of the struct is a mark: what was allocated after it is free again. Neither the arena nor
 * an older mark was gone back to since. */
void arena_rewind(struct arena *arena, const struct arena *mark);
void arena_deinit(struct arena *arena);

#endif

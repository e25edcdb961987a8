/*
 * engine/log/slab.h: memory for the index: many objects of few sizes, allocated and freed by one
 * thread (the writer), without a header per object.
 *
 * Sizes are rounded up to 8; up to SLAB_SIZE_MAX they come from chunks, larger ones from the heap.
 * Chunks are given back when the slab is freed.
 */
#ifndef ENGINE_LOG_SLAB_H
#define ENGINE_LOG_SLAB_H

#include <stddef.h>
#include <stdint.h>

#define SLAB_SIZE_MAX 2048u
#define SLAB_LINE 64u /* of the processor's cache: objects of whole lines mostly begin with one */
#define SLAB_CLASSES (SLAB_SIZE_MAX / 8 + 1)
#define SLAB_RESERVES 4u

struct slab_object {
    struct slab_object *next;
};

struct slab_chunk;
struct slab_large;

struct slab {
    struct slab_object *free[SLAB_CLASSES];
    struct slab_chunk *chunks;
    struct slab_chunk *reserves[SLAB_RESERVES]; /* the next ones */
    unsigned reserves_count;
    struct slab_large *large;
    uint8_t *fresh; /* not yet handed out, of the newest chunk */
    size_t fresh_size;
    size_t chunk_size_next;
    uint64_t used_bytes; /* handed out */
};

void slab_init(struct slab *slab);
void slab_deinit(struct slab *slab); /* with all objects that are left */

/* Makes all that `from` has handed out, and its memory, part of `slab`; `from` is empty then. */
void slab_absorb(struct slab *slab, struct slab *from);

/* 8-byte aligned; NULL when there is no memory. */
void *slab_alloc(struct slab *slab, size_t size);
/* Memory that will be needed before long, for somebody to have its pages made, on any thread, until
 * slab_deinit: it may be in use meanwhile. NULL: none. */
uint8_t *slab_reserve(struct slab *slab, size_t *ret_size);
/* `size` as it was asked for. */
void slab_free(struct slab *slab, void *object, size_t size);

#endif

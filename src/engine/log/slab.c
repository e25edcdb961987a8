/*
 * engine/log/slab.c: size classes of 8 bytes over growing chunks; see engine/log/slab.h.
 *
 * Large objects are heap allocations of their own, linked so that slab_deinit finds them. Under
 * AddressSanitizer all objects are: a use after free or an overflow then shows.
 */
#include "engine/log/slab.h"

#include "base/fault.h"
#include "base/mem.h"

#include <assert.h>
#include <sys/mman.h>

struct slab_large {
    struct slab_large *next;
    struct slab_large *previous;
};

static void *large_alloc(struct slab *slab, size_t size)
{
    struct slab_large *object = mem_alloc(sizeof *object + size);
    if (object == NULL)
        return NULL;
    object->previous = NULL;
    object->next = slab->large;
    if (object->next != NULL)
        object->next->previous = object;
    slab->large = object;
    slab->used_bytes += size;
    return object + 1;
}

static void large_free(struct slab *slab, void *memory, size_t size)
{
    struct slab_large *object = (struct slab_large *)memory - 1;
    slab->used_bytes -= size;
    if (object->previous != NULL)
        object->previous->next = object->next;
    else
        slab->large = object->next;
    if (object->next != NULL)
        object->next->previous = object->previous;
    mem_free(object);
}

static void large_free_all(struct slab *slab)
{
    while (slab->large != NULL) {
        struct slab_large *next = slab->large->next;
        mem_free(slab->large);
        slab->large = next;
    }
}

static void large_absorb(struct slab *slab, struct slab *from)
{
    struct slab_large *last = from->large;
    while (last != NULL && last->next != NULL)
        last = last->next;
    if (last != NULL) {
        last->next = slab->large;
        if (slab->large != NULL)
            slab->large->previous = last;
        slab->large = from->large;
    }
    slab->used_bytes += from->used_bytes;
}

#ifdef __SANITIZE_ADDRESS__

void slab_absorb(struct slab *slab, struct slab *from)
{
    large_absorb(slab, from);
    *from = (struct slab){0};
}

uint8_t *slab_reserve(struct slab *slab, size_t *ret_size)
{
    (void)slab;
    (void)ret_size;
    return NULL;
}

void slab_init(struct slab *slab)
{
    *slab = (struct slab){0};
}

void slab_deinit(struct slab *slab)
{
    large_free_all(slab);
}

void *slab_alloc(struct slab *slab, size_t size)
{
    return large_alloc(slab, size);
}

void slab_free(struct slab *slab, void *memory, size_t size)
{
    large_free(slab, memory, size);
}

#else

#define CHUNK_SIZE_FIRST (64u * 1024)
#define CHUNK_SIZE_LAST (2u * 1024 * 1024)      /* a huge page: the index is read at random */
#define USED_PER_RESERVE (16 * CHUNK_SIZE_LAST) /* of so much, one more chunk is not much */

struct slab_chunk {
    struct slab_chunk *next;
    size_t size;
};

void slab_init(struct slab *slab)
{
    *slab = (struct slab){.chunk_size_next = CHUNK_SIZE_FIRST};
}

void slab_deinit(struct slab *slab)
{
    large_free_all(slab);
    struct slab_chunk *chunk = slab->chunks;
    while (chunk != NULL) {
        struct slab_chunk *next = chunk->next;
        mem_free(chunk);
        chunk = next;
    }
    for (unsigned i = 0; i < slab->reserves_count; i++)
        mem_free(slab->reserves[i]);
    *slab = (struct slab){0};
}

static size_t size_round(size_t size)
{
    return size < 8 ? 8 : (size + 7) & ~(size_t)7;
}

/* What is left of the old chunk goes to the free lists, so nothing is lost but the rounding. */
static void fresh_retire(struct slab *slab)
{
    while (slab->fresh_size >= 8) {
        size_t size = slab->fresh_size < SLAB_SIZE_MAX ? slab->fresh_size : SLAB_SIZE_MAX;
        struct slab_object *object = (struct slab_object *)(void *)slab->fresh;
        object->next = slab->free[size / 8];
        slab->free[size / 8] = object;
        slab->fresh += size;
        slab->fresh_size -= size;
    }
}

/* What `from` has free but never handed out goes to its free lists, and these before those of
 * `slab`: all of it is used before there is a new chunk. */
void slab_absorb(struct slab *slab, struct slab *from)
{
    fresh_retire(from);
    for (unsigned i = 0; i < SLAB_CLASSES; i++) {
        struct slab_object *last = from->free[i];
        while (last != NULL && last->next != NULL)
            last = last->next;
        if (last == NULL)
            continue;
        last->next = slab->free[i];
        slab->free[i] = from->free[i];
    }
    struct slab_chunk *last = from->chunks;
    while (last != NULL && last->next != NULL)
        last = last->next;
    if (last != NULL) {
        last->next = slab->chunks;
        slab->chunks = from->chunks;
    }
    large_absorb(slab, from);
    slab_init(from);
}

static struct slab_chunk *chunk_new(size_t size)
{
    struct slab_chunk *chunk =
        mem_aligned_alloc(size == CHUNK_SIZE_LAST ? CHUNK_SIZE_LAST : 64, size);
    if (chunk != NULL && size == CHUNK_SIZE_LAST)
        madvise(chunk, size, MADV_HUGEPAGE); /* a wish: without it, it is only slower */
    return chunk;
}

/* How many to have. While a snapshot is held, nodes are copied as they are written: several chunks
 * in 20 ms, and the system took 5 ms to clear one. */
static unsigned reserves_wanted(const struct slab *slab)
{
    if (slab->chunk_size_next < CHUNK_SIZE_LAST)
        return 0;
    if (slab->used_bytes < USED_PER_RESERVE)
        return slab->fresh_size <= CHUNK_SIZE_LAST / 2 ? 1 : 0;
    uint64_t wanted = slab->used_bytes / USED_PER_RESERVE;
    return wanted < SLAB_RESERVES ? (unsigned)wanted : SLAB_RESERVES;
}

uint8_t *slab_reserve(struct slab *slab, size_t *ret_size)
{
    if (slab->reserves_count >= reserves_wanted(slab))
        return NULL;
    struct slab_chunk *chunk = chunk_new(CHUNK_SIZE_LAST);
    if (chunk != NULL)
        slab->reserves[slab->reserves_count++] = chunk;
    *ret_size = CHUNK_SIZE_LAST;
    return (uint8_t *)chunk;
}

/* The one that was made first: its pages are there most likely. */
static struct slab_chunk *reserve_take(struct slab *slab)
{
    if (slab->reserves_count == 0)
        return NULL;
    struct slab_chunk *first = slab->reserves[0];
    slab->reserves_count--;
    for (unsigned i = 0; i < slab->reserves_count; i++)
        slab->reserves[i] = slab->reserves[i + 1];
    return first;
}

static int chunk_add(struct slab *slab)
{
    size_t size = slab->chunk_size_next;
    struct slab_chunk *chunk = reserve_take(slab);
    if (chunk == NULL)
        chunk = chunk_new(size);
    if (chunk == NULL)
        return -1;
    fresh_retire(slab);
    chunk->size = size;
    chunk->next = slab->chunks;
    slab->chunks = chunk;
    slab->fresh = (uint8_t *)chunk + 64;
    slab->fresh_size = size - 64;
    if (slab->chunk_size_next < CHUNK_SIZE_LAST)
        slab->chunk_size_next *= 2;
    return 0;
}

/* Objects of whole cache lines begin with one; what is left before them goes to the free lists. */
static void fresh_align(struct slab *slab, size_t size)
{
    size_t gap = -(uintptr_t)slab->fresh % SLAB_LINE;
    if (size % SLAB_LINE != 0 || gap == 0 || slab->fresh_size < size + gap)
        return;
    struct slab_object *object = (struct slab_object *)(void *)slab->fresh;
    object->next = slab->free[gap / 8];
    slab->free[gap / 8] = object;
    slab->fresh += gap;
    slab->fresh_size -= gap;
}

void *slab_alloc(struct slab *slab, size_t size)
{
    size = size_round(size);
    if (size > SLAB_SIZE_MAX)
        return large_alloc(slab, size);
    if (fault_hit(FAULT_ALLOC))
        return NULL;
    struct slab_object *object = slab->free[size / 8];
    if (object != NULL) {
        slab->free[size / 8] = object->next;
        __builtin_prefetch(object->next, 1); /* the next one to be handed out */
    } else {
        if (slab->fresh_size < size && chunk_add(slab) != 0)
            return NULL;
        fresh_align(slab, size);
        object = (struct slab_object *)(void *)slab->fresh;
        slab->fresh += size;
        slab->fresh_size -= size;
    }
    slab->used_bytes += size;
    return object;
}

void slab_free(struct slab *slab, void *memory, size_t size)
{
    size = size_round(size);
    assert(slab->used_bytes >= size);
    if (size > SLAB_SIZE_MAX) {
        large_free(slab, memory, size);
        return;
    }
    slab->used_bytes -= size;
    struct slab_object *object = memory;
    object->next = slab->free[size / 8];
    slab->free[size / 8] = object;
}

#endif

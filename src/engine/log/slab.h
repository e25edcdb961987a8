/*
 * engine/log/slab.h: memory for the index: many objects of few sizes, allocated and freed by one
 * thread (the writer), without a header per object.
 *
 * Sizes are rounded up to 8; up to SLAB_SIZE_MAX they come from chunks, larger ones from the heap.
 * What was freed is used again. Chunks of which nothing is in use are given back to the system when
 * the slab is freed, or by a trim: that takes all free objects away from the slab, looks through
 * them on any thread, and brings back those that stay. Nothing is counted for it meanwhile, so it
 * costs nobody anything who allocates and frees. Where the system has no more memory, the slab
 * takes back what the trim has.
 */
#ifndef ENGINE_LOG_SLAB_H
#define ENGINE_LOG_SLAB_H

#include <stdatomic.h>
#include <stdbool.h>
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
struct slab_trim;

struct slab {
    struct slab_object *free[SLAB_CLASSES];
    struct slab_chunk *chunks;
    struct slab_chunk *reserves[SLAB_RESERVES]; /* the next ones */
    unsigned reserves_count;
    struct slab_large *large;
    uint8_t *fresh; /* not yet handed out, of the newest chunk */
    size_t fresh_size;
    uint64_t used_bytes;    /* handed out, ... */
    uint64_t large_bytes;   /* ... and of it, large objects */
    uint64_t chunk_bytes;   /* with those that a trim has */
    uint64_t trim_below;    /* of chunks, to be in use before the next trim */
    struct slab_trim *trim; /* that has what was free; or NULL */
};

enum slab_trim_phase { SLAB_TRIM_COUNT, SLAB_TRIM_SIFT, SLAB_TRIM_DROP };

enum slab_trim_turn { SLAB_TRIM_NOBODY, SLAB_TRIM_STEP, SLAB_TRIM_TAKEN_BACK };

struct slab_trim {
    _Atomic int turn; /* enum slab_trim_turn: who uses what follows; the last one keeps it */
    enum slab_trim_phase phase;
    unsigned class;             /* that it is at, ... */
    struct slab_object **link;  /* ... and to the next object of it, ... */
    struct slab_object *before; /* ... and the one that stays before that, or NULL */
    struct slab_object *first[SLAB_CLASSES];
    struct slab_object *last[SLAB_CLASSES]; /* NULL: not known yet, or none */
    struct slab_chunk *chunks;
    uint64_t dropped_bytes;
};

void slab_init(struct slab *slab);
void slab_deinit(struct slab *slab); /* with all objects that are left */

/* Makes all that `from` has handed out, and its memory, part of `slab`; `from` is empty then. */
void slab_absorb(struct slab *slab, struct slab *from);

/* 8-byte aligned; NULL when there is no memory. */
void *slab_alloc(struct slab *slab, size_t size);
/* Memory that will be needed before long, for somebody to have its pages made, on any thread, until
 * slab_deinit or slab_trim_begin: it may be in use meanwhile. NULL: none. */
uint8_t *slab_reserve(struct slab *slab, size_t *ret_size);
/* `size` as it was asked for. */
void slab_free(struct slab *slab, void *object, size_t size);

/* Is more free than in use, and much? Asked again after a trim only when half of that was freed. */
bool slab_trim_is_due(struct slab *slab);
/* Takes what is free; `trim` is zeroed. */
void slab_trim_begin(struct slab *slab, struct slab_trim *trim);
/* Some of the work, on any thread, also while the slab is used; false: it is done, or was taken
 * back. */
bool slab_trim_step(struct slab_trim *trim);
/* Brings back what stays, when nobody steps any more. Cut short while it sifts, it leaves the rest
 * to slab_deinit. */
void slab_trim_end(struct slab *slab, struct slab_trim *trim);

#endif

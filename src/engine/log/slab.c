/*
 * engine/log/slab.c: size classes of 8 bytes over chunks; see engine/log/slab.h.
 *
 * A chunk begins at a border of its own size, so an object leads to its chunk.
 *
 * A trim: 1. each chunk's free bytes are counted, object by object; 2. those of chunks that are
 * free as a whole are taken out of the lists; 3. these chunks are given back. What is freed while
 * it has the rest is not counted, so a chunk that seems free is: nobody can be given any of it.
 * Taken back, 1 is undone, and 2 and 3 are done to their end.
 *
 * Large objects are heap allocations of their own, linked so that slab_deinit finds them. Under
 * AddressSanitizer all objects are: a use after free or an overflow then shows.
 */
#include "engine/log/slab.h"

#include "base/fault.h"
#include "base/mem.h"

#include <assert.h>
#include <sched.h>
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
    slab->large_bytes += size;
    return object + 1;
}

static void large_free(struct slab *slab, void *memory, size_t size)
{
    struct slab_large *object = (struct slab_large *)memory - 1;
    slab->used_bytes -= size;
    slab->large_bytes -= size;
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
    slab->large_bytes += from->large_bytes;
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

bool slab_trim_is_due(struct slab *slab)
{
    (void)slab;
    return false;
}

void slab_trim_begin(struct slab *slab, struct slab_trim *trim)
{
    (void)slab;
    (void)trim;
}

bool slab_trim_step(struct slab_trim *trim)
{
    (void)trim;
    return false;
}

void slab_trim_end(struct slab *slab, struct slab_trim *trim)
{
    (void)slab;
    (void)trim;
}

#else

#define CHUNK_SIZE (2u * 1024 * 1024) /* a huge page: the index is read at random */
#define CHUNK_HEAD_SIZE 64u
#define CHUNK_ROOM (CHUNK_SIZE - CHUNK_HEAD_SIZE)
#define USED_PER_RESERVE (16 * CHUNK_SIZE) /* of so much, one more chunk is not much */
#define TRIM_MIN (8 * CHUNK_SIZE)          /* to be free beyond what is in use */
#define TRIM_STEP 4096u                    /* objects */

static bool trim_take_back(struct slab *slab);

struct slab_chunk {
    struct slab_chunk *next;
    uint64_t free_bytes; /* the trim's, as it counts */
    bool is_free;        /* likewise, when it has counted: all of it is */
};

static_assert(sizeof(struct slab_chunk) <= CHUNK_HEAD_SIZE, "objects begin behind it");

void slab_init(struct slab *slab)
{
    *slab = (struct slab){.trim_below = UINT64_MAX};
}

/* Pages come into being when they are first used, and the first chunk's are small ones: so is the
 * index of a small store. */
static struct slab_chunk *chunk_new(bool is_first)
{
    if (fault_hit(FAULT_ALLOC))
        return NULL;
    uint8_t *begin = mmap(NULL, 2 * (size_t)CHUNK_SIZE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (begin == MAP_FAILED)
        return NULL;
    size_t before = -(uintptr_t)begin % CHUNK_SIZE;
    if (before > 0)
        munmap(begin, before);
    munmap(begin + before + CHUNK_SIZE, CHUNK_SIZE - before);
    /* A wish: without it, it is only slower, or larger. */
    madvise(begin + before, CHUNK_SIZE, is_first ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
    return (struct slab_chunk *)(void *)(begin + before);
}

static void chunk_free(struct slab_chunk *chunk)
{
    munmap(chunk, CHUNK_SIZE);
}

void slab_deinit(struct slab *slab)
{
    large_free_all(slab);
    struct slab_chunk *chunk = slab->chunks;
    while (chunk != NULL) {
        struct slab_chunk *next = chunk->next;
        chunk_free(chunk);
        chunk = next;
    }
    for (unsigned i = 0; i < slab->reserves_count; i++)
        chunk_free(slab->reserves[i]);
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
    slab->chunk_bytes += from->chunk_bytes;
    large_absorb(slab, from);
    slab_init(from);
}

/* How many to have. While a snapshot is held, nodes are copied as they are written: several chunks
 * in 20 ms, and the system took 5 ms to clear one. */
static unsigned reserves_wanted(const struct slab *slab)
{
    if (slab->chunk_bytes == 0)
        return 0;
    if (slab->used_bytes < USED_PER_RESERVE)
        return slab->fresh_size <= CHUNK_SIZE / 2 ? 1 : 0;
    uint64_t wanted = slab->used_bytes / USED_PER_RESERVE;
    return wanted < SLAB_RESERVES ? (unsigned)wanted : SLAB_RESERVES;
}

uint8_t *slab_reserve(struct slab *slab, size_t *ret_size)
{
    if (slab->reserves_count >= reserves_wanted(slab))
        return NULL;
    struct slab_chunk *chunk = chunk_new(false);
    if (chunk != NULL)
        slab->reserves[slab->reserves_count++] = chunk;
    *ret_size = CHUNK_SIZE;
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
    struct slab_chunk *chunk = reserve_take(slab);
    if (chunk == NULL)
        chunk = chunk_new(slab->chunk_bytes == 0);
    if (chunk == NULL)
        return -1;
    fresh_retire(slab);
    chunk->next = slab->chunks;
    slab->chunks = chunk;
    slab->chunk_bytes += CHUNK_SIZE;
    slab->fresh = (uint8_t *)chunk + CHUNK_HEAD_SIZE;
    slab->fresh_size = CHUNK_ROOM;
    return 0;
}

/* For an object of which none is free. */
static bool room_make(struct slab *slab, size_t size)
{
    if (chunk_add(slab) == 0)
        return true;
    return trim_take_back(slab) && (slab->free[size / 8] != NULL || chunk_add(slab) == 0);
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
    if (slab->free[size / 8] == NULL && slab->fresh_size < size && !room_make(slab, size))
        return NULL;
    struct slab_object *object = slab->free[size / 8];
    if (object != NULL) {
        slab->free[size / 8] = object->next;
        __builtin_prefetch(object->next, 1); /* the next one to be handed out */
    } else {
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

/* --- trimming --------------------------------------------------------------------------------- */

static struct slab_chunk *chunk_of(struct slab_object *object)
{
    return (struct slab_chunk *)((uintptr_t)object & ~(uintptr_t)(CHUNK_SIZE - 1));
}

static void class_begin(struct slab_trim *trim, unsigned class)
{
    trim->class = class;
    trim->link = &trim->first[class];
    trim->before = NULL;
    trim->last[class] = NULL;
}

bool slab_trim_is_due(struct slab *slab)
{
    uint64_t used = slab->used_bytes - slab->large_bytes;
    if (slab->chunk_bytes - slab->fresh_size < 2 * used + TRIM_MIN) {
        slab->trim_below = UINT64_MAX;
        return false;
    }
    return used < slab->trim_below;
}

void slab_trim_begin(struct slab *slab, struct slab_trim *trim)
{
    slab->trim_below = (slab->used_bytes - slab->large_bytes) / 2;
    for (unsigned i = 0; i < SLAB_CLASSES; i++) {
        trim->first[i] = slab->free[i];
        slab->free[i] = NULL;
    }
    slab->trim = trim;
    trim->chunks = slab->chunks;
    slab->chunks = NULL;
    for (struct slab_chunk *at = trim->chunks; at != NULL; at = at->next)
        at->free_bytes = 0;
    class_begin(trim, 0);
}

/* Looks at one object, or ends a class. False: that was the last one. */
static bool object_next(struct slab_trim *trim)
{
    struct slab_object *object = *trim->link;
    if (object == NULL) {
        trim->last[trim->class] = trim->before;
        if (trim->class + 1 == SLAB_CLASSES)
            return false;
        class_begin(trim, trim->class + 1);
        return true;
    }
    __builtin_prefetch(object->next);
    struct slab_chunk *chunk = chunk_of(object);
    if (trim->phase == SLAB_TRIM_SIFT && chunk->is_free) {
        *trim->link = object->next;
        return true;
    }
    if (trim->phase == SLAB_TRIM_COUNT)
        chunk->free_bytes += 8 * trim->class;
    trim->link = &object->next;
    trim->before = object;
    return true;
}

static bool chunks_judge(struct slab_trim *trim)
{
    bool any = false;
    for (struct slab_chunk *at = trim->chunks; at != NULL; at = at->next) {
        at->is_free = at->free_bytes == CHUNK_ROOM;
        any |= at->is_free;
    }
    return any;
}

/* One of those that are free; false: there is none. */
static bool chunk_drop(struct slab_trim *trim)
{
    struct slab_chunk **link = &trim->chunks;
    while (*link != NULL && !(*link)->is_free)
        link = &(*link)->next;
    struct slab_chunk *chunk = *link;
    if (chunk == NULL)
        return false;
    *link = chunk->next;
    chunk_free(chunk);
    trim->dropped_bytes += CHUNK_SIZE;
    return true;
}

static bool trim_step(struct slab_trim *trim)
{
    if (trim->phase == SLAB_TRIM_DROP)
        return chunk_drop(trim);
    for (unsigned n = 0; n < TRIM_STEP; n++) {
        if (object_next(trim))
            continue;
        if (trim->phase == SLAB_TRIM_SIFT) {
            trim->phase = SLAB_TRIM_DROP;
            return true;
        }
        if (!chunks_judge(trim))
            return false;
        trim->phase = SLAB_TRIM_SIFT;
        class_begin(trim, 0);
    }
    return true;
}

static bool turn_take(struct slab_trim *trim, int turn)
{
    int nobody = SLAB_TRIM_NOBODY;
    /* acquire: pairs with the release in slab_trim_step. */
    return atomic_compare_exchange_strong_explicit(&trim->turn, &nobody, turn, memory_order_acquire,
                                                   memory_order_relaxed);
}

bool slab_trim_step(struct slab_trim *trim)
{
    if (!turn_take(trim, SLAB_TRIM_STEP))
        return false;
    bool goes_on = trim_step(trim);
    /* release: pairs with turn_take. */
    atomic_store_explicit(&trim->turn, SLAB_TRIM_NOBODY, memory_order_release);
    return goes_on;
}

/* Behind what is free already. */
static void class_append(struct slab *slab, unsigned class, struct slab_object *first)
{
    struct slab_object **link = &slab->free[class];
    while (*link != NULL)
        link = &(*link)->next;
    *link = first;
}

static void trim_bring_back(struct slab *slab, struct slab_trim *trim)
{
    for (unsigned i = 0; i < SLAB_CLASSES; i++) {
        if (trim->last[i] != NULL) {
            trim->last[i]->next = slab->free[i];
            slab->free[i] = trim->first[i];
        } else if (trim->phase == SLAB_TRIM_COUNT) {
            class_append(slab, i, trim->first[i]);
        }
    }
    struct slab_chunk **link = &trim->chunks;
    while (*link != NULL)
        link = &(*link)->next;
    *link = slab->chunks;
    slab->chunks = trim->chunks;
    slab->chunk_bytes -= trim->dropped_bytes;
    slab->trim = NULL;
}

/* False: nobody has anything. */
static bool trim_take_back(struct slab *slab)
{
    struct slab_trim *trim = slab->trim;
    if (trim == NULL)
        return false;
    while (!turn_take(trim, SLAB_TRIM_TAKEN_BACK)) /* a step is short */
        sched_yield();
    while (trim->phase != SLAB_TRIM_COUNT && trim_step(trim)) {
    }
    trim_bring_back(slab, trim);
    return true;
}

void slab_trim_end(struct slab *slab, struct slab_trim *trim)
{
    if (slab->trim == trim)
        trim_bring_back(slab, trim);
    *trim = (struct slab_trim){0};
}

#endif

/*
 * engine/log/segment.h: one file of the log, and where its bytes are: in memory, on disk, or both.
 *
 * Segments live in a table of slots. An entry's location is a slot and an offset, so that reading
 * a value costs one load from the table and compaction can move a record by one store.
 *
 * The newest segment's bytes are always in memory: it is built there and written from there. Older
 * ones stay in memory as far as the cache budget goes, the one before it until it has its hint;
 * readers see `memory` become NULL and read the file.
 *
 * Threads: readers (inside an epoch) use segment_value and segment_read_record; all else is the
 * writer's, but for what says otherwise.
 */
#ifndef ENGINE_LOG_SEGMENT_H
#define ENGINE_LOG_SEGMENT_H

#include "engine/log/format.h"
#include "engine/log/tree.h"

#include <pthread.h>

#define SEGMENT_SLOTS 65536u
#define SEGMENT_SIZE_MIN 4096u
#define SEGMENT_SIZE_MAX (1024u * 1024 * 1024)

enum segment_state {
    SEGMENT_ACTIVE,  /* the newest: is appended to */
    SEGMENT_SEALED,  /* complete */
    SEGMENT_EMPTIED, /* compacted, its file removed; kept while entries of snapshots point to it */
};

enum segment_hint {
    SEGMENT_HINT_NONE,   /* no file; to be made when the segment is sealed and on the disk */
    SEGMENT_HINT_THERE,  /* made, or read and believed */
    SEGMENT_HINT_BAD,    /* a file that is not believed, or old: to be made anew */
    SEGMENT_HINT_FAILED, /* could not be made: not tried again before the next start */
};

/* Records whose ends of life are about as far from when their segment came: so one that has long to
 * live does not keep those that are over from being counted as garbage. */
#define LIFE_CLASSES 8u        /* each up to eight times as far as the one before */
#define LIFE_SHORTEST_MS 4096u /* of the first one, up to here */

struct life {
    uint64_t bytes;
    uint64_t last_ms; /* when the last of them ends */
};

/* What a segment holds, for compaction; the writer's. */
struct accounts {
    uint64_t live_bytes;             /* of records that the newest version points to */
    uint64_t tombstone_bytes;        /* of removes and range removes */
    struct life lives[LIFE_CLASSES]; /* parts of live_bytes that have an end of life */
    uint64_t set_sequence_min;       /* lowest sequence number of a set; UINT64_MAX for none */
    uint64_t batch_bytes; /* of the newest: of records that compaction has not put there */
};

struct segment {
    uint32_t number;
    uint32_t slot;
    int fd;
    int direct_fd; /* of the newest, with --sync=always: see file_open_direct; or -1 */
    enum segment_state state;
    uint32_t capacity;         /* room for header and records */
    uint32_t size;             /* used by header and records */
    uint64_t begun_ms;         /* by the wall clock, or when it was opened; see struct life */
    _Atomic(uint8_t *) memory; /* `capacity` bytes, or NULL when not in memory */
    struct accounts accounts;
    uint64_t entries;  /* entries in memory, of any version, that point here */
    uint64_t prepared; /* bytes of the file that hold zeros, or data, on disk */
    enum segment_hint hint;
    uint64_t hint_size;    /* of its file; 0 when there is none */
    bool is_reserved;      /* blocks for all of it were set aside */
    bool is_warmed;        /* its bytes need not be looked for in the background any more */
    bool stuck;            /* compaction could not read it: left alone */
    bool is_victim;        /* the compaction thread works on it */
    bool owes_removals;    /* see victim_owes */
    bool is_scattered;     /* its records are in no order of keys; known when it has a hint */
    struct key_span *span; /* of its keys, see overlap.h; NULL: not known, or of no interest */
    struct segment *next;  /* in the log's order */
};

/* Where a record counts that ends then. */
static inline struct life *life_of(const struct segment *segment, struct life lives[LIFE_CLASSES],
                                   uint64_t ends_ms)
{
    uint64_t ahead = ends_ms > segment->begun_ms ? ends_ms - segment->begun_ms : 0;
    unsigned i = 0;
    for (ahead /= LIFE_SHORTEST_MS; ahead > 0 && i < LIFE_CLASSES - 1; ahead /= 8)
        i++;
    return &lives[i];
}

static inline void life_add(struct life *life, uint64_t bytes, uint64_t last_ms)
{
    life->bytes += bytes;
    if (last_ms > life->last_ms)
        life->last_ms = last_ms;
}

static inline uint64_t location_make(uint32_t slot, uint32_t offset)
{
    return (uint64_t)slot << 32 | offset;
}

static inline uint32_t location_slot(uint64_t location)
{
    return (uint32_t)(location >> 32);
}

static inline uint32_t location_offset(uint64_t location)
{
    return (uint32_t)location;
}

/* The struct alone. */
void segment_free(struct segment *segment);

/* Bytes of the record that an entry stands for. */
static inline uint32_t entry_record_size(const struct entry *entry)
{
    return (uint32_t)record_size(entry->key_size, entry->value_size, entry->expires);
}

/*
 * Memory for a segment's bytes, from the system directly and zeroed; NULL when there is none. It is
 * counted: the segment has one reference, each page of results that points into it another
 * (engine/pins.h), and the last one to go, on whatever thread, gives it back to the system.
 */
uint8_t *segment_memory_new(uint32_t capacity);
void segment_memory_unref(void *memory); /* or NULL */
/* Only while the memory cannot go: inside an epoch that found it, or with a reference. */
void segment_memory_ref(void *memory);
/* Has the pages made that a part of it needs; it may be in use. */
void segment_memory_fault(uint8_t *from, size_t size);

/* In the page before a segment's bytes; on lines of their own, for readers write the one and the
 * writer the other. */
#define SEGMENT_HEAD_SIZE 4096u

struct memory_head {
    _Alignas(64) _Atomic uint32_t references;
    size_t mapped; /* bytes, from the begin of this page */
    uint8_t *next; /* of a spare, see spares.h: likewise a segment's memory, or NULL, */
    uint32_t made; /* ... and how many bytes of this one have their pages */
    _Alignas(64) _Atomic uint32_t fixed;
};

static inline struct memory_head *segment_head(const void *memory)
{
    return (struct memory_head *)((uintptr_t)memory - SEGMENT_HEAD_SIZE);
}

/* Is the caller's reference the last one, to memory for so many bytes? Nobody may find it then. */
bool segment_memory_is_alone(const void *memory, uint32_t capacity);
/* Such memory as new, but not zeroed. */
void segment_memory_renew(void *memory);

/* Bytes of the memory, from its begin, that do not change any more: what was published. Those
 * behind may be undone and written anew, once all readers have left. */
static inline uint32_t segment_memory_fixed(const uint8_t *memory)
{
    /* acquire: pairs with segment_fix: the bytes are there. */
    return atomic_load_explicit(&segment_head(memory)->fixed, memory_order_acquire);
}

/* The writer: all records of now are published; nothing when the segment is not in memory. */
void segment_fix(struct segment *segment);

/*
 * Reads the record of an entry from the segment's file into `buffer` (its whole size) and checks
 * it. 0, or IO, CORRUPTION; with may_block false ENGINE_WOULD_BLOCK (1) when it is not in memory.
 */
int segment_read_record(const struct segment *segment, uint32_t offset, uint32_t size,
                        bool may_block, uint8_t *buffer, struct record *ret_record);

#endif

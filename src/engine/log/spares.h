/*
 * engine/log/spares.h: memory for segments to come, whose pages are there before they are written;
 * see spares.c.
 *
 * All functions are the writer's, or of who opens or frees the engine.
 */
#ifndef ENGINE_LOG_SPARES_H
#define ENGINE_LOG_SPARES_H

#include "engine/log/segments.h"

struct engine_message;
struct log_engine;

/* Memories of `segment_size` bytes; one is linked to the next in its head. */
struct spares {
    uint8_t *first; /* the next to be taken; or NULL */
    unsigned count;
    bool keeps_all; /* as far as the cache budget goes, and not only SPARES_MAX; see prefault */
};

/* What the writer comes to next has its pages made in the background. */
struct faulting {
    struct task job;
    bool is_running;    /* guarded by preparation.mutex */
    uint8_t *reference; /* of a segment's memory, for as long; or NULL */
    uint8_t *from;
    size_t size;
    uint32_t segment; /* the writer's: number of the segment, */
    uint32_t to;      /* and up to where it has been done */
    uint32_t ahead;   /* how far ahead of the end, by the rate */
    struct write_rate rate;
};

/* Makes spares, with all their pages, for what the cache budget has left: blocking. They are kept
 * until the engine is freed. NO_MEMORY, also when the machine has less than the budget. */
int spares_prefault(struct log_engine *log, struct engine_message *message);
/* A reference to memory for so many bytes, what was in it before or zeros; NULL: NO_MEMORY. */
uint8_t *spares_take(struct log_engine *log, uint32_t capacity);
/* Likewise for a segment that is read from its file, in the background; how many bytes it has. */
uint8_t *spares_take_for_reading(struct log_engine *log, uint32_t size, uint32_t *ret_capacity);
/* Takes over the reference to a segment's memory, which no reader finds any more: to be used again,
 * as far as the cache budget goes, or given back. Or NULL. */
void spares_give(struct log_engine *log, uint8_t *memory);
/* Gives back those over the cache budget. */
void spares_trim(struct log_engine *log);
/* After a group of so many bytes: has pages of memory made that the writer comes to next, in the
 * background. */
void spares_fault_ahead(struct log_engine *log, uint32_t written);
void spares_free(struct log_engine *log);

#endif

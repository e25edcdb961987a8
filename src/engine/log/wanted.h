/*
 * engine/log/wanted.h: how much of a segment compaction has to read, and which blocks of its file,
 * for the system to read them ahead in the order of their places, whatever the order of the reads
 * is.
 */
#ifndef ENGINE_LOG_WANTED_H
#define ENGINE_LOG_WANTED_H

#include <stdbool.h>
#include <stdint.h>

struct log_engine;
struct segment;

/* The writer: of a sealed segment, about how many bytes; of a sparse one with its hint. */
uint64_t wanted_bytes(const struct segment *segment);
/* The writer: is it less to read only what counts, record by record? */
bool wanted_is_sparse(const struct segment *segment);

struct wanted {
    uint8_t *bits; /* one for each block */
    uint32_t count;
    uint32_t asked_to; /* the system knows of those before */
    uint32_t parts;    /* asked for */
    uint32_t before;   /* a block of the part that is to be there when more are asked for */
};

/* Of a file of so many bytes; none is wanted yet. NO_MEMORY. */
int wanted_init(struct wanted *wanted, uint32_t size);
void wanted_deinit(struct wanted *wanted);
/* The blocks that have these bytes. */
void wanted_add(struct wanted *wanted, uint32_t from, uint32_t size);
/* From a block on, the next part: what lies close together is one. False: there is none. */
bool wanted_part(const struct wanted *wanted, uint32_t at, uint32_t *ret_from, uint32_t *ret_to);
/* Asks for the next parts, so many at most: a wish. Waits so that the disk never has so many that
 * others wait long. The compaction thread. */
void wanted_ask(struct wanted *wanted, struct log_engine *log, int fd, uint32_t parts);

#endif

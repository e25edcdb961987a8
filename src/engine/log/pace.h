/* engine/log/pace.h: what keeps compaction out of the way of everybody else; see pace.c. */
#ifndef ENGINE_LOG_PACE_H
#define ENGINE_LOG_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_REST_MAX 3u /* times what a move took */

struct log_engine;
struct segment;

/* How far the newest segments were written out; the compaction thread's. */
struct pace {
    uint64_t writes_seen; /* of the engine, when the last move was over */
    bool is_beside;       /* others wrote while that one and the rest before it lasted */
    uint32_t segment;     /* everything before this place is on its way to the disk */
    uint32_t offset;
};

/* Writes that wait, for compaction cannot follow; the writer's. */
struct held {
    uint32_t per_ms; /* bytes that are written in a millisecond; 0: any */
    uint64_t bytes;  /* written, but not waited for yet */
    uint64_t until_ms;
};

/* The last part of the disk; the writer's. */
struct room {
    uint64_t kept;     /* bytes of it that sets leave to others; 0: none */
    uint64_t unlooked; /* bytes that may be written before the next look at what is free */
    uint64_t left;     /* what was free beyond that part at the last look */
};

/* --- the writer ------------------------------------------------------------------------------- */

/* Is it known that there is room for so many bytes of a batch? They take it. */
bool pace_has_room(struct log_engine *log, uint64_t size);
/* Else: 0, or NO_SPACE when they are more than may be written now. The last part of the
 * disk, two segments, is not for sets; half of that is for compaction alone, which can empty any
 * segment with it, but what the one that is at work does not need any more is for removals. So
 * garbage can be given back, and keys can be removed, when the disk is full. */
int pace_find_room(struct log_engine *log, uint64_t size, bool gives_back);
/* At the last look: nothing is written ahead any more, which batches might need. */
bool pace_room_is_near_end(const struct room *room);
/* How many bytes a millisecond may bring to a log of which so much is garbage; 0: any. */
uint32_t pace_writes_of(const struct log_engine *log, uint64_t garbage, uint64_t total);
/* After so many bytes of batches. */
void pace_hold(struct log_engine *log, uint64_t written);

/* How long to rest for each move, as a part of what it took in 1/256: the less the more of the log
 * is garbage. */
uint32_t pace_rest_of(uint64_t garbage, uint64_t total);

/* --- the compaction thread -------------------------------------------------------------------- */

/* Waits for so long, or until the thread is to stop. */
void pace_pause(struct log_engine *log, uint64_t ns);
/* Bytes of records that the next move should have. */
uint32_t pace_move_size(const struct log_engine *log);
/* After a move that took so long, and ended at this place of the log. */
void pace_after_move(struct log_engine *log, uint64_t took_ns, uint32_t segment, uint32_t offset);
/* Closes an emptied segment, whose file has no name any more, and gives its space back in steps. */
void pace_bury(struct log_engine *log, struct segment *segment);

#endif

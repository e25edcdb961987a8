/*
 * engine/log/living.h: the records of victims that may still count, in the order of their keys.
 *
 *   1. the victims' hints are read as one list (tournament.h); of each key the record of the
 *      youngest victim counts, for the others are dead by it;
 *   2. the keys of a batch are looked up side by side, and what is surely dead is left out: its
 *      bytes are not touched.
 * Whether a record does count decides the writer, when it is moved.
 *
 * Failure: NO_MEMORY; a hint with bytes that are no item ends there, and living_is_bad tells.
 * Thread: the compaction's.
 */
#ifndef ENGINE_LOG_LIVING_H
#define ENGINE_LOG_LIVING_H

#include "engine/log/log_engine.h"
#include "engine/log/tournament.h"
#include "engine/log/wanted.h"

/* A victim's bytes and keys. */
struct source {
    struct victim *victim;
    const uint8_t *bytes; /* of the segment, all of them; NULL: read as they are moved */
    uint8_t *copy;        /* NULL: they are in the cache, or not read as a whole */
    struct hint hint;
    struct wanted wanted; /* where all of them that may live are; else none are */
    bool is_loaded;
};

struct living {
    struct log_engine *log;
    const struct source *sources;
    struct tournament tournament;
    size_t key_size_max;
    uint8_t *keys; /* of a batch */
};

/* Of sources in the log's order, which stay where they are. Nothing before the first key of `begin`
 * is looked at; NULL: all. To be deinitialized whether it fails or not. */
int living_init(struct living *living, struct log_engine *log, const struct source *sources,
                uint32_t count, const struct key_span *begin);
void living_deinit(struct living *living);

/* At the end, or behind the last key that the compaction is to move. */
bool living_is_over(const struct living *living);
static inline bool living_is_bad(const struct living *living)
{
    return living->tournament.is_bad;
}

/* The next ones of a batch; none is no end. Returns how many. Inside an epoch. */
unsigned living_next(struct living *living, const struct version *version,
                     struct move_item items[TREE_FIND_MANY_MAX]);

#endif

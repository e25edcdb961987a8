/*
 * engine/log/tournament.h: several hints read as one list, in the order of family and key; of equal
 * keys the item of the last hint comes first.
 *
 * Failure: NO_MEMORY; a hint with bytes that are no item ends there, and `is_bad` tells. Pure
 * functions over memory.
 */
#ifndef ENGINE_LOG_TOURNAMENT_H
#define ENGINE_LOG_TOURNAMENT_H

#include "engine/log/hint.h"

/* Of a hint's next key, kept together so that most comparisons need no more. */
struct rank {
    uint64_t word; /* first 8 bytes */
    uint32_t family;
};

#define FAMILY_NONE HINT_FAMILIES /* the hint has ended */

struct tournament {
    size_t count; /* of hints; 1 at least */
    struct hint_cursor *cursors;
    struct rank *ranks;
    uint32_t *losers;  /* losers[0] won, losers[i] lost the match at i */
    uint8_t *last_key; /* of the item that was passed last */
    struct rank last_rank;
    size_t last_size;
    bool is_bad;
};

/* Of `count` hints, which stay the caller's and where they are. */
int tournament_init(struct tournament *tournament, size_t count);
int tournament_add(struct tournament *tournament, uint32_t i, const struct hint *hint);
void tournament_deinit(struct tournament *tournament);

/* After all have been added: to the first item of all, or not less than a key (family, key). */
int tournament_begin(struct tournament *tournament);
int tournament_begin_at(struct tournament *tournament, unsigned family, kvs_slice key);

static inline bool tournament_has_ended(const struct tournament *tournament)
{
    return tournament->ranks[tournament->losers[0]].family == FAMILY_NONE;
}

/* Whose item it is, ... */
static inline uint32_t tournament_winner(const struct tournament *tournament)
{
    return tournament->losers[0];
}

/* ... and the item; valid until the next one. */
static inline const struct hint_item *tournament_item(const struct tournament *tournament)
{
    return &tournament->cursors[tournament->losers[0]].item;
}

/* Has the item the same key as the one before, which is then that of a later hint? */
bool tournament_is_older(const struct tournament *tournament);
/* To the next item; not at the end. */
void tournament_next(struct tournament *tournament);

#endif

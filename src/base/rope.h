/*
 * base/rope.h: bytes in pieces. What is appended is never moved, so a rope grows large without
 * copies; what is taken from its begin is freed piece by piece.
 *
 * Ropes may share a budget, which counts the memory of their pieces from when they are made until
 * they are freed, wherever they have moved meanwhile. Threads: a rope has one owner at a time; a
 * budget is for any.
 */
#ifndef BASE_ROPE_H
#define BASE_ROPE_H

#include "base/slice.h"

struct rope_budget {
    uint64_t bytes_max; /* 0: any */
    _Atomic uint64_t bytes;
};

struct rope_piece;

/* Zeroed memory is an empty rope; `budget` may be set then. */
struct rope {
    struct rope_piece *first, *last;
    size_t size;
    struct rope_budget *budget; /* of pieces made from now on; NULL: none */
};

/* Appends `size` bytes, side by side, which the caller writes to *ret_room. NO_MEMORY, or BUSY when
 * the budget has no room: then the rope is as before. */
int rope_room(struct rope *rope, size_t size, uint8_t **ret_room);
int rope_append(struct rope *rope, kvs_slice bytes);
/* All of `from` goes behind `to`. */
void rope_move(struct rope *to, struct rope *from);
/* Copies the first `size` bytes, which it has, to where they are wanted, and drops them. */
void rope_take(struct rope *rope, size_t size, uint8_t *to);
/* Keeps the first `size` bytes only. */
void rope_cut(struct rope *rope, size_t size);
void rope_deinit(struct rope *rope); /* frees; the rope may be used again, empty */

#endif

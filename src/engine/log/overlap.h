/*
 * engine/log/overlap.h: which segments lie over the same keys, and how far they can be merged.
 *
 * A requested compaction brings as many segments into order as it has room for at once. Of a large
 * store that makes several runs of segments, each in order, each over all keys: neighbours among
 * the keys then lie in as many places as there are runs. So the runs are merged, a part of all keys
 * at a time: some of the segments are emptied then, others up to the end of that part, and the next
 * merge goes on with these.
 *
 * Thread: the writer's, but for key_span_of and the questions about a span, which are anybody's
 * that may look at it.
 */
#ifndef ENGINE_LOG_OVERLAP_H
#define ENGINE_LOG_OVERLAP_H

#include "engine/log/hint.h"
#include "engine/log/log_engine.h"

/* So many places for neighbours are as good as one, nearly; and a merge costs. */
#define OVERLAP_MIN 4u

/* --- the keys of a segment -------------------------------------------------------------------- */

/* From the first that was not merged to the last. */
struct key_span;

/* To be freed by mem_free. NULL: no memory, or there is nothing to be gained with such records. */
struct key_span *key_span_of(const struct hint *hint);

/* Has a merge taken away its begin? */
bool key_span_is_cut(const struct key_span *span);
void key_span_first(const struct key_span *span, unsigned *ret_family, kvs_slice *ret_key);
/* Is the key behind the last one? */
bool key_span_is_behind(const struct key_span *span, unsigned family, kvs_slice key);
bool key_span_begins_before(const struct key_span *a, const struct key_span *b);
/* Is the last key of `a` behind that of `b`? */
bool key_span_ends_behind(const struct key_span *a, const struct key_span *b);

/* --- choosing --------------------------------------------------------------------------------- */

struct overlap {
    struct segment *segments[COMPACTION_VICTIMS_MAX]; /* in the log's order */
    unsigned count;                                   /* 0: there is nothing to be merged */
    bool in_any_order;          /* their files may go so; no removal is left out */
    const struct key_span *end; /* of one of them: merge up to its last key; NULL: all of them */
};

/* May this one be taken, too? */
typedef bool overlap_take_fn(void *arg, const struct segment *segment);

/*
 * Of the segments that have a span, are in order, sealed, and older than `below`: the first ones
 * among the keys where at least OVERLAP_MIN have a place in common, or where a merge has stopped.
 * None for lack of memory, too, or when they cannot be taken.
 */
void overlap_pick(const struct log_engine *log, uint32_t below, overlap_take_fn *take, void *arg,
                  struct overlap *ret_overlap);

/* Of a segment that was merged up to the last key of `end`. */
void overlap_cut(struct segment *segment, const struct key_span *end);

#endif

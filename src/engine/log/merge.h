/*
 * engine/log/merge.h: the index from the sorted lists of keys of all segments.
 *
 *   1. the keys are divided into as many parts as there are threads, by samples of all lists;
 *   2. each thread merges the lists within its part: of one key the item of the newest segment
 *      counts; what is left goes, in order, into the leaves of trees (tree_build.h);
 *   3. the leaves of all parts are put under one root for each family.
 * Failure: NO_MEMORY; CANCELLED when the engine is closing; what was made is freed with the
 * engine's slab. Thread: the one that opens, or the writer's (loading.h).
 */
#ifndef ENGINE_LOG_MERGE_H
#define ENGINE_LOG_MERGE_H

#include "engine/log/hint.h"
#include "engine/log/log_engine.h"

struct merge_input {
    const struct hint *hint;
    struct segment *segment; /* its accounts of live bytes are added to */
};

/* Fills the empty working trees; the inputs are in the log's order. CORRUPTION: a hint that was not
 * checked. */
int merge_run(struct log_engine *log, const struct merge_input *inputs, size_t count);

#endif

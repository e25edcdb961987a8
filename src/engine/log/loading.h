/*
 * engine/log/loading.h: the time between the end of an open and the index being there.
 *
 *   1. recovery has found the log's end, and of each segment a hint: its items may not have been
 *      read yet. With few keys the index is made at once, and there is no such time;
 *   2. else the writer's thread begins with it: the items are read and checked, and merged into the
 *      index (merge.c), each step on some threads; what is submitted to the writer waits in its
 *      queue meanwhile;
 *   3. meanwhile single keys are looked up in the hints, block by block (loading_find); all other
 *      reads wait: on the pool, in a view that may block, or, if they would need a thread of it,
 *      in a list;
 *   4. the first version is shown, the snapshots that were taken get it, and who waits goes on.
 * Nothing is written before 4: so whoever began to read before sees the first version, by a lookup
 * in the hints or in the index.
 *
 * Failure: a hint whose items do not count is replaced by one made from its segment's records. If
 * these are damaged, or memory does not suffice, the engine has failed: all reads that wait, and
 * all later ones, end in log->load_error, all writes in STORAGE_FAILED. Closing ends it early, as
 * an error that nobody sees; but what was submitted before completes first, when it is over.
 */
#ifndef ENGINE_LOG_LOADING_H
#define ENGINE_LOG_LOADING_H

#include "engine/log/hint.h"
#include "engine/log/log_engine.h"

struct loading;

/* With room for `count` segments. NULL: no memory. */
struct loading *loading_new(size_t count);
/* In the log's order. The hint is taken over; `fd` is its file's, whose items have not been read
 * yet and which is taken over, too, or -1. */
void loading_add(struct loading *loading, struct segment *segment, struct hint *hint, int fd);
void loading_free(struct loading *loading); /* or NULL */

/* After all have been added: it is the engine's now, and readers find it. NO_MEMORY. */
int loading_begin(struct loading *loading, struct log_engine *log);

/* Merging as many items takes about 2 ms: an open does it before it returns, for a thread that is
 * started, and waited for, is not free. */
#define LOADING_SMALL_ITEMS 16384u
bool loading_is_small(const struct loading *loading);

/* Makes the index, unless it is there; it may block for long. The writer's thread, or the one that
 * opens. Returns log->load_error. */
int loading_run(struct log_engine *log);

/*
 * The newest record of a key, as the entry that the index will have; the caller frees it with
 * mem_free. NOT_FOUND; ENGINE_WOULD_BLOCK: it cannot be told yet, wait for the index; NO_MEMORY.
 * Any thread, inside an epoch in which log->loading was found.
 */
int loading_find(struct loading *loading, unsigned family, kvs_slice key, bool may_block,
                 struct entry **ret_entry);

/* What readers see that began before the index was there. Waits for it, if that is allowed; else
 * ENGINE_WOULD_BLOCK. load_error. */
int loading_wait(struct log_engine *log, bool may_block, const struct version **ret_version);

/* Keeps a read until the index is there; false: it is. */
bool loading_park(struct log_engine *log, struct engine_read *read);

#endif

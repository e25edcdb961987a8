/*
 * engine/pool_read.h: runs a struct engine_read on the blocking pool, with a view that may block.
 */
#ifndef ENGINE_POOL_READ_H
#define ENGINE_POOL_READ_H

#include "engine/engine.h"

/* What every engine's read method does: begin a view on read->snapshot, call read->run, end the
 * view, complete the op. Uses read->state. */
void pool_read_submit(kvs_thread_pool *pool, struct engine *engine, struct engine_read *read);

/* If the read waits for a thread of the pool, this one does it, and completes it. Else nothing: it
 * is under way, or done, or elsewhere, or enough threads do so already. `read` is memory of the
 * caller's that may have been an engine_read. The pool stays meanwhile. */
void pool_read_help(kvs_thread_pool *pool, struct engine_read *read);

#endif

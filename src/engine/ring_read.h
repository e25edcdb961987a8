/*
 * engine/ring_read.h: reads that have to wait for a file, by io_uring: one thread, many in flight.
 *
 * For reads whose `run` may be called again (struct engine_read.again); others go to the pool.
 *   1. the ring's thread takes what was submitted and runs each in a view that may not block;
 *   2. one that would block has noted in the view what it needs: the ring reads that into a buffer
 *      of the slot, and the thread goes on with others;
 *   3. when it has come, the read runs again in the same view, and finds the buffer there;
 *   4. its op completes; those of one turn together.
 * Failure: what the ring cannot give (an error of the disk, too large, no memory, too many steps)
 * goes to the pool, whose answer counts. With all slots taken, reads wait in the queue.
 * Threads: submit from any; all else on the ring's own thread. A view is a reader inside: slots are
 * few, so that the writer waits for none for long.
 */
#ifndef ENGINE_RING_READ_H
#define ENGINE_RING_READ_H

#include "engine/engine.h"

struct ring_reads;

/* UNSUPPORTED: a build without liburing, or the kernel does not allow it here. NO_MEMORY. */
int ring_reads_new(struct engine *engine, kvs_thread_pool *pool, struct ring_reads **ret_ring);
/* Nothing is in flight. NULL is allowed. */
void ring_reads_free(struct ring_reads *ring);

void ring_read_submit(struct ring_reads *ring, struct engine_read *read);

#endif

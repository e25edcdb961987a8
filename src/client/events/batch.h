/*
 * client/events/batch.h: events as the public interface gives them, and the memory they lie in.
 *
 * Texts and data are either copied one by one (live events, that come singly), or point into a copy
 * of the whole reply, made once by batch_copy. All memory is the batch's; records do not move.
 * Thread: one at a time.
 */
#ifndef CLIENT_EVENTS_BATCH_H
#define CLIENT_EVENTS_BATCH_H

#include "base/arena.h"

#include <kvs/event.h>

struct batch {
    struct arena arena;
    kvs_resolved_event *events;
    uint32_t count;
    uint32_t capacity;
    size_t size_bytes; /* of what was added one by one */
};

void batch_deinit(struct batch *batch); /* may be used again, empty */

/* Room for `count` events in all. Returns 0 or NO_MEMORY. */
int batch_reserve(struct batch *batch, uint32_t count);

/* A copy of `bytes` that lives as long; empty with data NULL: no memory. */
kvs_slice batch_copy(struct batch *batch, kvs_slice bytes);

/* Adds one; NULL for what is not there. Records are copied, what they point to stays where it is,
 * unless `deep`. Returns 0 or NO_MEMORY, then nothing was added. */
int batch_add(struct batch *batch, const kvs_event *event, const kvs_event *link,
              kvs_position position, int32_t retry_count, bool deep);

#endif

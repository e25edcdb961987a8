/*
 * stream/lookup.h: streams, runs and events in a view of the engine. Any thread.
 */
#ifndef STREAM_LOOKUP_H
#define STREAM_LOOKUP_H

#include "stream/block.h"
#include "stream/settings.h"

/* Settings and last number of a stream; one that nobody wrote to is found empty. The settings' acl
 * lives as long as the view. */
int lookup_stream(struct engine_view *view, kvs_slice name, struct stream_settings *ret_settings,
                  int64_t *ret_last);
/* Likewise, with its last run: count 0: it has none. The run's deltas are copied to `copy`; with
 * NULL they are left out. */
int lookup_stream_run(struct engine_view *view, kvs_slice name,
                      struct stream_settings *ret_settings, struct buf *copy, struct run *ret_run);
/* The last run whose first number is not greater; NOT_FOUND. The deltas are copied to `copy`. */
int lookup_run(struct engine_view *view, uint64_t stream_id, int64_t number, struct buf *copy,
               struct run *ret_run);
/* The position of an event; NOT_FOUND. */
int lookup_position(struct engine_view *view, uint64_t stream_id, int64_t number,
                    int64_t *ret_position);
/* Calls each with the event at this position; NOT_FOUND. What each returns is returned. */
typedef int lookup_fn(void *arg, const struct stream_record *record, uint64_t stream_id);
int lookup_event_at(struct engine_view *view, int64_t position, lookup_fn *each, void *arg);
/* The key of the last block, whose bytes `each` may look at; NOT_FOUND. */
int lookup_last_block(struct engine_view *view, struct log_key *ret_key,
                      int64_t *ret_last_position);
/* May the user read this stream (a metastream too)? */
int lookup_may_read(struct streams *streams, struct engine_view *view,
                    const struct stream_user *user, kvs_slice name,
                    const struct stream_settings *settings, bool *ret_may);

#endif

/*
 * stream/reader.h: one read under way in a view: what its parts share.
 *
 *   read.c         who may read, where it runs, its result
 *   read_stream.c  one event, a stream forward and backward, derived streams
 *   read_all.c     the log forward and backward, filters
 *   links.c        what links lead to
 *
 * A page is copied out of the view into the read's arena. It ends by its count, by its size, or,
 * with a filter, by the work it was: then it is short and `next` says where to go on.
 */
#ifndef STREAM_READER_H
#define STREAM_READER_H

#include "stream/streams.h"

struct reader {
    struct streams *streams;
    struct stream_read *read;
    struct engine_view *view;
    uint32_t capacity; /* of read->events */
    size_t size;
    size_t size_max;
    kvs_slice name; /* of the stream copied last */
    int64_t now_100ns;
};

/* The page is full by its size; never leaves src/stream. */
#define READER_FULL 4

/* Room for one more event, zeroed. READER_FULL, ENGINE_WOULD_BLOCK (too much for a loop),
 * NO_MEMORY. `size`: of what will be copied for it. */
int reader_event(struct reader *reader, size_t size, struct stream_event **ret_event);
/* Takes the last event back. */
static inline void reader_event_drop(struct reader *reader)
{
    reader->read->events_count--;
}
/* More was done, in steps of a few nanoseconds. ENGINE_WOULD_BLOCK: too much for a loop. */
int reader_work(struct reader *reader, uint64_t steps);
/* A copy of the record, and of all it points to. */
int reader_copy(struct reader *reader, const struct stream_record *record,
                struct stream_record *ret_record);

static inline size_t record_bytes(const struct stream_record *record)
{
    return BLOCK_EVENT_HEADER_SIZE + record->type.size + record->data.size + record->metadata.size;
}

/* What a reader may see of a stream. */
struct visible {
    struct stream_settings settings;
    int64_t last;
    int64_t min;               /* the lowest number that may be visible */
    int64_t created_min;       /* 100 ns since 1970: what is older is not */
    enum stream_outcome state; /* OK, NOT_FOUND, DELETED, ACCESS_DENIED */
};

int visible_find(struct reader *reader, kvs_slice name, struct visible *ret_visible);

/* read_stream.c */
int read_event(struct reader *reader);
int read_stream_forward(struct reader *reader);
int read_stream_backward(struct reader *reader);
/* read_all.c */
int read_all(struct reader *reader, bool backward);
/* Adds the steps it took, as read->work counts them. */
bool filter_matches(const struct stream_filter *filter, const struct stream_record *record,
                    uint64_t *steps);

/* Gives the links of the page what they lead to. READER_FULL: the page was cut; events_count says
 * where. */
int links_resolve(struct reader *reader);
/* Makes the event, which is what a derived stream's element leads to, an element of it. */
int link_make(struct reader *reader, struct stream_event *event, kvs_slice derived_name,
              uint64_t derived_id, int64_t number);

#endif

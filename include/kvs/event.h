/*
 * kvs/event.h: what an event is, as it is given to an append and as reads and subscriptions give
 * it back; numbers, positions, ids, filters. The calls stand in kvs/events.h.
 *
 * An event belongs to a stream, in which events are numbered from 0 without gaps, and to $all, the
 * order of everything, in which it has a position. Both never change. A stream's name is 1 to
 * KVS_STREAM_NAME_SIZE_MAX bytes of UTF-8. Streams whose name begins with $ are the system's, and
 * $$NAME is the stream of NAME's metadata.
 */
#ifndef KVS_EVENT_H
#define KVS_EVENT_H

#include <kvs/error.h>
#include <kvs/future.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define KVS_STREAM_NAME_SIZE_MAX 4096u
#define KVS_EVENT_TYPE_SIZE_MAX 4096u
#define KVS_EVENT_SIZE_MAX (16u * 1024 * 1024 - 10000) /* data, metadata and type together */
#define KVS_APPEND_COUNT_MAX 65536u                    /* events of one append */
#define KVS_APPEND_SIZE_MAX (48u * 1024 * 1024)        /* their bytes, with 64 for each */
#define KVS_EVENTS_PAGE_MAX 4096u                      /* events of one read */

/* What a write expects of its stream: the number of its last event (0 and up), or one of these. */
#define KVS_EXPECT_NO_STREAM (-1) /* it has no events, or was deleted softly */
#define KVS_EXPECT_ANY (-2)
#define KVS_EXPECT_EXISTS (-4) /* it has events or metadata, and is not deleted */

/* Event numbers with a meaning of their own. */
#define KVS_EVENT_FIRST 0
#define KVS_EVENT_LAST (-1)         /* read backwards from, or read, the last one */
#define KVS_EVENT_DELETED INT64_MAX /* the number of the event that deletes a stream for good */

/*
 * 16 bytes, opaque to the library, as they travel. As text they are written in the layout of
 * .NET's and Node's clients of EventStoreDB: of "00112233-4455-6677-8899-aabbccddeeff" the first
 * eight bytes travel as 33 22 11 00 55 44 77 66.
 */
typedef struct kvs_event_id {
    uint8_t bytes[16];
} kvs_event_id;

#define KVS_EVENT_ID_TEXT_SIZE 37 /* with the final NUL */

/* A random id (UUID version 4). Any thread. */
kvs_event_id kvs_event_id_random(void);
/* Returns 0 or INVALID_ARGUMENT, then *ret_id is untouched. Upper and lower case. Any thread. */
int kvs_event_id_parse(const char *text, kvs_event_id *ret_id);
/* Writes lower case. Any thread. */
void kvs_event_id_format(const kvs_event_id *id, char text[KVS_EVENT_ID_TEXT_SIZE]);

/* Where an event stands in $all; ordered by commit, then prepare. */
typedef struct kvs_position {
    int64_t commit;
    int64_t prepare;
} kvs_position;

#ifdef __cplusplus
#define KVS_POSITION_START (kvs_position{0, 0})
#define KVS_POSITION_END (kvs_position{-1, -1})
#else
#define KVS_POSITION_START ((kvs_position){0, 0})
#define KVS_POSITION_END ((kvs_position){-1, -1})
#endif

/* <0, 0, >0. Any thread. */
int kvs_position_compare(kvs_position a, kvs_position b);

/* An event to append. */
typedef struct kvs_new_event {
    kvs_event_id id; /* all zero: a random one is made, once, before anything is sent */
    kvs_slice type;  /* not empty */
    kvs_slice data;
    kvs_slice metadata;
    bool is_json; /* data and metadata are JSON texts; not checked */
} kvs_new_event;

/* An event as it was recorded. */
typedef struct kvs_event {
    kvs_slice stream;
    kvs_slice type;
    kvs_slice data;
    kvs_slice metadata;
    kvs_event_id id;
    int64_t number;     /* in its stream */
    int64_t created_ms; /* since 1970, UTC; 0: not known */
    bool is_json;
} kvs_event;

/*
 * What a read or a subscription gives. When links are resolved and the event is a link, `event` is
 * the one it points to, NULL when that is gone or may not be read, and `link` the link itself.
 * Otherwise `link` is NULL.
 */
typedef struct kvs_resolved_event {
    const kvs_event *event;
    const kvs_event *link;
    kvs_position position; /* of the original event; END in reads of one stream */
    int32_t retry_count;   /* persistent subscriptions: how often it was given before */
} kvs_resolved_event;

/* The event that was read: the link if there is one. Its number counts, and its id is
 * acknowledged. Never NULL for what the library gives. */
static inline const kvs_event *kvs_original_event(const kvs_resolved_event *resolved)
{
    return resolved->link != NULL ? resolved->link : resolved->event;
}

/* Events of $all whose stream or type fits one of several prefixes, or a regular expression. */
enum kvs_filter_on {
    KVS_FILTER_ON_STREAM = 0,
    KVS_FILTER_ON_TYPE = 1,
};

enum kvs_filter_kind {
    KVS_FILTER_REGEX = 0, /* one expression, found anywhere in the text */
    KVS_FILTER_PREFIX = 1,
};

#define KVS_FILTER_PATTERNS_MAX 64u
#define KVS_FILTER_PATTERN_SIZE_MAX 1024u

typedef struct kvs_event_filter {
    enum kvs_filter_on on;
    enum kvs_filter_kind kind;
    const kvs_slice *patterns;
    size_t patterns_count; /* 1 to KVS_FILTER_PATTERNS_MAX */
    /* A read ends after so many events, fitting or not; 0: chosen by the library. */
    uint32_t window;
} kvs_event_filter;

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

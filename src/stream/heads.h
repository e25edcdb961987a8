/*
 * stream/heads.h: what the sequencer knows of streams: heads, and the ids of recent events.
 *
 * All of it belongs to the sequencer: one thread at a time.
 */
#ifndef STREAM_HEADS_H
#define STREAM_HEADS_H

#include "base/buf.h"
#include "base/list.h"
#include "stream/settings.h"

struct batch_run;

/* --- heads ------------------------------------------------------------------------------------ */

#define HEADS_MAX 16384u /* kept beyond need */
#define HEADS_BUCKETS_MIN 1024u

struct head {
    struct head *next; /* in its bucket */
    struct list used;  /* all, least recently used first */
    uint64_t hash;
    struct stream_settings settings; /* acl points into `acl` */
    struct buf acl;
    int64_t last;          /* number of the last event, those on their way too; -1 */
    uint32_t pins;         /* batches on their way that hold it */
    uint64_t batch_serial; /* the batch that holds it last, ... */
    struct batch_run *run; /* ... and its run there that is not full, or NULL */
    struct run_tail tail;  /* of its last run before that batch */
    bool record_changed;   /* ... and whether its record goes into it */
    uint64_t block_serial; /* the block that has its name last, ... */
    uint32_t block_index;  /* ... and its index there */
    uint32_t name_size;
    uint8_t name[];
};

static inline kvs_slice head_name(const struct head *head)
{
    return slice_make(head->name, head->name_size);
}

static inline bool head_soft_deleted(const struct head *head)
{
    return settings_soft_deleted(&head->settings);
}

struct heads {
    struct head **buckets;
    uint32_t buckets_count;
    uint32_t count;
    uint64_t seed;
    struct list used;
};

int heads_init(struct heads *heads, uint64_t seed);
void heads_deinit(struct heads *heads);
/* The head of a stream, read if need be. ENGINE_WOULD_BLOCK, CORRUPTION, IO, NO_MEMORY. */
int heads_get(struct heads *heads, struct engine_view *view, kvs_slice name,
              struct head **ret_head);
/* Forgets those that have not been used for long and are not pinned. */
void heads_trim(struct heads *heads);
/* Forgets all; none is pinned. */
void heads_clear(struct heads *heads);

/* --- recent ----------------------------------------------------------------------------------- */

#define RECENT_COUNT 65536u

/* Events are counted from 1 on: so much for `count` and `older`. */
struct recent_event {
    uint8_t id[16];
    uint64_t stream_id;
    int64_t number;
    int64_t position;
    uint64_t older; /* the one before it in its bucket; 0: none */
};

struct recent {
    struct recent_event *events; /* a ring */
    uint64_t *buckets;           /* the newest of each; 0: none */
    uint64_t count;              /* that were added */
    uint64_t seed;
};

int recent_init(struct recent *recent, uint64_t seed);
void recent_deinit(struct recent *recent);
void recent_add(struct recent *recent, uint64_t stream_id, const uint8_t id[16], int64_t number,
                int64_t position);
/* The newest event with this id in this stream; NULL. */
const struct recent_event *recent_find(const struct recent *recent, uint64_t stream_id,
                                       const uint8_t id[16]);
void recent_clear(struct recent *recent);

#endif

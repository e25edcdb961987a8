/* engine/log/compaction.h: what the writer and the compaction thread hand each other. */
#ifndef ENGINE_LOG_COMPACTION_H
#define ENGINE_LOG_COMPACTION_H

#include "engine/log/pace.h"
#include "engine/log/segment.h"
#include "runtime/op.h"

#define COMPACTION_CONSIDER_EVERY 64u /* groups */

struct log_engine;

/* A bounded run of records that compaction wants in the newest segment. */
struct move {
    struct op op; /* completes with the group */
    struct task request;
    struct log_engine *log;
    struct segment *from;
    const uint8_t *segment_bytes; /* all of `from` */
    uint32_t *offsets;            /* of the records to move */
    uint32_t count;
    uint32_t size_bytes;  /* of these records together */
    bool keep_removes;    /* a segment older than `from` exists */
    bool from_is_checked; /* its bytes were in memory all the time */
    uint32_t end_segment; /* where the log ended behind it */
    uint32_t end_offset;
};

enum compaction_job {
    COMPACTION_EMPTY, /* move what lives, remove the file */
    COMPACTION_HINT,  /* write its hint */
    COMPACTION_WARM,  /* read and check its bytes for the cache */
};

/* The thread is scheduled behind others, so nobody may wait for a lock that it holds: there is
 * none. What the writer puts here is released by `handed_over`, `answered` or `emptied`, and the
 * thread acquires that. */
struct compaction {
    pthread_t thread;
    bool started;
    _Atomic uint32_t signals; /* counts what the thread might wait for: it sleeps on this word */
    atomic_bool stop;
    atomic_bool handed_over; /* the thread has not taken it yet */
    struct segment *victim;  /* of the writer's choice; NULL: idle. The writer's */
    enum compaction_job job; /* what is to be done with it */
    bool keep_removes;
    bool victim_is_dead;               /* nothing in it counts: there is nothing to move */
    uint32_t rest;                     /* after each move; see pace_rest_of */
    _Atomic(struct segment *) emptied; /* to be buried; a list by segment.next */
    atomic_bool answered;              /* the move or sync it waits for came back ... */
    int answer;                        /* ... with this error */
    struct task finished;              /* its way to the writer when the job is done, or failed */
    uint8_t *memory;                   /* what COMPACTION_WARM brought; NULL: taken */
    uint32_t memory_size;
    uint64_t hint_size; /* of what COMPACTION_HINT wrote */
    int error;
    struct pace pace; /* the thread's own */
};

#endif

/* engine/log/compaction.h: the compaction thread, and what the writer hands it and gets from
 * it. */
#ifndef ENGINE_LOG_COMPACTION_H
#define ENGINE_LOG_COMPACTION_H

#include "engine/log/pace.h"
#include "engine/log/segment.h"
#include "runtime/op.h"

#define COMPACTION_CONSIDER_EVERY 64u /* groups, ... */
#define COMPACTION_LOOK_MS 1000u /* ... or so long after the last one, or an end of life, ... */
#define COMPACTION_LOOK_MAX_MS (24u * 3600 * 1000) /* ... and at least so often then */
#define COMPACTION_VICTIMS_MAX 64u

struct log_engine;
struct engine_control;

/* A segment to be emptied. The writer fills it in, then it is the thread's. */
struct victim {
    struct segment *segment;
    bool keep_removes; /* a segment older than it exists that is no victim; in a merge always, and
                        * where they go in any order */
    bool is_dead;      /* nothing in it counts: there is nothing to move */
    bool stays;        /* it is merged up to some key only */
    bool is_sparse;    /* of its file, only what counts is to be read */
    bool is_removed;   /* its file is gone */
    int error;         /* what the thread met in this one */
};

/* What is over in a victim is dropped without a removal when all that is older goes, too. If that
 * failed later, and older segments stay after all, it is made up for, of keys that are not there.
 */
static inline bool victim_owes(const struct victim *victim, bool expires)
{
    return victim->keep_removes && victim->segment->owes_removals && expires;
}

/* A record to be moved. */
struct move_item {
    const uint8_t *bytes; /* checked; before the writer gets it maybe NULL: to be read */
    uint32_t size;
    uint32_t offset; /* in its segment; not of range removals */
    uint8_t kind;
    uint8_t family;
    bool expires;
    struct victim *victim;
};

/* A bounded run of records that compaction wants in the newest segment. */
struct move {
    struct op op; /* completes with the group */
    struct task request;
    struct log_engine *log;
    struct move_item *items;
    uint32_t count;
    uint32_t size_bytes;  /* of these records together */
    uint32_t end_segment; /* where the log ended behind it */
    uint32_t end_offset;
};

enum compaction_job {
    COMPACTION_EMPTY, /* move what lives, remove the files */
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
    /* Of the writer's choice, in the log's order; only COMPACTION_EMPTY has more than one. */
    struct victim victims[COMPACTION_VICTIMS_MAX];
    unsigned victims_count; /* 0: idle. The writer's, and the thread's while it works */
    /* Move what is not behind its last key; NULL: everything. */
    const struct key_span *end;
    bool in_any_order; /* their files may go, for no removal is left out; else the oldest first */
    bool is_moved;     /* what counts in them is elsewhere, on the disk: only files are to go */
    enum compaction_job job;           /* what is to be done with them */
    _Atomic uint32_t rest;             /* after each move; see pace_rest_of */
    _Atomic(struct segment *) emptied; /* to be buried; a list by segment.next */
    atomic_bool answered;              /* the move or sync it waits for came back ... */
    int answer;                        /* ... with this error */
    struct task finished;              /* its way to the writer when the job is done, or failed */
    uint8_t *memory;                   /* for what COMPACTION_WARM brings; NULL: none */
    uint32_t memory_size;
    uint64_t hint_size;    /* of what COMPACTION_HINT wrote, ... */
    bool is_scattered;     /* ... and what that says of the segment, ... */
    struct key_span *span; /* ... and of its keys; NULL: taken */
    int error;
    struct pace pace;      /* the thread's own */
    struct slab_trim trim; /* of the index; the thread's from `trims` on, */
    atomic_bool trims;     /* which it takes, ... */
    struct task trimmed;   /* ... until this is on its way to the writer */
    bool is_trimming;      /* the writer's */
};

/* Of those who asked for a compaction; the writer's, but for the two that end it. */
struct compact_requests {
    struct task_list waiting; /* ops of struct engine_control */
    uint32_t below;           /* for them: all segments before this one that have garbage */
    uint32_t merge_below;     /* and of those that share keys; 0: not that far yet */
    uint64_t writes;          /* of the engine, when the last of them came */
    uint64_t look_ms;         /* without them: when to consider what has become garbage; 0: never */
    bool ended;               /* those who ask are refused */
    struct task end;
    _Atomic bool end_asked; /* `end` is on its way, or was */
};

int compaction_start(struct log_engine *log);
void compaction_stop(struct log_engine *log);
/* The writer: `control` completes when the segments of now have no garbage to speak of. */
void writer_compact(struct log_engine *log, struct engine_control *control);
/* Nobody waits for a compaction any more; what the thread is at goes on. Any thread. */
void compaction_end_requests(struct log_engine *log);
/* The writer: hands the next segment that something is to be done for to the compaction thread, if
 * that is idle. */
void compaction_consider(struct log_engine *log);
void upkeep_consider(struct log_engine *log); /* but none to be emptied */
bool compaction_is_stopping(struct log_engine *log);
/* The writer, when nothing else is to be done: has memory given back that the index does not need
 * any more, if that is much and the thread is idle. */
void compaction_trim_index(struct log_engine *log);
/* The writer: hands over an emptied segment that nobody can see any more. */
void compaction_bury(struct log_engine *log, struct segment *segment);

#endif

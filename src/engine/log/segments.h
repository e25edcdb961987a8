/*
 * engine/log/segments.h: the list of segment files, as the writer keeps it; see segments.c.
 *
 * All functions are the writer's, or recovery's before there is a writer.
 */
#ifndef ENGINE_LOG_SEGMENTS_H
#define ENGINE_LOG_SEGMENTS_H

#include "engine/log/segment.h"
#include "runtime/task.h"

#define SEGMENT_PATH_SIZE 4096u

struct log_engine;

#define RATE_MS 20u

/* How fast writes come. */
struct write_rate {
    uint64_t written; /* since then */
    uint64_t since_ms;
};

/* Takes what was written. Once in RATE_MS it tells how much of it came in such a time. */
bool rate_take(struct write_rate *rate, uint64_t written, uint64_t *ret_written);

/* Of a job in the background: `is_running` is one of those that preparation.mutex guards. */
bool background_runs(struct log_engine *log, const bool *is_running);
void background_is_over(struct log_engine *log, bool *is_running);

/* The newest segment's directory entry goes to the disk in the background, so that the one to come
 * need not wait for it; with it, those of empty files that are made ahead. */
struct entry_sync {
    struct task job;
    uint32_t segment; /* the last one with an entry; the job's while it runs, else the writer's */
    uint32_t make_to; /* the last one to make */
    bool is_making;   /* guarded by preparation.mutex, */
    bool is_running;  /* and so is this: it makes or syncs, */
    int error;        /* and this: of the last one */
    uint32_t made_to; /* the writer's: up to this one files may have been made ahead */
    uint64_t rolled_ms;
};

/* Where writes come fast, they go to the disk at once, in the background: segments_write_out. */
struct write_out {
    struct task job;
    bool is_running;     /* guarded by preparation.mutex */
    bool cache_is_large; /* a third of the machine's memory or more; since the open */
    uint32_t from;       /* and up to where the job writes */
    uint32_t to;
    bool drops;         /* the system forgets it then, */
    uint32_t forget;    /* and all of this segment; or 0 */
    uint32_t forgotten; /* the writer's: up to this segment */
    uint32_t segment;   /* the writer's, and the job's while it runs: all before it is seen to */
    uint32_t offset;
    atomic_bool is_fast; /* by the rate; the compaction thread looks, too */
    struct write_rate rate;
};

void segment_path(const struct log_engine *log, uint32_t number, char *out, size_t size);
/* Its file opened anew, for a thread in the background to write to: the system tells a failed sync
 * once to each opening, and the writer's own sync has to hear of it. It may be compacted, and gone.
 */
int segment_open_anew(const struct log_engine *log, uint32_t number, int *ret_fd);
/* A segment's bookkeeping in a slot of its own, appended to the list; no file yet. */
int segments_add(struct log_engine *log, uint32_t number, struct segment **ret_segment);
/* With --sync=always: has groups written past the system's cache, where that is possible. */
void segment_open_direct(struct log_engine *log, struct segment *segment);
/* Writes the blocks from the one with `from` to the end of the segment; durable when it returns. */
int segment_write_direct(const struct segment *segment, uint32_t from);
/* Takes it off the list; its memory of bytes goes, the rest stays until no entry points to it. */
void segments_unlink(struct log_engine *log, struct segment *segment);
/* Takes it off the list and frees it at once: no entry and no reader knows it. */
void segments_drop(struct log_engine *log, struct segment *segment);
/* Its bytes are on the disk only from now on. */
void segment_forget_memory(struct log_engine *log, struct segment *segment);
/* An emptied one that nobody can see any more: its slot is free from now on; closing the file,
 * which gives its space back, is left to the compaction thread. */
void segment_bury(struct log_engine *log, struct segment *segment);
/* Frees everything of a segment. */
void segment_destroy(struct log_engine *log, struct segment *segment);
/* Seals the newest and begins another with room for `size` bytes of records. */
int segments_roll(struct log_engine *log, uint64_t size);
/* Writes the seal behind the newest one's records; its size is left to the caller. */
int segment_seal(struct log_engine *log, struct segment *segment);
/* Begins a new segment: file, header, memory. */
int segments_begin(struct log_engine *log, uint64_t size);
/* Drops memory of old segments over the cache budget. */
void segments_evict(struct log_engine *log);
/* Writes zeros ahead of the newest segment's end, in the background. */
void segments_prepare(struct log_engine *log);
/* Before writing the newest up to `end`: waits for zeros that are being written there. */
void segments_claim(struct log_engine *log, uint64_t end);
/* Gives back the blocks that were set aside for the newest, when nobody writes. */
void segments_unreserve(struct log_engine *log);
/* After a group with so many bytes of batches: where they come fast, has what was written go to the
 * disk, in the background. */
void segments_write_out(struct log_engine *log, uint64_t written);
/* Does it, at the rate of late? Any thread. */
bool segments_are_written_out(const struct log_engine *log);
/* At the close: removes the empty files that were made ahead. */
void segments_remove_made(struct log_engine *log);
/* Waits for all that is done in the background, but for syncs of what was written. */
void segments_wait_prepared(struct log_engine *log);
/* Removes the file of an emptied segment, and its hint; for good when the directory is synced. */
int segments_unlink_file(struct log_engine *log, struct segment *segment);
int segments_remove_file(struct log_engine *log, struct segment *segment); /* and syncs it */
void segments_count(struct log_engine *log);
/* An entry in memory begins or ends to point to the segment at `location`. */
void segment_entry_added(struct log_engine *log, uint64_t location);
void segment_entry_gone(struct log_engine *log, uint64_t location);

#endif

/*
 * engine/log/pace.c: what keeps compaction out of the way of everybody else.
 *
 * Each of these was measured as what a set waited for beside a compaction (docs/architecture.md,
 * choice 19):
 *   - the thread is scheduled behind others (thread_step_back);
 *   - while others write, it rests after each move, in proportion to what that took: so it slows
 *     down by itself where processor or disk are the limit. The more garbage there is, the less it
 *     rests, and not at all when it is behind. Beside others its moves are smaller, too;
 *   - what it had written goes to the disk bit by bit, and it waits for that: else one sync has
 *     megabytes to write, and appends to the same file wait behind it. Not where batches come so
 *     fast that all is written out anyway (segments_write_out): it would wait for theirs;
 *   - a log that grows faster than compaction follows grows ever slower: batches wait before the
 *     writer takes them, and moves do not;
 *   - the last part of the disk is not for sets: compaction has to write before it gives back; and
 *     where it is about to give something back, batches wait longer and longer before that part;
 *   - the space of a file that nobody needs any more is given back in steps: freeing 64 MiB at once
 *     takes the disk for 20 ms (ext4, discard).
 *
 * Failure: none that matters. What could not be written out is written by the sync that follows,
 * which tells; a file whose space is not given back in steps gives it back when it is closed.
 */
#include "engine/log/pace.h"

#include "base/clock.h"
#include "engine/file.h"
#include "engine/log/log_engine.h"
#include "runtime/futex.h"

#include <sys/stat.h>
#include <unistd.h>

#define HELD_TIMES 4u             /* what lives: writes to a longer log are held, ... */
#define HELD_SEGMENTS 8u          /* ... and than so many, ... */
#define HELD_PER_MS (512u * 1024) /* ... to so many bytes a millisecond, and less, ... */
#define HELD_PER_MS_MIN 1024u     /* ... but not than so many, */
#define HELD_MS_MAX 50u           /* at a time */
#define ROOM_LOOK (1024u * 1024)  /* bytes from one look at the disk to the next */
#define ROOM_NEAR 2u              /* times what is kept: the end of the disk is near, ... */
#define ROOM_MS 500u              /* ... and would be reached in so long, at any time */
#define REST_NS_MAX (20u * 1000 * 1000)
#define MOVE_SIZE_ALONE (64u * 1024)
#define MOVE_SIZE_BESIDE (4u * 1024) /* a set waits for one move at most */
#define OUT_STEP (512u * 1024)       /* written out at a time */
#define OUT_BEHIND (64u * 1024) /* of the newest segment, whose last blocks are still changed */
#define FREE_STEPS 16u          /* to give a segment back in, ... */
#define FREE_STEP_MIN (1u * 1024 * 1024) /* ... of what is worth a step, ... */
#define FREE_STEP_MAX (4u * 1024 * 1024) /* ... or more than that, ... */
#define FREE_PAUSE_NS 1000000u           /* ... with a pause between them for each MiB */

/* --- the writer ------------------------------------------------------------------------------- */

uint32_t pace_rest_of(uint64_t garbage, uint64_t total)
{
    uint64_t share = total > 0 ? garbage * 256 / total : 0;
    if (share <= 256 / 3)
        return PACE_REST_MAX * 256;
    if (share >= 256 / 2)
        return 0;
    return (uint32_t)(PACE_REST_MAX * 256 * (256 / 2 - share) / (256 / 2 - 256 / 3));
}

/* A log that is four times what lives in it was written faster than compaction can follow, and the
 * disk would be full in the end. The longer it gets, the slower it may grow, by the square. */
static uint64_t writes_by_length(const struct log_engine *log, uint64_t garbage, uint64_t total)
{
    uint64_t live = total - garbage;
    uint64_t live_min = (uint64_t)HELD_SEGMENTS / HELD_TIMES * log->segment_size;
    live = live > live_min ? live : live_min;
    if (total <= HELD_TIMES * live)
        return UINT64_MAX;
    uint64_t part = HELD_TIMES * live / (total / 1024); /* in 1/1024 */
    return HELD_PER_MS * part / 1024 * part / 1024;
}

bool pace_room_is_near_end(const struct room *room)
{
    return room->left / ROOM_NEAR < room->kept;
}

/* Nor is a set to be refused for what compaction is about to give back. */
static uint64_t writes_by_room(const struct room *room, uint64_t garbage, uint64_t total)
{
    if (!pace_room_is_near_end(room) || garbage <= total / 3)
        return UINT64_MAX;
    return room->left / ROOM_MS;
}

uint32_t pace_writes_of(const struct log_engine *log, uint64_t garbage, uint64_t total)
{
    uint64_t by_length = writes_by_length(log, garbage, total);
    uint64_t by_room = writes_by_room(&log->room, garbage, total);
    uint64_t per_ms = by_length < by_room ? by_length : by_room;
    if (per_ms == UINT64_MAX)
        return 0;
    return per_ms > HELD_PER_MS_MIN ? (uint32_t)per_ms : HELD_PER_MS_MIN;
}

void pace_hold(struct log_engine *log, uint64_t written)
{
    struct held *held = &log->held;
    if (held->per_ms == 0 || written == 0)
        return;
    held->bytes += written;
    uint64_t wait_ms = held->bytes / held->per_ms;
    if (wait_ms == 0)
        return;
    held->bytes %= held->per_ms;
    held->until_ms = clock_now_ms() + (wait_ms < HELD_MS_MAX ? wait_ms : HELD_MS_MAX);
    log->groups_until_compaction = 0; /* few groups come now */
}

/* What is left for who gives back. A compaction that is at work needs no more than what lives in
 * its victims, and gives back all of them. */
static uint64_t kept_from_removals(const struct log_engine *log)
{
    const struct compaction *compaction = &log->compaction;
    uint64_t kept = log->room.kept / 2;
    if (compaction->victims_count == 0 || compaction->job != COMPACTION_EMPTY)
        return kept;
    uint64_t to_move = 0;
    for (unsigned i = 0; i < compaction->victims_count; i++)
        to_move += compaction->victims[i].segment->accounts.live_bytes;
    return to_move < kept ? to_move : kept;
}

bool pace_has_room(struct log_engine *log, uint64_t size)
{
    struct room *room = &log->room;
    if (room->kept == 0)
        return true;
    if (size > room->unlooked)
        return false;
    room->unlooked -= size;
    return true;
}

int pace_find_room(struct log_engine *log, uint64_t size, bool gives_back)
{
    struct room *room = &log->room;
    struct file_space space;
    room->unlooked = 0;
    if (file_space(log->directory, &space) != 0)
        return 0; /* the write will tell */
    room->left = space.free > room->kept ? space.free - room->kept : 0;
    if (pace_room_is_near_end(room))
        log->groups_until_compaction = 0;
    uint64_t kept = gives_back ? kept_from_removals(log) : room->kept;
    if (space.free < kept + size)
        return KVS_ERR_NO_SPACE;
    room->unlooked = room->left > size ? room->left - size : 0;
    room->unlooked = room->unlooked < ROOM_LOOK ? room->unlooked : ROOM_LOOK;
    return 0;
}

/* --- the compaction thread -------------------------------------------------------------------- */

void pace_pause(struct log_engine *log, uint64_t ns)
{
    struct compaction *compaction = &log->compaction;
    uint64_t until_ns = clock_now_ns() + ns;
    for (;;) {
        uint32_t signals = atomic_load_explicit(&compaction->signals, memory_order_acquire);
        uint64_t now_ns = clock_now_ns();
        if (compaction_is_stopping(log) || now_ns >= until_ns)
            return;
        futex_wait(&compaction->signals, signals, (int64_t)(until_ns - now_ns));
    }
}

static void write_out(struct log_engine *log, uint32_t segment, uint32_t from, uint32_t to)
{
    int fd;
    if (segments_are_written_out(log))
        return; /* batches would wait for compaction, and that for what they wrote */
    if (segment_open_anew(log, segment, &fd) != 0)
        return;
    (void)file_write_out(fd, from, to);
    close(fd);
}

static void write_out_up_to(struct log_engine *log, uint32_t segment, uint32_t offset)
{
    struct pace *pace = &log->compaction.pace;
    if (pace->segment != segment) {
        if (pace->segment != 0) /* to its end, wherever that was */
            write_out(log, pace->segment, pace->offset, UINT32_MAX);
        pace->segment = segment;
        pace->offset = 0;
    }
    uint32_t end = offset > OUT_BEHIND ? offset - OUT_BEHIND : 0;
    end -= end % FILE_BLOCK_SIZE;
    if (end < pace->offset + OUT_STEP)
        return;
    write_out(log, segment, pace->offset, end);
    pace->offset = end;
}

uint32_t pace_move_size(const struct log_engine *log)
{
    bool is_behind = atomic_load_explicit(&log->compaction.rest, memory_order_relaxed) == 0;
    return log->compaction.pace.is_beside && !is_behind ? MOVE_SIZE_BESIDE : MOVE_SIZE_ALONE;
}

void pace_after_move(struct log_engine *log, uint64_t took_ns, uint32_t segment, uint32_t offset)
{
    struct pace *pace = &log->compaction.pace;
    if (log->sync != KVS_SYNC_ALWAYS) /* else it is on the disk */
        write_out_up_to(log, segment, offset);
    uint64_t writes = stat_get(&log->stat_writes);
    uint32_t rest = atomic_load_explicit(&log->compaction.rest, memory_order_relaxed);
    uint64_t rest_ns = took_ns * rest / 256;
    pace->is_beside = writes != pace->writes_seen;
    if (pace->is_beside && rest_ns > 0)
        pace_pause(log, rest_ns < REST_NS_MAX ? rest_ns : REST_NS_MAX);
    pace->writes_seen = writes;
}

/* May the bytes of the file go before its descriptor? Not when a backup has it by another name, or
 * a copy of it is being made; nor when it has no name any more, but the store that it was shared
 * with reads it still, for a snapshot. */
static bool is_ours_alone(struct log_engine *log, int fd)
{
    struct stat facts;
    /* acquire: pairs with the release at the end of a checkpoint; one that begins later does not
     * know the segment. */
    return atomic_load_explicit(&log->checkpoints, memory_order_acquire) == 0 &&
           fstat(fd, &facts) == 0 && facts.st_nlink == 0 && file_is_alone(fd);
}

void pace_bury(struct log_engine *log, struct segment *segment)
{
    uint64_t size;
    if (is_ours_alone(log, segment->fd) && file_size(segment->fd, &size) == 0) {
        uint64_t step = size / FREE_STEPS + 1;
        step = step < FREE_STEP_MIN ? FREE_STEP_MIN : step < FREE_STEP_MAX ? step : FREE_STEP_MAX;
        while (size > step && !compaction_is_stopping(log)) {
            size -= step;
            if (file_truncate(segment->fd, size) != 0)
                break;
            pace_pause(log, step * FREE_PAUSE_NS / (1024 * 1024));
        }
    }
    close(segment->fd); /* nothing unsynced is left in it: no error to answer */
    atomic_fetch_sub_explicit(&log->stat_held_bytes, segment->size, memory_order_relaxed);
    segment_free(segment);
}

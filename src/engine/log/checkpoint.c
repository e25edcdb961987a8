/*
 * engine/log/checkpoint.c: a copy of the store in a new directory, while it serves.
 *
 *   1. the writer commits its group and seals the newest segment, if it holds anything: the sealed
 *      segments of this moment are the copy. It takes a descriptor of each, so that compaction may
 *      go on and remove files;
 *   2. a pool thread makes the directory, and for each segment a hard link there, or a copy of its
 *      bytes where that cannot be (another file system, or the file was compacted meanwhile);
 *   3. the file KVS is written last: a directory without it is no finished copy.
 * No write waits for longer than a roll to the next segment takes.
 *
 * Failure: the error is the control's; what was made of the directory stays there.
 */
#include "engine/log/log_engine.h"

#include "base/error.h"
#include "base/mem.h"
#include "engine/directory.h"
#include "engine/file.h"
#include "engine/log/hint_file.h"
#include "runtime/thread_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define COPY_SIZE (1024u * 1024)

struct checkpoint {
    struct task job;
    struct log_engine *log;
    struct engine_control *control;
    size_t count;
    struct {
        uint32_t number;
        uint32_t size;
        int fd;
    } files[];
};

static void checkpoint_end(struct checkpoint *checkpoint, int error)
{
    struct completions completions = COMPLETIONS_INIT;
    completions_add(&completions, &checkpoint->control->op, error);
    for (size_t i = 0; i < checkpoint->count; i++)
        close(checkpoint->files[i].fd);
    /* release: pairs with the acquire in pace.c: now the files may be cut. */
    atomic_fetch_sub_explicit(&checkpoint->log->checkpoints, 1, memory_order_release);
    mem_free(checkpoint);
    completions_flush(&completions); /* the engine may be closed from here on */
}

/* --- on the pool ------------------------------------------------------------------------------ */

static int bytes_copy(int from, uint32_t size, const char *path)
{
    int fd;
    uint8_t *buffer = mem_alloc(COPY_SIZE);
    int error =
        buffer != NULL ? file_open(path, O_WRONLY | O_CREAT | O_EXCL, &fd) : KVS_ERR_NO_MEMORY;
    if (error != 0) {
        mem_free(buffer);
        return error;
    }
    for (uint32_t at = 0; at < size && error == 0;) {
        uint32_t part = size - at < COPY_SIZE ? size - at : COPY_SIZE;
        error = file_read(from, buffer, part, at);
        if (error == 0)
            error = file_write(fd, buffer, part, at);
        at += part;
    }
    if (error == 0)
        error = file_sync(fd);
    close(fd);
    mem_free(buffer);
    return error;
}

/* If there is one: the copy's first start is faster with it. */
static void hint_link(const struct checkpoint *checkpoint, uint32_t number)
{
    char name[HINT_NAME_SIZE];
    char from[SEGMENT_PATH_SIZE];
    char to[SEGMENT_PATH_SIZE];
    hint_name_format(number, false, name);
    hint_file_path(checkpoint->log, number, false, from, sizeof from);
    int length = snprintf(to, sizeof to, "%s/%s", checkpoint->control->path, name);
    if (length > 0 && (size_t)length < sizeof to)
        (void)!link(from, to);
}

static int segment_copy(const struct checkpoint *checkpoint, size_t i)
{
    const char *directory = checkpoint->control->path;
    uint32_t number = checkpoint->files[i].number;
    int fd = checkpoint->files[i].fd;
    char name[SEGMENT_NAME_SIZE];
    char from[SEGMENT_PATH_SIZE];
    char to[SEGMENT_PATH_SIZE];
    segment_name_format(number, name);
    segment_path(checkpoint->log, number, from, sizeof from);
    int length = snprintf(to, sizeof to, "%s/%s", directory, name);
    if (length < 0 || (size_t)length >= sizeof to)
        return KVS_ERR_INVALID_ARGUMENT;
    int error = file_sync(fd);
    if (error != 0)
        return error;
    hint_link(checkpoint, number);
    if (file_link(from, to) == 0) /* a number is never used twice: it is the same file */
        return 0;
    return bytes_copy(fd, checkpoint->files[i].size, to);
}

static void checkpoint_job(struct task *task)
{
    struct checkpoint *checkpoint = CONTAINER_OF(task, struct checkpoint, job);
    const char *path = checkpoint->control->path;
    int error = engine_directory_make_blocking(path);
    for (size_t i = 0; i < checkpoint->count && error == 0; i++)
        error = segment_copy(checkpoint, i);
    /* relaxed: what failed before the files were opened is not told by them. */
    if (error == 0 && atomic_load_explicit(&checkpoint->log->failed, memory_order_relaxed))
        error = KVS_ERR_STORAGE_FAILED;
    if (error == 0) /* or the mark might outlive a power cut, and segments not */
        error = file_sync_directory(path);
    if (error == 0)
        error = engine_directory_mark_blocking(path, LOG_ENGINE_NAME);
    checkpoint_end(checkpoint, error);
}

/* --- on the writer's thread ------------------------------------------------------------------- */

/* Opened anew: the system tells a failed sync once to each opening of a file, and both the backup
 * and the store have to hear of it. One that has no name any more was synced before it lost it. */
static int segment_open(const struct log_engine *log, const struct segment *segment, int *ret_fd)
{
    char path[SEGMENT_PATH_SIZE];
    segment_path(log, segment->number, path, sizeof path);
    if (file_open(path, O_RDONLY, ret_fd) == 0)
        return 0;
    *ret_fd = fcntl(segment->fd, F_DUPFD_CLOEXEC, 0);
    return *ret_fd >= 0 ? 0 : error_from_errno(errno);
}

static int segments_gather(struct log_engine *log, struct checkpoint *checkpoint)
{
    for (struct segment *at = log->oldest; at != log->newest; at = at->next) {
        int fd;
        int error = segment_open(log, at, &fd);
        if (error != 0)
            return error;
        checkpoint->files[checkpoint->count].number = at->number;
        checkpoint->files[checkpoint->count].size = at->size;
        checkpoint->files[checkpoint->count++].fd = fd;
    }
    return 0;
}

static struct checkpoint *checkpoint_new(struct log_engine *log, struct engine_control *control)
{
    size_t count = 0;
    for (struct segment *at = log->oldest; at != NULL; at = at->next)
        count++;
    struct checkpoint *checkpoint = NULL;
    checkpoint = mem_zalloc(sizeof *checkpoint + (count + 1) * sizeof checkpoint->files[0]);
    if (checkpoint == NULL)
        return NULL;
    checkpoint->job.run = checkpoint_job;
    checkpoint->log = log;
    checkpoint->control = control;
    /* relaxed: who buries a segment of now hears of it by the writer, which runs this. */
    atomic_fetch_add_explicit(&log->checkpoints, 1, memory_order_relaxed);
    return checkpoint;
}

void writer_checkpoint(struct log_engine *log, struct engine_control *control)
{
    writer_commit(log);
    struct checkpoint *checkpoint = checkpoint_new(log, control);
    if (checkpoint == NULL) {
        struct completions completions = COMPLETIONS_INIT;
        completions_add(&completions, &control->op, KVS_ERR_NO_MEMORY);
        completions_flush(&completions);
        return;
    }
    int error = 0;
    if (atomic_load_explicit(&log->failed, memory_order_relaxed))
        error = KVS_ERR_STORAGE_FAILED;
    else if (log->newest->size > SEGMENT_HEADER_SIZE)
        error = segments_roll(log, 0);
    if (error == 0)
        error = segments_gather(log, checkpoint);
    if (error != 0)
        checkpoint_end(checkpoint, error);
    else
        pool_submit_task(log->pool, &checkpoint->job);
}

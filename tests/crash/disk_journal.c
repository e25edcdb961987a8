/* tests/crash/disk_journal.c: see disk_journal.h. Any thread may come through the wrapped calls. */
#include "crash/disk_journal.h"

#include "engine/file.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FDS_MAX 1024
#define FILES_MAX 4096
#define SECTOR 512

enum event_kind {
    EVENT_CREATE,
    EVENT_WRITE,
    EVENT_TRUNCATE,
    EVENT_SYNC,
    EVENT_UNLINK,
    EVENT_RENAME,
    EVENT_SYNC_DIRECTORY,
    EVENT_NOTE
};

struct event {
    enum event_kind kind;
    unsigned file;
    uint64_t offset; /* also: size of a truncation, number of a note, new name of a rename */
    size_t size;
    uint8_t *bytes;
    size_t begun; /* of a sync: events before this one are covered */
    bool direct;  /* a write that is durable when it is done */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards all below */
static bool noting;
static char root[256];
static struct event *events;
static size_t events_count;
static size_t events_room;
static char files[FILES_MAX][64]; /* names */
static unsigned files_count;
static int file_of_fd[FDS_MAX]; /* 1 + index; 0: not ours */

static bool begins_with_root(const char *path)
{
    size_t size = strlen(root);
    return noting && strncmp(path, root, size) == 0 && (path[size] == '/' || path[size] == '\0');
}

/* Under the lock. */
static unsigned file_index(const char *path)
{
    const char *name = strrchr(path, '/') + 1;
    for (unsigned i = 0; i < files_count; i++) {
        if (strcmp(files[i], name) == 0)
            return i;
    }
    assert(files_count < FILES_MAX);
    snprintf(files[files_count], sizeof files[0], "%s", name);
    return files_count++;
}

/* Under the lock. */
static void event_add(struct event event)
{
    if (events_count == events_room) {
        events_room = events_room > 0 ? 2 * events_room : 1024;
        events = realloc(events, events_room * sizeof *events);
        assert(events != NULL);
    }
    events[events_count++] = event;
}

void disk_journal_free(void)
{
    for (size_t i = 0; i < events_count; i++)
        free(events[i].bytes);
    free(events);
    events = NULL;
    events_count = events_room = 0;
    files_count = 0;
    memset(file_of_fd, 0, sizeof file_of_fd);
}

void disk_journal_start(const char *directory)
{
    pthread_mutex_lock(&lock);
    disk_journal_free();
    snprintf(root, sizeof root, "%s", directory);
    noting = true;
    pthread_mutex_unlock(&lock);
}

void disk_journal_stop(void)
{
    pthread_mutex_lock(&lock);
    noting = false;
    pthread_mutex_unlock(&lock);
}

void disk_journal_note(uint64_t number)
{
    pthread_mutex_lock(&lock);
    event_add((struct event){.kind = EVENT_NOTE, .offset = number});
    pthread_mutex_unlock(&lock);
}

size_t disk_journal_length(void)
{
    return events_count;
}

/* --- the wrapped calls ------------------------------------------------------------------------*/

int __real_file_open(const char *path, int flags, int *ret_fd);
int __real_file_open_direct(const char *path, int *ret_fd);
int __real_file_write_direct(int fd, const void *data, size_t size, uint64_t offset);
int __real_file_write(int fd, const void *data, size_t size, uint64_t offset);
int __real_file_sync(int fd);
int __real_file_truncate(int fd, uint64_t size);
int __real_file_unlink(const char *path);
int __real_file_rename(const char *from, const char *to);
int __real_file_sync_directory(const char *path);
int __wrap_file_open(const char *path, int flags, int *ret_fd);
int __wrap_file_open_direct(const char *path, int *ret_fd);
int __wrap_file_write_direct(int fd, const void *data, size_t size, uint64_t offset);
int __wrap_file_write(int fd, const void *data, size_t size, uint64_t offset);
int __wrap_file_sync(int fd);
int __wrap_file_truncate(int fd, uint64_t size);
int __wrap_file_unlink(const char *path);
int __wrap_file_rename(const char *from, const char *to);
int __wrap_file_sync_directory(const char *path);

int __wrap_file_open(const char *path, int flags, int *ret_fd)
{
    struct stat status;
    bool is_new = stat(path, &status) != 0;
    int error = __real_file_open(path, flags, ret_fd);
    if (error != 0)
        return error;
    pthread_mutex_lock(&lock);
    assert(*ret_fd < FDS_MAX);
    file_of_fd[*ret_fd] = 0;
    if (begins_with_root(path)) {
        unsigned file = file_index(path);
        file_of_fd[*ret_fd] = 1 + (int)file;
        if (is_new)
            event_add((struct event){.kind = EVENT_CREATE, .file = file});
        else if ((flags & O_TRUNC) != 0)
            event_add((struct event){.kind = EVENT_TRUNCATE, .file = file});
    }
    pthread_mutex_unlock(&lock);
    return 0;
}

/* Notes an event of an open file. */
static void fd_event(int fd, struct event event)
{
    pthread_mutex_lock(&lock);
    if (noting && file_of_fd[fd] > 0) {
        event.file = (unsigned)file_of_fd[fd] - 1;
        event_add(event);
    } else {
        free(event.bytes);
    }
    pthread_mutex_unlock(&lock);
}

static size_t events_now(void)
{
    pthread_mutex_lock(&lock);
    size_t now = events_count;
    pthread_mutex_unlock(&lock);
    return now;
}

int __wrap_file_open_direct(const char *path, int *ret_fd)
{
    int error = __real_file_open_direct(path, ret_fd);
    if (error != 0)
        return error;
    pthread_mutex_lock(&lock);
    assert(*ret_fd < FDS_MAX);
    file_of_fd[*ret_fd] = begins_with_root(path) ? 1 + (int)file_index(path) : 0;
    pthread_mutex_unlock(&lock);
    return 0;
}

static struct event write_event(const void *data, size_t size, uint64_t offset)
{
    struct event event = {.kind = EVENT_WRITE, .offset = offset, .size = size};
    event.bytes = malloc(size);
    assert(event.bytes != NULL);
    memcpy(event.bytes, data, size);
    return event;
}

int __wrap_file_write(int fd, const void *data, size_t size, uint64_t offset)
{
    struct event event = write_event(data, size, offset);
    int error = __real_file_write(fd, data, size, offset);
    fd_event(fd, event);
    return error;
}

int __wrap_file_write_direct(int fd, const void *data, size_t size, uint64_t offset)
{
    struct event event = write_event(data, size, offset);
    int error = __real_file_write_direct(fd, data, size, offset);
    event.direct = error == 0;
    fd_event(fd, event);
    return error;
}

int __wrap_file_truncate(int fd, uint64_t size)
{
    int error = __real_file_truncate(fd, size);
    fd_event(fd, (struct event){.kind = EVENT_TRUNCATE, .offset = size});
    return error;
}

int __wrap_file_sync(int fd)
{
    size_t begun = events_now();
    int error = __real_file_sync(fd);
    if (error == 0)
        fd_event(fd, (struct event){.kind = EVENT_SYNC, .begun = begun});
    return error;
}

int __wrap_file_unlink(const char *path)
{
    int error = __real_file_unlink(path);
    pthread_mutex_lock(&lock);
    if (error == 0 && begins_with_root(path))
        event_add((struct event){.kind = EVENT_UNLINK, .file = file_index(path)});
    pthread_mutex_unlock(&lock);
    return error;
}

int __wrap_file_rename(const char *from, const char *to)
{
    int error = __real_file_rename(from, to);
    pthread_mutex_lock(&lock);
    if (error == 0 && begins_with_root(from))
        event_add((struct event){
            .kind = EVENT_RENAME, .file = file_index(from), .offset = file_index(to)});
    pthread_mutex_unlock(&lock);
    return error;
}

int __wrap_file_sync_directory(const char *path)
{
    size_t begun = events_now();
    int error = __real_file_sync_directory(path);
    pthread_mutex_lock(&lock);
    if (error == 0 && begins_with_root(path))
        event_add((struct event){.kind = EVENT_SYNC_DIRECTORY, .begun = begun});
    pthread_mutex_unlock(&lock);
    return error;
}

/* --- the cut ----------------------------------------------------------------------------------*/

/* Up to which event each file was synced before the cut, and the directory is kept by it. */
static size_t synced_up_to[FILES_MAX];
static size_t directory_up_to;

static void find_synced(size_t at, struct rand *rand)
{
    memset(synced_up_to, 0, sizeof synced_up_to);
    directory_up_to = 0;
    for (size_t i = 0; i < at; i++) {
        size_t *synced = events[i].kind == EVENT_SYNC             ? &synced_up_to[events[i].file]
                         : events[i].kind == EVENT_SYNC_DIRECTORY ? &directory_up_to
                                                                  : NULL;
        if (synced != NULL && events[i].begun > *synced)
            *synced = events[i].begun;
    }
    directory_up_to += rand_below(rand, at - directory_up_to + 1);
}

static void apply_write(int fd, const struct event *event, bool durable, struct rand *rand)
{
    uint64_t mode = rand_below(rand, 3); /* all of it, none of it, any sectors */
    for (size_t done = 0; done < event->size;) {
        size_t size = SECTOR - (event->offset + done) % SECTOR;
        if (size > event->size - done)
            size = event->size - done;
        if (durable || mode == 0 || (mode == 2 && rand_below(rand, 2) == 0)) {
            ssize_t wrote = pwrite(fd, event->bytes + done, size, (off_t)(event->offset + done));
            assert(wrote == (ssize_t)size);
        }
        done += size;
    }
}

/* Does the file's directory entry outlive the cut? */
static bool entry_is_there(unsigned file)
{
    bool there = false;
    for (size_t i = 0; i < directory_up_to; i++) {
        if (events[i].file == file && events[i].kind == EVENT_CREATE)
            there = true;
        if (events[i].file == file && events[i].kind == EVENT_UNLINK)
            there = false;
    }
    return there;
}

/* A file is renamed at most once, and nothing else ever has the new name. */
static const char *file_name(unsigned file)
{
    for (size_t i = 0; i < directory_up_to; i++) {
        if (events[i].kind == EVENT_RENAME && events[i].file == file)
            return files[events[i].offset];
    }
    return files[file];
}

static void make_file(unsigned file, size_t at, struct rand *rand, const char *directory)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, file_name(file));
    int fd = open(path, O_RDWR | O_CREAT, 0644);
    assert(fd >= 0);
    /* The event at the cut was under way: any of it may be there. */
    for (size_t i = 0; i <= at && i < events_count; i++) {
        const struct event *event = &events[i];
        if (event->file != file)
            continue;
        bool durable = i < at && (event->direct || i < synced_up_to[file]);
        if (event->kind == EVENT_WRITE)
            apply_write(fd, event, durable, rand);
        if (event->kind == EVENT_TRUNCATE && (durable || rand_below(rand, 2) == 0)) {
            int status = ftruncate(fd, (off_t)event->offset);
            assert(status == 0);
            (void)status;
        }
    }
    close(fd);
}

uint64_t disk_journal_cut(size_t at, struct rand *rand, const char *directory)
{
    uint64_t note = 0;
    int status = mkdir(directory, 0755);
    assert(status == 0);
    (void)status;
    find_synced(at, rand);
    for (unsigned file = 0; file < files_count; file++) {
        if (entry_is_there(file))
            make_file(file, at, rand, directory);
    }
    for (size_t i = 0; i < at; i++) {
        if (events[i].kind == EVENT_NOTE)
            note = events[i].offset;
    }
    return note;
}

/* tests/crash/disk_journal.c: see disk_journal.h. Any thread may come through the wrapped calls. */
#include "crash/disk_journal.h"

#include "engine/file.h"

#include <kvs/error.h>

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 4096 /* that ever were */
#define NAMES_MAX 4096
#define NAME_SIZE 80
#define SECTOR 512
#define NONE UINT32_MAX

enum event_kind {
    EVENT_WRITE,
    EVENT_TRUNCATE,
    EVENT_SYNC,
    EVENT_NAME,   /* the name stands for this file from now on; file NONE: a directory */
    EVENT_UNNAME, /* the name is gone */
    EVENT_RENAME, /* the file of one name has another from now on */
    EVENT_SYNC_DIRECTORY,
    EVENT_NOTE
};

struct event {
    enum event_kind kind;
    uint32_t file;   /* of a directory's sync: its name */
    uint32_t name;   /* index of the name */
    uint64_t offset; /* also: size of a truncation, number of a note, new name of a rename */
    size_t size;
    uint8_t *bytes;
    size_t begun; /* of a sync: events before this one are covered */
    bool direct;  /* a write that is durable when it is done */
    bool lost;    /* a write that will never be */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards all below */
static bool noting;
static char root[256];
static struct event *events;
static size_t events_count;
static size_t events_room;
static char names[NAMES_MAX][NAME_SIZE]; /* below the root; "" is the root itself */
static uint32_t names_count;
static uint32_t file_of_name[NAMES_MAX]; /* by now */
static uint32_t files_count;
static ino_t inode_of_file[FILES_MAX];

static bool begins_with_root(const char *path)
{
    size_t size = strlen(root);
    return noting && strncmp(path, root, size) == 0 && (path[size] == '/' || path[size] == '\0');
}

/* Under the lock; of a path that begins with the root. */
static uint32_t name_index(const char *path)
{
    const char *name = path + strlen(root);
    name += *name == '/';
    for (uint32_t i = 0; i < names_count; i++) {
        if (strcmp(names[i], name) == 0)
            return i;
    }
    assert(names_count < NAMES_MAX && strlen(name) < NAME_SIZE);
    snprintf(names[names_count], NAME_SIZE, "%s", name);
    file_of_name[names_count] = NONE;
    return names_count++;
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

static ino_t inode_of_fd(int fd)
{
    struct stat status;
    int error = fstat(fd, &status);
    assert(error == 0);
    (void)error;
    return status.st_ino;
}

static uint32_t file_new(int fd)
{
    assert(files_count < FILES_MAX);
    inode_of_file[files_count] = inode_of_fd(fd);
    return files_count++;
}

static void name_event(const char *path, uint32_t file)
{
    uint32_t name = name_index(path);
    file_of_name[name] = file;
    event_add((struct event){.kind = EVENT_NAME, .name = name, .file = file});
}

void disk_journal_free(void)
{
    for (size_t i = 0; i < events_count; i++)
        free(events[i].bytes);
    free(events);
    events = NULL;
    events_count = events_room = 0;
    files_count = names_count = 0;
}

/* A file that is there at the start: all of it is safe. */
static void load_file(const char *path)
{
    struct stat status;
    int fd = open(path, O_RDONLY);
    int error = fstat(fd, &status);
    assert(fd >= 0 && error == 0);
    struct event event = {.kind = EVENT_WRITE, .size = (size_t)status.st_size, .direct = true};
    event.bytes = malloc(event.size + 1);
    assert(event.bytes != NULL);
    ssize_t got = read(fd, event.bytes, event.size);
    assert(got == (ssize_t)event.size);
    (void)error;
    (void)got;
    event.file = file_new(fd);
    close(fd);
    name_event(path, event.file);
    event_add(event);
}

static void load_directory(const char *path)
{
    DIR *directory = opendir(path);
    assert(directory != NULL);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char below[1024];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(below, sizeof below, "%.500s/%s", path, entry->d_name);
        if (entry->d_type != DT_DIR) {
            load_file(below);
            continue;
        }
        name_event(below, NONE);
        load_directory(below);
    }
    closedir(directory);
    uint32_t name = name_index(path);
    event_add(
        (struct event){.kind = EVENT_SYNC_DIRECTORY, .file = name, .begun = events_count + 1});
}

size_t disk_journal_start(const char *directory)
{
    pthread_mutex_lock(&lock);
    disk_journal_free();
    snprintf(root, sizeof root, "%s", directory);
    noting = true;
    load_directory(directory);
    size_t begin = events_count;
    pthread_mutex_unlock(&lock);
    return begin;
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
    event_add((struct event){.kind = EVENT_NOTE, .offset = number, .file = NONE});
    pthread_mutex_unlock(&lock);
}

size_t disk_journal_length(void)
{
    pthread_mutex_lock(&lock);
    size_t length = events_count;
    pthread_mutex_unlock(&lock);
    return length;
}

/* --- the wrapped calls ------------------------------------------------------------------------*/

int __real_file_open(const char *path, int flags, int *ret_fd);
int __real_file_write_direct(int fd, const void *data, size_t size, uint64_t offset);
int __real_file_write(int fd, const void *data, size_t size, uint64_t offset);
int __real_file_sync(int fd);
int __real_file_truncate(int fd, uint64_t size);
int __real_file_unlink(const char *path);
int __real_file_rename(const char *from, const char *to);
int __real_file_sync_directory(const char *path);
int __real_link(const char *from, const char *to);
int __real_mkdir(const char *path, mode_t mode);
int __wrap_file_open(const char *path, int flags, int *ret_fd);
int __wrap_file_write_direct(int fd, const void *data, size_t size, uint64_t offset);
int __wrap_file_write(int fd, const void *data, size_t size, uint64_t offset);
int __wrap_file_sync(int fd);
int __wrap_file_truncate(int fd, uint64_t size);
int __wrap_file_unlink(const char *path);
int __wrap_file_rename(const char *from, const char *to);
int __wrap_file_sync_directory(const char *path);
int __wrap_link(const char *from, const char *to);
int __wrap_mkdir(const char *path, mode_t mode);

int __wrap_file_open(const char *path, int flags, int *ret_fd)
{
    struct stat status;
    bool is_new = stat(path, &status) != 0;
    int error = __real_file_open(path, flags, ret_fd);
    if (error != 0)
        return error;
    pthread_mutex_lock(&lock);
    if (begins_with_root(path)) {
        uint32_t file = file_of_name[name_index(path)];
        if (is_new) {
            file = file_new(*ret_fd);
            name_event(path, file);
        } else if ((flags & O_TRUNC) != 0) {
            event_add((struct event){.kind = EVENT_TRUNCATE, .file = file});
        }
    }
    pthread_mutex_unlock(&lock);
    return 0;
}

/* Under the lock. */
static uint32_t file_of_fd(int fd)
{
    uint32_t file = files_count; /* the newest: a number may be used again */
    ino_t inode = inode_of_fd(fd);
    while (file > 0 && inode_of_file[file - 1] != inode)
        file--;
    return file > 0 ? file - 1 : NONE;
}

/* Notes an event of an open file. */
static void fd_event(int fd, struct event event)
{
    pthread_mutex_lock(&lock);
    uint32_t file = file_of_fd(fd);
    if (noting && file != NONE) {
        event.file = file;
        event_add(event);
    } else {
        free(event.bytes);
    }
    pthread_mutex_unlock(&lock);
}

static struct event write_event(const void *data, size_t size, uint64_t offset)
{
    struct event event = {.kind = EVENT_WRITE, .offset = offset, .size = size};
    event.bytes = malloc(size);
    assert(event.bytes != NULL);
    memcpy(event.bytes, data, size);
    return event;
}

static atomic_bool disk_fills;

void disk_journal_fill_disk(void)
{
    atomic_store(&disk_fills, true);
}

/* Zeros are written ahead of the log, by another thread: that is not meant. */
static bool has_content(const uint8_t *data, size_t size)
{
    size_t at = 0;
    while (at < size && data[at] == 0)
        at++;
    return at < size;
}

typedef int write_fn(int fd, const void *data, size_t size, uint64_t offset);

static int write_noted(write_fn *write, bool is_direct, int fd, const void *data, size_t size,
                       uint64_t offset)
{
    bool is_full =
        size > DISK_FULL_AFTER && has_content(data, size) && atomic_exchange(&disk_fills, false);
    size_t written = is_full ? DISK_FULL_AFTER : size;
    struct event event = write_event(data, written, offset);
    int error = write(fd, data, written, offset);
    event.direct = is_direct && error == 0;
    fd_event(fd, event);
    return is_full && error == 0 ? KVS_ERR_NO_SPACE : error;
}

int __wrap_file_write(int fd, const void *data, size_t size, uint64_t offset)
{
    return write_noted(__real_file_write, false, fd, data, size, offset);
}

int __wrap_file_write_direct(int fd, const void *data, size_t size, uint64_t offset)
{
    return write_noted(__real_file_write_direct, true, fd, data, size, offset);
}

int __wrap_file_truncate(int fd, uint64_t size)
{
    int error = __real_file_truncate(fd, size);
    fd_event(fd, (struct event){.kind = EVENT_TRUNCATE, .offset = size});
    return error;
}

static atomic_bool syncs_fail;

void disk_journal_fail_syncs(bool fail)
{
    atomic_store(&syncs_fail, fail);
}

/* Under the lock; of the file's writes before the newest event. */
static void lose_unsynced(uint32_t file)
{
    size_t safe = 0;
    for (size_t i = 0; i < events_count; i++) {
        if (events[i].kind == EVENT_SYNC && events[i].file == file && events[i].begun > safe)
            safe = events[i].begun;
    }
    for (size_t i = safe; i < events_count; i++)
        events[i].lost |= events[i].file == file && !events[i].direct;
}

static int sync_fail(int fd)
{
    pthread_mutex_lock(&lock);
    uint32_t file = file_of_fd(fd);
    if (noting && file != NONE)
        lose_unsynced(file);
    pthread_mutex_unlock(&lock);
    return KVS_ERR_IO;
}

int __wrap_file_sync(int fd)
{
    if (atomic_load(&syncs_fail))
        return sync_fail(fd);
    size_t begun = disk_journal_length();
    int error = __real_file_sync(fd);
    if (error == 0)
        fd_event(fd, (struct event){.kind = EVENT_SYNC, .begun = begun});
    return error;
}

int __wrap_file_unlink(const char *path)
{
    int error = __real_file_unlink(path);
    pthread_mutex_lock(&lock);
    if (error == 0 && begins_with_root(path)) {
        uint32_t name = name_index(path);
        file_of_name[name] = NONE;
        event_add((struct event){.kind = EVENT_UNNAME, .name = name, .file = NONE});
    }
    pthread_mutex_unlock(&lock);
    return error;
}

int __wrap_file_rename(const char *from, const char *to)
{
    int error = __real_file_rename(from, to);
    pthread_mutex_lock(&lock);
    if (error == 0 && begins_with_root(from)) {
        struct event event = {
            .kind = EVENT_RENAME, .name = name_index(from), .offset = name_index(to)};
        event.file = file_of_name[event.name];
        file_of_name[event.offset] = event.file;
        file_of_name[event.name] = NONE;
        event_add(event);
    }
    pthread_mutex_unlock(&lock);
    return error;
}

static _Thread_local bool directory_sync_fails;

void disk_journal_fail_directory_sync(void)
{
    directory_sync_fails = true;
}

int __wrap_file_sync_directory(const char *path)
{
    if (directory_sync_fails) {
        directory_sync_fails = false;
        return KVS_ERR_IO;
    }
    size_t begun = disk_journal_length();
    int error = __real_file_sync_directory(path);
    pthread_mutex_lock(&lock);
    if (error == 0 && begins_with_root(path))
        event_add(
            (struct event){.kind = EVENT_SYNC_DIRECTORY, .file = name_index(path), .begun = begun});
    pthread_mutex_unlock(&lock);
    return error;
}

int __wrap_link(const char *from, const char *to)
{
    pthread_mutex_lock(&lock); /* compaction may take the old name away as soon as there is a new */
    uint32_t file = begins_with_root(from) ? file_of_name[name_index(from)] : NONE;
    pthread_mutex_unlock(&lock);
    int status = __real_link(from, to);
    pthread_mutex_lock(&lock);
    if (status == 0 && begins_with_root(to))
        name_event(to, file);
    pthread_mutex_unlock(&lock);
    return status;
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    int status = __real_mkdir(path, mode);
    pthread_mutex_lock(&lock);
    if (status == 0 && begins_with_root(path))
        name_event(path, NONE);
    pthread_mutex_unlock(&lock);
    return status;
}

/* --- the cut ----------------------------------------------------------------------------------*/

static size_t file_safe[FILES_MAX];   /* what was done to the file before this event is safe */
static size_t names_safe[NAMES_MAX];  /* the same of what is in a directory, by its name */
static uint32_t file_then[NAMES_MAX]; /* what each name stands for after the cut */
static bool named_then[NAMES_MAX];

static void find_safe(size_t at)
{
    memset(file_safe, 0, sizeof file_safe);
    memset(names_safe, 0, sizeof names_safe);
    for (size_t i = 0; i < at; i++) {
        size_t *safe = events[i].kind == EVENT_SYNC             ? &file_safe[events[i].file]
                       : events[i].kind == EVENT_SYNC_DIRECTORY ? &names_safe[events[i].file]
                                                                : NULL;
        if (safe != NULL && events[i].begun > *safe)
            *safe = events[i].begun;
    }
}

/* The name's directory: "" and "data" of "data/KVS". */
static uint32_t directory_of(uint32_t name)
{
    char path[sizeof root + NAME_SIZE + 2];
    snprintf(path, sizeof path, "%.255s/%.79s", root, names[name]);
    *strrchr(path, '/') = '\0';
    return name_index(path);
}

static void name_apply(const struct event *event)
{
    if (event->kind == EVENT_RENAME) { /* also when the old name never reached the disk */
        file_then[event->offset] = event->file;
        named_then[event->offset] = true;
        named_then[event->name] = false;
        return;
    }
    file_then[event->name] = event->file;
    named_then[event->name] = event->kind == EVENT_NAME;
}

/* Journals are written for all directories together: a sync of one takes all before it along. */
static void find_names(size_t at, enum disk_names kind, struct rand *rand)
{
    memset(named_then, 0, sizeof named_then);
    size_t ordered = 0;
    for (uint32_t i = 0; i < names_count; i++)
        ordered = names_safe[i] > ordered ? names_safe[i] : ordered;
    ordered += rand_below(rand, at + 1 > ordered ? at + 1 - ordered : 1);
    for (size_t i = 0; i < at; i++) {
        const struct event *event = &events[i];
        if (event->kind < EVENT_NAME || event->kind > EVENT_RENAME)
            continue;
        bool there = kind == DISK_NAMES_ORDERED
                         ? i < ordered
                         : i < names_safe[directory_of(event->name)] || rand_below(rand, 2) == 0;
        if (there)
            name_apply(event);
    }
}

static void apply_write(int fd, const struct event *event, bool durable, struct rand *rand)
{
    uint64_t mode = durable ? 0 : rand_below(rand, 3); /* all of it, none of it, any sectors */
    if (mode == 1)
        return;
    size_t size = event->size;
    for (size_t done = 0; done < event->size; done += size) {
        size = mode == 0 ? event->size : SECTOR - (event->offset + done) % SECTOR;
        if (size > event->size - done)
            size = event->size - done;
        if (mode == 2 && rand_below(rand, 2) == 0)
            continue;
        ssize_t wrote = pwrite(fd, event->bytes + done, size, (off_t)(event->offset + done));
        assert(wrote == (ssize_t)size);
        (void)wrote;
    }
}

static bool data_is_safe; /* in the cut that is being made */

static void make_file(uint32_t file, size_t at, struct rand *rand, const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0644);
    assert(fd >= 0);
    /* The event at the cut was under way: any of it may be there. */
    for (size_t i = 0; i <= at && i < events_count; i++) {
        const struct event *event = &events[i];
        if (event->file != file)
            continue;
        bool durable = i < at && (data_is_safe || event->direct || i < file_safe[file]);
        if (event->kind == EVENT_WRITE && !event->lost)
            apply_write(fd, event, durable, rand);
        if (event->kind == EVENT_TRUNCATE && (durable || rand_below(rand, 2) == 0)) {
            int status = ftruncate(fd, (off_t)event->offset);
            assert(status == 0);
            (void)status;
        }
    }
    close(fd);
}

/* Directories stand before what is in them; what is in one that is lost is lost, too. */
static void make_names(size_t at, struct rand *rand, const char *directory)
{
    static uint32_t made[FILES_MAX]; /* 1 + the name under which a file was made */
    memset(made, 0, sizeof made);
    for (uint32_t i = 0; i < names_count; i++) {
        char path[600];
        char first[600];
        if (!named_then[i])
            continue;
        snprintf(path, sizeof path, "%.500s/%.79s", directory, names[i]);
        uint32_t parent = directory_of(i);
        if (names[parent][0] != '\0' && !named_then[parent])
            continue;
        if (file_then[i] == NONE) {
            int status = __real_mkdir(path, 0755);
            assert(status == 0);
            (void)status;
        } else if (made[file_then[i]] == 0) {
            make_file(file_then[i], at, rand, path);
            made[file_then[i]] = 1 + i;
        } else {
            snprintf(first, sizeof first, "%.500s/%.79s", directory, names[made[file_then[i]] - 1]);
            int status = __real_link(first, path);
            assert(status == 0);
            (void)status;
        }
    }
}

uint64_t disk_journal_cut(size_t at, enum disk_names kind, struct rand *rand, const char *directory)
{
    uint64_t note = 0;
    int status = __real_mkdir(directory, 0755);
    assert(status == 0);
    (void)status;
    data_is_safe = kind == DISK_NAMES_ALONE;
    find_safe(at);
    find_names(at, kind, rand);
    make_names(at, rand, directory);
    for (size_t i = 0; i < at; i++) {
        if (events[i].kind == EVENT_NOTE && events[i].offset > note)
            note = events[i].offset;
    }
    return note;
}

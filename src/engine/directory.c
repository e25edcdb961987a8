/*
 * engine/directory.c: which engine wrote a directory, and who has it open?
 *
 * An engine that keeps data in a directory says so in the text file `KVS` there, in lines of
 * "name: value"; the first is "engine: NAME". A directory without that file belongs to none.
 *
 * Open: 1. the directory is made if need be, and its name made durable; 2. its file LOCK is locked;
 * 3. the file KVS is written, or read and compared.
 *
 * Failure: a file that cannot be read is an error, one that says something else is CORRUPTION. An
 * open that fails leaves nothing behind but the directory and its lock file.
 */
#include "engine/directory.h"

#include "base/error.h"
#include "base/fault.h"
#include "base/mem.h"
#include "engine/file.h"
#include "engine/log/format.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_SIZE 32
#define FORMAT_LINE "format: 1\n"

/* Of the line behind the engine's. Another number is of a version after this one. */
static int format_check(const char *line)
{
    static const char head[] = "format: ";
    if (strncmp(line, FORMAT_LINE, sizeof FORMAT_LINE - 1) == 0)
        return 0;
    size_t digits = strncmp(line, head, sizeof head - 1) == 0
                        ? strspn(line + sizeof head - 1, "0123456789")
                        : 0;
    return digits > 0 && line[sizeof head - 1 + digits] == '\n' ? KVS_ERR_UNSUPPORTED
                                                                : KVS_ERR_CORRUPTION;
}

/* Reads the begin of a small file; its size, or -1 with errno set. */
static ssize_t file_read_blocking(const char *path, char *text, size_t size)
{
    errno = EIO; /* what the fault points stand for */
    int fd = fault_hit(FAULT_FILE_OPEN) ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    errno = EIO;
    ssize_t got = fault_hit(FAULT_FILE_READ) ? -1 : read(fd, text, size);
    int read_errno = errno;
    close(fd);
    errno = read_errno;
    return got;
}

int engine_directory_probe_blocking(const char *directory, char name[NAME_SIZE])
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/KVS", directory);
    if (length < 0 || (size_t)length >= sizeof path)
        return KVS_ERR_INVALID_ARGUMENT;
    static const char head[] = "engine: ";
    char text[sizeof head + NAME_SIZE + 32];
    ssize_t got = file_read_blocking(path, text, sizeof text - 1);
    if (got < 0 && errno == ENOENT) {
        name[0] = '\0';
        return 0;
    }
    if (got < 0)
        return error_from_errno(errno);
    text[got] = '\0';
    if (strncmp(text, head, sizeof head - 1) != 0)
        return KVS_ERR_CORRUPTION;
    const char *value = text + sizeof head - 1;
    size_t size = 0;
    while (isalnum((unsigned char)value[size]) || value[size] == '-')
        size++;
    if (size == 0 || size >= NAME_SIZE || value[size] != '\n')
        return KVS_ERR_CORRUPTION;
    int error = format_check(value + size + 1);
    if (error != 0)
        return error;
    memcpy(name, value, size);
    name[size] = '\0';
    return 0;
}

int engine_directory_look_blocking(const char *directory, bool *ret_has_mark,
                                   bool *ret_has_segments)
{
    DIR *files = opendir(directory);
    if (files == NULL)
        return error_from_errno(errno);
    bool has_mark = false;
    bool has_segments = false;
    struct dirent *file;
    while ((errno = 0, file = readdir(files)) != NULL) {
        uint32_t number;
        has_mark |= strcmp(file->d_name, "KVS") == 0;
        has_segments |= segment_name_parse(file->d_name, &number);
    }
    int error = errno != 0 ? error_from_errno(errno) : 0;
    closedir(files);
    if (error != 0)
        return error;
    *ret_has_mark = has_mark;
    *ret_has_segments = has_segments;
    return 0;
}

/* --- opening ---------------------------------------------------------------------------------- */

int engine_directory_fail(struct engine_message *message, int error, const char *directory,
                          const char *what)
{
    const char *advice = "";
    if (error == KVS_ERR_READ_ONLY)
        advice = "; mount it for writing, or use another directory";
    else if (error == KVS_ERR_TOO_MANY_FILES)
        advice = "; raise the limit (ulimit -n)";
    snprintf(message->text, sizeof message->text, "%s: %s (%s)%s", directory, what,
             kvs_error_text(error), advice);
    return error;
}

/* For what the text of the error would be wrong about, or say once more. */
static int directory_refuse(struct engine_message *message, const char *directory, const char *why)
{
    snprintf(message->text, sizeof message->text, "%s: %s", directory, why);
    return KVS_ERR_NO_DIRECTORY;
}

/* A directory that a power cut takes away would take all that is in it. */
static int parent_sync(const char *directory)
{
    char *copy = mem_strdup(directory);
    int error = copy != NULL ? file_sync_directory(dirname(copy)) : KVS_ERR_NO_MEMORY;
    mem_free(copy);
    return error;
}

int engine_directory_make_blocking(const char *directory)
{
    int error = file_make_directory(directory);
    return error == 0 ? parent_sync(directory) : error;
}

static int directory_make(const struct engine_options *options, struct engine_message *message)
{
    const char *directory = options->directory;
    struct stat status;
    if (strlen(directory) + sizeof "/KVS.new" > PATH_MAX)
        return engine_directory_fail(message, KVS_ERR_INVALID_ARGUMENT, directory,
                                     "has too long a name");
    if (stat(directory, &status) == 0) {
        if (S_ISDIR(status.st_mode))
            return 0;
        return directory_refuse(message, directory, "is a file; name a directory");
    }
    if (options->must_exist || errno != ENOENT)
        return engine_directory_fail(message, error_from_errno(errno), directory,
                                     "cannot be opened");
    int error = engine_directory_make_blocking(directory);
    if (error == KVS_ERR_NO_DIRECTORY)
        return directory_refuse(message, directory,
                                "cannot be made; check the path, or make the directory above it");
    return error == 0 ? 0 : engine_directory_fail(message, error, directory, "cannot be made");
}

static int lock_file_lock(const char *directory, int flags, int *ret_lock_fd,
                          struct engine_message *message)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/LOCK", directory);
    int fd;
    int error = file_open(path, flags, &fd);
    if (error != 0)
        return engine_directory_fail(message, error, directory,
                                     flags == O_RDONLY ? "its lock file cannot be read"
                                                       : "its lock file cannot be written");
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *ret_lock_fd = fd;
        return 0;
    }
    error = errno == EWOULDBLOCK ? KVS_ERR_LOCKED : error_from_errno(errno);
    close(fd);
    return engine_directory_fail(
        message, error, directory,
        error == KVS_ERR_LOCKED
            ? "is open in another process; stop that one, or use another directory"
            : "cannot be locked");
}

int engine_directory_lock_blocking(const char *directory, int *ret_lock_fd,
                                   struct engine_message *ret_message)
{
    return lock_file_lock(directory, O_RDWR | O_CREAT, ret_lock_fd, ret_message);
}

int engine_directory_lock_unwritten_blocking(const char *directory, int *ret_lock_fd,
                                             struct engine_message *ret_message)
{
    return lock_file_lock(directory, O_RDONLY, ret_lock_fd, ret_message);
}

/* Under another name first: a crash in the middle must not leave half a marker, which would be
 * somebody else's for all we know. */
int engine_directory_mark_blocking(const char *directory, const char *engine_name)
{
    char path[PATH_MAX];
    char fresh[PATH_MAX];
    char text[NAME_SIZE + 32];
    snprintf(path, sizeof path, "%s/KVS", directory);
    snprintf(fresh, sizeof fresh, "%s/KVS.new", directory);
    int size = snprintf(text, sizeof text, "engine: %s\n" FORMAT_LINE, engine_name);
    int fd;
    int error = file_open(fresh, O_WRONLY | O_CREAT | O_TRUNC, &fd);
    if (error != 0)
        return error;
    error = file_write(fd, text, (size_t)size, 0);
    if (error == 0)
        error = file_sync(fd);
    close(fd);
    if (error == 0)
        error = file_rename(fresh, path);
    if (error == 0)
        error = file_sync_directory(directory);
    return error;
}

/* The mark comes before the first segment of a store, and behind the last one of a copy. So without
 * it, what is there may be a part of the data: it must not pass for all. */
static int unmarked_check(const char *directory, struct engine_message *message)
{
    bool has_mark = false;
    bool has_segments = false;
    int error = engine_directory_look_blocking(directory, &has_mark, &has_segments);
    if (error != 0)
        return engine_directory_fail(message, error, directory, "cannot be read");
    if (!has_segments)
        return 0;
    snprintf(message->text, sizeof message->text,
             "%s: has files of a log but no file KVS, as a backup or a repair that was not "
             "finished; use "
             "another, or save what is there (kvs-server --dir DIR --repair NEWDIR)",
             directory);
    return KVS_ERR_CORRUPTION;
}

static int directory_claim(const struct engine_options *options, const char *engine_name,
                           struct engine_message *message)
{
    const char *directory = options->directory;
    char name[NAME_SIZE] = "";
    int error = engine_directory_probe_blocking(directory, name);
    if (error == KVS_ERR_UNSUPPORTED)
        return engine_directory_fail(message, error, directory,
                                     "was written by a newer version of kvs; use that one");
    if (error != 0)
        return engine_directory_fail(message, error, directory, "its file KVS cannot be read");
    error = name[0] == '\0' ? unmarked_check(directory, message) : 0;
    if (error != 0)
        return error;
    if (name[0] == '\0' && options->must_exist)
        return directory_refuse(message, directory, "holds no store; check the path");
    if (name[0] == '\0') {
        error = options->marks_last ? 0 : engine_directory_mark_blocking(directory, engine_name);
        return error == 0 ? 0
                          : engine_directory_fail(message, error, directory, "cannot be written");
    }
    if (strcmp(name, engine_name) == 0)
        return 0;
    snprintf(message->text, sizeof message->text,
             "%s: was written by the engine \"%s\", not \"%s\"; use that engine or another "
             "directory",
             directory, name, engine_name);
    return KVS_ERR_WRONG_ENGINE;
}

int engine_directory_open_blocking(const struct engine_options *options, const char *engine_name,
                                   int *ret_lock_fd, struct engine_message *ret_message)
{
    int lock_fd = -1;
    int error = directory_make(options, ret_message);
    if (error == 0)
        error = engine_directory_lock_blocking(options->directory, &lock_fd, ret_message);
    if (error != 0)
        return error;
    error = directory_claim(options, engine_name, ret_message);
    if (error != 0) {
        close(lock_fd);
        return error;
    }
    *ret_lock_fd = lock_fd;
    return 0;
}

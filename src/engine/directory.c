/*
 * engine/directory.c: which engine wrote a directory?
 *
 * An engine that keeps data in a directory says so in the text file `KVS` there, in lines of
 * "name: value"; the first is "engine: NAME". A directory without that file belongs to none.
 *
 * Failure: a file that cannot be read is an error, one that says something else is CORRUPTION.
 */
#include "base/error.h"
#include "base/fault.h"
#include "engine/engine.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#define NAME_SIZE 32

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
    char text[sizeof head + NAME_SIZE];
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
    memcpy(name, value, size);
    name[size] = '\0';
    return 0;
}

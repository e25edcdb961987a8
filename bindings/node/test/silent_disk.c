/*
 * Loaded ahead of a program (LD_PRELOAD): a disk that does not answer as long as the file of
 * $KVS_TEST_SILENT is there. Nothing that is read is in the system's memory.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static void wait_for_disk(void)
{
    const char *silent = getenv("KVS_TEST_SILENT");
    while (silent != NULL && access(silent, F_OK) == 0)
        usleep(1000);
}

int fdatasync(int fd)
{
    wait_for_disk();
    return (int)syscall(SYS_fdatasync, fd);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    wait_for_disk();
    return syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
    wait_for_disk();
    return syscall(SYS_pread64, fd, data, size, offset);
}

ssize_t preadv2(int fd, const struct iovec *vectors, int count, off_t offset, int flags)
{
    (void)fd, (void)vectors, (void)count, (void)offset, (void)flags;
    errno = EAGAIN;
    return -1;
}

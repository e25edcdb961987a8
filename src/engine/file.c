/* engine/log/file.c: system calls, complete or failed. */
#include "engine/file.h"

#include "base/error.h"
#include "base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/quota.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define WOULD_BLOCK 1
#define QUOTA_BLOCK_SIZE 1024u /* whatever the file system's are */

int file_open(const char *path, int flags, int *ret_fd)
{
    if (fault_hit(FAULT_FILE_OPEN))
        return KVS_ERR_IO;
    int fd = open(path, flags | O_CLOEXEC, 0644);
    if (fd < 0)
        return error_from_errno(errno);
    *ret_fd = fd;
    return 0;
}

int file_read(int fd, void *data, size_t size, uint64_t offset)
{
    if (fault_hit(FAULT_FILE_READ))
        return KVS_ERR_IO;
    uint8_t *to = data;
    while (size > 0) {
        ssize_t got = pread(fd, to, size, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_from_errno(errno);
        if (got == 0)
            return KVS_ERR_CORRUPTION;
        to += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return 0;
}

int file_read_now(int fd, void *data, size_t size, uint64_t offset)
{
    if (fault_hit(FAULT_FILE_READ))
        return KVS_ERR_IO;
    struct iovec vector = {.iov_base = data, .iov_len = size};
    ssize_t got = preadv2(fd, &vector, 1, (off_t)offset, RWF_NOWAIT);
    if (got == (ssize_t)size)
        return 0;
    /* Not wholly in memory, or a file system without RWF_NOWAIT: the blocking read will tell. */
    return WOULD_BLOCK;
}

int file_write(int fd, const void *data, size_t size, uint64_t offset)
{
    if (fault_hit(FAULT_FILE_WRITE))
        return KVS_ERR_IO;
    if (fault_hit(FAULT_FILE_SPACE))
        return KVS_ERR_NO_SPACE;
    const uint8_t *from = data;
    bool torn = fault_hit(FAULT_FILE_SHORT);
    while (size > 0) {
        ssize_t wrote = pwrite(fd, from, torn ? (size + 1) / 2 : size, (off_t)offset);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return error_from_errno(errno);
        if (torn) /* half of it is there, and then the disk fails */
            return KVS_ERR_IO;
        from += wrote;
        offset += (uint64_t)wrote;
        size -= (size_t)wrote;
    }
    return 0;
}

int file_sync(int fd)
{
    if (fault_hit(FAULT_FILE_SYNC))
        return KVS_ERR_IO;
    return fdatasync(fd) == 0 ? 0 : error_from_errno(errno);
}

int file_write_out(int fd, uint64_t from, uint64_t to)
{
    if (fault_hit(FAULT_FILE_SYNC))
        return KVS_ERR_IO;
    unsigned how = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if (sync_file_range(fd, (off_t)from, (off_t)(to - from), how) != 0)
        return error_from_errno(errno);
    return 0;
}

void file_read_ahead(int fd, uint64_t from, uint64_t to)
{
    (void)posix_fadvise(fd, (off_t)from, (off_t)(to - from), POSIX_FADV_WILLNEED);
}

void file_forget(int fd, uint64_t from, uint64_t to)
{
    (void)posix_fadvise(fd, (off_t)from, (off_t)(to - from), POSIX_FADV_DONTNEED);
}

int file_open_direct(const char *path, int *ret_fd)
{
    int fd = open(path, O_WRONLY | O_DIRECT | O_DSYNC | O_CLOEXEC);
    if (fd < 0)
        return KVS_ERR_UNSUPPORTED;
    *ret_fd = fd;
    return 0;
}

/* Whether a file may not grow so far (ulimit -f). */
static bool is_beyond_limit(uint64_t end)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
           end > limit.rlim_cur;
}

int file_write_direct(int fd, const void *data, size_t size, uint64_t offset)
{
    errno = 0;
    int error = file_write(fd, data, size, offset);
    /* The system cuts a write to a limit of file sizes, and then wants whole blocks. */
    if (error == KVS_ERR_IO && errno == EINVAL && is_beyond_limit(offset + size))
        return KVS_ERR_NO_SPACE;
    if (error == 0 && fault_hit(FAULT_FILE_SYNC))
        error = KVS_ERR_IO;
    return error;
}

int file_truncate(int fd, uint64_t size)
{
    if (fault_hit(FAULT_FILE_WRITE))
        return KVS_ERR_IO;
    return ftruncate(fd, (off_t)size) == 0 ? 0 : error_from_errno(errno);
}

void file_reserve(int fd, uint64_t size)
{
    while (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size) != 0 && errno == EINTR) {
    }
}

int file_size(int fd, uint64_t *ret_size)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return error_from_errno(errno);
    *ret_size = (uint64_t)status.st_size;
    return 0;
}

int file_blocks_size(int fd, uint64_t *ret_size)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return error_from_errno(errno);
    *ret_size = (uint64_t)status.st_blocks * 512;
    return 0;
}

bool file_is_alone(int fd)
{
    /* Such a lease is given only then. */
    if (fcntl(fd, F_SETLEASE, F_WRLCK) != 0)
        return false;
    (void)fcntl(fd, F_SETLEASE, F_UNLCK);
    return true;
}

/* Asked by number, for the C library has no name for it; a system without quotas answers with an
 * error. Soft limits are not looked at: they hold only after a while. */
static void space_limit(int fd, int type, unsigned id, struct file_space *space)
{
    struct dqblk quota = {0};
    unsigned command = (unsigned)Q_GETQUOTA << SUBCMDSHIFT | (unsigned)type; /* QCMD overflows */
    if (syscall(SYS_quotactl_fd, fd, command, id, &quota) != 0 || quota.dqb_bhardlimit == 0)
        return;
    uint64_t all = quota.dqb_bhardlimit * QUOTA_BLOCK_SIZE;
    uint64_t free = all > quota.dqb_curspace ? all - quota.dqb_curspace : 0;
    space->free = free < space->free ? free : space->free;
    space->all = all < space->all ? all : space->all;
}

/* Root's writes are not refused for a quota. Those of projects the file system itself takes off. */
static void space_limit_by_quotas(const char *path, struct file_space *space)
{
    struct stat facts;
    int fd = geteuid() != 0 ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    bool gives_group = fstat(fd, &facts) == 0 && (facts.st_mode & S_ISGID) != 0;
    space_limit(fd, USRQUOTA, geteuid(), space);
    space_limit(fd, GRPQUOTA, gives_group ? facts.st_gid : getegid(), space);
    close(fd);
}

int file_space(const char *path, struct file_space *ret_space)
{
    struct statvfs facts;
    if (statvfs(path, &facts) != 0)
        return error_from_errno(errno);
    ret_space->free = (uint64_t)facts.f_bavail * facts.f_frsize;
    ret_space->all = (uint64_t)facts.f_blocks * facts.f_frsize;
    space_limit_by_quotas(path, ret_space);
    return 0;
}

int file_unlink(const char *path)
{
    if (fault_hit(FAULT_FILE_RENAME))
        return KVS_ERR_IO;
    return unlink(path) == 0 ? 0 : error_from_errno(errno);
}

int file_rename(const char *from, const char *to)
{
    if (fault_hit(FAULT_FILE_RENAME))
        return KVS_ERR_IO;
    return rename(from, to) == 0 ? 0 : error_from_errno(errno);
}

int file_link(const char *from, const char *to)
{
    if (fault_hit(FAULT_FILE_RENAME))
        return KVS_ERR_IO;
    if (link(from, to) == 0)
        return 0;
    return errno == EEXIST ? KVS_ERR_ALREADY_EXISTS : error_from_errno(errno);
}

int file_make_directory(const char *path)
{
    if (fault_hit(FAULT_FILE_RENAME))
        return KVS_ERR_IO;
    if (mkdir(path, 0750) == 0) /* what is in it is nobody else's to read */
        return 0;
    return errno == EEXIST ? KVS_ERR_ALREADY_EXISTS : error_from_errno(errno);
}

int file_sync_directory(const char *path)
{
    if (fault_hit(FAULT_FILE_RENAME))
        return KVS_ERR_IO;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_from_errno(errno);
    int error = fsync(fd) == 0 ? 0 : error_from_errno(errno);
    close(fd);
    return error;
}

/* tests/crash/small_disk.c: see the header. */
#include "crash/small_disk.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define DISK_SIZE "size=12m"

static bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return done;
}

static bool make_disk(const char *directory)
{
    char user[32];
    char group[32];
    snprintf(user, sizeof user, "0 %u 1", (unsigned)getuid());
    snprintf(group, sizeof group, "0 %u 1", (unsigned)getgid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
        return false;
    write_text("/proc/self/setgroups", "deny");
    return write_text("/proc/self/uid_map", user) && write_text("/proc/self/gid_map", group) &&
           mount("kvs-test", directory, "tmpfs", 0, DISK_SIZE) == 0;
}

bool small_disk_mount(const char *directory)
{
    bool made = make_disk(directory);
    if (!made)
        printf("1..0 # SKIP this system lets nobody mount a small disk in a namespace\n");
    return made;
}

void small_disk_unmount(const char *directory)
{
    umount(directory);
}

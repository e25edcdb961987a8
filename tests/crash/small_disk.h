/*
 * tests/crash/small_disk.h: a disk of 12 MiB that can be filled.
 *
 * It is a tmpfs in a mount namespace of the test's own, made with the rights that a user namespace
 * gives to anyone; where the system does not allow that, the test is skipped, and the fault tests
 * alone stand for it.
 */
#ifndef TESTS_CRASH_SMALL_DISK_H
#define TESTS_CRASH_SMALL_DISK_H

#include <stdbool.h>

/* Over a directory, for this process, which has one thread yet, and its children. False: it is not
 * allowed, and the program's TAP plan, which skips all, is printed. */
bool small_disk_mount(const char *directory);
void small_disk_unmount(const char *directory);

#endif

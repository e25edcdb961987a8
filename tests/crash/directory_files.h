/*
 * tests/crash/directory_files.h: the files of a directory in memory, to be spoilt and written back.
 * Asserts as a test does.
 */
#ifndef TESTS_CRASH_DIRECTORY_FILES_H
#define TESTS_CRASH_DIRECTORY_FILES_H

#include <stddef.h>
#include <stdint.h>

#define FILES_MAX 256

struct files {
    unsigned count;
    struct file {
        char name[32];
        size_t size;
        uint8_t *bytes;
    } list[FILES_MAX];
};

/* Regular files only. */
void files_read(const char *directory, struct files *files);
/* Makes the directory, which must not exist. */
void files_write(const char *directory, const struct files *files);
void files_free(struct files *files);

const struct file *file_find(const struct files *files, const char *name);
void assert_same_files(const char *directory, const struct files *expected);

/* Waits until each segment but the newest has its hint. They are made in the background of an open
 * store, which may be compacting segments away meanwhile. */
void hints_wait(const char *directory);

#endif

/* tests/crash/directory_files.c: see directory_files.h. */
#include "crash/directory_files.h"

#include <dirent.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "test.h"

#define OK(call) assert_int_equal((call), 0)
#define PATH_SIZE 300

void files_read(const char *directory, struct files *files)
{
    files->count = 0;
    DIR *entries = opendir(directory);
    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        if (entry->d_type != DT_REG)
            continue;
        assert_true(files->count < FILES_MAX);
        struct file *file = &files->list[files->count++];
        char path[PATH_SIZE];
        snprintf(file->name, sizeof file->name, "%.31s", entry->d_name);
        snprintf(path, sizeof path, "%.200s/%s", directory, file->name);
        struct stat status;
        OK(stat(path, &status));
        file->size = (size_t)status.st_size;
        file->bytes = malloc(file->size + 1);
        FILE *in = fopen(path, "r");
        assert_true(in != NULL && file->bytes != NULL);
        assert_int_equal(fread(file->bytes, 1, file->size, in), file->size);
        fclose(in);
    }
    closedir(entries);
}

void files_write(const char *directory, const struct files *files)
{
    OK(mkdir(directory, 0755));
    for (unsigned i = 0; i < files->count; i++) {
        char path[PATH_SIZE];
        snprintf(path, sizeof path, "%.200s/%s", directory, files->list[i].name);
        FILE *out = fopen(path, "w");
        assert_non_null(out);
        assert_int_equal(fwrite(files->list[i].bytes, 1, files->list[i].size, out),
                         files->list[i].size);
        OK(fclose(out));
    }
}

void files_free(struct files *files)
{
    for (unsigned i = 0; i < files->count; i++)
        free(files->list[i].bytes);
}

const struct file *file_find(const struct files *files, const char *name)
{
    for (unsigned i = 0; i < files->count; i++)
        if (strcmp(files->list[i].name, name) == 0)
            return &files->list[i];
    return NULL;
}

void assert_same_files(const char *directory, const struct files *expected)
{
    struct files now;
    files_read(directory, &now);
    assert_int_equal(now.count, expected->count);
    for (unsigned i = 0; i < now.count; i++) {
        const struct file *file = file_find(expected, now.list[i].name);
        assert_non_null(file);
        assert_int_equal(now.list[i].size, file->size);
        assert_memory_equal(now.list[i].bytes, file->bytes, file->size);
    }
    files_free(&now);
}

/* Has every segment its hint? Names of segments and hints compare as their numbers do. */
static bool hints_are_there(const struct files *files)
{
    const char *newest = "";
    for (unsigned i = 0; i < files->count; i++) {
        const char *name = files->list[i].name;
        if (strstr(name, ".seg") != NULL && strcmp(name, newest) > 0)
            newest = name;
    }
    for (unsigned i = 0; i < files->count; i++) {
        char hint[40];
        const char *name = files->list[i].name;
        snprintf(hint, sizeof hint, "%.10s.hint", name);
        if (strstr(name, ".seg") != NULL && strcmp(name, newest) != 0 &&
            file_find(files, hint) == NULL)
            return false;
    }
    return true;
}

/* Without their bytes: files may come and go. Segments that were made ahead are left out. */
static void names_read(const char *directory, struct files *files)
{
    files->count = 0;
    DIR *entries = opendir(directory);
    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        struct stat facts;
        if (strstr(entry->d_name, ".seg") != NULL &&
            (fstatat(dirfd(entries), entry->d_name, &facts, 0) != 0 || facts.st_size == 0))
            continue;
        assert_true(files->count < FILES_MAX);
        snprintf(files->list[files->count++].name, sizeof files->list[0].name, "%.31s",
                 entry->d_name);
    }
    closedir(entries);
}

void hints_wait(const char *directory)
{
    for (bool there = false; !there; sched_yield()) {
        struct files files;
        names_read(directory, &files);
        there = hints_are_there(&files);
    }
}

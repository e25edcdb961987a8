/*
 * engine/file.h: the few file operations that the engines need, each with a fault point in
 * front of it and errno mapped behind it. All may block.
 */
#ifndef ENGINE_FILE_H
#define ENGINE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FILE_BLOCK_SIZE 4096u /* what direct writes are aligned to */

/* Where the block ends that has the last byte before `offset`. */
static inline uint64_t file_block_end(uint64_t offset)
{
    return (offset + FILE_BLOCK_SIZE - 1) / FILE_BLOCK_SIZE * FILE_BLOCK_SIZE;
}

/* Each returns 0 or an error of kvs/error.h. */
int file_open(const char *path, int flags, int *ret_fd);
/* The whole range or an error; a file that ends within it is CORRUPTION. */
int file_read(int fd, void *data, size_t size, uint64_t offset);
/* As file_read, but ENGINE_WOULD_BLOCK (1) when the bytes are not in the system's memory. */
int file_read_now(int fd, void *data, size_t size, uint64_t offset);
/* The whole range or an error; after an error any part of it may have been written. */
int file_write(int fd, const void *data, size_t size, uint64_t offset);
int file_sync(int fd);
/* Has these bytes written to the disk and waits for that. They are not durable by it: a sync that
 * follows has less to do. An error is told to this opening of the file, not to others. */
int file_write_out(int fd, uint64_t from, uint64_t to);
/* Has the system begin to read such bytes, for reads that follow: a wish. */
void file_read_ahead(int fd, uint64_t from, uint64_t to);
/* Has the system forget such bytes: a wish. They are read from the disk then. */
void file_forget(int fd, uint64_t from, uint64_t to);
/* Opens a file a second time so that each write goes to the disk past the system's cache and is
 * durable when it returns. UNSUPPORTED where the file system cannot. */
int file_open_direct(const char *path, int *ret_fd);
/* Such a write, of whole blocks: FILE_BLOCK_SIZE divides data, size and offset. As file_write and
 * file_sync together. */
int file_write_direct(int fd, const void *data, size_t size, uint64_t offset);
int file_truncate(int fd, uint64_t size);
/* Has blocks set aside for the file, which does not grow by it: a wish, not every file system can.
 * Those that are not used go with file_truncate. */
void file_reserve(int fd, uint64_t size);
int file_size(int fd, uint64_t *ret_size);
/* How much it takes on the disk. */
int file_blocks_size(int fd, uint64_t *ret_size);
/* Has nobody, here or in another process, opened the file beside this one? False also where the
 * file system cannot tell. */
bool file_is_alone(int fd);
/* Bytes that the file system of a directory has for such as us, or a quota of the user or the group
 * whose files are made there, if that is less. */
struct file_space {
    uint64_t free;
    uint64_t all; /* 0 where it does not tell */
};
int file_space(const char *path, struct file_space *ret_space);
int file_unlink(const char *path);
/* Replaces `to` when it exists; durable when the directory is synced. */
int file_rename(const char *from, const char *to);
/* A second name for a file; both on one file system. ALREADY_EXISTS. */
int file_link(const char *from, const char *to);
/* ALREADY_EXISTS. */
int file_make_directory(const char *path);
/* Makes creations and removals in the directory durable. */
int file_sync_directory(const char *path);

#endif

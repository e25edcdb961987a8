/* engine/log/hint_file.h: the files of hints. All functions may block. */
#ifndef ENGINE_LOG_HINT_FILE_H
#define ENGINE_LOG_HINT_FILE_H

#include "engine/log/hint.h"
#include "engine/log/log_engine.h"

/* Reads the hint of a segment whose file is open and has `size` bytes. CORRUPTION: it does not
 * count (docs/format/log.md says when); any other error: it could not be read. */
int hint_file_read(const struct log_engine *log, const struct segment *segment, uint64_t size,
                   struct hint *ret_hint);

/*
 * The same in two steps: all but the items, and then these. In between, single blocks can be had.
 * An old hint is read as a whole by the first step: *ret_fd is -1 then, else the caller's to close.
 */
int hint_file_open(const struct log_engine *log, const struct segment *segment, uint64_t size,
                   struct hint *ret_hint, int *ret_fd);
int hint_file_read_items(int fd, struct hint *hint);
/* The bytes of one block, checked. With may_block false ENGINE_WOULD_BLOCK (1) when they are not in
 * memory. */
int hint_file_read_block(int fd, const struct hint *hint, uint32_t restart, bool may_block,
                         struct buf *block);

/* Under another name first, then renamed: so a hint is never half there. Nothing is synced: one
 * that a power cut spoils does not count. The segment must be on the disk already. */
int hint_file_write(const struct log_engine *log, const struct hint *hint);

/* Fine when there is none. */
int hint_file_remove(const struct log_engine *log, uint32_t segment, bool is_new);

void hint_file_path(const struct log_engine *log, uint32_t segment, bool is_new, char *out,
                    size_t size);

#endif

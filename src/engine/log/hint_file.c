/* engine/log/hint_file.c: see engine/log/hint_file.h. */
#include "engine/log/hint_file.h"

#include "base/bytes.h"
#include "base/mem.h"
#include "engine/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

void hint_file_path(const struct log_engine *log, uint32_t segment, bool is_new, char *out,
                    size_t size)
{
    char name[HINT_NAME_SIZE];
    hint_name_format(segment, is_new, name);
    snprintf(out, size, "%s/%s", log->directory, name);
}

/* What the segment says of itself; it must be sealed. */
static int binding_read(const struct segment *segment, uint64_t size,
                        struct hint_binding *ret_binding)
{
    uint8_t header[SEGMENT_HEADER_SIZE];
    uint8_t seal[RECORD_SEAL_SIZE];
    if (size < sizeof header + sizeof seal || size > UINT32_MAX)
        return KVS_ERR_CORRUPTION;
    int error = file_read(segment->fd, header, sizeof header, 0);
    if (error == 0)
        error = file_read(segment->fd, seal, sizeof seal, size - sizeof seal);
    if (error != 0)
        return error;
    uint64_t sequence;
    struct record record;
    if (!segment_header_decode(slice_make(header, sizeof header), segment->number, &sequence) ||
        record_decode(slice_make(seal, sizeof seal), segment->number, &record) != sizeof seal ||
        record.kind != RECORD_SEAL)
        return KVS_ERR_CORRUPTION;
    *ret_binding = (struct hint_binding){.segment = segment->number,
                                         .size = (uint32_t)size,
                                         .header_checksum = get_u32(header + 28),
                                         .seal_checksum = get_u32(seal)};
    return 0;
}

/* All but the items, for which there is room; *ret_items tells how many bytes these are. */
static int frame_read(int fd, uint64_t segment_size, struct buf *bytes, size_t *ret_items)
{
    uint64_t size;
    int error = file_size(fd, &size);
    if (error != 0)
        return error;
    /* An item takes less than its record, so this is more than any hint needs. */
    if (size > 2 * segment_size + FILE_BLOCK_SIZE || size < HINT_HEADER_SIZE)
        return KVS_ERR_CORRUPTION;
    error = buf_reserve(bytes, (size_t)size + 1);
    if (error == 0)
        error = file_read(fd, bytes->data, HINT_HEADER_SIZE, 0);
    if (error != 0)
        return error;
    bytes->size = (size_t)size;
    size_t items = hint_items_size(bytes->data);
    size_t at = HINT_HEADER_SIZE + items;
    if (at > bytes->size)
        return KVS_ERR_CORRUPTION;
    *ret_items = items;
    return at < bytes->size ? file_read(fd, bytes->data + at, bytes->size - at, at) : 0;
}

int hint_file_open(const struct log_engine *log, const struct segment *segment, uint64_t size,
                   struct hint *ret_hint, int *ret_fd)
{
    char path[SEGMENT_PATH_SIZE];
    hint_file_path(log, segment->number, false, path, sizeof path);
    struct hint_binding binding;
    int error = binding_read(segment, size, &binding);
    int fd;
    if (error == 0)
        error = file_open(path, O_RDONLY, &fd);
    if (error != 0)
        return error;
    struct buf bytes = BUF_INIT;
    size_t items = 0;
    error = frame_read(fd, size, &bytes, &items);
    bool is_whole = items == 0;
    if (error == 0 && is_whole)
        error = hint_take(&bytes, &binding, ret_hint);
    else if (error == 0 && !hint_take_frame(&bytes, &binding, ret_hint))
        error = KVS_ERR_CORRUPTION;
    buf_deinit(&bytes);
    if (error != 0 || is_whole)
        close(fd);
    if (error == 0)
        *ret_fd = is_whole ? -1 : fd;
    return error;
}

int hint_file_read_items(int fd, struct hint *hint)
{
    int error =
        file_read(fd, hint->bytes.data + HINT_HEADER_SIZE, hint->items.size, HINT_HEADER_SIZE);
    return error == 0 ? hint_check_items(hint) : error;
}

int hint_file_read_block(int fd, const struct hint *hint, uint32_t restart, bool may_block,
                         struct buf *block)
{
    struct hint_block place = hint_block(hint, restart);
    uint64_t at = HINT_HEADER_SIZE + (uint64_t)place.at;
    buf_clear(block);
    int error = buf_reserve(block, place.size);
    if (error == 0)
        error = may_block ? file_read(fd, block->data, place.size, at)
                          : file_read_now(fd, block->data, place.size, at);
    if (error != 0)
        return error;
    block->size = place.size;
    return hint_block_is_right(hint, restart, buf_slice(block)) ? 0 : KVS_ERR_CORRUPTION;
}

int hint_file_read(const struct log_engine *log, const struct segment *segment, uint64_t size,
                   struct hint *ret_hint)
{
    struct hint hint;
    int fd;
    int error = hint_file_open(log, segment, size, &hint, &fd);
    if (error != 0)
        return error;
    if (fd >= 0) {
        error = hint_file_read_items(fd, &hint);
        close(fd);
    }
    if (error != 0)
        hint_deinit(&hint);
    else
        *ret_hint = hint;
    return error;
}

int hint_file_write(const struct log_engine *log, const struct hint *hint)
{
    uint32_t segment = hint->binding.segment;
    char path[SEGMENT_PATH_SIZE];
    char path_new[SEGMENT_PATH_SIZE];
    hint_file_path(log, segment, false, path, sizeof path);
    hint_file_path(log, segment, true, path_new, sizeof path_new);
    int fd;
    int error = file_open(path_new, O_WRONLY | O_CREAT | O_TRUNC, &fd);
    if (error != 0)
        return error;
    error = file_write(fd, hint->bytes.data, hint->bytes.size, 0);
    close(fd); /* nothing is promised of it: its checksums tell */
    if (error == 0)
        error = file_rename(path_new, path);
    if (error != 0)
        (void)file_unlink(path_new); /* else the next start removes it */
    return error;
}

int hint_file_remove(const struct log_engine *log, uint32_t segment, bool is_new)
{
    char path[SEGMENT_PATH_SIZE];
    hint_file_path(log, segment, is_new, path, sizeof path);
    return file_unlink(path);
}

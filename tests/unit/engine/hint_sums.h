/* tests/unit/engine/hint_sums.h: any bytes as a hint whose checksums are all right. */
#ifndef TESTS_UNIT_ENGINE_HINT_SUMS_H
#define TESTS_UNIT_ENGINE_HINT_SUMS_H

#include "base/bytes.h"
#include "base/checksum.h"
#include "engine/log/hint.h"

/* The blocks', as far as the restarts lie in order, within bytes that nobody has checked. */
static inline void hint_sum_blocks(struct buf *bytes, size_t items, size_t ranges)
{
    uint8_t *body = bytes->data + HINT_HEADER_SIZE;
    size_t size = bytes->size - HINT_HEADER_SIZE;
    for (size_t at = items + ranges; at + HINT_RESTART_SIZE <= size; at += HINT_RESTART_SIZE) {
        bool is_last = at + 2 * HINT_RESTART_SIZE > size;
        size_t from = get_u32(body + at);
        size_t to = is_last ? items : get_u32(body + at + HINT_RESTART_SIZE);
        if (from <= to && to <= size)
            put_u32(body + at + 8, checksum(body + from, to - from));
    }
}

static inline void hint_sum(struct buf *bytes)
{
    uint8_t *p = bytes->data;
    size_t items = 0;
    if (p[7] == '2') {
        items = get_u32(p + 52);
        hint_sum_blocks(bytes, items, get_u32(p + 56));
    }
    if (items <= bytes->size - HINT_HEADER_SIZE)
        put_u64(p + 128, checksum_long(p + HINT_HEADER_SIZE + items,
                                       bytes->size - HINT_HEADER_SIZE - items));
    put_u32(p + 140, checksum(p, 140));
}

/* The same in the revision before, for which the caller frees *ret_bytes. */
static inline int hint_old(const struct hint *hint, struct buf *ret_bytes)
{
    struct buf bytes = BUF_INIT;
    size_t from = HINT_HEADER_SIZE + hint->items.size + hint->ranges.size;
    int error = buf_append(&bytes, hint->bytes.data, from);
    for (size_t at = from; at < hint->bytes.size && error == 0; at += HINT_RESTART_SIZE)
        error = buf_append(&bytes, hint->bytes.data + at, 8);
    if (error != 0) {
        buf_deinit(&bytes);
        return error;
    }
    bytes.data[7] = '1';
    hint_sum(&bytes);
    *ret_bytes = bytes;
    return 0;
}

#endif

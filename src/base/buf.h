/* base/buf.h: owned bytes that grow. A failed growth leaves the content as it was. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/slice.h"

struct buf {
    uint8_t *data;
    size_t size;
    size_t capacity;
};

#define BUF_INIT ((struct buf){0})

void buf_deinit(struct buf *buf); /* frees; the buf may be used again, empty */

/* Room for `more` further bytes. Returns 0 or KVS_ERR_NO_MEMORY. */
int buf_reserve(struct buf *buf, size_t more);

/* All append whole or not at all. Return 0 or KVS_ERR_NO_MEMORY. Integers go little-endian. */
int buf_append(struct buf *buf, const void *data, size_t size);
int buf_append_slice(struct buf *buf, kvs_slice slice);
int buf_append_u8(struct buf *buf, uint8_t value);
int buf_append_u16(struct buf *buf, uint16_t value);
int buf_append_u32(struct buf *buf, uint32_t value);
int buf_append_u64(struct buf *buf, uint64_t value);
int buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Drops the first `size` bytes. */
void buf_consume(struct buf *buf, size_t size);

/* Gives the memory (freed with mem_free) to the caller and leaves the buf empty. */
uint8_t *buf_detach(struct buf *buf, size_t *ret_size);

static inline void buf_clear(struct buf *buf)
{
    buf->size = 0;
}

static inline kvs_slice buf_slice(const struct buf *buf)
{
    return slice_make(buf->data, buf->size);
}

#endif

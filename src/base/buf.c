/* base/buf.c: growth by doubling, so that n appends cost O(n). */
#include "base/buf.h"

#include "base/bytes.h"
#include "base/mem.h"

#include <assert.h>
#include <kvs/error.h>
#include <stdarg.h>
#include <stdio.h>

#define CAPACITY_MIN 64

void buf_deinit(struct buf *buf)
{
    mem_free(buf->data);
    *buf = BUF_INIT;
}

int buf_reserve(struct buf *buf, size_t more)
{
    if (buf->capacity - buf->size >= more)
        return 0;
    if (more > SIZE_MAX / 2 - buf->size)
        return KVS_ERR_NO_MEMORY;
    size_t need = buf->size + more;
    size_t capacity = buf->capacity > 0 ? buf->capacity : CAPACITY_MIN;
    while (capacity < need)
        capacity *= 2;
    uint8_t *data = mem_realloc(buf->data, capacity);
    if (data == NULL)
        return KVS_ERR_NO_MEMORY;
    buf->data = data;
    buf->capacity = capacity;
    return 0;
}

int buf_append(struct buf *buf, const void *data, size_t size)
{
    if (size == 0)
        return 0;
    int error = buf_reserve(buf, size);
    if (error != 0)
        return error;
    memcpy(buf->data + buf->size, data, size);
    buf->size += size;
    return 0;
}

int buf_append_slice(struct buf *buf, kvs_slice slice)
{
    return buf_append(buf, slice.data, slice.size);
}

int buf_append_u8(struct buf *buf, uint8_t value)
{
    return buf_append(buf, &value, 1);
}

int buf_append_u16(struct buf *buf, uint16_t value)
{
    uint8_t bytes[2];
    put_u16(bytes, value);
    return buf_append(buf, bytes, sizeof bytes);
}

int buf_append_u32(struct buf *buf, uint32_t value)
{
    uint8_t bytes[4];
    put_u32(bytes, value);
    return buf_append(buf, bytes, sizeof bytes);
}

int buf_append_u64(struct buf *buf, uint64_t value)
{
    uint8_t bytes[8];
    put_u64(bytes, value);
    return buf_append(buf, bytes, sizeof bytes);
}

int buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(size >= 0);
    int error = buf_reserve(buf, (size_t)size + 1);
    if (error != 0)
        return error;
    va_start(args, format);
    vsnprintf((char *)buf->data + buf->size, (size_t)size + 1, format, args);
    va_end(args);
    buf->size += (size_t)size;
    return 0;
}

void buf_consume(struct buf *buf, size_t size)
{
    assert(size <= buf->size);
    if (size > 0 && size < buf->size)
        memmove(buf->data, buf->data + size, buf->size - size);
    buf->size -= size;
}

uint8_t *buf_detach(struct buf *buf, size_t *ret_size)
{
    uint8_t *data = buf->data;
    *ret_size = buf->size;
    *buf = BUF_INIT;
    return data;
}

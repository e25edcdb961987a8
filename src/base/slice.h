/* base/slice.h: borrowed bytes (the public kvs_slice) and what everyone does with them. */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <kvs/future.h>

#include <string.h>

static inline kvs_slice slice_make(const void *data, size_t size)
{
    return (kvs_slice){.data = data, .size = size};
}

static inline kvs_slice slice_of_string(const char *string)
{
    return slice_make(string, strlen(string));
}

/* Order of unsigned bytes, a prefix first: <0, 0, >0. */
static inline int slice_compare(kvs_slice a, kvs_slice b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common > 0 ? memcmp(a.data, b.data, common) : 0;
    if (order != 0)
        return order;
    return (a.size > b.size) - (a.size < b.size);
}

static inline bool slice_equal(kvs_slice a, kvs_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

#endif

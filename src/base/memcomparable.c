/* base/memcomparable.c: see the header. */
#include "base/memcomparable.h"

#include <kvs/error.h>

#define GROUP 8u
#define MARKER_FULL 0xffu
#define MARKER_EMPTY (MARKER_FULL - GROUP)

/* The nine bytes of the group that begins at `at`. */
static void encode_group(kvs_slice key, size_t at, uint8_t *to)
{
    size_t left = key.size - at;
    size_t size = left < GROUP ? left : GROUP;
    memset(to, 0, GROUP);
    if (size > 0)
        memcpy(to, key.data + at, size);
    to[GROUP] = (uint8_t)(MARKER_EMPTY + size);
}

void memcomparable_encode(kvs_slice key, uint8_t *to)
{
    for (size_t at = 0; at <= key.size; at += GROUP, to += GROUP + 1)
        encode_group(key, at, to);
}

int memcomparable_decode(kvs_slice encoded, uint8_t *to, size_t *ret_size)
{
    static const uint8_t zeros[GROUP];
    if (encoded.size == 0 || encoded.size % (GROUP + 1) != 0)
        return KVS_ERR_CORRUPTION;
    size_t groups = encoded.size / (GROUP + 1);
    for (size_t i = 0; i < groups; i++) {
        const uint8_t *group = encoded.data + i * (GROUP + 1);
        bool last = i + 1 == groups;
        if (group[GROUP] < MARKER_EMPTY || last == (group[GROUP] == MARKER_FULL))
            return KVS_ERR_CORRUPTION;
        size_t size = group[GROUP] - MARKER_EMPTY;
        if (memcmp(group + size, zeros, GROUP - size) != 0)
            return KVS_ERR_CORRUPTION;
        memcpy(to + i * GROUP, group, size);
        if (last)
            *ret_size = i * GROUP + size;
    }
    return 0;
}

int memcomparable_compare(kvs_slice key, kvs_slice other)
{
    for (size_t at = 0; at <= key.size; at += GROUP) {
        uint8_t group[GROUP + 1];
        encode_group(key, at, group);
        size_t common = other.size < sizeof group ? other.size : sizeof group;
        int order = common > 0 ? memcmp(group, other.data, common) : 0;
        if (order != 0)
            return order;
        if (common < sizeof group)
            return 1; /* `other` ends within the encoding */
        other = slice_make(other.data + common, other.size - common);
    }
    return other.size > 0 ? -1 : 0;
}

/* How many bytes of the last, padded group a key needs at least, so that its encoding is not below
 * the `left` bytes of `bound` that are there. */
static size_t last_group_size(const uint8_t *group, const uint8_t *bound, size_t left)
{
    size_t size = left < GROUP ? left : GROUP;
    while (size > 0 && group[size - 1] == 0)
        size--;
    if (left <= GROUP || bound[GROUP] < MARKER_EMPTY + size)
        return size;
    size_t same = bound[GROUP] - MARKER_EMPTY; /* the marker of this size is the same */
    return left > GROUP + 1 ? same + 1 : same;
}

size_t memcomparable_at_or_above(kvs_slice bound, uint8_t *to)
{
    size_t size = 0;
    size_t at = 0;
    while (bound.size - at > GROUP && bound.data[at + GROUP] == MARKER_FULL) {
        memcpy(to + size, bound.data + at, GROUP);
        size += GROUP;
        at += GROUP + 1;
    }
    size_t left = bound.size - at;
    if (left == 0)
        return size;
    uint8_t group[GROUP] = {0};
    memcpy(group, bound.data + at, left < GROUP ? left : GROUP);
    size_t more = last_group_size(group, bound.data + at, left);
    memcpy(to + size, group, more);
    return size + more;
}

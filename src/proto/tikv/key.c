/* proto/tikv/key.c: see the header. */
#include "proto/tikv/key.h"

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

void key_encode(kvs_slice key, uint8_t *to)
{
    for (size_t at = 0; at <= key.size; at += GROUP, to += GROUP + 1)
        encode_group(key, at, to);
}

int key_decode(kvs_slice encoded, uint8_t *to, size_t *ret_size)
{
    static const uint8_t zeros[GROUP];
    if (encoded.size == 0 || encoded.size % (GROUP + 1) != 0)
        return KVS_ERR_PROTOCOL;
    size_t groups = encoded.size / (GROUP + 1);
    for (size_t i = 0; i < groups; i++) {
        const uint8_t *group = encoded.data + i * (GROUP + 1);
        bool last = i + 1 == groups;
        if (group[GROUP] < MARKER_EMPTY || last == (group[GROUP] == MARKER_FULL))
            return KVS_ERR_PROTOCOL;
        size_t size = group[GROUP] - MARKER_EMPTY;
        if (memcmp(group + size, zeros, GROUP - size) != 0)
            return KVS_ERR_PROTOCOL;
        memcpy(to + i * GROUP, group, size);
        if (last)
            *ret_size = i * GROUP + size;
    }
    return 0;
}

int key_encoded_compare(kvs_slice key, kvs_slice other)
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

size_t key_at_or_above(kvs_slice bound, uint8_t *to)
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

void key_prefix(char mode, uint32_t keyspace, uint8_t *to)
{
    to[0] = (uint8_t)mode;
    to[1] = (uint8_t)(keyspace >> 16);
    to[2] = (uint8_t)(keyspace >> 8);
    to[3] = (uint8_t)keyspace;
}

bool key_range_is_raw(kvs_slice start, kvs_slice end)
{
    if (!key_is_raw(start))
        return false;
    return key_is_raw(end) || (end.size == 1 && end.data[0] == KEY_MODE_RAW + 1);
}

int key_family(const char *name, bool is_v2)
{
    static const char *const names[] = {"default", "write", "lock"};
    if (name == NULL || name[0] == '\0')
        return 0;
    for (int i = 0; i < 3 && !is_v2; i++) {
        if (strcmp(name, names[i]) == 0)
            return i;
    }
    return -1;
}

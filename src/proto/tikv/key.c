/* proto/tikv/key.c: see the header. */
#include "proto/tikv/key.h"

#include <kvs/error.h>

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

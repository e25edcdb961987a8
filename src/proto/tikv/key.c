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

bool key_range_has_mode(kvs_slice start, kvs_slice end, char mode)
{
    if (!key_has_mode(start, mode))
        return false;
    return key_has_mode(end, mode) || (end.size == 1 && end.data[0] == mode + 1);
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

/* engine/fetch.h: bytes of a file that a read in a view would have to wait for. */
#ifndef ENGINE_FETCH_H
#define ENGINE_FETCH_H

#include <stdint.h>

/* Of a view: filled by the last read that answered ENGINE_WOULD_BLOCK, if it knows. Whoever fetches
 * the bytes sets `data` and runs the read again in the same view. */
struct engine_fetch {
    int fd;
    uint32_t size; /* 0: not known */
    uint64_t offset;
    const uint8_t *data; /* NULL: not fetched */
};

#endif

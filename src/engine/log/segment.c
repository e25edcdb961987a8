/* engine/log/segment.c: memory and reading of segments; see engine/log/segment.h. */
#include "engine/log/segment.h"

#include "base/fault.h"
#include "engine/file.h"

#include <kvs/error.h>
#include <sys/mman.h>

#define HUGE_PAGE_SIZE (2u * 1024 * 1024)

uint8_t *segment_memory_new(uint32_t capacity)
{
    if (fault_hit(FAULT_ALLOC))
        return NULL;
    /* Pages come into being when they are first written, so a young segment is small. */
    void *memory = mmap(NULL, capacity, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    if (capacity >= HUGE_PAGE_SIZE) /* a wish: values are read at random */
        madvise(memory, capacity, MADV_HUGEPAGE);
    return memory;
}

void segment_memory_free(uint8_t *memory, uint32_t capacity)
{
    if (memory != NULL)
        munmap(memory, capacity);
}

int segment_read_record(const struct segment *segment, uint32_t offset, uint32_t size,
                        bool may_block, uint8_t *buffer, struct record *ret_record)
{
    int error = may_block ? file_read(segment->fd, buffer, size, offset)
                          : file_read_now(segment->fd, buffer, size, offset);
    if (error != 0)
        return error;
    if (record_decode(slice_make(buffer, size), segment->number, ret_record) != size)
        return KVS_ERR_CORRUPTION;
    return 0;
}

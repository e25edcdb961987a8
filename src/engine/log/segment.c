/* engine/log/segment.c: memory and reading of segments; see engine/log/segment.h. */
#include "engine/log/segment.h"

#include "base/fault.h"
#include "base/mem.h"
#include "engine/file.h"

#include <assert.h>
#include <kvs/error.h>
#include <stddef.h>
#include <sys/mman.h>

#define HUGE_PAGE_SIZE (2u * 1024 * 1024)

static_assert(sizeof(struct memory_head) <= SEGMENT_HEAD_SIZE &&
                  SEGMENT_HEAD_SIZE % FILE_BLOCK_SIZE == 0,
              "behind it direct writes find blocks");

/* Maps `size` bytes behind their head, at a border of huge pages if they are large. */
static uint8_t *memory_map(size_t size)
{
    size_t alignment = size >= HUGE_PAGE_SIZE ? HUGE_PAGE_SIZE : FILE_BLOCK_SIZE;
    size_t slack = alignment - FILE_BLOCK_SIZE;
    size_t all = SEGMENT_HEAD_SIZE + size + slack;
    /* Pages come into being when they are first written, so a young segment is small. */
    uint8_t *begin =
        mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (begin == MAP_FAILED)
        return NULL;
    size_t before = (size_t)(-(uintptr_t)(begin + SEGMENT_HEAD_SIZE) & (alignment - 1));
    if (before > 0)
        munmap(begin, before);
    if (slack > before)
        munmap(begin + before + SEGMENT_HEAD_SIZE + size, slack - before);
    return begin + before + SEGMENT_HEAD_SIZE;
}

uint8_t *segment_memory_new(uint32_t capacity)
{
    if (fault_hit(FAULT_ALLOC))
        return NULL;
    size_t size = file_block_end(capacity);
    uint8_t *memory = memory_map(size);
    if (memory == NULL)
        return NULL;
    if (size >= HUGE_PAGE_SIZE) /* a wish: values are read at random */
        madvise(memory, size, MADV_HUGEPAGE);
    struct memory_head *head = segment_head(memory);
    head->mapped = SEGMENT_HEAD_SIZE + size;
    atomic_init(&head->references, 1);
    atomic_init(&head->fixed, 0);
    return memory;
}

__attribute__((no_sanitize("thread"))) /* others write there, as said below */
void segment_memory_fault(uint8_t *from, size_t size)
{
    /* What is there stays as it is, also while others write to it: a byte is written only where it
     * is 0, and then 0 is. Not MADV_POPULATE_WRITE: all who map memory wait until that is over. */
    uint8_t *end = from + size;
    for (uint8_t *at = from; at < end; at += FILE_BLOCK_SIZE - (uintptr_t)at % FILE_BLOCK_SIZE) {
        uint8_t zero = 0;
        __atomic_compare_exchange_n(at, &zero, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    }
}

void segment_memory_ref(void *memory)
{
    /* relaxed: there is a reference already, or an epoch that keeps the first one. */
    atomic_fetch_add_explicit(&segment_head(memory)->references, 1, memory_order_relaxed);
}

void segment_memory_unref(void *memory)
{
    if (memory == NULL)
        return;
    struct memory_head *head = segment_head(memory);
    /* acq_rel: all that was read before each unref is read before it is unmapped. */
    if (atomic_fetch_sub_explicit(&head->references, 1, memory_order_acq_rel) == 1)
        munmap(head, head->mapped);
}

bool segment_memory_is_alone(const void *memory, uint32_t capacity)
{
    const struct memory_head *head = segment_head(memory);
    /* acquire: pairs with the release in unref: what was read there has been read. */
    return atomic_load_explicit(&head->references, memory_order_acquire) == 1 &&
           head->mapped == SEGMENT_HEAD_SIZE + (size_t)capacity;
}

void segment_memory_renew(void *memory)
{
    atomic_store_explicit(&segment_head(memory)->fixed, 0, memory_order_relaxed);
}

void segment_free(struct segment *segment)
{
    mem_free(segment->span);
    mem_free(segment);
}

void segment_fix(struct segment *segment)
{
    uint8_t *memory = atomic_load_explicit(&segment->memory, memory_order_relaxed);
    if (memory != NULL)
        atomic_store_explicit(&segment_head(memory)->fixed, segment->size, memory_order_release);
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

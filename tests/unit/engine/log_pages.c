/* tests/unit/engine/log_pages.c: see log_pages.h. */
#include "unit/engine/log_pages.h"

#include <stdlib.h>

static uint8_t *page_extend(struct buf *page, size_t size)
{
    if (buf_reserve(page, size) != 0)
        abort();
    page->size += size;
    return page->data + page->size - size;
}

void page_begin(struct buf *page, uint32_t number, uint64_t sequence)
{
    *page = BUF_INIT;
    segment_header_encode(page_extend(page, SEGMENT_HEADER_SIZE), number, sequence, 5);
}

uint32_t page_add(struct buf *page, uint32_t number, const struct record *record)
{
    size_t size = record_size(record->key.size, record->value.size, record->expires_at_ms != 0);
    uint32_t offset = (uint32_t)page->size;
    record_encode(page_extend(page, size), number, record);
    return offset;
}

void page_seal(struct buf *page, uint32_t number, uint64_t sequence)
{
    record_seal_encode(page_extend(page, RECORD_SEAL_SIZE), number, sequence);
}

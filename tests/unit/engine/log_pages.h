/*
 * tests/unit/engine/log_pages.h: segments made in memory, record by record, for tests of what reads
 * them.
 */
#ifndef TESTS_UNIT_ENGINE_LOG_PAGES_H
#define TESTS_UNIT_ENGINE_LOG_PAGES_H

#include "base/buf.h"
#include "engine/log/format.h"

/* A header with this number; records follow. */
void page_begin(struct buf *page, uint32_t number, uint64_t sequence);
/* Returns the record's offset. */
uint32_t page_add(struct buf *page, uint32_t number, const struct record *record);
void page_seal(struct buf *page, uint32_t number, uint64_t sequence);

#endif

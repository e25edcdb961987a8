/*
 * store/page.h: keys and values gathered into one allocation: the pairs of a kvs_op.
 *
 * The array of pairs grows upwards from the begin of the block, the bytes downwards from its end;
 * when they meet, the block doubles. The finished block is op->pairs, freed by kvs_op_release.
 *
 * A page may have pins (engine/pins.h): then pairs can also point into an engine's memory.
 */
#ifndef STORE_PAGE_H
#define STORE_PAGE_H

#include "engine/pins.h"

#include <kvs/store.h>

struct page {
    kvs_pair *pairs;          /* the block, behind its pins; NULL until the first pair */
    struct engine_pins *pins; /* the maker's; the block begins with room for them. NULL: none */
    size_t count;
    size_t capacity;    /* of the block, without pins */
    size_t bytes_used;  /* at its end */
    uint32_t expected;  /* so many pairs like the first are to come; 0: unknown */
    uint32_t guess_max; /* bytes that may be taken at once for that */
};

/* Frees the pairs and releases the pins. */
void page_deinit(struct page *page);

/* Appends a pair with copies of both; all or nothing. Returns 0 or NO_MEMORY. */
int page_append(struct page *page, kvs_slice key, kvs_slice value, bool found);

/* Appends a pair as it is: its bytes are pinned. Returns 0 or NO_MEMORY. */
int page_append_pinned(struct page *page, kvs_slice key, kvs_slice value);

/* Bytes of keys and values so far, without pinned ones. */
static inline size_t page_bytes(const struct page *page)
{
    return page->bytes_used;
}

/* Last key; only when count > 0. Valid until the next append. */
static inline kvs_slice page_last_key(const struct page *page)
{
    return page->pairs[page->count - 1].key;
}

/* Hands block and pins to op->pairs, op->pairs_count and op->borrowed; both are empty then. */
void page_detach(struct page *page, kvs_op *op);

/* Frees what page_detach gave to an op with op->borrowed set. */
void page_free_borrowed(kvs_pair *pairs);

#endif

/* store/page.c: a growing block of pairs; see store/page.h. */
#include "store/page.h"

#include "base/mem.h"

#include <assert.h>
#include <string.h>

#define PAGE_CAPACITY_MIN 1024u

void page_deinit(struct page *page)
{
    mem_free(page->pairs);
    *page = (struct page){0};
}

static uint8_t *page_end(const struct page *page)
{
    return (uint8_t *)page->pairs + page->capacity;
}

/* Both halves move to a larger block: the array to its begin, the bytes to its end. */
static int page_grow(struct page *page, size_t need)
{
    size_t capacity = page->capacity > 0 ? page->capacity * 2 : PAGE_CAPACITY_MIN;
    while (capacity < need)
        capacity *= 2;
    kvs_pair *block = mem_alloc(capacity);
    if (block == NULL)
        return KVS_ERR_NO_MEMORY;
    if (page->pairs != NULL) {
        const uint8_t *old_end = page_end(page);
        uint8_t *new_end = (uint8_t *)block + capacity;
        memcpy(new_end - page->bytes_used, old_end - page->bytes_used, page->bytes_used);
        for (size_t i = 0; i < page->count; i++) {
            block[i] = page->pairs[i];
            block[i].key.data = new_end - (old_end - block[i].key.data);
            block[i].value.data = new_end - (old_end - block[i].value.data);
        }
        mem_free(page->pairs);
    }
    page->pairs = block;
    page->capacity = capacity;
    return 0;
}

static kvs_slice page_copy(struct page *page, kvs_slice from)
{
    page->bytes_used += from.size;
    uint8_t *to = page_end(page) - page->bytes_used;
    if (from.size > 0)
        memcpy(to, from.data, from.size);
    return (kvs_slice){.data = to, .size = from.size};
}

/* For all pairs, when they are like the first: else a block would be copied for each doubling. */
static size_t page_guess(const struct page *page, size_t need)
{
    if (page->expected < 2 || need >= page->guess_max)
        return need;
    uint64_t guess = (uint64_t)need * page->expected;
    return guess < page->guess_max ? (size_t)guess : page->guess_max;
}

int page_append(struct page *page, kvs_slice key, kvs_slice value, bool found)
{
    /* Sizes are those of keys and values that exist in memory: the sum does not overflow. */
    size_t need = (page->count + 1) * sizeof(kvs_pair) + page->bytes_used + key.size + value.size;
    if (need > page->capacity) {
        int error = page_grow(page, page->pairs == NULL ? page_guess(page, need) : need);
        if (error != 0)
            return error;
    }
    kvs_pair *pair = &page->pairs[page->count++];
    *pair = (kvs_pair){.found = found};
    pair->key = page_copy(page, key);
    pair->value = page_copy(page, value);
    return 0;
}

void page_detach(struct page *page, kvs_op *op)
{
    assert(op->pairs == NULL);
    op->pairs = page->pairs;
    op->pairs_count = page->count;
    *page = (struct page){0};
}

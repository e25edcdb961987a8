/* store/page.c: a growing block of pairs; see store/page.h. */
#include "store/page.h"

#include "base/mem.h"

#include <assert.h>
#include <string.h>

#define PAGE_CAPACITY_MIN 1024u

/* A block begins here, if the page has pins. */
static struct engine_pins *pins_before(kvs_pair *pairs)
{
    return (struct engine_pins *)(void *)pairs - 1;
}

static void block_free(const struct page *page)
{
    if (page->pairs != NULL)
        mem_free(page->pins != NULL ? (void *)pins_before(page->pairs) : page->pairs);
}

void page_deinit(struct page *page)
{
    block_free(page);
    if (page->pins != NULL)
        engine_pins_release(page->pins);
    *page = (struct page){0};
}

static uint8_t *page_end(const struct page *page)
{
    return (uint8_t *)page->pairs + page->capacity;
}

/* The bytes at the end have moved with it; pinned ones are elsewhere. */
static const uint8_t *moved(const uint8_t *data, const uint8_t *old_end, size_t bytes_used,
                            uint8_t *new_end)
{
    uintptr_t before = (uintptr_t)old_end - (uintptr_t)data;
    return before <= bytes_used ? new_end - before : data;
}

/* Both halves move to a larger block: the array to its begin, the bytes to its end. */
static int page_grow(struct page *page, size_t need)
{
    size_t capacity = page->capacity > 0 ? page->capacity * 2 : PAGE_CAPACITY_MIN;
    while (capacity < need)
        capacity *= 2;
    size_t before = page->pins != NULL ? sizeof *page->pins : 0;
    uint8_t *block = mem_alloc(before + capacity);
    if (block == NULL)
        return KVS_ERR_NO_MEMORY;
    kvs_pair *pairs = (kvs_pair *)(void *)(block + before);
    if (page->count > 0) {
        const uint8_t *old_end = page_end(page);
        uint8_t *new_end = (uint8_t *)pairs + capacity;
        size_t used = page->bytes_used;
        memcpy(new_end - used, old_end - used, used);
        for (size_t i = 0; i < page->count; i++) {
            pairs[i] = page->pairs[i];
            pairs[i].key.data = moved(pairs[i].key.data, old_end, used, new_end);
            pairs[i].value.data = moved(pairs[i].value.data, old_end, used, new_end);
        }
    }
    block_free(page);
    page->pairs = pairs;
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

/* Room for another pair of so many bytes. */
static inline int page_reserve(struct page *page, size_t bytes)
{
    size_t need = (page->count + 1) * sizeof(kvs_pair) + page->bytes_used + bytes;
    if (need <= page->capacity)
        return 0;
    return page_grow(page, page->pairs == NULL ? page_guess(page, need) : need);
}

int page_append(struct page *page, kvs_slice key, kvs_slice value, bool found)
{
    /* Sizes are those of keys and values that exist in memory: the sum does not overflow. */
    int error = page_reserve(page, key.size + value.size);
    if (error != 0)
        return error;
    kvs_pair *pair = &page->pairs[page->count++];
    *pair = (kvs_pair){.found = found};
    pair->key = page_copy(page, key);
    pair->value = page_copy(page, value);
    return 0;
}

int page_append_pinned(struct page *page, kvs_slice key, kvs_slice value)
{
    int error = page->pairs == NULL ? page_grow(page, page_guess(page, sizeof(kvs_pair)))
                                    : page_reserve(page, 0);
    if (error == 0)
        page->pairs[page->count++] = (kvs_pair){.key = key, .value = value, .found = true};
    return error;
}

void page_detach(struct page *page, kvs_op *op)
{
    assert(op->pairs == NULL);
    op->pairs = page->pairs;
    op->pairs_count = page->count;
    op->borrowed = page->pins != NULL && page->pairs != NULL;
    if (op->borrowed) {
        memcpy(pins_before(page->pairs), page->pins, sizeof *page->pins);
        engine_pins_init(page->pins); /* they are the op's now */
    }
    *page = (struct page){0};
}

void page_free_borrowed(kvs_pair *pairs)
{
    struct engine_pins *pins = pins_before(pairs);
    engine_pins_release(pins);
    mem_free(pins);
}

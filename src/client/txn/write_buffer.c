/* client/txn/write_buffer.c: a skip list; see client/txn/write_buffer.h. */
#include "client/txn/write_buffer.h"

#include <kvs/error.h>
#include <string.h>

void write_buffer_init(struct write_buffer *buffer, uint64_t seed)
{
    *buffer = (struct write_buffer){.rand = rand_seed(seed)};
}

void write_buffer_deinit(struct write_buffer *buffer)
{
    arena_deinit(&buffer->arena);
}

/* The pointers, one for each level, to the first entry that is not below `key`; the entry. */
static struct write_entry *find_links(struct write_buffer *buffer, kvs_slice key,
                                      struct write_entry **links[WRITE_LEVELS_MAX])
{
    struct write_entry **at = buffer->heads;
    for (unsigned level = WRITE_LEVELS_MAX; level-- > 0;) {
        while (at[level] != NULL && slice_compare(at[level]->key, key) < 0)
            at = at[level]->next;
        links[level] = &at[level];
    }
    return at[0];
}

struct write_entry *write_buffer_at_or_above(const struct write_buffer *buffer, kvs_slice key)
{
    struct write_entry *const *at = buffer->heads;
    for (unsigned level = WRITE_LEVELS_MAX; level-- > 0;) {
        while (at[level] != NULL && slice_compare(at[level]->key, key) < 0)
            at = at[level]->next;
    }
    return at[0];
}

struct write_entry *write_buffer_below(const struct write_buffer *buffer, kvs_slice key)
{
    struct write_entry *const *at = buffer->heads;
    struct write_entry *last = NULL;
    for (unsigned level = WRITE_LEVELS_MAX; level-- > 0;) {
        while (at[level] != NULL && (key.size == 0 || slice_compare(at[level]->key, key) < 0)) {
            last = at[level];
            at = last->next;
        }
    }
    return last;
}

struct write_entry *write_buffer_find(const struct write_buffer *buffer, kvs_slice key)
{
    struct write_entry *entry = write_buffer_at_or_above(buffer, key);
    return entry != NULL && slice_equal(entry->key, key) ? entry : NULL;
}

static unsigned draw_levels(struct write_buffer *buffer)
{
    uint64_t bits = rand_u64(&buffer->rand);
    unsigned levels = 1;
    while (levels < WRITE_LEVELS_MAX && (bits & 3) == 0) {
        bits >>= 2;
        levels++;
    }
    return levels;
}

struct write_entry *write_buffer_get(struct write_buffer *buffer, kvs_slice key)
{
    struct write_entry **links[WRITE_LEVELS_MAX];
    struct write_entry *found = find_links(buffer, key, links);
    if (found != NULL && slice_equal(found->key, key))
        return found;
    unsigned levels = draw_levels(buffer);
    size_t head_size = sizeof *found + levels * sizeof found->next[0];
    struct write_entry *entry = arena_zalloc(&buffer->arena, head_size + key.size);
    if (entry == NULL)
        return NULL;
    uint8_t *copy = (uint8_t *)entry + head_size;
    if (key.size > 0)
        memcpy(copy, key.data, key.size);
    entry->key = slice_make(copy, key.size);
    entry->levels = (uint8_t)levels;
    for (unsigned level = 0; level < levels; level++) {
        entry->next[level] = *links[level];
        *links[level] = entry;
    }
    buffer->count++;
    buffer->size_bytes += key.size;
    return entry;
}

int write_buffer_put(struct write_buffer *buffer, struct write_entry *entry, kvs_slice value)
{
    void *copy = arena_copy(&buffer->arena, value);
    if (copy == NULL)
        return KVS_ERR_NO_MEMORY;
    buffer->size_bytes += value.size - entry->value.size;
    entry->value = slice_make(copy, value.size);
    entry->kind = WRITE_PUT;
    return 0;
}

void write_buffer_delete(struct write_buffer *buffer, struct write_entry *entry)
{
    buffer->size_bytes -= entry->value.size;
    entry->value = slice_make(NULL, 0);
    entry->kind = WRITE_DELETE;
}

/*
 * engine/log/hint_sort.c: see engine/log/hint_sort.h.
 *
 * A tie is a group of items that are the same in all that was looked at: first those of a family,
 * then those with the same bytes so far. It is sorted by one word, the first 8 bytes in which its
 * keys differ; those with the same word are ties again. The word lies in the item, so the records,
 * which lie anywhere, are read twice for each word and never to compare two of them; many items
 * are sorted by it byte by byte, without comparisons.
 */
#include "engine/log/hint_sort.h"

#include "base/buf.h"
#include "base/bytes.h"
#include "base/mem.h"
#include "engine/log/format.h"

#include <kvs/error.h>

#include <string.h>

#define PREFETCH_AHEAD 16u
#define WORD_SIZE 8u
#define INSERTED_MAX 64u /* so few are sorted by insertion: counting bytes costs more */

struct tie {
    size_t from;
    size_t to;
    size_t depth; /* bytes of the keys that are the same */
    bool ended;   /* some keys may have no more */
};

struct sort {
    kvs_slice segment;
    struct sort_item *items;
    struct sort_item *scratch;
    struct buf ties; /* to be sorted yet, the last first */
};

static kvs_slice key_of(const struct sort *sort, const struct sort_item *item)
{
    struct record record;
    kvs_slice segment = sort->segment;
    (void)record_parse(slice_make(segment.data + item->offset, segment.size - item->offset),
                       &record);
    return record.key;
}

/* The key of items[i]; a later one of the tie is brought near. */
static kvs_slice key_next(const struct sort *sort, const struct tie *tie, size_t i)
{
    if (i + PREFETCH_AHEAD < tie->to)
        __builtin_prefetch(sort->segment.data + sort->items[i + PREFETCH_AHEAD].offset);
    return key_of(sort, &sort->items[i]);
}

/* --- by words --------------------------------------------------------------------------------- */

static unsigned byte_of(const struct sort_item *item, unsigned shift)
{
    return (item->word >> shift) & 0xff;
}

/* One byte, stable, from `from` to `to`. False and nothing done when all have the same. */
static bool byte_sort(const struct sort_item *from, struct sort_item *to, size_t count,
                      unsigned shift)
{
    size_t places[256] = {0};
    for (size_t i = 0; i < count; i++)
        places[byte_of(&from[i], shift)]++;
    size_t place = 0;
    for (unsigned i = 0; i < 256; i++) {
        if (places[i] == count)
            return false;
        size_t here = places[i];
        places[i] = place;
        place += here;
    }
    for (size_t i = 0; i < count; i++)
        to[places[byte_of(&from[i], shift)]++] = from[i];
    return true;
}

static void insertion_sort(struct sort_item *items, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct sort_item item = items[i];
        size_t at = i;
        for (; at > 0 && items[at - 1].word > item.word; at--)
            items[at] = items[at - 1];
        items[at] = item;
    }
}

/* Stable. */
static void words_sort(struct sort *sort, size_t from, size_t to)
{
    size_t count = to - from;
    struct sort_item *items = sort->items + from;
    if (count <= INSERTED_MAX) {
        insertion_sort(items, count);
        return;
    }
    struct sort_item *other = sort->scratch + from;
    for (unsigned shift = 0; shift < 64; shift += 8) {
        if (!byte_sort(items, other, count, shift))
            continue;
        struct sort_item *sorted = other;
        other = items;
        items = sorted;
    }
    if (items != sort->items + from)
        memcpy(sort->items + from, items, count * sizeof *items);
}

/* --- ties ------------------------------------------------------------------------------------- */

/* A word of the key from `depth` on, with zeros behind its end. */
static uint64_t word_at(kvs_slice key, size_t depth)
{
    uint8_t bytes[WORD_SIZE] = {0};
    size_t size = key.size > depth ? key.size - depth : 0;
    if (size > 0)
        memcpy(bytes, key.data + depth, size < WORD_SIZE ? size : WORD_SIZE);
    return get_u64_be(bytes);
}

/* How many bytes are the same, of which the first `depth` are known to be, and no more than
 * `same_max` are of interest. */
static size_t same_bytes(kvs_slice a, kvs_slice b, size_t depth, size_t same_max)
{
    size_t max = b.size < same_max ? b.size : same_max;
    size_t same = depth;
    while (same < max && a.data[same] == b.data[same])
        same++;
    return same;
}

/* A key that ended before `depth` equals the others but for zeros that they have there, or is the
 * same as others that ended: the shorter is less. Takes these from the tie. */
static void ended_sort(struct sort *sort, struct tie *tie)
{
    size_t ended = 0;
    for (size_t i = tie->from; i < tie->to; i++) {
        size_t size = key_next(sort, tie, i).size;
        ended += size <= tie->depth;
        sort->items[i].word = size <= tie->depth ? size : SIZE_MAX;
    }
    words_sort(sort, tie->from, tie->to);
    tie->from += ended;
}

/* Advances the tie's depth to where its keys differ. False if all are the same. */
static bool differ(const struct sort *sort, struct tie *tie)
{
    kvs_slice first = key_of(sort, &sort->items[tie->from]);
    size_t same = first.size;
    bool longer = false;
    for (size_t i = tie->from + 1; i < tie->to; i++) {
        kvs_slice key = key_next(sort, tie, i);
        same = same_bytes(first, key, tie->depth, same);
        longer |= key.size > first.size;
    }
    tie->depth = same;
    return same < first.size || longer;
}

static int ties_add(struct sort *sort, const struct tie *tie)
{
    const struct sort_item *items = sort->items;
    for (size_t from = tie->from, to; from < tie->to; from = to) {
        for (to = from + 1; to < tie->to && items[to].word == items[from].word;)
            to++;
        struct tie next = {
            .from = from, .to = to, .depth = tie->depth + WORD_SIZE, .ended = tie->ended};
        if (to - from > 1 && buf_append(&sort->ties, &next, sizeof next) != 0)
            return KVS_ERR_NO_MEMORY;
    }
    return 0;
}

static int tie_sort(struct sort *sort, struct tie *tie)
{
    if (tie->ended)
        ended_sort(sort, tie);
    if (tie->to - tie->from < 2 || !differ(sort, tie))
        return 0;
    tie->ended = false;
    for (size_t i = tie->from; i < tie->to; i++) {
        kvs_slice key = key_next(sort, tie, i);
        sort->items[i].word = word_at(key, tie->depth);
        tie->ended |= key.size <= tie->depth + WORD_SIZE;
    }
    words_sort(sort, tie->from, tie->to);
    return ties_add(sort, tie);
}

static int families_sort(struct sort *sort, size_t count)
{
    struct tie all = {.to = count};
    for (size_t i = 0; i < count; i++)
        sort->items[i].word = sort->items[i].family;
    words_sort(sort, all.from, all.to);
    int error = ties_add(sort, &all);
    struct tie *families = (struct tie *)(void *)sort->ties.data;
    for (size_t i = 0; i < sort->ties.size / sizeof *families; i++)
        families[i].depth = 0; /* nothing of a key was looked at */
    return error;
}

int hint_sort(kvs_slice segment, struct sort_item *items, size_t count)
{
    if (count < 2)
        return 0;
    struct sort sort = {.segment = segment, .items = items};
    sort.scratch = mem_alloc(count * sizeof *sort.scratch);
    int error = sort.scratch != NULL ? families_sort(&sort, count) : KVS_ERR_NO_MEMORY;
    while (error == 0 && sort.ties.size > 0) {
        struct tie tie;
        sort.ties.size -= sizeof tie;
        memcpy(&tie, sort.ties.data + sort.ties.size, sizeof tie);
        error = tie_sort(&sort, &tie);
    }
    mem_free(sort.scratch);
    buf_deinit(&sort.ties);
    return error;
}

/* engine/log/overlap.c: see engine/log/overlap.h. */
#include "engine/log/overlap.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* A place among all keys; the key's bytes are the span's. */
struct key_place {
    uint32_t family;
    uint32_t at;
    uint32_t size;
};

struct key_span {
    struct key_place first;
    struct key_place last;
    bool is_cut;
    uint8_t bytes[];
};

/* --- the keys of a segment -------------------------------------------------------------------- */

static kvs_slice place_key(const struct key_span *span, const struct key_place *place)
{
    return slice_make(span->bytes + place->at, place->size);
}

static void place_set(struct key_span *span, struct key_place *place, uint32_t at, unsigned family,
                      kvs_slice key)
{
    *place = (struct key_place){.family = family, .at = at, .size = (uint32_t)key.size};
    memcpy(span->bytes + at, key.data, key.size);
}

static bool cursor_to_last(struct hint_cursor *cursor)
{
    if (!hint_cursor_restart(cursor, hint_restarts(cursor->hint) - 1))
        return false;
    while (hint_cursor_next(cursor)) {
    }
    return !cursor->is_bad;
}

static bool span_fill(struct key_span *span, struct hint_cursor *cursor)
{
    if (!hint_cursor_next(cursor))
        return false;
    place_set(span, &span->first, 0, cursor->item.family, cursor->item.key);
    if (!cursor_to_last(cursor))
        return false;
    place_set(span, &span->last, span->first.size, cursor->item.family, cursor->item.key);
    return true;
}

struct key_span *key_span_of(const struct hint *hint)
{
    struct hint_cursor cursor;
    if (hint->count == 0 || !hint_has_small_records(hint) || hint_cursor_init(&cursor, hint) != 0)
        return NULL;
    struct key_span *span = mem_alloc(sizeof *span + 2 * (size_t)hint->key_size_max);
    if (span != NULL) {
        span->is_cut = false;
        if (!span_fill(span, &cursor)) {
            mem_free(span);
            span = NULL;
        }
    }
    hint_cursor_deinit(&cursor);
    return span;
}

bool key_span_is_cut(const struct key_span *span)
{
    return span->is_cut;
}

void key_span_first(const struct key_span *span, unsigned *ret_family, kvs_slice *ret_key)
{
    *ret_family = span->first.family;
    *ret_key = place_key(span, &span->first);
}

static int places_compare(const struct key_span *a, const struct key_place *a_place,
                          const struct key_span *b, const struct key_place *b_place)
{
    if (a_place->family != b_place->family)
        return a_place->family < b_place->family ? -1 : 1;
    return slice_compare(place_key(a, a_place), place_key(b, b_place));
}

bool key_span_is_behind(const struct key_span *span, unsigned family, kvs_slice key)
{
    if (family != span->last.family)
        return family > span->last.family;
    return slice_compare(key, place_key(span, &span->last)) > 0;
}

bool key_span_ends_behind(const struct key_span *a, const struct key_span *b)
{
    return places_compare(a, &a->last, b, &b->last) > 0;
}

bool key_span_begins_before(const struct key_span *a, const struct key_span *b)
{
    return places_compare(a, &a->first, b, &b->first) < 0;
}

static bool begins_behind(const struct key_span *a, const struct key_span *b)
{
    return places_compare(a, &a->first, b, &b->last) > 0;
}

/* --- choosing --------------------------------------------------------------------------------- */

static int first_compare(const void *a, const void *b)
{
    const struct key_span *x = (*(struct segment *const *)a)->span;
    const struct key_span *y = (*(struct segment *const *)b)->span;
    return places_compare(x, &x->first, y, &y->first);
}

static int number_compare(const void *a, const void *b)
{
    uint32_t x = (*(struct segment *const *)a)->number;
    uint32_t y = (*(struct segment *const *)b)->number;
    return (x > y) - (x < y);
}

/* Segments, by the first keys of their spans. */
struct row {
    struct segment **segments;
    size_t count;
};

static bool is_to_be_looked_at(const struct segment *segment, uint32_t below)
{
    return segment->state == SEGMENT_SEALED && segment->number < below && segment->span != NULL &&
           !segment->is_scattered && !segment->stuck;
}

static void row_gather(struct row *row, const struct log_engine *log, uint32_t below)
{
    size_t count = 0;
    for (struct segment *at = log->oldest; at != NULL; at = at->next)
        count += is_to_be_looked_at(at, below);
    row->segments = count > 0 ? mem_alloc(count * sizeof(struct segment *)) : NULL;
    if (row->segments == NULL)
        return;
    for (struct segment *at = log->oldest; at != NULL; at = at->next) {
        if (is_to_be_looked_at(at, below))
            row->segments[row->count++] = at;
    }
    qsort(row->segments, row->count, sizeof *row->segments, first_compare);
}

/* Do so many from there on have a place in common? */
static bool row_is_deep(const struct row *row, size_t from)
{
    const struct key_span *shortest = row->segments[from]->span;
    size_t n = 1;
    while (n < OVERLAP_MIN && from + n < row->count &&
           !begins_behind(row->segments[from + n]->span, shortest)) {
        const struct key_span *span = row->segments[from + n]->span;
        shortest = key_span_ends_behind(shortest, span) ? span : shortest;
        n++;
    }
    return n == OVERLAP_MIN;
}

static size_t row_begin(const struct row *row)
{
    size_t i = 0;
    while (i < row->count && !row->segments[i]->span->is_cut && !row_is_deep(row, i))
        i++;
    return i;
}

/* Up to where nothing reaches that cannot be taken, too: the furthest end before that. */
static const struct key_span *row_end(const struct overlap *overlap, const struct key_span *next)
{
    const struct key_span *end = NULL;
    for (unsigned i = 0; i < overlap->count; i++) {
        const struct key_span *span = overlap->segments[i]->span;
        if (begins_behind(next, span) && (end == NULL || key_span_ends_behind(span, end)))
            end = span;
    }
    return end;
}

static void overlap_leave_behind(struct overlap *overlap)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < overlap->count; i++) {
        if (!begins_behind(overlap->segments[i]->span, overlap->end))
            overlap->segments[kept++] = overlap->segments[i];
    }
    overlap->count = kept;
}

static void overlap_fill(struct overlap *overlap, const struct row *row, overlap_take_fn *take,
                         void *arg)
{
    const struct key_span *furthest = NULL;
    size_t i = row_begin(row);
    for (; i < row->count; i++) {
        struct segment *segment = row->segments[i];
        if (furthest != NULL && begins_behind(segment->span, furthest))
            return; /* what follows has nothing in common with these */
        if (overlap->count == COMPACTION_VICTIMS_MAX || !take(arg, segment))
            break;
        overlap->segments[overlap->count++] = segment;
        if (furthest == NULL || key_span_ends_behind(segment->span, furthest))
            furthest = segment->span;
    }
    if (i == row->count)
        return;
    overlap->end = row_end(overlap, row->segments[i]->span);
    if (overlap->end != NULL)
        overlap_leave_behind(overlap);
    else
        overlap->count = 0;
}

void overlap_pick(const struct log_engine *log, uint32_t below, overlap_take_fn *take, void *arg,
                  struct overlap *ret_overlap)
{
    struct row row = {0};
    *ret_overlap = (struct overlap){.count = 0};
    row_gather(&row, log, below);
    if (row.count > 0)
        overlap_fill(ret_overlap, &row, take, arg);
    mem_free(row.segments);
    qsort(ret_overlap->segments, ret_overlap->count, sizeof(struct segment *), number_compare);
}

void overlap_cut(struct segment *segment, const struct key_span *end)
{
    const struct key_span *whole = segment->span;
    kvs_slice first = place_key(end, &end->last);
    kvs_slice last = place_key(whole, &whole->last);
    struct key_span *span = mem_alloc(sizeof *span + first.size + last.size);
    if (span == NULL)
        return; /* it is looked through from its begin again */
    span->is_cut = true;
    place_set(span, &span->first, 0, end->last.family, first);
    place_set(span, &span->last, span->first.size, whole->last.family, last);
    mem_free(segment->span);
    segment->span = span;
}

/* engine/log/range_sweep.c: see engine/log/range_sweep.h. */
#include "engine/log/range_sweep.h"

#include "base/mem.h"

#include <kvs/error.h>
#include <stdlib.h>

int range_list_add(struct range_list *list, const struct record *record)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity > 0 ? 2 * list->capacity : 16;
        struct range_removal *ranges = mem_realloc(list->ranges, capacity * sizeof *ranges);
        if (ranges == NULL)
            return KVS_ERR_NO_MEMORY;
        list->ranges = ranges;
        list->capacity = capacity;
    }
    list->ranges[list->count++] = (struct range_removal){.family = record->family,
                                                         .sequence = record->sequence,
                                                         .start = record->key,
                                                         .end = record->value};
    return 0;
}

int range_list_add_all(struct range_list *list, kvs_slice records)
{
    struct record record;
    for (size_t size; (size = record_parse(records, &record)) > 0;
         records = slice_make(records.data + size, records.size - size)) {
        int error = range_list_add(list, &record);
        if (error != 0)
            return error;
    }
    return 0;
}

static int range_compare(const void *a, const void *b)
{
    const struct range_removal *x = a;
    const struct range_removal *y = b;
    if (x->family != y->family)
        return x->family < y->family ? -1 : 1;
    return slice_compare(x->start, y->start);
}

void range_list_sort(struct range_list *list)
{
    if (list->count > 0)
        qsort(list->ranges, list->count, sizeof *list->ranges, range_compare);
}

void range_list_deinit(struct range_list *list)
{
    mem_free(list->ranges);
    *list = (struct range_list){0};
}

int range_sweep_init(struct range_sweep *sweep, const struct range_list *list)
{
    *sweep = (struct range_sweep){.list = list};
    if (list->count == 0)
        return 0;
    sweep->nodes = mem_zalloc(list->count * sizeof *sweep->nodes);
    return sweep->nodes != NULL ? 0 : KVS_ERR_NO_MEMORY;
}

void range_sweep_deinit(struct range_sweep *sweep)
{
    heap_deinit(&sweep->open);
    mem_free(sweep->nodes);
    *sweep = (struct range_sweep){0};
}

static bool range_is_over(const struct range_removal *range, unsigned family, kvs_slice key)
{
    return range->family < family || (range->end.size > 0 && slice_compare(range->end, key) <= 0);
}

int range_sweep_at(struct range_sweep *sweep, unsigned family, kvs_slice key,
                   uint64_t *ret_sequence)
{
    const struct range_list *list = sweep->list;
    for (; sweep->next < list->count; sweep->next++) {
        const struct range_removal *range = &list->ranges[sweep->next];
        if (range->family > family ||
            (range->family == family && slice_compare(range->start, key) > 0))
            break;
        if (range_is_over(range, family, key))
            continue;
        int error =
            heap_push(&sweep->open, &sweep->nodes[sweep->next], UINT64_MAX - range->sequence);
        if (error != 0)
            return error;
    }
    *ret_sequence = 0;
    for (struct heap_node *top; (top = heap_first(&sweep->open)) != NULL;) {
        const struct range_removal *range = &list->ranges[top - sweep->nodes];
        if (!range_is_over(range, family, key)) {
            *ret_sequence = range->sequence;
            break;
        }
        heap_remove(&sweep->open, top);
    }
    return 0;
}

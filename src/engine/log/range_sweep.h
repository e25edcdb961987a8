/*
 * engine/log/range_sweep.h: which range removals have a key, asked for keys in ascending order.
 *
 * The removals are gathered once and sorted; any number of sweeps may go over them side by side,
 * each on one thread. A sweep holds those whose range it is in as a heap, the youngest first, so a
 * key costs no more when many of them lie one over the other.
 */
#ifndef ENGINE_LOG_RANGE_SWEEP_H
#define ENGINE_LOG_RANGE_SWEEP_H

#include "base/heap.h"
#include "engine/log/format.h"

struct range_removal {
    uint8_t family;
    uint64_t sequence;
    kvs_slice start, end; /* as in the record: empty for no bound; borrowed */
};

struct range_list {
    struct range_removal *ranges;
    size_t count;
    size_t capacity;
};

struct range_sweep {
    const struct range_list *list;
    struct heap_node *nodes; /* one for each range */
    struct heap open;        /* those whose start was reached, the highest sequence first */
    size_t next;             /* the first whose start was not */
};

/* Notes a record of a range removal. NO_MEMORY. */
int range_list_add(struct range_list *list, const struct record *record);
/* All records of a hint's range removals. NO_MEMORY. */
int range_list_add_all(struct range_list *list, kvs_slice records);
/* When all are in: before the first sweep. */
void range_list_sort(struct range_list *list);
void range_list_deinit(struct range_list *list);

/* NO_MEMORY. The list must stay as it is. */
int range_sweep_init(struct range_sweep *sweep, const struct range_list *list);
void range_sweep_deinit(struct range_sweep *sweep);
/* The highest sequence number of the removals that have the key; 0 for none. Keys must not go down,
 * by family and then by bytes. NO_MEMORY. */
int range_sweep_at(struct range_sweep *sweep, unsigned family, kvs_slice key,
                   uint64_t *ret_sequence);

#endif

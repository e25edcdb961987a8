/* base/heap.h: a binary heap of intrusive nodes, smallest key first; for timers. */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_node {
    uint64_t key;
    size_t place; /* 1 + index in the heap; 0: in none */
};

struct heap {
    struct heap_node **nodes;
    size_t size;
    size_t capacity;
};

#define HEAP_INIT ((struct heap){0})

void heap_deinit(struct heap *heap); /* the nodes are their owners' */

/* Adds a node that is in no heap. Returns 0 or KVS_ERR_NO_MEMORY. */
int heap_push(struct heap *heap, struct heap_node *node, uint64_t key);

/* Fine for a node that is in no heap. */
void heap_remove(struct heap *heap, struct heap_node *node);

/* The node with the smallest key; NULL when empty. */
static inline struct heap_node *heap_first(const struct heap *heap)
{
    return heap->size > 0 ? heap->nodes[0] : NULL;
}

#endif

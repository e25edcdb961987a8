/* base/heap.c: sift up, sift down. */
#include "base/heap.h"

#include "base/mem.h"

#include <kvs/error.h>

#define CAPACITY_MIN 16

void heap_deinit(struct heap *heap)
{
    mem_free(heap->nodes);
    *heap = HEAP_INIT;
}

static void heap_put(struct heap *heap, size_t index, struct heap_node *node)
{
    heap->nodes[index] = node;
    node->place = index + 1;
}

static void heap_sift_up(struct heap *heap, size_t index, struct heap_node *node)
{
    while (index > 0) {
        size_t parent = (index - 1) / 2;
        if (heap->nodes[parent]->key <= node->key)
            break;
        heap_put(heap, index, heap->nodes[parent]);
        index = parent;
    }
    heap_put(heap, index, node);
}

static void heap_sift_down(struct heap *heap, size_t index, struct heap_node *node)
{
    for (;;) {
        size_t child = 2 * index + 1;
        if (child >= heap->size)
            break;
        if (child + 1 < heap->size && heap->nodes[child + 1]->key < heap->nodes[child]->key)
            child++;
        if (node->key <= heap->nodes[child]->key)
            break;
        heap_put(heap, index, heap->nodes[child]);
        index = child;
    }
    heap_put(heap, index, node);
}

int heap_push(struct heap *heap, struct heap_node *node, uint64_t key)
{
    if (heap->size == heap->capacity) {
        size_t capacity = heap->capacity > 0 ? 2 * heap->capacity : CAPACITY_MIN;
        struct heap_node **nodes = mem_realloc(heap->nodes, capacity * sizeof *nodes);
        if (nodes == NULL)
            return KVS_ERR_NO_MEMORY;
        heap->nodes = nodes;
        heap->capacity = capacity;
    }
    node->key = key;
    heap_sift_up(heap, heap->size++, node);
    return 0;
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
    if (node->place == 0)
        return;
    size_t index = node->place - 1;
    node->place = 0;
    struct heap_node *last = heap->nodes[--heap->size];
    if (last == node)
        return;
    if (index > 0 && last->key < heap->nodes[(index - 1) / 2]->key)
        heap_sift_up(heap, index, last);
    else
        heap_sift_down(heap, index, last);
}

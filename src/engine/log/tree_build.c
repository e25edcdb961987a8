/* engine/log/tree_build.c: see engine/log/tree_build.h. */
#include "engine/log/tree_build.h"

#include "base/mem.h"

#include <kvs/error.h>

/* Items that a node gets: with room for some more, else the first writes after a start would split
 * node after node. Trees grown by random inserts are about as full. */
#define FILL (TREE_FANOUT * 3 / 4)

int tree_run_add(struct tree_run *run, struct entry *entry)
{
    struct node *leaf = NULL;
    if (run->leaves.count > 0)
        leaf = (struct node *)run->leaves.items[run->leaves.count - 1];
    if (leaf == NULL || leaf->count == FILL) {
        tree_run_end(run);
        leaf = tree_node_new(run->writer, 0);
        if (leaf == NULL || pointer_vector_push(&run->leaves, (uintptr_t)leaf) != 0)
            return KVS_ERR_NO_MEMORY;
    }
    leaf->items[leaf->count++] = entry;
    return 0;
}

void tree_run_end(struct tree_run *run)
{
    if (run->leaves.count > 0)
        tree_node_reindex((struct node *)run->leaves.items[run->leaves.count - 1]);
}

void tree_run_deinit(struct tree_run *run)
{
    pointer_vector_deinit(&run->leaves);
}

/* The nodes of a level, from left to right, and what stands between each two. */
struct level {
    struct pointer_vector nodes;
    struct pointer_vector separators; /* one less */
};

static void level_deinit(struct level *level)
{
    pointer_vector_deinit(&level->nodes);
    pointer_vector_deinit(&level->separators);
}

static int leaves_gather(struct tree_writer *writer, struct tree_run *const *runs, size_t count,
                         struct level *level)
{
    const struct node *before = NULL;
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < runs[i]->leaves.count; k++) {
            struct node *leaf = (struct node *)runs[i]->leaves.items[k];
            if (pointer_vector_push(&level->nodes, (uintptr_t)leaf) != 0)
                return KVS_ERR_NO_MEMORY;
            if (before != NULL) {
                struct separator *separator = tree_separator_new(
                    writer, entry_key(before->items[before->count - 1]), entry_key(leaf->items[0]));
                if (separator == NULL ||
                    pointer_vector_push(&level->separators, (uintptr_t)separator) != 0)
                    return KVS_ERR_NO_MEMORY;
            }
            before = leaf;
        }
    }
    return 0;
}

/* Children [from, to) of a level under a new node. */
static struct node *parent_new(struct tree_writer *writer, const struct level *below, size_t from,
                               size_t to)
{
    const struct node *child = (const struct node *)below->nodes.items[from];
    struct node *parent = tree_node_new(writer, (uint8_t)(child->level + 1));
    if (parent == NULL)
        return NULL;
    parent->count = (uint16_t)(to - from - 1);
    for (size_t i = from; i < to; i++)
        parent->children[i - from] = (struct node *)below->nodes.items[i];
    for (size_t i = from; i + 1 < to; i++)
        parent->items[i - from] = (void *)below->separators.items[i];
    tree_node_reindex(parent);
    return parent;
}

/* The level above: children are shared out evenly, so that every node has two at least. */
static int level_raise(struct tree_writer *writer, const struct level *below, struct level *above)
{
    size_t count = below->nodes.count;
    size_t parents = (count + FILL) / (FILL + 1);
    for (size_t i = 0; i < parents; i++) {
        size_t from = count * i / parents;
        size_t to = count * (i + 1) / parents;
        struct node *parent = parent_new(writer, below, from, to);
        if (parent == NULL || pointer_vector_push(&above->nodes, (uintptr_t)parent) != 0)
            return KVS_ERR_NO_MEMORY;
        if (to < count &&
            pointer_vector_push(&above->separators, below->separators.items[to - 1]) != 0)
            return KVS_ERR_NO_MEMORY;
    }
    return 0;
}

int tree_runs_join(struct tree_writer *writer, struct tree_run *const *runs, size_t count,
                   struct node **ret_root)
{
    struct level level = {0};
    int error = leaves_gather(writer, runs, count, &level);
    while (error == 0 && level.nodes.count > 1) {
        struct level above = {0};
        error = level_raise(writer, &level, &above);
        level_deinit(&level);
        level = above;
    }
    if (error == 0)
        *ret_root = level.nodes.count > 0 ? (struct node *)level.nodes.items[0] : NULL;
    level_deinit(&level);
    return error;
}

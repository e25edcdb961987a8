/*
 * engine/memory/tree.c: a treap with copy on write; see tree.h for who owns what.
 *
 * Everything is made of two operations: split a tree at a key into two, and merge two trees of
 * which one lies wholly before the other. To set a key:
 *   1. split at the key, split the greater part behind the key: less, same (0 or 1 entry), greater;
 *   2. release `same`;
 *   3. merge less, the new entry, and greater.
 * Both go down one path from the root, and copy those nodes of it that another tree holds as well.
 *
 * Functions here call themselves down the tree: the depth depends on the random priorities only,
 * not on the keys that come from outside.
 */
#include "engine/memory/tree.h"

#include "base/mem.h"
#include "base/rand.h"

#include <assert.h>

struct tree {
    _Atomic uint64_t refs;
    uint64_t priority; /* not below those of the subtrees */
    uint64_t count;
    uint64_t bytes;
    struct entry *entry;
    struct tree *left;
    struct tree *right;
};

/* Relaxed is enough to count up: whoever does so holds a reference already. */
static struct entry *entry_ref(struct entry *entry)
{
    atomic_fetch_add_explicit(&entry->refs, 1, memory_order_relaxed);
    return entry;
}

static void entry_unref(struct entry *entry)
{
    /* acq_rel: the last one out sees all that the others did with it before it is freed. */
    if (atomic_fetch_sub_explicit(&entry->refs, 1, memory_order_acq_rel) == 1)
        mem_free(entry);
}

static struct entry *entry_new(kvs_slice key, kvs_slice value, uint64_t expires_ms)
{
    struct entry *entry = mem_alloc(sizeof *entry + key.size + value.size);
    if (entry == NULL)
        return NULL;
    atomic_init(&entry->refs, 1);
    entry->expires_ms = expires_ms;
    entry->key_size = key.size;
    entry->value_size = value.size;
    memcpy(entry->bytes, key.data, key.size);
    if (value.size > 0)
        memcpy(entry->bytes + key.size, value.data, value.size);
    return entry;
}

struct tree *tree_ref(struct tree *tree)
{
    if (tree != NULL)
        atomic_fetch_add_explicit(&tree->refs, 1, memory_order_relaxed); /* as entry_ref */
    return tree;
}

void tree_unref(struct tree *tree)
{
    /* acq_rel: as in entry_unref. */
    if (tree == NULL || atomic_fetch_sub_explicit(&tree->refs, 1, memory_order_acq_rel) != 1)
        return;
    tree_unref(tree->left);
    tree_unref(tree->right);
    entry_unref(tree->entry);
    mem_free(tree);
}

uint64_t tree_count(const struct tree *tree)
{
    return tree != NULL ? tree->count : 0;
}

uint64_t tree_bytes(const struct tree *tree)
{
    return tree != NULL ? tree->bytes : 0;
}

static void tree_sum_up(struct tree *tree)
{
    tree->count = 1 + tree_count(tree->left) + tree_count(tree->right);
    tree->bytes = tree->entry->key_size + tree->entry->value_size + tree_bytes(tree->left) +
                  tree_bytes(tree->right);
}

/* Takes the entry. */
static struct tree *tree_new(struct entry *entry, uint64_t priority, struct tree *left,
                             struct tree *right)
{
    struct tree *tree = mem_alloc(sizeof *tree);
    if (tree == NULL) {
        entry_unref(entry);
        return NULL;
    }
    *tree = (struct tree){.priority = priority, .entry = entry, .left = left, .right = right};
    atomic_init(&tree->refs, 1);
    tree_sum_up(tree);
    return tree;
}

/* The tree's root as a node that nobody else holds: itself, or a copy. */
static struct tree *tree_own(struct tree *tree)
{
    /* acquire: pairs with tree_unref of the last other holder, whose reads are over. */
    if (atomic_load_explicit(&tree->refs, memory_order_acquire) == 1)
        return tree;
    struct tree *copy = tree_new(entry_ref(tree->entry), tree->priority, tree->left, tree->right);
    if (copy != NULL) {
        tree_ref(copy->left);
        tree_ref(copy->right);
    }
    tree_unref(tree);
    return copy;
}

/* Into keys < key (with key_left: <= key) and the others. */
static bool tree_split(struct tree *tree, kvs_slice key, bool key_left, struct tree **ret_left,
                       struct tree **ret_right)
{
    *ret_left = *ret_right = NULL;
    if (tree == NULL)
        return true;
    tree = tree_own(tree);
    if (tree == NULL)
        return false;
    int order = slice_compare(entry_key(tree->entry), key);
    bool goes_left = order < 0 || (order == 0 && key_left);
    struct tree **child = goes_left ? &tree->right : &tree->left;
    struct tree *below = *child;
    *child = NULL;
    struct tree *left;
    struct tree *right;
    if (!tree_split(below, key, key_left, &left, &right)) {
        tree_unref(tree);
        return false;
    }
    *child = goes_left ? left : right;
    tree_sum_up(tree);
    *ret_left = goes_left ? tree : left;
    *ret_right = goes_left ? right : tree;
    return true;
}

/* All keys of left are before those of right. */
static bool tree_merge(struct tree *left, struct tree *right, struct tree **ret_tree)
{
    *ret_tree = NULL;
    if (left == NULL || right == NULL) {
        *ret_tree = left != NULL ? left : right;
        return true;
    }
    bool left_is_root = left->priority >= right->priority;
    struct tree *other = left_is_root ? right : left;
    struct tree *root = tree_own(left_is_root ? left : right);
    if (root == NULL) {
        tree_unref(other);
        return false;
    }
    struct tree **child = left_is_root ? &root->right : &root->left;
    struct tree *below = *child;
    *child = NULL;
    if (!tree_merge(left_is_root ? below : other, left_is_root ? other : below, child)) {
        tree_unref(root);
        return false;
    }
    tree_sum_up(root);
    *ret_tree = root;
    return true;
}

static uint64_t priority_random(void)
{
    /* Only the shape of trees hangs on these numbers, so a fixed seed will do. */
    static _Thread_local struct rand rand;
    if (rand.state == 0)
        rand = rand_seed(1);
    return rand_u64(&rand);
}

bool tree_set(struct tree *tree, kvs_slice key, kvs_slice value, uint64_t expires_ms,
              struct tree **ret_tree)
{
    struct entry *entry = entry_new(key, value, expires_ms);
    struct tree *fresh = entry != NULL ? tree_new(entry, priority_random(), NULL, NULL) : NULL;
    if (fresh == NULL) {
        tree_unref(tree);
        return false;
    }
    struct tree *less;
    struct tree *same;
    struct tree *rest;
    if (!tree_split(tree, key, false, &less, &rest)) {
        tree_unref(fresh);
        return false;
    }
    if (!tree_split(rest, key, true, &same, &rest)) {
        tree_unref(less);
        tree_unref(fresh);
        return false;
    }
    tree_unref(same);
    if (!tree_merge(less, fresh, &less)) {
        tree_unref(rest);
        return false;
    }
    return tree_merge(less, rest, ret_tree);
}

bool tree_remove(struct tree *tree, kvs_slice key, struct tree **ret_tree)
{
    struct tree *less;
    struct tree *same;
    struct tree *rest;
    if (!tree_split(tree, key, false, &less, &rest))
        return false;
    if (!tree_split(rest, key, true, &same, &rest)) {
        tree_unref(less);
        return false;
    }
    tree_unref(same);
    return tree_merge(less, rest, ret_tree);
}

bool tree_remove_range(struct tree *tree, kvs_slice start, kvs_slice end, struct tree **ret_tree)
{
    struct tree *less;
    struct tree *inside;
    struct tree *rest = NULL;
    /* No key is empty, so an empty start splits before the first one. */
    if (!tree_split(tree, start, false, &less, &inside))
        return false;
    if (end.size > 0 && !tree_split(inside, end, false, &inside, &rest)) {
        tree_unref(less);
        return false;
    }
    tree_unref(inside);
    return tree_merge(less, rest, ret_tree);
}

const struct entry *tree_find(const struct tree *tree, kvs_slice key)
{
    while (tree != NULL) {
        int order = slice_compare(key, entry_key(tree->entry));
        if (order == 0)
            return tree->entry;
        tree = order < 0 ? tree->left : tree->right;
    }
    return NULL;
}

int tree_walk(const struct tree *tree, kvs_slice start, kvs_slice end, bool reverse,
              tree_walk_fn *each, void *arg)
{
    if (tree == NULL)
        return 0;
    kvs_slice key = entry_key(tree->entry);
    bool from_start = slice_compare(key, start) >= 0;
    bool before_end = end.size == 0 || slice_compare(key, end) < 0;
    /* Left of a key before the start, and right of one behind the end, there is nothing to give. */
    bool left = from_start;
    bool right = before_end;
    int result = 0;
    if (reverse ? right : left)
        result = tree_walk(reverse ? tree->right : tree->left, start, end, reverse, each, arg);
    if (result == 0 && from_start && before_end)
        result = each(arg, tree->entry);
    if (result == 0 && (reverse ? left : right))
        result = tree_walk(reverse ? tree->left : tree->right, start, end, reverse, each, arg);
    return result;
}

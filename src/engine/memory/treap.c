/*
 * engine/memory/treap.c: a treap with copy on write; see treap.h for who owns what.
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
#include "engine/memory/treap.h"

#include "base/mem.h"
#include "base/rand.h"

#include <assert.h>

struct treap {
    _Atomic uint64_t refs;
    uint64_t priority; /* not below those of the subtrees */
    uint64_t count;
    uint64_t bytes;
    struct entry *entry;
    struct treap *left;
    struct treap *right;
};

/* Relaxed is enough to count up: whoever does so holds a reference already. */
struct entry *entry_ref(struct entry *entry)
{
    atomic_fetch_add_explicit(&entry->refs, 1, memory_order_relaxed);
    return entry;
}

void entry_unref(struct entry *entry)
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

struct treap *treap_ref(struct treap *tree)
{
    if (tree != NULL)
        atomic_fetch_add_explicit(&tree->refs, 1, memory_order_relaxed); /* as entry_ref */
    return tree;
}

void treap_unref(struct treap *tree)
{
    /* acq_rel: as in entry_unref. */
    if (tree == NULL || atomic_fetch_sub_explicit(&tree->refs, 1, memory_order_acq_rel) != 1)
        return;
    treap_unref(tree->left);
    treap_unref(tree->right);
    entry_unref(tree->entry);
    mem_free(tree);
}

uint64_t treap_count(const struct treap *tree)
{
    return tree != NULL ? tree->count : 0;
}

uint64_t treap_bytes(const struct treap *tree)
{
    return tree != NULL ? tree->bytes : 0;
}

static void treap_sum_up(struct treap *tree)
{
    tree->count = 1 + treap_count(tree->left) + treap_count(tree->right);
    tree->bytes = tree->entry->key_size + tree->entry->value_size + treap_bytes(tree->left) +
                  treap_bytes(tree->right);
}

/* Takes the entry. */
static struct treap *treap_new(struct entry *entry, uint64_t priority, struct treap *left,
                               struct treap *right)
{
    struct treap *tree = mem_alloc(sizeof *tree);
    if (tree == NULL) {
        entry_unref(entry);
        return NULL;
    }
    *tree = (struct treap){.priority = priority, .entry = entry, .left = left, .right = right};
    atomic_init(&tree->refs, 1);
    treap_sum_up(tree);
    return tree;
}

/* The tree's root as a node that nobody else holds: itself, or a copy. */
static struct treap *treap_own(struct treap *tree)
{
    /* acquire: pairs with treap_unref of the last other holder, whose reads are over. */
    if (atomic_load_explicit(&tree->refs, memory_order_acquire) == 1)
        return tree;
    struct treap *copy = treap_new(entry_ref(tree->entry), tree->priority, tree->left, tree->right);
    if (copy != NULL) {
        treap_ref(copy->left);
        treap_ref(copy->right);
    }
    treap_unref(tree);
    return copy;
}

/* Into keys < key (with key_left: <= key) and the others. */
static bool treap_split(struct treap *tree, kvs_slice key, bool key_left, struct treap **ret_left,
                        struct treap **ret_right)
{
    *ret_left = *ret_right = NULL;
    if (tree == NULL)
        return true;
    tree = treap_own(tree);
    if (tree == NULL)
        return false;
    int order = slice_compare(entry_key(tree->entry), key);
    bool goes_left = order < 0 || (order == 0 && key_left);
    struct treap **child = goes_left ? &tree->right : &tree->left;
    struct treap *below = *child;
    *child = NULL;
    struct treap *left;
    struct treap *right;
    if (!treap_split(below, key, key_left, &left, &right)) {
        treap_unref(tree);
        return false;
    }
    *child = goes_left ? left : right;
    treap_sum_up(tree);
    *ret_left = goes_left ? tree : left;
    *ret_right = goes_left ? right : tree;
    return true;
}

/* All keys of left are before those of right. */
static bool treap_merge(struct treap *left, struct treap *right, struct treap **ret_tree)
{
    *ret_tree = NULL;
    if (left == NULL || right == NULL) {
        *ret_tree = left != NULL ? left : right;
        return true;
    }
    bool left_is_root = left->priority >= right->priority;
    struct treap *other = left_is_root ? right : left;
    struct treap *root = treap_own(left_is_root ? left : right);
    if (root == NULL) {
        treap_unref(other);
        return false;
    }
    struct treap **child = left_is_root ? &root->right : &root->left;
    struct treap *below = *child;
    *child = NULL;
    if (!treap_merge(left_is_root ? below : other, left_is_root ? other : below, child)) {
        treap_unref(root);
        return false;
    }
    treap_sum_up(root);
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

bool treap_set(struct treap *tree, kvs_slice key, kvs_slice value, uint64_t expires_ms,
               struct treap **ret_tree)
{
    struct entry *entry = entry_new(key, value, expires_ms);
    struct treap *fresh = entry != NULL ? treap_new(entry, priority_random(), NULL, NULL) : NULL;
    if (fresh == NULL) {
        treap_unref(tree);
        return false;
    }
    struct treap *less;
    struct treap *same;
    struct treap *rest;
    if (!treap_split(tree, key, false, &less, &rest)) {
        treap_unref(fresh);
        return false;
    }
    if (!treap_split(rest, key, true, &same, &rest)) {
        treap_unref(less);
        treap_unref(fresh);
        return false;
    }
    treap_unref(same);
    if (!treap_merge(less, fresh, &less)) {
        treap_unref(rest);
        return false;
    }
    return treap_merge(less, rest, ret_tree);
}

bool treap_remove(struct treap *tree, kvs_slice key, struct treap **ret_tree)
{
    struct treap *less;
    struct treap *same;
    struct treap *rest;
    if (!treap_split(tree, key, false, &less, &rest))
        return false;
    if (!treap_split(rest, key, true, &same, &rest)) {
        treap_unref(less);
        return false;
    }
    treap_unref(same);
    return treap_merge(less, rest, ret_tree);
}

bool treap_remove_range(struct treap *tree, kvs_slice start, kvs_slice end, struct treap **ret_tree)
{
    struct treap *less;
    struct treap *inside;
    struct treap *rest = NULL;
    /* No key is empty, so an empty start splits before the first one. */
    if (!treap_split(tree, start, false, &less, &inside))
        return false;
    if (end.size > 0 && !treap_split(inside, end, false, &inside, &rest)) {
        treap_unref(less);
        return false;
    }
    treap_unref(inside);
    return treap_merge(less, rest, ret_tree);
}

struct entry *treap_find(const struct treap *tree, kvs_slice key)
{
    while (tree != NULL) {
        int order = slice_compare(key, entry_key(tree->entry));
        if (order == 0)
            return tree->entry;
        tree = order < 0 ? tree->left : tree->right;
    }
    return NULL;
}

int treap_walk(const struct treap *tree, kvs_slice start, kvs_slice end, bool reverse,
               treap_walk_fn *each, void *arg)
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
        result = treap_walk(reverse ? tree->right : tree->left, start, end, reverse, each, arg);
    if (result == 0 && from_start && before_end)
        result = each(arg, tree->entry);
    if (result == 0 && (reverse ? left : right))
        result = treap_walk(reverse ? tree->left : tree->right, start, end, reverse, each, arg);
    return result;
}

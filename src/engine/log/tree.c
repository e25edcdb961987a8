/*
 * engine/log/tree.c: the copy-on-write B+tree; see engine/log/tree.h.
 *
 * Insert:
 *   1. walk from the root to the leaf, copying each node of the path that is already published;
 *   2. put the entry in its place; a full leaf is split in two, and the separator (the shortest key
 *      that divides the two) goes to the parent, which may split in turn, up to a new root.
 * Remove:
 *   1. the same walk; 2. take the entry out; 3. a node that got small is merged with a neighbour of
 *      the same parent when both fit into three quarters of a node; an empty one is unlinked.
 *
 * Only the writer thread changes trees. NO_MEMORY may leave the unpublished copy half changed.
 */
#include "engine/log/tree.h"

#include "base/bytes.h"
#include "base/mem.h"

#include <assert.h>
#include <kvs/error.h>

#define MERGE_BELOW (TREE_FANOUT / 4)
#define MERGED_COUNT_MAX (TREE_FANOUT * 3 / 4)

#define LEAF_SIZE (sizeof(struct node))
#define INNER_USED (sizeof(struct node) + (TREE_FANOUT + 1) * sizeof(struct node *))
#define INNER_SIZE ((INNER_USED + SLAB_LINE - 1) / SLAB_LINE * SLAB_LINE)

struct path {
    unsigned depth;
    struct node *nodes[TREE_DEPTH_MAX];
    unsigned positions[TREE_DEPTH_MAX]; /* of the child taken, or of the item in the leaf */
};

/* --- memory ----------------------------------------------------------------------------------- */

int pointer_vector_push(struct pointer_vector *vector, uintptr_t item)
{
    if (vector->count == vector->capacity) {
        size_t capacity = vector->capacity > 0 ? vector->capacity * 2 : 64;
        uintptr_t *items = mem_realloc(vector->items, capacity * sizeof *items);
        if (items == NULL)
            return KVS_ERR_NO_MEMORY;
        vector->items = items;
        vector->capacity = capacity;
    }
    vector->items[vector->count++] = item;
    return 0;
}

void pointer_vector_deinit(struct pointer_vector *vector)
{
    mem_free(vector->items);
    *vector = (struct pointer_vector){0};
}

static size_t object_size(const void *object, enum tree_object kind)
{
    switch (kind) {
    case TREE_LEAF:
        return LEAF_SIZE;
    case TREE_INNER:
        return INNER_SIZE;
    case TREE_SEPARATOR:
        return sizeof(struct separator) + ((const struct separator *)object)->size;
    case TREE_ENTRY:
        return entry_bytes(object);
    }
    assert(!"no such kind");
    return 0;
}

void tree_object_free(struct slab *slab, uintptr_t tagged)
{
    enum tree_object kind;
    void *object = tree_untag(tagged, &kind);
    slab_free(slab, object, object_size(object, kind));
}

static void *object_new(struct tree_writer *writer, size_t size, enum tree_object kind)
{
    void *object = slab_alloc(writer->slab, size);
    if (object == NULL)
        return NULL;
    if (writer->undoable && pointer_vector_push(&writer->born, tree_tag(object, kind)) != 0) {
        slab_free(writer->slab, object, size);
        return NULL;
    }
    return object;
}

/* No longer part of the new tree. What no one else can see is freed when the group ends. */
static int object_retire(struct tree_writer *writer, void *object, enum tree_object kind)
{
    if (!writer->undoable) {
        tree_object_free(writer->slab, tree_tag(object, kind));
        return 0;
    }
    return pointer_vector_push(&writer->retired, tree_tag(object, kind));
}

int tree_entry_retire(struct tree_writer *writer, struct entry *entry)
{
    return object_retire(writer, entry, TREE_ENTRY);
}

static enum tree_object node_kind(const struct node *node)
{
    return node->level == 0 ? TREE_LEAF : TREE_INNER;
}

struct node *tree_node_new(struct tree_writer *writer, uint8_t level)
{
    struct node *node = object_new(writer, level == 0 ? LEAF_SIZE : INNER_SIZE,
                                   level == 0 ? TREE_LEAF : TREE_INNER);
    if (node == NULL)
        return NULL;
    node->birth = writer->birth;
    node->count = 0;
    node->level = level;
    node->skip = 0;
    node->unused = 0;
    memset(node->prefix, 0xff, sizeof node->prefix);
    return node;
}

struct entry *tree_entry_new(struct tree_writer *writer, kvs_slice key, uint64_t expires_at_ms,
                             uint32_t value_size, uint64_t birth, uint64_t location)
{
    struct entry *entry = object_new(writer, tree_entry_size(key, expires_at_ms), TREE_ENTRY);
    if (entry == NULL)
        return NULL;
    tree_entry_init(entry, key, expires_at_ms, value_size, birth, location);
    return entry;
}

void tree_entry_init(struct entry *entry, kvs_slice key, uint64_t expires_at_ms,
                     uint32_t value_size, uint64_t birth, uint64_t location)
{
    entry->birth = birth;
    atomic_init(&entry->location, location);
    entry->value_size = value_size;
    entry->key_size = (uint16_t)key.size;
    entry->expires = expires_at_ms != 0;
    if (entry->expires)
        memcpy(entry->data, &expires_at_ms, sizeof expires_at_ms);
    if (key.size > 0)
        memcpy(entry->data + (entry->expires ? 8 : 0), key.data, key.size);
}

/* The shortest key k with left < k <= right. */
struct separator *tree_separator_new(struct tree_writer *writer, kvs_slice left, kvs_slice right)
{
    size_t common = 0;
    while (common < left.size && left.data[common] == right.data[common])
        common++;
    size_t size = common + 1; /* right is longer than what they share, for it is greater */
    struct separator *separator =
        object_new(writer, sizeof(struct separator) + size, TREE_SEPARATOR);
    if (separator == NULL)
        return NULL;
    separator->birth = writer->birth;
    separator->size = (uint16_t)size;
    memcpy(separator->data, right.data, size);
    return separator;
}

/* --- search within a node --------------------------------------------------------------------- */

static inline kvs_slice item_key(const struct node *node, unsigned i)
{
    if (node->level == 0)
        return entry_key(node->items[i]);
    const struct separator *separator = node->items[i];
    return slice_make(separator->data, separator->size);
}

/* The 4 bytes of a key from `skip` on as a big-endian number, zeros behind its end. */
static inline uint32_t key_prefix(kvs_slice key, size_t skip)
{
    size_t size = key.size - skip;
    if (size >= 4)
        return get_u32_be(key.data + skip);
    uint8_t bytes[4] = {0};
    if (size > 0)
        memcpy(bytes, key.data + skip, size);
    return get_u32_be(bytes);
}

/* Order of a key and the node's common head: 0 when the key has it, too. Mostly it has, so that is
 * found out by words; heads are at least a word of readable bytes. */
static inline int head_compare(const struct node *node, kvs_slice key)
{
    size_t skip = node->skip;
    if (key.size >= skip && key.size >= 8) {
        size_t at = 0;
        uint64_t differs = 0;
        for (; at + 8 <= skip; at += 8)
            differs |= get_u64(key.data + at) ^ get_u64(node->head + at);
        if (at < skip && at + 8 <= key.size) {
            uint64_t mask = (UINT64_C(1) << (8 * (skip - at))) - 1;
            differs |= (get_u64(key.data + at) ^ get_u64(node->head + at)) & mask;
            at = skip;
        }
        if (differs == 0 && at == skip)
            return 0;
    }
    size_t size = key.size < skip ? key.size : skip;
    int order = size > 0 ? memcmp(key.data, node->head, size) : 0;
    if (order != 0)
        return order;
    return key.size < skip ? -1 : 0;
}

/* First position whose prefix is not less than `prefix`. Compilers make a few vector instructions
 * of it; a binary search would wait for each of its loads, and a branch on random keys be guessed
 * wrong every other time. */
static inline unsigned prefix_lower_bound(const struct node *node, uint32_t prefix)
{
    uint32_t below = 0;
    for (unsigned i = 0; i < TREE_FANOUT; i++)
        below += node->prefix[i] < prefix;
    return below;
}

/* Where the key must be by head and prefixes alone: at the position that is returned or, if
 * *ret_is_tied, somewhere from there on, which only whole keys can say. */
static inline unsigned node_guess(const struct node *node, kvs_slice key, bool *ret_is_tied)
{
    *ret_is_tied = false;
    int order = head_compare(node, key);
    if (order != 0)
        return order < 0 ? 0 : node->count;
    uint32_t prefix = key_prefix(key, node->skip);
    unsigned low = prefix_lower_bound(node, prefix);
    *ret_is_tied = low < node->count && node->prefix[low] == prefix;
    return low;
}

/* Position of the first item that is not less than the key, from `low` on, where the prefix is that
 * of the key; is it equal? */
static unsigned node_settle(const struct node *node, kvs_slice key, unsigned low, bool *ret_equal)
{
    uint32_t prefix = node->prefix[low];
    unsigned high = low + 1;
    *ret_equal = false;
    while (high < node->count && node->prefix[high] == prefix)
        high++;
    /* Often they are versions of one key, of which the newest is first and asked for most; and the
     * first has been fetched in advance. */
    for (unsigned probe = low, step = 1; low < high; step *= 2) {
        int order = slice_compare(item_key(node, probe), key);
        if (order == 0) {
            *ret_equal = true;
            return probe;
        }
        if (order < 0) {
            low = probe + 1;
        } else {
            high = probe;
            step = TREE_FANOUT; /* halves from now on */
        }
        probe = low + step < high ? low + step : (low + high) / 2;
    }
    return low;
}

/* Position of the first item that is not less than the key; is it equal? */
static unsigned node_search(const struct node *node, kvs_slice key, bool *ret_equal)
{
    bool is_tied;
    unsigned position = node_guess(node, key, &is_tied);
    *ret_equal = false;
    return is_tied ? node_settle(node, key, position, ret_equal) : position;
}

/* Child for a key: behind all separators that are not greater. */
static inline unsigned node_child(const struct node *node, kvs_slice key)
{
    bool equal;
    unsigned position = node_search(node, key, &equal);
    return position + equal;
}

/* Works out head and prefixes anew from the items. */
void tree_node_reindex(struct node *node)
{
    memset(node->prefix + node->count, 0xff, (TREE_FANOUT - node->count) * sizeof node->prefix[0]);
    if (node->count == 0) {
        node->skip = 0;
        return;
    }
    kvs_slice first = item_key(node, 0);
    kvs_slice last = item_key(node, node->count - 1u);
    size_t limit = first.size < last.size ? first.size : last.size;
    if (limit > TREE_HEAD_SIZE)
        limit = TREE_HEAD_SIZE;
    size_t skip = 0;
    while (skip < limit && first.data[skip] == last.data[skip])
        skip++;
    node->skip = (uint8_t)skip;
    memcpy(node->head, first.data, skip);
    for (unsigned i = 0; i < node->count; i++)
        node->prefix[i] = key_prefix(item_key(node, i), skip);
}

static void node_insert_item(struct node *node, unsigned position, void *item, kvs_slice key)
{
    unsigned behind = node->count - position;
    memmove(node->items + position + 1, node->items + position, behind * sizeof node->items[0]);
    node->items[position] = item;
    node->count++;
    if (node->count == 1 || head_compare(node, key) != 0) {
        tree_node_reindex(node);
        return;
    }
    memmove(node->prefix + position + 1, node->prefix + position, behind * sizeof node->prefix[0]);
    node->prefix[position] = key_prefix(key, node->skip);
}

static void node_remove_item(struct node *node, unsigned position)
{
    unsigned behind = node->count - position - 1u;
    memmove(node->items + position, node->items + position + 1, behind * sizeof node->items[0]);
    memmove(node->prefix + position, node->prefix + position + 1, behind * sizeof node->prefix[0]);
    node->count--;
    node->prefix[node->count] = TREE_PREFIX_NONE;
}

static void node_insert_child(struct node *node, unsigned position, struct node *child)
{
    /* To be called after its separator was inserted: count is the new one. */
    memmove(node->children + position + 1, node->children + position,
            (node->count - position) * sizeof node->children[0]);
    node->children[position] = child;
}

static void node_remove_child(struct node *node, unsigned position)
{
    /* To be called before its separator is removed: count is the old one. */
    memmove(node->children + position, node->children + position + 1,
            (node->count - position) * sizeof node->children[0]);
}

/* --- finding ---------------------------------------------------------------------------------- */

struct entry *tree_find(const struct node *root, kvs_slice key)
{
    if (root == NULL)
        return NULL;
    const struct node *node = root;
    while (node->level > 0)
        node = node->children[node_child(node, key)];
    bool equal;
    unsigned position = node_search(node, key, &equal);
    return equal ? node->items[position] : NULL;
}

static inline void node_prefetch(const struct node *node)
{
    __builtin_prefetch(node);
    for (unsigned i = 0; i < TREE_FANOUT; i += 16)
        __builtin_prefetch(&node->prefix[i]);
}

/* Several keys on their way down, each in its own node. */
struct descent {
    const kvs_slice *keys;
    unsigned count;
    const struct node *nodes[TREE_FIND_MANY_MAX];
    unsigned positions[TREE_FIND_MANY_MAX];
    bool is_tied[TREE_FIND_MANY_MAX];
};

/* Looks for each key in its node, as far as prefixes say, and has brought near what comes next. */
static void descent_guess(struct descent *descent)
{
    for (unsigned i = 0; i < descent->count; i++) {
        const struct node *node = descent->nodes[i];
        if (node == NULL)
            continue;
        unsigned guess = node_guess(node, descent->keys[i], &descent->is_tied[i]);
        descent->positions[i] = guess;
        if (descent->is_tied[i])
            __builtin_prefetch(&node->items[guess]);
        if (node->level > 0)
            __builtin_prefetch(&node->children[guess]);
    }
    for (unsigned i = 0; i < descent->count; i++) {
        if (descent->nodes[i] != NULL && descent->is_tied[i])
            __builtin_prefetch(descent->nodes[i]->items[descent->positions[i]]);
    }
}

/* From inner nodes to their children; trees may differ in height. True: not all are in leaves. */
static bool descent_step(struct descent *descent)
{
    bool deeper = false;
    descent_guess(descent);
    for (unsigned i = 0; i < descent->count; i++) {
        const struct node *node = descent->nodes[i];
        if (node == NULL || node->level == 0)
            continue;
        bool equal = false;
        unsigned position = descent->positions[i];
        if (descent->is_tied[i])
            position = node_settle(node, descent->keys[i], position, &equal);
        deeper |= node->level > 1;
        descent->nodes[i] = node->children[position + equal];
        node_prefetch(descent->nodes[i]);
    }
    return deeper;
}

static void descend(struct descent *descent, const struct node *const *roots, const kvs_slice *keys,
                    unsigned count)
{
    assert(count <= TREE_FIND_MANY_MAX);
    bool deeper = false; /* some have not come to a leaf */
    descent->keys = keys;
    descent->count = count;
    for (unsigned i = 0; i < count; i++) {
        descent->nodes[i] = roots[i];
        deeper |= roots[i] != NULL && roots[i]->level > 0;
    }
    while (deeper)
        deeper = descent_step(descent);
}

void tree_find_many_in(const struct node *const *roots, const kvs_slice *keys, unsigned count,
                       struct entry **ret_entries)
{
    struct descent descent;
    descend(&descent, roots, keys, count);
    descent_guess(&descent);
    for (unsigned i = 0; i < count; i++) {
        const struct node *leaf = descent.nodes[i];
        bool equal = false;
        unsigned position = 0;
        if (leaf != NULL && descent.is_tied[i])
            position = node_settle(leaf, keys[i], descent.positions[i], &equal);
        ret_entries[i] = equal ? leaf->items[position] : NULL;
    }
}

void tree_prefetch_change(const struct tree_writer *writer, const struct node *const *roots,
                          const kvs_slice *keys, unsigned count)
{
    struct descent descent;
    descend(&descent, roots, keys, count);
    for (unsigned i = 0; i < count; i++) {
        const struct node *leaf = descent.nodes[i];
        if (leaf == NULL || leaf->birth >= writer->birth)
            continue;
        for (unsigned at = 0; at < leaf->count; at += 8) /* all of it is going to be copied */
            __builtin_prefetch(&leaf->items[at]);
    }
    descent_guess(&descent);
}

void tree_find_many(const struct node *root, const kvs_slice *keys, unsigned count,
                    struct entry **ret_entries)
{
    const struct node *roots[TREE_FIND_MANY_MAX];
    assert(count <= TREE_FIND_MANY_MAX);
    for (unsigned i = 0; i < count; i++)
        roots[i] = root;
    tree_find_many_in(roots, keys, count, ret_entries);
}

/* --- changing --------------------------------------------------------------------------------- */

/* Makes the node at *link one of this group, copying it if it was published. */
static struct node *node_own(struct tree_writer *writer, struct node **link)
{
    struct node *node = *link;
    if (node->birth >= writer->birth)
        return node;
    struct node *copy = tree_node_new(writer, node->level);
    if (copy == NULL || object_retire(writer, node, node_kind(node)) != 0)
        return NULL;
    size_t count = node->count;
    copy->count = node->count;
    copy->skip = node->skip;
    memcpy(copy->head, node->head, sizeof copy->head);
    memcpy(copy->prefix, node->prefix, sizeof copy->prefix);
    memcpy(copy->items, node->items, count * sizeof copy->items[0]);
    if (node->level > 0)
        memcpy(copy->children, node->children, (count + 1) * sizeof copy->children[0]);
    *link = copy;
    return copy;
}

/* Walks to the leaf for a key, owning every node on the way. */
static int path_own(struct tree_writer *writer, struct node **root, kvs_slice key,
                    struct path *path, bool *ret_equal)
{
    struct node **link = root;
    path->depth = 0;
    for (;;) {
        struct node *node = node_own(writer, link);
        if (node == NULL)
            return KVS_ERR_NO_MEMORY;
        assert(path->depth < TREE_DEPTH_MAX);
        path->nodes[path->depth] = node;
        if (node->level == 0) {
            path->positions[path->depth++] = node_search(node, key, ret_equal);
            return 0;
        }
        unsigned position = node_child(node, key);
        path->positions[path->depth++] = position;
        link = &node->children[position];
    }
}

/* Moves the items from `at` on to a new right neighbour. For inner nodes the item at `at` moves
 * up. */
static struct node *node_split(struct tree_writer *writer, struct node *node, unsigned at)
{
    struct node *right = tree_node_new(writer, node->level);
    if (right == NULL)
        return NULL;
    unsigned from = node->level == 0 ? at : at + 1;
    unsigned count = node->count - from;
    memcpy(right->items, node->items + from, count * sizeof right->items[0]);
    if (node->level > 0)
        memcpy(right->children, node->children + from, (count + 1) * sizeof right->children[0]);
    right->count = (uint16_t)count;
    node->count = (uint16_t)at;
    tree_node_reindex(node);
    tree_node_reindex(right);
    return right;
}

/* Where to split a full node that gets an item at `position`: appending keeps the left one full. */
static unsigned split_point(const struct node *node, unsigned position)
{
    return position == node->count ? node->count - 1u : node->count / 2u;
}

static int root_grow(struct tree_writer *writer, struct node **root, struct separator *separator,
                     struct node *right)
{
    struct node *left = *root;
    struct node *grown = tree_node_new(writer, (uint8_t)(left->level + 1));
    if (grown == NULL)
        return KVS_ERR_NO_MEMORY;
    grown->children[0] = left;
    grown->children[1] = right;
    node_insert_item(grown, 0, separator, slice_make(separator->data, separator->size));
    *root = grown;
    return 0;
}

/* Puts the new neighbour of path->nodes[depth] into its parent, splitting parents that are full. */
static int path_insert_child(struct tree_writer *writer, struct node **root, struct path *path,
                             unsigned depth, struct separator *separator, struct node *right)
{
    while (depth > 0) {
        struct node *parent = path->nodes[depth - 1];
        unsigned position = path->positions[depth - 1];
        kvs_slice key = slice_make(separator->data, separator->size);
        if (parent->count < TREE_FANOUT) {
            node_insert_item(parent, position, separator, key);
            node_insert_child(parent, position + 1, right);
            return 0;
        }
        unsigned at = split_point(parent, position);
        struct separator *up = parent->items[at];
        struct node *parent_right = node_split(writer, parent, at);
        if (parent_right == NULL)
            return KVS_ERR_NO_MEMORY;
        struct node *target = parent;
        if (position > at) {
            target = parent_right;
            position -= at + 1;
        }
        node_insert_item(target, position, separator, key);
        node_insert_child(target, position + 1, right);
        separator = up;
        right = parent_right;
        depth--;
    }
    return root_grow(writer, root, separator, right);
}

static int leaf_split_insert(struct tree_writer *writer, struct node **root, struct path *path,
                             struct entry *entry)
{
    unsigned depth = path->depth - 1;
    struct node *leaf = path->nodes[depth];
    unsigned position = path->positions[depth];
    kvs_slice key = entry_key(entry);
    struct node *right;
    if (position == leaf->count) { /* appending: the new leaf begins with the entry alone */
        right = tree_node_new(writer, 0);
        if (right == NULL)
            return KVS_ERR_NO_MEMORY;
        node_insert_item(right, 0, entry, key);
    } else {
        unsigned at = leaf->count / 2u;
        right = node_split(writer, leaf, at);
        if (right == NULL)
            return KVS_ERR_NO_MEMORY;
        if (position <= at)
            node_insert_item(leaf, position, entry, key);
        else
            node_insert_item(right, position - at, entry, key);
    }
    struct separator *separator =
        tree_separator_new(writer, item_key(leaf, leaf->count - 1u), item_key(right, 0));
    if (separator == NULL)
        return KVS_ERR_NO_MEMORY;
    return path_insert_child(writer, root, path, depth, separator, right);
}

int tree_insert(struct tree_writer *writer, struct node **root, struct entry *entry,
                struct entry **ret_replaced)
{
    *ret_replaced = NULL;
    kvs_slice key = entry_key(entry);
    if (*root == NULL) {
        *root = tree_node_new(writer, 0);
        if (*root == NULL)
            return KVS_ERR_NO_MEMORY;
    }
    struct path path;
    bool equal;
    int error = path_own(writer, root, key, &path, &equal);
    if (error != 0)
        return error;
    struct node *leaf = path.nodes[path.depth - 1];
    unsigned position = path.positions[path.depth - 1];
    if (equal) {
        struct entry *replaced = leaf->items[position];
        leaf->items[position] = entry;
        *ret_replaced = replaced;
        return 0;
    }
    if (leaf->count < TREE_FANOUT) {
        node_insert_item(leaf, position, entry, key);
        return 0;
    }
    return leaf_split_insert(writer, root, &path, entry);
}

/* Unlinks child `position` of an inner node, with the separator beside it. */
static int node_unlink_child(struct tree_writer *writer, struct node *node, unsigned position)
{
    unsigned separator = position > 0 ? position - 1 : 0;
    node_remove_child(node, position);
    int error = object_retire(writer, node->items[separator], TREE_SEPARATOR);
    node_remove_item(node, separator);
    return error;
}

/* Appends all of child `position` + 1 to child `position`, which is owned, and unlinks it. */
static int children_merge(struct tree_writer *writer, struct node *parent, unsigned position)
{
    struct node *left = parent->children[position];
    struct node *right = parent->children[position + 1];
    unsigned count = left->count;
    if (left->level > 0) { /* the separator between the two comes down */
        const struct separator *between = parent->items[position];
        struct separator *down =
            object_new(writer, sizeof(struct separator) + between->size, TREE_SEPARATOR);
        if (down == NULL)
            return KVS_ERR_NO_MEMORY;
        memcpy(down, between, sizeof(struct separator) + between->size);
        down->birth = writer->birth;
        left->items[count++] = down;
        memcpy(left->children + count, right->children,
               (right->count + 1u) * sizeof left->children[0]);
    }
    memcpy(left->items + count, right->items, right->count * sizeof left->items[0]);
    left->count = (uint16_t)(count + right->count);
    tree_node_reindex(left);
    int error = node_unlink_child(writer, parent, position + 1);
    if (error != 0)
        return error;
    return object_retire(writer, right, node_kind(right));
}

/* Merges child `position` of `parent` with a neighbour if both are small enough. */
static int child_shrink(struct tree_writer *writer, struct node *parent, unsigned position)
{
    const struct node *child = parent->children[position];
    for (int side = 0; side < 2; side++) {
        if (side == 0 && position == parent->count)
            continue;
        if (side == 1 && position == 0)
            continue;
        unsigned left = side == 0 ? position : position - 1;
        const struct node *other = parent->children[side == 0 ? position + 1 : left];
        if (child->count + other->count + 1u > MERGED_COUNT_MAX)
            continue;
        if (node_own(writer, &parent->children[left]) == NULL)
            return KVS_ERR_NO_MEMORY;
        return children_merge(writer, parent, left);
    }
    return 0;
}

/* After a removal: unlinks nodes that are empty, merges those that are small, from the leaf
 * upwards. */
static int path_shrink(struct tree_writer *writer, struct node **root, struct path *path)
{
    const struct node *leaf = path->nodes[path->depth - 1];
    bool gone = leaf->count == 0; /* the node at `depth` has nothing left below it */
    for (unsigned depth = path->depth - 1; depth > 0; depth--) {
        struct node *node = path->nodes[depth];
        struct node *parent = path->nodes[depth - 1];
        unsigned position = path->positions[depth - 1];
        int error = 0;
        if (gone) {
            error = object_retire(writer, node, node_kind(node));
            gone = parent->count == 0;
            if (error == 0 && !gone)
                error = node_unlink_child(writer, parent, position);
        } else if (node->count < MERGE_BELOW && parent->count > 0) {
            error = child_shrink(writer, parent, position);
        }
        if (error != 0)
            return error;
    }
    if (gone) {
        struct node *top = *root;
        *root = NULL;
        return object_retire(writer, top, node_kind(top));
    }
    while ((*root)->level > 0 && (*root)->count == 0) {
        struct node *top = *root;
        *root = top->children[0];
        if (object_retire(writer, top, TREE_INNER) != 0)
            return KVS_ERR_NO_MEMORY;
    }
    return 0;
}

int tree_remove(struct tree_writer *writer, struct node **root, kvs_slice key,
                struct entry **ret_removed)
{
    *ret_removed = NULL;
    if (tree_find(*root, key) == NULL) /* so that a miss copies nothing */
        return 0;
    struct path path;
    bool equal;
    int error = path_own(writer, root, key, &path, &equal);
    if (error != 0)
        return error;
    assert(equal);
    struct node *leaf = path.nodes[path.depth - 1];
    unsigned position = path.positions[path.depth - 1];
    *ret_removed = leaf->items[position];
    node_remove_item(leaf, position);
    return path_shrink(writer, root, &path);
}

/* --- walking ---------------------------------------------------------------------------------- */

static void cursor_push(struct tree_cursor *cursor, const struct node *node, unsigned position)
{
    assert(cursor->depth < TREE_DEPTH_MAX);
    cursor->nodes[cursor->depth] = node;
    cursor->positions[cursor->depth++] = (uint16_t)position;
}

static void cursor_descend_first(struct tree_cursor *cursor, const struct node *node)
{
    for (; node->level > 0; node = node->children[0])
        cursor_push(cursor, node, 0);
    cursor_push(cursor, node, 0);
}

static void cursor_descend_last(struct tree_cursor *cursor, const struct node *node)
{
    for (; node->level > 0; node = node->children[node->count])
        cursor_push(cursor, node, node->count);
    cursor_push(cursor, node, node->count - 1u);
}

void tree_next(struct tree_cursor *cursor)
{
    if (cursor->depth == 0)
        return;
    unsigned leaf = cursor->depth - 1;
    if (++cursor->positions[leaf] < cursor->nodes[leaf]->count)
        return;
    cursor->depth--;
    while (cursor->depth > 0) {
        unsigned top = cursor->depth - 1;
        const struct node *node = cursor->nodes[top];
        if (cursor->positions[top] < node->count) {
            cursor->positions[top]++;
            cursor_descend_first(cursor, node->children[cursor->positions[top]]);
            return;
        }
        cursor->depth--;
    }
}

void tree_previous(struct tree_cursor *cursor)
{
    if (cursor->depth == 0)
        return;
    unsigned leaf = cursor->depth - 1;
    if (cursor->positions[leaf] > 0) {
        cursor->positions[leaf]--;
        return;
    }
    cursor->depth--;
    while (cursor->depth > 0) {
        unsigned top = cursor->depth - 1;
        if (cursor->positions[top] > 0) {
            cursor->positions[top]--;
            cursor_descend_last(cursor, cursor->nodes[top]->children[cursor->positions[top]]);
            return;
        }
        cursor->depth--;
    }
}

void tree_seek(struct tree_cursor *cursor, const struct node *root, kvs_slice key)
{
    cursor->depth = 0;
    if (root == NULL)
        return;
    const struct node *node = root;
    for (; node->level > 0; node = node->children[cursor->positions[cursor->depth - 1]])
        cursor_push(cursor, node, node_child(node, key));
    bool equal;
    unsigned position = node_search(node, key, &equal);
    cursor_push(cursor, node, position);
    if (position == node->count) { /* the first of the next leaf */
        cursor->positions[cursor->depth - 1]--;
        tree_next(cursor);
    }
}

void tree_seek_before(struct tree_cursor *cursor, const struct node *root, kvs_slice key)
{
    cursor->depth = 0;
    if (root == NULL)
        return;
    if (key.size == 0) {
        cursor_descend_last(cursor, root);
        return;
    }
    tree_seek(cursor, root, key);
    if (cursor->depth == 0)
        cursor_descend_last(cursor, root);
    else
        tree_previous(cursor);
}

/* --- checking --------------------------------------------------------------------------------- */

static bool node_is_valid(const struct node *node)
{
    if (node->count > TREE_FANOUT || (node->level == 0 && node->count == 0))
        return false;
    for (unsigned i = 0; i < node->count; i++) {
        kvs_slice key = item_key(node, i);
        if (key.size < node->skip || memcmp(key.data, node->head, node->skip) != 0)
            return false;
        if (node->prefix[i] != key_prefix(key, node->skip))
            return false;
        if (i > 0 && slice_compare(item_key(node, i - 1), key) >= 0)
            return false;
        if (node->level > 0 && (node->children[i]->level != node->level - 1 ||
                                node->children[i + 1]->level != node->level - 1))
            return false;
    }
    for (unsigned i = node->count; i < TREE_FANOUT; i++) {
        if (node->prefix[i] != TREE_PREFIX_NONE)
            return false;
    }
    return true;
}

bool tree_is_valid(const struct node *root, uint64_t *ret_count)
{
    struct tree_cursor cursor;
    uint64_t count = 0;
    kvs_slice previous = {0};
    const struct node *leaf = NULL;
    tree_seek(&cursor, root, previous);
    for (struct entry *entry; (entry = tree_cursor_entry(&cursor)) != NULL; tree_next(&cursor)) {
        kvs_slice key = entry_key(entry);
        if (count++ > 0 && slice_compare(previous, key) >= 0)
            return false;
        previous = key;
        for (unsigned i = 0; leaf != cursor.nodes[cursor.depth - 1] && i < cursor.depth; i++) {
            if (!node_is_valid(cursor.nodes[i]))
                return false;
        }
        leaf = cursor.nodes[cursor.depth - 1];
        if (tree_find(root, key) != entry) /* the separators lead to it */
            return false;
    }
    *ret_count = count;
    return true;
}

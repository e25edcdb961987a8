/*
 * engine/log/tree.h: the ordered index: a copy-on-write B+tree from keys to entries.
 *
 * Readers take a root and walk it without any lock: a node that was published never changes. The
 * writer changes copies; a node that it made in the current group (birth >= tree_writer.birth) is
 * not yet published and is changed in place, so a group of many writes copies each node at most
 * once.
 *
 * Search: each node keeps the part that all its keys have in common (head, skip bytes) once, and of
 * each key the next 4 bytes as an integer (prefix). All of them are compared: it takes no branch
 * and lets the processor fetch their cache lines at once; keys are looked at only where they are
 * equal in it.
 *
 * What is replaced is not freed but noted in tree_writer.retired: whoever runs the writer knows
 * which snapshots and readers may still see it. Everything made is noted in tree_writer.born, so
 * that a group that failed can be undone: forget the retired, free the born, go back to the old
 * root.
 */
#ifndef ENGINE_LOG_TREE_H
#define ENGINE_LOG_TREE_H

#include "base/slice.h"
#include "engine/log/slab.h"

#include <stdatomic.h>

#define TREE_FANOUT 64u
#define TREE_DEPTH_MAX 16u /* 4 keys in a node at least: more than 2^30 keys */
#define TREE_HEAD_SIZE 48u
#define TREE_PREFIX_NONE UINT32_MAX /* behind the last item: never less than a key's */

/* One key of the index. Immutable but for `location`, which compaction changes. */
struct entry {
    uint64_t birth;            /* sequence number of its record */
    _Atomic uint64_t location; /* see segment.h */
    uint32_t value_size;
    uint16_t key_size;
    bool expires; /* then data begins with 8 bytes: milliseconds since 1970 */
    uint8_t data[];
};

struct separator {
    uint64_t birth;
    uint16_t size;
    uint8_t data[];
};

struct node {
    uint64_t birth;
    uint16_t count; /* of items */
    uint8_t level;  /* 0: a leaf, whose items are entries; else separators */
    uint8_t skip;
    uint32_t unused;
    uint8_t head[TREE_HEAD_SIZE];
    uint32_t prefix[TREE_FANOUT]; /* from here on cache lines: slab.c aligns nodes */
    void *items[TREE_FANOUT];
    struct node *children[]; /* inner nodes: TREE_FANOUT + 1 */
};

/* What a pointer in retired and born points to, in its lowest 3 bits. */
enum tree_object { TREE_LEAF = 0, TREE_INNER = 1, TREE_SEPARATOR = 2, TREE_ENTRY = 3 };

struct pointer_vector {
    uintptr_t *items;
    size_t count;
    size_t capacity;
};

struct tree_writer {
    struct slab *slab;
    uint64_t birth;                /* of what the current group makes */
    bool undoable;                 /* keep `born`; false while recovering */
    struct pointer_vector retired; /* was in the published tree, or was born in this group */
    struct pointer_vector born;
};

static inline uintptr_t tree_tag(void *object, enum tree_object kind)
{
    return (uintptr_t)object | (uintptr_t)kind;
}

static inline void *tree_untag(uintptr_t tagged, enum tree_object *ret_kind)
{
    *ret_kind = (enum tree_object)(tagged & 7);
    return (void *)(tagged & ~(uintptr_t)7);
}

/* 0 or KVS_ERR_NO_MEMORY. */
int pointer_vector_push(struct pointer_vector *vector, uintptr_t item);
void pointer_vector_deinit(struct pointer_vector *vector);

static inline kvs_slice entry_key(const struct entry *entry)
{
    return slice_make(entry->data + (entry->expires ? 8 : 0), entry->key_size);
}

static inline uint64_t entry_expires_at(const struct entry *entry)
{
    uint64_t at = 0;
    if (entry->expires)
        memcpy(&at, entry->data, sizeof at);
    return at;
}

static inline size_t entry_bytes(const struct entry *entry)
{
    return sizeof *entry + (entry->expires ? 8u : 0u) + entry->key_size;
}

/* An entry in memory of the caller's, of tree_entry_size. */
static inline size_t tree_entry_size(kvs_slice key, uint64_t expires_at_ms)
{
    return sizeof(struct entry) + (expires_at_ms != 0 ? 8u : 0u) + key.size;
}
void tree_entry_init(struct entry *entry, kvs_slice key, uint64_t expires_at_ms,
                     uint32_t value_size, uint64_t birth, uint64_t location);

/* A new entry noted as born; NULL when there is no memory. */
struct entry *tree_entry_new(struct tree_writer *writer, kvs_slice key, uint64_t expires_at_ms,
                             uint32_t value_size, uint64_t birth, uint64_t location);

/* Notes an entry that is no longer in the tree (freed at once when there is no undo). */
int tree_entry_retire(struct tree_writer *writer, struct entry *entry);

/* Gives an object's memory back, at once. */
void tree_object_free(struct slab *slab, uintptr_t tagged);

/* The entry of a key or NULL. An empty tree is NULL. Any thread that may see the root. */
struct entry *tree_find(const struct node *root, kvs_slice key);

/*
 * As tree_find, for up to TREE_FIND_MANY_MAX keys at once. The lookups go down the tree side by
 * side, each asking for the memory it needs next while the others work, so that their waits
 * overlap.
 */
#define TREE_FIND_MANY_MAX 16u
void tree_find_many(const struct node *root, const kvs_slice *keys, unsigned count,
                    struct entry **ret_entries);

/* Each key in a tree of its own. */
void tree_find_many_in(const struct node *const *roots, const kvs_slice *keys, unsigned count,
                       struct entry **ret_entries);

/* Has all that changes of these keys will touch brought near, likewise. */
void tree_prefetch_change(const struct tree_writer *writer, const struct node *const *roots,
                          const kvs_slice *keys, unsigned count);

/* Puts an entry in; one with the same key is replaced and given back: the caller retires it. On
 * NO_MEMORY the tree under *root is half changed: undo the group. */
int tree_insert(struct tree_writer *writer, struct node **root, struct entry *entry,
                struct entry **ret_replaced);

/* Takes a key out, if it is there; the entry is given back for the caller to retire, else NULL. */
int tree_remove(struct tree_writer *writer, struct node **root, kvs_slice key,
                struct entry **ret_removed);

/* --- for tree_build.c ------------------------------------------------------------------------- */

/* An empty node; noted as born. NULL: no memory. */
struct node *tree_node_new(struct tree_writer *writer, uint8_t level);
/* Works out head and prefixes from the items. */
void tree_node_reindex(struct node *node);
/* The shortest key k with left < k <= right; noted as born. NULL: no memory. */
struct separator *tree_separator_new(struct tree_writer *writer, kvs_slice left, kvs_slice right);

/* --- walking in order; valid as long as the root may be seen ---------------------------------- */

struct tree_cursor {
    unsigned depth; /* 0: behind the last or before the first */
    const struct node *nodes[TREE_DEPTH_MAX];
    uint16_t positions[TREE_DEPTH_MAX];
};

/* To the first key that is not less than `key` (empty: the first of all). */
void tree_seek(struct tree_cursor *cursor, const struct node *root, kvs_slice key);
/* To the last key that is less than `key` (empty: the last of all). */
void tree_seek_before(struct tree_cursor *cursor, const struct node *root, kvs_slice key);
void tree_next(struct tree_cursor *cursor);
void tree_previous(struct tree_cursor *cursor);

static inline struct entry *tree_cursor_entry(const struct tree_cursor *cursor)
{
    if (cursor->depth == 0)
        return NULL;
    unsigned leaf = cursor->depth - 1;
    return cursor->nodes[leaf]->items[cursor->positions[leaf]];
}

/* tree_next or tree_previous; mostly the neighbour is in the same leaf. */
static inline void tree_cursor_step(struct tree_cursor *cursor, int step)
{
    unsigned leaf = cursor->depth - 1; /* depth > 0 */
    int position = cursor->positions[leaf] + step;
    if (position >= 0 && position < cursor->nodes[leaf]->count)
        cursor->positions[leaf] = (uint16_t)position;
    else if (step > 0)
        tree_next(cursor);
    else
        tree_previous(cursor);
}

/* Has the leaf that a walk comes to behind this one brought near, if it has the same parent. */
static inline void tree_cursor_prefetch_next_leaf(const struct tree_cursor *cursor, int step)
{
    if (cursor->depth < 2)
        return;
    const struct node *parent = cursor->nodes[cursor->depth - 2];
    int position = cursor->positions[cursor->depth - 2] + step;
    if (position < 0 || position > parent->count)
        return;
    const struct node *next = parent->children[position];
    __builtin_prefetch(next);
    for (unsigned i = 0; i < TREE_FANOUT; i += 8)
        __builtin_prefetch(&next->items[i]);
}

/* Checks every rule of the structure (order, heads, prefixes, levels); for tests. */
bool tree_is_valid(const struct node *root, uint64_t *ret_count);

#endif

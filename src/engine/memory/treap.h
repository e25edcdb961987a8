/*
 * engine/memory/treap.h: an ordered map whose versions share what they have in common.
 *
 * A tree is a treap: ordered by key, and a heap by a random priority, so its depth is logarithmic
 * whatever the keys are. NULL is the empty tree. Nodes and entries are reference-counted; a node
 * that more than one tree holds is never changed, but copied first. So keeping an old version costs
 * one reference, and it stays as it was.
 *
 * Functions that change a tree take it: they consume the caller's reference and give one to the
 * result; when there is no memory they free what they took and return false. To be able to go on
 * with the tree as it was, the caller takes a reference of its own before.
 *
 * Trees may be read and released by any thread; changes of one tree are for one thread at a time.
 */
#ifndef ENGINE_MEMORY_TREAP_H
#define ENGINE_MEMORY_TREAP_H

#include "base/slice.h"

#include <stdatomic.h>

/* A key and its value: never changed. */
struct entry {
    _Atomic uint64_t refs;
    uint64_t expires_ms; /* wall clock; 0: never */
    size_t key_size;
    size_t value_size;
    uint8_t bytes[]; /* key, value */
};

/* For who wants an entry longer than its tree. Any thread. */
struct entry *entry_ref(struct entry *entry);
void entry_unref(struct entry *entry);

struct treap;

/* Both return 0 to go on, anything else ends the walk and is its result. */
typedef int treap_walk_fn(void *arg, const struct entry *entry);

struct treap *treap_ref(struct treap *tree);
void treap_unref(struct treap *tree);

/* Sets a key to a copy of the value. */
bool treap_set(struct treap *tree, kvs_slice key, kvs_slice value, uint64_t expires_ms,
               struct treap **ret_tree);
bool treap_remove(struct treap *tree, kvs_slice key, struct treap **ret_tree);
/* Removes start <= key < end; empty: no bound. */
bool treap_remove_range(struct treap *tree, kvs_slice start, kvs_slice end,
                        struct treap **ret_tree);

/* NULL when there is none; valid as long as a tree that holds it. */
struct entry *treap_find(const struct treap *tree, kvs_slice key);

/* Calls `each` for all entries with start <= key < end (empty: no bound), in order, or from the
 * last one downwards. */
int treap_walk(const struct treap *tree, kvs_slice start, kvs_slice end, bool reverse,
               treap_walk_fn *each, void *arg);

uint64_t treap_count(const struct treap *tree); /* entries */
uint64_t treap_bytes(const struct treap *tree); /* their keys and values */

static inline kvs_slice entry_key(const struct entry *entry)
{
    return slice_make(entry->bytes, entry->key_size);
}

static inline kvs_slice entry_value(const struct entry *entry)
{
    return slice_make(entry->bytes + entry->key_size, entry->value_size);
}

#endif

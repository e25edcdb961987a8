/*
 * client/txn/write_buffer.h: what a transaction is going to write, and what it has locked, ordered
 * by key.
 *
 * An entry tells the last write of its key, or that the key is only locked. Entries are never taken
 * out and never move: keys and values may be borrowed for as long as the buffer lives (an older
 * value of the same key, too). Not thread-safe. Failure: NO_MEMORY, nothing changed.
 */
#ifndef CLIENT_TXN_WRITE_BUFFER_H
#define CLIENT_TXN_WRITE_BUFFER_H

#include "base/arena.h"
#include "base/rand.h"

#include <stdbool.h>
#include <stdint.h>

#define WRITE_LEVELS_MAX 12u

enum write_kind {
    WRITE_NONE, /* only known: not written, not locked */
    WRITE_LOCK,
    WRITE_PUT,
    WRITE_DELETE,
};

struct write_entry {
    kvs_slice key;
    kvs_slice value;     /* of a put */
    uint8_t kind;        /* enum write_kind */
    bool must_be_absent; /* the key must not exist before this transaction: looked at by prewrite */
    bool locked;         /* pessimistic: the lock is held */
    bool shared;         /* in share mode */
    uint8_t levels;
    struct write_entry *next[];
};

struct write_buffer {
    struct arena arena;
    struct write_entry *heads[WRITE_LEVELS_MAX];
    struct rand rand;
    uint32_t count;      /* entries of any kind */
    uint64_t size_bytes; /* of their keys and last values */
};

void write_buffer_init(struct write_buffer *buffer, uint64_t seed);
void write_buffer_deinit(struct write_buffer *buffer);

/* The entry of a key; NULL when there is none. */
struct write_entry *write_buffer_find(const struct write_buffer *buffer, kvs_slice key);
/* The same; a new one is of kind NONE. NULL: no memory. Copies the key. */
struct write_entry *write_buffer_get(struct write_buffer *buffer, kvs_slice key);
/* Copies the value. */
int write_buffer_put(struct write_buffer *buffer, struct write_entry *entry, kvs_slice value);
void write_buffer_delete(struct write_buffer *buffer, struct write_entry *entry);

static inline struct write_entry *write_buffer_first(const struct write_buffer *buffer)
{
    return buffer->heads[0];
}

/* The first entry with a key not below `key`; NULL: none. */
struct write_entry *write_buffer_at_or_above(const struct write_buffer *buffer, kvs_slice key);
/* The last entry with a key below `key` (empty: the last of all); NULL: none. */
struct write_entry *write_buffer_below(const struct write_buffer *buffer, kvs_slice key);

#endif

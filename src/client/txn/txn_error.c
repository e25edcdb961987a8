/* client/txn/txn_error.c: what the rules refuse, as a code and what it was about. */
#include "client/txn/txn_parts.h"

#include <stdio.h>

#define SHOWN_MAX 40u

/* The begin of a key for a person. */
static const char *shown(kvs_slice key, char text[SHOWN_MAX * 4 + 4])
{
    size_t at = 0;
    for (size_t i = 0; i < key.size && i < SHOWN_MAX; i++) {
        uint8_t byte = key.data[i];
        bool plain = byte >= 0x20 && byte < 0x7f && byte != '\\';
        at += (size_t)snprintf(text + at, 5, plain ? "%c" : "\\x%02x", byte);
    }
    snprintf(text + at, 4, key.size > SHOWN_MAX ? "..." : "");
    return text;
}

static int copy_key(struct arena *arena, kvs_slice *key)
{
    if (key->size == 0)
        return 0;
    void *copy = arena_copy(arena, *key);
    if (copy == NULL)
        return KVS_ERR_NO_MEMORY;
    key->data = copy;
    return 0;
}

static kvs_txn_conflict conflict_of(const struct txn_key_error *error)
{
    /* Of several that share a lock, one. */
    const struct txn_lock_info *lock =
        error->lock.holders_count > 0 ? &error->lock.holders[0] : &error->lock;
    switch (error->kind) {
    case TXN_ERROR_LOCKED:
        return (kvs_txn_conflict){.key = lock->key,
                                  .primary = lock->primary,
                                  .conflict_ts = lock->start_ts,
                                  .lock_ttl_ms = lock->ttl_ms};
    case TXN_ERROR_DEADLOCK:
        return (kvs_txn_conflict){.key = error->lock_key, .conflict_ts = error->lock_ts};
    default:
        return (kvs_txn_conflict){.key = error->key,
                                  .primary = error->primary,
                                  .start_ts = error->start_ts,
                                  .conflict_ts = error->conflict_ts,
                                  .conflict_commit_ts = error->conflict_commit_ts};
    }
}

static int code_of(const struct txn_key_error *error)
{
    switch (error->kind) {
    case TXN_ERROR_LOCKED:
        return KVS_ERR_LOCK_TIMEOUT;
    case TXN_ERROR_WRITE_CONFLICT:
        return error->reason == TXN_CONFLICT_SELF_ROLLED_BACK ? KVS_ERR_LOCK_LOST
                                                              : KVS_ERR_WRITE_CONFLICT;
    case TXN_ERROR_ALREADY_EXISTS:
        return KVS_ERR_ALREADY_EXISTS;
    case TXN_ERROR_DEADLOCK:
        return KVS_ERR_DEADLOCK;
    default: /* ABORT, too: what a client of ours can meet is that its locks are gone */
        return KVS_ERR_LOCK_LOST;
    }
}

int txn_error_take(const struct txn_key_error *error, struct arena *arena,
                   kvs_txn_conflict *ret_conflict, char why[TXN_WHY_SIZE])
{
    int code = code_of(error);
    kvs_txn_conflict conflict = conflict_of(error);
    char text[SHOWN_MAX * 4 + 4];
    if (copy_key(arena, &conflict.key) != 0 || copy_key(arena, &conflict.primary) != 0)
        return KVS_ERR_NO_MEMORY;
    *ret_conflict = conflict;
    if (conflict.key.size > 0)
        snprintf(why, TXN_WHY_SIZE, "%s: \"%.100s\"", kvs_error_text(code),
                 shown(conflict.key, text));
    else
        snprintf(why, TXN_WHY_SIZE, "%s%s%.80s", kvs_error_text(code),
                 error->text != NULL ? ": " : "", error->text != NULL ? error->text : "");
    return code;
}

int kvs_future_get_txn_conflict(const kvs_future *future, kvs_txn_conflict *ret_conflict)
{
    const kvs_txn_conflict *conflict = future_details(future);
    if (conflict == NULL)
        return KVS_ERR_NOT_FOUND;
    *ret_conflict = *conflict;
    return 0;
}

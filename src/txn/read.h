/*
 * txn/read.h: what a reader at a timestamp sees of a key and its lock.
 */
#ifndef TXN_READ_H
#define TXN_READ_H

#include "txn/job.h"

#define READ_ON_SPOT_COUNT_MAX \
    1024u /* more is not read on a caller's thread, which may be a loop */
#define READ_ON_SPOT_SIZE_MAX (64u * 1024)

/* A lock of a prewrite under way that is in the reader's way. */
struct read_hidden_lock {
    struct read_hidden_lock *next;
    kvs_slice key;
    struct txn_lock_info lock;
};

/* In txn_command.reserved[0] of a read, NULL for none: sorted by key. */
struct read_hidden {
    struct read_hidden_lock **locks;
    uint32_t count;
};

/* What a lock does to a reader. */
enum read_lock_effect {
    READ_LOCK_NONE = 0,
    READ_LOCK_BLOCKS,
    READ_LOCK_SHOWS,    /* its transaction has committed: its value counts */
    READ_LOCK_CONFLICT, /* of a reader that wants to be told */
};

enum read_lock_effect read_lock_effect(const struct txn_read *read, const struct lock_record *lock,
                                       kvs_slice key);

const struct read_hidden_lock *read_hidden_find(const struct txn_command *command, kvs_slice key);

/* One key: ret_pair->error for a lock, else *ret_found and the pair's value. `error` of the request
 * as a whole for a conflict. */
int read_key(struct txn_command *command, const struct txn_read *read, struct engine_view *view,
             kvs_slice key, struct txn_pair *ret_pair, bool *ret_found,
             struct txn_key_error *request_error);

void read_conflict_set(struct txn_key_error *error, const struct txn_read *read, kvs_slice key,
                       kvs_slice primary, uint64_t conflict_ts, uint64_t conflict_commit_ts);

int read_scan(struct txn_scan *scan, struct engine_view *view);
int read_scan_lock(struct txn_scan_lock *scan, struct engine_view *view);
int read_mvcc(struct txn_mvcc *mvcc, struct engine_view *view);

#endif

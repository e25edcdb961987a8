/*
 * txn/mvcc.h: reads the locks and versions of a key in an engine's view.
 *
 * Errors of all: NOT_FOUND for what is not there, ENGINE_WOULD_BLOCK, and what the engine says;
 * CORRUPTION for records that are none.
 */
#ifndef TXN_MVCC_H
#define TXN_MVCC_H

#include "engine/engine.h"
#include "txn/record.h"

/* A version of a key, copied out of the view but for values in the data family. */
struct mvcc_version {
    uint64_t commit_ts;
    struct write_record write;
    uint8_t value[RECORD_VALUE_INLINE_MAX];
};

/* Borrows from the view. */
int mvcc_lock(struct engine_view *view, kvs_slice encoded, struct lock_record *ret_lock);
/* One that may be in a reader's way: a shared one, which many may have, counts as none. */
int mvcc_lock_for_read(struct engine_view *view, kvs_slice encoded, struct lock_record *ret_lock);
/* The lock of this transaction, its own or its part of a shared one. */
int mvcc_lock_of(struct engine_view *view, kvs_slice encoded, uint64_t start_ts,
                 struct lock_record *ret_lock);

/* Only when the newest version was committed: costs no look at a record, and never blocks. */
int mvcc_newest_ts(struct engine_view *view, struct record_key *key, uint64_t *ret_commit_ts);
/* The newest version with commit_ts <= ts, whatever its type. */
int mvcc_newest(struct engine_view *view, struct record_key *key, uint64_t ts,
                struct mvcc_version *ret_version);
/* The same but for locks and rollbacks: a PUT or a DELETE. */
int mvcc_visible(struct engine_view *view, struct record_key *key, uint64_t ts,
                 struct mvcc_version *ret_version);
/* Is a value there for a reader at ts? */
int mvcc_exists(struct engine_view *view, struct record_key *key, uint64_t ts, bool *ret_exists);

/* The value of a version that is a PUT: its own, or of the view. A value that must be there and is
 * not is CORRUPTION. */
int mvcc_value(struct engine_view *view, struct record_key *key, const struct write_record *write,
               kvs_slice *ret_value);

enum mvcc_fate {
    MVCC_UNKNOWN = 0,
    MVCC_COMMITTED = 1,
    MVCC_ROLLED_BACK = 2,
};

/* What became of a transaction on a key, by its write records. */
struct mvcc_outcome {
    enum mvcc_fate fate;
    uint64_t commit_ts;          /* COMMITTED */
    bool has_overlap;            /* UNKNOWN: the commit of another transaction stands at start_ts */
    struct mvcc_version version; /* the one found, or the overlapping one */
};

int mvcc_outcome(struct engine_view *view, struct record_key *key, uint64_t start_ts,
                 struct mvcc_outcome *ret_outcome);

/* Does a rollback stand at this timestamp? One that an async commit chose may be the start of
 * another transaction. */
int mvcc_has_rollback_at(struct engine_view *view, struct record_key *key, uint64_t ts,
                         bool *ret_has_rollback);

#endif

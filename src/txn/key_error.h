/*
 * txn/key_error.h: what a node says of keys that are in the way: their locks, and what the rules of
 * transactions refuse. Commands have these in their results (txn/command.h).
 */
#ifndef TXN_KEY_ERROR_H
#define TXN_KEY_ERROR_H

#include <kvs/store.h>

#include <stdbool.h>
#include <stdint.h>

/* Numbers as in TiKV's Op. */
enum txn_op {
    TXN_OP_PUT = 0,
    TXN_OP_DELETE = 1,
    TXN_OP_LOCK = 2,
    TXN_OP_ROLLBACK = 3, /* in records only */
    TXN_OP_INSERT = 4,
    TXN_OP_PESSIMISTIC_LOCK = 5,
    TXN_OP_CHECK_NOT_EXISTS = 6,
    TXN_OP_SHARED_LOCK = 7, /* as a type: the locks of all that share the key */
    TXN_OP_SHARED_PESSIMISTIC_LOCK = 8,
};

struct txn_lock_info {
    kvs_slice key;
    kvs_slice primary;
    uint64_t start_ts;
    uint64_t ttl_ms;
    uint64_t txn_size;
    uint64_t for_update_ts;
    uint64_t min_commit_ts;
    uint8_t type; /* PUT, DELETE, LOCK, PESSIMISTIC_LOCK or SHARED_LOCK */
    bool use_async_commit;
    const kvs_slice *secondaries;
    uint32_t secondaries_count;
    /* SHARED_LOCK: one LOCK or PESSIMISTIC_LOCK for each transaction; else only the key is set */
    struct txn_lock_info *holders;
    uint32_t holders_count;
    uint64_t duration_to_last_update_ms; /* after a lock wait that ran out; else 0 */
};

enum txn_key_error_kind {
    TXN_ERROR_NONE = 0,
    TXN_ERROR_LOCKED,         /* lock */
    TXN_ERROR_WRITE_CONFLICT, /* key, primary, start_ts, conflict_ts, conflict_commit_ts, reason */
    TXN_ERROR_ALREADY_EXISTS, /* key */
    TXN_ERROR_DEADLOCK,       /* lock_ts, lock_key, deadlock_key(_hash), wait_chain */
    TXN_ERROR_COMMIT_TS_EXPIRED,   /* key, start_ts, commit_ts (attempted), min_commit_ts */
    TXN_ERROR_TXN_NOT_FOUND,       /* start_ts, primary */
    TXN_ERROR_COMMIT_TS_TOO_LARGE, /* commit_ts */
    TXN_ERROR_ASSERTION_FAILED,    /* key, start_ts, assertion, existing_start_ts and _commit_ts */
    TXN_ERROR_PRIMARY_MISMATCH,    /* lock */
    TXN_ERROR_LOCK_NOT_FOUND,      /* key: the lock to commit is gone */
    TXN_ERROR_ABORT,               /* text: everything else; trying again does not help */
};

/* Numbers as in TiKV's WriteConflict.Reason. */
enum txn_conflict_reason {
    TXN_CONFLICT_UNKNOWN = 0,
    TXN_CONFLICT_OPTIMISTIC = 1,
    TXN_CONFLICT_PESSIMISTIC_RETRY = 2,
    TXN_CONFLICT_SELF_ROLLED_BACK = 3,
    TXN_CONFLICT_RC_CHECK_TS = 4,
    TXN_CONFLICT_LAZY_UNIQUENESS_CHECK = 5,
    TXN_CONFLICT_NOT_LOCKED_KEY_CONFLICT = 6,
};

struct txn_wait_entry {
    uint64_t start_ts;
    uint64_t wait_for_ts;
    uint64_t key_hash; /* its fingerprint64, as in TiKV: clients compute it, too */
    kvs_slice key;
    kvs_slice tag; /* of the waiting request */
};

struct txn_key_error {
    uint8_t kind;      /* enum txn_key_error_kind */
    uint8_t reason;    /* enum txn_conflict_reason */
    uint8_t assertion; /* enum txn_assertion */
    kvs_slice key;
    kvs_slice primary;
    struct txn_lock_info lock;
    uint64_t start_ts;
    uint64_t commit_ts;
    uint64_t min_commit_ts;
    uint64_t conflict_ts;
    uint64_t conflict_commit_ts;
    uint64_t existing_start_ts;
    uint64_t existing_commit_ts;
    uint64_t lock_ts;
    kvs_slice lock_key;
    kvs_slice deadlock_key;
    uint64_t deadlock_key_hash;
    const struct txn_wait_entry *wait_chain;
    uint32_t wait_chain_count;
    const char *text; /* for a person; may be NULL but for ABORT */
};

#endif

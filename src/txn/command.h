/*
 * txn/command.h: what may be asked of a node that keeps transactions, and its answers.
 *
 * A command is a request and its result in one struct that the caller owns, one struct per kind,
 * each beginning with a struct txn_command. They are the words that three parts share: the node
 * carries them out (txn/node.h), the server makes them from a TiKV client's messages, and our own
 * client gives them to a node of this process or writes them to a node elsewhere.
 *
 * Keys are the user's, as they are: the node encodes them. Ranges are of encoded keys (TiKV's
 * memcomparable encoding, base/memcomparable.h), because that is what regions are cut in; an empty
 * bound is none. Timestamps are those of PD: milliseconds since 1970 << 18 | logical.
 *
 * Two places for what goes wrong. `op.error` is for what concerns no key: NO_MEMORY, NO_SPACE,
 * STORAGE_FAILED, CORRUPTION, IO, TOO_LARGE, INVALID_ARGUMENT, UNSUPPORTED, CANCELLED, TIMEOUT,
 * BUSY, and for a remote node what a connection can do; then no other result is valid. What the
 * rules of transactions refuse is a result: a struct txn_key_error, with op.error 0.
 *
 * Ownership: inputs are borrowed until op completes; results live until txn_command_deinit.
 */
#ifndef TXN_COMMAND_H
#define TXN_COMMAND_H

#include "base/arena.h"
#include "runtime/op.h"
#include "txn/key_error.h"

#include <stdbool.h>
#include <stdint.h>

#define TXN_TS_MAX UINT64_MAX
#define TXN_TS_LOGICAL_BITS 18u

static inline uint64_t txn_ts_make(uint64_t physical_ms, uint32_t logical)
{
    return physical_ms << TXN_TS_LOGICAL_BITS | logical;
}

static inline uint64_t txn_ts_physical_ms(uint64_t ts)
{
    return ts >> TXN_TS_LOGICAL_BITS;
}

enum txn_command_kind {
    /* reads */
    TXN_GET = 1,
    TXN_BATCH_GET,
    TXN_BUFFER_GET, /* a transaction's own flushed writes */
    TXN_SCAN,
    TXN_SCAN_LOCK,
    /* two-phase commit */
    TXN_PREWRITE,
    TXN_COMMIT,
    TXN_BATCH_ROLLBACK,
    TXN_CLEANUP,
    TXN_PESSIMISTIC_LOCK,
    TXN_PESSIMISTIC_ROLLBACK,
    TXN_HEARTBEAT,
    TXN_CHECK_STATUS,
    TXN_CHECK_SECONDARIES,
    TXN_RESOLVE_LOCK,
    /* housekeeping */
    TXN_DELETE_RANGE,
    TXN_GC,
    TXN_MVCC_BY_KEY, /* for debugging */
    TXN_MVCC_BY_START_TS,
};

struct txn_command {
    struct op op; /* completes exactly once, on op.loop, never inside the submitting call */
    uint8_t kind; /* enum txn_command_kind */
    struct arena arena;
    void *user;        /* the caller's */
    void *reserved[8]; /* of whoever carries it out */
};

/* --- keys and ranges --- */

struct txn_pair {
    kvs_slice key;
    kvs_slice value;
    uint64_t commit_ts;         /* when asked for, else 0 */
    struct txn_key_error error; /* LOCKED: then there is no value */
};

struct txn_range {
    kvs_slice start, end; /* encoded; empty: no bound. end is not in the range */
};

/* --- reads --- */

/* Takes pairs as they are found, instead of a list: a read then keeps none. Also on the pool. */
struct txn_sink {
    void (*begin)(struct txn_sink *sink);                           /* a read may begin again */
    int (*put)(struct txn_sink *sink, const struct txn_pair *pair); /* borrowed; else 0: it ends */
};

enum txn_isolation {
    TXN_ISOLATION_SNAPSHOT = 0,
    TXN_ISOLATION_READ_COMMITTED = 1, /* locks are not looked at */
    TXN_ISOLATION_RC_CHECK_TS = 2,    /* a lock or a newer version is a write conflict */
};

/* How to read; zero but for ts is right for most. */
struct txn_read {
    uint64_t ts;       /* TXN_TS_MAX: the newest */
    uint8_t isolation; /* enum txn_isolation */
    bool want_commit_ts;
    const uint64_t *resolved_locks; /* start_ts of transactions whose locks do not count */
    uint32_t resolved_locks_count;
    const uint64_t *committed_locks; /* whose locks are read through */
    uint32_t committed_locks_count;
};

struct txn_get {
    struct txn_command base;
    struct txn_read read;
    kvs_slice key;
    /* results */
    bool found;
    kvs_slice value;
    uint64_t commit_ts;
    struct txn_key_error error;
};

/* Also TXN_BUFFER_GET: then read.ts is the start_ts of the transaction whose locks are looked at;
 * results are the keys that it has put, and those deleted, which have an empty value. */
struct txn_batch_get {
    struct txn_command base;
    struct txn_read read;
    const kvs_slice *keys;
    uint32_t keys_count;
    size_t size_bytes_max; /* of the answer, else TOO_LARGE; 0: no bound */
    struct txn_sink *sink; /* NULL: a list */
    /* results: those that exist, and those that are locked, in the order asked */
    struct txn_pair *pairs;
    uint32_t pairs_count;
    struct txn_key_error error; /* of the request as a whole */
};

struct txn_scan {
    struct txn_command base;
    struct txn_read read;
    struct txn_range range;
    uint32_t limit;          /* pairs; locked ones count */
    size_t size_bytes_max;   /* ends the page early, after at least one pair; 0: no bound */
    uint32_t sample_step;    /* the first of every so many, and what is locked; 0: all */
    bool keys_only, reverse; /* from the last key of the range downwards */
    struct txn_sink *sink;   /* NULL: a list */
    /* results */
    struct txn_pair *pairs;
    uint32_t pairs_count;
    bool more; /* ended by limit or size: the range may have more */
    struct txn_key_error error;
};

/* Locks with start_ts <= max_ts, by key. */
struct txn_scan_lock {
    struct txn_command base;
    struct txn_range range;
    uint64_t max_ts;
    uint32_t limit; /* 0: no limit */
    /* results */
    struct txn_lock_info *locks;
    uint32_t locks_count;
};

/* --- two-phase commit --- */

enum txn_assertion { TXN_ASSERT_NONE = 0, TXN_ASSERT_EXIST = 1, TXN_ASSERT_NOT_EXIST = 2 };
enum txn_assertion_level { TXN_ASSERT_OFF = 0, TXN_ASSERT_FAST = 1, TXN_ASSERT_STRICT = 2 };

/* What a prewrite of a pessimistic transaction does about a key. Numbers as in TiKV. */
enum txn_pessimistic_action {
    TXN_SKIP_PESSIMISTIC_CHECK = 0, /* it was not locked */
    TXN_DO_PESSIMISTIC_CHECK = 1,   /* it was locked: the lock must be there */
    TXN_DO_CONSTRAINT_CHECK = 2,    /* it was not locked: conflicts are looked for now */
};

struct txn_mutation {
    uint8_t op; /* enum txn_op */
    uint8_t assertion;
    uint8_t pessimistic_action;
    kvs_slice key;
    kvs_slice value;
    uint64_t expected_for_update_ts; /* of its pessimistic lock; 0: any */
};

struct txn_prewrite {
    struct txn_command base;
    const struct txn_mutation *mutations;
    uint32_t mutations_count;
    kvs_slice primary;
    uint64_t start_ts;
    uint64_t lock_ttl_ms;
    uint64_t txn_size;
    uint64_t for_update_ts; /* not 0: a pessimistic transaction */
    uint64_t min_commit_ts;
    uint64_t max_commit_ts;       /* 0: no bound */
    uint64_t generation;          /* not 0: a flush, of an optimistic transaction in two phases */
    const kvs_slice *secondaries; /* async commit, in the request of the primary */
    uint32_t secondaries_count;
    uint8_t assertion_level;
    bool use_async_commit, try_one_pc, skip_constraint_check;
    bool is_retry; /* it may have been sent before */
    /* results */
    struct txn_key_error *errors; /* all locked keys, or one other error */
    uint32_t errors_count;
    uint64_t min_commit_ts_found; /* async commit: 0 when it was refused */
    uint64_t one_pc_commit_ts;    /* 0 when it was not tried, or refused */
};

struct txn_commit {
    struct txn_command base;
    const kvs_slice *keys;
    uint32_t keys_count;
    uint64_t start_ts;
    uint64_t commit_ts;
    /* results */
    struct txn_key_error error;
};

struct txn_batch_rollback {
    struct txn_command base;
    const kvs_slice *keys;
    uint32_t keys_count;
    uint64_t start_ts;
    /* results */
    struct txn_key_error error;
};

struct txn_cleanup {
    struct txn_command base;
    kvs_slice key;
    uint64_t start_ts;
    uint64_t current_ts; /* 0: also when it has not expired */
    /* results */
    uint64_t commit_ts; /* it was committed */
    struct txn_key_error error;
};

enum txn_wake_mode { TXN_WAKE_NORMAL = 0, TXN_WAKE_FORCE_LOCK = 1 };

/* Numbers as in TiKV's PessimisticLockKeyResultType. */
enum txn_lock_result_kind {
    TXN_LOCK_RESULT_NORMAL = 0,
    TXN_LOCK_RESULT_LOCKED_WITH_CONFLICT = 1,
    TXN_LOCK_RESULT_FAILED = 2,
};

struct txn_lock_result {
    uint8_t kind;
    bool existence;
    kvs_slice value;
    uint64_t locked_with_conflict_ts;
};

struct txn_pessimistic_lock {
    struct txn_command base;
    const struct txn_mutation *mutations; /* PESSIMISTIC_LOCK; assertion */
    uint32_t mutations_count;
    kvs_slice primary;
    uint64_t start_ts;
    uint64_t lock_ttl_ms;
    uint64_t for_update_ts;
    uint64_t min_commit_ts;
    int64_t wait_timeout_ms; /* 0: the node's default; negative: do not wait */
    size_t size_bytes_max;   /* of the values, else TOO_LARGE; 0: no bound */
    kvs_slice tag;           /* tells people who waits; none over WAIT_TAG_SIZE_MAX */
    uint8_t wake_mode;
    bool is_first_lock, return_values, check_existence, lock_only_if_exists;
    /* results: values and not_founds as asked for, one for each mutation, or NULL */
    struct txn_key_error *errors;
    uint32_t errors_count;
    kvs_slice *values;
    bool *not_founds;
    struct txn_lock_result *lock_results; /* FORCE_LOCK only */
};

struct txn_pessimistic_rollback {
    struct txn_command base;
    const kvs_slice *keys; /* none: all locks of the range. Of keys, waits end, too */
    uint32_t keys_count;
    struct txn_range range;
    uint64_t start_ts;
    uint64_t for_update_ts;
    /* results */
    struct txn_key_error error;
};

struct txn_heartbeat {
    struct txn_command base;
    kvs_slice primary;
    uint64_t start_ts;
    uint64_t advise_ttl_ms;
    uint64_t min_commit_ts;
    /* results */
    uint64_t lock_ttl_ms;
    struct txn_key_error error;
};

/* Numbers as in TiKV's Action. */
enum txn_action {
    TXN_ACTION_NONE = 0,
    TXN_ACTION_TTL_EXPIRE_ROLLBACK = 1,
    TXN_ACTION_LOCK_NOT_EXIST_ROLLBACK = 2,
    TXN_ACTION_MIN_COMMIT_TS_PUSHED = 3,
    TXN_ACTION_TTL_EXPIRE_PESSIMISTIC_ROLLBACK = 4,
    TXN_ACTION_LOCK_NOT_EXIST_DO_NOTHING = 5,
};

struct txn_check_status {
    struct txn_command base;
    kvs_slice primary;
    uint64_t start_ts; /* of the transaction that is looked at */
    uint64_t caller_start_ts;
    uint64_t current_ts;
    bool rollback_if_not_exist, force_sync_commit, resolving_pessimistic_lock, verify_is_primary;
    /* results: alive: lock_ttl_ms and lock; committed: commit_ts; rolled back: none of them */
    uint64_t lock_ttl_ms;
    uint64_t commit_ts;
    uint8_t action;
    struct txn_lock_info lock;
    struct txn_key_error error;
};

struct txn_check_secondaries {
    struct txn_command base;
    const kvs_slice *keys;
    uint32_t keys_count;
    uint64_t start_ts;
    /* results: neither locks nor commit_ts: rolled back */
    struct txn_lock_info *locks;
    uint32_t locks_count;
    uint64_t commit_ts;
    struct txn_key_error error;
};

struct txn_status {
    uint64_t start_ts;
    uint64_t commit_ts; /* 0: rolled back */
};

struct txn_resolve_lock {
    struct txn_command base;
    const kvs_slice *keys; /* none: all locks of `txns` in the range */
    uint32_t keys_count;
    struct txn_range range;
    const struct txn_status *txns;
    uint32_t txns_count;
    /* results */
    struct txn_key_error error;
};

/* --- housekeeping --- */

/* Removes all that transactions have in the range, at once and for every timestamp. */
struct txn_delete_range {
    struct txn_command base;
    struct txn_range range;
};

/* Removes what no read at or above the safe point can see. Locks below it are resolved before. */
struct txn_gc {
    struct txn_command base;
    struct txn_range range;
    uint64_t safe_point;
    uint32_t steps_max; /* of 256 keys or 65,536 records; 0: to the end of the range */
    /* results */
    uint64_t removed_versions;
    kvs_slice next; /* after so many steps: where the range goes on; empty: all is done */
};

struct txn_mvcc_write {
    uint8_t type; /* PUT, DELETE, LOCK or ROLLBACK */
    bool has_overlapped_rollback;
    uint64_t start_ts;
    uint64_t commit_ts;
    kvs_slice short_value;
};

struct txn_mvcc_value {
    uint64_t start_ts;
    kvs_slice value;
};

/* All that is kept of a key: by the key, or by a transaction that wrote it (the first in range). */
struct txn_mvcc {
    struct txn_command base;
    kvs_slice key;
    struct txn_range range;
    uint64_t start_ts;
    /* results */
    bool found;
    kvs_slice found_key;
    bool has_lock;
    struct txn_lock_info lock;
    kvs_slice lock_short_value;
    struct txn_mvcc_write *writes; /* newest first */
    uint32_t writes_count;
    struct txn_mvcc_value *values;
    uint32_t values_count;
};

/* Zeroes a command of this kind, which is ready to be filled then. */
void txn_command_init(struct txn_command *command, enum txn_command_kind kind);
/* Frees the results. */
void txn_command_deinit(struct txn_command *command);

#endif

/*
 * kvs/txn.h: transactions over many keys, asynchronously, with snapshot isolation; where the data
 * lives is chosen by a URL.
 *
 *   log:DIR, rocksdb:DIR,
 *   memory:                      in this process (kvs_txn_client_on_store: together with a
 *                                kvs_store)
 *   tikv://PD[,PD...][/KEYSPACE] on a TiKV cluster, by the rules of its own transactional clients
 *
 * Transactions and the plain calls of kvs/store.h do not see each other's keys.
 *
 *     kvs_txn *txn = kvs_txn_begin(client, NULL);        // at once; its timestamp comes by itself
 *     kvs_future *get = kvs_txn_get(txn, key);           // reads see the database as of the begin,
 *     ...                                                // and the transaction's own writes
 *     kvs_future_free(kvs_txn_put(txn, key, value));     // gathered in memory
 *     kvs_future *commit = kvs_txn_commit(txn);          // all or nothing
 *     ...
 *     kvs_txn_free(txn);                                 // one that was not committed: rolled back
 *
 * Optimistic transactions find out at commit that another one has written the same key since they
 * began: WRITE_CONFLICT. Pessimistic ones lock each key when it is written or read "for update";
 * what they write because of a plain get may rest on an old value, so read for update there.
 * kvs_txn_run does the whole, with a new attempt wherever that is right.
 *
 * Order: the calls of one transaction that one thread makes take effect in the order in which they
 * were made, without waiting for their futures; reads run side by side. A future of put, insert,
 * delete, mutate or lock that is freed or cancelled before it is ready spoils the transaction: its
 * commit fails with CANCELLED. In an optimistic transaction those futures are ready when the call
 * returns. kvs_error_retry_txn says of an error whether the whole transaction should be tried again
 * from its begin. Any call may come from any thread; one transaction should be driven by one.
 *
 * Keys are 1 to 8192 bytes, values 0 to 16 MiB; on TiKV a write is at most what its raft log takes.
 */
#ifndef KVS_TXN_H
#define KVS_TXN_H

#include <kvs/store.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct kvs_txn_client kvs_txn_client;
typedef struct kvs_txn kvs_txn;
typedef struct kvs_snapshot kvs_snapshot;

/* Timestamps: milliseconds since 1970 << 18, and a number within the millisecond. */
#define KVS_TXN_TS_LOGICAL_BITS 18u
#define KVS_TXN_TS_LATEST UINT64_MAX

/* --- clients ---------------------------------------------------------------------------------- */

/*
 * Opens a client. The future gives a kvs_txn_client * by kvs_future_get_pointer, which the caller
 * owns. `options` (may be NULL) as for kvs_store_open: what the scheme has no use for is not looked
 * at. Errors: those of kvs_store_open; UNSUPPORTED for kvs://.
 */
kvs_future *kvs_txn_client_open(kvs_runtime *runtime, const char *url,
                                const struct kvs_store_options *options);

/* A client on the data of an open store in this process, which may be closed before or after it:
 * the last one closes the directory. UNSUPPORTED for other stores. */
kvs_future *kvs_txn_client_on_store(kvs_store *store);

/* Lets what is in flight and in the background end, and frees the client when the future is ready.
 * No other thread may be inside a call on the client or one of its transactions meanwhile, and none
 * on the client may begin after this one. Transactions that are still there can only be freed
 * afterwards: their calls end in CLOSED. */
kvs_future *kvs_txn_client_close(kvs_txn_client *client);

/* A fresh timestamp: no later begin has a smaller one. Number. */
kvs_future *kvs_txn_current_timestamp(kvs_txn_client *client);

/* --- transactions ----------------------------------------------------------------------------- */

#define KVS_TXN_LOCK_NO_WAIT (-1)

enum kvs_txn_priority {
    KVS_TXN_PRIORITY_NORMAL = 0,
    KVS_TXN_PRIORITY_LOW = 1,
    KVS_TXN_PRIORITY_HIGH = 2
};

/* What kvs_txn_free does with a transaction that was neither committed nor rolled back. */
enum kvs_txn_on_drop {
    KVS_TXN_DROP_ROLLBACK = 0, /* gives its locks back, in the background */
    KVS_TXN_DROP_LEAVE = 1,    /* leaves its locks to end by themselves, after some 20 seconds; in
                                  process, also with the next opening */
};

/* Zero means the default in every field. Set size = sizeof(struct kvs_txn_options). */
struct kvs_txn_options {
    uint32_t size;
    bool pessimistic;
    bool read_only; /* writes, locks and reads for update are refused */
    /* A small commit takes one round of requests in place of two, and in one region one request: */
    bool no_async_commit; /* not the former */
    bool no_one_pc;       /* not the latter */
    bool causal_only;     /* commits may be ordered before earlier ones that it did not read from:
                             saves a question for the time */
    uint8_t priority;     /* enum kvs_txn_priority; TiKV */
    uint8_t on_drop;      /* enum kvs_txn_on_drop */
    uint8_t reserved;
    int32_t lock_wait_ms;    /* pessimistic: how long a call waits for locks of others; default
                               20000; KVS_TXN_LOCK_NO_WAIT: not at all */
    uint32_t timeout_ms;     /* of each call, commit included; default the client's. In process it
                                is kept only when one of the two was given */
    uint64_t size_bytes_max; /* of all that it writes; default 100 MiB. Over it: TXN_TOO_LARGE */
    uint32_t count_max;      /* keys that it writes; default 300000 */
};

/* Begins a transaction, at once. NULL: no memory. Wrong options are told by its calls; so is a
 * start that PD did not give within the time of a call. */
kvs_txn *kvs_txn_begin(kvs_txn_client *client, const struct kvs_txn_options *options);

/* Frees it, in any state, without waiting. Its calls that are not ready end in CANCELLED, a commit
 * goes on. NULL is allowed. */
void kvs_txn_free(kvs_txn *txn);

kvs_future *kvs_txn_start_timestamp(kvs_txn *txn); /* number */

/* Reads: as of the start, and the transaction's own writes. */
kvs_future *kvs_txn_get(kvs_txn *txn, kvs_slice key);    /* value; NOT_FOUND */
kvs_future *kvs_txn_exists(kvs_txn *txn, kvs_slice key); /* number: 0 or 1 */
/* Pairs in the order asked; `found` tells which exist. */
kvs_future *kvs_txn_batch_get(kvs_txn *txn, const kvs_slice *keys, size_t count);
/*
 * Pairs of start <= key < end in order (flags KVS_OP_FLAG_*: reverse, keys only, page); an empty
 * start or end is no bound. The first `limit`, over as many pages of the servers as it takes; limit
 * 0, or the flag page: one page of about 1 MiB. The number is 1 when the range has more: go on
 * behind the last key (reverse: with it as end).
 */
kvs_future *kvs_txn_scan(kvs_txn *txn, kvs_slice start, kvs_slice end, uint32_t limit,
                         unsigned flags);

/* Reads that also lock, also when there is no such key: no other transaction changes it before this
 * one has ended. Pessimistic: locks now, and gives the newest value, also one newer than the start.
 * Optimistic: as get; commit fails when the key was changed. */
kvs_future *kvs_txn_get_for_update(kvs_txn *txn, kvs_slice key);
kvs_future *kvs_txn_batch_get_for_update(kvs_txn *txn, const kvs_slice *keys, size_t count);

/* Writes. Inserting a key that exists is ALREADY_EXISTS: at once (pessimistic, or written by the
 * transaction itself), else at commit. */
kvs_future *kvs_txn_put(kvs_txn *txn, kvs_slice key, kvs_slice value);
kvs_future *kvs_txn_insert(kvs_txn *txn, kvs_slice key, kvs_slice value);
kvs_future *kvs_txn_delete(kvs_txn *txn, kvs_slice key);
/* Sets and removes, with one round of locks. Families and ranges are not allowed. */
kvs_future *kvs_txn_mutate(kvs_txn *txn, const kvs_mutation *mutations, size_t count);
/* wait_ms: 0: the transaction's lock_wait_ms; KVS_TXN_LOCK_NO_WAIT. LOCK_TIMEOUT, DEADLOCK. */
kvs_future *kvs_txn_lock(kvs_txn *txn, const kvs_slice *keys, size_t count, int32_t wait_ms);
/*
 * The same in share mode: others may lock the keys so, too, but nobody writes them. Pessimistic; an
 * optimistic transaction locks them for itself. As with TiKV's own clients the transaction needs a
 * key for itself first (written, locked, read for update), and what it shares it can neither write
 * nor lock for itself: both INVALID_ARGUMENT. Its commit takes two phases.
 */
kvs_future *kvs_txn_lock_shared(kvs_txn *txn, const kvs_slice *keys, size_t count, int32_t wait_ms);

/*
 * Commits. The number is the commit timestamp, 0 when nothing was written. After any error but
 * OUTCOME_UNKNOWN nothing has been written. WRITE_CONFLICT, ALREADY_EXISTS, LOCK_LOST,
 * TXN_TOO_OLD, TXN_TOO_LARGE, TIMEOUT; OUTCOME_UNKNOWN exactly when the deciding request was sent
 * and not answered. Every call after it is INVALID_ARGUMENT.
 */
kvs_future *kvs_txn_commit(kvs_txn *txn);
/* Ready when the locks are given back; or when the time is over: then they end by themselves. */
kvs_future *kvs_txn_rollback(kvs_txn *txn);

/* --- snapshots -------------------------------------------------------------------------------- */

/* Reads as of `timestamp`; 0: as of now; KVS_TXN_TS_LATEST: each read gives the newest. One that is
 * still to come (of TiKV: more than a minute by this machine's clock) has its calls end in
 * INVALID_ARGUMENT. NULL: no memory. */
kvs_snapshot *kvs_snapshot_new(kvs_txn_client *client, uint64_t timestamp);
void kvs_snapshot_free(kvs_snapshot *snapshot);             /* NULL is allowed */
kvs_future *kvs_snapshot_timestamp(kvs_snapshot *snapshot); /* number */
kvs_future *kvs_snapshot_get(kvs_snapshot *snapshot, kvs_slice key);
kvs_future *kvs_snapshot_exists(kvs_snapshot *snapshot, kvs_slice key);
kvs_future *kvs_snapshot_batch_get(kvs_snapshot *snapshot, const kvs_slice *keys, size_t count);
kvs_future *kvs_snapshot_scan(kvs_snapshot *snapshot, kvs_slice start, kvs_slice end,
                              uint32_t limit, unsigned flags);

/* --- the whole -------------------------------------------------------------------------------- */

/* Zero means the default in every field. Set size = sizeof(struct kvs_txn_run_options). */
struct kvs_txn_run_options {
    uint32_t size;
    uint32_t attempts_max;             /* default 20 */
    uint32_t timeout_ms;               /* then no further attempt begins; default 60000 */
    const struct kvs_txn_options *txn; /* copied; NULL: the defaults */
};

/*
 * Has `fn` do its work in a transaction, on a loop of the runtime. When the future that it returns
 * is ready with success the transaction is committed, else rolled back; where kvs_error_retry_txn
 * says so, of its error or the commit's, the whole begins anew after a random wait. The result is
 * the last error; the number is the commit timestamp; value, pairs and pointer are those of fn's
 * last future. `fn` borrows txn, must not end it, and may be called again; NULL from it is
 * NO_MEMORY.
 */
typedef kvs_future *kvs_txn_fn(kvs_txn *txn, void *arg);
kvs_future *kvs_txn_run(kvs_txn_client *client, kvs_txn_fn *fn, void *arg,
                        const struct kvs_txn_run_options *options);

/* The same on the calling thread, which may wait on futures in `fn`, and does so here: not on a
 * loop. Returns the last error; *ret_commit_ts (may be NULL) is set on success. */
typedef int kvs_txn_blocking_fn(kvs_txn *txn, void *arg);
int kvs_txn_run_blocking(kvs_txn_client *client, kvs_txn_blocking_fn *fn, void *arg,
                         const struct kvs_txn_run_options *options, uint64_t *ret_commit_ts);

/* --- what an error was about ------------------------------------------------------------------ */

/* Empty or 0 where the error does not tell. The slices are the future's. */
typedef struct kvs_txn_conflict {
    kvs_slice key;
    kvs_slice primary;           /* first key of the other transaction */
    uint64_t start_ts;           /* of this transaction */
    uint64_t conflict_ts;        /* start of the other one: conflict, lock, deadlock */
    uint64_t conflict_commit_ts; /* write conflict */
    uint64_t lock_ttl_ms;        /* lock */
} kvs_txn_conflict;

/* After WRITE_CONFLICT, ALREADY_EXISTS, DEADLOCK, LOCK_TIMEOUT or LOCK_LOST: 0; else NOT_FOUND. */
int kvs_future_get_txn_conflict(const kvs_future *future, kvs_txn_conflict *ret_conflict);

/* --- housekeeping: it takes its time; kvs_future_timeout gives it less ------------------------ */

/*
 * Gives up what only reads before `safe_point` can see: has nobody begin below it any more, ends
 * all older transactions' locks, then has old versions removed: a TiKV cluster does so by itself,
 * later; in process it is done when the future is ready. The number is the safe point that holds:
 * another one's may be higher; a barrier or service safe point of PD (a backup's, say) holds it
 * back. Whoever keeps data in TiKV without TiDB has to call it now and then. One that is still to
 * come: INVALID_ARGUMENT; PD refuses: IO, with its words. Reads, locks and commits of snapshots and
 * transactions that are older end in TXN_TOO_OLD from then on: in process all, of a cluster those
 * of this client, also when the locks could not be ended. Other clients of a cluster hear of it
 * within ten seconds (this one of theirs); what is removed until then they may miss without an
 * error: end such transactions before. A client ends the locks of its own keyspace: where several
 * share PD's safe points, kvs_txn_cleanup_locks in the others comes first (kvs-server keeps what a
 * lock needs, TiKV does not).
 */
kvs_future *kvs_txn_gc(kvs_txn_client *client, uint64_t safe_point);
/* Ends the locks of dead transactions that began at or before `timestamp`, as a read that meets
 * them would; those alive are waited for. Number: how many. A timestamp as for kvs_snapshot_new. */
kvs_future *kvs_txn_cleanup_locks(kvs_txn_client *client, kvs_slice start, kvs_slice end,
                                  uint64_t timestamp);
/* Removes every version of start <= key < end, past snapshots and locks notwithstanding. Neither
 * bound may be empty. */
kvs_future *kvs_txn_unsafe_destroy_range(kvs_txn_client *client, kvs_slice start, kvs_slice end);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

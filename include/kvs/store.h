/*
 * kvs/store.h: an ordered key-value store, asynchronously; where it lives is chosen by a URL.
 *
 *   log:DIR            in this process, durable, in the directory DIR (made when missing)
 *   rocksdb:DIR        the same, for data whose keys do not fit in memory (in builds with
 *                      librocksdb)
 *   memory:            in this process, gone when closed
 *   kvs://HOST[:PORT]  on a kvs-server (port 4000 when left out)
 *   tikv://PD[,PD...][/KEYSPACE]
 *                      on a TiKV cluster, through its raw API; PD is HOST[:PORT] (port 2379 when
 *                      left out) of any members of PD
 *
 * Keys are 1 to 8192 bytes, values 0 to 16 MiB (a server may announce other limits), any bytes;
 * keys are ordered as unsigned bytes. Every call may come from any thread.
 *
 * Two ways to call, over one mechanism:
 *   futures        kvs_store_get(store, key) and so on: inputs are copied, the result the future's
 *   caller-owned   a struct kvs_op, by kvs_store_submit: no allocation, inputs stay the caller's
 *
 * Writes are applied in the order in which one thread submits them. A read submitted after a write
 * was reported done sees it. A read that is in flight together with a write may or may not see it.
 *
 * Every call can have a deadline and can be cancelled, and then ends at once, with TIMEOUT or
 * CANCELLED, or with OUTCOME_UNKNOWN for a set, remove, compare-and-set, batch or removed range
 * that may happen nonetheless (because it was sent, or because the disk of this process is at work
 * on it). A sync, a compaction or a checkpoint that is given up goes on by itself. kvs_store_close
 * waits for what still happens in this process. What is in memory is answered before any deadline.
 *
 * tikv:// gives what TiKV's raw API gives, which is less here and there:
 *   order          sets, removes and compare-and-sets of one key: as said above; different keys,
 *                  batches and ranges that are in flight together: any order
 *   batch write    all or none only if it is sets alone or removes alone, of one family and one
 *                  region, of at most 1024 keys and 1 MiB. Else its parts are written in parallel,
 *                  a range after all before it and before all behind it. When a part fails after
 *                  another was written the error is OUTCOME_UNKNOWN
 *   remove         looks whether the key is there, then removes it: two steps
 *   remove range   counts, then removes region by region: not atomic, `number` is what it counted
 *   compare-and-set, sets, removes, batches see each other (unless plain_writes); ranges do not
 *   ttl_ms         whole seconds, rounded up; UNSUPPORTED by a cluster without TTL
 *   checksum       with a keyspace the prefix of its keys is part of them, in CRC and bytes. Each
 *                  region is looked at by itself: a write in between may be seen or not
 *   column family  0 default, 1 write, 2 lock; with a keyspace only 0
 *   size           what the cluster's raft log takes, 8 MiB unless it is told otherwise: TOO_LARGE
 *   compact        UNSUPPORTED; sync: nothing to do, TiKV acknowledges what is on disk
 *   lost connections   sets, removes and ranges are sent again, which is the same unless another
 *                  client wrote the key in between; not a compare-and-set: OUTCOME_UNKNOWN
 */
#ifndef KVS_STORE_H
#define KVS_STORE_H

#include <kvs/error.h>
#include <kvs/future.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct kvs_store kvs_store;

#define KVS_KEY_SIZE_MAX 8192u
#define KVS_VALUE_SIZE_MAX (16u * 1024 * 1024)
#define KVS_BATCH_COUNT_MAX 65536u                   /* keys or mutations in one batch */
#define KVS_BATCH_SIZE_MAX (32u * 1024 * 1024)       /* their bytes together, with 32 for each */
#define KVS_TTL_MS_MAX (100ull * 365 * 24 * 3600000) /* a hundred years */

/* When is a write acknowledged? */
enum kvs_sync {
    KVS_SYNC_ALWAYS = 0,   /* when it is synced to the disk: survives a power cut (default) */
    KVS_SYNC_INTERVAL = 1, /* when the system has it: survives a kill -9; synced every second */
    KVS_SYNC_NEVER = 2,    /* as interval, but synced only when it is closed */
};

/* How does a read wait that has to wait for a file? */
enum kvs_file_io {
    KVS_FILE_IO_AUTO = 0,  /* what was measured to be faster */
    KVS_FILE_IO_POOL = 1,  /* on a thread of the pool for blocking calls */
    KVS_FILE_IO_URING = 2, /* by io_uring, one thread for all; UNSUPPORTED where there is none */
};

/* Zero means the default in every field. Set size = sizeof(struct kvs_store_options). */
struct kvs_store_options {
    uint32_t size;
    /* log:, rocksdb: and memory: */
    enum kvs_sync sync;
    uint32_t sync_interval_ms;   /* for KVS_SYNC_INTERVAL; default 1000 */
    uint32_t value_size_max;     /* default KVS_VALUE_SIZE_MAX, at most 64 MiB */
    uint64_t segment_size_bytes; /* log: of one file; 64 MiB, or disk / 16 below 1 GiB */
    uint64_t cache_size_bytes;   /* log: memory for values, rocksdb: for blocks of its files;
                                    default a quarter of the machine's */
    bool must_exist;             /* log and rocksdb: fail when DIR has no store yet */
    /* kvs:// */
    uint32_t connections;        /* connections to the server; default 1 */
    uint32_t connect_timeout_ms; /* default 5000 */
    uint32_t timeout_ms; /* deadline of a call that sets none; default 30000, in process none */
    /* tikv:// (connections: so many loops take part, each with its own; the times hold, too).
     * Strings are copied. */
    const char *keyspace; /* name: keys are those of a keyspace, by API V2; NULL: API V1 */
    /* kvs:// and tikv://: TLS, when any of these (PEM) is given; files are read in the call. */
    const char *tls_ca;          /* authorities to trust; default those of the system */
    const char *tls_certificate; /* who this client is, for servers that ask */
    const char *tls_key;
    bool plain_writes; /* no latches of TiKV: faster; a compare-and-set beside may not see them */
    enum kvs_file_io file_io; /* log: */
    bool cache_prefault;      /* log: memory for all of the cache is made by the open, and kept */
};

/*
 * Opens a store; `options` may be NULL. The future gives a kvs_store * by kvs_future_get_pointer:
 * the caller owns it from then on and closes it with kvs_store_close. kvs:// becomes ready when the
 * first connection stands. Errors: INVALID_ARGUMENT (the message says what is wrong with the URL),
 * NO_DIRECTORY, PERMISSION, READ_ONLY, LOCKED, WRONG_ENGINE, CORRUPTION, IO, NO_SPACE,
 * TOO_MANY_FILES, ADDRESS, CONNECT, VERSION, PROTOCOL.
 */
kvs_future *kvs_store_open(kvs_runtime *runtime, const char *url,
                           const struct kvs_store_options *options);

/*
 * Closes: lets what is in flight finish, syncs, and frees the store when the future is ready, also
 * when that has an error: of the last sync. But a compaction ends with KVS_ERR_CANCELLED; what it
 * has done stays. No call may begin after this one.
 */
kvs_future *kvs_store_close(kvs_store *store);

/* --- caller-owned operations ------------------------------------------------------------------ */

enum kvs_op_kind {
    KVS_OP_GET = 1,      /* key; gives value. NOT_FOUND */
    KVS_OP_EXISTS,       /* key; gives number 0 or 1 */
    KVS_OP_SET,          /* key, value, ttl_ms */
    KVS_OP_REMOVE,       /* key. NOT_FOUND when there was none */
    KVS_OP_CAS,          /* key, expected (or flag EXPECT_ABSENT), value, ttl_ms. CONDITION_FAILED,
                            then value and number tell what is there (number 0: nothing) */
    KVS_OP_BATCH_GET,    /* keys; gives pairs in the order asked. TOO_LARGE when several values
                            together are over KVS_BATCH_SIZE_MAX */
    KVS_OP_BATCH_WRITE,  /* mutations: all or none; removing a missing key is no error here */
    KVS_OP_SCAN,         /* key <= k < end_key, limit, flags; gives pairs and `more` */
    KVS_OP_COUNT,        /* key <= k < end_key; gives number */
    KVS_OP_REMOVE_RANGE, /* key <= k < end_key, atomic; gives number removed */
    KVS_OP_PING,
    KVS_OP_STATS,    /* gives value: a JSON object */
    KVS_OP_SYNC,     /* done when all writes acknowledged before are on the disk */
    KVS_OP_COMPACT,  /* done when the space of dead records has been given back */
    KVS_OP_TTL,      /* key; gives number: milliseconds left to it, 0: it does not end. NOT_FOUND */
    KVS_OP_CHECKSUM, /* key <= k < end_key; gives value: 24 bytes for kvs_checksum_read */
    KVS_OP_CHECKPOINT, /* key: where to, see kvs_store_checkpoint */
};

/* What a range holds, to be compared with another store's. */
struct kvs_checksum {
    uint64_t crc64_xor; /* all pairs' CRC-64 (ECMA-182, reflected) of key and value, by XOR */
    uint64_t keys;
    uint64_t bytes; /* of keys and values */
};

/* In ranges an empty key means from the first key, an empty end_key means to the last. */
#define KVS_OP_FLAG_REVERSE 1u       /* scan: from the last key of the range downwards */
#define KVS_OP_FLAG_KEYS_ONLY 2u     /* scan: no values */
#define KVS_OP_FLAG_EXPECT_ABSENT 4u /* cas: write only when the key does not exist */
#define KVS_OP_FLAG_PAGE 256u        /* scan: end at one page (1 MiB) also below `limit` */
/*
 * get, scan: a wish for no copy. With op.borrowed the result lies in the store's own memory. Until
 * kvs_op_release or kvs_future_free it stays as it is, whatever is set, removed, compacted, expires
 * or is closed, and is read and given back on any thread. Nobody waits for it, but what it lies in
 * stays in memory till then, beyond the cache's limit: for results that are given back soon.
 *   log:     what is in memory, of gets from 1 KiB on; segments (64 MiB) that are lent from stay
 *   memory:  gets; the key and its value stay
 *   others   copy, as log: does what it reads from files, and memory: in scans
 */
#define KVS_OP_FLAG_BORROW 512u

enum kvs_mutation_kind {
    KVS_MUTATION_SET = 1,
    KVS_MUTATION_REMOVE = 2,
    KVS_MUTATION_REMOVE_RANGE = 3, /* from key up to, not with, value; empty: no bound */
};

/* One change of a batch. A later mutation of the same key wins. */
typedef struct kvs_mutation {
    uint8_t kind;   /* enum kvs_mutation_kind */
    uint8_t family; /* column family; 0, the default, unless a model of its own uses another */
    uint16_t reserved;
    kvs_slice key;
    kvs_slice value;
    uint64_t ttl_ms; /* 0: no end of life; at most KVS_TTL_MS_MAX */
} kvs_mutation;

typedef struct kvs_op kvs_op;
typedef void kvs_op_fn(kvs_op *op);

/*
 * An operation that the caller owns. Start from KVS_OP_INIT, fill the request, submit it; from then
 * until on_done is called it and all its inputs belong to the store. In on_done (on a loop of the
 * runtime, never inside the submit, but see submit_here) the results are readable; kvs_op_release
 * gives back what they hold. The memory may be submitted again after that.
 */
struct kvs_op {
    uint32_t size; /* sizeof(kvs_op) */

    /* the request */
    uint8_t kind;        /* enum kvs_op_kind */
    uint8_t family;      /* column family, 0 by default */
    uint16_t flags;      /* KVS_OP_FLAG_* */
    uint32_t limit;      /* scan: this many pairs, if there are; 0: what fits in a page (1 MiB) */
    uint32_t timeout_ms; /* deadline; 0: the store's default. In process, an op with one that is not
                            answered at once costs a copy of its inputs */
    uint32_t count;      /* number of keys or mutations */
    kvs_slice key;
    kvs_slice value;
    kvs_slice end_key;
    kvs_slice expected;
    uint64_t ttl_ms;
    const kvs_slice *keys;
    const kvs_mutation *mutations;
    kvs_op_fn *on_done;
    void *user; /* the caller's */

    /* the result */
    int error;
    bool more;     /* scan: the range has more; go on after the last key */
    bool borrowed; /* get, scan: kvs_op_release gives result or pairs back to the store */
    int64_t number;
    kvs_slice result; /* value of get, cas and checksum, JSON of stats */
    kvs_pair *pairs;
    size_t pairs_count;
    char message[160]; /* what failed and where; "" when the code says all */

    /* the store's own */
    void *reserved[40];
};

#define KVS_OP_INIT KVS_SIZED(kvs_op)

/* Starts an operation; see struct kvs_op. Misuse too is reported through on_done. Any thread. */
void kvs_store_submit(kvs_store *store, kvs_op *op);
/* Starts several with one crossing of threads. Any thread. */
void kvs_store_submit_many(kvs_store *store, kvs_op **ops, size_t count);
/* The same without a loop in between, in process: on_done is called where the operation ends, often
 * inside this call. So it must neither submit nor wait. */
void kvs_store_submit_here(kvs_store *store, kvs_op **ops, size_t count);

/* Asks for an operation to be given up: on_done comes soon, with KVS_ERR_CANCELLED unless it was
 * already done (OUTCOME_UNKNOWN for a write that was sent). In process that is so for operations
 * with a deadline (UINT32_MAX will do). Without one the engine works with the caller's memory until
 * it has ended: then reads end soon, but for a count that is under way, and all else ends as if
 * nothing had been asked. Any thread, before on_done returns. */
void kvs_store_cancel(kvs_store *store, kvs_op *op);

/* Frees what the results hold and zeroes them. On any thread, after on_done began. */
void kvs_op_release(kvs_op *op);

/* --- futures: inputs are copied before the call returns --------------------------------------- */

kvs_future *kvs_store_get(kvs_store *store, kvs_slice key);    /* value; lent: kvs_store_call */
kvs_future *kvs_store_exists(kvs_store *store, kvs_slice key); /* number */
kvs_future *kvs_store_set(kvs_store *store, kvs_slice key, kvs_slice value);
kvs_future *kvs_store_set_ttl(kvs_store *store, kvs_slice key, kvs_slice value, uint64_t ttl_ms);
kvs_future *kvs_store_remove(kvs_store *store, kvs_slice key);
/* expected NULL: the key must not exist. On CONDITION_FAILED kvs_future_get_number and
 * kvs_future_get_value are readable nonetheless: 0, or 1 and the value that is there. */
kvs_future *kvs_store_compare_and_set(kvs_store *store, kvs_slice key, const kvs_slice *expected,
                                      kvs_slice value);
kvs_future *kvs_store_batch_get(kvs_store *store, const kvs_slice *keys, size_t count); /* pairs */
kvs_future *kvs_store_batch_write(kvs_store *store, const kvs_mutation *mutations, size_t count);
/* Pairs: the first `limit` of the range in its order (flags KVS_OP_FLAG_*); limit 0: one page. The
 * number is 1 when the range has more: go on behind the last key (reverse: with it as end). */
kvs_future *kvs_store_scan(kvs_store *store, kvs_slice start, kvs_slice end, uint32_t limit,
                           unsigned flags);
kvs_future *kvs_store_count(kvs_store *store, kvs_slice start, kvs_slice end);        /* number */
kvs_future *kvs_store_checksum(kvs_store *store, kvs_slice start, kvs_slice end);     /* value */
kvs_future *kvs_store_ttl(kvs_store *store, kvs_slice key);                           /* number */
kvs_future *kvs_store_remove_range(kvs_store *store, kvs_slice start, kvs_slice end); /* number */
kvs_future *kvs_store_ping(kvs_store *store);
kvs_future *kvs_store_stats(kvs_store *store); /* value: JSON */
kvs_future *kvs_store_sync(kvs_store *store);
kvs_future *kvs_store_compact(kvs_store *store);
/*
 * An online backup: a copy of all data, as of some moment of the call, in a new directory that
 * log: or rocksdb: opens. On log: and rocksdb: stores `directory` is a path; on kvs:// a name below
 * the server's --backup-dir (1 to 64 letters, digits, '.', '_', '-'). On the same file system files
 * that do not change any more are hard links: cheap, but no second copy of their bytes until it is
 * copied elsewhere. ALREADY_EXISTS, UNSUPPORTED (memory:, tikv://, a server without --backup-dir),
 * INVALID_ARGUMENT, NO_SPACE, IO; what was made of the directory stays then, without its file KVS.
 */
kvs_future *kvs_store_checkpoint(kvs_store *store, kvs_slice directory);
/* Any kind, with its deadline: a copy of the request part of `op` (and of all it points to). */
kvs_future *kvs_store_call(kvs_store *store, const kvs_op *op);

/* What KVS_OP_CHECKSUM gave: three little-endian numbers of 64 bits. Returns 0, or
 * INVALID_ARGUMENT for anything but 24 bytes. */
int kvs_checksum_read(kvs_slice value, struct kvs_checksum *ret_checksum);

/* Bytes of a string without its final NUL. */
kvs_slice kvs_slice_of(const char *string);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

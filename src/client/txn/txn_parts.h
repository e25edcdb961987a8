/*
 * client/txn/txn_parts.h: a transaction and its operations, for the files that make them up.
 *
 * The life of an operation:
 *   1. a call of kvs/txn.h makes a future, whose payload is a struct txn_request; what needs no
 *      waiting (a buffered write, a read of one's own write, a read of memory) ends here;
 *   2. else the inputs are copied and it joins the transaction's queue;
 *   3. on the loop it begins when its turn has come: a read when nothing before it changes the
 *      transaction, anything else when it is the first;
 *   4. its part (reader, locker, committer) carries it out and calls request_end.
 * The first entry of each queue is the start timestamp: nothing begins before it.
 *
 * A transaction lives while somebody holds it: its user, each operation, and what goes on in the
 * background after it ended. The mutex guards what calls from other threads touch: queue, state,
 * writes, view. While something exclusive runs, the writes are its alone: it reads them unlocked.
 */
#ifndef CLIENT_TXN_TXN_PARTS_H
#define CLIENT_TXN_TXN_PARTS_H

#include "client/txn/client.h"
#include "client/txn/reader.h"
#include "client/txn/write_buffer.h"
#include "runtime/future.h"

#define TXN_LOCK_WAIT_DEFAULT_MS 20000
#define TXN_SIZE_DEFAULT_MAX (100ull * 1024 * 1024)
#define TXN_COUNT_DEFAULT_MAX 300000u
#define TXN_LOCK_TTL_MS 20000u /* of locks that a heartbeat keeps alive */

enum txn_state {
    TXN_ACTIVE,
    TXN_ENDING, /* commit or rollback was called */
    TXN_ENDED,
};

enum txn_op_kind {
    OP_TIMESTAMP,
    OP_GET,
    OP_EXISTS,
    OP_BATCH_GET,
    OP_SCAN,
    OP_GET_FOR_UPDATE,
    OP_BATCH_GET_FOR_UPDATE,
    OP_WRITE, /* put, insert, delete, mutate: all are mutations */
    OP_LOCK,
    OP_COMMIT,
    OP_ROLLBACK,
};

struct scanner;
struct locker;
struct committer;

struct txn_request {
    struct list node; /* of the queue, or of those that run */
    kvs_txn *txn;
    uint8_t kind; /* enum txn_op_kind */
    bool runs;
    bool cancelled;
    bool given_up; /* its future was ready before it ended */
    bool insert;
    bool shares; /* locks in share mode */
    bool looked; /* into the writes, when it came */
    bool reverse, keys_only, paged;
    bool before_start; /* the start timestamp was not asked for when it came */
    uint32_t limit;
    int32_t wait_ms;
    uint64_t came_ms; /* of the clock, when it has to wait for the start; else 0 */
    uint64_t deadline_ms;
    kvs_slice start, end;
    const kvs_slice *keys; /* of all kinds but a write and a scan */
    uint32_t keys_count;
    const kvs_mutation *mutations;
    uint32_t mutations_count;
    struct arena arena;    /* of inputs and results */
    struct reader *reader; /* of kinds that read keys; else NULL */
    struct read_key *asks; /* what is read or locked: ascending, none twice */
    uint32_t asks_count;
    const uint32_t *places; /* of each key in the asks */
    struct read_key one;    /* a get's */
    struct read_key *locks; /* what is locked now; index: in the asks */
    uint32_t locks_count;
    struct scanner *scanner;
    struct locker *locker;
    struct committer *committer; /* NULL: not begun, or its future is ready */
    /* results */
    uint64_t number;
    kvs_pair *pairs;
    uint32_t pairs_count;
    bool has_conflict;
    kvs_txn_conflict conflict;
    char message[TXN_WHY_SIZE];
};

/* Most of what a read needs is of no use to a write or a commit: those are a third as large. */
struct read_request {
    struct txn_request request;
    struct reader reader;
};

struct heartbeat {
    struct txn_timer timer;
    struct txn_call *call;
    bool runs;
};

struct kvs_txn {
    kvs_txn_client *client;
    struct txn_shard *shard;
    struct kvs_txn_options options;
    uint32_t given_up_ms; /* in process: the time of a call, whatever the disk does; 0: none */
    const char *refused;  /* what is wrong with the options; NULL: nothing */
    pthread_mutex_t mutex;
    atomic_uint refs;
    enum txn_state state;
    bool freed; /* by its user */
    bool has_start;
    bool asks_start;
    bool left_locks; /* its commit was given up before it began: they go when nothing runs */
    int spoiled;     /* a write was given up: the commit fails with it */
    int start_error;
    struct read_view view; /* ts is the start */
    struct txn_timestamp start_request;
    struct list starting; /* the loop's: of the shard's, while it is asked */
    struct list queue;    /* struct txn_request, not begun */
    struct list running;  /* struct txn_request */
    bool exclusive;       /* what runs changes the transaction */
    struct task task;     /* looks at the queue */
    bool posted;
    struct write_buffer writes;
    uint64_t began_ms; /* of the clock, before it had its start */
    uint64_t start_ms; /* when it had it, if it was waited for */
    /* pessimistic; the loop's */
    kvs_slice primary; /* in the writes' memory */
    uint64_t for_update_ts;
    bool gives_back; /* locks of up to that, at some time: the next one needs a later one */
    struct heartbeat heartbeat;
    char start_why[TXN_WHY_SIZE];
};

/* --- txn.c --- */

kvs_txn *txn_new(kvs_txn_client *client, const struct kvs_txn_options *options, uint64_t start_ts);
/* Any thread. */
void txn_ref(kvs_txn *txn);
void txn_unref(kvs_txn *txn);
/* Its user gives it up. */
void txn_drop(kvs_txn *txn);

/* Since before its start: the lives of locks count from there. */
uint64_t txn_elapsed_ms(const kvs_txn *txn);

/* An operation ends, on the loop; the mutex is not held. */
void request_end(struct txn_request *op, int error);
/* With a message. */
void request_fail(struct txn_request *op, int error, const char *why);

/* Into the queue; the mutex is held. */
void txn_enqueue(struct txn_request *op);
void request_on_cancel(kvs_future *future);

/* --- request.c --- */

/* What is asked for or written, ascending and none twice: asks, places. 0 or NO_MEMORY. */
int request_make_asks(struct txn_request *op);
/* Its error, with this line. */
int request_refuse(struct txn_request *op, int error, const char *why);
/* True: it has its outcome. The mutex is held, as for the next three. */
bool request_try_at_once(struct txn_request *op, int *ret_error);
/* A write of a pessimistic transaction whose locks are held, and that nothing is ahead of. */
bool request_holds_locks(const struct txn_request *op);
/* Would the write be too much for the transaction? 0 or TXN_TOO_LARGE. */
int request_check_size(struct txn_request *op);
/* Into the buffer. */
int request_write_all(struct txn_request *op);
/* The future of a request that has ended; it is not complete yet. */
kvs_future *request_set_outcome(struct txn_request *op, int error);
/* On the loop. */
void request_begin(struct txn_request *op);
/* Its future is ready; the mutex is not held. Nothing of the op may be touched afterwards. */
void request_complete(struct txn_request *op, int error);

/* --- scanner.c --- */

void scan_begin(struct txn_request *op);
void scan_cancel(struct txn_request *op);
void scan_free(struct txn_request *op);

/* --- locker.c: pessimistic locks --- */

/* Locks op->locks; `done` comes later. With want_values their values and found are set then. */
void lock_begin(struct txn_request *op, bool want_values,
                void (*done)(struct txn_request *op, int error));
void lock_cancel(struct txn_request *op);
void lock_free(struct txn_request *op);

/* --- committer.c --- */

void commit_begin(struct txn_request *op);
void rollback_begin(struct txn_request *op);
/* The future of a commit or rollback ends now, whatever becomes of it. */
void commit_cancel(struct txn_request *op);

/* --- background.c --- */

/* Gives back, in the background, the pessimistic locks of the transaction, or of some keys: once
 * more after `again_ms`, if that is not 0, for those that a store may grant meanwhile. */
void txn_release_locks(kvs_txn *txn, const struct read_key *keys, uint32_t count,
                       uint32_t again_ms);

/* --- heartbeat.c --- */

void heartbeat_start(kvs_txn *txn, kvs_slice primary);
void heartbeat_stop(kvs_txn *txn);

/* --- txn_error.c --- */

/* The code of what the rules refuse; fills in what it was about, copied into the arena, and a line.
 * The arena may be NULL: then nothing but the code. */
int txn_error_take(const struct txn_key_error *error, struct arena *arena,
                   kvs_txn_conflict *ret_conflict, char why[TXN_WHY_SIZE]);

#endif

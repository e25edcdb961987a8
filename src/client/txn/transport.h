/*
 * client/txn/transport.h: where the commands of transactions (txn/command.h) are carried out: by
 * the node of this process, or by a TiKV cluster. The rules of a client stand above it and know
 * neither.
 *
 * The life of a call:
 *   1. txn_call_new; the owner sets key, what concerns the command as a whole, and time limits;
 *   2. txn_call_start: the transport finds out where `key` lives;
 *   3. methods->fit cuts the command to what lives together with it, and points it to its inputs;
 *      again, for each attempt, because borders move;
 *   4. methods->done, exactly once, on the shard's loop, never inside txn_call_start or
 *      txn_call_cancel. Error 0: the command has its results, which may be a key error.
 * Errors of a transport are those of connections and time; `why` is a line for a person, and
 * maybe_done tells whether the command may have been carried out nevertheless. Attempts that
 * certainly were not are made again, and so are others: every command may be carried out twice.
 *
 * Inputs are borrowed from start to done. Thread: the shard's loop, but for now and answer.
 */
#ifndef CLIENT_TXN_TRANSPORT_H
#define CLIENT_TXN_TRANSPORT_H

#include "base/list.h"
#include "runtime/loop.h"
#include "txn/command.h"

#define TXN_WHY_SIZE 160u

struct txn_transport;
struct txn_call;

/* User's keys; empty: no bound. */
struct txn_bounds {
    kvs_slice start;
    kvs_slice end;
};

struct txn_call_methods {
    /* Returns 0 or an error, which is then the call's. */
    int (*fit)(struct txn_call *call, const struct txn_bounds *bounds);
    void (*done)(struct txn_call *call, int error);
};

union txn_any {
    struct txn_command base;
    struct txn_get get;
    struct txn_batch_get batch_get;
    struct txn_scan scan;
    struct txn_scan_lock scan_lock;
    struct txn_prewrite prewrite;
    struct txn_commit commit;
    struct txn_batch_rollback rollback;
    struct txn_pessimistic_lock lock;
    struct txn_pessimistic_rollback pessimistic_rollback;
    struct txn_heartbeat heartbeat;
    struct txn_check_status check_status;
    struct txn_check_secondaries check_secondaries;
    struct txn_resolve_lock resolve_lock;
    struct txn_delete_range delete_range;
    struct txn_gc gc;
};

struct txn_call {
    struct txn_transport *transport;
    const struct txn_call_methods *methods;
    struct list node; /* the owner's */
    void *owner;
    uint32_t from, to; /* the owner's: which of its keys */
    uint32_t keys_max; /* of a batch get whose answer was too large; 0: any number */
    uint64_t deadline_ms;
    uint32_t budget_ms; /* of waits between attempts */
    uint8_t priority;   /* enum kvs_txn_priority */
    bool below;         /* routed by the keys just below `key`; empty: by the last of all */
    bool maybe_done;
    bool cancelled;
    kvs_slice key;   /* routes it */
    kvs_slice start; /* of commands over ranges: the user's keys; the command's own is not used */
    kvs_slice end;
    char why[TXN_WHY_SIZE]; /* also while it goes on: why it is tried again */
    union txn_any command;
    _Alignas(max_align_t) unsigned char extra[]; /* the transport's */
};

/* A question for the time. The memory is the owner's until done is called. */
struct txn_timestamp {
    struct list node;
    struct txn_transport *transport;
    /* Never inside the call that asks. */
    void (*done)(struct txn_timestamp *request, int error, const char *why);
    uint64_t deadline_ms; /* of a cluster: then TIMEOUT */
    uint64_t ts;
    struct task task;
    void *reserved[4];
};

/* Removal of all that is in [start, end), or of what is older than a safe point. */
struct txn_chore {
    struct txn_transport *transport;
    void (*done)(struct txn_chore *chore, int error, const char *why);
    kvs_slice start;
    kvs_slice end;
    uint64_t safe_point; /* gc: what holds in the end */
    uint64_t deadline_ms;
    bool cancelled; /* nothing more of it begins: it is done when what is under way is */
    void *owner;
    unsigned pending;
    int error;
    char why[TXN_WHY_SIZE];
    _Alignas(max_align_t) unsigned char extra[1024]; /* the transport's */
};

struct txn_transport_methods {
    size_t call_extra;
    void (*start)(struct txn_call *call);
    /* Asks for an early end. Nothing is promised about the outcome but that done is called soon. */
    void (*cancel)(struct txn_call *call);
    /* May be NULL: carries a read out inside the call when nothing has to be waited for. */
    bool (*answer)(struct txn_transport *transport, struct txn_call *call);
    /* May be NULL: a timestamp at once, if there is one. Any thread. */
    bool (*now)(struct txn_transport *transport, uint64_t *ret_ts);
    /* May be NULL: not below any timestamp that was given to anybody by now. */
    uint64_t (*given)(struct txn_transport *transport);
    void (*timestamp)(struct txn_timestamp *request);
    /* May be NULL: it comes soon. Nobody wants the answer of a question that was asked; it may have
     * ended. If not, done is called soon, but not inside. */
    void (*give_up_timestamp)(struct txn_timestamp *request);
    /* May be NULL. Nobody who asks for it begins below chore->safe_point any more; it becomes
     * lower where somebody holds it back. Then gc, for the same chore. */
    void (*gc_begin)(struct txn_chore *chore);
    void (*gc)(struct txn_chore *chore);
    void (*destroy_range)(struct txn_chore *chore);
    /* Once: `opened` is called when calls can be made, or not. */
    void (*open)(struct txn_transport *transport);
    /* At the end of each turn; when it is due again. */
    void (*run)(struct txn_transport *transport, uint64_t now_ms);
    uint64_t (*timer)(const struct txn_transport *transport);
    /* No calls are under way; `closed` is called, in a later turn. */
    void (*close)(struct txn_transport *transport);
    /* After that. */
    void (*free)(struct txn_transport *transport);
};

struct txn_transport {
    const struct txn_transport_methods *methods;
    struct loop *loop;
    void *owner;
    void (*opened)(struct txn_transport *transport, int error, const char *why);
    void (*closed)(struct txn_transport *transport);
    /* How much one command may carry: see txn_load_add. */
    uint32_t batch_count_max;
    size_t batch_bytes_max;
    /* Transactions that began before it are over, whatever their locks say: they are resolved when
     * they are met. 0: nothing is known. */
    uint64_t dead_before_ts;
};

/* A zeroed call of the command's kind; NULL: no memory. */
struct txn_call *txn_call_new(struct txn_transport *transport, enum txn_command_kind kind,
                              const struct txn_call_methods *methods, void *owner);
/* The same in the memory of a call that is not under way any more, whose results go. */
void txn_call_renew(struct txn_call *call, enum txn_command_kind kind,
                    const struct txn_call_methods *methods, void *owner);
/* Frees it and its results; it is not under way. Any thread. */
void txn_call_free(struct txn_call *call);

static inline void txn_call_start(struct txn_call *call)
{
    call->transport->methods->start(call);
}

void txn_call_cancel(struct txn_call *call);

/* Is `key` inside of the bounds? */
static inline bool txn_bounds_below_end(const struct txn_bounds *bounds, kvs_slice key)
{
    return bounds->end.size == 0 || slice_compare(key, bounds->end) < 0;
}

static inline bool txn_bounds_above_start(const struct txn_bounds *bounds, kvs_slice key)
{
    return slice_compare(bounds->start, key) <= 0;
}

/* A key that is rolled back is written four times over, encoded, which takes an eighth more. */
#define TXN_LOAD_PER_KEY_BYTE 5u

/* What a command carries so far. */
struct txn_load {
    uint32_t count;
    size_t bytes;
};

/* Adds a key and what is written beside it. False: the command has no room; for a first one it has.
 */
static inline bool txn_load_add(struct txn_load *load, const struct txn_transport *transport,
                                kvs_slice key, size_t beside)
{
    size_t bytes = load->bytes + TXN_LOAD_PER_KEY_BYTE * key.size + beside;
    if (load->count > 0 &&
        (load->count == transport->batch_count_max || bytes > transport->batch_bytes_max))
        return false;
    load->count++;
    load->bytes = bytes;
    return true;
}

/* Of keys[call->from..call->to), ascending: the end of those that go together with the first. */
uint32_t txn_call_keys_end(const struct txn_call *call, const struct txn_bounds *bounds,
                           const kvs_slice *keys);

#endif

/*
 * server/tikv_txn.h: what the files of the transactional commands share.
 *
 * The life of one:
 *   1. it is checked (tikv_region.c) and becomes a command of the node, in the message's arena;
 *   2. a read that needs no waiting is answered on the spot; others go to the node, which has a
 *      pool for them; the writes of all messages of a turn go to it as one chain;
 *   3. when the node has carried it out, `answer` makes the message, on the connection's loop.
 *
 * Failures: as tikv_service.h; what the rules of transactions refuse is a KeyError. A write that
 * fails on the disk may be there after a restart: UndeterminedResult. Lock waits that end because
 * the server does: ServerIsBusy. Thread: the connection's loop.
 */
#ifndef SERVER_TIKV_TXN_H
#define SERVER_TIKV_TXN_H

#include "server/tikv_parts.h"

/* Pairs of an answer, in wire form, as the node finds them. */
struct tikv_pairs {
    struct txn_sink sink;
    struct tikv_service *service;
    struct arena *arena; /* the node's, of the command */
    uint32_t number;     /* of their field */
    struct rope body;
};

struct tikv_txn {
    struct tikv_command *command;
    const void *request;
    void (*answer)(struct tikv_txn *txn);
    uint64_t region_id;
    bool is_write;
    struct tikv_long_read long_read;
    struct tikv_pairs pairs;
    union {
        struct txn_command base;
        struct txn_get get;
        struct txn_batch_get batch_get;
        struct txn_scan scan;
        struct txn_scan_lock scan_lock;
        struct txn_prewrite prewrite;
        struct txn_commit commit;
        struct txn_batch_rollback rollback;
        struct txn_cleanup cleanup;
        struct txn_pessimistic_lock lock;
        struct txn_pessimistic_rollback pessimistic_rollback;
        struct txn_heartbeat heartbeat;
        struct txn_check_status check_status;
        struct txn_check_secondaries check_secondaries;
        struct txn_resolve_lock resolve;
        struct txn_delete_range delete_range;
        struct txn_mvcc mvcc;
    } of;
};

/* --- tikv_txn.c: from a command to the node and back ------------------------------------------ */

/* NULL: answered. */
struct tikv_txn *tikv_txn_new(struct tikv_place *place, enum txn_command_kind kind,
                              void (*answer)(struct tikv_txn *txn));
/* On the spot when that can be. */
void tikv_txn_read(struct tikv_txn *txn);
/* A long one. */
void tikv_txn_read_on_pool(struct tikv_txn *txn);
/* At the end of the turn. */
void tikv_txn_write(struct tikv_txn *txn);

/* Each returns false when it has answered with an error. */

/* All that the keys have to fulfil, and the region. */
bool tikv_txn_place(struct tikv_place *place, const kvs_slice *keys, size_t count);
/* Copies the array, not the keys. */
bool tikv_txn_slices(struct tikv_command *command, const ProtobufCBinaryData *bytes, size_t count,
                     const kvs_slice **ret_slices);
/* The part of the range within the region, encoded; `from` is where a scan begins, as the client
 * says it. */
bool tikv_txn_range(struct tikv_place *place, kvs_slice from, kvs_slice to, bool reverse,
                    struct txn_range *ret_range);
/* The same without bounds, and without a region. */
bool tikv_txn_encode_range(struct tikv_command *command, kvs_slice start, kvs_slice end,
                           struct txn_range *ret_range);
/* All of the region. */
bool tikv_txn_whole_region(struct tikv_place *place, struct txn_range *ret_range);
/* No timestamp of PD is from far in the future; one that is taken for true would push all commits
 * there. */
bool tikv_txn_check_ts(struct tikv_command *command, uint64_t ts);
/* The same of what a commit or a rollback may be kept at: nor is it the end of time, behind which
 * nobody can write the key again. */
bool tikv_txn_check_commit_ts(struct tikv_command *command, uint64_t ts);

static inline bool txn_range_is_empty(const struct txn_range *range)
{
    return range->end.size > 0 && slice_compare(range->start, range->end) >= 0;
}

/* --- tikv_txn_message.c: what is in several answers; NULL: no memory -------------------------- */

Kvrpcpb__LockInfo *tikv_lock_message(struct arena *arena, const struct txn_lock_info *lock);
/* An array of messages. */
Kvrpcpb__LockInfo **tikv_lock_messages(struct arena *arena, const struct txn_lock_info *locks,
                                       size_t count);
Kvrpcpb__KeyError **tikv_key_error_messages(struct arena *arena, const struct txn_key_error *errors,
                                            size_t count);

/* A sink for what the read finds; `number` is the field of the answer's pairs. */
struct txn_sink *tikv_txn_pairs(struct tikv_txn *txn, uint32_t number);
/* Answers with the error, if there is one, else with the pairs. */
void tikv_txn_answer_pairs(struct tikv_txn *txn, const struct txn_key_error *error);

Deadlock__WaitForEntry **tikv_wait_messages(struct arena *arena, const struct txn_wait_entry *waits,
                                            size_t count);

/* Answers with the error, if there is one. */
bool tikv_txn_answer_error(struct tikv_txn *txn, const struct txn_key_error *error);
/* The same for commands that answer with a list of errors. */
bool tikv_txn_answer_errors(struct tikv_txn *txn, const struct txn_key_error *errors, size_t count);

#endif

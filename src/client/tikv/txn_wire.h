/*
 * client/tikv/txn_wire.h: commands of transactions (txn/command.h) as messages of TiKV, and its
 * answers as their results.
 *
 * Keys get the prefix of their keyspace on the way out, and lose it on the way back. All memory is
 * of the command's arena; results borrow from the decoded answer there. Failures: NO_MEMORY, and
 * PROTOCOL for bytes that are no such answer, or name a key outside of the keyspace. No state.
 */
#ifndef CLIENT_TIKV_TXN_WIRE_H
#define CLIENT_TIKV_TXN_WIRE_H

#include "base/buf.h"
#include "client/txn/transport.h"
#include "kvrpcpb.pb-c.h"

/* "/tikvpb.Tikv/KvGet"; its number in BatchCommands. The kind is one that a client sends. */
kvs_slice txn_wire_path(enum txn_command_kind kind);
uint32_t txn_wire_number(enum txn_command_kind kind);

struct txn_wire_place {
    uint64_t cluster_id;
    uint64_t region_id;
    uint64_t conf_ver;
    uint64_t version;
    uint64_t peer_id;
    uint64_t store_id;
    uint64_t max_execution_ms;
    bool is_v2;
    uint32_t keyspace_id;
    kvs_slice prefix;
    uint32_t scan_limit_max; /* 0: none */
};

/* Appends the request: as it is, or as one command of a BatchCommandsRequest. */
int txn_wire_write(struct txn_call *call, const struct txn_wire_place *place, struct buf *message,
                   bool as_command);

/* Reads the answer. Returns 0: the results are there, or *ret_region_error is set: an encoded
 * errorpb.Error (else its data is NULL). */
int txn_wire_read(struct txn_call *call, const struct txn_wire_place *place, kvs_slice body,
                  kvs_slice *ret_region_error);

#endif

/*
 * proto/tikv/raw_request.h: requests and answers of TiKV's raw API, as a client writes and reads
 * them, alone or many in one BatchCommands message.
 *
 *   1. raw_request_size says how many bytes the message will be, raw_request_write writes it;
 *   2. for a stream, raw_batch_add appends it as one command of a BatchCommandsRequest, and
 *      raw_batch_end appends the ids of all;
 *   3. raw_batch_reply_next takes the answers of a BatchCommandsResponse apart;
 *   4. raw_reply_read reads one answer; pairs are read one by one with raw_reply_next_pair.
 *
 * Keys get the prefix of their keyspace while they are written. Nothing is copied on reading.
 * Failures: bytes that are no such message are KVS_ERR_PROTOCOL. No state, any thread.
 */
#ifndef PROTO_TIKV_RAW_REQUEST_H
#define PROTO_TIKV_RAW_REQUEST_H

#include "base/buf.h"
#include "proto/protobuf.h"

#include <kvs/store.h>

enum raw_kind {
    RAW_GET,
    RAW_BATCH_GET,
    RAW_PUT,
    RAW_BATCH_PUT,
    RAW_DELETE,
    RAW_BATCH_DELETE,
    RAW_SCAN,
    RAW_DELETE_RANGE,
    RAW_CAS,
    RAW_TTL,
    RAW_CHECKSUM,
    RAW_KINDS,
};

/* The column families of TiKV by the number of ours. */
#define RAW_FAMILIES 3u
const char *raw_family_name(unsigned family); /* "", "write", "lock" */

/* "/tikvpb.Tikv/RawGet" */
kvs_slice raw_method_path(enum raw_kind kind);
/* Can it go into a BatchCommands message? */
bool raw_kind_is_batchable(enum raw_kind kind);
bool raw_kind_is_write(enum raw_kind kind);

struct raw_request {
    enum raw_kind kind;
    /* where it goes */
    uint64_t region_id;
    uint64_t conf_ver;
    uint64_t version;
    uint64_t peer_id;
    uint64_t store_id;
    uint64_t cluster_id;
    uint64_t max_execution_ms;
    bool is_v2; /* API V2: keyspace_id holds, and the prefix */
    uint32_t keyspace_id;
    kvs_slice prefix; /* of every key */
    /* what it says */
    const char *family;
    bool for_cas;
    bool keys_only;
    bool reverse;
    bool absent;      /* cas: the key must not exist */
    kvs_slice key;    /* or where a range begins; reverse scan: its upper end, exclusive */
    kvs_slice end;    /* the other end */
    bool end_is_full; /* `end` has the prefix already, or is beyond it */
    bool key_is_full; /* likewise `key` */
    kvs_slice value;
    kvs_slice expected;
    uint64_t ttl_seconds;
    uint32_t limit;
    /* batches: the keys or mutations that order[0..count) names */
    const uint32_t *order;
    uint32_t count;
    const kvs_slice *keys;
    const kvs_mutation *mutations;
};

/* Seconds, rounded up: an end of life is never early. */
static inline uint64_t raw_ttl_seconds(uint64_t ttl_ms)
{
    return ttl_ms / 1000 + (ttl_ms % 1000 != 0);
}

size_t raw_request_size(const struct raw_request *request);
/* Exactly raw_request_size bytes. */
void raw_request_write(const struct raw_request *request, uint8_t *to);

/* Appends one command. Returns 0 or NO_MEMORY. */
int raw_batch_add(struct buf *message, const struct raw_request *request);
/* Appends the ids, in the order of the commands. Returns 0 or NO_MEMORY. */
int raw_batch_end(struct buf *message, const uint64_t *ids, size_t count);

/* One answer of a BatchCommandsResponse. */
struct raw_batch_reply {
    struct protobuf_reader responses;
    struct protobuf_reader fields; /* where ids are looked for */
    struct protobuf_reader ids;    /* a packed list */
};

void raw_batch_reply_begin(struct raw_batch_reply *batch, kvs_slice message);
/* Returns 1 and an answer (its body; the number of its command), 0 at the end, or PROTOCOL. */
int raw_batch_reply_next(struct raw_batch_reply *batch, uint64_t *ret_id, kvs_slice *ret_body,
                         uint32_t *ret_command);
/* The number of a kind's command in the oneof. */
uint32_t raw_command_number(enum raw_kind kind);

struct raw_reply {
    bool has_region_error;
    kvs_slice region_error;         /* an errorpb.Error */
    kvs_slice error;                /* text; empty: none */
    kvs_slice value;                /* get; cas: what was there before */
    bool not_found;                 /* get; cas: nothing was there before */
    bool succeeded;                 /* cas */
    uint64_t ttl_seconds;           /* ttl: 0: it does not end */
    uint64_t checksum, keys, bytes; /* checksum */
    struct protobuf_reader pairs;
};

/* Returns 0 or PROTOCOL. */
int raw_reply_read(enum raw_kind kind, kvs_slice body, struct raw_reply *ret_reply);

struct raw_pair {
    kvs_slice key; /* without the prefix */
    kvs_slice value;
    bool has_error;
};

/* Returns 1 and a pair, 0 at the end, or PROTOCOL (also for a key without the prefix). */
int raw_reply_next_pair(struct raw_reply *reply, kvs_slice prefix, struct raw_pair *ret_pair);

#endif

/* Calls of transactions for tests, in a few words: a node, a peer, and what they say. Times are in
 * milliseconds. */
#ifndef TESTS_UNIT_SERVER_TXN_CALLS_H
#define TESTS_UNIT_SERVER_TXN_CALLS_H

#include "unit/server/tikv_node.h"

#define TS(ms) txn_ts_make(ms, 0)
#define TTL_MS 3000u

extern struct tikv_node *node;
extern struct tikv_peer *peer;
extern struct context at; /* of the first region */

/* Request `name` with a context; `CALL` sends it and gives the answer, of type Kvrpcpb__`type`. */
#define REQUEST(type, name, init)                   \
    Kvrpcpb__##type name = KVRPCPB__##init##__INIT; \
    name.context = &at.context
#define CALL(method, request, type) call(method, &(request), &kvrpcpb__##type##__descriptor)
#define FREE(answer) protobuf_c_message_free_unpacked(&(answer)->base, NULL)

int txn_set_up(void **state);
int txn_tear_down(void **state);
void *call(const char *method, const void *request, const ProtobufCMessageDescriptor *type);
void assert_bytes(ProtobufCBinaryData bytes, const char *text);
kvs_slice encoded(const char *key, uint8_t *to);
/* One mutation of a transaction that began at start_ms. */
Kvrpcpb__PrewriteResponse *prewrite_one(Kvrpcpb__Op op, const char *key, const char *value,
                                        const char *primary, uint64_t start_ms);
void prewrite(const char *key, const char *value, const char *primary, uint64_t start_ms);
Kvrpcpb__CommitResponse *commit_one(const char *key, uint64_t start_ms, uint64_t commit_ms);
/* A whole transaction. */
void put(const char *key, const char *value, uint64_t start_ms);
Kvrpcpb__GetResponse *get_at(const char *key, uint64_t ms);
/* value NULL: there is none. */
void expect_get(const char *key, uint64_t ms, const char *value);
Kvrpcpb__ScanResponse *scan(const char *from, const char *to, uint32_t limit, bool reverse);
/* `keys` has one character for each; upper case: locked. */
void expect_scan(const char *from, const char *to, uint32_t limit, bool reverse, const char *keys);
/* Those with at most this timestamp; one character for each key. */
void expect_locks(uint64_t max_ms, const char *keys);

#endif

/* A client of one PD and one store, over sockets, for tests of transactions: the first region. */
#ifndef TESTS_UNIT_SERVER_TXN_WORLD_H
#define TESTS_UNIT_SERVER_TXN_WORLD_H

#include "unit/server/grpc_peer.h"

#include "kvrpcpb.pb-c.h"

struct txn_world {
    struct grpc_peer pd, store;
    Kvrpcpb__Context context;
    Metapb__RegionEpoch epoch;
    Metapb__Peer peer;
};

/* A unary call that ends with OK; the reply is the caller's to free. */
#define ASK(peer, method, request, type, ret_reply)                                         \
    assert_int_equal(                                                                       \
        grpc_peer_ask(peer, method, &(request).base, &type##__descriptor, ret_reply, NULL), \
        GRPC_OK)
#define FREE(message) protobuf_c_message_free_unpacked(&(message)->base, NULL)

void txn_world_open(struct txn_world *world, const char *pd_address, const char *store_address);
void txn_world_close(struct txn_world *world);
/* Of PD. */
uint64_t txn_world_timestamp(struct txn_world *world);

static inline ProtobufCBinaryData bytes_of(const char *text)
{
    return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
}

#endif

/*
 * client/tikv/txn_transport.h: transactions on a TiKV cluster: each call becomes a request to a
 * region (cluster.h), timestamps come from PD (pd_tso.h). See client/txn/transport.h.
 */
#ifndef CLIENT_TIKV_TXN_TRANSPORT_H
#define CLIENT_TIKV_TXN_TRANSPORT_H

#include "client/txn/transport.h"
#include "net/tls.h"

#include <kvs/thread_pool.h>

struct tikv_transport_options {
    const char *pd;                  /* addresses with commas between */
    const char *keyspace;            /* NULL or "": API V1 */
    struct tls_context *tls_context; /* NULL: no TLS; borrowed */
    kvs_thread_pool *pool;
    uint32_t connect_timeout_ms;
    uint32_t timeout_ms; /* of a question for the time */
    _Atomic uint64_t
        *safe_point; /* of GC, as far as one of the client's transports knows; borrowed */
};

/* Copies the options. Returns 0, or an error with a line for a person. Any thread. */
int tikv_transport_new(const struct tikv_transport_options *options, struct loop *loop,
                       struct txn_transport **ret_transport, char ret_why[320]);

#endif

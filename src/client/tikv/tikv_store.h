/*
 * client/tikv/tikv_store.h: a kvs_store on a TiKV cluster, over its raw API.
 *
 * One or several shards, each on a loop of its own with its own connections and its own view of the
 * cluster; nothing is shared between them. Writes of one thread all go through the same shard,
 * reads through the shards in turn.
 */
#ifndef CLIENT_TIKV_TIKV_STORE_H
#define CLIENT_TIKV_TIKV_STORE_H

#include "store/store.h"

#define TIKV_STORE_SHARDS_MAX 64u

struct tikv_store_options {
    const char *pd;       /* addresses with commas between */
    const char *keyspace; /* NULL or "": API V1 */
    const char *tls_ca;   /* NULL, all three: no TLS */
    const char *tls_certificate;
    const char *tls_key;
    bool plain_writes;
    uint32_t shards;
    uint32_t connect_timeout_ms;
    uint32_t timeout_ms;
    struct loop *const *loops; /* one for each shard; NULL: the runtime's, in turn */
    /* Called once, on a loop: 0 when the cluster can be used, else why not. The store is to be
     * closed in either case. */
    void (*opened)(void *arg, int error, const char *why);
    void *arg;
};

/* Copies the options. runtime may be NULL when loops are given; then `pool` is for names that have
 * to be resolved. Returns 0, or an error with a line for a person; then `opened` is not called. Any
 * thread. */
int tikv_store_new(kvs_runtime *runtime, kvs_thread_pool *pool,
                   const struct tikv_store_options *options, kvs_store **ret_store,
                   char ret_why[320]);

#endif

/*
 * client/txn/client.h: a kvs_txn_client: its shards, and its life.
 *
 * Whoever uses the memory holds it: the user until close, each shard until it is closed, each
 * transaction until it is freed. Closing: each shard lets what is under way end, then closes its
 * transport; when all have, the future is ready.
 */
#ifndef CLIENT_TXN_CLIENT_H
#define CLIENT_TXN_CLIENT_H

#include "client/txn/shard.h"

#define TXN_SHARDS_MAX 64u

struct kvs_txn_client {
    kvs_runtime *runtime;
    void *backing; /* open.c's: what stands behind the transports */
    atomic_uint refs;
    atomic_uint turn; /* of shards */
    atomic_bool closing;
    atomic_uint shards_opening;
    atomic_uint shards_open;
    atomic_bool opened_told;
    void (*opened)(void *arg, int error, const char *why);
    void *opened_arg;
    void (*closed)(void *arg); /* all shards are closed; on the last one's loop */
    void *closed_arg;
    unsigned shards_count;
    struct txn_shard shards[];
};

/* Zeroed, with runtime and shards_count set. NULL: no memory. */
struct kvs_txn_client *txn_client_new(kvs_runtime *runtime, unsigned shards);
void txn_client_ref(struct kvs_txn_client *client);
void txn_client_unref(struct kvs_txn_client *client);
/* shards[i].loop and transport are set. `opened` is called once, on a loop. */
void txn_client_start(struct kvs_txn_client *client,
                      void (*opened)(void *arg, int error, const char *why), void *arg);
/* `closed` is called once, on a loop; the user's reference stays. */
void txn_client_stop(struct kvs_txn_client *client, void (*closed)(void *arg), void *arg);

/* committer.c: frees what the shard keeps for its next commits. */
void shard_free_spare_committers(struct txn_shard *shard);
/* txn.c: it is being closed: starts that no call waits for will not be used. */
void shard_give_up_starts(struct txn_shard *shard);

/* That of the calling thread, if it is one's loop, else the next in turn. */
struct txn_shard *txn_client_shard(struct kvs_txn_client *client);

static inline bool txn_client_is_closing(struct kvs_txn_client *client)
{
    /* acquire: pairs with the release of txn_client_stop. */
    return atomic_load_explicit(&client->closing, memory_order_acquire);
}

#endif

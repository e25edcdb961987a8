/*
 * A client of transactions for tests, on data in this process or on a kvs-server of this process
 * that speaks TiKV's protocol; waiting calls; and ghosts: transactions that do only a part of what
 * they should, as those of a client that died.
 */
#ifndef TESTS_UNIT_CLIENT_TXN_WORLD_H
#define TESTS_UNIT_CLIENT_TXN_WORLD_H

#include "txn/command.h"

#include <kvs/kvs.h>
#include <kvs/server.h>

struct txn_world {
    kvs_runtime *runtime;
    kvs_server *server; /* NULL: in this process */
    kvs_txn_client *client;
    char url[128];
    char directory[64];
};

enum txn_world_kind { WORLD_MEMORY, WORLD_LOG, WORLD_ROCKSDB, WORLD_TIKV, WORLD_TIKV_V2 };

/* All tests of txn_calls.c, on this kind. */
int txn_calls_run(enum txn_world_kind on);

void txn_world_start(struct txn_world *world, enum txn_world_kind kind, unsigned loops);
void txn_world_stop(struct txn_world *world);
/* Another client of the same data. */
kvs_txn_client *txn_world_client(struct txn_world *world);
void txn_world_close(kvs_txn_client *client);
/* Splits the data at the key, where there are regions. */
void txn_world_split(struct txn_world *world, const char *key);

/* Each waits, frees the future and returns its error. */
int wait_free(kvs_future *future);
int64_t wait_number(kvs_future *future);            /* expects success */
int wait_value(kvs_future *future, char value[64]); /* "" without one */
/* "k=v k=v ", "?" for a missing one; *ret_more: the number, when there is one */
int wait_pairs(kvs_future *future, char *text, size_t size, int64_t *ret_more);

kvs_slice text(const char *text);
void put_all(kvs_txn_client *client, const char *const *pairs, unsigned count); /* "k=v" */
/* The newest committed value. */
int get_now(kvs_txn_client *client, const char *key, char value[64]);

/* Sends one command of a ghost; returns its error, or a code for the first key error. */
struct ghost {
    uint64_t start_ts;
    const char *primary;
    uint64_t ttl_ms;
    bool async;
    const char *secondaries[4];
    unsigned secondaries_count;
    uint64_t min_commit_ts;
    uint64_t for_update_ts; /* pessimistic */
    bool shares;            /* locks in share mode */
};
int ghost_prewrite(kvs_txn_client *client, const struct ghost *ghost, const char *key,
                   const char *value);
int ghost_lock(kvs_txn_client *client, const struct ghost *ghost, const char *key);
int ghost_unlock(kvs_txn_client *client, const struct ghost *ghost, const char *key);
int ghost_commit(kvs_txn_client *client, const struct ghost *ghost, const char *key,
                 uint64_t commit_ts);
/* Until its locks have lived, by the clock of timestamps: it goes in the kernel's ticks. */
void ghost_outlive(kvs_txn_client *client, const struct ghost *ghost);
/* How long the lock of a transaction's primary lives, from its start, in ms; 0: it is not there. */
uint64_t lock_life_ms(kvs_txn_client *client, const char *primary, uint64_t start_ts);

#endif

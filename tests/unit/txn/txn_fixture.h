/*
 * tests/unit/txn/txn_fixture.h: a node over an engine in a fresh directory, and commands that wait.
 *
 * Nothing in here asserts, so that helper threads may use it too. Commands are made by the txn_...
 * functions below with the fields that most tests need; a test sets the others itself, runs the
 * command, looks at its results, and gives it back by txn_command_deinit.
 */
#ifndef TESTS_UNIT_TXN_FIXTURE_H
#define TESTS_UNIT_TXN_FIXTURE_H

#include "contract/engine_fixture.h"
#include "txn/node.h"

struct txn_fixture {
    struct fixture base;
    struct txn_node *node;
    struct txn_node_options options;
};

extern const struct engine_kind txn_engine_log;
extern const struct engine_kind txn_engine_log_small; /* values are soon out of memory */
extern const struct engine_kind txn_engine_rocksdb;   /* in builds with librocksdb */
extern const struct engine_kind txn_engine_memory;

int txn_fixture_init(struct txn_fixture *fixture, const struct engine_kind *kind);
/* The engine and the node anew, over the same files. */
int txn_fixture_reopen(struct txn_fixture *fixture);
void txn_fixture_deinit(struct txn_fixture *fixture);

/* A command under way. */
struct txn_pending_run {
    struct txn_command *command;
    struct latch latch;
};

void txn_start(struct txn_fixture *fixture, struct txn_pending_run *run,
               struct txn_command *command);
int txn_finish(struct txn_pending_run *run); /* waits; op.error */
/* Starts and waits. */
int txn_run(struct txn_fixture *fixture, struct txn_command *command);

/* --- commands, ready to run --- */

void txn_make_get(struct txn_get *get, kvs_slice key, uint64_t ts);
void txn_make_prewrite(struct txn_prewrite *prewrite, const struct txn_mutation *mutations,
                       uint32_t count, kvs_slice primary, uint64_t start_ts);
void txn_make_commit(struct txn_commit *commit, const kvs_slice *keys, uint32_t count,
                     uint64_t start_ts, uint64_t commit_ts);
void txn_make_rollback(struct txn_batch_rollback *rollback, const kvs_slice *keys, uint32_t count,
                       uint64_t start_ts);
void txn_make_check(struct txn_check_status *check, kvs_slice primary, uint64_t start_ts,
                    uint64_t caller_ts, uint64_t current_ts);
void txn_make_resolve(struct txn_resolve_lock *resolve, const struct txn_status *txns,
                      uint32_t count);
void txn_make_lock(struct txn_pessimistic_lock *lock, const struct txn_mutation *mutations,
                   uint32_t count, kvs_slice primary, uint64_t start_ts, uint64_t for_update_ts);

static inline struct txn_mutation txn_put_of(kvs_slice key, kvs_slice value)
{
    return (struct txn_mutation){.op = TXN_OP_PUT, .key = key, .value = value};
}

/* --- whole steps: the kind of the first key error, or the negative op.error --- */

int txn_prewrite_one(struct txn_fixture *fixture, const struct txn_mutation *mutation,
                     uint64_t start_ts);
int txn_commit_one(struct txn_fixture *fixture, kvs_slice key, uint64_t start_ts,
                   uint64_t commit_ts);
int txn_rollback_one(struct txn_fixture *fixture, kvs_slice key, uint64_t start_ts);
/* Prewrite and commit of a value; 0 or the first failure. */
int txn_put(struct txn_fixture *fixture, kvs_slice key, kvs_slice value, uint64_t start_ts,
            uint64_t commit_ts);
int txn_delete(struct txn_fixture *fixture, kvs_slice key, uint64_t start_ts, uint64_t commit_ts);
int txn_lock_one(struct txn_fixture *fixture, kvs_slice key, uint64_t start_ts,
                 uint64_t for_update_ts);

/* What a reader sees: "value", "-" for nothing, "!N" for a key error of kind N, "?N" for an
 * op.error. The text lives until the next call of this thread. */
const char *txn_see(struct txn_fixture *fixture, kvs_slice key, uint64_t ts);

/* --- tests on every engine --- */

struct txn_test {
    const char *name;
    void (*run)(struct txn_fixture *fixture);
};

/* Runs each test on each engine, with a node of its own. */
int txn_tests_run(const char *name, const struct txn_test *tests, unsigned count);

#endif

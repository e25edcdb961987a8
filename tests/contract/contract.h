/*
 * tests/contract/contract.h: the list of what every engine promises, one test each.
 *
 * The list is run as it stands on every engine (test_memory.c, test_log.c, ...). A test that needs
 * a capability is left out for engines without it. Each runs on a fresh directory with the engine
 * open; KVS_TEST_SEED repeats the random ones.
 */
#ifndef TESTS_CONTRACT_CONTRACT_H
#define TESTS_CONTRACT_CONTRACT_H

#include "contract/engine_fixture.h"

/* X(name, capabilities it needs, promise) */
#define CONTRACT_TESTS(X)                                                                      \
    /* contract_read.c */                                                                      \
    X(get, 0, "a key has the value set last; NOT_FOUND before and after")                      \
    X(empty_value, 0, "a value may be empty, and is not a missing one")                        \
    X(any_bytes, 0, "keys are any bytes, ordered unsigned, a prefix first")                    \
    X(sizes, 0, "keys of 8 KiB, values of 16 MiB")                                             \
    X(families, 0, "each family is a map of its own")                                          \
    X(scan_bounds, 0, "scan and count agree with the range, both ways, for all bounds")        \
    X(scan_order, 0, "10,000 keys with common prefixes come in order, both ways")              \
    X(scan_stops, 0, "a scan ends with what the callback returned")                            \
    X(scan_empty, 0, "an empty family has nothing to scan")                                    \
    X(would_block, 0, "a view that may not block answers right, or WOULD_BLOCK")               \
    X(read_on_pool, 0, "engine_read runs on the pool and completes on its loop")               \
    X(ttl, 0, "a key is gone when its time is over, and can be set anew")                      \
    X(expiry, 0, "the end of a key's life can be asked for")                                   \
    X(ttl_replaced, 0, "a later set decides about the time to live")                           \
    /* contract_write.c */                                                                     \
    X(batch_order, 0, "mutations of a batch take effect one after the other")                  \
    X(batch_range, 0, "a range removal removes what is there at its place in the batch")       \
    X(batch_large, 0, "a batch of 65,536 mutations is one batch")                              \
    X(removed_count, 0, "removals count the keys that existed")                                \
    X(conditions, 0, "conditions decide about the whole batch, with their own errors")         \
    X(conditions_in_chain, 0, "a condition sees the writes submitted before it")               \
    X(previous, 0, "WANT_PREVIOUS gives the value before, also when a condition fails")        \
    X(order_of_thread, 0, "writes are applied in the order in which a thread submits them")    \
    X(completion_on_loop, 0, "a write completes on its loop, never inside the call")           \
    X(completion_without_loop, 0, "without a loop it completes on another thread")             \
    /* contract_view.c */                                                                      \
    X(view_stays, 0, "a view and its slices stay as they were while writers go on")            \
    X(view_sees_acknowledged, 0, "a view sees all that was acknowledged before it began")      \
    X(view_whole_batches, 0, "views see batches wholly or not at all, in order")               \
    X(view_constant_sum, 0, "transfers between keys never change the sum that a scan sees")    \
    X(pinned_stay, 0, "what gets have pinned stays as it was, also when the engine is closed") \
    X(snapshot_stays, 0, "a snapshot stays as it was through changes and compaction")          \
    X(snapshots_many, 0, "many snapshots, released in any order")                              \
    X(snapshot_on_pool, 0, "engine_read reads a snapshot")                                     \
    /* contract_life.c */                                                                      \
    X(compact_keeps, 0, "compaction changes nothing that can be read")                         \
    X(compact_shrinks, ENGINE_CAP_DURABLE, "compaction gives dead records' space back")        \
    X(compact_under_load, 0, "readers and writers go on during compaction")                    \
    X(stats, 0, "statistics count keys, writes and snapshots")                                 \
    X(sync, 0, "ENGINE_CONTROL_SYNC succeeds")                                                 \
    X(reopen, ENGINE_CAP_DURABLE, "all that was acknowledged is there after a reopen")         \
    X(reopen_removed, ENGINE_CAP_DURABLE, "what was removed stays removed after reopens")      \
    X(reopen_ttl, ENGINE_CAP_DURABLE, "times to live survive a reopen")                        \
    X(reopen_often, ENGINE_CAP_DURABLE, "writes, compaction and reopens, many times over")     \
    X(must_exist, ENGINE_CAP_DURABLE, "must_exist refuses an empty directory")                 \
    X(locked, ENGINE_CAP_DURABLE, "a directory is open once: LOCKED")                          \
    X(wrong_engine, ENGINE_CAP_DURABLE, "another engine's directory: WRONG_ENGINE")            \
    X(probe, ENGINE_CAP_DURABLE, "the directory tells which engine wrote it")                  \
    X(checkpoint, ENGINE_CAP_CHECKPOINT, "a checkpoint opens as a store with the same data")   \
    X(checkpoint_under_load, ENGINE_CAP_CHECKPOINT,                                            \
      "checkpoints are of one moment while writers go on")                                     \
    /* contract_threads.c */                                                                   \
    X(sets_10000, 0, "10,000 concurrent sets of many threads lose nothing")                    \
    X(gets_100x100, 0, "100 threads with 100 gets each read right")                            \
    X(increments, 0, "increments by compare-and-set from many threads lose none")              \
    X(readers_and_writers, 0, "readers never see a value that was not written")                \
    X(chains, 0, "chains of several threads are applied in order, none lost")

#define X(name, needs, promise) void contract_##name(struct fixture *fixture);
CONTRACT_TESTS(X)
#undef X

/* Runs the list on an engine; the exit status of a test program. */
int contract_run(const struct engine_kind *kind);

/* A key or value in a buffer of the caller: printf. */
#define TEXT_SIZE_MAX 96
kvs_slice text_format(char text[TEXT_SIZE_MAX], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Bytes that depend on `number` only, so that a reader can tell whether a value is one that was
 * written. */
void bytes_fill(uint8_t *bytes, size_t size, uint64_t number);

/* Asserts that a fresh view has this value, or (text NULL) no such key. */
void check_value(struct fixture *fixture, const char *key, const char *text);
void check_in_view(struct engine_view *view, unsigned family, kvs_slice key, const char *text);

#endif

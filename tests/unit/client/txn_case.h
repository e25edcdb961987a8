/*
 * One world (txn_world.h) for each test of a program, and what most of them do with it: include it
 * instead of txn_world.h. world_kind says which world the next test gets.
 */
#ifndef TESTS_UNIT_CLIENT_TXN_CASE_H
#define TESTS_UNIT_CLIENT_TXN_CASE_H

#include "unit/client/txn_world.h"

extern struct txn_world world;
extern enum txn_world_kind world_kind;

/* Setups and the teardown for cmocka. */
int world_set_up(void **state); /* of world_kind, as the others set it */
int world_set_up_memory(void **state);
int world_set_up_log(void **state);
int world_set_up_rocksdb(void **state);
int world_set_up_tikv(void **state);
int world_tear_down(void **state);

/* A row of a list of tests: `engine` as in the setups above. */
#define WORLD_TEST(test, engine)                                               \
    {                                                                          \
#engine ": " #test, test, world_set_up_##engine, world_tear_down, NULL \
    }

/* The client is closed, and another one opened. */
void world_reopen(void);
/* One that waits for no lock. */
kvs_txn *world_begin(bool is_pessimistic);
/* The newest committed value; NULL: there is none. */
void world_expect(const char *key, const char *expected);

#endif

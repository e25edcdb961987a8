/* Tests of txn_calls_run (txn_world.h): locks in share mode. */
#ifndef TESTS_UNIT_CLIENT_TXN_SHARES_H
#define TESTS_UNIT_CLIENT_TXN_SHARES_H

void test_share_with_the_dead(void **state);
void test_share_a_key(void **state);
void test_share_rules(void **state);
void test_share_waits(void **state);
void test_share_many(void **state);
void test_share_given_back(void **state);
void test_share_beside_writers(void **state);

#endif

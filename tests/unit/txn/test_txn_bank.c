/*
 * Isolation: many clients, random transactions, deaths, restarts; see bank.h.
 *
 * KVS_TEST_SEED=N repeats the choices, KVS_TEST_SECONDS=N goes on for so long.
 */
#include "unit/txn/bank.h"

#include "base/clock.h"
#include "base/rand.h"

#include <stdio.h>
#include <stdlib.h>

#include "test.h"

#define ROUNDS 3u

struct shape {
    const struct engine_kind *kind;
    unsigned accounts;
    unsigned clients;
    unsigned steps;
};

static struct bank bank;

static void report(const char *when)
{
    const char *wrong = atomic_load(&bank.wrong);
    if (wrong != NULL)
        fail_msg("%s: %s (%llu)", when, wrong, (unsigned long long)atomic_load(&bank.wrong_ts));
}

static void episode(const struct shape *shape, uint64_t seed)
{
    assert_int_equal(
        bank_init(&bank, shape->kind, shape->accounts, shape->clients, shape->steps, seed), 0);
    bank_open_accounts(&bank);
    for (unsigned round = 0; round < ROUNDS; round++) {
        bank_round(&bank);
        report("round");
        if (shape->kind != &txn_engine_memory)
            assert_int_equal(txn_fixture_reopen(&bank.fixture), 0);
    }
    bank_check(&bank);
    report("end");
    printf("# %s, %u clients, %u accounts: %u committed, %u failed, %u unknown\n",
           shape->kind->name, shape->clients, shape->accounts, bank_count(&bank, BANK_COMMITTED),
           bank_count(&bank, BANK_FAILED), bank_count(&bank, BANK_UNKNOWN));
    assert_true(bank_count(&bank, BANK_COMMITTED) > 0);
    bank_deinit(&bank);
}

static void test_bank(void **state)
{
    const char *seconds = getenv("KVS_TEST_SECONDS");
    uint64_t until_ms = clock_now_ms() + (seconds != NULL ? strtoull(seconds, NULL, 0) * 1000 : 0);
    struct rand rand = rand_seed(test_seed());
    do {
        episode(*state, rand_u64(&rand));
    } while (clock_now_ms() < until_ms);
}

int main(void)
{
    static struct shape shapes[] = {
        {&txn_engine_memory, 40, 8, 150},    {&txn_engine_memory, 4, 8, 100},
        {&txn_engine_log, 40, 8, 150},       {&txn_engine_log, 4, 8, 100},
        {&txn_engine_log_small, 12, 6, 100},
    };
    fixtures_in_memory();
    const struct CMUnitTest tests[] = {
        {"memory, many accounts", test_bank, NULL, NULL, &shapes[0]},
        {"memory, few accounts", test_bank, NULL, NULL, &shapes[1]},
        {"log, many accounts", test_bank, NULL, NULL, &shapes[2]},
        {"log, few accounts", test_bank, NULL, NULL, &shapes[3]},
        {"log without room", test_bank, NULL, NULL, &shapes[4]},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Transactions while the world fails at one point: a bank of one client (unit/txn/bank.h), for
 * every kind of fault and every k; then nothing fails any more, and all that the bank promises must
 * hold.
 *
 * KVS_TEST_FAULT="ENGINE KIND K once|on" repeats one case, as a failure prints it;
 * KVS_TEST_EVERY=1 tries every k, where each run takes some, from a place of its own.
 */
#include "base/fault.h"
#include "fault/stride.h"
#include "unit/txn/bank.h"

#include "base/log.h"

#include <kvs/error.h>
#include <stdio.h>
#include <stdlib.h>

#include "test.h"

#define RUNS_MAX TIMES(25u, 12u, 6u) /* of a kind and mode: further apart when there are more k */
#define STEPS 14u
#define SEED 7u

static const struct {
    enum fault_kind kind;
    const char *name;
} kinds[] = {
    {FAULT_ALLOC, "ALLOC"},
    {FAULT_FILE_OPEN, "FILE_OPEN"},
    {FAULT_FILE_READ, "FILE_READ"},
    {FAULT_FILE_WRITE, "FILE_WRITE"},
    {FAULT_FILE_SPACE, "FILE_SPACE"},
    {FAULT_FILE_SHORT, "FILE_SHORT"},
    {FAULT_FILE_SYNC, "FILE_SYNC"},
    {FAULT_FILE_RENAME, "FILE_RENAME"},
    {FAULT_THREAD_START, "THREAD_START"},
};

struct fault_case {
    const struct engine_kind *engine;
    unsigned kind; /* index of kinds */
    bool from_then_on;
    char name[64];
};

static struct bank bank;
static uint64_t seed;
static const char *wrong_after; /* what the node did after the storage had failed */

/* The work: what is counted, and what fails. */
static void work(const struct fault_case *fault_case)
{
    bank_round(&bank);
    if (fault_case->engine == &txn_engine_memory)
        return;
    struct engine_stats stats;
    engine_stats(bank.fixture.base.engine, &stats);
    uint64_t ts = atomic_fetch_add(&bank.clock, 2 << 18);
    if (stats.failed && txn_put(&bank.fixture, S("after"), S("the end"), ts, ts + (1 << 18)) == 0)
        wrong_after = "a commit is acknowledged after the storage has failed";
    txn_node_free(bank.fixture.node);
    bank.fixture.node = NULL;
    (void)fixture_close(&bank.fixture.base);
    (void)fixture_open(&bank.fixture.base);
}

static const char *check(const struct fault_case *fault_case)
{
    struct txn_fixture *fixture = &bank.fixture;
    if (fault_case->engine != &txn_engine_memory) {
        if (fixture->base.engine == NULL && fixture_open(&fixture->base) != 0)
            return "it does not open any more";
        fixture->options.max_ts = atomic_load(&bank.clock);
        if (txn_node_new(fixture->base.engine, &fixture->options, &fixture->node) != 0)
            return "no node";
    }
    bank.can_fail = false;
    bank_check(&bank);
    return wrong_after != NULL ? wrong_after : atomic_load(&bank.wrong);
}

static void prepare(const struct fault_case *fault_case, bool can_fail)
{
    assert_int_equal(bank_init(&bank, fault_case->engine, 6, 1, STEPS, SEED), 0);
    bank_open_accounts(&bank);
    wrong_after = NULL;
    bank.can_fail = can_fail;
}

static uint64_t count_hits(const struct fault_case *fault_case)
{
    prepare(fault_case, false);
    fault_reset();
    work(fault_case);
    uint64_t hits = fault_hits(kinds[fault_case->kind].kind);
    const char *wrong = check(fault_case);
    if (wrong != NULL)
        fail_msg("without any fault: %s", wrong);
    bank_deinit(&bank);
    return hits;
}

static bool run_one(const struct fault_case *fault_case, uint64_t k, unsigned *wrong_count)
{
    prepare(fault_case, true);
    fault_reset();
    fault_arm(kinds[fault_case->kind].kind, k, fault_case->from_then_on);
    work(fault_case);
    bool fired = fault_fired() > 0;
    fault_reset();
    const char *wrong = check(fault_case);
    if (wrong != NULL) {
        print_error("KVS_TEST_FAULT=\"%s %s %llu %s\": %s (%llu)\n", fault_case->engine->name,
                    kinds[fault_case->kind].name, (unsigned long long)k,
                    fault_case->from_then_on ? "on" : "once", wrong,
                    (unsigned long long)atomic_load(&bank.wrong_ts));
        ++*wrong_count;
    }
    bank_deinit(&bank);
    return fired;
}

static void test_fault_kind(void **state)
{
    const struct fault_case *fault_case = *state;
    uint64_t hits = count_hits(fault_case);
    uint64_t stride = fault_stride(hits, RUNS_MAX);
    unsigned runs = 0;
    unsigned fired = 0;
    unsigned wrong = 0;
    for (uint64_t k = 1 + seed % stride; k <= hits; k += stride, runs++)
        fired += run_one(fault_case, k, &wrong);
    printf("# %s: %llu hits, %u runs, %u failed at their point\n", fault_case->name,
           (unsigned long long)hits, runs, fired);
    assert_int_equal(wrong, 0);
}

static int repeat(const char *text, struct fault_case *cases, unsigned count)
{
    char engine[16];
    char kind[32];
    char mode[8];
    unsigned long long k;
    if (sscanf(text, "%15s %31s %llu %7s", engine, kind, &k, mode) != 4)
        return 1;
    unsigned wrong = 0;
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(cases[i].engine->name, engine) == 0 &&
            strcmp(kinds[cases[i].kind].name, kind) == 0 &&
            cases[i].from_then_on == (strcmp(mode, "on") == 0))
            run_one(&cases[i], k, &wrong);
    }
    return wrong > 0;
}

int main(void)
{
    enum { KINDS = sizeof kinds / sizeof kinds[0] };
    static struct fault_case cases[4 * KINDS];
    static struct CMUnitTest tests[4 * KINDS];
    static const struct engine_kind *const engines[] = {&txn_engine_log_small, &txn_engine_memory};
    unsigned count = 0;
    fixtures_in_memory();
    seed = test_seed();
    log_set_level(getenv("KVS_TEST_FAULT") != NULL ? LOG_DEBUG : LOG_SILENT);
    for (unsigned e = 0; e < 2; e++) {
        for (unsigned k = 0; k < KINDS; k++) {
            for (unsigned mode = 0; mode < 2; mode++) {
                bool is_file = kinds[k].kind != FAULT_ALLOC && kinds[k].kind != FAULT_THREAD_START;
                if (is_file && engines[e] == &txn_engine_memory)
                    continue;
                struct fault_case *one = &cases[count];
                *one =
                    (struct fault_case){.engine = engines[e], .kind = k, .from_then_on = mode == 1};
                snprintf(one->name, sizeof one->name, "%s: %s, %s", engines[e]->name, kinds[k].name,
                         mode == 1 ? "from then on" : "once");
                tests[count++] = (struct CMUnitTest){one->name, test_fault_kind, NULL, NULL, one};
            }
        }
    }
    const char *text = getenv("KVS_TEST_FAULT");
    if (text != NULL)
        return repeat(text, cases, count);
    return _cmocka_run_group_tests("fault-txn", tests, count, NULL, NULL);
}

/* tests/unit/txn/txn_tests.c: every test on every engine; see txn_fixture.h. */
#include "unit/txn/txn_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "test.h"

struct txn_case {
    const struct txn_test *test;
    const struct engine_kind *kind;
    struct txn_fixture fixture;
    char name[160];
};

static void case_run(void **state)
{
    struct txn_case *one = *state;
    int error = txn_fixture_init(&one->fixture, one->kind);
    if (error != 0)
        fail_msg("open: %d: %s", error, one->fixture.base.message.text);
    one->test->run(&one->fixture);
    txn_fixture_deinit(&one->fixture);
}

/* A failed test leaves its node running, as nobody knows what of it is still in use. */
static int case_teardown(void **state)
{
    struct txn_case *one = *state;
    directory_remove(one->fixture.base.root);
    return 0;
}

int txn_tests_run(const char *name, const struct txn_test *tests, unsigned count)
{
    static const struct engine_kind *const kinds[] = {
        &txn_engine_memory,
        &txn_engine_log,
        &txn_engine_log_small,
#ifdef KVS_ROCKSDB
        &txn_engine_rocksdb,
#endif
    };
    const unsigned kinds_count = sizeof kinds / sizeof kinds[0];
    fixtures_in_memory();
    struct txn_case *cases = calloc((size_t)count * kinds_count, sizeof *cases);
    struct CMUnitTest *units = calloc((size_t)count * kinds_count, sizeof *units);
    if (cases == NULL || units == NULL)
        return 1;
    unsigned at = 0;
    for (unsigned k = 0; k < kinds_count; k++) {
        for (unsigned i = 0; i < count; i++, at++) {
            cases[at].test = &tests[i];
            cases[at].kind = kinds[k];
            snprintf(cases[at].name, sizeof cases[at].name, "%s: %s", kinds[k]->name,
                     tests[i].name);
            units[at] = (struct CMUnitTest){.name = cases[at].name,
                                            .test_func = case_run,
                                            .teardown_func = case_teardown,
                                            .initial_state = &cases[at]};
        }
    }
    int failed = _cmocka_run_group_tests(name, units, at, NULL, NULL);
    free(units);
    free(cases);
    return failed;
}

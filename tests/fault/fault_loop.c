/*
 * tests/fault/fault_loop.c: for every kind of fault and every k, the script and its check.
 *
 * KVS_TEST_FAULT="KIND K once|on" repeats one case, as a failure prints it. Where there are many k,
 * each run takes every n-th, from a place of its own (KVS_TEST_SEED); KVS_TEST_EVERY=1: all.
 */
#include "fault/fault_loop.h"

#include "base/log.h"
#include "fault/script.h"
#include "fault/stride.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS_MAX TIMES(100, 25, 10) /* of a kind and mode: further apart when there are more k */

static const char *const kind_names[FAULT_KINDS] = {
    [FAULT_ALLOC] = "ALLOC",
    [FAULT_FILE_OPEN] = "FILE_OPEN",
    [FAULT_FILE_READ] = "FILE_READ",
    [FAULT_FILE_WRITE] = "FILE_WRITE",
    [FAULT_FILE_SPACE] = "FILE_SPACE",
    [FAULT_FILE_SHORT] = "FILE_SHORT",
    [FAULT_FILE_SYNC] = "FILE_SYNC",
    [FAULT_FILE_RENAME] = "FILE_RENAME",
    [FAULT_THREAD_START] = "THREAD_START",
};

static const char *kind_name(unsigned kind)
{
    return kind_names[kind] != NULL ? kind_names[kind] : "OTHER";
}

struct fault_case {
    uint64_t seed;
    const struct engine_kind *engine;
    enum fault_kind kind;
    bool from_then_on;
    char name[64];
};

/* Runs the script with the k-th hit failing; whether one failed. */
static bool run_one(const struct fault_case *fault_case, uint64_t k, unsigned *wrong_count)
{
    struct script script;
    assert_int_equal(script_init(&script, fault_case->engine), 0);
    fault_reset();
    fault_arm(fault_case->kind, k, fault_case->from_then_on);
    script_run(&script);
    bool fired = fault_fired() > 0;
    fault_reset();
    /* A single one may have hit a sync that nothing depends on, of space prepared ahead. */
    if (fired && fault_case->kind == FAULT_FILE_SYNC && fault_case->from_then_on &&
        script.errors == 0) {
        script.wrong = "a sync failed and nobody was told: fired";
        script.wrong_detail = 1;
    }
    script_check(&script);
    const char *wrong = script.wrong;
    if (wrong != NULL)
        print_error("KVS_TEST_FAULT=\"%s %llu %s\": %s %lld (%s)\n", kind_name(fault_case->kind),
                    (unsigned long long)k, fault_case->from_then_on ? "on" : "once", wrong,
                    script.wrong_detail, script.fixture.message.text);
    script_deinit(&script);
    *wrong_count += wrong != NULL;
    return fired;
}

static uint64_t count_hits(const struct fault_case *fault_case)
{
    struct script script;
    assert_int_equal(script_init(&script, fault_case->engine), 0);
    fault_reset();
    script_run(&script);
    uint64_t hits = fault_hits(fault_case->kind);
    assert_int_equal(script.errors, 0);
    for (unsigned i = 0; i < SCRIPT_BATCHES; i++)
        assert_int_equal(script.outcomes[i], 0);
    script_check(&script);
    if (script.wrong != NULL)
        fail_msg("without any fault: %s %lld", script.wrong, script.wrong_detail);
    script_deinit(&script);
    return hits;
}

static void test_fault_kind(void **state)
{
    const struct fault_case *fault_case = *state;
    uint64_t hits = count_hits(fault_case);
    uint64_t stride = fault_stride(hits, RUNS_MAX);
    unsigned runs = 0;
    unsigned fired = 0;
    unsigned wrong = 0;
    for (uint64_t k = 1 + fault_case->seed % stride; k <= hits; k += stride, runs++)
        fired += run_one(fault_case, k, &wrong);
    printf("# %s: %llu hits, %u runs, %u failed at their point\n", fault_case->name,
           (unsigned long long)hits, runs, fired);
    assert_int_equal(wrong, 0);
}

/* A full disk refuses batches, loses none, and takes more when there is space again. */
static void test_space_returns(void **state)
{
    const struct fault_case *fault_case = *state;
    for (uint64_t k = 1; k < 8; k++) {
        struct script script;
        assert_int_equal(script_init(&script, fault_case->engine), 0);
        assert_int_equal(fixture_open(&script.fixture), 0);
        script_batches(&script, 0, 4);
        fault_arm(FAULT_FILE_SPACE, k, true);
        for (unsigned i = 4; i < 20; i++)
            script_batches(&script, i, i + 1);
        fault_reset();
        for (unsigned i = 4; i < 20; i++)
            assert_true(script.outcomes[i] == 0 || script.outcomes[i] == KVS_ERR_NO_SPACE);
        for (unsigned i = 20; i < 30; i++) {
            script_batches(&script, i, i + 1);
            assert_int_equal(script.outcomes[i], 0);
        }
        script_check(&script);
        if (script.wrong == NULL) {
            assert_int_equal(fixture_close(&script.fixture), 0);
            script_check(&script);
        }
        if (script.wrong != NULL)
            fail_msg("space gone at %llu: %s %lld", (unsigned long long)k, script.wrong,
                     script.wrong_detail);
        script_deinit(&script);
    }
}

/* After a failed sync: no more writes until the next open, but reads. */
static void test_sync_failed(void **state)
{
    const struct fault_case *fault_case = *state;
    struct script script;
    assert_int_equal(script_init(&script, fault_case->engine), 0);
    assert_int_equal(fixture_open(&script.fixture), 0);
    script_batches(&script, 0, 4);
    fault_arm(FAULT_FILE_SYNC, 1, true);
    script_batches(&script, 4, 5);
    fault_reset();
    assert_int_not_equal(script.outcomes[4], 0);
    for (unsigned i = 5; i < 10; i++) {
        script_batches(&script, i, i + 1);
        assert_int_equal(script.outcomes[i], KVS_ERR_STORAGE_FAILED);
    }
    struct engine_stats stats;
    engine_stats(script.fixture.engine, &stats);
    assert_true(stats.failed);
    struct buf value;
    assert_int_equal(get_copy(&script.fixture, 0, S("marker/003"), &value), 0);
    buf_deinit(&value);
    assert_int_not_equal(control_wait(&script.fixture, ENGINE_CONTROL_SYNC, NULL), 0);
    fixture_close(&script.fixture);
    script_check(&script);
    if (script.wrong != NULL)
        fail_msg("%s %lld", script.wrong, script.wrong_detail);
    script_batches(&script, 10, 20);
    for (unsigned i = 10; i < 20; i++)
        assert_int_equal(script.outcomes[i], 0);
    script_deinit(&script);
}

/* The one case that KVS_TEST_FAULT names. */
static void test_named(void **state)
{
    struct fault_case fault_case = *(struct fault_case *)*state;
    char kind[16];
    char mode[8];
    unsigned long long k;
    assert_int_equal(sscanf(getenv("KVS_TEST_FAULT"), "%15s %llu %7s", kind, &k, mode), 3);
    for (unsigned i = 0; i < FAULT_KINDS; i++) {
        if (strcmp(kind_name(i), kind) == 0)
            fault_case.kind = (enum fault_kind)i;
    }
    fault_case.from_then_on = strcmp(mode, "on") == 0;
    unsigned wrong = 0;
    printf("# fired: %d\n", run_one(&fault_case, k, &wrong));
    assert_int_equal(wrong, 0);
}

static struct fault_case cases[2 * FAULT_KINDS + 2];
static struct CMUnitTest tests[2 * FAULT_KINDS + 2];
static size_t tests_count;

static struct fault_case *add_test(const struct engine_kind *engine, CMUnitTestFunction run)
{
    struct fault_case *fault_case = &cases[tests_count];
    *fault_case = (struct fault_case){.engine = engine};
    tests[tests_count++] = (struct CMUnitTest){
        .name = fault_case->name, .test_func = run, .initial_state = fault_case};
    return fault_case;
}

int fault_loop_main(const struct engine_kind *engine)
{
    bool has_files = engine->directory != NULL;
    uint64_t seed = test_seed();
    fixtures_in_memory();
    log_set_level(getenv("KVS_TEST_FAULT") != NULL ? LOG_DEBUG : LOG_SILENT);
    if (getenv("KVS_TEST_FAULT") != NULL) {
        snprintf(add_test(engine, test_named)->name, sizeof cases->name, "KVS_TEST_FAULT");
        return _cmocka_run_group_tests(engine->name, tests, tests_count, NULL, NULL);
    }
    for (unsigned i = 0; i < 2 * FAULT_KINDS; i++) {
        if (i / 2 >= FAULT_FILE_OPEN && i / 2 <= FAULT_FILE_RENAME && !has_files)
            continue;
        struct fault_case *fault_case = add_test(engine, test_fault_kind);
        fault_case->seed = seed;
        fault_case->kind = (enum fault_kind)(i / 2);
        fault_case->from_then_on = i % 2 == 1;
        snprintf(fault_case->name, sizeof fault_case->name, "%s %s", kind_name(i / 2),
                 fault_case->from_then_on ? "fails from then on" : "fails once");
    }
    if (has_files) {
        snprintf(add_test(engine, test_space_returns)->name, sizeof cases->name,
                 "a full disk gets space again");
        snprintf(add_test(engine, test_sync_failed)->name, sizeof cases->name,
                 "after a failed sync no more writes");
    }
    return _cmocka_run_group_tests(engine->name, tests, tests_count, NULL, NULL);
}

/* pd/gc_state.c: what moves safe points, what holds them back, and that all of it lasts. */
#include "pd/gc_state.h"

#include "contract/engine_fixture.h"

#include <stdio.h>

#include "test.h"

struct setup {
    struct fixture fixture;
    struct meta_store store;
    struct gc_state *gc;
};

static void setup_open(struct setup *setup)
{
    assert_int_equal(fixture_open(&setup->fixture), 0);
    meta_store_init(&setup->store, setup->fixture.engine);
    assert_int_equal(gc_state_open_blocking(&setup->store, &setup->gc), 0);
}

static void setup_close(struct setup *setup)
{
    gc_state_free(setup->gc);
    meta_store_deinit(&setup->store);
    assert_int_equal(fixture_close(&setup->fixture), 0);
}

static int setup_each(void **state)
{
    static const struct engine_kind kind = {.name = "log", .open = log_engine_open_blocking};
    static struct setup setup;
    fixtures_in_memory();
    assert_int_equal(fixture_init(&setup.fixture, &kind), 0);
    setup_open(&setup);
    *state = &setup;
    return 0;
}

static int teardown_each(void **state)
{
    struct setup *setup = *state;
    setup_close(setup);
    fixture_deinit(&setup->fixture);
    return 0;
}

struct waited_change {
    struct gc_change change;
    struct latch latch;
    int error;
};

static void on_done(struct gc_change *change, int error)
{
    struct waited_change *waited = CONTAINER_OF(change, struct waited_change, change);
    waited->error = error;
    latch_down(&waited->latch);
}

static struct gc_change act(struct setup *setup, enum gc_action action, const char *id, uint64_t ts,
                            int64_t ttl_s)
{
    struct waited_change waited = {.change = {.action = action,
                                              .id = slice_of_string(id),
                                              .ts = ts,
                                              .ttl_s = ttl_s,
                                              .done = on_done}};
    latch_init(&waited.latch, 1);
    gc_state_change(setup->gc, &setup->fixture.loop, &waited.change);
    latch_wait(&waited.latch);
    latch_deinit(&waited.latch);
    assert_int_equal(waited.error, 0);
    return waited.change;
}

static void assert_points(struct setup *setup, uint64_t txn, uint64_t gc)
{
    static struct gc_values values;
    gc_state_read(setup->gc, &values);
    assert_int_equal(values.txn_safe_point, txn);
    assert_int_equal(values.gc_safe_point, gc);
}

static void assert_lowest(const struct gc_change *change, const char *id, uint64_t ts)
{
    assert_true(change->found);
    assert_int_equal(change->barrier.id_size, strlen(id));
    assert_memory_equal(change->barrier.id, id, strlen(id));
    assert_int_equal(change->barrier.ts, ts);
}

static void test_safe_points_go_forward(void **state)
{
    struct setup *setup = *state;
    assert_points(setup, 0, 0);
    assert_int_equal(act(setup, GC_UPDATE, "", 100, 0).after, 100);
    assert_int_equal(act(setup, GC_UPDATE, "", 50, 0).after, 100);
    assert_points(setup, 100, 100);
    assert_null(act(setup, GC_ADVANCE_TXN, "", 300, 0).refused);
    assert_non_null(act(setup, GC_ADVANCE_TXN, "", 299, 0).refused);
    assert_non_null(act(setup, GC_ADVANCE_GC, "", 301, 0).refused);
    assert_non_null(act(setup, GC_ADVANCE_GC, "", 99, 0).refused);
    struct gc_change change = act(setup, GC_ADVANCE_GC, "", 200, 0);
    assert_null(change.refused);
    assert_int_equal(change.before, 100);
    assert_int_equal(change.after, 200);
    assert_points(setup, 300, 200);
    setup_close(setup);
    setup_open(setup);
    assert_points(setup, 300, 200);
}

static void test_barriers_hold_back(void **state)
{
    struct setup *setup = *state;
    act(setup, GC_ADVANCE_TXN, "", 100, 0);
    assert_non_null(act(setup, GC_SET_BARRIER, "backup", 99, 60).refused);
    assert_non_null(act(setup, GC_SET_BARRIER, "backup", 150, 0).refused);
    assert_non_null(act(setup, GC_SET_BARRIER, "", 150, 60).refused);
    assert_null(act(setup, GC_SET_BARRIER, "backup", 150, 3600).refused);
    setup_close(setup);
    setup_open(setup);
    struct gc_change change = act(setup, GC_ADVANCE_TXN, "", 200, 0);
    assert_null(change.refused);
    assert_int_equal(change.before, 100);
    assert_int_equal(change.after, 150);
    assert_lowest(&change, "backup", 150);
    change = act(setup, GC_DELETE_BARRIER, "backup", 0, 0);
    assert_lowest(&change, "backup", 150);
    assert_false(act(setup, GC_DELETE_BARRIER, "backup", 0, 0).found);
    assert_int_equal(act(setup, GC_ADVANCE_TXN, "", 200, 0).after, 200);
}

/* Whoever knows the GC safe point only is held back, too; and never takes it back. */
static void test_barriers_hold_old_clients_back(void **state)
{
    struct setup *setup = *state;
    assert_null(act(setup, GC_SET_BARRIER, "backup", 150, 3600).refused);
    assert_int_equal(act(setup, GC_UPDATE, "", 200, 0).after, 150);
    assert_points(setup, 150, 150);
    assert_int_equal(act(setup, GC_UPDATE, "", 140, 0).after, 150);
    act(setup, GC_DELETE_BARRIER, "backup", 0, 0);
    assert_int_equal(act(setup, GC_UPDATE_SERVICE, "br", 180, 3600).barrier.ts, 150);
    assert_int_equal(act(setup, GC_UPDATE, "", 200, 0).after, 180);
    assert_null(act(setup, GC_ADVANCE_TXN, "", 180, 0).refused);
    act(setup, GC_UPDATE_SERVICE, "br", 0, 0);
    act(setup, GC_ADVANCE_TXN, "", 300, 0);
    assert_int_equal(act(setup, GC_UPDATE, "", 190, 0).after, 190);
    assert_points(setup, 300, 190);
}

/* What it is to keep may be gone: it has to be told so. */
static void test_services_stay_above_the_safe_point(void **state)
{
    struct setup *setup = *state;
    act(setup, GC_ADVANCE_TXN, "", 200, 0);
    struct gc_change change = act(setup, GC_UPDATE_SERVICE, "br", 150, 60);
    assert_lowest(&change, GC_WORKER_ID, 200);
    assert_int_equal(act(setup, GC_ADVANCE_TXN, "", 210, 0).after, 210); /* it is not there */
    change = act(setup, GC_UPDATE_SERVICE, "br", 250, 60);
    assert_lowest(&change, GC_WORKER_ID, 210);
    /* the collector of old clients moves it, as far as it may */
    change = act(setup, GC_UPDATE_SERVICE, GC_WORKER_ID, 230, INT64_MAX);
    assert_lowest(&change, GC_WORKER_ID, 230);
    assert_points(setup, 230, 0);
    change = act(setup, GC_UPDATE_SERVICE, GC_WORKER_ID, 300, INT64_MAX);
    assert_lowest(&change, "br", 250);
    assert_points(setup, 250, 0);
    change = act(setup, GC_UPDATE_SERVICE, GC_WORKER_ID, 220, INT64_MAX); /* not back */
    assert_points(setup, 250, 0);
    act(setup, GC_UPDATE_SERVICE, "br", 0, 0);
    change = act(setup, GC_UPDATE_SERVICE, "late", 240, 60);
    assert_lowest(&change, GC_WORKER_ID, 300);
}

static void test_services_tell_the_lowest(void **state)
{
    struct setup *setup = *state;
    /* nobody speaks for the collector: it is at 0, for ever */
    struct gc_change change = act(setup, GC_UPDATE_SERVICE, "br", 500, 60);
    assert_lowest(&change, GC_WORKER_ID, 0);
    assert_int_equal(gc_barrier_ttl_s(&change.barrier, change.now_ms), INT64_MAX);
    change = act(setup, GC_UPDATE_SERVICE, GC_WORKER_ID, 600, INT64_MAX);
    assert_lowest(&change, "br", 500);
    assert_int_equal(gc_barrier_ttl_s(&change.barrier, change.now_ms), 60);
    change = act(setup, GC_UPDATE_SERVICE, "late", 400, 60); /* below the lowest: refused */
    assert_lowest(&change, "br", 500);
    change = act(setup, GC_UPDATE_SERVICE, "late", 550, 60);
    assert_lowest(&change, "br", 500);
    /* a service holds the transaction safe point, the collector does not hold itself */
    assert_int_equal(act(setup, GC_ADVANCE_TXN, "", 1000, 0).after, 500);
    change = act(setup, GC_UPDATE_SERVICE, "br", 0, 0);
    assert_lowest(&change, "late", 550);
    change = act(setup, GC_UPDATE_SERVICE, "late", 0, -1);
    assert_lowest(&change, GC_WORKER_ID, 600);
    assert_int_equal(act(setup, GC_ADVANCE_TXN, "", 1000, 0).after, 1000);
}

static void test_barriers_are_bounded(void **state)
{
    struct setup *setup = *state;
    char id[GC_BARRIER_ID_SIZE_MAX + 2];
    memset(id, 'x', sizeof id);
    id[GC_BARRIER_ID_SIZE_MAX + 1] = '\0';
    assert_non_null(act(setup, GC_SET_BARRIER, id, 10, 60).refused);
    id[GC_BARRIER_ID_SIZE_MAX] = '\0';
    assert_null(act(setup, GC_SET_BARRIER, id, 10, INT64_MAX).refused);
    for (unsigned i = 1; i < GC_BARRIERS_MAX; i++) {
        snprintf(id, sizeof id, "barrier-%u", i);
        assert_null(act(setup, GC_SET_BARRIER, id, 10 + i, 3600).refused);
    }
    assert_non_null(act(setup, GC_SET_BARRIER, "one more", 10, 60).refused);
    assert_null(act(setup, GC_SET_BARRIER, "barrier-1", 20, 60).refused); /* it is there already */
    setup_close(setup);
    setup_open(setup);
    static struct gc_values values;
    gc_state_read(setup->gc, &values);
    assert_int_equal(values.count, GC_BARRIERS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_safe_points_go_forward, setup_each, teardown_each),
        cmocka_unit_test_setup_teardown(test_barriers_hold_back, setup_each, teardown_each),
        cmocka_unit_test_setup_teardown(test_barriers_hold_old_clients_back, setup_each,
                                        teardown_each),
        cmocka_unit_test_setup_teardown(test_services_stay_above_the_safe_point, setup_each,
                                        teardown_each),
        cmocka_unit_test_setup_teardown(test_services_tell_the_lowest, setup_each, teardown_each),
        cmocka_unit_test_setup_teardown(test_barriers_are_bounded, setup_each, teardown_each),
    };
    return cmocka_run_group_tests_name("gc-state", tests, NULL, NULL);
}

/* Conflicts with versions that were there before the node was, whatever it knows about them yet. */
#include "unit/txn/txn_fixture.h"

#include "txn/job.h"

#include <stdio.h>

#include "test.h"

#define KEYS 700u

static kvs_slice key_of(unsigned i, char name[16])
{
    snprintf(name, 16, "key-%05u", i);
    return slice_make(name, strlen(name));
}

static unsigned state_of(struct txn_fixture *f)
{
    return atomic_load(&f->node->newest.state);
}

/* An optimistic put of key i: the kind of its error. */
static int put_at(struct txn_fixture *f, unsigned i, uint64_t start_ts)
{
    char name[16];
    struct txn_mutation put = txn_put_of(key_of(i, name), S("v"));
    int result = txn_prewrite_one(f, &put, start_ts);
    if (result == 0)
        assert_int_equal(txn_rollback_one(f, put.key, start_ts), 0);
    return result;
}

/* All that was written at 20 conflicts with what began at 15, and not with what began at 30. */
static void test_before_the_node(struct txn_fixture *f)
{
    char name[16];
    if ((f->base.engine->capabilities & ENGINE_CAP_DURABLE) == 0)
        return;
    for (unsigned i = 0; i < KEYS; i++)
        assert_int_equal(txn_put(f, key_of(i, name), S("v"), 10, 20), 0);
    assert_int_equal(txn_fixture_reopen(f), 0);
    bool walks = true;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < KEYS; i++) {
            assert_int_equal(put_at(f, i, 15), TXN_ERROR_WRITE_CONFLICT);
            assert_int_equal(put_at(f, KEYS + i, 15 + round), 0);
        }
        walks = walks && state_of(f) == NEWEST_WALKING;
    }
    assert_false(walks); /* it has come to its end, or was given up */
    for (unsigned i = 0; i < KEYS; i++)
        assert_int_equal(put_at(f, i, 30), 0);
}

/* What a slot says is of all its keys, and of those of now. */
static void test_slots(struct txn_fixture *f)
{
    struct newest *newest = &f->node->newest;
    struct engine_view view;
    assert_int_equal(engine_view_begin(f->base.engine, NULL, false, &view), 0);
    assert_false(newest_is_below(newest, &view, S("a"), 1)); /* it has only begun to look */
    assert_int_equal(state_of(f), NEWEST_KNOWN);             /* there was nothing */
    assert_true(newest_is_below(newest, &view, S("a"), 1));
    newest_raise(newest, S("a"), 20);
    newest_raise(newest, S("a"), 10);
    assert_false(newest_is_below(newest, &view, S("a"), 20));
    assert_true(newest_is_below(newest, &view, S("a"), 21));
    engine_view_end(&view);
}

int main(void)
{
    static const struct txn_test tests[] = {
        {"versions of before", test_before_the_node},
        {"slots", test_slots},
    };
    return txn_tests_run("txn-newest", tests, sizeof tests / sizeof tests[0]);
}

/* base/rope.c: beside plain buffers; budgets; no memory. */
#include "base/rope.h"

#include "base/buf.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/rand.h"

#include <kvs/error.h>
#include <stdatomic.h>

#include "test.h"

/* A rope, and what has to be in it. */
struct both {
    struct rope rope;
    struct buf plain;
};

static void both_add(struct both *both, struct rand *rand, uint64_t size_max)
{
    size_t size = rand_below(rand, size_max + 1);
    uint8_t *room;
    assert_int_equal(rope_room(&both->rope, size, &room), 0);
    for (size_t i = 0; i < size; i++)
        room[i] = (uint8_t)rand_u64(rand);
    assert_int_equal(buf_append(&both->plain, room, size), 0);
}

static void both_take(struct both *both, struct rand *rand)
{
    size_t size = rand_below(rand, both->plain.size + 1);
    uint8_t *taken = mem_alloc(size + 1);
    rope_take(&both->rope, size, taken);
    if (size > 0)
        assert_memory_equal(taken, both->plain.data, size);
    buf_consume(&both->plain, size);
    mem_free(taken);
}

static void both_cut(struct both *both, struct rand *rand)
{
    both->plain.size = rand_below(rand, both->plain.size + 1);
    rope_cut(&both->rope, both->plain.size);
}

static void both_move(struct both *to, struct both *from)
{
    rope_move(&to->rope, &from->rope);
    assert_int_equal(buf_append_slice(&to->plain, buf_slice(&from->plain)), 0);
    buf_clear(&from->plain);
}

static void test_as_plain_buffers(void **state)
{
    (void)state;
    struct rope_budget budget = {0};
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct rand rand = rand_seed(seed);
        struct both both[2] = {{.rope.budget = &budget}, {.rope.budget = &budget}};
        for (unsigned step = 0; step < 200; step++) {
            struct both *one = &both[rand_below(&rand, 2)];
            uint64_t what = rand_below(&rand, 10);
            if (what < 6)
                both_add(one, &rand, rand_below(&rand, 4) == 0 ? 300000 : 300);
            else if (what < 8)
                both_take(one, &rand);
            else if (what == 8)
                both_cut(one, &rand);
            else
                both_move(one, one == both ? &both[1] : both);
            for (unsigned i = 0; i < 2; i++)
                assert_int_equal(both[i].rope.size, both[i].plain.size);
            uint64_t counted = atomic_load(&budget.bytes);
            assert_true(counted >= both[0].plain.size + both[1].plain.size);
        }
        for (unsigned i = 0; i < 2; i++) {
            rope_deinit(&both[i].rope);
            buf_deinit(&both[i].plain);
        }
        assert_int_equal(atomic_load(&budget.bytes), 0);
    }
}

/* What does not fit changes nothing; there is room again when others give theirs back, also when
 * it has moved to a rope without a budget. */
static void test_a_budget(void **state)
{
    (void)state;
    struct rope_budget budget = {.bytes_max = 100000};
    struct rope first = {.budget = &budget}, second = {.budget = &budget}, other = {0};
    uint8_t *room;
    assert_int_equal(rope_room(&first, 60000, &room), 0);
    assert_int_equal(rope_room(&second, 30000, &room), 0);
    assert_int_equal(rope_room(&second, 20000, &room), KVS_ERR_BUSY);
    assert_int_equal(second.size, 30000);
    assert_int_equal(atomic_load(&budget.bytes), 90000);
    rope_move(&other, &first);
    assert_int_equal(rope_room(&second, 20000, &room), KVS_ERR_BUSY);
    assert_int_equal(rope_room(&other, 200000, &room), 0); /* not counted */
    rope_deinit(&other);
    assert_int_equal(rope_room(&second, 20000, &room), 0);
    rope_deinit(&second);
    assert_int_equal(atomic_load(&budget.bytes), 0);
}

/* As many short ones as a large answer has cost little more than their bytes. */
static void test_slack(void **state)
{
    (void)state;
    struct rope_budget budget = {0};
    struct rope rope = {.budget = &budget};
    struct rand rand = rand_seed(1);
    uint8_t *room;
    while (rope.size < 50u << 20)
        assert_int_equal(rope_room(&rope, 1 + rand_below(&rand, 200000), &room), 0);
    assert_true(atomic_load(&budget.bytes) < rope.size + rope.size / 4);
    rope_deinit(&rope);
}

#ifdef KVS_FAULTS
static void test_no_memory(void **state)
{
    (void)state;
    struct rope_budget budget = {0};
    struct rope rope = {.budget = &budget};
    uint8_t *room;
    assert_int_equal(rope_append(&rope, slice_of_string("abc")), 0);
    uint64_t counted = atomic_load(&budget.bytes);
    fault_arm(FAULT_ALLOC, 1, false);
    assert_int_equal(rope_room(&rope, 100000, &room), KVS_ERR_NO_MEMORY);
    fault_reset();
    assert_int_equal(rope.size, 3);
    assert_int_equal(atomic_load(&budget.bytes), counted);
    rope_deinit(&rope);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_plain_buffers),
        cmocka_unit_test(test_a_budget),
        cmocka_unit_test(test_slack),
#ifdef KVS_FAULTS
        cmocka_unit_test(test_no_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

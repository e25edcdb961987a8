/* runtime/op.c: completions reach their loops in order, however many loops take part. */
#include "runtime/op.h"

#include "runtime/loop.h"

#include "test.h"

#define LOOPS (COMPLETIONS_LOOPS_MAX + 2)
#define OPS_PER_LOOP 5

struct counted_op {
    struct op op;
    unsigned loop, number;
};

static unsigned next_of[LOOPS + 1];

static void op_on_done(struct task *task)
{
    struct op *op = CONTAINER_OF(task, struct op, task);
    const struct counted_op *counted = CONTAINER_OF(op, struct counted_op, op);
    assert_int_equal(op->error, -(int)counted->number);
    assert_int_equal(next_of[counted->loop]++, counted->number);
    assert_true(op->loop == NULL || loop_is_current(op->loop));
}

static void test_completions(void **state)
{
    (void)state;
    static struct loop loops[LOOPS];
    static struct counted_op ops[LOOPS + 1][OPS_PER_LOOP];
    struct completions completions = COMPLETIONS_INIT;
    for (unsigned i = 0; i < LOOPS; i++)
        assert_int_equal(loop_init(&loops[i], i), 0);
    for (unsigned number = 0; number < OPS_PER_LOOP; number++) {
        for (unsigned i = 0; i <= LOOPS; i++) {
            struct counted_op *counted = &ops[i][number];
            *counted = (struct counted_op){.loop = i, .number = number};
            counted->op.task.run = op_on_done;
            counted->op.loop = i < LOOPS ? &loops[i] : NULL; /* the last kind: run by the flush */
            completions_add(&completions, &counted->op, -(int)number);
        }
    }
    completions_flush(&completions);
    assert_int_equal(completions.count, 0);
    assert_int_equal(next_of[LOOPS], OPS_PER_LOOP);
    for (unsigned i = 0; i < LOOPS; i++) {
        while (next_of[i] < OPS_PER_LOOP)
            loop_turn(&loops[i], true);
        loop_deinit(&loops[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_completions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* tests/contract/contract_write.c: batches, conditions, results, order, where writes complete. */
#include "base/mem.h"
#include "contract/contract.h"
#include "test.h"

#define OK(call) assert_int_equal((call), 0)

void contract_batch_order(struct fixture *fixture)
{
    OK(set_wait(fixture, S("old"), S("before")));
    const kvs_mutation mutations[] = {
        mutation_set(S("a"), S("1")),      mutation_remove(S("a")),
        mutation_set(S("a"), S("2")),      mutation_set(S("b"), S("1")),
        mutation_remove(S("b")),           mutation_set(S("c"), S("1")),
        mutation_set(S("c"), S("2")),      mutation_set(S("c"), S("")),
        mutation_remove(S("old")),         mutation_set_in(1, S("a"), S("other family")),
        mutation_remove(S("never there")),
    };
    OK(batch_wait(fixture, mutations, sizeof mutations / sizeof mutations[0]));
    check_value(fixture, "a", "2");
    check_value(fixture, "b", NULL);
    check_value(fixture, "c", "");
    check_value(fixture, "old", NULL);
    assert_int_equal(count_all(fixture, 0), 2);
    assert_int_equal(count_all(fixture, 1), 1);
}

void contract_batch_range(struct fixture *fixture)
{
    const kvs_mutation before[] = {mutation_set(S("a"), S("0")), mutation_set(S("b1"), S("0")),
                                   mutation_set(S("b2"), S("0")), mutation_set(S("c"), S("0"))};
    OK(batch_wait(fixture, before, 4));
    const kvs_mutation mutations[] = {
        mutation_set(S("b1"), S("1")),         mutation_set(S("b3"), S("1")),
        mutation_remove_range(S("b"), S("c")), mutation_set(S("b2"), S("2")),
        mutation_set(S("d"), S("2")),          mutation_remove_range(S("d"), S("")),
        mutation_remove_range(S("x"), S("b")), /* ends before it starts */
    };
    struct engine_write write = {.mutations = mutations,
                                 .mutations_count = sizeof mutations / sizeof mutations[0]};
    OK(write_wait(fixture, &write));
    check_value(fixture, "a", "0");
    check_value(fixture, "b1", NULL);
    check_value(fixture, "b2", "2");
    check_value(fixture, "b3", NULL);
    check_value(fixture, "c", "0");
    check_value(fixture, "d", NULL);
    assert_int_equal(count_all(fixture, 0), 3);
    assert_int_equal(write.removed_count, 4);

    const kvs_mutation all = mutation_remove_range(S(""), S(""));
    struct engine_write removal = {.mutations = &all, .mutations_count = 1};
    OK(write_wait(fixture, &removal));
    assert_int_equal(removal.removed_count, 3);
    assert_int_equal(count_all(fixture, 0), 0);
}

#define LARGE_COUNT KVS_BATCH_COUNT_MAX

void contract_batch_large(struct fixture *fixture)
{
    kvs_mutation *mutations = mem_zalloc(LARGE_COUNT * sizeof *mutations);
    char(*keys)[16] = mem_zalloc(LARGE_COUNT * sizeof *keys);
    assert_non_null(mutations);
    assert_non_null(keys);
    for (uint32_t i = 0; i < LARGE_COUNT; i++) {
        char text[TEXT_SIZE_MAX];
        kvs_slice key = text_format(text, "%08x", (i * 2654435761u) >> 4);
        memcpy(keys[i], key.data, key.size);
        mutations[i] = mutation_set(slice_make(keys[i], key.size), slice_make(keys[i], key.size));
    }
    OK(batch_wait(fixture, mutations, LARGE_COUNT));
    uint64_t count = count_all(fixture, 0);
    assert_true(count > LARGE_COUNT / 2); /* some keys come twice */
    for (uint32_t i = 0; i < LARGE_COUNT; i++)
        mutations[i].kind = KVS_MUTATION_REMOVE;
    struct engine_write removal = {.mutations = mutations, .mutations_count = LARGE_COUNT};
    OK(write_wait(fixture, &removal));
    assert_int_equal(removal.removed_count, count);
    assert_int_equal(count_all(fixture, 0), 0);
    mem_free(mutations);
    mem_free(keys);
}

void contract_removed_count(struct fixture *fixture)
{
    uint64_t removed;
    OK(remove_wait(fixture, S("k"), &removed));
    assert_int_equal(removed, 0);
    OK(set_wait(fixture, S("k"), S("v")));
    OK(remove_wait(fixture, S("k"), &removed));
    assert_int_equal(removed, 1);
    OK(remove_wait(fixture, S("k"), &removed));
    assert_int_equal(removed, 0);
    OK(set_wait(fixture, S("k"), S("v")));
    OK(set_wait(fixture, S("l"), S("v")));
    const kvs_mutation mutations[] = {mutation_remove(S("k")), mutation_remove(S("k")),
                                      mutation_remove(S("m")),
                                      mutation_remove_range(S("a"), S("z"))};
    struct engine_write write = {.mutations = mutations, .mutations_count = 4};
    OK(write_wait(fixture, &write));
    assert_int_equal(write.removed_count, 2);
}

/* --- conditions -------------------------------------------------------------------------------*/

static struct engine_condition condition(enum engine_condition_kind kind, kvs_slice key,
                                         kvs_slice value)
{
    return (struct engine_condition){.kind = (uint8_t)kind, .key = key, .value = value};
}

void contract_conditions(struct fixture *fixture)
{
    OK(set_wait(fixture, S("there"), S("v")));
    OK(set_wait(fixture, S("empty"), S("")));
    const struct {
        struct engine_condition condition;
        int error;
    } cases[] = {
        {condition(ENGINE_CONDITION_EXISTS, S("there"), S("")), 0},
        {condition(ENGINE_CONDITION_EXISTS, S("empty"), S("")), 0},
        {condition(ENGINE_CONDITION_EXISTS, S("missing"), S("")), KVS_ERR_NOT_FOUND},
        {condition(ENGINE_CONDITION_ABSENT, S("missing"), S("")), 0},
        {condition(ENGINE_CONDITION_ABSENT, S("there"), S("")), KVS_ERR_ALREADY_EXISTS},
        {condition(ENGINE_CONDITION_ABSENT, S("empty"), S("")), KVS_ERR_ALREADY_EXISTS},
        {condition(ENGINE_CONDITION_EQUALS, S("there"), S("v")), 0},
        {condition(ENGINE_CONDITION_EQUALS, S("empty"), S("")), 0},
        {condition(ENGINE_CONDITION_EQUALS, S("there"), S("")), KVS_ERR_CONDITION_FAILED},
        {condition(ENGINE_CONDITION_EQUALS, S("there"), S("v ")), KVS_ERR_CONDITION_FAILED},
        {condition(ENGINE_CONDITION_EQUALS, S("there"), S("w")), KVS_ERR_CONDITION_FAILED},
        {condition(ENGINE_CONDITION_EQUALS, S("missing"), S("")), KVS_ERR_CONDITION_FAILED},
    };
    size_t count = sizeof cases / sizeof cases[0];
    /* Each alone, each before and behind one that holds; and without any mutation. */
    for (size_t i = 0; i < 4 * count; i++) {
        struct engine_condition holds = condition(ENGINE_CONDITION_EXISTS, S("there"), S(""));
        struct engine_condition conditions[] = {cases[i / 4].condition, holds, holds};
        if (i % 4 == 2) {
            conditions[0] = holds;
            conditions[2] = cases[i / 4].condition;
        }
        const kvs_mutation mutations[] = {mutation_set(S("a"), S("1")), mutation_remove(S("z")),
                                          mutation_set_in(5, S("b"), S("1"))};
        struct engine_write write = {.mutations = mutations,
                                     .mutations_count = i % 4 == 3 ? 0 : 3,
                                     .conditions = conditions,
                                     .conditions_count = i % 4 == 0 ? 1 : 3};
        OK(set_wait(fixture, S("z"), S("")));
        assert_int_equal(write_wait(fixture, &write), cases[i / 4].error);
        bool done = cases[i / 4].error == 0 && write.mutations_count > 0;
        check_value(fixture, "a", done ? "1" : NULL);
        check_value(fixture, "z", done ? NULL : "");
        assert_int_equal(count_all(fixture, 5), done);
        const kvs_mutation clear[] = {mutation_remove(S("a")),
                                      {.kind = KVS_MUTATION_REMOVE, .family = 5, .key = S("b")}};
        OK(batch_wait(fixture, clear, 2));
    }
}

void contract_conditions_in_chain(struct fixture *fixture)
{
    struct engine_condition absent = condition(ENGINE_CONDITION_ABSENT, S("k"), S(""));
    struct engine_condition exists = condition(ENGINE_CONDITION_EXISTS, S("k"), S(""));
    struct engine_condition equals = condition(ENGINE_CONDITION_EQUALS, S("k"), S("2"));
    const kvs_mutation mutations[] = {mutation_set(S("k"), S("1")), mutation_set(S("k"), S("2")),
                                      mutation_remove(S("k"))};
    const struct {
        const struct engine_condition *condition;
        const kvs_mutation *mutation;
        int error;
    } steps[] = {
        {&exists, &mutations[1], KVS_ERR_NOT_FOUND},
        {&absent, &mutations[0], 0},
        {&absent, &mutations[1], KVS_ERR_ALREADY_EXISTS},
        {&equals, &mutations[2], KVS_ERR_CONDITION_FAILED},
        {&exists, &mutations[1], 0},
        {&equals, &mutations[2], 0},
        {&exists, &mutations[1], KVS_ERR_NOT_FOUND},
        {&absent, &mutations[0], 0},
    };
    enum { STEPS = sizeof steps / sizeof steps[0] };
    struct pending_write pending[STEPS];
    struct latch latch;
    latch_init(&latch, STEPS);
    struct task_list list = {0};
    for (unsigned i = 0; i < STEPS; i++) {
        pending_write_init(&pending[i], &latch, &fixture->loop, steps[i].mutation, 1);
        pending[i].write.conditions = steps[i].condition;
        pending[i].write.conditions_count = 1;
        task_list_push(&list, &pending[i].write.op.task);
    }
    engine_write_list(fixture->engine, &list);
    latch_wait(&latch);
    latch_deinit(&latch);
    for (unsigned i = 0; i < STEPS; i++)
        assert_int_equal(pending[i].write.op.error, steps[i].error);
    check_value(fixture, "k", "1");
}

static void check_previous(struct fixture *fixture, kvs_mutation mutation,
                           const struct engine_condition *failing, int error, const char *text)
{
    struct engine_write write = {.mutations = &mutation,
                                 .mutations_count = 1,
                                 .conditions = failing,
                                 .conditions_count = failing != NULL,
                                 .flags = ENGINE_WRITE_WANT_PREVIOUS};
    assert_int_equal(write_wait(fixture, &write), error);
    assert_int_equal(write.previous_found, text != NULL);
    if (text != NULL) {
        assert_int_equal(write.previous.size, strlen(text));
        if (write.previous.size > 0)
            assert_memory_equal(write.previous.data, text, strlen(text));
    }
    buf_deinit(&write.previous);
}

void contract_previous(struct fixture *fixture)
{
    check_previous(fixture, mutation_set(S("k"), S("1")), NULL, 0, NULL);
    check_previous(fixture, mutation_set(S("k"), S("")), NULL, 0, "1");
    check_previous(fixture, mutation_set(S("k"), S("3")), NULL, 0, "");
    struct engine_condition equals = condition(ENGINE_CONDITION_EQUALS, S("k"), S("x"));
    check_previous(fixture, mutation_set(S("k"), S("4")), &equals, KVS_ERR_CONDITION_FAILED, "3");
    equals.key = S("missing");
    check_previous(fixture, mutation_set(S("k"), S("4")), &equals, KVS_ERR_CONDITION_FAILED, NULL);
    struct engine_condition absent = condition(ENGINE_CONDITION_ABSENT, S("k"), S(""));
    check_previous(fixture, mutation_set(S("k"), S("4")), &absent, KVS_ERR_ALREADY_EXISTS, "3");
    absent.key = S("missing");
    check_previous(fixture, mutation_set(S("k"), S("4")), &absent, 0, "3");
    check_previous(fixture, mutation_remove(S("k")), NULL, 0, "4");
    check_previous(fixture, mutation_remove(S("k")), NULL, 0, NULL);

    /* Of a large value, a whole copy; and a chain sees the writes before. */
    size_t size = 3 * 1000 * 1000;
    uint8_t *bytes = mem_alloc(size);
    assert_non_null(bytes);
    bytes_fill(bytes, size, 7);
    OK(set_wait(fixture, S("large"), slice_make(bytes, size)));
    const kvs_mutation mutation = mutation_remove(S("large"));
    struct engine_write write = {
        .mutations = &mutation, .mutations_count = 1, .flags = ENGINE_WRITE_WANT_PREVIOUS};
    OK(write_wait(fixture, &write));
    assert_true(write.previous_found);
    assert_int_equal(write.previous.size, size);
    assert_memory_equal(write.previous.data, bytes, size);
    buf_deinit(&write.previous);
    mem_free(bytes);
}

/* --- order and completion ---------------------------------------------------------------------*/

#define ORDER_WRITES 1000

void contract_order_of_thread(struct fixture *fixture)
{
    static struct pending_write pending[ORDER_WRITES];
    static kvs_mutation mutations[ORDER_WRITES];
    static char texts[ORDER_WRITES][TEXT_SIZE_MAX];
    struct latch latch;
    latch_init(&latch, ORDER_WRITES);
    for (unsigned i = 0; i < ORDER_WRITES; i++) {
        mutations[i] = mutation_set(S("k"), text_format(texts[i], "%u", i));
        pending_write_init(&pending[i], &latch, &fixture->loop, &mutations[i], 1);
        pending[i].write.flags = ENGINE_WRITE_WANT_PREVIOUS;
    }
    /* Alone and in chains, mixed. */
    for (unsigned i = 0; i < ORDER_WRITES;) {
        if (i % 3 == 0) {
            engine_write(fixture->engine, &pending[i++].write);
            continue;
        }
        struct task_list list = {0};
        for (unsigned end = i + i % 7 + 1; i < end && i < ORDER_WRITES; i++)
            task_list_push(&list, &pending[i].write.op.task);
        engine_write_list(fixture->engine, &list);
        assert_null(list.first);
    }
    latch_wait(&latch);
    latch_deinit(&latch);
    for (unsigned i = 0; i < ORDER_WRITES; i++) {
        struct engine_write *write = &pending[i].write;
        assert_int_equal(write->op.error, 0);
        assert_int_equal(write->previous_found, i > 0);
        if (i > 0)
            assert_true(slice_equal(buf_slice(&write->previous), slice_of_string(texts[i - 1])));
        buf_deinit(&write->previous);
    }
    check_value(fixture, "k", texts[ORDER_WRITES - 1]);
}

#define LOOP_WRITES 64

/* Submits from a task of the loop, so that a completion inside the call would be noticed. */
struct loop_submit {
    struct task task;
    struct fixture *fixture;
    struct pending_write pending[LOOP_WRITES];
    kvs_mutation mutation;
    struct latch latch;
    bool submitting;
    unsigned inside;
    unsigned elsewhere;
};

static struct loop_submit loop_submit;

static void loop_submit_on_done(struct task *task)
{
    loop_submit.inside += loop_submit.submitting;
    loop_submit.elsewhere += !loop_is_current(&loop_submit.fixture->loop);
    latch_down(&loop_submit.latch);
}

static void loop_submit_run(struct task *task)
{
    loop_submit.submitting = true;
    for (unsigned i = 0; i < LOOP_WRITES; i++)
        engine_write(loop_submit.fixture->engine, &loop_submit.pending[i].write);
    loop_submit.submitting = false;
}

void contract_completion_on_loop(struct fixture *fixture)
{
    loop_submit = (struct loop_submit){
        .task.run = loop_submit_run,
        .fixture = fixture,
        .mutation = mutation_set(S("k"), S("v")),
    };
    latch_init(&loop_submit.latch, LOOP_WRITES);
    struct engine_condition fails = condition(ENGINE_CONDITION_EXISTS, S("missing"), S(""));
    for (unsigned i = 0; i < LOOP_WRITES; i++) {
        struct engine_write *write = &loop_submit.pending[i].write;
        pending_write_init(&loop_submit.pending[i], &loop_submit.latch, &fixture->loop,
                           &loop_submit.mutation, 1);
        write->op.task.run = loop_submit_on_done;
        write->conditions = &fails;
        write->conditions_count = i % 2;
    }
    loop_post(&fixture->loop, &loop_submit.task);
    latch_wait(&loop_submit.latch);
    latch_deinit(&loop_submit.latch);
    assert_int_equal(loop_submit.inside, 0);
    assert_int_equal(loop_submit.elsewhere, 0);
    for (unsigned i = 0; i < LOOP_WRITES; i++)
        assert_int_equal(loop_submit.pending[i].write.op.error, i % 2 ? KVS_ERR_NOT_FOUND : 0);
}

void contract_completion_without_loop(struct fixture *fixture)
{
    const kvs_mutation mutation = mutation_set(S("k"), S("v"));
    struct latch latch;
    latch_init(&latch, 1);
    struct pending_write pending;
    pending_write_init(&pending, &latch, NULL, &mutation, 1);
    engine_write(fixture->engine, &pending.write);
    latch_wait(&latch);
    latch_deinit(&latch);
    assert_int_equal(pending.write.op.error, 0);
    assert_false(pthread_equal(pending.completed_on, pthread_self()));
}

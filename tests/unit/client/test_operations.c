/* client/operations.c: order, bounds, deadlines, and what a loss means; no clock, no socket. */
#include "client/operations.h"

#include "base/rand.h"

#include <kvs/error.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "test.h"

struct item {
    struct operation operation;
    int error;
    bool was_sent;
    unsigned ended;
};

static void on_give_up(struct operations *operations, struct operation *operation, bool was_sent,
                       int error, const char *why)
{
    (void)operations;
    assert_string_equal(why, "why");
    struct item *item = (struct item *)operation;
    item->error = error;
    item->was_sent = was_sent;
    item->ended++;
}

static struct operations *new_operations(uint64_t now_ms)
{
    struct operations *operations = malloc(sizeof *operations);
    assert_non_null(operations);
    operations_init(operations, 1000, 1000000, on_give_up, now_ms);
    return operations;
}

static void add(struct operations *operations, struct item *item, uint64_t deadline_ms, bool again)
{
    *item = (struct item){.operation = {.deadline_ms = deadline_ms, .repeatable = again}};
    assert_int_equal(operations_add(operations, &item->operation), 0);
}

static void send_first(struct operations *operations, struct item *expected)
{
    assert_ptr_equal(operations_first_waiting(operations), &expected->operation);
    operations_sent(operations, &expected->operation);
}

static void test_loss_keeps_order_and_safety(void **state)
{
    (void)state;
    struct operations *operations = new_operations(1000);
    struct item items[5];
    for (int i = 0; i < 5; i++)
        add(operations, &items[i], 5000, i != 1); /* item 1 is a write */
    for (int i = 0; i < 4; i++)
        send_first(operations, &items[i]);
    operations_on_lost(operations, false, KVS_ERR_CONNECTION_LOST, "why");
    assert_int_equal(items[1].ended, 1);
    assert_int_equal(items[1].error, KVS_ERR_OUTCOME_UNKNOWN);
    assert_true(items[1].was_sent);
    send_first(operations, &items[0]);
    send_first(operations, &items[2]);
    send_first(operations, &items[3]);
    send_first(operations, &items[4]);
    assert_null(operations_first_waiting(operations));

    /* The budget of attempts ends; item 4 has one left. */
    operations_on_lost(operations, false, KVS_ERR_CONNECTION_LOST, "why");
    for (int i = 0; i < 5; i++)
        if (i != 1)
            send_first(operations, &items[i]);
    operations_on_lost(operations, false, KVS_ERR_CONNECTION_LOST, "why");
    for (int i = 0; i < 5; i++)
        if (i != 1)
            send_first(operations, &items[i]);
    operations_on_lost(operations, false, KVS_ERR_CONNECTION_LOST, "why");
    assert_int_equal(items[0].error, KVS_ERR_CONNECTION_LOST);
    assert_int_equal(items[4].ended, 0);
    send_first(operations, &items[4]);
    operations_take(operations, &items[4].operation);
    assert_int_equal(operations->count, 0);
    assert_int_equal(operations_due_ms(operations), UINT64_MAX);
    free(operations);
}

/* What is put back one by one keeps its order, too, and so does what a loss puts back then. */
static void test_what_is_put_back_keeps_its_order(void **state)
{
    (void)state;
    struct operations *operations = new_operations(1000);
    struct item items[6];
    for (int i = 0; i < 6; i++)
        add(operations, &items[i], 5000, true);
    for (int i = 0; i < 5; i++)
        send_first(operations, &items[i]);
    for (int i = 0; i < 3; i++)
        operations_put_back(operations, &items[i].operation);
    send_first(operations, &items[0]);
    operations_take(operations, &items[2].operation);
    operations_on_lost(operations, false, KVS_ERR_CONNECTION_LOST, "why");
    send_first(operations, &items[0]);
    send_first(operations, &items[1]);
    send_first(operations, &items[3]);
    operations_put_back(operations, &items[3].operation);
    operations_put_back(operations, &items[0].operation);
    send_first(operations, &items[0]);
    send_first(operations, &items[3]);
    send_first(operations, &items[4]);
    send_first(operations, &items[5]);
    assert_null(operations_first_waiting(operations));
    operations_put_back(operations, &items[5].operation);
    add(operations, &items[2], 5000, true);
    operations_put_back(operations, &items[4].operation);
    send_first(operations, &items[4]);
    send_first(operations, &items[5]);
    send_first(operations, &items[2]);
    free(operations);
}

static void test_known_not_carried_out_is_sent_again(void **state)
{
    (void)state;
    struct operations *operations = new_operations(0);
    struct item write;
    add(operations, &write, 100, false);
    send_first(operations, &write);
    operations_on_lost(operations, true, KVS_ERR_CONNECTION_LOST, "why");
    assert_int_equal(write.ended, 0);
    operations_fail_waiting(operations, KVS_ERR_CLOSED, "why");
    assert_int_equal(write.error, KVS_ERR_CLOSED);
    assert_false(write.was_sent);
    free(operations);
}

static void test_bounds(void **state)
{
    (void)state;
    struct operations *operations = malloc(sizeof *operations);
    assert_non_null(operations);
    operations_init(operations, 2, 100, on_give_up, 0);
    struct item items[3] = {0};
    items[0].operation.size_bytes = 1000; /* alone, anything goes */
    assert_int_equal(operations_add(operations, &items[0].operation), 0);
    assert_int_equal(operations_add(operations, &items[1].operation), KVS_ERR_BUSY);
    operations_take(operations, &items[0].operation);
    for (int i = 0; i < 3; i++)
        items[i].operation.size_bytes = 10;
    assert_int_equal(operations_add(operations, &items[0].operation), 0);
    assert_int_equal(operations_add(operations, &items[1].operation), 0);
    assert_int_equal(operations_add(operations, &items[2].operation), KVS_ERR_BUSY);
    free(operations);
}

/* Against the obvious model: each ends in the first call at or after its deadline, give or take a
 * tick, and none earlier. */
static void test_deadlines_random(void **state)
{
    (void)state;
    uint64_t seed = (uint64_t)time(NULL);
    print_message("# seed %llu\n", (unsigned long long)seed);
    struct rand rand = rand_seed(seed);
    enum { COUNT = 800 };
    struct item *items = calloc(COUNT, sizeof *items);
    uint64_t *deadlines = calloc(COUNT, sizeof *deadlines);
    uint64_t now = rand_below(&rand, 1u << 30);
    struct operations *operations = new_operations(now);
    for (unsigned i = 0; i < COUNT; i++) {
        deadlines[i] = now + rand_below(&rand, 30000);
        add(operations, &items[i], deadlines[i], i % 2 == 0);
        if (rand_below(&rand, 2) == 0)
            operations_sent(operations, &items[i].operation);
    }
    while (operations->count > 0) {
        uint64_t due = operations_due_ms(operations);
        now = due > now && rand_below(&rand, 4) > 0 ? due : now + rand_below(&rand, 9000);
        operations_expire(operations, now, "why");
        for (unsigned i = 0; i < COUNT; i++) {
            if (deadlines[i] > now)
                assert_int_equal(items[i].ended, 0);
            else if (deadlines[i] + 2 * OPERATIONS_TICK_MS < now)
                assert_int_equal(items[i].ended, 1);
        }
    }
    for (unsigned i = 0; i < COUNT; i++) {
        bool unknown = i % 2 != 0 && items[i].was_sent;
        assert_int_equal(items[i].error, unknown ? KVS_ERR_OUTCOME_UNKNOWN : KVS_ERR_TIMEOUT);
    }
    free(operations);
    free(deadlines);
    free(items);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss_keeps_order_and_safety),
        cmocka_unit_test(test_what_is_put_back_keeps_its_order),
        cmocka_unit_test(test_known_not_carried_out_is_sent_again),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_deadlines_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

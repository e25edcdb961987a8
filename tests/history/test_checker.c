/*
 * tests/history/test_checker.c: the checker of histories, by histories that must pass and ones that
 * must be refused, and by small random ones whose every order is tried.
 */
#include "history/linearizable.h"

#include "base/clock.h"
#include "base/rand.h"
#include "contract/engine_fixture.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALLS_MAX 64

struct history {
    struct history_call calls[CALLS_MAX];
    size_t count;
};

static struct history_call *add(struct history *history, enum history_kind kind, uint64_t called,
                                uint64_t returned)
{
    struct history_call *call = &history->calls[history->count++];
    *call = (struct history_call){
        .called = called, .returned = returned, .kind = (uint8_t)kind, .mask = 1, .held = true};
    return call;
}

static void set(struct history *history, uint64_t called, uint64_t returned, uint16_t value)
{
    add(history, HISTORY_SET, called, returned)->values[0] = value;
}

static void get(struct history *history, uint64_t called, uint64_t returned, uint16_t value)
{
    add(history, HISTORY_GET, called, returned)->values[0] = value;
}

static void cas(struct history *history, uint64_t called, uint64_t returned, uint16_t expected,
                uint16_t value, bool held)
{
    struct history_call *call = add(history, HISTORY_CAS, called, returned);
    call->expected = expected;
    call->values[0] = value;
    call->held = held;
}

static void erase(struct history *history, uint64_t called, uint64_t returned, bool held)
{
    add(history, HISTORY_REMOVE, called, returned)->held = held;
}

/* Two registers at once. */
static void both(struct history *history, enum history_kind kind, uint64_t called,
                 uint64_t returned, uint16_t first, uint16_t second)
{
    struct history_call *call = add(history, kind, called, returned);
    call->mask = 3;
    call->values[0] = first;
    call->values[1] = second;
}

static enum history_verdict verdict_of(const struct history *history)
{
    return history_check(history->calls, history->count, NULL, NULL);
}

static void fine(struct history *history)
{
    assert_int_equal(verdict_of(history), HISTORY_FINE);
    history->count = 0;
}

static void refused(struct history *history)
{
    assert_int_equal(verdict_of(history), HISTORY_REFUSED);
    history->count = 0;
}

static void test_one_register(void **state)
{
    struct history h = {.count = 0};
    fine(&h);
    get(&h, 1, 2, 0); /* nothing is there at the begin */
    fine(&h);
    get(&h, 1, 2, 7); /* nobody wrote it */
    refused(&h);
    set(&h, 1, 2, 1); /* a write that was done is seen */
    get(&h, 3, 4, 0);
    refused(&h);
    set(&h, 1, 4, 1); /* one under way may be seen or not */
    get(&h, 2, 3, 0);
    fine(&h);
    set(&h, 1, 10, 1); /* but not be seen, and then not */
    get(&h, 2, 3, 1);
    get(&h, 4, 5, 0);
    refused(&h);
    set(&h, 1, 10, 1); /* reads at the same time may be in any order */
    get(&h, 2, 5, 1);
    get(&h, 4, 6, 0);
    fine(&h);
    set(&h, 1, 2, 1); /* an older value comes back */
    set(&h, 3, 4, 2);
    get(&h, 5, 6, 1);
    refused(&h);
    set(&h, 1, 4, 1); /* of two at the same time either is the last, for all */
    set(&h, 2, 3, 2);
    get(&h, 5, 6, 1);
    get(&h, 7, 8, 2);
    refused(&h);
    set(&h, 1, 4, 1);
    set(&h, 2, 3, 2);
    get(&h, 5, 6, 2);
    get(&h, 7, 8, 2);
    fine(&h);
}

static void test_conditions(void **state)
{
    struct history h = {.count = 0};
    cas(&h, 1, 4, 0, 1, true); /* both were the first */
    cas(&h, 2, 3, 0, 2, true);
    refused(&h);
    cas(&h, 1, 4, 0, 1, true);
    cas(&h, 2, 3, 0, 1, false); /* the loser was told what the winner left */
    fine(&h);
    cas(&h, 1, 2, 0, 1, true);
    cas(&h, 3, 4, 1, 2, true);
    cas(&h, 5, 6, 1, 1, false); /* it failed although its value was there */
    refused(&h);
    set(&h, 1, 2, 5);
    erase(&h, 3, 6, true); /* both removed the one value */
    erase(&h, 4, 5, true);
    refused(&h);
    set(&h, 1, 2, 5);
    erase(&h, 3, 6, true);
    erase(&h, 4, 5, false);
    get(&h, 7, 8, 0);
    fine(&h);
    set(&h, 1, 2, 5); /* a lost update: two increments of the same value */
    cas(&h, 3, 6, 5, 6, true);
    cas(&h, 4, 5, 5, 7, true);
    refused(&h);
}

static void test_unknown_outcomes(void **state)
{
    struct history h = {.count = 0};
    set(&h, 1, HISTORY_NEVER, 1); /* never, or later, but once and for all */
    get(&h, 2, 3, 0);
    fine(&h);
    set(&h, 1, HISTORY_NEVER, 1);
    get(&h, 2, 3, 0);
    get(&h, 100, 101, 1);
    fine(&h);
    set(&h, 1, HISTORY_NEVER, 1);
    get(&h, 2, 3, 1);
    get(&h, 4, 5, 0);
    refused(&h);
    get(&h, 1, 2, 1); /* not before it was called */
    set(&h, 3, HISTORY_NEVER, 1);
    refused(&h);
    set(&h, 1, HISTORY_NEVER, 1); /* it does not happen twice */
    set(&h, 2, 3, 2);
    get(&h, 4, 5, 1);
    set(&h, 6, 7, 3);
    get(&h, 8, 9, 1);
    refused(&h);
    cas(&h, 1, HISTORY_NEVER, 0, 1, true);
    set(&h, 2, 3, 2);
    get(&h, 4, 5, 1); /* its condition never held after that */
    refused(&h);
    erase(&h, 1, HISTORY_NEVER, true);
    set(&h, 2, 3, 2);
    get(&h, 4, 5, 0);
    fine(&h);
}

static void test_several_registers(void **state)
{
    struct history h = {.count = 0};
    both(&h, HISTORY_SET, 1, 6, 1, 1); /* a batch, seen by half */
    both(&h, HISTORY_GET, 2, 3, 1, 0);
    refused(&h);
    both(&h, HISTORY_SET, 1, 6, 1, 1); /* each key for itself would do */
    get(&h, 2, 3, 1);
    add(&h, HISTORY_GET, 4, 5)->mask = 2;
    refused(&h);
    set(&h, 1, 10, 1); /* two scans that saw two writes in different orders */
    add(&h, HISTORY_SET, 1, 10)->mask = 2;
    h.calls[1].values[1] = 1;
    both(&h, HISTORY_GET, 2, 5, 1, 0);
    both(&h, HISTORY_GET, 3, 6, 0, 1);
    refused(&h);
    both(&h, HISTORY_SET, 1, 2, 1, 1);
    add(&h, HISTORY_COUNT, 3, 4)->mask = 3;
    h.calls[1].values[0] = 1;
    refused(&h);
    both(&h, HISTORY_SET, 1, 2, 1, 0);
    add(&h, HISTORY_COUNT, 3, 4)->mask = 3;
    h.calls[1].values[0] = 1;
    fine(&h);
    both(&h, HISTORY_SET, 1, HISTORY_NEVER, 1, 1); /* an unknown batch is whole, too */
    both(&h, HISTORY_GET, 2, 3, 0, 1);
    refused(&h);
}

/* Where the longest order ends is what a person is shown. */
static void test_stuck(void **state)
{
    struct history h = {.count = 0};
    bool done[CALLS_MAX];
    size_t stuck;
    set(&h, 1, 2, 1);
    get(&h, 3, 4, 1);
    get(&h, 5, 6, 9);
    get(&h, 7, 8, 1);
    assert_int_equal(history_check(h.calls, h.count, &stuck, done), HISTORY_REFUSED);
    assert_int_equal(stuck, 2);
    assert_true(done[0] && done[1] && !done[2] && !done[3]);
}

/* --- random histories ------------------------------------------------------------------------ */

/* Puts the calls not done in every order that their moments allow. */
static bool try_every_order(const struct history *history, unsigned done, uint64_t registers)
{
    uint64_t end = HISTORY_NEVER;
    bool all = true;
    for (size_t i = 0; i < history->count; i++) {
        if ((done & 1u << i) != 0)
            continue;
        all = all && history->calls[i].returned == HISTORY_NEVER;
        end = history->calls[i].returned < end ? history->calls[i].returned : end;
    }
    if (all)
        return true;
    for (size_t i = 0; i < history->count; i++) {
        uint64_t after;
        if ((done & 1u << i) == 0 && history->calls[i].called <= end &&
            history_step(&history->calls[i], registers, &after) &&
            try_every_order(history, done | 1u << i, after))
            return true;
    }
    return false;
}

static void random_call(struct history_call *call, struct rand *rand)
{
    *call = (struct history_call){.kind = (uint8_t)rand_below(rand, HISTORY_CAS + 1)};
    bool single = call->kind >= HISTORY_REMOVE;
    call->mask = single ? 1 : (uint8_t)(1 + rand_below(rand, 3));
    call->expected = (uint16_t)rand_below(rand, 4);
    call->values[0] = (uint16_t)rand_below(rand, 4);
    call->values[1] = (uint16_t)rand_below(rand, 4);
}

/* Makes the answers such that the calls, one after the other, would have given them. */
static uint64_t call_answer(struct history_call *call, uint64_t registers)
{
    uint16_t first = (uint16_t)registers;
    uint16_t second = (uint16_t)(registers >> 16);
    if (call->kind == HISTORY_GET) {
        call->values[0] = first;
        call->values[1] = second;
    }
    if (call->kind == HISTORY_COUNT)
        call->values[0] = (uint16_t)(((call->mask & 1) != 0 && first != 0) +
                                     ((call->mask & 2) != 0 && second != 0));
    call->held = call->kind == HISTORY_REMOVE ? first != 0 : first == call->expected;
    if (call->kind == HISTORY_CAS && !call->held)
        call->values[0] = first;
    uint64_t after = registers;
    assert_true(history_step(call, registers, &after));
    return after;
}

static void random_history(struct history *history, struct rand *rand, size_t count,
                           uint64_t overlap, unsigned unknown_in_100)
{
    uint64_t registers = 0;
    history->count = count;
    for (size_t i = 0; i < count; i++) {
        struct history_call *call = &history->calls[i];
        random_call(call, rand);
        registers = call_answer(call, registers);
        uint64_t at = 10000 + 100 * i; /* the moment when it took effect */
        call->called = at - rand_below(rand, overlap);
        call->returned = at + 1 + rand_below(rand, overlap);
        if (rand_below(rand, 100) < unknown_in_100 && call->kind != HISTORY_GET &&
            call->kind != HISTORY_COUNT)
            call->returned = HISTORY_NEVER;
    }
    for (size_t i = count; i > 1; i--) { /* the list tells nothing of the order */
        size_t other = rand_below(rand, i);
        struct history_call swapped = history->calls[i - 1];
        history->calls[i - 1] = history->calls[other];
        history->calls[other] = swapped;
    }
}

#define SMALL_ONES TIMES(20000u, 5000u, 1000u)

static void test_small_random(void **state)
{
    struct rand rand = rand_seed(test_seed());
    unsigned refusals = 0;
    unsigned passes = 0;
    for (unsigned i = 0; i < SMALL_ONES; i++) {
        struct history history;
        random_history(&history, &rand, 2 + rand_below(&rand, 6), 100 + rand_below(&rand, 400), 17);
        for (unsigned spoilt = (unsigned)rand_below(&rand, 3); spoilt > 0; spoilt--) {
            struct history_call *call = &history.calls[rand_below(&rand, history.count)];
            call->values[rand_below(&rand, 2)] = (uint16_t)rand_below(&rand, 4);
            call->held = rand_below(&rand, 2) == 0;
        }
        bool possible = try_every_order(&history, 0, 0);
        enum history_verdict expected = possible ? HISTORY_FINE : HISTORY_REFUSED;
        if (verdict_of(&history) != expected) {
            bool none[CALLS_MAX] = {false};
            history_print(stdout, history.calls, history.count, none);
            fail_msg("history %u: the checker says %d, every order %d", i, verdict_of(&history),
                     expected);
        }
        passes += possible;
        refusals += !possible;
    }
    printf("# %u histories possible, %u refused\n", passes, refusals);
    assert_true(refusals > SMALL_ONES / 20 && passes > SMALL_ONES / 20);
}

#define LONG_ONES TIMES(200u, 100u, 100u)

/* Long ones with 10 calls at a time: fine as they are, refused when one answer is another. For that
 * all orders before that answer have to be tried, which now and then are more than the bound. */
static void test_long_random(void **state)
{
    struct rand rand = rand_seed(test_seed());
    uint64_t start_ms = clock_now_ms();
    unsigned given_up = 0;
    for (unsigned i = 0; i < LONG_ONES; i++) {
        struct history history;
        random_history(&history, &rand, CALLS_MAX, 1000, 3);
        assert_int_equal(verdict_of(&history), HISTORY_FINE);
        struct history_call *call;
        do
            call = &history.calls[rand_below(&rand, history.count)];
        while (call->kind != HISTORY_GET);
        call->mask = 1;
        call->values[0] = 9; /* which nobody writes */
        enum history_verdict verdict = verdict_of(&history);
        assert_int_not_equal(verdict, HISTORY_FINE);
        given_up += verdict == HISTORY_GIVEN_UP;
    }
    printf("# %u histories of %u calls in %llu ms, %u given up\n", 2 * LONG_ONES, CALLS_MAX,
           (unsigned long long)(clock_now_ms() - start_ms), given_up);
    assert_in_range(given_up, 0, LONG_ONES / 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_register),
        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_unknown_outcomes),
        cmocka_unit_test(test_several_registers),
        cmocka_unit_test(test_stuck),
        cmocka_unit_test(test_small_random),
        cmocka_unit_test(test_long_random),
    };
    return cmocka_run_group_tests_name("checker", tests, NULL, NULL);
}

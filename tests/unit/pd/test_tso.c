/* pd/tso.c: always forward: over restarts, steps of the clock, and many threads. */
#include "pd/tso.h"

#include "base/mem.h"
#include "base/rand.h"
#include "contract/engine_fixture.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "test.h"

#define TAKERS 4
#define TAKES 3000

static _Atomic uint64_t clock_ms;

static uint64_t test_clock(void)
{
    return atomic_load(&clock_ms);
}

struct setup {
    struct fixture fixture;
    struct meta_store store;
    struct tso *tso;
};

static void setup_open(struct setup *setup)
{
    assert_int_equal(fixture_open(&setup->fixture), 0);
    meta_store_init(&setup->store, setup->fixture.engine);
    assert_int_equal(tso_open_blocking(&setup->store, test_clock, &setup->tso), 0);
}

struct waited_take {
    struct tso_request request;
    struct latch latch;
};

static void on_taken(struct tso_request *request)
{
    latch_down(&CONTAINER_OF(request, struct waited_take, request)->latch);
}

static int take_by_waiting(struct setup *setup, uint32_t count, struct timestamp *ret_last)
{
    struct waited_take waited = {
        .request = {.count = count, .loop = &setup->fixture.loop, .done = on_taken}};
    latch_init(&waited.latch, 1);
    tso_wait(setup->tso, &waited.request);
    latch_wait(&waited.latch);
    latch_deinit(&waited.latch);
    *ret_last = waited.request.last;
    return waited.request.error;
}

static int take(struct setup *setup, uint32_t count, struct timestamp *ret_last)
{
    if (tso_take(setup->tso, count, &setup->fixture.loop, ret_last))
        return 0;
    return take_by_waiting(setup, count, ret_last);
}

struct settled {
    struct meta_change change;
    struct latch latch;
    struct tso *tso; /* NULL: it is killed */
    uint64_t used_ts;
};

static int settle_prepare(struct meta_change *change, struct meta_batch *batch)
{
    const struct settled *settled = CONTAINER_OF(change, struct settled, change);
    if (settled->tso != NULL)
        tso_put_end(settled->tso, settled->used_ts, batch);
    return 0;
}

static void settle_publish(struct meta_change *change)
{
    (void)change;
}

static void settle_done(struct meta_change *change, int error)
{
    (void)error;
    latch_down(&CONTAINER_OF(change, struct settled, change)->latch);
}

/* A bound may still be on its way to the disk. */
static void settle(struct setup *setup, struct tso *tso, uint64_t used_ts)
{
    struct settled settled = {
        .change = {.prepare = settle_prepare, .publish = settle_publish, .done = settle_done},
        .tso = tso,
        .used_ts = used_ts};
    latch_init(&settled.latch, 1);
    meta_store_change(&setup->store, &setup->fixture.loop, &settled.change);
    latch_wait(&settled.latch);
    latch_deinit(&settled.latch);
}

static void setup_close(struct setup *setup)
{
    settle(setup, NULL, 0);
    tso_free(setup->tso);
    meta_store_deinit(&setup->store);
    assert_int_equal(fixture_close(&setup->fixture), 0);
}

static void setup_init(struct setup *setup)
{
    static const struct engine_kind kind = {.name = "log", .open = log_engine_open_blocking};
    fixtures_in_memory();
    assert_int_equal(fixture_init(&setup->fixture, &kind), 0);
    setup_open(setup);
}

static uint64_t number_of(const struct timestamp *timestamp)
{
    assert_true(timestamp->logical < TSO_COUNT_MAX);
    return timestamp->physical << TSO_LOGICAL_BITS | timestamp->logical;
}

static uint32_t random_count(struct rand *rand)
{
    switch (rand_below(rand, 10)) {
    case 0:
        return TSO_COUNT_MAX;
    case 1:
        return (uint32_t)(1 + rand_below(rand, TSO_COUNT_MAX));
    default:
        return (uint32_t)(1 + rand_below(rand, 100));
    }
}

/* Small steps, long ones, and back; never so far that bounds add up to years. */
static void step_clock(struct rand *rand)
{
    uint64_t now = atomic_load(&clock_ms);
    switch (rand_below(rand, 12)) {
    case 0:
        atomic_store(&clock_ms, now - rand_below(rand, 3600 * 1000));
        break;
    case 1:
        atomic_store(&clock_ms, now + rand_below(rand, 3600 * 1000));
        break;
    case 2:
    case 3:
    case 4:
        atomic_store(&clock_ms, now + rand_below(rand, 3));
        break;
    default:
        break;
    }
}

static void test_never_goes_back(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        print_message("# seed %d\n", (int)seed);
        struct rand rand = rand_seed(seed);
        struct setup setup;
        atomic_store(&clock_ms, 1700000000000);
        setup_init(&setup);
        uint64_t last = 0;
        for (unsigned i = 0; i < 2000; i++) {
            struct timestamp timestamp;
            uint32_t count = random_count(&rand);
            assert_int_equal(take(&setup, count, &timestamp), 0);
            uint64_t number = number_of(&timestamp);
            assert_true(timestamp.logical + 1 >= count);
            assert_true(number - (count - 1) > last);
            last = number;
            step_clock(&rand);
            if (rand_below(&rand, 100) == 0) {
                if (rand_below(&rand, 2) == 0)
                    settle(&setup, setup.tso, rand_below(&rand, 2) * number);
                setup_close(&setup);
                step_clock(&rand);
                setup_open(&setup);
            }
        }
        setup_close(&setup);
        fixture_deinit(&setup.fixture);
    }
}

static void test_follows_the_clock(void **state)
{
    (void)state;
    struct setup setup;
    struct timestamp timestamp;
    atomic_store(&clock_ms, 1700000000000);
    setup_init(&setup);
    assert_int_equal(take(&setup, 1, &timestamp), 0);
    assert_int_equal(timestamp.physical, 1700000000000);
    assert_int_equal(timestamp.logical, 0);
    assert_int_equal(take(&setup, 10, &timestamp), 0);
    assert_int_equal(timestamp.logical, 10);
    atomic_store(&clock_ms, 1700000000005);
    assert_int_equal(take(&setup, 10, &timestamp), 0);
    assert_int_equal(timestamp.physical, 1700000000005);
    assert_int_equal(timestamp.logical, 9);
    atomic_store(&clock_ms, 1699999000000); /* back: the last millisecond goes on */
    assert_int_equal(take(&setup, TSO_COUNT_MAX - 10, &timestamp), 0);
    assert_int_equal(timestamp.physical, 1700000000005);
    assert_int_equal(timestamp.logical, TSO_COUNT_MAX - 1);
    assert_int_equal(take(&setup, 1, &timestamp), 0); /* and is used up */
    assert_int_equal(timestamp.physical, 1700000000006);
    setup_close(&setup);
    setup_open(&setup); /* the bound was 3 s ahead */
    assert_int_equal(take(&setup, 1, &timestamp), 0);
    assert_true(timestamp.physical >= 1700000003000 && timestamp.physical <= 1700000004000);
    for (uint64_t used = 0; used < 200; used += 100) { /* an orderly end: at the last one used */
        uint64_t last_ms = timestamp.physical;
        settle(&setup, setup.tso, (last_ms + used) << TSO_LOGICAL_BITS);
        setup_close(&setup);
        setup_open(&setup);
        assert_int_equal(take(&setup, 1, &timestamp), 0);
        assert_true(timestamp.physical > last_ms + used && timestamp.physical < last_ms + used + 9);
    }
    setup_close(&setup);
    fixture_deinit(&setup.fixture);
}

struct taker {
    pthread_t thread;
    struct setup *setup;
    uint64_t numbers[TAKES];
    bool waits;
    bool failed;
};

static void *taker_run(void *arg)
{
    struct taker *taker = arg;
    for (unsigned i = 0; i < TAKES; i++) {
        struct timestamp timestamp;
        int error = taker->waits ? take_by_waiting(taker->setup, 3, &timestamp)
                                 : take(taker->setup, 3, &timestamp);
        taker->numbers[i] = timestamp.physical << TSO_LOGICAL_BITS | timestamp.logical;
        bool forward = i == 0 || taker->numbers[i] >= taker->numbers[i - 1] + 3;
        taker->failed = taker->failed || error != 0 || !forward;
        if (i % 100 == 0)
            atomic_fetch_add(&clock_ms, 700);
    }
    return NULL;
}

static int order_u64(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void test_threads_get_different_ones(void **state)
{
    (void)state;
    static struct taker takers[TAKERS];
    static uint64_t all[TAKERS * TAKES];
    struct setup setup;
    atomic_store(&clock_ms, 1700000000000);
    setup_init(&setup);
    for (unsigned i = 0; i < TAKERS; i++) {
        takers[i].setup = &setup;
        takers[i].waits = i == 0;
        assert_int_equal(pthread_create(&takers[i].thread, NULL, taker_run, &takers[i]), 0);
    }
    for (unsigned i = 0; i < TAKERS; i++) {
        pthread_join(takers[i].thread, NULL);
        assert_false(takers[i].failed);
        memcpy(all + i * TAKES, takers[i].numbers, sizeof takers[i].numbers);
    }
    qsort(all, TAKERS * TAKES, sizeof all[0], order_u64);
    for (unsigned i = 1; i < TAKERS * TAKES; i++)
        assert_true(all[i] >= all[i - 1] + 3);
    setup_close(&setup);
    fixture_deinit(&setup.fixture);
}

/* --- the end --- */

struct gate {
    struct task task;
    struct latch reached, opened;
};

static void gate_run(struct task *task)
{
    struct gate *gate = CONTAINER_OF(task, struct gate, task);
    latch_down(&gate->reached);
    latch_wait(&gate->opened);
}

static void on_settled(void *arg)
{
    atomic_store((atomic_bool *)arg, true);
}

/* The loop stands still while the bound is written: that change is not over before its own call. */
static void test_the_end_waits_for_the_bound(void **state)
{
    (void)state;
    struct setup setup;
    struct timestamp timestamp;
    struct gate gate = {.task.run = gate_run};
    atomic_bool over = false;
    atomic_store(&clock_ms, 1700000000000);
    setup_init(&setup);
    assert_int_equal(take(&setup, 1, &timestamp), 0);
    settle(&setup, NULL, 0);
    latch_init(&gate.reached, 1);
    latch_init(&gate.opened, 1);
    loop_post(&setup.fixture.loop, &gate.task);
    latch_wait(&gate.reached);
    atomic_fetch_add(&clock_ms, 2000); /* more than half of what was ahead */
    assert_true(tso_take(setup.tso, 1, &setup.fixture.loop, &timestamp));
    tso_settle(setup.tso, on_settled, &over);
    assert_false(atomic_load(&over));
    latch_down(&gate.opened);
    while (!atomic_load(&over))
        usleep(500);
    atomic_store(&over, false);
    tso_settle(setup.tso, on_settled, &over); /* nothing is under way */
    assert_true(atomic_load(&over));
    latch_deinit(&gate.reached);
    latch_deinit(&gate.opened);
    setup_close(&setup);
    fixture_deinit(&setup.fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_goes_back),
        cmocka_unit_test(test_follows_the_clock),
        cmocka_unit_test(test_threads_get_different_ones),
        cmocka_unit_test(test_the_end_waits_for_the_bound),
    };
    return cmocka_run_group_tests_name("tso", tests, NULL, NULL);
}

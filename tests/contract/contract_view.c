/* tests/contract/contract_view.c: what views and snapshots see while others write. */
#include "base/bytes.h"
#include "base/mem.h"
#include "base/rand.h"
#include "contract/contract.h"
#include "test.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define OK(call) assert_int_equal((call), 0)

#define STAY_KEYS 200

static void set_all(struct fixture *fixture, const char *round)
{
    static kvs_mutation mutations[STAY_KEYS];
    static char keys[STAY_KEYS][TEXT_SIZE_MAX];
    static char values[STAY_KEYS][TEXT_SIZE_MAX];
    for (unsigned i = 0; i < STAY_KEYS; i++)
        mutations[i] = mutation_set(text_format(keys[i], "key %03u", i),
                                    text_format(values[i], "%s %u", round, i));
    assert_int_equal(batch_wait(fixture, mutations, STAY_KEYS), 0);
}

static void check_all(struct engine_view *view, const char *round)
{
    struct pairs pairs;
    OK(pairs_scan(view, &(struct engine_range){0}, &pairs));
    assert_int_equal(pairs.count, STAY_KEYS);
    for (unsigned i = 0; i < STAY_KEYS; i++) {
        char key[TEXT_SIZE_MAX];
        char value[TEXT_SIZE_MAX];
        kvs_slice expected_key = text_format(key, "key %03u", i);
        kvs_slice expected = text_format(value, "%s %u", round, i);
        assert_true(slice_equal(pairs_key(&pairs, i), expected_key));
        assert_true(slice_equal(pairs_value(&pairs, i), expected));
        check_in_view(view, 0, expected_key, value);
    }
    pairs_deinit(&pairs);
}

void contract_view_stays(struct fixture *fixture)
{
    set_all(fixture, "first");
    struct engine_view view;
    OK(engine_view_begin(fixture->engine, NULL, true, &view));
    kvs_slice held;
    OK(engine_get(&view, 0, S("key 007"), &held));
    for (unsigned round = 0; round < 20; round++) {
        char text[TEXT_SIZE_MAX];
        text_format(text, "round %u with a longer value", round);
        set_all(fixture, text);
        check_all(&view, "first");
    }
    const kvs_mutation all = mutation_remove_range(S(""), S(""));
    OK(batch_wait(fixture, &all, 1));
    OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
    check_all(&view, "first");
    assert_true(slice_equal(held, S("first 7")));
    engine_view_end(&view);
    assert_int_equal(count_all(fixture, 0), 0);
}

/* --- what is pinned ---------------------------------------------------------------------------*/

#define PINNED_KEYS 100
#define PINNED_SIZE 1500 /* large enough for every engine that pins at all */

struct pinned {
    char keys[PINNED_KEYS][TEXT_SIZE_MAX];
    kvs_slice values[PINNED_KEYS];
    struct engine_pin pins[PINNED_KEYS];
};

static void pinned_write(struct fixture *fixture, unsigned round)
{
    static kvs_mutation mutations[PINNED_KEYS];
    static char keys[PINNED_KEYS][TEXT_SIZE_MAX];
    static uint8_t values[PINNED_KEYS][PINNED_SIZE];
    for (unsigned i = 0; i < PINNED_KEYS; i++) {
        bytes_fill(values[i], PINNED_SIZE, round * PINNED_KEYS + i);
        mutations[i] =
            mutation_set(text_format(keys[i], "key %03u", i), slice_make(values[i], PINNED_SIZE));
    }
    OK(batch_wait(fixture, mutations, PINNED_KEYS));
}

/* The first half one by one, the others together; returns how many are pinned. */
static unsigned pinned_get(struct fixture *fixture, struct pinned *pinned)
{
    enum { HALF = PINNED_KEYS / 2 };
    kvs_slice keys[PINNED_KEYS];
    int errors[HALF];
    struct engine_view view;
    OK(engine_view_begin(fixture->engine, NULL, true, &view));
    for (unsigned i = 0; i < PINNED_KEYS; i++) {
        keys[i] = text_format(pinned->keys[i], "key %03u", i);
        pinned->pins[i] = (struct engine_pin){0};
    }
    for (unsigned i = 0; i < HALF; i++)
        OK(engine_get_pinned(&view, 0, keys[i], &pinned->values[i], &pinned->pins[i]));
    engine_get_many(&view, 0, keys + HALF, HALF, pinned->values + HALF, errors,
                    pinned->pins + HALF);
    kvs_slice value;
    struct engine_pin none;
    assert_int_equal(engine_get_pinned(&view, 0, S("no key"), &value, &none), KVS_ERR_NOT_FOUND);
    assert_null(none.unpin);
    engine_view_end(&view);
    unsigned count = 0;
    for (unsigned i = 0; i < PINNED_KEYS; i++) {
        if (i < HALF)
            OK(errors[i]);
        count += pinned->pins[i].unpin != NULL;
    }
    return count;
}

static void pinned_check_and_release(struct pinned *pinned, unsigned round)
{
    uint8_t expected[PINNED_SIZE];
    for (unsigned i = 0; i < PINNED_KEYS; i++) {
        if (pinned->pins[i].unpin == NULL)
            continue;
        bytes_fill(expected, PINNED_SIZE, round * PINNED_KEYS + i);
        assert_int_equal(pinned->values[i].size, PINNED_SIZE);
        assert_memory_equal(pinned->values[i].data, expected, PINNED_SIZE);
        engine_pin_release(&pinned->pins[i]);
        assert_null(pinned->pins[i].unpin);
    }
}

/* Overwritten, compacted, removed, thrown out of the cache, the engine closed. */
void contract_pinned_stay(struct fixture *fixture)
{
    enum { ROUNDS = 5 };
    static struct pinned pinned[ROUNDS];
    bool is_log = strcmp(fixture->engine->methods->name, "kvs") == 0;
    bool in_memory = fixture_can(fixture, ENGINE_CAP_IN_MEMORY);
    for (unsigned round = 0; round < ROUNDS; round++) {
        pinned_write(fixture, round);
        unsigned count = pinned_get(fixture, &pinned[round]);
        if (in_memory)
            assert_int_equal(count, PINNED_KEYS);
        else if (is_log) /* with little cache at least what was written last */
            assert_true(count > 0);
        if (round % 2 == 1)
            OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
    }
    const kvs_mutation all = mutation_remove_range(S(""), S(""));
    OK(batch_wait(fixture, &all, 1));
    OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
    OK(fixture_close(fixture));
    for (unsigned round = 0; round < ROUNDS; round++)
        pinned_check_and_release(&pinned[round], round);
}

void contract_view_sees_acknowledged(struct fixture *fixture)
{
    for (unsigned i = 0; i < 500; i++) {
        char text[TEXT_SIZE_MAX];
        kvs_slice value = text_format(text, "%u", i);
        OK(set_wait(fixture, S("k"), value));
        check_value(fixture, "k", text);
    }
}

/* --- readers beside a writer ------------------------------------------------------------------*/

#define READERS 4
#define GROUP_KEYS 5

struct race {
    struct fixture *fixture;
    _Atomic bool stop;
    _Atomic unsigned wrong; /* readers cannot use cmocka's asserts */
    _Atomic unsigned views;
    int (*look)(struct engine_view *view, uint64_t *last);
};

static void *race_reader(void *arg)
{
    struct race *race = arg;
    uint64_t last = 0;
    while (!atomic_load(&race->stop)) {
        struct engine_view view;
        if (engine_view_begin(race->fixture->engine, NULL, true, &view) != 0) {
            atomic_fetch_add(&race->wrong, 1);
            continue;
        }
        if (race->look(&view, &last) != 0)
            atomic_fetch_add(&race->wrong, 1);
        engine_view_end(&view);
        atomic_fetch_add(&race->views, 1);
    }
    return NULL;
}

/* Runs readers until `work` is done and each has had a few looks. */
static void race_run(struct race *race, void (*work)(struct race *race))
{
    pthread_t readers[READERS];
    for (unsigned i = 0; i < READERS; i++)
        OK(pthread_create(&readers[i], NULL, race_reader, race));
    work(race);
    while (atomic_load(&race->views) < 100)
        sched_yield();
    atomic_store(&race->stop, true);
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    assert_int_equal(atomic_load(&race->wrong), 0);
}

static kvs_slice group_key(char text[TEXT_SIZE_MAX], unsigned i)
{
    return text_format(text, "group %u", i);
}

/* All keys of the group, in two families, have the same number, never a lower one than before. */
static int group_look(struct engine_view *view, uint64_t *last)
{
    uint64_t first = 0;
    for (unsigned i = 0; i < GROUP_KEYS; i++) {
        char text[TEXT_SIZE_MAX];
        kvs_slice value;
        if (engine_get(view, i % 2, group_key(text, i), &value) != 0 || value.size < 8)
            return -1;
        uint64_t number = get_u64(value.data);
        if (i == 0)
            first = number;
        if (number != first || number < *last)
            return -1;
    }
    *last = first;
    return 0;
}

static void group_write(struct fixture *fixture, uint64_t number)
{
    char texts[GROUP_KEYS][TEXT_SIZE_MAX];
    uint8_t bytes[100] = {0};
    put_u64(bytes, number);
    kvs_mutation mutations[GROUP_KEYS + 1];
    /* The batch begins with the removal of what it then sets: nobody may see that. */
    mutations[0] = mutation_remove_range(S("group"), S("groupz"));
    for (unsigned i = 0; i < GROUP_KEYS; i++)
        mutations[i + 1] =
            mutation_set_in(i % 2, group_key(texts[i], i), slice_make(bytes, 8 + number % 90));
    OK(batch_wait(fixture, mutations, GROUP_KEYS + 1));
}

static void group_work(struct race *race)
{
    for (uint64_t number = 2; number < 600; number++) {
        group_write(race->fixture, number);
        if (number % 200 == 0)
            OK(control_wait(race->fixture, ENGINE_CONTROL_COMPACT, NULL));
    }
}

void contract_view_whole_batches(struct fixture *fixture)
{
    group_write(fixture, 1);
    struct race race = {.fixture = fixture, .look = group_look};
    race_run(&race, group_work);
}

#define ACCOUNTS 50
#define ACCOUNT_START 1000

static int account_add(void *arg, kvs_slice key, kvs_slice value)
{
    *(uint64_t *)arg += get_u64(value.data);
    return 0;
}

static int accounts_look(struct engine_view *view, uint64_t *last)
{
    uint64_t sum = 0;
    struct engine_range range = {.start = S("account"), .reverse = (++*last & 1) != 0};
    if (engine_scan(view, &range, account_add, &sum) != 0)
        return -1;
    return sum == ACCOUNTS * ACCOUNT_START ? 0 : -1;
}

static void accounts_set(struct fixture *fixture, const unsigned *which, const uint64_t *amounts,
                         uint32_t count)
{
    kvs_mutation mutations[ACCOUNTS];
    char texts[ACCOUNTS][TEXT_SIZE_MAX];
    uint8_t bytes[ACCOUNTS][8];
    for (uint32_t i = 0; i < count; i++) {
        put_u64(bytes[i], amounts[i]);
        mutations[i] =
            mutation_set(text_format(texts[i], "account %02u", which[i]), slice_make(bytes[i], 8));
    }
    OK(batch_wait(fixture, mutations, count));
}

static uint64_t balances[ACCOUNTS];

static void accounts_work(struct race *race)
{
    struct rand rand = rand_seed(test_seed());
    for (unsigned i = 0; i < 600; i++) {
        unsigned from = (unsigned)rand_below(&rand, ACCOUNTS);
        unsigned to = (unsigned)rand_below(&rand, ACCOUNTS);
        if (from == to || balances[from] == 0)
            continue;
        uint64_t amount = 1 + rand_below(&rand, balances[from]);
        balances[from] -= amount;
        balances[to] += amount;
        accounts_set(race->fixture, (unsigned[]){from, to},
                     (uint64_t[]){balances[from], balances[to]}, 2);
    }
}

void contract_view_constant_sum(struct fixture *fixture)
{
    unsigned which[ACCOUNTS];
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        which[i] = i;
        balances[i] = ACCOUNT_START;
    }
    accounts_set(fixture, which, balances, ACCOUNTS);
    struct race race = {.fixture = fixture, .look = accounts_look};
    race_run(&race, accounts_work);
}

/* --- snapshots --------------------------------------------------------------------------------*/

static void check_snapshot(struct fixture *fixture, struct engine_snapshot *snapshot,
                           const char *round)
{
    struct engine_view view;
    OK(engine_view_begin(fixture->engine, snapshot, true, &view));
    check_all(&view, round);
    engine_view_end(&view);
}

void contract_snapshot_stays(struct fixture *fixture)
{
    set_all(fixture, "first");
    struct engine_snapshot *snapshot;
    OK(engine_snapshot_take(fixture->engine, &snapshot));
    check_snapshot(fixture, snapshot, "first");
    for (unsigned round = 0; round < 10; round++) {
        char text[TEXT_SIZE_MAX];
        text_format(text, "round %u", round);
        set_all(fixture, text);
        check_snapshot(fixture, snapshot, "first");
        OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
        check_snapshot(fixture, snapshot, "first");
    }
    const kvs_mutation all = mutation_remove_range(S(""), S(""));
    OK(batch_wait(fixture, &all, 1));
    OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
    check_snapshot(fixture, snapshot, "first");
    engine_snapshot_release(fixture->engine, snapshot);
    OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
    assert_int_equal(count_all(fixture, 0), 0);
}

#define SNAPSHOTS 30

void contract_snapshots_many(struct fixture *fixture)
{
    struct engine_snapshot *snapshots[SNAPSHOTS];
    char rounds[SNAPSHOTS][TEXT_SIZE_MAX];
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        text_format(rounds[i], "round %u", i);
        set_all(fixture, rounds[i]);
        OK(engine_snapshot_take(fixture->engine, &snapshots[i]));
    }
    struct engine_stats stats;
    engine_stats(fixture->engine, &stats);
    assert_int_equal(stats.snapshots, SNAPSHOTS);
    OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        unsigned which = i * 7 % SNAPSHOTS;
        check_snapshot(fixture, snapshots[which], rounds[which]);
        engine_snapshot_release(fixture->engine, snapshots[which]);
        if (i % 10 == 5)
            OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
    }
    /* A release may take its way through the writer's queue: a write behind it has seen it. */
    set_all(fixture, rounds[SNAPSHOTS - 1]);
    engine_stats(fixture->engine, &stats);
    assert_int_equal(stats.snapshots, 0);
    struct engine_view view;
    OK(engine_view_begin(fixture->engine, NULL, true, &view));
    check_all(&view, rounds[SNAPSHOTS - 1]);
    engine_view_end(&view);
}

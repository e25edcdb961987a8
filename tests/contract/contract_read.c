/* tests/contract/contract_read.c: get, scan, count, reads on the pool, times to live. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"
#include "contract/contract.h"
#include "test.h"

#include <unistd.h>

#define OK(call) assert_int_equal((call), 0)

void contract_get(struct fixture *fixture)
{
    check_value(fixture, "k", NULL);
    OK(set_wait(fixture, S("k"), S("one")));
    check_value(fixture, "k", "one");
    OK(set_wait(fixture, S("k"), S("another")));
    check_value(fixture, "k", "another");
    check_value(fixture, "kk", NULL);
    check_value(fixture, "j", NULL);
    OK(remove_wait(fixture, S("k"), NULL));
    check_value(fixture, "k", NULL);
    OK(set_wait(fixture, S("k"), S("back")));
    check_value(fixture, "k", "back");
}

void contract_empty_value(struct fixture *fixture)
{
    OK(set_wait(fixture, S("k"), S("")));
    check_value(fixture, "k", "");
    OK(set_wait(fixture, S("k"), S("v")));
    OK(set_wait(fixture, S("k"), (kvs_slice){0}));
    check_value(fixture, "k", "");
    struct engine_view view;
    OK(engine_view_begin(fixture->engine, NULL, true, &view));
    struct pairs pairs;
    OK(pairs_scan(&view, &(struct engine_range){0}, &pairs));
    assert_int_equal(pairs.count, 1);
    assert_int_equal(pairs_value(&pairs, 0).size, 0);
    pairs_deinit(&pairs);
    engine_view_end(&view);
    uint64_t removed;
    OK(remove_wait(fixture, S("k"), &removed));
    assert_int_equal(removed, 1);
}

void contract_any_bytes(struct fixture *fixture)
{
    /* In order. */
    static const kvs_slice keys[] = {
        {(const uint8_t *)"\0", 1},       {(const uint8_t *)"\0\0", 2},
        {(const uint8_t *)"\0\xff", 2},   {(const uint8_t *)"\1", 1},
        {(const uint8_t *)"a", 1},        {(const uint8_t *)"a\0", 2},
        {(const uint8_t *)"a\0\0", 3},    {(const uint8_t *)"a\1", 2},
        {(const uint8_t *)"aa", 2},       {(const uint8_t *)"a\x7f", 2},
        {(const uint8_t *)"a\x80", 2},    {(const uint8_t *)"a\xff", 2},
        {(const uint8_t *)"b", 1},        {(const uint8_t *)"\x7f", 1},
        {(const uint8_t *)"\x80", 1},     {(const uint8_t *)"\xff", 1},
        {(const uint8_t *)"\xff\0", 2},   {(const uint8_t *)"\xff\xfe", 2},
        {(const uint8_t *)"\xff\xff", 2}, {(const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff", 8},
    };
    size_t count = sizeof keys / sizeof keys[0];
    for (size_t i = 0; i < count; i++) {
        size_t k = i * 7 % count; /* another order than that of the keys */
        OK(set_wait(fixture, keys[k], keys[k]));
    }
    struct engine_view view;
    OK(engine_view_begin(fixture->engine, NULL, true, &view));
    struct pairs pairs;
    OK(pairs_scan(&view, &(struct engine_range){0}, &pairs));
    assert_int_equal(pairs.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_true(slice_equal(pairs_key(&pairs, i), keys[i]));
        assert_true(slice_equal(pairs_value(&pairs, i), keys[i]));
        kvs_slice value;
        OK(engine_get(&view, 0, keys[i], &value));
        assert_true(slice_equal(value, keys[i]));
    }
    pairs_deinit(&pairs);
    engine_view_end(&view);
}

void contract_sizes(struct fixture *fixture)
{
    uint8_t *bytes = mem_alloc(KVS_VALUE_SIZE_MAX);
    assert_non_null(bytes);
    bytes_fill(bytes, KVS_VALUE_SIZE_MAX, 1);
    static const size_t sizes[] = {1,     255,   256,     4095,    4096,
                                   65535, 65536, 1 << 20, 5000000, KVS_VALUE_SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t size = sizes[i];
        kvs_slice value = slice_make(bytes + (KVS_VALUE_SIZE_MAX - size), size);
        /* Long keys that differ in the last byte only. */
        uint8_t key[KVS_KEY_SIZE_MAX] = {0};
        key[sizeof key - 1] = (uint8_t)i;
        OK(set_wait(fixture, slice_make(key, sizeof key), value));
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t key[KVS_KEY_SIZE_MAX] = {0};
        key[sizeof key - 1] = (uint8_t)i;
        struct buf value;
        OK(get_copy(fixture, 0, slice_make(key, sizeof key), &value));
        assert_int_equal(value.size, sizes[i]);
        assert_memory_equal(value.data, bytes + (KVS_VALUE_SIZE_MAX - sizes[i]), sizes[i]);
        buf_deinit(&value);
    }
    assert_int_equal(count_all(fixture, 0), sizeof sizes / sizeof sizes[0]);
    mem_free(bytes);
}

void contract_families(struct fixture *fixture)
{
    kvs_mutation mutations[ENGINE_FAMILY_COUNT];
    char texts[ENGINE_FAMILY_COUNT][TEXT_SIZE_MAX];
    for (unsigned i = 0; i < ENGINE_FAMILY_COUNT; i++)
        mutations[i] = mutation_set_in(i, S("same key"), text_format(texts[i], "value %u", i));
    OK(batch_wait(fixture, mutations, ENGINE_FAMILY_COUNT));
    OK(remove_wait(fixture, S("same key"), NULL));
    kvs_mutation range = mutation_remove_range(S(""), S(""));
    range.family = 3;
    OK(batch_wait(fixture, &range, 1));
    struct engine_view view;
    OK(engine_view_begin(fixture->engine, NULL, true, &view));
    for (unsigned i = 0; i < ENGINE_FAMILY_COUNT; i++) {
        bool gone = i == 0 || i == 3;
        check_in_view(&view, i, S("same key"), gone ? NULL : texts[i]);
        struct engine_range all = {.family = (uint8_t)i};
        uint64_t count;
        OK(engine_count(&view, &all, &count));
        assert_int_equal(count, !gone);
    }
    engine_view_end(&view);
}

/* --- scans ------------------------------------------------------------------------------------*/

static bool in_range(kvs_slice key, const struct engine_range *range)
{
    return slice_compare(key, range->start) >= 0 &&
           (range->end.size == 0 || slice_compare(key, range->end) < 0);
}

/* Compares a scan with the sorted keys that there are; values equal keys. */
static void check_scan(struct engine_view *view, const struct engine_range *range,
                       const kvs_slice *sorted, size_t sorted_count)
{
    struct pairs pairs;
    OK(pairs_scan(view, range, &pairs));
    size_t seen = 0;
    for (size_t i = 0; i < sorted_count; i++) {
        kvs_slice key = sorted[range->reverse ? sorted_count - 1 - i : i];
        if (!in_range(key, range))
            continue;
        assert_true(seen < pairs.count);
        assert_true(slice_equal(pairs_key(&pairs, seen), key));
        assert_true(slice_equal(pairs_value(&pairs, seen), range->keys_only ? S("") : key));
        seen++;
    }
    assert_int_equal(seen, pairs.count);
    pairs_deinit(&pairs);
    uint64_t count;
    OK(engine_count(view, range, &count));
    assert_int_equal(count, seen);
}

static int check_size(void *arg, kvs_slice key, kvs_slice value)
{
    uint64_t *seen = arg;
    assert_null(value.data);
    assert_int_equal(value.size, key.size);
    (*seen)++;
    return 0;
}

/* Values equal keys, and are not there: only their sizes are. */
static void check_sizes(struct engine_view *view, size_t count)
{
    const struct engine_range range = {.sizes_only = true};
    uint64_t seen = 0;
    OK(engine_scan(view, &range, check_size, &seen));
    assert_int_equal(seen, count);
}

void contract_scan_bounds(struct fixture *fixture)
{
    const kvs_slice keys[] = {S("b"), S("ba"), S("bab"), S("d"), S("da"), S("f"), S("\xff")};
    /* Each key, before, behind and between them, a prefix, and no bound. */
    const kvs_slice bounds[] = {S(""),   S("a"),  S("b"),    S("b\0"),  S("ba"),      S("bab"),
                                S("bb"), S("c"),  S("d"),    S("d\0"),  S("da"),      S("e"),
                                S("f"),  S("fa"), S("\xfe"), S("\xff"), S("\xff\xff")};
    size_t bounds_count = sizeof bounds / sizeof bounds[0];
    size_t keys_count = sizeof keys / sizeof keys[0];
    for (size_t i = 0; i < keys_count; i++) {
        OK(set_wait(fixture, keys[i], keys[i]));
        kvs_mutation other = mutation_set_in(1, S("c"), S("elsewhere"));
        OK(batch_wait(fixture, &other, 1));
    }
    struct engine_view view;
    OK(engine_view_begin(fixture->engine, NULL, true, &view));
    check_sizes(&view, keys_count);
    for (size_t start = 0; start < bounds_count; start++) {
        for (size_t end = 0; end < bounds_count; end++) {
            for (unsigned way = 0; way < 4; way++) {
                struct engine_range range = {.start = bounds[start],
                                             .end = bounds[end],
                                             .reverse = (way & 1) != 0,
                                             .keys_only = (way & 2) != 0};
                check_scan(&view, &range, keys, keys_count);
            }
        }
    }
    engine_view_end(&view);
}

#define ORDER_KEYS 10000

/* Keys that share their begins in several depths, in order of i. */
static kvs_slice order_key(char text[TEXT_SIZE_MAX], size_t i)
{
    return text_format(text, "tenant/%03zu/a long name that all of them share/%02zu/%zu", i / 100,
                       i / 10 % 10, i % 10);
}

void contract_scan_order(struct fixture *fixture)
{
    static char texts[ORDER_KEYS][TEXT_SIZE_MAX];
    static kvs_slice sorted[ORDER_KEYS];
    static kvs_mutation mutations[ORDER_KEYS];
    struct rand rand = rand_seed(test_seed());
    for (size_t i = 0; i < ORDER_KEYS; i++) {
        sorted[i] = order_key(texts[i], i);
        mutations[i] = mutation_set(sorted[i], sorted[i]);
    }
    for (size_t i = ORDER_KEYS - 1; i > 0; i--) {
        size_t other = rand_below(&rand, i + 1);
        kvs_mutation mutation = mutations[i];
        mutations[i] = mutations[other];
        mutations[other] = mutation;
    }
    for (uint32_t i = 0; i < ORDER_KEYS; i += 100)
        OK(batch_wait(fixture, mutations + i, 100));
    struct engine_view view;
    OK(engine_view_begin(fixture->engine, NULL, true, &view));
    for (unsigned way = 0; way < 2; way++) {
        struct engine_range range = {.reverse = way == 1};
        check_scan(&view, &range, sorted, ORDER_KEYS);
        for (unsigned i = 0; i < 5; i++) {
            range.start = sorted[rand_below(&rand, ORDER_KEYS)];
            range.end = sorted[rand_below(&rand, ORDER_KEYS)];
            check_scan(&view, &range, sorted, ORDER_KEYS);
        }
    }
    engine_view_end(&view);
}

static int stop_after(void *arg, kvs_slice key, kvs_slice value)
{
    int *left = arg;
    return --*left == 0 ? 4711 : 0;
}

void contract_scan_stops(struct fixture *fixture)
{
    for (unsigned i = 0; i < 100; i++) {
        char text[TEXT_SIZE_MAX];
        kvs_slice key = text_format(text, "%03u", i);
        OK(set_wait(fixture, key, key));
    }
    struct engine_view view;
    OK(engine_view_begin(fixture->engine, NULL, true, &view));
    for (unsigned way = 0; way < 2; way++) {
        struct engine_range range = {.reverse = way == 1};
        int left = 42;
        assert_int_equal(engine_scan(&view, &range, stop_after, &left), 4711);
        assert_int_equal(left, 0);
        left = 100;
        assert_int_equal(engine_scan(&view, &range, stop_after, &left), 4711);
        left = 101;
        assert_int_equal(engine_scan(&view, &range, stop_after, &left), 0);
        assert_int_equal(left, 1);
    }
    engine_view_end(&view);
}

void contract_scan_empty(struct fixture *fixture)
{
    for (unsigned round = 0; round < 2; round++) {
        struct engine_view view;
        OK(engine_view_begin(fixture->engine, NULL, true, &view));
        for (unsigned way = 0; way < 2; way++) {
            struct engine_range range = {.reverse = way == 1};
            check_scan(&view, &range, NULL, 0);
            range.start = S("a");
            range.end = S("b");
            check_scan(&view, &range, NULL, 0);
        }
        engine_view_end(&view);
        /* And again when there was something. */
        OK(set_wait(fixture, S("a"), S("1")));
        OK(remove_wait(fixture, S("a"), NULL));
    }
}

/* --- without blocking -------------------------------------------------------------------------*/

#define WOULD_BLOCK_KEYS 300

struct resumed {
    char last[TEXT_SIZE_MAX]; /* key */
    unsigned seen;
    bool wrong;
};

static kvs_slice would_block_pair(unsigned i, char text[TEXT_SIZE_MAX], uint8_t value[2000])
{
    bytes_fill(value, 2000, i);
    return text_format(text, "%06u", i);
}

static int resumed_add(void *arg, kvs_slice key, kvs_slice value)
{
    struct resumed *resumed = arg;
    uint8_t expected[2000];
    kvs_slice expected_key = would_block_pair(resumed->seen++, resumed->last, expected);
    resumed->wrong = resumed->wrong || !slice_equal(key, expected_key) ||
                     !slice_equal(value, slice_make(expected, sizeof expected));
    return 0;
}

/* Scans without blocking, and behind a WOULD_BLOCK goes on with a view that may block, for one key:
 * as a loop and the pool do together. */
static void scan_resuming(struct fixture *fixture)
{
    struct resumed resumed = {.seen = 0};
    int error = ENGINE_WOULD_BLOCK;
    for (unsigned turn = 0; error == ENGINE_WOULD_BLOCK; turn++) {
        assert_true(turn < 2 * WOULD_BLOCK_KEYS + 2);
        struct engine_view view;
        OK(engine_view_begin(fixture->engine, NULL, turn % 2 == 1, &view));
        char bound[TEXT_SIZE_MAX + 1];
        struct engine_range range = {0};
        if (resumed.seen > 0) {
            memcpy(bound, resumed.last, TEXT_SIZE_MAX);
            range.start = slice_make(bound, strlen(bound) + 1); /* the next possible key */
        }
        error = engine_scan(&view, &range, resumed_add, &resumed);
        engine_view_end(&view);
    }
    assert_int_equal(error, 0);
    assert_int_equal(resumed.seen, WOULD_BLOCK_KEYS);
    assert_false(resumed.wrong);
}

void contract_would_block(struct fixture *fixture)
{
    for (unsigned i = 0; i < WOULD_BLOCK_KEYS; i++) {
        char text[TEXT_SIZE_MAX];
        uint8_t value[2000];
        kvs_slice key = would_block_pair(i, text, value);
        OK(set_wait(fixture, key, slice_make(value, sizeof value)));
    }
    struct engine_view view;
    OK(engine_view_begin(fixture->engine, NULL, false, &view));
    unsigned blocked = 0;
    for (unsigned i = 0; i < WOULD_BLOCK_KEYS; i++) {
        char text[TEXT_SIZE_MAX];
        uint8_t expected[2000];
        kvs_slice value;
        kvs_slice key = would_block_pair(i, text, expected);
        int error = engine_get(&view, 0, key, &value);
        assert_true(error == 0 || error == ENGINE_WOULD_BLOCK);
        blocked += error == ENGINE_WOULD_BLOCK;
        if (error == 0)
            assert_true(slice_equal(value, slice_make(expected, sizeof expected)));
    }
    kvs_slice value;
    assert_int_equal(engine_get(&view, 0, S("missing"), &value), KVS_ERR_NOT_FOUND);
    if (fixture_can(fixture, ENGINE_CAP_IN_MEMORY))
        assert_int_equal(blocked, 0);
    engine_view_end(&view);
    scan_resuming(fixture);
}

/* --- on the pool ------------------------------------------------------------------------------*/

struct pool_read {
    struct engine_read read;
    struct fixture *fixture;
    struct latch latch;
    pthread_t ran_on;
    bool ran_on_loop;
    bool may_block;
    bool found;
    bool completed_on_loop;
    int result;
};

static int pool_read_run(struct engine_read *read, struct engine_view *view)
{
    struct pool_read *pool_read = CONTAINER_OF(read, struct pool_read, read);
    pool_read->ran_on = pthread_self();
    pool_read->ran_on_loop = loop_is_current(&pool_read->fixture->loop);
    pool_read->may_block = view->may_block;
    kvs_slice value;
    int error = engine_get(view, 0, S("k"), &value);
    pool_read->found = error == 0 && slice_equal(value, S("v"));
    return pool_read->result;
}

static void pool_read_on_done(struct task *task)
{
    struct pool_read *pool_read = CONTAINER_OF(task, struct pool_read, read.op.task);
    pool_read->completed_on_loop = loop_is_current(&pool_read->fixture->loop);
    latch_down(&pool_read->latch);
}

static void pool_read_wait(struct pool_read *pool_read)
{
    pool_read->read.op.task.run = pool_read_on_done;
    pool_read->read.op.loop = &pool_read->fixture->loop;
    pool_read->read.run = pool_read_run;
    latch_init(&pool_read->latch, 1);
    engine_read(pool_read->fixture->engine, &pool_read->read);
    latch_wait(&pool_read->latch);
    latch_deinit(&pool_read->latch);
}

void contract_read_on_pool(struct fixture *fixture)
{
    OK(set_wait(fixture, S("k"), S("v")));
    static const int results[] = {0, KVS_ERR_NOT_FOUND, KVS_ERR_NO_MEMORY};
    for (unsigned i = 0; i < 3; i++) {
        struct pool_read pool_read = {.fixture = fixture, .result = results[i]};
        pool_read_wait(&pool_read);
        assert_int_equal(pool_read.read.op.error, results[i]);
        assert_true(pool_read.found);
        assert_true(pool_read.may_block);
        assert_true(pool_read.completed_on_loop);
        assert_false(pool_read.ran_on_loop);
        assert_false(pthread_equal(pool_read.ran_on, pthread_self()));
    }
}

void contract_snapshot_on_pool(struct fixture *fixture)
{
    OK(set_wait(fixture, S("k"), S("v")));
    struct engine_snapshot *snapshot;
    OK(engine_snapshot_take(fixture->engine, &snapshot));
    OK(set_wait(fixture, S("k"), S("other")));
    struct pool_read now = {.fixture = fixture};
    pool_read_wait(&now);
    assert_false(now.found);
    struct pool_read before = {.fixture = fixture, .read.snapshot = snapshot};
    pool_read_wait(&before);
    assert_true(before.found);
    engine_snapshot_release(fixture->engine, snapshot);
}

/* --- times to live ----------------------------------------------------------------------------*/

static int set_ttl_wait(struct fixture *fixture, kvs_slice key, kvs_slice value, uint64_t ttl_ms)
{
    kvs_mutation mutation = mutation_set(key, value);
    mutation.ttl_ms = ttl_ms;
    return batch_wait(fixture, &mutation, 1);
}

/* Waits until the key is gone. */
static void gone_wait(struct fixture *fixture, kvs_slice key)
{
    int error;
    do {
        struct buf value;
        usleep(1000);
        error = get_copy(fixture, 0, key, &value);
        buf_deinit(&value);
    } while (error == 0);
    assert_int_equal(error, KVS_ERR_NOT_FOUND);
}

void contract_ttl(struct fixture *fixture)
{
    OK(set_wait(fixture, S("a"), S("stays")));
    OK(set_ttl_wait(fixture, S("short"), S("v"), 30));
    OK(set_ttl_wait(fixture, S("short too"), S("v"), 30));
    OK(set_ttl_wait(fixture, S("long"), S("v"), 3600 * 1000));
    OK(set_ttl_wait(fixture, S("longest"), S("v"), KVS_TTL_MS_MAX));
    struct engine_snapshot *snapshot;
    OK(engine_snapshot_take(fixture->engine, &snapshot));
    gone_wait(fixture, S("short"));
    gone_wait(fixture, S("short too"));
    check_value(fixture, "long", "v");
    check_value(fixture, "longest", "v");

    for (unsigned i = 0; i < 2; i++) {
        struct engine_view view;
        OK(engine_view_begin(fixture->engine, i == 0 ? NULL : snapshot, true, &view));
        check_in_view(&view, 0, S("short"), NULL);
        uint64_t count;
        OK(engine_count(&view, &(struct engine_range){0}, &count));
        assert_int_equal(count, 3);
        struct pairs pairs;
        OK(pairs_scan(&view, &(struct engine_range){0}, &pairs));
        assert_int_equal(pairs.count, 3);
        pairs_deinit(&pairs);
        engine_view_end(&view);
    }
    engine_snapshot_release(fixture->engine, snapshot);

    uint64_t removed;
    OK(remove_wait(fixture, S("short too"), &removed));
    assert_int_equal(removed, 0);
    /* Gone for conditions as well, and can be set anew. */
    struct engine_condition absent = {.kind = ENGINE_CONDITION_ABSENT, .key = S("short")};
    kvs_mutation set = mutation_set(S("short"), S("again"));
    struct engine_write write = {.mutations = &set,
                                 .mutations_count = 1,
                                 .conditions = &absent,
                                 .conditions_count = 1,
                                 .flags = ENGINE_WRITE_WANT_PREVIOUS};
    OK(write_wait(fixture, &write));
    assert_false(write.previous_found);
    check_value(fixture, "short", "again");
    OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
    check_value(fixture, "short", "again");
    check_value(fixture, "short too", NULL);
    check_value(fixture, "long", "v");
    kvs_mutation range = mutation_remove_range(S("l"), S("m"));
    struct engine_write removal = {.mutations = &range, .mutations_count = 1};
    OK(write_wait(fixture, &removal));
    assert_int_equal(removal.removed_count, 2);
}

void contract_expiry(struct fixture *fixture)
{
    uint64_t before_ms = clock_wall_ms();
    OK(set_ttl_wait(fixture, S("long"), S("v"), 3600 * 1000));
    OK(set_wait(fixture, S("ever"), S("v")));
    uint64_t after_ms = clock_wall_ms();
    struct engine_view view;
    uint64_t expires_at_ms = 1;
    OK(engine_view_begin(fixture->engine, NULL, true, &view));
    OK(engine_expiry(&view, 0, S("long"), &expires_at_ms));
    assert_true(expires_at_ms >= before_ms + 3600 * 1000);
    assert_true(expires_at_ms <= after_ms + 3600 * 1000);
    OK(engine_expiry(&view, 0, S("ever"), &expires_at_ms));
    assert_int_equal(expires_at_ms, 0);
    assert_int_equal(engine_expiry(&view, 0, S("none"), &expires_at_ms), KVS_ERR_NOT_FOUND);
    engine_view_end(&view);
}

void contract_ttl_replaced(struct fixture *fixture)
{
    OK(set_ttl_wait(fixture, S("k"), S("v"), 1));
    OK(set_wait(fixture, S("k"), S("for good")));
    OK(set_ttl_wait(fixture, S("m"), S("v"), 3600 * 1000));
    OK(set_ttl_wait(fixture, S("m"), S("short"), 1));
    gone_wait(fixture, S("m"));
    check_value(fixture, "k", "for good");
    /* In one batch the last one decides. */
    kvs_mutation twice[2] = {mutation_set(S("k"), S("short")), mutation_set(S("k"), S("long"))};
    twice[0].ttl_ms = 1;
    OK(batch_wait(fixture, twice, 2));
    OK(set_ttl_wait(fixture, S("n"), S("v"), 1));
    gone_wait(fixture, S("n"));
    check_value(fixture, "k", "long");
}

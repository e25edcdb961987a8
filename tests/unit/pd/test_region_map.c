/* pd/region_map.c against a plain list of bounds, on the durable engine, with reopening. */
#include "pd/region_map.h"

#include "base/mem.h"
#include "base/rand.h"
#include "contract/engine_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "test.h"

#define BOUNDS_MAX 600
#define KEY_SIZE_MAX 6

struct bound {
    uint8_t bytes[KEY_SIZE_MAX];
    size_t size;
    uint64_t id, version; /* of the region that begins here */
};

struct model {
    struct bound bounds[BOUNDS_MAX]; /* the first is empty */
    size_t count;
};

struct setup {
    struct fixture fixture;
    struct meta_store store;
    struct region_map *map;
    struct region_reader reader;
};

static void setup_open(struct setup *setup)
{
    struct engine_message message;
    assert_int_equal(fixture_open(&setup->fixture), 0);
    meta_store_init(&setup->store, setup->fixture.engine);
    assert_int_equal(region_map_open_blocking(&setup->store, &setup->map, &message), 0);
    region_reader_init(&setup->reader, setup->map);
}

static void setup_close(struct setup *setup)
{
    region_reader_deinit(&setup->reader);
    region_map_free(setup->map);
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

static void setup_deinit(struct setup *setup)
{
    setup_close(setup);
    fixture_deinit(&setup->fixture);
}

struct waited_split {
    struct region_split split;
    struct latch latch;
    int error;
};

static void on_split(struct region_split *split, int error)
{
    struct waited_split *waited = CONTAINER_OF(split, struct waited_split, split);
    waited->error = error;
    latch_down(&waited->latch);
}

static int split_at(struct setup *setup, const kvs_slice *keys, size_t count, uint64_t region_id,
                    uint64_t version)
{
    struct waited_split waited = {.split = {.keys = keys,
                                            .count = count,
                                            .region_id = region_id,
                                            .version = version,
                                            .done = on_split}};
    latch_init(&waited.latch, 1);
    region_map_split(setup->map, &setup->fixture.loop, &waited.split);
    latch_wait(&waited.latch);
    latch_deinit(&waited.latch);
    return waited.error;
}

/* --- the model --- */

static kvs_slice key_of(const struct bound *bound)
{
    return slice_make(bound->bytes, bound->size);
}

static size_t model_index(const struct model *model, kvs_slice key)
{
    size_t index = 0;
    for (size_t i = 0; i < model->count; i++) {
        if (slice_compare(key_of(&model->bounds[i]), key) <= 0)
            index = i;
    }
    return index;
}

/* Bounds go in one after the other; versions count the cuts of the whole, which are known when all
 * are in; ids of new regions are learned from the map. */
static void model_split(struct model *model, const kvs_slice *keys, size_t count)
{
    struct model before = *model;
    size_t wholes[BOUNDS_MAX], parts[BOUNDS_MAX] = {0};
    for (size_t i = 0; i < count; i++) {
        size_t at = model_index(model, keys[i]);
        if (slice_equal(key_of(&model->bounds[at]), keys[i]))
            continue;
        memmove(&model->bounds[at + 2], &model->bounds[at + 1],
                (model->count - at - 1) * sizeof model->bounds[0]);
        struct bound *bound = &model->bounds[at + 1];
        bound->size = keys[i].size;
        memcpy(bound->bytes, keys[i].data, keys[i].size);
        bound->id = model->bounds[at].id; /* the right part keeps it */
        model->bounds[at].id = 0;
        model->count++;
    }
    for (size_t i = 0; i < model->count; i++) {
        size_t whole = model_index(&before, key_of(&model->bounds[i]));
        parts[whole]++;
        wholes[i] = whole;
    }
    for (size_t i = 0; i < model->count; i++)
        model->bounds[i].version = before.bounds[wholes[i]].version + parts[wholes[i]] - 1;
}

static int order_u64(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

/* Learns the ids of new regions; no id and no peer is there twice. */
static void check_ids(struct model *model, const struct region_list *list)
{
    static uint64_t ids[2 * BOUNDS_MAX];
    for (size_t i = 0; i < list->count; i++) {
        const struct region *region = list->by_key[i];
        if (model->bounds[i].id == 0)
            model->bounds[i].id = region->id;
        assert_int_equal(region->id, model->bounds[i].id);
        assert_ptr_equal(region_by_id(list, region->id), region);
        ids[2 * i] = region->id;
        ids[2 * i + 1] = region->peer_id;
    }
    qsort(ids, 2 * list->count, sizeof ids[0], order_u64);
    for (size_t i = 1; i < 2 * list->count; i++)
        assert_true(ids[i - 1] < ids[i]);
    assert_null(region_by_id(list, ids[2 * list->count - 1] + 1));
    assert_null(region_by_id(list, 0));
}

static void check_map(struct setup *setup, struct model *model)
{
    const struct region_list *list = region_reader_list(&setup->reader);
    const kvs_slice nothing = {0};
    assert_int_equal(list->count, model->count);
    for (size_t i = 0; i < list->count; i++) {
        const struct region *region = list->by_key[i];
        bool last = i + 1 == list->count;
        assert_true(slice_equal(region->start, key_of(&model->bounds[i])));
        assert_true(slice_equal(region->end, last ? nothing : key_of(&model->bounds[i + 1])));
        assert_int_equal(region->version, model->bounds[i].version);
        assert_int_equal(region->conf_version, 1);
    }
    check_ids(model, list);
}

static void check_find(struct setup *setup, const struct model *model, kvs_slice key)
{
    const struct region_list *list = region_reader_list(&setup->reader);
    size_t index = model_index(model, key);
    assert_int_equal(region_list_index(list, key), index);
    assert_ptr_equal(region_find(list, key), list->by_key[index]);
    assert_true(region_has(list->by_key[index], key));
    assert_ptr_equal(region_find_before(list, key), index > 0 ? list->by_key[index - 1] : NULL);
}

static kvs_slice random_key(struct rand *rand, uint8_t bytes[KEY_SIZE_MAX])
{
    size_t size = 1 + rand_below(rand, KEY_SIZE_MAX);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(rand_below(rand, 4) == 0 ? 0 : rand_below(rand, 256));
    return slice_make(bytes, size);
}

static void random_split(struct setup *setup, struct model *model, struct rand *rand)
{
    uint8_t bytes[5][KEY_SIZE_MAX];
    kvs_slice keys[5];
    size_t count = 1 + rand_below(rand, 5);
    for (size_t i = 0; i < count; i++)
        keys[i] = random_key(rand, bytes[i]);
    if (rand_below(rand, 3) != 0) {
        assert_int_equal(split_at(setup, keys, count, 0, 0), 0);
        model_split(model, keys, count);
        return;
    }
    /* of one region: right, of another version, with a key of somebody else's, of no region */
    const struct bound *bound = &model->bounds[model_index(model, keys[0])];
    uint64_t version = bound->version + rand_below(rand, 2);
    uint64_t id = bound->id + (rand_below(rand, 4) == 0 ? 100000 : 0);
    bool fits = version == bound->version && id == bound->id;
    for (size_t i = 1; i < count; i++)
        fits = fits && model_index(model, keys[i]) == model_index(model, keys[0]);
    assert_int_equal(split_at(setup, keys, count, id, version),
                     fits ? 0 : KVS_ERR_CONDITION_FAILED);
    if (fits)
        model_split(model, keys, count);
}

static void test_splits_as_the_model_does(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        print_message("# seed %d\n", (int)seed);
        struct rand rand = rand_seed(seed);
        struct setup setup;
        static struct model model;
        model = (struct model){.count = 1, .bounds = {{.id = 2, .version = 1}}};
        setup_init(&setup);
        check_map(&setup, &model);
        for (unsigned step = 0; step < 100; step++) {
            random_split(&setup, &model, &rand);
            if (rand_below(&rand, 10) == 0) {
                setup_close(&setup);
                setup_open(&setup);
            }
            check_map(&setup, &model);
            for (unsigned i = 0; i < 20; i++) {
                uint8_t bytes[KEY_SIZE_MAX];
                check_find(&setup, &model, random_key(&rand, bytes));
            }
            check_find(&setup, &model, slice_make(NULL, 0));
        }
        setup_deinit(&setup);
    }
}

static void test_refuses_keys_that_cannot_be_bounds(void **state)
{
    (void)state;
    struct setup setup;
    setup_init(&setup);
    uint8_t *large = mem_zalloc(REGION_KEY_SIZE_MAX + 1);
    const kvs_slice keys[] = {slice_of_string("a"), slice_make(NULL, 0)};
    assert_int_equal(split_at(&setup, keys, 2, 0, 0), KVS_ERR_INVALID_ARGUMENT);
    kvs_slice key = slice_make(large, REGION_KEY_SIZE_MAX + 1);
    assert_int_equal(split_at(&setup, &key, 1, 0, 0), KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(region_reader_list(&setup.reader)->count, 1);
    key.size = REGION_KEY_SIZE_MAX;
    assert_int_equal(split_at(&setup, &key, 1, 0, 0), 0);
    assert_int_equal(region_reader_list(&setup.reader)->count, 2);
    mem_free(large);
    setup_deinit(&setup);
}

/* An old list stays whole for who has it, while others split: the loop's reader is not ours. */
static void test_a_list_does_not_change(void **state)
{
    (void)state;
    struct setup setup;
    setup_init(&setup);
    const struct region_list *old = setup.reader.list;
    for (unsigned i = 0; i < 50; i++) {
        char text[8];
        snprintf(text, sizeof text, "k%02u", i);
        kvs_slice key = slice_of_string(text);
        assert_int_equal(split_at(&setup, &key, 1, 0, 0), 0);
        assert_int_equal(old->count, 1);
        assert_int_equal(old->by_key[0]->id, 2);
    }
    assert_int_equal(region_reader_list(&setup.reader)->count, 51);
    setup_deinit(&setup);
}

static void write_meta(struct setup *setup, const char *key, kvs_slice value)
{
    struct meta_batch batch = {.count = 0};
    meta_put(&batch, slice_of_string(key), value);
    assert_int_equal(meta_write_blocking(&setup->store, &batch), 0);
}

/* What the directory says may be anything: an error with a reason, no crash. */
static void test_says_when_regions_do_not_fit(void **state)
{
    (void)state;
    uint8_t bytes[64] = {1, 3, [9] = 1, [17] = 1, [25] = 1, [29] = 'm'};
    for (size_t size = 0; size < sizeof bytes; size++) {
        struct setup setup;
        struct engine_message message;
        setup_init(&setup);
        write_meta(&setup, "pd/region/12345678", slice_make(bytes, size));
        region_reader_deinit(&setup.reader);
        region_map_free(setup.map);
        setup.map = NULL;
        assert_int_equal(region_map_open_blocking(&setup.store, &setup.map, &message),
                         KVS_ERR_CORRUPTION);
        assert_non_null(strstr(message.text, "regions"));
        meta_store_deinit(&setup.store);
        fixture_deinit(&setup.fixture);
    }
}

static void test_encodes_keys(void **state)
{
    (void)state;
    struct buf out = BUF_INIT;
    assert_int_equal(region_key_encode(&out, slice_make(NULL, 0)), 0);
    assert_slice_equal(buf_slice(&out), "\0\0\0\0\0\0\0\0\xf7");
    buf_clear(&out);
    assert_int_equal(region_key_encode(&out, slice_of_string("abcd")), 0);
    assert_slice_equal(buf_slice(&out), "abcd\0\0\0\0\xfb");
    buf_clear(&out);
    assert_int_equal(region_key_encode(&out, slice_of_string("abcdefgh")), 0);
    assert_slice_equal(buf_slice(&out), "abcdefgh\xff\0\0\0\0\0\0\0\0\xf7");
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_splits_as_the_model_does),
        cmocka_unit_test(test_refuses_keys_that_cannot_be_bounds),
        cmocka_unit_test(test_a_list_does_not_change),
        cmocka_unit_test(test_says_when_regions_do_not_fit),
        cmocka_unit_test(test_encodes_keys),
    };
    return cmocka_run_group_tests_name("region-map", tests, NULL, NULL);
}

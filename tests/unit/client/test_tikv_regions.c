/* The region cache against a list that does everything the slow way, and its rules one by one. */
#include "client/tikv/region_cache.h"

#include <kvs/error.h>
#include <stdio.h>

#include "seed.h"
#include "test.h"

#define KEYS 64u /* one-byte keys: 1 to KEYS */

struct known {
    bool used;
    uint64_t id, version, conf_ver;
    unsigned start, end; /* end 0: no bound; start 0: the first */
};

static kvs_slice key_of(unsigned number, uint8_t *byte)
{
    *byte = (uint8_t)number;
    return slice_make(byte, number != 0);
}

static int insert(struct region_cache *cache, const struct known *known)
{
    uint8_t start, end;
    const struct region_peer peers[] = {{.id = known->id * 10 + 1, .store_id = 1},
                                        {.id = known->id * 10 + 2, .store_id = 2}};
    const struct region_info info = {
        .id = known->id,
        .version = known->version,
        .conf_ver = known->conf_ver,
        .start = key_of(known->start, &start),
        .end = key_of(known->end, &end),
        .peers = peers,
        .peers_count = 2,
        .leader_id = known->id * 10 + 2,
    };
    return region_cache_insert(cache, &info, 0);
}

static bool overlap(const struct known *a, const struct known *b)
{
    return (b->end == 0 || a->start < b->end) && (a->end == 0 || b->start < a->end);
}

static void model_insert(struct known *model, size_t count, const struct known *region)
{
    for (size_t i = 0; i < count; i++) {
        const struct known *at = &model[i];
        if (at->used && overlap(at, region) &&
            (at->version > region->version ||
             (at->id == region->id && at->version == region->version &&
              at->conf_ver > region->conf_ver)))
            return;
    }
    size_t free_at = count;
    for (size_t i = 0; i < count; i++) {
        if (model[i].used && overlap(&model[i], region))
            model[i].used = false;
        if (!model[i].used)
            free_at = i;
    }
    assert_in_range(free_at, 0, count - 1);
    model[free_at] = *region;
    model[free_at].used = true;
}

static const struct known *model_find(const struct known *model, size_t count, unsigned key)
{
    for (size_t i = 0; i < count; i++) {
        if (model[i].used && model[i].start <= key && (model[i].end == 0 || key < model[i].end))
            return &model[i];
    }
    return NULL;
}

/* The region that holds the largest key below `end`; keys are whole numbers here. */
static const struct known *model_find_below(const struct known *model, size_t count, unsigned end)
{
    for (size_t i = 0; i < count; i++) {
        const struct known *at = &model[i];
        bool reaches = at->end == 0 || (end != 0 && end <= at->end);
        if (at->used && (end == 0 ? at->end == 0 : at->start < end && reaches))
            return at;
    }
    return NULL;
}

static void compare(struct region_cache *cache, const struct known *model, size_t count)
{
    for (unsigned key = 0; key <= KEYS; key++) {
        uint8_t byte;
        const struct known *expected = model_find(model, count, key);
        const struct region *region = region_cache_find(cache, key_of(key, &byte), 0);
        assert_int_equal(region != NULL, expected != NULL);
        if (region != NULL) {
            assert_int_equal(region->id, expected->id);
            assert_int_equal(region->version, expected->version);
        }
        expected = model_find_below(model, count, key);
        region = region_cache_find_below(cache, key_of(key, &byte), 0);
        assert_int_equal(region != NULL, expected != NULL);
        assert_true(region == NULL || region->id == expected->id);
    }
}

static void test_against_a_model(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct rand rand = rand_seed(seed);
    for (unsigned round = 0; round < 50; round++) {
        struct known model[KEYS + 1] = {{0}};
        struct region_cache cache;
        region_cache_init(&cache, seed);
        for (unsigned step = 0; step < 100; step++) {
            struct known region = {
                .id = 1 + rand_below(&rand, 20),
                .version = 1 + rand_below(&rand, 4) + step / 20,
                .conf_ver = 1 + rand_below(&rand, 3),
                .start = (unsigned)rand_below(&rand, KEYS),
            };
            region.end = region.start + 1 + (unsigned)rand_below(&rand, 16);
            if (region.end > KEYS)
                region.end = 0;
            if (rand_below(&rand, 4) == 0) {
                uint8_t byte;
                const struct known *at = model_find(model, KEYS + 1, region.start);
                uint64_t id = at != NULL ? at->id : region.id;
                region_cache_drop(&cache, key_of(region.start, &byte), id, region.version);
                if (at != NULL && at->version == region.version)
                    model[at - model].used = false;
            } else {
                assert_int_equal(insert(&cache, &region), 0);
                model_insert(model, KEYS + 1, &region);
            }
            compare(&cache, model, KEYS + 1);
        }
        region_cache_deinit(&cache);
    }
}

static void test_leaders(void **state)
{
    (void)state;
    struct region_cache cache;
    region_cache_init(&cache, 1);
    const struct known region = {.id = 7, .version = 3, .conf_ver = 1, .start = 5, .end = 9};
    assert_int_equal(insert(&cache, &region), 0);
    uint8_t byte;
    kvs_slice key = key_of(6, &byte);
    assert_int_equal(region_leader(region_cache_find(&cache, key, 0))->store_id, 2);
    assert_true(region_cache_set_leader(&cache, key, 7, 71, 1));
    assert_int_equal(region_leader(region_cache_find(&cache, key, 0))->store_id, 1);
    assert_false(region_cache_set_leader(&cache, key, 7, 79, 9)); /* no peer of it */
    assert_false(region_cache_set_leader(&cache, key, 8, 71, 1)); /* no such region */
    /* One switch to the other peer, then all were tried; one that is late changes nothing. */
    assert_true(region_cache_switch_peer(&cache, key, 7, 1));
    assert_int_equal(region_leader(region_cache_find(&cache, key, 0))->store_id, 2);
    assert_true(region_cache_switch_peer(&cache, key, 7, 1));
    assert_int_equal(region_leader(region_cache_find(&cache, key, 0))->store_id, 2);
    assert_false(region_cache_switch_peer(&cache, key, 7, 2));
    region_cache_deinit(&cache);
}

static void test_nonsense_and_age(void **state)
{
    (void)state;
    struct region_cache cache;
    region_cache_init(&cache, 1);
    struct known region = {.id = 7, .version = 3, .conf_ver = 1, .start = 9, .end = 9};
    assert_int_equal(insert(&cache, &region), KVS_ERR_INVALID_ARGUMENT);
    const struct region_info no_peers = {.id = 1};
    assert_int_equal(region_cache_insert(&cache, &no_peers, 0), KVS_ERR_INVALID_ARGUMENT);
    region.end = 0;
    assert_int_equal(insert(&cache, &region), 0);
    uint8_t byte;
    kvs_slice key = key_of(20, &byte);
    assert_non_null(region_cache_find(&cache, key, REGION_LIFE_MS - 1));
    assert_null(region_cache_find(&cache, key, REGION_LIFE_MS * 2));
    assert_int_equal(cache.count, 0);
    region_cache_deinit(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_a_model),
        cmocka_unit_test(test_leaders),
        cmocka_unit_test(test_nonsense_and_age),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * tests/unit/engine/test_log_merge.c: the index that is merged from the lists of segments is that
 * which replaying their records one by one gives.
 */
#include "base/mem.h"
#include "base/rand.h"
#include "engine/log/merge.h"
#include "engine/log/tree_build.h"
#include "seed.h"
#include "test.h"
#include "unit/engine/log_pages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) assert_int_equal((call), 0)

#define FAMILIES 3u
#define SEGMENTS 12u

/* --- building trees from runs -----------------------------------------------------------------*/

static void tree_build_case(unsigned count, unsigned runs_count)
{
    struct slab slab;
    slab_init(&slab);
    struct tree_writer writer = {.slab = &slab, .birth = 1};
    struct slab slabs[4];
    struct tree_writer writers[4];
    struct tree_run runs[4];
    struct tree_run *list[4];
    char text[32];
    for (unsigned i = 0; i < runs_count; i++) {
        slab_init(&slabs[i]);
        writers[i] = (struct tree_writer){.slab = &slabs[i], .birth = 1};
        runs[i] = (struct tree_run){.writer = &writers[i]};
        list[i] = &runs[i];
        for (unsigned k = count * i / runs_count; k < count * (i + 1) / runs_count; k++) {
            snprintf(text, sizeof text, "key %09u", k);
            struct entry *entry = tree_entry_new(&writers[i], slice_of_string(text), 0, k, 1, k);
            assert_non_null(entry);
            OK(tree_run_add(&runs[i], entry));
        }
        tree_run_end(&runs[i]);
        slab_absorb(&slab, &slabs[i]);
    }
    struct node *root = NULL;
    OK(tree_runs_join(&writer, list, runs_count, &root));
    uint64_t there;
    assert_true(tree_is_valid(root, &there));
    assert_int_equal(there, count);
    assert_true((root == NULL) == (count == 0));
    /* It can be changed as any other. */
    for (unsigned k = 0; k < count; k += 2) {
        struct entry *removed;
        snprintf(text, sizeof text, "key %09u", k);
        OK(tree_remove(&writer, &root, slice_of_string(text), &removed));
        assert_non_null(removed);
        OK(tree_entry_retire(&writer, removed));
    }
    assert_true(tree_is_valid(root, &there));
    assert_int_equal(there, count / 2);
    for (unsigned i = 0; i < runs_count; i++) {
        tree_run_deinit(&runs[i]);
        slab_deinit(&slabs[i]);
    }
    slab_deinit(&slab);
}

static void test_trees_from_runs(void **state)
{
    static const unsigned counts[] = {0,   1,    2,    47,   48,   49,    96,     97,
                                      100, 2351, 2352, 2353, 4999, 20000, 115248, 115249};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        for (unsigned runs = 1; runs <= 4; runs += TIMES(1, 3, 3))
            tree_build_case(counts[i], runs);
}

/* --- merging ----------------------------------------------------------------------------------*/

struct world {
    struct rand rand;
    unsigned keys;
    struct last {
        uint64_t sequence; /* 0: not there */
        uint32_t segment;
        uint32_t offset;
        uint64_t expires_at_ms;
    } * last[FAMILIES];
    struct buf pages[SEGMENTS];
    struct record ranges[64]; /* of all segments, for moves */
    unsigned ranges_count;
    uint64_t sequence;
};

static kvs_slice key_of(char text[32], unsigned i)
{
    snprintf(text, 32, i % 5 == 0 ? "%u" : "a longer key, %u", i * 7919u);
    return slice_of_string(text);
}

static void range_replay(struct world *world, const struct record *record)
{
    for (unsigned i = 0; i < world->keys; i++) {
        char text[32];
        kvs_slice key = key_of(text, i);
        struct last *last = &world->last[record->family][i];
        if (slice_compare(record->key, key) <= 0 &&
            (record->value.size == 0 || slice_compare(key, record->value) < 0) &&
            last->sequence < record->sequence)
            last->sequence = 0;
    }
}

/* A removal, or one that compaction moved here: it keeps its number. */
static void range_add(struct world *world, uint32_t number)
{
    static char texts[128][32];
    struct record record;
    if (world->ranges_count > 0 && rand_below(&world->rand, 2) == 0) {
        record = world->ranges[rand_below(&world->rand, world->ranges_count)];
    } else if (world->ranges_count < 64) {
        unsigned n = world->ranges_count;
        record = (struct record){
            .kind = RECORD_REMOVE_RANGE,
            .family = (uint8_t)rand_below(&world->rand, FAMILIES),
            .sequence = ++world->sequence,
            .key = key_of(texts[2 * n], (unsigned)rand_below(&world->rand, world->keys)),
            .value = key_of(texts[2 * n + 1], (unsigned)rand_below(&world->rand, world->keys))};
        if (rand_below(&world->rand, 8) == 0)
            record.value.size = 0;
        if (record.value.size > 0 && slice_compare(record.key, record.value) > 0) {
            kvs_slice key = record.key;
            record.key = record.value;
            record.value = key;
        }
        world->ranges[world->ranges_count++] = record;
    } else {
        return;
    }
    page_add(&world->pages[number - 1], number, &record);
    range_replay(world, &record);
}

static void record_add(struct world *world, uint32_t number)
{
    unsigned what = (unsigned)rand_below(&world->rand, 10000);
    if (what < 4) {
        range_add(world, number);
        return;
    }
    char text[32];
    unsigned i = (unsigned)rand_below(&world->rand, world->keys);
    struct record record = {.kind = what < 1000 ? RECORD_REMOVE : RECORD_SET,
                            .family = (uint8_t)rand_below(&world->rand, FAMILIES),
                            .sequence = ++world->sequence,
                            .key = key_of(text, i)};
    if (record.kind == RECORD_SET) {
        record.value = slice_make("0123456789", rand_below(&world->rand, 11));
        record.expires_at_ms = what % 3 == 0 ? world->sequence : 0;
    }
    uint32_t offset = page_add(&world->pages[number - 1], number, &record);
    world->last[record.family][i] =
        (struct last){.sequence = record.kind == RECORD_SET ? record.sequence : 0,
                      .segment = number,
                      .offset = offset,
                      .expires_at_ms = record.expires_at_ms};
}

static void assert_index_is(struct world *world, struct log_engine *log)
{
    uint64_t live = 0;
    for (unsigned family = 0; family < FAMILIES; family++) {
        const struct tree_root *tree = &log->working.families[family];
        uint64_t expected = 0;
        uint64_t expiring = 0;
        uint64_t there;
        for (unsigned i = 0; i < world->keys; i++) {
            char text[32];
            const struct last *last = &world->last[family][i];
            const struct entry *entry = tree_find(tree->root, key_of(text, i));
            assert_int_equal(entry != NULL, last->sequence != 0);
            if (entry == NULL)
                continue;
            expected++;
            expiring += last->expires_at_ms != 0;
            live += entry_record_size(entry);
            uint64_t location = atomic_load(&entry->location);
            assert_int_equal(segment_at(log, location)->number, last->segment);
            assert_int_equal(location_offset(location), last->offset);
            assert_int_equal(entry_expires_at(entry), last->expires_at_ms);
        }
        assert_true(tree_is_valid(tree->root, &there));
        assert_int_equal(there, expected);
        assert_int_equal(tree->keys, expected);
        assert_int_equal(tree->expiring_keys, expiring);
    }
    for (struct segment *at = log->oldest; at != NULL; at = at->next)
        live -= at->accounts.live_bytes;
    assert_int_equal(live, 0);
}

static void merge_case(uint64_t seed, unsigned keys, unsigned records)
{
    struct world *world = calloc(1, sizeof *world);
    world->rand = rand_seed(seed);
    world->keys = keys;
    for (unsigned i = 0; i < FAMILIES; i++)
        world->last[i] = calloc(keys, sizeof **world->last);
    struct engine_options options = {.directory = "/nowhere"};
    OK(kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, 1, &options.pool));
    struct log_engine *log;
    OK(log_engine_new(&options, &log));
    log->tree.birth = 1;
    struct hint hints[SEGMENTS];
    struct merge_input inputs[SEGMENTS];
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        page_begin(&world->pages[i], i + 1, world->sequence + 1);
        for (unsigned n = 0; n < records; n++)
            record_add(world, i + 1);
        OK(hint_build(buf_slice(&world->pages[i]), i + 1, &hints[i]));
        inputs[i].hint = &hints[i];
        OK(segments_add(log, i + 1, &inputs[i].segment));
    }
    OK(merge_run(log, inputs, SEGMENTS));
    assert_index_is(world, log);
    for (unsigned i = 0; i < SEGMENTS; i++) {
        hint_deinit(&hints[i]);
        buf_deinit(&world->pages[i]);
    }
    for (unsigned i = 0; i < FAMILIES; i++)
        free(world->last[i]);
    free(world);
    log_engine_free(log);
    kvs_thread_pool_unref(options.pool);
}

static void test_as_replayed(void **state)
{
    uint64_t seed = test_seed();
    for (unsigned i = 0; i < 20; i += TIMES(1, 3, 3))
        merge_case(seed + i, 1 + i * i * 10, i * 100);
}

/* So many keys that several threads share them. */
static void test_in_parts(void **state)
{
    merge_case(test_seed(), 20000, 20000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trees_from_runs),
        cmocka_unit_test(test_as_replayed),
        cmocka_unit_test(test_in_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* server/region_splitter.c over the durable engine: what is cut, where, and where it is not. */
#include "server/region_splitter.h"

#include "base/mem.h"
#include "base/rand.h"
#include "contract/engine_fixture.h"
#include "engine/family.h"
#include "pd/keyspaces.h"
#include "proto/tikv/key.h"
#include "txn/record.h"

#include <stdio.h>
#include <stdlib.h>

#include "test.h"

#define BATCH 500u

struct setup {
    struct fixture fixture;
    struct cluster *cluster;
    struct loop loop;
    struct region_splitter *splitter;
    bool closed;
};

static void setup_open(struct setup *setup)
{
    struct engine_message message;
    const struct cluster_options options = {.keyspaces = NULL};
    assert_int_equal(fixture_open(&setup->fixture), 0);
    assert_int_equal(
        cluster_open_blocking(setup->fixture.engine, &options, &setup->cluster, &message), 0);
}

static void setup_close(struct setup *setup)
{
    cluster_free(setup->cluster);
    assert_int_equal(fixture_close(&setup->fixture), 0);
}

static void setup_init(struct setup *setup)
{
    static const struct engine_kind kind = {.name = "log", .open = log_engine_open_blocking};
    fixtures_in_memory();
    memset(setup, 0, sizeof *setup);
    assert_int_equal(fixture_init(&setup->fixture, &kind), 0);
    setup_open(setup);
}

static void setup_deinit(struct setup *setup)
{
    setup_close(setup);
    fixture_deinit(&setup->fixture);
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

/* One round, from its begin to its end; on this thread, as the loop has none. */
static void run_round(struct setup *setup, const struct region_splitter_options *options)
{
    struct region_splitter *splitter = mem_zalloc(sizeof *splitter);
    bool closed = false;
    assert_non_null(splitter);
    assert_int_equal(loop_init(&setup->loop, 0), 0);
    region_splitter_start(splitter, setup->cluster, &setup->loop, options);
    while (splitter->writes_seen == UINT64_MAX || splitter->busy)
        loop_turn(&setup->loop, true);
    region_splitter_close(splitter, on_closed, &closed);
    while (!closed)
        loop_turn(&setup->loop, true);
    region_splitter_deinit(splitter);
    loop_stop(&setup->loop);
    loop_deinit(&setup->loop);
    mem_free(splitter);
}

static size_t regions_count(struct setup *setup)
{
    struct region_reader reader;
    region_reader_init(&reader, setup->cluster->regions);
    size_t count = region_reader_list(&reader)->count;
    region_reader_deinit(&reader);
    return count;
}

/* Keys "<prefix><number><suffix>", with values of `value_size` bytes. */
static void fill(struct setup *setup, kvs_slice prefix, const char *suffix, unsigned count,
                 size_t value_size)
{
    static uint8_t value[4096];
    static char keys[BATCH][32];
    static kvs_mutation mutations[BATCH];
    for (unsigned i = 0; i < count;) {
        unsigned size = 0;
        for (; size < BATCH && i < count; size++, i++) {
            memcpy(keys[size], prefix.data, prefix.size);
            int more = snprintf(keys[size] + prefix.size, 24, "%05u%s", i, suffix);
            mutations[size] = mutation_set(slice_make(keys[size], prefix.size + (size_t)more),
                                           slice_make(value, value_size));
        }
        assert_int_equal(batch_wait(&setup->fixture, mutations, size), 0);
    }
}

struct extent {
    uint64_t keys, bytes;
};

static int add_pair(void *arg, kvs_slice key, kvs_slice value)
{
    struct extent *extent = arg;
    extent->keys++;
    extent->bytes += key.size + value.size;
    return 0;
}

/* The largest number of keys and of bytes in one region, bounds taken as raw keys; checks that
 * bounds are encodings when they have to be. */
static struct extent largest(struct setup *setup, bool encoded)
{
    struct extent most = {0};
    struct region_reader reader;
    struct engine_view view;
    region_reader_init(&reader, setup->cluster->regions);
    const struct region_list *list = region_reader_list(&reader);
    assert_int_equal(engine_view_begin(setup->fixture.engine, NULL, true, &view), 0);
    for (size_t i = 0; i < list->count; i++) {
        const struct region *region = list->by_key[i];
        const struct engine_range range = {.start = region->start, .end = region->end};
        struct extent extent = {0};
        uint8_t key[64];
        size_t size;
        assert_int_equal(engine_scan(&view, &range, add_pair, &extent), 0);
        most.keys = extent.keys > most.keys ? extent.keys : most.keys;
        most.bytes = extent.bytes > most.bytes ? extent.bytes : most.bytes;
        if (encoded && region->start.size > 0)
            assert_int_equal(key_decode(region->start, key, &size), 0);
    }
    engine_view_end(&view);
    region_reader_deinit(&reader);
    return most;
}

static void test_by_keys_at_encodings(void **state)
{
    struct setup setup;
    (void)state;
    setup_init(&setup);
    size_t before = regions_count(&setup);
    const struct region_splitter_options options = {.keys_max = 100};
    fill(&setup, S(""), "", 100, 10);
    run_round(&setup, &options);
    assert_int_equal(regions_count(&setup), before); /* as many as may be */
    fill(&setup, S(""), "-long-keys", 1000, 10);
    run_round(&setup, &options);
    size_t after = regions_count(&setup);
    assert_true(after >= before + 1100 / 100 && after <= before + 1100 / 50);
    assert_in_range(largest(&setup, true).keys, 50, 100);
    /* Nothing has grown: nothing is cut again; and all of it is there after a restart. */
    run_round(&setup, &options);
    assert_int_equal(regions_count(&setup), after);
    setup_close(&setup);
    setup_open(&setup);
    assert_int_equal(regions_count(&setup), after);
    setup_deinit(&setup);
}

static void test_by_size(void **state)
{
    struct setup setup;
    (void)state;
    setup_init(&setup);
    size_t before = regions_count(&setup);
    const struct region_splitter_options options = {.bytes_max = 100000};
    fill(&setup, S("s"), "", 200, 10);
    fill(&setup, S("t"), "", 200, 2000);
    run_round(&setup, &options);
    size_t after = regions_count(&setup);
    assert_true(after >= before + 4 && after <= before + 8); /* 400 kB in parts of 50 to 100 */
    assert_true(largest(&setup, true).bytes <= 100000);
    setup_deinit(&setup);
}

/* Keys that differ behind their eighth byte only cannot be told apart by an encoding. */
static void test_raw_bounds_only_when_asked(void **state)
{
    struct setup setup;
    (void)state;
    setup_init(&setup);
    size_t before = regions_count(&setup);
    struct region_splitter_options options = {.keys_max = 100};
    fill(&setup, S("user:name:"), "", 1000, 10);
    run_round(&setup, &options);
    assert_int_equal(regions_count(&setup), before);
    options.raw_bounds = true;
    run_round(&setup, &options);
    assert_true(regions_count(&setup) >= before + 10);
    assert_true(largest(&setup, false).keys <= 100);
    setup_deinit(&setup);
}

/* A keyspace's raw part stays whole, unless it is asked for; its bounds are encodings always. */
static void test_keyspaces_stay_whole(void **state)
{
    struct setup setup;
    (void)state;
    setup_init(&setup);
    size_t before = regions_count(&setup);
    struct region_splitter_options options = {.keys_max = 100};
    fill(&setup, S("r\0\0\0"), "", 1000, 10);
    run_round(&setup, &options);
    assert_int_equal(regions_count(&setup), before);
    options.raw_bounds = true;
    run_round(&setup, &options);
    assert_true(regions_count(&setup) >= before + 10);
    largest(&setup, true);
    setup_deinit(&setup);
}

/* More cuts than one round makes: the next ones go on. */
static void test_many_cuts(void **state)
{
    struct setup setup;
    (void)state;
    setup_init(&setup);
    const struct region_splitter_options options = {.keys_max = 4};
    fill(&setup, S(""), "", 6000, 1);
    run_round(&setup, &options);
    assert_true(regions_count(&setup) >= SPLITTER_CUTS_MAX);
    run_round(&setup, &options);
    run_round(&setup, &options);
    assert_true(largest(&setup, true).keys <= 4);
    setup_deinit(&setup);
}

/* Any keys, of any bytes: every bound is an encoding, the regions cover everything, and it ends. */
static void test_any_keys(void **state)
{
    struct setup setup;
    (void)state;
    struct rand rand = rand_seed(test_seed());
    setup_init(&setup);
    static uint8_t keys[BATCH][12];
    kvs_mutation mutations[BATCH];
    static const uint8_t likely[] = {0x00, 0x01, 'r', 'x', 0xf7, 0xfe, 0xff};
    for (unsigned round = 0; round < 6; round++) {
        for (unsigned i = 0; i < BATCH; i++) {
            size_t size = 1 + (size_t)rand_below(&rand, sizeof keys[i]);
            for (size_t k = 0; k < size; k++)
                keys[i][k] = likely[rand_below(&rand, sizeof likely)];
            mutations[i] = mutation_set(slice_make(keys[i], size), S("v"));
        }
        assert_int_equal(batch_wait(&setup.fixture, mutations, BATCH), 0);
        const struct region_splitter_options options = {.keys_max = 8};
        run_round(&setup, &options);
        largest(&setup, true);
    }
    assert_true(regions_count(&setup) > 100);
    setup_deinit(&setup);
}

/* --- transactions --- */

/* Keys "<prefix><number>" of transactions, in `versions` versions whose records have `value_size`
 * bytes. */
static void fill_versions(struct setup *setup, enum engine_family family, kvs_slice prefix,
                          unsigned count, unsigned versions, size_t value_size)
{
    static uint8_t value[4096];
    static struct record_key records[BATCH];
    static kvs_mutation mutations[BATCH];
    unsigned size = 0;
    for (unsigned i = 0; i < count * versions; i++) {
        char key[32];
        memcpy(key, prefix.data, prefix.size);
        int more = snprintf(key + prefix.size, 24, "%05u", i / versions);
        record_key_set(&records[size], slice_make(key, prefix.size + (size_t)more));
        mutations[size] = mutation_set(record_key_at(&records[size], 1000 + i % versions),
                                       slice_make(value, value_size));
        mutations[size++].family = (uint8_t)family;
        if (size == BATCH || i + 1 == count * versions) {
            assert_int_equal(batch_wait(&setup->fixture, mutations, size), 0);
            size = 0;
        }
    }
}

struct versions {
    struct record_key last;
    uint64_t keys, bytes;
};

static int add_version(void *arg, kvs_slice key, kvs_slice value)
{
    struct versions *versions = arg;
    kvs_slice encoded;
    uint64_t ts;
    assert_true(record_key_split(key, &encoded, &ts));
    if (!slice_equal(encoded, record_key_slice(&versions->last))) {
        versions->keys++;
        assert_true(record_key_set_encoded(&versions->last, encoded));
    }
    versions->bytes += key.size + value.size;
    return 0;
}

/* As largest(), of the transactions' families. */
static struct extent largest_versions(struct setup *setup)
{
    struct extent most = {0};
    struct region_reader reader;
    struct engine_view view;
    region_reader_init(&reader, setup->cluster->regions);
    const struct region_list *list = region_reader_list(&reader);
    assert_int_equal(engine_view_begin(setup->fixture.engine, NULL, true, &view), 0);
    for (size_t i = 0; i < list->count; i++) {
        const struct region *region = list->by_key[i];
        struct engine_range range = {
            .family = ENGINE_FAMILY_TXN_WRITE, .start = region->start, .end = region->end};
        static struct versions write, data;
        uint8_t key[64];
        size_t size;
        write = data = (struct versions){0};
        assert_int_equal(engine_scan(&view, &range, add_version, &write), 0);
        range.family = ENGINE_FAMILY_TXN_DATA;
        assert_int_equal(engine_scan(&view, &range, add_version, &data), 0);
        most.keys = write.keys > most.keys ? write.keys : most.keys;
        uint64_t bytes = write.bytes + data.bytes;
        most.bytes = bytes > most.bytes ? bytes : most.bytes;
        if (region->start.size > 0) /* of a whole key: no key's versions are torn apart */
            assert_int_equal(key_decode(region->start, key, &size), 0);
    }
    engine_view_end(&view);
    region_reader_deinit(&reader);
    return most;
}

/* Keys of no keyspace and of the default one; each counts once, however often it was written. */
static void test_transactions_by_keys(void **state)
{
    const kvs_slice prefixes[] = {S("k"), S("x\0\0\0")};
    (void)state;
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        struct setup setup;
        setup_init(&setup);
        size_t before = regions_count(&setup);
        const struct region_splitter_options options = {.keys_max = 100};
        fill_versions(&setup, ENGINE_FAMILY_TXN_WRITE, prefixes[i], 100, 7, 20);
        run_round(&setup, &options);
        assert_int_equal(regions_count(&setup), before); /* as many as may be */
        fill_versions(&setup, ENGINE_FAMILY_TXN_WRITE, prefixes[i], 1000, 3, 20);
        fill_versions(&setup, ENGINE_FAMILY_TXN_DATA, prefixes[i], 1000, 3, 300);
        run_round(&setup, &options);
        size_t after = regions_count(&setup);
        assert_true(after >= before + 1000 / 100 && after <= before + 1000 / 50);
        assert_in_range(largest_versions(&setup).keys, 50, 100);
        run_round(&setup, &options);
        assert_int_equal(regions_count(&setup), after);
        setup_deinit(&setup);
    }
}

/* The values count where they are long, and every version of them. */
static void test_transactions_by_size(void **state)
{
    struct setup setup;
    (void)state;
    setup_init(&setup);
    size_t before = regions_count(&setup);
    const struct region_splitter_options options = {.bytes_max = 100000};
    fill_versions(&setup, ENGINE_FAMILY_TXN_WRITE, S("k"), 200, 2, 20);
    run_round(&setup, &options);
    assert_int_equal(regions_count(&setup), before);
    fill_versions(&setup, ENGINE_FAMILY_TXN_DATA, S("k"), 200, 2, 1000);
    run_round(&setup, &options);
    size_t after = regions_count(&setup);
    assert_true(after >= before + 4 && after <= before + 9); /* 400 kB in parts of 50 to 100 */
    assert_true(largest_versions(&setup).bytes <= 120000);   /* the 20 kB of the others beside */
    setup_deinit(&setup);
}

/* There is no place within a key; it holds nobody else up. */
static void test_versions_stay_together(void **state)
{
    struct setup setup;
    (void)state;
    setup_init(&setup);
    size_t before = regions_count(&setup);
    const struct region_splitter_options options = {.bytes_max = 10000};
    fill_versions(&setup, ENGINE_FAMILY_TXN_WRITE, S("k"), 1, 1000, 100);
    run_round(&setup, &options);
    assert_int_equal(regions_count(&setup), before);
    fill_versions(&setup, ENGINE_FAMILY_TXN_WRITE, S("l"), 10, 50, 100);
    run_round(&setup, &options);
    assert_int_equal(regions_count(&setup), before + 10); /* each in front of its versions */
    setup_deinit(&setup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_keys_at_encodings),
        cmocka_unit_test(test_by_size),
        cmocka_unit_test(test_raw_bounds_only_when_asked),
        cmocka_unit_test(test_keyspaces_stay_whole),
        cmocka_unit_test(test_many_cuts),
        cmocka_unit_test(test_any_keys),
        cmocka_unit_test(test_transactions_by_keys),
        cmocka_unit_test(test_transactions_by_size),
        cmocka_unit_test(test_versions_stay_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

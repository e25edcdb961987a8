/* engine/log/tree.c: random changes in groups, compared with a sorted array; undo; older roots
 * stay whole. */
#include "engine/log/tree.h"

#include "base/rand.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>

#define KEYS 3000u

struct model {
    bool present[KEYS];
    uint64_t value[KEYS];
};

struct world {
    struct slab slab;
    struct tree_writer writer;
    struct node *root;
    struct model model;
};

/* Of bytes at the end of their range alone: many are the same where nodes keep a part of them. */
static kvs_slice key_of_high_bytes(unsigned i, char buffer[80])
{
    size_t size = 6;
    memset(buffer, 0xff, size);
    for (; i > 0; i /= 2)
        buffer[size++] = (char)(i % 2 == 0 ? 0xfe : 0xff);
    return slice_make(buffer, size);
}

/* Keys of several shapes: long common heads, prefixes of each other, binary. */
static kvs_slice key_of(unsigned i, char buffer[80])
{
    int size;
    if (i % 4 == 3)
        return key_of_high_bytes(i, buffer);
    if (i % 3 == 0)
        size = snprintf(buffer, 80, "%06u", i);
    else if (i % 3 == 1)
        size = snprintf(buffer, 80, "a/very/long/common/head/of/more/than/forty/bytes/%u", i);
    else
        size = 1 + (int)(i % 40);
    if (i % 3 == 2) {
        memset(buffer, 0, 80);
        buffer[0] = (char)0xff;
        for (int at = 1; at < size; at++)
            buffer[at] = (char)(at % 2);
        buffer[size++] = (char)(i >> 8);
        buffer[size++] = (char)i;
    }
    return slice_make(buffer, (size_t)size);
}

static void world_init(struct world *world)
{
    memset(world, 0, sizeof *world);
    slab_init(&world->slab);
    world->writer = (struct tree_writer){.slab = &world->slab, .birth = 1, .undoable = true};
}

/* Frees what a group retired, as if no reader were there. */
static void group_end(struct world *world)
{
    for (size_t i = 0; i < world->writer.retired.count; i++)
        tree_object_free(&world->slab, world->writer.retired.items[i]);
    world->writer.retired.count = 0;
    world->writer.born.count = 0;
    world->writer.birth++;
}

static void world_deinit(struct world *world)
{
    pointer_vector_deinit(&world->writer.retired);
    pointer_vector_deinit(&world->writer.born);
    slab_deinit(&world->slab);
}

static void change(struct world *world, struct rand *rand, unsigned remove_percent)
{
    char buffer[80];
    unsigned i = (unsigned)rand_below(rand, KEYS);
    kvs_slice key = key_of(i, buffer);
    struct entry *old;
    if (rand_below(rand, 100) < remove_percent) {
        assert_int_equal(tree_remove(&world->writer, &world->root, key, &old), 0);
        assert_int_equal(old != NULL, world->model.present[i]);
        world->model.present[i] = false;
    } else {
        uint64_t value = rand_u64(rand);
        struct entry *entry =
            tree_entry_new(&world->writer, key, i % 5 == 0 ? 7 : 0, 0, world->writer.birth, value);
        assert_non_null(entry);
        assert_int_equal(tree_insert(&world->writer, &world->root, entry, &old), 0);
        assert_int_equal(old != NULL, world->model.present[i]);
        world->model.present[i] = true;
        world->model.value[i] = value;
    }
    if (old != NULL)
        assert_int_equal(tree_entry_retire(&world->writer, old), 0);
}

static void compare(const struct node *root, const struct model *model)
{
    uint64_t count;
    uint64_t expected = 0;
    assert_true(tree_is_valid(root, &count));
    for (unsigned i = 0; i < KEYS; i++) {
        char buffer[80];
        struct entry *entry = tree_find(root, key_of(i, buffer));
        assert_int_equal(entry != NULL, model->present[i]);
        if (entry != NULL)
            assert_true(atomic_load(&entry->location) == model->value[i]);
        expected += model->present[i];
    }
    assert_int_equal(count, expected);
}

static void test_random_changes(void **state)
{
    (void)state;
    uint64_t seed = 20260101;
    print_message("# seed %llu\n", (unsigned long long)seed);
    struct rand rand = rand_seed(seed);
    struct world world;
    world_init(&world);
    for (unsigned round = 0; round < 60; round++) {
        unsigned remove_percent = (unsigned)rand_below(&rand, 101);
        for (unsigned group = 0; group < 20; group++) {
            for (uint64_t n = rand_below(&rand, 100); n > 0; n--)
                change(&world, &rand, remove_percent);
            group_end(&world);
        }
        compare(world.root, &world.model);
    }
    while (world.root != NULL)
        change(&world, &rand, 100);
    group_end(&world);
    compare(world.root, &world.model);
    assert_int_equal(world.slab.used_bytes, 0);
    world_deinit(&world);
}

static void test_undo_leaves_the_old_root(void **state)
{
    (void)state;
    struct rand rand = rand_seed(7);
    struct world world;
    world_init(&world);
    for (int n = 0; n < 5000; n++)
        change(&world, &rand, 20);
    group_end(&world);
    for (int round = 0; round < 20; round++) {
        struct model before = world.model;
        struct node *root = world.root;
        uint64_t used = world.slab.used_bytes;
        for (int n = 0; n < 200; n++)
            change(&world, &rand, 50);
        compare(world.root, &world.model);
        compare(root, &before); /* a reader of the old root sees nothing of it */
        for (size_t i = 0; i < world.writer.born.count; i++)
            tree_object_free(&world.slab, world.writer.born.items[i]);
        world.writer.born.count = 0;
        world.writer.retired.count = 0;
        world.root = root;
        world.model = before;
        compare(root, &before);
        assert_int_equal(world.slab.used_bytes, used);
    }
    world_deinit(&world);
}

static void test_walks_both_ways(void **state)
{
    (void)state;
    struct rand rand = rand_seed(11);
    struct world world;
    world_init(&world);
    for (int n = 0; n < 3000; n++)
        change(&world, &rand, 30);
    group_end(&world);
    struct tree_cursor cursor;
    char buffer[80];
    for (unsigned i = 0; i < KEYS; i++) {
        kvs_slice key = key_of(i, buffer);
        tree_seek(&cursor, world.root, key);
        struct entry *at = tree_cursor_entry(&cursor);
        if (at != NULL)
            assert_true(slice_compare(entry_key(at), key) >= 0);
        tree_previous(&cursor);
        struct entry *before = tree_cursor_entry(&cursor);
        tree_seek_before(&cursor, world.root, key);
        if (at != NULL)
            assert_ptr_equal(tree_cursor_entry(&cursor), before);
        if (tree_cursor_entry(&cursor) != NULL) {
            assert_true(slice_compare(entry_key(tree_cursor_entry(&cursor)), key) < 0);
            tree_next(&cursor);
            assert_ptr_equal(tree_cursor_entry(&cursor), at);
        }
    }
    world_deinit(&world);
}

static void test_ascending_keys_fill_leaves(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    for (uint32_t i = 0; i < 100000; i++) {
        uint8_t key[4] = {(uint8_t)(i >> 24), (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};
        struct entry *old;
        struct entry *entry = tree_entry_new(&world.writer, slice_make(key, 4), 0, 0, 1, i);
        assert_int_equal(tree_insert(&world.writer, &world.root, entry, &old), 0);
        assert_null(old);
    }
    uint64_t count;
    assert_true(tree_is_valid(world.root, &count));
    assert_int_equal(count, 100000);
    /* 100,000 entries of 28 bytes rounded to 32, and 16 bytes a slot in leaves that are full. */
    assert_true(world.slab.used_bytes < 100000u * 52u);
    world_deinit(&world);
}

/* A reserve is made when half of a large chunk is used, once; it is the next chunk, or freed with
 * the slab. Where each object is an allocation of its own, there is none. */
static void test_reserve_is_the_next_chunk(void **state)
{
    (void)state;
    struct slab slab;
    size_t size = 0;
    uint8_t *reserve = NULL;
    slab_init(&slab);
    assert_null(slab_reserve(&slab, &size));
    for (size_t used = 0; used < 8u << 20 && reserve == NULL; used += SLAB_SIZE_MAX) {
        assert_non_null(slab_alloc(&slab, SLAB_SIZE_MAX));
        reserve = slab_reserve(&slab, &size);
    }
    if (reserve != NULL) {
        assert_null(slab_reserve(&slab, &size));
        uint8_t *object = NULL;
        for (size_t used = 0; used < size; used += SLAB_SIZE_MAX) {
            object = slab_alloc(&slab, SLAB_SIZE_MAX);
            assert_non_null(object);
        }
        assert_true(object > reserve && object < reserve + size);
        assert_non_null(slab_reserve(&slab, &size)); /* left to deinit */
    }
    slab_deinit(&slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_changes),
        cmocka_unit_test(test_undo_leaves_the_old_root),
        cmocka_unit_test(test_walks_both_ways),
        cmocka_unit_test(test_ascending_keys_fill_leaves),
        cmocka_unit_test(test_reserve_is_the_next_chunk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

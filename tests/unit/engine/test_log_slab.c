/* engine/log/slab.c: what a trim gives back, and that nothing is handed out twice beside it. Where
 * each object is an allocation of its own, a trim is never due. */
#include "engine/log/slab.h"

#include "base/fault.h"
#include "base/rand.h"
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define OBJECTS 50000u
#define STAY_BYTES (4u << 20) /* chunks that something is left in, and the newest */

#ifdef __SANITIZE_ADDRESS__
#define IS_EVER_DUE false
#else
#define IS_EVER_DUE true
#endif

struct object {
    uint8_t *memory; /* NULL: free */
    size_t size;
};

struct world {
    struct slab slab;
    struct slab_trim trim;
    struct rand rand;
    struct object objects[OBJECTS];
};

static struct world *world_new(void)
{
    struct world *world = calloc(1, sizeof *world);
    slab_init(&world->slab);
    world->rand = rand_seed(1);
    return world;
}

static void object_make_of(struct world *world, unsigned i, size_t size)
{
    struct object *object = &world->objects[i];
    if (object->memory != NULL)
        return;
    object->size = size;
    object->memory = slab_alloc(&world->slab, size);
    assert_non_null(object->memory);
    memset(object->memory, (int)(i % 251), size);
}

static void object_make(struct world *world, unsigned i)
{
    if (world->objects[i].memory == NULL)
        object_make_of(world, i, 8 + rand_below(&world->rand, i % 64 == 0 ? 4000 : 1000));
}

static void object_end(struct world *world, unsigned i)
{
    struct object *object = &world->objects[i];
    if (object->memory == NULL)
        return;
    bool is_whole = true;
    for (size_t at = 0; at < object->size; at++)
        is_whole &= object->memory[at] == i % 251;
    assert_true(is_whole);
    slab_free(&world->slab, object->memory, object->size);
    object->memory = NULL;
}

static void objects_make(struct world *world)
{
    for (unsigned i = 0; i < OBJECTS; i++)
        object_make(world, i);
}

/* All but each `stays`th. */
static void objects_end(struct world *world, unsigned from, unsigned stays)
{
    for (unsigned i = from; i < OBJECTS; i++) {
        if (i % stays != 0)
            object_end(world, i);
    }
}

static void world_free(struct world *world)
{
    objects_end(world, 0, OBJECTS + 1);
    object_end(world, 0);
    assert_int_equal(world->slab.used_bytes, 0);
    slab_deinit(&world->slab);
    free(world);
}

static void trim(struct world *world)
{
    slab_trim_begin(&world->slab, &world->trim);
    while (slab_trim_step(&world->trim)) {
    }
    slab_trim_end(&world->slab, &world->trim);
}

static void test_what_is_free_goes_back(void **state)
{
    (void)state;
    struct world *world = world_new();
    objects_make(world);
    uint64_t full = world->slab.chunk_bytes;
    assert_false(slab_trim_is_due(&world->slab));
    objects_end(world, 1000, OBJECTS + 1);
    assert_int_equal(slab_trim_is_due(&world->slab), IS_EVER_DUE);
    trim(world);
    assert_true(world->slab.chunk_bytes <= STAY_BYTES);
    assert_false(slab_trim_is_due(&world->slab));
    objects_make(world);
    assert_true(world->slab.chunk_bytes <= full + STAY_BYTES);
    objects_end(world, 0, OBJECTS + 1);
    assert_int_equal(slab_trim_is_due(&world->slab), IS_EVER_DUE); /* and again */
    trim(world);
    assert_true(world->slab.chunk_bytes <= STAY_BYTES);
    world_free(world);
}

/* What lives everywhere keeps all chunks. It is not looked through again and again for nothing, but
 * when there is less of it. */
static void test_what_is_kept_is_used_again(void **state)
{
    (void)state;
    struct world *world = world_new();
    objects_make(world);
    uint64_t full = world->slab.chunk_bytes;
    objects_end(world, 0, 100);
    assert_int_equal(slab_trim_is_due(&world->slab), IS_EVER_DUE);
    trim(world);
    assert_int_equal(world->slab.chunk_bytes, full);
    assert_false(slab_trim_is_due(&world->slab));
    objects_make(world);
    assert_true(world->slab.chunk_bytes <= full + full / 4);
    objects_end(world, 0, 100);
    trim(world);
    objects_end(world, 0, 400);
    assert_int_equal(slab_trim_is_due(&world->slab), IS_EVER_DUE);
    world_free(world);
}

static void test_the_slab_is_used_beside_a_trim(void **state)
{
    (void)state;
    struct world *world = world_new();
    for (unsigned round = 0; round < 10; round++) {
        objects_make(world);
        objects_end(world, 100, 1 + round * 7000);
        slab_trim_begin(&world->slab, &world->trim);
        do {
            for (unsigned n = 0; n < 300; n++) {
                unsigned i = (unsigned)rand_below(&world->rand, OBJECTS);
                if (world->objects[i].memory != NULL)
                    object_end(world, i);
                else
                    object_make(world, i);
            }
        } while (slab_trim_step(&world->trim));
        slab_trim_end(&world->slab, &world->trim);
    }
    world_free(world);
}

/* As at a close, after any number of steps. */
static void test_a_trim_is_cut_short(void **state)
{
    (void)state;
    bool is_over = false;
    for (unsigned steps = 0; !is_over; steps += TIMES(1, 8, 8)) {
        struct world *world = world_new();
        objects_make(world);
        objects_end(world, 500, OBJECTS + 1);
        slab_trim_begin(&world->slab, &world->trim);
        for (unsigned n = 0; n < steps && !is_over; n++)
            is_over = !slab_trim_step(&world->trim);
        slab_trim_end(&world->slab, &world->trim);
        objects_make(world);
        world_free(world);
    }
}

#ifdef KVS_FAULTS
static struct world *world_with_trim(void)
{
    struct world *world = world_new();
    for (unsigned i = 0; i < OBJECTS; i++)
        object_make_of(world, i, 1000);
    objects_end(world, 500, OBJECTS + 1);
    slab_trim_begin(&world->slab, &world->trim);
    return world;
}

/* The next chunk cannot be had: what the trim has is taken back, or what it gave is there. */
static void check_taken_back(struct world *world)
{
    bool is_taken_back = false;
    for (unsigned i = 0; i < OBJECTS; i++) {
        if (!is_taken_back)
            fault_arm(FAULT_ALLOC, 2, false); /* behind that of the object */
        object_make_of(world, i, 1000);
        is_taken_back |= fault_fired() > 0;
        fault_reset();
    }
    assert_int_equal(is_taken_back, IS_EVER_DUE);
}

/* However far it is, it keeps nothing from the slab that nobody else can give. */
static void test_a_trim_is_taken_back(void **state)
{
    (void)state;
    for (unsigned steps = 0; steps < 40; steps += TIMES(3, 8, 8)) {
        struct world *world = world_with_trim();
        for (unsigned n = 0; n < steps; n++)
            assert_true(slab_trim_step(&world->trim) || !IS_EVER_DUE);
        check_taken_back(world);
        assert_false(slab_trim_step(&world->trim));
        slab_trim_end(&world->slab, &world->trim);
        world_free(world);
    }
}

static void *steps_run(void *arg)
{
    while (slab_trim_step(arg)) {
    }
    return NULL;
}

static void test_a_trim_is_taken_back_while_it_runs(void **state)
{
    (void)state;
    for (unsigned round = 0; round < TIMES(5, 2, 3); round++) {
        struct world *world = world_with_trim();
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, steps_run, &world->trim), 0);
        check_taken_back(world);
        pthread_join(thread, NULL);
        slab_trim_end(&world->slab, &world->trim);
        world_free(world);
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_free_goes_back),
        cmocka_unit_test(test_what_is_kept_is_used_again),
        cmocka_unit_test(test_the_slab_is_used_beside_a_trim),
        cmocka_unit_test(test_a_trim_is_cut_short),
#ifdef KVS_FAULTS
        cmocka_unit_test(test_a_trim_is_taken_back),
        cmocka_unit_test(test_a_trim_is_taken_back_while_it_runs),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

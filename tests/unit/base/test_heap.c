/* base/heap.c and base/list.h against plain arrays. */
#include "base/heap.h"

#include "base/list.h"
#include "base/rand.h"

#include "test.h"

#define NODES 200

static void test_heap_gives_the_smallest(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct rand rand = rand_seed(seed);
        struct heap heap = HEAP_INIT;
        struct heap_node nodes[NODES] = {0};
        for (int step = 0; step < 2000; step++) {
            struct heap_node *node = &nodes[rand_below(&rand, NODES)];
            if (node->place != 0)
                heap_remove(&heap, node);
            else
                assert_int_equal(heap_push(&heap, node, rand_below(&rand, 50)), 0);
            uint64_t smallest = UINT64_MAX;
            for (size_t i = 0; i < NODES; i++) {
                if (nodes[i].place != 0 && nodes[i].key < smallest)
                    smallest = nodes[i].key;
            }
            assert_int_equal(heap_first(&heap) != NULL ? heap_first(&heap)->key : UINT64_MAX,
                             smallest);
        }
        heap_remove(&heap, &(struct heap_node){0}); /* in no heap: nothing happens */
        heap_deinit(&heap);
    }
}

static void test_list_keeps_order(void **state)
{
    (void)state;
    struct list a, b, nodes[4];
    list_init(&a);
    list_init(&b);
    assert_null(list_pop(&a));
    for (size_t i = 0; i < 4; i++)
        list_append(i < 2 ? &a : &b, &nodes[i]);
    list_move(&a, &b);
    assert_true(list_empty(&b));
    list_move(&a, &b); /* from an empty one: nothing happens */
    list_remove(&nodes[1]);
    assert_true(list_empty(&nodes[1]));
    list_remove(&nodes[1]);
    assert_ptr_equal(list_pop(&a), &nodes[0]);
    assert_ptr_equal(list_pop(&a), &nodes[2]);
    assert_ptr_equal(list_pop(&a), &nodes[3]);
    assert_true(list_empty(&a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heap_gives_the_smallest),
        cmocka_unit_test(test_list_keeps_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

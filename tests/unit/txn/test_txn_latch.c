/* Latches: one at a time on a key, in the order of arrival, from many threads. */
#include "txn/latch.h"

#include "base/rand.h"
#include "base/slice.h"
#include "runtime/task.h"

#include <kvs/error.h>
#include <stdio.h>
#include <stdlib.h>

#include "test.h"

#define THREADS 4u
#define CLAIMS 5000u /* of each thread */
#define KEYS 24u     /* few: most claims wait */
#define CLAIM_KEYS_MAX 12u

struct user {
    struct latch_claim claim;
    struct arena arena;
    uint32_t keys[CLAIM_KEYS_MAX];
    uint32_t count;
};

static struct latches latches;
static struct user users[THREADS][CLAIMS];
static uint32_t held[KEYS]; /* plain: only who has the latch touches it */
static _Atomic uint32_t done;

static kvs_slice key_of(uint32_t key, char name[16])
{
    snprintf(name, 16, "key-%u", key);
    return slice_make(name, strlen(name));
}

/* Has its latches: uses them and gives them back; then those who got theirs by that. */
static void use(struct task *task)
{
    struct task_list granted = {0};
    task_list_push(&granted, task);
    while ((task = task_list_pop(&granted)) != NULL) {
        struct user *user = CONTAINER_OF(task, struct user, claim.task);
        for (uint32_t i = 0; i < user->count; i++) {
            if (held[user->keys[i]]++ != 0)
                abort(); /* two claims have a key at once */
        }
        for (uint32_t i = 0; i < user->count; i++)
            held[user->keys[i]]--;
        latch_release(&latches, &user->claim, &granted);
        arena_deinit(&user->arena);
        atomic_fetch_add(&done, 1);
    }
}

static void draw_keys(struct user *user, struct rand *rand)
{
    uint32_t wanted = 1 + (uint32_t)rand_below(rand, CLAIM_KEYS_MAX);
    uint32_t first = (uint32_t)rand_below(rand, KEYS);
    for (uint32_t i = 0; i < wanted; i++) /* different ones, in no order */
        user->keys[user->count++] = (first + i * 7) % KEYS;
}

static void *run(void *arg)
{
    struct user *mine = arg;
    struct rand rand = rand_seed((uintptr_t)(mine - users[0]) + 1);
    for (uint32_t n = 0; n < CLAIMS; n++) {
        struct user *user = &mine[n];
        char names[CLAIM_KEYS_MAX][16];
        kvs_slice keys[CLAIM_KEYS_MAX];
        draw_keys(user, &rand);
        for (uint32_t i = 0; i < user->count; i++)
            keys[i] = key_of(user->keys[i], names[i]);
        if (latch_claim_set(&user->claim, &user->arena, keys, user->count) != 0)
            abort();
        if (latch_acquire(&latches, &user->claim))
            use(&user->claim.task);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    assert_int_equal(latches_init(&latches), 0);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run, users[i]), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&done), THREADS * CLAIMS); /* nobody waits for ever */
    for (uint32_t i = 0; i < LATCH_SLOTS; i++)
        assert_int_equal(atomic_load(&latches.slots[i]), LATCH_FREE);
    latches_deinit(&latches);
}

/* Claims of one key, and one of all, come in the order in which they asked. */
static void test_order(void **state)
{
    (void)state;
    enum { COUNT = 5 };
    struct latch_claim claims[COUNT] = {0};
    struct arena arena = {0};
    kvs_slice key = slice_of_string("k");
    assert_int_equal(latches_init(&latches), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(i == 2 ? latch_claim_set_all(&claims[i], &arena)
                                : latch_claim_set(&claims[i], &arena, &key, 1),
                         0);
        assert_int_equal(latch_acquire(&latches, &claims[i]), i == 0);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        struct task_list granted = {0};
        latch_release(&latches, &claims[i], &granted);
        assert_ptr_equal(granted.first, i + 1 < COUNT ? &claims[i + 1].task : NULL);
        assert_ptr_equal(granted.first, granted.last);
    }
    arena_deinit(&arena);
    latches_deinit(&latches);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

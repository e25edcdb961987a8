/* kvs/event.h: random ids differ, between threads and between a process and its children, too. */
#include <kvs/event.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test.h"

#define EACH 1000u /* more than are asked of the system at once */
#define THREADS 4u

static int order(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(kvs_event_id));
}

static void check_all_differ(kvs_event_id *ids, size_t count)
{
    qsort(ids, count, sizeof *ids, order);
    for (size_t i = 1; i < count; i++)
        assert_int_not_equal(order(&ids[i - 1], &ids[i]), 0);
}

static void *draw(void *arg)
{
    kvs_event_id *ids = arg;
    for (size_t i = 0; i < EACH; i++)
        ids[i] = kvs_event_id_random();
    return NULL;
}

static void test_threads_draw_different_ones(void **state)
{
    (void)state;
    static kvs_event_id ids[THREADS * EACH];
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, draw, &ids[i * EACH]), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < THREADS * EACH; i++) {
        assert_int_equal(ids[i].bytes[7] & 0xf0, 0x40); /* version 4 */
        assert_int_equal(ids[i].bytes[8] & 0xc0, 0x80);
    }
    check_all_differ(ids, THREADS * EACH);
}

/* The parent has drawn one, so it has randomness left, of which a child gets a copy. */
static void test_children_draw_different_ones(void **state)
{
    (void)state;
    enum { DRAWN = 8 };
    kvs_event_id ids[1 + 3 * DRAWN] = {kvs_event_id_random()};
    for (size_t child = 0; child < 2; child++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            kvs_event_id own[DRAWN];
            for (size_t i = 0; i < DRAWN; i++)
                own[i] = kvs_event_id_random();
            _exit(write(ends[1], own, sizeof own) == (ssize_t)sizeof own ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_int_equal(read(ends[0], &ids[1 + child * DRAWN], DRAWN * sizeof *ids),
                         DRAWN * sizeof *ids);
        close(ends[0]);
        close(ends[1]);
    }
    for (size_t i = 0; i < DRAWN; i++)
        ids[1 + 2 * DRAWN + i] = kvs_event_id_random();
    check_all_differ(ids, sizeof ids / sizeof ids[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_draw_different_ones),
        cmocka_unit_test(test_children_draw_different_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * runtime/loop.c: tasks from many threads arrive once and in order per thread, tasks of the loop's
 * own thread run before it waits and in one order with others', hooks, and the end of a loop under
 * a sender.
 */
#include "runtime/loop.h"

#include "base/mem.h"
#include "runtime/thread.h"

#include <semaphore.h>
#include <string.h>
#include <unistd.h>

#include "test.h"

#define SENDERS 4
#define TASKS 2000

struct numbered {
    struct task task;
    unsigned sender, number;
};

static struct numbered numbered[SENDERS][TASKS];
static struct loop loop;
static unsigned next_of[SENDERS], wrong, seen;
static sem_t all_seen;

static void numbered_run(struct task *task)
{
    struct numbered *one = CONTAINER_OF(task, struct numbered, task);
    wrong += next_of[one->sender]++ != one->number || !loop_is_current(&loop);
    if (++seen == SENDERS * TASKS)
        sem_post(&all_seen);
}

static void *sender_main(void *arg)
{
    unsigned sender = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < TASKS;) {
        struct task_list list = {0};
        for (unsigned chain = 0; chain <= i % 3 && i < TASKS; chain++, i++) {
            numbered[sender][i] = (struct numbered){{.run = numbered_run}, sender, i};
            task_list_push(&list, &numbered[sender][i].task);
        }
        loop_post_list(&loop, &list);
    }
    return NULL;
}

static void test_tasks_of_many_threads(void **state)
{
    (void)state;
    sem_init(&all_seen, 0, 0);
    assert_int_equal(loop_init(&loop, 0), 0);
    assert_false(loop_is_current(&loop));
    assert_int_equal(loop_start(&loop, "test"), 0);
    pthread_t threads[SENDERS];
    for (uintptr_t i = 0; i < SENDERS; i++)
        assert_int_equal(thread_start(&threads[i], "sender", sender_main, (void *)i), 0);
    while (sem_wait(&all_seen) != 0) {
    }
    loop_stop(&loop);
    loop_deinit(&loop); /* the last sender may still be inside its post */
    for (int i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(wrong, 0);
    assert_int_equal(seen, SENDERS * TASKS);
}

/* What ran, as letters. */
static struct {
    char text[1200];
    size_t length;
    struct loop loop;
    struct task a, b, c, d, mail;
    struct loop_hook first, second, third;
} story;

static void tell(char letter)
{
    assert_true(loop_is_current(&story.loop));
    assert_true(story.length < sizeof story.text - 1);
    story.text[story.length++] = letter;
}

static void run_c(struct task *task)
{
    (void)task;
    tell('c');
}

static void run_b(struct task *task)
{
    (void)task;
    tell('b');
    loop_post(&story.loop, &story.c);
}

static void run_a(struct task *task)
{
    (void)task;
    loop_post(&story.loop, &story.b); /* runs at the end of this turn, never inside the call */
    tell('a');
}

static struct task endless;
static unsigned endless_runs;

static void endless_run(struct task *task)
{
    if (++endless_runs < 2000)
        loop_post(&story.loop, task);
}

static void hook_first(struct loop_hook *hook)
{
    (void)hook;
    tell('1');
    loop_remove_hook(&story.loop, &story.second);
}

static void hook_second(struct loop_hook *hook)
{
    (void)hook;
    tell('2');
}

static void hook_third(struct loop_hook *hook)
{
    tell('3');
    loop_remove_hook(&story.loop, hook);
}

static void test_order_within_turns(void **state)
{
    (void)state;
    assert_int_equal(loop_init(&story.loop, 7), 0);
    assert_int_equal(story.loop.index, 7);
    loop_turn(&story.loop, false);
    story.a.run = run_a;
    story.b.run = run_b;
    story.c.run = run_c;
    story.first.run = hook_first;
    story.second.run = hook_second;
    story.third.run = hook_third;
    loop_add_hook(&story.loop, &story.first);
    loop_add_hook(&story.loop, &story.second);
    loop_add_hook(&story.loop, &story.third);
    loop_post(&story.loop, &story.a);
    loop_turn(&story.loop, true);
    /* The first turn's prepare comes before it waits; a is drained, b and c follow in the turn's
     * own end. */
    assert_string_equal(story.text, "13abc1");
    assert_false(loop_is_ready(&story.loop));
    /* Tasks that post themselves do not keep a turn from ending. */
    endless.run = endless_run;
    loop_post(&story.loop, &endless);
    loop_turn(&story.loop, true);
    assert_true(endless_runs < 2000);
    while (endless_runs < 2000)
        loop_turn(&story.loop, false);
    assert_false(loop_is_current(&story.loop));
    loop_deinit(&story.loop);
}

/* --- posts of the loop's own thread, and of others --- */

static void run_d(struct task *task)
{
    (void)task;
    tell('d');
}

static void *post_story(void *task)
{
    loop_post(&story.loop, task);
    return NULL;
}

/* Returns when another thread has posted it. */
static void post_from_another_thread(struct task *task)
{
    pthread_t thread;
    assert_int_equal(thread_start(&thread, "other", post_story, task), 0);
    pthread_join(thread, NULL);
}

static void run_mail(struct task *task)
{
    (void)task;
    tell('m');
}

/* While it runs another thread posts d, then its own posts c. */
static void run_and_post_two(struct task *task)
{
    (void)task;
    tell('a');
    post_from_another_thread(&story.d);
    loop_post(&story.loop, &story.c);
}

static void begin_story(void)
{
    memset(&story, 0, sizeof story);
    story.c.run = run_c;
    story.d.run = run_d;
    assert_int_equal(loop_init(&story.loop, 0), 0);
    loop_turn(&story.loop, false);
}

static void test_own_posts_overtake_no_others(void **state)
{
    (void)state;
    begin_story();
    story.a.run = run_and_post_two;
    loop_post(&story.loop, &story.a);
    while (story.length < 3)
        loop_turn(&story.loop, true);
    assert_string_equal(story.text, "adc");
    /* The wake-up that came with d finds nothing, and that is all. */
    loop_turn(&story.loop, false);
    assert_string_equal(story.text, "adc");
    assert_false(loop_is_ready(&story.loop));
    loop_deinit(&story.loop);
}

/* A socket's callback in the midst of a turn, whose wake-up is still to come: its own thread posts
 * c, then another one d. */
static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    tell('r');
    uv_poll_stop(poll);
    loop_post(&story.loop, &story.c);
    post_from_another_thread(&story.d);
}

static void test_others_posts_overtake_no_own(void **state)
{
    (void)state;
    int ends[2];
    uv_poll_t poll;
    begin_story();
    story.mail.run = run_mail;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(uv_poll_init(story.loop.uv, &poll, ends[0]), 0);
    uv_poll_start(&poll, UV_READABLE, on_readable);
    loop_turn(&story.loop, false); /* epoll knows of both from now on */
    assert_int_equal(write(ends[1], "x", 1), 1);
    post_from_another_thread(&story.mail);
    while (story.length < 4)
        loop_turn(&story.loop, true);
    /* Of the pipe and the wake-up either may be the first that the system tells of. */
    assert_string_equal(story.text + 2, "cd");
    uv_close((uv_handle_t *)&poll, NULL);
    loop_turn(&story.loop, false);
    close(ends[0]);
    close(ends[1]);
    loop_deinit(&story.loop);
}

/* A task posted too late for its turn wakes the loop by itself. */
static sem_t late_ran;

static void late_run(struct task *task)
{
    (void)task;
    sem_post(&late_ran);
}

static struct task late = {.run = late_run};

static void hook_post_late(struct loop_hook *hook)
{
    loop_remove_hook(&loop, hook);
    loop_post(&loop, &late);
}

static void test_posts_of_a_hook_wake_the_loop(void **state)
{
    (void)state;
    struct loop_hook hook = {.run = hook_post_late};
    sem_init(&late_ran, 0, 0);
    assert_int_equal(loop_init(&loop, 0), 0);
    loop_add_hook(&loop, &hook);
    assert_int_equal(loop_start(&loop, "test"), 0);
    while (sem_wait(&late_ran) != 0) {
    }
    loop_stop(&loop);
    loop_deinit(&loop);
}

/* The loop ends, and its memory is freed, as soon as the task has run: its sender may still be
 * inside the post. */
static void *post_late(void *arg)
{
    loop_post(arg, &late);
    return NULL;
}

static void test_end_under_a_sender(void **state)
{
    (void)state;
    for (int round = 0; round < 300; round++) {
        struct loop *brief = mem_alloc(sizeof *brief);
        pthread_t thread;
        assert_int_equal(loop_init(brief, 0), 0);
        loop_turn(brief, false);
        assert_int_equal(thread_start(&thread, "sender", post_late, brief), 0);
        while (sem_trywait(&late_ran) != 0)
            loop_turn(brief, false);
        loop_deinit(brief);
        mem_free(brief);
        pthread_join(thread, NULL);
    }
}

static unsigned closed;

static void on_closed(struct loop *hosted)
{
    (void)hosted;
    closed++;
}

static void test_hosted_closes_with_the_host(void **state)
{
    (void)state;
    uv_loop_t host;
    assert_int_equal(uv_loop_init(&host), 0);
    struct loop hosted;
    assert_int_equal(loop_init_hosted(&hosted, &host), 0);
    assert_true(loop_is_current(&hosted));
    uv_run(&host, UV_RUN_NOWAIT);
    loop_deinit_hosted(&hosted, on_closed);
    assert_int_equal(closed, 0);
    uv_run(&host, UV_RUN_DEFAULT);
    assert_int_equal(closed, 1);
    assert_int_equal(uv_loop_close(&host), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tasks_of_many_threads),
        cmocka_unit_test(test_order_within_turns),
        cmocka_unit_test(test_own_posts_overtake_no_others),
        cmocka_unit_test(test_others_posts_overtake_no_own),
        cmocka_unit_test(test_posts_of_a_hook_wake_the_loop),
        cmocka_unit_test(test_end_under_a_sender),
        cmocka_unit_test(test_hosted_closes_with_the_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

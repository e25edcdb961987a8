/* tests/unit/stream/test_stream_subscription.c: watches and subscriptions: exact, in order,
 * whole. */
#include "stream/subscription.h"

#include "base/rand.h"
#include "base/slice.h"
#include "unit/stream/stream_test.h"

#include <stdio.h>

/* A subscriber that writes down what it is told; it takes the next page when it is allowed to. */
struct subscriber {
    struct stream_subscription subscription;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool confirmed, caught_up, closed;
    bool holds; /* keeps its page */
    bool has_page;
    uint32_t count;
    int64_t numbers[20000];
    uint32_t checkpoints;
    int64_t checkpoint;
};

static struct subscriber *subscriber_of(struct stream_subscription *subscription)
{
    return CONTAINER_OF(subscription, struct subscriber, subscription);
}

static void changed(struct subscriber *subscriber, bool *flag)
{
    pthread_mutex_lock(&subscriber->lock);
    *flag = true;
    pthread_cond_broadcast(&subscriber->changed);
    pthread_mutex_unlock(&subscriber->lock);
}

static void on_confirmed(struct stream_subscription *subscription)
{
    changed(subscriber_of(subscription), &subscriber_of(subscription)->confirmed);
}

static void on_events(struct stream_subscription *subscription, const struct stream_event *events,
                      uint32_t count)
{
    struct subscriber *subscriber = subscriber_of(subscription);
    pthread_mutex_lock(&subscriber->lock);
    for (uint32_t i = 0; i < count; i++) {
        const struct stream_record *record = stream_event_original(&events[i]);
        subscriber->numbers[subscriber->count++] =
            subscription->stream.size == 0 ? record->position : record->number;
    }
    bool holds = subscriber->holds;
    subscriber->has_page = true;
    pthread_cond_broadcast(&subscriber->changed);
    pthread_mutex_unlock(&subscriber->lock);
    if (!holds)
        stream_subscription_next(subscription);
}

static void on_caught_up(struct stream_subscription *subscription)
{
    changed(subscriber_of(subscription), &subscriber_of(subscription)->caught_up);
}

static void on_checkpoint(struct stream_subscription *subscription, int64_t position)
{
    struct subscriber *subscriber = subscriber_of(subscription);
    pthread_mutex_lock(&subscriber->lock);
    subscriber->checkpoints++;
    subscriber->checkpoint = position;
    pthread_cond_broadcast(&subscriber->changed);
    pthread_mutex_unlock(&subscriber->lock);
}

static void on_closed(struct stream_subscription *subscription)
{
    changed(subscriber_of(subscription), &subscriber_of(subscription)->closed);
}

static void begin(void *arg)
{
    struct subscriber *subscriber = arg;
    streams_subscribe(fixture.streams, &subscriber->subscription);
}

static struct subscriber *subscribe(const char *stream, int64_t from)
{
    struct subscriber *subscriber = test_calloc(1, sizeof *subscriber);
    pthread_mutex_init(&subscriber->lock, NULL);
    pthread_cond_init(&subscriber->changed, NULL);
    subscriber->subscription = (struct stream_subscription){
        .loop = &fixture.engine.loop,
        .stream = slice_of_string(stream),
        .from = from,
        .page_count = 16,
        .on_confirmed = on_confirmed,
        .on_events = on_events,
        .on_caught_up = on_caught_up,
        .on_checkpoint = on_checkpoint,
        .on_closed = on_closed,
    };
    return subscriber;
}

static void wait_flag(struct subscriber *subscriber, const bool *flag)
{
    pthread_mutex_lock(&subscriber->lock);
    while (!*flag && !subscriber->closed)
        pthread_cond_wait(&subscriber->changed, &subscriber->lock);
    pthread_mutex_unlock(&subscriber->lock);
}

static void wait_count(struct subscriber *subscriber, uint32_t count)
{
    pthread_mutex_lock(&subscriber->lock);
    while (subscriber->count < count)
        pthread_cond_wait(&subscriber->changed, &subscriber->lock);
    pthread_mutex_unlock(&subscriber->lock);
}

static void start(struct subscriber *subscriber)
{
    on_loop(&fixture, begin, subscriber);
    wait_flag(subscriber, &subscriber->confirmed);
}

static void end(void *arg)
{
    struct subscriber *subscriber = arg;
    stream_subscription_close(&subscriber->subscription);
}

static void stop(struct subscriber *subscriber)
{
    if (!subscriber->closed)
        on_loop(&fixture, end, subscriber);
    wait_flag(subscriber, &subscriber->closed);
    pthread_mutex_destroy(&subscriber->lock);
    pthread_cond_destroy(&subscriber->changed);
    test_free(subscriber);
}

static void assert_numbers(const struct subscriber *subscriber, int64_t first)
{
    for (uint32_t i = 0; i < subscriber->count; i++)
        assert_int_equal(subscriber->numbers[i], first + i);
}

static void test_from_now(void **state)
{
    append("a", 0, 5);
    struct subscriber *subscriber = subscribe("a", STREAM_END);
    struct subscriber *early = subscribe("later", STREAM_END);
    start(subscriber);
    start(early);
    assert_int_equal(subscriber->subscription.last_number, 4);
    assert_int_equal(early->subscription.last_number, -1);
    append("b", 5, 2);
    append("a", 7, 3);
    append("later", 10, 2);
    wait_count(subscriber, 3);
    wait_count(early, 2);
    assert_numbers(subscriber, 5);
    assert_numbers(early, 0);
    stop(subscriber);
    stop(early);
}

static void test_from_the_begin(void **state)
{
    append("a", 0, 50);
    struct subscriber *subscriber = subscribe("a", 0);
    start(subscriber);
    wait_flag(subscriber, &subscriber->caught_up);
    assert_int_equal(subscriber->count, 50);
    append("a", 100, 50);
    wait_count(subscriber, 100);
    assert_numbers(subscriber, 0);
    stop(subscriber);
}

static void test_all(void **state)
{
    append("a", 0, 5);
    struct subscriber *subscriber = subscribe("", STREAM_END);
    start(subscriber);
    int64_t last = subscriber->subscription.last_position;
    append("b", 5, 2);
    append("a", 7, 3);
    wait_count(subscriber, 5);
    assert_numbers(subscriber, last + 1);
    stop(subscriber);
}

static void test_filtered_with_checkpoints(void **state)
{
    struct stream_filter *filter;
    kvs_slice prefix = S("b");
    assert_int_equal(stream_filter_new(STREAM_FILTER_STREAM, false, &prefix, 1, &filter), 0);
    struct subscriber *subscriber = subscribe("", 0);
    subscriber->subscription.filter = filter;
    subscriber->subscription.checkpoint_interval = 10;
    for (unsigned i = 0; i < 10; i++)
        append("a", 10 * i, 5);
    start(subscriber);
    wait_flag(subscriber, &subscriber->caught_up);
    pthread_mutex_lock(&subscriber->lock);
    assert_int_equal(subscriber->checkpoints, 5);
    assert_int_equal(subscriber->checkpoint, streams_last_position(fixture.streams));
    pthread_mutex_unlock(&subscriber->lock);
    append("b", 500, 3);
    wait_count(subscriber, 3);
    stop(subscriber);
    stream_filter_free(filter);
}

/* What came after the begin is given, also when it has been truncated before it is read. */
static void test_truncated_meanwhile(void **state)
{
    append("a", 0, 3);
    struct subscriber *subscriber = subscribe("a", STREAM_END);
    subscriber->holds = true;
    start(subscriber);
    append("a", 3, 1);
    wait_flag(subscriber, &subscriber->has_page);
    append("a", 4, 40);
    assert_int_equal(metadata_wait(&fixture, "a", "{\"$tb\":30}"), STREAM_OK);
    assert_int_equal(delete_wait(&fixture, "a", STREAM_ANY, true, NULL), STREAM_OK);
    subscriber->holds = false;
    stream_subscription_next(&subscriber->subscription);
    wait_count(subscriber, 42);
    subscriber->count = 41;
    assert_numbers(subscriber, 3);
    assert_true(subscriber->numbers[41] == STREAM_NUMBER_DELETED);
    append("b", 100, 1); /* the tombstone comes once */
    stop(subscriber);
}

static void test_history_of_deleted(void **state)
{
    append("a", 0, 5);
    assert_int_equal(delete_wait(&fixture, "a", STREAM_ANY, false, NULL), STREAM_OK);
    struct subscriber *subscriber = subscribe("a", 0);
    start(subscriber);
    wait_flag(subscriber, &subscriber->caught_up);
    assert_int_equal(subscriber->count, 0);
    append("a", 5, 2);
    wait_count(subscriber, 2);
    assert_numbers(subscriber, 5);
    stop(subscriber);
    assert_int_equal(delete_wait(&fixture, "a", STREAM_ANY, true, NULL), STREAM_OK);
    subscriber = subscribe("a", 0);
    start(subscriber);
    wait_flag(subscriber, &subscriber->closed);
    assert_int_equal(subscriber->subscription.outcome, STREAM_DELETED);
    stop(subscriber);
    subscriber = subscribe("a", STREAM_END);
    start(subscriber);
    assert_true(subscriber->subscription.last_number == STREAM_NUMBER_DELETED);
    append("b", 9, 1);
    stop(subscriber);
}

static void test_derived(void **state)
{
    struct subscriber *subscriber = subscribe("$ce-order", STREAM_END);
    start(subscriber);
    append("order-1", 0, 2);
    append("order-2", 2, 2);
    wait_count(subscriber, 4);
    assert_numbers(subscriber, 0);
    stop(subscriber);
}

static void test_denied(void **state)
{
    struct stream_user nobody = {0};
    struct subscriber *subscriber = subscribe("", STREAM_END);
    subscriber->subscription.user = &nobody;
    start(subscriber);
    wait_flag(subscriber, &subscriber->closed);
    assert_int_equal(subscriber->subscription.outcome, STREAM_ACCESS_DENIED);
    assert_false(subscriber->confirmed);
    stop(subscriber);
}

/* Subscriptions that begin while others write: the confirmation is exact, nothing is lost. */
struct appender {
    pthread_t thread;
    unsigned index;
};

static void *appender_run(void *arg)
{
    struct appender *appender = arg;
    char own[16];
    snprintf(own, sizeof own, "own-%u", appender->index);
    for (unsigned i = 0; i < 100; i++) {
        append_wait(&fixture, "busy", STREAM_ANY, appender->index * 10000 + i * 4, 1 + i % 3, NULL);
        append_wait(&fixture, own, STREAM_ANY, appender->index * 10000 + i * 4 + 3, 1, NULL);
    }
    return NULL;
}

static void test_exact_under_load(void **state)
{
    enum { APPENDERS = 3, SUBSCRIBERS = 8 };
    struct appender appenders[APPENDERS];
    struct subscriber *subscribers[SUBSCRIBERS];
    for (unsigned i = 0; i < APPENDERS; i++) {
        appenders[i].index = i;
        pthread_create(&appenders[i].thread, NULL, appender_run, &appenders[i]);
    }
    for (unsigned i = 0; i < SUBSCRIBERS; i++) {
        subscribers[i] = subscribe(i % 2 != 0 ? "busy" : "", STREAM_END);
        start(subscribers[i]);
    }
    for (unsigned i = 0; i < APPENDERS; i++)
        pthread_join(appenders[i].thread, NULL);
    struct stream_read read = {.kind = STREAM_READ_INFO, .stream = S("busy")};
    assert_int_equal(read_event_wait(&fixture, &read), 0);
    for (unsigned i = 0; i < SUBSCRIBERS; i++) {
        struct stream_subscription *subscription = &subscribers[i]->subscription;
        int64_t first = i % 2 != 0 ? subscription->last_number : subscription->last_position;
        int64_t last = i % 2 != 0 ? read.last_number : streams_last_position(fixture.streams);
        wait_count(subscribers[i], (uint32_t)(last - first));
        assert_numbers(subscribers[i], first + 1);
        stop(subscribers[i]);
    }
}

/* --- something is written just after a view was begun ---------------------------------------- */

static struct engine_methods hooked_methods;
static const struct engine_methods *real_methods;
static atomic_bool hook_armed;

static void hook_on_done(struct task *task)
{
    struct hooked {
        struct stream_write write;
        struct latch latch;
    };
    latch_down(&CONTAINER_OF(task, struct hooked, write.op.task)->latch);
}

static void hook_append(void)
{
    struct stream_new_event event = event_of(77, "T", "meanwhile");
    struct hooked {
        struct stream_write write;
        struct latch latch;
    } hooked = {.write = {.op.task.run = hook_on_done, /* on the engine's thread */
                          .stream = S("a"),
                          .expected_version = STREAM_ANY,
                          .events = &event,
                          .count = 1}};
    latch_init(&hooked.latch, 1);
    streams_write(fixture.streams, &hooked.write);
    latch_wait(&hooked.latch);
    latch_deinit(&hooked.latch);
}

static int hooked_view_begin(struct engine *engine, const struct engine_snapshot *snapshot,
                             struct engine_view *view)
{
    int error = real_methods->view_begin(engine, snapshot, view);
    if (loop_is_current(&fixture.engine.loop) && atomic_exchange(&hook_armed, false))
        hook_append();
    return error;
}

/* The read does not show it, and the subscription must not wait for the one after it. */
static void test_written_behind_a_view(void **state)
{
    struct subscriber *subscriber = subscribe("a", STREAM_END);
    start(subscriber);
    wait_flag(subscriber, &subscriber->caught_up);
    real_methods = fixture.engine.engine->methods;
    hooked_methods = *real_methods;
    hooked_methods.view_begin = hooked_view_begin;
    fixture.engine.engine->methods = &hooked_methods;
    atomic_store(&hook_armed, true);
    append("a", 0, 1);
    wait_count(subscriber, 2);
    assert_numbers(subscriber, 0);
    stop(subscriber);
}

/* Closing at any moment is fine. */
static void test_close_any_time(void **state)
{
    struct rand rand = rand_seed(test_seed());
    for (unsigned round = 0; round < 100; round++) {
        struct subscriber *subscriber = subscribe(round % 2 != 0 ? "a" : "", 0);
        on_loop(&fixture, begin, subscriber);
        for (uint64_t i = rand_below(&rand, 4); i > 0; i--)
            append("a", round * 10 + (unsigned)i, 2);
        stop(subscriber);
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_from_now),
        TEST(test_from_the_begin),
        TEST(test_all),
        TEST(test_filtered_with_checkpoints),
        TEST(test_truncated_meanwhile),
        TEST(test_history_of_deleted),
        TEST(test_derived),
        TEST(test_denied),
        TEST(test_exact_under_load),
        TEST(test_written_behind_a_view),
        TEST(test_close_any_time),
    };
    return stream_tests_run("stream-subscription", tests, sizeof tests / sizeof tests[0]);
}

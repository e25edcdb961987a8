/*
 * tests/fault/test_fault_events.c: the client of event streams with the k-th allocation failing,
 * for every k, against a scripted server in this process, which runs out of memory with it.
 *
 * Whatever fails must say so: nothing hangs, crashes or leaks (the sanitizers look), and when
 * memory is there again everything works.
 */
#include "base/fault.h"
#include "fault/outcome.h"
#include "unit/client/es_script.h"
#include "unit/client/events_patient.h"

#include <kvs/events.h>
#include <kvs/kvs.h>

#include <stdio.h>
#include <unistd.h>

#include "test.h"

#define LAST_NUMBER 30

static struct scripted_server server;
static kvs_slice s, g;

static bool answer(const struct es_frame *frame)
{
    const struct es_id *id = &frame->correlation;
    const struct es_persistent_subscription_completed group = {.result = ES_GROUP_SUCCESS};
    const struct es_persistent_subscription_confirmation joined = {.subscription_id =
                                                                       slice_of_string("s::g")};
    const struct es_persistent_subscription_event_appeared appeared = {
        .event = {.has_event = true, .event = es_script_record("s", 1)}};
    const struct es_read_event_completed none = {.result = ES_READ_EVENT_NO_STREAM};
    switch (frame->command) {
    case ES_WRITE_EVENTS:
        return es_script_append_ok(&server, frame, 0);
    case ES_READ_EVENT:
        return es_script_send(&server, ES_READ_EVENT_COMPLETED, id, &none);
    case ES_READ_STREAM_FORWARD:
        return es_script_page(&server, frame, LAST_NUMBER);
    case ES_CREATE_GROUP:
        return es_script_send(&server, ES_CREATE_GROUP_COMPLETED, id, &group);
    case ES_SUBSCRIBE_TO_STREAM:
        return es_script_confirm(&server, id, LAST_NUMBER) &&
               es_script_push(&server, id, LAST_NUMBER + 1);
    case ES_CONNECT_TO_GROUP:
        return es_script_send(&server, ES_GROUP_CONFIRMATION, id, &joined) &&
               es_script_send(&server, ES_GROUP_EVENT_APPEARED, id, &appeared);
    default:
        return true;
    }
}

static void script(struct scripted_server *self, unsigned number)
{
    struct es_frame frame;
    (void)number;
    if (!es_script_greet(self))
        return;
    while (es_script_read(self, &frame) && answer(&frame))
        ;
}

static kvs_events *try_open(kvs_runtime *runtime)
{
    void *events = NULL;
    const struct kvs_events_options options = events_patient();
    char url[100];
    snprintf(url, sizeof url, "esdb://a:b@127.0.0.1:%u", server.port);
    kvs_future *future = kvs_events_open(runtime, url, &options);
    if (future != NULL && kvs_future_wait(future, -1) == 0)
        kvs_future_get_pointer(future, &events);
    kvs_future_free(future);
    return events;
}

/* --- subscriptions -----------------------------------------------------------------------------
 */

static atomic_int given;
static atomic_bool dropped;

static bool on_events(kvs_subscription *subscription, const kvs_resolved_event *events,
                      size_t count, void *arg)
{
    (void)subscription;
    (void)events;
    (void)arg;
    atomic_fetch_add(&given, (int)count);
    return true;
}

static void on_dropped(kvs_subscription *subscription, int error, const char *why, void *arg)
{
    (void)subscription;
    (void)error;
    (void)why;
    (void)arg;
    atomic_store(&dropped, true);
}

static const struct kvs_subscription_handlers handlers = {.on_events = on_events,
                                                          .on_dropped = on_dropped};

/* All events come, or it is dropped and says so. */
static bool watch(kvs_events *events, bool of_group)
{
    const struct kvs_subscribe_options options = {.size = sizeof options, .stream = s};
    const struct kvs_group_subscribe_options group = {
        .size = sizeof group, .stream = s, .group = g};
    kvs_subscription *subscription;
    int wanted = of_group ? 1 : LAST_NUMBER + 2;
    atomic_store(&given, 0);
    atomic_store(&dropped, false);
    int error = of_group
                    ? kvs_events_subscribe_group(events, &group, &handlers, NULL, &subscription)
                    : kvs_events_subscribe(events, &options, &handlers, NULL, &subscription);
    if (error != 0)
        return false;
    while (atomic_load(&given) < wanted && !atomic_load(&dropped))
        usleep(200);
    bool all = atomic_load(&given) >= wanted;
    kvs_subscription_free(subscription);
    while (!atomic_load(&dropped))
        usleep(200);
    return all;
}

/* --- one life ----------------------------------------------------------------------------------
 */

static void use(kvs_events *events)
{
    const kvs_new_event event = {.type = s, .data = g};
    const kvs_group_settings settings = KVS_GROUP_SETTINGS_INIT;
    const kvs_user user = {.login = "joe", .password = "x"};
    outcome(kvs_events_append(events, s, KVS_EXPECT_ANY, &event, 1, NULL));
    outcome(kvs_events_read_event(events, s, 0, 0, NULL));
    outcome(kvs_events_read_stream(events, s, 0, 20, 0, NULL));
    outcome(kvs_events_get_metadata(events, s, NULL));
    outcome(kvs_events_create_group(events, s, g, &settings, NULL));
    outcome(kvs_events_change_user(events, KVS_USER_CREATE, &user, NULL));
    outcome(kvs_events_get_users(events, "joe", NULL));
    watch(events, false);
    watch(events, true);
}

/* Returns false when no fault was hit: all k have been tried. */
static bool live(uint64_t k)
{
    kvs_runtime *runtime = NULL;
    fault_reset();
    fault_arm(FAULT_ALLOC, k, false);
    kvs_events *events = NULL;
    if (kvs_runtime_new(NULL, &runtime) == 0)
        events = try_open(runtime);
    if (events != NULL)
        use(events);
    bool fired = fault_fired() > 0;
    fault_reset();
    if (runtime == NULL)
        return fired;
    if (events == NULL)
        events = try_open(runtime);
    assert_non_null(events);
    assert_int_equal(outcome(kvs_events_read_stream(events, s, 0, 20, 0, NULL)), 0);
    assert_true(watch(events, false));
    assert_true(watch(events, true));
    assert_int_equal(outcome(kvs_events_close(events)), 0);
    kvs_runtime_free(runtime);
    return fired;
}

static void test_every_allocation(void **state)
{
    (void)state;
    uint64_t k = 1;
    scripted_server_start(&server, script);
    while (live(k)) {
        k++;
        assert_true(k < 5000);
    }
    scripted_server_stop(&server);
    print_message("# %llu allocations failed in turn\n", (unsigned long long)k - 1);
    assert_true(k > 10);
}

int main(void)
{
    s = kvs_slice_of("s");
    g = kvs_slice_of("g");
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

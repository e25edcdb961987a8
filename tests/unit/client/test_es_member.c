/*
 * client/eventstore/member.c against a scripted server: a member that has failed does not stay in
 * the group, where it would be given events that no handler sees. More of members is in
 * test_es_subscription.c and test_es_discover.c.
 */
#include "es_script.h"
#include "events_patient.h"

#include <kvs/events.h>
#include <kvs/kvs.h>
#include <kvs/subscription.h>
#include <stdatomic.h>
#include <unistd.h>

#include "test.h"

static struct scripted_server server;
static kvs_runtime *runtime;
static kvs_events *events;
static kvs_subscription *member;
static atomic_int joins, leaves;
static atomic_int kept;    /* batches that the handler has */
static atomic_int dropped; /* 0: not yet, else the error */

static bool on_events(kvs_subscription *subscription, const kvs_resolved_event *got, size_t count,
                      void *arg)
{
    (void)subscription, (void)got, (void)count, (void)arg;
    atomic_fetch_add(&kept, 1);
    return false;
}

static void on_dropped(kvs_subscription *subscription, int error, const char *why, void *arg)
{
    (void)subscription, (void)why, (void)arg;
    atomic_store(&dropped, error);
}

static void wait_for(atomic_int *number)
{
    while (atomic_load(number) == 0)
        usleep(500);
}

/* Joins group g of stream s, 1 in flight; it is not to join again. */
static void begin(script_fn *script)
{
    static const struct kvs_subscription_handlers handlers = {.on_events = on_events,
                                                              .on_dropped = on_dropped};
    const struct kvs_events_options options = events_patient();
    const struct kvs_group_subscribe_options group = {
        .size = sizeof group,
        .stream = kvs_slice_of("s"),
        .group = kvs_slice_of("g"),
        .in_flight = 1,
        .no_rejoin = true,
    };
    atomic_store(&joins, 0);
    atomic_store(&leaves, 0);
    atomic_store(&kept, 0);
    atomic_store(&dropped, 0);
    scripted_server_start(&server, script);
    events = opened_by(kvs_events_open(runtime, es_script_url(&server, ""), &options));
    assert_int_equal(kvs_events_subscribe_group(events, &group, &handlers, NULL, &member), 0);
    wait_for(&kept);
}

static void end(void)
{
    kvs_subscription_free(member);
    assert_int_equal(wait_and_free(kvs_events_close(events)), 0);
    scripted_server_stop(&server);
}

/* Takes the member in, and gives it events. */
static bool take_in(struct scripted_server *self, unsigned count)
{
    const struct es_persistent_subscription_confirmation confirmed = {.subscription_id =
                                                                          slice_of_string("s::g")};
    struct es_frame frame;
    if (!es_script_greet(self) || !es_script_expect(self, ES_CONNECT_TO_GROUP, &frame))
        return false;
    struct es_id id = frame.correlation;
    bool sent = es_script_send(self, ES_GROUP_CONFIRMATION, &id, &confirmed);
    for (unsigned i = 0; i < count && sent; i++) {
        const struct es_persistent_subscription_event_appeared wire = {
            .event = {.has_event = true, .event = es_script_record("s", i)}};
        sent = es_script_send(self, ES_GROUP_EVENT_APPEARED, &id, &wire);
        if (i == 0)
            scripted_server_await(self, 1);
    }
    return sent;
}

static void count_and_answer(struct scripted_server *self)
{
    struct es_frame frame;
    while (es_script_read(self, &frame)) {
        struct es_id id = frame.correlation;
        atomic_fetch_add(&joins, frame.command == ES_CONNECT_TO_GROUP);
        atomic_fetch_add(&leaves, frame.command == ES_UNSUBSCRIBE_FROM_STREAM);
        if (frame.command == ES_PING)
            es_script_send(self, ES_PONG, &id, NULL);
    }
}

/* --- the connection is lost --- */

static void script_ends_once(struct scripted_server *self, unsigned number)
{
    if (number == 0)
        take_in(self, 1);
    else if (es_script_greet(self))
        count_and_answer(self);
}

static void test_who_has_failed_does_not_join_again(void **state)
{
    (void)state;
    begin(script_ends_once);
    scripted_server_step(&server);
    for (unsigned i = 0; i < 2; i++) /* what it asks for first on the next connection, is there */
        assert_int_equal(wait_and_free(kvs_events_ping(events, NULL)), 0);
    assert_int_equal(atomic_load(&dropped), 0); /* its handler is not done */
    assert_int_equal(atomic_load(&joins), 0);
    kvs_subscription_resume(member);
    wait_for(&dropped);
    assert_int_equal(atomic_load(&dropped), KVS_ERR_CONNECTION_LOST);
    end();
}

/* --- the connection lives on --- */

static void script_gives_too_much(struct scripted_server *self, unsigned number)
{
    (void)number;
    if (take_in(self, 100))
        count_and_answer(self);
}

static void test_who_has_failed_leaves(void **state)
{
    (void)state;
    begin(script_gives_too_much);
    scripted_server_step(&server);
    assert_int_equal(wait_and_free(kvs_events_ping(events, NULL)), 0);
    kvs_subscription_resume(member);
    wait_for(&dropped);
    assert_int_equal(atomic_load(&dropped), KVS_ERR_PROTOCOL);
    assert_int_equal(wait_and_free(kvs_events_ping(events, NULL)), 0);
    assert_int_equal(atomic_load(&leaves), 1);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_has_failed_does_not_join_again),
        cmocka_unit_test(test_who_has_failed_leaves),
    };
    if (kvs_runtime_new(NULL, &runtime) != 0)
        return 1;
    int failed = cmocka_run_group_tests_name("client/eventstore member", tests, NULL, NULL);
    kvs_runtime_free(runtime);
    return failed;
}

/* tests/unit/stream/test_stream_group.c: persistent subscription groups. */
#include "stream/group.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/rand.h"
#include "base/slice.h"
#include "unit/stream/stream_test.h"

#include <stdio.h>
#include <stdlib.h>

/* --- calls ------------------------------------------------------------------------------------ */

struct waited_call {
    struct stream_group_call call;
    struct latch latch;
};

static void call_on_done(struct task *task)
{
    latch_down(&CONTAINER_OF(task, struct waited_call, call.op.task)->latch);
}

static void call_wait(struct stream_group_call *call)
{
    struct waited_call waited = {.call = *call};
    waited.call.op.task.run = call_on_done;
    waited.call.op.loop = &fixture.engine.loop;
    latch_init(&waited.latch, 1);
    streams_group_call(fixture.streams, &waited.call);
    latch_wait(&waited.latch);
    latch_deinit(&waited.latch);
    assert_int_equal(waited.call.op.error, 0);
    *call = waited.call;
}

static struct stream_group_settings settings_from(int64_t start)
{
    struct stream_group_settings settings;
    stream_group_settings_default(&settings);
    settings.start_from = start;
    settings.message_timeout_ms = 0;
    settings.checkpoint_min_count = 1;
    return settings;
}

static int group_call(enum stream_group_action action, const char *stream,
                      const struct stream_group_settings *settings)
{
    struct stream_group_call call = {
        .action = action, .stream = slice_of_string(stream), .group = S("g")};
    if (settings != NULL)
        call.settings = *settings;
    call_wait(&call);
    stream_group_call_release(&call);
    return (int)call.outcome;
}

static int create(const char *stream, int64_t start)
{
    struct stream_group_settings settings = settings_from(start);
    return group_call(STREAM_GROUP_CREATE, stream, &settings);
}

static struct stream_group_info info_of(const char *stream)
{
    struct stream_group_call call = {
        .action = STREAM_GROUP_INFO, .stream = slice_of_string(stream), .group = S("g")};
    call_wait(&call);
    assert_int_equal(call.outcome, STREAM_GROUP_OK);
    assert_int_equal(call.infos_count, 1);
    struct stream_group_info info = call.infos[0];
    stream_group_call_release(&call);
    return info;
}

/* Who asks right after the open is answered when the group knows where it is. */
static void test_info_of_what_is_loaded(void **state)
{
    (void)state;
    append("loaded", 0, 3);
    assert_int_equal(create("loaded", 0), STREAM_GROUP_OK);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(stream_fixture_reopen(&fixture), 0);
        struct stream_group_info info = info_of("loaded");
        assert_string_not_equal(info.status, "NotReady");
        assert_int_equal(info.last_known, 2);
    }
}

static void expect_metadata(const char *metastream, const char *expected)
{
    struct stream_read read = {.kind = STREAM_READ_EVENT,
                               .stream = slice_of_string(metastream),
                               .from = STREAM_END,
                               .count = 1};
    assert_int_equal(read_event_wait(&fixture, &read), 0);
    assert_int_equal(read.events_count, 1);
    assert_true(slice_equal(read.events[0].event.data, slice_of_string(expected)));
    stream_read_release(&read);
}

/* A group's streams are the administrators', whatever $settings gives others. */
static void test_rights_of_its_streams(void **state)
{
    (void)state;
    static const struct stream_user joe = {.login = {(const uint8_t *)"joe", 3}};
    struct stream_new_event settings = event_of(
        1, "settings", "{\"$systemStreamAcl\":{\"$r\":\"$all\",\"$w\":\"$all\",\"$mr\":\"$all\"}}");
    struct stream_write write = {
        .stream = S("$settings"), .expected_version = STREAM_ANY, .events = &settings, .count = 1};
    assert_int_equal(write_event_wait(&fixture, &write), 0);
    assert_int_equal(create("a", 0), STREAM_GROUP_OK);
    expect_metadata("$$$persistentSubscriptionConfig", "{\"$maxCount\":2}");
    expect_metadata("$$$persistentsubscription-a::g-checkpoint",
                    "{\"$maxCount\":2,\"$acl\":{\"$r\":\"$admins\",\"$w\":\"$admins\",\"$d\":"
                    "\"$admins\",\"$mr\":\"$all\",\"$mw\":\"$admins\"}}");
    struct stream_read read = {.kind = STREAM_READ_INFO,
                               .stream = S("$persistentsubscription-a::g-checkpoint"),
                               .user = &joe};
    assert_int_equal(read_event_wait(&fixture, &read), 0);
    assert_int_equal(read.outcome, STREAM_ACCESS_DENIED);
    stream_read_release(&read);
    read.stream = S("$persistentsubscription-other");
    assert_int_equal(read_event_wait(&fixture, &read), 0);
    assert_int_equal(read.outcome, STREAM_NOT_FOUND);
    stream_read_release(&read);
}

static void test_info_is_for_users(void **state)
{
    (void)state;
    static const struct stream_user nobody, somebody = {.login = {(const uint8_t *)"joe", 3}};
    struct stream_group_call call = {.action = STREAM_GROUP_INFO, .user = &nobody};
    call_wait(&call);
    assert_int_equal(call.outcome, STREAM_GROUP_ACCESS_DENIED);
    stream_group_call_release(&call);
    call.user = &somebody;
    call_wait(&call);
    assert_int_equal(call.outcome, STREAM_GROUP_OK);
    stream_group_call_release(&call);
}

/* --- consumers -------------------------------------------------------------------------------- */

#define NO_ANSWER (-1)
#define ACK 100

struct received {
    int64_t number;
    int32_t retries;
    uint8_t id[16];
    char stream[16];
};

struct consumer {
    struct stream_consumer consumer;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool confirmed, dropped;
    enum stream_drop drop;
    int answer; /* ACK, a nak's action, or NO_ANSWER */
    uint32_t count;
    struct received received[4000];
};

static struct consumer *consumer_of(struct stream_consumer *consumer)
{
    return CONTAINER_OF(consumer, struct consumer, consumer);
}

static void on_confirmed(struct stream_consumer *stream_consumer)
{
    struct consumer *consumer = consumer_of(stream_consumer);
    pthread_mutex_lock(&consumer->lock);
    consumer->confirmed = true;
    pthread_cond_broadcast(&consumer->changed);
    pthread_mutex_unlock(&consumer->lock);
}

static void on_event(struct stream_consumer *stream_consumer, const struct stream_event *event,
                     int32_t retries)
{
    struct consumer *consumer = consumer_of(stream_consumer);
    const struct stream_record *original = stream_event_original(event);
    pthread_mutex_lock(&consumer->lock);
    struct received *received = &consumer->received[consumer->count++];
    received->number = original->number;
    received->retries = retries;
    memcpy(received->id, original->id, 16);
    snprintf(received->stream, sizeof received->stream, "%.*s", (int)event->event.stream.size,
             (const char *)event->event.stream.data);
    int answer = consumer->answer;
    pthread_cond_broadcast(&consumer->changed);
    pthread_mutex_unlock(&consumer->lock);
    if (answer == ACK)
        assert_int_equal(stream_consumer_ack(stream_consumer, original->id, 1), 0);
    else if (answer != NO_ANSWER)
        assert_int_equal(stream_consumer_nak(stream_consumer, original->id, 1,
                                             (enum stream_nak)answer, S("why")),
                         0);
}

static void on_dropped(struct stream_consumer *stream_consumer, enum stream_drop drop)
{
    struct consumer *consumer = consumer_of(stream_consumer);
    pthread_mutex_lock(&consumer->lock);
    consumer->dropped = true;
    consumer->drop = drop;
    pthread_cond_broadcast(&consumer->changed);
    pthread_mutex_unlock(&consumer->lock);
}

static struct consumer *consume(const char *stream, int32_t slots, int answer)
{
    struct consumer *consumer = test_calloc(1, sizeof *consumer);
    pthread_mutex_init(&consumer->lock, NULL);
    pthread_cond_init(&consumer->changed, NULL);
    consumer->answer = answer;
    consumer->consumer = (struct stream_consumer){
        .loop = &fixture.engine.loop,
        .stream = slice_of_string(stream),
        .group = S("g"),
        .slots = slots,
        .on_confirmed = on_confirmed,
        .on_event = on_event,
        .on_dropped = on_dropped,
    };
    streams_consume(fixture.streams, &consumer->consumer);
    pthread_mutex_lock(&consumer->lock);
    while (!consumer->confirmed && !consumer->dropped)
        pthread_cond_wait(&consumer->changed, &consumer->lock);
    pthread_mutex_unlock(&consumer->lock);
    return consumer;
}

static void wait_count(struct consumer *consumer, uint32_t count)
{
    pthread_mutex_lock(&consumer->lock);
    while (consumer->count < count)
        pthread_cond_wait(&consumer->changed, &consumer->lock);
    pthread_mutex_unlock(&consumer->lock);
}

static void wait_dropped(struct consumer *consumer)
{
    pthread_mutex_lock(&consumer->lock);
    while (!consumer->dropped)
        pthread_cond_wait(&consumer->changed, &consumer->lock);
    pthread_mutex_unlock(&consumer->lock);
}

static void do_leave(void *arg)
{
    struct consumer *consumer = arg;
    stream_consumer_close(&consumer->consumer, false);
}

static void do_lose(void *arg)
{
    struct consumer *consumer = arg;
    stream_consumer_close(&consumer->consumer, true);
}

static void end(struct consumer *consumer, void (*run)(void *arg))
{
    if (!consumer->dropped)
        on_loop(&fixture, run, consumer);
    wait_dropped(consumer);
    pthread_mutex_destroy(&consumer->lock);
    pthread_cond_destroy(&consumer->changed);
    test_free(consumer);
}

static void leave(struct consumer *consumer)
{
    end(consumer, do_leave);
}

struct answering {
    struct consumer *consumer;
    uint32_t first, count;
    int answer;
};

static void do_answer(void *arg)
{
    struct answering *answering = arg;
    for (uint32_t i = answering->first; i < answering->first + answering->count; i++) {
        struct stream_consumer *consumer = &answering->consumer->consumer;
        const uint8_t *id = answering->consumer->received[i].id;
        if (answering->answer == ACK)
            stream_consumer_ack(consumer, id, 1);
        else
            stream_consumer_nak(consumer, id, 1, (enum stream_nak)answering->answer, S("why"));
    }
}

/* Answers what was received, from number `first` of it on. */
static void answer(struct consumer *consumer, uint32_t first, uint32_t count, int what)
{
    struct answering answering = {consumer, first, count, what};
    on_loop(&fixture, do_answer, &answering);
}

static uint32_t count_of(struct consumer *consumer)
{
    pthread_mutex_lock(&consumer->lock);
    uint32_t count = consumer->count;
    pthread_mutex_unlock(&consumer->lock);
    return count;
}

/* What has been counted does not change any more. */
static void assert_received(struct consumer *consumer, uint32_t i, int64_t number, int32_t retries)
{
    assert_true(i < count_of(consumer));
    assert_int_equal(consumer->received[i].number, number);
    assert_int_equal(consumer->received[i].retries, retries);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_calls(void **state)
{
    struct stream_group_settings settings = settings_from(0);
    assert_int_equal(group_call(STREAM_GROUP_UPDATE, "a", &settings), STREAM_GROUP_NOT_FOUND);
    assert_int_equal(group_call(STREAM_GROUP_DELETE, "a", NULL), STREAM_GROUP_NOT_FOUND);
    assert_int_equal(group_call(STREAM_GROUP_REPLAY, "a", NULL), STREAM_GROUP_NOT_FOUND);
    assert_int_equal(group_call(STREAM_GROUP_CREATE, "a", &settings), STREAM_GROUP_OK);
    assert_int_equal(group_call(STREAM_GROUP_CREATE, "a", &settings), STREAM_GROUP_EXISTS);
    assert_int_equal(group_call(STREAM_GROUP_CREATE, "b", &settings), STREAM_GROUP_OK);
    assert_int_equal(group_call(STREAM_GROUP_CREATE, "$all", &settings), STREAM_GROUP_FAILED);
    assert_int_equal(group_call(STREAM_GROUP_CREATE, "", &settings), STREAM_GROUP_FAILED);
    settings.start_from = -2;
    assert_int_equal(group_call(STREAM_GROUP_CREATE, "c", &settings), STREAM_GROUP_FAILED);
    settings = settings_from(0);
    settings.read_batch_size = settings.buffer_size;
    assert_int_equal(group_call(STREAM_GROUP_CREATE, "c", &settings), STREAM_GROUP_FAILED);
    settings = settings_from(0);
    settings.max_retry_count = 77;
    settings.strategy = STREAM_STRATEGY_PINNED;
    assert_int_equal(group_call(STREAM_GROUP_UPDATE, "a", &settings), STREAM_GROUP_OK);
    assert_int_equal(group_call(STREAM_GROUP_DELETE, "b", NULL), STREAM_GROUP_OK);
    for (unsigned reopened = 0; reopened < 2; reopened++) {
        assert_int_equal(info_of("a").settings.max_retry_count, 77);
        assert_int_equal(info_of("a").settings.strategy, STREAM_STRATEGY_PINNED);
        assert_int_equal(group_call(STREAM_GROUP_DELETE, "b", NULL), STREAM_GROUP_NOT_FOUND);
        assert_int_equal(stream_fixture_reopen(&fixture), 0);
    }
    struct stream_user nobody = {.login = S("joe")};
    struct stream_group_call call = {.action = STREAM_GROUP_CREATE,
                                     .stream = S("d"),
                                     .group = S("g"),
                                     .settings = settings,
                                     .user = &nobody};
    call_wait(&call);
    assert_int_equal(call.outcome, STREAM_GROUP_ACCESS_DENIED);
    nobody.login = S("ops");
    call_wait(&call);
    assert_int_equal(call.outcome, STREAM_GROUP_OK);
}

static void test_from_the_begin_and_on(void **state)
{
    append("a", 0, 30);
    assert_int_equal(create("a", 0), STREAM_GROUP_OK);
    struct consumer *consumer = consume("a", 10, ACK);
    assert_int_equal(consumer->consumer.last_number, 29);
    wait_count(consumer, 30);
    append("a", 100, 20);
    wait_count(consumer, 50);
    for (uint32_t i = 0; i < 50; i++)
        assert_received(consumer, i, i, 0);
    leave(consumer);
    /* The close wrote a checkpoint. */
    assert_int_equal(stream_fixture_reopen(&fixture), 0);
    append("a", 200, 1);
    consumer = consume("a", 10, ACK);
    wait_count(consumer, 1);
    assert_received(consumer, 0, 50, 0);
    leave(consumer);
}

static void do_dawdle(void *arg)
{
    (void)arg;
    for (uint64_t begin = clock_now_ns(); clock_now_ns() - begin < 300000000u;)
        ; /* longer than a tick of the groups */
}

/* A tick comes while a group is being made: it must not begin twice. */
static void test_a_tick_while_it_is_made(void **state)
{
    append("a", 0, 5);
    struct stream_group_settings settings = settings_from(0);
    struct waited_call waited = {.call = {.action = STREAM_GROUP_CREATE,
                                          .stream = S("a"),
                                          .group = S("g"),
                                          .settings = settings}};
    waited.call.op.task.run = call_on_done;
    waited.call.op.loop = &fixture.engine.loop;
    latch_init(&waited.latch, 1);
    streams_group_call(fixture.streams, &waited.call);
    on_loop(&fixture, do_dawdle, NULL);
    latch_wait(&waited.latch);
    latch_deinit(&waited.latch);
    assert_int_equal(waited.call.outcome, STREAM_GROUP_OK);
    stream_group_call_release(&waited.call);
    struct consumer *consumer = consume("a", 10, ACK);
    append("a", 10, 5);
    wait_count(consumer, 10);
    for (uint32_t i = 0; i < 10; i++)
        assert_received(consumer, i, i, 0);
    assert_int_equal(group_call(STREAM_GROUP_UPDATE, "a", &settings), STREAM_GROUP_OK);
    leave(consumer);
}

static void test_from_the_end(void **state)
{
    append("a", 0, 5);
    assert_int_equal(create("a", STREAM_END), STREAM_GROUP_OK);
    assert_int_equal(create("empty", STREAM_END), STREAM_GROUP_OK);
    append("a", 10, 2);
    append("empty", 20, 2);
    /* No checkpoint yet: what came since it was made is not forgotten. */
    assert_int_equal(stream_fixture_reopen(&fixture), 0);
    struct consumer *consumer = consume("a", 10, ACK);
    wait_count(consumer, 2);
    assert_received(consumer, 0, 5, 0);
    leave(consumer);
    consumer = consume("empty", 10, ACK);
    wait_count(consumer, 2);
    assert_received(consumer, 0, 0, 0);
    leave(consumer);
}

/* An update that says "from the end", as one does that says nothing, leaves out nothing of what
 * came since the group was made, though none of it is done and there is no checkpoint. */
static void test_update_from_the_end(void **state)
{
    (void)state;
    append("a", 0, 5);
    assert_int_equal(create("a", STREAM_END), STREAM_GROUP_OK);
    append("a", 10, 2);
    struct consumer *consumer = consume("a", 10, NO_ANSWER);
    wait_count(consumer, 2);
    struct stream_group_settings settings = settings_from(STREAM_END);
    settings.max_retry_count = 3;
    assert_int_equal(group_call(STREAM_GROUP_UPDATE, "a", &settings), STREAM_GROUP_OK);
    wait_dropped(consumer);
    leave(consumer);
    append("a", 20, 1);
    assert_int_equal(stream_fixture_reopen(&fixture), 0);
    consumer = consume("a", 10, ACK);
    wait_count(consumer, 1);
    assert_received(consumer, 0, 5, 0);
    leave(consumer);
    assert_int_equal(create("b", 1), STREAM_GROUP_OK);
    append("b", 30, 5);
    assert_int_equal(group_call(STREAM_GROUP_UPDATE, "b", &settings), STREAM_GROUP_OK);
    consumer = consume("b", 10, NO_ANSWER);
    wait_count(consumer, 4);
    assert_received(consumer, 0, 1, 0);
    leave(consumer);
    settings.start_from = 3; /* said aloud */
    assert_int_equal(group_call(STREAM_GROUP_UPDATE, "b", &settings), STREAM_GROUP_OK);
    consumer = consume("b", 10, ACK);
    wait_count(consumer, 2);
    assert_received(consumer, 0, 3, 0);
    leave(consumer);
}

static void leave_behind(const char *stream, const char *type, const char *data)
{
    struct stream_new_event event = event_of(1, type, data);
    struct stream_write write = {.stream = slice_of_string(stream),
                                 .expected_version = STREAM_ANY,
                                 .events = &event,
                                 .count = 1};
    assert_int_equal(write_event_wait(&fixture, &write), 0);
    assert_int_equal(write.outcome, STREAM_OK);
}

/* What a deletion that was cut short has left of one of its name is not a new group's. */
static void test_a_new_group_has_no_past(void **state)
{
    append("a", 0, 5);
    leave_behind("$persistentsubscription-a::g-checkpoint", "SubscriptionCheckpoint", "\"3\"");
    leave_behind("$persistentsubscription-a::g-parked", "$>", "0@a");
    for (unsigned round = 0; round < 2; round++) {
        assert_int_equal(create("a", 0), STREAM_GROUP_OK);
        assert_int_equal(info_of("a").last_checkpoint, -1);
        assert_int_equal(info_of("a").parked, 0);
        struct consumer *consumer = consume("a", 10, NO_ANSWER);
        wait_count(consumer, 5);
        assert_received(consumer, 0, 0, 0);
        answer(consumer, 0, 4, ACK);
        answer(consumer, 4, 1, STREAM_NAK_PARK);
        while (info_of("a").parked < 1)
            ;
        leave(consumer);
        assert_int_equal(group_call(STREAM_GROUP_DELETE, "a", NULL), STREAM_GROUP_OK);
    }
}

static void test_slots(void **state)
{
    append("a", 0, 30);
    assert_int_equal(create("a", 0), STREAM_GROUP_OK);
    struct consumer *consumer = consume("a", 3, NO_ANSWER);
    wait_count(consumer, 3);
    assert_int_equal(info_of("a").in_flight, 3);
    assert_int_equal(count_of(consumer), 3);
    answer(consumer, 1, 1, ACK);
    wait_count(consumer, 4);
    assert_int_equal(info_of("a").in_flight, 3);
    assert_int_equal(count_of(consumer), 4);
    /* Unknown ids are nothing. */
    answer(consumer, 1, 1, ACK);
    assert_int_equal(info_of("a").in_flight, 3);
    leave(consumer);
    /* What it had goes to the next, first. */
    consumer = consume("a", 100, ACK);
    wait_count(consumer, 29);
    assert_received(consumer, 0, 0, 1);
    assert_received(consumer, 1, 2, 1);
    assert_received(consumer, 2, 3, 1);
    assert_received(consumer, 3, 4, 0);
    leave(consumer);
}

static void test_unacknowledged_come_again(void **state)
{
    append("a", 0, 10);
    assert_int_equal(create("a", 0), STREAM_GROUP_OK);
    struct consumer *consumer = consume("a", 100, NO_ANSWER);
    wait_count(consumer, 10);
    answer(consumer, 0, 3, ACK);
    answer(consumer, 5, 5, ACK);
    assert_int_equal(info_of("a").in_flight, 2);
    leave(consumer);
    assert_int_equal(stream_fixture_reopen(&fixture), 0);
    while (strcmp(info_of("a").status, "NotReady") == 0)
        ;
    assert_int_equal(info_of("a").last_checkpoint, 2);
    consumer = consume("a", 100, ACK);
    wait_count(consumer, 7);
    assert_received(consumer, 0, 3, 0);
    leave(consumer);
}

static void test_naks(void **state)
{
    append("a", 0, 4);
    struct stream_group_settings settings = settings_from(0);
    settings.max_retry_count = 2;
    assert_int_equal(group_call(STREAM_GROUP_CREATE, "a", &settings), STREAM_GROUP_OK);
    struct consumer *consumer = consume("a", 100, NO_ANSWER);
    wait_count(consumer, 4);
    answer(consumer, 0, 1, STREAM_NAK_SKIP);
    answer(consumer, 1, 1, STREAM_NAK_STOP);
    answer(consumer, 2, 1, STREAM_NAK_PARK);
    answer(consumer, 3, 1, STREAM_NAK_RETRY);
    wait_count(consumer, 5);
    assert_received(consumer, 4, 3, 1);
    answer(consumer, 4, 1, STREAM_NAK_UNKNOWN);
    wait_count(consumer, 6);
    assert_received(consumer, 5, 3, 2);
    answer(consumer, 5, 1, STREAM_NAK_RETRY);
    while (info_of("a").parked < 2)
        ;
    struct stream_read read;
    assert_int_equal(
        read_forward_wait(&fixture, "$persistentsubscription-a::g-parked", 0, 10, &read), 0);
    assert_int_equal(read.events_count, 2);
    assert_slice_equal(read.events[0].event.type, "$>");
    assert_slice_equal(read.events[0].event.data, "2@a");
    assert_slice_equal(read.events[1].event.data, "3@a");
    assert_non_null(memmem(read.events[0].event.metadata.data, read.events[0].event.metadata.size,
                           "\"reason\":\"Client explicitly NAK'ed message.\\nwhy\"", 49));
    assert_non_null(memmem(read.events[1].event.metadata.data, read.events[1].event.metadata.size,
                           "Reached retry count of 2", 24));
    stream_read_release(&read);
    /* What was stopped is done, as what was skipped: a word of which EventStoreDB makes no more. */
    assert_int_equal(info_of("a").in_flight, 0);
    leave(consumer);
    assert_int_equal(stream_fixture_reopen(&fixture), 0);
    while (strcmp(info_of("a").status, "NotReady") == 0)
        ;
    assert_int_equal(info_of("a").last_checkpoint, 3);
}

static void test_timeout(void **state)
{
    append("a", 0, 2);
    struct stream_group_settings settings = settings_from(0);
    settings.message_timeout_ms = 1;
    settings.max_retry_count = 1;
    assert_int_equal(group_call(STREAM_GROUP_CREATE, "a", &settings), STREAM_GROUP_OK);
    struct consumer *consumer = consume("a", 100, NO_ANSWER);
    wait_count(consumer, 4);
    assert_received(consumer, 2, 0, 1);
    assert_received(consumer, 3, 1, 1);
    while (info_of("a").parked < 2)
        ;
    assert_int_equal(info_of("a").in_flight, 0);
    leave(consumer);
}

/* Whoever gets such an event breaks down: it is parked in the end. One that is given back goes on,
 * however often. */
static void test_lost_consumers(void **state)
{
    (void)state;
    append("a", 0, 2);
    struct stream_group_settings settings = settings_from(0);
    settings.max_retry_count = 2;
    assert_int_equal(group_call(STREAM_GROUP_CREATE, "a", &settings), STREAM_GROUP_OK);
    for (int32_t i = 0; i < 3; i++) {
        struct consumer *consumer = consume("a", 1, NO_ANSWER);
        wait_count(consumer, 1);
        assert_received(consumer, 0, 0, i);
        end(consumer, do_lose);
    }
    while (info_of("a").parked < 1)
        ;
    for (int32_t i = 0; i < 5; i++) {
        struct consumer *consumer = consume("a", 1, NO_ANSWER);
        wait_count(consumer, 1);
        assert_received(consumer, 0, 1, i);
        leave(consumer);
    }
    struct consumer *consumer = consume("a", 1, ACK);
    wait_count(consumer, 1);
    while (info_of("a").last_checkpoint < 1)
        ;
    assert_int_equal(info_of("a").parked, 1);
    leave(consumer);
}

static void replay(int64_t stop_at)
{
    struct stream_group_call call = {
        .action = STREAM_GROUP_REPLAY, .stream = S("a"), .group = S("g"), .stop_at = stop_at};
    call_wait(&call);
    assert_int_equal(call.outcome, STREAM_GROUP_OK);
}

static void test_replay(void **state)
{
    append("a", 0, 6);
    assert_int_equal(create("a", 0), STREAM_GROUP_OK);
    replay(0); /* of nothing */
    struct consumer *consumer = consume("a", 100, STREAM_NAK_PARK);
    wait_count(consumer, 6);
    while (info_of("a").parked < 6)
        ;
    leave(consumer);
    assert_int_equal(stream_fixture_reopen(&fixture), 0);
    replay(2); /* perhaps before the group has found out what is parked */
    consumer = consume("a", 100, ACK);
    wait_count(consumer, 2);
    assert_received(consumer, 0, 0, 0);
    assert_received(consumer, 1, 1, 0);
    while (info_of("a").parked != 4)
        ;
    leave(consumer);
    /* Parked again: behind the others, and not lost. */
    consumer = consume("a", 100, STREAM_NAK_PARK);
    replay(0);
    wait_count(consumer, 4);
    while (strcmp(info_of("a").status, "Live") != 0)
        ;
    assert_int_equal(info_of("a").parked, 4);
    leave(consumer);
    consumer = consume("a", 100, ACK);
    replay(0);
    replay(0);
    wait_count(consumer, 4);
    while (info_of("a").parked != 0)
        ;
    expect_metadata("$$$persistentsubscription-a::g-parked",
                    "{\"$tb\":10,\"$acl\":{\"$r\":\"$admins\",\"$w\":\"$admins\",\"$d\":"
                    "\"$admins\",\"$mr\":\"$admins\",\"$mw\":\"$admins\"}}");
    replay(0);
    append("a", 100, 1);
    wait_count(consumer, 5);
    assert_received(consumer, 4, 6, 0);
    leave(consumer);
}

/* Of an event that came by a link the event itself is parked; a replay gives it by its link in the
 * parked stream, in whichever form its group takes. */
static void test_parked_of_links(void **state)
{
    (void)state;
    static const char *const parked = "$persistentsubscription-$ce-x::g-parked";
    struct stream_group_settings settings = settings_from(0);
    settings.resolve_links = true;
    append("x-1", 0, 2);
    append("x-2", 10, 2);
    assert_int_equal(group_call(STREAM_GROUP_CREATE, "$ce-x", &settings), STREAM_GROUP_OK);
    struct consumer *consumer = consume("$ce-x", 100, NO_ANSWER);
    wait_count(consumer, 4);
    answer(consumer, 3, 1, STREAM_NAK_PARK);
    while (info_of("$ce-x").parked < 1)
        ;
    struct stream_read read = {.kind = STREAM_READ_EVENT,
                               .flags = STREAM_READ_RESOLVE_LINKS,
                               .stream = slice_of_string(parked),
                               .from = 0};
    assert_int_equal(read_event_wait(&fixture, &read), 0);
    assert_int_equal(read.events_count, 1);
    assert_slice_equal(read.events[0].link.data, "1@x-2");
    assert_slice_equal(read.events[0].event.stream, "x-2");
    assert_int_equal(read.events[0].event.number, 1);
    uint8_t link_id[16];
    memcpy(link_id, read.events[0].link.id, sizeof link_id);
    stream_read_release(&read);
    struct stream_group_call call = {
        .action = STREAM_GROUP_REPLAY, .stream = S("$ce-x"), .group = S("g")};
    call_wait(&call);
    wait_count(consumer, 5);
    assert_received(consumer, 4, 0, 0);
    assert_memory_equal(consumer->received[4].id, link_id, sizeof link_id);
    assert_string_equal(consumer->received[4].stream, "x-2");
    answer(consumer, 0, 5, ACK);
    while (info_of("$ce-x").parked > 0 || info_of("$ce-x").last_checkpoint < 3)
        ;
    leave(consumer);
}

static void test_round_robin_and_single(void **state)
{
    append("a", 0, 20);
    append("b", 0, 20);
    assert_int_equal(create("a", STREAM_END), STREAM_GROUP_OK);
    struct stream_group_settings settings = settings_from(STREAM_END);
    settings.strategy = STREAM_STRATEGY_DISPATCH_TO_SINGLE;
    assert_int_equal(group_call(STREAM_GROUP_CREATE, "b", &settings), STREAM_GROUP_OK);
    struct consumer *first = consume("a", 100, NO_ANSWER);
    struct consumer *second = consume("a", 100, NO_ANSWER);
    append("a", 100, 20);
    wait_count(first, 10);
    wait_count(second, 10);
    leave(first);
    wait_count(second, 20);
    leave(second);
    first = consume("b", 15, NO_ANSWER);
    second = consume("b", 100, NO_ANSWER);
    append("b", 200, 20);
    wait_count(first, 15);
    wait_count(second, 5);
    assert_received(second, 0, 35, 0);
    leave(first);
    leave(second);
}

static void test_pinned(void **state)
{
    struct stream_group_settings settings = settings_from(0);
    settings.strategy = STREAM_STRATEGY_PINNED;
    settings.resolve_links = true;
    assert_int_equal(group_call(STREAM_GROUP_CREATE, "$ce-x", &settings), STREAM_GROUP_OK);
    struct consumer *consumers[3];
    for (unsigned i = 0; i < 3; i++)
        consumers[i] = consume("$ce-x", 1000, NO_ANSWER);
    char name[16];
    for (unsigned i = 0; i < 60; i++) {
        snprintf(name, sizeof name, "x-%u", i % 12);
        append(name, i, 1);
    }
    while (count_of(consumers[0]) + count_of(consumers[1]) + count_of(consumers[2]) < 60)
        (void)info_of("$ce-x");
    /* Each stream's events at one consumer, in order. */
    for (unsigned i = 0; i < 12; i++) {
        unsigned at_consumers = 0;
        snprintf(name, sizeof name, "x-%u", i);
        for (unsigned k = 0; k < 3; k++) {
            unsigned count = 0;
            for (uint32_t n = 0; n < consumers[k]->count; n++)
                count += strcmp(consumers[k]->received[n].stream, name) == 0;
            assert_true(count == 0 || count == 5);
            at_consumers += count > 0;
        }
        assert_int_equal(at_consumers, 1);
    }
    for (unsigned i = 0; i < 3; i++)
        leave(consumers[i]);
}

static void test_drops(void **state)
{
    struct consumer *consumer = consume("a", 10, ACK);
    wait_dropped(consumer);
    assert_int_equal(consumer->drop, STREAM_DROP_NOT_FOUND);
    leave(consumer);
    struct stream_group_settings settings = settings_from(0);
    settings.subscriber_max_count = 1;
    assert_int_equal(group_call(STREAM_GROUP_CREATE, "a", &settings), STREAM_GROUP_OK);
    consumer = consume("a", 10, ACK);
    struct consumer *second = consume("a", 10, ACK);
    wait_dropped(second);
    assert_int_equal(second->drop, STREAM_DROP_TOO_MANY);
    leave(second);
    assert_int_equal(group_call(STREAM_GROUP_UPDATE, "a", &settings), STREAM_GROUP_OK);
    wait_dropped(consumer);
    assert_int_equal(consumer->drop, STREAM_DROP_UNSUBSCRIBED);
    leave(consumer);
    consumer = consume("a", 10, ACK);
    append("a", 0, 3);
    wait_count(consumer, 3);
    assert_int_equal(group_call(STREAM_GROUP_DELETE, "a", NULL), STREAM_GROUP_OK);
    wait_dropped(consumer);
    leave(consumer);
    /* A group of the same name begins anew. */
    assert_int_equal(create("a", 0), STREAM_GROUP_OK);
    consumer = consume("a", 10, ACK);
    wait_count(consumer, 3);
    assert_received(consumer, 0, 0, 0);
    leave(consumer);
}

/* Whatever is answered, and however often it is reopened: in the end each event was acknowledged,
 * or lies parked. */
static void test_nothing_is_left_out(void **state)
{
    enum { EVENTS = 300 };
    struct rand rand = rand_seed(test_seed());
    static bool done[EVENTS];
    memset(done, 0, sizeof done);
    struct stream_group_settings settings = settings_from(0);
    settings.max_retry_count = 1;
    settings.read_batch_size = 7;
    settings.buffer_size = 20;
    settings.checkpoint_max_count = 5;
    assert_int_equal(group_call(STREAM_GROUP_CREATE, "a", &settings), STREAM_GROUP_OK);
    unsigned appended = 0;
    for (unsigned round = 0; round < 30; round++) {
        append("a", appended, 10);
        appended += 10;
        struct consumer *consumer = consume("a", (int32_t)(1 + rand_below(&rand, 20)), NO_ANSWER);
        uint32_t seen = 0;
        for (uint64_t i = rand_below(&rand, 30); i > 0 && seen < count_of(consumer); i--, seen++) {
            static const int answers[] = {
                ACK, ACK, ACK, STREAM_NAK_RETRY, STREAM_NAK_SKIP, STREAM_NAK_PARK, NO_ANSWER};
            int what = answers[rand_below(&rand, sizeof answers / sizeof answers[0])];
            if (what == NO_ANSWER)
                continue;
            answer(consumer, seen, 1, what);
            done[consumer->received[seen].number] |= what != STREAM_NAK_RETRY;
        }
        leave(consumer);
        if (rand_below(&rand, 3) == 0)
            assert_int_equal(stream_fixture_reopen(&fixture), 0);
    }
    struct consumer *consumer = consume("a", 5, ACK);
    while (info_of("a").last_checkpoint < EVENTS - 1)
        ;
    for (uint32_t i = 0; i < consumer->count; i++)
        done[consumer->received[i].number] = true;
    leave(consumer);
    struct stream_read read;
    assert_int_equal(
        read_forward_wait(&fixture, "$persistentsubscription-a::g-parked", 0, 1000, &read), 0);
    for (uint32_t i = 0; i < read.events_count; i++)
        done[strtol((const char *)read.events[i].event.data.data, NULL, 10)] = true;
    stream_read_release(&read);
    for (unsigned i = 0; i < EVENTS; i++)
        assert_true(done[i]);
}

/* What was done while an early event was not is in the checkpoint once that is done, too, also when
 * nothing else is. */
static void test_checkpoint_after_a_late_one(void **state)
{
    struct stream_group_settings settings = settings_from(0);
    settings.checkpoint_after_ms = 1;
    settings.checkpoint_min_count = 5;
    settings.checkpoint_max_count = 9;
    (void)state;
    append("a", 0, 10);
    assert_int_equal(group_call(STREAM_GROUP_CREATE, "a", &settings), STREAM_GROUP_OK);
    struct consumer *consumer = consume("a", 100, NO_ANSWER);
    wait_count(consumer, 10);
    answer(consumer, 1, 9, ACK);
    assert_int_equal(info_of("a").last_checkpoint, -1);
    answer(consumer, 0, 1, ACK);
    while (info_of("a").last_checkpoint < 9)
        ;
    leave(consumer);
}

#ifdef KVS_FAULTS
/* A checkpoint that finds no space is written when there is some, also when no more is done. */
static void test_a_checkpoint_is_tried_again(void **state)
{
    struct stream_group_settings settings = settings_from(0);
    settings.checkpoint_max_count = 3;
    (void)state;
    append("a", 0, 3);
    assert_int_equal(group_call(STREAM_GROUP_CREATE, "a", &settings), STREAM_GROUP_OK);
    fault_arm(FAULT_FILE_SPACE, 1, false);
    struct consumer *consumer = consume("a", 100, ACK);
    wait_count(consumer, 3);
    while (info_of("a").last_checkpoint < 2)
        ;
    fault_reset();
    leave(consumer);
}
#endif

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_info_of_what_is_loaded),
        TEST(test_info_is_for_users),
        TEST(test_rights_of_its_streams),
        TEST(test_calls),
        TEST(test_from_the_begin_and_on),
        TEST(test_a_tick_while_it_is_made),
        TEST(test_from_the_end),
        TEST(test_update_from_the_end),
        TEST(test_a_new_group_has_no_past),
        TEST(test_slots),
        TEST(test_unacknowledged_come_again),
        TEST(test_naks),
        TEST(test_timeout),
        TEST(test_lost_consumers),
        TEST(test_replay),
        TEST(test_parked_of_links),
        TEST(test_round_robin_and_single),
        TEST(test_pinned),
        TEST(test_drops),
        TEST(test_checkpoint_after_a_late_one),
#ifdef KVS_FAULTS
        TEST(test_a_checkpoint_is_tried_again),
#endif
        TEST(test_nothing_is_left_out),
    };
    return stream_tests_run("stream-group", tests, sizeof tests / sizeof tests[0]);
}

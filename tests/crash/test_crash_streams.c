/*
 * What our client was told about groups, users and transactions holds after kill -9: in each round
 * many of them are made, changed or ended at once, the server is killed when some of the calls have
 * been answered, and started again. What was acknowledged is there, what was not is there whole or
 * not at all.
 *
 * A parked event, a password and an open transaction are state, too: parked events are replayed,
 * old passwords refused, and transactions go on under their numbers.
 */
#include "crash/events_world.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

#define THINGS 8 /* of each kind */
#define ROUNDS_DEFAULT 6
#define WRITES_MAX 256
#define PARKED_MAX 64
#define TEXT_MAX 100

static struct events_world world;
static kvs_events *events; /* the world's */

struct text {
    char bytes[TEXT_MAX];
};

static kvs_slice name_in(struct text *room, const char *kind, int i, unsigned generation)
{
    snprintf(room->bytes, TEXT_MAX, "%s-%d-%u", kind, i, generation);
    return kvs_slice_of(room->bytes);
}

static void must(kvs_future *future, const char *what)
{
    if (kvs_future_wait(future, -1) != 0)
        fail_msg("%s: %s", what, kvs_future_error_message(future));
    kvs_future_free(future);
}

/* 0 or `other`: what a question may end with. */
static bool is_there(int error, int other, const char *what)
{
    if (error != 0 && error != other)
        fail_msg("%s: %s", what, kvs_error_text(error));
    return error == 0;
}

/* What came of a call that was under way when the server was killed. */
enum outcome {
    DONE,
    NOT_SENT, /* or refused: it did not happen */
    UNKNOWN,
};

static enum outcome outcome_of(int error, const char *what)
{
    if (error == 0)
        return DONE;
    if (error != KVS_ERR_OUTCOME_UNKNOWN)
        fail_msg("%s: %s", what, kvs_error_text(error));
    return UNKNOWN;
}

/* --- groups ------------------------------------------------------------------------------------
 */

static struct {
    bool exists;
} groups[THINGS];

static kvs_future *group_begin(int i)
{
    struct text room;
    kvs_slice stream = kvs_slice_of("shared"), name = name_in(&room, "group", i, 0);
    kvs_group_settings settings = KVS_GROUP_SETTINGS_INIT;
    return groups[i].exists ? kvs_events_delete_group(events, stream, name, NULL)
                            : kvs_events_create_group(events, stream, name, &settings, NULL);
}

static bool group_is_there(int i)
{
    struct text room;
    kvs_group_settings settings = KVS_GROUP_SETTINGS_INIT;
    int error = wait_and_free(kvs_events_update_group(
        events, kvs_slice_of("shared"), name_in(&room, "group", i, 0), &settings, NULL));
    return is_there(error, KVS_ERR_NOT_FOUND, "question for a group");
}

static void group_end(int i, int error)
{
    enum outcome outcome = outcome_of(error, "group");
    if (outcome == DONE)
        groups[i].exists = !groups[i].exists;
    if (outcome == UNKNOWN)
        groups[i].exists = group_is_there(i);
}

static void group_check(int i)
{
    if (group_is_there(i) != groups[i].exists)
        fail_msg("group %d is %s", i, groups[i].exists ? "lost" : "there again");
}

/* --- users -------------------------------------------------------------------------------------
 */

static struct {
    bool exists, disabled;
    unsigned password; /* its number */
    enum kvs_user_change change;
} users[THINGS];

static kvs_future *user_begin(int i)
{
    struct text login, password;
    static const enum kvs_user_change changes[] = {KVS_USER_PASSWORD, KVS_USER_DISABLE,
                                                   KVS_USER_ENABLE, KVS_USER_DELETE};
    users[i].change = users[i].exists ? changes[rand_below(&world.random, 4)] : KVS_USER_CREATE;
    name_in(&login, "user", i, 0);
    name_in(&password, "password", i, users[i].password + 1);
    const kvs_user user = {
        .login = login.bytes, .full_name = "Somebody", .password = password.bytes};
    return kvs_events_change_user(events, users[i].change, &user, NULL);
}

static bool may_log_in(int i, unsigned number)
{
    struct text login, password;
    name_in(&login, "user", i, 0);
    name_in(&password, "password", i, number);
    const kvs_call_options call = {
        .size = sizeof call, .login = login.bytes, .password = password.bytes};
    int error = wait_and_free(
        kvs_events_read_event(events, kvs_slice_of("shared"), KVS_EVENT_LAST, 0, &call));
    return is_there(error, KVS_ERR_NOT_AUTHENTICATED, "login");
}

/* 0: there; *ret_disabled then says more. */
static int user_get(int i, bool *ret_disabled)
{
    struct text login;
    void *pointer = NULL;
    name_in(&login, "user", i, 0);
    kvs_future *future = kvs_events_get_users(events, login.bytes, NULL);
    int error = kvs_future_wait(future, -1);
    if (error == 0) {
        kvs_future_get_pointer(future, &pointer);
        const kvs_user_list *list = pointer;
        assert_int_equal(list->count, 1);
        *ret_disabled = list->users[0].is_disabled;
    }
    is_there(error, KVS_ERR_NOT_FOUND, "question for a user");
    kvs_future_free(future);
    return error;
}

static void user_apply(int i)
{
    switch (users[i].change) {
    case KVS_USER_CREATE:
        users[i].exists = true;
        users[i].disabled = false;
        users[i].password++;
        break;
    case KVS_USER_PASSWORD:
        users[i].password++;
        break;
    case KVS_USER_DISABLE:
        users[i].disabled = true;
        break;
    case KVS_USER_ENABLE:
        users[i].disabled = false;
        break;
    default:
        users[i].exists = false;
        break;
    }
}

static void user_end(int i, int error)
{
    enum outcome outcome = outcome_of(error, "user");
    if (outcome == DONE)
        user_apply(i);
    if (outcome != UNKNOWN)
        return;
    users[i].exists = user_get(i, &users[i].disabled) == 0;
    if (users[i].exists && may_log_in(i, users[i].password + 1))
        users[i].password++;
}

static void user_check(int i)
{
    bool disabled = false;
    bool there = user_get(i, &disabled) == 0;
    if (there != users[i].exists || (there && disabled != users[i].disabled))
        fail_msg("user %d: there %d, disabled %d", i, there, disabled);
    bool may = users[i].exists && !users[i].disabled;
    assert_int_equal(may_log_in(i, users[i].password), may);
    if (users[i].password > 0)
        assert_false(may_log_in(i, users[i].password - 1));
}

/* --- transactions ------------------------------------------------------------------------------
 */

struct written {
    unsigned count; /* events */
    bool maybe;
};

static struct {
    unsigned generation; /* of the stream */
    bool open, committing;
    int64_t id;
    struct written writes[WRITES_MAX];
    unsigned count;
} transactions[THINGS];

static kvs_future *transaction_write(int i)
{
    struct text rooms[3];
    kvs_new_event new_events[3];
    unsigned count = 1 + (unsigned)rand_below(&world.random, 3);
    for (unsigned k = 0; k < count; k++) {
        snprintf(rooms[k].bytes, TEXT_MAX, "%u.%u", transactions[i].count, k);
        new_events[k] =
            (kvs_new_event){.type = kvs_slice_of("written"), .data = kvs_slice_of(rooms[k].bytes)};
    }
    transactions[i].writes[transactions[i].count++] = (struct written){.count = count};
    return kvs_events_transaction_write(events, transactions[i].id, new_events, count, NULL);
}

/* For sure: one without events leaves no stream when it is committed. */
static bool has_events(int i)
{
    for (unsigned w = 0; w < transactions[i].count; w++)
        if (!transactions[i].writes[w].maybe)
            return true;
    return false;
}

static kvs_future *transaction_begin(int i)
{
    struct text room;
    if (!transactions[i].open)
        return kvs_events_transaction_start(
            events, name_in(&room, "transaction", i, transactions[i].generation),
            KVS_EXPECT_NO_STREAM, NULL);
    transactions[i].committing =
        has_events(i) && (transactions[i].count == WRITES_MAX || rand_below(&world.random, 3) == 0);
    return transactions[i].committing
               ? kvs_events_transaction_commit(events, transactions[i].id, NULL)
               : transaction_write(i);
}

/* Its events are those of the writes that were acknowledged, and whole ones of the others, in
 * order. */
static void stream_check(int i, const kvs_event_page *page)
{
    size_t at = 0;
    for (unsigned w = 0; w < transactions[i].count; w++) {
        const struct written *written = &transactions[i].writes[w];
        struct text first;
        snprintf(first.bytes, TEXT_MAX, "%u.0", w);
        if (written->maybe &&
            (at == page->count || page->events[at].event->data.size != strlen(first.bytes) ||
             memcmp(page->events[at].event->data.data, first.bytes, strlen(first.bytes)) != 0))
            continue;
        for (unsigned k = 0; k < written->count; k++, at++) {
            struct text data;
            snprintf(data.bytes, TEXT_MAX, "%u.%u", w, k);
            if (at >= page->count)
                fail_msg("transaction %d: event %s is lost", i, data.bytes);
            assert_int_equal(page->events[at].event->data.size, strlen(data.bytes));
            assert_memory_equal(page->events[at].event->data.data, data.bytes, strlen(data.bytes));
        }
    }
    assert_int_equal(at, page->count);
}

/* Is it committed? Nothing is seen of one that is not. */
static bool transaction_is_there(int i)
{
    struct text room;
    void *pointer = NULL;
    kvs_future *future = kvs_events_read_stream(
        events, name_in(&room, "transaction", i, transactions[i].generation), 0, 4096, 0, NULL);
    int error = kvs_future_wait(future, -1);
    bool there = is_there(error, KVS_ERR_NO_STREAM, "read of a transaction's stream");
    if (there) {
        kvs_future_get_pointer(future, &pointer);
        stream_check(i, pointer);
    }
    kvs_future_free(future);
    return there;
}

static void transaction_over(int i)
{
    transactions[i].open = transactions[i].committing = false;
    transactions[i].count = 0;
    transactions[i].generation++;
}

static void transaction_end(int i, int error, int64_t number)
{
    enum outcome outcome = outcome_of(error, "transaction");
    if (!transactions[i].open) {
        transactions[i].open = outcome == DONE;
        transactions[i].id = number;
        transactions[i].generation += outcome != DONE;
        return;
    }
    if (!transactions[i].committing) {
        transactions[i].writes[transactions[i].count - 1].maybe = outcome != DONE;
        return;
    }
    bool there = transaction_is_there(i);
    if (outcome == DONE && !there)
        fail_msg("transaction %d was committed, and is lost", i);
    if (there)
        transaction_over(i);
}

static void transaction_check(int i)
{
    if (transaction_is_there(i))
        fail_msg("transaction %d is there without a commit", i);
}

/* What is still open goes on, and is committed. */
static void transaction_finish(int i)
{
    if (!transactions[i].open)
        return;
    if (transactions[i].count < WRITES_MAX)
        must(transaction_write(i), "write to an open transaction");
    must(kvs_events_transaction_commit(events, transactions[i].id, NULL), "commit");
    assert_true(transaction_is_there(i));
    transaction_over(i);
}

/* --- rounds ------------------------------------------------------------------------------------
 */

static void one_round(void)
{
    kvs_future *calls[3][THINGS];
    unsigned wanted = (unsigned)rand_below(&world.random, 3 * THINGS + 1);
    for (int i = 0; i < THINGS; i++) {
        calls[0][i] = group_begin(i);
        calls[1][i] = user_begin(i);
        calls[2][i] = transaction_begin(i);
    }
    /* The first ones in a random order: others are answered meanwhile. */
    while (wanted-- > 0)
        kvs_future_wait(calls[rand_below(&world.random, 3)][rand_below(&world.random, THINGS)], -1);
    server_process_end(&world.server, SIGKILL);
    events_world_start_server(&world);
    for (int i = 0; i < THINGS; i++) {
        int64_t number = -1;
        group_end(i, wait_and_free(calls[0][i]));
        user_end(i, wait_and_free(calls[1][i]));
        int error = kvs_future_wait(calls[2][i], -1);
        kvs_future_get_number(calls[2][i], &number);
        kvs_future_free(calls[2][i]);
        transaction_end(i, error, number);
    }
    for (int i = 0; i < THINGS; i++) {
        group_check(i);
        user_check(i);
        transaction_check(i);
    }
}

static void test_what_was_acknowledged_is_there(void **state)
{
    (void)state;
    const char *wanted = getenv("KVS_TEST_KILLS");
    unsigned rounds = wanted != NULL ? (unsigned)atoi(wanted) : ROUNDS_DEFAULT;
    const kvs_new_event event = {.type = kvs_slice_of("t")};
    must(kvs_events_append(events, kvs_slice_of("shared"), KVS_EXPECT_ANY, &event, 1, NULL),
         "append");
    for (unsigned i = 0; i < rounds; i++)
        one_round();
    for (int i = 0; i < THINGS; i++)
        transaction_finish(i);
}

/* --- parked events -----------------------------------------------------------------------------
 */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned count; /* events given */
    bool given[PARKED_MAX];
    bool parks, ended;
} member = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static bool on_events(kvs_subscription *subscription, const kvs_resolved_event *got, size_t count,
                      void *arg)
{
    (void)arg;
    pthread_mutex_lock(&member.lock);
    for (size_t i = 0; i < count; i++) {
        const kvs_event *event = kvs_original_event(&got[i]);
        if (member.parks)
            kvs_subscription_nak(subscription, &event->id, 1, KVS_NAK_PARK, "not now");
        else
            kvs_subscription_ack(subscription, &event->id, 1);
        bool *given = &member.given[got[i].event->number]; /* not of its link, if it was parked */
        member.count += !*given;
        *given = true;
    }
    pthread_cond_broadcast(&member.changed);
    pthread_mutex_unlock(&member.lock);
    return true;
}

static void on_dropped(kvs_subscription *subscription, int error, const char *why, void *arg)
{
    (void)arg;
    (void)error;
    (void)why;
    kvs_subscription_free(subscription);
    pthread_mutex_lock(&member.lock);
    member.ended = true;
    pthread_cond_broadcast(&member.changed);
    pthread_mutex_unlock(&member.lock);
}

static kvs_subscription *join(bool parks)
{
    static const struct kvs_subscription_handlers handlers = {.on_events = on_events,
                                                              .on_dropped = on_dropped};
    const struct kvs_group_subscribe_options options = {.size = sizeof options,
                                                        .stream = kvs_slice_of("parking"),
                                                        .group = kvs_slice_of("g"),
                                                        .in_flight = PARKED_MAX,
                                                        .manual_ack = true};
    kvs_subscription *subscription = NULL;
    member.parks = parks;
    member.ended = false;
    member.count = 0;
    memset(member.given, 0, sizeof member.given);
    assert_int_equal(kvs_events_subscribe_group(events, &options, &handlers, NULL, &subscription),
                     0);
    return subscription;
}

static void wait_given(unsigned count)
{
    pthread_mutex_lock(&member.lock);
    while (member.count < count)
        pthread_cond_wait(&member.changed, &member.lock);
    pthread_mutex_unlock(&member.lock);
}

static void leave(kvs_subscription *subscription)
{
    kvs_subscription_stop(subscription);
    pthread_mutex_lock(&member.lock);
    while (!member.ended)
        pthread_cond_wait(&member.changed, &member.lock);
    pthread_mutex_unlock(&member.lock);
}

/* How many links the parked stream has. */
static unsigned parked(void)
{
    void *pointer = NULL;
    unsigned count = 0;
    kvs_future *future = kvs_events_read_stream(
        events, kvs_slice_of("$persistentsubscription-parking::g-parked"), 0, 4096, 0, NULL);
    int error = kvs_future_wait(future, -1);
    assert_true(error == 0 || error == KVS_ERR_NO_STREAM);
    if (error == 0) {
        kvs_future_get_pointer(future, &pointer);
        count = (unsigned)((const kvs_event_page *)pointer)->count;
    }
    kvs_future_free(future);
    return count;
}

static void test_parked_events_stay_parked(void **state)
{
    (void)state;
    kvs_new_event list[PARKED_MAX];
    kvs_group_settings settings = KVS_GROUP_SETTINGS_INIT;
    settings.start_from = 0;
    for (unsigned i = 0; i < PARKED_MAX; i++)
        list[i] = (kvs_new_event){.type = kvs_slice_of("t")};
    must(kvs_events_append(events, kvs_slice_of("parking"), KVS_EXPECT_ANY, list, PARKED_MAX, NULL),
         "append");
    must(kvs_events_create_group(events, kvs_slice_of("parking"), kvs_slice_of("g"), &settings,
                                 NULL),
         "create");
    kvs_subscription *subscription = join(true);
    wait_given(PARKED_MAX);
    while (parked() < PARKED_MAX)
        ; /* a refusal has no answer: reading tells when it is safe */
    server_process_end(&world.server, SIGKILL);
    events_world_start_server(&world);
    leave(subscription);
    /* After the restart the last ones may have been given and parked again, but none is lost. */
    assert_true(parked() >= PARKED_MAX);
    subscription = join(false);
    must(kvs_events_replay_parked(events, kvs_slice_of("parking"), kvs_slice_of("g"), NULL),
         "replay");
    wait_given(PARKED_MAX);
    leave(subscription);
}

/* --- the program -------------------------------------------------------------------------------
 */

static int setup(void **state)
{
    (void)state;
    events_world_open(&world, true);
    events = world.events;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return events_world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_acknowledged_is_there),
        cmocka_unit_test(test_parked_events_stay_parked),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

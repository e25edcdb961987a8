/* events_contract.c: see the header. Each test uses streams of its own. */
#include "events_contract.h"
#include "events_patient.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"

static const struct events_kind *kind;
static kvs_runtime *runtime;
static kvs_events *events;

static void expect_error(kvs_future *future, int error)
{
    assert_non_null(future);
    int got = kvs_future_wait(future, -1);
    if (got != error)
        fail_msg("%s (%s) instead of %s", kvs_error_name(got), kvs_future_error_message(future),
                 kvs_error_name(error));
    kvs_future_free(future);
}

static const void *pointer_of(kvs_future *future)
{
    void *pointer = NULL;
    assert_non_null(future);
    if (kvs_future_wait(future, -1) != 0)
        fail_msg("%s: %s", kvs_error_name(kvs_future_error(future)),
                 kvs_future_error_message(future));
    assert_int_equal(kvs_future_get_pointer(future, &pointer), 0);
    return pointer;
}

static int setup(void **state)
{
    (void)state;
    assert_int_equal(kvs_runtime_new(NULL, &runtime), 0);
    const struct kvs_events_options options = events_patient();
    bool is_remote = strncmp(kind->url, "esdb", 4) == 0;
    kvs_future *future = kvs_events_open(runtime, kind->url, is_remote ? &options : NULL);
    events = (kvs_events *)(uintptr_t)pointer_of(future);
    kvs_future_free(future);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(wait_and_free(kvs_events_close(events)), 0);
    kvs_runtime_free(runtime);
    return 0;
}

static kvs_new_event make_event(const char *type, const char *data)
{
    return (kvs_new_event){.id = kvs_event_id_random(),
                           .type = kvs_slice_of(type),
                           .data = kvs_slice_of(data),
                           .metadata = kvs_slice_of("{\"by\":\"me\"}"),
                           .is_json = true};
}

static kvs_future *append_one(const char *stream, int64_t expected, const kvs_new_event *event)
{
    return kvs_events_append(events, kvs_slice_of(stream), expected, event, 1, NULL);
}

/* Appends `count` events with the data "0", "1", ... */
static void fill(const char *stream, int count)
{
    for (int i = 0; i < count; i++) {
        char data[16];
        snprintf(data, sizeof data, "%d", i);
        kvs_new_event event = make_event("filled", data);
        expect_error(append_one(stream, KVS_EXPECT_ANY, &event), 0);
    }
}

/* --- appending ---------------------------------------------------------------------------------
 */

static void test_append_gives_numbers_and_positions(void **state)
{
    (void)state;
    kvs_new_event batch[] = {make_event("a", "1"), make_event("b", "2"), make_event("c", "3")};
    kvs_slice stream = kvs_slice_of("append");
    kvs_future *first = kvs_events_append(events, stream, KVS_EXPECT_NO_STREAM, batch, 3, NULL);
    const kvs_write_result *result = pointer_of(first);
    assert_int_equal(result->first_number, 0);
    assert_int_equal(result->last_number, 2);
    kvs_position before = result->position;
    assert_true(before.commit > 0);
    kvs_new_event event = make_event("d", "4");
    kvs_future *second = append_one("append", 2, &event);
    result = pointer_of(second);
    assert_int_equal(result->first_number, 3);
    assert_true(kvs_position_compare(result->position, before) > 0);
    kvs_future_free(first);
    kvs_future_free(second);
}

static void test_expected_versions(void **state)
{
    (void)state;
    int64_t current = 0;
    kvs_new_event event = make_event("a", "1");
    expect_error(append_one("versions", 5, &event), KVS_ERR_WRONG_EXPECTED_VERSION);
    expect_error(append_one("versions", KVS_EXPECT_EXISTS, &event), KVS_ERR_WRONG_EXPECTED_VERSION);
    expect_error(append_one("versions", KVS_EXPECT_NO_STREAM, &event), 0);
    event = make_event("a", "2");
    expect_error(append_one("versions", KVS_EXPECT_EXISTS, &event), 0);
    event = make_event("a", "3");
    kvs_future *future = append_one("versions", 7, &event);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_WRONG_EXPECTED_VERSION);
    kvs_future_get_number(future, &current);
    assert_int_equal(current, 1);
    kvs_future_free(future);
    expect_error(append_one("versions", KVS_EXPECT_NO_STREAM, &event),
                 KVS_ERR_WRONG_EXPECTED_VERSION);
}

static void test_the_same_event_again_is_written_once(void **state)
{
    (void)state;
    const int64_t expected[] = {KVS_EXPECT_ANY, KVS_EXPECT_NO_STREAM};
    const char *const streams[] = {"again-any", "again-none"};
    for (int i = 0; i < 2; i++) {
        kvs_new_event event = make_event("a", "1");
        for (int turn = 0; turn < 3; turn++) {
            kvs_future *future = append_one(streams[i], expected[i], &event);
            const kvs_write_result *result = pointer_of(future);
            assert_int_equal(result->last_number, 0);
            kvs_future_free(future);
        }
    }
}

static void test_no_events_at_all(void **state)
{
    (void)state;
    kvs_slice stream = kvs_slice_of("nothing");
    expect_error(kvs_events_append(events, stream, KVS_EXPECT_ANY, NULL, 0, NULL), 0);
}

static void test_many_in_flight_keep_their_order(void **state)
{
    (void)state;
    enum { COUNT = 500 };
    static kvs_future *futures[COUNT];
    for (int i = 0; i < COUNT; i++) {
        kvs_new_event event = make_event("a", "x");
        futures[i] = append_one("order", i - 1, &event);
    }
    for (int i = 0; i < COUNT; i++) {
        const kvs_write_result *result = pointer_of(futures[i]);
        assert_int_equal(result->last_number, i);
        kvs_future_free(futures[i]);
    }
}

/* --- reading -----------------------------------------------------------------------------------
 */

static void test_reading_one(void **state)
{
    (void)state;
    kvs_slice stream = kvs_slice_of("one");
    expect_error(kvs_events_read_event(events, stream, 0, 0, NULL), KVS_ERR_NO_STREAM);
    fill("one", 3);
    kvs_future *future = kvs_events_read_event(events, stream, KVS_EVENT_LAST, 0, NULL);
    const kvs_resolved_event *resolved = pointer_of(future);
    const kvs_event *event = kvs_original_event(resolved);
    assert_int_equal(event->number, 2);
    assert_slice_equal(event->stream, "one");
    assert_slice_equal(event->type, "filled");
    assert_slice_equal(event->data, "2");
    assert_slice_equal(event->metadata, "{\"by\":\"me\"}");
    assert_true(event->is_json);
    assert_true(event->created_ms > 1600000000000);
    kvs_future_free(future);
    expect_error(kvs_events_read_event(events, stream, 3, 0, NULL), KVS_ERR_NOT_FOUND);
}

static void test_reading_pages(void **state)
{
    (void)state;
    kvs_slice stream = kvs_slice_of("pages");
    expect_error(kvs_events_read_stream(events, stream, 0, 10, 0, NULL), KVS_ERR_NO_STREAM);
    fill("pages", 25);
    int64_t from = 0, seen = 0;
    for (bool end = false; !end;) {
        kvs_future *future = kvs_events_read_stream(events, stream, from, 10, 0, NULL);
        const kvs_event_page *page = pointer_of(future);
        for (size_t i = 0; i < page->count; i++)
            assert_int_equal(kvs_original_event(&page->events[i])->number, seen++);
        assert_int_equal(page->last_number, 24);
        from = page->next_number;
        end = page->is_end;
        kvs_future_free(future);
    }
    assert_int_equal(seen, 25);
    kvs_future *future =
        kvs_events_read_stream(events, stream, KVS_EVENT_LAST, 10, KVS_READ_BACKWARD, NULL);
    const kvs_event_page *page = pointer_of(future);
    assert_int_equal(page->count, 10);
    assert_int_equal(kvs_original_event(&page->events[0])->number, 24);
    assert_int_equal(page->next_number, 14);
    kvs_future_free(future);
}

static void test_reading_all(void **state)
{
    (void)state;
    fill("all-one", 3);
    fill("all-two", 2);
    kvs_position from = KVS_POSITION_START, last = {-1, -1};
    int seen = 0;
    for (bool end = false; !end;) {
        kvs_future *future = kvs_events_read_all(events, from, 7, 0, NULL, NULL);
        const kvs_event_page *page = pointer_of(future);
        for (size_t i = 0; i < page->count; i++) {
            assert_true(kvs_position_compare(page->events[i].position, last) > 0);
            last = page->events[i].position;
            kvs_slice stream = kvs_original_event(&page->events[i])->stream;
            seen += stream.size == 7 && memcmp(stream.data, "all-", 4) == 0;
        }
        from = page->next_position;
        end = page->is_end;
        kvs_future_free(future);
    }
    assert_int_equal(seen, 5);
    kvs_future *future =
        kvs_events_read_all(events, KVS_POSITION_END, 2, KVS_READ_BACKWARD, NULL, NULL);
    const kvs_event_page *page = pointer_of(future);
    assert_int_equal(page->count, 2);
    assert_int_equal(kvs_position_compare(page->events[0].position, last), 0);
    kvs_future_free(future);
}

static void test_reading_what_fits_a_filter(void **state)
{
    (void)state;
    fill("filter-a", 3);
    fill("other-b", 4);
    kvs_slice pattern = kvs_slice_of("filter-");
    kvs_event_filter filter = {.on = KVS_FILTER_ON_STREAM,
                               .kind = KVS_FILTER_PREFIX,
                               .patterns = &pattern,
                               .patterns_count = 1};
    kvs_position from = KVS_POSITION_START;
    size_t seen = 0;
    for (bool end = false; !end;) {
        kvs_future *future = kvs_events_read_all(events, from, 100, 0, &filter, NULL);
        const kvs_event_page *page = pointer_of(future);
        for (size_t i = 0; i < page->count; i++)
            assert_slice_equal(kvs_original_event(&page->events[i])->stream, "filter-a");
        seen += page->count;
        end = page->is_end;
        from = page->next_position;
        kvs_future_free(future);
    }
    assert_int_equal(seen, 3);
}

static void test_links_are_followed(void **state)
{
    (void)state;
    fill("target", 2);
    kvs_new_event good = {.type = kvs_slice_of("$>"), .data = kvs_slice_of("1@target")};
    kvs_new_event bad = {.type = kvs_slice_of("$>"), .data = kvs_slice_of("9@target")};
    expect_error(append_one("links", KVS_EXPECT_ANY, &good), 0);
    expect_error(append_one("links", KVS_EXPECT_ANY, &bad), 0);
    kvs_future *future =
        kvs_events_read_stream(events, kvs_slice_of("links"), 0, 10, KVS_READ_RESOLVE_LINKS, NULL);
    const kvs_event_page *page = pointer_of(future);
    assert_int_equal(page->count, 2);
    assert_slice_equal(page->events[0].event->stream, "target");
    assert_slice_equal(page->events[0].link->stream, "links");
    assert_int_equal(kvs_original_event(&page->events[0])->number, 0);
    assert_null(page->events[1].event);
    assert_int_equal(page->events[1].link->number, 1);
    kvs_future_free(future);
}

/* --- deleting, metadata, transactions ----------------------------------------------------------
 */

static void test_deleting_softly(void **state)
{
    (void)state;
    kvs_slice stream = kvs_slice_of("soft");
    fill("soft", 3);
    expect_error(kvs_events_delete(events, stream, 7, false, NULL), KVS_ERR_WRONG_EXPECTED_VERSION);
    expect_error(kvs_events_delete(events, stream, 2, false, NULL), 0);
    expect_error(kvs_events_read_stream(events, stream, 0, 10, 0, NULL), KVS_ERR_NO_STREAM);
    kvs_new_event event = make_event("again", "1");
    kvs_future *future = append_one("soft", KVS_EXPECT_NO_STREAM, &event);
    const kvs_write_result *result = pointer_of(future);
    assert_int_equal(result->first_number, 3); /* numbers go on */
    kvs_future_free(future);
}

static void test_deleting_for_good(void **state)
{
    (void)state;
    kvs_slice stream = kvs_slice_of("hard");
    fill("hard", 3);
    expect_error(kvs_events_delete(events, stream, KVS_EXPECT_ANY, true, NULL), 0);
    expect_error(kvs_events_read_stream(events, stream, 0, 10, 0, NULL), KVS_ERR_STREAM_DELETED);
    expect_error(kvs_events_read_event(events, stream, 0, 0, NULL), KVS_ERR_STREAM_DELETED);
    kvs_new_event event = make_event("again", "1");
    expect_error(append_one("hard", KVS_EXPECT_ANY, &event), KVS_ERR_STREAM_DELETED);
    kvs_future *future = kvs_events_get_metadata(events, stream, NULL);
    const kvs_stream_metadata *metadata = pointer_of(future);
    assert_true(metadata->is_deleted);
    kvs_future_free(future);
}

static void test_metadata(void **state)
{
    (void)state;
    kvs_slice stream = kvs_slice_of("meta");
    fill("meta", 10);
    kvs_future *future = kvs_events_get_metadata(events, stream, NULL);
    const kvs_stream_metadata *metadata = pointer_of(future);
    assert_int_equal(metadata->version, -1);
    assert_int_equal(metadata->json.size, 0);
    kvs_future_free(future);
    kvs_slice json = kvs_slice_of("{\"$maxCount\":3,\"mine\":1}");
    expect_error(kvs_events_set_metadata(events, stream, KVS_EXPECT_NO_STREAM, json, NULL), 0);
    future = kvs_events_get_metadata(events, stream, NULL);
    metadata = pointer_of(future);
    assert_int_equal(metadata->version, 0);
    assert_slice_equal(metadata->json, "{\"$maxCount\":3,\"mine\":1}");
    kvs_future_free(future);
    future = kvs_events_read_stream(events, stream, 0, 100, 0, NULL);
    const kvs_event_page *page = pointer_of(future);
    if (page->count == 0) { /* the begin of what is kept is the answer */
        int64_t from = page->next_number;
        kvs_future_free(future);
        future = kvs_events_read_stream(events, stream, from, 100, 0, NULL);
        page = pointer_of(future);
    }
    assert_int_equal(page->count, 3);
    assert_int_equal(kvs_original_event(&page->events[0])->number, 7);
    kvs_future_free(future);
}

static void test_transactions(void **state)
{
    (void)state;
    int64_t transaction = 0;
    kvs_slice stream = kvs_slice_of("transaction");
    kvs_new_event two[] = {make_event("a", "1"), make_event("b", "2")};
    kvs_future *future = kvs_events_transaction_start(events, stream, KVS_EXPECT_NO_STREAM, NULL);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_number(future, &transaction), 0);
    kvs_future_free(future);
    expect_error(kvs_events_transaction_write(events, transaction, two, 2, NULL), 0);
    two[0] = make_event("c", "3");
    expect_error(kvs_events_transaction_write(events, transaction, two, 1, NULL), 0);
    expect_error(kvs_events_read_event(events, stream, 0, 0, NULL), KVS_ERR_NO_STREAM);
    future = kvs_events_transaction_commit(events, transaction, NULL);
    const kvs_write_result *result = pointer_of(future);
    assert_int_equal(result->first_number, 0);
    assert_int_equal(result->last_number, 2);
    kvs_future_free(future);
}

static void test_users(void **state)
{
    (void)state;
    const char *groups[] = {"$ops", "others"};
    kvs_user joe = {.login = "joe",
                    .full_name = "Joe D",
                    .groups = groups,
                    .groups_count = 2,
                    .password = "secret"};
    expect_error(kvs_events_get_users(events, "joe", NULL), KVS_ERR_NOT_FOUND);
    expect_error(kvs_events_change_user(events, KVS_USER_PASSWORD, &joe, NULL), KVS_ERR_NOT_FOUND);
    expect_error(kvs_events_change_user(events, KVS_USER_CREATE, &joe, NULL), 0);
    expect_error(kvs_events_change_user(events, KVS_USER_CREATE, &joe, NULL),
                 KVS_ERR_ALREADY_EXISTS);
    expect_error(kvs_events_change_user(events, KVS_USER_PASSWORD, &joe, NULL), 0);
    /* Who was made so may do something. (In process nobody is asked.) */
    kvs_call_options as_joe = {.size = sizeof as_joe, .login = "joe", .password = "secret"};
    kvs_new_event event = make_event("by joe", "1");
    expect_error(
        kvs_events_append(events, kvs_slice_of("joe's"), KVS_EXPECT_ANY, &event, 1, &as_joe), 0);
    joe.full_name = "Joe Doe";
    expect_error(kvs_events_change_user(events, KVS_USER_UPDATE, &joe, NULL), 0);
    expect_error(kvs_events_change_user(events, KVS_USER_DISABLE, &joe, NULL), 0);
    kvs_future *future = kvs_events_get_users(events, "joe", NULL);
    const kvs_user_list *list = pointer_of(future);
    assert_int_equal(list->count, 1);
    assert_string_equal(list->users[0].full_name, "Joe Doe");
    assert_int_equal(list->users[0].groups_count, 2);
    assert_string_equal(list->users[0].groups[0], "$ops");
    assert_true(list->users[0].is_disabled);
    kvs_future_free(future);
    future = kvs_events_get_users(events, NULL, NULL);
    list = pointer_of(future);
    bool found = false;
    for (size_t i = 0; i < list->count; i++)
        found = found || strcmp(list->users[i].login, "joe") == 0;
    assert_true(found);
    kvs_future_free(future);
    expect_error(kvs_events_change_user(events, KVS_USER_DELETE, &joe, NULL), 0);
    expect_error(kvs_events_get_users(events, "joe", NULL), KVS_ERR_NOT_FOUND);
    /* Another one of his name: nothing of the first is shown again. */
    expect_error(kvs_events_change_user(events, KVS_USER_CREATE, &joe, NULL), 0);
    future = kvs_events_read_stream(events, kvs_slice_of("$user-joe"), 0, 10, 0, NULL);
    const kvs_event_page *page = pointer_of(future);
    assert_int_equal(page->count, 1);
    assert_int_equal(page->events[0].event->number, 4);
    kvs_future_free(future);
    expect_error(kvs_events_change_user(events, KVS_USER_DELETE, &joe, NULL), 0);
}

static void test_scavenging(void **state)
{
    (void)state;
    fill("swept", 5);
    expect_error(kvs_events_delete(events, kvs_slice_of("swept"), KVS_EXPECT_ANY, true, NULL), 0);
    kvs_future *future = kvs_events_scavenge(events, NULL);
    kvs_slice told = {0};
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_value(future, &told), 0);
    assert_true(told.size > 0);
    kvs_future_free(future);
    expect_error(kvs_events_read_stream(events, kvs_slice_of("swept"), 0, 10, 0, NULL),
                 KVS_ERR_STREAM_DELETED);
}

/* --- subscriptions -----------------------------------------------------------------------------
 */

struct watcher {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    kvs_subscription *subscription;
    int64_t next;
    unsigned wrong;
    unsigned count;
    bool keep;
    unsigned kept;
    bool live;
    bool dropped;
    int error;
    kvs_event_id ids[64];
    kvs_position last;
};

static bool on_events(kvs_subscription *subscription, const kvs_resolved_event *got, size_t count,
                      void *arg)
{
    struct watcher *watcher = arg;
    (void)subscription;
    pthread_mutex_lock(&watcher->lock);
    for (size_t i = 0; i < count; i++) {
        const kvs_event *event = kvs_original_event(&got[i]);
        if (event->number != watcher->next && watcher->next >= 0)
            watcher->wrong++;
        if (watcher->next >= 0)
            watcher->next = event->number < KVS_EVENT_DELETED ? event->number + 1 : 0;
        if (watcher->count < 64)
            watcher->ids[watcher->count] = event->id;
        watcher->count++;
        watcher->last = got[i].position;
    }
    bool keep = watcher->keep;
    watcher->kept += keep;
    pthread_cond_broadcast(&watcher->changed);
    pthread_mutex_unlock(&watcher->lock);
    return !keep;
}

static void on_state(kvs_subscription *subscription, enum kvs_subscription_state state, void *arg)
{
    struct watcher *watcher = arg;
    (void)subscription;
    pthread_mutex_lock(&watcher->lock);
    watcher->live = watcher->live || state == KVS_SUBSCRIPTION_LIVE;
    pthread_cond_broadcast(&watcher->changed);
    pthread_mutex_unlock(&watcher->lock);
}

static void on_dropped(kvs_subscription *subscription, int error, const char *why, void *arg)
{
    struct watcher *watcher = arg;
    (void)subscription;
    (void)why;
    pthread_mutex_lock(&watcher->lock);
    assert_false(watcher->dropped);
    watcher->dropped = true;
    watcher->error = error;
    pthread_cond_broadcast(&watcher->changed);
    pthread_mutex_unlock(&watcher->lock);
}

static const struct kvs_subscription_handlers handlers = {
    .on_events = on_events, .on_state = on_state, .on_dropped = on_dropped};

#define await(watcher, condition)                                     \
    do {                                                              \
        pthread_mutex_lock(&(watcher)->lock);                         \
        while (!(condition))                                          \
            pthread_cond_wait(&(watcher)->changed, &(watcher)->lock); \
        pthread_mutex_unlock(&(watcher)->lock);                       \
    } while (0)

static void watcher_init(struct watcher *watcher, int64_t next)
{
    *watcher = (struct watcher){.next = next};
    pthread_mutex_init(&watcher->lock, NULL);
    pthread_cond_init(&watcher->changed, NULL);
}

static void subscribe(struct watcher *watcher, const struct kvs_subscribe_options *options)
{
    int error = kvs_events_subscribe(events, options, &handlers, watcher, &watcher->subscription);
    assert_int_equal(error, 0);
}

static void finish(struct watcher *watcher, int error)
{
    await(watcher, watcher->dropped);
    assert_int_equal(watcher->error, error);
    assert_int_equal(watcher->wrong, 0);
    kvs_subscription_free(watcher->subscription);
}

static void test_a_subscription_catches_up_and_goes_on(void **state)
{
    (void)state;
    struct watcher watcher;
    const struct kvs_subscribe_options options = {
        .size = sizeof options, .stream = kvs_slice_of("sub"), .page_count = 7};
    fill("sub", 30);
    watcher_init(&watcher, 0);
    subscribe(&watcher, &options);
    await(&watcher, watcher.next == 30);
    await(&watcher, watcher.live);
    fill("sub", 20);
    await(&watcher, watcher.next == 50);
    kvs_subscription_stop(watcher.subscription);
    finish(&watcher, 0);
}

static void test_subscriptions_begin_where_they_are_told(void **state)
{
    (void)state;
    struct watcher after, at_end, none;
    struct kvs_subscribe_options options = {.size = sizeof options,
                                            .stream = kvs_slice_of("begin"),
                                            .from = KVS_SUBSCRIBE_AFTER,
                                            .after_number = 4};
    fill("begin", 10);
    watcher_init(&after, 5);
    subscribe(&after, &options);
    options.from = KVS_SUBSCRIBE_FROM_END;
    watcher_init(&at_end, 10);
    subscribe(&at_end, &options);
    options.stream = kvs_slice_of("begin-later"); /* is not there yet */
    options.from = KVS_SUBSCRIBE_FROM_START;
    watcher_init(&none, 0);
    subscribe(&none, &options);
    await(&after, after.live);
    await(&at_end, at_end.live);
    await(&none, none.live);
    fill("begin", 3);
    fill("begin-later", 2);
    await(&after, after.next == 13);
    await(&at_end, at_end.next == 13);
    await(&none, none.next == 2);
    kvs_subscription_stop(after.subscription);
    kvs_subscription_stop(at_end.subscription);
    kvs_subscription_stop(none.subscription);
    finish(&after, 0);
    finish(&at_end, 0);
    finish(&none, 0);
}

static void test_a_kept_batch_holds_the_flow(void **state)
{
    (void)state;
    struct watcher watcher;
    const struct kvs_subscribe_options options = {
        .size = sizeof options, .stream = kvs_slice_of("kept"), .page_count = 4};
    fill("kept", 10);
    watcher_init(&watcher, 0);
    watcher.keep = true;
    subscribe(&watcher, &options);
    for (unsigned turn = 1; watcher.next < 10; turn++) {
        await(&watcher, watcher.kept == turn);
        assert_true(watcher.next <= 4 * (int64_t)turn);
        if (watcher.next < 10)
            kvs_subscription_resume(watcher.subscription);
    }
    kvs_subscription_stop(watcher.subscription); /* with a batch that is kept */
    finish(&watcher, 0);
}

static void test_all_and_filtered_subscriptions(void **state)
{
    (void)state;
    struct watcher all, some;
    kvs_slice pattern = kvs_slice_of("^wanted-");
    const kvs_event_filter filter = {.on = KVS_FILTER_ON_STREAM,
                                     .kind = KVS_FILTER_REGEX,
                                     .patterns = &pattern,
                                     .patterns_count = 1};
    struct kvs_subscribe_options options = {.size = sizeof options, .from = KVS_SUBSCRIBE_FROM_END};
    fill("wanted-1", 2);
    watcher_init(&all, -1);
    subscribe(&all, &options);
    options.from = KVS_SUBSCRIBE_FROM_START;
    options.filter = &filter;
    watcher_init(&some, -1);
    subscribe(&some, &options);
    await(&all, all.live);
    await(&some, some.live);
    assert_int_equal(some.count, 2);
    fill("wanted-2", 3);
    fill("unwanted", 3);
    await(&some, some.count == 5);
    await(&all, all.count >= 6); /* and what links to them */
    kvs_subscription_stop(all.subscription);
    kvs_subscription_stop(some.subscription);
    finish(&all, 0);
    finish(&some, 0);
    /* Right before an event, as a checkpoint may be. */
    options.from = KVS_SUBSCRIBE_AFTER;
    options.after_position = (kvs_position){some.last.commit, some.last.prepare - 1};
    watcher_init(&some, -1);
    subscribe(&some, &options);
    await(&some, some.live);
    assert_int_equal(some.count, 1);
    kvs_subscription_stop(some.subscription);
    finish(&some, 0);
}

static void test_a_deleted_stream_ends_its_subscriptions(void **state)
{
    (void)state;
    struct watcher live, late;
    kvs_slice stream = kvs_slice_of("ending");
    const struct kvs_subscribe_options options = {.size = sizeof options, .stream = stream};
    fill("ending", 3);
    watcher_init(&live, 0);
    subscribe(&live, &options);
    await(&live, live.live && live.next == 3);
    expect_error(kvs_events_delete(events, stream, KVS_EXPECT_ANY, true, NULL), 0);
    await(&live, live.dropped);
    live.wrong = 0; /* the number of the event that deletes is what it is */
    finish(&live, KVS_ERR_STREAM_DELETED);
    watcher_init(&late, -1);
    subscribe(&late, &options);
    finish(&late, KVS_ERR_STREAM_DELETED);
}

static void test_closing_drops(void **state)
{
    (void)state;
    struct watcher watcher;
    const struct kvs_subscribe_options options = {.size = sizeof options,
                                                  .stream = kvs_slice_of("closing")};
    watcher_init(&watcher, 0);
    subscribe(&watcher, &options);
    await(&watcher, watcher.live);
    teardown(NULL);
    finish(&watcher, KVS_ERR_CLOSED);
    setup(NULL);
}

/* --- groups ------------------------------------------------------------------------------------
 */

static void join(struct watcher *watcher, const char *stream, bool manual_ack)
{
    const struct kvs_group_subscribe_options options = {
        .size = sizeof options,
        .stream = kvs_slice_of(stream),
        .group = kvs_slice_of("g"),
        .manual_ack = manual_ack,
        .in_flight = 5,
    };
    watcher_init(watcher, -1);
    int error =
        kvs_events_subscribe_group(events, &options, &handlers, watcher, &watcher->subscription);
    assert_int_equal(error, 0);
}

static void test_groups(void **state)
{
    (void)state;
    struct watcher watcher;
    kvs_slice stream = kvs_slice_of("grouped"), group = kvs_slice_of("g");
    kvs_group_settings settings = KVS_GROUP_SETTINGS_INIT;
    settings.start_from = 0;
    if (!kind->has_groups)
        skip();
    fill("grouped", 12);
    join(&watcher, "grouped", false);
    finish(&watcher, KVS_ERR_NOT_FOUND);
    expect_error(kvs_events_create_group(events, stream, group, &settings, NULL), 0);
    expect_error(kvs_events_create_group(events, stream, group, &settings, NULL),
                 KVS_ERR_ALREADY_EXISTS);
    /* By hand: no more than in_flight come until they are acknowledged. */
    join(&watcher, "grouped", true);
    await(&watcher, watcher.count == 5);
    assert_int_equal(kvs_subscription_ack(watcher.subscription, watcher.ids, 4), 0);
    assert_int_equal(
        kvs_subscription_nak(watcher.subscription, &watcher.ids[4], 1, KVS_NAK_PARK, "of no use"),
        0);
    await(&watcher, watcher.count == 10);
    kvs_subscription_stop(watcher.subscription);
    finish(&watcher, 0);
    /* By itself: the five that were not acknowledged come again, then the last two. */
    join(&watcher, "grouped", false);
    await(&watcher, watcher.count == 7);
    expect_error(kvs_events_update_group(events, stream, group, &settings, NULL), 0);
    fill("grouped", 1);
    await(&watcher, watcher.count >= 8);
    expect_error(kvs_events_delete_group(events, stream, group, NULL), 0);
    finish(&watcher, KVS_ERR_NOT_FOUND);
    expect_error(kvs_events_delete_group(events, stream, group, NULL), KVS_ERR_NOT_FOUND);
}

/* What was parked comes again when it is asked for: over a connection of its own, so we wait until
 * it is parked. */
static void test_what_was_parked_is_replayed(void **state)
{
    (void)state;
    struct watcher watcher, parked;
    kvs_slice stream = kvs_slice_of("refused to all"), group = kvs_slice_of("g");
    kvs_group_settings settings = KVS_GROUP_SETTINGS_INIT;
    const struct kvs_subscribe_options parked_options = {
        .size = sizeof parked_options,
        .stream = kvs_slice_of("$persistentsubscription-refused to all::g-parked")};
    settings.start_from = 0;
    if (!kind->has_groups)
        skip();
    expect_error(kvs_events_replay_parked(events, stream, group, NULL), KVS_ERR_NOT_FOUND);
    expect_error(kvs_events_create_group(events, stream, group, &settings, NULL), 0);
    fill("refused to all", 5);
    join(&watcher, "refused to all", true);
    await(&watcher, watcher.count == 5);
    watcher_init(&parked, 0);
    subscribe(&parked, &parked_options);
    assert_int_equal(kvs_subscription_nak(watcher.subscription, watcher.ids, 5, KVS_NAK_PARK, "no"),
                     0);
    await(&parked, parked.next == 5);
    expect_error(kvs_events_replay_parked(events, stream, group, NULL), 0);
    await(&watcher, watcher.count == 10);
    for (unsigned i = 0; i < 5; i++) /* by their links in the parked stream */
        assert_memory_equal(&watcher.ids[5 + i], &parked.ids[i], sizeof parked.ids[i]);
    assert_int_equal(kvs_subscription_ack(watcher.subscription, &watcher.ids[5], 5), 0);
    kvs_subscription_stop(watcher.subscription);
    finish(&watcher, 0);
    kvs_subscription_stop(parked.subscription);
    finish(&parked, 0);
}

/* What is told of them: by HTTP, so we ask until what happened over TCP has arrived. */
static const kvs_group_info *info_of_told(kvs_future **future)
{
    *future = kvs_events_get_group(events, kvs_slice_of("told"), kvs_slice_of("g"), NULL);
    return pointer_of(*future);
}

static bool is_listed(kvs_slice in_stream, const char *stream)
{
    kvs_future *future = kvs_events_list_groups(events, in_stream, NULL);
    const kvs_group_list *list = pointer_of(future);
    bool found = false;
    for (size_t i = 0; i < list->count; i++)
        found |= list->groups[i].stream.size == strlen(stream) &&
                 memcmp(list->groups[i].stream.data, stream, strlen(stream)) == 0;
    kvs_future_free(future);
    return found;
}

static void expect_settings(const kvs_group_settings *told, const kvs_group_settings *expected)
{
    assert_int_equal(told->size, sizeof *told);
    assert_int_equal(told->resolve_links, expected->resolve_links);
    assert_int_equal(told->extra_statistics, expected->extra_statistics);
    assert_int_equal(told->start_from, expected->start_from);
    assert_int_equal(told->message_timeout_ms, expected->message_timeout_ms);
    assert_int_equal(told->retries_max, expected->retries_max);
    assert_int_equal(told->live_buffer_count, expected->live_buffer_count);
    assert_int_equal(told->history_buffer_count, expected->history_buffer_count);
    assert_int_equal(told->read_batch_count, expected->read_batch_count);
    assert_int_equal(told->checkpoint_after_ms, expected->checkpoint_after_ms);
    assert_int_equal(told->checkpoint_count_min, expected->checkpoint_count_min);
    assert_int_equal(told->checkpoint_count_max, expected->checkpoint_count_max);
    assert_int_equal(told->subscribers_max, expected->subscribers_max);
    assert_string_equal(told->strategy, expected->strategy);
}

/* A member has five of twelve events; then all but the last two are done, one of them parked. */
static void expect_progress(void)
{
    struct watcher watcher;
    kvs_future *future;
    fill("told", 12);
    join(&watcher, "told", true);
    await(&watcher, watcher.count == 5);
    const kvs_group_info *info = info_of_told(&future);
    assert_int_equal(info->summary.last_known, 11);
    assert_int_equal(info->summary.total, 5);
    assert_int_equal(info->summary.in_flight, 5);
    assert_int_equal(info->outstanding, 5);
    assert_int_equal(info->summary.connections_count, 1);
    assert_int_equal(info->connections[0].total, 5);
    assert_int_equal(info->connections[0].in_flight, 5);
    assert_int_equal(info->connections[0].available_slots, 0);
    kvs_future_free(future);

    assert_int_equal(
        kvs_subscription_nak(watcher.subscription, &watcher.ids[4], 1, KVS_NAK_PARK, "no"), 0);
    assert_int_equal(kvs_subscription_ack(watcher.subscription, watcher.ids, 4), 0);
    await(&watcher, watcher.count == 10);
    assert_int_equal(kvs_subscription_ack(watcher.subscription, &watcher.ids[5], 5), 0);
    await(&watcher, watcher.count == 12);
    for (bool known = false; !known;) { /* ten are done, when the fifth has been parked */
        info = info_of_told(&future);
        known = info->parked == 1 && info->summary.last_checkpoint == 9;
        kvs_future_free(future);
    }
    kvs_subscription_stop(watcher.subscription);
    finish(&watcher, 0);
}

static void test_what_groups_are_doing_is_told(void **state)
{
    (void)state;
    kvs_future *future;
    kvs_slice stream = kvs_slice_of("told"), group = kvs_slice_of("g");
    kvs_group_settings settings = {.size = sizeof settings,
                                   .resolve_links = true,
                                   .extra_statistics = true,
                                   .message_timeout_ms = 600001,
                                   .retries_max = 2,
                                   .live_buffer_count = 103,
                                   .history_buffer_count = 104,
                                   .read_batch_count = 5,
                                   .checkpoint_after_ms = 6,
                                   .checkpoint_count_min = 1,
                                   .checkpoint_count_max = 8,
                                   .subscribers_max = 9,
                                   .strategy = "DispatchToSingle"};
    if (!kind->has_groups)
        skip();
    expect_error(kvs_events_get_group(events, stream, group, NULL), KVS_ERR_NOT_FOUND);
    expect_error(kvs_events_get_group(events, stream, (kvs_slice){0}, NULL),
                 KVS_ERR_INVALID_ARGUMENT);
    assert_false(is_listed(stream, "told"));
    assert_false(is_listed((kvs_slice){0}, "told"));
    expect_error(kvs_events_create_group(events, stream, group, &settings, NULL), 0);
    assert_true(is_listed(stream, "told"));
    assert_true(is_listed((kvs_slice){0}, "told"));
    assert_false(is_listed(kvs_slice_of("other"), "told"));

    const kvs_group_info *info = info_of_told(&future);
    expect_settings(&info->settings, &settings);
    assert_int_equal(info->summary.last_known, -1);
    assert_int_equal(info->summary.last_checkpoint, -1);
    assert_int_equal(info->summary.connections_count, 0);
    kvs_future_free(future);

    expect_progress();
    expect_error(kvs_events_delete_group(events, stream, group, NULL), 0);
    assert_false(is_listed(stream, "told"));
}

/* --- opening -----------------------------------------------------------------------------------
 */

static void open_and_close(const char *url, const struct kvs_events_options *options)
{
    kvs_future *future = kvs_events_open(runtime, url, options);
    expect_error(kvs_events_close((kvs_events *)(uintptr_t)pointer_of(future)), 0);
    kvs_future_free(future);
}

static void test_a_directory_that_must_exist(void **state)
{
    (void)state;
    struct kvs_events_options options = events_patient();
    char url[96];
    options.must_exist = true;
    if (strncmp(kind->url, "esdb", 4) == 0 || strcmp(kind->url, "memory:") == 0) {
        open_and_close(kind->url, &options); /* there is none */
        return;
    }
    snprintf(url, sizeof url, "%s/other", kind->url);
    const char *path = strchr(url, ':') + 1;
    expect_error(kvs_events_open(runtime, url, &options), KVS_ERR_NO_DIRECTORY);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(mkdir(path, 0700), 0);
    expect_error(kvs_events_open(runtime, url, &options), KVS_ERR_NO_DIRECTORY);
    /* A program that was built before there was this option makes it; then it is there. */
    options.size = offsetof(struct kvs_events_options, must_exist);
    open_and_close(url, &options);
    options.size = sizeof options;
    open_and_close(url, &options);
}

int events_contract_main(const struct events_kind *the_kind)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_gives_numbers_and_positions),
        cmocka_unit_test(test_expected_versions),
        cmocka_unit_test(test_the_same_event_again_is_written_once),
        cmocka_unit_test(test_no_events_at_all),
        cmocka_unit_test(test_many_in_flight_keep_their_order),
        cmocka_unit_test(test_reading_one),
        cmocka_unit_test(test_reading_pages),
        cmocka_unit_test(test_reading_all),
        cmocka_unit_test(test_reading_what_fits_a_filter),
        cmocka_unit_test(test_links_are_followed),
        cmocka_unit_test(test_deleting_softly),
        cmocka_unit_test(test_deleting_for_good),
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_transactions),
        cmocka_unit_test(test_users),
        cmocka_unit_test(test_scavenging),
        cmocka_unit_test(test_a_subscription_catches_up_and_goes_on),
        cmocka_unit_test(test_subscriptions_begin_where_they_are_told),
        cmocka_unit_test(test_a_kept_batch_holds_the_flow),
        cmocka_unit_test(test_all_and_filtered_subscriptions),
        cmocka_unit_test(test_a_deleted_stream_ends_its_subscriptions),
        cmocka_unit_test(test_closing_drops),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_what_was_parked_is_replayed),
        cmocka_unit_test(test_what_groups_are_doing_is_told),
        cmocka_unit_test(test_a_directory_that_must_exist),
    };
    kind = the_kind;
    return cmocka_run_group_tests(tests, setup, teardown);
}

int events_contract_in_directory(const char *scheme)
{
    char directory[] = "/tmp/kvs-test-XXXXXX";
    char url[64];
    if (mkdtemp(directory) == NULL)
        return 1;
    snprintf(url, sizeof url, "%s:%s", scheme, directory);
    int status = events_contract_main(&(struct events_kind){.url = url, .has_groups = true});
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command) == 0 ? status : 1;
}

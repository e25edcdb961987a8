/*
 * Our own client of event streams, made to do what the other clients do: ../../README.md has the
 * commands. Its every call is tested elsewhere (tests/unit/client); here it reads what others
 * wrote, follows what others append, and is read and followed by them.
 *
 * A call that goes wrong ends its test: it says why, and jumps back to run_test. Only the main
 * thread jumps; what handlers find they leave in their inbox.
 */
#include "client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SHARED_COUNT = 300,
    LINKS_COUNT = 10,
    CALL_SECONDS_MAX = 60,
};

static struct {
    kvs_runtime *runtime;
    kvs_events *events;
    const char *prefix;
    int words_count;
    char **words; /* behind the prefix */
    bool failed;
    char why[TEXT_MAX];
    jmp_buf back;
} test;

/* --- results -----------------------------------------------------------------------------------
 */

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(test.why, sizeof test.why, format, arguments);
    va_end(arguments);
    longjmp(test.back, 1);
}

static void run_test(const char *name, void (*body)(void))
{
    if (setjmp(test.back) == 0) {
        body();
        printf("ok - %s\n", name);
    } else {
        test.failed = true;
        printf("not ok - %s: %s\n", name, test.why);
    }
    fflush(stdout);
}

kvs_events *client_events(void)
{
    return test.events;
}

const char *client_prefix(void)
{
    return test.prefix;
}

long word_number(int i)
{
    CHECK(i < test.words_count, "a word is missing");
    return strtol(test.words[i], NULL, 10);
}

/* The future's error; its owner still frees it. */
static int wait_for(kvs_future *future)
{
    if (future == NULL)
        return KVS_ERR_NO_MEMORY;
    return kvs_future_wait(future, CALL_SECONDS_MAX * 1000LL);
}

kvs_future *must(kvs_future *future)
{
    int error = wait_for(future);
    CHECK(error == 0, "%s", future != NULL ? kvs_future_error_message(future) : "no memory");
    return future;
}

void done(kvs_future *future)
{
    kvs_future_free(must(future));
}

const void *pointer_of(kvs_future *future)
{
    void *pointer = NULL;
    kvs_future_get_pointer(must(future), &pointer);
    return pointer;
}

kvs_slice stream_in(struct text *room, const char *name)
{
    snprintf(room->bytes, TEXT_MAX, "%s-%s", test.prefix, name);
    return kvs_slice_of(room->bytes);
}

static bool is_text(kvs_slice slice, const char *text)
{
    return slice.size == strlen(text) && memcmp(slice.data, text, slice.size) == 0;
}

/* --- events that everybody writes and knows ----------------------------------------------------
 */

/* `room` keeps what the event points to. */
struct shared {
    char type[16], metadata[16];
    uint8_t data[SHARED_COUNT + TEXT_MAX];
};

static kvs_new_event shared_event(struct shared *room, int i)
{
    kvs_new_event event = {.is_json = i % 2 == 0};
    snprintf(room->type, sizeof room->type, "Type%d", i % 5);
    snprintf(room->metadata, sizeof room->metadata, "m%d", i);
    int size = i;
    if (event.is_json)
        size =
            snprintf((char *)room->data, sizeof room->data, "{\"i\":%d,\"text\":\"é€%d\"}", i, i);
    else
        for (int k = 0; k < i; k++)
            room->data[k] = (uint8_t)(i * 7 + k);
    event.type = kvs_slice_of(room->type);
    event.metadata = kvs_slice_of(room->metadata);
    event.data = (kvs_slice){.data = room->data, .size = (size_t)size};
    return event;
}

static bool same(kvs_slice a, kvs_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static bool is_shared(const kvs_event *got, int i)
{
    struct shared room;
    kvs_new_event expected = shared_event(&room, i);
    return got != NULL && got->number == i && got->is_json == expected.is_json &&
           same(got->type, expected.type) && same(got->data, expected.data) &&
           same(got->metadata, expected.metadata);
}

kvs_new_event number_event(struct text *room, int64_t n)
{
    snprintf(room->bytes, TEXT_MAX, "{\"n\":%lld}", (long long)n);
    return (kvs_new_event){
        .type = kvs_slice_of("Happened"), .data = kvs_slice_of(room->bytes), .is_json = true};
}

static int64_t number_in(const kvs_event *event)
{
    char text[TEXT_MAX];
    long long n = -1;
    snprintf(text, sizeof text, "%.*s", (int)event->data.size, (const char *)event->data.data);
    return sscanf(text, "{\"n\":%lld}", &n) == 1 ? n : -1;
}

/* --- write and read ----------------------------------------------------------------------------
 */

static void write_events(void)
{
    struct text stream;
    for (int i = 0; i < SHARED_COUNT; i++) {
        struct shared room;
        kvs_new_event event = shared_event(&room, i);
        done(kvs_events_append(test.events, stream_in(&stream, "shared"), i - 1, &event, 1, NULL));
    }
}

static void leave_links(void)
{
    struct text stream, targets[LINKS_COUNT + 1];
    kvs_new_event links[LINKS_COUNT + 1];
    for (int i = 0; i <= LINKS_COUNT; i++) {
        snprintf(targets[i].bytes, TEXT_MAX, "%d@%s-shared", i < LINKS_COUNT ? i * 7 : 999,
                 test.prefix);
        links[i] =
            (kvs_new_event){.type = kvs_slice_of("$>"), .data = kvs_slice_of(targets[i].bytes)};
    }
    done(kvs_events_append(test.events, stream_in(&stream, "links"), KVS_EXPECT_NO_STREAM, links,
                           LINKS_COUNT + 1, NULL));
}

static void leave(void)
{
    struct text stream, rooms[2];
    kvs_group_settings settings = KVS_GROUP_SETTINGS_INIT;
    settings.start_from = 0;
    leave_links();
    done(kvs_events_set_metadata(test.events, stream_in(&stream, "shared"), KVS_EXPECT_NO_STREAM,
                                 kvs_slice_of("{\"$maxCount\":1000,\"of\":\"interop\"}"), NULL));
    done(kvs_events_create_group(test.events, stream_in(&stream, "shared"), kvs_slice_of("g"),
                                 &settings, NULL));
    kvs_future *started = must(kvs_events_transaction_start(test.events, stream_in(&stream, "open"),
                                                            KVS_EXPECT_NO_STREAM, NULL));
    int64_t transaction = -1;
    kvs_future_get_number(started, &transaction);
    kvs_future_free(started);
    const kvs_new_event events[2] = {number_event(&rooms[0], 0), number_event(&rooms[1], 1)};
    done(kvs_events_transaction_write(test.events, transaction, events, 2, NULL));
    printf("transaction %lld\n", (long long)transaction);
}

static void finish(void)
{
    struct text rooms[3];
    kvs_new_event events[3];
    int64_t transaction = word_number(0);
    for (int i = 0; i < 3; i++)
        events[i] = number_event(&rooms[i], i + 2);
    done(kvs_events_transaction_write(test.events, transaction, events, 3, NULL));
    kvs_future *committed = kvs_events_transaction_commit(test.events, transaction, NULL);
    const kvs_write_result *wrote = pointer_of(committed);
    CHECK(wrote->last_number == 4, "the last number is %lld", (long long)wrote->last_number);
    kvs_future_free(committed);
}

static void read_events(void)
{
    struct text stream;
    for (int from = 0; from < SHARED_COUNT; from += 100) {
        kvs_future *future =
            kvs_events_read_stream(test.events, stream_in(&stream, "shared"), from, 100, 0, NULL);
        const kvs_event_page *page = pointer_of(future);
        CHECK(page->count == 100, "%zu events from %d on", page->count, from);
        for (int i = 0; i < 100; i++)
            CHECK(is_shared(page->events[i].event, from + i), "event %d", from + i);
        kvs_future_free(future);
    }
}

static void find(void)
{
    struct text stream;
    kvs_future *future = kvs_events_read_stream(test.events, stream_in(&stream, "links"), 0, 100,
                                                KVS_READ_RESOLVE_LINKS, NULL);
    const kvs_event_page *links = pointer_of(future);
    CHECK(links->count == LINKS_COUNT + 1, "%zu links", links->count);
    for (int i = 0; i < LINKS_COUNT; i++)
        CHECK(is_shared(links->events[i].event, i * 7) && links->events[i].link->number == i,
              "link %d", i);
    CHECK(links->events[LINKS_COUNT].event == NULL, "the link to nothing leads somewhere");
    kvs_future_free(future);
    future = kvs_events_get_metadata(test.events, stream_in(&stream, "shared"), NULL);
    const kvs_stream_metadata *metadata = pointer_of(future);
    char json[TEXT_MAX];
    snprintf(json, sizeof json, "%.*s", (int)metadata->json.size,
             (const char *)metadata->json.data);
    CHECK(strstr(json, "\"$maxCount\"") != NULL && strstr(json, "1000") != NULL &&
              strstr(json, "\"interop\"") != NULL,
          "metadata %s", json);
    kvs_future_free(future);
    future = kvs_events_read_stream(test.events, stream_in(&stream, "open"), 0, 10, 0, NULL);
    const kvs_event_page *open = pointer_of(future);
    CHECK(open->count == 5, "%zu events of the transaction", open->count);
    for (int i = 0; i < 5; i++)
        CHECK(number_in(open->events[i].event) == i, "event %d of the transaction", i);
    kvs_future_free(future);
}

/* --- groups and subscriptions ------------------------------------------------------------------
 */

static void on_dropped(kvs_subscription *subscription, int error, const char *why, void *arg)
{
    (void)subscription;
    inbox_end(arg, error, why);
}

static void on_state(kvs_subscription *subscription, enum kvs_subscription_state state, void *arg)
{
    (void)subscription;
    if (state == KVS_SUBSCRIPTION_LIVE)
        inbox_live(arg);
}

/* Of a group: takes the wanted ones, and no more. */
static bool on_given(kvs_subscription *subscription, const kvs_resolved_event *given, size_t count,
                     void *arg)
{
    struct inbox *inbox = arg;
    for (size_t i = 0; i < count; i++) {
        const kvs_event *event = kvs_original_event(&given[i]);
        if (!inbox_put_up_to_wanted(inbox,
                                    is_shared(event, (int)event->number) ? event->number : -1))
            break;
        kvs_subscription_ack(subscription, &event->id, 1);
        printf("took %lld\n", (long long)event->number);
    }
    return true;
}

static void take(void)
{
    static const struct kvs_subscription_handlers handlers = {.on_events = on_given,
                                                              .on_dropped = on_dropped};
    struct text stream;
    static struct inbox inbox;
    const struct kvs_group_subscribe_options options = {.size = sizeof options,
                                                        .stream = stream_in(&stream, "shared"),
                                                        .group = kvs_slice_of("g"),
                                                        .in_flight = 10,
                                                        .manual_ack = true};
    inbox_init(&inbox, word_number(0));
    int error =
        kvs_events_subscribe_group(test.events, &options, &handlers, &inbox, &inbox.subscription);
    CHECK(error == 0, "%s", kvs_error_text(error));
    inbox_wait(&inbox);
    inbox_stop(&inbox);
}

static bool on_followed(kvs_subscription *subscription, const kvs_resolved_event *got, size_t count,
                        void *arg)
{
    char stream[TEXT_MAX];
    (void)subscription;
    snprintf(stream, sizeof stream, "%s-follow", test.prefix);
    for (size_t i = 0; i < count; i++) {
        const kvs_event *event = kvs_original_event(&got[i]);
        if (is_text(event->stream, stream))
            inbox_put(arg, number_in(event));
    }
    return true;
}

/* By its stream, by the log, and only what is new: the first `kinds` of these. */
static void follow_by(int kinds)
{
    static const struct kvs_subscription_handlers handlers = {
        .on_events = on_followed, .on_state = on_state, .on_dropped = on_dropped};
    static struct inbox inboxes[3];
    struct text stream;
    struct kvs_subscribe_options options[3] = {
        {.stream = stream_in(&stream, "follow")},
        {.stream = {0}},
        {.stream = stream_in(&stream, "follow"),
         .from = KVS_SUBSCRIBE_FROM_END,
         .is_volatile = true},
    };
    for (int i = 0; i < kinds; i++) {
        options[i].size = sizeof options[i];
        inbox_init(&inboxes[i], word_number(0));
        int error = kvs_events_subscribe(test.events, &options[i], &handlers, &inboxes[i],
                                         &inboxes[i].subscription);
        CHECK(error == 0, "%s", kvs_error_text(error));
    }
    for (int i = 0; i < kinds; i++)
        inbox_wait_live(&inboxes[i]);
    printf("ready\n");
    fflush(stdout);
    for (int i = 0; i < kinds; i++) {
        inbox_wait(&inboxes[i]);
        inbox_in_order(&inboxes[i]);
        inbox_stop(&inboxes[i]);
    }
}

static void follow(void)
{
    follow_by(3);
}

/* A volatile subscription would end: it does not wait for a process that was stopped. */
static void outlast(void)
{
    follow_by(2);
}

static void feed(void)
{
    long from = word_number(0), count = word_number(1);
    for (long n = from; n < from + count; n++) {
        struct text stream, room;
        kvs_new_event event = number_event(&room, n);
        done(kvs_events_append(test.events, stream_in(&stream, "follow"), n - 1, &event, 1, NULL));
    }
}

/* HOST:PORT was asked by HTTP where to go. */
static void discover(void)
{
    struct text stream, room;
    kvs_new_event event = number_event(&room, 7);
    done(kvs_events_append(test.events, stream_in(&stream, "found"), KVS_EXPECT_NO_STREAM, &event,
                           1, NULL));
    kvs_future *future =
        kvs_events_read_event(test.events, stream_in(&stream, "found"), 0, 0, NULL);
    const kvs_resolved_event *got = pointer_of(future);
    CHECK(number_in(got->event) == 7, "another event");
    kvs_future_free(future);
}

/* --- the program -------------------------------------------------------------------------------
 */

static const struct command {
    const char *name;
    const char *tests[2];
    void (*bodies[2])(void);
} commands[] = {
    {"write",
     {"write what others read", "leave links, metadata, a group and an open transaction"},
     {write_events, leave}},
    {"read",
     {"read what others wrote", "links, metadata and a transaction of others"},
     {read_events, find}},
    {"finish", {"finish a transaction that another has begun"}, {finish}},
    {"take", {"take events of a group"}, {take}},
    {"follow", {"follow what others append"}, {follow}},
    {"outlast", {"catch-up subscriptions of a process that was stopped"}, {outlast}},
    {"feed", {"append what others follow"}, {feed}},
    {"discover", {"found by gossip"}, {discover}},
    {"load", {"appends and subscriptions through restarts"}, {load}},
};

static void open_events(const char *address, bool by_gossip)
{
    char url[TEXT_MAX];
    void *pointer = NULL;
    struct kvs_events_options options = {.size = sizeof options, .timeout_ms = 60000};
    for (int i = 0; i + 1 < test.words_count; i++)
        if (strcmp(test.words[i], "tls") == 0) {
            options.tls = true;
            options.tls_ca = test.words[i + 1];
        }
    snprintf(url, sizeof url, "esdb%s://admin:changeit@%s", by_gossip ? "+discover" : "", address);
    kvs_future *future = kvs_events_open(test.runtime, url, &options);
    if (wait_for(future) != 0) {
        printf("not ok - open: %s\n", kvs_future_error_message(future));
        exit(1);
    }
    kvs_future_get_pointer(future, &pointer);
    kvs_future_free(future);
    test.events = pointer;
}

int main(int argc, char **argv)
{
    const size_t count = sizeof commands / sizeof commands[0];
    size_t chosen = 0;
    while (argc >= 4 && chosen < count && strcmp(argv[1], commands[chosen].name) != 0)
        chosen++;
    if (argc < 4 || chosen == count) {
        fprintf(stderr, "usage: client COMMAND HOST:PORT PREFIX [WORD ...] [tls CERTIFICATE]\n");
        return 2;
    }
    test.prefix = argv[3];
    test.words = argv + 4;
    test.words_count = argc - 4;
    if (kvs_runtime_new(NULL, &test.runtime) != 0)
        return 1;
    open_events(argv[2], strcmp(argv[1], "discover") == 0);
    for (int i = 0; i < 2 && commands[chosen].tests[i] != NULL; i++)
        run_test(commands[chosen].tests[i], commands[chosen].bodies[i]);
    kvs_future *closed = kvs_events_close(test.events);
    kvs_future_wait(closed, -1);
    kvs_future_free(closed);
    kvs_runtime_free(test.runtime);
    return test.failed ? 1 : 0;
}

/*
 * The client of event streams against a server that says anything: answers of the right form and no
 * sense, to the wrong call, twice, cut off, of enormous length, or none. Whatever comes, each call
 * ends, each subscription is dropped once, and the client can be closed.
 */
#include "base/bytes.h"
#include "base/rand.h"
#include "es_script.h"
#include "proto/protobuf.h"

#include <kvs/events.h>
#include <kvs/kvs.h>
#include <stdio.h>
#include <string.h>

#include "seed.h"
#include "test.h"
#include "times.h"

#define ROUNDS TIMES(30, 20, 10)
#define CALLS 40
#define SUBSCRIPTIONS 5
#define END_MS 60000

static uint64_t seed;
static kvs_runtime *runtime;
static struct scripted_server server;

/* --- the server: what it says ------------------------------------------------------------------
 */

static int64_t any_number(struct rand *rand)
{
    static const int64_t edges[] = {0, 1, 2, -1, -2, INT64_MAX, INT64_MIN, INT32_MAX, INT32_MIN};
    uint64_t choice = rand_below(rand, 20);
    if (choice < 9)
        return edges[choice];
    return choice < 18 ? (int64_t)rand_below(rand, 200) : (int64_t)rand_u64(rand);
}

static void put_varint(struct buf *out, uint64_t value)
{
    uint8_t bytes[10];
    buf_append(out, bytes, (size_t)(protobuf_put_varint(bytes, value) - bytes));
}

static void put_bytes(struct buf *out, uint8_t number, kvs_slice bytes)
{
    put_varint(out, (uint64_t)number << 3 | 2);
    put_varint(out, bytes.size);
    buf_append_slice(out, bytes);
}

static void put_text(struct buf *out, uint8_t number, struct rand *rand)
{
    static const char *const texts[] = {
        "",    "s",    "$users", "happened",
        "ann", "s::g", "{}",     "{\"loginName\":\"ann\",\"groups\":[1,\"a\"]}"};
    uint8_t id[16];
    for (unsigned i = 0; i < sizeof id; i++)
        id[i] = (uint8_t)rand_u64(rand);
    uint64_t choice = rand_below(rand, 12);
    put_bytes(out, number,
              choice < 8 ? slice_of_string(texts[choice]) : slice_make(id, choice < 11 ? 16 : 5));
}

static void put_message(struct buf *out, const struct es_message_type *type, struct rand *rand);

static void put_field(struct buf *out, const struct es_field *field, struct rand *rand)
{
    switch (field->kind) {
    case ES_KIND_BYTES:
    case ES_KIND_TEXTS:
        put_text(out, field->number, rand);
        break;
    case ES_KIND_MESSAGE:
    case ES_KIND_MESSAGES: {
        struct buf inner = BUF_INIT;
        put_message(&inner, field->type, rand);
        put_bytes(out, field->number, buf_slice(&inner));
        buf_deinit(&inner);
        break;
    }
    default:
        put_varint(out, (uint64_t)field->number << 3);
        put_varint(out, field->kind == ES_KIND_INT64 ? (uint64_t)any_number(rand)
                        : rand_below(rand, 4) > 0    ? rand_below(rand, 3)
                                                     : (uint64_t)any_number(rand));
    }
}

static void put_message(struct buf *out, const struct es_message_type *type, struct rand *rand)
{
    for (uint8_t i = 0; i < type->count; i++) {
        const struct es_field *field = &type->fields[i];
        bool many = field->kind == ES_KIND_MESSAGES || field->kind == ES_KIND_TEXTS;
        uint64_t times = many ? rand_below(rand, 4) : rand_below(rand, 12) > 0;
        for (; times > 0; times--)
            put_field(out, field, rand);
    }
}

/* Whom to ask instead: this one again, or nobody. */
static void put_not_handled(struct buf *out, struct scripted_server *self, struct rand *rand)
{
    struct buf info = BUF_INIT;
    const struct es_leader_info leader = {
        .external_tcp_address = slice_of_string("127.0.0.1"),
        .has_external_tcp_port = true,
        .external_tcp_port = rand_below(rand, 8) > 0 ? self->port : 1,
        .http_address = slice_of_string("127.0.0.1"),
    };
    es_message_append(&info, &es_leader_info_type, &leader);
    const struct es_not_handled wire = {.reason = (int64_t)rand_below(rand, 4),
                                        .additional_info = buf_slice(&info)};
    es_message_append(out, &es_not_handled_type, &wire);
    buf_deinit(&info);
}

static uint8_t any_command(const struct es_frame *asked, struct rand *rand)
{
    uint64_t choice = rand_below(rand, 40);
    if (choice < 24) /* the one that belongs to it */
        return asked->command == ES_FILTERED_READ_ALL_BACKWARD ? (uint8_t)(asked->command + 2)
               : asked->command == ES_FILTERED_SUBSCRIBE ? (uint8_t)ES_SUBSCRIPTION_CONFIRMATION
                                                         : (uint8_t)(asked->command + 1);
    if (choice < 36) {
        static const uint8_t pushed[] = {ES_STREAM_EVENT_APPEARED, ES_SUBSCRIPTION_DROPPED,
                                         ES_GROUP_EVENT_APPEARED,  ES_SUBSCRIPTION_CONFIRMATION,
                                         ES_CHECKPOINT_REACHED,    ES_NOT_HANDLED};
        return pushed[choice % sizeof pushed];
    }
    return (uint8_t)rand_u64(rand);
}

/* False: the connection is to end. */
static bool say_anything(struct scripted_server *self, const struct es_frame *asked,
                         const struct es_id *id, struct rand *rand)
{
    struct buf body = BUF_INIT;
    struct buf out = BUF_INIT;
    uint8_t command = any_command(asked, rand);
    const struct es_command_info *info = es_command_info(command);
    if (command == ES_NOT_HANDLED)
        put_not_handled(&body, self, rand);
    else if (info != NULL && info->body != NULL)
        put_message(&body, info->body, rand);
    for (uint64_t flips = rand_below(rand, 8) == 0 ? 3 : 0; flips > 0 && body.size > 0; flips--)
        body.data[rand_below(rand, body.size)] = (uint8_t)rand_u64(rand);
    es_frame_append(&out, command, id, NULL, buf_slice(&body));
    bool goes_on = true;
    if (rand_below(rand, 60) == 0) { /* half of it, and the end */
        out.size = rand_below(rand, out.size);
        goes_on = false;
    } else if (rand_below(rand, 100) == 0) {
        put_u32(out.data, (uint32_t)rand_u64(rand)); /* another length */
    }
    buf_deinit(&body);
    return script_send_buf(self, &out) && goes_on;
}

static void script_says_anything(struct scripted_server *self, unsigned number)
{
    struct rand rand = rand_seed(seed * 1000003 + number);
    struct es_frame frame;
    struct es_id ids[16] = {0};
    if (rand_below(&rand, 10) == 0 || !es_script_greet(self))
        return;
    for (unsigned turn = 0; rand_below(&rand, 200) > 0 && es_script_read(self, &frame); turn++) {
        ids[turn % 16] = frame.correlation;
        for (uint64_t words = rand_below(&rand, 4); words > 0; words--) {
            uint64_t which = rand_below(&rand, 4) > 0 ? turn % 16 : rand_below(&rand, 16);
            if (!say_anything(self, &frame, &ids[which], &rand))
                return;
        }
    }
}

/* --- the client --------------------------------------------------------------------------------
 */

struct listener {
    kvs_subscription *subscription;
    atomic_bool kept;
    atomic_int dropped;
    struct rand rand;
};

static bool on_events(kvs_subscription *subscription, const kvs_resolved_event *events,
                      size_t count, void *arg)
{
    struct listener *listener = arg;
    (void)subscription;
    assert_int_equal(atomic_load(&listener->dropped), 0);
    for (size_t i = 0; i < count; i++)
        assert_non_null(kvs_original_event(&events[i]));
    if (rand_below(&listener->rand, 3) > 0)
        return true;
    atomic_store(&listener->kept, true);
    return false;
}

static void on_state(kvs_subscription *subscription, enum kvs_subscription_state state, void *arg)
{
    struct listener *listener = arg;
    (void)subscription;
    (void)state;
    assert_int_equal(atomic_load(&listener->dropped), 0);
}

static void on_checkpoint(kvs_subscription *subscription, kvs_position position, void *arg)
{
    struct listener *listener = arg;
    (void)subscription;
    (void)position;
    assert_int_equal(atomic_load(&listener->dropped), 0);
}

static void on_dropped(kvs_subscription *subscription, int error, const char *why, void *arg)
{
    struct listener *listener = arg;
    (void)subscription;
    (void)error;
    assert_non_null(why);
    assert_int_equal(atomic_fetch_add(&listener->dropped, 1), 0);
}

static const struct kvs_subscription_handlers handlers = {on_events, on_state, on_checkpoint,
                                                          on_dropped};

static void subscribe(kvs_events *events, struct listener *listener, struct rand *rand)
{
    static const kvs_slice prefix = {(const uint8_t *)"s", 1};
    static const kvs_event_filter filter = {
        .kind = KVS_FILTER_PREFIX, .patterns = &prefix, .patterns_count = 1};
    struct kvs_subscribe_options options = {.size = sizeof options,
                                            .from = (enum kvs_subscribe_from)rand_below(rand, 3),
                                            .page_count = 4,
                                            .buffer_count = 4};
    uint64_t kind = rand_below(rand, 4);
    *listener = (struct listener){.rand = rand_seed(rand_u64(rand))};
    options.stream = kind == 1 ? kvs_slice_of("s") : (kvs_slice){0};
    options.filter = kind == 2 ? &filter : NULL;
    options.is_volatile = options.from == KVS_SUBSCRIBE_FROM_END && rand_below(rand, 2) == 0;
    const struct kvs_group_subscribe_options group = {
        .size = sizeof group, .stream = kvs_slice_of("s"), .group = kvs_slice_of("g")};
    int error = kind == 3 ? kvs_events_subscribe_group(events, &group, &handlers, listener,
                                                       &listener->subscription)
                          : kvs_events_subscribe(events, &options, &handlers, listener,
                                                 &listener->subscription);
    assert_int_equal(error, 0);
}

static kvs_future *any_call(kvs_events *events, struct rand *rand)
{
    const kvs_new_event event = {.type = kvs_slice_of("t"), .data = kvs_slice_of("{}")};
    const kvs_call_options options = {.size = sizeof options,
                                      .timeout_ms = 1 + (uint32_t)rand_below(rand, 300)};
    const kvs_group_settings settings = KVS_GROUP_SETTINGS_INIT;
    const kvs_user user = {.login = "ann", .full_name = "A", .password = "x"};
    kvs_slice s = kvs_slice_of("s"), g = kvs_slice_of("g");
    switch (rand_below(rand, 14)) {
    case 0:
        return kvs_events_append(events, s, (int64_t)rand_below(rand, 3) - 2, &event, 1, &options);
    case 1:
        return kvs_events_delete(events, s, KVS_EXPECT_ANY, false, &options);
    case 2:
        return kvs_events_transaction_start(events, s, KVS_EXPECT_ANY, &options);
    case 3:
        return kvs_events_transaction_commit(events, 5, &options);
    case 4:
        return kvs_events_read_event(events, s, KVS_EVENT_LAST, 0, &options);
    case 5:
        return kvs_events_read_stream(events, s, 0, 10, 0, &options);
    case 6:
        return kvs_events_read_all(events, KVS_POSITION_START, 10, 0, NULL, &options);
    case 7:
        return kvs_events_get_metadata(events, s, &options);
    case 8:
        return kvs_events_set_metadata(events, s, -2, kvs_slice_of("{}"), &options);
    case 9:
        return kvs_events_create_group(events, s, g, &settings, &options);
    case 10:
        return kvs_events_get_users(events, rand_below(rand, 2) == 0 ? "ann" : NULL, &options);
    case 11:
        return kvs_events_change_user(
            events, (enum kvs_user_change)(1 + rand_below(rand, KVS_USER_DELETE)), &user, &options);
    case 12:
        return kvs_events_scavenge(events, &options);
    default:
        return kvs_events_ping(events, &options);
    }
}

static void finish(kvs_future *future, const char *what)
{
    assert_non_null(future);
    kvs_future_wait(future, END_MS);
    if (!kvs_future_is_ready(future))
        fail_msg("seed %llu: a %s does not end", (unsigned long long)seed, what);
    kvs_future_error_message(future);
    kvs_future_free(future);
}

static void resume_some(struct listener *listeners, struct rand *rand)
{
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++) {
        struct listener *listener = &listeners[i];
        kvs_event_id id = {0};
        if (atomic_exchange(&listener->kept, false))
            kvs_subscription_resume(listener->subscription);
        if (rand_below(rand, 20) == 0)
            kvs_subscription_stop(listener->subscription);
        kvs_subscription_ack(listener->subscription, &id, 1);
    }
}

static void use(kvs_events *events, struct rand *rand)
{
    struct listener listeners[SUBSCRIPTIONS];
    kvs_future *calls[CALLS];
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++)
        subscribe(events, &listeners[i], rand);
    for (unsigned i = 0; i < CALLS; i++) {
        calls[i] = any_call(events, rand);
        if (rand_below(rand, 10) == 0)
            kvs_future_cancel(calls[i]);
        if (rand_below(rand, 4) == 0)
            kvs_future_wait(calls[i], 20);
        resume_some(listeners, rand);
    }
    bool waits = rand_below(rand, 2) == 0;
    for (unsigned i = 0; i < CALLS && waits; i++)
        finish(calls[i], "call");
    finish(kvs_events_close(events), "close");
    for (unsigned i = 0; i < CALLS && !waits; i++)
        finish(calls[i], "call of one that is closed");
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++) {
        assert_int_equal(atomic_load(&listeners[i].dropped), 1);
        kvs_subscription_free(listeners[i].subscription);
    }
}

static void test_a_server_that_says_anything(void **state)
{
    (void)state;
    uint64_t first = test_seed();
    const struct kvs_events_options options = {.size = sizeof options,
                                               .timeout_ms = 500,
                                               .attempt_timeout_ms = 40,
                                               .connect_timeout_ms = 500,
                                               .heartbeat_interval_ms = 100,
                                               .heartbeat_timeout_ms = 100};
    for (seed = first; seed < first + ROUNDS; seed++) {
        struct rand rand = rand_seed(seed);
        assert_int_equal(kvs_runtime_new(NULL, &runtime), 0);
        scripted_server_start(&server, script_says_anything);
        kvs_future *open = kvs_events_open(runtime, es_script_url(&server, ""), &options);
        void *events = NULL;
        if (kvs_future_wait(open, END_MS) == 0)
            kvs_future_get_pointer(open, &events);
        finish(open, "opening");
        if (events != NULL)
            use(events, &rand);
        scripted_server_stop(&server);
        kvs_runtime_free(runtime);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_server_that_says_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

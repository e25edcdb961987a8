/*
 * Frames of the EventStoreDB protocol, split at every byte and merged at random; ids as text; the
 * table of commands; heartbeats by the clock.
 */
#include "base/mem.h"
#include "base/rand.h"
#include "proto/eventstore/commands.h"
#include "proto/eventstore/heartbeat.h"

#include <kvs/error.h>

#include "test.h"

#define SEED 20260215u
#define FRAMES 200

static int print_seed(void **state)
{
    (void)state;
    print_message("# seed %u\n", SEED);
    return 0;
}

static struct es_id random_id(struct rand *rand)
{
    struct es_id id;
    for (unsigned i = 0; i < 16; i++)
        id.bytes[i] = (uint8_t)rand_u64(rand);
    return id;
}

struct expected {
    uint8_t command;
    struct es_id correlation;
    bool has_credentials;
    kvs_slice login, password, body;
};

/* A stream of frames: what is in `bytes` says all.expected. */
static void make_frames(struct rand *rand, struct expected expected[FRAMES], struct buf *bytes)
{
    static const uint8_t text[300] = "some bytes";
    for (unsigned i = 0; i < FRAMES; i++) {
        struct expected *one = &expected[i];
        one->command = (uint8_t)rand_u64(rand);
        one->correlation = random_id(rand);
        one->has_credentials = rand_below(rand, 3) == 0;
        one->login = slice_make(text, 1 + rand_below(rand, 255));
        one->password = slice_make(text + 1, rand_below(rand, 256));
        one->body = slice_make(text, rand_below(rand, sizeof text));
        struct es_credentials credentials = {.login = one->login, .password = one->password};
        assert_int_equal(es_frame_append(bytes, one->command, &one->correlation,
                                         one->has_credentials ? &credentials : NULL, one->body),
                         0);
    }
}

static void assert_frame(const struct es_frame *frame, const struct expected *expected)
{
    assert_int_equal(frame->command, expected->command);
    assert_true(es_id_equal(&frame->correlation, &expected->correlation));
    assert_int_equal(frame->has_credentials, expected->has_credentials);
    assert_true(slice_equal(frame->body, expected->body));
    if (frame->has_credentials) {
        assert_true(slice_equal(frame->credentials.login, expected->login));
        assert_true(slice_equal(frame->credentials.password, expected->password));
        assert_int_equal(frame->credentials.token.size, 0);
    }
}

/* Gives the decoder `step()` bytes more each time, in memory that ends right behind them. */
static void feed(const struct buf *bytes, const struct expected *expected, struct rand *rand)
{
    size_t begin = 0, end = 0, size;
    unsigned count = 0;
    struct es_frame frame;
    const char *why = NULL;
    while (count < FRAMES) {
        uint8_t *there = mem_copy(bytes->data + begin, end - begin);
        assert_non_null(there);
        kvs_slice in = slice_make(there, end - begin);
        int error = es_frame_decode(in, ES_FRAME_LENGTH_MAX, &frame, &size, &why);
        if (error == 0) {
            assert_frame(&frame, &expected[count++]);
            begin += size;
        } else {
            assert_int_equal(error, ES_MORE);
            assert_true(in.size == 0 ? size == 0 : size > in.size);
            uint64_t step = rand != NULL ? rand_below(rand, 900) : 1;
            end = end + step < bytes->size ? end + (size_t)step : bytes->size;
        }
        mem_free(there);
    }
    assert_int_equal(begin, bytes->size);
}

static void frames_split_anywhere(void **state)
{
    (void)state;
    static struct expected expected[FRAMES];
    struct rand rand = rand_seed(SEED);
    struct buf bytes = BUF_INIT;
    make_frames(&rand, expected, &bytes);
    feed(&bytes, expected, NULL);
    feed(&bytes, expected, &rand);
    buf_deinit(&bytes);
}

static int decode(const char *bytes, size_t size, uint32_t length_max, struct es_frame *frame)
{
    const char *why = NULL;
    size_t frame_size = 0;
    int error = es_frame_decode(slice_make(bytes, size), length_max, frame, &frame_size, &why);
    assert_int_equal(error == KVS_ERR_PROTOCOL, why != NULL);
    return error;
}
#define DECODE(bytes, max, frame) decode(bytes, sizeof(bytes) - 1, max, frame)
#define ID "0123456789abcdef"

static void lengths_are_bounded(void **state)
{
    (void)state;
    struct es_frame frame;
    assert_int_equal(DECODE("\x00\x00\x00\x00", 100, &frame), KVS_ERR_PROTOCOL);
    assert_int_equal(DECODE("\x11\x00\x00\x00", 100, &frame), KVS_ERR_PROTOCOL);
    assert_int_equal(DECODE("\x12\x00\x00\x00", 100, &frame), ES_MORE);
    assert_int_equal(DECODE("\x64\x00\x00\x00", 100, &frame), ES_MORE);
    assert_int_equal(DECODE("\x65\x00\x00\x00", 100, &frame), KVS_ERR_PROTOCOL);
    assert_int_equal(DECODE("\xff\xff\xff\xff", ES_FRAME_LENGTH_MAX, &frame), KVS_ERR_PROTOCOL);
    assert_int_equal(DECODE("\x00\x00\x00\x04", ES_FRAME_LENGTH_MAX, &frame), ES_MORE);
    assert_int_equal(DECODE("\x01\x00\x00\x04", ES_FRAME_LENGTH_MAX, &frame), KVS_ERR_PROTOCOL);
    assert_int_equal(DECODE("\x12\x00\x00\x00\x01\x00" ID, 100, &frame), 0);
    assert_int_equal(frame.body.size, 0);
}

static void credentials_end_inside(void **state)
{
    (void)state;
    struct es_frame frame;
    assert_int_equal(DECODE("\x12\x00\x00\x00\xf2\x01" ID, 100, &frame), KVS_ERR_PROTOCOL);
    assert_int_equal(DECODE("\x13\x00\x00\x00\xf2\x01" ID "\x01", 100, &frame), KVS_ERR_PROTOCOL);
    assert_int_equal(DECODE("\x14\x00\x00\x00\xf2\x01" ID "\x01x", 100, &frame), KVS_ERR_PROTOCOL);
    assert_int_equal(DECODE("\x15\x00\x00\x00\xf2\x01" ID "\x01x\x01", 100, &frame),
                     KVS_ERR_PROTOCOL);
    assert_int_equal(DECODE("\x15\x00\x00\x00\xf2\x01" ID "\x05xy", 100, &frame), KVS_ERR_PROTOCOL);
    assert_int_equal(DECODE("\x16\x00\x00\x00\xf2\x01" ID "\x01x\x01y", 100, &frame), 0);
    assert_slice_equal(frame.credentials.login, "x");
    assert_slice_equal(frame.credentials.password, "y");
    assert_int_equal(DECODE("\x14\x00\x00\x00\xf2\x01" ID "\x00\x00", 100, &frame), 0);
    /* A token: its length with the sign turned. */
    assert_int_equal(DECODE("\x18\x00\x00\x00\xf2\x01" ID "\xfd\xff"
                            "tok.",
                            100, &frame),
                     0);
    assert_slice_equal(frame.credentials.token, "tok");
    assert_slice_equal(frame.body, ".");
    assert_int_equal(DECODE("\x16\x00\x00\x00\xf2\x01" ID "\xfd\xff"
                            "to",
                            100, &frame),
                     KVS_ERR_PROTOCOL);
    assert_int_equal(DECODE("\x14\x00\x00\x00\xf2\x01" ID "\x00\x80", 100, &frame),
                     KVS_ERR_PROTOCOL);
}

static void what_cannot_be_sent_is_refused(void **state)
{
    (void)state;
    static const uint8_t text[256];
    struct buf out = BUF_INIT;
    struct es_id id = {{1}};
    struct es_credentials credentials = {.login = slice_make(text, 256)};
    assert_int_equal(es_frame_append(&out, ES_PING, &id, &credentials, slice_make(NULL, 0)),
                     KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(out.size, 0);
    size_t begin;
    assert_int_equal(es_frame_begin(&out, ES_PING, &id, NULL, &begin), 0);
    assert_int_equal(buf_reserve(&out, ES_FRAME_LENGTH_MAX), 0);
    out.size += ES_FRAME_LENGTH_MAX;
    assert_false(es_frame_finish(&out, begin));
    assert_int_equal(out.size, 0);
    buf_deinit(&out);
}

static void ids_as_text(void **state)
{
    (void)state;
    struct rand rand = rand_seed(SEED + 1);
    struct es_id id, again;
    char text[ES_ID_TEXT_SIZE];
    assert_true(es_id_parse(slice_of_string("00112233-4455-6677-8899-AABBCCDDEEff"), &id));
    assert_memory_equal(id.bytes,
                        "\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff", 16);
    for (int i = 0; i < 100; i++) {
        id = random_id(&rand);
        es_id_format(&id, text);
        assert_true(es_id_parse(slice_of_string(text), &again));
        assert_true(es_id_equal(&id, &again));
    }
    static const char *const wrong[] = {"",
                                        "00112233445566778899aabbccddeeff",
                                        "00112233-4455-6677-8899-aabbccddeef",
                                        "00112233-4455-6677-8899-aabbccddeefff",
                                        "00112233-4455-6677-8899_aabbccddeeff",
                                        "0011223g-4455-6677-8899-aabbccddeeff"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(es_id_parse(slice_of_string(wrong[i]), &again));
}

static void commands_are_a_table(void **state)
{
    (void)state;
    assert_string_equal(es_command_info(ES_WRITE_EVENTS)->name, "WriteEvents");
    assert_true(es_command_info(ES_WRITE_EVENTS)->from_client);
    assert_false(es_command_info(ES_WRITE_EVENTS)->from_server);
    assert_true(es_command_info(ES_HEARTBEAT_REQUEST)->from_server);
    assert_false(es_command_info(ES_SUBSCRIBE_REPLICA)->from_client);
    assert_ptr_equal(es_command_info(0xbe)->body, &es_filtered_read_all_events_completed_type);
    assert_null(es_command_info(0xbd));
    assert_null(es_command_info(0));
    assert_null(es_command_info(0xff));
}

/* --- heartbeats ---- */

static struct es_heartbeat heartbeat;
static struct es_heartbeat_traffic traffic;

static void heartbeat_begin(void)
{
    es_heartbeat_init(&heartbeat, 100, 50, 1000);
    traffic = (struct es_heartbeat_traffic){.reading = true};
}

/* What the caller does about ASK is done here: the question is queued, and leaves if `leaves`. */
static enum es_heartbeat_action look(uint64_t now_ms, bool leaves)
{
    enum es_heartbeat_action action = es_heartbeat_check(&heartbeat, &traffic, now_ms);
    if (action == ES_HEARTBEAT_ASK)
        traffic.queued += ES_FRAME_HEAD_SIZE;
    if (leaves)
        traffic.written = traffic.queued;
    return action;
}

static void a_silent_peer_is_asked_and_given_up(void **state)
{
    (void)state;
    heartbeat_begin();
    assert_int_equal(look(1099, true), ES_HEARTBEAT_NOTHING);
    assert_int_equal(look(1100, true), ES_HEARTBEAT_ASK);
    assert_int_equal(look(1110, true), ES_HEARTBEAT_NOTHING);
    assert_int_equal(look(1159, true), ES_HEARTBEAT_NOTHING);
    assert_int_equal(look(1160, true), ES_HEARTBEAT_DEAD);
}

static void any_byte_is_life(void **state)
{
    (void)state;
    heartbeat_begin();
    assert_int_equal(look(1100, true), ES_HEARTBEAT_ASK);
    assert_int_equal(look(1110, true), ES_HEARTBEAT_NOTHING);
    traffic.received++;
    assert_int_equal(look(1200, true), ES_HEARTBEAT_NOTHING);
    assert_int_equal(look(1299, true), ES_HEARTBEAT_NOTHING);
    assert_int_equal(look(1300, true), ES_HEARTBEAT_ASK);
}

/* We hear it all the time, but say nothing: it would give us up. */
static void our_own_silence_is_broken(void **state)
{
    (void)state;
    heartbeat_begin();
    traffic.received = 5;
    assert_int_equal(look(1100, true), ES_HEARTBEAT_ASK);
    assert_int_equal(look(1190, true), ES_HEARTBEAT_NOTHING); /* nothing is waited for */
    traffic.received = 6;
    assert_int_equal(look(1200, true), ES_HEARTBEAT_ASK);
    traffic.received = 7;
    traffic.queued += 10;
    assert_int_equal(look(1300, true), ES_HEARTBEAT_NOTHING);
}

static void slow_is_not_dead(void **state)
{
    (void)state;
    heartbeat_begin();
    assert_int_equal(look(1100, false), ES_HEARTBEAT_ASK);
    assert_int_equal(look(5000, false), ES_HEARTBEAT_NOTHING); /* the question has not left */
    assert_int_equal(look(6000, true), ES_HEARTBEAT_NOTHING);
    assert_int_equal(look(6001, true), ES_HEARTBEAT_NOTHING);
    assert_int_equal(look(6051, true), ES_HEARTBEAT_DEAD);
}

static void who_is_not_read_is_not_dead(void **state)
{
    (void)state;
    heartbeat_begin();
    traffic.reading = false;
    for (uint64_t now_ms = 1100; now_ms < 3000; now_ms += 10)
        assert_int_not_equal(look(now_ms, true), ES_HEARTBEAT_DEAD);
    traffic.reading = true;
    assert_int_equal(look(3000, true), ES_HEARTBEAT_ASK);
}

static void heartbeats_can_be_off(void **state)
{
    (void)state;
    heartbeat_begin();
    heartbeat.interval_ms = 0;
    assert_int_equal(look(1000000, true), ES_HEARTBEAT_NOTHING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_split_anywhere),
        cmocka_unit_test(lengths_are_bounded),
        cmocka_unit_test(credentials_end_inside),
        cmocka_unit_test(what_cannot_be_sent_is_refused),
        cmocka_unit_test(ids_as_text),
        cmocka_unit_test(commands_are_a_table),
        cmocka_unit_test(a_silent_peer_is_asked_and_given_up),
        cmocka_unit_test(any_byte_is_life),
        cmocka_unit_test(our_own_silence_is_broken),
        cmocka_unit_test(slow_is_not_dead),
        cmocka_unit_test(who_is_not_read_is_not_dead),
        cmocka_unit_test(heartbeats_can_be_off),
    };
    return cmocka_run_group_tests_name("proto/eventstore/frame", tests, print_seed, NULL);
}

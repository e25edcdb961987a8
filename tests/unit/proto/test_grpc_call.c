/* src/proto/grpc: calls of every shape between the two engines, over bytes cut anywhere. */
#include "grpc_pair.h"

#include "base/mem.h"

#include <kvs/error.h>
#include <stdio.h>
#include <stdlib.h>

#include "test.h"

#define SEEDS 20

static uint64_t base_seed(void)
{
    const char *text = getenv("KVS_SEED");
    return text != NULL ? strtoull(text, NULL, 10) : 1;
}

static void test_unary(void **state)
{
    (void)state;
    for (uint64_t seed = base_seed(); seed < base_seed() + SEEDS; seed++) {
        struct pair pair;
        struct outcome outcomes[50];
        pair_init(&pair, seed);
        pair_open(&pair);
        for (unsigned round = 0; round < 3; round++) {
            uint8_t bytes[500];
            for (size_t i = 0; i < 50; i++) {
                size_t size = rand_below(&pair.rand, sizeof bytes);
                memset(bytes, (int)i, size);
                pair_unary(&pair, &outcomes[i], "Echo", bytes, size);
                outcomes[i].bytes = size;
            }
            pair_pump(&pair);
            for (size_t i = 0; i < 50; i++) {
                assert_int_equal(outcomes[i].ended, 1);
                assert_int_equal(outcomes[i].code, GRPC_OK);
                assert_true(outcomes[i].from_peer);
                assert_int_equal(outcomes[i].messages, 1);
                assert_int_equal(outcomes[i].headers, 1);
                assert_int_equal(2 * outcomes[i].last.size, outcomes[i].bytes);
                memset(bytes, (int)i, outcomes[i].last.size);
                assert_memory_equal(outcomes[i].last.data, bytes, outcomes[i].last.size);
                outcome_deinit(&outcomes[i]);
            }
            assert_int_equal(grpc_conn_calls(pair.client), 0);
            assert_int_equal(grpc_conn_calls(pair.server), 0);
            assert_false(grpc_conn_wants_send(pair.client));
            assert_false(grpc_conn_wants_send(pair.server));
        }
        pair_close(&pair);
    }
}

/* Messages of many sizes both ways, larger than every window, in several calls at once. */
static void test_streams(void **state)
{
    (void)state;
    for (uint64_t seed = base_seed(); seed < base_seed() + SEEDS; seed++) {
        struct pair pair;
        struct outcome outcomes[4];
        size_t sent[4] = {0};
        pair_init(&pair, seed);
        pair.client_config.call_window_bytes = 70000;
        pair.client_config.connection_window_bytes = 100000;
        pair.server_config.call_window_bytes = 100;
        pair.server_config.connection_window_bytes = 70000;
        pair.server_config.send_queue_bytes_max = 100u << 20;
        pair_open(&pair);
        for (size_t i = 0; i < 4; i++)
            assert_int_equal(pair_start(&pair, &outcomes[i], "Stream", 0), 0);
        uint8_t *bytes = mem_zalloc(300000);
        for (unsigned round = 0; round < 40; round++) {
            size_t i = rand_below(&pair.rand, 4);
            size_t size = rand_below(&pair.rand, 8) == 0 ? rand_below(&pair.rand, 300000)
                                                         : rand_below(&pair.rand, 300);
            int error = grpc_call_send(outcomes[i].call, slice_make(bytes, size));
            if (error == 0)
                sent[i] += size;
            else
                assert_int_equal(error, KVS_ERR_BUSY);
            for (uint64_t steps = rand_below(&pair.rand, 5); steps > 0; steps--)
                pair_step(&pair);
        }
        for (size_t i = 0; i < 4; i++)
            grpc_call_half_close(outcomes[i].call);
        pair_pump(&pair);
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(outcomes[i].ended, 1);
            assert_int_equal(outcomes[i].code, GRPC_OK);
            assert_int_equal(outcomes[i].bytes, sent[i]);
            outcome_deinit(&outcomes[i]);
        }
        mem_free(bytes);
        pair_close(&pair);
    }
}

static void test_client_stream_and_server_stream(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair, 7);
    pair.many = 5000;
    pair.server_config.send_queue_bytes_max = 10000;
    pair.client_config.call_window_bytes = 3000;
    pair_open(&pair);
    struct outcome count, many;
    assert_int_equal(pair_start(&pair, &count, "Count", 0), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(grpc_call_send(count.call, slice_of_string("0123456789")), 0);
    grpc_call_half_close(count.call);
    assert_int_equal(grpc_call_send(count.call, slice_of_string("x")), KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(pair_start(&pair, &many, "Many", 0), 0);
    grpc_call_half_close(many.call);
    pair_pump(&pair);
    assert_int_equal(count.code, GRPC_OK);
    assert_slice_equal(buf_slice(&count.last), "1000");
    assert_int_equal(many.code, GRPC_OK);
    assert_int_equal(many.messages, 5000);
    outcome_deinit(&count);
    outcome_deinit(&many);
    pair_close(&pair);
}

static void test_metadata(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair, 3);
    pair_open(&pair);
    struct outcome outcome;
    assert_int_equal(pair_start(&pair, &outcome, "Headers", 0), 0);
    grpc_call_half_close(outcome.call);
    pair_pump(&pair);
    assert_int_equal(outcome.code, GRPC_OK);
    assert_int_equal(outcome.messages, 0);
    assert_string_equal(outcome.metadata, "x-first=1;x-last=2;");

    static const struct {
        const char *name, *value;
    } bad[] = {{"Upper", "x"}, {"", "x"},       {"grpc-x", "x"},    {"a b", "x"},
               {"a", "\n"},    {"a", "\x80"},   {"a", " space"},    {":path", "/x/y"},
               {"te", "x"},    {"a", "space "}, {"connection", "x"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct grpc_call *call;
        const struct grpc_header header = {slice_of_string(bad[i].name),
                                           slice_of_string(bad[i].value)};
        const struct grpc_call_options options = {
            .path = slice_of_string("/t.T/Echo"), .headers = &header, .header_count = 1};
        assert_int_equal(grpc_call_start(pair.client, &options, &call), KVS_ERR_INVALID_ARGUMENT);
    }
    static const char *const paths[] = {"", "/", "x/y", "/a b/c", "/a\n/c"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct grpc_call *call;
        const struct grpc_call_options options = {.path = slice_of_string(paths[i])};
        assert_int_equal(grpc_call_start(pair.client, &options, &call), KVS_ERR_INVALID_ARGUMENT);
    }
    pair_close(&pair);
}

/* Every code, and messages that need escapes. */
static void test_status(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair, 4);
    pair_open(&pair);
    static const char *const messages[] = {"", "plain", "100% sure", "two\nlines",
                                           "\xc3\xa4\xc3\xb6 %zz %"};
    for (int code = 0; code <= 18; code++) {
        for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
            char digits[8];
            snprintf(digits, sizeof digits, "%d", code);
            struct outcome outcome = {.pair = &pair};
            const struct grpc_header header = {slice_of_string("code"), slice_of_string(digits)};
            const struct grpc_call_options options = {.path = slice_of_string("/t.T/Fail"),
                                                      .headers = &header,
                                                      .header_count = 1,
                                                      .user = &outcome};
            assert_int_equal(grpc_call_start(pair.client, &options, &outcome.call), 0);
            assert_int_equal(grpc_call_send(outcome.call, slice_of_string(messages[i])), 0);
            grpc_call_half_close(outcome.call);
            pair_pump(&pair);
            assert_int_equal(outcome.ended, 1);
            assert_int_equal(outcome.code, code <= GRPC_CODE_MAX ? code : GRPC_UNKNOWN);
            assert_string_equal(outcome.message, messages[i]);
            assert_true(outcome.from_peer);
            assert_int_equal(outcome.headers, 0); /* trailers only */
        }
    }
    struct outcome outcome;
    pair_unary(&pair, &outcome, "NoSuchMethod", "x", 1);
    pair_pump(&pair);
    assert_int_equal(outcome.code, GRPC_UNIMPLEMENTED);
    assert_string_equal(outcome.message, "unknown method");
    pair_close(&pair);
}

/* The server says its status while the client still has much to say. */
static void test_answer_before_half_close(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair, 5);
    pair.server_config.call_window_bytes = 1000;
    pair_open(&pair);
    struct outcome outcome;
    assert_int_equal(pair_start(&pair, &outcome, "Early", 0), 0);
    uint8_t *bytes = mem_zalloc(500000);
    assert_int_equal(grpc_call_send(outcome.call, slice_make(bytes, 500000)), 0);
    pair_pump(&pair);
    mem_free(bytes);
    assert_int_equal(outcome.code, GRPC_ABORTED);
    assert_int_equal(grpc_conn_calls(pair.client), 0);
    assert_int_equal(grpc_conn_calls(pair.server), 0);
    pair_unary(&pair, &outcome, "Echo", "x", 1);
    pair_pump(&pair);
    assert_int_equal(outcome.code, GRPC_OK);
    outcome_deinit(&outcome);
    pair_close(&pair);
}

static void test_message_counts(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair, 6);
    pair_open(&pair);
    struct outcome none, two, no_reply;
    assert_int_equal(pair_start(&pair, &none, "Echo", 0), 0);
    grpc_call_half_close(none.call);
    pair_pump(&pair);
    assert_int_equal(none.code, GRPC_INTERNAL);
    assert_true(pair.served->ended);

    /* two requests where one is due; the server resumes when both are there */
    pair.pause_new = true;
    assert_int_equal(pair_start(&pair, &two, "Fail", 0), 0);
    assert_int_equal(grpc_call_send(two.call, slice_of_string("a")), 0);
    assert_int_equal(grpc_call_send(two.call, slice_of_string("b")), 0);
    pair_pump(&pair);
    memcpy(pair.served->method, "Hold", 5);
    grpc_call_resume(pair.served->call);
    pair_pump(&pair);
    assert_int_equal(two.code, GRPC_INTERNAL);
    assert_int_equal(pair.served->messages, 1);

    /* OK without a message where one is due */
    const struct grpc_call_options options = {
        .path = slice_of_string("/t.T/Stream"), .one_reply = true, .user = &no_reply};
    no_reply = (struct outcome){.pair = &pair};
    pair.pause_new = false;
    assert_int_equal(grpc_call_start(pair.client, &options, &no_reply.call), 0);
    grpc_call_half_close(no_reply.call);
    pair_pump(&pair);
    assert_int_equal(no_reply.code, GRPC_INTERNAL);
    assert_false(no_reply.from_peer);

    /* two where one is due */
    no_reply = (struct outcome){.pair = &pair};
    assert_int_equal(grpc_call_start(pair.client, &options, &no_reply.call), 0);
    assert_int_equal(grpc_call_send(no_reply.call, slice_of_string("a")), 0);
    assert_int_equal(grpc_call_send(no_reply.call, slice_of_string("b")), 0);
    grpc_call_half_close(no_reply.call);
    pair_pump(&pair);
    assert_int_equal(no_reply.code, GRPC_INTERNAL);
    assert_int_equal(no_reply.messages, 1);
    outcome_deinit(&no_reply);
    pair_close(&pair);
}

static void test_cancel(void **state)
{
    (void)state;
    for (uint64_t seed = base_seed(); seed < base_seed() + SEEDS; seed++) {
        struct pair pair;
        pair_init(&pair, seed);
        pair.many = 100000;
        pair_open(&pair);
        struct outcome hold, many, server_cancels, never;
        assert_int_equal(pair_start(&pair, &hold, "Hold", 0), 0);
        pair_pump(&pair);
        struct served *served_hold = pair.served;
        grpc_call_cancel(hold.call);
        assert_int_equal(pair_start(&pair, &many, "Many", 0), 0);
        many.cancel_on_message = true;
        /* cancelled before a byte left */
        assert_int_equal(pair_start(&pair, &never, "Hold", 0), 0);
        grpc_call_cancel(never.call);
        pair_pump(&pair);
        assert_true(served_hold->ended);
        assert_int_equal(served_hold->end_code, GRPC_CANCELLED);
        assert_int_equal(hold.ended + many.ended + never.ended, 0);
        assert_int_equal(many.messages, 1);
        assert_int_equal(pair.served_count, 2);

        assert_int_equal(pair_start(&pair, &server_cancels, "Hold", 0), 0);
        pair_pump(&pair);
        grpc_call_cancel(pair.served->call);
        pair.served->call = NULL;
        pair_pump(&pair);
        assert_int_equal(server_cancels.code, GRPC_CANCELLED);
        assert_false(server_cancels.not_processed);
        assert_int_equal(grpc_conn_calls(pair.client), 0);
        assert_int_equal(grpc_conn_calls(pair.server), 0);
        outcome_deinit(&many);
        pair_close(&pair);
    }
}

static void test_deadlines(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair, 8);
    pair_open(&pair);
    struct outcome soon, late;
    assert_int_equal(pair_start(&pair, &late, "Hold", 5000), 0);
    assert_int_equal(pair_start(&pair, &soon, "Hold", 100), 0);
    pair_pump(&pair);
    assert_int_equal(grpc_call_deadline_ms(late.call), pair.now_ms + 5000);
    assert_int_equal(grpc_call_deadline_ms(pair.served->call), pair.now_ms + 100);
    assert_int_equal(grpc_conn_timer(pair.client), pair.now_ms + 100);
    pair_advance(&pair, 99);
    pair_pump(&pair);
    assert_int_equal(soon.ended, 0);
    struct served *served_soon = pair.served;
    pair_advance(&pair, 1);
    pair_pump(&pair);
    assert_int_equal(soon.code, GRPC_DEADLINE_EXCEEDED);
    assert_false(soon.from_peer);
    assert_true(served_soon->ended);
    assert_int_equal(late.ended, 0);

    /* the server alone watches the deadline: its status reaches the client */
    pair_advance(&pair, 4900);
    grpc_conn_run(pair.server, pair.now_ms);
    assert_true(served_soon->next->ended);
    assert_int_equal(served_soon->next->end_code, GRPC_DEADLINE_EXCEEDED);
    assert_int_equal(grpc_conn_send(pair.server, &pair.to_client, SIZE_MAX), 0);
    assert_int_equal(grpc_conn_receive(pair.client, pair.now_ms, buf_slice(&pair.to_client)), 0);
    buf_clear(&pair.to_client);
    assert_int_equal(late.code, GRPC_DEADLINE_EXCEEDED);
    assert_true(late.from_peer);
    pair_pump(&pair);
    assert_int_equal(grpc_conn_timer(pair.client), UINT64_MAX);
    assert_int_equal(grpc_conn_timer(pair.server), UINT64_MAX);
    pair_close(&pair);
}

static void test_lost(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair, 9);
    pair_open(&pair);
    struct outcome sent, unsent;
    assert_int_equal(pair_start(&pair, &sent, "Hold", 1000), 0);
    pair_pump(&pair);
    assert_int_equal(pair_start(&pair, &unsent, "Hold", 0), 0);
    grpc_conn_lost(pair.client, "connection reset");
    assert_int_equal(sent.code, GRPC_UNAVAILABLE);
    assert_string_equal(sent.message, "connection reset");
    assert_false(sent.not_processed);
    assert_int_equal(unsent.code, GRPC_UNAVAILABLE);
    assert_true(unsent.not_processed);
    assert_true(grpc_conn_done(pair.client));
    assert_int_equal(pair_start(&pair, &unsent, "Hold", 0), KVS_ERR_CLOSED);
    assert_int_equal(grpc_conn_receive(pair.client, 0, slice_of_string("x")), KVS_ERR_CLOSED);
    assert_int_equal(grpc_conn_timer(pair.client), UINT64_MAX);
    struct served *served = pair.served;
    grpc_conn_lost(pair.server, "gone");
    assert_true(served->ended);
    pair_close(&pair);
}

int main(void)
{
    printf("# seed %llu (KVS_SEED)\n", (unsigned long long)base_seed());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_client_stream_and_server_stream),
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_answer_before_half_close),
        cmocka_unit_test(test_message_counts),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

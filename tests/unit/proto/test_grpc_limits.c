/* src/proto/grpc: flow control, limits, keep-alive, graceful ends, and no memory. */
#include "grpc_pair.h"

#include "base/fault.h"
#include "base/mem.h"
#include "base/rope.h"

#include <kvs/error.h>
#include <stdio.h>

#include "test.h"

static void send_zeros(struct grpc_call *call, size_t size)
{
    uint8_t *room;
    assert_int_equal(grpc_call_send_room(call, size, &room), 0);
    memset(room, 0, size);
}

/* A handler that does not take its messages holds its own peer, and nobody else. */
static void test_paused_call_holds_its_peer(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair, 1);
    pair.server_config.call_window_bytes = 10000;
    pair.client_config.send_queue_bytes_max = 1u << 30;
    pair.pause_new = true;
    pair_open(&pair);
    pair_pump(&pair); /* the client knows the windows; before, HTTP/2 lets 65535 bytes through */
    struct outcome slow, quick;
    assert_int_equal(pair_start(&pair, &slow, "Count", 0), 0);
    for (int i = 0; i < 1000; i++)
        send_zeros(slow.call, 95);
    grpc_call_half_close(slow.call);
    pair_pump(&pair);
    struct served *served = pair.served;
    assert_int_equal(served->messages, 0);
    assert_int_equal(grpc_call_send_queued(slow.call), 1000 * 100 - 10000);

    pair.pause_new = false;
    pair_unary(&pair, &quick, "Echo", "x", 1);
    pair_pump(&pair);
    assert_int_equal(quick.code, GRPC_OK);

    grpc_call_resume(served->call);
    pair_pump(&pair);
    assert_int_equal(slow.code, GRPC_OK);
    assert_slice_equal(buf_slice(&slow.last), "95000");
    outcome_deinit(&slow);
    outcome_deinit(&quick);
    pair_close(&pair);
}

/* When paused calls hold too much in all, the whole peer waits; nothing is lost. */
static void test_paused_calls_hold_the_connection(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair, 2);
    pair.server_config.call_window_bytes = 100000;
    pair.server_config.connection_window_bytes = 100000;
    pair.server_config.held_bytes_max = 30000;
    pair.client_config.send_queue_bytes_max = 1u << 30;
    pair.pause_new = true;
    pair_open(&pair);
    struct outcome slow[2], quick;
    struct served *served[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pair_start(&pair, &slow[i], "Count", 0), 0);
        send_zeros(slow[i].call, 200000);
        grpc_call_half_close(slow[i].call);
    }
    pair_pump(&pair);
    served[1] = pair.served;
    served[0] = pair.served->next;
    size_t taken =
        400010 - grpc_call_send_queued(slow[0].call) - grpc_call_send_queued(slow[1].call);
    assert_true(taken <= 30000 + 100000 + 16384);
    pair.pause_new = false;
    static uint8_t bytes[60000];
    pair_unary(&pair, &quick, "Echo", bytes, sizeof bytes);
    pair_pump(&pair);
    assert_int_equal(quick.ended, 0);
    grpc_call_resume(served[0]->call);
    grpc_call_resume(served[1]->call);
    pair_pump(&pair);
    assert_int_equal(quick.code, GRPC_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(slow[i].code, GRPC_OK);
        assert_slice_equal(buf_slice(&slow[i].last), "200000");
        outcome_deinit(&slow[i]);
    }
    outcome_deinit(&quick);
    pair_close(&pair);
}

/* A client that pauses: the whole answer, status included, waits for it. */
static void test_paused_client(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair, 3);
    pair.many = 50;
    pair_open(&pair);
    struct outcome outcome;
    assert_int_equal(pair_start(&pair, &outcome, "Many", 1000), 0);
    grpc_call_half_close(outcome.call);
    grpc_call_pause(outcome.call);
    pair_pump(&pair);
    assert_int_equal(outcome.messages, 0);
    assert_int_equal(outcome.ended, 0);
    assert_int_equal(grpc_conn_calls(pair.server), 0);
    grpc_call_resume(outcome.call);
    pair_pump(&pair);
    assert_int_equal(outcome.messages, 50);
    assert_int_equal(outcome.code, GRPC_OK);

    /* the deadline ends a paused call all the same, and so does a cancel */
    outcome_deinit(&outcome);
    assert_int_equal(pair_start(&pair, &outcome, "Many", 1000), 0);
    grpc_call_pause(outcome.call);
    pair_pump(&pair);
    pair_advance(&pair, 1000);
    pair_pump(&pair);
    assert_int_equal(outcome.code, GRPC_DEADLINE_EXCEEDED);
    assert_int_equal(pair_start(&pair, &outcome, "Many", 1000), 0);
    grpc_call_half_close(outcome.call);
    grpc_call_pause(outcome.call);
    pair_pump(&pair);
    grpc_call_cancel(outcome.call);
    assert_int_equal(grpc_conn_calls(pair.client), 0);
    pair_close(&pair);
}

static void test_message_too_large(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair, 4);
    pair.server_config.message_bytes_max = 10000;
    pair.client_config.message_bytes_max = 5000;
    pair_open(&pair);
    static uint8_t bytes[10001];
    struct outcome fits, request, reply;
    pair_unary(&pair, &fits, "Echo", bytes, 5000);
    pair_unary(&pair, &request, "Echo", bytes, 10001);
    pair_unary(&pair, &reply, "Echo", bytes, 5001);
    pair_pump(&pair);
    assert_int_equal(fits.code, GRPC_OK);
    assert_int_equal(request.code, GRPC_RESOURCE_EXHAUSTED);
    assert_true(request.from_peer);
    assert_int_equal(reply.code, GRPC_RESOURCE_EXHAUSTED);
    assert_false(reply.from_peer);
    assert_int_equal(grpc_conn_calls(pair.client), 0);
    assert_int_equal(grpc_conn_calls(pair.server), 0);
    outcome_deinit(&fits);
    pair_close(&pair);
}

/* Many calls that each begin a large message: bounded in all. */
static void test_assembling_limit(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair, 5);
    pair.server_config.assembling_bytes_max = 100000;
    pair.server_config.call_window_bytes = 20000;
    pair.client_config.send_queue_bytes_max = 1u << 30;
    pair_open(&pair);
    struct outcome outcomes[10];
    for (int i = 0; i < 10; i++) {
        assert_int_equal(pair_start(&pair, &outcomes[i], "Count", 0), 0);
        send_zeros(outcomes[i].call, 90000);
        grpc_call_half_close(outcomes[i].call);
    }
    pair_pump(&pair);
    unsigned ok = 0, exhausted = 0;
    for (int i = 0; i < 10; i++) {
        ok += outcomes[i].code == GRPC_OK;
        exhausted += outcomes[i].code == GRPC_RESOURCE_EXHAUSTED;
        outcome_deinit(&outcomes[i]);
    }
    assert_int_equal(ok + exhausted, 10);
    assert_true(exhausted > 0);
    assert_true(ok > 0);
    pair_close(&pair);
}

static void test_send_queue(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair, 6);
    pair.client_config.send_queue_bytes_max = 10000;
    pair.server_config.call_window_bytes = 1000;
    pair.pause_new = true;
    pair_open(&pair);
    pair_pump(&pair);
    struct outcome outcome;
    assert_int_equal(pair_start(&pair, &outcome, "Count", 0), 0);
    unsigned accepted = 0;
    static const uint8_t bytes[995];
    while (grpc_call_send(outcome.call, slice_make(bytes, sizeof bytes)) == 0)
        accepted++;
    assert_int_equal(accepted, 10);
    assert_int_equal(grpc_call_send(outcome.call, slice_of_string("x")), KVS_ERR_BUSY);
    assert_int_equal(grpc_conn_queued_bytes(pair.client), 10000);
    pair_pump(&pair);
    assert_int_equal(outcome.writable, 0);
    assert_int_equal(grpc_conn_queued_bytes(pair.client), 9000); /* the window's worth has left */
    assert_int_equal(grpc_conn_sent_bytes(pair.client), 1000);
    grpc_call_resume(pair.served->call);
    pair_pump(&pair);
    assert_int_equal(outcome.writable, 1);
    assert_int_equal(grpc_call_send_queued(outcome.call), 0);
    assert_int_equal(grpc_conn_queued_bytes(pair.client), 0);
    assert_int_equal(grpc_conn_sent_bytes(pair.client), 10000);
    grpc_call_pause(pair.served->call);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(grpc_call_send(outcome.call, slice_make(bytes, sizeof bytes)), 0);
    pair_pump(&pair);
    grpc_call_cancel(outcome.call); /* what was queued is gone */
    pair_pump(&pair);
    assert_int_equal(grpc_conn_queued_bytes(pair.client), 0);
    pair_close(&pair);
}

/* A message of random bytes, queued in one of the two ways; returns the sum with it. */
static uint32_t send_either(struct grpc_call *call, struct rand *rand, struct rope_budget *budget,
                            uint32_t sum)
{
    struct rope body = {.budget = budget};
    struct buf whole = BUF_INIT;
    bool is_rope = rand_below(rand, 3) == 0;
    size_t parts = is_rope ? rand_below(rand, 20) : 1;
    size_t head = rand_below(rand, 10), tail = rand_below(rand, 10);
    for (size_t i = 0; i < head; i++)
        buf_append_u8(&whole, (uint8_t)rand_u64(rand));
    for (size_t i = 0; i < parts; i++) {
        size_t size = rand_below(rand, is_rope ? 9000 : 100), before = whole.size;
        for (size_t k = 0; k < size; k++)
            buf_append_u8(&whole, (uint8_t)rand_u64(rand));
        if (size > 0)
            assert_int_equal(rope_append(&body, slice_make(whole.data + before, size)), 0);
    }
    for (size_t i = 0; i < tail; i++)
        buf_append_u8(&whole, (uint8_t)rand_u64(rand));
    if (is_rope)
        assert_int_equal(grpc_call_send_rope(call, slice_make(whole.data, head), &body,
                                             slice_make(whole.data + whole.size - tail, tail)),
                         0);
    else
        assert_int_equal(grpc_call_send(call, buf_slice(&whole)), 0);
    sum = messages_sum(sum, buf_slice(&whole));
    rope_deinit(&body);
    buf_deinit(&whole);
    return sum;
}

/* Messages that come as ropes keep their place among the others, whatever has left already. */
static void test_ropes_among_other_messages(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 60; seed++) {
        struct rope_budget budget = {0};
        struct pair pair;
        pair_init(&pair, seed);
        pair.client_config.call_window_bytes = 3000;
        pair.server_config.send_queue_bytes_max = SIZE_MAX / 4;
        pair_open(&pair);
        struct outcome outcome;
        assert_int_equal(pair_start(&pair, &outcome, "Hold", 0), 0);
        grpc_call_half_close(outcome.call);
        pair_pump(&pair);
        struct grpc_call *call = pair.served->call;
        struct rand rand = rand_seed(seed);
        uint32_t sum = 0;
        for (unsigned i = 0; i < 100; i++) {
            sum = send_either(call, &rand, &budget, sum);
            for (uint64_t steps = rand_below(&rand, 4); steps > 0; steps--)
                pair_step(&pair);
        }
        pair.served->call = NULL;
        grpc_call_finish(call, GRPC_OK, slice_make(NULL, 0));
        pair_pump(&pair);
        assert_int_equal(outcome.code, GRPC_OK);
        assert_int_equal(outcome.messages, 100);
        assert_int_equal(outcome.sum, sum);
        assert_int_equal(grpc_conn_queued_bytes(pair.server), 0);
        assert_int_equal(budget.bytes, 0); /* given back as they left */
        outcome_deinit(&outcome);
        pair_close(&pair);
    }
}

/* What a call has queued goes with it, however it ends, and whatever is in a frame by then. */
static void test_ropes_of_calls_that_end(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 60; seed++) {
        struct rope_budget budget = {0};
        struct pair pair;
        pair_init(&pair, seed);
        pair.client_config.call_window_bytes = 3000;
        pair.server_config.send_queue_bytes_max = SIZE_MAX / 4;
        pair_open(&pair);
        struct outcome outcome, other;
        assert_int_equal(pair_start(&pair, &outcome, "Hold", 1000), 0);
        grpc_call_half_close(outcome.call);
        pair_pump(&pair);
        struct grpc_call *call = pair.served->call;
        struct rand rand = rand_seed(seed);
        for (unsigned i = 0; i < 30; i++)
            send_either(call, &rand, &budget, 0);
        for (uint64_t steps = rand_below(&rand, 4); steps > 0; steps--)
            pair_step(&pair);
        (void)grpc_conn_send(pair.server, &pair.to_client, 1 + rand_below(&rand, 3000));
        if (seed % 3 == 0)
            pair_advance(&pair, 2000);
        else if (seed % 3 == 1)
            grpc_call_cancel(outcome.call);
        else
            grpc_conn_lost(pair.server, "lost");
        if (seed % 3 != 2) {
            pair_pump(&pair);
            pair_unary(&pair, &other, "Echo", "x", 1); /* the frames are still in step */
            pair_pump(&pair);
            assert_int_equal(other.code, GRPC_OK);
            outcome_deinit(&other);
        }
        assert_int_equal(grpc_conn_queued_bytes(pair.server), 0);
        assert_int_equal(budget.bytes, 0);
        grpc_conn_lost(pair.client, "end");
        outcome_deinit(&outcome);
        pair_close(&pair);
    }
}

/* More calls than the server allows: the rest waits at the client, also past deadlines. */
static void test_calls_over_the_limit_wait(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair, 7);
    pair.server_config.calls_max = 5;
    pair.client_config.calls_waiting_max = 30;
    pair_open(&pair);
    pair_pump(&pair); /* the client knows the limit */
    struct outcome outcomes[36];
    for (int i = 0; i < 35; i++)
        assert_int_equal(pair_start(&pair, &outcomes[i], "Hold", i == 20 ? 50 : 0), 0);
    assert_int_equal(pair_start(&pair, &outcomes[35], "Hold", 0), KVS_ERR_BUSY);
    assert_false(grpc_conn_accepts_calls(pair.client));
    assert_int_equal(grpc_conn_calls(pair.client), 35);
    pair_pump(&pair);
    assert_int_equal(pair.served_count, 5);
    pair_advance(&pair, 50);
    pair_pump(&pair);
    assert_int_equal(outcomes[20].code, GRPC_DEADLINE_EXCEEDED);
    assert_true(outcomes[20].not_processed);
    grpc_call_cancel(outcomes[34].call);
    assert_int_equal(grpc_conn_calls(pair.client), 33);
    while (grpc_conn_calls(pair.client) > 0) {
        struct served *served = pair.served;
        while (served->call == NULL)
            served = served->next;
        struct grpc_call *call = served->call;
        served->call = NULL;
        grpc_call_finish(call, GRPC_OK, slice_make(NULL, 0));
        pair_pump(&pair);
        assert_true(grpc_conn_calls(pair.server) <= 5);
    }
    for (int i = 0; i < 34; i++)
        assert_int_equal(outcomes[i].code, i == 20 ? GRPC_DEADLINE_EXCEEDED : GRPC_OK);
    pair_close(&pair);
}

/* Before the client knows the limit: what is too much is refused, marked as not processed. */
static void test_calls_before_the_limit_is_known(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair, 8);
    pair.server_config.calls_max = 5;
    pair_open(&pair);
    struct outcome outcomes[20];
    for (int i = 0; i < 20; i++)
        assert_int_equal(pair_start(&pair, &outcomes[i], "Hold", 0), 0);
    pair_pump(&pair);
    assert_int_equal(pair.served_count, 5);
    unsigned refused = 0;
    for (int i = 0; i < 20; i++) {
        if (outcomes[i].ended == 0)
            continue;
        refused++;
        assert_int_equal(outcomes[i].code, GRPC_UNAVAILABLE);
        assert_true(outcomes[i].not_processed);
    }
    assert_int_equal(refused, 15);
    pair_close(&pair);
}

static void test_keep_alive(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair, 9);
    pair.client_config.ping_interval_ms = 1000;
    pair.client_config.ping_timeout_ms = 300;
    pair_open(&pair);
    struct outcome outcome;
    assert_int_equal(pair_start(&pair, &outcome, "Hold", 0), 0);
    pair_pump(&pair);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(grpc_conn_timer(pair.client), pair.now_ms + 1000);
        pair_advance(&pair, 1000);
        pair_pump(&pair);
        assert_false(grpc_conn_done(pair.server));
    }
    /* the server falls silent */
    pair_advance(&pair, 1000);
    assert_int_equal(grpc_conn_run(pair.client, pair.now_ms), 0);
    assert_int_equal(grpc_conn_timer(pair.client), pair.now_ms + 300);
    pair_advance(&pair, 299);
    assert_int_equal(grpc_conn_run(pair.client, pair.now_ms), 0);
    pair_advance(&pair, 1);
    assert_int_equal(grpc_conn_run(pair.client, pair.now_ms), KVS_ERR_TIMEOUT);
    assert_true(grpc_conn_done(pair.client));
    grpc_conn_lost(pair.client, grpc_conn_error_text(pair.client));
    assert_int_equal(outcome.code, GRPC_UNAVAILABLE);
    assert_string_equal(outcome.message, "the peer does not answer pings");
    pair_close(&pair);
}

static void test_server_shutdown(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 20; seed++) {
        struct pair pair;
        pair_init(&pair, seed);
        pair_open(&pair);
        struct outcome before, crossing, after;
        assert_int_equal(pair_start(&pair, &before, "Hold", 0), 0);
        pair_pump(&pair);
        struct served *served = pair.served;
        grpc_conn_shutdown(pair.server);
        pair_unary(&pair, &crossing, "Echo", "x", 1); /* on its way when the GOAWAY comes */
        pair_pump(&pair);
        assert_int_equal(pair.goaways, 2);
        assert_int_equal(crossing.code, GRPC_OK);
        assert_int_equal(pair_start(&pair, &after, "Echo", 0), KVS_ERR_CLOSED);
        assert_false(grpc_conn_accepts_calls(pair.client));
        assert_false(grpc_conn_done(pair.server));
        struct grpc_call *call = served->call;
        served->call = NULL;
        grpc_call_finish(call, GRPC_OK, slice_make(NULL, 0));
        pair_pump(&pair);
        assert_int_equal(before.code, GRPC_OK);
        assert_true(grpc_conn_done(pair.server));
        assert_true(grpc_conn_done(pair.client));
        outcome_deinit(&crossing);
        pair_close(&pair);
    }
}

/* A client that does not answer the ping does not hold the shutdown up. */
static void test_server_shutdown_without_answer(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair, 10);
    pair_open(&pair);
    pair_pump(&pair);
    grpc_conn_shutdown(pair.server);
    grpc_conn_run(pair.server, pair.now_ms);
    assert_int_equal(grpc_conn_send(pair.server, &pair.to_client, SIZE_MAX), 0);
    assert_false(grpc_conn_done(pair.server));
    assert_int_equal(grpc_conn_timer(pair.server), pair.now_ms + 1000);
    pair_advance(&pair, 1000);
    grpc_conn_run(pair.server, pair.now_ms);
    assert_int_equal(grpc_conn_send(pair.server, &pair.to_client, SIZE_MAX), 0);
    assert_true(grpc_conn_done(pair.server));
    pair_close(&pair);
}

static void test_client_shutdown(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair, 11);
    pair_open(&pair);
    struct outcome outcome, after;
    pair_unary(&pair, &outcome, "Echo", "x", 1);
    grpc_conn_shutdown(pair.client);
    assert_int_equal(pair_start(&pair, &after, "Echo", 0), KVS_ERR_CLOSED);
    pair_pump(&pair);
    assert_int_equal(outcome.code, GRPC_OK);
    assert_true(grpc_conn_done(pair.client));
    assert_true(grpc_conn_done(pair.server));
    outcome_deinit(&outcome);
    pair_close(&pair);
}

#ifdef KVS_FAULTS
/* The k-th allocation fails, for every k: calls may fail, nothing else may happen. */
static void test_no_memory(void **state)
{
    (void)state;
    for (uint64_t k = 1; k < 2000; k++) {
        struct pair pair;
        pair_init(&pair, 12);
        pair.whole = true;
        pair_open(&pair);
        struct outcome outcome = {.pair = &pair, .code = -1};
        const struct grpc_header header = {slice_of_string("x-name"), slice_of_string("x")};
        const struct grpc_call_options options = {.path = slice_of_string("/t.T/Stream"),
                                                  .deadline_ms = pair.now_ms + 1000,
                                                  .headers = &header,
                                                  .header_count = 1,
                                                  .user = &outcome};
        fault_arm(FAULT_ALLOC, k, false);
        int error = grpc_call_start(pair.client, &options, &outcome.call);
        if (error == 0) {
            uint8_t *room;
            if (grpc_call_send_room(outcome.call, 20000, &room) == 0)
                memset(room, 0, 20000);
            grpc_call_half_close(outcome.call);
        }
        struct buf bytes = BUF_INIT;
        for (int i = 0; i < 8; i++) {
            struct grpc_conn *from = i % 2 == 0 ? pair.client : pair.server;
            struct grpc_conn *to = i % 2 == 0 ? pair.server : pair.client;
            (void)grpc_conn_run(from, pair.now_ms);
            (void)grpc_conn_send(from, &bytes, SIZE_MAX);
            if (bytes.size > 0)
                (void)grpc_conn_receive(to, pair.now_ms, buf_slice(&bytes));
            buf_clear(&bytes);
        }
        bool fired = fault_fired() > 0;
        fault_reset();
        grpc_conn_lost(pair.client, "end");
        if (error == 0)
            assert_int_equal(outcome.ended, 1);
        if (!fired)
            assert_int_equal(outcome.code, GRPC_OK);
        buf_deinit(&bytes);
        outcome_deinit(&outcome);
        pair_close(&pair);
        if (!fired) {
            assert_true(k > 20);
            return;
        }
    }
    fail_msg("never came to an end");
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paused_call_holds_its_peer),
        cmocka_unit_test(test_paused_calls_hold_the_connection),
        cmocka_unit_test(test_paused_client),
        cmocka_unit_test(test_message_too_large),
        cmocka_unit_test(test_assembling_limit),
        cmocka_unit_test(test_send_queue),
        cmocka_unit_test(test_ropes_among_other_messages),
        cmocka_unit_test(test_ropes_of_calls_that_end),
        cmocka_unit_test(test_calls_over_the_limit_wait),
        cmocka_unit_test(test_calls_before_the_limit_is_known),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_server_shutdown),
        cmocka_unit_test(test_server_shutdown_without_answer),
        cmocka_unit_test(test_client_shutdown),
#ifdef KVS_FAULTS
        cmocka_unit_test(test_no_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

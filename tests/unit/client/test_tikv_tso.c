/*
 * client/tikv/pd_tso.c: whose timestamp is whose, also when some do not wait any more; and a stream
 * on which PD says nothing, though its connection lives.
 */
#include "client/tikv/pd_tso.h"

#include "client/tikv/cluster_parts.h"
#include "txn/command.h"

#include <kvs/error.h>

#include "test.h"

#define TIMEOUT_MS 5000u

struct asked {
    struct txn_timestamp request;
    unsigned done;
    int error;
    uint64_t ts;
};

static struct {
    uv_loop_t uv;
    struct loop loop;
    struct pd_client pd;
    struct pd_channel channel;
    struct pd_tso tso;
    uint64_t now_ms;
} world;

static int begin(void **state)
{
    (void)state;
    static const struct grpc_events events;
    memset(&world, 0, sizeof world);
    assert_int_equal(uv_loop_init(&world.uv), 0);
    world.loop.uv = &world.uv;
    world.now_ms = loop_now_ms(&world.loop);
    const struct grpc_config config = {.events = &events};
    assert_int_equal(grpc_conn_new_client(&config, world.now_ms, &world.channel.channel.grpc), 0);
    world.channel.channel.ready = true;
    world.pd.loop = &world.loop;
    world.pd.channel = &world.channel;
    world.pd.state = PD_READY;
    pd_tso_init(&world.tso, &world.pd);
    return 0;
}

static int end(void **state)
{
    (void)state;
    pd_tso_deinit(&world.tso);
    grpc_conn_free(world.channel.channel.grpc);
    assert_int_equal(uv_loop_close(&world.uv), 0);
    return 0;
}

static void on_done(struct txn_timestamp *request, int error, const char *why)
{
    struct asked *asked = CONTAINER_OF(request, struct asked, request);
    (void)why;
    asked->done++;
    asked->error = error;
    asked->ts = request->ts;
}

static void ask_for(struct asked *asked, uint64_t timeout_ms)
{
    *asked = (struct asked){.request = {.done = on_done, .deadline_ms = world.now_ms + timeout_ms}};
    list_init(&asked->request.node);
    pd_tso_ask(&world.tso, &asked->request);
}

/* Asked in a message of its own. */
static void ask(struct asked *asked, uint64_t timeout_ms)
{
    ask_for(asked, timeout_ms);
    pd_tso_run(&world.tso, world.now_ms);
}

static void answer(uint32_t count, uint64_t physical)
{
    Pdpb__Timestamp timestamp = PDPB__TIMESTAMP__INIT;
    Pdpb__TsoResponse response = PDPB__TSO_RESPONSE__INIT;
    struct buf bytes = {0};
    timestamp.physical = (int64_t)physical;
    timestamp.logical = 7;
    response.count = count;
    response.timestamp = &timestamp;
    assert_int_equal(pack_message(&bytes, &response.base), 0);
    world.tso.stream.on_message(&world.tso.stream, buf_slice(&bytes));
    buf_deinit(&bytes);
}

static void expect(const struct asked *asked, int error, uint64_t ts)
{
    assert_int_equal(asked->done, 1);
    assert_int_equal(asked->error, error);
    if (error == 0)
        assert_int_equal(asked->ts, ts);
}

/* The answer to whoever does not wait any more is nobody's. */
static void test_who_gives_up_is_left_out(void **state)
{
    (void)state;
    struct asked brief, patient[3];
    ask(&brief, TIMEOUT_MS);
    ask(&patient[0], 2 * TIMEOUT_MS);
    ask(&patient[1], 2 * TIMEOUT_MS); /* gathers: two messages are under way */
    assert_int_equal(world.tso.messages_count, 2);
    assert_int_equal(pd_tso_timer(&world.tso), world.now_ms + TIMEOUT_MS);
    pd_tso_run(&world.tso, world.now_ms + TIMEOUT_MS - 1);
    assert_int_equal(brief.done, 0);
    pd_tso_run(&world.tso, world.now_ms + TIMEOUT_MS);
    expect(&brief, KVS_ERR_TIMEOUT, 0);
    answer(1, 100);
    assert_int_equal(patient[0].done, 0);
    answer(1, 200);
    expect(&patient[0], 0, txn_ts_make(200, 7));
    pd_tso_run(&world.tso, world.now_ms + TIMEOUT_MS);
    ask(&patient[2], 2 * TIMEOUT_MS);
    answer(1, 300);
    expect(&patient[1], 0, txn_ts_make(300, 7));
    answer(1, 400);
    expect(&patient[2], 0, txn_ts_make(400, 7));
    expect(&brief, KVS_ERR_TIMEOUT, 0);
    assert_false(world.pd.refused);
}

/* Of one message the first only, or the second only. */
static void test_a_part_of_a_message(void **state)
{
    (void)state;
    for (unsigned who = 0; who < 2; who++) {
        struct asked asked[2];
        for (unsigned i = 0; i < 2; i++)
            ask_for(&asked[i], i == who ? TIMEOUT_MS : 2 * TIMEOUT_MS);
        pd_tso_run(&world.tso, world.now_ms);
        assert_int_equal(world.tso.messages_count, 1);
        pd_tso_run(&world.tso, world.now_ms + TIMEOUT_MS);
        expect(&asked[who], KVS_ERR_TIMEOUT, 0);
        answer(2, 100);
        expect(&asked[1 - who], 0, txn_ts_make(100, 7));
        assert_int_equal(asked[who].done, 1);
    }
}

/* Who came last is the first to give up: the others keep what their own messages bring. */
static void test_a_later_one_gives_up_first(void **state)
{
    (void)state;
    struct asked early, brief, late, waiting;
    ask(&early, 3 * TIMEOUT_MS);
    ask_for(&brief, TIMEOUT_MS);
    ask(&late, 3 * TIMEOUT_MS);
    ask(&waiting, TIMEOUT_MS / 2); /* two messages are under way */
    assert_int_equal(world.tso.messages_count, 2);
    assert_int_equal(pd_tso_timer(&world.tso), world.now_ms + TIMEOUT_MS / 2);
    pd_tso_run(&world.tso, world.now_ms + TIMEOUT_MS / 2);
    expect(&waiting, KVS_ERR_TIMEOUT, 0);
    assert_int_equal(brief.done, 0);
    pd_tso_run(&world.tso, world.now_ms + TIMEOUT_MS);
    expect(&brief, KVS_ERR_TIMEOUT, 0);
    answer(1, 100);
    expect(&early, 0, txn_ts_make(100, 7));
    assert_int_equal(late.done, 0); /* it was asked for after the first: a newer one */
    answer(2, 200);
    expect(&late, 0, txn_ts_make(200, 7));
    assert_int_equal(pd_tso_timer(&world.tso), UINT64_MAX);
}

/* Asked or not, one that is given up ends at the end of the turn; the others get what is theirs. */
static void test_given_up(void **state)
{
    (void)state;
    struct asked asked[2], waiting[2], zeroed = {0};
    pd_tso_give_up(&world.tso, &zeroed.request);
    for (unsigned i = 0; i < 2; i++)
        ask_for(&asked[i], TIMEOUT_MS);
    pd_tso_run(&world.tso, world.now_ms);
    for (unsigned i = 0; i < 2; i++)
        ask_for(&waiting[i], TIMEOUT_MS);
    pd_tso_give_up(&world.tso, &asked[0].request);
    pd_tso_give_up(&world.tso, &waiting[1].request);
    assert_int_equal(asked[0].done + waiting[1].done, 0);
    assert_int_equal(pd_tso_timer(&world.tso), 0);
    pd_tso_run(&world.tso, world.now_ms);
    expect(&asked[0], KVS_ERR_CANCELLED, 0);
    expect(&waiting[1], KVS_ERR_CANCELLED, 0);
    answer(2, 100);
    expect(&asked[1], 0, txn_ts_make(100, 7));
    answer(1, 200);
    expect(&waiting[0], 0, txn_ts_make(200, 7));
    pd_tso_give_up(&world.tso, &waiting[0].request); /* too late */
    pd_tso_run(&world.tso, world.now_ms);
    assert_int_equal(zeroed.done + asked[0].done + waiting[0].done + waiting[1].done, 3);
    assert_int_equal(pd_tso_timer(&world.tso), UINT64_MAX);
}

/* The stream breaks: who gives up in the second attempt was not of the first. */
static void test_asked_again(void **state)
{
    (void)state;
    struct asked brief, patient;
    ask(&patient, 3 * PD_TSO_SILENCE_MS);
    ask(&brief, 2 * PD_TSO_SILENCE_MS);
    pd_tso_run(&world.tso, world.now_ms + PD_TSO_SILENCE_MS); /* is given up */
    assert_int_equal(world.tso.messages_count, 0);
    pd_tso_run(&world.tso, world.now_ms + PD_TSO_SILENCE_MS + 1);
    assert_int_equal(world.tso.messages_count, 1);
    pd_tso_run(&world.tso, world.now_ms + 2 * PD_TSO_SILENCE_MS);
    expect(&brief, KVS_ERR_TIMEOUT, 0);
    answer(2, 100);
    expect(&patient, 0, txn_ts_make(100, 7));
}

static void test_silence(void **state)
{
    (void)state;
    struct asked asked;
    ask(&asked, 3 * PD_TSO_SILENCE_MS);
    assert_int_equal(pd_tso_timer(&world.tso), world.now_ms + PD_TSO_SILENCE_MS);
    pd_tso_run(&world.tso, world.now_ms + PD_TSO_SILENCE_MS - 1);
    assert_false(world.pd.refused);
    assert_non_null(world.tso.stream.call);
    pd_tso_run(&world.tso, world.now_ms + PD_TSO_SILENCE_MS);
    assert_true(world.pd.refused); /* the leader is looked for */
    assert_null(world.tso.stream.call);
    assert_int_equal(asked.done, 0);
    pd_tso_run(&world.tso, world.now_ms + PD_TSO_SILENCE_MS); /* another one, or the same */
    assert_int_equal(world.tso.messages_count, 1);
    answer(1, 100);
    expect(&asked, 0, txn_ts_make(100, 7));
    assert_int_equal(pd_tso_timer(&world.tso), UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_who_gives_up_is_left_out, begin, end),
        cmocka_unit_test_setup_teardown(test_a_part_of_a_message, begin, end),
        cmocka_unit_test_setup_teardown(test_a_later_one_gives_up_first, begin, end),
        cmocka_unit_test_setup_teardown(test_given_up, begin, end),
        cmocka_unit_test_setup_teardown(test_asked_again, begin, end),
        cmocka_unit_test_setup_teardown(test_silence, begin, end),
    };
    return cmocka_run_group_tests_name("tikv-tso", tests, NULL, NULL);
}

/* What the TiKV client does about errors, and how long it waits; whom of PD it asks. No sockets. */
#include "client/tikv/cluster_parts.h"
#include "client/tikv/pd_members.h"
#include "client/tikv/pd_safe_point.h"
#include "client/tikv/retry.h"
#include "pdpb.pb-c.h"
#include "proto/grpc/status.h"

#include <kvs/error.h>
#include <stdio.h>
#include <string.h>

#include "test.h"

static void test_waits_grow_to_the_budget(void **state)
{
    (void)state;
    struct rand rand = rand_seed(1);
    struct backoff backoff = {0};
    static const int64_t regular[] = {2, 4, 8, 16, 32, 64, 128, 256, 500, 500};
    for (unsigned i = 0; i < sizeof regular / sizeof regular[0]; i++)
        assert_int_equal(backoff_next(&backoff, BACKOFF_REGION_MISS, &rand, 0), regular[i]);
    int64_t first = backoff_next(&backoff, BACKOFF_SERVER_BUSY, &rand, 0);
    assert_in_range(first, 1000, 2000);
    assert_true(backoff_next(&backoff, BACKOFF_STALE_COMMAND, &rand, 77) == 77);
    uint64_t sum = backoff.slept_ms;
    int64_t wait;
    while ((wait = backoff_next(&backoff, BACKOFF_TIKV_RPC, &rand, 0)) >= 0) {
        assert_in_range(wait, 0, 2000);
        sum += (uint64_t)wait;
    }
    assert_int_equal(sum, RETRY_BUDGET_MS);
}

static void test_region_errors(void **state)
{
    (void)state;
    Metapb__Peer leader = METAPB__PEER__INIT;
    leader.id = 3;
    Errorpb__NotLeader not_leader = ERRORPB__NOT_LEADER__INIT;
    Errorpb__Error error = ERRORPB__ERROR__INIT;
    error.not_leader = &not_leader;
    struct retry_decision decision = retry_on_region_error(&error);
    assert_true(decision.what == RETRY_AFTER && decision.drop_region && !decision.take_leader);
    not_leader.leader = &leader;
    decision = retry_on_region_error(&error);
    assert_true(decision.what == RETRY_AT_ONCE && !decision.drop_region && decision.take_leader);

    Errorpb__EpochNotMatch epoch = ERRORPB__EPOCH_NOT_MATCH__INIT;
    error = (Errorpb__Error)ERRORPB__ERROR__INIT;
    error.epoch_not_match = &epoch;
    decision = retry_on_region_error(&error);
    assert_true(decision.what == RETRY_AFTER && decision.drop_region);
    Metapb__Region region = METAPB__REGION__INIT;
    Metapb__Region *regions[] = {&region};
    epoch.current_regions = regions;
    epoch.n_current_regions = 1;
    decision = retry_on_region_error(&error);
    assert_true(decision.what == RETRY_AT_ONCE && decision.take_regions);

    Errorpb__ServerIsBusy busy = ERRORPB__SERVER_IS_BUSY__INIT;
    error = (Errorpb__Error)ERRORPB__ERROR__INIT;
    error.server_is_busy = &busy;
    busy.backoff_ms = 1234;
    decision = retry_on_region_error(&error);
    assert_true(decision.what == RETRY_AFTER && decision.backoff == BACKOFF_SERVER_BUSY);
    assert_true(decision.at_least_ms == 1234 && !decision.drop_region);

    Errorpb__UndeterminedResult undetermined = ERRORPB__UNDETERMINED_RESULT__INIT;
    error = (Errorpb__Error)ERRORPB__ERROR__INIT;
    error.undetermined_result = &undetermined;
    decision = retry_on_region_error(&error);
    assert_true(decision.what == RETRY_NEVER && decision.error == KVS_ERR_OUTCOME_UNKNOWN);

    Errorpb__RaftEntryTooLarge large = ERRORPB__RAFT_ENTRY_TOO_LARGE__INIT;
    error = (Errorpb__Error)ERRORPB__ERROR__INIT;
    error.raft_entry_too_large = &large;
    assert_int_equal(retry_on_region_error(&error).error, KVS_ERR_TOO_LARGE);

    error = (Errorpb__Error)ERRORPB__ERROR__INIT;
    error.message = "TiKV is Closing";
    decision = retry_on_region_error(&error);
    assert_true(decision.what == RETRY_AFTER && decision.drop_region);
}

static void test_statuses(void **state)
{
    (void)state;
    struct retry_decision decision = retry_on_status(GRPC_UNAVAILABLE, false, false);
    assert_true(decision.what == RETRY_AFTER && decision.switch_peer && decision.maybe_done);
    decision = retry_on_status(GRPC_UNAVAILABLE, false, true);
    assert_true(decision.what == RETRY_AFTER && !decision.maybe_done);
    assert_int_equal(retry_on_status(GRPC_UNIMPLEMENTED, true, false).error, KVS_ERR_UNSUPPORTED);
    assert_int_equal(retry_on_status(GRPC_DEADLINE_EXCEEDED, true, false).error, KVS_ERR_TIMEOUT);
    assert_int_equal(retry_on_status(GRPC_PERMISSION_DENIED, true, false).error,
                     KVS_ERR_PERMISSION);
    assert_int_equal(retry_on_status(GRPC_RESOURCE_EXHAUSTED, false, false).error,
                     KVS_ERR_TOO_LARGE);
    static const char text[] = "max key size exceeded, size: 9000, limit: 8192";
    assert_int_equal(retry_error_of_text(text, sizeof text - 1), KVS_ERR_TOO_LARGE);
}

static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *host; /* NULL: refused */
        uint16_t port;
    } rows[] = {
        {"127.0.0.1:2379", "127.0.0.1", 2379},
        {"http://pd-0.pd:1234", "pd-0.pd", 1234},
        {"https://[::1]:99/", "::1", 99},
        {"pd", "pd", PD_PORT_DEFAULT},
        {"[fe80::1]", "fe80::1", PD_PORT_DEFAULT},
        {"", NULL, 0},
        {"a:0", NULL, 0},
        {"a:65536", NULL, 0},
        {"a b:1", NULL, 0},
        {"::1:2379", NULL, 0},
        {"[::1", NULL, 0},
        {"a/b:1", NULL, 0},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct pd_address address;
        bool ok = pd_address_parse(rows[i].text, strlen(rows[i].text), &address);
        assert_int_equal(ok, rows[i].host != NULL);
        if (ok) {
            assert_string_equal(address.host, rows[i].host);
            assert_int_equal(address.port, rows[i].port);
        }
    }
}

static void test_members(void **state)
{
    (void)state;
    struct pd_members members;
    char why[256];
    assert_int_equal(pd_members_init(&members, "a:1,,b:2", why, sizeof why),
                     KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(pd_members_init(&members, "a:1,b:2,a:1", why, sizeof why), 0);
    assert_int_equal(members.count, 2);
    pd_members_round(&members);
    assert_int_equal(pd_members_next(&members), 0);
    assert_int_equal(pd_members_next(&members), 1);
    assert_int_equal(pd_members_next(&members), -1);

    Pdpb__ResponseHeader header = PDPB__RESPONSE_HEADER__INIT;
    Pdpb__Member member = PDPB__MEMBER__INIT;
    Pdpb__Member *list[] = {&member};
    char *urls[] = {"http://c:3"};
    Pdpb__GetMembersResponse response = PDPB__GET_MEMBERS_RESPONSE__INIT;
    assert_int_equal(pd_members_take(&members, &response, why, sizeof why), KVS_ERR_PROTOCOL);
    response.header = &header;
    header.cluster_id = 42;
    assert_int_equal(pd_members_take(&members, &response, why, sizeof why), KVS_ERR_CONNECT);
    response.leader = &member;
    response.members = list;
    response.n_members = 1;
    assert_int_equal(pd_members_take(&members, &response, why, sizeof why), KVS_ERR_PROTOCOL);
    member.client_urls = urls;
    member.n_client_urls = 1;
    assert_int_equal(pd_members_take(&members, &response, why, sizeof why), 0);
    assert_int_equal(members.leader, 2);
    assert_string_equal(members.addresses[2].host, "c");

    /* The last leader is asked first, each address once. */
    pd_members_forget_leader(&members);
    assert_int_equal(members.leader, -1);
    pd_members_round(&members);
    assert_int_equal(pd_members_next(&members), 2);
    assert_int_equal(pd_members_next(&members), 0);
    assert_int_equal(pd_members_next(&members), 1);
    assert_int_equal(pd_members_next(&members), -1);

    header.cluster_id = 43;
    assert_int_equal(pd_members_take(&members, &response, why, sizeof why),
                     KVS_ERR_INVALID_ARGUMENT);
    assert_string_equal(why, "belongs to cluster 43, not to 42");
}

/* --- the safe point of PDs of all ages ----------------------------------------------------------
 */

static struct {
    uv_loop_t uv;
    struct loop loop;
    struct pd_client pd;
    struct pd_safe_point safe_point;
    _Atomic uint64_t value;
    unsigned told;
} points;

static void on_told(struct pd_safe_point *safe_point)
{
    assert_ptr_equal(safe_point, &points.safe_point);
    points.told++;
}

static void points_begin(void)
{
    memset(&points, 0, sizeof points);
    assert_int_equal(uv_loop_init(&points.uv), 0);
    points.loop.uv = &points.uv;
    points.pd.loop = &points.loop;
    list_init(&points.pd.waiting);
    points.safe_point =
        (struct pd_safe_point){.pd = &points.pd, .value = &points.value, .told = on_told};
    pd_safe_point_start(&points.safe_point, 7);
}

static void points_end(void)
{
    pd_safe_point_stop(&points.safe_point);
    assert_true(list_empty(&points.pd.waiting));
    assert_int_equal(uv_loop_close(&points.uv), 0);
}

static const char *points_why = "";

/* Its question, that is under way, is for this, and is answered; an error with points_why. */
static void points_reply(const char *path, int error, const ProtobufCMessage *reply)
{
    struct buf bytes = {0};
    assert_false(list_empty(&points.pd.waiting));
    struct pd_request *request = &points.safe_point.request;
    assert_true(slice_equal(request->path, slice_of_string(path)));
    if (reply != NULL)
        assert_int_equal(pack_message(&bytes, reply), 0);
    list_remove(&request->node);
    request->pd = NULL;
    request->done(request, error, buf_slice(&bytes), points_why);
    buf_deinit(&bytes);
}

/* It is due after `wait_ms`, and not before. */
static void points_answer(uint64_t wait_ms, const char *path, int error,
                          const ProtobufCMessage *reply)
{
    uint64_t now_ms = loop_now_ms(&points.loop);
    if (wait_ms > 0)
        pd_safe_point_run(&points.safe_point, now_ms + wait_ms - 1);
    assert_true(list_empty(&points.pd.waiting));
    pd_safe_point_run(&points.safe_point, now_ms + wait_ms);
    points_reply(path, error, reply);
}

#define STATE "/pdpb.PD/GetGCState"
#define POINT "/pdpb.PD/GetGCSafePoint"

static void test_safe_point(void **state)
{
    (void)state;
    Pdpb__GCState gc = PDPB__GCSTATE__INIT;
    Pdpb__GetGCStateResponse reply = PDPB__GET_GCSTATE_RESPONSE__INIT;
    Pdpb__ResponseHeader header = PDPB__RESPONSE_HEADER__INIT;
    Pdpb__Error error = PDPB__ERROR__INIT;
    reply.gc_state = &gc;
    reply.header = &header;
    gc.txn_safe_point = 50;
    gc.gc_safe_point = 40;
    points_begin();
    uint64_t now_ms = loop_now_ms(&points.loop);
    assert_string_equal(points.safe_point.why, "no answer");
    points_why = "nobody is there";
    points_answer(0, STATE, KVS_ERR_CONNECT, NULL);
    assert_false(pd_safe_point_is_known(&points.safe_point, now_ms));
    assert_string_equal(points.safe_point.why, "nobody is there");
    header.error = &error;
    points_answer(SAFE_POINT_AGAIN_MS, STATE, 0, &reply.base);
    assert_int_equal(points.told, 0);
    assert_string_equal(points.safe_point.why, "an answer that says nothing");
    header.error = NULL;
    points_answer(SAFE_POINT_AGAIN_MS, STATE, 0, &reply.base);
    assert_int_equal(points.told, 1);
    assert_true(pd_safe_point_is_past(&points.safe_point, 49));
    assert_false(pd_safe_point_is_past(&points.safe_point, 50));
    assert_true(pd_safe_point_is_known(&points.safe_point, now_ms + SAFE_POINT_KNOWN_MS - 1));
    assert_false(pd_safe_point_is_known(&points.safe_point, now_ms + SAFE_POINT_KNOWN_MS));
    gc.txn_safe_point = 30; /* never back */
    points_answer(SAFE_POINT_EVERY_MS, STATE, 0, &reply.base);
    assert_true(pd_safe_point_is_past(&points.safe_point, 49));
    assert_int_equal(pd_safe_point_timer(&points.safe_point), now_ms + SAFE_POINT_EVERY_MS);
    pd_safe_point_run(&points.safe_point, now_ms + SAFE_POINT_EVERY_MS);
    points_end(); /* with a question under way */
}

static void test_safe_point_of_old_pds(void **state)
{
    (void)state;
    Pdpb__GetGCSafePointResponse reply = PDPB__GET_GCSAFE_POINT_RESPONSE__INIT;
    reply.safe_point = 60;
    points_begin();
    uint64_t now_ms = loop_now_ms(&points.loop);
    points_answer(0, STATE, KVS_ERR_UNSUPPORTED, NULL);
    assert_false(pd_safe_point_is_known(&points.safe_point, now_ms));
    points_answer(0, POINT, 0, &reply.base);
    assert_true(pd_safe_point_is_past(&points.safe_point, 59));
    points_answer(SAFE_POINT_EVERY_MS, POINT, KVS_ERR_UNSUPPORTED, NULL); /* one that has none */
    assert_true(pd_safe_point_is_known(&points.safe_point, UINT64_MAX));
    assert_int_equal(pd_safe_point_timer(&points.safe_point), now_ms + SAFE_POINT_OLD_MS);
    assert_int_equal(points.told, 2);
    points_end();
}

/* What PD did not know, it may know after a while. The loop's time stands still: what is due is so
 * many milliseconds after the first question. */
static void test_safe_point_of_pds_that_are_upgraded(void **state)
{
    (void)state;
    Pdpb__GCState gc = PDPB__GCSTATE__INIT;
    Pdpb__GetGCStateResponse reply = PDPB__GET_GCSTATE_RESPONSE__INIT;
    Pdpb__GetGCSafePointResponse point = PDPB__GET_GCSAFE_POINT_RESPONSE__INIT;
    reply.gc_state = &gc;
    gc.txn_safe_point = 70;
    point.safe_point = 60;
    points_begin();
    uint64_t now_ms = loop_now_ms(&points.loop);
    points_answer(0, STATE, KVS_ERR_UNSUPPORTED, NULL); /* neither */
    points_answer(0, POINT, KVS_ERR_UNSUPPORTED, NULL);
    assert_true(pd_safe_point_is_known(&points.safe_point, UINT64_MAX));
    points_answer(SAFE_POINT_OLD_MS, STATE, KVS_ERR_CONNECT, NULL); /* while it is upgraded */
    assert_true(pd_safe_point_is_known(&points.safe_point, UINT64_MAX));
    points_answer(SAFE_POINT_AGAIN_MS, STATE, KVS_ERR_UNSUPPORTED, NULL);
    points_answer(0, POINT, 0, &point.base); /* the older of both */
    assert_true(pd_safe_point_is_past(&points.safe_point, 59));
    assert_true(pd_safe_point_is_known(&points.safe_point, now_ms + SAFE_POINT_KNOWN_MS - 1));
    assert_false(pd_safe_point_is_known(&points.safe_point, now_ms + SAFE_POINT_KNOWN_MS));
    points_answer(SAFE_POINT_EVERY_MS, POINT, 0, &point.base);
    pd_safe_point_run(&points.safe_point, now_ms + SAFE_POINT_OLD_MS - 1);
    points_reply(POINT, 0, &point.base);
    pd_safe_point_run(&points.safe_point, now_ms + SAFE_POINT_OLD_MS);
    points_reply(STATE, 0, &reply.base); /* and both */
    assert_true(pd_safe_point_is_past(&points.safe_point, 69));
    points_answer(SAFE_POINT_EVERY_MS, STATE, 0, &reply.base);
    points_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waits_grow_to_the_budget),
        cmocka_unit_test(test_safe_point),
        cmocka_unit_test(test_safe_point_of_old_pds),
        cmocka_unit_test(test_safe_point_of_pds_that_are_upgraded),
        cmocka_unit_test(test_region_errors),
        cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_members),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What `--test-faults` can do to the TiKV service; in builds with faults only. */
#include "server/tikv_faults.h"

#include "unit/server/tikv_node.h"

#include <kvs/error.h>
#include <stdio.h>
#include <unistd.h>

#include "test.h"

#define FREE(answer) protobuf_c_message_free_unpacked(&(answer)->base, NULL)

static int call_get(struct tikv_peer *peer, struct context *at, Kvrpcpb__RawGetResponse **ret)
{
    Kvrpcpb__RawGetRequest request = KVRPCPB__RAW_GET_REQUEST__INIT;
    request.context = &at->context;
    request.key = bytes_of("k");
    return peer_call(peer, "RawGet", &request, &kvrpcpb__raw_get_response__descriptor, ret);
}

static void test_texts(void **state)
{
    (void)state;
    static const char *const wrong[] = {"region-errors",
                                        "region-errors=101",
                                        "region-errors=x",
                                        "store-away=1",
                                        "store-away=1:",
                                        "store-away=:1",
                                        "pd-away=1:2:3",
                                        "nothing=1",
                                        "seed=",
                                        "seed=1,busy=1,x",
                                        "busy=99999999999999999999999"};
    char message[256];
    assert_int_equal(
        tikv_faults_set("region-errors=5,busy=1,store-away=9:0,pd-away=9:0,seed=3", message), 0);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(tikv_faults_set(wrong[i], message), KVS_ERR_INVALID_ARGUMENT);
        assert_non_null(strstr(message, "no such fault"));
        assert_int_equal(tikv_fault_next(), TIKV_FAULT_NONE); /* nothing of it is left */
    }
    assert_int_equal(tikv_faults_set("", message), 0);
}

/* Each kind comes, and in between requests are served. */
static void test_region_errors(void **state)
{
    (void)state;
    struct tikv_node *node = node_start();
    struct tikv_peer *peer = peer_connect(node);
    struct context at;
    char message[256];
    unsigned good = 0, kinds = 0;
    context_fill(&at, node, slice_of_string("k"));
    assert_int_equal(tikv_faults_set("region-errors=80,busy=5", message), 0);
    for (int i = 0; i < 1000; i++) {
        Kvrpcpb__RawGetResponse *answer;
        assert_int_equal(call_get(peer, &at, &answer), GRPC_OK);
        const Errorpb__Error *error = answer->region_error;
        if (error == NULL)
            good++;
        else if (error->server_is_busy != NULL)
            kinds |= 1;
        else if (error->not_leader != NULL)
            kinds |= error->not_leader->leader != NULL ? 2 : 4;
        else if (error->epoch_not_match != NULL)
            kinds |= error->epoch_not_match->n_current_regions > 0 ? 8 : 16;
        else if (error->region_not_found != NULL)
            kinds |= 32;
        else if (error->store_not_match != NULL)
            kinds |= 64;
        else if (error->stale_command != NULL)
            kinds |= 128;
        FREE(answer);
    }
    assert_true(good > 100);
    assert_int_equal(kinds, 255);
    assert_int_equal(tikv_faults_set("", message), 0);
    peer_close(peer);
    node_stop(node);
}

/* It breaks the connection, and is there again. */
static void test_a_store_that_goes_away(void **state)
{
    (void)state;
    char message[256];
    assert_int_equal(tikv_faults_set("store-away=40:40", message), 0);
    struct tikv_node *node = node_start();
    struct context at;
    context_fill(&at, node, slice_of_string("k"));
    unsigned lost = 0, served_after = 0;
    while (lost < 3 || served_after == 0) {
        Kvrpcpb__RawGetResponse *answer;
        struct tikv_peer *peer = peer_connect(node);
        while (call_get(peer, &at, &answer) == GRPC_OK) {
            served_after += lost >= 3;
            FREE(answer);
        }
        assert_int_equal(peer->code, GRPC_UNAVAILABLE);
        lost++;
        peer_close(peer);
    }
    assert_int_equal(tikv_faults_set("", message), 0);
    node_stop(node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_region_errors),
        cmocka_unit_test(test_a_store_that_goes_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

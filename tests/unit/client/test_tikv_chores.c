/*
 * client/tikv/txn_chores.c: what PDs of all ages are asked for when garbage is collected, in which
 * order, and what becomes of their refusals, of what holds the safe point back, and of silence.
 */
#include "client/tikv/txn_chores.h"

#include "client/tikv/cluster_parts.h"
#include "proto/tikv/key.h"

#include <kvs/error.h>

#include "test.h"

#define KEYSPACE 7u
#define TIMEOUT_MS 5000u
#define TARGET 100u

static struct {
    uv_loop_t uv;
    struct loop loop;
    struct tikv_cluster cluster;
    _Atomic uint64_t value;
    struct pd_safe_point safe_point;
    struct tikv_chores chores;
    struct txn_chore chore;
    unsigned done;
    int error;
    char why[TXN_WHY_SIZE];
} world;

static void on_done(struct txn_chore *chore, int error, const char *why)
{
    assert_ptr_equal(chore, &world.chore);
    world.done++;
    world.error = error;
    snprintf(world.why, sizeof world.why, "%s", why);
}

static int begin(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    assert_int_equal(uv_loop_init(&world.uv), 0);
    world.loop.uv = &world.uv;
    world.cluster.loop = &world.loop;
    world.cluster.pd.loop = &world.loop;
    world.cluster.keyspace_id = KEYSPACE;
    list_init(&world.cluster.pd.waiting);
    world.safe_point = (struct pd_safe_point){.pd = &world.cluster.pd, .value = &world.value};
    tikv_chores_init(&world.chores, &world.cluster, &world.safe_point, TIMEOUT_MS);
    world.chore = (struct txn_chore){.done = on_done, .safe_point = TARGET};
    return 0;
}

static int end(void **state)
{
    (void)state;
    assert_true(list_empty(&world.cluster.pd.waiting));
    assert_true(list_empty(&world.chores.questions));
    assert_int_equal(tikv_chores_timer(&world.chores), UINT64_MAX);
    assert_int_equal(uv_loop_close(&world.uv), 0);
    return 0;
}

/* --- PD's side ----------------------------------------------------------------------------------
 */

static struct pd_request *asked(const char *path)
{
    assert_false(list_empty(&world.cluster.pd.waiting));
    struct pd_request *request = list_entry(world.cluster.pd.waiting.next, struct pd_request, node);
    assert_true(slice_equal(request->path, slice_of_string(path)));
    return request;
}

static void answer(struct pd_request *request, int error, const ProtobufCMessage *reply)
{
    struct buf bytes = {0};
    if (reply != NULL)
        assert_int_equal(pack_message(&bytes, reply), 0);
    list_remove(&request->node);
    request->pd = NULL;
    request->done(request, error, buf_slice(&bytes), "why not");
    buf_deinit(&bytes);
}

static Pdpb__ResponseHeader refusal(Pdpb__Error *error)
{
    Pdpb__ResponseHeader header = PDPB__RESPONSE_HEADER__INIT;
    pdpb__error__init(error);
    error->type = PDPB__ERROR_TYPE__UNKNOWN;
    error->message = (char *)(uintptr_t) "it goes back";
    header.error = error;
    return header;
}

static void answer_state(uint64_t txn, uint64_t gc, bool is_keyspace_level)
{
    struct pd_request *request = asked("/pdpb.PD/GetGCState");
    Pdpb__GetGCStateRequest *message =
        pdpb__get_gcstate_request__unpack(NULL, request->body.size, request->body.data);
    assert_non_null(message);
    assert_int_equal(message->keyspace_scope->keyspace_id,
                     world.cluster.is_v2 ? KEYSPACE : KEYSPACE_NONE);
    pdpb__get_gcstate_request__free_unpacked(message, NULL);
    Pdpb__GCState state = PDPB__GCSTATE__INIT;
    Pdpb__GetGCStateResponse reply = PDPB__GET_GCSTATE_RESPONSE__INIT;
    state.txn_safe_point = txn;
    state.gc_safe_point = gc;
    state.is_keyspace_level_gc = is_keyspace_level;
    reply.gc_state = &state;
    answer(request, 0, &reply.base);
}

/* `after` 0: it refuses. */
static void answer_txn(uint32_t scope, uint64_t target, uint64_t after)
{
    struct pd_request *request = asked("/pdpb.PD/AdvanceTxnSafePoint");
    Pdpb__AdvanceTxnSafePointRequest *message =
        pdpb__advance_txn_safe_point_request__unpack(NULL, request->body.size, request->body.data);
    assert_non_null(message);
    assert_int_equal(message->keyspace_scope->keyspace_id, scope);
    assert_int_equal(message->target, target);
    pdpb__advance_txn_safe_point_request__free_unpacked(message, NULL);
    Pdpb__AdvanceTxnSafePointResponse reply = PDPB__ADVANCE_TXN_SAFE_POINT_RESPONSE__INIT;
    Pdpb__Error error;
    Pdpb__ResponseHeader header = refusal(&error);
    reply.header = after == 0 ? &header : NULL;
    reply.new_txn_safe_point = after;
    answer(request, 0, &reply.base);
}

static void answer_gc(uint32_t scope, uint64_t target, uint64_t after)
{
    struct pd_request *request = asked("/pdpb.PD/AdvanceGCSafePoint");
    Pdpb__AdvanceGCSafePointRequest *message =
        pdpb__advance_gcsafe_point_request__unpack(NULL, request->body.size, request->body.data);
    assert_non_null(message);
    assert_int_equal(message->keyspace_scope->keyspace_id, scope);
    assert_int_equal(message->target, target);
    pdpb__advance_gcsafe_point_request__free_unpacked(message, NULL);
    Pdpb__AdvanceGCSafePointResponse reply = PDPB__ADVANCE_GCSAFE_POINT_RESPONSE__INIT;
    Pdpb__Error error;
    Pdpb__ResponseHeader header = refusal(&error);
    reply.header = after == 0 ? &header : NULL;
    reply.new_gc_safe_point = after;
    answer(request, 0, &reply.base);
}

static void answer_service(uint64_t lowest)
{
    struct pd_request *request = asked("/pdpb.PD/UpdateServiceGCSafePoint");
    Pdpb__UpdateServiceGCSafePointRequest *message =
        pdpb__update_service_gcsafe_point_request__unpack(NULL, request->body.size,
                                                          request->body.data);
    assert_non_null(message);
    assert_int_equal(message->service_id.len, strlen("gc_worker"));
    assert_memory_equal(message->service_id.data, "gc_worker", message->service_id.len);
    assert_int_equal(message->ttl, INT64_MAX);
    assert_int_equal(message->safe_point, TARGET);
    pdpb__update_service_gcsafe_point_request__free_unpacked(message, NULL);
    Pdpb__UpdateServiceGCSafePointResponse reply = PDPB__UPDATE_SERVICE_GCSAFE_POINT_RESPONSE__INIT;
    reply.min_safe_point = lowest;
    answer(request, 0, &reply.base);
}

static void answer_update(uint64_t target, uint64_t after)
{
    struct pd_request *request = asked("/pdpb.PD/UpdateGCSafePoint");
    Pdpb__UpdateGCSafePointRequest *message =
        pdpb__update_gcsafe_point_request__unpack(NULL, request->body.size, request->body.data);
    assert_non_null(message);
    assert_int_equal(message->safe_point, target);
    pdpb__update_gcsafe_point_request__free_unpacked(message, NULL);
    Pdpb__UpdateGCSafePointResponse reply = PDPB__UPDATE_GCSAFE_POINT_RESPONSE__INIT;
    Pdpb__Error error;
    Pdpb__ResponseHeader header = refusal(&error);
    reply.header = after == 0 ? &header : NULL;
    reply.new_safe_point = after;
    answer(request, 0, &reply.base);
}

/* --- the client's -------------------------------------------------------------------------------
 */

static void expect_done(int error, uint64_t safe_point)
{
    assert_int_equal(world.done, 1);
    assert_int_equal(world.error, error);
    if (error == 0)
        assert_int_equal(world.chore.safe_point, safe_point);
    world.done = 0;
}

static void gc_begin(void)
{
    tikv_chores_gc_begin(&world.chores, &world.chore);
    assert_int_equal(world.done, 0);
}

static void gc_end(void)
{
    tikv_chores_gc_end(&world.chores, &world.chore);
    assert_int_equal(world.done, 0);
}

static void test_both_safe_points_move(void **state)
{
    (void)state;
    gc_begin();
    answer_state(50, 40, false);
    assert_false(pd_safe_point_is_past(&world.safe_point, TARGET - 1));
    answer_txn(KEYSPACE_NONE, TARGET, TARGET);
    expect_done(0, TARGET);
    assert_true(pd_safe_point_is_past(&world.safe_point, TARGET - 1)); /* our own reads, too */
    assert_false(pd_safe_point_is_past(&world.safe_point, TARGET));
    gc_end();
    answer_gc(KEYSPACE_NONE, TARGET, TARGET);
    expect_done(0, TARGET);
}

static void test_a_barrier_holds_back(void **state)
{
    (void)state;
    gc_begin();
    answer_state(50, 40, false);
    answer_txn(KEYSPACE_NONE, TARGET, 70);
    expect_done(0, 70);
    assert_false(pd_safe_point_is_past(&world.safe_point, 70));
    gc_end();
    answer_gc(KEYSPACE_NONE, 70, 70);
    expect_done(0, 70);
}

static void test_others_are_ahead(void **state)
{
    (void)state;
    gc_begin();
    answer_state(200, 40, false); /* there is nothing to move */
    expect_done(0, TARGET);
    gc_end();
    answer_gc(KEYSPACE_NONE, TARGET, 0);
    answer_state(200, 150, false);
    expect_done(0, 150);
    world.chore.safe_point = TARGET;
    gc_begin();
    answer_state(50, 40, false);
    answer_txn(KEYSPACE_NONE, TARGET, 0); /* in between */
    answer_state(300, 40, false);
    expect_done(0, TARGET);
    gc_end();
    answer_gc(KEYSPACE_NONE, TARGET, TARGET);
    expect_done(0, TARGET);
}

static void test_refusals(void **state)
{
    (void)state;
    gc_begin();
    for (unsigned i = 0; i < 4; i++) {
        answer_state(50, 40, false);
        answer_txn(KEYSPACE_NONE, TARGET, 0);
    }
    answer_state(50, 40, false);
    expect_done(KVS_ERR_IO, 0);
    assert_string_equal(world.why, "PD refuses: it goes back");
    gc_begin();
    answer_state(TARGET, 40, false);
    expect_done(0, TARGET);
    gc_end();
    answer_gc(KEYSPACE_NONE, TARGET, 0);
    answer_state(TARGET, 40, false);
    expect_done(KVS_ERR_IO, 0);
    gc_begin();
    answer(asked("/pdpb.PD/GetGCState"), KVS_ERR_PERMISSION, NULL);
    expect_done(KVS_ERR_PERMISSION, 0);
    assert_string_equal(world.why, "why not");
    gc_begin();
    Pdpb__GetGCStateResponse empty = PDPB__GET_GCSTATE_RESPONSE__INIT;
    answer(asked("/pdpb.PD/GetGCState"), 0, &empty.base);
    expect_done(KVS_ERR_PROTOCOL, 0);
}

static void test_old_pds(void **state)
{
    (void)state;
    gc_begin();
    answer(asked("/pdpb.PD/GetGCState"), KVS_ERR_UNSUPPORTED, NULL);
    answer_service(60);
    expect_done(0, 60);
    gc_end();
    answer_update(60, 60);
    expect_done(0, 60);
    world.chore.safe_point = TARGET;
    gc_begin();
    answer(asked("/pdpb.PD/GetGCState"), KVS_ERR_UNSUPPORTED, NULL);
    answer(asked("/pdpb.PD/UpdateServiceGCSafePoint"), KVS_ERR_UNSUPPORTED, NULL);
    expect_done(0, TARGET);
    gc_end();
    answer_update(TARGET, 130); /* another one's is higher */
    expect_done(0, 130);
    assert_true(pd_safe_point_is_past(&world.safe_point, 129));
    world.chore.safe_point = TARGET;
    gc_end();
    answer_update(TARGET, 0);
    expect_done(KVS_ERR_IO, 0);
}

/* A keyspace that collects by itself has safe points of its own; others share those of no keyspace.
 */
static void test_keyspaces(void **state)
{
    (void)state;
    world.cluster.is_v2 = true;
    for (unsigned level = 0; level < 2; level++) {
        uint32_t scope = level != 0 ? KEYSPACE : KEYSPACE_NONE;
        gc_begin();
        answer_state(50, 40, level != 0);
        answer_txn(scope, TARGET, TARGET);
        expect_done(0, TARGET);
        gc_end();
        answer_gc(scope, TARGET, TARGET);
        expect_done(0, TARGET);
    }
}

/* The question that is under way is the last one. */
static void test_given_up(void **state)
{
    (void)state;
    gc_begin();
    world.chore.cancelled = true;
    answer_state(50, 40, false);
    expect_done(KVS_ERR_CANCELLED, 0);
    world.chore.cancelled = false;
    tikv_chores_destroy_range(&world.chores, &world.chore);
    world.chore.cancelled = true;
    Metapb__Store store = METAPB__STORE__INIT;
    Metapb__Store *stores[] = {&store};
    Pdpb__GetAllStoresResponse reply = PDPB__GET_ALL_STORES_RESPONSE__INIT;
    reply.n_stores = 1;
    reply.stores = stores;
    answer(asked("/pdpb.PD/GetAllStores"), 0, &reply.base);
    expect_done(KVS_ERR_CANCELLED, 0);
}

static void test_silence(void **state)
{
    (void)state;
    uint64_t now_ms = loop_now_ms(&world.loop);
    gc_begin();
    assert_int_equal(tikv_chores_timer(&world.chores), now_ms + TIMEOUT_MS);
    tikv_chores_run(&world.chores, now_ms + TIMEOUT_MS - 1);
    assert_int_equal(world.done, 0);
    tikv_chores_run(&world.chores, now_ms + TIMEOUT_MS);
    expect_done(KVS_ERR_TIMEOUT, 0);
    assert_string_equal(world.why, "PD does not answer");
    snprintf(world.cluster.pd.trouble, sizeof world.cluster.pd.trouble, "pd-1: refused");
    tikv_chores_destroy_range(&world.chores, &world.chore);
    tikv_chores_run(&world.chores, now_ms + TIMEOUT_MS);
    expect_done(KVS_ERR_TIMEOUT, 0);
    assert_string_equal(world.why, "pd-1: refused");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_both_safe_points_move, begin, end),
        cmocka_unit_test_setup_teardown(test_a_barrier_holds_back, begin, end),
        cmocka_unit_test_setup_teardown(test_others_are_ahead, begin, end),
        cmocka_unit_test_setup_teardown(test_refusals, begin, end),
        cmocka_unit_test_setup_teardown(test_old_pds, begin, end),
        cmocka_unit_test_setup_teardown(test_keyspaces, begin, end),
        cmocka_unit_test_setup_teardown(test_given_up, begin, end),
        cmocka_unit_test_setup_teardown(test_silence, begin, end),
    };
    return cmocka_run_group_tests_name("tikv-chores", tests, NULL, NULL);
}

/* Transactions over a restart of the whole server: what was written lasts, and timestamps that
 * commits choose themselves stay below those that PD gives afterwards. */
#include "base/fault.h"
#include "unit/server/server_fixture.h"
#include "unit/server/txn_world.h"

#include "test.h"

struct world {
    kvs_server *server;
    struct txn_world client;
};

static void world_open(struct world *world, const char *directory)
{
    const struct kvs_server_options options = {
        .tikv = "127.0.0.1:0,127.0.0.1:0", .directory = directory, .engine = "kvs"};
    world->server = server_start(&options);
    txn_world_open(&world->client, kvs_server_pd_address(world->server),
                   kvs_server_tikv_address(world->server));
}

static void world_close(struct world *world)
{
    txn_world_close(&world->client);
    server_stop(world->server);
}

static uint64_t timestamp(struct world *world)
{
    return txn_world_timestamp(&world->client);
}

static Kvrpcpb__PrewriteResponse *ask_prewrite(struct world *world, const char *key,
                                               uint64_t start_ts, bool one_phase)
{
    Kvrpcpb__PrewriteRequest request = KVRPCPB__PREWRITE_REQUEST__INIT;
    Kvrpcpb__PrewriteResponse *reply;
    Kvrpcpb__Mutation mutation = KVRPCPB__MUTATION__INIT;
    Kvrpcpb__Mutation *mutations[] = {&mutation};
    mutation.key = bytes_of(key);
    mutation.value = bytes_of("value");
    request.context = &world->client.context;
    request.n_mutations = 1;
    request.mutations = mutations;
    request.primary_lock = bytes_of(key);
    request.start_version = start_ts;
    request.lock_ttl = 3000;
    request.try_one_pc = one_phase;
    ASK(&world->client.store, "/tikvpb.Tikv/KvPrewrite", request, kvrpcpb__prewrite_response,
        &reply);
    return reply;
}

/* The commit timestamp, when it is one phase. */
static uint64_t prewrite(struct world *world, const char *key, uint64_t start_ts, bool one_phase)
{
    Kvrpcpb__PrewriteResponse *reply = ask_prewrite(world, key, start_ts, one_phase);
    assert_null(reply->region_error);
    assert_int_equal(reply->n_errors, 0);
    uint64_t commit_ts = reply->one_pc_commit_ts;
    FREE(reply);
    return commit_ts;
}

static Kvrpcpb__CommitResponse *commit(struct world *world, const char *key, uint64_t start_ts,
                                       uint64_t commit_ts)
{
    Kvrpcpb__CommitRequest request = KVRPCPB__COMMIT_REQUEST__INIT;
    Kvrpcpb__CommitResponse *reply;
    ProtobufCBinaryData keys[] = {bytes_of(key)};
    request.context = &world->client.context;
    request.n_keys = 1;
    request.keys = keys;
    request.start_version = start_ts;
    request.commit_version = commit_ts;
    ASK(&world->client.store, "/tikvpb.Tikv/KvCommit", request, kvrpcpb__commit_response, &reply);
    return reply;
}

static Kvrpcpb__GetResponse *get(struct world *world, const char *key, uint64_t ts)
{
    Kvrpcpb__GetRequest request = KVRPCPB__GET_REQUEST__INIT;
    Kvrpcpb__GetResponse *reply;
    request.context = &world->client.context;
    request.key = bytes_of(key);
    request.version = ts;
    ASK(&world->client.store, "/tikvpb.Tikv/KvGet", request, kvrpcpb__get_response, &reply);
    assert_null(reply->region_error);
    return reply;
}

static void test_a_restart_between_the_phases(void **state)
{
    (void)state;
    char directory[64];
    struct world world;
    directory_make(directory);
    world_open(&world, directory);
    uint64_t start_ts = timestamp(&world);
    prewrite(&world, "a", start_ts, false);
    world_close(&world);
    world_open(&world, directory);
    Kvrpcpb__GetResponse *reply = get(&world, "a", timestamp(&world));
    assert_int_equal(reply->error->locked->lock_version, start_ts);
    FREE(reply);
    Kvrpcpb__CommitResponse *committed = commit(&world, "a", start_ts, timestamp(&world));
    assert_null(committed->region_error);
    assert_null(committed->error);
    FREE(committed);
    reply = get(&world, "a", timestamp(&world));
    assert_int_equal(reply->value.len, 5);
    FREE(reply);
    world_close(&world);
    directory_remove(directory);
}

/* The first commit after a restart, before PD is asked for anything. */
static void test_a_commit_is_seen_by_who_begins_after_it(void **state)
{
    (void)state;
    char directory[64];
    struct world world;
    directory_make(directory);
    world_open(&world, directory);
    uint64_t start_ts = timestamp(&world);
    world_close(&world);
    world_open(&world, directory);
    uint64_t commit_ts = prewrite(&world, "a", start_ts, true);
    assert_true(commit_ts > start_ts);
    uint64_t next_ts = timestamp(&world);
    assert_true(next_ts >= commit_ts);
    Kvrpcpb__GetResponse *reply = get(&world, "a", next_ts);
    assert_int_equal(reply->value.len, 5);
    FREE(reply);
    world_close(&world);
    directory_remove(directory);
}

#ifdef KVS_FAULTS
static void assert_undetermined(const Errorpb__Error *error)
{
    assert_non_null(error);
    assert_non_null(error->undetermined_result);
}

/* The disk fails while it syncs what decides: who asked is told that the outcome is not known, not
 * that there was an error, by which clients take it for undone. */
static void test_a_decision_that_may_be_on_the_disk(void **state)
{
    (void)state;
    for (int one_phase = 0; one_phase < 2; one_phase++) {
        char directory[64];
        struct world world;
        directory_make(directory);
        world_open(&world, directory);
        uint64_t start_ts = timestamp(&world);
        if (one_phase == 0)
            prewrite(&world, "a", start_ts, false);
        uint64_t commit_ts = timestamp(&world);
        fault_arm(FAULT_FILE_SYNC, 1, true);
        if (one_phase == 0) {
            Kvrpcpb__CommitResponse *reply = commit(&world, "a", start_ts, commit_ts);
            assert_undetermined(reply->region_error);
            FREE(reply);
        } else {
            Kvrpcpb__PrewriteResponse *reply = ask_prewrite(&world, "a", start_ts, true);
            assert_undetermined(reply->region_error);
            FREE(reply);
        }
        assert_true(fault_fired() > 0);
        fault_reset();
        txn_world_close(&world.client);
        assert_int_equal(kvs_server_close(world.server, PATIENT_MS), KVS_ERR_STORAGE_FAILED);
        world_open(&world, directory);
        /* It was written, if not synced; and this system has not failed. */
        Kvrpcpb__GetResponse *reply = get(&world, "a", timestamp(&world));
        assert_null(reply->error);
        assert_int_equal(reply->value.len, 5);
        FREE(reply);
        world_close(&world);
        directory_remove(directory);
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_restart_between_the_phases),
        cmocka_unit_test(test_a_commit_is_seen_by_who_begins_after_it),
#ifdef KVS_FAULTS
        cmocka_unit_test(test_a_decision_that_may_be_on_the_disk),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

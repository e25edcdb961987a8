/* See txn_world.h. */
#include "unit/client/txn_world.h"

#include "client/txn/client.h"
#include "pdpb.pb-c.h"
#include "proto/tikv/key.h"
#include "unit/server/grpc_peer.h"
#include "unit/server/server_fixture.h"

#include <stdio.h>
#include <string.h>

#include "test.h"
#include "times.h"

kvs_slice text(const char *string)
{
    return kvs_slice_of(string);
}

static kvs_txn_client *open_client(kvs_runtime *runtime, const char *url)
{
    struct kvs_store_options options = {.size = sizeof options, .sync = KVS_SYNC_NEVER};
    if (strncmp(url, "tikv:", 5) == 0) /* in process a call with a time-out is another way */
        options.connect_timeout_ms = options.timeout_ms = PATIENT_MS;
    return opened_by(kvs_txn_client_open(runtime, url, &options));
}

void txn_world_start(struct txn_world *world, enum txn_world_kind kind, unsigned loops)
{
    const struct kvs_runtime_options runtime_options = {.size = sizeof runtime_options,
                                                        .loops = loops};
    memset(world, 0, sizeof *world);
    assert_int_equal(kvs_runtime_new(&runtime_options, &world->runtime), 0);
    if (kind == WORLD_MEMORY) {
        snprintf(world->url, sizeof world->url, "memory:");
    } else if (kind == WORLD_LOG || kind == WORLD_ROCKSDB) {
        directory_make(world->directory);
        snprintf(world->url, sizeof world->url, "%s:%s", kind == WORLD_LOG ? "log" : "rocksdb",
                 world->directory);
    } else {
        const struct kvs_server_options options = {.size = sizeof options,
                                                   .tikv = "127.0.0.1:0,127.0.0.1:0,127.0.0.1:0"};
        world->server = server_start(&options);
        snprintf(world->url, sizeof world->url, "tikv://%s%s", kvs_server_pd_address(world->server),
                 kind == WORLD_TIKV_V2 ? "/DEFAULT" : "");
    }
    world->client = open_client(world->runtime, world->url);
}

void txn_world_close(kvs_txn_client *client)
{
    assert_int_equal(wait_free(kvs_txn_client_close(client)), 0);
}

void txn_world_stop(struct txn_world *world)
{
    txn_world_close(world->client);
    kvs_runtime_free(world->runtime);
    if (world->server != NULL)
        server_stop(world->server);
    if (world->directory[0] != '\0')
        directory_remove(world->directory);
}

kvs_txn_client *txn_world_client(struct txn_world *world)
{
    return open_client(world->runtime, world->url);
}

void txn_world_split(struct txn_world *world, const char *key)
{
    uint8_t full[64];
    uint8_t encoded[128];
    size_t prefix = 0;
    if (world->server == NULL)
        return;
    if (strstr(world->url, "/DEFAULT") != NULL) {
        key_prefix(KEY_MODE_TXN, 0, full);
        prefix = KEYSPACE_PREFIX_SIZE;
    }
    memcpy(full + prefix, key, strlen(key));
    kvs_slice whole = {.data = full, .size = prefix + strlen(key)};
    key_encode(whole, encoded);
    ProtobufCBinaryData split = {.len = key_encoded_size(whole.size), .data = encoded};
    Pdpb__SplitRegionsRequest request = PDPB__SPLIT_REGIONS_REQUEST__INIT;
    Pdpb__SplitRegionsResponse *reply;
    struct grpc_peer peer;
    request.n_split_keys = 1;
    request.split_keys = &split;
    grpc_peer_open(&peer, kvs_server_pd_address(world->server));
    int code = grpc_peer_ask(&peer, "/pdpb.PD/SplitRegions", &request.base,
                             &pdpb__split_regions_response__descriptor, &reply, NULL);
    if (code == GRPC_OK)
        protobuf_c_message_free_unpacked(&reply->base, NULL);
    grpc_peer_close(&peer);
}

/* --- waiting ------------------------------------------------------------------------------------
 */

int wait_free(kvs_future *future)
{
    int error = kvs_future_wait(future, -1);
    kvs_future_free(future);
    return error;
}

int64_t wait_number(kvs_future *future)
{
    int64_t number = -1;
    if (kvs_future_wait(future, -1) != 0)
        fail_msg("%s", kvs_future_error_message(future));
    kvs_future_get_number(future, &number);
    kvs_future_free(future);
    return number;
}

int wait_value(kvs_future *future, char value[64])
{
    kvs_slice slice = {0};
    int error = kvs_future_wait(future, -1);
    if (error == 0)
        error = kvs_future_get_value(future, &slice);
    snprintf(value, 64, "%.*s", (int)slice.size, slice.size > 0 ? (const char *)slice.data : "");
    kvs_future_free(future);
    return error;
}

int wait_pairs(kvs_future *future, char *out, size_t size, int64_t *ret_more)
{
    const kvs_pair *pairs;
    size_t count = 0;
    size_t at = 0;
    int error = kvs_future_wait(future, -1);
    out[0] = '\0';
    if (error == 0)
        error = kvs_future_get_pairs(future, &pairs, &count);
    if (error == 0 && ret_more != NULL)
        kvs_future_get_number(future, ret_more);
    for (size_t i = 0; error == 0 && i < count && at + 1 < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%.*s=%.*s ", (int)pairs[i].key.size,
                               (const char *)pairs[i].key.data,
                               pairs[i].found ? (int)pairs[i].value.size : 1,
                               pairs[i].found ? (const char *)pairs[i].value.data : "?");
    kvs_future_free(future);
    return error;
}

void put_all(kvs_txn_client *client, const char *const *pairs, unsigned count)
{
    kvs_txn *txn = kvs_txn_begin(client, NULL);
    for (unsigned i = 0; i < count; i++) {
        const char *equals = strchr(pairs[i], '=');
        kvs_slice key = {.data = (const uint8_t *)pairs[i], .size = (size_t)(equals - pairs[i])};
        assert_int_equal(wait_free(kvs_txn_put(txn, key, text(equals + 1))), 0);
    }
    assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
    kvs_txn_free(txn);
}

int get_now(kvs_txn_client *client, const char *key, char value[64])
{
    kvs_snapshot *snapshot = kvs_snapshot_new(client, 0);
    int error = wait_value(kvs_snapshot_get(snapshot, text(key)), value);
    kvs_snapshot_free(snapshot);
    return error;
}

/* --- ghosts -------------------------------------------------------------------------------------
 */

struct ghost_call {
    struct task task;
    struct txn_shard *shard;
    const struct ghost *ghost;
    enum txn_command_kind kind;
    kvs_slice key;
    kvs_slice value;
    uint64_t commit_ts;
    uint64_t life_ms;
    struct txn_mutation mutation;
    kvs_slice secondaries[4];
    kvs_future *done;
    _Atomic int result; /* 1: not yet */
};

static void fill_prewrite(struct ghost_call *call, struct txn_prewrite *prewrite)
{
    const struct ghost *ghost = call->ghost;
    call->mutation =
        (struct txn_mutation){.op = TXN_OP_PUT, .key = call->key, .value = call->value};
    for (unsigned i = 0; i < ghost->secondaries_count; i++)
        call->secondaries[i] = text(ghost->secondaries[i]);
    prewrite->mutations = &call->mutation;
    prewrite->mutations_count = 1;
    prewrite->primary = text(ghost->primary);
    prewrite->start_ts = ghost->start_ts;
    prewrite->lock_ttl_ms = ghost->ttl_ms;
    prewrite->txn_size = 2;
    prewrite->use_async_commit = ghost->async;
    prewrite->min_commit_ts = ghost->min_commit_ts;
    prewrite->secondaries = call->secondaries;
    prewrite->secondaries_count = ghost->secondaries_count;
}

static int ghost_fit(struct txn_call *txn_call, const struct txn_bounds *bounds)
{
    (void)bounds;
    struct ghost_call *call = txn_call->owner;
    const struct ghost *ghost = call->ghost;
    if (call->kind == TXN_PREWRITE) {
        fill_prewrite(call, &txn_call->command.prewrite);
    } else if (call->kind == TXN_COMMIT) {
        txn_call->command.commit.keys = &call->key;
        txn_call->command.commit.keys_count = 1;
        txn_call->command.commit.start_ts = ghost->start_ts;
        txn_call->command.commit.commit_ts = call->commit_ts;
    } else if (call->kind == TXN_CHECK_STATUS) {
        txn_call->command.check_status.primary = call->key;
        txn_call->command.check_status.start_ts = ghost->start_ts;
    } else if (call->kind == TXN_PESSIMISTIC_ROLLBACK) {
        txn_call->command.pessimistic_rollback.keys = &call->key;
        txn_call->command.pessimistic_rollback.keys_count = 1;
        txn_call->command.pessimistic_rollback.start_ts = ghost->start_ts;
        txn_call->command.pessimistic_rollback.for_update_ts = ghost->for_update_ts;
    } else {
        struct txn_pessimistic_lock *lock = &txn_call->command.lock;
        call->mutation = (struct txn_mutation){.op = ghost->shares ? TXN_OP_SHARED_PESSIMISTIC_LOCK
                                                                   : TXN_OP_PESSIMISTIC_LOCK,
                                               .key = call->key};
        lock->mutations = &call->mutation;
        lock->mutations_count = 1;
        lock->primary = text(ghost->primary);
        lock->start_ts = ghost->start_ts;
        lock->for_update_ts = ghost->for_update_ts;
        lock->lock_ttl_ms = ghost->ttl_ms;
        lock->min_commit_ts = ghost->min_commit_ts;
        lock->wait_timeout_ms = -1;
    }
    return 0;
}

static void ghost_done(struct txn_call *txn_call, int error)
{
    struct ghost_call *call = txn_call->owner;
    if (error == 0 && call->kind == TXN_PREWRITE && txn_call->command.prewrite.errors_count > 0)
        error = -1000 - txn_call->command.prewrite.errors[0].kind;
    if (error == 0 && call->kind == TXN_PESSIMISTIC_LOCK && txn_call->command.lock.errors_count > 0)
        error = -1000 - txn_call->command.lock.errors[0].kind;
    if (error == 0 && call->kind == TXN_COMMIT)
        error = txn_call->command.commit.error.kind != 0
                    ? -1000 - txn_call->command.commit.error.kind
                    : 0;
    if (call->kind == TXN_CHECK_STATUS)
        call->life_ms = txn_call->command.check_status.lock_ttl_ms;
    txn_call_free(txn_call);
    shard_leave(call->shard);
    atomic_store(&call->result, error);
}

static const struct txn_call_methods ghost_methods = {.fit = ghost_fit, .done = ghost_done};

static void ghost_run(struct task *task)
{
    struct ghost_call *call = CONTAINER_OF(task, struct ghost_call, task);
    struct txn_call *txn_call =
        txn_call_new(call->shard->transport, call->kind, &ghost_methods, call);
    txn_call->key = call->key;
    txn_call->deadline_ms = shard_now_ms(call->shard) + PATIENT_MS;
    txn_call_start(txn_call);
}

static int ghost_send(kvs_txn_client *client, struct ghost_call *call)
{
    call->shard = &client->shards[0];
    call->task.run = ghost_run;
    atomic_init(&call->result, 1);
    shard_enter(call->shard);
    loop_post(call->shard->loop, &call->task);
    while (atomic_load(&call->result) == 1)
        wait_free(kvs_future_delay(client->runtime, 1));
    return atomic_load(&call->result);
}

int ghost_prewrite(kvs_txn_client *client, const struct ghost *ghost, const char *key,
                   const char *value)
{
    struct ghost_call call = {
        .ghost = ghost, .kind = TXN_PREWRITE, .key = text(key), .value = text(value)};
    return ghost_send(client, &call);
}

int ghost_lock(kvs_txn_client *client, const struct ghost *ghost, const char *key)
{
    struct ghost_call call = {.ghost = ghost, .kind = TXN_PESSIMISTIC_LOCK, .key = text(key)};
    return ghost_send(client, &call);
}

int ghost_unlock(kvs_txn_client *client, const struct ghost *ghost, const char *key)
{
    struct ghost_call call = {.ghost = ghost, .kind = TXN_PESSIMISTIC_ROLLBACK, .key = text(key)};
    return ghost_send(client, &call);
}

int ghost_commit(kvs_txn_client *client, const struct ghost *ghost, const char *key,
                 uint64_t commit_ts)
{
    struct ghost_call call = {
        .ghost = ghost, .kind = TXN_COMMIT, .key = text(key), .commit_ts = commit_ts};
    return ghost_send(client, &call);
}

void ghost_outlive(kvs_txn_client *client, const struct ghost *ghost)
{
    uint64_t end_ms = (ghost->start_ts >> KVS_TXN_TS_LOGICAL_BITS) + ghost->ttl_ms + 1;
    while ((uint64_t)wait_number(kvs_txn_current_timestamp(client)) >> KVS_TXN_TS_LOGICAL_BITS <=
           end_ms)
        wait_free(kvs_future_delay(client->runtime, 1));
}

uint64_t lock_life_ms(kvs_txn_client *client, const char *primary, uint64_t start_ts)
{
    const struct ghost of = {.start_ts = start_ts};
    struct ghost_call call = {.ghost = &of, .kind = TXN_CHECK_STATUS, .key = text(primary)};
    return ghost_send(client, &call) == 0 ? call.life_ms : 0;
}

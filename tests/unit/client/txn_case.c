/* See txn_case.h. */
#include "unit/client/txn_case.h"

#include <string.h>

#include "test.h"

struct txn_world world;
enum txn_world_kind world_kind;

int world_set_up(void **state)
{
    (void)state;
    txn_world_start(&world, world_kind, 2);
    return 0;
}

static int set_up_kind(void **state, enum txn_world_kind kind)
{
    world_kind = kind;
    return world_set_up(state);
}

int world_set_up_memory(void **state)
{
    return set_up_kind(state, WORLD_MEMORY);
}

int world_set_up_log(void **state)
{
    return set_up_kind(state, WORLD_LOG);
}

int world_set_up_rocksdb(void **state)
{
    return set_up_kind(state, WORLD_ROCKSDB);
}

int world_set_up_tikv(void **state)
{
    return set_up_kind(state, WORLD_TIKV);
}

int world_tear_down(void **state)
{
    (void)state;
    txn_world_stop(&world);
    return 0;
}

void world_reopen(void)
{
    txn_world_close(world.client);
    world.client = txn_world_client(&world);
}

kvs_txn *world_begin(bool is_pessimistic)
{
    const struct kvs_txn_options options = {.size = sizeof options,
                                            .pessimistic = is_pessimistic,
                                            .lock_wait_ms = KVS_TXN_LOCK_NO_WAIT};
    return kvs_txn_begin(world.client, &options);
}

void world_expect(const char *key, const char *expected)
{
    char value[64];
    int error = get_now(world.client, key, value);
    if (expected == NULL)
        assert_int_equal(error, KVS_ERR_NOT_FOUND);
    else if (error != 0 || strcmp(value, expected) != 0)
        fail_msg("%s: %d \"%s\" instead of \"%s\"", key, error, value, expected);
}

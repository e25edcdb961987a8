/* client/txn/snapshot.c: a snapshot is a transaction that only reads, and may begin in the past. */
#include "client/txn/txn_parts.h"

static kvs_txn *txn_of(kvs_snapshot *snapshot)
{
    return (kvs_txn *)(void *)snapshot;
}

kvs_snapshot *kvs_snapshot_new(kvs_txn_client *client, uint64_t timestamp)
{
    const struct kvs_txn_options options = {.size = sizeof options, .read_only = true};
    return (kvs_snapshot *)(void *)txn_new(client, &options, timestamp);
}

void kvs_snapshot_free(kvs_snapshot *snapshot)
{
    kvs_txn_free(txn_of(snapshot));
}

kvs_future *kvs_snapshot_timestamp(kvs_snapshot *snapshot)
{
    return kvs_txn_start_timestamp(txn_of(snapshot));
}

kvs_future *kvs_snapshot_get(kvs_snapshot *snapshot, kvs_slice key)
{
    return kvs_txn_get(txn_of(snapshot), key);
}

kvs_future *kvs_snapshot_exists(kvs_snapshot *snapshot, kvs_slice key)
{
    return kvs_txn_exists(txn_of(snapshot), key);
}

kvs_future *kvs_snapshot_batch_get(kvs_snapshot *snapshot, const kvs_slice *keys, size_t count)
{
    return kvs_txn_batch_get(txn_of(snapshot), keys, count);
}

kvs_future *kvs_snapshot_scan(kvs_snapshot *snapshot, kvs_slice start, kvs_slice end,
                              uint32_t limit, unsigned flags)
{
    return kvs_txn_scan(txn_of(snapshot), start, end, limit, flags);
}

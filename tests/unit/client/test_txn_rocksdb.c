/* Every call of kvs/txn.h over RocksDB. */
#include "unit/client/txn_world.h"

int main(void)
{
    return txn_calls_run(WORLD_ROCKSDB);
}

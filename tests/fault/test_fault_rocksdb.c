/* tests/fault/test_fault_rocksdb.c: the engine rocksdb without memory, and when files fail: our
 * own, and (where it is called to write and to sync) RocksDB's. What happens inside of RocksDB is
 * out of reach: without memory it ends the process. */
#include "fault/fault_loop.h"

int main(void)
{
    static const struct engine_kind kind = {.name = "fault-rocksdb",
                                            .directory = "rocksdb",
                                            .open = rocksdb_engine_open_blocking,
                                            .cache_size_bytes = 8 * 1024 * 1024};
    return fault_loop_main(&kind);
}

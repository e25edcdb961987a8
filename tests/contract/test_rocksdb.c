/* tests/contract/test_rocksdb.c: the contract on the engine rocksdb; given any argument, with
 * hardly any cache, so that most reads of files need the file. */
#include "contract/contract.h"

int main(int argc, char **argv)
{
    struct engine_kind kind = {
        .name = "contract-rocksdb", .directory = "rocksdb", .open = rocksdb_engine_open_blocking};
    kind.cache_size_bytes = argc > 1 ? 64 * 1024 : 32 * 1024 * 1024;
    return contract_run(&kind);
}

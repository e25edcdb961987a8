/* tests/contract/test_log.c: the contract on the log engine: as usual, or (given any argument) with
 * tiny segments and hardly any cache, so that every test rolls over, compacts and reads from files;
 * with "callers" the threads that submit also do the writer's work.
 */
#include "contract/contract.h"

#include <string.h>

int main(int argc, char **argv)
{
    static struct engine_kind kind = {
        .name = "contract-log", .directory = "kvs", .open = log_engine_open_blocking};
    if (argc > 1) {
        kind.segment_size_bytes = 64 * 1024;
        kind.cache_size_bytes = 64 * 1024;
    }
    if (argc > 1 && strcmp(argv[1], "callers") == 0) {
        kind.sync = KVS_SYNC_INTERVAL;
        kind.callers_write = true;
    }
    return contract_run(&kind);
}

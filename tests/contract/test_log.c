/* tests/contract/test_log.c: the contract on the log engine: segments of the usual size, or (given
 * any argument) tiny ones, so that every test rolls over and compacts. */
#include "contract/contract.h"

int main(int argc, char **argv)
{
    static struct engine_kind kind = {
        .name = "contract-log", .directory = "kvs", .open = log_engine_open_blocking};
    if (argc > 1)
        kind.segment_size_bytes = 64 * 1024;
    return contract_run(&kind);
}

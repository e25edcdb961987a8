/* tests/contract/test_log.c: the contract on the log engine. */
#include "contract/contract.h"

int main(void)
{
    static const struct engine_kind kind = {
        .name = "contract-log", .directory = "kvs", .open = log_engine_open_blocking};
    return contract_run(&kind);
}

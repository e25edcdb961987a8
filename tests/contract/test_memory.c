/* tests/contract/test_memory.c: the contract on the memory engine. */
#include "contract/contract.h"

int main(void)
{
    static const struct engine_kind kind = {.name = "contract-memory",
                                            .open = memory_engine_open_blocking};
    return contract_run(&kind);
}

/* tests/fault/test_fault_memory.c: the memory engine without memory. */
#include "fault/fault_loop.h"

int main(void)
{
    static const struct engine_kind kind = {.name = "fault-memory",
                                            .open = memory_engine_open_blocking};
    return fault_loop_main(&kind);
}

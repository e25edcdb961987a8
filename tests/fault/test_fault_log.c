/* tests/fault/test_fault_log.c: the log engine when memory, files or the disk fail. */
#include "fault/fault_loop.h"

int main(void)
{
    static const struct engine_kind kind = {.name = "fault-log",
                                            .directory = "kvs",
                                            .open = log_engine_open_blocking,
                                            .segment_size_bytes = 64 * 1024};
    return fault_loop_main(&kind);
}

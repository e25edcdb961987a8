/* tests/fault/test_fault_log.c: the log engine when memory, files or the disk fail; with "prefault"
 * its memory for values is made when it is opened. */
#include "fault/fault_loop.h"

#include <string.h>

int main(int argc, char **argv)
{
    static struct engine_kind kind = {.name = "fault-log",
                                      .directory = "kvs",
                                      .open = log_engine_open_blocking,
                                      .segment_size_bytes = 64 * 1024};
    if (argc > 1 && strcmp(argv[1], "prefault") == 0) {
        kind.cache_size_bytes = 4 * kind.segment_size_bytes;
        kind.cache_prefault = true;
    }
    return fault_loop_main(&kind);
}

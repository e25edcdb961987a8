/* tests/contract/test_model_log.c: the log engine beside the oracle, with segments so small that
 * they roll and are compacted all the time. */
#include "contract/model.h"

int main(int argc, char **argv)
{
    static const struct engine_kind kind = {.name = "model-log",
                                            .directory = "kvs",
                                            .open = log_engine_open_blocking,
                                            .segment_size_bytes = 64u * 1024};
    return model_main(&kind, argc, argv);
}

/* tests/contract/test_model_log.c: the model on the log engine, with tiny segments. */
#include "contract/model.h"

int main(int argc, char **argv)
{
    static const struct engine_kind kind = {.name = "model-log",
                                            .directory = "kvs",
                                            .open = log_engine_open_blocking,
                                            .segment_size_bytes = 64 * 1024};
    return model_main(&kind, argc, argv);
}

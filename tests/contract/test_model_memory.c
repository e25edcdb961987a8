/* tests/contract/test_model_memory.c: the model on the oracle, which must agree with itself. */
#include "contract/model.h"

int main(int argc, char **argv)
{
    static const struct engine_kind kind = {.name = "model-memory",
                                            .open = memory_engine_open_blocking};
    return model_main(&kind, argc, argv);
}

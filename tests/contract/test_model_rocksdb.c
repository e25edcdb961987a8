/* tests/contract/test_model_rocksdb.c: the model on the engine rocksdb, with a small cache. */
#include "contract/model.h"

int main(int argc, char **argv)
{
    static const struct engine_kind kind = {.name = "model-rocksdb",
                                            .directory = "rocksdb",
                                            .open = rocksdb_engine_open_blocking,
                                            .cache_size_bytes = 1024 * 1024};
    return model_main(&kind, argc, argv);
}

/* engine/rocksdb/absent.c: stands for the engine rocksdb in a build without librocksdb. */
#include "engine/engine.h"

#include <stdio.h>

int rocksdb_engine_open_blocking(const struct engine_options *options, struct engine **ret_engine,
                                 struct engine_message *ret_message)
{
    snprintf(ret_message->text, sizeof ret_message->text,
             "%s: this kvs was built without the engine rocksdb; install librocksdb-dev and build "
             "it again",
             options->directory);
    return KVS_ERR_UNSUPPORTED;
}

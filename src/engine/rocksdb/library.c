/* engine/rocksdb/library.c: finds librocksdb and its functions; see library.h. */
#define ROCKSDB_LIBRARY_OWN_NAMES /* they stand for fields here */
#include "engine/rocksdb/library.h"

#include <dlfcn.h>
#include <kvs/error.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

struct rocksdb_library rocksdb_library;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *failure; /* a text of the loader or a name: never freed */

static const struct {
    const char *name;
    size_t at; /* of the pointer in struct rocksdb_library */
} functions[] = {
#define X(name) {#name, offsetof(struct rocksdb_library, name)},
    ROCKSDB_FUNCTIONS(X)
#undef X
};

static void load(void)
{
    void *library = dlopen(ROCKSDB_SONAME, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        failure = ROCKSDB_SONAME " is not installed";
        return;
    }
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        void *function = dlsym(library, functions[i].name);
        if (function == NULL) {
            failure = functions[i].name; /* an older one under the same name */
            return;
        }
        memcpy((char *)&rocksdb_library + functions[i].at, &function, sizeof function);
    }
}

int rocksdb_library_load(const char **ret_why)
{
    pthread_once(&once, load);
    *ret_why = failure;
    return failure == NULL ? 0 : KVS_ERR_UNSUPPORTED;
}

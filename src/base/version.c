/* base/version.c: the version that meson.build names. */
#include <kvs/kvs.h>

const char *kvs_version(void)
{
    return KVS_VERSION;
}

/* client/url.h: what a store's URL says; see kvs/store.h for the forms. */
#ifndef CLIENT_URL_H
#define CLIENT_URL_H

#include <stdbool.h>
#include <stdint.h>

#define URL_PORT_DEFAULT 4000u

enum url_scheme { URL_LOG, URL_ROCKSDB, URL_MEMORY, URL_KVS, URL_TIKV };

struct url {
    enum url_scheme scheme;
    char path[4096]; /* log:, rocksdb:; tikv://: the addresses of PD */
    char host[256];  /* kvs:// */
    uint16_t port;
    char keyspace[64]; /* tikv:// */
};

/* Is it an engine in this process? */
static inline bool url_is_local(const struct url *url)
{
    return url->scheme == URL_LOG || url->scheme == URL_ROCKSDB || url->scheme == URL_MEMORY;
}

/* Returns 0, or INVALID_ARGUMENT with a line for a person, at most `size` bytes. */
int url_parse(const char *text, struct url *ret_url, char *ret_why, int size);

#endif

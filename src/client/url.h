/* client/url.h: what a store's URL says; see kvs/store.h for the forms. */
#ifndef CLIENT_URL_H
#define CLIENT_URL_H

#include <stdint.h>

#define URL_PORT_DEFAULT 4000u

enum url_scheme { URL_LOG, URL_MEMORY, URL_KVS, URL_TIKV };

struct url {
    enum url_scheme scheme;
    char path[4096]; /* log:; tikv://: the addresses of PD */
    char host[256];  /* kvs:// */
    uint16_t port;
    char keyspace[64]; /* tikv:// */
};

/* Returns 0, or INVALID_ARGUMENT with a line for a person, at most `size` bytes. */
int url_parse(const char *text, struct url *ret_url, char *ret_why, int size);

#endif

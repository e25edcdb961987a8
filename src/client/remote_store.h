/*
 * client/remote_store.h: a kvs_store on a kvs-server, over one or several connections.
 *
 * Writes of one thread all go over the same connection, so they are applied in its order; reads go
 * over the connections in turn. Each connection lives on a loop of the runtime, and recovers by
 * itself.
 */
#ifndef CLIENT_REMOTE_STORE_H
#define CLIENT_REMOTE_STORE_H

#include "store/store.h"

#define REMOTE_STORE_CONNECTIONS_MAX 64u

struct remote_store_options {
    const char *host;
    uint16_t port;
    uint32_t connections;
    uint32_t connect_timeout_ms;
    uint32_t timeout_ms;
    const char *tls_ca; /* NULL, all three: no TLS */
    const char *tls_certificate;
    const char *tls_key;
    /* Called once, on a loop: 0 when the first connection stands; an error when none could be
     * made. The store is to be closed in either case. */
    void (*opened)(void *arg, int error, const char *why);
    void *arg;
};

/* Copies the options. Returns 0, NO_MEMORY, or INVALID_ARGUMENT for files of TLS, with a reason in
 * `why`; then `opened` is not called. Any thread. */
int remote_store_new(kvs_runtime *runtime, const struct remote_store_options *options,
                     kvs_store **ret_store, char why[256]);

#endif

/*
 * client/resolve.h: a host name into addresses, on the pool, since the system's resolver blocks.
 *
 * 1. resolve_start hands the question to a pool thread, which asks getaddrinfo.
 * 2. `done` is called on the loop; the addresses are in the struct, in the order to try them.
 * Failure: `error` (ADDRESS) and a text. It cannot be taken back: whoever embeds a struct resolve
 * keeps it until `done`. Numeric addresses need no thread: resolve_numeric answers at once.
 */
#ifndef CLIENT_RESOLVE_H
#define CLIENT_RESOLVE_H

#include "runtime/loop.h"

#include <kvs/thread_pool.h>
#include <netinet/in.h>

#define RESOLVE_ADDRESSES_MAX 8u

struct resolve {
    struct task task;
    struct loop *loop;
    void (*done)(struct resolve *resolve);
    const char *host;
    uint16_t port;
    int error;
    const char *why; /* static text */
    unsigned count;
    struct sockaddr_storage addresses[RESOLVE_ADDRESSES_MAX];
};

/* True when `host` is an IPv4 or IPv6 address: the struct then holds it. */
bool resolve_numeric(struct resolve *resolve);

/* loop, done, host and port are set. */
void resolve_start(struct resolve *resolve, kvs_thread_pool *pool);

#endif

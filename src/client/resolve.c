/* client/resolve.c: getaddrinfo on a pool thread; see client/resolve.h. */
#include "client/resolve.h"

#include "runtime/thread_pool.h"

#include <kvs/error.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

bool resolve_numeric(struct resolve *resolve)
{
    struct sockaddr_storage *address = &resolve->addresses[0];
    memset(address, 0, sizeof *address);
    if (uv_ip4_addr(resolve->host, resolve->port, (struct sockaddr_in *)address) != 0 &&
        uv_ip6_addr(resolve->host, resolve->port, (struct sockaddr_in6 *)address) != 0)
        return false;
    resolve->error = 0;
    resolve->count = 1;
    return true;
}

static void resolve_on_done(struct task *task)
{
    struct resolve *resolve = CONTAINER_OF(task, struct resolve, task);
    resolve->done(resolve);
}

static void resolve_run_blocking(struct task *task)
{
    struct resolve *resolve = CONTAINER_OF(task, struct resolve, task);
    char port[8];
    snprintf(port, sizeof port, "%u", resolve->port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int status = getaddrinfo(resolve->host, port, &hints, &list);
    resolve->count = 0;
    for (struct addrinfo *at = list; at != NULL && status == 0; at = at->ai_next) {
        if (resolve->count == RESOLVE_ADDRESSES_MAX ||
            at->ai_addrlen > sizeof resolve->addresses[0])
            break;
        memcpy(&resolve->addresses[resolve->count++], at->ai_addr, at->ai_addrlen);
    }
    if (list != NULL)
        freeaddrinfo(list);
    resolve->error = resolve->count > 0 ? 0 : KVS_ERR_ADDRESS;
    resolve->why = status != 0 ? gai_strerror(status) : "the name has no address";
    resolve->task.run = resolve_on_done;
    loop_post(resolve->loop, &resolve->task);
}

void resolve_start(struct resolve *resolve, kvs_thread_pool *pool)
{
    resolve->task.run = resolve_run_blocking;
    pool_submit_task(pool, &resolve->task);
}

/*
 * cli/bench/target.c: from KIND://HOST:PORT to a greeted connection. Blocking, on the main thread,
 * before the load begins; the socket's own timeouts bound every step.
 */
#include "cli/bench/target.h"

#include "base/error.h"
#include "cli/bench/worker_events.h"
#include "cli/bench/worker_store.h"

#include <errno.h>
#include <kvs/events.h>
#include <kvs/store.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

static const struct target_methods *const kinds[] = {&target_kvs, &target_redis, &target_tikv,
                                                     &target_esdb, &target_esdb_discover};

static const struct target_methods *const kinds_in_process[] = {&target_log, &target_memory};

/* KIND:, without // */
static const struct target_methods *kind_in_process_find(const char *url)
{
    for (size_t i = 0; i < sizeof kinds_in_process / sizeof kinds_in_process[0]; i++) {
        size_t size = strlen(kinds_in_process[i]->kind);
        if (strncmp(url, kinds_in_process[i]->kind, size) == 0 && url[size] == ':')
            return kinds_in_process[i];
    }
    return NULL;
}

static const struct target_methods *kind_find(const char *url, const char **ret_rest)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        size_t size = strlen(kinds[i]->kind);
        if (strncmp(url, kinds[i]->kind, size) == 0 && strncmp(url + size, "://", 3) == 0) {
            *ret_rest = url + size + 3;
            return kinds[i];
        }
    }
    return NULL;
}

/* HOST[:PORT] or [HOST][:PORT], an empty path allowed behind. */
static bool address_split(struct target *target, const char *text)
{
    size_t size = strlen(text);
    if (size > 0 && text[size - 1] == '/')
        size--;
    const char *host = text, *end = text + size;
    const char *colon = size > 0 && end[-1] == ']' ? NULL : memrchr(text, ':', size);
    const char *port = colon != NULL ? colon + 1 : target->methods->port;
    size_t host_size = (size_t)((colon != NULL ? colon : end) - text);
    size_t port_size = colon != NULL ? (size_t)(end - port) : strlen(port);
    if (host_size >= 2 && host[0] == '[' && host[host_size - 1] == ']') {
        host++;
        host_size -= 2;
    }
    if (host_size == 0 || host_size >= sizeof target->host || port_size == 0 ||
        port_size >= sizeof target->port || strspn(port, "0123456789") < port_size)
        return false;
    memcpy(target->host, host, host_size);
    target->host[host_size] = '\0';
    memcpy(target->port, port, port_size);
    target->port[port_size] = '\0';
    unsigned long number = strtoul(target->port, NULL, 10);
    return number >= 1 && number <= UINT16_MAX;
}

static bool has_tls(const struct target_tls *tls)
{
    return tls != NULL && (tls->ca != NULL || tls->certificate != NULL || tls->key != NULL);
}

int target_parse(struct target *target, const char *url, const struct target_tls *tls, char *text)
{
    *target = (struct target){.url = url};
    if (tls != NULL)
        target->tls = *tls;
    const char *rest = NULL;
    target->methods = kind_in_process_find(url);
    bool in_process = target->methods != NULL;
    if (!in_process)
        target->methods = kind_find(url, &rest);
    bool by_library = target->methods != NULL && target->methods->run != NULL;
    if (by_library && !(in_process && has_tls(tls)))
        return 0;
    if (has_tls(tls)) {
        snprintf(text, TARGET_TEXT_MAX, "%.150s: TLS is for tikv:// and esdb:// only, here", url);
        return KVS_ERR_UNSUPPORTED;
    }
    if (target->methods == NULL || !address_split(target, rest)) {
        snprintf(text, TARGET_TEXT_MAX,
                 "%.120s: want kvs://HOST[:PORT], redis://HOST[:PORT], tikv://PD[,PD...], log:DIR, "
                 "memory: or esdb://HOST[:PORT]",
                 url);
        return KVS_ERR_ADDRESS;
    }
    return 0;
}

int target_open(struct target *target, const char *url, const struct target_tls *tls, char *text)
{
    int error = target_parse(target, url, tls, text);
    if (error != 0)
        return error;
    if (target->methods->run != NULL)
        return target->methods->check(target, text);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found;
    int status = getaddrinfo(target->host, target->port, &hints, &found);
    if (status != 0) {
        snprintf(text, TARGET_TEXT_MAX, "%.120s: %s", url, gai_strerror(status));
        return KVS_ERR_ADDRESS;
    }
    memcpy(&target->address, found->ai_addr, found->ai_addrlen);
    target->address_size = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

bool target_prepare(struct target *target, size_t key_size, size_t value_size)
{
    target->key_size = key_size;
    target->value_size = value_size;
    return target->methods->prepare(target);
}

static bool store_prepare(struct target *target)
{
    return target->value_size <= KVS_VALUE_SIZE_MAX;
}

const struct target_methods target_tikv = {
    .kind = "tikv",
    .check = worker_store_check,
    .run = worker_store_run,
    .prepare = store_prepare,
};

const struct target_methods target_log = {
    .kind = "log",
    .check = worker_store_check,
    .run = worker_store_run,
    .prepare = store_prepare,
};

const struct target_methods target_memory = {
    .kind = "memory",
    .check = worker_store_check,
    .run = worker_store_run,
    .prepare = store_prepare,
};

static bool esdb_prepare(struct target *target)
{
    return target->value_size <= KVS_EVENT_SIZE_MAX - KVS_EVENT_TYPE_SIZE_MAX;
}

const struct target_methods target_esdb = {
    .kind = "esdb",
    .check = worker_events_check,
    .run = worker_events_run,
    .prepare = esdb_prepare,
};

const struct target_methods target_esdb_discover = {
    .kind = "esdb+discover",
    .check = worker_events_check,
    .run = worker_events_run,
    .prepare = esdb_prepare,
};

bool target_is_in_process(const char *url)
{
    return kind_in_process_find(url) != NULL;
}

bool target_is_events(const char *url)
{
    const char *rest;
    const struct target_methods *methods = kind_find(url, &rest);
    return methods == &target_esdb || methods == &target_esdb_discover;
}

bool target_takes_transactions(const struct target *target)
{
    return target->methods->check == worker_store_check;
}

bool target_takes_rate(const char *url)
{
    const char *rest;
    const struct target_methods *methods = kind_in_process_find(url);
    if (methods == NULL)
        methods = kind_find(url, &rest);
    return methods == NULL || methods->run == NULL; /* of no kind: that is told later */
}

static int socket_connect(const struct target *target, unsigned timeout_ms, int *ret_fd)
{
    int fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_from_errno(errno);
    /* The limits hold for connect, too: Linux takes the send timeout for it. */
    struct timeval limit = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (const struct sockaddr *)&target->address, target->address_size) != 0) {
        int failure = errno == EINPROGRESS ? ETIMEDOUT : errno;
        close(fd);
        errno = failure;
        return KVS_ERR_CONNECT;
    }
    *ret_fd = fd;
    return 0;
}

int target_connect(const struct target *target, unsigned timeout_ms, int *ret_fd, char *text)
{
    int fd = -1;
    if (target->methods->run != NULL) { /* only a place in the worker: the store connects */
        *ret_fd = eventfd(0, EFD_CLOEXEC);
        return *ret_fd >= 0 ? 0 : error_from_errno(errno);
    }
    int error = socket_connect(target, timeout_ms, &fd);
    if (error != 0) {
        snprintf(text, TARGET_TEXT_MAX, "cannot connect to %.150s:%s: %s; is the server running?",
                 target->host, target->port, strerror(errno));
        return error;
    }
    text[0] = '\0';
    error = target->methods->greet(target, fd, text);
    if (error != 0) {
        if (text[0] == '\0')
            snprintf(text, TARGET_TEXT_MAX, "%.150s:%s does not answer as a %s server: %s",
                     target->host, target->port, target->methods->kind, kvs_error_text(error));
        close(fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

static int error_of_transfer(ssize_t count)
{
    if (count == 0)
        return KVS_ERR_CONNECTION_LOST;
    return errno == EAGAIN ? KVS_ERR_TIMEOUT : error_from_errno(errno);
}

int target_send(int fd, const void *data, size_t size)
{
    const uint8_t *next = data;
    while (size > 0) {
        ssize_t count = send(fd, next, size, MSG_NOSIGNAL);
        if (count <= 0 && errno != EINTR)
            return error_of_transfer(count);
        if (count > 0) {
            next += count;
            size -= (size_t)count;
        }
    }
    return 0;
}

int target_receive(int fd, void *data, size_t size)
{
    uint8_t *next = data;
    while (size > 0) {
        ssize_t count = recv(fd, next, size, 0);
        if (count == 0 || (count < 0 && errno != EINTR))
            return error_of_transfer(count);
        if (count > 0) {
            next += count;
            size -= (size_t)count;
        }
    }
    return 0;
}

/* net/listener.c: see the header. */
#include "net/listener.h"

#include "base/error.h"
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ACCEPTS_A_TURN 64
#define BACKLOG 1024
#define RETRY_MS 100u
#define FREE_PORT_TRIES 16u
#define COMPLAIN_MS 60000u

static int bind_error(const char *address, const struct sockaddr_storage *failed, int errno_value,
                      const char *option, char message[256])
{
    int error = error_from_errno(errno_value);
    const char *what_to_do = NULL;
    char at[ADDRESS_TEXT_SIZE];
    switch (errno_value) {
    case EADDRINUSE:
        error = KVS_ERR_LOCKED;
        what_to_do = "is another server running? choose another";
        break;
    case EADDRNOTAVAIL:
        error = KVS_ERR_ADDRESS;
        what_to_do = "choose an address of this machine";
        break;
    case EACCES:
        error = KVS_ERR_PERMISSION;
        what_to_do = "ports below 1024 need privileges; choose another";
        break;
    default:
        break;
    }
    address_format(failed, at);
    bool is_name = strcmp(at, address) != 0;
    snprintf(message, 256, "cannot listen on %.80s%s%s%s: %s%s%s%s%s", address, is_name ? " (" : "",
             is_name ? at : "", is_name ? ")" : "", strerror(errno_value),
             what_to_do != NULL ? ": " : "", what_to_do != NULL ? what_to_do : "",
             what_to_do != NULL ? " with " : "", what_to_do != NULL ? option : "");
    return error;
}

static void close_sockets(struct listener *listener)
{
    for (unsigned i = 0; i < listener->count; i++) {
        close(listener->sockets[i].descriptor);
        listener->sockets[i].descriptor = -1;
    }
    listener->count = 0;
}

static void add_socket(struct listener *listener, int descriptor,
                       const struct sockaddr_storage *address)
{
    assert(listener->count < LISTENER_SOCKETS_MAX);
    if (listener->count == 0)
        address_format(address, listener->address);
    listener->sockets[listener->count++].descriptor = descriptor;
}

/* Learns the port. Returns 0 or an errno value. */
static int bind_one(struct listener *listener, struct sockaddr_storage *at)
{
    const int on = 1;
    socklen_t size = address_size(at);
    int descriptor = socket(at->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return errno;
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (at->ss_family == AF_INET6)
        setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(descriptor, (struct sockaddr *)at, size) != 0 || listen(descriptor, BACKLOG) != 0 ||
        getsockname(descriptor, (struct sockaddr *)at, &size) != 0) {
        int error = errno;
        close(descriptor);
        return error;
    }
    add_socket(listener, descriptor, at);
    return 0;
}

/* A name may have addresses of families, or in networks, that this machine is not in. */
static bool is_elsewhere(int errno_value)
{
    return errno_value == EADDRNOTAVAIL || errno_value == EAFNOSUPPORT;
}

/* All on one port. Returns 0 or an errno value, of *ret_failed. */
static int bind_all(struct listener *listener, const struct address_list *list,
                    struct address_list *ret_bound, struct sockaddr_storage *ret_failed)
{
    int skipped = 0;
    ret_bound->count = 0;
    for (unsigned i = 0; i < list->count; i++) {
        struct sockaddr_storage at = list->addresses[i];
        if (ret_bound->count > 0)
            address_set_port(&at, address_port(&ret_bound->addresses[0]));
        int error = bind_one(listener, &at);
        if (error == 0) {
            ret_bound->addresses[ret_bound->count++] = at;
            continue;
        }
        *ret_failed = at;
        if (!is_elsewhere(error)) {
            close_sockets(listener);
            return error;
        }
        skipped = error;
    }
    return ret_bound->count > 0 ? 0 : skipped;
}

static void log_name(const char *name, const struct address_list *list)
{
    char text[ADDRESS_LIST_MAX * (ADDRESS_TEXT_SIZE + 2)] = "";
    for (unsigned i = 0; i < list->count; i++) {
        size_t size = strlen(text);
        char address[ADDRESS_TEXT_SIZE];
        address_format(&list->addresses[i], address);
        snprintf(text + size, sizeof text - size, "%s%s", i > 0 ? ", " : "", address);
    }
    log_info("%s is %s", name, text);
}

int listener_bind_list(struct listener *listener, const struct address_list *list, const char *name,
                       const char *option, char message[256])
{
    struct address_list bound;
    struct sockaddr_storage failed;
    /* A port that is free at the first address may be taken at another. */
    unsigned tries = address_port(&list->addresses[0]) == 0 ? FREE_PORT_TRIES : 1;
    int error;
    do
        error = bind_all(listener, list, &bound, &failed);
    while (error == EADDRINUSE && --tries > 0);
    if (error != 0)
        return bind_error(name, &failed, error, option, message);
    if (list->count > 1)
        log_name(name, &bound);
    return 0;
}

int listener_bind_blocking(struct listener *listener, const char *address, const char *option,
                           char message[256])
{
    struct address_list list;
    const char *why;
    if (address_resolve_blocking(address, &list, &why) == 0)
        return listener_bind_list(listener, &list, address, option, message);
    snprintf(message, 256,
             "cannot listen on \"%.80s\": %s; write %.60s as in 127.0.0.1:4000, [::1]:4000 or "
             "localhost:4000",
             address, why, option);
    return KVS_ERR_ADDRESS;
}

static int option_of(int descriptor, int option)
{
    int value = 0;
    socklen_t size = sizeof value;
    return getsockopt(descriptor, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

int listener_take(struct listener *listener, int descriptor)
{
    struct sockaddr_storage at = {0};
    socklen_t size = sizeof at;
    if (option_of(descriptor, SO_TYPE) != SOCK_STREAM ||
        option_of(descriptor, SO_ACCEPTCONN) != 1 ||
        getsockname(descriptor, (struct sockaddr *)&at, &size) != 0 ||
        (at.ss_family != AF_INET && at.ss_family != AF_INET6))
        return KVS_ERR_ADDRESS;
    if (listener->count == LISTENER_SOCKETS_MAX)
        return KVS_ERR_TOO_LARGE;
    int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (copy < 0)
        return error_from_errno(errno);
    add_socket(listener, copy, &at); /* libuv makes it not block */
    return 0;
}

void listener_unbind(struct listener *listener)
{
    assert(listener->handles == 0);
    close_sockets(listener);
}

/* --- accepting ---- */

static void on_readable(uv_poll_t *poll, int status, int events);

static void on_retry(uv_timer_t *timer)
{
    struct listener *listener = timer->data;
    for (unsigned i = 0; i < listener->count; i++)
        uv_poll_start(&listener->sockets[i].poll, UV_READABLE, on_readable);
}

/* No descriptors or memory: the clients wait in the system's queue, meanwhile. */
static void pause_accepting(struct listener *listener, int errno_value)
{
    uint64_t now_ms = loop_now_ms(listener->loop);
    if (listener->complained_ms == 0 || now_ms - listener->complained_ms >= COMPLAIN_MS) {
        log_warn("cannot accept connections: %s; trying again (raise the limit of open files, or "
                 "lower --connections-max)",
                 strerror(errno_value));
        listener->complained_ms = now_ms;
    }
    for (unsigned i = 0; i < listener->count; i++)
        uv_poll_stop(&listener->sockets[i].poll);
    uv_timer_start(&listener->retry, on_retry, RETRY_MS, 0);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct listener *listener = poll->data;
    struct listener_socket *from = CONTAINER_OF(poll, struct listener_socket, poll);
    for (int i = 0; i < ACCEPTS_A_TURN && from->descriptor >= 0; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t size = sizeof peer;
        int descriptor = accept4(from->descriptor, (struct sockaddr *)&peer, &size,
                                 SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (descriptor >= 0) {
            char text[ADDRESS_TEXT_SIZE];
            address_format(&peer, text);
            listener->on_accept(listener->arg, descriptor, text);
            continue;
        }
        if (errno == EAGAIN)
            return;
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(listener, errno);
            return;
        }
        if (errno == EINVAL) { /* somebody else who has the socket has shut it down */
            log_error("no more connections at %s: the socket was shut down by another process",
                      listener->address);
            uv_poll_stop(poll);
            return;
        }
        /* Anything else concerns the one connection that was lost before we took it. */
    }
}

int listener_start(struct listener *listener, struct loop *loop, listener_accept_fn *on_accept,
                   void *arg)
{
    listener->loop = loop;
    listener->on_accept = on_accept;
    listener->arg = arg;
    uv_timer_init(loop->uv, &listener->retry); /* cannot fail */
    listener->retry.data = listener;
    listener->handles = 1;
    for (unsigned i = 0; i < listener->count; i++) {
        struct listener_socket *at = &listener->sockets[i];
        int status = uv_poll_init(loop->uv, &at->poll, at->descriptor);
        if (status != 0)
            return error_from_errno(-status);
        at->poll.data = listener;
        listener->handles++;
        status = uv_poll_start(&at->poll, UV_READABLE, on_readable);
        if (status != 0)
            return error_from_errno(-status);
    }
    return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct listener *listener = handle->data;
    if (--listener->handles == 0)
        listener->on_closed(listener->arg);
}

void listener_close(struct listener *listener, void (*on_closed)(void *arg))
{
    assert(listener->handles > 0);
    listener->on_closed = on_closed;
    unsigned polls = listener->handles - 1; /* all of them, unless starting failed */
    for (unsigned i = 0; i < polls; i++)
        uv_close((uv_handle_t *)&listener->sockets[i].poll, on_handle_closed);
    uv_close((uv_handle_t *)&listener->retry, on_handle_closed);
    close_sockets(listener); /* after uv_close: libuv has taken them out of its set */
}

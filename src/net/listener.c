/* net/listener.c: see the header. */
#include "net/listener.h"

#include "base/error.h"
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ACCEPTS_A_TURN 64
#define BACKLOG 1024
#define RETRY_MS 100u
#define COMPLAIN_MS 60000u

static int bind_error(const char *address, const char *option, char message[256])
{
    int error = error_from_errno(errno);
    const char *why = strerror(errno);
    const char *what_to_do = NULL;
    switch (errno) {
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
    if (what_to_do != NULL)
        snprintf(message, 256, "cannot listen on %s: %s: %s with %s", address, why, what_to_do,
                 option);
    else
        snprintf(message, 256, "cannot listen on %s: %s", address, why);
    return error;
}

int listener_bind(struct listener *listener, const char *address, const char *option,
                  char message[256])
{
    *listener = (struct listener){.descriptor = -1};
    struct sockaddr_storage at;
    socklen_t size;
    if (address_parse(address, &at, &size) != 0) {
        snprintf(message, 256,
                 "\"%s\" is no address: write IP:PORT, as in 127.0.0.1:4000 or [::1]:4000",
                 address);
        return KVS_ERR_ADDRESS;
    }
    const int on = 1;
    int descriptor = socket(at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return bind_error(address, option, message);
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (at.ss_family == AF_INET6)
        setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(descriptor, (struct sockaddr *)&at, size) != 0 || listen(descriptor, BACKLOG) != 0 ||
        getsockname(descriptor, (struct sockaddr *)&at, &size) != 0) {
        int error = bind_error(address, option, message);
        close(descriptor);
        return error;
    }
    address_format(&at, listener->address);
    listener->descriptor = descriptor;
    return 0;
}

void listener_unbind(struct listener *listener)
{
    assert(listener->handles == 0);
    if (listener->descriptor >= 0)
        close(listener->descriptor);
    listener->descriptor = -1;
}

/* --- accepting ---- */

static void on_readable(uv_poll_t *poll, int status, int events);

static void on_retry(uv_timer_t *timer)
{
    struct listener *listener = timer->data;
    uv_poll_start(&listener->poll, UV_READABLE, on_readable);
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
    uv_poll_stop(&listener->poll);
    uv_timer_start(&listener->retry, on_retry, RETRY_MS, 0);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct listener *listener = poll->data;
    for (int i = 0; i < ACCEPTS_A_TURN && listener->descriptor >= 0; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t size = sizeof peer;
        int descriptor = accept4(listener->descriptor, (struct sockaddr *)&peer, &size,
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
        /* Anything else concerns the one connection that was lost before we took it. */
    }
}

int listener_start(struct listener *listener, struct loop *loop, listener_accept_fn *on_accept,
                   void *arg)
{
    listener->loop = loop;
    listener->on_accept = on_accept;
    listener->arg = arg;
    int status = uv_poll_init(loop->uv, &listener->poll, listener->descriptor);
    if (status != 0)
        return error_from_errno(-status);
    uv_timer_init(loop->uv, &listener->retry);
    listener->handles = 2;
    listener->poll.data = listener;
    listener->retry.data = listener;
    status = uv_poll_start(&listener->poll, UV_READABLE, on_readable);
    return status != 0 ? error_from_errno(-status) : 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct listener *listener = handle->data;
    if (--listener->handles == 0)
        listener->on_closed(listener->arg);
}

void listener_close(struct listener *listener, void (*on_closed)(void *arg))
{
    assert(listener->handles == 2);
    listener->on_closed = on_closed;
    uv_close((uv_handle_t *)&listener->poll, on_handle_closed);
    uv_close((uv_handle_t *)&listener->retry, on_handle_closed);
    close(listener->descriptor); /* after uv_close: libuv has taken it out of its set */
    listener->descriptor = -1;
}

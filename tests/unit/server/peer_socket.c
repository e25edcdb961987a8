/* See peer_socket.h. */
#include "unit/server/peer_socket.h"

#include "net/address.h"
#include "test.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECEIVE_SIZE 65536u

int peer_socket_open(const char *address)
{
    struct sockaddr_storage to;
    socklen_t size;
    const int on = 1;
    assert_int_equal(address_parse(address, &to, &size), 0);
    int descriptor = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(descriptor >= 0);
    assert_int_equal(connect(descriptor, (struct sockaddr *)&to, size), 0);
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return descriptor;
}

void peer_socket_send(int descriptor, const void *data, size_t size)
{
    for (size_t sent = 0; sent < size;) {
        ssize_t wrote = send(descriptor, (const uint8_t *)data + sent, size - sent, MSG_NOSIGNAL);
        if (wrote < 0 && errno == EINTR)
            continue;
        assert_true(wrote > 0);
        sent += (size_t)wrote;
    }
}

static void wait_readable(int descriptor)
{
    struct pollfd readable = {.fd = descriptor, .events = POLLIN};
    assert_int_equal(poll(&readable, 1, -1), 1);
}

ssize_t peer_socket_receive(int descriptor, struct buf *in, size_t *taken)
{
    wait_readable(descriptor);
    if (*taken > 0) {
        buf_consume(in, *taken);
        *taken = 0;
    }
    assert_int_equal(buf_reserve(in, RECEIVE_SIZE), 0);
    ssize_t got = recv(descriptor, in->data + in->size, RECEIVE_SIZE, 0);
    if (got > 0)
        in->size += (size_t)got;
    return got;
}

void peer_socket_converse(const char *address, kvs_slice requests)
{
    static char sink[RECEIVE_SIZE];
    int descriptor = peer_socket_open(address);
    ssize_t ignored = send(descriptor, requests.data, requests.size, MSG_NOSIGNAL);
    (void)ignored;
    shutdown(descriptor, SHUT_WR);
    ssize_t got;
    do {
        wait_readable(descriptor);
        got = recv(descriptor, sink, sizeof sink, 0);
    } while (got > 0);
    close(descriptor);
}

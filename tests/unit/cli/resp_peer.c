/* tests/unit/cli/resp_peer.c: see the header. One thread, poll, a buffer for each connection. */
#include "resp_peer.h"

#include "base/buf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

struct guest {
    int fd;
    struct buf in;
};

/* The number at `at` and the place behind its CR LF; NULL when they are not all there. */
static const uint8_t *number_read(const uint8_t *at, const uint8_t *end, size_t *ret_number)
{
    const uint8_t *stop = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
    if (stop == NULL)
        return NULL;
    *ret_number = strtoul((const char *)at + 1, NULL, 10);
    return stop + 1;
}

/* One request of up to three words; its size, or 0 when it is not all there. */
static size_t request_read(const struct buf *in, kvs_slice words[3], size_t *ret_count)
{
    const uint8_t *end = in->data + in->size, *at = number_read(in->data, end, ret_count);
    for (size_t i = 0; at != NULL && i < *ret_count && i < 3; i++) {
        size_t size;
        at = number_read(at, end, &size);
        if (at == NULL || (size_t)(end - at) < size + 2)
            return 0;
        words[i] = slice_make(at, size);
        at += size + 2;
    }
    return at != NULL ? (size_t)(at - in->data) : 0;
}

static size_t key_number(kvs_slice key)
{
    size_t number = 0;
    for (size_t i = 0; i < key.size; i++) {
        if (key.data[i] >= '0' && key.data[i] <= '9')
            number = (number * 10 + key.data[i] - '0') % PEER_KEYS_MAX;
    }
    return number;
}

static const char *honest_answer(struct resp_peer *peer, const kvs_slice *words)
{
    size_t key = key_number(words[1]);
    if (words[0].data[0] == 'S') {
        peer->sets[key]++;
        return "+OK\r\n";
    }
    peer->gets[key]++;
    return peer->sets[key] > 0 ? "$3\r\nvvv\r\n" : "$-1\r\n";
}

/* NULL: close. */
static const char *answer(struct resp_peer *peer, const kvs_slice *words)
{
    if (words[0].data[0] == 'P') {
        peer->connections++;
        return "+PONG\r\n";
    }
    if (peer->requests++ < peer->honest_max || peer->manner == PEER_HONEST)
        return honest_answer(peer, words);
    switch (peer->manner) {
    case PEER_REFUSES:
        return "-ERR not today\r\n";
    case PEER_BABBLES:
        return "hello?\r\n";
    case PEER_SILENT:
        return "";
    case PEER_ECHOES:
        return "+OK\r\n+OK\r\n";
    default:
        return NULL;
    }
}

/* False when the connection is to be closed. */
static bool guest_serve(struct resp_peer *peer, struct guest *guest)
{
    static uint8_t bytes[64 << 10];
    ssize_t size = recv(guest->fd, bytes, sizeof bytes, 0);
    if (size <= 0)
        return false;
    assert_int_equal(buf_append(&guest->in, bytes, (size_t)size), 0);
    /* strtoul stops at the zero byte that stands behind all. */
    for (;;) {
        kvs_slice words[3];
        size_t count, used;
        assert_int_equal(buf_append_u8(&guest->in, 0), 0);
        guest->in.size--;
        used = request_read(&guest->in, words, &count);
        if (used == 0)
            return true;
        const char *text = answer(peer, words);
        if (text == NULL || send(guest->fd, text, strlen(text), MSG_NOSIGNAL) < 0)
            return false;
        buf_consume(&guest->in, used);
    }
}

/* Each reply leaves at once: one that the system still holds back, to send it with the next, would
 * be thrown away by a close while requests are unread. */
static int guest_accept(struct resp_peer *peer)
{
    const int on = 1;
    int fd = accept(peer->listener, NULL, NULL);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
    return fd;
}

static void *peer_main(void *arg)
{
    struct resp_peer *peer = arg;
    static struct guest guests[PEER_CONNECTIONS_MAX];
    struct pollfd polls[PEER_CONNECTIONS_MAX + 2];
    size_t count = 0;
    for (;;) {
        polls[0] = (struct pollfd){.fd = peer->stop[0], .events = POLLIN};
        polls[1] = (struct pollfd){.fd = peer->listener, .events = POLLIN};
        for (size_t i = 0; i < count; i++)
            polls[2 + i] = (struct pollfd){.fd = guests[i].fd, .events = POLLIN};
        if (poll(polls, 2 + count, -1) < 0 && errno == EINTR)
            continue;
        if (polls[0].revents != 0)
            break;
        for (size_t i = count; i-- > 0;) {
            if (polls[2 + i].revents == 0 || guest_serve(peer, &guests[i]))
                continue;
            close(guests[i].fd);
            buf_deinit(&guests[i].in);
            guests[i] = guests[--count]; /* its turn has been: the loop goes downwards */
        }
        if (polls[1].revents != 0 && count < PEER_CONNECTIONS_MAX)
            guests[count++] = (struct guest){.fd = guest_accept(peer), .in = BUF_INIT};
    }
    for (size_t i = 0; i < count; i++) {
        close(guests[i].fd);
        buf_deinit(&guests[i].in);
    }
    return NULL;
}

void resp_peer_start(struct resp_peer *peer, enum peer_manner manner, uint64_t honest_max)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    memset(peer, 0, sizeof *peer);
    peer->manner = manner;
    peer->honest_max = honest_max;
    peer->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(peer->listener >= 0);
    assert_int_equal(bind(peer->listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(peer->listener, 128), 0);
    assert_int_equal(getsockname(peer->listener, (struct sockaddr *)&address, &size), 0);
    peer->port = ntohs(address.sin_port);
    assert_int_equal(pipe(peer->stop), 0);
    assert_int_equal(pthread_create(&peer->thread, NULL, peer_main, peer), 0);
}

void resp_peer_stop(struct resp_peer *peer)
{
    assert_int_equal(write(peer->stop[1], "", 1), 1);
    pthread_join(peer->thread, NULL);
    close(peer->stop[0]);
    close(peer->stop[1]);
    close(peer->listener);
}

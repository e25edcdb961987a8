/* scripted_server.c: see scripted_server.h. */
#include "scripted_server.h"

#include "held_port.h"

#include <arpa/inet.h>
#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* Waits in short slices, so that stopping ends every wait. */
static bool wait_readable(struct scripted_server *server, int fd)
{
    while (!atomic_load(&server->stopping)) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        if (poll(&poll_fd, 1, 10) > 0)
            return true;
    }
    return false;
}

static void *server_thread(void *arg)
{
    struct scripted_server *server = arg;
    while (wait_readable(server, server->listener)) {
        server->connection = accept(server->listener, NULL, NULL);
        if (server->connection < 0)
            continue;
        server->in.size = 0;
        server->script(server, atomic_fetch_add(&server->connections, 1));
        close(server->connection);
    }
    return NULL;
}

/* A port of its own, also for as long after its end as anybody may try to reach it. */
static const struct held_port *next_port(void)
{
    static struct held_port ports[16];
    static unsigned count;
    struct held_port *port = &ports[count % 16];
    if (count++ >= 16)
        held_port_give_back(port);
    held_port_take(port);
    return port;
}

void scripted_server_start(struct scripted_server *server, script_fn *script)
{
    const struct held_port *port = next_port();
    const int on = 1;
    *server = (struct scripted_server){
        .script = script,
        .limits = {.key_size_max = 8192,
                   .value_size_max = 1 << 20,
                   .body_size_max = 2 << 20,
                   .batch_count_max = 65536,
                   .in_flight_max = 4096,
                   .scans_max = 64,
                   .page_size = 1 << 20,
                   .in_flight_bytes_max = 64 << 20},
    };
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons(port->port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int status = setsockopt(server->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    status |= bind(server->listener, (const struct sockaddr *)&address, sizeof address);
    status |= listen(server->listener, 16);
    assert(status == 0);
    server->port = port->port;
    snprintf(server->url, sizeof server->url, "kvs://127.0.0.1:%u", server->port);
    status = pthread_create(&server->thread, NULL, server_thread, server);
    assert(status == 0);
}

void scripted_server_stop(struct scripted_server *server)
{
    atomic_store(&server->stopping, true);
    pthread_join(server->thread, NULL);
    close(server->listener);
    buf_deinit(&server->in);
}

void scripted_server_await(struct scripted_server *server, int steps)
{
    while (atomic_load(&server->steps) < steps && !atomic_load(&server->stopping))
        usleep(500);
}

void scripted_server_step(struct scripted_server *server)
{
    atomic_fetch_add(&server->steps, 1);
}

bool script_read_exact(struct scripted_server *server, void *data, size_t size)
{
    uint8_t *at = data;
    while (size > 0) {
        if (!wait_readable(server, server->connection))
            return false;
        ssize_t count = recv(server->connection, at, size, 0);
        if (count <= 0)
            return false;
        at += count;
        size -= (size_t)count;
    }
    return true;
}

bool script_send(struct scripted_server *server, const void *data, size_t size)
{
    const uint8_t *at = data;
    while (size > 0) {
        ssize_t count = send(server->connection, at, size, MSG_NOSIGNAL);
        if (count <= 0)
            return false;
        at += count;
        size -= (size_t)count;
    }
    return true;
}

bool script_send_buf(struct scripted_server *server, struct buf *buf)
{
    bool sent = script_send(server, buf->data, buf->size);
    buf_deinit(buf);
    return sent;
}

bool script_hello(struct scripted_server *server)
{
    uint8_t hello[WIRE_CLIENT_HELLO_SIZE];
    if (!script_read_exact(server, hello, sizeof hello))
        return false;
    struct wire_server_hello answer = {
        .version = 1, .version_min = 1, .version_max = 1, .limits = server->limits};
    struct buf out = BUF_INIT;
    wire_server_hello_encode(&answer, &out);
    return script_send_buf(server, &out);
}

bool script_read_frame(struct scripted_server *server, struct wire_frame *ret_frame)
{
    struct buf *in = &server->in;
    in->size = 0;
    int error = buf_reserve(in, WIRE_HEADER_SIZE);
    assert(error == 0);
    if (!script_read_exact(server, in->data, WIRE_HEADER_SIZE))
        return false;
    in->size = WIRE_HEADER_SIZE;
    wire_frame_decode(buf_slice(in), server->limits.body_size_max, ret_frame);
    size_t body_size = ret_frame->body.size;
    error = buf_reserve(in, body_size);
    assert(error == 0);
    if (!script_read_exact(server, in->data + WIRE_HEADER_SIZE, body_size))
        return false;
    in->size += body_size;
    return wire_frame_decode(buf_slice(in), server->limits.body_size_max, ret_frame) == 0;
}

bool script_reply(struct scripted_server *server, const struct wire_frame *request, int status,
                  const char *body)
{
    struct buf out = BUF_INIT;
    if (status != 0)
        wire_reply_error(request->opcode, request->id, status, body, &out);
    else
        wire_reply_value(request->opcode, request->id, slice_of_string(body), &out);
    return script_send_buf(server, &out);
}

void script_read_to_end(struct scripted_server *server)
{
    char bytes[4096];
    while (wait_readable(server, server->connection) &&
           recv(server->connection, bytes, sizeof bytes, 0) > 0)
        ;
}

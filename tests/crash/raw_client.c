/* tests/crash/raw_client.c: see raw_client.h. */
#include "crash/raw_client.h"

#include "times.h"

#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define READ_SIZE 65536

static bool raw_client_read(struct raw_client *client)
{
    if (buf_reserve(&client->in, READ_SIZE) != 0)
        return false;
    ssize_t got = recv(client->fd, client->in.data + client->in.size, READ_SIZE, 0);
    if (got <= 0)
        return false;
    client->in.size += (size_t)got;
    return true;
}

static bool raw_client_hello(struct raw_client *client)
{
    static const struct wire_client_hello hello = {.version_min = WIRE_VERSION_MIN,
                                                   .version_max = WIRE_VERSION_MAX};
    if (wire_client_hello_encode(&hello, &client->out) != 0 || !raw_client_flush(client))
        return false;
    struct wire_server_hello answer;
    int status;
    while ((status = wire_server_hello_decode(buf_slice(&client->in), &answer,
                                              &client->in_taken)) == WIRE_MORE) {
        if (!raw_client_read(client))
            return false;
    }
    client->limits = answer.limits;
    return status == 0 && answer.status == 0;
}

bool raw_client_open(struct raw_client *client, const struct sockaddr_in *address)
{
    *client = (struct raw_client){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (client->fd < 0)
        return false;
    struct timeval wait = {.tv_sec = PATIENT_MS / 1000};
    setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (connect(client->fd, (const struct sockaddr *)address, sizeof *address) == 0 &&
        raw_client_hello(client))
        return true;
    raw_client_close(client);
    return false;
}

void raw_client_close(struct raw_client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
    buf_deinit(&client->in);
    buf_deinit(&client->out);
}

bool raw_client_add(struct raw_client *client, const kvs_op *op, uint32_t id)
{
    return wire_request_encode(op, id, 0, &client->out) == 0;
}

bool raw_client_flush(struct raw_client *client)
{
    while (client->out.size > 0) {
        ssize_t sent = send(client->fd, client->out.data, client->out.size, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        buf_consume(&client->out, (size_t)sent);
    }
    return true;
}

bool raw_client_reply(struct raw_client *client, struct wire_frame *ret_frame)
{
    buf_consume(&client->in, client->in_taken);
    client->in_taken = 0;
    int status;
    while ((status = client->in.size < WIRE_HEADER_SIZE
                         ? WIRE_MORE
                         : wire_frame_decode(buf_slice(&client->in), WIRE_BODY_SIZE_SANE,
                                             ret_frame)) == WIRE_MORE) {
        if (!raw_client_read(client))
            return false;
    }
    client->in_taken = WIRE_HEADER_SIZE + ret_frame->body.size;
    return status == 0;
}

bool raw_client_call(struct raw_client *client, const kvs_op *op, struct wire_frame *ret_frame)
{
    return raw_client_add(client, op, 1) && raw_client_flush(client) &&
           raw_client_reply(client, ret_frame);
}

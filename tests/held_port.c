/* tests/held_port.c: see the header. */
#include "held_port.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

void held_port_take(struct held_port *held)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    const int on = 1;
    held->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (held->descriptor < 0 ||
        setsockopt(held->descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(held->descriptor, (struct sockaddr *)&at, size) != 0 ||
        getsockname(held->descriptor, (struct sockaddr *)&at, &size) != 0) {
        perror("# no port to hold");
        abort();
    }
    held->port = ntohs(at.sin_port);
    snprintf(held->address, sizeof held->address, "127.0.0.1:%u", (unsigned)held->port);
}

void held_port_give_back(struct held_port *held)
{
    close(held->descriptor);
    held->descriptor = -1;
}

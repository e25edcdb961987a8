/*
 * tests/held_port.h: a port of 127.0.0.1 for a server that is stopped and started again.
 *
 * A free port may be given to anybody while the server is away: to another test's server, or to a
 * connection. This one is bound all the time, by a socket that does not listen: the system gives it
 * to nobody else, and a server, whose listeners have SO_REUSEADDR, may share it.
 */
#ifndef TESTS_HELD_PORT_H
#define TESTS_HELD_PORT_H

#include <stdint.h>

struct held_port {
    int descriptor;
    uint16_t port;
    char address[24]; /* "127.0.0.1:PORT" */
};

/* Ends the program when there is none. */
void held_port_take(struct held_port *held);
void held_port_give_back(struct held_port *held);

#endif

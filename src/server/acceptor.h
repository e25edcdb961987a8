/*
 * server/acceptor.h: listening sockets whose connections go to the loops in turn.
 *
 * 1. place_listen_blocking fills acceptor.listener, which is all zero before; 2. acceptor_start
 * accepts on the first loop, and hands each connection to the next target: `connect` is called with
 * it on the target's loop; 3. acceptor_close; 4. when the loops have ended, acceptor_deinit, also
 * of one that was never started.
 *
 * Failure: no memory for the handing over closes the new connection.
 */
#ifndef SERVER_ACCEPTOR_H
#define SERVER_ACCEPTOR_H

#include "net/listener.h"

struct acceptor_target {
    struct loop *loop;
    void *arg;
};

struct acceptor {
    struct listener listener;
    /* Takes the descriptor; on the target's loop. */
    void (*connect)(void *arg, int descriptor, const char *peer);
    const struct acceptor_target *targets;
    unsigned count;
    unsigned next; /* of targets, for the next connection */
    void (*on_closed)(void *arg);
    void *on_closed_arg;
};

/* The targets stay the caller's. Returns as listener_start. */
int acceptor_start(struct acceptor *acceptor, const struct acceptor_target *targets, unsigned count,
                   void (*connect)(void *arg, int descriptor, const char *peer));

/* On the first target's thread. False: it was not started, on_closed will not be called. */
bool acceptor_close(struct acceptor *acceptor, void (*on_closed)(void *arg), void *arg);
void acceptor_deinit(struct acceptor *acceptor);

#endif

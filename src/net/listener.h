/*
 * net/listener.h: a listening socket, and connections for somebody to take.
 *
 * 1. listener_bind makes the socket and learns its port; nothing is accepted yet.
 * 2. listener_start accepts on one loop: up to a few dozen a turn, each given to on_accept.
 * 3. listener_close stops; the socket is closed, so that connecting is refused at once.
 *
 * Failures: address in use, not ours, not allowed: an error with a text. While the process has no
 * descriptors left, accepting pauses and is tried again each 100 ms; that is logged once a minute.
 * Thread: the loop's, once started.
 */
#ifndef NET_LISTENER_H
#define NET_LISTENER_H

#include "net/address.h"
#include "runtime/loop.h"

/* Takes the descriptor, which is non-blocking and closed on exec. */
typedef void listener_accept_fn(void *arg, int descriptor, const char *peer);

struct listener {
    struct loop *loop;
    int descriptor; /* -1: closed */
    char address[ADDRESS_TEXT_SIZE];
    uv_poll_t poll;
    uv_timer_t retry;
    unsigned handles; /* open ones */
    uint64_t complained_ms;
    listener_accept_fn *on_accept;
    void *arg;
    void (*on_closed)(void *arg);
};

/* `option` chooses the address, such as "--addr IP:PORT": for the message. Returns 0; ADDRESS
 * (its form, or not of this machine), PERMISSION, LOCKED (in use), IO; then message says why, and
 * what to do. */
int listener_bind(struct listener *listener, const char *address, const char *option,
                  char message[256]);

/* On the loop's thread, or before it starts. Returns 0, IO or NO_MEMORY. */
int listener_start(struct listener *listener, struct loop *loop, listener_accept_fn *on_accept,
                   void *arg);

/* Calls on_closed when nothing of it is left in the loop. */
void listener_close(struct listener *listener, void (*on_closed)(void *arg));

/* For one that was bound and never started. */
void listener_unbind(struct listener *listener);

#endif

/*
 * net/listener.h: listening sockets, and connections for somebody to take.
 *
 * 1. listener_bind_list makes a socket for each of the address's own, and learns its port, or
 *    listener_take adds one that somebody else has made, as often as there are some; nothing is
 *    accepted yet.
 * 2. listener_start accepts on one loop: up to a few dozen a turn, each given to on_accept.
 * 3. listener_close stops; the sockets are closed, so that connecting is refused at once, unless
 *    whoever made a socket still has it: then it waits for who accepts there next.
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

#define LISTENER_SOCKETS_MAX ADDRESS_LIST_MAX

struct listener_socket {
    int descriptor; /* -1: closed */
    uv_poll_t poll;
};

/* All zero: nothing is bound. */
struct listener {
    struct loop *loop;
    struct listener_socket sockets[LISTENER_SOCKETS_MAX];
    unsigned count;                  /* of sockets */
    char address[ADDRESS_TEXT_SIZE]; /* of the first one */
    uv_timer_t retry;
    unsigned handles; /* open ones */
    uint64_t complained_ms;
    listener_accept_fn *on_accept;
    void *arg;
    void (*on_closed)(void *arg);
};

/* HOST:PORT, an IP address or a name, which is looked up. `option` chooses the address, such as
 * "--addr HOST:PORT": for the message. Returns 0; ADDRESS (its form, no such name, or not of this
 * machine), PERMISSION, LOCKED (in use), IO; then message says why, and what to do. */
int listener_bind_blocking(struct listener *listener, const char *address, const char *option,
                           char message[256]);

/* At all addresses of the list, on one port, which may be 0; those that are not of this machine are
 * left out, unless all are. `name`: what they are those of. Returns as above. */
int listener_bind_list(struct listener *listener, const struct address_list *list, const char *name,
                       const char *option, char message[256]);

/* Adds a copy of a socket that listens already; the descriptor stays the caller's. Returns 0;
 * ADDRESS: it does not listen for TCP; TOO_LARGE: there are LISTENER_SOCKETS_MAX; IO. */
int listener_take(struct listener *listener, int descriptor);

/* On the loop's thread, or before it starts. Returns 0, IO or NO_MEMORY. */
int listener_start(struct listener *listener, struct loop *loop, listener_accept_fn *on_accept,
                   void *arg);

/* Calls on_closed when nothing of it is left in the loop. */
void listener_close(struct listener *listener, void (*on_closed)(void *arg));

/* For one that was not started, or is closed. */
void listener_unbind(struct listener *listener);

#endif

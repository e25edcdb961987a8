/*
 * client/link.h: a TCP connection that keeps itself alive; the lifecycle under every client.
 *
 *            link_start                   TCP stands            link_established
 *   IDLE ------------> RESOLVING -> CONNECTING ------> GREETING ------------> READY
 *                          ^             |  any failure    |                    |
 *                          |             v                 v                    v
 *                          +-- timer -- BACKOFF <------- (on_lost) <------------+
 *   any state -- link_close --> CLOSING -- handles gone --> on_closed
 *
 * The protocol above hears of four things (struct link_events) and says two: link_established when
 * the peer has identified itself, link_fail when it has broken the protocol. Bytes go out by
 * appending to link_out and calling link_flush once a turn: one system call for all of them.
 *
 * With on_attempt, an attempt begins in FINDING: the protocol says which peer to try, or takes time
 * to find out. With link_use_tls the handshake comes before on_connected; the link opens and seals
 * by itself.
 *
 * Time: resolving, connecting, the handshake and greeting together have connect_timeout_ms. Of what
 * is left of it, an address that does not answer has no more than its share with those behind it.
 * Back-off doubles from LINK_BACKOFF_MIN_MS to LINK_BACKOFF_MAX_MS, each with a random half, so
 * that the clients of a restarted server do not all come at once; it begins anew when a connection
 * has been READY for LINK_BACKOFF_MAX_MS. A peer that is gone without a word (its machine has no
 * power, a router has forgotten the connection) is lost after LINK_SILENCE_MAX_MS: the system by
 * itself would send again for a quarter of an hour. So is one whose machine answers, but which
 * reads nothing for so long while more is to be sent than the machine takes: TCP has one bound for
 * both.
 *
 * Thread: its loop. Callbacks come from libuv's, from link_flush, and from link_fail and
 * link_close's later turns; never from link_start.
 */
#ifndef CLIENT_LINK_H
#define CLIENT_LINK_H

#include "base/buf.h"
#include "base/rand.h"
#include "client/resolve.h"
#include "net/tls.h"

#define LINK_BACKOFF_MIN_MS 20u
#define LINK_BACKOFF_MAX_MS 2000u
#define LINK_SILENCE_MAX_MS 30000u /* that what is to be sent is not acknowledged, or not taken */
#define LINK_NAME_SIZE 272u        /* a host name of 255 bytes, brackets, port */

enum link_state {
    LINK_IDLE,
    LINK_FINDING,
    LINK_RESOLVING,
    LINK_CONNECTING,
    LINK_GREETING,
    LINK_READY,
    LINK_BACKOFF,
    LINK_CLOSING,
    LINK_CLOSED,
};

struct link;

struct link_events {
    /* May be NULL. An attempt begins: link_set_address may be called. True: go on. False:
     * link_found or link_not_found will be called, later or inside this call. */
    bool (*on_attempt)(struct link *link);
    /* TCP stands: say hello. */
    void (*on_connected)(struct link *link);
    /* Bytes are there; returns how many are done with. Not called again for the same bytes only. */
    size_t (*on_bytes)(struct link *link, kvs_slice in);
    /* An attempt failed or the connection broke; another attempt follows, unless link_close is
     * called. `why` names the peer, for a person; valid during the call. */
    void (*on_lost)(struct link *link, int error, const char *why);
    void (*on_closed)(struct link *link);
};

struct link_socket;

struct link {
    const struct link_events *events;
    struct loop *loop;
    kvs_thread_pool *pool;
    uint32_t connect_timeout_ms;
    enum link_state state;
    char host[256];
    uint16_t port;
    char name[LINK_NAME_SIZE]; /* HOST:PORT */

    struct resolve resolve;
    bool resolving; /* on the pool, whatever the state is by now */
    char resolving_host[256];
    unsigned address_next;
    unsigned failures; /* attempts in a row */
    unsigned waits;    /* back-offs in a row */
    uint64_t attempt_until_ms;
    uint64_t ready_ms;  /* since when */
    int attempt_status; /* libuv's, of the last address */
    struct rand rand;
    uv_timer_t timer; /* of the attempt, or of the back-off */
    struct link_socket *socket;
    unsigned handles; /* not yet gone: the timer, sockets */
    struct buf in;
    struct buf out;
    uint64_t received_bytes;         /* of all connections */
    uint64_t sent_bytes;             /* taken by the system */
    struct tls_context *tls_context; /* NULL: without; borrowed */
    struct tls *tls;                 /* of the connection */
    struct buf sealed;               /* with TLS: what is written */
    struct buf sealed_in;            /* ... and what is read, until it is opened into `in` */
};

/* Sets up, without I/O; on the loop's thread. host is at most 255 bytes. */
void link_init(struct link *link, struct loop *loop, kvs_thread_pool *pool, const char *host,
               uint16_t port, uint32_t connect_timeout_ms, const struct link_events *events);

/* Before link_start. */
void link_use_tls(struct link *link, struct tls_context *context);

void link_start(struct link *link);

/* In FINDING: whom to connect to; host is at most 255 bytes. */
void link_set_address(struct link *link, const char *host, uint16_t port);
void link_found(struct link *link);
/* The attempt has failed: on_lost is called, with `why` as it is. */
void link_not_found(struct link *link, int error, const char *why);

/* The peer has said who it is: READY. */
void link_established(struct link *link);

/* Ends the connection: on_lost is called, with `error` and a text made of the peer's name and
 * `why`. */
void link_fail(struct link *link, int error, const char *why);

/* Ends all; on_closed comes in a later turn. */
void link_close(struct link *link);

/* Writes what stands in link->out. May call on_lost. */
void link_flush(struct link *link);

/* Bytes handed out that the system has not taken. */
size_t link_unwritten(const struct link *link);

static inline bool link_is_connected(const struct link *link)
{
    return link->state == LINK_GREETING || link->state == LINK_READY;
}

#endif

/*
 * net/connection.h: accepted connections of one loop: bytes in to a protocol, its replies out.
 *
 * 1. connections_adopt makes a connection of a descriptor; the protocol embeds struct connection.
 * 2. What is read goes to methods->on_bytes, which says how much of it is done with. The rest is
 *    kept, and given again together with what comes next. The bytes lie in a counted chunk: who
 *    needs them longer than the call takes a reference instead of a copy.
 * 3. Replies are appended to connection_out; all of a turn leave in one write at its end.
 * 4. What the socket does not take at once is waited for; on_written tells when it is gone.
 * 5. While methods->wants_bytes says no, the socket is not read; connection_check looks again.
 *    With TLS (connections_use_tls) what is read is opened first and given in a chunk of its own;
 *    replies are sealed at the end of the turn, and wait for the handshake.
 * 6. connection_finish writes what is left, closes our direction, waits for the peer's for a
 *    short while (so that no reset destroys what was written), and closes.
 *
 * Failures: a read or write error, TLS that is none, or no memory: closed at once. check_time of
 * the protocol closes slow and idle ones; a TLS handshake has a bound of its own. When all
 * connections of a server together hold more memory than connections_share allows, those that hold
 * more than others are closed: one connection has its own bounds, thousands need this one.
 *
 * Lifetime: references are plain counts: one of the open socket, one of each request under way.
 * With the last, methods->free is called. Thread: all on the connection's loop.
 */
#ifndef NET_CONNECTION_H
#define NET_CONNECTION_H

#include "base/buf.h"
#include "net/address.h"
#include "net/chunk.h"
#include "net/tls.h"
#include "runtime/loop.h"

#include <stdatomic.h>

struct connection;
struct connections;

struct connection_methods {
    /* Looks at `bytes`, which lie in `chunk`; returns how many are done with. *ret_wanted (0
     * before the call) may be set to the size of the unfinished item at the end. */
    size_t (*on_bytes)(struct connection *connection, struct chunk *chunk, kvs_slice bytes,
                       size_t *ret_wanted);
    bool (*wants_bytes)(const struct connection *connection);
    void (*on_end)(struct connection *connection);     /* the peer closed its direction */
    void (*on_written)(struct connection *connection); /* a backlog has gone */
    /* At each tick: NULL, or why the connection has to be closed now. */
    const char *(*check_time)(struct connection *connection, uint64_t now_ms);
    /* Bytes of requests under way, for connections_share; NULL: none worth counting. */
    size_t (*held)(const struct connection *connection);
    void (*on_closed)(struct connection *connection); /* no more bytes either way */
    void (*free)(struct connection *connection);
};

struct connection {
    uv_tcp_t tcp;
    uv_write_t write;
    uv_shutdown_t shutdown;
    const struct connection_methods *methods;
    struct connections *at;
    struct connection *next, **link; /* all of the loop */
    struct connection *next_dirty;   /* those with replies to write at the end of the turn */
    struct connection *next_checked; /* those to be looked at again */
    struct chunk *partial;           /* bytes of an unfinished item; NULL: none */
    size_t partial_used;
    struct buf out;     /* replies of this turn */
    struct buf sending; /* what the socket did not take at once */
    struct tls *tls;    /* NULL: none */
    struct buf sealed;  /* of TLS, to be written */
    uint64_t opened_ms;
    uint64_t sent;      /* bytes given to the socket since the connection began */
    uint64_t finish_ms; /* when connection_finish was called */
    uint32_t refs;
    bool dirty, checked;
    bool reading;   /* the socket is being read */
    bool ended;     /* the peer closed its direction */
    bool finishing; /* to be closed when all is written; what comes in is dropped */
    bool shut;      /* our direction is being closed */
    bool told_end;  /* likewise, of TLS */
    bool met;       /* of TLS: the first bytes were looked at */
    bool closed;    /* uv_close was called */
    char peer[ADDRESS_TEXT_SIZE];
};

#define CONNECTION_OUTS_MAX 64u

/* What the connections of all loops hold together: unfinished items, requests, unwritten replies.
 * As of their last ticks; any thread. */
struct connections_memory {
    uint64_t max;
    _Atomic uint64_t held;
    _Atomic uint64_t count; /* of connections, for what one holds on average */
};

struct connections {
    struct loop *loop;
    struct connection *first;
    struct connection *dirty;
    struct connection *checked;
    struct task check_task;
    bool check_posted;
    struct loop_hook flush;
    uint64_t tick_ms;
    uv_timer_t tick; /* while there are connections */
    struct chunk_pool chunks;
    struct tls_context *tls_context; /* NULL: without TLS */
    uint64_t handshake_ms_max;
    struct connections_memory *memory;    /* shared with other loops; NULL: without bound */
    uint64_t held;                        /* our part of memory->held */
    uint64_t counted;                     /* ... and of memory->count */
    struct buf plain;                     /* of TLS: what one read brought */
    struct buf outs[CONNECTION_OUTS_MAX]; /* spare buffers for replies */
    unsigned outs_count;
    size_t count; /* open */
    size_t alive; /* not freed yet */
    bool closing; /* connections_close was called */
    void (*on_empty)(struct connections *connections, void *arg);
    void *on_empty_arg;
};

/* On a loop that is not started, or on its thread. tick_ms: how often time-outs are looked at. */
void connections_init(struct connections *connections, struct loop *loop, uint64_t tick_ms);

/* Before the first connection: all of them speak TLS, and have so long for the handshake. */
void connections_use_tls(struct connections *connections, struct tls_context *context,
                         uint64_t handshake_ms_max);

/* Before the first connection: they and all others that share `memory` hold at most memory->max. */
void connections_share(struct connections *connections, struct connections_memory *memory);

/* Calls on_empty, soon, when no connection is left (or none is there); then all handles are closed
 * and connections_deinit may be called. New ones must not be adopted any more. */
void connections_close(struct connections *connections,
                       void (*on_empty)(struct connections *connections, void *arg), void *arg);
void connections_deinit(struct connections *connections);

/*
 * Takes a connected descriptor and `connection`, zeroed memory that the protocol embeds, with the
 * open socket's reference. A failure closes the connection as any later one would.
 */
void connection_open(struct connections *connections, struct connection *connection,
                     const struct connection_methods *methods, int descriptor, const char *peer);
/* Begins to read. */
void connection_start(struct connection *connection);

/* Where replies go; they leave at the end of the turn. After a close they go nowhere. */
struct buf *connection_out(struct connection *connection);

/* Writes now what connection_out has, if the socket takes it: for replies that grow large. */
void connection_flush(struct connection *connection);

/* Bytes of replies that the socket has not taken. */
static inline size_t connection_unwritten(const struct connection *connection)
{
    size_t queued = connection->sending.size > 0
                        ? uv_stream_get_write_queue_size((const uv_stream_t *)&connection->tcp)
                        : 0;
    return connection->out.size + connection->sealed.size + queued;
}

/* Bytes since the connection began that the socket has taken. */
static inline uint64_t connection_written(const struct connection *connection)
{
    size_t waiting = connection->out.size + connection->sealed.size;
    return connection->sent - (connection_unwritten(connection) - waiting);
}

/* Looks soon whether the protocol wants bytes again. */
void connection_check(struct connection *connection);

/*
 * For on_bytes, with a connection's first bytes: are they of another protocol (proto/foreign.h)
 * than those of `own`, a bit for each? Then the peer is told in its words that `here` is spoken,
 * the log tells of it, and the connection ends.
 */
bool connection_end_foreign(struct connection *connection, kvs_slice bytes, unsigned own,
                            const char *here);

void connection_finish(struct connection *connection);
/* At once; what is unwritten is lost. */
void connection_close(struct connection *connection);

static inline void connection_ref(struct connection *connection)
{
    connection->refs++;
}

void connection_unref(struct connection *connection);

#endif

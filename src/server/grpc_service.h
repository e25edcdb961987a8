/*
 * server/grpc_service.h: gRPC methods served over sockets.
 *
 * A port is a listening address: a table of methods, and of paths answered over plain HTTP/1.1. It
 * has one part on each loop; a connection stays on its loop, and so does everything below.
 *
 * The life of a call:
 *   1. the path finds the method; a path that is not in the table is UNIMPLEMENTED;
 *   2. method->on_message gets the request, of a stream each message; it reads it with rpc_unpack;
 *   3. it answers at once or later, on the same loop: rpc_send, rpc_reply, rpc_fail;
 *   4. who answers later says rpc_hold before on_message returns, and rpc_release when it has
 *      answered: a call ends with OK when the client has said its last and nothing is held, and
 *      the struct rpc lives until then;
 *   5. answers leave at the end of the turn, in one write a connection.
 *
 * Failures: what the peer ends (cancel, deadline, connection lost) sets rpc->ended and calls
 * method->on_end; answers to it go nowhere, without an error. No memory for an answer ends the call
 * with RESOURCE_EXHAUSTED. A unary method that lets go without an answer has failed: INTERNAL.
 *
 * Back-pressure: a connection whose answers are not taken is not read; a stream with much unsent is
 * given no messages. Answers may also wait for windows that the peer does not open: while they are
 * more than the port's answers_bytes_max, unary calls of their connection are not begun; and when
 * none of them leaves for a minute, it is closed.
 */
#ifndef SERVER_GRPC_SERVICE_H
#define SERVER_GRPC_SERVICE_H

#include "base/arena.h"
#include "base/rope.h"
#include "net/connection.h"
#include "proto/grpc/grpc.h"

#include <protobuf-c/protobuf-c.h>
#include <stdatomic.h>

struct http_request;
struct rpc;
struct grpc_connection;
struct grpc_port_loop;

enum rpc_kind { RPC_UNARY, RPC_STREAM };

struct rpc_method {
    const char *path; /* "/package.Service/Method" */
    enum rpc_kind kind;
    /* The bytes are borrowed for the call. */
    void (*on_message)(struct rpc *rpc, kvs_slice message);
    /* The peer ended it before it was answered; NULL: nothing to do. It may still be held. */
    void (*on_end)(struct rpc *rpc);
};

/* An arena with the face protobuf-c wants, which gets no more than bytes_max of it. */
struct rpc_arena {
    struct arena arena;
    ProtobufCAllocator allocator;
    size_t bytes_max;
    bool refused; /* memory, since bytes_max was set */
    struct rpc_arena *next;
};

struct rpc {
    const struct rpc_method *method;
    struct grpc_port_loop *at;
    struct grpc_connection *connection;
    struct grpc_call *call; /* NULL: ended */
    void *user;             /* the method's; streams may keep something here */
    uint64_t holds;
    bool half_closed; /* the client sends no more */
    bool sent;        /* at least one message */
    bool ended;       /* answers go nowhere */
    bool paused;      /* given no messages until the client has taken more */
    bool in_event;
    struct rpc *next, **link; /* of the connection */
};

/* Paths answered over HTTP/1.1. */
struct http_route {
    const char *path; /* with `take`: this one, and what is below it */
    const char *type; /* Content-Type */
    /* GET, HEAD: appends the body, which is JSON or text, and returns the HTTP status. */
    int (*answer)(struct grpc_port_loop *at, struct buf *body);
    /* Instead: answers at once or later, on the same loop, once, with http_reply or
     * http_reply_other. The request is borrowed for the call. */
    void (*take)(struct grpc_connection *connection, const struct http_request *request);
    const char *methods; /* which `take` is called for: "GET, HEAD, POST" */
};

/* What a port serves; all loops share it. It outlives them. */
struct grpc_port {
    const char *name; /* for the log: "PD" */
    const struct rpc_method *methods;
    size_t methods_count;
    const struct http_route *routes;
    size_t routes_count;
    bool grpc_off;                     /* HTTP/1.1 only */
    uint32_t message_bytes_max;        /* of a request; 0: 64 MiB */
    uint64_t answers_bytes_max;        /* unsent, of one connection; 0: 64 MiB */
    uint32_t connections_max;          /* of the port; more are closed at once */
    struct tls_context *tls;           /* NULL: clear text */
    uint64_t handshake_ms_max;         /* of TLS, and for each request of HTTP/1.1; 0: 10 s */
    struct connections_memory *memory; /* what all connections of the server hold; NULL: any */
    _Atomic uint32_t connections;
};

/* A port's part of one loop. */
struct grpc_port_loop {
    struct grpc_port *port;
    struct loop *loop;
    void *state; /* the service's own part of this loop */
    struct connections connections;
    struct loop_hook flush;
    struct grpc_connection *dirty; /* with answers to send at the end of the turn */
    struct rpc_arena *arena;       /* of the event under way */
    struct connection *asking;     /* whose page is being made */
    struct rpc_arena *spares;
    unsigned spares_count;
    struct task resume; /* looks at paused streams, before the end-of-turn hooks */
    bool resume_posted;
    uv_timer_t timer;  /* the next deadline of a connection */
    uint64_t timer_ms; /* UINT64_MAX: none */
    bool draining;
    void (*on_empty)(struct grpc_port_loop *at, void *arg);
    void *on_empty_arg;
};

/* --- for methods ------------------------------------------------------------------------------ */

/* The service's part of the loop, as given to grpc_port_loop_init. */
static inline void *rpc_state(const struct rpc *rpc)
{
    return rpc->at->state;
}

/*
 * Decodes, into the arena of the event: valid until on_message returns, or until the arena is given
 * back when rpc_take_arena took it. NULL: the call was ended with an error.
 */
void *rpc_unpack(struct rpc *rpc, const ProtobufCMessageDescriptor *type, kvs_slice message);

/* Memory of the event, like what rpc_unpack returned; for the answer. NULL: no memory. */
void *rpc_alloc(struct rpc *rpc, size_t size);

/* Keeps the event's arena, with all that is in it, for longer; rpc_arena_give returns it. NULL: no
 * memory. */
struct rpc_arena *rpc_take_arena(struct rpc *rpc);
void rpc_arena_give(struct grpc_port_loop *at, struct rpc_arena *arena);

/* Sends one message of a stream, copied. */
void rpc_send(struct rpc *rpc, kvs_slice message);
void rpc_send_message(struct rpc *rpc, const ProtobufCMessage *message);
/* The same without a copy: room for exactly `size` bytes, to be written before anything else is
 * called for the connection; NULL: the call has ended. */
uint8_t *rpc_send_room(struct rpc *rpc, size_t size);
/* A large message: the body between two short parts. Its pieces are taken, whatever happens. */
void rpc_send_rope(struct rpc *rpc, kvs_slice head, struct rope *body, kvs_slice tail);

/* The one message of a unary method, and the end of the call with OK. */
void rpc_reply(struct rpc *rpc, kvs_slice message);
void rpc_reply_message(struct rpc *rpc, const ProtobufCMessage *message);
void rpc_reply_rope(struct rpc *rpc, struct rope *body);

/* Ends the call with a status; `format` as of printf. */
void rpc_fail(struct rpc *rpc, enum grpc_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Keeps the struct rpc, and the stream open; see above. */
void rpc_hold(struct rpc *rpc);
void rpc_release(struct rpc *rpc);

/* --- for routes ------------------------------------------------------------------------------- */

struct grpc_port_loop *http_port_of(const struct grpc_connection *connection);
struct connection *http_connection_of(struct grpc_connection *connection);
/* The body is JSON. */
void http_reply(struct grpc_connection *connection, int status, kvs_slice body);
/* 405: the path is for other methods. */
void http_reply_other(struct grpc_connection *connection, const char *methods);

/* --- for the server --------------------------------------------------------------------------- */

/*
 * On a loop that is not started. Register the service's own end-of-turn hook before: what it
 * sends then leaves in the same turn.
 */
void grpc_port_loop_init(struct grpc_port_loop *at, struct grpc_port *port, struct loop *loop,
                         void *state);

/* A new connection, on the loop's thread; takes the descriptor. */
void grpc_port_connect(struct grpc_port_loop *at, int descriptor, const char *peer);

/* Stops taking calls: connections say GOAWAY, finish what they have, and close. Requests that are
 * on their way may come in full, as long as bytes come at all. */
void grpc_port_loop_drain(struct grpc_port_loop *at);
/* Closes what is left. */
void grpc_port_loop_cut(struct grpc_port_loop *at);
/* Calls on_empty when no connection is left and all handles are closed. After a drain. */
void grpc_port_loop_close(struct grpc_port_loop *at,
                          void (*on_empty)(struct grpc_port_loop *at, void *arg), void *arg);
void grpc_port_loop_deinit(struct grpc_port_loop *at);

#endif

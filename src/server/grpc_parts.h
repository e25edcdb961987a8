/* server/grpc_parts.h: what the files of the gRPC service share. */
#ifndef SERVER_GRPC_PARTS_H
#define SERVER_GRPC_PARTS_H

#include "server/grpc_service.h"

enum grpc_speaks {
    SPEAKS_UNKNOWN, /* too few bytes have come */
    SPEAKS_HTTP2,
    SPEAKS_HTTP1,
};

struct grpc_connection {
    struct connection base;
    struct grpc_port_loop *at;
    enum grpc_speaks speaks;
    struct grpc_conn *conn; /* of HTTP/2 */
    struct rpc *rpcs;
    unsigned paused; /* of them */
    struct grpc_connection *next_dirty;
    bool dirty;
    bool has_more;           /* to send, in the next turn: others come first */
    bool answering;          /* HTTP/1.1: a request waits for http_reply; no other is read */
    bool keep_alive;         /* behind its answer */
    bool head;               /* it is to be told without the body */
    uint64_t active_ms;      /* when something was last read, or taken by the socket */
    size_t unwritten_before; /* at the last tick */
    uint64_t sent_before;    /* bytes of answers that had left then */
    uint64_t sent_ms;        /* when more of them had, or none waited */
};

/* grpc_service.c: has it send at the end of the turn. */
void grpc_connection_mark(struct grpc_connection *connection);

/* rpc.c */

extern const struct grpc_events rpc_events;
/* The server stops: streams end as soon as nothing of them is under way. */
void rpcs_drain(struct grpc_connection *connection);
/* ... and so does each unary call whose request does not come: nothing was begun for it. */
void rpcs_give_up(struct grpc_connection *connection);
/* Gives messages again to streams whose client has taken enough. True: to some. */
bool rpcs_resume(struct grpc_connection *connection);
void rpc_arenas_free(struct grpc_port_loop *at);

#endif

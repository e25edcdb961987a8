/*
 * client/remote_connection.h: one connection to a kvs-server: a link, the protocol's session, and
 * the operation manager, on one loop.
 *
 * The life of an operation:
 *   1. remote_connection_submit puts it into the loop's mailbox (on the loop: straight into 2);
 *   2. it waits in the operation manager;
 *   3. at the end of the turn the connection encodes all that fits the server's window, and writes
 *      it with one system call;
 *   4. replies are decoded as they come, results are copied into the op;
 *   5. at the end of the turn the on_done of all that are done are called.
 * Failures: the manager says what a loss, a deadline or a cancel means for an operation; the link
 * says what failed; the error's text names the server.
 *
 * Threads: submit and cancel from any; all else on the loop.
 */
#ifndef CLIENT_REMOTE_CONNECTION_H
#define CLIENT_REMOTE_CONNECTION_H

#include "client/link.h"
#include "client/operations.h"
#include "proto/kvs/client_session.h"
#include "store/page.h"

#include <stdatomic.h>

/* Operations in one connection that are not done; further ones are answered BUSY. */
#define REMOTE_CONNECTION_COUNT_MAX (256u * 1024)
#define REMOTE_CONNECTION_SIZE_MAX (256u * 1024 * 1024)

struct remote_connection;

struct remote_connection_owner {
    /* The first attempt has ended: 0 when the server has answered, else why not. On the loop. */
    void (*on_first)(struct remote_connection *connection, int error, const char *why);
    /* It is closed and may be freed. On the loop. */
    void (*on_closed)(struct remote_connection *connection);
};

struct remote_connection {
    struct link link;
    struct operations operations;
    struct client_session session;
    bool session_open; /* the server has said hello on this connection */
    bool closing;
    bool first_told;
    bool woken;        /* wake_task is in the mailbox */
    bool in_callbacks; /* of the turn end: requests made there are sent behind them */
    unsigned goaways;  /* of the server: the second one says that all it read is answered */
    unsigned parked;   /* done, but a cancel is in the mailbox: on_done waits for it */
    struct wire_scratch scratch;
    struct loop_hook turn_end;
    uv_timer_t deadline_timer;
    uint64_t deadline_armed_ms; /* UINT64_MAX: it is not */
    struct task_list done;      /* wait for the end of the turn */
    struct task wake_task;
    struct task start_task;
    struct task close_task;
    uint32_t timeout_ms;
    char trouble[LINK_NAME_SIZE + 160]; /* the last failure, for those that wait; "" when READY */

    /* set before remote_connection_start */
    const struct remote_connection_owner *owner;
    void *owner_arg;
    struct loop *loop;
    kvs_thread_pool *pool;
    const char *host;
    uint16_t port;
    uint32_t connect_timeout_ms;
    struct tls_context *tls_context; /* NULL: clear text */
};

/* What an op under way needs, in kvs_op.reserved. */
struct client_op {
    struct task task;
    struct task cancel_task;
    struct operation operation;
    struct remote_connection *connection;
    struct loop *loop; /* where on_done is called */
    _Atomic int cancel_state;
    uint32_t id;
    bool done;    /* but a cancel is in the mailbox: on_done waits for it */
    bool refused; /* never reaches the manager: op->error says why */
    struct page page;
};

static inline struct client_op *client_op_of(kvs_op *op)
{
    return (struct client_op *)(void *)op->reserved;
}

/* Starts on its loop; from any thread. */
void remote_connection_start(struct remote_connection *connection);

/* No further submits: lets what is under way end, then closes; from any thread. */
void remote_connection_close(struct remote_connection *connection);

/* The ops' client_op has connection and loop set, and maybe refused; `list` links their tasks. */
void remote_connection_submit(struct remote_connection *connection, struct task_list *list);

/* See kvs_store_cancel. */
void remote_connection_cancel(kvs_op *op);

/* Prepares an op for remote_connection_submit. */
void remote_connection_prepare(struct remote_connection *connection, kvs_op *op, struct loop *loop,
                               int error);

#endif

/*
 * client/events/events.h: what stands behind a kvs_events: a client of a server elsewhere, or the
 * streams of this process. The public calls (api.c) check their arguments, put them into a struct
 * events_request and start a struct events_call, which is the payload of a future.
 *
 *   1. the implementation's `start` takes what it needs from the request, which is borrowed, and
 *      hands the call to its loop;
 *   2. it fills the results and calls events_call_finish, once, on that loop;
 *   3. the future becomes ready, or `done` is called: calls are also the parts of larger ones.
 */
#ifndef CLIENT_EVENTS_EVENTS_H
#define CLIENT_EVENTS_EVENTS_H

#include "client/events/batch.h"
#include "runtime/future.h"
#include "runtime/loop.h"

#include <kvs/events.h>

enum events_kind {
    EVENTS_APPEND = 1,         /* stream, number (the expected version), new_events */
    EVENTS_DELETE,             /* stream, number, hard */
    EVENTS_TRANSACTION_START,  /* stream, number; gives number */
    EVENTS_TRANSACTION_WRITE,  /* number (the transaction), new_events */
    EVENTS_TRANSACTION_COMMIT, /* number */
    EVENTS_READ_EVENT,         /* stream, number, flags */
    EVENTS_READ_STREAM,        /* stream, number, count, flags */
    EVENTS_READ_ALL,           /* position, count, flags, filter */
    EVENTS_CREATE_GROUP,       /* stream, group, settings */
    EVENTS_UPDATE_GROUP,
    EVENTS_DELETE_GROUP,
    EVENTS_REPLAY_PARKED,
    EVENTS_CHANGE_USER, /* user, user_change; only where the model has users: see methods */
    EVENTS_GET_USERS,
    EVENTS_SCAVENGE, /* gives text */
    EVENTS_PING,
    EVENTS_LIST_GROUPS, /* stream, or none; gives groups */
    EVENTS_GET_GROUP,   /* stream, group; gives group */
};

/* All borrowed for the call of `start`. */
struct events_request {
    enum events_kind kind;
    bool hard;
    unsigned flags;
    uint32_t count; /* of events to read or to write */
    kvs_slice stream;
    kvs_slice group;
    int64_t number;
    kvs_position position;
    const kvs_new_event *new_events;
    const kvs_event_filter *filter;
    const kvs_group_settings *settings;
    enum kvs_user_change user_change;
    const kvs_user *user;
    kvs_call_options options;
};

struct events_call {
    enum events_kind kind;
    /* NULL: the call is the payload of a future. */
    void (*done)(struct events_call *call);

    /* the result */
    int error;
    char message[200]; /* "": the text of the error */
    bool has_number;
    int64_t number;
    kvs_write_result write;
    struct batch batch;
    kvs_event_page page; /* but `events` and `count`, which are the batch's */
    char text[64];
    kvs_user_list *users;   /* one piece of memory */
    kvs_group_list *groups; /* these two are in the batch's arena */
    kvs_group_info *group;
};

struct events_methods {
    const struct future_methods *call_methods; /* payload: a struct that begins with events_call */
    bool has_users; /* carries out CHANGE_USER and GET_USERS; else they are made of other calls */
    /* `start` does not look at deadlines, but call_methods->cancel ends a future at once. */
    bool keeps_no_time;
    void (*start)(kvs_events *events, struct events_call *call,
                  const struct events_request *request);
    int (*subscribe)(kvs_events *events, const struct kvs_subscribe_options *options,
                     const struct kvs_subscription_handlers *handlers, void *arg,
                     kvs_subscription **ret_subscription);
    int (*subscribe_group)(kvs_events *events, const struct kvs_group_subscribe_options *options,
                           const struct kvs_subscription_handlers *handlers, void *arg,
                           kvs_subscription **ret_subscription);
    /* Ends all; calls `closed` on events->loop, then the memory is given back. */
    void (*close)(kvs_events *events, void (*closed)(void *arg), void *arg);
};

struct kvs_events {
    const struct events_methods *methods;
    kvs_runtime *runtime;
    struct loop *loop;   /* all callbacks come from here */
    uint32_t timeout_ms; /* with keeps_no_time: of a call that sets none; 0: none */
};

/* The call has ended: error and results are set. */
void events_call_finish(struct events_call *call, int error);
/* The same with a line for a person. */
void events_call_fail(struct events_call *call, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Frees the results; of futures this happens by itself. */
void events_call_deinit(struct events_call *call);

static inline bool events_kind_is_write(enum events_kind kind)
{
    return kind <= EVENTS_TRANSACTION_COMMIT ||
           (kind >= EVENTS_CREATE_GROUP && kind <= EVENTS_CHANGE_USER) || kind == EVENTS_SCAVENGE;
}

#endif

/*
 * stream/subscription.h: being told of events, from any point on, without loss or repetition.
 *
 * A subscription is a cursor, not a queue: nothing is copied for it while it does not look. The
 * subscriber is called with a page of events; when it has done with them it calls
 * stream_subscription_next, and gets the next page, at once or when there is one. So a slow
 * subscriber holds up nobody, costs no memory but that of a page, which it may have forgotten, and
 * loses nothing: history and what just happened are read in the same way.
 *
 *   1. begin: the cursor is set; with STREAM_END to the end of now, exactly: what is written after
 *      `last_number`, `last_position` of on_confirmed will be given, nothing that was before;
 *   2. on_confirmed;
 *   3. on_events for each page; the subscriber answers with stream_subscription_next;
 *   4. on_caught_up whenever the end has been reached after some event, or the first time;
 *   5. stream_subscription_close, at any time, also inside a callback; on_closed, once, is the last
 *      call. A subscription that cannot go on (access was withdrawn, damaged data) calls on_closed
 *      by itself, with its error and outcome.
 *
 * Callbacks run on the subscription's loop, never inside the functions; the functions are to be
 * called on that loop.
 */
#ifndef STREAM_SUBSCRIPTION_H
#define STREAM_SUBSCRIPTION_H

#include "base/list.h"
#include "stream/stream.h"

/* --- watches: something was written ----------------------------------------------------------- */

/*
 * Calls on_fire once, on `loop`, when an event is written to the stream whose number is at least
 * `at`, or, with an empty stream, to the log whose position is. What was written already and found
 * by a read does not count: `seen` is that read's last_position; if the log has grown since, it
 * fires at once, to have the watcher look again. To be used again after that. Zeroed before the
 * first use.
 */
struct stream_watch {
    struct loop *loop;
    kvs_slice stream; /* borrowed until it fired or was removed */
    int64_t at;
    int64_t seen;
    void (*on_fire)(struct stream_watch *watch);

    /* the streams' own */
    struct list node;
    struct task task;
    struct streams *streams;
    bool waits; /* in a list; under the lock */
};

void streams_watch(struct streams *streams, struct stream_watch *watch);
/* On its loop: true: on_fire will not be called any more. False: it is on its way: wait for it
 * before the memory is given back. */
bool stream_watch_remove(struct stream_watch *watch);

/* --- subscriptions ---------------------------------------------------------------------------- */

struct stream_subscription {
    /* the request: kept until on_closed */
    struct loop *loop;
    kvs_slice stream; /* empty: $all */
    int64_t from; /* first number or position to give; STREAM_END: what is written from now on */
    bool resolve_links;
    uint32_t page_count;                /* 0: 256 */
    uint32_t page_size_max;             /* 0: 1 MiB */
    uint32_t checkpoint_interval;       /* $all with a filter: events looked at; 0: none */
    const struct stream_filter *filter; /* $all only */
    const struct stream_user *user;     /* asked for again with each page */
    void (*on_confirmed)(struct stream_subscription *subscription);
    /* The events live until stream_subscription_next. */
    void (*on_events)(struct stream_subscription *subscription, const struct stream_event *events,
                      uint32_t count);
    void (*on_caught_up)(struct stream_subscription *subscription); /* may be NULL */
    void (*on_checkpoint)(struct stream_subscription *subscription, int64_t position); /* or NULL */
    void (*on_closed)(struct stream_subscription *subscription);

    /* known from on_confirmed on */
    int64_t last_number; /* of the stream when it began: -1 none, STREAM_NUMBER_DELETED */
    int64_t last_position;
    /* why, in on_closed; both 0: it was closed */
    int error;
    enum stream_outcome outcome;

    /* the streams' own */
    struct streams *streams;
    struct stream_read read;
    struct stream_watch watch;
    struct task task;
    int64_t cursor;           /* the next number or position */
    uint32_t checkpoint_left; /* events to look at until the next one */
    bool confirmed;
    bool posted;   /* the task, ... */
    bool reading;  /* ... the read on the pool, ... */
    bool watching; /* ... the watch: one of them, or the subscriber has a page */
    bool closing;
    bool told_caught_up;
};

/* on_closed comes also when it cannot begin (ACCESS_DENIED, BAD_REQUEST). */
void streams_subscribe(struct streams *streams, struct stream_subscription *subscription);
void stream_subscription_next(struct stream_subscription *subscription);
/* Inside on_events, or later: the page takes no memory any more. After stream_subscription_next it
 * is read again, and what has come since. */
void stream_subscription_forget(struct stream_subscription *subscription);
void stream_subscription_close(struct stream_subscription *subscription);

#endif

/*
 * client/events/subscription.h: what all subscriptions have in common: handlers that run one at a
 * time on one loop, the batch that a handler keeps, calls from any thread, the end that comes once.
 *
 *   1. the implementation embeds a struct kvs_subscription, and calls subscription_give with a
 *      batch; true: it is done, go on; false: methods->resumed is called when it is;
 *   2. subscription_drop is the end; the memory goes when the user has freed the handle, too.
 *
 * Holds: the user's, the implementation's (until subscription_drop), one for each task on its way.
 * Threads: give, drop and the methods on the loop; the public functions any.
 */
#ifndef CLIENT_EVENTS_SUBSCRIPTION_H
#define CLIENT_EVENTS_SUBSCRIPTION_H

#include "runtime/loop.h"

#include <kvs/subscription.h>
#include <stdatomic.h>

/* Acknowledgements on their way to the loop. */
struct subscription_ack {
    struct task task;
    kvs_subscription *subscription;
    bool is_nak;
    enum kvs_nak_action action;
    kvs_slice reason;
    size_t count;
    kvs_event_id ids[];
};

struct subscription_methods {
    bool is_group;
    void (*resumed)(kvs_subscription *subscription);
    void (*stop)(kvs_subscription *subscription); /* leads to subscription_drop, now or later */
    void (*ack)(kvs_subscription *subscription, const struct subscription_ack *ack);
    void (*free)(kvs_subscription *subscription);
};

struct kvs_subscription {
    const struct subscription_methods *methods;
    struct loop *loop;
    struct kvs_subscription_handlers handlers;
    void *arg;
    atomic_uint holds;
    atomic_bool ended;
    atomic_bool freed; /* by the user */
    atomic_bool given; /* a batch, and not resumed */
    atomic_bool resume_posted;
    atomic_bool stop_posted;
    bool kept; /* the handler returned false; the loop's */
    enum kvs_subscription_state told;
    struct task resume_task;
    struct task stop_task;
};

void subscription_init(kvs_subscription *subscription, const struct subscription_methods *methods,
                       struct loop *loop, const struct kvs_subscription_handlers *handlers,
                       void *arg);

/* One more hold, and its end. */
void subscription_hold(kvs_subscription *subscription);
void subscription_release(kvs_subscription *subscription);

bool subscription_give(kvs_subscription *subscription, const kvs_resolved_event *events,
                       size_t count);

/* Is a batch with the handler? */
static inline bool subscription_is_giving(const kvs_subscription *subscription)
{
    return subscription->kept;
}

/* Calls on_state when it is another state than it was told last. */
void subscription_tell(kvs_subscription *subscription, enum kvs_subscription_state state);

void subscription_drop(kvs_subscription *subscription, int error, const char *why);

static inline bool subscription_has_ended(const kvs_subscription *subscription)
{
    /* acquire: pairs with the release in subscription_drop. */
    return atomic_load_explicit(&subscription->ended, memory_order_acquire);
}

/* Was it asked to stop? Then no further batch is given. */
static inline bool subscription_is_stopping(const kvs_subscription *subscription)
{
    /* relaxed: the task that is on its way settles it. */
    return atomic_load_explicit(&subscription->stop_posted, memory_order_relaxed);
}

#endif

/* client/events/local_parts.h: what the files of the in-process event streams share. */
#ifndef CLIENT_EVENTS_LOCAL_PARTS_H
#define CLIENT_EVENTS_LOCAL_PARTS_H

#include "base/list.h"
#include "client/events/local.h"
#include "stream/group.h"
#include "stream/stream.h"

#include <stdatomic.h>

struct local_events {
    kvs_events base;
    struct engine *engine;
    struct streams *streams;
    kvs_thread_pool *pool;
    /* The loop's: */
    struct list subscriptions; /* of struct local_listener */
    bool closing;
    atomic_uint calls; /* under way, and 1 until it closes */
    struct task close_task;
    int close_error;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* A subscription as the close sees it. */
struct local_listener {
    struct list node;
    void (*close)(struct local_listener *listener);
};

static inline struct local_events *local_of(kvs_events *events)
{
    return (struct local_events *)events;
}

/* One thing less to wait for; on the loop. */
void local_release(struct local_events *local);

int local_error_of(enum stream_outcome outcome);

/* Adds an event of the streams to a batch; see batch_add. */
int local_add_event(struct batch *batch, const struct stream_event *event, int32_t retry_count,
                    bool deep);

/* Infos as users of the client see them, in the arena. 0 or NO_MEMORY. */
int local_group_list(struct arena *arena, const struct stream_group_call *from,
                     kvs_group_list **ret_list);
int local_group_info(struct arena *arena, const struct stream_group_info *from,
                     kvs_group_info **ret_info);

int local_subscribe(kvs_events *events, const struct kvs_subscribe_options *options,
                    const struct kvs_subscription_handlers *handlers, void *arg,
                    kvs_subscription **ret_subscription);
int local_subscribe_group(kvs_events *events, const struct kvs_group_subscribe_options *options,
                          const struct kvs_subscription_handlers *handlers, void *arg,
                          kvs_subscription **ret_subscription);

#endif

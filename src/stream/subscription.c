/*
 * stream/subscription.c: a cursor that reads on, and waits at the end.
 *
 *   1. a first read says who may, and where the end is;
 *   2. pages are read from the cursor on, at once if they are in memory, else on the pool; what the
 *      stream had when the subscription began is read as any reader would, what came later also if
 *      it has been truncated since: it was promised;
 *   3. at the end the subscription watches; when that fires, it reads on.
 *
 * One thing is under way at a time: a posted task, a read on the pool, a watch, or the subscriber
 * has a page. A close waits for it. Nothing is done inside the subscriber's calls: they post the
 * task. All of it runs on the subscription's loop.
 */
#include "stream/streams.h"

#define PAGE_COUNT_DEFAULT 256u
#define PAGE_SIZE_DEFAULT (1024u * 1024)

static void subscription_step(struct task *task);
static void subscription_got_page(struct stream_subscription *subscription);

static void subscription_post(struct stream_subscription *subscription)
{
    subscription->posted = true;
    subscription->task.run = subscription_step;
    loop_post(subscription->loop, &subscription->task);
}

static bool is_all(const struct stream_subscription *subscription)
{
    return subscription->stream.size == 0;
}

static void subscription_finish(struct stream_subscription *subscription)
{
    stream_read_release(&subscription->read);
    atomic_fetch_sub_explicit(&subscription->streams->stat_subscriptions, 1, memory_order_relaxed);
    subscription->on_closed(subscription);
}

static void subscription_fail(struct stream_subscription *subscription, int error,
                              enum stream_outcome outcome)
{
    subscription->error = error;
    subscription->outcome = outcome;
    subscription->closing = true;
    subscription_finish(subscription);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void subscription_on_read(struct task *task)
{
    struct stream_subscription *subscription =
        CONTAINER_OF(task, struct stream_subscription, read.op.task);
    subscription->reading = false;
    if (subscription->closing)
        subscription_finish(subscription);
    else
        subscription_got_page(subscription);
}

static void subscription_read(struct stream_subscription *subscription)
{
    struct stream_read *read = &subscription->read;
    read->op.task.run = subscription_on_read;
    read->op.loop = subscription->loop;
    read->user = subscription->user;
    if (streams_read_answer(subscription->streams, read)) {
        subscription_got_page(subscription);
        return;
    }
    subscription->reading = true;
    streams_read(subscription->streams, read);
}

static void subscription_read_first(struct stream_subscription *subscription)
{
    subscription->read = (struct stream_read){
        .kind = is_all(subscription) ? STREAM_READ_ALL_BACKWARD : STREAM_READ_INFO,
        .stream = subscription->stream,
        .from = STREAM_END,
        .count = 1,
    };
    subscription_read(subscription);
}

static void subscription_read_page(struct stream_subscription *subscription)
{
    struct stream_read *read = &subscription->read;
    bool later = subscription->cursor > subscription->last_number;
    *read = (struct stream_read){
        .kind = is_all(subscription) ? STREAM_READ_ALL_FORWARD : STREAM_READ_FORWARD,
        .flags = (subscription->resolve_links ? STREAM_READ_RESOLVE_LINKS : 0) |
                 (later ? STREAM_READ_HIDDEN : 0),
        .stream = subscription->stream,
        .from = subscription->cursor,
        .count = subscription->page_count,
        .size_max = subscription->page_size_max,
        .filter = subscription->filter,
        .search_window = subscription->checkpoint_interval > 0 ? subscription->checkpoint_left
                                                               : STREAM_READ_COUNT_MAX,
    };
    subscription_read(subscription);
}

/* --- waiting ---------------------------------------------------------------------------------- */

static void subscription_on_fire(struct stream_watch *watch)
{
    struct stream_subscription *subscription =
        CONTAINER_OF(watch, struct stream_subscription, watch);
    subscription->watching = false;
    if (subscription->closing)
        subscription_finish(subscription);
    else
        subscription_read_page(subscription);
}

static void subscription_watch(struct stream_subscription *subscription, int64_t seen)
{
    struct stream_watch *watch = &subscription->watch;
    watch->loop = subscription->loop;
    watch->stream = subscription->stream;
    watch->at = subscription->cursor;
    watch->seen = seen;
    watch->on_fire = subscription_on_fire;
    subscription->watching = true;
    streams_watch(subscription->streams, watch);
}

/* --- what a read gave ------------------------------------------------------------------------- */

static void subscription_confirm(struct stream_subscription *subscription)
{
    const struct stream_read *read = &subscription->read;
    subscription->confirmed = true;
    subscription->last_position = read->last_position;
    subscription->last_number = is_all(subscription) ? -1 : read->last_number;
    int64_t last = is_all(subscription) ? subscription->last_position : subscription->last_number;
    subscription->cursor = subscription->from;
    if (subscription->from == STREAM_END)
        subscription->cursor = last < INT64_MAX ? last + 1 : last;
    stream_read_release(&subscription->read);
    subscription_post(subscription); /* before the call: it may close */
    subscription->on_confirmed(subscription);
}

/* Counts what was looked at; tells the checkpoint when it is due. */
static void subscription_count(struct stream_subscription *subscription)
{
    struct stream_read *read = &subscription->read;
    if (subscription->checkpoint_interval == 0 || subscription->on_checkpoint == NULL ||
        read->considered == 0)
        return;
    subscription->checkpoint_left -= (uint32_t)read->considered;
    read->considered = 0;
    if (subscription->checkpoint_left > 0)
        return;
    subscription->checkpoint_left = subscription->checkpoint_interval;
    subscription->on_checkpoint(subscription, read->next - 1);
}

static void subscription_caught_up(struct stream_subscription *subscription)
{
    if (subscription->told_caught_up || subscription->on_caught_up == NULL)
        return;
    subscription->told_caught_up = true;
    subscription->on_caught_up(subscription);
}

/* Behind a tombstone nothing comes: the subscription waits to be closed. */
static bool is_over(const struct stream_subscription *subscription)
{
    return !is_all(subscription) && subscription->cursor == STREAM_NUMBER_DELETED;
}

/* The page is done with: on from its end. */
static void subscription_advance(struct stream_subscription *subscription)
{
    struct stream_read *read = &subscription->read;
    subscription_count(subscription);
    if (subscription->closing) { /* inside the call */
        if (!subscription->posted)
            subscription_finish(subscription);
        return;
    }
    bool end = read->end;
    int64_t seen = read->last_position;
    subscription->cursor = read->next;
    stream_read_release(read);
    if (!end) {
        subscription_post(subscription);
        return;
    }
    if (!is_over(subscription))
        subscription_watch(subscription, seen);
    subscription_caught_up(subscription);
}

/* A page of a stream that is not there, or not any more: nothing to give so far. */
static bool page_is_gone(struct stream_subscription *subscription)
{
    struct stream_read *read = &subscription->read;
    if (read->outcome != STREAM_NOT_FOUND)
        return false;
    read->next = subscription->last_number + 1;
    if (read->next < subscription->cursor)
        read->next = subscription->cursor;
    /* What came since the begin is read in the other way. */
    read->end = read->last_number < read->next;
    return true;
}

static void subscription_got_page(struct stream_subscription *subscription)
{
    struct stream_read *read = &subscription->read;
    bool first = !subscription->confirmed;
    bool usable = read->outcome == STREAM_OK ||
                  (first && (read->outcome == STREAM_NOT_FOUND || read->outcome == STREAM_DELETED));
    if (read->op.error != 0 || (!usable && !page_is_gone(subscription))) {
        subscription_fail(subscription, read->op.error, read->outcome);
        return;
    }
    if (first) {
        subscription_confirm(subscription);
        return;
    }
    if (read->events_count == 0) {
        subscription_advance(subscription);
        return;
    }
    subscription->told_caught_up = false;
    subscription->on_events(subscription, read->events, read->events_count);
}

static void subscription_step(struct task *task)
{
    struct stream_subscription *subscription = CONTAINER_OF(task, struct stream_subscription, task);
    subscription->posted = false;
    if (subscription->closing)
        subscription_finish(subscription);
    else if (!subscription->confirmed)
        subscription_read_first(subscription);
    else if (subscription->read.events_count > 0) /* the subscriber has done with them */
        subscription_advance(subscription);
    else if (is_over(subscription))
        subscription_caught_up(subscription);
    else
        subscription_read_page(subscription);
}

/* --- the subscriber's calls ------------------------------------------------------------------- */

void streams_subscribe(struct streams *streams, struct stream_subscription *subscription)
{
    subscription->streams = streams;
    subscription->error = 0;
    subscription->outcome = STREAM_OK;
    subscription->read = (struct stream_read){0};
    subscription->watch = (struct stream_watch){0};
    subscription->confirmed = false;
    subscription->reading = false;
    subscription->watching = false;
    subscription->closing = false;
    subscription->told_caught_up = false;
    subscription->checkpoint_left = subscription->checkpoint_interval;
    if (subscription->page_count == 0)
        subscription->page_count = PAGE_COUNT_DEFAULT;
    if (subscription->page_count > STREAM_READ_COUNT_MAX)
        subscription->page_count = STREAM_READ_COUNT_MAX;
    if (subscription->page_size_max == 0)
        subscription->page_size_max = PAGE_SIZE_DEFAULT;
    stream_stat_add(&streams->stat_subscriptions, 1);
    subscription_post(subscription);
}

void stream_subscription_next(struct stream_subscription *subscription)
{
    if (!subscription->posted && !subscription->closing)
        subscription_post(subscription);
}

void stream_subscription_forget(struct stream_subscription *subscription)
{
    stream_read_release(&subscription->read); /* the cursor is still in front of it */
}

void stream_subscription_close(struct stream_subscription *subscription)
{
    if (subscription->closing)
        return;
    subscription->closing = true;
    if (subscription->watching && stream_watch_remove(&subscription->watch))
        subscription->watching = false;
    if (!subscription->posted && !subscription->reading && !subscription->watching)
        subscription_post(subscription);
}

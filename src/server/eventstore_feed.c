/*
 * server/eventstore_feed.c: subscriptions to a stream or to the log, filtered or not.
 *
 * 1. A feed is a stream_subscription from the end on; its confirmation names that end exactly.
 * 2. Each page of events is appended to the connection's output, and the next one asked for.
 * 3. A page that comes while the peer takes nothing is kept where it is, unencoded, and the feed
 *    waits; es_feeds_resume goes on when the socket has taken what was before it. When the pages of
 *    a connection's feeds are more than KEPT_MAX, the others are forgotten, and read again then.
 *    Meanwhile the events that are written lie in storage, not in memory. Of checkpoints the last
 *    one waits.
 * 4. It ends when the client says so, when the connection ends, or when stream/ cannot go on.
 *
 * Lifetime: a feed holds its connection until on_closed, the last call of stream/.
 */
#include "server/eventstore_parts.h"

#include "base/log.h"
#include "base/mem.h"

#include <kvs/error.h>

#define PAGE_COUNT 256u
#define PAGE_SIZE (256u * 1024)
#define FEEDS_MAX 4096u /* of one connection */
/* With more feeds than this on a connection their pages are small: each may hold one. */
#define FEEDS_FEW 16u
#define KEPT_MAX (1024u * 1024) /* bytes of the pages that feeds of one connection keep */
#define AGAIN_MAX 8u            /* forgotten pages that are read again at a time */

struct es_feed {
    struct stream_subscription subscription;
    struct es_connection *connection;
    struct list node; /* of the connection */
    struct es_id correlation;
    struct es_user *user;
    struct stream_filter *filter;
    const struct stream_event *page; /* came, and waits for the peer; NULL: none */
    uint32_t page_count;
    uint64_t kept_bytes; /* of the page */
    bool forgotten;      /* the page is to be read again */
    bool late;           /* a page was forgotten since it last sent one: its turn comes first */
    bool has_checkpoint; /* which waits for the peer */
    int64_t checkpoint;
    bool is_all;
    bool confirmed;
    bool closing;
    bool silent; /* nobody is to be told that it ended */
    uint8_t stream[];
};

static struct es_feed *of(struct stream_subscription *subscription)
{
    return CONTAINER_OF(subscription, struct es_feed, subscription);
}

/* --- what stream/ tells ----------------------------------------------------------------------- */

static void on_confirmed(struct stream_subscription *subscription)
{
    struct es_feed *feed = of(subscription);
    const struct es_subscription_confirmation message = {
        .last_commit_position = subscription->last_position,
        .has_last_event_number = !feed->is_all,
        .last_event_number = es_number_for(feed->connection, subscription->last_number),
    };
    feed->confirmed = true;
    if (!feed->closing)
        es_answer(feed->connection, ES_SUBSCRIPTION_CONFIRMATION, &feed->correlation, &message);
}

static int append_event(struct es_feed *feed, const struct stream_event *event)
{
    struct buf *out = connection_out(&feed->connection->base);
    struct es_resolved_event message;
    size_t begin;
    int error = es_frame_begin(out, ES_STREAM_EVENT_APPEARED, &feed->correlation, NULL, &begin);
    if (error != 0)
        return error;
    es_resolved_fill(feed->connection, &message, event);
    error = es_field_append(out, 1, &es_resolved_event_type, &message);
    if (error == 0 && !es_frame_finish(out, begin))
        error = KVS_ERR_TOO_LARGE;
    if (error != 0)
        out->size = begin;
    return error;
}

static void let_page_go(struct es_feed *feed)
{
    feed->page = NULL;
    feed->connection->kept_bytes -= feed->kept_bytes;
    feed->kept_bytes = 0;
    feed->connection->feeds_forgotten -= feed->forgotten;
    feed->forgotten = false;
}

/* Some feeds whose pages were forgotten read them again; es_feeds_resume sees to the others. */
static void read_again(struct es_connection *connection)
{
    unsigned count = 0;
    if (connection->feeds_forgotten == 0 ||
        connection_unwritten(&connection->base) >= ES_UNWRITTEN_MAX)
        return;
    struct list *feeds = &connection->feeds;
    for (struct list *at = feeds->next; at != feeds && count < AGAIN_MAX; at = at->next) {
        struct es_feed *feed = list_entry(at, struct es_feed, node);
        if (!feed->forgotten)
            continue;
        let_page_go(feed);
        stream_subscription_next(&feed->subscription);
        count++;
    }
}

static void send_checkpoint(struct es_feed *feed)
{
    const struct es_checkpoint_reached message = {.commit_position = feed->checkpoint,
                                                  .prepare_position = feed->checkpoint};
    feed->has_checkpoint = false;
    es_answer(feed->connection, ES_CHECKPOINT_REACHED, &feed->correlation, &message);
    if (!feed->connection->base.closed)
        es_connection_flush(feed->connection); /* what is unwritten then has its resume */
}

static void send_page(struct es_feed *feed)
{
    struct es_connection *connection = feed->connection;
    const struct stream_event *page = feed->page;
    int error = 0;
    if (feed->has_checkpoint) /* of what is before it */
        send_checkpoint(feed);
    if (connection->base.closed)
        return;
    let_page_go(feed);
    feed->connection->feeds_late -= feed->late;
    feed->late = false;
    list_remove(&feed->node); /* its next turn is behind the others' */
    list_append(&connection->feeds, &feed->node);
    for (uint32_t i = 0; i < feed->page_count && error == 0; i++) {
        error = append_event(feed, &page[i]);
        if (error == 0)
            es_connection_flush(connection);
        if (connection->base.closed)
            return; /* it is being closed, too */
    }
    if (error != 0) {
        es_answer_broken(connection, connection->base.out.size, error);
        return;
    }
    es_count(&connection->at->counters.events_sent, feed->page_count);
    stream_subscription_next(&feed->subscription);
    read_again(connection);
}

static uint64_t bytes_of(const struct stream_record *record)
{
    return sizeof *record + record->type.size + record->data.size + record->metadata.size;
}

/* Waits for the peer, with its page or without. */
static void keep_page(struct es_feed *feed)
{
    struct es_connection *connection = feed->connection;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < feed->page_count; i++)
        bytes += bytes_of(&feed->page[i].event) +
                 (feed->page[i].has_link ? bytes_of(&feed->page[i].link) : 0);
    if (connection->kept_bytes + bytes > KEPT_MAX) {
        feed->page = NULL;
        feed->forgotten = true;
        connection->feeds_forgotten++;
        connection->feeds_late += !feed->late;
        feed->late = true;
        stream_subscription_forget(&feed->subscription);
        return;
    }
    feed->kept_bytes = bytes;
    connection->kept_bytes += bytes;
}

static void on_events(struct stream_subscription *subscription, const struct stream_event *events,
                      uint32_t count)
{
    struct es_feed *feed = of(subscription);
    if (feed->closing)
        return;
    feed->page = events;
    feed->page_count = count;
    /* The next page of one that has just sent would always be there before those read again. */
    bool has_turn = feed->late || feed->connection->feeds_late == 0;
    if (has_turn && connection_unwritten(&feed->connection->base) < ES_UNWRITTEN_MAX)
        send_page(feed);
    else
        keep_page(feed);
}

/* What was forgotten may be gone when it is read again. */
static void on_caught_up(struct stream_subscription *subscription)
{
    struct es_feed *feed = of(subscription);
    feed->connection->feeds_late -= feed->late;
    feed->late = false;
}

/* One that waits gives way to the next, which says all that it did. */
static void on_checkpoint(struct stream_subscription *subscription, int64_t position)
{
    struct es_feed *feed = of(subscription);
    feed->has_checkpoint = true;
    feed->checkpoint = position;
    if (!feed->closing && connection_unwritten(&feed->connection->base) < ES_UNWRITTEN_MAX)
        send_checkpoint(feed);
}

/* Tells the client why, unless its connection is the reason. */
static void tell_end(struct es_feed *feed)
{
    const struct stream_subscription *subscription = &feed->subscription;
    struct es_subscription_dropped message = {.has_reason = true, .reason = ES_DROP_UNSUBSCRIBED};
    if (subscription->error != 0) {
        /* The client comes back on another connection, and reads on from where it was. */
        log_warn("connection %s closed: a subscription cannot go on: %s",
                 feed->connection->base.peer, kvs_error_text(subscription->error));
        connection_close(&feed->connection->base);
        return;
    }
    if (subscription->outcome == STREAM_BAD_REQUEST) {
        es_answer_text(feed->connection, ES_BAD_REQUEST, &feed->correlation,
                       "this cannot be subscribed to");
        return;
    }
    if (subscription->outcome == STREAM_ACCESS_DENIED)
        message.reason = ES_DROP_ACCESS_DENIED;
    else if (subscription->outcome != STREAM_OK)
        message.reason = ES_DROP_NOT_FOUND;
    es_answer(feed->connection, ES_SUBSCRIPTION_DROPPED, &feed->correlation, &message);
}

static void feed_free(struct es_feed *feed)
{
    stream_filter_free(feed->filter);
    es_user_unref(feed->user);
    mem_free(feed);
}

static void on_closed(struct stream_subscription *subscription)
{
    struct es_feed *feed = of(subscription);
    struct es_connection *connection = feed->connection;
    feed->closing = true; /* closing the connection must not close it again */
    let_page_go(feed);
    connection->feeds_late -= feed->late;
    if (!feed->silent && !connection->base.closed)
        tell_end(feed);
    list_remove(&feed->node);
    connection->feeds_count--;
    feed_free(feed);
    connection_unref(&connection->base);
}

/* --- beginning -------------------------------------------------------------------------------- */

static void link_feed(struct es_connection *connection, struct es_feed *feed)
{
    list_append(&connection->feeds, &feed->node);
    connection->feeds_count++;
    connection_ref(&connection->base);
}

static struct es_feed *feed_new(const struct es_call *call, kvs_slice stream, bool resolve_links)
{
    struct es_connection *connection = call->connection;
    bool many = connection->feeds_count >= FEEDS_FEW;
    struct es_feed *feed = NULL;
    if (connection->feeds_count < FEEDS_MAX)
        feed = mem_alloc(sizeof *feed + stream.size);
    if (feed == NULL) {
        es_answer_error(connection, &call->frame->correlation, KVS_ERR_NO_MEMORY);
        return NULL;
    }
    memset(feed, 0, sizeof *feed);
    if (stream.size > 0)
        memcpy(feed->stream, stream.data, stream.size);
    feed->connection = connection;
    feed->correlation = call->frame->correlation;
    feed->user = es_user_ref(call->user);
    feed->is_all = stream.size == 0;
    feed->subscription = (struct stream_subscription){
        .loop = connection->at->loop,
        .stream = slice_make(feed->stream, stream.size),
        .from = STREAM_END,
        .resolve_links = resolve_links,
        .page_count = many ? PAGE_COUNT / 8 : PAGE_COUNT,
        .page_size_max = many ? PAGE_SIZE / 8 : PAGE_SIZE,
        .user = es_call_user(call),
        .on_confirmed = on_confirmed,
        .on_events = on_events,
        .on_caught_up = on_caught_up,
        .on_closed = on_closed,
    };
    return feed;
}

static void start(struct es_feed *feed)
{
    link_feed(feed->connection, feed);
    streams_subscribe(feed->connection->at->service->streams, &feed->subscription);
}

void es_take_subscribe(const struct es_call *call)
{
    struct es_subscribe_to_stream message;
    if (!es_call_decode(call, &message))
        return;
    if (message.event_stream_id.size > STREAM_NAME_SIZE_MAX) {
        es_call_refuse(call, "the name of a stream has at most 4096 bytes");
        return;
    }
    struct es_feed *feed = feed_new(call, message.event_stream_id, message.resolve_link_tos);
    if (feed != NULL)
        start(feed);
}

void es_take_filtered_subscribe(const struct es_call *call)
{
    struct es_filtered_subscribe_to_stream message;
    struct stream_filter *filter = NULL;
    const char *why = "only the log of all events can be filtered";
    if (!es_call_decode(call, &message))
        return;
    int error = message.event_stream_id.size > 0 ? KVS_ERR_INVALID_ARGUMENT
                                                 : es_filter_make(&message.filter, &filter, &why);
    if (error == KVS_ERR_NO_MEMORY) {
        es_answer_error(call->connection, &call->frame->correlation, error);
        return;
    }
    if (error != 0) {
        es_call_refuse(call, why);
        return;
    }
    struct es_feed *feed = feed_new(call, message.event_stream_id, message.resolve_link_tos);
    if (feed == NULL) {
        stream_filter_free(filter);
        return;
    }
    feed->filter = filter;
    feed->subscription.filter = filter;
    feed->subscription.on_checkpoint = on_checkpoint;
    if (message.checkpoint_interval > 0)
        feed->subscription.checkpoint_interval = (uint32_t)message.checkpoint_interval;
    start(feed);
}

/* --- going on, and ending --------------------------------------------------------------------- */

/* Who has sent stands behind the others then: so whoever does not come to its turn is the first the
 * next time, also when the sender's next page is there before the peer has taken this one. */
void es_feeds_resume(struct es_connection *connection)
{
    connection_flush(&connection->base);
    struct list *next = connection->feeds.next;
    for (uint32_t left = connection->feeds_count; left > 0; left--) {
        struct es_feed *feed = list_entry(next, struct es_feed, node);
        next = next->next;
        if (connection->base.closed || connection_unwritten(&connection->base) >= ES_UNWRITTEN_MAX)
            return;
        if (feed->page != NULL && !feed->closing)
            send_page(feed);
        else if (feed->has_checkpoint && !feed->closing)
            send_checkpoint(feed);
    }
    read_again(connection);
}

static void close_feed(struct es_feed *feed)
{
    if (feed->closing)
        return;
    feed->closing = true;
    stream_subscription_close(&feed->subscription);
}

bool es_feed_unsubscribe(struct es_connection *connection, const struct es_id *correlation)
{
    struct list *feeds = &connection->feeds;
    for (struct list *at = feeds->next; at != feeds; at = at->next) {
        struct es_feed *feed = list_entry(at, struct es_feed, node);
        if (es_id_equal(&feed->correlation, correlation)) {
            close_feed(feed);
            return true;
        }
    }
    return false;
}

void es_feeds_end(struct es_connection *connection)
{
    struct list *feeds = &connection->feeds;
    for (struct list *at = feeds->next; at != feeds; at = at->next) {
        struct es_feed *feed = list_entry(at, struct es_feed, node);
        feed->silent = true;
        close_feed(feed);
    }
}

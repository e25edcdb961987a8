/*
 * cli/client/events_read.c: events onto standard output: pages of them (read), and as they come
 * (follow, subscribe).
 *
 * As they come: the loop's handler leaves its batch to the main thread, which prints it, flushes,
 * and lets the subscription go on. So a reader of our output that is slow holds the flow, down to
 * the server; and an event of a group is acknowledged when it has been written, each for itself.
 */
#include "cli/client/events.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PAGE_COUNT 512u
#define ACK_IDS_MAX 256u
#define INTERRUPT_CHECK_MS 1000
#define LAST_DEFAULT 10u

static int print_events(const struct client *client, const kvs_resolved_event *events, size_t count)
{
    struct buf lines = BUF_INIT;
    int error = 0;
    for (size_t i = 0; i < count && error == 0; i++)
        error = events_print(&lines, &events[i]);
    if (error == 0)
        fwrite(lines.data, 1, lines.size, stdout);
    buf_deinit(&lines);
    return error != 0 ? client_fail(client, "out of memory") : 0;
}

/* --- where from --------------------------------------------------------------------------------
 */

struct place {
    int64_t number;
    kvs_position position;
};

/* "C/P" or "C". */
static bool take_position(kvs_slice text, kvs_position *ret_position)
{
    const uint8_t *slash = text.size > 0 ? memchr(text.data, '/', text.size) : NULL;
    size_t size = slash != NULL ? (size_t)(slash - text.data) : text.size;
    int64_t commit = events_number(slice_make(text.data, size));
    int64_t prepare =
        slash != NULL ? events_number(slice_make(slash + 1, text.size - size - 1)) : commit;
    *ret_position = (kvs_position){commit, prepare};
    return commit >= 0 && prepare >= 0 && prepare <= commit;
}

static int take_from(const struct client *client, bool backward, struct place *ret_place)
{
    const char *from = client->options.from;
    if (from == NULL)
        from = backward ? "end" : "start";
    kvs_slice text = slice_of_string(from);
    *ret_place = (struct place){0, KVS_POSITION_START};
    if (strcmp(from, "start") == 0)
        return 0;
    if (strcmp(from, "end") == 0) {
        *ret_place = (struct place){KVS_EVENT_LAST, KVS_POSITION_END};
        return 0;
    }
    bool ok;
    if (events_is_all(client->operands[0])) {
        ok = take_position(text, &ret_place->position);
    } else {
        ret_place->number = events_number(text);
        ok = ret_place->number >= 0;
    }
    return ok ? 0
              : client_misuse(client,
                              "--from takes start, end, a number, or for $all a position "
                              "COMMIT/PREPARE, not '%.40s'",
                              from);
}

/* --stream-prefix and the others like it: one at most. */
static int take_filter(const struct client *client, kvs_slice *pattern, kvs_event_filter *filter,
                       const kvs_event_filter **ret_filter)
{
    const struct client_options *options = &client->options;
    const struct {
        const char *text;
        enum kvs_filter_on on;
        enum kvs_filter_kind kind;
    } given[] = {
        {options->stream_prefix, KVS_FILTER_ON_STREAM, KVS_FILTER_PREFIX},
        {options->stream_regex, KVS_FILTER_ON_STREAM, KVS_FILTER_REGEX},
        {options->type_prefix, KVS_FILTER_ON_TYPE, KVS_FILTER_PREFIX},
        {options->type_regex, KVS_FILTER_ON_TYPE, KVS_FILTER_REGEX},
    };
    *ret_filter = NULL;
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        if (given[i].text == NULL)
            continue;
        if (*ret_filter != NULL || !events_is_all(client->operands[0]))
            return client_misuse(client, "one filter can be given, and only for $all");
        *pattern = slice_of_string(given[i].text);
        *filter = (kvs_event_filter){
            .on = given[i].on, .kind = given[i].kind, .patterns = pattern, .patterns_count = 1};
        *ret_filter = filter;
    }
    return 0;
}

/* --- read --------------------------------------------------------------------------------------
 */

struct reader {
    struct client *client;
    struct place place;
    unsigned flags;
    const kvs_event_filter *filter;
    uint64_t left;
    bool ended;
};

static kvs_future *read_page(struct reader *reader)
{
    struct client *client = reader->client;
    kvs_slice stream = client->operands[0];
    uint32_t count = reader->left < PAGE_COUNT ? (uint32_t)reader->left : PAGE_COUNT;
    return events_is_all(stream)
               ? kvs_events_read_all(client->events, reader->place.position, count, reader->flags,
                                     reader->filter, NULL)
               : kvs_events_read_stream(client->events, stream, reader->place.number, count,
                                        reader->flags, NULL);
}

static int read_pages(struct reader *reader)
{
    int status = 0;
    while (status == 0 && reader->left > 0 && !reader->ended) {
        void *pointer = NULL;
        kvs_future *future = read_page(reader);
        status = events_wait(reader->client, future);
        if (status == 0 && kvs_future_get_pointer(future, &pointer) == 0) {
            const kvs_event_page *page = pointer;
            status = print_events(reader->client, page->events, page->count);
            reader->left -= page->count < reader->left ? page->count : reader->left;
            reader->place = (struct place){page->next_number, page->next_position};
            reader->ended = page->is_end;
        }
        kvs_future_free(future);
        if (status == 0)
            status = client_flush_output(reader->client, 0);
        if (status == 0 && client_interrupted())
            status = client_fail_operation(reader->client, KVS_ERR_CANCELLED, "");
    }
    return status;
}

int command_events_read(void *context)
{
    struct client *client = context;
    kvs_slice pattern;
    kvs_event_filter filter;
    bool backward = client->options.reverse;
    struct reader reader = {
        .client = client,
        .flags = (backward ? KVS_READ_BACKWARD : 0) |
                 (client->options.resolve ? KVS_READ_RESOLVE_LINKS : 0),
        .left = client->options.limit != 0 ? client->options.limit : UINT64_MAX,
    };
    int status = take_from(client, backward, &reader.place);
    if (status == 0)
        status = take_filter(client, &pattern, &filter, &reader.filter);
    if (status == 0 && !backward && reader.place.number == KVS_EVENT_LAST)
        return client_misuse(client, "nothing stands behind the end; give --reverse with it");
    if (status == 0)
        status = events_connect(client, true);
    return status != 0 ? status : read_pages(&reader);
}

/* --- as they come ------------------------------------------------------------------------------
 */

struct follower {
    struct client *client;
    kvs_subscription *subscription;
    int wake; /* an eventfd */
    pthread_mutex_t lock;
    const kvs_resolved_event *events; /* of the batch that is kept; NULL: none */
    size_t count;
    bool acknowledges;
    bool output_gone;
    bool stopped; /* by us: only its end is waited for */
    bool dropped;
    int error;
    char why[300];
};

/* It cannot fail: nobody lets the count overflow. */
static void follower_wake(struct follower *follower)
{
    const uint64_t one = 1;
    ssize_t written = write(follower->wake, &one, sizeof one);
    (void)written;
}

static bool follower_on_events(kvs_subscription *subscription, const kvs_resolved_event *events,
                               size_t count, void *arg)
{
    struct follower *follower = arg;
    (void)subscription;
    pthread_mutex_lock(&follower->lock);
    follower->events = events;
    follower->count = count;
    pthread_mutex_unlock(&follower->lock);
    follower_wake(follower);
    return false;
}

static void follower_on_dropped(kvs_subscription *subscription, int error, const char *why,
                                void *arg)
{
    struct follower *follower = arg;
    (void)subscription;
    pthread_mutex_lock(&follower->lock);
    follower->dropped = true;
    follower->error = error;
    snprintf(follower->why, sizeof follower->why, "%s", why);
    pthread_mutex_unlock(&follower->lock);
    follower_wake(follower);
}

static const struct kvs_subscription_handlers follower_handlers = {
    .on_events = follower_on_events, .on_dropped = follower_on_dropped};

/* Sleeps until something happens. Who reads our output may go while there is nothing to write: that
 * ends the program, as writing would. */
static void follower_sleep(struct follower *follower)
{
    struct pollfd files[] = {{.fd = follower->wake, .events = POLLIN},
                             {.fd = follower->output_gone ? -1 : STDOUT_FILENO}};
    uint64_t count;
    /* A signal ends the wait, unless it comes between the check and here: then the clock. */
    if (poll(files, 2, INTERRUPT_CHECK_MS) < 0)
        return;
    if ((files[1].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) {
        follower->output_gone = true;
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    ssize_t got = files[0].revents != 0 ? read(follower->wake, &count, sizeof count) : 0;
    (void)got;
}

/* Waits for a batch. False: it was dropped, or Ctrl-C typed. */
static bool follower_next(struct follower *follower, const kvs_resolved_event **ret_events,
                          size_t *ret_count)
{
    for (;;) {
        pthread_mutex_lock(&follower->lock);
        *ret_events = follower->events;
        *ret_count = follower->count;
        follower->events = NULL;
        bool dropped = follower->dropped;
        pthread_mutex_unlock(&follower->lock);
        if (*ret_events != NULL || dropped || (client_interrupted() && !follower->stopped))
            return *ret_events != NULL;
        follower_sleep(follower);
    }
}

static void follower_stop(struct follower *follower)
{
    const kvs_resolved_event *events;
    size_t count;
    follower->stopped = true;
    kvs_subscription_stop(follower->subscription);
    while (follower_next(follower, &events, &count))
        ;
    kvs_subscription_free(follower->subscription);
}

/* What was printed; what of its batch was not is left to others. */
static int follower_acknowledge(struct follower *follower, const kvs_resolved_event *events,
                                size_t count)
{
    kvs_event_id ids[ACK_IDS_MAX];
    int error = 0;
    for (size_t i = 0; i < count && error == 0;) {
        size_t some = 0;
        while (i < count && some < ACK_IDS_MAX)
            ids[some++] = kvs_original_event(&events[i++])->id;
        error = kvs_subscription_ack(follower->subscription, ids, some);
    }
    return error != 0 ? client_fail_operation(follower->client, error, "") : 0;
}

/* Prints until `left` events have been, or the subscription ends. */
static int follower_run(struct follower *follower, uint64_t left)
{
    const kvs_resolved_event *events;
    size_t count;
    int status = 0;
    while (status == 0 && left > 0 && follower_next(follower, &events, &count)) {
        size_t shown = count < left ? count : (size_t)left;
        status = print_events(follower->client, events, shown);
        if (status == 0)
            status = client_flush_output(follower->client, 0);
        if (status == 0 && follower->acknowledges)
            status = follower_acknowledge(follower, events, shown);
        left -= shown;
        if (client_interrupted())
            break;
        if (status == 0 && left > 0)
            kvs_subscription_resume(follower->subscription);
    }
    bool is_over = status == 0 && left > 0;
    follower_stop(follower);
    if (is_over)
        status = client_fail_operation(follower->client,
                                       client_interrupted() ? KVS_ERR_CANCELLED : follower->error,
                                       follower->why);
    return status;
}

static int follower_init(struct follower *follower, struct client *client)
{
    *follower = (struct follower){.client = client, .wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (follower->wake < 0)
        return client_fail(client, "cannot start: %s", strerror(errno));
    pthread_mutex_init(&follower->lock, NULL);
    return 0;
}

static void follower_deinit(struct follower *follower)
{
    close(follower->wake);
    pthread_mutex_destroy(&follower->lock);
}

/* --- follow ------------------------------------------------------------------------------------
 */

/* A page backwards: is the event there that the last ones stand behind? */
static void find_in_page(struct reader *reader, const kvs_event_page *page,
                         struct kvs_subscribe_options *options)
{
    if (page->count >= reader->left) {
        const kvs_resolved_event *before = &page->events[reader->left - 1];
        options->from = KVS_SUBSCRIBE_AFTER;
        options->after_number = kvs_original_event(before)->number;
        options->after_position = before->position;
    }
    reader->left -= page->count < reader->left ? page->count : reader->left;
    reader->place = (struct place){page->next_number, page->next_position};
    reader->ended = page->is_end;
}

/*
 * Like tail: begins behind the event before the last ones. It is looked for page by page, since a
 * page may end early, and of a filter's events few or none may be near the end. Nothing of them is
 * kept: the subscription gives them.
 */
static int find_last(struct client *client, struct kvs_subscribe_options *options)
{
    uint64_t last = client->options.last;
    struct reader reader = {
        .client = client,
        .place = {KVS_EVENT_LAST, KVS_POSITION_END},
        .flags = KVS_READ_BACKWARD,
        .filter = options->filter,
        .left = (last != CLIENT_LAST_UNSAID ? last : LAST_DEFAULT) + 1,
    };
    int status = 0;
    options->from = KVS_SUBSCRIBE_FROM_START;
    while (status == 0 && reader.left > 0 && !reader.ended) {
        void *page = NULL;
        kvs_future *future = read_page(&reader);
        if (call_wait_future(future) == KVS_ERR_NO_STREAM)
            reader.ended = true; /* it may come to be */
        else
            status = events_wait(client, future);
        if (kvs_future_get_pointer(future, &page) == 0)
            find_in_page(&reader, page, options);
        kvs_future_free(future);
    }
    return status;
}

static int take_follow_from(struct client *client, struct kvs_subscribe_options *options)
{
    struct place place;
    int status = take_from(client, false, &place);
    if (status != 0)
        return status;
    if (client->options.from == NULL)
        return find_last(client, options);
    if (place.number == KVS_EVENT_LAST) {
        options->from = KVS_SUBSCRIBE_FROM_END;
    } else if (options->stream.size == 0 && place.position.commit > 0) {
        options->from = KVS_SUBSCRIBE_AFTER; /* positions are those that were printed */
        options->after_position = place.position;
    } else if (place.number > 0) {
        options->from = KVS_SUBSCRIBE_AFTER;
        options->after_number = place.number - 1;
    }
    return 0;
}

int command_events_follow(void *context)
{
    struct client *client = context;
    kvs_slice pattern;
    kvs_event_filter filter;
    struct kvs_subscribe_options options = {
        .size = sizeof options,
        .stream = events_is_all(client->operands[0]) ? (kvs_slice){0} : client->operands[0],
        .resolve_links = client->options.resolve,
    };
    uint64_t left = client->options.limit != 0 ? client->options.limit : UINT64_MAX;
    struct follower follower;
    if (client->options.from != NULL && client->options.last != CLIENT_LAST_UNSAID)
        return client_misuse(client, "--from and --last both say where to begin; give one");
    int status = take_filter(client, &pattern, &filter, &options.filter);
    if (status == 0)
        status = events_connect(client, true);
    if (status == 0)
        status = take_follow_from(client, &options);
    if (status != 0)
        return status;
    status = follower_init(&follower, client);
    if (status != 0)
        return status;
    int error = kvs_events_subscribe(client->events, &options, &follower_handlers, &follower,
                                     &follower.subscription);
    status = error != 0 ? client_fail_operation(client, error, "") : follower_run(&follower, left);
    follower_deinit(&follower);
    return status;
}

/* --- subscribe: as a member of a group ---------------------------------------------------------
 */

int command_events_subscribe(void *context)
{
    struct client *client = context;
    const struct kvs_group_subscribe_options options = {
        .size = sizeof options,
        .stream = client->operands[0],
        .group = client->operands[1],
        .in_flight = (uint32_t)client->options.in_flight,
        .manual_ack = true,
    };
    struct follower follower;
    int status = events_connect(client, true);
    if (status != 0)
        return status;
    uint64_t left = client->options.limit != 0 ? client->options.limit : UINT64_MAX;
    status = follower_init(&follower, client);
    if (status != 0)
        return status;
    follower.acknowledges = true;
    int error = kvs_events_subscribe_group(client->events, &options, &follower_handlers, &follower,
                                           &follower.subscription);
    status = error != 0 ? client_fail_operation(client, error, "") : follower_run(&follower, left);
    follower_deinit(&follower);
    /* Requests are carried out in order: behind this one no acknowledgement is lost by our end. */
    return status != 0 ? status
                       : events_wait_and_free(client, kvs_events_ping(client->events, NULL));
}

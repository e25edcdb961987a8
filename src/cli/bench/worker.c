/*
 * cli/bench/worker.c: the load itself, made to cost next to nothing beside the server it measures.
 *
 * A phase, on the worker's thread:
 *   1. every connection is filled with requests up to its depth (closed loop), or gets those that
 *      are due (open loop)
 *   2. epoll waits for replies, in an open loop no longer than to the next due time
 *   3. a readable connection takes one turn: one read for all replies that are there, one look at
 *      the clock, the latencies, the next requests, one write for all of them
 *   4. at the deadline, or with all requests sent, it goes on until all are answered
 *
 * Latency is measured to the moment the reply was read: in a closed loop from just before the
 * request was written, in an open loop from the moment it was due, whether or not it could be sent
 * then. So a server that stalls cannot hide the requests it kept from being sent.
 *
 * Failure: a connection that ends or breaks the protocol is closed and its requests count as lost;
 * the phase goes on with the others and ends with the last. Without any reply for timeout_ns, all
 * connections are given up. Nothing is allocated in a phase, but for a connection whose socket
 * takes no more: what is left of the turn's requests is kept for it.
 */
#include "cli/bench/worker.h"

#include "cli/bench/worker_txn.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    IN_SIZE = 256 << 10,
    OUT_SIZE = 256 << 10, /* a turn's requests are written when they reach this */
    EVENTS_MAX = 256,
    REPLIES_MAX = 128,
    WAIT_MS_MAX = 100,     /* to look at the stop flag and the deadline */
    LATE_NS_MAX = 5000000, /* open loop: what was due just before the deadline may go out so late */
};

struct slot {
    uint64_t start_ns;
    uint8_t operation;
    bool in_flight;
};

struct connection {
    int fd; /* -1 once closed */
    struct parser parser;
    uint32_t in_flight;
    struct slot *slots;
    uint32_t *free_ids; /* a stack of depth_max - in_flight; unused when replies are ordered */
    uint32_t oldest;    /* ordered replies: the slots are a ring, this one is answered next */
    uint32_t newest;    /* ... and this one is used next */
    size_t carry_size;
    size_t pending_at, pending_size;
    uint8_t *pending; /* what the socket did not take: up to OUT_SIZE + one request */
    uint8_t carry[TARGET_CARRY_MAX];
};

static void *worker_main(void *arg);
static void take_turn(struct worker *worker, struct connection *connection);
static void fill(struct worker *worker, struct connection *connection, uint64_t now);
static void issue_due(struct worker *worker, uint64_t now);
static bool flush(struct worker *worker, struct connection *connection);
static void flush_pending(struct worker *worker, struct connection *connection);
static void lose_after_replies(struct worker *worker, struct connection *connection);
static void lose(struct worker *worker, struct connection *connection, const char *why);

/* --- life ---- */

static int connection_init(struct connection *connection, unsigned depth)
{
    connection->slots = mem_zalloc(depth * sizeof *connection->slots);
    connection->free_ids = mem_alloc(depth * sizeof *connection->free_ids);
    if (connection->slots == NULL || connection->free_ids == NULL)
        return KVS_ERR_NO_MEMORY;
    for (unsigned i = 0; i < depth; i++)
        connection->free_ids[i] = depth - 1 - i;
    return 0;
}

int worker_init(struct worker *worker, const struct load *load, size_t busy, size_t idle,
                uint64_t seed, int done_fd)
{
    *worker = (struct worker){.load = load, .poll_fd = -1, .done_fd = done_fd};
    worker->rand = rand_seed(seed);
    worker->connections = mem_zalloc((busy + idle) * sizeof *worker->connections);
    worker->key = mem_alloc(load->keyspace->key_size);
    worker->in = mem_alloc(IN_SIZE + TARGET_CARRY_MAX);
    worker->out = mem_alloc(OUT_SIZE + load->target->request_size_max);
    if (worker->connections == NULL || worker->key == NULL || worker->in == NULL ||
        worker->out == NULL)
        return KVS_ERR_NO_MEMORY;
    worker->busy_count = busy;
    worker->count = busy + idle;
    for (size_t i = 0; i < worker->count; i++)
        worker->connections[i].fd = -1;
    for (size_t i = 0; i < busy; i++) {
        if (connection_init(&worker->connections[i], load->depth_max) != 0)
            return KVS_ERR_NO_MEMORY;
    }
    keyspace_write_template(load->keyspace, worker->key);
    worker->poll_fd = epoll_create1(EPOLL_CLOEXEC);
    return worker->poll_fd >= 0 ? 0 : error_from_errno(errno);
}

void worker_deinit(struct worker *worker)
{
    if (worker->kept != NULL)
        worker->kept_close(worker);
    for (size_t i = 0; i < worker->count; i++) {
        struct connection *connection = &worker->connections[i];
        if (connection->fd >= 0)
            close(connection->fd);
        mem_free(connection->slots);
        mem_free(connection->free_ids);
        mem_free(connection->pending);
    }
    if (worker->poll_fd >= 0)
        close(worker->poll_fd);
    mem_free(worker->connections);
    mem_free(worker->key);
    mem_free(worker->in);
    mem_free(worker->out);
}

int worker_take(struct worker *worker, size_t index, int fd)
{
    struct connection *connection = &worker->connections[index];
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        epoll_ctl(worker->poll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        int error = error_from_errno(errno);
        close(fd);
        return error;
    }
    connection->fd = fd;
    worker->busy_alive += index < worker->busy_count;
    return 0;
}

static void tally_clear(struct tally *tally)
{
    memset(tally, 0, sizeof *tally);
    for (int i = 0; i < OPERATION_COUNT; i++)
        histogram_clear(&tally->latency[i]);
}

int worker_start(struct worker *worker)
{
    tally_clear(&worker->tally);
    int status = pthread_create(&worker->thread, NULL, worker_main, worker);
    return status == 0 ? 0 : error_from_errno(status);
}

/* --- the loop ---- */

static uint64_t timeval_ns(struct timeval time)
{
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_usec * 1000u;
}

static void cpu_time(uint64_t *ret_user_ns, uint64_t *ret_system_ns)
{
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    *ret_user_ns = timeval_ns(usage.ru_utime);
    *ret_system_ns = timeval_ns(usage.ru_stime);
}

/* The moment the next request of an open loop is due. */
static uint64_t due_ns(const struct worker *worker)
{
    const struct phase *phase = &worker->phase;
    return phase->start_ns +
           (uint64_t)(phase->first_due_ns + (double)worker->issued * phase->interval_ns);
}

static bool may_issue(const struct worker *worker, uint64_t now)
{
    const struct phase *phase = &worker->phase;
    if (worker->issued >= phase->requests_max ||
        atomic_load_explicit(&worker->load->stop, memory_order_relaxed)) /* no data behind it */
        return false;
    if (phase->interval_ns <= 0 || phase->deadline_ns == WITHOUT_LIMIT)
        return now < phase->deadline_ns;
    return due_ns(worker) < phase->deadline_ns && now < phase->deadline_ns + LATE_NS_MAX;
}

static int wait_for_events(struct worker *worker, struct epoll_event *events, uint64_t now)
{
    uint64_t wait_ns = (uint64_t)WAIT_MS_MAX * 1000000u;
    if (now < worker->phase.deadline_ns && worker->phase.deadline_ns - now < wait_ns)
        wait_ns = worker->phase.deadline_ns - now;
    if (worker->phase.interval_ns > 0 && may_issue(worker, now)) {
        uint64_t due = due_ns(worker);
        /* With no room on any connection the next reply makes room, and the time is no event. */
        if (due > now && due - now < wait_ns)
            wait_ns = due - now;
    }
    struct timespec wait = {.tv_sec = (time_t)(wait_ns / 1000000000u),
                            .tv_nsec = (long)(wait_ns % 1000000000u)};
    worker->tally.polls++;
    int count = epoll_pwait2(worker->poll_fd, events, EVENTS_MAX, &wait, NULL);
    if (count < 0 && errno == ENOSYS) /* before Linux 5.11: spin below a millisecond */
        count = epoll_wait(worker->poll_fd, events, EVENTS_MAX, (int)(wait_ns / 1000000u));
    return count;
}

static void give_up_when_silent(struct worker *worker, uint64_t now)
{
    if (worker->in_flight == 0 || now < worker->last_reply_ns ||
        now - worker->last_reply_ns < worker->load->timeout_ns)
        return;
    worker->tally.timed_out += worker->in_flight;
    for (size_t i = 0; i < worker->busy_count; i++) {
        if (worker->connections[i].fd >= 0)
            lose(worker, &worker->connections[i], "no reply in time");
    }
}

static void run(struct worker *worker)
{
    struct epoll_event events[EVENTS_MAX];
    bool open_loop = worker->phase.interval_ns > 0;
    uint64_t now = clock_now_ns();
    if (open_loop)
        issue_due(worker, now);
    for (size_t i = 0; i < worker->busy_count; i++)
        fill(worker, &worker->connections[i], now);
    while (worker->busy_alive > 0 && (worker->in_flight > 0 || may_issue(worker, now))) {
        int count = wait_for_events(worker, events, now);
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection->fd >= 0 && (events[i].events & EPOLLOUT) != 0)
                flush_pending(worker, connection);
            if (connection->fd >= 0 && (events[i].events & ~(uint32_t)EPOLLOUT) != 0)
                take_turn(worker, connection);
        }
        now = clock_now_ns();
        if (open_loop)
            issue_due(worker, now);
        if (count <= 0)
            give_up_when_silent(worker, now);
    }
}

/* Open loop: what was due before the end and never went out. */
static void count_unsent(struct worker *worker)
{
    const struct phase *phase = &worker->phase;
    if (phase->interval_ns <= 0 || atomic_load_explicit(&worker->load->stop, memory_order_relaxed))
        return;
    uint64_t due = phase->requests_max;
    if (phase->deadline_ns != WITHOUT_LIMIT) {
        double span = (double)(phase->deadline_ns - phase->start_ns) - phase->first_due_ns;
        uint64_t by_time = span < 1 ? 0 : (uint64_t)((span - 1) / phase->interval_ns) + 1;
        due = by_time < due ? by_time : due;
    }
    worker->tally.unsent = due > worker->issued ? due - worker->issued : 0;
}

static void sleep_until(uint64_t moment_ns)
{
    struct timespec moment = {.tv_sec = (time_t)(moment_ns / 1000000000u),
                              .tv_nsec = (long)(moment_ns % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, NULL);
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct tally *tally = &worker->tally;
    uint64_t user_ns, system_ns;
    /* A timer's slack is 50 us by default: too coarse for due times. */
    prctl(PR_SET_TIMERSLACK, 1000ul, 0ul, 0ul, 0ul);
    pthread_setname_np(pthread_self(), "load");
    cpu_time(&user_ns, &system_ns);
    worker->issued = 0;
    worker->turn = 0;
    worker->last_reply_ns = worker->phase.start_ns;
    tally->end_ns = worker->phase.start_ns;
    sleep_until(worker->phase.start_ns);
    if (worker->load->txn != NULL)
        worker_txn_run(worker);
    else if (worker->load->target->methods->run != NULL)
        worker->load->target->methods->run(worker);
    else
        run(worker);
    count_unsent(worker);
    cpu_time(&tally->user_ns, &tally->system_ns);
    tally->user_ns -= user_ns;
    tally->system_ns -= system_ns;
    uint64_t one = 1;
    ssize_t written = write(worker->done_fd, &one, sizeof one);
    assert(written == sizeof one);
    (void)written;
    return NULL;
}

/* --- requests ---- */

static uint32_t slot_take(struct worker *worker, struct connection *connection)
{
    if (!worker->load->target->methods->ordered)
        return connection->free_ids[worker->load->depth_max - 1 - connection->in_flight];
    uint32_t id = connection->newest;
    connection->newest = id + 1 < worker->load->depth_max ? id + 1 : 0;
    return id;
}

static void issue(struct worker *worker, struct connection *connection, uint64_t start_ns)
{
    const struct load *load = worker->load;
    const struct phase *phase = &worker->phase;
    enum operation operation = OPERATION_SET;
    uint64_t number;
    if (phase->fill) {
        number = phase->first_key + worker->issued;
    } else {
        if (phase->read_ratio >= 1.0 ||
            (phase->read_ratio > 0.0 && rand_unit(&worker->rand) < phase->read_ratio))
            operation = OPERATION_GET;
        number = keyspace_draw(load->keyspace, &worker->rand);
    }
    keyspace_write(load->keyspace, number, worker->key);
    const uint8_t *value = load->values + (rand_u64(&worker->rand) & (VALUES_SPREAD - 1));

    uint32_t id = slot_take(worker, connection);
    connection->slots[id] =
        (struct slot){.start_ns = start_ns, .operation = (uint8_t)operation, .in_flight = true};
    connection->in_flight++;
    worker->in_flight++;
    worker->issued++;
    worker->out_size += load->target->methods->encode(load->target, worker->out + worker->out_size,
                                                      operation, id, worker->key, value);
}

static bool has_room(const struct worker *worker, const struct connection *connection)
{
    return connection->fd >= 0 && connection->pending_size == 0 &&
           connection->in_flight < worker->phase.depth;
}

/* Closed loop: as many requests as the connection has room for. */
static void fill(struct worker *worker, struct connection *connection, uint64_t now)
{
    if (worker->phase.interval_ns > 0 || !may_issue(worker, now))
        return;
    while (has_room(worker, connection) && worker->issued < worker->phase.requests_max) {
        issue(worker, connection, now);
        if (worker->out_size >= OUT_SIZE && !flush(worker, connection))
            return;
    }
    if (worker->out_size > 0)
        flush(worker, connection);
}

/* Open loop: what is due by now goes out, over the connections in turn. When more is due than there
 * are connections, each gets its share at once, to be sent by one write. */
static void issue_due(struct worker *worker, uint64_t now)
{
    const struct phase *phase = &worker->phase;
    if (!may_issue(worker, now) || due_ns(worker) > now)
        return;
    double waited = (double)(now - phase->start_ns) - phase->first_due_ns;
    uint64_t due = (uint64_t)(waited / phase->interval_ns);
    uint64_t share = 1 + (due > worker->issued ? due - worker->issued : 0) / worker->busy_count;
    if (worker->in_flight == 0)
        worker->last_reply_ns = now; /* the server owed nothing until now */
    for (size_t tried = 0; tried < worker->busy_count; tried++) {
        struct connection *connection = &worker->connections[worker->turn];
        worker->turn = worker->turn + 1 < worker->busy_count ? worker->turn + 1 : 0;
        for (uint64_t i = 0; i < share && has_room(worker, connection); i++) {
            if (!may_issue(worker, now) || due_ns(worker) > now)
                break;
            issue(worker, connection, due_ns(worker));
            if (worker->out_size >= OUT_SIZE)
                flush(worker, connection);
        }
        if (worker->out_size > 0)
            flush(worker, connection);
        if (!may_issue(worker, now) || due_ns(worker) > now)
            return;
    }
}

/* --- replies ---- */

static bool slot_answered(struct worker *worker, struct connection *connection,
                          const struct reply *reply, struct slot **ret_slot)
{
    uint32_t id = reply->id;
    if (worker->load->target->methods->ordered) {
        id = connection->oldest;
        connection->oldest = id + 1 < worker->load->depth_max ? id + 1 : 0;
    }
    /* A server that answers twice, or what nobody asked. */
    if (id >= worker->load->depth_max || connection->in_flight == 0 ||
        !connection->slots[id].in_flight)
        return false;
    connection->slots[id].in_flight = false;
    connection->in_flight--;
    connection->free_ids[worker->load->depth_max - 1 - connection->in_flight] = id;
    worker->in_flight--;
    *ret_slot = &connection->slots[id];
    return true;
}

static void error_note(struct worker *worker, const char *text, size_t size)
{
    char *into = worker->tally.first_error;
    if (into[0] != '\0' || size == 0)
        return;
    size = size < TARGET_TEXT_MAX - 1 ? size : TARGET_TEXT_MAX - 1;
    for (size_t i = 0; i < size; i++) /* nothing that could steer a terminal */
        into[i] = (char)(text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?');
    into[size] = '\0';
}

static bool reply_take(struct worker *worker, struct connection *connection,
                       const struct reply *reply, uint64_t now)
{
    struct slot *slot;
    if (!slot_answered(worker, connection, reply, &slot))
        return false;
    uint64_t start = slot->start_ns;
    histogram_record(&worker->tally.latency[slot->operation], now > start ? now - start : 0);
    if (reply->outcome == OUTCOME_MISS) {
        histogram_bump(&worker->tally.misses, 1);
    } else if (reply->outcome == OUTCOME_ERROR) {
        histogram_bump(&worker->tally.errors, 1);
        error_note(worker, (const char *)reply->text, reply->text != NULL ? reply->text_size : 0);
    }
    return true;
}

/* All replies in `size` bytes of worker->in; the rest is kept. False when the server breaks the
 * protocol. */
static bool replies_take(struct worker *worker, struct connection *connection, size_t size,
                         uint64_t now)
{
    const struct target *target = worker->load->target;
    struct reply replies[REPLIES_MAX];
    size_t at = 0, count, used;
    do {
        int error = target->methods->parse(target, &connection->parser, worker->in + at, size - at,
                                           replies, REPLIES_MAX, &count, &used);
        at += used;
        for (size_t i = 0; i < count; i++) {
            if (!reply_take(worker, connection, &replies[i], now))
                return false;
        }
        if (error != 0)
            return false;
    } while (count == REPLIES_MAX);
    connection->carry_size = size - at;
    assert(connection->carry_size <= TARGET_CARRY_MAX);
    memcpy(connection->carry, worker->in + at, connection->carry_size);
    return true;
}

/* One read, and the replies that it brought. False when there were none: nothing has come, or the
 * connection is lost. */
static bool read_replies(struct worker *worker, struct connection *connection, uint64_t *ret_now)
{
    memcpy(worker->in, connection->carry, connection->carry_size);
    ssize_t size = recv(connection->fd, worker->in + connection->carry_size, IN_SIZE, 0);
    worker->tally.reads++;
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (size <= 0) {
        lose(worker, connection, size == 0 ? "closed by the server" : strerror(errno));
        return false;
    }
    uint64_t now = clock_now_ns();
    worker->tally.bytes_in += (uint64_t)size;
    worker->tally.end_ns = worker->last_reply_ns = now;
    if (!replies_take(worker, connection, connection->carry_size + (size_t)size, now)) {
        lose(worker, connection, "the server breaks the protocol");
        return false;
    }
    *ret_now = now;
    return true;
}

static void take_turn(struct worker *worker, struct connection *connection)
{
    uint64_t now;
    if (read_replies(worker, connection, &now))
        fill(worker, connection, now);
}

/* A write has failed with errno: what the server answered before it left is still to be read. */
static void lose_after_replies(struct worker *worker, struct connection *connection)
{
    const char *why = strerror(errno);
    uint64_t now;
    while (read_replies(worker, connection, &now))
        continue;
    if (connection->fd >= 0)
        lose(worker, connection, why);
}

/* --- sockets ---- */

static bool watch(struct worker *worker, struct connection *connection, bool for_write)
{
    struct epoll_event event = {.events = EPOLLIN | (for_write ? EPOLLOUT : 0),
                                .data.ptr = connection};
    return epoll_ctl(worker->poll_fd, EPOLL_CTL_MOD, connection->fd, &event) == 0;
}

static bool keep_pending(struct worker *worker, struct connection *connection, size_t sent)
{
    if (connection->pending == NULL)
        connection->pending = mem_alloc(OUT_SIZE + worker->load->target->request_size_max);
    if (connection->pending == NULL)
        return false;
    connection->pending_at = 0;
    connection->pending_size = worker->out_size - sent;
    memcpy(connection->pending, worker->out + sent, connection->pending_size);
    return watch(worker, connection, true);
}

/* Writes the turn's requests. False when the connection takes no more for now, or is lost. */
static bool flush(struct worker *worker, struct connection *connection)
{
    ssize_t sent = send(connection->fd, worker->out, worker->out_size, MSG_NOSIGNAL);
    worker->tally.writes++;
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        lose_after_replies(worker, connection);
        worker->out_size = 0;
        return false;
    }
    sent = sent < 0 ? 0 : sent;
    worker->tally.bytes_out += (uint64_t)sent;
    bool all = (size_t)sent == worker->out_size;
    if (!all && !keep_pending(worker, connection, (size_t)sent))
        lose(worker, connection, "out of memory");
    worker->out_size = 0;
    return all;
}

static void flush_pending(struct worker *worker, struct connection *connection)
{
    if (connection->pending_size > 0) {
        ssize_t sent = send(connection->fd, connection->pending + connection->pending_at,
                            connection->pending_size, MSG_NOSIGNAL);
        worker->tally.writes++;
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            lose_after_replies(worker, connection);
            return;
        }
        sent = sent < 0 ? 0 : sent;
        worker->tally.bytes_out += (uint64_t)sent;
        connection->pending_at += (size_t)sent;
        connection->pending_size -= (size_t)sent;
    }
    if (connection->pending_size > 0)
        return;
    if (!watch(worker, connection, false))
        lose(worker, connection, strerror(errno));
    else
        fill(worker, connection, clock_now_ns());
}

static void lose(struct worker *worker, struct connection *connection, const char *why)
{
    bool busy = (size_t)(connection - worker->connections) < worker->busy_count;
    error_note(worker, why, strlen(why));
    close(connection->fd); /* leaves the epoll set by this */
    connection->fd = -1;
    histogram_bump(&worker->tally.lost, connection->in_flight);
    worker->in_flight -= connection->in_flight;
    connection->in_flight = 0;
    worker->tally.lost_connections++;
    worker->busy_alive -= busy;
    worker->idle_lost += !busy;
}

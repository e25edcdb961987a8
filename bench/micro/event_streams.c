/*
 * bench/micro/event_streams.c: appends and reads of event streams in this process.
 *
 *   event_streams DIR [EVENTS [BYTES [STREAMS]]]
 *       events of each measurement (300000), bytes of an event's data (256), streams (64)
 *
 * In a fresh directory DIR, synced: single events with 64 in flight, batches of 100 with 8 in
 * flight; reading one stream and the log forward in pages of 512; the time from the acknowledgement
 * of an event to a subscriber's having it; then closing and opening. Prints what the engine holds
 * for it.
 */
#include "base/clock.h"
#include "base/slice.h"
#include "runtime/loop.h"
#include "runtime/thread_pool.h"
#include "stream/subscription.h"
#include "usage.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BATCH 100u
#define IN_FLIGHT_MAX 64u
#define WARM_MS_MAX 10000u
#define LATENCIES 2000u

static struct loop loop;
static kvs_thread_pool *pool;
static struct engine *engine;
static struct streams *streams;
static const char *directory;
static uint64_t events_wanted = 300000;
static size_t data_size = 256;
static unsigned streams_count = 64;
static uint8_t data[1u << 20];
static char (*names)[24];

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "event_streams: %s failed\n", what);
    exit(1);
}

/* --- running things on the loop --------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool done;

static void finish(void)
{
    pthread_mutex_lock(&lock);
    done = true;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static void run_on_loop(task_fn *run)
{
    struct task task = {.run = run};
    done = false;
    loop_post(&loop, &task);
    pthread_mutex_lock(&lock);
    while (!done)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

/* --- opening ---------------------------------------------------------------------------------- */

static void open_all(void)
{
    struct engine_message message;
    struct engine_options options = {.pool = pool, .directory = directory};
    uint64_t begin = clock_now_ns();
    require(log_engine_open_blocking(&options, &engine, &message) == 0, message.text);
    uint64_t engine_open = clock_now_ns();
    struct streams_options stream_options = {.engine = engine, .loop = &loop, .insecure = true};
    require(streams_open_blocking(&stream_options, &streams, &message) == 0, message.text);
    printf("%-44s %10.1f ms\n", "open the engine", (double)(engine_open - begin) / 1e6);
    printf("%-44s %10.1f ms\n", "open the streams", (double)(clock_now_ns() - engine_open) / 1e6);
}

static void closed(void *arg)
{
    (void)arg;
    finish();
}

static void begin_close(struct task *task)
{
    (void)task;
    streams_close(streams, closed, NULL);
}

static void close_all(void)
{
    run_on_loop(begin_close);
    require(engine_close_blocking(engine) == 0, "close");
}

/* --- appending -------------------------------------------------------------------------------- */

struct slot {
    struct stream_write write;
    struct stream_new_event events[BATCH];
};

static struct slot slots[IN_FLIGHT_MAX];
static uint64_t next_id;
static uint64_t events_left;
static unsigned batch, in_flight;
static struct task_list turn; /* handed over at the end of the turn, as a server does */
static struct loop_hook turn_hook;

static void slot_submit(struct slot *slot)
{
    if (events_left == 0) {
        if (--in_flight == 0)
            finish();
        return;
    }
    slot->write.stream = slice_of_string(names[next_id % streams_count]);
    for (unsigned i = 0; i < batch; i++) {
        uint64_t id = next_id++;
        memcpy(slot->events[i].id, &id, sizeof id);
    }
    events_left -= batch;
    task_list_push(&turn, &slot->write.op.task);
}

static void slot_on_done(struct task *task)
{
    struct slot *slot = CONTAINER_OF(task, struct slot, write.op.task);
    require(slot->write.op.error == 0 && slot->write.outcome == STREAM_OK, "append");
    slot_submit(slot);
}

static void turn_end(struct loop_hook *hook)
{
    (void)hook;
    streams_write_list(streams, &turn);
}

static void begin_appends(struct task *task)
{
    (void)task;
    unsigned slots_count = in_flight;
    for (unsigned i = 0; i < slots_count; i++) {
        struct slot *slot = &slots[i];
        slot->write = (struct stream_write){.op = {.task.run = slot_on_done, .loop = &loop},
                                            .expected_version = STREAM_ANY,
                                            .events = slot->events,
                                            .count = batch};
        for (unsigned k = 0; k < batch; k++)
            slot->events[k] = (struct stream_new_event){.type = slice_of_string("measured"),
                                                        .data = slice_make(data, data_size)};
        slot_submit(slot);
    }
}

static void append(const char *what, unsigned batch_size, unsigned concurrent, uint64_t count)
{
    batch = batch_size;
    in_flight = concurrent;
    events_left = count / batch_size * batch_size;
    uint64_t total = events_left;
    uint64_t begin = clock_now_ns();
    run_on_loop(begin_appends);
    double seconds = (double)(clock_now_ns() - begin) / 1e9;
    printf("%-44s %10.0f events/s\n", what, (double)total / seconds);
}

/* --- reading ---------------------------------------------------------------------------------- */

/* After a start values are not in memory yet: they are brought there in the background. */
static bool read_page(struct stream_read *read)
{
    for (unsigned tries = 0; tries < WARM_MS_MAX; tries++) {
        if (streams_read_answer(streams, read))
            return read->op.error == 0;
        usleep(1000);
    }
    return false;
}

static uint64_t read_all(const char *stream, uint32_t page)
{
    struct stream_read read = {
        .kind = stream != NULL ? STREAM_READ_FORWARD : STREAM_READ_ALL_FORWARD,
        .stream = stream != NULL ? slice_of_string(stream) : (kvs_slice){0},
        .count = page,
    };
    uint64_t count = 0;
    do {
        require(read_page(&read), "read from memory");
        count += read.events_count;
        read.from = read.next;
        stream_read_release(&read);
    } while (!read.end);
    return count;
}

static void read_forward(const char *what, const char *stream, uint32_t page)
{
    (void)read_all(stream, page);
    uint64_t begin = clock_now_ns();
    uint64_t count = read_all(stream, page);
    double seconds = (double)(clock_now_ns() - begin) / 1e9;
    printf("%-44s %10.0f events/s\n", what, (double)count / seconds);
}

/* --- live ------------------------------------------------------------------------------------- */

static struct stream_subscription subscription;
static uint64_t acknowledged_ns, delays[LATENCIES];
static unsigned delays_count;
static bool live_delivered;
static struct slot live;

static void live_append(void)
{
    uint64_t id = next_id++;
    memcpy(live.events[0].id, &id, sizeof id);
    acknowledged_ns = 0;
    live_delivered = false;
    streams_write(streams, &live.write);
}

/* The event may be here before its writer knows that it is safe; the next one waits for both. */
static void live_on_done(struct task *task)
{
    (void)task;
    acknowledged_ns = clock_now_ns();
    if (live_delivered && delays_count < LATENCIES)
        live_append();
}

static void on_confirmed(struct stream_subscription *of)
{
    (void)of;
    live_append();
}

/* Before its writer knows: then the delay is none. */
static void on_events(struct stream_subscription *of, const struct stream_event *events,
                      uint32_t count)
{
    (void)events;
    (void)count;
    delays[delays_count++] = acknowledged_ns == 0 ? 0 : clock_now_ns() - acknowledged_ns;
    if (delays_count == LATENCIES) {
        stream_subscription_close(of);
        return;
    }
    stream_subscription_next(of);
    live_delivered = true;
    if (acknowledged_ns != 0)
        live_append();
}

static void on_closed(struct stream_subscription *of)
{
    (void)of;
    finish();
}

static void begin_live(struct task *task)
{
    (void)task;
    live.write = (struct stream_write){.op = {.task.run = live_on_done, .loop = &loop},
                                       .stream = slice_of_string("live"),
                                       .expected_version = STREAM_ANY,
                                       .events = live.events,
                                       .count = 1};
    live.events[0] = (struct stream_new_event){.type = slice_of_string("measured"),
                                               .data = slice_make(data, data_size)};
    subscription = (struct stream_subscription){.loop = &loop,
                                                .stream = slice_of_string("live"),
                                                .from = STREAM_END,
                                                .on_confirmed = on_confirmed,
                                                .on_events = on_events,
                                                .on_closed = on_closed};
    streams_subscribe(streams, &subscription);
}

static int order(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void measure_live(void)
{
    run_on_loop(begin_live);
    qsort(delays, LATENCIES, sizeof delays[0], order);
    printf("%-44s %10.1f us\n", "acknowledged to delivered, median",
           (double)delays[LATENCIES / 2] / 1e3);
    printf("%-44s %10.1f us\n", "acknowledged to delivered, 99 of 100",
           (double)delays[LATENCIES * 99 / 100] / 1e3);
}

/* --- all -------------------------------------------------------------------------------------- */

static void print_engine(void)
{
    struct engine_stats stats;
    engine_stats(engine, &stats);
    int64_t events = streams_last_position(streams);
    printf("%lld events: %.3f keys, %.1f bytes of index, %.1f bytes of disk for each\n",
           (long long)events, (double)stats.keys / (double)events,
           (double)stats.index_bytes / (double)events, (double)stats.disk_bytes / (double)events);
}

int main(int argc, char **argv)
{
    usage_check(argc, argv, 1, "event_streams DIR [EVENTS [BYTES [STREAMS]]]");
    directory = argv[1];
    events_wanted = argc > 2 ? strtoull(argv[2], NULL, 10) : events_wanted;
    data_size = argc > 3 ? strtoull(argv[3], NULL, 10) : data_size;
    streams_count = argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : streams_count;
    require(data_size <= sizeof data && streams_count > 0, "arguments");
    names = calloc(streams_count, sizeof *names);
    for (unsigned i = 0; i < streams_count; i++)
        snprintf(names[i], sizeof names[i], "bench-%u", i);
    require(kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, 2, &pool) == 0, "pool");
    require(loop_init(&loop, 0) == 0 && loop_start(&loop, "bench-loop") == 0, "loop");
    turn_hook.run = turn_end;
    loop_add_hook(&loop, &turn_hook);
    open_all();
    append("append, 1 event, 64 in flight", 1, IN_FLIGHT_MAX, events_wanted);
    print_engine();
    append("append, 100 events, 8 in flight", BATCH, 8, events_wanted * 3);
    print_engine();
    read_forward("read a stream forward, pages of 512", names[0], 512);
    read_forward("read the log forward, pages of 512", NULL, 512);
    measure_live();
    close_all();
    open_all();
    read_forward("read the log forward, after opening", NULL, 512);
    close_all();
    loop_stop(&loop);
    loop_deinit(&loop);
    kvs_thread_pool_unref(pool);
    free(names);
    return 0;
}

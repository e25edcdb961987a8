/*
 * stream/watch.c: who waits for something to be written.
 *
 * A watcher has read up to the end, notes that it waits, and looks whether the log has grown since
 * its read; a batch that becomes safe first lets the log grow, then looks who waits, under the same
 * lock: one of the two sees the other.
 *
 * Threads: any; watches_fire the engine's.
 */
#include "stream/streams.h"

#include "base/checksum.h"

static struct list *list_of(struct watches *watches, kvs_slice stream)
{
    if (stream.size == 0)
        return &watches->of_log;
    return &watches->of_streams[checksum(stream.data, stream.size) % WATCH_BUCKETS];
}

void watches_init(struct watches *watches)
{
    pthread_mutex_init(&watches->lock, NULL);
    list_init(&watches->of_log);
    for (unsigned i = 0; i < WATCH_BUCKETS; i++)
        list_init(&watches->of_streams[i]);
}

void watches_deinit(struct watches *watches)
{
    pthread_mutex_destroy(&watches->lock);
}

static void watch_on_fire(struct task *task)
{
    struct stream_watch *watch = CONTAINER_OF(task, struct stream_watch, task);
    watch->on_fire(watch);
}

static void watch_leave(struct stream_watch *watch)
{
    list_remove(&watch->node);
    watch->waits = false;
}

void streams_watch(struct streams *streams, struct stream_watch *watch)
{
    struct watches *watches = &streams->watches;
    watch->streams = streams;
    watch->task.run = watch_on_fire;
    pthread_mutex_lock(&watches->lock);
    list_append(list_of(watches, watch->stream), &watch->node);
    watch->waits = true;
    bool grown = streams_last_position(streams) > watch->seen;
    if (grown)
        watch_leave(watch);
    if (grown)
        loop_post(watch->loop, &watch->task);
    pthread_mutex_unlock(&watches->lock);
}

bool stream_watch_remove(struct stream_watch *watch)
{
    struct watches *watches = &watch->streams->watches;
    pthread_mutex_lock(&watches->lock);
    bool waits = watch->waits;
    if (waits)
        watch_leave(watch);
    pthread_mutex_unlock(&watches->lock);
    return waits;
}

/* Posted under the lock: who fails to remove a watch knows that its task is queued. */
static void list_fire(struct list *list, kvs_slice stream, int64_t number)
{
    struct list *next;
    for (struct list *at = list->next; at != list; at = next) {
        next = at->next;
        struct stream_watch *watch = list_entry(at, struct stream_watch, node);
        if (watch->at > number || !slice_equal(watch->stream, stream))
            continue;
        watch_leave(watch);
        loop_post(watch->loop, &watch->task);
    }
}

void watches_fire(struct streams *streams, const struct batch *batch)
{
    struct watches *watches = &streams->watches;
    if (batch->last_position == 0)
        return;
    pthread_mutex_lock(&watches->lock);
    list_fire(&watches->of_log, (kvs_slice){0}, batch->last_position);
    for (const struct batch_run *run = batch->runs; run != NULL; run = run->next) {
        kvs_slice name = head_name(run->head);
        int64_t last = run->run.first_number + ((int64_t)run->run.count - 1);
        list_fire(list_of(watches, name), name, last);
    }
    pthread_mutex_unlock(&watches->lock);
}

/*
 * server/eventstore_stats.h: what the event store has done, as JSON: for HTTP, and as events of the
 * stream $stats-IP:PORT, named after the HTTP address if there is one.
 *
 * 1. es_stats_start; 2. at each interval an event $statsCollected is appended, unless no client has
 * asked for anything since the last one, or that is still under way: so a store that nobody uses
 * does not grow; the first time the stream gets its metadata before (ten days are kept), unless it
 * has some; 3. es_stats_close.
 *
 * Failure: an event that cannot be written is left out, and said so in the log once. Thread: the
 * loop's.
 */
#ifndef SERVER_EVENTSTORE_STATS_H
#define SERVER_EVENTSTORE_STATS_H

#include "server/eventstore_service.h"

struct es_stats {
    struct es_service *service;
    struct loop *loop;
    uint64_t interval_ms; /* 0: no events; then nothing else is set */
    uv_timer_t timer;
    struct stream_write write;
    struct stream_new_event event;
    char stream[ADDRESS_TEXT_SIZE + 16];
    struct buf body;
    uint64_t count; /* of events, for their ids */
    uint64_t calls; /* of clients, when the last one was appended */
    bool described; /* the stream has its metadata */
    bool busy;      /* the write is under way */
    bool closing;
    bool complained;
    void (*on_closed)(void *arg);
    void *arg;
};

/* "2026-01-31T12:00:00.123Z" */
void es_time_format(uint64_t wall_ms, char text[32]);
/* Appends the object. */
int es_stats_append(struct es_service *service, struct buf *to);

/* Before the loop starts; the streams are open. */
void es_stats_start(struct es_stats *stats, struct es_service *service, struct loop *loop,
                    uint64_t interval_ms);
/* on_closed is called later, also when there was nothing to close. */
void es_stats_close(struct es_stats *stats, void (*on_closed)(void *arg), void *arg);

#endif

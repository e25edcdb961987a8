/*
 * server/eventstore_admin.c: scavenging: space of what is deleted is given back. One at a time in
 * the whole server; the client is told that it has begun, the log that it has ended.
 */
#include "server/eventstore_parts.h"

#include "base/log.h"

#include <kvs/error.h>

#include <inttypes.h>

static void on_scavenged(struct task *task)
{
    struct es_service_loop *at = CONTAINER_OF(task, struct es_service_loop, scavenge.op.task);
    const struct stream_scavenge *scavenge = &at->scavenge;
    if (scavenge->op.error != 0)
        log_warn("scavenge ended: %s", kvs_error_text(scavenge->op.error));
    else
        log_info("scavenge done: %" PRIu64 " events, %" PRIu64 " bytes", scavenge->events_removed,
                 scavenge->bytes_removed);
    at->scavenge_running = false;
    atomic_store_explicit(&at->service->scavenging, false, memory_order_release);
    es_service_loop_done_when_empty(at);
}

/* The request's own id names the scavenge. */
static void answer(const struct es_call *call, enum es_scavenge_result result)
{
    char id[ES_ID_TEXT_SIZE];
    es_id_format(&call->frame->correlation, id);
    const struct es_scavenge_database_response message = {
        .result = result,
        .scavenge_id = result == ES_SCAVENGE_STARTED ? slice_of_string(id) : slice_make(NULL, 0),
    };
    es_answer(call->connection, ES_SCAVENGE_DATABASE_RESPONSE, &call->frame->correlation, &message);
}

void es_take_scavenge(const struct es_call *call)
{
    struct es_service_loop *at = call->connection->at;
    if (!stream_user_is_operator(es_call_user(call))) {
        answer(call, ES_SCAVENGE_UNAUTHORIZED);
        return;
    }
    /* acquire, release: the next one may begin only when the last has ended. */
    if (atomic_exchange_explicit(&at->service->scavenging, true, memory_order_acquire)) {
        answer(call, ES_SCAVENGE_IN_PROGRESS);
        return;
    }
    at->scavenge = (struct stream_scavenge){
        .op = {.loop = at->loop, .task.run = on_scavenged},
    };
    at->scavenge_running = true;
    answer(call, ES_SCAVENGE_STARTED);
    streams_scavenge(at->service->streams, &at->scavenge);
}

void es_scavenge_stop(struct es_service_loop *at)
{
    if (at->scavenge_running)
        atomic_store_explicit(&at->scavenge.stop, true, memory_order_relaxed);
}

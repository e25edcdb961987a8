/*
 * server/eventstore_queue.c: reads that wait for a disk, or are too large for a loop, in turn.
 *
 * 1. A read that cannot be answered on the spot joins those of its connection, in their order.
 * 2. Connections take turns; a few reads of each, and some of the loop's in all, are on the pool.
 *    So what has been read and waits to be encoded is bounded, however many ask.
 * 3. Nothing is read for a peer that takes nothing: its reads wait until it goes on.
 * 4. A connection that is closed forgets its reads.
 *
 * Thread: the connection's loop.
 */
#include "server/eventstore_parts.h"

#define READS_OF_CONNECTION_MAX 4u
#define READS_OF_LOOP_MAX 16u

static bool may_read(const struct es_connection *connection)
{
    return connection->reads_first != NULL && connection->reading < READS_OF_CONNECTION_MAX &&
           !connection->base.closed && connection_unwritten(&connection->base) < ES_UNWRITTEN_MAX;
}

static struct es_request *take_first(struct es_connection *connection)
{
    struct es_request *request = connection->reads_first;
    connection->reads_first = request->next;
    if (connection->reads_first == NULL)
        connection->reads_last = NULL;
    connection->waiting_bytes -= request->bytes;
    return request;
}

static void leave(struct es_connection *connection)
{
    if (connection->has_turn)
        list_remove(&connection->turn);
    connection->has_turn = false;
}

static void start_some(struct es_service_loop *at)
{
    while (at->reading < READS_OF_LOOP_MAX && !list_empty(&at->turns)) {
        struct es_connection *connection = list_entry(at->turns.next, struct es_connection, turn);
        leave(connection);
        if (!may_read(connection)) /* its output has grown since */
            continue;
        struct es_request *request = take_first(connection);
        connection->reading++;
        at->reading++;
        streams_read(at->service->streams, &request->as.read);
        es_reads_check(connection);
    }
}

void es_reads_check(struct es_connection *connection)
{
    if (connection->has_turn || !may_read(connection))
        return;
    connection->has_turn = true;
    list_append(&connection->at->turns, &connection->turn);
}

void es_reads_start(struct es_connection *connection)
{
    es_reads_check(connection);
    start_some(connection->at);
}

void es_read_wait(struct es_request *request)
{
    struct es_connection *connection = request->connection;
    request->next = NULL;
    if (connection->reads_last != NULL)
        connection->reads_last->next = request;
    else
        connection->reads_first = request;
    connection->reads_last = request;
    connection->waiting_bytes += request->bytes;
    es_reads_start(connection);
}

void es_read_done(struct es_request *request)
{
    request->connection->reading--;
    request->connection->at->reading--;
}

void es_reads_end(struct es_connection *connection)
{
    leave(connection);
    while (connection->reads_first != NULL)
        es_request_end(take_first(connection));
}

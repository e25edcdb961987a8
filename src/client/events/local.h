/*
 * client/events/local.h: a kvs_events over event streams in this process (src/stream, over an
 * engine).
 *
 * A call copies its inputs into memory of its own, is handed to the streams, and ends on the
 * client's loop; reads that are in memory end inside the call, and their future is ready. Nobody is
 * asked who he is: logins are for servers.
 * Threads: as kvs/events.h says; local_open_blocking on a pool thread.
 */
#ifndef CLIENT_EVENTS_LOCAL_H
#define CLIENT_EVENTS_LOCAL_H

#include "client/events/events.h"
#include "engine/engine.h"

struct local_options {
    kvs_runtime *runtime;
    struct loop *loop;
    engine_open_fn *open_engine;
    const char *directory;
    enum kvs_sync sync;
    bool must_exist;
    uint32_t timeout_ms; /* of a call that sets none; 0: none */
};

/* Errors: those of the engine's open, with a line in ret_message. */
int local_open_blocking(const struct local_options *options, kvs_events **ret_events,
                        struct engine_message *ret_message);

#endif

/*
 * tests/crash/events_world.h: a kvs-server with event streams, in a directory of its own, that is
 * killed and started anew at the same ports, and our client of it.
 *
 * KVS_TEST_SEED chooses what is random; it is printed. What fails ends the test.
 */
#ifndef TESTS_CRASH_EVENTS_WORLD_H
#define TESTS_CRASH_EVENTS_WORLD_H

#include "base/rand.h"
#include "crash/server_process.h"
#include "held_port.h"

#include <kvs/kvs.h>

struct events_world {
    struct server_process server;
    char directory[32];
    struct held_port ports[2]; /* TCP, HTTP */
    char listeners[2][64];     /* arguments; "": no HTTP */
    struct rand random;
    kvs_runtime *runtime;
    kvs_events *events;
};

void events_world_open(struct events_world *world, bool with_http);
/* Also after the server was ended. */
void events_world_start_server(struct events_world *world);
/* Returns 0, or what cmocka takes for a failure. */
int events_world_close(struct events_world *world);

#endif

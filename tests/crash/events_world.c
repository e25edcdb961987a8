/* tests/crash/events_world.c: see the header. */
#include "crash/events_world.h"

#include "unit/client/events_patient.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "test.h"

void events_world_start_server(struct events_world *world)
{
    const char *http = world->listeners[1][0] != '\0' ? world->listeners[1] : NULL;
    const char *const arguments[] = {
        "--dir", world->directory, "--heartbeat-timeout", "600", world->listeners[0], http, NULL};
    if (!server_process_start(&world->server, arguments))
        fail_msg("the server does not start: %s", world->server.log);
}

static void seed_choose(struct events_world *world)
{
    const char *seed = getenv("KVS_TEST_SEED");
    uint64_t number = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    print_message("# KVS_TEST_SEED=%llu\n", (unsigned long long)number);
    world->random = rand_seed(number);
}

static void client_open(struct events_world *world, const char *url)
{
    const struct kvs_events_options options = events_patient();
    assert_int_equal(kvs_runtime_new(NULL, &world->runtime), 0);
    world->events = opened_by(kvs_events_open(world->runtime, url, &options));
}

void events_world_open(struct events_world *world, bool with_http)
{
    char url[100];
    *world = (struct events_world){.directory = "/tmp/kvs-test-XXXXXX"};
    seed_choose(world);
    assert_non_null(mkdtemp(world->directory));
    held_port_take(&world->ports[0]);
    held_port_take(&world->ports[1]);
    const char *tcp = world->ports[0].address;
    snprintf(world->listeners[0], sizeof world->listeners[0], "--eventstore=%s", tcp);
    int size = snprintf(url, sizeof url, "esdb://admin:changeit@%s", tcp);
    if (with_http) {
        const struct held_port *http = &world->ports[1];
        snprintf(world->listeners[1], sizeof world->listeners[1], "--http=%s", http->address);
        snprintf(url + size, sizeof url - (size_t)size, "?httpPort=%u", http->port);
    }
    events_world_start_server(world);
    client_open(world, url);
}

int events_world_close(struct events_world *world)
{
    char command[64];
    kvs_future *closed = kvs_events_close(world->events);
    kvs_future_wait(closed, -1);
    kvs_future_free(closed);
    kvs_runtime_free(world->runtime);
    server_process_end(&world->server, SIGKILL);
    held_port_give_back(&world->ports[0]);
    held_port_give_back(&world->ports[1]);
    snprintf(command, sizeof command, "rm -rf %s", world->directory);
    return system(command);
}

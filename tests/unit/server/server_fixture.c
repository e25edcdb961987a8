/* See server_fixture.h. */
#include "unit/server/server_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "test.h"
#include "times.h"

kvs_server *server_start(const struct kvs_server_options *options)
{
    struct kvs_server_options filled = {0};
    if (options != NULL)
        filled = *options;
    filled.size = sizeof filled;
    if (filled.address == NULL)
        filled.address = "127.0.0.1:0";
    if (filled.engine == NULL)
        filled.engine = "memory";
    if (filled.threads == 0)
        filled.threads = 2;
    if (filled.heartbeat_timeout_ms == 0)
        filled.heartbeat_timeout_ms = PATIENT_MS;
    kvs_server *server = NULL;
    char *message = NULL;
    int error = kvs_server_open(&filled, &server, &message);
    if (error != 0)
        fail_msg("%s", message);
    return server;
}

void server_stop(kvs_server *server)
{
    assert_int_equal(kvs_server_close(server, PATIENT_MS), 0);
}

void directory_make(char path[64])
{
    snprintf(path, 64, "/tmp/kvs-test-XXXXXX");
    assert_non_null(mkdtemp(path));
}

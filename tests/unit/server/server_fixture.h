/* A server in this process for tests: memory engine, a free port, two loops; or as options say. */
#ifndef TESTS_UNIT_SERVER_SERVER_FIXTURE_H
#define TESTS_UNIT_SERVER_SERVER_FIXTURE_H

#include "unit/server/raw_peer.h"

#include <kvs/server.h>

/* options may be NULL; address, engine and threads get the defaults above when not set. */
kvs_server *server_start(const struct kvs_server_options *options);
/* Closes with a long grace time; no error is expected. */
void server_stop(kvs_server *server);

/* A fresh directory; its removal with all in it is contract/engine_fixture.c. */
void directory_make(char path[64]);
void directory_remove(const char *path);

#endif

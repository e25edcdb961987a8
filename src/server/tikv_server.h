/*
 * server/tikv_server.h: `--tikv`: the listeners of PD, of the store and of its status, and their
 * parts on the loops of a kvs_server.
 *
 * 1. tikv_server_bind makes the sockets; 2. tikv_server_open reads the cluster from the engine;
 * 3. tikv_server_add_loop on each loop; 4. tikv_server_start accepts, on the first loop, and hands
 * each connection to the next loop in turn.
 *
 * Close: 1. tikv_server_drain_loop on each loop, 2. after a while tikv_server_cut_loop, 3. when all
 * have said that they are empty, tikv_server_settle waits for the last changes; 4. the loops
 * end; 5. tikv_server_free.
 *
 * Failures: of bind and open, with a line for a person. Thread: those of loops on the loop's
 * thread, or before it starts; the others on the opener's.
 */
#ifndef SERVER_TIKV_SERVER_H
#define SERVER_TIKV_SERVER_H

#include "engine/engine.h"
#include "pd/cluster.h"
#include "server/place.h"
#include "server/region_splitter.h"

#define TIKV_PD_DEFAULT "127.0.0.1:2379"
#define TIKV_STORE_DEFAULT "127.0.0.1:20160"
#define TIKV_STATUS_PORT 20180u

struct tikv_server;

struct tikv_server_options {
    const char *addresses; /* "[PD[,STORE[,STATUS]]]"; see kvs/server.h */
    struct passed_sockets passed;
    const char *keyspaces;
    unsigned loops;
    uint32_t value_size_max;
    uint32_t connections_max;
    const char *advertise;        /* as in kvs/server.h */
    uint64_t in_flight_bytes_max; /* answers of one connection that wait for it */
    struct region_splitter_options split;
    const char *tls_certificate; /* NULL: clear text; as in kvs/server.h */
    const char *tls_key;
    const char *tls_ca;
    uint64_t handshake_ms_max;
    struct connections_memory *memory; /* what all connections of the server hold */
};

int tikv_server_bind(const struct tikv_server_options *options, struct tikv_server **ret_server,
                     char message[256]);
int tikv_server_open_blocking(struct tikv_server *server, struct engine *engine, char message[256]);
/* Loops are added in the order of their index. */
void tikv_server_add_loop(struct tikv_server *server, struct loop *loop);
int tikv_server_start(struct tikv_server *server);

/* on_done is called when the loop's part is empty and its handles are closed; the first loop's
 * also waits for the listeners. */
void tikv_server_drain_loop(struct tikv_server *server, unsigned index, void (*on_done)(void *arg),
                            void *arg);
void tikv_server_cut_loop(struct tikv_server *server, unsigned index);
/* On the first loop: on_done is called when no change is under way. */
void tikv_server_settle(struct tikv_server *server, void (*on_done)(void *arg), void *arg);
/* The loops have stopped. */
void tikv_server_free(struct tikv_server *server);

/* NULL when the cluster is not open. */
const struct cluster *tikv_server_cluster(const struct tikv_server *server);

#endif

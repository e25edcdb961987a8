/*
 * server/remote_engine.h: a server without an engine of its own: its store is a client of a TiKV
 * cluster, with a connection to each store on every loop.
 *
 * Open: the store is made before the loops start; remote_engine_wait_blocking then waits until the
 * cluster has answered, or says why it did not. Thread: that of kvs_server_open.
 */
#ifndef SERVER_REMOTE_ENGINE_H
#define SERVER_REMOTE_ENGINE_H

#include "store/store.h"

#include <kvs/server.h>
#include <pthread.h>
#include <string.h>

#define REMOTE_ENGINE_NAME "tikv"

struct remote_engine {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool told; /* under mutex, as the next two */
    int error;
    char message[256];
};

static inline bool remote_engine_is_meant(const struct kvs_server_options *options)
{
    return options->engine != NULL && strcmp(options->engine, REMOTE_ENGINE_NAME) == 0;
}

void remote_engine_init(struct remote_engine *remote);
void remote_engine_deinit(struct remote_engine *remote);

/* Returns 0 or an error, with a line for a person. */
int remote_engine_open(struct remote_engine *remote, const struct kvs_server_options *options,
                       kvs_thread_pool *pool, struct loop *const *loops, unsigned loops_count,
                       kvs_store **ret_store, char message[256]);
int remote_engine_wait_blocking(struct remote_engine *remote, char message[256]);

#endif

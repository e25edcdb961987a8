/* server/remote_engine.c: see the header. */
#include "server/remote_engine.h"

#include "client/tikv/tikv_store.h"
#include "client/url.h"

#include <kvs/error.h>
#include <stdio.h>

#define CONNECT_TIMEOUT_MS 5000u
#define TIMEOUT_MS 30000u /* of requests whose clients set none */

void remote_engine_init(struct remote_engine *remote)
{
    *remote = (struct remote_engine){.told = false};
    pthread_mutex_init(&remote->mutex, NULL);
    pthread_cond_init(&remote->changed, NULL);
}

void remote_engine_deinit(struct remote_engine *remote)
{
    pthread_cond_destroy(&remote->changed);
    pthread_mutex_destroy(&remote->mutex);
}

static void on_opened(void *arg, int error, const char *why)
{
    struct remote_engine *remote = arg;
    pthread_mutex_lock(&remote->mutex);
    remote->told = true;
    remote->error = error;
    snprintf(remote->message, sizeof remote->message, "no TiKV cluster: %.230s", why);
    pthread_cond_signal(&remote->changed);
    pthread_mutex_unlock(&remote->mutex);
}

int remote_engine_open(struct remote_engine *remote, const struct kvs_server_options *options,
                       kvs_thread_pool *pool, struct loop *const *loops, unsigned loops_count,
                       kvs_store **ret_store, char message[256])
{
    char text[4500];
    char why[320];
    struct url url;
    snprintf(text, sizeof text, "tikv://%s", options->pd);
    int error = url_parse(text, &url, why, sizeof why);
    const struct tikv_store_options store_options = {
        .pd = url.path,
        .keyspace = url.keyspace,
        .tls_ca = options->pd_ca,
        .tls_certificate = options->pd_certificate,
        .tls_key = options->pd_key,
        .shards = loops_count,
        .loops = loops,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .timeout_ms = TIMEOUT_MS,
        .opened = on_opened,
        .arg = remote,
    };
    if (error == 0)
        error = tikv_store_new(NULL, pool, &store_options, ret_store, why);
    if (error != 0)
        snprintf(message, 256, "%.250s", why);
    return error;
}

int remote_engine_wait_blocking(struct remote_engine *remote, char message[256])
{
    pthread_mutex_lock(&remote->mutex);
    while (!remote->told)
        pthread_cond_wait(&remote->changed, &remote->mutex);
    int error = remote->error;
    if (error != 0)
        snprintf(message, 256, "%s", remote->message);
    pthread_mutex_unlock(&remote->mutex);
    return error;
}

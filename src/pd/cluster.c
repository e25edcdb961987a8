/* pd/cluster.c: see the header. */
#include "pd/cluster.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/mem.h"
#include "pd/gc_state.h"
#include "pd/keyspaces.h"
#include "pd/tso.h"

#include <stdio.h>
#include <sys/random.h>

#define ID_KEY "pd/cluster"

/* Positive also for clients that keep it signed. */
static uint64_t random_id(void)
{
    uint64_t id = 0;
    while (id == 0) {
        if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id)
            id = clock_now_ns();
        id &= INT64_MAX;
    }
    return id;
}

static int open_id(struct cluster *cluster)
{
    struct meta_batch batch = {.count = 0};
    kvs_slice value;
    int error = meta_get_blocking(&cluster->meta, slice_of_string(ID_KEY), &batch, &value);
    if (error == 0 && (value.size != 8 || get_u64(value.data) == 0))
        error = KVS_ERR_CORRUPTION;
    else if (error == 0)
        cluster->id = get_u64(value.data);
    if (error == KVS_ERR_NOT_FOUND) {
        uint8_t bytes[8];
        cluster->id = random_id();
        put_u64(bytes, cluster->id);
        meta_put(&batch, slice_of_string(ID_KEY), slice_make(bytes, sizeof bytes));
        error = meta_write_blocking(&cluster->meta, &batch);
    }
    meta_batch_deinit(&batch);
    return error;
}

#define BOUNDS_PER_KEYSPACE 4u
#define BOUND_SIZE 9u /* one group of the encoding */

/* Where PD cuts for a keyspace: begin and end of its raw and of its transactional keys. */
static int append_bounds(struct buf *out, uint32_t id)
{
    int error = 0;
    for (unsigned i = 0; i < BOUNDS_PER_KEYSPACE && error == 0; i++) {
        uint32_t bound = id + i % 2;
        const uint8_t key[4] = {i < 2 ? 'r' : 'x', (uint8_t)(bound >> 16), (uint8_t)(bound >> 8),
                                (uint8_t)bound};
        error = region_key_encode(out, slice_make(key, sizeof key));
    }
    return error;
}

static int cut_keyspaces(struct cluster *cluster)
{
    size_t count = cluster->keyspaces->count * BOUNDS_PER_KEYSPACE;
    struct buf bytes = BUF_INIT;
    kvs_slice *keys = mem_alloc(count * sizeof *keys);
    int error = keys == NULL ? KVS_ERR_NO_MEMORY : 0;
    for (uint32_t id = 0; id < cluster->keyspaces->count && error == 0; id++)
        error = append_bounds(&bytes, id);
    for (size_t i = 0; i < count && error == 0; i++)
        keys[i] = slice_make(bytes.data + i * BOUND_SIZE, BOUND_SIZE);
    if (error == 0)
        error = region_map_split_blocking(cluster->regions, keys, count);
    buf_deinit(&bytes);
    mem_free(keys);
    return error;
}

int cluster_open_blocking(struct engine *engine, const struct cluster_options *options,
                          struct cluster **ret_cluster, struct engine_message *ret_message)
{
    struct cluster *cluster = mem_zalloc(sizeof *cluster);
    if (cluster == NULL)
        return KVS_ERR_NO_MEMORY;
    cluster->engine = engine;
    cluster->started_ms = clock_wall_ms();
    meta_store_init(&cluster->meta, engine);
    ret_message->text[0] = '\0';
    int error = open_id(cluster);
    if (error == 0)
        error = region_map_open_blocking(&cluster->meta, &cluster->regions, ret_message);
    if (error == 0)
        error = keyspaces_open_blocking(&cluster->meta, options->keyspaces, &cluster->keyspaces,
                                        ret_message);
    if (error == 0)
        error = cut_keyspaces(cluster);
    if (error == 0)
        error = tso_open_blocking(&cluster->meta, options->wall_ms, &cluster->tso);
    if (error == 0)
        error = gc_state_open_blocking(&cluster->meta, &cluster->gc);
    if (error != 0) {
        if (ret_message->text[0] == '\0')
            snprintf(ret_message->text, sizeof ret_message->text,
                     "cannot read what the directory says of the cluster: %s",
                     kvs_error_text(error));
        cluster_free(cluster);
        return error;
    }
    *ret_cluster = cluster;
    return 0;
}

void cluster_free(struct cluster *cluster)
{
    if (cluster == NULL)
        return;
    gc_state_free(cluster->gc);
    tso_free(cluster->tso);
    keyspaces_free(cluster->keyspaces);
    region_map_free(cluster->regions);
    meta_store_deinit(&cluster->meta);
    mem_free(cluster);
}

/*
 * bench/engine/peer_leveldb.c: LevelDB by its C interface: block cache for all data, bloom filters,
 * a large memory table, no compression, for the values are random.
 */
#include "bench/engine/bench.h"

#include <leveldb/c.h>
#include <stdlib.h>

#define NAME "leveldb"

struct store {
    leveldb_t *db;
    leveldb_options_t *options;
    leveldb_cache_t *cache;
    leveldb_filterpolicy_t *filter;
    leveldb_writeoptions_t *write;
};

struct session {
    struct store *store;
    leveldb_readoptions_t *read;
};

static bool has_failed(char *error)
{
    if (error == NULL)
        return false;
    bench_say(NAME ": %s", error);
    leveldb_free(error);
    return true;
}

static int store_open(const struct peer_options *given, void **ret_store)
{
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return -1;
    store->options = leveldb_options_create();
    store->cache = leveldb_cache_create_lru(given->cache_bytes);
    store->filter = leveldb_filterpolicy_create_bloom(10);
    store->write = leveldb_writeoptions_create();
    leveldb_options_set_create_if_missing(store->options, 1);
    leveldb_options_set_cache(store->options, store->cache);
    leveldb_options_set_filter_policy(store->options, store->filter);
    leveldb_options_set_write_buffer_size(store->options, 64u << 20);
    leveldb_options_set_max_file_size(store->options, 32u << 20);
    leveldb_options_set_max_open_files(store->options, 4000);
    leveldb_options_set_compression(store->options, leveldb_no_compression);
    leveldb_writeoptions_set_sync(store->write, given->synced);
    char *error = NULL;
    store->db = leveldb_open(store->options, given->directory, &error);
    *ret_store = store;
    return has_failed(error) ? -1 : 0;
}

static void store_close(void *arg)
{
    struct store *store = arg;
    if (store->db != NULL)
        leveldb_close(store->db);
    leveldb_writeoptions_destroy(store->write);
    leveldb_options_destroy(store->options);
    leveldb_filterpolicy_destroy(store->filter);
    leveldb_cache_destroy(store->cache);
    free(store);
}

static int session_open(void *store, void **ret_session)
{
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return -1;
    session->store = store;
    session->read = leveldb_readoptions_create();
    *ret_session = session;
    return 0;
}

static void session_close(void *arg)
{
    struct session *session = arg;
    leveldb_readoptions_destroy(session->read);
    free(session);
}

static int fill(void *arg, const struct load *load, const uint32_t *numbers, uint64_t count)
{
    struct session *session = arg;
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    uint64_t each = load->value_size < 1024 ? 1000 : 100;
    uint8_t key[KEY_SIZE];
    keyspace_write_template(&load->keyspace, key);
    bool failed = false;
    for (uint64_t i = 0; i < count && !failed; i++) {
        keyspace_write(&load->keyspace, numbers[i], key);
        leveldb_writebatch_put(batch, (const char *)key, KEY_SIZE,
                               (const char *)load_value(load, i), load->value_size);
        if (i % each != each - 1 && i + 1 < count)
            continue;
        char *error = NULL;
        leveldb_write(session->store->db, session->store->write, batch, &error);
        failed = has_failed(error);
        leveldb_writebatch_clear(batch);
    }
    leveldb_writebatch_destroy(batch);
    return failed ? -1 : 0;
}

static void set(void *arg, struct run *run)
{
    struct session *session = arg;
    const struct load *load = run->load;
    uint8_t key[KEY_SIZE];
    keyspace_write_template(&load->keyspace, key);
    while (run_next(run, key)) {
        char *error = NULL;
        leveldb_put(session->store->db, session->store->write, (const char *)key, KEY_SIZE,
                    (const char *)load_value(load, run->begun), load->value_size, &error);
        if (has_failed(error))
            run_fail(run, NAME, "set");
        run->done++;
    }
}

static void get(void *arg, struct run *run)
{
    struct session *session = arg;
    uint8_t key[KEY_SIZE];
    keyspace_write_template(&run->load->keyspace, key);
    while (run_next(run, key)) {
        char *error = NULL;
        size_t size = 0;
        char *value = leveldb_get(session->store->db, session->read, (const char *)key, KEY_SIZE,
                                  &size, &error);
        if (has_failed(error))
            run_fail(run, NAME, "get");
        run_note_value(run, value, size);
        leveldb_free(value);
    }
}

static void scan(void *arg, struct run *run)
{
    struct session *session = arg;
    uint8_t key[KEY_SIZE];
    keyspace_write_template(&run->load->keyspace, key);
    while (run_next(run, key)) {
        leveldb_iterator_t *at = leveldb_create_iterator(session->store->db, session->read);
        leveldb_iter_seek(at, (const char *)key, KEY_SIZE);
        for (int i = 0; i < SCAN_COUNT && leveldb_iter_valid(at); i++, leveldb_iter_next(at)) {
            size_t size;
            const char *found = leveldb_iter_key(at, &size);
            run->touched += (uint8_t)found[size - 1];
            const char *value = leveldb_iter_value(at, &size);
            run_note_value(run, value, size);
        }
        leveldb_iter_destroy(at);
    }
}

static int compact(void *arg)
{
    struct store *store = arg;
    leveldb_compact_range(store->db, NULL, 0, NULL, 0);
    return 0;
}

const struct peer peer_leveldb = {
    .name = NAME,
    .settings = "block cache for all data or half of the memory, bloom filters of 10 bits, memory "
                "table of 64 MiB, files "
                "of 32 MiB, no compression",
    .open = store_open,
    .close = store_close,
    .session_open = session_open,
    .session_close = session_close,
    .fill = fill,
    .set = set,
    .get = get,
    .scan = scan,
    .compact = compact,
};

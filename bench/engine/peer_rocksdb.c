/*
 * bench/engine/peer_rocksdb.c: RocksDB by its C interface, as its tuning guide advises for data
 * that fits in memory: block cache for all of it, full bloom filters, hash index in data blocks,
 * pinned gets, more memory tables and as many background threads as processors; no compression, for
 * the values are random. The write-ahead log is on, and synced as asked.
 */
#include "bench/engine/bench.h"

#include <rocksdb/c.h>
#include <stdlib.h>

#define NAME "rocksdb"

struct store {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    rocksdb_writeoptions_t *write;
};

struct session {
    struct store *store;
    rocksdb_readoptions_t *read;
};

static bool has_failed(char *error)
{
    if (error == NULL)
        return false;
    bench_say(NAME ": %s", error);
    free(error);
    return true;
}

static rocksdb_block_based_table_options_t *table_options(rocksdb_cache_t *cache)
{
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_block_based_options_set_filter_policy(table,
                                                  rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_block_based_options_set_data_block_index_type(
        table, rocksdb_block_based_table_data_block_index_type_binary_search_and_hash);
    rocksdb_block_based_options_set_data_block_hash_ratio(table, 0.75);
    rocksdb_block_based_options_set_format_version(table, 5);
    return table;
}

static int store_open(const struct peer_options *given, void **ret_store)
{
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return -1;
    store->options = rocksdb_options_create();
    store->cache = rocksdb_cache_create_lru(given->cache_bytes);
    rocksdb_options_set_create_if_missing(store->options, 1);
    rocksdb_options_increase_parallelism(store->options, (int)given->threads);
    rocksdb_options_optimize_level_style_compaction(store->options, 512u << 20);
    rocksdb_options_set_compression_per_level(store->options, NULL, 0);
    rocksdb_options_set_compression(store->options, rocksdb_no_compression);
    rocksdb_options_set_max_open_files(store->options, -1);
    rocksdb_block_based_table_options_t *table = table_options(store->cache);
    rocksdb_options_set_block_based_table_factory(store->options, table);
    rocksdb_block_based_options_destroy(table);
    store->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(store->write, given->synced);
    char *error = NULL;
    store->db = rocksdb_open(store->options, given->directory, &error);
    *ret_store = store;
    return has_failed(error) ? -1 : 0;
}

static void store_close(void *arg)
{
    struct store *store = arg;
    if (store->db != NULL)
        rocksdb_close(store->db);
    rocksdb_writeoptions_destroy(store->write);
    rocksdb_options_destroy(store->options);
    rocksdb_cache_destroy(store->cache);
    free(store);
}

static int session_open(void *store, void **ret_session)
{
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return -1;
    session->store = store;
    session->read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(session->read, 0); /* it is in memory */
    *ret_session = session;
    return 0;
}

static void session_close(void *arg)
{
    struct session *session = arg;
    rocksdb_readoptions_destroy(session->read);
    free(session);
}

static int fill(void *arg, const struct load *load, const uint32_t *numbers, uint64_t count)
{
    struct session *session = arg;
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    uint64_t each = load->value_size < 1024 ? 1000 : 100;
    uint8_t key[KEY_SIZE];
    keyspace_write_template(&load->keyspace, key);
    bool failed = false;
    for (uint64_t i = 0; i < count && !failed; i++) {
        keyspace_write(&load->keyspace, numbers[i], key);
        rocksdb_writebatch_put(batch, (const char *)key, KEY_SIZE,
                               (const char *)load_value(load, i), load->value_size);
        if (i % each != each - 1 && i + 1 < count)
            continue;
        char *error = NULL;
        rocksdb_write(session->store->db, session->store->write, batch, &error);
        failed = has_failed(error);
        rocksdb_writebatch_clear(batch);
    }
    rocksdb_writebatch_destroy(batch);
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
        rocksdb_put(session->store->db, session->store->write, (const char *)key, KEY_SIZE,
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
        rocksdb_pinnableslice_t *slice = rocksdb_get_pinned(session->store->db, session->read,
                                                            (const char *)key, KEY_SIZE, &error);
        if (has_failed(error))
            run_fail(run, NAME, "get");
        const char *value = slice != NULL ? rocksdb_pinnableslice_value(slice, &size) : NULL;
        run_note_value(run, value, size);
        rocksdb_pinnableslice_destroy(slice);
    }
}

static void scan(void *arg, struct run *run)
{
    struct session *session = arg;
    uint8_t key[KEY_SIZE];
    keyspace_write_template(&run->load->keyspace, key);
    while (run_next(run, key)) {
        rocksdb_iterator_t *at = rocksdb_create_iterator(session->store->db, session->read);
        rocksdb_iter_seek(at, (const char *)key, KEY_SIZE);
        for (int i = 0; i < SCAN_COUNT && rocksdb_iter_valid(at); i++, rocksdb_iter_next(at)) {
            size_t size;
            const char *found = rocksdb_iter_key(at, &size);
            run->touched += (uint8_t)found[size - 1];
            const char *value = rocksdb_iter_value(at, &size);
            run_note_value(run, value, size);
        }
        rocksdb_iter_destroy(at);
    }
}

static int compact(void *arg)
{
    struct store *store = arg;
    char *error = NULL;
    rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(flush, 1);
    rocksdb_flush(store->db, flush, &error);
    rocksdb_flushoptions_destroy(flush);
    if (has_failed(error))
        return -1;
    rocksdb_compact_range(store->db, NULL, 0, NULL, 0);
    return 0;
}

const struct peer peer_rocksdb = {
    .name = NAME,
    .settings = "block cache for all data or half of the memory, bloom filters of 10 bits, hash "
                "index in blocks, pinned "
                "gets, 512 MiB of memory tables, a background thread for each processor, no "
                "compression, write-ahead log on",
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

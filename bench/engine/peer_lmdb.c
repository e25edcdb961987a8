/*
 * bench/engine/peer_lmdb.c: LMDB: a transaction for each set; a read transaction for each thread,
 * renewed for each get and each scan, so that it sees what was committed before, as the others do.
 * Not synced: MDB_NOSYNC and MDB_WRITEMAP. Synced: its defaults, which were faster here than
 * MDB_WRITEMAP.
 */
#include "bench/engine/bench.h"

#include <lmdb.h>
#include <stdlib.h>

#define NAME "lmdb"

struct store {
    MDB_env *env;
    MDB_dbi dbi;
};

struct session {
    struct store *store;
    MDB_txn *read;
    MDB_cursor *cursor;
};

static bool has_failed(int status)
{
    if (status != 0)
        bench_say(NAME ": %s", mdb_strerror(status));
    return status != 0;
}

static int store_open(const struct peer_options *given, void **ret_store)
{
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return -1;
    unsigned flags = MDB_NOTLS | MDB_NORDAHEAD;
    if (!given->synced)
        flags |= MDB_NOSYNC | MDB_WRITEMAP;
    *ret_store = store;
    int status = mdb_env_create(&store->env);
    if (status == 0)
        status = mdb_env_set_mapsize(store->env, (size_t)given->data_bytes * 4 + (1u << 30));
    if (status == 0)
        status = mdb_env_open(store->env, given->directory, flags, 0644);
    MDB_txn *txn = NULL;
    if (status == 0)
        status = mdb_txn_begin(store->env, NULL, 0, &txn);
    if (status == 0)
        status = mdb_dbi_open(txn, NULL, 0, &store->dbi);
    if (status == 0)
        status = mdb_txn_commit(txn);
    return has_failed(status) ? -1 : 0;
}

static void store_close(void *arg)
{
    struct store *store = arg;
    mdb_env_close(store->env);
    free(store);
}

static int session_open(void *store, void **ret_session)
{
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return -1;
    session->store = store;
    *ret_session = session;
    int status = mdb_txn_begin(session->store->env, NULL, MDB_RDONLY, &session->read);
    if (status == 0)
        status = mdb_cursor_open(session->read, session->store->dbi, &session->cursor);
    if (has_failed(status))
        return -1;
    mdb_txn_reset(session->read);
    return 0;
}

static void session_close(void *arg)
{
    struct session *session = arg;
    mdb_cursor_close(session->cursor);
    mdb_txn_abort(session->read);
    free(session);
}

static int put(MDB_txn *txn, struct store *store, uint8_t *key, const struct load *load, uint64_t n)
{
    MDB_val name = {.mv_size = KEY_SIZE, .mv_data = key};
    MDB_val value = {.mv_size = load->value_size, .mv_data = (void *)load_value(load, n)};
    return mdb_put(txn, store->dbi, &name, &value, 0);
}

static int fill(void *arg, const struct load *load, const uint32_t *numbers, uint64_t count)
{
    struct session *session = arg;
    uint64_t each = load->value_size < 1024 ? 1000 : 100;
    uint8_t key[KEY_SIZE];
    keyspace_write_template(&load->keyspace, key);
    int status = 0;
    for (uint64_t i = 0; i < count && status == 0;) {
        MDB_txn *txn;
        status = mdb_txn_begin(session->store->env, NULL, 0, &txn);
        for (uint64_t end = i + each; status == 0 && i < end && i < count; i++) {
            keyspace_write(&load->keyspace, numbers[i], key);
            status = put(txn, session->store, key, load, i);
        }
        if (status == 0)
            status = mdb_txn_commit(txn);
    }
    return has_failed(status) ? -1 : 0;
}

static void set(void *arg, struct run *run)
{
    struct session *session = arg;
    uint8_t key[KEY_SIZE];
    keyspace_write_template(&run->load->keyspace, key);
    while (run_next(run, key)) {
        MDB_txn *txn;
        int status = mdb_txn_begin(session->store->env, NULL, 0, &txn);
        if (status == 0)
            status = put(txn, session->store, key, run->load, run->begun);
        if (status == 0)
            status = mdb_txn_commit(txn);
        if (has_failed(status))
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
        MDB_val name = {.mv_size = KEY_SIZE, .mv_data = key};
        MDB_val value = {0};
        int status = mdb_txn_renew(session->read);
        if (status == 0)
            status = mdb_get(session->read, session->store->dbi, &name, &value);
        if (status != MDB_NOTFOUND && has_failed(status))
            run_fail(run, NAME, "get");
        run_note_value(run, value.mv_data, value.mv_size);
        mdb_txn_reset(session->read);
    }
}

static void scan(void *arg, struct run *run)
{
    struct session *session = arg;
    uint8_t key[KEY_SIZE];
    keyspace_write_template(&run->load->keyspace, key);
    while (run_next(run, key)) {
        MDB_val name = {.mv_size = KEY_SIZE, .mv_data = key};
        MDB_val value;
        int status = mdb_txn_renew(session->read);
        if (status == 0)
            status = mdb_cursor_renew(session->read, session->cursor);
        if (status == 0)
            status = mdb_cursor_get(session->cursor, &name, &value, MDB_SET_RANGE);
        for (int i = 0; i < SCAN_COUNT && status == 0; i++) {
            run->touched += ((const uint8_t *)name.mv_data)[name.mv_size - 1];
            run_note_value(run, value.mv_data, value.mv_size);
            status = mdb_cursor_get(session->cursor, &name, &value, MDB_NEXT);
        }
        if (status != MDB_NOTFOUND && has_failed(status))
            run_fail(run, NAME, "scan");
        mdb_txn_reset(session->read);
    }
}

const struct peer peer_lmdb = {
    .name = NAME,
    .settings = "MDB_NOTLS, MDB_NORDAHEAD, and when not synced MDB_NOSYNC and MDB_WRITEMAP; read "
                "transactions are renewed, not begun",
    .open = store_open,
    .close = store_close,
    .session_open = session_open,
    .session_close = session_close,
    .fill = fill,
    .set = set,
    .get = get,
    .scan = scan,
};

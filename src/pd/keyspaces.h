/*
 * pd/keyspaces.h: the keyspaces of API V2: names and their ids. DEFAULT has id 0.
 *
 * They are made when the server starts and do not change while it runs: every function may be
 * called from any thread.
 */
#ifndef PD_KEYSPACES_H
#define PD_KEYSPACES_H

#include "pd/meta_store.h"

#define KEYSPACE_NAME_SIZE_MAX 64u
#define KEYSPACES_MAX 1024u

struct keyspace {
    uint32_t id;
    uint64_t created_ms; /* wall clock */
    char name[KEYSPACE_NAME_SIZE_MAX + 1];
};

struct keyspaces {
    size_t count;
    struct keyspace *all; /* all[i].id == i */
};

/* Reads them, and makes those of `names` (commas between; NULL: none) that are not there. On
 * failure a reason may be in ret_message. */
int keyspaces_open_blocking(struct meta_store *store, const char *names,
                            struct keyspaces **ret_keyspaces, struct engine_message *ret_message);
void keyspaces_free(struct keyspaces *keyspaces);

/* NULL: no such keyspace. */
const struct keyspace *keyspace_by_name(const struct keyspaces *keyspaces, kvs_slice name);
const struct keyspace *keyspace_by_id(const struct keyspaces *keyspaces, uint32_t id);

#endif

/* pd/keyspaces.c: see the header. */
#include "pd/keyspaces.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>

#define PREFIX "pd/keyspace/"
#define PREFIX_END "pd/keyspace0" /* '/' + 1 */
#define PREFIX_SIZE (sizeof(PREFIX) - 1)
#define VALUE_FORMAT 1u
#define VALUE_FIXED_SIZE 9u /* format, created_ms */

static bool name_is_valid(kvs_slice name)
{
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '_' && c != '-')
            return false;
    }
    return name.size > 0 && name.size <= KEYSPACE_NAME_SIZE_MAX;
}

static int add(struct keyspaces *keyspaces, kvs_slice name, uint64_t created_ms)
{
    if (keyspaces->count >= KEYSPACES_MAX)
        return KVS_ERR_INVALID_ARGUMENT;
    void *grown = mem_realloc(keyspaces->all, (keyspaces->count + 1) * sizeof *keyspaces->all);
    if (grown == NULL)
        return KVS_ERR_NO_MEMORY;
    keyspaces->all = grown;
    struct keyspace *keyspace = &keyspaces->all[keyspaces->count];
    *keyspace = (struct keyspace){.id = (uint32_t)keyspaces->count, .created_ms = created_ms};
    memcpy(keyspace->name, name.data, name.size);
    keyspaces->count++;
    return 0;
}

static int load_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct keyspaces *keyspaces = arg;
    uint8_t id[4];
    put_u32(id, htobe32((uint32_t)keyspaces->count));
    if (key.size != PREFIX_SIZE + 4 || memcmp(key.data + PREFIX_SIZE, id, 4) != 0 ||
        value.size < VALUE_FIXED_SIZE || value.data[0] != VALUE_FORMAT)
        return KVS_ERR_CORRUPTION;
    kvs_slice name = slice_make(value.data + VALUE_FIXED_SIZE, value.size - VALUE_FIXED_SIZE);
    return name_is_valid(name) ? add(keyspaces, name, get_u64(value.data + 1)) : KVS_ERR_CORRUPTION;
}

static int load(struct meta_store *store, struct keyspaces *keyspaces)
{
    const struct engine_range range = {
        .family = META_FAMILY,
        .start = slice_of_string(PREFIX),
        .end = slice_of_string(PREFIX_END),
    };
    struct engine_view view;
    int error = engine_view_begin(store->engine, NULL, true, &view);
    if (error != 0)
        return error;
    error = engine_scan(&view, &range, load_each, keyspaces);
    engine_view_end(&view);
    return error;
}

/* Adds it, unless it is there, and has it written. */
static int make(struct keyspaces *keyspaces, kvs_slice name, struct meta_batch *batch)
{
    if (keyspace_by_name(keyspaces, name) != NULL)
        return 0;
    uint64_t now_ms = clock_wall_ms();
    int error = add(keyspaces, name, now_ms);
    if (error != 0)
        return error;
    uint8_t key[PREFIX_SIZE + 4];
    uint8_t value[VALUE_FIXED_SIZE + KEYSPACE_NAME_SIZE_MAX];
    memcpy(key, PREFIX, PREFIX_SIZE);
    put_u32(key + PREFIX_SIZE, htobe32((uint32_t)(keyspaces->count - 1)));
    value[0] = VALUE_FORMAT;
    put_u64(value + 1, now_ms);
    memcpy(value + VALUE_FIXED_SIZE, name.data, name.size);
    meta_put(batch, slice_make(key, sizeof key), slice_make(value, VALUE_FIXED_SIZE + name.size));
    return 0;
}

static int make_all(struct keyspaces *keyspaces, const char *names, struct meta_batch *batch,
                    struct engine_message *ret_message)
{
    int error = make(keyspaces, slice_of_string("DEFAULT"), batch);
    while (error == 0 && names != NULL && names[0] != '\0') {
        kvs_slice name = slice_make(names, strcspn(names, ","));
        if (!name_is_valid(name)) {
            snprintf(ret_message->text, sizeof ret_message->text,
                     "\"%.*s\" is no name of a keyspace: 1 to %u letters, digits, - and _",
                     (int)(name.size < 80 ? name.size : 80), names, KEYSPACE_NAME_SIZE_MAX);
            return KVS_ERR_INVALID_ARGUMENT;
        }
        error = make(keyspaces, name, batch);
        names += name.size + (names[name.size] == ',');
    }
    return error;
}

int keyspaces_open_blocking(struct meta_store *store, const char *names,
                            struct keyspaces **ret_keyspaces, struct engine_message *ret_message)
{
    struct keyspaces *keyspaces = mem_zalloc(sizeof *keyspaces);
    if (keyspaces == NULL)
        return KVS_ERR_NO_MEMORY;
    struct meta_batch batch = {.count = 0};
    int error = load(store, keyspaces);
    if (error == 0)
        error = make_all(keyspaces, names, &batch, ret_message);
    if (error == 0)
        error = meta_write_blocking(store, &batch);
    meta_batch_deinit(&batch);
    if (error != 0)
        keyspaces_free(keyspaces);
    else
        *ret_keyspaces = keyspaces;
    return error;
}

void keyspaces_free(struct keyspaces *keyspaces)
{
    if (keyspaces == NULL)
        return;
    mem_free(keyspaces->all);
    mem_free(keyspaces);
}

const struct keyspace *keyspace_by_name(const struct keyspaces *keyspaces, kvs_slice name)
{
    for (size_t i = 0; i < keyspaces->count; i++) {
        if (slice_equal(name, slice_of_string(keyspaces->all[i].name)))
            return &keyspaces->all[i];
    }
    return NULL;
}

const struct keyspace *keyspace_by_id(const struct keyspaces *keyspaces, uint32_t id)
{
    return id < keyspaces->count ? &keyspaces->all[id] : NULL;
}

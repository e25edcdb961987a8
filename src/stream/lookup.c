/*
 * stream/lookup.c: streams, runs and events in a view of the engine.
 *
 * What a scan gives lives as long as its callback; so runs are copied out (they are small), and
 * events are looked at inside the callback that has their block.
 */
#include "stream/streams.h"

#define SCAN_ENOUGH 3 /* above the codes of others; never leaves this file */

/* --- one key ---------------------------------------------------------------------------------- */

struct scan_one {
    int (*each)(void *arg, kvs_slice key, kvs_slice value);
    void *arg;
    bool found;
    int result;
};

static int scan_one_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct scan_one *one = arg;
    one->found = true;
    one->result = one->each(one->arg, key, value);
    return SCAN_ENOUGH;
}

/* Calls each for the last key of the range; what it returns, or NOT_FOUND, or an error. */
static int scan_last(struct engine_view *view, unsigned family, kvs_slice start, kvs_slice end,
                     int (*each)(void *, kvs_slice, kvs_slice), void *arg)
{
    struct engine_range range = {
        .family = (uint8_t)family, .reverse = true, .start = start, .end = end};
    struct scan_one one = {.each = each, .arg = arg};
    int error = engine_scan(view, &range, scan_one_each, &one);
    if (error != 0 && error != SCAN_ENOUGH)
        return error;
    return one.found ? one.result : KVS_ERR_NOT_FOUND;
}

/* --- runs ------------------------------------------------------------------------------------- */

struct run_found {
    struct run *run;
    struct buf *copy;
};

static int run_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct run_found *found = arg;
    int error = run_parse(key, value, found->run);
    if (error != 0)
        return error;
    kvs_slice deltas = found->run->deltas;
    found->run->deltas = (kvs_slice){0};
    if (found->copy == NULL || deltas.size == 0)
        return 0;
    buf_clear(found->copy);
    error = buf_append_slice(found->copy, deltas);
    if (error == 0)
        found->run->deltas = buf_slice(found->copy);
    return error;
}

int lookup_run(struct engine_view *view, uint64_t stream_id, int64_t number, struct buf *copy,
               struct run *ret_run)
{
    struct index_key start = index_key_make(stream_id, 0);
    /* As an unsigned number: INT64_MAX has a next one. */
    struct index_key end;
    put_u64_be(end.bytes, stream_id);
    put_u64_be(end.bytes + 8, (uint64_t)number + 1);
    struct run_found found = {.run = ret_run, .copy = copy};
    return scan_last(view, STREAM_FAMILY_INDEX, slice_make(start.bytes, sizeof start.bytes),
                     slice_make(end.bytes, sizeof end.bytes), run_each, &found);
}

int lookup_position(struct engine_view *view, uint64_t stream_id, int64_t number,
                    int64_t *ret_position)
{
    struct buf copy = BUF_INIT;
    struct run run;
    int error = lookup_run(view, stream_id, number, &copy, &run);
    if (error == 0 && number > run_last_number(&run))
        error = KVS_ERR_NOT_FOUND;
    if (error == 0 && !run.listed) {
        *ret_position = run.first_position + (number - run.first_number);
    } else if (error == 0) {
        struct run_walk walk;
        run_walk_begin(&walk, &run);
        while (error == 0 && walk.at < (uint64_t)(number - run.first_number))
            error = run_walk_next(&walk) ? 0 : KVS_ERR_CORRUPTION;
        if (error == 0)
            *ret_position = walk.position;
    }
    buf_deinit(&copy);
    return error;
}

/* --- streams ---------------------------------------------------------------------------------- */

int lookup_stream_run(struct engine_view *view, kvs_slice name,
                      struct stream_settings *ret_settings, struct buf *copy, struct run *ret_run)
{
    kvs_slice record;
    int error = engine_get(view, STREAM_FAMILY_STREAMS, name, &record);
    settings_init(ret_settings);
    *ret_run = (struct run){0};
    if (error == KVS_ERR_NOT_FOUND)
        return 0;
    if (error == 0)
        error = settings_parse(record, ret_settings);
    if (error != 0 || ret_settings->id == 0)
        return error;
    error = lookup_run(view, ret_settings->id, INT64_MAX, copy, ret_run);
    return error == KVS_ERR_NOT_FOUND ? 0 : error;
}

int lookup_stream(struct engine_view *view, kvs_slice name, struct stream_settings *ret_settings,
                  int64_t *ret_last)
{
    struct run run;
    int error = lookup_stream_run(view, name, ret_settings, NULL, &run);
    *ret_last = error == 0 && run.count > 0 ? run_last_number(&run) : -1;
    return error;
}

int lookup_may_read(struct streams *streams, struct engine_view *view,
                    const struct stream_user *user, kvs_slice name,
                    const struct stream_settings *settings, bool *ret_may)
{
    *ret_may = true;
    if (user == NULL || streams->insecure || stream_user_is_admin(user))
        return 0;
    struct stream_settings of_base;
    enum stream_right right = STREAM_RIGHT_READ;
    if (name_is_metastream(name)) {
        int64_t last;
        name = name_of_metastream(name);
        right = STREAM_RIGHT_META_READ;
        int error = lookup_stream(view, name, &of_base, &last);
        if (error != 0)
            return error;
        settings = &of_base;
    }
    pthread_rwlock_rdlock(&streams->acls_lock);
    *ret_may = access_is_granted(user, name, settings->acl, &streams->acls, right);
    pthread_rwlock_unlock(&streams->acls_lock);
    return 0;
}

/* --- events ----------------------------------------------------------------------------------- */

struct event_found {
    int64_t position;
    lookup_fn *each;
    void *arg;
};

static int event_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct event_found *found = arg;
    struct block block;
    int error = block_parse(key, value, &block);
    if (error != 0)
        return error;
    uint32_t i = block_seek(&block, found->position);
    if (i == block.count || block_position(&block, i) != found->position)
        return KVS_ERR_NOT_FOUND;
    struct stream_record record;
    uint64_t stream_id;
    error = block_event(&block, i, &record, &stream_id);
    return error != 0 ? error : found->each(found->arg, &record, stream_id);
}

int lookup_event_at(struct engine_view *view, int64_t position, lookup_fn *each, void *arg)
{
    struct log_key end = log_key_make(position + 1);
    struct event_found found = {.position = position, .each = each, .arg = arg};
    return scan_last(view, STREAM_FAMILY_LOG, (kvs_slice){0},
                     slice_make(end.bytes, sizeof end.bytes), event_each, &found);
}

struct last_block {
    struct log_key *key;
    int64_t *last_position;
};

static int last_block_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct last_block *last = arg;
    struct block block;
    int error = block_parse(key, value, &block);
    if (error != 0)
        return error;
    memcpy(last->key->bytes, key.data, LOG_KEY_SIZE);
    *last->last_position = block_last_position(&block);
    return 0;
}

int lookup_last_block(struct engine_view *view, struct log_key *ret_key, int64_t *ret_last_position)
{
    struct last_block last = {.key = ret_key, .last_position = ret_last_position};
    return scan_last(view, STREAM_FAMILY_LOG, (kvs_slice){0}, (kvs_slice){0}, last_block_each,
                     &last);
}

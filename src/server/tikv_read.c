/*
 * server/tikv_read.c: raw reads.
 *
 * 1. The command is checked, and what to read is written down in a struct tikv_read.
 * 2. `fill` makes the answer's body: on the loop from the message's view, when all of it is in
 *    memory and it is not much;
 * 3. else from the beginning on the engine's pool, where it may block and take long, and the body
 *    is a rope, which leaves as it is.
 *
 * Failures: too many reads on the pool, or too much memory for their answers: ServerIsBusy. An
 * answer that would be too large is an error text: a shorter answer would look as if there were no
 * more keys.
 * Threads: the loop; `fill` also on the pool.
 */
#include "server/tikv_parts.h"

#include "base/clock.h"
#include "base/crc64.h"
#include "proto/protobuf.h"

#include <kvs/error.h>

/* What a loop answers by itself. */
#define LOOP_PAIRS_MAX 512u
#define LOOP_BYTES_MAX (256u * 1024)

struct key_range {
    kvs_slice start, end;
};

struct tikv_read {
    struct engine_read base;
    struct tikv_command *command;
    int (*fill)(struct tikv_read *read, struct engine_view *view);
    struct buf *body; /* the answer, on the loop */
    struct rope rope; /* ... and on the pool */
    struct tikv_long_read long_read;
    bool on_loop;

    uint8_t family;
    bool reverse;
    bool keys_only;
    uint32_t limit; /* of each range */
    size_t count;
    const kvs_slice *keys;
    struct key_range *ranges; /* start >= end: empty */

    uint64_t pairs; /* seen so far */
    uint64_t bytes;
    uint64_t checksum;
    uint32_t left; /* of the range's limit */
};

/* --- bodies -------------------------------------------------------------------------------------
 */

/* Fails also when a loop has done enough, or nobody could take the answer. */
static int body_room(struct tikv_read *read, size_t size, uint8_t **ret_room)
{
    if (!read->on_loop)
        return tikv_body_room(command_at(read->command)->service, &read->rope, size, ret_room);
    if (read->body->size + size > LOOP_BYTES_MAX && read->body->size > 0)
        return ENGINE_WOULD_BLOCK;
    int error = buf_reserve(read->body, size);
    if (error != 0)
        return error;
    *ret_room = read->body->data + read->body->size;
    read->body->size += size;
    return 0;
}

static int put_bytes(struct tikv_read *read, uint32_t number, kvs_slice bytes)
{
    uint8_t *to;
    if (bytes.size == 0)
        return 0;
    int error = body_room(read, protobuf_field_size(number, bytes.size), &to);
    if (error == 0)
        protobuf_put_raw(protobuf_put_head(to, number, bytes.size), bytes);
    return error;
}

static int put_number(struct tikv_read *read, uint32_t number, uint64_t value)
{
    uint8_t *to;
    if (value == 0)
        return 0;
    int error = body_room(read, protobuf_number_size(number, value), &to);
    if (error == 0)
        protobuf_put_number(to, number, value);
    return error;
}

/* A KvPair: field 2 of all answers that have some. */
static int put_pair(struct tikv_read *read, kvs_slice key, kvs_slice value)
{
    size_t size = protobuf_field_size(2, key.size);
    if (value.size > 0)
        size += protobuf_field_size(3, value.size);
    uint8_t *to;
    int error = body_room(read, protobuf_field_size(2, size), &to);
    if (error != 0)
        return error;
    to = protobuf_put_head(to, 2, size);
    to = protobuf_put_raw(protobuf_put_head(to, 2, key.size), key);
    if (value.size > 0)
        protobuf_put_raw(protobuf_put_head(to, 3, value.size), value);
    return 0;
}

/* --- running them -------------------------------------------------------------------------------
 */

/* On a pool thread. */
static int on_pool(struct engine_read *base, struct engine_view *view)
{
    struct tikv_read *read = CONTAINER_OF(base, struct tikv_read, base);
    return read->fill(read, view);
}

static void on_pool_done(struct task *task)
{
    struct tikv_read *read = CONTAINER_OF(task, struct tikv_read, base.op.task);
    struct tikv_command *command = read->command;
    tikv_reads_end(&command_at(command)->reads, &read->long_read);
    if (read->base.op.error != 0)
        rope_deinit(&read->rope); /* the read ends with its command */
    if (read->base.op.error == 0)
        tikv_answer_rope(command, &read->rope);
    else
        tikv_answer_read_error(command, read->base.op.error);
}

static void read_reset(struct tikv_read *read, bool on_loop)
{
    read->on_loop = on_loop;
    read->pairs = read->bytes = read->checksum = 0;
}

static void start_on_pool(struct tikv_long_read *long_read)
{
    struct tikv_read *read = CONTAINER_OF(long_read, struct tikv_read, long_read);
    struct tikv_service_loop *at = command_at(read->command);
    read_reset(read, false);
    read->base.op.task.run = on_pool_done;
    read->base.op.loop = at->loop;
    read->base.run = on_pool;
    engine_read(at->service->engine, &read->base);
}

static void read_long(struct tikv_read *read)
{
    struct tikv_reads *reads = &command_at(read->command)->reads;
    if (!tikv_reads_begin(reads, &read->long_read, command_connection(read->command),
                          start_on_pool))
        tikv_answer_busy(read->command, "too many long reads are under way");
}

static void start(struct tikv_read *read)
{
    struct tikv_command *command = read->command;
    struct buf *scratch = &command_at(command)->scratch;
    struct engine_view *view = tikv_view(command->message);
    int error = ENGINE_WOULD_BLOCK;
    if (view != NULL) {
        buf_clear(scratch);
        read->body = scratch;
        read_reset(read, true);
        error = read->fill(read, view);
    }
    if (error == 0)
        tikv_answer(command, buf_slice(scratch));
    else if (error == ENGINE_WOULD_BLOCK)
        read_long(read);
    else
        tikv_answer_read_error(command, error);
    if (scratch->capacity > LOOP_BYTES_MAX)
        buf_deinit(scratch);
}

/* Answers when there is no memory. */
static struct tikv_read *read_new(struct tikv_place *place,
                                  int (*fill)(struct tikv_read *, struct engine_view *))
{
    struct tikv_read *read = arena_zalloc(command_arena(place->command), sizeof *read);
    if (read == NULL) {
        tikv_fail_no_memory(place->command);
        return NULL;
    }
    read->command = place->command;
    read->family = place->family;
    read->fill = fill;
    return read;
}

/* --- single keys --------------------------------------------------------------------------------
 */

static bool is_key(kvs_slice key)
{
    return key.size > 0 && key.size <= KEY_SIZE_MAX; /* there are no others */
}

static int fill_get(struct tikv_read *read, struct engine_view *view)
{
    kvs_slice value;
    int error = is_key(read->keys[0]) ? engine_get(view, read->family, read->keys[0], &value)
                                      : KVS_ERR_NOT_FOUND;
    if (error == KVS_ERR_NOT_FOUND)
        return put_number(read, 4, 1);
    return error != 0 ? error : put_bytes(read, 3, value);
}

static int fill_ttl(struct tikv_read *read, struct engine_view *view)
{
    uint64_t ends_ms;
    int error = is_key(read->keys[0]) ? engine_expiry(view, read->family, read->keys[0], &ends_ms)
                                      : KVS_ERR_NOT_FOUND;
    if (error == KVS_ERR_NOT_FOUND)
        return put_number(read, 4, 1);
    if (error != 0 || ends_ms == 0)
        return error;
    uint64_t now_ms = clock_wall_ms();
    uint64_t left_ms = ends_ms > now_ms ? ends_ms - now_ms : 1;
    return put_number(read, 3, (left_ms + 999) / 1000);
}

static void start_key(struct tikv_command *command, const Kvrpcpb__Context *context,
                      const char *family, ProtobufCBinaryData bytes,
                      int (*fill)(struct tikv_read *, struct engine_view *))
{
    struct tikv_place place;
    kvs_slice key = bytes_slice(bytes);
    if (!tikv_place_begin(&place, command, context, family) || !tikv_place_key(&place, key) ||
        !tikv_place_region(&place) || !tikv_place_has(&place, key))
        return;
    struct tikv_read *read = read_new(&place, fill);
    if (read == NULL)
        return;
    kvs_slice *keys = arena_alloc(command_arena(command), sizeof *keys);
    if (keys == NULL) {
        tikv_fail_no_memory(command);
        return;
    }
    keys[0] = key;
    read->keys = keys;
    read->count = 1;
    start(read);
}

void tikv_raw_get(struct tikv_command *command)
{
    const Kvrpcpb__RawGetRequest *request = (const void *)command->request;
    start_key(command, request->context, request->cf, request->key, fill_get);
}

void tikv_raw_get_key_ttl(struct tikv_command *command)
{
    const Kvrpcpb__RawGetKeyTTLRequest *request = (const void *)command->request;
    start_key(command, request->context, request->cf, request->key, fill_ttl);
}

/* --- several keys -------------------------------------------------------------------------------
 */

static int fill_batch_get(struct tikv_read *read, struct engine_view *view)
{
    if (read->on_loop && read->count > LOOP_PAIRS_MAX)
        return ENGINE_WOULD_BLOCK;
    for (size_t i = 0; i < read->count; i++) {
        kvs_slice value;
        int error = is_key(read->keys[i]) ? engine_get(view, read->family, read->keys[i], &value)
                                          : KVS_ERR_NOT_FOUND;
        if (error == 0)
            error = put_pair(read, read->keys[i], value);
        if (error != 0 && error != KVS_ERR_NOT_FOUND)
            return error;
    }
    return 0;
}

void tikv_raw_batch_get(struct tikv_command *command)
{
    const Kvrpcpb__RawBatchGetRequest *request = (const void *)command->request;
    struct tikv_place place;
    if (!tikv_place_begin(&place, command, request->context, request->cf))
        return;
    kvs_slice *keys = arena_alloc(command_arena(command), request->n_keys * sizeof *keys);
    if (keys == NULL) {
        tikv_fail_no_memory(command);
        return;
    }
    for (size_t i = 0; i < request->n_keys; i++) {
        keys[i] = bytes_slice(request->keys[i]);
        if (!tikv_place_key(&place, keys[i]))
            return;
    }
    if (!tikv_place_region(&place))
        return;
    for (size_t i = 0; i < request->n_keys; i++) {
        if (!tikv_place_has(&place, keys[i]))
            return;
    }
    struct tikv_read *read = read_new(&place, fill_batch_get);
    if (read == NULL)
        return;
    read->keys = keys;
    read->count = request->n_keys;
    start(read);
}

/* --- ranges -------------------------------------------------------------------------------------
 */

#define SCAN_ENOUGH 2 /* what an each-function ends a scan with */

static int each_range(struct tikv_read *read, struct engine_view *view, engine_scan_fn *each)
{
    for (size_t i = 0; i < read->count; i++) {
        const struct key_range *range = &read->ranges[i];
        if (range->end.size > 0 && slice_compare(range->start, range->end) >= 0)
            continue;
        struct engine_range of_engine = {
            .family = read->family,
            .reverse = read->reverse,
            .keys_only = read->keys_only,
            .start = range->start,
            .end = range->end,
        };
        read->left = read->limit;
        if (read->left == 0)
            continue;
        int error = engine_scan(view, &of_engine, each, read);
        if (error != 0 && error != SCAN_ENOUGH)
            return error;
    }
    return 0;
}

static int scan_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct tikv_read *read = arg;
    if (read->on_loop && read->pairs >= LOOP_PAIRS_MAX)
        return ENGINE_WOULD_BLOCK;
    int error = put_pair(read, key, value);
    if (error != 0)
        return error;
    read->pairs++;
    return --read->left == 0 ? SCAN_ENOUGH : 0;
}

static int fill_scan(struct tikv_read *read, struct engine_view *view)
{
    return each_range(read, view, scan_each);
}

static int checksum_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct tikv_read *read = arg;
    read->pairs++;
    read->bytes += key.size + value.size;
    read->checksum ^= crc64(crc64(0, key), value);
    return 0;
}

/* Always long: it looks at everything. */
static int fill_checksum(struct tikv_read *read, struct engine_view *view)
{
    if (read->on_loop)
        return ENGINE_WOULD_BLOCK;
    int error = each_range(read, view, checksum_each);
    if (error == 0)
        error = put_number(read, 3, read->checksum);
    if (error == 0)
        error = put_number(read, 4, read->pairs);
    return error != 0 ? error : put_number(read, 5, read->bytes);
}

/* `from` is where the scan begins, `to` where it ends, as the client says it. */
static bool take_range(struct tikv_place *place, kvs_slice from, kvs_slice to, bool reverse,
                       struct key_range *ret_range)
{
    if (!reverse)
        return tikv_place_has(place, from) &&
               tikv_place_clip(place, from, to, &ret_range->start, &ret_range->end);
    return (from.size == 0 || tikv_place_has_end(place, from)) &&
           tikv_place_clip(place, to, from, &ret_range->start, &ret_range->end);
}

/* Checks all ranges before the region, as TiKV does; NULL: answered. */
static struct tikv_read *ranges_read(struct tikv_place *place,
                                     const Kvrpcpb__KeyRange *const *ranges, size_t count,
                                     bool reverse,
                                     int (*fill)(struct tikv_read *, struct engine_view *))
{
    for (size_t i = 0; i < count; i++) {
        kvs_slice from = bytes_slice(ranges[i]->start_key);
        kvs_slice to = bytes_slice(ranges[i]->end_key);
        if (!tikv_place_range(place, reverse ? to : from, reverse ? from : to))
            return NULL;
    }
    if (!tikv_place_region(place))
        return NULL;
    struct tikv_read *read = read_new(place, fill);
    if (read == NULL)
        return NULL;
    read->ranges = arena_alloc(command_arena(place->command), count * sizeof *read->ranges);
    if (read->ranges == NULL) {
        tikv_fail_no_memory(place->command);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        if (!take_range(place, bytes_slice(ranges[i]->start_key), bytes_slice(ranges[i]->end_key),
                        reverse, &read->ranges[i]))
            return NULL;
    }
    read->count = count;
    read->reverse = reverse;
    read->limit = UINT32_MAX;
    return read;
}

void tikv_raw_scan(struct tikv_command *command)
{
    const Kvrpcpb__RawScanRequest *request = (const void *)command->request;
    struct tikv_place place;
    Kvrpcpb__KeyRange range = KVRPCPB__KEY_RANGE__INIT;
    const Kvrpcpb__KeyRange *ranges[] = {&range};
    range.start_key = request->start_key;
    range.end_key = request->end_key;
    if (!tikv_place_begin(&place, command, request->context, request->cf))
        return;
    struct tikv_read *read = ranges_read(&place, ranges, 1, request->reverse, fill_scan);
    if (read == NULL)
        return;
    read->limit = request->limit;
    read->keys_only = request->key_only;
    start(read);
}

/* As in TiKV: of a list, a range without an end goes up to the start of the next, and none is
 * empty. False: answered. */
static bool chain_ranges(struct tikv_read *read, const Kvrpcpb__RawBatchScanRequest *request)
{
    for (size_t i = 0; i < read->count; i++) {
        kvs_slice from = bytes_slice(request->ranges[i]->start_key);
        kvs_slice to = bytes_slice(request->ranges[i]->end_key);
        if (to.size == 0 && i + 1 < read->count) {
            to = bytes_slice(request->ranges[i + 1]->start_key);
            if (to.size > 0)
                *(read->reverse ? &read->ranges[i].start : &read->ranges[i].end) = to;
        }
        int order = slice_compare(from, to);
        if (to.size > 0 && (read->reverse ? order <= 0 : order >= 0)) {
            tikv_answer_error(read->command, "invalid key ranges: the one at %zu has no keys", i);
            return false;
        }
    }
    return true;
}

void tikv_raw_batch_scan(struct tikv_command *command)
{
    const Kvrpcpb__RawBatchScanRequest *request = (const void *)command->request;
    struct tikv_place place;
    if (!tikv_place_begin(&place, command, request->context, request->cf))
        return;
    struct tikv_read *read = ranges_read(&place, (const Kvrpcpb__KeyRange *const *)request->ranges,
                                         request->n_ranges, request->reverse, fill_scan);
    if (read == NULL || !chain_ranges(read, request))
        return;
    read->limit = request->each_limit;
    read->keys_only = request->key_only;
    start(read);
}

void tikv_raw_checksum(struct tikv_command *command)
{
    const Kvrpcpb__RawChecksumRequest *request = (const void *)command->request;
    struct tikv_place place;
    if (!tikv_place_begin(&place, command, request->context, NULL))
        return;
    if (request->algorithm != KVRPCPB__CHECKSUM_ALGORITHM__Crc64_Xor) {
        tikv_answer_error(command, "unknown checksum algorithm %d", (int)request->algorithm);
        return;
    }
    struct tikv_read *read = ranges_read(&place, (const Kvrpcpb__KeyRange *const *)request->ranges,
                                         request->n_ranges, false, fill_checksum);
    if (read != NULL)
        start(read);
}

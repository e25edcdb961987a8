/*
 * What event streams keep in an engine, and what clients give them to understand: the first byte
 * chooses one of block, run, stream record, metadata, pattern. What is parsed must lie in what was
 * given.
 */
#include "base/mem.h"
#include "fuzz/target.h"
#include "stream/block.h"
#include "stream/pattern.h"
#include "stream/settings.h"

#include <stdlib.h>

static void within(kvs_slice inner, kvs_slice outer)
{
    require(inner.size == 0 || (inner.data >= outer.data && inner.size <= outer.size &&
                                inner.data + inner.size <= outer.data + outer.size));
}

static void try_block(kvs_slice bytes)
{
    static const uint8_t key[LOG_KEY_SIZE] = {0, 0, 0, 0, 0, 0, 0, 9};
    struct block block;
    if (block_parse(slice_make(key, sizeof key), bytes, &block) != 0)
        return;
    for (uint32_t i = 0; i < block.count; i++) {
        struct stream_record record;
        uint64_t stream_id;
        block_prefetch(&block, i);
        if (block_event(&block, i, &record, &stream_id) != 0)
            continue;
        within(record.stream, bytes);
        within(record.type, bytes);
        within(record.data, bytes);
        within(record.metadata, bytes);
    }
    require(block_seek(&block, INT64_MAX) <= block.count);
    require(block_seek(&block, 0) <= block.count);
}

/* A run that can be made longer is one event longer then, and can be read. */
static void try_tail(const struct run *run)
{
    struct run_tail tail;
    struct run_builder builder = {0};
    struct buf value = BUF_INIT;
    struct run grown;
    if (run_tail_load(&tail, run) != 0 || tail.count == 0 || tail.last_position == INT64_MAX)
        return;
    int64_t number = run_last_number(run) + 1;
    require(run_tail_fits(&tail, number, tail.last_position + 1));
    require(!run_tail_fits(&tail, number + 1, tail.last_position + 1));
    require(run_tail_resume(&tail, &builder) == 0);
    require(run_add(&builder, tail.last_position + 1) == 0);
    require(run_encode(&builder, &value) == 0);
    struct index_key key = index_key_make(run->stream_id, run->first_number);
    if (run_parse(slice_make(key.bytes, INDEX_KEY_SIZE), buf_slice(&value), &grown) == 0)
        require(run_last_number(&grown) == number);
    else
        require(tail.last_position > INT64_MAX - 2 * (int64_t)RUN_TAIL_COUNT_MAX);
    buf_deinit(&builder.deltas);
    buf_deinit(&value);
}

static void try_run(kvs_slice bytes)
{
    struct run run;
    if (bytes.size < INDEX_KEY_SIZE ||
        run_parse(slice_make(bytes.data, INDEX_KEY_SIZE),
                  slice_make(bytes.data + INDEX_KEY_SIZE, bytes.size - INDEX_KEY_SIZE), &run) != 0)
        return;
    within(run.deltas, bytes);
    require(run_last_number(&run) >= run.first_number);
    try_tail(&run);
    struct run_walk walk;
    int64_t before = 0;
    run_walk_begin(&walk, &run);
    for (unsigned i = 0; i < 10000 && walk.at < run.count; i++) {
        require(walk.position > before);
        before = walk.position;
        if (!run_walk_next(&walk))
            return;
    }
}

static void ask_all(const struct stream_settings *settings)
{
    struct stream_user user = {.login = slice_make("joe", 3)};
    struct default_acls none = {0};
    for (unsigned right = 0; right < STREAM_RIGHTS; right++)
        (void)access_is_granted(&user, slice_make("x", 1), settings->acl, &none,
                                (enum stream_right)right);
}

static void try_settings(kvs_slice bytes)
{
    struct stream_settings settings;
    struct buf again = BUF_INIT;
    if (settings_parse(bytes, &settings) != 0)
        return;
    within(settings.acl, bytes);
    ask_all(&settings);
    require(settings_encode(&settings, &again) == 0);
    require(again.size == bytes.size);
    buf_deinit(&again);
}

static void try_metadata(kvs_slice bytes)
{
    struct stream_settings settings;
    struct buf acl = BUF_INIT;
    struct buf moved = BUF_INIT;
    struct buf record = BUF_INIT;
    settings_init(&settings);
    require(settings_of_json(bytes, &settings, &acl) == 0);
    ask_all(&settings);
    /* What is understood can be kept. */
    require(settings_encode(&settings, &record) == 0);
    require(settings_parse(buf_slice(&record), &settings) == 0);
    require(metadata_with_truncate_before(bytes, 17, &moved) == 0);
    require(settings_of_json(buf_slice(&moved), &settings, &acl) == 0);
    require(settings.truncate_before == 17);
    require(metadata_correlation_id(bytes, &moved) == 0);
    require(moved.size <= STREAM_NAME_SIZE_MAX);
    struct default_acls acls;
    require(default_acls_of_json(bytes, &acls) == 0);
    default_acls_deinit(&acls);
    buf_deinit(&acl);
    buf_deinit(&moved);
    buf_deinit(&record);
}

static void try_pattern(kvs_slice bytes)
{
    const uint8_t *end = bytes.size > 0 ? memchr(bytes.data, '\n', bytes.size) : NULL;
    size_t size = end != NULL ? (size_t)(end - bytes.data) : bytes.size;
    struct pattern *pattern;
    if (pattern_new(slice_make(bytes.data, size), &pattern) != 0)
        return;
    uint64_t steps = 0;
    kvs_slice text = slice_make(bytes.data + size, bytes.size - size);
    (void)pattern_matches(pattern, text, &steps);
    require(steps <= (text.size + 1) * 3 * PATTERN_STEPS_MAX);
    pattern_free(pattern);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const targets[])(kvs_slice) = {try_block, try_run, try_settings, try_metadata,
                                                 try_pattern};
    if (size == 0)
        return 0;
    /* A copy of the size, so that what reads behind it is seen. */
    uint8_t *copy = mem_copy(data + 1, size - 1);
    require(copy != NULL);
    targets[data[0] % 5](slice_make(copy, size - 1));
    mem_free(copy);
    return 0;
}

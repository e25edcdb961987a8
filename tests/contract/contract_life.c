/* tests/contract/contract_life.c: compaction, statistics, reopening, the directory. */
#include "base/mem.h"
#include "base/rand.h"
#include "contract/contract.h"
#include "test.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OK(call) assert_int_equal((call), 0)

static void reopen(struct fixture *fixture)
{
    OK(fixture_close(fixture));
    int error = fixture_open(fixture);
    if (error != 0)
        fail_msg("reopen: %s: %s", kvs_error_name(error), fixture->message.text);
}

#define MANY 2000

/* Sets key i to a value of `round`, for all i that are no multiple of `skip`, which are removed. */
static void write_round(struct fixture *fixture, unsigned round, unsigned skip)
{
    static kvs_mutation mutations[MANY];
    static char keys[MANY][TEXT_SIZE_MAX];
    static uint8_t values[MANY][150];
    for (unsigned i = 0; i < MANY; i++) {
        kvs_slice key = text_format(keys[i], "key %u", i);
        bytes_fill(values[i], sizeof values[i], (uint64_t)round * MANY + i);
        mutations[i] = i % skip == 0 ? mutation_remove(key)
                                     : mutation_set(key, slice_make(values[i], 50 + i % 100));
    }
    for (uint32_t i = 0; i < MANY; i += 200)
        OK(batch_wait(fixture, mutations + i, 200));
}

static void check_round(struct fixture *fixture, unsigned round, unsigned skip)
{
    struct engine_view view;
    OK(engine_view_begin(fixture->engine, NULL, true, &view));
    for (unsigned i = 0; i < MANY; i++) {
        char text[TEXT_SIZE_MAX];
        kvs_slice value;
        int error = engine_get(&view, 0, text_format(text, "key %u", i), &value);
        if (i % skip == 0) {
            assert_int_equal(error, KVS_ERR_NOT_FOUND);
            continue;
        }
        assert_int_equal(error, 0);
        uint8_t expected[150];
        bytes_fill(expected, sizeof expected, (uint64_t)round * MANY + i);
        assert_int_equal(value.size, 50 + i % 100);
        assert_memory_equal(value.data, expected, value.size);
    }
    uint64_t count;
    OK(engine_count(&view, &(struct engine_range){0}, &count));
    assert_int_equal(count, MANY - (MANY + skip - 1) / skip);
    engine_view_end(&view);
}

/* --- compaction -------------------------------------------------------------------------------*/

void contract_compact_keeps(struct fixture *fixture)
{
    OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL)); /* of nothing */
    for (unsigned round = 0; round < 4; round++) {
        write_round(fixture, round, 3 + round);
        OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
        check_round(fixture, round, 3 + round);
    }
    OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
    check_round(fixture, 3, 6);
}

void contract_compact_shrinks(struct fixture *fixture)
{
    for (unsigned round = 0; round < 10; round++)
        write_round(fixture, round, 3);
    OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
    check_round(fixture, 9, 3);
    struct engine_stats stats;
    engine_stats(fixture->engine, &stats);
    uint64_t live = stats.live_bytes;
    assert_true(live > 0);
    reopen(fixture);
    check_round(fixture, 9, 3);
    /* What is left is about what counts: at most as much again, and one segment begun. */
    uint64_t size = directory_size(fixture->directory);
    uint64_t written = 10ull * MANY * 2 / 3 * 100;
    assert_true(size < written / 2);

    const kvs_mutation all = mutation_remove_range(S(""), S(""));
    OK(batch_wait(fixture, &all, 1));
    OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
    OK(fixture_close(fixture));
    assert_true(directory_size(fixture->directory) < size);
    OK(fixture_open(fixture));
    assert_int_equal(count_all(fixture, 0), 0);
}

#define LOAD_ROUNDS 1000u /* beside each compaction */

struct load {
    struct fixture *fixture;
    _Atomic bool stop;
    _Atomic unsigned wrong;
    _Atomic unsigned rounds;
    _Atomic unsigned rounds_max; /* a compaction has all to do that was written in the one before */
};

static void *load_writer(void *arg)
{
    struct load *load = arg;
    for (unsigned i = 0; !atomic_load(&load->stop); i++) {
        char text[TEXT_SIZE_MAX];
        kvs_slice value = text_format(text, "the value with number %u", i);
        while (i >= atomic_load(&load->rounds_max) && !atomic_load(&load->stop))
            sched_yield();
        if (set_wait(load->fixture, S("busy"), value) != 0)
            atomic_fetch_add(&load->wrong, 1);
        struct buf seen;
        if (get_copy(load->fixture, 0, S("busy"), &seen) != 0 ||
            !slice_equal(buf_slice(&seen), value))
            atomic_fetch_add(&load->wrong, 1);
        buf_deinit(&seen);
        atomic_fetch_add(&load->rounds, 1);
    }
    return NULL;
}

void contract_compact_under_load(struct fixture *fixture)
{
    write_round(fixture, 1, 2);
    struct load load = {.fixture = fixture};
    pthread_t writer;
    OK(pthread_create(&writer, NULL, load_writer, &load));
    for (unsigned i = 0; i < 10 || atomic_load(&load.rounds) < 10; i++) {
        atomic_fetch_add(&load.rounds_max, LOAD_ROUNDS);
        OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
        if (i < 5)
            write_round(fixture, i, 3);
    }
    atomic_store(&load.stop, true);
    pthread_join(writer, NULL);
    assert_int_equal(atomic_load(&load.wrong), 0);
    OK(remove_wait(fixture, S("busy"), NULL));
    check_round(fixture, 4, 3);
}

/* --- statistics and sync ----------------------------------------------------------------------*/

void contract_stats(struct fixture *fixture)
{
    struct engine_stats stats;
    engine_stats(fixture->engine, &stats);
    assert_int_equal(stats.keys, 0);
    assert_int_equal(stats.writes, 0);
    assert_false(stats.failed);
    for (unsigned i = 0; i < 10; i++) {
        char text[TEXT_SIZE_MAX];
        OK(set_wait(fixture, text_format(text, "%u", i % 7), S("value")));
    }
    kvs_mutation other = mutation_set_in(2, S("k"), S("v"));
    OK(batch_wait(fixture, &other, 1));
    OK(remove_wait(fixture, S("3"), NULL));
    engine_stats(fixture->engine, &stats);
    if (fixture_can(fixture, ENGINE_CAP_ESTIMATES))
        assert_true(stats.keys > 0 && stats.keys <= 12);
    else
        assert_int_equal(stats.keys, 7);
    if (!fixture_can(fixture, ENGINE_CAP_ESTIMATES))
        assert_int_equal(stats.own_keys, 6); /* without that of family 2 */
    assert_int_equal(stats.writes, 12);
    assert_true(stats.groups > 0 && stats.groups <= 12);
    assert_true(stats.live_bytes >= 7 * 2);
    if (fixture_can(fixture, ENGINE_CAP_DURABLE)) {
        assert_true(stats.disk_bytes >= stats.live_bytes);
        assert_true(stats.syncs > 0 || fixture->options.sync != KVS_SYNC_ALWAYS);
        assert_true(stats.segments > 0);
    }
}

void contract_sync(struct fixture *fixture)
{
    OK(control_wait(fixture, ENGINE_CONTROL_SYNC, NULL));
    OK(set_wait(fixture, S("k"), S("v")));
    OK(control_wait(fixture, ENGINE_CONTROL_SYNC, NULL));
    check_value(fixture, "k", "v");
    if (!fixture_can(fixture, ENGINE_CAP_DURABLE))
        return;
    /* The other policies acknowledge and keep, too. */
    for (enum kvs_sync policy = KVS_SYNC_INTERVAL; policy <= KVS_SYNC_NEVER; policy++) {
        fixture->options.sync = policy;
        fixture->options.sync_interval_ms = 10;
        reopen(fixture);
        check_value(fixture, "k", "v");
        write_round(fixture, policy, 3);
        OK(control_wait(fixture, ENGINE_CONTROL_SYNC, NULL));
        OK(remove_wait(fixture, S("k"), NULL));
        check_round(fixture, policy, 3);
        OK(set_wait(fixture, S("k"), S("v")));
    }
    reopen(fixture);
    check_value(fixture, "k", "v");
}

/* --- reopening --------------------------------------------------------------------------------*/

void contract_reopen(struct fixture *fixture)
{
    reopen(fixture);
    assert_int_equal(count_all(fixture, 0), 0);
    write_round(fixture, 1, 3);
    write_round(fixture, 2, 5);
    kvs_mutation mutations[ENGINE_FAMILY_COUNT];
    char texts[ENGINE_FAMILY_COUNT][TEXT_SIZE_MAX];
    for (unsigned i = 1; i < ENGINE_FAMILY_COUNT; i++)
        mutations[i] = mutation_set_in(i, S("\0binary\xff"), text_format(texts[i], "%u", i));
    OK(batch_wait(fixture, mutations + 1, ENGINE_FAMILY_COUNT - 1));
    size_t size = 3000000;
    uint8_t *bytes = mem_alloc(size);
    bytes_fill(bytes, size, 3);
    kvs_mutation large = mutation_set_in(2, S("large"), slice_make(bytes, size));
    OK(batch_wait(fixture, &large, 1));
    kvs_mutation empty = mutation_set_in(2, S("empty"), S(""));
    OK(batch_wait(fixture, &empty, 1));
    for (unsigned round = 0; round < 3; round++) {
        reopen(fixture);
        check_round(fixture, 2, 5);
        struct engine_view view;
        OK(engine_view_begin(fixture->engine, NULL, true, &view));
        for (unsigned i = 1; i < ENGINE_FAMILY_COUNT; i++)
            check_in_view(&view, i, S("\0binary\xff"), texts[i]);
        check_in_view(&view, 2, S("empty"), "");
        kvs_slice value;
        OK(engine_get(&view, 2, S("large"), &value));
        assert_true(slice_equal(value, slice_make(bytes, size)));
        engine_view_end(&view);
    }
    mem_free(bytes);
}

void contract_reopen_removed(struct fixture *fixture)
{
    write_round(fixture, 1, 3);
    const kvs_mutation all = mutation_remove_range(S(""), S(""));
    OK(batch_wait(fixture, &all, 1));
    OK(set_wait(fixture, S("key 7"), S("after the range")));
    OK(set_wait(fixture, S("key 8"), S("x")));
    OK(remove_wait(fixture, S("key 8"), NULL));
    for (unsigned round = 0; round < 4; round++) {
        reopen(fixture);
        assert_int_equal(count_all(fixture, 0), 1);
        check_value(fixture, "key 7", "after the range");
        check_value(fixture, "key 8", NULL);
        /* Compaction must not lose the record of a removal before the records that it removes. */
        if (round % 2 == 1)
            OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
    }
}

void contract_reopen_ttl(struct fixture *fixture)
{
    kvs_mutation mutations[] = {mutation_set(S("long"), S("v")), mutation_set(S("short"), S("v"))};
    mutations[0].ttl_ms = 3600 * 1000;
    mutations[1].ttl_ms = 1;
    OK(set_wait(fixture, S("short"), S("an older value must not come back")));
    OK(batch_wait(fixture, mutations, 2));
    usleep(5000);
    for (unsigned round = 0; round < 3; round++) {
        reopen(fixture);
        check_value(fixture, "long", "v");
        check_value(fixture, "short", NULL);
        assert_int_equal(count_all(fixture, 0), 1);
        OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
    }
}

void contract_reopen_often(struct fixture *fixture)
{
    for (unsigned round = 0; round < 12; round++) {
        write_round(fixture, round, 3 + round);
        if (round % 3 == 1)
            OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
        reopen(fixture);
        check_round(fixture, round, 3 + round);
    }
}

/* --- the directory ----------------------------------------------------------------------------*/

void contract_must_exist(struct fixture *fixture)
{
    OK(set_wait(fixture, S("k"), S("v")));
    OK(fixture_close(fixture));
    fixture->options.must_exist = true;
    OK(fixture_open(fixture));
    check_value(fixture, "k", "v");
    struct engine_options options = fixture->options;
    char path[TEXT_SIZE_MAX];
    text_format(path, "%.64s/empty", fixture->root);
    OK(mkdir(path, 0755));
    options.directory = path;
    struct engine *engine;
    struct engine_message message = {{0}};
    assert_int_not_equal(fixture->kind->open(&options, &engine, &message), 0);
    assert_string_not_equal(message.text, "");
    text_format(path, "%.64s/missing", fixture->root);
    assert_int_not_equal(fixture->kind->open(&options, &engine, &message), 0);
}

void contract_locked(struct fixture *fixture)
{
    struct engine *engine;
    struct engine_message message = {{0}};
    assert_int_equal(fixture->kind->open(&fixture->options, &engine, &message), KVS_ERR_LOCKED);
    assert_string_not_equal(message.text, "");
    OK(set_wait(fixture, S("k"), S("v")));
    reopen(fixture);
    check_value(fixture, "k", "v");
}

static void write_marker(struct fixture *fixture, const char *text)
{
    char path[TEXT_SIZE_MAX];
    text_format(path, "%.64s/KVS", fixture->directory);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

void contract_wrong_engine(struct fixture *fixture)
{
    OK(fixture_close(fixture));
    write_marker(fixture, "engine: another\nformat: 1\n");
    assert_int_equal(fixture_open(fixture), KVS_ERR_WRONG_ENGINE);
    assert_string_not_equal(fixture->message.text, "");
    fixture->engine = NULL;
}

void contract_probe(struct fixture *fixture)
{
    char name[32] = "x";
    OK(engine_directory_probe_blocking(fixture->root, name));
    assert_string_equal(name, "");
    OK(engine_directory_probe_blocking("/nonexistent/directory", name));
    assert_string_equal(name, "");
    OK(engine_directory_probe_blocking(fixture->directory, name));
    assert_string_equal(name, fixture->kind->directory);
    assert_string_equal(name, fixture->engine->methods->name);
    OK(fixture_close(fixture));
    static const char *damaged[] = {"",
                                    "engine",
                                    "engine: ",
                                    "engine: \n",
                                    "engine: x",
                                    "engine: a name that is longer than thirty-one bytes\n",
                                    "something else\n",
                                    "engine: kvs\n",
                                    "engine: kvs\nformat: \n",
                                    "engine: kvs\nformat: 1",
                                    "engine: kvs\nformat: one\n"};
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        write_marker(fixture, damaged[i]);
        assert_int_equal(engine_directory_probe_blocking(fixture->directory, name),
                         KVS_ERR_CORRUPTION);
    }
    char newer[TEXT_SIZE_MAX];
    text_format(newer, "engine: %.32s\nformat: 2\n", fixture->kind->directory);
    write_marker(fixture, newer);
    assert_int_equal(engine_directory_probe_blocking(fixture->directory, name),
                     KVS_ERR_UNSUPPORTED);
    assert_int_equal(fixture_open(fixture), KVS_ERR_UNSUPPORTED);
    assert_non_null(strstr(fixture->message.text, "newer"));
    fixture->engine = NULL;
    write_marker(fixture, "engine: some-other\nformat: 1\n");
    OK(engine_directory_probe_blocking(fixture->directory, name));
    assert_string_equal(name, "some-other");
}

void contract_checkpoint(struct fixture *fixture)
{
    write_round(fixture, 1, 4);
    char path[TEXT_SIZE_MAX];
    text_format(path, "%.64s/copy", fixture->root);
    OK(control_wait(fixture, ENGINE_CONTROL_CHECKPOINT, path));
    assert_int_not_equal(control_wait(fixture, ENGINE_CONTROL_CHECKPOINT, path), 0);
    write_round(fixture, 2, 5);
    check_round(fixture, 2, 5);
    OK(fixture_close(fixture));
    const char *directory = fixture->options.directory;
    fixture->options.directory = path;
    OK(fixture_open(fixture));
    check_round(fixture, 1, 4);
    write_round(fixture, 3, 6);
    reopen(fixture);
    check_round(fixture, 3, 6);
    OK(fixture_close(fixture));
    fixture->options.directory = directory;
    OK(fixture_open(fixture));
    check_round(fixture, 2, 5);
}

/* Two keys of one batch, with the same number each. */
static void twins_write(struct fixture *fixture, unsigned number)
{
    char text[TEXT_SIZE_MAX];
    kvs_slice value = text_format(text, "%u", number);
    const kvs_mutation mutations[] = {mutation_set(S("a"), value),
                                      mutation_set_in(1, S("z"), value)};
    OK(batch_wait(fixture, mutations, 2));
}

/* The number that the twins have in the copy; it is removed. */
static unsigned twins_of_copy(struct fixture *fixture, const char *path)
{
    struct engine_options options = fixture->options;
    struct engine_message message;
    struct fixture copy = {.kind = fixture->kind};
    options.directory = path;
    OK(fixture->kind->open(&options, &copy.engine, &message));
    struct buf a;
    struct buf z;
    OK(get_copy(&copy, 0, S("a"), &a));
    OK(get_copy(&copy, 1, S("z"), &z));
    assert_true(slice_equal(buf_slice(&a), buf_slice(&z)));
    OK(buf_append_u8(&a, 0));
    unsigned number = (unsigned)strtoul((const char *)a.data, NULL, 10);
    buf_deinit(&a);
    buf_deinit(&z);
    OK(engine_close_blocking(copy.engine));
    directory_remove(path);
    return number;
}

void contract_checkpoint_under_load(struct fixture *fixture)
{
    write_round(fixture, 1, 2);
    struct load load = {.fixture = fixture};
    pthread_t writer;
    OK(pthread_create(&writer, NULL, load_writer, &load));
    for (unsigned i = 0; i < 6; i++) {
        char path[TEXT_SIZE_MAX];
        text_format(path, "%.64s/copy", fixture->root);
        twins_write(fixture, i);
        OK(control_wait(fixture, ENGINE_CONTROL_CHECKPOINT, path));
        twins_write(fixture, 1000 + i);
        if (i % 2 == 1)
            OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
        assert_int_equal(twins_of_copy(fixture, path), i);
        write_round(fixture, i, 3);
    }
    atomic_store(&load.stop, true);
    pthread_join(writer, NULL);
    assert_int_equal(atomic_load(&load.wrong), 0);
    OK(remove_wait(fixture, S("busy"), NULL));
    OK(remove_wait(fixture, S("a"), NULL));
    check_round(fixture, 5, 3);
}

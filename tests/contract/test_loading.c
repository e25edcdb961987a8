/*
 * tests/contract/test_loading.c: a log store whose open has returned and whose index is not there
 * yet (engine/log/loading.h), held there by the gate of base/fault.h.
 *
 * What a store of random sets, removals and removed ranges has is known. At every step of loading
 * each key is asked for, and the answer is right. What waits for the index ends right when it is
 * there, or with the reason why it never will be.
 */
#include "base/bytes.h"
#include "base/fault.h"
#include "base/log.h"
#include "contract/loading_world.h"
#include "engine/log/check.h"
#include "engine/log/log_engine.h"
#include "test.h"
#include "unit/engine/hint_sums.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) assert_int_equal((call), 0)

/* --- gets ------------------------------------------------------------------------------------- */

/* The gate is shut: were one of them to wait for the index, it would wait for ever. */
static void test_gets_at_every_step(void **state)
{
    struct world world;
    world_begin(&world);
    unsigned steps = 0;
    for (bool loading = true; loading; steps++) {
        world_open(&world, steps);
        check_gets(&world, NULL);
        check_many(&world);
        loading = is_loading(&world);
        fault_gate_remove();
        check_all(&world);
        OK(fixture_close(&world.fixture));
    }
    print_message("# %u steps\n", steps);
    assert_true(steps >= 5); /* some hints, the merge, the version */
    world_end(&world);
}

/* What has expired meanwhile is not there. */
static void test_expired(void **state)
{
    struct world world;
    world_begin(&world);
    OK(fixture_open(&world.fixture));
    char text[KEY_TEXT];
    kvs_mutation mutation = mutation_set(key_of(text, 1), S("short"));
    mutation.ttl_ms = 1;
    OK(batch_wait(&world.fixture, &mutation, 1));
    world.numbers[0][1] = 0;
    struct buf value;
    while (get_copy(&world.fixture, 0, mutation.key, &value) == 0)
        buf_deinit(&value);
    OK(fixture_close(&world.fixture));
    world_open(&world, 0);
    check_gets(&world, NULL);
    assert_true(is_loading(&world));
    world_end(&world);
}

/* --- what waits ------------------------------------------------------------------------------- */

struct waiting_read {
    struct engine_read read;
    struct world *world;
    struct latch *latch;
    uint64_t count;
};

static int waiting_read_run(struct engine_read *read, struct engine_view *view)
{
    struct waiting_read *mine = CONTAINER_OF(read, struct waiting_read, read);
    struct engine_range range = {.family = 0};
    return engine_count(view, &range, &mine->count);
}

static void waiting_read_on_done(struct task *task)
{
    latch_down(CONTAINER_OF(task, struct waiting_read, read.op.task)->latch);
}

static void waiting_read_begin(struct waiting_read *waiting, struct world *world,
                               struct latch *latch, const struct engine_snapshot *snapshot,
                               bool again)
{
    *waiting = (struct waiting_read){.world = world, .latch = latch};
    waiting->read.run = waiting_read_run;
    waiting->read.again = again;
    waiting->read.snapshot = snapshot;
    waiting->read.op.task.run = waiting_read_on_done;
    waiting->read.op.loop = &world->fixture.loop;
    engine_read(world->fixture.engine, &waiting->read);
}

/* A view that may not block says so, and one that was begun before the index was there goes on to
 * see what there was, whatever is written then. */
static void test_views_and_snapshots(void **state)
{
    struct world world;
    world_begin(&world);
    world_open(&world, 0);
    struct engine_snapshot *snapshot;
    struct engine_view view;
    struct engine_view blocking;
    struct engine_view of_snapshot;
    struct engine_range range = {.family = 0};
    uint64_t ends_ms;
    uint64_t count;
    char text[KEY_TEXT];
    OK(engine_snapshot_take(world.fixture.engine, &snapshot));
    OK(engine_view_begin(world.fixture.engine, NULL, false, &view));
    OK(engine_view_begin(world.fixture.engine, NULL, true, &blocking));
    OK(engine_view_begin(world.fixture.engine, snapshot, true, &of_snapshot));
    assert_int_equal(engine_count(&view, &range, &count), ENGINE_WOULD_BLOCK);
    assert_int_equal(engine_expiry(&view, 0, key_of(text, 3), &ends_ms), ENGINE_WOULD_BLOCK);
    struct pairs pairs;
    assert_int_equal(pairs_scan(&view, &range, &pairs), ENGINE_WOULD_BLOCK);
    pairs_deinit(&pairs);
    engine_view_end(&view);
    check_gets(&world, snapshot);
    struct latch latch;
    latch_init(&latch, 3);
    struct waiting_read reads[3];
    for (unsigned i = 0; i < 3; i++)
        waiting_read_begin(&reads[i], &world, &latch, i == 1 ? snapshot : NULL, i == 2);
    fault_gate_remove();
    latch_wait(&latch);
    latch_deinit(&latch);
    for (unsigned i = 0; i < 3; i++) {
        OK(reads[i].read.op.error);
        assert_int_equal(reads[i].count, reads[0].count);
    }
    struct world before = {.fixture.engine = world.fixture.engine};
    memcpy(before.numbers, world.numbers, sizeof before.numbers);
    batches_random(&world, 50);
    OK(control_wait(&world.fixture, ENGINE_CONTROL_COMPACT, NULL));
    check_gets(&world, NULL);
    check_gets(&before, snapshot);
    for (unsigned key = 0; key < KEYS; key++) {
        get_in(&blocking, &before, 0, key);
        get_in(&of_snapshot, &before, 0, key);
    }
    OK(engine_count(&blocking, &range, &count));
    assert_int_equal(count, reads[0].count);
    engine_view_end(&blocking);
    engine_view_end(&of_snapshot);
    engine_snapshot_release(world.fixture.engine, snapshot);
    world_end(&world);
}

struct waiting_control {
    struct engine_control control;
    struct latch *latch;
};

static void waiting_control_on_done(struct task *task)
{
    latch_down(CONTAINER_OF(task, struct waiting_control, control.op.task)->latch);
}

static void waiting_control_begin(struct waiting_control *waiting, struct world *world,
                                  struct latch *latch, enum engine_control_kind what,
                                  const char *path)
{
    *waiting = (struct waiting_control){.latch = latch};
    waiting->control.kind = what;
    waiting->control.path = path;
    waiting->control.op.task.run = waiting_control_on_done;
    waiting->control.op.loop = &world->fixture.loop;
    engine_control(world->fixture.engine, &waiting->control);
}

/* Writes, a sync, a compaction and a backup that were asked for before. */
static void test_writes_and_controls(void **state)
{
    struct world world;
    world_begin(&world);
    world_open(&world, 0);
    char path[128];
    char texts[20][KEY_TEXT];
    uint8_t values[20][VALUE_SIZE_MAX];
    kvs_mutation mutations[20];
    struct pending_write writes[20];
    struct waiting_control controls[3];
    struct latch latch;
    latch_init(&latch, 23);
    snprintf(path, sizeof path, "%s/backup", world.fixture.root);
    for (unsigned i = 0; i < 20; i++) {
        unsigned number = ++world.next_number;
        mutations[i] = mutation_set(key_of(texts[i], i * 7), value_of(values[i], number));
        pending_write_init(&writes[i], &latch, &world.fixture.loop, &mutations[i], 1);
        engine_write(world.fixture.engine, &writes[i].write);
    }
    check_gets(&world, NULL); /* nobody sees them yet */
    for (unsigned i = 0; i < 20; i++)
        world.numbers[0][i * 7] = world.next_number - 19 + i;
    waiting_control_begin(&controls[0], &world, &latch, ENGINE_CONTROL_CHECKPOINT, path);
    waiting_control_begin(&controls[1], &world, &latch, ENGINE_CONTROL_COMPACT, NULL);
    waiting_control_begin(&controls[2], &world, &latch, ENGINE_CONTROL_SYNC, NULL);
    assert_true(is_loading(&world));
    fault_gate_remove();
    latch_wait(&latch);
    latch_deinit(&latch);
    for (unsigned i = 0; i < 20; i++)
        OK(writes[i].write.op.error);
    for (unsigned i = 0; i < 3; i++)
        OK(controls[i].control.op.error);
    check_all(&world);
    OK(fixture_close(&world.fixture));
    const char *own = world.fixture.options.directory;
    world.fixture.options.directory = path;
    world_open(&world, UINT64_MAX);
    check_all(&world);
    OK(fixture_close(&world.fixture));
    world.fixture.options.directory = own;
    world_end(&world);
}

/* Readers and a writer from the first moment on, while it is loaded step by step. */
struct reader {
    pthread_t thread;
    struct world *world;
    _Atomic bool *stop;
    unsigned wrong;
};

static void *reader_run(void *arg)
{
    struct reader *reader = arg;
    const struct world *world = reader->world;
    char text[KEY_TEXT];
    uint8_t bytes[VALUE_SIZE_MAX];
    for (unsigned n = 0; !atomic_load_explicit(reader->stop, memory_order_relaxed); n++) {
        unsigned key = n * 13 % KEYS;
        struct engine_view view;
        kvs_slice value;
        if (engine_view_begin(world->fixture.engine, NULL, n % 2 == 0, &view) != 0)
            continue;
        int error = engine_get(&view, 0, key_of(text, key), &value);
        unsigned number = world->numbers[0][key];
        if (error == 0)
            reader->wrong += number == 0 || !slice_equal(value, value_of(bytes, number));
        else if (error == KVS_ERR_NOT_FOUND)
            reader->wrong += number != 0;
        else
            reader->wrong += error != ENGINE_WOULD_BLOCK || view.may_block;
        engine_view_end(&view);
    }
    return NULL;
}

static void test_readers_and_writers(void **state)
{
    struct world world;
    world_begin(&world);
    for (unsigned n = 0; n < TIMES(10, 4, 3); n++) {
        _Atomic bool stop = false;
        struct reader readers[3];
        world_open(&world, 0);
        for (unsigned i = 0; i < 3; i++) {
            readers[i] = (struct reader){.world = &world, .stop = &stop};
            assert_int_equal(pthread_create(&readers[i].thread, NULL, reader_run, &readers[i]), 0);
        }
        struct latch latch;
        struct pending_write write;
        kvs_mutation mutation = mutation_set(S("not one of the readers'"), S("value"));
        latch_init(&latch, 1);
        pending_write_init(&write, &latch, &world.fixture.loop, &mutation, 1);
        engine_write(world.fixture.engine, &write.write);
        for (unsigned steps = 0; steps < 40 && is_loading(&world); steps++) {
            check_many(&world);
            fault_gate_set(1);
        }
        fault_gate_remove();
        latch_wait(&latch);
        latch_deinit(&latch);
        OK(write.write.op.error);
        OK(remove_wait(&world.fixture, mutation.key, NULL));
        atomic_store(&stop, true);
        for (unsigned i = 0; i < 3; i++) {
            pthread_join(readers[i].thread, NULL);
            assert_int_equal(readers[i].wrong, 0);
        }
        check_all(&world);
        OK(fixture_close(&world.fixture));
    }
    world_end(&world);
}

/* --- closing ---------------------------------------------------------------------------------- */

static void *close_run(void *arg)
{
    struct world *world = arg;
    return (void *)(intptr_t)fixture_close(&world->fixture);
}

/* It is given up, whatever step it is at, and nothing is lost. */
static void test_close_meanwhile(void **state)
{
    struct world world;
    world_begin(&world);
    for (unsigned steps = 0; steps < 12; steps++) {
        world_open(&world, steps);
        struct engine_snapshot *snapshot;
        OK(engine_snapshot_take(world.fixture.engine, &snapshot));
        check_many(&world);
        engine_snapshot_release(world.fixture.engine, snapshot);
        struct log_engine *log = CONTAINER_OF(world.fixture.engine, struct log_engine, engine);
        while (is_loading(&world) && !fault_gate_holds())
            sched_yield();
        bool is_held = is_loading(&world); /* otherwise the close may be over at any time */
        pthread_t thread;
        void *closed;
        assert_int_equal(pthread_create(&thread, NULL, close_run, &world), 0);
        while (is_held && !atomic_load(&log->closing))
            sched_yield();
        fault_gate_remove();
        pthread_join(thread, &closed);
        assert_int_equal((intptr_t)closed, 0);
    }
    OK(fixture_open(&world.fixture));
    check_all(&world);
    world_end(&world);
}

/* What a close leaves has its hint, too: nothing but the few records since is read. */
static void test_close_leaves_hints(void **state)
{
    struct world world;
    struct files files;
    world_begin(&world);
    OK(fixture_open(&world.fixture));
    batches_random(&world, 60);
    OK(fixture_close(&world.fixture));
    files_read(world.fixture.directory, &files);
    for (unsigned i = 0; i < files.count; i++) {
        const char *name = files.list[i].name;
        char hint[40];
        if (strstr(name, ".seg") == NULL ||
            files.list[i].size <= loading_kind.segment_size_bytes / 16)
            continue;
        snprintf(hint, sizeof hint, "%.10s.hint", name);
        assert_non_null(file_find(&files, hint));
    }
    files_free(&files);
    world_open(&world, UINT64_MAX);
    check_all(&world);
    world_end(&world);
}

/* --- hints ------------------------------------------------------------------------------------ */

static void say_nothing(struct log_check *check, const char *line)
{
    (void)check;
    (void)line;
}

static void assert_sound(struct world *world)
{
    struct log_check check = {.say = say_nothing};
    OK(log_check_blocking(&check, world->fixture.directory, NULL, world->fixture.pool,
                          &world->fixture.message));
    assert_int_equal(check.damages, 0);
}

static void hints_make_old(struct files *files)
{
    for (unsigned i = 0; i < files->count; i++) {
        struct file *file = &files->list[i];
        struct hint hint;
        struct buf bytes = BUF_INIT;
        if (!is_hint(file))
            continue;
        OK(buf_append(&bytes, file->bytes, file->size));
        const struct hint_binding binding = {get_u32(bytes.data + 8), get_u32(bytes.data + 12),
                                             get_u32(bytes.data + 16), get_u32(bytes.data + 20)};
        OK(hint_take(&bytes, &binding, &hint));
        OK(hint_old(&hint, &bytes));
        file->size = bytes.size;
        memcpy(file->bytes, bytes.data, bytes.size); /* it is shorter */
        buf_deinit(&bytes);
        hint_deinit(&hint);
    }
}

/* How many of these are old. One may be made anew, or go with its segment, at any time. */
static unsigned hints_old(const struct world *world, const struct files *files)
{
    unsigned count = 0;
    for (unsigned i = 0; i < files->count; i++) {
        char path[128];
        char magic[8] = "";
        snprintf(path, sizeof path, "%s/%s", world->fixture.directory, files->list[i].name);
        FILE *file = is_hint(&files->list[i]) ? fopen(path, "r") : NULL;
        if (file == NULL)
            continue;
        count += fread(magic, 1, sizeof magic, file) == sizeof magic && magic[7] == '1';
        fclose(file);
    }
    return count;
}

/* Of a version before: they are believed, and made anew. */
static void test_old_hints(void **state)
{
    struct world world;
    struct files files;
    world_begin(&world);
    files_read(world.fixture.directory, &files);
    hints_make_old(&files);
    directory_remove(world.fixture.directory);
    files_write(world.fixture.directory, &files);
    assert_true(hints_old(&world, &files) > 1);
    for (unsigned n = 0; n < 2; n++) {
        directory_remove(world.fixture.directory);
        files_write(world.fixture.directory, &files);
        assert_sound(&world);
        if (n == 0)
            fault_gate_remove();
        else
            fault_gate_set(0);
        OK(fixture_open(&world.fixture));
        check_gets(&world, NULL);
        fault_gate_remove();
        check_all(&world);
        while (hints_old(&world, &files) > 0)
            sched_yield();
        OK(fixture_close(&world.fixture));
        assert_sound(&world);
    }
    files_free(&files);
    world_end(&world);
}

/* A byte of a hint is another, at many places: no answer is wrong before the index is there, and
 * none after. */
static void test_damaged_hints(void **state)
{
    struct world world;
    struct files files;
    world_begin(&world);
    files_read(world.fixture.directory, &files);
    unsigned told = 0;
    unsigned waited = 0;
    log_set_level(LOG_ERROR);
    for (unsigned n = 0; n < TIMES(60u, 20u, 10u); n++) {
        struct file *file;
        do
            file = &files.list[rand_below(&world.rand, files.count)];
        while (!is_hint(file));
        uint8_t *byte = &file->bytes[rand_below(&world.rand, file->size)];
        uint8_t flip = (uint8_t)(1 + rand_below(&world.rand, 255));
        *byte ^= flip;
        directory_remove(world.fixture.directory);
        files_write(world.fixture.directory, &files);
        *byte ^= flip;
        world_open(&world, 0);
        for (unsigned key = 0; key < KEYS; key++) {
            struct engine_view view;
            OK(engine_view_begin(world.fixture.engine, NULL, false, &view));
            int error = get_in(&view, &world, 0, key);
            waited += error == ENGINE_WOULD_BLOCK;
            told += error == 0 || error == KVS_ERR_NOT_FOUND;
            assert_true(error >= 0 || error == KVS_ERR_NOT_FOUND);
            engine_view_end(&view);
        }
        fault_gate_remove();
        check_all(&world);
        OK(fixture_close(&world.fixture));
        assert_int_equal(world.fixture.message.text[0], '\0');
    }
    print_message("# %u keys were told, %u waited\n", told, waited);
    assert_true(told > 0 && waited > 0);
    files_free(&files);
    world_end(&world);
}

static void *get_run(void *arg)
{
    struct world *world = arg;
    uint64_t count;
    struct engine_view view;
    struct engine_range range = {.family = 0};
    int error = engine_view_begin(world->fixture.engine, NULL, true, &view);
    if (error == 0) {
        error = engine_count(&view, &range, &count);
        engine_view_end(&view);
    }
    return (void *)(intptr_t)error;
}

/* The first hint and its segment: there is no index. */
static void spoil_both(struct files *files)
{
    struct file *hint = NULL;
    for (unsigned i = 0; i < files->count; i++) {
        if (is_hint(&files->list[i]) &&
            (hint == NULL || strcmp(files->list[i].name, hint->name) < 0))
            hint = &files->list[i];
    }
    assert_non_null(hint);
    char name[40];
    snprintf(name, sizeof name, "%.10s.seg", hint != NULL ? hint->name : "");
    const struct file *segment = file_find(files, name);
    assert_non_null(segment);
    hint->bytes[HINT_HEADER_SIZE + 40] ^= 1;
    segment->bytes[SEGMENT_HEADER_SIZE + 40] ^= 1;
}

static void test_no_index(void **state)
{
    struct world world;
    struct files files;
    world_begin(&world);
    files_read(world.fixture.directory, &files);
    spoil_both(&files);
    directory_remove(world.fixture.directory);
    files_write(world.fixture.directory, &files);
    world_open(&world, 0);
    struct engine_snapshot *snapshot;
    OK(engine_snapshot_take(world.fixture.engine, &snapshot));
    pthread_t thread;
    void *answer;
    assert_int_equal(pthread_create(&thread, NULL, get_run, &world), 0);
    struct latch latch;
    struct pending_write write;
    struct waiting_read read;
    kvs_mutation mutation = mutation_set(S("key"), S("value"));
    latch_init(&latch, 2);
    pending_write_init(&write, &latch, &world.fixture.loop, &mutation, 1);
    engine_write(world.fixture.engine, &write.write);
    waiting_read_begin(&read, &world, &latch, snapshot, false);
    fault_gate_remove();
    latch_wait(&latch);
    latch_deinit(&latch);
    pthread_join(thread, &answer);
    assert_int_equal((intptr_t)answer, KVS_ERR_CORRUPTION);
    assert_int_equal(read.read.op.error, KVS_ERR_CORRUPTION);
    assert_int_equal(write.write.op.error, KVS_ERR_STORAGE_FAILED);
    /* ... and from now on. */
    struct buf value;
    char text[KEY_TEXT];
    assert_int_equal(get_copy(&world.fixture, 0, key_of(text, 4), &value), KVS_ERR_CORRUPTION);
    assert_int_equal(set_wait(&world.fixture, S("key"), S("value")), KVS_ERR_STORAGE_FAILED);
    assert_int_equal(control_wait(&world.fixture, ENGINE_CONTROL_SYNC, NULL),
                     KVS_ERR_STORAGE_FAILED);
    assert_int_equal(control_wait(&world.fixture, ENGINE_CONTROL_COMPACT, NULL),
                     KVS_ERR_STORAGE_FAILED);
    struct engine_stats stats;
    engine_stats(world.fixture.engine, &stats);
    assert_true(stats.failed && !stats.loading);
    engine_snapshot_release(world.fixture.engine, snapshot);
    assert_int_equal(fixture_close(&world.fixture), KVS_ERR_STORAGE_FAILED);
    assert_unchanged(&world, &files);
    /* With few keys it is the open that says so. */
    assert_int_equal(fixture_open(&world.fixture), KVS_ERR_CORRUPTION);
    world.fixture.engine = NULL;
    files_free(&files);
    world_end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gets_at_every_step),  cmocka_unit_test(test_expired),
        cmocka_unit_test(test_views_and_snapshots), cmocka_unit_test(test_writes_and_controls),
        cmocka_unit_test(test_readers_and_writers), cmocka_unit_test(test_close_meanwhile),
        cmocka_unit_test(test_close_leaves_hints),  cmocka_unit_test(test_old_hints),
        cmocka_unit_test(test_damaged_hints),       cmocka_unit_test(test_no_index),
    };
    fixtures_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

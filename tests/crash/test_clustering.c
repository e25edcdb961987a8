/*
 * tests/crash/test_clustering.c: a compaction that is asked for writes records in the order of
 * their keys, once, with bounded space, and files go in an order that brings nothing back.
 */
#include "base/rand.h"
#include "contract/engine_fixture.h"
#include "engine/family.h"
#include "engine/log/hint_file.h"
#include "engine/log/log_engine.h"
#include "test.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OK(call) assert_int_equal((call), 0)

#define SEGMENT_SIZE (64u * 1024)
#define VALUE_SIZE 200u
#define KEYS_MAX 20000u
#define BATCH 50u

static const struct engine_kind kind = {.name = "clustering",
                                        .directory = "kvs",
                                        .open = log_engine_open_blocking,
                                        .segment_size_bytes = SEGMENT_SIZE,
                                        .cache_size_bytes = 1024 * SEGMENT_SIZE,
                                        .sync = KVS_SYNC_NEVER};

/* --- what is removed --------------------------------------------------------------------------*/

static struct {
    const char *directory;
    unsigned passing; /* so many segments go, then there is an error, */
    unsigned failing; /* so many times */
    unsigned removed; /* segments */
    unsigned last;    /* number of the last one */
    bool in_order;    /* of their numbers */
    bool has_failed;
    unsigned synced; /* how many were removed when the directory was synced first */
    uint64_t most;   /* bytes of all files before one went */
} unlinks;
static pthread_mutex_t unlinks_mutex =
    PTHREAD_MUTEX_INITIALIZER; /* of the compaction's thread, too */

static atomic_bool removals_unsynced; /* the directory cannot be synced after a segment went, ... */
static atomic_uint removals_not_synced; /* ... which was so many times */
static _Thread_local bool has_removed;

int __real_file_unlink(const char *path);
int __wrap_file_unlink(const char *path);
int __real_file_sync_directory(const char *path);
int __wrap_file_sync_directory(const char *path);

/* False: it fails. */
static bool unlinks_count(const char *name)
{
    if (unlinks.directory == NULL || strstr(name, ".seg") == NULL)
        return true;
    unsigned number = (unsigned)strtoul(name, NULL, 10);
    uint64_t size = directory_size(unlinks.directory);
    unlinks.most = size > unlinks.most ? size : unlinks.most;
    if (unlinks.removed == unlinks.passing && unlinks.failing > 0) {
        unlinks.failing--;
        unlinks.has_failed = true;
        return false;
    }
    unlinks.removed++;
    unlinks.in_order &= number > unlinks.last;
    unlinks.last = number;
    return true;
}

int __wrap_file_unlink(const char *path)
{
    pthread_mutex_lock(&unlinks_mutex);
    bool goes = unlinks_count(strrchr(path, '/') + 1);
    pthread_mutex_unlock(&unlinks_mutex);
    int error = goes ? __real_file_unlink(path) : KVS_ERR_IO;
    has_removed = error == 0 && strstr(path, ".seg") != NULL;
    return error;
}

int __wrap_file_sync_directory(const char *path)
{
    bool fails = has_removed && atomic_load(&removals_unsynced);
    pthread_mutex_lock(&unlinks_mutex);
    if (has_removed && unlinks.synced == 0)
        unlinks.synced = unlinks.removed;
    pthread_mutex_unlock(&unlinks_mutex);
    has_removed = false;
    removals_not_synced += fails;
    return fails ? KVS_ERR_IO : __real_file_sync_directory(path);
}

static void unlinks_watch(const struct fixture *fixture, unsigned passing)
{
    pthread_mutex_lock(&unlinks_mutex);
    memset(&unlinks, 0, sizeof unlinks);
    unlinks.directory = fixture->directory;
    unlinks.passing = passing;
    unlinks.failing = UINT32_MAX;
    unlinks.in_order = true;
    pthread_mutex_unlock(&unlinks_mutex);
}

/* From here on the numbers stay as they are. */
static void unlinks_stop(void)
{
    pthread_mutex_lock(&unlinks_mutex);
    unlinks.directory = NULL;
    pthread_mutex_unlock(&unlinks_mutex);
}

/* --- a compaction that begins only when it is asked for ---------------------------------------*/

static atomic_bool hints_wait;

int __real_hint_file_write(const struct log_engine *log, const struct hint *hint);
int __wrap_hint_file_write(const struct log_engine *log, const struct hint *hint);

/* Of a full segment, the first that the compaction's thread does: it does nothing else then. */
int __wrap_hint_file_write(const struct log_engine *log, const struct hint *hint)
{
    while (atomic_load(&hints_wait))
        usleep(1000);
    return __real_hint_file_write(log, hint);
}

struct asking {
    struct engine_control control;
    struct task behind_it;
    struct latch latch;
};

static void asking_is_there(struct task *task)
{
    (void)task;
    atomic_store(&hints_wait, false);
}

static void asking_is_over(struct task *task)
{
    latch_down(&CONTAINER_OF(task, struct asking, control.op.task)->latch);
}

/* The hints go on when the writer knows what was asked for. */
static int compact_first(struct fixture *fixture)
{
    struct asking asking = {.control.op.task.run = asking_is_over,
                            .control.op.loop = &fixture->loop,
                            .control.kind = ENGINE_CONTROL_COMPACT,
                            .behind_it.run = asking_is_there};
    latch_init(&asking.latch, 1);
    engine_control(fixture->engine, &asking.control);
    writer_request(CONTAINER_OF(fixture->engine, struct log_engine, engine), &asking.behind_it);
    latch_wait(&asking.latch);
    latch_deinit(&asking.latch);
    return asking.control.op.error;
}

/* --- keys -------------------------------------------------------------------------------------*/

static kvs_slice key_of(char text[32], unsigned i)
{
    return slice_make(text, (size_t)snprintf(text, 32, "a key %06u", i));
}

static kvs_slice value_of(uint8_t value[VALUE_SIZE], unsigned i, unsigned round)
{
    for (unsigned at = 0; at < VALUE_SIZE; at++)
        value[at] = (uint8_t)(i * 7 + round * 31 + at);
    return slice_make(value, VALUE_SIZE);
}

static unsigned family_of(unsigned i)
{
    return i % 3 == 0 ? ENGINE_FAMILY_TXN_WRITE : 0;
}

static void key_set(struct fixture *fixture, unsigned i, unsigned round)
{
    char text[32];
    uint8_t value[VALUE_SIZE];
    kvs_mutation mutation =
        mutation_set_in(family_of(i), key_of(text, i), value_of(value, i, round));
    OK(batch_wait(fixture, &mutation, 1));
}

static void key_remove(struct fixture *fixture, unsigned i)
{
    char text[32];
    kvs_mutation mutation = {
        .kind = KVS_MUTATION_REMOVE, .family = (uint8_t)family_of(i), .key = key_of(text, i)};
    OK(batch_wait(fixture, &mutation, 1));
}

/* The numbers below `count` in any order. */
static unsigned *shuffled(unsigned count)
{
    static unsigned order[KEYS_MAX];
    struct rand rand = rand_seed(test_seed());
    for (unsigned i = 0; i < count; i++)
        order[i] = i;
    for (unsigned i = count - 1; i > 0; i--) {
        unsigned other = (unsigned)rand_below(&rand, i + 1);
        unsigned number = order[i];
        order[i] = order[other];
        order[other] = number;
    }
    return order;
}

/* By batches: it takes less time. */
static void set_shuffled(struct fixture *fixture, unsigned count, unsigned round)
{
    const unsigned *order = shuffled(count);
    char texts[BATCH][32];
    uint8_t values[BATCH][VALUE_SIZE];
    kvs_mutation mutations[BATCH];
    for (unsigned first = 0; first < count; first += BATCH) {
        unsigned n = count - first < BATCH ? count - first : BATCH;
        for (unsigned i = 0; i < n; i++) {
            unsigned key = order[first + i];
            mutations[i] = mutation_set_in(family_of(key), key_of(texts[i], key),
                                           value_of(values[i], key, round));
        }
        OK(batch_wait(fixture, mutations, n));
    }
}

static void begin(struct fixture *fixture, uint64_t cache_size)
{
    OK(fixture_init(fixture, &kind));
    fixture->options.cache_size_bytes = cache_size;
    OK(fixture_open(fixture));
}

static void open_again(struct fixture *fixture)
{
    OK(fixture_close(fixture));
    OK(fixture_open(fixture));
}

static void compact(struct fixture *fixture)
{
    OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
}

static struct engine_stats stats_of(struct fixture *fixture)
{
    struct engine_stats stats;
    engine_stats(fixture->engine, &stats);
    return stats;
}

/* --- looking ----------------------------------------------------------------------------------*/

struct walk {
    const uint8_t *last;
    unsigned pairs;
    unsigned neighbours; /* that begin within a record's size of the one before */
    unsigned round;
    bool wrong;
};

static int walk_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct walk *walk = arg;
    uint8_t expected[VALUE_SIZE];
    char digits[7] = {0};
    memcpy(digits, key.data + 6, 6);
    unsigned i = (unsigned)strtoul(digits, NULL, 10);
    if (!slice_equal(value, value_of(expected, i, walk->round)))
        walk->wrong = true;
    walk->neighbours += value.data > walk->last && value.data < walk->last + 2 * VALUE_SIZE;
    walk->last = value.data;
    walk->pairs++;
    return 0;
}

/* Looks at all pairs, whose values must be of this round. */
static struct walk walk_all(struct fixture *fixture, unsigned round)
{
    struct walk walk = {.round = round};
    struct engine_view view;
    OK(engine_view_begin(fixture->engine, NULL, true, &view));
    for (unsigned family = 0; family < ENGINE_FAMILY_COUNT; family++) {
        struct engine_range range = {.family = (uint8_t)family};
        OK(engine_scan(&view, &range, walk_each, &walk));
    }
    engine_view_end(&view);
    assert_false(walk.wrong);
    return walk;
}

/* --- tests ------------------------------------------------------------------------------------*/

/* In memory and in the files: the walk after opening is of what a start has read. */
static void test_neighbours_lie_together(void **state)
{
    struct fixture fixture;
    begin(&fixture, kind.cache_size_bytes);
    set_shuffled(&fixture, 2000, 1);
    struct walk walk = walk_all(&fixture, 1);
    assert_int_equal(walk.pairs, 2000);
    assert_true(walk.neighbours < 400);
    unlinks_watch(&fixture, UINT32_MAX);
    compact(&fixture);
    unlinks_stop();
    assert_true(unlinks.removed > 6 && unlinks.in_order);
    walk = walk_all(&fixture, 1);
    assert_int_equal(walk.pairs, 2000);
    assert_true(walk.neighbours > 1900);
    open_again(&fixture);
    walk = walk_all(&fixture, 1);
    assert_int_equal(walk.pairs, 2000);
    fixture_deinit(&fixture);
}

/* What is in order is left alone: what was asked for before, in this life or another, what was
 * written in order, and what is only a little out of it. */
static void test_order_is_made_once(void **state)
{
    struct fixture fixture;
    begin(&fixture, kind.cache_size_bytes);
    set_shuffled(&fixture, 3000, 1);
    compact(&fixture);
    uint64_t done = stats_of(&fixture).compactions;
    assert_true(done > 0);
    compact(&fixture);
    assert_int_equal(stats_of(&fixture).compactions, done);
    open_again(&fixture);
    compact(&fixture);
    compact(&fixture);
    assert_int_equal(stats_of(&fixture).compactions, 0);
    for (unsigned i = 3000; i < 6000; i += 3)
        key_set(&fixture, i, 1);
    compact(&fixture);
    assert_int_equal(stats_of(&fixture).compactions, 0);
    for (unsigned i = 0; i < 3; i++) { /* too little for a segment of its own */
        uint64_t segments = stats_of(&fixture).segments;
        key_set(&fixture, 9000 - i, 1);
        compact(&fixture);
        assert_int_equal(stats_of(&fixture).segments, segments);
    }
    set_shuffled(&fixture, 3000, 1);
    compact(&fixture);
    assert_true(stats_of(&fixture).compactions > 0);
    assert_int_equal(walk_all(&fixture, 1).pairs, 4003);
    fixture_deinit(&fixture);
}

/* More than goes at once: several runs over all keys, which are then merged, once. */
static void test_runs_are_merged(void **state)
{
    struct fixture fixture;
    begin(&fixture, kind.cache_size_bytes);
    set_shuffled(&fixture, KEYS_MAX, 1);
    uint64_t segments = stats_of(&fixture).segments;
    compact(&fixture);
    struct walk walk = walk_all(&fixture, 1);
    assert_int_equal(walk.pairs, KEYS_MAX);
    assert_true(walk.neighbours > KEYS_MAX - KEYS_MAX / 20);
    uint64_t done = stats_of(&fixture).compactions;
    assert_true(done > segments + segments / 2);
    compact(&fixture);
    assert_int_equal(stats_of(&fixture).compactions, done);
    open_again(&fixture); /* what is merged is told by the hints, too */
    compact(&fixture);
    assert_int_equal(stats_of(&fixture).compactions, 0);
    assert_int_equal(walk_all(&fixture, 1).pairs, KEYS_MAX);
    fixture_deinit(&fixture);
}

/* --- a model --- */

#define MODEL_KEYS 12000u
#define MODEL_ROUNDS 24u

static struct {
    uint8_t rounds[MODEL_KEYS]; /* in which each key was set last; 0: it is not there */
    uint8_t seen[MODEL_KEYS];
    unsigned wrong;
} model;

static void model_change(struct fixture *fixture, struct rand *rand, unsigned round)
{
    unsigned from = (unsigned)rand_below(rand, MODEL_KEYS / 2);
    unsigned count = MODEL_KEYS / 8 + (unsigned)rand_below(rand, MODEL_KEYS / 4);
    for (unsigned i = 0; i < count; i++) {
        unsigned key = from + (unsigned)rand_below(rand, MODEL_KEYS / 2);
        bool is_removed = rand_below(rand, 8) == 0;
        model.rounds[key] = is_removed ? 0 : (uint8_t)round;
        if (is_removed)
            key_remove(fixture, key);
        else
            key_set(fixture, key, round);
    }
}

static int model_each(void *arg, kvs_slice key, kvs_slice value)
{
    uint8_t expected[VALUE_SIZE];
    char digits[7] = {0};
    (void)arg;
    memcpy(digits, key.data + 6, 6);
    unsigned i = (unsigned)strtoul(digits, NULL, 10);
    model.seen[i]++;
    model.wrong += !slice_equal(value, value_of(expected, i, model.rounds[i]));
    return 0;
}

static void model_compare(struct fixture *fixture)
{
    struct engine_view view;
    memset(model.seen, 0, sizeof model.seen);
    OK(engine_view_begin(fixture->engine, NULL, true, &view));
    for (unsigned family = 0; family < ENGINE_FAMILY_COUNT; family++) {
        struct engine_range range = {.family = (uint8_t)family};
        OK(engine_scan(&view, &range, model_each, NULL));
    }
    engine_view_end(&view);
    assert_int_equal(model.wrong, 0);
    for (unsigned i = 0; i < MODEL_KEYS; i++)
        assert_int_equal(model.seen[i], model.rounds[i] != 0);
}

/* Runs come one by one and are merged when there are four, a part at a time, which starts and
 * failures to remove a file interrupt. What is not in memory is read from the files. */
static void test_merges_lose_nothing(void **state)
{
    struct rand rand = rand_seed(test_seed());
    struct fixture fixture;
    memset(&model, 0, sizeof model);
    begin(&fixture, 32 * SEGMENT_SIZE);
    for (unsigned round = 1; round <= MODEL_ROUNDS; round++) {
        model_change(&fixture, &rand, round);
        bool fails = rand_below(&rand, 3) == 0;
        unlinks_watch(&fixture, fails ? (unsigned)rand_below(&rand, 12) : UINT32_MAX);
        int error = control_wait(&fixture, ENGINE_CONTROL_COMPACT, NULL);
        unlinks_stop();
        assert_true(error == 0 || (error == KVS_ERR_IO && fails));
        model_compare(&fixture);
        if (fails || rand_below(&rand, 4) == 0)
            open_again(&fixture);
        model_compare(&fixture);
    }
    fixture_deinit(&fixture);
}

/* --- bounds --- */

/* Little of it fits into the cache, so some are read at a time; space is bounded as said. */
static void test_bounded(void **state)
{
    struct fixture fixture;
    begin(&fixture, 16 * SEGMENT_SIZE);
    set_shuffled(&fixture, KEYS_MAX, 1);
    compact(&fixture); /* hints and all: from here on nothing grows but by copies */
    uint64_t once = directory_size(fixture.directory);
    assert_true(once > 70 * SEGMENT_SIZE);
    set_shuffled(&fixture, KEYS_MAX / 2, 1);
    uint64_t before = directory_size(fixture.directory);
    unlinks_watch(&fixture, UINT32_MAX);
    compact(&fixture);
    unlinks_stop();
    assert_true(unlinks.most < before + before / 4 + 4 * SEGMENT_SIZE);
    assert_true(stats_of(&fixture).cache_bytes <= 17 * SEGMENT_SIZE);
    assert_true(directory_size(fixture.directory) < once + once / 10);
    uint64_t done = stats_of(&fixture).compactions;
    /* Few victims fit at once here, so what came from many groups into one segment may be in no
     * order again; the next request sees to that, and then there is nothing. */
    compact(&fixture);
    assert_in_range(stats_of(&fixture).compactions, done, done + 1);
    done = stats_of(&fixture).compactions;
    compact(&fixture);
    assert_int_equal(stats_of(&fixture).compactions, done);
    assert_int_equal(walk_all(&fixture, 1).pairs, KEYS_MAX);
    open_again(&fixture);
    assert_int_equal(walk_all(&fixture, 1).pairs, KEYS_MAX);
    fixture_deinit(&fixture);
}

/* Segments with sets, then some with their removal, all of which go at once: wherever that is
 * stopped, nothing is back. */
static void test_removed_stays_removed(void **state)
{
    for (unsigned passing = 0; passing < 30; passing++) {
        struct fixture fixture;
        begin(&fixture, kind.cache_size_bytes);
        set_shuffled(&fixture, 1000, 0);
        for (unsigned i = 0; i < 900; i++)
            key_remove(&fixture, i);
        const kvs_mutation range = mutation_remove_range(S("a key 0009"), S("a key 00095"));
        OK(batch_wait(&fixture, &range, 1));
        for (unsigned i = 950; i < 1000; i++)
            key_set(&fixture, i, 1);
        for (unsigned i = 900; i < 950; i++)
            if (family_of(i) != 0)
                key_set(&fixture, i, 1);
        unsigned keys = walk_all(&fixture, 1).pairs;
        assert_int_equal(keys, 67);
        unlinks_watch(&fixture, passing);
        int error = control_wait(&fixture, ENGINE_CONTROL_COMPACT, NULL);
        /* 0, too, where one that began by itself has met the failure. */
        unlinks_stop();
        assert_true(error == 0 || (error == KVS_ERR_IO && unlinks.has_failed));
        assert_int_equal(walk_all(&fixture, 1).pairs, keys);
        open_again(&fixture);
        assert_int_equal(walk_all(&fixture, 1).pairs, keys);
        compact(&fixture);
        assert_int_equal(walk_all(&fixture, 1).pairs, keys);
        open_again(&fixture);
        assert_int_equal(walk_all(&fixture, 1).pairs, keys);
        fixture_deinit(&fixture);
        if (!unlinks.has_failed)
            return;
    }
    fail_msg("it never went through");
}

/* Every `step`th key from `first` on, in their order. */
static void set_in_order(struct fixture *fixture, unsigned first, unsigned to, unsigned step)
{
    for (unsigned i = first; i < to;) {
        char texts[BATCH][32];
        uint8_t values[BATCH][VALUE_SIZE];
        kvs_mutation mutations[BATCH];
        unsigned n = 0;
        for (; n < BATCH && i < to; n++, i += step)
            mutations[n] = mutation_set(key_of(texts[n], i), value_of(values[n], i, 1));
        OK(batch_wait(fixture, mutations, n));
    }
}

/* One segment has a few keys of the whole space, the next one a removal of two of them beside low
 * keys of its own; behind them come three runs, so that the second segment can be merged, and the
 * first only in part. Wherever that is stopped, the removal still counts. */
static void test_range_outlives_merges(void **state)
{
    for (unsigned passing = 0; passing < 40; passing += TIMES(1, 3, 3)) {
        struct fixture fixture;
        begin(&fixture, kind.cache_size_bytes);
        set_in_order(&fixture, 0, 12000, 50);
        const kvs_mutation range = mutation_remove_range(S("a key 011000"), S("a key 011099"));
        set_in_order(&fixture, 1, 500, 5);
        OK(batch_wait(&fixture, &range, 1));
        set_in_order(&fixture, 501, 1250, 5);
        for (unsigned run = 2; run <= 4; run++)
            set_in_order(&fixture, run, 11000, 5);
        unsigned keys = walk_all(&fixture, 1).pairs;
        unlinks_watch(&fixture, passing);
        int error = control_wait(&fixture, ENGINE_CONTROL_COMPACT, NULL);
        unlinks_stop();
        assert_int_equal(error, unlinks.has_failed ? KVS_ERR_IO : 0);
        open_again(&fixture);
        assert_int_equal(walk_all(&fixture, 1).pairs, keys);
        fixture_deinit(&fixture);
    }
}

static unsigned unlinks_synced(void)
{
    pthread_mutex_lock(&unlinks_mutex);
    unsigned synced = unlinks.synced;
    pthread_mutex_unlock(&unlinks_mutex);
    return synced;
}

/* Most of the log is garbage, so the files go together, and the disk may have lost the one with the
 * removal of a range, and not the one with what was removed: as it is put back here. */
static void test_range_outlives_files_in_any_order(void **state)
{
    struct fixture fixture;
    char first[120];
    char saved[120];
    begin(&fixture, kind.cache_size_bytes);
    atomic_store(&hints_wait, true);
    set_in_order(&fixture, 0, 500, 1);
    const kvs_mutation range = mutation_remove_range(S("a key 000100"), S("a key 000110"));
    OK(batch_wait(&fixture, &range, 1));
    for (unsigned round = 0; round < 3; round++) {
        set_in_order(&fixture, 0, 100, 1);
        set_in_order(&fixture, 110, 500, 1);
    }
    snprintf(first, sizeof first, "%s/0000000001.seg", fixture.directory);
    snprintf(saved, sizeof saved, "%s/saved", fixture.root);
    OK(link(first, saved));
    OK(control_wait(&fixture, ENGINE_CONTROL_SYNC, NULL)); /* of all that may be compacted */
    unlinks_watch(&fixture, UINT32_MAX);
    atomic_store(&hints_wait, false);
    while (unlinks_synced() == 0)
        usleep(1000);
    unlinks_stop();
    assert_true(unlinks.in_order && unlinks.synced > 2); /* from the first one on */
    OK(fixture_close(&fixture));
    OK(rename(saved, first));
    OK(fixture_open(&fixture));
    assert_int_equal(walk_all(&fixture, 1).pairs, 490);
    fixture_deinit(&fixture);
}

/* Keys that were set for ever, and then for a moment. What is over leaves no removal behind where
 * all that is older goes, too: but the oldest file cannot be removed, and stays. */
static void test_what_is_over_stays_so(void **state)
{
    struct fixture fixture;
    begin(&fixture, kind.cache_size_bytes);
    atomic_store(&hints_wait, true);
    set_shuffled(&fixture, 600, 1);
    for (unsigned i = 0; i < 300; i++) {
        char text[32];
        uint8_t value[VALUE_SIZE];
        kvs_mutation mutation =
            mutation_set_in(family_of(i), key_of(text, i), value_of(value, i, 1));
        mutation.ttl_ms = 1;
        OK(batch_wait(&fixture, &mutation, 1));
    }
    set_in_order(&fixture, 1000, 1600, 1);
    while (walk_all(&fixture, 1).pairs != 900) {
    }
    assert_int_equal(stats_of(&fixture).compactions, 0);
    unlinks_watch(&fixture, 0);
    unlinks.failing = 1; /* the thread still waits */
    assert_int_equal(compact_first(&fixture), KVS_ERR_IO);
    compact(&fixture);
    unlinks_stop();
    open_again(&fixture);
    assert_int_equal(walk_all(&fixture, 1).pairs, 900);
    fixture_deinit(&fixture);
}

/* Of segments that have been begun. */
static unsigned files_of(const struct fixture *fixture)
{
    unsigned count = 0;
    DIR *directory = opendir(fixture->directory);
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        char path[400];
        struct stat facts;
        snprintf(path, sizeof path, "%s/%s", fixture->directory, entry->d_name);
        count += strstr(path, ".seg") != NULL && stat(path, &facts) == 0 && facts.st_size > 0;
    }
    closedir(directory);
    return count;
}

/* A file that is gone, but may come back for all that the disk has said, is listed until the
 * directory can be synced, and no longer. A backup has what was in it. */
static void test_removed_but_not_synced(void **state)
{
    (void)state;
    struct fixture fixture;
    struct fixture copy;
    char path[100];
    begin(&fixture, kind.cache_size_bytes);
    set_shuffled(&fixture, 3000, 1);
    atomic_store(&removals_unsynced, true);
    while (atomic_load(&removals_not_synced) == 0)
        (void)control_wait(&fixture, ENGINE_CONTROL_COMPACT, NULL);
    assert_true(stats_of(&fixture).segments > files_of(&fixture));
    snprintf(path, sizeof path, "%s/backup", fixture.root);
    OK(control_wait(&fixture, ENGINE_CONTROL_CHECKPOINT, path));
    atomic_store(&removals_unsynced, false);
    set_shuffled(&fixture, 3000, 2);
    compact(&fixture);
    compact(&fixture); /* that one may have come by itself */
    assert_int_equal(stats_of(&fixture).segments, files_of(&fixture));
    assert_int_equal(walk_all(&fixture, 2).pairs, 3000);
    OK(fixture_init(&copy, &kind));
    directory_remove(copy.directory);
    OK(rename(path, copy.directory));
    OK(fixture_open(&copy));
    assert_int_equal(walk_all(&copy, 1).pairs, 3000);
    fixture_deinit(&copy);
    fixture_deinit(&fixture);
}

/* Snapshots see what they saw, while what they share is moved under them. */
static void test_snapshots_beside(void **state)
{
    struct fixture fixture;
    begin(&fixture, 8 * SEGMENT_SIZE);
    set_shuffled(&fixture, 3000, 1);
    struct engine_snapshot *snapshot;
    OK(engine_snapshot_take(fixture.engine, &snapshot));
    for (unsigned i = 0; i < 3000; i += 7)
        key_set(&fixture, i, 2);
    for (unsigned i = 1; i < 3000; i += 7)
        key_remove(&fixture, i);
    compact(&fixture);
    struct walk walk = {.round = 1};
    struct engine_view view;
    OK(engine_view_begin(fixture.engine, snapshot, true, &view));
    for (unsigned family = 0; family < ENGINE_FAMILY_COUNT; family++) {
        struct engine_range range = {.family = (uint8_t)family};
        OK(engine_scan(&view, &range, walk_each, &walk));
    }
    engine_view_end(&view);
    assert_false(walk.wrong);
    assert_int_equal(walk.pairs, 3000);
    engine_snapshot_release(fixture.engine, snapshot);
    fixture_deinit(&fixture);
}

int main(void)
{
    fixtures_in_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_neighbours_lie_together),
        cmocka_unit_test(test_order_is_made_once),
        cmocka_unit_test(test_runs_are_merged),
        cmocka_unit_test(test_merges_lose_nothing),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_removed_stays_removed),
        cmocka_unit_test(test_range_outlives_merges),
        cmocka_unit_test(test_range_outlives_files_in_any_order),
        cmocka_unit_test(test_what_is_over_stays_so),
        cmocka_unit_test(test_removed_but_not_synced),
        cmocka_unit_test(test_snapshots_beside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

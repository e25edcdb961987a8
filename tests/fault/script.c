/* tests/fault/script.c: see script.h. */
#include "fault/script.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BATCH_MUTATIONS 10
#define TEXT_SIZE 48
#define LARGE_SIZE 20000
#define FAMILIES 2

/* A batch and the memory that its slices point to. */
struct script_batch {
    kvs_mutation mutations[BATCH_MUTATIONS];
    uint32_t count;
    char texts[2 * BATCH_MUTATIONS][TEXT_SIZE];
    unsigned texts_count;
};

static void wrong(struct script *script, const char *what, long long detail)
{
    if (script->wrong == NULL) {
        script->wrong = what;
        script->wrong_detail = detail;
    }
}

static kvs_slice batch_text(struct script_batch *batch, const char *format, unsigned a, unsigned b)
{
    assert(batch->texts_count < 2 * BATCH_MUTATIONS);
    char *text = batch->texts[batch->texts_count++];
    /* The formats are this file's own. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, TEXT_SIZE, format, a, b);
#pragma GCC diagnostic pop
    return slice_of_string(text);
}

static kvs_slice marker_key(char text[TEXT_SIZE], unsigned number)
{
    snprintf(text, TEXT_SIZE, "marker/%03u", number);
    return slice_of_string(text);
}

/* The batch of a number is always the same: its marker, data of its own, a key that all set, and
 * now and then removals of what an older one set. */
static void batch_make(struct script_batch *batch, unsigned number)
{
    static uint8_t large[LARGE_SIZE];
    *batch = (struct script_batch){0};
    kvs_mutation *mutation = batch->mutations;
    kvs_slice value = batch_text(batch, "%u", number, 0);
    if (number % 8 == 7)
        *mutation++ = mutation_remove_range(batch_text(batch, "data/%03u/", number - 6, 0),
                                            batch_text(batch, "data/%03u0", number - 6, 0));
    *mutation++ = mutation_set(batch_text(batch, "data/%03u/%u", number, 0), value);
    *mutation++ = mutation_set(S("shared"), value);
    *mutation++ = mutation_set(batch_text(batch, "marker/%03u", number, 0), value);
    *mutation++ = mutation_set(batch_text(batch, "data/%03u/%u", number, 1), value);
    if (number % 5 == 4)
        *mutation++ = mutation_remove(batch_text(batch, "data/%03u/%u", number - 3, 1));
    if (number % 6 == 2)
        *mutation++ = mutation_set(batch_text(batch, "large/%u", number % 4, 0),
                                   slice_make(large, LARGE_SIZE));
    *mutation++ = mutation_set_in(1, batch_text(batch, "other/%03u", number % 10, 0), value);
    batch->count = (uint32_t)(mutation - batch->mutations);
}

static void note_outcome(struct script *script, unsigned number, int error)
{
    script->outcomes[number] = error;
    script->errors += error != 0;
    if (script->broken && error != KVS_ERR_STORAGE_FAILED)
        wrong(script, "another answer than STORAGE_FAILED after the storage had failed: batch",
              number);
}

/* Once the storage has failed, it has until the next open. */
static void note_failure(struct script *script)
{
    struct engine_stats stats;
    engine_stats(script->fixture.engine, &stats);
    if (script->broken && !stats.failed)
        wrong(script, "the storage had failed, and has not any more", 0);
    script->broken = stats.failed;
}

void script_batches(struct script *script, unsigned first, unsigned last)
{
    static struct script_batch batches[SCRIPT_BATCHES];
    static struct pending_write pending[SCRIPT_BATCHES];
    struct latch latch;
    latch_init(&latch, last - first);
    struct task_list list = {0};
    for (unsigned i = first; i < last; i++) {
        batch_make(&batches[i], i);
        pending_write_init(&pending[i], &latch, &script->fixture.loop, batches[i].mutations,
                           batches[i].count);
        task_list_push(&list, &pending[i].write.op.task);
    }
    engine_write_list(script->fixture.engine, &list);
    latch_wait(&latch);
    latch_deinit(&latch);
    for (unsigned i = first; i < last; i++)
        note_outcome(script, i, pending[i].write.op.error);
    note_failure(script);
}

/* An acknowledged batch is there to be read, or the reader is told that it cannot be. */
static void script_read_back(struct script *script, unsigned number)
{
    char text[TEXT_SIZE];
    char expected[TEXT_SIZE];
    if (script->outcomes[number] != 0)
        return;
    struct buf value;
    int error = get_copy(&script->fixture, 0, marker_key(text, number), &value);
    snprintf(expected, sizeof expected, "%u", number);
    if (error == KVS_ERR_NOT_FOUND)
        wrong(script, "an acknowledged key is not found: batch", number);
    else if (error == 0 && !slice_equal(buf_slice(&value), slice_of_string(expected)))
        wrong(script, "an acknowledged key has another value: batch", number);
    script->errors += error != 0;
    buf_deinit(&value);
}

static void script_scan(struct script *script, const struct engine_snapshot *snapshot)
{
    struct engine_view view;
    int error = engine_view_begin(script->fixture.engine, snapshot, true, &view);
    if (error == 0) {
        struct pairs pairs;
        error = pairs_scan(&view, &(struct engine_range){.start = S("large")}, &pairs);
        pairs_deinit(&pairs);
        engine_view_end(&view);
    }
    script->errors += error != 0;
}

static unsigned backup_path(const struct script *script, unsigned last, char path[128])
{
    unsigned number = last == SCRIPT_BATCHES;
    snprintf(path, 128, "%s/backup%u", script->fixture.root, number);
    return number;
}

/* Of the batches up to `last`. */
static void script_backup(struct script *script, unsigned last)
{
    char path[128];
    if (!fixture_can(&script->fixture, ENGINE_CAP_CHECKPOINT))
        return;
    unsigned number = backup_path(script, last, path);
    int error = control_wait(&script->fixture, ENGINE_CONTROL_CHECKPOINT, path);
    script->errors += error != 0;
    script->backups[number] = error == 0;
}

/* Batches [first, last), some alone and some in chains, with maintenance and reads between. */
static void script_work(struct script *script, unsigned first, unsigned last)
{
    struct fixture *fixture = &script->fixture;
    struct engine_snapshot *snapshot = NULL;
    unsigned middle = (first + last) / 2;
    for (unsigned i = first; i < last;) {
        unsigned end = i % 6 == 0 && i + 3 <= last ? i + 3 : i + 1;
        script_batches(script, i, end);
        for (; i < end; i++)
            script_read_back(script, i);
        if (i >= middle && snapshot == NULL) {
            int error = engine_snapshot_take(fixture->engine, &snapshot);
            script->errors += error != 0;
            if (error != 0)
                snapshot = NULL;
            script->errors += control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL) != 0;
            script_scan(script, snapshot);
            middle = last;
        }
    }
    script_scan(script, NULL);
    if (snapshot != NULL) {
        script_scan(script, snapshot);
        engine_snapshot_release(fixture->engine, snapshot);
    }
    script_backup(script, last);
    script->errors += control_wait(fixture, ENGINE_CONTROL_SYNC, NULL) != 0;
}

/* A second try, too: the first may have hit the one failure. */
static bool script_open(struct script *script)
{
    for (unsigned i = 0; i < 2; i++) {
        script->fixture.message.text[0] = '\0';
        int error = fixture_open(&script->fixture);
        script->broken = false;
        if (error == 0)
            return true;
        script->errors++;
        script->fixture.engine = NULL;
        if (error > 0)
            wrong(script, "an open failed with a number that is no error:", error);
        if (error == KVS_ERR_CORRUPTION)
            wrong(script, "an open calls sound files damaged:", error);
    }
    return false;
}

int script_init(struct script *script, const struct engine_kind *kind)
{
    *script = (struct script){0};
    for (unsigned i = 0; i < SCRIPT_BATCHES; i++)
        script->outcomes[i] = SCRIPT_NOT_RUN;
    return fixture_init(&script->fixture, kind);
}

void script_deinit(struct script *script)
{
    fixture_deinit(&script->fixture);
}

void script_run(struct script *script)
{
    if (!script_open(script))
        return;
    script_work(script, 0, SCRIPT_BATCHES / 2);
    if (fixture_can(&script->fixture, ENGINE_CAP_DURABLE)) {
        script->errors += fixture_close(&script->fixture) != 0;
        if (!script_open(script))
            return;
    }
    script_work(script, SCRIPT_BATCHES / 2, SCRIPT_BATCHES);
    if (fixture_can(&script->fixture, ENGINE_CAP_DURABLE))
        script->errors += fixture_close(&script->fixture) != 0;
}

/* --- the check --------------------------------------------------------------------------------*/

/* Applies the batches that are there to a memory engine. */
static void expected_make(struct script *script, struct fixture *expected)
{
    for (unsigned i = 0; i < SCRIPT_BATCHES; i++) {
        char text[TEXT_SIZE];
        struct buf value;
        int error = get_copy(&script->fixture, 0, marker_key(text, i), &value);
        buf_deinit(&value);
        bool there = error == 0;
        if (error != 0 && error != KVS_ERR_NOT_FOUND)
            wrong(script, "a read fails after the faults: error", error);
        if (!there && script->outcomes[i] == 0)
            wrong(script, "an acknowledged batch is lost:", i);
        if (there && script->outcomes[i] == SCRIPT_NOT_RUN)
            wrong(script, "a batch is there that was never submitted:", i);
        if (there && script->outcomes[i] < 0 && kvs_error_retryable(script->outcomes[i]))
            wrong(script, "a batch is there that was refused as not done:", i);
        if (!there)
            continue;
        struct script_batch batch;
        batch_make(&batch, i);
        if (batch_wait(expected, batch.mutations, batch.count) != 0)
            wrong(script, "the memory engine refuses batch", i);
    }
}

static void compare_family(struct script *script, struct fixture *expected, uint8_t family)
{
    struct fixture *fixtures[2] = {expected, &script->fixture};
    struct pairs pairs[2];
    for (unsigned e = 0; e < 2; e++) {
        struct engine_view view;
        struct engine_range range = {.family = family};
        if (engine_view_begin(fixtures[e]->engine, NULL, true, &view) != 0) {
            wrong(script, "no view after the faults", e);
            return;
        }
        int error = pairs_scan(&view, &range, &pairs[e]);
        if (error != 0)
            wrong(script, "a scan fails after the faults: error", error);
        engine_view_end(&view);
    }
    if (pairs[0].count != pairs[1].count)
        wrong(script, "keys missing or too many: difference",
              (long long)pairs[1].count - (long long)pairs[0].count);
    for (size_t i = 0; i < pairs[0].count && script->wrong == NULL; i++) {
        if (!slice_equal(pairs_key(&pairs[0], i), pairs_key(&pairs[1], i)))
            wrong(script, "another key than expected: pair", (long long)i);
        if (!slice_equal(pairs_value(&pairs[0], i), pairs_value(&pairs[1], i)))
            wrong(script, "another value than expected: pair", (long long)i);
    }
    pairs_deinit(&pairs[0]);
    pairs_deinit(&pairs[1]);
}

static void backup_check_batches(struct script *script, unsigned last)
{
    int error = fixture_open(&script->fixture);
    if (error != 0) {
        wrong(script, "a backup does not open: error", error);
        return;
    }
    for (unsigned i = 0; i < last; i++) {
        char text[TEXT_SIZE];
        struct buf value;
        error = get_copy(&script->fixture, 0, marker_key(text, i), &value);
        buf_deinit(&value);
        if (error != 0 && script->outcomes[i] == 0)
            wrong(script, "a backup lacks a batch that was acknowledged before:", i);
    }
    fixture_close(&script->fixture);
}

/* Opens the backup in the place of the store. */
static void backup_check(struct script *script, unsigned last)
{
    char path[128];
    char marker[160];
    unsigned number = backup_path(script, last, path);
    snprintf(marker, sizeof marker, "%s/KVS", path);
    if (!script->backups[number] && access(marker, F_OK) != 0)
        return;
    struct engine *engine = script->fixture.engine;
    const char *directory = script->fixture.options.directory;
    script->fixture.options.directory = path;
    backup_check_batches(script, last);
    script->fixture.options.directory = directory;
    script->fixture.engine = engine;
}

void script_check(struct script *script)
{
    static const struct engine_kind memory = {.name = "memory",
                                              .open = memory_engine_open_blocking};
    if (script->fixture.engine == NULL) {
        int error = fixture_open(&script->fixture);
        if (error != 0) {
            script->fixture.engine = NULL;
            wrong(script, "no open after the faults: error", error);
            return;
        }
    }
    struct fixture expected;
    if (fixture_init(&expected, &memory) != 0 || fixture_open(&expected) != 0) {
        wrong(script, "no oracle", 0);
        return;
    }
    expected_make(script, &expected);
    for (uint8_t family = 0; family < FAMILIES; family++)
        compare_family(script, &expected, family);
    fixture_deinit(&expected);
    backup_check(script, SCRIPT_BATCHES / 2);
    backup_check(script, SCRIPT_BATCHES);
}

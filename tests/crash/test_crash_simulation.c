/*
 * tests/crash/test_crash_simulation.c: thousands of short lives of a log store, each ended by a
 * power cut on a disk that forgets and tears what was not synced (disk_journal.h).
 *
 * A seed is a story of one to four lives on one disk:
 *   1. the store opens; what is there are the batches up to some number, each whole, in order;
 *   2. chains of random batches are written, together or one while another is, between
 *      compactions, syncs, online backups, closing and opening again, while the journal notes what
 *      reaches the disk when;
 *   3. the disk is made as it could be after cuts at some random moments, and each must open: with
 *      no damage, and with at least the batches that were safe. Backups that were reported done,
 *      and all that look finished, must open, too, and have a moment of their call;
 *   4. on one of these disks the next life begins.
 * Safe is what was acknowledged with --sync=always; else what was acknowledged before a sync that
 * was reported done, or before a close.
 *
 *   test_crash_simulation --seed N     one story, as a failed run prints it. The engine's threads
 *                                      may write in another order: --times 100 tells it again
 *   test_crash_simulation --seeds N    so many
 *   KVS_TEST_SEED=N, KVS_TEST_SECONDS=N: where to begin, and for how long
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "contract/engine_fixture.h"
#include "crash/disk_journal.h"
#include "engine/log/check.h"
#include "engine/log/segment.h"
#include "engine/log/wanted.h"
#include "times.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEEDS TIMES(2000, 200, 50)
#define SECONDS 160 /* then it ends, on a machine with too much to do */
#define KEYS 24     /* in two families */
#define BATCHES_MAX 600
#define CHAIN_MAX 6
#define CHANGES_MAX 4
#define STEPS_MAX 30
#define CUTS_MAX 3
#define COPIES_MAX 4
#define VALUE_SIZE_MAX 6000
#define KEY_SIZE 8
#define PATH_SIZE 160

static const struct engine_kind kind = {.name = "crash-simulation",
                                        .directory = "kvs",
                                        .open = log_engine_open_blocking,
                                        .segment_size_bytes = 64 * 1024};

/* An online backup: done at `done`, of some moment between two batches. */
struct copy {
    size_t done; /* event; SIZE_MAX: it was not reported done */
    unsigned low, high;
};

static struct story {
    struct fixture fixture;
    uint64_t seed;
    struct rand rand;
    unsigned disks; /* that were made */
    char disk[PATH_SIZE];
    char data[PATH_SIZE];
    unsigned last;                      /* batch submitted */
    unsigned safe;                      /* batch that no cut may take away */
    uint32_t ids;                       /* given to values, never twice in a story */
    uint32_t values[BATCHES_MAX][KEYS]; /* after each batch; 0: nothing there */
    uint32_t stamps[BATCHES_MAX];       /* of the batch */
    struct copy copies[COPIES_MAX];
    unsigned copies_count;
    bool reads_sparsely; /* compaction, of segments that are not in the cache */
    char wrong[600];
} story;

static struct {
    uint64_t seeds, lives, cuts, copies, batches, sparse;
} told;

bool __real_wanted_is_sparse(const struct segment *segment);
bool __wrap_wanted_is_sparse(const struct segment *segment);

static bool wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));

static bool wrong(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (story.wrong[0] == '\0')
        vsnprintf(story.wrong, sizeof story.wrong, format, args);
    va_end(args);
    return false;
}

/* --- batches --------------------------------------------------------------------------------- */

struct chain_write {
    struct engine_write write;
    struct latch *latch;
    unsigned number;
    kvs_mutation mutations[CHANGES_MAX + 1];
    char keys[CHANGES_MAX + 1][2][KEY_SIZE];
    uint8_t values[CHANGES_MAX + 1][VALUE_SIZE_MAX];
    uint8_t last[8];
};

static unsigned key_family(unsigned key)
{
    return key < KEYS / 2 ? 0 : ENGINE_FAMILY_TXN_WRITE;
}

static kvs_slice key_text(char text[KEY_SIZE], unsigned key)
{
    snprintf(text, KEY_SIZE, "k%02u", key % 100);
    return slice_of_string(text);
}

/* A number, then bytes that follow from it; one in eight is long. */
static kvs_slice value_make(uint8_t bytes[VALUE_SIZE_MAX], uint32_t id)
{
    size_t size = 4 + (id % 8 == 0 ? id * 131 % (VALUE_SIZE_MAX - 4) : id * 7 % 300);
    memcpy(bytes, &id, 4);
    for (size_t i = 4; i < size; i++)
        bytes[i] = (uint8_t)(id + i * 11);
    return slice_make(bytes, size);
}

static void change_make(struct chain_write *write, unsigned i, uint32_t *values)
{
    struct rand *rand = &story.rand;
    unsigned key = (unsigned)rand_below(rand, KEYS);
    kvs_mutation *mutation = &write->mutations[i];
    kvs_slice name = key_text(write->keys[i][0], key);
    unsigned choice = (unsigned)rand_below(rand, 20);
    if (choice == 0) { /* the keys from this one to one of its family */
        unsigned end = key + (unsigned)rand_below(rand, KEYS / 2 - key % (KEYS / 2));
        *mutation = mutation_remove_range(name, key_text(write->keys[i][1], end));
        if (end > key)
            memset(&values[key], 0, (end - key) * sizeof *values);
        else
            *mutation = mutation_remove(name), values[key] = 0;
    } else if (choice < 5) {
        *mutation = mutation_remove(name);
        values[key] = 0;
    } else {
        values[key] = ++story.ids;
        *mutation = mutation_set(name, value_make(write->values[i], values[key]));
    }
    mutation->family = (uint8_t)key_family(key);
}

/* Each batch also says in the key "last" which one it is. */
static void batch_make(struct chain_write *write, unsigned number)
{
    uint32_t *values = story.values[number];
    memcpy(values, story.values[number - 1], sizeof story.values[0]);
    unsigned count = 1 + (unsigned)rand_below(&story.rand, CHANGES_MAX);
    for (unsigned i = 0; i < count; i++)
        change_make(write, i, values);
    story.stamps[number] = ++story.ids;
    memcpy(write->last, &number, 4);
    memcpy(write->last + 4, &story.stamps[number], 4);
    write->mutations[count] = mutation_set(S("last"), slice_make(write->last, 8));
    write->number = number;
    write->write =
        (struct engine_write){.mutations = write->mutations, .mutations_count = count + 1};
}

static void chain_on_done(struct task *task)
{
    struct chain_write *write = CONTAINER_OF(task, struct chain_write, write.op.task);
    if (write->write.op.error == 0 && story.fixture.options.sync == KVS_SYNC_ALWAYS)
        disk_journal_note(write->number);
    latch_down(write->latch);
}

/* All in one, or one after the other, so that some come while others are being written. */
static bool chain_write(unsigned count)
{
    static struct chain_write writes[CHAIN_MAX];
    struct latch latch;
    struct task_list list = {0};
    bool together = rand_below(&story.rand, 2) == 0;
    latch_init(&latch, count);
    for (unsigned i = 0; i < count; i++) {
        batch_make(&writes[i], ++story.last);
        writes[i].latch = &latch;
        writes[i].write.op.task.run = chain_on_done;
        writes[i].write.op.loop = &story.fixture.loop;
        if (together)
            task_list_push(&list, &writes[i].write.op.task);
        else
            engine_write(story.fixture.engine, &writes[i].write);
    }
    if (together)
        engine_write_list(story.fixture.engine, &list);
    latch_wait(&latch);
    latch_deinit(&latch);
    told.batches += count;
    for (unsigned i = 0; i < count; i++) {
        if (writes[i].write.op.error != 0)
            return wrong("batch %u: %s", writes[i].number,
                         kvs_error_name(writes[i].write.op.error));
    }
    return true;
}

/* --- what is there --------------------------------------------------------------------------- */

static bool check_key(struct engine_view *view, unsigned key, uint32_t id, unsigned last)
{
    char text[KEY_SIZE];
    uint8_t bytes[VALUE_SIZE_MAX];
    kvs_slice value = {0};
    int error = engine_get(view, key_family(key), key_text(text, key), &value);
    if (error != (id == 0 ? KVS_ERR_NOT_FOUND : 0))
        return wrong("batch %u is the last, but %s: %s", last, text, kvs_error_name(error));
    if (id != 0 && !slice_equal(value, value_make(bytes, id)))
        return wrong("batch %u is the last, but %s has another value", last, text);
    return true;
}

/* The last batch that is there; all of those before it must be. */
static bool check_view(struct engine_view *view, unsigned *ret_last)
{
    kvs_slice value;
    unsigned last = 0;
    uint32_t stamp = 0;
    int error = engine_get(view, 0, S("last"), &value);
    if (error == 0 && value.size == 8) {
        memcpy(&last, value.data, 4);
        memcpy(&stamp, value.data + 4, 4);
    } else if (error != KVS_ERR_NOT_FOUND) {
        return wrong("the last batch: %s", kvs_error_name(error));
    }
    if (last > story.last || stamp != story.stamps[last])
        return wrong("batch %u is there, which an earlier cut took away", last);
    bool fine = true;
    for (unsigned key = 0; key < KEYS && fine; key++)
        fine = check_key(view, key, story.values[last][key], last);
    *ret_last = last;
    return fine;
}

static bool store_open(const char *directory)
{
    story.fixture.options.directory = directory;
    /* Small ones, so that many are emptied at once. */
    story.fixture.options.segment_size_bytes = (story.seed % 2 + 1) * 8 * 1024;
    int error = fixture_open(&story.fixture);
    if (error == 0)
        return true;
    story.fixture.engine = NULL;
    return wrong("%s: %s", kvs_error_name(error), story.fixture.message.text);
}

static bool store_close(void)
{
    int error = fixture_close(&story.fixture);
    return error == 0 || wrong("close: %s", kvs_error_name(error));
}

static bool store_check(unsigned *ret_last)
{
    struct engine_view view;
    int error = engine_view_begin(story.fixture.engine, NULL, true, &view);
    if (error != 0)
        return wrong("a view: %s", kvs_error_name(error));
    bool fine = check_view(&view, ret_last);
    engine_view_end(&view);
    return fine;
}

/* --- a life ---------------------------------------------------------------------------------- */

static bool control(enum engine_control_kind what, const char *path)
{
    int error = control_wait(&story.fixture, what, path);
    return error == 0 || wrong("control %d: %s", what, kvs_error_name(error));
}

static bool step_copy(void)
{
    if (story.copies_count == COPIES_MAX)
        return true;
    char path[PATH_SIZE + 16];
    struct copy *copy = &story.copies[story.copies_count];
    snprintf(path, sizeof path, "%s/copy%u", story.disk, story.copies_count++);
    *copy = (struct copy){.done = SIZE_MAX, .low = story.last};
    bool fine = control(ENGINE_CONTROL_CHECKPOINT, path);
    copy->high = story.last;
    copy->done = disk_journal_length();
    return fine;
}

static bool step_reopen(void)
{
    if (!store_close())
        return false;
    if (story.fixture.options.sync != KVS_SYNC_NEVER)
        disk_journal_note(story.last);
    unsigned last = 0;
    bool fine = store_open(story.data) && store_check(&last);
    return fine && (last == story.last || wrong("batch %u of %u after a close", last, story.last));
}

static bool step(void)
{
    unsigned choice = (unsigned)rand_below(&story.rand, 40);
    if (choice == 0)
        return step_copy();
    if (choice == 1)
        return step_reopen();
    if (choice < 4)
        return control(ENGINE_CONTROL_COMPACT, NULL);
    if (choice < 6) {
        bool fine = control(ENGINE_CONTROL_SYNC, NULL);
        disk_journal_note(story.last);
        return fine;
    }
    return chain_write(1 + (unsigned)rand_below(&story.rand, CHAIN_MAX));
}

static void options_choose(void)
{
    static const uint32_t intervals_ms[] = {1, 5, 1000};
    static const uint64_t sizes[] = {1, 64 * 1024, 64 * 1024, 0};
    struct engine_options *options = &story.fixture.options;
    options->sync = (enum kvs_sync)rand_below(&story.rand, 3);
    options->sync_interval_ms = intervals_ms[rand_below(&story.rand, 3)];
    options->cache_size_bytes = sizes[rand_below(&story.rand, 4)];
    options->cache_prefault = options->cache_size_bytes > 0 && rand_below(&story.rand, 2) == 0;
    options->callers_write = rand_below(&story.rand, 2) == 0;
    story.reads_sparsely = rand_below(&story.rand, 2) == 0;
}

/* Records are small here, and so are segments: hardly any would be. */
bool __wrap_wanted_is_sparse(const struct segment *segment)
{
    bool could_be = atomic_load_explicit(&segment->memory, memory_order_relaxed) == NULL &&
                    segment->hint == SEGMENT_HINT_THERE && !segment->owes_removals;
    bool is_sparse = story.reads_sparsely ? could_be : __real_wanted_is_sparse(segment);
    told.sparse += is_sparse && segment->is_victim; /* else only asked how much it would be */
    return is_sparse;
}

/* Notes all that is done to the disk; the first moment for a cut is *ret_begin. */
static bool life(size_t *ret_begin)
{
    options_choose();
    story.copies_count = 0;
    *ret_begin = disk_journal_start(story.disk);
    unsigned last = 0;
    bool fine = store_open(story.data) && store_check(&last);
    if (fine && last < story.safe)
        fine = wrong("batch %u of %u that were safe", last, story.safe);
    story.last = last;
    unsigned steps = 1 + (unsigned)rand_below(&story.rand, STEPS_MAX);
    for (unsigned i = 0; i < steps && fine && story.last + CHAIN_MAX < BATCHES_MAX - 10; i++)
        fine = step();
    /* What comes now is not in the story: the power is gone before. */
    disk_journal_stop();
    if (story.fixture.engine != NULL)
        fixture_close(&story.fixture);
    told.lives++;
    return fine;
}

/* --- cuts ------------------------------------------------------------------------------------ */

static void damage_say(struct log_check *check, const char *line)
{
    if (strncmp(line, "damage", 6) == 0)
        wrong("--verify after a cut: %s", line);
}

static bool check_undamaged(const char *directory)
{
    char marker[PATH_SIZE + 16];
    snprintf(marker, sizeof marker, "%s/KVS", directory);
    if (access(marker, F_OK) != 0) /* cut before there was a store */
        return true;
    struct log_check check = {.say = damage_say};
    int error =
        log_check_blocking(&check, directory, NULL, story.fixture.pool, &story.fixture.message);
    if (error != 0)
        return wrong("--verify after a cut: %s", story.fixture.message.text);
    return check.damages == 0;
}

/* A directory with the file KVS is a whole copy; one that was reported done is one. */
static bool check_copy(const char *disk, unsigned i, size_t at)
{
    char path[PATH_SIZE + 16];
    char marker[PATH_SIZE + 32];
    const struct copy *copy = &story.copies[i];
    snprintf(path, sizeof path, "%s/copy%u", disk, i);
    snprintf(marker, sizeof marker, "%s/KVS", path);
    bool whole = access(marker, F_OK) == 0;
    if (!whole)
        return at < copy->done || wrong("backup %u was done, and is gone", i);
    unsigned last = 0;
    bool fine = store_open(path) && store_check(&last);
    if (story.fixture.engine != NULL)
        fine = store_close() && fine;
    told.copies++;
    if (fine && (last < copy->low || last > copy->high))
        fine = wrong("backup %u has batch %u, and was made between %u and %u", i, last, copy->low,
                     copy->high);
    return fine;
}

/* Opens it twice; the second time with what was found plus nothing less. */
static bool check_data(const char *data, unsigned safe)
{
    if (rand_below(&story.rand, 3) == 0 && !check_undamaged(data))
        return false;
    unsigned found = 0;
    for (unsigned again = 0; again < 2; again++) {
        unsigned last = 0;
        if (!store_open(data) || !store_check(&last) || !store_close())
            return false;
        if (last < safe)
            return wrong("batch %u is the last, and %u was safe", last, safe);
        if (again == 1 && last != found)
            return wrong("batch %u is the last, and was %u when it was opened before", last, found);
        found = last;
    }
    return true;
}

static void tell_cut(size_t at, size_t begin, bool lost)
{
    char what[sizeof story.wrong];
    snprintf(what, sizeof what, "%s", story.wrong);
    snprintf(story.wrong, sizeof story.wrong,
             "cut before event %zu (%zu to %zu), names %s, in %.100s: %.300s", at, begin,
             disk_journal_length(), lost ? "lost" : "in order", story.disk, what);
}

/* A disk after a cut, from the journal of this life; it stays in story.disk for the next life. That
 * may be the first to see what has to be recovered, so that it has it in its own journal. */
static bool cut(size_t begin, bool look)
{
    size_t length = disk_journal_length();
    size_t at = begin + rand_below(&story.rand, length - begin + 1);
    if (rand_below(&story.rand, 6) == 0) /* what opening does is over soon */
        at = begin + rand_below(&story.rand, length - begin < 12 ? length - begin + 1 : 12);
    bool lost = rand_below(&story.rand, 2) == 0;
    char disk[PATH_SIZE];
    snprintf(disk, sizeof disk, "%s/disk%u", story.fixture.root, ++story.disks);
    uint64_t noted =
        disk_journal_cut(at, lost ? DISK_NAMES_LOST : DISK_NAMES_ORDERED, &story.rand, disk);
    unsigned safe = noted > story.safe ? (unsigned)noted : story.safe;
    char data[PATH_SIZE + 8];
    snprintf(data, sizeof data, "%s/data", disk);
    bool fine = true;
    for (unsigned i = 0; i < story.copies_count && fine; i++)
        fine = check_copy(disk, i, at);
    if (fine && look)
        fine = check_data(data, safe);
    told.cuts++;
    directory_remove(story.disk);
    snprintf(story.disk, sizeof story.disk, "%s", disk);
    snprintf(story.data, sizeof story.data, "%.150s/data", disk);
    story.safe = safe;
    if (!fine)
        tell_cut(at, begin, lost);
    return fine;
}

static bool cuts(size_t begin, bool is_last)
{
    unsigned count = 1 + (unsigned)rand_below(&story.rand, CUTS_MAX);
    unsigned safe = story.safe;
    bool fine = true;
    for (unsigned i = 0; i < count && fine; i++) {
        story.safe = safe;
        fine = cut(begin, is_last || i + 1 < count || rand_below(&story.rand, 2) == 0);
    }
    for (unsigned i = 0; i < story.copies_count && fine; i++) {
        char path[PATH_SIZE + 16];
        snprintf(path, sizeof path, "%s/copy%u", story.disk, i);
        directory_remove(path);
    }
    return fine;
}

/* --- stories --------------------------------------------------------------------------------- */

static bool tell(uint64_t seed)
{
    story.seed = seed;
    story.rand = rand_seed(seed);
    story.last = story.safe = story.ids = 0;
    story.wrong[0] = '\0';
    snprintf(story.disk, sizeof story.disk, "%s/disk%u", story.fixture.root, ++story.disks);
    snprintf(story.data, sizeof story.data, "%.150s/data", story.disk);
    mkdir(story.disk, 0755);
    bool fine = true;
    unsigned lives = 1 + (unsigned)rand_below(&story.rand, 4);
    for (unsigned i = 0; i < lives && fine; i++) {
        size_t begin;
        fine = life(&begin) && cuts(begin, i + 1 == lives);
    }
    disk_journal_free();
    told.seeds++;
    if (!fine)
        printf("# --seed %llu: %s\n", (unsigned long long)seed, story.wrong);
    else
        directory_remove(story.disk);
    fflush(stdout);
    return fine;
}

static uint64_t argument(int argc, char **argv, const char *name, uint64_t otherwise)
{
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], name) == 0)
            return strtoull(argv[i + 1], NULL, 0);
    }
    return otherwise;
}

int main(int argc, char **argv)
{
    fixtures_in_memory();
    log_set_level(LOG_SILENT);
    uint64_t one = argument(argc, argv, "--seed", 0);
    uint64_t seed = one != 0 ? one : test_seed();
    uint64_t seeds = argument(argc, argv, "--seeds", SEEDS);
    uint64_t times = argument(argc, argv, "--times", 1);
    const char *seconds = getenv("KVS_TEST_SECONDS");
    uint64_t start_ms = clock_now_ms();
    uint64_t end_ms = start_ms + 1000 * (seconds != NULL ? strtoull(seconds, NULL, 0) : SECONDS);
    if (fixture_init(&story.fixture, &kind) != 0)
        return 1;
    bool fine = true;
    if (one != 0) {
        for (uint64_t i = 0; i < times && fine; i++)
            fine = tell(one);
    } else {
        for (uint64_t i = 0; (seconds != NULL || i < seeds) && clock_now_ms() < end_ms && fine; i++)
            fine = tell(seed + i);
    }
    uint64_t ms = clock_now_ms() - start_ms + 1;
    printf("# %llu seeds: %llu lives, %llu batches, %llu cuts, %llu backups, %llu segments read by "
           "records; %llu seeds a second\n",
           (unsigned long long)told.seeds, (unsigned long long)told.lives,
           (unsigned long long)told.batches, (unsigned long long)told.cuts,
           (unsigned long long)told.copies, (unsigned long long)told.sparse,
           (unsigned long long)(told.seeds * 1000 / ms));
    printf("1..1\n%sok 1 - no cut takes away what was safe, or leaves half of anything\n",
           fine ? "" : "not ");
    fflush(NULL);
    if (!fine)
        _exit(1); /* the disk is left, and threads of a failed story may still run */
    fixture_deinit(&story.fixture);
    return 0;
}

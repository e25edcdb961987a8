/*
 * tests/contract/model.c: see model.h.
 *
 * Each step is drawn from a table of steps with weights. What a step finds different between the
 * engines it reports by model_fail, which ends the program: the seed repeats the episode.
 */
#include "contract/model.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"

#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEYS 64
#define FAMILIES 3
#define VALUE_SIZE_MAX (96 * 1024)
#define HELD_MAX 4
#define CHAIN_MAX 12
#define MUTATIONS_MAX 8
#define CONDITIONS_MAX 2
#define STEPS_PER_EPISODE 1500

struct key {
    uint8_t bytes[300];
    size_t size;
};

/* The same moment in both engines. */
struct held {
    struct engine_snapshot *snapshots[2];
    struct engine_view views[2];
    bool is_view;
};

struct model {
    struct fixture fixtures[2]; /* memory, the other */
    struct rand rand;
    uint64_t seed;
    unsigned step;
    const char *step_name;
    struct key keys[KEYS];
    struct held held[HELD_MAX];
    unsigned held_count;
    uint8_t *value_bytes;
};

static _Noreturn void model_fail(const struct model *model, const char *what, long long a,
                                 long long b)
{
    fprintf(stderr, "model: seed %llu, step %u (%s): %s: memory says %lld, the other %lld\n",
            (unsigned long long)model->seed, model->step, model->step_name, what, a, b);
    exit(1);
}

static void model_same(const struct model *model, const char *what, long long a, long long b)
{
    if (a != b)
        model_fail(model, what, a, b);
}

static void model_same_bytes(const struct model *model, const char *what, kvs_slice a, kvs_slice b)
{
    if (!slice_equal(a, b))
        model_fail(model, what, (long long)a.size, (long long)b.size);
}

static bool chance(struct model *model, unsigned percent)
{
    return rand_below(&model->rand, 100) < percent;
}

/* --- what there is to draw --------------------------------------------------------------------*/

static void keys_make(struct model *model)
{
    static const uint8_t letters[] = {0, 'a', 'b', 0xff};
    for (unsigned i = 0; i < KEYS; i++) {
        struct key *key = &model->keys[i];
        key->size = 1 + rand_below(&model->rand, 5);
        if (chance(model, 15))
            key->size = 200 + rand_below(&model->rand, 100); /* a long prefix in common */
        for (size_t at = 0; at < key->size; at++)
            key->bytes[at] =
                at + 4 < key->size ? 'p' : letters[rand_below(&model->rand, sizeof letters)];
    }
}

static kvs_slice draw_key(struct model *model)
{
    const struct key *key = &model->keys[rand_below(&model->rand, KEYS)];
    return slice_make(key->bytes, key->size);
}

static kvs_slice draw_bound(struct model *model)
{
    return chance(model, 25) ? (kvs_slice){0} : draw_key(model);
}

static kvs_slice draw_value(struct model *model)
{
    size_t size = rand_below(&model->rand, 40);
    if (chance(model, 10))
        size = rand_below(&model->rand, 5000);
    if (chance(model, 1))
        size = rand_below(&model->rand, VALUE_SIZE_MAX); /* may be larger than a segment */
    return slice_make(model->value_bytes + rand_below(&model->rand, VALUE_SIZE_MAX - size + 1),
                      size);
}

static uint8_t draw_family(struct model *model)
{
    return (uint8_t)(chance(model, 70) ? 0 : rand_below(&model->rand, FAMILIES));
}

static struct engine_range draw_range(struct model *model)
{
    return (struct engine_range){.family = draw_family(model),
                                 .reverse = chance(model, 50),
                                 .keys_only = chance(model, 20),
                                 .start = draw_bound(model),
                                 .end = draw_bound(model)};
}

/* --- writes -----------------------------------------------------------------------------------*/

struct batch {
    kvs_mutation mutations[MUTATIONS_MAX];
    struct engine_condition conditions[CONDITIONS_MAX];
    uint32_t mutations_count;
    uint32_t conditions_count;
    unsigned flags;
};

static kvs_mutation draw_mutation(struct model *model)
{
    kvs_mutation mutation = {.kind = KVS_MUTATION_SET,
                             .family = draw_family(model),
                             .key = draw_key(model),
                             .value = draw_value(model)};
    unsigned dice = (unsigned)rand_below(&model->rand, 100);
    if (dice < 25) {
        mutation.kind = KVS_MUTATION_REMOVE;
        mutation.value = (kvs_slice){0};
    } else if (dice < 30) {
        mutation.kind = KVS_MUTATION_REMOVE_RANGE;
        mutation.key = draw_bound(model);
        mutation.value = draw_bound(model);
    } else if (dice < 40) {
        mutation.ttl_ms = 3600 * 1000; /* no end within the test */
    }
    return mutation;
}

static struct engine_condition draw_condition(struct model *model)
{
    struct engine_condition condition = {
        .kind = (uint8_t)(1 + rand_below(&model->rand, 3)),
        .family = draw_family(model),
        .key = draw_key(model),
        .value = draw_value(model),
    };
    return condition;
}

static struct batch draw_batch(struct model *model)
{
    struct batch batch = {.mutations_count = 1 + (uint32_t)rand_below(&model->rand, MUTATIONS_MAX)};
    for (uint32_t i = 0; i < batch.mutations_count; i++)
        batch.mutations[i] = draw_mutation(model);
    if (chance(model, 30))
        batch.conditions_count = 1 + (uint32_t)rand_below(&model->rand, CONDITIONS_MAX);
    for (uint32_t i = 0; i < batch.conditions_count; i++)
        batch.conditions[i] = draw_condition(model);
    if (chance(model, 40))
        batch.flags = ENGINE_WRITE_WANT_PREVIOUS;
    return batch;
}

/* Submits a chain to both engines, waits for both, and compares all results. */
static void run_chain(struct model *model, const struct batch *batches, unsigned count)
{
    static struct pending_write pending[2][CHAIN_MAX];
    struct latch latch;
    latch_init(&latch, 2 * count);
    for (unsigned e = 0; e < 2; e++) {
        struct task_list list = {0};
        for (unsigned i = 0; i < count; i++) {
            struct pending_write *one = &pending[e][i];
            pending_write_init(one, &latch, NULL, batches[i].mutations, batches[i].mutations_count);
            one->write.conditions = batches[i].conditions;
            one->write.conditions_count = batches[i].conditions_count;
            one->write.flags = batches[i].flags;
            task_list_push(&list, &one->write.op.task);
        }
        engine_write_list(model->fixtures[e].engine, &list);
    }
    latch_wait(&latch);
    latch_deinit(&latch);
    for (unsigned i = 0; i < count; i++) {
        struct engine_write *a = &pending[0][i].write;
        struct engine_write *b = &pending[1][i].write;
        model_same(model, "a batch's error", a->op.error, b->op.error);
        if (a->op.error == 0)
            model_same(model, "keys removed", (long long)a->removed_count,
                       (long long)b->removed_count);
        model_same(model, "previous_found", a->previous_found, b->previous_found);
        model_same_bytes(model, "the previous value", buf_slice(&a->previous),
                         buf_slice(&b->previous));
        buf_deinit(&a->previous);
        buf_deinit(&b->previous);
    }
}

static void step_write(struct model *model)
{
    struct batch batch = draw_batch(model);
    run_chain(model, &batch, 1);
}

static void step_chain(struct model *model)
{
    struct batch batches[CHAIN_MAX];
    unsigned count = 2 + (unsigned)rand_below(&model->rand, CHAIN_MAX - 1);
    for (unsigned i = 0; i < count; i++)
        batches[i] = draw_batch(model);
    run_chain(model, batches, count);
}

/* Replaces a value on the condition that it is the one that is there. */
static void step_compare_and_set(struct model *model)
{
    kvs_slice key = draw_key(model);
    struct buf seen;
    if (get_copy(&model->fixtures[0], 0, key, &seen) == 0) {
        struct batch batch = {.mutations = {mutation_set(key, draw_value(model))},
                              .mutations_count = 1,
                              .conditions = {{.kind = ENGINE_CONDITION_EQUALS,
                                              .key = key,
                                              .value = buf_slice(&seen)}},
                              .conditions_count = 1,
                              .flags = ENGINE_WRITE_WANT_PREVIOUS};
        run_chain(model, &batch, 1);
    }
    buf_deinit(&seen);
}

/* Keys whose life ends before anyone looks again: both engines must agree that they are gone. */
static void step_expire(struct model *model)
{
    struct batch batch = {.mutations_count = 1 + (uint32_t)rand_below(&model->rand, 4)};
    for (uint32_t i = 0; i < batch.mutations_count; i++) {
        batch.mutations[i] = mutation_set(draw_key(model), draw_value(model));
        batch.mutations[i].ttl_ms = 1;
    }
    run_chain(model, &batch, 1);
    usleep(3000);
}

/* --- reads ------------------------------------------------------------------------------------*/

static void views_begin(struct model *model, const struct held *held, struct engine_view views[2])
{
    for (unsigned e = 0; e < 2; e++) {
        int error = engine_view_begin(model->fixtures[e].engine,
                                      held != NULL ? held->snapshots[e] : NULL, true, &views[e]);
        model_same(model, "view_begin", 0, error);
    }
}

static void views_end(struct engine_view views[2])
{
    for (unsigned e = 0; e < 2; e++)
        engine_view_end(&views[e]);
}

static void compare_range(struct model *model, struct engine_view views[2],
                          const struct engine_range *range)
{
    struct pairs pairs[2];
    uint64_t counts[2] = {0};
    for (unsigned e = 0; e < 2; e++) {
        model_same(model, "a scan's error", 0, pairs_scan(&views[e], range, &pairs[e]));
        model_same(model, "a count's error", 0, engine_count(&views[e], range, &counts[e]));
    }
    model_same(model, "pairs in a range", (long long)pairs[0].count, (long long)pairs[1].count);
    model_same(model, "the count of a range", (long long)counts[0], (long long)counts[1]);
    for (size_t i = 0; i < pairs[0].count; i++) {
        model_same_bytes(model, "a key in a scan", pairs_key(&pairs[0], i),
                         pairs_key(&pairs[1], i));
        model_same_bytes(model, "a value in a scan", pairs_value(&pairs[0], i),
                         pairs_value(&pairs[1], i));
    }
    for (unsigned e = 0; e < 2; e++)
        pairs_deinit(&pairs[e]);
}

static void compare_all(struct model *model, struct engine_view views[2])
{
    for (uint8_t family = 0; family < FAMILIES; family++) {
        struct engine_range range = {.family = family, .reverse = chance(model, 50)};
        compare_range(model, views, &range);
    }
}

static void compare_gets(struct model *model, struct engine_view views[2], unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        kvs_slice key = draw_key(model);
        unsigned family = draw_family(model);
        kvs_slice values[2] = {{0}};
        int a = engine_get(&views[0], family, key, &values[0]);
        int b = engine_get(&views[1], family, key, &values[1]);
        model_same(model, "a get's error", a, b);
        model_same_bytes(model, "a get's value", values[0], values[1]);
    }
}

/* A view that may not block gives the right answer or says that it would have to. */
static void step_get_at_once(struct model *model)
{
    for (unsigned i = 0; i < 10; i++) {
        struct engine_view view;
        kvs_slice key = draw_key(model);
        struct buf expected;
        kvs_slice value = {0};
        int a = get_copy(&model->fixtures[0], 0, key, &expected);
        model_same(model, "view_begin", 0,
                   engine_view_begin(model->fixtures[1].engine, NULL, false, &view));
        int b = engine_get(&view, 0, key, &value);
        if (b != ENGINE_WOULD_BLOCK) {
            model_same(model, "an immediate get's error", a, b);
            model_same_bytes(model, "an immediate get's value", buf_slice(&expected), value);
        }
        engine_view_end(&view);
        buf_deinit(&expected);
    }
}

static void step_get(struct model *model)
{
    struct engine_view views[2];
    views_begin(model, NULL, views);
    compare_gets(model, views, 10);
    views_end(views);
}

static void step_scan(struct model *model)
{
    struct engine_view views[2];
    views_begin(model, NULL, views);
    for (unsigned i = 0; i < 4; i++) {
        struct engine_range range = draw_range(model);
        compare_range(model, views, &range);
    }
    views_end(views);
}

static void step_all(struct model *model)
{
    struct engine_view views[2];
    views_begin(model, NULL, views);
    compare_all(model, views);
    views_end(views);
}

struct page {
    struct buf last; /* the page's last key */
    unsigned left;
    unsigned seen;
};

static int page_add(void *arg, kvs_slice key, kvs_slice value)
{
    struct page *page = arg;
    buf_clear(&page->last);
    if (buf_append_slice(&page->last, key) != 0)
        abort();
    page->seen++;
    return --page->left == 0;
}

/* Reads a range in pages, each begins behind the last key of the one before, as a client does. */
static unsigned pages_read(struct engine_view *view, struct engine_range range, unsigned page_size)
{
    struct page page = {.last = BUF_INIT};
    struct buf bound = BUF_INIT;
    do {
        page.left = page_size;
        if (engine_scan(view, &range, page_add, &page) != 1)
            break;
        buf_clear(&bound);
        if (buf_append_slice(&bound, buf_slice(&page.last)) != 0)
            abort();
        if (range.reverse) {
            range.end = buf_slice(&bound);
        } else {
            if (buf_append_u8(&bound, 0) != 0)
                abort();
            range.start = buf_slice(&bound);
        }
    } while (true);
    buf_deinit(&bound);
    buf_deinit(&page.last);
    return page.seen;
}

static void step_pages(struct model *model)
{
    struct engine_view views[2];
    views_begin(model, NULL, views);
    struct engine_range range = draw_range(model);
    unsigned page_size = 1 + (unsigned)rand_below(&model->rand, 5);
    uint64_t count;
    model_same(model, "a count's error", 0, engine_count(&views[0], &range, &count));
    for (unsigned e = 0; e < 2; e++)
        model_same(model, "keys in pages", (long long)count,
                   pages_read(&views[e], range, page_size));
    views_end(views);
}

/* --- moments that are held --------------------------------------------------------------------*/

static void step_hold(struct model *model)
{
    if (model->held_count == HELD_MAX)
        return;
    struct held *held = &model->held[model->held_count++];
    held->is_view = chance(model, 40);
    for (unsigned e = 0; e < 2 && held->is_view; e++)
        model_same(model, "view_begin", 0,
                   engine_view_begin(model->fixtures[e].engine, NULL, true, &held->views[e]));
    for (unsigned e = 0; e < 2 && !held->is_view; e++)
        model_same(model, "snapshot_take", 0,
                   engine_snapshot_take(model->fixtures[e].engine, &held->snapshots[e]));
}

static void held_compare(struct model *model, struct held *held)
{
    struct engine_view of_snapshot[2];
    struct engine_view *views = held->views;
    if (!held->is_view) {
        views = of_snapshot;
        views_begin(model, held, views);
    }
    compare_all(model, views);
    compare_gets(model, views, 5);
    if (!held->is_view)
        views_end(views);
}

static void step_held(struct model *model)
{
    if (model->held_count > 0)
        held_compare(model, &model->held[rand_below(&model->rand, model->held_count)]);
}

static void held_release(struct model *model, unsigned which)
{
    struct held held = model->held[which];
    held_compare(model, &held);
    model->held[which] = model->held[--model->held_count];
    if (held.is_view) {
        views_end(held.views);
        return;
    }
    for (unsigned e = 0; e < 2; e++)
        engine_snapshot_release(model->fixtures[e].engine, held.snapshots[e]);
}

static void step_release(struct model *model)
{
    if (model->held_count > 0)
        held_release(model, (unsigned)rand_below(&model->rand, model->held_count));
}

/* --- life -------------------------------------------------------------------------------------*/

static void step_compact(struct model *model)
{
    for (unsigned e = 0; e < 2; e++)
        model_same(model, "compact", 0,
                   control_wait(&model->fixtures[e], ENGINE_CONTROL_COMPACT, NULL));
}

static void open_other(struct model *model)
{
    struct fixture *other = &model->fixtures[1];
    other->options.sync = (enum kvs_sync)rand_below(&model->rand, 3);
    other->options.sync_interval_ms = 5;
    other->options.callers_write = chance(model, 50);
    other->options.cache_size_bytes = chance(model, 50) ? 64 * 1024 : 0; /* 0: all in memory */
    other->options.cache_prefault = other->options.cache_size_bytes > 0 && chance(model, 50);
    int error = fixture_open(other);
    if (error != 0) {
        fprintf(stderr, "model: open: %s\n", other->message.text);
        model_fail(model, "open", 0, error);
    }
}

static void step_reopen(struct model *model)
{
    struct fixture *other = &model->fixtures[1];
    if (!fixture_can(other, ENGINE_CAP_DURABLE))
        return;
    while (model->held_count > 0)
        held_release(model, model->held_count - 1);
    model_same(model, "close", 0, fixture_close(other));
    open_other(model);
    step_all(model);
}

/* Copies the files of a directory; the number of files. */
static unsigned directory_copy(const char *from, const char *to)
{
    char command[256];
    unsigned files = 0;
    if (mkdir(to, 0755) != 0)
        abort();
    DIR *directory = opendir(from);
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] != '.')
            files++;
    }
    closedir(directory);
    snprintf(command, sizeof command, "cp -a '%.80s/.' '%.80s/'", from, to);
    if (system(command) != 0)
        files = 0; /* a file went away meanwhile */
    return files;
}

/* Opens a copy of the files as they are now, without a close: as after kill -9. */
static void step_crash(struct model *model)
{
    struct fixture *other = &model->fixtures[1];
    if (!fixture_can(other, ENGINE_CAP_DURABLE))
        return;
    while (model->held_count > 0)
        held_release(model, model->held_count - 1);
    char copy[128];
    snprintf(copy, sizeof copy, "%s/crash-%u", other->root, model->step);
    /* Segments may come and go in the background: take a copy in which none did. */
    struct engine_stats before;
    struct engine_stats after;
    unsigned files;
    do {
        directory_remove(copy);
        model_same(model, "compact", 0, control_wait(other, ENGINE_CONTROL_COMPACT, NULL));
        engine_stats(other->engine, &before);
        files = directory_copy(other->directory, copy);
        engine_stats(other->engine, &after);
    } while (files == 0 || before.compactions != after.compactions ||
             before.segments != after.segments);
    model_same(model, "close", 0, fixture_close(other));
    directory_remove(other->directory);
    if (rename(copy, other->directory) != 0)
        abort();
    open_other(model);
    step_all(model);
}

static const struct {
    const char *name;
    void (*run)(struct model *model);
    unsigned weight;
} steps[] = {
    {"write", step_write, 300},
    {"chain", step_chain, 150},
    {"compare and set", step_compare_and_set, 50},
    {"expire", step_expire, 3},
    {"get", step_get, 100},
    {"get at once", step_get_at_once, 50},
    {"scan", step_scan, 100},
    {"pages", step_pages, 50},
    {"compare all", step_all, 20},
    {"hold", step_hold, 30},
    {"read held", step_held, 40},
    {"release", step_release, 28},
    {"compact", step_compact, 10},
    {"reopen", step_reopen, 8},
    {"crash", step_crash, 3},
};

static void model_step(struct model *model)
{
    unsigned weights = 0;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        weights += steps[i].weight;
    unsigned dice = (unsigned)rand_below(&model->rand, weights);
    size_t which = 0;
    while (dice >= steps[which].weight)
        dice -= steps[which++].weight;
    model->step_name = steps[which].name;
    steps[which].run(model);
}

static void model_episode(const struct engine_kind *kind, uint64_t seed)
{
    static const struct engine_kind memory = {.name = "memory",
                                              .open = memory_engine_open_blocking};
    static struct model model;
    model = (struct model){.rand = rand_seed(seed), .seed = seed, .step_name = "start"};
    keys_make(&model);
    model.value_bytes = mem_alloc(VALUE_SIZE_MAX);
    if (model.value_bytes == NULL || fixture_init(&model.fixtures[0], &memory) != 0 ||
        fixture_init(&model.fixtures[1], kind) != 0)
        abort();
    for (size_t i = 0; i < VALUE_SIZE_MAX; i++)
        model.value_bytes[i] = (uint8_t)rand_u64(&model.rand);
    model_same(&model, "open", fixture_open(&model.fixtures[0]), 0);
    open_other(&model);
    for (model.step = 1; model.step <= STEPS_PER_EPISODE; model.step++)
        model_step(&model);
    model.step_name = "end";
    while (model.held_count > 0)
        held_release(&model, model.held_count - 1);
    step_reopen(&model);
    mem_free(model.value_bytes);
    fixture_deinit(&model.fixtures[0]);
    fixture_deinit(&model.fixtures[1]);
}

int model_main(const struct engine_kind *kind, int argc, char **argv)
{
    static const struct option options[] = {{"seed", required_argument, NULL, 's'},
                                            {"seconds", required_argument, NULL, 't'},
                                            {"episodes", required_argument, NULL, 'e'},
                                            {0}};
    const char *environment = getenv("KVS_TEST_SEED");
    uint64_t seed = clock_wall_ms() * 1000;
    uint64_t seconds = 0;
    uint64_t episodes = environment != NULL ? 1 : 3;
    if (environment != NULL)
        seed = strtoull(environment, NULL, 0);
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == '?')
            return 2;
        uint64_t number = strtoull(optarg, NULL, 0);
        if (option == 's') {
            seed = number;
            episodes = 1;
        } else if (option == 't') {
            seconds = number;
        } else {
            episodes = number;
        }
    }
    uint64_t end_ms = clock_now_ms() + seconds * 1000;
    uint64_t i = 0;
    for (; i < episodes || clock_now_ms() < end_ms; i++) {
        printf("# episode with --seed %llu\n", (unsigned long long)(seed + i));
        fflush(stdout);
        model_episode(kind, seed + i);
    }
    printf("# %llu episodes of %d steps, all answers the same\n", (unsigned long long)i,
           STEPS_PER_EPISODE);
    return 0;
}

/*
 * bench/micro/engine_files.c: what an engine's files cost: restarts, space, pauses by compaction.
 *
 *   engine_files fill ENGINE DIR KEYS VALUE_SIZE SYNC [kill]
 *       sets KEYS keys of 16 bytes in random order; then closes, or ends as by kill -9
 *   engine_files open ENGINE DIR KEYS
 *       opens it; prints the time, what gets cost while it loads and then, and the memory
 *   engine_files churn ENGINE DIR KEYS VALUE_SIZE SYNC SECONDS
 *       overwrites random keys of a filled store for so long, one set after the other, each timed;
 *       then asks for a compaction. Prints percentiles of the sets that ran while compaction
 *       did and of the others, and the space on disk beside the live data
 *
 * ENGINE: kvs or rocksdb; SYNC: always, interval or never.
 */
#include "base/bytes.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"
#include "engine/engine.h"
#include "usage.h"

#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define KEY_SIZE 16u
#define IN_FLIGHT 256u
#define GETS 1000000u
#define VALUE_SIZE_MAX 65536u

struct slot {
    struct engine_write write;
    kvs_mutation mutation;
    uint8_t key[KEY_SIZE];
};

static uint8_t value_bytes[VALUE_SIZE_MAX];
static sem_t completed;

static uint64_t now_us(void)
{
    return clock_now_ns() / 1000;
}

static double seconds_since(uint64_t begun_us)
{
    return (double)(now_us() - begun_us) / 1e6;
}

/* A permutation of 64-bit numbers, so keys are spread and never the same. */
static void key_make(uint8_t key[KEY_SIZE], uint64_t number)
{
    uint64_t mixed = number * 0x9e3779b97f4a7c15u;
    put_u64_be(key, mixed);
    put_u64_be(key + 8, number);
}

static void slot_on_done(struct task *task)
{
    const struct slot *slot = CONTAINER_OF(task, struct slot, write.op.task);
    if (slot->write.op.error != 0) {
        fprintf(stderr, "a set failed: %s\n", kvs_error_text(slot->write.op.error));
        exit(1);
    }
    sem_post(&completed);
}

static void slot_prepare(struct slot *slot, uint64_t number, size_t value_size)
{
    key_make(slot->key, number);
    slot->mutation = (kvs_mutation){.kind = KVS_MUTATION_SET,
                                    .key = slice_make(slot->key, KEY_SIZE),
                                    .value = slice_make(value_bytes, value_size)};
    slot->write = (struct engine_write){
        .op.task.run = slot_on_done, .mutations = &slot->mutation, .mutations_count = 1};
}

static struct engine *engine_open(const char *name, const char *directory, enum kvs_sync sync,
                                  double *ret_seconds)
{
    kvs_thread_pool *pool;
    if (kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, 4, &pool) != 0)
        exit(1);
    const struct engine_options options = {.pool = pool, .directory = directory, .sync = sync};
    engine_open_fn *open =
        strcmp(name, "rocksdb") == 0 ? rocksdb_engine_open_blocking : log_engine_open_blocking;
    struct engine *engine;
    struct engine_message message;
    uint64_t begun_us = now_us();
    int error = open(&options, &engine, &message);
    *ret_seconds = seconds_since(begun_us);
    if (error != 0) {
        fprintf(stderr, "%s\n", message.text);
        exit(1);
    }
    kvs_thread_pool_unref(pool);
    return engine;
}

static enum kvs_sync sync_of(const char *name)
{
    if (strcmp(name, "always") == 0)
        return KVS_SYNC_ALWAYS;
    return strcmp(name, "never") == 0 ? KVS_SYNC_NEVER : KVS_SYNC_INTERVAL;
}

static double resident_mib(void)
{
    unsigned long size = 0;
    unsigned long resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%lu %lu", &size, &resident) != 2)
        return 0;
    fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

static void stats_print(struct engine *engine)
{
    struct engine_stats stats;
    engine_stats(engine, &stats);
    printf("  keys %llu, live %.1f MiB, disk %.1f MiB, cache %.1f MiB, index %.1f MiB, segments "
           "%llu, compactions %llu, resident %.0f MiB\n",
           (unsigned long long)stats.keys, (double)stats.live_bytes / (1 << 20),
           (double)stats.disk_bytes / (1 << 20), (double)stats.cache_bytes / (1 << 20),
           (double)stats.index_bytes / (1 << 20), (unsigned long long)stats.segments,
           (unsigned long long)stats.compactions, resident_mib());
}

static void fill(struct engine *engine, uint64_t keys, size_t value_size)
{
    struct slot *slots = mem_zalloc(IN_FLIGHT * sizeof *slots);
    struct rand rand = rand_seed(1);
    uint64_t begun_us = now_us();
    for (uint64_t next = 0; next < keys; next += IN_FLIGHT) {
        struct task_list list = {0};
        unsigned count = keys - next < IN_FLIGHT ? (unsigned)(keys - next) : IN_FLIGHT;
        for (unsigned i = 0; i < count; i++) {
            put_u64(value_bytes, rand_u64(&rand));
            slot_prepare(&slots[i], next + i, value_size);
            task_list_push(&list, &slots[i].write.op.task);
        }
        engine_write_list(engine, &list);
        for (unsigned i = 0; i < count; i++)
            sem_wait(&completed);
    }
    double seconds = seconds_since(begun_us);
    printf("fill: %.2f s, %.0f sets/s\n", seconds, (double)keys / seconds);
    stats_print(engine);
    mem_free(slots);
}

static void get_often(struct engine *engine, uint64_t keys, unsigned count, const char *what)
{
    struct rand rand = rand_seed(2);
    uint64_t missing = 0;
    uint64_t begun_us = now_us();
    for (unsigned i = 0; i < count; i++) {
        struct engine_view view;
        uint8_t key[KEY_SIZE];
        kvs_slice value;
        key_make(key, rand_below(&rand, keys));
        engine_view_begin(engine, NULL, true, &view);
        missing += engine_get(&view, 0, slice_make(key, KEY_SIZE), &value) != 0;
        engine_view_end(&view);
    }
    double seconds = seconds_since(begun_us);
    printf("%s: %.0f gets/s, %llu missing\n", what, count / seconds, (unsigned long long)missing);
}

/* A store may be open before all of it is in memory. */
static void get_while_loading(struct engine *engine, uint64_t keys, uint64_t opened_us)
{
    struct rand rand = rand_seed(4);
    struct engine_stats stats;
    uint64_t count = 0;
    uint64_t longest_us = 0;
    do {
        struct engine_view view;
        uint8_t key[KEY_SIZE];
        kvs_slice value;
        uint64_t begun_us = now_us();
        key_make(key, rand_below(&rand, keys));
        engine_view_begin(engine, NULL, true, &view);
        int error = engine_get(&view, 0, slice_make(key, KEY_SIZE), &value);
        engine_view_end(&view);
        uint64_t took_us = now_us() - begun_us;
        if (count++ == 0)
            printf("first get: %llu us%s\n", (unsigned long long)took_us,
                   error != 0 ? ", and it failed" : "");
        longest_us = took_us > longest_us ? took_us : longest_us;
        engine_stats(engine, &stats);
    } while (stats.loading);
    printf("loaded %.3f s after the open; %llu gets meanwhile, the longest %llu us\n",
           seconds_since(opened_us), (unsigned long long)count, (unsigned long long)longest_us);
}

/* --- churn ------------------------------------------------------------------------------------ */

struct latencies {
    uint32_t *us;
    size_t count;
    size_t capacity;
};

static void latencies_add(struct latencies *latencies, uint32_t us)
{
    if (latencies->count == latencies->capacity) {
        latencies->capacity = latencies->capacity > 0 ? 2 * latencies->capacity : 65536;
        latencies->us = mem_realloc(latencies->us, latencies->capacity * sizeof *latencies->us);
    }
    latencies->us[latencies->count++] = us;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void latencies_print(struct latencies *latencies, const char *what)
{
    size_t count = latencies->count;
    if (count == 0)
        return;
    qsort(latencies->us, count, sizeof *latencies->us, compare_u32);
    printf("%s: %zu sets, p50 %u us, p99 %u us, p99.9 %u us, p99.99 %u us, max %u us\n", what,
           count, latencies->us[count / 2], latencies->us[count * 99 / 100],
           latencies->us[count * 999 / 1000], latencies->us[count * 9999 / 10000],
           latencies->us[count - 1]);
    mem_free(latencies->us);
}

static void on_control_done(struct task *task)
{
    (void)task;
    sem_post(&completed);
}

static void churn(struct engine *engine, uint64_t keys, size_t value_size, unsigned for_seconds)
{
    struct latencies quiet = {0};
    struct latencies compacting = {0};
    struct rand rand = rand_seed(3);
    uint64_t begun_us = now_us();
    uint64_t disk_max = 0;
    struct slot slot;
    struct engine_stats before;
    engine_stats(engine, &before);
    for (uint64_t n = 0; seconds_since(begun_us) < for_seconds; n++) {
        uint64_t set_us = now_us();
        slot_prepare(&slot, rand_below(&rand, keys), value_size);
        engine_write(engine, &slot.write);
        sem_wait(&completed);
        uint32_t took_us = (uint32_t)(now_us() - set_us);
        struct engine_stats stats;
        engine_stats(engine, &stats);
        latencies_add(stats.compacting ? &compacting : &quiet, took_us);
        if (stats.disk_bytes > disk_max)
            disk_max = stats.disk_bytes;
    }
    latencies_print(&quiet, "without compaction");
    latencies_print(&compacting, "while compaction runs");
    stats_print(engine);
    printf("  disk at most %.1f MiB\n", (double)disk_max / (1 << 20));
    struct engine_control control = {.op.task.run = on_control_done,
                                     .kind = ENGINE_CONTROL_COMPACT};
    begun_us = now_us();
    engine_control(engine, &control);
    sem_wait(&completed);
    struct engine_stats after;
    engine_stats(engine, &after);
    printf("compact: %.2f s; disk / live = %.3f\n", seconds_since(begun_us),
           (double)after.disk_bytes / (double)after.live_bytes);
    stats_print(engine);
}

static const char usage_text[] =
    "engine_files fill ENGINE DIR KEYS VALUE_SIZE SYNC [kill]\n"
    "       engine_files open ENGINE DIR KEYS\n"
    "       engine_files churn ENGINE DIR KEYS VALUE_SIZE SYNC SECONDS";

static int usage(void)
{
    fprintf(stderr, "usage: %s\n", usage_text);
    return 2;
}

int main(int argc, char **argv)
{
    usage_check(argc, argv, 4, usage_text);
    const char *command = argv[1];
    uint64_t keys = strtoull(argv[4], NULL, 10);
    size_t value_size = argc > 5 ? strtoul(argv[5], NULL, 10) : 0;
    enum kvs_sync sync = argc > 6 ? sync_of(argv[6]) : KVS_SYNC_INTERVAL;
    if (keys == 0 || value_size > VALUE_SIZE_MAX)
        return usage();
    sem_init(&completed, 0, 0);
    double open_seconds;
    struct engine *engine = engine_open(argv[2], argv[3], sync, &open_seconds);
    printf("open: %.3f s\n", open_seconds);
    if (strcmp(command, "fill") == 0 && argc >= 7) {
        fill(engine, keys, value_size);
        if (argc > 7) {
            fflush(NULL);
            raise(SIGKILL);
        }
    } else if (strcmp(command, "open") == 0) {
        get_while_loading(engine, keys, now_us());
        stats_print(engine);
        get_often(engine, keys, GETS / 10, "at once");
        sleep(3); /* what goes on in the background */
        get_often(engine, keys, GETS, "after 3 s");
        stats_print(engine);
    } else if (strcmp(command, "churn") == 0 && argc == 8) {
        churn(engine, keys, value_size, (unsigned)strtoul(argv[7], NULL, 10));
    } else {
        return usage();
    }
    uint64_t begun_us = now_us();
    int error = engine_close_blocking(engine);
    printf("close: %.3f s%s%s\n", seconds_since(begun_us), error != 0 ? ": " : "",
           error != 0 ? kvs_error_text(error) : "");
    return error != 0;
}

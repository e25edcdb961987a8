/*
 * The calls of our own client of TiKV, made against a server: ../../README.md has the commands.
 *
 * A call that goes wrong, or finds what it should not, ends its test: it says why, and jumps back
 * to run_test. Only the main thread jumps; what other threads find they leave in their `why`.
 */
#include <kvs/kvs.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    SHARED_COUNT = 300,
    CALL_SECONDS_MAX = 300, /* a bound on what hangs, also on a busy machine */
    WORKERS_MAX = 64,
    FILL_MAX = 1500,
    TEXT_MAX = 256,
    KEY_MAX = 8193,
    MIB = 1024 * 1024,
};

static struct {
    kvs_runtime *runtime;
    kvs_store *store;
    const char *pd;
    const char *space;
    const char *prefix;
    bool failed;
    bool skipped;
    char why[TEXT_MAX];
    jmp_buf back;
} test;

/* --- results ------------------------------------------------------------------------------------
 */

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(test.why, sizeof test.why, format, arguments);
    va_end(arguments);
    longjmp(test.back, 1);
}

#define CHECK(condition, ...)  \
    do {                       \
        if (!(condition))      \
            fail(__VA_ARGS__); \
    } while (0)

static void run_test(const char *name, void (*body)(void))
{
    test.skipped = false;
    if (setjmp(test.back) == 0) {
        body();
        printf(test.skipped ? "ok - %s # SKIP %s\n" : "ok - %s\n", name, test.why);
    } else {
        test.failed = true;
        printf("not ok - %s: %s\n", name, test.why);
    }
    fflush(stdout);
}

static void skip(const char *why)
{
    test.skipped = true;
    snprintf(test.why, sizeof test.why, "%s", why);
}

/* The future's error; its owner still frees it. */
static int wait_for(kvs_future *future)
{
    if (future == NULL)
        return KVS_ERR_NO_MEMORY;
    return kvs_future_wait(future, CALL_SECONDS_MAX * 1000LL);
}

static kvs_future *must(kvs_future *future)
{
    int error = wait_for(future);
    CHECK(error == 0, "%s", future != NULL ? kvs_future_error_message(future) : "no memory");
    return future;
}

static void done(kvs_future *future)
{
    kvs_future_free(must(future));
}

static int error_of(kvs_future *future)
{
    int error = wait_for(future);
    kvs_future_free(future);
    return error;
}

static int64_t number_of(kvs_future *future)
{
    int64_t number = -1;
    kvs_future_get_number(must(future), &number);
    kvs_future_free(future);
    return number;
}

/* --- keys and values ----------------------------------------------------------------------------
 */

struct text {
    char bytes[TEXT_MAX];
};

static kvs_slice slice_of(const void *data, size_t size)
{
    return (kvs_slice){.data = data, .size = size};
}

static bool same(kvs_slice a, kvs_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* In `room`, which lasts as long as the caller's. */
static kvs_slice key_in(struct text *room, const char *name, int number)
{
    if (number < 0)
        snprintf(room->bytes, TEXT_MAX, "%s%s", test.prefix, name);
    else
        snprintf(room->bytes, TEXT_MAX, "%s%s/%05d", test.prefix, name, number);
    return kvs_slice_of(room->bytes);
}

#define KEY(name) key_in(&(struct text){{0}}, name, -1)
#define KEY_OF(name, number) key_in(&(struct text){{0}}, name, number)

static kvs_slice value_in(struct text *room, int number)
{
    snprintf(room->bytes, TEXT_MAX, "value %d", number);
    return kvs_slice_of(room->bytes);
}

static void expect(kvs_slice key, const char *wanted)
{
    kvs_future *future = kvs_store_get(test.store, key);
    int error = wait_for(future);
    kvs_slice value = {0};
    CHECK(error == 0 || error == KVS_ERR_NOT_FOUND, "%s", kvs_future_error_message(future));
    if (error == 0)
        kvs_future_get_value(future, &value);
    if (wanted == NULL)
        CHECK(error == KVS_ERR_NOT_FOUND, "a key is there that should not be");
    else
        CHECK(error == 0 && same(value, kvs_slice_of(wanted)), "%.40s is not %s",
              (const char *)key.data, wanted);
    kvs_future_free(future);
}

static void put(kvs_slice key, const char *value)
{
    done(kvs_store_set(test.store, key, kvs_slice_of(value)));
}

/* NAME/00000 ... in one batch. */
static void fill(const char *name, int count)
{
    static struct text keys[FILL_MAX];
    static struct text values[FILL_MAX];
    static kvs_mutation mutations[FILL_MAX];
    for (int i = 0; i < count; i++)
        mutations[i] = (kvs_mutation){.kind = KVS_MUTATION_SET,
                                      .key = key_in(&keys[i], name, i),
                                      .value = value_in(&values[i], i)};
    done(kvs_store_batch_write(test.store, mutations, (size_t)count));
}

/* What fill wrote, from `first` on, downwards with step -1. */
static void expect_scan(kvs_slice start, kvs_slice end, uint32_t limit, unsigned flags,
                        const char *name, int first, size_t count)
{
    const kvs_pair *pairs;
    size_t found;
    kvs_future *future = must(kvs_store_scan(test.store, start, end, limit, flags));
    kvs_future_get_pairs(future, &pairs, &found);
    CHECK(found == count, "%s: %zu pairs instead of %zu", name, found, count);
    int step = (flags & KVS_OP_FLAG_REVERSE) != 0 ? -1 : 1;
    for (size_t i = 0; i < count; i++) {
        struct text key;
        struct text value;
        int number = first + step * (int)i;
        CHECK(same(pairs[i].key, key_in(&key, name, number)), "%s: key %zu differs", name, i);
        kvs_slice wanted = value_in(&value, number);
        if ((flags & KVS_OP_FLAG_KEYS_ONLY) != 0)
            wanted.size = 0;
        CHECK(same(pairs[i].value, wanted), "%s: value %zu differs", name, i);
    }
    kvs_future_free(future);
}

/* --- the list -----------------------------------------------------------------------------------
 */

static void one_key(void)
{
    kvs_slice key = KEY("one");
    expect(key, NULL);
    put(key, "first");
    expect(key, "first");
    put(key, "second");
    expect(key, "second");
    CHECK(number_of(kvs_store_exists(test.store, key)) == 1, "exists denies it");
    done(kvs_store_remove(test.store, key));
    expect(key, NULL);
    CHECK(number_of(kvs_store_exists(test.store, key)) == 0, "exists after remove");
    CHECK(error_of(kvs_store_remove(test.store, key)) == KVS_ERR_NOT_FOUND, "removed twice");
}

static void empty_value(void)
{
    put(KEY("empty"), "");
    expect(KEY("empty"), "");
}

static void batches(void)
{
    static struct text keys[FILL_MAX + 1];
    static kvs_slice slices[FILL_MAX + 1];
    static kvs_mutation removes[FILL_MAX + 1];
    const kvs_pair *pairs;
    size_t count;
    fill("batch", FILL_MAX);
    for (int i = 0; i <= FILL_MAX; i++) {
        slices[i] = key_in(&keys[i], i < FILL_MAX ? "batch" : "batch/missing", i);
        removes[i] = (kvs_mutation){.kind = KVS_MUTATION_REMOVE, .key = slices[i]};
    }
    kvs_future *future = must(kvs_store_batch_get(test.store, slices, FILL_MAX + 1));
    kvs_future_get_pairs(future, &pairs, &count);
    CHECK(count == FILL_MAX + 1, "batch get gives %zu answers", count);
    CHECK(!pairs[FILL_MAX].found, "a missing key is there");
    for (int i = 0; i < FILL_MAX; i++) {
        struct text value;
        CHECK(pairs[i].found && same(pairs[i].key, slices[i]) &&
                  same(pairs[i].value, value_in(&value, i)),
              "batch get: pair %d differs", i);
    }
    kvs_future_free(future);
    done(kvs_store_batch_write(test.store, removes, FILL_MAX + 1));
    CHECK(number_of(kvs_store_count(test.store, KEY("batch/"), KEY("batch0"))) == 0,
          "there after batch remove");
}

static void mixed_batch(void)
{
    fill("mixed", 10);
    struct text rooms[4];
    kvs_mutation mutations[] = {
        {.kind = KVS_MUTATION_REMOVE_RANGE,
         .key = key_in(&rooms[0], "mixed", 2),
         .value = key_in(&rooms[1], "mixed", 8)},
        {.kind = KVS_MUTATION_SET,
         .key = key_in(&rooms[2], "mixed", 5),
         .value = kvs_slice_of("new")},
        {.kind = KVS_MUTATION_REMOVE, .key = key_in(&rooms[3], "mixed", 9)},
    };
    done(kvs_store_batch_write(test.store, mutations, 3));
    expect(KEY_OF("mixed", 4), NULL);
    expect(KEY_OF("mixed", 5), "new");
    expect(KEY_OF("mixed", 9), NULL);
    CHECK(number_of(kvs_store_count(test.store, KEY("mixed/"), KEY("mixed0"))) == 4,
          "not four are left");
}

static void scans(void)
{
    fill("scan", 1200);
    kvs_slice from = KEY("scan/");
    kvs_slice to = KEY("scan0");
    expect_scan(from, to, 5000, 0, "scan", 0, 1200);
    expect_scan(from, to, 7, 0, "scan", 0, 7);
    expect_scan(KEY_OF("scan", 10), KEY_OF("scan", 20), 100, 0, "scan", 10, 10);
    expect_scan(from, to, 3, KVS_OP_FLAG_KEYS_ONLY, "scan", 0, 3);
    CHECK(number_of(kvs_store_count(test.store, from, to)) == 1200, "count differs");
}

static void reverse_scans(void)
{
    fill("reverse", 600);
    kvs_slice from = KEY("reverse/");
    kvs_slice to = KEY("reverse0");
    expect_scan(from, to, 5000, KVS_OP_FLAG_REVERSE, "reverse", 599, 600);
    expect_scan(from, to, 4, KVS_OP_FLAG_REVERSE, "reverse", 599, 4);
    expect_scan(KEY_OF("reverse", 4), KEY_OF("reverse", 9), 100, KVS_OP_FLAG_REVERSE, "reverse", 8,
                5);
    expect_scan(from, to, 3, KVS_OP_FLAG_REVERSE | KVS_OP_FLAG_KEYS_ONLY, "reverse", 599, 3);
}

static void remove_range(void)
{
    fill("delete", 500);
    kvs_slice from = KEY("delete/");
    kvs_slice to = KEY("delete0");
    int64_t removed =
        number_of(kvs_store_remove_range(test.store, KEY_OF("delete", 100), KEY_OF("delete", 400)));
    CHECK(removed == 300, "%lld removed instead of 300", (long long)removed);
    expect_scan(from, KEY_OF("delete", 400), 1000, 0, "delete", 0, 100);
    expect_scan(KEY_OF("delete", 100), to, 1000, 0, "delete", 400, 100);
    CHECK(number_of(kvs_store_remove_range(test.store, from, to)) == 200, "not 200 removed");
    CHECK(number_of(kvs_store_count(test.store, from, to)) == 0, "pairs are left");
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void times_to_live(void)
{
    kvs_slice brief = KEY("ttl/short");
    int64_t began_ms = now_ms(); /* from the answer on it lives for what is left */
    int error = error_of(kvs_store_set_ttl(test.store, brief, kvs_slice_of("v"), 2000));
    if (error == KVS_ERR_UNSUPPORTED) {
        skip("this server has none");
        return;
    }
    CHECK(error == 0, "%s", kvs_error_text(error));
    done(kvs_store_set_ttl(test.store, KEY("ttl/long"), kvs_slice_of("v"), 100000));
    while (number_of(kvs_store_exists(test.store, brief)) == 1) {
        CHECK(now_ms() - began_ms < CALL_SECONDS_MAX * 1000, "2 s do not pass");
        done(kvs_future_delay(test.runtime, 50));
    }
    CHECK(now_ms() - began_ms >= 1000, "gone too early");
    expect(KEY("ttl/long"), "v");
    CHECK(number_of(kvs_store_count(test.store, KEY("ttl/"), KEY("ttl0"))) == 1, "counted too");
}

static void swap(const char *previous, const char *value, const char *wanted, bool wanted_done)
{
    kvs_slice expected = previous != NULL ? kvs_slice_of(previous) : (kvs_slice){0};
    kvs_future *future = kvs_store_compare_and_set(
        test.store, KEY("cas"), previous != NULL ? &expected : NULL, kvs_slice_of(value));
    int error = wait_for(future);
    kvs_slice found = {0};
    int64_t there = 0;
    CHECK(error == 0 || error == KVS_ERR_CONDITION_FAILED, "%s", kvs_future_error_message(future));
    CHECK((error == 0) == wanted_done, "to %s: swapped %d", value, error == 0);
    if (error != 0) {
        kvs_future_get_number(future, &there);
        kvs_future_get_value(future, &found);
        CHECK(there == (wanted != NULL), "to %s: something there: %d", value, (int)there);
        CHECK(wanted == NULL || same(found, kvs_slice_of(wanted)), "to %s: another value", value);
    }
    kvs_future_free(future);
}

static void compare_and_swap(void)
{
    swap("x", "1", NULL, false);
    swap(NULL, "1", NULL, true);
    swap(NULL, "2", "1", false);
    swap("9", "2", "1", false);
    swap("1", "2", NULL, true);
    expect(KEY("cas"), "2");
    done(kvs_store_remove(test.store, KEY("cas")));
}

/* --- several threads ----------------------------------------------------------------------------
 */

struct worker {
    pthread_t thread;
    int number;
    int seconds;
    int count;
    int errors;
    char why[TEXT_MAX]; /* "": all went well */
};

static void in_parallel(struct worker *workers, int count, void *(*body)(void *))
{
    for (int i = 0; i < count; i++) {
        workers[i].number = i;
        CHECK(pthread_create(&workers[i].thread, NULL, body, &workers[i]) == 0, "no thread");
    }
    for (int i = 0; i < count; i++)
        pthread_join(workers[i].thread, NULL);
    for (int i = 0; i < count; i++)
        CHECK(workers[i].why[0] == '\0', "worker %d: %s", i, workers[i].why);
}

static void *swap_often(void *arg)
{
    struct worker *worker = arg;
    char seen[TEXT_MAX] = "";
    struct text room;
    kvs_slice key = key_in(&room, "counter", -1);
    while (worker->count < 25 && worker->why[0] == '\0') {
        char next[TEXT_MAX];
        snprintf(next, sizeof next, "%d", atoi(seen) + 1);
        kvs_slice expected = kvs_slice_of(seen);
        kvs_future *future = kvs_store_compare_and_set(
            test.store, key, seen[0] != '\0' ? &expected : NULL, kvs_slice_of(next));
        int error = wait_for(future);
        kvs_slice found = {0};
        if (error == 0) {
            worker->count++;
            found = kvs_slice_of(next);
        } else if (error == KVS_ERR_CONDITION_FAILED) {
            kvs_future_get_value(future, &found);
        } else {
            snprintf(worker->why, TEXT_MAX, "%s", kvs_future_error_message(future));
        }
        snprintf(seen, sizeof seen, "%.*s", (int)found.size, (const char *)found.data);
        kvs_future_free(future);
    }
    return NULL;
}

static void swaps_of_many(void)
{
    struct worker workers[8] = {0};
    in_parallel(workers, 8, swap_often);
    expect(KEY("counter"), "200");
}

/* Puts a key as its own value, and reads another. Gives the error, which is in `why` too. */
static int put_and_get(struct worker *worker, kvs_slice key, kvs_slice other)
{
    kvs_future *future = kvs_store_set(test.store, key, key);
    int error = wait_for(future);
    if (error == 0) {
        kvs_slice value = {0};
        kvs_future_free(future);
        future = kvs_store_get(test.store, other);
        error = wait_for(future);
        if (error == 0)
            kvs_future_get_value(future, &value);
        if (error == KVS_ERR_NOT_FOUND || (error == 0 && !same(value, other)))
            snprintf(worker->why, TEXT_MAX, "%.60s is lost", (const char *)other.data);
    }
    if (error != 0 && future != NULL && worker->errors++ < 3) {
        printf("# %s\n", kvs_future_error_message(future));
        fflush(stdout);
    }
    kvs_future_free(future);
    return error;
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    for (int i = 0; i < 50 && worker->why[0] == '\0'; i++) {
        struct text room;
        snprintf(room.bytes, TEXT_MAX, "%sworker/%02d-%d", test.prefix, worker->number, i);
        kvs_slice key = kvs_slice_of(room.bytes);
        int error = put_and_get(worker, key, key);
        if (error != 0 && worker->why[0] == '\0')
            snprintf(worker->why, TEXT_MAX, "%s", kvs_error_text(error));
    }
    return NULL;
}

static void workers(void)
{
    struct worker all[WORKERS_MAX] = {0};
    in_parallel(all, WORKERS_MAX, work);
    int64_t count = number_of(kvs_store_count(test.store, KEY("worker/"), KEY("worker0")));
    CHECK(count == WORKERS_MAX * 50, "%lld keys", (long long)count);
}

/* --- families and sizes -------------------------------------------------------------------------
 */

static kvs_op op_of(enum kvs_op_kind kind, uint8_t family, kvs_slice key, const char *value)
{
    kvs_op op = KVS_OP_INIT;
    op.kind = (uint8_t)kind;
    op.family = family;
    op.key = key;
    op.value = kvs_slice_of(value);
    return op;
}

static void column_families(void)
{
    static const char *const names[] = {"default", "write", "lock"};
    kvs_slice key = KEY("family");
    kvs_op op;
    for (uint8_t i = 0; i < 3; i++) {
        op = op_of(KVS_OP_SET, i, key, names[i]);
        done(kvs_store_call(test.store, &op));
    }
    op = op_of(KVS_OP_REMOVE, 1, key, "");
    done(kvs_store_call(test.store, &op));
    for (uint8_t i = 0; i < 3; i++) {
        op = op_of(KVS_OP_GET, i, key, "");
        kvs_future *future = kvs_store_call(test.store, &op);
        kvs_slice value = {0};
        int error = wait_for(future);
        CHECK(error == (i == 1 ? KVS_ERR_NOT_FOUND : 0), "%s: %s", names[i], kvs_error_text(error));
        if (error == 0)
            kvs_future_get_value(future, &value);
        CHECK(i == 1 || same(value, kvs_slice_of(names[i])), "%s differs", names[i]);
        kvs_future_free(future);
    }
}

static void shared_value(uint8_t *bytes, size_t size, int number)
{
    for (size_t at = 0; at < size; at++)
        bytes[at] = (uint8_t)((size_t)number * 31 + at * 7);
}

static kvs_slice long_key(uint8_t *bytes, const char *name, size_t size)
{
    struct text room;
    kvs_slice start = key_in(&room, name, -1);
    memset(bytes, 'k', size);
    memcpy(bytes, start.data, start.size);
    return slice_of(bytes, size);
}

static void sizes(void)
{
    static uint8_t bytes[8 * MIB];
    static uint8_t key[KEY_MAX];
    static const size_t all[] = {64 * 1024, MIB, 8 * MIB - 64 * 1024};
    for (size_t i = 0; i < 3; i++) {
        kvs_slice value = {0};
        shared_value(bytes, all[i], (int)i);
        done(kvs_store_set(test.store, KEY("size"), slice_of(bytes, all[i])));
        kvs_future *future = must(kvs_store_get(test.store, KEY("size")));
        kvs_future_get_value(future, &value);
        CHECK(same(value, slice_of(bytes, all[i])), "%zu bytes differ", all[i]);
        kvs_future_free(future);
    }
    done(kvs_store_remove(test.store, KEY("size")));
    size_t limit = strcmp(test.space, "v2") == 0 ? 8188 : 8192;
    put(long_key(key, "long-key/", limit), "v");
    expect(long_key(key, "long-key/", limit), "v");
    done(kvs_store_remove(test.store, long_key(key, "long-key/", limit)));
}

static void oversizes(void)
{
    static uint8_t bytes[17 * MIB];
    static uint8_t key[KEY_MAX];
    CHECK(error_of(kvs_store_set(test.store, long_key(key, "too-long/", KEY_MAX),
                                 kvs_slice_of("v"))) != 0,
          "a key over the limit is taken");
    CHECK(error_of(kvs_store_set(test.store, KEY("too-big"), slice_of(bytes, sizeof bytes))) ==
              KVS_ERR_TOO_LARGE,
          "a value over the limit is not TOO_LARGE");
    expect(KEY("too-big"), NULL);
}

static void list(void)
{
    run_test("a key is put, got and removed", one_key);
    run_test("an empty value is a value", empty_value);
    run_test("batches are put, got and removed", batches);
    run_test("batches of several kinds", mixed_batch);
    run_test("scans", scans);
    run_test("scans backward", reverse_scans);
    run_test("a range is removed", remove_range);
    run_test("keys live as long as told", times_to_live);
    run_test("values are compared and swapped", compare_and_swap);
    run_test("many swap one value", swaps_of_many);
    if (strcmp(test.space, "v2") == 0)
        printf("ok - column families are apart # SKIP API V2 has none\n");
    else
        run_test("column families are apart", column_families);
    run_test("sizes up to the limits", sizes);
    run_test("sizes over the limits are errors", oversizes);
    run_test("64 workers", workers);
}

/* --- what one client writes for all others to read ----------------------------------------------
 */

struct shared {
    uint8_t key[TEXT_MAX + 8];
    uint8_t value[500];
    kvs_slice key_slice;
    kvs_slice value_slice;
};

static struct shared shared[SHARED_COUNT];

static void shared_make(void)
{
    for (int i = 0; i < SHARED_COUNT; i++) {
        struct shared *one = &shared[i];
        int size = snprintf((char *)one->key, TEXT_MAX, "%s%04d", test.prefix, i);
        memcpy(one->key + size, (const uint8_t[]){0, 0xff, (uint8_t)i}, 3);
        one->key_slice = slice_of(one->key, (size_t)size + 3);
        one->value_slice = slice_of(one->value, (size_t)(1 + i * 37 % 500));
        shared_value(one->value, one->value_slice.size, i);
    }
}

static void write_shared(void)
{
    static kvs_mutation mutations[SHARED_COUNT];
    shared_make();
    for (int i = 0; i < SHARED_COUNT; i++) {
        mutations[i] = (kvs_mutation){
            .kind = KVS_MUTATION_SET, .key = shared[i].key_slice, .value = shared[i].value_slice};
        if (i < 10)
            done(kvs_store_set(test.store, shared[i].key_slice, shared[i].value_slice));
    }
    done(kvs_store_batch_write(test.store, mutations + 10, SHARED_COUNT - 10));
}

static void expect_shared(kvs_future *future, bool backward, const char *what)
{
    const kvs_pair *pairs;
    size_t count;
    kvs_future_get_pairs(must(future), &pairs, &count);
    CHECK(count == SHARED_COUNT, "%s gives %zu pairs", what, count);
    for (size_t i = 0; i < count; i++) {
        const struct shared *one = &shared[backward ? count - 1 - i : i];
        CHECK(same(pairs[i].key, one->key_slice) && same(pairs[i].value, one->value_slice),
              "%s: pair %zu differs", what, i);
    }
    kvs_future_free(future);
}

static void read_shared(void)
{
    kvs_slice keys[SHARED_COUNT];
    shared_make();
    for (int i = 0; i < SHARED_COUNT; i++)
        keys[i] = shared[i].key_slice;
    expect_shared(kvs_store_scan(test.store, KEY(""), KEY("~"), 1000, 0), false, "scan");
    expect_shared(kvs_store_scan(test.store, KEY(""), KEY("~"), 1000, KVS_OP_FLAG_REVERSE), true,
                  "scan backward");
    expect_shared(kvs_store_batch_get(test.store, keys, SHARED_COUNT), false, "batch get");
    for (int i = 0; i < SHARED_COUNT; i += 29) {
        kvs_slice value = {0};
        kvs_future *future = must(kvs_store_get(test.store, keys[i]));
        kvs_future_get_value(future, &value);
        CHECK(same(value, shared[i].value_slice), "get %d differs", i);
        kvs_future_free(future);
    }
}

/* --- load while the server is started anew ------------------------------------------------------
 */

static kvs_slice load_key(struct text *room, int worker, int number)
{
    snprintf(room->bytes, TEXT_MAX, "%s%03d-%06d", test.prefix, worker, number);
    return kvs_slice_of(room->bytes);
}

static void *load_one(void *arg)
{
    struct worker *worker = arg;
    time_t end = time(NULL) + worker->seconds;
    struct text rooms[2];
    for (; time(NULL) < end && worker->why[0] == '\0'; worker->count++) {
        time_t begun = time(NULL);
        kvs_slice key = load_key(&rooms[0], worker->number, worker->count);
        kvs_slice other = load_key(&rooms[1], worker->number, worker->count / 2);
        int error;
        while ((error = put_and_get(worker, key, other)) != 0 && worker->why[0] == '\0' &&
               time(NULL) - begun < CALL_SECONDS_MAX)
            usleep(50000);
        if (error != 0 && worker->why[0] == '\0')
            snprintf(worker->why, TEXT_MAX, "%s", kvs_error_text(error));
    }
    return NULL;
}

static struct {
    int workers;
    int seconds;
} load_asked;

/* Every put is there: a thousand at a time. */
static void expect_puts(const struct worker *worker)
{
    static struct text rooms[1000];
    kvs_slice keys[1000];
    for (int first = 0; first < worker->count; first += 1000) {
        const kvs_pair *pairs;
        size_t found;
        size_t count = (size_t)(worker->count - first < 1000 ? worker->count - first : 1000);
        for (size_t i = 0; i < count; i++)
            keys[i] = load_key(&rooms[i], worker->number, first + (int)i);
        kvs_future *future = must(kvs_store_batch_get(test.store, keys, count));
        kvs_future_get_pairs(future, &pairs, &found);
        CHECK(found == count, "%zu answers", found);
        for (size_t i = 0; i < count; i++)
            CHECK(pairs[i].found && same(pairs[i].value, keys[i]), "%.60s is lost", rooms[i].bytes);
        kvs_future_free(future);
    }
}

static void load(void)
{
    struct worker workers[WORKERS_MAX] = {0};
    int puts = 0;
    int errors = 0;
    for (int i = 0; i < load_asked.workers; i++)
        workers[i].seconds = load_asked.seconds;
    printf("started\n");
    fflush(stdout);
    in_parallel(workers, load_asked.workers, load_one);
    for (int i = 0; i < load_asked.workers; i++) {
        expect_puts(&workers[i]);
        puts += workers[i].count;
        errors += workers[i].errors;
    }
    printf("# %d puts, each read again; %d calls failed meanwhile\n", puts, errors);
}

/* --- garbage collection -------------------------------------------------------------------------
 */

static void put_in_txn(kvs_txn_client *client, const char *value)
{
    kvs_txn *txn = kvs_txn_begin(client, NULL);
    CHECK(txn != NULL, "no memory");
    done(kvs_txn_put(txn, KEY("gc"), kvs_slice_of(value)));
    done(kvs_txn_commit(txn));
    kvs_txn_free(txn);
}

/* Tells a time from which on another client cannot read any more, and may. */
static void collect_garbage(void)
{
    char url[TEXT_MAX];
    void *opened = NULL;
    snprintf(url, sizeof url, "tikv://%s", test.pd);
    kvs_future *future = must(kvs_txn_client_open(test.runtime, url, NULL));
    kvs_future_get_pointer(future, &opened);
    kvs_future_free(future);
    kvs_txn_client *client = opened;
    put_in_txn(client, "old");
    uint64_t before = (uint64_t)number_of(kvs_txn_current_timestamp(client));
    put_in_txn(client, "new");
    uint64_t now = (uint64_t)number_of(kvs_txn_current_timestamp(client));
    uint64_t safe_point = (uint64_t)number_of(kvs_txn_gc(client, now));
    CHECK(safe_point == now, "the safe point is %llu", (unsigned long long)safe_point);
    printf("before %llu\n", (unsigned long long)before);
    done(kvs_txn_client_close(client));
}

/* --- the program --------------------------------------------------------------------------------
 */

static int connect_to(const char *pd)
{
    char url[TEXT_MAX], ca[TEXT_MAX], certificate[TEXT_MAX], key[TEXT_MAX];
    void *store = NULL;
    struct kvs_store_options options = {.size = sizeof options};
    const char *folder = getenv("KVS_TLS"); /* with the authority, and who this client is */
    snprintf(url, sizeof url, "tikv://%s", pd);
    if (folder != NULL) {
        snprintf(ca, sizeof ca, "%s/ca.pem", folder);
        snprintf(certificate, sizeof certificate, "%s/certificate.pem", folder);
        snprintf(key, sizeof key, "%s/key.pem", folder);
        options.tls_ca = ca;
        options.tls_certificate = certificate;
        options.tls_key = key;
    }
    if (strcmp(test.space, "v2") == 0)
        options.keyspace = "DEFAULT";
    int error = kvs_runtime_new(NULL, &test.runtime);
    if (error != 0)
        return error;
    kvs_future *future = kvs_store_open(test.runtime, url, &options);
    error = wait_for(future);
    if (error != 0)
        printf("not ok - connect: %s\n", kvs_future_error_message(future));
    else
        kvs_future_get_pointer(future, &store);
    kvs_future_free(future);
    test.store = store;
    return error;
}

int main(int count, char **words)
{
    static const struct {
        const char *name;
        void (*body)(void);
    } commands[] = {{"write", write_shared},
                    {"read", read_shared},
                    {"load", load},
                    {"txn-gc", collect_garbage}};
    if (count < 5) {
        fprintf(stderr, "usage: client list|write|read|load|txn-gc PD v1|v2|v1-regions PREFIX\n");
        return 2;
    }
    test.pd = words[2];
    test.space = words[3];
    test.prefix = words[4];
    load_asked.workers = count > 5 ? atoi(words[5]) : 16;
    load_asked.seconds = count > 6 ? atoi(words[6]) : 5;
    if (load_asked.workers < 1 || load_asked.workers > WORKERS_MAX || connect_to(words[2]) != 0)
        return 1;
    if (strcmp(words[1], "list") == 0)
        list();
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(words[1], commands[i].name) == 0)
            run_test(commands[i].name, commands[i].body);
    error_of(kvs_store_close(test.store));
    kvs_runtime_free(test.runtime);
    return test.failed ? 1 : 0;
}

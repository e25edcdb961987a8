/* store/local_store.c over the memory engine: every kind of operation, and its bounds. */
#include "base/mem.h"
#include "base/slice.h"
#include "engine/engine.h"
#include "runtime/runtime.h"
#include "store/store.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

#include "test.h"

struct fixture {
    kvs_thread_pool *pool;
    struct engine *engine;
    struct loop loop;
    kvs_store *store;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned done;
    bool closed;
};

static struct fixture fixture;

static void on_done(kvs_op *op)
{
    assert_true(loop_is_current(&fixture.loop));
    (void)op;
    pthread_mutex_lock(&fixture.lock);
    fixture.done++;
    pthread_cond_signal(&fixture.changed);
    pthread_mutex_unlock(&fixture.lock);
}

static void on_closed(void *arg, int error)
{
    (void)arg;
    assert_int_equal(error, 0);
    pthread_mutex_lock(&fixture.lock);
    fixture.closed = true;
    pthread_cond_signal(&fixture.changed);
    pthread_mutex_unlock(&fixture.lock);
}

static void run_many(kvs_op **ops, size_t count)
{
    fixture.done = 0;
    for (size_t i = 0; i < count; i++)
        ops[i]->on_done = on_done;
    store_submit(fixture.store, ops, count, &fixture.loop);
    pthread_mutex_lock(&fixture.lock);
    while (fixture.done < count)
        pthread_cond_wait(&fixture.changed, &fixture.lock);
    pthread_mutex_unlock(&fixture.lock);
}

static int run(kvs_op *op)
{
    run_many(&op, 1);
    return op->error;
}

static kvs_op make(enum kvs_op_kind kind, const char *key, const char *value)
{
    kvs_op op = KVS_OP_INIT;
    op.kind = (uint8_t)kind;
    op.key = kvs_slice_of(key);
    op.value = kvs_slice_of(value);
    return op;
}

static int setup(void **state)
{
    (void)state;
    pthread_mutex_init(&fixture.lock, NULL);
    pthread_cond_init(&fixture.changed, NULL);
    fixture.closed = false;
    struct engine_options options = {0};
    struct engine_message message;
    if (kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, 2, &fixture.pool) != 0)
        return -1;
    options.pool = fixture.pool;
    if (memory_engine_open_blocking(&options, &fixture.engine, &message) != 0)
        return -1;
    if (loop_init(&fixture.loop, 3) != 0 || loop_start(&fixture.loop, "test") != 0)
        return -1;
    return local_store_new(fixture.engine, 1000, &fixture.store);
}

static int teardown(void **state)
{
    (void)state;
    store_close(fixture.store, &fixture.loop, on_closed, NULL);
    pthread_mutex_lock(&fixture.lock);
    while (!fixture.closed)
        pthread_cond_wait(&fixture.changed, &fixture.lock);
    pthread_mutex_unlock(&fixture.lock);
    loop_stop(&fixture.loop);
    loop_deinit(&fixture.loop);
    int error = engine_close_blocking(fixture.engine);
    kvs_thread_pool_unref(fixture.pool);
    return error;
}

static void put(const char *key, const char *value)
{
    kvs_op op = make(KVS_OP_SET, key, value);
    assert_int_equal(run(&op), 0);
}

static void test_set_get_exists_remove(void **state)
{
    (void)state;
    kvs_op get = make(KVS_OP_GET, "a", "");
    assert_int_equal(run(&get), KVS_ERR_NOT_FOUND);
    put("a", "1");
    assert_int_equal(run(&get), 0);
    assert_slice_equal(get.result, "1");
    kvs_op_release(&get);
    assert_null(get.result.data);

    kvs_op exists = make(KVS_OP_EXISTS, "a", "");
    assert_int_equal(run(&exists), 0);
    assert_int_equal(exists.number, 1);
    kvs_op remove = make(KVS_OP_REMOVE, "a", "");
    assert_int_equal(run(&remove), 0);
    assert_int_equal(run(&remove), KVS_ERR_NOT_FOUND);
    assert_int_equal(run(&exists), 0);
    assert_int_equal(exists.number, 0);

    put("empty", "");
    get.key = kvs_slice_of("empty");
    assert_int_equal(run(&get), 0);
    assert_int_equal(get.result.size, 0);
    kvs_op_release(&get);
}

/* Gets of one submit are looked up together, family by family, between other operations. */
static void test_gets_together(void **state)
{
    (void)state;
    enum { COUNT = 50 };
    kvs_op ops[COUNT];
    kvs_op *submitted[COUNT];
    char keys[COUNT][8];
    for (unsigned i = 0; i < COUNT; i += 2) {
        snprintf(keys[i], sizeof keys[i], "k%u", i);
        put(keys[i], keys[i]);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(keys[i], sizeof keys[i], "k%u", i);
        ops[i] = make(i % 20 == 19 ? KVS_OP_EXISTS : KVS_OP_GET, keys[i], "");
        ops[i].family = i / 4 % 3 == 2;
        submitted[i] = &ops[i];
    }
    ops[7].key = (kvs_slice){0};
    run_many(submitted, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        bool found = i % 2 == 0 && ops[i].family == 0;
        if (i == 7) {
            assert_int_equal(ops[i].error, KVS_ERR_INVALID_ARGUMENT);
        } else if (ops[i].kind == KVS_OP_EXISTS) {
            assert_int_equal(ops[i].error, 0);
            assert_int_equal(ops[i].number, 0);
        } else {
            assert_int_equal(ops[i].error, found ? 0 : KVS_ERR_NOT_FOUND);
            if (found)
                assert_true(slice_equal(ops[i].result, kvs_slice_of(keys[i])));
        }
        kvs_op_release(&ops[i]);
    }
}

static void test_cas_tells_what_is_there(void **state)
{
    (void)state;
    kvs_op cas = make(KVS_OP_CAS, "k", "1");
    cas.expected = kvs_slice_of("0");
    assert_int_equal(run(&cas), KVS_ERR_CONDITION_FAILED);
    assert_int_equal(cas.number, 0);
    kvs_op_release(&cas);

    cas.flags = KVS_OP_FLAG_EXPECT_ABSENT;
    assert_int_equal(run(&cas), 0);
    kvs_op_release(&cas);
    assert_int_equal(run(&cas), KVS_ERR_CONDITION_FAILED);
    assert_int_equal(cas.number, 1);
    assert_slice_equal(cas.result, "1");
    kvs_op_release(&cas);

    cas.flags = 0;
    cas.expected = kvs_slice_of("1");
    cas.value = kvs_slice_of("2");
    assert_int_equal(run(&cas), 0);
    kvs_op_release(&cas);
}

static void test_batches(void **state)
{
    (void)state;
    kvs_mutation mutations[] = {
        {.kind = KVS_MUTATION_SET, .key = kvs_slice_of("a"), .value = kvs_slice_of("1")},
        {.kind = KVS_MUTATION_SET, .key = kvs_slice_of("b"), .value = kvs_slice_of("22")},
        {.kind = KVS_MUTATION_REMOVE, .key = kvs_slice_of("none")},
    };
    kvs_op write = make(KVS_OP_BATCH_WRITE, "", "");
    assert_int_equal(run(&write), 0);
    write.mutations = mutations;
    write.count = 3;
    assert_int_equal(run(&write), 0);

    kvs_slice keys[] = {kvs_slice_of("b"), kvs_slice_of("none"), kvs_slice_of("a")};
    kvs_op get = make(KVS_OP_BATCH_GET, "", "");
    get.keys = keys;
    get.count = 3;
    assert_int_equal(run(&get), 0);
    assert_int_equal(get.pairs_count, 3);
    assert_slice_equal(get.pairs[0].value, "22");
    assert_true(get.pairs[0].found);
    assert_false(get.pairs[1].found);
    assert_slice_equal(get.pairs[2].key, "a");
    assert_slice_equal(get.pairs[2].value, "1");
    kvs_op_release(&get);

    mutations[1].kind = 77;
    assert_int_equal(run(&write), KVS_ERR_INVALID_ARGUMENT);
    assert_string_not_equal(write.message, "");
}

static void put_numbers(unsigned count, size_t value_size)
{
    char value[1000];
    memset(value, 'v', sizeof value);
    for (unsigned i = 0; i < count; i++) {
        char key[16];
        snprintf(key, sizeof key, "n%05u", i);
        kvs_op op = make(KVS_OP_SET, key, "");
        op.value = (kvs_slice){(const uint8_t *)value, value_size};
        assert_int_equal(run(&op), 0);
    }
}

/* Long answers come from the pool, in pages; short ones on the spot: the same results. */
static void test_scan_pages(void **state)
{
    (void)state;
    put_numbers(1500, 1000);
    kvs_op scan = make(KVS_OP_SCAN, "n", "");
    unsigned total = 0;
    char last[16] = "n";
    do {
        scan.key = kvs_slice_of(last);
        assert_int_equal(run(&scan), 0);
        for (size_t i = 0; i < scan.pairs_count; i++) {
            char key[16];
            snprintf(key, sizeof key, "n%05u", total++);
            assert_int_equal(scan.pairs[i].key.size, 6);
            assert_memory_equal(scan.pairs[i].key.data, key, 6);
            assert_int_equal(scan.pairs[i].value.size, 1000);
        }
        assert_true(scan.pairs_count < 1050);
        snprintf(last, sizeof last, "n%05u ", total - 1);
        bool more = scan.more;
        kvs_op_release(&scan);
        if (!more)
            break;
    } while (true);
    assert_int_equal(total, 1500);
}

static void test_scan_limits(void **state)
{
    (void)state;
    put_numbers(1500, 1000);
    kvs_op scan = make(KVS_OP_SCAN, "n00007", "");
    scan.end_key = kvs_slice_of("n00010");
    scan.limit = 2;
    scan.flags = KVS_OP_FLAG_KEYS_ONLY | KVS_OP_FLAG_REVERSE;
    assert_int_equal(run(&scan), 0);
    assert_int_equal(scan.pairs_count, 2);
    assert_true(scan.more);
    assert_slice_equal(scan.pairs[0].key, "n00009");
    assert_int_equal(scan.pairs[1].value.size, 0);
    kvs_op_release(&scan);

    scan = make(KVS_OP_SCAN, "", "");
    scan.limit = 1400; /* more than a page: a limit is kept, unless a page is asked for */
    assert_int_equal(run(&scan), 0);
    assert_int_equal(scan.pairs_count, 1400);
    kvs_op_release(&scan);
    scan.flags = KVS_OP_FLAG_PAGE;
    assert_int_equal(run(&scan), 0);
    assert_in_range(scan.pairs_count, 900, 1100);
    assert_true(scan.more);
    kvs_op_release(&scan);

    scan.key = kvs_slice_of("zzz");
    assert_int_equal(run(&scan), 0);
    assert_int_equal(scan.pairs_count, 0);
    assert_false(scan.more);
    kvs_op_release(&scan);
}

static void test_ranges_are_counted_and_removed(void **state)
{
    (void)state;
    put_numbers(300, 1);
    kvs_op count = make(KVS_OP_COUNT, "n00100", "");
    count.end_key = kvs_slice_of("n00200");
    assert_int_equal(run(&count), 0);
    assert_int_equal(count.number, 100);
    count.kind = KVS_OP_REMOVE_RANGE;
    assert_int_equal(run(&count), 0);
    assert_int_equal(count.number, 100);
    assert_int_equal(run(&count), 0);
    assert_int_equal(count.number, 0);
}

static void hold_thread(void *arg)
{
    sem_t *held = arg;
    sem_wait(held);
}

/* Reads that wait for the pool are given up; writes are not. */
static void test_cancelled_reads_end(void **state)
{
    (void)state;
    sem_t held;
    kvs_op ops[4] = {make(KVS_OP_CHECKSUM, "", ""), make(KVS_OP_SCAN, "", ""),
                     make(KVS_OP_COUNT, "a", ""), make(KVS_OP_SET, "kept", "v")};
    kvs_op *all[4];
    ops[1].limit = UINT32_MAX;
    put_numbers(300, 1);
    sem_init(&held, 0, 0);
    for (unsigned i = 0; i < 2; i++) /* all threads of the pool */
        assert_int_equal(kvs_thread_pool_submit(fixture.pool, hold_thread, &held), 0);
    fixture.done = 0;
    for (unsigned i = 0; i < 4; i++) {
        all[i] = &ops[i];
        ops[i].on_done = on_done;
    }
    store_submit(fixture.store, all, 4, &fixture.loop);
    for (unsigned i = 0; i < 3; i++)
        store_cancel(fixture.store, &ops[i]);
    for (unsigned i = 0; i < 2; i++)
        sem_post(&held);
    pthread_mutex_lock(&fixture.lock);
    while (fixture.done < 4)
        pthread_cond_wait(&fixture.changed, &fixture.lock);
    pthread_mutex_unlock(&fixture.lock);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(ops[i].error, KVS_ERR_CANCELLED);
    assert_int_equal(ops[3].error, 0);
    assert_int_equal(run(&ops[0]), 0); /* submitted anew, it runs */
    kvs_op_release(&ops[0]);
    sem_destroy(&held);
}

static void test_misuse_is_told(void **state)
{
    (void)state;
    char large[KVS_KEY_SIZE_MAX + 2];
    memset(large, 'x', sizeof large);
    large[sizeof large - 1] = 0;
    kvs_op op = make(KVS_OP_SET, large, "");
    assert_int_equal(run(&op), KVS_ERR_TOO_LARGE);
    op = make(KVS_OP_SET, "", "");
    assert_int_equal(run(&op), KVS_ERR_INVALID_ARGUMENT);
    large[1001] = 0;
    op = make(KVS_OP_SET, "k", large);
    assert_int_equal(run(&op), KVS_ERR_TOO_LARGE);
    assert_string_equal(op.message, "value: 1001 bytes, the limit is 1000");
    op = make(KVS_OP_GET, "k", "");
    op.flags = KVS_OP_FLAG_REVERSE;
    assert_int_equal(run(&op), KVS_ERR_INVALID_ARGUMENT);
    op = make(0, "k", "");
    assert_int_equal(run(&op), KVS_ERR_INVALID_ARGUMENT);
    op = make(KVS_OP_SET, "k", "v");
    op.ttl_ms = KVS_TTL_MS_MAX + 1;
    assert_int_equal(run(&op), KVS_ERR_INVALID_ARGUMENT);
    op = make(KVS_OP_BATCH_GET, "", "");
    op.count = KVS_BATCH_COUNT_MAX + 1;
    assert_int_equal(run(&op), KVS_ERR_TOO_LARGE);
    op.count = 1;
    assert_int_equal(run(&op), KVS_ERR_INVALID_ARGUMENT);
    op = make(KVS_OP_GET, "k", "");
    op.size = 8;
    assert_int_equal(run(&op), KVS_ERR_INVALID_ARGUMENT);
    op = make(KVS_OP_GET, "k", "");
    op.family = 200;
    assert_int_equal(run(&op), KVS_ERR_INVALID_ARGUMENT);
}

static void test_the_rest(void **state)
{
    (void)state;
    put("a", "1");
    kvs_op ping = make(KVS_OP_PING, "", "");
    kvs_op sync = make(KVS_OP_SYNC, "", "");
    kvs_op compact = make(KVS_OP_COMPACT, "", "");
    kvs_op stats = make(KVS_OP_STATS, "", "");
    kvs_op *ops[] = {&ping, &sync, &compact, &stats};
    run_many(ops, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(ops[i]->error, 0);
    char text[1024];
    snprintf(text, sizeof text, "%.*s", (int)stats.result.size, (const char *)stats.result.data);
    assert_non_null(strstr(text, "\"engine\":\"memory\""));
    assert_non_null(strstr(text, "\"keys\":1,"));
    kvs_op_release(&stats);
}

/* Answered inside the call, and only what is in memory and short. */
static void test_answer(void **state)
{
    (void)state;
    put("a", "1");
    kvs_op op = make(KVS_OP_GET, "a", "");
    assert_true(store_answer(fixture.store, &op));
    assert_int_equal(op.error, 0);
    assert_slice_equal(op.result, "1");
    kvs_op_release(&op);
    op = make(KVS_OP_SCAN, "", "");
    assert_false(store_answer(fixture.store, &op));
    op.limit = 10;
    assert_true(store_answer(fixture.store, &op));
    assert_int_equal(op.pairs_count, 1);
    kvs_op_release(&op);
    op = make(KVS_OP_SET, "a", "");
    assert_false(store_answer(fixture.store, &op));
    op = make(KVS_OP_GET, "", "");
    assert_true(store_answer(fixture.store, &op));
    assert_int_equal(op.error, KVS_ERR_INVALID_ARGUMENT);
}

static void on_done_anywhere(kvs_op *op)
{
    (void)op;
    pthread_mutex_lock(&fixture.lock);
    fixture.done++;
    pthread_cond_signal(&fixture.changed);
    pthread_mutex_unlock(&fixture.lock);
}

static void get_many_would_block(struct engine_view *view, unsigned family, const kvs_slice *keys,
                                 unsigned count, kvs_slice *ret_values, int *ret_errors,
                                 struct engine_pin *ret_pins)
{
    (void)view;
    (void)family;
    (void)keys;
    (void)ret_values;
    (void)ret_pins;
    for (unsigned i = 0; i < count; i++)
        ret_errors[i] = ENGINE_WOULD_BLOCK;
}

/* With a deadline, and not answered at once, a copy is carried out: what it was lent moves. */
static void test_loan_of_a_copy(void **state)
{
    (void)state;
    put("a", "1");
    const struct engine_methods *methods = fixture.engine->methods;
    struct engine_methods changed = *methods;
    changed.get_many = get_many_would_block;
    kvs_runtime *runtime;
    assert_int_equal(kvs_runtime_new(NULL, &runtime), 0);
    fixture.engine->methods = &changed;
    fixture.store->runtime = runtime;
    fixture.store->loop = runtime_pick_loop(runtime);
    kvs_op op = make(KVS_OP_GET, "a", "");
    for (unsigned round = 0; round < 4; round++) {
        op.flags = round % 2 == 0 ? KVS_OP_FLAG_BORROW : 0;
        op.timeout_ms = UINT32_MAX;
        op.on_done = on_done_anywhere;
        fixture.done = 0;
        kvs_store_submit(fixture.store, &op);
        pthread_mutex_lock(&fixture.lock);
        while (fixture.done < 1)
            pthread_cond_wait(&fixture.changed, &fixture.lock);
        pthread_mutex_unlock(&fixture.lock);
        assert_int_equal(op.error, 0);
        assert_true(op.borrowed == (op.flags != 0));
        put("a", "2");
        assert_int_equal(op.result.size, 1);
        assert_int_equal(op.result.data[0], round == 0 ? '1' : '2');
        kvs_op_release(&op);
    }
    fixture.engine->methods = methods;
    kvs_runtime_free(runtime);
    fixture.store->runtime = NULL;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_set_get_exists_remove),
        TEST(test_gets_together),
        TEST(test_cas_tells_what_is_there),
        TEST(test_batches),
        TEST(test_scan_pages),
        TEST(test_scan_limits),
        TEST(test_ranges_are_counted_and_removed),
        TEST(test_cancelled_reads_end),
        TEST(test_misuse_is_told),
        TEST(test_the_rest),
        TEST(test_answer),
        TEST(test_loan_of_a_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * kvs/store.h as a user sees it, the same tests on every kind of store: memory:, log: and kvs://
 * (a server in this process), on each kind of runtime.
 */
#include <kvs/kvs.h>
#include <kvs/server.h>

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "contract/engine_fixture.h"
#include "held_port.h"
#include "test.h"
#include "times.h"

enum target_kind {
    TARGET_MEMORY,
    TARGET_LOG,
    TARGET_KVS,
    TARGET_KVS_MANY,
    TARGET_TIKV,
    TARGET_TIKV_MANY,   /* keyspace, several loops */
    TARGET_KVS_ON_TIKV, /* kvs:// to a server whose engine is the cluster of another server */
};

struct target {
    enum target_kind kind;
    uint32_t loops;
    kvs_runtime *runtime;
    kvs_server *server;
    kvs_server *front;
    kvs_store *store;
    char directory[64];
    char url[128];
};

static kvs_store *open_url(struct target *target)
{
    struct kvs_store_options options = {.size = sizeof options, .sync = KVS_SYNC_NEVER};
    if (target->kind >= TARGET_KVS) { /* in process a deadline is another way */
        options.connect_timeout_ms = PATIENT_MS;
        options.timeout_ms = PATIENT_MS;
    }
    bool many = target->kind == TARGET_KVS_MANY || target->kind == TARGET_TIKV_MANY;
    options.connections = many ? 3 : 1;
    return opened_by(kvs_store_open(target->runtime, target->url, &options));
}

static int start_front(struct target *target)
{
    const struct kvs_server_options options = {.size = sizeof options,
                                               .address = "127.0.0.1:0",
                                               .engine = "tikv",
                                               .pd = kvs_server_pd_address(target->server),
                                               .threads = 2};
    return kvs_server_open(&options, &target->front, NULL);
}

static int target_setup(void **state)
{
    struct target *target = *state;
    snprintf(target->directory, sizeof target->directory, "/tmp/kvs-test-XXXXXX");
    if (mkdtemp(target->directory) == NULL)
        return -1;
    struct kvs_runtime_options options = {.size = sizeof options, .loops = target->loops};
    if (kvs_runtime_new(&options, &target->runtime) != 0)
        return -1;
    if (target->kind == TARGET_MEMORY) {
        snprintf(target->url, sizeof target->url, "memory:");
    } else if (target->kind == TARGET_LOG) {
        snprintf(target->url, sizeof target->url, "log:%s", target->directory);
    } else {
        struct kvs_server_options server = {.size = sizeof server,
                                            .address = "127.0.0.1:0",
                                            .engine = "memory",
                                            .directory = target->directory,
                                            .threads = 2};
        bool is_tikv = target->kind >= TARGET_TIKV;
        if (is_tikv)
            server.tikv = "127.0.0.1:0,127.0.0.1:0,127.0.0.1:0";
        if (kvs_server_open(&server, &target->server, NULL) != 0)
            return -1;
        if (target->kind == TARGET_KVS_ON_TIKV && start_front(target) != 0)
            return -1;
        if (target->kind == TARGET_KVS_ON_TIKV)
            snprintf(target->url, sizeof target->url, "kvs://%s",
                     kvs_server_address(target->front));
        else if (is_tikv)
            snprintf(target->url, sizeof target->url, "tikv://%s%s",
                     kvs_server_pd_address(target->server),
                     target->kind == TARGET_TIKV_MANY ? "/DEFAULT" : "");
        else
            snprintf(target->url, sizeof target->url, "kvs://%s",
                     kvs_server_address(target->server));
    }
    target->store = open_url(target);
    return 0;
}

static int target_teardown(void **state)
{
    struct target *target = *state;
    kvs_future *future = kvs_store_close(target->store);
    int error = kvs_future_wait(future, -1);
    kvs_future_free(future);
    kvs_runtime_free(target->runtime);
    if (target->front != NULL)
        error |= kvs_server_close(target->front, PATIENT_MS);
    target->front = NULL;
    if (target->server != NULL)
        error |= kvs_server_close(target->server, PATIENT_MS);
    target->server = NULL;
    directory_remove(target->directory);
    return error;
}

static kvs_slice key_of(char *text, size_t size, unsigned i)
{
    snprintf(text, size, "key%06u", i);
    return kvs_slice_of(text);
}

static void assert_value(kvs_store *store, kvs_slice key, const char *expected)
{
    kvs_future *future = kvs_store_get(store, key);
    assert_non_null(future);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    kvs_slice value;
    assert_int_equal(kvs_future_get_value(future, &value), 0);
    assert_int_equal(value.size, strlen(expected));
    assert_memory_equal(value.data, expected, value.size);
    kvs_future_free(future);
}

static int64_t number_of(kvs_future *future)
{
    assert_non_null(future);
    int64_t number = -1;
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_number(future, &number), 0);
    kvs_future_free(future);
    return number;
}

/* --- each call ---------------------------------------------------------------------------------
 */

static void test_single_keys(void **state)
{
    kvs_store *store = ((struct target *)*state)->store;
    kvs_slice key = kvs_slice_of("key");
    assert_int_equal(wait_and_free(kvs_store_get(store, key)), KVS_ERR_NOT_FOUND);
    assert_int_equal(wait_and_free(kvs_store_remove(store, key)), KVS_ERR_NOT_FOUND);
    assert_int_equal(wait_and_free(kvs_store_set(store, key, kvs_slice_of("value"))), 0);
    assert_value(store, key, "value");
    assert_int_equal(number_of(kvs_store_exists(store, key)), 1);
    assert_int_equal(wait_and_free(kvs_store_set(store, key, kvs_slice_of(""))), 0);
    assert_value(store, key, "");
    assert_int_equal(wait_and_free(kvs_store_remove(store, key)), 0);
    assert_int_equal(number_of(kvs_store_exists(store, key)), 0);

    assert_int_equal(wait_and_free(kvs_store_set_ttl(store, key, key, 3600000)), 0);
    assert_value(store, key, "key");
    assert_int_equal(wait_and_free(kvs_store_set_ttl(store, key, key, 1)), 0);
    while (number_of(kvs_store_exists(store, key)) == 1)
        usleep(500);
}

static void test_compare_and_set(void **state)
{
    kvs_store *store = ((struct target *)*state)->store;
    kvs_slice key = kvs_slice_of("key");
    kvs_slice one = kvs_slice_of("1");
    kvs_slice two = kvs_slice_of("2");
    assert_int_equal(wait_and_free(kvs_store_compare_and_set(store, key, NULL, one)), 0);
    kvs_future *future = kvs_store_compare_and_set(store, key, NULL, two);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_CONDITION_FAILED);
    int64_t number = -1;
    kvs_slice value = {0};
    kvs_future_get_number(future, &number);
    kvs_future_get_value(future, &value);
    assert_int_equal(number, 1);
    assert_slice_equal(value, "1");
    kvs_future_free(future);
    assert_int_equal(wait_and_free(kvs_store_compare_and_set(store, key, &one, two)), 0);
    assert_value(store, key, "2");
    assert_int_equal(wait_and_free(kvs_store_compare_and_set(store, one, &one, two)),
                     KVS_ERR_CONDITION_FAILED);
}

static void test_batches(void **state)
{
    kvs_store *store = ((struct target *)*state)->store;
    kvs_slice a = kvs_slice_of("a");
    kvs_slice b = kvs_slice_of("b");
    kvs_slice c = kvs_slice_of("c");
    kvs_mutation mutations[] = {
        {.kind = KVS_MUTATION_SET, .key = a, .value = b},
        {.kind = KVS_MUTATION_SET, .key = b, .value = c},
        {.kind = KVS_MUTATION_SET, .key = a, .value = a},
        {.kind = KVS_MUTATION_REMOVE, .key = b},
    };
    assert_int_equal(wait_and_free(kvs_store_batch_write(store, mutations, 4)), 0);
    assert_int_equal(wait_and_free(kvs_store_batch_write(store, NULL, 0)), 0);
    kvs_slice keys[] = {c, a, b};
    kvs_future *future = kvs_store_batch_get(store, keys, 3);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    const kvs_pair *pairs;
    size_t count;
    assert_int_equal(kvs_future_get_pairs(future, &pairs, &count), 0);
    assert_int_equal(count, 3);
    assert_false(pairs[0].found);
    assert_slice_equal(pairs[0].key, "c");
    assert_true(pairs[1].found);
    assert_slice_equal(pairs[1].value, "a");
    assert_false(pairs[2].found);
    kvs_future_free(future);
}

static void assert_scan(kvs_future *future, size_t expected, bool expect_more, const char *first,
                        const char *last)
{
    assert_non_null(future);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    const kvs_pair *pairs;
    size_t count;
    int64_t more = -1;
    assert_int_equal(kvs_future_get_pairs(future, &pairs, &count), 0);
    assert_int_equal(kvs_future_get_number(future, &more), 0);
    assert_int_equal(more, expect_more);
    assert_int_equal(count, expected);
    assert_memory_equal(pairs[0].key.data, first, strlen(first));
    assert_memory_equal(pairs[count - 1].key.data, last, strlen(last));
    kvs_future_free(future);
}

static void test_ranges(void **state)
{
    kvs_store *store = ((struct target *)*state)->store;
    static char value[2000];
    memset(value, 'v', sizeof value);
    kvs_future *sets[2000];
    char text[16];
    for (unsigned i = 0; i < 2000; i++)
        sets[i] = kvs_store_set(store, key_of(text, sizeof text, i),
                                (kvs_slice){(uint8_t *)value, sizeof value});
    for (unsigned i = 0; i < 2000; i++)
        assert_int_equal(wait_and_free(sets[i]), 0);
    kvs_slice none = {0};
    kvs_slice start = kvs_slice_of("key000100");
    kvs_slice end = kvs_slice_of("key000200");
    assert_int_equal(number_of(kvs_store_count(store, none, none)), 2000);
    assert_int_equal(number_of(kvs_store_count(store, start, end)), 100);
    assert_scan(kvs_store_scan(store, start, end, 1000, 0), 100, false, "key000100", "key000199");
    assert_scan(kvs_store_scan(store, start, end, 100, 0), 100, false, "key000100", "key000199");
    assert_scan(kvs_store_scan(store, start, end, 7, KVS_OP_FLAG_REVERSE), 7, true, "key000199",
                "key000193");
    assert_scan(kvs_store_scan(store, none, none, 1999, 0), 1999, true, "key000000", "key001998");
    assert_scan(kvs_store_scan(store, none, none, UINT32_MAX, KVS_OP_FLAG_KEYS_ONLY), 2000, false,
                "key000000", "key001999");
    kvs_future *page = kvs_store_scan(store, none, none, 0, 0);
    const kvs_pair *pairs;
    size_t count = 0;
    assert_int_equal(kvs_future_wait(page, -1), 0);
    assert_int_equal(kvs_future_get_pairs(page, &pairs, &count), 0);
    assert_in_range(count, 400, 600);
    assert_int_equal(number_of(page), 1); /* there is more; frees it */
    assert_int_equal(number_of(kvs_store_remove_range(store, start, end)), 100);
    assert_int_equal(number_of(kvs_store_count(store, none, none)), 1900);
}

static void test_the_rest_and_misuse(void **state)
{
    const struct target *target = *state;
    kvs_store *store = target->store;
    int compacted = target->kind >= TARGET_TIKV ? KVS_ERR_UNSUPPORTED : 0;
    assert_int_equal(wait_and_free(kvs_store_ping(store)), 0);
    assert_int_equal(wait_and_free(kvs_store_sync(store)), 0);
    assert_int_equal(wait_and_free(kvs_store_compact(store)), compacted);
    kvs_future *future = kvs_store_stats(store);
    kvs_slice json;
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_value(future, &json), 0);
    assert_int_equal(json.data[0], '{');
    kvs_future_free(future);

    static uint8_t large[KVS_VALUE_SIZE_MAX + 1];
    kvs_slice key = kvs_slice_of("key");
    kvs_slice too_large = {large, sizeof large};
    assert_int_equal(wait_and_free(kvs_store_set(store, key, too_large)), KVS_ERR_TOO_LARGE);
    too_large.size = KVS_KEY_SIZE_MAX + 1;
    assert_int_equal(wait_and_free(kvs_store_get(store, too_large)), KVS_ERR_TOO_LARGE);
    assert_int_equal(wait_and_free(kvs_store_get(store, kvs_slice_of(""))),
                     KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(wait_and_free(kvs_store_batch_get(store, &key, SIZE_MAX)), KVS_ERR_TOO_LARGE);
    kvs_op op = KVS_OP_INIT;
    op.kind = 99;
    assert_int_equal(wait_and_free(kvs_store_call(store, &op)), KVS_ERR_INVALID_ARGUMENT);
    too_large.size = KVS_VALUE_SIZE_MAX; /* just right, but for a raft log */
    if (target->kind >= TARGET_TIKV) {
        assert_int_equal(wait_and_free(kvs_store_set(store, key, too_large)), KVS_ERR_TOO_LARGE);
        too_large.size = 7 << 20;
    }
    assert_int_equal(wait_and_free(kvs_store_set(store, key, too_large)), 0);
    future = kvs_store_get(store, key);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_value(future, &json), 0);
    assert_int_equal(json.size, too_large.size);
    kvs_future_free(future);
}

/* --- many at once ------------------------------------------------------------------------------
 */

#define THREADS 8
#define SETS 10000

struct worker {
    kvs_store *store;
    unsigned index;
    unsigned failures;
    pthread_t thread;
};

static void *set_many(void *arg)
{
    struct worker *worker = arg;
    kvs_future *futures[SETS / THREADS];
    char text[16];
    for (unsigned i = 0; i < SETS / THREADS; i++) {
        kvs_slice key = key_of(text, sizeof text, i * THREADS + worker->index);
        futures[i] = kvs_store_set(worker->store, key, key);
    }
    for (unsigned i = 0; i < SETS / THREADS; i++) {
        worker->failures += kvs_future_wait(futures[i], -1) != 0;
        kvs_future_free(futures[i]);
    }
    return NULL;
}

static void run_workers(kvs_store *store, unsigned count, void *(*run)(void *))
{
    struct worker workers[100];
    for (unsigned i = 0; i < count; i++) {
        workers[i] = (struct worker){.store = store, .index = i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, run, &workers[i]), 0);
    }
    unsigned failures = 0;
    for (unsigned i = 0; i < count; i++) {
        pthread_join(workers[i].thread, NULL);
        failures += workers[i].failures;
    }
    assert_int_equal(failures, 0);
}

static void test_ten_thousand_sets(void **state)
{
    kvs_store *store = ((struct target *)*state)->store;
    run_workers(store, THREADS, set_many);
    char text[16];
    kvs_future **futures = calloc(SETS, sizeof *futures);
    for (unsigned i = 0; i < SETS; i++)
        futures[i] = kvs_store_get(store, key_of(text, sizeof text, i));
    for (unsigned i = 0; i < SETS; i++) {
        kvs_slice value;
        kvs_slice key = key_of(text, sizeof text, i);
        assert_int_equal(kvs_future_wait(futures[i], -1), 0);
        assert_int_equal(kvs_future_get_value(futures[i], &value), 0);
        assert_int_equal(value.size, key.size);
        assert_memory_equal(value.data, text, key.size);
        kvs_future_free(futures[i]);
    }
    free(futures);
}

static void *get_hundred(void *arg)
{
    struct worker *worker = arg;
    kvs_future *futures[100];
    char text[16];
    for (unsigned i = 0; i < 100; i++)
        futures[i] = kvs_store_get(worker->store, key_of(text, sizeof text, i));
    for (unsigned i = 0; i < 100; i++) {
        kvs_slice value = {0};
        kvs_slice key = key_of(text, sizeof text, i);
        bool good = kvs_future_wait(futures[i], -1) == 0 &&
                    kvs_future_get_value(futures[i], &value) == 0 && value.size == key.size &&
                    memcmp(value.data, text, key.size) == 0;
        worker->failures += !good;
        kvs_future_free(futures[i]);
    }
    return NULL;
}

static void test_hundred_times_hundred_gets(void **state)
{
    kvs_store *store = ((struct target *)*state)->store;
    char text[16];
    for (unsigned i = 0; i < 100; i++) {
        kvs_slice key = key_of(text, sizeof text, i);
        assert_int_equal(wait_and_free(kvs_store_set(store, key, key)), 0);
    }
    run_workers(store, 100, get_hundred);
}

/* The last of many writes of one thread is the one that stays. */
static void test_order_of_writes(void **state)
{
    kvs_store *store = ((struct target *)*state)->store;
    kvs_future *futures[1000];
    char text[16];
    for (unsigned i = 0; i < 1000; i++)
        futures[i] = kvs_store_set(store, kvs_slice_of("k"), key_of(text, sizeof text, i));
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(wait_and_free(futures[i]), 0);
    assert_value(store, kvs_slice_of("k"), "key000999");
}

/* --- caller-owned operations -------------------------------------------------------------------
 */

struct counted {
    kvs_op op;
    char key[16];
};

static atomic_uint ops_done;

static void on_counted(kvs_op *op)
{
    (void)op;
    atomic_fetch_add(&ops_done, 1);
}

static void await_ops(unsigned count)
{
    while (atomic_load(&ops_done) < count)
        usleep(200);
}

static void test_submit_many(void **state)
{
    enum { COUNT = 3000 };
    kvs_store *store = ((struct target *)*state)->store;
    struct counted *items = calloc(COUNT, sizeof *items);
    kvs_op **ops = calloc(COUNT, sizeof *ops);
    for (int round = 0; round < 2; round++) {
        atomic_store(&ops_done, 0);
        for (unsigned i = 0; i < COUNT; i++) {
            struct counted *item = &items[i];
            item->op = KVS_OP_INIT;
            item->op.kind = round == 0 ? KVS_OP_SET : KVS_OP_GET;
            item->op.key = key_of(item->key, sizeof item->key, i);
            item->op.value = item->op.key;
            item->op.on_done = on_counted;
            ops[i] = &item->op;
        }
        kvs_store_submit_many(store, ops, COUNT);
        await_ops(COUNT);
        for (unsigned i = 0; i < COUNT; i++) {
            assert_int_equal(ops[i]->error, 0);
            if (round == 1)
                assert_memory_equal(ops[i]->result.data, items[i].key, 9);
            kvs_op_release(ops[i]);
        }
    }
    free(ops);
    free(items);
}

/* Threads that need no loop: each submits for itself, all at once. */
struct submitter {
    const struct target *target;
    pthread_t thread;
    unsigned first;
    atomic_uint done;
    struct counted items[500];
    kvs_op *ops[500];
};

static void on_submitted_here(kvs_op *op)
{
    struct submitter *submitter = op->user;
    atomic_fetch_add(&submitter->done, 1);
}

static void submit_round(struct submitter *submitter, enum kvs_op_kind kind, unsigned flags)
{
    const struct target *target = submitter->target;
    atomic_store(&submitter->done, 0);
    for (unsigned i = 0; i < 500; i++) {
        struct counted *item = &submitter->items[i];
        item->op = KVS_OP_INIT;
        item->op.kind = (uint8_t)kind;
        item->op.flags = (uint16_t)flags;
        item->op.key = key_of(item->key, sizeof item->key, submitter->first + i);
        item->op.value = item->op.key;
        item->op.limit = 1;
        item->op.on_done = on_submitted_here;
        item->op.user = submitter;
        submitter->ops[i] = &item->op;
    }
    kvs_store_submit_here(target->store, submitter->ops, 500);
    bool in_process = target->kind == TARGET_MEMORY || target->kind == TARGET_LOG;
    if (in_process && kind != KVS_OP_SET) /* in memory: answered inside the call */
        assert_int_equal(atomic_load(&submitter->done), 500);
    while (atomic_load(&submitter->done) < 500)
        usleep(200);
}

static void *submitter_main(void *arg)
{
    struct submitter *submitter = arg;
    submit_round(submitter, KVS_OP_SET, 0);
    for (unsigned i = 0; i < 500; i++) {
        assert_int_equal(submitter->ops[i]->error, 0);
        kvs_op_release(submitter->ops[i]);
    }
    submit_round(submitter, KVS_OP_GET, 0);
    for (unsigned i = 0; i < 500; i++) {
        assert_int_equal(submitter->ops[i]->error, 0);
        assert_memory_equal(submitter->ops[i]->result.data, submitter->items[i].key, 9);
        kvs_op_release(submitter->ops[i]);
    }
    submit_round(submitter, KVS_OP_GET, KVS_OP_FLAG_BORROW);
    enum target_kind target = submitter->target->kind;
    for (unsigned i = 0; i < 500; i++) {
        assert_int_equal(submitter->ops[i]->error, 0);
        assert_true(submitter->ops[i]->borrowed == (target == TARGET_MEMORY));
        assert_memory_equal(submitter->ops[i]->result.data, submitter->items[i].key, 9);
        kvs_op_release(submitter->ops[i]);
    }
    submit_round(submitter, KVS_OP_SCAN, KVS_OP_FLAG_BORROW);
    for (unsigned i = 0; i < 500; i++) {
        assert_int_equal(submitter->ops[i]->error, 0);
        assert_int_equal(submitter->ops[i]->pairs_count, 1);
        assert_memory_equal(submitter->ops[i]->pairs[0].value.data, submitter->items[i].key, 9);
        kvs_op_release(submitter->ops[i]);
    }
    return NULL;
}

static void test_submit_here(void **state)
{
    struct submitter *submitters = calloc(3, sizeof *submitters);
    for (unsigned i = 0; i < 3; i++) {
        submitters[i].target = *state;
        submitters[i].first = i * 1000;
        pthread_create(&submitters[i].thread, NULL, submitter_main, &submitters[i]);
    }
    for (unsigned i = 0; i < 3; i++)
        pthread_join(submitters[i].thread, NULL);
    free(submitters);
}

/* A cancel must come before on_done returns: the lock sees to that, as it would in a program. */
#define CANCELLED_OPS 500

struct cancellation {
    kvs_store *store;
    pthread_mutex_t lock;
    unsigned submitted;
    struct counted items[CANCELLED_OPS];
    bool done[CANCELLED_OPS];
};

static void on_cancellable_done(kvs_op *op)
{
    struct cancellation *all = op->user;
    pthread_mutex_lock(&all->lock);
    all->done[(struct counted *)op - all->items] = true;
    pthread_mutex_unlock(&all->lock);
    atomic_fetch_add(&ops_done, 1);
}

static void *cancel_all(void *arg)
{
    struct cancellation *all = arg;
    for (unsigned i = 0; i < CANCELLED_OPS;) {
        pthread_mutex_lock(&all->lock);
        if (i < all->submitted) {
            if (!all->done[i])
                kvs_store_cancel(all->store, &all->items[i].op);
            i++;
        }
        pthread_mutex_unlock(&all->lock);
    }
    return NULL;
}

static void test_cancel_at_any_moment(void **state)
{
    struct cancellation *all = calloc(1, sizeof *all);
    all->store = ((struct target *)*state)->store;
    pthread_mutex_init(&all->lock, NULL);
    atomic_store(&ops_done, 0);
    pthread_t canceller;
    assert_int_equal(pthread_create(&canceller, NULL, cancel_all, all), 0);
    for (unsigned i = 0; i < CANCELLED_OPS; i++) {
        kvs_op *op = &all->items[i].op;
        *op = KVS_OP_INIT;
        op->kind = i % 2 ? KVS_OP_SET : KVS_OP_COUNT;
        op->key = key_of(all->items[i].key, sizeof all->items[i].key, i);
        op->on_done = on_cancellable_done;
        op->user = all;
        kvs_store_submit(all->store, op);
        pthread_mutex_lock(&all->lock);
        all->submitted++;
        pthread_mutex_unlock(&all->lock);
    }
    await_ops(CANCELLED_OPS);
    pthread_join(canceller, NULL);
    for (unsigned i = 0; i < CANCELLED_OPS; i++) {
        int error = all->items[i].op.error;
        assert_true(error == 0 || error == KVS_ERR_CANCELLED || error == KVS_ERR_OUTCOME_UNKNOWN);
        kvs_op_release(&all->items[i].op);
    }
    pthread_mutex_destroy(&all->lock);
    free(all);
}

static void test_close_with_operations_in_flight(void **state)
{
    struct target *target = *state;
    kvs_store *store = open_url(
        &(struct target){.kind = TARGET_MEMORY, .runtime = target->runtime, .url = "memory:"});
    if (target->kind != TARGET_LOG) { /* whose directory is in use */
        assert_int_equal(wait_and_free(kvs_store_close(store)), 0);
        store = open_url(target);
    }
    kvs_future *futures[500];
    char text[16];
    for (unsigned i = 0; i < 500; i++)
        futures[i] = kvs_store_set(store, key_of(text, sizeof text, i), kvs_slice_of("v"));
    assert_int_equal(wait_and_free(kvs_store_close(store)), 0);
    for (unsigned i = 0; i < 500; i++)
        assert_int_equal(wait_and_free(futures[i]), 0);
}

/* --- only some targets -------------------------------------------------------------------------
 */

static void test_in_memory_is_ready_at_once(void **state)
{
    struct target *target = *state;
    kvs_slice key = kvs_slice_of("key");
    assert_int_equal(wait_and_free(kvs_store_set(target->store, key, key)), 0);
    kvs_future *future = kvs_store_get(target->store, key);
    assert_true(kvs_future_is_ready(future) || target->kind >= TARGET_KVS);
    kvs_future_free(future);
}

static void test_values_survive(void **state)
{
    struct target *target = *state;
    kvs_slice key = kvs_slice_of("key");
    assert_int_equal(wait_and_free(kvs_store_set(target->store, key, key)), 0);
    assert_int_equal(wait_and_free(kvs_store_close(target->store)), 0);
    target->store = open_url(target);
    if (target->kind != TARGET_MEMORY)
        assert_value(target->store, key, "key");
}

/* A store on a runtime that turns only when it is polled. */
static void test_polled(void **state)
{
    struct target *target = *state;
    if (target->kind == TARGET_LOG)
        return; /* its directory is in use; memory: takes the same way */
    kvs_runtime *runtime;
    assert_int_equal(kvs_runtime_new_polled(NULL, &runtime), 0);
    const struct kvs_store_options options = {
        .size = sizeof options, .connect_timeout_ms = PATIENT_MS, .timeout_ms = PATIENT_MS};
    kvs_future *future =
        kvs_store_open(runtime, target->url, target->kind >= TARGET_KVS ? &options : NULL);
    kvs_store *store = NULL;
    for (int step = 0; step < 4; step++) {
        while (!kvs_future_is_ready(future)) {
            struct pollfd fd = {.fd = kvs_runtime_fd(runtime), .events = POLLIN};
            poll(&fd, 1, kvs_runtime_poll_timeout_ms(runtime));
            kvs_runtime_poll(runtime);
        }
        assert_int_equal(kvs_future_error(future), 0);
        if (step == 0)
            assert_int_equal(kvs_future_get_pointer(future, (void **)&store), 0);
        kvs_future_free(future);
        if (step == 0)
            future = kvs_store_set(store, kvs_slice_of("k"), kvs_slice_of("v"));
        else if (step == 1)
            future = kvs_store_get(store, kvs_slice_of("k"));
        else if (step == 2)
            future = kvs_store_close(store);
    }
    kvs_runtime_free(runtime);
}

/* A server that stops properly loses nothing that a client asked for, also what it had not read. */
static void test_server_restarts(void **state)
{
    struct target *target = *state;
    struct kvs_server_options options = {
        .size = sizeof options, .engine = "kvs", .directory = target->directory, .threads = 2};
    struct held_port port;
    kvs_server *server;
    char *message = NULL;
    held_port_take(&port);
    options.address = port.address;
    if (kvs_server_open(&options, &server, &message) != 0)
        fail_msg("%s", message);
    snprintf(target->url, sizeof target->url, "kvs://%s", port.address);
    kvs_store *store = open_url(target);

    enum { COUNT = 4000 };
    kvs_future **futures = calloc(COUNT, sizeof *futures);
    char text[16];
    for (unsigned i = 0; i < COUNT; i++) {
        futures[i] = kvs_store_set(store, key_of(text, sizeof text, i), kvs_slice_of("v"));
        if (i % (COUNT / 4) != COUNT / 8)
            continue;
        assert_int_equal(kvs_server_close(server, PATIENT_MS), 0);
        if (kvs_server_open(&options, &server, &message) != 0)
            fail_msg("%s", message);
    }
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(wait_and_free(futures[i]), 0);
    kvs_slice none = {0};
    assert_int_equal(number_of(kvs_store_count(store, none, none)), COUNT);
    free(futures);
    assert_int_equal(wait_and_free(kvs_store_close(store)), 0);
    assert_int_equal(kvs_server_close(server, PATIENT_MS), 0);
    held_port_give_back(&port);
}

static struct target memory_target = {.kind = TARGET_MEMORY, .loops = 2};
static struct target log_target = {.kind = TARGET_LOG, .loops = 1};
static struct target kvs_target = {.kind = TARGET_KVS, .loops = 1};
static struct target many_target = {.kind = TARGET_KVS_MANY, .loops = 3};
static struct target tikv_target = {.kind = TARGET_TIKV, .loops = 1};
static struct target tikv_many_target = {.kind = TARGET_TIKV_MANY, .loops = 3};
static struct target on_tikv_target = {.kind = TARGET_KVS_ON_TIKV, .loops = 1};

int main(void)
{
#define ON(target, name)                                                            \
    {                                                                               \
#name " on " #target, name, target_setup, target_teardown, &target##_target \
    }
#define TEST(name)                                                                  \
    ON(memory, name), ON(log, name), ON(kvs, name), ON(many, name), ON(tikv, name), \
        ON(tikv_many, name), ON(on_tikv, name)
    const struct CMUnitTest tests[] = {
        TEST(test_single_keys),
        TEST(test_compare_and_set),
        TEST(test_batches),
        TEST(test_ranges),
        TEST(test_the_rest_and_misuse),
        TEST(test_ten_thousand_sets),
        TEST(test_hundred_times_hundred_gets),
        TEST(test_order_of_writes),
        TEST(test_submit_many),
        TEST(test_submit_here),
        TEST(test_cancel_at_any_moment),
        TEST(test_close_with_operations_in_flight),
        TEST(test_in_memory_is_ready_at_once),
        TEST(test_values_survive),
        TEST(test_polled),
        ON(kvs, test_server_restarts),
        ON(many, test_server_restarts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

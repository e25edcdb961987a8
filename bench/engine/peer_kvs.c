/*
 * bench/engine/peer_kvs.c: our log engine as a program in the same process uses it: kvs/store.h on
 * log:DIR.
 *
 *   set            caller-owned operations, `depth` of them in flight for each thread, each a
 *                  commit of its own: 1. those that are free are submitted together; 2. on_done, on
 *                  the loop, makes them free again. One thread: the loop is that thread, and
 *                  submits in on_done. More: they submit, and wait for the loop.
 *   set_waiting    kvs_store_set, and waiting for its future
 *   get, scan      futures, which are ready when the call returns; value and pairs are borrowed
 *   ..._copied     the same with copies
 *   get_together   caller-owned operations, as set; they borrow
 */
#include "bench/engine/bench.h"

#include <kvs/kvs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "kvs"

struct store {
    kvs_runtime *runtime; /* one loop with a thread of its own */
    kvs_store *store;
};

/* Waits for a future and frees it. */
static int future_finish(kvs_future *future, void **ret_pointer)
{
    int error = kvs_future_wait(future, -1);
    if (error != 0)
        bench_say(NAME ": %s", kvs_future_error_message(future));
    else if (ret_pointer != NULL)
        kvs_future_get_pointer(future, ret_pointer);
    kvs_future_free(future);
    return error != 0 ? -1 : 0;
}

static int store_open(const struct peer_options *given, void **ret_store)
{
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return -1;
    *ret_store = store;
    if (kvs_runtime_new(NULL, &store->runtime) != 0)
        return -1;
    const struct kvs_store_options options = {
        .size = sizeof options,
        .sync = given->synced ? KVS_SYNC_ALWAYS : KVS_SYNC_NEVER,
        .cache_size_bytes = given->cache_bytes,
        .cache_prefault = given->prefaults,
    };
    char url[4096];
    snprintf(url, sizeof url, "log:%s", given->directory);
    void *opened = NULL;
    int error = future_finish(kvs_store_open(store->runtime, url, &options), &opened);
    store->store = opened;
    return error;
}

static void store_close(void *arg)
{
    struct store *store = arg;
    if (store->store != NULL)
        future_finish(kvs_store_close(store->store), NULL);
    kvs_runtime_free(store->runtime);
    free(store);
}

static int session_open(void *store, void **ret_session)
{
    *ret_session = store; /* any thread may use it */
    return 0;
}

static void session_close(void *session)
{
    (void)session;
}

/* --- several in flight --- */

/* An operation in flight, or free. */
struct lane {
    kvs_op op;
    struct lanes *lanes;
    uint64_t start_ns;
    uint8_t key[KEY_SIZE];
};

struct lanes {
    struct store *store;
    struct run *run;
    uint8_t kind;
    bool on_loop; /* the loop submits: then the lock is for the end alone */
    bool more;    /* the phase is not over */
    unsigned depth;
    unsigned together;     /* submit when so many are free: a quarter */
    pthread_mutex_t mutex; /* guards the rest */
    pthread_cond_t changed;
    unsigned in_flight;
    unsigned free_count;
    struct lane **free;
    kvs_op **batch; /* of whoever submits */
    struct lane *all;
};

static void lane_take_result(struct lane *lane)
{
    struct run *run = lane->lanes->run;
    kvs_op *op = &lane->op;
    if (op->error != 0 && op->error != KVS_ERR_NOT_FOUND)
        run_fail(run, NAME, op->message[0] != '\0' ? op->message : kvs_error_text(op->error));
    if (op->kind == KVS_OP_GET)
        run_note_value(run, op->result.data, op->result.size);
    else
        run->done++;
    if (run->latency != NULL)
        histogram_record(run->latency, clock_now_ns() - lane->start_ns);
    kvs_op_release(op);
}

/* Fills free lanes with the next operations; how many are in lanes->batch. */
static unsigned lanes_fill(struct lanes *lanes)
{
    struct run *run = lanes->run;
    unsigned count = 0;
    while (lanes->free_count > 0) {
        struct lane *lane = lanes->free[lanes->free_count - 1];
        if (run->load->interval_ns != 0) {
            lane->start_ns = run->load->begin_ns + run->begun * run->load->interval_ns;
            if (lane->start_ns > clock_now_ns())
                break;
        }
        lanes->more = run_next(run, lane->key);
        if (!lanes->more)
            break;
        if (lanes->kind == KVS_OP_SET)
            lane->op.value = (kvs_slice){load_value(run->load, run->begun), run->load->value_size};
        lanes->batch[count++] = &lane->op;
        lanes->free_count--;
    }
    lanes->in_flight += count;
    return count;
}

static void lane_on_done(kvs_op *op)
{
    struct lane *lane = op->user;
    struct lanes *lanes = lane->lanes;
    lane_take_result(lane);
    if (!lanes->on_loop)
        pthread_mutex_lock(&lanes->mutex);
    lanes->in_flight--;
    lanes->free[lanes->free_count++] = lane;
    bool enough = lanes->free_count == lanes->together || lanes->in_flight == 0;
    if (!lanes->on_loop) {
        if (enough)
            pthread_cond_signal(&lanes->changed);
        pthread_mutex_unlock(&lanes->mutex);
        return;
    }
    if (lanes->more && enough)
        kvs_store_submit_many(lanes->store->store, lanes->batch, lanes_fill(lanes));
    if (lanes->in_flight == 0) {
        pthread_mutex_lock(&lanes->mutex);
        lanes->on_loop = false; /* tells the thread that waits */
        pthread_cond_signal(&lanes->changed);
        pthread_mutex_unlock(&lanes->mutex);
    }
}

/* Until the next operation is due. */
static void sleep_until_due(const struct run *run)
{
    uint64_t due = run->load->begin_ns + run->begun * run->load->interval_ns;
    struct timespec time = {.tv_sec = (time_t)(due / 1000000000),
                            .tv_nsec = (long)(due % 1000000000)};
    if (run->load->interval_ns != 0)
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

/* The thread submits what is free, until the phase is over and nothing is in flight. */
static void lanes_drive(struct lanes *lanes)
{
    bool is_paced = lanes->run->load->interval_ns != 0;
    unsigned together = is_paced ? 1 : lanes->together;
    pthread_mutex_lock(&lanes->mutex);
    while (lanes->more) {
        while (lanes->free_count < together && lanes->in_flight > 0)
            pthread_cond_wait(&lanes->changed, &lanes->mutex);
        unsigned count = lanes_fill(lanes);
        pthread_mutex_unlock(&lanes->mutex);
        kvs_store_submit_here(lanes->store->store, lanes->batch, count);
        if (lanes->more)
            sleep_until_due(lanes->run);
        pthread_mutex_lock(&lanes->mutex);
    }
    while (lanes->in_flight > 0)
        pthread_cond_wait(&lanes->changed, &lanes->mutex);
    pthread_mutex_unlock(&lanes->mutex);
}

static void lanes_start_on_loop(struct lanes *lanes)
{
    unsigned count = lanes_fill(lanes);
    bool any = count > 0;
    kvs_store_submit_many(lanes->store->store, lanes->batch, count); /* from here on the loop's */
    pthread_mutex_lock(&lanes->mutex);
    while (any && lanes->on_loop)
        pthread_cond_wait(&lanes->changed, &lanes->mutex);
    pthread_mutex_unlock(&lanes->mutex);
}

static void lanes_run(struct store *store, struct run *run, uint8_t kind)
{
    unsigned depth = run->load->depth;
    struct lanes lanes = {
        .store = store,
        .run = run,
        .kind = kind,
        .on_loop = run->load->threads == 1 && run->load->interval_ns == 0,
        .more = true,
        .depth = depth,
        .together = depth >= 4 ? depth / 4 : 1,
        .free_count = depth,
        .free = calloc(depth, sizeof(struct lane *)),
        .batch = calloc(depth, sizeof(kvs_op *)),
        .all = calloc(depth, sizeof(struct lane)),
    };
    pthread_mutex_init(&lanes.mutex, NULL);
    pthread_cond_init(&lanes.changed, NULL);
    for (unsigned i = 0; i < depth; i++) {
        struct lane *lane = &lanes.all[i];
        lanes.free[i] = lane;
        lane->lanes = &lanes;
        lane->op = KVS_OP_INIT;
        lane->op.kind = kind;
        lane->op.flags = kind == KVS_OP_GET ? KVS_OP_FLAG_BORROW : 0;
        lane->op.on_done = lane_on_done;
        lane->op.user = lane;
        lane->op.key = (kvs_slice){lane->key, KEY_SIZE};
        keyspace_write_template(&run->load->keyspace, lane->key);
    }
    if (lanes.on_loop)
        lanes_start_on_loop(&lanes);
    else
        lanes_drive(&lanes);
    pthread_mutex_destroy(&lanes.mutex);
    pthread_cond_destroy(&lanes.changed);
    free(lanes.all);
    free(lanes.free);
    free(lanes.batch);
}

static void set(void *session, struct run *run)
{
    lanes_run(session, run, KVS_OP_SET);
}

static void get_together(void *session, struct run *run)
{
    lanes_run(session, run, KVS_OP_GET);
}

/* --- one at a time --- */

static void set_waiting(void *arg, struct run *run)
{
    struct store *store = arg;
    const struct load *load = run->load;
    uint8_t key[KEY_SIZE];
    keyspace_write_template(&load->keyspace, key);
    while (run_next(run, key)) {
        kvs_slice value = {load_value(load, run->begun), load->value_size};
        kvs_future *future = kvs_store_set(store->store, (kvs_slice){key, KEY_SIZE}, value);
        if (future_finish(future, NULL) != 0)
            run_fail(run, NAME, "set");
        run->done++;
    }
}

static void get_by(struct store *store, struct run *run, unsigned flags)
{
    uint8_t key[KEY_SIZE];
    keyspace_write_template(&run->load->keyspace, key);
    kvs_op op = KVS_OP_INIT;
    op.kind = KVS_OP_GET;
    op.flags = (uint16_t)flags;
    op.key = (kvs_slice){key, KEY_SIZE};
    while (run_next(run, key)) {
        kvs_slice value = {0};
        kvs_future *future = kvs_store_call(store->store, &op);
        int error = kvs_future_wait(future, -1);
        if (error == 0)
            error = kvs_future_get_value(future, &value);
        if (error != 0 && error != KVS_ERR_NOT_FOUND)
            run_fail(run, NAME, "get");
        run_note_value(run, value.data, value.size);
        kvs_future_free(future);
    }
}

static void get(void *store, struct run *run)
{
    get_by(store, run, KVS_OP_FLAG_BORROW);
}

static void get_copied(void *store, struct run *run)
{
    get_by(store, run, 0);
}

static void scan_by(struct store *store, struct run *run, unsigned flags)
{
    uint8_t key[KEY_SIZE];
    keyspace_write_template(&run->load->keyspace, key);
    while (run_next(run, key)) {
        const kvs_pair *pairs = NULL;
        size_t count = 0;
        kvs_future *future = kvs_store_scan(store->store, (kvs_slice){key, KEY_SIZE},
                                            (kvs_slice){0}, SCAN_COUNT, flags);
        int error = kvs_future_wait(future, -1);
        if (error == 0)
            error = kvs_future_get_pairs(future, &pairs, &count);
        if (error != 0)
            run_fail(run, NAME, "scan");
        for (size_t i = 0; i < count; i++) {
            run->touched += pairs[i].key.data[pairs[i].key.size - 1];
            run_note_value(run, pairs[i].value.data, pairs[i].value.size);
        }
        kvs_future_free(future);
    }
}

static void scan(void *store, struct run *run)
{
    scan_by(store, run, KVS_OP_FLAG_BORROW);
}

static void scan_copied(void *store, struct run *run)
{
    scan_by(store, run, 0);
}

static int fill(void *arg, const struct load *load, const uint32_t *numbers, uint64_t count)
{
    struct store *store = arg;
    enum { BATCH_MAX = 1000 };
    uint64_t each = load->value_size < 1024 ? BATCH_MAX : 100;
    static const uint8_t zero[KEY_SIZE];
    uint8_t(*keys)[KEY_SIZE] = calloc(BATCH_MAX, sizeof keys[0]);
    kvs_mutation *mutations = calloc(BATCH_MAX, sizeof mutations[0]);
    int error = 0;
    for (uint64_t i = 0; i < count && error == 0;) {
        uint32_t in_batch = 0;
        for (; in_batch < each && i < count; in_batch++, i++) {
            memcpy(keys[in_batch], zero, KEY_SIZE);
            keyspace_write_template(&load->keyspace, keys[in_batch]);
            keyspace_write(&load->keyspace, numbers[i], keys[in_batch]);
            mutations[in_batch] = (kvs_mutation){
                .kind = KVS_MUTATION_SET,
                .key = {keys[in_batch], KEY_SIZE},
                .value = {load_value(load, i), load->value_size},
            };
        }
        error = future_finish(kvs_store_batch_write(store->store, mutations, in_batch), NULL);
    }
    free(keys);
    free(mutations);
    return error;
}

static int compact(void *arg)
{
    struct store *store = arg;
    return future_finish(kvs_store_compact(store->store), NULL);
}

const struct peer peer_kvs = {
    .name = NAME,
    .settings = "log:DIR through kvs/store.h, cache for all data or half of the memory, made when "
                "it is opened (but not when it is opened again for the restart); sync=never and "
                "sync=always",
    .open = store_open,
    .close = store_close,
    .session_open = session_open,
    .session_close = session_close,
    .fill = fill,
    .set = set,
    .get = get,
    .scan = scan,
    .compact = compact,
    .get_copied = get_copied,
    .scan_copied = scan_copied,
    .set_waiting = set_waiting,
    .get_together = get_together,
};

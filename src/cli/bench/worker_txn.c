/*
 * cli/bench/worker_txn.c: one phase of transactions, through kvs/txn.h.
 *
 *   txn    puts --txn-keys drawn keys and commits
 *   rmw    reads as many keys, adds one to the number in each, commits
 *   bank   moves a part of the money of one account to another one, commits
 *
 * Each lane has one transaction in flight. One that loses (a conflict, a deadlock) begins anew with
 * the same keys; its latency runs from the first begin. While filling, a lane puts as many keys as
 * FILL_KEYS in one transaction. What was committed is counted, so that the sums can be checked.
 *
 * Closed loop only. Thread: the worker's.
 */
#include "cli/bench/worker_txn.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/slice.h"
#include "cli/bench/polled.h"

#include <stdio.h>
#include <stdlib.h>

enum { FILL_KEYS = 64, NUMBER_TEXT = 24 };

#define FILL_NUMBER 1000 /* what an account begins with */

struct txn_lane {
    struct txn_run *run;
    kvs_txn *txn;
    uint64_t start_ns;
    uint32_t count; /* keys */
    kvs_slice *keys;
    kvs_mutation *mutations;
    uint8_t *bytes; /* of the keys */
    uint8_t *value;
};

/* A worker's client, from its first phase to its end: opening is not measured. */
struct txn_kept {
    struct polled polled;
    kvs_txn_client *client;
};

struct txn_run {
    struct worker *worker;
    struct txn_kept *kept;
    struct kvs_txn_options options;
    struct txn_lane *lanes;
    size_t count;
    uint32_t keys_max;
};

static void lane_attempt(struct txn_lane *lane);

/* --- values -------------------------------------------------------------------------------------
 */

static int64_t number_of(kvs_slice value)
{
    char text[NUMBER_TEXT] = "";
    size_t size = value.size < sizeof text - 1 ? value.size : sizeof text - 1;
    if (size > 0)
        memcpy(text, value.data, size);
    return strtoll(text, NULL, 10);
}

/* The number, and blanks up to the size of a value. */
static kvs_slice write_number(struct txn_lane *lane, int64_t number)
{
    const struct target *target = lane->run->worker->load->target;
    char text[NUMBER_TEXT];
    size_t used = (size_t)snprintf(text, sizeof text, "%lld", (long long)number);
    size_t size = target->value_size > used ? target->value_size : used;
    memset(lane->value, ' ', size);
    memcpy(lane->value, text, used);
    return slice_make(lane->value, size);
}

/* --- a transaction ------------------------------------------------------------------------------
 */

static void note(struct worker *worker, const char *text)
{
    if (worker->tally.first_error[0] == '\0')
        snprintf(worker->tally.first_error, TARGET_TEXT_MAX, "%s", text);
}

static bool may_issue(const struct worker *worker, uint64_t now)
{
    return worker->issued < worker->phase.requests_max && now < worker->phase.deadline_ns &&
           !atomic_load_explicit(&worker->load->stop, memory_order_relaxed); /* only a wish */
}

/* Each one would fail, after its time. */
static void begin_no_more(struct worker *worker)
{
    worker->phase.requests_max = worker->issued;
}

static bool is_drawn(const struct txn_lane *lane, uint32_t count, kvs_slice key)
{
    for (uint32_t i = 0; i < count; i++) {
        if (slice_equal(lane->keys[i], key))
            return true;
    }
    return false;
}

/* Different keys. */
static void draw_keys(struct txn_lane *lane)
{
    struct worker *worker = lane->run->worker;
    const struct keyspace *keyspace = worker->load->keyspace;
    const struct phase *phase = &worker->phase;
    uint64_t left = phase->requests_max - worker->issued;
    lane->count = phase->fill ? FILL_KEYS : worker->load->txn->keys;
    if (phase->fill && left < lane->count)
        lane->count = (uint32_t)left;
    for (uint32_t i = 0; i < lane->count; i++) {
        uint8_t *key = lane->bytes + (size_t)i * keyspace->key_size;
        lane->keys[i] = slice_make(key, keyspace->key_size);
        do {
            uint64_t number = phase->fill ? phase->first_key + worker->issued + i
                                          : keyspace_draw(keyspace, &worker->rand);
            keyspace_write_template(keyspace, key);
            keyspace_write(keyspace, number, key);
        } while (!phase->fill && is_drawn(lane, i, lane->keys[i]));
    }
    worker->issued += phase->fill ? lane->count : 1;
}

static void lane_next(struct txn_lane *lane, uint64_t now)
{
    struct worker *worker = lane->run->worker;
    worker->in_flight--;
    worker->tally.end_ns = now;
    if (!may_issue(worker, now))
        return;
    draw_keys(lane);
    lane->start_ns = now;
    worker->in_flight++;
    lane_attempt(lane);
}

static void lane_end(struct txn_lane *lane, int error, const char *why)
{
    struct worker *worker = lane->run->worker;
    struct txn_load *txn = worker->load->txn;
    uint64_t now = clock_now_ns();
    kvs_txn_free(lane->txn);
    lane->txn = NULL;
    bool again = error != 0 && kvs_error_retry_txn(error) && !kvs_error_connection_dead(error);
    if (again && now - lane->start_ns < worker->load->timeout_ns) {
        atomic_fetch_add_explicit(&txn->conflicts, 1, memory_order_relaxed);
        lane_attempt(lane);
        return;
    }
    histogram_record(&worker->tally.latency[OPERATION_TXN], now - lane->start_ns);
    if (error == 0 && worker->phase.fill)
        worker->tally.events += lane->count;
    if (error == 0)
        atomic_fetch_add_explicit(&txn->committed, 1, memory_order_relaxed);
    else if (kvs_error_maybe_committed(error))
        atomic_fetch_add_explicit(&txn->unknown, 1, memory_order_relaxed);
    if (error != 0) {
        histogram_bump(&worker->tally.errors, 1);
        note(worker, why);
    }
    if (kvs_error_connection_dead(error) || kvs_error_maybe_committed(error) ||
        error == KVS_ERR_TIMEOUT)
        begin_no_more(worker);
    lane_next(lane, now);
}

static void on_commit(kvs_future *commit, void *arg)
{
    int error = kvs_future_error(commit);
    char why[TARGET_TEXT_MAX];
    why[0] = '\0';
    if (error != 0)
        snprintf(why, sizeof why, "%s", kvs_future_error_message(commit));
    kvs_future_free(commit);
    lane_end(arg, error, why);
}

static void lane_commit(struct txn_lane *lane)
{
    kvs_future *commit = kvs_txn_commit(lane->txn);
    if (commit == NULL || kvs_future_on_ready(commit, on_commit, lane) != 0)
        lane_end(lane, KVS_ERR_NO_MEMORY, "out of memory");
}

/* A put's outcome; false when it failed: the lane has ended then. */
static bool lane_take_put(struct txn_lane *lane, kvs_future *put)
{
    int error = put == NULL ? KVS_ERR_NO_MEMORY : 0;
    if (error == 0 && kvs_future_is_ready(put))
        error = kvs_future_error(put);
    if (error == 0 && !kvs_future_is_ready(put)) /* the locks of the reads are held: never */
        error = KVS_ERR_BUSY;
    char why[TARGET_TEXT_MAX];
    why[0] = '\0';
    if (error != 0)
        snprintf(why, sizeof why, "%s", kvs_future_error_message(put));
    kvs_future_free(put);
    if (error != 0) {
        begin_no_more(lane->run->worker);
        lane_end(lane, error, why);
    }
    return error == 0;
}

static bool lane_put(struct txn_lane *lane, uint32_t i, kvs_slice value)
{
    return lane_take_put(lane, kvs_txn_put(lane->txn, lane->keys[i], value));
}

static bool lane_put_all(struct txn_lane *lane, kvs_slice value)
{
    for (uint32_t i = 0; i < lane->count; i++)
        lane->mutations[i] =
            (kvs_mutation){.kind = KVS_MUTATION_SET, .key = lane->keys[i], .value = value};
    return lane_take_put(lane, kvs_txn_mutate(lane->txn, lane->mutations, lane->count));
}

static bool put_money(struct txn_lane *lane, const kvs_pair *pairs)
{
    int64_t from = pairs[0].found ? number_of(pairs[0].value) : 0;
    int64_t to = pairs[1].found ? number_of(pairs[1].value) : 0;
    int64_t amount = from > 0 ? (int64_t)rand_below(&lane->run->worker->rand, (uint64_t)from) : 0;
    return lane_put(lane, 0, write_number(lane, from - amount)) &&
           lane_put(lane, 1, write_number(lane, to + amount));
}

static void on_read(kvs_future *read, void *arg)
{
    struct txn_lane *lane = arg;
    const kvs_pair *pairs;
    size_t count;
    char why[TARGET_TEXT_MAX];
    int error = kvs_future_get_pairs(read, &pairs, &count);
    bool good = error == 0;
    snprintf(why, sizeof why, "%s", kvs_future_error_message(read));
    if (good && lane->run->worker->load->txn->kind == TXN_LOAD_BANK)
        good = put_money(lane, pairs);
    else
        for (size_t i = 0; good && i < count; i++)
            good = lane_put(lane, (uint32_t)i, write_number(lane, number_of(pairs[i].value) + 1));
    kvs_future_free(read);
    if (error != 0)
        lane_end(lane, error, why);
    else if (good)
        lane_commit(lane);
}

static void lane_attempt(struct txn_lane *lane)
{
    struct txn_run *run = lane->run;
    const struct load *load = run->worker->load;
    bool fill = run->worker->phase.fill;
    lane->txn = kvs_txn_begin(run->kept->client, fill ? NULL : &run->options);
    if (lane->txn == NULL) {
        lane_end(lane, KVS_ERR_NO_MEMORY, "out of memory");
        return;
    }
    if (fill || load->txn->kind == TXN_LOAD_PUT) {
        size_t spread = rand_u64(&run->worker->rand) & (VALUES_SPREAD - 1);
        kvs_slice value = load->txn->kind == TXN_LOAD_PUT
                              ? slice_make(load->values + spread, load->target->value_size)
                              : write_number(lane, FILL_NUMBER);
        if (lane_put_all(lane, value))
            lane_commit(lane);
        return;
    }
    kvs_future *read = load->txn->pessimistic
                           ? kvs_txn_batch_get_for_update(lane->txn, lane->keys, lane->count)
                           : kvs_txn_batch_get(lane->txn, lane->keys, lane->count);
    if (read == NULL || kvs_future_on_ready(read, on_read, lane) != 0)
        lane_end(lane, KVS_ERR_NO_MEMORY, "out of memory");
}

/* --- the phase ----------------------------------------------------------------------------------
 */

static void close_kept(struct worker *worker)
{
    struct txn_kept *kept = worker->kept;
    char text[TARGET_TEXT_MAX];
    worker->kept = NULL;
    if (kept->client != NULL)
        polled_finish(&kept->polled, kvs_txn_client_close(kept->client), NULL, NULL, text);
    polled_close(&kept->polled);
    mem_free(kept);
}

int worker_txn_open(struct worker *worker, char text[TARGET_TEXT_MAX])
{
    const struct target *target = worker->load->target;
    struct kvs_store_options options = polled_options(target);
    if (!target_is_in_process(target->url)) /* there each call would cost a timer */
        options.timeout_ms = (uint32_t)(worker->load->timeout_ns / 1000000);
    if (worker->kept != NULL)
        return 0;
    struct txn_kept *kept = mem_zalloc(sizeof *kept);
    void *client = NULL;
    snprintf(text, TARGET_TEXT_MAX, "out of memory");
    if (kept == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = polled_open(&kept->polled, text);
    if (error == 0)
        error = polled_finish(&kept->polled,
                              kvs_txn_client_open(kept->polled.runtime, target->url, &options),
                              &client, NULL, text);
    kept->client = client;
    worker->kept = kept;
    worker->kept_close = close_kept;
    if (error != 0)
        close_kept(worker);
    return error;
}

static void free_lanes(struct txn_run *run)
{
    for (size_t i = 0; run->lanes != NULL && i < run->count; i++) {
        mem_free(run->lanes[i].keys);
        mem_free(run->lanes[i].mutations);
        mem_free(run->lanes[i].bytes);
        mem_free(run->lanes[i].value);
    }
    mem_free(run->lanes);
}

static int make_lanes(struct txn_run *run)
{
    const struct worker *worker = run->worker;
    const struct load *load = worker->load;
    run->count = worker->busy_count * worker->phase.depth;
    run->keys_max = load->txn->keys > FILL_KEYS ? load->txn->keys : FILL_KEYS;
    run->lanes = mem_zalloc(run->count * sizeof run->lanes[0]);
    for (size_t i = 0; run->lanes != NULL && i < run->count; i++) {
        struct txn_lane *lane = &run->lanes[i];
        lane->run = run;
        lane->keys = mem_alloc(run->keys_max * sizeof lane->keys[0]);
        lane->mutations = mem_alloc(run->keys_max * sizeof lane->mutations[0]);
        lane->bytes = mem_alloc(run->keys_max * load->keyspace->key_size);
        lane->value = mem_alloc(load->target->value_size + NUMBER_TEXT);
        if (lane->keys == NULL || lane->mutations == NULL || lane->bytes == NULL ||
            lane->value == NULL)
            return KVS_ERR_NO_MEMORY;
    }
    return run->lanes != NULL ? 0 : KVS_ERR_NO_MEMORY;
}

static int run_phase(struct txn_run *run, char text[TARGET_TEXT_MAX])
{
    struct worker *worker = run->worker;
    if (worker->phase.interval_ns > 0) {
        snprintf(text, TARGET_TEXT_MAX, "a fixed rate cannot be asked of transactions");
        return KVS_ERR_UNSUPPORTED;
    }
    int error = worker_txn_open(worker, text);
    run->kept = worker->kept;
    if (error == 0)
        error = make_lanes(run);
    uint64_t now = clock_now_ns();
    worker->in_flight = 0;
    for (size_t i = 0; error == 0 && i < run->count && may_issue(worker, now); i++) {
        worker->in_flight++;
        lane_next(&run->lanes[i], now);
    }
    while (error == 0 && worker->in_flight > 0)
        polled_turn(&run->kept->polled, -1);
    return error;
}

void worker_txn_run(struct worker *worker)
{
    char text[TARGET_TEXT_MAX] = "out of memory";
    struct txn_run run = {.worker = worker};
    run.options = (struct kvs_txn_options){.size = sizeof run.options,
                                           .pessimistic = worker->load->txn->pessimistic};
    if (run_phase(&run, text) != 0) {
        histogram_bump(&worker->tally.errors, 1);
        note(worker, text);
    }
    free_lanes(&run);
}

/* --- the sum ------------------------------------------------------------------------------------
 */

/* Adds a page; the key to go on behind is copied into `last`. Returns 1 when there is more. */
static int add_page(struct polled *polled, kvs_future *scan, int64_t *sum, uint8_t *last,
                    size_t *last_size, char text[TARGET_TEXT_MAX])
{
    const kvs_pair *pairs;
    size_t count;
    int64_t more = 0;
    while (scan != NULL && !kvs_future_is_ready(scan))
        polled_turn(polled, -1);
    int error = kvs_future_get_pairs(scan, &pairs, &count);
    if (error != 0)
        snprintf(text, TARGET_TEXT_MAX, "%s", kvs_future_error_message(scan));
    for (size_t i = 0; error == 0 && i < count; i++)
        *sum += number_of(pairs[i].value);
    if (error == 0 && kvs_future_get_number(scan, &more) == 0 && more != 0) {
        memcpy(last, pairs[count - 1].key.data, pairs[count - 1].key.size);
        last[pairs[count - 1].key.size] = 0;
        *last_size = pairs[count - 1].key.size + 1;
    }
    kvs_future_free(scan);
    return error != 0 ? error : more != 0;
}

int worker_txn_sum(struct worker *worker, int64_t *ret_sum, char text[TARGET_TEXT_MAX])
{
    kvs_snapshot *snapshot = NULL;
    uint8_t last[KVS_KEY_SIZE_MAX + 1];
    size_t last_size = 0;
    int error = worker_txn_open(worker, text);
    if (error == 0)
        snapshot = kvs_snapshot_new(((struct txn_kept *)worker->kept)->client, 0);
    if (error == 0 && snapshot == NULL)
        error = KVS_ERR_NO_MEMORY;
    *ret_sum = 0;
    int more = 1;
    while (error == 0 && more > 0) {
        more = add_page(
            &((struct txn_kept *)worker->kept)->polled,
            kvs_snapshot_scan(snapshot, slice_make(last, last_size), slice_make(NULL, 0), 0, 0),
            ret_sum, last, &last_size, text);
        error = more < 0 ? more : 0;
    }
    kvs_snapshot_free(snapshot);
    return error;
}

/*
 * cli/bench/worker_store.c: one phase of load on a kvs_store: for targets whose protocol is too
 * much for a table of bytes (tikv://). What is measured is the client of libkvs and its server.
 *
 *   1. the worker's thread makes a runtime that it polls itself, and opens the store;
 *   2. each lane has one operation in flight, and submits the next one in its on_done;
 *   3. when the phase is over, the lanes run out, and the store is closed.
 *
 * A lane is what a place in a connection's pipeline is elsewhere: there are connections x depth of
 * them, all on the worker's one connection to each store of the cluster. Failures are counted, and
 * the first one is told. Closed loop only. Thread: the worker's.
 */
#include "cli/bench/worker_store.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/slice.h"
#include "cli/bench/polled.h"
#include "runtime/task.h"

#include <kvs/kvs.h>
#include <stdio.h>

struct lane {
    kvs_op op;
    struct store_run *run;
    uint64_t start_ns;
    enum operation operation;
    uint8_t *key;
};

struct store_run {
    struct worker *worker;
    struct polled polled;
    kvs_store *store;
    struct lane *lanes;
    uint8_t *keys;
    size_t count;
    uint64_t now_ns; /* of the last turn */
};

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

static void lane_issue(struct lane *lane, uint64_t now);

static void lane_on_done(kvs_op *op)
{
    struct lane *lane = op->user;
    struct worker *worker = lane->run->worker;
    uint64_t now = clock_now_ns();
    worker->in_flight--;
    worker->tally.end_ns = now;
    histogram_record(&worker->tally.latency[lane->operation], now - lane->start_ns);
    if (op->error == KVS_ERR_NOT_FOUND) {
        histogram_bump(&worker->tally.misses, 1);
    } else if (op->error != 0) {
        histogram_bump(&worker->tally.errors, 1);
        note(worker, op->message[0] != '\0' ? op->message : kvs_error_text(op->error));
    }
    kvs_op_release(op);
    if (may_issue(worker, now))
        lane_issue(lane, now);
}

static void lane_issue(struct lane *lane, uint64_t now)
{
    struct worker *worker = lane->run->worker;
    const struct load *load = worker->load;
    const struct phase *phase = &worker->phase;
    uint64_t number = phase->first_key + worker->issued;
    lane->operation = OPERATION_SET;
    if (!phase->fill) {
        number = keyspace_draw(load->keyspace, &worker->rand);
        if (phase->read_ratio > 0.0 && rand_unit(&worker->rand) < phase->read_ratio)
            lane->operation = OPERATION_GET;
    }
    keyspace_write(load->keyspace, number, lane->key);
    lane->op = KVS_OP_INIT;
    lane->op.kind = lane->operation == OPERATION_GET ? KVS_OP_GET : KVS_OP_SET;
    lane->op.key = slice_make(lane->key, load->keyspace->key_size);
    lane->op.on_done = lane_on_done;
    lane->op.user = lane;
    if (lane->operation == OPERATION_SET)
        lane->op.value = slice_make(load->values + (rand_u64(&worker->rand) & (VALUES_SPREAD - 1)),
                                    load->target->value_size);
    lane->start_ns = now;
    worker->issued++;
    worker->in_flight++;
    kvs_store_submit(lane->run->store, &lane->op);
}

/* --- the phase ----------------------------------------------------------------------------------
 */

static int run_open(struct store_run *run, const struct target *target, char *text)
{
    const struct kvs_store_options options = polled_options(target);
    int error = polled_open(&run->polled, text);
    if (error != 0)
        return error;
    void *store = NULL;
    error = polled_finish(&run->polled, kvs_store_open(run->polled.runtime, target->url, &options),
                          &store, NULL, text);
    run->store = store;
    return error;
}

static void run_close(struct store_run *run)
{
    char text[TARGET_TEXT_MAX];
    if (run->store != NULL)
        polled_finish(&run->polled, kvs_store_close(run->store), NULL, NULL, text);
    run->worker->tally.polls += run->polled.turns;
    polled_close(&run->polled);
    mem_free(run->lanes);
    mem_free(run->keys);
}

int worker_store_check(const struct target *target, char text[TARGET_TEXT_MAX])
{
    struct worker *worker = mem_zalloc(sizeof *worker); /* turns are counted */
    struct store_run run = {.worker = worker};
    int error = worker != NULL ? run_open(&run, target, text) : KVS_ERR_NO_MEMORY;
    if (worker != NULL)
        run_close(&run);
    mem_free(worker);
    return error;
}

static int make_lanes(struct store_run *run)
{
    const struct worker *worker = run->worker;
    size_t key_size = worker->load->keyspace->key_size;
    run->count = worker->busy_count * worker->phase.depth;
    run->lanes = mem_zalloc(run->count * sizeof run->lanes[0]);
    run->keys = mem_alloc(run->count * key_size);
    if (run->lanes == NULL || run->keys == NULL)
        return KVS_ERR_NO_MEMORY;
    for (size_t i = 0; i < run->count; i++) {
        run->lanes[i].run = run;
        run->lanes[i].key = run->keys + i * key_size;
        keyspace_write_template(worker->load->keyspace, run->lanes[i].key);
    }
    return 0;
}

void worker_store_run(struct worker *worker)
{
    char text[TARGET_TEXT_MAX] = "out of memory";
    struct store_run run = {.worker = worker};
    int error = worker->phase.interval_ns > 0 ? KVS_ERR_UNSUPPORTED : 0;
    if (error != 0)
        snprintf(text, sizeof text, "a fixed rate cannot be asked of this kind of target");
    if (error == 0)
        error = run_open(&run, worker->load->target, text);
    if (error == 0)
        error = make_lanes(&run);
    uint64_t now = clock_now_ns();
    for (size_t i = 0; error == 0 && i < run.count && may_issue(worker, now); i++)
        lane_issue(&run.lanes[i], now);
    while (error == 0 && worker->in_flight > 0)
        polled_turn(&run.polled, -1);
    if (error != 0) {
        histogram_bump(&worker->tally.errors, 1);
        note(worker, text);
    }
    run_close(&run);
}

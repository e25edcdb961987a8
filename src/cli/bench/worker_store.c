/*
 * cli/bench/worker_store.c: one phase of load on a kvs_store: for targets whose protocol is too
 * much for a table of bytes (tikv://). What is measured is the client of libkvs and its server.
 *
 *   1. the worker's thread makes a runtime that it polls itself, and opens the store, in the first
 *      phase: it stays open, for memory: has its data only so long;
 *   2. each lane has one operation in flight, and submits the next one in its on_done;
 *   3. when the phase is over, the lanes run out.
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

/* A worker's store, from its first phase to its end: opening is not measured. */
struct store_kept {
    struct polled polled;
    kvs_store *store;
};

struct store_run {
    struct worker *worker;
    struct store_kept *kept;
    struct lane *lanes;
    uint8_t *keys;
    size_t count;
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
    kvs_store_submit(lane->run->kept->store, &lane->op);
}

/* --- the phase ----------------------------------------------------------------------------------
 */

static void close_kept(struct worker *worker)
{
    struct store_kept *kept = worker->kept;
    char text[TARGET_TEXT_MAX];
    worker->kept = NULL;
    if (kept->store != NULL)
        polled_finish(&kept->polled, kvs_store_close(kept->store), NULL, NULL, text);
    polled_close(&kept->polled);
    mem_free(kept);
}

static int open_kept(struct worker *worker, const struct target *target, char *text)
{
    const struct kvs_store_options options = polled_options(target);
    if (worker->kept != NULL)
        return 0;
    struct store_kept *kept = mem_zalloc(sizeof *kept);
    void *store = NULL;
    if (kept == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = polled_open(&kept->polled, text);
    if (error == 0)
        error = polled_finish(&kept->polled,
                              kvs_store_open(kept->polled.runtime, target->url, &options), &store,
                              NULL, text);
    kept->store = store;
    worker->kept = kept;
    worker->kept_close = close_kept;
    if (error != 0)
        close_kept(worker);
    return error;
}

int worker_store_check(const struct target *target, char text[TARGET_TEXT_MAX])
{
    struct worker *worker = mem_zalloc(sizeof *worker); /* only a place for what is kept */
    int error = worker != NULL ? open_kept(worker, target, text) : KVS_ERR_NO_MEMORY;
    if (error == 0)
        close_kept(worker);
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

static int run_phase(struct store_run *run, char text[TARGET_TEXT_MAX])
{
    struct worker *worker = run->worker;
    if (worker->phase.interval_ns > 0) {
        snprintf(text, TARGET_TEXT_MAX, "a fixed rate cannot be asked of this kind of target");
        return KVS_ERR_UNSUPPORTED;
    }
    int error = open_kept(worker, worker->load->target, text);
    run->kept = worker->kept;
    if (error == 0)
        error = make_lanes(run);
    if (error != 0)
        return error;
    uint64_t turns = run->kept->polled.turns;
    uint64_t now = clock_now_ns();
    for (size_t i = 0; i < run->count && may_issue(worker, now); i++)
        lane_issue(&run->lanes[i], now);
    while (worker->in_flight > 0)
        polled_turn(&run->kept->polled, -1);
    worker->tally.polls += run->kept->polled.turns - turns;
    return 0;
}

void worker_store_run(struct worker *worker)
{
    char text[TARGET_TEXT_MAX] = "out of memory";
    struct store_run run = {.worker = worker};
    if (run_phase(&run, text) != 0) {
        histogram_bump(&worker->tally.errors, 1);
        note(worker, text);
    }
    mem_free(run.lanes);
    mem_free(run.keys);
}

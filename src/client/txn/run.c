/*
 * client/txn/run.c: kvs_txn_run: a function in a transaction, as often as it takes.
 *
 *   1. a transaction begins; the function is called on the loop and returns a future;
 *   2. that is ready with success: the transaction is committed; with an error: dropped, which
 *      rolls it back;
 *   3. an error of either that is worth another attempt: after a random wait, longer each time,
 *      from 1. Else the run's future ends as they did.
 * Closing the client: the next attempt ends in CLOSED.
 * Cancelling: the future that is waited for is cancelled, and no further attempt is made.
 *
 * Thread: the loop of the future.
 */
#include "client/txn/txn_parts.h"

#include "base/clock.h"
#include "runtime/runtime.h"

#include <stdio.h>
#include <string.h>

#define ATTEMPTS_DEFAULT 20u
#define RUN_TIMEOUT_DEFAULT_MS 60000u
#define WAIT_BASE_MS 2u
#define WAIT_MAX_MS 500u

struct run {
    struct task task;
    kvs_txn_client *client;
    kvs_txn_fn *fn;
    void *arg;
    struct kvs_txn_run_options options;
    struct kvs_txn_options txn_options;
    bool has_txn_options;
    struct rand rand;
    uint64_t began_ns;
    uint32_t attempts;
    bool cancelled;
    kvs_txn *txn;
    kvs_future *work; /* the function's */
    kvs_future *wait; /* what is waited for besides: a commit or a delay */
};

static void run_free(void *payload)
{
    struct run *run = payload;
    kvs_future_free(run->work);
    kvs_future_free(run->wait);
}

static void run_cancel(kvs_future *future)
{
    struct run *run = future_payload(future);
    run->cancelled = true;
    kvs_future_cancel(run->wait != NULL ? run->wait : run->work);
}

static const struct future_methods run_methods = {
    .payload_size = sizeof(struct run),
    .cancel = run_cancel,
    .free = run_free,
};

static void run_attempt(struct run *run);

/* --- options ------------------------------------------------------------------------------------
 */

static bool options_take(const struct kvs_txn_run_options *given,
                         struct kvs_txn_run_options *options, struct kvs_txn_options *txn_options,
                         bool *ret_has_txn_options)
{
    *options = (struct kvs_txn_run_options){.size = sizeof *options};
    *ret_has_txn_options = false;
    if (given != NULL) {
        if (given->size < sizeof given->size)
            return false;
        memcpy(options, given, given->size < sizeof *options ? given->size : sizeof *options);
    }
    if (options->txn != NULL) {
        size_t size = options->txn->size;
        if (size < sizeof options->txn->size)
            return false;
        memcpy(txn_options, options->txn, size < sizeof *txn_options ? size : sizeof *txn_options);
        txn_options->size = sizeof *txn_options;
        *ret_has_txn_options = true;
    }
    if (options->attempts_max == 0)
        options->attempts_max = ATTEMPTS_DEFAULT;
    if (options->timeout_ms == 0)
        options->timeout_ms = RUN_TIMEOUT_DEFAULT_MS;
    return true;
}

/* Milliseconds until the next attempt; negative: none is made. */
static int64_t next_wait_ms(const struct kvs_txn_run_options *options, uint32_t attempts,
                            uint64_t began_ns, struct rand *rand, int error)
{
    if (error == 0 || !kvs_error_retry_txn(error) || attempts >= options->attempts_max)
        return -1;
    uint32_t shift = attempts < 8 ? attempts : 8;
    uint64_t wait_ms = WAIT_BASE_MS << shift;
    if (wait_ms > WAIT_MAX_MS)
        wait_ms = WAIT_MAX_MS;
    wait_ms = rand_below(rand, wait_ms + 1);
    uint64_t end_ns = began_ns + (uint64_t)options->timeout_ms * 1000000u;
    return clock_now_ns() + wait_ms * 1000000u < end_ns ? (int64_t)wait_ms : -1;
}

/* --- the end ------------------------------------------------------------------------------------
 */

/* Results of the function's future, and whatever the error tells. */
static void take_results(kvs_future *future, struct run *run, const kvs_future *from)
{
    kvs_slice value;
    const kvs_pair *pairs;
    size_t count;
    void *pointer;
    if (run->work != NULL && kvs_future_get_value(run->work, &value) == 0)
        future_set_value(future, value);
    if (run->work != NULL && kvs_future_get_pairs(run->work, &pairs, &count) == 0)
        future_set_pairs(future, pairs, count);
    if (run->work != NULL && kvs_future_get_pointer(run->work, &pointer) == 0)
        future_set_pointer(future, pointer);
    if (from != NULL && kvs_future_error(from) != 0) {
        future_set_message(future, kvs_future_error_message(from));
        future_set_details(future, future_details(from));
    }
}

static void run_end(struct run *run, int error, const kvs_future *from)
{
    kvs_future *future = future_of_payload(run);
    kvs_txn_client *client = run->client;
    int64_t commit_ts = 0;
    kvs_txn_free(run->txn);
    run->txn = NULL;
    take_results(future, run, from);
    if (error == 0 && kvs_future_get_number(run->wait, &commit_ts) == 0)
        future_set_number(future, commit_ts);
    future_complete(future, error);
    txn_client_unref(client);
}

static void run_on_delay(kvs_future *delay, void *arg)
{
    (void)delay;
    run_attempt(arg);
}

static void run_again_or_end(struct run *run, int error, kvs_future *from)
{
    int64_t wait_ms = run->cancelled ? -1
                                     : next_wait_ms(&run->options, run->attempts, run->began_ns,
                                                    &run->rand, error);
    if (wait_ms < 0) {
        run_end(run, error, from);
        return;
    }
    kvs_txn_free(run->txn);
    run->txn = NULL;
    kvs_future *delay = kvs_future_delay(run->client->runtime, wait_ms);
    if (delay == NULL) {
        run_end(run, error, from);
        return;
    }
    kvs_future_free(run->wait);
    run->wait = delay;
    kvs_future_on_ready(delay, run_on_delay, run);
}

/* --- an attempt ---------------------------------------------------------------------------------
 */

static void run_on_commit(kvs_future *commit, void *arg)
{
    struct run *run = arg;
    int error = kvs_future_error(commit);
    if (error == 0)
        run_end(run, 0, NULL);
    else
        run_again_or_end(run, error, commit);
}

static void run_on_work(kvs_future *work, void *arg)
{
    struct run *run = arg;
    int error = kvs_future_error(work);
    if (error == 0 && run->cancelled)
        error = KVS_ERR_CANCELLED;
    if (error != 0) {
        run_again_or_end(run, error, work);
        return;
    }
    run->wait = kvs_txn_commit(run->txn);
    if (run->wait == NULL)
        run_end(run, KVS_ERR_NO_MEMORY, NULL);
    else
        kvs_future_on_ready(run->wait, run_on_commit, run);
}

static void run_attempt(struct run *run)
{
    kvs_future_free(run->work);
    kvs_future_free(run->wait);
    run->work = NULL;
    run->wait = NULL;
    run->attempts++;
    if (run->cancelled) {
        run_end(run, KVS_ERR_CANCELLED, NULL);
        return;
    }
    run->txn = kvs_txn_begin(run->client, run->has_txn_options ? &run->txn_options : NULL);
    if (run->txn != NULL)
        run->work = run->fn(run->txn, run->arg);
    if (run->work == NULL) {
        run_end(run, KVS_ERR_NO_MEMORY, NULL);
        return;
    }
    int error = kvs_future_on_ready(run->work, run_on_work, run);
    if (error != 0)
        run_end(run, error, NULL);
}

static void run_on_task(struct task *task)
{
    run_attempt(CONTAINER_OF(task, struct run, task));
}

kvs_future *kvs_txn_run(kvs_txn_client *client, kvs_txn_fn *fn, void *arg,
                        const struct kvs_txn_run_options *options)
{
    struct txn_shard *shard = txn_client_shard(client);
    kvs_future *future = future_new(client->runtime, shard->loop, &run_methods);
    if (future == NULL)
        return NULL;
    struct run *run = future_payload(future);
    run->client = client;
    run->fn = fn;
    run->arg = arg;
    run->began_ns = clock_now_ns();
    run->rand = rand_seed(run->began_ns ^ (uintptr_t)run);
    if (!options_take(options, &run->options, &run->txn_options, &run->has_txn_options)) {
        future_set_message(future, "options: size is not set");
        future_complete(future, KVS_ERR_INVALID_ARGUMENT);
        return future;
    }
    run->task.run = run_on_task;
    txn_client_ref(client); /* it may be closed between two attempts */
    loop_post(shard->loop, &run->task);
    return future;
}

/* --- on the caller's thread ---------------------------------------------------------------------
 */

static int wait_and_free(kvs_future *future, int64_t *ret_number)
{
    int error = kvs_future_wait(future, -1);
    if (error == 0 && ret_number != NULL)
        error = kvs_future_get_number(future, ret_number);
    kvs_future_free(future);
    return error;
}

int kvs_txn_run_blocking(kvs_txn_client *client, kvs_txn_blocking_fn *fn, void *arg,
                         const struct kvs_txn_run_options *given, uint64_t *ret_commit_ts)
{
    struct kvs_txn_run_options options;
    struct kvs_txn_options txn_options = {0};
    bool has_txn_options;
    if (!options_take(given, &options, &txn_options, &has_txn_options) ||
        runtime_waits_for(client->runtime))
        return KVS_ERR_INVALID_ARGUMENT;
    uint64_t began_ns = clock_now_ns();
    struct rand rand = rand_seed(began_ns ^ (uintptr_t)&options);
    for (uint32_t attempts = 1;; attempts++) {
        int64_t commit_ts = 0;
        kvs_txn *txn = kvs_txn_begin(client, has_txn_options ? &txn_options : NULL);
        if (txn == NULL)
            return KVS_ERR_NO_MEMORY;
        int error = fn(txn, arg);
        if (error == 0)
            error = wait_and_free(kvs_txn_commit(txn), &commit_ts);
        kvs_txn_free(txn);
        if (error == 0 && ret_commit_ts != NULL)
            *ret_commit_ts = (uint64_t)commit_ts;
        int64_t wait_ms = next_wait_ms(&options, attempts, began_ns, &rand, error);
        if (wait_ms < 0)
            return error;
        wait_and_free(kvs_future_delay(client->runtime, wait_ms), NULL);
    }
}

/*
 * bench/micro/batches.c: batches of keys through the public interface, by operations of one's own.
 *
 *   batches URL [SECONDS [KEYS [IN_FLIGHT]]]
 *       keys of each batch (100), batches in flight (16), seconds of each measurement (2)
 *
 * Writes, then reads, 100,000 keys of 16 bytes with values of 100 bytes, a batch behind the other,
 * and prints how many keys a second. bindings/node/bench/compare.js does the same from JavaScript,
 * so that their ratio is what the binding costs.
 */
#include "usage.h"

#include <kvs/kvs.h>

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEYS_ALL 100000u
#define KEY_SIZE 16u
#define VALUE_SIZE 100u

struct batch {
    kvs_op op; /* first, so that the op's address is the batch's */
    kvs_slice *keys;
    kvs_mutation *mutations;
};

static struct {
    kvs_store *store;
    unsigned keys;      /* of a batch */
    unsigned in_flight; /* batches */
    unsigned next;      /* key of the next batch */
    unsigned pending;
    double end;
    uint64_t done; /* keys */
    int error;
    sem_t ended;
    char text[KEYS_ALL][KEY_SIZE + 1];
} run;

static uint8_t value[VALUE_SIZE];

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void on_done(kvs_op *op);

static void start(struct batch *batch, uint8_t kind)
{
    batch->op = KVS_OP_INIT;
    batch->op.kind = kind;
    batch->op.count = run.keys;
    batch->op.on_done = on_done;
    for (unsigned i = 0; i < run.keys; i++) {
        kvs_slice key = {(const uint8_t *)run.text[run.next], KEY_SIZE};
        batch->keys[i] = key;
        batch->mutations[i] =
            (kvs_mutation){.kind = KVS_MUTATION_SET, .key = key, .value = {value, VALUE_SIZE}};
        run.next = (run.next + 1) % KEYS_ALL;
    }
    if (kind == KVS_OP_BATCH_GET)
        batch->op.keys = batch->keys;
    else
        batch->op.mutations = batch->mutations;
    kvs_store_submit(run.store, &batch->op);
}

/* On the store's loop, one at a time. */
static void on_done(kvs_op *op)
{
    struct batch *batch = (struct batch *)op;
    uint8_t kind = op->kind;
    if (op->error != 0)
        run.error = op->error;
    for (size_t i = 0; i < op->pairs_count; i++) { /* every value is looked at */
        if (op->pairs[i].value.size != VALUE_SIZE)
            run.error = KVS_ERR_NOT_FOUND;
    }
    run.done += run.keys;
    kvs_op_release(op);
    if (run.error == 0 && now() < run.end)
        start(batch, kind);
    else if (--run.pending == 0)
        sem_post(&run.ended);
}

static void measure(const char *name, struct batch *batches, uint8_t kind, double seconds)
{
    double begin = now();
    run.done = run.next = 0;
    run.pending = run.in_flight;
    run.end = begin + seconds;
    for (unsigned i = 0; i < run.in_flight && run.error == 0; i++)
        start(&batches[i], kind);
    sem_wait(&run.ended);
    if (run.error != 0) {
        fprintf(stderr, "batches: %s: %s\n", name, kvs_error_text(run.error));
        exit(1);
    }
    printf("%s %.0f keys/s\n", name, (double)run.done / (now() - begin));
}

static kvs_store *open_store(kvs_runtime *runtime, const char *url)
{
    void *store = NULL;
    kvs_future *opening = kvs_store_open(runtime, url, NULL);
    if (kvs_future_wait(opening, -1) != 0) {
        fprintf(stderr, "batches: %s\n", kvs_future_error_message(opening));
        exit(1);
    }
    kvs_future_get_pointer(opening, &store);
    kvs_future_free(opening);
    return store;
}

static struct batch *make_batches(void)
{
    struct batch *batches = calloc(run.in_flight, sizeof *batches);
    for (unsigned i = 0; batches != NULL && i < run.in_flight; i++) {
        batches[i].keys = calloc(run.keys, sizeof *batches[i].keys);
        batches[i].mutations = calloc(run.keys, sizeof *batches[i].mutations);
        if (batches[i].keys == NULL || batches[i].mutations == NULL)
            return NULL;
    }
    return batches;
}

static void free_batches(struct batch *batches)
{
    for (unsigned i = 0; i < run.in_flight; i++) {
        free(batches[i].keys);
        free(batches[i].mutations);
    }
    free(batches);
}

static const char usage_text[] = "batches URL [SECONDS [KEYS [IN_FLIGHT]]]";

int main(int argc, char **argv)
{
    usage_check(argc, argv, 1, usage_text);
    kvs_runtime *runtime;
    double seconds = argc > 2 ? atof(argv[2]) : 2;
    run.keys = argc > 3 ? (unsigned)atoi(argv[3]) : 100;
    run.in_flight = argc > 4 ? (unsigned)atoi(argv[4]) : 16;
    if (argc > 5 || seconds <= 0 || run.keys < 1 || run.keys > KVS_BATCH_COUNT_MAX ||
        run.in_flight < 1 || run.in_flight > 1024 || kvs_runtime_new(NULL, &runtime) != 0) {
        fprintf(stderr, "usage: %s\n", usage_text);
        return 2;
    }
    struct batch *batches = make_batches();
    if (batches == NULL) {
        fprintf(stderr, "batches: out of memory\n");
        return 1;
    }
    for (unsigned i = 0; i < KEYS_ALL; i++)
        snprintf(run.text[i], sizeof run.text[i], "key:%012u", i);
    memset(value, 'x', sizeof value);
    sem_init(&run.ended, 0, 0);
    run.store = open_store(runtime, argv[1]);
    measure("write", batches, KVS_OP_BATCH_WRITE, seconds);
    /* so that every key is there, however few seconds the measurement took */
    for (unsigned left = KEYS_ALL; left > 0; left = left > run.keys ? left - run.keys : 0) {
        run.pending = 1;
        run.end = 0;
        start(batches, KVS_OP_BATCH_WRITE);
        sem_wait(&run.ended);
    }
    measure("read", batches, KVS_OP_BATCH_GET, seconds);
    kvs_future *closing = kvs_store_close(run.store);
    kvs_future_wait(closing, -1);
    kvs_future_free(closing);
    kvs_runtime_free(runtime);
    sem_destroy(&run.ended);
    free_batches(batches);
    return 0;
}

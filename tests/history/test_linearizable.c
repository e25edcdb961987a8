/*
 * tests/history/test_linearizable.c: many clients at once on one store; what each of them saw must
 * fit into one order.
 *
 *   test_linearizable log|rocksdb|memory [uring]    in this process, compacting and syncing between
 *   test_linearizable server [rocksdb]              a kvs-server, over kvs://, killed by kill -9 in
 *                                                   the middle of each round and started again
 * A round: keys of its own; clients, each a thread with some calls in flight; then two checks.
 *   single keys   sets, removes, compare-and-sets, gets: each key is a history
 *   groups        four registers of two keys each, at both ends of the range of the round, changed
 *                 by batches and range removals, read by scans both ways, batch gets, counts: one
 *                 history. A read that sees the two keys of a register differ has seen half a batch
 * A write whose outcome the client does not know may be there or not, from one moment on, for all.
 * One that failed with any other error must not be there.
 *
 *   KVS_TEST_SEED=N  the same calls again (threads run as they like)
 *   KVS_TEST_SECONDS=N  for so long
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "contract/engine_fixture.h"
#include "crash/server_process.h"
#include "held_port.h"
#include "history/linearizable.h"
#include "times.h"

#include <kvs/kvs.h>

#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLIENTS 6
#define IN_FLIGHT_MAX 4
#define KEYS 6
#define TURNS 60     /* of a client in a round */
#define LAST_TURNS 4 /* what is left at the end of a round is looked at by all */
#define SECONDS 6
#define KEY_SIZE 32
#define VALUE_SIZE_MAX 2000
#define GROUP_KEYS (2 * HISTORY_REGISTERS)
#define CALLS_MAX (CLIENTS * (TURNS + LAST_TURNS) * IN_FLIGHT_MAX)

/* One call under way: the store's operation, and what the history will say of it. */
struct call {
    kvs_op op;
    struct client *client;
    struct history_call noted;
    int key;   /* of a single one; -1: of the groups */
    bool keep; /* it belongs into the history */
    char texts[GROUP_KEYS][KEY_SIZE];
    uint8_t values[HISTORY_REGISTERS][VALUE_SIZE_MAX];
    kvs_slice keys[GROUP_KEYS];
    kvs_mutation mutations[GROUP_KEYS];
};

struct client {
    unsigned index;
    struct rand rand;
    pthread_t thread;
    kvs_store *store;
    struct latch latch;
    unsigned turns;
    struct call calls[IN_FLIGHT_MAX];
};

static struct {
    const char *name;
    kvs_runtime *runtime;
    kvs_store *stores[2];
    bool in_process;
    enum kvs_file_io file_io;
    unsigned number; /* of the round */
    _Atomic uint64_t moment;
    _Atomic uint32_t value;                             /* the last one given to a write */
    pthread_mutex_t lock;                               /* of the histories */
    struct history_call histories[KEYS + 1][CALLS_MAX]; /* the last is the groups' */
    size_t counts[KEYS + 1];
    unsigned given_up; /* histories, in all rounds */
    char wrong[256];
    uint64_t calls, unknown, failed; /* in all rounds */
    struct client clients[CLIENTS];
} world = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void wrong(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&world.lock);
    if (world.wrong[0] == '\0')
        vsnprintf(world.wrong, sizeof world.wrong, format, args);
    pthread_mutex_unlock(&world.lock);
    va_end(args);
}

/* --- keys and values ------------------------------------------------------------------------- */

static kvs_slice single_key(char text[KEY_SIZE], unsigned key)
{
    snprintf(text, KEY_SIZE, "%06u/single/%u", world.number, key);
    return slice_of_string(text);
}

/* Key 0 .. 7: the two ends of the range are registers 0 to 3 each. */
static kvs_slice group_key(char text[KEY_SIZE], unsigned i)
{
    snprintf(text, KEY_SIZE, "%06u/group/%c/%u", world.number, i < HISTORY_REGISTERS ? 'a' : 'z',
             i % HISTORY_REGISTERS);
    return slice_of_string(text);
}

/* A number, then bytes that follow from it. */
static kvs_slice value_make(uint8_t bytes[VALUE_SIZE_MAX], uint16_t number)
{
    size_t size = 2 + (number % 16 == 0 ? number % (VALUE_SIZE_MAX - 2) : number % 60);
    memcpy(bytes, &number, 2);
    for (size_t i = 2; i < size; i++)
        bytes[i] = (uint8_t)(number * 7u + i * 13u);
    return slice_make(bytes, size);
}

static uint16_t value_number(kvs_slice value)
{
    uint8_t expected[VALUE_SIZE_MAX];
    uint16_t number = 0;
    if (value.size >= 2)
        memcpy(&number, value.data, 2);
    if (number == 0 || !slice_equal(value, value_make(expected, number)))
        wrong("%zu bytes that nobody wrote, of number %u", value.size, number);
    return number;
}

static uint16_t value_next(void)
{
    return (uint16_t)(atomic_fetch_add(&world.value, 1) + 1);
}

/* --- answers --------------------------------------------------------------------------------- */

static void note_group_key(struct call *call, unsigned i, uint16_t number)
{
    unsigned reg = i % HISTORY_REGISTERS;
    if (i >= HISTORY_REGISTERS && call->noted.values[reg] != number)
        wrong("half a batch: register %u is %u in its first key and %u in its last", reg,
              call->noted.values[reg], number);
    call->noted.values[reg] = number;
}

/* What a scan of the range, or a batch get of some keys, saw of the groups. */
static void note_pairs(struct call *call)
{
    uint16_t seen[GROUP_KEYS] = {0};
    for (size_t i = 0; i < call->op.pairs_count; i++) {
        const kvs_pair *pair = &call->op.pairs[i];
        if (!pair->found)
            continue;
        const char *key = (const char *)pair->key.data;
        unsigned reg = (unsigned)(key[pair->key.size - 1] - '0') % HISTORY_REGISTERS;
        bool last = key[pair->key.size - 3] == 'z';
        seen[reg + (last ? HISTORY_REGISTERS : 0)] = value_number(pair->value);
    }
    if (call->op.more)
        wrong("a scan of %u keys was cut", GROUP_KEYS);
    for (unsigned i = 0; i < GROUP_KEYS; i++) {
        if ((call->noted.mask & 1u << i % HISTORY_REGISTERS) != 0)
            note_group_key(call, i, seen[i]);
    }
}

static void note_answer(struct call *call)
{
    const kvs_op *op = &call->op;
    struct history_call *noted = &call->noted;
    switch (op->kind) {
    case KVS_OP_GET:
        noted->values[0] = op->error == 0 ? value_number(op->result) : 0;
        break;
    case KVS_OP_REMOVE:
        noted->held = op->error == 0;
        break;
    case KVS_OP_CAS:
        noted->held = op->error == 0;
        if (!noted->held)
            noted->values[0] = op->number == 0 ? 0 : value_number(op->result);
        break;
    case KVS_OP_SCAN:
    case KVS_OP_BATCH_GET:
        note_pairs(call);
        break;
    case KVS_OP_COUNT:
        noted->values[0] = (uint16_t)(op->number / 2);
        if (op->number % 2 != 0)
            wrong("half a batch: a count of %lld", (long long)op->number);
        break;
    default:
        break;
    }
}

static bool is_write(const kvs_op *op)
{
    return op->kind == KVS_OP_SET || op->kind == KVS_OP_REMOVE || op->kind == KVS_OP_CAS ||
           op->kind == KVS_OP_BATCH_WRITE || op->kind == KVS_OP_REMOVE_RANGE;
}

static bool is_answer(int error)
{
    return error == 0 || error == KVS_ERR_NOT_FOUND || error == KVS_ERR_CONDITION_FAILED;
}

static void call_on_done(kvs_op *op)
{
    struct call *call = op->user;
    call->noted.returned = atomic_fetch_add(&world.moment, 1);
    latch_down(&call->client->latch);
}

static void call_note(struct call *call)
{
    const kvs_op *op = &call->op;
    bool unknown = is_write(op) && kvs_error_maybe_committed(op->error);
    if (is_answer(op->error))
        note_answer(call);
    else if (world.in_process)
        wrong("kind %u: %s (%s)", op->kind, kvs_error_name(op->error), op->message);
    if (unknown)
        call->noted.returned = HISTORY_NEVER;
    pthread_mutex_lock(&world.lock);
    world.calls++;
    world.unknown += unknown;
    world.failed += !unknown && !is_answer(op->error);
    if (call->keep && (unknown || is_answer(op->error))) {
        int which = call->key >= 0 ? call->key : KEYS;
        world.histories[which][world.counts[which]++] = call->noted;
    }
    pthread_mutex_unlock(&world.lock);
}

/* --- calls ----------------------------------------------------------------------------------- */

static void call_single(struct call *call, struct rand *rand, bool looks)
{
    kvs_op *op = &call->op;
    struct history_call *noted = &call->noted;
    call->key = (int)rand_below(rand, KEYS);
    op->key = single_key(call->texts[0], (unsigned)call->key);
    noted->mask = 1;
    unsigned choice = looks ? 0 : (unsigned)rand_below(rand, 10);
    op->kind = choice < 4 ? KVS_OP_GET : choice < 7 ? KVS_OP_SET : KVS_OP_CAS;
    noted->kind = choice < 4 ? HISTORY_GET : choice < 7 ? HISTORY_SET : HISTORY_CAS;
    if (choice == 9) {
        op->kind = KVS_OP_REMOVE;
        noted->kind = HISTORY_REMOVE;
    }
    if (choice >= 4 && choice < 9) {
        noted->values[0] = value_next();
        op->value = value_make(call->values[0], noted->values[0]);
    }
    if (op->kind != KVS_OP_CAS)
        return;
    if (rand_below(rand, 4) == 0) {
        op->flags = KVS_OP_FLAG_EXPECT_ABSENT;
        return;
    }
    uint32_t last = atomic_load(&world.value); /* of one given lately, which may well be there */
    noted->expected = (uint16_t)(last - rand_below(rand, last < 12 ? last : 12));
    op->expected = value_make(call->values[1], noted->expected);
}

static void group_write(struct call *call, struct rand *rand)
{
    struct history_call *noted = &call->noted;
    noted->kind = HISTORY_SET;
    if (rand_below(rand, 12) == 0) {
        call->op.kind = KVS_OP_REMOVE_RANGE;
        noted->mask = 15;
        return;
    }
    call->op.kind = KVS_OP_BATCH_WRITE;
    call->op.mutations = call->mutations;
    for (unsigned reg = 0; reg < HISTORY_REGISTERS; reg++) {
        if ((noted->mask & 1u << reg) == 0)
            continue;
        bool removes = rand_below(rand, 5) == 0;
        noted->values[reg] = removes ? 0 : value_next();
        kvs_slice value =
            removes ? (kvs_slice){0} : value_make(call->values[reg], noted->values[reg]);
        for (unsigned i = reg; i < GROUP_KEYS; i += HISTORY_REGISTERS) {
            kvs_slice key = group_key(call->texts[i], i);
            call->mutations[call->op.count++] =
                removes ? mutation_remove(key) : mutation_set(key, value);
        }
    }
}

static void call_group(struct call *call, struct rand *rand, bool looks)
{
    kvs_op *op = &call->op;
    call->key = -1;
    call->noted.kind = HISTORY_GET;
    call->noted.mask = 15;
    op->key = group_key(call->texts[0], 0);
    op->end_key = slice_make(call->texts[1], op->key.size);
    memcpy(call->texts[1], op->key.data, op->key.size);
    call->texts[1][op->key.size - 3] = 'z' + 1; /* behind "z/3" */
    unsigned choice = (unsigned)rand_below(rand, 8);
    if (choice < 2 || looks) {
        op->kind = KVS_OP_SCAN;
        op->limit = 100;
        op->flags = choice == 0 ? KVS_OP_FLAG_REVERSE : 0;
    } else if (choice == 2) {
        op->kind = KVS_OP_COUNT;
        call->noted.kind = HISTORY_COUNT;
    } else if (choice == 3) {
        call->noted.mask = (uint8_t)(1 + rand_below(rand, 15));
        op->kind = KVS_OP_BATCH_GET;
        op->keys = call->keys;
        for (unsigned i = 0; i < GROUP_KEYS; i++) {
            if ((call->noted.mask & 1u << i % HISTORY_REGISTERS) != 0)
                call->keys[op->count++] = group_key(call->texts[i], i);
        }
    } else {
        call->noted.mask = (uint8_t)(1 + rand_below(rand, 15));
        group_write(call, rand);
    }
}

static void call_start(struct client *client, struct call *call, bool looks)
{
    struct rand *rand = &client->rand;
    call->op = KVS_OP_INIT;
    call->op.on_done = call_on_done;
    call->op.user = call;
    call->client = client;
    call->noted = (struct history_call){.client = (uint8_t)client->index};
    call->key = -1;
    call->keep = true;
    if (!looks && rand_below(rand, 100) == 0) {
        call->op.kind = rand_below(rand, 2) == 0 ? KVS_OP_COMPACT : KVS_OP_SYNC;
        call->keep = false;
    } else if (rand_below(rand, 3) == 0) {
        call_group(call, rand, looks);
    } else {
        call_single(call, rand, looks);
    }
    call->noted.called = atomic_fetch_add(&world.moment, 1);
    kvs_store_submit(client->store, &call->op);
}

static void *client_run(void *arg)
{
    struct client *client = arg;
    for (unsigned turn = 0; turn < client->turns; turn++) {
        bool looks = client->turns == LAST_TURNS;
        unsigned count = 1 + (unsigned)rand_below(&client->rand, IN_FLIGHT_MAX);
        latch_init(&client->latch, count);
        for (unsigned i = 0; i < count; i++)
            call_start(client, &client->calls[i], looks);
        latch_wait(&client->latch);
        latch_deinit(&client->latch);
        for (unsigned i = 0; i < count; i++) {
            call_note(&client->calls[i]);
            kvs_op_release(&client->calls[i].op);
        }
    }
    return NULL;
}

/* --- rounds ---------------------------------------------------------------------------------- */

static void clients_start(unsigned turns)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        world.clients[i].store = world.stores[i % 2];
        world.clients[i].turns = turns;
        pthread_create(&world.clients[i].thread, NULL, client_run, &world.clients[i]);
    }
}

static void clients_join(void)
{
    for (unsigned i = 0; i < CLIENTS; i++)
        pthread_join(world.clients[i].thread, NULL);
}

static void round_begin(void)
{
    world.number++;
    memset(world.counts, 0, sizeof world.counts);
    atomic_store(&world.value, 0);
    atomic_store(&world.moment, 1);
}

/* False, and said why, when no order fits. */
static bool round_check(void)
{
    for (unsigned i = 0; i <= KEYS; i++) {
        static bool done[CALLS_MAX];
        size_t stuck;
        enum history_verdict verdict =
            history_check(world.histories[i], world.counts[i], &stuck, done);
        world.given_up +=
            verdict == HISTORY_GIVEN_UP; /* many of unknown outcome: too many orders */
        if (verdict != HISTORY_REFUSED)
            continue;
        printf("# round %u, %s %u: not linearizable: %zu calls, the longest order has %zu\n",
               world.number, i < KEYS ? "key" : "groups", i, world.counts[i], stuck);
        history_print(stdout, world.histories[i], world.counts[i], done);
        return false;
    }
    if (world.wrong[0] != '\0')
        printf("# round %u: %s\n", world.number, world.wrong);
    return world.wrong[0] == '\0';
}

static bool stores_open(const char *url)
{
    struct kvs_store_options options = {.size = sizeof options,
                                        .sync = KVS_SYNC_INTERVAL,
                                        .segment_size_bytes = 64 * 1024,
                                        .cache_size_bytes = 64 * 1024,
                                        .file_io = world.file_io,
                                        .connect_timeout_ms = PATIENT_MS,
                                        .timeout_ms = world.in_process ? 0 : PATIENT_MS,
                                        .connections = 2};
    for (unsigned i = 0; i < (world.in_process ? 1 : 2); i++) {
        kvs_future *future = kvs_store_open(world.runtime, url, &options);
        void *store = NULL;
        if (kvs_future_wait(future, -1) != 0)
            printf("# %s: %s\n", url, kvs_future_error_message(future));
        else
            kvs_future_get_pointer(future, &store);
        kvs_future_free(future);
        world.stores[i] = store;
        if (store == NULL)
            return false;
    }
    if (world.in_process)
        world.stores[1] = world.stores[0];
    return true;
}

static void stores_close(void)
{
    for (unsigned i = 0; i < (world.in_process ? 1 : 2); i++) {
        if (world.stores[i] == NULL)
            continue;
        kvs_future *future = kvs_store_close(world.stores[i]);
        kvs_future_wait(future, -1);
        kvs_future_free(future);
    }
}

static bool run_in_process(const char *name, const char *directory, uint64_t end_ms)
{
    char url[128];
    snprintf(url, sizeof url, "%s:%s", name, strcmp(name, "memory") == 0 ? "" : directory);
    world.in_process = true;
    bool fine = stores_open(url);
    while (fine && clock_now_ms() < end_ms) {
        round_begin();
        clients_start(TURNS);
        clients_join();
        clients_start(LAST_TURNS);
        clients_join();
        fine = round_check();
    }
    stores_close();
    return fine;
}

/* The same port again, so that the clients find it. */
static bool server_start(struct server_process *server, const char *engine, const char *directory,
                         const char *address, struct rand *rand)
{
    static const char *const syncs[] = {"always", "interval", "never"};
    const char *arguments[] = {"--engine",
                               engine,
                               "--dir",
                               directory,
                               "--sync",
                               syncs[rand_below(rand, 3)],
                               "--segment-size",
                               "1048576",
                               "--cache",
                               "1048576",
                               "--addr",
                               address,
                               NULL};
    if (server_process_start(server, arguments))
        return true;
    printf("# the server does not start: %s\n", server->log);
    return false;
}

static bool run_server(const char *engine, const char *directory, uint64_t end_ms,
                       struct rand *rand)
{
    struct server_process server;
    struct held_port port;
    held_port_take(&port);
    if (!server_start(&server, engine, directory, port.address, rand))
        return false;
    char url[48];
    snprintf(url, sizeof url, "kvs://%s", port.address);
    bool fine = stores_open(url);
    unsigned kills = 0;
    while (fine && clock_now_ms() < end_ms) {
        round_begin();
        clients_start(TURNS);
        usleep((useconds_t)(500 * (1 + rand_below(rand, 60))));
        server_process_end(&server, SIGKILL);
        kills++;
        fine = server_start(&server, engine, directory, port.address, rand);
        clients_join();
        clients_start(LAST_TURNS);
        clients_join();
        fine = fine && round_check();
    }
    printf("# %u kills\n", kills);
    stores_close();
    server_process_end(&server, SIGTERM);
    held_port_give_back(&port);
    return fine;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "log";
    uint64_t seed = test_seed();
    const char *seconds = getenv("KVS_TEST_SECONDS");
    uint64_t end_ms =
        clock_now_ms() + 1000 * (seconds != NULL ? strtoull(seconds, NULL, 0) : SECONDS);
    char directory[] = "/tmp/kvs-history-XXXXXX";
    if (mkdtemp(directory) == NULL)
        return 1;
    log_set_level(LOG_SILENT);
    struct kvs_runtime_options options = {.size = sizeof options, .loops = 2};
    if (kvs_runtime_new(&options, &world.runtime) != 0)
        return 1;
    struct rand rand = rand_seed(seed);
    for (unsigned i = 0; i < CLIENTS; i++) {
        world.clients[i].index = i;
        world.clients[i].rand = rand_seed(seed + 1 + i);
    }
    bool server = strcmp(name, "server") == 0;
    if (!server && argc > 2 && strcmp(argv[2], "uring") == 0)
        world.file_io = KVS_FILE_IO_URING;
    bool fine = server ? run_server(argc > 2 ? argv[2] : "kvs", directory, end_ms, &rand)
                       : run_in_process(name, directory, end_ms);
    kvs_runtime_free(world.runtime);
    printf("# %u rounds, %llu calls, %llu of unknown outcome, %llu failed; %u histories given up\n",
           world.number, (unsigned long long)world.calls, (unsigned long long)world.unknown,
           (unsigned long long)world.failed, world.given_up);
    if (2 * world.given_up > world.number * (KEYS + 1)) /* of too many nothing is known */
        fine = false;
    directory_remove(directory);
    printf("1..1\n%sok 1 - what %u clients saw of %s fits into one order\n", fine ? "" : "not ",
           CLIENTS, name);
    return !fine;
}

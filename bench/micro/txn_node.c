/*
 * bench/micro/txn_node.c: what transactions cost in a node of this process.
 *
 *   txn_node ENGINE KEYS [OPS]     ENGINE: memory, or a directory for the log engine
 *
 * KEYS keys are there before (one version each). 64 transactions in flight on one loop, gathered by
 * turn; each on a random key. Prints wall and processor time of one, for: a get at a timestamp in a
 * view of its own; a one-phase commit; prewrite and commit.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"
#include "runtime/loop.h"
#include "txn/node.h"
#include "usage.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define IN_FLIGHT 64u
#define KEY_SIZE 16u
#define LOAD_KEYS 1000u /* of one prewrite while loading */

enum work { WORK_LOAD, WORK_ONE_PHASE, WORK_TWO_PHASES };

struct slot {
    union {
        struct txn_prewrite prewrite;
        struct txn_commit commit;
    };
    struct txn_mutation mutations[LOAD_KEYS];
    char keys[LOAD_KEYS][KEY_SIZE + 1];
    kvs_slice slices[LOAD_KEYS];
    uint32_t count;
    uint64_t start_ts;
};

static struct loop loop;
static struct txn_node *node;
static struct loop_hook hook;
static struct task_list gathered;
static struct task begin_task;
static struct slot *slots;
static struct rand random_state;
static sem_t done;
static enum work work;
static uint64_t clock_ts = (uint64_t)1 << 40;
static uint64_t keys_count;
static uint64_t left;
static uint64_t loaded;
static unsigned running;
static uint64_t failures;

static void slot_begin(struct slot *slot);

static void slot_submit(struct slot *slot, struct txn_command *command, task_fn *on_done)
{
    (void)slot;
    command->op.loop = &loop;
    command->op.task.run = on_done;
    task_list_push(&gathered, &command->op.task);
}

static void slot_on_end(struct slot *slot)
{
    if (left > 0) {
        slot_begin(slot);
        return;
    }
    if (--running == 0)
        sem_post(&done);
}

static void slot_on_committed(struct task *task)
{
    struct slot *slot = CONTAINER_OF(task, struct slot, commit.base.op.task);
    failures += slot->commit.base.op.error != 0 || slot->commit.error.kind != 0;
    txn_command_deinit(&slot->commit.base);
    slot_on_end(slot);
}

static void slot_on_prewritten(struct task *task)
{
    struct slot *slot = CONTAINER_OF(task, struct slot, prewrite.base.op.task);
    bool is_bad = slot->prewrite.base.op.error != 0 || slot->prewrite.errors_count > 0;
    failures += is_bad;
    txn_command_deinit(&slot->prewrite.base);
    if (is_bad || work != WORK_TWO_PHASES) {
        slot_on_end(slot);
        return;
    }
    txn_command_init(&slot->commit.base, TXN_COMMIT);
    slot->commit.keys = slot->slices;
    slot->commit.keys_count = slot->count;
    slot->commit.start_ts = slot->start_ts;
    slot->commit.commit_ts = ++clock_ts;
    slot_submit(slot, &slot->commit.base, slot_on_committed);
}

static void slot_key(struct slot *slot, uint32_t i, uint64_t key)
{
    snprintf(slot->keys[i], KEY_SIZE + 1, "%016llx",
             (unsigned long long)(key * 0x9e3779b97f4a7c15u));
    slot->slices[i] = slice_make(slot->keys[i], KEY_SIZE);
    slot->mutations[i] = (struct txn_mutation){
        .op = TXN_OP_PUT, .key = slot->slices[i], .value = slice_make("0123456789abcdef", 16)};
}

static void slot_begin(struct slot *slot)
{
    slot->count = 1;
    if (work == WORK_LOAD) {
        slot->count = left < LOAD_KEYS ? (uint32_t)left : LOAD_KEYS;
        for (uint32_t i = 0; i < slot->count; i++)
            slot_key(slot, i, loaded++);
    } else {
        slot_key(slot, 0, rand_below(&random_state, keys_count));
    }
    left -= slot->count;
    slot->start_ts = ++clock_ts;
    txn_command_init(&slot->prewrite.base, TXN_PREWRITE);
    slot->prewrite.mutations = slot->mutations;
    slot->prewrite.mutations_count = slot->count;
    slot->prewrite.primary = slot->slices[0];
    slot->prewrite.start_ts = slot->start_ts;
    slot->prewrite.lock_ttl_ms = 3000;
    slot->prewrite.try_one_pc = work != WORK_TWO_PHASES;
    slot_submit(slot, &slot->prewrite.base, slot_on_prewritten);
}

static void on_turn_end(struct loop_hook *ended)
{
    (void)ended;
    struct task_list list = gathered;
    gathered = (struct task_list){0};
    if (list.first != NULL)
        txn_submit_list(node, &list);
}

static void on_begin(struct task *task)
{
    (void)task;
    if (hook.run == NULL) {
        hook.run = on_turn_end;
        loop_add_hook(&loop, &hook);
    }
    for (unsigned i = 0; i < IN_FLIGHT && left > 0; i++) {
        running++;
        slot_begin(&slots[i]);
    }
}

static double cpu_ns(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return 1e9 * (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e3 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void run(enum work what, uint64_t count, const char *name)
{
    work = what;
    left = count;
    uint64_t begin_ns = clock_now_ns();
    double cpu = cpu_ns();
    begin_task.run = on_begin;
    loop_post(&loop, &begin_task);
    while (sem_wait(&done) != 0) {
    }
    double n = (double)count;
    printf("%-12s %9.0f ns wall, %6.0f ns processor\n", name,
           (double)(clock_now_ns() - begin_ns) / n, (cpu_ns() - cpu) / n);
    fflush(stdout);
}

static void run_gets(uint64_t count)
{
    uint64_t begin_ns = clock_now_ns();
    double cpu = cpu_ns();
    for (uint64_t i = 0; i < count; i++) {
        slot_key(&slots[0], 0, rand_below(&random_state, keys_count));
        struct txn_get get;
        txn_command_init(&get.base, TXN_GET);
        get.key = slots[0].slices[0];
        get.read.ts = ++clock_ts;
        failures += !txn_answer(node, &get.base) || !get.found;
        txn_command_deinit(&get.base);
    }
    printf("%-12s %9.0f ns wall, %6.0f ns processor\n", "get",
           (double)(clock_now_ns() - begin_ns) / (double)count, (cpu_ns() - cpu) / (double)count);
}

int main(int argc, char **argv)
{
    usage_check(argc, argv, 2, "txn_node memory|DIRECTORY KEYS [OPS]");
    keys_count = strtoull(argv[2], NULL, 0);
    uint64_t ops = argc > 3 ? strtoull(argv[3], NULL, 0) : 300000;
    kvs_thread_pool *pool;
    struct engine_message message;
    struct engine *engine;
    struct engine_options options = {.directory = argv[1], .sync = KVS_SYNC_NEVER};
    if (keys_count == 0 || kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, 2, &pool) != 0)
        return 2;
    options.pool = pool;
    int error = strcmp(argv[1], "memory") == 0
                    ? memory_engine_open_blocking(&options, &engine, &message)
                    : log_engine_open_blocking(&options, &engine, &message);
    if (error != 0) {
        fprintf(stderr, "txn_node: %s\n", message.text);
        return 1;
    }
    struct txn_node_options node_options = {.max_ts = 1};
    slots = mem_zalloc(IN_FLIGHT * sizeof *slots);
    if (slots == NULL || txn_node_new(engine, &node_options, &node) != 0 ||
        loop_init(&loop, 0) != 0 || loop_start(&loop, "bench-loop") != 0)
        return 1;
    sem_init(&done, 0, 0);
    random_state = rand_seed(1);
    run(WORK_LOAD, keys_count, "load, a key");
    run_gets(ops);
    run(WORK_ONE_PHASE, ops, "one phase");
    run(WORK_TWO_PHASES, ops, "two phases");
    printf("failures     %llu\n", (unsigned long long)failures);
    loop_stop(&loop);
    loop_deinit(&loop);
    txn_node_free(node);
    engine_close_blocking(engine);
    kvs_thread_pool_unref(pool);
    mem_free(slots);
    return failures > 0;
}

/*
 * examples/operations.c: the task of all examples (see blocking.c) with operations of one's own:
 * what the library itself uses inside.
 *
 * A struct kvs_op holds a call from its inputs to its results. It lies in the program's memory, so
 * a call allocates nothing, and an operation can be used again when it is done. All of a step are
 * submitted with one crossing of threads; the callback that finds itself the last one starts the
 * next step. Usage: operations URL.
 */
#include <kvs/kvs.h>

#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#define KEYS 1000

struct item {
    kvs_op op; /* first, so that the op's address is the item's */
    char key[16];
    char value[16];
};

/* Big, and all that the task needs: made once. */
static struct task {
    kvs_store *store;
    enum { SETTING, GETTING, REMOVING } step;
    int pending;
    int stored;
    int64_t sum;
    int64_t removed;
    int error; /* the first one */
    sem_t ended;
    struct item items[KEYS];
    kvs_op *ops[KEYS];
} task;

static void on_done(kvs_op *op);

static void start_step(int step, enum kvs_op_kind kind)
{
    task.step = step;
    task.pending = KEYS;
    for (int i = 0; i < KEYS; i++) {
        struct item *item = &task.items[i];
        item->op = KVS_OP_INIT;
        item->op.kind = (uint8_t)kind;
        item->op.key =
            kvs_slice_of(item->key); /* inputs are not copied: they stay where they are */
        item->op.value = kvs_slice_of(item->value);
        item->op.on_done = on_done;
        task.ops[i] = &item->op;
    }
    kvs_store_submit_many(task.store, task.ops, KEYS);
}

static void take_result(const kvs_op *op)
{
    char text[32];
    if (op->error != 0) {
        if (task.error == 0)
            task.error = op->error;
        return;
    }
    switch (task.step) {
    case SETTING:
        task.stored++;
        break;
    case GETTING:
        snprintf(text, sizeof text, "%.*s", (int)op->result.size, (const char *)op->result.data);
        task.sum += strtoll(text, NULL, 10);
        break;
    case REMOVING:
        task.removed++;
        break;
    }
}

/* On the store's loop, one at a time. */
static void on_done(kvs_op *op)
{
    take_result(op);
    kvs_op_release(op); /* gives back the value of a get */
    if (--task.pending > 0)
        return;
    if (task.error != 0 || task.step == REMOVING)
        sem_post(&task.ended);
    else if (task.step == SETTING)
        start_step(GETTING, KVS_OP_GET);
    else
        start_step(REMOVING, KVS_OP_REMOVE);
}

int main(int argc, char **argv)
{
    kvs_runtime *runtime;
    if (argc != 2 || kvs_runtime_new(NULL, &runtime) != 0) {
        fprintf(stderr, "usage: operations URL, such as memory:\n");
        return 2;
    }
    void *pointer = NULL;
    kvs_future *opening = kvs_store_open(runtime, argv[1], NULL);
    if (opening == NULL || kvs_future_wait(opening, -1) != 0) {
        fprintf(stderr, "operations: %s\n",
                opening != NULL ? kvs_future_error_message(opening) : "out of memory");
        kvs_future_free(opening);
        kvs_runtime_free(runtime);
        return 1;
    }
    kvs_future_get_pointer(opening, &pointer);
    kvs_future_free(opening);
    task.store = pointer;

    sem_init(&task.ended, 0, 0);
    for (int i = 0; i < KEYS; i++) {
        snprintf(task.items[i].key, sizeof task.items[i].key, "example/%04d", i);
        snprintf(task.items[i].value, sizeof task.items[i].value, "%d", i);
    }
    start_step(SETTING, KVS_OP_SET);
    sem_wait(&task.ended);

    if (task.error != 0)
        fprintf(stderr, "operations: %s\n", kvs_error_text(task.error));
    else
        printf("operations: stored %d, sum %" PRId64 ", removed %" PRId64 "\n", task.stored,
               task.sum, task.removed);
    kvs_future *closing = kvs_store_close(task.store);
    kvs_future_wait(closing, -1);
    kvs_future_free(closing);
    kvs_runtime_free(runtime);
    sem_destroy(&task.ended);
    return task.error != 0;
}

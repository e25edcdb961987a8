/*
 * examples/uv_loop.c: the task of all examples (see blocking.c) inside a program that has a libuv
 * loop already.
 *
 * The runtime puts its handles on that loop: no further thread runs callbacks, and the program's
 * own timers and sockets go on beside them (here a timer that counts). The end is in steps, since
 * handles close in later turns: close the store, free the runtime, close the timer. Usage: uv_loop
 * URL.
 */
#include <kvs/kvs.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#define KEYS 1000

struct program {
    kvs_runtime *runtime;
    kvs_store *store;
    uv_timer_t timer; /* stands for all else that the program does on its loop */
    int ticks;
    int pending;
    int stored;
    int64_t sum;
    int64_t removed;
    int status;
};

static void on_closed(kvs_future *future, void *arg)
{
    struct program *program = arg;
    if (future != NULL)
        kvs_future_free(future);
    kvs_runtime_free(program->runtime); /* returns at once; its handles close by and by */
    uv_close((uv_handle_t *)&program->timer, NULL);
}

static void finish(struct program *program)
{
    if (program->store == NULL)
        on_closed(NULL, program);
    else
        kvs_future_on_ready(kvs_store_close(program->store), on_closed, program);
}

static void start(struct program *program, kvs_future *future, kvs_future_fn *fn)
{
    program->pending++;
    if (future == NULL || kvs_future_on_ready(future, fn, program) != 0) {
        fprintf(stderr, "uv_loop: out of memory\n");
        exit(1);
    }
}

/* True: the step's last answer has come, and all went well. */
static bool step_ended(struct program *program, kvs_future *future)
{
    if (kvs_future_error(future) != 0) {
        if (program->status == 0)
            fprintf(stderr, "uv_loop: %s\n", kvs_future_error_message(future));
        program->status = 1;
    }
    kvs_future_free(future);
    if (--program->pending > 0)
        return false;
    if (program->status != 0)
        finish(program);
    return program->status == 0;
}

static void on_removed(kvs_future *future, void *arg)
{
    struct program *program = arg;
    kvs_future_get_number(future, &program->removed);
    if (!step_ended(program, future))
        return;
    printf("uv_loop: stored %d, sum %" PRId64 ", removed %" PRId64 "\n", program->stored,
           program->sum, program->removed);
    finish(program);
}

static void on_got(kvs_future *future, void *arg)
{
    struct program *program = arg;
    kvs_slice value;
    if (kvs_future_get_value(future, &value) == 0) {
        char text[32];
        snprintf(text, sizeof text, "%.*s", (int)value.size, (const char *)value.data);
        program->sum += strtoll(text, NULL, 10);
    }
    if (step_ended(program, future))
        start(program,
              kvs_store_remove_range(program->store, kvs_slice_of("example/"),
                                     kvs_slice_of("example0")),
              on_removed);
}

static void on_set(kvs_future *future, void *arg)
{
    struct program *program = arg;
    program->stored += kvs_future_error(future) == 0;
    if (!step_ended(program, future))
        return;
    for (int i = 0; i < KEYS; i++) {
        char key[32];
        snprintf(key, sizeof key, "example/%04d", i);
        start(program, kvs_store_get(program->store, kvs_slice_of(key)), on_got);
    }
}

static void on_opened(kvs_future *future, void *arg)
{
    struct program *program = arg;
    void *store;
    if (kvs_future_get_pointer(future, &store) == 0)
        program->store = store;
    if (!step_ended(program, future))
        return;
    for (int i = 0; i < KEYS; i++) {
        char key[32];
        char value[32];
        snprintf(key, sizeof key, "example/%04d", i);
        snprintf(value, sizeof value, "%d", i);
        start(program, kvs_store_set(program->store, kvs_slice_of(key), kvs_slice_of(value)),
              on_set);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct program *program = timer->data;
    program->ticks++;
}

int main(int argc, char **argv)
{
    struct program program = {0};
    uv_loop_t loop;
    if (argc != 2 || uv_loop_init(&loop) != 0 ||
        kvs_runtime_new_on_uv(&loop, NULL, &program.runtime) != 0) {
        fprintf(stderr, "usage: uv_loop URL, such as memory:\n");
        return 2;
    }
    uv_timer_init(&loop, &program.timer);
    program.timer.data = &program;
    uv_timer_start(&program.timer, on_tick, 1, 1);

    start(&program, kvs_store_open(program.runtime, argv[1], NULL), on_opened);
    uv_run(&loop, UV_RUN_DEFAULT); /* ends when the last handle has closed */
    if (uv_loop_close(&loop) != 0) {
        fprintf(stderr, "uv_loop: a handle was left open\n");
        return 1;
    }
    return program.status;
}

/*
 * runtime/loop.c: libuv turned by a thread.
 *
 * A post:
 *   1. the sender pushes the task into the mailbox;
 *   2. if the box was empty, it sends the wake-up (an eventfd write inside libuv);
 *   3. the loop's thread wakes, drains the box and runs the tasks;
 *   4. the prepare handle, which libuv runs last before it waits, runs the hooks.
 * Tasks posted by tasks or hooks find the box empty, send a wake-up, and run in the next turn.
 *
 * Failure: creating a loop needs descriptors and memory; posting cannot fail.
 */
#include "runtime/loop.h"

#include "base/error.h"

#include <assert.h>
#include <kvs/error.h>

static void loop_on_wake(uv_async_t *handle)
{
    struct loop *loop = handle->data;
    struct task_list list = mailbox_take(&loop->mailbox);
    struct task *task;
    while ((task = task_list_pop(&list)) != NULL)
        task->run(task);
}

static void loop_on_turn_end(uv_prepare_t *handle)
{
    struct loop *loop = handle->data;
    struct loop_hook *hook = loop->hooks;
    while (hook != NULL) {
        struct loop_hook *next = hook->next;
        hook->run(hook);
        hook = next;
    }
}

static void loop_note_thread(struct loop *loop)
{
    /* relaxed: compared only with the reader's own thread, which wrote it or did not. */
    atomic_store_explicit(&loop->thread_id, (uintptr_t)pthread_self(), memory_order_relaxed);
}

static int loop_init_handles(struct loop *loop)
{
    mailbox_init(&loop->mailbox);
    int status = uv_async_init(loop->uv, &loop->wake, loop_on_wake);
    if (status != 0)
        return error_from_errno(-status);
    loop->wake.data = loop;
    uv_prepare_init(loop->uv, &loop->turn_end); /* cannot fail */
    loop->turn_end.data = loop;
    uv_prepare_start(&loop->turn_end, loop_on_turn_end);
    return 0;
}

int loop_init(struct loop *loop, unsigned index)
{
    *loop = (struct loop){.index = index};
    int status = uv_loop_init(&loop->own_uv);
    if (status != 0)
        return error_from_errno(-status);
    loop->uv = &loop->own_uv;
    int error = loop_init_handles(loop);
    if (error != 0)
        uv_loop_close(loop->uv);
    return error;
}

int loop_init_hosted(struct loop *loop, uv_loop_t *host)
{
    *loop = (struct loop){.hosted = true, .uv = host};
    int error = loop_init_handles(loop);
    if (error != 0)
        return error;
    loop_note_thread(loop);
    return 0;
}

static void *loop_thread(void *arg)
{
    struct loop *loop = arg;
    loop_note_thread(loop);
    uv_run(loop->uv, UV_RUN_DEFAULT);
    return NULL;
}

int loop_start(struct loop *loop, const char *name)
{
    assert(!loop->hosted && !loop->started);
    int status = pthread_create(&loop->thread, NULL, loop_thread, loop);
    if (status != 0)
        return error_from_errno(status);
    pthread_setname_np(loop->thread, name); /* for tools only: a failure changes nothing */
    loop->started = true;
    return 0;
}

struct stop_task {
    struct task task;
    struct loop *loop;
};

static void loop_close_handles(struct loop *loop)
{
    if (!uv_is_closing((uv_handle_t *)&loop->wake))
        uv_close((uv_handle_t *)&loop->wake, NULL);
    if (!uv_is_closing((uv_handle_t *)&loop->turn_end))
        uv_close((uv_handle_t *)&loop->turn_end, NULL);
}

static void loop_on_stop(struct task *task)
{
    struct loop *loop = CONTAINER_OF(task, struct stop_task, task)->loop;
    loop->stopping = true;
    loop_close_handles(loop);
}

void loop_stop(struct loop *loop)
{
    assert(!loop_is_current(loop));
    if (!loop->started)
        return;
    struct stop_task stop = {.task.run = loop_on_stop, .loop = loop};
    loop_post(loop, &stop.task);
    pthread_join(loop->thread, NULL);
    loop->started = false;
}

void loop_deinit(struct loop *loop)
{
    assert(!loop->hosted && !loop->started);
    loop_close_handles(loop);
    uv_run(loop->uv, UV_RUN_DEFAULT);
    int status = uv_loop_close(loop->uv);
    assert(status == 0 && "a handle outlived its loop");
    (void)status;
}

static void hosted_on_wake_closed(uv_handle_t *handle)
{
    struct loop *loop = handle->data;
    void (*done)(struct loop *) = (void (*)(struct loop *))(uintptr_t)loop->thread_id;
    done(loop);
}

void loop_deinit_hosted(struct loop *loop, void (*done)(struct loop *loop))
{
    assert(loop->hosted);
    /* Handles close in order, so the last one's callback knows that both are gone. */
    atomic_store_explicit(&loop->thread_id, (uintptr_t)done, memory_order_relaxed);
    uv_close((uv_handle_t *)&loop->turn_end, NULL);
    uv_close((uv_handle_t *)&loop->wake, hosted_on_wake_closed);
}

void loop_post(struct loop *loop, struct task *task)
{
    if (mailbox_push(&loop->mailbox, task))
        uv_async_send(&loop->wake);
}

void loop_post_list(struct loop *loop, struct task_list *list)
{
    if (mailbox_push_list(&loop->mailbox, list))
        uv_async_send(&loop->wake);
}

bool loop_is_current(const struct loop *loop)
{
    return atomic_load_explicit(&loop->thread_id, memory_order_relaxed) ==
           (uintptr_t)pthread_self();
}

void loop_add_hook(struct loop *loop, struct loop_hook *hook)
{
    struct loop_hook **end = &loop->hooks;
    while (*end != NULL)
        end = &(*end)->next;
    hook->next = NULL;
    *end = hook;
}

void loop_remove_hook(struct loop *loop, struct loop_hook *hook)
{
    for (struct loop_hook **at = &loop->hooks; *at != NULL; at = &(*at)->next) {
        if (*at == hook) {
            *at = hook->next;
            return;
        }
    }
}

/*
 * runtime/loop.c: libuv turned by a thread.
 *
 * A post from another thread:
 *   1. the sender pushes the task into the mailbox;
 *   2. if the box was empty, it sends the wake-up (an eventfd write inside libuv);
 *   3. the loop's thread wakes, drains the box and runs the tasks;
 *   4. the prepare handle, which libuv runs last before it waits, runs the hooks.
 * A post from the loop's own thread goes to a list that the prepare handle runs before the hooks:
 * no system call, and tasks that follow from each other take one turn. Only what is left after a
 * number of rounds, or posted by hooks, needs a wake-up, so that the turn that follows does not
 * wait. On a host's loop all posts take the mailbox: the host's own prepare handles may run after
 * ours.
 *
 * The list and the mailbox are one queue: a post to the list first puts there what the mailbox
 * holds, and the wake-up runs the list before what it finds in the mailbox. So an answer that is
 * known at once does not overtake one that came from another thread before it.
 *
 * The sender touches the loop after its task may have run, and the task may be the one that lets
 * the loop's owner free it. So senders are counted, and the end waits for the last one to be out.
 *
 * Failure: creating a loop needs descriptors and memory; posting cannot fail.
 */
#include "runtime/loop.h"

#include "base/error.h"
#include "runtime/thread.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <kvs/error.h>
#include <sched.h>
#include <sys/eventfd.h>

/* Rounds of tasks that post tasks in one turn, before sockets get their share again. */
#define ROUNDS_MAX 32

/* Turns without waiting in one loop_turn, before the caller gets a say again. */
#define TURNS_MAX 16

static void tasks_run(struct task_list *list)
{
    struct task *task;
    while ((task = task_list_pop(list)) != NULL)
        task->run(task);
}

/* What others have posted goes behind what is there. An empty mailbox costs one relaxed load, which
 * is enough: a push that happened before, by whatever chain of threads, is seen. */
static void loop_take_mail(struct loop *loop)
{
    struct task_list mail = mailbox_take(&loop->mailbox);
    task_list_splice(&loop->posted, &mail);
}

static void loop_run_posted(struct loop *loop)
{
    struct task_list list = loop->posted;
    loop->posted = (struct task_list){0};
    tasks_run(&list);
}

static void loop_on_wake(uv_async_t *handle)
{
    struct loop *loop = handle->data;
    loop_take_mail(loop);
    loop_run_posted(loop);
}

static void loop_on_turn_end(uv_prepare_t *handle)
{
    struct loop *loop = handle->data;
    for (int i = 0; i < ROUNDS_MAX && loop->posted.first != NULL; i++)
        loop_run_posted(loop);
    for (struct loop_hook *hook = loop->hooks; hook != NULL; hook = loop->next_hook) {
        loop->next_hook = hook->next;
        hook->run(hook);
    }
    if (loop->posted.first != NULL && !uv_is_closing((uv_handle_t *)&loop->wake))
        uv_async_send(&loop->wake);
}

static void loop_note_thread(struct loop *loop)
{
    /* relaxed: compared only with the reader's own thread, which wrote it or did not. */
    atomic_store_explicit(&loop->thread_id, (uintptr_t)pthread_self(), memory_order_relaxed);
}

static void loop_forget_thread(struct loop *loop)
{
    atomic_store_explicit(&loop->thread_id, 0, memory_order_relaxed);
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

/* The first loop of a process opens a pipe beside its own descriptor, and libuv aborts the process
 * when it cannot. */
static int descriptors_try(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -errno;
    int own = eventfd(0, EFD_CLOEXEC);
    int status = own < 0 ? -errno : 0;
    close(ends[0]);
    close(ends[1]);
    if (own >= 0)
        close(own);
    return status;
}

int loop_init(struct loop *loop, unsigned index)
{
    *loop = (struct loop){.index = index};
    int status = descriptors_try();
    if (status == 0)
        status = uv_loop_init(&loop->own_uv);
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
    loop_forget_thread(loop);
    return NULL;
}

int loop_start(struct loop *loop, const char *name)
{
    assert(!loop->hosted && !loop->started);
    int error = thread_start(&loop->thread, name, loop_thread, loop);
    loop->started = error == 0;
    return error;
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
    loop_close_handles(CONTAINER_OF(task, struct stop_task, task)->loop);
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

bool loop_is_ready(const struct loop *loop)
{
    /* libuv gives 0 for timers that are due, handles that close, and also for sockets that epoll
     * has not been told of yet: it learns of them in the next turn. */
    return loop->posted.first != NULL || uv_backend_timeout(loop->uv) == 0;
}

void loop_turn(struct loop *loop, bool wait)
{
    assert(!loop->hosted && !loop->started);
    loop_note_thread(loop);
    uv_run(loop->uv, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT);
    /* What its callbacks left for the turn's end must not wait for the next thing to happen. */
    loop_on_turn_end(&loop->turn_end);
    for (int i = 1; i < TURNS_MAX && loop_is_ready(loop); i++) {
        uv_run(loop->uv, UV_RUN_NOWAIT);
        loop_on_turn_end(&loop->turn_end);
    }
    loop_forget_thread(loop);
}

/* After this no sender touches the loop any more, provided that nobody begins to post. */
static void loop_wait_for_senders(struct loop *loop)
{
    /* acquire: pairs with the release at the end of a post. */
    while (atomic_load_explicit(&loop->senders, memory_order_acquire) > 0)
        sched_yield();
}

void loop_deinit(struct loop *loop)
{
    assert(!loop->hosted && !loop->started);
    loop_wait_for_senders(loop);
    loop_close_handles(loop);
    uv_run(loop->uv, UV_RUN_DEFAULT);
    int status = uv_loop_close(loop->uv);
    assert(status == 0 && "a handle outlived its loop");
    (void)status;
}

static void hosted_on_wake_closed(uv_handle_t *handle)
{
    struct loop *loop = handle->data;
    loop->on_closed(loop);
}

static void hosted_on_turn_end_closed(uv_handle_t *handle)
{
    struct loop *loop = handle->data;
    uv_close((uv_handle_t *)&loop->wake, hosted_on_wake_closed);
}

void loop_deinit_hosted(struct loop *loop, void (*on_closed)(struct loop *loop))
{
    assert(loop->hosted);
    loop_wait_for_senders(loop);
    loop->on_closed = on_closed;
    /* One after the other: libuv promises no order between the callbacks of two handles. */
    uv_close((uv_handle_t *)&loop->turn_end, hosted_on_turn_end_closed);
}

void loop_post(struct loop *loop, struct task *task)
{
    struct task_list list = {0};
    task_list_push(&list, task);
    loop_post_list(loop, &list);
}

void loop_post_list(struct loop *loop, struct task_list *list)
{
    if (!loop->hosted && loop_is_current(loop)) {
        loop_take_mail(loop);
        task_list_splice(&loop->posted, list);
        return;
    }
    /* relaxed: ordered before the push by the push's release, which the loop acquires. */
    atomic_fetch_add_explicit(&loop->senders, 1, memory_order_relaxed);
    if (mailbox_push_list(&loop->mailbox, list))
        uv_async_send(&loop->wake);
    atomic_fetch_sub_explicit(&loop->senders, 1, memory_order_release);
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
    if (loop->next_hook == hook)
        loop->next_hook = hook->next;
    for (struct loop_hook **at = &loop->hooks; *at != NULL; at = &(*at)->next) {
        if (*at == hook) {
            *at = hook->next;
            return;
        }
    }
}

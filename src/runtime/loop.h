/*
 * runtime/loop.h: one libuv loop on one thread, with a mailbox for work from other threads.
 *
 * One turn of a loop:
 *   1. libuv waits for sockets, timers and the mailbox's wake-up, and runs their callbacks; the
 *      wake-up drains the mailbox: the run function of each task is called;
 *   2. the tasks that the loop's own thread posted during the turn run, and those that they post,
 *      each behind what others posted before it;
 *   3. the end-of-turn hooks run, in order of registration: here batches gathered during the turn
 *      are handed to the engine and replies are written; then libuv waits again.
 * What step 3 posts, or step 2 without end, runs in the next turn, which then does not wait.
 *
 * Three kinds of loop: with a thread of its own (loop_init, loop_start), turned by whoever calls
 * loop_turn (loop_init alone), or on the host's libuv loop (loop_init_hosted).
 *
 * All functions but loop_post, loop_post_list and loop_is_current are for the loop's own thread, or
 * for the time before it starts.
 */
#ifndef RUNTIME_LOOP_H
#define RUNTIME_LOOP_H

#include "runtime/mailbox.h"

#include <pthread.h>
#include <stdint.h>
#include <uv.h>

struct loop;

/* Called at the end of every turn in which the loop did anything. */
struct loop_hook {
    struct loop_hook *next;
    void (*run)(struct loop_hook *hook);
};

struct loop {
    uv_loop_t *uv; /* own, or the host's */
    uv_loop_t own_uv;
    uv_async_t wake;
    uv_prepare_t turn_end;
    struct mailbox mailbox;
    atomic_uint senders;     /* threads inside loop_post: the loop is not freed under them */
    struct task_list posted; /* in this turn: by the own thread, and by others before */
    struct loop_hook *hooks;
    struct loop_hook *next_hook; /* the one to run next, while hooks run */
    pthread_t thread;
    bool hosted; /* runs on the host's libuv loop: no thread of its own */
    bool started;
    _Atomic uintptr_t thread_id; /* of the thread that turns it, 0 for none: for loop_is_current */
    unsigned index;              /* among the loops of its runtime or server */
    void (*on_closed)(struct loop *loop); /* hosted: for the end of loop_deinit_hosted */
};

/* Own libuv loop; not started yet. Returns 0 or NO_MEMORY, IO. */
int loop_init(struct loop *loop, unsigned index);
/* On the host's libuv loop, at once; must be called on its thread. */
int loop_init_hosted(struct loop *loop, uv_loop_t *host);

/* Starts the thread, named `name` (15 bytes at most). */
int loop_start(struct loop *loop, const char *name);

/* Asks the loop to end after the turn in which its remaining handles have closed, and joins the
 * thread. The owner of other handles must have closed them (by a task) before. */
void loop_stop(struct loop *loop);

/* A loop that was not started: does what is ready, or, if `wait`, waits until something is. One
 * thread at a time. */
void loop_turn(struct loop *loop, bool wait);

/* Has such a loop something to do although its descriptor is not readable? */
bool loop_is_ready(const struct loop *loop);

/* Closes the loop's own handles and frees it, once all others are closed. Hosted loops do so on the
 * host's loop, which calls `on_closed` when the handles are gone. */
void loop_deinit(struct loop *loop);
void loop_deinit_hosted(struct loop *loop, void (*on_closed)(struct loop *loop));

/* Runs task->run on the loop's thread, soon, never inside this call. Tasks run in the order in
 * which they were posted: those of one thread, and those of several where one post happened before
 * the other. Any thread. */
void loop_post(struct loop *loop, struct task *task);
/* The same for a chain, with one wake-up; the list is empty afterwards. */
void loop_post_list(struct loop *loop, struct task_list *list);

/* Is this the loop's thread? */
bool loop_is_current(const struct loop *loop);

/* A hook may remove itself or others while hooks run. */
void loop_add_hook(struct loop *loop, struct loop_hook *hook);
void loop_remove_hook(struct loop *loop, struct loop_hook *hook);

/* Milliseconds, monotonic, as of the begin of the turn. */
static inline uint64_t loop_now_ms(const struct loop *loop)
{
    return uv_now(loop->uv);
}

#endif

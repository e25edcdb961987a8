/*
 * runtime/op.h: an operation under way: a task that completes exactly once, on the loop that owns
 * it.
 *
 * 1. The submitter fills op.task.run and op.loop and hands the op to an engine or a client.
 * 2. Whoever does the work sets op.error and adds the op to its struct completions.
 * 3. completions_flush posts each loop's share as one chain: one wake-up a loop and batch.
 * 4. The loop runs op.task.run, never inside the submitting call.
 * With op.loop NULL, run is called by completions_flush itself, on the worker's thread: for code
 * that only sets a flag and wakes a waiter.
 */
#ifndef RUNTIME_OP_H
#define RUNTIME_OP_H

#include "runtime/task.h"

struct loop;

struct op {
    struct task task;
    struct loop *loop;
    int error;
};

/* Completed ops on their way back, sorted by loop. */
#define COMPLETIONS_LOOPS_MAX 32

struct completions {
    unsigned count;
    struct loop *loops[COMPLETIONS_LOOPS_MAX];
    struct task_list lists[COMPLETIONS_LOOPS_MAX];
};

#define COMPLETIONS_INIT ((struct completions){.count = 0})

/* Adds an op with its outcome; flushes by itself when more loops take part than have room. */
void completions_add(struct completions *completions, struct op *op, int error);
void completions_flush(struct completions *completions);

#endif

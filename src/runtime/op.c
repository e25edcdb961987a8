/* runtime/op.c: batches of completions; see runtime/op.h. */
#include "runtime/op.h"

#include "runtime/loop.h"

void completions_add(struct completions *completions, struct op *op, int error)
{
    op->error = error;
    unsigned i = 0;
    while (i < completions->count && completions->loops[i] != op->loop)
        i++;
    if (i == COMPLETIONS_LOOPS_MAX) {
        completions_flush(completions);
        i = 0;
    }
    if (i == completions->count) {
        completions->loops[i] = op->loop;
        completions->lists[i] = (struct task_list){0};
        completions->count++;
    }
    task_list_push(&completions->lists[i], &op->task);
}

void completions_flush(struct completions *completions)
{
    for (unsigned i = 0; i < completions->count; i++) {
        struct task_list *list = &completions->lists[i];
        if (completions->loops[i] != NULL) {
            loop_post_list(completions->loops[i], list);
            continue;
        }
        struct task *task;
        while ((task = task_list_pop(list)) != NULL)
            task->run(task);
    }
    completions->count = 0;
}

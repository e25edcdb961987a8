/*
 * runtime/task.h: the unit of work that crosses threads, embedded in whatever it belongs to.
 *
 * A task is owned by one queue at a time; the memory is its embedder's. Nothing is allocated to
 * cross a thread.
 */
#ifndef RUNTIME_TASK_H
#define RUNTIME_TASK_H

#include <stdbool.h>
#include <stddef.h>

struct task;
typedef void task_fn(struct task *task);

struct task {
    struct task *next;
    task_fn *run;
};

/* A chain of tasks in order. Zeroed is empty. */
struct task_list {
    struct task *first;
    struct task *last;
};

static inline void task_list_push(struct task_list *list, struct task *task)
{
    task->next = NULL;
    if (list->last != NULL)
        list->last->next = task;
    else
        list->first = task;
    list->last = task;
}

static inline struct task *task_list_pop(struct task_list *list)
{
    struct task *task = list->first;
    if (task != NULL) {
        list->first = task->next;
        if (list->first == NULL)
            list->last = NULL;
    }
    return task;
}

/* Takes out a task that is among the first `within`; false: it is not. */
static inline bool task_list_remove(struct task_list *list, const struct task *task,
                                    unsigned within)
{
    struct task *before = NULL;
    struct task *at = list->first;
    for (; at != NULL && at != task && within > 1; within--) {
        before = at;
        at = at->next;
    }
    if (at != task)
        return false;
    if (before != NULL)
        before->next = task->next;
    else
        list->first = task->next;
    if (list->last == task)
        list->last = before;
    return true;
}

/* Appends all of `more`, which is empty afterwards. */
static inline void task_list_splice(struct task_list *list, struct task_list *more)
{
    if (more->first == NULL)
        return;
    if (list->last != NULL)
        list->last->next = more->first;
    else
        list->first = more->first;
    list->last = more->last;
    more->first = more->last = NULL;
}

#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

#endif

/*
 * runtime/mailbox.h: many threads put tasks in, one thread takes them all out, in order per sender.
 *
 * A push is one compare-and-swap; the receiver is woken only by the push that finds the box empty,
 * so a batch costs one wake-up however large it is.
 */
#ifndef RUNTIME_MAILBOX_H
#define RUNTIME_MAILBOX_H

#include "runtime/task.h"

#include <stdatomic.h>
#include <stdbool.h>

struct mailbox {
    _Atomic(struct task *) top; /* newest first */
};

static inline void mailbox_init(struct mailbox *mailbox)
{
    atomic_init(&mailbox->top, NULL);
}

/* Puts a chain (first..last, linked by next) in; true when the box was empty: then wake the
 * receiver. */
static inline bool mailbox_push_list(struct mailbox *mailbox, struct task_list *list)
{
    if (list->first == NULL)
        return false;
    /* The box is a stack of newest first, so the chain goes in reversed. */
    struct task *reversed = NULL;
    struct task *oldest = list->first;
    for (struct task *task = list->first; task != NULL;) {
        struct task *next = task->next;
        task->next = reversed;
        reversed = task;
        task = next;
    }
    list->first = list->last = NULL;
    struct task *top = atomic_load_explicit(&mailbox->top, memory_order_relaxed);
    do {
        oldest->next = top;
        /* release: pairs with the acquire in mailbox_take, so that the receiver sees the tasks. */
    } while (!atomic_compare_exchange_weak_explicit(&mailbox->top, &top, reversed,
                                                    memory_order_release, memory_order_relaxed));
    return top == NULL;
}

static inline bool mailbox_push(struct mailbox *mailbox, struct task *task)
{
    struct task_list list = {0};
    task_list_push(&list, task);
    return mailbox_push_list(mailbox, &list);
}

static inline bool mailbox_is_empty(struct mailbox *mailbox)
{
    return atomic_load_explicit(&mailbox->top, memory_order_relaxed) == NULL;
}

/* All tasks, oldest first. Only the receiver calls it. */
static inline struct task_list mailbox_take(struct mailbox *mailbox)
{
    struct task_list list = {0};
    if (mailbox_is_empty(mailbox))
        return list;
    /* acquire: pairs with the release in mailbox_push_list. */
    struct task *task = atomic_exchange_explicit(&mailbox->top, NULL, memory_order_acquire);
    list.last = task;
    while (task != NULL) {
        struct task *older = task->next;
        task->next = list.first;
        list.first = task;
        task = older;
    }
    return list;
}

#endif

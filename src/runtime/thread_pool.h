/*
 * runtime/thread_pool.h: pools as the other layers use them: tasks instead of jobs.
 *
 * A task is embedded in what it works on, so handing it over allocates nothing and cannot fail. Its
 * memory stays the embedder's, who may free it inside task->run.
 */
#ifndef RUNTIME_THREAD_POOL_H
#define RUNTIME_THREAD_POOL_H

#include "runtime/task.h"

#include <kvs/thread_pool.h>

/* Has task->run called on a thread of the pool, never inside this call. Any thread that holds a
 * reference, and any job of the pool. */
void pool_submit_task(kvs_thread_pool *pool, struct task *task);

#endif

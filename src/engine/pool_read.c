/* engine/pool_read.c: see pool_read.h. */
#include "engine/pool_read.h"

#include "runtime/thread_pool.h"

/* Stands in engine_read.state: the op's own task says where the op completes. */
struct pool_read {
    struct task job;
    struct engine *engine;
};

static void pool_read_run(struct task *task)
{
    struct pool_read *mine = CONTAINER_OF(task, struct pool_read, job);
    struct engine_read *read =
        (struct engine_read *)(void *)((char *)mine - offsetof(struct engine_read, state));
    struct engine_view view;
    int error = engine_view_begin(mine->engine, read->snapshot, true, &view);
    if (error == 0) {
        error = read->run(read, &view);
        engine_view_end(&view);
    }
    struct completions completions = COMPLETIONS_INIT;
    completions_add(&completions, &read->op, error);
    completions_flush(&completions);
}

void pool_read_submit(kvs_thread_pool *pool, struct engine *engine, struct engine_read *read)
{
    struct pool_read *mine = (struct pool_read *)(void *)read->state;
    _Static_assert(sizeof *mine <= sizeof read->state, "state is large enough");
    mine->engine = engine;
    mine->job.run = pool_read_run;
    pool_submit_task(pool, &mine->job);
}

/* Each stands in a view as long as it reads, and of these there is room for so many that all others
 * would wait: log/epoch.h. */
#define HELPERS_MAX 16u

void pool_read_help(kvs_thread_pool *pool, struct engine_read *read)
{
    struct pool_read *mine = (struct pool_read *)(void *)read->state;
    /* relaxed: a bound, it tells of nothing else. */
    unsigned helpers = atomic_fetch_add_explicit(&pool->helpers, 1, memory_order_relaxed);
    if (helpers < HELPERS_MAX && pool_take_back(pool, &mine->job))
        pool_read_run(&mine->job);
    atomic_fetch_sub_explicit(&pool->helpers, 1, memory_order_relaxed);
}

/* engine/write_blocking.c: see the header. */
#include "engine/write_blocking.h"

#include "runtime/waiting.h"

struct waited_write {
    struct engine_write write;
    struct waiting waiting;
};

static void waited_on_done(struct task *task)
{
    struct waited_write *waited = CONTAINER_OF(task, struct waited_write, write.op.task);
    waiting_end(&waited->waiting);
}

int engine_write_blocking(struct engine *engine, const kvs_mutation *mutations, uint32_t count)
{
    struct waited_write waited = {
        /* without a loop: it completes on the engine's thread */
        .write = {.op.task.run = waited_on_done, .mutations = mutations, .mutations_count = count},
        .waiting = WAITING_INIT,
    };
    engine_write(engine, &waited.write);
    waiting_for_end(&waited.waiting);
    return waited.write.op.error;
}

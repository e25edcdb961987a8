/* engine/write_blocking.h: a write that the calling thread waits for; no loop may. */
#ifndef ENGINE_WRITE_BLOCKING_H
#define ENGINE_WRITE_BLOCKING_H

#include "engine/engine.h"

/* One batch; returns its op's error. */
int engine_write_blocking(struct engine *engine, const kvs_mutation *mutations, uint32_t count);

#endif

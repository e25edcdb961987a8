/* engine/ring_absent.c: a build without liburing. */
#include "engine/ring_read.h"

#include <assert.h>

int ring_reads_new(struct engine *engine, kvs_thread_pool *pool, struct ring_reads **ret_ring)
{
    return KVS_ERR_UNSUPPORTED;
}

void ring_reads_free(struct ring_reads *ring)
{
    assert(ring == NULL);
}

void ring_read_submit(struct ring_reads *ring, struct engine_read *read)
{
    assert(false); /* there is no ring to submit to */
}

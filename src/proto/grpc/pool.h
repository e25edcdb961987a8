/*
 * proto/grpc/pool.h: memory for nghttp2, which asks for about six small blocks per call and side.
 * Freed blocks of the common sizes are kept for the next call, up to a bound.
 */
#ifndef PROTO_GRPC_POOL_H
#define PROTO_GRPC_POOL_H

#include <nghttp2/nghttp2.h>

#define POOL_CLASSES 4

struct pool_block;

struct pool {
    struct pool_block *free[POOL_CLASSES];
    size_t free_bytes;
};

/* nghttp2's view of the pool, which must outlive the session. */
nghttp2_mem pool_memory(struct pool *pool);

/* Frees what is kept; blocks in use must be none. */
void pool_deinit(struct pool *pool);

#endif

/* proto/grpc/metadata.h: received header fields, by reference, and copies of those to be sent. */
#ifndef PROTO_GRPC_METADATA_H
#define PROTO_GRPC_METADATA_H

#include "proto/grpc/grpc.h"

#include <nghttp2/nghttp2.h>

struct metadata_entry {
    nghttp2_rcbuf *name;
    nghttp2_rcbuf *value;
};

/* Received fields; the bytes stay nghttp2's, counted by reference. */
struct metadata {
    struct metadata_entry *entries;
    size_t count;
    size_t capacity;
};

void metadata_clear(struct metadata *metadata); /* keeps the room for the next call */
void metadata_deinit(struct metadata *metadata);

/* Takes references of its own. Returns 0 or KVS_ERR_NO_MEMORY. */
int metadata_add(struct metadata *metadata, nghttp2_rcbuf *name, nghttp2_rcbuf *value);

struct grpc_header metadata_at(const struct metadata *metadata, size_t index);

/* May these be sent as custom metadata? Names are checked for gRPC's own, too. */
bool metadata_sendable(const struct grpc_header *headers, size_t count);

/* One allocation with the headers and all their bytes; `path` first if it is not empty. */
struct header_copy {
    size_t count;
    kvs_slice path;
    struct grpc_header headers[];
};

/* NULL without memory; freed with mem_free. */
struct header_copy *header_copy_new(kvs_slice path, const struct grpc_header *headers,
                                    size_t count);

static inline kvs_slice rcbuf_slice(nghttp2_rcbuf *rcbuf)
{
    nghttp2_vec vec = nghttp2_rcbuf_get_buf(rcbuf);
    return slice_make(vec.base, vec.len);
}

#endif

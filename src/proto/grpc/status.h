/* proto/grpc/status.h: the status codes of gRPC, and what other failures look like in them. */
#ifndef PROTO_GRPC_STATUS_H
#define PROTO_GRPC_STATUS_H

#include "base/buf.h"
#include "base/slice.h"

#include <stdint.h>

enum grpc_code {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
};
#define GRPC_CODE_MAX 16

/* The name used in the gRPC documents, e.g. "UNAVAILABLE"; "UNKNOWN" for a number outside the
 * table. Never NULL, static. */
const char *grpc_code_name(int code);

/* The code for a value of the grpc-status field; GRPC_UNKNOWN when it is no number of the table. */
int grpc_code_parse(kvs_slice text);

/* The code for an HTTP answer that carries no grpc-status (a proxy, a plain HTTP server). */
int grpc_code_from_http_status(unsigned http_status);

/* The code for a stream that ended with RST_STREAM and no status. */
int grpc_code_from_stream_error(uint32_t http2_error);

/* grpc-message: bytes outside 0x20-0x7e and '%' travel as %XX. Both append to `out` and return 0
 * or KVS_ERR_NO_MEMORY. Decoding takes a '%' that no two hex digits follow as it stands. */
int grpc_message_encode(struct buf *out, kvs_slice text);
int grpc_message_decode(struct buf *out, kvs_slice text);

#endif

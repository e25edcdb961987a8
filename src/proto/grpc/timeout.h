/* proto/grpc/timeout.h: the grpc-timeout field: at most eight digits and a unit (H M S m u n). */
#ifndef PROTO_GRPC_TIMEOUT_H
#define PROTO_GRPC_TIMEOUT_H

#include "base/slice.h"

#include <stdint.h>

#define GRPC_TIMEOUT_TEXT_MAX 10 /* eight digits, a unit, a terminating zero */

/* The value in milliseconds, rounded up. Returns 0 or KVS_ERR_PROTOCOL. */
int grpc_timeout_parse(kvs_slice text, uint64_t *ret_timeout_ms);

/*
 * Writes a zero-terminated value that is not below `timeout_ms` and above it by at most a tenth (up
 * to 27,777 hours): few distinct values, so that the peer's header table keeps them. The exact
 * deadline is the caller's own to watch. Returns the length.
 */
size_t grpc_timeout_format(char text[GRPC_TIMEOUT_TEXT_MAX], uint64_t timeout_ms);

#endif

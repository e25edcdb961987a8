/* tests/unit/proto/grpc_raw.h: HTTP/2 by hand, written and read: a peer that may break every rule.
 */
#ifndef TESTS_GRPC_RAW_H
#define TESTS_GRPC_RAW_H

#include "base/buf.h"

#include <nghttp2/nghttp2.h>

#define RAW_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/* All append to `out`. */
void raw_frame(struct buf *out, uint8_t type, uint8_t flags, uint32_t stream, const void *payload,
               size_t size);
/* The preface and empty SETTINGS, as a client begins. */
void raw_begin(struct buf *out);
/* One header field in an HPACK block, literally. */
void raw_field(struct buf *block, const char *name, const char *value);
/* A good gRPC request's fields. */
void raw_request_fields(struct buf *block, const char *path);
void raw_headers(struct buf *out, uint8_t flags, uint32_t stream, const struct buf *block);
/* A request's HEADERS in one. */
void raw_request(struct buf *out, uint8_t flags, uint32_t stream, const char *path);
/* DATA with one gRPC message. */
void raw_message(struct buf *out, uint8_t flags, uint32_t stream, uint8_t compressed,
                 const char *message);

/* What the engine wrote, as text: "1:HEADERS(:status=200;grpc-status=0;)END 1:RST(8) 0:GOAWAY(1) ".
 * Frames without interest (SETTINGS, WINDOW_UPDATE) are left out; DATA(size); PING acks counted. */
struct raw_seen {
    nghttp2_hd_inflater *inflater;
    struct buf text; /* zero-terminated */
    unsigned ping_acks;
    unsigned pings;
};

void raw_seen_init(struct raw_seen *seen);
void raw_seen_deinit(struct raw_seen *seen);
void raw_seen_take(struct raw_seen *seen, struct buf *bytes); /* empties `bytes` */
const char *raw_seen_text(struct raw_seen *seen);

#endif

/*
 * proto/kvs/wire.h: the kvs protocol's bytes, as in docs/protocol/kvs.md; shared by both sides.
 *
 * Decoding copies nothing: slices point into the bytes given. Every size from outside is checked
 * before it is used. Encoding appends to a buf, whole or not at all.
 */
#ifndef PROTO_KVS_WIRE_H
#define PROTO_KVS_WIRE_H

#include "base/buf.h"

#include <kvs/store.h>

#define WIRE_VERSION_MIN 1u
#define WIRE_VERSION_MAX 1u
#define WIRE_CLIENT_HELLO_SIZE 16u
#define WIRE_SERVER_HELLO_SIZE 60u  /* of version 1; a later one may be longer */
#define WIRE_SERVER_HELLO_FIXED 20u /* up to and with its size field */
#define WIRE_SERVER_HELLO_REST_MAX 4096u
#define WIRE_HEADER_SIZE 16u
#define WIRE_BODY_SIZE_SANE (1u << 30) /* a body beyond this is no frame of ours */
#define WIRE_MISSING UINT32_MAX        /* value_size of a missing key in a batch get's reply */
#define WIRE_SCAN_LIMIT_NONE UINT32_MAX
#define WIRE_REPLY_OVERHEAD_MAX (WIRE_HEADER_SIZE + 16u)

/* Positive, never leaves the process: more bytes are needed to decide. */
#define WIRE_MORE 1

/* Opcodes up to KVS_OP_CHECKPOINT are the numbers of enum kvs_op_kind. */
enum wire_opcode {
    WIRE_CANCEL = 32,
    WIRE_CREDIT = 33,
    WIRE_GOAWAY = 34,
};

#define WIRE_FLAG_TTL 8u     /* requests and mutations; the others are KVS_OP_FLAG_* */
#define WIRE_FLAG_PAGE 16u   /* requests: KVS_OP_FLAG_PAGE */
#define WIRE_FLAG_FOLLOWS 1u /* replies of a scan: another frame comes */
#define WIRE_FLAG_MORE 2u    /* replies of a scan, the last frame: the range has more */

/* What a server announces. */
struct wire_limits {
    uint32_t key_size_max;
    uint32_t value_size_max;
    uint32_t body_size_max;
    uint32_t batch_count_max;
    uint32_t in_flight_max;
    uint32_t scans_max;
    uint32_t page_size;
    uint64_t in_flight_bytes_max;
};

struct wire_client_hello {
    uint16_t version_min;
    uint16_t version_max;
    uint32_t features;
};

struct wire_server_hello {
    uint16_t version; /* 0 when status is not 0 */
    int16_t status;
    uint16_t version_min;
    uint16_t version_max;
    uint32_t features;
    struct wire_limits limits;
};

struct wire_frame {
    uint32_t id;
    uint8_t opcode;
    uint8_t flags;
    uint8_t family;   /* requests */
    uint8_t reserved; /* requests */
    int16_t status;   /* replies: the same two bytes */
    uint32_t aux;     /* replies; timeout_ms in requests */
    kvs_slice body;
};

/* Memory for the arrays of a decoded batch or page: grows, is kept for the next, bounded by a few
 * times the body that is decoded into it. Zeroed is empty. */
struct wire_scratch {
    void *memory;
    size_t capacity;
};

void wire_scratch_deinit(struct wire_scratch *scratch);

/* --- hello ---- */

/* The largest body that requests within the other limits can have. */
uint32_t wire_body_size_max(uint32_t key_size_max, uint32_t value_size_max);

/* Return 0, or KVS_ERR_NO_MEMORY. */
int wire_client_hello_encode(const struct wire_client_hello *hello, struct buf *out);
int wire_server_hello_encode(const struct wire_server_hello *hello, struct buf *out);

/* Return 0 with the bytes taken, WIRE_MORE, or KVS_ERR_PROTOCOL as soon as the bytes can be no
 * hello. */
int wire_client_hello_decode(kvs_slice in, struct wire_client_hello *ret_hello, size_t *ret_size);
int wire_server_hello_decode(kvs_slice in, struct wire_server_hello *ret_hello, size_t *ret_size);

/* --- frames ---- */

/*
 * The frame at the begin of `in`. Returns 0; WIRE_MORE (with at least WIRE_HEADER_SIZE bytes there,
 * all of ret_frame is set but body.data is not all there; body.size is the announced one);
 * KVS_ERR_TOO_LARGE when its body is over body_size_max (ret_frame is set likewise);
 * KVS_ERR_PROTOCOL when these bytes are no frame. The frame takes WIRE_HEADER_SIZE + body.size.
 */
int wire_frame_decode(kvs_slice in, uint32_t body_size_max, struct wire_frame *ret_frame);

/* --- requests ---- */

/*
 * Appends the request of `op` (key, flags, timeout_ms and so on). credit: of a scan, 0 for none.
 * The op has passed store_op_check, or KVS_ERR_INVALID_ARGUMENT, TOO_LARGE when sizes do not fit
 * the format. Returns 0 or KVS_ERR_NO_MEMORY too.
 */
int wire_request_encode(const kvs_op *op, uint32_t id, uint32_t credit, struct buf *out);
/* Bytes that wire_request_encode appends: for limits on what is in flight. */
uint64_t wire_request_size(const kvs_op *op);
int wire_cancel_encode(uint32_t id, struct buf *out);
int wire_credit_encode(uint32_t id, uint32_t bytes, struct buf *out);

/*
 * Fills the request part of `op` (not on_done and user) from a frame; arrays lie in scratch, bytes
 * in the frame. ret_credit (may be NULL): of a scan. Errors: UNSUPPORTED (opcode, flag),
 * INVALID_ARGUMENT, TOO_LARGE, NO_MEMORY; *ret_why is then a text for the peer.
 */
int wire_request_decode(const struct wire_frame *frame, const struct wire_limits *limits,
                        kvs_op *op, struct wire_scratch *scratch, uint32_t *ret_credit,
                        const char **ret_why);
int wire_credit_decode(const struct wire_frame *frame, uint32_t *ret_bytes);

/* --- replies ---- */

/* The whole reply of an op that is done: results, or error and message. Not for scans' streams. */
int wire_reply_encode(const kvs_op *op, uint32_t id, struct buf *out);

/* A header alone; *ret_header (may be NULL) is its offset in `out`, for wire_reply_finish. */
int wire_reply_begin(uint8_t opcode, uint32_t id, int status, uint32_t aux, struct buf *out,
                     size_t *ret_header);
/* Sets the size of the body that was appended since wire_reply_begin. */
void wire_reply_finish(struct buf *out, size_t header, uint8_t flags, uint32_t aux);

int wire_reply_value(uint8_t opcode, uint32_t id, kvs_slice value, struct buf *out);
int wire_reply_number(uint8_t opcode, uint32_t id, int64_t number, struct buf *out);
int wire_reply_error(uint8_t opcode, uint32_t id, int status, const char *message, struct buf *out);
int wire_pair_append(kvs_slice key, kvs_slice value, struct buf *out);
int wire_goaway_encode(struct buf *out);

/*
 * Fills the result part of `op` (error, more, number, result, pairs, message), whose request part
 * says what was asked, from a reply; one frame of a scan gives its pairs only. Bytes lie in the
 * frame, ranges of pairs in scratch, batch get pairs' keys are op->keys. Returns 0, NO_MEMORY, or
 * PROTOCOL for a reply that does not fit the request: then the results are unchanged.
 */
int wire_reply_decode(const struct wire_frame *frame, kvs_op *op, struct wire_scratch *scratch);

#endif

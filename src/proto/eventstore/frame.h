/*
 * proto/eventstore/frame.h: frames of the EventStoreDB TCP protocol, as in
 * docs/protocol/eventstore.md; shared by both sides.
 *
 * 1. es_frame_decode takes one frame off the begin of the bytes that are there; nothing is copied.
 * 2. es_frame_begin appends a frame's head, whatever follows is its body, es_frame_finish sets its
 *    length; es_frame_append does all three.
 *
 * Failures: bytes that are no frame are PROTOCOL, with a text for the peer. No state, any thread.
 */
#ifndef PROTO_EVENTSTORE_FRAME_H
#define PROTO_EVENTSTORE_FRAME_H

#include "base/buf.h"

#define ES_FRAME_PREFIX_SIZE 4u /* the length, which does not count itself */
#define ES_FRAME_HEAD_SIZE 22u  /* with the prefix, up to the credentials or the body */
#define ES_FRAME_LENGTH_MIN 18u /* command, flags, correlation id */
#define ES_FRAME_LENGTH_MAX (64u * 1024 * 1024)
#define ES_CREDENTIAL_SIZE_MAX 255u /* of a login or a password */

#define ES_FLAG_AUTHENTICATED 1u /* credentials follow the head */
#define ES_FLAG_TRUSTED_WRITE 2u /* between nodes of a cluster */

/* Positive, never leaves the process: more bytes are needed to decide. */
#define ES_MORE 1

/* 16 bytes that only their maker understands: of events, and of a request and its replies. */
struct es_id {
    uint8_t bytes[16];
};

static inline bool es_id_equal(const struct es_id *a, const struct es_id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

static inline bool es_id_is_zero(const struct es_id *id)
{
    static const struct es_id zero;
    return es_id_equal(id, &zero);
}

#define ES_ID_TEXT_SIZE 37u

/* As text, "00112233-4455-6677-8899-aabbccddeeff", with the first three groups reversed as
 * Microsoft's clients do. Parsing takes either case, and nothing but that form. */
void es_id_format(const struct es_id *id, char text[ES_ID_TEXT_SIZE]);
bool es_id_parse(kvs_slice text, struct es_id *ret_id);

struct es_credentials {
    kvs_slice login; /* size 0: none */
    kvs_slice password;
    kvs_slice token; /* instead of both; only read, never written */
};

struct es_frame {
    uint8_t command;
    uint8_t flags;
    struct es_id correlation;
    bool has_credentials;
    struct es_credentials credentials;
    kvs_slice body;
};

/*
 * The frame at the begin of `in`. Returns 0 with its size; ES_MORE with the size it will have (0:
 * nothing is there; ES_FRAME_PREFIX_SIZE: not even its length is known); or PROTOCOL with *ret_why:
 * a length outside ES_FRAME_LENGTH_MIN to length_max, or credentials that end beyond it.
 */
int es_frame_decode(kvs_slice in, uint32_t length_max, struct es_frame *ret_frame, size_t *ret_size,
                    const char **ret_why);

/*
 * The head of a frame; credentials may be NULL, else their sizes are at most
 * ES_CREDENTIAL_SIZE_MAX, or INVALID_ARGUMENT. *ret_begin is for es_frame_finish, or to cut `out`
 * back to. Returns 0 or NO_MEMORY; then nothing was appended.
 */
int es_frame_begin(struct buf *out, uint8_t command, const struct es_id *correlation,
                   const struct es_credentials *credentials, size_t *ret_begin);
/* Sets the length. False: the frame is larger than any may be, and was cut off again. */
bool es_frame_finish(struct buf *out, size_t begin);

/* A whole frame with these bytes as its body. Returns 0, NO_MEMORY or TOO_LARGE. */
int es_frame_append(struct buf *out, uint8_t command, const struct es_id *correlation,
                    const struct es_credentials *credentials, kvs_slice body);

#endif

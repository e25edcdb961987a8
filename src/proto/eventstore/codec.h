/*
 * proto/eventstore/codec.h: protobuf messages between C structs and bytes, by tables.
 *
 * Written for what these peers really do: every required field is written, zeros and empty texts
 * too, since older clients insist on it; on reading nothing is missed that is not there (it is 0),
 * the last value wins, unknown fields are skipped. A field of the wrong wire type, or one that ends
 * beyond its message, is PROTOCOL.
 *
 * Reading copies and allocates nothing: texts point into the bytes, and a list is read one by one
 * with es_list_next. So a hostile message costs no memory. No state, any thread.
 */
#ifndef PROTO_EVENTSTORE_CODEC_H
#define PROTO_EVENTSTORE_CODEC_H

#include "base/buf.h"

enum es_field_kind {
    ES_KIND_INT64,
    ES_KIND_INT32, /* and enums; an int64_t in the struct, too */
    ES_KIND_BOOL,
    ES_KIND_BYTES,    /* and texts: a kvs_slice; optional ones are absent when data is NULL */
    ES_KIND_MESSAGE,  /* the struct itself */
    ES_KIND_MESSAGES, /* a struct es_list */
    ES_KIND_TEXTS,    /* a struct es_list of kvs_slice */
};

struct es_message_type;

struct es_field {
    uint16_t offset;
    uint16_t has_offset; /* of the bool has_NAME of an optional field; ES_ALWAYS: has none */
    uint8_t number;
    uint8_t kind;
    const struct es_message_type *type; /* of messages */
};

#define ES_ALWAYS UINT16_MAX

/* Fields by ascending number. */
struct es_message_type {
    const char *name;
    const struct es_field *fields;
    uint8_t count;
    uint16_t size; /* of the struct */
};

/*
 * Any number of messages or texts. To write: an array of `count` structs, or kvs_slices. As read:
 * the bytes of the message around it, and how often the field is in there.
 */
struct es_list {
    const void *items;
    uint32_t count;
    uint8_t number;
    kvs_slice encoded;
};

/* --- writing ---- */

size_t es_message_size(const struct es_message_type *type, const void *message);
/* Appends whole or not at all. Returns 0 or NO_MEMORY. */
int es_message_append(struct buf *out, const struct es_message_type *type, const void *message);
/* One message as field `number` of the message that is being appended: for lists that are written
 * one by one, before or behind the other fields. */
int es_field_append(struct buf *out, uint8_t number, const struct es_message_type *type,
                    const void *message);

/* --- reading ---- */

/* Fills the struct. Returns 0 or PROTOCOL. */
int es_message_decode(kvs_slice bytes, const struct es_message_type *type, void *ret_message);

/* Returns 1 and the next one of a list that was read, 0 at the end, or PROTOCOL. The list itself
 * moves on; count is what is left. */
int es_list_next(struct es_list *list, const struct es_message_type *type, void *ret_message);
int es_list_next_text(struct es_list *list, kvs_slice *ret_text);

#endif

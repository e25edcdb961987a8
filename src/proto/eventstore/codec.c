/* proto/eventstore/codec.c: see the header. Tables nest three deep, so may the functions. */
#include "proto/eventstore/codec.h"

#include "proto/protobuf.h"

#include <kvs/error.h>

/* --- the struct's members ---- */

static const void *member(const struct es_field *field, const void *message)
{
    return (const uint8_t *)message + field->offset;
}

static int64_t member_int(const struct es_field *field, const void *message)
{
    int64_t value;
    memcpy(&value, member(field, message), sizeof value);
    return value;
}

static bool member_bool(uint16_t offset, const void *message)
{
    bool value;
    memcpy(&value, (const uint8_t *)message + offset, sizeof value);
    return value;
}

static kvs_slice member_bytes(const struct es_field *field, const void *message)
{
    kvs_slice value;
    memcpy(&value, member(field, message), sizeof value);
    return value;
}

/* Optional bytes have no flag of their own: their `has` is the slice's pointer. */
static bool is_present(const struct es_field *field, const void *message)
{
    if (field->has_offset == ES_ALWAYS)
        return true;
    if (field->kind == ES_KIND_BYTES)
        return member_bytes(field, message).data != NULL;
    return member_bool(field->has_offset, message);
}

/* --- writing ---- */

static uint64_t number_of(const struct es_field *field, const void *message)
{
    if (field->kind == ES_KIND_BOOL)
        return member_bool(field->offset, message);
    return (uint64_t)member_int(field, message);
}

static size_t list_size(const struct es_field *field, const struct es_list *list)
{
    size_t size = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        if (field->kind == ES_KIND_TEXTS) {
            size += protobuf_field_size(field->number, ((const kvs_slice *)list->items)[i].size);
        } else {
            const uint8_t *item = (const uint8_t *)list->items + (size_t)i * field->type->size;
            size += protobuf_field_size(field->number, es_message_size(field->type, item));
        }
    }
    return size;
}

static size_t field_size(const struct es_field *field, const void *message)
{
    if (!is_present(field, message))
        return 0;
    switch (field->kind) {
    case ES_KIND_BYTES:
        return protobuf_field_size(field->number, member_bytes(field, message).size);
    case ES_KIND_MESSAGE:
        return protobuf_field_size(field->number,
                                   es_message_size(field->type, member(field, message)));
    case ES_KIND_MESSAGES:
    case ES_KIND_TEXTS:
        return list_size(field, member(field, message));
    default:
        return protobuf_tag_size(field->number) + protobuf_varint_size(number_of(field, message));
    }
}

size_t es_message_size(const struct es_message_type *type, const void *message)
{
    size_t size = 0;
    for (unsigned i = 0; i < type->count; i++)
        size += field_size(&type->fields[i], message);
    return size;
}

/* `bound`: what the message around it takes, so no size of a part is larger. */
static uint8_t *put_message(uint8_t *at, const struct es_message_type *type, const void *message,
                            size_t bound);

/* So much is written behind the end for a moment: sizes that take less than was left for them. */
#define SLACK 32u

/* Its size is known when it is written; nearly always it takes as many bytes as that of the message
 * around it. */
static uint8_t *put_inner(uint8_t *at, uint8_t number, const struct es_message_type *type,
                          const void *message, size_t bound)
{
    at = protobuf_put_tag(at, number, PROTOBUF_BYTES);
    uint8_t *inner = at + protobuf_varint_size(bound);
    size_t size = (size_t)(put_message(inner, type, message, bound) - inner);
    uint8_t *to = at + protobuf_varint_size(size);
    if (to != inner)
        memmove(to, inner, size);
    protobuf_put_varint(at, size);
    return to + size;
}

static uint8_t *put_bytes(uint8_t *at, uint8_t number, kvs_slice bytes)
{
    return protobuf_put_raw(protobuf_put_head(at, number, bytes.size), bytes);
}

static uint8_t *put_list(uint8_t *at, const struct es_field *field, const struct es_list *list,
                         size_t bound)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (field->kind == ES_KIND_TEXTS)
            at = put_bytes(at, field->number, ((const kvs_slice *)list->items)[i]);
        else
            at = put_inner(at, field->number, field->type,
                           (const uint8_t *)list->items + (size_t)i * field->type->size, bound);
    }
    return at;
}

static uint8_t *put_field(uint8_t *at, const struct es_field *field, const void *message,
                          size_t bound)
{
    if (!is_present(field, message))
        return at;
    switch (field->kind) {
    case ES_KIND_BYTES:
        return put_bytes(at, field->number, member_bytes(field, message));
    case ES_KIND_MESSAGE:
        return put_inner(at, field->number, field->type, member(field, message), bound);
    case ES_KIND_MESSAGES:
    case ES_KIND_TEXTS:
        return put_list(at, field, member(field, message), bound);
    default:
        at = protobuf_put_tag(at, field->number, PROTOBUF_VARINT);
        return protobuf_put_varint(at, number_of(field, message));
    }
}

static uint8_t *put_message(uint8_t *at, const struct es_message_type *type, const void *message,
                            size_t bound)
{
    for (unsigned i = 0; i < type->count; i++)
        at = put_field(at, &type->fields[i], message, bound);
    return at;
}

int es_message_append(struct buf *out, const struct es_message_type *type, const void *message)
{
    size_t size = es_message_size(type, message);
    if (buf_reserve(out, size + SLACK) != 0)
        return KVS_ERR_NO_MEMORY;
    put_message(out->data + out->size, type, message, size);
    out->size += size;
    return 0;
}

int es_field_append(struct buf *out, uint8_t number, const struct es_message_type *type,
                    const void *message)
{
    size_t inner = es_message_size(type, message);
    size_t size = protobuf_field_size(number, inner);
    if (buf_reserve(out, size + SLACK) != 0)
        return KVS_ERR_NO_MEMORY;
    put_message(protobuf_put_head(out->data + out->size, number, inner), type, message, inner);
    out->size += size;
    return 0;
}

/* --- reading ---- */

static int take_field(const struct es_field *field, const struct protobuf_field *from,
                      kvs_slice around, void *message)
{
    uint8_t *to = (uint8_t *)message + field->offset;
    bool is_number = field->kind <= ES_KIND_BOOL;
    if (from->type != (is_number ? PROTOBUF_VARINT : PROTOBUF_BYTES))
        return KVS_ERR_PROTOCOL;
    int64_t number = (int64_t)from->value;
    bool truth = from->value != 0;
    struct es_list list;
    switch (field->kind) {
    case ES_KIND_INT32:
        number = (int32_t)(uint32_t)from->value;
        memcpy(to, &number, sizeof number);
        break;
    case ES_KIND_INT64:
        memcpy(to, &number, sizeof number);
        break;
    case ES_KIND_BOOL:
        memcpy(to, &truth, sizeof truth);
        break;
    case ES_KIND_BYTES:
        memcpy(to, &from->bytes, sizeof from->bytes);
        return 0; /* its pointer says that it is there */
    case ES_KIND_MESSAGE:
        if (es_message_decode(from->bytes, field->type, to) != 0)
            return KVS_ERR_PROTOCOL;
        break;
    default:
        memcpy(&list, to, sizeof list);
        list =
            (struct es_list){.count = list.count + 1, .number = field->number, .encoded = around};
        memcpy(to, &list, sizeof list);
        return 0;
    }
    truth = true;
    if (field->has_offset != ES_ALWAYS)
        memcpy((uint8_t *)message + field->has_offset, &truth, sizeof truth);
    return 0;
}

int es_message_decode(kvs_slice bytes, const struct es_message_type *type, void *ret_message)
{
    struct protobuf_reader reader = protobuf_read(bytes);
    struct protobuf_field from;
    unsigned next = 0; /* fields mostly come by ascending number */
    memset(ret_message, 0, type->size);
    while (protobuf_next(&reader, &from)) {
        if (from.number == 0)
            return KVS_ERR_PROTOCOL;
        unsigned tried = 0;
        while (tried < type->count && type->fields[next].number != from.number) {
            next = next + 1 < type->count ? next + 1 : 0;
            tried++;
        }
        if (tried < type->count && take_field(&type->fields[next], &from, bytes, ret_message) != 0)
            return KVS_ERR_PROTOCOL;
    }
    return reader.broken ? KVS_ERR_PROTOCOL : 0;
}

int es_list_next_text(struct es_list *list, kvs_slice *ret_text)
{
    struct protobuf_reader reader = protobuf_read(list->encoded);
    struct protobuf_field from;
    while (list->count > 0 && protobuf_next(&reader, &from)) {
        if (from.number != list->number)
            continue;
        list->count--;
        list->encoded = slice_make(reader.at, (size_t)(reader.end - reader.at));
        *ret_text = from.bytes;
        return from.type == PROTOBUF_BYTES ? 1 : KVS_ERR_PROTOCOL;
    }
    return list->count > 0 ? KVS_ERR_PROTOCOL : 0;
}

int es_list_next(struct es_list *list, const struct es_message_type *type, void *ret_message)
{
    kvs_slice item;
    int got = es_list_next_text(list, &item);
    if (got != 1)
        return got;
    int error = es_message_decode(item, type, ret_message);
    return error != 0 ? error : 1;
}

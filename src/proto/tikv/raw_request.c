/* proto/tikv/raw_request.c: see proto/tikv/raw_request.h; field numbers are those of
 * schema/kvrpcpb.proto and schema/tikvpb.proto. */
#include "proto/tikv/raw_request.h"

#include "proto/tikv/key.h"

#include <assert.h>
#include <kvs/error.h>

static const struct {
    const char *path;
    uint32_t command; /* 0: only by itself */
    bool is_write;
} methods[RAW_KINDS] = {
    [RAW_GET] = {"/tikvpb.Tikv/RawGet", 13, false},
    [RAW_BATCH_GET] = {"/tikvpb.Tikv/RawBatchGet", 14, false},
    [RAW_PUT] = {"/tikvpb.Tikv/RawPut", 15, true},
    [RAW_BATCH_PUT] = {"/tikvpb.Tikv/RawBatchPut", 16, true},
    [RAW_DELETE] = {"/tikvpb.Tikv/RawDelete", 17, true},
    [RAW_BATCH_DELETE] = {"/tikvpb.Tikv/RawBatchDelete", 18, true},
    [RAW_SCAN] = {"/tikvpb.Tikv/RawScan", 19, false},
    [RAW_DELETE_RANGE] = {"/tikvpb.Tikv/RawDeleteRange", 20, true},
    [RAW_TTL] = {"/tikvpb.Tikv/RawGetKeyTTL", 0, false},
    [RAW_CHECKSUM] = {"/tikvpb.Tikv/RawChecksum", 0, false},
    [RAW_CAS] = {"/tikvpb.Tikv/RawCompareAndSwap", 0, true},
};

const char *raw_family_name(unsigned family)
{
    static const char *const names[RAW_FAMILIES] = {"", "write", "lock"};
    assert(family < RAW_FAMILIES);
    return names[family];
}

kvs_slice raw_method_path(enum raw_kind kind)
{
    return slice_of_string(methods[kind].path);
}

bool raw_kind_is_batchable(enum raw_kind kind)
{
    return methods[kind].command != 0;
}

bool raw_kind_is_write(enum raw_kind kind)
{
    return methods[kind].is_write;
}

uint32_t raw_command_number(enum raw_kind kind)
{
    return methods[kind].command;
}

/* --- writing ------------------------------------------------------------------------------------
 */

#define API_V2 2u

static size_t epoch_size(const struct raw_request *request)
{
    return protobuf_number_size(1, request->conf_ver) + protobuf_number_size(2, request->version);
}

static size_t peer_size(const struct raw_request *request)
{
    return protobuf_number_size(1, request->peer_id) + protobuf_number_size(2, request->store_id);
}

/* In V1 too: client-go names the absence of a keyspace. */
static uint32_t keyspace_of(const struct raw_request *request)
{
    return request->is_v2 ? request->keyspace_id : KEYSPACE_NONE;
}

static size_t context_size(const struct raw_request *request)
{
    return protobuf_number_size(1, request->region_id) +
           protobuf_field_size(2, epoch_size(request)) +
           protobuf_field_size(3, peer_size(request)) +
           protobuf_number_size(14, request->max_execution_ms) + (request->is_v2 ? 3 : 0) + 2 +
           protobuf_varint_size(keyspace_of(request)) +
           protobuf_number_size(35, request->cluster_id);
}

static uint8_t *context_write(const struct raw_request *request, uint8_t *at)
{
    at = protobuf_put_head(at, 1, context_size(request));
    at = protobuf_put_number(at, 1, request->region_id);
    at = protobuf_put_head(at, 2, epoch_size(request));
    at = protobuf_put_number(at, 1, request->conf_ver);
    at = protobuf_put_number(at, 2, request->version);
    at = protobuf_put_head(at, 3, peer_size(request));
    at = protobuf_put_number(at, 1, request->peer_id);
    at = protobuf_put_number(at, 2, request->store_id);
    at = protobuf_put_number(at, 14, request->max_execution_ms);
    if (request->is_v2)
        at = protobuf_put_number(at, 21, API_V2);
    /* A member of a oneof is written also when it is 0. */
    at = protobuf_put_varint(protobuf_put_tag(at, 32, PROTOBUF_VARINT), keyspace_of(request));
    return protobuf_put_number(at, 35, request->cluster_id);
}

/* A key field is written also when the key is empty: it costs nothing. */
static size_t key_size(const struct raw_request *request, uint32_t number, kvs_slice key,
                       bool is_full)
{
    return protobuf_field_size(number, (is_full ? 0 : request->prefix.size) + key.size);
}

static uint8_t *key_write(const struct raw_request *request, uint8_t *at, uint32_t number,
                          kvs_slice key, bool is_full)
{
    kvs_slice prefix = is_full ? slice_make(NULL, 0) : request->prefix;
    at = protobuf_put_head(at, number, prefix.size + key.size);
    return protobuf_put_raw(protobuf_put_raw(at, prefix), key);
}

static size_t bytes_size(uint32_t number, kvs_slice bytes)
{
    return bytes.size > 0 ? protobuf_field_size(number, bytes.size) : 0;
}

static uint8_t *bytes_write(uint8_t *at, uint32_t number, kvs_slice bytes)
{
    if (bytes.size == 0)
        return at;
    return protobuf_put_raw(protobuf_put_head(at, number, bytes.size), bytes);
}

static const kvs_mutation *mutation_at(const struct raw_request *request, uint32_t index)
{
    return &request->mutations[request->order[index]];
}

static kvs_slice batch_key(const struct raw_request *request, uint32_t index)
{
    return request->kind == RAW_BATCH_GET ? request->keys[request->order[index]]
                                          : mutation_at(request, index)->key;
}

static size_t pair_size(const struct raw_request *request, const kvs_mutation *mutation)
{
    return key_size(request, 2, mutation->key, false) + bytes_size(3, mutation->value);
}

static size_t ttls_size(const struct raw_request *request)
{
    size_t size = 0;
    for (uint32_t i = 0; i < request->count; i++)
        size += protobuf_varint_size(raw_ttl_seconds(mutation_at(request, i)->ttl_ms));
    return size;
}

static size_t batch_size(const struct raw_request *request)
{
    size_t size = 0;
    for (uint32_t i = 0; i < request->count; i++) {
        if (request->kind == RAW_BATCH_PUT)
            size += protobuf_field_size(2, pair_size(request, mutation_at(request, i)));
        else
            size += key_size(request, 2, batch_key(request, i), false);
    }
    if (request->kind == RAW_BATCH_PUT)
        size += protobuf_field_size(6, ttls_size(request));
    return size;
}

static uint8_t *batch_write(const struct raw_request *request, uint8_t *at)
{
    for (uint32_t i = 0; i < request->count; i++) {
        if (request->kind != RAW_BATCH_PUT) {
            at = key_write(request, at, 2, batch_key(request, i), false);
            continue;
        }
        const kvs_mutation *mutation = mutation_at(request, i);
        at = protobuf_put_head(at, 2, pair_size(request, mutation));
        at = key_write(request, at, 2, mutation->key, false);
        at = bytes_write(at, 3, mutation->value);
    }
    if (request->kind == RAW_BATCH_PUT) {
        at = protobuf_put_head(at, 6, ttls_size(request));
        for (uint32_t i = 0; i < request->count; i++)
            at = protobuf_put_varint(at, raw_ttl_seconds(mutation_at(request, i)->ttl_ms));
    }
    return at;
}

static kvs_slice family_of(const struct raw_request *request)
{
    return slice_of_string(request->family);
}

/* A KeyRange. */
static size_t range_size(const struct raw_request *request)
{
    return key_size(request, 1, request->key, request->key_is_full) +
           key_size(request, 2, request->end, request->end_is_full);
}

size_t raw_request_size(const struct raw_request *request)
{
    size_t size = protobuf_field_size(1, context_size(request));
    kvs_slice family = family_of(request);
    switch (request->kind) {
    case RAW_CHECKSUM:
        return size + protobuf_field_size(3, range_size(request));
    case RAW_TTL:
    case RAW_GET:
        return size + key_size(request, 2, request->key, false) + bytes_size(3, family);
    case RAW_DELETE:
        return size + key_size(request, 2, request->key, false) + bytes_size(3, family) +
               protobuf_number_size(4, request->for_cas);
    case RAW_PUT:
        return size + key_size(request, 2, request->key, false) + bytes_size(3, request->value) +
               bytes_size(4, family) + protobuf_number_size(5, request->ttl_seconds) +
               protobuf_number_size(6, request->for_cas);
    case RAW_BATCH_GET:
        return size + batch_size(request) + bytes_size(3, family);
    case RAW_BATCH_DELETE:
        return size + batch_size(request) + bytes_size(3, family) +
               protobuf_number_size(4, request->for_cas);
    case RAW_BATCH_PUT:
        return size + batch_size(request) + bytes_size(3, family) +
               protobuf_number_size(5, request->for_cas);
    case RAW_SCAN:
        return size + key_size(request, 2, request->key, request->key_is_full) +
               protobuf_number_size(3, request->limit) +
               protobuf_number_size(4, request->keys_only) + bytes_size(5, family) +
               protobuf_number_size(6, request->reverse) +
               key_size(request, 7, request->end, request->end_is_full);
    case RAW_DELETE_RANGE:
        return size + key_size(request, 2, request->key, request->key_is_full) +
               key_size(request, 3, request->end, request->end_is_full) + bytes_size(4, family);
    case RAW_CAS:
        return size + key_size(request, 2, request->key, false) + bytes_size(3, request->value) +
               protobuf_number_size(4, request->absent) + bytes_size(5, request->expected) +
               bytes_size(6, family) + protobuf_number_size(7, request->ttl_seconds);
    default:
        assert(!"no kind of request");
        return 0;
    }
}

void raw_request_write(const struct raw_request *request, uint8_t *to)
{
    uint8_t *at = context_write(request, to);
    kvs_slice family = family_of(request);
    switch (request->kind) {
    case RAW_CHECKSUM:
        at = protobuf_put_head(at, 3, range_size(request));
        at = key_write(request, at, 1, request->key, request->key_is_full);
        at = key_write(request, at, 2, request->end, request->end_is_full);
        break;
    case RAW_TTL:
    case RAW_GET:
    case RAW_DELETE:
        at = key_write(request, at, 2, request->key, false);
        at = bytes_write(at, 3, family);
        if (request->kind == RAW_DELETE)
            at = protobuf_put_number(at, 4, request->for_cas);
        break;
    case RAW_PUT:
        at = key_write(request, at, 2, request->key, false);
        at = bytes_write(at, 3, request->value);
        at = bytes_write(at, 4, family);
        at = protobuf_put_number(at, 5, request->ttl_seconds);
        at = protobuf_put_number(at, 6, request->for_cas);
        break;
    case RAW_BATCH_GET:
    case RAW_BATCH_DELETE:
    case RAW_BATCH_PUT:
        at = batch_write(request, at);
        at = bytes_write(at, 3, family);
        if (request->kind != RAW_BATCH_GET)
            at = protobuf_put_number(at, request->kind == RAW_BATCH_PUT ? 5 : 4, request->for_cas);
        break;
    case RAW_SCAN:
        at = key_write(request, at, 2, request->key, request->key_is_full);
        at = protobuf_put_number(at, 3, request->limit);
        at = protobuf_put_number(at, 4, request->keys_only);
        at = bytes_write(at, 5, family);
        at = protobuf_put_number(at, 6, request->reverse);
        at = key_write(request, at, 7, request->end, request->end_is_full);
        break;
    case RAW_DELETE_RANGE:
        at = key_write(request, at, 2, request->key, request->key_is_full);
        at = key_write(request, at, 3, request->end, request->end_is_full);
        at = bytes_write(at, 4, family);
        break;
    case RAW_CAS:
        at = key_write(request, at, 2, request->key, false);
        at = bytes_write(at, 3, request->value);
        at = protobuf_put_number(at, 4, request->absent);
        at = bytes_write(at, 5, request->expected);
        at = bytes_write(at, 6, family);
        at = protobuf_put_number(at, 7, request->ttl_seconds);
        break;
    default:
        assert(!"no kind of request");
    }
    (void)at;
}

int raw_batch_add(struct buf *message, const struct raw_request *request)
{
    size_t size = raw_request_size(request);
    uint32_t command = methods[request->kind].command;
    size_t wrapped = protobuf_field_size(command, size);
    int error = buf_reserve(message, protobuf_field_size(1, wrapped));
    if (error != 0)
        return error;
    uint8_t *at = protobuf_put_head(message->data + message->size, 1, wrapped);
    at = protobuf_put_head(at, command, size);
    raw_request_write(request, at);
    message->size = (size_t)(at + size - message->data);
    return 0;
}

int raw_batch_end(struct buf *message, const uint64_t *ids, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += protobuf_varint_size(ids[i]);
    int error = buf_reserve(message, protobuf_field_size(2, size));
    if (error != 0)
        return error;
    uint8_t *at = protobuf_put_head(message->data + message->size, 2, size);
    for (size_t i = 0; i < count; i++)
        at = protobuf_put_varint(at, ids[i]);
    message->size = (size_t)(at - message->data);
    return 0;
}

/* --- reading ------------------------------------------------------------------------------------
 */

void raw_batch_reply_begin(struct raw_batch_reply *batch, kvs_slice message)
{
    *batch = (struct raw_batch_reply){
        .responses = protobuf_read(message),
        .fields = protobuf_read(message),
    };
}

/* The next id: out of a packed list, or a field of its own. */
static bool next_id(struct raw_batch_reply *batch, uint64_t *ret_id)
{
    struct protobuf_field field;
    while (batch->ids.at == batch->ids.end) {
        if (!protobuf_next(&batch->fields, &field))
            return false;
        if (field.number == 2 && field.type == PROTOBUF_VARINT) {
            *ret_id = field.value;
            return true;
        }
        if (field.number == 2 && field.type == PROTOBUF_BYTES)
            batch->ids = protobuf_read(field.bytes);
    }
    return protobuf_get_varint(&batch->ids, ret_id);
}

int raw_batch_reply_next(struct raw_batch_reply *batch, uint64_t *ret_id, kvs_slice *ret_body,
                         uint32_t *ret_command)
{
    struct protobuf_field field;
    do {
        if (!protobuf_next(&batch->responses, &field))
            return batch->responses.broken ? KVS_ERR_PROTOCOL : 0;
    } while (field.number != 1 || field.type != PROTOBUF_BYTES);
    if (!next_id(batch, ret_id))
        return KVS_ERR_PROTOCOL;
    *ret_body = slice_make(NULL, 0);
    *ret_command = 0;
    struct protobuf_reader response = protobuf_read(field.bytes);
    while (protobuf_next(&response, &field)) {
        *ret_body = field.bytes;
        *ret_command = field.number;
    }
    return response.broken ? KVS_ERR_PROTOCOL : 1;
}

static void reply_take_cas_field(struct raw_reply *reply, const struct protobuf_field *field)
{
    if (field->number == 3)
        reply->succeeded = field->value != 0;
    else if (field->number == 4)
        reply->not_found = field->value != 0;
    else if (field->number == 5)
        reply->value = field->bytes;
}

static void reply_take_ttl_field(struct raw_reply *reply, const struct protobuf_field *field)
{
    if (field->number == 3)
        reply->ttl_seconds = field->value;
    else if (field->number == 4)
        reply->not_found = field->value != 0;
}

static void reply_take_checksum_field(struct raw_reply *reply, const struct protobuf_field *field)
{
    if (field->number == 3)
        reply->checksum = field->value;
    else if (field->number == 4)
        reply->keys = field->value;
    else if (field->number == 5)
        reply->bytes = field->value;
}

int raw_reply_read(enum raw_kind kind, kvs_slice body, struct raw_reply *ret_reply)
{
    bool has_pairs = kind == RAW_BATCH_GET || kind == RAW_SCAN;
    struct protobuf_reader reader = protobuf_read(body);
    struct protobuf_field field;
    *ret_reply = (struct raw_reply){.pairs = reader};
    while (protobuf_next(&reader, &field)) {
        if (field.number == 1) {
            ret_reply->has_region_error = true;
            ret_reply->region_error = field.bytes;
        } else if (field.number == 2) {
            if (!has_pairs)
                ret_reply->error = field.bytes;
        } else if (kind == RAW_CAS) {
            reply_take_cas_field(ret_reply, &field);
        } else if (kind == RAW_TTL) {
            reply_take_ttl_field(ret_reply, &field);
        } else if (kind == RAW_CHECKSUM) {
            reply_take_checksum_field(ret_reply, &field);
        } else if (kind == RAW_GET && field.number == 3) {
            ret_reply->value = field.bytes;
        } else if (kind == RAW_GET && field.number == 4) {
            ret_reply->not_found = field.value != 0;
        }
    }
    return reader.broken ? KVS_ERR_PROTOCOL : 0;
}

int raw_reply_next_pair(struct raw_reply *reply, kvs_slice prefix, struct raw_pair *ret_pair)
{
    struct protobuf_field field;
    do {
        if (!protobuf_next(&reply->pairs, &field))
            return reply->pairs.broken ? KVS_ERR_PROTOCOL : 0;
    } while (field.number != 2 || field.type != PROTOBUF_BYTES);
    *ret_pair = (struct raw_pair){0};
    struct protobuf_reader pair = protobuf_read(field.bytes);
    while (protobuf_next(&pair, &field)) {
        if (field.number == 1)
            ret_pair->has_error = true;
        else if (field.number == 2)
            ret_pair->key = field.bytes;
        else if (field.number == 3)
            ret_pair->value = field.bytes;
    }
    if (pair.broken)
        return KVS_ERR_PROTOCOL;
    if (ret_pair->has_error)
        return 1;
    if (ret_pair->key.size < prefix.size ||
        (prefix.size > 0 && memcmp(ret_pair->key.data, prefix.data, prefix.size) != 0))
        return KVS_ERR_PROTOCOL;
    ret_pair->key.data += prefix.size;
    ret_pair->key.size -= prefix.size;
    return 1;
}

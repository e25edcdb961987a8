/*
 * store/store_op.c: what is the same for every operation of every store: is the request well
 * formed, and who frees the results. No state, any thread.
 *
 * A failed check leaves op->error untouched and a line for a person in op->message.
 */
#include "store/store.h"

#include "base/bytes.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "store/page.h"

#include <stdio.h>
#include <string.h>

void store_op_begin(kvs_op *op)
{
    op->error = 0;
    op->more = false;
    op->borrowed = false;
    op->number = 0;
    op->result = (kvs_slice){0};
    op->pairs = NULL;
    op->pairs_count = 0;
    op->message[0] = '\0';
}

void kvs_op_release(kvs_op *op)
{
    /* The rule of every store: both are blocks of their own, or NULL; or lent: pairs as page.h
     * knows them, or a result with its pin. */
    if (!op->borrowed) {
        mem_free((void *)(uintptr_t)op->result.data);
        mem_free(op->pairs);
    } else if (op->pairs != NULL) {
        page_free_borrowed(op->pairs);
    } else {
        engine_pin_release(store_op_pin(op));
    }
    op->borrowed = false;
    op->result = (kvs_slice){0};
    op->pairs = NULL;
    op->pairs_count = 0;
    op->number = 0;
    op->more = false;
}

kvs_slice kvs_slice_of(const char *string)
{
    return slice_of_string(string);
}

int store_op_set_checksum(kvs_op *op, const struct kvs_checksum *checksum)
{
    uint8_t *bytes = mem_alloc(STORE_CHECKSUM_SIZE);
    if (bytes == NULL)
        return KVS_ERR_NO_MEMORY;
    put_u64(bytes, checksum->crc64_xor);
    put_u64(bytes + 8, checksum->keys);
    put_u64(bytes + 16, checksum->bytes);
    op->result = slice_make(bytes, STORE_CHECKSUM_SIZE);
    return 0;
}

int kvs_checksum_read(kvs_slice value, struct kvs_checksum *ret_checksum)
{
    if (value.size != STORE_CHECKSUM_SIZE)
        return KVS_ERR_INVALID_ARGUMENT;
    *ret_checksum = (struct kvs_checksum){
        .crc64_xor = get_u64(value.data),
        .keys = get_u64(value.data + 8),
        .bytes = get_u64(value.data + 16),
    };
    return 0;
}

static int check_bytes(kvs_op *op, const char *what, kvs_slice slice, size_t size_min,
                       size_t size_max)
{
    if (slice.size > 0 && slice.data == NULL) {
        snprintf(op->message, sizeof op->message, "%s: no data for %zu bytes", what, slice.size);
        return KVS_ERR_INVALID_ARGUMENT;
    }
    if (slice.size < size_min) {
        snprintf(op->message, sizeof op->message, "%s: must not be empty", what);
        return KVS_ERR_INVALID_ARGUMENT;
    }
    if (slice.size > size_max) {
        snprintf(op->message, sizeof op->message, "%s: %zu bytes, the limit is %zu", what,
                 slice.size, size_max);
        return KVS_ERR_TOO_LARGE;
    }
    return 0;
}

static int check_key(kvs_op *op, const char *what, kvs_slice key)
{
    return check_bytes(op, what, key, 1, KVS_KEY_SIZE_MAX);
}

static int check_range(kvs_op *op, kvs_slice start, kvs_slice end)
{
    int error = check_bytes(op, "start of range", start, 0, KVS_KEY_SIZE_MAX);
    if (error == 0)
        error = check_bytes(op, "end of range", end, 0, KVS_KEY_SIZE_MAX);
    return error;
}

static int check_ttl(kvs_op *op, uint64_t ttl_ms)
{
    if (ttl_ms <= KVS_TTL_MS_MAX)
        return 0;
    snprintf(op->message, sizeof op->message, "time to live: %llu ms, the limit is %llu",
             (unsigned long long)ttl_ms, (unsigned long long)KVS_TTL_MS_MAX);
    return KVS_ERR_INVALID_ARGUMENT;
}

static int check_write(kvs_op *op, kvs_slice key, kvs_slice value, uint64_t ttl_ms,
                       uint32_t value_size_max)
{
    int error = check_key(op, "key", key);
    if (error == 0)
        error = check_bytes(op, "value", value, 0, value_size_max);
    if (error == 0)
        error = check_ttl(op, ttl_ms);
    return error;
}

static int check_batch_size(kvs_op *op, size_t size)
{
    if (size <= KVS_BATCH_SIZE_MAX)
        return 0;
    snprintf(op->message, sizeof op->message, "batch: more than %u bytes", KVS_BATCH_SIZE_MAX);
    return KVS_ERR_TOO_LARGE;
}

static int check_batch_count(kvs_op *op, const void *array)
{
    if (op->count > KVS_BATCH_COUNT_MAX) {
        snprintf(op->message, sizeof op->message, "batch: %u entries, the limit is %u", op->count,
                 KVS_BATCH_COUNT_MAX);
        return KVS_ERR_TOO_LARGE;
    }
    if (op->count > 0 && array == NULL) {
        snprintf(op->message, sizeof op->message, "batch: no data for %u entries", op->count);
        return KVS_ERR_INVALID_ARGUMENT;
    }
    return 0;
}

static int check_keys(kvs_op *op)
{
    int error = check_batch_count(op, op->keys);
    size_t size = 0;
    for (uint32_t i = 0; error == 0 && i < op->count; i++) {
        error = check_key(op, "key", op->keys[i]);
        size += op->keys[i].size + 32; /* cannot overflow: at most 65536 keys of 8 KiB */
    }
    return error != 0 ? error : check_batch_size(op, size);
}

static int check_mutation(kvs_op *op, const kvs_mutation *mutation, uint32_t value_size_max)
{
    if (mutation->family >= ENGINE_FAMILY_COUNT) {
        snprintf(op->message, sizeof op->message, "batch: no column family %u", mutation->family);
        return KVS_ERR_INVALID_ARGUMENT;
    }
    switch (mutation->kind) {
    case KVS_MUTATION_SET:
        return check_write(op, mutation->key, mutation->value, mutation->ttl_ms, value_size_max);
    case KVS_MUTATION_REMOVE:
        if (mutation->value.size > 0 || mutation->ttl_ms != 0) {
            snprintf(op->message, sizeof op->message, "batch: a remove with a value or lifetime");
            return KVS_ERR_INVALID_ARGUMENT;
        }
        return check_key(op, "key", mutation->key);
    case KVS_MUTATION_REMOVE_RANGE:
        return check_range(op, mutation->key, mutation->value);
    default:
        snprintf(op->message, sizeof op->message, "batch: no mutation kind %u", mutation->kind);
        return KVS_ERR_INVALID_ARGUMENT;
    }
}

static int check_mutations(kvs_op *op, uint32_t value_size_max)
{
    int error = check_batch_count(op, op->mutations);
    size_t size = 0;
    for (uint32_t i = 0; error == 0 && i < op->count; i++) {
        const kvs_mutation *mutation = &op->mutations[i];
        error = check_mutation(op, mutation, value_size_max);
        size += mutation->key.size + 32;
        if (mutation->kind != KVS_MUTATION_REMOVE)
            size += mutation->value.size;
        if (error == 0)
            error = check_batch_size(op, size); /* each time: so the sum cannot overflow */
    }
    return error;
}

static unsigned flags_of_kind(uint8_t kind)
{
    switch (kind) {
    case KVS_OP_SCAN:
        return KVS_OP_FLAG_REVERSE | KVS_OP_FLAG_KEYS_ONLY | KVS_OP_FLAG_PAGE | KVS_OP_FLAG_BORROW;
    case KVS_OP_GET:
        return KVS_OP_FLAG_BORROW;
    case KVS_OP_CAS:
        return KVS_OP_FLAG_EXPECT_ABSENT;
    default:
        return 0;
    }
}

static int check_cas(kvs_op *op, uint32_t value_size_max)
{
    int error = check_write(op, op->key, op->value, op->ttl_ms, value_size_max);
    if (error == 0 && (op->flags & KVS_OP_FLAG_EXPECT_ABSENT) == 0)
        error = check_bytes(op, "expected value", op->expected, 0, value_size_max);
    return error;
}

int store_op_check(kvs_op *op, uint32_t value_size_max)
{
    if (op->size != sizeof(kvs_op) || op->family >= ENGINE_FAMILY_COUNT ||
        (op->flags & ~flags_of_kind(op->kind)) != 0) {
        snprintf(op->message, sizeof op->message, "%s",
                 op->size != sizeof(kvs_op) ? "operation: not begun from KVS_OP_INIT"
                 : op->family >= ENGINE_FAMILY_COUNT
                     ? "operation: no such column family"
                     : "operation: a flag that its kind does not have");
        return KVS_ERR_INVALID_ARGUMENT;
    }
    switch (op->kind) {
    case KVS_OP_GET:
    case KVS_OP_EXISTS:
    case KVS_OP_REMOVE:
    case KVS_OP_TTL:
        return check_key(op, "key", op->key);
    case KVS_OP_SET:
        return check_write(op, op->key, op->value, op->ttl_ms, value_size_max);
    case KVS_OP_CAS:
        return check_cas(op, value_size_max);
    case KVS_OP_BATCH_GET:
        return check_keys(op);
    case KVS_OP_BATCH_WRITE:
        return check_mutations(op, value_size_max);
    case KVS_OP_SCAN:
    case KVS_OP_COUNT:
    case KVS_OP_CHECKSUM:
    case KVS_OP_REMOVE_RANGE:
        return check_range(op, op->key, op->end_key);
    case KVS_OP_CHECKPOINT:
        return check_key(op, "directory", op->key);
    case KVS_OP_PING:
    case KVS_OP_STATS:
    case KVS_OP_SYNC:
    case KVS_OP_COMPACT:
        return 0;
    default:
        snprintf(op->message, sizeof op->message, "operation: no kind %u", op->kind);
        return KVS_ERR_INVALID_ARGUMENT;
    }
}

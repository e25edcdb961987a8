/* proto/grpc/metadata.c: lists of header fields. */
#include "proto/grpc/metadata.h"

#include "base/mem.h"

#include <kvs/error.h>

#define CAPACITY_MIN 4

void metadata_clear(struct metadata *metadata)
{
    for (size_t i = 0; i < metadata->count; i++) {
        nghttp2_rcbuf_decref(metadata->entries[i].name);
        nghttp2_rcbuf_decref(metadata->entries[i].value);
    }
    metadata->count = 0;
}

void metadata_deinit(struct metadata *metadata)
{
    metadata_clear(metadata);
    mem_free(metadata->entries);
    *metadata = (struct metadata){0};
}

int metadata_add(struct metadata *metadata, nghttp2_rcbuf *name, nghttp2_rcbuf *value)
{
    if (metadata->count == metadata->capacity) {
        size_t capacity = metadata->capacity > 0 ? 2 * metadata->capacity : CAPACITY_MIN;
        struct metadata_entry *entries = mem_realloc(metadata->entries, capacity * sizeof *entries);
        if (entries == NULL)
            return KVS_ERR_NO_MEMORY;
        metadata->entries = entries;
        metadata->capacity = capacity;
    }
    nghttp2_rcbuf_incref(name);
    nghttp2_rcbuf_incref(value);
    metadata->entries[metadata->count++] = (struct metadata_entry){.name = name, .value = value};
    return 0;
}

struct grpc_header metadata_at(const struct metadata *metadata, size_t index)
{
    const struct metadata_entry *entry = &metadata->entries[index];
    return (struct grpc_header){.name = rcbuf_slice(entry->name),
                                .value = rcbuf_slice(entry->value)};
}

static bool name_sendable(kvs_slice name)
{
    if (name.size == 0 || (name.size >= 5 && memcmp(name.data, "grpc-", 5) == 0))
        return false;
    if (slice_equal(name, slice_of_string("te")) ||
        slice_equal(name, slice_of_string("content-type")) ||
        slice_equal(name, slice_of_string("connection")))
        return false;
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.'))
            return false;
    }
    return true;
}

static bool value_sendable(kvs_slice value)
{
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] < 0x20 || value.data[i] > 0x7e)
            return false;
    }
    /* RFC 9113, 8.2.1: a value neither begins nor ends with a space. */
    return value.size == 0 || (value.data[0] != ' ' && value.data[value.size - 1] != ' ');
}

bool metadata_sendable(const struct grpc_header *headers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!name_sendable(headers[i].name) || !value_sendable(headers[i].value))
            return false;
    }
    return true;
}

static kvs_slice copy_bytes(uint8_t **place, kvs_slice bytes)
{
    kvs_slice copy = slice_make(*place, bytes.size);
    if (bytes.size > 0)
        memcpy(*place, bytes.data, bytes.size);
    *place += bytes.size;
    return copy;
}

struct header_copy *header_copy_new(kvs_slice path, const struct grpc_header *headers, size_t count)
{
    size_t size = path.size;
    for (size_t i = 0; i < count; i++)
        size += headers[i].name.size + headers[i].value.size;
    struct header_copy *copy = mem_alloc(sizeof *copy + count * sizeof copy->headers[0] + size);
    if (copy == NULL)
        return NULL;
    uint8_t *place = (uint8_t *)&copy->headers[count];
    copy->count = count;
    copy->path = copy_bytes(&place, path);
    for (size_t i = 0; i < count; i++) {
        copy->headers[i].name = copy_bytes(&place, headers[i].name);
        copy->headers[i].value = copy_bytes(&place, headers[i].value);
    }
    return copy;
}

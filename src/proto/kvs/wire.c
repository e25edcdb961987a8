/* proto/kvs/wire.c: hellos and frame headers; requests and replies have files of their own. */
#include "proto/kvs/wire.h"

#include "base/bytes.h"
#include "base/mem.h"
#include "proto/kvs/wire_parts.h"

static const uint8_t magic[4] = {'K', 'V', 'S', 'P'};

#define SERVER_HELLO_REST (WIRE_SERVER_HELLO_SIZE - WIRE_SERVER_HELLO_FIXED)

void wire_scratch_deinit(struct wire_scratch *scratch)
{
    mem_free(scratch->memory);
    *scratch = (struct wire_scratch){0};
}

void *wire_scratch_take(struct wire_scratch *scratch, size_t size)
{
    if (size == 0)
        size = 1; /* an empty array has an address, too */
    if (size > scratch->capacity) {
        void *memory = mem_alloc(size); /* no realloc: the old content is not needed */
        if (memory == NULL)
            return NULL;
        mem_free(scratch->memory);
        scratch->memory = memory;
        scratch->capacity = size;
    }
    return scratch->memory;
}

uint32_t wire_body_size_max(uint32_t key_size_max, uint32_t value_size_max)
{
    /* A compare-and-set holds two values; a batch has its own limit, its sizes counted in. */
    uint64_t size = 2 * (uint64_t)value_size_max;
    if (size < KVS_BATCH_SIZE_MAX)
        size = KVS_BATCH_SIZE_MAX;
    size += key_size_max + 64;
    return size < WIRE_BODY_SIZE_SANE ? (uint32_t)size : WIRE_BODY_SIZE_SANE;
}

int wire_client_hello_encode(const struct wire_client_hello *hello, struct buf *out)
{
    if (buf_reserve(out, WIRE_CLIENT_HELLO_SIZE) != 0)
        return KVS_ERR_NO_MEMORY;
    uint8_t *at = out->data + out->size;
    memcpy(at, magic, sizeof magic);
    put_u16(at + 4, hello->version_min);
    put_u16(at + 6, hello->version_max);
    put_u32(at + 8, hello->features);
    put_u32(at + 12, 0);
    out->size += WIRE_CLIENT_HELLO_SIZE;
    return 0;
}

/* Could these bytes be the begin of a hello? */
static bool magic_may_be(kvs_slice in)
{
    size_t size = in.size < sizeof magic ? in.size : sizeof magic;
    return size == 0 || memcmp(in.data, magic, size) == 0;
}

int wire_client_hello_decode(kvs_slice in, struct wire_client_hello *ret_hello, size_t *ret_size)
{
    if (!magic_may_be(in))
        return KVS_ERR_PROTOCOL;
    if (in.size < WIRE_CLIENT_HELLO_SIZE)
        return WIRE_MORE;
    struct wire_client_hello hello = {
        .version_min = get_u16(in.data + 4),
        .version_max = get_u16(in.data + 6),
        .features = get_u32(in.data + 8),
    };
    if (hello.version_min == 0 || hello.version_min > hello.version_max)
        return KVS_ERR_PROTOCOL;
    *ret_hello = hello;
    *ret_size = WIRE_CLIENT_HELLO_SIZE;
    return 0;
}

int wire_server_hello_encode(const struct wire_server_hello *hello, struct buf *out)
{
    if (buf_reserve(out, WIRE_SERVER_HELLO_SIZE) != 0)
        return KVS_ERR_NO_MEMORY;
    const struct wire_limits *limits = &hello->limits;
    uint8_t *at = out->data + out->size;
    memcpy(at, magic, sizeof magic);
    put_u16(at + 4, hello->version);
    put_u16(at + 6, (uint16_t)hello->status);
    put_u16(at + 8, hello->version_min);
    put_u16(at + 10, hello->version_max);
    put_u32(at + 12, hello->features);
    put_u32(at + 16, SERVER_HELLO_REST);
    put_u32(at + 20, limits->key_size_max);
    put_u32(at + 24, limits->value_size_max);
    put_u32(at + 28, limits->body_size_max);
    put_u32(at + 32, limits->batch_count_max);
    put_u32(at + 36, limits->in_flight_max);
    put_u32(at + 40, limits->scans_max);
    put_u32(at + 44, limits->page_size);
    put_u64(at + 48, limits->in_flight_bytes_max);
    put_u32(at + 56, 0);
    out->size += WIRE_SERVER_HELLO_SIZE;
    return 0;
}

int wire_server_hello_decode(kvs_slice in, struct wire_server_hello *ret_hello, size_t *ret_size)
{
    if (!magic_may_be(in))
        return KVS_ERR_PROTOCOL;
    if (in.size < WIRE_SERVER_HELLO_FIXED)
        return WIRE_MORE;
    const uint8_t *at = in.data;
    uint32_t rest = get_u32(at + 16);
    if (rest < SERVER_HELLO_REST || rest > WIRE_SERVER_HELLO_REST_MAX)
        return KVS_ERR_PROTOCOL;
    if (in.size < WIRE_SERVER_HELLO_FIXED + rest)
        return WIRE_MORE;
    struct wire_server_hello hello = {
        .version = get_u16(at + 4),
        .status = (int16_t)get_u16(at + 6),
        .version_min = get_u16(at + 8),
        .version_max = get_u16(at + 10),
        .features = get_u32(at + 12),
        .limits =
            {
                .key_size_max = get_u32(at + 20),
                .value_size_max = get_u32(at + 24),
                .body_size_max = get_u32(at + 28),
                .batch_count_max = get_u32(at + 32),
                .in_flight_max = get_u32(at + 36),
                .scans_max = get_u32(at + 40),
                .page_size = get_u32(at + 44),
                .in_flight_bytes_max = get_u64(at + 48),
            },
    };
    if (hello.status > 0 || (hello.status == 0) != (hello.version != 0))
        return KVS_ERR_PROTOCOL;
    *ret_hello = hello;
    *ret_size = WIRE_SERVER_HELLO_FIXED + rest;
    return 0;
}

int wire_frame_decode(kvs_slice in, uint32_t body_size_max, struct wire_frame *ret_frame)
{
    if (in.size < WIRE_HEADER_SIZE)
        return WIRE_MORE;
    const uint8_t *at = in.data;
    uint32_t body_size = get_u32(at);
    *ret_frame = (struct wire_frame){
        .id = get_u32(at + 4),
        .opcode = at[8],
        .flags = at[9],
        .family = at[10],
        .reserved = at[11],
        .status = (int16_t)get_u16(at + 10),
        .aux = get_u32(at + 12),
        .body = {.data = at + WIRE_HEADER_SIZE, .size = body_size},
    };
    if (body_size > body_size_max)
        return body_size > WIRE_BODY_SIZE_SANE ? KVS_ERR_PROTOCOL : KVS_ERR_TOO_LARGE;
    if (ret_frame->opcode == 0)
        return KVS_ERR_PROTOCOL;
    return in.size - WIRE_HEADER_SIZE < body_size ? WIRE_MORE : 0;
}

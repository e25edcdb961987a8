/* tests/unit/proto/grpc_raw.c: see the header. */
#include "grpc_raw.h"

#include "test.h"

void raw_frame(struct buf *out, uint8_t type, uint8_t flags, uint32_t stream, const void *payload,
               size_t size)
{
    const uint8_t header[9] = {(uint8_t)(size >> 16),
                               (uint8_t)(size >> 8),
                               (uint8_t)size,
                               type,
                               flags,
                               (uint8_t)(stream >> 24),
                               (uint8_t)(stream >> 16),
                               (uint8_t)(stream >> 8),
                               (uint8_t)stream};
    assert_int_equal(buf_append(out, header, sizeof header), 0);
    assert_int_equal(buf_append(out, payload, size), 0);
}

void raw_begin(struct buf *out)
{
    assert_int_equal(buf_append(out, RAW_PREFACE, sizeof RAW_PREFACE - 1), 0);
    raw_frame(out, NGHTTP2_SETTINGS, 0, 0, "", 0);
}

/* RFC 7541, 5.1 and 5.2: a string without Huffman. */
static void raw_string(struct buf *block, const char *text)
{
    size_t size = strlen(text);
    if (size < 127) {
        assert_int_equal(buf_append_u8(block, (uint8_t)size), 0);
    } else {
        assert_int_equal(buf_append_u8(block, 127), 0);
        for (size -= 127; size >= 128; size /= 128)
            assert_int_equal(buf_append_u8(block, (uint8_t)(size % 128 + 128)), 0);
        assert_int_equal(buf_append_u8(block, (uint8_t)size), 0);
    }
    assert_int_equal(buf_append(block, text, strlen(text)), 0);
}

void raw_field(struct buf *block, const char *name, const char *value)
{
    assert_int_equal(buf_append_u8(block, 0), 0); /* literal, not indexed, new name */
    raw_string(block, name);
    raw_string(block, value);
}

void raw_request_fields(struct buf *block, const char *path)
{
    raw_field(block, ":method", "POST");
    raw_field(block, ":scheme", "http");
    raw_field(block, ":path", path);
    raw_field(block, ":authority", "localhost");
    raw_field(block, "content-type", "application/grpc");
    raw_field(block, "te", "trailers");
}

void raw_headers(struct buf *out, uint8_t flags, uint32_t stream, const struct buf *block)
{
    raw_frame(out, NGHTTP2_HEADERS, (uint8_t)(flags | NGHTTP2_FLAG_END_HEADERS), stream,
              block->data, block->size);
}

void raw_request(struct buf *out, uint8_t flags, uint32_t stream, const char *path)
{
    struct buf block = BUF_INIT;
    raw_request_fields(&block, path);
    raw_headers(out, flags, stream, &block);
    buf_deinit(&block);
}

void raw_message(struct buf *out, uint8_t flags, uint32_t stream, uint8_t compressed,
                 const char *message)
{
    struct buf payload = BUF_INIT;
    const uint8_t prefix[5] = {compressed, 0, 0, (uint8_t)(strlen(message) >> 8),
                               (uint8_t)strlen(message)};
    assert_int_equal(buf_append(&payload, prefix, sizeof prefix), 0);
    assert_int_equal(buf_append(&payload, message, strlen(message)), 0);
    raw_frame(out, NGHTTP2_DATA, flags, stream, payload.data, payload.size);
    buf_deinit(&payload);
}

void raw_seen_init(struct raw_seen *seen)
{
    *seen = (struct raw_seen){0};
    assert_int_equal(nghttp2_hd_inflate_new(&seen->inflater), 0);
}

void raw_seen_deinit(struct raw_seen *seen)
{
    nghttp2_hd_inflate_del(seen->inflater);
    buf_deinit(&seen->text);
}

static void seen_headers(struct raw_seen *seen, const uint8_t *block, size_t size)
{
    for (;;) {
        nghttp2_nv field;
        int flags = 0;
        ssize_t used = nghttp2_hd_inflate_hd2(seen->inflater, &field, &flags, block, size, 1);
        assert_true(used >= 0);
        block += used;
        size -= (size_t)used;
        if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0)
            buf_printf(&seen->text, "%.*s=%.*s;", (int)field.namelen, field.name,
                       (int)field.valuelen, field.value);
        if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0)
            break;
    }
    nghttp2_hd_inflate_end_headers(seen->inflater);
}

static unsigned number_at(const uint8_t *p)
{
    return (unsigned)p[0] << 24 | (unsigned)p[1] << 16 | (unsigned)p[2] << 8 | p[3];
}

static void seen_frame(struct raw_seen *seen, const uint8_t *header, const uint8_t *payload,
                       size_t size)
{
    unsigned stream = number_at(header + 5);
    switch (header[3]) {
    case NGHTTP2_DATA:
        buf_printf(&seen->text, "%u:DATA(%zu)", stream, size);
        break;
    case NGHTTP2_HEADERS:
        assert_true((header[4] & NGHTTP2_FLAG_END_HEADERS) != 0);
        buf_printf(&seen->text, "%u:HEADERS(", stream);
        seen_headers(seen, payload, size);
        buf_printf(&seen->text, ")");
        break;
    case NGHTTP2_RST_STREAM:
        buf_printf(&seen->text, "%u:RST(%u)", stream, number_at(payload));
        break;
    case NGHTTP2_GOAWAY:
        buf_printf(&seen->text, "%u:GOAWAY(%u)", stream, number_at(payload + 4));
        break;
    case NGHTTP2_PING:
        if ((header[4] & NGHTTP2_FLAG_ACK) != 0)
            seen->ping_acks++;
        else
            seen->pings++;
        return;
    default:
        return;
    }
    if (header[3] <= NGHTTP2_HEADERS && (header[4] & NGHTTP2_FLAG_END_STREAM) != 0)
        buf_printf(&seen->text, "END");
    buf_printf(&seen->text, " ");
}

void raw_seen_take(struct raw_seen *seen, struct buf *bytes)
{
    size_t at = 0;
    if (bytes->size >= 24 && memcmp(bytes->data, RAW_PREFACE, 24) == 0)
        at = 24;
    while (at < bytes->size) {
        const uint8_t *header = bytes->data + at;
        assert_true(bytes->size - at >= 9);
        size_t size = (size_t)header[0] << 16 | (size_t)header[1] << 8 | header[2];
        assert_true(bytes->size - at - 9 >= size);
        seen_frame(seen, header, header + 9, size);
        at += 9 + size;
    }
    buf_clear(bytes);
}

const char *raw_seen_text(struct raw_seen *seen)
{
    if (seen->text.size == 0)
        return "";
    assert_int_equal(buf_append_u8(&seen->text, 0), 0);
    seen->text.size--;
    return (const char *)seen->text.data;
}

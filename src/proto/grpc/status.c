/* proto/grpc/status.c: tables of codes, and the escapes of grpc-message. */
#include "proto/grpc/status.h"

#include <nghttp2/nghttp2.h>

static const char *const code_names[GRPC_CODE_MAX + 1] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

const char *grpc_code_name(int code)
{
    if (code < 0 || code > GRPC_CODE_MAX)
        return code_names[GRPC_UNKNOWN];
    return code_names[code];
}

int grpc_code_parse(kvs_slice text)
{
    if (text.size < 1 || text.size > 2)
        return GRPC_UNKNOWN;
    int code = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return GRPC_UNKNOWN;
        code = code * 10 + (text.data[i] - '0');
    }
    return code <= GRPC_CODE_MAX ? code : GRPC_UNKNOWN;
}

int grpc_code_from_http_status(unsigned http_status)
{
    switch (http_status) {
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

int grpc_code_from_stream_error(uint32_t http2_error)
{
    switch (http2_error) {
    case NGHTTP2_REFUSED_STREAM:
        return GRPC_UNAVAILABLE;
    case NGHTTP2_CANCEL:
        return GRPC_CANCELLED;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return GRPC_RESOURCE_EXHAUSTED;
    case NGHTTP2_INADEQUATE_SECURITY:
        return GRPC_PERMISSION_DENIED;
    default:
        return GRPC_INTERNAL;
    }
}

int grpc_message_encode(struct buf *out, kvs_slice text)
{
    static const char digits[] = "0123456789ABCDEF";
    int error = buf_reserve(out, 3 * text.size);
    if (error != 0)
        return error;
    uint8_t *p = out->data + out->size;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (c >= 0x20 && c <= 0x7e && c != '%') {
            *p++ = c;
        } else {
            *p++ = '%';
            *p++ = (uint8_t)digits[c >> 4];
            *p++ = (uint8_t)digits[c & 15];
        }
    }
    out->size = text.size > 0 ? (size_t)(p - out->data) : out->size;
    return 0;
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

int grpc_message_decode(struct buf *out, kvs_slice text)
{
    int error = buf_reserve(out, text.size);
    if (error != 0)
        return error;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (c == '%' && text.size - i > 2) {
            int high = hex_value(text.data[i + 1]);
            int low = hex_value(text.data[i + 2]);
            if (high >= 0 && low >= 0) {
                c = (uint8_t)(high << 4 | low);
                i += 2;
            }
        }
        out->data[out->size++] = c;
    }
    return 0;
}

/* cli/client/encoding.c: see cli/client/encoding.h. */
#include "cli/client/encoding.h"

#include <kvs/error.h>

static const char hex_digits[] = "0123456789abcdef";
static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Size of the UTF-8 sequence at `at`, 0 when there is none. */
static size_t utf8_sequence(const uint8_t *at, size_t size)
{
    uint8_t first = at[0];
    if (first < 0x80)
        return 1;
    size_t length = first >= 0xc2 && first <= 0xdf   ? 2
                    : first >= 0xe0 && first <= 0xef ? 3
                    : first >= 0xf0 && first <= 0xf4 ? 4
                                                     : 0;
    if (length == 0 || length > size)
        return 0;
    /* The second byte's range excludes overlong forms, surrogates and numbers past U+10FFFF. */
    uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

bool utf8_valid(kvs_slice bytes)
{
    for (size_t i = 0; i < bytes.size;) {
        size_t length = utf8_sequence(bytes.data + i, bytes.size - i);
        if (length == 0)
            return false;
        i += length;
    }
    return true;
}

/* --- escapes ---------------------------------------------------------------------------------- */

static void append_hex(struct buf *buf, uint8_t byte)
{
    uint8_t text[4] = {'\\', 'x', (uint8_t)hex_digits[byte >> 4], (uint8_t)hex_digits[byte & 15]};
    memcpy(buf->data + buf->size, text, sizeof text);
    buf->size += sizeof text;
}

/* Room for four bytes of each was reserved. `quoted`: quotes and blanks are escaped, too. */
static void escape_reserved(struct buf *buf, kvs_slice bytes, bool quoted)
{
    for (size_t i = 0; i < bytes.size;) {
        uint8_t byte = bytes.data[i];
        size_t length = utf8_sequence(bytes.data + i, bytes.size - i);
        char short_form = byte == '\n'                              ? 'n'
                          : byte == '\r'                            ? 'r'
                          : byte == '\t'                            ? 't'
                          : byte == '\\' || (quoted && byte == '"') ? (char)byte
                                                                    : 0;
        bool c1_control = length == 2 && byte == 0xc2 && bytes.data[i + 1] < 0xa0;
        if (short_form != 0) {
            buf->data[buf->size++] = '\\';
            buf->data[buf->size++] = (uint8_t)short_form;
            i++;
        } else if (length == 0 || byte < 0x20 || byte == 0x7f || (quoted && byte == ' ') ||
                   c1_control) {
            append_hex(buf, byte);
            i++;
        } else {
            memcpy(buf->data + buf->size, bytes.data + i, length);
            buf->size += length;
            i += length;
        }
    }
}

int escape_append(struct buf *buf, kvs_slice bytes)
{
    if (buf_reserve(buf, bytes.size * 4) != 0)
        return KVS_ERR_NO_MEMORY;
    escape_reserved(buf, bytes, false);
    return 0;
}

int shell_word_append(struct buf *buf, kvs_slice bytes)
{
    bool plain = bytes.size > 0 && utf8_valid(bytes);
    for (size_t i = 0; plain && i < bytes.size; i++)
        plain = bytes.data[i] > 0x20 && bytes.data[i] != 0x7f && (i > 0 || bytes.data[i] != '#') &&
                strchr("\"'\\", bytes.data[i]) == NULL;
    if (plain)
        return buf_append_slice(buf, bytes);
    if (buf_reserve(buf, bytes.size * 4 + 2) != 0)
        return KVS_ERR_NO_MEMORY;
    buf->data[buf->size++] = '"';
    escape_reserved(buf, bytes, true);
    buf->data[buf->size++] = '"';
    return 0;
}

static int hex_value(uint8_t digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    digit |= 0x20;
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

int unescape_append(struct buf *buf, kvs_slice text)
{
    if (buf_reserve(buf, text.size) != 0)
        return KVS_ERR_NO_MEMORY;
    size_t size = buf->size;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if (byte == '\\') {
            if (++i == text.size)
                return KVS_ERR_INVALID_ARGUMENT;
            static const char names[] = "nrt0\\\"'", values[] = "\n\r\t\0\\\"'";
            const char *name = text.data[i] != 0 ? strchr(names, text.data[i]) : NULL;
            if (name != NULL) {
                byte = (uint8_t)values[name - names];
            } else if (text.data[i] == 'x' && text.size - i > 2 &&
                       hex_value(text.data[i + 1]) >= 0 && hex_value(text.data[i + 2]) >= 0) {
                byte = (uint8_t)(hex_value(text.data[i + 1]) << 4 | hex_value(text.data[i + 2]));
                i += 2;
            } else {
                return KVS_ERR_INVALID_ARGUMENT;
            }
        }
        buf->data[size++] = byte;
    }
    buf->size = size;
    return 0;
}

/* --- base64 and JSON -------------------------------------------------------------------------- */

int base64_append(struct buf *buf, kvs_slice bytes)
{
    if (buf_reserve(buf, (bytes.size / 3 + 1) * 4) != 0)
        return KVS_ERR_NO_MEMORY;
    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t here = bytes.size - i < 3 ? bytes.size - i : 3;
        uint32_t group = (uint32_t)bytes.data[i] << 16;
        if (here > 1)
            group |= (uint32_t)bytes.data[i + 1] << 8;
        if (here > 2)
            group |= bytes.data[i + 2];
        for (size_t j = 0; j < 4; j++)
            buf->data[buf->size++] =
                j <= here ? (uint8_t)base64_digits[group >> (18 - 6 * j) & 63] : '=';
    }
    return 0;
}

static int base64_value(uint8_t digit)
{
    const char *at = digit != 0 ? strchr(base64_digits, digit) : NULL;
    return at != NULL ? (int)(at - base64_digits) : -1;
}

int base64_decode_append(struct buf *buf, kvs_slice text)
{
    if (text.size % 4 != 0)
        return KVS_ERR_INVALID_ARGUMENT;
    if (buf_reserve(buf, text.size / 4 * 3) != 0)
        return KVS_ERR_NO_MEMORY;
    size_t size = buf->size;
    for (size_t i = 0; i < text.size; i += 4) {
        bool last = i + 4 == text.size;
        size_t padding = last && text.data[i + 3] == '=' ? 1 + (text.data[i + 2] == '=') : 0;
        uint32_t group = 0;
        for (size_t j = 0; j < 4; j++) {
            int value = j < 4 - padding ? base64_value(text.data[i + j]) : 0;
            if (value < 0)
                return KVS_ERR_INVALID_ARGUMENT;
            group = group << 6 | (uint32_t)value;
        }
        if (padding > 0 && (group & ((1u << (8 * padding)) - 1)) != 0)
            return KVS_ERR_INVALID_ARGUMENT; /* bits that no encoder writes */
        for (size_t j = 0; j < 3 - padding; j++)
            buf->data[size++] = (uint8_t)(group >> (16 - 8 * j));
    }
    buf->size = size;
    return 0;
}

static int json_string_append(struct buf *buf, kvs_slice text)
{
    if (buf_reserve(buf, text.size * 6 + 2) != 0)
        return KVS_ERR_NO_MEMORY;
    uint8_t *at = buf->data + buf->size;
    *at++ = '"';
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if (byte == '"' || byte == '\\') {
            *at++ = '\\';
            *at++ = byte;
        } else if (byte < 0x20 || byte == 0x7f) {
            memcpy(at, "\\u00", 4);
            at[4] = (uint8_t)hex_digits[byte >> 4];
            at[5] = (uint8_t)hex_digits[byte & 15];
            at += 6;
        } else {
            *at++ = byte;
        }
    }
    *at++ = '"';
    buf->size = (size_t)(at - buf->data);
    return 0;
}

int json_field_append(struct buf *buf, const char *name, kvs_slice bytes)
{
    bool text = utf8_valid(bytes);
    size_t before = buf->size;
    int error = buf_printf(buf, text ? "\"%s\":" : "\"%s64\":\"", name);
    if (error == 0)
        error = text ? json_string_append(buf, bytes) : base64_append(buf, bytes);
    if (error == 0 && !text)
        error = buf_append_u8(buf, '"');
    if (error != 0)
        buf->size = before;
    return error;
}

/* proto/eventstore/frame.c: see the header. */
#include "proto/eventstore/frame.h"

#include "base/bytes.h"

#include <kvs/error.h>

/* --- ids ---- */

/* Which byte stands at each place of the text. */
static const uint8_t id_order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

static bool is_dash_before(unsigned place)
{
    return place == 4 || place == 6 || place == 8 || place == 10;
}

void es_id_format(const struct es_id *id, char text[ES_ID_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = 0; i < 16; i++) {
        if (is_dash_before(i))
            *text++ = '-';
        uint8_t byte = id->bytes[id_order[i]];
        *text++ = digits[byte >> 4];
        *text++ = digits[byte & 15];
    }
    *text = '\0';
}

static int digit_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool es_id_parse(kvs_slice text, struct es_id *ret_id)
{
    struct es_id id;
    if (text.size != ES_ID_TEXT_SIZE - 1)
        return false;
    const uint8_t *at = text.data;
    for (unsigned i = 0; i < 16; i++) {
        if (is_dash_before(i) && *at++ != '-')
            return false;
        int high = digit_value(at[0]), low = digit_value(at[1]);
        if (high < 0 || low < 0)
            return false;
        id.bytes[id_order[i]] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    *ret_id = id;
    return true;
}

/* --- reading ---- */

/*
 * Credentials at the begin of `rest`: a length and a login, a length and a password. Two bytes
 * that are negative as a number are the length of a token, with its sign turned.
 */
static bool take_credentials(kvs_slice *rest, struct es_credentials *ret)
{
    if (rest->size < 2)
        return false;
    const uint8_t *at = rest->data;
    size_t left = rest->size;
    int16_t token_size = (int16_t)get_u16(at);
    if (token_size < 0) {
        size_t size = (size_t) - (int32_t)token_size;
        if (left - 2 < size)
            return false;
        ret->token = slice_make(at + 2, size);
        *rest = slice_make(at + 2 + size, left - 2 - size);
        return true;
    }
    kvs_slice *const parts[] = {&ret->login, &ret->password};
    for (unsigned i = 0; i < 2; i++) {
        if (left < 1 || left - 1 < at[0])
            return false;
        *parts[i] = slice_make(at + 1, at[0]);
        left -= 1 + parts[i]->size;
        at += 1 + parts[i]->size;
    }
    *rest = slice_make(at, left);
    return true;
}

int es_frame_decode(kvs_slice in, uint32_t length_max, struct es_frame *ret_frame, size_t *ret_size,
                    const char **ret_why)
{
    if (in.size < ES_FRAME_PREFIX_SIZE) {
        *ret_size = in.size > 0 ? ES_FRAME_PREFIX_SIZE : 0;
        return ES_MORE;
    }
    uint32_t length = get_u32(in.data);
    if (length < ES_FRAME_LENGTH_MIN || length > length_max) {
        *ret_why = length < ES_FRAME_LENGTH_MIN ? "the package is shorter than its own head"
                                                : "the package is larger than is allowed";
        return KVS_ERR_PROTOCOL;
    }
    *ret_size = ES_FRAME_PREFIX_SIZE + (size_t)length;
    if (in.size < *ret_size)
        return ES_MORE;
    const uint8_t *at = in.data;
    struct es_frame frame = {
        .command = at[4],
        .flags = at[5],
        .body = slice_make(at + ES_FRAME_HEAD_SIZE, *ret_size - ES_FRAME_HEAD_SIZE),
    };
    memcpy(frame.correlation.bytes, at + 6, sizeof frame.correlation.bytes);
    frame.has_credentials = (frame.flags & ES_FLAG_AUTHENTICATED) != 0;
    if (frame.has_credentials && !take_credentials(&frame.body, &frame.credentials)) {
        *ret_why = "the credentials end beyond their package";
        return KVS_ERR_PROTOCOL;
    }
    *ret_frame = frame;
    return 0;
}

/* --- writing ---- */

static uint8_t *put_credential(uint8_t *at, kvs_slice text)
{
    *at++ = (uint8_t)text.size;
    if (text.size > 0)
        memcpy(at, text.data, text.size);
    return at + text.size;
}

int es_frame_begin(struct buf *out, uint8_t command, const struct es_id *correlation,
                   const struct es_credentials *credentials, size_t *ret_begin)
{
    size_t more = 0;
    if (credentials != NULL) {
        if (credentials->login.size > ES_CREDENTIAL_SIZE_MAX ||
            credentials->password.size > ES_CREDENTIAL_SIZE_MAX)
            return KVS_ERR_INVALID_ARGUMENT;
        more = 2 + credentials->login.size + credentials->password.size;
    }
    if (buf_reserve(out, ES_FRAME_HEAD_SIZE + more) != 0)
        return KVS_ERR_NO_MEMORY;
    *ret_begin = out->size;
    uint8_t *at = out->data + out->size;
    put_u32(at, 0);
    at[4] = command;
    at[5] = credentials != NULL ? ES_FLAG_AUTHENTICATED : 0;
    memcpy(at + 6, correlation->bytes, sizeof correlation->bytes);
    if (credentials != NULL)
        put_credential(put_credential(at + ES_FRAME_HEAD_SIZE, credentials->login),
                       credentials->password);
    out->size += ES_FRAME_HEAD_SIZE + more;
    return 0;
}

bool es_frame_finish(struct buf *out, size_t begin)
{
    size_t length = out->size - begin - ES_FRAME_PREFIX_SIZE;
    if (length > ES_FRAME_LENGTH_MAX) {
        out->size = begin;
        return false;
    }
    put_u32(out->data + begin, (uint32_t)length);
    return true;
}

int es_frame_append(struct buf *out, uint8_t command, const struct es_id *correlation,
                    const struct es_credentials *credentials, kvs_slice body)
{
    size_t begin;
    int error = es_frame_begin(out, command, correlation, credentials, &begin);
    if (error != 0)
        return error;
    if (buf_append_slice(out, body) != 0) {
        out->size = begin;
        return KVS_ERR_NO_MEMORY;
    }
    return es_frame_finish(out, begin) ? 0 : KVS_ERR_TOO_LARGE;
}

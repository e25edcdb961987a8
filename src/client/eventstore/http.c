/* client/eventstore/http.c: see the header. */
#include "client/eventstore/http.h"

#include <kvs/error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* --- parsing -----------------------------------------------------------------------------------
 */

struct http_head {
    size_t size; /* with the empty line */
    int status;
    bool chunked;
    bool has_length;
    size_t length;
};

static const uint8_t *find(kvs_slice in, const char *text)
{
    return in.size > 0 ? memmem(in.data, in.size, text, strlen(text)) : NULL;
}

static bool take_number(const uint8_t *at, size_t size, unsigned base, size_t *ret_number)
{
    size_t number = 0;
    size_t digits = 0;
    while (size > 0 && (*at == ' ' || *at == '\t'))
        at++, size--;
    for (; digits < size; digits++) {
        unsigned c = at[digits] | 0x20;
        unsigned digit = c >= '0' && c <= '9'                 ? c - '0'
                         : base == 16 && c >= 'a' && c <= 'f' ? c - 'a' + 10
                                                              : 99;
        if (digit >= base)
            break;
        number = number * base + digit;
        if (number > HTTP_ANSWER_SIZE_MAX)
            return false;
    }
    *ret_number = number;
    return digits > 0;
}

/* A line "Name: value". False: the answer cannot be understood. */
static bool take_header(const char *line, size_t size, struct http_head *head)
{
    static const char length[] = "content-length:";
    static const char encoding[] = "transfer-encoding:";
    if (size >= sizeof length - 1 && strncasecmp(line, length, sizeof length - 1) == 0) {
        head->has_length = true;
        return take_number((const uint8_t *)line + sizeof length - 1, size - sizeof length + 1, 10,
                           &head->length);
    }
    if (size >= sizeof encoding - 1 && strncasecmp(line, encoding, sizeof encoding - 1) == 0)
        head->chunked = find(slice_make(line, size), "chunked") != NULL;
    return true;
}

/* 1, 0 when more is needed, or PROTOCOL. */
static int take_head(kvs_slice in, struct http_head *ret_head)
{
    *ret_head = (struct http_head){0};
    size_t looked_at = in.size < 9 ? in.size : 9;
    if (memcmp(in.data, "HTTP/1.1 ", looked_at) != 0 &&
        memcmp(in.data, "HTTP/1.0 ", looked_at) != 0)
        return KVS_ERR_PROTOCOL;
    const uint8_t *end = find(in, "\r\n\r\n");
    if (end == NULL)
        return 0;
    ret_head->size = (size_t)(end - in.data) + 4;
    size_t status;
    if (!take_number(in.data + 9, ret_head->size - 9, 10, &status) || status < 100 || status > 599)
        return KVS_ERR_PROTOCOL;
    ret_head->status = (int)status;
    const uint8_t *at = find(in, "\r\n") + 2;
    while (at < end) {
        const uint8_t *line_end =
            find(slice_make(at, ret_head->size - (size_t)(at - in.data)), "\r\n");
        if (!take_header((const char *)at, (size_t)(line_end - at), ret_head))
            return KVS_ERR_PROTOCOL;
        at = line_end + 2;
    }
    return 1;
}

/* Joins the chunks in place. */
static int take_chunks(struct buf *answer, size_t from, kvs_slice *ret_body)
{
    size_t to = from;
    for (int pass = 0; pass < 2; pass++) { /* looks first, moves when all is there */
        size_t at = from;
        for (;;) {
            kvs_slice rest = slice_make(answer->data + at, answer->size - at);
            const uint8_t *line_end = find(rest, "\r\n");
            size_t size;
            if (line_end == NULL)
                return 0;
            if (!take_number(rest.data, (size_t)(line_end - rest.data), 16, &size))
                return KVS_ERR_PROTOCOL;
            at += (size_t)(line_end - rest.data) + 2;
            if (size == 0)
                break;
            if (answer->size - at < size + 2)
                return 0;
            if (pass == 1) {
                memmove(answer->data + to, answer->data + at, size);
                to += size;
            }
            at += size + 2;
        }
    }
    *ret_body = slice_make(answer->data + from, to - from);
    return 1;
}

int http_parse(struct buf *answer, bool ended, int *ret_status, kvs_slice *ret_body)
{
    struct http_head head;
    if (answer->size == 0)
        return ended ? KVS_ERR_PROTOCOL : 0;
    int got = take_head(buf_slice(answer), &head);
    if (got != 1)
        return got == 0 && ended ? KVS_ERR_PROTOCOL : got;
    *ret_status = head.status;
    size_t size = answer->size - head.size;
    if (head.chunked) {
        got = take_chunks(answer, head.size, ret_body);
        return got == 0 && ended ? KVS_ERR_PROTOCOL : got;
    }
    if (head.status == 204 || head.status == 304)
        size = head.length = 0;
    else if (head.has_length ? size < head.length : !ended)
        return ended ? KVS_ERR_PROTOCOL : 0;
    *ret_body = slice_make(answer->data + head.size, head.has_length ? head.length : size);
    return 1;
}

/* --- the call ----------------------------------------------------------------------------------
 */

static void http_part_closed(struct http_call *call)
{
    if (--call->parts == 0)
        call->done(call);
}

static void http_on_timer_closed(uv_handle_t *handle)
{
    http_part_closed(handle->data);
}

static void http_finish(struct http_call *call, int error, const char *why)
{
    if (call->finished)
        return;
    call->finished = true;
    call->error = error;
    snprintf(call->why, sizeof call->why, "%s", why);
    link_close(&call->link);
    uv_close((uv_handle_t *)&call->timer, http_on_timer_closed);
}

static void http_look(struct http_call *call, bool ended, const char *why)
{
    int got = http_parse(&call->answer, ended, &call->status, &call->body);
    if (got == 1)
        http_finish(call, 0, "");
    else if (got != 0)
        http_finish(call, got, why);
}

static size_t http_on_bytes(struct link *link, kvs_slice in)
{
    struct http_call *call = CONTAINER_OF(link, struct http_call, link);
    if (call->finished)
        return in.size;
    char why[LINK_NAME_SIZE + 64];
    bool is_large = call->answer.size + in.size > HTTP_ANSWER_SIZE_MAX;
    snprintf(why, sizeof why, "%s: its answer is %s", link->name,
             is_large ? "over 16 MiB" : "no HTTP that we know");
    if (is_large)
        http_finish(call, KVS_ERR_PROTOCOL, why);
    else if (buf_append_slice(&call->answer, in) != 0)
        http_finish(call, KVS_ERR_NO_MEMORY, kvs_error_text(KVS_ERR_NO_MEMORY));
    else
        http_look(call, false, why);
    return in.size;
}

static void http_on_connected(struct link *link)
{
    struct http_call *call = CONTAINER_OF(link, struct http_call, link);
    link_established(link);
    if (buf_append_slice(&link->out, buf_slice(&call->request)) != 0) {
        http_finish(call, KVS_ERR_NO_MEMORY, kvs_error_text(KVS_ERR_NO_MEMORY));
        return;
    }
    link_flush(link);
}

static void http_on_lost(struct link *link, int error, const char *why)
{
    struct http_call *call = CONTAINER_OF(link, struct http_call, link);
    if (!call->finished && call->answer.size > 0)
        http_look(call, true, why); /* the end of the connection may be the end of the body */
    http_finish(call, error, why);
}

static void http_on_link_closed(struct link *link)
{
    http_part_closed(CONTAINER_OF(link, struct http_call, link));
}

static void http_on_timeout(uv_timer_t *timer)
{
    struct http_call *call = timer->data;
    char why[LINK_NAME_SIZE + 64];
    snprintf(why, sizeof why, "%s: no answer by HTTP within %u ms", call->link.name,
             call->timeout_ms);
    http_finish(call, KVS_ERR_TIMEOUT, why);
}

static int append_basic(struct buf *out, const char *login, const char *password)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char text[600] = {0}; /* what stands behind its end is read, too */
    int size = snprintf(text, sizeof text, "%s:%s", login, password != NULL ? password : "");
    if (size < 0 || (size_t)size >= sizeof text - 2)
        return KVS_ERR_INVALID_ARGUMENT;
    int error = buf_printf(out, "Authorization: Basic ");
    for (int i = 0; i < size && error == 0; i += 3) {
        uint32_t bits = (uint32_t)(uint8_t)text[i] << 16 | (uint32_t)(uint8_t)text[i + 1] << 8 |
                        (uint8_t)text[i + 2];
        char four[4] = {digits[bits >> 18], digits[bits >> 12 & 63],
                        i + 1 < size ? digits[bits >> 6 & 63] : '=',
                        i + 2 < size ? digits[bits & 63] : '='};
        error = buf_append(out, four, sizeof four);
    }
    return error != 0 ? error : buf_printf(out, "\r\n");
}

static int http_write_request(struct http_call *call)
{
    int error = buf_printf(&call->request,
                           "%s %s HTTP/1.1\r\nHost: %s\r\nAccept: application/json\r\n"
                           "Connection: close\r\nContent-Length: 0\r\n",
                           call->method, call->path, call->link.name);
    if (error == 0 && call->login != NULL)
        error = append_basic(&call->request, call->login, call->password);
    return error != 0 ? error : buf_printf(&call->request, "\r\n");
}

void http_call_start(struct http_call *call)
{
    static const struct link_events link_events = {
        .on_connected = http_on_connected,
        .on_bytes = http_on_bytes,
        .on_lost = http_on_lost,
        .on_closed = http_on_link_closed,
    };
    call->parts = 2;
    link_init(&call->link, call->loop, call->pool, call->host, call->port, call->timeout_ms,
              &link_events);
    if (call->tls != NULL)
        link_use_tls(&call->link, call->tls);
    uv_timer_init(call->loop->uv, &call->timer); /* cannot fail */
    call->timer.data = call;
    int error = http_write_request(call);
    if (error != 0) {
        http_finish(call, error, kvs_error_text(error));
        return;
    }
    uv_timer_start(&call->timer, http_on_timeout, call->timeout_ms, 0);
    link_start(&call->link);
}

void http_call_cancel(struct http_call *call)
{
    http_finish(call, KVS_ERR_CANCELLED, kvs_error_text(KVS_ERR_CANCELLED));
}

void http_call_deinit(struct http_call *call)
{
    buf_deinit(&call->request);
    buf_deinit(&call->answer);
}

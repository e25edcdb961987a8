/*
 * server/http_request.c: see the header.
 *
 * RFC 9112: the request line (section 3), field lines (section 5). Lines end in CR LF, nothing
 * else; a field that says a body follows is refused, since nobody here wants one.
 */
#include "server/http_request.h"

#include <kvs/error.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <strings.h>

#define NUMBER_DIGITS_MAX 18 /* which an int64_t has room for */

static bool is_token(kvs_slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && (c == '\0' || strchr("!#$%&'*+-.^_`|~", c) == NULL))
            return false;
    }
    return text.size > 0;
}

static kvs_slice trim(kvs_slice text)
{
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t'))
        text = slice_make(text.data + 1, text.size - 1);
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t'))
        text.size--;
    return text;
}

static bool is_word(kvs_slice text, const char *word)
{
    return text.size == strlen(word) && strncasecmp((const char *)text.data, word, text.size) == 0;
}

/* The text up to `separator`, which `rest` is then behind; false: there is none. */
static bool cut(kvs_slice *rest, char separator, kvs_slice *ret_text)
{
    const uint8_t *found = rest->size > 0 ? memchr(rest->data, separator, rest->size) : NULL;
    if (found == NULL)
        return false;
    size_t size = (size_t)(found - rest->data);
    *ret_text = slice_make(rest->data, size);
    *rest = slice_make(found + 1, rest->size - size - 1);
    return true;
}

/* METHOD SP path SP HTTP/1.x */
static bool parse_first_line(kvs_slice line, struct http_request *request)
{
    kvs_slice target;
    if (!cut(&line, ' ', &request->method) || !cut(&line, ' ', &target) ||
        !is_token(request->method) || target.size == 0 || target.data[0] != '/')
        return false;
    for (size_t i = 0; i < target.size; i++) {
        if (target.data[i] <= 0x20 || target.data[i] >= 0x7f)
            return false;
    }
    kvs_slice rest = target;
    request->path = target;
    if (cut(&rest, '?', &request->path))
        request->query = rest;
    request->keep_alive = slice_equal(line, slice_of_string("HTTP/1.1"));
    return request->keep_alive || slice_equal(line, slice_of_string("HTTP/1.0"));
}

static bool parse_field(kvs_slice line, struct http_request *request)
{
    kvs_slice name;
    if (!cut(&line, ':', &name) || !is_token(name))
        return false;
    kvs_slice value = trim(line);
    for (size_t i = 0; i < value.size; i++) {
        if ((value.data[i] < 0x20 && value.data[i] != '\t') || value.data[i] == 0x7f)
            return false;
    }
    if (is_word(name, "transfer-encoding"))
        return false;
    if (is_word(name, "content-length"))
        return is_word(value, "0");
    if (is_word(name, "authorization")) {
        bool first = request->authorization.size == 0;
        request->authorization = value;
        return first;
    }
    if (is_word(name, "connection") && is_word(value, "close"))
        request->keep_alive = false;
    return true;
}

/* The line up to CR LF; false: there is no whole one, or a lone LF. */
static bool next_line(kvs_slice *rest, kvs_slice *ret_line)
{
    if (!cut(rest, '\n', ret_line) || ret_line->size == 0 ||
        ret_line->data[ret_line->size - 1] != '\r')
        return false;
    ret_line->size--;
    return true;
}

static bool parse_head(kvs_slice head, struct http_request *request)
{
    kvs_slice line;
    if (!next_line(&head, &line) || !parse_first_line(line, request))
        return false;
    while (next_line(&head, &line)) {
        if (line.size == 0)
            return true;
        if (!parse_field(line, request))
            return false;
    }
    return false;
}

enum http_parsed http_request_parse(kvs_slice bytes, struct http_request *ret_request,
                                    size_t *ret_size)
{
    if (bytes.data == NULL)
        return HTTP_NEEDS_BYTES;
    size_t looked_at = bytes.size < HTTP_HEAD_SIZE_MAX ? bytes.size : HTTP_HEAD_SIZE_MAX;
    const uint8_t *end = memmem(bytes.data, looked_at, "\r\n\r\n", 4);
    if (end == NULL && memmem(bytes.data, looked_at, "\n\n", 2) != NULL)
        return HTTP_BAD; /* its head has ended, in lines of another kind: no use in waiting */
    if (end == NULL)
        return looked_at == HTTP_HEAD_SIZE_MAX ? HTTP_BAD : HTTP_NEEDS_BYTES;
    *ret_size = (size_t)(end - bytes.data) + 4;
    struct http_request request = {0};
    if (!parse_head(slice_make(bytes.data, *ret_size), &request))
        return HTTP_BAD;
    *ret_request = request;
    return HTTP_REQUEST;
}

/* --- what stands in it --- */

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool http_take_part(kvs_slice *path, uint8_t **at, kvs_slice *ret_part)
{
    const uint8_t *slash = path->size > 0 ? memchr(path->data, '/', path->size) : NULL;
    const uint8_t *end = slash != NULL ? slash : path->data + path->size;
    uint8_t *begin = *at;
    for (const uint8_t *from = path->data; from < end; from++) {
        uint8_t byte = *from;
        if (byte == '%') {
            int high = end - from > 2 ? hex_digit(from[1]) : -1;
            int low = end - from > 2 ? hex_digit(from[2]) : -1;
            if (high < 0 || low < 0)
                return false;
            byte = (uint8_t)(high << 4 | low);
            from += 2;
        }
        *(*at)++ = byte;
    }
    *ret_part = slice_make(begin, (size_t)(*at - begin));
    const uint8_t *rest = slash != NULL ? slash + 1 : end;
    *path = slice_make(rest, path->size - (size_t)(rest - path->data));
    return ret_part->size > 0;
}

int http_append_part(struct buf *out, kvs_slice text)
{
    static const char digits[] = "0123456789ABCDEF";
    int error = buf_reserve(out, 3 * text.size);
    for (size_t i = 0; i < text.size && error == 0; i++) {
        uint8_t c = text.data[i];
        char encoded[3] = {'%', digits[c >> 4], digits[c & 15]};
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     (c != '\0' && strchr("-_.~", c) != NULL);
        error = plain ? buf_append(out, &c, 1) : buf_append(out, encoded, sizeof encoded);
    }
    return error;
}

bool http_query_number(kvs_slice query, const char *name, int64_t *ret_number)
{
    size_t name_size = strlen(name);
    while (query.size > 0) {
        kvs_slice rest = {0}, item = query;
        if (cut(&query, '&', &item))
            rest = query;
        query = rest;
        if (item.size <= name_size || memcmp(item.data, name, name_size) != 0 ||
            item.data[name_size] != '=')
            continue;
        item = slice_make(item.data + name_size + 1, item.size - name_size - 1);
        if (item.size == 0 || item.size > NUMBER_DIGITS_MAX)
            return false;
        *ret_number = 0;
        for (size_t i = 0; i < item.size; i++) {
            if (item.data[i] < '0' || item.data[i] > '9')
                return false;
            *ret_number = *ret_number * 10 + (item.data[i] - '0');
        }
    }
    return true;
}

bool http_basic_credentials(kvs_slice value, uint8_t *memory, kvs_slice *ret_login,
                            kvs_slice *ret_password)
{
    kvs_slice scheme;
    if (!cut(&value, ' ', &scheme) || !is_word(scheme, "basic"))
        return false;
    value = trim(value);
    if (value.size == 0 || value.size % 4 != 0 || value.size > HTTP_HEAD_SIZE_MAX)
        return false;
    int size = EVP_DecodeBlock(memory, value.data, (int)value.size);
    for (size_t i = 1; size > 0 && i <= 2 && value.data[value.size - i] == '='; i++)
        size--;
    const uint8_t *colon = size > 0 ? memchr(memory, ':', (size_t)size) : NULL;
    if (colon == NULL)
        return false;
    *ret_login = slice_make(memory, (size_t)(colon - memory));
    *ret_password = slice_make(colon + 1, (size_t)(memory + size - (colon + 1)));
    return true;
}

/* --- answers --- */

static const char *reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 204:
        return "No Content";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 503:
        return "Service Unavailable";
    default:
        return "Internal Server Error";
    }
}

int http_answer_append(struct buf *out, const struct http_answer *answer)
{
    size_t before = out->size;
    int status = answer->status;
    int error = buf_printf(out, "HTTP/1.1 %d %s\r\n", status, reason(status));
    if (error == 0 && status != 204) /* which has no body, and must not tell its size */
        error = buf_printf(out, "Content-Type: %s\r\nContent-Length: %zu\r\n", answer->type,
                           answer->body.size);
    if (error == 0 && status == 401)
        error = buf_printf(out, "WWW-Authenticate: Basic realm=\"ES\"\r\n");
    if (error == 0 && answer->allow != NULL)
        error = buf_printf(out, "Allow: %s\r\n", answer->allow);
    if (error == 0)
        error = buf_printf(out, "%s\r\n", answer->keep_alive ? "" : "Connection: close\r\n");
    if (error == 0 && status != 204 && !answer->head)
        error = buf_append_slice(out, answer->body);
    if (error != 0)
        out->size = before;
    return error;
}

/*
 * server/http_request.h: as much of HTTP/1.1 as a status page needs: requests without a body.
 *
 * No I/O. Thread: any.
 */
#ifndef SERVER_HTTP_REQUEST_H
#define SERVER_HTTP_REQUEST_H

#include "base/buf.h"

#define HTTP_HEAD_SIZE_MAX (8u * 1024)

struct http_request {
    kvs_slice method;
    kvs_slice path;          /* without the query; not decoded */
    kvs_slice query;         /* behind the question mark */
    kvs_slice authorization; /* the field's value; empty without one */
    bool keep_alive;
};

enum http_parsed {
    HTTP_NEEDS_BYTES,
    HTTP_REQUEST,
    HTTP_BAD, /* answer 400 and close: what follows cannot be told apart */
};

/* Takes a request off the front of the bytes; the slices point into them. *ret_size: how much it
 * took. */
enum http_parsed http_request_parse(kvs_slice bytes, struct http_request *ret_request,
                                    size_t *ret_size);

/* The path's part up to the next slash, or its end, decoded at *at (which has room for the path)
 * and moved on; `path` goes on behind the slash. False: it is empty, or wrongly encoded. */
bool http_take_part(kvs_slice *path, uint8_t **at, kvs_slice *ret_part);
/* Appends the text as a part of a path. Returns 0 or NO_MEMORY. */
int http_append_part(struct buf *out, kvs_slice text);
/* The number that a query gives by this name; left as it is when it gives none. False: no number.
 */
bool http_query_number(kvs_slice query, const char *name, int64_t *ret_number);
/* Of an Authorization field "Basic ..."; `memory` has room for it. False: it is none. */
bool http_basic_credentials(kvs_slice value, uint8_t *memory, kvs_slice *ret_login,
                            kvs_slice *ret_password);

struct http_answer {
    int status;
    const char *type; /* of the body */
    kvs_slice body;
    const char *allow; /* 405: the methods there are */
    bool keep_alive;
    bool head; /* the answer to HEAD: all but the body */
};

/* Appends a whole answer; 401 asks for a login and a password. Returns 0 or NO_MEMORY. */
int http_answer_append(struct buf *out, const struct http_answer *answer);

#endif

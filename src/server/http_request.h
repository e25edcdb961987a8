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
    kvs_slice path; /* without the query */
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

/* Appends a whole answer; 405 says which methods there are. Returns 0 or NO_MEMORY. */
int http_answer(struct buf *out, int status, const char *type, kvs_slice body, bool keep_alive);

#endif

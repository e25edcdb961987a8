/* stream/json_text.h: JSON documents of jansson as text in a buf. */
#ifndef STREAM_JSON_TEXT_H
#define STREAM_JSON_TEXT_H

#include "base/buf.h"

#include <jansson.h>

/* Appends it, and gives the document back (NULL, for one that could not be made, is NO_MEMORY). */
int json_append(json_t *json, struct buf *to);
/* A string, or an empty one if the bytes are no UTF-8. */
json_t *json_text(kvs_slice text);
/* A member that is a string; else empty. It lives as long as the object. */
kvs_slice json_text_of(const json_t *object, const char *key);
/* A time as clients write it, "2026-01-31T12:00:00.123Z". */
json_t *json_time(int64_t unix_ms);

#endif

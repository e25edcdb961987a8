/*
 * stream/json_scan.h: JSON of others, looked at where it lies.
 *
 * Events and their metadata come from outside, up to 16 MiB of them, and a tree of such a document
 * is fifty times as large and takes seconds. So only what is of interest is cut out, in time of the
 * document's size and without memory, and a tree is made of that. The document must be whole (RFC
 * 8259, 2,048 levels at most), but texts may have bytes that are no UTF-8.
 */
#ifndef STREAM_JSON_SCAN_H
#define STREAM_JSON_SCAN_H

#include "base/slice.h"

/* The text of the value of each of the `count` keys (which are ASCII), the last one where a key
 * stands there several times; empty: none. False: it is no object, and all are empty. */
bool json_scan_object(kvs_slice object, const char *const *keys, unsigned count,
                      kvs_slice *ret_values);

/* The text of each element in turn; *at is 0 at the begin. False: there is no other, or it is no
 * array. Of what json_scan_object gave. */
bool json_scan_array(kvs_slice array, size_t *at, kvs_slice *ret_element);

/* A whole number that is positive, else 0. */
int64_t json_scan_positive(kvs_slice value);

#endif

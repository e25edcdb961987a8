/*
 * cli/client/encoding.h: any bytes written as text, and back: backslash escapes, base64, JSON.
 *
 * All append to a buf, whole or not at all. Return 0, KVS_ERR_NO_MEMORY, or for the readers
 * KVS_ERR_INVALID_ARGUMENT when the text is not of that form.
 */
#ifndef CLI_CLIENT_ENCODING_H
#define CLI_CLIENT_ENCODING_H

#include "base/buf.h"

/* Is it UTF-8 (RFC 3629: no overlong forms, no surrogates)? */
bool utf8_valid(kvs_slice bytes);

/* Escapes: \\ \n \r \t, and \xHH for other control bytes and what is not UTF-8; the rest as it is.
 * Reading also takes \0 and \" \'. */
int escape_append(struct buf *buf, kvs_slice bytes);
int unescape_append(struct buf *buf, kvs_slice text);

/* One word for the shell: as it is when plain, else in double quotes; never holds a blank. */
int shell_word_append(struct buf *buf, kvs_slice bytes);

/* Base64 with + and /, padded (RFC 4648, section 4). Reading is strict. */
int base64_append(struct buf *buf, kvs_slice bytes);
int base64_decode_append(struct buf *buf, kvs_slice text);

/* "name":"text", or "name64":"base64" when the bytes are not UTF-8. */
int json_field_append(struct buf *buf, const char *name, kvs_slice bytes);

#endif

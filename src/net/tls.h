/*
 * net/tls.h: TLS (OpenSSL) as a filter without I/O: sealed bytes and plain bytes in, plain bytes
 * and sealed bytes out. Both sides; HTTP/2 is agreed on by ALPN, and refused when it is not.
 *
 *   1. a tls_context holds the files of one side: authorities, own certificate, own key;
 *   2. tls_new makes one end of one connection; tls_receive (with no bytes, for a client) begins
 *      the handshake;
 *   3. bytes from the socket go through tls_receive, which appends what they contain to `plain`
 *      and what has to be answered to `sealed`;
 *   4. bytes to be sent go through tls_send, once tls_is_ready.
 *
 * Failures: PERMISSION when the peer's certificate is not to be trusted or ours is refused,
 * PROTOCOL when the bytes are no TLS or the peer knows no h2, CONNECTION_LOST when it ended the
 * session, NO_MEMORY; tls_error_text says which. TLS 1.2 and 1.3. Thread: contexts any, ends one.
 */
#ifndef NET_TLS_H
#define NET_TLS_H

#include "base/buf.h"

#include <stdbool.h>

struct tls_context;
struct tls;

/* Files in PEM. A client trusts what `ca` signed (NULL: what the system trusts) and shows
 * `certificate` when it is asked (NULL: none); a server shows `certificate` and, with `ca`, asks
 * clients for one that it signed. Returns 0, INVALID_ARGUMENT (a file that is not what it should
 * be, or one of the pair missing), NO_MEMORY; then ret_why (may be NULL) tells. */
int tls_context_new_client(const char *ca, const char *certificate, const char *key,
                           struct tls_context **ret_context, char ret_why[256]);
int tls_context_new_server(const char *ca, const char *certificate, const char *key,
                           struct tls_context **ret_context, char ret_why[256]);
/* No end made of it is left. NULL is fine. */
void tls_context_free(struct tls_context *context);

/* host: the name or address that the server's certificate must bear; NULL on a server. Returns 0 or
 * NO_MEMORY, INVALID_ARGUMENT. */
int tls_new(struct tls_context *context, const char *host, struct tls **ret_tls);
void tls_free(struct tls *tls);

int tls_receive(struct tls *tls, kvs_slice from_peer, struct buf *plain, struct buf *sealed);
/* The handshake is done: tls_send may be called. */
bool tls_is_ready(const struct tls *tls);
int tls_send(struct tls *tls, kvs_slice plain, struct buf *sealed);

/* Why it failed, for a person; "" when it did not. */
const char *tls_error_text(const struct tls *tls);

#endif

/*
 * net/tls.h: TLS (OpenSSL) as a filter without I/O: sealed bytes and plain bytes in, plain bytes
 * and sealed bytes out. Both sides; the protocol inside is agreed on by ALPN, and refused when it
 * is not the one the context is for.
 *
 *   1. a tls_context holds the files of one side: authorities, own certificate, own key;
 *   2. tls_new makes one end of one connection; tls_receive (with no bytes, for a client) begins
 *      the handshake;
 *   3. bytes from the socket go through tls_receive, which appends what they contain to `plain`
 *      and what has to be answered to `sealed`;
 *   4. bytes to be sent go through tls_send, once tls_is_ready; tls_end tells that there are no
 *      more.
 *
 * Failures: PERMISSION when the peer's certificate is not to be trusted or ours is refused,
 * PROTOCOL when the bytes are no TLS or the peer speaks another protocol, CONNECTION_LOST when it
 * ended the session (what came before is in `plain`), NO_MEMORY; tls_error_text says which.
 *
 * TLS 1.2 and 1.3, without renegotiation. A peer that has not finished its handshake may make us
 * hold one record of 16 KiB and a chain of certificates of at most 32 KiB; how long it may take is
 * the caller's to bound. Thread: contexts any, ends one.
 */
#ifndef NET_TLS_H
#define NET_TLS_H

#include "base/buf.h"

#include <stdbool.h>

struct tls_context;
struct tls;

/* What is spoken inside. */
enum tls_protocol {
    TLS_H2,    /* gRPC */
    TLS_HTTP,  /* on a server: http/1.1, or else h2; a peer that says nothing is taken as well */
    TLS_HTTP1, /* on a server: http/1.1, or nothing said */
    TLS_KVS,   /* the kvs protocol: "kvs" */
    TLS_PLAIN, /* what is agreed on elsewhere: ALPN is not used, and not looked at */
};

/* Files in PEM. A client trusts what `ca` signed (NULL: what the system trusts) and shows
 * `certificate` when it is asked (NULL: none); a server shows `certificate` and, with `ca`, asks
 * clients for one that it signed. Returns 0, INVALID_ARGUMENT (a file that is not what it should
 * be, or one of the pair missing), NO_MEMORY; then ret_why (may be NULL) tells. */
int tls_context_new_client(enum tls_protocol protocol, const char *ca, const char *certificate,
                           const char *key, struct tls_context **ret_context, char ret_why[256]);
int tls_context_new_server(enum tls_protocol protocol, const char *ca, const char *certificate,
                           const char *key, struct tls_context **ret_context, char ret_why[256]);
/* A client's: takes any certificate, of anybody: for tests. */
void tls_context_set_insecure(struct tls_context *context);
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
/* There are no more bytes to send; the peer may tell that from a connection that was cut. */
int tls_end(struct tls *tls, struct buf *sealed);

/* Why it failed, for a person; "" when it did not. */
const char *tls_error_text(const struct tls *tls);

#endif

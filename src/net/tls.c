/* net/tls.c: OpenSSL between two memory BIOs; see net/tls.h. */
#include "net/tls.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <kvs/error.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#define READ_SIZE (16u * 1024)

struct tls_context {
    SSL_CTX *ssl;
    bool is_server;
};

struct tls {
    SSL *ssl;
    BIO *in;  /* from the peer; ssl owns both */
    BIO *out; /* to the peer */
    bool ready;
    char why[200];
};

static const unsigned char h2[] = {2, 'h', '2'};

/* --- contexts -----------------------------------------------------------------------------------
 */

static const char *openssl_reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    return reason != NULL ? reason : "unknown failure";
}

static int fail_file(char why[256], const char *what, const char *path)
{
    if (why != NULL)
        snprintf(why, 256, "TLS: %s %.110s: %.60s", what, path, openssl_reason());
    ERR_clear_error();
    return KVS_ERR_INVALID_ARGUMENT;
}

static int load_files(SSL_CTX *ssl, const char *ca, const char *certificate, const char *key,
                      char why[256])
{
    if ((certificate == NULL) != (key == NULL)) {
        if (why != NULL)
            snprintf(why, 256, "TLS: a certificate needs its key, and a key its certificate");
        return KVS_ERR_INVALID_ARGUMENT;
    }
    if (ca != NULL && SSL_CTX_load_verify_file(ssl, ca) != 1)
        return fail_file(why, "certificates of authorities in", ca);
    if (certificate == NULL)
        return 0;
    if (SSL_CTX_use_certificate_chain_file(ssl, certificate) != 1)
        return fail_file(why, "certificate in", certificate);
    if (SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) != 1)
        return fail_file(why, "key in", key);
    if (SSL_CTX_check_private_key(ssl) != 1)
        return fail_file(why, "key that does not fit the certificate in", key);
    return 0;
}

/* A server takes h2 and nothing else. */
static int on_alpn(SSL *ssl, const unsigned char **ret_choice, unsigned char *ret_size,
                   const unsigned char *offered, unsigned offered_size, void *arg)
{
    (void)ssl;
    (void)arg;
    unsigned char *choice = NULL;
    int result = SSL_select_next_proto(&choice, ret_size, h2, sizeof h2, offered, offered_size);
    *ret_choice = choice;
    return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int context_new(bool is_server, const char *ca, const char *certificate, const char *key,
                       struct tls_context **ret_context, char ret_why[256])
{
    struct tls_context *context = mem_zalloc(sizeof *context);
    SSL_CTX *ssl = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    if (context == NULL || ssl == NULL) {
        mem_free(context);
        SSL_CTX_free(ssl);
        return KVS_ERR_NO_MEMORY;
    }
    *context = (struct tls_context){.ssl = ssl, .is_server = is_server};
    SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    int error = load_files(ssl, ca, certificate, key, ret_why);
    if (error == 0 && is_server) {
        SSL_CTX_set_alpn_select_cb(ssl, on_alpn, NULL);
        if (ca != NULL)
            SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    } else if (error == 0) {
        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
        bool ok = SSL_CTX_set_alpn_protos(ssl, h2, sizeof h2) == 0 &&
                  (ca != NULL || SSL_CTX_set_default_verify_paths(ssl) == 1);
        error = ok ? 0 : KVS_ERR_NO_MEMORY;
    }
    if (error != 0) {
        tls_context_free(context);
        return error;
    }
    *ret_context = context;
    return 0;
}

int tls_context_new_client(const char *ca, const char *certificate, const char *key,
                           struct tls_context **ret_context, char ret_why[256])
{
    return context_new(false, ca, certificate, key, ret_context, ret_why);
}

int tls_context_new_server(const char *ca, const char *certificate, const char *key,
                           struct tls_context **ret_context, char ret_why[256])
{
    if (certificate == NULL) {
        if (ret_why != NULL)
            snprintf(ret_why, 256, "TLS: a server needs a certificate and its key");
        return KVS_ERR_INVALID_ARGUMENT;
    }
    return context_new(true, ca, certificate, key, ret_context, ret_why);
}

void tls_context_free(struct tls_context *context)
{
    if (context == NULL)
        return;
    SSL_CTX_free(context->ssl);
    mem_free(context);
}

/* --- ends ---------------------------------------------------------------------------------------
 */

/* Addresses are looked for among the certificate's addresses, names among its names. */
static bool set_host(SSL *ssl, const char *host)
{
    uint8_t address[sizeof(struct in6_addr)];
    if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    return SSL_set_tlsext_host_name(ssl, host) == 1 && SSL_set1_host(ssl, host) == 1;
}

int tls_new(struct tls_context *context, const char *host, struct tls **ret_tls)
{
    struct tls *tls = mem_zalloc(sizeof *tls);
    SSL *ssl = SSL_new(context->ssl);
    BIO *in = BIO_new(BIO_s_mem());
    BIO *out = BIO_new(BIO_s_mem());
    if (tls == NULL || ssl == NULL || in == NULL || out == NULL) {
        BIO_free(in);
        BIO_free(out);
        SSL_free(ssl);
        mem_free(tls);
        return KVS_ERR_NO_MEMORY;
    }
    BIO_set_mem_eof_return(in, -1); /* empty is not the end */
    SSL_set_bio(ssl, in, out);
    *tls = (struct tls){.ssl = ssl, .in = in, .out = out};
    if (context->is_server)
        SSL_set_accept_state(ssl);
    else
        SSL_set_connect_state(ssl);
    if (!context->is_server && !set_host(ssl, host)) {
        tls_free(tls);
        return KVS_ERR_INVALID_ARGUMENT;
    }
    *ret_tls = tls;
    return 0;
}

void tls_free(struct tls *tls)
{
    if (tls == NULL)
        return;
    SSL_free(tls->ssl);
    mem_free(tls);
}

static int take_sealed(struct tls *tls, struct buf *sealed)
{
    char *data;
    long size = BIO_get_mem_data(tls->out, &data);
    if (size <= 0)
        return 0;
    int error = buf_append(sealed, data, (size_t)size);
    (void)BIO_reset(tls->out);
    return error;
}

/* What a call of OpenSSL that did not go on means. */
static int tls_failure(struct tls *tls, int result)
{
    int kind = SSL_get_error(tls->ssl, result);
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) {
        ERR_clear_error();
        return 0;
    }
    if (kind == SSL_ERROR_ZERO_RETURN) {
        snprintf(tls->why, sizeof tls->why, "the peer ended the TLS session");
        return KVS_ERR_CONNECTION_LOST;
    }
    long verified = SSL_get_verify_result(tls->ssl);
    const char *reason = openssl_reason();
    int error = KVS_ERR_PROTOCOL;
    if (verified != X509_V_OK) {
        error = KVS_ERR_PERMISSION;
        snprintf(tls->why, sizeof tls->why, "the peer's certificate is not to be trusted: %s",
                 X509_verify_cert_error_string(verified));
    } else {
        if (strstr(reason, "certificate") != NULL || strstr(reason, "unknown ca") != NULL)
            error = KVS_ERR_PERMISSION;
        snprintf(tls->why, sizeof tls->why, "TLS failed: %s", reason);
    }
    ERR_clear_error();
    return error;
}

static int tls_handshake(struct tls *tls)
{
    int result = SSL_do_handshake(tls->ssl);
    if (result != 1)
        return tls_failure(tls, result);
    const unsigned char *protocol;
    unsigned size;
    SSL_get0_alpn_selected(tls->ssl, &protocol, &size);
    if (size != 2 || memcmp(protocol, "h2", 2) != 0) {
        snprintf(tls->why, sizeof tls->why, "the peer does not speak HTTP/2 over TLS");
        return KVS_ERR_PROTOCOL;
    }
    tls->ready = true;
    return 0;
}

static int read_plain(struct tls *tls, struct buf *plain)
{
    for (;;) {
        int error = buf_reserve(plain, READ_SIZE);
        if (error != 0)
            return error;
        size_t count = 0;
        int result = SSL_read_ex(tls->ssl, plain->data + plain->size, READ_SIZE, &count);
        if (result != 1)
            return tls_failure(tls, result);
        plain->size += count;
    }
}

int tls_receive(struct tls *tls, kvs_slice from_peer, struct buf *plain, struct buf *sealed)
{
    size_t done = 0;
    do {
        /* In pieces, so that what waits inside OpenSSL stays small. */
        size_t size = from_peer.size - done < READ_SIZE ? from_peer.size - done : READ_SIZE;
        if (size > 0 && BIO_write(tls->in, from_peer.data + done, (int)size) != (int)size)
            return KVS_ERR_NO_MEMORY;
        done += size;
        int error = tls->ready ? 0 : tls_handshake(tls);
        if (error == 0 && tls->ready)
            error = read_plain(tls, plain);
        int taken = take_sealed(tls, sealed); /* an alert too */
        if (error == 0)
            error = taken;
        if (error != 0)
            return error;
    } while (done < from_peer.size);
    return 0;
}

bool tls_is_ready(const struct tls *tls)
{
    return tls->ready;
}

int tls_send(struct tls *tls, kvs_slice plain, struct buf *sealed)
{
    for (size_t done = 0; done < plain.size;) {
        size_t size = plain.size - done < READ_SIZE ? plain.size - done : READ_SIZE;
        size_t written = 0;
        int result = SSL_write_ex(tls->ssl, plain.data + done, size, &written);
        if (result != 1) {
            int error = tls_failure(tls, result);
            return error != 0 ? error : KVS_ERR_NO_MEMORY; /* memory BIOs never have to wait */
        }
        done += written;
    }
    return take_sealed(tls, sealed);
}

const char *tls_error_text(const struct tls *tls)
{
    return tls->why;
}

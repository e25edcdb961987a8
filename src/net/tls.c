/* net/tls.c: OpenSSL between two memory BIOs; see net/tls.h. */
#include "net/tls.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <kvs/error.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#define READ_SIZE (16u * 1024)
#define CERTIFICATES_SIZE_MAX (32 * 1024)

struct tls_context {
    SSL_CTX *ssl;
    enum tls_protocol protocol;
    bool is_server;
};

struct tls {
    const struct tls_context *context;
    SSL *ssl;
    BIO *in;  /* from the peer; ssl owns both */
    BIO *out; /* to the peer */
    bool ready;
    char why[200];
};

/* As ALPN has them on the wire: names with their sizes in front, what a server likes best first. Of
 * a peer that offers both, HTTP/1.1: it is no client of gRPC, and our HTTP/2 is for those alone. */
static const struct protocol {
    const char *alpn;
    const char *name; /* for a person */
    bool may_be_silent;
} protocols[] = {
    [TLS_H2] = {"\x02h2", "HTTP/2", false},
    [TLS_HTTP] = {"\x08http/1.1\x02h2", "HTTP", true},
    [TLS_HTTP1] = {"\x08http/1.1", "HTTP/1.1", true},
    [TLS_KVS] = {"\x03kvs", "the kvs protocol", false},
    [TLS_PLAIN] = {"", "anything", true},
};

/* --- contexts -----------------------------------------------------------------------------------
 */

static const char *openssl_reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    return reason != NULL ? reason : "unknown failure";
}

/* The first of several failures says most: the last one of a file is that of its reader. */
static const char *openssl_first_reason(void)
{
    unsigned long code = ERR_peek_error();
    if (ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE)
        return "it holds none in PEM";
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    return reason != NULL ? reason : "unknown failure";
}

static int fail_file(char why[256], const char *what, const char *path)
{
    if (why != NULL)
        snprintf(why, 256, "TLS: %s %.110s: %.60s", what, path, openssl_first_reason());
    ERR_clear_error();
    return KVS_ERR_INVALID_ARGUMENT;
}

/* The passphrase of a key: there is nobody to ask. */
static int on_passphrase(char *to, int size, int for_writing, void *arg)
{
    (void)to;
    (void)size;
    (void)for_writing;
    (void)arg;
    return -1;
}

/* OpenSSL's reason for a file that is not there says little. */
static int check_readable(const char *path, char why[256])
{
    FILE *file = path != NULL ? fopen(path, "re") : NULL;
    if (path != NULL && file == NULL) {
        if (why != NULL)
            snprintf(why, 256, "TLS: cannot read %.150s: %s", path, strerror(errno));
        return KVS_ERR_INVALID_ARGUMENT;
    }
    if (file != NULL)
        fclose(file);
    return 0;
}

static int load_files(SSL_CTX *ssl, const char *ca, const char *certificate, const char *key,
                      char why[256])
{
    if ((certificate == NULL) != (key == NULL)) {
        if (why != NULL)
            snprintf(why, 256, "TLS: a certificate needs its key, and a key its certificate");
        return KVS_ERR_INVALID_ARGUMENT;
    }
    if (check_readable(ca, why) != 0 || check_readable(certificate, why) != 0 ||
        check_readable(key, why) != 0)
        return KVS_ERR_INVALID_ARGUMENT;
    SSL_CTX_set_default_passwd_cb(ssl, on_passphrase);
    ERR_clear_error();
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

static kvs_slice alpn_of(const struct tls_context *context)
{
    return slice_of_string(protocols[context->protocol].alpn);
}

/* A server takes what its context is for, and nothing else. */
static int on_alpn(SSL *ssl, const unsigned char **ret_choice, unsigned char *ret_size,
                   const unsigned char *offered, unsigned offered_size, void *arg)
{
    (void)ssl;
    kvs_slice ours = alpn_of(arg);
    unsigned char *choice = NULL;
    if (ours.size == 0)
        return SSL_TLSEXT_ERR_NOACK;
    int result = SSL_select_next_proto(&choice, ret_size, ours.data, (unsigned)ours.size, offered,
                                       offered_size);
    *ret_choice = choice;
    return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int set_up_server(struct tls_context *context, bool asks_for_certificate)
{
    SSL_CTX_set_alpn_select_cb(context->ssl, on_alpn, context);
    SSL_CTX_set_max_cert_list(context->ssl, CERTIFICATES_SIZE_MAX);
    if (!asks_for_certificate)
        return 0;
    SSL_CTX_set_verify(context->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    /* Clients that come again with a ticket are known by the certificate of the first time. */
    static const unsigned char id[] = "kvs";
    return SSL_CTX_set_session_id_context(context->ssl, id, sizeof id - 1) == 1 ? 0
                                                                                : KVS_ERR_NO_MEMORY;
}

static int set_up_client(struct tls_context *context, bool trusts_system)
{
    kvs_slice ours = alpn_of(context);
    SSL_CTX_set_verify(context->ssl, SSL_VERIFY_PEER, NULL);
    bool ok = (ours.size == 0 ||
               SSL_CTX_set_alpn_protos(context->ssl, ours.data, (unsigned)ours.size) == 0) &&
              (!trusts_system || SSL_CTX_set_default_verify_paths(context->ssl) == 1);
    return ok ? 0 : KVS_ERR_NO_MEMORY;
}

static int context_new(bool is_server, enum tls_protocol protocol, const char *ca,
                       const char *certificate, const char *key, struct tls_context **ret_context,
                       char ret_why[256])
{
    struct tls_context *context = mem_zalloc(sizeof *context);
    SSL_CTX *ssl = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    if (context == NULL || ssl == NULL) {
        mem_free(context);
        SSL_CTX_free(ssl);
        return KVS_ERR_NO_MEMORY;
    }
    *context = (struct tls_context){.ssl = ssl, .is_server = is_server, .protocol = protocol};
    SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    int error = load_files(ssl, ca, certificate, key, ret_why);
    if (error == 0)
        error = is_server ? set_up_server(context, ca != NULL) : set_up_client(context, ca == NULL);
    if (error != 0) {
        tls_context_free(context);
        return error;
    }
    *ret_context = context;
    return 0;
}

int tls_context_new_client(enum tls_protocol protocol, const char *ca, const char *certificate,
                           const char *key, struct tls_context **ret_context, char ret_why[256])
{
    return context_new(false, protocol, ca, certificate, key, ret_context, ret_why);
}

int tls_context_new_server(enum tls_protocol protocol, const char *ca, const char *certificate,
                           const char *key, struct tls_context **ret_context, char ret_why[256])
{
    if (certificate == NULL) {
        if (ret_why != NULL)
            snprintf(ret_why, 256, "TLS: a server needs a certificate and its key");
        return KVS_ERR_INVALID_ARGUMENT;
    }
    return context_new(true, protocol, ca, certificate, key, ret_context, ret_why);
}

void tls_context_set_insecure(struct tls_context *context)
{
    SSL_CTX_set_verify(context->ssl, SSL_VERIFY_NONE, NULL);
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
    *tls = (struct tls){.context = context, .ssl = ssl, .in = in, .out = out};
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

/* The last failure: what came is not the begin of anything of TLS. */
static bool is_no_tls(void)
{
    int reason = ERR_GET_REASON(ERR_peek_last_error());
    return reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST ||
           reason == SSL_R_HTTPS_PROXY_REQUEST || reason == SSL_R_PACKET_LENGTH_TOO_LONG ||
           reason == SSL_R_UNKNOWN_PROTOCOL;
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
    if (verified != X509_V_OK && SSL_get_verify_mode(tls->ssl) != SSL_VERIFY_NONE) {
        error = KVS_ERR_PERMISSION;
        snprintf(tls->why, sizeof tls->why, "the peer's certificate is not to be trusted: %s",
                 X509_verify_cert_error_string(verified));
    } else {
        if (strstr(reason, "certificate") != NULL || strstr(reason, "unknown ca") != NULL)
            error = KVS_ERR_PERMISSION;
        snprintf(tls->why, sizeof tls->why, "%s: %s",
                 is_no_tls() ? "the peer does not speak TLS" : "TLS failed", reason);
    }
    ERR_clear_error();
    return error;
}

static int tls_handshake(struct tls *tls)
{
    int result = SSL_do_handshake(tls->ssl);
    if (result != 1)
        return tls_failure(tls, result);
    const struct protocol *protocol = &protocols[tls->context->protocol];
    const unsigned char *chosen;
    unsigned size;
    SSL_get0_alpn_selected(tls->ssl, &chosen, &size);
    bool silent_is_fine =
        protocol->may_be_silent && (tls->context->is_server || protocol->alpn[0] == '\0');
    if (size == 0 && !silent_is_fine) {
        snprintf(tls->why, sizeof tls->why, "the peer does not speak %s over TLS", protocol->name);
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

int tls_end(struct tls *tls, struct buf *sealed)
{
    if (SSL_shutdown(tls->ssl) < 0)
        ERR_clear_error(); /* nothing can be told any more */
    return take_sealed(tls, sealed);
}

const char *tls_error_text(const struct tls *tls)
{
    return tls->why;
}

/* TLS between two ends in memory: handshake, both directions, mutual trust, and what is refused. */
#include "net/tls.h"

#include "base/slice.h"

#include <kvs/error.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "test.h"

static char directory[64];
static char path_text[4][96];

static const char *path(const char *name)
{
    static unsigned next;
    char *text = path_text[next++ % 4];
    snprintf(text, sizeof path_text[0], "%s/%s", directory, name);
    return text;
}

static void add_extension(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    assert_non_null(extension);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

/* A self-signed certificate NAME.pem for localhost and 127.0.0.1, which is its own authority, and
 * its key NAME.key. */
static void make_certificate(const char *name)
{
    char file[32];
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME *subject = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(certificate, subject);
    add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(certificate, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    snprintf(file, sizeof file, "%s.pem", name);
    FILE *out = fopen(path(file), "w");
    PEM_write_X509(out, certificate);
    fclose(out);
    snprintf(file, sizeof file, "%s.key", name);
    out = fopen(path(file), "w");
    PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
    fclose(out);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/kvs-test-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    make_certificate("server");
    make_certificate("client");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const files[] = {"server.pem", "server.key", "client.pem", "client.key"};
    for (unsigned i = 0; i < 4; i++)
        unlink(path(files[i]));
    return rmdir(directory);
}

struct pair {
    struct tls_context *contexts[2]; /* client, server */
    struct tls *ends[2];
    struct buf sealed[2]; /* on its way from each */
    struct buf plain[2];  /* come out of each */
    int errors[2];
};

static void pair_open(struct pair *pair, bool mutual, const char *host, const char *client_trusts)
{
    *pair = (struct pair){0};
    assert_int_equal(tls_context_new_server(mutual ? path("client.pem") : NULL, path("server.pem"),
                                            path("server.key"), &pair->contexts[1], NULL),
                     0);
    assert_int_equal(tls_context_new_client(path(client_trusts), mutual ? path("client.pem") : NULL,
                                            mutual ? path("client.key") : NULL, &pair->contexts[0],
                                            NULL),
                     0);
    assert_int_equal(tls_new(pair->contexts[0], host, &pair->ends[0]), 0);
    assert_int_equal(tls_new(pair->contexts[1], NULL, &pair->ends[1]), 0);
    pair->errors[0] =
        tls_receive(pair->ends[0], slice_make(NULL, 0), &pair->plain[0], &pair->sealed[0]);
}

/* Carries bytes, `step` at a time, until none are left. */
static void pair_run(struct pair *pair, size_t step)
{
    while (pair->sealed[0].size + pair->sealed[1].size > 0) {
        for (unsigned from = 0; from < 2; from++) {
            unsigned to = 1 - from;
            struct buf *out = &pair->sealed[from];
            size_t size = out->size < step ? out->size : step;
            if (pair->errors[to] == 0 && size > 0)
                pair->errors[to] = tls_receive(pair->ends[to], slice_make(out->data, size),
                                               &pair->plain[to], &pair->sealed[to]);
            buf_consume(out, size);
        }
    }
}

static void pair_close(struct pair *pair)
{
    for (unsigned i = 0; i < 2; i++) {
        tls_free(pair->ends[i]);
        tls_context_free(pair->contexts[i]);
        buf_deinit(&pair->sealed[i]);
        buf_deinit(&pair->plain[i]);
    }
}

static void exchange(bool mutual, const char *host, size_t step)
{
    struct pair pair;
    static uint8_t bytes[100000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7);
    pair_open(&pair, mutual, host, "server.pem");
    pair_run(&pair, step);
    for (unsigned from = 0; from < 2; from++) {
        assert_int_equal(pair.errors[from], 0);
        assert_true(tls_is_ready(pair.ends[from]));
        assert_int_equal(
            tls_send(pair.ends[from], slice_make(bytes, sizeof bytes), &pair.sealed[from]), 0);
    }
    pair_run(&pair, step);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pair.plain[i].size, sizeof bytes);
        assert_memory_equal(pair.plain[i].data, bytes, sizeof bytes);
    }
    pair_close(&pair);
}

static void test_exchange(void **state)
{
    (void)state;
    exchange(false, "localhost", SIZE_MAX);
    exchange(false, "127.0.0.1", 1);
    exchange(true, "localhost", 777);
}

static void refuse(bool mutual, const char *host, const char *trusts, const char *said)
{
    struct pair pair;
    pair_open(&pair, mutual, host, trusts);
    pair_run(&pair, SIZE_MAX);
    assert_int_equal(pair.errors[0], KVS_ERR_PERMISSION);
    assert_non_null(strstr(tls_error_text(pair.ends[0]), said));
    assert_false(tls_is_ready(pair.ends[0]));
    pair_close(&pair);
}

static void test_no_trust(void **state)
{
    (void)state;
    refuse(false, "localhost", "client.pem", "not to be trusted");
    refuse(false, "elsewhere", "server.pem", "not to be trusted");
    refuse(false, "127.0.0.2", "server.pem", "not to be trusted");
}

/* A server that asks for a certificate, and a client that has none. */
static void test_client_without_certificate(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, true, "localhost", "server.pem");
    tls_free(pair.ends[0]);
    tls_context_free(pair.contexts[0]);
    buf_clear(&pair.sealed[0]);
    assert_int_equal(
        tls_context_new_client(path("server.pem"), NULL, NULL, &pair.contexts[0], NULL), 0);
    assert_int_equal(tls_new(pair.contexts[0], "localhost", &pair.ends[0]), 0);
    tls_receive(pair.ends[0], slice_make(NULL, 0), &pair.plain[0], &pair.sealed[0]);
    pair_run(&pair, SIZE_MAX);
    assert_int_equal(pair.errors[1], KVS_ERR_PERMISSION);
    assert_int_equal(pair.errors[0], KVS_ERR_PERMISSION);
    pair_close(&pair);
}

static void test_garbage(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, false, "localhost", "server.pem");
    static const char text[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    assert_int_equal(tls_receive(pair.ends[0], slice_make(text, sizeof text - 1), &pair.plain[0],
                                 &pair.sealed[0]),
                     KVS_ERR_PROTOCOL);
    assert_true(tls_error_text(pair.ends[0])[0] != '\0');
    pair_close(&pair);
}

static void test_files(void **state)
{
    (void)state;
    struct tls_context *context;
    char why[256];
    assert_int_equal(tls_context_new_client("/nowhere/ca.pem", NULL, NULL, &context, why),
                     KVS_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(why, "/nowhere/ca.pem"));
    assert_int_equal(tls_context_new_client(NULL, path("client.pem"), NULL, &context, why),
                     KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(
        tls_context_new_client(NULL, path("client.pem"), path("server.key"), &context, why),
        KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(tls_context_new_server(NULL, NULL, NULL, &context, why),
                     KVS_ERR_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exchange),
        cmocka_unit_test(test_no_trust),
        cmocka_unit_test(test_client_without_certificate),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

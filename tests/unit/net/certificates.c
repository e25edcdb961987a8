/* See certificates.h. */
#include "unit/net/certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test.h"

#define DAY 86400L
#define PATHS 8u

static char directory[64];

static const struct made {
    const char *name;
    const char *issuer; /* NULL: itself */
    long begin, end;    /* seconds from now */
} all[] = {
    {"ca", NULL, -DAY, DAY},       {"server", "ca", -DAY, DAY},
    {"client", "ca", -DAY, DAY},   {"expired", "ca", -10 * DAY, -DAY},
    {"stranger", NULL, -DAY, DAY},
};
#define COUNT (sizeof all / sizeof all[0])

static EVP_PKEY *keys[COUNT];
static X509 *certificates[COUNT];

const char *certificate_path(const char *file)
{
    static char texts[PATHS][CERTIFICATE_PATH_SIZE];
    static unsigned next;
    char *text = texts[next++ % PATHS];
    snprintf(text, sizeof texts[0], "%s/%s", directory, file);
    return text;
}

static const char *path_of(const char *name, const char *ending)
{
    char file[32];
    snprintf(file, sizeof file, "%s.%s", name, ending);
    return certificate_path(file);
}

static void add_extension(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static void fill(X509 *certificate, const struct made *made, size_t number)
{
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), (long)number + 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), made->begin);
    X509_gmtime_adj(X509_getm_notAfter(certificate), made->end);
    X509_NAME *subject = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)made->name, -1,
                               -1, 0);
    if (made->issuer == NULL)
        add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(certificate, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
}

static void make(size_t number)
{
    const struct made *made = &all[number];
    EVP_PKEY *key = keys[number] = EVP_EC_gen("P-256");
    X509 *certificate = certificates[number] = X509_new();
    size_t issuer = number;
    for (size_t i = 0; i < number && made->issuer != NULL; i++)
        issuer = strcmp(all[i].name, made->issuer) == 0 ? i : issuer;
    fill(certificate, made, number);
    X509_set_pubkey(certificate, key);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificates[issuer]));
    assert_true(X509_sign(certificate, keys[issuer], EVP_sha256()) > 0);
    FILE *out = fopen(path_of(made->name, "pem"), "we");
    assert_non_null(out);
    PEM_write_X509(out, certificate);
    fclose(out);
    out = fopen(path_of(made->name, "key"), "we");
    assert_non_null(out);
    PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
    fclose(out);
}

void certificates_make(void)
{
    snprintf(directory, sizeof directory, "/tmp/kvs-test-XXXXXX");
    assert_non_null(mkdtemp(directory));
    for (size_t i = 0; i < COUNT; i++)
        make(i);
}

void certificates_remove(void)
{
    for (size_t i = 0; i < COUNT; i++) {
        unlink(path_of(all[i].name, "pem"));
        unlink(path_of(all[i].name, "key"));
        EVP_PKEY_free(keys[i]);
        X509_free(certificates[i]);
    }
    rmdir(directory);
}

/* TLS between two ends in memory: handshake, both directions, mutual trust, and what is refused. */
#include "net/tls.h"

#include "base/slice.h"
#include "unit/net/certificates.h"

#include <kvs/error.h>
#include <stdio.h>

#include "test.h"

static int set_up(void **state)
{
    (void)state;
    certificates_make();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    certificates_remove();
    return 0;
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
    assert_int_equal(tls_context_new_server(TLS_H2, mutual ? certificate_path("ca.pem") : NULL,
                                            certificate_path("server.pem"),
                                            certificate_path("server.key"), &pair->contexts[1],
                                            NULL),
                     0);
    assert_int_equal(tls_context_new_client(TLS_H2, certificate_path(client_trusts),
                                            mutual ? certificate_path("client.pem") : NULL,
                                            mutual ? certificate_path("client.key") : NULL,
                                            &pair->contexts[0], NULL),
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
    pair_open(&pair, mutual, host, "ca.pem");
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
    refuse(false, "localhost", "stranger.pem", "not to be trusted");
    refuse(false, "elsewhere", "ca.pem", "not to be trusted");
    refuse(false, "127.0.0.2", "ca.pem", "not to be trusted");
}

/* A server that asks for a certificate, and a client that has none. */
static void test_client_without_certificate(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, true, "localhost", "ca.pem");
    tls_free(pair.ends[0]);
    tls_context_free(pair.contexts[0]);
    buf_clear(&pair.sealed[0]);
    assert_int_equal(tls_context_new_client(TLS_H2, certificate_path("ca.pem"), NULL, NULL,
                                            &pair.contexts[0], NULL),
                     0);
    assert_int_equal(tls_new(pair.contexts[0], "localhost", &pair.ends[0]), 0);
    tls_receive(pair.ends[0], slice_make(NULL, 0), &pair.plain[0], &pair.sealed[0]);
    pair_run(&pair, SIZE_MAX);
    assert_int_equal(pair.errors[1], KVS_ERR_PERMISSION);
    assert_int_equal(pair.errors[0], KVS_ERR_PERMISSION);
    pair_close(&pair);
}

/* The server wants a certificate: that is why, not what the client was told to overlook.
 */
static void test_insecure_client_without_certificate(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, true, "localhost", "ca.pem");
    tls_free(pair.ends[0]);
    tls_context_free(pair.contexts[0]);
    buf_clear(&pair.sealed[0]);
    assert_int_equal(tls_context_new_client(TLS_H2, certificate_path("stranger.pem"), NULL, NULL,
                                            &pair.contexts[0], NULL),
                     0);
    tls_context_set_insecure(pair.contexts[0]);
    assert_int_equal(tls_new(pair.contexts[0], "elsewhere", &pair.ends[0]), 0);
    tls_receive(pair.ends[0], slice_make(NULL, 0), &pair.plain[0], &pair.sealed[0]);
    pair_run(&pair, SIZE_MAX);
    assert_int_equal(pair.errors[0], KVS_ERR_PERMISSION);
    const char *said = tls_error_text(pair.ends[0]);
    if (strstr(said, "certificate required") == NULL || strstr(said, "trusted") != NULL)
        fail_msg("%s", said);
    pair_close(&pair);
}

static void test_garbage(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, false, "localhost", "ca.pem");
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
    assert_int_equal(tls_context_new_client(TLS_H2, "/nowhere/ca.pem", NULL, NULL, &context, why),
                     KVS_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(why, "/nowhere/ca.pem"));
    assert_int_equal(
        tls_context_new_client(TLS_H2, NULL, certificate_path("client.pem"), NULL, &context, why),
        KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(tls_context_new_client(TLS_H2, NULL, certificate_path("client.pem"),
                                            certificate_path("server.key"), &context, why),
                     KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(tls_context_new_server(TLS_H2, NULL, NULL, NULL, &context, why),
                     KVS_ERR_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exchange),
        cmocka_unit_test(test_no_trust),
        cmocka_unit_test(test_client_without_certificate),
        cmocka_unit_test(test_insecure_client_without_certificate),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

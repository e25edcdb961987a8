/* proto/foreign.h: which protocol first bytes are of, and the answers. */
#include "proto/foreign.h"

#include "proto/eventstore/commands.h"
#include "proto/eventstore/frame.h"
#include "proto/kvs/wire.h"

#include <stdlib.h>

#include "test.h"

static enum foreign recognise(const void *bytes, size_t size)
{
    /* A copy of its own size, so that a look beyond the end shows. */
    uint8_t *copy = malloc(size > 0 ? size : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    enum foreign foreign = foreign_recognise(slice_make(copy, size));
    free(copy);
    return foreign;
}

/* Neither a begin that is too short nor one that goes another way is taken for it. */
static void expect(const void *bytes, size_t size, size_t enough, enum foreign foreign)
{
    uint8_t other[64];
    assert_true(size <= sizeof other);
    for (size_t i = 0; i < enough; i++)
        assert_int_equal(recognise(bytes, i), FOREIGN_UNKNOWN);
    for (size_t i = enough; i <= size; i++)
        assert_int_equal(recognise(bytes, i), foreign);
    memcpy(other, bytes, size);
    other[1] ^= 0x80;
    assert_int_equal(recognise(other, size), FOREIGN_UNKNOWN);
}

static void test_recognises(void **state)
{
    (void)state;
    static const uint8_t tls[] = {0x16, 3, 1, 0, 0xf4, 1, 0, 0, 0xf0, 3, 3};
    expect(tls, sizeof tls, 10, FOREIGN_TLS);
    expect("GET / HTTP/1.1\r\n", 16, 4, FOREIGN_HTTP);
    expect("OPTIONS * HTTP/1.1\r\n", 20, 8, FOREIGN_HTTP);
    expect("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24, 12, FOREIGN_HTTP2);
    expect("*1\r\n$4\r\nPING\r\n", 14, 4, FOREIGN_REDIS);
    struct buf out = BUF_INIT;
    const struct wire_client_hello hello = {.version_min = 1, .version_max = 1};
    assert_int_equal(wire_client_hello_encode(&hello, &out), 0);
    expect(out.data, out.size, 4, FOREIGN_KVS);
    buf_clear(&out);
    const struct es_id id = {"an id"};
    assert_int_equal(es_frame_append(&out, ES_HEARTBEAT_REQUEST, &id, NULL, slice_make(NULL, 0)),
                     0);
    expect(out.data, out.size, 6, FOREIGN_EVENTSTORE);
    buf_deinit(&out);
}

/* Packages of EventStoreDB whose lengths look like the begin of something else. */
static void test_tells_others_from_a_length(void **state)
{
    (void)state;
    static const uint8_t as_tls[] = {0x16, 3, 1, 0, ES_WRITE_EVENTS, 1, 1, 2, 3, 4, 5, 6};
    static const uint8_t short_as_tls[] = {0x16, 3, 0, 0, ES_WRITE_EVENTS, 1, 0, 2, 3, 3, 5, 6};
    static const uint8_t as_redis[] = {'*', '1', 0, 0, ES_WRITE_EVENTS, 0, 1, 2, 3, 4, 5, 6};
    assert_int_equal(recognise(as_tls, sizeof as_tls), FOREIGN_UNKNOWN);
    assert_int_equal(recognise(short_as_tls, sizeof short_as_tls), FOREIGN_UNKNOWN);
    assert_int_equal(recognise(as_redis, sizeof as_redis), FOREIGN_UNKNOWN);
}

static void test_answers(void **state)
{
    (void)state;
    struct buf out = BUF_INIT;
    assert_int_equal(foreign_answer(FOREIGN_HTTP, "tea", &out), 0);
    static const char http[] = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
                               "Content-Length: 45\r\nConnection: close\r\n\r\n"
                               "this port of kvs-server speaks tea, not HTTP\n";
    assert_int_equal(out.size, sizeof http - 1);
    assert_memory_equal(out.data, http, out.size);
    buf_clear(&out);
    assert_int_equal(foreign_answer(FOREIGN_REDIS, "tea", &out), 0);
    assert_memory_equal(out.data, "-ERR this port", 14);
    assert_memory_equal(out.data + out.size - 2, "\r\n", 2);
    buf_clear(&out);

    assert_int_equal(foreign_answer(FOREIGN_HTTP2, "tea", &out), 0);
    static const uint8_t settings[] = {0, 0, 0, 4, 0, 0, 0, 0, 0};
    assert_memory_equal(out.data, settings, sizeof settings);
    const uint8_t *goaway = out.data + sizeof settings;
    assert_int_equal(goaway[3], 7);
    assert_int_equal((size_t)goaway[1] << 8 | goaway[2], out.size - sizeof settings - 9);
    assert_memory_equal(goaway + 17, "this port", 9);
    buf_clear(&out);

    assert_int_equal(foreign_answer(FOREIGN_EVENTSTORE, "tea", &out), 0);
    struct es_frame frame;
    size_t size;
    const char *why;
    assert_int_equal(es_frame_decode(buf_slice(&out), ES_FRAME_LENGTH_MAX, &frame, &size, &why), 0);
    assert_int_equal(frame.command, ES_BAD_REQUEST);
    assert_memory_equal(frame.body.data, "this port", 9);
    buf_clear(&out);

    assert_int_equal(foreign_answer(FOREIGN_TLS, "tea", &out), 0);
    assert_int_equal(out.data[out.size - 1], '\n');
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recognises),
        cmocka_unit_test(test_tells_others_from_a_length),
        cmocka_unit_test(test_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

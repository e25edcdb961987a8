/* cli/bench/target*.c: addresses, requests as bytes, replies at every split, and garbage. */
#include "cli/bench/target.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/rand.h"
#include "proto/kvs/wire.h"

#include <kvs/error.h>
#include <stdio.h>

#include "test.h"

enum { SEED = 11, REPLIES_MAX = 32, GARBAGE_ROUNDS = 20000 };

static const struct target_methods *const kinds[] = {&target_redis, &target_kvs};

static void target_make(struct target *target, const struct target_methods *methods,
                        size_t key_size, size_t value_size)
{
    *target = (struct target){.methods = methods};
    assert_true(target_prepare(target, key_size, value_size));
}

/* --- addresses ---- */

static void test_addresses(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "redis",
                                      "redis://",
                                      "redis://[]",
                                      "redis://:6379",
                                      "redis://127.0.0.1:",
                                      "redis://127.0.0.1:63x79",
                                      "redis://127.0.0.1:6379/0",
                                      "redis://127.0.0.1:123456789",
                                      "redis://127.0.0.1:0",
                                      "redis://127.0.0.1:65536",
                                      "http://127.0.0.1:80"};
    struct target target;
    char text[TARGET_TEXT_MAX];
    assert_int_equal(target_open(&target, "redis://127.0.0.1:6379", NULL, text), 0);
    assert_ptr_equal(target.methods, &target_redis);
    assert_string_equal(target.host, "127.0.0.1");
    assert_string_equal(target.port, "6379");
    assert_int_equal(target_open(&target, "redis://127.0.0.1", NULL, text), 0);
    assert_string_equal(target.port, "6379");
    assert_int_equal(target_open(&target, "kvs://[::1]", NULL, text), 0);
    assert_string_equal(target.host, "::1");
    assert_string_equal(target.port, "4000");
    assert_int_equal(target_open(&target, "kvs://[::1]:4001/", NULL, text), 0);
    assert_string_equal(target.port, "4001");
    assert_ptr_equal(target.methods, &target_kvs);
    assert_string_equal(target.host, "::1");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        text[0] = '\0';
        assert_int_equal(target_open(&target, bad[i], NULL, text), KVS_ERR_ADDRESS);
        assert_true(strlen(text) > 0);
    }
}

/* --- requests ---- */

static void check_request(const struct target_methods *methods, enum operation operation,
                          const void *want, size_t want_size)
{
    struct target target;
    uint8_t out[256];
    target_make(&target, methods, 5, 3);
    assert_true(target.request_size_max <= sizeof out);
    size_t size = methods->encode(&target, out, operation, 7, (const uint8_t *)"hello",
                                  (const uint8_t *)"vvv");
    assert_int_equal(size, want_size);
    assert_true(size <= target.request_size_max);
    assert_memory_equal(out, want, size);
}

#define CHECK_REQUEST(methods, operation, bytes) \
    check_request(methods, operation, bytes, sizeof(bytes) - 1)

static void test_requests_as_bytes(void **state)
{
    (void)state;
    CHECK_REQUEST(&target_redis, OPERATION_GET, "*2\r\n$3\r\nGET\r\n$5\r\nhello\r\n");
    CHECK_REQUEST(&target_redis, OPERATION_SET, "*3\r\n$3\r\nSET\r\n$5\r\nhello\r\n$3\r\nvvv\r\n");
    CHECK_REQUEST(&target_kvs, OPERATION_GET,
                  "\5\0\0\0\7\0\0\0\1\0\0\0\0\0\0\0"
                  "hello");
    CHECK_REQUEST(&target_kvs, OPERATION_SET,
                  "\14\0\0\0\7\0\0\0\3\0\0\0\0\0\0\0\5\0\0\0"
                  "hellovvv");
}

/* What the generator writes by hand is what the server's decoder reads. */
static void check_kvs_request(enum operation operation, size_t key_size, size_t value_size)
{
    static const struct wire_limits limits = {8192, 1 << 20, 2 << 20, 1, 1, 1, 1, 1 << 20};
    static uint8_t key[8192], value[8192], out[32768];
    struct target target;
    struct wire_frame frame;
    struct wire_scratch scratch = {0};
    kvs_op op = KVS_OP_INIT;
    const char *why = NULL;
    memset(key, 'k', sizeof key);
    memset(value, 'v', sizeof value);
    target_make(&target, &target_kvs, key_size, value_size);
    size_t size = target_kvs.encode(&target, out, operation, 99, key, value);
    assert_int_equal(wire_frame_decode(slice_make(out, size), 1 << 20, &frame), 0);
    assert_int_equal(WIRE_HEADER_SIZE + frame.body.size, size);
    assert_int_equal(frame.id, 99);
    assert_int_equal(wire_request_decode(&frame, &limits, &op, &scratch, NULL, &why), 0);
    assert_int_equal(op.kind, operation == OPERATION_SET ? KVS_OP_SET : KVS_OP_GET);
    assert_true(slice_equal(op.key, slice_make(key, key_size)));
    if (operation == OPERATION_SET)
        assert_true(slice_equal(op.value, slice_make(value, value_size)));
    wire_scratch_deinit(&scratch);
}

static void test_kvs_requests_are_read_by_the_codec(void **state)
{
    (void)state;
    for (int operation = 0; operation < OPERATION_COUNT; operation++) {
        check_kvs_request((enum operation)operation, 1, 0);
        check_kvs_request((enum operation)operation, 16, 100);
        check_kvs_request((enum operation)operation, 8192, 8192);
    }
}

/* --- replies ---- */

struct seen {
    struct reply replies[REPLIES_MAX];
    char texts[REPLIES_MAX][32];
    size_t count;
    int error;
};

static void note(struct seen *seen, const struct reply *replies, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_true(seen->count < REPLIES_MAX);
        seen->replies[seen->count] = replies[i];
        snprintf(seen->texts[seen->count], sizeof seen->texts[0], "%.*s", (int)replies[i].text_size,
                 replies[i].text != NULL ? (char *)replies[i].text : "");
        seen->count++;
    }
}

/* As the worker does: what was left over comes again, in front of the next part. The parts lie in
 * blocks of exactly their size, so that a sanitizer sees a read behind them. */
static void feed(const struct target *target, struct parser *parser, kvs_slice part,
                 struct buf *carry, struct seen *seen, size_t replies_max)
{
    assert_int_equal(buf_append_slice(carry, part), 0);
    size_t size = carry->size, at = 0, count, used;
    uint8_t *bytes = mem_copy(carry->data, size);
    assert_non_null(bytes);
    do {
        struct reply replies[REPLIES_MAX];
        seen->error = target->methods->parse(target, parser, bytes + at, size - at, replies,
                                             replies_max, &count, &used);
        assert_true(used <= size - at);
        assert_true(count <= replies_max);
        at += used;
        note(seen, replies, count);
    } while (seen->error == 0 && count == replies_max);
    mem_free(bytes);
    buf_consume(carry, at);
    if (seen->error == 0)
        assert_true(carry->size <= TARGET_CARRY_MAX);
}

static void check_same(const struct seen *a, const struct seen *b)
{
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->error, b->error);
    for (size_t i = 0; i < a->count; i++) {
        assert_int_equal(a->replies[i].id, b->replies[i].id);
        assert_int_equal(a->replies[i].outcome, b->replies[i].outcome);
        assert_string_equal(a->texts[i], b->texts[i]);
    }
}

/* Cut at every two places, and byte by byte: always the same replies. */
static void check_splits(const struct target *target, kvs_slice all, const struct seen *want)
{
    for (size_t first = 0; first <= all.size; first++) {
        for (size_t second = first; second <= all.size; second++) {
            struct parser parser = {0};
            struct buf carry = BUF_INIT;
            struct seen seen = {.count = 0};
            size_t cuts[] = {0, first, second, all.size};
            for (int i = 0; i < 3 && seen.error == 0; i++)
                feed(target, &parser, slice_make(all.data + cuts[i], cuts[i + 1] - cuts[i]), &carry,
                     &seen, 1 + (first + second) % 3);
            buf_deinit(&carry);
            check_same(&seen, want);
        }
    }
    struct parser parser = {0};
    struct buf carry = BUF_INIT;
    struct seen seen = {.count = 0};
    for (size_t i = 0; i < all.size && seen.error == 0; i++)
        feed(target, &parser, slice_make(all.data + i, 1), &carry, &seen, REPLIES_MAX);
    buf_deinit(&carry);
    check_same(&seen, want);
}

static void test_redis_replies_at_every_split(void **state)
{
    (void)state;
    static const char bytes[] = "+OK\r\n$-1\r\n$5\r\nworld\r\n$0\r\n\r\n-ERR so what\r\n:17\r\n"
                                "$4\r\n\r\n\r\n\r\n+\r\n";
    static const struct seen want = {
        .count = 8,
        .replies = {[1].outcome = OUTCOME_MISS, [4].outcome = OUTCOME_ERROR},
        .texts = {[4] = "ERR so what"},
    };
    struct target target;
    target_make(&target, &target_redis, 5, 3);
    check_splits(&target, slice_make(bytes, sizeof bytes - 1), &want);
}

static void test_kvs_replies_at_every_split(void **state)
{
    (void)state;
    static const char bytes[] = "\0\0\0\0\1\0\0\0\3\0\0\0\0\0\0\0"          /* set */
                                "\5\0\0\0\7\0\0\0\1\0\0\0\0\0\0\0world"     /* get */
                                "\0\0\0\0\10\0\0\0\1\0\377\377\0\0\0\0"     /* get, missing */
                                "\0\0\0\0\0\0\0\0\42\0\0\0\0\0\0\0"         /* GOAWAY */
                                "\4\0\0\0\2\0\0\0\3\0\361\377\0\0\0\0disk"; /* a failure */
    static const struct seen want = {
        .count = 4,
        .replies = {{.id = 1},
                    {.id = 7},
                    {.id = 8, .outcome = OUTCOME_MISS},
                    {.id = 2, .outcome = OUTCOME_ERROR}},
        .texts = {[3] = "STORAGE_FAILED"},
    };
    struct target target;
    target_make(&target, &target_kvs, 5, 3);
    check_splits(&target, slice_make(bytes, sizeof bytes - 1), &want);
}

static void check_refused(const struct target_methods *methods, const void *bytes, size_t size,
                          size_t replies)
{
    struct target target;
    struct parser parser = {0};
    struct buf carry = BUF_INIT;
    struct seen seen = {.count = 0};
    target_make(&target, methods, 5, 3);
    feed(&target, &parser, slice_make(bytes, size), &carry, &seen, REPLIES_MAX);
    buf_deinit(&carry);
    assert_int_equal(seen.error, KVS_ERR_PROTOCOL);
    assert_int_equal(seen.count, replies);
}

#define CHECK_REFUSED(methods, bytes, replies) \
    check_refused(methods, bytes, sizeof(bytes) - 1, replies)

static void test_broken_replies_are_refused(void **state)
{
    (void)state;
    CHECK_REFUSED(&target_redis, "\r\n", 0);
    CHECK_REFUSED(&target_redis, "\n", 0);
    CHECK_REFUSED(&target_redis, "+OK\n", 0);
    CHECK_REFUSED(&target_redis, "+OK\r\n*1\r\n", 1);
    CHECK_REFUSED(&target_redis, "$\r\n", 0);
    CHECK_REFUSED(&target_redis, "$-2\r\n", 0);
    CHECK_REFUSED(&target_redis, "$-\r\n", 0);
    CHECK_REFUSED(&target_redis, "$1x\r\n", 0);
    CHECK_REFUSED(&target_redis, "$999999999\r\n", 0);
    CHECK_REFUSED(&target_redis, "$18446744073709551615\r\n", 0);
    CHECK_REFUSED(&target_redis, "$1\r\nabc", 0);
    CHECK_REFUSED(&target_redis, "$1\r\na\rb", 0);
    CHECK_REFUSED(&target_redis, "HTTP/1.1 400 Bad Request\r\n", 0);
    CHECK_REFUSED(&target_kvs, "\1\0\0\100\0\0\0\0\1\0\0\0\0\0\0\0", 0);
    CHECK_REFUSED(&target_kvs, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 0);
}

static void test_a_line_without_end_is_refused(void **state)
{
    (void)state;
    char line[TARGET_CARRY_MAX];
    memset(line, 'x', sizeof line);
    line[0] = '-';
    check_refused(&target_redis, line, sizeof line, 0);
}

/* Any bytes: no crash, no read outside, and never more kept than promised (feed looks at that). */
static void test_garbage(void **state)
{
    (void)state;
    static const char likely[] = "$-+:*0123456789\r\n\r\n\r\n\0\0\0\0\1\3";
    struct rand rand = rand_seed(SEED);
    print_message("# seed %d\n", SEED);
    for (int round = 0; round < GARBAGE_ROUNDS; round++) {
        struct target target;
        struct parser parser = {0};
        struct buf carry = BUF_INIT;
        struct seen seen = {.count = 0};
        target_make(&target, kinds[round % 2], 5, 3);
        for (int part = 0; part < 4 && seen.error == 0; part++) {
            uint8_t bytes[24];
            size_t size = rand_below(&rand, sizeof bytes + 1);
            for (size_t i = 0; i < size; i++)
                bytes[i] = rand_below(&rand, 8) == 0
                               ? (uint8_t)rand_u64(&rand)
                               : (uint8_t)likely[rand_below(&rand, sizeof likely)];
            feed(&target, &parser, slice_make(bytes, size), &carry, &seen, REPLIES_MAX);
        }
        buf_deinit(&carry);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_requests_as_bytes),
        cmocka_unit_test(test_kvs_requests_are_read_by_the_codec),
        cmocka_unit_test(test_redis_replies_at_every_split),
        cmocka_unit_test(test_kvs_replies_at_every_split),
        cmocka_unit_test(test_broken_replies_are_refused),
        cmocka_unit_test(test_a_line_without_end_is_refused),
        cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

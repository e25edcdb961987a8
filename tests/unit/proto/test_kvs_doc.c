/*
 * The examples of docs/protocol/kvs.md against the codec, both ways: every block marked `frame`
 * must be known here, encode to exactly its bytes, and decode to what was encoded.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "proto/kvs/client_session.h"
#include "proto/kvs/server_session.h"

#include <stdio.h>
#include <stdlib.h>

#include "test.h"

static const struct wire_limits limits = {
    .key_size_max = 8192,
    .value_size_max = 16 * 1024 * 1024,
    .body_size_max = 0x02002040,
    .batch_count_max = 65536,
    .in_flight_max = 4096,
    .scans_max = 64,
    .page_size = 1024 * 1024,
    .in_flight_bytes_max = 64 * 1024 * 1024,
};

static const kvs_slice two_keys[] = {{(const uint8_t *)"a", 1}, {(const uint8_t *)"bb", 2}};
static const kvs_mutation three_mutations[] = {
    {.kind = KVS_MUTATION_SET,
     .key = {(const uint8_t *)"a", 1},
     .value = {(const uint8_t *)"1", 1},
     .ttl_ms = 1000},
    {.kind = KVS_MUTATION_REMOVE, .key = {(const uint8_t *)"b", 1}},
    {.kind = KVS_MUTATION_REMOVE_RANGE, .value = {(const uint8_t *)"c", 1}},
};
static kvs_pair batch_pairs[] = {
    {.key = {(const uint8_t *)"a", 1}, .value = {(const uint8_t *)"1", 1}, .found = true},
    {.key = {(const uint8_t *)"bb", 2}},
};
static kvs_pair scan_pairs[] = {
    {.key = {(const uint8_t *)"a", 1}, .value = {(const uint8_t *)"1", 1}, .found = true},
    {.key = {(const uint8_t *)"b", 1}, .value = {(const uint8_t *)"2", 1}, .found = true},
};

#define S(text)                                   \
    {                                             \
        (const uint8_t *)(text), sizeof(text) - 1 \
    }
#define OP(...)                             \
    {                                       \
        .size = sizeof(kvs_op), __VA_ARGS__ \
    }

struct example {
    const char *name;
    uint32_t id;
    uint32_t credit;
    bool reply;
    kvs_op op; /* its results, too, for a reply */
};

static const struct example examples[] = {
    {"get", 7, 0, false, OP(.kind = KVS_OP_GET, .key = S("hello"), .timeout_ms = 500)},
    {"get-reply", 7, 0, true, OP(.kind = KVS_OP_GET, .result = S("world"))},
    {"get-reply-missing", 8, 0, true, OP(.kind = KVS_OP_GET, .error = KVS_ERR_NOT_FOUND)},
    {"exists", 9, 0, false, OP(.kind = KVS_OP_EXISTS, .key = S("k"))},
    {"exists-reply", 9, 0, true, OP(.kind = KVS_OP_EXISTS, .number = 1)},
    {"set", 1, 0, false, OP(.kind = KVS_OP_SET, .key = S("k"), .value = S("vvv"))},
    {"set-ttl", 2, 0, false,
     OP(.kind = KVS_OP_SET, .key = S("k"), .value = S("v"), .ttl_ms = 60000)},
    {"set-reply", 1, 0, true, OP(.kind = KVS_OP_SET)},
    {"set-reply-storage-failed", 1, 0, true,
     OP(.kind = KVS_OP_SET, .error = KVS_ERR_STORAGE_FAILED, .message = "disk is broke")},
    {"remove", 3, 0, false, OP(.kind = KVS_OP_REMOVE, .key = S("k"))},
    {"cas", 4, 0, false,
     OP(.kind = KVS_OP_CAS, .key = S("k"), .expected = S("1"), .value = S("22"))},
    {"cas-absent", 5, 0, false,
     OP(.kind = KVS_OP_CAS, .key = S("k"), .value = S("1"), .flags = KVS_OP_FLAG_EXPECT_ABSENT)},
    {"cas-reply-failed", 4, 0, true,
     OP(.kind = KVS_OP_CAS, .error = KVS_ERR_CONDITION_FAILED, .number = 1, .result = S("3"))},
    {"batch-get", 6, 0, false, OP(.kind = KVS_OP_BATCH_GET, .keys = two_keys, .count = 2)},
    {"batch-get-reply", 6, 0, true,
     OP(.kind = KVS_OP_BATCH_GET, .keys = two_keys, .count = 2, .pairs = batch_pairs,
        .pairs_count = 2)},
    {"batch-write", 7, 0, false,
     OP(.kind = KVS_OP_BATCH_WRITE, .mutations = three_mutations, .count = 3)},
    {"count", 10, 0, false, OP(.kind = KVS_OP_COUNT, .key = S("a"), .end_key = S("z"))},
    {"count-reply", 10, 0, true, OP(.kind = KVS_OP_COUNT, .number = 42)},
    {"ttl", 14, 0, false, OP(.kind = KVS_OP_TTL, .key = S("k"))},
    {"ttl-reply", 14, 0, true, OP(.kind = KVS_OP_TTL, .number = 1000)},
    {"checksum", 15, 0, false, OP(.kind = KVS_OP_CHECKSUM, .key = S("a"), .end_key = S("z"))},
    {"checksum-reply", 15, 0, true,
     OP(.kind = KVS_OP_CHECKSUM, .result = S("\xfa\x39\x19\xdf\xbb\xc9\x5d\x99\1\0\0\0\0\0\0\0"
                                             "\11\0\0\0\0\0\0\0"))},
    {"remove-range", 11, 0, false, OP(.kind = KVS_OP_REMOVE_RANGE)},
    {"checkpoint", 12, 0, false, OP(.kind = KVS_OP_CHECKPOINT, .key = S("monday"))},
    {"checkpoint-reply", 12, 0, true, OP(.kind = KVS_OP_CHECKPOINT)},
    {"ping", 12, 0, false, OP(.kind = KVS_OP_PING)},
    {"scan", 13, 0x100000, false,
     OP(.kind = KVS_OP_SCAN, .limit = 2, .key = S("a"), .end_key = S("z"))},
    {"scan-reply", 13, 0, true,
     OP(.kind = KVS_OP_SCAN, .pairs = scan_pairs, .pairs_count = 2, .more = true)},
};

struct block {
    char name[64];
    struct buf bytes;
};

static struct block blocks[64];
static size_t blocks_count;

static void read_hex_line(const char *line, struct buf *out)
{
    for (const char *at = line; *at != '\0' && *at != '#' && *at != '\n';) {
        if (*at == ' ') {
            at++;
            continue;
        }
        char digits[3] = {at[0], at[1], '\0'};
        char *end;
        unsigned long byte = strtoul(digits, &end, 16);
        assert_ptr_equal(end, digits + 2);
        assert_int_equal(buf_append_u8(out, (uint8_t)byte), 0);
        at += 2;
    }
}

static int read_page(void **state)
{
    (void)state;
    const char *root = getenv("KVS_SOURCE_DIR");
    char path[4096];
    snprintf(path, sizeof path, "%s/docs/protocol/kvs.md", root != NULL ? root : ".");
    FILE *page = fopen(path, "r");
    assert_non_null(page);
    char line[1024];
    struct block *block = NULL;
    while (fgets(line, sizeof line, page) != NULL) {
        if (strncmp(line, "```frame ", 9) == 0) {
            assert_true(blocks_count < 64);
            block = &blocks[blocks_count++];
            assert_int_equal(sscanf(line + 9, "%63s", block->name), 1);
        } else if (strncmp(line, "```", 3) == 0) {
            block = NULL;
        } else if (block != NULL) {
            read_hex_line(line, &block->bytes);
        }
    }
    fclose(page);
    return blocks_count == 0;
}

static int forget_page(void **state)
{
    (void)state;
    for (size_t i = 0; i < blocks_count; i++)
        buf_deinit(&blocks[i].bytes);
    return 0;
}

static const struct block *block_named(const char *name)
{
    for (size_t i = 0; i < blocks_count; i++) {
        if (strcmp(blocks[i].name, name) == 0)
            return &blocks[i];
    }
    fail_msg("the page has no example %s", name);
    return NULL;
}

static void assert_bytes(const struct buf *got, const char *name)
{
    const struct block *block = block_named(name);
    assert_int_equal(got->size, block->bytes.size);
    assert_memory_equal(got->data, block->bytes.data, got->size);
}

static void check_request(const struct example *example, const struct wire_frame *frame)
{
    struct wire_scratch scratch = {0};
    struct buf again = BUF_INIT;
    kvs_op op = KVS_OP_INIT;
    uint32_t credit = 0;
    const char *why;
    assert_int_equal(wire_request_decode(frame, &limits, &op, &scratch, &credit, &why), 0);
    assert_int_equal(credit, example->credit);
    assert_int_equal(op.kind, example->op.kind);
    assert_int_equal(op.flags, example->op.flags);
    assert_int_equal(op.timeout_ms, example->op.timeout_ms);
    assert_true(slice_equal(op.key, example->op.key));
    assert_true(slice_equal(op.value, example->op.value));
    assert_int_equal(wire_request_encode(&op, example->id, credit, &again), 0);
    assert_bytes(&again, example->name);
    buf_deinit(&again);
    wire_scratch_deinit(&scratch);
}

static void check_reply(const struct example *example, const struct wire_frame *frame)
{
    struct wire_scratch scratch = {0};
    struct buf again = BUF_INIT;
    kvs_op op = example->op; /* what was asked; the results are overwritten */
    op.error = 99;           /* not an outcome */
    op.number = 0;
    op.result = slice_make(NULL, 0);
    op.pairs = NULL;
    op.message[0] = '\0';
    assert_int_equal(wire_reply_decode(frame, &op, &scratch), 0);
    assert_int_equal(op.error, example->op.error);
    assert_int_equal(op.number, example->op.number);
    assert_true(slice_equal(op.result, example->op.result));
    assert_string_equal(op.message, example->op.message);
    assert_int_equal(wire_reply_encode(&op, example->id, &again), 0);
    assert_bytes(&again, example->name);
    buf_deinit(&again);
    wire_scratch_deinit(&scratch);
}

static void frames_are_as_written(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        const struct example *example = &examples[i];
        struct buf out = BUF_INIT;
        int error = example->reply
                        ? wire_reply_encode(&example->op, example->id, &out)
                        : wire_request_encode(&example->op, example->id, example->credit, &out);
        assert_int_equal(error, 0);
        assert_bytes(&out, example->name);
        if (!example->reply)
            assert_int_equal(wire_request_size(&example->op), out.size);
        struct wire_frame frame;
        assert_int_equal(wire_frame_decode(buf_slice(&out), limits.body_size_max, &frame), 0);
        assert_int_equal(frame.id, example->id);
        if (example->reply)
            check_reply(example, &frame);
        else
            check_request(example, &frame);
        buf_deinit(&out);
    }
}

static void hellos_are_as_written(void **state)
{
    (void)state;
    struct buf out = BUF_INIT;
    struct wire_client_hello client = {.version_min = 1, .version_max = 1};
    size_t size = 0;
    assert_int_equal(wire_client_hello_encode(&client, &out), 0);
    assert_bytes(&out, "client-hello");
    assert_int_equal(wire_client_hello_decode(buf_slice(&out), &client, &size), 0);
    assert_int_equal(size, out.size);

    buf_clear(&out);
    struct wire_server_hello server = {
        .version = 1, .version_min = 1, .version_max = 1, .limits = limits};
    assert_int_equal(wire_body_size_max(8192, 16 * 1024 * 1024), limits.body_size_max);
    assert_int_equal(wire_server_hello_encode(&server, &out), 0);
    assert_bytes(&out, "server-hello");
    struct wire_server_hello read = {0};
    assert_int_equal(wire_server_hello_decode(buf_slice(&out), &read, &size), 0);
    assert_int_equal(read.limits.in_flight_bytes_max, limits.in_flight_bytes_max);
    assert_int_equal(read.limits.page_size, limits.page_size);

    buf_clear(&out);
    server =
        (struct wire_server_hello){.status = KVS_ERR_VERSION, .version_min = 1, .version_max = 1};
    assert_int_equal(wire_server_hello_encode(&server, &out), 0);
    assert_bytes(&out, "server-hello-version");
    assert_int_equal(wire_server_hello_decode(buf_slice(&out), &read, &size), 0);
    assert_int_equal(read.status, KVS_ERR_VERSION);
    buf_deinit(&out);
}

static void control_frames_are_as_written(void **state)
{
    (void)state;
    struct buf out = BUF_INIT;
    assert_int_equal(wire_cancel_encode(13, &out), 0);
    assert_bytes(&out, "cancel");
    buf_clear(&out);
    assert_int_equal(wire_credit_encode(13, 65536, &out), 0);
    assert_bytes(&out, "credit");
    struct wire_frame frame;
    uint32_t bytes = 0;
    assert_int_equal(wire_frame_decode(buf_slice(&out), limits.body_size_max, &frame), 0);
    assert_int_equal(wire_credit_decode(&frame, &bytes), 0);
    assert_int_equal(bytes, 65536);
    buf_clear(&out);
    assert_int_equal(wire_goaway_encode(&out), 0);
    assert_bytes(&out, "goaway");
    buf_deinit(&out);
}

static void every_example_is_known(void **state)
{
    (void)state;
    static const char *const others[] = {"client-hello", "server-hello", "server-hello-version",
                                         "cancel",       "credit",       "goaway"};
    for (size_t b = 0; b < blocks_count; b++) {
        bool known = false;
        for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++)
            known = known || strcmp(blocks[b].name, examples[i].name) == 0;
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
            known = known || strcmp(blocks[b].name, others[i]) == 0;
        if (!known)
            fail_msg("the page's example %s is not tested", blocks[b].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_as_written),
        cmocka_unit_test(hellos_are_as_written),
        cmocka_unit_test(control_frames_are_as_written),
        cmocka_unit_test(every_example_is_known),
    };
    return cmocka_run_group_tests_name("docs/protocol/kvs.md", tests, read_page, forget_page);
}

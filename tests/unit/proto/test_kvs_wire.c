/*
 * The kvs codec: random requests and replies there and back, each cut at every byte, damaged, and
 * over every limit. Bodies are decoded from memory of exactly their size, so that ASan sees a
 * reader that goes beyond.
 */
#include "base/mem.h"
#include "kvs_frames.h"

#include <stdio.h>

#include "test.h"

#define SEED 20260131u
#define ROUNDS 3000

static int print_seed(void **state)
{
    (void)state;
    print_message("# seed %u\n", SEED);
    return 0;
}

/* Decodes the frame from a copy of exactly `size` bytes. */
static int decode_request(const struct wire_frame *frame, size_t size, struct buf *again)
{
    struct wire_scratch scratch = {0};
    struct wire_frame copy = *frame;
    kvs_op op = KVS_OP_INIT;
    uint32_t credit = 0;
    const char *why;
    uint8_t *body = mem_copy(frame->body.data, size);
    assert_non_null(body);
    copy.body = slice_make(body, size);
    int error = wire_request_decode(&copy, &frames_limits, &op, &scratch, &credit, &why);
    if (error == 0 && again != NULL)
        assert_int_equal(wire_request_encode(&op, frame->id, credit, again), 0);
    assert_non_null(why);
    wire_scratch_deinit(&scratch);
    mem_free(body);
    return error;
}

static void requests_come_back(void **state)
{
    (void)state;
    struct rand rand = rand_seed(SEED);
    static struct random_op random;
    for (int round = 0; round < ROUNDS; round++) {
        struct buf out = BUF_INIT, again = BUF_INIT;
        struct wire_frame frame;
        uint32_t id = (uint32_t)rand_u64(&rand);
        uint32_t credit = (uint32_t)rand_u64(&rand);
        random_request(&random, &rand);
        assert_int_equal(wire_request_encode(&random.op, id, credit, &out), 0);
        assert_int_equal(out.size, wire_request_size(&random.op));
        assert_int_equal(wire_frame_decode(buf_slice(&out), 4096, &frame), 0);
        assert_int_equal(frame.id, id);
        assert_int_equal(decode_request(&frame, frame.body.size, &again), 0);
        assert_int_equal(again.size, out.size);
        assert_memory_equal(again.data, out.data, out.size);
        buf_deinit(&out);
        buf_deinit(&again);
    }
}

static int decode_reply(const struct wire_frame *frame, size_t size, kvs_op *op, struct buf *again)
{
    struct wire_scratch scratch = {0};
    struct wire_frame copy = *frame;
    uint8_t *body = mem_copy(frame->body.data, size);
    assert_non_null(body);
    copy.body = slice_make(body, size);
    int error = wire_reply_decode(&copy, op, &scratch);
    if (error == 0 && again != NULL)
        assert_int_equal(wire_reply_encode(op, frame->id, again), 0);
    wire_scratch_deinit(&scratch);
    mem_free(body);
    return error;
}

static kvs_op request_of(const kvs_op *op)
{
    kvs_op request = *op;
    request.error = 0;
    request.number = 0;
    request.result = slice_make(NULL, 0);
    request.pairs = NULL;
    request.pairs_count = 0;
    request.more = false;
    request.message[0] = '\0';
    return request;
}

static void replies_come_back(void **state)
{
    (void)state;
    struct rand rand = rand_seed(SEED + 1);
    static struct random_op random;
    for (int round = 0; round < ROUNDS; round++) {
        struct buf out = BUF_INIT, again = BUF_INIT;
        struct wire_frame frame;
        random_request(&random, &rand);
        random_reply(&random, &rand);
        assert_int_equal(wire_reply_encode(&random.op, 5, &out), 0);
        assert_int_equal(wire_frame_decode(buf_slice(&out), 4096, &frame), 0);
        kvs_op op = request_of(&random.op);
        assert_int_equal(decode_reply(&frame, frame.body.size, &op, &again), 0);
        assert_int_equal(op.error, random.op.error);
        assert_int_equal(again.size, out.size);
        assert_memory_equal(again.data, out.data, out.size);
        buf_deinit(&out);
        buf_deinit(&again);
    }
}

/* Every frame cut anywhere asks for more; every body cut anywhere is refused or another request. */
static void cut_frames_are_not_misread(void **state)
{
    (void)state;
    struct rand rand = rand_seed(SEED + 2);
    static struct random_op random;
    for (int round = 0; round < ROUNDS / 10; round++) {
        struct buf out = BUF_INIT;
        struct wire_frame frame;
        random_request(&random, &rand);
        assert_int_equal(wire_request_encode(&random.op, 1, 1, &out), 0);
        for (size_t size = 0; size < out.size; size++) {
            uint8_t *cut = mem_copy(out.data, size);
            assert_int_equal(wire_frame_decode(slice_make(cut, size), 4096, &frame), WIRE_MORE);
            if (size >= WIRE_HEADER_SIZE)
                assert_int_equal(frame.body.size, out.size - WIRE_HEADER_SIZE);
            mem_free(cut);
        }
        assert_int_equal(wire_frame_decode(buf_slice(&out), 4096, &frame), 0);
        bool has_inner_end =
            random.op.kind == KVS_OP_BATCH_GET || random.op.kind == KVS_OP_BATCH_WRITE;
        for (size_t size = 0; size < frame.body.size; size++) {
            int error = decode_request(&frame, size, NULL);
            if (has_inner_end)
                assert_int_not_equal(error, 0);
        }
        buf_deinit(&out);
    }
}

static void cut_replies_are_not_misread(void **state)
{
    (void)state;
    struct rand rand = rand_seed(SEED + 3);
    static struct random_op random;
    for (int round = 0; round < ROUNDS / 3; round++) {
        struct buf out = BUF_INIT;
        struct wire_frame frame;
        random_request(&random, &rand);
        random_reply(&random, &rand);
        assert_int_equal(wire_reply_encode(&random.op, 5, &out), 0);
        assert_int_equal(wire_frame_decode(buf_slice(&out), 4096, &frame), 0);
        bool has_inner_end =
            random.op.error == 0 && random.op.kind != KVS_OP_GET && random.op.kind != KVS_OP_STATS;
        for (size_t size = 0; size < frame.body.size; size++) {
            kvs_op op = request_of(&random.op);
            int error = decode_reply(&frame, size, &op, NULL);
            if (has_inner_end)
                assert_int_equal(error, KVS_ERR_PROTOCOL);
        }
        buf_deinit(&out);
    }
}

/* Whatever a damaged frame decodes to, it stays inside its bytes (ASan watches). */
static void damaged_frames_do_no_harm(void **state)
{
    (void)state;
    struct rand rand = rand_seed(SEED + 4);
    static struct random_op random;
    for (int round = 0; round < ROUNDS * 4; round++) {
        struct buf out = BUF_INIT;
        struct wire_frame frame;
        random_request(&random, &rand);
        bool reply = rand_below(&rand, 2) == 0;
        if (reply) {
            random_reply(&random, &rand);
            assert_int_equal(wire_reply_encode(&random.op, 5, &out), 0);
        } else {
            assert_int_equal(wire_request_encode(&random.op, 5, 5, &out), 0);
        }
        for (uint64_t damage = 1 + rand_below(&rand, 4); damage > 0; damage--)
            out.data[rand_below(&rand, out.size)] ^= (uint8_t)(1u << rand_below(&rand, 8));
        if (wire_frame_decode(buf_slice(&out), 4096, &frame) == 0) {
            kvs_op op = request_of(&random.op);
            if (reply)
                decode_reply(&frame, frame.body.size, &op, NULL);
            else
                decode_request(&frame, frame.body.size, NULL);
        }
        buf_deinit(&out);
    }
}

static int refusal_of(const kvs_op *op)
{
    struct buf out = BUF_INIT;
    struct wire_frame frame;
    assert_int_equal(wire_request_encode(op, 1, 0, &out), 0);
    assert_int_equal(wire_frame_decode(buf_slice(&out), 4096, &frame), 0);
    int error = decode_request(&frame, frame.body.size, NULL);
    buf_deinit(&out);
    return error;
}

static void limits_hold(void **state)
{
    (void)state;
    static const uint8_t zeroes[100];
    const kvs_slice none = {0}, key = slice_make(zeroes, 40), long_key = slice_make(zeroes, 41);
    const kvs_slice value = slice_make(zeroes, 60), long_value = slice_make(zeroes, 61);
    const struct {
        kvs_op op;
        int error;
    } cases[] = {
        {{.kind = KVS_OP_GET, .key = key}, 0},
        {{.kind = KVS_OP_GET, .key = long_key}, KVS_ERR_TOO_LARGE},
        {{.kind = KVS_OP_GET, .key = none}, KVS_ERR_INVALID_ARGUMENT},
        {{.kind = KVS_OP_SET, .key = key, .value = value}, 0},
        {{.kind = KVS_OP_SET, .key = key, .value = long_value}, KVS_ERR_TOO_LARGE},
        {{.kind = KVS_OP_SET, .key = long_key, .value = value}, KVS_ERR_TOO_LARGE},
        {{.kind = KVS_OP_SET, .value = value}, KVS_ERR_INVALID_ARGUMENT},
        {{.kind = KVS_OP_CAS, .key = key, .expected = long_value}, KVS_ERR_TOO_LARGE},
        {{.kind = KVS_OP_CAS, .key = key, .expected = value, .flags = KVS_OP_FLAG_EXPECT_ABSENT},
         KVS_ERR_INVALID_ARGUMENT},
        {{.kind = KVS_OP_COUNT, .key = long_key}, KVS_ERR_TOO_LARGE},
        {{.kind = KVS_OP_SCAN, .end_key = long_key}, KVS_ERR_TOO_LARGE},
        {{.kind = KVS_OP_REMOVE_RANGE}, 0},
        {{.kind = KVS_OP_GET, .key = key, .family = 16}, KVS_ERR_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(refusal_of(&cases[i].op), cases[i].error);

    kvs_slice keys[65];
    for (size_t i = 0; i < 65; i++)
        keys[i] = slice_make(zeroes, 1);
    kvs_op batch = {.kind = KVS_OP_BATCH_GET, .keys = keys, .count = 64};
    assert_int_equal(refusal_of(&batch), 0);
    batch.count = 65;
    assert_int_equal(refusal_of(&batch), KVS_ERR_TOO_LARGE);
}

/* A count that its body cannot hold must not cost memory. */
static void false_counts_are_refused(void **state)
{
    (void)state;
    for (unsigned opcode = KVS_OP_BATCH_GET; opcode <= KVS_OP_BATCH_WRITE; opcode++) {
        uint8_t body[8] = {64, 0, 0, 0, 1, 0, 0, 0};
        struct wire_frame frame = {.opcode = (uint8_t)opcode, .body = {body, sizeof body}};
        assert_int_equal(decode_request(&frame, sizeof body, NULL), KVS_ERR_INVALID_ARGUMENT);
        body[3] = 255;
        assert_int_equal(decode_request(&frame, sizeof body, NULL), KVS_ERR_TOO_LARGE);
    }
}

static void the_unknown_is_unsupported(void **state)
{
    (void)state;
    uint8_t body[1] = {'k'};
    struct wire_frame frame = {.body = {body, 1}};
    for (unsigned opcode = KVS_OP_CHECKPOINT + 1; opcode < 256; opcode++) {
        frame.opcode = (uint8_t)opcode;
        assert_int_equal(decode_request(&frame, 1, NULL), KVS_ERR_UNSUPPORTED);
    }
    frame.opcode = KVS_OP_GET;
    frame.flags = 1;
    assert_int_equal(decode_request(&frame, 1, NULL), KVS_ERR_UNSUPPORTED);
    frame.flags = 0;
    frame.reserved = 1;
    assert_int_equal(decode_request(&frame, 1, NULL), KVS_ERR_UNSUPPORTED);
    frame.reserved = 0;
    assert_int_equal(decode_request(&frame, 1, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_come_back),         cmocka_unit_test(replies_come_back),
        cmocka_unit_test(cut_frames_are_not_misread), cmocka_unit_test(cut_replies_are_not_misread),
        cmocka_unit_test(damaged_frames_do_no_harm),  cmocka_unit_test(limits_hold),
        cmocka_unit_test(false_counts_are_refused),   cmocka_unit_test(the_unknown_is_unsupported),
    };
    return cmocka_run_group_tests_name("proto/kvs/wire", tests, print_seed, NULL);
}

/* Every operation of the kvs protocol against a server in this process, over sockets. */
#include "base/mem.h"
#include "unit/server/server_fixture.h"

#include <stdio.h>

#include "test.h"

static kvs_server *server;
static struct raw_peer peer;

static int open_all(void **state)
{
    (void)state;
    server = server_start(NULL);
    raw_peer_open(&peer, kvs_server_address(server));
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    raw_peer_close(&peer);
    server_stop(server);
    return 0;
}

#define S(text) slice_of_string(text)

static int call(struct wire_frame *frame, kvs_op op)
{
    return raw_peer_call(&peer, &op, frame);
}

static void keys_and_values(void **state)
{
    (void)state;
    struct wire_frame frame;
    assert_int_equal(call(&frame, (kvs_op){.kind = KVS_OP_GET, .key = S("a")}), KVS_ERR_NOT_FOUND);
    assert_int_equal(call(&frame, (kvs_op){.kind = KVS_OP_SET, .key = S("a"), .value = S("1")}), 0);
    assert_int_equal(call(&frame, (kvs_op){.kind = KVS_OP_GET, .key = S("a")}), 0);
    assert_slice_equal(frame.body, "1");
    assert_int_equal(call(&frame, (kvs_op){.kind = KVS_OP_EXISTS, .key = S("a")}), 0);
    assert_int_equal(frame.aux, 1);
    assert_int_equal(call(&frame, (kvs_op){.kind = KVS_OP_REMOVE, .key = S("a")}), 0);
    assert_int_equal(call(&frame, (kvs_op){.kind = KVS_OP_REMOVE, .key = S("a")}),
                     KVS_ERR_NOT_FOUND);
    assert_int_equal(call(&frame, (kvs_op){.kind = KVS_OP_EXISTS, .key = S("a")}), 0);
    assert_int_equal(frame.aux, 0);
    kvs_op other = {.kind = KVS_OP_SET, .family = 3, .key = S("a"), .value = S("f")};
    assert_int_equal(call(&frame, other), 0);
    assert_int_equal(call(&frame, (kvs_op){.kind = KVS_OP_GET, .key = S("a")}), KVS_ERR_NOT_FOUND);
    assert_int_equal(call(&frame, (kvs_op){.kind = KVS_OP_GET, .family = 3, .key = S("a")}), 0);
    assert_slice_equal(frame.body, "f");
}

static void compare_and_set(void **state)
{
    (void)state;
    struct wire_frame frame;
    kvs_op absent = {
        .kind = KVS_OP_CAS, .key = S("c"), .value = S("1"), .flags = KVS_OP_FLAG_EXPECT_ABSENT};
    assert_int_equal(call(&frame, absent), 0);
    assert_int_equal(call(&frame, absent), KVS_ERR_CONDITION_FAILED);
    assert_int_equal(frame.aux, 1);
    assert_slice_equal(frame.body, "1");
    kvs_op equal = {.kind = KVS_OP_CAS, .key = S("c"), .expected = S("1"), .value = S("2")};
    assert_int_equal(call(&frame, equal), 0);
    assert_int_equal(call(&frame, equal), KVS_ERR_CONDITION_FAILED);
    assert_slice_equal(frame.body, "2");
    equal.key = S("no such key");
    assert_int_equal(call(&frame, equal), KVS_ERR_CONDITION_FAILED);
    assert_int_equal(frame.aux, 0);
    assert_int_equal(frame.body.size, 0);
}

static void batches(void **state)
{
    (void)state;
    struct wire_frame frame;
    struct wire_scratch scratch = {0};
    const kvs_mutation mutations[] = {
        {.kind = KVS_MUTATION_SET, .key = S("b1"), .value = S("x")},
        {.kind = KVS_MUTATION_SET, .key = S("b2"), .value = S("")},
        {.kind = KVS_MUTATION_REMOVE, .key = S("b3")},
    };
    kvs_op write = {.kind = KVS_OP_BATCH_WRITE, .mutations = mutations, .count = 3};
    assert_int_equal(call(&frame, write), 0);
    const kvs_slice keys[] = {S("b1"), S("b3"), S("b2")};
    kvs_op get = {.kind = KVS_OP_BATCH_GET, .keys = keys, .count = 3};
    assert_int_equal(call(&frame, get), 0);
    assert_int_equal(wire_reply_decode(&frame, &get, &scratch), 0);
    assert_int_equal(get.pairs_count, 3);
    assert_slice_equal(get.pairs[0].value, "x");
    assert_false(get.pairs[1].found);
    assert_true(get.pairs[2].found);
    assert_int_equal(get.pairs[2].value.size, 0);
    wire_scratch_deinit(&scratch);
}

static void values_of_all_sizes(void **state)
{
    (void)state;
    struct wire_frame frame;
    static const size_t sizes[] = {0,     1,      100,     4000,    65519,
                                   65536, 131072, 1000000, 5000000, KVS_VALUE_SIZE_MAX};
    uint8_t *value = mem_alloc(KVS_VALUE_SIZE_MAX + 1);
    for (size_t i = 0; i <= KVS_VALUE_SIZE_MAX; i++)
        value[i] = (uint8_t)(i * 7 + i / 251);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(raw_peer_set(&peer, "large", slice_make(value, sizes[i])), 0);
        assert_int_equal(call(&frame, (kvs_op){.kind = KVS_OP_GET, .key = S("large")}), 0);
        assert_int_equal(frame.body.size, sizes[i]);
        assert_true(slice_equal(frame.body, slice_make(value, sizes[i])));
    }
    assert_int_equal(raw_peer_set(&peer, "large", slice_make(value, KVS_VALUE_SIZE_MAX + 1)),
                     KVS_ERR_TOO_LARGE);
    assert_int_equal(raw_peer_ping(&peer), 0);
    assert_int_equal(call(&frame, (kvs_op){.kind = KVS_OP_REMOVE, .key = S("large")}), 0);
    mem_free(value);
}

static void fill(unsigned count)
{
    struct wire_frame frame;
    char key[16];
    for (unsigned i = 0; i < count; i++) {
        snprintf(key, sizeof key, "scan%05u", i);
        raw_peer_ask(&peer, &(kvs_op){.kind = KVS_OP_SET, .key = S(key), .value = S("0123456789")},
                     0);
        if (peer.out.size > 30000)
            raw_peer_flush(&peer);
    }
    raw_peer_flush(&peer);
    for (unsigned i = 0; i < count; i++) {
        assert_true(raw_peer_frame(&peer, &frame));
        assert_int_equal(frame.status, 0);
    }
}

/* Takes a whole scan; the keys must be scan%05u from `first` in steps of `step`. */
static unsigned take_scan(uint32_t id, int first, int step, bool credits, bool *ret_more)
{
    struct wire_scratch scratch = {0};
    struct wire_frame frame;
    unsigned pairs = 0;
    kvs_op op = {.kind = KVS_OP_SCAN};
    do {
        assert_true(raw_peer_frame(&peer, &frame));
        assert_int_equal(frame.id, id);
        assert_int_equal(frame.status, 0);
        assert_int_equal(wire_reply_decode(&frame, &op, &scratch), 0);
        for (size_t i = 0; i < op.pairs_count; i++, pairs++) {
            char key[16];
            snprintf(key, sizeof key, "scan%05u", (unsigned)(first + step * (int)pairs));
            assert_int_equal(op.pairs[i].key.size, 9);
            assert_memory_equal(op.pairs[i].key.data, key, 9);
        }
        if (credits && (frame.flags & WIRE_FLAG_FOLLOWS) != 0) {
            assert_int_equal(wire_credit_encode(id, (uint32_t)frame.body.size, &peer.out), 0);
            raw_peer_flush(&peer);
        }
    } while ((frame.flags & WIRE_FLAG_FOLLOWS) != 0);
    *ret_more = op.more;
    wire_scratch_deinit(&scratch);
    return pairs;
}

static unsigned scan(kvs_op op, uint32_t credit, int first, int step, bool *ret_more)
{
    op.kind = KVS_OP_SCAN;
    if (op.key.size == 0)
        op.key = S("scan");
    if (op.end_key.size == 0)
        op.end_key = S("scao");
    uint32_t id = raw_peer_ask(&peer, &op, credit);
    raw_peer_flush(&peer);
    return take_scan(id, first, step, credit != 0, ret_more);
}

static void scans(void **state)
{
    (void)state;
    bool more;
    struct wire_frame frame;
    const uint32_t all = WIRE_SCAN_LIMIT_NONE;
    fill(30000);
    assert_int_equal(scan((kvs_op){.limit = all}, 0, 0, 1, &more), 30000);
    assert_false(more);
    assert_int_equal(scan((kvs_op){.limit = all}, 1, 0, 1, &more), 30000); /* pair by pair */
    assert_int_equal(scan((kvs_op){.limit = all}, 50000, 0, 1, &more), 30000);
    assert_int_equal(
        scan((kvs_op){.limit = all, .flags = KVS_OP_FLAG_REVERSE}, 70000, 29999, -1, &more), 30000);
    assert_int_equal(scan((kvs_op){.limit = 7}, 0, 0, 1, &more), 7);
    assert_true(more);
    assert_int_equal(scan((kvs_op){.limit = 30000}, 0, 0, 1, &more), 30000);
    assert_false(more);
    assert_int_equal(scan((kvs_op){.limit = 29999}, 100000, 0, 1, &more), 29999);
    assert_true(more);
    unsigned page = scan((kvs_op){.limit = 0}, 0, 0, 1, &more);
    assert_int_equal(page, 1024 * 1024 / (9 + 10 + 32));
    assert_true(more);
    kvs_op paged = {.limit = all, .flags = KVS_OP_FLAG_PAGE | KVS_OP_FLAG_KEYS_ONLY};
    assert_int_equal(scan(paged, 0, 0, 1, &more), 1024 * 1024 / (9 + 32));
    kvs_op part = {.limit = all, .key = S("scan00100"), .end_key = S("scan00200")};
    assert_int_equal(scan(part, 0, 100, 1, &more), 100);
    kvs_op none = {.limit = all, .key = S("scan00200"), .end_key = S("scan00100")};
    assert_int_equal(scan(none, 0, 0, 1, &more), 0);
    assert_int_equal(
        call(&frame, (kvs_op){.kind = KVS_OP_COUNT, .key = S("scan"), .end_key = S("scao")}), 0);
    assert_int_equal(frame.body.data[0] | frame.body.data[1] << 8, 30000);
}

/* The scan's first frame is there; then its keys are removed; it goes on as of its begin. */
static void a_scan_sees_one_moment(void **state)
{
    (void)state;
    bool more;
    struct wire_frame frame;
    struct raw_peer other;
    fill(30000);
    kvs_op op = {
        .kind = KVS_OP_SCAN, .limit = WIRE_SCAN_LIMIT_NONE, .key = S("scan"), .end_key = S("scao")};
    uint32_t id = raw_peer_ask(&peer, &op, 1000);
    raw_peer_flush(&peer);
    raw_peer_open(&other, kvs_server_address(server));
    /* Until the scan has begun, the range may not go away: its first frame tells. */
    while (peer.in.size == peer.taken) {
        assert_true(raw_peer_frame(&peer, &frame));
        peer.taken -= WIRE_HEADER_SIZE + frame.body.size;
    }
    kvs_op range = {.kind = KVS_OP_REMOVE_RANGE, .key = S("scan"), .end_key = S("scao")};
    assert_int_equal(raw_peer_call(&other, &range, &frame), 0);
    raw_peer_close(&other);
    assert_int_equal(wire_credit_encode(id, 1u << 30, &peer.out), 0);
    raw_peer_flush(&peer);
    assert_int_equal(take_scan(id, 0, 1, false, &more), 30000);
    assert_int_equal(scan((kvs_op){.limit = 1}, 0, 0, 1, &more), 0);
}

static void scans_end_early(void **state)
{
    (void)state;
    struct wire_frame frame;
    uint32_t ids[65];
    fill(1000);
    kvs_op op = {.kind = KVS_OP_SCAN, .limit = WIRE_SCAN_LIMIT_NONE};
    for (unsigned i = 0; i < 65; i++)
        ids[i] = raw_peer_ask(&peer, &op, 100);
    raw_peer_flush(&peer);
    for (unsigned i = 0; i < 65; i++) { /* as many as announced begin */
        assert_true(raw_peer_frame(&peer, &frame));
        assert_int_equal(frame.id, ids[i]);
        assert_int_equal(frame.status, i < peer.hello.limits.scans_max ? 0 : KVS_ERR_BUSY);
    }
    for (unsigned i = 0; i < 65; i++)
        assert_int_equal(wire_cancel_encode(ids[i], &peer.out), 0);
    raw_peer_flush(&peer);
    for (unsigned i = 0; i < peer.hello.limits.scans_max; i++) {
        assert_true(raw_peer_frame(&peer, &frame));
        assert_int_equal(frame.id, ids[i]);
        assert_int_equal(frame.status, KVS_ERR_CANCELLED);
    }
    op.timeout_ms = 50;
    uint32_t id = raw_peer_ask(&peer, &op, 100);
    raw_peer_flush(&peer);
    do { /* perhaps with a page before */
        assert_true(raw_peer_frame(&peer, &frame));
        assert_int_equal(frame.id, id);
    } while (frame.status == 0);
    assert_int_equal(frame.status, KVS_ERR_TIMEOUT);
    assert_int_equal(raw_peer_ping(&peer), 0);
}

static void the_rest_of_the_list(void **state)
{
    (void)state;
    struct wire_frame frame;
    assert_int_equal(call(&frame, (kvs_op){.kind = KVS_OP_PING}), 0);
    assert_int_equal(call(&frame, (kvs_op){.kind = KVS_OP_SYNC}), 0);
    assert_int_equal(call(&frame, (kvs_op){.kind = KVS_OP_COMPACT, .timeout_ms = 30000}), 0);
    assert_int_equal(call(&frame, (kvs_op){.kind = KVS_OP_STATS}), 0);
    char text[2048];
    snprintf(text, sizeof text, "%.*s", (int)frame.body.size, (const char *)frame.body.data);
    assert_non_null(strstr(text, "\"connections\":1,"));
    assert_non_null(strstr(text, "\"engine\":\"memory\""));
    assert_int_equal(text[0], '{');
    assert_int_equal(text[frame.body.size - 1], '}');
}

/* Many requests in one write, of all kinds, and all replies. */
static void a_thousand_in_flight(void **state)
{
    (void)state;
    struct wire_frame frame;
    static bool answered[100000];
    uint32_t first = peer.next_id;
    for (unsigned i = 0; i < 1000; i++) {
        char key[16];
        snprintf(key, sizeof key, "p%u", i % 100);
        raw_peer_ask(&peer, &(kvs_op){.kind = KVS_OP_SET, .key = S(key), .value = S("v")}, 0);
        raw_peer_ask(&peer, &(kvs_op){.kind = KVS_OP_GET, .key = S(key)}, 0);
        raw_peer_ask(&peer, &(kvs_op){.kind = KVS_OP_EXISTS, .key = S(key), .timeout_ms = 9999}, 0);
        raw_peer_ask(&peer, &(kvs_op){.kind = KVS_OP_COUNT, .key = S(key)}, 0);
    }
    raw_peer_flush(&peer);
    for (unsigned i = 0; i < 4000; i++) {
        assert_true(raw_peer_frame(&peer, &frame));
        assert_true(frame.id >= first && frame.id < first + 4000);
        assert_false(answered[frame.id - first]);
        answered[frame.id - first] = true;
    }
}

/* Nothing may depend on where reads cut the stream. */
static void byte_by_byte(void **state)
{
    (void)state;
    struct raw_peer slow;
    struct wire_frame frame;
    raw_peer_connect(&slow, kvs_server_address(server));
    const struct wire_client_hello hello = {.version_min = 1, .version_max = 3};
    assert_int_equal(wire_client_hello_encode(&hello, &slow.out), 0);
    raw_peer_ask(&slow, &(kvs_op){.kind = KVS_OP_SET, .key = S("slow"), .value = S("value")}, 0);
    raw_peer_ask(&slow, &(kvs_op){.kind = KVS_OP_PING}, 0);
    for (size_t i = 0; i < slow.out.size; i++)
        raw_peer_send(&slow, slow.out.data + i, 1);
    raw_peer_read_hello(&slow);
    assert_int_equal(slow.hello.version, 1);
    assert_true(raw_peer_frame(&slow, &frame));
    assert_true(raw_peer_frame(&slow, &frame));
    raw_peer_close(&slow);
    assert_int_equal(call(&frame, (kvs_op){.kind = KVS_OP_GET, .key = S("slow")}), 0);
    assert_slice_equal(frame.body, "value");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rest_of_the_list),   cmocka_unit_test(keys_and_values),
        cmocka_unit_test(compare_and_set),        cmocka_unit_test(batches),
        cmocka_unit_test(values_of_all_sizes),    cmocka_unit_test(scans),
        cmocka_unit_test(a_scan_sees_one_moment), cmocka_unit_test(scans_end_early),
        cmocka_unit_test(a_thousand_in_flight),   cmocka_unit_test(byte_by_byte),
    };
    return cmocka_run_group_tests_name("server/kvs_service", tests, open_all, close_all);
}

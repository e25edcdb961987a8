/* txn/record.c: what is encoded is decoded, and other bytes are refused. */
#include "txn/record.h"

#include "base/rand.h"

#include <kvs/error.h>

#include "test.h"

#define S(text) slice_make((text), sizeof(text) - 1)

static struct lock_record lock_sample(void)
{
    static const kvs_slice secondaries[] = {{.data = (const uint8_t *)"bb", .size = 2},
                                            {.data = (const uint8_t *)"", .size = 0},
                                            {.data = (const uint8_t *)"dddd", .size = 4}};
    return (struct lock_record){
        .type = TXN_OP_PUT,
        .use_async_commit = true,
        .has_value = true,
        .primary = S("primary"),
        .value = S("value"),
        .start_ts = 1,
        .ttl_ms = 2,
        .for_update_ts = 3,
        .txn_size = 4,
        .min_commit_ts = UINT64_MAX - 5,
        .secondaries_count = 3,
        .secondaries = secondaries,
    };
}

static void test_lock_round_trip(void **state)
{
    (void)state;
    struct lock_record lock = lock_sample();
    uint8_t bytes[200];
    size_t size = lock_record_size(&lock);
    assert_true(size <= sizeof bytes);
    lock_record_encode(&lock, bytes);
    struct lock_record back;
    assert_int_equal(lock_record_decode(slice_make(bytes, size), &back), 0);
    assert_int_equal(back.type, TXN_OP_PUT);
    assert_true(back.use_async_commit && back.has_value);
    assert_slice_equal(back.primary, "primary");
    assert_slice_equal(back.value, "value");
    assert_int_equal(back.start_ts, 1);
    assert_int_equal(back.ttl_ms, 2);
    assert_int_equal(back.for_update_ts, 3);
    assert_int_equal(back.txn_size, 4);
    assert_true(back.min_commit_ts == UINT64_MAX - 5);
    struct arena arena = {0};
    const kvs_slice *secondaries = lock_record_secondaries(&back, &arena);
    assert_int_equal(back.secondaries_count, 3);
    assert_slice_equal(secondaries[0], "bb");
    assert_slice_equal(secondaries[1], "");
    assert_slice_equal(secondaries[2], "dddd");
    arena_deinit(&arena);
    uint8_t again[200]; /* from the decoded form, with its secondaries as bytes */
    assert_int_equal(lock_record_size(&back), size);
    lock_record_encode(&back, again);
    assert_memory_equal(again, bytes, size);
}

/* Every shorter or longer one, and every single byte changed in what says sizes and kinds. */
static void test_lock_refuses_other_bytes(void **state)
{
    (void)state;
    struct lock_record lock = lock_sample();
    uint8_t bytes[200] = {0};
    size_t size = lock_record_size(&lock);
    lock_record_encode(&lock, bytes);
    struct lock_record back;
    for (size_t i = 0; i < size; i++)
        assert_int_equal(lock_record_decode(slice_make(bytes, i), &back), KVS_ERR_CORRUPTION);
    assert_int_equal(lock_record_decode(slice_make(bytes, size + 1), &back), KVS_ERR_CORRUPTION);
    static const struct {
        size_t at;
        uint8_t value;
    } changes[] = {{0, 2},    {1, 3},  {1, 7},  {1, TXN_OP_DELETE},
                   {2, 1},    {2, 7},  {2, 11}, {3, 99},
                   {4, 0xff}, {5, 1},  {6, 1},  {7, 1},
                   {48, 2},   {48, 4}, {51, 1}};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        uint8_t kept = bytes[changes[i].at];
        bytes[changes[i].at] = changes[i].value;
        assert_int_equal(lock_record_decode(slice_make(bytes, size), &back), KVS_ERR_CORRUPTION);
        bytes[changes[i].at] = kept;
    }
}

static void test_flushed_lock(void **state)
{
    (void)state;
    struct lock_record lock = {.type = TXN_OP_PUT,
                               .has_value = true,
                               .generation = 0x0102030405060708,
                               .primary = S("primary"),
                               .value = S("value"),
                               .start_ts = 1,
                               .txn_size = UINT64_MAX,
                               .min_commit_ts = 2};
    uint8_t bytes[100];
    size_t size = lock_record_size(&lock);
    assert_int_equal(size, 52 + 8 + 7 + 5);
    lock_record_encode(&lock, bytes);
    struct lock_record back;
    assert_int_equal(lock_record_decode(slice_make(bytes, size), &back), 0);
    assert_true(back.generation == lock.generation);
    assert_slice_equal(back.primary, "primary");
    assert_slice_equal(back.value, "value");
    for (size_t i = 0; i < size; i++)
        assert_int_equal(lock_record_decode(slice_make(bytes, i), &back), KVS_ERR_CORRUPTION);
    memset(bytes + 52, 0, 8); /* a generation that is none */
    assert_int_equal(lock_record_decode(slice_make(bytes, size), &back), KVS_ERR_CORRUPTION);
}

static struct lock_record holder_of(uint64_t start_ts, uint8_t type)
{
    return (struct lock_record){
        .type = type, .primary = S("p"), .start_ts = start_ts, .for_update_ts = start_ts};
}

/* Holders come and go in any order, and are told by their start. */
static void test_shared_lock(void **state)
{
    (void)state;
    static const uint64_t times[] = {30, 10, 20, 10, 40};
    static const uint64_t sorted[] = {10, 20, 30, 40};
    struct arena arena = {0};
    struct lock_record lock;
    struct lock_record holder;
    kvs_slice shared = {0};
    for (size_t i = 0; i < 5; i++) {
        holder = holder_of(times[i], i == 3 ? TXN_OP_LOCK : TXN_OP_PESSIMISTIC_LOCK);
        assert_int_equal(shared_record_with(&arena, shared, &holder, &shared), 0);
    }
    assert_int_equal(shared.size, 8 + 4 * (4 + 52 + 1));
    assert_int_equal(lock_record_decode(shared, &lock), 0);
    assert_int_equal(lock.type, TXN_OP_SHARED_LOCK);
    assert_int_equal(lock.holders_count, 4);
    assert_false(lock.is_closed);
    size_t at = 0;
    for (size_t i = 0; i < 4; i++) {
        assert_true(lock_record_next(&lock, &at, &holder));
        assert_int_equal(holder.start_ts, sorted[i]);
        assert_int_equal(holder.type, i == 0 ? TXN_OP_LOCK : TXN_OP_PESSIMISTIC_LOCK);
        assert_true(slice_equal(holder.shared, shared));
    }
    assert_false(lock_record_next(&lock, &at, &holder));
    uint8_t *bytes = arena_copy(&arena, shared);
    shared_record_close(bytes);
    assert_int_equal(lock_record_decode(slice_make(bytes, shared.size), &lock), 0);
    assert_true(lock.is_closed);
    kvs_slice left = shared_record_without(bytes, shared.size, 25);
    assert_int_equal(left.size, shared.size);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(lock_record_decode(left, &lock), 0);
        assert_true(lock.is_closed && lock.holders_count == 4 - i);
        assert_true(lock_record_find(&lock, times[i == 3 ? 4 : i], &holder));
        left = shared_record_without(bytes, left.size, times[i == 3 ? 4 : i]);
    }
    assert_int_equal(left.size, 0);
    arena_deinit(&arena);
}

static void test_shared_lock_refuses_other_bytes(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct lock_record back;
    kvs_slice shared = {0};
    for (uint64_t ts = 1; ts <= 2; ts++) {
        struct lock_record holder = holder_of(ts, TXN_OP_PESSIMISTIC_LOCK);
        assert_int_equal(shared_record_with(&arena, shared, &holder, &shared), 0);
    }
    uint8_t *bytes = arena_copy(&arena, slice_make(shared.data, shared.size));
    for (size_t i = 0; i < shared.size; i++)
        assert_int_equal(lock_record_decode(slice_make(bytes, i), &back), KVS_ERR_CORRUPTION);
    static const struct {
        size_t at;
        uint8_t value;
    } changes[] = {{0, 2},      {1, 5},      {2, 2},      {3, 1},      {4, 0},
                   {4, 1},      {4, 3},      {7, 1},      {8, 52},     {8, 54},
                   {12 + 1, 0}, {12 + 1, 7}, {12 + 2, 1}, {12 + 8, 2}, {12 + 8, 3}};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        uint8_t kept = bytes[changes[i].at];
        bytes[changes[i].at] = changes[i].value;
        assert_int_equal(lock_record_decode(slice_make(bytes, shared.size), &back),
                         KVS_ERR_CORRUPTION);
        bytes[changes[i].at] = kept;
    }
    assert_int_equal(lock_record_decode(slice_make(bytes, shared.size), &back), 0);
    arena_deinit(&arena);
}

static void test_write_round_trip(void **state)
{
    (void)state;
    static const struct write_record records[] = {
        {.type = TXN_OP_PUT, .has_value = true, .start_ts = 7},
        {.type = TXN_OP_PUT, .start_ts = UINT64_MAX},
        {.type = TXN_OP_DELETE, .start_ts = 1, .has_overlapped_rollback = true},
        {.type = TXN_OP_LOCK, .start_ts = 1},
        {.type = TXN_OP_ROLLBACK, .start_ts = 9, .is_protected = true},
    };
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        struct write_record record = records[i];
        if (record.has_value)
            record.value = S("short");
        uint8_t bytes[64] = {0};
        size_t size = write_record_size(&record);
        write_record_encode(&record, bytes);
        struct write_record back;
        assert_int_equal(write_record_decode(slice_make(bytes, size), &back), 0);
        assert_int_equal(back.type, record.type);
        assert_int_equal(back.has_value, record.has_value);
        assert_int_equal(back.has_overlapped_rollback, record.has_overlapped_rollback);
        assert_int_equal(back.is_protected, record.is_protected);
        assert_true(back.start_ts == record.start_ts);
        assert_int_equal(back.value.size, record.value.size);
        for (size_t cut = 0; cut < size; cut++)
            assert_int_equal(write_record_decode(slice_make(bytes, cut), &back),
                             KVS_ERR_CORRUPTION);
        assert_int_equal(write_record_decode(slice_make(bytes, size + 1), &back),
                         KVS_ERR_CORRUPTION);
        bytes[2] |= 8;
        assert_int_equal(write_record_decode(slice_make(bytes, size), &back), KVS_ERR_CORRUPTION);
    }
}

/* Newer versions of a key come first, and none lies between the versions of another. */
static void test_keys_keep_order(void **state)
{
    (void)state;
    static const char *const keys[] = {"", "a", "a\1", "aaaaaaaa", "aaaaaaaab", "b"};
    uint8_t last[64];
    size_t last_size = 0;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        static const uint64_t times[] = {UINT64_MAX, 1ull << 60, 5, 4, 0};
        for (size_t t = 0; t < sizeof times / sizeof times[0]; t++) {
            struct record_key key;
            record_key_set(&key, slice_of_string(keys[i]));
            kvs_slice at = record_key_at(&key, times[t]);
            assert_true(last_size == 0 || slice_compare(slice_make(last, last_size), at) < 0);
            kvs_slice encoded;
            uint64_t ts;
            assert_true(record_key_split(at, &encoded, &ts));
            assert_true(ts == times[t] && slice_equal(encoded, record_key_slice(&key)));
            memcpy(last, at.data, at.size);
            last_size = at.size;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lock_round_trip),
        cmocka_unit_test(test_lock_refuses_other_bytes),
        cmocka_unit_test(test_flushed_lock),
        cmocka_unit_test(test_shared_lock),
        cmocka_unit_test(test_shared_lock_refuses_other_bytes),
        cmocka_unit_test(test_write_round_trip),
        cmocka_unit_test(test_keys_keep_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* engine/log/format.c: records and headers there and back; every truncation and every flipped
 * bit. */
#include "engine/log/format.h"

#include "base/rand.h"
#include "test.h"

#include <stdlib.h>

static struct record record_random(struct rand *rand, uint8_t *bytes)
{
    size_t key_size = 1 + rand_below(rand, 40);
    size_t value_size = rand_below(rand, 100);
    for (size_t i = 0; i < key_size + value_size; i++)
        bytes[i] = (uint8_t)rand_u64(rand);
    return (struct record){
        .kind = RECORD_SET,
        .family = (uint8_t)rand_below(rand, 16),
        .more = rand_below(rand, 2) == 1,
        .sequence = 1 + (rand_u64(rand) >> 2),
        .expires_at_ms = rand_below(rand, 2) == 1 ? 1 + rand_u64(rand) / 2 : 0,
        .key = slice_make(bytes, key_size),
        .value = slice_make(bytes + key_size, value_size),
    };
}

static void test_records_there_and_back(void **state)
{
    (void)state;
    struct rand rand = rand_seed(3);
    for (int n = 0; n < 2000; n++) {
        uint8_t bytes[256];
        uint8_t out[256];
        struct record record = record_random(&rand, bytes);
        size_t size = record_size(record.key.size, record.value.size, record.expires_at_ms != 0);
        record_encode(out, 9, &record);
        struct record read;
        assert_int_equal(record_decode(slice_make(out, size), 9, &read), size);
        assert_int_equal(read.kind, record.kind);
        assert_int_equal(read.family, record.family);
        assert_int_equal(read.more, record.more);
        assert_true(read.sequence == record.sequence);
        assert_true(read.expires_at_ms == record.expires_at_ms);
        assert_true(slice_equal(read.key, record.key));
        assert_true(slice_equal(read.value, record.value));
        assert_int_equal(record_decode(slice_make(out, size), 10, &read), 0);
    }
}

static void test_no_truncation_and_no_flip_passes(void **state)
{
    (void)state;
    struct rand rand = rand_seed(4);
    for (int n = 0; n < 50; n++) {
        uint8_t bytes[256];
        uint8_t out[256];
        struct record record = record_random(&rand, bytes);
        bool expires = record.expires_at_ms != 0;
        size_t size = record_size(record.key.size, record.value.size, expires);
        size_t used = record_value_offset(record.key.size, expires) + record.value.size;
        record_encode(out, 9, &record);
        struct record read;
        for (size_t cut = 0; cut < size; cut++) {
            uint8_t *copy = malloc(cut > 0 ? cut : 1); /* so that a sanitizer sees a read too far */
            memcpy(copy, out, cut);
            assert_int_equal(record_decode(slice_make(copy, cut), 9, &read), 0);
            free(copy);
        }
        for (size_t bit = 0; bit < used * 8; bit++) {
            out[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            assert_int_equal(record_decode(slice_make(out, size), 9, &read), 0);
            out[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
    }
}

static void test_marks_seals_headers_names(void **state)
{
    (void)state;
    uint8_t bytes[64];
    struct record record;
    uint32_t segment;
    uint32_t offset;
    record_mark_encode(bytes, 5, 77, 4, 4096);
    assert_int_equal(record_decode(slice_make(bytes, 64), 5, &record), RECORD_MARK_SIZE);
    assert_true(record_mark_decode(&record, &segment, &offset));
    assert_int_equal(segment, 4);
    assert_int_equal(offset, 4096);
    record_seal_encode(bytes, 5, 78);
    assert_int_equal(record_decode(slice_make(bytes, 64), 5, &record), RECORD_SEAL_SIZE);
    assert_int_equal(record.kind, RECORD_SEAL);
    assert_false(record_mark_decode(&record, &segment, &offset));

    uint64_t sequence;
    segment_header_encode(bytes, 6, 1000, 77);
    assert_true(segment_header_decode(slice_make(bytes, 32), 6, &sequence));
    assert_int_equal(sequence, 1000);
    assert_false(segment_header_decode(slice_make(bytes, 31), 6, &sequence));
    assert_false(segment_header_decode(slice_make(bytes, 32), 7, &sequence));
    bytes[16] ^= 1;
    assert_false(segment_header_decode(slice_make(bytes, 32), 6, &sequence));

    char name[SEGMENT_NAME_SIZE];
    segment_name_format(4294967295u, name);
    assert_string_equal(name, "4294967295.seg");
    assert_true(segment_name_parse(name, &segment));
    assert_int_equal(segment, 4294967295u);
    assert_false(segment_name_parse("4294967296.seg", &segment));
    assert_false(segment_name_parse("0000000000.seg", &segment));
    assert_false(segment_name_parse("0000000001.sex", &segment));
    assert_false(segment_name_parse("1.seg", &segment));
    assert_false(segment_name_parse("", &segment));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_there_and_back),
        cmocka_unit_test(test_no_truncation_and_no_flip_passes),
        cmocka_unit_test(test_marks_seals_headers_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

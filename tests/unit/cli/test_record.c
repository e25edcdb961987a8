/* cli/client/record.c: both formats there and back, and every way in which a file can be wrong. */
#include "cli/client/record.h"

#include "base/rand.h"
#include "seed.h"

#include <kvs/store.h>

#include <stdlib.h>

#include "test.h"

/* Reads all records of a file's bytes; returns the outcome of the last read. */
static int read_all(const void *bytes, size_t size, uint64_t *ret_count, char message[200])
{
    struct record_reader reader;
    struct record record;
    FILE *file = size > 0 ? fmemopen((void *)bytes, size, "rb") : fopen("/dev/null", "rb");
    int got;
    record_reader_init(&reader, file);
    while ((got = record_read(&reader, &record)) == 1)
        assert_in_range(record.key.size, 1, KVS_KEY_SIZE_MAX);
    *ret_count = reader.count;
    snprintf(message, 200, "%s %llu: %.160s", record_reader_noun(&reader),
             (unsigned long long)reader.number, reader.message);
    record_reader_deinit(&reader);
    fclose(file);
    return got;
}

static void assert_bad(const char *text, size_t size, const char *why)
{
    uint64_t count;
    char message[200];
    assert_true(read_all(text, size, &count, message) < 0);
    if (strncmp(message, why, strlen(why)) != 0)
        assert_string_equal(message, why);
}

static void test_json_lines(void **state)
{
    (void)state;
    static const char text[] = "{\"key\":\"a\",\"value\":\"b\"}\n"
                               "\n \r\n"
                               "{\"value64\":\"/w==\",\"key64\":\"AAA=\",\"ttl\":1.5}";
    struct record_reader reader;
    struct record record;
    FILE *file = fmemopen((void *)text, sizeof text - 1, "rb");
    record_reader_init(&reader, file);
    assert_int_equal(record_read(&reader, &record), 1);
    assert_slice_equal(record.key, "a");
    assert_slice_equal(record.value, "b");
    assert_int_equal(record.ttl_ms, 0);
    assert_int_equal(record_read(&reader, &record), 1);
    assert_slice_equal(record.key, "\0\0");
    assert_slice_equal(record.value, "\xff");
    assert_int_equal(record.ttl_ms, 1500);
    assert_int_equal(reader.number, 4);
    assert_int_equal(record_read(&reader, &record), 0);
    record_reader_deinit(&reader);
    fclose(file);
}

static void test_bad_json(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"hello", "line 1: no JSON"},
        {"[1]", "line 1: no JSON object"},
        {"{\"key\":\"a\"}", "line 1: there is no \"value\""},
        {"{\"value\":\"a\"}", "line 1: there is no \"key\""},
        {"{\"key\":1,\"value\":\"a\"}", "line 1: \"key\" is not a string"},
        {"{\"key\":\"a\",\"key64\":\"YQ==\",\"value\":\"\"}",
         "line 1: \"key\" and \"key64\" exclude each other"},
        {"{\"key\":\"a\",\"value64\":\"!\"}", "line 1: \"value64\" is not base64"},
        {"{\"key\":\"\",\"value\":\"a\"}", "line 1: keys take 1 to 8192 bytes"},
        {"{\"key\":\"a\",\"value\":\"b\",\"valu\":\"c\"}", "line 1: only key, key64"},
        {"{\"key\":\"a\",\"value\":\"b\",\"ttl\":-1}", "line 1: \"ttl\" is not"},
        {"{\"key\":\"a\",\"value\":\"b\",\"ttl\":1e300}", "line 1: \"ttl\" is not"},
        {"{\"key\":\"a\",\"value\":\"b\",\"family\":16}",
         "line 1: \"family\" is not a number from 0"},
        {"{\"key\":\"a\",\"value\":\"b\",\"family\":1.5}", "line 1: \"family\" is not"},
        {"{\"key\":\"a\",\"value\":\"b\",\"expires\":0}", "line 1: \"expires\" is not"},
        {"{\"key\":\"a\",\"value\":\"b\",\"expires\":\"1\"}", "line 1: \"expires\" is not"},
        {"{\"key\":\"a\",\"value\":\"b\",\"expires\":9007199254740993}", "line 1: \"expires\" is"},
        {"{\"key\":\"a\",\"value\":\"b\",\"expires\":1,\"ttl\":1}",
         "line 1: \"ttl\" and \"expires\" exclude each other"},
        {"{\"key\":\"a\",\"key\":\"b\",\"value\":\"c\"}", "line 1: no JSON"},
        {"{\"key\":\"a\",\"value\":\"b\"}\n{\"key\":\"a\",\"val", "line 2: no JSON"},
        {"{\"key\":\"\xff\",\"value\":\"b\"}", "line 1: no JSON"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_bad(rows[i][0], strlen(rows[i][0]), rows[i][1]);
}

#define MAGIC "kvs-export 1\n"
#define END "\0\0\0\0\0\0\0\0"

static void test_bad_raw(void **state)
{
    (void)state;
    static const char one[] = MAGIC "\1\0\0\0\2\0\0\0kvv" END "\1\0\0\0\0\0\0\0";
    uint64_t count;
    char message[200];
    assert_int_equal(read_all(one, sizeof one - 1, &count, message), 0);
    assert_int_equal(count, 1);
    for (size_t size = sizeof MAGIC - 1; size < sizeof one - 1; size++)
        assert_true(read_all(one, size, &count, message) < 0);
    assert_bad(one, sizeof MAGIC + 9, "record 1: the input ends in the middle of a record");
    assert_bad(one, sizeof one, "record 2: there are bytes behind the end");
    assert_bad(MAGIC END "\1\0\0\0\0\0\0\0", sizeof MAGIC + 15, "record 1: the input lost records");
    assert_bad(MAGIC "\0\0\0\0\1\0\0\0", sizeof MAGIC + 7, "record 1: sizes 0 and 1 cannot be");
    assert_bad(MAGIC "\1\x20\0\0\1\0\0\0", sizeof MAGIC + 7, "record 1: sizes 8193 and 1 cannot");
    assert_bad(MAGIC "\1\0\0\0\xff\xff\xff\xff", sizeof MAGIC + 7, "record 1: sizes 1 and 4294");
}

#define MAGIC_2 "kvs-export 2\n"
#define SIZES "\1\0\0\0\2\0\0\0"

static void test_families_and_ends_of_life(void **state)
{
    (void)state;
    static const char one[] = MAGIC_2 SIZES "\4\0\0\0\xe8\3\0\0\0\0\0\0"
                                            "kvv" END "\1\0\0\0\0\0\0\0";
    struct record_reader reader;
    struct record record;
    uint64_t count;
    char message[200];
    FILE *file = fmemopen((void *)one, sizeof one - 1, "rb");
    record_reader_init(&reader, file);
    assert_int_equal(record_read(&reader, &record), 1);
    assert_slice_equal(record.key, "k");
    assert_slice_equal(record.value, "vv");
    assert_int_equal(record.family, 4);
    assert_int_equal(record.expires_at_ms, 1000);
    assert_int_equal(record_read(&reader, &record), 0);
    record_reader_deinit(&reader);
    fclose(file);
    for (size_t size = sizeof MAGIC_2 - 1; size < sizeof one - 1; size++)
        assert_true(read_all(one, size, &count, message) < 0);
    assert_bad(MAGIC_2 SIZES "\20\0\0\0\0\0\0\0\0\0\0\0", sizeof MAGIC_2 + 19,
               "record 1: 16 and 0 cannot be");
    assert_bad(MAGIC_2 SIZES "\1\0\0\0\0\0\0\0\0\0\0\1", sizeof MAGIC_2 + 19,
               "record 1: 1 and 72057594037927936 cannot");
}

static void test_empty_input_is_no_record(void **state)
{
    (void)state;
    uint64_t count;
    char message[200];
    assert_int_equal(read_all("", 0, &count, message), 0);
    assert_int_equal(count, 0);
}

static void random_bytes(struct rand *rand, struct buf *buf, size_t size)
{
    buf_clear(buf);
    unsigned shift = rand_below(rand, 2) == 0 ? 56 : 57; /* half of them may be text */
    for (size_t i = 0; i < size; i++)
        buf_append_u8(buf, (uint8_t)(rand_u64(rand) >> shift));
}

static void round_trip(bool raw, uint64_t seed)
{
    struct rand rand = rand_seed(seed);
    struct buf key = BUF_INIT, value = BUF_INIT;
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    struct record_writer writer;
    assert_int_equal(record_writer_init(&writer, file, raw), 0);
    for (int i = 0; i < 300; i++) {
        random_bytes(&rand, &key, 1 + rand_below(&rand, i == 7 ? KVS_KEY_SIZE_MAX : 30));
        random_bytes(&rand, &value, rand_below(&rand, i == 8 ? 100000 : 60));
        const struct record record = {.key = buf_slice(&key),
                                      .value = buf_slice(&value),
                                      .family = (uint8_t)(i % 3 * 7),
                                      .expires_at_ms =
                                          i % 2 == 0 ? 0 : 1700000000000u + (unsigned)i};
        assert_int_equal(record_write(&writer, &record), 0);
    }
    assert_int_equal(record_writer_finish(&writer), 0);
    record_writer_deinit(&writer);
    fclose(file);

    struct record_reader reader;
    struct record record;
    rand = rand_seed(seed);
    file = fmemopen(text, size, "rb");
    record_reader_init(&reader, file);
    for (int i = 0; i < 300; i++) {
        random_bytes(&rand, &key, 1 + rand_below(&rand, i == 7 ? KVS_KEY_SIZE_MAX : 30));
        random_bytes(&rand, &value, rand_below(&rand, i == 8 ? 100000 : 60));
        assert_int_equal(record_read(&reader, &record), 1);
        assert_true(slice_equal(record.key, buf_slice(&key)));
        assert_true(slice_equal(record.value, buf_slice(&value)));
        assert_int_equal(record.family, i % 3 * 7);
        assert_int_equal(record.expires_at_ms, i % 2 == 0 ? 0 : 1700000000000u + (unsigned)i);
    }
    assert_int_equal(record_read(&reader, &record), 0);
    record_reader_deinit(&reader);
    fclose(file);
    free(text);
    buf_deinit(&key);
    buf_deinit(&value);
}

static void test_random_records_survive(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    round_trip(false, seed);
    round_trip(true, seed);
}

static void test_garbage_does_no_harm(void **state)
{
    (void)state;
    struct rand rand = rand_seed(test_seed());
    struct buf bytes = BUF_INIT;
    uint64_t count;
    char message[200];
    for (int i = 0; i < 2000; i++) {
        random_bytes(&rand, &bytes, 1 + rand_below(&rand, 80));
        read_all(bytes.data, bytes.size, &count, message);
        if (bytes.size > sizeof MAGIC - 1) {
            memcpy(bytes.data, i % 2 == 0 ? MAGIC : MAGIC_2, sizeof MAGIC - 1);
            read_all(bytes.data, bytes.size, &count, message);
        }
    }
    buf_deinit(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_lines),
        cmocka_unit_test(test_bad_json),
        cmocka_unit_test(test_bad_raw),
        cmocka_unit_test(test_families_and_ends_of_life),
        cmocka_unit_test(test_empty_input_is_no_record),
        cmocka_unit_test(test_random_records_survive),
        cmocka_unit_test(test_garbage_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

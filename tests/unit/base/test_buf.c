/* base/buf.c and base/error.c: growth, consumption, the error table's questions. */
#include "base/buf.h"

#include "base/error.h"

#include <errno.h>

#include "test.h"

static void test_buf_grows_and_consumes(void **state)
{
    (void)state;
    struct buf buf = BUF_INIT;
    for (uint32_t i = 0; i < 1000; i++)
        assert_int_equal(buf_append_u32(&buf, i), 0);
    assert_int_equal(buf.size, 4000);
    buf_consume(&buf, 3996);
    assert_int_equal(buf.size, 4);
    assert_memory_equal(buf.data, "\xe7\x03\x00\x00", 4);
    assert_int_equal(buf_printf(&buf, "-%d-", 42), 0);
    assert_memory_equal(buf.data + 4, "-42-", 4);
    buf_deinit(&buf);
}

static void test_error_questions(void **state)
{
    (void)state;
    assert_string_equal(kvs_error_name(KVS_ERR_NOT_FOUND), "NOT_FOUND");
    assert_true(kvs_error_maybe_committed(KVS_ERR_OUTCOME_UNKNOWN));
    assert_false(kvs_error_retryable(KVS_ERR_OUTCOME_UNKNOWN));
    assert_true(kvs_error_retryable(KVS_ERR_CONNECT));
    assert_true(kvs_error_retry_txn(KVS_ERR_WRITE_CONFLICT));
    assert_true(kvs_error_retry_txn(KVS_ERR_CONNECT));
    assert_false(kvs_error_retry_txn(KVS_ERR_OUTCOME_UNKNOWN));
    assert_false(kvs_error_retry_txn(KVS_ERR_ALREADY_EXISTS));
    assert_string_equal(kvs_error_name(-1000), "UNKNOWN");
    assert_string_equal(kvs_error_name(7), "UNKNOWN");
    assert_string_equal(kvs_error_name(-39), "UNKNOWN"); /* in a gap of the table */
    assert_string_equal(kvs_error_text(KVS_ERR_NO_STREAM), "no such stream");
    assert_int_equal(error_from_errno(ENOSPC), KVS_ERR_NO_SPACE);
    assert_int_equal(error_from_errno(EROFS), KVS_ERR_READ_ONLY);
    assert_int_equal(error_from_errno(EMFILE), KVS_ERR_TOO_MANY_FILES);
    assert_true(kvs_error_retryable(KVS_ERR_TOO_MANY_FILES));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buf_grows_and_consumes),
        cmocka_unit_test(test_error_questions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* tests/unit/base/test_error.c: the table of error codes, and the questions that it answers. */
#include <kvs/error.h>
#include <string.h>

#include "test.h"

static void test_questions(void **state)
{
    (void)state;
    static const struct {
        bool (*asks)(int error);
        int yes[3];
        int no[3];
    } questions[] = {
        {kvs_error_retryable,
         {KVS_ERR_BUSY, KVS_ERR_CONNECT, KVS_ERR_NO_SPACE},
         {KVS_ERR_OUTCOME_UNKNOWN, KVS_ERR_IO, KVS_ERR_WRITE_CONFLICT}},
        {kvs_error_maybe_committed,
         {KVS_ERR_OUTCOME_UNKNOWN, KVS_ERR_OUTCOME_UNKNOWN, KVS_ERR_OUTCOME_UNKNOWN},
         {KVS_ERR_CONNECTION_LOST, KVS_ERR_TIMEOUT, KVS_ERR_IO}},
        {kvs_error_connection_dead,
         {KVS_ERR_CONNECT, KVS_ERR_CONNECTION_LOST, KVS_ERR_PROTOCOL},
         {KVS_ERR_TIMEOUT, KVS_ERR_CLOSED, KVS_ERR_NOT_FOUND}},
        {kvs_error_corruption,
         {KVS_ERR_CORRUPTION, KVS_ERR_CORRUPTION, KVS_ERR_CORRUPTION},
         {KVS_ERR_IO, KVS_ERR_PROTOCOL, KVS_ERR_WRONG_ENGINE}},
        {kvs_error_misuse,
         {KVS_ERR_INVALID_ARGUMENT, KVS_ERR_TOO_LARGE, KVS_ERR_UNSUPPORTED},
         {KVS_ERR_CORRUPTION, KVS_ERR_CANCELLED, KVS_ERR_BUSY}},
    };
    for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++) {
        for (int k = 0; k < 3; k++) {
            assert_true(questions[i].asks(questions[i].yes[k]));
            assert_false(questions[i].asks(questions[i].no[k]));
        }
        assert_false(questions[i].asks(KVS_ERR_OK));
        assert_false(questions[i].asks(-12345));
        assert_false(questions[i].asks(1));
    }
}

/* No code says both that nothing was done and that it may have been. */
static void test_codes(void **state)
{
    (void)state;
#define X(symbol, number, text, flags)                              \
    assert_string_equal(kvs_error_name(KVS_ERR_##symbol), #symbol); \
    assert_string_equal(kvs_error_text(KVS_ERR_##symbol), text);    \
    assert_false(kvs_error_retryable(number) && kvs_error_maybe_committed(number));
    KVS_ERROR_TABLE(X)
#undef X
    static const int none[] = {1, -12345, -35}; /* the last one between others */
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_string_equal(kvs_error_name(none[i]), "UNKNOWN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_questions),
        cmocka_unit_test(test_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* base/fingerprint.c: what go-farm, which TiKV's Go client uses, says of the same bytes. */
#include "base/fingerprint.h"

#include "test.h"

#define SIZE 300u

static void test_as_others_have_it(void **state)
{
    (void)state;
    static const struct {
        size_t size;
        uint64_t fingerprint;
    } rows[] = {
        {0, 0x9ae16a3b2f90404fu},   {1, 0x47a24c13b17e583eu},   {3, 0x26b4da356b8b9558u},
        {4, 0xefc83e8c71df5af5u},   {7, 0x1fafa9edd289ae25u},   {8, 0xd442a22feec8439au},
        {16, 0x0db0c6c6cfc9cc97u},  {17, 0x33fce0bef0c317a9u},  {32, 0x3ff780b33fa8801au},
        {33, 0x9a5b1c0ff4a38467u},  {64, 0x111fa8723e25adcau},  {65, 0x0366ab6067b570b1u},
        {128, 0xce22f72c75b92bbfu}, {129, 0x3dac9153fd008293u}, {256, 0x892b1e76d58c8815u},
    };
    uint8_t bytes[SIZE];
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (uint8_t)(i * 7 + 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_true(fingerprint64(slice_make(bytes, rows[i].size)) == rows[i].fingerprint);
    uint64_t sum = 0; /* of all sizes */
    for (size_t size = 0; size <= SIZE; size++)
        sum = sum * 31 + fingerprint64(slice_make(bytes, size));
    assert_true(sum == 0x1e492a885bff5a59u);
    assert_true(fingerprint64(slice_of_string("a")) == 0xb3454265b6df75e3u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_as_others_have_it)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

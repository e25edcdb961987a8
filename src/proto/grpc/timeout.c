/* proto/grpc/timeout.c: grpc-timeout to milliseconds and back. */
#include "proto/grpc/timeout.h"

#include <kvs/error.h>

#define DIGITS_MAX 8
#define VALUE_MAX 99999999u

int grpc_timeout_parse(kvs_slice text, uint64_t *ret_timeout_ms)
{
    if (text.size < 2 || text.size > DIGITS_MAX + 1)
        return KVS_ERR_PROTOCOL;
    uint64_t value = 0;
    for (size_t i = 0; i < text.size - 1; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return KVS_ERR_PROTOCOL;
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    switch (text.data[text.size - 1]) {
    case 'H':
        *ret_timeout_ms = value * 3600000;
        return 0;
    case 'M':
        *ret_timeout_ms = value * 60000;
        return 0;
    case 'S':
        *ret_timeout_ms = value * 1000;
        return 0;
    case 'm':
        *ret_timeout_ms = value;
        return 0;
    case 'u':
        *ret_timeout_ms = (value + 999) / 1000;
        return 0;
    case 'n':
        *ret_timeout_ms = (value + 999999) / 1000000;
        return 0;
    default:
        return KVS_ERR_PROTOCOL;
    }
}

/* By hand: this runs for every call with a deadline. */
static size_t write_digits(char text[GRPC_TIMEOUT_TEXT_MAX], uint32_t value, char unit)
{
    char digits[DIGITS_MAX];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    for (size_t i = 0; i < count; i++)
        text[i] = digits[count - 1 - i];
    text[count] = unit;
    text[count + 1] = '\0';
    return count + 1;
}

size_t grpc_timeout_format(char text[GRPC_TIMEOUT_TEXT_MAX], uint64_t timeout_ms)
{
    /* Two significant digits, rounded up; then whole seconds where they are whole. */
    uint64_t scale = 1;
    while (timeout_ms / scale > 99)
        scale *= 10;
    uint64_t value = timeout_ms / scale;
    if (value * scale < timeout_ms)
        value++;
    value *= scale; /* may wrap for absurd input: the bound below holds */
    char unit = 'm';
    if (value >= 1000 && value % 1000 == 0) {
        value /= 1000;
        unit = 'S';
    }
    if (value > VALUE_MAX || timeout_ms > (uint64_t)VALUE_MAX * 1000) {
        value = VALUE_MAX;
        unit = timeout_ms > (uint64_t)VALUE_MAX * 1000 ? 'H' : 'S';
    }
    return write_digits(text, (uint32_t)value, unit);
}

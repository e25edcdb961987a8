/* cli/bench/keyspace.c: drawing keys. After init nothing changes: all threads share one. */
#include "cli/bench/keyspace.h"

#include <math.h>
#include <string.h>

#define THETA 0.99

/* Up to here the zeta sum is added term by term; the rest is its integral, exact to 1e-7. */
#define ZETA_TERMS_MAX 1000000u

static double zeta(uint64_t count)
{
    uint64_t terms = count < ZETA_TERMS_MAX ? count : ZETA_TERMS_MAX;
    double sum = 0.0;
    for (uint64_t i = 1; i <= terms; i++)
        sum += pow((double)i, -THETA);
    if (count > terms) {
        double from = (double)terms + 0.5, to = (double)count + 0.5;
        sum += (pow(to, 1.0 - THETA) - pow(from, 1.0 - THETA)) / (1.0 - THETA);
    }
    return sum;
}

static uint64_t greatest_common_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Near the golden section of the count, where multiples spread most evenly; coprime with it. */
static uint64_t scatter_stride(uint64_t count)
{
    uint64_t stride = (uint64_t)((double)count * 0.6180339887498949);
    if (stride == 0)
        stride = 1;
    while (greatest_common_divisor(stride, count) != 1)
        stride++;
    return stride;
}

static size_t digits_of(uint64_t number)
{
    size_t digits = 1;
    while (number >= 10) {
        number /= 10;
        digits++;
    }
    return digits;
}

bool keyspace_init(struct keyspace *keyspace, uint64_t count, size_t key_size,
                   enum distribution distribution)
{
    if (count == 0 || count > KEY_COUNT_MAX || key_size == 0 || key_size > KEY_SIZE_MAX)
        return false;
    size_t room = key_size >= KEY_PREFIXED_SIZE_MIN ? key_size - 4 : key_size;
    size_t digits = digits_of(count - 1);
    if (digits > room)
        return false;
    *keyspace = (struct keyspace){
        .count = count, .key_size = key_size, .digits = digits, .distribution = distribution};
    if (distribution == DISTRIBUTION_ZIPFIAN) {
        double n = (double)count;
        keyspace->stride = scatter_stride(count);
        keyspace->zeta = zeta(count);
        keyspace->second_limit = 1.0 + pow(0.5, THETA);
        keyspace->alpha = 1.0 / (1.0 - THETA);
        keyspace->eta =
            (1.0 - pow(2.0 / n, 1.0 - THETA)) / (1.0 - keyspace->second_limit / keyspace->zeta);
    }
    return true;
}

uint64_t keyspace_draw_rank(const struct keyspace *keyspace, struct rand *rand)
{
    if (keyspace->distribution == DISTRIBUTION_UNIFORM)
        return rand_below(rand, keyspace->count);
    double u = rand_unit(rand);
    double part = u * keyspace->zeta;
    if (part < 1.0 || keyspace->count == 1)
        return 0;
    if (part < keyspace->second_limit || keyspace->count == 2)
        return 1;
    double rank =
        (double)keyspace->count * pow(keyspace->eta * u - keyspace->eta + 1.0, keyspace->alpha);
    uint64_t whole = (uint64_t)rank;
    return whole < keyspace->count ? whole : keyspace->count - 1; /* rounding at u near 1 */
}

uint64_t keyspace_draw(const struct keyspace *keyspace, struct rand *rand)
{
    uint64_t rank = keyspace_draw_rank(keyspace, rand);
    if (keyspace->distribution == DISTRIBUTION_UNIFORM)
        return rank;
    return rank * keyspace->stride % keyspace->count; /* both below 2^32 */
}

void keyspace_write_template(const struct keyspace *keyspace, uint8_t *key)
{
    memset(key, '0', keyspace->key_size);
    if (keyspace->key_size >= KEY_PREFIXED_SIZE_MIN)
        memcpy(key, "key:", 4); /* NOLINT(bugprone-not-null-terminated-result): bytes, no string */
}

void keyspace_write(const struct keyspace *keyspace, uint64_t number, uint8_t *key)
{
    static const char pairs[] = "00010203040506070809101112131415161718192021222324"
                                "25262728293031323334353637383940414243444546474849"
                                "50515253545556575859606162636465666768697071727374"
                                "75767778798081828384858687888990919293949596979899";
    uint8_t *first = key + keyspace->key_size - keyspace->digits;
    uint8_t *digit = key + keyspace->key_size;
    uint32_t rest = (uint32_t)number; /* below 2^32 */
    while (digit - first >= 2) {
        digit -= 2;
        memcpy(digit, &pairs[rest % 100 * 2], 2);
        rest /= 100;
    }
    if (digit > first)
        *first = (uint8_t)('0' + rest % 10);
}

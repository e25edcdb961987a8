/* base/fingerprint.c: see the header. What is done depends on the size: up to 16, 32, 64 bytes, and
 * more, 64 at a time. */
#include "base/fingerprint.h"

#include "base/bytes.h"

#define K0 0xc3a5c85c97cb3127u
#define K1 0xb492b66fbe98f273u
#define K2 0x9ae16a3b2f90404fu
#define SEED UINT64_C(81)
#define BLOCK 64u

struct pair {
    uint64_t first, second;
};

static uint64_t rotate(uint64_t value, unsigned bits)
{
    return value >> bits | value << (64 - bits);
}

static uint64_t fold(uint64_t value)
{
    return value ^ value >> 47;
}

static uint64_t mix(uint64_t u, uint64_t v, uint64_t factor)
{
    uint64_t a = fold((u ^ v) * factor);
    return fold((v ^ a) * factor) * factor;
}

static uint64_t of_16(const uint8_t *p, size_t size)
{
    uint64_t factor = K2 + size * 2;
    if (size >= 8) {
        uint64_t a = get_u64(p) + K2;
        uint64_t b = get_u64(p + size - 8);
        return mix(rotate(b, 37) * factor + a, (rotate(a, 25) + b) * factor, factor);
    }
    if (size >= 4)
        return mix(size + ((uint64_t)get_u32(p) << 3), get_u32(p + size - 4), factor);
    if (size == 0)
        return K2;
    uint64_t y = p[0] + ((uint64_t)p[size / 2] << 8);
    uint64_t z = size + ((uint64_t)p[size - 1] << 2);
    return fold(y * K2 ^ z * K0) * K2;
}

static uint64_t of_32(const uint8_t *p, size_t size)
{
    uint64_t factor = K2 + size * 2;
    uint64_t a = get_u64(p) * K1;
    uint64_t b = get_u64(p + 8);
    uint64_t c = get_u64(p + size - 8) * factor;
    uint64_t d = get_u64(p + size - 16) * K2;
    return mix(rotate(a + b, 43) + rotate(c, 30) + d, a + rotate(b + K2, 18) + c, factor);
}

static uint64_t of_64(const uint8_t *p, size_t size)
{
    uint64_t factor = K2 + size * 2;
    uint64_t a = get_u64(p) * K2;
    uint64_t b = get_u64(p + 8);
    uint64_t c = get_u64(p + size - 8) * factor;
    uint64_t d = get_u64(p + size - 16) * K2;
    uint64_t y = rotate(a + b, 43) + rotate(c, 30) + d;
    uint64_t z = mix(y, a + rotate(b + K2, 18) + c, factor);
    uint64_t e = get_u64(p + 16) * factor;
    uint64_t f = get_u64(p + 24);
    uint64_t g = (y + get_u64(p + size - 32)) * factor;
    uint64_t h = (z + get_u64(p + size - 24)) * factor;
    return mix(rotate(e + f, 43) + rotate(g, 30) + h, e + rotate(f + a, 18) + g, factor);
}

/* Of half a block, on top of two numbers. */
static struct pair half(const uint8_t *p, uint64_t a, uint64_t b)
{
    a += get_u64(p);
    b = rotate(b + a + get_u64(p + 24), 21);
    uint64_t sum = a + get_u64(p + 8) + get_u64(p + 16);
    return (struct pair){sum + get_u64(p + 24), b + rotate(sum, 44) + a};
}

struct state {
    uint64_t x, y, z;
    struct pair v, w;
};

/* `weight` is 1, and 9 for the last block. */
static void add_block(struct state *s, const uint8_t *p, uint64_t factor, uint64_t weight)
{
    uint64_t x = rotate(s->x + s->y + s->v.first + get_u64(p + 8), 37) * factor;
    s->y = rotate(s->y + s->v.second + get_u64(p + 48), 42) * factor;
    x ^= s->w.second * weight;
    s->y += s->v.first * weight + get_u64(p + 40);
    uint64_t z = rotate(s->z + s->w.first, 33) * factor;
    s->v = half(p, s->v.second * factor, x + s->w.first);
    s->w = half(p + 32, z + s->w.second, s->y + get_u64(p + 16));
    s->x = z;
    s->z = x;
}

static uint64_t of_many(const uint8_t *p, size_t size)
{
    struct state s = {.y = SEED * K1 + 113};
    s.z = fold(s.y * K2 + 113) * K2;
    s.x = SEED * K2 + get_u64(p);
    const uint8_t *last = p + size - BLOCK; /* it overlaps the one before it */
    for (size_t left = size; left > BLOCK; left -= BLOCK, p += BLOCK)
        add_block(&s, p, K1, 1);
    uint64_t factor = K1 + ((s.z & 0xff) << 1);
    s.w.first += (size - 1) % BLOCK;
    s.v.first += s.w.first;
    s.w.first += s.v.first;
    add_block(&s, last, factor, 9);
    return mix(mix(s.v.first, s.w.first, factor) + fold(s.y) * K0 + s.z,
               mix(s.v.second, s.w.second, factor) + s.x, factor);
}

uint64_t fingerprint64(kvs_slice bytes)
{
    if (bytes.size <= 16)
        return of_16(bytes.data, bytes.size);
    if (bytes.size <= 32)
        return of_32(bytes.data, bytes.size);
    return bytes.size <= BLOCK ? of_64(bytes.data, bytes.size) : of_many(bytes.data, bytes.size);
}

/* base/bytes.h: integers in byte strings. Little-endian unless the name says be; no alignment
 * needed. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t get_u16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return le16toh(v);
}

static inline uint32_t get_u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return le32toh(v);
}

static inline uint64_t get_u64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return le64toh(v);
}

static inline uint32_t get_u32_be(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return be32toh(v);
}

static inline uint64_t get_u64_be(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return be64toh(v);
}

static inline void put_u16(uint8_t *p, uint16_t value)
{
    uint16_t v = htole16(value);
    memcpy(p, &v, sizeof v);
}

static inline void put_u32(uint8_t *p, uint32_t value)
{
    uint32_t v = htole32(value);
    memcpy(p, &v, sizeof v);
}

static inline void put_u64(uint8_t *p, uint64_t value)
{
    uint64_t v = htole64(value);
    memcpy(p, &v, sizeof v);
}

static inline void put_u64_be(uint8_t *p, uint64_t value)
{
    uint64_t v = htobe64(value);
    memcpy(p, &v, sizeof v);
}

#endif

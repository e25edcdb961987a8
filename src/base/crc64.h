/* base/crc64.h: CRC-64 of ECMA-182, reflected, as RawChecksum (and xz) uses it. */
#ifndef BASE_CRC64_H
#define BASE_CRC64_H

#include "base/slice.h"

/* Of what `crc` is of, and `bytes` behind it; 0 is the CRC of nothing. */
uint64_t crc64(uint64_t crc, kvs_slice bytes);

#endif

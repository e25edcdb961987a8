/*
 * base/fingerprint.h: the 64 bits by which TiKV and its clients know a key: Fingerprint64 of
 * FarmHash, which is its farmhashna::Hash64 and does not change any more.
 */
#ifndef BASE_FINGERPRINT_H
#define BASE_FINGERPRINT_H

#include "base/slice.h"

uint64_t fingerprint64(kvs_slice bytes);

#endif

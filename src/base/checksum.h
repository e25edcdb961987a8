/* base/checksum.h: the checksum of records and files: the low 32 bits of XXH3-64 (libxxhash). */
#ifndef BASE_CHECKSUM_H
#define BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint32_t checksum(const void *data, size_t size);
uint32_t checksum_seeded(const void *data, size_t size, uint64_t seed);
uint64_t checksum_long(const void *data, size_t size); /* all 64 bits, for large ones */

#endif

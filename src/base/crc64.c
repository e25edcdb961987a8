/* base/crc64.c: see the header. Eight bytes at a time, by eight tables. */
#include "base/crc64.h"

#include "base/bytes.h"

#include <pthread.h>

#define POLYNOMIAL 0xc96c5795d7870f42u /* reflected */

static uint64_t tables[8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void fill_tables(void)
{
    for (unsigned i = 0; i < 256; i++) {
        uint64_t crc = i;
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        tables[0][i] = crc;
    }
    for (unsigned i = 0; i < 256; i++) {
        for (unsigned k = 1; k < 8; k++)
            tables[k][i] = tables[k - 1][i] >> 8 ^ tables[0][tables[k - 1][i] & 0xff];
    }
}

uint64_t crc64(uint64_t crc, kvs_slice bytes)
{
    pthread_once(&tables_once, fill_tables);
    crc = ~crc;
    for (; bytes.size >= 8; bytes = slice_make(bytes.data + 8, bytes.size - 8)) {
        uint64_t word = crc ^ get_u64(bytes.data);
        crc = 0;
        for (unsigned k = 0; k < 8; k++)
            crc ^= tables[7 - k][word >> 8 * k & 0xff];
    }
    for (size_t i = 0; i < bytes.size; i++)
        crc = crc >> 8 ^ tables[0][(crc ^ bytes.data[i]) & 0xff];
    return ~crc;
}

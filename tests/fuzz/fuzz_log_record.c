/*
 * tests/fuzz/fuzz_log_record.c: any bytes as a record of the log, as they are and with their
 * checksum set right. What decodes must encode to the same bytes.
 */
#include "base/bytes.h"
#include "base/checksum.h"
#include "engine/log/format.h"
#include "fuzz/target.h"

#include <assert.h>
#include <stdlib.h>

#define SEGMENT 7u

static void try_decode(const uint8_t *bytes, size_t size)
{
    struct record record;
    size_t used = record_decode(slice_make(bytes, size), SEGMENT, &record);
    if (used == 0)
        return;
    assert(used <= size);
    assert(record.key.data >= bytes && record.value.data + record.value.size <= bytes + used);
    uint8_t *again = malloc(used);
    if (again == NULL)
        abort();
    record_encode(again, SEGMENT, &record);
    struct record decoded;
    size_t decoded_size = record_decode(slice_make(again, used), SEGMENT, &decoded);
    assert(decoded_size == used);
    assert(decoded.sequence == record.sequence && slice_equal(decoded.key, record.key) &&
           slice_equal(decoded.value, record.value));
    (void)decoded_size;
    uint32_t segment;
    uint32_t offset;
    (void)record_mark_decode(&record, &segment, &offset);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_decode(data, size);
    uint64_t sequence;
    (void)segment_header_decode(slice_make(data, size), SEGMENT, &sequence);
    if (size < RECORD_HEADER_SIZE)
        return 0;
    size_t used =
        record_value_offset(get_u16(data + 8), (data[11] & 0x20) != 0) + (size_t)get_u32(data + 4);
    if (used > size)
        return 0;
    uint8_t *repaired = malloc(size);
    if (repaired == NULL)
        abort();
    memcpy(repaired, data, size);
    put_u32(repaired, checksum_seeded(repaired + 4, used - 4, SEGMENT));
    try_decode(repaired, size);
    free(repaired);
    return 0;
}

/*
 * tests/fuzz/fuzz_import_record.c: what import reads, JSON lines or raw records.
 *
 * Whatever is read as a record must be within the limits, and, written again in either format, be
 * read as the same record.
 */
#include "cli/client/record.h"
#include "fuzz/target.h"

#include <kvs/store.h>

#include <stdlib.h>

static void round_trip(const struct record *record, bool raw)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    struct record_writer writer;
    require(file != NULL && record_writer_init(&writer, file, raw) == 0);
    require(record_write(&writer, record) == 0);
    require(record_writer_finish(&writer) == 0);
    record_writer_deinit(&writer);
    fclose(file);

    struct record_reader reader;
    struct record back;
    file = fmemopen(text, size, "rb");
    require(file != NULL);
    record_reader_init(&reader, file);
    require(record_read(&reader, &back) == 1);
    require(slice_equal(back.key, record->key) && slice_equal(back.value, record->value));
    require(back.family == record->family && back.expires_at_ms == record->expires_at_ms);
    require(record_read(&reader, &back) == 0);
    record_reader_deinit(&reader);
    fclose(file);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct record_reader reader;
    struct record record;
    FILE *file = size > 0 ? fmemopen((void *)data, size, "rb") : NULL;
    if (file == NULL)
        return 0;
    record_reader_init(&reader, file);
    while (record_read(&reader, &record) == 1) {
        require(record.key.size > 0 && record.key.size <= KVS_KEY_SIZE_MAX);
        require(record.ttl_ms <= KVS_TTL_MS_MAX && record.family < RECORD_FAMILIES);
        if (reader.count <= 2) {
            round_trip(&record, false);
            round_trip(&record, true);
        }
    }
    record_reader_deinit(&reader);
    fclose(file);
    return 0;
}

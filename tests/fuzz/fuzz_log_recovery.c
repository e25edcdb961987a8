/*
 * tests/fuzz/fuzz_log_recovery.c: any bytes as the records of a log's segment.
 *
 * The input stands behind a right header. It is opened twice: as it is, so that cutting and the
 * search for marks see garbage; and with the checksums set right wherever a record can be, so that
 * replaying sees records that no writer would have written. Opening may fail or succeed, but must
 * do so cleanly; after a success everything can be read, and a second opening finds the same
 * number of keys.
 */
#include "base/bytes.h"
#include "base/checksum.h"
#include "base/log.h"
#include "engine/directory.h"
#include "engine/engine.h"
#include "engine/log/format.h"
#include "engine/log/log_engine.h"
#include "fuzz/target.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define INPUT_SIZE_MAX 65536u

static kvs_thread_pool *pool;
static char directory[64];

static void cleanup(void)
{
    const char *const names[] = {"KVS", "LOCK", "0000000001.seg", "0000000002.seg"};
    char path[128];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        unlink(path);
    }
    rmdir(directory);
    kvs_thread_pool_unref(pool);
}

static void prepare(void)
{
    if (pool != NULL)
        return;
    log_set_level(LOG_SILENT);
    /* In memory if possible: cutting syncs, and a disk would make a hundred times fewer inputs. */
    const char *parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(directory, sizeof directory, "%s/kvs-fuzz-XXXXXX", parent);
    if (mkdtemp(directory) == NULL ||
        engine_directory_mark_blocking(directory, LOG_ENGINE_NAME) != 0 ||
        kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, 1, &pool) != 0)
        abort();
    atexit(cleanup);
}

static void segment_write(const uint8_t *records, size_t size)
{
    uint8_t header[SEGMENT_HEADER_SIZE];
    char path[128];
    snprintf(path, sizeof path, "%s/0000000002.seg", directory);
    unlink(path);
    snprintf(path, sizeof path, "%s/0000000001.seg", directory);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    segment_header_encode(header, 1, 1, 0);
    if (fd < 0 || write(fd, header, sizeof header) != (ssize_t)sizeof header ||
        write(fd, records, size) != (ssize_t)size)
        abort();
    close(fd);
}

static int key_count(void *arg, kvs_slice key, kvs_slice value)
{
    uint64_t *count = arg;
    uint8_t sum = 0;
    for (size_t i = 0; i < key.size; i++)
        sum = (uint8_t)(sum + key.data[i]);
    for (size_t i = 0; i < value.size; i++)
        sum = (uint8_t)(sum + value.data[i]);
    *count += 1 + (sum & 0);
    return 0;
}

/* Number of keys that a scan finds, or -1 when it does not open. */
static int64_t open_and_count(void)
{
    struct engine_options options = {
        .pool = pool, .directory = directory, .sync = KVS_SYNC_NEVER, .segment_size_bytes = 4096};
    struct engine *engine;
    struct engine_message message;
    if (log_engine_open_blocking(&options, &engine, &message) != 0) {
        assert(message.text[0] != '\0');
        return -1;
    }
    struct engine_view view;
    int error = engine_view_begin(engine, NULL, true, &view);
    assert(error == 0);
    uint64_t count = 0;
    for (unsigned family = 0; family < ENGINE_FAMILY_COUNT; family++) {
        struct engine_range range = {.family = (uint8_t)family};
        error = engine_scan(&view, &range, key_count, &count);
        assert(error == 0);
    }
    engine_view_end(&view);
    error = engine_close_blocking(engine);
    assert(error == 0);
    return (int64_t)count;
}

static void open_twice(void)
{
    int64_t first = open_and_count();
    int64_t second = open_and_count();
    /* Keys may expire between the two; nothing else may change. */
    assert(second <= first && (first < 0) == (second < 0));
    (void)second;
}

static void checksums_repair(uint8_t *bytes, size_t size)
{
    size_t at = 0;
    while (size - at >= RECORD_HEADER_SIZE) {
        uint8_t *p = bytes + at;
        size_t used = record_value_offset(get_u16(p + 8), (p[11] & 0x20) != 0) + get_u32(p + 4);
        size_t whole = (used + RECORD_ALIGNMENT - 1) & ~(size_t)(RECORD_ALIGNMENT - 1);
        if (whole > size - at)
            return;
        put_u32(p, checksum_seeded(p + 4, used - 4, 1));
        at += whole;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > INPUT_SIZE_MAX)
        return 0;
    prepare();
    segment_write(data, size);
    open_twice();
    uint8_t *repaired = malloc(size > 0 ? size : 1);
    if (repaired == NULL)
        abort();
    if (size > 0)
        memcpy(repaired, data, size);
    checksums_repair(repaired, size);
    segment_write(repaired, size);
    open_twice();
    free(repaired);
    return 0;
}
